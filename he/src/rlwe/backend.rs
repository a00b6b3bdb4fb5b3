//! Which instructions run the kernels: one choice, one door.
//!
//! A kernel is written once, without special instructions, as a function that is always inlined.
//! `kernel!` compiles it again with AVX2 and with AVX-512 switched on, where the compiler makes
//! vectors of its loops: the three give the same bits because they are the same code. Two kernels
//! have vector instructions written by hand: the transposition and the sampler.

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

/// Makes `$name(backend, …)` of `$body(…)`, which must be `#[inline(always)]`.
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path;) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(backend: $crate::rlwe::backend::Backend, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "entered only on a processor with the instructions")]
            {
                use $crate::rlwe::backend::Backend;

                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }

                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    $body($($arg),*)
                }

                match backend {
                    // SAFETY: the processor has AVX2.
                    Backend::Avx2 if backend.available() => return unsafe { avx2($($arg),*) },
                    // SAFETY: the processor has these parts of AVX-512.
                    Backend::Avx512 if backend.available() => return unsafe { avx512($($arg),*) },
                    _ => {}
                }
            }
            let _ = backend;
            $body($($arg),*)
        }
    };
}
