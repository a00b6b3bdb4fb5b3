//! Where the values of an update lie in its blocks, and what else travels with them.
//!
//! ```text
//!   block 0: version · count 1 · weight · tags │ values …      block n−1: … values │ zeros
//!            └ digits, one a coefficient ─────┘ └ slots ┘                   pads (≥ 8)
//! ```
//! All tensors lie one after the other. A number of the header is split into as many digits as it
//! needs, each a coefficient of its own at an exact scale, so the header is exact in every
//! encoding. The sum of the counts is the number of sites in the sum; pads that do not open to 0
//! betray a wrong key.

use std::ops::Range;

use crate::coding::encoding::{Encoding, MIN_PADS, Precision};
use crate::coding::header::{self, Header, VERSION};
use crate::mac::{MacError, MacKey};
use crate::rlwe::Set;
use crate::rlwe::backend::{fastest, kernel};

/// Why an update cannot be laid out, or an opened sum not be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Tags were asked for in an approximate encoding, whose errors they would not survive.
    #[error("an approximate sum cannot be authenticated; use exact sums or no `verify`")]
    MacNeedsExact,
    /// A weight beyond 2^40.
    #[error("a site's weight is 2^40 at most; use a larger unit for weights")]
    Weight,
    /// The number of values is not that of the layout, or a block has another size or place.
    #[error("the values or blocks are not those of this layout")]
    Shape,
    /// The header has tags where the layout has none, or the other way round.
    #[error("the header and its layout differ in whether they are authenticated")]
    Tags,
    /// No sites, or more than the encoding allows.
    #[error("the sum is over more sites than its encoding allows, or over none")]
    Sites,
    /// The sum does not hold each of its sites once.
    #[error(
        "the sum does not count its sites once each: an upload was dropped or added twice, or the \
         key is wrong; run the round again"
    )]
    CountMismatch,
    /// The sites wrote another layout.
    #[error("the sites use different layouts; bring all to one version of privet")]
    VersionMismatch,
    /// What must be zero is not.
    #[error("the sum's padding is not zero: the key is wrong; run the round again")]
    PadsNonzero,
    /// A sum that in-range inputs cannot have.
    #[error("the sum is out of range: a site sealed values beyond the bound; run the round again")]
    SumOutOfRange,
    /// The values could not be authenticated.
    #[error(transparent)]
    Mac(#[from] MacError),
}

/// The layout of an update in one encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    encoding: Encoding,
    mac: bool,
    /// Coefficients of the header.
    header_len: usize,
}

impl Layout {
    /// Lays out an update, with tags or without.
    ///
    /// # Errors
    /// When tags are asked for in an approximate encoding.
    pub fn new(encoding: Encoding, mac: bool) -> Result<Self, LayoutError> {
        if mac && encoding.precision() == Precision::Approximate {
            return Err(LayoutError::MacNeedsExact);
        }
        let header_len = 2 + header::digits(encoding.digit_bits(), mac);
        Ok(Self { encoding, mac, header_len })
    }

    /// The encoding of the values.
    pub fn encoding(&self) -> &Encoding {
        &self.encoding
    }

    /// Whether the sum carries tags.
    pub fn authenticated(&self) -> bool {
        self.mac
    }

    /// Number of blocks, each of [`crate::rlwe::Set::degree`] coefficients.
    pub fn blocks(&self) -> u64 {
        let used = self.value_end() + MIN_PADS;
        used.div_ceil(self.encoding.set().degree() as u64)
    }

    /// Coefficients of the header.
    pub(crate) fn header_len(&self) -> usize {
        self.header_len
    }

    /// The coefficient after the last value.
    pub(crate) fn value_end(&self) -> u64 {
        self.header_len as u64 + self.encoding.value_coefficients()
    }

    /// A header without tags.
    ///
    /// # Errors
    /// When the layout has tags, or the weight is too large.
    pub fn header(&self, weight: u64) -> Result<Header, LayoutError> {
        if self.mac {
            return Err(LayoutError::Tags);
        }
        Header::new(weight)
    }

