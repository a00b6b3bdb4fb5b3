//! Tags: hashes of PRF values, short enough to send and long enough for no two items of a run to share one.
//!
//! They are sorted, so that their order says nothing of rows, and the differences are Rice-coded: of tags of b
//! bits, n of them, each takes about b − log2 n + 1.5 bits.

use privet_core::Reason;
use rayon::prelude::*;
use zeroize::Zeroizing;

use crate::pipe::{Pipe, malformed};
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
    pub(crate) fn most_bytes(&self) -> u64 {
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

impl Tagger {
    pub(crate) fn new(session: &Session) -> Self {
        Self(Permutation::new(session.key("tags", 0)))
    }

    /// Tags with the places of their values, sorted.
    pub(crate) fn sorted(&self, shape: &Shape, values: &[u128]) -> Vec<(u128, u32)> {
        let mut hashed = Zeroizing::new(values.to_vec());
        self.0.apply(&mut hashed);
        let tags = hashed.iter().zip(values).map(|(hashed, value)| shape.cut(hashed ^ value));
        let mut list: Vec<(u128, u32)> = tags.zip(0..).collect();
        list.par_sort_unstable();
        list
    }
}

/// Sorted tags with their places among themselves.
pub(crate) fn placed(tags: &[u128]) -> Vec<(u128, u32)> {
    tags.iter().copied().zip(0..).collect()
}

/// Sends sorted tags.
pub(crate) fn write(
    pipe: &mut Pipe<'_>,
    shape: &Shape,
    sorted: &[(u128, u32)],
) -> Result<(), Reason> {
    let bytes = encode(shape, sorted.iter().map(|(tag, _)| *tag));
    pipe.write(&(bytes.len() as u64).to_le_bytes())?;
    pipe.write(&bytes)?;
    pipe.flush()
}

/// Reads tags of a known shape.
pub(crate) fn read(pipe: &mut Pipe<'_>, shape: &Shape) -> Result<Vec<u128>, Reason> {
    let len = u64::from_le_bytes(pipe.array()?);
    if len > shape.most_bytes() {
        return Err(malformed("more bytes of tags than there can be"));
    }
    decode(shape, &pipe.bytes(len as usize)?)
}

/// Bits of so many places, eight to a byte.
pub(crate) fn pack(len: usize, places: impl Iterator<Item = u32>) -> Vec<u8> {
    let mut bytes = vec![0; len.div_ceil(8)];
    places.for_each(|place| bytes[place as usize / 8] |= 1 << (place % 8));
    bytes
}

/// Places whose bit is set, of so many.
pub(crate) fn unpack(bytes: &[u8], len: usize) -> Result<Vec<usize>, Reason> {
    let set = |place: &usize| bytes[place / 8] >> (place % 8) & 1 == 1;
    match (len..8 * bytes.len()).any(|place| set(&place)) {
        true => Err(malformed("a bit beyond the last place")),
        false => Ok((0..len).filter(set).collect()),
    }
}

#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    pending: u64,
    filled: u32,
}

impl Bits {
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

    fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.bytes.push(self.pending as u8);
        }
        self.bytes
    }
}

/// Writes sorted tags.
pub(crate) fn encode(shape: &Shape, tags: impl Iterator<Item = u128>) -> Vec<u8> {
    let rice = shape.rice();
    let mut bits =
        Bits { bytes: Vec::with_capacity(shape.most_bytes() as usize), ..Bits::default() };
    let mut last = 0;
    for tag in tags {
        let step = tag - last;
        last = tag;
        let quotient = if rice == 128 { 0 } else { step >> rice };
        for _ in 0..quotient {
            bits.put(1, 1);
        }
        bits.put(0, 1);
        for at in (0..rice).step_by(32) {
            let count = (rice - at).min(32);
            bits.put((step >> at) as u64 & ((1 << count) - 1), count);
        }
    }
    bits.finish()
}

/// Reads exactly the tags of a shape: ascending, and nothing after them.
pub(crate) fn decode(shape: &Shape, bytes: &[u8]) -> Result<Vec<u128>, Reason> {
    let rice = shape.rice();
    let short = || malformed("fewer tags than were announced");
    let mut tags = Vec::new();
    let (mut next, mut last) = (0usize, 0u128);
    let steps = 1u128 << (shape.bits - rice);
    let bit = |at: usize| bytes.get(at / 8).map(|byte| byte >> (at % 8) & 1).ok_or_else(short);
    for _ in 0..shape.count {
        let mut quotient = 0u128;
        while bit(next)? == 1 {
            next += 1;
            quotient += 1;
            if quotient >= steps {
                return Err(malformed("a tag of too many bits"));
            }
        }
        next += 1;
        let mut step = if rice == 128 { 0 } else { quotient << rice };
        let mut at = 0;
        while at < rice {
            let (byte, offset) = (next / 8, (next % 8) as u32);
            let count = (8 - offset).min(rice - at);
            let bits = bytes.get(byte).ok_or_else(short)? >> offset & (0xff >> (8 - count)) as u8;
            step |= u128::from(bits) << at;
            at += count;
            next += count as usize;
        }
        last = match last.checked_add(step) {
            Some(tag) if shape.cut(tag) == tag => tag,
            _ => return Err(malformed("a tag of too many bits")),
        };
        tags.push(last);
    }
    let rest = if next % 8 == 0 { 0 } else { bytes[next / 8] >> (next % 8) };
    match bytes.len() == next.div_ceil(8) && rest == 0 {
        true => Ok(tags),
        false => Err(malformed("bytes after the last tag")),
    }
}

/// Pairs of places at which two sorted lists have the same value.
pub(crate) fn matches(own: &[(u128, u32)], other: &[u128]) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    let mut at = 0;
    for &(value, place) in own {
        while other.get(at).is_some_and(|tag| *tag < value) {
            at += 1;
        }
        if other.get(at) == Some(&value) {
            found.push((place, at as u32));
        }
    }
    found
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
    fn places_are_packed() {
        let bytes = pack(11, [0, 8, 10].into_iter());
        assert_eq!(bytes, [1, 5]);
        assert_eq!(unpack(&bytes, 11).unwrap(), [0, 8, 10]);
        assert!(unpack(&[1, 13], 11).is_err());
        assert_eq!(unpack(&pack(0, std::iter::empty()), 0).unwrap(), [0; 0]);
    }

    #[test]
    fn lists_are_matched_by_value() {
        let own = [(3, 9), (5, 1), (5, 2), (8, 0)];
        assert_eq!(matches(&own, &[1, 5, 7, 8, 8]), [(1, 1), (2, 1), (0, 3)]);
        assert_eq!(matches(&own, &[]), []);
        assert_eq!(matches(&[], &[1]), []);
    }
}
