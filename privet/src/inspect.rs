//! Looking at policies, jobs and ledgers without running anything on a network.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use privet_core::audit::{Audit, AuditEntry};
use privet_core::clock::SystemClock;
use privet_core::executor::TaskResult;
use privet_core::filter::Cancel;
use privet_core::flow::Promise;
use privet_core::ledger::{Ledger, Statement};
use privet_core::message::Sealed;
use privet_core::seal::{Reply, SiteSeal};
use privet_core::sensitivity::Lattice;
use privet_core::tensor::{Schema, Tensors};
use privet_core::{Code, Content, DataKind, Message, Reason, Refusal};
use privet_dp::SiteLedger;
use privet_gate::{
    Arrived, AuditFile, CompileError, Explanation, Finding, Job, Lane, Loaded, Offer, Outbox,
    Policy, ServerGate, SiteGate,
};
use privet_store::Store;
use serde::Serialize;

use crate::program::{Program, open_ledger};
use crate::psi;
use crate::result::{statements, storage};

/// Why something could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A file says something that cannot work.
    #[error("a file says something that cannot work")]
    Invalid(Vec<Finding>),
    /// This program cannot run the job, or storage failed.
    #[error(transparent)]
    Refused(#[from] Reason),
}

impl InspectError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            InspectError::Invalid(_) => 2,
            InspectError::Refused(reason) => reason.code.exit_code(),
        }
    }
}

/// What `policy check` found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Whether nothing is wrong.
    pub ok: bool,
    /// Names of the rules.
    pub rules: Vec<String>,
    /// What is wrong, and what the owner should know.
    pub findings: Vec<Finding>,
    /// The exit code.
    #[serde(skip)]
    pub exit_code: u8,
}

/// Reads a policy, and holds it against a job where one is given.
pub fn check(program: &Program, policy: &Path, job: Option<&Path>) -> Check {
    let mut check = Check { ok: true, rules: Vec::new(), findings: Vec::new(), exit_code: 0 };
    let policy = match Policy::load(policy, program.registry()) {
        Ok(policy) => policy,
        Err(findings) => {
            return Check { ok: false, findings, exit_code: 2, ..check };
        }
    };
    check.rules = policy.rules.iter().map(|rule| rule.id.clone()).collect();
    check.findings.clone_from(&policy.warnings);
    let unknown = crate::attestation::check(&policy);
    if !unknown.is_empty() {
        check.findings.extend(unknown);
        return Check { ok: false, exit_code: 2, ..check };
    }
    let Some(job) = job else {
        return check;
    };
    let compiled = Job::load(job, program.registry()).map_err(InspectError::Invalid).and_then(
        |Loaded { job, .. }| {
            if let Some(wanted) = psi::wanted(&job) {
                privet_gate::admits(&policy, &job, wanted)?;
                return Ok(None);
            }
            let promise = program.computes().promise(&job)?;
            let registry = program.registry();
            Ok(Some(privet_gate::Chain::compile(&policy, &job, &promise, registry, "local")))
        },
    );
    let refused = |refusal: &Refusal| {
        let rule = policy.rules.iter().find(|rule| Some(&rule.id) == refusal.rule.as_ref());
        let span = rule.map_or(0..0, |rule| rule.span.clone());
        let finding = policy.source.error(refusal.code.as_str(), refusal.detail.clone(), span);
        (vec![finding.help(refusal.help.clone())], refusal.code.exit_code())
    };
    let (findings, exit_code) = match compiled {
        Ok(None) => return check,
        Ok(Some(Ok(chain))) => match chain.can_seal() {
            Ok(()) => return check,
            Err(reason) => {
                let stage = privet_core::Stage::Compile;
                refused(&Refusal::new(&policy.site, stage, reason).by_rule(chain.rule()))
            }
        },
        Ok(Some(Err(CompileError::Invalid(findings)))) | Err(InspectError::Invalid(findings)) => {
            (findings, 2)
        }
        Ok(Some(Err(CompileError::Refused(refusal)))) => refused(&refusal),
        Err(InspectError::Refused(reason)) => {
            refused(&Refusal::new(&policy.site, privet_core::Stage::Compile, reason))
        }
    };
    check.findings.extend(findings);
    Check { ok: false, exit_code, ..check }
}

