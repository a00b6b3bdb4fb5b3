//! Evidence of all kinds against a policy, with what it is held against in files.

use super::*;
use crate::appraisal::{Name, Verdict};
use crate::nvidia::opaque::Mode;
use crate::policy::{Profile, RevocationMode};
use crate::sim::{Dates, Device as Simulated, Maker, Model, RevocationReason, Software};
use crate::source::Source;
use crate::testing::{at, evidence, report_data};

const NOW: &str = "2026-11-26T00:00:00Z";
const HOPPER: &str = "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e";
const SAMPLE: &str = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";
const DRIVER: &str = "nvidia/gh100-545.00-PASS/driver_rim_545.00.xml";
const VBIOS: &str = "nvidia/gh100-545.00-PASS/vbios_rim_1010_0200_882_96005E0001.xml";

fn nonce(hex: &str) -> Expected {
    Expected::Nonce(data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap())
}

fn lax(profile: Profile) -> Policy {
    let mut policy = Policy::named(profile);
    policy.gpu.require_fwid = false;
    policy
}

fn with(policy: Policy, files: &[&str]) -> Verifier {
    let mut verifier = Verifier::new(policy);
    for file in files {
        verifier.add(file, &evidence(file)).unwrap();
    }
    verifier
}

fn recorded(folder: &str) -> Bundle {
    let path = format!("{}/tests/evidence/{folder}", env!("CARGO_MANIFEST_DIR"));
    crate::source::Folder::new(path).collect(&report_data(0)).unwrap()
}

fn codes(appraisal: &Appraisal) -> Vec<Code> {
    appraisal.refusals.iter().map(|refusal| refusal.code).collect()
}

/// A maker's devices and a verifier that takes them.
struct Made {
    maker: Maker,
    verifier: Verifier,
}

impl Made {
    fn new(policy: Policy) -> Self {
        let maker = Maker::new().unwrap();
        let mut verifier = Verifier::new(Policy { allow_simulated: true, ..policy });
        for root in [maker.device_root(), maker.rim_root()] {
            verifier.add("root", root.der()).unwrap();
        }
        Self { maker, verifier }
    }

    fn device(&mut self, model: Model) -> Simulated {
        let device = self.maker.device(model).unwrap();
        let driver = device.driver.is_some().then(|| device.driver_values());
        for values in driver.into_iter().chain([device.vbios_values()]) {
            self.verifier.add("rim", &self.maker.reference(&values).unwrap()).unwrap();
        }
        device
    }

    fn appraise(&self, devices: &[&Simulated]) -> Appraisal {
        let data = report_data(7);
        let piece = |device: &&Simulated| {
            let kind = if device.model().family.is_switch() {
                Kind::NvidiaSwitch
            } else {
                Kind::NvidiaGpu
            };
            let certificates = device.certificates().to_vec();
            let report = device.report(&data.for_gpu()).unwrap();
            Evidence { certificates, ..Evidence::new(kind, report) }
        };
        let bundle = Bundle(devices.iter().map(piece).collect());
        self.verifier.appraise(&bundle, &Expected::Data(data), at(NOW))
    }
}

#[test]
fn recorded_evidence_of_a_gpu_is_a_warning_under_its_profile() {
    let verifier = with(lax(Profile::GpuOnly), &[DRIVER, VBIOS]);
    let bundle = recorded("nvidia/gh100-545.00-PASS");
    let judge =
        |expected: &Expected| verifier.appraise(&bundle, expected, at("2023-10-01T00:00:00Z"));
    let appraisal = judge(&nonce(HOPPER));
    assert_eq!((appraisal.verdict, codes(&appraisal)), (Verdict::Warning, vec![]));
    assert_eq!(appraisal.kind, Some(Kind::NvidiaGpu));
    // The same evidence, sent again for another challenge.
    let replayed = judge(&Expected::Data(report_data(1)));
    assert_eq!(codes(&replayed), [Code::NonceMismatch]);
    assert_eq!(codes(&judge(&nonce(SAMPLE))), [Code::NonceMismatch]);
    // A challenge of another length is none that it could have answered.
    assert_eq!(codes(&judge(&Expected::Nonce(vec![0; 64]))), [Code::NonceMismatch]);
}

