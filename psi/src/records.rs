//! Items of one run: hashes that only its sites can relate to items, in the order of the bins that they fall into.
//!
//! All that is computed of items is in this order, whatever the number of bins: a bin is a range of it, so that a
//! set larger than memory goes by piece after piece.

use std::ops::Range;

use privet_core::Reason;
use rayon::prelude::*;

use crate::flags::Flags;
use crate::scratch::{Scratch, Sorted, Sorter, Walk, value};
use crate::session::{Random, Session, first_half, scaled};

/// An item: the digest of a normalised key.
pub type Item = [u8; 32];

/// A site's items, all different, in an order that stays.
pub trait Set: Sync {
    /// How many.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives each of them.
    ///
    /// # Errors
    /// When they cannot be read, or `to` fails.
    fn each(&self, to: &mut dyn FnMut(Item) -> Result<(), Reason>) -> Result<(), Reason>;
}

impl Set for &[Item] {
    fn len(&self) -> u64 {
        <[Item]>::len(self) as u64
    }

    fn each(&self, to: &mut dyn FnMut(Item) -> Result<(), Reason>) -> Result<(), Reason> {
        self.iter().try_for_each(|item| to(*item))
    }
}

/// What an item is in a run.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    /// Places it.
    pub(crate) key: u128,
    /// What a PRF is asked for at it.
    pub(crate) value: u128,
}

impl Record {
    fn of(digest: &[u8; 32]) -> Self {
        let (_, second) = digest.split_at(16);
        let value = second.iter().rev().fold(0, |sum, &byte| sum << 8 | u128::from(byte));
        Self { key: first_half(digest), value }
    }

    /// The record of an item.
    #[cfg(test)]
    pub(crate) fn of_item(session: &Session, item: &Item) -> Self {
        Self::of(blake3::keyed_hash(&session.derive("item", 0), item).as_bytes())
    }

    /// Both as bytes.
    pub(crate) fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let (key, value) = bytes.split_at_mut(16);
        key.copy_from_slice(&self.key.to_le_bytes());
        value.copy_from_slice(&self.value.to_le_bytes());
        bytes
    }

    /// The bin, of so many.
    fn bin(&self, bins: u64) -> u64 {
        scaled(self.key as u64, bins)
    }
}

/// Instead of the number of an item: a dummy.
const DUMMY: u64 = u64::MAX;
/// Items that are hashed together.
const BATCH: usize = 8192;

/// The records of a set, dummies included, in the order of the low words of their keys.
pub(crate) struct Records {
    /// Key, value, number of the item.
    sorted: Sorted<5>,
    items: u64,
}

impl Records {
    /// The records of a set, and of dummies up to `size`: like any items, and nobody else's.
    pub(crate) fn new(
        session: &Session,
        set: &dyn Set,
        size: u64,
        random: &mut Random,
        scratch: &Scratch,
    ) -> Result<Self, Reason> {
        let (key, items) = (session.derive("item", 0), set.len());
        let mut sorter = Sorter::new(scratch, size.max(items));
        let mut push = |record: Record, number| {
            let Record { key, value } = record;
            let [low, high] = [key as u64, (key >> 64) as u64];
            sorter.push([low, high, (value >> 64) as u64, value as u64, number])
        };
        let mut number = 0;
        let mut batch: Vec<Item> = Vec::with_capacity(BATCH);
        let mut hash = |batch: &mut Vec<Item>| {
            let of = |item: &Item| Record::of(blake3::keyed_hash(&key, item).as_bytes());
            let hashed: Vec<Record> = batch.par_iter().with_min_len(256).map(of).collect();
            batch.clear();
            for record in hashed {
                push(record, number)?;
                number += 1;
            }
            Ok::<(), Reason>(())
        };
        set.each(&mut |item| {
            batch.push(item);
            if batch.len() < BATCH { Ok(()) } else { hash(&mut batch) }
        })?;
        hash(&mut batch)?;
        for _ in items..size {
            push(Record::of(&random.bytes()), DUMMY)?;
        }
        Ok(Self { sorted: sorter.finish(), items })
    }

    pub(crate) fn len(&self) -> u64 {
        self.sorted.len()
    }

    /// Reads them from the first on.
    pub(crate) fn walk(&self) -> Walking<'_> {
        Walking(self.sorted.walk())
    }

    /// Of places in this order that are set, the items.
    pub(crate) fn items(&self, places: &Flags) -> Result<Flags, Reason> {
        let (mut items, mut walk, mut place) = (Flags::new(self.items), self.sorted.walk(), 0);
        while let Some([.., number]) = walk.next()? {
            if places.get(place) {
                items.set(number);
            }
            place += 1;
        }
        Ok(items)
    }
}

/// Records that are being read.
pub(crate) struct Walking<'a>(Walk<'a, 5>);

