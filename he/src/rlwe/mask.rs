//! The public mask of an upload: uniform polynomials that everybody expands from a context.
//!
//! ```text
//!   key  = BLAKE3 derive-key("privet/he/1/mask", context ‖ N ‖ p)      one for each prime
//!   a    = words of ChaCha12(key, nonce = block), 31 low bits each; those not below p are dropped
//! ```
//! A mask is drawn as values, not as coefficients: the transform is a bijection, so either is
//! uniform, and sealing saves a transform. Every machine expands the same words.
//!
//! # Why ChaCha12
//! The mask must look random to who knows the key, so a cipher under a public key is not enough: the
//! proof wants a random oracle. BLAKE3's output stream is one under its usual assumption, but without
//! AVX-512 it runs at 1 GB/s (3.8 ns a coefficient; 0.6 with). AES in counter mode is faster, but
//! anyone with the key can invert it, and ideal behaviour under a known key is not what AES is
//! designed or studied for. The ChaCha block is built as a hash is: x ↦ P(x) + x for a public
//! permutation P, with 128 of the 512 bits of x fixed. If P is ideal this is indifferentiable from a
//! random function up to q/2^128 for q queries, since a guess at an inverse must hit the fixed
//! bits. *Assumption*: the permutation of 12 rounds is as good as ideal here. The best attacks known
//! on the cipher reach 7 rounds; what is known against more rounds of the bare permutation costs far
//! more than 2^128. (BLAKE3 has 14 rounds of the same kind, 7 of its own.) 1.3 ns a coefficient on
//! any machine with AVX2.

use chacha20::ChaCha12Rng;
use chacha20::rand_core::{Rng, SeedableRng};

use crate::rlwe::backend::{Backend, kernel};
use crate::rlwe::ring::Set;

/// The masks of one context: of one round of one job, and no other.
pub struct Mask {
    set: Set,
    keys: Vec<[u8; 32]>,
}

impl Mask {
    /// The masks for a context: a digest of all that the parties of a round agree on.
    pub fn new(set: Set, context: &[u8; 32]) -> Self {
        let key = |&p: &u32| {
            let mut hasher = blake3::Hasher::new_derive_key("privet/he/1/mask");
            hasher.update(context);
            hasher.update(&(set.degree() as u32).to_le_bytes());
            hasher.update(&p.to_le_bytes());
            *hasher.finalize().as_bytes()
        };
        Self { set, keys: set.primes().iter().map(key).collect() }
    }

    /// The key of the cipher for each prime.
    #[cfg(feature = "cuda")]
    pub(crate) fn keys(&self) -> &[[u8; 32]] {
        &self.keys
    }

    /// Overwrites `values` with the mask of a block modulo prime number `prime` of the set: uniform
    /// residues, in the order of the transform. Only as many as fit are drawn.
    ///
    /// # Panics
    /// If the set has no such prime.
    pub fn fill(&self, backend: Backend, block: u64, prime: usize, values: &mut [u32]) {
        let p = self.set.primes()[prime];
        let mut words = ChaCha12Rng::from_seed(self.keys[prime]);
        words.set_stream(block);
        words.fill_bytes(bytemuck::cast_slice_mut(values));
        if all_accepted(backend, p, values) {
            return;
        }
        // Rare: with these primes every tenth block has a word too large.
        let mut accepted = 0;
        for i in 0..values.len() {
            if values[i] < p {
                values[accepted] = values[i];
                accepted += 1;
            }
        }
        for value in &mut values[accepted..] {
            while {
                *value = words.next_u32() & LOW;
                *value >= p
            } {}
        }
    }
}

/// Bits of a candidate.
const LOW: u32 = u32::MAX >> 1;

kernel! {
    /// Takes the low bits of little-endian words. True if all are below p.
    fn all_accepted(p: u32, words: &mut [u32]) -> bool = candidates;
}

