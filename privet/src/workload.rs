//! The built-in workload: jobs onto trainers.

use std::path::Path;

use privet_core::executor::Executor;
use privet_core::flow::Promise;
use privet_core::message::Protection;
use privet_core::sensitivity::{Bound, Norm, Prover, SamplingRate, Unit};
use privet_core::tensor::{Dtype, Schema, Shape, Slot, Tensor, Tensors, Values};
use privet_core::{Code, DataKind, Reason, adaptive};
use privet_dp::lattice::bound_for;
use privet_dp::statistics::{self, Question};
use privet_gate::{
    Column, Dataset, ExecutorKind, Job, ModelKind, Statistic, Training, Work, Workload,
};
use privet_trainers::model::tensors;
use privet_trainers::train::initial;
use privet_trainers::{
    DataError, Evaluator, Linear, LocalSteps, Mlp, Model, RecordSums, Statistics, Table, data,
};

/// Runs the built-in trainers.
pub struct Builtin {
    prover: Option<Prover>,
}

impl Builtin {
    pub(crate) fn new(prover: Option<Prover>) -> Self {
        Self { prover }
    }
}

fn model(training: &Training) -> Box<dyn Model> {
    let width = training.features.len() + 1;
    let classes = training.model.classes as usize;
    match training.model.kind {
        ModelKind::LogisticRegression => Box::new(Linear::logistic(width)),
        ModelKind::SoftmaxRegression => Box::new(Linear::softmax(width, classes)),
        ModelKind::Mlp => Box::new(Mlp::new(width, training.model.hidden as usize, classes)),
    }
}

/// What travels: the model, and with it a clip that adapts.
fn schema(training: &Training) -> Schema {
    let mut schema = model(training).schema();
    if training.train.clip_quantile.is_some() {
        let slot = Slot { shape: Shape::scalar(), dtype: Dtype::F32 };
        schema.0.insert(adaptive::TENSOR.to_owned(), slot);
    }
    schema
}

/// The record bound of a job, if it trains by clipped record gradients.
fn record_bound(Training { model, train, .. }: &Training) -> Result<Option<Bound>, Reason> {
    let invalid = |detail: &str| Err(Reason::new(Code::InvalidJob, detail));
    let Some(clip) = train.record_clip else {
        return Ok(None);
    };
    if model.kind == ModelKind::Mlp {
        return invalid("an mlp is trained by site: leave `record-clip` out");
    }
    if train.batch.is_some() {
        return invalid("`record-clip` takes every record in every round: leave `batch` out");
    }
    // An adaptive clip is the unit that gradients come in.
    let clip = if train.clip_quantile.is_some() { 1.0 } else { clip };
    match bound_for(Unit::Record, Norm::L2, clip) {
        Some(bound) => {
            Ok(Some(Bound { sampled: train.sampling_rate.and_then(SamplingRate::new), ..bound }))
        }
        None => invalid("`record-clip` is too small or too large"),
    }
}

fn questions(columns: &[Column]) -> Vec<Question> {
    let question = |column: &Column| Question {
        column: column.name.clone(),
        sum: column.asks(&[Statistic::Sum, Statistic::Mean, Statistic::Variance]),
        squares: column.asks(&[Statistic::Variance]),
        bins: column
            .asks(&[Statistic::Histogram, Statistic::Quantiles, Statistic::MinMax])
            .then_some(column.bins),
    };
    columns.iter().map(question).collect()
}

fn unreadable(error: &DataError) -> Reason {
    Reason::new(Code::DataUnreadable, error.to_string())
}

