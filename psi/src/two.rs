//! Two sites: one evaluates the other's PRF at its items and compares.
//!
//! ```text
//!   R: F of its items   ◀── OPRF ──▶   S: F of its items
//!   R ◀── sorted tags ── S
//!   where the size comes first:  R ── how many, if both allow so many ──▶ S;  R ◀── the order ── S
//!   R ── which tags ──▶ S, where S is to learn its rows
//! ```
//! The size comes first under `ecdh` alone: S answers shuffled, and R counts without knowing which.

use privet_core::Reason;
use privet_core::intersect::Reveal;

use crate::ecdh;
use crate::pipe::{cheated, malformed};
use crate::prf;
use crate::run::{Common, Pipes, Shown, pipe};
use crate::session::Random;
use crate::tags::{self, Shape, Tagger, pack, unpack};
use crate::vole::params::{COMPUTATIONAL, tag_bits};

pub(crate) fn run(
    common: &Common<'_>,
    pipes: &mut Pipes<'_>,
    random: &mut Random,
) -> Result<Shown, Reason> {
    match common.me == common.plan.leader {
        true => evaluate(common, pipes, random),
        false => answer(common, pipes, random),
    }
}

/// Tags of the side that answers.
fn shape(common: &Common<'_>) -> Shape {
    let sizes = &common.plan.sizes;
    let bits = match common.terms.malicious {
        true => COMPUTATIONAL,
        false => tag_bits(sizes[0], sizes[1]),
    };
    Shape { count: sizes[1 - common.plan.leader], bits }
}

fn most_common(common: &Common<'_>) -> usize {
    common.plan.sizes.iter().copied().min().unwrap_or_default() as usize
}

/// The side that compares.
fn evaluate(
    common: &Common<'_>,
    pipes: &mut Pipes<'_>,
    random: &mut Random,
) -> Result<Shown, Reason> {
    let peer = 1 - common.me;
    let mut session = common.with(peer);
    let (tagger, shape) = (Tagger::new(&session), shape(common));
    let link = pipe(pipes, peer)?;
    let (values, shuffled) = match common.plan.counts {
        true => {
            let received = ecdh::receive(&mut session, link, random, common.items, true)?;
            (received.values, received.shuffled)
        }
        false => (prf::evaluate(common, &mut session, link, random)?, None),
    };
    let theirs = tags::read(link, &shape)?;
    let mut found = tags::matches(&tagger.sorted(&shape, &values), &theirs);
    // Shown in the order of the tags.
    found.sort_unstable_by_key(|(_, at)| *at);
    let size = found.len() as u64;
    let mut order = None;
    if common.plan.counts {
        common.tell(size, std::iter::once(link))?;
        if common.terms.reveal == Reveal::Size {
            return Ok((Some(size), None));
        }
    }
    let link = pipe(pipes, peer)?;
    if let Some(shuffled) = shuffled {
        order = Some(shuffled.order(&link.array()?)?);
    }
    if common.terms.reveal == Reveal::All {
        link.write(&pack(theirs.len(), found.iter().map(|(_, at)| *at)))?;
        if common.terms.malicious {
            // A value cannot be made up from its tag. As many blocks as there can be: their number says nothing.
            let mut shown: Vec<u128> =
                found.iter().map(|(place, _)| values[*place as usize]).collect();
            shown.resize_with(most_common(common), || random.block());
            link.write_blocks(&shown)?;
        }
        link.flush()?;
    }
    let row = |place: u32| order.as_ref().map_or(place, |order: &Vec<u32>| order[place as usize]);
    let flags = common.flags(found.iter().map(|(place, _)| row(*place) as usize));
    Ok((Some(size), Some(flags)))
}

/// The side whose PRF it is.
fn answer(
    common: &Common<'_>,
    pipes: &mut Pipes<'_>,
    random: &mut Random,
) -> Result<Shown, Reason> {
    let peer = 1 - common.me;
    let mut session = common.with(peer);
    let (tagger, shape) = (Tagger::new(&session), shape(common));
    let link = pipe(pipes, peer)?;
    let (values, seed) = match common.plan.counts {
        true => {
            let asked = common.plan.sizes[peer] as usize;
            let sent = ecdh::send(&mut session, link, random, common.items, asked, true)?;
            (sent.values, sent.seed)
        }
        false => (prf::answer(common, &mut session, link, random)?, None),
    };
    let sorted = tagger.sorted(&shape, &values);
    tags::write(link, &shape, &sorted)?;
    let mut told = None;
    if common.plan.counts {
        told = Some(common.hear(pipes)?);
        if common.terms.reveal == Reveal::Size {
            return Ok((told, None));
        }
    }
    let link = pipe(pipes, peer)?;
    if let Some(seed) = &seed {
        link.write(&seed[..])?;
        link.flush()?;
    }
    if common.terms.reveal == Reveal::First {
        // Its guard was told; its owner is not.
        return Ok((None, None));
    }
    let places = unpack(&link.bytes(sorted.len().div_ceil(8))?, sorted.len())?;
    if places.len() > most_common(common) {
        return Err(malformed("more common items than one of the sets has"));
    }
    if common.terms.malicious {
        for (at, shown) in places.iter().zip(link.blocks(most_common(common))?) {
            if values[sorted[*at].1 as usize] != shown {
                return Err(cheated("it shows an item without the value that it has there"));
            }
        }
    }
    if told.is_some_and(|told| told != places.len() as u64) {
        return Err(cheated("it shows another number of items than it told"));
    }
    let flags = common.flags(places.iter().map(|at| sorted[*at].1 as usize));
    Ok((Some(places.len() as u64), Some(flags)))
}
