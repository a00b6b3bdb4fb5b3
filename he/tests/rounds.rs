//! Whole rounds in memory: real sites, a real server, a network that loses what a test tells it to.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::*;
use privet_core::Code;
use privet_core::seal::{ServerSeal, SiteSeal, Terms};
use privet_core::sensitivity::Step;
use privet_he::server::Server;
use privet_store::Store;

#[test]
fn the_sum_opens_and_is_exact() {
    let mut world = World::new(5, terms(4, 1));
    let all = [0, 1, 2, 3, 4];
    for round in 1..=3 {
        let sum = world.round(round, &all, &all, &all, values).unwrap();
        assert_eq!(opened(&sum), expected(&all));
        assert_eq!((sum.uploads, sum.weights["w"]), (5, 510.0));
    }
}

/// Every set of sites that say hello, of these every set that upload, and of these every set that
/// answer: the sum of the uploads opens if the threshold is met at each step, and nothing does else.
fn whoever_drops_out(n: usize, min_sites: u32, colluders: u32) {
    let sets = |of: &[usize]| -> Vec<Vec<usize>> {
        let pick = |mask: u32| of.iter().enumerate().filter(move |(at, _)| mask >> at & 1 == 1);
        (0..1u32 << of.len()).map(|mask| pick(mask).map(|(_, &site)| site).collect()).collect()
    };
    let all: Vec<usize> = (0..n).collect();
    let t = (min_sites as usize).max((n + colluders as usize) / 2 + 1);
    let small = |site: usize| vec![site as i64 + 1, -(site as i64)];
    let mut world = World::new(n, Terms { sessions: u32::MAX, ..terms(min_sites, colluders) });
    world.round(1, &all, &all, &all, small).unwrap();
    let mut round = 1;
    for hello in sets(&all) {
        for upload in sets(&hello) {
            for answer in sets(&upload) {
                round += 1;
                let opened_sum = world.round(round, &hello, &upload, &answer, small);
                let who = format!("{hello:?} {upload:?} {answer:?} of {n}, {t}");
                match opened_sum {
                    Ok(sum) => {
                        assert!(answer.len() >= t, "{who}");
                        let total: i64 = upload.iter().map(|&site| site as i64 + 1).sum();
                        assert_eq!(opened(&sum)[0], total);
                    }
                    Err(reason) => {
                        assert!(answer.len() < t, "{who}: {reason:?}");
                        assert_eq!(reason.code, Code::TooFewSites);
                    }
                }
            }
        }
    }
}

/// Every `min-sites` and number of colluders that so many sites can have.
fn all_terms(n: usize) -> Vec<(u32, u32)> {
    let of =
        |colluders: u32| (colluders + 2..=n as u32).map(move |min_sites| (min_sites, colluders));
    (0..n as u32).flat_map(of).collect()
}

#[test]
fn whoever_drops_out_of_four_the_sum_is_of_the_uploads_or_does_not_open() {
    for n in 2..=4 {
        all_terms(n).into_iter().for_each(|(min, colluders)| whoever_drops_out(n, min, colluders));
    }
}