#[inline(always)]
fn candidates(p: u32, words: &mut [u32]) -> bool {
    let mut largest = 0;
    for word in words {
        *word = u32::from_le(*word) & LOW;
        largest = largest.max(*word);
    }
    largest < p
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rlwe::backend::fastest;

    const CONTEXT: [u8; 32] = [7; 32];

    fn mask(set: Set, context: &[u8; 32], block: u64, prime: usize) -> Vec<u32> {
        mask_by(fastest(), set, context, block, prime)
    }

    fn mask_by(
        backend: Backend,
        set: Set,
        context: &[u8; 32],
        block: u64,
        prime: usize,
    ) -> Vec<u32> {
        let mut values = vec![0; set.degree()];
        Mask::new(set, context).fill(backend, block, prime, &mut values);
        values
    }

    /// ChaCha with 12 rounds, written down once more: words 12 and 13 count blocks of 16 words, 14
    /// and 15 are the nonce.
    fn chacha12(key: [u8; 32], nonce: u64) -> impl Iterator<Item = u32> {
        let word = |i: usize| u32::from_le_bytes(key.as_chunks::<4>().0[i]);
        let key: [u32; 8] = std::array::from_fn(word);
        (0u64..).flat_map(move |count| {
            let mut start = [
                0x6170_7865,
                0x3320_646e,
                0x7962_2d32,
                0x6b20_6574,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
            ];
            start[4..12].copy_from_slice(&key);
            start[12..]
                .copy_from_slice(&[count, count >> 32, nonce, nonce >> 32].map(|x| x as u32));
            let mut x = start;
            for round in 0..12 {
                for i in 0..4 {
                    // Columns, then diagonals.
                    let step = round % 2;
                    let [a, b, c, d] = [0, 1, 2, 3].map(|row| 4 * row + (i + row * step) % 4);
                    for (add, to, from, turn) in
                        [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]
                    {
                        x[add] = x[add].wrapping_add(x[to]);
                        x[from] = (x[from] ^ x[add]).rotate_left(turn);
                    }
                }
            }
            std::array::from_fn::<_, 16, _>(|i| x[i].wrapping_add(start[i]))
        })
    }

    /// The definition, word by word, and how many words are dropped.
    fn defined(set: Set, number: u64, prime: usize) -> (Vec<u32>, usize) {
        let mut words = chacha12(Mask::new(set, &CONTEXT).keys[prime], number);
        let (mut values, mut dropped) = (Vec::new(), 0);
        while values.len() < set.degree() {
            let word = words.next().unwrap() % (1 << 31);
            match word < set.primes()[prime] {
                true => values.push(word),
                false => dropped += 1,
            }
        }
        (values, dropped)
    }

    #[test]
    fn every_backend_draws_as_defined() {
        let mut all_dropped = 0;
        for set in [Set::Narrow, Set::Wide] {
            for number in (0..100).chain([u64::MAX]) {
                for prime in 0..set.primes().len() {
                    let (values, dropped) = defined(set, number, prime);
                    for backend in Backend::ALL {
                        assert_eq!(mask_by(backend, set, &CONTEXT, number, prime), values);
                    }
                    all_dropped += dropped;
                }
            }
        }
        assert!(all_dropped > 10, "the rare path has been taken");
    }

    /// The first values, as drawn once: a change breaks rounds between versions.
    #[test]
    fn golden_values() {
        let first = |set, number, prime| mask(set, &CONTEXT, number, prime)[..4].to_vec();
        let drawn = [
            first(Set::Narrow, 0, 0),
            first(Set::Narrow, u64::MAX, 0),
            first(Set::Wide, 1, 0),
            first(Set::Wide, 1, 1),
        ];
        let once = [
            [449_456_771, 100_491_787, 1_997_317_976, 2_039_408_491],
            [1_326_281_001, 1_582_861_994, 123_519_423, 798_349_996],
            [1_743_999_491, 1_443_869_225, 278_609_761, 227_533_204],
            [187_645_458, 1_787_061_969, 1_206_388_377, 1_993_805_092],
        ];
        assert_eq!(drawn, once);
    }

    #[test]
    fn values_are_uniform() {
        const CELLS: usize = 256;
        let p = Set::Narrow.primes()[0];
        let mut counts = [[0u32; CELLS]; 2];
        for number in 0..500 {
            for value in mask(Set::Narrow, &CONTEXT, number, 0) {
                counts[0][(u64::from(value) * CELLS as u64 / u64::from(p)) as usize] += 1;
                counts[1][value as usize % CELLS] += 1;
            }
        }
        for counts in counts {
            let expected = 500.0 * 2048.0 / CELLS as f64;
            let chi: f64 =
                counts.map(|n| (f64::from(n) - expected).powi(2) / expected).iter().sum();
            let freedom = (CELLS - 1) as f64;
            assert!((chi - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(), "{chi}");
        }
    }

    #[test]
    fn contexts_blocks_sets_and_primes_have_masks_of_their_own() {
        let masks = [
            mask(Set::Narrow, &CONTEXT, 0, 0),
            mask(Set::Narrow, &CONTEXT, 1, 0),
            mask(Set::Narrow, &[8; 32], 0, 0),
            mask(Set::Wide, &CONTEXT, 0, 0),
            mask(Set::Wide, &CONTEXT, 0, 1),
        ];
        for (i, a) in masks.iter().enumerate() {
            assert!(masks[..i].iter().all(|b| a[..8] != b[..8]));
        }
        Mask::new(Set::Narrow, &CONTEXT).fill(Backend::Scalar, 0, 0, &mut []);
    }
}
