//! The server: rounds, workflows, spool, checkpoints.
//!
//! ```text
//!   Workflow ──task──▶ Rounds ──▶ ServerGate ──▶ Federation ══▶ sites
//!      ▲                                             │ uploads
//!      └── sum ◀── ServerGate ◀── Aggregator ◀── Spool (whole, checked)
//! ```
//! The workflow runs on a thread of its own and sees rounds; [`Federation`] serves the network and
//! sees sites. Uploads are added only when the round is over, site by site in the order of their
//! names, so that nobody is half inside a sum and a resumed round gives the same bits.

mod checkpoint;
mod fedavg;
mod federation;
mod intersection;
mod record;
mod rounds;
mod run;
mod session;
mod spool;
mod statistics;
mod workflow;

pub use checkpoint::{read_model, write_model};
pub use record::{Failure, Metrics, Outcome, Progress, RoundRecord, SiteRecord, Status};
pub use run::{OUTCOME_FILE, OpenSeal, PROGRESS_FILE, ServerError, run};
