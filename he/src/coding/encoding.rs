//! How integers become coefficients, chosen so that nothing can overflow.
//!
//! ```text
//!   coefficient of one site:  Δ·Σ_j v_j·base^j,   |v_j| ≤ most,   base = 2·K·most + 1
//!   opened sum:               Δ·Σ_j V_j·base^j + E,   |V_j| ≤ K·most,   |E| ≤ 84·K
//! ```
//! The digits V_j are balanced: with K·most added to each they are the ordinary digits in this
//! base, so no slot carries into the next. The whole is at most Δ·(base^slots − 1)/2 + 84·K, and an
//! [`Encoding`] exists only where that is at most (P − 1)/2, in exact integers: values in range
//! cannot overflow, whatever the errors are. Δ is the smallest at which, but for a probability of
//! 2^-40, no coefficient of the update decodes wrongly.
//!
//! An approximate encoding has Δ = 1: the values are that much finer, and E stays in the sum of the first
//! slot, for which base is that much larger.

use privet_crypto::Transcript;

use crate::coding::params::{CUT, MAX_SITES, MAX_VALUES, SIGMA, smallest_delta};
use crate::rlwe::Set;

/// Most slots of one coefficient.
const MAX_SLOTS: u32 = 16;

/// Coefficients that a header takes at most; see [`crate::coding::layout`].
pub(crate) const MAX_HEADER: u64 = 64;

/// Zeros at the end of every update at least. A wrong key opens each to 0 with probability Δ/P,
/// below 2^-19, so all of them with less than 2^-150.
pub(crate) const MIN_PADS: u64 = 8;

/// Whether the opened sum is that of the integers, or that plus noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The sum is right but for a probability of 2^-40 that some value is off by one.
    Exact,
    /// Each value of the sum has a Gaussian error of [`Encoding::noise`].
    Approximate,
}

/// Why there is no such encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodingError {
    /// A sum over no sites or too many.
    #[error("a sum is over 1 to {MAX_SITES} sites; lower the number of sites")]
    Sites,
    /// An update of no values or too many.
    #[error("an update holds 1 to 2^40 values; split the model")]
    Values,
    /// The values do not fit a coefficient.
    #[error("sums of so many bits do not fit; ask for {most} bits a value at most, or fewer sites")]
    TooWide {
        /// The most bits a value that this many sites and values allow.
        most: u32,
    },
    /// Fewer than 2 bits, the sign included.
    #[error("a value has 2 bits at least, the sign included")]
    TooNarrow,
}

/// An encoding that cannot overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    set: Set,
    precision: Precision,
    sites: u32,
    values: u64,
    most: u64,
    slots: u32,
    delta: u64,
    header_delta: u64,
}

impl Encoding {
    /// The exact encoding of `values` values, each within `bits` bits with the sign, summed over at
    /// most `sites` sites, that takes the fewest bytes. Without `bits`: the finest in 4 bytes a
    /// value.
    ///
    /// # Errors
    /// When a number is out of its range, or no parameter set can hold the sum.
    pub fn best(sites: u32, values: u64, bits: Option<u32>) -> Result<Self, EncodingError> {
        match bits {
            None => Self::finest(Set::Narrow, Precision::Exact, sites, values),
            Some(..=1) => Err(EncodingError::TooNarrow),
            Some(bits @ 2..=62) => Self::within((1 << (bits - 1)) - 1, sites, values),
            Some(63..) => Self::within(u64::MAX, sites, values),
        }
    }

    /// As [`Encoding::best`], for values of at most `most` in absolute value.
    ///
    /// # Errors
    /// As for [`Encoding::best`].
    pub fn within(most: u64, sites: u32, values: u64) -> Result<Self, EncodingError> {
        Self::cheapest(Precision::Exact, most, sites, values)
    }