    /// The header of site number `site` for these values, which are taken clamped.
    ///
    /// # Errors
    /// When the layout has no tags, the weight is too large, or the values are not as many as the
    /// layout has.
    pub fn tagged_header(
        &self,
        weight: u64,
        values: &[i64],
        key: &MacKey,
        site: u32,
    ) -> Result<Header, LayoutError> {
        if !self.mac {
            return Err(LayoutError::Tags);
        }
        self.check_len(values.len())?;
        let clamp = self.clamp();
        Header::tagged(weight, key, site, |mac| mac.update_by(values, clamp))
    }

    fn check_len(&self, len: usize) -> Result<(), LayoutError> {
        if len as u64 == self.encoding.values() { Ok(()) } else { Err(LayoutError::Shape) }
    }

    /// Clamps to ±[`Encoding::most`]; without `Ord::clamp`, whose check costs a nanosecond here.
    fn clamp(&self) -> impl Fn(i64) -> i64 + use<> {
        let most = self.encoding.most() as i64;
        move |value| value.min(most).max(-most)
    }

    /// Which of an update's values are in a block.
    pub fn range(&self, block: u64) -> Range<usize> {
        let degree = self.encoding.set().degree() as u64;
        let first = |block: u64| (block * degree).saturating_sub(self.header_len as u64);
        let value = |coefficient: u64| {
            let value = coefficient.saturating_mul(self.encoding.slots().into());
            value.min(self.encoding.values()) as usize
        };
        value(first(block))..value(first(block.saturating_add(1)))
    }

    /// Writes one block of one site's update, each coefficient times Δ and centred, and returns
    /// how many of the block's values were clamped to ±[`Encoding::most`]. `values` are those of
    /// the block's [`Layout::range`]; blocks may be written in any order.
    ///
    /// # Errors
    /// When the header is for another layout, the values are not as many as the block has, or
    /// there is no such block.
    pub fn encode(
        &self,
        block: u64,
        header: &Header,
        values: &[i64],
        out: &mut [i64],
    ) -> Result<usize, LayoutError> {
        let fits = block < self.blocks() && out.len() == self.encoding.set().degree();
        if !fits || values.len() != self.range(block).len() {
            return Err(LayoutError::Shape);
        }
        if header.authenticated() != self.mac {
            return Err(LayoutError::Tags);
        }
        out.fill(0);
        let mut first = 0;
        if block == 0 {
            let scale = self.encoding.header_delta() as i64;
            let digits = self.digits(header);
            out.iter_mut().zip(digits).for_each(|(out, digit)| *out = digit as i64 * scale);
            first = self.header_len;
        }
        let slots = self.encoding.slots() as usize;
        let (delta, base) = (self.encoding.delta() as i64, self.encoding.base() as i64);
        let most = self.encoding.most() as i64;
        let out = &mut out[first..];
        if slots == 1 && self.encoding.set() == Set::Narrow {
            // Δ·most is below 2^30 here, so that products of 32 bits do.
            return Ok(scale_narrow(fastest(), most as i32, delta as i32, values, out) as usize);
        }
        let (clamp, mut clamped) = (self.clamp(), 0);
        let mut keep = |value: i64| {
            let kept = clamp(value);
            clamped += usize::from(kept != value);
            kept
        };
        for (out, slots) in out.iter_mut().zip(values.chunks(slots)) {
            let digits = slots.iter().rev();
            *out = digits.fold(0, |sum, &value| sum * base + keep(value)) * delta;
        }
        Ok(clamped)
    }

    /// What the header writes into its coefficients.
    fn digits(&self, header: &Header) -> impl Iterator<Item = u64> {
        [u64::from(VERSION), 1].into_iter().chain(header.digits(self.encoding.digit_bits()))
    }
}

kernel! {
    /// Clamps to ±`most` and multiplies by `delta`; says how many were clamped.
    fn scale_narrow(most: i32, delta: i32, values: &[i64], out: &mut [i64]) -> u64 = scaled;
}

#[inline(always)]
fn scaled(most: i32, delta: i32, values: &[i64], out: &mut [i64]) -> u64 {
    let (most, delta) = (i64::from(most), i64::from(delta));
    let mut clamped = 0;
    for (out, &value) in out.iter_mut().zip(values) {
        let kept = value.min(most).max(-most);
        clamped += u64::from(kept != value);
        *out = i64::from(kept as i32) * delta;
    }
    clamped
}
