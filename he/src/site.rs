//! A site's side.
//!
//! ```text
//!   Idle ──greeting──▶ Greeted ──begin(session)──▶ Entered ──seal──▶ Sealed ──survivors──▶ Answered
//! ```
//! The secret of the round is in memory alone and gone with its phase: a site that is restarted is out
//! of the open round, and whoever takes its disk later opens nothing. What a phase holds is moved to the
//! next, so that a key is used once.

use std::sync::Arc;

use privet_core::message::Sealed;
use privet_core::seal::{Certified, SiteSeal, Terms, Vouching};
use privet_core::sensitivity::Lattice;
use privet_core::tensor::{Dtype, Schema};
use privet_core::{Code, Reason};
use privet_crypto::pairwise::{Route, Secret};
use privet_crypto::transcript::Stream;
use privet_crypto::{Digest, Reader, Seed, SigningKey, Transcript, Words};
use privet_store::Store;
use zeroize::Zeroizing;

use crate::coding::Layout;
use crate::protocol::hello::{Greeting, Hello};
use crate::protocol::party::{Party, values};
use crate::protocol::survivors::{self, Answer, Survivors, is_dealt};
use crate::protocol::tree;
use crate::protocol::upload::{Dealt, Statement};
use crate::protocol::{GREETING, SURVIVORS, malformed};
use crate::rlwe::{Key, Ring, Sealer};
use crate::shamir::{Share, deal};
use crate::state::State;

/// What a sealed share is for.
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
}

enum Phase {
    Idle,
    Greeted { greeting: Greeting, secret: Secret, hello: Hello },
    Entered(Box<Entered>),
    Sealed(Box<Round>),
    Answered { survivors: Vec<u8>, answer: Vec<u8> },
}

struct Entered {
    greeting: Greeting,
    party: Party,
    layout: Layout,
    context: Digest,
    schema: Schema,
    index: u32,
    secret: Secret,
}

/// A round whose update has been sealed.
struct Round {
    session: u64,
    party: Party,
    layout: Layout,
    context: Digest,
    index: u32,
    secret: Secret,
    /// Its own share of its own key.
    share: Share,
    statement: Statement,
}

fn scheme_failed(error: impl std::fmt::Display) -> Reason {
    Reason::new(Code::FilterFailed, error.to_string())
}

impl Site {
    /// A site in a run of a job; what it must not forget is kept in the store.
    ///
    /// # Errors
    /// When its credential is not good.
    pub fn new(
        run: String,
        terms: Terms,
        identity: Identity,
        vouching: Arc<dyn Vouching>,
        store: Store,
    ) -> Result<Self, Reason> {
        let own = vouching.certified(&identity.credential)?;
        let state = State::new(store, run.clone());
        Ok(Self { run, terms, identity, own, vouching, state, phase: Phase::Idle })
    }

    fn hello(&mut self, greeting: Greeting) -> Result<Vec<u8>, Reason> {
        if let Phase::Greeted { greeting: known, hello, .. } = &self.phase
            && *known == greeting
        {
            return Ok(hello.encode());
        }
        if greeting.run != self.run {
            let detail = "the server greets for another run of the job";
            return Err(Reason::new(Code::ContextMismatch, detail));
        }
        self.state.may_enter(greeting.session)?;
        let secret = Secret::from_os().map_err(scheme_failed)?;
        let Identity { credential, signer } = &self.identity;
        let hello = Hello::new(&greeting, secret.public(), &self.terms, credential.clone(), signer);
        let bytes = hello.encode();
        self.phase = Phase::Greeted { greeting, secret, hello };
        Ok(bytes)
    }

