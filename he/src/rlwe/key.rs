//! One-time keys, and sums of them.

use privet_crypto::Words;
use zeroize::{Zeroize, Zeroizing};

use crate::rlwe::gaussian;
use crate::rlwe::ring::{Factors, Ring, RingError};

/// The secret polynomial of one site for one round. Erased when dropped; neither printed nor
/// copied, and consumed by the [`crate::rlwe::Sealer`] that uses it.
pub struct Key(Zeroizing<Vec<i8>>);

impl Key {
    /// A new key: N samples of [`gaussian`].
    pub fn sample(ring: &Ring, words: &mut Words) -> Self {
        let mut coefficients = Zeroizing::new(vec![0; ring.set().degree()]);
        gaussian::fill(ring.backend(), words, &mut coefficients);
        Self(coefficients)
    }

    /// The coefficients, each at most [`gaussian::TAIL`] in magnitude: to be shared among the peers.
    pub fn coefficients(&self) -> &[i8] {
        &self.0
    }
}

/// The sum of the keys of a round: what opens the sum of its uploads, and nothing else.
pub struct KeySum(Image);

impl KeySum {
    /// The sum of `keys` keys.
    ///
    /// # Errors
    /// When there are not N coefficients, or one is larger than `keys` keys could make it: then the
    /// shares from which it comes do not fit each other.
    pub fn new(ring: &Ring, keys: u32, coefficients: &[i32]) -> Result<Self, RingError> {
        let expected = ring.set().degree();
        if coefficients.len() != expected {
            return Err(RingError::Length { given: coefficients.len(), expected });
        }
        // Above 2^30 residues would not tell the sign.
        let bound = keys.saturating_mul(gaussian::TAIL.unsigned_abs().into()).min(1 << 30);
        if coefficients.iter().any(|x| x.unsigned_abs() > bound) {
            return Err(RingError::Key { bound });
        }
        Ok(Self(Image::new(ring, coefficients.iter().copied())))
    }

    pub(crate) fn image(&self) -> &Image {
        &self.0
    }
}

/// Values of a polynomial for each prime, divided by N, ready to multiply masks.
pub(crate) struct Image(Vec<Factors>);

impl Image {
    pub(crate) fn of(ring: &Ring, key: &Key) -> Self {
        Self::new(ring, key.coefficients().iter().map(|&x| i32::from(x)))
    }

    /// Coefficients are at most 2^30 in magnitude.
    fn new(ring: &Ring, coefficients: impl Iterator<Item = i32> + Clone) -> Self {
        let image = ring.transforms().iter().map(|ntt| {
            let m = ntt.modulus;
            let mut residues: Zeroizing<Vec<u32>> =
                Zeroizing::new(coefficients.clone().map(|x| m.signed(x)).collect());
            let mut values = Zeroizing::new(vec![0; residues.len()]);
            ntt.forward(ring.backend(), &mut residues, &mut values);
            values.iter().map(|&x| m.factor(m.product(x, ntt.scale))).collect()
        });
        Self(image.collect())
    }

    pub(crate) fn factors(&self) -> &[Factors] {
        &self.0
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for Factors { w, quotient } in &mut self.0 {
            w.zeroize();
            quotient.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rlwe::ring::Set;

    #[test]
    fn sums_that_no_keys_have_are_refused() {
        let ring = Ring::new(Set::Narrow);
        let sum = |keys, x| KeySum::new(&ring, keys, &vec![x; 2048]).map(|_| ());
        assert_eq!(sum(10, 840), Ok(()));
        assert_eq!(sum(10, -840), Ok(()));
        assert_eq!(sum(10, 841), Err(RingError::Key { bound: 840 }));
        assert_eq!(sum(u32::MAX, i32::MIN), Err(RingError::Key { bound: 1 << 30 }));
        assert_eq!(sum(0, 0), Ok(()));
        let short = KeySum::new(&ring, 1, &[]).map(|_| ());
        assert_eq!(short, Err(RingError::Length { given: 0, expected: 2048 }));
    }
}
