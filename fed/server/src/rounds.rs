//! A round, as a workflow sees it: a task goes out, a sum comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use privet_core::aggregate::{Aggregator, Combine, Complaint, PlainSum};
use privet_core::executor::{Executor, TaskStatus};
use privet_core::filter::Cancel;
use privet_core::flow::Promise;
use privet_core::seal::ServerSeal;
use privet_core::tensor::Tensors;
use privet_core::{Code, Content, DataKind, Message, Reason, Refusal, Stage};
use privet_gate::{Parcel, Schedule};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::checkpoint::{Checkpoint, State};
use crate::federation::{Closed, Federation};
use crate::record::{Failure, Metrics, Progress, RoundRecord};
use crate::session::Exchange;

/// Runs rounds for a workflow.
pub(crate) struct Rounds<'a> {
    pub(crate) federation: &'a Federation,
    /// Whether sites prove themselves anew before each round.
    pub(crate) renews: bool,
    pub(crate) runtime: Handle,
    pub(crate) run: &'a str,
    pub(crate) job: &'a str,
    pub(crate) settings: &'a Schedule,
    pub(crate) promise: &'a Promise,
    pub(crate) cancel: &'a Cancel,
    pub(crate) evaluator: Option<Box<dyn Executor>>,
    pub(crate) observer: &'a mut (dyn FnMut(&Progress) + Send),
    pub(crate) folder: PathBuf,
    pub(crate) done: Vec<RoundRecord>,
    /// How the server's side of a seal is opened, and it, once it was.
    pub(crate) open_seal: &'a (dyn Fn() -> Result<Box<dyn ServerSeal>, Reason> + Send + Sync),
    pub(crate) seal: Option<Box<dyn ServerSeal>>,
}

/// What a round brought.
pub(crate) struct Sum {
    pub(crate) tensors: Tensors,
    pub(crate) weights: BTreeMap<String, f64>,
    record: RoundRecord,
    started: Instant,
}

/// What sites refused, of which a server knows the code alone.
fn refusals_of(
    federation: &Federation,
    refused: BTreeMap<String, (Stage, Code)>,
) -> impl Iterator<Item = Refusal> {
    let refusal = |(site, (stage, code)): (String, _)| {
        let why = federation.why(&site);
        Refusal::new(site, stage, Reason::new(code, why))
    };
    refused.into_iter().map(refusal)
}

/// What a site says of another one's part in a seal.
fn complaint(complaint: &Complaint) -> Refusal {
    let detail = format!("what `{}` dealt does not open", complaint.about);
    Refusal::new(&complaint.by, Stage::KeyShare, Reason::new(Code::BadShare, detail))
}

/// Who takes part in a round.
#[derive(Default)]
struct Greeted {
    asked: BTreeSet<String>,
    /// Everybody's hellos, where the round is sealed.
    session: Option<Vec<u8>>,
    /// Sites that were greeted and said nothing.
    silent: Vec<String>,
}

