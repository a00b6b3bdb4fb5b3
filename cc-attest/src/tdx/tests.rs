use std::time::SystemTime;

use super::*;
use crate::appraisal::Check;
use crate::policy::{RevocationMode, RevocationRules, TdxStatus};
use crate::revocation::Lists;
use crate::time::at;

const PASS: &[u8] = include_bytes!("../../tests/evidence/intel/tdx-v4-PASS/quote.bin");
const COLLATERAL: &[u8] = include_bytes!("../../tests/evidence/intel/tdx-v4-PASS/collateral.json");
const DEBUG: &[u8] = include_bytes!("../../tests/evidence/intel/tdx-v4-DEBUG/quote.bin");

const OUTDATED: &[u8] = include_bytes!("../../tests/evidence/intel/tdx-v5-OUTDATED/quote.bin");
const OUTDATED_COLLATERAL: &[u8] =
    include_bytes!("../../tests/evidence/intel/tdx-v5-OUTDATED/collateral.json");
const EX: &[u8] = include_bytes!("../../tests/evidence/intel/tdx-v5-1.5ex-PASS/quote.bin");
const EX_COLLATERAL: &[u8] =
    include_bytes!("../../tests/evidence/intel/tdx-v5-1.5ex-PASS/collateral.json");

/// Where a quote of version 4 has its report.
const REPORT: usize = 48;
/// Where its signature and what belongs to it begins.
const AUTH: usize = 48 + 584 + 4;

fn data(quote: &[u8]) -> [u8; 64] {
    // In version 5 six bytes say which report follows.
    let report = if quote[0] == 5 { REPORT + 6 } else { REPORT };
    quote[report + 520..report + 584].try_into().unwrap()
}

fn look(
    quote: &[u8],
    collateral: Option<&[u8]>,
    rules: &TdxRules,
    mode: RevocationMode,
    now: SystemTime,
) -> (Device, Vec<Refusal>) {
    let report_data = data(if quote.len() < AUTH { PASS } else { quote });
    let revocation = RevocationRules { mode, ..RevocationRules::default() };
    let lists = Lists::default();
    let setting =
        Setting { report_data: &report_data, now, lists: &lists, revocation: &revocation };
    verify(quote, collateral, rules, &setting)
}

fn when() -> SystemTime {
    at("2025-06-25T00:00:00Z")
}

fn strict(quote: &[u8], collateral: &[u8]) -> (Device, Vec<Refusal>) {
    look(quote, Some(collateral), &TdxRules::default(), RevocationMode::Hard, when())
}

/// Without collateral, where policy does not want it.
fn bare(quote: &[u8]) -> (Device, Vec<Refusal>) {
    let rules = TdxRules { require_tcb: false, ..TdxRules::default() };
    look(quote, None, &rules, RevocationMode::Off, when())
}

fn codes(refusals: &[Refusal]) -> Vec<Code> {
    refusals.iter().map(|refusal| refusal.code).collect()
}

fn check(device: &Device, name: Name) -> &Check {
    device.checks.iter().find(|check| check.name == name).unwrap()
}

#[test]
fn a_genuine_quote_passes_with_its_collateral_alone() {
    let (device, refusals) = strict(PASS, COLLATERAL);
    assert_eq!(refusals, []);
    assert_eq!(device.arch.as_deref(), Some("tdx"));
    assert_eq!(device.hwmodel.as_deref(), Some("fmspc b0c06f000000"));
    assert!(device.ueid.as_ref().is_some_and(|ueid| ueid.len() == 32));
    for name in
        [Name::Nonce, Name::Chain, Name::Signature, Name::Fwid, Name::Revocation, Name::Mode]
    {
        assert!(device.holds(name), "{name:?}");
    }
    assert!(check(&device, Name::Fwid).detail.starts_with("UpToDate"));
    assert_eq!(check(&device, Name::Measurements).ok, None);
    assert_eq!(device.checks.len(), Name::ALL.len());
}

