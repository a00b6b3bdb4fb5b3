//! U < S·2^k/g · exp(−y)? Decided exactly, for a uniform real U that is revealed as far as needed.
//!
//! Floats decide first. Their answer stands when U is further from the product than a radius of
//! 2^-38 of it, which is 32 times the error that they can have (below). What they leave
//! open, about one decision in 2^37, integers decide: the exponential is enclosed in an interval
//! and U in another; while they overlap, both are made finer. That ends with probability one.
//!
//! **Error of the floats.** y ≤ 80 has a relative error of at most 2^-50 ([`Law::exponent`]), so
//! an absolute one of 2^-43.6; [`exp_minus`] adds a relative 2^-49; product and quotient add
//! 2^-51. Together: below 2^-43. The radius also covers the 11 bits of U that are not looked at,
//! by taking the two ends of what they leave open.

use dashu::base::BitTest;
use dashu::integer::UBig;
use privet_crypto::Words;

use super::law::{Law, dyadic};

/// A uniform real in [0, 1) of which the first bits are known.
pub(super) struct Uniform {
    bits: u64,
}

impl Uniform {
    /// The 16 bits that a table's trial has used, and 48 more.
    pub(super) fn extend(first: u16, more: &mut Words) -> Self {
        Self { bits: (u64::from(first) << 48) | (more.word() >> 16) }
    }

    /// 64 new bits.
    pub(super) fn new(more: &mut Words) -> Self {
        Self { bits: more.word() }
    }
}

/// The factor S·2^k/g before the exponential.
#[derive(Clone, Copy)]
pub(super) struct Factor {
    /// S > 0.
    pub(super) scale: f64,
    /// k.
    pub(super) power: u32,
    /// g > 0.
    pub(super) tokens: u32,
}

/// Relative radius within which floats decide nothing.
pub(super) const RADIUS: f64 = 1.0 / (1u64 << 38) as f64;

/// Beyond this y the floats' error is not bounded by the radius, and integers decide at once.
const FLOATS_UP_TO: f64 = 80.0;

/// Whether U < S·2^k/g · exp(−y(x)).
pub(super) fn below(
    uniform: Uniform,
    factor: Factor,
    law: Law,
    x: i64,
    radius: f64,
    more: &mut Words,
) -> bool {
    let y = law.exponent(x);
    if y < FLOATS_UP_TO {
        let factor = factor.scale * 2f64.powi(factor.power as i32) / f64::from(factor.tokens);
        let product = factor * exp_minus(y);
        let (low, high) = (product * (1.0 - radius), product * (1.0 + radius));
        const UNIT: f64 = 1.0 / (1u64 << 53) as f64;
        let top = uniform.bits >> 11;
        if (top + 1) as f64 * UNIT <= low {
            return true;
        }
        if top as f64 * UNIT >= high {
            return false;
        }
    }
    below_exactly(uniform, factor, law, x, more)
}

/// The same, by integers alone.
fn below_exactly(uniform: Uniform, factor: Factor, law: Law, x: i64, more: &mut Words) -> bool {
    let (p, q) = law.exact_exponent(x);
    let (mantissa, exponent) = dyadic(factor.scale);
    let mut u = UBig::from(uniform.bits);
    let mut bits = 64usize;
    loop {
        // U·g·2^(bits + precision) against m·2^(e + k)·exp(−y)·2^(bits + precision).
        let precision = bits + 64;
        let (low, high) = exp_interval(&p, &q, precision);
        let shift = i64::from(exponent) + i64::from(factor.power) + bits as i64;
        let scaled = |u: UBig| match shift {
            0.. => (u * factor.tokens) << precision,
            _ => (u * factor.tokens) << (precision + shift.unsigned_abs() as usize),
        };
        let product = |e: UBig| match shift {
            0.. => (e * mantissa) << shift as usize,
            _ => e * mantissa,
        };
        if scaled(u.clone() + 1u8) <= product(low) {
            return true;
        }
        if scaled(u.clone()) >= product(high) {
            return false;
        }
        u = (u << 64) + more.word();
        bits += 64;
    }
}