    fn answer(&mut self, frame: &[u8]) -> Result<Vec<u8>, Reason> {
        if let Phase::Answered { survivors, answer } = &self.phase
            && survivors == frame
        {
            return Ok(answer.clone());
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
        let digest = survivors::digest(&survivors.statements);
        let share = round.sum(&survivors, &self.terms, &self.own)?;
        self.state.answer(round.session, &digest)?;
        let Round { context, index, .. } = **round;
        let share = share.encode().to_vec();
        let answer = Answer::new(context, index, digest, share, &self.identity.signer).encode();
        self.phase = Phase::Answered { survivors: frame.to_vec(), answer: answer.clone() };
        Ok(answer)
    }
}

impl Round {
    /// The sum of the shares that this site holds of the survivors' keys.
    fn sum(&self, survivors: &Survivors, own: &Terms, site: &Certified) -> Result<Share, Reason> {
        let refuse = |code, detail: &str| Err(Reason::new(code, detail));
        let statements = &survivors.statements;
        if (statements.len() as u32) < self.party.threshold {
            return refuse(Code::TooFewHonest, "fewer sites are in the sum than the threshold");
        }
        if !statements.windows(2).all(|pair| pair[0].index < pair[1].index) {
            return refuse(Code::Malformed, "the survivors are not in order");
        }
        if !statements.contains(&self.statement) {
            return refuse(Code::NotInSurvivors, "this site's update is not in the sum");
        }
        let mut members = Vec::with_capacity(statements.len());
        for statement in statements {
            if statement.context != self.context {
                return refuse(Code::ContextMismatch, "a survivor sealed for another round");
            }
            let Some(member) = self.party.member(statement.index) else {
                return refuse(Code::RosterChanged, "a survivor is not of this round");
            };
            if !statement.is_of(&member.site.signing) {
                return refuse(Code::BadSignature, "a survivor's statement is not signed by it");
            }
            members.push(member);
        }
        self.party.enough(own, site, members.iter().copied())?;
        let mut sum = Share::decode(&self.share.encode(), self.share.len()).map_err(malformed)?;
        for ((statement, member), share) in statements.iter().zip(members).zip(&survivors.shares) {
            if statement.index == self.index {
                continue;
            }
            let bad = || {
                let detail = format!("the share that `{}` dealt does not open", member.site.name);
                Reason::new(Code::BadShare, detail)
            };
            let delivered = share.as_ref().ok_or_else(bad)?;
            let receivers = receivers(&self.party, statement.index);
            if !is_dealt(statement, self.index, &receivers, delivered) {
                return Err(bad());
            }
            let context = salted(&self.context, &statement.salt);
            let (from, to) = (statement.index, self.index);
            let route = Route { context: &context, purpose: SHARE, from, to };
            let key = self.secret.key(&member.hello.key, route).map_err(|_| bad())?;
            let opened = key.open(&delivered.sealed).map_err(|_| bad())?;
            let degree = self.layout.encoding().set().degree();
            let share = Share::decode(&opened, degree).map_err(|_| bad())?;
            sum.add(&share).map_err(|_| bad())?;
        }
        Ok(sum)
    }
}

/// The members that a dealer deals to, besides itself.
pub(crate) fn receivers(party: &Party, dealer: u32) -> Vec<u32> {
    let others = party.members.iter().map(|member| member.index);
    others.filter(|&index| index != dealer).collect()
}

/// All integers of an update in the order of the tensors' names.
fn flat(update: &Lattice) -> Zeroizing<Vec<i64>> {
    let mut values = Vec::with_capacity(update.elements() as usize);
    update.tensors().values().for_each(|tensor| values.extend_from_slice(tensor.values()));
    Zeroizing::new(values)
}

/// What the keys of one upload's shares depend on. Should a copy of this process seal another update in
/// the same session, its shares are sealed under other keys.
fn salted(context: &Digest, salt: &[u8; 32]) -> Digest {
    Transcript::new("privet/he/salted/v1").bytes(&context.0).bytes(salt).finish()
}

/// Seals a key's shares, one to each other member.
fn seal_shares(
    entered: &Entered,
    salt: &[u8; 32],
    shares: &[Share],
) -> Result<Vec<(u32, Vec<u8>)>, Reason> {
    let from = entered.index;
    let context = salted(&entered.context, salt);
    let members = entered.party.members.iter().filter(|member| member.index != from);
    let seal = |member: &crate::protocol::party::Member| {
        let to = member.index;
        let route = Route { context: &context, purpose: SHARE, from, to };
        let key = entered.secret.key(&member.hello.key, route).map_err(scheme_failed)?;
        let share = shares.get(to as usize).ok_or_else(|| scheme_failed("a share is missing"))?;
        Ok((to, key.seal(&share.encode())))
    };
    members.map(seal).collect()
}

impl SiteSeal for Site {
    fn frame(&mut self, frame: &[u8]) -> Result<Vec<u8>, Reason> {
        let mut reader = Reader::new(frame);
        match reader.u8("frame").map_err(malformed)? {
            GREETING => self.hello(Greeting::decode(reader)?),
            SURVIVORS => self.answer(frame),
            _ => Err(Reason::new(Code::Malformed, "a frame of another kind")),
        }
    }

    fn begin(&mut self, task: [u8; 32], session: &[u8], schema: &Schema) -> Result<(), Reason> {
        let mismatch = |detail: &str| Err(Reason::new(Code::ContextMismatch, detail));
        let (greeting, secret, hello) = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Greeted { greeting, secret, hello } => (greeting, secret, hello),
            other => {
                // What was sealed can still be opened.
                self.phase = other;
                return mismatch("the task brings a session, and this site has not said hello");
            }
        };
        let roster = self.state.roster()?;
        let (greeted, party) = Party::new(session, roster.as_ref(), &*self.vouching)?;
        if greeted != greeting {
            return mismatch("the task's session is not the one that this site was greeted for");
        }
        let own = party.members.iter().find(|member| member.site.signing == self.own.signing);
        let Some(member) = own.filter(|member| member.hello == hello) else {
            return mismatch("the session does not hold what this site said");
        };
        let index = member.index;
        party.allowed_by(&self.terms, &self.own)?;
        let layout = party.layout(values(schema)?)?;
        let context = party.context(&greeting, &task, &layout);
        let schema = schema.clone();
        let entered = Entered { greeting, party, layout, context, schema, index, secret };
        self.phase = Phase::Entered(Box::new(entered));
        Ok(())
    }

