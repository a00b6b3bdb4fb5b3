//! Reference values: what a genuine driver and a genuine firmware measure.
//!
//! ```text
//!   file ─ profile, digest, signature ─▶ octets ─▶ Rim        (once)
//!   Rim ─ dates of its signer ─▶ compared                     (at each report)
//! ```
//! Everything but the dates is looked at when a file is opened, so that one is opened once and compared often.

pub(crate) mod c14n;
pub(crate) mod signature;
pub(crate) mod tag;

use privet_crypto::Digest;

use crate::nvidia::spdm::MEASUREMENT;
use crate::refusal::{Code, Refusal};
use crate::roots::{Root, Roots};
use crate::time::date;
use crate::x509::{Chain, ChainError};

/// What reference values are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The driver.
    Driver,
    /// The firmware, of a GPU or a switch.
    Vbios,
}

impl Role {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Vbios => "VBIOS",
        }
    }
}

/// What one measurement may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// Its number, from 0: a report's block of number `index + 1`.
    pub index: usize,
    /// Whether it must hold.
    pub active: bool,
    /// Values, of which one must be met. One of zeros is a value like others.
    pub alternatives: Vec<[u8; MEASUREMENT]>,
}

/// Reference values that are signed under a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rim {
    /// What the file was called by who handed it in.
    pub name: String,
    /// What it calls itself.
    pub id: String,
    /// Version of the driver or the firmware.
    pub version: String,
    /// The chip, as `GH100`.
    pub product: String,
    /// What it is of.
    pub role: Role,
    /// All measurements.
    pub measurements: Vec<Measurement>,
    /// SHA-256 of the file.
    pub sha256: [u8; 32],
    /// Whether the operator named this digest: its signer's dates are then not looked at.
    pub pinned: bool,
    chain: Chain,
    root: Root,
}

impl Rim {
    /// Opens a file: its form, its digest, its signature, and its certificates but for their dates.
    ///
    /// # Errors
    /// Why it says nothing.
    pub fn open(
        name: &str,
        file: &[u8],
        roots: &Roots,
        pins: &[[u8; 32]],
    ) -> Result<Self, Refusal> {
        let named =
            |refusal: Refusal| Refusal::new(refusal.code, format!("{name}: {}", refusal.detail));
        let signed = signature::open(file).map_err(named)?;
        // At the one time at which all certificates of a chain hold, if there is one.
        let root =
            signed.chain.verify(roots, signed.chain.window().0).map_err(|error| match error {
                ChainError::Untrusted(why) => named(Refusal::new(Code::RimSignature, why)),
                ChainError::Dates(why) => named(Refusal::new(Code::RimExpired, why)),
            })?;
        let tag = tag::read(&signed.octets).map_err(named)?;
        let Digest(sha256) = Digest::of(file);
        Ok(Self {
            name: name.to_owned(),
            id: tag.id,
            version: tag.version,
            product: tag.product,
            role: tag.role,
            measurements: tag.measurements,
            sha256,
            pinned: pins.contains(&sha256),
            root: root.clone(),
            chain: signed.chain,
        })
    }

    /// Who signed it.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// What that leads to.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Holds the dates of who signed it against a time, in seconds since 1970.
    ///
    /// # Errors
    /// `RimExpired`, unless the operator named the file.
    pub fn valid_at(&self, now: u64) -> Result<(), Refusal> {
        let (from, to) = self.chain.window();
        if self.pinned || (from..=to).contains(&now) {
            return Ok(());
        }
        let detail = format!(
            "{}: its signer's certificates hold from {} to {}, and it is {}",
            self.name,
            date(from),
            date(to),
            date(now)
        );
        Err(Refusal::new(Code::RimExpired, detail))
    }
}

/// Reference files that were opened, those that say nothing included.
#[derive(Debug, Clone, Default)]
pub struct References {
    rims: Vec<Rim>,
    refused: Vec<Refusal>,
}

impl References {
    /// Opens files.
    pub fn open<'f>(
        files: impl IntoIterator<Item = (&'f str, &'f [u8])>,
        roots: &Roots,
        pins: &[[u8; 32]],
    ) -> Self {
        let mut references = Self::default();
        for (name, file) in files {
            match Rim::open(name, file, roots, pins) {
                Ok(rim) => references.rims.push(rim),
                Err(refusal) => references.refused.push(refusal),
            }
        }
        references
    }

    /// Those that hold but for their dates.
    pub fn rims(&self) -> &[Rim] {
        &self.rims
    }

    /// Why others do not.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }
}

#[cfg(test)]
mod tests;
