//! Transposition of a matrix of residues.

use crate::rlwe::backend::Backend;

/// Writes the matrix of `rows` rows in `from` into `to`, column by column. Sides are multiples of
/// 16.
pub(super) fn transpose(backend: Backend, from: &[u32], rows: usize, to: &mut [u32]) {
    let columns = from.len() / rows;
    assert!(from.len() == to.len() && rows * columns == from.len());
    assert!(rows.is_multiple_of(16) && columns.is_multiple_of(16));
    match backend {
        #[cfg(target_arch = "x86_64")]
        Backend::Avx2 if backend.available() => x86::avx2(from, rows, columns, to),
        #[cfg(target_arch = "x86_64")]
        Backend::Avx512 if backend.available() => x86::avx512(from, rows, columns, to),
        _ => {
            for (r, row) in from.chunks_exact(columns).enumerate() {
                for (&x, column) in row.iter().zip(to.chunks_exact_mut(rows)) {
                    column[r] = x;
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vector loads and stores, behind the check of the processor")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Backend;

    pub(super) fn avx2(from: &[u32], rows: usize, columns: usize, to: &mut [u32]) {
        assert!(Backend::Avx2.available());
        // SAFETY: the processor has AVX2.
        unsafe { avx2_tiles(from, rows, columns, to) }
    }

    pub(super) fn avx512(from: &[u32], rows: usize, columns: usize, to: &mut [u32]) {
        assert!(Backend::Avx512.available());
        // SAFETY: the processor has AVX-512F.
        unsafe { avx512_tiles(from, rows, columns, to) }
    }

    #[target_feature(enable = "avx2")]
    fn avx2_tiles(from: &[u32], rows: usize, columns: usize, to: &mut [u32]) {
        for r in (0..rows).step_by(8) {
            for c in (0..columns).step_by(8) {
                let mut tile = [_mm256_setzero_si256(); 8];
                for (k, lane) in tile.iter_mut().enumerate() {
                    let part: &[u32; 8] =
                        from[(r + k) * columns + c..].first_chunk().unwrap_or(&[0; 8]);
                    // SAFETY: 8 numbers are loaded, from an array of 8.
                    *lane = unsafe { _mm256_loadu_si256(part.as_ptr().cast()) };
                }
                let tile = avx2_tile(tile);
                for (k, &lane) in tile.iter().enumerate() {
                    let Some(part) = to[(c + k) * rows + r..].first_chunk_mut::<8>() else {
                        return;
                    };
                    // SAFETY: 8 numbers are stored, into an array of 8.
                    unsafe { _mm256_storeu_si256(part.as_mut_ptr().cast(), lane) };
                }
            }
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn avx2_tile(x: [__m256i; 8]) -> [__m256i; 8] {
        let low = |a, b| _mm256_unpacklo_epi32(a, b);
        let high = |a, b| _mm256_unpackhi_epi32(a, b);
        let pair = |k: usize| (low(x[k], x[k + 1]), high(x[k], x[k + 1]));
        let quad = |k: usize| {
            let ((a, b), (c, d)) = (pair(k), pair(k + 2));
            [
                _mm256_unpacklo_epi64(a, c),
                _mm256_unpackhi_epi64(a, c),
                _mm256_unpacklo_epi64(b, d),
                _mm256_unpackhi_epi64(b, d),
            ]
        };
        let (p, q) = (quad(0), quad(4));
        let [a, b, c, d] = [0, 1, 2, 3].map(|k| _mm256_permute2x128_si256::<0x20>(p[k], q[k]));
        let [e, f, g, h] = [0, 1, 2, 3].map(|k| _mm256_permute2x128_si256::<0x31>(p[k], q[k]));
        [a, b, c, d, e, f, g, h]
    }

    #[target_feature(enable = "avx512f")]
    fn avx512_tiles(from: &[u32], rows: usize, columns: usize, to: &mut [u32]) {
        for r in (0..rows).step_by(16) {
            for c in (0..columns).step_by(16) {
                let mut tile = [_mm512_setzero_si512(); 16];
                for (k, lane) in tile.iter_mut().enumerate() {
                    let Some(part) = from[(r + k) * columns + c..].first_chunk::<16>() else {
                        return;
                    };
                    // SAFETY: 16 numbers are loaded, from an array of 16.
                    *lane = unsafe { _mm512_loadu_si512(part.as_ptr().cast()) };
                }
                let tile = avx512_tile(tile);
                for (k, &lane) in tile.iter().enumerate() {
                    let Some(part) = to[(c + k) * rows + r..].first_chunk_mut::<16>() else {
                        return;
                    };
                    // SAFETY: 16 numbers are stored, into an array of 16.
                    unsafe { _mm512_storeu_si512(part.as_mut_ptr().cast(), lane) };
                }
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn avx512_tile(x: [__m512i; 16]) -> [__m512i; 16] {
        // After `quad(k)`, vector j holds in its quarter g column 4g + j of rows k … k + 3.
        let quad = |k: usize| {
            let a = _mm512_unpacklo_epi32(x[k], x[k + 1]);
            let b = _mm512_unpackhi_epi32(x[k], x[k + 1]);
            let c = _mm512_unpacklo_epi32(x[k + 2], x[k + 3]);
            let d = _mm512_unpackhi_epi32(x[k + 2], x[k + 3]);
            [
                _mm512_unpacklo_epi64(a, c),
                _mm512_unpackhi_epi64(a, c),
                _mm512_unpacklo_epi64(b, d),
                _mm512_unpackhi_epi64(b, d),
            ]
        };
        let rows = [quad(0), quad(4), quad(8), quad(12)];
        let mut out = x;
        for j in 0..4 {
            let [a, b, c, d] = [rows[0][j], rows[1][j], rows[2][j], rows[3][j]];
            let ab = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b); // quarters 0, 2 of both
            let cd = _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
            out[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd);
            out[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd);
            let ab = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b); // quarters 1, 3
            let cd = _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
            out[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd);
            out[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_transposes() {
        let from: Vec<u32> = (0..16 * 48).collect();
        for backend in Backend::ALL {
            let (mut to, mut back) = (vec![0; from.len()], vec![0; from.len()]);
            transpose(backend, &from, 16, &mut to);
            assert!((0..48).all(|c| (0..16).all(|r| to[16 * c + r] == from[48 * r + c])));
            transpose(backend, &to, 48, &mut back);
            assert_eq!(from, back);
        }
    }
}
