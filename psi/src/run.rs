//! A run: sites greet each other, agree on a plan, compute, ask their guards, and show.

use privet_core::channel::Link;
use privet_core::intersect::{Bounds, Guard, MAX_SITES, Protocol, SIZE, SIZE_BOUND, TASK};
use privet_core::sensitivity::{Lattice, LatticeTensor, Prover};
use privet_core::tensor::Shape;
use privet_core::{Code, Content, DataKind, Message, Reason};
use subtle::ConstantTimeEq;

use crate::flags::Flags;
use crate::pipe::{Pipe, cheated, malformed};
use crate::records::{Records, Set};
use crate::scratch::Scratch;
use crate::session::{Random, Session};
use crate::terms::{Hello, Plan, Terms};
use crate::{star, two};

/// What a site learnt.
#[derive(Clone, PartialEq)]
pub struct Outcome {
    /// [`Protocol::Ecdh`] or [`Protocol::Vole`].
    pub protocol: Protocol,
    /// How many items all sites have, where this site is told.
    pub size: Option<u64>,
    /// Standard deviation of the noise on the size; 0 where it is exact.
    pub noise: f64,
    /// Of each of its items whether all sites have it, where this site is told.
    pub matching: Option<Flags>,
}

/// This site in a run.
pub struct Site<'a> {
    /// Its place among the sites.
    pub me: usize,
    /// Its items.
    pub items: &'a dyn Set,
    /// Where lists go that are too large for memory.
    pub scratch: Scratch,
    /// What it says its set's size is: at least the number of its items, the rest being dummies.
    pub declared: u64,
    /// To every other site, by place; none at its own.
    pub links: Vec<Option<Box<dyn Link>>>,
    /// What it allows.
    pub guard: &'a mut dyn Guard,
    /// Leave to say how far one item moves a size; without it no size gets noise.
    pub prover: Option<Prover>,
}

/// What a site is shown: how many items are common, and which of its own are.
pub(crate) type Shown = (Option<u64>, Option<Flags>);

/// What the parts of a run share.
pub(crate) struct Common<'a> {
    pub(crate) terms: &'a Terms,
    pub(crate) plan: Plan,
    pub(crate) me: usize,
    /// Of this site's items and dummies.
    pub(crate) records: Records,
    pub(crate) scratch: Scratch,
    prover: Option<Prover>,
    /// Of everything that all sites have said.
    pub(crate) session: Session,
    /// Sizes that this site allows; at the site that counts, that all of them do.
    pub(crate) bounds: Bounds,
}

/// Said instead of a size that is not told.
const NOT_TOLD: u64 = u64::MAX;

/// Nobody is told more than that some site does not allow the size, not even that site.
fn size_gate() -> Reason {
    let detail = "fewer or more items are common than a site of the run allows";
    Reason::new(Code::SizeGate, detail)
}

impl Common<'_> {
    /// The size with the noise of this site, as far as there can be such a size.
    fn noised(&self, guard: &mut dyn Guard, size: u64) -> Result<u64, Reason> {
        let lost =
            || Reason::new(Code::WrongContent, "the size did not come back from its filters");
        let one = Shape::new(vec![1]).ok_or_else(lost)?;
        let tensor = LatticeTensor::new(one, vec![size as i64]).ok_or_else(lost)?;
        let tensors = [(SIZE.to_owned(), tensor)].into();
        let lattice = Lattice::proven(self.prover.as_ref().ok_or_else(lost)?, tensors, SIZE_BOUND);
        let message = Message::new(TASK, DataKind::Psi, Content::Lattice(lattice));
        let Content::Lattice(lattice) = guard.noised(message)?.content else { return Err(lost()) };
        let noised = lattice.into_values().first().copied().ok_or_else(lost)?;
        Ok((noised.max(0) as u64).min(self.most_common()))
    }

    /// The most items that there can be in common.
    pub(crate) fn most_common(&self) -> u64 {
        self.plan.sizes.iter().copied().min().unwrap_or_default()
    }

    /// Tells these sites the size that this one has counted, if all sites allow it, and gives what it told.
    pub(crate) fn tell<'p, 'a: 'p>(
        &self,
        guard: &mut dyn Guard,
        size: u64,
        to: impl Iterator<Item = &'p mut Pipe<'a>>,
    ) -> Result<u64, Reason> {
        let size = if self.plan.noise > 0.0 { self.noised(guard, size)? } else { size };
        let allowed = self.bounds.allow(size);
        let told = if allowed { size } else { NOT_TOLD };
        for pipe in to {
            pipe.write(&told.to_le_bytes())?;
            pipe.flush()?;
        }
        if allowed { Ok(size) } else { Err(size_gate()) }
    }

    /// The size, from the site that counts.
    pub(crate) fn hear(&self, pipes: &mut Pipes<'_>) -> Result<u64, Reason> {
        let size = u64::from_le_bytes(pipe(pipes, self.plan.counter)?.array()?);
        match size {
            NOT_TOLD => Err(size_gate()),
            size if size <= self.most_common() && self.bounds.allow(size) => Ok(size),
            _ => Err(cheated("it tells a size that it was not to tell, or that there cannot be")),
        }
    }

    /// The session with one peer.
    pub(crate) fn with(&self, peer: usize) -> Session {
        let mut session = self.session.clone();
        let (low, high) = (self.me.min(peer) as u64, self.me.max(peer) as u64);
        session.absorb(&[low.to_le_bytes(), high.to_le_bytes()].concat());
        session
    }
}

/// Pipes to the other sites, by place.
pub(crate) type Pipes<'a> = Vec<Option<Pipe<'a>>>;