impl Walking<'_> {
    /// The next ones that `these` holds of.
    fn next_if(&mut self, these: impl FnOnce(&Record) -> bool) -> Result<Option<Record>, Reason> {
        let Some([low, high, of_high, of_low, _]) = self.0.peek()? else { return Ok(None) };
        let record = Record { key: value(high, low), value: value(of_high, of_low) };
        if !these(&record) {
            return Ok(None);
        }
        self.0.next()?;
        Ok(Some(record))
    }

    /// The next `most` records, or as many as are left.
    pub(crate) fn some(&mut self, most: usize) -> Result<Vec<Record>, Reason> {
        let mut records = Vec::with_capacity(most.min(1 << 20));
        while records.len() < most {
            match self.next_if(|_| true)? {
                Some(record) => records.push(record),
                None => break,
            }
        }
        Ok(records)
    }

    /// The next records of these bins, of `of` in all: at most `most` of them. Bins are asked for in ascending
    /// order.
    pub(crate) fn bins(&mut self, bins: Range<u64>, of: u64, most: usize) -> Result<Part, Reason> {
        let mut part = Part { all: Vec::new(), first: bins.start, starts: vec![0] };
        for bin in bins {
            while part.all.len() < most
                && let Some(record) = self.next_if(|record| record.bin(of) == bin)?
            {
                part.all.push(record);
            }
            part.starts.push(part.all.len());
        }
        Ok(part)
    }
}

/// The records of some bins.
pub(crate) struct Part {
    pub(crate) all: Vec<Record>,
    first: u64,
    starts: Vec<usize>,
}

impl Part {
    /// Where the records of a bin lie.
    pub(crate) fn bin(&self, bin: u64) -> Range<usize> {
        let at = (bin - self.first) as usize;
        self.starts[at]..self.starts[at + 1]
    }

    /// Values of all records, in parallel: `of` fills those of some records of one bin.
    pub(crate) fn by_bin(&self, out: &mut [u128], of: impl Fn(u64, &[Record], &mut [u128]) + Sync) {
        let (mut rest, mut parts) = (out, Vec::new());
        for bin in self.first..self.first + self.starts.len() as u64 - 1 {
            for records in self.all[self.bin(bin)].chunks(BATCH) {
                let (part, after) = rest.split_at_mut(records.len());
                parts.push((bin, records, part));
                rest = after;
            }
        }
        parts.into_par_iter().for_each(|(bin, records, part)| of(bin, records, part));
    }
}

#[cfg(test)]
mod tests {
    use privet_crypto::Digest;

    use super::*;

    fn records(about: u8, items: &[Item], size: u64, keep: usize) -> Records {
        let session = Session::new(&Digest([about; 32]));
        let scratch = Scratch::new(&std::env::temp_dir(), keep);
        Records::new(&session, &items, size, &mut Random::known(1), &scratch).unwrap()
    }

    fn items(count: u32) -> Vec<Item> {
        (0..count).map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()).collect()
    }

    #[test]
    fn every_item_is_in_one_bin_and_knows_its_place() {
        let items = items(1000);
        for keep in [100, 10_000] {
            let records = records(1, &items, 1200, keep);
            assert_eq!(records.len(), 1200);
            let mut walk = records.walk();
            let (mut all, mut seen) = (Vec::new(), Flags::new(1000));
            for bins in [0..1, 1..5, 5..7] {
                let part = walk.bins(bins.clone(), 7, usize::MAX).unwrap();
                assert!(bins.clone().all(|bin| part.bin(bin).len() > 80));
                assert_eq!(bins.map(|bin| part.bin(bin).len()).sum::<usize>(), part.all.len());
                all.extend(part.all);
            }
            assert!(walk.some(1).unwrap().is_empty());
            assert!(all == records.walk().some(5000).unwrap());
            for place in 0..1200 {
                let mut places = Flags::new(1200);
                places.set(place);
                let of = records.items(&places).unwrap();
                let Some(number) = (0..1000).find(|number| of.get(*number)) else { continue };
                assert!(!seen.get(number));
                seen.set(number);
                let alone = super::tests::records(1, &items[number as usize..][..1], 1, 10);
                assert!(alone.walk().some(2).unwrap() == [all[place as usize]]);
            }
            assert_eq!(seen.count(), 1000);
        }
    }

    /// Whatever the number of bins, they come in one order.
    #[test]
    fn bins_are_ranges_of_one_order() {
        let records = records(1, &items(500), 0, 100);
        let all = records.walk().some(500).unwrap();
        for count in [1, 2, 3, 50] {
            let part = records.walk().bins(0..count, count, usize::MAX).unwrap();
            assert!(part.all == all);
            let (mut walk, mut pieces) = (records.walk(), Vec::new());
            loop {
                let piece = walk.bins(0..count, count, 7).unwrap();
                let lens: usize = (0..count).map(|bin| piece.bin(bin).len()).sum();
                assert!(lens == piece.all.len() && lens <= 7);
                if lens == 0 {
                    break;
                }
                pieces.extend(piece.all);
            }
            assert!(pieces == all);
        }
    }

    #[test]
    fn sessions_hash_differently() {
        let of = |about| records(about, &[[5; 32]], 1, 1).walk().some(1).unwrap()[0];
        assert!(of(1) != of(2));
        assert_ne!(of(1).key, of(1).value);
        assert_eq!(of(1).bytes()[..16], of(1).key.to_le_bytes());
    }
}
