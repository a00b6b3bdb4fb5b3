//! The server's side. It holds no key: it adds what is sealed, says whose uploads it has added, and
//! opens their sum with the shares that these sites give it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use privet_core::aggregate::{Aggregate, Aggregator, UploadHeader};
use privet_core::seal::{Channel, ServerSeal, Session, Vouching};
use privet_core::tensor::{Schema, Tensor, Tensors, Values};
use privet_core::{Code, Reason};
use privet_crypto::Digest;
use privet_store::{Store, StoreError, Table};

use crate::coding::{Decoder, Layout, LayoutError};
use crate::protocol::hello::{Greeting, Hello};
use crate::protocol::party::{Hellos, Party, Roster, values};
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

    fn roster(&self) -> Result<Option<Roster>, Reason> {
        let failed = |error: String| Reason::new(Code::StorageFailed, error);
        let bytes = self.store.get(ROSTERS, self.run.as_bytes());
        let bytes = bytes.map_err(|error| failed(error.to_string()))?;
        let roster = bytes.map(|bytes| Roster::decode(&bytes)).transpose();
        roster.map_err(|error| failed(error.to_string()))
    }
}

impl ServerSeal for Server {
    fn greet(
        &mut self,
        sites: &BTreeSet<String>,
        channel: &mut dyn Channel,
    ) -> Result<Session, Reason> {
        let roster = self.roster()?;
        let known = |name: &String| {
            roster.as_ref().is_none_or(|roster| roster.sites().iter().any(|s| s.name == *name))
        };
        let greeting = Greeting { run: self.run.clone(), session: self.next_session()? };
        let asked: BTreeSet<&String> = sites.iter().filter(|name| known(name)).collect();
        asked.iter().for_each(|name| channel.send(name, greeting.encode()));
        let mut hellos = BTreeMap::new();
        while hellos.len() < asked.len() {
            let Some((from, frame)) = channel.receive() else { break };
            let hello = Hello::decode(&frame).and_then(|hello| {
                let site = hello.check(&greeting, &*self.vouching)?;
                Ok((site.name, hello))
            });
            // What is not a hello of the site that sends it, is none.
            if let Ok((name, hello)) = hello
                && name == from
                && asked.contains(&name)
            {
                hellos.insert(name, hello);
            }
        }
        let sites = hellos.keys().cloned().collect();
        let hellos = Hellos { greeting, hellos: hellos.into_values().collect() };
        let bytes = hellos.encode();
        let (greeting, party) = Party::new(&bytes, roster.as_ref(), &*self.vouching)?;
        if roster.is_none() {
            let kept =
                self.store.write(|tx| tx.put(ROSTERS, self.run.as_bytes(), &party.roster.encode()));
            kept.map_err(|error| Reason::new(Code::StorageFailed, error.to_string()))?;
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
            void: false,
        }))
    }
}

/// A sum of sealed uploads: one accumulator, whatever the number of sites.
struct SealedSum {
    ring: Ring,
    party: Party,
    layout: Layout,
    context: Digest,
    schema: Schema,
    sum: Vec<u32>,
    /// What was said beside the uploads in the sum, by place in the roster.
    dealt: BTreeMap<u32, Dealt>,
    void: bool,
}

impl SealedSum {
    /// The statement of an upload, if it is one of this sum.
    fn dealt(&self, from: &str, header: &UploadHeader) -> Result<Dealt, Reason> {
        let refuse = |code, detail: &str| Err(Reason::new(code, detail));
        let Some(statement) = &header.seal else {
            return refuse(Code::WrongContent, "an upload in the clear for a sealed sum");
        };
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

    fn take(&mut self, body: &mut dyn Read) -> Result<(), Reason> {
        let short = |_| Reason::new(Code::StorageFailed, "a spooled upload is short");
        let block = self.ring.set().block();
        let (mut bytes, mut words) = (vec![0u8; 4 * block], vec![0u32; block]);
        for sum in self.sum.chunks_exact_mut(block) {
            body.read_exact(&mut bytes).map_err(short)?;
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            add_into(&self.ring, sum, &words)
                .map_err(|error| Reason::new(Code::Malformed, error.to_string()))?;
        }
        match body.read(&mut bytes[..1]) {
            Ok(0) => Ok(()),
            _ => Err(Reason::new(Code::Malformed, "an upload of more blocks than the round's")),
        }
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

    /// Opens the sum and reads it.
    fn open(&self, answers: Vec<(u32, Share)>) -> Result<(Vec<i64>, u64), Reason> {
        let survivors = self.dealt.len() as u32;
        let points: Vec<(u32, Share)> =
            answers.into_iter().map(|(index, share)| (index + 1, share)).collect();
        let threshold = self.party.threshold as usize;
        let keys = reconstruct(&points, threshold, survivors).map_err(|error| {
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
        let taken = self.take(body);
        self.void |= taken.is_err();
        taken?;
        self.dealt.insert(dealt.statement.index, dealt);
        Ok(())
    }

    fn finish(self: Box<Self>, channel: &mut dyn Channel) -> Result<Aggregate, Reason> {
        if self.void {
            return Err(Reason::new(Code::TooFewSites, "there is no sum to open"));
        }
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
