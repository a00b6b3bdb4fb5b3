//! One site, from its kit to the end of a job.

mod attest;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use privet_core::admission::{Attestation, Moment, Required};
use privet_core::clock::Clock;
use privet_core::executor::{Executor, TaskResult};
use privet_core::filter::Cancel;
use privet_core::intersect::{Intersector, Wanted};
use privet_core::ledger::Ledger;
use privet_core::seal::{SiteSeal, Terms};
use privet_core::{Code, DataKind, Message, Reason, Refusal, Registry, Stage};
use privet_gate::{
    Arrived, Attested, AuditFile, Finding, Job, Lane, Offer, Outbox, Parcel, Policy, Released,
    SiteGate, TaskId, Work, Workload,
};
use privet_store::{Store, StoreError};
use privet_wire::{
    Client, Identity, Kit, KitError, Next, OpenAttestation, Opening, Role, WireError,
};

use self::attest::open_attestation;
use crate::intersection::Participant;

/// How long a site keeps trying to reach its server.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens the ledger in a site's store.
pub type OpenLedger = fn(Store, Arc<dyn Clock>) -> Result<Arc<dyn Ledger>, Reason>;

/// Opens a site's side of a seal: in its store, for its identity, a run of a job, and what its rule asks
/// for.
pub type OpenSeal =
    Arc<dyn Fn(Store, &Identity, &str, Terms) -> Result<Box<dyn SiteSeal>, Reason> + Send + Sync>;

/// What a site is made of, besides its kit.
#[derive(Clone)]
pub struct Parts {
    /// The filters there are.
    pub registry: Arc<Registry>,
    /// What computes.
    pub workload: Arc<dyn Workload>,
    /// How a ledger is opened in the site's store.
    pub ledger: OpenLedger,
    /// How a site's side of a seal is opened.
    pub seal: OpenSeal,
    /// How sets are intersected.
    pub intersector: Arc<dyn Intersector>,
    /// How it is opened who judges the server, and who proves things to it.
    pub attestation: OpenAttestation,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What a site tells whoever runs it.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It has joined, and its policy allows the job.
    Joined(String),
    /// It has answered a round.
    Answered(u32),
    /// It has refused the job, or a round of it.
    Refused(Refusal),
    /// It tries to reach its server again.
    Retrying(String),
}

/// How a site's part in a job ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// The server said so.
    Finished,
    /// The site refused the job.
    Refused(Refusal),
    /// Somebody stopped the site.
    Cancelled,
}

/// Why a site could not take part.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The kit cannot be used.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// The policy says something that cannot work.
    #[error("the policy says something that cannot work")]
    Policy(Vec<Finding>),
    /// The folder cannot be used.
    #[error("{0}: {1}")]
    Store(String, StoreError),
    /// Its parts do not go together, or a disk failed.
    #[error(transparent)]
    Failed(#[from] Reason),
    /// The server does not answer, or refuses.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Takes part in one job.
///
/// # Errors
/// When the site could not take part, or lost its server for longer than its patience.
pub async fn run(
    folder: &Path,
    parts: Parts,
    cancel: Cancel,
    mut observer: impl FnMut(&Event) + Send,
) -> Result<Ended, SiteError> {
    let (kit, identity) = Kit::load(folder, Role::Site)?;
    let policy = folder.join(kit.policy.as_deref().unwrap_or(Path::new("site.toml")));
    let policy = Policy::load(&policy, &parts.registry).map_err(SiteError::Policy)?;
    if policy.site != kit.name {
        let detail = format!("the policy is `{}`'s, the kit is `{}`'s", policy.site, kit.name);
        return Err(Reason::new(Code::InvalidPolicy, detail).into());
    }
    let store = Store::open(&folder.join("ledger"))
        .map_err(|error| SiteError::Store(folder.display().to_string(), error))?;
    let ledger = (parts.ledger)(store.clone(), parts.clock.clone())?;
    let audit = AuditFile::open(&folder.join("audit.jsonl"), parts.clock.clone())?;
    let gate = SiteGate::new(
        Arc::new(policy),
        parts.registry.clone(),
        ledger,
        Arc::new(audit),
        Outbox::new(store.clone()),
    )?;
    // Before a job is known, what every rule asks of the server; after that, what its own rule does.
    let required = gate.policy().attested_before_join();
    let attestation = open_attestation(&parts, folder, &identity, &gate, required)?;
    let mut agent = Agent {
        attestation,
        run: String::new(),
        folder: folder.to_path_buf(),
        store,
        identity: identity.clone(),
        client: Client::new(&kit.server, &identity)?,
        gate,
        submitter: kit.submitter,
        cancel,
        observer: &mut observer,
    };
    agent.take_part(&parts).await
}

struct Agent<'a> {
    attestation: Attestation,
    /// The run that evidence is for; empty before there is one.
    run: String,
    folder: PathBuf,
    store: Store,
    identity: Identity,
    client: Client,
    gate: SiteGate,
    /// What the owner's kit calls the server's submitter.
    submitter: Option<String>,
    cancel: Cancel,
    observer: &'a mut (dyn FnMut(&Event) + Send),
}

