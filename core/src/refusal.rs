//! Refusals: why something did not leave, did not start, or was not taken.
//!
//! A crate gives a [`Reason`] (code, detail, help); only the gate knows the site, the rule and the
//! filter, and makes a [`Refusal`] of it. Neither ever holds a value of the data, an id or a path.

use serde::{Deserialize, Serialize};

macro_rules! codes {
    ($($variant:ident = $name:literal, $exit:literal, $help:literal;)*) => {
        /// The closed list of refusal codes.
        ///
        /// Its names are part of the contract: JSON keys, audit lines and metric labels use them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Code {
            $(#[doc = $help] #[serde(rename = $name)] $variant,)*
        }

        impl Code {
            /// Every code, in the order of its wire number.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The kebab-case name.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $name),* }
            }

            /// The exit code of a run that this code stopped.
            pub const fn exit_code(self) -> u8 {
                match self { $(Code::$variant => $exit),* }
            }

            /// One thing to do about it.
            pub const fn help(self) -> &'static str {
                match self { $(Code::$variant => $help),* }
            }
        }
    };
}

codes! {
    // Decided before any data is read.
    NoMatchingRule = "no-matching-rule", 3, "ask the site to add a rule for this task, data set and kind";
    InvalidPolicy = "invalid-policy", 2, "run `privet policy check SITE.toml --job JOB.toml` and mend what it names";
    InvalidJob = "invalid-job", 2, "mend the job file; `privet filters list` shows the filters that exist";
    UnknownDataset = "unknown-dataset", 3, "use a data set name that the site's policy declares";
    RoundsMax = "rounds-max", 3, "ask for fewer rounds, or ask the site to raise `rounds-max`";
    UnitMismatch = "unit-mismatch", 3, "use a mechanism whose unit is the one that the data set declares";
    UnpaidRelease = "unpaid-release", 3, "add a noise filter: under unit = \"record\" nothing leaves unpaid";
    MissingSensitivity = "missing-sensitivity", 2, "put `clip` before the noise, or use a built-in trainer with `record-clip`";
    WrongStage = "wrong-stage", 2, "change the order of the filters: this one needs its numbers in another form";
    MetricRefused = "metric-refused", 3, "let the server evaluate on public data instead";
    LocalSteps = "local-steps", 3, "set `local-steps = 1`: record-level privacy holds for one gradient sum a round";
    Blocked = "blocked", 3, "a `block` filter stops this task; ask the site";
    TooLarge = "too-large", 3, "send less, or ask the site to raise `max-size`";
    DemandUnmet = "demand-unmet", 3, "the job's [demand] asks for more than the site's gate did";
    NotAttested = "not-attested", 5, "look at what its evidence did not show: `privet attest verify` tells it check by check";
    NotBuilt = "not-built", 3, "this version cannot do that yet";
    BudgetExhausted = "budget-exhausted", 4, "stop earlier, or ask the data owner for a larger budget";
    LatticeTooCoarse = "lattice-too-coarse", 3, "raise the noise multiplier or the clip";
    ResetRefused = "reset-refused", 3, "one person asks with `privet budget reset`, another confirms with the code within a day";
    TooFewRecords = "too-few-records", 3, "ask for what more records have a part in, or ask the site about its guard";
    SealRefused = "seal-refused", 3, "sites that seal and sites that do not cannot share a sum: ask the site to allow sealing and write `[protect]` into the job, or leave it out";
    SealTooThin = "seal-too-thin", 3, "raise the noise multiplier, or ask for fewer rounds: by itself, one update would tell more than the site allows";
    WrongCurrency = "wrong-currency", 3, "use Gaussian noise, or ask the site for a data set with `currency = \"zcdp\"`";
    // Decided on what an executor, a filter or a peer gave.
    UnexpectedTask = "unexpected-task", 3, "answer the task that was asked";
    UnexpectedKind = "unexpected-kind", 3, "answer with the data kind that the task asks for";
    WrongContent = "wrong-content", 3, "answer a training task with tensors";
    UnknownTensor = "unknown-tensor", 3, "send only tensors of the task's model that the rule allows";
    MissingTensor = "missing-tensor", 3, "send every tensor of the task's model, or allow fewer by name";
    ShapeMismatch = "shape-mismatch", 3, "send tensors in the shapes of the task's model";
    DtypeMismatch = "dtype-mismatch", 3, "send tensors in the element types of the task's model";
    NotFinite = "not-finite", 3, "look for NaN or infinities in the training data";
    MissingPayload = "missing-payload", 3, "an executor that says it is done must give a result";
    ErrorWithPayload = "error-with-payload", 3, "an executor that failed must give no result";
    ExecutorFailed = "executor-failed", 1, "see the site's log";
    FilterFailed = "filter-failed", 3, "see the site's log";
    FilterPanicked = "filter-panicked", 3, "report the filter's bug to its author";
    DataUnreadable = "data-unreadable", 2, "look at the data file that the policy names for this data set";
    Withheld = "withheld", 3, "the site refused for a reason that depends on its data; its owner sees it";
    // Decided by a server, or about one.
    TooFewSites = "too-few-sites", 1, "bring the missing sites back, then `--resume`";
    NotAdmitted = "not-admitted", 3, "use a certificate that the federation's CA signed for this site";
    Malformed = "malformed", 1, "the peer sent bytes that are no message of this protocol";
    Overflow = "overflow", 1, "the sum does not fit its number format";
    UnexpectedUpload = "unexpected-upload", 1, "the upload answers no open round";
    StorageFailed = "storage-failed", 1, "look at the disk of the site or server folder";
    // Decided by sealing.
    RosterUnpinned = "roster-unpinned", 3, "pin the peers that count in `[peers]`, or ask for more sites";
    RosterChanged = "roster-changed", 3, "start the job anew: the sites of a sealed job are those of its first round";
    ThresholdUnsafe = "threshold-unsafe", 3, "ask for more sites, or for a smaller `min-sites` or `colluders`";
    ContextMismatch = "ctx-mismatch", 3, "the server told this site something else than it told others; look at the server";
    RoundReplayed = "round-replayed", 3, "a round is sealed once; go on with the next";
    TooFewHonest = "too-few-honest", 3, "bring the missing sites back, or ask the site to pin more peers";
    NotInSurvivors = "not-in-survivors", 3, "the sum is not of this site's update; go on with the next round";
    BadSignature = "bad-signature", 3, "a peer or the server sent something in another's name; look at both";
    BadShare = "bad-share", 3, "a site dealt what does not open; look at that site";
    AlreadyAnswered = "already-answered", 3, "one sum a round is opened; go on with the next";
    SharesInconsistent = "shares-inconsistent", 1, "run the round again; whose share was wrong cannot be told from a sum";
    PadsNonzero = "pads-nonzero", 1, "run the round again: the sum did not open";
    CountMismatch = "count-mismatch", 1, "run the round again: an upload was lost or added twice";
    SumOutOfRange = "sum-out-of-range", 1, "run the round again: a site sealed values beyond its bound";
    MacFailed = "mac-failed", 3, "what was opened is not what these sites sealed: the server changed it, or a site sealed another code than its numbers; look at both";
    Equivocation = "equivocation", 3, "sites were told of different sums: look at the server";
    SurvivorsChanged = "survivors-changed", 3, "this site's rule wants every sum over the same sites: bring the missing ones back";
    StateRolledBack = "state-rolled-back", 3, "restore the newest copy of the site's folder, or start the job anew";
    // Decided by set intersection.
    TermsMismatch = "terms-mismatch", 3, "use the same job at all sites";
    NormalisationMismatch = "normalisation-mismatch", 3, "name the same key columns and the same `normalise` at all sites";
    CannotCount = "cannot-count", 3, "use `protocol = \"ecdh\"` or `\"auto\"`: it counts before it shows";
    RunsExhausted = "runs-exhausted", 3, "wait for the window of the site's [[psi]] to pass, or ask its owner";
    SizeGate = "size-gate", 3, "ask with other sets, or ask all sites' owners about `min-intersection` and `max-fraction`: whose it was is not told";
    PeerCheated = "peer-cheated", 3, "the other site did not follow the protocol; look at it before trying again";
    Cancelled = "cancelled", 130, "start again with `--resume`";
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// At which point of a job something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// A policy and a job were held against each other.
    Compile,
    /// A peer asked to take part.
    Join,
    /// A job, or a round of it, was about to start.
    Job,
    /// A task arrived.
    TaskData,
    /// A result was about to leave.
    TaskResult,
    /// A frame of a sealing session was about to leave.
    KeyShare,
    /// Sets were intersected.
    Psi,
}

