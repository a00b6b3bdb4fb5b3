//! The gate of a server: the job's filters there, and what it demands of uploads.
//!
//! ```text
//!   model ──▶ server OUT filters ──▶ Released ══▶ sites ══▶ uploads ──▶ sum ──▶ server IN filters
//! ```
//! An upload is looked at by its head alone; single updates pass no server filter.

use privet_core::filter::{Cancel, FilterContext, NoCharge};
use privet_core::flow::{Flow, Promise};
use privet_core::message::DataKind;
use privet_core::receipt::Demand;
use privet_core::tensor::{Dtype, Slot};
use privet_core::{Code, Message, Reason, Refusal, Registry, Stage};

use crate::chain::{self, CompileError, Link};
use crate::envelope::{self, Head};
use crate::job::{Direction, Job};
use crate::released::Released;

/// The gate of a server, for one job.
pub struct ServerGate {
    out: Vec<Link>,
    sum: Vec<Link>,
    demand: Demand,
    task: &'static str,
    kind: DataKind,
}

impl ServerGate {
    /// Compiles the job's server filters.
    ///
    /// # Errors
    /// When one of them could not work.
    pub fn compile(
        job: &Job,
        promise: &Promise,
        registry: &Registry,
    ) -> Result<Self, CompileError> {
        let task = Flow::plain(DataKind::Weights, promise.schema.clone());
        let double = |slot: &Slot| Slot { dtype: Dtype::F64, ..slot.clone() };
        let schema = promise.schema.0.iter();
        let sum = Flow::plain(
            promise.kind,
            schema.map(|(name, slot)| (name.clone(), double(slot))).collect(),
        );
        Ok(Self {
            out: chain::server_links(job, Direction::Out, task, registry, promise)?,
            sum: chain::server_links(job, Direction::In, sum, registry, promise)?,
            demand: job.demand.clone(),
            task: promise.task,
            kind: promise.kind,
        })
    }

    /// Lets out a frame of a sealing session. It holds what sites said and what is public.
    pub fn frame(&self, bytes: Vec<u8>) -> Released {
        Released::frame(bytes, None)
    }

    /// Lets a task out to the sites; it may bring the session of a seal.
    ///
    /// # Errors
    /// When a filter refuses it.
    pub fn release(
        &self,
        task: Message,
        round: u32,
        session: Option<Vec<u8>>,
        cancel: &Cancel,
    ) -> Result<Released, Refusal> {
        let task = self.filter(&self.out, task, round, Stage::TaskData, cancel)?;
        let encoded = envelope::encode(task, round, None, session).ok_or_else(|| {
            let reason = Reason::new(Code::WrongContent, "a task brings tensors");
            Refusal::new("server", Stage::TaskData, reason).in_round(round)
        })?;
        Ok(Released::update(encoded.head, encoded.body))
    }

    /// Looks at the head of an upload for an open round: form, task, kind, and what the receipt
    /// says against what the job demands.
    ///
    /// # Errors
    /// When such an upload is not taken.
    pub fn admit(&self, head: &[u8], round: u32) -> Result<Head, Reason> {
        let head =
            Head::decode(head).map_err(|error| Reason::new(Code::Malformed, error.to_string()))?;
        let header = &head.header;
        if header.round != round || header.task != self.task {
            let detail = "the upload answers another round or task";
            return Err(Reason::new(Code::UnexpectedUpload, detail));
        }
        if header.kind != self.kind {
            return Err(Reason::new(Code::UnexpectedKind, "another data kind than the task's"));
        }
        let Some(receipt) = &header.receipt else {
            return Err(Reason::new(Code::DemandUnmet, "the upload has no receipt"));
        };
        self.demand.check(receipt)?;
        Ok(head)
    }

    /// Filters a finished sum.
    ///
    /// # Errors
    /// When a filter refuses it.
    pub fn finished(&self, sum: Message, round: u32, cancel: &Cancel) -> Result<Message, Refusal> {
        self.filter(&self.sum, sum, round, Stage::TaskResult, cancel)
    }

    fn filter(
        &self,
        links: &[Link],
        message: Message,
        round: u32,
        stage: Stage,
        cancel: &Cancel,
    ) -> Result<Message, Refusal> {
        let mut context = FilterContext { round, charge: &mut NoCharge, cancel };
        chain::run(links, message, &mut context).map_err(|(reason, filter)| {
            Refusal::new("server", stage, reason).in_round(round).by_filter(filter)
        })
    }
}