impl Workload for Builtin {
    fn promise(&self, job: &Job) -> Result<Promise, Reason> {
        let task = job.workflow().task();
        let training = match &job.work {
            Work::Training(training) => training,
            Work::Statistics(columns) => {
                let questions = questions(columns);
                return Ok(Promise {
                    task,
                    kind: DataKind::Statistics,
                    schema: statistics::schema(&questions)?,
                    protection: Protection::Lattice,
                    bound: Some(statistics::bound(&questions)?),
                    local_steps: 1,
                    metrics: Vec::new(),
                });
            }
            // Sites answer each other; the server is sent no tensors.
            Work::Intersection(_) => {
                return Ok(Promise {
                    task,
                    kind: DataKind::Psi,
                    schema: Schema::default(),
                    protection: Protection::Plain,
                    bound: None,
                    local_steps: 1,
                    metrics: Vec::new(),
                });
            }
        };
        if training.train.executor == ExecutorKind::Process {
            let detail = "`executor = \"process\"` is not built in this version";
            return Err(Reason::new(Code::NotBuilt, detail));
        }
        let bound = record_bound(training)?;
        Ok(Promise {
            task,
            kind: match bound {
                Some(_) => DataKind::Gradient,
                None => DataKind::WeightDiff,
            },
            schema: schema(training),
            protection: match bound {
                Some(_) => Protection::Lattice,
                None => Protection::Plain,
            },
            bound,
            local_steps: training.train.local_steps,
            metrics: Vec::new(),
        })
    }

    fn initial(&self, job: &Job) -> Result<Tensors, Reason> {
        match &job.work {
            Work::Training(training) => {
                let mut tensors = initial(&*model(training), job.seed());
                if let Some(clip) = training.train.record_clip
                    && training.train.clip_quantile.is_some()
                {
                    let scalar = Tensor::new(Shape::scalar(), Values::F32(vec![clip as f32]));
                    tensors.0.extend(scalar.map(|clip| (adaptive::TENSOR.to_owned(), clip)));
                }
                Ok(tensors)
            }
            // A question is asked by the names and shapes of its answers.
            Work::Statistics(columns) => {
                let schema = statistics::schema(&questions(columns))?;
                let zeros = vec![0.0; schema.elements() as usize];
                Ok(tensors(&schema, &zeros))
            }
            Work::Intersection(_) => Ok(Tensors::default()),
        }
    }

    fn executor(
        &self,
        job: &Job,
        dataset: &Dataset,
        promise: &Promise,
    ) -> Result<Box<dyn Executor>, Reason> {
        let training = match (&job.work, self.prover) {
            (Work::Training(training), _) => training,
            (Work::Statistics(columns), Some(prover)) => {
                let wanted: Vec<(&str, [f64; 2])> =
                    columns.iter().map(|column| (column.name.as_str(), column.range)).collect();
                let file = std::fs::File::open(&dataset.path).map_err(|_| DataError::Unreadable);
                let read = file.and_then(|file| data::columns(file, &wanted));
                let values = read.map_err(|error| unreadable(&error))?;
                return Ok(Box::new(Statistics::new(questions(columns), values, prover)));
            }
            (Work::Statistics(_), None) => {
                let detail = "statistics need leave to prove sensitivities";
                return Err(Reason::new(Code::MissingSensitivity, detail));
            }
            (Work::Intersection(_), _) => {
                let detail = "an intersection has no executor";
                return Err(Reason::new(Code::WrongContent, detail));
            }
        };
        let table = Table::load(&dataset.path, &training.features, &training.model.label);
        let table = table.map_err(|error| unreadable(&error))?;
        Ok(match (promise.bound, self.prover) {
            (Some(bound), Some(prover)) if training.train.clip_quantile.is_some() => {
                Box::new(RecordSums::adaptive(model(training), table, bound, prover))
            }
            (Some(bound), Some(prover)) => {
                Box::new(RecordSums::new(model(training), table, bound, prover))
            }
            _ => Box::new(LocalSteps::new(
                model(training),
                table,
                training.train.local_steps,
                training.train.batch,
                training.train.learning_rate,
            )),
        })
    }

    fn evaluator(&self, job: &Job, data: &Path) -> Result<Box<dyn Executor>, Reason> {
        let training = job.training()?;
        let label = job.evaluation.as_ref().map_or(&training.model.label, |e| &e.label);
        let table =
            Table::load(data, &training.features, label).map_err(|error| unreadable(&error))?;
        Ok(Box::new(Evaluator::new(model(training), table)))
    }
}
