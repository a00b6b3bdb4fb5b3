//! Differential privacy.
//!
//! ```text
//!   per-record gradients ──RecordSum──▶ integers, |one record| ≤ c ─┐
//!   columns of a table ──statistics───▶ integers, |one record| ≤ c ─┤
//!   whole update ────────clip─────────▶ integers, |the update| ≤ c ─┴─gaussian (σ = z·c)─▶ leaves
//!                                                                        │
//!   ledger: reserve ◀── before training        commit, on disk ◀─────────┘ before bytes move
//! ```
//!
//! Constraining sensitivity and adding noise are two duties: [`lattice`] proves the bound on
//! integers, `gaussian` and `laplace` scale exact integer [`noise`] to the proof they find.
//! [`accounting`] turns events into (ε, δ); [`SiteLedger`] stores events, never ε. What a [`plan`] costs that is
//! fixed in advance, [`pld`] says most tightly.

pub mod accounting;
mod additive;
#[cfg(test)]
mod audits;
mod claim;
mod clip;
pub mod lattice;
mod ledger;
pub mod noise;
pub mod plan;
pub mod pld;
mod sparse;
pub mod statistics;

pub use ledger::SiteLedger;

use privet_core::FilterSpec;

/// The specs of this crate's filters.
pub fn specs() -> [FilterSpec; 5] {
    [clip::SPEC, claim::SPEC, additive::GAUSSIAN, additive::LAPLACE, sparse::SPEC]
}
