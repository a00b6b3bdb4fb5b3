//! Responses and lists of the tests' own making, of OpenSSL's, and one of Intel's.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    CrlDistributionPoint, CrlIssuingDistributionPoint, CrlScope, DnType, ExtendedKeyUsagePurpose,
    IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevocationReason,
    RevokedCertParams, SerialNumber, SigningKey, date_time_ymd,
};

use super::*;
use crate::appraisal::Check;
use crate::policy::Span;
use crate::time::{at, rfc3339};

const NOW: &str = "2026-06-15T00:00:00Z";

/// DER.
fn put(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let header = match len {
        0..=0x7f => vec![tag, len as u8],
        0x80..=0xff => vec![tag, 0x81, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    [header, content.to_vec()].concat()
}

fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    put(0x30, &parts.concat())
}

fn when(text: &str) -> Vec<u8> {
    let plain: String = text.chars().filter(|c| !"-:T".contains(*c)).collect();
    put(0x18, plain.as_bytes())
}

const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

struct Authority(CertifiedIssuer<'static, KeyPair>);

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

impl Authority {
    fn new(usages: &[KeyUsagePurpose]) -> Self {
        let mut params = params("authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = usages.to_vec();
        Self(CertifiedIssuer::self_signed(params, key()).unwrap())
    }

    fn usual() -> Self {
        Self::new(&[KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign])
    }

    fn der(&self) -> Vec<u8> {
        self.0.as_ref().der().to_vec()
    }

    fn key(&self) -> &KeyPair {
        self.0.key()
    }

    fn issue(&self, params: CertificateParams, key: &KeyPair) -> Vec<u8> {
        params.signed_by(key, &self.0).unwrap().der().to_vec()
    }

    fn leaf(&self, serial: u64) -> Vec<u8> {
        let mut params = params("leaf");
        params.serial_number = Some(SerialNumber::from(serial));
        self.issue(params, &key())
    }

    fn list(&self, change: impl FnOnce(&mut CertificateRevocationListParams)) -> Vec<u8> {
        let revoked = |serial: u64, reason_code| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: date_time_ymd(2026, 5, 1),
            reason_code,
            invalidity_date: None,
        };
        let mut params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 6, 14),
            next_update: date_time_ymd(2026, 7, 14),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![
                revoked(1000, Some(RevocationReason::KeyCompromise)),
                revoked(1001, Some(RevocationReason::CertificateHold)),
                revoked(1002, None),
            ],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        change(&mut params);
        params.signed_by(&self.0).unwrap().der().to_vec()
    }
}

/// A response, of which tests change one thing.
struct Answer {
    status: Vec<u8>,
    this_update: &'static str,
    next_update: Option<&'static str>,
    produced: &'static str,
    responder: Option<Vec<u8>>,
    certificates: Vec<Vec<u8>>,
    extensions: Vec<u8>,
    statement_extensions: Vec<u8>,
    serial: Vec<u8>,
    issuer: Vec<u8>,
}

fn good() -> Vec<u8> {
    vec![0x80, 0]
}

fn revoked(reason: Option<u8>) -> Vec<u8> {
    let reason = reason.map_or(Vec::new(), |reason| put(0xa0, &put(0x0a, &[reason])));
    put(0xa1, &[when("2026-05-01T00:00:00Z"), reason].concat())
}

impl Answer {
    fn new(certificate: &[u8], issuer: &[u8]) -> Self {
        Self {
            status: good(),
            this_update: "2026-06-14T00:00:00Z",
            next_update: Some("2026-06-16T00:00:00Z"),
            produced: "2026-06-14T00:00:00Z",
            responder: None,
            certificates: Vec::new(),
            extensions: Vec::new(),
            statement_extensions: Vec::new(),
            serial: certs::parse(certificate).unwrap().raw_serial().to_vec(),
            issuer: issuer.to_vec(),
        }
    }

    fn signed(self, by: &KeyPair) -> Vec<u8> {
        let issuer = certs::parse(&self.issuer).unwrap();
        let sha256 =
            |bytes: &[u8]| put(4, ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
        let id = sequence(&[
            sequence(&[put(6, SHA256)]),
            sha256(issuer.subject().as_raw()),
            sha256(&issuer.public_key().subject_public_key.data),
            put(2, &self.serial),
        ]);
        let next = self.next_update.map_or(Vec::new(), |next| put(0xa0, &when(next)));
        let statement = [id, self.status, when(self.this_update), next, self.statement_extensions];
        let responder = self.responder.unwrap_or_else(|| put(0xa1, issuer.subject().as_raw()));
        let data = sequence(&[
            responder,
            when(self.produced),
            sequence(&[sequence(&statement)]),
            self.extensions,
        ]);
        let signature = by.sign(&data).unwrap();
        let certificates = match self.certificates.len() {
            0 => Vec::new(),
            _ => put(0xa0, &sequence(&self.certificates)),
        };
        let signature = put(3, &[&[0], &signature[..]].concat());
        let basic = sequence(&[data, sequence(&[put(6, ECDSA_SHA256)]), signature, certificates]);
        let oid = put(6, &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01]);
        sequence(&[put(0x0a, &[0]), put(0xa0, &sequence(&[oid, put(4, &basic)]))])
    }
}

fn rules(mode: RevocationMode) -> RevocationRules {
    RevocationRules { mode, ..RevocationRules::default() }
}

fn judge(
    files: &[Vec<u8>],
    chain: &[&[u8]],
    rules: &RevocationRules,
    now: &str,
) -> (Vec<Code>, Check) {
    let mut lists = Lists::default();
    files.iter().for_each(|file| lists.add(file).unwrap());
    let mut findings = Findings::default();
    check(&mut findings, &[chain], &lists, rules, at(now));
    let codes = findings.refusals.iter().map(|refusal| refusal.code).collect();
    (codes, findings.checks.pop().unwrap())
}

/// What comes of a changed response of the authority's own.
fn after(change: impl FnOnce(&Authority, &mut Answer)) -> Vec<Code> {
    let authority = Authority::usual();
    let leaf = authority.leaf(7);
    let mut answer = Answer::new(&leaf, &authority.der());
    change(&authority, &mut answer);
    let files = [answer.signed(authority.key())];
    judge(&files, &[&leaf, &authority.der()], &rules(RevocationMode::Hard), NOW).0
}

#[test]
fn a_response_says_whether_a_certificate_is_good() {
    assert_eq!(after(|_, _| {}), []);
    assert_eq!(after(|_, a| a.status = revoked(Some(1))), [Code::CertRevoked]);
    assert_eq!(after(|_, a| a.status = revoked(None)), [Code::CertRevoked]);
    assert_eq!(after(|_, a| a.status = revoked(Some(6))), [Code::CertOnHold]);
    assert_eq!(after(|_, a| a.status = vec![0x82, 0]), [Code::RevocationUnknown]);
}

#[test]
fn a_response_must_be_fresh() {
    let unknown = [Code::RevocationUnknown];
    assert_eq!(after(|_, a| a.next_update = Some("2026-06-14T23:59:59Z")), unknown);
    assert_eq!(after(|_, a| a.next_update = None), []);
    assert_eq!(after(|_, a| a.this_update = "2026-06-15T00:05:00Z"), []);
    assert_eq!(after(|_, a| a.this_update = "2026-06-15T00:05:01Z"), unknown);
    assert_eq!(after(|_, a| a.produced = "2026-06-15T00:05:01Z"), unknown);
    let old = |seconds: u64| {
        let authority = Authority::usual();
        let leaf = authority.leaf(7);
        // An intermediate authority: roots have their own age.
        let mut params = params("intermediate");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let between = CertifiedIssuer::signed_by(params, key(), &authority.0).unwrap();
        let between = Authority(between);
        let leaf_below = between.leaf(8);
        let answer = Answer::new(&leaf_below, &between.der());
        let max_age = Span(std::time::Duration::from_secs(seconds));
        let hard = RevocationRules { max_age, ..rules(RevocationMode::Hard) };
        let root = Answer::new(&between.der(), &authority.der());
        let files = [answer.signed(between.key()), root.signed(authority.key())];
        drop(leaf);
        judge(&files, &[&leaf_below, &between.der(), &authority.der()], &hard, NOW).0
    };
    assert_eq!(old(86_400), []);
    assert_eq!(old(86_399), unknown);
    let hard =
        RevocationRules { root_max_age: "1h".parse().unwrap(), ..rules(RevocationMode::Hard) };
    let authority = Authority::usual();
    let leaf = authority.leaf(7);
    let files = [Answer::new(&leaf, &authority.der()).signed(authority.key())];
    assert_eq!(judge(&files, &[&leaf, &authority.der()], &hard, NOW).0, unknown);
}

#[test]
fn a_response_must_speak_of_the_certificate_and_its_issuer() {
    assert_eq!(after(|_, a| a.serial = vec![8]), [Code::RevocationUnknown]);
    assert_eq!(after(|_, a| a.issuer = Authority::usual().der()), [Code::RevocationUnknown]);
    // The issuer's key under another name, answered for by the issuer itself.
    let other = after(|authority, a| {
        let root = authority.der();
        let name = certs::parse(&root).unwrap().subject().as_raw().to_vec();
        a.responder = Some(put(0xa1, &name));
        a.issuer = other_name(authority);
    });
    assert_eq!(other, [Code::RevocationUnknown]);
}

#[test]
fn a_response_with_something_critical_that_is_unknown_is_none() {
    let extension = |oid: &[u8], critical: &[u8]| {
        put(0xa1, &sequence(&[sequence(&[put(6, oid), critical.to_vec(), put(4, &[5, 0])])]))
    };
    let nonce = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02][..];
    let (yes, no) = (&[1, 1, 0xff][..], &[][..]);
    assert_eq!(after(|_, a| a.extensions = extension(nonce, yes)), []);
    assert_eq!(after(|_, a| a.extensions = extension(&[0x2a, 3], no)), []);
    let authority = Authority::usual();
    let leaf = authority.leaf(7);
    for at in [0, 1] {
        let mut answer = Answer::new(&leaf, &authority.der());
        let field = if at == 0 { &mut answer.extensions } else { &mut answer.statement_extensions };
        *field = extension(&[0x2a, 3], yes);
        let mut lists = Lists::default();
        assert_eq!(lists.add(&answer.signed(authority.key())).unwrap_err().code, Code::Malformed);
    }
}

