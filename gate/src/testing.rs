//! One door for this crate's tests: a registry, a policy, a job, a promise.

use std::path::Path;
use std::sync::Arc;

use privet_core::audit::{Audit, AuditEntry};
use privet_core::clock::SystemClock;
use privet_core::flow::Promise;
use privet_core::ledger::Ledger;
use privet_core::message::{DataKind, Protection};
use privet_core::sensitivity::{Bound, Norm, Prover, Unit};
use privet_core::tensor::{Dtype, Shape, Slot};
use privet_core::{Reason, Registry};
use privet_dp::SiteLedger;
use privet_dp::lattice::bound_for;
use privet_store::Store;

use crate::{Finding, Job, Policy, Source};

pub(crate) fn registry() -> Registry {
    registry_and_prover().0
}

pub(crate) fn registry_and_prover() -> (Registry, Prover) {
    let mut prover = None;
    let registry = Registry::with_builtins(|builtins| {
        privet_filters::specs().into_iter().for_each(|spec| builtins.filter(spec));
        privet_dp::specs().into_iter().for_each(|spec| builtins.filter(spec));
        prover = Some(builtins.prover());
    });
    (registry, prover.unwrap())
}

/// A policy whose one rule has this `out` and these further lines.
pub(crate) fn policy_text(unit: &str, out: &str, more: &str) -> String {
    format!(
        r#"schema = 1
[site]
name = "north"
[dataset.ct]
path = "ct.csv"
unit = "{unit}"
records = 100
budget = {{ epsilon = 6.0, delta = 1e-5 }}
[[rule]]
id = "train"
when = {{ task = ["train"], dataset = "ct" }}
out = {out}
{more}
"#
    )
}

pub(crate) fn policy(unit: &str, out: &str, more: &str) -> Policy {
    parse_policy(&policy_text(unit, out, more)).unwrap()
}

pub(crate) fn parse_policy(text: &str) -> Result<Policy, Vec<Finding>> {
    Policy::parse(&Source::new("north.toml", text), Path::new(""), &registry())
}

pub(crate) fn job_text(more: &str) -> String {
    format!(
        r#"schema = 1
[job]
name = "demo"
workflow = "fedavg"
[fedavg]
rounds = 20
min-sites = 2
[model]
kind = "logistic-regression"
label = "y"
features = "features.toml"
[train]
dataset = "ct"
record-clip = 0.5
{more}
"#
    )
}

pub(crate) fn parse_job(text: &str) -> Result<Job, Vec<Finding>> {
    let features = Source::new("features.toml", "a = [0.0, 1.0]\nb = [0.0, 1.0]\n");
    Job::parse(&Source::new("job.toml", text), Some(&features), Path::new(""), &registry())
}

pub(crate) fn job(more: &str) -> Job {
    parse_job(&job_text(more)).unwrap()
}

pub(crate) fn bound() -> Bound {
    bound_for(Unit::Record, Norm::L2, 0.5).unwrap()
}

/// Three numbers in two tensors: record sums when `bound` is there, a weight difference else.
pub(crate) fn promise(bound: Option<Bound>) -> Promise {
    let slot = |dims: Vec<u64>| Slot { shape: Shape::new(dims).unwrap(), dtype: Dtype::F32 };
    let schema = [("bias", vec![]), ("weight", vec![2])];
    Promise {
        task: "train",
        kind: match bound {
            Some(_) => DataKind::Gradient,
            None => DataKind::WeightDiff,
        },
        schema: schema.map(|(name, dims)| (name.to_owned(), slot(dims))).into_iter().collect(),
        protection: match bound {
            Some(_) => Protection::Lattice,
            None => Protection::Plain,
        },
        bound,
        local_steps: 1,
        metrics: vec![],
    }
}

pub(crate) fn ledger(policy: &Policy) -> Arc<SiteLedger> {
    let store = Store::in_memory().unwrap();
    let ledger = SiteLedger::open(store, Arc::new(SystemClock)).unwrap();
    for dataset in policy.datasets.values() {
        ledger.open_account(&dataset.account()).unwrap();
    }
    Arc::new(ledger)
}

/// An audit log in memory.
#[derive(Default)]
pub(crate) struct Log(pub(crate) std::sync::Mutex<Vec<AuditEntry>>);

impl Audit for Log {
    fn append(&self, entry: AuditEntry) -> Result<(), Reason> {
        self.0.lock().unwrap().push(entry);
        Ok(())
    }
}
