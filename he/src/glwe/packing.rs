//! The parameter sets, and how integers become coefficients so that nothing can overflow.
//!
//! ```text
//!   coefficient of one site:  Δ·Σ_j v_j·base^j,   |v_j| ≤ most,   base = 2·K·most + 1
//!   opened sum:               Δ·Σ_j V_j·base^j + E,   |V_j| ≤ K·most,   |E| ≤ K·B
//!   update:                   values … │ count 1 │ zeros (≥ 8) to the end of the last block
//! ```
//! The digits V_j are balanced: with K·most added to each they are the ordinary digits in this base.
//! A [`Packing`] exists only where Δ·(base^slots − 1)/2 + K·B < 2^63, in exact integers.
//!
//! # How rarely it rounds wrongly
//! An error is uniform on −B … B, but for half the weight at both ends. Its moment generating function
//! is sinh(tB)/(tB) · (t/2)·coth(t/2) ≤ exp(t²s²/2) with s² = (2B² + 1)/6, its variance. So, for the
//! sum E of K errors,
//!
//! ```text
//!   P(|E| ≥ r) ≤ 2·exp(−r²/(2Ks²)),   and P = 0 for r > K·B
//! ```
//! and with n coefficients Δ = 2r − 1 is enough for r = √(2Ks²·ln 2·(41 + log2 n)) or r = K·B + 1,
//! whichever is less: 2^-40 for the whole update, or never: up to 24 sites, and up to 28 at a million
//! coefficients.

use privet_crypto::{Digest, Transcript};

use crate::coding::params::MAX_VALUES;

/// Most sites of one sum.
pub(crate) const MAX_SITES: u32 = 1 << 16;

/// Most values of one coefficient.
const MAX_SLOTS: u32 = 16;

/// Zeros at the end of an update at least. A wrong key opens each to 0 with probability Δ/2^64.
const MIN_PADS: u64 = 8;

/// −log2 of the probability that any coefficient of a sum rounds wrongly.
const FAILURE_BITS: f64 = 40.0;

/// A parameter set: binary keys, words of 64 bits, one mask polynomial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Set {
    /// N = 2048, errors up to 2^17.
    N2048,
    /// N = 4096, errors up to 2^4.
    N4096,
}

impl Set {
    /// Both, the faster first.
    pub const ALL: [Self; 2] = [Self::N2048, Self::N4096];

    /// N: the coefficients of a polynomial, that is, of a block.
    pub const fn degree(self) -> usize {
        match self {
            Self::N2048 => 2048,
            Self::N4096 => 4096,
        }
    }

    /// log2 of the largest magnitude B of an error.
    pub const fn noise_bits(self) -> u32 {
        match self {
            Self::N2048 => 17,
            Self::N4096 => 4,
        }
    }
}

/// Why there is no such packing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// A sum over no sites or too many.
    #[error("a sum is over 1 to {MAX_SITES} sites; lower the number of sites")]
    Sites,
    /// An update of no values or too many.
    #[error("an update holds 1 to 2^40 values; split the model")]
    Values,
    /// The bound of values is 0.
    #[error("values of at most 0 need no sum")]
    TooNarrow,
    /// The sums do not fit a word.
    #[error("sums of so many bits do not fit; ask for {most} at most, or fewer sites")]
    TooWide {
        /// The largest bound of a value that so many sites and values allow.
        most: u64,
    },
}

/// A packing that cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packing {
    set: Set,
    sites: u32,
    values: u64,
    most: u64,
    slots: u32,
    delta: u64,
}

impl Packing {
    /// The packing of `values` values of at most `most` in magnitude, summed over at most `sites`
    /// sites, that takes the fewest bytes; of equals the fastest.
    ///
    /// # Errors
    /// When a number is out of its range, or no set can hold the sums.
    pub fn within(most: u64, sites: u32, values: u64) -> Result<Self, PackingError> {
        if most == 0 {
            return Err(PackingError::TooNarrow);
        }
        let candidates = Set::ALL
            .into_iter()
            .flat_map(|set| (1..=MAX_SLOTS).map(move |slots| (set, slots)))
            .map(|(set, slots)| Self::with(set, slots, most, sites, values));
        let candidates: Vec<_> = candidates.collect::<Result<_, _>>()?;
        let best = candidates
            .iter()
            .filter(|packing| packing.fits())
            .min_by_key(|packing| packing.bytes());
        best.copied().ok_or_else(|| {
            let capacity = |packing: &Self| packing.capacity();
            let most = candidates.iter().filter(|packing| packing.slots == 1).map(capacity).max();
            PackingError::TooWide { most: most.unwrap_or(0) }
        })
    }

    /// One candidate, which need not fit.
    pub(crate) fn with(
        set: Set,
        slots: u32,
        most: u64,
        sites: u32,
        values: u64,
    ) -> Result<Self, PackingError> {
        if sites == 0 || sites > MAX_SITES {
            return Err(PackingError::Sites);
        }
        if values == 0 || values > MAX_VALUES {
            return Err(PackingError::Values);
        }
        let packing = Self { set, sites, values, most, slots, delta: 1 };
        let delta = 2 * packing.reach() - 1;
        Ok(Self { delta, ..packing })
    }

