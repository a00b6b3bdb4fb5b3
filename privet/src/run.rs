//! `privet run`: one command, a whole federation on loopback.
//!
//! The simulator has no code path of its own: it writes kits, starts what `privet server --kit`
//! and `privet site --kit` start, in this process or as child processes, and reads what they
//! wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use privet_cc_attest::sim::{SimError, Vendor};
use privet_core::admission::Shown;
use privet_core::filter::Cancel;
use privet_core::{Reason, Registry};
use privet_gate::{Chain, CompileError, Finding, Job, Loaded, Policy, Source};
use privet_server::{Outcome, Progress, ServerError};
use privet_site::{Ended, Event, Parts, SiteError};
use privet_wire::{Authority, IdentityError, KitError};

use crate::attestation::{DEVICE_FILE, KIT_FOLDER};
use crate::curve::{self, Bought};
use crate::program::{Program, open_server_seal};
use crate::psi;
use crate::report;
use crate::result::{RunResult, assemble};
use crate::workspace::Workspace;

/// How to run a job.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The job file.
    pub job: PathBuf,
    /// The workspace; `./workspace/<job name>` when absent.
    pub workspace: Option<PathBuf>,
    /// Go on in a used workspace, on its ledgers.
    pub resume: bool,
    /// Another number of rounds than the job's.
    pub rounds: Option<u32>,
    /// Run server and sites as processes of this binary.
    pub processes: Option<PathBuf>,
    /// Threads that each of these processes computes with; as many as there are cores when absent.
    pub threads: Option<usize>,
    /// Also run the budgets of the job's curve, once the job is done.
    pub curve: bool,
    /// The command line, for the report.
    pub command: String,
}

/// What happens during a run.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEvent {
    /// The files are read; sites and server are about to start.
    Preparing {
        /// Name of the job.
        job: String,
        /// What it does.
        workflow: &'static str,
        /// Planned rounds.
        rounds: u32,
        /// Number of sites.
        sites: usize,
        /// The workspace.
        workspace: PathBuf,
        /// Where a used workspace went.
        moved: Option<PathBuf>,
        /// Budget of the job's data set at each site: ε.
        budgets: BTreeMap<String, f64>,
    },
    /// The server went on.
    Server(Progress),
    /// A point of the curve is done.
    Bought(Bought),
    /// A point of the curve could not be run.
    CurveEnded(String),
    /// A site could not take part at all.
    SiteFailed {
        /// Its name.
        site: String,
        /// Why.
        why: String,
    },
}

/// Why a run did not start, or could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file says something that cannot work.
    #[error("a file says something that cannot work")]
    Invalid(Vec<Finding>),
    /// This program cannot run the job, or a disk failed.
    #[error(transparent)]
    Refused(#[from] Reason),
    /// A folder, a process or the network failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A kit could not be written or read.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// A certificate could not be made.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A site could not take part at all.
    #[error("{0}: {1}")]
    Site(String, SiteError),
}

impl RunError {
    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Invalid(_) => 2,
            RunError::Refused(reason) => reason.code.exit_code(),
            RunError::Site(_, SiteError::Policy(_)) => 2,
            _ => 1,
        }
    }
}

impl From<ServerError> for RunError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Kit(error) => RunError::Kit(error),
            ServerError::Job(findings) => RunError::Invalid(findings),
            ServerError::Refused(reason) => RunError::Refused(reason),
            ServerError::Io(error) => RunError::Io(error),
        }
    }
}

