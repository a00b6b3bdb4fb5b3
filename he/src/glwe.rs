//! Sums under one key that all sites hold: GLWE ciphertexts of the crate `tfhe`.
//!
//! ```text
//!   Seed of the group ─▶ GroupKey s (binary)
//!   site    values ─Packing─▶ m · seal: seed of a, and b = a·s + e + m mod 2^64
//!   server  Sum: Σa, Σb; it has no key
//!   site    open: Σb − Σa·s = Σ (m + e) ─Packing─▶ sums, exact
//! ```
//! **What it is for.** The trust model that users of NVFlare know: the server, which has no key, learns
//! nothing but sizes; **every site can open every upload that it gets hold of**, so the server and one
//! site together read all of them. Where that is too much to trust, take the scheme of [`crate::site`]
//! and [`crate::server`], in which nobody holds such a key. This one is also what that one is checked
//! against.
//!
//! # Guarantee
//! * *Secrecy*: both sets have the least noise that `tfhe` asks for 132 bits (its estimate; a test
//!   compares). Masks are AES-128 in counter mode under a public seed, taken to look random to who
//!   knows the seed, as throughout `tfhe`. Of an upload's seed everything is derived together with
//!   its values, so that a seed that comes back (a restored snapshot) repeats an upload or makes an
//!   unrelated one, and never gives a difference of two.
//! * *Exactness*: values within the bound of a [`Packing`] cannot overflow, and round wrongly with a
//!   probability of at most 2^-40 for all of an update, or never.
//!
//! # What is not protected
//! Values that a site seals; sums that a malicious server alters (the protocol around it adds a code, by which
//! sites see it; by themselves ciphertexts do not tell); what sums tell. Temporary copies inside `tfhe` are not
//! erased. Nothing here was reviewed from outside.
//!
//! # Cost
//! Multiplication is `tfhe`'s, by Karatsuba's method. The candidates at K = 10 sites and 1 M values, on
//! one core of 2.45 GHz:
//!
//! ```text
//!   word, N    noise    encrypt, decrypt a word   bits of each value of 1, 2, 3, 4 in a word
//!   64, 2048   ±2^17    239 ns, 203 ns            39 · 18 · 10
//!   64, 4096   ±2^4     338 ns, 305 ns            52 · 24 · 15 · 10
//!   32, 1024   ±2^11     83 ns,  61 ns            13
//!   32, 2048   ±2^4     112 ns,  92 ns            20 · 8
//! ```
//! Bytes decide, then time: both sets of 64 bits are taken, each where it is better. Words of 32 bits
//! hold a fifth less in a byte than the second of them, for two thirds of the time; they are left out.
//!
//! # Licence
//! `tfhe` is under BSD-3-Clause-Clear, which grants no patent rights; its authors state that its
//! techniques are patented, free for research and prototypes, and that commercial use needs their
//! licence. Therefore it is behind a feature that is off by default.

mod key;
mod packing;
mod seal;
mod sum;

pub use key::{GroupKey, Unsupported};
pub use packing::{Packing, PackingError, Set};
pub use seal::{SealError, seal};
pub use sum::{OpenError, Sum, UploadError, open};

#[cfg(test)]
mod tests;