#[test]
fn a_response_must_be_signed_by_the_issuer_or_its_delegate() {
    let authority = Authority::usual();
    let (leaf, root) = (authority.leaf(7), authority.der());
    let answer = || Answer::new(&leaf, &root);
    let hard = rules(RevocationMode::Hard);
    let judge =
        |answer: Answer, by: &KeyPair| judge(&[answer.signed(by)], &[&leaf, &root], &hard, NOW).0;
    assert_eq!(judge(answer(), authority.key()), []);
    assert_eq!(judge(answer(), &key()), [Code::RevocationUnknown]);
    // By a delegate, named or by its key.
    let delegate_key = key();
    let delegate = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = params("delegate");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::OcspSigning];
        change(&mut params);
        params
    };
    let with = |certificate: Vec<u8>| {
        let cert = certs::parse(&certificate).unwrap();
        let responder = Some(put(0xa1, cert.subject().as_raw()));
        Answer { responder, certificates: vec![certificate.clone()], ..answer() }
    };
    let issued =
        |change: &dyn Fn(&mut CertificateParams)| authority.issue(delegate(change), &delegate_key);
    assert_eq!(judge(with(issued(&|_| {})), &delegate_key), []);
    let certificate = issued(&|_| {});
    let cert = certs::parse(&certificate).unwrap();
    let hash = &ring::digest::SHA1_FOR_LEGACY_USE_ONLY;
    let hash = ring::digest::digest(hash, &cert.public_key().subject_public_key.data);
    let by_key = Some(put(0xa2, &put(4, hash.as_ref())));
    let answer = Answer { responder: by_key, ..with(certificate.clone()) };
    assert_eq!(judge(answer, &delegate_key), []);
    // Not for this purpose; outside its dates; by another authority; another key; another name.
    let unknown = [Code::RevocationUnknown];
    let plain = issued(&|params| params.extended_key_usages.clear());
    assert_eq!(judge(with(plain), &delegate_key), unknown);
    let server =
        issued(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    assert_eq!(judge(with(server), &delegate_key), unknown);
    let past = issued(&|params| params.not_after = date_time_ymd(2026, 6, 14));
    assert_eq!(judge(with(past), &delegate_key), unknown);
    let future = issued(&|params| params.not_before = date_time_ymd(2026, 6, 16));
    assert_eq!(judge(with(future), &delegate_key), unknown);
    let foreign = Authority::usual().issue(delegate(&|_| {}), &delegate_key);
    assert_eq!(judge(with(foreign), &delegate_key), unknown);
    let again = KeyPair::try_from(authority.key().serialize_der()).unwrap();
    let renamed = rcgen::Issuer::new(params("another authority"), again);
    let renamed = delegate(&|_| {}).signed_by(&delegate_key, &renamed).unwrap().der().to_vec();
    assert_eq!(judge(with(renamed), &delegate_key), unknown);
    assert_eq!(judge(with(certificate.clone()), &key()), unknown);
    let responder = Some(put(0xa1, &sequence(&[])));
    assert_eq!(judge(Answer { responder, ..with(certificate) }, &delegate_key), unknown);
}

