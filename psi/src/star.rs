//! Three sites or more: a leader learns which of its items all others have, and nothing of smaller intersections
//! (Kolesnikov, Matania, Pinkas, Rosulek, Trieu, CCS 2017: zero-sharing, in the augmented semi-honest model).
//!
//! ```text
//!   every pair     a key, so that shares sᵢ(x) of all sites sum to zero at every x
//!   leader – i     OPRF: the leader has Fᵢ of its items, i of its own
//!   i ─▶ leader    Qᵢ, an OKVS of x ↦ sᵢ(x) + Fᵢ(x), random elsewhere
//!   leader         z(x) = s₀(x) + Σ (Qᵢ(x) + Fᵢ(x)): zero where all have x, random elsewhere
//! ```
//! Where the size comes first a first peer, the masker, adds a secret m(x) to its Q, so that z(x) = m(x) where all
//! have x and the leader cannot tell. Masker and leader send hashes of m and of z, sorted, to a second peer, the
//! counter; it learns how many agree and not of what; if all sites allow so many it tells them, and the leader
//! which.
//!
//! **Under collusion**: the leader with some peers learns what it has in common with all the others. The counter
//! with the leader or with the masker learns rows whatever the sites allow. Nobody else learns more than is shown.

use privet_core::Reason;
use privet_core::intersect::{Guard, Reveal};
use privet_crypto::Transcript;
use rayon::prelude::*;
use zeroize::Zeroizing;

use crate::flags::Flags;
use crate::pipe::{Pipe, cheated, malformed};
use crate::prf;
use crate::records::Record;
use crate::run::{Common, Pipes, Shown, pipe};
use crate::scratch::{List, value, words};
use crate::session::{Random, Session, first_half};
use crate::tags::{self, Shape, Tagger};
use crate::terms::extra;
use crate::vole::params::{Bins, tag_bits};
use crate::vole::{ATTEMPTS, Permutation, Prg, Rows, decode, encode, first_of};

/// Records that are worked on together.
const PIECE: usize = 1 << 18;

/// Bins of the OKVS of a peer; all OKVS of the run are priced together.
fn bins(common: &Common<'_>, peer: usize) -> Bins {
    Bins::of(common.plan.sizes[peer], extra(common.plan.sizes.len()))
}

/// Rows of a peer's OKVS.
fn rows<'a>(permutation: &'a Permutation, bins: &Bins, attempt: u8) -> Rows<'a> {
    Rows { permutation, bin: bins.each, attempt }
}

fn row_function(session: &Session) -> Permutation {
    Permutation::new(session.key("star/rows", 0))
}

/// Functions of pairs of sites, whose sum over all sites is zero everywhere.
struct ZeroShare(Vec<Permutation>);

impl ZeroShare {
    /// Agrees on a key with every other site; links are private to their ends.
    fn agree(
        common: &Common<'_>,
        pipes: &mut Pipes<'_>,
        random: &mut Random,
    ) -> Result<Self, Reason> {
        let mut own = Zeroizing::new(Vec::new());
        for pipe in pipes.iter_mut().flatten() {
            let part: [u8; 32] = random.bytes();
            pipe.write(&part)?;
            pipe.flush()?;
            own.push(part);
        }
        let mut functions = Vec::new();
        let peers =
            pipes.iter_mut().enumerate().filter_map(|(at, pipe)| Some((at, pipe.as_mut()?)));
        for ((peer, pipe), own) in peers.zip(own.iter()) {
            let theirs = Zeroizing::new(pipe.array::<32>()?);
            let parts = if common.me < peer { [own, &theirs] } else { [&*theirs, own] };
            let transcript: Transcript = common.with(peer).transcript("privet/psi/zero-share/v1");
            let digest = transcript.bytes(parts[0]).bytes(parts[1]).finish();
            functions.push(Permutation::new(first_half(&digest.0)));
        }
        Ok(Self(functions))
    }

    /// This site's share at records.
    fn at(&self, records: &[Record]) -> Zeroizing<Vec<u128>> {
        let mut sum = Zeroizing::new(vec![0; records.len()]);
        self.0.iter().for_each(|function| add_function(function, records, &mut sum));
        sum
    }
}

/// Adds π(key) ⊕ key of each record.
fn add_function(function: &Permutation, records: &[Record], to: &mut [u128]) {
    let mut keys: Zeroizing<Vec<u128>> =
        Zeroizing::new(records.iter().map(|record| record.key).collect());
    function.apply(&mut keys);
    for ((to, value), record) in to.iter_mut().zip(keys.iter()).zip(records) {
        *to ^= value ^ record.key;
    }
}

pub(crate) fn run(
    common: &Common<'_>,
    guard: &mut dyn Guard,
    pipes: &mut Pipes<'_>,
    random: &mut Random,
) -> Result<Shown, Reason> {
    let shares = ZeroShare::agree(common, pipes, random)?;
    match common.me == common.plan.leader {
        true => lead(common, pipes, random, &shares),
        false => follow(common, guard, pipes, random, &shares),
    }
}

