//! Shamir's sharing of a key polynomial over the field of 65537 elements.
//!
//! ```text
//!   key: N small signed coefficients ──deal──▶ one Share (N field elements) a receiver
//!   Σ of the shares that one receiver holds = its share of Σ of the keys ──reconstruct──▶ Σ keys
//! ```
//! Each coefficient is shared by itself, by a polynomial of degree at most t − 1 whose value at 0 is
//! the coefficient and whose value at point j, roster index plus one, is receiver j's share. Any
//! t − 1 shares are uniform whatever the key is; any t determine it. (Shamir 1979.)
//!
//! The sum of the keys is exact because K·84 stays below 32768 for the K sites it is over. Shares
//! are added without a look at who dealt them, so when they turn out not to fit together, it was a
//! dealer or an answerer, and nobody can be named.

use privet_crypto::{DecodeError, Words};
use zeroize::Zeroizing;

use crate::coding::params::{CUT, MAX_SITES};

const FIELD: u32 = 65_537;

/// Bits of a field element on the wire.
const BITS: u32 = 17;

/// Coefficients that are dealt at a time; their polynomials stay in the processor's cache.
const STRIP: usize = 128;

/// Why keys could not be shared or their sum not be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShamirError {
    /// More sites than the field can add up exactly.
    #[error("sharing is exact for 1 to {MAX_SITES} sites; lower the number of sites")]
    Sites,
    /// No threshold for this number of sites.
    #[error("the threshold must be between 1 and the number of sites")]
    Threshold,
    /// A key coefficient beyond the sampler's cut. A bug of ours.
    #[error("a key coefficient is larger than its sampler allows; please report this")]
    KeyOutOfRange,
    /// Shares of different lengths.
    #[error("the shares differ in length; check that all sites use one parameter set")]
    Length,
    /// A point is 0, beyond the most sites, or given twice.
    #[error("each share needs a point of its own between 1 and {MAX_SITES}")]
    Points,
    /// Fewer shares than the threshold.
    #[error("fewer sites answered than the threshold; run the round again")]
    TooFew,
    /// The shares do not lie on one polynomial.
    #[error(
        "the shares do not fit together: a site dealt or answered wrongly, and the shares cannot \
         tell which; run the round again, with an audit of the dealers if it recurs"
    )]
    Inconsistent,
    /// The sum is none of this many keys.
    #[error("the sum of the keys is larger than these sites' keys can be; run the round again")]
    SumOutOfRange,
}

/// One receiver's share of a key, or of a sum of keys. Erased when dropped; neither printed nor
/// copied.
pub struct Share(Zeroizing<Vec<u32>>);

impl Share {
    /// Number of field elements.
    #[expect(clippy::len_without_is_empty, reason = "a share of no coefficients is of no use")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds a share that the same receiver got from another dealer.
    ///
    /// # Errors
    /// When the lengths differ.
    pub fn add(&mut self, other: &Share) -> Result<(), ShamirError> {
        if self.len() != other.len() {
            return Err(ShamirError::Length);
        }
        for (sum, &value) in self.0.iter_mut().zip(other.0.iter()) {
            *sum = canonical(*sum + value);
        }
        Ok(())
    }

    /// Bytes of an encoded share of `len` elements.
    pub const fn encoded_len(len: usize) -> usize {
        (len * BITS as usize).div_ceil(8)
    }

    /// 17 bits an element, the low bits first, the last byte padded with zeros.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(Self::encoded_len(self.len())));
        let (mut bits, mut held) = (0u64, 0);
        for &value in self.0.iter() {
            bits |= u64::from(value) << held;
            held += BITS;
            while held >= 8 {
                bytes.push(bits as u8);
                bits >>= 8;
                held -= 8;
            }
        }
        if held > 0 {
            bytes.push(bits as u8);
        }
        bytes
    }

    /// Reads a share of `len` elements.
    ///
    /// # Errors
    /// When the bytes are too few or too many, an element is 65537 or more, or the padding not
    /// zero.
    pub fn decode(bytes: &[u8], len: usize) -> Result<Self, DecodeError> {
        match bytes.len().cmp(&Self::encoded_len(len)) {
            std::cmp::Ordering::Less => return Err(DecodeError::Short("share")),
            std::cmp::Ordering::Greater => return Err(DecodeError::Trailing),
            std::cmp::Ordering::Equal => {}
        }
        let mut values = Zeroizing::new(Vec::with_capacity(len));
        let (mut bits, mut held) = (0u64, 0);
        for &byte in bytes {
            bits |= u64::from(byte) << held;
            held += 8;
            if held >= BITS {
                let value = bits as u32 & ((1 << BITS) - 1);
                if value >= FIELD {
                    return Err(DecodeError::Invalid("share"));
                }
                values.push(value);
                bits >>= BITS;
                held -= BITS;
            }
        }
        if bits != 0 {
            return Err(DecodeError::Invalid("share padding"));
        }
        Ok(Self(values))
    }
}

