//! Secret small integers: the discrete Gaussian with σ = 6.4, cut at ±84, in constant time.
//!
//! ```text
//!   first word   63                                   1   0
//!                │ u: 63 bits, most significant first │ sign │
//!   |x| = #{ k : u·2^64 + second word < ⌊2^127 · Pr(|x| > k)⌋ }
//! ```
//! # Guarantee
//! A sample is within 2^-120 (statistical distance) of the discrete Gaussian over ℤ: the
//! thresholds are rounded to 2^-127 (85 magnitudes, 2^-120.5) and what is cut off weighs 2^-130.
//! This holds for uniform words; the words of a cipher cost what distinguishes them from that.
//!
//! # Time
//! The first word decides unless its 63 bits equal those of a threshold. Only then a second word is
//! drawn, and the time shows it: for a sample with probability 60 · 2^-63, less than 2^-57, so never
//! in practice. Otherwise no branch and no address depends on a secret. The scalar kernel compares
//! each sample with all thresholds. The vector kernels compare the 16 bits that lead in a threshold,
//! which counts all thresholds but the next exactly; that one they fetch by shuffles of registers,
//! whose time does not depend on their indices, and compare in full.
//!
//! σ = 6.4 is the least round number for which the reduction from hint LWE holds with ε = 2^-128
//! (σ ≥ 6.27 for N = 2048), and 13σ the cut at which the tail no longer counts.

mod table;
#[cfg(target_arch = "x86_64")]
mod x86;

use privet_crypto::Words;
use zeroize::Zeroizing;

use crate::rlwe::backend::Backend;
use table::{CUT, TABLE};

/// Standard deviation of a secret coefficient.
pub const SIGMA: f64 = 6.4;

/// Largest magnitude of a secret coefficient.
pub const TAIL: i8 = CUT as i8;

/// Samples of one batch, and words for it.
const BATCH: usize = 1024;

/// Samples whose words are laid out together: the first limbs of all, then the second, …
const GROUP: usize = 32;

/// Overwrites `out` with independent samples.
pub fn fill(backend: Backend, words: &mut Words, out: &mut [i8]) {
    let mut drawn = Zeroizing::new([0; BATCH]);
    let (batches, last) = out.as_chunks_mut::<BATCH>();
    for batch in batches {
        words.fill(&mut drawn[..]);
        decide(backend, &drawn, batch, || words.word());
    }
    if !last.is_empty() {
        let mut batch = Zeroizing::new([0; BATCH]);
        words.fill(&mut drawn[..]);
        decide(backend, &drawn, &mut batch, || words.word());
        last.copy_from_slice(&batch[..last.len()]);
    }
}

/// Samples of a batch of first words; `second` draws what a tie asks for.
fn decide(
    backend: Backend,
    words: &[u64; BATCH],
    out: &mut [i8; BATCH],
    mut second: impl FnMut() -> u64,
) {
    if scan(backend, words, out) {
        for (group, out) in words.as_chunks::<GROUP>().0.iter().zip(out.as_chunks_mut::<GROUP>().0)
        {
            for (i, out) in out.iter_mut().enumerate() {
                let word = word(group, i);
                if TABLE.high.contains(&(word & !1)) {
                    *out = whole(word, second());
                }
            }
        }
    }
}

/// Samples by their first words alone. True if some word equals a threshold; its sample may then be
/// too small.
fn scan(backend: Backend, words: &[u64; BATCH], out: &mut [i8; BATCH]) -> bool {
    match backend {
        #[cfg(target_arch = "x86_64")]
        Backend::Avx2 if backend.available() => x86::avx2(words, out),
        #[cfg(target_arch = "x86_64")]
        Backend::Avx512 if backend.available() => x86::avx512(words, out),
        _ => scalar(words, out),
    }
}

fn scalar(words: &[u64; BATCH], out: &mut [i8; BATCH]) -> bool {
    let mut tie = false;
    for (group, out) in words.as_chunks::<GROUP>().0.iter().zip(out.as_chunks_mut::<GROUP>().0) {
        for (i, out) in out.iter_mut().enumerate() {
            let word = word(group, i);
            let u = word >> 1;
            // Signs of differences of 63-bit numbers: of all instructions, every processor has these.
            let (mut below, mut not_above) = (0, 0);
            for &threshold in &TABLE.high[..=TABLE.scanned] {
                let above = u.wrapping_sub(threshold >> 1);
                below += above >> 63;
                not_above += above.wrapping_sub(1) >> 63;
            }
            tie |= below != not_above;
            *out = signed(below as i8, word);
        }
    }
    tie
}

/// Word `i` of a group: its four limbs of 16 bits, the most significant first.
#[inline(always)]
fn word(group: &[u64; GROUP], i: usize) -> u64 {
    let limb = |plane: usize| group[plane * GROUP / 4 + i / 4] >> (16 * (i % 4)) & 0xffff;
    limb(0) << 48 | limb(1) << 32 | limb(2) << 16 | limb(3)
}

#[inline(always)]
fn signed(magnitude: i8, word: u64) -> i8 {
    let sign = -((word & 1) as i8);
    (magnitude ^ sign) - sign
}

/// The sample of both words, by the definition.
fn whole(word: u64, second: u64) -> i8 {
    let below = |(&high, &low): (&u64, &u64)| {
        let u = word & !1;
        i8::from(u < high) | (i8::from(u == high) & i8::from(second < low))
    };
    signed(TABLE.high.iter().zip(&TABLE.low).map(below).sum(), word)
}

/// Whether a backend decides as the scalar one does, ties included.
pub(crate) fn agrees(backend: Backend) -> bool {
    let run = |backend, words: &[u64; BATCH]| {
        let mut out = [0; BATCH];
        let tie = scan(backend, words, &mut out);
        (tie, out)
    };
    probes().iter().all(|words| run(backend, words) == run(Backend::Scalar, words))
}

/// Batches of ordinary words, and of words at, below and above each threshold.
fn probes() -> Vec<[u64; BATCH]> {
    let mut words: Vec<u64> =
        (1..=BATCH as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let edges = |high: u64| {
        // Differing in the first limb, in the second, …
        let steps =
            [48, 32, 16, 1].map(|bit| [high.wrapping_add(1 << bit), high.wrapping_sub(1 << bit)]);
        steps.into_iter().flatten().chain([high, high | 1])
    };
    words.extend(TABLE.high.iter().flat_map(|&high| edges(high)));
    words.resize(words.len().next_multiple_of(BATCH), u64::MAX);
    words.as_chunks::<BATCH>().0.iter().map(laid_out).collect()
}

/// The batch whose words are these: the inverse of [`word`].
fn laid_out(words: &[u64; BATCH]) -> [u64; BATCH] {
    let mut batch = [0; BATCH];
    for (group, words) in
        batch.as_chunks_mut::<GROUP>().0.iter_mut().zip(words.as_chunks::<GROUP>().0)
    {
        for (i, word) in words.iter().enumerate() {
            for plane in 0..4 {
                let limb = word >> (48 - 16 * plane) & 0xffff;
                group[plane * GROUP / 4 + i / 4] |= limb << (16 * (i % 4));
            }
        }
    }
    batch
}

#[cfg(test)]
mod tests;
