//! A server's life: listen, wait for sites, run the workflow, tell everybody, write the outcome.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use privet_core::audit::Audit;
use privet_core::clock::SystemClock;
use privet_core::executor::Executor;
use privet_core::filter::Cancel;
use privet_core::seal::ServerSeal;
use privet_core::{Code, Reason, Refusal, Registry, Stage};
use privet_gate::{
    AuditFile, CompileError, DemandAttested, Finding, Job, Loaded, Offer, ServerGate, Work,
    Workload,
};
use privet_wire::{ADDRESS_FILE, Identity, Kit, KitError, OpenAttestation, Opening, Role, serve};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;

use crate::checkpoint::{Checkpoint, write_model};
use crate::fedavg::{self, Fedavg};
use crate::federation::{Federation, Roster, Shared};
use crate::intersection::Intersection;
use crate::record::{Failure, Metrics, Outcome, Progress, Status};
use crate::rounds::Rounds;
use crate::statistics::{self, Statistics};
use crate::workflow::Workflow;

/// Where every event of a run is a line.
pub const PROGRESS_FILE: &str = "progress.jsonl";
/// Where the outcome of a run is.
pub const OUTCOME_FILE: &str = "outcome.json";
/// Longest wait for the sites of the roster before going on without the missing; a shorter round
/// timeout is waited instead.
const JOIN: Duration = Duration::from_secs(30);
/// How long to wait for sites to hear that the job has ended.
const FAREWELL: Duration = Duration::from_secs(2);