    /// r: the least magnitude of E that need not be rounded away.
    fn reach(&self) -> u64 {
        let never = self.error_bound(self.sites) + 1;
        let variance = ((2 * self.set.noise_bits() + 1) as f64).exp2() / 6.0 + 1.0 / 6.0;
        let bits = FAILURE_BITS + 1.0 + libm::log2(self.coefficients() as f64);
        let rare = 2.0 * f64::from(self.sites) * variance * std::f64::consts::LN_2 * bits;
        never.min(rare.sqrt().ceil() as u64)
    }

    /// Whether the sum of all sites, at its largest and with the largest errors, is a word.
    pub(crate) fn fits(&self) -> bool {
        let sites = u128::from(self.sites);
        let largest = || {
            let base = u128::from(self.most).checked_mul(2 * sites)?.checked_add(1)?;
            let sum = base.checked_pow(self.slots)? / 2;
            sum.checked_mul(self.delta.into())?.checked_add(self.error_bound(self.sites).into())
        };
        largest().is_some_and(|largest| largest <= i64::MAX as u128)
    }

    /// The largest bound of one value in a word.
    fn capacity(&self) -> u64 {
        let room = i64::MAX.unsigned_abs() - self.error_bound(self.sites);
        room / self.delta / u64::from(self.sites)
    }

    /// K·B: what the errors of so many uploads cannot exceed.
    fn error_bound(&self, uploads: u32) -> u64 {
        u64::from(uploads) << self.set.noise_bits()
    }

    /// The radix of the slots.
    fn base(&self) -> i64 {
        2 * i64::from(self.sites) * self.most as i64 + 1
    }

    /// The parameter set.
    pub fn set(&self) -> Set {
        self.set
    }

    /// The most sites of a sum.
    pub fn sites(&self) -> u32 {
        self.sites
    }

    /// Values of one update.
    pub fn values(&self) -> u64 {
        self.values
    }

    /// The largest magnitude of one site's value.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Values of one coefficient.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Δ: the scale of the values.
    pub fn delta(&self) -> u64 {
        self.delta
    }

    /// Whether no sum can round wrongly; else one does with a probability of at most 2^-40.
    pub fn never_fails(&self) -> bool {
        self.delta / 2 >= self.error_bound(self.sites)
    }

    fn value_coefficients(&self) -> u64 {
        self.values.div_ceil(self.slots.into())
    }

    /// Coefficients of an update, in whole blocks.
    pub fn coefficients(&self) -> u64 {
        (self.value_coefficients() + 1 + MIN_PADS).next_multiple_of(self.set.degree() as u64)
    }

    /// Bytes of one upload, without its header of 64. A sum on its way to the sites has twice as
    /// many.
    pub fn bytes(&self) -> u64 {
        8 * self.coefficients()
    }

    /// A digest of all that the parties of one sum agree on.
    pub(crate) fn digest(&self, context: &[u8; 32]) -> Digest {
        Transcript::new("privet/he/glwe/v1")
            .bytes(context)
            .number(self.set.degree() as u64)
            .number(self.set.noise_bits().into())
            .number(self.sites.into())
            .number(self.values)
            .number(self.most)
            .number(self.slots.into())
            .number(self.delta)
            .finish()
    }

    /// Overwrites `out` with the coefficients of an update from number `first` on. All values are
    /// within the bound.
    pub(crate) fn pack(&self, values: &[i64], first: u64, out: &mut [u64]) {
        let (slots, base, delta) = (self.slots as usize, self.base(), self.delta as i64);
        let from = (first as usize * slots).min(values.len());
        let mut left = values[from..].chunks(slots);
        for (number, out) in (first..).zip(out) {
            let whole = match left.next() {
                Some(slots) => slots.iter().rev().fold(0, |sum, &value| sum * base + value),
                None => i64::from(number == self.value_coefficients()),
            };
            *out = (whole * delta).cast_unsigned();
        }
    }

    /// Appends the sums in opened coefficients from number `first` on. None if they are not those of
    /// `uploads` updates within the bound.
    pub(crate) fn unpack(
        &self,
        uploads: u32,
        opened: &[u64],
        first: u64,
        sums: &mut Vec<i64>,
    ) -> Option<()> {
        let delta = self.delta as i64;
        let (base, carry) = (self.base(), i64::from(self.sites) * self.most as i64);
        // Half of base^slots: what makes the digits of any sum ordinary ones.
        let half = (0..self.slots).fold(0, |half, _| half * base + carry);
        let largest = half * delta + self.error_bound(self.sites) as i64;
        let most = i64::from(uploads) * self.most as i64;
        for (number, &word) in (first..).zip(opened) {
            let word = word.cast_signed();
            if word.unsigned_abs() > largest.unsigned_abs() {
                return None;
            }
            // Rounded to the nearest; Δ is odd.
            let whole = (word.unsigned_abs() + self.delta / 2) / self.delta;
            let whole = whole as i64 * word.signum();
            let left = self.values.saturating_sub(number.saturating_mul(self.slots.into()));
            if left == 0 {
                let count = if number == self.value_coefficients() { uploads } else { 0 };
                if whole != i64::from(count) {
                    return None;
                }
                continue;
            }
            let mut rest = whole + half;
            for slot in 0..u64::from(self.slots) {
                let sum = rest.rem_euclid(base) - carry;
                rest = rest.div_euclid(base);
                if sum.unsigned_abs() > most.unsigned_abs() || (slot >= left && sum != 0) {
                    return None;
                }
                if slot < left {
                    sums.push(sum);
                }
            }
            if rest != 0 {
                return None;
            }
        }
        Some(())
    }
}
