//! Filters: one message in, one message or one refusal out.
//!
//! As a function, a filter is `Message → Result<Message, Reason>`. It runs synchronously, away
//! from the threads that serve the network. It may assume that the message has passed the filters
//! before it, and nothing else; what it gives is all that the next one sees. There is no way to
//! reach the message as it was before, and none to reach the wire.
//!
//! A whole filter:
//!
//! ```
//! use privet_core::flow::Flow;
//! use privet_core::tensor::{Tensors, Values};
//! use privet_core::{Content, Filter, FilterContext, Message, Reason};
//!
//! /// Rounds every value to a multiple of 1/8.
//! struct Round;
//!
//! impl Filter for Round {
//!     fn plan(&self, mut flow: Flow) -> Result<Flow, Reason> {
//!         flow.disprove(); // rounding is not 1-Lipschitz: what was proved no longer holds
//!         Ok(flow)
//!     }
//!     fn apply(&self, mut message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
//!         if let Content::Plain(Tensors(tensors)) = &mut message.content {
//!             for tensor in tensors.values_mut() {
//!                 let (shape, values) = tensor.clone().into_parts();
//!                 let Values::F32(mut values) = values else { continue };
//!                 values.iter_mut().for_each(|x| *x = (*x * 8.0).round() / 8.0);
//!                 if let Some(rounded) = privet_core::tensor::Tensor::new(shape, Values::F32(values)) {
//!                     *tensor = rounded;
//!                 }
//!             }
//!         }
//!         Ok(message)
//!     }
//!     fn describe(&self) -> String {
//!         "rounds every value to a multiple of 1/8".to_owned()
//!     }
//! }
//! ```
//!
//! A wrong one would leave `plan` out of step with `apply`, for example not `disprove` though it
//! re-scales the numbers. It does not get far: the numbers themselves lose their proof when
//! they are changed ([`Lattice::map`](crate::sensitivity::Lattice::map)), and the noise filter
//! refuses at run time what was promised at compile time and did not come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::flow::Flow;
use crate::message::Message;
use crate::refusal::{Code, Reason};
use crate::sensitivity::Prover;

/// A configured filter, ready to run.
pub trait Filter: Send + Sync {
    /// What is known of a message after this filter, from what was known before it. Called once
    /// when a chain is compiled, before a job starts.
    ///
    /// # Errors
    /// When the filter could not work on such a message.
    fn plan(&self, flow: Flow) -> Result<Flow, Reason>;

    /// Filters one message. Called once a round, off the network threads; a panic is caught by
    /// the gate and refuses the message.
    ///
    /// # Errors
    /// When the message may not pass. The detail holds no value of the data.
    fn apply(&self, message: Message, context: &mut FilterContext<'_>) -> Result<Message, Reason>;

    /// What this filter does with its settings, as a sentence without a subject, for `explain`:
    /// "keeps the tensors named encoder.*".
    fn describe(&self) -> String;
}

/// Where a filter says that it is about to draw noise.
pub trait Charge {
    /// Says that noise is about to be drawn. After this the round counts as spent, whatever
    /// happens.
    ///
    /// # Errors
    /// When nothing was reserved for this round.
    fn draw(&mut self, prover: &Prover) -> Result<(), Reason>;
}

/// What a filter may use besides its message.
pub struct FilterContext<'a> {
    /// The round, from 1.
    pub round: u32,
    /// The reservation that noise is paid from.
    pub charge: &'a mut dyn Charge,
    /// Set when the job was stopped; long filters look at it.
    pub cancel: &'a Cancel,
}

/// A flag that says "stop".
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Says "stop".
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody said "stop".
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// An error when somebody said "stop".
    ///
    /// # Errors
    /// [`Code::Cancelled`].
    pub fn check(&self) -> Result<(), Reason> {
        if self.is_cancelled() {
            return Err(Reason::new(Code::Cancelled, "the job was stopped"));
        }
        Ok(())
    }
}

/// A [`Charge`] of which nothing was reserved: for chains that draw no noise.
#[derive(Debug, Clone, Copy)]
pub struct NoCharge;

impl Charge for NoCharge {
    fn draw(&mut self, _: &Prover) -> Result<(), Reason> {
        let detail = "no budget was reserved for this noise";
        Err(Reason::new(Code::BudgetExhausted, detail))
    }
}