/// What the leader has of a peer.
struct OfPeer {
    peer: usize,
    /// F of the leader's items.
    values: List<2>,
    /// Q + F at them.
    sums: List<2>,
}

fn ask(
    common: &Common<'_>,
    peer: usize,
    link: &mut Pipe<'_>,
    random: &mut Random,
) -> Result<OfPeer, Reason> {
    let Common { records, scratch, .. } = common;
    let mut session = common.with(peer);
    let values = prf::evaluate(common, &mut session, link, random)?;
    let bins = bins(common, peer);
    let permutation = row_function(&common.session);
    let (mut walk, mut reading) = (records.walk(), values.read());
    let mut sums = List::new(scratch, records.len());
    for chunk in bins.chunks() {
        let [attempt] = link.array()?;
        if attempt >= ATTEMPTS {
            return Err(malformed("an attempt beyond the last"));
        }
        let rows = rows(&permutation, &bins, attempt);
        for bin in chunk {
            let cells = link.blocks(bins.each.cells() as usize)?;
            // Of the leader there may be any number in a bin.
            loop {
                let part = walk.bins(bin..bin + 1, bins.count, PIECE)?;
                if part.all.is_empty() {
                    break;
                }
                let mut sum = reading.values(part.all.len())?;
                let mut decoded = Zeroizing::new(vec![0; part.all.len()]);
                part.by_bin(&mut decoded, |_, records, out| decode(&rows, &cells, records, out));
                sum.iter_mut().zip(decoded.iter()).for_each(|(sum, decoded)| *sum ^= decoded);
                sums.extend(&sum)?;
            }
        }
    }
    Ok(OfPeer { peer, values, sums })
}

/// Tags that are counted.
fn counted(common: &Common<'_>, of: usize) -> Shape {
    let sizes = &common.plan.sizes;
    let bits = tag_bits(sizes[common.plan.masker()], sizes[common.plan.leader]);
    Shape { count: sizes[of], bits }
}

/// Tags by which a peer is shown its common items: as many as there can be, so that their number says nothing.
fn shown(common: &Common<'_>, peer: usize) -> Shape {
    let sizes = &common.plan.sizes;
    let count = sizes.iter().copied().min().unwrap_or_default();
    Shape { count, bits: tag_bits(sizes[peer], sizes[common.plan.leader]) }
}

