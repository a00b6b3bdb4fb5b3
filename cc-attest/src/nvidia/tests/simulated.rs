//! Devices in software, for what no recorded evidence shows.

use ring::rand::{SecureRandom, SystemRandom};

use super::*;
use crate::nvidia::opaque::{Mode, kind};
use crate::nvidia::platform;
use crate::policy::Mismatches;
use crate::roots::Roots;
use crate::sim::{Dates, Device, Maker, Model, Values};
use crate::testing::{at, evidence};

/// A fresh challenge, and a verifier that was handed the roots of a maker.
fn setting(maker: &Maker, values: &[Values]) -> Setting {
    let files: Vec<_> = values.iter().map(|values| maker.reference(values).unwrap()).collect();
    let roots = Roots::nvidia_rims().with(maker.rim_root());
    let mut nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).unwrap();
    Setting {
        nonce,
        roots: Roots::nvidia_devices().with(maker.device_root()),
        references: References::open(files.iter().map(|file| ("file", &file[..])), &roots, &[]),
        rules: GpuRules::default(),
        lists: Lists::default(),
        revocation: RevocationRules::default(),
        now: at("2026-11-26T00:00:00Z"),
    }
}

fn values(device: &Device) -> Vec<Values> {
    match device.driver {
        Some(_) => vec![device.driver_values(), device.vbios_values()],
        None => vec![device.vbios_values()],
    }
}

fn run(setting: &Setting, device: &Device) -> Verified {
    let verified = setting.verify(&device.report(&setting.nonce).unwrap(), &device.chain());
    in_order(&verified);
    verified
}

/// A device, and a verifier that has its references.
fn made(model: Model) -> (Maker, Device, Setting) {
    let maker = Maker::new().unwrap();
    let device = maker.device(model).unwrap();
    let setting = setting(&maker, &values(&device));
    (maker, device, setting)
}

#[test]
fn devices_of_all_families_pass_and_say_that_they_are_simulated() {
    for (model, family, active) in [
        (Model::hopper(), "hopper", 33),
        (Model::blackwell(), "blackwell", 33),
        (Model::switch(), "ls10", 31),
    ] {
        let (_, device, mut setting) = made(model);
        setting.rules.require_fwid = device.fwid.is_some();
        let verified = run(&setting, &device);
        assert_eq!(verified.refusals, [], "{family}");
        assert!(verified.device.simulated);
        assert_eq!(verified.device.arch.as_deref(), Some(family));
        let detail = &check(&verified, Name::Measurements).detail;
        assert_eq!(*detail, format!("{active} active measurements are equal"));
    }
}

#[test]
fn nobody_trusts_a_device_in_software_who_was_not_handed_its_root() {
    let (maker, device, mut setting) = made(Model::hopper());
    setting.roots = Roots::nvidia_devices();
    let file = maker.reference(&device.driver_values()).unwrap();
    setting.references = References::open([("file", &file[..])], &Roots::nvidia_rims(), &[]);
    let verified = run(&setting, &device);
    let missing = Code::RimMissing;
    assert_eq!(codes(&verified), [Code::ChainUntrusted, Code::RimSignature, missing, missing]);
    // Another maker's root is none of it either.
    setting.roots = Roots::nvidia_devices().with(Maker::new().unwrap().device_root());
    assert!(codes(&run(&setting, &device)).contains(&Code::ChainUntrusted));
}

#[test]
fn references_of_devices_in_software_hold_for_no_genuine_device() {
    let (maker, _, mut setting) = made(Model::hopper());
    let report = evidence("nvidia/gh100-545.00-PASS/report.bin");
    let chain = evidence("nvidia/gh100-545.00-PASS/chain.pem");
    let read = crate::nvidia::spdm::Report::read(&report).unwrap();
    let mut device = maker.device(Model::hopper()).unwrap();
    (device.driver, device.vbios) = (Some("545.00".into()), "96.00.5e.00.01".into());
    device.measurements = read.blocks.iter().map(|block| *block.value).collect();
    let made = super::simulated::setting(&maker, &values(&device));
    setting.references = made.references;
    setting.nonce = *read.nonce;
    setting.rules.require_fwid = false;
    assert_eq!(codes(&setting.verify(&report, &chain)), [Code::RimMissing; 2]);
}

