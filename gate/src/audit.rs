//! The audit log: append-only JSON lines, each holding the hash of the one before it.
//!
//! A line's hash is SHA-256 over the line without `hash`, as JSON with sorted keys and without
//! spaces. Whoever changes or drops a line in the middle breaks the chain; cutting lines off the
//! end is seen only by one who noted the last hash.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use privet_core::audit::{Audit, AuditEntry};
use privet_core::clock::Clock;
use privet_core::{Code, Reason};
use privet_crypto::Digest;
use serde::Serialize;
use serde_json::Value;

/// The hash before the first line.
const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// An audit log in a file.
pub struct AuditFile {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
}

struct State {
    file: File,
    seq: u64,
    head: String,
    /// Bytes of whole lines.
    len: u64,
}

fn failed(error: impl std::fmt::Display) -> Reason {
    Reason::new(Code::StorageFailed, format!("the audit log: {error}"))
}

impl AuditFile {
    /// Opens or makes a log. A torn last line, left by a crash in the middle of a write, is cut
    /// off; anything else that is broken is refused and left as it is.
    ///
    /// # Errors
    /// When the file cannot be used, or its chain is broken.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, Reason> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        let checked = check(&mut file).map_err(failed)?;
        if let Some(line) = checked.first_bad {
            return Err(failed(format!("line {line} does not follow from the one before it")));
        }
        file.set_len(checked.intact_bytes).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let state =
            State { file, seq: checked.entries, head: checked.head, len: checked.intact_bytes };
        Ok(Self { state: Mutex::new(state), clock })
    }
}

impl Audit for AuditFile {
    fn append(&self, entry: AuditEntry) -> Result<(), Reason> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let time = jiff::Timestamp::try_from(self.clock.now()).map_err(failed)?;
        let mut value = serde_json::to_value(entry).map_err(failed)?;
        let Value::Object(line) = &mut value else {
            return Err(failed("an entry is no object"));
        };
        line.retain(|key, value| !(key == "refusal" && value.is_null()));
        line.insert("seq".into(), (state.seq + 1).into());
        line.insert("time".into(), time.to_string().into());
        line.insert("prev".into(), state.head.clone().into());
        let hash = Digest::of(canonical(&value).as_bytes()).hex();
        if let Value::Object(line) = &mut value {
            line.insert("hash".into(), hash.clone().into());
        }
        let mut bytes = canonical(&value).into_bytes();
        bytes.push(b'\n');
        let written = state.file.write_all(&bytes).and_then(|()| state.file.sync_data());
        if let Err(error) = written {
            // A half line would break the chain for good: back to the last whole one.
            let len = state.len;
            let _ = state.file.set_len(len).and_then(|()| state.file.seek(SeekFrom::Start(len)));
            return Err(failed(error));
        }
        state.len += bytes.len() as u64;
        state.seq += 1;
        state.head = hash;
        Ok(())
    }
}

/// With the keys of every object in order, and no spaces, whatever order the maps of this build keep.
fn canonical(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_by_key(|(name, _)| *name);
                let sorted = members.into_iter().map(|(name, value)| (name.clone(), sorted(value)));
                Value::Object(sorted.collect())
            }
            Value::Array(values) => Value::Array(values.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}

/// What a log's chain says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Whether every line follows from the one before it, and the head is the one asked for.
    pub ok: bool,
    /// Lines that do, before the first that does not.
    pub entries: u64,
    /// The first line that does not, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<u64>,
    /// Hash of the last good line.
    pub head: String,
    /// What the reader should know, though the chain is intact.
    pub warnings: Vec<String>,
}

/// Verifies a log, against the hash of its last line where one was noted.
///
/// # Errors
/// When the file cannot be read.
pub fn verify(path: &Path, head: Option<&str>) -> std::io::Result<Verification> {
    let checked = check(&mut File::open(path)?)?;
    let mut warnings = Vec::new();
    if checked.torn {
        warnings.push("the last line is torn: a crash in the middle of a write".to_owned());
    }
    let wanted = head.is_none_or(|head| head == checked.head);
    if !wanted {
        warnings.push("the log does not end with the hash that was asked for".to_owned());
    }
    Ok(Verification {
        ok: checked.first_bad.is_none() && wanted,
        entries: checked.entries,
        first_bad: checked.first_bad,
        head: checked.head,
        warnings,
    })
}

