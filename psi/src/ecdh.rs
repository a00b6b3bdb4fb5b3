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
use crate::records::Item;
use crate::session::{Random, Session, scaled};

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

fn value(item: &Item, element: &Element) -> u128 {
    let output = finalize(item, element);
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
fn elements(items: &[Item], domain: &[u8], factor: &Factor) -> Vec<Element> {
    let of = |items: &[Item]| {
        let points: Vec<_> = items.iter().map(|item| hash_to_group(item, domain)).collect();
        factor.of(&points)
    };
    items.par_chunks(BATCH).flat_map_iter(of).collect()
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

/// The order in which a sender answers.
fn shuffle(seed: &[u8; 32], len: usize) -> Vec<u32> {
    // Both sites draw it: not by the cipher that a processor is best at.
    let mut words = Words::chacha(&Seed::from_bytes(*seed));
    let mut order: Vec<u32> = (0..len as u32).collect();
    for i in (1..len).rev() {
        // The bias is below 2^-32.
        let j = scaled(words.word(), i as u64 + 1) as usize;
        order.swap(i, j);
    }
    order
}

fn commitment(session: &Session, seed: &[u8; 32]) -> [u8; 32] {
    session.transcript("privet/psi/ecdh/shuffle/v1").bytes(seed).finish().0
}

/// What a receiver learnt.
pub(crate) struct Received {
    /// F of its items, in the order in which they were answered.
    pub(crate) values: Zeroizing<Vec<u128>>,
    /// Where the sender shuffled.
    pub(crate) shuffled: Option<Shuffled>,
}

/// An order that a sender has committed to.
pub(crate) struct Shuffled {
    count: usize,
    committed: [u8; 32],
    /// As it was before.
    session: Session,
}

impl Shuffled {
    /// The place in this side's set of each value, from the opened seed.
    pub(crate) fn order(&self, seed: &[u8; 32]) -> Result<Vec<u32>, Reason> {
        match self.committed.ct_eq(&commitment(&self.session, seed)).into() {
            true => Ok(shuffle(seed, self.count)),
            false => Err(cheated("it opened another order than it had committed to")),
        }
    }
}

/// F of an item and its element; of the element alone where a shuffle hides whose it is.
fn input(shuffled: bool, (item, element): (&Item, &Element)) -> u128 {
    value(if shuffled { &[0; 32] } else { item }, element)
}

/// Sends a request and reads the answer.
pub(crate) fn receive(
    session: &mut Session,
    pipe: &mut Pipe<'_>,
    random: &mut Random,
    items: &[Item],
    shuffled: bool,
) -> Result<Received, Reason> {
    let domain = domain(session);
    let blind = Zeroizing::new(scalar(random));
    let (blinding, unblinding) = (Factor::new(*blind), Factor::new(blind.invert()));
    for items in items.chunks(READ) {
        pipe.write(elements(items, &domain, &blinding).as_flattened())?;
    }
    let committed = if shuffled { Some(pipe.array()?) } else { None };
    let mut values = Zeroizing::new(Vec::with_capacity(items.len()));
    for items in items.chunks(READ) {
        let points = raised(&pipe.bytes(32 * items.len())?, &unblinding)?;
        values.par_extend(items.par_iter().zip(&points).map(|pair| input(shuffled, pair)));
    }
    let shuffled = committed.map(|committed| {
        let before = session.clone();
        session.absorb(&committed);
        Shuffled { count: items.len(), committed, session: before }
    });
    Ok(Received { values, shuffled })
}

/// What a sender keeps.
pub(crate) struct Sent {
    /// F of its items, in their order.
    pub(crate) values: Zeroizing<Vec<u128>>,
    /// The order in which it answered, where it shuffled.
    pub(crate) seed: Option<Zeroizing<[u8; 32]>>,
}

/// Answers a request of so many points.
pub(crate) fn send(
    session: &mut Session,
    pipe: &mut Pipe<'_>,
    random: &mut Random,
    items: &[Item],
    asked: usize,
    shuffled: bool,
) -> Result<Sent, Reason> {
    let domain = domain(session);
    let factor = Factor::new(scalar(random));
    let mut values = Zeroizing::new(Vec::with_capacity(items.len()));
    for items in items.chunks(READ) {
        let elements = elements(items, &domain, &factor);
        values.par_extend(items.par_iter().zip(&elements).map(|pair| input(shuffled, pair)));
    }
    // Grows as points come, however many were announced.
    let mut answers: Vec<Element> = Vec::new();
    for at in (0..asked).step_by(READ) {
        let bytes = pipe.bytes(32 * READ.min(asked - at))?;
        answers.extend(raised(&bytes, &factor)?);
    }
    // All is read before anything is answered: two that only write would wait for each other.
    let seed = shuffled.then(|| Zeroizing::new(random.bytes::<32>()));
    if let Some(seed) = &seed {
        let committed = commitment(session, seed);
        pipe.write(&committed)?;
        session.absorb(&committed);
        answers = shuffle(seed, asked).into_iter().map(|place| answers[place as usize]).collect();
    }
    pipe.write(answers.as_flattened())?;
    pipe.flush()?;
    Ok(Sent { values, seed })
}

#[cfg(test)]
mod tests {
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

    fn items(range: std::ops::Range<u32>) -> Vec<Item> {
        range.map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect()
    }

    fn run(x: &[Item], y: &[Item], shuffled: bool) -> (Received, Sent) {
        let (mut a, mut b) = memory::pair();
        let start = || Session::new(&Digest([1; 32]));
        std::thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                let (mut pipe, mut session) = (Pipe::new(&mut a), start());
                let mut random = Random::from_os().unwrap();
                let received = receive(&mut session, &mut pipe, &mut random, x, shuffled);
                pipe.finish().unwrap();
                received.unwrap()
            });
            let sender = scope.spawn(|| {
                let (mut pipe, mut session) = (Pipe::new(&mut b), start());
                let mut random = Random::from_os().unwrap();
                let sent = send(&mut session, &mut pipe, &mut random, y, x.len(), shuffled);
                pipe.finish().unwrap();
                sent.unwrap()
            });
            (receiver.join().unwrap(), sender.join().unwrap())
        })
    }

    #[test]
    fn both_sides_agree_on_what_both_have_and_on_nothing_else() {
        let (x, y) = (items(0..5000), items(4900..5300));
        let (received, sent) = run(&x, &y, false);
        for (i, value) in sent.values.iter().enumerate() {
            let found = received.values.iter().position(|own| own == value);
            assert_eq!(found, (i < 100).then_some(4900 + i));
        }
    }

    /// Shuffled, a receiver counts; the opened seed tells which, and no other seed opens.
    #[test]
    fn a_shuffle_hides_which_until_it_is_opened() {
        let (x, y) = (items(0..300), items(0..100));
        let (received, sent) = run(&x, &y, true);
        let common = |value: &u128| sent.values.contains(value);
        assert_eq!(received.values.iter().filter(|value| common(value)).count(), 100);
        // In the order of the answers the first hundred are like any others.
        assert!(received.values[..100].iter().filter(|value| common(value)).count() < 70);
        let seed = **sent.seed.as_ref().unwrap();
        let shuffled = received.shuffled.as_ref().unwrap();
        let order = shuffled.order(&seed).unwrap();
        for (value, place) in received.values.iter().zip(order) {
            assert_eq!(common(value), place < 100);
        }
        let other = shuffled.order(&[7; 32]).unwrap_err();
        assert_eq!(other.code, Code::PeerCheated);
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
            let sent = send(&mut session, &mut Pipe::new(&mut b), &mut random, &[], 1, false);
            assert_eq!(sent.map(drop).unwrap_err().code, Code::Malformed);
        }
    }

    #[test]
    fn an_order_holds_every_place_once() {
        assert_eq!(shuffle(&[3; 32], 10), [9, 5, 7, 1, 4, 8, 6, 0, 3, 2]);
        let mut order = shuffle(&[3; 32], 1000);
        assert_ne!(order, shuffle(&[4; 32], 1000));
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1000));
    }
}
