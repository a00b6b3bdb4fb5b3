//! Starting an account anew, by two people.
//!
//! ```text
//!   ann asks ──▶ a code, good for a day ──▶ bob confirms with it ──▶ charges so far count no more
//! ```
//! The ledger forgets; whoever saw the releases does not. What was charged stays in the ledger, marked,
//! and both steps belong into the site's audit log. The code shows that the two have spoken; that they
//! are two is for the organisation to see to.

use jiff::SignedDuration;
use privet_core::ledger::{Entry, EntryState};
use privet_core::{Code, Reason};
use privet_crypto::{Seed, Transcript, Words};
use serde::{Deserialize, Serialize};

use super::{
    COUNTER, ENTRIES, Failure, OPEN, RESETS, SiteLedger, prefix, read, set_state, unknown, write,
};

#[derive(Serialize, Deserialize)]
struct Asked {
    by: String,
    at: String,
    /// Digest of the code.
    code: String,
    /// The last reservation that was known: a reset forgives no later one.
    last: u64,
}

fn digest(dataset: &str, code: &str) -> String {
    Transcript::new("privet/ledger/reset/v1")
        .bytes(dataset.as_bytes())
        .bytes(code.as_bytes())
        .finish()
        .hex()
}

fn refuse<T>(detail: &str) -> Result<T, Failure> {
    Err(Failure(Reason::new(Code::ResetRefused, detail)))
}

impl SiteLedger {
    /// Asks for an account to start anew; gives the code that somebody else confirms with.
    ///
    /// # Errors
    /// When the data set is unknown, or storage fails.
    pub fn ask_reset(&self, dataset: &str, by: &str) -> Result<String, Reason> {
        let seed =
            Seed::from_os().map_err(|error| Reason::new(Code::StorageFailed, error.to_string()))?;
        let code = format!("{:016x}", Words::new(&seed).word());
        let asked: Result<(), Failure> = self.store.write(|tx| {
            tx.get(super::ACCOUNTS, dataset.as_bytes())?.ok_or_else(|| unknown(dataset))?;
            let last = tx.get(COUNTER, b"")?.map(|last| read(&last)).transpose()?.unwrap_or(0);
            let at = self.now()?.to_string();
            let asked = Asked { by: by.to_owned(), at, code: digest(dataset, &code), last };
            tx.put(RESETS, dataset.as_bytes(), &write(&asked)?)?;
            Ok(())
        });
        asked.map(|()| code).map_err(|failure| failure.0)
    }

    /// Starts an account anew, as somebody else asked within the last day. A code is good for one
    /// try.
    ///
    /// # Errors
    /// When nobody else asked, the code is another, a reservation is open, or storage fails.
    pub fn confirm_reset(&self, dataset: &str, by: &str, code: &str) -> Result<(), Reason> {
        // A wrong code uses the question up, so this much is written whatever follows.
        let taken: Result<Option<Asked>, Failure> = self.store.write(|tx| {
            let asked = tx.get(RESETS, dataset.as_bytes())?.map(|asked| read(&asked));
            tx.remove(RESETS, dataset.as_bytes())?;
            asked.transpose()
        });
        let reset = taken.and_then(|asked| {
            let Some(asked) = asked else {
                return refuse("nobody has asked for it, or the code was tried already");
            };
            let asked_at: jiff::Timestamp = asked.at.parse().unwrap_or_default();
            let age = self.now()?.duration_since(asked_at);
            if asked.by == by {
                return refuse("whoever asked cannot confirm");
            }
            if !(SignedDuration::ZERO..=SignedDuration::from_hours(24)).contains(&age) {
                return refuse("it was asked for more than a day ago");
            }
            if asked.code != digest(dataset, code) {
                return refuse("this is another code; it must be asked for again");
            }
            self.store.write(|tx| {
                for (key, entry) in tx.scan(ENTRIES, &prefix(dataset))? {
                    let entry: Entry = read(&entry)?;
                    let id = key.last_chunk::<8>().map_or(u64::MAX, |id| u64::from_be_bytes(*id));
                    if tx.get(OPEN, &id.to_be_bytes())?.is_some() {
                        return refuse("a job is under way on this data set");
                    }
                    if entry.state == EntryState::Committed && id <= asked.last {
                        set_state(tx, &key, EntryState::Reset)?;
                    }
                }
                Ok(())
            })
        });
        reset.map_err(|failure| failure.0)
    }
}
