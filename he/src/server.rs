//! The server's side. It holds no key: it adds what is sealed, says whose uploads it has added, and
//! opens their sum with the shares that these sites give it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use privet_core::aggregate::{Aggregate, Aggregator, UploadHeader};
use privet_core::channel::Channel;
use privet_core::seal::{Certified, ServerSeal, Session, Vouching};
use privet_core::tensor::{Schema, Tensor, Tensors, Values};
use privet_core::{Code, Reason};
use privet_crypto::{DecodeError, Digest, Reader, Writer};
use privet_store::{Store, StoreError, Table};

use crate::coding::params::MAX_SITES;
use crate::coding::{Decoder, Layout, LayoutError};
use crate::protocol::MAX_CREDENTIAL;
use crate::protocol::hello::{Greeting, Hello};
use crate::protocol::party::{Hellos, Party, threshold_of, values};
use crate::protocol::survivors::{self, Answer, Delivered, Survivors};
use crate::protocol::tree;
use crate::protocol::upload::{Dealt, sealed_share};
use crate::rlwe::block::add_into;
use crate::rlwe::{KeySum, Opener, Ring};
use crate::shamir::{ShamirError, Share, reconstruct};
use crate::site::{receivers, wide};

const ROSTERS: Table = Table::named("seal-rosters");
/// Run → its last session.
const SESSIONS: Table = Table::named("seal-sessions");

/// Largest magnitude of a site's integers that any sum has room for.
const MAX_MOST: u64 = 1 << 52;

/// The server of one run of a job.
pub struct Server {
    run: String,
    vouching: Arc<dyn Vouching>,
    store: Store,
    current: Option<(Greeting, Party)>,
}

impl Server {
    /// A server; the roster of the run is kept in the store.
    pub fn new(run: String, vouching: Arc<dyn Vouching>, store: Store) -> Self {
        Self { run, vouching, store, current: None }
    }

    /// The next session of the run: never one that a server of this folder has greeted for.
    fn next_session(&self) -> Result<u64, Reason> {
        let key = self.run.as_bytes();
        let next = self.store.write(|tx| {
            let last = tx.get(SESSIONS, key)?.and_then(|bytes| bytes.try_into().ok());
            let next = last.map_or(1, |last| u64::from_le_bytes(last).saturating_add(1));
            tx.put(SESSIONS, key, &next.to_le_bytes()).map(|()| next)
        });
        next.map_err(|error: StoreError| Reason::new(Code::StorageFailed, error.to_string()))
    }

    /// The credentials of the run's roster, once there was a session.
    fn roster(&self) -> Result<Option<Vec<Vec<u8>>>, Reason> {
        let failed = |error: String| Reason::new(Code::StorageFailed, error);
        let bytes = self.store.get(ROSTERS, self.run.as_bytes());
        let Some(bytes) = bytes.map_err(|error| failed(error.to_string()))? else {
            return Ok(None);
        };
        let mut reader = Reader::new(&bytes);
        let mut credentials = Vec::new();
        let read = || {
            for _ in 0..reader.count(MAX_SITES as usize, "roster")? {
                credentials.push(reader.bytes(MAX_CREDENTIAL, "credential")?.to_vec());
            }
            reader.end()
        };
        let read = read().map_err(|error: DecodeError| failed(error.to_string()));
        read.map(|()| Some(credentials))
    }

    fn keep(&self, roster: &[Vec<u8>]) -> Result<(), Reason> {
        let mut writer = Writer::default();
        writer.count(roster.len());
        for credential in roster {
            writer.bytes(credential);
        }
        let bytes = writer.finish();
        let kept = self.store.write(|tx| tx.put(ROSTERS, self.run.as_bytes(), &bytes));
        kept.map_err(|error: StoreError| Reason::new(Code::StorageFailed, error.to_string()))
    }
}

