//! The linear map from sparse to pseudorandom vectors: expand-convolute (Raghuraman, Rindal, Tanguy, eprint
//! 2023/882) at rate ½, accumulated twice.
//!
//! A vector of N = message part of m + parity part becomes m values. Each entry of the parity part is first added
//! to random ones of the 24 after it and to the 25th; that is done twice; then each of the m values takes the sum
//! of 7 or 21 parity entries. Coefficients are public. What the map hides rests on regular LPN for this code.

use privet_crypto::{Backend, kernel};
use rayon::prelude::*;

use crate::session::Session;
use crate::vole::params::Assurance;
use crate::vole::prg::{Prg, Use};

const WINDOW: usize = 24;
/// Coefficients drawn at a time; 3 bytes each, whole blocks.
const DRAWN: usize = 4096;
/// Values expanded at a time; whole blocks of indices for each weight.
const EXPANDED: usize = 4096;

/// The map of a session.
pub(crate) struct Code {
    passes: [Prg; 2],
    expander: Prg,
    weight: usize,
    backend: Backend,
}

impl Code {
    pub(crate) fn new(session: &Session, assurance: Assurance) -> Self {
        let of = |name: &str, number| Prg::new(session.key(name, number));
        Self {
            passes: [of("code/pass", 0), of("code/pass", 1)],
            expander: of("code/expander", 0),
            weight: assurance.weight(),
            backend: backend(),
        }
    }

    /// Maps single values in place; the first `m` are the result.
    pub(crate) fn encode(&self, values: &mut [u128], m: usize) {
        let values: &mut [[u64; 2]] = bytemuck::cast_slice_mut(values);
        let (message, parity) = values.split_at_mut(m);
        self.passes.iter().for_each(|pass| {
            each(pass, parity.len(), |at, words| {
                convolve_one(self.backend, parity, at, words);
            })
        });
        self.expand(message, parity, |to, parity, indices| {
            expand_one(self.backend, to, parity, indices, self.weight);
        });
    }

    /// Maps pairs of values in place; the first `m` are the result.
    pub(crate) fn encode_pairs(&self, values: &mut [[u128; 2]], m: usize) {
        let values: &mut [[u64; 4]] = bytemuck::cast_slice_mut(values);
        let (message, parity) = values.split_at_mut(m);
        self.passes.iter().for_each(|pass| {
            each(pass, parity.len(), |at, words| {
                convolve_two(self.backend, parity, at, words);
            })
        });
        self.expand(message, parity, |to, parity, indices| {
            expand_two(self.backend, to, parity, indices, self.weight);
        });
    }

    fn expand<T: Send + Sync>(
        &self,
        message: &mut [T],
        parity: &[T],
        kernel: impl Fn(&mut [T], &[T], &[u32]) + Sync,
    ) {
        let per_chunk = EXPANDED * self.weight / 4;
        message.par_chunks_mut(EXPANDED).enumerate().for_each_init(
            || vec![0u128; per_chunk],
            |blocks, (chunk, message)| {
                self.expander.fill(Use::Code, 0, (chunk * per_chunk) as u64, blocks);
                kernel(message, parity, bytemuck::cast_slice(blocks));
            },
        );
    }
}

/// Coefficients of a pass, a piece at a time.
fn each(pass: &Prg, len: usize, mut take: impl FnMut(usize, &[[u8; 3]])) {
    let mut blocks = vec![0u128; DRAWN * 3 / 16];
    for (piece, at) in (0..len).step_by(DRAWN).enumerate() {
        pass.fill(Use::Code, 0, (piece * blocks.len()) as u64, &mut blocks);
        let words: &[[u8; 3]] = bytemuck::cast_slice(&blocks);
        take(at, &words[..DRAWN.min(len - at)]);
    }
}

/// Adds the entries from `at` on to those after them.
#[inline(always)]
fn convolve<const LANES: usize>(parity: &mut [[u64; LANES]], at: usize, words: &[[u8; 3]]) {
    let len = parity.len();
    for (i, word) in (at..).zip(words) {
        let word = u32::from_le_bytes([word[0], word[1], word[2], 1]);
        let own = parity[i];
        let add = |to: &mut [u64; LANES], k: usize| {
            let mask = u64::from(word >> k & 1).wrapping_neg();
            to.iter_mut().zip(own).for_each(|(to, own)| *to ^= own & mask);
        };
        match parity.get_mut(i + 1..i + WINDOW + 2) {
            Some(window) => window.iter_mut().enumerate().for_each(|(k, to)| add(to, k)),
            None => (0..=WINDOW).for_each(|k| add(&mut parity[(i + 1 + k) % len], k)),
        }
    }
}

/// Adds to each value the parity entries that its indices name: all but three lie in one part of the parity
/// each, three anywhere.
#[inline(always)]
fn expand<const LANES: usize>(
    message: &mut [[u64; LANES]],
    parity: &[[u64; LANES]],
    indices: &[u32],
    weight: usize,
) {
    let uniform = weight / 2;
    let parts = weight - uniform;
    let part = parity.len() / parts;
    let within = |word: u32, range: usize| ((u64::from(word) * range as u64) >> 32) as usize;
    for (to, words) in message.iter_mut().zip(indices.chunks_exact(weight)) {
        let (regular, anywhere) = words.split_at(parts);
        let mut sum = *to;
        let mut add = |at: usize| {
            sum.iter_mut().zip(parity[at]).for_each(|(sum, value)| *sum ^= value);
        };
        regular.iter().enumerate().for_each(|(q, word)| add(q * part + within(*word, part)));
        anywhere.iter().for_each(|word| add(within(*word, parity.len())));
        *to = sum;
    }
}