#[test]
fn genuine_quotes_of_version_5_are_judged_by_their_collateral() {
    let judge = |rules: &TdxRules, quote, collateral, now| {
        let (device, refusals) =
            look(quote, Some(collateral), rules, RevocationMode::Hard, at(now));
        assert!(
            device.holds(Name::Nonce) && device.holds(Name::Chain) && device.holds(Name::Signature)
        );
        assert!(device.holds(Name::Mode) && device.holds(Name::Revocation));
        (codes(&refusals), check(&device, Name::Fwid).detail.clone())
    };
    let strict = TdxRules::default();
    let (codes, detail) = judge(&strict, EX, EX_COLLATERAL, "2026-10-10T00:00:00Z");
    assert_eq!(codes, [], "{detail}");
    // Its firmware is older than all that Intel still judges, which no policy takes.
    let accept_status = vec![TdxStatus::UpToDate, TdxStatus::OutOfDate];
    for rules in [strict, TdxRules { accept_status, ..TdxRules::default() }] {
        let (codes, detail) = judge(&rules, OUTDATED, OUTDATED_COLLATERAL, "2026-02-20T00:00:00Z");
        assert_eq!(codes, [Code::TcbBelowFloor], "{detail}");
    }
}

#[test]
fn a_genuine_machine_under_debug_is_refused_for_that_alone() {
    let (device, refusals) = bare(DEBUG);
    assert_eq!(codes(&refusals), [Code::DebugEnabled]);
    assert!(device.holds(Name::Chain) && device.holds(Name::Signature));
    assert!(refusals[0].detail.contains("0100001000000000"), "{}", refusals[0]);
}

#[test]
fn without_collateral_the_level_is_not_known_and_policy_decides() {
    let (_, refusals) = look(PASS, None, &TdxRules::default(), RevocationMode::Hard, when());
    assert_eq!(codes(&refusals), [Code::TcbBelowFloor, Code::RevocationUnknown]);
    let detail = &refusals[1].detail;
    assert!(detail.contains("PCK Certificate") && detail.contains("Platform CA"), "{detail}");
    let (device, refusals) = bare(PASS);
    assert_eq!(refusals, []);
    assert_eq!(check(&device, Name::Fwid).ok, None);
    assert!(device.holds(Name::Signature));
}

#[test]
fn collateral_outside_its_dates_is_named() {
    let after =
        |now| look(PASS, Some(COLLATERAL), &TdxRules::default(), RevocationMode::Soft, at(now)).1;
    let late = after("2025-07-20T00:00:00Z");
    assert!(late.iter().all(|refusal| refusal.code == Code::CertExpired), "{late:?}");
    let details: String = late.iter().map(|refusal| refusal.detail.clone()).collect();
    for what in ["TCB info", "QE identity", "PCK CA's revocation list"] {
        assert!(details.contains(what), "{details}");
    }
    let early = after("2025-06-19T10:20:00Z");
    assert_eq!(codes(&early), [Code::CertExpired]);
    assert!(early[0].detail.contains("QE identity"));
    let certificate = after("2050-01-01T00:00:00Z");
    assert!(
        certificate
            .iter()
            .any(|refusal| refusal.detail.contains("certificate `Intel SGX PCK Certificate`"))
    );
    let (device, _) =
        look(PASS, None, &TdxRules::default(), RevocationMode::Off, at("2050-01-01T00:00:00Z"));
    assert!(!device.holds(Name::Chain));
}

