//! Arithmetic modulo a prime of 31 bits, on canonical residues, without branches.
//!
//! Two residues below p < 2^31 add up below 2^32, and `min(x, x − p)` on wrapping 32-bit numbers
//! takes p off where it can: if x < p the difference wraps to something larger.

/// A prime p with 2^30 < p < 2^31.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Modulus {
    pub(crate) p: u32,
    /// ⌊2^64 / p⌋.
    reciprocal: u64,
}

/// A factor that multiplies many numbers: itself and ⌊factor · 2^32 / p⌋ (Shoup).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Factor {
    pub(crate) w: u32,
    pub(crate) quotient: u32,
}

impl Modulus {
    pub(crate) const fn new(p: u32) -> Self {
        assert!(p > 1 << 30 && p < 1 << 31);
        Self { p, reciprocal: (u64::MAX / p as u64) }
    }

    /// x below 2p to the residue below p.
    #[inline(always)]
    pub(crate) fn once(self, x: u32) -> u32 {
        x.min(x.wrapping_sub(self.p))
    }

    #[inline(always)]
    pub(crate) fn add(self, a: u32, b: u32) -> u32 {
        self.once(a.wrapping_add(b))
    }

    #[inline(always)]
    pub(crate) fn sub(self, a: u32, b: u32) -> u32 {
        let x = a.wrapping_sub(b);
        x.min(x.wrapping_add(self.p))
    }

    /// A number in −p < x < p to its residue.
    #[inline(always)]
    pub(crate) fn signed(self, x: i32) -> u32 {
        let x = x.cast_unsigned();
        x.min(x.wrapping_add(self.p))
    }

    /// x · w for any 32-bit x. With q = ⌊x·quotient / 2^32⌋, x·w − q·p lies in 0 ≤ … < 2p:
    /// x·w/p − q < x/2^32 + 1.
    #[inline(always)]
    pub(crate) fn mul(self, x: u32, w: u32, quotient: u32) -> u32 {
        let q = ((u64::from(x) * u64::from(quotient)) >> 32) as u32;
        self.once(x.wrapping_mul(w).wrapping_sub(q.wrapping_mul(self.p)))
    }

    /// The factor w < p. In constant time, for a factor may be secret: no division.
    #[inline(always)]
    pub(crate) fn factor(self, w: u32) -> Factor {
        let x = u64::from(w) << 32;
        // Barrett: one below the quotient at most, as x < 2^64.
        let q = ((u128::from(x) * u128::from(self.reciprocal)) >> 64) as u64;
        let rest = x.wrapping_sub(q.wrapping_mul(u64::from(self.p)));
        let short = !(rest.wrapping_sub(u64::from(self.p))) >> 63;
        Factor { w, quotient: q.wrapping_add(short) as u32 }
    }

    /// The product of two residues, for tables.
    pub(crate) fn product(self, a: u32, b: u32) -> u32 {
        let Factor { w, quotient } = self.factor(b);
        self.mul(a, w, quotient)
    }

    pub(crate) fn power(self, base: u32, mut exponent: u32) -> u32 {
        let (mut square, mut power) = (base, 1);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = self.product(power, square);
            }
            square = self.product(square, square);
            exponent >>= 1;
        }
        power
    }

    /// 1 / a for a ≠ 0, by Fermat.
    pub(crate) fn inverse(self, a: u32) -> u32 {
        self.power(a, self.p - 2)
    }

    /// A root of unity of exact order `order`, a power of two that divides p − 1.
    pub(crate) fn root(self, order: u32) -> u32 {
        (2..)
            .map(|x| self.power(x, (self.p - 1) / order))
            .find(|&root| self.power(root, order / 2) == self.p - 1)
            .unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rlwe::ring::Set;

    #[test]
    fn factors_and_products_are_exact() {
        for p in [Set::Narrow, Set::Wide].iter().flat_map(|set| set.primes()) {
            let m = Modulus::new(*p);
            let edges = [0, 1, 2, p / 2, p / 2 + 1, p - 2, p - 1, 1 << 30, 12345];
            for w in edges {
                let factor = m.factor(w);
                assert_eq!(u64::from(factor.quotient), (u64::from(w) << 32) / u64::from(*p));
                for x in edges.into_iter().chain([*p, 2 * p - 1, u32::MAX]) {
                    let exact = u64::from(x) * u64::from(w) % u64::from(*p);
                    assert_eq!(u64::from(m.mul(x, factor.w, factor.quotient)), exact);
                }
                for x in edges {
                    assert_eq!(
                        u64::from(m.add(x, w)),
                        (u64::from(x) + u64::from(w)) % u64::from(*p)
                    );
                    assert_eq!(m.add(m.sub(x, w), w), x);
                }
            }
            assert_eq!(m.product(m.inverse(12345), 12345), 1);
            assert_eq!([m.signed(-1), m.signed(0), m.signed(84)], [p - 1, 0, 84]);
        }
    }
}