/// What to explain.
#[derive(Debug, Clone, Copy)]
pub struct Explain<'a> {
    /// The policy file.
    pub policy: &'a Path,
    /// The job file.
    pub job: &'a Path,
    /// Another number of rounds than the job's.
    pub rounds: Option<u32>,
    /// The site's folder, whose ledger knows what is spent.
    pub site_dir: Option<&'a Path>,
}

/// A policy and a job, read, with what the job's executor promises.
fn read(
    program: &Program,
    policy: &Path,
    job: &Path,
) -> Result<(Policy, Loaded, Promise), InspectError> {
    let policy = Policy::load(policy, program.registry()).map_err(InspectError::Invalid)?;
    let loaded = Job::load(job, program.registry()).map_err(InspectError::Invalid)?;
    let promise = program.computes().promise(&loaded.job)?;
    Ok((policy, loaded, promise))
}

/// Explains what a policy makes of a job.
///
/// # Errors
/// When a file says something that cannot work, or the ledger cannot be read.
pub fn explain_job(program: &Program, what: Explain<'_>) -> Result<Explanation, InspectError> {
    let (policy, mut loaded, promise) = read(program, what.policy, what.job)?;
    if let Some(rounds) = what.rounds {
        loaded.job.schedule.rounds = rounds;
    }
    let ledger = ledger_for(&policy, what.site_dir)?;
    explain(program, &policy, &loaded.job, &promise, &*ledger)
}

pub(crate) fn explain(
    program: &Program,
    policy: &Policy,
    job: &Job,
    promise: &Promise,
    ledger: &dyn Ledger,
) -> Result<Explanation, InspectError> {
    let registry = program.registry();
    let rounds = job.schedule.rounds;
    privet_gate::explain(policy, job, promise, registry, ledger, rounds).map_err(
        |error| match error {
            CompileError::Invalid(findings) => InspectError::Invalid(findings),
            CompileError::Refused(refusal) => {
                InspectError::Refused(Reason::new(refusal.code, refusal.detail))
            }
        },
    )
}

/// A copy, in memory, of the ledger in a site folder; an empty one where there is none. Nothing
/// that is done with it is kept.
pub(crate) fn ledger_for(
    policy: &Policy,
    site_dir: Option<&Path>,
) -> Result<Arc<dyn Ledger>, Reason> {
    let store = match site_dir.map(|folder| folder.join("ledger")).filter(|path| path.exists()) {
        Some(path) => Store::open(&path).and_then(|store| store.copied()),
        None => Store::in_memory(),
    };
    let ledger = open_ledger(store.map_err(storage)?, Arc::new(SystemClock))?;
    // The policy's budget is the one that holds now.
    for dataset in policy.datasets.values() {
        ledger.open_account(&dataset.account())?;
    }
    Ok(ledger)
}

/// Accounts of a site folder; none where it has no ledger yet.
///
/// # Errors
/// When another process uses it, or it cannot be read.
pub fn budget(site_dir: &Path) -> Result<Vec<Statement>, Reason> {
    statements(site_dir)
}

/// Asks for a data set's account to start anew, or confirms it with the code that somebody else was
/// given. Gives the code when it asks. Every try is a line of the site's audit log, on disk before
/// anything happens.
///
/// # Errors
/// When another process uses the folder, it holds no ledger, or the reset is refused.
pub fn reset_budget(
    site_dir: &Path,
    dataset: &str,
    by: &str,
    code: Option<&str>,
) -> Result<Option<String>, Reason> {
    let path = site_dir.join("ledger");
    if !path.exists() {
        let detail = "the folder holds no ledger";
        return Err(Reason::new(Code::StorageFailed, detail));
    }
    let ledger = SiteLedger::open(Store::open(&path).map_err(storage)?, Arc::new(SystemClock))?;
    let audit = AuditFile::open(&site_dir.join("audit.jsonl"), Arc::new(SystemClock))?;
    let log = |event: &str| {
        audit.append(AuditEntry {
            event: event.to_owned(),
            peer: Some(by.to_owned()),
            rule: Some(format!("dataset.{dataset}")),
            ..AuditEntry::default()
        })
    };
    match code {
        None => {
            log("reset-asked")?;
            ledger.ask_reset(dataset, by).map(Some)
        }
        Some(code) => {
            log("reset-tried")?;
            ledger.confirm_reset(dataset, by, code)?;
            log("reset")?;
            Ok(None)
        }
    }
}

