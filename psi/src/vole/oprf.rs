//! The oblivious PRF of Rindal and Raghuraman (RR22, eprint 2022/320).
//!
//! ```text
//!   R: P encodes x ↦ h(x);  U = P + C ──▶   S: K = B + Δ·U = A + Δ·P
//!   R: v(x) = Decode(A, x)                  S: v(y) = Decode(K, y) + Δ·h(y) = Decode(A, y) + Δ·(Decode(P, y) + h(y))
//!   F = AES_{v ⊕ w}(key) ⊕ key
//! ```
//! Both agree on items that R has encoded; elsewhere F looks random to R. S opens w only after all of U is there,
//! where cheating is looked for, so that R cannot fit its encoding to it.
//!
//! **What `malicious` does not bound**: R's number of items. A receiver may choose P so that it decodes rightly at
//! up to about twice as many items as there are cells (Han, Kim, Lee, Son, Asiacrypt 2024).

use privet_core::Reason;
use rayon::prelude::*;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::pipe::{Pipe, cheated, malformed};
use crate::records::{Record, Records};
use crate::scratch::{List, Scratch};
use crate::session::{Random, Session};
use crate::vole::gf128::add_scaled;
use crate::vole::okvs::{self, ATTEMPTS, Failure, Rows, first_of};
use crate::vole::params::Sizes;
use crate::vole::prg::{Permutation, keyed};
use crate::vole::silent::{self, Shape};

/// Values that are worked on together.
const PIECE: usize = 1 << 18;

fn shape(sizes: &Sizes, chunk: usize, bins: u64) -> Shape {
    Shape {
        trees: sizes.trees(bins),
        cells: (bins * sizes.bins.each.cells()) as usize,
        assurance: sizes.assurance,
        malicious: sizes.malicious,
        chunk: chunk as u32,
    }
}

fn commitment(session: &Session, mask: u128) -> [u8; 32] {
    session.transcript("privet/psi/vole/mask/v1").bytes(&mask.to_le_bytes()).finish().0
}

fn rows<'a>(permutation: &'a Permutation, sizes: &Sizes, attempt: u8) -> Rows<'a> {
    Rows { permutation, bin: sizes.bins.each, attempt }
}

/// The last step, of values that were waiting for a mask.
fn masked(
    records: &Records,
    values: &List<2>,
    mask: u128,
    scratch: &Scratch,
) -> Result<List<2>, Reason> {
    let (mut walk, mut reading) = (records.walk(), values.read());
    let mut all = List::new(scratch, values.len());
    loop {
        let mut values = reading.values(PIECE)?;
        if values.is_empty() {
            return Ok(all);
        }
        outputs(&walk.some(values.len())?, &mut values, mask);
        all.extend(&values)?;
    }
}

fn outputs(records: &[Record], values: &mut [u128], mask: u128) {
    values.par_iter_mut().zip(records).with_min_len(1024).for_each(|(value, record)| {
        *value = keyed(*value ^ mask, record.key);
    });
}

