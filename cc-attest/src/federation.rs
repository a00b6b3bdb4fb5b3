//! Attestation between the ends of a federation: the seam of `core` filled with verifiers and sources.
//!
//! ```text
//!   challenge ─▶ (peer: Prover ◀─ Source) ─▶ prove: bound to keys, connection, job ─▶ every profile ─▶ admitted
//!   admitted ─ max-age, another connection, renew ─▶ asked again
//! ```
//! Each end judges the other alike. Every result is signed as an EAR, kept in the kit, and its digest noted in the
//! audit log, refused or not.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use privet_core::admission::{
    Admission, Attester, CertificateOnly, MAX_EVIDENCE, Moment, Peer, Unproved,
};
use privet_core::audit::{Audit, AuditEntry};
use privet_core::clock::Clock;
use privet_core::{Code, Reason, Refusal as Told, Stage};
use privet_crypto::{Digest, Seed, SigningKey};

use crate::appraisal::{Appraisal, Verdict};
use crate::binding::{Binding, ReportData, Role};
use crate::challenge::Challenges;
use crate::ear::Claims;
use crate::evidence::Bundle;
use crate::policy::Profile;
use crate::refusal::{self, Refusal};
use crate::source::Source;
use crate::verifier::{Expected, Verifier};

/// Most challenges that are open, and peers that are remembered.
const MOST: usize = 1024;

/// Where results go.
pub struct Results {
    /// Signs them.
    pub key: SigningKey,
    /// A file that a line is appended to for each; none where they are not kept.
    pub file: Option<PathBuf>,
    /// Notes them.
    pub audit: Option<Arc<dyn Audit>>,
}

