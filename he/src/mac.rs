//! A blinded linear code that authenticates a sum, against the server that opened it.
//!
//! ```text
//!   tag_k(i) = Σ_j r_{k,j}·m_{i,j} + blind_k(i)   mod Q = 2^61 − 1,   k = 1, 2
//!   accepted:  Σ_{i∈U} tag_k(i) = Σ_j r_{k,j}·M_j + Σ_{i∈U} blind_k(i)
//! ```
//! All of r and of the blinds is expanded from a key that the sites share, and the context of the
//! round. r_{k,j} is the product u_{k,a}·v_{k,b} of the row and the column in which value j lies,
//! both uniform: for any difference of messages and any difference of tags fixed beforehand, the
//! forged sum is a nonzero polynomial of degree 2 in them, so it is accepted with probability at
//! most 2/Q a code (Schwartz 1980), 2^-120 for the two, besides what the expansion's cipher gives
//! away. There is one try a round.
//!
//! Q exceeds every difference of two sums in range. A modulus of 17 bits would not: a server
//! could then add a multiple of it to any value unseen.
//!
//! *Protects* the sum as a whole: the zero sum with zero tags, a multiple of everything, the sum
//! over another set of sites, an upload dropped, exchanged or counted twice.
//! *Does not protect* against a server that has one site's key, for all sites hold the same; nor
//! against a site, which may tag any update; nor where the opened integers are approximate. A
//! context must not be used for two rounds, and must fix the number of values: zeros at the end go
//! unseen.

use privet_crypto::{Digest, Seed, Words};
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

/// The modulus, a prime.
pub const Q: u64 = (1 << 61) - 1;

/// Codes of one message.
pub const TAGS: usize = 2;

/// Values per row. The columns' coefficients fit the processor's first cache.
const ROW: usize = 1024;

/// Values are in [−2^55, 2^55), so that the sum of a row stays within 126 bits.
const VALUE_BITS: u32 = 55;

/// The codes of a message, each below [`Q`], or their sum modulo [`Q`].
pub type Tags = [u64; TAGS];

/// Why a sum is not accepted, or a message has no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// A value beyond what the code can carry.
    #[error("a value is too large to be authenticated; use fewer bits a value")]
    Value,
    /// The sites of a sum are not in ascending order, or one comes twice.
    #[error("the sum's sites must be named once each, in ascending order")]
    Sites,
    /// The codes do not fit the sum.
    #[error(
        "the sum is not what these sites sealed: the server altered it, or a site has another key; \
         discard the round"
    )]
    Mismatch,
}

/// The key of one round's code. Erased when dropped; neither printed nor copied.
pub struct MacKey(Seed);

impl MacKey {
    /// The key for one context, from a secret that all sites and nobody else hold.
    pub fn new(group: &Seed, context: &Digest) -> Self {
        Self(group.derive(&format!("privet-he/1/mac/{}", context.hex()), 0))
    }

    /// Uniform numbers below [`Q`]. The cipher is named, for all sites must draw the same.
    fn stream(&self, purpose: &str, number: u64) -> Uniform {
        Uniform(Words::chacha(&self.0.derive(purpose, number)))
    }

    fn blinds(&self) -> Blinds {
        Blinds(self.0.derive("blinds", 0))
    }
}

/// What hides the sites' codes.
struct Blinds(Seed);

impl Blinds {
    fn of(&self, site: u32) -> Tags {
        let mut stream = Uniform(Words::chacha(&self.0.derive("blind", site.into())));
        std::array::from_fn(|_| stream.next())
    }
}

/// Numbers below [`Q`], by rejection.
struct Uniform(Words);

impl Uniform {
    fn next(&mut self) -> u64 {
        loop {
            let candidate = self.0.word() >> 3;
            if candidate < Q {
                return candidate;
            }
        }
    }
}

/// The code of a message that comes in pieces.
pub struct Mac {
    blinds: Blinds,
    rows: Uniform,
    columns: Zeroizing<Vec<[i64; TAGS]>>,
    column: usize,
    row: Zeroizing<[i128; TAGS]>,
    sum: Zeroizing<Tags>,
}