/// Integers a ≤ exp(−p/q)·2^`precision` ≤ b with b − a small: the argument is halved until it is
/// below one half, its alternating series is cut after a negative and after a positive term, and
/// both ends are squared back, rounding down and up.
fn exp_interval(p: &UBig, q: &UBig, precision: usize) -> (UBig, UBig) {
    let whole = p / q;
    let halvings = whole.bit_len() + 1;
    // Every squaring doubles the relative error; this much more precision keeps it below 2^-32.
    let working = precision + 2 * halvings + 32;
    let one = UBig::ONE << working;
    let down = (p << (working - halvings)) / q; // floor, in units of 2^-working
    let up = down.clone() + 1u8;
    let mut low = series(&up, working, &one).0;
    let mut high = series(&down, working, &one).1;
    let lowest = (UBig::ONE << working) - 1u8;
    for _ in 0..halvings {
        low = (low.clone() * low) >> working;
        high = ((high.clone() * high) + lowest.clone()) >> working;
    }
    let drop = working - precision;
    (low >> drop, (high + ((UBig::ONE << drop) - 1u8)) >> drop)
}

/// Bounds of exp(−t), t in [0, ½] given in units of 2^-`working`: partial sums of 1 − t + t²/2 − …
/// with floors and ceilings that keep the lower one below and the upper one above.
fn series(t: &UBig, working: usize, one: &UBig) -> (UBig, UBig) {
    let lowest = one.clone() - 1u8;
    let (mut term_low, mut term_high) = (one.clone(), one.clone());
    let (mut plus_low, mut plus_high) = (one.clone(), one.clone());
    let (mut minus_low, mut minus_high) = (UBig::ZERO, UBig::ZERO);
    let mut n = 0u32;
    loop {
        n += 1;
        term_low = ((term_low * t) >> working) / n;
        term_high = (((term_high * t + lowest.clone()) >> working) + (n - 1)) / n;
        if n % 2 == 1 {
            minus_low += term_low.clone();
            minus_high += term_high.clone();
        } else {
            plus_low += term_low.clone();
            plus_high += term_high.clone();
            if term_high <= UBig::from(2u8) {
                // After a positive term the sum is above; less that term once more, below.
                return (plus_low - term_high - minus_high, plus_high - minus_low);
            }
        }
    }
}

