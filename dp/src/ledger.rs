//! The privacy ledger of one site folder.
//!
//! Entries hold events, never ε; what they cost is worked out when somebody asks. Every change is
//! one transaction that is on disk when it returns:
//!
//! ```text
//!   reserve   room in the budget?  ─yes─▶ entry (reserved) + open reservation
//!   commit    entry → committed           open reservation gone
//!   release   entry → released            open reservation gone
//!   opening the ledger: whatever is still open belonged to a process that is gone → committed
//! ```
//!
//! Reservations count against the budget like commitments, so jobs that run at the same time
//! cannot both take its last round.

use std::sync::Arc;

use jiff::Timestamp;
use privet_core::clock::Clock;
use privet_core::event::Event;
use privet_core::ledger::{
    Account, Entry, EntryState, Ledger, Purpose, Quote, ReservationId, Statement,
};
use privet_core::{Code, Reason};
use privet_store::{Pair, Store, StoreError, Table, Transaction};
use serde::de::DeserializeOwned;

mod book;
mod reset;

use crate::accounting::Meter;
use book::{Book, COUNTING, Known};

const ACCOUNTS: Table = Table::named("ledger-accounts");
const ENTRIES: Table = Table::named("ledger-entries");
/// Reservation id → key of its entry.
const OPEN: Table = Table::named("ledger-open");
/// Data set → who asked for a reset.
const RESETS: Table = Table::named("ledger-resets");
const COUNTER: Table = Table::named("ledger-counter");

/// A [`Ledger`] over a [`Store`].
pub struct SiteLedger {
    store: Store,
    clock: Arc<dyn Clock>,
}

struct Failure(Reason);

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(storage(error))
    }
}

fn storage(error: impl std::fmt::Display) -> Reason {
    Reason::new(Code::StorageFailed, error.to_string())
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes)
        .map_err(|_| Failure(storage("a ledger entry cannot be read; the ledger is damaged")))
}

fn write(value: &impl serde::Serialize) -> Result<Vec<u8>, Failure> {
    serde_json::to_vec(value).map_err(|error| Failure(storage(error)))
}

/// Keys sort by data set, then by time of reservation. A zero byte ends the name, which has none.
fn prefix(dataset: &str) -> Vec<u8> {
    let mut key = dataset.as_bytes().to_vec();
    key.push(0);
    key
}

fn unknown(dataset: &str) -> Failure {
    let detail = format!("the ledger has no account for data set `{dataset}`");
    Failure(Reason::new(Code::UnknownDataset, detail))
}

impl SiteLedger {
    /// Opens the ledger in a store. Reservations that a former process left open become
    /// committed: it may have drawn noise for them.
    ///
    /// # Errors
    /// When storage fails, or holds no ledger of this version.
    pub fn open(store: Store, clock: Arc<dyn Clock>) -> Result<Self, Reason> {
        let settled: Result<(), Failure> = store.write(|tx| {
            for (id, key) in tx.scan(OPEN, b"")? {
                set_state(tx, &key, EntryState::Committed)?;
                tx.remove(OPEN, &id)?;
            }
            Ok(())
        });
        settled.map_err(|failure| failure.0)?;
        Ok(Self { store, clock })
    }

    fn close(&self, id: ReservationId, state: EntryState) -> Result<(), Reason> {
        let closed: Result<(), Failure> = self.store.write(|tx| {
            let id = id.0.to_be_bytes();
            let Some(key) = tx.get(OPEN, &id)? else {
                return Err(Failure(storage("there is no such open reservation")));
            };
            set_state(tx, &key, state)?;
            tx.remove(OPEN, &id)?;
            Ok(())
        });
        closed.map_err(|failure| failure.0)
    }

    fn book(&self, dataset: &str) -> Result<Book, Failure> {
        let known = self.store.get(ACCOUNTS, dataset.as_bytes())?;
        let entries = self.store.scan(ENTRIES, &prefix(dataset))?;
        self.opened(dataset, known, &entries)
    }

    /// A book of what is stored of it.
    fn opened(
        &self,
        dataset: &str,
        known: Option<Vec<u8>>,
        entries: &[Pair],
    ) -> Result<Book, Failure> {
        let known: Known = read(&known.ok_or_else(|| unknown(dataset))?)?;
        let entries = entries.iter().map(|(_, entry)| read(entry)).collect::<Result<_, _>>()?;
        Ok(Book::new(known, entries, self.now()?))
    }

    fn now(&self) -> Result<Timestamp, Failure> {
        Timestamp::try_from(self.clock.now())
            .map_err(|_| Failure(storage("the clock shows no valid time")))
    }
}

fn set_state(tx: &Transaction, key: &[u8], state: EntryState) -> Result<(), Failure> {
    let entry = tx.get(ENTRIES, key)?;
    let entry = entry.ok_or_else(|| Failure(storage("a reservation has lost its entry")))?;
    let entry: Entry = read(&entry)?;
    tx.put(ENTRIES, key, &write(&Entry { state, ..entry })?)?;
    Ok(())
}

