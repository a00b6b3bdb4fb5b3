//! Evidence of NVIDIA's GPUs and switches.
//!
//! ```text
//!   report, chain ─▶ structure ─▶ nonce ─▶ chain ─▶ signature ─▶ firmware ─▶ references ─▶ mode
//!                                                                  verify: one device at a time
//!   devices ─▶ platform: none twice, modes that go together, all switches there
//! ```
//! What a report says: which firmware and driver a genuine device runs, and that it answered this challenge. It
//! says nothing of the machine that asked the device for it, and has no bit for developer mode, which shows as a
//! measurement that does not match.

pub mod chip;
pub mod compare;
pub mod dice;
pub mod opaque;
pub mod platform;
mod references;
pub mod spdm;
#[cfg(test)]
mod tests;
pub mod verify;
