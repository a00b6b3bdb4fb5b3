//! GF(2^128) = GF(2)[x] / (x^128 + x^7 + x^2 + x + 1): bit i of the integer is the coefficient of x^i, a sum
//! is an XOR.
//!
//! A kernel that multiplies takes a [`Multiplier`] and is entered through [`with_multiplier`], which looks once
//! for carry-less multiplication; both give the same bits and take the same time for all values.

/// How two elements are multiplied.
pub(crate) trait Multiplier: Copy + Send + Sync {
    /// The product before reduction: low and high half.
    fn wide(self, a: u128, b: u128) -> (u128, u128);

    /// The product.
    #[inline(always)]
    fn mul(self, a: u128, b: u128) -> u128 {
        let (low, high) = self.wide(a, b);
        reduce(low, high)
    }
}

/// x^128 = x^7 + x^2 + x + 1, applied twice.
#[inline(always)]
pub(crate) fn reduce(low: u128, high: u128) -> u128 {
    let fold = |v: u128| v ^ (v << 1) ^ (v << 2) ^ (v << 7);
    let over = (high >> 127) ^ (high >> 126) ^ (high >> 121);
    low ^ fold(high) ^ fold(over)
}

/// Multiplies by x.
pub(crate) fn double(a: u128) -> u128 {
    (a << 1) ^ ((a >> 127).wrapping_neg() & 0x87)
}

/// Without instructions for it.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

/// Low 64 bits of a carry-less product, by integer products of every fourth bit: sums of at most 16 terms do
/// not carry into the next such bit.
#[inline(always)]
fn low_half(a: u64, b: u64) -> u64 {
    const EVERY_FOURTH: u64 = 0x1111_1111_1111_1111;
    let part = |v: u64, at: u32| v & (EVERY_FOURTH << at);
    let mut sum = 0;
    for at in 0..4 {
        let mut z = 0u64;
        for i in 0..4 {
            z ^= part(a, i).wrapping_mul(part(b, (at + 4 - i) % 4));
        }
        sum |= part(z, at);
    }
    sum
}

#[inline(always)]
fn carry_less(a: u64, b: u64) -> u128 {
    let high = low_half(a.reverse_bits(), b.reverse_bits()).reverse_bits() >> 1;
    u128::from(high) << 64 | u128::from(low_half(a, b))
}

#[inline(always)]
fn from_parts(low: u128, middle: u128, high: u128) -> (u128, u128) {
    (low ^ (middle << 64), high ^ (middle >> 64))
}

impl Multiplier for Portable {
    #[inline(always)]
    fn wide(self, a: u128, b: u128) -> (u128, u128) {
        let (a0, a1, b0, b1) = (a as u64, (a >> 64) as u64, b as u64, (b >> 64) as u64);
        let (low, high) = (carry_less(a0, b0), carry_less(a1, b1));
        from_parts(low, carry_less(a0 ^ a1, b0 ^ b1) ^ low ^ high, high)
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "made only where the processor has the instruction")]
mod clmul {
    use std::arch::x86_64::{__m128i, _mm_clmulepi64_si128, _mm_set_epi64x};

    use super::{Multiplier, from_parts};

    /// By PCLMULQDQ. Made by [`super::with_multiplier`] alone.
    #[derive(Clone, Copy)]
    pub(crate) struct Clmul(());

    impl Clmul {
        /// Where there is one.
        pub(crate) fn detect() -> Option<Self> {
            std::arch::is_x86_feature_detected!("pclmulqdq").then_some(Self(()))
        }
    }

    #[inline(always)]
    fn vector(v: u128) -> __m128i {
        // SAFETY: SSE2, which every x86-64 has.
        unsafe { _mm_set_epi64x((v >> 64) as i64, v as i64) }
    }

    #[inline(always)]
    fn number(v: __m128i) -> u128 {
        // SAFETY: both are 16 bytes of which all values are valid; x86 is little-endian.
        unsafe { std::mem::transmute(v) }
    }

