//! What seals and opens: the processor, or an NVIDIA GPU.

use privet::core::{Code, Reason};
#[cfg(feature = "cuda")]
use privet::he::cuda;
use privet::he::rlwe::{Key, KeySum, Opener, Ring, Sealer};
use privet::he::seeded::Seed;

use super::failed;

/// Blocks that are worked on together: one stays in a core's cache; threads and GPUs want many.
const THREADS_BATCH: usize = 16;
#[cfg(feature = "cuda")]
const GPU_BATCH: usize = 1024;

pub(super) enum Hardware {
    Processor {
        parallel: bool,
    },
    #[cfg(feature = "cuda")]
    Gpu(cuda::Device),
}

impl Hardware {
    pub(super) fn find(gpu: bool, threads: usize) -> Result<Self, Reason> {
        if !gpu {
            return Ok(Self::Processor { parallel: threads > 1 });
        }
        let none = |why: String| Reason::new(Code::NotBuilt, why);
        #[cfg(feature = "cuda")]
        return cuda::Device::open().map(Self::Gpu).map_err(|error| none(error.to_string()));
        #[cfg(not(feature = "cuda"))]
        Err(none("this privet was built without the feature `cuda`".to_owned()))
    }

    /// Its name, where it is not the processor.
    pub(super) fn name(&self) -> Result<Option<String>, Reason> {
        match self {
            Self::Processor { .. } => Ok(None),
            #[cfg(feature = "cuda")]
            Self::Gpu(device) => device.name().map(Some).map_err(|e| failed(&e)),
        }
    }

    pub(super) fn batch(&self) -> usize {
        match self {
            Self::Processor { parallel: false } => 1,
            Self::Processor { parallel: true } => THREADS_BATCH,
            #[cfg(feature = "cuda")]
            Self::Gpu(_) => GPU_BATCH,
        }
    }

    pub(super) fn sealer<'a>(
        &'a self,
        ring: &'a Ring,
        context: &[u8; 32],
        key: Key,
        errors: Seed,
    ) -> Result<Seals<'a>, Reason> {
        Ok(match self {
            Self::Processor { parallel } => {
                Seals::Processor(Box::new(Sealer::new(ring, context, key, errors)), *parallel)
            }
            #[cfg(feature = "cuda")]
            Self::Gpu(device) => {
                let sealer = device.sealer(ring, context, key, errors).map_err(|e| failed(&e))?;
                Seals::Gpu(Box::new(sealer))
            }
        })
    }

    pub(super) fn opener<'a>(
        &'a self,
        ring: &'a Ring,
        context: &[u8; 32],
        key: KeySum,
    ) -> Result<Opens<'a>, Reason> {
        Ok(match self {
            Self::Processor { parallel } => {
                Opens::Processor(Box::new(Opener::new(ring, context, key)), *parallel)
            }
            #[cfg(feature = "cuda")]
            Self::Gpu(device) => {
                let opener = device.opener(ring, context, key).map_err(|e| failed(&e))?;
                Opens::Gpu(Box::new(opener))
            }
        })
    }
}

pub(super) enum Seals<'a> {
    Processor(Box<Sealer<'a>>, bool),
    #[cfg(feature = "cuda")]
    Gpu(Box<cuda::Sealer<'a>>),
}

impl Seals<'_> {
    pub(super) fn seal(&mut self, messages: &[i64], out: &mut [u32]) -> Result<(), Reason> {
        match self {
            Self::Processor(sealer, false) => sealer.seal(messages, out).map_err(|e| failed(&e)),
            Self::Processor(sealer, true) => sealer.par_seal(messages, out).map_err(|e| failed(&e)),
            #[cfg(feature = "cuda")]
            Self::Gpu(sealer) => sealer.seal_blocks(messages, out).map_err(|e| failed(&e)),
        }
    }
}

pub(super) enum Opens<'a> {
    Processor(Box<Opener<'a>>, bool),
    #[cfg(feature = "cuda")]
    Gpu(Box<cuda::Opener<'a>>),
}

impl Opens<'_> {
    pub(super) fn open(
        &mut self,
        first: u64,
        sealed: &[u32],
        sums: &mut [i64],
    ) -> Result<(), Reason> {
        match self {
            Self::Processor(opener, false) => {
                opener.open(first, sealed, sums).map_err(|e| failed(&e))
            }
            Self::Processor(opener, true) => {
                opener.par_open(first, sealed, sums).map_err(|e| failed(&e))
            }
            #[cfg(feature = "cuda")]
            Self::Gpu(opener) => opener.open_blocks(first, sealed, sums).map_err(|e| failed(&e)),
        }
    }
}