kernel! { fn convolve_one(parity: &mut [[u64; 2]], at: usize, words: &[[u8; 3]]) = convolve; }
kernel! { fn convolve_two(parity: &mut [[u64; 4]], at: usize, words: &[[u8; 3]]) = convolve; }
kernel! {
    fn expand_one(message: &mut [[u64; 2]], parity: &[[u64; 2]], indices: &[u32], weight: usize) = expand;
}
kernel! {
    fn expand_two(message: &mut [[u64; 4]], parity: &[[u64; 4]], indices: &[u32], weight: usize) = expand;
}

fn backend() -> Backend {
    Backend::ALL.into_iter().rfind(|backend| backend.available()).unwrap_or(Backend::Scalar)
}

#[cfg(test)]
mod tests {
    use privet_crypto::Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::session::Random;
    use crate::vole::gf128::mul;

    fn code(assurance: Assurance) -> Code {
        Code::new(&Session::new(&Digest([6; 32])), assurance)
    }

    /// The definition, word by word.
    fn slow(code: &Code, values: &mut [u128], m: usize) {
        let len = values.len() - m;
        for pass in &code.passes {
            let bytes = pass.blocks(Use::Code, 0, (3 * len).div_ceil(16));
            let bytes: &[u8] = bytemuck::cast_slice(&bytes);
            for i in 0..len {
                let own = values[m + i];
                for k in 0..24 {
                    if bytes[3 * i + k / 8] >> (k % 8) & 1 == 1 {
                        values[m + (i + 1 + k) % len] ^= own;
                    }
                }
                values[m + (i + 25) % len] ^= own;
            }
        }
        let (w, uniform) = (code.weight, code.weight / 2);
        let words = code.expander.blocks(Use::Code, 0, (w * m).div_ceil(4));
        let words: &[u32] = bytemuck::cast_slice(&words);
        for j in 0..m {
            for q in 0..w {
                let word = u64::from(words[j * w + q]);
                let parts = (w - uniform) as u64;
                let at = match (q as u64) < parts {
                    true => q as u64 * (len as u64 / parts) + ((word * (len as u64 / parts)) >> 32),
                    false => (word * len as u64) >> 32,
                };
                values[j] ^= values[m + at as usize];
            }
        }
    }

    #[test]
    fn the_fast_map_is_the_definition() {
        for assurance in [Assurance::Standard, Assurance::Conservative] {
            let code = code(assurance);
            for (m, n) in [(32, 64), (33, 75), (64, 128), (5000, 10_100), (9000, 18_000)] {
                let mut random = Random::known(m as u8);
                let values: Vec<u128> = (0..n).map(|_| random.block()).collect();
                let mut expected = values.clone();
                slow(&code, &mut expected, m);
                let mut fast = values.clone();
                code.encode(&mut fast, m);
                assert_eq!(fast[..m], expected[..m]);
                let delta = random.block();
                let mut pairs: Vec<_> = values.iter().map(|v| [*v, mul(*v, delta)]).collect();
                code.encode_pairs(&mut pairs, m);
                for ([one, other], expected) in pairs.iter().zip(&expected[..m]) {
                    assert_eq!((*one, *other), (*expected, mul(*expected, delta)));
                }
            }
        }
    }

    #[test]
    fn all_backends_give_the_same_bits() {
        let mut code = code(Assurance::Standard);
        let mut random = Random::known(1);
        let values: Vec<u128> = (0..2000).map(|_| random.block()).collect();
        let all = Backend::ALL.into_iter().filter(|backend| backend.available());
        let mut results = all.map(|backend| {
            code.backend = backend;
            let mut values = values.clone();
            code.encode(&mut values, 900);
            values.truncate(900);
            values
        });
        let first = results.next().unwrap();
        assert!(results.all(|result| result == first));
    }

    proptest! {
        /// Linear, and no index is out of range at any small length.
        #[test]
        fn sums_are_kept(m in 32usize..97, more in 32usize..97, seed: u8) {
            let code = code(Assurance::Standard);
            let mut random = Random::known(seed);
            let mut draw = || -> Vec<u128> { (0..m + more).map(|_| random.block()).collect() };
            let (mut u, mut v) = (draw(), draw());
            let mut sum: Vec<u128> = u.iter().zip(&v).map(|(u, v)| u ^ v).collect();
            [&mut u, &mut v, &mut sum].into_iter().for_each(|values| code.encode(values, m));
            prop_assert!((0..m).all(|i| sum[i] == u[i] ^ v[i]));
        }
    }

    /// One noise position reaches about half of all values: no light codewords among the images of units.
    #[test]
    fn a_single_position_spreads() {
        let (code, m) = (code(Assurance::Standard), 4000);
        for at in [m, m + 1, m + 1999, 2 * m - 30] {
            let mut values = vec![0u128; 2 * m];
            values[at] = 1;
            code.encode(&mut values, m);
            let weight = values[..m].iter().filter(|value| **value != 0).count();
            assert!((m * 4 / 10..m * 6 / 10).contains(&weight), "{at}: {weight}");
        }
    }
}
