//! Division by a number that stays the same.

/// Division by a fixed number by multiplication with its reciprocal, several times as fast as the
/// processor's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Divisor {
    divisor: u64,
    /// ⌊(2^64 − 1)/divisor⌋.
    reciprocal: u64,
    /// The multiple of the divisor next below 2^62, over the divisor.
    offset: u64,
}

impl Divisor {
    pub(crate) fn new(divisor: u64) -> Self {
        Self { divisor, reciprocal: u64::MAX / divisor, offset: (1 << 62) / divisor }
    }

    /// Quotient and remainder.
    pub(crate) fn divide(self, number: u64) -> (u64, u64) {
        // Too small by at most 1, since the reciprocal is at least 2^64/divisor − 1.
        let quotient = ((u128::from(number) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = number - quotient * self.divisor;
        if rest >= self.divisor { (quotient + 1, rest - self.divisor) } else { (quotient, rest) }
    }

    /// The quotient rounded to the nearest integer, for |x| < 2^61.
    pub(crate) fn nearest(self, x: i64) -> Option<i64> {
        if x.unsigned_abs() >= 1 << 61 {
            return None;
        }
        let shifted = (self.offset * self.divisor).wrapping_add_signed(x) + self.divisor / 2;
        Some(self.divide(shifted).0 as i64 - self.offset as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn division_is_that_of_the_integers(number: u64, divisor in 1u64.., bits in 0u32..64) {
            let divisor = (divisor >> bits).max(1);
            for number in [number, number / divisor * divisor, u64::MAX, 0] {
                let got = Divisor::new(divisor).divide(number);
                prop_assert_eq!(got, (number / divisor, number % divisor));
            }
        }

        #[test]
        fn rounding_is_to_the_nearest(n in -(1i64 << 30)..1 << 30, half in 0i64..1 << 29, e: i64) {
            let divisor = 2 * half + 1;
            let e = e % (half + 1);
            let got = Divisor::new(divisor as u64).nearest(n * divisor + e);
            prop_assert_eq!(got, Some(n).filter(|_| (n * divisor + e).abs() < 1 << 61));
        }

        #[test]
        fn anything_rounds_or_is_refused(x: i64, divisor in 1u64..1 << 30) {
            let got = Divisor::new(divisor).nearest(x);
            prop_assert_eq!(got.is_some(), x.unsigned_abs() < 1 << 61);
            if let Some(n) = got {
                prop_assert!(2 * (i128::from(n) * i128::from(divisor) - i128::from(x)).abs()
                    <= i128::from(divisor));
            }
        }
    }
}