#[test]
fn evidence_of_every_kind_goes_to_its_verifier() {
    for (folder, kind, now) in [
        ("nvidia/gh100-545.00-PASS", Kind::NvidiaGpu, "2023-10-01T00:00:00Z"),
        ("nvidia/nvswitch-ls10-PASS", Kind::NvidiaSwitch, NOW),
        ("amd/milan-v2-PASS", Kind::Snp, "2024-01-01T00:00:00Z"),
        ("intel/tdx-v4-PASS", Kind::Tdx, "2025-06-20T00:00:00Z"),
        ("nvidia/nras", Kind::Nras, "2025-06-11T00:45:00Z"),
    ] {
        let verifier = Verifier::new(Policy::of_evidence(kind));
        let appraisal =
            verifier.appraise(&recorded(folder), &Expected::Data(report_data(1)), at(now));
        assert_eq!(appraisal.kind, Some(kind));
        assert!(codes(&appraisal).contains(&Code::NonceMismatch), "{folder}");
        let [device] = &appraisal.devices[..] else { panic!("{folder}") };
        let names: Vec<Name> = device.checks.iter().map(|check| check.name).collect();
        assert_eq!(names, Name::ALL, "{folder}");
    }
}

#[test]
fn a_switch_that_is_called_a_gpu_does_not_stand_for_one() {
    let mut bundle = recorded("nvidia/nvswitch-ls10-PASS");
    let rim = "nvidia/nvswitch-ls10-PASS/switch_rim_96105500.xml";
    let verifier = with(lax(Profile::GpuCc), &[rim]);
    bundle.0[0].kind = Kind::NvidiaGpu;
    let appraisal = verifier.appraise(&bundle, &nonce(SAMPLE), at("2026-06-01T00:00:00Z"));
    assert_eq!(appraisal.kind, None, "both kinds are named");
    assert!(codes(&appraisal).contains(&Code::UnsupportedArch));
    let missing = appraisal.refusals.iter().filter(|r| r.code == Code::DowngradeMissingKind);
    assert_eq!(missing.count(), 2, "neither a machine nor a GPU");
}

#[test]
fn evidence_that_is_not_there_is_refused() {
    for profile in Profile::ALL {
        let verifier = Verifier::new(Policy::named(profile));
        let appraisal =
            verifier.appraise(&Bundle::default(), &Expected::Data(report_data(1)), at(NOW));
        assert_eq!(appraisal.verdict, Verdict::Contraindicated);
        assert!(codes(&appraisal).iter().all(|code| *code == Code::DowngradeMissingKind));
    }
    // A GPU where the machine that it is in was asked for as well.
    let bundle = recorded("nvidia/gh100-545.00-PASS");
    let verifier = with(lax(Profile::GpuCc), &[DRIVER, VBIOS]);
    let appraisal = verifier.appraise(&bundle, &nonce(HOPPER), at("2023-10-01T00:00:00Z"));
    assert_eq!(codes(&appraisal), [Code::DowngradeMissingKind]);
}

#[test]
fn the_root_of_devices_in_software_is_taken_by_leave_of_policy_alone() {
    let software = Software::new().unwrap();
    let mut verifier = Verifier::new(Policy::named(Profile::GpuOnly));
    let root = &software.files()[0].1;
    assert_eq!(verifier.add("root", root).unwrap_err().code, Code::SimulatedNotAllowed);
    let data = report_data(1);
    let bundle = software.collect(&data).unwrap();
    let appraisal = verifier.appraise(&bundle, &Expected::Data(data), at(NOW));
    assert!(codes(&appraisal).contains(&Code::ChainUntrusted));
    // In whatever order files come, and in PEM.
    let mut allowed = Policy::named(Profile::GpuOnly);
    allowed.allow_simulated = true;
    let mut verifier = Verifier::new(allowed);
    for (name, file) in software.files().iter().rev() {
        let file = match name.ends_with(".der") {
            true => pem("CERTIFICATE", file),
            false => file.clone(),
        };
        verifier.add(name, &file).unwrap();
    }
    let appraisal = verifier.appraise(&bundle, &Expected::Data(data), at(NOW));
    assert_eq!((appraisal.verdict, codes(&appraisal)), (Verdict::Warning, vec![]));
    assert!(appraisal.devices[0].simulated);
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let text = data_encoding::BASE64.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n").into_bytes()
}

#[test]
fn a_reference_that_does_not_hold_is_refused_with_the_evidence_and_once() {
    let mut made = Made::new(Policy::named(Profile::GpuOnly));
    let (one, other) = (made.device(Model::hopper()), made.device(Model::blackwell()));
    assert_eq!(codes(&made.appraise(&[&one, &other])), []);
    made.verifier.add("bad", b"<r/>").unwrap();
    let appraisal = made.appraise(&[&one, &other]);
    assert_eq!(codes(&appraisal), [Code::RimSignature]);
    assert!(appraisal.refusals[0].detail.starts_with("bad: "));
}

