//! Which hellos can make a round together.
//!
//! One of them must not keep everybody from a sum: whoever asks for what the others do not have, or announces
//! what they could not sum, is left out, and misses the round.

use std::collections::BTreeMap;

use crate::protocol::hello::{Common, Hello};
use crate::protocol::party::{WEIGHT_SLACK, threshold_of};
use crate::scheme;

/// The hellos that go together, and log2 of what their weights are divided by. `frozen` is the number of the
/// run's sites and that power, once there was a session.
pub(super) fn fitting(
    mut hellos: BTreeMap<String, Hello>,
    frozen: Option<(u32, u8)>,
) -> (BTreeMap<String, Hello>, u8) {
    if let Some(common) = most_have(hellos.values().map(Hello::common)) {
        hellos.retain(|_, hello| hello.common() == common);
        leave_out_large(&mut hellos, common);
    }
    // Peers with less noise than most would keep those who share theirs from taking part.
    if let Some(noise) = most_have(hellos.values().map(|hello| hello.noise)) {
        hellos.retain(|_, hello| hello.noise >= noise);
    }
    hellos.retain(|_, hello| hello.min_sites >= hello.colluders.saturating_add(2));
    let weight_bits = frozen.map_or_else(|| weight_bits(&hellos), |(_, bits)| bits);
    hellos.retain(|_, hello| hello.weight_bits.is_none_or(|bits| near(bits, weight_bits)));
    // Whoever wants more sites in a sum than there are, the most demanding first.
    loop {
        let present = hellos.len() as u32;
        let sites = frozen.map_or(present, |(sites, _)| sites);
        let wants = |hello: &Hello| threshold_of(sites, hello.min_sites, hello.colluders);
        let most = hellos.iter().max_by_key(|(_, hello)| wants(hello));
        match most.filter(|(_, hello)| wants(hello) > present) {
            Some((name, _)) => drop(hellos.remove(&name.clone())),
            None => return (hellos, weight_bits),
        }
    }
}

/// What most have; of several, the largest.
fn most_have<T: Ord + Copy>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut counts: BTreeMap<T, usize> = BTreeMap::new();
    all.for_each(|one| *counts.entry(one).or_default() += 1);
    counts.into_iter().max_by_key(|(one, count)| (*count, *one)).map(|(one, _)| one)
}

/// Numbers too large for a sum of so many, the largest first.
fn leave_out_large(hellos: &mut BTreeMap<String, Hello>, common: Common) {
    loop {
        let largest = scheme::largest(common, hellos.len() as u32);
        let most = hellos.iter().max_by_key(|(_, hello)| hello.most);
        let Some((name, _)) = most.filter(|(_, hello)| hello.most > largest) else { return };
        let name = name.clone();
        hellos.remove(&name);
    }
}

fn near(bits: u8, weight_bits: u8) -> bool {
    bits <= weight_bits && weight_bits - bits <= WEIGHT_SLACK
}

/// The power of two that weights of most sites are near to.
fn weight_bits(hellos: &BTreeMap<String, Hello>) -> u8 {
    let all = || hellos.values().filter_map(|hello| hello.weight_bits);
    let near_to = |candidate: u8| all().filter(|&bits| near(bits, candidate)).count();
    all().max_by_key(|&candidate| (near_to(candidate), candidate)).unwrap_or_default()
}
