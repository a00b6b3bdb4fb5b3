//! Questions about what sealed uploads tell, put to Privet; `bench/peers/leakage.py` puts them to others.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // a test fails by panicking; answers are printed

mod common;

use common::*;
use privet_core::Code;
use privet_core::seal::{ServerSeal, SiteSeal};
use privet_crypto::{Seed, Words};
use privet_he::server::Server;
use privet_store::Store;

const P: u64 = 2_147_389_441;
const N: i64 = 6000;
const ALL: [usize; 4] = [0, 1, 2, 3];

/// Sealed words of site 0 for these updates, a round each.
fn uploads(updates: &[&[i64]]) -> Vec<Vec<u64>> {
    let mut world = World::new(4, terms(3, 1));
    let seal = |values: &&[i64]| {
        let session = world.greet(&ALL).unwrap();
        world.sites[0].begin([1; 32], &session.bytes, &schema(N as u64)).unwrap();
        let body = world.sites[0].seal(update(values), 1.0).unwrap().body;
        body.into_iter().map(u64::from).collect()
    };
    updates.iter().map(seal).collect()
}

/// Large numbers of one sign and as large ones of the other.
fn large() -> Vec<i64> {
    (0..N).map(|i| if i % 2 == 0 { 1 << 20 } else { -(1 << 20) }).collect()
}

fn correlation(
    xs: impl Iterator<Item = f64> + Clone,
    ys: impl Iterator<Item = f64> + Clone,
) -> f64 {
    let n = xs.clone().count() as f64;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n;
    let (mx, my) = (mean(&mut xs.clone()), mean(&mut ys.clone()));
    let product = mean(&mut xs.clone().zip(ys.clone()).map(|(x, y)| (x - mx) * (y - my)));
    let spread = mean(&mut xs.map(|x| (x - mx).powi(2))) * mean(&mut ys.map(|y| (y - my).powi(2)));
    product / spread.sqrt()
}

fn chi_square(words: &[u64]) -> f64 {
    let mut bins = [0f64; 16];
    words.iter().for_each(|&word| bins[(word * 16 / P) as usize] += 1.0);
    let expected = words.len() as f64 / 16.0;
    bins.iter().map(|bin| (bin - expected).powi(2) / expected).sum()
}

/// Does an upload go with its update? At no shift of the header's few words, which come first.
#[test]
fn correlation_of_upload_and_update() {
    let update = large();
    for upload in uploads(&[&update, &update]) {
        let most = (0..64)
            .map(|shift| {
                let words = upload[shift..].iter().map(|&word| word as f64);
                let values = update.iter().map(|&value| value as f64);
                correlation(words.take(N as usize), values.clone().take(N as usize)).abs()
            })
            .fold(0.0, f64::max);
        // Of 6000 numbers, six deviations.
        assert!(most < 6.0 / (N as f64).sqrt(), "{most}");
        println!("leakage: correlation of upload and update: {most:.3}, as of noise");
    }
}

/// Does a mask come again, in another round or for another update? Differences of uploads are as uniform as
/// uploads are.
#[test]
fn masks_do_not_come_again() {
    let (update, zeros) = (large(), vec![0; N as usize]);
    let uploads = uploads(&[&update, &update, &zeros]);
    for (at, upload) in uploads.iter().enumerate() {
        // 15 degrees of freedom: above 60 once in three million.
        assert!(chi_square(upload) < 60.0, "{at}");
        for other in &uploads[..at] {
            let differences: Vec<u64> =
                upload.iter().zip(other).map(|(&a, &b)| (a + P - b) % P).collect();
            assert!(chi_square(&differences) < 60.0, "{at}");
        }
    }
    println!("leakage: masks that come again: none in three rounds");
}

/// How many bits of a key count? A change of any one gives other secrets, and so do two that would cancel
/// out if the key were folded.
#[test]
fn every_bit_of_a_key_counts() {
    let words = |bytes: [u8; 32]| {
        let mut words = Words::new(&Seed::from_bytes(bytes).derive("privet/he/key/v1", 0));
        (words.word(), words.word())
    };
    let key = *Seed::from_os().unwrap().reveal();
    let mut seen = std::collections::BTreeSet::from([words(key)]);
    for bit in 0..256 {
        for other in [None, Some((bit + 32) % 256), Some((bit + 128) % 256)] {
            let mut changed = key;
            changed[bit / 8] ^= 1 << (bit % 8);
            if let Some(other) = other {
                changed[other / 8] ^= 1 << (other % 8);
            }
            // The pair of bits half a key apart is met twice.
            let new = seen.insert(words(changed));
            assert!(new || other == Some((bit + 128) % 256) && bit >= 128, "{bit} {other:?}");
        }
    }
    println!("leakage: bits of a key that count: 256 of 256");
}

/// Can a server have two sums of one round opened, and so tell one site's update by their difference?
#[test]
fn two_sets_of_survivors_are_not_opened() {
    let mut world = World::new(4, terms(3, 0));
    let session = world.greet(&ALL).unwrap();
    let schema = schema(2);
    let sealed: Vec<_> = ALL
        .iter()
        .map(|&site| {
            world.sites[site].begin([1; 32], &session.bytes, &schema).unwrap();
            header(&world.sites[site].seal(update(&[1, 2]), 1.0).unwrap(), 1)
        })
        .collect();
    let mut open = |server: &mut Server, from: usize| {
        let mut sum = server.sum([1; 32], &schema).unwrap();
        for (site, (header, body)) in sealed.iter().enumerate().skip(from) {
            sum.add(&name(site), header, &mut &body[..]).unwrap();
        }
        let mut network = Network::new(&mut world.sites, &ALL);
        (sum.finish(&mut network), network.refusals)
    };
    assert_eq!(open(&mut world.server, 0).0.unwrap().uploads, 4);
    let mut liar = Server::new("run".into(), world.names.clone(), Store::in_memory().unwrap());
    liar.greet(&ALL.map(name).into(), &mut Replay::of(&session)).unwrap();
    let (second, refusals) = open(&mut liar, 1);
    assert_eq!(second.unwrap_err().code, Code::TooFewSites);
    assert_eq!(refusals, [Code::AlreadyAnswered; 3]);
    println!("leakage: a second sum over other sites: refused by every site");
}
