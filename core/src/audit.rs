//! The seam to an audit log.

use serde::{Deserialize, Serialize};

use crate::refusal::{Reason, Refusal};
use crate::tensor::{Dtype, Shape};

/// A tensor that left, without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Its name.
    pub name: String,
    /// Its dimensions.
    pub shape: Shape,
    /// Its element type on the wire.
    pub dtype: Dtype,
}

/// What an audit line says.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditEntry {
    /// What happened: `open`, `job`, `release`, `refuse`.
    pub event: String,
    /// The job.
    pub job: Option<String>,
    /// The round, from 1.
    pub round: Option<u32>,
    /// Who asked.
    pub peer: Option<String>,
    /// The rule that decided.
    pub rule: Option<String>,
    /// Filters that ran, in order, as `name@job` or `name@site`.
    pub filters: Vec<String>,
    /// What left.
    pub left: Vec<Left>,
    /// Sensitivity the noise was scaled to, in the data's own scale.
    pub clip: Option<f64>,
    /// Standard deviation of the noise, in the data's own scale.
    pub sigma: Option<f64>,
    /// Euclidean norm of what left, noise included.
    pub norm: Option<f64>,
    /// Bytes that left.
    pub bytes: u64,
    /// Why nothing left.
    pub refusal: Option<Refusal>,
}

/// An append-only log.
pub trait Audit: Send + Sync {
    /// Appends one entry, durably.
    ///
    /// # Errors
    /// When it could not be written: then nothing may leave.
    fn append(&self, entry: AuditEntry) -> Result<(), Reason>;
}