    /// As [`Encoding::within`], in either precision.
    ///
    /// # Errors
    /// As for [`Encoding::best`].
    pub fn cheapest(
        precision: Precision,
        most: u64,
        sites: u32,
        values: u64,
    ) -> Result<Self, EncodingError> {
        if most == 0 {
            return Err(EncodingError::TooNarrow);
        }
        let candidates = Set::ALL.into_iter().flat_map(|set| {
            (1..=MAX_SLOTS).map(move |slots| {
                let encoding = Self::new(set, precision, sites, values, slots)?;
                Ok(Self { most, ..encoding })
            })
        });
        let candidates: Vec<_> = candidates.collect::<Result<_, _>>()?;
        let fitting = candidates.into_iter().filter(|encoding| encoding.fits());
        // Of equals the first: the narrower ring and the fewer slots.
        fitting.min_by_key(Self::bytes).ok_or_else(|| {
            let finest = Self::finest(Set::Wide, precision, sites, values);
            finest
                .map_or_else(|error| error, |finest| EncodingError::TooWide { most: finest.bits() })
        })
    }

    /// The finest encoding of one value a coefficient.
    ///
    /// # Errors
    /// When a number is out of its range.
    pub fn finest(
        set: Set,
        precision: Precision,
        sites: u32,
        values: u64,
    ) -> Result<Self, EncodingError> {
        let encoding = Self::new(set, precision, sites, values, 1)?;
        let most = encoding.capacity(encoding.delta);
        let encoding = Self { most, ..encoding };
        if most > 0 && encoding.fits() {
            Ok(encoding)
        } else {
            Err(EncodingError::TooWide { most: 0 })
        }
    }

    /// Without a bound of the values yet.
    fn new(
        set: Set,
        precision: Precision,
        sites: u32,
        values: u64,
        slots: u32,
    ) -> Result<Self, EncodingError> {
        if sites == 0 || sites > MAX_SITES {
            return Err(EncodingError::Sites);
        }
        if values == 0 || values > MAX_VALUES {
            return Err(EncodingError::Values);
        }
        // No update has more coefficients, pads included.
        let coefficients =
            values.div_ceil(slots.into()) + MAX_HEADER + MIN_PADS + set.degree() as u64;
        let header_delta = smallest_delta(sites, coefficients);
        let delta = match precision {
            Precision::Exact => header_delta,
            Precision::Approximate => 1,
        };
        Ok(Self { set, precision, sites, values, most: 0, slots, delta, header_delta })
    }

    /// Whether the sum of all sites, at its largest and with the largest errors, is a centred
    /// residue.
    fn fits(&self) -> bool {
        let sites = u128::from(self.sites);
        let reach = || {
            let base = u128::from(self.reach()).checked_mul(2 * sites)?.checked_add(1)?;
            let most = u128::from(self.most) * sites;
            let horner = |sum: u128, _| sum.checked_mul(base)?.checked_add(most);
            let sum = (0..self.slots).try_fold(0, horner)?;
            // Digits are read in 64 bits.
            i64::try_from(base.checked_pow(self.slots)?).ok()?;
            sum.checked_mul(self.delta.into())?.checked_add(sites * u128::from(CUT))
        };
        reach().is_some_and(|reach| reach <= self.set.bound().unsigned_abs().into())
    }

    /// The largest bound of one value a coefficient at this Δ.
    fn capacity(&self, delta: u64) -> u64 {
        let sites = u64::from(self.sites);
        (self.set.bound().unsigned_abs() - sites * CUT) / sites / delta
    }

    /// Bits of one digit of the header: a digit is a coefficient by itself, from 0 to 2^bits − 1.
    pub(crate) fn digit_bits(&self) -> u32 {
        self.capacity(self.header_delta).saturating_add(1).ilog2()
    }

    /// What is added to an opened coefficient's integer so that its digits are not negative:
    /// half of base^slots, rounded down.
    pub(crate) fn bias(&self) -> u64 {
        self.base().pow(self.slots) / 2
    }

    /// The radix of the slots.
    pub(crate) fn base(&self) -> u64 {
        2 * u64::from(self.sites) * self.reach() + 1
    }

    /// Largest absolute value of one site's share of an opened value, errors included where they
    /// stay.
    pub(crate) fn reach(&self) -> u64 {
        match self.precision {
            Precision::Exact => self.most,
            Precision::Approximate => self.most.saturating_add(CUT),
        }
    }

    /// The scale of the header and the pads, which are exact always.
    pub(crate) fn header_delta(&self) -> u64 {
        self.header_delta
    }