/// Runs a job over its simulated sites.
///
/// # Errors
/// When it could not start. A job that fails is a result.
pub fn run(
    program: Program,
    options: &RunOptions,
    cancel: &Cancel,
    mut observer: impl FnMut(&RunEvent),
) -> Result<RunResult, RunError> {
    let Loaded { mut job, .. } =
        Job::load(&options.job, program.registry()).map_err(RunError::Invalid)?;
    if let Some(rounds) = options.rounds {
        if job.training().is_err() {
            let finding = job.source.error("invalid", "this workflow has one round", 0..0);
            return Err(RunError::Invalid(vec![finding.help("leave --rounds out")]));
        }
        job.schedule.rounds = rounds;
    }
    let Some(simulate) = job.simulate.clone() else {
        let finding = job.source.error("missing-key", "`run` needs a section [simulate]", 0..0);
        let help = "list the sites as { name = \"…\", policy = \"…\" }";
        return Err(RunError::Invalid(vec![finding.help(help)]));
    };
    let policies = preflight(&program, &job)?;
    let root = options.workspace.clone();
    let root = root.unwrap_or_else(|| Path::new("workspace").join(&job.name));
    if options.resume && !root.join("sites").exists() {
        let name = root.display().to_string();
        let finding =
            Source::new(name, "").error("unreadable", "there is no workspace to resume", 0..0);
        return Err(RunError::Invalid(vec![finding.help("run without --resume first")]));
    }
    let (workspace, moved) = Workspace::open(root, options.resume)?;
    let authority = Authority::throw_away()?;
    workspace.write_server(&authority, &job, &options.job, options.rounds)?;
    simulate_devices(&workspace, &simulate, &policies)?;
    let budget = |policy: &Policy| policy.datasets.get(&job.dataset).map(|d| d.budget.epsilon);
    observer(&RunEvent::Preparing {
        job: job.name.clone(),
        workflow: job.workflow().as_str(),
        rounds: job.schedule.rounds,
        sites: simulate.sites.len(),
        workspace: workspace.root().to_path_buf(),
        moved,
        budgets: policies
            .iter()
            .filter_map(|(name, policy)| Some((name.clone(), budget(policy)?)))
            .collect(),
    });

    let write_sites = |server: &str| -> Result<Vec<(String, PathBuf)>, KitError> {
        let kit = |site: &privet_gate::SimulatedSite| {
            workspace.write_site(&authority, &site.name, &site.policy, server)?;
            Ok((site.name.clone(), workspace.site(&site.name)))
        };
        simulate.sites.iter().map(kit).collect()
    };
    // What the report says of policies and rounds is worked out before the program is given away.
    let letters = report::letters(&program, &job, &policies);
    let built_in = program.built_in();
    let outcome = match &options.processes {
        None => in_process(program.parts(), &workspace, write_sites, cancel, &mut observer)?,
        Some(binary) => {
            let program = Binary { path: binary, threads: options.threads };
            as_processes(&program, &workspace, write_sites, cancel, &mut observer)?
        }
    };
    let model = workspace.server().join("model.safetensors");
    if model.exists() {
        std::fs::copy(model, workspace.root().join("model.safetensors"))?;
    }
    let mut result = assemble(&workspace, &job, &policies, outcome)?;
    if options.curve && result.error.is_none() {
        for point in &simulate.curve {
            match curve::buy(built_in.built_in(), &job, &policies, point, cancel) {
                Ok(bought) if !cancel.is_cancelled() => {
                    observer(&RunEvent::Bought(bought.clone()));
                    result.curve.push(bought);
                }
                Ok(_) => break,
                // The job itself is done, and its result stands.
                Err(error) => {
                    let why = error.to_string();
                    observer(&RunEvent::CurveEnded(why.clone()));
                    result.curve_error = Some(why);
                    break;
                }
            }
        }
    }
    let text = serde_json::to_string_pretty(&result).map_err(std::io::Error::other)?;
    std::fs::write(workspace.root().join("result.json"), text)?;
    let page = report::page(&result, &job, &policies, &letters, &options.command);
    std::fs::write(workspace.root().join("report.html"), page)?;
    Ok(result)
}

/// Gives a device in software to whoever shows one, and what it is held against to everybody.
fn simulate_devices(
    workspace: &Workspace,
    simulate: &privet_gate::Simulate,
    policies: &BTreeMap<String, Policy>,
) -> Result<(), RunError> {
    let server = simulate.server_shows.contains(&Shown::Software);
    let shows = |site: &&privet_gate::SimulatedSite| {
        policies.get(&site.name).is_some_and(|p| p.attest.show.contains(&Shown::Software))
    };
    let sites: Vec<_> = simulate.sites.iter().filter(shows).collect();
    if !server && sites.is_empty() {
        return Ok(());
    }
    let failed = |error: SimError| RunError::Io(std::io::Error::other(error.to_string()));
    let vendor = Vendor::new().map_err(failed)?;
    let files = vendor.files().map_err(failed)?;
    let kits = simulate.sites.iter().map(|site| workspace.site(&site.name));
    for kit in kits.chain([workspace.server()]) {
        let folder = kit.join(KIT_FOLDER);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in &files {
            std::fs::write(folder.join(name), bytes)?;
        }
    }
    if server {
        vendor.device(&workspace.server().join(DEVICE_FILE), None).map_err(failed)?;
    }
    for site in sites {
        // One report for the job, and one for each round before.
        let changes = site.firmware_changes.map(u64::from);
        let device = workspace.site(&site.name).join(DEVICE_FILE);
        vendor.device(&device, changes).map_err(failed)?;
    }
    Ok(())
}

