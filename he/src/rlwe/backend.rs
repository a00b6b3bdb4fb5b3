//! Which instructions run the kernels: one choice, one door.
//!
//! Two kernels have vector instructions written by hand: the transposition and the sampler. The others are
//! [`kernel`]s, made of one source.

use std::sync::OnceLock;

pub use privet_crypto::Backend;

/// The fastest that this processor can run the kernels of this crate with.
pub fn fastest() -> Backend {
    static FASTEST: OnceLock<Backend> = OnceLock::new();
    *FASTEST.get_or_init(|| {
        Backend::fastest(|backend| {
            crate::rlwe::block::agrees(backend) && crate::rlwe::gaussian::agrees(backend)
        })
    })
}

pub(crate) use privet_crypto::kernel;
