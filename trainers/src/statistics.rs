//! An executor that answers questions about a table.

use privet_core::executor::{Executor, TaskResult};
use privet_core::filter::Cancel;
use privet_core::sensitivity::Prover;
use privet_core::{Content, DataKind, Message};
use privet_dp::statistics::{Question, answer};

/// Counts, sums and histograms of columns.
///
/// # Guarantee
/// The answer has the sensitivity that [`privet_dp::statistics::bound`] says, and depends on the
/// table alone.
pub struct Statistics {
    questions: Vec<Question>,
    columns: Vec<Vec<f64>>,
    prover: Prover,
}

impl Statistics {
    /// Answers these questions about columns as [`columns`](crate::data::columns) gives them.
    pub fn new(questions: Vec<Question>, columns: Vec<Vec<f64>>, prover: Prover) -> Self {
        Self { questions, columns, prover }
    }
}

impl Executor for Statistics {
    fn execute(&mut self, task: &Message, cancel: &Cancel) -> TaskResult {
        if cancel.is_cancelled() {
            return TaskResult::failed("stopped");
        }
        match answer(&self.prover, &self.questions, &self.columns) {
            Ok(lattice) => TaskResult::done(Message::new(
                task.task.clone(),
                DataKind::Statistics,
                Content::Lattice(lattice),
            )),
            Err(reason) => TaskResult::failed(reason.detail),
        }
    }
}
