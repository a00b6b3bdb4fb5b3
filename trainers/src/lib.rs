//! Built-in models and what trains them.
//!
//! ```text
//!   CSV ──▶ Table (public ranges, rows of norm 1) ──▶ RecordSums: Σ clip(∇ℓ per record), proved
//!                                                 └─▶ LocalSteps: a few steps of SGD, the difference
//!                                                 └─▶ Evaluator: loss and accuracy, at a server
//!   CSV ──▶ columns (public ranges) ──▶ Statistics: counts, sums, histograms, proved
//! ```
//! A [`Model`] gives the gradient of one record; nothing else knows its kind.
//! [`RecordSums`] is stateless given the model and the data: one gradient sum
//! at released parameters is what record-level privacy holds for.

pub mod data;
mod linear;
mod mlp;
pub mod model;
mod statistics;
pub mod train;

pub use data::{DataError, Table};
pub use linear::Linear;
pub use mlp::Mlp;
pub use model::Model;
pub use statistics::Statistics;
pub use train::{Evaluator, LocalSteps, RecordSums};
