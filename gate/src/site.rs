//! The gate of a site.
//!
//! ```text
//!   offer ──open──▶ Lane ─┬─ arrive ─▶ begin: IN filters, reserve ─▶ (task, ticket)
//!                         │                         executor answers the task
//!                         └─ release(ticket, answer): checks, OUT filters ─▶ Released
//! ```
//! A refusal at any step is audited with all it knows and leaves as a [`Status`] with a code.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use privet_core::audit::{Audit, AuditEntry, Left};
use privet_core::channel::MAX_FRAME;
use privet_core::executor::{TaskResult, TaskStatus};
use privet_core::filter::{Cancel, Charge, FilterContext, NoCharge};
use privet_core::flow::Promise;
use privet_core::ledger::{Ledger, Purpose};
use privet_core::message::{DataKind, Protection};
use privet_core::receipt::Receipt;
use privet_core::seal::{Note, Reply, Scheme, SiteSeal, Terms};
use privet_core::tensor::{Dtype, Schema};
use privet_core::{Code, Content, Message, Reason, Refusal, Registry, Stage};

use crate::chain::{self, Chain, CompileError};
use crate::envelope::{self, Encoded, TaskId};
use crate::job::{Job, Offer};
use crate::outbox::{Key, Outbox};
use crate::policy::{CA_TRUSTED, Policy, Weight};
use crate::released::{Arrived, Parcel, Released, Reservation, Status};

/// Frames that a session may be asked, besides pieces of sums: hello, secret, answer, agreement, and each of
/// them again after a lost connection.
const FRAMES_A_SESSION: u64 = 8;

/// Most bytes of a frame that says nothing of a sum: a share, a hello with its credential, copies of a
/// secret.
const SHORT_FRAME: usize = 32 << 10;

/// The gate of one site.
#[derive(Clone)]
pub struct SiteGate {
    policy: Arc<Policy>,
    registry: Arc<Registry>,
    ledger: Arc<dyn Ledger>,
    audit: Arc<dyn Audit>,
    outbox: Outbox,
}

impl SiteGate {
    /// A gate for a policy, with an account for each of its data sets.
    ///
    /// # Errors
    /// When the ledger knows a data set otherwise, or cannot be used.
    pub fn new(
        policy: Arc<Policy>,
        registry: Arc<Registry>,
        ledger: Arc<dyn Ledger>,
        audit: Arc<dyn Audit>,
        outbox: Outbox,
    ) -> Result<Self, Reason> {
        for dataset in policy.datasets.values() {
            ledger.open_account(&dataset.account())?;
        }
        Ok(Self { policy, registry, ledger, audit, outbox })
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The log of what left and what was refused.
    pub fn audit(&self) -> Arc<dyn Audit> {
        self.audit.clone()
    }

    pub(crate) fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger.clone()
    }

    pub(crate) fn shared_registry(&self) -> Arc<Registry> {
        self.registry.clone()
    }

    /// Lets what this machine shows of itself out, where the policy says that it is shown.
    ///
    /// # Errors
    /// When the policy shows nothing.
    pub fn evidence(&self, peer: &str, job: &str, bytes: Vec<u8>) -> Result<Released, Reason> {
        if self.policy.attest.show.is_empty() {
            let detail = "the policy's [attest] shows nothing of this site";
            return Err(Reason::new(Code::NotAttested, detail));
        }
        let entry = AuditEntry {
            event: "attest".to_owned(),
            job: (!job.is_empty()).then(|| job.to_owned()),
            peer: Some(peer.to_owned()),
            bytes: bytes.len() as u64,
            ..AuditEntry::default()
        };
        Ok(Released::evidence(bytes, (self.audit.clone(), entry)))
    }