    /// The parameter set.
    pub fn set(&self) -> Set {
        self.set
    }

    /// Exact or approximate.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The most sites of a sum.
    pub fn sites(&self) -> u32 {
        self.sites
    }

    /// Values of one update.
    pub fn values(&self) -> u64 {
        self.values
    }

    /// The largest absolute value of one site's value.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Bits of a value that always fits, the sign included: the largest B with 2^(B−1) − 1 ≤
    /// [`Encoding::most`].
    pub fn bits(&self) -> u32 {
        (self.most + 1).ilog2() + 1
    }

    /// Values of one coefficient.
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Δ: the scale of the values.
    pub fn delta(&self) -> u64 {
        self.delta
    }

    /// Coefficients that hold values.
    pub fn value_coefficients(&self) -> u64 {
        self.values.div_ceil(self.slots.into())
    }

    /// Bytes of one upload at most, with header, pads and whole blocks.
    pub fn bytes(&self) -> u64 {
        let degree = self.set.degree() as u64;
        let coefficients = self.value_coefficients() + MAX_HEADER + MIN_PADS;
        coefficients.div_ceil(degree) * degree * self.set.coefficient_bytes()
    }

    /// Bytes of a value, without header, pads and the last block's rest.
    pub fn bytes_per_value(&self) -> f64 {
        self.set.coefficient_bytes() as f64 / f64::from(self.slots)
    }

    /// Standard deviation of each opened sum over `survivors` sites, in units of the integers; 0
    /// where the sum is exact.
    pub fn noise(&self, survivors: u32) -> f64 {
        match self.precision {
            Precision::Exact => 0.0,
            Precision::Approximate => SIGMA * f64::from(survivors).sqrt(),
        }
    }

