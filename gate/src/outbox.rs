//! Bytes that were paid for, kept until they are acknowledged.
//!
//! If a site or a connection dies after the budget was committed, the retry sends these very
//! bytes: never the same value under fresh noise, and nothing is paid twice.

use bytes::Bytes;
use privet_core::{Code, Reason};
use privet_crypto::codec::{Reader, Writer};
use privet_crypto::{Digest, Transcript};
use privet_store::{Store, StoreError, Table};

use crate::envelope::TaskId;

const OUTBOX: Table = Table::named("outbox");

/// The outbox of one site folder.
#[derive(Clone)]
pub struct Outbox(Store);

/// What an entry is found by: the run, and the very task it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(Digest);

impl Key {
    pub(crate) fn new(run: &str, task: TaskId) -> Self {
        let transcript = Transcript::new("privet/outbox/v1").bytes(run.as_bytes());
        Self(transcript.bytes(&task.0.0).finish())
    }
}

fn failed(error: impl std::fmt::Display) -> Reason {
    Reason::new(Code::StorageFailed, error.to_string())
}

impl Outbox {
    /// The outbox in a store.
    pub fn new(store: Store) -> Self {
        Self(store)
    }

    /// Keeps bytes, durably.
    pub(crate) fn put(&self, key: Key, head: &[u8], body: &[Bytes]) -> Result<(), Reason> {
        let mut writer = Writer::default();
        writer.bytes(head);
        for piece in body {
            writer.raw(piece);
        }
        self.0
            .write(|tx| tx.put(OUTBOX, &key.0.0, &writer.finish()))
            .map_err(|error: StoreError| failed(error))
    }

    /// Kept bytes: head and body.
    pub(crate) fn get(&self, key: Key) -> Result<Option<(Bytes, Bytes)>, Reason> {
        let Some(kept) = self.0.get(OUTBOX, &key.0.0).map_err(failed)? else {
            return Ok(None);
        };
        let mut reader = Reader::new(&kept);
        let head_len = reader.bytes(kept.len(), "head").map_err(failed)?.len();
        let kept = Bytes::from(kept);
        let start = 4 + head_len;
        Ok(Some((kept.slice(4..start), kept.slice(start..))))
    }

    /// Forgets bytes that were acknowledged.
    pub(crate) fn remove(&self, key: Key) -> Result<(), Reason> {
        self.0
            .write(|tx| tx.remove(OUTBOX, &key.0.0).map(drop))
            .map_err(|error: StoreError| failed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kept_until_they_are_acknowledged() {
        let outbox = Outbox::new(Store::in_memory().unwrap());
        let key = Key::new("run", TaskId(Digest([1; 32])));
        assert_eq!(outbox.get(key).unwrap(), None);
        let body = [Bytes::from_static(b"bo"), Bytes::from_static(b"dy")];
        outbox.put(key, b"head", &body).unwrap();
        let kept = (Bytes::from_static(b"head"), Bytes::from_static(b"body"));
        assert_eq!(outbox.get(key).unwrap(), Some(kept));
        assert_eq!(outbox.get(Key::new("run", TaskId(Digest([2; 32])))).unwrap(), None);
        outbox.remove(key).unwrap();
        assert_eq!(outbox.get(key).unwrap(), None);
    }
}
