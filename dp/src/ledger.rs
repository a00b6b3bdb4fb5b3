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

use privet_core::clock::Clock;
use privet_core::event::Event;
use privet_core::ledger::{
    Account, Entry, EntryState, Ledger, Purpose, Quote, ReservationId, Statement, rounded_up,
};
use privet_core::{Code, Reason};
use privet_store::{Store, StoreError, Table, Transaction};
use serde::de::DeserializeOwned;

use crate::accounting::Spent;

const ACCOUNTS: Table = Table::named("ledger-accounts");
const ENTRIES: Table = Table::named("ledger-entries");
/// Reservation id → key of its entry.
const OPEN: Table = Table::named("ledger-open");
const COUNTER: Table = Table::named("ledger-counter");

/// Name of the currency and of the accountant that reads it.
const CURRENCY: &str = "gaussian";
const ACCOUNTANT: &str = "exact Gaussian";

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

    fn account_and_entries(&self, dataset: &str) -> Result<(Account, Vec<Entry>), Failure> {
        let account = self.store.get(ACCOUNTS, dataset.as_bytes())?;
        let account = read(&account.ok_or_else(|| unknown(dataset))?)?;
        let entries = self.store.scan(ENTRIES, &prefix(dataset))?;
        let entries = entries.iter().map(|(_, entry)| read(entry)).collect::<Result<_, _>>()?;
        Ok((account, entries))
    }
}

fn set_state(tx: &Transaction, key: &[u8], state: EntryState) -> Result<(), Failure> {
    let entry = tx.get(ENTRIES, key)?;
    let entry = entry.ok_or_else(|| Failure(storage("a reservation has lost its entry")))?;
    let entry: Entry = read(&entry)?;
    tx.put(ENTRIES, key, &write(&Entry { state, ..entry })?)?;
    Ok(())
}

fn counted<'a>(entries: impl IntoIterator<Item = &'a Entry>, states: &[EntryState]) -> Spent {
    let mut spent = Spent::default();
    for entry in entries {
        if states.contains(&entry.state) {
            entry.events.iter().for_each(|event| spent.add(event));
        }
    }
    spent
}

const COUNTING: &[EntryState] = &[EntryState::Reserved, EntryState::Committed];

fn fits(account: &Account, spent: &Spent) -> bool {
    spent.epsilon(account.budget.delta) <= account.budget.epsilon
}

/// Whether the budget would be broken even if the noise were continuous.
fn over(account: &Account, spent: &Spent) -> bool {
    spent.continuous_epsilon(account.budget.delta) > account.budget.epsilon
}

fn of(events: &[Event]) -> Spent {
    let mut spent = Spent::default();
    events.iter().for_each(|event| spent.add(event));
    spent
}

impl Ledger for SiteLedger {
    fn open_account(&self, account: &Account) -> Result<(), Reason> {
        let opened: Result<(), Failure> = self.store.write(|tx| {
            if let Some(known) = tx.get(ACCOUNTS, account.dataset.as_bytes())? {
                let known: Account = read(&known)?;
                if (known.unit, known.adjacency) != (account.unit, account.adjacency) {
                    let detail = format!(
                        "the ledger knows `{}` as unit {}, adjacency {}; they cannot change once charged",
                        account.dataset,
                        known.unit.as_str(),
                        known.adjacency.as_str()
                    );
                    return Err(Failure(Reason::new(Code::InvalidPolicy, detail)));
                }
            }
            tx.put(ACCOUNTS, account.dataset.as_bytes(), &write(account)?)?;
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
        let at = jiff::Timestamp::try_from(self.clock.now())
            .map_err(|_| storage("the clock shows no valid time"))?
            .to_string();
        let reserved: Result<ReservationId, Failure> = self.store.write(|tx| {
            let account = tx.get(ACCOUNTS, dataset.as_bytes())?;
            let account: Account = read(&account.ok_or_else(|| unknown(dataset))?)?;
            let entries = tx.scan(ENTRIES, &prefix(dataset))?;
            let entries: Vec<Entry> = entries
                .iter()
                .map(|(_, entry)| read(entry))
                .collect::<Result<_, _>>()?;
            let spent = counted(&entries, COUNTING);
            let after = spent.and(&of(events));
            let budget = account.budget;
            if events.iter().any(|event| event.adjacency != account.adjacency || event.unit != account.unit) {
                let detail = "the noise was planned for another unit or adjacency than the data set's";
                return Err(Failure(Reason::new(Code::UnitMismatch, detail)));
            }
            if after.too_coarse(budget.delta) && !over(&account, &after) {
                let detail = "the noise is so few lattice steps wide that its discreteness would cost δ";
                return Err(Failure(Reason::new(Code::LatticeTooCoarse, detail)));
            }
            if !fits(&account, &after) {
                let detail = format!(
                    "asked ε {} in total after round {} ({}, δ {:e}, {}); the budget of `{dataset}` is ε {}, of which {} is spent",
                    rounded_up(after.continuous_epsilon(budget.delta)),
                    purpose.round,
                    account.unit.as_str(),
                    budget.delta,
                    account.adjacency.as_str(),
                    budget.epsilon,
                    rounded_up(spent.epsilon(budget.delta)),
                );
                return Err(Failure(Reason::new(Code::BudgetExhausted, detail)));
            }
            let id = match tx.get(COUNTER, b"")? {
                Some(last) => read::<u64>(&last)? + 1,
                None => 1,
            };
            let mut key = prefix(dataset);
            key.extend(id.to_be_bytes());
            let entry = Entry {
                at,
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

    fn quote(&self, dataset: &str, events: &[Event], rounds: u32) -> Result<Quote, Reason> {
        let (account, entries) = self.account_and_entries(dataset).map_err(|failure| failure.0)?;
        let delta = account.budget.delta;
        let spent = counted(&entries, COUNTING);
        let round = of(events);
        let after = |rounds| spent.and(&round.times(rounds));
        // Far beyond any plan; ε grows with the rounds, so the first refused one is found by halving.
        const HORIZON: u32 = 1 << 20;
        let refused_from_round = (!fits(&account, &after(HORIZON))).then(|| {
            let (mut paid, mut refused) = (0, HORIZON);
            while refused - paid > 1 {
                let middle = u32::midpoint(paid, refused);
                if fits(&account, &after(middle)) {
                    paid = middle;
                } else {
                    refused = middle;
                }
            }
            refused
        });
        Ok(Quote {
            spent: spent.epsilon(delta),
            planned: round.times(rounds).epsilon(delta),
            after: after(rounds).epsilon(delta),
            refused_from_round,
            guess_rate: f64::midpoint(1.0, after(rounds).delta(0.0)).min(1.0),
            accountant: ACCOUNTANT.to_owned(),
        })
    }

    fn statement(&self, dataset: &str) -> Result<Statement, Reason> {
        let (account, entries) = self.account_and_entries(dataset).map_err(|failure| failure.0)?;
        let delta = account.budget.delta;
        let spent = counted(&entries, &[EntryState::Committed]).epsilon(delta);
        let all = counted(&entries, COUNTING).epsilon(delta);
        Ok(Statement {
            spent,
            reserved: all - spent,
            left: (account.budget.epsilon - all).max(0.0),
            currency: CURRENCY.to_owned(),
            account,
            entries,
        })
    }

    fn datasets(&self) -> Result<Vec<String>, Reason> {
        let accounts = self.store.scan(ACCOUNTS, b"").map_err(storage)?;
        Ok(accounts.into_iter().filter_map(|(name, _)| String::from_utf8(name).ok()).collect())
    }
}

#[cfg(test)]
mod tests;
