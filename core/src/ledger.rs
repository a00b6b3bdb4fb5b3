//! The seam to a privacy ledger: reserve before data is touched, commit before bytes move.
//!
//! ```text
//!   reserve ──▶ (train, filter) ──▶ draw ──▶ commit ──▶ bytes are handed over
//!      │                              │
//!      └── release: only while        └── a crash from here on counts as spent;
//!          no noise was drawn             so does one before, once the process is gone
//! ```

use serde::{Deserialize, Serialize};

use crate::event::{Event, Mechanism};
use crate::refusal::Reason;
use crate::sensitivity::{Adjacency, Unit};

/// A privacy budget: within any window of time, the data set's releases are (ε, δ)-private.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// ε > 0.
    pub epsilon: f64,
    /// 0 < δ < 1.
    pub delta: f64,
    /// For how long a charge counts.
    pub window: Window,
    /// The most of ε that the jobs of one submitter may take within a window.
    pub per_submitter: Option<f64>,
}

impl Budget {
    /// A budget for good, for all submitters together.
    pub const fn lifetime(epsilon: f64, delta: f64) -> Self {
        Self { epsilon, delta, window: Window::Lifetime, per_submitter: None }
    }
}

/// For how long a charge counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Window {
    /// For good.
    Lifetime,
    /// For so many days. Over n windows the loss is up to n times the budget.
    Days(u32),
}

impl std::fmt::Display for Window {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Window::Lifetime => f.write_str("lifetime"),
            Window::Days(days) => write!(f, "{days}d"),
        }
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

impl TryFrom<String> for Window {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let days = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok());
        match days {
            _ if text == "lifetime" => Ok(Window::Lifetime),
            Some(days @ 1..=36_500) => Ok(Window::Days(days)),
            _ => Err("a window is \"lifetime\" or days, such as \"30d\""),
        }
    }
}

/// What charges are added up in. See the accountants of `dp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Currency {
    /// μ², exact for Gaussian noise.
    Gaussian,
    /// ρ of zero-concentrated privacy.
    Zcdp,
    /// Rényi divergence at one order.
    Rdp,
}

impl Currency {
    /// The word used in files and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Currency::Gaussian => "gaussian",
            Currency::Zcdp => "zcdp",
            Currency::Rdp => "rdp",
        }
    }

    /// Whether it can count what an event costs.
    pub const fn pays(self, event: &Event) -> bool {
        match (self, event.mechanism) {
            (Currency::Gaussian, Mechanism::Gaussian { .. }) => event.sharers.is_none(),
            (Currency::Gaussian, Mechanism::Laplace { .. } | Mechanism::SparseVector { .. }) => {
                false
            }
            (Currency::Zcdp | Currency::Rdp, _) => true,
        }
    }
}

/// A data set as its ledger knows it. All parts but the budget and the content are fixed when the
/// ledger first sees the name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// Name of the data set.
    pub dataset: String,
    /// Whose participation is hidden.
    pub unit: Unit,
    /// Neighbouring relation.
    pub adjacency: Adjacency,
    /// What charges are added up in.
    pub currency: Currency,
    /// What may be spent.
    pub budget: Budget,
    /// Digest of what the data set holds now, where the site can tell: two names for one table
    /// would be two budgets.
    pub content: Option<String>,
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
    /// Who submitted the job, as the site knows it.
    pub submitter: String,
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
    /// Counted until two people reset the account.
    Reset,
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
    /// When the name is known with another unit, adjacency or currency, another name is known with
    /// the same content, or storage fails.
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

    /// What `rounds` rounds of `events` would cost a submitter on top of what is spent. The first
    /// refused round is looked for well beyond `rounds`.
    ///
    /// # Errors
    /// When the data set is unknown, its currency cannot pay for the events, or storage fails.
    fn quote(
        &self,
        dataset: &str,
        submitter: &str,
        events: &[Event],
        rounds: u32,
    ) -> Result<Quote, Reason>;

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
