//! Sums over sites that nobody can open alone.
//!
//! ```text
//!   rlwe      b = a·s + e + Δ·m: sealed updates add up, and open with the sum of their keys
//!   coding    integers ↔ coefficients, so that nothing overflows
//!   shamir    every site's key, shared among its peers
//!   mac       tags by which sites see that a sum is theirs
//!   protocol  who says what to whom, so that one sum over one agreed set of sites opens
//!   site, server   the two sides of it, whatever the scheme
//!   scheme    what a scheme does inside it: `threshold`, `tfhe`
//!   glwe      ciphertexts under one key that all sites hold; with the feature `tfhe` only
//! ```
//! **What it is for.** The server learns the sum over the sites that it names, once, and nothing else,
//! as long as no more sites collude with it than the terms allow. Nobody ever holds a key that opens a
//! single site's update: each key is used once, shared, and forgotten.
//!
//! **Why it should hold.** The opened sum of keys S tells of honest sites' keys their sum alone. Of two
//! discrete Gaussians whose sum is known, each is again one, of width σ/√2; so each upload but one stays
//! an RLWE sample (with secret and error in known cosets of ½ℤ), and the last is determined by the sum.
//! Fewer than t shares tell nothing. Two sums over different sets in one round cannot both open if
//! 2t > n + c: each would need t − c honest sites of n − c, and an honest site answers once.
//!
//! **What is not protected**: values that a malicious site seals; what the sum itself tells, and sums of
//! several rounds compared; a sum of one honest site; who took part and when; whoever reads the memory
//! of t sites during a round; X25519 is not post-quantum. Nothing here was reviewed from outside.

#[cfg(test)]
mod attacks;
pub mod coding;
#[cfg(feature = "cuda")]
pub mod cuda;
#[cfg(feature = "tfhe")]
pub mod glwe;
pub mod mac;
#[cfg(test)]
mod opener;
pub mod protocol;
pub mod rlwe;
mod scheme;
pub mod server;
pub mod shamir;
pub mod site;
mod state;

/// Secret seeds and the streams drawn from them.
pub mod seeded {
    pub use privet_crypto::{Seed, Words};
}
