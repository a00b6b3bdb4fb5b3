//! Privacy events: *what happened* to the data, apart from *how it is counted*.
//!
//! The ledger stores events and never ε; accountants interpret them and may refuse one they do
//! not know. What an event means never changes.

use serde::{Deserialize, Serialize};

use crate::sensitivity::{Adjacency, Unit};

/// One use of a data set by a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Whose participation the mechanism hides.
    pub unit: Unit,
    /// Which data sets are neighbours.
    pub adjacency: Adjacency,
    /// What was done.
    pub mechanism: Mechanism,
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
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.mechanism {
            Mechanism::Gaussian { noise_multiplier, .. } => write!(
                f,
                "gaussian z={noise_multiplier} ({}, {})",
                self.unit.as_str(),
                self.adjacency.as_str()
            ),
        }
    }
}
