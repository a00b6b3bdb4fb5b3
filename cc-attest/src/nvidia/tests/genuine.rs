//! Recorded evidence gives what an independent check of it gave.

use super::*;
use crate::roots::Roots;
use crate::testing::{at, evidence, milliseconds};

const RECORDED: &str = "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e";
const SAMPLE: &str = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";
const OLD: &str = "27a328247bf7935c993341cf587be6f05986ccce4fe7ba2c54100bd616a58f66";
const DRIVER: &str = "gh100-545.00-PASS/driver_rim_545.00.xml";
const VBIOS: &str = "gh100-545.00-PASS/vbios_rim_1010_0200_882_96005E0001.xml";
const SWITCH: &str = "nvswitch-ls10-PASS/switch_rim_96105500.xml";

fn setting(nonce: &str, rims: &[&str], now: &str) -> Setting {
    let files: Vec<_> = rims.iter().map(|rim| (*rim, evidence(&format!("nvidia/{rim}")))).collect();
    let files = files.iter().map(|(name, file)| (*name, file.as_slice()));
    let nonce = data_encoding::HEXLOWER.decode(nonce.as_bytes()).unwrap();
    Setting {
        nonce: nonce.try_into().unwrap(),
        roots: Roots::nvidia_devices(),
        references: References::open(files, &Roots::nvidia_rims(), &[]),
        rules: GpuRules { require_fwid: false, ..GpuRules::default() },
        lists: Lists::default(),
        revocation: RevocationRules::default(),
        now: at(now),
    }
}

fn passing() -> Setting {
    setting(RECORDED, &[DRIVER, VBIOS], "2023-10-01T00:00:00Z")
}

fn report(name: &str) -> Vec<u8> {
    evidence(&format!("nvidia/{name}/report.bin"))
}

fn pem(name: &str) -> Vec<u8> {
    evidence(&format!("nvidia/{name}/chain.pem"))
}

fn run(setting: &Setting, name: &str) -> Verified {
    let verified = setting.verify(&report(name), &pem(name));
    in_order(&verified);
    verified
}

fn ok(verified: &Verified, name: Name) -> Option<bool> {
    check(verified, name).ok
}

#[test]
fn the_hopper_report_with_its_references_passes() {
    let verified = run(&passing(), "gh100-545.00-PASS");
    assert_eq!(verified.refusals, []);
    for name in [
        Name::Nonce,
        Name::Chain,
        Name::Signature,
        Name::RimDriver,
        Name::RimVbios,
        Name::Measurements,
    ] {
        assert_eq!(ok(&verified, name), Some(true), "{name:?}");
    }
    assert_eq!(check(&verified, Name::Measurements).detail, "33 active measurements are equal");
    for name in [Name::Fwid, Name::Revocation, Name::Mode] {
        assert_eq!(ok(&verified, name), None, "{name:?}");
    }
    let device = verified.device;
    assert_eq!(device.arch.as_deref(), Some("hopper"));
    assert_eq!(device.hwmodel.as_deref(), Some("GH100 A01 GSP BROM"));
    assert_eq!(device.driver.as_deref(), Some("545.00"));
    assert_eq!(device.vbios.as_deref(), Some("96.00.5e.00.01"));
    assert_eq!(device.ueid.as_deref(), Some("50948C723FC935C7BD14B7C22833DFBE1DFD1145"));
    assert!(!device.simulated);
}

#[test]
fn the_switch_with_its_reference_passes() {
    let verified = run(&setting(SAMPLE, &[SWITCH], "2026-06-01T00:00:00Z"), "nvswitch-ls10-PASS");
    assert_eq!(verified.refusals, []);
    assert_eq!(check(&verified, Name::Measurements).detail, "31 active measurements are equal");
    assert_eq!(ok(&verified, Name::RimDriver), None);
    assert_eq!(verified.facts.switch, Some(true));
    let earlier = "nvswitch-ls10-PASS/switch_rim_96105500_2024issue.xml";
    let verified = run(&setting(SAMPLE, &[earlier], "2025-01-01T00:00:00Z"), "nvswitch-ls10-PASS");
    assert_eq!(verified.refusals, []);
}

