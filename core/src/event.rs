//! Privacy events: *what happened* to the data, apart from *how it is counted*.
//!
//! The ledger stores events and never ε; accountants interpret them and may refuse one they do
//! not know. What an event means never changes.

use serde::{Deserialize, Serialize};

use crate::sensitivity::{Adjacency, SamplingRate, Unit};

/// One use of a data set by a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Whose participation the mechanism hides.
    pub unit: Unit,
    /// Which data sets are neighbours.
    pub adjacency: Adjacency,
    /// What was done. Of noise that is shared, the multiplier is that of the sum, and widths are
    /// those of one share.
    pub mechanism: Mechanism,
    /// The chance with which each unit took part, if not always.
    pub sampled: Option<SamplingRate>,
    /// The fewest honest sites whose shares of noise are in a sum, when it is shared: ≥ 2.
    pub sharers: Option<u32>,
}

impl Event {
    /// What one share would be worth to somebody who saw it by itself: independent noise of
    /// 1/√sharers the size.
    #[must_use]
    pub fn alone(&self) -> Self {
        let mut alone = Self { sharers: None, ..*self };
        let share = 1.0 / f64::from(self.sharers.unwrap_or(1)).sqrt();
        match &mut alone.mechanism {
            Mechanism::Gaussian { noise_multiplier, .. }
            | Mechanism::Laplace { noise_multiplier, .. }
            | Mechanism::SparseVector { noise_multiplier, .. } => *noise_multiplier *= share,
        }
        alone
    }
}

/// A noise mechanism with what an accountant needs of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Mechanism {
    /// Independent discrete Gaussian noise on every coordinate of an integer vector.
    Gaussian {
        /// σ over the Euclidean sensitivity under the event's adjacency, > 0.
        noise_multiplier: f64,
        /// σ in lattice units.
        sigma_units: f64,
        /// Number of coordinates.
        coordinates: u64,
    },
    /// Independent discrete Laplace noise on every coordinate of an integer vector: pure
    /// ε = 1/`noise_multiplier`, exactly.
    Laplace {
        /// Scale over the sensitivity in the sum of magnitudes under the event's adjacency, > 0.
        noise_multiplier: f64,
        /// Scale in lattice units.
        scale_units: f64,
    },
    /// Threshold questions of which at most `answers` were said to be above: pure
    /// ε = 1/`noise_multiplier` in all.
    SparseVector {
        /// 1/ε of the run, > 0.
        noise_multiplier: f64,
        /// After so many it stopped.
        answers: u32,
        /// Scale of the Laplace noise on a question, in lattice units.
        scale_units: f64,
    },
}

impl Mechanism {
    /// Name of the noise.
    pub const fn name(&self) -> &'static str {
        match self {
            Mechanism::Gaussian { .. } => "gaussian",
            Mechanism::Laplace { .. } => "laplace",
            Mechanism::SparseVector { .. } => "sparse-vector",
        }
    }

    /// σ or scale over sensitivity.
    pub const fn noise_multiplier(&self) -> f64 {
        match *self {
            Mechanism::Gaussian { noise_multiplier, .. }
            | Mechanism::Laplace { noise_multiplier, .. }
            | Mechanism::SparseVector { noise_multiplier, .. } => noise_multiplier,
        }
    }

    /// Standard deviation of the noise in lattice units; of Laplace noise √2 times its scale.
    pub fn deviation_units(&self) -> f64 {
        match *self {
            Mechanism::Gaussian { sigma_units, .. } => sigma_units,
            Mechanism::Laplace { scale_units, .. }
            | Mechanism::SparseVector { scale_units, .. } => scale_units * std::f64::consts::SQRT_2,
        }
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, z) = (self.mechanism.name(), self.mechanism.noise_multiplier());
        let shared = self.sharers.map_or(String::new(), |n| format!(", shared by {n}"));
        let (unit, adjacency) = (self.unit.as_str(), self.adjacency.as_str());
        let sampled =
            self.sampled.map_or(String::new(), |rate| format!(", sampled {:.4}", rate.value()));
        write!(f, "{name} z={z} ({unit}, {adjacency}{sampled}{shared})")
    }
}