#[test]
fn references_that_policy_names_by_their_digest_need_no_dates() {
    let mut policy = lax(Profile::GpuOnly);
    for file in [DRIVER, VBIOS] {
        policy.gpu.rim_pins.push(policy::Hex(privet_crypto::Digest::of(&evidence(file)).0));
    }
    let bundle = recorded("nvidia/gh100-545.00-PASS");
    let judge = |policy| {
        let appraisal = with(policy, &[DRIVER, VBIOS]).appraise(&bundle, &nonce(HOPPER), at(NOW));
        codes(&appraisal)
    };
    assert_eq!(judge(policy), []);
    assert_eq!(judge(lax(Profile::GpuOnly)), [Code::RimExpired; 2]);
}

#[test]
fn floors_of_driver_and_firmware_are_kept() {
    let bundle = recorded("nvidia/gh100-545.00-PASS");
    let judge = |driver: &str, vbios: &str| {
        let mut policy = lax(Profile::GpuOnly);
        policy.gpu.driver_floor = Some(driver.into());
        policy.gpu.vbios_floor = Some(vbios.into());
        let verifier = with(policy, &[DRIVER, VBIOS]);
        codes(&verifier.appraise(&bundle, &nonce(HOPPER), at("2023-10-01T00:00:00Z")))
    };
    assert_eq!(judge("545.00", "96.00.5E.00.01"), []);
    assert_eq!(judge("550.90.07", "96.00.9F.00.01"), [Code::DriverBelowFloor; 2]);
}

#[test]
fn one_device_is_not_two() {
    let mut made = Made::new(Policy::named(Profile::GpuOnly));
    let (one, other) = (made.device(Model::hopper()), made.device(Model::blackwell()));
    assert_eq!(codes(&made.appraise(&[&one, &other])), []);
    assert_eq!(codes(&made.appraise(&[&one, &other, &one])), [Code::DuplicateDevice]);
}

#[test]
fn a_gpu_comes_with_the_switches_that_it_names() {
    let mut policy = Policy::named(Profile::GpuOnly);
    policy.gpu.mode = Some(Mode::ProtectedPcie);
    let mut made = Made::new(policy);
    let (mut gpu, mut switch) = (made.device(Model::hopper()), made.device(Model::switch()));
    (gpu.mode, gpu.pdis) = (Some(Mode::ProtectedPcie), vec![[8, 7, 6, 5, 4, 3, 2, 1]]);
    switch.pdis = vec![[1, 2, 3, 4, 5, 6, 7, 8]];
    assert_eq!(codes(&made.appraise(&[&gpu, &switch])), []);
    assert_eq!(codes(&made.appraise(&[&gpu])), [Code::MixedModes]);
    gpu.mode = Some(Mode::SinglePassthrough);
    assert_eq!(codes(&made.appraise(&[&gpu])), [Code::MixedModes]);
}

#[test]
fn revoked_certificates_of_devices_and_of_signers_are_refused() {
    let dates = Dates { from: (2026, 11, 20), to: (2026, 12, 20) };
    for mode in [RevocationMode::Soft, RevocationMode::Hard] {
        let mut policy = Policy::named(Profile::GpuOnly);
        policy.revocation.mode = mode;
        let mut made = Made::new(policy);
        let device = made.device(Model::hopper());
        let serial =
            |der: &[u8]| crate::x509::Certificate::from_der(der).unwrap().serial().to_vec();
        let identity = serial(&device.certificates()[2]);
        let signer = serial(made.verifier.references.rims()[0].chain().certificates()[0].der());
        for (revoked, reason, expected) in [
            (&identity, None, Code::CertRevoked),
            (&signer, None, Code::CertRevoked),
            (&signer, Some(RevocationReason::CertificateHold), Code::CertOnHold),
        ] {
            let lists = made.maker.revocation_lists(&[(revoked, reason)], dates).unwrap();
            made.verifier.lists = Lists::default();
            made.verifier.add("list", &lists[0]).unwrap();
            made.verifier.add("list", &pem("X509 CRL", &lists[1])).unwrap();
            let mut found = codes(&made.appraise(&[&device]));
            // Of the authorities below the root nothing is known.
            let silent = found.iter().filter(|code| **code == Code::RevocationUnknown).count();
            assert_eq!(silent, usize::from(mode == RevocationMode::Hard));
            found.retain(|code| *code != Code::RevocationUnknown);
            assert_eq!(found, [expected]);
        }
    }
}

#[test]
fn where_policy_wants_to_know_of_revocation_silence_is_refused() {
    let mut policy = lax(Profile::GpuOnly);
    policy.revocation.mode = RevocationMode::Hard;
    let bundle = recorded("nvidia/gh100-545.00-PASS");
    let verifier = with(policy, &[DRIVER, VBIOS]);
    let appraisal = verifier.appraise(&bundle, &nonce(HOPPER), at("2023-10-01T00:00:00Z"));
    assert_eq!(codes(&appraisal), [Code::RevocationUnknown]);
    let detail = &appraisal.refusals[0].detail;
    for name in ["GH100 A01 GSP FMC LF", "GH100 Identity", "HCC RIM L4 Signer"] {
        assert!(detail.contains(name), "{detail}");
    }
}

