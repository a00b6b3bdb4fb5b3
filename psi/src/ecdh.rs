//! An oblivious PRF on ristretto255, for small sets and for counting before showing.
//!
//! ```text
//!   R: a·H(x) for each x ──▶   S: k·(a·H(x)), in R's order or shuffled ──▶   R: a⁻¹·k·a·H(x) = k·H(x)
//!   F(x) = the first half of Finalize(x, k·H(x))                 (RFC 9497, mode OPRF, ristretto255-SHA512)
//! ```
//! Shuffled, R learns how many of its items S has and not which; the seed of the shuffle, which S has committed
//! to, tells it later. One blind serves all items of a session: equal items are removed before, and a·H(x) of
//! different items look independent (DDH).

use curve25519_dalek::ristretto::CompressedRistretto;
use curve25519_dalek::{RistrettoPoint, Scalar};
use privet_core::Reason;
use privet_crypto::{Seed, Words};
use rayon::prelude::*;
use sha2::{Digest as _, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::group::{point, scalar};
use crate::pipe::{Pipe, cheated};
use crate::records::{Record, Records};
use crate::scratch::{List, Row, Scratch, Sorted, Sorter};
use crate::session::{Random, Session};

/// Points that are encoded together: one inversion for all of them.
const BATCH: usize = 256;
/// Points that are read before they are worked on.
const READ: usize = 4096;

/// A point as it is sent.
type Element = [u8; 32];

/// RFC 9497, section 4.1: hash_to_ristretto255 with expand_message_xmd (RFC 9380, section 5.3.1) and SHA-512.
fn hash_to_group(input: &[u8], dst: &[u8]) -> RistrettoPoint {
    let suffix = [dst.len() as u8];
    let first = Sha512::new()
        .chain_update([0; 128])
        .chain_update(input)
        .chain_update([0, 64, 0])
        .chain_update(dst)
        .chain_update(suffix)
        .finalize();
    let uniform =
        Sha512::new().chain_update(first).chain_update([1]).chain_update(dst).chain_update(suffix);
    RistrettoPoint::from_uniform_bytes(&uniform.finalize().into())
}

/// RFC 9497, section 3.3.1.
fn finalize(input: &[u8], element: &Element) -> [u8; 64] {
    Sha512::new()
        .chain_update((input.len() as u16).to_be_bytes())
        .chain_update(input)
        .chain_update(32u16.to_be_bytes())
        .chain_update(element)
        .chain_update(b"Finalize")
        .finalize()
        .into()
}

fn value(input: &[u8], element: &Element) -> u128 {
    let output = finalize(input, element);
    output.iter().take(16).rev().fold(0, |value, &byte| value << 8 | u128::from(byte))
}

/// The domain of a session's hashes to the group.
fn domain(session: &Session) -> Vec<u8> {
    let suite = b"HashToGroup-OPRFV1-\x00-ristretto255-SHA512";
    [&suite[..], b"-privet/psi/v1-", &session.derive("ecdh/domain", 0)].concat()
}

/// A scalar, and its half: points times the half are doubled as they are encoded, which saves an inversion.
struct Factor {
    half: Zeroizing<Scalar>,
}

impl Factor {
    fn new(scalar: Scalar) -> Self {
        Self { half: Zeroizing::new(scalar.div_by_2()) }
    }

    fn of(&self, points: &[RistrettoPoint]) -> Vec<Element> {
        let halves: Vec<RistrettoPoint> = points.iter().map(|point| point * *self.half).collect();
        let encoded = RistrettoPoint::double_and_compress_batch(&halves);
        encoded.into_iter().map(|point: CompressedRistretto| point.0).collect()
    }
}

/// Points of items under a factor.
fn elements(records: &[Record], domain: &[u8], factor: &Factor) -> Vec<Element> {
    let of = |records: &[Record]| {
        let hash = |record: &Record| hash_to_group(&record.bytes(), domain);
        factor.of(&records.iter().map(hash).collect::<Vec<_>>())
    };
    records.par_chunks(BATCH).flat_map_iter(of).collect()
}

/// Points of a peer under a factor.
fn raised(bytes: &[u8], factor: &Factor) -> Result<Vec<Element>, Reason> {
    let of = |bytes: &[u8]| {
        let points: Vec<_> = bytes
            .chunks_exact(32)
            .map(|bytes| point(bytes).map(|(_, point)| point))
            .collect::<Result<_, _>>()?;
        Ok(factor.of(&points))
    };
    let parts: Vec<Vec<_>> = bytes.par_chunks(32 * BATCH).map(of).collect::<Result<_, Reason>>()?;
    Ok(parts.concat())
}

/// Sorts what is answered by a random block for each: the order in which it is answered.
struct Shuffle<const W: usize> {
    // Both sites draw: not by the cipher that a processor is best at.
    draws: Words,
    sorter: Sorter<W>,
}

impl<const W: usize> Shuffle<W> {
    fn new(seed: &[u8; 32], count: u64, scratch: &Scratch) -> Self {
        let draws = Words::chacha(&Seed::from_bytes(*seed));
        Self { draws, sorter: Sorter::new(scratch, count) }
    }

    /// Takes the next one; its first two words are drawn here.
    fn push(&mut self, mut row: Row<W>) -> Result<(), Reason> {
        row[0] = self.draws.word();
        row[1] = self.draws.word();
        Ok(self.sorter.push(row)?)
    }
}

fn commitment(session: &Session, seed: &[u8; 32]) -> [u8; 32] {
    session.transcript("privet/psi/ecdh/shuffle/v1").bytes(seed).finish().0
}

/// What a receiver learnt.
pub(crate) struct Received {
    /// F of its items, in the order in which they were answered.
    pub(crate) values: List<2>,
    /// Where the sender shuffled.
    pub(crate) shuffled: Option<Shuffled>,
}

/// An order that a sender has committed to.
pub(crate) struct Shuffled {
    count: u64,
    committed: [u8; 32],
    /// As it was before.
    session: Session,
    scratch: Scratch,
}

impl Shuffled {
    /// The place in this side's set of each value, as the last word of its row, from the opened seed.
    pub(crate) fn order(&self, seed: &[u8; 32]) -> Result<Sorted<3>, Reason> {
        if !bool::from(self.committed.ct_eq(&commitment(&self.session, seed))) {
            return Err(cheated("it opened another order than it had committed to"));
        }
        let mut shuffle = Shuffle::new(seed, self.count, &self.scratch);
        (0..self.count).try_for_each(|place| shuffle.push([0, 0, place]))?;
        Ok(shuffle.sorter.finish())
    }
}

/// F of an item and its element; of the element alone where a shuffle hides whose it is.
fn input(shuffled: bool, (record, element): (&Record, &Element)) -> u128 {
    value(&if shuffled { [0; 32] } else { record.bytes() }, element)
}

/// Sends a request and reads the answer.
pub(crate) fn receive(
    session: &mut Session,
    pipe: &mut Pipe<'_>,
    random: &mut Random,
    records: &Records,
    shuffled: bool,
    scratch: &Scratch,
) -> Result<Received, Reason> {
    let domain = domain(session);
    let blind = Zeroizing::new(scalar(random));
    let (blinding, unblinding) = (Factor::new(*blind), Factor::new(blind.invert()));
    let mut walk = records.walk();
    loop {
        let records = walk.some(READ)?;
        if records.is_empty() {
            break;
        }
        pipe.write(elements(&records, &domain, &blinding).as_flattened())?;
    }
    let committed = if shuffled { Some(pipe.array()?) } else { None };
    let (mut walk, mut values) = (records.walk(), List::new(scratch, records.len()));
    loop {
        let records = walk.some(READ)?;
        if records.is_empty() {
            break;
        }
        let points = raised(&pipe.bytes(32 * records.len())?, &unblinding)?;
        let all: Vec<u128> =
            records.par_iter().zip(&points).map(|pair| input(shuffled, pair)).collect();
        values.extend(&Zeroizing::new(all))?;
    }
    let shuffled = committed.map(|committed| {
        let (before, scratch) = (session.clone(), scratch.clone());
        session.absorb(&committed);
        Shuffled { count: records.len(), committed, session: before, scratch }
    });
    Ok(Received { values, shuffled })
}

/// What a sender keeps.
pub(crate) struct Sent {
    /// F of its items, in their order.
    pub(crate) values: List<2>,
    /// The order in which it answered, where it shuffled.
    pub(crate) seed: Option<Zeroizing<[u8; 32]>>,
}

/// Answers a request of so many points.
pub(crate) fn send(
    session: &mut Session,
    pipe: &mut Pipe<'_>,
    random: &mut Random,
    records: &Records,
    asked: u64,
    shuffled: bool,
    scratch: &Scratch,
) -> Result<Sent, Reason> {
    let domain = domain(session);
    let factor = Factor::new(scalar(random));
    let (mut walk, mut values) = (records.walk(), List::new(scratch, records.len()));
    loop {
        let records = walk.some(READ)?;
        if records.is_empty() {
            break;
        }
        let elements = elements(&records, &domain, &factor);
        let all: Vec<u128> =
            records.par_iter().zip(&elements).map(|pair| input(shuffled, pair)).collect();
        values.extend(&Zeroizing::new(all))?;
    }
    // Grows as points come, however many were announced: nothing is made room for before.
    let seed = shuffled.then(|| Zeroizing::new(random.bytes::<32>()));
    let mut plain = List::<4>::new(scratch, 0);
    let mut shuffle = seed.as_ref().map(|seed| Shuffle::<6>::new(seed, 0, scratch));
    let mut at = 0;
    while at < asked {
        let count = (READ as u64).min(asked - at);
        at += count;
        for element in raised(&pipe.bytes(32 * count as usize)?, &factor)? {
            let [a, b, c, d] = bytemuck::cast(element);
            match &mut shuffle {
                Some(shuffle) => shuffle.push([0, 0, a, b, c, d])?,
                None => plain.push([a, b, c, d])?,
            }
        }
    }
    // All is read before anything is answered: two that only write would wait for each other.
    if let Some(seed) = &seed {
        let committed = commitment(session, seed);
        pipe.write(&committed)?;
        session.absorb(&committed);
    }
    if let Some(shuffle) = shuffle {
        let sorted = shuffle.sorter.finish();
        let mut walk = sorted.walk();
        while let Some([_, _, element @ ..]) = walk.next()? {
            pipe.write(bytemuck::bytes_of(&element))?;
        }
    } else {
        let mut reading = plain.read();
        while let Some(element) = reading.next()? {
            pipe.write(bytemuck::bytes_of(&element))?;
        }
    }
    pipe.flush()?;
    Ok(Sent { values, seed })
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use privet_core::Code;
    use privet_core::channel::Link;
    use privet_crypto::Digest;

    use super::*;
    use crate::pipe::memory;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
        hex.as_bytes().as_chunks::<2>().0.iter().map(|[a, b]| digit(*a) << 4 | digit(*b)).collect()
    }

    fn scalar(hex: &str) -> Scalar {
        Scalar::from_canonical_bytes(bytes(hex).try_into().unwrap()).unwrap()
    }

    /// RFC 9497, appendix A.1.1, both vectors.
    #[test]
    fn the_vectors_of_the_rfc() {
        let key =
            Factor::new(scalar("5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e"));
        let domain = b"HashToGroup-OPRFV1-\x00-ristretto255-SHA512";
        let blind = scalar("64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706");
        for (input, blinded, evaluated, output) in [
            (
                "00",
                "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c",
                "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e",
                "527759c3d9366f277d8c6020418d96bb393ba2afb20ff90df23fb7708264e2f3ab9135e3bd69955851de4\
                 b1f9fe8a0973396719b7912ba9ee8aa7d0b5e24bcf6",
            ),
            (
                "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a",
                "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418",
                "b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25",
                "f4a74c9c592497375e796aa837e907b1a045d34306a749db9f34221f7e750cb4f2a6413a6bf6fa5e19ba63\
                 48eb673934a722a7ede2e7621306d18951e7cf2c73",
            ),
        ] {
            let input = bytes(input);
            let point = hash_to_group(&input, domain);
            let sent = Factor::new(blind).of(&[point]);
            assert_eq!(sent[0].to_vec(), bytes(blinded));
            let answer = raised(sent.as_flattened(), &key).unwrap();
            assert_eq!(answer[0].to_vec(), bytes(evaluated));
            let element = raised(answer.as_flattened(), &Factor::new(blind.invert())).unwrap();
            assert_eq!(finalize(&input, &element[0]).to_vec(), bytes(output));
        }
    }

    fn scratch() -> Scratch {
        Scratch::new(&std::env::temp_dir(), 1000)
    }

    fn records(session: &Session, range: std::ops::Range<u32>) -> Records {
        let items: Vec<[u8; 32]> =
            range.map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect();
        Records::new(session, &&items[..], 0, &mut Random::known(1), &scratch()).unwrap()
    }

    /// By the key of a record: its place and value.
    fn by_key(records: &Records, values: &List<2>) -> BTreeMap<u128, (usize, u128)> {
        let values = values.read().values(usize::MAX).unwrap();
        let records = records.walk().some(usize::MAX).unwrap();
        let all = records.iter().zip(values.iter()).enumerate();
        all.map(|(place, (record, value))| (record.key, (place, *value))).collect()
    }

    struct Run {
        x: Records,
        y: Records,
        received: Received,
        sent: Sent,
    }

    fn run(x: std::ops::Range<u32>, y: std::ops::Range<u32>, shuffled: bool) -> Run {
        let (mut a, mut b) = memory::pair();
        let start = || Session::new(&Digest([1; 32]));
        let (x, y) = (records(&start(), x), records(&start(), y));
        let (received, sent) = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let (mut pipe, mut session) = (Pipe::new(&mut a), start());
                let mut random = Random::from_os().unwrap();
                let received =
                    receive(&mut session, &mut pipe, &mut random, &x, shuffled, &scratch());
                pipe.finish().unwrap();
                received.unwrap()
            });
            let sender = scope.spawn(|| {
                let (mut pipe, mut session) = (Pipe::new(&mut b), start());
                let mut random = Random::from_os().unwrap();
                let asked = x.len();
                let sent =
                    send(&mut session, &mut pipe, &mut random, &y, asked, shuffled, &scratch());
                pipe.finish().unwrap();
                sent.unwrap()
            });
            (receiver.join().unwrap(), sender.join().unwrap())
        });
        Run { x, y, received, sent }
    }

    #[test]
    fn both_sides_agree_on_what_both_have_and_on_nothing_else() {
        let Run { x, y, received, sent } = run(0..5000, 4900..5300, false);
        let (own, other) = (by_key(&x, &received.values), by_key(&y, &sent.values));
        assert_eq!((own.len(), other.len()), (5000, 400));
        let mut common = 0;
        for (key, (_, value)) in &other {
            let equal: Vec<u128> =
                own.iter().filter(|(_, (_, own))| own == value).map(|(key, _)| *key).collect();
            common += equal.len();
            assert_eq!(equal, own.get(key).map(|_| *key).into_iter().collect::<Vec<_>>());
        }
        assert_eq!(common, 100);
    }

    /// Shuffled, a receiver counts; the opened seed tells which, and no other seed opens.
    #[test]
    fn a_shuffle_hides_which_until_it_is_opened() {
        for count in [300, 2000] {
            let Run { x, y, received, sent } = run(0..count, 0..100, true);
            let theirs: BTreeSet<u128> =
                by_key(&y, &sent.values).values().map(|(_, value)| *value).collect();
            let values = received.values.read().values(usize::MAX).unwrap();
            assert_eq!(values.iter().filter(|value| theirs.contains(value)).count(), 100);
            let seed = **sent.seed.as_ref().unwrap();
            let shuffled = received.shuffled.as_ref().unwrap();
            let order = shuffled.order(&seed).unwrap();
            let (mut walk, mut moved) = (order.walk(), 0);
            let keys: BTreeSet<u128> =
                y.walk().some(100).unwrap().iter().map(|record| record.key).collect();
            let own = x.walk().some(count as usize).unwrap();
            for (at, value) in values.iter().enumerate() {
                let [_, _, place] = walk.next().unwrap().unwrap();
                moved += u32::from(place != at as u64);
                assert_eq!(theirs.contains(value), keys.contains(&own[place as usize].key));
            }
            assert!(moved > count * 9 / 10);
            let other = shuffled.order(&[7; 32]).map(drop).unwrap_err();
            assert_eq!(other.code, Code::PeerCheated);
        }
    }

    #[test]
    fn bad_points_are_refused() {
        for bad in [[0; 32], [0xff; 32], {
            // Not the one form of its point: the encoding plus the field's prime.
            let mut bytes = [0xff; 32];
            bytes[0] = 0xf3;
            bytes[31] = 0x7f;
            bytes
        }] {
            let (mut a, mut b) = memory::pair();
            a.send(bad.to_vec()).unwrap();
            let mut random = Random::from_os().unwrap();
            let mut session = Session::new(&Digest([1; 32]));
            let none = records(&session, 0..0);
            let mut pipe = Pipe::new(&mut b);
            let sent = send(&mut session, &mut pipe, &mut random, &none, 1, false, &scratch());
            assert_eq!(sent.map(drop).unwrap_err().code, Code::Malformed);
        }
    }

    #[test]
    fn an_order_holds_every_place_once() {
        let order = |seed: u8| {
            let mut shuffle = Shuffle::<3>::new(&[seed; 32], 0, &scratch());
            (0..1500).for_each(|place| shuffle.push([0, 0, place]).unwrap());
            let sorted = shuffle.sorter.finish();
            let mut walk = sorted.walk();
            std::iter::from_fn(|| walk.next().unwrap()).map(|row| row[2]).collect::<Vec<u64>>()
        };
        let mut one = order(3);
        assert_ne!(one, order(4));
        assert_eq!(one, order(3));
        assert_eq!(one[..4], [834, 176, 1009, 1076]);
        one.sort_unstable();
        assert!(one.into_iter().eq(0..1500));
    }
}