impl Mac {
    /// Starts with no values.
    pub fn new(key: &MacKey) -> Self {
        let mut columns = key.stream("columns", 0);
        let columns = (0..ROW).map(|_| std::array::from_fn(|_| columns.next() as i64)).collect();
        Self {
            blinds: key.blinds(),
            rows: key.stream("rows", 0),
            columns: Zeroizing::new(columns),
            column: 0,
            row: Zeroizing::new([0; TAGS]),
            sum: Zeroizing::new([0; TAGS]),
        }
    }

    /// Takes the next values. How a message is cut into pieces makes no difference.
    ///
    /// # Errors
    /// When a value is not in [−2^55, 2^55); the code is of no use then.
    pub fn update<V: Copy + Into<i64>>(&mut self, values: &[V]) -> Result<(), MacError> {
        self.update_by(values, Into::into)
    }

    /// Takes the next values after a mapping.
    pub(crate) fn update_by<V: Copy>(
        &mut self,
        mut values: &[V],
        map: impl Fn(V) -> i64,
    ) -> Result<(), MacError> {
        while !values.is_empty() {
            let (now, later) = values.split_at(values.len().min(ROW - self.column));
            let [mut first, mut second] = *self.row;
            let mut magnitudes = 0;
            for (&value, &[u, v]) in now.iter().zip(&self.columns[self.column..]) {
                let value = map(value);
                magnitudes |= value ^ (value >> 63);
                // They wrap for values that are refused below.
                first = first.wrapping_add(i128::from(value) * i128::from(u));
                second = second.wrapping_add(i128::from(value) * i128::from(v));
            }
            if magnitudes >> VALUE_BITS != 0 {
                return Err(MacError::Value);
            }
            *self.row = [first, second];
            self.column += now.len();
            if self.column == ROW {
                self.end_row();
            }
            values = later;
        }
        Ok(())
    }

    fn end_row(&mut self) {
        for (sum, row) in self.sum.iter_mut().zip(self.row.iter_mut()) {
            *sum = add(*sum, multiply(self.rows.next(), reduce(*row)));
            *row = 0;
        }
        self.column = 0;
    }

    /// The codes of what was taken, as one site's message.
    pub fn tags(mut self, site: u32) -> Tags {
        self.end_row();
        let mut tags = self.blinds.of(site);
        tags.iter_mut().zip(*self.sum).for_each(|(tag, sum)| *tag = add(*tag, sum));
        tags
    }

    /// Accepts what was taken as the sum of the messages of exactly these sites, given the sum of
    /// their codes.
    ///
    /// # Errors
    /// When the sites are not in ascending order, or the codes do not fit.
    pub fn verify(mut self, sites: &[u32], tags: Tags) -> Result<(), MacError> {
        if !sites.is_sorted_by(|a, b| a < b) {
            return Err(MacError::Sites);
        }
        self.end_row();
        let mut expected = *self.sum;
        for &site in sites {
            let blind = self.blinds.of(site);
            expected.iter_mut().zip(blind).for_each(|(sum, blind)| *sum = add(*sum, blind));
        }
        let accepted = bool::from(expected.ct_eq(&tags.map(|tag| tag % Q)));
        // Codes that would have fit a forgery stay secret.
        expected.zeroize();
        if accepted { Ok(()) } else { Err(MacError::Mismatch) }
    }
}

/// a + b mod Q, for a, b < Q.
fn add(a: u64, b: u64) -> u64 {
    let sum = a + b;
    sum.min(sum.wrapping_sub(Q))
}

/// a·b mod Q, for a, b < Q.
fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // Both parts are below 2^61, and not both Q.
    add((product as u64) & Q, (product >> 61) as u64)
}

