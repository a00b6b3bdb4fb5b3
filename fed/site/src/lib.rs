//! The data owner's process: joins a federation, trains, and lets results out through its gate.
//!
//! ```text
//!   server ══task══▶ Arrived ─▶ Lane::begin ─▶ executor ─▶ Lane::release ─▶ handover ══▶ server
//!                                  │ refusal               │ refusal
//!                                  └────────▶ audit, and a state with a code ◀──┘
//! ```
//! Nothing of an executor's errors crosses the wire; they are in the site's audit log.

mod agent;
mod intersection;

pub use agent::{Ended, Event, OpenLedger, OpenSeal, Parts, SiteError, run};
pub use intersection::{Kept, REST_FILE, ROWS_FILE, peak_rss};
