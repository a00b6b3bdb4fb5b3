//! Tags: hashes of PRF values, short enough to send and long enough for no two items of a run to share one.
//!
//! They are sorted, so that their order says nothing of rows, and the differences are Rice-coded: of tags of b
//! bits, n of them, each takes about b − log2 n + 1.5 bits.

use privet_core::Reason;

use crate::pipe::{Pipe, malformed};
use crate::scratch::{List, Row, Scratch, Sorted, Sorter, value, words};
use crate::session::Session;
use crate::vole::Permutation;

/// Tags of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many.
    pub(crate) count: u64,
    /// Bits of each, at most 128.
    pub(crate) bits: u32,
}

impl Shape {
    /// Bits of a difference that are written as they are.
    fn rice(&self) -> u32 {
        self.bits.saturating_sub(self.count.max(1).ilog2())
    }

    /// Most bytes that they take: every quotient is a step of the highest bits.
    #[cfg(test)]
    fn most_bytes(&self) -> u64 {
        let steps = 1u64 << (self.bits - self.rice());
        (self.count * u64::from(self.rice() + 1) + steps).div_ceil(8)
    }

    /// Bytes that they take on average.
    pub(crate) fn expected_bytes(&self) -> f64 {
        self.count as f64
            * (f64::from(self.rice())
                + 1.0
                + 2f64.powi((self.bits - self.rice()) as i32) / self.count.max(1) as f64
                - 0.5)
            / 8.0
    }

    /// The low bits of a value.
    pub(crate) fn cut(&self, value: u128) -> u128 {
        match self.bits {
            128.. => value,
            bits => value & ((1 << bits) - 1),
        }
    }
}

/// Hashes of PRF values: a tag does not give its value away.
pub(crate) struct Tagger(Permutation);

/// Values whose tags are made together.
const BATCH: usize = 1 << 16;

impl Tagger {
    pub(crate) fn new(session: &Session) -> Self {
        Self(Permutation::new(session.key("tags", 0)))
    }

    /// The tags of values: each with the place of its value and, in rows of five words, the value.
    pub(crate) fn sorted<const W: usize>(
        &self,
        shape: &Shape,
        values: &List<2>,
        scratch: &Scratch,
    ) -> Result<Sorted<W>, Reason> {
        let mut sorter = Sorter::new(scratch, values.len());
        let (mut reading, mut place) = (values.read(), 0);
        loop {
            let values = reading.values(BATCH)?;
            if values.is_empty() {
                return Ok(sorter.finish());
            }
            let mut hashed = values.clone();
            self.0.apply(&mut hashed);
            for (hashed, value) in hashed.iter().zip(values.iter()) {
                // In the highest bits, which are spread evenly.
                let [high, low] = words((hashed ^ value) << (128 - shape.bits.min(128)));
                let [of_high, of_low] = words(*value);
                let whole = [high, low, place, of_high, of_low];
                sorter.push(std::array::from_fn(|word| whole[word]))?;
                place += 1;
            }
        }
    }
}

/// The tag of a row.
fn tag<const W: usize>(shape: &Shape, row: &Row<W>) -> u128 {
    value(row[0], row[1]) >> (128 - shape.bits.min(128))
}

/// Sends sorted tags.
pub(crate) fn write<const W: usize>(
    pipe: &mut Pipe<'_>,
    shape: &Shape,
    sorted: &Sorted<W>,
) -> Result<(), Reason> {
    let (mut encoder, mut walk) = (Encoder::new(*shape), sorted.walk());
    while let Some(row) = walk.next()? {
        encoder.push(tag(shape, &row));
        if encoder.bytes.len() >= 1 << 16 {
            pipe.write(&encoder.bytes)?;
            encoder.bytes.clear();
        }
    }
    pipe.write(&encoder.finish())?;
    pipe.flush()
}

/// Tags of a known shape, as they come.
pub(crate) fn read<'p, 'a>(
    pipe: &'p mut Pipe<'a>,
    shape: &Shape,
) -> Decoder<impl FnMut() -> Result<u8, Reason> + use<'p, 'a>> {
    Decoder::new(*shape, || pipe.byte())
}

/// Writes ascending tags of one shape.
struct Encoder {
    shape: Shape,
    last: u128,
    bytes: Vec<u8>,
    pending: u64,
    filled: u32,
}

impl Encoder {
    fn new(shape: Shape) -> Self {
        Self { shape, last: 0, bytes: Vec::new(), pending: 0, filled: 0 }
    }