impl Stage {
    /// The word used in JSON and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Compile => "compile",
            Stage::Join => "join",
            Stage::Job => "job",
            Stage::TaskData => "task-data",
            Stage::TaskResult => "task-result",
            Stage::KeyShare => "key-share",
            Stage::Psi => "psi",
        }
    }
}

/// Why, without where: what a filter, a ledger or an aggregator says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Reason {
    /// From the closed list.
    pub code: Code,
    /// The limit against the request, in words; no value of the data, no id, no path.
    pub detail: String,
}

impl Reason {
    /// A reason with its detail.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Why and where. The one shape of refusals in JSON, audit lines and reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("refused[{code}]: {site}: {detail}")]
pub struct Refusal {
    /// The round, from 1; absent before the first.
    pub round: Option<u32>,
    /// Who refused.
    pub site: String,
    /// When.
    pub stage: Stage,
    /// The rule that decided, where one matched.
    pub rule: Option<String>,
    /// The filter that decided, where one did.
    pub filter: Option<String>,
    /// From the closed list.
    pub code: Code,
    /// In words; for the owner only, where it leaves the site it is empty.
    pub detail: String,
    /// One thing to do.
    pub help: String,
}

impl Refusal {
    /// A refusal that no rule or filter is to blame for.
    pub fn new(site: impl Into<String>, stage: Stage, reason: Reason) -> Self {
        Self {
            round: None,
            site: site.into(),
            stage,
            rule: None,
            filter: None,
            code: reason.code,
            detail: reason.detail,
            help: reason.code.help().to_owned(),
        }
    }

