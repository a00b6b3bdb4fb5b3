//! The ring of ciphertexts: polynomials modulo X^N + 1 with coefficients modulo one prime of 31
//! bits, or modulo two (by residues), and the published parameter sets.
//!
//! ```text
//!            N      modulus            a block on the wire
//!   Narrow   2048   p                  2048 words
//!   Wide     4096   p1·p2 ≈ 2^62       4096 words modulo p1, then 4096 modulo p2
//! ```
//! A sum of uploads is sealed as b = a·s + e + m: `a` public and uniform ([`crate::rlwe::mask`]), the
//! one-time key s and the error e discrete Gaussian with σ = 6.4 ([`crate::rlwe::gaussian`]).

mod modulus;
mod ntt;
mod transpose;

pub(crate) use modulus::Modulus;
pub(crate) use ntt::{Factors, Ntt};

use crate::rlwe::backend::{Backend, fastest};

/// A published parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Set {
    /// 4 bytes a value: sums below 2^30 in magnitude, scaling included.
    Narrow,
    /// 8 bytes a value: sums below 2^61 in magnitude.
    Wide,
}

/// What the best known attacks cost, as a power of two: the classical core-SVP cost of the cheaper
/// of the primal and the dual attack. Recomputed by the tests of `security.rs`, with a margin of two
/// bits; the hybrid attack is not modelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecurityBits {
    /// One upload alone: LWE with σ.
    pub fresh: u32,
    /// Once the sum of keys is opened: LWE with σ/√2, exactly what is left of two Gaussians whose
    /// sum is known (secret and error then lie in cosets ℤ + {0, ½}).
    pub after_opening: u32,
    /// The same by the published reduction from hint LWE, which loses a factor 2 of σ.
    pub by_theorem: u32,
}

impl Set {
    /// Both sets, the narrower first.
    pub const ALL: [Self; 2] = [Self::Narrow, Self::Wide];

    /// The name in transcripts and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Narrow => "narrow",
            Self::Wide => "wide",
        }
    }

    /// N: the coefficients of a polynomial, that is, the values in a block.
    pub const fn degree(self) -> usize {
        match self {
            Self::Narrow => 2048,
            Self::Wide => 4096,
        }
    }

    /// The primes: the largest below 2^31 that are 1 modulo 2N, so that X^N + 1 splits. (The
    /// largest waste the least of the random words of a mask, and of the range of sums.)
    pub const fn primes(self) -> &'static [u32] {
        match self {
            Self::Narrow => &[2_147_389_441],
            Self::Wide => &[2_147_377_153, 2_147_352_577],
        }
    }

    /// Product of the primes: a sum is known modulo this.
    pub const fn modulus(self) -> u64 {
        match self.primes() {
            [p] => *p as u64,
            [p, q, ..] => *p as u64 * *q as u64,
            [] => 1,
        }
    }

    /// Largest magnitude of a message, and of a sum of messages and errors that opens rightly:
    /// (modulus − 1)/2.
    pub const fn bound(self) -> i64 {
        (self.modulus() / 2) as i64
    }

    /// Bytes of one coefficient on the wire.
    pub const fn coefficient_bytes(self) -> u64 {
        4 * self.primes().len() as u64
    }

    /// Words (of 32 bits) of a sealed block.
    pub const fn block(self) -> usize {
        self.degree() * self.primes().len()
    }

    /// Blocks for some values.
    pub const fn blocks(self, values: usize) -> usize {
        values.div_ceil(self.degree())
    }

    /// What attacks cost.
    pub const fn security_bits(self) -> SecurityBits {
        match self {
            Self::Narrow => SecurityBits { fresh: 248, after_opening: 237, by_theorem: 227 },
            Self::Wide => SecurityBits { fresh: 228, after_opening: 223, by_theorem: 218 },
        }
    }
}

/// Something did not fit the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// Blocks are sealed, added and opened whole.
    #[error("{given} words, where {expected} were expected")]
    Length {
        /// Words given.
        given: usize,
        /// Words of whole blocks.
        expected: usize,
    },
    /// A word of a ciphertext is no residue.
    #[error("a word of a ciphertext is not below its prime")]
    Residue,
    /// A message is larger than [`Set::bound`].
    #[error("a message is larger than {bound}")]
    Message {
        /// Largest magnitude.
        bound: i64,
    },
    /// No sum of so many keys has such a coefficient.
    #[error("a coefficient of the sum of keys is larger than {bound}")]
    Key {
        /// Largest magnitude.
        bound: u32,
    },
}

/// A parameter set with its tables, and the instructions that run it.
pub struct Ring {
    set: Set,
    backend: Backend,
    transforms: Vec<Ntt>,
}

impl Ring {
    /// The ring of a set, run by the fastest instructions of this processor. Costs about 0.1 ms.
    pub fn new(set: Set) -> Self {
        Self::with(set, fastest())
    }

    /// The same, run by chosen instructions: for tests and benchmarks. What the processor lacks is
    /// run without special instructions.
    pub fn with(set: Set, backend: Backend) -> Self {
        let transforms = set.primes().iter().map(|&p| Ntt::new(set.degree(), p)).collect();
        Self { set, backend, transforms }
    }

    /// The parameter set.
    pub fn set(&self) -> Set {
        self.set
    }

    /// The instructions that run it.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// A transform for each prime.
    pub(crate) fn transforms(&self) -> &[Ntt] {
        &self.transforms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_the_largest_that_split() {
        let prime =
            |n: u32| (3..).step_by(2).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d));
        for set in [Set::Narrow, Set::Wide] {
            let step = 2 * set.degree();
            let largest = (1..).map(|k| (1u32 << 31) - (k * step) as u32 + 1).filter(|&p| prime(p));
            assert!(largest.take(set.primes().len()).eq(set.primes().iter().copied()));
            assert_eq!(set.modulus() as i64, 2 * set.bound() + 1);
        }
    }
}
