//! The built-in workload: jobs onto trainers.

use std::path::Path;

use privet_core::executor::Executor;
use privet_core::flow::Promise;
use privet_core::message::Protection;
use privet_core::sensitivity::{Bound, Norm, Prover, Unit};
use privet_core::tensor::Tensors;
use privet_core::{Code, DataKind, Reason};
use privet_dp::lattice::bound_for;
use privet_gate::{Dataset, ExecutorKind, Job, ModelKind, Workload};
use privet_trainers::train::initial;
use privet_trainers::{DataError, Evaluator, Linear, LocalSteps, Mlp, Model, RecordSums, Table};

/// Runs the built-in trainers.
pub struct Builtin {
    prover: Option<Prover>,
}

impl Builtin {
    pub(crate) fn new(prover: Option<Prover>) -> Self {
        Self { prover }
    }
}

fn model(job: &Job) -> Box<dyn Model> {
    let width = job.features.len() + 1;
    let classes = job.model.classes as usize;
    match job.model.kind {
        ModelKind::LogisticRegression => Box::new(Linear::logistic(width)),
        ModelKind::SoftmaxRegression => Box::new(Linear::softmax(width, classes)),
        ModelKind::Mlp => Box::new(Mlp::new(width, job.model.hidden as usize, classes)),
    }
}

/// The record bound of a job, if it trains by clipped record gradients.
fn record_bound(job: &Job) -> Result<Option<Bound>, Reason> {
    let invalid = |detail: &str| Err(Reason::new(Code::InvalidJob, detail));
    let Some(clip) = job.train.record_clip else {
        return Ok(None);
    };
    if job.model.kind == ModelKind::Mlp {
        return invalid("an mlp is trained by site: leave `record-clip` out");
    }
    if job.train.batch.is_some() {
        return invalid("`record-clip` takes every record in every round: leave `batch` out");
    }
    match bound_for(Unit::Record, Norm::L2, clip) {
        Some(bound) => Ok(Some(bound)),
        None => invalid("`record-clip` is too small or too large"),
    }
}

fn unreadable(error: &DataError) -> Reason {
    Reason::new(Code::DataUnreadable, error.to_string())
}

impl Workload for Builtin {
    fn promise(&self, job: &Job) -> Result<Promise, Reason> {
        if job.train.executor == ExecutorKind::Process {
            let detail = "`executor = \"process\"` is not built in this version";
            return Err(Reason::new(Code::NotBuilt, detail));
        }
        let bound = record_bound(job)?;
        Ok(Promise {
            kind: match bound {
                Some(_) => DataKind::Gradient,
                None => DataKind::WeightDiff,
            },
            schema: model(job).schema(),
            protection: match bound {
                Some(_) => Protection::Lattice,
                None => Protection::Plain,
            },
            bound,
            local_steps: job.train.local_steps,
            metrics: Vec::new(),
        })
    }

    fn initial(&self, job: &Job) -> Result<Tensors, Reason> {
        Ok(initial(&*model(job), job.seed()))
    }

    fn executor(&self, job: &Job, dataset: &Dataset) -> Result<Box<dyn Executor>, Reason> {
        let table = Table::load(&dataset.path, &job.features, &job.model.label);
        let table = table.map_err(|error| unreadable(&error))?;
        Ok(match (record_bound(job)?, self.prover) {
            (Some(bound), Some(prover)) => {
                Box::new(RecordSums::new(model(job), table, bound, prover))
            }
            _ => Box::new(LocalSteps::new(
                model(job),
                table,
                job.train.local_steps,
                job.train.batch,
                job.train.learning_rate,
            )),
        })
    }

    fn evaluator(&self, job: &Job, data: &Path) -> Result<Box<dyn Executor>, Reason> {
        let label = job.evaluation.as_ref().map_or(&job.model.label, |e| &e.label);
        let table = Table::load(data, &job.features, label).map_err(|error| unreadable(&error))?;
        Ok(Box::new(Evaluator::new(model(job), table)))
    }
}
