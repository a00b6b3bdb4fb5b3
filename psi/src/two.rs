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
use privet_core::intersect::{Guard, Reveal};

use crate::ecdh;
use crate::flags::Flags;
use crate::pipe::{cheated, malformed};
use crate::prf;
use crate::run::{Common, Pipes, Shown, pipe};
use crate::scratch::{List, value};
use crate::session::Random;
use crate::tags::{self, Shape, Tagger};
use crate::vole::params::{COMPUTATIONAL, tag_bits};

/// Tags with the places of their values.
const PLACED: usize = 3;
/// With the values too, which are shown where cheating is looked for: a value cannot be made up from its tag.
const VALUED: usize = 5;

pub(crate) fn run(
    common: &Common<'_>,
    guard: &mut dyn Guard,
    pipes: &mut Pipes<'_>,
    random: &mut Random,
) -> Result<Shown, Reason> {
    match (common.me == common.plan.leader, common.terms.malicious) {
        (true, false) => evaluate::<PLACED>(common, guard, pipes, random),
        (true, true) => evaluate::<VALUED>(common, guard, pipes, random),
        (false, false) => answer::<PLACED>(common, pipes, random),
        (false, true) => answer::<VALUED>(common, pipes, random),
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

/// The side that compares.
fn evaluate<const W: usize>(
    common: &Common<'_>,
    guard: &mut dyn Guard,
    pipes: &mut Pipes<'_>,
    random: &mut Random,
) -> Result<Shown, Reason> {
    let Common { records, scratch, .. } = common;
    let peer = 1 - common.me;
    let mut session = common.with(peer);
    let (tagger, shape) = (Tagger::new(&session), shape(common));
    let link = pipe(pipes, peer)?;
    let (values, shuffled) = match common.plan.counts {
        true => {
            let received = ecdh::receive(&mut session, link, random, records, true, scratch)?;
            (received.values, received.shuffled)
        }
        false => (prf::evaluate(common, &mut session, link, random)?, None),
    };
    let own = tagger.sorted::<W>(&shape, &values, scratch)?;
    drop(values);
    let (mut places, mut theirs) = (Flags::new(records.len()), Flags::new(shape.count));
    let mut values = List::<2>::new(scratch, 0);
    // Found in the order of the tags.
    tags::matches(&own, &shape, tags::read(link, &shape), |row, at| {
        places.set(row[2]);
        theirs.set(at);
        if let [high, low] = row[3..] {
            values.push([high, low])?;
        }
        Ok(())
    })?;
    let size = places.count();
    if common.plan.counts {
        let told = common.tell(guard, size, std::iter::once(link))?;
        if common.terms.reveal == Reveal::Size {
            return Ok((Some(told), None));
        }
    }
    let link = pipe(pipes, peer)?;
    if let Some(shuffled) = shuffled {
        let order = shuffled.order(&link.array()?)?;
        let (mut walk, mut answered) = (order.walk(), 0);
        let in_order = std::mem::replace(&mut places, Flags::new(records.len()));
        while let Some([.., place]) = walk.next()? {
            if in_order.get(answered) {
                places.set(place);
            }
            answered += 1;
        }
    }
    if common.terms.reveal == Reveal::All {
        link.write(theirs.as_bytes())?;
        if common.terms.malicious {
            // As many blocks as there can be: their number says nothing.
            let mut shown = values.read();
            for _ in 0..common.most_common() {
                let block = shown.next()?.map(|[high, low]| value(high, low));
                link.write_blocks(&[block.unwrap_or_else(|| random.block())])?;
            }
        }
        link.flush()?;
    }
    Ok((Some(size), Some(records.items(&places)?)))
}

/// The side whose PRF it is.
fn answer<const W: usize>(
    common: &Common<'_>,
    pipes: &mut Pipes<'_>,
    random: &mut Random,
) -> Result<Shown, Reason> {
    let Common { records, scratch, .. } = common;
    let peer = 1 - common.me;
    let mut session = common.with(peer);
    let (tagger, shape) = (Tagger::new(&session), shape(common));
    let link = pipe(pipes, peer)?;
    let (values, seed) = match common.plan.counts {
        true => {
            let asked = common.plan.sizes[peer];
            let sent = ecdh::send(&mut session, link, random, records, asked, true, scratch)?;
            (sent.values, sent.seed)
        }
        false => (prf::answer(common, &mut session, link, random)?, None),
    };
    let own = tagger.sorted::<W>(&shape, &values, scratch)?;
    drop(values);
    tags::write(link, &shape, &own)?;
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
    let bytes = link.bytes(own.len().div_ceil(8) as usize)?;
    let shown = Flags::from_bytes(bytes, own.len())
        .ok_or_else(|| malformed("a bit beyond the last place"))?;
    if shown.count() > common.most_common() {
        return Err(malformed("more common items than one of the sets has"));
    }
    if told.is_some_and(|told| told != shown.count()) {
        return Err(cheated("it shows another number of items than it told"));
    }
    let (mut walk, mut places, mut at) = (own.walk(), Flags::new(records.len()), 0);
    while let Some(row) = walk.next()? {
        if shown.get(at) {
            if let [high, low] = row[3..]
                && link.blocks(1)? != [value(high, low)]
            {
                return Err(cheated("it shows an item without the value that it has there"));
            }
            places.set(row[2]);
        }
        at += 1;
    }
    if common.terms.malicious {
        for _ in shown.count()..common.most_common() {
            link.blocks(1)?;
        }
    }
    Ok((Some(shown.count()), Some(records.items(&places)?)))
}
