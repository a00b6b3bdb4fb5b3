//! A file of rows: read into items, and later its matching rows written.

use std::fs::File;
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use privet_core::Reason;
use privet_core::intersect::Duplicates;

use crate::flags::Flags;
use crate::input::error::{InputError, nearest};
use crate::input::normalise::Pipeline;
use crate::input::rows::{BUFFER, Rows, Stamp, delimiter};
use crate::records::{Item, Set};
use crate::scratch::{Row, Scratch, Sorted, Sorter};

/// A file and what of it is compared.
///
/// Its fields are separated by tabs if its name ends in `.tsv` or `.tab`, and by commas otherwise;
/// both may be quoted. The first line names the columns. A line with nothing on it is no row.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Its key columns. A key is their fields in this order; other sites may name them otherwise.
    pub columns: Vec<String>,
    /// What is done to each field of a key.
    pub pipeline: Pipeline,
    /// What becomes of rows whose key an earlier row has.
    pub duplicates: Duplicates,
}

/// The different keys of a file. They are as private as the file: see the module.
pub struct Items {
    /// The digest of each row that has a key, and the number of the row; the first row after the header is row 0.
    rows: Sorted<5>,
    /// How many keys there are.
    pub count: u64,
    /// Rows whose key an earlier row has.
    pub duplicates: u64,
    /// Rows without a key: every field of it is empty when normalised. They match nothing.
    pub blank: u64,
    /// Of the file when it was opened.
    stamp: Stamp,
}

/// Numbers only.
impl std::fmt::Debug for Items {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, duplicates, blank, .. } = self;
        write!(f, "Items {{ {count} items, {duplicates} duplicates, {blank} blank }}")
    }
}

fn digest(row: &Row<5>) -> Item {
    let mut digest = [0; 32];
    digest.as_chunks_mut::<8>().0.iter_mut().zip(row).for_each(|(to, word)| {
        *to = word.to_be_bytes();
    });
    digest
}

impl Items {
    /// Gives every row that has a key, in the order of digests: the number of its item, whether it is the first
    /// with this key, its digest and its own number.
    pub(super) fn each_row<E: From<crate::scratch::Lost>>(
        &self,
        mut to: impl FnMut(u64, bool, Item, u64) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut walk, mut items, mut last) = (self.rows.walk(), 0, None);
        while let Some(row) = walk.next()? {
            let digest = digest(&row);
            let first = last != Some(digest);
            items += u64::from(first);
            last = Some(digest);
            to(items - 1, first, digest, row[4])?;
        }
        Ok(())
    }

    /// The rows of some items, in the file's order.
    fn marked(&self, matching: &Flags, all: bool) -> Result<Marked, InputError> {
        let rows = self.rows.len() + self.blank;
        let mut marked = Marked { rows: Flags::new(rows), sum: 0 };
        self.each_row(|item, first, digest, row| {
            if matching.get(item) && (first || all) {
                marked.rows.set(row);
                marked.sum = marked.sum.wrapping_add(mark(&digest, row));
            }
            Ok::<(), InputError>(())
        })?;
        Ok(marked)
    }
}

impl Set for Items {
    fn len(&self) -> u64 {
        self.count
    }

    fn each(&self, to: &mut dyn FnMut(Item) -> Result<(), Reason>) -> Result<(), Reason> {
        self.each_row(|_, first, digest, _| if first { to(digest) } else { Ok(()) })
    }
}

/// Rows of a file, and a sum by which another file is told from it.
struct Marked {
    rows: Flags,
    sum: u128,
}

/// Of one row: another for another key or another place.
fn mark(digest: &Item, row: u64) -> u128 {
    crate::session::first_half(digest).wrapping_mul(2 * u128::from(row) + 1)
}

impl Source {
    /// Looks at the header alone.
    ///
    /// # Errors
    /// When the file cannot be read, or has not these columns.
    pub fn check(&self) -> Result<(), InputError> {
        Table::open(self).map(drop)
    }

