//! Opening on a GPU.

use cudarc::driver::{CudaSlice, PushKernelArg};

use super::CudaError;
use super::device::{Device, Inputs, PORTION, launch_config};
use crate::rlwe::block::whole;
use crate::rlwe::{KeySum, Ring, RingError};

/// Opens the sum of uploads, as [`crate::rlwe::Opener`] does.
pub struct Opener<'d> {
    device: &'d Device,
    ring: &'d Ring,
    inputs: Inputs,
    room: Room,
}

/// Room for a portion on the device.
struct Room {
    sealed: CudaSlice<u32>,
    sums: CudaSlice<i64>,
    /// Not 0 once a word was no residue.
    refused: CudaSlice<u32>,
}

impl<'d> Opener<'d> {
    pub(super) fn new(
        device: &'d Device,
        ring: &'d Ring,
        context: &[u8; 32],
        key: KeySum,
    ) -> Result<Self, CudaError> {
        let (set, factors) = (ring.set(), key.image().factors());
        whole(factors.iter().map(|factors| factors.w.len()).sum(), set.block())?;
        whole(factors.len(), set.primes().len())?;
        let room = Room {
            sealed: device.stream.alloc_zeros(PORTION * set.block())?,
            sums: device.stream.alloc_zeros(PORTION * set.degree())?,
            refused: device.stream.alloc_zeros(1)?,
        };
        let inputs = Inputs::upload(device, ring, context, key.image())?;
        Ok(Self { device, ring, inputs, room })
    }

    /// Writes sums of messages and errors of blocks from number `first` on. There may be fewer
    /// `sums` than the last block holds: the rest is padding.
    ///
    /// # Errors
    /// As for [`crate::rlwe::Opener::open`], or when the device fails. Then `sums` is useless.
    pub fn open_blocks(
        &mut self,
        first: u64,
        sealed: &[u32],
        sums: &mut [i64],
    ) -> Result<(), CudaError> {
        let set = self.ring.set();
        whole(sealed.len(), set.blocks(sums.len()) * set.block())?;
        let sealed = sealed.chunks(PORTION * set.block());
        let portions = sealed.zip(sums.chunks_mut(PORTION * set.degree()));
        for (i, (sealed, sums)) in (0..).step_by(PORTION).zip(portions) {
            self.portion(first.wrapping_add(i), sealed, sums)?;
        }
        Ok(())
    }

    /// Opens at most [`PORTION`] blocks.
    #[allow(unsafe_code, reason = "launches a kernel")]
    fn portion(&mut self, first: u64, sealed: &[u32], sums: &mut [i64]) -> Result<(), CudaError> {
        let (set, stream) = (self.ring.set(), &self.device.stream);
        let Self { inputs, room, .. } = self;
        stream.memset_zeros(&mut room.refused)?;
        stream.memcpy_htod(sealed, &mut room.sealed)?;

        let mut launch = stream.launch_builder(self.device.open_kernel(set));
        launch.arg(&inputs.keys).arg(&inputs.powers).arg(&inputs.image.0).arg(&first);
        launch.arg(&room.sealed).arg(&mut room.sums).arg(&mut room.refused);
        // SAFETY: the kernel takes these arguments. Of each of at most PORTION blocks it reads one
        // block and writes N sums: the room has as many. It reads 8 words of keys and 2N of powers
        // and image for each prime of the set, which `inputs` have: they were made for this ring.
        unsafe { launch.launch(launch_config(set, set.blocks(sums.len()))) }?;
        if let Some(opened) = room.sums.try_slice(..sums.len()) {
            stream.memcpy_dtoh(&opened, sums)?;
        }
        let mut refused = [0];
        stream.memcpy_dtoh(&room.refused, &mut refused[..])?;
        stream.synchronize()?;
        match refused {
            [0] => Ok(()),
            _ => Err(RingError::Residue.into()),
        }
    }
}