    /// Writes all that sites must agree on.
    pub fn bind(&self, transcript: Transcript) -> Transcript {
        let precision = match self.precision {
            Precision::Exact => "exact",
            Precision::Approximate => "approximate",
        };
        transcript
            .bytes(self.set.as_str().as_bytes())
            .bytes(precision.as_bytes())
            .number(self.sites.into())
            .number(self.values)
            .number(self.most)
            .number(self.slots.into())
            .number(self.delta)
            .number(self.header_delta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEN_MILLION: u64 = 10_000_000;

    #[test]
    fn ten_sites_and_ten_million_values() {
        let finest = Encoding::best(10, TEN_MILLION, None).unwrap();
        assert_eq!((finest.set(), finest.slots()), (Set::Narrow, 1));
        assert_eq!((finest.delta(), finest.bits()), (369, 19));
        assert_eq!(finest.bytes(), 40_001_536);

        let chosen = |bits| {
            let encoding = Encoding::best(10, TEN_MILLION, Some(bits)).unwrap();
            assert!(encoding.bits() >= bits);
            (encoding.set(), encoding.slots())
        };
        assert_eq!(chosen(19), (Set::Narrow, 1));
        assert_eq!(chosen(13), (Set::Wide, 3));
        assert_eq!(chosen(12), (Set::Wide, 3));
        assert_eq!(chosen(9), (Set::Wide, 4));
        assert_eq!(chosen(8), (Set::Wide, 4));
        assert_eq!(chosen(7), (Set::Wide, 5));
        assert_eq!(chosen(20), (Set::Wide, 2));
        assert_eq!(chosen(30), (Set::Wide, 1));
    }

    #[test]
    fn a_small_update_takes_the_narrow_ring() {
        let encoding = Encoding::best(3, 10, Some(12)).unwrap();
        assert_eq!((encoding.set(), encoding.bytes()), (Set::Narrow, 8192));
    }

    #[test]
    fn the_refusal_says_what_can_be_done() {
        for (sites, values) in [(10, TEN_MILLION), (1, 1), (390, MAX_VALUES)] {
            let Err(EncodingError::TooWide { most }) = Encoding::best(sites, values, Some(60))
            else {
                panic!("60 bits do not fit")
            };
            assert!(Encoding::best(sites, values, Some(most)).is_ok());
            for beyond in [most + 1, 62, 63, 64, u32::MAX] {
                let refused = Encoding::best(sites, values, Some(beyond));
                assert_eq!(refused, Err(EncodingError::TooWide { most }));
            }
        }
        assert_eq!(Encoding::best(0, 1, None), Err(EncodingError::Sites));
        assert_eq!(Encoding::best(391, 1, Some(8)), Err(EncodingError::Sites));
        assert_eq!(Encoding::best(2, 0, None), Err(EncodingError::Values));
        assert_eq!(Encoding::best(2, MAX_VALUES + 1, None), Err(EncodingError::Values));
        assert_eq!(Encoding::best(2, 1, Some(1)), Err(EncodingError::TooNarrow));
        assert_eq!(Encoding::within(0, 2, 1), Err(EncodingError::TooNarrow));
    }

    #[test]
    fn approximate_values_are_finer_by_the_scale() {
        let encoding =
            Encoding::finest(Set::Narrow, Precision::Approximate, 10, TEN_MILLION).unwrap();
        assert_eq!((encoding.delta(), encoding.bits()), (1, 27));
        assert!((encoding.noise(4) - 12.8).abs() < 1e-12);
        assert_eq!(Encoding::best(10, 5, None).unwrap().noise(10), 0.0);
    }

    /// Bounds so small that many slots would fit a coefficient, and their digits no word.
    #[test]
    fn small_approximate_values_are_read_in_words() {
        for sites in 1..40 {
            for most in 1..30 {
                let encoding =
                    Encoding::cheapest(Precision::Approximate, most, sites, 1_000_000).unwrap();
                assert!(encoding.bias() < 1 << 62);
            }
        }
    }

    /// The sum of all inputs at their largest with all errors at the cut stays within half the
    /// modulus, and the finest encoding leaves no room for one step more.
    #[test]
    fn the_range_rule_is_exact() {
        for sites in [1, 2, 7, 10, 100, 390] {
            for values in [1, 100_000, MAX_VALUES] {
                for set in Set::ALL {
                    for precision in [Precision::Exact, Precision::Approximate] {
                        let encoding = Encoding::finest(set, precision, sites, values).unwrap();
                        let worst = |most: u64| {
                            i128::from(sites)
                                * (i128::from(encoding.delta()) * i128::from(most)
                                    + i128::from(CUT))
                        };
                        let half = i128::from(set.bound().unsigned_abs());
                        assert!(worst(encoding.most()) <= half);
                        assert!(worst(encoding.most() + 1) > half);
                        assert!(!Encoding { most: encoding.most() + 1, ..encoding }.fits());
                        assert!(encoding.digit_bits() >= 4);
                        // What the authentication code can carry.
                        if precision == Precision::Exact {
                            assert!(encoding.most() * u64::from(sites) < 1 << 55);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_transcript_tells_encodings_apart() {
        let digest = |encoding: Encoding| encoding.bind(Transcript::new("t")).finish();
        let one = Encoding::best(10, 1000, Some(8)).unwrap();
        assert_eq!(digest(one), digest(Encoding::best(10, 1000, Some(8)).unwrap()));
        for other in [(10, 1000, Some(9)), (11, 1000, Some(8)), (10, 1001, Some(8))] {
            assert_ne!(digest(one), digest(Encoding::best(other.0, other.1, other.2).unwrap()));
        }
    }

    proptest! {
        #[test]
        fn what_is_chosen_fits_and_what_is_refused_does_not(
            sites in 1..=MAX_SITES, values in 1..=1u64 << 34, bits in 2u32..62,
        ) {
            match Encoding::best(sites, values, Some(bits)) {
                Ok(encoding) => {
                    prop_assert!(encoding.fits());
                    let most = i128::from(encoding.most());
                    let all = i128::from(encoding.base()).pow(encoding.slots()) / 2;
                    let horner = |sum: i128| {
                        (0..encoding.slots()).fold(0, |m, _| m * i128::from(encoding.base()) + sum)
                    };
                    prop_assert_eq!(horner(most * i128::from(sites)), all);
                    prop_assert_eq!(i128::from(encoding.bias()), all);
                }
                Err(EncodingError::TooWide { most }) => prop_assert!(most < bits),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }
}
