//! Which hellos can make a round together.
//!
//! One of them must not keep everybody from a sum: whoever asks for what the others do not have, or announces
//! what they could not sum, is left out, and misses the round.

use std::collections::{BTreeMap, BTreeSet};

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
    hellos.retain(|_, hello| hello.min_sites >= hello.colluders.saturating_add(2));
    let weight_bits = frozen.map_or_else(|| weight_bits(&hellos), |(_, bits)| bits);
    hellos.retain(|_, hello| hello.weight_bits.is_none_or(|bits| near(bits, weight_bits)));
    loop {
        let present = hellos.len() as u32;
        let sites = frozen.map_or(present, |(sites, _)| sites);
        let left_out = too_demanding(&hellos, sites).or_else(|| unlike_in_noise(&hellos, sites));
        match left_out {
            Some(names) => hellos.retain(|name, _| !names.contains(name)),
            None => return (hellos, weight_bits),
        }
    }
}

fn wants(hello: &Hello, sites: u32) -> u32 {
    threshold_of(sites, hello.min_sites, hello.colluders)
}

/// Whoever wants more sites in a sum than there are, the most demanding first.
fn too_demanding(hellos: &BTreeMap<String, Hello>, sites: u32) -> Option<BTreeSet<String>> {
    let most = hellos.iter().max_by_key(|(_, hello)| wants(hello, sites))?;
    (wants(most.1, sites) > hellos.len() as u32).then(|| BTreeSet::from([most.0.clone()]))
}

/// Where noise is shared a site takes no part if too many add less than it does. Those few who keep more
/// others away are left out; or the one who asks for most.
fn unlike_in_noise(hellos: &BTreeMap<String, Hello>, sites: u32) -> Option<BTreeSet<String>> {
    let t = hellos.values().map(|hello| wants(hello, sites)).max()?;
    let quieter = |noise: u64| hellos.iter().filter(move |(_, hello)| hello.noise < noise);
    let refuses = |hello: &Hello| {
        let short = quieter(hello.noise).count() as u32;
        hello.shares && t < hello.min_sites.saturating_add(short)
    };
    let refusing: Vec<_> = hellos.iter().filter(|(_, hello)| refuses(hello)).collect();
    let least = refusing.iter().map(|(_, hello)| hello.noise).min()?;
    let quiet: BTreeSet<String> = quieter(least).map(|(name, _)| name.clone()).collect();
    if quiet.len() < refusing.len() {
        return Some(quiet);
    }
    let loudest = refusing.into_iter().max_by_key(|(_, hello)| hello.noise)?;
    Some(BTreeSet::from([loudest.0.clone()]))
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