struct Checked {
    entries: u64,
    head: String,
    first_bad: Option<u64>,
    torn: bool,
    intact_bytes: u64,
}

/// Longest line that is read; a longer one is bad.
const MAX_LINE: u64 = 64 << 20;

fn check(file: &mut File) -> std::io::Result<Checked> {
    let mut checked = Checked {
        entries: 0,
        head: GENESIS.to_owned(),
        first_bad: None,
        torn: false,
        intact_bytes: 0,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(checked);
        }
        if line.last() != Some(&b'\n') {
            checked.torn = true;
            return Ok(checked);
        }
        let Some(hash) = follows(&line, checked.entries + 1, &checked.head) else {
            checked.first_bad = Some(checked.entries + 1);
            return Ok(checked);
        };
        checked.head = hash;
        checked.entries += 1;
        checked.intact_bytes += read as u64;
    }
}

/// The hash of a line, if it is right and follows from `prev`.
fn follows(line: &[u8], seq: u64, prev: &str) -> Option<String> {
    let mut value: Value = serde_json::from_slice(line).ok()?;
    let object = value.as_object_mut()?;
    let hash = object.remove("hash")?.as_str()?.to_owned();
    let fits =
        object.get("seq")?.as_u64() == Some(seq) && object.get("prev")?.as_str() == Some(prev);
    let right = Digest::of(canonical(&value).as_bytes()).hex() == hash;
    (fits && right).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use privet_core::clock::SystemClock;

    fn log(path: &Path, entries: usize) {
        let log = AuditFile::open(path, Arc::new(SystemClock)).unwrap();
        for i in 0..entries {
            let entry = AuditEntry {
                event: "release".into(),
                norm: Some(0.1 + i as f64 * 1e-7),
                ..AuditEntry::default()
            };
            log.append(entry).unwrap();
        }
    }

    /// Whoever checks a log with another program sorts the keys too.
    #[test]
    fn lines_are_hashed_with_their_keys_in_order() {
        let value = serde_json::json!({ "b": [{ "d": 1, "c": null }], "a": "x" });
        assert_eq!(canonical(&value), r#"{"a":"x","b":[{"c":null,"d":1}]}"#);
    }

    #[test]
    fn the_chain_goes_on_over_restarts_and_breaks_where_it_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        log(&path, 3);
        log(&path, 2);
        let whole = verify(&path, None).unwrap();
        assert!(whole.ok && whole.entries == 5 && whole.warnings.is_empty());
        assert!(verify(&path, Some(&whole.head)).unwrap().ok);

        let text = std::fs::read_to_string(&path).unwrap();
        let changed = text.replacen("0.1000001", "0.2000001", 1);
        assert_ne!(changed, text);
        std::fs::write(&path, changed).unwrap();
        let broken = verify(&path, None).unwrap();
        assert_eq!((broken.ok, broken.first_bad), (false, Some(2)));
        assert!(AuditFile::open(&path, Arc::new(SystemClock)).is_err());

        let dropped: Vec<_> = text.lines().enumerate().filter(|(i, _)| *i != 2).collect();
        let dropped: String = dropped.iter().map(|(_, line)| format!("{line}\n")).collect();
        std::fs::write(&path, dropped).unwrap();
        assert_eq!(verify(&path, None).unwrap().first_bad, Some(3));

        let cut: String = text.lines().take(3).map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, cut).unwrap();
        assert!(verify(&path, None).unwrap().ok, "a cut tail is invisible without a head");
        assert!(!verify(&path, Some(&whole.head)).unwrap().ok);
    }

    #[test]
    fn a_torn_last_line_is_a_warning_and_is_cut_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        log(&path, 2);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"event\":\"rel");
        std::fs::write(&path, text).unwrap();
        let torn = verify(&path, None).unwrap();
        assert!(torn.ok && torn.warnings.len() == 1);
        log(&path, 1);
        let mended = verify(&path, None).unwrap();
        assert!(mended.ok && mended.entries == 3 && mended.warnings.is_empty());
    }
}
