//! What is done to each number of a block. The vectors are the compiler's.

use crate::rlwe::backend::kernel;
use crate::rlwe::ring::Modulus;

kernel! {
    /// Whether all magnitudes are at most `bound`.
    pub(crate) fn within(messages: &[i64], bound: i64) -> bool = all_within;
}
kernel! {
    /// Adds messages up to `bound` in magnitude, and errors, to residues.
    pub(super) fn add_messages(
        m: Modulus,
        bound: i64,
        messages: &[i64],
        errors: &[i8],
        out: &mut [u32],
    ) = plus_messages;
}
kernel! {
    /// Replaces residues by `from` less them; false if some of `from` are no residues.
    pub(super) fn subtract_from(m: Modulus, from: &[u32], residues: &mut [u32]) -> bool = from_minus;
}
kernel! {
    /// Residues as signed integers around zero.
    pub(super) fn centre(p: u32, residues: &[u32], out: &mut [i64]) = centred;
}
kernel! {
    /// The signed integers around zero that have these residues modulo two primes.
    pub(super) fn combine(one: Modulus, two: Modulus, a: &[u32], b: &[u32], out: &mut [i64]) = combined;
}
kernel! {
    /// Adds residues; false, and nothing added, if some of `upload` are none.
    pub(super) fn add_residues(m: Modulus, upload: &[u32], sum: &mut [u32]) -> bool = plus_residues;
}

#[inline(always)]
fn all_within(messages: &[i64], bound: i64) -> bool {
    let mut outside = 0;
    for &message in messages {
        outside |= bound.wrapping_sub(message) | bound.wrapping_add(message);
    }
    outside >= 0
}

#[inline(always)]
fn plus_messages(m: Modulus, bound: i64, messages: &[i64], errors: &[i8], out: &mut [u32]) {
    // A multiple of p makes the sum positive: below 2·(bound + p + 2^7), less than 2^63.
    let p = i64::from(m.p);
    let positive = p * (bound / p + 1);
    // 2^31 mod p, to fold what lies above 31 bits.
    let fold = m.factor((1 << 31) - m.p);
    for ((out, &message), &error) in out.iter_mut().zip(messages).zip(errors) {
        let x = (message + i64::from(error) + positive).cast_unsigned();
        let low = m.once(x as u32 & u32::MAX >> 1);
        let x = m.add(m.mul((x >> 31) as u32, fold.w, fold.quotient), low);
        *out = m.add(*out, x);
    }
}

#[inline(always)]
fn from_minus(m: Modulus, from: &[u32], residues: &mut [u32]) -> bool {
    let mut largest = 0;
    for (residue, &from) in residues.iter_mut().zip(from) {
        largest = largest.max(from);
        *residue = m.sub(from, *residue);
    }
    largest < m.p
}

#[inline(always)]
fn centred(p: u32, residues: &[u32], out: &mut [i64]) {
    for (out, &x) in out.iter_mut().zip(residues) {
        let above = u32::from(x > p / 2).wrapping_neg() & p;
        *out = i64::from(x.wrapping_sub(above).cast_signed());
    }
}

#[inline(always)]
fn combined(one: Modulus, two: Modulus, a: &[u32], b: &[u32], out: &mut [i64]) {
    let inverse = two.factor(two.inverse(two.once(one.p)));
    let modulus = u64::from(one.p) * u64::from(two.p);
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        // x = a + p1·t with t = (b − a)/p1 mod p2. As p1 < 2·p2, one step reduces a.
        let t = two.mul(two.sub(b, two.once(a)), inverse.w, inverse.quotient);
        let x = u64::from(a) + u64::from(one.p) * u64::from(t);
        let above = u64::from(x > modulus / 2).wrapping_neg() & modulus;
        *out = x.wrapping_sub(above).cast_signed();
    }
}

#[inline(always)]
fn plus_residues(m: Modulus, upload: &[u32], sum: &mut [u32]) -> bool {
    let mut largest = 0;
    for &upload in upload {
        largest = largest.max(upload);
    }
    if largest >= m.p {
        return false;
    }
    for (sum, &upload) in sum.iter_mut().zip(upload) {
        *sum = m.add(*sum, upload);
    }
    true
}
