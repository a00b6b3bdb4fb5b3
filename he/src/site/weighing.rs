//! Integers times a site's weight.

use crate::rlwe::backend::{fastest, kernel};

/// Multiplies by weight/2^bits and truncates towards zero: where weight ≤ 2^bits, what held of magnitudes
/// before holds after.
pub(super) fn weigh(values: &mut [i64], weight: u64, bits: u8) {
    let largest = largest(fastest(), values);
    match (i32::try_from(largest), i32::try_from(weight)) {
        (Ok(_), Ok(weight)) if bits < 62 => weigh_narrow(fastest(), weight, bits, values),
        _ => {
            let scaled = |v: i64| i128::from(v) * i128::from(weight) / (1i128 << bits);
            values.iter_mut().for_each(|v| *v = scaled(*v) as i64);
        }
    }
}

kernel! {
    /// A bound of all magnitudes: each has no higher bit, or is less by one.
    fn largest(values: &[i64]) -> i64 = any_bits;
}
kernel! {
    /// For numbers and weights of 32 bits.
    fn weigh_narrow(weight: i32, bits: u8, values: &mut [i64]) = weighed;
}

#[inline(always)]
fn any_bits(values: &[i64]) -> i64 {
    values.iter().fold(0, |bits, &v| bits | v ^ v >> 63)
}

#[inline(always)]
fn weighed(weight: i32, bits: u8, values: &mut [i64]) {
    // What a shift would round down for negative numbers.
    let below = (1i64 << bits) - 1;
    for v in values {
        let product = i64::from(*v as i32) * i64::from(weight);
        *v = (product + (*v >> 63 & below)) >> bits;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weighing_truncates_towards_zero() {
        let values = [
            0,
            1,
            -1,
            7,
            -7,
            1000,
            -1000,
            (1 << 20) - 1,
            -(1 << 20),
            -(1 << 31),
            1 << 52,
            -(1 << 52),
        ];
        for (weight, bits) in
            [((1 << 31) - 1, 31), (1, 0), (1, 1), (100, 7), (128, 7), ((1 << 40) - 1, 40), (3, 62)]
        {
            for values in [&values[..], &values[..10]] {
                let mut weighed = values.to_vec();
                weigh(&mut weighed, weight, bits);
                let exact =
                    |&v: &i64| (i128::from(v) * i128::from(weight) / (1i128 << bits)) as i64;
                assert_eq!(
                    weighed,
                    values.iter().map(exact).collect::<Vec<_>>(),
                    "{weight} {bits}"
                );
            }
        }
    }
}