#[test]
fn collateral_that_is_not_intels_is_refused() {
    let text = String::from_utf8(COLLATERAL.to_vec()).unwrap();
    let with = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text);
        codes(&strict(PASS, changed.as_bytes()).1)
    };
    // The signed documents, their signatures, a list.
    assert_eq!(
        with(r#"\"tcbEvaluationDataNumber\":17"#, r#"\"tcbEvaluationDataNumber\":18"#),
        [Code::ChainUntrusted]
    );
    assert_eq!(with(r#"\"UpToDate\""#, r#"\"OutOfDate\""#), [Code::ChainUntrusted]);
    assert_eq!(with("027ef6ca41ba", "027ef6ca41bb"), [Code::ChainUntrusted]);
    assert_eq!(with("d6d709840544", "d6d709840545"), [Code::ChainUntrusted]);
    // Dates that were changed to be good.
    let rules = TdxRules::default();
    let changed = text.replace("2025-07-19T", "2095-07-19T");
    let late = look(
        PASS,
        Some(changed.as_bytes()),
        &rules,
        RevocationMode::Off,
        at("2025-07-18T12:00:00Z"),
    )
    .1;
    assert_eq!(codes(&late), [Code::ChainUntrusted]);
}

#[test]
fn what_is_no_collateral_is_refused_and_the_quote_still_looked_at() {
    for (bad, code) in [
        (&b"{}"[..], Code::Malformed),
        (b"", Code::Malformed),
        (&vec![b' '; (1 << 20) + 1], Code::TooLarge),
        (&[b'['; 1000], Code::Malformed),
    ] {
        let (device, refusals) =
            look(PASS, Some(bad), &TdxRules::default(), RevocationMode::Off, when());
        assert_eq!(codes(&refusals), [code]);
        assert!(device.holds(Name::Signature));
    }
}

#[test]
fn collateral_of_another_platform_is_refused() {
    let (_, refusals) =
        look(DEBUG, Some(COLLATERAL), &TdxRules::default(), RevocationMode::Off, when());
    let codes = codes(&refusals);
    assert!(codes.contains(&Code::DebugEnabled) && codes.len() == 2, "{refusals:?}");
}

#[test]
fn an_answer_to_another_challenge_is_refused() {
    let mut wanted = data(PASS);
    wanted[0] ^= 1;
    let off = RevocationRules { mode: RevocationMode::Off, ..RevocationRules::default() };
    let lists = Lists::default();
    let setting = Setting { report_data: &wanted, now: when(), lists: &lists, revocation: &off };
    let (_, refusals) = verify(PASS, Some(COLLATERAL), &TdxRules::default(), &setting);
    assert_eq!(codes(&refusals), [Code::NonceMismatch]);
}

#[test]
fn reference_values_decide_whether_a_machine_is_measured() {
    let part = |at: usize| Hex(PASS[REPORT + at..REPORT + at + 48].try_into().unwrap());
    let genuine = TdxReference {
        mrtd: part(136),
        rtmr0: Some(part(328)),
        rtmr1: Some(part(376)),
        rtmr2: Some(part(424)),
        rtmr3: Some(part(472)),
    };
    let with = |reference: TdxReference| {
        let rules = TdxRules { references: vec![reference], ..TdxRules::default() };
        let (device, refusals) = look(PASS, Some(COLLATERAL), &rules, RevocationMode::Hard, when());
        (device.holds(Name::Measurements), codes(&refusals))
    };
    assert_eq!(with(genuine.clone()), (true, vec![]));
    let refused = (false, vec![Code::MeasurementMismatch]);
    let other = Hex([7; 48]);
    assert_eq!(with(TdxReference { mrtd: other, ..genuine.clone() }), refused);
    assert_eq!(with(TdxReference { rtmr0: Some(other), ..genuine.clone() }), refused);
    assert_eq!(with(TdxReference { rtmr1: Some(other), ..genuine.clone() }), refused);
    assert_eq!(with(TdxReference { rtmr2: Some(other), ..genuine.clone() }), refused);
    assert_eq!(with(TdxReference { rtmr3: Some(other), ..genuine.clone() }), refused);
}

/// Bytes at a place of the quote, changed.
fn changed(at: usize) -> Vec<u8> {
    let mut quote = PASS.to_vec();
    quote[at] ^= 1;
    quote
}

#[test]
fn each_signature_on_the_way_is_looked_at() {
    let detail = |at: usize| {
        let (device, refusals) = bare(&changed(at));
        assert_eq!(codes(&refusals), [Code::SignatureInvalid], "{refusals:?}");
        assert!(device.holds(Name::Chain));
        refusals[0].detail.clone()
    };
    assert!(detail(AUTH).contains("by the attestation key"));
    assert!(detail(REPORT + 136).contains("by the attestation key"));
    assert!(detail(AUTH + 64).contains("does not name the attestation key"));
    // The enclave's report, its signature, its authentication data.
    assert!(detail(AUTH + 134).contains("by the PCK"));
    assert!(detail(AUTH + 134 + 384).contains("by the PCK"));
    assert!(detail(AUTH + 134 + 384 + 64 + 2).contains("does not name the attestation key"));
}

#[test]
fn certificates_that_do_not_lead_to_the_pinned_root_are_refused() {
    let (quote, _) = quote::parse(PASS).unwrap();
    let chain = quote::chain(&quote).unwrap();
    let ders: Vec<_> = chain.certificates().iter().map(|cert| cert.der().to_vec()).collect();
    let verify =
        |ders: &[Vec<u8>]| Chain::of(ders).unwrap().verify(&Roots::intel(), seconds(when())).err();
    assert_eq!((verify(&ders), verify(&ders[..2])), (None, None));
    for at in 0..3 {
        let mut other = ders.clone();
        *other[at].last_mut().unwrap() ^= 1;
        assert!(matches!(verify(&other), Some(ChainError::Untrusted(_))), "{at}");
    }
    let mut other = ders.clone();
    other[2] = crate::certs::read(include_bytes!("../roots/amd-milan.pem")).unwrap().remove(1);
    assert!(matches!(verify(&other), Some(ChainError::Untrusted(_))));
    // The last certificate in the quote is not the pinned one: base64 of its signature.
    let end = PASS.windows(10).rposition(|window| window == b"-----END C").unwrap();
    let of = |at: usize| codes(&bare(&changed(at)).1);
    assert!((end - 40..end - 10).map(of).any(|codes| codes == [Code::ChainUntrusted]));
    assert!(
        (end - 40..end - 10).filter(|at| PASS[*at] != b'\n').map(of).all(|codes| !codes.is_empty())
    );
}

#[test]
fn what_is_no_quote_is_refused() {
    let code = |bytes: &[u8]| {
        let (device, refusals) = bare(bytes);
        assert!(device.checks.iter().all(|check| check.ok.is_none()));
        codes(&refusals)
    };
    let whole = PASS.len() - 70;
    assert_eq!(code(&[]), [Code::Malformed]);
    assert_eq!(code(&PASS[..whole - 1]), [Code::Malformed]);
    assert_eq!(bare(&PASS[..whole]).1, []);
    assert_eq!(code(&changed(PASS.len() - 1)), [Code::TrailingData]);
    assert_eq!(code(&[0; (16 << 10) + 1]), [Code::TooLarge]);
    // Version 3 is SGX's; a key of another kind; another vendor.
    assert_eq!(code(&[&[3], &PASS[1..]].concat()), [Code::Malformed]);
    assert_eq!(code(&changed(2)), [Code::UnsupportedArch]);
    assert_eq!(code(&changed(12)), [Code::UnsupportedArch]);
    // SGX's kind of machine in version 4.
    let mut sgx = PASS.to_vec();
    sgx[4] = 0;
    assert!([Code::Malformed, Code::UnsupportedArch].contains(&code(&sgx)[0]));
    // A byte more than the parts have, between them and the certificates.
    let mut longer = PASS[..whole].to_vec();
    longer.push(0);
    for at in [48 + 584, AUTH + 128 + 2] {
        let len = u32::from_le_bytes(longer[at..at + 4].try_into().unwrap()) + 1;
        longer[at..at + 4].copy_from_slice(&len.to_le_bytes());
    }
    assert_eq!(code(&longer), [Code::Malformed]);
    // The report of an enclave that is said to be something else.
    assert_eq!(code(&changed(AUTH + 128)), [Code::Malformed]);
    let inner = PASS.windows(10).position(|window| window == b"-----BEGIN").unwrap() - 6;
    assert_eq!(codes(&bare(&changed(inner)).1), [Code::Malformed]);
}

/// A flipped bit is refused, or it is in what is between the certificates, which stay the same.
fn flips(step: usize) {
    let mut bytes = PASS.to_vec();
    let certificates = |bytes: &[u8]| {
        let (quote, _) = quote::parse(bytes).unwrap();
        quote::chain(&quote).unwrap()
    };
    let genuine = certificates(&bytes);
    let mut unchanged = 0;
    for bit in (0..8 * bytes.len()).step_by(step) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        if bare(&bytes).1.is_empty() {
            // Without the root, which may be left out, it is the same chain.
            let found = certificates(&bytes);
            let same = genuine.certificates().starts_with(found.certificates());
            assert!(same && found.certificates().len() >= 2, "bit {bit}");
            unchanged += 1;
        }
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(unchanged < 4000 / step + 5, "{unchanged}");
}

#[test]
fn some_flipped_bits_are_refused() {
    flips(101);
}

#[test]
#[ignore = "every bit of a quote: about a minute"]
fn every_flipped_bit_is_refused() {
    flips(1);
}
