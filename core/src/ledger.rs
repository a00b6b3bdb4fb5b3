//! The seam to a privacy ledger: reserve before data is touched, commit before bytes move.
//!
//! ```text
//!   reserve ──▶ (train, filter) ──▶ draw ──▶ commit ──▶ bytes are handed over
//!      │                              │
//!      └── release: only while        └── a crash from here on counts as spent;
//!          no noise was drawn             so does one before, once the process is gone
//! ```

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::refusal::Reason;
use crate::sensitivity::{Adjacency, Unit};

/// A privacy budget: over its whole window, the data set's releases are (ε, δ)-private.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// ε > 0.
    pub epsilon: f64,
    /// 0 < δ < 1.
    pub delta: f64,
}

/// A data set as its ledger knows it. All parts but the budget are fixed when the ledger first
/// sees the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Name of the data set.
    pub dataset: String,
    /// Whose participation is hidden.
    pub unit: Unit,
    /// Neighbouring relation.
    pub adjacency: Adjacency,
    /// What may be spent.
    pub budget: Budget,
}

/// Which job and round a charge is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purpose {
    /// Name of the job.
    pub job: String,
    /// Identity of this run of the job.
    pub run: String,
    /// The round, from 1.
    pub round: u32,
}

/// A reservation in a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReservationId(pub u64);

/// What a plan would cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quote {
    /// ε spent or reserved before the plan.
    pub spent: f64,
    /// ε of the plan alone.
    pub planned: f64,
    /// ε of everything after the plan.
    pub after: f64,
    /// The first round of the plan that the budget could not pay, if it is within `horizon`.
    pub refused_from_round: Option<u32>,
    /// The largest chance with which anybody who sees all of it, and would have guessed 50:50,
    /// can tell whether one unit took part: (1 + total variation)/2, from ½ to 1.
    pub guess_rate: f64,
    /// Name of the accountant.
    pub accountant: String,
}

/// ε for people: rounded up to three decimals, so that what is read is never below what is true.
pub fn rounded_up(epsilon: f64) -> String {
    format!("{:.3}", (epsilon * 1000.0).ceil() / 1000.0)
}

/// State of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryState {
    /// Noise may be drawn; counts.
    Reserved,
    /// Bytes may have left; counts.
    Committed,
    /// No noise was drawn; does not count.
    Released,
}

/// One charge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When it was reserved, RFC 3339.
    pub at: String,
    /// What for.
    pub purpose: Purpose,
    /// What happened.
    pub events: Vec<Event>,
    /// How it ended.
    pub state: EntryState,
}

/// A data set's account with its entries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// The account.
    pub account: Account,
    /// Name of the currency that charges are added in.
    pub currency: String,
    /// ε of committed entries.
    pub spent: f64,
    /// ε of committed and reserved entries, less `spent`.
    pub reserved: f64,
    /// Budget less both; never below 0.
    pub left: f64,
    /// All entries, oldest first.
    pub entries: Vec<Entry>,
}

/// A ledger of privacy budgets, shared by concurrent jobs.
pub trait Ledger: Send + Sync {
    /// Declares a data set. Idempotent.
    ///
    /// # Errors
    /// When the name is known with another unit or adjacency, or storage fails.
    fn open_account(&self, account: &Account) -> Result<(), Reason>;

    /// Sets a charge aside, durably, if the budget can pay for it.
    ///
    /// # Errors
    /// `budget-exhausted` with the request against the limit; others when storage fails.
    fn reserve(
        &self,
        dataset: &str,
        purpose: &Purpose,
        events: &[Event],
    ) -> Result<ReservationId, Reason>;

    /// Makes a reservation final; durable when this returns.
    ///
    /// # Errors
    /// When there is no such reservation, or storage fails: then nothing may leave.
    fn commit(&self, reservation: ReservationId) -> Result<(), Reason>;

    /// Gives a reservation back. The caller vouches that no noise was drawn for it.
    ///
    /// # Errors
    /// When there is no such reservation, or storage fails.
    fn release(&self, reservation: ReservationId) -> Result<(), Reason>;

    /// What `rounds` rounds of `events` would cost on top of what is spent. The first refused
    /// round is looked for well beyond `rounds`.
    ///
    /// # Errors
    /// When the data set is unknown, or storage fails.
    fn quote(&self, dataset: &str, events: &[Event], rounds: u32) -> Result<Quote, Reason>;

    /// A data set's account with its entries.
    ///
    /// # Errors
    /// When the data set is unknown, or storage fails.
    fn statement(&self, dataset: &str) -> Result<Statement, Reason>;

    /// Names of all data sets the ledger has seen.
    ///
    /// # Errors
    /// When storage fails.
    fn datasets(&self) -> Result<Vec<String>, Reason>;
}