/// A call that is tried again while the server cannot be reached; over another connection only after both ends have
/// proved themselves on it.
macro_rules! patiently {
    ($agent:ident, $call:expr) => {{
        let since = Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            match $call.await {
                Err(WireError::Unreachable(why))
                    if since.elapsed() < PATIENCE && !$agent.cancel.is_cancelled() =>
                {
                    ($agent.observer)(&Event::Retrying(why));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                    match $agent.exchange().await {
                        Ok(Ok(())) | Err(WireError::Unreachable(_)) => {}
                        Ok(Err(reason)) => break Err(WireError::Refused(reason.code)),
                        Err(error) => break Err(error),
                    }
                }
                other => break other,
            }
        }
    }};
}

impl Agent<'_> {
    async fn take_part(&mut self, parts: &Parts) -> Result<Ended, SiteError> {
        if let Err(reason) = self.attest("").await? {
            return self.unattested(reason, Stage::Join, None).await;
        }
        let offer = patiently!(self, self.client.join())?;
        let job = match self.read(&offer, parts) {
            Ok(job) => job,
            Err(refusal) => {
                self.refuse(&refusal, None).await?;
                return Ok(Ended::Refused(refusal));
            }
        };
        // Taken once: another connection may be to a server of another name.
        self.submitter = Some(self.submitter());
        let kind = parts.workload.promise(&job).map_or(DataKind::Psi, |promise| promise.kind);
        let rule = self.gate.policy().attested_of(&job, kind, &self.submitter());
        let required = rule.as_ref().and_then(Attested::of_server);
        let (kit, identity) = (self.folder.clone(), self.identity.clone());
        self.attestation = open_attestation(parts, &kit, &identity, &self.gate, required)?;
        if let Err(reason) = self.attest(&offer.run).await? {
            return self.unattested(reason, Stage::Job, Some(&job.name)).await;
        }
        if let Work::Intersection(wanted) = &job.work {
            return self.intersect(&offer, &job, wanted, parts).await;
        }
        let (lane, mut executor, limit) = match self.open(&offer, &job, parts) {
            Ok(opened) => opened,
            Err(refusal) => {
                self.refuse(&refusal, None).await?;
                return Ok(Ended::Refused(refusal));
            }
        };
        (self.observer)(&Event::Joined(lane.chain().rule().to_owned()));
        let job = lane.job().to_owned();
        loop {
            if let Err(reason) = self.renewed(&offer.run).await? {
                return self.unattested(reason, Stage::Job, Some(&job)).await;
            }
            let Some(next) = self.next(lane.ready(), limit).await? else {
                return Ok(Ended::Cancelled);
            };
            match next {
                Next::Wait => {}
                Next::Finished => return Ok(Ended::Finished),
                Next::Attest => {
                    if let Err(reason) = self.attest(&offer.run).await? {
                        return self.unattested(reason, Stage::Job, Some(&job)).await;
                    }
                }
                Next::Frame(frame) => {
                    if let Err(reason) = self.renewed(&offer.run).await? {
                        return self.unattested(reason, Stage::KeyShare, Some(&job)).await;
                    }
                    let answered = tokio::task::block_in_place(|| lane.frame(&frame));
                    self.reply(&frame, answered, &job).await?;
                }
                Next::Task(head, body) => {
                    if let Err(reason) = self.renewed(&offer.run).await? {
                        return self.unattested(reason, Stage::Job, Some(&job)).await;
                    }
                    executor = self.answer(&lane, executor, &head, body, &job, &offer.run).await?;
                }
            }
        }
    }

    /// Asks the server what to do; `None` when somebody stops the site.
    async fn next(&mut self, ready: Released, limit: u64) -> Result<Option<Next>, SiteError> {
        if self.cancel.is_cancelled() {
            return Ok(None);
        }
        let cancel = self.cancel.clone();
        let ready = ready.handover()?;
        let asking = async { patiently!(self, self.client.next(&ready, limit)) };
        tokio::select! {
            next = asking => Ok(Some(next?)),
            () = cancelled(&cancel) => Ok(None),
        }
    }

    /// Takes part in an intersection.
    async fn intersect(
        &mut self,
        offer: &Offer,
        job: &Job,
        wanted: &Wanted,
        parts: &Parts,
    ) -> Result<Ended, SiteError> {
        let (store, clock) = (self.store.clone(), parts.clock.clone());
        let passage = match self.gate.intersect(offer, job, wanted, &self.submitter(), store, clock)
        {
            Ok(passage) => Arc::new(passage),
            Err(refusal) => {
                self.refuse(&refusal, Some(&job.name)).await?;
                return Ok(Ended::Refused(refusal));
            }
        };
        (self.observer)(&Event::Joined("psi".to_owned()));
        loop {
            if let Err(reason) = self.renewed(&offer.run).await? {
                return self.unattested(reason, Stage::Job, Some(&job.name)).await;
            }
            let Some(next) = self.next(passage.ready(), 0).await? else {
                return Ok(Ended::Cancelled);
            };
            match next {
                Next::Wait => {}
                Next::Finished => return Ok(Ended::Finished),
                Next::Attest => {
                    if let Err(reason) = self.attest(&offer.run).await? {
                        return self.unattested(reason, Stage::Job, Some(&job.name)).await;
                    }
                }
                Next::Task(..) => return Err(WireError::Malformed.into()),
                Next::Frame(frame) => {
                    let participant = Participant {
                        client: self.client.clone(),
                        identity: self.identity.clone(),
                        offer: offer.clone(),
                        wanted: wanted.clone(),
                        passage: passage.clone(),
                        intersector: parts.intersector.clone(),
                        me: self.gate.policy().site.clone(),
                        pins: self.gate.policy().pins.clone(),
                        patience: job.schedule.round_timeout,
                        folder: self.folder.clone(),
                        cancel: self.cancel.clone(),
                    };
                    let met = participant.meet(&frame).await;
                    if met.is_ok() {
                        (self.observer)(&Event::Answered(1));
                    }
                    let met = met.map_err(|reason| passage.refusal(reason));
                    self.reply(&frame, met, &job.name).await?;
                }
            }
        }
    }

    /// Reads the offered job.
    fn read(&self, offer: &Offer, parts: &Parts) -> Result<Job, Refusal> {
        Job::offered(offer, &parts.registry).map_err(|findings| {
            let first = findings.first().map(|finding| finding.message.clone());
            let reason = Reason::new(Code::InvalidJob, first.unwrap_or_default());
            Refusal::new(&self.gate.policy().site, Stage::Compile, reason)
        })
    }

    /// Who offers the job: never what the offer could say of itself, but the kit's word, or the certificate's.
    fn submitter(&self) -> String {
        let certified = self.client.server().map(|peer| peer.name);
        self.submitter.clone().or(certified).unwrap_or_default()
    }

    /// Holds the offered job against the policy, and opens the data only if it is allowed.
    fn open(
        &self,
        offer: &Offer,
        job: &Job,
        parts: &Parts,
    ) -> Result<(Lane, Box<dyn Executor>, u64), Refusal> {
        let site = &self.gate.policy().site;
        let refuse = |reason| Refusal::new(site, Stage::Compile, reason);
        let promise = parts.workload.promise(job).map_err(refuse)?;
        let lane = self.gate.open(offer, job, &promise, &self.submitter())?;
        let lane = match lane.terms() {
            None => lane,
            Some(terms) => {
                let (store, identity) = (self.store.clone(), &self.identity);
                let seal = (parts.seal)(store, identity, &offer.run, terms).map_err(|reason| {
                    Refusal::new(site, Stage::Job, reason).by_rule(lane.chain().rule())
                })?;
                lane.sealed_by(seal)
            }
        };
        let chain = lane.chain();
        let executor = parts.workload.executor(job, chain.dataset(), chain.promise());
        let executor = executor.map_err(|reason| {
            Refusal::new(site, Stage::Job, reason).by_rule(lane.chain().rule())
        })?;
        Ok((lane, executor, promise.schema.bytes()))
    }

    async fn answer(
        &mut self,
        lane: &Lane,
        executor: Box<dyn Executor>,
        head: &[u8],
        body: Vec<u8>,
        job: &str,
        run: &str,
    ) -> Result<Box<dyn Executor>, SiteError> {
        let site = &self.gate.policy().site;
        let arrived = Arrived::new(head, &body);
        drop(body);
        let arrived = match arrived {
            Ok(arrived) => arrived,
            Err(reason) => {
                let refusal = Refusal::new(site, Stage::TaskData, reason);
                self.refuse(&refusal, Some(job)).await?;
                return Ok(executor);
            }
        };
        let (round, id) = (arrived.round(), arrived.id());
        if let Some(parcel) = lane.kept(round, id)? {
            self.send(round, &parcel).await?;
            return Ok(executor);
        }
        let (task, ticket) = match lane.begin(arrived, &self.cancel) {
            Ok(begun) => begun,
            Err(refusal) => {
                self.refuse(&refusal, Some(job)).await?;
                return Ok(executor);
            }
        };
        let began = Instant::now();
        let (executor, result) = execute(executor, task, &self.cancel).await?;
        let released = tokio::task::block_in_place(|| {
            let released = lane.release(ticket, result, &self.cancel)?;
            released
                .handover()
                .map_err(|reason| Refusal::new(site, Stage::TaskResult, reason).in_round(round))
        });
        if lane.chain().kind() == DataKind::Statistics {
            // So few draws could be timed from afar; the answer leaves at a time that says nothing.
            tokio::time::sleep(until_tick(began.elapsed())).await;
        }
        match released {
            // What was computed is not given to a server whose evidence has become too old; it is asked again.
            Ok(parcel) => match self.renewed(run).await? {
                Ok(()) => self.send(round, &parcel).await?,
                Err(reason) => {
                    let site = &self.gate.policy().site;
                    let refusal = Refusal::new(site, Stage::TaskResult, reason).in_round(round);
                    self.refuse(&refusal, Some(job)).await?;
                }
            },
            Err(refusal) => self.refuse(&refusal, Some(job)).await?,
        }
        Ok(executor)
    }

    async fn send(&mut self, round: u32, parcel: &Parcel) -> Result<(), SiteError> {
        match patiently!(self, self.client.submit(parcel)) {
            Ok(()) => {
                (self.observer)(&Event::Answered(round));
                Ok(())
            }
            // Too late, or not wanted: it stays paid for, and is sent again if this very task
            // comes back.
            Err(WireError::Refused(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Answers a frame of a protocol session.
    async fn reply(
        &mut self,
        frame: &[u8],
        answer: Result<Released, Refusal>,
        job: &str,
    ) -> Result<(), SiteError> {
        let answer = answer.and_then(|released| {
            let site = &self.gate.policy().site;
            let handed = tokio::task::block_in_place(|| released.handover());
            handed.map_err(|reason| Refusal::new(site, Stage::KeyShare, reason))
        });
        let parcel = match answer {
            Ok(parcel) => parcel,
            Err(refusal) => {
                (self.observer)(&Event::Refused(refusal.clone()));
                self.gate.refuse(&refusal, Some(job)).handover()?
            }
        };
        let to = TaskId::of(frame);
        let mut replied = patiently!(self, self.client.reply(&to, &parcel));
        if let Err(WireError::Refused(Code::NotAttested)) = replied {
            // It took longer than what this site had proved was good for.
            let run = self.run.clone();
            if self.attest(&run).await?.is_ok() {
                replied = patiently!(self, self.client.reply(&to, &parcel));
            }
        }
        match replied {
            Err(WireError::Refused(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn refuse(&mut self, refusal: &Refusal, job: Option<&str>) -> Result<(), SiteError> {
        (self.observer)(&Event::Refused(refusal.clone()));
        let parcel = self.gate.refuse(refusal, job).handover()?;
        match patiently!(self, self.client.report(&parcel)) {
            Err(WireError::Refused(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Answers to statistics leave at whole multiples of this after their task came.
const TICK: Duration = Duration::from_millis(100);

/// From this long after a task came to the next tick.
fn until_tick(elapsed: Duration) -> Duration {
    let ticks = elapsed.as_nanos() / TICK.as_nanos() + 1;
    let next = TICK.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
    next.saturating_sub(elapsed)
}

/// Runs an executor off the network threads. A panic in it is a failed task.
async fn execute(
    mut executor: Box<dyn Executor>,
    task: Message,
    cancel: &Cancel,
) -> Result<(Box<dyn Executor>, TaskResult), SiteError> {
    let cancel = cancel.clone();
    let run = move || {
        let run = AssertUnwindSafe(|| executor.execute(&task, &cancel));
        let result =
            catch_unwind(run).unwrap_or_else(|_| TaskResult::failed("the executor panicked"));
        (executor, result)
    };
    let ran = tokio::task::spawn_blocking(run).await;
    ran.map_err(|_| Reason::new(Code::ExecutorFailed, "the executor's thread is gone").into())
}

pub(crate) async fn cancelled(cancel: &Cancel) {
    while !cancel.is_cancelled() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_on_ticks() {
        for (elapsed, left) in [(0, 100), (1, 99), (99, 1), (100, 100), (1234, 66)] {
            let left = Duration::from_millis(left);
            assert_eq!(until_tick(Duration::from_millis(elapsed)), left, "{elapsed}");
        }
    }
}
