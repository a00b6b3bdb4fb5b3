//! Evidence of confidential computing, and its appraisal.
//!
//! ```text
//!   bytes ─▶ kind ─▶ format ─▶ nonce ─▶ chain, signature ─▶ firmware ─▶ references ─▶ Device, Refusals
//!   Devices ─ policy ─▶ Appraisal
//! ```
//! Verifiers are pure: reference values, revocation lists and the clock are handed in, nothing is fetched.
//! All this was held against recorded evidence and a device in software; it has never run on
//! confidential-computing hardware.

pub mod appraisal;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod nvidia;
pub mod refusal;
pub mod rim;
pub mod roots;
pub mod show;
#[cfg(any(test, feature = "sim-device"))]
pub mod sim;
pub mod x509;

#[cfg(test)]
mod testing;
