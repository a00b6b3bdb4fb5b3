//! What a server writes down: a line a round, and how it ended.

use std::collections::BTreeMap;

use privet_core::receipt::Receipt;
use privet_core::{Code, Reason, Refusal};
use serde::{Deserialize, Serialize};

/// Measurements of a model on the server's public data.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean loss.
    pub loss: Option<f64>,
    /// Share of right answers.
    pub accuracy: Option<f64>,
}

/// One finished round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// From 1.
    pub round: u32,
    /// Sites inside the sum.
    pub answered: Vec<String>,
    /// Sites that refused.
    pub refusals: Vec<Refusal>,
    /// Sites that did not answer in time.
    pub dropped: Vec<String>,
    /// The model after this round.
    pub metrics: Metrics,
    /// Bytes of updates that arrived.
    pub bytes_up: u64,
    /// Bytes of tasks that were sent.
    pub bytes_down: u64,
    /// Sites that say to have seen that the opened sum is that of what was sealed.
    #[serde(default)]
    pub verified: u32,
    /// ε that each answering site says it has spent by now.
    pub epsilon_spent: BTreeMap<String, f64>,
    /// Seconds.
    pub wall_s: f64,
}

/// What one site did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SiteRecord {
    /// Rounds that it answered.
    pub rounds_answered: u32,
    /// Rounds that it refused.
    pub rounds_refused: u32,
    /// Rounds that it did not answer in time.
    pub rounds_dropped: u32,
    /// Bytes of updates that arrived from it, heads included.
    pub bytes_up: u64,
    /// Bytes of tasks that were sent to it, heads included.
    pub bytes_down: u64,
    /// What its gate last said it did.
    pub receipt: Option<Receipt>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// All rounds are done.
    Done,
    /// It failed.
    Failed,
    /// Policies refused it.
    Refused,
    /// A budget ended it.
    BudgetExhausted,
    /// Attestation was refused.
    AttestationRefused,
    /// Somebody stopped it.
    Interrupted,
}

impl Status {
    /// The status that an exit code means.
    pub fn of(exit_code: u8) -> Self {
        match exit_code {
            0 => Status::Done,
            3 => Status::Refused,
            4 => Status::BudgetExhausted,
            5 => Status::AttestationRefused,
            130 => Status::Interrupted,
            _ => Status::Failed,
        }
    }

    /// The word used in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Done => "done",
            Status::Failed => "failed",
            Status::Refused => "refused",
            Status::BudgetExhausted => "budget-exhausted",
            Status::AttestationRefused => "attestation-refused",
            Status::Interrupted => "interrupted",
        }
    }
}

/// Why a run did not finish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// From the closed list of refusals.
    pub code: Code,
    /// In words.
    pub message: String,
    /// The exit code.
    pub exit_code: u8,
    /// The refusals that broke it.
    pub refusals: Vec<Refusal>,
}

impl Failure {
    /// A failure of the server itself.
    pub fn new(reason: Reason) -> Self {
        Self {
            code: reason.code,
            exit_code: reason.code.exit_code(),
            message: reason.detail,
            refusals: Vec::new(),
        }
    }

    /// Too few sites answered: the code is that of the cause.
    pub fn quorum(
        round: u32,
        answered: usize,
        wanted: u32,
        refusals: Vec<Refusal>,
        dropped: &[String],
    ) -> Self {
        // 5 before 4 before 3 before the rest: the sterner cause names the failure.
        let rank = |refusal: &&Refusal| Self::rank(refusal.code);
        let cause = refusals.iter().max_by_key(rank);
        let mut message = format!("round {round}: {answered} sites answered, {wanted} are needed");
        for refusal in &refusals {
            message.push_str(&format!("; {} refused ({})", refusal.site, refusal.code));
        }
        if !dropped.is_empty() {
            message.push_str(&format!("; no answer in time from {}", dropped.join(", ")));
        }
        let code = cause.map_or(Code::TooFewSites, |refusal| refusal.code);
        Self { code, message, exit_code: Self::rank(code), refusals }
    }

    /// The exit code of a run that a site's refusal broke. A site's own file or its owner's stop is
    /// to this run a site that did not take part.
    fn rank(code: Code) -> u8 {
        match code.exit_code() {
            exit @ 3..=5 => exit,
            2 => 3,
            _ => 1,
        }
    }
}

/// How a run ended, with all it recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// The exit code.
    pub exit_code: u8,
    /// Identity of the run.
    pub run: String,
    /// Rounds that were planned.
    pub rounds_planned: u32,
    /// The rounds that were done.
    pub rounds: Vec<RoundRecord>,
    /// What each site did.
    pub sites: BTreeMap<String, SiteRecord>,
    /// Refusals of the whole job.
    pub refusals: Vec<Refusal>,
    /// The delivered model.
    pub last: Metrics,
    /// Why it did not finish.
    pub error: Option<Failure>,
    /// Seconds.
    pub wall_s: f64,
    /// Seconds until the first round was open.
    pub startup_s: f64,
}

/// What happens while a server runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// The sites have looked at the job; the first round is about to start.
    Started {
        /// Sites that take part.
        ready: Vec<String>,
        /// Sites that refuse the job.
        refusals: Vec<Refusal>,
    },
    /// A round is done.
    Round(RoundRecord),
    /// Sites have sent each other so many bytes by now.
    Carried(u64),
}

#[cfg(test)]
mod tests {
    use super::*;
    use privet_core::Stage;

    #[test]
    fn the_sternest_cause_names_the_failure() {
        let refusal = |code| Refusal::new("north", Stage::Job, Reason::new(code, ""));
        let exit = |codes: &[Code]| {
            let refusals = codes.iter().copied().map(refusal).collect();
            Failure::quorum(1, 0, 2, refusals, &[]).exit_code
        };
        assert_eq!(exit(&[]), 1);
        assert_eq!(exit(&[Code::Cancelled]), 1);
        assert_eq!(exit(&[Code::InvalidPolicy, Code::TooFewSites]), 3);
        assert_eq!(exit(&[Code::Withheld]), 3);
        assert_eq!(exit(&[Code::Withheld, Code::BudgetExhausted]), 4);
        assert_eq!(exit(&[Code::BudgetExhausted, Code::NotAttested, Code::Withheld]), 5);
    }
}
