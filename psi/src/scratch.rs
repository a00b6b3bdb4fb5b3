//! Lists that may be larger than memory: many records of a few words each.
//!
//! ```text
//!   List      as they were pushed, read from the first on
//!   Sorter ─▶ Sorted      in ascending order; first words are spread evenly, as those of hashes are
//! ```
//! Up to [`Scratch::keep`] records are kept in memory. More are in a file without a name, encrypted under a key
//! that only this process has: it holds hashes of items, and values of a PRF that no peer may learn.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use privet_core::{Code, Reason};
use privet_crypto::{NoEntropy, Seed, Words};
use rayon::prelude::*;
use zeroize::Zeroizing;

/// Words of a block of a file.
const BLOCK: usize = 2048;
/// Parts of a file that are sorted one by one: of 2^30 records each then has 2^20.
const BUCKETS: usize = 1024;

/// A record.
pub(crate) type Row<const W: usize> = [u64; W];

/// Why a list could not be kept or read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) io::ErrorKind);

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        Self(error.kind())
    }
}

impl From<Lost> for Reason {
    fn from(lost: Lost) -> Self {
        let detail = format!("the temporary file of a large set cannot be used: {}", lost.0);
        Reason::new(Code::StorageFailed, detail)
    }
}

/// Where lists go that are too large for memory.
#[derive(Debug, Clone)]
pub struct Scratch {
    folder: PathBuf,
    keep: usize,
}

impl Scratch {
    /// Files are made in this folder, or in that of the system if it is none. `keep` is how many records of a
    /// list are kept in memory, of 16 to 56 bytes each.
    pub fn new(folder: &Path, keep: usize) -> Self {
        let folder = match folder.is_dir() {
            true => folder.to_path_buf(),
            false => std::env::temp_dir(),
        };
        Self { folder, keep: keep.max(1) }
    }

    /// In this folder, with a million records of a list in memory.
    pub fn within(folder: &Path) -> Self {
        Self::new(folder, 1 << 20)
    }

    fn rows<const W: usize>(&self, expected: u64) -> Zeroizing<Vec<Row<W>>> {
        let room = usize::try_from(expected).map_or(self.keep, |expected| expected.min(self.keep));
        Zeroizing::new(Vec::with_capacity(room))
    }
}

/// A file of blocks.
struct Blocks {
    file: Mutex<File>,
    key: Seed,
    count: u64,
}

impl Blocks {
    fn new(scratch: &Scratch) -> Result<Self, Lost> {
        let file = tempfile::tempfile_in(&scratch.folder)?;
        let key = Seed::from_os().map_err(|NoEntropy| Lost(io::ErrorKind::Other))?;
        Ok(Self { file: Mutex::new(file), key, count: 0 })
    }

    /// Encrypts and decrypts: every block has a stream of its own, and is written once.
    fn mask(&self, at: u64, words: &mut [u64]) {
        let mut stream = Zeroizing::new([0; BLOCK]);
        Words::new(&self.key.derive("privet/psi/scratch/v1", at)).fill(&mut stream[..]);
        words.iter_mut().zip(stream.iter()).for_each(|(word, mask)| *word ^= mask);
    }

    /// Writes at most [`BLOCK`] words; they are gone from where they were.
    fn append<const W: usize>(&mut self, rows: &mut Vec<Row<W>>) -> Result<u64, Lost> {
        let at = self.count;
        self.mask(at, rows.as_flattened_mut());
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(at * (8 * BLOCK) as u64))?;
        file.write_all(bytemuck::cast_slice(rows.as_flattened()))?;
        rows.clear();
        self.count += 1;
        Ok(at)
    }

    /// Appends the rows of a block.
    fn read<const W: usize>(
        &self,
        at: u64,
        count: usize,
        rows: &mut Vec<Row<W>>,
    ) -> Result<(), Lost> {
        let before = rows.len();
        rows.resize(before + count, [0; W]);
        let new = rows.get_mut(before..).unwrap_or_default();
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(at * (8 * BLOCK) as u64))?;
        file.read_exact(bytemuck::cast_slice_mut(new.as_flattened_mut()))?;
        drop(file);
        self.mask(at, new.as_flattened_mut());
        Ok(())
    }
}

const fn rows_of_a_block<const W: usize>() -> usize {
    BLOCK / W
}

/// Records in the order in which they were pushed.
pub(crate) struct List<const W: usize> {
    scratch: Scratch,
    /// The last ones, or all.
    rows: Zeroizing<Vec<Row<W>>>,
    blocks: Option<Blocks>,
    len: u64,
}

