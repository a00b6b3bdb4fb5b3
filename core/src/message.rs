//! What travels between an executor and the network.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::sensitivity::{Lattice, Step};
use crate::tensor::{Schema, Tensors};

/// What the numbers of a message mean. A rule and a task name the kind they expect; anything
/// else is refused, so relabelling data does not lead it past a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataKind {
    /// A whole model.
    Weights,
    /// A trained model minus the model it started from.
    WeightDiff,
    /// A sum of per-record gradients at the given model.
    Gradient,
    /// Answers of a statistics query.
    Statistics,
    /// Numbers of a set intersection.
    Psi,
    /// Measurements of a model.
    Metrics,
}

impl DataKind {
    /// All kinds, in the order of their wire numbers.
    pub const ALL: [DataKind; 6] = [
        DataKind::Weights,
        DataKind::WeightDiff,
        DataKind::Gradient,
        DataKind::Statistics,
        DataKind::Psi,
        DataKind::Metrics,
    ];

    /// The word used in files and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            DataKind::Weights => "weights",
            DataKind::WeightDiff => "weight-diff",
            DataKind::Gradient => "gradient",
            DataKind::Statistics => "statistics",
            DataKind::Psi => "psi",
            DataKind::Metrics => "metrics",
        }
    }
}

/// How far the protection of a message's numbers has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// Floats in the clear.
    Plain,
    /// Integers with a public scale.
    Lattice,
}

impl Protection {
    /// The word used in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protection::Plain => "plain",
            Protection::Lattice => "lattice",
        }
    }
}

/// A sealed update.
#[derive(Debug, Clone, PartialEq)]
pub struct Sealed {
    /// The lattice step of the sum.
    pub step: Step,
    /// Names and shapes of the tensors of the sum.
    pub schema: Schema,
    /// What the scheme says beside it, signed and bound to the very round: what peers need to help
    /// open the sum.
    pub statement: Vec<u8>,
    /// The sealed integers.
    pub body: Vec<u32>,
    /// BLAKE3 of the body's bytes, little-endian.
    pub digest: [u8; 32],
}

/// The numbers of a message, by how far their protection has come.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Floats in the clear.
    Plain(Tensors),
    /// Integers with a public scale, and what is proved of them.
    Lattice(Lattice),
    /// Integers that open only in a sum.
    Sealed(Sealed),
    /// Named numbers that are no tensors.
    Statistics(BTreeMap<String, f64>),
    /// Nothing.
    Empty,
}

impl Content {
    /// The word used in refusals.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Content::Plain(_) => "plain tensors",
            Content::Lattice(_) => "lattice tensors",
            Content::Sealed(_) => "sealed integers",
            Content::Statistics(_) => "statistics",
            Content::Empty => "nothing",
        }
    }
}

/// A task's data on its way to an executor, or the executor's result on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Name of the task, for example `train`.
    pub task: String,
    /// What the numbers mean.
    pub kind: DataKind,
    /// The numbers.
    pub content: Content,
    /// Weight of this message in an average, > 0. At a site the gate replaces it by what the
    /// rule declares: what an executor writes here never leaves.
    pub weight: f64,
    /// Named measurements that would leave beside the numbers.
    pub metrics: BTreeMap<String, f64>,
}

impl Message {
    /// A message of weight 1 and without metrics.
    pub fn new(task: impl Into<String>, kind: DataKind, content: Content) -> Self {
        Self { task: task.into(), kind, content, weight: 1.0, metrics: BTreeMap::new() }
    }
}
