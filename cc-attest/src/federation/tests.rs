use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use super::*;
use crate::policy::Policy;
use crate::sim::Software;
use crate::source::Unavailable;

/// A clock that is set by hand.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_795_651_200 + self.0.load(Ordering::SeqCst))
    }
}

/// A log in memory.
#[derive(Default)]
struct Log(Mutex<Vec<AuditEntry>>);

impl Audit for Log {
    fn append(&self, entry: AuditEntry) -> Result<(), Reason> {
        self.0.lock().unwrap().push(entry);
        Ok(())
    }
}

const SERVER: [u8; 32] = [1; 32];
const SITE: [u8; 32] = [2; 32];
const EXPORTER: [u8; 32] = [3; 32];
const AGE: Duration = Duration::from_secs(600);

struct Case {
    admission: Attested,
    prover: Prover,
    clock: Arc<Hand>,
    log: Arc<Log>,
    folder: tempfile::TempDir,
}

/// What a site answers with, shared with a test.
struct Shared(Arc<Software>);

impl Source for Shared {
    fn collect(&self, data: &crate::binding::ReportData) -> Result<Bundle, Unavailable> {
        self.0.collect(data)
    }
}

/// A server that asks sites to fit a profile, and a site with a device in software that changes its firmware after
/// so many reports.
fn case(profile: Profile, allow_simulated: bool, changing: u64) -> Case {
    let software = Software::new().unwrap().changing(changing, 0);
    let mut verifier = Verifier::new(Policy { allow_simulated, ..Policy::named(profile) });
    for (name, file) in software.files() {
        // Without leave the roots are not taken.
        let _ = verifier.add(name, file);
    }
    let (clock, log) = (Arc::new(Hand::default()), Arc::new(Log::default()));
    let folder = tempfile::tempdir().unwrap();
    let results = Results {
        key: SigningKey::from_seed(&Seed::from_bytes([9; 32])),
        file: Some(folder.path().join("results")),
        audit: Some(log.clone()),
    };
    let roster = CertificateOnly { roster: vec!["north".into(), "south".into()] };
    let (verifiers, clocked) = (vec![verifier], clock.clone());
    let admission = Attested::new(Role::Site, SERVER, roster, verifiers, AGE, results, clocked);
    let source = Box::new(Shared(Arc::new(software)));
    let prover = Prover { role: Role::Site, own_key: SITE, source };
    Case { admission, prover, clock, log, folder }
}

fn peer() -> Peer {
    Peer { name: "north".into(), key: SITE, exporter: EXPORTER }
}

/// The server as the site sees it.
fn server() -> Peer {
    Peer { name: "server".into(), key: SERVER, exporter: EXPORTER }
}

impl Case {
    fn exchange(&self, job: &str) -> Result<(), Reason> {
        let challenge = self.admission.challenge(&peer(), job)?.expect("nothing is asked");
        let evidence = self.prover.attest(&server(), job, &challenge)?;
        self.admission.prove(&peer(), job, &challenge, &evidence).map_err(Unproved::reason)
    }

    fn judge(&self, moment: Moment) -> bool {
        self.admission.judge(moment, &peer()).is_ok()
    }
}

const ALL: [Moment; 5] =
    [Moment::Join, Moment::Job, Moment::Periodic, Moment::KeyShare, Moment::Leave];

/// Why evidence was refused that was looked at.
fn refused(result: Result<(), Unproved>) -> String {
    match result {
        Err(Unproved::Refused(reason)) => why(Err(reason)),
        other => panic!("{other:?}"),
    }
}

/// Why it was not looked at.
fn again(result: Result<(), Unproved>) -> String {
    match result {
        Err(Unproved::Again(reason)) => why(Err(reason)),
        other => panic!("{other:?}"),
    }
}

fn why(result: Result<(), Reason>) -> String {
    let reason = result.unwrap_err();
    assert_eq!(reason.code, Code::NotAttested);
    reason.detail
}