#[test]
fn firmware_that_changes_is_refused_with_its_index() {
    let (_, mut device, setting) = made(Model::hopper());
    assert_eq!(run(&setting, &device).refusals, []);
    device.measurements[30][0] ^= 1;
    let verified = run(&setting, &device);
    assert_eq!(codes(&verified), [Code::MeasurementMismatch]);
    assert!(verified.refusals[0].detail.starts_with("index 30 of driver 550.90.07"));
    // What is not active may be anything.
    device.measurements[30][0] ^= 1;
    device.measurements[60][0] ^= 1;
    assert_eq!(run(&setting, &device).refusals, []);
}

#[test]
fn a_report_that_another_key_signs_is_refused() {
    let (maker, device, setting) = made(Model::hopper());
    let mut other = maker.device(Model::hopper()).unwrap();
    other.measurements.clone_from(&device.measurements);
    let report = other.report(&setting.nonce).unwrap();
    assert_eq!(codes(&setting.verify(&report, &device.chain())), [Code::SignatureInvalid]);
    assert_eq!(codes(&setting.verify(&report, &other.chain())), []);
}

#[test]
fn an_answer_to_an_earlier_challenge_is_refused() {
    let (_, device, mut setting) = made(Model::hopper());
    let recorded = device.report(&setting.nonce).unwrap();
    setting.nonce[0] ^= 1;
    assert_eq!(codes(&setting.verify(&recorded, &device.chain())), [Code::NonceMismatch]);
}

#[test]
fn the_firmware_that_signs_must_be_the_certified_one() {
    for model in [Model::hopper(), Model::blackwell()] {
        let (_, mut device, mut setting) = made(model);
        device.fwid = Some([1; 48]);
        assert_eq!(codes(&run(&setting, &device)), [Code::FwidMismatch]);
        device.fwid = None;
        assert_eq!(codes(&run(&setting, &device)), [Code::FwidAbsent]);
        setting.rules.require_fwid = false;
        assert_eq!(codes(&run(&setting, &device)), []);
    }
}

#[test]
fn a_certificate_that_names_no_firmware_does_not_pass_one_that_does() {
    let (_, mut device, mut setting) = made(Model { fwid: None, ..Model::hopper() });
    setting.rules.require_fwid = false;
    assert_eq!(codes(&run(&setting, &device)), []);
    device.fwid = Some([1; 48]);
    assert_eq!(codes(&run(&setting, &device)), [Code::FwidAbsent]);
}

#[test]
fn certificates_outside_of_their_dates_are_refused() {
    for dates in [
        Dates { from: (2020, 1, 1), to: (2026, 1, 1) },
        Dates { from: (2027, 1, 1), to: (2028, 1, 1) },
    ] {
        let (_, device, setting) = made(Model { dates, ..Model::hopper() });
        assert_eq!(codes(&run(&setting, &device)), [Code::CertExpired]);
    }
}

#[test]
fn references_are_refused_outside_of_their_signers_dates() {
    for dates in [
        Dates { from: (2020, 1, 1), to: (2026, 1, 1) },
        Dates { from: (2027, 1, 1), to: (2028, 1, 1) },
    ] {
        let maker = Maker::dated(dates).unwrap();
        let device = maker.device(Model::hopper()).unwrap();
        let setting = setting(&maker, &values(&device));
        assert_eq!(codes(&run(&setting, &device)), [Code::RimExpired; 2]);
    }
}

