//! Why a file was not read. Names of columns are shown, and never a field.

use std::io;

use crate::input::normalise::Step;
use crate::scratch::Lost;

/// Why a file was not read, or its rows not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// The file cannot be opened or read.
    #[error("the data file cannot be read: {kind}")]
    Unreadable {
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// The rows cannot be written.
    #[error("the matching rows cannot be written: {kind}")]
    Unwritable {
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// What does not fit into memory cannot be kept.
    #[error("the temporary file of a large set cannot be used: {kind}")]
    Scratch {
        /// What the system says.
        kind: io::ErrorKind,
    },
    /// The output would replace the data.
    #[error("the matching rows would replace the data file; name another file")]
    SameFile,
    /// There is no line at all.
    #[error("the data file is empty; its first line must name the columns")]
    NoHeader,
    /// No key column is asked for.
    #[error("no key column is named; name at least one")]
    NoColumn,
    /// The header lacks a key column.
    #[error("the data file has no column `{column}`{}", hint(*.has, .nearest.as_deref()))]
    MissingColumn {
        /// The column asked for.
        column: String,
        /// How many columns there are.
        has: usize,
        /// The one that may be meant.
        nearest: Option<String>,
    },
    /// One key column is asked for twice.
    #[error("the key column `{column}` is named twice; name it once")]
    SameColumnTwice {
        /// The column.
        column: String,
    },
    /// Two columns of the file have the name of a key column.
    #[error("the data file has several columns `{column}`; rename all but one")]
    AmbiguousColumn {
        /// The column.
        column: String,
    },
    /// A row has more or fewer fields than the header.
    #[error("line {line} has another number of fields than the header; look for a missing quote")]
    Ragged {
        /// The line on which the row starts; the header is on line 1.
        line: u64,
    },
    /// A quote is never closed, so that all rows after it are one field.
    #[error("a quote that opens in the row on line {line} is never closed")]
    OpenQuote {
        /// The line on which the row starts; the header is on line 1.
        line: u64,
    },
    /// Several rows have one key, and that is refused.
    #[error("{count} rows repeat the key of an earlier row; remove them, or allow `dedupe`")]
    Duplicates {
        /// How many rows.
        count: u64,
    },
    /// More different keys than can be numbered.
    #[error("the data file has more than {} different keys; split it", u32::MAX)]
    TooMany,
    /// The file is not the one that was read.
    #[error("the data file changed since it was read; start again")]
    Changed,
    /// The answers belong to other items.
    #[error("there are {answers} answers for {items} items")]
    Answers {
        /// How many items were read.
        items: u64,
        /// How many answers there are.
        answers: u64,
    },
}

impl From<Lost> for InputError {
    fn from(Lost(kind): Lost) -> Self {
        Self::Scratch { kind }
    }
}

impl InputError {
    pub(super) fn reading(error: &io::Error) -> Self {
        Self::Unreadable { kind: error.kind() }
    }

    pub(super) fn writing(error: &io::Error) -> Self {
        Self::Unwritable { kind: error.kind() }
    }
}

/// Why names are no pipeline.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownStep {
    /// There is no such step.
    #[error("there is no step `{name}`; {}", step_hint(*.nearest))]
    Name {
        /// What was asked for.
        name: String,
        /// The step that may be meant.
        nearest: Option<&'static str>,
    },
    /// `none` stands beside steps.
    #[error("`none` means no step at all, so it stands alone")]
    NoneWithOthers,
}

fn hint(has: usize, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!(" among its {has}; did you mean `{nearest}`?"),
        None => format!(" among its {has}; its first line must name the columns"),
    }
}

fn step_hint(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => format!("there are none, {}", Step::ALL.map(Step::name).join(", ")),
    }
}

/// The closest of some names, if one is close enough to be meant.
pub(super) fn nearest<'a>(name: &str, among: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    among
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's: letters to insert, remove or replace. Case costs nothing.
fn distance(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|text| text.to_lowercase().chars().collect::<Vec<_>>());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        for (place, to) in row.iter_mut().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *place;
            left = replaced.min(*place + 1).min(left + 1);
            *place = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_levenshteins() {
        let known = [("kitten", "sitting", 3), ("", "abc", 3), ("abc", "", 3), ("Mail", "mail", 0)];
        for (a, b, expected) in known {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_close_is_meant() {
        let names = ["customer", "email", "born"];
        assert_eq!(nearest("e-mail", names.into_iter()), Some("email"));
        assert_eq!(nearest("costumer", names.into_iter()), Some("customer"));
        assert_eq!(nearest("postcode", names.into_iter()), None);
        assert_eq!(nearest("x", std::iter::empty()), None);
    }
}
