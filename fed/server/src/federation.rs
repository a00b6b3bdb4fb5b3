//! The sites as the network shows them: who has joined, who was asked what, who has answered.
//!
//! ```text
//!   open(round, task, asked) ─▶ sites come and ask ─▶ task ─▶ upload or refusal ─▶ close → answers
//! ```

mod service;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use privet_core::admission::{Attestation, Moment, Peer, admit};
use privet_core::aggregate::Aggregator;
use privet_core::channel::MAX_FRAME;
use privet_core::{Code, Reason, Stage};
use privet_gate::{Offer, Parcel, ServerGate, Status};
use privet_wire::{Attest, Attested, Turn};
use tokio::sync::{mpsc, watch};

use crate::record::SiteRecord;
use crate::spool::Whole;

/// How long a site's question is kept open before it is told to ask again.
const LONG_POLL: Duration = Duration::from_secs(15);
/// How long a site may be without a connection in a round before it counts as dropped.
const GRACE: Duration = Duration::from_secs(3);

/// Longest answer of a site in a protocol session.
const MAX_REPLY: usize = MAX_FRAME;

/// Serves the sites of one job.
pub(crate) struct Federation {
    offer: Offer,
    attestation: Attestation,
    gate: ServerGate,
    /// What frames are of.
    frames: Stage,
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    sites: BTreeMap<String, Site>,
    connections: BTreeMap<String, Connections>,
    round: Option<Round>,
    mail: Mailboxes,
    /// Refusals of frames since the last round was recorded.
    refused_frames: BTreeMap<String, (Stage, Code)>,
    /// Who may take part, as it was when that was last judged.
    admitted: BTreeMap<String, Peer>,
    /// Why sites may not, of which the server knows more than a code.
    quarantined: BTreeMap<String, String>,
    relays: Relays,
    finished: bool,
}

/// Pieces of a conversation that wait for their receiver.
const RELAYED: usize = 2;

/// Conversations between sites.
/// A site that refuses or is gone leaves them, and whoever waits for it hears so.
#[derive(Default)]
struct Relays {
    /// Sites that may converse; nobody before a workflow says so.
    admitted: BTreeSet<String>,
    /// Conversations that were opened, from a site to another.
    opened: BTreeSet<(String, String)>,
    /// The other end of those that one site alone has opened, by who has not.
    waiting: BTreeMap<(String, String), Ends>,
}

/// What waits to be sent and to be read.
#[derive(Default)]
struct Mailboxes {
    /// The frame that a site has not answered yet.
    out: BTreeMap<String, Parcel>,
    /// Answers that nobody has read yet.
    answers: VecDeque<(String, Vec<u8>)>,
}

#[derive(Default)]
struct Site {
    /// Holds the job to be allowed, and has asked what to do.
    ready: bool,
    /// Its rule seals what it answers.
    sealed: bool,
    /// Refuses the whole job.
    refused: Option<(Stage, Code)>,
    told_finished: bool,
    /// Whether an upload of its is coming in.
    uploading: bool,
    /// The weight of its first upload in this run, which is that of all.
    weight: Option<f64>,
    record: SiteRecord,
}

/// Open connections of a certified name.
#[derive(Default)]
struct Connections {
    open: u32,
    /// When the last one ended.
    lost: Option<Instant>,
}

impl Connections {
    fn gone(&self) -> bool {
        self.open == 0 && self.lost.is_none_or(|lost| lost.elapsed() > GRACE)
    }
}

struct Round {
    number: u32,
    task: Parcel,
    asked: BTreeSet<String>,
    aggregator: Box<dyn Aggregator>,
    answers: BTreeMap<String, Whole>,
    refusals: BTreeMap<String, (Stage, Code)>,
    bytes_up: u64,
    bytes_down: u64,
}

/// What a round brought.
pub(crate) struct Closed {
    pub(crate) aggregator: Box<dyn Aggregator>,
    pub(crate) answers: BTreeMap<String, Whole>,
    pub(crate) refusals: BTreeMap<String, (Stage, Code)>,
    pub(crate) dropped: Vec<String>,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
}

fn connected(connections: &BTreeMap<String, Connections>, name: &str) -> bool {
    connections.get(name).is_some_and(|connections| !connections.gone())
}

impl Relays {
    fn leave(&mut self, site: &str) {
        self.admitted.remove(site);
        self.waiting.retain(|(from, to), _| from != site && to != site);
    }
}

/// To another site and from it.
type Ends = (mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>);

/// Who takes part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    pub(crate) ready: BTreeSet<String>,
    pub(crate) refused: BTreeMap<String, (Stage, Code)>,
}

