//! Which instructions of a processor run a kernel: one choice, one door.

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
