//! Devices in software: reports, certificates and reference files of the forms that NVIDIA's have, byte for byte.
//!
//! ```text
//!   Maker ── root ─▶ identity ─▶ BROM ─▶ leaf with DICE extension ─▶ Device ── signs ─▶ report
//!     └───── root ─▶ signer ────────────────────────────────────────────────── signs ─▶ reference file
//! ```
//! Both roots are made when a [`Maker`] is, and are trusted by nobody who was not handed them: whatever leads to one
//! says that it is simulated. With these, every check is run against a fresh challenge on a machine that has no
//! such device; of the genuine ones they prove nothing.

mod certificates;
mod device;
mod reference;
mod saved;
mod software;

pub use certificates::{Dates, Maker, RevocationReason};
pub use device::{Device, Model};
pub use reference::Values;
pub use saved::{SavedDevice, Vendor};
pub use software::Software;

/// Why a device in software could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SimError(String);

impl std::fmt::Display for SimError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a device in software: {}", self.0)
    }
}

impl std::error::Error for SimError {}

impl From<rcgen::Error> for SimError {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<ring::error::Unspecified> for SimError {
    fn from(_: ring::error::Unspecified) -> Self {
        Self("no randomness, or a key that signs nothing".into())
    }
}

impl From<ring::error::KeyRejected> for SimError {
    fn from(error: ring::error::KeyRejected) -> Self {
        Self(error.to_string())
    }
}
