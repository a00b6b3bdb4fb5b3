//! The rows of an open file, one after another.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufReader, Chain, Read};
use std::path::Path;
use std::time::SystemTime;

use csv::ByteRecord;

use crate::input::error::InputError;

/// Bytes read or written at a time, and between two words of progress.
pub(super) const BUFFER: usize = 1 << 20;

/// Read after the file's end. They end a row without newline, and are no row; only a row with a quote
/// that is still open takes both.
const END: &[u8] = b"\n\n";

/// A file and how many of its bytes were read.
struct Counted {
    file: File,
    bytes: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

/// What tells that a file is another than before, short of reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    bytes: u64,
    modified: Option<SystemTime>,
}

/// An open file, of which the header is a row as well.
pub(super) struct Rows<'a> {
    path: &'a Path,
    pub(super) stamp: Stamp,
    reader: csv::Reader<Chain<Counted, &'static [u8]>>,
}

impl<'a> Rows<'a> {
    pub(super) fn open(path: &'a Path) -> Result<Self, InputError> {
        let reading = |error| InputError::reading(&error);
        let file = File::open(path).map_err(reading)?;
        let metadata = file.metadata().map_err(reading)?;
        let stamp = Stamp { bytes: metadata.len(), modified: metadata.modified().ok() };
        let reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .delimiter(delimiter(path))
            .buffer_capacity(BUFFER)
            .from_reader(Counted { file, bytes: 0 }.chain(END));
        Ok(Self { path, stamp, reader })
    }

    /// Reads the next row; whether there was one.
    pub(super) fn next(&mut self, row: &mut ByteRecord) -> Result<bool, InputError> {
        let more = self.reader.read_byte_record(row).map_err(|error| self.refused(&error))?;
        if more && self.reader.position().byte() > self.bytes() + 1 {
            return Err(InputError::OpenQuote { line: self.line(row.position()) });
        }
        Ok(more)
    }

    /// Bytes of the file read so far.
    pub(super) fn bytes(&self) -> u64 {
        self.reader.get_ref().get_ref().0.bytes
    }

    /// Of an error only its kind and line: its text may hold fields.
    fn refused(&self, error: &csv::Error) -> InputError {
        match error.kind() {
            csv::ErrorKind::Io(error) => InputError::reading(error),
            csv::ErrorKind::UnequalLengths { pos, .. } => {
                InputError::Ragged { line: self.line(pos.as_ref()) }
            }
            _ => InputError::Unreadable { kind: std::io::ErrorKind::InvalidData },
        }
    }

    /// The line on which a row starts. The parser's own count lags behind where lines end in CRLF,
    /// and does not know of the empty lines before a row; it must do for what cannot be read again.
    fn line(&self, start: Option<&csv::Position>) -> u64 {
        let (byte, line) = start.map_or((0, 1), |start| (start.byte(), start.line()));
        let again = || line_at(File::open(self.path)?, byte);
        if self.path.is_file() { again().unwrap_or(line) } else { line }
    }
}

/// The line of the first row from this byte on.
fn line_at(file: File, byte: u64) -> std::io::Result<u64> {
    let (mut line, mut before) = (1, 0);
    for (at, next) in (0..).zip(BufReader::new(file).bytes()) {
        match next? {
            next if at >= byte && !matches!(next, b'\r' | b'\n') => break,
            b'\n' if before == b'\r' => before = 0,
            next => {
                line += u64::from(matches!(next, b'\r' | b'\n'));
                before = next;
            }
        }
    }
    Ok(line)
}

/// What separates the fields of a file of this name.
pub(super) fn delimiter(path: &Path) -> u8 {
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default();
    let tabs = ["tsv", "tab"].iter().any(|tabs| extension.eq_ignore_ascii_case(tabs));
    if tabs { b'\t' } else { b',' }
}
