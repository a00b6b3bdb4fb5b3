//! What is summed and how it is opened: checked, weighted, approximate, under one key.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::*;
use privet_core::Code;
use privet_core::seal::{Note, Scheme, ServerSeal, SiteSeal, Terms};
#[cfg(not(feature = "tfhe"))]
use privet_he::site::{Identity, Site};

const ALL: [usize; 5] = [0, 1, 2, 3, 4];
const AGREED: u8 = 4;
const OPENED: u8 = 5;

fn verifying() -> Terms {
    Terms { verify: true, ..terms(4, 1) }
}

/// Sites that ask for it see that the sum is that of what was sealed.
#[test]
fn sites_see_that_the_sum_is_theirs() {
    let mut all = vec![terms(4, 1); 5];
    (all[1].verify, all[3].verify) = (true, true);
    let mut world = World::with(all);
    for (round, hello) in [(1, &ALL[..]), (2, &[0, 1, 3, 4])] {
        let sum = world.uploads(round, hello, hello, values).unwrap();
        let mut network = Network::new(&mut world.sites, &ALL);
        let sum = sum.finish(&mut network).unwrap();
        assert_eq!((opened(&sum), sum.verified), (expected(hello), 2));
        // Nobody else is shown it.
        assert_eq!(network.notes, [(1, Note::Verified), (3, Note::Verified)]);
    }
}

/// A server that shows another sum than was sealed is seen by each site; by the third time, it takes no
/// further part.
#[test]
fn a_wrong_sum_is_seen() {
    // A number; a code; a sum that is short, by zeros at its end or by a part of a number.
    type Change = fn(Vec<u8>) -> Vec<u8>;
    // Of the last piece, which is empty, nothing is left to change but its place.
    let flip: Change = |mut frame| {
        let last = frame.len() - 5;
        frame[last] ^= u8::from(last > 9);
        frame
    };
    let shorter: Change = |mut frame| match frame.len() {
        9 => {
            let end = u64::from_le_bytes(frame[1..].try_into().unwrap()) - 8;
            [&frame[..1], &end.to_le_bytes()].concat()
        }
        len => {
            frame.truncate(len - 8);
            frame
        }
    };
    let cases: [(u8, Change, Code); 4] = [
        (OPENED, flip, Code::MacFailed),
        // The last bytes are the header's: its second code.
        (AGREED, flip, Code::MacFailed),
        (OPENED, shorter, Code::MacFailed),
        (OPENED, |frame| frame[..10.min(frame.len())].to_vec(), Code::Malformed),
    ];
    // The sum ends with a zero, which changes no code.
    let values = |site: usize| [values(site), vec![0]].concat();
    for (kind, change, code) in cases {
        let mut world = World::new(5, verifying());
        for round in 1..=3 {
            let sum = world.uploads(round, &ALL, &ALL, values).unwrap();
            let mut network = Network::new(&mut world.sites, &ALL);
            network.change =
                Box::new(move |_, frame| if frame[0] == kind { change(frame) } else { frame });
            let sum = sum.finish(&mut network).unwrap();
            assert_eq!(sum.verified, 0);
            assert!(network.refusals.iter().all(|&refused| refused == code), "{code:?}");
            assert_eq!(network.refusals.len(), 5);
        }
        assert_eq!(world.greet(&ALL).is_err(), code == Code::MacFailed);
    }
}

/// One bad sum could be a peer's doing: it ends nothing.
#[test]
fn a_wrong_sum_is_not_held_against_an_honest_server() {
    let mut world = World::new(5, verifying());
    for round in 1..=6 {
        let sum = world.uploads(round, &ALL, &ALL, values).unwrap();
        let mut network = Network::new(&mut world.sites, &ALL);
        if round % 2 == 1 {
            network.change = Box::new(|_, mut frame| {
                if frame[0] == AGREED {
                    let last = frame.len() - 5;
                    frame[last] ^= 1;
                }
                frame
            });
        }
        let verified = if round % 2 == 1 { 0 } else { 5 };
        assert_eq!(sum.finish(&mut network).unwrap().verified, verified, "{round}");
    }
}

/// What opened is shown with the answers of as many sites as must have agreed.
#[test]
fn a_sum_comes_with_the_signatures_of_its_answers() {
    let mut world = World::new(5, verifying());
    let sum = world.uploads(1, &ALL, &ALL, values).unwrap();
    let mut network = Network::new(&mut world.sites, &ALL);
    network.change = Box::new(|_, mut frame| {
        if frame[0] == AGREED {
            // Two of five are left out: index, set, answer, signature.
            frame[1] = 3;
            frame.drain(5..5 + 2 * (4 + 32 + 32 + 64));
        }
        frame
    });
    assert_eq!(sum.finish(&mut network).unwrap().verified, 0);
    assert_eq!(network.refusals, [Code::TooFewHonest; 5]);
}