    /// The filters there are.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Holds an offered job against the policy. `submitter` is what the caller knows of the peer
    /// that offers it, not what the offer says.
    ///
    /// # Errors
    /// When the policy does not allow it, or does not go with it.
    pub fn open(
        &self,
        offer: &Offer,
        job: &Job,
        promise: &Promise,
        submitter: &str,
    ) -> Result<Lane, Refusal> {
        let chain = Chain::compile(&self.policy, job, promise, &self.registry, submitter);
        let chain = chain.map_err(|error: CompileError| error.refusal(&self.policy.site))?;
        let refuse =
            |reason| Refusal::new(&self.policy.site, Stage::Job, reason).by_rule(&chain.rule.id);
        chain.seal_suffices(&*self.ledger, submitter, chain.rounds).map_err(refuse)?;
        chain.can_seal().map_err(refuse)?;
        let entry = AuditEntry {
            event: "open".to_owned(),
            job: Some(job.name.clone()),
            peer: Some(submitter.to_owned()),
            rule: Some(chain.rule.id.clone()),
            filters: chain.out.iter().map(chain::Link::tag).collect(),
            ..AuditEntry::default()
        };
        self.audit
            .append(entry)
            .map_err(|reason| Refusal::new(&self.policy.site, Stage::Job, reason))?;
        Ok(Lane {
            gate: self.clone(),
            chain,
            job: job.name.clone(),
            run: offer.run.clone(),
            offer: offer.clone(),
            peer: submitter.to_owned(),
            last: Mutex::default(),
            seal: None,
            frames: Mutex::default(),
        })
    }

    /// Audits a refusal with all it says, and gives what a peer may know of it.
    pub fn refuse(&self, refusal: &Refusal, job: Option<&str>) -> Released {
        let entry = AuditEntry {
            event: "refuse".to_owned(),
            job: job.map(str::to_owned),
            round: refusal.round,
            rule: refusal.rule.clone(),
            refusal: Some(refusal.clone()),
            ..AuditEntry::default()
        };
        // A status holds nothing of the data: it leaves even where it cannot be audited.
        let _ = self.audit.append(entry);
        Released::status(Status::Refused {
            stage: refusal.stage,
            round: refusal.round,
            code: refusal.on_wire(),
        })
    }
}

/// The way of one job through a gate.
pub struct Lane {
    gate: SiteGate,
    chain: Chain,
    job: String,
    run: String,
    offer: Offer,
    peer: String,
    /// The last round that was released, and the task it answered: a server may ask for that very
    /// task again, and for no other of the same or an earlier round.
    last: Mutex<Option<(u32, TaskId)>>,
    /// The site's side of the seal, where the chain has one.
    seal: Option<Mutex<Box<dyn SiteSeal>>>,
    /// Frames that were answered.
    frames: Mutex<u64>,
}

/// Leave to answer one task; holds what was reserved for it.
pub struct Ticket {
    round: u32,
    task: TaskId,
    key: Key,
    reservation: Option<Reservation>,
}

impl Ticket {
    /// The round.
    pub fn round(&self) -> u32 {
        self.round
    }
}

impl Lane {
    /// What the policy makes of the job.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Says that the site waits.
    pub fn ready(&self) -> Released {
        Released::status(Status::Ready { sealed: self.chain.seal.is_some() })
    }

    /// What the rule asks of a seal; `None` where nothing is sealed.
    pub fn terms(&self) -> Option<Terms> {
        self.chain.terms(self.gate.policy.pins.as_ref())
    }

    /// The same lane with the site's side of the seal that its rule asks for.
    #[must_use]
    pub fn sealed_by(mut self, seal: Box<dyn SiteSeal>) -> Self {
        self.seal = Some(Mutex::new(seal));
        self
    }

