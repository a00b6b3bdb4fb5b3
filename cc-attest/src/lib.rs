//! Evidence of confidential computing, and its appraisal.
//!
//! ```text
//!   bytes ─▶ kind ─▶ format ─▶ nonce ─▶ chain, signature ─▶ firmware ─▶ references ─▶ Device, Refusals
//!   Devices ─ policy ─▶ Appraisal
//! ```
//! Verifiers are pure: reference values, revocation lists and the clock are handed in, nothing is fetched.
//! All this was held against recorded evidence and a device in software; it has never run on
//! confidential-computing hardware.

// What verifiers share is used by those that are built.
#![cfg_attr(not(all(feature = "snp", feature = "tdx")), allow(dead_code))]

pub mod appraisal;
pub mod binding;
mod certs;
pub mod challenge;
pub mod cpu;
pub mod ear;
mod encoding;
pub mod evidence;
pub mod federation;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod json;
mod jws;
pub mod nras;
pub mod nvidia;
pub mod policy;
pub mod refusal;
pub mod revocation;
pub mod rim;
pub mod roots;
pub mod show;
#[cfg(any(test, feature = "sim-device"))]
pub mod sim;
#[cfg(feature = "snp")]
pub mod snp;
pub mod source;
#[cfg(feature = "tdx")]
pub mod tdx;
#[cfg(test)]
mod testing;
mod time;
pub mod verifier;
mod words;
pub mod x509;