/// If the first site does not draw the session's secret, the next one does.
#[test]
fn another_site_draws_the_secret() {
    let mut world = World::new(5, verifying());
    let sites = ALL.map(name).into_iter().collect();
    let mut network = Network::new(&mut world.sites, &ALL);
    network.change = Box::new(|site, frame| match (site, frame[0]) {
        (1 | 2, 3) => Vec::new(),
        _ => frame,
    });
    let session = world.server.greet(&sites, &mut network).unwrap();
    assert_eq!(network.refusals, [Code::Malformed; 2]);
    for site in ALL {
        world.sites[site].begin([1; 32], &session.bytes, &schema(2)).unwrap();
    }
    // A session without a secret, where one is needed, or with a changed one, is none.
    let session = world.greet(&ALL).unwrap();
    let hellos = 4 + u32::from_le_bytes(session.bytes[..4].try_into().unwrap()) as usize;
    let bare = [&session.bytes[..hellos], &[0; 4]].concat();
    let refused = world.sites[0].begin([1; 32], &bare, &schema(2)).unwrap_err();
    assert_eq!(refused.code, Code::ContextMismatch);
    // Of the secret: its copy for site 1, the second, and its signature.
    for at in [12 + 48 + 3, 12 + 4 * 48] {
        let mut session = world.greet(&ALL).unwrap().bytes;
        session[hellos + at] ^= 1;
        let refused = world.sites[1].begin([1; 32], &session, &schema(2)).unwrap_err();
        assert_eq!(refused.code, Code::BadShare);
    }
}

/// Updates are multiplied by weights under the seal; the sum of the weights is all that is seen of them.
#[test]
fn weights_are_under_the_seal() {
    let mut all = vec![Terms { weight_bits: Some(7), ..verifying() }; 5];
    // One site has more records, and with it the power of two that all divide by.
    all[4].weight_bits = Some(10);
    let mut world = World::with(all);
    let sum = world.round(1, &ALL, &ALL, &ALL, values).unwrap();
    assert_eq!((sum.weights["w"], sum.verified), (510.0, 5));
    let weighted: Vec<i64> = (0..5000)
        .map(|at| ALL.iter().map(|&site| values(site)[at] * (100 + site as i64) / 1024).sum())
        .map(|sum: i64| sum * 1024)
        .collect();
    assert_eq!(opened(&sum), weighted);
    // The divisor is that of the run, whoever takes part: of one update cut at two places the difference would
    // tell more than either.
    let few = [0, 1, 2, 3];
    let sum = world.round(2, &few, &few, &few, values).unwrap();
    let weighted = |site: usize, at: usize| values(site)[at] * (100 + site as i64) / 1024 * 1024;
    assert_eq!(opened(&sum)[7], few.iter().map(|&site| weighted(site, 7)).sum::<i64>());
    // Whoever says to have 2^10 times the records of the others or more is left out, first or later.
    let mut wild = vec![Terms { weight_bits: Some(7), ..terms(3, 1) }; 5];
    wild[2].weight_bits = Some(40);
    assert_eq!(World::with(wild).greet(&ALL).unwrap().sites, [0, 1, 3, 4].map(name).into());
    // Sites that count once and sites that count by records share no sum.
    let mut mixed = vec![terms(3, 1); 5];
    mixed[0].weight_bits = Some(7);
    mixed[1].exact = false;
    assert_eq!(World::with(mixed).greet(&ALL).unwrap().sites, [2, 3, 4].map(name).into());
}

/// Without exactness numbers may be larger, and come back with an error of the stated size.
#[test]
fn approximate_sums_are_near() {
    let rough = Terms { exact: false, most: 1 << 25, ..terms(4, 1) };
    let mut world = World::new(5, rough);
    let large = |site: usize| values(site).into_iter().map(|x| x * 30).collect::<Vec<_>>();
    let sum = world.round(1, &ALL, &ALL, &ALL, large).unwrap();
    let exact = expected(&ALL).into_iter().map(|x| x * 30);
    let errors: Vec<f64> =
        opened(&sum).into_iter().zip(exact).map(|(x, y)| (x - y) as f64).collect();
    let variance = errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64;
    // 6.4·√5, of 5000 numbers.
    assert!((variance.sqrt() - 14.31).abs() < 1.0, "{}", variance.sqrt());
    assert_eq!(sum.weights["w"], 510.0);
    // The same numbers, exactly, take twice the bytes.
    let bytes = |exact| {
        let mut world = World::new(5, Terms { exact, most: 1 << 25, ..terms(4, 1) });
        let session = world.greet(&ALL).unwrap();
        world.sites[0].begin([1; 32], &session.bytes, &schema(40_000)).unwrap();
        world.sites[0].seal(update(&vec![0; 40_000]), 1.0).unwrap().body.len()
    };
    assert!(bytes(true) * 10 > bytes(false) * 19);
}