impl<const W: usize> List<W> {
    /// An empty list for about so many.
    pub(crate) fn new(scratch: &Scratch, expected: u64) -> Self {
        let scratch = scratch.clone();
        Self { rows: scratch.rows(expected), scratch, blocks: None, len: 0 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    pub(crate) fn push(&mut self, row: Row<W>) -> Result<(), Lost> {
        let blocks = match &mut self.blocks {
            None if self.rows.len() < self.scratch.keep => None,
            None => {
                let mut blocks = Blocks::new(&self.scratch)?;
                let mut block = Zeroizing::new(Vec::with_capacity(rows_of_a_block::<W>()));
                // What does not fill a block stays.
                let whole = self.rows.len() / rows_of_a_block::<W>() * rows_of_a_block::<W>();
                for rows in self.rows[..whole].chunks(rows_of_a_block::<W>()) {
                    block.extend_from_slice(rows);
                    blocks.append(&mut block)?;
                }
                block.extend_from_slice(&self.rows[whole..]);
                self.rows = block;
                Some(self.blocks.insert(blocks))
            }
            Some(blocks) => Some(blocks),
        };
        self.rows.push(row);
        self.len += 1;
        if let Some(blocks) = blocks
            && self.rows.len() == rows_of_a_block::<W>()
        {
            blocks.append(&mut self.rows)?;
        }
        Ok(())
    }

    /// Reads from the first on.
    pub(crate) fn read(&self) -> Reading<'_, W> {
        Reading { list: self, next: 0, block: Zeroizing::default(), at: 0 }
    }
}

impl List<2> {
    /// Appends values.
    pub(crate) fn extend(&mut self, values: &[u128]) -> Result<(), Lost> {
        values.iter().try_for_each(|value| self.push(words(*value)))
    }
}

/// A value as two words, the higher first: they sort as it does.
pub(crate) fn words(value: u128) -> Row<2> {
    [(value >> 64) as u64, value as u64]
}

/// The value of two words.
pub(crate) fn value(high: u64, low: u64) -> u128 {
    u128::from(high) << 64 | u128::from(low)
}

/// A list that is being read.
pub(crate) struct Reading<'a, const W: usize> {
    list: &'a List<W>,
    /// The next block.
    next: u64,
    block: Zeroizing<Vec<Row<W>>>,
    at: usize,
}

impl<const W: usize> Reading<'_, W> {
    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Option<Row<W>>, Lost> {
        let blocks = self.list.blocks.as_ref();
        let count = blocks.map_or(0, |blocks| blocks.count);
        if self.next <= count && self.at == self.block.len() {
            self.at = 0;
            self.block.clear();
            if let (Some(blocks), true) = (blocks, self.next < count) {
                blocks.read(self.next, rows_of_a_block::<W>(), &mut self.block)?;
            }
            self.next += 1;
        }
        let rows = if self.next <= count { &self.block } else { &self.list.rows };
        let row = rows.get(self.at).copied();
        self.at += usize::from(row.is_some());
        Ok(row)
    }

    /// The next `count` records, or as many as are left.
    pub(crate) fn take(&mut self, count: usize) -> Result<Zeroizing<Vec<Row<W>>>, Lost> {
        let mut rows = Zeroizing::new(Vec::with_capacity(count.min(1 << 20)));
        while rows.len() < count {
            match self.next()? {
                Some(row) => rows.push(row),
                None => break,
            }
        }
        Ok(rows)
    }
}

impl Reading<'_, 2> {
    /// The next `count` values, or as many as are left.
    pub(crate) fn values(&mut self, count: usize) -> Result<Zeroizing<Vec<u128>>, Lost> {
        let rows = self.take(count)?;
        Ok(Zeroizing::new(rows.iter().map(|[high, low]| value(*high, *low)).collect()))
    }
}

/// One part of a file: what is not yet written of it, and where the rest is.
struct Bucket<const W: usize> {
    rows: Zeroizing<Vec<Row<W>>>,
    blocks: Vec<u64>,
}

struct Buckets<const W: usize> {
    blocks: Blocks,
    all: Vec<Bucket<W>>,
}

impl<const W: usize> Buckets<W> {
    fn new(scratch: &Scratch) -> Result<Self, Lost> {
        let bucket = || Bucket { rows: Zeroizing::default(), blocks: Vec::new() };
        let all = std::iter::repeat_with(bucket).take(BUCKETS).collect();
        Ok(Self { blocks: Blocks::new(scratch)?, all })
    }

    fn push(&mut self, row: Row<W>) -> Result<(), Lost> {
        let bucket = &mut self.all[(row[0] >> (64 - BUCKETS.ilog2())) as usize];
        bucket.rows.push(row);
        if bucket.rows.len() == rows_of_a_block::<W>() {
            bucket.blocks.push(self.blocks.append(&mut bucket.rows)?);
        }
        Ok(())
    }

    fn load(&self, bucket: usize) -> Result<Zeroizing<Vec<Row<W>>>, Lost> {
        let Bucket { rows, blocks } = &self.all[bucket];
        let count = blocks.len() * rows_of_a_block::<W>();
        let mut all = Zeroizing::new(Vec::with_capacity(count + rows.len()));
        for &block in blocks {
            self.blocks.read(block, rows_of_a_block::<W>(), &mut all)?;
        }
        all.extend_from_slice(rows);
        all.par_sort_unstable();
        Ok(all)
    }
}

/// Takes records in any order.
pub(crate) struct Sorter<const W: usize> {
    scratch: Scratch,
    rows: Zeroizing<Vec<Row<W>>>,
    buckets: Option<Buckets<W>>,
    len: u64,
}

