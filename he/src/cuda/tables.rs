//! What the kernels read, as they read it. For each prime in turn, N factors are N numbers and then
//! their N quotients.

use crate::rlwe::mask::Mask;
use crate::rlwe::ring::Factors;
use crate::rlwe::{Ring, Set};

/// Keys of the mask's cipher, 8 words for each prime.
pub(super) fn mask_keys(set: Set, context: &[u8; 32]) -> Vec<u32> {
    let mask = Mask::new(set, context);
    let words = mask.keys().iter().flat_map(|key| key.as_chunks::<4>().0);
    words.map(|&bytes| u32::from_le_bytes(bytes)).collect()
}

/// Factors of the inverse transform.
pub(super) fn powers(ring: &Ring) -> Vec<u32> {
    let factors: Vec<Factors> = ring.transforms().iter().map(|ntt| ntt.inverse_powers()).collect();
    parts(&factors).flatten().copied().collect()
}

/// Factors as they are laid out: part by part, each of N numbers.
pub(super) fn parts(factors: &[Factors]) -> impl Iterator<Item = &[u32]> {
    factors.iter().flat_map(|factors| [&factors.w[..], &factors.quotient[..]])
}
