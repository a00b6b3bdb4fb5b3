use std::collections::BTreeSet;

use privet_crypto::Digest;
use proptest::prelude::*;

use super::*;
use crate::pipe::memory;
use crate::records::Item;
use crate::terms::Unguarded;
use crate::testing::prover;
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
    run_over(mesh(sets.len()), sets, declared, sites)
}

fn run_over(
    links: Vec<Vec<Option<Box<dyn Link>>>>,
    sets: &[Vec<u32>],
    declared: u64,
    sites: Vec<(Terms, Box<dyn Guard + Send>)>,
) -> Vec<Told> {
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
                let prover = Some(prover());
                let site = Site { me, items: &items, scratch, declared, links, guard, prover };
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

    fn noise(&self) -> f64 {
        0.0
    }

    fn pays(&mut self) -> Result<(), Reason> {
        panic!("nothing is noised")
    }

    fn noised(&mut self, _: Message) -> Result<Message, Reason> {
        panic!("nothing is noised")
    }
}

type Paid = std::sync::Arc<std::sync::Mutex<Vec<&'static str>>>;

/// Adds 7 to sizes that it tells, or −1000; counts what it pays.
struct Loud {
    noise: f64,
    add: i64,
    least: u64,
    paid: Paid,
}

impl Guard for Loud {
    fn counts(&self) -> bool {
        false
    }

    fn sizes(&mut self, _: u64, _: &[u64]) -> Result<Bounds, Reason> {
        Ok(Bounds { least: self.least, most: u64::MAX })
    }

    fn noise(&self) -> f64 {
        self.noise
    }

    fn pays(&mut self) -> Result<(), Reason> {
        self.paid.lock().unwrap().push("pays");
        Ok(())
    }

    fn noised(&mut self, mut size: Message) -> Result<Message, Reason> {
        self.paid.lock().unwrap().push("noised");
        let Content::Lattice(lattice) = size.content else { panic!("no lattice") };
        assert_eq!(lattice.sensitivity().unwrap().bound(), SIZE_BOUND);
        assert_eq!((lattice.elements(), size.kind), (1, DataKind::Psi));
        let add = |values: &mut [i64]| {
            values.iter_mut().for_each(|value| *value += self.add);
            Ok::<(), Reason>(())
        };
        size.content = Content::Lattice(lattice.add_independent(&prover(), add)?);
        Ok(size)
    }
}

/// The loudest site counts and adds its noise; the others that want some pay for it; all are told the same.
#[test]
fn sizes_are_told_with_noise() {
    for sets in [
        vec![set(0..50), set(20..70)],
        vec![set(0..50), set(20..70), set(10..60)],
        vec![set(0..50), set(20..70), set(10..60), set(0..90)],
    ] {
        let size = expected(&sets).len() as u64;
        for protocol in [Protocol::Ecdh, Protocol::Vole] {
            if protocol == Protocol::Vole && sets.len() == 2 {
                continue;
            }
            for (add, least, told) in [
                (7, 0, Some(size + 7)),
                (-1000, 0, Some(0)),
                (1000, 0, Some(50)),
                (7, size + 8, None),
            ] {
                let paid: Vec<Paid> = sets.iter().map(|_| Default::default()).collect();
                let guard = |site: usize| {
                    let noise = [1.0, 3.0, 0.0, 0.0][site];
                    Loud { noise, add, least, paid: paid[site].clone() }
                };
                let site = |site: usize| {
                    let terms = terms(protocol, Reveal::Size);
                    (terms, Box::new(guard(site)) as Box<dyn Guard + Send>)
                };
                for outcome in run_with(&sets, 0, (0..sets.len()).map(site).collect()) {
                    match told {
                        Some(told) => {
                            let outcome = outcome.unwrap();
                            let told = (Some(told), None, 3.0);
                            assert_eq!((outcome.size, outcome.matching, outcome.noise), told);
                        }
                        None => assert_eq!(outcome.err().unwrap().code, Code::SizeGate),
                    }
                }
                let paid: Vec<_> = paid.iter().map(|paid| paid.lock().unwrap().clone()).collect();
                let none: Vec<&str> = Vec::new();
                assert_eq!((&paid[0], &paid[1]), (&vec!["pays"], &vec!["noised"]));
                assert!(paid[2..].iter().all(|paid| *paid == none));
            }
        }
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
/// Changes one bit of what a site sends.
struct Tamper {
    link: Box<dyn Link>,
    frame: usize,
    bit: usize,
    sent: usize,
}

impl Link for Tamper {
    fn send(&mut self, mut frame: Vec<u8>) -> Result<(), Reason> {
        if self.sent == self.frame {
            let bit = self.bit % (8 * frame.len());
            frame[bit / 8] ^= 1 << (bit % 8);
        }
        self.sent += 1;
        self.link.send(frame)
    }

    fn receive(&mut self) -> Result<Vec<u8>, Reason> {
        self.link.receive()
    }
}

/// What two sites of 60 items make of it where one changes a bit of a frame that it sends.
fn tampered(terms: &Terms, by: usize, frame: usize, bit: usize) -> Vec<Told> {
    let sets = [set(0..60), set(30..90)];
    let mut links = mesh(2);
    let link = links[by][1 - by].take().unwrap();
    links[by][1 - by] = Some(Box::new(Tamper { link, frame, bit, sent: 0 }));
    let site = |_: &Vec<u32>| (terms.clone(), Box::new(Unguarded) as Box<dyn Guard + Send>);
    run_over(links, &sets, 0, sets.iter().map(site).collect())
}

/// A site that opens another nonce than it had committed to is not gone on with: no run is like an earlier one.
#[test]
fn nonces_cannot_be_chosen_late() {
    for protocol in [Protocol::Ecdh, Protocol::Vole] {
        let outcomes = tampered(&terms(protocol, Reveal::All), 0, 1, 77);
        let [_, other] = &outcomes[..] else { panic!("two sites") };
        assert_eq!(other.as_ref().err().unwrap().code, Code::PeerCheated);
    }
}

/// Where cheating is looked for, no bit that a peer changes makes a site take an item for common that is not,
/// and the bits by which it shows items are seen to be wrong.
#[test]
fn no_changed_bit_makes_an_item_common() {
    let terms = Terms { malicious: true, ..terms(Protocol::Vole, Reveal::All) };
    let mut random = Random::known(7);
    let (mut seen, mut ran) = (0, 0);
    for by in [0, 1] {
        for frame in 0..24 {
            let bit = random.below(1 << 40) as usize;
            let outcomes = tampered(&terms, by, frame, bit);
            ran += 1;
            match &outcomes[1 - by] {
                Err(_) => seen += 1,
                Ok(outcome) => {
                    let matching = outcome.matching.as_ref().unwrap();
                    let common = |at: u64| if by == 0 { at < 30 } else { at >= 30 };
                    assert!((0..60).all(|at| !matching.get(at) || common(at)), "{by} {frame}");
                }
            }
        }
    }
    // Of some two dozen frames that there are.
    assert!(seen >= 10, "{seen} of {ran}");
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