#[test]
fn a_list_says_which_certificates_are_good() {
    let authority = Authority::usual();
    let root = authority.der();
    let list = authority.list(|_| {});
    for (serial, codes) in [
        (7, vec![]),
        (1000, vec![Code::CertRevoked]),
        (1001, vec![Code::CertOnHold]),
        (1002, vec![Code::CertRevoked]),
    ] {
        let leaf = authority.leaf(serial);
        for mode in [RevocationMode::Hard, RevocationMode::Soft] {
            let (found, check) =
                judge(std::slice::from_ref(&list), &[&leaf, &root], &rules(mode), NOW);
            assert_eq!(found, codes, "{serial}");
            assert_eq!(check.ok, Some(codes.is_empty()));
            assert!(
                check.detail.contains("the list of `authority` of 2026-06-14"),
                "{}",
                check.detail
            );
        }
    }
}

#[test]
fn a_list_must_be_the_issuers_whole_and_fresh() {
    let authority = Authority::usual();
    let (leaf, root) = (authority.leaf(7), authority.der());
    let unknown = vec![Code::RevocationUnknown];
    let hard = rules(RevocationMode::Hard);
    let judge = |list: Vec<u8>, now| judge(&[list], &[&leaf, &root], &hard, now).0;
    let plain = || authority.list(|_| {});
    assert_eq!(judge(plain(), NOW), []);
    assert_eq!(judge(plain(), "2026-07-14T00:00:01Z"), unknown);
    assert_eq!(judge(plain(), "2026-06-13T23:00:00Z"), unknown);
    // Another authority of the same name.
    assert_eq!(judge(Authority::usual().list(|_| {}), NOW), unknown);
    let mut changed = plain();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(judge(changed, NOW), unknown);
    let point = |scope| CrlIssuingDistributionPoint {
        distribution_point: CrlDistributionPoint { uris: vec!["http://example.org/".into()] },
        scope,
    };
    let with = |scope| authority.list(|list| list.issuing_distribution_point = Some(point(scope)));
    assert_eq!(judge(with(None), NOW), []);
    assert_eq!(judge(with(Some(CrlScope::UserCertsOnly)), NOW), unknown);
    assert_eq!(judge(with(Some(CrlScope::CaCertsOnly)), NOW), unknown);
}

