//! The contract between Privet's crates: what a message is, what a filter may do to it, what a
//! refusal says, and the seams behind which ledgers, aggregators, executors and clocks stand.
//!
//! ```text
//!  executor ──TaskResult──▶ job filters ──▶ site filters ──▶ Released ══network══▶ Arrived ──▶ aggregator
//!     ▲                                                                                          │
//!     └──── job filters ◀── site filters ◀── Arrived ◀══network══ Released ◀── server filters ◀──┘
//! ```
//!
//! Nothing here does I/O, reads a file or knows a cipher. A crate that implements one of the
//! seams imports this crate and no sibling of its own.

pub mod adaptive;
pub mod admission;
pub mod aggregate;
pub mod audit;
pub mod channel;
pub mod clock;
pub mod event;
pub mod executor;
pub mod filter;
pub mod flow;
pub mod intersect;
pub mod ledger;
pub mod message;
pub mod params;
pub mod receipt;
pub mod refusal;
pub mod registry;
pub mod seal;
pub mod sensitivity;
pub mod tensor;

pub use filter::{Filter, FilterContext};
pub use message::{Content, DataKind, Message};
pub use refusal::{Code, Reason, Refusal, Stage};
pub use registry::{FilterSpec, Registry};