/// Leaves out the hellos that do not go with the others, so that one of them cannot keep everybody from a
/// sum: another step than most, terms that so many sites cannot meet, numbers too large for any sum.
fn fitting(hellos: BTreeMap<String, Hello>) -> BTreeMap<String, Hello> {
    let mut steps: BTreeMap<i16, usize> = BTreeMap::new();
    hellos.values().for_each(|hello| *steps.entry(hello.step.exponent()).or_default() += 1);
    let most_have = steps.iter().max_by_key(|(_, count)| **count).map(|(&step, _)| step);
    let sites = hellos.len() as u32;
    let fits = |hello: &Hello| {
        Some(hello.step.exponent()) == most_have
            && hello.min_sites >= hello.colluders.saturating_add(2)
            && threshold_of(sites, hello.min_sites, hello.colluders) <= sites
            && hello.most <= MAX_MOST
    };
    hellos.into_iter().filter(|(_, hello)| fits(hello)).collect()
}

impl ServerSeal for Server {
    fn greet(
        &mut self,
        sites: &BTreeSet<String>,
        channel: &mut dyn Channel,
    ) -> Result<Session, Reason> {
        let roster = self.roster()?;
        let certified = roster.iter().flatten().map(|bytes| self.vouching.certified(bytes));
        let certified = certified.collect::<Result<Vec<_>, _>>()?;
        let is_known = |site: &Certified| {
            let same = |known: &Certified| known.name == site.name && known.signing == site.signing;
            roster.is_none() || certified.iter().any(same)
        };
        let known =
            |name: &String| roster.is_none() || certified.iter().any(|site| site.name == *name);
        let greeting = Greeting { run: self.run.clone(), session: self.next_session()? };
        let asked: BTreeSet<&String> = sites.iter().filter(|name| known(name)).collect();
        asked.iter().for_each(|name| channel.send(name, greeting.encode()));
        let mut hellos = BTreeMap::new();
        while hellos.len() < asked.len() {
            let Some((from, frame)) = channel.receive() else { break };
            let hello = Hello::decode(&frame).and_then(|hello| {
                let site = hello.check(&greeting, &*self.vouching)?;
                Ok((site, hello))
            });
            // What is not a hello of the site that sends it, is none.
            if let Ok((site, hello)) = hello
                && site.name == from
                && asked.contains(&site.name)
                && is_known(&site)
            {
                hellos.insert(site.name, hello);
            }
        }
        let hellos = fitting(hellos);
        let sites = hellos.keys().cloned().collect();
        let first = || hellos.values().map(|hello| hello.credential.clone()).collect();
        let credentials = roster.clone().unwrap_or_else(first);
        let hellos = hellos.into_values().collect();
        let session = Hellos { greeting, roster: credentials, hellos };
        let bytes = session.encode();
        let (greeting, party) = Party::new(&bytes, None, &*self.vouching)?;
        if roster.is_none() {
            self.keep(&session.roster)?;
        }
        self.current = Some((greeting, party));
        Ok(Session { bytes, sites })
    }

    fn sum(&mut self, task: [u8; 32], schema: &Schema) -> Result<Box<dyn Aggregator>, Reason> {
        let Some((greeting, party)) = self.current.take() else {
            return Err(Reason::new(Code::ContextMismatch, "nobody was greeted for this task"));
        };
        let layout = party.layout(values(schema)?)?;
        let context = party.context(&greeting, &task, &layout);
        let ring = Ring::new(layout.encoding().set());
        let words = layout.blocks() as usize * ring.set().block();
        Ok(Box::new(SealedSum {
            ring,
            party,
            layout,
            context,
            schema: schema.clone(),
            sum: vec![0; words],
            dealt: BTreeMap::new(),
        }))
    }
}

/// A sum of sealed uploads: one accumulator, whatever the number of sites, and one upload at a time.
struct SealedSum {
    ring: Ring,
    party: Party,
    layout: Layout,
    context: Digest,
    schema: Schema,
    sum: Vec<u32>,
    /// What was said beside the uploads in the sum, by place in the roster.
    dealt: BTreeMap<u32, Dealt>,
}