fn lead(
    common: &Common<'_>,
    pipes: &mut Pipes<'_>,
    random: &mut Random,
    shares: &ZeroShare,
) -> Result<Shown, Reason> {
    let answers: Vec<Result<OfPeer, Reason>> = std::thread::scope(|scope| {
        let linked =
            pipes.iter_mut().enumerate().filter_map(|(at, pipe)| Some((at, pipe.as_mut()?)));
        let threads: Vec<_> = linked
            .map(|(peer, link)| {
                scope.spawn(move || ask(common, peer, link, &mut Random::from_os()?))
            })
            .collect();
        let joined = threads.into_iter().map(|thread| thread.join());
        joined
            .map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let answers: Vec<OfPeer> = answers.into_iter().collect::<Result<_, _>>()?;
    let Common { records, scratch, .. } = common;
    let mut z = List::new(scratch, records.len());
    let (mut walk, mut sums): (_, Vec<_>) =
        (records.walk(), answers.iter().map(|answer| answer.sums.read()).collect());
    loop {
        let records = walk.some(PIECE)?;
        if records.is_empty() {
            break;
        }
        let mut all = shares.at(&records);
        for sums in &mut sums {
            let sum = sums.values(records.len())?;
            all.iter_mut().zip(sum.iter()).for_each(|(z, sum)| *z ^= sum);
        }
        z.extend(&all)?;
    }
    let mut places = Flags::new(records.len());
    if !common.plan.counts {
        let (mut z, mut place) = (z.read(), 0);
        while let Some(sum) = z.next()? {
            if sum == [0; 2] {
                places.set(place);
            }
            place += 1;
        }
    } else {
        let shape = counted(common, common.me);
        let sorted = Tagger::new(&common.session).sorted::<3>(&shape, &z, scratch)?;
        tags::write(pipe(pipes, common.plan.counter)?, &shape, &sorted)?;
        let size = common.hear(pipes)?;
        if common.terms.reveal == Reveal::Size {
            return Ok((Some(size), None));
        }
        let link = pipe(pipes, common.plan.counter)?;
        let told = Flags::from_bytes(link.bytes(sorted.len().div_ceil(8) as usize)?, sorted.len())
            .ok_or_else(|| malformed("a bit beyond the last place"))?;
        let (mut walk, mut at) = (sorted.walk(), 0);
        while let Some([.., place]) = walk.next()? {
            if told.get(at) {
                places.set(place);
            }
            at += 1;
        }
    }
    let size = places.count();
    if common.terms.reveal == Reveal::All {
        for OfPeer { peer, values, .. } in &answers {
            let shape = shown(common, *peer);
            let mut told = List::new(scratch, shape.count);
            let (mut reading, mut place) = (values.read(), 0);
            while let Some(value) = reading.next()? {
                if places.get(place) {
                    told.push(value)?;
                }
                place += 1;
            }
            // As rare to be taken for an item as any other item's.
            for _ in size..shape.count {
                told.push(words(random.block()))?;
            }
            let session = common.with(*peer);
            let sorted = Tagger::new(&session).sorted::<3>(&shape, &told, scratch)?;
            let link = pipe(pipes, *peer)?;
            link.write(&size.to_le_bytes())?;
            tags::write(link, &shape, &sorted)?;
        }
    }
    Ok((Some(size), Some(records.items(&places)?)))
}

fn follow(
    common: &Common<'_>,
    guard: &mut dyn Guard,
    pipes: &mut Pipes<'_>,
    random: &mut Random,
    shares: &ZeroShare,
) -> Result<Shown, Reason> {
    let leader = common.plan.leader;
    let mut session = common.with(leader);
    let tagger = Tagger::new(&session);
    let values = prf::answer(common, &mut session, pipe(pipes, leader)?, random)?;

    let Common { records, scratch, .. } = common;
    let bins = bins(common, common.me);
    let (permutation, free) = (row_function(&common.session), Prg::new(random.block()));
    let mask = (common.plan.counts && common.me == common.plan.masker())
        .then(|| Permutation::new(random.block()));
    let mut masks = List::new(scratch, if mask.is_some() { records.len() } else { 0 });
    let (mut walk, mut reading) = (records.walk(), values.read());
    for chunk in bins.chunks() {
        let part = walk.bins(chunk.clone(), bins.count, usize::MAX)?;
        let mut programmed = shares.at(&part.all);
        let own = reading.values(part.all.len())?;
        programmed.iter_mut().zip(own.iter()).for_each(|(sum, value)| *sum ^= value);
        if let Some(mask) = &mask {
            let mut all = Zeroizing::new(vec![0; part.all.len()]);
            add_function(mask, &part.all, &mut all);
            programmed.iter_mut().zip(all.iter()).for_each(|(sum, mask)| *sum ^= mask);
            masks.extend(&all)?;
        }
        let (attempt, cells) = first_of(|attempt| {
            let rows = rows(&permutation, &bins, attempt);
            let of = |bin: u64| {
                let at = part.bin(bin);
                let free = (&free, u32::from(attempt) << 24 | bin as u32);
                encode(&rows, &part.all[at.clone()], &programmed[at], Some(free))
            };
            let cells: Result<Vec<_>, _> = chunk.clone().into_par_iter().map(of).collect();
            cells.map(|cells| (attempt, cells))
        })?;
        let link = pipe(pipes, leader)?;
        link.write(&[attempt])?;
        cells.iter().try_for_each(|cells| link.write_blocks(cells))?;
    }
    pipe(pipes, leader)?.flush()?;

    let mut told = None;
    if common.plan.counts {
        if mask.is_some() {
            let shape = counted(common, common.me);
            let sorted = Tagger::new(&common.session).sorted::<3>(&shape, &masks, scratch)?;
            tags::write(pipe(pipes, common.plan.counter)?, &shape, &sorted)?;
        }
        let size = match common.me == common.plan.counter {
            true => count(common, guard, pipes)?,
            false => common.hear(pipes)?,
        };
        if common.terms.reveal == Reveal::Size {
            return Ok((Some(size), None));
        }
        told = Some(size);
    }
    if common.terms.reveal == Reveal::First {
        return Ok((None, None));
    }
    let link = pipe(pipes, leader)?;
    let count = u64::from_le_bytes(link.array()?);
    let shape = shown(common, common.me);
    let own = tagger.sorted::<3>(&shape, &values, scratch)?;
    let mut places = Flags::new(records.len());
    tags::matches(&own, &shape, tags::read(link, &shape), |[.., place], _| {
        places.set(*place);
        Ok(())
    })?;
    if count != places.count() || told.is_some_and(|told| told != count) {
        return Err(cheated("it shows another number of items than it tells"));
    }
    Ok((Some(count), Some(records.items(&places)?)))
}

/// Counts for all, and tells the leader which if all sites allow so many.
fn count(common: &Common<'_>, guard: &mut dyn Guard, pipes: &mut Pipes<'_>) -> Result<u64, Reason> {
    let (masker, leader) = (common.plan.masker(), common.plan.leader);
    let masks = tags::read(pipe(pipes, masker)?, &counted(common, masker)).all(&common.scratch)?;
    let shape = counted(common, leader);
    let mut sums = tags::read(pipe(pipes, leader)?, &shape);
    let mut masks = masks.read();
    let mut found = Flags::new(shape.count);
    let mut mask = masks.next()?;
    let mut at = 0;
    while let Some(sum) = sums.next()? {
        while mask.is_some_and(|[high, low]| value(high, low) < sum) {
            mask = masks.next()?;
        }
        if mask.is_some_and(|[high, low]| value(high, low) == sum) {
            found.set(at);
        }
        at += 1;
    }
    drop(sums);
    let size = common.tell(guard, found.count(), pipes.iter_mut().flatten())?;
    if common.terms.reveal != Reveal::Size {
        let link = pipe(pipes, leader)?;
        link.write(found.as_bytes())?;
        link.flush()?;
    }
    Ok(size)
}
