//! Items of one session: hashes that only its two sides can relate to items, in bins.

use std::ops::Range;

use rayon::prelude::*;

use crate::session::{Session, first_half, scaled};

/// An item: the digest of a normalised key.
pub type Item = [u8; 32];

/// What an item is in a session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Places it.
    pub(crate) key: u128,
    /// What a PRF is asked for at it.
    pub(crate) value: u128,
}

/// The records of a set, bin by bin.
pub(crate) struct Records {
    pub(crate) all: Vec<Record>,
    /// Of each record, the place of its item in the set.
    pub(crate) origin: Vec<u32>,
    starts: Vec<usize>,
}

impl Records {
    /// The records of items in so many bins. At most 2^32 items.
    pub(crate) fn new(session: &Session, items: &[Item], bins: u64) -> Self {
        let key = session.derive("item", 0);
        let hash = |item: &Item| {
            let digest = *blake3::keyed_hash(&key, item).as_bytes();
            let (_, value) = digest.split_at(16);
            let value = value.iter().rev().fold(0, |sum, &byte| sum << 8 | u128::from(byte));
            Record { key: first_half(&digest), value }
        };
        let unsorted: Vec<Record> = items.par_iter().map(hash).collect();
        let bin = |record: &Record| scaled(record.key as u64, bins) as usize;
        let mut starts = vec![0; bins as usize + 1];
        unsorted.iter().for_each(|record| starts[bin(record) + 1] += 1);
        for i in 1..starts.len() {
            starts[i] += starts[i - 1];
        }
        let mut next = starts.clone();
        let mut all = vec![Record { key: 0, value: 0 }; items.len()];
        let mut origin = vec![0; items.len()];
        for (at, record) in unsorted.into_iter().enumerate() {
            let to = &mut next[bin(&record)];
            all[*to] = record;
            origin[*to] = at as u32;
            *to += 1;
        }
        Self { all, origin, starts }
    }

    /// Where the records of a bin lie.
    pub(crate) fn bin(&self, bin: u64) -> Range<usize> {
        self.starts[bin as usize]..self.starts[bin as usize + 1]
    }

    /// Where the records of these bins lie.
    pub(crate) fn bins(&self, bins: &Range<u64>) -> Range<usize> {
        self.starts[bins.start as usize]..self.starts[bins.end as usize]
    }
}

#[cfg(test)]
mod tests {
    use privet_crypto::Digest;

    use super::*;

    #[test]
    fn every_item_is_in_one_bin_and_knows_its_place() {
        let session = Session::new(&Digest([1; 32]));
        let items: Vec<Item> =
            (0..1000u32).map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect();
        let records = Records::new(&session, &items, 7);
        let mut seen = vec![false; items.len()];
        for bin in 0..7 {
            assert!(records.bin(bin).len() > 80);
            for at in records.bin(bin) {
                let origin = records.origin[at] as usize;
                let alone = Records::new(&session, &items[origin..=origin], 7);
                assert!(alone.all[0] == records.all[at] && alone.bin(bin).len() == 1);
                assert!(!std::mem::replace(&mut seen[origin], true));
            }
        }
        assert!(seen.into_iter().all(|seen| seen));
        assert_eq!(records.bins(&(0..7)), 0..1000);
        assert_eq!(Records::new(&session, &[], 3).bins(&(0..3)), 0..0);
    }

    #[test]
    fn sessions_hash_differently() {
        let of = |n| Records::new(&Session::new(&Digest([n; 32])), &[[5; 32]], 1).all[0];
        assert!(of(1) != of(2));
        assert_ne!(of(1).key, of(1).value);
    }
}
