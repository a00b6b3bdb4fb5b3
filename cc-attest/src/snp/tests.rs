use std::time::SystemTime;

use super::*;
use crate::appraisal::Check;
use crate::policy::{Hex, RevocationMode, RevocationRules};
use crate::revocation::Lists;
use crate::time::at;

const REPORT_PASS: &[u8] = include_bytes!("../../tests/evidence/amd/milan-v2-PASS/report.bin");
const VCEK_PASS: &[u8] = include_bytes!("../../tests/evidence/amd/milan-v2-PASS/vcek.der");
const AMD: &[u8] = include_bytes!("../../tests/evidence/amd/milan-v2-PASS/ask_ark.pem");
const REPORT_DEBUG: &[u8] = include_bytes!("../../tests/evidence/amd/milan-DEBUG/report.bin");
const VCEK_DEBUG: &[u8] = include_bytes!("../../tests/evidence/amd/milan-DEBUG/vcek.der");
const GENOA: &[u8] = include_bytes!("../roots/amd-genoa.pem");

fn data(report: &[u8]) -> [u8; 64] {
    report[0x50..0x90].try_into().unwrap()
}

fn look(
    report: &[u8],
    files: &[&[u8]],
    rules: &SnpRules,
    now: SystemTime,
) -> (Device, Vec<Refusal>) {
    let off = RevocationRules { mode: RevocationMode::Off, ..RevocationRules::default() };
    let report_data = data(if report.len() < 0x90 { REPORT_PASS } else { report });
    let lists = Lists::default();
    let setting = Setting { report_data: &report_data, now, lists: &lists, revocation: &off };
    verify(report, files, rules, &setting)
}

fn when() -> SystemTime {
    at("2025-01-01T00:00:00Z")
}

fn codes(refusals: &[Refusal]) -> Vec<Code> {
    refusals.iter().map(|refusal| refusal.code).collect()
}

fn check(device: &Device, name: Name) -> &Check {
    device.checks.iter().find(|check| check.name == name).unwrap()
}

#[test]
fn a_genuine_report_passes() {
    let (device, refusals) = look(REPORT_PASS, &[VCEK_PASS, AMD], &SnpRules::default(), when());
    assert_eq!(refusals, []);
    assert_eq!(device.arch.as_deref(), Some("milan"));
    assert_eq!(device.hwmodel.as_deref(), Some("Milan-B0"));
    assert_eq!(device.ueid, Some(hex(&REPORT_PASS[0x1a0..0x1e0])));
    for name in [Name::Nonce, Name::Chain, Name::Signature, Name::Fwid, Name::Mode] {
        assert!(device.holds(name), "{name:?}");
    }
    assert_eq!(check(&device, Name::Measurements).ok, None);
    assert_eq!(check(&device, Name::RimDriver).ok, None);
    assert_eq!(device.checks.len(), Name::ALL.len());
}

#[test]
fn the_pinned_certificates_are_enough() {
    let (_, refusals) = look(REPORT_PASS, &[VCEK_PASS], &SnpRules::default(), when());
    assert_eq!(refusals, []);
}

#[test]
fn a_genuine_machine_that_can_be_debugged_is_refused_for_that_alone() {
    let (device, refusals) =
        look(REPORT_DEBUG, &[VCEK_DEBUG, AMD], &SnpRules::default(), at("2024-01-01T00:00:00Z"));
    assert_eq!(codes(&refusals), [Code::DebugEnabled]);
    assert!(device.holds(Name::Signature));
    assert!(refusals[0].detail.contains("0xb0000"), "{}", refusals[0]);
}

#[test]
fn a_report_under_the_certificate_of_another_chip_is_refused() {
    let (_, refusals) = look(REPORT_PASS, &[VCEK_DEBUG, AMD], &SnpRules::default(), when());
    assert_eq!(
        codes(&refusals),
        [Code::SignatureInvalid, Code::FwidMismatch, Code::FwidMismatch],
        "the signature, the firmware, the chip"
    );
}

#[test]
fn an_answer_to_another_challenge_is_refused() {
    let mut wanted = data(REPORT_PASS);
    wanted[63] ^= 1;
    let off = RevocationRules { mode: RevocationMode::Off, ..RevocationRules::default() };
    let lists = Lists::default();
    let setting = Setting { report_data: &wanted, now: when(), lists: &lists, revocation: &off };
    let (_, refusals) = verify(REPORT_PASS, &[VCEK_PASS], &SnpRules::default(), &setting);
    assert_eq!(codes(&refusals), [Code::NonceMismatch]);
}