#[test]
#[ignore = "half an hour"]
fn whoever_drops_out_of_seven_the_sum_is_of_the_uploads_or_does_not_open() {
    let all = (5..=7).flat_map(|n| all_terms(n).into_iter().map(move |terms| (n, terms)));
    let all: std::sync::Mutex<Vec<_>> = std::sync::Mutex::new(all.collect());
    let work = || {
        while let Some((n, (min, colluders))) = { all.lock().unwrap().pop() } {
            whoever_drops_out(n, min, colluders);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
}

/// A restart forgets the round: the site neither seals nor answers in it, and never enters it again.
#[test]
fn a_restarted_site_is_out_of_the_open_round() {
    let mut world = World::new(4, terms(3, 1));
    let all = [0, 1, 2, 3];
    let session = world.greet(&all).unwrap();
    let schema = schema(2);
    world.sites[0].begin([1; 32], &session.bytes, &schema).unwrap();
    world.sites[0].seal(update(&[1, 2]), 1.0).unwrap();
    let mut restarted = world.site(0);
    let refused = restarted.begin([1; 32], &session.bytes, &schema).unwrap_err();
    assert_eq!(refused.code, Code::ContextMismatch);
    world.sites[0] = restarted;
    // A server that greets for the same session again: the disk knows that it was entered.
    let mut again = Server::new("run".into(), world.names.clone(), Store::in_memory().unwrap());
    let mut network = Network::new(&mut world.sites, &[0, 1, 2, 3]);
    let sites = all.map(name).into_iter().collect();
    let without = again.greet(&sites, &mut network).unwrap();
    assert_eq!(network.refusals, [Code::RoundReplayed]);
    assert_eq!(without.sites.len(), 3);
    // The next session is everybody's again.
    assert_eq!(world.round(2, &all, &all, &all, values).unwrap().uploads, 4);
}

/// Two sites that were told different things have different contexts: no share opens.
#[test]
fn sites_with_different_tasks_open_nothing() {
    let mut world = World::new(4, terms(3, 1));
    let all = [0, 1, 2, 3];
    let session = world.greet(&all).unwrap();
    let schema = schema(2);
    let mut sum = world.server.sum([1; 32], &schema).unwrap();
    let mut refused = Vec::new();
    for site in all {
        let task = if site == 2 { [9; 32] } else { [1; 32] };
        world.sites[site].begin(task, &session.bytes, &schema).unwrap();
        let sealed = world.sites[site].seal(update(&[1, 2]), 1.0).unwrap();
        let (header, body) = header(&sealed, 1);
        match sum.add(&name(site), &header, &mut &body[..]) {
            Ok(()) => {}
            Err(reason) => refused.push((site, reason.code)),
        }
    }
    assert_eq!(refused, [(2, Code::ContextMismatch)]);
    // The three that agree are a sum; a fourth upload smuggled in would not be.
    assert_eq!(sum.finish(&mut Network::new(&mut world.sites, &all)).unwrap().uploads, 3);
}

/// What the server changes on the way is seen by the site it sends it to.
#[test]
fn changed_survivors_are_refused() {
    let cases: [(usize, &[Code]); 3] = [
        // The first statement: context, then a byte of its body's digest, then of its signature.
        (5 + 3, &[Code::ContextMismatch, Code::NotInSurvivors]),
        (5 + 32 + 4 + 3, &[Code::BadSignature, Code::NotInSurvivors]),
        (5 + 32 + 4 + 96 + 3, &[Code::BadSignature, Code::NotInSurvivors]),
    ];
    for (at, codes) in cases {
        let mut world = World::new(3, terms(3, 1));
        let all = [0, 1, 2];
        let sum = world.uploads(1, &all, &all, |_| vec![1, 2]).unwrap();
        let mut network = Network::new(&mut world.sites, &all);
        network.change = Box::new(move |_, mut frame| {
            frame[at] ^= 1;
            frame
        });
        assert_eq!(sum.finish(&mut network).unwrap_err().code, Code::TooFewSites);
        assert_eq!(network.refusals.len(), 3);
        assert!(network.refusals.iter().all(|code| codes.contains(code)), "{:?}", network.refusals);
    }
}

/// Whoever is not pinned counts as hostile.
#[test]
fn unpinned_peers_do_not_protect() {
    let pinned = |sites: &[usize]| Terms {
        pins: Some(sites.iter().map(|&site| [site as u8; 32]).collect()),
        ..terms(3, 1)
    };
    let begin = |terms: Terms| {
        let mut world = World::new(5, terms);
        let session = world.greet(&[0, 1, 2, 3, 4]).unwrap();
        world.sites[0].begin([1; 32], &session.bytes, &schema(2)).err().map(|r| r.code)
    };
    assert_eq!(begin(pinned(&[1, 2, 3, 4])), None);
    // Four of five shares open a sum: two hostile sites are one too few to open a second one, which
    // is as many as one that may collude and one that nobody pinned. Three are not.
    assert_eq!(begin(pinned(&[1, 2, 3])), None);
    assert_eq!(begin(pinned(&[1, 2])), Some(Code::RosterUnpinned));
    assert_eq!(begin(pinned(&[])), Some(Code::RosterUnpinned));
}

#[test]
fn terms_that_cannot_be_met_are_refused() {
    let greet = |sites: usize, min, colluders| {
        let mut world = World::new(sites, terms(min, colluders));
        let all: Vec<usize> = (0..sites).collect();
        world.greet(&all).err().map(|reason| reason.code)
    };
    assert_eq!(greet(5, 4, 1), None);
    // Left out, and nobody is left.
    assert_eq!(greet(3, 4, 1), Some(Code::TooFewSites));
    assert_eq!(greet(4, 3, 2), Some(Code::TooFewSites));
}

/// The sites of a job are those of its first round.
#[test]
fn the_roster_is_frozen() {
    let mut world = World::new(5, terms(3, 1));
    let first = [0, 1, 2, 3];
    world.round(1, &first, &first, &first, values).unwrap();
    let session = world.greet(&[0, 1, 2, 3, 4]).unwrap();
    assert_eq!(session.sites.len(), 4);
    // A server that asks the newcomer all the same gets nothing from those who know better.
    let mut liar = Server::new("run".into(), world.names.clone(), Store::in_memory().unwrap());
    let sites = (0..5).map(name).collect();
    let mut greet = || liar.greet(&sites, &mut Network::new(&mut world.sites, &[0, 1, 2, 3, 4]));
    assert_eq!(greet().unwrap_err().code, Code::TooFewSites);
    let session = greet().unwrap();
    let refused = world.sites[0].begin([3; 32], &session.bytes, &schema(2)).unwrap_err();
    assert_eq!(refused.code, Code::RosterChanged);
}

/// A site whose noise is a share counts on peers that add as much; with too few of them it does not
/// take part.
#[test]
fn peers_with_less_noise_do_not_count() {
    let noisy = |noise| Terms { noise, shares: true, ..terms(4, 1) };
    let begin = |noises: [u64; 5]| {
        let mut world = World::with(noises.map(noisy).to_vec());
        let session = world.greet(&[0, 1, 2, 3, 4]).unwrap();
        world.sites[0].begin([1; 32], &session.bytes, &schema(2)).err().map(|r| r.code)
    };
    assert_eq!(begin([100, 100, 100, 200, 100]), None);
    // A server leaves the quiet one out, and the others go on.
    assert_eq!(begin([100, 100, 100, 100, 99]), None);
    assert_eq!(begin([99, 100, 100, 100, 100]), Some(Code::ContextMismatch));
    // Or the one who asks for more than the others have.
    assert_eq!(begin([100, 0, 0, 0, 0]), Some(Code::ContextMismatch));
    // Noise that is nobody's share keeps nobody away.
    let whole = [100, 90, 80, 70, 60].map(|noise| Terms { noise, ..terms(4, 1) });
    assert_eq!(World::with(whole.to_vec()).greet(&[0, 1, 2, 3, 4]).unwrap().sites.len(), 5);
}

/// Whoever is in a sum that reaches the threshold, enough of them count: a site cannot be outvoted.
#[test]
fn a_site_is_not_opened_against_its_terms() {
    let pins = Some((1..6).map(|site| [site as u8; 32]).collect());
    let mut all = vec![terms(6, 1); 8];
    all[0].pins = pins;
    let mut world = World::with(all);
    let session = world.greet(&[0, 1, 2, 3, 4, 5, 6, 7]).unwrap();
    let refused = world.sites[0].begin([1; 32], &session.bytes, &schema(2)).unwrap_err();
    assert_eq!(refused.code, Code::TooFewHonest);
}

/// One site's nonsense is that site's: the others' sum opens.
#[test]
fn a_bad_upload_or_hello_is_left_out() {
    let mut world = World::new(5, terms(3, 1));
    let all = [0, 1, 2, 3, 4];
    let session = world.greet(&all).unwrap();
    let schema = schema(2);
    let mut sum = world.server.sum([1; 32], &schema).unwrap();
    for site in all {
        world.sites[site].begin([1; 32], &session.bytes, &schema).unwrap();
        let sealed = world.sites[site].seal(update(&[1, 2]), 1.0).unwrap();
        let (mut header, mut body) = header(&sealed, 1);
        match site {
            0 => {
                // Shorter than the round's.
                header.len -= 4;
                assert_eq!(sum.admit(&name(site), &header).unwrap_err().code, Code::ShapeMismatch);
                continue;
            }
            1 => {
                // Changed on its way, or signed as another body.
                header.digest[0] ^= 1;
                assert_eq!(sum.admit(&name(site), &header).unwrap_err().code, Code::BadSignature);
                continue;
            }
            2 => body.truncate(100),
            _ => {}
        }
        assert_eq!(sum.add(&name(site), &header, &mut &body[..]).is_ok(), site > 2);
    }
    // Two are below the threshold of four; nothing is void.
    assert_eq!(
        sum.finish(&mut Network::new(&mut world.sites, &all)).unwrap_err().code,
        Code::TooFewSites
    );

    let mut odd = vec![terms(3, 1); 5];
    odd[0].step = Step::new(13).unwrap();
    odd[1].min_sites = 50;
    let session = World::with(odd.clone()).greet(&all);
    assert_eq!(session.unwrap().sites, [2, 3, 4].map(name).into());
    // Numbers that no sum of so many has room for, up to the least of them.
    for most in [1 << 61, 1 << 52, 1 << 51] {
        odd[1] = Terms { most, ..terms(3, 1) };
        assert_eq!(World::with(odd.clone()).greet(&all).unwrap().sites, [2, 3, 4].map(name).into());
    }
    // Less noise than most, which would keep all others away.
    let mut quiet = vec![Terms { noise: 100, shares: true, ..terms(4, 1) }; 5];
    quiet[3] = Terms { noise: 99, ..terms(4, 1) };
    assert_eq!(World::with(quiet).greet(&all).unwrap().sites, [0, 1, 2, 4].map(name).into());
    // More sites than there are; the others' own wishes count among the run's sites, absent ones included.
    let mut world = World::with([vec![terms(3, 1); 5], vec![terms(6, 4)]].concat());
    let six = [0, 1, 2, 3, 4, 5];
    assert!(world.round(1, &six, &six, &six, |_| vec![1]).is_ok());
    assert_eq!(world.greet(&[0, 1, 2, 3, 5]).unwrap().sites, [0, 1, 2, 3].map(name).into());
}

/// Who missed the first round learns the roster with the next one's hellos.
#[test]
fn a_site_that_missed_a_round_comes_back() {
    let mut world = World::new(5, terms(3, 1));
    let all = [0, 1, 2, 3, 4];
    world.round(1, &all, &all[..4], &all[..4], values).unwrap();
    // Site 4 never sealed and has no memory; site 2 is away.
    let some = [0, 1, 3, 4];
    let sum = world.round(2, &some, &some, &some, values).unwrap();
    assert_eq!(opened(&sum), expected(&some));
    let sum = world.round(3, &all, &all, &all, values).unwrap();
    assert_eq!(sum.uploads, 5);
}

/// Bytes of nobody's are refused and nothing panics.
#[test]
fn nonsense_is_malformed() {
    let mut world = World::new(3, terms(3, 1));
    world.greet(&[0, 1, 2]).unwrap();
    for frame in [&b""[..], &[0], &[1], &[2], &[2, 255, 255, 255, 255], &[1, 3, 0, 0, 0, 255]] {
        assert!(world.sites[0].frame(frame).is_err(), "{frame:?}");
    }
    for session in [&b""[..], &[1, 2, 3], &[255; 64]] {
        world.greet(&[0, 1, 2]).unwrap();
        assert!(world.sites[0].begin([0; 32], session, &schema(1)).is_err());
    }
}

/// A hundred sites once, a third of them gone at each step.
#[test]
#[ignore = "half a minute"]
fn a_hundred_sites() {
    let mut world = World::new(100, terms(60, 10));
    let all: Vec<usize> = (0..100).collect();
    let sum = world.round(1, &all, &all[..80], &all[10..75], |site| vec![site as i64; 3]).unwrap();
    assert_eq!((sum.uploads, opened(&sum)[0]), (80, 79 * 80 / 2));
}
