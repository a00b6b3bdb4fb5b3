//! What a job needs of the program that runs it.

use std::path::Path;

use privet_core::Reason;
use privet_core::executor::Executor;
use privet_core::flow::Promise;
use privet_core::tensor::Tensors;

use crate::job::Job;
use crate::policy::Dataset;

/// Computes for jobs: what will be answered, the first model, the executors. Implemented by the
/// façade over the built-in trainers; a program may bring its own.
pub trait Workload: Send + Sync {
    /// What a site's executor will answer the job's task with.
    ///
    /// # Errors
    /// When this program cannot run such a job.
    fn promise(&self, job: &Job) -> Result<Promise, Reason>;

    /// The model of the first round.
    ///
    /// # Errors
    /// When this program cannot run such a job.
    fn initial(&self, job: &Job) -> Result<Tensors, Reason>;

    /// An executor over a site's data that keeps a promise of [`Workload::promise`], or the same with a
    /// coarser bound.
    ///
    /// # Errors
    /// When the data cannot be read. The detail holds no value and no path of it.
    fn executor(
        &self,
        job: &Job,
        dataset: &Dataset,
        promise: &Promise,
    ) -> Result<Box<dyn Executor>, Reason>;

    /// An executor that evaluates models on public data at the server: it answers a message of
    /// weights with one of metrics, `loss` and `accuracy` as statistics.
    ///
    /// # Errors
    /// When the data cannot be read.
    fn evaluator(&self, job: &Job, data: &Path) -> Result<Box<dyn Executor>, Reason>;
}