#[test]
fn reports_without_references_hold_in_all_else_and_name_what_is_wanted() {
    for (name, nonce, ids) in [
        (
            "gh100-550.90.07-no-rim",
            SAMPLE,
            ["NV_GPU_DRIVER_GH100_550.90.07", "NV_GPU_VBIOS_1010_0200_882_96009F0001"],
        ),
        (
            "gh100-535.86.09",
            OLD,
            ["NV_GPU_DRIVER_GH100_535.86.09", "NV_GPU_VBIOS_1010_0200_882_96005E0001"],
        ),
        (
            "gb100-575.32",
            SAMPLE,
            ["NV_GPU_CC_DRIVER_GB100_575.32", "NV_GPU_VBIOS_G525_0220_886_970088000F"],
        ),
    ] {
        let verified = run(&setting(nonce, &[], "2026-06-01T00:00:00Z"), name);
        assert_eq!(codes(&verified), [Code::RimMissing; 2], "{name}");
        for (refusal, id) in verified.refusals.iter().zip(ids) {
            assert!(refusal.detail.contains(id), "{} {id}", refusal.detail);
        }
        let fwid = if name == "gh100-535.86.09" { None } else { Some(true) };
        assert_eq!(ok(&verified, Name::Fwid), fwid, "{name}");
        for check in [Name::Nonce, Name::Chain, Name::Signature] {
            assert_eq!(ok(&verified, check), Some(true), "{name}");
        }
        assert_eq!(ok(&verified, Name::Measurements), None, "{name}");
    }
    let verified = run(&setting(SAMPLE, &[], "2026-06-01T00:00:00Z"), "nvswitch-ls10-PASS");
    assert_eq!(codes(&verified), [Code::RimMissing]);
    assert!(verified.refusals[0].detail.contains("NV_SWITCH_BIOS_5612_0002_890_9610550001"));
}

#[test]
fn references_of_another_version_are_not_compared() {
    let now = "2023-10-01T00:00:00Z";
    let verified = run(&setting(SAMPLE, &[DRIVER, VBIOS], now), "gh100-550.90.07-no-rim");
    let (missing, other) = (Code::RimMissing, Code::RimVersionMismatch);
    assert_eq!(codes(&verified), [missing, other, missing, other]);
    assert_eq!(ok(&verified, Name::Measurements), None);
}

#[test]
fn a_measurement_that_differs_is_told_with_its_index_and_values() {
    // A genuine reference of this firmware, which this device does not meet at four places.
    let verified = run(&setting(OLD, &[VBIOS], "2023-10-01T00:00:00Z"), "gh100-535.86.09");
    assert_eq!(codes(&verified)[0], Code::RimMissing);
    let bytes = report("gh100-535.86.09");
    for (refusal, index) in verified.refusals[1..].iter().zip([1, 2, 3, 9]) {
        let detail = &refusal.detail;
        assert_eq!(refusal.code, Code::MeasurementMismatch);
        assert!(detail.starts_with(&format!("index {index} of VBIOS 96.00.5E.00.01")), "{detail}");
        let found = data_encoding::HEXLOWER.encode(&bytes[45 + index * 55 + 7..][..8]);
        assert!(detail.contains(&format!("{found}…, wanted ")), "{detail}");
    }
    assert_eq!(verified.refusals.len(), 5);
    assert!(verified.refusals[4].detail.ends_with("wanted aca2223bcf9ae651…"));
}

#[test]
fn a_tampered_reference_is_refused_and_the_wanted_one_is_missing() {
    let tampered = "gh100-535.86.09/driver_rim_TAMPERED.xml";
    let verified = run(&setting(OLD, &[tampered], "2025-06-01T00:00:00Z"), "gh100-535.86.09");
    assert_eq!(codes(&verified), [Code::RimSignature, Code::RimMissing, Code::RimMissing]);
    assert!(check(&verified, Name::RimDriver).detail.contains("TAMPERED"));
    let tampered = "nvswitch-ls10-PASS/switch_rim_TAMPERED.xml";
    let verified = run(&setting(SAMPLE, &[tampered], "2025-06-01T00:00:00Z"), "nvswitch-ls10-PASS");
    assert_eq!(codes(&verified), [Code::RimSignature, Code::RimMissing]);
}

