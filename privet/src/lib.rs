//! Privet as a library: every filter registered, a simulator that runs the production code, kits,
//! and the report.
//!
//! ```text
//!   Program (filters, workload) ──run──▶ workspace: kits, one server, its sites ──▶ RunResult, report
//! ```
//! A filter of one's own:
//!
//! ```
//! use privet::prelude::*;
//!
//! struct Halve;
//! impl Filter for Halve {
//!     fn plan(&self, flow: Flow) -> Result<Flow, Reason> {
//!         Ok(flow)
//!     }
//!     fn apply(&self, message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
//!         Ok(message)
//!     }
//!     fn describe(&self) -> String {
//!         "halves nothing yet".to_owned()
//!     }
//! }
//! let program = Program::new().filter(FilterSpec::new("halve", "Halves.", |_, _| Ok(Box::new(Halve))));
//! assert!(program.is_ok());
//! ```

mod attest;
mod attestation;
mod curve;
mod inspect;
mod program;
mod psi;
mod report;
mod result;
mod run;
mod statistics;
mod template;
mod workload;
mod workspace;

pub use attest::{
    EvidenceError, EvidenceOptions, ShownPiece, evidence_policy, show_evidence, verify_evidence,
};
pub use curve::{Bought, buy};
pub use inspect::{
    DryRun, Explain, InspectError, budget, check, dry_run, explain_job, reset_budget,
};
pub use program::Program;
pub use psi::{
    Intersection, LocalOptions, LocalResult, SiteFound, cpu_seconds, estimate_files,
    intersect_files,
};
pub use report::bytes as human_bytes;
pub use result::{DatasetResult, RunResult, SiteResult};
pub use run::{RunError, RunEvent, RunOptions, run, serve_kit, site_kit};
pub use statistics::{ColumnAnswer, Histogram};
pub use template::{TEMPLATES, Template, TemplateError, init};
pub use workload::Builtin;

pub use privet_cc_attest as cc_attest;
pub use privet_core as core;
pub use privet_dp as dp;
pub use privet_gate as gate;
pub use privet_he as he;
pub use privet_server as server;
pub use privet_site as site;

/// What a program with filters of its own needs.
pub mod prelude {
    pub use crate::{Program, RunOptions, run};
    pub use privet_core::filter::Cancel;
    pub use privet_core::flow::Flow;
    pub use privet_core::tensor::{Tensor, Tensors, Values};
    pub use privet_core::{
        Code, Content, DataKind, Filter, FilterContext, FilterSpec, Message, Reason,
    };
}