impl SealedSum {
    /// The statement of an upload, if it is one of this sum.
    fn dealt(&self, from: &str, header: &UploadHeader) -> Result<Dealt, Reason> {
        let refuse = |code, detail: &str| Err(Reason::new(code, detail));
        let Some(statement) = &header.seal else {
            return refuse(Code::WrongContent, "an upload in the clear for a sealed sum");
        };
        if header.len != 4 * self.sum.len() as u64 {
            return refuse(
                Code::ShapeMismatch,
                "an upload of more or fewer blocks than the round's",
            );
        }
        if header.step != Some(self.party.step) || wide(&header.schema) != wide(&self.schema) {
            return refuse(Code::ShapeMismatch, "an upload for another model or step");
        }
        let dealt = Dealt::decode(statement)?;
        let statement = &dealt.statement;
        if statement.context != self.context {
            return refuse(Code::ContextMismatch, "an upload that was sealed for another round");
        }
        let member = self.party.member(statement.index);
        let Some(member) = member.filter(|member| member.site.name == from) else {
            return refuse(Code::RosterChanged, "an upload in another site's name");
        };
        if statement.body != Digest(header.digest) || !statement.is_of(&member.site.signing) {
            return refuse(Code::BadSignature, "an upload that its site did not sign");
        }
        let to: Vec<u32> = dealt.shares.iter().map(|(to, _)| *to).collect();
        let size = sealed_share(self.ring.set());
        let sizes = dealt.shares.iter().all(|(_, sealed)| sealed.len() == size);
        let leaves = Dealt::leaves(statement.index, &dealt.shares);
        if to != receivers(&self.party, statement.index)
            || !sizes
            || tree::root(&leaves) != statement.shares
        {
            return refuse(Code::BadShare, "an upload whose shares are not one for each peer");
        }
        Ok(dealt)
    }

    /// Adds all of an upload, or nothing of it.
    fn take(&mut self, body: &mut dyn Read) -> Result<(), Reason> {
        let short = |_| Reason::new(Code::StorageFailed, "a spooled upload is short");
        let mut words = vec![0u32; self.sum.len()];
        body.read_exact(bytemuck::cast_slice_mut(&mut words)).map_err(short)?;
        if cfg!(target_endian = "big") {
            words.iter_mut().for_each(|word| *word = u32::from_le(*word));
        }
        add_into(&self.ring, &mut self.sum, &words)
            .map_err(|error| Reason::new(Code::Malformed, error.to_string()))
    }

    /// Tells the survivors whose uploads are in the sum, and gathers their answers.
    fn answers(&self, channel: &mut dyn Channel) -> Vec<(u32, Share)> {
        let statements: Vec<_> = self.dealt.values().map(|dealt| dealt.statement.clone()).collect();
        let digest = survivors::digest(&statements);
        let leaves: BTreeMap<u32, Vec<Digest>> = self
            .dealt
            .iter()
            .map(|(&from, dealt)| (from, Dealt::leaves(from, &dealt.shares)))
            .collect();
        let delivered = |from: u32, dealt: &Dealt, to: u32| {
            let at = dealt.shares.iter().position(|(receiver, _)| *receiver == to)?;
            let path = tree::path(leaves.get(&from)?, at);
            Some(Delivered { sealed: dealt.shares.get(at)?.1.clone(), path })
        };
        for &to in self.dealt.keys() {
            let Some(member) = self.party.member(to) else { continue };
            let shares =
                self.dealt.iter().map(|(&from, dealt)| delivered(from, dealt, to)).collect();
            let survivors = Survivors { statements: statements.clone(), shares };
            channel.send(&member.site.name, survivors.encode());
        }
        let mut answers = BTreeMap::new();
        while answers.len() < self.dealt.len() {
            let Some((from, frame)) = channel.receive() else { break };
            if let Some((index, share)) = self.answer(&from, &frame, &digest) {
                answers.insert(index, share);
            }
        }
        answers.into_iter().collect()
    }

    /// The share of an answer, if it is one of this sum.
    fn answer(&self, from: &str, frame: &[u8], survivors: &Digest) -> Option<(u32, Share)> {
        let answer = Answer::decode(frame).ok()?;
        let member = self.party.member(answer.index)?;
        let good = member.site.name == from
            && self.dealt.contains_key(&answer.index)
            && answer.context == self.context
            && answer.survivors == *survivors
            && answer.is_of(&member.site.signing);
        let share = Share::decode(&answer.share, self.ring.set().degree()).ok()?;
        good.then_some((answer.index, share))
    }