impl Rounds<'_> {
    /// The rounds there are to be.
    pub(crate) fn planned(&self) -> u32 {
        self.settings.rounds
    }

    /// Sends a model to the sites of a round and adds what comes back.
    pub(crate) fn round(
        &mut self,
        number: u32,
        model: Tensors,
        combine: Combine,
    ) -> Result<Sum, Failure> {
        let started = Instant::now();
        self.stopped()?;
        if self.renews {
            self.federation.renew();
        }
        let asked = self.ask(number);
        if asked.len() < self.settings.min_sites as usize {
            return Err(self.too_few(number));
        }
        let Greeted { asked, session, silent } = self.greet(number, asked)?;
        let sealed = session.is_some();
        let task = Message::new(self.promise.task, DataKind::Weights, Content::Plain(model));
        let released = self.federation.gate().release(task, number, session, self.cancel);
        let released = released.map_err(|refusal| failure(&refusal))?;
        let parcel = released.handover().map_err(Failure::new)?;
        let sum = self.sum(&parcel, sealed, combine)?;
        self.federation.open(number, parcel, asked.clone(), sum);
        // Greeting had its own time.
        let until = Instant::now() + self.settings.round_timeout;
        let (federation, cancel) = (self.federation, self.cancel);
        let settled = || (federation.settled() || cancel.is_cancelled()).then_some(());
        // Looks at the flag often enough for a stop to feel immediate.
        while Instant::now() < until {
            let step = until.min(Instant::now() + Duration::from_millis(200));
            if self.runtime.block_on(federation.wait(step, settled)).is_some() {
                break;
            }
        }
        let Some(mut closed) = self.federation.close() else {
            let reason = Reason::new(Code::UnexpectedUpload, "the round was closed twice");
            return Err(Failure::new(reason));
        };
        // Who was greeted and said nothing has dropped out of the round as well.
        self.federation.drop_out(&silent);
        closed.dropped.extend(silent);
        self.stopped()?;
        self.add(number, closed, started)
    }

    /// Where sites seal, greets those of a round; who answers can take part, and the task brings
    /// everybody's hellos.
    fn greet(&mut self, number: u32, asked: BTreeSet<String>) -> Result<Greeted, Failure> {
        let sealing = self.federation.sealing(&asked);
        // Sealed and open updates do not add up. Those who are enough by themselves go on; nobody's
        // seal is broken for it.
        let enough = sealing.len() >= self.settings.min_sites as usize;
        if !enough {
            self.federation.leave_out(sealing.iter());
            let open: BTreeSet<String> = asked.difference(&sealing).cloned().collect();
            return match open.len() >= self.settings.min_sites as usize {
                true => Ok(Greeted { asked: open, ..Greeted::default() }),
                false => Err(self.too_few(number)),
            };
        }
        self.federation.leave_out(asked.difference(&sealing));
        if self.seal.is_none() {
            self.seal = Some((self.open_seal)().map_err(Failure::new)?);
        }
        let Some(seal) = &mut self.seal else {
            return Err(Failure::new(Reason::new(Code::NotBuilt, "no seal")));
        };
        let patience = self.settings.round_timeout;
        let mut exchange = Exchange::new(self.federation, &self.runtime, self.cancel, patience);
        let session = seal.greet(&sealing, &mut exchange);
        drop(exchange);
        self.stopped()?;
        let session = session.map_err(|reason| self.unsealed(number, reason))?;
        let silent = sealing.difference(&session.sites).cloned().collect();
        Ok(Greeted { asked: session.sites, session: Some(session.bytes), silent })
    }

    /// The sum that answers to a task go into.
    fn sum(
        &mut self,
        task: &Parcel,
        sealed: bool,
        combine: Combine,
    ) -> Result<Box<dyn Aggregator>, Failure> {
        let schema = &self.promise.schema;
        match &mut self.seal {
            Some(seal) if sealed => {
                seal.sum(self.federation.offer().task(task.id()), schema).map_err(Failure::new)
            }
            _ => Ok(Box::new(PlainSum::new(combine, self.promise.kind, schema.clone()))),
        }
    }

    /// Why a sealed sum did not come about: what sites refused to help with stands beside it.
    fn unsealed(&self, number: u32, reason: Reason) -> Failure {
        let refused = refusals_of(self.federation, self.federation.take_refused_frames());
        let mut refusals: Vec<Refusal> = refused.map(|refusal| refusal.in_round(number)).collect();
        // Who was put into quarantine meanwhile is not greeted, and may be whom it wants.
        let unproved = |refusal: &Refusal| refusal.code == Code::NotAttested;
        let quarantined: Vec<Refusal> =
            self.roster_refusals().into_iter().filter(unproved).collect();
        if reason.code == Code::TooFewSites && !quarantined.is_empty() {
            let wanted = self.settings.min_sites;
            refusals.extend(quarantined);
            return Failure::quorum(number, 0, wanted, refusals, &[]);
        }
        Failure { refusals, ..Failure::new(reason) }
    }

    /// Nobody is asked for what could not be used: it would cost their budgets.
    fn too_few(&self, number: u32) -> Failure {
        let wanted = self.settings.min_sites;
        Failure::quorum(number, 0, wanted, self.roster_refusals(), &[])
    }

    /// Refusals of the whole job.
    fn roster_refusals(&self) -> Vec<Refusal> {
        refusals_of(self.federation, self.federation.roster().refused).collect()
    }

    /// Of all the sites that are needed fewer took part, for what they refused.
    pub(crate) fn short_of(&self, wanted: u32, answered: usize, silent: &[String]) -> Failure {
        let refused = refusals_of(self.federation, self.federation.take_refused_frames());
        let refusals: Vec<Refusal> = refused.chain(self.roster_refusals()).collect();
        let silent: Vec<String> = silent
            .iter()
            .filter(|name| refusals.iter().all(|refusal| refusal.site != **name))
            .cloned()
            .collect();
        Failure::quorum(1, answered, wanted, refusals, &silent)
    }

    /// Records the one round of a job that adds nothing up.
    pub(crate) fn note(&mut self, answered: Vec<String>, took: Duration) {
        let sites = self.federation.records();
        let record = RoundRecord {
            round: 1,
            answered,
            refusals: Vec::new(),
            dropped: Vec::new(),
            metrics: Metrics::default(),
            bytes_up: sites.values().map(|site| site.bytes_up).sum(),
            bytes_down: sites.values().map(|site| site.bytes_down).sum(),
            verified: 0,
            epsilon_spent: BTreeMap::new(),
            wall_s: took.as_secs_f64(),
        };
        self.done.push(record.clone());
        (self.observer)(&Progress::Round(record));
    }

    pub(crate) fn stopped(&self) -> Result<(), Failure> {
        self.cancel.check().map_err(Failure::new)
    }

    /// The sites of a round. A sample is drawn by a hash of public things, so that a resumed
    /// round asks the same sites; it amplifies no privacy and none is claimed for it.
    fn ask(&self, number: u32) -> BTreeSet<String> {
        let ready = self.federation.roster().ready;
        let share = (ready.len() as f64 * self.settings.sample).ceil() as usize;
        // Names and run ids hold no zero byte.
        let draw = |name: &String| {
            Sha256::digest(format!("privet/sample/v1\0{}\0{number}\0{name}", self.run))
        };
        let mut ready: Vec<String> = ready.into_iter().collect();
        ready.sort_by_key(draw);
        ready.truncate(share.max(self.settings.min_sites as usize));
        ready.into_iter().collect()
    }

    fn add(&mut self, number: u32, closed: Closed, started: Instant) -> Result<Sum, Failure> {
        let in_round = |refusal: Refusal| refusal.in_round(number);
        let refusals: Vec<Refusal> =
            refusals_of(self.federation, closed.refusals).map(in_round).collect();
        let answered: Vec<String> = closed.answers.keys().cloned().collect();
        if answered.len() < self.settings.min_sites as usize {
            let mut causes = refusals.clone();
            let roster = self.roster_refusals().into_iter();
            causes.extend(roster.filter(|r| !refusals.iter().any(|known| known.site == r.site)));
            let wanted = self.settings.min_sites;
            let failed = Failure::quorum(number, answered.len(), wanted, causes, &closed.dropped);
            return Err(failed);
        }
        let mut epsilon_spent = BTreeMap::new();
        for (site, upload) in &closed.answers {
            let receipt = upload.header().receipt.as_ref();
            if let Some(epsilon) = receipt.and_then(|receipt| receipt.epsilon_spent) {
                epsilon_spent.insert(site.clone(), epsilon);
            }
        }
        let mut aggregator: Box<dyn Aggregator> = closed.aggregator;
        // A map iterates in the order of its names: the same round gives the same bits.
        let mut refusals = refusals;
        let mut answered = answered;
        let mut unfit = None;
        for (site, upload) in closed.answers {
            let (header, mut body) = upload.into_parts();
            if let Err(reason) = aggregator.add(&site, &header, &mut body) {
                // One site's upload must not be everybody's failure.
                let refused = Refusal::new(&site, Stage::TaskResult, reason.clone());
                refusals.push(refused.in_round(number));
                answered.retain(|name| *name != site);
                unfit = Some(reason);
            }
        }
        let patience = self.settings.round_timeout;
        let mut exchange = Exchange::new(self.federation, &self.runtime, self.cancel, patience);
        let sum = aggregator.finish(&mut exchange);
        drop(exchange);
        self.stopped()?;
        let sum = sum.map_err(|reason| self.unsealed(number, unfit.unwrap_or(reason)))?;
        refusals.extend(sum.complaints.iter().map(complaint).map(in_round));
        refusals.extend(
            refusals_of(self.federation, self.federation.take_refused_frames()).map(in_round),
        );
        let mut dropped = closed.dropped;
        dropped.retain(|name| !refusals.iter().any(|refusal| refusal.site == *name));
        let message = Message::new(self.promise.task, self.promise.kind, Content::Plain(sum.sum));
        let message = self
            .federation
            .gate()
            .finished(message, number, self.cancel)
            .map_err(|refusal| failure(&refusal))?;
        let Content::Plain(tensors) = message.content else {
            let reason = Reason::new(Code::WrongContent, "a server filter took the sum away");
            return Err(Failure::new(reason));
        };
        Ok(Sum {
            tensors,
            weights: sum.weights,
            record: RoundRecord {
                round: number,
                answered,
                refusals,
                dropped,
                metrics: Metrics::default(),
                bytes_up: closed.bytes_up,
                bytes_down: closed.bytes_down,
                verified: sum.verified,
                epsilon_spent,
                wall_s: 0.0,
            },
            started,
        })
    }

    /// Measures a model on the server's public data, where there is some.
    pub(crate) fn evaluate(&mut self, model: &Tensors) -> Metrics {
        let Some(evaluator) = &mut self.evaluator else {
            return Metrics::default();
        };
        let content = Content::Plain(model.clone());
        let task = Message::new("evaluate", DataKind::Weights, content);
        let result = evaluator.execute(&task, self.cancel);
        match (result.status, result.message.map(|message| message.content)) {
            (TaskStatus::Done, Some(Content::Statistics(values))) => Metrics {
                loss: values.get("loss").copied(),
                accuracy: values.get("accuracy").copied(),
            },
            _ => Metrics::default(),
        }
    }

    /// Ends a round: its checkpoint and its record are on disk when this returns.
    pub(crate) fn finish(
        &mut self,
        sum: Sum,
        metrics: Metrics,
        state: State,
    ) -> Result<(), Failure> {
        let record =
            RoundRecord { metrics, wall_s: sum.started.elapsed().as_secs_f64(), ..sum.record };
        self.done.push(record.clone());
        let checkpoint = Checkpoint {
            run: self.run.to_owned(),
            job: self.job.to_owned(),
            round: record.round,
            done: self.done.clone(),
            sites: self.federation.records(),
            state,
        };
        checkpoint.write(&self.folder).map_err(Failure::new)?;
        (self.observer)(&Progress::Round(record));
        Ok(())
    }
}

fn failure(refusal: &Refusal) -> Failure {
    Failure {
        code: refusal.code,
        message: format!("the server's own filter refuses: {}", refusal.detail),
        exit_code: refusal.code.exit_code(),
        refusals: vec![refusal.clone()],
    }
}
