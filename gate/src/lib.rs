//! What a site allows, and who enforces it.
//!
//! ```text
//!                 ┌────────────────────── the site's gate ──────────────────────┐
//!   executor ───▶ │ job filters ──▶ SITE filters ──▶ weight, metrics ──▶ encode │ ──▶ Released
//!   executor ◀─── │ job filters ◀── SITE filters ◀── decode, digest             │ ◀── Arrived
//!                 └──────────────────────────────────────────────────────────────┘
//!                    site filters are nearest the wire in both directions:
//!                    last to touch what leaves, first to touch what arrives
//! ```
//!
//! A policy and a job are compiled into a [`Chain`] before a job starts. [`SiteGate`] and
//! [`ServerGate`] are the only makers of [`Released`], and the bytes of a `Released` can be read
//! only through [`Released::handover`], which first commits the budget and the audit line.

mod attestation;
mod audit;
mod chain;
mod envelope;
mod explain;
mod filter_use;
mod finding;
mod intersection;
mod job;
mod outbox;
mod policy;
mod released;
mod schema;
mod server;
mod site;
mod workload;

#[cfg(test)]
mod testing;

pub use attestation::{Attest, Attested, DemandAttested};
pub use audit::{AuditFile, Verification, verify};
pub use chain::{Chain, CompileError, Owner};
pub use envelope::{BodyCheck, Head, MAX_HEAD, TaskId};
pub use explain::{Explanation, Leaf, Privacy, Warning, explain};
pub use filter_use::FilterUse;
pub use finding::{Finding, Severity, Source, closest, did_you_mean};
pub use intersection::{Limits, Passage, PsiRule, about, admits};
pub use job::{
    Average, Column, CurvePoint, Direction, Evaluation, ExecutorKind, Job, JobFilter, Loaded,
    MAX_ROUNDS, Model, ModelKind, Offer, Schedule, ServerStep, Side, Simulate, SimulatedSite,
    Statistic, Train, Training, Work, WorkflowKind, parse_duration,
};
pub use outbox::Outbox;
pub use policy::{
    Asked, CA_TRUSTED, DANGER_UNFILTERED, Dataset, Out, Policy, Protect, Rule, SumsOver, TASKS,
    Weight, When, is_name,
};
pub use released::{Arrived, Parcel, Released, Status};
pub use schema::schema;
pub use server::ServerGate;
pub use site::{Lane, SiteGate, Ticket};
pub use workload::Workload;

#[cfg(target_endian = "big")]
compile_error!("tensors travel as little-endian words and are not swapped");
