//! The server's side. It holds no key: it adds what is sealed, says whose uploads it has added, opens
//! their sum with what these sites answer, and shows them what it opened.

mod closing;
mod fitting;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

use privet_core::aggregate::{Aggregate, Aggregator, Complaint, UploadHeader};
use privet_core::channel::Channel;
use privet_core::seal::{Certified, ServerSeal, Session, Vouching};
use privet_core::tensor::{Schema, Tensor, Tensors, Values};
use privet_core::{Code, Reason};
use privet_crypto::pairwise::OVERHEAD;
use privet_crypto::{DecodeError, Digest, Reader, Writer};
use privet_store::{Store, StoreError, Table};

use crate::coding::params::MAX_SITES;
use crate::protocol::group::Group;
use crate::protocol::hello::{Greeting, Hello};
use crate::protocol::party::{Hellos, Invitation, Party, Roster, receivers, values, wide};
use crate::protocol::survivors::{self, Answer, Delivered, Said, Survivors};
use crate::protocol::tree;
use crate::protocol::upload::Dealt;
use crate::protocol::{DEAL, MAX_CREDENTIAL};
use crate::scheme::{self, Opened, Opening, Scheme, Sum};
use crate::server::fitting::fitting;

/// Most bytes of a roster.
const MAX_ROSTER: usize = 1 << 20;

const ROSTERS: Table = Table::named("seal-rosters");
/// Run → its last session.
const SESSIONS: Table = Table::named("seal-sessions");

/// What is kept of a run: who its sites are, with what they showed, and what weights are divided by.
struct Frozen {
    roster: Roster,
    credentials: Vec<Vec<u8>>,
    weight_bits: u8,
}

impl Frozen {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u8(self.weight_bits).bytes(&self.roster.encode()).count(self.credentials.len());
        for credential in &self.credentials {
            writer.bytes(credential);
        }
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let weight_bits = reader.u8("weight")?;
        let roster = Roster::decode(reader.bytes(MAX_ROSTER, "roster")?)?;
        let mut credentials = Vec::new();
        for _ in 0..reader.count(MAX_SITES as usize, "credentials")? {
            credentials.push(reader.bytes(MAX_CREDENTIAL, "credential")?.to_vec());
        }
        reader.end()?;
        Ok(Self { roster, credentials, weight_bits })
    }
}

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

    /// What is kept of the run, once there was a session.
    fn frozen(&self) -> Result<Option<Frozen>, Reason> {
        let failed = |error: String| Reason::new(Code::StorageFailed, error);
        let bytes = self.store.get(ROSTERS, self.run.as_bytes());
        let bytes = bytes.map_err(|error| failed(error.to_string()))?;
        let frozen = bytes.map(|bytes| Frozen::decode(&bytes)).transpose();
        frozen.map_err(|error| failed(error.to_string()))
    }

    fn keep(&self, frozen: &Frozen) -> Result<(), Reason> {
        let bytes = frozen.encode();
        let kept = self.store.write(|tx| tx.put(ROSTERS, self.run.as_bytes(), &bytes));
        kept.map_err(|error: StoreError| Reason::new(Code::StorageFailed, error.to_string()))
    }
}

/// Has one of the members draw a secret that all of them share; the next one, should it fail to.
fn group(
    party: &Party,
    session: u64,
    hellos: &[u8],
    channel: &mut dyn Channel,
) -> Result<Group, Reason> {
    let asking = Invitation { hellos: hellos.to_vec(), group: None }.encode();
    let frame = [&[DEAL][..], &asking].concat();
    // Another one in each session: whoever deals badly does not stop them all.
    let first = (session % party.members.len().max(1) as u64) as usize;
    for member in party.members.iter().cycle().skip(first).take(party.members.len()) {
        channel.send(&member.site.name, frame.clone());
        let Some((from, answer)) = channel.receive() else { continue };
        if from == member.site.name
            && let Ok(group) = Group::decode(&answer)
            && group.dealer(party).is_ok()
        {
            return Ok(group);
        }
    }
    Err(Reason::new(Code::TooFewSites, "no site gave the session the secret that it needs"))
}

