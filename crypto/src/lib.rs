//! Primitives that two of Privet's crates share, thin over RustCrypto.
//!
//! What only one crate needs stays in that crate.

pub mod backend;
pub mod codec;
pub mod pairwise;
pub mod signing;
pub mod stream;
pub mod transcript;

pub use backend::Backend;
pub use codec::{DecodeError, Reader, Writer};
pub use signing::{PublicKey, Signature, SigningKey};
pub use stream::{NoEntropy, Seed, Words};
pub use transcript::{Digest, Transcript};
