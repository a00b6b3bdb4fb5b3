//! `result.json`: what a run did, put together from the server's outcome, the sites' ledgers and
//! their audit logs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use privet_core::audit::AuditEntry;
use privet_core::clock::SystemClock;
use privet_core::ledger::{Ledger, Statement};
use privet_core::receipt::Receipt;
use privet_core::sensitivity::{Adjacency, Unit};
use privet_core::{Code, Reason, Refusal};
use privet_dp::SiteLedger;
use privet_gate::{Job, Policy, Work};
use privet_server::{Metrics, Outcome, RoundRecord, Status};
use privet_store::{Store, StoreError};
use serde::Serialize;

use crate::curve::Bought;
use crate::psi::{self, Intersection};
use crate::statistics::{ColumnAnswer, answers};
use crate::workspace::Workspace;

/// What a run did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunResult {
    /// 1.
    pub schema: u32,
    /// Name of the job.
    pub job: String,
    /// Its workflow.
    pub workflow: &'static str,
    /// How it ended.
    pub status: Status,
    /// The exit code.
    pub exit_code: u8,
    /// Rounds that were planned.
    pub rounds_planned: u32,
    /// Rounds that were done.
    pub rounds_done: u32,
    /// Seconds, all told.
    pub wall_s: f64,
    /// Seconds until the first round was open.
    pub startup_s: f64,
    /// Every site.
    pub sites: Vec<SiteResult>,
    /// Every round.
    pub rounds: Vec<RoundRecord>,
    /// Refusals of the whole job.
    pub refusals: Vec<Refusal>,
    /// The delivered model on the server's public data.
    #[serde(rename = "final")]
    pub last: Metrics,
    /// What the receipts say together.
    pub receipts: Receipts,
    /// What the sites' sums say, column by column.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statistics: Vec<ColumnAnswer>,
    /// What sites found of common items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Intersection>,
    /// What other budgets would have bought.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<Bought>,
    /// Why the curve ends before its last point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curve_error: Option<String>,
    /// What weakened the protection of a site, by its own rule.
    pub dangers: Vec<String>,
    /// What left without being charged to a budget.
    pub unaccounted: Vec<String>,
    /// Files of the workspace.
    pub artifacts: Artifacts,
    /// Why the run did not finish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RunFailure>,
}

/// Why a run did not finish.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunFailure {
    /// From the closed list.
    pub code: String,
    /// In words.
    pub message: String,
    /// One thing to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The refusals that broke it, with all that the sites' own logs say.
    pub refusals: Vec<Refusal>,
}

/// What one site did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteResult {
    /// Its name.
    pub name: String,
    /// SHA-256 of its policy, in hex.
    pub policy_digest: String,
    /// Rounds that it answered.
    pub rounds_answered: u32,
    /// Rounds that it refused.
    pub rounds_refused: u32,
    /// Rounds that it did not answer in time.
    pub rounds_dropped: u32,
    /// Bytes of updates that arrived from it.
    pub bytes_up: u64,
    /// Bytes of tasks that were sent to it.
    pub bytes_down: u64,
    /// Its data sets.
    pub datasets: Vec<DatasetResult>,
    /// What its gate last said it did.
    pub receipt: Option<Receipt>,
    /// Euclidean norm of the last update that left, noise included; from the site's own log.
    pub last_norm: Option<f64>,
}

/// A data set and its budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetResult {
    /// Its name.
    pub id: String,
    /// Whose participation is hidden.
    pub unit: Unit,
    /// Neighbouring relation.
    pub adjacency: Adjacency,
    /// ε spent, over all runs on this ledger.
    pub epsilon_spent: f64,
    /// ε of the budget.
    pub epsilon_budget: f64,
    /// δ of the budget.
    pub delta: f64,
}

/// What receipts say together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Receipts {
    /// Whether every update was sealed.
    pub sealed: bool,
    /// The sealing scheme.
    pub scheme: Option<String>,
    /// Least σ over sensitivity of all updates; null when one had no noise.
    pub noise_multiplier_min: Option<f64>,
}

