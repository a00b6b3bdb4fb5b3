//! Set intersection: the server names the sites to each other, relays what they seal for each other, and hears of
//! each that it is done.
//!
//! ```text
//!   server ── who takes part, in which order ──▶ sites    sites ◀── conversations ──▶ sites    sites ── done ──▶ server
//! ```
//! What they find stays with them. All sites of the job are needed: of fewer it would be another intersection.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use privet_core::channel::Channel;
use privet_core::tensor::Tensors;

use crate::checkpoint::State;
use crate::record::{Failure, Metrics, Progress};
use crate::rounds::Rounds;
use crate::session::Exchange;
use crate::workflow::Workflow;

/// How often is looked at how far they are.
const LOOK: Duration = Duration::from_millis(100);

/// How long the sites may take, as long as they are there: each of them has its own patience with the others.
const PATIENCE: Duration = Duration::from_secs(7 * 86_400);

/// The workflow.
pub(crate) struct Intersection {
    sites: Vec<String>,
}

impl Intersection {
    pub(crate) fn new(sites: Vec<String>) -> Self {
        Self { sites }
    }
}

impl Workflow for Intersection {
    fn run(&mut self, rounds: &mut Rounds<'_>) -> Result<Metrics, Failure> {
        let began = Instant::now();
        let all: BTreeSet<String> = self.sites.iter().cloned().collect();
        let ready = rounds.federation.roster().ready;
        if !all.is_subset(&ready) || all.len() < 2 {
            return Err(rounds.short_of(all.len() as u32, ready.intersection(&all).count(), &[]));
        }
        let runtime = rounds.runtime.clone();
        rounds.federation.admit_conversations(&all);
        let frame = serde_json::to_vec(&self.sites).unwrap_or_default();
        let federation = rounds.federation;
        let mut exchange = Exchange::new(federation, &runtime, rounds.cancel, PATIENCE);
        all.iter().for_each(|site| exchange.send(site, frame.clone()));
        let mut answered = BTreeSet::new();
        let mut carried = 0;
        loop {
            match exchange.receive_within(LOOK) {
                Some(Some((site, _))) => drop(answered.insert(site)),
                Some(None) => break,
                None => {}
            }
            let now = federation.records().values().map(|site| site.bytes_up).sum();
            if now != carried {
                (rounds.observer)(&Progress::Carried(now));
            }
            carried = now;
        }
        drop(exchange);
        rounds.stopped()?;
        // Whoever still converses has nobody to converse with.
        rounds.federation.admit_conversations(&BTreeSet::new());
        if answered != all {
            let silent: Vec<String> = all.difference(&answered).cloned().collect();
            return Err(rounds.short_of(all.len() as u32, answered.len(), &silent));
        }
        rounds.note(answered.into_iter().collect(), began.elapsed());
        Ok(Metrics::default())
    }

    fn model(&self) -> Tensors {
        Tensors::default()
    }

    fn state(&self) -> State {
        State { tensors: BTreeMap::new(), numbers: BTreeMap::new() }
    }
}
