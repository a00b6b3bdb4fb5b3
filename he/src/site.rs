//! A site's side.
//!
//! ```text
//!   Idle ──greeting──▶ Greeted ──begin(invitation)──▶ Entered ──seal──▶ Sealed ──survivors──▶ Answered
//!                       └─deal─┘ draws the session's secret, where asked              agreed, pieces ─┘
//! ```
//! The secrets of the round are in memory alone and gone with their phase: a site that is restarted is out
//! of the open round, and whoever takes its disk later opens nothing. What a phase holds is moved to the
//! next, so that a key is used once.

mod answering;
mod closing;
mod weighing;

use std::sync::Arc;

use privet_core::message::Sealed;
use privet_core::seal::{Certified, Note, Reply, SiteSeal, Terms, Vouching};
use privet_core::sensitivity::Lattice;
use privet_core::tensor::{Dtype, Schema};
use privet_core::{Code, Reason};
use privet_crypto::pairwise::{Route, Secret};
use privet_crypto::transcript::Stream;
use privet_crypto::{Digest, Reader, Seed, SigningKey, Transcript};
use privet_store::Store;
use zeroize::Zeroizing;

use crate::protocol::group::Group;
use crate::protocol::hello::{Greeting, Hello};
use crate::protocol::party::{Member, Party, values, wide};
use crate::protocol::survivors::{Answer, Said, Survivors};
use crate::protocol::tree;
use crate::protocol::upload::{Dealt, Statement};
use crate::protocol::{AGREED, DEAL, GREETING, OPENED, READ, SURVIVORS, TO_OPEN, malformed};
use crate::scheme::{self, Scheme, Sealing};
use crate::site::closing::Closing;
use crate::site::weighing::weigh;
use crate::state::{Entering, State};

/// What a sealed message from one site to another is for.
const SHARE: &str = "privet/he/share/v1";

/// Who a site is.
pub struct Identity {
    /// What it shows its peers.
    pub credential: Vec<u8>,
    /// What it signs with; the credential is of it.
    pub signer: SigningKey,
}

/// One site in one run of a job.
pub struct Site {
    run: String,
    terms: Terms,
    identity: Identity,
    own: Certified,
    vouching: Arc<dyn Vouching>,
    state: State,
    phase: Phase,
    /// Sums in a row that were not of what was sealed.
    wrong_sums: u32,
}

/// So many wrong sums in a row, and a site takes no further part until it is started anew. One could be the
/// doing of a peer that seals another code than its numbers.
const MOST_WRONG_SUMS: u32 = 3;

enum Phase {
    Idle,
    Greeted(Box<Greeted>),
    Entered(Box<Entered>),
    Sealed(Box<Round>),
    Answered { survivors: Vec<u8>, answer: Vec<u8>, closing: Box<Closing> },
}

struct Greeted {
    greeting: Greeting,
    secret: Secret,
    hello: Hello,
    /// The hellos that it drew a secret for, the secret, and what it answered.
    dealt: Option<(Vec<u8>, Seed, Vec<u8>)>,
}

/// A round that a site takes part in.
struct Session {
    number: u64,
    party: Party,
    scheme: Box<dyn Scheme>,
    context: Digest,
    /// Its place in the roster.
    index: u32,
    secret: Secret,
    group: Option<Seed>,
}

struct Entered {
    session: Session,
    schema: Schema,
}

/// A round whose update has been sealed.
struct Round {
    session: Session,
    /// What it dealt to itself.
    own: Zeroizing<Vec<u8>>,
    statement: Statement,
    /// Numbers of the sum.
    elements: u64,
}

fn scheme_failed(error: impl std::fmt::Display) -> Reason {
    Reason::new(Code::FilterFailed, error.to_string())
}

impl Site {
    /// A site in a run of a job; what it must not forget is kept in the store.
    ///
    /// # Errors
    /// When its credential is not good, or this build does not have the scheme.
    pub fn new(
        run: String,
        terms: Terms,
        identity: Identity,
        vouching: Arc<dyn Vouching>,
        store: Store,
    ) -> Result<Self, Reason> {
        scheme::is_built(terms.scheme)?;
        let own = vouching.certified(&identity.credential)?;
        let state = State::new(store, run.clone());
        Ok(Self { run, terms, identity, own, vouching, state, phase: Phase::Idle, wrong_sums: 0 })
    }