impl<const W: usize> Sorter<W> {
    /// For about so many.
    pub(crate) fn new(scratch: &Scratch, expected: u64) -> Self {
        let scratch = scratch.clone();
        Self { rows: scratch.rows(expected), scratch, buckets: None, len: 0 }
    }

    pub(crate) fn push(&mut self, row: Row<W>) -> Result<(), Lost> {
        self.len += 1;
        if let Some(buckets) = &mut self.buckets {
            return buckets.push(row);
        }
        if self.rows.len() < self.scratch.keep {
            self.rows.push(row);
            return Ok(());
        }
        let mut buckets = Buckets::new(&self.scratch)?;
        let before = std::mem::take(&mut self.rows);
        before.iter().chain([&row]).try_for_each(|row| buckets.push(*row))?;
        self.buckets = Some(buckets);
        Ok(())
    }

    /// All of them, in ascending order.
    pub(crate) fn finish(self) -> Sorted<W> {
        let Self { mut rows, buckets, len, .. } = self;
        rows.par_sort_unstable();
        Sorted { rows, buckets, len }
    }
}

/// Records in ascending order.
pub(crate) struct Sorted<const W: usize> {
    rows: Zeroizing<Vec<Row<W>>>,
    buckets: Option<Buckets<W>>,
    len: u64,
}

impl<const W: usize> Sorted<W> {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Reads from the least on.
    pub(crate) fn walk(&self) -> Walk<'_, W> {
        Walk { sorted: self, next: 0, loaded: Zeroizing::default(), at: 0 }
    }
}

/// Sorted records that are being read.
pub(crate) struct Walk<'a, const W: usize> {
    sorted: &'a Sorted<W>,
    /// The next bucket.
    next: usize,
    loaded: Zeroizing<Vec<Row<W>>>,
    at: usize,
}

impl<const W: usize> Walk<'_, W> {
    /// The next record, which stays the next.
    pub(crate) fn peek(&mut self) -> Result<Option<Row<W>>, Lost> {
        let Some(buckets) = &self.sorted.buckets else {
            return Ok(self.sorted.rows.get(self.at).copied());
        };
        while self.at == self.loaded.len() && self.next < BUCKETS {
            self.loaded = buckets.load(self.next)?;
            (self.next, self.at) = (self.next + 1, 0);
        }
        Ok(self.loaded.get(self.at).copied())
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> Result<Option<Row<W>>, Lost> {
        let row = self.peek()?;
        self.at += usize::from(row.is_some());
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all<const W: usize>(mut next: impl FnMut() -> Result<Option<Row<W>>, Lost>) -> Vec<Row<W>> {
        std::iter::from_fn(|| next().unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// In memory, in a file, and where the one becomes the other.
        #[test]
        fn lists_are_read_as_they_were_pushed(len in 0u64..5000, keep in 1usize..3000) {
            let folder = tempfile::tempdir().unwrap();
            let scratch = Scratch::new(folder.path(), keep);
            let (mut list, mut sorter) = (List::<3>::new(&scratch, len), Sorter::<3>::new(&scratch, 9));
            let row = |i: u64| [i.wrapping_mul(0x9e37_79b9_7f4a_7c15), i, i * i];
            for i in 0..len {
                list.push(row(i)).unwrap();
                sorter.push(row(i)).unwrap();
            }
            prop_assert_eq!(list.blocks.is_some(), len > keep as u64);
            let mut expected: Vec<_> = (0..len).map(row).collect();
            for _ in 0..2 {
                let mut reading = list.read();
                prop_assert_eq!(&all(|| reading.next()), &expected);
            }
            prop_assert_eq!(list.read().take(10).unwrap().len() as u64, len.min(10));
            let sorted = sorter.finish();
            expected.sort_unstable();
            prop_assert_eq!(sorted.len(), len);
            for _ in 0..2 {
                let mut walk = sorted.walk();
                prop_assert_eq!(walk.peek().unwrap(), expected.first().copied());
                prop_assert_eq!(&all(|| walk.next()), &expected);
            }
            // No name in the folder, at any time.
            prop_assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_file_does_not_tell_what_is_in_it() {
        let scratch = Scratch::new(&std::env::temp_dir(), 1);
        let mut list = List::<2>::new(&scratch, 0);
        list.extend(&[0; 3 * BLOCK]).unwrap();
        let blocks = list.blocks.as_ref().unwrap();
        let mut file = blocks.file.lock().unwrap();
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes.len() >= 3 * 8 * BLOCK);
        let zeros = bytes.iter().filter(|byte| **byte == 0).count();
        assert!(zeros < bytes.len() / 100, "{zeros}");
        let (first, rest) = bytes.split_at(8 * BLOCK);
        assert_ne!(first, &rest[..8 * BLOCK]);
    }

    #[test]
    fn values_sort_as_their_words() {
        assert_eq!(words(7 << 64 | 9), [7, 9]);
        assert_eq!(value(7, 9), 7 << 64 | 9);
    }
}
