//! The trial before use: some blocks, sealed and opened by the processor and by the device, and one
//! to be refused.

use privet_crypto::{Seed, Words};

use super::{CudaError, Device};
use crate::rlwe::gaussian::TAIL;
use crate::rlwe::{self, Key, KeySum, Ring, RingError, Set};

/// The context of the trial.
pub(super) const CONTEXT: [u8; 32] = [10; 32];

/// Blocks of the trial. Among them are some whose masks have rejected words.
pub(super) const BLOCKS: usize = 24;

/// Whether a device seals and opens as the processor does.
pub(super) fn agrees(device: &Device) -> Result<(), CudaError> {
    for set in Set::ALL {
        let trial = Trial::new(set)?;
        let ring = &trial.ring;
        let mut sealed = vec![0; trial.sealed.len()];
        let mut sealer = device.sealer(ring, &CONTEXT, key(ring), seed())?;
        sealer.seal_blocks(&trial.messages, &mut sealed)?;
        let mut sums = vec![0; trial.sums.len()];
        let mut opener = device.opener(ring, &CONTEXT, key_sum(ring)?)?;
        opener.open_blocks(0, &trial.sealed, &mut sums)?;
        if sealed != trial.sealed || sums != trial.sums {
            return Err(CudaError::Disagrees);
        }
        if let Some(last) = sealed.last_mut() {
            *last = u32::MAX;
        }
        match opener.open_blocks(0, &sealed, &mut sums) {
            Err(CudaError::Ring(RingError::Residue)) => {}
            Ok(()) => return Err(CudaError::Disagrees),
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// Messages over the whole range, sealed, and opened again, by the processor. The last block is not
/// full.
pub(super) struct Trial {
    pub(super) ring: Ring,
    pub(super) messages: Vec<i64>,
    pub(super) sealed: Vec<u32>,
    pub(super) sums: Vec<i64>,
}

impl Trial {
    pub(super) fn new(set: Set) -> Result<Self, RingError> {
        let ring = Ring::new(set);
        let most = set.bound() - i64::from(TAIL);
        let count = BLOCKS * set.degree() - 5;
        let message = |i: i64| (most - i * (most / count as i64)) * (1 - 2 * (i % 2));
        let messages: Vec<i64> = (0..count as i64).map(message).collect();
        let mut sealed = vec![0; BLOCKS * set.block()];
        let mut sealer = rlwe::Sealer::new(&ring, &CONTEXT, key(&ring), seed());
        sealer.par_seal(&messages, &mut sealed)?;
        let mut sums = vec![0; count];
        let opener = rlwe::Opener::new(&ring, &CONTEXT, key_sum(&ring)?);
        opener.par_open(0, &sealed, &mut sums)?;
        Ok(Self { ring, messages, sealed, sums })
    }
}

/// The key of the trial, which seals nothing else.
pub(super) fn key(ring: &Ring) -> Key {
    Key::sample(ring, &mut Words::new(&Seed::from_bytes([1; 32])))
}

pub(super) fn key_sum(ring: &Ring) -> Result<KeySum, RingError> {
    let coefficients: Vec<i32> = key(ring).coefficients().iter().map(|&x| x.into()).collect();
    KeySum::new(ring, 1, &coefficients)
}

pub(super) fn seed() -> Seed {
    Seed::from_bytes([3; 32])
}