/// The pipe to another site.
pub(crate) fn pipe<'p, 'a>(
    pipes: &'p mut Pipes<'a>,
    to: usize,
) -> Result<&'p mut Pipe<'a>, Reason> {
    pipes.get_mut(to).and_then(Option::as_mut).ok_or_else(|| malformed("no link to a site"))
}

/// Says the same to every other site, and hears as much of each.
fn exchange(pipes: &mut Pipes<'_>, own: &[u8]) -> Result<Vec<Vec<u8>>, Reason> {
    for pipe in pipes.iter_mut().flatten() {
        pipe.write(own)?;
        pipe.flush()?;
    }
    let hear = |pipe: &mut Option<Pipe<'_>>| match pipe {
        Some(pipe) => pipe.bytes(own.len()),
        None => Ok(own.to_vec()),
    };
    pipes.iter_mut().map(hear).collect()
}

/// Tells the others whether this site goes on, and from which state; goes on only if all do from the same.
fn together(
    pipes: &mut Pipes<'_>,
    state: &[u8; 32],
    verdict: Result<Bounds, Reason>,
) -> Result<Bounds, Reason> {
    let own = [&[u8::from(verdict.is_ok())], &state[..]].concat();
    let said = exchange(pipes, &own)?;
    let bounds = verdict?;
    if said.iter().any(|said| said.first() != Some(&1)) {
        return Err(Reason::new(Code::Withheld, "another site's guard refused"));
    }
    match said.iter().all(|said| *said == own) {
        true => Ok(bounds),
        false => Err(cheated("it says other things to other sites, or computes other sizes")),
    }
}

/// Has everybody tell the site that counts which sizes it allows.
fn bounds(plan: &Plan, me: usize, pipes: &mut Pipes<'_>, own: Bounds) -> Result<Bounds, Reason> {
    if !plan.counts {
        return Ok(own);
    }
    let counter = plan.counter;
    if me != counter {
        let link = pipe(pipes, counter)?;
        link.write(&own.least.to_le_bytes())?;
        link.write(&own.most.to_le_bytes())?;
        link.flush()?;
        return Ok(own);
    }
    let mut all = own;
    for pipe in pipes.iter_mut().flatten() {
        all.least = all.least.max(u64::from_le_bytes(pipe.array()?));
        all.most = all.most.min(u64::from_le_bytes(pipe.array()?));
    }
    Ok(all)
}

/// Computes what all sites have in common.
///
/// # Errors
/// When a guard refuses, a peer is gone or does not follow the protocol, or sites want different things. Nobody
/// has then learnt more than that, but for the site that counts, whose process has seen the size.
pub fn intersect(terms: &Terms, site: Site<'_>) -> Result<Outcome, Reason> {
    let Site { me, items, declared, mut links, guard, scratch, prover } = site;
    let sites = links.len();
    let whole = links.iter().enumerate().all(|(at, link)| link.is_none() == (at == me));
    if !(2..=MAX_SITES).contains(&sites) || !whole {
        return Err(Reason::new(
            Code::TooFewSites,
            "a run has two sites or more, linked to each other",
        ));
    }
    let size = declared.max(items.len()).max(1);
    let mut random = Random::from_os()?;
    let mut pipes: Pipes<'_> =
        links.iter_mut().map(|link| link.as_mut().map(|link| Pipe::new(&mut **link))).collect();

    let nonce = random.bytes::<32>();
    let opening = Session::new(&terms.about);
    let commit = |nonce: &[u8], site: usize| {
        let digest = opening.transcript("privet/psi/nonce/v1").number(site as u64).bytes(nonce);
        digest.finish().0
    };
    let hello = Hello::new(terms, sites, size, guard, commit(&nonce, me));
    let hellos = exchange(&mut pipes, &hello.encode())?;
    let hellos: Vec<Hello> =
        hellos.iter().map(|bytes| Hello::decode(bytes)).collect::<Result<_, _>>()?;
    hellos.iter().try_for_each(|other| hello.fits(other))?;
    let nonces = exchange(&mut pipes, &nonce)?;
    let mut session = opening.clone();
    for (at, (hello, nonce)) in hellos.iter().zip(&nonces).enumerate() {
        // In builds for fuzzing an echo passes, so that what comes after is reached.
        if !cfg!(fuzzing) && !bool::from(hello.commitment.ct_eq(&commit(nonce, at))) {
            return Err(cheated("it opened another nonce than it had committed to"));
        }
        session.absorb(&hello.encode());
        session.absorb(nonce);
    }

    let plan = Plan::new(terms, &hellos)?;
    let mut peers = plan.sizes.clone();
    peers.remove(me);
    let verdict = guard.sizes(items.len(), &peers);
    let state = plan.state(terms, &session);
    let own = together(&mut pipes, &state, verdict)?;
    let bounds = bounds(&plan, me, &mut pipes, own)?;
    let (protocol, noise) = (plan.protocol, plan.noise);
    if guard.noise() > 0.0 && me != plan.counter {
        guard.pays()?;
    }
    let records = Records::new(&session, items, size, &mut random, &scratch)?;
    let common = Common { terms, plan, me, records, scratch, prover, session, bounds };
    let (size, matching) = match sites {
        2 => two::run(&common, guard, &mut pipes, &mut random)?,
        _ => star::run(&common, guard, &mut pipes, &mut random)?,
    };
    pipes.into_iter().flatten().try_for_each(Pipe::finish)?;
    Ok(Outcome { protocol, size, noise, matching })
}

#[cfg(test)]
mod tests;