/// Judges the peers of one end of a federation.
pub struct Attested {
    /// What the peers are.
    role: Role,
    /// SHA-256 of this end's public key.
    own_key: [u8; 32],
    roster: CertificateOnly,
    /// One for each profile that a peer has to fit.
    verifiers: Vec<Verifier>,
    max_age: Duration,
    results: Results,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

struct State {
    challenges: Challenges,
    admitted: BTreeMap<String, Proved>,
}

/// What a peer has proved last.
struct Proved {
    key: [u8; 32],
    exporter: [u8; 32],
    /// The run that it was for; empty before there was one.
    job: String,
    at: SystemTime,
    /// From then on it is asked again: some time before it would be too old, other each time.
    due: SystemTime,
    /// Whether it was to be proved anew since.
    stale: bool,
}

impl Proved {
    /// A clock that went back makes it as old as one that went too far.
    fn current(&self, peer: &Peer, max_age: Duration, now: SystemTime) -> bool {
        let young = now.duration_since(self.at).is_ok_and(|age| age <= max_age);
        young && !self.stale && self.key == peer.key && self.exporter == peer.exporter
    }
}

fn not_attested(refusal: &Refusal) -> Reason {
    Reason::new(Code::NotAttested, refusal.to_string())
}

impl Attested {
    /// Judges peers of a role whose certificates are on a roster by `verifiers`, all of which must be content.
    /// `max_age` is how long a proof is good for.
    pub fn new(
        role: Role,
        own_key: [u8; 32],
        roster: CertificateOnly,
        verifiers: Vec<Verifier>,
        max_age: Duration,
        results: Results,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let state = State { challenges: Challenges::new(MOST), admitted: BTreeMap::new() };
        let state = Mutex::new(state);
        Self { role, own_key, roster, verifiers, max_age, results, clock, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to ask again: after half of what evidence is good for, and up to four tenths more.
    fn ask_again(&self, now: SystemTime) -> SystemTime {
        let random = Seed::from_os().map_or(0, |seed| seed.reveal()[0]);
        let share = 0.5 + 0.4 * f64::from(random) / 256.0;
        now + self.max_age.mul_f64(share)
    }

    /// Holds evidence against every profile; the first that is not content refuses.
    fn appraise(
        &self,
        peer: &Peer,
        job: &str,
        challenge: &[u8; 32],
        evidence: &[u8],
        now: SystemTime,
    ) -> Result<(), Unproved> {
        if evidence.is_empty() || evidence.len() > MAX_EVIDENCE {
            let detail = "no evidence, or more than there can be";
            return Err(Unproved::Refused(Reason::new(Code::NotAttested, detail)));
        }
        let bundle = Bundle::decode(evidence)
            .map_err(|refusal| Unproved::Refused(not_attested(&refusal)))?;
        let binding = Binding {
            role: self.role,
            challenge: *challenge,
            own_key: peer.key,
            peer_key: self.own_key,
            exporter: peer.exporter,
            job,
        };
        let expected = Expected::Data(binding.report_data());
        for verifier in &self.verifiers {
            let mut appraisal = verifier.appraise(&bundle, &expected, now);
            let other_nonce = |appraisal: &Appraisal| {
                let codes = &mut appraisal.refusals.iter().map(|refusal| refusal.code);
                codes.any(|code| code == refusal::Code::NonceMismatch)
            };
            if other_nonce(&appraisal) {
                let answers = |data: &ReportData| {
                    !other_nonce(&verifier.appraise(&bundle, &Expected::Data(*data), now))
                };
                appraisal.refusals.insert(0, binding.refusal(answers));
            }
            let judged = content(verifier, &appraisal);
            let noted =
                self.note(peer, job, challenge, verifier, &appraisal, &bundle, &judged, now);
            judged.map_err(Unproved::Refused)?;
            noted.map_err(Unproved::Again)?;
        }
        Ok(())
    }

    /// Signs a result, keeps it, and notes its digest.
    #[allow(clippy::too_many_arguments)] // all that a result names
    fn note(
        &self,
        peer: &Peer,
        job: &str,
        challenge: &[u8; 32],
        verifier: &Verifier,
        appraisal: &Appraisal,
        bundle: &Bundle,
        judged: &Result<(), Reason>,
        now: SystemTime,
    ) -> Result<(), Reason> {
        let policy = verifier.policy();
        let claims =
            Claims::new(appraisal, *challenge, policy.digest(), bundle.digest(), now, self.max_age);
        let ear = claims.sign(&self.results.key).map_err(|refusal| not_attested(&refusal))?;
        if let Some(file) = &self.results.file {
            let failed =
                |error: std::io::Error| Reason::new(Code::StorageFailed, error.to_string());
            let mut file =
                std::fs::File::options().create(true).append(true).open(file).map_err(failed)?;
            writeln!(file, "{ear}").map_err(failed)?;
        }
        let Some(audit) = &self.results.audit else { return Ok(()) };
        let refusal = judged.as_ref().err();
        audit.append(AuditEntry {
            event: if refusal.is_some() { "refuse" } else { "attested" }.to_owned(),
            job: (!job.is_empty()).then(|| job.to_owned()),
            peer: Some(peer.name.clone()),
            filters: vec![
                format!("profile {}", policy.profile.as_str()),
                format!("verdict {}", verdict(appraisal.verdict)),
                format!("ear sha256:{}", Digest::of(ear.as_bytes()).hex()),
            ],
            refusal: refusal
                .map(|reason| Told::new(peer.name.clone(), Stage::Join, reason.clone())),
            ..AuditEntry::default()
        })
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::None => "none",
        Verdict::Affirming => "affirming",
        Verdict::Warning => "warning",
        Verdict::Contraindicated => "contraindicated",
    }
}

/// Whether what came of evidence is as good as its profile can be: profiles that cannot affirm say `warning`, and
/// so does every profile of devices in software, where policy allows them.
fn content(verifier: &Verifier, appraisal: &Appraisal) -> Result<(), Reason> {
    if let Some(first) = appraisal.refusals.first() {
        let more = match appraisal.refusals.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        return Err(Reason::new(Code::NotAttested, format!("{first}{more}")));
    }
    let policy = verifier.policy();
    let best_is_warning = matches!(policy.profile, Profile::GpuOnly | Profile::Nras)
        || appraisal.devices.iter().any(|device| device.simulated);
    match appraisal.verdict {
        Verdict::Affirming => Ok(()),
        Verdict::Warning if best_is_warning => Ok(()),
        other => {
            let detail = format!(
                "profile `{}` is not shown in full: the verdict is {}; give reference values for the machine",
                policy.profile.as_str(),
                verdict(other)
            );
            Err(Reason::new(Code::NotAttested, detail))
        }
    }
}

impl Admission for Attested {
    fn judge(&self, moment: Moment, peer: &Peer) -> Result<(), Reason> {
        self.roster.judge(moment, peer)?;
        if self.verifiers.is_empty() || moment == Moment::Leave {
            return Ok(());
        }
        let state = self.lock();
        let proved = state.admitted.get(&peer.name);
        let current = proved.filter(|proved| proved.current(peer, self.max_age, self.clock.now()));
        match current {
            // What was proved before there was a job is enough to be told which it is.
            Some(proved) if moment == Moment::Join || !proved.job.is_empty() => Ok(()),
            _ => {
                let detail = format!("`{}` has not proved what it runs, or not lately", peer.name);
                Err(Reason::new(Code::NotAttested, detail))
            }
        }
    }

    fn challenge(&self, peer: &Peer, job: &str) -> Result<Option<[u8; 32]>, Reason> {
        self.roster.judge(Moment::Join, peer)?;
        if self.verifiers.is_empty() {
            return Ok(None);
        }
        let now = self.clock.now();
        let mut state = self.lock();
        let proved = state.admitted.get(&peer.name).filter(|proved| {
            proved.current(peer, self.max_age, now) && proved.job == job && now < proved.due
        });
        if proved.is_some() {
            return Ok(None);
        }
        let posed = state.challenges.pose(&peer.name, peer.exporter, now);
        posed.map(Some).map_err(|why| Reason::new(Code::NotAttested, why.to_string()))
    }

    fn prove(
        &self,
        peer: &Peer,
        job: &str,
        challenge: &[u8; 32],
        evidence: &[u8],
    ) -> Result<(), Unproved> {
        let now = self.clock.now();
        let taken = self.lock().challenges.take(&peer.name, &peer.exporter, challenge, now);
        taken.map_err(|refusal| Unproved::Again(not_attested(&refusal)))?;
        let appraised = self.appraise(peer, job, challenge, evidence, now);
        if let Err(Unproved::Refused(_)) = &appraised {
            // What it proved before is good no more.
            self.lock().admitted.remove(&peer.name);
        }
        appraised?;
        let proved = Proved {
            key: peer.key,
            exporter: peer.exporter,
            job: job.to_owned(),
            at: now,
            due: self.ask_again(now),
            stale: false,
        };
        self.lock().admitted.insert(peer.name.clone(), proved);
        Ok(())
    }

    fn due(&self, peer: &Peer) -> bool {
        let now = self.clock.now();
        !self.verifiers.is_empty()
            && self
                .lock()
                .admitted
                .get(&peer.name)
                .is_none_or(|proved| proved.stale || now >= proved.due)
    }

    fn renew(&self) {
        self.lock().admitted.values_mut().for_each(|proved| proved.stale = true);
    }
}

/// Proves what this machine runs, from a source of evidence.
pub struct Prover {
    /// What this end is.
    pub role: Role,
    /// SHA-256 of its public key.
    pub own_key: [u8; 32],
    /// Where the evidence comes from.
    pub source: Box<dyn Source>,
}

impl Attester for Prover {
    fn attest(&self, peer: &Peer, job: &str, challenge: &[u8; 32]) -> Result<Vec<u8>, Reason> {
        let binding = Binding {
            role: self.role,
            challenge: *challenge,
            own_key: self.own_key,
            peer_key: peer.key,
            exporter: peer.exporter,
            job,
        };
        let collected = self.source.collect(&binding.report_data());
        let bundle = collected.map_err(|why| Reason::new(Code::NotAttested, why.0))?;
        Ok(bundle.encode())
    }
}

#[cfg(test)]
mod tests;