#[test]
fn certificates_outside_their_dates_are_refused() {
    for outside in ["2023-04-03T19:23:42Z", "2030-04-03T19:23:44Z"] {
        let (device, refusals) = look(REPORT_PASS, &[VCEK_PASS], &SnpRules::default(), at(outside));
        assert_eq!(codes(&refusals), [Code::CertExpired], "{outside}");
        assert!(!device.holds(Name::Chain));
    }
}

#[test]
fn roots_that_are_not_pinned_are_refused() {
    let genoa = certs::read(GENOA).unwrap();
    let (_, refusals) = look(REPORT_PASS, &[VCEK_PASS, &genoa[1]], &SnpRules::default(), when());
    assert_eq!(codes(&refusals), [Code::ChainUntrusted]);
    // An ASK that says it is one, and was not signed by the pinned root.
    let mut ask = certs::read(AMD).unwrap().remove(0);
    *ask.last_mut().unwrap() ^= 1;
    let (_, refusals) = look(REPORT_PASS, &[VCEK_PASS, &ask], &SnpRules::default(), when());
    assert_eq!(codes(&refusals), [Code::ChainUntrusted]);
    // A VCEK that the ASK did not sign.
    let mut vcek = VCEK_PASS.to_vec();
    *vcek.last_mut().unwrap() ^= 1;
    let (device, refusals) = look(REPORT_PASS, &[&vcek], &SnpRules::default(), when());
    assert_eq!(codes(&refusals), [Code::ChainUntrusted]);
    assert!(device.holds(Name::Signature));
    for files in [&[][..], &[AMD]] {
        let (_, refusals) = look(REPORT_PASS, files, &SnpRules::default(), when());
        assert_eq!(codes(&refusals), [Code::ChainUntrusted]);
    }
}

#[test]
fn reference_measurements_decide_whether_a_machine_is_measured() {
    let genuine = Hex(REPORT_PASS[0x90..0xc0].try_into().unwrap());
    let with = |measurements| {
        let rules = SnpRules { measurements, ..SnpRules::default() };
        look(REPORT_PASS, &[VCEK_PASS], &rules, when())
    };
    let (device, refusals) = with(vec![Hex([7; 48]), genuine]);
    assert_eq!(refusals, []);
    assert!(device.holds(Name::Measurements));
    let (device, refusals) = with(vec![Hex([7; 48])]);
    assert_eq!(codes(&refusals), [Code::MeasurementMismatch]);
    assert!(!device.holds(Name::Measurements));
}

#[test]
fn firmware_below_the_floor_is_refused() {
    // The report: boot loader 3, tee 0, SNP 8, microcode 115.
    let floor = |arch: &str, floor| {
        let rules =
            SnpRules { tcb_floor: [(arch.to_owned(), floor)].into(), ..SnpRules::default() };
        codes(&look(REPORT_PASS, &[VCEK_PASS], &rules, when()).1)
    };
    let exact = SnpTcb { fmc: 0, bootloader: 3, tee: 0, snp: 8, microcode: 115 };
    assert_eq!(floor("milan", exact), []);
    for above in [
        SnpTcb { fmc: 1, ..exact },
        SnpTcb { bootloader: 4, ..exact },
        SnpTcb { tee: 1, ..exact },
        SnpTcb { snp: 9, ..exact },
        SnpTcb { microcode: 116, ..exact },
    ] {
        assert_eq!(floor("milan", above), [Code::TcbBelowFloor]);
        assert_eq!(floor("genoa", above), []);
    }
}

#[test]
fn the_kind_of_key_and_the_algorithm_are_looked_at() {
    let chain = Chain::read(&[VCEK_PASS]).unwrap();
    let mut report = parse(REPORT_PASS).unwrap();
    assert_eq!(unsigned(&report, &chain), None);
    report.key_info = 4u32.into();
    assert!(unsigned(&report, &chain).unwrap().detail.contains("key kind 1"));
    let mut report = parse(REPORT_PASS).unwrap();
    report.sig_algo = 0;
    assert!(unsigned(&report, &chain).unwrap().detail.contains("algorithm 0"));
}