    /// At most 32 bits.
    fn put(&mut self, bits: u64, count: u32) {
        self.pending |= bits << self.filled;
        self.filled += count;
        while self.filled >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.filled -= 8;
        }
    }

    fn push(&mut self, tag: u128) {
        let rice = self.shape.rice();
        let step = tag - self.last;
        self.last = tag;
        let quotient = if rice == 128 { 0 } else { step >> rice };
        for _ in 0..quotient {
            self.put(1, 1);
        }
        self.put(0, 1);
        for at in (0..rice).step_by(32) {
            let count = (rice - at).min(32);
            self.put((step >> at) as u64 & ((1 << count) - 1), count);
        }
    }

    /// What is not yet taken.
    fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.bytes.push(self.pending as u8);
        }
        self.bytes
    }
}

/// Reads exactly the tags of a shape: ascending, in the one form that they have.
pub(crate) struct Decoder<F> {
    shape: Shape,
    byte: F,
    left: u64,
    last: u128,
    pending: u8,
    filled: u32,
}

impl<F: FnMut() -> Result<u8, Reason>> Decoder<F> {
    fn new(shape: Shape, byte: F) -> Self {
        Self { shape, byte, left: shape.count, last: 0, pending: 0, filled: 0 }
    }

    /// At most as many bits as are left of a byte.
    fn some(&mut self, most: u32) -> Result<(u8, u32), Reason> {
        if self.filled == 0 {
            (self.pending, self.filled) = ((self.byte)()?, 8);
        }
        let count = most.min(self.filled);
        let bits = self.pending & (0xff >> (8 - count)) as u8;
        self.pending = self.pending.checked_shr(count).unwrap_or(0);
        self.filled -= count;
        Ok((bits, count))
    }

    /// The next tag; none after the last.
    pub(crate) fn next(&mut self) -> Result<Option<u128>, Reason> {
        let too_long = || malformed("a tag of too many bits");
        if self.left == 0 {
            return match std::mem::take(&mut self.pending) {
                0 => Ok(None),
                _ => Err(malformed("bits after the last tag")),
            };
        }
        self.left -= 1;
        let rice = self.shape.rice();
        let steps = 1u128 << (self.shape.bits - rice);
        let mut quotient = 0u128;
        while self.some(1)?.0 == 1 {
            quotient += 1;
            if quotient >= steps {
                return Err(too_long());
            }
        }
        let mut step = if rice == 128 { 0 } else { quotient << rice };
        let mut at = 0;
        while at < rice {
            let (bits, count) = self.some(rice - at)?;
            step |= u128::from(bits) << at;
            at += count;
        }
        self.last = match self.last.checked_add(step) {
            Some(tag) if self.shape.cut(tag) == tag => tag,
            _ => return Err(too_long()),
        };
        Ok(Some(self.last))
    }

    /// All that are left, as values.
    pub(crate) fn all(mut self, scratch: &Scratch) -> Result<List<2>, Reason> {
        let mut all = List::new(scratch, self.shape.count);
        while let Some(tag) = self.next()? {
            all.push(words(tag))?;
        }
        Ok(all)
    }
}

/// Finds the tags that two ascending lists share; `found` is given the row of one and the place in the other.
pub(crate) fn matches<const W: usize>(
    own: &Sorted<W>,
    shape: &Shape,
    mut theirs: Decoder<impl FnMut() -> Result<u8, Reason>>,
    mut found: impl FnMut(&Row<W>, u64) -> Result<(), Reason>,
) -> Result<(), Reason> {
    let (mut walk, mut other, mut at) = (own.walk(), theirs.next()?, 0);
    while let Some(row) = walk.next()? {
        let tag = tag(shape, &row);
        while other.is_some_and(|other| other < tag) {
            (other, at) = (theirs.next()?, at + 1);
        }
        if other == Some(tag) {
            found(&row, at)?;
        }
    }
    while other.is_some() {
        other = theirs.next()?;
    }
    Ok(())
}

/// All tags of some bytes, and nothing after them.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode(shape: &Shape, bytes: &[u8]) -> Result<Vec<u128>, Reason> {
    let mut rest = bytes.iter();
    let short = || malformed("fewer tags than were announced");
    let mut decoder = Decoder::new(*shape, || rest.next().copied().ok_or_else(short));
    let mut tags = Vec::new();
    while let Some(tag) = decoder.next()? {
        tags.push(tag);
    }
    match rest.next() {
        None => Ok(tags),
        Some(_) => Err(malformed("bytes after the last tag")),
    }
}

