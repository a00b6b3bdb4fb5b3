//! A run: sites greet each other, agree on a plan, compute, ask their guards, and show.

use privet_core::channel::Link;
use privet_core::intersect::{Bounds, Guard, MAX_SITES, Protocol};
use privet_core::{Code, Reason};
use subtle::ConstantTimeEq;

use crate::flags::Flags;
use crate::pipe::{Pipe, cheated, malformed};
use crate::records::{Records, Set};
use crate::scratch::Scratch;
use crate::session::{Random, Session};
use crate::terms::{Hello, Plan, Terms};
use crate::{star, two};

/// What a site learnt.
#[derive(Clone, PartialEq, Eq)]
pub struct Outcome {
    /// [`Protocol::Ecdh`] or [`Protocol::Vole`].
    pub protocol: Protocol,
    /// How many items all sites have, where this site is told.
    pub size: Option<u64>,
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
    /// Tells these sites the size that this one has counted, if all sites allow it.
    pub(crate) fn tell<'p, 'a: 'p>(
        &self,
        size: u64,
        to: impl Iterator<Item = &'p mut Pipe<'a>>,
    ) -> Result<(), Reason> {
        let allowed = self.bounds.allow(size);
        let told = if allowed { size } else { NOT_TOLD };
        for pipe in to {
            pipe.write(&told.to_le_bytes())?;
            pipe.flush()?;
        }
        if allowed { Ok(()) } else { Err(size_gate()) }
    }

    /// The size, from the site that counts.
    pub(crate) fn hear(&self, pipes: &mut Pipes<'_>) -> Result<u64, Reason> {
        let size = u64::from_le_bytes(pipe(pipes, self.plan.counter())?.array()?);
        let most = self.plan.sizes.iter().copied().min().unwrap_or_default();
        match size {
            NOT_TOLD => Err(size_gate()),
            size if size <= most && self.bounds.allow(size) => Ok(size),
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
    let counter = plan.counter();
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
    let Site { me, items, declared, mut links, guard, scratch } = site;
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
    let hello = Hello::new(terms, sites, size, guard.counts(), commit(&nonce, me));
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
    let protocol = plan.protocol;
    let records = Records::new(&session, items, size, &mut random, &scratch)?;
    let common = Common { terms, plan, me, records, scratch, session, bounds };
    let (size, matching) = match sites {
        2 => two::run(&common, &mut pipes, &mut random)?,
        _ => star::run(&common, &mut pipes, &mut random)?,
    };
    pipes.into_iter().flatten().try_for_each(Pipe::finish)?;
    Ok(Outcome { protocol, size, matching })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use privet_crypto::Digest;
    use proptest::prelude::*;

    use super::*;
    use crate::pipe::memory;
    use crate::records::Item;
    use crate::terms::Unguarded;
    use crate::vole::params::Assurance;
    use privet_core::intersect::Reveal;

    fn terms(protocol: Protocol, reveal: Reveal) -> Terms {
        let (about, normalisation) = (Digest([1; 32]), Digest([2; 32]));
        let (malicious, assurance) = (false, Assurance::Standard);
        Terms { about, normalisation, protocol, reveal, malicious, assurance }
    }

    fn item(n: u32) -> Item {
        *blake3::hash(&n.to_le_bytes()).as_bytes()
    }

    /// Links between all sites.
    fn mesh(sites: usize) -> Vec<Vec<Option<Box<dyn Link>>>> {
        let mut links: Vec<Vec<Option<Box<dyn Link>>>> =
            (0..sites).map(|_| (0..sites).map(|_| None).collect()).collect();
        for (a, b) in (0..sites).flat_map(|b| (0..b).map(move |a| (a, b))) {
            let (one, other) = memory::pair();
            links[a][b] = Some(Box::new(one));
            links[b][a] = Some(Box::new(other));
        }
        links
    }

    type Told = Result<Outcome, Reason>;

    /// A run in memory, each site with its own terms and guard.
    fn run_with(
        sets: &[Vec<u32>],
        declared: u64,
        sites: Vec<(Terms, Box<dyn Guard + Send>)>,
    ) -> Vec<Told> {
        let links = mesh(sets.len());
        std::thread::scope(|scope| {
            let mut all = Vec::new();
            for (me, ((set, links), (terms, mut guard))) in
                sets.iter().zip(links).zip(sites).enumerate()
            {
                all.push(scope.spawn(move || {
                    let items: Vec<Item> = set.iter().map(|n| item(*n)).collect();
                    // Larger sets are in files.
                    let scratch = Scratch::new(&std::env::temp_dir(), 500);
                    let (items, guard) = (&items[..], &mut *guard);
                    let site = Site { me, items: &items, scratch, declared, links, guard };
                    intersect(&terms, site)
                }));
            }
            all.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    fn run(sets: &[Vec<u32>], terms: &Terms) -> Vec<Told> {
        let site = |_: &Vec<u32>| (terms.clone(), Box::new(Unguarded) as Box<dyn Guard + Send>);
        run_with(sets, 0, sets.iter().map(site).collect())
    }

    fn expected(sets: &[Vec<u32>]) -> BTreeSet<u32> {
        let of = |set: &Vec<u32>| -> BTreeSet<u32> { set.iter().copied().collect() };
        let all = sets.iter().map(of);
        all.reduce(|a, b| a.intersection(&b).copied().collect()).unwrap()
    }

    /// Every site learns exactly what it may.
    fn check(sets: &[Vec<u32>], terms: &Terms, outcomes: Vec<Told>) {
        let common = expected(sets);
        for (site, (set, outcome)) in sets.iter().zip(outcomes).enumerate() {
            let outcome = outcome.unwrap();
            let size = Some(common.len() as u64);
            let rows = || Some(set.iter().map(|n| common.contains(n)).collect::<Flags>());
            let (size, rows) = match (terms.reveal, site) {
                (Reveal::All, _) | (Reveal::First, 0) => (size, rows()),
                (Reveal::First, _) => (None, None),
                (Reveal::Size, _) => (size, None),
            };
            assert_eq!((outcome.size, outcome.matching), (size, rows), "site {site}");
        }
    }

    fn set(range: std::ops::Range<u32>) -> Vec<u32> {
        range.collect()
    }

    #[test]
    fn two_sites_learn_what_they_have_in_common() {
        for protocol in [Protocol::Ecdh, Protocol::Vole, Protocol::Auto] {
            for sets in [
                [set(0..1), set(0..1)],
                [set(0..1), set(1..2)],
                [vec![], set(0..3)],
                [set(0..3), vec![]],
                [vec![], vec![]],
                [set(0..600), set(300..900)],
                [set(0..600), set(0..600)],
                [set(0..2), set(0..3000)],
                [set(0..3000), set(1..2)],
            ] {
                for reveal in [Reveal::All, Reveal::First, Reveal::Size] {
                    if protocol == Protocol::Vole && reveal == Reveal::Size {
                        continue;
                    }
                    let terms = terms(protocol, reveal);
                    check(&sets, &terms, run(&sets, &terms));
                }
                if protocol != Protocol::Ecdh {
                    let terms = Terms { malicious: true, ..terms(protocol, Reveal::All) };
                    check(&sets, &terms, run(&sets, &terms));
                }
            }
        }
    }

    /// The cases that NVFlare's tree gets wrong: pairwise intersections or sites that are empty.
    #[test]
    fn many_sites_learn_what_all_have_in_common() {
        let cases: &[&[Vec<u32>]] = &[
            &[vec![1, 2, 3, 4], vec![2, 3, 9], vec![2, 3, 4, 7, 8]],
            &[vec![1, 2], vec![3, 4], vec![1, 3]],
            &[vec![1, 2], vec![1, 2, 3], vec![], vec![1, 2]],
            &[vec![], vec![1, 2], vec![2]],
            &[set(0..10), set(0..20), set(100..130), set(100..140)],
            &[set(0..300), set(0..200), set(0..100), set(50..400), set(40..90), set(0..1000)],
        ];
        for sets in cases {
            for protocol in [Protocol::Ecdh, Protocol::Vole] {
                for reveal in [Reveal::All, Reveal::First, Reveal::Size] {
                    let terms = terms(protocol, reveal);
                    check(sets, &terms, run(sets, &terms));
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn any_sets_are_intersected(
            sets in proptest::collection::vec(proptest::collection::btree_set(0u32..60, 0..40), 2..5),
            vole: bool,
            reveal in prop_oneof![Just(Reveal::All), Just(Reveal::First), Just(Reveal::Size)],
        ) {
            let sets: Vec<Vec<u32>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
            let vole = vole && !(sets.len() == 2 && reveal == Reveal::Size);
            let terms = terms(if vole { Protocol::Vole } else { Protocol::Ecdh }, reveal);
            check(&sets, &terms, run(&sets, &terms));
        }
    }

    /// Dummies hide sizes and match nothing.
    #[test]
    fn declared_sizes_are_padded() {
        for sets in [vec![set(0..5), set(3..9)], vec![vec![], set(0..3), set(0..4)]] {
            let terms = terms(Protocol::Auto, Reveal::All);
            let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
            let guard = || Recording { seen: seen.clone(), most: None, counts: false };
            let site = |_: &Vec<u32>| (terms.clone(), Box::new(guard()) as Box<dyn Guard + Send>);
            let outcomes = run_with(&sets, 100, sets.iter().map(site).collect());
            check(&sets, &terms, outcomes);
            assert!(seen.lock().unwrap().iter().all(|size| *size == 100));
        }
    }

    /// Notes what it is asked, and allows at most `most` common items.
    struct Recording {
        seen: std::sync::Arc<std::sync::Mutex<Vec<u64>>>,
        most: Option<u64>,
        counts: bool,
    }

    impl Guard for Recording {
        fn counts(&self) -> bool {
            self.counts
        }

        fn sizes(&mut self, _: u64, sizes: &[u64]) -> Result<Bounds, Reason> {
            self.seen.lock().unwrap().extend(sizes);
            Ok(Bounds { least: 0, most: self.most.unwrap_or(u64::MAX) })
        }
    }

    /// What one site does not allow nobody is told, and nobody is told whose guard it was.
    #[test]
    fn a_guard_that_refuses_stops_all_sites() {
        for sets in [
            vec![set(0..50), set(20..70)],
            vec![set(0..50), set(20..70), set(10..60)],
            vec![set(0..50), set(20..70), set(10..60), set(0..90)],
        ] {
            let size = expected(&sets).len() as u64;
            for guarded in 0..sets.len() {
                for (most, passes) in [(size, true), (size - 1, false)] {
                    let terms = terms(Protocol::Auto, Reveal::All);
                    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
                    let site = |site: usize| -> (Terms, Box<dyn Guard + Send>) {
                        match site == guarded {
                            true => {
                                let (seen, most) = (seen.clone(), Some(most));
                                (terms.clone(), Box::new(Recording { seen, most, counts: true }))
                            }
                            false => (terms.clone(), Box::new(Unguarded)),
                        }
                    };
                    let outcomes = run_with(&sets, 0, (0..sets.len()).map(site).collect());
                    if passes {
                        check(&sets, &terms, outcomes);
                        continue;
                    }
                    for outcome in outcomes {
                        assert_eq!(outcome.map(drop).unwrap_err().code, Code::SizeGate);
                    }
                }
            }
        }
    }

    #[test]
    fn sites_that_want_other_things_do_not_start() {
        let base = terms(Protocol::Auto, Reveal::All);
        let other = Terms { normalisation: Digest([7; 32]), ..base.clone() };
        let unguarded = || Box::new(Unguarded) as Box<dyn Guard + Send>;
        let sets = [set(0..3), set(0..3)];
        let outcomes = run_with(&sets, 0, vec![(base, unguarded()), (other, unguarded())]);
        let code = |outcome: Told| outcome.map(drop).unwrap_err().code;
        assert!(outcomes.into_iter().all(|o| code(o) == Code::NormalisationMismatch));
    }
    #[test]
    #[ignore = "ten minutes"]
    fn ten_thousand_disjoint_runs_find_nothing() {
        let mut random = Random::known(1);
        for i in 0..10_000u32 {
            let mut len = || 64 + random.below(193) as u32;
            let (a, b) = (len(), len());
            let start = i * 1000;
            let sets = [set(start..start + a), set(start + a..start + a + b)];
            let protocol = if i % 2 == 0 { Protocol::Ecdh } else { Protocol::Vole };
            for outcome in run(&sets, &terms(protocol, Reveal::All)) {
                assert_eq!(outcome.unwrap().size, Some(0), "run {i}");
            }
        }
    }
}