#[test]
fn references_whose_signers_were_never_valid_at_one_time_are_refused() {
    // The root begins in 2020.
    let maker = Maker::dated(Dates { from: (2010, 1, 1), to: (2015, 1, 1) }).unwrap();
    let device = maker.device(Model::switch()).unwrap();
    let mut setting = setting(&maker, &values(&device));
    setting.rules.require_fwid = false;
    assert_eq!(codes(&run(&setting, &device)), [Code::RimExpired, Code::RimMissing]);
}

#[test]
fn of_two_issues_the_one_that_holds_is_taken() {
    let (maker, device, _) = made(Model::switch());
    let mut other = device.vbios_values();
    other.measurements[3].alternatives = vec![[9; 48]];
    for order in [[other.clone(), device.vbios_values()], [device.vbios_values(), other]] {
        let mut setting = setting(&maker, &order);
        setting.rules.require_fwid = false;
        assert_eq!(codes(&run(&setting, &device)), []);
    }
}

#[test]
fn one_of_the_alternatives_is_enough_and_zeros_are_one_like_others() {
    let (maker, mut device, _) = made(Model::hopper());
    let mut driver = device.driver_values();
    driver.measurements[25].alternatives = vec![[1; 48], [0; 48]];
    let setting = setting(&maker, &[driver, device.vbios_values()]);
    for value in [[1; 48], [0; 48]] {
        device.measurements[25] = value;
        assert_eq!(codes(&run(&setting, &device)), []);
    }
    device.measurements[25] = [2; 48];
    assert_eq!(codes(&run(&setting, &device)), [Code::MeasurementMismatch]);
}

#[test]
fn references_count_from_zero_and_reports_from_one() {
    let (maker, device, _) = made(Model::hopper());
    let mut driver = device.driver_values();
    driver.measurements.retain(|measurement| measurement.active);
    driver.measurements.iter_mut().for_each(|measurement| measurement.index += 1);
    let setting = setting(&maker, &[driver, device.vbios_values()]);
    assert_eq!(codes(&run(&setting, &device)), [Code::MeasurementMismatch; 21]);
}

#[test]
fn a_measurement_that_the_report_does_not_have_is_refused() {
    let (maker, mut device, _) = made(Model::hopper());
    let values = values(&device);
    device.measurements.truncate(40);
    let setting = setting(&maker, &values);
    let verified = run(&setting, &device);
    assert_eq!(codes(&verified), [Code::MeasurementMismatch]);
    assert!(verified.refusals[0].detail.contains("absent from the report"));
}

#[test]
fn references_that_claim_one_measurement_both_are_refused() {
    let (maker, device, _) = made(Model::hopper());
    let mut vbios = device.vbios_values();
    let driver = device.driver_values();
    vbios.measurements[20] = driver.measurements[20].clone();
    let setting = setting(&maker, &[driver, vbios]);
    assert_eq!(codes(&run(&setting, &device)), [Code::RimIndexConflict]);
}

#[test]
fn references_of_which_none_is_active_are_refused() {
    let (maker, device, _) = made(Model::hopper());
    let mut driver = device.driver_values();
    driver.measurements.iter_mut().for_each(|measurement| measurement.active = false);
    let setting = setting(&maker, &[driver, device.vbios_values()]);
    let verified = run(&setting, &device);
    assert_eq!(codes(&verified), [Code::MeasurementMismatch]);
    assert!(verified.refusals[0].detail.contains("no measurement is active"));
}

#[test]
fn references_of_another_chip_are_not_taken() {
    let (maker, device, _) = made(Model::hopper());
    let mut driver = device.driver_values();
    driver.product = "GH200".into();
    let setting = setting(&maker, &[driver, device.vbios_values()]);
    assert_eq!(codes(&run(&setting, &device)), [Code::RimMissing]);
}

