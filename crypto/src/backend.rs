//! Which instructions of a processor run a kernel: one choice, one door.
//!
//! A kernel is written once, without special instructions, as a function that is always inlined.
//! [`kernel`](crate::kernel) compiles it again with AVX2 and with AVX-512 switched on, where the compiler
//! makes vectors of its loops: the three give the same bits because they are the same code.

/// Sets of instructions that kernels are written for. All give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// No special ones.
    Scalar,
    /// AVX2.
    Avx2,
    /// AVX-512: F, BW, DQ and VL.
    Avx512,
}

impl Backend {
    /// All of them, the fastest last.
    pub const ALL: [Self; 3] = [Self::Scalar, Self::Avx2, Self::Avx512];

    /// The word used in benchmarks.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this processor can run it.
    pub fn available(self) -> bool {
        match self {
            Self::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => std::arch::is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// The fastest that this processor can run and that `agrees` here and now with the scalar one:
    /// instructions that a machine of the developers' did not have are not trusted unseen.
    pub fn fastest(agrees: impl Fn(Self) -> bool) -> Self {
        let sound =
            |&backend: &Self| backend.available() && (backend == Self::Scalar || agrees(backend));
        Self::ALL.into_iter().rfind(sound).unwrap_or(Self::Scalar)
    }
}

/// Makes `$name(backend, …)` of `$body(…)`, which must be `#[inline(always)]`.
#[macro_export]
macro_rules! kernel {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path;) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(backend: $crate::Backend, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "entered only on a processor with the instructions")]
            {
                use $crate::Backend;

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