/// What one round would do to one update.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DryRun {
    /// `allowed` or `refused`.
    pub decision: &'static str,
    /// The update before the gate.
    pub before: Option<Before>,
    /// What would leave.
    pub after: Option<After>,
    /// ε of this one round.
    pub epsilon: Option<f64>,
    /// Why nothing would leave.
    pub refusals: Vec<Refusal>,
    /// Seconds from the answer of the executor to bytes that may be sent.
    #[serde(skip)]
    pub gate_s: f64,
}

/// An update before the gate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Before {
    /// Euclidean norm.
    pub l2: f64,
    /// Number of values.
    pub params: u64,
}

/// An update after the gate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct After {
    /// Euclidean norm.
    pub l2: f64,
    /// Signal over what the gate changed, in decibels; null when it changed nothing.
    pub snr_db: Option<f64>,
    /// Cosine of the angle between before and after.
    pub cosine: Option<f64>,
}

/// Sends one update through a site's gate and looks at what would leave. The update is one real
/// local round on the site's data, or the given tensors. Nothing is spent or sent; ledger, outbox
/// and audit log are in memory.
///
/// # Errors
/// When a file says something that cannot work. A refusal is a result.
pub fn dry_run(
    program: Program,
    policy: &Path,
    job: &Path,
    update: Option<Tensors>,
) -> Result<DryRun, InspectError> {
    let (policy, loaded, promise) = read(&program, policy, job)?;
    let ledger = ledger_for(&policy, None)?;
    let outbox = Outbox::new(Store::in_memory().map_err(storage)?);
    let parts = program.parts();
    let policy = Arc::new(policy);
    let gate = SiteGate::new(
        policy.clone(),
        parts.registry.clone(),
        ledger.clone(),
        Arc::new(Forgets),
        outbox,
    )?;
    let task = task(&loaded.job, &promise, &parts)?;
    let offer = Offer {
        run: "dry-run".to_owned(),
        job: loaded.job.source.text.to_string(),
        features: loaded.features,
        rounds: None,
    };
    let mut gate_s = 0.0;
    let through = || -> Result<(Content, Content, f64), Refusal> {
        let lane = gate.open(&offer, &loaded.job, &promise, "local")?;
        let seen = Rehearsal::default();
        let lane = match lane.terms() {
            Some(_) => lane.sealed_by(Box::new(seen.clone())),
            None => lane,
        };
        let refuse = |reason| Refusal::new(&policy.site, privet_core::Stage::Job, reason);
        let cancel = Cancel::default();
        let (message, ticket) = lane.begin(task, &cancel)?;
        let result = match update {
            Some(tensors) => {
                TaskResult::done(Message::new(promise.task, promise.kind, Content::Plain(tensors)))
            }
            None => {
                let executor = parts.workload.executor(
                    &loaded.job,
                    lane.chain().dataset(),
                    lane.chain().promise(),
                );
                executor.map_err(refuse)?.execute(&message, &cancel)
            }
        };
        let before = result.message.as_ref().map(|message| message.content.clone());
        let began = std::time::Instant::now();
        let released = lane.release(ticket, result, &cancel)?;
        let parcel = released.handover().map_err(refuse)?;
        gate_s = began.elapsed().as_secs_f64();
        let after = match seen.update() {
            Some(sealed) => Content::Lattice(sealed),
            None => {
                let arrived = Arrived::new(parcel.head(), &parcel.body().concat());
                arrived.map_err(refuse)?.content().clone()
            }
        };
        let epsilon = epsilon(&lane, &*ledger).map_err(refuse)?;
        Ok((before.unwrap_or(Content::Empty), after, epsilon))
    };
    let run = match through() {
        Err(refusal) => DryRun {
            decision: "refused",
            before: None,
            after: None,
            epsilon: None,
            refusals: vec![refusal],
            gate_s: 0.0,
        },
        Ok((before, after, epsilon)) => compare(&before, &after, epsilon),
    };
    Ok(DryRun { gate_s, ..run })
}

