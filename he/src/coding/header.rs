//! What travels beside the values of an update, as digits of so many bits each: a digit is a number from
//! 0 on that a scheme adds up like a value, so that sums of digits give sums of numbers.
//!
//! ```text
//!   site: weight · tags ──digits──▶ sealed, added, opened ──read──▶ Σ weight · Σ tags mod Q ──check──▶ accepted
//! ```

use crate::coding::layout::LayoutError;
use crate::mac::{Mac, MacError, MacKey, Q, TAGS, Tags};

/// The layout that this version reads and writes.
pub(crate) const VERSION: u32 = 1;

/// Largest weight of one site.
pub const MAX_WEIGHT: u64 = 1 << 40;

const WEIGHT_BITS: u32 = 41;
const TAG_BITS: u32 = 61;

/// Digits of `bits` bits that a header takes.
pub(crate) fn digits(bits: u32, authenticated: bool) -> usize {
    let tags = if authenticated { TAGS * TAG_BITS.div_ceil(bits) as usize } else { 0 };
    WEIGHT_BITS.div_ceil(bits) as usize + tags
}

/// One site's header.
#[derive(Clone)]
pub struct Header {
    weight: u64,
    tags: Option<Tags>,
}

impl Header {
    /// A header without tags.
    ///
    /// # Errors
    /// When the weight is too large.
    pub fn new(weight: u64) -> Result<Self, LayoutError> {
        if weight > MAX_WEIGHT { Err(LayoutError::Weight) } else { Ok(Self { weight, tags: None }) }
    }

    /// The header of site number `site`, with the tags of its values.
    ///
    /// # Errors
    /// When the weight or a value is too large.
    pub fn tagged(
        weight: u64,
        key: &MacKey,
        site: u32,
        values: impl FnOnce(&mut Mac) -> Result<(), MacError>,
    ) -> Result<Self, LayoutError> {
        let header = Self::new(weight)?;
        let mut mac = Mac::new(key);
        mac.update(&[i64::from(VERSION), 1, header.weight as i64])?;
        values(&mut mac)?;
        Ok(Self { tags: Some(mac.tags(site)), ..header })
    }

    /// Whether it has tags.
    pub(crate) fn authenticated(&self) -> bool {
        self.tags.is_some()
    }

    /// Its numbers in digits, the low ones first.
    pub(crate) fn digits(&self, bits: u32) -> impl Iterator<Item = u64> {
        let split = move |number: u64, of: u32| {
            (0..of.div_ceil(bits)).map(move |i| number >> (i * bits) & ((1 << bits) - 1))
        };
        let tags = self.tags.into_iter().flatten().flat_map(move |tag| split(tag, TAG_BITS));
        split(self.weight, WEIGHT_BITS).chain(tags)
    }
}

/// The opened header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderSum {
    /// Sites in the sum.
    pub survivors: u32,
    /// Sum of the weights.
    pub weight: u64,
    /// Sum of the tags modulo [`Q`].
    pub tags: Option<Tags>,
}

impl HeaderSum {
    /// Reads sums of digits, as many as [`digits`] says; `None` is one that could not be read.
    ///
    /// # Errors
    /// When no headers of so many sites have these sums.
    pub(crate) fn read(
        sums: &[Option<i64>],
        bits: u32,
        survivors: u32,
        authenticated: bool,
    ) -> Result<Self, LayoutError> {
        let most = i64::from(survivors) * ((1 << bits) - 1);
        let join = |sums: &[Option<i64>]| -> Result<u128, LayoutError> {
            sums.iter().rev().try_fold(0u128, |joined, &sum| {
                let sum = sum.filter(|sum| (0..=most).contains(sum));
                Ok((joined << bits) + sum.ok_or(LayoutError::SumOutOfRange)? as u128)
            })
        };
        let split = sums.split_at_checked(WEIGHT_BITS.div_ceil(bits) as usize);
        let (weight, digits) = split.ok_or(LayoutError::Shape)?;
        let weight = u64::try_from(join(weight)?)
            .ok()
            .filter(|&weight| weight <= u64::from(survivors) * MAX_WEIGHT)
            .ok_or(LayoutError::SumOutOfRange)?;
        let mut tags = [0; TAGS];
        for (tag, digits) in tags.iter_mut().zip(digits.chunks(TAG_BITS.div_ceil(bits) as usize)) {
            *tag = (join(digits)? % u128::from(Q)) as u64;
        }
        Ok(Self { survivors, weight, tags: authenticated.then_some(tags) })
    }

    /// Starts to look whether the values that go with this header are those that were sealed.
    ///
    /// # Errors
    /// When it has no tags, or no sites have such a weight.
    pub fn check(&self, key: &MacKey) -> Result<Check, LayoutError> {
        let tags = self.tags.ok_or(LayoutError::Tags)?;
        let count = i64::from(self.survivors);
        let weight = i64::try_from(self.weight).map_err(|_| LayoutError::SumOutOfRange)?;
        let mut mac = Mac::new(key);
        mac.update(&[i64::from(VERSION) * count, count, weight])?;
        Ok(Check { mac, tags, survivors: self.survivors })
    }
}

/// A sum that is being checked; its values come in pieces.
pub struct Check {
    mac: Mac,
    tags: Tags,
    survivors: u32,
}

impl Check {
    /// Takes the next values.
    ///
    /// # Errors
    /// When one is beyond what tags can carry.
    pub fn update(&mut self, sums: &[i64]) -> Result<(), LayoutError> {
        Ok(self.mac.update(sums)?)
    }

    /// Accepts what was taken as the sum of exactly these sites.
    ///
    /// # Errors
    /// When the sites are not in ascending order or not as many as counted, or the tags do not fit.
    pub fn finish(self, sites: &[u32]) -> Result<(), LayoutError> {
        if sites.len() != self.survivors as usize {
            return Err(LayoutError::CountMismatch);
        }
        Ok(self.mac.verify(sites, self.tags)?)
    }
}