/// Shares a key among `sites` receivers, any `threshold` of whom can rebuild it. Share number i is
/// for point i + 1.
///
/// # Errors
/// When there are no sites or too many, no such threshold, or a coefficient beyond ±84.
pub fn deal(
    key: &[i8],
    threshold: usize,
    sites: usize,
    words: &mut Words,
) -> Result<Vec<Share>, ShamirError> {
    if sites == 0 || sites > MAX_SITES as usize {
        return Err(ShamirError::Sites);
    }
    if threshold == 0 || threshold > sites {
        return Err(ShamirError::Threshold);
    }
    // Without an early exit, as everything here that touches the key.
    if key.iter().fold(0, |most, s| s.unsigned_abs().max(most)) > CUT as u8 {
        return Err(ShamirError::KeyOutOfRange);
    }
    let mut shares: Vec<_> =
        (0..sites).map(|_| Share(Zeroizing::new(Vec::with_capacity(key.len())))).collect();
    let mut polynomials = Zeroizing::new(vec![[0; STRIP]; threshold]);
    let mut values = Zeroizing::new([0; STRIP]);
    for strip in key.chunks(STRIP) {
        let (constant, others) = polynomials.split_at_mut(1);
        for (value, &s) in constant[0].iter_mut().zip(strip) {
            *value = canonical(FIELD.wrapping_add_signed(i32::from(s)));
        }
        // The highest coefficient may be 0 as any other: ruling that out would bias the shares.
        others.iter_mut().for_each(|row| fill_uniform(row, words));
        for (share, point) in shares.iter_mut().zip(1..) {
            evaluate(&polynomials, point, &mut values);
            share.0.extend_from_slice(&values[..strip.len()]);
        }
    }
    Ok(shares)
}

/// The sum of the keys of `survivors` sites, from (point, sum of the shares held at that point).
/// Every answer beyond the first `threshold` is checked to lie on the polynomials of those.
///
/// # Errors
/// When an argument is out of its range, answers are too few, of different lengths, at equal
/// points or not on one polynomial of degree at most `threshold` − 1, or the sum is beyond
/// ±84·`survivors`. With exactly `threshold` answers only the last can be seen.
pub fn reconstruct(
    answers: &[(u32, Share)],
    threshold: usize,
    survivors: u32,
) -> Result<Vec<i32>, ShamirError> {
    if survivors == 0 || survivors > MAX_SITES {
        return Err(ShamirError::Sites);
    }
    if threshold == 0 {
        return Err(ShamirError::Threshold);
    }
    let mut seen = [false; MAX_SITES as usize + 1];
    for &(point, _) in answers {
        let taken = seen.get_mut(point as usize).ok_or(ShamirError::Points)?;
        if point == 0 || std::mem::replace(taken, true) {
            return Err(ShamirError::Points);
        }
    }
    let (base, further) = answers.split_at_checked(threshold).ok_or(ShamirError::TooFew)?;
    if answers.iter().any(|(_, share)| share.len() != answers[0].1.len()) {
        return Err(ShamirError::Length);
    }
    for (point, share) in further {
        if interpolate(base, *point) != *share.0 {
            return Err(ShamirError::Inconsistent);
        }
    }
    let most = survivors as i32 * CUT as i32;
    let centred = |value: u32| {
        let value = if value > FIELD / 2 { value as i32 - FIELD as i32 } else { value as i32 };
        if value.abs() <= most { Ok(value) } else { Err(ShamirError::SumOutOfRange) }
    };
    interpolate(base, 0).into_iter().map(centred).collect()
}

/// v mod 65537 for v < 2·65537.
fn canonical(v: u32) -> u32 {
    v.min(v.wrapping_sub(FIELD))
}

/// A number below 2^17 + 1 that is v mod 65537: 2^16 is −1.
fn fold(v: u32) -> u32 {
    (v & 0xffff) + FIELD - (v >> 16)
}

/// Uniform elements by rejection. 65535·65537 = 2^32 − 1, so all 32-bit numbers but one fall
/// evenly on the field.
fn fill_uniform(out: &mut [u32], words: &mut Words) {
    let mut spare = None;
    let mut half = || {
        spare.take().unwrap_or_else(|| {
            let word = words.word();
            spare = Some((word >> 32) as u32);
            word as u32
        })
    };
    for value in out {
        let mut candidate = half();
        while candidate == u32::MAX {
            candidate = half();
        }
        *value = canonical(fold(candidate));
    }
}

/// The polynomials' values at a point of at most [`MAX_SITES`], by Horner's rule; row k holds the
/// coefficients of degree k.
fn evaluate(rows: &[[u32; STRIP]], point: u32, values: &mut [u32; STRIP]) {
    values.fill(0);
    for row in rows.iter().rev() {
        for (value, &coefficient) in values.iter_mut().zip(row) {
            // At most 2^17·390 + 2^16 before the fold.
            *value = fold(*value * point + coefficient);
        }
    }
    values.iter_mut().for_each(|value| *value = canonical(*value));
}

/// The values at `x` of the polynomials through the answers.
fn interpolate(answers: &[(u32, Share)], x: u32) -> Vec<u32> {
    let mut sums = vec![0u64; answers.first().map_or(0, |(_, share)| share.len())];
    for (j, (_, share)) in answers.iter().enumerate() {
        let weight = lagrange(answers, j, x);
        for (sum, &value) in sums.iter_mut().zip(share.0.iter()) {
            // At most 390·2^32.
            *sum += weight * u64::from(value);
        }
    }
    sums.into_iter().map(|sum| (sum % u64::from(FIELD)) as u32).collect()
}

/// Lagrange's coefficient of answer j for the value at `x`.
fn lagrange(answers: &[(u32, Share)], j: usize, x: u32) -> u64 {
    let field = u64::from(FIELD);
    let at = answers[j].0;
    let minus = |a: u32, b: u32| (u64::from(a) + field - u64::from(b)) % field;
    let (mut above, mut below) = (1, 1);
    for &(point, _) in answers.iter().filter(|(point, _)| *point != at) {
        above = above * minus(x, point) % field;
        below = below * minus(at, point) % field;
    }
    // The inverse is the power of 65535, by Fermat; squared and multiplied 15 times.
    let inverse = (0..15).fold(below, |power, _| power * power % field * below % field);
    above * inverse % field
}

#[cfg(test)]
mod tests;