    fn hello(&mut self, greeting: Greeting) -> Result<Vec<u8>, Reason> {
        if let Phase::Greeted(greeted) = &self.phase
            && greeted.greeting == greeting
        {
            return Ok(greeted.hello.encode());
        }
        if greeting.run != self.run {
            let detail = "the server greets for another run of the job";
            return Err(Reason::new(Code::ContextMismatch, detail));
        }
        if self.wrong_sums >= MOST_WRONG_SUMS {
            let detail = format!("{MOST_WRONG_SUMS} sums in a row were not of what was sealed");
            return Err(Reason::new(Code::MacFailed, detail));
        }
        self.state.may_enter(greeting.session, self.terms.sessions)?;
        let secret = Secret::from_os().map_err(scheme_failed)?;
        let Identity { credential, signer } = &self.identity;
        let hello = Hello::new(&greeting, secret.public(), &self.terms, credential.clone(), signer);
        let bytes = hello.encode();
        self.phase = Phase::Greeted(Box::new(Greeted { greeting, secret, hello, dealt: None }));
        Ok(bytes)
    }

    /// Draws the secret of a session and seals it to the others, once.
    fn deal(&mut self, invitation: &[u8]) -> Result<Vec<u8>, Reason> {
        let roster = self.state.roster()?;
        let Phase::Greeted(greeted) = &mut self.phase else {
            let detail = "a secret is asked for, and this site has not said hello";
            return Err(Reason::new(Code::ContextMismatch, detail));
        };
        if let Some((known, _, answer)) = &greeted.dealt {
            let again = known == invitation;
            let detail = "a secret was drawn for other hellos of this session";
            return again
                .then(|| answer.clone())
                .ok_or_else(|| Reason::new(Code::ContextMismatch, detail));
        }
        let (greeting, party) = Party::new(invitation, roster.as_ref(), &*self.vouching)?;
        let index = greeted.own_place(&greeting, &party, &self.own)?;
        party.allowed_by(&self.terms, &self.own)?;
        let group = Seed::from_os().map_err(scheme_failed)?;
        let signer = &self.identity.signer;
        let answer = Group::deal(&party, index, &greeted.secret, &group, signer)?.encode();
        greeted.dealt = Some((invitation.to_vec(), group, answer.clone()));
        Ok(answer)
    }

    fn answer(&mut self, frame: &[u8]) -> Result<Reply, Reason> {
        if let Phase::Answered { survivors, answer, .. } = &self.phase
            && survivors == frame
        {
            return Ok(Reply { bytes: answer.clone(), note: None });
        }
        let Phase::Sealed(round) = &self.phase else {
            return Err(match self.phase {
                Phase::Answered { .. } => {
                    let detail = "another sum of this round was opened already";
                    Reason::new(Code::AlreadyAnswered, detail)
                }
                _ => {
                    let detail = "this site has sealed nothing that could be opened";
                    Reason::new(Code::NotInSurvivors, detail)
                }
            });
        };
        let mut reader = Reader::new(frame);
        reader.u8("frame").map_err(malformed)?;
        let survivors = Survivors::decode(reader)?;
        let digest = survivors.digest();
        let Session { context, index, .. } = round.session;
        let signer = &self.identity.signer;
        let said = match round.help(&survivors, &self.terms, &self.own)? {
            Ok(help) => Said::Help(help),
            Err(dealer) => {
                let name = round.session.party.member(dealer).map(|member| &member.site.name);
                let name = name.map_or("?", String::as_str);
                let detail = format!("what `{name}` dealt to this site does not open");
                let said = Said::Complaint(dealer);
                let bytes = Answer::new(context, index, digest, said, signer).encode();
                let complaint = Reason::new(Code::BadShare, detail);
                return Ok(Reply { bytes, note: Some(Note::Complaint(complaint)) });
            }
        };
        let members = survivors.members();
        self.state.answer(round.session.number, &digest, &members, self.terms.stable)?;
        let bytes = Answer::new(context, index, digest, said, signer).encode();
        let Phase::Sealed(round) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return Err(scheme_failed("the phase changed meanwhile"));
        };
        let elements = round.elements;
        let closing = Closing::new(round.session, digest, survivors.places(), elements);
        let (survivors, answer) = (frame.to_vec(), bytes.clone());
        self.phase = Phase::Answered { survivors, answer, closing: Box::new(closing) };
        Ok(Reply { bytes, note: None })
    }

    /// What the server opened, or wants opened.
    fn close(&mut self, frame: &[u8]) -> Result<Reply, Reason> {
        let Phase::Answered { closing, .. } = &mut self.phase else {
            let detail = "this site has answered for no sum";
            return Err(Reason::new(Code::NotInSurvivors, detail));
        };
        let reply = closing.frame(frame);
        match &reply {
            Ok(Reply { note: Some(Note::Verified), .. }) => self.wrong_sums = 0,
            Err(Reason { code: Code::MacFailed, .. }) => self.wrong_sums += 1,
            // An honest peer's signature is proof.
            Err(Reason { code: Code::Equivocation, .. }) => self.state.distrust()?,
            _ => {}
        }
        reply
    }
}

