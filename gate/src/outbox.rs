//! Bytes that were paid for, kept until the server has moved on.
//!
//! If a site, a server or a connection dies after the budget was committed, the retry sends these
//! very bytes: never the same value under fresh noise, and nothing is paid twice. An
//! acknowledgement is not enough to forget them, since a server may die before its checkpoint; the
//! task of a later round is.

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

/// What an entry is found by: the run, the round, and the very task it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    run: Digest,
    round: u32,
    task: TaskId,
}

impl Key {
    /// `policy` and `rule` are those that let the bytes out: what an older policy allowed is not
    /// sent under a newer one.
    pub(crate) fn new(run: &str, policy: &str, rule: &str, round: u32, task: TaskId) -> Self {
        let run = Transcript::new("privet/outbox/v1")
            .bytes(run.as_bytes())
            .bytes(policy.as_bytes())
            .bytes(rule.as_bytes())
            .finish();
        Self { run, round, task }
    }

    /// Sorts by run, then by round.
    fn bytes(&self) -> Vec<u8> {
        [&self.run.0[..], &self.round.to_be_bytes(), &self.task.0.0].concat()
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

    /// Keeps bytes, durably, and forgets those of earlier rounds of the run.
    pub(crate) fn put(&self, key: Key, head: &[u8], body: &[Bytes]) -> Result<(), Reason> {
        let mut writer = Writer::default();
        writer.bytes(head);
        for piece in body {
            writer.raw(piece);
        }
        let kept = writer.finish();
        let put = |tx: &privet_store::Transaction| {
            let this = key.bytes();
            for (earlier, _) in tx.scan(OUTBOX, &key.run.0)? {
                if earlier[..36] < this[..36] {
                    tx.remove(OUTBOX, &earlier)?;
                }
            }
            tx.put(OUTBOX, &this, &kept)
        };
        self.0.write(put).map_err(|error: StoreError| failed(error))
    }

    /// Kept bytes: head and body.
    pub(crate) fn get(&self, key: Key) -> Result<Option<(Bytes, Bytes)>, Reason> {
        let Some(kept) = self.0.get(OUTBOX, &key.bytes()).map_err(failed)? else {
            return Ok(None);
        };
        let mut reader = Reader::new(&kept);
        let head_len = reader.bytes(kept.len(), "head").map_err(failed)?.len();
        let kept = Bytes::from(kept);
        let start = 4 + head_len;
        Ok(Some((kept.slice(4..start), kept.slice(start..))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_kept_until_a_later_round() {
        let outbox = Outbox::new(Store::in_memory().unwrap());
        let key =
            |run, round, task| Key::new(run, "policy", "rule", round, TaskId(Digest([task; 32])));
        assert_eq!(outbox.get(key("run", 1, 1)).unwrap(), None);
        let body = [Bytes::from_static(b"bo"), Bytes::from_static(b"dy")];
        outbox.put(key("run", 1, 1), b"head", &body).unwrap();
        outbox.put(key("other", 9, 1), b"head", &body).unwrap();
        let kept = Some((Bytes::from_static(b"head"), Bytes::from_static(b"body")));
        assert_eq!(outbox.get(key("run", 1, 1)).unwrap(), kept);
        assert_eq!(outbox.get(key("run", 1, 2)).unwrap(), None);
        assert_eq!(outbox.get(key("other", 1, 1)).unwrap(), None);
        let tightened = Key::new("run", "another policy", "rule", 1, TaskId(Digest([1; 32])));
        assert_eq!(outbox.get(tightened).unwrap(), None);
        outbox.put(key("run", 2, 1), b"head", &body).unwrap();
        assert_eq!(outbox.get(key("run", 1, 1)).unwrap(), None);
        assert_eq!(outbox.get(key("run", 2, 1)).unwrap(), kept);
        assert_eq!(outbox.get(key("other", 9, 1)).unwrap(), kept);
    }
}