/// Opens the server's side of a seal: for a kit's folder, its identity, and a run of a job.
pub type OpenSeal = fn(&Path, &Identity, &str) -> Result<Box<dyn ServerSeal>, Reason>;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The kit cannot be used.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// The job says something that cannot work.
    #[error("the job file says something that cannot work")]
    Job(Vec<Finding>),
    /// This program cannot run the job.
    #[error(transparent)]
    Refused(#[from] Reason),
    /// The network or the disk failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Runs the job of a kit to its end, from its checkpoint where there is one. The outcome is also `outcome.json` in the kit, the model
/// `model.safetensors`, and every event a line of `progress.jsonl`.
///
/// # Errors
/// When the server could not start. A job that fails is an outcome.
pub async fn run(
    kit_folder: &Path,
    registry: Arc<Registry>,
    workload: Arc<dyn Workload>,
    open_seal: OpenSeal,
    open_attestation: OpenAttestation,
    cancel: Cancel,
    mut observer: impl FnMut(&Progress) + Send + 'static,
) -> Result<Outcome, ServerError> {
    let began = Instant::now();
    let (kit, identity) = Kit::load(kit_folder, Role::Server)?;
    let path = kit_folder.join(kit.job.as_deref().unwrap_or(Path::new("job.toml")));
    let Loaded { mut job, features } = Job::load(&path, &registry).map_err(ServerError::Job)?;
    if let Some(rounds) = kit.rounds {
        job.schedule.rounds = rounds;
    }
    let (groups, numbers) = match &job.work {
        Work::Training(_) => (&fedavg::GROUPS[..], &fedavg::NUMBERS[..]),
        Work::Statistics(_) => (&statistics::GROUPS[..], &[][..]),
        Work::Intersection(_) => (&[][..], &[][..]),
    };
    let checkpoint = Checkpoint::read(kit_folder, groups, numbers)?;
    let identity_of_job = identity_of(&job);
    if checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.job != identity_of_job) {
        let message = "the checkpoint is of another job: its model or training differs";
        let finding = job.source.error("invalid", message, 0..0);
        return Err(ServerError::Job(vec![finding.help("run it anew, without --resume")]));
    }
    let run = checkpoint.as_ref().map_or_else(new_run, |checkpoint| checkpoint.run.clone());
    let promise = workload.promise(&job)?;
    let initial = workload.initial(&job)?;
    let evaluator = evaluator(&job, &*workload)?;
    let gate = ServerGate::compile(&job, &promise, &registry).map_err(|error| match error {
        CompileError::Invalid(findings) => ServerError::Job(findings),
        CompileError::Refused(refusal) => {
            ServerError::Refused(Reason::new(refusal.code, refusal.detail))
        }
    })?;
    let offer =
        Offer { run: run.clone(), job: job.source.text.to_string(), features, rounds: kit.rounds };
    let audit: Option<Arc<dyn Audit>> = match &job.attested {
        None => None,
        Some(_) => {
            let log = kit_folder.join("audit.jsonl");
            Some(Arc::new(AuditFile::open(&log, Arc::new(SystemClock))?))
        }
    };
    let attestation = open_attestation(Opening {
        role: Role::Server,
        kit: kit_folder,
        identity: &identity,
        roster: &kit.sites,
        folder: &kit_folder.join(&kit.attest.folder),
        show: &kit.attest.show,
        required: job.attested.as_ref().map(DemandAttested::of_sites),
        audit,
    })?;
    let known = checkpoint.as_ref().map(|checkpoint| checkpoint.sites.clone());
    let known = known.unwrap_or_default();
    let frames = match job.work {
        Work::Intersection(_) => Stage::Psi,
        Work::Training(_) | Work::Statistics(_) => Stage::KeyShare,
    };
    let federation = Arc::new(Federation::new(offer, attestation, gate, frames, known));

    let listener = TcpListener::bind(&kit.server).await?;
    announce(kit_folder, &listener.local_addr()?.to_string())?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = {
        let shared = Arc::new(Shared(federation.clone()));
        let identity = identity.clone();
        tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            serve(listener, &identity, shared, stopped).await
        })
    };

    let mut progress = ProgressFile::new(kit_folder)?;
    let mut observe = move |event: &Progress| {
        progress.write(event);
        observer(event);
    };
    let patience = JOIN.min(job.schedule.round_timeout);
    let roster = gather(&federation, &kit.sites, patience, &cancel).await;
    observe(&Progress::Started {
        ready: roster.ready.iter().cloned().collect(),
        refusals: refusals(&roster, &federation),
    });
    let startup_s = began.elapsed().as_secs_f64();

    let done = checkpoint.as_ref().map(|c| c.done.clone()).unwrap_or_default();
    let planned = job.schedule.rounds;
    let begun = checkpoint.is_some();
    let mut workflow: Box<dyn Workflow> = match &job.work {
        Work::Training(training) => {
            Box::new(Fedavg::new(training, planned, promise.kind, initial, checkpoint))
        }
        Work::Statistics(_) => Box::new(Statistics::new(initial, checkpoint)),
        Work::Intersection(_) => Box::new(Intersection::new(kit.sites.clone())),
    };
    if !begun {
        // A run that dies in its first round keeps its identity, by which sites know what they
        // have paid for.
        Checkpoint {
            run: run.clone(),
            job: identity_of_job.clone(),
            round: 0,
            done: Vec::new(),
            sites: BTreeMap::new(),
            state: workflow.state(),
        }
        .write(kit_folder)?;
    }
    let renews = job.attested.as_ref().is_some_and(|attested| attested.each_round);
    let open_seal = {
        let (folder, run) = (kit_folder.to_path_buf(), run.clone());
        move || open_seal(&folder, &identity, &run)
    };
    let runtime = tokio::runtime::Handle::current();
    let working = {
        let (federation, folder) = (federation.clone(), kit_folder.to_path_buf());
        let run = run.clone();
        tokio::task::spawn_blocking(move || {
            let mut rounds = Rounds {
                federation: &federation,
                renews,
                runtime,
                run: &run,
                job: &identity_of_job,
                settings: &job.schedule,
                promise: &promise,
                cancel: &cancel,
                evaluator,
                observer: &mut observe,
                folder,
                done,
                open_seal: &open_seal,
                seal: None,
            };
            let ended = workflow.run(&mut rounds);
            // A job that delivers none has no tensors.
            let model = workflow.model();
            let path = rounds.folder.join("model.safetensors");
            let written = if model.0.is_empty() { Ok(()) } else { write_model(&path, &model) };
            let ended = ended.and_then(|metrics| written.map(|()| metrics).map_err(Failure::new));
            (ended, rounds.done)
        })
    };
    let (ended, rounds) =
        working.await.map_err(|_| Reason::new(Code::StorageFailed, "the workflow panicked"))?;

    federation.finish();
    let told = || federation.all_told().then_some(());
    let _ = federation.wait(Instant::now() + FAREWELL, told).await;
    // The farewell itself is a message: give it the time to leave.
    tokio::time::sleep(Duration::from_millis(20)).await;
    let _ = stop.send(());
    let _ = serving.await;

    let (last, error) = match ended {
        Ok(metrics) => (metrics, None),
        Err(failure) => {
            let last = rounds.last().map(|record| record.metrics);
            (last.unwrap_or_else(Metrics::default), Some(failure))
        }
    };
    let exit_code = error.as_ref().map_or(0, |failure| failure.exit_code);
    let outcome = Outcome {
        status: Status::of(exit_code),
        exit_code,
        run,
        rounds_planned: planned,
        rounds,
        sites: federation.records(),
        refusals: refusals(&federation.roster(), &federation),
        last,
        error,
        wall_s: began.elapsed().as_secs_f64(),
        startup_s,
    };
    let text = serde_json::to_string_pretty(&outcome).map_err(std::io::Error::other)?;
    std::fs::write(kit_folder.join(OUTCOME_FILE), text)?;
    Ok(outcome)
}

