//! From an opened sum back to the values: the inverse of [`crate::coding::layout`], and the checks that a
//! sum must pass.
//!
//! Block by block, so that the opened coefficients need not be held. Nothing here trusts what was
//! opened: a wrong key makes it arbitrary.

use crate::coding::divisor::Divisor;
use crate::coding::header::{HeaderSum, VERSION};
use crate::coding::layout::{Layout, LayoutError};
use crate::rlwe::Set;

/// Reads an opened sum block by block.
#[derive(Debug)]
pub struct Decoder {
    layout: Layout,
    survivors: u32,
    block: u64,
    header: Option<HeaderSum>,
    delta: Divisor,
    header_delta: Divisor,
    base: Divisor,
}

impl Decoder {
    /// For a sum over `survivors` sites.
    ///
    /// # Errors
    /// When those are none, or more than the encoding allows.
    pub fn new(layout: Layout, survivors: u32) -> Result<Self, LayoutError> {
        let encoding = layout.encoding();
        if survivors == 0 || survivors > encoding.sites() {
            return Err(LayoutError::Sites);
        }
        Ok(Self {
            layout,
            survivors,
            block: 0,
            header: None,
            delta: Divisor::new(encoding.delta()),
            header_delta: Divisor::new(encoding.header_delta()),
            base: Divisor::new(encoding.base()),
        })
    }

    /// Takes the next block of centred coefficients Δ·M + E, and appends its values' sums. After
    /// an error nothing of the sum is to be used.
    ///
    /// # Errors
    /// When there is no further block, it has another size, or the sum is refused.
    pub fn block(&mut self, opened: &[i64], sums: &mut Vec<i64>) -> Result<(), LayoutError> {
        let layout = self.layout;
        if self.block >= layout.blocks() || opened.len() != layout.encoding().set().degree() {
            return Err(LayoutError::Shape);
        }
        let mut opened = opened;
        let mut before = self.block * opened.len() as u64;
        if self.block == 0 {
            let (header, values) = opened.split_at(layout.header_len());
            self.header = Some(self.read_header(header)?);
            (opened, before) = (values, layout.header_len() as u64);
        }
        let left = layout.value_end().saturating_sub(before);
        let (values, pads) = opened.split_at(opened.len().min(left as usize));
        let first = (before - layout.header_len() as u64) * u64::from(layout.encoding().slots());
        self.read_values(values, layout.encoding().values().saturating_sub(first), sums)?;
        if pads.iter().any(|&pad| self.header_delta.nearest(pad) != Some(0)) {
            return Err(LayoutError::PadsNonzero);
        }
        self.block += 1;
        Ok(())
    }

    /// The header, when all blocks were taken.
    ///
    /// # Errors
    /// When blocks are missing.
    pub fn finish(self) -> Result<HeaderSum, LayoutError> {
        self.header.filter(|_| self.block == self.layout.blocks()).ok_or(LayoutError::Shape)
    }

    fn read_header(&self, opened: &[i64]) -> Result<HeaderSum, LayoutError> {
        let survivors = i64::from(self.survivors);
        let digits: Vec<_> = opened.iter().map(|&x| self.header_delta.nearest(x)).collect();
        let [version, count, digits @ ..] = &digits[..] else { return Err(LayoutError::Shape) };
        // The count first: it is what an upload that was dropped or doubled changes for sure.
        if *count != Some(survivors) {
            return Err(LayoutError::CountMismatch);
        }
        if *version != Some(survivors * i64::from(VERSION)) {
            return Err(LayoutError::VersionMismatch);
        }
        let bits = self.layout.encoding().digit_bits();
        HeaderSum::read(digits, bits, self.survivors, self.layout.authenticated())
    }

    /// Appends the sums of at most `left` values. Slots beyond them are pads.
    fn read_values(
        &self,
        opened: &[i64],
        left: u64,
        sums: &mut Vec<i64>,
    ) -> Result<(), LayoutError> {
        let encoding = self.layout.encoding();
        let most = (u64::from(self.survivors) * encoding.reach()) as i64;
        let slots = encoding.slots() as usize;
        let (mut in_range, mut pads) = (true, 0);
        if slots == 1 && encoding.set() == Set::Narrow {
            return read_narrow(opened, encoding.delta(), most, left, sums);
        }
        // Added to each digit, whoever is in the sum.
        let middle = u64::from(encoding.sites()) * encoding.reach();
        let bias = encoding.bias();
        sums.reserve(opened.len() * slots);
        let end = sums.len() + left.min((opened.len() * slots) as u64) as usize;
        let mut read = |digit: u64| {
            let sum = digit as i64 - middle as i64;
            in_range &= (-most..=most).contains(&sum);
            if sums.len() < end {
                sums.push(sum);
            } else {
                pads |= sum;
            }
        };
        for &x in opened {
            let number = self.delta.nearest(x).ok_or(LayoutError::SumOutOfRange)?;
            let mut number = u64::try_from(number.saturating_add_unsigned(bias))
                .map_err(|_| LayoutError::SumOutOfRange)?;
            for _ in 1..slots {
                let (rest, digit) = self.base.divide(number);
                read(digit);
                number = rest;
            }
            // What is left over in the last slot is out of range as well.
            read(number);
        }
        if !in_range {
            Err(LayoutError::SumOutOfRange)
        } else if pads != 0 {
            Err(LayoutError::PadsNonzero)
        } else {
            Ok(())
        }
    }
}

/// The same for one value a coefficient of 31 bits: the quotient is found in floats, four at a time, and is
/// the right one. Δ is odd, so that x/Δ is at least 1/2Δ away from where rounding turns, and the product's
/// error of 2^-52·2^30 is far less for the Δ there are.
fn read_narrow(
    opened: &[i64],
    delta: u64,
    most: i64,
    left: u64,
    sums: &mut Vec<i64>,
) -> Result<(), LayoutError> {
    // Adding this rounds to an integer, which is then in the low bits.
    const ROUNDS: f64 = (3u64 << 51) as f64;
    let inverse = 1.0 / delta as f64;
    let start = sums.len();
    // Bits that are set where something is out of range: no branch, so that it becomes vectors.
    let mut out_of_range = 0;
    sums.extend(opened.iter().map(|&x| {
        let narrow = x as i32;
        let rounded = f64::from(narrow) * inverse + ROUNDS;
        let sum = rounded.to_bits() as i64 - ROUNDS.to_bits() as i64;
        out_of_range |= (i64::from(narrow) ^ x) | (most - sum) >> 63 | (most + sum) >> 63;
        sum
    }));
    if out_of_range != 0 {
        return Err(LayoutError::SumOutOfRange);
    }
    let end = start + (left as usize).min(opened.len());
    let pads = sums.get(end..).is_some_and(|pads| pads.iter().any(|&pad| pad != 0));
    sums.truncate(end);
    if pads { Err(LayoutError::PadsNonzero) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