    impl Multiplier for Clmul {
        #[inline(always)]
        fn wide(self, a: u128, b: u128) -> (u128, u128) {
            let (a, b) = (vector(a), vector(b));
            // SAFETY: a `Clmul` is only made where the processor has PCLMULQDQ.
            let [low, one, two, high] = unsafe {
                [
                    _mm_clmulepi64_si128::<0x00>(a, b),
                    _mm_clmulepi64_si128::<0x01>(a, b),
                    _mm_clmulepi64_si128::<0x10>(a, b),
                    _mm_clmulepi64_si128::<0x11>(a, b),
                ]
            };
            from_parts(number(low), number(one) ^ number(two), number(high))
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) use clmul::Clmul;

/// Makes `$name(…)` of `$body(multiplier, …)`, which must be `#[inline(always)]`.
macro_rules! with_multiplier {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:path;) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code, reason = "entered only on a processor with the instructions")]
            {
                #[target_feature(enable = "pclmulqdq,sse4.1")]
                fn fast(m: $crate::vole::gf128::Clmul, $($arg: $ty),*) $(-> $ret)? {
                    $body(m, $($arg),*)
                }

                if std::arch::is_x86_feature_detected!("sse4.1")
                    && let Some(m) = $crate::vole::gf128::Clmul::detect()
                {
                    // SAFETY: the processor has both.
                    return unsafe { fast(m, $($arg),*) };
                }
            }
            $body($crate::vole::gf128::Portable, $($arg),*)
        }
    };
}
pub(crate) use with_multiplier;

#[inline(always)]
fn mul_body<M: Multiplier>(m: M, a: u128, b: u128) -> u128 {
    m.mul(a, b)
}

with_multiplier! {
    /// The product of two elements.
    pub(crate) fn mul(a: u128, b: u128) -> u128 = mul_body;
}

/// The inverse, a^(2^128 − 2); 0 of 0.
pub(crate) fn invert(a: u128) -> u128 {
    (0..127).fold((a, 1), |(a, product), _| (mul(a, a), mul(product, mul(a, a)))).1
}

#[inline(always)]
fn polynomial_body<M: Multiplier>(m: M, values: &[u128], x: u128) -> u128 {
    // Eight interleaved Horner chains, because one alone waits for each product.
    let x8 = (0..3).fold(x, |x, _| m.mul(x, x));
    let mut sums = [0u128; 8];
    let (rest, whole) = values.as_rchunks::<8>();
    for chunk in whole.iter().rev() {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum = m.mul(*sum, x8) ^ value;
        }
    }
    let sum = rest.iter().chain(&sums).rev().fold(0, |sum, value| m.mul(sum, x) ^ value);
    m.mul(sum, x)
}

with_multiplier! {
    /// Σ vᵢ·x^(i+1).
    pub(crate) fn polynomial(values: &[u128], x: u128) -> u128 = polynomial_body;
}

#[inline(always)]
fn add_scaled_body<M: Multiplier>(m: M, to: &mut [u128], by: u128, values: &[u128]) {
    for (to, value) in to.iter_mut().zip(values) {
        *to ^= m.mul(by, *value);
    }
}

with_multiplier! {
    /// toᵢ += by·vᵢ.
    pub(crate) fn add_scaled(to: &mut [u128], by: u128, values: &[u128]) = add_scaled_body;
}

/// Σ vᵢ·x^(i+1) over all values but the last, plus the last, which masks the sum.
pub(crate) fn masked_sum(values: &[u128], x: u128) -> u128 {
    values.split_last().map_or(0, |(mask, rest)| polynomial(rest, x) ^ mask)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schoolbook(a: u128, b: u128) -> u128 {
        (0..128).rev().fold(0, |sum, i| double(sum) ^ (b >> i & 1).wrapping_neg() & a)
    }

    proptest! {
        #[test]
        fn products_are_the_schoolbook_ones(a: u128, b: u128, c: u128) {
            prop_assert_eq!(mul(a, b), schoolbook(a, b));
            prop_assert_eq!(Portable.mul(a, b), schoolbook(a, b));
            prop_assert_eq!(mul(a, b ^ c), mul(a, b) ^ mul(a, c));
            prop_assert_eq!(mul(mul(a, b), c), mul(a, mul(b, c)));
            prop_assert!(a == 0 || mul(a, invert(a)) == 1);
        }

        #[test]
        fn sums_are_term_by_term(values in proptest::collection::vec(any::<u128>(), 0..40), x: u128) {
            let (mut power, mut sum) = (1, 0);
            for value in &values {
                power = mul(power, x);
                sum ^= mul(power, *value);
            }
            prop_assert_eq!(polynomial(&values, x), sum);
        }
    }

    #[test]
    fn known_products() {
        assert_eq!(mul(1 << 127, 2), 0x87);
        assert_eq!(invert(0), 0);
        assert_eq!(invert(1), 1);
    }
    /// Products that a schoolbook multiplication in Python gave.
    #[test]
    fn products_are_those_of_another_program() {
        let text = include_str!("products.txt");
        let number = |hex: &str| u128::from_str_radix(hex, 16).unwrap();
        for line in text.lines() {
            let [a, b, product] = line.split(' ').map(number).collect::<Vec<_>>()[..] else {
                panic!()
            };
            assert_eq!((mul(a, b), Portable.mul(a, b)), (product, product));
        }
        assert_eq!(text.lines().count(), 100);
    }
}
