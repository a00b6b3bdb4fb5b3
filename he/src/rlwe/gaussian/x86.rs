//! The scan with vector instructions, 32 samples at a time.
//!
//! A threshold with z limbs of zero before its leading limb g exceeds u for certain if the first z
//! limbs of u are zero and its next is below g. So it suffices to compare g with that limb of u, or
//! with 0xffff where the limbs before are not zero. Leading limbs are distinct, so all thresholds
//! above u are counted but one: the next, if its leading limb equals that of u. It is looked up by
//! the count and compared in full; where its leading limb differs it lies below u, and counts not.
//!
//! AVX2 compares with each leading limb. AVX-512 searches by halves: it has shuffles that look up 32
//! limbs at once, and few units that compare.
#![allow(unsafe_code, reason = "vector loads and stores, behind the check of the processor")]

use std::arch::x86_64::*;

use super::table::TABLE;
use super::{BATCH, Backend, GROUP};

pub(super) fn avx2(words: &[u64; BATCH], out: &mut [i8; BATCH]) -> bool {
    assert!(Backend::Avx2.available());
    // SAFETY: the processor has AVX2.
    unsafe { avx2_scan(words, out) }
}

pub(super) fn avx512(words: &[u64; BATCH], out: &mut [i8; BATCH]) -> bool {
    assert!(Backend::Avx512.available());
    // SAFETY: the processor has AVX-512 F and BW.
    unsafe { avx512_scan(words, out) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn avx512_scan(words: &[u64; BATCH], out: &mut [i8; BATCH]) -> bool {
    const SIDE: usize = 4;
    // Loops, not closures: what closures call is compiled without these instructions.
    let zero = _mm512_setzero_si512();
    let one = _mm512_set1_epi16(1);
    let mut table = [[zero; 2]; 4];
    for (table, limb) in table.iter_mut().zip(&TABLE.limbs) {
        for (table, half) in table.iter_mut().zip(limb.as_chunks::<32>().0) {
            // SAFETY: 32 numbers of 16 bits are loaded, from an array of 32.
            *table = unsafe { _mm512_loadu_si512(half.as_ptr().cast()) };
        }
    }
    let mut ties = 0;
    let sides = words.as_chunks::<GROUP>().0.as_chunks::<SIDE>().0;
    for (words, out) in sides.iter().zip(out.as_chunks_mut::<GROUP>().0.as_chunks_mut::<SIDE>().0) {
        let (mut limbs, mut signs) = ([[zero; SIDE]; 4], [0; SIDE]);
        for i in 0..SIDE {
            for (limb, plane) in limbs.iter_mut().zip(words[i].as_chunks::<8>().0) {
                // SAFETY: 8 words are loaded, from an array of 8.
                limb[i] = unsafe { _mm512_loadu_si512(plane.as_ptr().cast()) };
            }
            signs[i] = _mm512_test_epi16_mask(limbs[3][i], one);
            limbs[3][i] = _mm512_andnot_si512(one, limbs[3][i]);
        }
        let mut counts = [zero; SIDE];
        let mut zeros = [!0; SIDE];
        for (class, steps) in STEPS.iter().enumerate() {
            let mut limb = [one; SIDE];
            let mut found = [zero; SIDE];
            for i in 0..SIDE {
                let other = _mm512_set1_epi16(-1);
                limb[i] = _mm512_mask_blend_epi16(zeros[i], other, limbs[class][i]);
                zeros[i] &= _mm512_testn_epi16_mask(limbs[class][i], limbs[class][i]);
            }
            // Only the first class has more than 15.
            for step in usize::from(class > 0)..WIDTHS.len() {
                // SAFETY: 32 numbers of 16 bits are loaded, from an array of 32.
                let leading = unsafe { _mm512_loadu_si512(steps[step].as_ptr().cast()) };
                let step = _mm512_set1_epi16(WIDTHS[step] as i16);
                for i in 0..SIDE {
                    let middle = _mm512_permutexvar_epi16(found[i], leading);
                    let below = _mm512_cmplt_epu16_mask(limb[i], middle);
                    found[i] = _mm512_mask_add_epi16(found[i], below, found[i], step);
                }
            }
            for i in 0..SIDE {
                counts[i] = _mm512_add_epi16(counts[i], found[i]);
            }
        }
        for i in 0..SIDE {
            let (mut below, mut equal) = (0, !0);
            for (limb, [a, b]) in limbs.iter().zip(table) {
                let next = _mm512_permutex2var_epi16(a, counts[i], b);
                below |= equal & _mm512_cmplt_epu16_mask(limb[i], next);
                equal &= _mm512_cmpeq_epu16_mask(limb[i], next);
            }
            ties |= equal;
            let count = _mm512_mask_add_epi16(counts[i], below, counts[i], one);
            let sample = _mm512_mask_sub_epi16(count, signs[i], zero, count);
            // SAFETY: 32 bytes are stored, into an array of 32.
            unsafe {
                _mm256_storeu_si256(out[i].as_mut_ptr().cast(), _mm512_cvtepi16_epi8(sample))
            };
        }
    }
    ties != 0
}

/// Widths of the steps of a search among up to 31 thresholds.
const WIDTHS: [usize; 5] = [16, 8, 4, 2, 1];

/// For each class and step of a search in it: the leading limb to compare with when so many
/// thresholds are known to lie above, or 0 after the last.
static STEPS: [[[u16; 32]; 5]; 4] = {
    let mut steps = [[[0; 32]; 5]; 4];
    let mut i = 0;
    while i < 4 * 5 * 32 {
        let (class, step, found) = (i / 160, i / 32 % 5, i % 32);
        let (from, to) = (TABLE.classes[class], TABLE.classes[class + 1]);
        assert!(to - from < if class == 0 { 32 } else { 16 });
        let k = from + found + WIDTHS[step] - 1;
        if k < to {
            steps[class][step][found] = TABLE.leading[k];
        }
        i += 1;
    }
    steps
};

/// Numbers are kept with the top bit flipped: the instructions compare signed ones.
const FLIP: i16 = i16::MIN;

/// Low and high bytes of the limbs of thresholds, top bit flipped, in tables of 16.
type Bytes = [[[u8; 16]; 4]; 2];

static BYTES: [Bytes; 4] = {
    let mut bytes = [[[[0; 16]; 4]; 2]; 4];
    let mut i = 0;
    while i < 4 * 64 {
        let (limb, k) = (i / 64, i % 64);
        let [low, high] = (TABLE.limbs[limb][k] ^ 0x8000).to_le_bytes();
        bytes[limb][0][k / 16][k % 16] = low;
        bytes[limb][1][k / 16][k % 16] = high;
        i += 1;
    }
    bytes
};

#[target_feature(enable = "avx2")]
fn avx2_scan(words: &[u64; BATCH], out: &mut [i8; BATCH]) -> bool {
    let flip = _mm256_set1_epi16(FLIP);
    let zero = _mm256_setzero_si256();
    let one = _mm256_set1_epi16(1);
    let mut ties = zero;
    for (group, out) in words.as_chunks::<GROUP>().0.iter().zip(out.as_chunks_mut::<GROUP>().0) {
        // Two halves of 16 samples.
        let mut limbs = [[zero; 2]; 4];
        for (limb, halves) in limbs.iter_mut().zip(group.as_chunks::<4>().0.as_chunks::<2>().0) {
            for (limb, half) in limb.iter_mut().zip(halves) {
                // SAFETY: 4 words are loaded, from an array of 4.
                *limb = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
            }
        }
        let mut signs = [zero; 2];
        for (sign, limb) in signs.iter_mut().zip(&mut limbs[3]) {
            *sign = _mm256_sub_epi16(zero, _mm256_and_si256(*limb, one));
            *limb = _mm256_andnot_si256(one, *limb);
        }
        let mut counts = [zero; 2];
        let mut zeros = [_mm256_set1_epi16(-1); 2];
        for (class, ends) in TABLE.classes.array_windows().enumerate() {
            let [from, to] = *ends;
            let mut limb = [zero; 2];
            for half in 0..2 {
                let x = limbs[class][half];
                let other = _mm256_set1_epi16(!FLIP);
                limb[half] = _mm256_blendv_epi8(other, _mm256_xor_si256(x, flip), zeros[half]);
                zeros[half] = _mm256_and_si256(zeros[half], _mm256_cmpeq_epi16(x, zero));
            }
            for &leading in &TABLE.leading[from..to] {
                let leading = _mm256_set1_epi16(leading.cast_signed() ^ FLIP);
                for half in 0..2 {
                    let below = _mm256_cmpgt_epi16(leading, limb[half]);
                    counts[half] = _mm256_sub_epi16(counts[half], below);
                }
            }
        }
        let index = indices(_mm256_packus_epi16(counts[0], counts[1]));
        let mut below = [zero; 2];
        let mut equal = [_mm256_set1_epi16(-1); 2];
        for (limb, bytes) in limbs.into_iter().zip(&BYTES) {
            let (low, high) = (look_up(&bytes[0], index), look_up(&bytes[1], index));
            let next = [_mm256_unpacklo_epi8(low, high), _mm256_unpackhi_epi8(low, high)];
            for half in 0..2 {
                let limb = _mm256_xor_si256(limb[half], flip);
                let less = _mm256_cmpgt_epi16(next[half], limb);
                below[half] = _mm256_or_si256(below[half], _mm256_and_si256(equal[half], less));
                let same = _mm256_cmpeq_epi16(next[half], limb);
                equal[half] = _mm256_and_si256(equal[half], same);
            }
        }
        ties = _mm256_or_si256(ties, _mm256_or_si256(equal[0], equal[1]));
        for half in 0..2 {
            let count = _mm256_sub_epi16(counts[half], below[half]);
            counts[half] = _mm256_sub_epi16(_mm256_xor_si256(count, signs[half]), signs[half]);
        }
        let samples = _mm256_packs_epi16(counts[0], counts[1]);
        let samples = _mm256_permute4x64_epi64::<0b11_01_10_00>(samples);
        // SAFETY: 32 bytes are stored, into an array of 32.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), samples) };
    }
    _mm256_testz_si256(ties, ties) == 0
}

/// Indices below 64 for each of four tables of 16: the top bit, which makes a shuffle give zero, is
/// set unless the index falls into the table.
#[target_feature(enable = "avx2")]
#[inline]
fn indices(index: __m256i) -> [__m256i; 4] {
    let mut indices = [index; 4];
    for (within, from) in indices.iter_mut().zip([0, 16, 32, 48]) {
        *within = _mm256_sub_epi8(*within, _mm256_set1_epi8(from));
        *within = _mm256_adds_epu8(*within, _mm256_set1_epi8(0x70));
    }
    indices
}

#[target_feature(enable = "avx2")]
#[inline]
fn look_up(tables: &[[u8; 16]; 4], index: [__m256i; 4]) -> __m256i {
    let mut found = _mm256_setzero_si256();
    for (table, index) in tables.iter().zip(index) {
        // SAFETY: 16 bytes are loaded, from an array of 16.
        let table = unsafe { _mm_loadu_si128(table.as_ptr().cast()) };
        let part = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(table), index);
        found = _mm256_or_si256(found, part);
    }
    found
}