impl Ledger for SiteLedger {
    fn open_account(&self, account: &Account) -> Result<(), Reason> {
        let refuse = |detail: String| Err(Failure(Reason::new(Code::InvalidPolicy, detail)));
        let opened: Result<(), Failure> = self.store.write(|tx| {
            let mut meter = Meter::new(account.currency, &account.budget);
            let mut contents = Vec::new();
            for (name, known) in tx.scan(ACCOUNTS, b"")? {
                let Known { account: known, meter: counted, contents: held } = read(&known)?;
                if name == account.dataset.as_bytes() {
                    if (known.unit, known.adjacency, known.currency)
                        != (account.unit, account.adjacency, account.currency)
                    {
                        return refuse(format!(
                            "the ledger knows `{}` as unit {}, adjacency {}, currency {}; they cannot change once charged",
                            account.dataset,
                            known.unit.as_str(),
                            known.adjacency.as_str(),
                            known.currency.as_str()
                        ));
                    }
                    (meter, contents) = (counted, held);
                } else if account.content.as_ref().is_some_and(|content| held.contains(content)) {
                    return refuse(format!(
                        "data set `{}` holds the same table as `{}`: two names would be two budgets for the same people",
                        account.dataset, known.dataset
                    ));
                }
            }
            contents.extend(account.content.clone().filter(|content| !contents.contains(content)));
            let known = Known { account: account.clone(), meter, contents };
            tx.put(ACCOUNTS, account.dataset.as_bytes(), &write(&known)?)?;
            Ok(())
        });
        opened.map_err(|failure| failure.0)
    }

    fn reserve(
        &self,
        dataset: &str,
        purpose: &Purpose,
        events: &[Event],
    ) -> Result<ReservationId, Reason> {
        let reserved: Result<ReservationId, Failure> = self.store.write(|tx| {
            let known = tx.get(ACCOUNTS, dataset.as_bytes())?;
            let book = self.opened(dataset, known, &tx.scan(ENTRIES, &prefix(dataset))?)?;
            book.check(dataset, purpose, events).map_err(Failure)?;
            let id = match tx.get(COUNTER, b"")? {
                Some(last) => read::<u64>(&last)? + 1,
                None => 1,
            };
            let mut key = prefix(dataset);
            key.extend(id.to_be_bytes());
            let entry = Entry {
                at: book.now.to_string(),
                purpose: purpose.clone(),
                events: events.to_vec(),
                state: EntryState::Reserved,
            };
            tx.put(COUNTER, b"", &write(&id)?)?;
            tx.put(ENTRIES, &key, &write(&entry)?)?;
            tx.put(OPEN, &id.to_be_bytes(), &key)?;
            Ok(ReservationId(id))
        });
        reserved.map_err(|failure| failure.0)
    }

    fn commit(&self, reservation: ReservationId) -> Result<(), Reason> {
        self.close(reservation, EntryState::Committed)
    }

    fn release(&self, reservation: ReservationId) -> Result<(), Reason> {
        self.close(reservation, EntryState::Released)
    }

    fn quote(
        &self,
        dataset: &str,
        submitter: &str,
        events: &[Event],
        rounds: u32,
    ) -> Result<Quote, Reason> {
        let book = self.book(dataset).map_err(|failure| failure.0)?;
        let delta = book.delta();
        let limits = book.limits(submitter)?;
        let round = book.price(events)?;
        let pays = |rounds| limits.iter().all(|limit| limit.pays(&round.times(rounds), delta));
        // Far beyond any plan; ε grows with the rounds, so the first refused one is found by halving.
        const HORIZON: u32 = 1 << 20;
        let refused_from_round = (!pays(HORIZON)).then(|| {
            let (mut paid, mut refused) = (0, HORIZON);
            while refused - paid > 1 {
                let middle = u32::midpoint(paid, refused);
                if pays(middle) { paid = middle } else { refused = middle }
            }
            refused
        });
        let spent = book.sum(COUNTING, None)?;
        let after = spent.and(&round.times(rounds));
        Ok(Quote {
            spent: spent.epsilon(delta),
            planned: round.times(rounds).epsilon(delta),
            after: after.epsilon(delta),
            refused_from_round,
            guess_rate: f64::midpoint(1.0, after.total_variation()).min(1.0),
            accountant: book.known.meter.accountant(),
        })
    }

    fn statement(&self, dataset: &str) -> Result<Statement, Reason> {
        let book = self.book(dataset).map_err(|failure| failure.0)?;
        let delta = book.delta();
        let spent = book.sum(&[EntryState::Committed], None)?.epsilon(delta);
        let all = book.sum(COUNTING, None)?.epsilon(delta);
        let (account, entries) = (book.known.account, book.entries);
        let left = (account.budget.epsilon - all).max(0.0);
        Ok(Statement { spent, reserved: all - spent, left, account, entries })
    }

    fn datasets(&self) -> Result<Vec<String>, Reason> {
        let accounts = self.store.scan(ACCOUNTS, b"").map_err(storage)?;
        Ok(accounts.into_iter().filter_map(|(name, _)| String::from_utf8(name).ok()).collect())
    }
}

#[cfg(test)]
mod tests;