    /// Opens the sum and reads it. Should the answers not fit together, each is left out in turn: the
    /// zeros at the end of the sum tell whether the others were right. Nobody is named: it could be a
    /// dealer's fault.
    fn open(&self, answers: Vec<(u32, Share)>) -> Result<(Vec<i64>, u64), Reason> {
        let mut points: Vec<(u32, Share)> =
            answers.into_iter().map(|(index, share)| (index + 1, share)).collect();
        let whole = self.open_with(&points);
        let wrong = |result: &Result<_, Reason>| {
            result.as_ref().is_err_and(|reason| reason.code == Code::SharesInconsistent)
        };
        if !wrong(&whole) || points.len() as u32 <= self.party.threshold {
            return whole;
        }
        for _ in 0..points.len() {
            let left_out = points.remove(0);
            if let Ok(opened) = self.open_with(&points) {
                return Ok(opened);
            }
            points.push(left_out);
        }
        whole
    }

    fn open_with(&self, points: &[(u32, Share)]) -> Result<(Vec<i64>, u64), Reason> {
        let survivors = self.dealt.len() as u32;
        let threshold = self.party.threshold as usize;
        let keys = reconstruct(points, threshold, survivors).map_err(|error| {
            let code = match error {
                ShamirError::TooFew => Code::TooFewSites,
                _ => Code::SharesInconsistent,
            };
            Reason::new(code, error.to_string())
        })?;
        let unreadable = |error: LayoutError| {
            let code = match error {
                LayoutError::CountMismatch | LayoutError::VersionMismatch => Code::CountMismatch,
                LayoutError::PadsNonzero => Code::PadsNonzero,
                _ => Code::SumOutOfRange,
            };
            Reason::new(code, error.to_string())
        };
        let wrong = |error: crate::rlwe::RingError| {
            Reason::new(Code::SharesInconsistent, error.to_string())
        };
        let key = KeySum::new(&self.ring, survivors, &keys).map_err(wrong)?;
        let opener = Opener::new(&self.ring, &self.context.0, key);
        let mut decoder = Decoder::new(self.layout, survivors).map_err(unreadable)?;
        let mut opened = vec![0i64; self.ring.set().degree()];
        let mut sums = Vec::with_capacity(self.layout.encoding().values() as usize);
        for (block, sealed) in (0..).zip(self.sum.chunks_exact(self.ring.set().block())) {
            opener.open(block, sealed, &mut opened).map_err(wrong)?;
            decoder.block(&opened, &mut sums).map_err(unreadable)?;
        }
        let header = decoder.finish().map_err(unreadable)?;
        Ok((sums, header.weight))
    }
}

impl Aggregator for SealedSum {
    fn admit(&self, from: &str, header: &UploadHeader) -> Result<(), Reason> {
        self.dealt(from, header).map(drop)
    }

    fn add(
        &mut self,
        from: &str,
        header: &UploadHeader,
        body: &mut dyn Read,
    ) -> Result<(), Reason> {
        let dealt = self.dealt(from, header)?;
        if self.dealt.contains_key(&dealt.statement.index) {
            return Err(Reason::new(Code::UnexpectedUpload, "a second upload of a site"));
        }
        self.take(body)?;
        self.dealt.insert(dealt.statement.index, dealt);
        Ok(())
    }

    fn finish(self: Box<Self>, channel: &mut dyn Channel) -> Result<Aggregate, Reason> {
        if (self.dealt.len() as u32) < self.party.threshold {
            let detail = format!(
                "{} sealed updates came in, a sum of at least {} opens",
                self.dealt.len(),
                self.party.threshold
            );
            return Err(Reason::new(Code::TooFewSites, detail));
        }
        let answers = self.answers(channel);
        if (answers.len() as u32) < self.party.threshold {
            let detail = format!(
                "{} sites helped to open the sum, {} are needed; nothing was opened",
                answers.len(),
                self.party.threshold
            );
            return Err(Reason::new(Code::TooFewSites, detail));
        }
        let (sums, weight) = self.open(answers)?;
        let step = self.party.step.value();
        let mut rest = &sums[..];
        let (mut sum, mut weights) = (Tensors::default(), BTreeMap::new());
        for (name, slot) in &self.schema.0 {
            let (values, after) = rest.split_at(slot.shape.elements() as usize);
            rest = after;
            let values = values.iter().map(|&value| value as f64 * step).collect();
            if let Some(tensor) = Tensor::new(slot.shape.clone(), Values::F64(values)) {
                weights.insert(name.clone(), weight as f64);
                sum.0.insert(name.clone(), tensor);
            }
        }
        Ok(Aggregate { sum, weights, uploads: self.dealt.len() as u32 })
    }
}