/// F at the records of this side, which its peer does not learn.
pub(crate) fn receive(
    session: &mut Session,
    pipe: &mut Pipe<'_>,
    random: &mut Random,
    records: &Records,
    sizes: &Sizes,
    scratch: &Scratch,
) -> Result<List<2>, Reason> {
    let permutation = Permutation::new(session.key("okvs/rows", 0));
    let before = session.clone();
    let committed: Option<[u8; 32]> = if sizes.malicious { Some(pipe.array()?) } else { None };
    committed.iter().for_each(|committed| session.absorb(committed));
    let setup = silent::Receiver::start(session, pipe, random)?;
    let (mut walk, mut all) = (records.walk(), List::new(scratch, records.len()));
    for (chunk, bins) in sizes.chunks().enumerate() {
        let part = walk.bins(bins.clone(), sizes.bins.count, usize::MAX)?;
        let shape = shape(sizes, chunk, bins.end - bins.start);
        let encoded = |attempt| {
            let rows = rows(&permutation, sizes, attempt);
            let of = |bin| {
                let records = &part.all[part.bin(bin)];
                let values: Vec<u128> = records.iter().map(|record| record.value).collect();
                okvs::encode(&rows, records, &values, None)
            };
            let cells: Result<Vec<_>, Failure> = bins.clone().into_par_iter().map(of).collect();
            cells.map(|cells| (attempt, cells))
        };
        // What is encoded waits for nothing of the other side.
        let (pairs, encoded) =
            beside(|| setup.chunk(session, pipe, random, &shape), || first_of(encoded));
        let (pairs, (attempt, cells)) = (pairs?, encoded?);
        pipe.write(&[attempt])?;
        let each = sizes.bins.each.cells() as usize;
        for (cells, pairs) in cells.into_iter().zip(pairs.chunks_exact(each)) {
            let sums: Vec<u128> = cells.iter().zip(pairs).map(|(p, [_, c])| p ^ c).collect();
            pipe.write_blocks(&sums)?;
        }
        pipe.flush()?;
        let a: Zeroizing<Vec<u128>> = Zeroizing::new(pairs.iter().map(|[a, _]| *a).collect());
        drop(pairs);
        let rows = rows(&permutation, sizes, attempt);
        let mut values = Zeroizing::new(vec![0; part.all.len()]);
        part.by_bin(&mut values, |bin, records, out| {
            let at = (bin - bins.start) as usize * each;
            okvs::decode(&rows, &a[at..at + each], records, out);
        });
        if committed.is_none() {
            outputs(&part.all, &mut values, before.key("oprf/mask", 0));
        }
        all.extend(&values)?;
    }
    let Some(committed) = committed else { return Ok(all) };
    let own = random.block();
    pipe.write_blocks(&[own])?;
    let mut theirs = [0];
    pipe.read_blocks(&mut theirs)?;
    if !bool::from(commitment(&before, theirs[0]).ct_eq(&committed)) {
        return Err(cheated("it opened another mask than it had committed to"));
    }
    masked(records, &all, own ^ theirs[0], scratch)
}