#[test]
fn a_mismatch_that_policy_lets_pass_is_a_warning_and_only_there() {
    let (_, mut device, mut setting) = made(Model::hopper());
    device.measurements[9][0] ^= 1;
    let let_pass =
        Mismatches { arch: "hopper".into(), driver: "550.90.07".into(), indices: vec![3, 9] };
    setting.rules.allowed_mismatches = vec![let_pass.clone()];
    let verified = run(&setting, &device);
    assert_eq!(codes(&verified), []);
    // Told as what it is, which keeps it from affirming.
    let told = check(&verified, Name::Measurements);
    assert_eq!(told.ok, Some(false));
    assert!(told.detail.contains("let pass by policy: index 9"), "{}", told.detail);
    for other in [
        Mismatches { arch: "blackwell".into(), ..let_pass.clone() },
        Mismatches { driver: "550.90.08".into(), ..let_pass.clone() },
        Mismatches { indices: vec![10], ..let_pass },
    ] {
        setting.rules.allowed_mismatches = vec![other];
        assert_eq!(codes(&run(&setting, &device)), [Code::MeasurementMismatch]);
    }
}

#[test]
fn a_report_that_names_no_version_has_no_references() {
    let (_, mut device, setting) = made(Model::hopper());
    device.driver = None;
    let verified = run(&setting, &device);
    assert_eq!(codes(&verified), [Code::RimMissing]);
    assert_eq!(check(&verified, Name::Measurements).ok, None);
}

#[test]
fn the_mode_is_told_and_held_against_policy() {
    let (_, mut device, mut setting) = made(Model::hopper());
    for mode in [Mode::SinglePassthrough, Mode::MultiPassthrough, Mode::ProtectedPcie] {
        device.mode = Some(mode);
        setting.rules.mode = Some(mode);
        let verified = run(&setting, &device);
        assert_eq!(verified.refusals, []);
        let told = check(&verified, Name::Mode);
        assert_eq!((told.ok, told.detail.as_str()), (Some(true), mode.as_str()));
    }
    device.mode = None;
    assert_eq!(codes(&run(&setting, &device)), [Code::MixedModes]);
    // A flag of fields that are older than it says nothing.
    device.fields.extend([(kind::VERSION, vec![0, 0]), (kind::FEATURE_FLAG, vec![0, 0])]);
    setting.rules.mode = None;
    assert_eq!(check(&run(&setting, &device), Name::Mode).ok, None);
    device.fields.truncate(device.fields.len() - 2);
    setting.rules.mode = Some(Mode::ProtectedPcie);
    device.mode = Some(Mode::SinglePassthrough);
    assert_eq!(codes(&run(&setting, &device)), [Code::MixedModes]);
}

#[test]
fn developer_mode_speaks_against_a_device() {
    let (_, device, setting) = made(Model::hopper());
    let (report, chain) = (device.report(&setting.nonce).unwrap(), device.chain());
    let evidence = Evidence { developer_mode: true, ..Evidence::new(&report, &chain) };
    let verified = setting.verify_evidence(&evidence);
    in_order(&verified);
    assert_eq!(codes(&verified), [Code::DevTools]);
}

#[test]
fn evidence_of_another_architecture_than_it_says_is_refused() {
    let (_, device, setting) = made(Model::hopper());
    let (report, chain) = (device.report(&setting.nonce).unwrap(), device.chain());
    let evidence = |arch| Evidence { arch: Some(arch), ..Evidence::new(&report, &chain) };
    assert_eq!(codes(&setting.verify_evidence(&evidence("HOPPER"))), []);
    assert!(
        codes(&setting.verify_evidence(&evidence("BLACKWELL"))).contains(&Code::UnsupportedArch)
    );
    let (_, strange, setting) = made(Model { chip: "XY900".into(), ..Model::hopper() });
    assert!(codes(&run(&setting, &strange)).contains(&Code::UnsupportedArch));
}