    fn seal(&self) -> Result<MutexGuard<'_, Box<dyn SiteSeal>>, Reason> {
        let seal = self.seal.as_ref().filter(|_| self.chain.seal.is_some());
        let seal = seal.map(|seal| seal.lock().unwrap_or_else(PoisonError::into_inner));
        seal.ok_or_else(|| Reason::new(Code::WrongStage, "nothing is sealed in this job"))
    }

    /// How many frames the rule admits, and of how many bytes.
    fn quota(&self) -> (u64, usize) {
        let (elements, rounds) = (self.chain.flow.schema.elements(), u64::from(self.chain.rounds));
        // A sum is looked at in pieces of it, or gathered sealed, which is twice as long, and read.
        let pieces = 3 * (8 * elements).div_ceil(MAX_FRAME as u64) + 3;
        let opens = self.chain.seal.as_ref().is_some_and(|seal| seal.scheme == Scheme::Tfhe);
        let bytes = if opens { MAX_FRAME } else { SHORT_FRAME };
        ((FRAMES_A_SESSION + pieces) * (2 * rounds + 16), bytes)
    }

    /// Answers a frame of the sealing session that the rule admits: so many a job, and none longer
    /// than what is left to say.
    ///
    /// # Errors
    /// When nothing is sealed, the session does not answer, or it has answered too much.
    pub fn frame(&self, frame: &[u8]) -> Result<Released, Refusal> {
        let refuse = |reason| {
            Refusal::new(&self.gate.policy.site, Stage::KeyShare, reason)
                .by_rule(&self.chain.rule.id)
        };
        let answered = {
            let mut frames = self.frames.lock().unwrap_or_else(PoisonError::into_inner);
            *frames = frames.saturating_add(1);
            *frames
        };
        let Reply { bytes, note } =
            self.seal().and_then(|mut seal| seal.frame(frame)).map_err(refuse)?;
        let (most_frames, most_bytes) = self.quota();
        if answered > most_frames || bytes.len() > most_bytes {
            let detail = "the sealing session sends more than its rule admits";
            return Err(refuse(Reason::new(Code::TooLarge, detail)));
        }
        let entry = |event: &str| AuditEntry {
            event: event.to_owned(),
            job: Some(self.job.clone()),
            peer: Some(self.peer.clone()),
            rule: Some(self.chain.rule.id.clone()),
            bytes: bytes.len() as u64,
            ..AuditEntry::default()
        };
        let entry = match note {
            Some(Note::Complaint(reason)) => {
                Some(AuditEntry { refusal: Some(refuse(reason)), ..entry("refuse") })
            }
            Some(Note::Verified) => Some(entry("verified")),
            // That a piece was taken says nothing.
            None if bytes.is_empty() => None,
            None => Some(entry("frame")),
        };
        Ok(Released::frame(bytes, entry.map(|entry| (self.gate.audit.clone(), entry))))
    }

    /// Name of the job.
    pub fn job(&self) -> &str {
        &self.job
    }

    fn refusal(&self, stage: Stage, round: u32, reason: Reason) -> Refusal {
        Refusal::new(&self.gate.policy.site, stage, reason)
            .in_round(round)
            .by_rule(&self.chain.rule.id)
    }

    fn key(&self, round: u32, task: TaskId) -> Key {
        Key::new(&self.run, &self.gate.policy.digest, &self.chain.rule.id, round, task)
    }

    /// What was paid for this very task already, under this very policy: to be sent again as it
    /// is. The audit log says so.
    ///
    /// # Errors
    /// When storage fails: then nothing may leave.
    pub fn kept(&self, round: u32, task: TaskId) -> Result<Option<Parcel>, Reason> {
        let Some((head, body)) = self.gate.outbox.get(self.key(round, task))? else {
            return Ok(None);
        };
        let parcel = Parcel::kept(head, body);
        self.gate.audit.append(AuditEntry {
            event: "resend".to_owned(),
            job: Some(self.job.clone()),
            round: Some(round),
            peer: Some(self.peer.clone()),
            rule: Some(self.chain.rule.id.clone()),
            bytes: parcel.len(),
            ..AuditEntry::default()
        })?;
        Ok(Some(parcel))
    }

    /// Lets a task in: checks it, filters it, and reserves what its answer will cost. The data
    /// have not been touched when this refuses.
    ///
    /// # Errors
    /// When the task is not one of the job's, a filter refuses it, or the budget cannot pay.
    pub fn begin(&self, arrived: Arrived, cancel: &Cancel) -> Result<(Message, Ticket), Refusal> {
        let round = arrived.header.round;
        let refuse = |reason| self.refusal(Stage::TaskData, round, reason);
        self.check_task(&arrived).map_err(refuse)?;
        let mut context = FilterContext { round, charge: &mut NoCharge, cancel };
        let task = chain::run(&self.chain.input, arrived.message, &mut context)
            .map_err(|(reason, filter)| refuse(reason).by_filter(filter))?;
        if self.chain.seal.is_some() {
            let Some(session) = &arrived.header.seal else {
                let detail = "the rule seals what leaves, and the task brings no session";
                return Err(refuse(Reason::new(Code::WrongContent, detail)));
            };
            let schema = &self.chain.flow.schema;
            let begun = self.seal().and_then(|mut seal| {
                seal.begin(self.offer.task(arrived.identity), session, schema)
            });
            begun.map_err(refuse)?;
        }
        let reservation = match self.chain.events() {
            [] => None,
            events => {
                let purpose = Purpose {
                    job: self.job.clone(),
                    run: self.run.clone(),
                    round,
                    submitter: self.peer.clone(),
                };
                let ledger = &self.gate.ledger;
                let reserved = ledger.reserve(&self.chain.dataset.id, &purpose, events);
                let id = reserved.map_err(|reason| self.refusal(Stage::Job, round, reason))?;
                Some(Reservation::new(ledger.clone(), id))
            }
        };
        let ticket = Ticket {
            round,
            task: arrived.identity,
            key: self.key(round, arrived.identity),
            reservation,
        };
        Ok((task, ticket))
    }

    fn check_task(&self, arrived: &Arrived) -> Result<(), Reason> {
        let refuse = |code, detail: String| Err(Reason::new(code, detail));
        let (header, promise) = (&arrived.header, &self.chain.promise);
        if header.task != promise.task {
            return refuse(Code::UnexpectedTask, "the job has no task of this name".into());
        }
        if header.kind != DataKind::Weights {
            return refuse(Code::UnexpectedKind, "a task brings weights".into());
        }
        if header.schema != promise.schema {
            return refuse(
                Code::ShapeMismatch,
                "the task's tensors are not the job's model".into(),
            );
        }
        if header.round == 0 || header.round > self.chain.rounds {
            let detail = format!("the job has {} rounds", self.chain.rounds);
            return refuse(Code::RoundsMax, detail);
        }
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Under a seal a round that did not open is asked for anew, in another session, and paid for
        // anew; the seal sees to it that a session is entered once.
        let sealed = self.chain.seal.is_some();
        if last.is_some_and(|(round, id)| {
            let again = header.round == round && arrived.identity != id;
            header.round < round || (again && !sealed)
        }) {
            return refuse(Code::RoundsMax, "this round was answered already".into());
        }
        Ok(())
    }

    /// Lets an answer out, or refuses it.
    ///
    /// # Errors
    /// When the answer is not what the executor promised, a filter refuses it, or the job was
    /// stopped.
    pub fn release(
        &self,
        ticket: Ticket,
        result: TaskResult,
        cancel: &Cancel,
    ) -> Result<Released, Refusal> {
        let round = ticket.round;
        let refuse = |reason| self.refusal(Stage::TaskResult, round, reason);
        let message = self.answer(result).map_err(refuse)?;
        let (mut paid, mut unpaid) = (ticket.reservation, NoCharge);
        let charge: &mut dyn Charge = match &mut paid {
            Some(reservation) => reservation,
            None => &mut unpaid,
        };
        let mut context = FilterContext { round, charge, cancel };
        let mut message = chain::run(&self.chain.out, message, &mut context)
            .map_err(|(reason, filter)| refuse(reason).by_filter(filter))?;
        self.check_leaving(&message, paid.as_ref()).map_err(refuse)?;
        // Set last, so that neither an executor nor a filter can write a number of the data here.
        message.weight = match self.chain.weight() {
            Weight::Records => self.chain.dataset.records as f64,
            Weight::Equal => 1.0,
        };
        let norm = match &message.content {
            Content::Plain(tensors) => Some(tensors.l2()),
            Content::Lattice(lattice) => Some(lattice.l2()),
            _ => None,
        };
        let receipt = self.receipt().map_err(refuse)?;
        let (clip, noise) = (receipt.clip, receipt.noise_multiplier);
        if self.chain.seal.is_some() {
            message = self.sealed(message).map_err(refuse)?;
        }
        let encoded = envelope::encode(message, round, Some(receipt), None).ok_or_else(|| {
            refuse(Reason::new(Code::WrongContent, "there are no tensors to send"))
        })?;
        let entry = self.entry(&encoded, round, clip, noise, norm);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((round, ticket.task));
        let released = Released::update(encoded.head, encoded.body);
        let released = released.audited(self.gate.audit.clone(), entry);
        Ok(match paid {
            Some(reservation) => released.paid(reservation, self.gate.outbox.clone(), ticket.key),
            None => released,
        })
    }

    /// The message with its integers and its weight under the seal.
    fn sealed(&self, message: Message) -> Result<Message, Reason> {
        let Message { task, kind, content, weight, metrics } = message;
        let Content::Lattice(lattice) = content else {
            return Err(Reason::new(Code::WrongContent, "integers are sealed, and nothing else"));
        };
        let sealed = self.seal()?.seal(lattice, weight)?;
        Ok(Message { task, kind, content: Content::Sealed(sealed), weight: 1.0, metrics })
    }

    /// The executor's message, if it is what was promised; metrics that the rule does not name are
    /// taken out.
    fn answer(&self, result: TaskResult) -> Result<Message, Reason> {
        let refuse = |code, detail: String| Err(Reason::new(code, detail));
        let mut message = match (result.status, result.message) {
            (TaskStatus::Done, Some(message)) => message,
            (TaskStatus::Done, None) => {
                return refuse(Code::MissingPayload, "the executor gave no result".into());
            }
            (TaskStatus::Failed, None) => return refuse(Code::ExecutorFailed, result.note),
            (TaskStatus::Failed, Some(_)) => {
                let detail = "the executor failed and gave a result all the same";
                return refuse(Code::ErrorWithPayload, detail.into());
            }
        };
        let promise = &self.chain.promise;
        if message.task != promise.task {
            return refuse(Code::UnexpectedTask, "the answer is to another task".into());
        }
        if message.kind != promise.kind {
            let detail = format!(
                "the answer is labelled `{}`, `{}` was asked",
                message.kind.as_str(),
                promise.kind.as_str()
            );
            return refuse(Code::UnexpectedKind, detail);
        }
        let schema = match (&message.content, promise.protection) {
            (Content::Plain(tensors), Protection::Plain) => {
                // In a chain that is paid for `clip` makes zeros of it, where a refusal would tell.
                if self.chain.events().is_empty() && !tensors.all_finite() {
                    return refuse(Code::NotFinite, "the answer holds NaN or an infinity".into());
                }
                tensors.schema()
            }
            (Content::Lattice(lattice), Protection::Lattice) => {
                let proved = lattice.sensitivity().map(|sensitivity| sensitivity.bound());
                if proved != promise.bound {
                    let detail = "the answer does not prove the promised sensitivity";
                    return refuse(Code::MissingSensitivity, detail.into());
                }
                lattice.schema(Dtype::I64)
            }
            (content, wanted) => {
                let detail = format!("{} instead of {} tensors", content.as_str(), wanted.as_str());
                return refuse(Code::WrongContent, detail);
            }
        };
        fits(&schema, &promise.schema, promise.protection == Protection::Plain)?;
        // Unnamed: a name made up by an executor may say anything.
        if message.metrics.keys().any(|name| !promise.metrics.contains(name)) {
            let detail = "the answer brings a measurement that the executor did not announce";
            return refuse(Code::MetricRefused, detail.into());
        }
        let rule = &self.chain.rule;
        message.metrics.retain(|name, value| rule.metrics.contains(name) && value.is_finite());
        Ok(message)
    }

    /// What leaves must be what was compiled: the same tensors, in the same form, and paid.
    fn check_leaving(&self, message: &Message, paid: Option<&Reservation>) -> Result<(), Reason> {
        let flow = &self.chain.flow;
        let schema = match (&message.content, flow.protection) {
            (Content::Plain(tensors), Protection::Plain) if tensors.all_finite() => {
                tensors.schema()
            }
            (Content::Plain(_), Protection::Plain) => {
                return Err(Reason::new(Code::NotFinite, "a filter left NaN or an infinity"));
            }
            (Content::Lattice(lattice), Protection::Lattice) => lattice.schema(Dtype::I64),
            (content, _) => {
                let detail = format!("a filter made {} of the answer", content.as_str());
                return Err(Reason::new(Code::WrongContent, detail));
            }
        };
        if message.task != self.chain.promise.task || message.kind != flow.kind {
            let detail = "a filter relabelled the answer";
            return Err(Reason::new(Code::UnexpectedKind, detail));
        }
        if schema.0.len() != flow.schema.0.len() {
            let detail = "the filters left other tensors than was compiled";
            return Err(Reason::new(Code::UnknownTensor, detail));
        }
        fits(&schema, &flow.schema, false)?;
        if paid.is_some_and(|reservation| !reservation.drawn()) {
            let detail = "noise was paid for and not drawn";
            return Err(Reason::new(Code::FilterFailed, detail));
        }
        let mut named = message.metrics.keys();
        if named.any(|name| !self.chain.rule.metrics.contains(name)) {
            let detail = "a filter added a measurement";
            return Err(Reason::new(Code::MetricRefused, detail));
        }
        Ok(())
    }

    fn receipt(&self) -> Result<Receipt, Reason> {
        let chain = &self.chain;
        let paid = !chain.events().is_empty();
        let spent = match paid {
            true => Some(self.gate.ledger.quote(&chain.dataset.id, &self.peer, &[], 0)?.spent),
            false => None,
        };
        Ok(Receipt {
            policy: self.gate.policy.digest.clone(),
            rule: chain.rule.id.clone(),
            filters: chain.out.iter().map(chain::Link::tag).collect(),
            dataset: chain.dataset.id.clone(),
            unit: chain.dataset.unit,
            adjacency: chain.dataset.adjacency,
            clip: chain.flow.bound().map(|bound| bound.value()),
            noise_multiplier: chain.noise_multiplier(),
            sigma: chain.sigma(),
            epsilon_spent: spent,
            delta: paid.then_some(chain.dataset.budget.delta),
            scheme: chain.scheme().map(str::to_owned),
            trust: chain.scheme().map(|_| {
                let pinned = self.gate.policy.pins.is_some();
                if pinned { "pinned" } else { CA_TRUSTED }.to_owned()
            }),
            dangers: chain.dangers.clone(),
        })
    }

    fn entry(
        &self,
        encoded: &Encoded,
        round: u32,
        clip: Option<f64>,
        noise: Option<f64>,
        norm: Option<f64>,
    ) -> AuditEntry {
        let left = encoded.header.schema.0.iter().map(|(name, slot)| Left {
            name: name.clone(),
            shape: slot.shape.clone(),
            dtype: slot.dtype,
        });
        let bytes: usize = encoded.body.iter().map(bytes::Bytes::len).sum();
        AuditEntry {
            event: "release".to_owned(),
            job: Some(self.job.clone()),
            round: Some(round),
            peer: Some(self.peer.clone()),
            rule: Some(self.chain.rule.id.clone()),
            filters: self.chain.out.iter().map(chain::Link::tag).collect(),
            left: left.collect(),
            clip,
            sigma: noise.and(self.chain.sigma()),
            // Without noise the norm is a number about the data; the log stays with the owner.
            norm,
            bytes: (encoded.head.len() + bytes) as u64,
            refusal: None,
        }
    }
}

/// Whether tensors have names and shapes of a schema, and its element types where asked.
fn fits(sent: &Schema, wanted: &Schema, dtypes: bool) -> Result<(), Reason> {
    for (name, slot) in &sent.0 {
        let Some(expected) = wanted.0.get(name) else {
            let detail = "a tensor that the task's model does not have";
            return Err(Reason::new(Code::UnknownTensor, detail));
        };
        if slot.shape != expected.shape {
            let detail = format!("tensor `{name}` has another shape than the task's");
            return Err(Reason::new(Code::ShapeMismatch, detail));
        }
        if dtypes && slot.dtype != expected.dtype {
            let detail = format!("tensor `{name}` has another element type than the task's");
            return Err(Reason::new(Code::DtypeMismatch, detail));
        }
    }
    if let Some(name) = wanted.0.keys().find(|name| !sent.0.contains_key(*name)) {
        let detail = format!("tensor `{name}` is missing");
        return Err(Reason::new(Code::MissingTensor, detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