/// exp(−y) for 0 ≤ y < 700, with a relative error below 2^-49; the same bits on every platform
/// (products and sums of IEEE 754, no fused operation, no library call).
///
/// y = n·ln 2 − r with |r| ≤ 0.347, and exp(r) by its series to r¹⁴; the rest of the series is below
/// 0.347¹⁵/15! = 2^-63. n·L₁ is exact, as L₁, the head of ln 2, has 33 bits and n at most 10, and so
/// is its difference to y; r is off by 2^-54. Even and odd terms are added up apart: each step
/// rounds twice and multiplies what came before by r² ≤ 0.13, so either sum is off by at most
/// 2.3·2^-53 of its largest term, and the whole by less than 2^-50.
pub(super) fn exp_minus(y: f64) -> f64 {
    const LN2_HEAD: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
    const LN2_TAIL: f64 = 1.908_214_929_270_587_7e-10;
    /// 1/n!, each correctly rounded.
    const COEFFICIENTS: [f64; 15] = {
        let (mut coefficients, mut factorial, mut n) = ([1.0; 15], 1.0, 1);
        while n < 15 {
            factorial *= n as f64; // exact: 14! < 2^53
            coefficients[n] = 1.0 / factorial;
            n += 1;
        }
        coefficients
    };
    let n = (y * std::f64::consts::LOG2_E + 0.5).floor();
    let r = (n * LN2_HEAD - y) + n * LN2_TAIL;
    let square = r * r;
    let (mut even, mut odd) = (COEFFICIENTS[14], 0.0);
    for pair in (0..7).rev() {
        odd = odd * square + COEFFICIENTS[2 * pair + 1];
        even = even * square + COEFFICIENTS[2 * pair];
    }
    // 2^-n, exact: n ≤ 1010.
    (even + r * odd) * f64::from_bits((1023 - n as u64) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;
    use privet_crypto::Seed;
    use proptest::prelude::*;

    fn parts(y: f64) -> (UBig, UBig) {
        let (m, e) = dyadic(y);
        match e {
            0.. => (UBig::from(m) << e as usize, UBig::ONE),
            _ => (UBig::from(m), UBig::ONE << e.unsigned_abs() as usize),
        }
    }

    /// exp(−p/q)·2^precision by another library and another way: one long series, no halving.
    fn reference(p: &UBig, q: &UBig, precision: usize) -> BigUint {
        let big = |x: &UBig| BigUint::from_bytes_le(&x.to_le_bytes());
        let working = precision + 400;
        let t = (big(p) << working) / big(q);
        let mut term = BigUint::from(1u8) << working;
        let (mut plus, mut minus) = (term.clone(), BigUint::default());
        let mut n = 1u32;
        while term > BigUint::default() {
            term = ((term * &t) >> working) / n;
            if n % 2 == 1 {
                minus += &term
            } else {
                plus += &term
            }
            n += 1;
        }
        (plus - minus) >> (working - precision)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        /// The interval holds the value, and is narrow; the floats are as near as they say.
        #[test]
        fn the_exponential_is_enclosed(y in 1e-9f64..100.0, precision in 64usize..400) {
            let (p, q) = parts(y);
            let (low, high) = exp_interval(&p, &q, precision);
            let middle = reference(&p, &q, precision);
            let big = |x: &UBig| BigUint::from_bytes_le(&x.to_le_bytes());
            prop_assert!(big(&low) <= middle.clone() + 1u8 && middle <= big(&high));
            prop_assert!(high - low <= UBig::from(3u8));
        }

        #[test]
        fn floats_are_within_their_error(y in 0f64..80.0) {
            let (p, q) = parts(y.max(f64::MIN_POSITIVE));
            let value = exp_minus(y);
            let (m, e) = dyadic(value);
            // value·2^300 against exp(−y)·2^300, relative error below 2^-49.
            let ours = UBig::from(m) << (300 + e) as usize;
            let (low, high) = exp_interval(&p, &q, 300);
            let error = if ours > high { ours - low } else { high.clone() - ours };
            prop_assert!(error << 49 <= high);
        }

        /// Whatever the radius, the decision is the same; with the widest, integers decide all.
        #[test]
        fn floats_and_integers_decide_alike(
            bits: u64, x in -3000i64..3000, tokens in 1u32..1 << 20, sigma in 200f64..2000.0, laplace: bool,
        ) {
            let law = if laplace { Law::Laplace { scale: sigma } } else { Law::Gaussian { sigma } };
            let factor = Factor { scale: f64::from(tokens) * 0.999, power: 0, tokens };
            let decide = |radius| {
                let mut more = Words::new(&Seed::from_bytes([3; 32]));
                below(Uniform { bits }, factor, law, x, radius, &mut more)
            };
            prop_assert_eq!(decide(RADIUS), decide(2.0));
        }
    }

    /// At the very edge, 64 bits of U do not decide and more are revealed.
    #[test]
    fn an_open_decision_reveals_more_bits() {
        let law = Law::Gaussian { sigma: 10.0 };
        let factor = Factor { scale: 0.75, power: 0, tokens: 1 };
        let (p, q) = law.exact_exponent(7);
        let edge = (exp_interval(&p, &q, 66).0 * 3u8) >> 4; // ¾·exp(−y)·2^64, rounded down
        let edge = u64::try_from(edge).unwrap();
        let decide = |bits, seed| {
            let mut more = Words::new(&Seed::from_bytes([seed; 32]));
            below(Uniform { bits }, factor, law, 7, RADIUS, &mut more)
        };
        assert!(decide(edge - 1, 1) && !decide(edge + 1, 1));
        let answers: Vec<bool> = (0..64).map(|seed| decide(edge, seed)).collect();
        assert!(answers.contains(&true) && answers.contains(&false));
    }
}