#[test]
fn the_structure_of_a_signed_report_is_held_too() {
    let (_, mut device, setting) = made(Model::hopper());
    let report = device.report(&setting.nonce).unwrap();
    let long = [&report[..], &[1]].concat();
    assert_eq!(codes(&setting.verify(&long, &device.chain())), [Code::TrailingData]);
    device.fields.push((kind::PROJECT, b"1011\0".to_vec()));
    assert_eq!(codes(&run(&setting, &device)), [Code::DuplicateOpaque]);
    device.fields.pop();
    device.fields.push((kind::CHIP_INFO, vec![7]));
    assert_eq!(codes(&run(&setting, &device)), []);
    device.fields.extend([(kind::VERSION, vec![1, 0]), (kind::FEATURE_FLAG, vec![3, 0])]);
    assert_eq!(codes(&run(&setting, &device)), [Code::Malformed]);
    device.fields.truncate(device.fields.len() - 3);
    device.fields.push((777, vec![0; 5_000]));
    assert_eq!(codes(&run(&setting, &device)), [Code::TooLarge]);
    device.fields.pop();
    device.fields.extend((1_000..1_064).map(|kind| (kind, vec![])));
    assert_eq!(codes(&run(&setting, &device)), [Code::Malformed]);
}

/// Devices of one machine, all of which pass alone.
fn machine(devices: &[&Device], maker: &Maker) -> Vec<Code> {
    let all: Vec<_> = devices.iter().flat_map(|device| values(device)).collect();
    let verified = devices.iter().map(|device| {
        let mut setting = setting(maker, &all);
        setting.rules.require_fwid = false;
        let verified = run(&setting, device);
        assert_eq!(verified.refusals, []);
        verified
    });
    let verified: Vec<_> = verified.collect();
    platform::check(&verified).iter().map(|refusal| refusal.code).collect()
}

fn gpu(maker: &Maker, mode: Mode, pdis: &[[u8; 8]]) -> Device {
    let mut device = maker.device(Model::hopper()).unwrap();
    (device.mode, device.pdis) = (Some(mode), pdis.to_vec());
    device
}

fn switch(maker: &Maker, pdi: [u8; 8]) -> Device {
    let mut device = maker.device(Model::switch()).unwrap();
    device.pdis = vec![pdi];
    device
}

#[test]
fn modes_do_not_mix() {
    let maker = Maker::new().unwrap();
    let [spt, mpt] =
        [Mode::SinglePassthrough, Mode::MultiPassthrough].map(|mode| gpu(&maker, mode, &[]));
    let unnamed = maker.device(Model::hopper()).unwrap();
    assert_eq!(machine(&[&spt], &maker), []);
    assert_eq!(machine(&[&spt, &mpt], &maker), [Code::MixedModes]);
    assert_eq!(machine(&[&spt, &unnamed], &maker), [Code::MixedModes]);
}

#[test]
fn gpus_in_protected_mode_come_with_the_switches_that_they_name() {
    let maker = Maker::new().unwrap();
    let (a, b) = ([1, 2, 3, 4, 5, 6, 7, 8], [9, 2, 3, 4, 5, 6, 7, 8]);
    // As a GPU writes them.
    let (a_reversed, b_reversed) = ([8, 7, 6, 5, 4, 3, 2, 1], [8, 7, 6, 5, 4, 3, 2, 9]);
    let linked = |pdis: &[[u8; 8]]| gpu(&maker, Mode::ProtectedPcie, pdis);
    let (one, other) =
        (linked(&[a_reversed, b_reversed, [0; 8]]), linked(&[b_reversed, a_reversed]));
    let (left, right) = (switch(&maker, a), switch(&maker, b));
    assert_eq!(machine(&[&one, &other, &left, &right], &maker), []);
    // A switch is missing, both are, or one too many is there.
    assert_eq!(machine(&[&one, &other, &left], &maker), [Code::MixedModes]);
    assert_eq!(machine(&[&one], &maker), [Code::MixedModes; 2]);
    let strange = switch(&maker, [7; 8]);
    assert_eq!(machine(&[&one, &other, &left, &right, &strange], &maker), [Code::MixedModes]);
    // A GPU is linked to others, or to none.
    let half = linked(&[a_reversed]);
    assert_eq!(machine(&[&one, &half, &left, &right], &maker), [Code::MixedModes]);
    assert_eq!(machine(&[&linked(&[])], &maker), [Code::MixedModes]);
    // The bytes are reversed: as the switch writes them, they name another.
    let straight = linked(&[a]);
    assert_eq!(machine(&[&straight, &left], &maker), [Code::MixedModes; 2]);
    let lone = gpu(&maker, Mode::SinglePassthrough, &[]);
    assert_eq!(machine(&[&lone, &left], &maker), []);
}

