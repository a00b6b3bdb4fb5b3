//! A block of trials: one word each, one gather, one comparison.
//!
//! ```text
//!   word   63      52 51          32 31      16 15       0
//!          │ column  │ own or other │ squeeze  │ offset   │
//! ```
//! What the squeeze does not accept at once is left to the caller, lane by lane in order. All
//! backends give the same integers and leave the same lanes open, bit for bit.

use std::sync::OnceLock;

use privet_crypto::Backend;

use super::law::Law;
use super::table::{COLUMNS, Table};

/// Draws of a block.
pub(super) const BLOCK: usize = 2048;

/// A block of integers, or of random words.
pub(super) type Block<T> = [T; BLOCK];

/// The fastest that this processor can run, and that gives a block of trials as the scalar one does.
pub(super) fn fastest() -> Backend {
    static FASTEST: OnceLock<Backend> = OnceLock::new();
    *FASTEST.get_or_init(|| Backend::fastest(agrees))
}

fn agrees(backend: Backend) -> bool {
    let table = Table::new(Law::Gaussian { sigma: 5000.0 });
    // Any words will do; these are Weyl's.
    let words: Block<u64> =
        std::array::from_fn(|i| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let run = |backend: Backend| {
        let (mut out, mut open) = ([0; BLOCK], [0; BLOCK / 8]);
        run_on(backend, &table, &words, &words, &mut out, &mut open);
        (out, open)
    };
    run(backend) == run(Backend::Scalar)
}

/// Runs a block of trials: an integer for each word, and in `open` a set bit for each that the
/// squeeze did not accept. `offsets` are the words whose low bits choose the integer of a
/// strip: `words` themselves, unless strips are wider than 16 bits.
pub(super) fn run_on(
    backend: Backend,
    table: &Table,
    words: &Block<u64>,
    offsets: &Block<u64>,
    out: &mut Block<i64>,
    open: &mut [u8; BLOCK / 8],
) {
    match backend {
        #[cfg(target_arch = "x86_64")]
        Backend::Avx2 if backend.available() => x86::avx2(table, words, offsets, out, open),
        #[cfg(target_arch = "x86_64")]
        Backend::Avx512 if backend.available() => x86::avx512(table, words, offsets, out, open),
        _ => scalar(table, words, offsets, out, open),
    }
}

/// The bin that a word chooses, and whether the squeeze accepts it at once.
#[inline(always)]
pub(super) fn trial(table: &Table, word: u64) -> (u64, bool) {
    let column = word >> 52;
    let entry = table.columns[column as usize % COLUMNS];
    let own = word >> 32 & 0xf_ffff < entry >> 44;
    let (bin, squeeze) = match own {
        true => (column, entry >> 16 & 0xffff),
        false => (entry >> 32 & 0xfff, entry & 0xffff),
    };
    (bin, (word >> 16 & 0xffff) < squeeze)
}

/// The integer of a strip that an offset chooses.
#[inline(always)]
pub(super) fn integer(table: &Table, bin: u64, offset: u64) -> i64 {
    let mask = (1u64 << table.strip_bits) - 1;
    ((bin as i64 - table.strips) << table.strip_bits) + (offset & mask) as i64
}

fn scalar(
    table: &Table,
    words: &Block<u64>,
    offsets: &Block<u64>,
    out: &mut Block<i64>,
    open: &mut [u8; BLOCK / 8],
) {
    let lanes = words.chunks_exact(8).zip(offsets.chunks_exact(8)).zip(out.chunks_exact_mut(8));
    for (((words, offsets), out), open) in lanes.zip(open) {
        *open = 0;
        for (lane, ((&word, &offset), out)) in words.iter().zip(offsets).zip(out).enumerate() {
            let (bin, accepted) = trial(table, word);
            *out = integer(table, bin, offset);
            *open |= u8::from(!accepted) << lane;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector instructions, behind the check that the processor has them")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Block, Table};

    pub(super) fn avx2(
        table: &Table,
        words: &Block<u64>,
        offsets: &Block<u64>,
        out: &mut Block<i64>,
        open: &mut [u8; BLOCK / 8],
    ) {
        assert!(super::Backend::Avx2.available());
        // SAFETY: the processor has AVX2.
        unsafe { avx2_lanes(table, words, offsets, out, open) }
    }

    pub(super) fn avx512(
        table: &Table,
        words: &Block<u64>,
        offsets: &Block<u64>,
        out: &mut Block<i64>,
        open: &mut [u8; BLOCK / 8],
    ) {
        assert!(super::Backend::Avx512.available());
        // SAFETY: the processor has AVX-512F.
        unsafe { avx512_lanes(table, words, offsets, out, open) }
    }

    #[target_feature(enable = "avx2")]
    fn avx2_lanes(
        table: &Table,
        words: &Block<u64>,
        offsets: &Block<u64>,
        out: &mut Block<i64>,
        open: &mut [u8; BLOCK / 8],
    ) {
        let columns = table.columns.as_ptr().cast::<i64>();
        let low16 = _mm256_set1_epi64x(0xffff);
        let low12 = _mm256_set1_epi64x(0xfff);
        let low20 = _mm256_set1_epi64x(0xf_ffff);
        let mask = _mm256_set1_epi64x((1i64 << table.strip_bits) - 1);
        let strips = _mm256_set1_epi64x(table.strips);
        let bits = _mm_cvtsi64_si128(i64::from(table.strip_bits));
        let four = |words: &[u64; 4], offsets: &[u64; 4], out: &mut [i64; 4]| {
            // SAFETY: loads and stores are of four 64-bit numbers, which the arrays hold; a column
            // has 12 bits and the table 2^12 words.
            let (word, offset, entry) = unsafe {
                let word = _mm256_loadu_si256(words.as_ptr().cast());
                let offset = _mm256_loadu_si256(offsets.as_ptr().cast());
                let column = _mm256_srli_epi64::<52>(word);
                (word, offset, _mm256_i64gather_epi64::<8>(columns, column))
            };
            let column = _mm256_srli_epi64::<52>(word);
            let token = _mm256_and_si256(_mm256_srli_epi64::<32>(word), low20);
            let own = _mm256_cmpgt_epi64(_mm256_srli_epi64::<44>(entry), token);
            let other = _mm256_and_si256(_mm256_srli_epi64::<32>(entry), low12);
            let bin = _mm256_blendv_epi8(other, column, own);
            let squeeze = _mm256_blendv_epi8(entry, _mm256_srli_epi64::<16>(entry), own);
            let squeeze = _mm256_and_si256(squeeze, low16);
            let u = _mm256_and_si256(_mm256_srli_epi64::<16>(word), low16);
            let accepted = _mm256_cmpgt_epi64(squeeze, u);
            let base = _mm256_sll_epi64(_mm256_sub_epi64(bin, strips), bits);
            let x = _mm256_add_epi64(base, _mm256_and_si256(offset, mask));
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), x) };
            !_mm256_movemask_pd(_mm256_castsi256_pd(accepted)) as u8 & 0xf
        };
        let words = words.as_chunks::<4>().0.as_chunks::<2>().0;
        let offsets = offsets.as_chunks::<4>().0.as_chunks::<2>().0;
        let out = out.as_chunks_mut::<4>().0.as_chunks_mut::<2>().0;
        for (((words, offsets), out), open) in words.iter().zip(offsets).zip(out).zip(open) {
            let low = four(&words[0], &offsets[0], &mut out[0]);
            *open = low | four(&words[1], &offsets[1], &mut out[1]) << 4;
        }
    }

    #[target_feature(enable = "avx512f")]
    fn avx512_lanes(
        table: &Table,
        words: &Block<u64>,
        offsets: &Block<u64>,
        out: &mut Block<i64>,
        open: &mut [u8; BLOCK / 8],
    ) {
        let columns = table.columns.as_ptr().cast::<i64>();
        let low16 = _mm512_set1_epi64(0xffff);
        let low12 = _mm512_set1_epi64(0xfff);
        let low20 = _mm512_set1_epi64(0xf_ffff);
        let mask = _mm512_set1_epi64((1i64 << table.strip_bits) - 1);
        let strips = _mm512_set1_epi64(table.strips);
        let bits = _mm_cvtsi64_si128(i64::from(table.strip_bits));
        let words = words.as_chunks::<8>().0;
        let offsets = offsets.as_chunks::<8>().0;
        let out = out.as_chunks_mut::<8>().0;
        for (((words, offsets), out), open) in words.iter().zip(offsets).zip(out).zip(open) {
            // SAFETY: loads and stores are of eight 64-bit numbers, which the arrays hold; a column
            // has 12 bits and the table 2^12 words.
            let (word, offset, entry) = unsafe {
                let word = _mm512_loadu_si512(words.as_ptr().cast());
                let offset = _mm512_loadu_si512(offsets.as_ptr().cast());
                let column = _mm512_srli_epi64::<52>(word);
                (word, offset, _mm512_i64gather_epi64::<8>(column, columns))
            };
            let column = _mm512_srli_epi64::<52>(word);
            let token = _mm512_and_si512(_mm512_srli_epi64::<32>(word), low20);
            let own = _mm512_cmpgt_epu64_mask(_mm512_srli_epi64::<44>(entry), token);
            let other = _mm512_and_si512(_mm512_srli_epi64::<32>(entry), low12);
            let bin = _mm512_mask_blend_epi64(own, other, column);
            let squeeze = _mm512_mask_blend_epi64(own, entry, _mm512_srli_epi64::<16>(entry));
            let squeeze = _mm512_and_si512(squeeze, low16);
            let u = _mm512_and_si512(_mm512_srli_epi64::<16>(word), low16);
            *open = !_mm512_cmpgt_epu64_mask(squeeze, u);
            let base = _mm512_sll_epi64(_mm512_sub_epi64(bin, strips), bits);
            let x = _mm512_add_epi64(base, _mm512_and_si512(offset, mask));
            // SAFETY: as above.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) };
        }
    }
}