/// A list by hand, of nothing revoked.
fn bare_list(name: &[u8], next: Option<&str>, by: &KeyPair) -> Vec<u8> {
    let algorithm = || sequence(&[put(6, ECDSA_SHA256)]);
    let next = next.map_or(Vec::new(), when);
    let data = [put(2, &[1]), algorithm(), name.to_vec(), when("2026-06-14T00:00:00Z"), next];
    let data = sequence(&data);
    let signature = by.sign(&data).unwrap();
    sequence(&[data, algorithm(), put(3, &[&[0], &signature[..]].concat())])
}

/// A certificate of an authority's key under another name.
fn other_name(authority: &Authority) -> Vec<u8> {
    params("another authority").self_signed(authority.key()).unwrap().der().to_vec()
}

#[test]
fn a_list_must_say_until_when_it_is_good_and_name_the_issuer() {
    let authority = Authority::usual();
    let (leaf, root) = (authority.leaf(7), authority.der());
    let parsed = certs::parse(&root).unwrap();
    let hard = rules(RevocationMode::Hard);
    let judge = |list: Vec<u8>| judge(&[list], &[&leaf, &root], &hard, NOW);
    let until = Some("2026-06-16T00:00:00Z");
    let name = parsed.subject().as_raw();
    assert_eq!(judge(bare_list(name, until, authority.key())).0, []);
    let (codes, check) = judge(bare_list(name, None, authority.key()));
    assert_eq!(codes, [Code::RevocationUnknown]);
    assert!(check.detail.contains("until when"), "{}", check.detail);
    let other = other_name(&authority);
    let other = certs::parse(&other).unwrap();
    let (codes, check) = judge(bare_list(other.subject().as_raw(), until, authority.key()));
    assert_eq!(codes, [Code::RevocationUnknown]);
    assert!(check.detail.contains("nothing was given"), "{}", check.detail);
}