impl Greeted {
    /// This site's place in the roster, if the hellos are those of its session and its own is among them.
    fn own_place(
        &self,
        greeting: &Greeting,
        party: &Party,
        own: &Certified,
    ) -> Result<u32, Reason> {
        let mismatch = |detail: &str| Err(Reason::new(Code::ContextMismatch, detail));
        if *greeting != self.greeting {
            return mismatch("the task's session is not the one that this site was greeted for");
        }
        let own = party.members.iter().find(|member| member.site.signing == own.signing);
        match own.filter(|member| member.hello == self.hello) {
            Some(member) => Ok(member.index),
            None => mismatch("the session does not hold what this site said"),
        }
    }

    /// The secret of the session.
    fn group(&self, party: &Party, index: u32) -> Result<Option<Seed>, Reason> {
        match (party.needs_group(), &party.group) {
            (false, None) => Ok(None),
            (true, Some(group)) => match &self.dealt {
                Some((_, seed, answer)) if *answer == group.encode() => {
                    group.dealer(party)?;
                    Ok(Some(Seed::from_bytes(*seed.reveal())))
                }
                _ => group.open(party, index, &self.secret).map(Some),
            },
            _ => {
                let detail = "the session brings a secret that it needs not, or none that it needs";
                Err(Reason::new(Code::ContextMismatch, detail))
            }
        }
    }
}

/// What the keys of one upload's messages depend on. Should a copy of this process seal another update in
/// the same session, its messages are sealed under other keys.
fn salted(context: &Digest, salt: &[u8; 32]) -> Digest {
    Transcript::new("privet/he/salted/v1").bytes(&context.0).bytes(salt).finish()
}

impl Session {
    /// Seals what is dealt, one message to each other member.
    fn seal_dealt(
        &self,
        salt: &[u8; 32],
        dealt: &[Zeroizing<Vec<u8>>],
    ) -> Result<Vec<(u32, Vec<u8>)>, Reason> {
        if self.scheme.dealt_bytes() == 0 {
            return Ok(Vec::new());
        }
        let context = salted(&self.context, salt);
        let members = self.party.members.iter().filter(|member| member.index != self.index);
        let seal = |member: &Member| {
            let (from, to) = (self.index, member.index);
            let route = Route { context: &context, purpose: SHARE, from, to };
            let key = self.secret.key(&member.hello.key, route).map_err(scheme_failed)?;
            let message =
                dealt.get(to as usize).ok_or_else(|| scheme_failed("a share is missing"))?;
            Ok((to, key.seal(message)))
        };
        members.map(seal).collect()
    }
}

impl SiteSeal for Site {
    fn frame(&mut self, frame: &[u8]) -> Result<Reply, Reason> {
        let mut reader = Reader::new(frame);
        let said = |bytes| Reply { bytes, note: None };
        match reader.u8("frame").map_err(malformed)? {
            GREETING => self.hello(Greeting::decode(reader)?).map(said),
            DEAL => self.deal(frame.get(1..).unwrap_or_default()).map(said),
            SURVIVORS => self.answer(frame),
            AGREED | OPENED | TO_OPEN | READ => self.close(frame),
            _ => Err(Reason::new(Code::Malformed, "a frame of another kind")),
        }
    }

