//! Sealing and opening on an NVIDIA GPU: the bits of [`crate::rlwe`], by other hardware.
//!
//! ```text
//!   host                                     device
//!   key image, errors (sampled here)  ──▶    a group of N/16 threads for each block:
//!   messages, or a sum of uploads     ──▶    mask words below p │ ∘ key image │ inverse transform
//!   uploads, or sums                  ◀──    in shared memory   │ + message + error, or centred
//! ```
//! **It has never run on a GPU.** What is known: an interpreter in this crate's tests runs the text
//! that the driver gets (`kernels.ptx`), thread by thread. It gives the bits of the processor's code
//! for both sets, rejected mask words included; no two threads meet at a shared word between
//! barriers; no branch and no address depends on a key, a message or an error. Nothing is known of
//! speed. So [`Device::open`] first seals and opens some blocks on the device, and refuses it if they
//! are not those of the processor.
//!
//! # Errors are sampled by the host
//! Their words come of the cipher that suits the processor, and the sampler is in constant time by
//! an argument about the instructions of a processor; AES without instructions for it would be a
//! table in memory. So errors travel to the device, a byte each, and sealing is no faster than the
//! host samples, on all threads of its pool.
//!
//! # What is not protected
//! Keys, messages and errors lie in device memory, and pass through buffers of the driver. Our
//! memory there, and what threads share, is overwritten with zeros; the driver's buffers and the
//! registers are not. Whoever controls the host or the driver sees it all, unless the GPU runs in
//! confidential mode. That the text does not branch on a secret does not say that the machine code
//! made of it never will.
//!
//! # How the code for the device is made
//! By `cuda/make_ptx.py` from `cuda/kernels.cu`, without a GPU; `make_ptx.py --check` fails if the
//! text is not what the compiler makes of the source. No toolkit is needed to build or to run: the
//! driver (525 or newer) compiles the text for GPUs of compute capability 8.0 and up.

mod check;
mod device;
mod open;
mod seal;
mod tables;

pub use device::Device;
pub use open::Opener;
pub use seal::Sealer;

use crate::rlwe::RingError;

/// Why nothing was sealed or opened on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// There is no driver library.
    #[error("no NVIDIA driver on this machine")]
    NoDriver,
    /// There is a driver, but nothing that it drives.
    #[error("the NVIDIA driver finds no GPU")]
    NoDevice,
    /// The driver lacks a function.
    #[error("the NVIDIA driver is too old")]
    OldDriver,
    /// The kernels are compiled for compute capability 8.0 and up.
    #[error("the GPU has compute capability {major}.{minor}, where 8.0 is needed")]
    OldDevice {
        /// The number before the point.
        major: i32,
        /// The number behind it.
        minor: i32,
    },
    /// The trial before use failed: the device is not to be trusted.
    #[error("the GPU does not seal and open as the processor does")]
    Disagrees,
    /// The driver refused something.
    #[error("the NVIDIA driver reports error {code}")]
    Driver {
        /// Its number in the driver's interface (`CUresult`).
        code: u32,
    },
    /// What was given does not fit the ring.
    #[error(transparent)]
    Ring(#[from] RingError),
}

#[cfg(test)]
mod tests;
