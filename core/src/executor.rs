//! The seam to whatever computes on a site's data.

use crate::filter::Cancel;
use crate::message::Message;

/// How an executor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskStatus {
    /// It is done.
    Done,
    /// It failed; the reason stays in the site's own log.
    Failed,
}

/// An executor's answer. The gate refuses every combination but (done, a message): in particular
/// a failure that still carries a payload.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskResult {
    /// How it ended.
    pub status: TaskStatus,
    /// What it computed.
    pub message: Option<Message>,
    /// What went wrong, for the site's own log. Never crosses the wire.
    pub note: String,
}

impl TaskResult {
    /// Done, with a result.
    pub fn done(message: Message) -> Self {
        Self { status: TaskStatus::Done, message: Some(message), note: String::new() }
    }

    /// Failed, with a note for the site's own log.
    pub fn failed(note: impl Into<String>) -> Self {
        Self { status: TaskStatus::Failed, message: None, note: note.into() }
    }
}

/// Computes on a site's data, or on a server's public data.
pub trait Executor: Send {
    /// Answers one task. Under unit = record the answer may depend on the task and the data
    /// only, not on earlier rounds.
    fn execute(&mut self, task: &Message, cancel: &Cancel) -> TaskResult;
}
