//! What a job does, round by round.

use privet_core::tensor::Tensors;

use crate::checkpoint::State;
use crate::record::{Failure, Metrics};
use crate::rounds::Rounds;

/// A controller of rounds. It runs on a thread of its own and may block.
pub(crate) trait Workflow: Send {
    /// Runs the job to its end, from where its checkpoint stands.
    ///
    /// # Errors
    /// When a round does not reach its quorum, a filter of the server refuses, or somebody stops
    /// the job.
    fn run(&mut self, rounds: &mut Rounds<'_>) -> Result<Metrics, Failure>;

    /// What would be delivered if the job ended now: a model, or a sum.
    fn model(&self) -> Tensors;

    /// What a checkpoint keeps.
    fn state(&self) -> State;
}