    fn seal(&mut self, update: &Lattice, weight: f64) -> Result<Sealed, Reason> {
        let Phase::Entered(entered) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            let detail = "no round was begun that could be sealed for";
            return Err(Reason::new(Code::ContextMismatch, detail));
        };
        let Entered { party, layout, context, schema, .. } = &*entered;
        if update.step() != party.step || update.schema(Dtype::I64) != wide(schema) {
            let detail = "the update has other tensors or another step than the round";
            return Err(Reason::new(Code::ShapeMismatch, detail));
        }
        let values = flat(update);
        let mut hash = Stream::default();
        hash.update(bytemuck::cast_slice(&values));
        let session = entered.greeting.session;
        let seed = self.state.enter(session, &party.roster, context, &hash.finish())?;

        let set = layout.encoding().set();
        let ring = Ring::new(set);
        let key = Key::sample(&ring, &mut words(&seed, "privet/he/key/v1"));
        let (t, n) = (party.threshold as usize, party.roster.len() as usize);
        let mut coins = words(&seed, "privet/he/coefficients/v1");
        let mut shares = deal(key.coefficients(), t, n, &mut coins).map_err(scheme_failed)?;
        let salt = *seed.derive("privet/he/salt/v1", 0).reveal();
        let sealed_shares = seal_shares(&entered, &salt, &shares)?;
        let errors = seed.derive("privet/he/errors/v1", 0);
        let body = seal_values(&ring, layout, context, key, errors, &values, weight)?;

        let mut hash = Stream::default();
        hash.update(bytemuck::cast_slice(&body));
        let body_digest = hash.finish();
        let root = tree::root(&Dealt::leaves(entered.index, &sealed_shares));
        let signer = &self.identity.signer;
        let statement = Statement::new(*context, entered.index, body_digest, salt, root, signer);
        let dealt = Dealt { statement: statement.clone(), shares: sealed_shares };
        let sealed = Sealed {
            step: party.step,
            schema: schema.clone(),
            statement: dealt.encode(),
            body,
            digest: body_digest.0,
        };
        let share = shares.swap_remove(entered.index as usize);
        let Entered { party, layout, context, index, secret, .. } = *entered;
        let round = Round { session, party, layout, context, index, secret, share, statement };
        self.phase = Phase::Sealed(Box::new(round));
        Ok(sealed)
    }
}

/// The names and shapes of a schema as integers have them.
pub(crate) fn wide(schema: &Schema) -> Schema {
    let slots = schema.0.iter();
    let wide = |slot: &privet_core::tensor::Slot| privet_core::tensor::Slot {
        dtype: Dtype::I64,
        ..slot.clone()
    };
    slots.map(|(name, slot)| (name.clone(), wide(slot))).collect()
}

fn words(seed: &Seed, purpose: &str) -> Words {
    Words::new(&seed.derive(purpose, 0))
}

/// Seals all values, block by block; little-endian words on the wire.
fn seal_values(
    ring: &Ring,
    layout: &Layout,
    context: &Digest,
    key: Key,
    errors: Seed,
    values: &[i64],
    weight: f64,
) -> Result<Vec<u32>, Reason> {
    let set = ring.set();
    let header = layout.header(weight as u64).map_err(scheme_failed)?;
    let mut sealer = Sealer::new(ring, &context.0, key, errors);
    let mut messages = Zeroizing::new(vec![0i64; set.degree()]);
    let mut body = vec![0u32; layout.blocks() as usize * set.block()];
    for (block, out) in (0..).zip(body.chunks_exact_mut(set.block())) {
        let part = values.get(layout.range(block)).unwrap_or_default();
        layout.encode(block, &header, part, &mut messages).map_err(scheme_failed)?;
        sealer.seal(&messages, out).map_err(scheme_failed)?;
    }
    if cfg!(target_endian = "big") {
        body.iter_mut().for_each(|word| *word = word.to_le());
    }
    Ok(body)
}

#[cfg(test)]
impl Site {
    /// All shares that this site can open of others' uploads, as one that colludes would.
    pub(crate) fn loot(
        &self,
        uploads: &std::collections::BTreeMap<u32, (Dealt, Vec<u32>)>,
    ) -> std::collections::BTreeMap<u32, Share> {
        let Phase::Sealed(round) = &self.phase else { panic!("a sealed round") };
        let degree = round.layout.encoding().set().degree();
        let share = |(&from, (dealt, _)): (&u32, &(Dealt, Vec<u32>))| {
            let (_, sealed) = dealt.shares.iter().find(|(to, _)| *to == round.index)?;
            let context = salted(&round.context, &dealt.statement.salt);
            let to = round.index;
            let route = Route { context: &context, purpose: SHARE, from, to };
            let key = round.secret.key(&round.party.member(from)?.hello.key, route).ok()?;
            Some((from, Share::decode(&key.open(sealed).ok()?, degree).ok()?))
        };
        uploads.iter().filter_map(share).collect()
    }
}
