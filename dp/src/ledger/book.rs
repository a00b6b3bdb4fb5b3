//! One data set's account at one time: which charges count, and what else they leave room for.

use jiff::{SignedDuration, Timestamp};
use privet_core::event::Event;
use privet_core::ledger::{Account, Entry, EntryState, Purpose, Window, rounded_up};
use privet_core::{Code, Reason};
use serde::{Deserialize, Serialize};

use crate::accounting::{Meter, Spent};

/// What the ledger keeps of a data set: the policy's words, and what its charges are counted in.
#[derive(Serialize, Deserialize)]
pub(super) struct Known {
    pub(super) account: Account,
    pub(super) meter: Meter,
    /// Digests of all that it has ever held.
    pub(super) contents: Vec<String>,
}

/// An account with its entries, at one time.
pub(super) struct Book {
    pub(super) known: Known,
    pub(super) entries: Vec<Entry>,
    /// The time, never before that of any entry: a clock that was set back makes no charge younger
    /// than it is, and what is charged now is stamped no earlier.
    pub(super) now: Timestamp,
    /// Entries from here on count, and whatever is still open.
    since: Option<Timestamp>,
}

pub(super) const COUNTING: &[EntryState] = &[EntryState::Reserved, EntryState::Committed];

impl Book {
    pub(super) fn new(known: Known, entries: Vec<Entry>, now: Timestamp) -> Self {
        let now = entries.iter().filter_map(time_of).fold(now, Timestamp::max);
        let since = match known.account.budget.window {
            Window::Lifetime => None,
            Window::Days(days) => {
                now.checked_sub(SignedDuration::from_hours(24 * i64::from(days))).ok()
            }
        };
        Self { known, entries, now, since }
    }

    pub(super) fn delta(&self) -> f64 {
        self.known.account.budget.delta
    }

    /// Sum of the entries that count, of one submitter or of all. An entry whose time cannot be
    /// read counts.
    pub(super) fn sum(
        &self,
        states: &[EntryState],
        submitter: Option<&str>,
    ) -> Result<Spent, Reason> {
        let counts = |entry: &&Entry| {
            let young = || {
                self.since <= time_of(entry)
                    || time_of(entry).is_none()
                    || entry.state == EntryState::Reserved
            };
            states.contains(&entry.state)
                && submitter.is_none_or(|name| entry.purpose.submitter == name)
                && (self.since.is_none() || young())
        };
        let entries = self.entries.iter().filter(counts);
        self.price(entries.flat_map(|entry| &entry.events))
    }

    pub(super) fn price<'a>(
        &self,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Result<Spent, Reason> {
        let meter = self.known.meter;
        events.into_iter().try_fold(Spent::nothing(meter), |sum, event| {
            let price = meter.price(event).ok_or_else(|| {
                let detail = format!(
                    "the account counts in {}, which cannot count {} noise",
                    meter.currency().as_str(),
                    event.mechanism.name()
                );
                Reason::new(Code::WrongCurrency, detail)
            })?;
            Ok(sum.and(&price))
        })
    }

    /// Spent and reserved, against the limit that applies: that of all, or a submitter's.
    pub(super) fn limits(&self, submitter: &str) -> Result<Vec<Limit>, Reason> {
        let budget = self.known.account.budget;
        let all = Limit {
            whose: String::new(),
            epsilon: budget.epsilon,
            spent: self.sum(COUNTING, None)?,
        };
        let own = budget.per_submitter.map(|epsilon| {
            let whose = format!(" for submitter `{submitter}`");
            Ok(Limit { whose, epsilon, spent: self.sum(COUNTING, Some(submitter))? })
        });
        std::iter::once(Ok(all)).chain(own).collect()
    }

    /// Whether these events may be charged.
    pub(super) fn check(
        &self,
        dataset: &str,
        purpose: &Purpose,
        events: &[Event],
    ) -> Result<(), Reason> {
        let account = &self.known.account;
        let delta = account.budget.delta;
        let foreign =
            |event: &Event| (event.adjacency, event.unit) != (account.adjacency, account.unit);
        if events.iter().any(foreign) {
            let detail = "the noise was planned for another unit or adjacency than the data set's";
            return Err(Reason::new(Code::UnitMismatch, detail));
        }
        let asked = self.price(events)?;
        for Limit { whose, epsilon, spent } in self.limits(&purpose.submitter)? {
            let after = spent.and(&asked).epsilon(delta);
            if after > epsilon {
                let window = match account.budget.window {
                    Window::Lifetime => String::new(),
                    Window::Days(days) => format!(" within {days} days"),
                };
                let detail = format!(
                    "asked ε {} in total after round {} ({}, δ {delta:e}, {}); the budget of `{dataset}`{whose} is ε {epsilon}{window}, of which {} is spent",
                    rounded_up(after),
                    purpose.round,
                    account.unit.as_str(),
                    account.adjacency.as_str(),
                    rounded_up(spent.epsilon(delta)),
                );
                return Err(Reason::new(Code::BudgetExhausted, detail));
            }
        }
        Ok(())
    }
}

/// A limit with what counts against it.
pub(super) struct Limit {
    whose: String,
    epsilon: f64,
    spent: Spent,
}

impl Limit {
    pub(super) fn pays(&self, more: &Spent, delta: f64) -> bool {
        self.spent.and(more).epsilon(delta) <= self.epsilon
    }
}

fn time_of(entry: &Entry) -> Option<Timestamp> {
    entry.at.parse().ok()
}