#[test]
fn a_peer_is_admitted_to_what_it_has_proved_itself_for() {
    let case = case(Profile::GpuOnly, true, 99);
    assert_eq!(ALL.map(|moment| case.judge(moment)), [false, false, false, false, true]);
    case.exchange("").unwrap();
    assert_eq!(ALL.map(|moment| case.judge(moment)), [true, false, false, false, true]);
    case.exchange("run").unwrap();
    assert_eq!(ALL.map(|moment| case.judge(moment)), [true; 5]);
    assert_eq!(case.admission.challenge(&peer(), "run").unwrap(), None);
    // A name that is not on the roster is asked for nothing.
    let stranger = Peer { name: "stranger".into(), ..peer() };
    assert_eq!(case.admission.judge(Moment::Leave, &stranger).unwrap_err().code, Code::NotAdmitted);
    assert!(case.admission.challenge(&stranger, "run").is_err());
}

/// What somebody else proved, or elsewhere, is nothing.
#[test]
fn evidence_is_of_one_connection_one_job_and_one_role() {
    let case = case(Profile::GpuOnly, true, 99);
    let answer = |own_key, exporter, role, job: &str, challenge: &[u8; 32]| {
        let binding =
            Binding { role, challenge: *challenge, own_key, peer_key: SERVER, exporter, job };
        case.prover.source.collect(&binding.report_data()).unwrap().encode()
    };
    for (own_key, exporter, role, job, code) in [
        ([7; 32], EXPORTER, Role::Site, "run", "KeyBindingMismatch"),
        (SITE, [7; 32], Role::Site, "run", "KeyBindingMismatch"),
        (SITE, EXPORTER, Role::Server, "run", "RoleMismatch"),
        (SITE, EXPORTER, Role::Site, "another", "KeyBindingMismatch"),
    ] {
        let challenge = case.admission.challenge(&peer(), "run").unwrap().unwrap();
        let evidence = answer(own_key, exporter, role, job, &challenge);
        let told = refused(case.admission.prove(&peer(), "run", &challenge, &evidence));
        assert!(told.starts_with(code), "{told}");
        assert!(!case.judge(Moment::Job));
    }
    let challenge = case.admission.challenge(&peer(), "run").unwrap().unwrap();
    let evidence = answer(SITE, EXPORTER, Role::Site, "run", &challenge);
    // Another peer with this answer, and this peer over another connection.
    for other in [Peer { name: "south".into(), ..peer() }, Peer { exporter: [7; 32], ..peer() }] {
        let told = again(case.admission.prove(&other, "run", &challenge, &evidence));
        assert!(told.contains("Challenge"), "{told}");
    }
}

/// A challenge is answered once, in time, and only if it was posed.
#[test]
fn answers_are_taken_once_and_in_time() {
    let case = case(Profile::GpuOnly, true, 99);
    let told = again(case.admission.prove(&peer(), "run", &[5; 32], b"x"));
    assert!(told.contains("ChallengeUnknown"), "{told}");
    let challenge = case.admission.challenge(&peer(), "run").unwrap().unwrap();
    let evidence = case.prover.attest(&server(), "run", &challenge).unwrap();
    case.admission.prove(&peer(), "run", &challenge, &evidence).unwrap();
    let told = again(case.admission.prove(&peer(), "run", &challenge, &evidence));
    assert!(told.contains("ChallengeReused"), "{told}");
    // What was proved before stays good: somebody else may have played it.
    assert!(case.judge(Moment::Job));
    case.admission.renew();
    let challenge = case.admission.challenge(&peer(), "run").unwrap().unwrap();
    let evidence = case.prover.attest(&server(), "run", &challenge).unwrap();
    case.clock.0.fetch_add(61, Ordering::SeqCst);
    let told = again(case.admission.prove(&peer(), "run", &challenge, &evidence));
    assert!(told.contains("ChallengeExpired"), "{told}");
}