/// A site may want every sum over the same sites, and a bound of how many sessions there are.
#[test]
fn sums_of_other_sites_and_too_many_sessions_are_refused() {
    let mut all = vec![terms(4, 1); 5];
    all[0].stable = true;
    let mut world = World::with(all);
    assert!(world.round(1, &ALL, &ALL, &ALL, values).is_ok());
    let some = [0, 1, 2, 3];
    let sum = world.uploads(2, &some, &some, values).unwrap();
    let mut network = Network::new(&mut world.sites, &ALL);
    assert_eq!(sum.finish(&mut network).unwrap_err().code, Code::TooFewSites);
    assert_eq!(network.refusals, [Code::SurvivorsChanged]);
    assert!(world.round(3, &ALL, &ALL, &ALL, values).is_ok());

    let mut world = World::new(5, Terms { sessions: 2, ..terms(4, 1) });
    for round in 1..=2 {
        assert!(world.round(round, &ALL, &ALL, &ALL, values).is_ok());
    }
    // A restart changes nothing of it.
    world.sites = ALL.map(|site| world.site(site)).into_iter().collect();
    let sites = ALL.map(name).into_iter().collect();
    let mut network = Network::new(&mut world.sites, &ALL);
    assert!(world.server.greet(&sites, &mut network).is_err());
    assert_eq!(network.refusals, [Code::RoundsMax; 5]);
}

#[cfg(feature = "tfhe")]
mod tfhe {
    use super::*;

    const TO_OPEN: u8 = 6;

    fn one_key() -> Terms {
        Terms { scheme: Scheme::Tfhe, ..terms(3, 0) }
    }

    /// The server adds what it cannot read, and a site opens the sum.
    #[test]
    fn a_site_opens_the_sum_under_the_one_key() {
        let mut world = World::new(5, Terms { verify: true, ..one_key() });
        for (round, hello, answer) in [(1, &ALL[..], 5), (2, &[0, 2, 3, 4], 4), (3, &[1, 2, 3], 3)]
        {
            let sum = world.round(round, hello, hello, &ALL, values).unwrap();
            assert_eq!((opened(&sum), sum.verified), (expected(hello), answer));
        }
        let refused = world.round(4, &[0, 1], &[0, 1], &ALL, values).unwrap_err();
        assert_eq!(refused.code, Code::TooFewSites);
        // Whoever does not want to see it is not shown it; weights are under the seal all the same.
        let mut world = World::new(3, Terms { weight_bits: Some(7), most: 1 << 14, ..one_key() });
        let few = [0, 1, 2];
        let small = |site: usize| vec![site as i64 * 128, -12_800];
        let sum = world.round(1, &few, &few, &few, small).unwrap();
        assert_eq!((sum.weights["w"], sum.verified), (303.0, 1));
        assert_eq!(opened(&sum), [(101 + 2 * 102) * 128, -12_800 * 303]);
    }

    /// A site that is asked to open anything but the sum of the survivors gives nothing away.
    #[test]
    fn a_changed_sum_is_not_opened() {
        let mut world = World::new(5, one_key());
        let sum = world.uploads(1, &ALL, &ALL, values).unwrap();
        let mut network = Network::new(&mut world.sites, &ALL);
        network.change = Box::new(|site, mut frame| {
            if site < 4 && frame[0] == TO_OPEN {
                // A small change of a body word: a number of the sum, one higher or lower.
                let at = frame.len() - 1 - site;
                frame[at] ^= 1;
            }
            frame
        });
        // The last site gets the right one, and opens it.
        let sum = sum.finish(&mut network).unwrap();
        assert_eq!(opened(&sum), expected(&ALL));
        assert_eq!(network.refusals, [Code::MacFailed; 4]);
    }

    /// The site that was to open the sum is gone: another one does.
    #[test]
    fn another_site_opens_the_sum() {
        let mut world = World::new(4, one_key());
        let all = [0, 1, 2, 3];
        let sum = world.uploads(1, &all, &all, values).unwrap();
        let mut network = Network::new(&mut world.sites, &all);
        network.change = Box::new(|site, frame| match (site, frame[0]) {
            (0, AGREED) | (1, TO_OPEN) => Vec::new(),
            _ => frame,
        });
        assert_eq!(opened(&sum.finish(&mut network).unwrap()), expected(&all));
    }

    /// Whoever is in the session has the key: a peer that is not pinned is one too many.
    #[test]
    fn only_pinned_sites_get_the_key() {
        let pinned = |sites: &[u8]| Terms {
            pins: Some(sites.iter().map(|&site| [site; 32]).collect()),
            ..one_key()
        };
        let mut all = vec![one_key(); 4];
        all[0] = pinned(&[1, 2, 3]);
        let greet = |all: &[Terms]| {
            let mut world = World::with(all.to_vec());
            let session = world.greet(&[0, 1, 2, 3]).unwrap();
            world.sites[0].begin([1; 32], &session.bytes, &schema(1)).err().map(|r| r.code)
        };
        assert_eq!(greet(&all), None);
        all[0] = pinned(&[1, 2]);
        assert_eq!(greet(&all), Some(Code::RosterUnpinned));
    }
}

/// A build without `tfhe` says so.
#[cfg(not(feature = "tfhe"))]
#[test]
fn a_scheme_that_is_not_built_is_refused() {
    let world = World::new(3, terms(3, 1));
    let identity = Identity { credential: vec![0], signer: key(0) };
    let asking = Terms { scheme: Scheme::Tfhe, ..terms(3, 0) };
    let refused = Site::new("r".into(), asking, identity, world.names, world.stores[0].clone());
    assert_eq!(refused.err().unwrap().code, Code::NotBuilt);
}