impl ServerSeal for Server {
    fn greet(
        &mut self,
        sites: &BTreeSet<String>,
        channel: &mut dyn Channel,
    ) -> Result<Session, Reason> {
        let frozen = self.frozen()?;
        let roster = frozen.as_ref().map(|frozen| &frozen.roster);
        let is_known = |site: &Certified| roster.is_none_or(|roster| roster.holds(site));
        let known = |name: &String| roster.is_none_or(|roster| roster.names(name));
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
        let terms = frozen.as_ref().map(|frozen| (frozen.roster.len(), frozen.weight_bits));
        let (hellos, weight_bits) = fitting(hellos, terms);
        let sites = hellos.keys().cloned().collect();
        let first = || hellos.values().map(|hello| hello.credential.clone()).collect();
        let kept = frozen.as_ref().map(|frozen| frozen.credentials.clone());
        let credentials = kept.unwrap_or_else(first);
        let hellos = hellos.into_values().collect();
        let session = Hellos { greeting, roster: credentials, weight_bits, hellos };
        let mut invitation = Invitation { hellos: session.encode(), group: None };
        let mut bytes = invitation.encode();
        let (mut greeting, mut party) = Party::new(&bytes, roster, &*self.vouching)?;
        if party.needs_group() {
            let number = greeting.session;
            invitation.group = Some(group(&party, number, &invitation.hellos, channel)?);
            bytes = invitation.encode();
            (greeting, party) = Party::new(&bytes, roster, &*self.vouching)?;
        }
        if frozen.is_none() {
            let (roster, credentials) = (party.roster.clone(), session.roster);
            self.keep(&Frozen { roster, credentials, weight_bits })?;
        }
        self.current = Some((greeting, party));
        Ok(Session { bytes, sites })
    }

    fn sum(&mut self, task: [u8; 32], schema: &Schema) -> Result<Box<dyn Aggregator>, Reason> {
        let Some((greeting, party)) = self.current.take() else {
            return Err(Reason::new(Code::ContextMismatch, "nobody was greeted for this task"));
        };
        let scheme = scheme::of(&party, values(schema)?)?;
        let context = party.context(&greeting, &task, &*scheme);
        Ok(Box::new(SealedSum {
            sum: scheme.sum(&context)?,
            party,
            scheme,
            context,
            schema: schema.clone(),
            words: Vec::new(),
            dealt: BTreeMap::new(),
        }))
    }
}

/// A sum of sealed uploads, and one upload at a time.
struct SealedSum {
    party: Party,
    scheme: Box<dyn Scheme>,
    context: Digest,
    schema: Schema,
    sum: Box<dyn Sum>,
    /// Room for one upload.
    words: Vec<u32>,
    /// What was said beside the uploads in the sum, by place in the roster.
    dealt: BTreeMap<u32, Dealt>,
}

/// What the survivors said.
struct Answers {
    /// Who helps, and with what.
    help: Vec<Answer>,
    complaints: Vec<Complaint>,
}