#[test]
fn a_reference_that_was_given_and_does_not_hold_is_refused_where_none_is_missing() {
    for bad in
        ["gh100-535.86.09/driver_rim_TAMPERED.xml", "rims/driver_GH100_550.144.03_BADSIG.xml"]
    {
        let now = "2023-10-01T00:00:00Z";
        let verified = run(&setting(RECORDED, &[DRIVER, VBIOS, bad], now), "gh100-545.00-PASS");
        assert_eq!(codes(&verified), [Code::RimSignature], "{bad}");
        assert_eq!(ok(&verified, Name::Measurements), Some(true), "{bad}");
    }
    // One that is only not needed is none of these.
    let (other, now) = ("rims/driver_GH100_550.144.03.xml", "2025-02-01T00:00:00Z");
    let verified = run(&setting(RECORDED, &[DRIVER, VBIOS, other], now), "gh100-545.00-PASS");
    assert_eq!(codes(&verified), []);
    // Nor does the report have to be readable for it.
    let bad = setting(RECORDED, &["rims/driver_GH100_550.144.03_BADSIG.xml"], now);
    let verified = bad.verify(b"", &pem("gh100-545.00-PASS"));
    in_order(&verified);
    assert_eq!(codes(&verified), [Code::Malformed, Code::RimSignature]);
}

#[test]
fn references_out_of_their_dates_are_refused_and_compared_all_the_same() {
    let verified =
        run(&setting(RECORDED, &[DRIVER, VBIOS], "2026-05-28T00:00:00Z"), "gh100-545.00-PASS");
    assert_eq!(codes(&verified), [Code::RimExpired; 2]);
    assert_eq!(ok(&verified, Name::Measurements), Some(true));
    assert_eq!(ok(&verified, Name::RimDriver), Some(false));
}

#[test]
fn references_that_were_named_pass_out_of_their_dates_and_say_so() {
    let mut setting = setting(RECORDED, &[], "2026-05-28T00:00:00Z");
    let files = [DRIVER, VBIOS].map(|rim| evidence(&format!("nvidia/{rim}")));
    let pins = [&files[0], &files[1]].map(|file| privet_crypto::Digest::of(file).0);
    let named = files.iter().map(|file| ("file", file.as_slice()));
    setting.references = References::open(named, &Roots::nvidia_rims(), &pins);
    let verified = run(&setting, "gh100-545.00-PASS");
    assert_eq!(verified.refusals, []);
    assert!(check(&verified, Name::RimDriver).detail.contains("dates were not looked at"));
}

#[test]
fn another_challenge_is_refused() {
    let mut setting = passing();
    setting.nonce[31] ^= 1;
    let verified = run(&setting, "gh100-545.00-PASS");
    assert_eq!(codes(&verified), [Code::NonceMismatch]);
    assert_eq!(ok(&verified, Name::Signature), Some(true));
    // The device's own nonce is no answer.
    setting.nonce = report("gh100-545.00-PASS")[3565..3597].try_into().unwrap();
    assert_eq!(codes(&run(&setting, "gh100-545.00-PASS")), [Code::NonceMismatch]);
}

#[test]
fn the_report_of_another_device_is_refused() {
    let setting = setting(SAMPLE, &[], "2026-06-01T00:00:00Z");
    let verified = setting.verify(&report("gh100-BADSIG"), &pem("gh100-550.90.07-no-rim"));
    in_order(&verified);
    let codes = codes(&verified);
    assert!(codes.contains(&Code::SignatureInvalid) && codes.contains(&Code::FwidMismatch));
    let verified = setting.verify(&report("gh100-BADSIG"), &pem("gh100-535.86.09"));
    assert_eq!(ok(&verified, Name::Signature), Some(false));
    assert_eq!(ok(&verified, Name::Fwid), Some(false));
}

