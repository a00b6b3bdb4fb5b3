//! A GPU: its driver, the kernels loaded into it, and memory that is erased.

use std::panic::catch_unwind;
use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, DeviceRepr, DriverError, LaunchConfig,
    ValidAsZeroBits,
};
use cudarc::nvrtc::Ptx;
use privet_crypto::Seed;

use super::tables::{self, parts};
use super::{CudaError, Opener, Sealer, check};
use crate::rlwe::key::Image;
use crate::rlwe::{Key, KeySum, Ring, Set};

/// The kernels, for all GPUs.
pub(super) const PTX: &str = include_str!("kernels.ptx");

/// Blocks that are on the device at once.
pub(super) const PORTION: usize = 1024;

/// The first GPU of this machine, tried and found to give the bits of the processor.
pub struct Device {
    pub(super) stream: Arc<CudaStream>,
    kernels: [Kernels; 2],
}

struct Kernels {
    seal: CudaFunction,
    open: CudaFunction,
}

impl Device {
    /// Opens the first GPU, and tries it.
    ///
    /// # Errors
    /// When there is no driver, no GPU, or none that is new enough; or when it does not give the
    /// bits of the processor.
    pub fn open() -> Result<Self, CudaError> {
        if !driver_present() {
            return Err(CudaError::NoDriver);
        }
        // A function that an old driver lacks is met by a panic, when first called: here.
        catch_unwind(|| {
            let device = Self::load()?;
            check::agrees(&device)?;
            Ok(device)
        })
        .unwrap_or(Err(CudaError::OldDriver))
    }

    fn load() -> Result<Self, CudaError> {
        let context = CudaContext::new(0)?;
        let (major, minor) = context.compute_capability()?;
        if major < 8 {
            return Err(CudaError::OldDevice { major, minor });
        }
        let module = context.load_module(Ptx::from_src(PTX))?;
        let kernels = |set| {
            let [seal, open] = names(set);
            Ok::<_, DriverError>(Kernels {
                seal: module.load_function(seal)?,
                open: module.load_function(open)?,
            })
        };
        let kernels = [kernels(Set::Narrow)?, kernels(Set::Wide)?];
        Ok(Self { stream: context.default_stream(), kernels })
    }

    /// What its maker calls it.
    ///
    /// # Errors
    /// When the driver does not say.
    pub fn name(&self) -> Result<String, CudaError> {
        Ok(self.stream.context().name()?)
    }

    /// A sealer for a context, as [`crate::rlwe::Sealer::new`] makes one.
    ///
    /// # Errors
    /// When the key was drawn for a ring of another degree, or the device has no room.
    pub fn sealer<'d>(
        &'d self,
        ring: &'d Ring,
        context: &[u8; 32],
        key: Key,
        errors: Seed,
    ) -> Result<Sealer<'d>, CudaError> {
        Sealer::new(self, ring, context, key, errors)
    }

    /// An opener of a context's sum, as [`crate::rlwe::Opener::new`] makes one.
    ///
    /// # Errors
    /// When the sum of keys is of another set, or the device has no room.
    pub fn opener<'d>(
        &'d self,
        ring: &'d Ring,
        context: &[u8; 32],
        key: KeySum,
    ) -> Result<Opener<'d>, CudaError> {
        Opener::new(self, ring, context, key)
    }

    pub(super) fn seal_kernel(&self, set: Set) -> &CudaFunction {
        &self.kernels(set).seal
    }

    pub(super) fn open_kernel(&self, set: Set) -> &CudaFunction {
        &self.kernels(set).open
    }

    fn kernels(&self, set: Set) -> &Kernels {
        let [narrow, wide] = &self.kernels;
        match set {
            Set::Narrow => narrow,
            Set::Wide => wide,
        }
    }
}

/// Whether there is a driver library.
#[allow(unsafe_code, reason = "loads the driver, which runs what its library runs when loaded")]
pub(super) fn driver_present() -> bool {
    // SAFETY: the NVIDIA driver's library may be loaded at any time, by any thread.
    unsafe { cudarc::driver::sys::is_culib_present() }
}

/// Names of the kernels that seal and open.
pub(super) fn names(set: Set) -> [&'static str; 2] {
    match set {
        Set::Narrow => ["privet_seal_narrow", "privet_open_narrow"],
        Set::Wide => ["privet_seal_wide", "privet_open_wide"],
    }
}

/// A group of threads for each block, 16 numbers a thread.
pub(super) fn launch_config(set: Set, blocks: usize) -> LaunchConfig {
    let threads = (set.degree() / 16) as u32;
    LaunchConfig {
        grid_dim: (blocks as u32, 1, 1),
        block_dim: (threads, 1, 1),
        shared_mem_bytes: 0,
    }
}

/// Device memory that is overwritten with zeros before it is given back.
pub(super) struct Secret<T: DeviceRepr + ValidAsZeroBits>(pub(super) CudaSlice<T>);

impl<T: DeviceRepr + ValidAsZeroBits> Secret<T> {
    pub(super) fn zeros(device: &Device, len: usize) -> Result<Self, CudaError> {
        Ok(Self(device.stream.alloc_zeros(len)?))
    }
}

impl<T: DeviceRepr + ValidAsZeroBits> Drop for Secret<T> {
    fn drop(&mut self) {
        let stream = self.0.stream().clone();
        // A device that fails here has failed in what used the memory, which said so.
        let _ = stream.memset_zeros(&mut self.0);
    }
}

/// What sealing and opening both read, on the device.
pub(super) struct Inputs {
    /// Keys of the mask's cipher.
    pub(super) keys: CudaSlice<u32>,
    /// Factors of the inverse transform.
    pub(super) powers: CudaSlice<u32>,
    /// The key.
    pub(super) image: Secret<u32>,
}

impl Inputs {
    pub(super) fn upload(
        device: &Device,
        ring: &Ring,
        context: &[u8; 32],
        image: &Image,
    ) -> Result<Self, CudaError> {
        let (stream, degree) = (&device.stream, ring.set().degree());
        let mut on_device = Secret::zeros(device, 2 * ring.set().block())?;
        for (i, part) in parts(image.factors()).enumerate() {
            // Sizes are those of the set: the callers have looked.
            let Some(mut view) = on_device.0.try_slice_mut(i * degree..(i + 1) * degree) else {
                break;
            };
            stream.memcpy_htod(part, &mut view)?;
        }
        Ok(Self {
            keys: stream.clone_htod(&tables::mask_keys(ring.set(), context))?,
            powers: stream.clone_htod(&tables::powers(ring))?,
            image: on_device,
        })
    }
}

impl From<DriverError> for CudaError {
    fn from(DriverError(result): DriverError) -> Self {
        use cudarc::driver::sys::CUresult;
        match result {
            CUresult::CUDA_ERROR_NO_DEVICE | CUresult::CUDA_ERROR_INVALID_DEVICE => Self::NoDevice,
            // The driver knows less of PTX than the text needs.
            CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => Self::OldDriver,
            _ => Self::Driver { code: result as u32 },
        }
    }
}
