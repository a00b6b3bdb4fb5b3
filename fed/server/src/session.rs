//! Frames of a protocol session between a workflow and the sites, over their long polls.
//!
//! ```text
//!   send ─▶ kept for a site until it answers ─▶ its next question brings it ─▶ its answer ─▶ receive
//! ```

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use privet_core::channel::Channel;
use privet_core::filter::Cancel;
use tokio::runtime::Handle;

use crate::federation::Federation;

/// One exchange of frames; what is still unanswered at its end is not sent any more.
pub(crate) struct Exchange<'a> {
    federation: &'a Federation,
    runtime: &'a Handle,
    cancel: &'a Cancel,
    until: Instant,
    sent: BTreeSet<String>,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        federation: &'a Federation,
        runtime: &'a Handle,
        cancel: &'a Cancel,
        patience: Duration,
    ) -> Self {
        federation.forget_frames();
        let until = Instant::now() + patience;
        Self { federation, runtime, cancel, until, sent: BTreeSet::new() }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.federation.forget_frames();
    }
}

impl Channel for Exchange<'_> {
    fn send(&mut self, to: &str, frame: Vec<u8>) {
        let Ok(parcel) = self.federation.gate().frame(frame).handover() else { return };
        self.sent.insert(to.to_owned());
        self.federation.post(to, parcel);
    }

    fn receive(&mut self) -> Option<(String, Vec<u8>)> {
        let (federation, cancel) = (self.federation, self.cancel);
        let done = || match federation.answer() {
            Some(answer) => Some(Some(answer)),
            None if !federation.awaits(&self.sent) || cancel.is_cancelled() => Some(None),
            None => None,
        };
        // Looks at the flag often enough for a stop to feel immediate.
        while Instant::now() < self.until {
            let step = self.until.min(Instant::now() + Duration::from_millis(200));
            if let Some(received) = self.runtime.block_on(federation.wait(step, done)) {
                return received;
            }
        }
        None
    }
}