/// Names what is trained and how. Rounds and quorum may change between a run and its resumption.
fn identity_of(job: &Job) -> String {
    let work = match &job.work {
        Work::Training(training) => {
            format!("{:?}\0{:?}\0{:?}", training.model, training.train, training.features)
        }
        Work::Statistics(columns) => format!("{columns:?}"),
        Work::Intersection(wanted) => format!("{wanted:?}"),
    };
    let parts = format!("{work}\0{}\0{}", job.dataset, job.name);
    Sha256::digest(parts).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn new_run() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn evaluator(job: &Job, workload: &dyn Workload) -> Result<Option<Box<dyn Executor>>, Reason> {
    let evaluation = job.evaluation.as_ref();
    let open = |evaluation: &privet_gate::Evaluation| workload.evaluator(job, &evaluation.data);
    evaluation.map(open).transpose()
}

fn refusals(roster: &Roster, federation: &Federation) -> Vec<Refusal> {
    let refusal = |(site, (stage, code)): (&String, &(Stage, Code))| {
        Refusal::new(site, *stage, Reason::new(*code, federation.why(site)))
    };
    roster.refused.iter().map(refusal).collect()
}

/// Waits until every site of the roster holds the job to be allowed or refuses it. Without a
/// roster, waits for the first site and a moment more.
async fn gather(
    federation: &Federation,
    sites: &[String],
    patience: Duration,
    cancel: &Cancel,
) -> Roster {
    let complete = || {
        let roster = federation.roster();
        let known =
            |name: &String| roster.ready.contains(name) || roster.refused.contains_key(name);
        let all = !sites.is_empty() && sites.iter().all(known);
        (all || cancel.is_cancelled()).then_some(())
    };
    let until = Instant::now() + patience;
    while Instant::now() < until {
        let step = until.min(Instant::now() + Duration::from_millis(200));
        if federation.wait(step, complete).await.is_some() {
            break;
        }
    }
    federation.roster()
}

/// Writes where the server listens, whole or not at all.
fn announce(folder: &Path, address: &str) -> std::io::Result<()> {
    let new = folder.join("address.new");
    std::fs::write(&new, address)?;
    std::fs::rename(new, folder.join(ADDRESS_FILE))
}

struct ProgressFile(std::fs::File);

impl ProgressFile {
    fn new(folder: &Path) -> std::io::Result<Self> {
        Ok(Self(std::fs::File::create(folder.join(PROGRESS_FILE))?))
    }

    /// For whoever watches; what must survive is in the checkpoint.
    fn write(&mut self, event: &Progress) {
        use std::io::Write;
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = self.0.write_all(&line);
        }
    }
}