    fn begin(&mut self, task: [u8; 32], session: &[u8], schema: &Schema) -> Result<(), Reason> {
        let greeted = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Greeted(greeted) => greeted,
            other => {
                // What was sealed can still be opened.
                self.phase = other;
                let detail = "the task brings a session, and this site has not said hello";
                return Err(Reason::new(Code::ContextMismatch, detail));
            }
        };
        let roster = self.state.roster()?;
        let (greeting, party) = Party::new(session, roster.as_ref(), &*self.vouching)?;
        let index = greeted.own_place(&greeting, &party, &self.own)?;
        party.allowed_by(&self.terms, &self.own)?;
        let group = greeted.group(&party, index)?;
        let scheme = scheme::of(&party, values(schema)?)?;
        let context = party.context(&greeting, &task, &*scheme);
        let (number, secret) = (greeting.session, greeted.secret);
        let session = Session { number, party, scheme, context, index, secret, group };
        let schema = schema.clone();
        self.phase = Phase::Entered(Box::new(Entered { session, schema }));
        Ok(())
    }

    fn seal(&mut self, update: Lattice, weight: f64) -> Result<Sealed, Reason> {
        let Phase::Entered(entered) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            let detail = "no round was begun that could be sealed for";
            return Err(Reason::new(Code::ContextMismatch, detail));
        };
        let Entered { session, schema } = *entered;
        if update.step() != session.party.common.step || update.schema(Dtype::I64) != wide(&schema)
        {
            let detail = "the update has other tensors or another step than the round";
            return Err(Reason::new(Code::ShapeMismatch, detail));
        }
        let weighted = session.party.common.weighted;
        let mut values = Zeroizing::new(update.into_values());
        if weighted {
            weigh(&mut values, weight as u64, session.party.weight_bits);
        }
        let mut hash = Stream::default();
        hash.update(bytemuck::cast_slice(&values));
        let (context, party) = (&session.context, &session.party);
        let entering = Entering {
            session: session.number,
            most: self.terms.sessions,
            roster: &party.roster,
            weight_bits: party.weight_bits,
        };
        let seed = self.state.enter(&entering, context, &hash.finish())?;
        let sealed = session.scheme.seal(&Sealing {
            context,
            seed: &seed,
            group: session.group.as_ref(),
            index: session.index,
            values: &values,
            weight: weight as u64,
        })?;
        let salt = *seed.derive("privet/he/salt/v1", 0).reveal();
        let messages = session.seal_dealt(&salt, &sealed.dealt)?;
        let mut hash = Stream::default();
        hash.update(bytemuck::cast_slice(&sealed.words));
        let body = hash.finish();
        let root = tree::root(&Dealt::leaves(session.index, &messages));
        let signer = &self.identity.signer;
        let statement = Statement::new(*context, session.index, body, salt, root, signer);
        let dealt = Dealt { statement: statement.clone(), messages };
        let upload = Sealed {
            step: party.common.step,
            schema,
            statement: dealt.encode(),
            body: sealed.words,
            digest: body.0,
        };
        let mut dealt = sealed.dealt;
        let own = match dealt.is_empty() {
            true => Zeroizing::default(),
            false => dealt.swap_remove(session.index as usize),
        };
        let elements = values.len() as u64;
        self.phase = Phase::Sealed(Box::new(Round { session, own, statement, elements }));
        Ok(upload)
    }
}

#[cfg(test)]
impl Site {
    /// All that this site can open of others' messages, as one that colludes would.
    pub(crate) fn loot(
        &self,
        uploads: &std::collections::BTreeMap<u32, (Dealt, Vec<u32>)>,
    ) -> std::collections::BTreeMap<u32, Zeroizing<Vec<u8>>> {
        let Phase::Sealed(round) = &self.phase else { panic!("a sealed round") };
        let Session { context, index: to, secret, party, .. } = &round.session;
        let share = |(&from, (dealt, _)): (&u32, &(Dealt, Vec<u32>))| {
            let (_, sealed) = dealt.messages.iter().find(|(receiver, _)| receiver == to)?;
            let context = salted(context, &dealt.statement.salt);
            let route = Route { context: &context, purpose: SHARE, from, to: *to };
            let key = secret.key(&party.member(from)?.hello.key, route).ok()?;
            Some((from, key.open(sealed).ok()?))
        };
        uploads.iter().filter_map(share).collect()
    }
}