#[test]
fn a_signed_file_that_is_not_of_the_profile_is_refused() {
    let maker = Maker::new().unwrap();
    let device = maker.device(Model::hopper()).unwrap();
    let roots = Roots::nvidia_rims().with(maker.rim_root());
    let document = device.driver_values().document();
    let open = |document: &str| {
        let file = maker.signed(document).unwrap();
        crate::rim::Rim::open("file", &file, &roots, &[])
    };
    assert!(open(&document).unwrap().root().is_simulated());
    let resource = "<ns0:Resource type=\"Measurement\" index=\"0\"";
    for (from, to) in [
        ("FirmwareManufacturerId=\"5703\"", "FirmwareManufacturerId=\"5704\""),
        ("ns1:FirmwareManufacturerId=\"5703\"", ""),
        ("edition=\"GPU\"", "edition=\"CPU\""),
        ("colloquialVersion=\"550.90.07\"", "colloquialVersion=\"\""),
        ("<ns0:Payload>", "<ns0:Meta/><ns0:Payload>"),
        ("<ns0:Payload>", "<ns0:Payload/><ns0:Payload>"),
        ("<ns0:Payload>", "<ns0:Evidence/><ns0:Payload>"),
        ("<ns0:Payload>", "<ns0:Payload>text"),
        ("<ns0:Payload>", "<ns0:Payload><ns0:Directory/>"),
        ("<ns0:Payload>", "text<ns0:Payload>"),
        (resource, "<ns0:Resource type=\"Other\" index=\"0\""),
        (resource, "<ns0:File type=\"Measurement\" index=\"0\""),
        (resource, "<ns0:Resource type=\"Measurement\" index=\"1\""),
        (resource, "<ns0:Resource type=\"Measurement\" index=\"00\""),
        (resource, "<ns0:Resource type=\"Measurement\" index=\"256\""),
        ("active=\"False\"", "active=\"false\""),
        ("active=\"False\"", "active=\"\""),
        ("alternatives=\"1\"", "alternatives=\"2\""),
        ("alternatives=\"1\"", "alternatives=\"0\""),
        ("alternatives=\"1\"", "alternatives=\"33\""),
        ("ns2:Hash0=\"00", "ns2:Hash0=\""),
        ("ns2:Hash0=\"00", "ns2:Hash0=\"zz"),
        ("ns2:Hash0=", "ns2:Hash1="),
        ("ns2:Hash0=", "ns2:Hash1=\"00\" ns2:Hash0="),
        ("ns2:Hash0=", "Hash0="),
        ("size=\"48\"", "size=\"32\""),
        (
            "2015/schema.xsd\" xmlns:ns0=\"http://standards.iso.org/iso/19770/-2/2015",
            "2009/schema.xsd\" xmlns:ns0=\"http://standards.iso.org/iso/19770/-2/2009",
        ),
    ] {
        assert!(document.contains(from), "{from}");
        let refusal = open(&document.replacen(from, to, 1)).unwrap_err();
        assert_eq!(refusal.code, Code::RimForeignContent, "{from} {to}: {}", refusal.detail);
    }
    let other = document.replace("SoftwareIdentity", "SoftwareBundle");
    assert_eq!(open(&other).unwrap_err().code, Code::RimForeignContent);
    for alternatives in [0, 33] {
        let mut values = device.driver_values();
        values.measurements[0].alternatives = vec![[0; 48]; alternatives];
        let refusal = open(&values.document()).unwrap_err();
        assert_eq!(refusal.code, Code::RimForeignContent, "{alternatives}");
    }
}