/// A seal that keeps what it is given to look at: in a dry run nothing is sent.
#[derive(Clone, Default)]
struct Rehearsal(Arc<Mutex<Option<Lattice>>>);

impl Rehearsal {
    fn update(&self) -> Option<Lattice> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl SiteSeal for Rehearsal {
    fn frame(&mut self, _: &[u8]) -> Result<Reply, Reason> {
        Ok(Reply::default())
    }

    fn begin(&mut self, _: [u8; 32], _: &[u8], _: &Schema) -> Result<(), Reason> {
        Ok(())
    }

    fn seal(&mut self, update: Lattice, _: f64) -> Result<Sealed, Reason> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(update.clone());
        let schema = update.schema(update.dtype());
        Ok(Sealed {
            step: update.step(),
            schema,
            statement: Vec::new(),
            body: Vec::new(),
            digest: [0; 32],
        })
    }
}

/// The job's first task, as it would arrive.
fn task(job: &Job, promise: &Promise, parts: &privet_site::Parts) -> Result<Arrived, InspectError> {
    let server =
        ServerGate::compile(job, promise, &parts.registry).map_err(|error| match error {
            CompileError::Invalid(findings) => InspectError::Invalid(findings),
            CompileError::Refused(refusal) => Reason::new(refusal.code, refusal.detail).into(),
        })?;
    let content = Content::Plain(parts.workload.initial(job)?);
    let message = Message::new(promise.task, DataKind::Weights, content);
    let released = server
        .release(message, 1, Some(Vec::new()), &Cancel::default())
        .map_err(|refusal| Reason::new(refusal.code, refusal.detail))?;
    let parcel = released.handover()?;
    Ok(Arrived::new(parcel.head(), &parcel.body().concat())?)
}

fn epsilon(lane: &Lane, ledger: &dyn Ledger) -> Result<f64, Reason> {
    let chain = lane.chain();
    Ok(ledger.quote(&chain.dataset().id, "local", chain.events(), 1)?.planned)
}

fn compare(before: &Content, after: &Content, epsilon: f64) -> DryRun {
    let (names, left) = (values(before), values(after));
    // Tensors that do not leave count as changed to nothing.
    let l2 = |values: &[(String, Vec<f64>)]| {
        let square: f64 = values.iter().flat_map(|(_, v)| v).map(|x| x * x).sum();
        square.sqrt()
    };
    let (mut dot, mut change) = (0.0, 0.0);
    for (name, old) in &names {
        let new = left.iter().find(|(other, _)| other == name).map(|(_, values)| values);
        for (at, x) in old.iter().enumerate() {
            let y = new.and_then(|values| values.get(at)).copied().unwrap_or_default();
            dot += x * y;
            change += (x - y) * (x - y);
        }
    }
    let (l2_before, l2_after) = (l2(&names), l2(&left));
    let finite = |x: f64| x.is_finite().then_some(x);
    DryRun {
        decision: "allowed",
        before: Some(Before {
            l2: l2_before,
            params: names.iter().map(|(_, values)| values.len() as u64).sum(),
        }),
        after: Some(After {
            l2: l2_after,
            snr_db: finite(10.0 * (l2_before * l2_before / change).log10()),
            cosine: finite(dot / (l2_before * l2_after)),
        }),
        epsilon: Some(epsilon),
        refusals: Vec::new(),
        gate_s: 0.0,
    }
}

fn values(content: &Content) -> Vec<(String, Vec<f64>)> {
    match content {
        Content::Plain(tensors) => {
            let wide = |tensor: &privet_core::tensor::Tensor| {
                let mut values = Vec::new();
                tensor.values().for_each(|x| values.push(x));
                values
            };
            tensors.0.iter().map(|(name, tensor)| (name.clone(), wide(tensor))).collect()
        }
        Content::Lattice(lattice) => {
            let step = lattice.step().value();
            let wide = |values: &[i64]| values.iter().map(|&v| v as f64 * step).collect();
            let tensors = lattice.tensors().iter();
            tensors.map(|(name, tensor)| (name.clone(), wide(tensor.values()))).collect()
        }
        _ => Vec::new(),
    }
}

/// An audit log of which nothing is kept.
struct Forgets;

impl Audit for Forgets {
    fn append(&self, _: AuditEntry) -> Result<(), Reason> {
        Ok(())
    }
}