impl SealedSum {
    /// The statement of an upload, if it is one of this sum.
    fn dealt(&self, from: &str, header: &UploadHeader) -> Result<Dealt, Reason> {
        let refuse = |code, detail: &str| Err(Reason::new(code, detail));
        let Some(statement) = &header.seal else {
            return refuse(Code::WrongContent, "an upload in the clear for a sealed sum");
        };
        if header.len != 4 * self.scheme.words() as u64 {
            return refuse(
                Code::ShapeMismatch,
                "an upload of more or fewer blocks than the round's",
            );
        }
        if header.step != Some(self.party.common.step) || wide(&header.schema) != wide(&self.schema)
        {
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
        let to: Vec<u32> = dealt.messages.iter().map(|(to, _)| *to).collect();
        let (expected, size) = match self.scheme.dealt_bytes() {
            0 => (Vec::new(), 0),
            bytes => (receivers(&self.party, statement.index), bytes + OVERHEAD),
        };
        let sizes = dealt.messages.iter().all(|(_, sealed)| sealed.len() == size);
        let leaves = Dealt::leaves(statement.index, &dealt.messages);
        if to != expected || !sizes || tree::root(&leaves) != statement.dealt {
            return refuse(Code::BadShare, "an upload whose shares are not one for each peer");
        }
        Ok(dealt)
    }

    /// Adds all of an upload, or nothing of it.
    fn take(&mut self, body: &mut dyn Read) -> Result<(), Reason> {
        let short = |_| Reason::new(Code::StorageFailed, "a spooled upload is short");
        self.words.resize(self.scheme.words(), 0);
        body.read_exact(bytemuck::cast_slice_mut(&mut self.words)).map_err(short)?;
        self.sum.add(&mut self.words)
    }

    /// Name of the site at a place of the roster.
    fn name(&self, index: u32) -> &str {
        self.party.member(index).map_or("?", |member| &member.site.name)
    }

    fn survivors(&self) -> Digest {
        let statements: Vec<_> = self.dealt.values().map(|dealt| dealt.statement.clone()).collect();
        survivors::digest(&statements)
    }

    /// Tells the survivors whose uploads are in the sum, and gathers their answers.
    fn answers(&self, channel: &mut dyn Channel) -> Answers {
        let statements: Vec<_> = self.dealt.values().map(|dealt| dealt.statement.clone()).collect();
        let digest = self.survivors();
        let leaves: BTreeMap<u32, Vec<Digest>> = self
            .dealt
            .iter()
            .map(|(&from, dealt)| (from, Dealt::leaves(from, &dealt.messages)))
            .collect();
        let delivered = |from: u32, dealt: &Dealt, to: u32| {
            let at = dealt.messages.iter().position(|(receiver, _)| *receiver == to)?;
            let path = tree::path(leaves.get(&from)?, at);
            Some(Delivered { sealed: dealt.messages.get(at)?.1.clone(), path })
        };
        for &to in self.dealt.keys() {
            let messages =
                self.dealt.iter().map(|(&from, dealt)| delivered(from, dealt, to)).collect();
            let survivors = Survivors { statements: statements.clone(), messages };
            channel.send(self.name(to), survivors.encode());
        }
        let (mut help, mut complaints) = (BTreeMap::new(), Vec::new());
        let mut heard = BTreeSet::new();
        while heard.len() < self.dealt.len() {
            let Some((from, frame)) = channel.receive() else { break };
            let Some(answer) = self.answer(&from, &frame, &digest) else { continue };
            heard.insert(answer.index);
            match answer.said {
                Said::Help(_) => drop(help.insert(answer.index, answer)),
                Said::Complaint(about) => {
                    complaints.push(Complaint { by: from, about: self.name(about).to_owned() });
                }
            }
        }
        Answers { help: help.into_values().collect(), complaints }
    }

    /// An answer, if it is one of this sum.
    fn answer(&self, from: &str, frame: &[u8], survivors: &Digest) -> Option<Answer> {
        let answer = Answer::decode(frame).ok()?;
        let member = self.party.member(answer.index)?;
        let good = member.site.name == from
            && self.dealt.contains_key(&answer.index)
            && answer.context == self.context
            && answer.survivors == *survivors
            && answer.is_of(&member.site.signing);
        good.then_some(answer)
    }

    /// Opens the sum; or has one of the sites open it, whose place comes with it.
    fn open(
        &mut self,
        answers: &[Answer],
        channel: &mut dyn Channel,
    ) -> Result<(Opened, Option<u32>), Reason> {
        let help = answers.iter().filter_map(|answer| match &answer.said {
            Said::Help(help) => Some((answer.index, help.clone())),
            Said::Complaint(_) => None,
        });
        let help: Vec<_> = help.collect();
        match self.sum.open(&help)? {
            Opening::Done(opened) => Ok((opened, None)),
            Opening::AtSite(sealed) => self.open_at_site(&sealed, answers, channel),
        }
    }
}

fn too_few(detail: String, complaints: &[Complaint]) -> Reason {
    let of = |complaint: &Complaint| {
        format!("; `{}` cannot open what `{}` dealt", complaint.by, complaint.about)
    };
    let complaints: String = complaints.iter().map(of).collect();
    Reason::new(Code::TooFewSites, detail + &complaints)
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

    fn finish(mut self: Box<Self>, channel: &mut dyn Channel) -> Result<Aggregate, Reason> {
        let (came, threshold) = (self.dealt.len(), self.party.threshold);
        if (came as u32) < threshold {
            let detail =
                format!("{came} sealed updates came in, a sum of at least {threshold} opens");
            return Err(too_few(detail, &[]));
        }
        let Answers { help, complaints } = self.answers(channel);
        if (help.len() as u32) < threshold {
            let detail = format!(
                "{} sites helped to open the sum, {threshold} are needed; nothing was opened",
                help.len(),
            );
            return Err(too_few(detail, &complaints));
        }
        let ((header, sums), opener) = self.open(&help, channel)?;
        let verified = self.show(&header, &sums, &help, opener, channel);
        // What was weighted was divided by this power of two.
        let step = self.party.common.step.value() * f64::from(self.party.weight_bits).exp2();
        let mut rest = &sums[..];
        let (mut sum, mut weights) = (Tensors::default(), BTreeMap::new());
        for (name, slot) in &self.schema.0 {
            let (values, after) = rest.split_at(slot.shape.elements() as usize);
            rest = after;
            let values = values.iter().map(|&value| value as f64 * step).collect();
            if let Some(tensor) = Tensor::new(slot.shape.clone(), Values::F64(values)) {
                weights.insert(name.clone(), header.weight as f64);
                sum.0.insert(name.clone(), tensor);
            }
        }
        Ok(Aggregate { sum, weights, uploads: came as u32, verified, complaints })
    }
}