/// Work that needs no peer beside work that waits for one.
fn beside<A: Send, B: Send>(a: impl FnOnce() -> A, b: impl FnOnce() -> B + Send) -> (A, B) {
    std::thread::scope(|scope| {
        let b = scope.spawn(b);
        let a = a();
        match b.join() {
            Ok(b) => (a, b),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// F at the records of this side, of which it learns nothing about those of its peer.
pub(crate) fn send(
    session: &mut Session,
    pipe: &mut Pipe<'_>,
    random: &mut Random,
    records: &Records,
    sizes: &Sizes,
    scratch: &Scratch,
) -> Result<List<2>, Reason> {
    let permutation = Permutation::new(session.key("okvs/rows", 0));
    let own = random.block();
    let mask = session.key("oprf/mask", 0);
    if sizes.malicious {
        let committed = commitment(session, own);
        pipe.write(&committed)?;
        session.absorb(&committed);
    }
    let setup = silent::Sender::start(session, pipe, random)?;
    let (mut walk, mut all) = (records.walk(), List::new(scratch, records.len()));
    for (chunk, bins) in sizes.chunks().enumerate() {
        let shape = shape(sizes, chunk, bins.end - bins.start);
        let mut k = setup.chunk(session, pipe, random, &shape)?;
        let [attempt] = pipe.array()?;
        if attempt >= ATTEMPTS {
            return Err(malformed("an attempt beyond the last"));
        }
        let each = sizes.bins.each.cells() as usize;
        let mut sums = vec![0; each];
        for k in k.chunks_exact_mut(each) {
            pipe.read_blocks(&mut sums)?;
            add_scaled(k, *setup.delta, &sums);
        }
        let rows = rows(&permutation, sizes, attempt);
        // Of this side there may be any number in a bin.
        loop {
            let part = walk.bins(bins.clone(), sizes.bins.count, PIECE)?;
            if part.all.is_empty() {
                break;
            }
            let mut values = Zeroizing::new(vec![0; part.all.len()]);
            part.by_bin(&mut values, |bin, records, out| {
                let at = (bin - bins.start) as usize * each;
                okvs::decode(&rows, &k[at..at + each], records, out);
                let asked: Vec<u128> = records.iter().map(|record| record.value).collect();
                add_scaled(out, *setup.delta, &asked);
            });
            if !sizes.malicious {
                outputs(&part.all, &mut values, mask);
            }
            all.extend(&values)?;
        }
    }
    if !sizes.malicious {
        return Ok(all);
    }
    let mut theirs = [0];
    pipe.read_blocks(&mut theirs)?;
    pipe.write_blocks(&[own])?;
    masked(records, &all, own ^ theirs[0], scratch)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use privet_crypto::Digest;

    use super::*;
    use crate::pipe::memory;
    use crate::vole::params::{Assurance, Bin, Bins};

    fn items(range: std::ops::Range<u32>) -> Vec<[u8; 32]> {
        range.map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect()
    }

    /// Values by item, of both sides.
    fn run(x: &[[u8; 32]], y: &[[u8; 32]], sizes: Sizes) -> [BTreeMap<u32, u128>; 2] {
        let (mut a, mut b) = memory::pair();
        let side = |end: &mut memory::End, items: &[[u8; 32]], receives: bool| {
            let mut session = Session::new(&Digest([1; 32]));
            let places: BTreeMap<u128, u32> =
                items.iter().map(|item| Record::of_item(&session, item).key).zip(0..).collect();
            let (mut pipe, mut random) = (Pipe::new(end), Random::from_os().unwrap());
            // Larger sets are in files.
            let scratch = Scratch::new(&std::env::temp_dir(), 5000);
            let records = Records::new(&session, &items, 0, &mut random, &scratch).unwrap();
            let values = match receives {
                true => receive(&mut session, &mut pipe, &mut random, &records, &sizes, &scratch),
                false => send(&mut session, &mut pipe, &mut random, &records, &sizes, &scratch),
            };
            pipe.finish().unwrap();
            let values = values.unwrap().read().values(usize::MAX).unwrap();
            let records = records.walk().some(usize::MAX).unwrap();
            records.iter().map(|record| places[&record.key]).zip(values.iter().copied()).collect()
        };
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| side(&mut a, x, true));
            let sender = scope.spawn(|| side(&mut b, y, false));
            [receiver.join().unwrap(), sender.join().unwrap()]
        })
    }

    #[test]
    fn both_sides_agree_on_what_both_have_and_on_nothing_else() {
        for malicious in [false, true] {
            for (n, m) in [(1, 1), (1000, 700), (70_000, 500)] {
                let sizes = Sizes::of(n.into(), Assurance::Standard, malicious);
                let (x, y) = (items(0..n), items(n / 2..n / 2 + m));
                let [f, g] = run(&x, &y, sizes);
                assert_eq!((f.len() as u32, g.len() as u32), (n, m));
                for (i, value) in &g {
                    let item = n / 2 + i;
                    match f.get(&item) {
                        Some(own) => assert_eq!(own, value),
                        None => assert!(f.values().all(|own| own != value)),
                    }
                }
            }
        }
    }

    /// More than one VOLE, and the careful parameters.
    #[test]
    fn chunks_and_careful_codes_agree_too() {
        let mut sizes = Sizes::of(1 << 16, Assurance::Conservative, false);
        sizes.bins = Bins { count: 40, each: Bin::of(4000, 46.0) };
        assert_eq!(sizes.chunks().count(), 2);
        let x = items(0..1 << 16);
        let [f, g] = run(&x, &x[100..200], sizes);
        assert!((0..100).all(|i| f[&(i + 100)] == g[&i]));
    }

    #[test]
    #[ignore = "measures"]
    fn a_million() {
        let n = 1 << 20;
        let sizes = Sizes::of(n.into(), Assurance::Standard, false);
        let (x, y) = (items(0..n), items(n / 2..n / 2 + n));
        let began = std::time::Instant::now();
        run(&x, &y, sizes);
        println!("{:?}", began.elapsed());
    }
}