    /// Reads the file once. `progress` is told how many bytes were read so far.
    ///
    /// # Errors
    /// When the file cannot be read, is not such a file, or has duplicates that are refused.
    pub fn read(
        &self,
        scratch: &Scratch,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Items, InputError> {
        self.read_at_most(u64::from(u32::MAX), scratch, progress)
    }

    pub(super) fn read_at_most(
        &self,
        most: u64,
        scratch: &Scratch,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Items, InputError> {
        let mut table = Table::open(self)?;
        let (mut sorter, mut row, mut blank, mut told) = (Sorter::new(scratch, 0), 0, 0, 0);
        while table.next()? {
            match table.key() {
                Some(digest) => {
                    let words = digest.as_chunks::<8>().0;
                    let word = |at: usize| words.get(at).map(|word| u64::from_be_bytes(*word));
                    sorter.push(std::array::from_fn(|at| word(at).unwrap_or(row)))?;
                }
                None => blank += 1,
            }
            row += 1;
            let read = table.rows.bytes();
            if read >= told + BUFFER as u64 {
                told = read;
                progress(read);
            }
        }
        progress(table.rows.bytes());
        let (rows, stamp) = (sorter.finish(), table.rows.stamp);
        let mut items = Items { rows, count: 0, duplicates: 0, blank, stamp };
        let mut count = 0;
        items.each_row(|_, first, _, _| {
            count += u64::from(first);
            Ok::<(), InputError>(())
        })?;
        (items.count, items.duplicates) = (count, items.rows.len() - count);
        match self.duplicates {
            _ if count > most => Err(InputError::TooMany),
            Duplicates::Refuse if items.duplicates > 0 => {
                Err(InputError::Duplicates { count: items.duplicates })
            }
            _ => Ok(items),
        }
    }

    /// Writes the header and the rows of the items that match, all their columns, in the order and
    /// with the delimiter of this file; also when there are none. Returns how many rows. `out` is
    /// there whole or stays as it was.
    ///
    /// # Errors
    /// When the file is not the one that `items` are of, `matching` has another length than they, or
    /// a file cannot be read or written.
    pub fn write_rows(
        &self,
        items: &Items,
        matching: &Flags,
        out: &Path,
    ) -> Result<u64, InputError> {
        self.written(items, matching, out, false)
    }

    /// Writes the header and all other rows: those of the other items, their duplicates, and rows without a
    /// key. Otherwise as [`Source::write_rows`].
    ///
    /// # Errors
    /// The same.
    pub fn write_rest(
        &self,
        items: &Items,
        matching: &Flags,
        out: &Path,
    ) -> Result<u64, InputError> {
        self.written(items, matching, out, true)
    }

    /// Writes `out`, whole or not at all.
    fn written(
        &self,
        items: &Items,
        matching: &Flags,
        out: &Path,
        rest: bool,
    ) -> Result<u64, InputError> {
        let (count, answers) = (items.count, matching.len());
        if count != answers {
            return Err(InputError::Answers { items: count, answers });
        }
        let marked = items.marked(matching, rest)?;
        let copy = |table: Table<'_>, out: &Path| table.copy(&marked, rest, out);
        let table = Table::open(self)?;
        if items.stamp != table.rows.stamp {
            return Err(InputError::Changed);
        }
        if let (Ok(from), Ok(to)) = (self.path.canonicalize(), out.canonicalize())
            && from == to
        {
            return Err(InputError::SameFile);
        }
        // A pipe or a terminal cannot be replaced by a file.
        if out.metadata().is_ok_and(|metadata| !metadata.is_file()) {
            return copy(table, out);
        }
        let mut part = out.as_os_str().to_owned();
        part.push(".part");
        let written = copy(table, part.as_ref()).and_then(|rows| {
            std::fs::rename(&part, out).map_err(|error| InputError::writing(&error))?;
            Ok(rows)
        });
        if written.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        written
    }
}

/// An open file of which the header was read.
struct Table<'a> {
    source: &'a Source,
    rows: Rows<'a>,
    header: ByteRecord,
    /// Where the key columns are.
    columns: Vec<usize>,
    /// The row read last.
    row: ByteRecord,
    hasher: blake3::Hasher,
}

impl<'a> Table<'a> {
    fn open(source: &'a Source) -> Result<Self, InputError> {
        let (mut rows, mut header) = (Rows::open(&source.path)?, ByteRecord::new());
        if !rows.next(&mut header)? {
            return Err(InputError::NoHeader);
        }
        let columns = places(&source.columns, &header)?;
        let hasher = blake3::Hasher::new_derive_key("privet/psi/item/v1");
        Ok(Self { source, rows, header, columns, row: ByteRecord::new(), hasher })
    }