/// Files of a workspace.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Artifacts {
    /// The delivered model.
    pub model: Option<String>,
    /// The report.
    pub report: String,
    /// The sites' audit logs.
    pub audit: BTreeMap<String, String>,
}

/// Puts a result together.
pub(crate) fn assemble(
    workspace: &Workspace,
    job: &Job,
    policies: &BTreeMap<String, Policy>,
    outcome: Outcome,
) -> Result<RunResult, Reason> {
    let mut sites = Vec::new();
    let mut logs = BTreeMap::new();
    for (name, policy) in policies {
        let record = outcome.sites.get(name).cloned().unwrap_or_default();
        logs.insert(name.clone(), Log::read(&workspace.site(name).join("audit.jsonl")));
        sites.push(SiteResult {
            name: name.clone(),
            policy_digest: policy.digest.clone(),
            rounds_answered: record.rounds_answered,
            rounds_refused: record.rounds_refused,
            rounds_dropped: record.rounds_dropped,
            bytes_up: record.bytes_up,
            bytes_down: record.bytes_down,
            datasets: datasets(workspace, policy)?,
            receipt: record.receipt,
            last_norm: logs.get(name).and_then(|log| log.last_norm),
        });
    }
    let detailed = |refusals: Vec<Refusal>| -> Vec<Refusal> {
        let detail = |refusal: Refusal| match logs.get(&refusal.site) {
            Some(log) => log.detailed(refusal),
            None => refusal,
        };
        refusals.into_iter().map(detail).collect()
    };
    let rounds: Vec<RoundRecord> = outcome
        .rounds
        .into_iter()
        .map(|record| RoundRecord { refusals: detailed(record.refusals), ..record })
        .collect();
    let receipts: Vec<&Receipt> = sites.iter().filter_map(|site| site.receipt.as_ref()).collect();
    let noise = |receipt: &&Receipt| receipt.noise_multiplier;
    let least = receipts.iter().map(noise).collect::<Option<Vec<_>>>();
    let unaccounted = receipts_without_noise(&sites);
    let dangers = dangers(&sites);
    let artifact = |name: &str| workspace.root().join(name).display().to_string();
    let model = workspace.root().join("model.safetensors").exists();
    Ok(RunResult {
        schema: 1,
        job: job.name.clone(),
        workflow: job.workflow().as_str(),
        status: outcome.status,
        exit_code: outcome.exit_code,
        rounds_planned: outcome.rounds_planned,
        rounds_done: rounds.len() as u32,
        wall_s: outcome.wall_s,
        startup_s: outcome.startup_s,
        refusals: detailed(outcome.refusals),
        last: outcome.last,
        receipts: Receipts {
            sealed: !receipts.is_empty() && receipts.iter().all(|r| r.scheme.is_some()),
            scheme: receipts.iter().find_map(|r| r.scheme.clone()),
            noise_multiplier_min: least.and_then(|all| all.into_iter().reduce(f64::min)),
        },
        statistics: statistics(workspace, job, &sites)?,
        psi: found_items(workspace, job),
        curve: Vec::new(),
        curve_error: None,
        dangers,
        unaccounted,
        artifacts: Artifacts {
            model: model.then(|| artifact("model.safetensors")),
            report: artifact("report.html"),
            audit: policies
                .keys()
                .map(|name| {
                    let log = workspace.site(name).join("audit.jsonl");
                    (name.clone(), log.display().to_string())
                })
                .collect(),
        },
        error: outcome.error.map(|failure| RunFailure {
            code: failure.code.to_string(),
            help: Some(failure.code.help().to_owned()),
            message: failure.message,
            refusals: detailed(failure.refusals),
        }),
        sites,
        rounds,
    })
}

/// What the sites of an intersection keep.
fn found_items(workspace: &Workspace, job: &Job) -> Option<Intersection> {
    let sites = job.simulate.iter().flat_map(|simulate| &simulate.sites);
    let folders = sites.map(|site| (site.name.clone(), workspace.site(&site.name)));
    psi::found(psi::wanted(job)?, folders)
}

