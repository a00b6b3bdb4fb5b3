//! Federated statistics: one round, whose sum is what is delivered.
//!
//! ```text
//!   task: what is asked, as tensors of zeros ──▶ sites: counts and sums, with noise ──▶ Σ
//! ```
//! What the numbers say of means, variances and quantiles is post-processing of that sum.

use std::collections::BTreeMap;

use privet_core::aggregate::Combine;
use privet_core::tensor::Tensors;

use crate::checkpoint::{Checkpoint, State};
use crate::record::{Failure, Metrics};
use crate::rounds::Rounds;
use crate::workflow::Workflow;

/// Names of what a checkpoint keeps.
pub(crate) const GROUPS: [&str; 1] = ["model"];

/// The workflow.
pub(crate) struct Statistics {
    asked: Tensors,
    sum: Option<Tensors>,
}

impl Statistics {
    pub(crate) fn new(asked: Tensors, from: Option<Checkpoint>) -> Self {
        let finished = from.filter(|checkpoint| checkpoint.round > 0);
        let sum = finished.and_then(|checkpoint| checkpoint.state.tensors.get("model").cloned());
        Self { asked, sum }
    }
}

impl Workflow for Statistics {
    fn run(&mut self, rounds: &mut Rounds<'_>) -> Result<Metrics, Failure> {
        if self.sum.is_none() {
            let sum = rounds.round(1, self.asked.clone(), Combine::Sum)?;
            self.sum = Some(sum.tensors.clone());
            rounds.finish(sum, Metrics::default(), self.state())?;
        }
        Ok(Metrics::default())
    }

    fn model(&self) -> Tensors {
        self.sum.clone().unwrap_or_default()
    }

    fn state(&self) -> State {
        State { tensors: BTreeMap::from([("model", self.model())]), numbers: BTreeMap::new() }
    }
}