/// x mod Q, for |x| ≤ Q·2^65: in constant time, which the remainder of 128 bits is not.
fn reduce(x: i128) -> u64 {
    let modulus = u128::from(Q);
    let shifted = x.wrapping_add(i128::from(Q) << 65) as u128;
    let once = (shifted & modulus) + (shifted >> 61);
    let twice = ((once & modulus) + (once >> 61)) as u64;
    twice.min(twice.wrapping_sub(Q))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONTEXT: Digest = Digest([3; 32]);

    fn key() -> MacKey {
        MacKey::new(&Seed::from_bytes([9; 32]), &CONTEXT)
    }

    fn tags(key: &MacKey, site: u32, message: &[i64]) -> Tags {
        let mut mac = Mac::new(key);
        mac.update(message).unwrap();
        mac.tags(site)
    }

    fn accepts(key: &MacKey, sites: &[u32], sum: &[i64], tags: Tags) -> Result<(), MacError> {
        let mut mac = Mac::new(key);
        mac.update(sum).unwrap();
        mac.verify(sites, tags)
    }

    fn message(site: u32) -> Vec<i64> {
        (0..2500).map(|j| (j * 7919 + i64::from(site) * 104_729) % 200_001 - 100_000).collect()
    }

    fn total(sites: &[u32]) -> (Vec<i64>, Tags) {
        let mut sum = (vec![0; 2500], [0; TAGS]);
        for &site in sites {
            let m = message(site);
            sum.0.iter_mut().zip(&m).for_each(|(sum, m)| *sum += m);
            sum.1.iter_mut().zip(tags(&key(), site, &m)).for_each(|(s, tag)| *s = add(*s, tag));
        }
        sum
    }

    #[test]
    fn the_honest_sum_is_accepted() {
        for sites in [&[0][..], &[0, 1, 2, 5], &[1, 389]] {
            let (sum, tags) = total(sites);
            assert_eq!(accepts(&key(), sites, &sum, tags), Ok(()));
            // The sum of codes may come unreduced.
            assert_eq!(accepts(&key(), sites, &sum, tags.map(|tag| tag + Q)), Ok(()));
        }
    }

    #[test]
    fn every_forgery_that_a_linear_code_invites_is_refused() {
        let sites = [0, 1, 2, 5];
        let (sum, tags) = total(&sites);
        let refused = |sites: &[u32], sum: &[i64], tags: Tags| {
            assert_eq!(accepts(&key(), sites, sum, tags), Err(MacError::Mismatch));
        };
        let scaled = |k: i64| sum.iter().map(|m| m * k).collect::<Vec<_>>();
        // The zero sum; multiples, with the codes multiplied alike.
        refused(&sites, &scaled(0), [0; TAGS]);
        for k in [-1i64, 2, 3, 1000] {
            let factor = k.rem_euclid(Q as i64) as u64;
            refused(&sites, &scaled(k), tags.map(|tag| multiply(tag, factor)));
            refused(&sites, &scaled(k), tags);
            refused(&sites, &sum, tags.map(|tag| multiply(tag, factor)));
        }
        // Another set of sites, for this sum or with its own sum and these codes.
        refused(&[0, 1, 2], &sum, tags);
        refused(&[0, 1, 2, 4], &sum, tags);
        refused(&[0, 1, 2, 4, 5], &sum, tags);
        refused(&sites, &total(&[0, 1, 2]).0, tags);
        refused(&sites, &total(&[0, 1, 2]).0, total(&[0, 1, 2]).1);
        // One site's upload in another's place: twice site 0, none of site 1.
        let doubled: Vec<i64> =
            sum.iter().zip(message(0)).zip(message(1)).map(|((m, a), b)| m + a - b).collect();
        let both = [0, 1].map(|site| super::tests::tags(&key(), site, &message(site)));
        let swapped = std::array::from_fn(|k| add(tags[k], add(both[0][k], Q - both[1][k])));
        refused(&sites, &doubled, swapped);
        // Two values exchanged, one changed by any multiple of a small modulus, one code wrong.
        let mut altered = sum.clone();
        altered.swap(3, 1500);
        refused(&sites, &altered, tags);
        for by in [1, -1, 65_537, 131_071, 1 << 40] {
            let mut altered = sum.clone();
            altered[2499] += by;
            refused(&sites, &altered, tags);
        }
        refused(&sites, &sum, [tags[0], tags[1] ^ 1]);
        // Another round; another group.
        let other = MacKey::new(&Seed::from_bytes([9; 32]), &Digest([4; 32]));
        assert_eq!(accepts(&other, &sites, &sum, tags), Err(MacError::Mismatch));
        let other = MacKey::new(&Seed::from_bytes([8; 32]), &CONTEXT);
        assert_eq!(accepts(&other, &sites, &sum, tags), Err(MacError::Mismatch));
    }

    #[test]
    fn sites_are_named_once_and_values_bounded() {
        let (sum, tags) = total(&[0, 1]);
        for sites in [&[1, 0][..], &[0, 0], &[0, 1, 1]] {
            assert_eq!(accepts(&key(), sites, &sum, tags), Err(MacError::Sites));
        }
        let key = key();
        for (value, expected) in [
            ((1 << 55) - 1, Ok(())),
            (-1 << 55, Ok(())),
            (1 << 55, Err(MacError::Value)),
            (-(1 << 55) - 1, Err(MacError::Value)),
            (i64::MIN, Err(MacError::Value)),
            (i64::MAX, Err(MacError::Value)),
        ] {
            assert_eq!(Mac::new(&key).update(&[value]), expected);
            // So many that a sum of them would not fit.
            let many = Mac::new(&key).update(&[value; 3 * ROW]);
            assert_eq!(many.is_ok(), expected.is_ok());
        }
    }

    /// The largest values there can be, held against arithmetic of other form.
    #[test]
    fn full_rows_do_not_overflow() {
        let key = key();
        let coefficients = |purpose, len| {
            let mut stream = key.stream(purpose, 0);
            (0..len).map(|_| stream.next()).collect::<Vec<_>>()
        };
        let (columns, rows) = (coefficients("columns", 2 * ROW), coefficients("rows", 6));
        let naive = |value: i64, k: usize| {
            let value = value.rem_euclid(Q as i64) as u64;
            let row = (0..ROW).fold(0, |sum, b| add(sum, multiply(columns[2 * b + k], value)));
            (0..3).fold(0, |sum, a| add(sum, multiply(rows[2 * a + k], row)))
        };
        for value in [(1i64 << 55) - 1, -1 << 55] {
            let got = tags(&key, 0, &vec![value; 3 * ROW]);
            let blind = key.blinds().of(0);
            assert_eq!(got, std::array::from_fn(|k| add(naive(value, k), blind[k])));
        }
    }

    /// All sites must expand alike, whatever their machine.
    #[test]
    fn the_code_is_pinned() {
        let expected = [474_706_147_927_734_503, 2_091_030_076_173_139_959];
        assert_eq!(tags(&key(), 7, &message(7)), expected);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(cuts in prop::collection::vec(0usize..1500, 0..6)) {
            let (message, key) = (message(1), key());
            let mut mac = Mac::new(&key);
            let mut rest = &message[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                mac.update(now).unwrap();
                rest = later;
            }
            mac.update(rest).unwrap();
            prop_assert_eq!(mac.tags(1), tags(&key, 1, &message));
        }

        #[test]
        fn arithmetic_is_that_of_the_field(a in 0..Q, b in 0..Q, x in -(1i128 << 126)..=1 << 126) {
            let q = u128::from(Q);
            prop_assert_eq!(u128::from(add(a, b)), (u128::from(a) + u128::from(b)) % q);
            prop_assert_eq!(u128::from(multiply(a, b)), u128::from(a) * u128::from(b) % q);
            let x = x.clamp(-(i128::from(Q) << 65), i128::from(Q) << 65);
            prop_assert_eq!(i128::from(reduce(x)), x.rem_euclid(i128::from(Q)));
        }
    }

    #[test]
    fn the_ends_of_the_field_are_reduced() {
        let q = i128::from(Q);
        for x in [0, 1, -1, q - 1, q, q + 1, -q, q << 65, -(q << 65), (q << 65) - 1] {
            assert_eq!(i128::from(reduce(x)), x.rem_euclid(q));
        }
        assert_eq!(multiply(Q - 1, Q - 1), 1);
        assert_eq!(multiply(Q - 1, 1), Q - 1);
    }
}