#[test]
fn what_was_proved_grows_old_and_is_asked_for_before() {
    let case = case(Profile::GpuOnly, true, 99);
    case.exchange("run").unwrap();
    let mut asked_at = None;
    for second in 0..=601 {
        if asked_at.is_none() && case.admission.due(&peer()) {
            asked_at = Some(second);
        }
        assert_eq!(case.judge(Moment::Periodic), second <= 600, "{second}");
        case.clock.0.fetch_add(1, Ordering::SeqCst);
    }
    // Some time between half of it and nine tenths.
    assert!(asked_at.is_some_and(|at| (300..=540).contains(&at)), "{asked_at:?}");
    case.exchange("run").unwrap();
    assert!(case.judge(Moment::KeyShare) && !case.admission.due(&peer()));
    // Another connection has proved nothing.
    let again = Peer { exporter: [8; 32], ..peer() };
    assert!(case.admission.judge(Moment::Job, &again).is_err());
    // When all are to prove anew, nothing that was proved before is good any more.
    case.admission.renew();
    assert!(case.admission.due(&peer()));
    assert_eq!(ALL.map(|moment| case.judge(moment)), [false, false, false, false, true]);
    assert!(case.admission.challenge(&peer(), "run").unwrap().is_some());
}

/// Firmware that changes is refused from then on, and all that came of it is kept and signed.
#[test]
fn firmware_that_changes_is_refused_and_noted() {
    let case = case(Profile::GpuOnly, true, 2);
    case.exchange("").unwrap();
    case.exchange("run").unwrap();
    case.admission.renew();
    let told = why(case.exchange("run"));
    assert!(told.starts_with("MeasurementMismatch"), "{told}");
    assert!(!case.judge(Moment::Periodic));
    let log = case.log.0.lock().unwrap();
    let events: Vec<&str> = log.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(events, ["attested", "attested", "refuse"]);
    let refusal = log[2].refusal.as_ref().unwrap();
    assert_eq!((refusal.code, refusal.site.as_str()), (Code::NotAttested, "north"));
    let results = std::fs::read_to_string(case.folder.path().join("results")).unwrap();
    let key = SigningKey::from_seed(&Seed::from_bytes([9; 32])).public();
    for (ear, entry) in results.lines().zip(log.iter()) {
        let digest = format!("ear sha256:{}", Digest::of(ear.as_bytes()).hex());
        assert!(entry.filters.contains(&digest));
        // Signed by this end, for a challenge that the other cannot know beforehand.
        let claims: Vec<&str> = ear.split('.').collect();
        let claims = data_encoding::BASE64URL_NOPAD.decode(claims[1].as_bytes()).unwrap();
        let claims: Claims = serde_json::from_slice(&claims).unwrap();
        let verified = Claims::verify(ear, &key, &claims.eat_nonce.0, case.clock.now()).unwrap();
        assert_eq!(verified.refusals.is_empty(), entry.event == "attested");
        assert!(verified.submods.values().all(|device| device.simulated));
        assert!(verified.exp - verified.iat <= 600);
    }
}

/// No evidence, too much, other bytes, a device in software without leave, a profile that a GPU alone does not fit.
#[test]
fn what_is_not_shown_is_refused() {
    for (profile, allow, code) in [
        (Profile::GpuOnly, false, "ChainUntrusted"),
        (Profile::GpuCc, true, "DowngradeMissingKind"),
        (Profile::Snp, true, "DowngradeMissingKind"),
    ] {
        let case = case(profile, allow, 99);
        let told = why(case.exchange("run"));
        assert!(told.starts_with(code), "{told}");
        assert!(!case.judge(Moment::Job));
    }
    let case = case(Profile::GpuOnly, true, 99);
    for evidence in [vec![], vec![0; MAX_EVIDENCE + 1], vec![7; 100], Bundle::default().encode()] {
        let challenge = case.admission.challenge(&peer(), "run").unwrap().unwrap();
        refused(case.admission.prove(&peer(), "run", &challenge, &evidence));
        assert!(!case.judge(Moment::Job));
    }
}

#[test]
fn whoever_asks_for_nothing_judges_by_certificate_alone() {
    let results =
        Results { key: SigningKey::from_seed(&Seed::from_bytes([9; 32])), file: None, audit: None };
    let roster = CertificateOnly::default();
    let clock = Arc::new(Hand::default());
    let open = Attested::new(Role::Site, SERVER, roster, vec![], AGE, results, clock);
    assert!(ALL.iter().all(|moment| open.judge(*moment, &peer()).is_ok()));
    assert_eq!(open.challenge(&peer(), "run").unwrap(), None);
    assert!(!open.due(&peer()));
}
