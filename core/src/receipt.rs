//! Receipts: what a site's gate says it did to an update.
//!
//! A receipt is the site's statement, not a proof; attestation of the gate is what would turn it
//! into evidence. It holds settings, never values.

use serde::{Deserialize, Serialize};

use crate::refusal::{Code, Reason};
use crate::sensitivity::{Adjacency, Unit};

/// What a gate says it did to one update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// SHA-256 of the site's policy file, in hex.
    pub policy: String,
    /// The rule that let it out.
    pub rule: String,
    /// The filters that ran, in order, as `name@job` or `name@site`.
    pub filters: Vec<String>,
    /// Data set the update was computed from.
    pub dataset: String,
    /// Whose participation the data set's policy hides.
    pub unit: Unit,
    /// Neighbouring relation.
    pub adjacency: Adjacency,
    /// Sensitivity that the noise was scaled to, in the data's own scale.
    pub clip: Option<f64>,
    /// σ over sensitivity; absent when no noise was added.
    pub noise_multiplier: Option<f64>,
    /// Standard deviation of that noise on each number, in the data's own scale.
    #[serde(default)]
    pub sigma: Option<f64>,
    /// ε spent from the data set's budget so far, this update included, at `delta`.
    pub epsilon_spent: Option<f64>,
    /// δ of the data set's budget.
    pub delta: Option<f64>,
    /// Name of the sealing scheme; absent when the server sees the update.
    pub scheme: Option<String>,
    /// Whose keys count under the seal: `pinned`, or `ca-trusted` where every certified peer does.
    #[serde(default)]
    pub trust: Option<String>,
    /// Keys starting with `danger-` that were in force.
    pub dangers: Vec<String>,
}

/// What a job demands of receipts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Demand {
    /// Updates must be sealed.
    pub sealed: bool,
    /// Least σ over sensitivity.
    pub noise_multiplier_min: Option<f64>,
    /// Largest ε that a site may have spent.
    pub epsilon_max: Option<f64>,
}

impl Demand {
    /// Whether a receipt satisfies this demand.
    ///
    /// # Errors
    /// [`Code::DemandUnmet`], saying which part.
    pub fn check(&self, receipt: &Receipt) -> Result<(), Reason> {
        let unmet = |detail: String| Err(Reason::new(Code::DemandUnmet, detail));
        if self.sealed && receipt.scheme.is_none() {
            return unmet("the job demands sealed updates; this one is in the clear".into());
        }
        if let Some(least) = self.noise_multiplier_min {
            match receipt.noise_multiplier {
                Some(z) if z >= least => {}
                Some(z) => {
                    return unmet(format!("noise multiplier {z}, at least {least} demanded"));
                }
                None => return unmet(format!("no noise, multiplier {least} demanded")),
            }
        }
        if let Some(most) = self.epsilon_max {
            match receipt.epsilon_spent {
                Some(epsilon) if epsilon <= most => {}
                Some(epsilon) => return unmet(format!("ε {epsilon:.3}, at most {most} demanded")),
                None => return unmet(format!("nothing was charged, ε ≤ {most} demanded")),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_is_unmet_by_silence() {
        let receipt = Receipt {
            policy: String::new(),
            rule: "train".into(),
            filters: vec![],
            dataset: "d".into(),
            unit: Unit::Record,
            adjacency: Adjacency::AddRemove,
            clip: None,
            noise_multiplier: None,
            sigma: None,
            epsilon_spent: None,
            delta: None,
            scheme: None,
            trust: None,
            dangers: vec![],
        };
        let noised =
            Receipt { noise_multiplier: Some(4.0), epsilon_spent: Some(1.0), ..receipt.clone() };
        let least = |z| Demand { noise_multiplier_min: Some(z), ..Demand::default() };
        assert!(Demand::default().check(&receipt).is_ok());
        assert!(least(4.0).check(&receipt).is_err());
        assert!(least(4.0).check(&noised).is_ok());
        assert!(least(4.1).check(&noised).is_err());
        let sealed = Demand { sealed: true, ..Demand::default() };
        assert!(sealed.check(&noised).is_err());
        let cheap = Demand { epsilon_max: Some(0.9), ..Demand::default() };
        assert!(cheap.check(&noised).is_err());
        assert!(cheap.check(&receipt).is_err());
    }
}
