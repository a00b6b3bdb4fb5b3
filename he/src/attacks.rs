//! Attacks that would work if a rule were left out, and do not work with it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use privet_core::seal::{ServerSeal, Terms, Vouching};
use privet_core::{Code, Reason};
use privet_crypto::{Digest, Seed};

use crate::opener::{Names, SITES, parties, signer, tap, terms};
use crate::protocol::hello::{Greeting, Hello};
use crate::protocol::party::{Hellos, Invitation, Party, threshold_of};
use crate::scheme::threshold::Threshold;
use crate::scheme::{Opening, Scheme, Sealed, Sealing};
use crate::state::secrets;

/// The party of a session of all sites.
fn party() -> Party {
    let (mut sites, mut server) = parties(3, 0);
    let names: BTreeSet<String> = (0..SITES).map(|site| site.to_string()).collect();
    let session = server.greet(&names, &mut tap(&mut sites, &Arc::new(Mutex::new(Vec::new()))));
    Party::new(&session.unwrap().bytes, None, &Names).unwrap().1
}

fn seal(scheme: &Threshold, index: u32, seed: &Seed, values: &[i64]) -> Sealed {
    let (context, group) = (&Digest([4; 32]), None);
    scheme.seal(&Sealing { context, seed, group, index, values, weight: 1 }).unwrap()
}

/// What sites answer for a set of survivors opens their sum, if the scheme thinks that they are enough.
fn open(
    scheme: &Threshold,
    uploads: &[Sealed],
    set: &[usize],
    answering: &[usize],
) -> Result<Vec<i64>, Reason> {
    let mut sum = scheme.sum(&Digest([4; 32]))?;
    for &site in set {
        sum.add(&mut uploads[site].words.clone())?;
    }
    let help: Vec<(u32, Vec<u8>)> = answering
        .iter()
        .map(|&site| {
            let dealt: Vec<_> = set.iter().map(|&from| uploads[from].dealt[site].clone()).collect();
            (site as u32, scheme.answer(&dealt).unwrap())
        })
        .collect();
    let Opening::Done((_, sums)) = sum.open(&help)? else { panic!("the server opens it") };
    Ok(sums.to_vec())
}

/// A server that shows two camps of honest sites two sets of survivors: with a threshold of no more than half
/// of them, each camp opens its sum, and the difference is one site's update. With the threshold that is used,
/// neither of two camps of any sizes reaches it as well as the other, whoever colludes.
#[test]
fn two_camps_do_not_open_two_sums() {
    let mut party = party();
    let values = |site: i64| [site * 100 + 7, -site, 3];
    let attack = |party: &Party| {
        let scheme = Threshold::new(party, 3).unwrap();
        let uploads: Vec<_> = (0..i64::from(SITES))
            .map(|site| {
                seal(&scheme, site as u32, &Seed::from_bytes([site as u8; 32]), &values(site))
            })
            .collect();
        let all = open(&scheme, &uploads, &[0, 1, 2, 3, 4], &[0, 1])?;
        let but_one = open(&scheme, &uploads, &[0, 1, 2, 3], &[2, 3])?;
        Ok::<Vec<i64>, Reason>(all.iter().zip(but_one).map(|(a, b)| a - b).collect())
    };
    assert_eq!(attack(&party).unwrap_err().code, Code::TooFewSites);
    party.threshold = 2;
    assert_eq!(attack(&party).unwrap(), values(4));

    for n in 2..=7 {
        for colluders in 0..n {
            for min_sites in colluders + 2..=n {
                let t = threshold_of(n, min_sites, colluders);
                // Colluders answer both; a site's own terms hold them below the threshold.
                let both =
                    |camp: u32| camp + colluders >= t && (n - colluders - camp) + colluders >= t;
                assert!((0..=n - colluders).all(|camp| !both(camp)) || colluders >= t, "{n} {t}");
            }
        }
    }
}

/// A copy of a machine that seals another update with the same random bytes, counter and context: if its
/// secrets did not depend on the update, the difference of the two uploads would be that of the updates.
#[test]
fn a_copied_machine_seals_another_update_under_other_secrets() {
    let party = party();
    let scheme = Threshold::new(&party, 3000).unwrap();
    let (delta, p) = (scheme.layout.encoding().delta() as i64, 2_147_389_441i64);
    let updates: [Vec<i64>; 2] = [(0..3000).collect(), (0..3000).map(|i| 5000 - 2 * i).collect()];
    let difference = |seeds: [&Seed; 2]| -> Vec<i64> {
        let [one, two] = [0, 1].map(|at| seal(&scheme, 0, seeds[at], &updates[at]).words);
        let centred = |x: i64| if x > p / 2 { x - p } else { x };
        one.iter()
            .zip(two)
            .map(|(&a, b)| centred((i64::from(a) - i64::from(b)).rem_euclid(p)))
            .collect()
    };
    let small = |differences: &[i64]| {
        differences.iter().filter(|x| x.abs() <= delta * 10_000 && *x % delta == 0).count()
    };
    let same = Seed::from_bytes([1; 32]);
    let told = difference([&same, &same]);
    assert!(small(&told) > told.len() - 10, "the attack works where secrets are the same");

    let (fresh, context) = (Seed::from_bytes([2; 32]), Digest([4; 32]));
    let bound = |update: u8| secrets(&fresh, b"site", 7, &context, &Digest([update; 32]));
    let nothing = difference([&bound(1), &bound(2)]);
    // One in Δ of those that happen to be near.
    assert!(small(&nothing) < 20, "{}", small(&nothing));
    // All else counts as well.
    let other = [
        secrets(&Seed::from_bytes([3; 32]), b"site", 7, &context, &Digest([1; 32])),
        secrets(&fresh, b"other", 7, &context, &Digest([1; 32])),
        secrets(&fresh, b"site", 8, &context, &Digest([1; 32])),
        secrets(&fresh, b"site", 7, &Digest([5; 32]), &Digest([1; 32])),
    ];
    assert!(other.iter().all(|seed| seed.reveal() != bound(1).reveal()));
}

/// A server that leaves nobody out: a site whose noise is a share refuses peers that add too little of it.
#[test]
fn a_session_with_too_little_noise_is_refused() {
    let refused = |noises: [u64; 5]| {
        let greeting = Greeting { run: "run".into(), session: 1 };
        let terms = noises.map(|noise| Terms { noise, shares: true, ..terms(4, 1) });
        let hello = |(site, terms): (u8, &Terms)| {
            Hello::new(&greeting, [site; 32], terms, vec![site], &signer(site))
        };
        let hellos = (0..SITES).zip(&terms).map(hello).collect();
        let roster = (0..SITES).map(|site| vec![site]).collect();
        let hellos = Hellos { greeting: greeting.clone(), roster, weight_bits: 0, hellos }.encode();
        let session = Invitation { hellos, group: None }.encode();
        let (_, party) = Party::new(&session, None, &Names).unwrap();
        let own = Names.certified(&[0]).unwrap();
        party.allowed_by(&terms[0], &own).err().map(|reason| reason.code)
    };
    assert_eq!(refused([100, 100, 100, 200, 100]), None);
    // Four of five open a sum; one of them may be the one without noise.
    assert_eq!(refused([100, 100, 100, 100, 99]), Some(Code::TooFewHonest));
    assert_eq!(refused([99, 100, 100, 100, 100]), None);
    assert_eq!(refused([100, 0, 0, 0, 0]), Some(Code::TooFewHonest));
}