#[test]
fn an_issuer_that_may_not_sign_lists_signs_none() {
    let mut authority = Authority::new(&[]);
    let list = authority.list(|_| {});
    let leaf = authority.leaf(7);
    let hard = rules(RevocationMode::Hard);
    let judge = |root: &[u8]| judge(std::slice::from_ref(&list), &[&leaf, root], &hard, NOW).0;
    assert_eq!(judge(&authority.der()), []);
    // The same key and name, in a certificate whose usage leaves lists out.
    let mut params = params("authority");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let der = params.self_signed(authority.key()).unwrap().der().to_vec();
    assert_eq!(judge(&der), [Code::RevocationUnknown]);
    authority = Authority::usual();
    assert_eq!(judge(&authority.der()), [Code::RevocationUnknown]);
}

#[test]
fn the_worst_of_several_counts() {
    let authority = Authority::usual();
    let (leaf, root) = (authority.leaf(7), authority.der());
    let sign = |status: Vec<u8>| {
        let mut answer = Answer::new(&leaf, &root);
        answer.status = status;
        answer.signed(authority.key())
    };
    let (good, hold, revoked) = (sign(good()), sign(revoked(Some(6))), sign(revoked(Some(1))));
    let judge =
        |files: &[Vec<u8>]| judge(files, &[&leaf, &root], &rules(RevocationMode::Soft), NOW).0;
    assert_eq!(judge(&[good.clone(), authority.list(|_| {})]), []);
    assert_eq!(judge(&[good.clone(), hold.clone()]), [Code::CertOnHold]);
    assert_eq!(judge(&[hold.clone(), good.clone()]), [Code::CertOnHold]);
    assert_eq!(judge(&[hold, revoked, good]), [Code::CertRevoked]);
}

#[test]
fn policy_says_what_it_means_that_nothing_is_known() {
    let authority = Authority::usual();
    let (leaf, root) = (authority.leaf(7), authority.der());
    let judge = |mode| judge(&[], &[&leaf, &root], &rules(mode), NOW);
    let (codes, check) = judge(RevocationMode::Hard);
    assert_eq!((codes, check.ok), (vec![Code::RevocationUnknown], Some(false)));
    let (codes, check) = judge(RevocationMode::Soft);
    assert_eq!((codes, check.ok), (vec![], None));
    assert!(check.detail.starts_with("soft: nothing was given"), "{}", check.detail);
    let (codes, check) = judge(RevocationMode::Off);
    assert_eq!((codes, check.ok), (vec![], None));
    assert!(check.detail.starts_with("off"), "{}", check.detail);
    let old = super::tests::judge(
        &[authority.list(|_| {})],
        &[&leaf, &root],
        &rules(RevocationMode::Soft),
        "2027-01-01T00:00:00Z",
    );
    assert!(old.1.detail.contains("was good until 2026-07-14"), "{}", old.1.detail);
    // Off does not look at what was given, either.
    let bad = authority.leaf(1000);
    let off = super::tests::judge(
        &[authority.list(|_| {})],
        &[&bad, &root],
        &rules(RevocationMode::Off),
        NOW,
    );
    assert_eq!((off.0, off.1.ok), (vec![], None));
}

#[test]
fn what_is_neither_is_refused() {
    let mut lists = Lists::default();
    let mut code = |file: &[u8]| lists.add(file).unwrap_err().code;
    assert_eq!(code(b""), Code::Malformed);
    assert_eq!(code(b"-----BEGIN X509 CRL-----"), Code::Malformed);
    assert_eq!(code(&vec![0; MAX_BYTES + 1]), Code::TooLarge);
    let authority = Authority::usual();
    let list = authority.list(|_| {});
    assert_eq!(code(&[&list[..], &[0]].concat()), Code::Malformed);
    let answer = Answer::new(&authority.leaf(7), &authority.der()).signed(authority.key());
    assert_eq!(code(&[&answer[..], &[0]].concat()), Code::Malformed);
    assert_eq!(code(&answer[..answer.len() - 1]), Code::Malformed);
    // One that says that it is busy.
    assert_eq!(code(&sequence(&[put(0x0a, &[3])])), Code::Malformed);
}

#[test]
fn every_flipped_bit_of_a_response_says_nothing_or_the_same() {
    let authority = Authority::usual();
    let (leaf, root) = (authority.leaf(7), authority.der());
    let mut answer = Answer::new(&leaf, &root);
    answer.status = revoked(Some(1));
    let mut file = answer.signed(authority.key());
    for bit in 0..8 * file.len() {
        file[bit / 8] ^= 1 << (bit % 8);
        let mut lists = Lists::default();
        if lists.add(&file).is_ok() {
            let hard = rules(RevocationMode::Hard);
            let (codes, _) = judge(&[file.clone()], &[&leaf, &root], &hard, NOW);
            assert_eq!(codes, [Code::RevocationUnknown], "bit {bit}");
        }
        file[bit / 8] ^= 1 << (bit % 8);
    }
}