/// The answers of a job that asks for statistics, off the sum in the server's folder.
fn statistics(
    workspace: &Workspace,
    job: &Job,
    sites: &[SiteResult],
) -> Result<Vec<ColumnAnswer>, Reason> {
    let path = workspace.server().join("model.safetensors");
    let Work::Statistics(columns) = &job.work else { return Ok(Vec::new()) };
    if !path.exists() {
        return Ok(Vec::new());
    }
    let square = |site: &SiteResult| {
        let receipt = site.receipt.as_ref().filter(|_| site.rounds_answered > 0)?;
        Some(receipt.sigma?.powi(2))
    };
    let noise = sites.iter().filter_map(square).sum::<f64>().sqrt();
    Ok(answers(columns, &privet_server::read_model(&path)?, noise))
}

fn dangers(sites: &[SiteResult]) -> Vec<String> {
    let of = |site: &SiteResult| -> Vec<String> {
        let receipt = site.receipt.iter();
        let each = receipt
            .flat_map(|receipt| receipt.dangers.iter().map(move |danger| (danger, &receipt.rule)));
        each.map(|(danger, rule)| format!("{}: rule `{rule}` says `{danger}`", site.name)).collect()
    };
    sites.iter().flat_map(of).collect()
}

fn receipts_without_noise(sites: &[SiteResult]) -> Vec<String> {
    let unpaid = |site: &SiteResult| {
        let receipt = site.receipt.as_ref().filter(|r| r.noise_multiplier.is_none())?;
        Some(format!(
            "{}: {} updates from `{}` left by rule `{}` and were charged to no budget",
            site.name, site.rounds_answered, receipt.dataset, receipt.rule
        ))
    };
    sites.iter().filter_map(unpaid).collect()
}

fn datasets(workspace: &Workspace, policy: &Policy) -> Result<Vec<DatasetResult>, Reason> {
    let statements = statements(&workspace.site(&policy.site))?;
    let result = |dataset: &privet_gate::Dataset| {
        let statement = statements.iter().find(|s| s.account.dataset == dataset.id);
        DatasetResult {
            id: dataset.id.clone(),
            unit: dataset.unit,
            adjacency: dataset.adjacency,
            epsilon_spent: statement.map_or(0.0, |s| s.spent + s.reserved),
            epsilon_budget: dataset.budget.epsilon,
            delta: dataset.budget.delta,
        }
    };
    Ok(policy.datasets.values().map(result).collect())
}

pub(crate) fn storage(error: StoreError) -> Reason {
    Reason::new(Code::StorageFailed, error.to_string())
}

/// What the ledger of a site folder says; nothing when there is none yet.
pub(crate) fn statements(folder: &Path) -> Result<Vec<Statement>, Reason> {
    let path = folder.join("ledger");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let store = Store::open(&path).map_err(storage)?;
    let ledger = SiteLedger::open(store, Arc::new(SystemClock))?;
    let names = ledger.datasets()?;
    names.iter().map(|name| ledger.statement(name)).collect()
}

/// What a site's audit log says more than what left the site.
struct Log {
    refusals: Vec<Refusal>,
    last_norm: Option<f64>,
}

impl Log {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut log = Self { refusals: Vec::new(), last_norm: None };
        for line in text.lines() {
            let Ok(entry) = serde_json::from_str::<AuditEntry>(line) else {
                continue;
            };
            log.refusals.extend(entry.refusal);
            log.last_norm = entry.norm.or(log.last_norm);
        }
        log
    }

    /// The owner's side of a refusal that the server saw as a code.
    fn detailed(&self, seen: Refusal) -> Refusal {
        // What the server found out itself, a site knows less of.
        if !seen.detail.is_empty() {
            return seen;
        }
        let same = |known: &&Refusal| {
            known.on_wire() == seen.code
                && known.stage == seen.stage
                && (known.round == seen.round || known.round.is_none())
        };
        self.refusals.iter().rev().find(same).cloned().unwrap_or(seen)
    }
}
