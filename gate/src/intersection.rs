//! Set intersection through the gate of a site.
//!
//! ```text
//!   offer ──▶ Passage, if a [[psi]] admits it
//!   peers ──▶ Limits: runs are counted, sizes and the intersection's size held against the section
//!   frames ──▶ Released, as many bytes as sets of these sizes need
//!   a size that is told ──▶ the section's own noise, which the data set's budget pays
//! ```

mod noise;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::UNIX_EPOCH;

use privet_core::audit::{Audit, AuditEntry};
use privet_core::clock::Clock;
use privet_core::intersect::{Bounds, Guard, Reveal, Wanted};
use privet_core::ledger::{Ledger, Purpose, Window};
use privet_core::{Code, Message, Reason, Refusal, Registry, Stage};
use privet_crypto::{Reader, Writer};
use privet_store::{Store, StoreError, Table};

pub(crate) use self::noise::Noise;
use crate::attestation::Attested;
use crate::filter_use::FilterUse;
use crate::job::{Job, Offer};
use crate::policy::{Dataset, Policy};
use crate::released::{Released, Reservation, Status};
use crate::site::SiteGate;

/// Data set and peer → when runs began, in seconds since 1970.
const RUNS: Table = Table::named("psi-runs");
/// Most runs that are remembered of a peer.
const MAX_RUNS: usize = 1 << 16;

/// Bytes that a site may send to a peer before sizes are known, and what setup takes.
const SETUP_BYTES: u64 = 4 << 20;
/// Bytes that it may send for each item of either set.
const ITEM_BYTES: u64 = 96;

/// What a policy allows of set intersection.
#[derive(Debug, Clone, PartialEq)]
pub struct PsiRule {
    /// The data set.
    pub dataset: String,
    /// Names of the sites that may take part.
    pub peers: BTreeSet<String>,
    /// Whether all of them must: of fewer it would be another intersection.
    pub all_peers: bool,
    /// The key columns, where the owner says which.
    pub columns: Option<Vec<String>>,
    /// Whether matching rows may be told, here and to the others; else their number alone.
    pub rows: bool,
    /// Filters that a size passes before anybody is told it; only where rows are not.
    pub out: Vec<FilterUse>,
    /// The fewest common items of which anything may be told.
    pub min_intersection: u64,
    /// The largest share of this site's items of which anything may be told.
    pub max_fraction: f64,
    /// What peers must prove.
    pub attested: Option<Attested>,
    /// Runs with each peer in a window.
    pub runs: u32,
    /// The window.
    pub window: Window,
    /// Line of the file where it starts, from 1.
    pub line: usize,
}

impl PsiRule {
    /// What it is called where a rule is named.
    pub fn name(&self) -> String {
        format!("psi:{}", self.line)
    }
}

/// The way of one intersection through a gate.
pub struct Passage {
    site: String,
    rules: Vec<PsiRule>,
    dataset: Dataset,
    purpose: Purpose,
    registry: Arc<Registry>,
    ledger: Arc<dyn Ledger>,
    audit: Arc<dyn Audit>,
    store: Store,
    clock: Arc<dyn Clock>,
    left: Mutex<Option<Left>>,
}

/// What was admitted, once the peers are known.
struct Left {
    rule: String,
    peers: String,
    sent: u64,
    allowed: Arc<AtomicU64>,
}

/// The data set of an intersection, and the sections of a policy that admit it, whoever takes part.
pub(crate) fn admitted(
    policy: &Policy,
    job: &Job,
    wanted: &Wanted,
) -> Result<(Dataset, Vec<PsiRule>), Reason> {
    let dataset = policy
        .datasets
        .get(&job.dataset)
        .ok_or_else(|| Reason::new(Code::UnknownDataset, "the policy declares no such data set"))?;
    let of: Vec<&PsiRule> = policy.psi.iter().filter(|rule| rule.dataset == job.dataset).collect();
    let shows = |rule: &PsiRule| rule.rows || wanted.reveal == Reveal::Size;
    let keys = |rule: &PsiRule| rule.columns.as_ref().is_none_or(|keys| *keys == wanted.columns);
    let fit: Vec<PsiRule> =
        of.iter().filter(|rule| shows(rule) && keys(rule)).map(|rule| (*rule).clone()).collect();
    if let Some(attested) = fit.first().and_then(|rule| rule.attested.as_ref()) {
        attested.demanded_by(job)?;
    }
    if !fit.is_empty() {
        return Ok((dataset.clone(), fit));
    }
    let detail = match (of.is_empty(), of.iter().any(|rule| shows(rule))) {
        (true, _) => "the policy has no [[psi]] for this data set",
        (false, false) => "the policy's [[psi]] tells how many are common, and the job wants rows",
        (false, true) => "the policy's [[psi]] names other key `columns`",
    };
    Err(Reason::new(Code::NoMatchingRule, detail))
}