#[test]
fn keys_of_a_service_are_handed_in_and_none_is_built_in() {
    let bundle = recorded("nvidia/nras");
    let challenge = nonce(SAMPLE);
    let mut verifier = Verifier::new(Policy::of_evidence(Kind::Nras));
    let judge =
        |verifier: &Verifier| verifier.appraise(&bundle, &challenge, at("2025-06-11T00:45:00Z"));
    assert!(codes(&judge(&verifier)).iter().all(|code| *code == Code::ChainUntrusted));
    let keys = "nvidia/nras/recovered_jwks.json";
    verifier.add(keys, &evidence(keys)).unwrap();
    assert_eq!((judge(&verifier).verdict, codes(&judge(&verifier))), (Verdict::Warning, vec![]));
    assert_eq!(verifier.add(keys, &evidence(keys)).unwrap_err().code, Code::Malformed);
}

#[test]
fn collateral_is_taken_from_files_where_the_quote_came_without_or_with_an_old_one() {
    let mut bundle = recorded("intel/tdx-v4-PASS");
    let quote = bundle.0[0].body.clone();
    let data = quote[48 + 520..48 + 584].to_vec();
    let (own, strange) =
        ("intel/tdx-v4-PASS/collateral.json", "intel/tdx-v5-OUTDATED/collateral.json");
    let judge = |bundle: &Bundle, files: &[&str]| {
        let verifier = with(Policy::named(Profile::Tdx), files);
        codes(&verifier.appraise(
            bundle,
            &Expected::Nonce(data.clone()),
            at("2025-06-20T00:00:00Z"),
        ))
    };
    assert_eq!(judge(&bundle, &[]), []);
    let came = bundle.0[0].collateral.take();
    assert_eq!(judge(&bundle, &[]), [Code::TcbBelowFloor]);
    assert_eq!(judge(&bundle, &[strange, own]), []);
    assert_ne!(judge(&bundle, &[strange]), []);
    bundle.0[0].collateral = Some(evidence(strange));
    assert_eq!(judge(&bundle, &[own]), []);
    bundle.0[0].collateral = came;
    assert_eq!(judge(&bundle, &[strange]), []);
}

#[test]
fn a_machine_and_its_gpus_are_bound_to_one_report_data() {
    let mut made = Made::new(Policy::named(Profile::GpuCc));
    let device = made.device(Model::hopper());
    let data = report_data(7);
    let report = device.report(&data.for_gpu()).unwrap();
    let certificates = device.certificates().to_vec();
    let gpu = Evidence { certificates, ..Evidence::new(Kind::NvidiaGpu, report) };
    let snp = recorded("amd/milan-v2-PASS").0.remove(0);
    let bundle = Bundle(vec![gpu, snp]);
    let appraisal =
        made.verifier.appraise(&bundle, &Expected::Data(data), at("2024-01-01T00:00:00Z"));
    // The machine's report was made for another's challenge.
    assert_eq!(codes(&appraisal), [Code::NonceMismatch]);
    let gpu_answers = appraisal.devices.iter().filter(|device| device.holds(Name::Nonce));
    assert_eq!(gpu_answers.count(), 1);
    // Two challenges of a user's are no binding of one to the other.
    let appraisal = made.verifier.appraise(&bundle, &nonce(SAMPLE), at("2024-01-01T00:00:00Z"));
    assert!(codes(&appraisal).contains(&Code::KeyBindingMismatch));
}

#[test]
fn files_that_are_nothing_are_refused() {
    let mut verifier =
        Verifier::new(Policy { allow_simulated: true, ..Policy::named(Profile::GpuOnly) });
    let mut code = |bytes: &[u8]| verifier.add("file", bytes).map_err(|refusal| refusal.code);
    for bad in [
        &b""[..],
        b"text",
        b"{}",
        b"{\"keys\":1}",
        b"[]",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN",
        &[0x30, 0x80],
    ] {
        assert_eq!(code(bad), Err(Code::Malformed), "{}", String::from_utf8_lossy(bad));
    }
    assert_eq!(code(&vec![b'<'; (1 << 20) + 1]), Err(Code::TooLarge));
    assert_eq!(code(&evidence("intel/roots/pckcrl")), Ok(()));
    for file in ["ec-by-ca-good.der", "ec-list.der"] {
        let path = format!("{}/tests/fixtures/revocation/{file}", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(code(&std::fs::read(path).unwrap()), Ok(()), "{file}");
    }
}
