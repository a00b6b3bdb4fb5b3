//! Frames of a protocol session between a workflow and the sites, over their long polls.
//!
//! ```text
//!   send ─▶ kept for a site until it answers ─▶ its next question brings it ─▶ its answer ─▶ receive
//! ```
//! Each frame has its time. A site that lets it pass is asked no more in the exchange: one that is there and
//! silent costs the others one wait.

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
    patience: Duration,
    until: Instant,
    /// Sites that were sent something.
    sent: BTreeSet<String>,
    /// Of these, those that let the time for it pass.
    silent: BTreeSet<String>,
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
        let (sent, silent) = (BTreeSet::new(), BTreeSet::new());
        Self { federation, runtime, cancel, patience, until, sent, silent }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        self.federation.forget_frames();
    }
}

impl Exchange<'_> {
    /// The next answer, `Some(None)` where nobody can give one any more, `None` where none has come in so
    /// short a time.
    pub(crate) fn receive_within(&self, time: Duration) -> Option<Option<(String, Vec<u8>)>> {
        let (federation, cancel) = (self.federation, self.cancel);
        let done =
            || federation.answer(&self.sent).or_else(|| cancel.is_cancelled().then_some(None));
        self.runtime.block_on(federation.wait(Instant::now() + time, done))
    }
}

impl Channel for Exchange<'_> {
    fn send(&mut self, to: &str, frame: Vec<u8>) {
        if self.silent.contains(to) {
            return;
        }
        let Ok(parcel) = self.federation.gate().frame(frame).handover() else { return };
        self.sent.insert(to.to_owned());
        self.until = Instant::now() + self.patience;
        self.federation.post(to, parcel);
    }

    fn receive(&mut self) -> Option<(String, Vec<u8>)> {
        // Looks at the flag often enough for a stop to feel immediate.
        while Instant::now() < self.until {
            let step = self.until.saturating_duration_since(Instant::now());
            if let Some(received) = self.receive_within(step.min(Duration::from_millis(200))) {
                return received;
            }
        }
        // What they say from now on is too late.
        self.silent.extend(self.federation.give_up(&self.sent));
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use privet_core::admission::{Attestation, CertificateOnly, Peer};
    use privet_core::flow::Promise;
    use privet_core::message::Protection;
    use privet_core::tensor::Schema;
    use privet_core::{DataKind, Registry, Stage};
    use privet_gate::{Job, Offer, ServerGate, Source};
    use privet_wire::Service;

    use super::*;
    use crate::federation::Shared;

    fn federation() -> Shared {
        let text = "schema = 1\n[job]\nname = \"j\"\nworkflow = \"psi\"\n[psi]\ndataset = \"d\"\n\
                    column = [\"id\"]\n";
        let registry = Registry::default();
        let job = Job::parse(&Source::new("job", text), None, "".as_ref(), &registry).unwrap();
        let promise = Promise {
            task: "psi",
            kind: DataKind::Psi,
            schema: Schema::default(),
            protection: Protection::Plain,
            bound: None,
            local_steps: 1,
            metrics: vec![],
        };
        let gate = ServerGate::compile(&job, &promise, &registry).unwrap();
        let offer = Offer { run: "run".into(), job: text.into(), features: None, rounds: None };
        let admission = Arc::new(CertificateOnly::default());
        let attestation = Attestation { admission, attester: None };
        let known = BTreeMap::new();
        Shared(Arc::new(Federation::new(offer, attestation, gate, Stage::Psi, known)))
    }

    /// However an answer falls between the looks of the one that waits for it.
    #[test]
    fn no_answer_is_lost() {
        let shared = federation();
        let peer = Peer { name: "north".into(), key: [0; 32], exporter: [0; 32] };
        shared.connected(&peer);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (cancel, done) = (Cancel::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if let Some(frame) = shared.0.asked(&peer.name) {
                        shared.reply(&peer, &frame.id().bytes(), Ok(vec![1].into()));
                    }
                }
            });
            let patience = Duration::from_secs(60);
            let mut lost = 0;
            for _ in 0..50_000 {
                let mut exchange = Exchange::new(&shared.0, runtime.handle(), &cancel, patience);
                exchange.send("north", vec![7]);
                lost += u32::from(exchange.receive().is_none());
            }
            done.store(true, Ordering::Relaxed);
            assert_eq!(lost, 0);
        });
    }
}