/// Whether a policy admits an intersection, whoever takes part.
///
/// # Errors
/// Why it does not.
pub fn admits(policy: &Policy, job: &Job, wanted: &Wanted) -> Result<(), Reason> {
    admitted(policy, job, wanted).map(drop)
}

impl SiteGate {
    /// Holds an offered intersection against the policy. `submitter` is what the caller knows of the peer that
    /// offers it.
    ///
    /// # Errors
    /// When no section of the policy admits it.
    pub fn intersect(
        &self,
        offer: &Offer,
        job: &Job,
        wanted: &Wanted,
        submitter: &str,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Passage, Refusal> {
        let policy: &Policy = self.policy();
        let (dataset, rules) = admitted(policy, job, wanted)
            .map_err(|reason| Refusal::new(&policy.site, Stage::Compile, reason))?;
        Ok(Passage {
            site: policy.site.clone(),
            rules,
            dataset,
            purpose: Purpose {
                job: job.name.clone(),
                run: offer.run.clone(),
                round: 1,
                submitter: submitter.to_owned(),
            },
            registry: self.shared_registry(),
            ledger: self.ledger(),
            audit: self.audit(),
            store,
            clock,
            left: Mutex::default(),
        })
    }
}

impl Passage {
    /// Says that the site waits.
    pub fn ready(&self) -> Released {
        Released::status(Status::Ready { sealed: false })
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// A refusal at this stage.
    pub fn refusal(&self, reason: Reason) -> Refusal {
        let refusal = Refusal::new(&self.site, Stage::Psi, reason);
        match self.lock().as_ref() {
            Some(left) => refusal.by_rule(&left.rule),
            None => refusal,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Left>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a run with these peers, certified under these names; gives what its guard is.
    ///
    /// # Errors
    /// When no section admits all of them, or a run is on already.
    pub fn with(&self, peers: &[String]) -> Result<Limits, Reason> {
        let admits = |rule: &&PsiRule| {
            peers.iter().all(|peer| rule.peers.contains(peer))
                && (!rule.all_peers || peers.len() == rule.peers.len())
        };
        let rule = self.rules.iter().find(admits).ok_or_else(|| {
            let detail = "no [[psi]] of the policy admits just the sites of this run";
            Reason::new(Code::NotAdmitted, detail)
        })?;
        let allowed = Arc::new(AtomicU64::new(SETUP_BYTES * peers.len() as u64));
        let left =
            Left { rule: rule.name(), peers: peers.join(", "), sent: 0, allowed: allowed.clone() };
        let noise =
            Noise::compile(rule, &self.dataset, &self.registry).map_err(|(_, reason)| reason)?;
        let noise = noise.map(|noise| Paid {
            noise,
            ledger: self.ledger.clone(),
            purpose: self.purpose.clone(),
            reserved: None,
        });
        let limits = Limits {
            rule: rule.clone(),
            peers: peers.to_vec(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            allowed,
            noise,
        };
        // Whose runs are used up is not even told the size of the set.
        limits.claim(false)?;
        if self.lock().is_some() {
            return Err(Reason::new(Code::RoundReplayed, "one run a job"));
        }
        let entry = AuditEntry {
            event: "intersect".to_owned(),
            job: Some(self.purpose.job.clone()),
            peer: Some(left.peers.clone()),
            rule: Some(left.rule.clone()),
            ..AuditEntry::default()
        };
        self.audit.append(entry)?;
        *self.lock() = Some(left);
        Ok(limits)
    }

    /// Lets a frame of the run out.
    ///
    /// # Errors
    /// When there is no run, or it has sent more than sets of its sizes need.
    pub fn frame(&self, bytes: Vec<u8>) -> Result<Released, Reason> {
        let mut left = self.lock();
        let left = left.as_mut().ok_or_else(|| {
            Reason::new(Code::WrongStage, "a frame of an intersection that nothing admitted")
        })?;
        left.sent = left.sent.saturating_add(bytes.len() as u64);
        if left.sent > left.allowed.load(Ordering::SeqCst) {
            let detail = "the intersection sends more than sets of these sizes need";
            return Err(Reason::new(Code::TooLarge, detail));
        }
        Ok(Released::frame(bytes, None))
    }

    /// Notes the end of the run in the log, and says it to the server: nothing of what was found.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub fn done(&self, shown: &str) -> Result<Released, Reason> {
        let left = self.lock();
        let (rule, peers, bytes) = match left.as_ref() {
            Some(left) => (Some(left.rule.clone()), Some(left.peers.clone()), left.sent),
            None => (None, None, 0),
        };
        let entry = AuditEntry {
            event: "intersected".to_owned(),
            job: Some(self.purpose.job.clone()),
            peer: peers,
            rule,
            filters: vec![shown.to_owned()],
            bytes,
            ..AuditEntry::default()
        };
        Ok(Released::frame(vec![1], Some((self.audit.clone(), entry))))
    }
}

/// A section of a policy, held against one run.
pub struct Limits {
    rule: PsiRule,
    peers: Vec<String>,
    store: Store,
    clock: Arc<dyn Clock>,
    allowed: Arc<AtomicU64>,
    noise: Option<Paid>,
}

/// Noise on the size of one run, and what pays for it.
struct Paid {
    noise: Noise,
    ledger: Arc<dyn Ledger>,
    purpose: Purpose,
    reserved: Option<Reservation>,
}

impl Paid {
    fn reserve(&mut self, dataset: &str) -> Result<(), Reason> {
        let id = self.ledger.reserve(dataset, &self.purpose, self.noise.events())?;
        self.reserved = Some(Reservation::new(self.ledger.clone(), id));
        Ok(())
    }

    fn take(&mut self) -> Result<Reservation, Reason> {
        let none = || Reason::new(Code::BudgetExhausted, "nothing was reserved for this size");
        self.reserved.take().ok_or_else(none)
    }
}

impl Limits {
    /// Counts this run with every peer, or only looks; none, where one has had its runs.
    fn claim(&self, count: bool) -> Result<(), Reason> {
        let now = self.clock.now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let since = match self.rule.window {
            Window::Lifetime => 0,
            Window::Days(days) => now.saturating_sub(u64::from(days) * 86_400),
        };
        let claimed = self.store.write(|tx| {
            for peer in &self.peers {
                let key = key(&self.rule.dataset, peer);
                let mut began = began(tx.get(RUNS, &key)?.as_deref());
                // A clock that was set back makes runs of the future, which count. Other sections have other
                // windows, so all runs are kept.
                let recent = began.iter().filter(|at| **at >= since).count();
                if recent >= self.rule.runs as usize || began.len() >= MAX_RUNS {
                    return Err(Unclaimed::Exhausted);
                }
                if count {
                    began.push(now);
                }
                let mut writer = Writer::default();
                for at in &began {
                    writer.u64(*at);
                }
                tx.put(RUNS, &key, &writer.finish())?;
            }
            Ok(())
        });
        claimed.map_err(|unclaimed| match unclaimed {
            Unclaimed::Exhausted => {
                let (runs, window) = (self.rule.runs, self.rule.window);
                let detail = format!("a peer has had its {runs} runs on this data set ({window})");
                Reason::new(Code::RunsExhausted, detail)
            }
            Unclaimed::Storage(error) => Reason::new(Code::StorageFailed, error.to_string()),
        })
    }
}

/// Why a run was not counted; with any peer, then.
enum Unclaimed {
    Exhausted,
    Storage(StoreError),
}

impl From<StoreError> for Unclaimed {
    fn from(error: StoreError) -> Self {
        Self::Storage(error)
    }
}

fn key(dataset: &str, peer: &str) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.bytes(dataset.as_bytes()).bytes(peer.as_bytes());
    writer.finish()
}

fn began(bytes: Option<&[u8]>) -> Vec<u64> {
    let mut reader = Reader::new(bytes.unwrap_or_default());
    std::iter::from_fn(|| reader.u64("run").ok()).collect()
}

impl Guard for Limits {
    fn counts(&self) -> bool {
        self.rule.min_intersection > 0 || self.rule.max_fraction < 1.0
    }

    fn sizes(&mut self, own: u64, peers: &[u64]) -> Result<Bounds, Reason> {
        let least = self.rule.min_intersection;
        if peers.iter().any(|peer| *peer < least) {
            let detail = "another site's set is smaller than `min-intersection`";
            return Err(Reason::new(Code::TooFewRecords, detail));
        }
        self.claim(true)?;
        if let Some(paid) = &mut self.noise {
            paid.reserve(&self.rule.dataset)?;
        }
        let items =
            |peer: &u64| ITEM_BYTES.saturating_mul(own.saturating_add(*peer).saturating_add(4096));
        let more = peers.iter().map(items).fold(0, u64::saturating_add);
        self.allowed.fetch_add(more, Ordering::SeqCst);
        // A bound on all of them would tell whoever counts how many there are, whatever the set is padded to.
        let most = match self.rule.max_fraction {
            whole if whole >= 1.0 => u64::MAX,
            share => (share * own as f64) as u64,
        };
        Ok(Bounds { least, most })
    }

    fn noise(&self) -> f64 {
        self.noise.as_ref().map_or(0.0, |paid| paid.noise.deviation())
    }

    fn pays(&mut self) -> Result<(), Reason> {
        match &mut self.noise {
            Some(paid) => paid.take()?.commit(),
            None => Ok(()),
        }
    }

    fn noised(&mut self, size: Message) -> Result<Message, Reason> {
        let unpaid = || Reason::new(Code::UnpaidRelease, "the section adds no noise to sizes");
        let paid = self.noise.as_mut().ok_or_else(unpaid)?;
        let mut reserved = paid.take()?;
        let noised = paid.noise.apply(size, &mut reserved)?;
        if !reserved.drawn() {
            return Err(unpaid());
        }
        reserved.commit()?;
        Ok(noised)
    }
}

/// The run that is on, named as all its sites name it.
pub fn about(offer: &Offer, sites: &[(String, [u8; 32])]) -> [u8; 32] {
    let transcript = privet_crypto::Transcript::new("privet/gate/intersection/v1")
        .bytes(&offer.digest().0)
        .number(sites.len() as u64);
    let site = |transcript: privet_crypto::Transcript, (name, key): &(String, [u8; 32])| {
        transcript.bytes(name.as_bytes()).bytes(key)
    };
    sites.iter().fold(transcript, site).finish().0
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    struct At(Mutex<SystemTime>);

    impl Clock for At {
        fn now(&self) -> SystemTime {
            *self.0.lock().unwrap()
        }
    }

    fn limits(store: &Store, clock: &Arc<At>, peers: &[&str], rule: PsiRule) -> Limits {
        Limits {
            rule,
            peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
            store: store.clone(),
            clock: clock.clone(),
            allowed: Arc::default(),
            noise: None,
        }
    }

    fn rule() -> PsiRule {
        PsiRule {
            dataset: "ids".into(),
            peers: ["a".to_owned(), "b".to_owned()].into(),
            all_peers: false,
            columns: None,
            rows: true,
            out: Vec::new(),
            min_intersection: 10,
            max_fraction: 0.5,
            attested: None,
            runs: 2,
            window: Window::Days(30),
            line: 9,
        }
    }

    #[test]
    fn runs_are_counted_by_peer_and_window() {
        let store = Store::in_memory().unwrap();
        let clock = Arc::new(At(Mutex::new(UNIX_EPOCH + Duration::from_secs(1 << 30))));
        let run = |peers: &[&str]| limits(&store, &clock, peers, rule()).sizes(1, &[10]).map(drop);
        run(&["a"]).unwrap();
        run(&["a", "b"]).unwrap();
        assert_eq!(run(&["a"]).unwrap_err().code, Code::RunsExhausted);
        run(&["b"]).unwrap();
        assert_eq!(run(&["b"]).unwrap_err().code, Code::RunsExhausted);
        *clock.0.lock().unwrap() += Duration::from_secs(31 * 86_400);
        run(&["a"]).unwrap();
        // A section with a short window does not make another one forget.
        let lasting = || PsiRule { window: Window::Lifetime, runs: 4, ..rule() };
        limits(&store, &clock, &["a"], lasting()).sizes(1, &[10]).unwrap();
        assert!(limits(&store, &clock, &["a"], lasting()).sizes(1, &[10]).is_err());
        let forever = PsiRule { window: Window::Lifetime, ..rule() };
        let run = || limits(&store, &clock, &["c"], forever.clone()).sizes(1, &[10]).map(drop);
        run().unwrap();
        *clock.0.lock().unwrap() += Duration::from_secs(400 * 86_400);
        run().unwrap();
        assert!(run().is_err());
    }

    #[test]
    fn the_size_of_an_intersection_is_held_against_the_section() {
        let store = Store::in_memory().unwrap();
        let clock = Arc::new(At(Mutex::new(UNIX_EPOCH)));
        let mut limits = limits(&store, &clock, &["a"], rule());
        assert!(limits.counts());
        assert_eq!(limits.sizes(40, &[100]).unwrap(), Bounds { least: 10, most: 20 });
        // A peer that asks for one of its own is told nothing at all.
        assert_eq!(limits.sizes(40, &[100, 9]).unwrap_err().code, Code::TooFewRecords);
        let open = PsiRule { min_intersection: 0, max_fraction: 1.0, ..rule() };
        assert!(!Limits { rule: open, ..limits }.counts());
    }
}