    /// What peers may see: whatever was decided after an executor had seen the data could tell
    /// about them, and leaves as [`Code::Withheld`].
    pub fn on_wire(&self) -> Code {
        match (self.stage, self.code) {
            (Stage::TaskResult, _) | (_, Code::DataUnreadable) => Code::Withheld,
            (_, code) => code,
        }
    }

    /// The same, in a round.
    pub fn in_round(mut self, round: u32) -> Self {
        self.round = Some(round);
        self
    }

    /// The same, by a rule.
    pub fn by_rule(mut self, rule: impl Into<String>) -> Self {
        self.rule = Some(rule.into());
        self
    }

    /// The same, by a filter.
    pub fn by_filter(mut self, filter: impl Into<String>) -> Self {
        self.filter = Some(filter.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_survive_json() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for &code in Code::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), code);
        }
    }

    #[test]
    fn what_was_decided_on_data_is_withheld() {
        for &code in Code::ALL {
            let refusal = |stage| Refusal::new("north", stage, Reason::new(code, ""));
            assert_eq!(refusal(Stage::TaskResult).on_wire(), Code::Withheld);
            let before = refusal(Stage::Job).on_wire();
            assert_eq!(
                before == Code::Withheld,
                [Code::DataUnreadable, Code::Withheld].contains(&code)
            );
        }
    }
}