#[test]
fn the_certificate_must_be_of_the_firmware_and_the_chip_of_the_report() {
    let rules = SnpRules::default();
    let mut chain = Chain::read(&[VCEK_PASS]).unwrap();
    let report = parse(REPORT_PASS).unwrap();
    assert_eq!(firmware(&report, &chain, &rules), []);
    chain.endorsement.tcb.microcode -= 1;
    assert_eq!(codes(&firmware(&report, &chain, &rules)), [Code::FwidMismatch]);
    chain.endorsement.tcb.microcode += 1;
    chain.endorsement.chip = Some([1; 64]);
    assert_eq!(codes(&firmware(&report, &chain, &rules)), [Code::FwidMismatch]);
    // Under a VLEK there is no chip to compare with.
    chain.endorsement.chip = None;
    assert_eq!(firmware(&report, &chain, &rules), []);
}

#[test]
fn revocation_is_looked_at_when_policy_asks() {
    let (report_data, lists) = (data(REPORT_PASS), Lists::default());
    let hard = RevocationRules { mode: RevocationMode::Hard, ..RevocationRules::default() };
    let setting =
        Setting { report_data: &report_data, now: when(), lists: &lists, revocation: &hard };
    let (_, refusals) = verify(REPORT_PASS, &[VCEK_PASS], &SnpRules::default(), &setting);
    assert_eq!(codes(&refusals), [Code::RevocationUnknown]);
    let detail = &refusals[0].detail;
    assert!(detail.contains("SEV-VCEK") && detail.contains("SEV-Milan"), "{detail}");
    let soft = RevocationRules::default();
    let setting = Setting { revocation: &soft, ..setting };
    let (device, refusals) = verify(REPORT_PASS, &[VCEK_PASS], &SnpRules::default(), &setting);
    assert_eq!(refusals, []);
    assert_eq!(check(&device, Name::Revocation).ok, None);
}

#[test]
fn what_is_no_report_is_refused() {
    let code = |bytes: &[u8]| {
        let (device, refusals) = look(bytes, &[VCEK_PASS], &SnpRules::default(), when());
        assert!(device.checks.iter().all(|check| check.ok.is_none()));
        codes(&refusals)
    };
    assert_eq!(code(&[]), [Code::Malformed]);
    assert_eq!(code(&REPORT_PASS[..1183]), [Code::Malformed]);
    assert_eq!(code(&[REPORT_PASS, &[0]].concat()), [Code::TrailingData]);
    let with = |at: usize, bytes: &[u8]| {
        let mut report = REPORT_PASS.to_vec();
        report[at..at + bytes.len()].copy_from_slice(bytes);
        report
    };
    for version in [0, 1, 6, 255] {
        assert_eq!(code(&with(0, &[version])), [Code::Malformed]);
    }
    assert_eq!(code(&with(0x1a0, &[0; 64])), [Code::UnsupportedArch]);
    // Versions from 3 on name the processor; a later one is not taken for the last that is known.
    let named = |version| [&[version], &with(0x188, &[0x19, 1])[1..]].concat();
    assert_eq!(code(&named(6)), [Code::Malformed]);
    for version in 3..=5 {
        let (device, refusals) = look(&named(version), &[VCEK_PASS], &SnpRules::default(), when());
        assert_eq!(codes(&refusals), [Code::SignatureInvalid]);
        assert_eq!(device.arch.as_deref(), Some("milan"));
    }
    // After the two numbers, and above them.
    assert_eq!(code(&with(0x2a0 + 200, &[1])), [Code::Malformed]);
    assert_eq!(code(&with(0x2a0 + 60, &[1])), [Code::Malformed]);
    assert_eq!(code(&with(0x2a0 + 143, &[1])), [Code::Malformed]);
}

fn flips(bytes: &[u8], step: usize, refused: impl Fn(&[u8]) -> bool) {
    let mut bytes = bytes.to_vec();
    for bit in (0..8 * bytes.len()).step_by(step) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&bytes), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

fn report_is_refused(report: &[u8]) -> bool {
    !look(report, &[VCEK_PASS], &SnpRules::default(), when()).1.is_empty()
}

fn certificate_is_refused(vcek: &[u8]) -> bool {
    !look(REPORT_PASS, &[vcek], &SnpRules::default(), when()).1.is_empty()
}

#[test]
fn some_flipped_bits_are_refused() {
    flips(REPORT_PASS, 97, report_is_refused);
    flips(VCEK_PASS, 101, certificate_is_refused);
}

#[test]
#[ignore = "every bit of a report and of its certificate: about a minute"]
fn every_flipped_bit_is_refused() {
    flips(REPORT_PASS, 1, report_is_refused);
    flips(VCEK_PASS, 1, certificate_is_refused);
}