/// Ascending tags as bytes.
#[cfg(any(test, fuzzing))]
pub(crate) fn encode(shape: &Shape, tags: impl Iterator<Item = u128>) -> Vec<u8> {
    let mut encoder = Encoder::new(*shape);
    tags.for_each(|tag| encoder.push(tag));
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tags_come_back(
            mut tags in proptest::collection::vec(any::<u128>(), 0..200),
            bits in 8u32..=128,
        ) {
            let shape = Shape { count: tags.len() as u64, bits };
            tags.iter_mut().for_each(|tag| *tag = shape.cut(*tag));
            tags.sort_unstable();
            let bytes = encode(&shape, tags.iter().copied());
            prop_assert!(bytes.len() as u64 <= shape.most_bytes());
            prop_assert_eq!(decode(&shape, &bytes).unwrap(), tags);
        }

        #[test]
        fn other_bytes_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            count in 0u64..50,
            bits in 8u32..=128,
        ) {
            let shape = Shape { count, bits };
            if let Ok(tags) = decode(&shape, &bytes) {
                prop_assert!(tags.is_sorted());
                // One form only.
                prop_assert_eq!(encode(&shape, tags.into_iter()), bytes);
            }
        }
    }

    #[test]
    fn what_is_short_long_or_all_ones_is_refused() {
        let shape = Shape { count: 100, bits: 60 };
        let tags: Vec<u128> = (0..100).map(|i| i << 50).collect();
        let bytes = encode(&shape, tags.iter().copied());
        assert!(decode(&shape, &bytes[1..]).is_err());
        assert!(decode(&shape, &bytes[..bytes.len() - 1]).is_err());
        assert!(decode(&shape, &[&bytes[..], &[0]].concat()).is_err());
        assert!(decode(&shape, &vec![0xff; bytes.len()]).is_err());
        assert!(decode(&Shape { count: 101, ..shape }, &bytes).is_err());
        assert!(decode(&Shape { count: 99, ..shape }, &bytes).is_err());
    }

    #[test]
    fn a_million_tags_take_their_share() {
        let shape = Shape { count: 1 << 16, bits: 72 };
        let mut state = 1u128;
        let mut tags: Vec<u128> = (0..1 << 16)
            .map(|_| {
                state =
                    state.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
                shape.cut(state >> 40)
            })
            .collect();
        tags.sort_unstable();
        let bits = encode(&shape, tags.into_iter()).len() as f64 * 8.0 / 65_536.0;
        assert!(bits < 72.0 - 16.0 + 2.1, "{bits}");
    }

    #[test]
    fn lists_are_matched_by_value() {
        let shape = Shape { count: 4, bits: 100 };
        let found = |own: &[(u128, u64)], other: &[u128]| {
            let mut sorter = Sorter::<3>::new(&scratch(), 4);
            for (tag, place) in own {
                let [high, low] = words(tag << 28);
                sorter.push([high, low, *place]).unwrap();
            }
            let shape = Shape { count: other.len() as u64, ..shape };
            let (bytes, mut found) = (encode(&shape, other.iter().copied()), Vec::new());
            let mut rest = bytes.iter();
            let theirs = Decoder::new(shape, || Ok(*rest.next().unwrap()));
            let note = |row: &Row<3>, at| {
                found.push((row[2], at));
                Ok(())
            };
            matches(&sorter.finish(), &shape, theirs, note).unwrap();
            assert_eq!(rest.next(), None);
            found
        };
        let own = [(5, 2), (3, 9), (8, 0), (5, 1)];
        assert_eq!(found(&own, &[1, 5, 7, 8, 8]), [(1, 1), (2, 1), (0, 3)]);
        assert_eq!(found(&own, &[]), []);
        assert_eq!(found(&[], &[1]), []);
    }

    fn scratch() -> Scratch {
        Scratch::new(&std::env::temp_dir(), 100)
    }

    /// Over a link, from sets in memory and in files.
    #[test]
    fn tags_of_values_are_sent_in_order() {
        let shape = Shape { count: 5000, bits: 70 };
        let mut list = List::new(&scratch(), 0);
        let values: Vec<u128> =
            (1..=5000u128).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15 << 60)).collect();
        list.extend(&values).unwrap();
        let session = Session::new(&privet_crypto::Digest([1; 32]));
        let sorted = Tagger::new(&session).sorted::<5>(&shape, &list, &scratch()).unwrap();
        let (mut a, mut b) = crate::pipe::memory::pair();
        write(&mut Pipe::new(&mut a), &shape, &sorted).unwrap();
        let mut pipe = Pipe::new(&mut b);
        let mut walk = sorted.walk();
        let mut reading = read(&mut pipe, &shape);
        while let Some(row) = walk.next().unwrap() {
            let own = values[row[2] as usize];
            assert_eq!(value(row[3], row[4]), own);
            assert_eq!(reading.next().unwrap(), Some(tag(&shape, &row)));
            let mut hashed = [own];
            Permutation::new(session.key("tags", 0)).apply(&mut hashed);
            assert_eq!(tag(&shape, &row), shape.cut(hashed[0] ^ own));
        }
        assert_eq!(reading.next().unwrap(), None);
        drop(reading);
        pipe.finish().unwrap();
    }
}