/// Reads every policy and holds it against the job: what cannot work is found before anything
/// starts. What a policy refuses, its site refuses when it is asked.
fn preflight(program: &Program, job: &Job) -> Result<BTreeMap<String, Policy>, RunError> {
    let promise = program.computes().promise(job)?;
    let mut findings = Vec::new();
    if let Some(evaluation) = &job.evaluation
        && let Err(reason) = program.computes().evaluator(job, &evaluation.data)
    {
        let at = job.source.text.find("[evaluation]").unwrap_or(0);
        let finding = job.source.error(reason.code.as_str(), reason.detail, at..at + 12);
        findings.push(
            finding.help("look at `data` of [evaluation]: a CSV file with the job's columns"),
        );
    }
    let mut policies = BTreeMap::new();
    let simulate = job.simulate.as_ref();
    for site in simulate.iter().flat_map(|simulate| &simulate.sites) {
        match Policy::load(&site.policy, program.registry()) {
            Err(errors) => findings.extend(errors),
            Ok(policy) => {
                findings.extend(crate::attestation::check(&policy));
                // A [[psi]] is held against the job by its site.
                if psi::wanted(job).is_none() || policy.site != site.name {
                    findings.extend(fitting(
                        &policy,
                        &site.name,
                        job,
                        &promise,
                        program.registry(),
                    ));
                }
                policies.insert(site.name.clone(), policy);
            }
        }
    }
    if findings.is_empty() { Ok(policies) } else { Err(RunError::Invalid(findings)) }
}

fn fitting(
    policy: &Policy,
    name: &str,
    job: &Job,
    promise: &privet_core::flow::Promise,
    registry: &Registry,
) -> Vec<Finding> {
    if policy.site != name {
        let message = format!("this is the policy of `{}`, the job says `{name}`", policy.site);
        let finding = policy.source.error("invalid", message, 0..0);
        return vec![finding.help("make `[site] name` and the job's [simulate] agree")];
    }
    match Chain::compile(policy, job, promise, registry, "local") {
        Err(CompileError::Invalid(findings)) => findings,
        Err(CompileError::Refused(_)) => Vec::new(),
        Ok(chain) if !chain.dataset().path.exists() => {
            let id = &chain.dataset().id;
            let at = policy.source.text.find(&format!("[dataset.{id}]")).unwrap_or(0);
            let message = format!("the data file of data set `{id}` does not exist");
            let finding = policy.source.error("data-unreadable", message, at..at + id.len() + 10);
            vec![finding.help("look at `path`; it starts at the policy's folder")]
        }
        Ok(_) => Vec::new(),
    }
}

/// Server and sites as tasks of this process.
fn in_process(
    parts: Parts,
    workspace: &Workspace,
    write_sites: impl Fn(&str) -> Result<Vec<(String, PathBuf)>, KitError>,
    cancel: &Cancel,
    observer: &mut impl FnMut(&RunEvent),
) -> Result<Outcome, RunError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, |n| n.get().max(2)))
        .enable_all()
        .build()?;
    let (sender, events) = mpsc::channel();
    let server = {
        let (parts, cancel, folder) = (parts.clone(), cancel.clone(), workspace.server());
        runtime.spawn(async move {
            let send = move |event: &Progress| {
                let _ = sender.send(event.clone());
            };
            let Parts { registry, workload, attestation, .. } = parts;
            let seal = open_server_seal;
            privet_server::run(&folder, registry, workload, seal, attestation, cancel, send).await
        })
    };
    let address = wait_for_address(&workspace.server(), || server.is_finished());
    let mut sites = Vec::new();
    if let Some(address) = address {
        for (name, folder) in write_sites(&address)? {
            let (parts, cancel) = (parts.clone(), cancel.clone());
            let site = runtime
                .spawn(async move { privet_site::run(&folder, parts, cancel, |_| ()).await });
            sites.push((name, site));
        }
    }
    for event in events {
        observer(&RunEvent::Server(event));
    }
    let outcome = runtime.block_on(server).map_err(std::io::Error::other)??;
    // The server is gone: a site that has not heard so need not be patient.
    for (name, site) in sites {
        let ended = runtime.block_on(async { tokio::time::timeout(FAREWELL, site).await });
        if let Ok(Ok(Err(error))) = ended
            && !matches!(error, SiteError::Wire(_))
        {
            // The server saw a site that did not come; whether that breaks the run is its to say.
            observer(&RunEvent::SiteFailed { site: name, why: error.to_string() });
        }
    }
    // Ends the tasks of sites that did not end by themselves, and with them their locks.
    runtime.shutdown_timeout(FAREWELL);
    Ok(outcome)
}