    /// Reads a row; whether there was one.
    fn next(&mut self) -> Result<bool, InputError> {
        self.rows.next(&mut self.row)
    }

    /// The digest of this row's key: of how many fields there are, and of each with its length, so
    /// that no two keys give the same bytes. A row without a key has none.
    fn key(&mut self) -> Option<[u8; 32]> {
        let mut blank = true;
        self.hasher.reset();
        self.hasher.update(&(self.columns.len() as u64).to_le_bytes());
        for &column in &self.columns {
            let field = self.source.pipeline.apply(self.row.get(column).unwrap_or_default());
            blank &= field.is_empty();
            self.hasher.update(&(field.len() as u64).to_le_bytes());
            self.hasher.update(&field);
        }
        (!blank).then(|| *self.hasher.finalize().as_bytes())
    }

    /// Writes the header and the marked rows, or all others.
    fn copy(mut self, marked: &Marked, others: bool, out: &Path) -> Result<u64, InputError> {
        let mut output = Output::create(&self, out)?;
        let (mut row, mut sum) = (0, 0_u128);
        while self.next()? {
            let is_marked = marked.rows.get(row);
            if is_marked {
                let digest = self.key().ok_or(InputError::Changed)?;
                sum = sum.wrapping_add(mark(&digest, row));
            }
            if is_marked != others {
                output.row(&self.row)?;
            }
            row += 1;
        }
        if sum != marked.sum {
            return Err(InputError::Changed);
        }
        output.finish()
    }
}

/// A file of rows that is being written.
struct Output {
    writer: csv::Writer<File>,
    rows: u64,
}

impl Output {
    /// With the delimiter and the header of a table.
    fn create(table: &Table<'_>, out: &Path) -> Result<Self, InputError> {
        let file = File::create(out).map_err(|error| InputError::writing(&error))?;
        let mut writer = csv::WriterBuilder::new()
            .delimiter(delimiter(&table.source.path))
            .buffer_capacity(BUFFER)
            .from_writer(file);
        writer.write_byte_record(&table.header).map_err(unwritable)?;
        Ok(Self { writer, rows: 0 })
    }

    fn row(&mut self, row: &ByteRecord) -> Result<(), InputError> {
        self.rows += 1;
        self.writer.write_byte_record(row).map_err(unwritable)
    }

    /// Everything is on disk when this returns.
    fn finish(self) -> Result<u64, InputError> {
        let file = self.writer.into_inner().map_err(|error| InputError::writing(error.error()))?;
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            file.sync_all().map_err(|error| InputError::writing(&error))?;
        }
        Ok(self.rows)
    }
}

/// Where the key columns are in the header.
fn places(columns: &[String], header: &ByteRecord) -> Result<Vec<usize>, InputError> {
    if columns.is_empty() {
        return Err(InputError::NoColumn);
    }
    let place = |(i, column): (usize, &String)| {
        if columns.iter().take(i).any(|before| before == column) {
            return Err(InputError::SameColumnTwice { column: column.clone() });
        }
        let mut found = header.iter().enumerate().filter(|(_, name)| *name == column.as_bytes());
        match (found.next(), found.next()) {
            (Some((place, _)), None) => Ok(place),
            (Some(_), Some(_)) => Err(InputError::AmbiguousColumn { column: column.clone() }),
            (None, _) => {
                let names = header.iter().filter_map(|name| std::str::from_utf8(name).ok());
                let nearest = nearest(column, names).map(str::to_owned);
                let (column, has) = (column.clone(), header.len());
                Err(InputError::MissingColumn { column, has, nearest })
            }
        }
    };
    columns.iter().enumerate().map(place).collect()
}

/// Of an error only its kind: its text may hold fields.
fn unwritable(error: csv::Error) -> InputError {
    match error.kind() {
        csv::ErrorKind::Io(error) => InputError::writing(error),
        _ => InputError::Unwritable { kind: std::io::ErrorKind::InvalidData },
    }
}