impl Federation {
    /// A federation; `known` is what sites did before a restart.
    pub(crate) fn new(
        offer: Offer,
        attestation: Attestation,
        gate: ServerGate,
        frames: Stage,
        known: BTreeMap<String, SiteRecord>,
    ) -> Self {
        let mut state = State::default();
        for (name, record) in known {
            state.sites.entry(name).or_default().record = record;
        }
        let (state, changed) = (Mutex::new(state), watch::Sender::default());
        Self { offer, attestation, gate, frames, state, changed }
    }

    pub(crate) fn offer(&self) -> &Offer {
        &self.offer
    }

    pub(crate) fn gate(&self) -> &ServerGate {
        &self.gate
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and wakes whoever waits for it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let value = change(&mut self.lock());
        self.changed.send_replace(());
        value
    }

    /// Waits until `done` gives something, or a moment has come.
    pub(crate) async fn wait<T>(
        &self,
        until: Instant,
        mut done: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(value) = done() {
                return Some(value);
            }
            // Connections that were lost long enough ago end a wait without any message.
            let pause = until.min(Instant::now() + GRACE / 4);
            let _ = tokio::time::timeout_at(pause.into(), changed.changed()).await;
            if Instant::now() >= until {
                return done();
            }
        }
    }

    pub(crate) fn roster(&self) -> Roster {
        let state = self.lock();
        let mut roster = Roster::default();
        for (name, site) in &state.sites {
            match site.refused {
                Some(refused) => drop(roster.refused.insert(name.clone(), refused)),
                None if site.ready && connected(&state.connections, name) => {
                    roster.ready.insert(name.clone());
                }
                None => {}
            }
        }
        roster
    }

    /// Of these sites, those that seal what they answer.
    pub(crate) fn sealing(&self, sites: &BTreeSet<String>) -> BTreeSet<String> {
        let state = self.lock();
        let seals = |name: &&String| state.sites.get(*name).is_some_and(|site| site.sealed);
        sites.iter().filter(seals).cloned().collect()
    }

    /// Has every site prove itself anew before it goes on.
    pub(crate) fn renew(&self) {
        self.attestation.admission.renew();
        self.changed.send_replace(());
    }

    /// Why a site may not take part, where this server has found out itself.
    pub(crate) fn why(&self, site: &str) -> String {
        self.lock().quarantined.get(site).cloned().unwrap_or_default()
    }

    /// A site whose evidence does not hold: it is asked for nothing more, and what it gave is not used.
    fn quarantine(&self, peer: &Peer, job: &str, reason: &Reason) {
        let stage = if job.is_empty() { Stage::Join } else { Stage::Job };
        self.change(|state| {
            let site = state.sites.entry(peer.name.clone()).or_default();
            site.refused = Some((stage, reason.code));
            state.quarantined.insert(peer.name.clone(), reason.detail.clone());
            state.admitted.remove(&peer.name);
            state.mail.out.remove(&peer.name);
            state.relays.leave(&peer.name);
        });
    }

    /// Notes that sites dropped out of a round before they were asked.
    pub(crate) fn drop_out(&self, sites: &[String]) {
        self.change(|state| {
            for name in sites {
                state.sites.entry(name.clone()).or_default().record.rounds_dropped += 1;
            }
        });
    }

    /// Refuses the job to sites that would answer a sealed round in the clear.
    pub(crate) fn leave_out<'a>(&self, sites: impl Iterator<Item = &'a String>) {
        self.change(|state| {
            for name in sites {
                let site = state.sites.entry(name.clone()).or_default();
                site.refused = Some((Stage::Job, Code::SealRefused));
            }
        });
    }

    /// Keeps a frame for a site until it answers it.
    pub(crate) fn post(&self, to: &str, frame: Parcel) {
        self.change(|state| state.mail.out.insert(to.to_owned(), frame));
    }

    /// The frame that a site has not answered yet.
    #[cfg(test)]
    pub(crate) fn asked(&self, name: &str) -> Option<Parcel> {
        self.lock().mail.out.get(name).cloned()
    }

    /// The next answer to a frame; `None` inside where none of these sites can still give one. Asked in
    /// one look: an answer that comes between two looks would be neither here nor awaited.
    pub(crate) fn answer(&self, sites: &BTreeSet<String>) -> Option<Option<(String, Vec<u8>)>> {
        let mut state = self.lock();
        if let Some(answer) = state.mail.answers.pop_front() {
            return Some(Some(answer));
        }
        let awaited = sites.iter().any(|name| {
            let refused = state.sites.get(name).is_some_and(|site| site.refused.is_some());
            let gone = state.connections.get(name).is_none_or(Connections::gone);
            state.mail.out.contains_key(name) && !refused && !gone
        });
        (!awaited).then_some(None)
    }

    /// Takes back the frames that these sites have not answered, and gives whose they were.
    pub(crate) fn give_up(&self, sites: &BTreeSet<String>) -> BTreeSet<String> {
        self.change(|state| {
            let mut silent = BTreeSet::new();
            for name in sites {
                if state.mail.out.remove(name).is_some() {
                    silent.insert(name.clone());
                }
            }
            silent
        })
    }

    /// Sends and reads no more frames of an exchange that has ended.
    pub(crate) fn forget_frames(&self) {
        self.change(|state| state.mail = Mailboxes::default());
    }

    /// Refusals of frames since they were last taken.
    pub(crate) fn take_refused_frames(&self) -> BTreeMap<String, (Stage, Code)> {
        self.change(|state| std::mem::take(&mut state.refused_frames))
    }

    /// Lets these sites converse with each other, and nobody else.
    pub(crate) fn admit_conversations(&self, sites: &BTreeSet<String>) {
        self.change(|state| state.relays = Relays { admitted: sites.clone(), ..Relays::default() });
    }

    /// One end of the conversation of a site with another. Each is opened once.
    fn converse(&self, from: &str, to: &str) -> Result<Ends, Reason> {
        let mut state = self.lock();
        let relays = &mut state.relays;
        let (from, to) = (from.to_owned(), to.to_owned());
        let known = relays.admitted.contains(&from) && relays.admitted.contains(&to) && from != to;
        if !known || !relays.opened.insert((from.clone(), to.clone())) {
            let detail = "no conversation of these sites is wanted, or it was opened before";
            return Err(Reason::new(Code::NotAdmitted, detail));
        }
        if let Some(end) = relays.waiting.remove(&(from.clone(), to.clone())) {
            return Ok(end);
        }
        let ((to_other, from_here), (to_here, from_other)) =
            (mpsc::channel(RELAYED), mpsc::channel(RELAYED));
        relays.waiting.insert((to, from), (to_here, from_here));
        Ok((to_other, from_other))
    }

    /// Opens a round.
    pub(crate) fn open(
        &self,
        number: u32,
        task: Parcel,
        asked: BTreeSet<String>,
        aggregator: Box<dyn Aggregator>,
    ) {
        let round = Round {
            number,
            task,
            asked,
            aggregator,
            answers: BTreeMap::new(),
            refusals: BTreeMap::new(),
            bytes_up: 0,
            bytes_down: 0,
        };
        self.change(|state| state.round = Some(round));
    }

    /// Whether nobody is left to wait for in the open round.
    pub(crate) fn settled(&self) -> bool {
        let state = self.lock();
        let Some(round) = &state.round else {
            return true;
        };
        round.asked.iter().all(|name| {
            let refused = state.sites.get(name).is_some_and(|site| site.refused.is_some());
            let gone = state.connections.get(name).is_none_or(Connections::gone);
            refused || gone || round.answers.contains_key(name) || round.refusals.contains_key(name)
        })
    }

    /// Closes the open round: later uploads come too late.
    pub(crate) fn close(&self) -> Option<Closed> {
        self.change(|state| {
            let mut round = state.round.take()?;
            let mut dropped = Vec::new();
            // What a site gave that may take part no more is not used.
            let current = |name: &String| {
                let peer = state.admitted.get(name);
                peer.is_some_and(|peer| self.judge(Moment::Periodic, peer).is_ok())
            };
            round.answers.retain(|name, _| current(name));
            for name in &round.asked {
                let site = state.sites.entry(name.clone()).or_default();
                if let Some(refused) = site.refused {
                    round.refusals.entry(name.clone()).or_insert(refused);
                }
                if round.answers.contains_key(name) {
                    site.record.rounds_answered += 1;
                } else if round.refusals.contains_key(name) {
                    site.record.rounds_refused += 1;
                } else {
                    site.record.rounds_dropped += 1;
                    dropped.push(name.clone());
                }
            }
            Some(Closed {
                aggregator: round.aggregator,
                answers: round.answers,
                refusals: round.refusals,
                dropped,
                bytes_up: round.bytes_up,
                bytes_down: round.bytes_down,
            })
        })
    }

    /// Tells every site that asks that the job has ended.
    pub(crate) fn finish(&self) {
        self.change(|state| {
            state.round = None;
            state.finished = true;
        });
    }

    /// Whether every connected site has been told.
    pub(crate) fn all_told(&self) -> bool {
        let state = self.lock();
        let connected = |name| state.connections.get(name).is_some_and(|c| c.open > 0);
        let mut sites = state.sites.iter();
        sites.all(|(name, site)| site.told_finished || !connected(name))
    }

    pub(crate) fn records(&self) -> BTreeMap<String, SiteRecord> {
        let state = self.lock();
        let sites = state.sites.iter();
        sites.map(|(name, site)| (name.clone(), site.record.clone())).collect()
    }

    /// What to tell a site now, if there is anything.
    fn turn(&self, peer: &Peer) -> Option<Turn> {
        let mut state = self.lock();
        let State { sites, round, finished, mail, .. } = &mut *state;
        let name = peer.name.as_str();
        let site = sites.entry(name.to_owned()).or_default();
        if *finished {
            site.told_finished = true;
            return Some(Turn::Finished);
        }
        let keys = mail.out.contains_key(name);
        let moment = if keys { Moment::KeyShare } else { Moment::Job };
        if self.attestation.admission.due(peer) || self.judge(moment, peer).is_err() {
            return Some(Turn::Attest);
        }
        if let Some(frame) = mail.out.get(name) {
            site.record.bytes_down += frame.len();
            return Some(Turn::Frame(frame.clone()));
        }
        let round = round.as_mut()?;
        let waits = round.asked.contains(name)
            && !round.answers.contains_key(name)
            && !round.refusals.contains_key(name);
        if !waits {
            return None;
        }
        site.record.bytes_down += round.task.len();
        round.bytes_down += round.task.len();
        Some(Turn::Task(round.task.clone()))
    }

    fn note(&self, name: &str, status: Status) {
        self.change(|state| {
            let site = state.sites.entry(name.to_owned()).or_default();
            match status {
                Status::Ready { sealed } => (site.ready, site.sealed) = (true, sealed),
                // Of a frame a site refuses in its answer.
                Status::Refused { stage: Stage::KeyShare | Stage::Psi, .. } => {}
                Status::Refused { stage, round: None, code } => site.refused = Some((stage, code)),
                Status::Refused { stage, round: Some(number), code } => {
                    if let Some(round) = &mut state.round
                        && round.number == number
                        && round.asked.contains(name)
                    {
                        round.refusals.insert(name.to_owned(), (stage, code));
                    }
                }
            }
        });
    }

    /// An upload that will never be taken: its site is not asked for it again in this round.
    fn reject(&self, site: &str, round: u32, reason: &Reason) {
        let (stage, round, code) = (Stage::TaskResult, Some(round), reason.code);
        self.note(site, Status::Refused { stage, round, code });
    }

    fn judge(&self, moment: Moment, peer: &Peer) -> Result<(), Reason> {
        admit(&*self.attestation.admission, moment, peer.clone()).map(drop)
    }

    /// The same, but for sites in quarantine; remembers who it was.
    fn admit(&self, moment: Moment, peer: &Peer) -> Result<(), Reason> {
        self.judge(moment, peer)?;
        let mut state = self.lock();
        if state.quarantined.contains_key(&peer.name) {
            return Err(Reason::new(Code::NotAttested, "this site is in quarantine"));
        }
        if state.admitted.get(&peer.name) != Some(peer) {
            state.admitted.insert(peer.name.clone(), peer.clone());
        }
        Ok(())
    }

    /// What one end says, and what the other answers.
    fn exchange(&self, peer: &Peer, asked: Attest<'_>) -> Result<Attested, Reason> {
        let Attestation { admission, attester } = &self.attestation;
        let refuse = |detail| Err(Reason::new(Code::NotAttested, detail));
        if !asked.job.is_empty() && asked.job != self.offer.run {
            return refuse("evidence for another run");
        }
        if let Some((to, evidence)) = asked.answer {
            admission.prove(peer, asked.job, &to, evidence)?;
            return Ok(Attested::default());
        }
        let evidence = match (asked.challenge, attester) {
            (None, _) => None,
            (Some(challenge), Some(attester)) => {
                Some(attester.attest(peer, asked.job, &challenge)?)
            }
            (Some(_), None) => return refuse("this server shows nothing of itself"),
        };
        Ok(Attested { evidence, challenge: admission.challenge(peer, asked.job)? })
    }
}

/// The federation, shared by its connections.
#[derive(Clone)]
pub(crate) struct Shared(pub(crate) Arc<Federation>);

#[cfg(test)]
mod tests;