macro_rules! fixture {
    ($name:expr) => {
        include_bytes!(concat!("../../tests/fixtures/revocation/", $name, ".der"))
    };
}

/// tests/fixtures/revocation/make.sh says how they were made.
#[test]
fn responses_and_lists_of_openssl_are_read() {
    let day = "2026-11-27T00:00:00Z";
    let hard = rules(RevocationMode::Hard);
    macro_rules! of {
        ($kind:literal) => {{
            let root = fixture!(concat!($kind, "-ca")).to_vec();
            let judge =
                |file: &[u8], leaf: &[u8]| judge(&[file.to_vec()], &[leaf, &root], &hard, day).0;
            let (good, revoked) =
                (fixture!(concat!($kind, "-good")), fixture!(concat!($kind, "-revoked")));
            let (hold, other) =
                (fixture!(concat!($kind, "-hold")), fixture!(concat!($kind, "-other")));
            assert_eq!(judge(fixture!(concat!($kind, "-by-ca-good")), good), []);
            assert_eq!(judge(fixture!(concat!($kind, "-by-responder-good")), good), []);
            let file = fixture!(concat!($kind, "-by-responder-revoked"));
            assert_eq!(judge(file, revoked), [Code::CertRevoked]);
            assert_eq!(judge(file, good), [Code::RevocationUnknown]);
            let file = fixture!(concat!($kind, "-by-responder-hold"));
            assert_eq!(judge(file, hold), [Code::CertOnHold]);
            let file = fixture!(concat!($kind, "-by-responder-unknown"));
            assert_eq!(judge(file, other), [Code::RevocationUnknown]);
            let file = fixture!(concat!($kind, "-by-nobody-good"));
            assert_eq!(judge(file, good), [Code::RevocationUnknown]);
            for list in [&fixture!(concat!($kind, "-list"))[..], fixture!("rsa-list-pss")] {
                if $kind == "ec" && list == fixture!("rsa-list-pss") {
                    continue;
                }
                assert_eq!(judge(list, good), []);
                assert_eq!(judge(list, other), []);
                assert_eq!(judge(list, revoked), [Code::CertRevoked]);
                assert_eq!(judge(list, hold), [Code::CertOnHold]);
            }
        }};
    }
    of!("ec");
    of!("rsa");
}

/// Intel's list of 2023 for the PCK Platform CA, whose certificate is in genuine collateral.
#[test]
fn a_genuine_list_is_read_and_its_signature_holds() {
    let list = include_bytes!("../../tests/evidence/intel/roots/pckcrl");
    let collateral = include_bytes!("../../tests/evidence/intel/tdx-v4-PASS/collateral.json");
    let collateral: serde_json::Value = serde_json::from_slice(collateral).unwrap();
    let chain = collateral["pck_crl_issuer_chain"].as_str().unwrap();
    let issuer = certs::read(chain.as_bytes()).unwrap().remove(0);
    let issuer = certs::parse(&issuer).unwrap();
    assert_eq!(certs::name(&issuer), "Intel SGX PCK Platform CA");
    let parsed = crl::parse(list).unwrap();
    let entry = parsed.iter_revoked_certificates().next().unwrap();
    // A certificate with that serial number is not at hand; any other is good.
    assert_eq!(entry.raw_serial_as_string().len(), 59);
    let look = |list: &[u8], now: &str| {
        let (now, max_age) = (rfc3339(now).unwrap(), 7 * 86_400);
        crl::look(list, &Asked { certificate: &issuer, issuer: &issuer, now, max_age })
    };
    assert!(matches!(look(list, "2023-06-10T00:00:00Z"), Ok(Some(Standing::Good(_)))));
    assert!(look(list, "2023-06-16T00:00:00Z").unwrap_err().contains("older than policy allows"));
    assert!(look(list, "2023-07-10T00:00:00Z").unwrap_err().contains("was good until 2023-07-08"));
    assert!(look(list, "2023-06-07T00:00:00Z").unwrap_err().contains("yet to come"));
    let mut changed = list.to_vec();
    changed[500] ^= 1;
    assert!(look(&changed, "2023-06-10T00:00:00Z").is_err());
}