/// How long sites get to end after their server has.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where a server listens, once it says so; `None` when it ended before.
fn wait_for_address(folder: &Path, ended: impl Fn() -> bool) -> Option<String> {
    let file = folder.join(privet_wire::ADDRESS_FILE);
    loop {
        if let Ok(address) = std::fs::read_to_string(&file) {
            return Some(address);
        }
        if ended() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Child processes that end with this one.
struct Children(Vec<(String, Child)>);

/// What children run.
struct Binary<'a> {
    path: &'a Path,
    threads: Option<usize>,
}

impl Children {
    fn start(
        &mut self,
        binary: &Binary<'_>,
        role: &str,
        name: &str,
        kit: &Path,
    ) -> std::io::Result<()> {
        // Their words go to a file beside what they are about.
        let log = std::fs::File::create(kit.join("log.txt"))?;
        let threads = binary.threads.map(|threads| ("RAYON_NUM_THREADS", threads.to_string()));
        let child = Command::new(binary.path)
            .envs(threads)
            .args([role, "--kit"])
            .arg(kit)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.0.push((name.to_owned(), child));
        Ok(())
    }

    fn ended(&mut self, name: &str) -> bool {
        let mut children = self.0.iter_mut().filter(|(child, _)| child == name);
        children.all(|(_, child)| !matches!(child.try_wait(), Ok(None)))
    }

    /// Asks every child to stop, as Ctrl-C would.
    fn interrupt(&self) {
        for (_, child) in &self.0 {
            let pid = rustix::process::Pid::from_child(child);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Server and sites as processes of their own.
fn as_processes(
    binary: &Binary<'_>,
    workspace: &Workspace,
    write_sites: impl Fn(&str) -> Result<Vec<(String, PathBuf)>, KitError>,
    cancel: &Cancel,
    observer: &mut impl FnMut(&RunEvent),
) -> Result<Outcome, RunError> {
    let mut children = Children(Vec::new());
    let folder = workspace.server();
    children.start(binary, "server", "server", &folder)?;
    let server = std::cell::RefCell::new(children);
    let address = wait_for_address(&folder, || server.borrow_mut().ended("server"));
    let mut children = server.into_inner();
    if let Some(address) = address {
        for (name, folder) in write_sites(&address)? {
            children.start(binary, "site", &name, &folder)?;
        }
    }
    let mut interrupted = false;
    let mut seen = 0;
    loop {
        let ended = children.ended("server");
        // A line is complete only with its line end; what is read half is read again.
        let text =
            std::fs::read_to_string(folder.join(privet_server::PROGRESS_FILE)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines().skip(seen) {
            seen += 1;
            if let Ok(event) = serde_json::from_str(line) {
                observer(&RunEvent::Server(event));
            }
        }
        if ended {
            break;
        }
        if cancel.is_cancelled() && !interrupted {
            children.interrupt();
            interrupted = true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let until = Instant::now() + FAREWELL;
    while Instant::now() < until
        && !children.0.iter_mut().all(|(_, child)| !matches!(child.try_wait(), Ok(None)))
    {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(children);
    let text = std::fs::read_to_string(folder.join(privet_server::OUTCOME_FILE)).map_err(|_| {
        let log = std::fs::read_to_string(folder.join("log.txt")).unwrap_or_default();
        std::io::Error::other(format!("the server process ended early: {}", log.trim()))
    })?;
    Ok(serde_json::from_str(&text).map_err(std::io::Error::other)?)
}

/// Runs the server of a kit.
///
/// # Errors
/// When it could not start. A job that fails is an outcome.
pub fn serve_kit(
    program: Program,
    kit: &Path,
    cancel: &Cancel,
    observer: impl FnMut(&Progress) + Send + 'static,
) -> Result<Outcome, RunError> {
    let parts = program.parts();
    let runtime = tokio::runtime::Runtime::new()?;
    let Parts { registry, workload, attestation, .. } = parts;
    let (seal, cancel) = (open_server_seal, cancel.clone());
    let serving = privet_server::run(kit, registry, workload, seal, attestation, cancel, observer);
    Ok(runtime.block_on(serving)?)
}

/// Runs the site of a kit.
///
/// # Errors
/// When it could not take part, or lost its server.
pub fn site_kit(
    program: Program,
    kit: &Path,
    cancel: &Cancel,
    observer: impl FnMut(&Event) + Send,
) -> Result<Ended, SiteError> {
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Reason::new(privet_core::Code::StorageFailed, error.to_string()))?;
    runtime.block_on(privet_site::run(kit, program.parts(), cancel.clone(), observer))
}
