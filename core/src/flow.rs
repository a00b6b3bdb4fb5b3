//! What is known of a message before it exists.
//!
//! [`Flow`] is to a chain of filters what a type is to a function: every filter says how it
//! changes the flow ([`Filter::plan`](crate::Filter::plan)), so a chain that could not work is
//! refused before a job starts, and what would leave can be told without running it.

use std::collections::BTreeMap;

use crate::event::Event;
use crate::message::{DataKind, Protection};
use crate::sensitivity::{Bound, Prover};
use crate::tensor::Schema;

/// What is known of a message at one point of a chain.
#[derive(Debug, Clone, PartialEq)]
pub struct Flow {
    /// What the numbers mean.
    pub kind: DataKind,
    /// Names and shapes of the tensors.
    pub schema: Schema,
    /// How far their protection has come.
    pub protection: Protection,
    bound: Option<Bound>,
    events: Vec<Event>,
    /// How many of the events stay, whatever noise follows.
    kept: usize,
    /// Variance of all noise so far on each number, in lattice units.
    noise: f64,
    /// Tensors that were taken out on the way, and the filter that did it.
    pub withheld: BTreeMap<String, &'static str>,
}

impl Flow {
    /// What is known of a model on its way to a site, or of a sum: floats of which nothing is
    /// proved.
    pub fn plain(kind: DataKind, schema: Schema) -> Self {
        Self {
            kind,
            schema,
            protection: Protection::Plain,
            bound: None,
            events: Vec::new(),
            kept: 0,
            noise: 0.0,
            withheld: BTreeMap::new(),
        }
    }

    /// Says that noise of this standard deviation, in lattice units, is added to each number.
    pub fn noised(&mut self, _: &Prover, deviation: f64) {
        self.noise += deviation * deviation;
    }

    /// Standard deviation of all noise on each number, in lattice units, whoever pays for it.
    pub fn deviation(&self) -> f64 {
        self.noise.sqrt()
    }

    /// The sensitivity they will carry a proof of, if any.
    pub fn bound(&self) -> Option<Bound> {
        self.bound
    }

    /// What each message is charged with; noise is in when this is not empty.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Says that a proof of this bound will come with the numbers.
    pub fn prove(&mut self, _: &Prover, bound: Bound) {
        self.bound = Some(bound);
    }

    /// Says that what was proved no longer holds.
    pub fn disprove(&mut self) {
        self.bound = None;
    }

    /// The events that stronger noise may still pay for: nothing has been decided by what they
    /// noised. x + n₁ + n₂ is post-processing of x + n₁ and of x + n₂, so that one of them pays.
    pub fn replaceable(&self) -> &[Event] {
        &self.events[self.kept..]
    }

    /// Charges each message with an event, in the place of those that may be replaced.
    pub fn charge(&mut self, _: &Prover, event: Event) {
        self.events.truncate(self.kept);
        self.events.push(event);
    }

    /// Says that a filter decides by the numbers as they are now: whether they go on is a release of
    /// its own, with the noise that is in them so far. What was charged stays charged.
    pub fn observe(&mut self) {
        self.kept = self.events.len();
    }
}

/// By so many powers of two the lattice of a sealed sum over records is coarser than an open one's.
pub const SEALED_RECORDS_COARSER: u8 = 8;

/// What an executor will answer a task with, known from the job alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Promise {
    /// The task that is answered, for example `train`.
    pub task: &'static str,
    /// What the numbers will mean.
    pub kind: DataKind,
    /// Names, shapes and element types of the task's model.
    pub schema: Schema,
    /// In which form the numbers come.
    pub protection: Protection,
    /// The sensitivity that the executor will prove, if it is one that can.
    pub bound: Option<Bound>,
    /// Gradient steps on private data that one answer is made of.
    pub local_steps: u32,
    /// Names of measurements on private data that come with the answer.
    pub metrics: Vec<String>,
}

impl Promise {
    /// The promise where the answer is to be sealed: sums over records are made on a coarser
    /// lattice, so that a sum over sites fits four bytes a number. 2^12 units a record are
    /// fine enough: truncation takes less than one of them from each coordinate.
    #[must_use]
    pub fn sealed(&self) -> Self {
        let coarse = |bound: Bound| match self.kind {
            DataKind::Gradient => bound.coarser(SEALED_RECORDS_COARSER),
            _ => bound,
        };
        Self { bound: self.bound.map(coarse), ..self.clone() }
    }

    /// The flow at the head of a chain.
    pub fn flow(&self) -> Flow {
        Flow {
            kind: self.kind,
            schema: self.schema.clone(),
            protection: self.protection,
            bound: self.bound,
            events: Vec::new(),
            kept: 0,
            noise: 0.0,
            withheld: BTreeMap::new(),
        }
    }
}

/// What a filter is built with, besides its parameters.
#[derive(Debug, Clone, Copy)]
pub struct BuildContext<'a> {
    /// Names, shapes and element types of the task's model.
    pub model: &'a Schema,
    /// Neighbouring relation of the data set.
    pub adjacency: crate::sensitivity::Adjacency,
    /// Under a seal: the fewest honest sites whose noise is in every sum that is opened. Each adds
    /// its share of the noise. Absent where the receiver sees the message itself.
    pub sharers: Option<u32>,
    /// Whether what leaves is sealed, so that its integers should be few bits.
    pub sealed: bool,
    /// Leave to prove sensitivities; present for built-ins only.
    pub prover: Option<&'a Prover>,
}