#[test]
fn damaged_chains_are_refused() {
    let setting = setting(SAMPLE, &[], "2026-06-01T00:00:00Z");
    for (case, why) in [(2, "root alone"), (3, "not issued by"), (4, "leaf is missing")] {
        let chain = evidence(&format!("nvidia/bad-chains/hopper_cert_chain_case{case}.pem"));
        let verified = setting.verify(&report("gh100-550.90.07-no-rim"), &chain);
        in_order(&verified);
        assert!(codes(&verified).contains(&Code::ChainUntrusted), "case {case}");
        let detail = &check(&verified, Name::Chain).detail;
        assert!(detail.contains(why), "case {case}: {detail}");
    }
}

#[test]
fn no_chain_or_no_report_leaves_the_other_checks_to_be_made() {
    let setting = passing();
    let verified = setting.verify(&report("gh100-545.00-PASS"), b"");
    in_order(&verified);
    assert_eq!(codes(&verified), [Code::Malformed]);
    assert_eq!(
        (ok(&verified, Name::Nonce), ok(&verified, Name::Measurements)),
        (Some(true), Some(true))
    );
    let verified = setting.verify(&report("gh100-545.00-PASS")[1..], &pem("gh100-545.00-PASS"));
    in_order(&verified);
    assert_eq!(codes(&verified), [Code::WrongSpdmVersion]);
    assert_eq!((ok(&verified, Name::Nonce), ok(&verified, Name::Chain)), (None, Some(true)));
}

#[test]
fn a_report_that_names_no_firmware_is_refused_where_it_must() {
    let mut setting = passing();
    setting.rules.require_fwid = true;
    assert_eq!(codes(&run(&setting, "gh100-545.00-PASS")), [Code::FwidAbsent]);
    // Switches never name theirs.
    let mut setting = super::genuine::setting(SAMPLE, &[SWITCH], "2026-06-01T00:00:00Z");
    setting.rules.require_fwid = true;
    assert_eq!(run(&setting, "nvswitch-ls10-PASS").refusals, []);
}

/// Flips bits of the report and wants each refused.
fn flip_report(step: usize) {
    let setting = passing();
    let (genuine, chain) = (report("gh100-545.00-PASS"), pem("gh100-545.00-PASS"));
    for bit in (0..8 * genuine.len()).step_by(step) {
        let mut flipped = genuine.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(codes(&setting.verify(&flipped, &chain)), [], "bit {bit}");
    }
}

/// Flips bits of all certificates below the root.
fn flip_chain(step: usize) {
    let setting = passing();
    let genuine = report("gh100-545.00-PASS");
    let ders: Vec<_> = crate::testing::chain("gh100-545.00-PASS")
        .certificates()
        .iter()
        .map(|cert| cert.der().to_vec())
        .collect();
    let root = ders.last().unwrap().len();
    let all = ders.concat();
    assert_eq!(codes(&setting.verify(&genuine, &all)), []);
    for bit in (0..8 * (all.len() - root)).step_by(step) {
        let mut flipped = all.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(codes(&setting.verify(&genuine, &flipped)), [], "bit {bit}");
    }
}

#[test]
fn a_flipped_bit_of_a_report_is_refused() {
    flip_report(203);
}

#[test]
fn a_flipped_bit_of_a_certificate_is_refused() {
    flip_chain(157);
}

#[test]
#[ignore = "all of them: minutes"]
fn any_flipped_bit_of_a_report_is_refused() {
    flip_report(1);
}

#[test]
#[ignore = "all of them: minutes"]
fn any_flipped_bit_of_a_certificate_is_refused() {
    flip_chain(1);
}

#[test]
#[ignore = "a measurement"]
fn measures_a_report() {
    let (report, chain) = (report("gh100-545.00-PASS"), pem("gh100-545.00-PASS"));
    let mut setting = passing();
    for fresh in [true, false] {
        let ms = milliseconds(|| {
            if fresh {
                setting.roots = Roots::nvidia_devices();
            }
            assert!(setting.verify(&report, &chain).refusals.is_empty());
        });
        let certificates = if fresh { "never seen" } else { "seen before" };
        println!("{ms:.2} ms a report whose certificates were {certificates}");
    }
}
