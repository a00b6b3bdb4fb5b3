//! Primitives that two of Privet's crates share, thin over RustCrypto.
//!
//! What only one crate needs stays in that crate.

pub mod codec;
pub mod transcript;

pub use codec::{DecodeError, Reader, Writer};
pub use transcript::{Digest, Transcript};
