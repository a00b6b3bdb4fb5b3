//! Sealing on a GPU.

use cudarc::driver::{CudaSlice, PushKernelArg};
use privet_crypto::Seed;
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::CudaError;
use super::device::{Device, Inputs, PORTION, Secret, launch_config};
use crate::rlwe::block::{draw_errors, whole, within};
use crate::rlwe::key::Image;
use crate::rlwe::{Key, Ring, RingError};

/// Seals the upload of one site for one round, as [`crate::rlwe::Sealer`] does.
pub struct Sealer<'d> {
    device: &'d Device,
    ring: &'d Ring,
    inputs: Inputs,
    errors: Seed,
    next: u64,
    room: Room,
}

/// Room for a portion: on the device, and for its errors here.
struct Room {
    messages: Secret<i64>,
    errors: Secret<i8>,
    sealed: CudaSlice<u32>,
    drawn: Zeroizing<Vec<i8>>,
}

impl<'d> Sealer<'d> {
    pub(super) fn new(
        device: &'d Device,
        ring: &'d Ring,
        context: &[u8; 32],
        key: Key,
        errors: Seed,
    ) -> Result<Self, CudaError> {
        let set = ring.set();
        whole(key.coefficients().len(), set.degree())?;
        let values = PORTION * set.degree();
        let room = Room {
            messages: Secret::zeros(device, values)?,
            errors: Secret::zeros(device, values)?,
            sealed: device.stream.alloc_zeros(PORTION * set.block())?,
            drawn: Zeroizing::new(vec![0; values]),
        };
        let inputs = Inputs::upload(device, ring, context, &Image::of(ring, &key))?;
        Ok(Self { device, ring, inputs, errors, next: 0, room })
    }

    /// Seals the next messages into the next blocks: as many as `out` has. The last is filled up
    /// with zeros.
    ///
    /// # Errors
    /// As for [`crate::rlwe::Sealer::seal`], or when the device fails. Then `out` is useless, and
    /// its blocks are not sealed again.
    pub fn seal_blocks(&mut self, messages: &[i64], out: &mut [u32]) -> Result<(), CudaError> {
        let set = self.ring.set();
        let blocks = set.blocks(messages.len());
        whole(out.len(), blocks * set.block())?;
        let first = self.next;
        self.next += blocks as u64;
        let bound = set.bound();
        if !within(self.ring.backend(), messages, bound) {
            return Err(RingError::Message { bound }.into());
        }
        let messages = messages.chunks(PORTION * set.degree());
        let portions = messages.zip(out.chunks_mut(PORTION * set.block()));
        for (first, (messages, out)) in (first..).step_by(PORTION).zip(portions) {
            self.portion(first, messages, out)?;
        }
        Ok(())
    }

    /// Seals at most [`PORTION`] blocks.
    #[allow(unsafe_code, reason = "launches a kernel")]
    fn portion(&mut self, first: u64, messages: &[i64], out: &mut [u32]) -> Result<(), CudaError> {
        let (set, stream) = (self.ring.set(), &self.device.stream);
        let (degree, blocks) = (set.degree(), set.blocks(messages.len()));
        let Self { inputs, room, .. } = self;

        let drawn = &mut room.drawn[..blocks * degree];
        let (ring, seed) = (self.ring, &self.errors);
        drawn.par_chunks_exact_mut(degree).enumerate().for_each(|(i, errors)| {
            draw_errors(ring, seed, first + i as u64, errors);
        });
        stream.memcpy_htod(&*drawn, &mut room.errors.0)?;
        stream.memcpy_htod(messages, &mut room.messages.0)?;
        if let Some(mut rest) = room.messages.0.try_slice_mut(messages.len()..blocks * degree)
            && messages.len() < blocks * degree
        {
            stream.memset_zeros(&mut rest)?;
        }

        let mut launch = stream.launch_builder(self.device.seal_kernel(set));
        launch.arg(&inputs.keys).arg(&inputs.powers).arg(&inputs.image.0).arg(&first);
        launch.arg(&room.messages.0).arg(&room.errors.0).arg(&mut room.sealed);
        // SAFETY: the kernel takes these arguments. Of each of at most PORTION blocks it reads N
        // messages and errors and writes one block: the room has as many. It reads 8 words of keys
        // and 2N of powers and image for each prime of the set: `inputs` were made for this ring.
        unsafe { launch.launch(launch_config(set, blocks)) }?;
        if let Some(sealed) = room.sealed.try_slice(..out.len()) {
            stream.memcpy_dtoh(&sealed, out)?;
        }
        Ok(stream.synchronize()?)
    }
}
