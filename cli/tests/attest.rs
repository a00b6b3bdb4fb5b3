//! `privet attest` over recorded evidence: each file gives what an independent check of it gave.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;
#[path = "attest/recorded.rs"]
mod recorded;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use common::{Said, privet_in, repository};
use privet::cc_attest::binding::{Binding, Role};
use privet::cc_attest::sim::Software;
use privet::cc_attest::source::Source as _;
use serde_json::{Value, json};

const HOPPER: &str = "4cff7f5380ead8fad8ec2c531c110aca4302a88f603792801a8ca29ee151af2e";
const SAMPLE: &str = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";
const OLD: &str = "27a328247bf7935c993341cf587be6f05986ccce4fe7ba2c54100bd616a58f66";
const IN_2023: &str = "2023-10-01T00:00:00Z";
const IN_2026: &str = "2026-06-01T00:00:00Z";
const DRIVER: &str = "nvidia/gh100-545.00-PASS/driver_rim_545.00.xml";
const VBIOS: &str = "nvidia/gh100-545.00-PASS/vbios_rim_1010_0200_882_96005E0001.xml";
const SWITCH: &str = "nvidia/nvswitch-ls10-PASS/switch_rim_96105500.xml";
const KEYS: &str = "nvidia/nras/recovered_jwks.json";

fn folder() -> PathBuf {
    repository().join("cc-attest/tests/evidence")
}

fn file(path: &str) -> Vec<u8> {
    std::fs::read(folder().join(path)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The report data of an SNP report, and of a quote.
fn report_data(path: &str) -> String {
    let bytes = file(path);
    let at = match (path.starts_with("amd"), bytes[0]) {
        (true, _) => 0x50,
        (false, 5) => 48 + 6 + 520,
        (false, _) => 48 + 520,
    };
    hex(&bytes[at..at + 64])
}

fn verify_in(folder: &Path, evidence: &str, nonce: &str, more: &[&str]) -> Said {
    let mut args = vec!["attest", "verify", "--json", "--evidence", evidence, "--nonce", nonce];
    args.extend(more);
    privet_in(folder, &args)
}

fn verify(evidence: &str, nonce: &str, more: &[&str]) -> Said {
    verify_in(&folder(), evidence, nonce, more)
}

fn codes(document: &Value) -> Vec<String> {
    let codes = document["refusals"].as_array().unwrap().iter();
    codes.map(|refusal| refusal["code"].as_str().unwrap().to_owned()).collect()
}

/// The document has the form of the contract, and its exit code says its verdict.
fn shaped(said: &Said) -> Value {
    let document = said.json();
    let keys: BTreeSet<&str> = document.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(["verdict", "kind", "devices", "refusals"]), "{document}");
    let good = matches!(document["verdict"].as_str().unwrap(), "affirming" | "warning");
    assert_eq!(said.code, if good { 0 } else { 5 }, "{document}");
    assert_eq!(good, codes(&document).is_empty(), "{document}");
    for device in document["devices"].as_array().unwrap() {
        for key in ["arch", "hwmodel", "driver", "vbios", "ueid"] {
            assert!(device[key].is_string() || device[key].is_null(), "{key}");
        }
        let checks = device["checks"].as_array().unwrap();
        let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
        let all = [
            "nonce",
            "chain",
            "signature",
            "fwid",
            "rim-driver",
            "rim-vbios",
            "measurements",
            "revocation",
            "mode",
        ];
        assert_eq!(names, all);
        for check in checks {
            assert!(check["ok"].is_boolean() || check["ok"].is_null());
            assert!(check["detail"].is_string());
        }
    }
    document
}

#[test]
fn what_is_no_evidence_has_no_verdict() {
    let temporary = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = temporary.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let report = file("nvidia/gh100-545.00-PASS/report.bin");
    let chain = folder().join("nvidia/gh100-545.00-PASS/chain.pem").display().to_string();
    let changed = |at: usize, value: u8| {
        let mut bytes = report.clone();
        bytes[at] = value;
        bytes
    };
    for (bytes, code) in [
        (b"text".to_vec(), "Malformed"),
        (Vec::new(), "Malformed"),
        (b"{\"nvidia\": 1}".to_vec(), "Malformed"),
        (vec![0; (1 << 20) + 1], "TooLarge"),
        (report[..4000].to_vec(), "Malformed"),
        ([&report[..], &[1]].concat(), "TrailingData"),
        (changed(0, 0x12), "WrongSpdmVersion"),
        (changed(3611, 6), "DuplicateOpaque"),
    ] {
        let path = write("evidence", &bytes);
        let readable = bytes.len() > 100 && bytes.len() < 8000;
        let more = if readable { vec!["--chain", chain.as_str()] } else { vec![] };
        let document = shaped(&verify(&path, HOPPER, &more));
        assert_eq!(
            (document["verdict"].as_str(), codes(&document)),
            (Some("none"), vec![code.to_owned()])
        );
    }
}

#[test]
fn mistakes_of_the_user_are_told_as_such() {
    let report = "nvidia/gh100-545.00-PASS/report.bin";
    let chain = ["--chain", "nvidia/gh100-545.00-PASS/chain.pem"];
    let temporary = tempfile::tempdir().unwrap();
    let policy = |text: &str| {
        let path = temporary.path().join("policy.toml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let usage = |said: Said| {
        assert_eq!(said.code, 2, "{}", said.stdout);
        said.json()["error"]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(usage(verify("no-such-file", HOPPER, &[])), "unreadable");
    assert_eq!(usage(verify(report, "@no-such-file", &chain)), "unreadable");
    assert_eq!(usage(verify(report, "xyz", &chain)), "usage");
    assert_eq!(usage(verify(report, &HOPPER[1..], &chain)), "usage");
    assert_eq!(usage(verify(report, &HOPPER.repeat(2), &chain)), "usage");
    assert_eq!(usage(verify(report, HOPPER, &["--at", "yesterday"])), "usage");
    assert_eq!(usage(verify(report, HOPPER, &["--revocation", report])), "unreadable");
    assert_eq!(usage(verify(report, HOPPER, &["--keys", DRIVER, "--chain", "none"])), "unreadable");
    let file = policy("profile = \"gpu-only\"\n[gpu]\nrequire-rim = false\n");
    let said = verify(report, HOPPER, &["--policy", &file]);
    assert_eq!((said.code, &said.json()["error"]["line"]), (2, &json!(3)), "{}", said.stdout);
    let file = policy("profile = \"gpu-only\"\n[gpu]\ndriver-floor = \"latest\"\n");
    assert_eq!(usage(verify(report, HOPPER, &["--policy", &file])), "invalid-policy");
}

#[test]
fn a_policy_asks_for_more() {
    let temporary = tempfile::tempdir().unwrap();
    let judge = |policy: &str| {
        let path = temporary.path().join("policy.toml");
        std::fs::write(&path, policy).unwrap();
        let path = path.display().to_string();
        let more = [
            "--chain",
            "nvidia/gh100-545.00-PASS/chain.pem",
            "--rim",
            DRIVER,
            "--rim",
            VBIOS,
            "--at",
            IN_2023,
            "--policy",
            &path,
        ];
        codes(&shaped(&verify("nvidia/gh100-545.00-PASS/report.bin", HOPPER, &more)))
    };
    let lax = "[gpu]\nrequire-fwid = false\n";
    assert_eq!(judge(&format!("profile = \"gpu-only\"\n{lax}")), Vec::<String>::new());
    assert_eq!(judge("profile = \"gpu-only\"\n"), ["FwidAbsent"]);
    // The machine that the GPU is in was asked for as well.
    assert_eq!(judge(&format!("profile = \"gpu-cc\"\n{lax}")), ["DowngradeMissingKind"]);
    let floor = format!("profile = \"gpu-only\"\n{lax}driver-floor = \"550.90.07\"\n");
    assert_eq!(judge(&floor), ["DriverBelowFloor"]);
    let hard = format!("profile = \"gpu-only\"\n{lax}[revocation]\nmode = \"hard\"\n");
    assert_eq!(judge(&hard), ["RevocationUnknown"]);
    let mode = format!("profile = \"gpu-only\"\n{lax}mode = \"spt\"\n");
    assert_eq!(judge(&mode), ["MixedModes"]);
}

/// Base64 as NVIDIA's tools write it.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            (0..3).fold(0u32, |word, at| word << 8 | u32::from(*chunk.get(at).unwrap_or(&0)));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize] as char;
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

/// A list as NVIDIA's tools write it, whose `nonce` is whatever its maker wrote.
fn list(names: &[&str], nonce: &str) -> Vec<u8> {
    let item = |name: &&str| {
        json!({
            "arch": if name.starts_with("gh") { "HOPPER" } else { "LS10" },
            "nonce": nonce,
            "evidence": base64(&file(&format!("nvidia/{name}/report.bin"))),
            "certificate": base64(&file(&format!("nvidia/{name}/chain.pem"))),
        })
    };
    serde_json::to_vec(&names.iter().map(item).collect::<Vec<_>>()).unwrap()
}

#[test]
fn lists_of_devices_are_read_and_the_nonce_in_them_is_not_believed() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("evidence.json");
    let judge = |bytes: &[u8], nonce: &str| {
        std::fs::write(&path, bytes).unwrap();
        let path = path.display().to_string();
        shaped(&verify(&path, nonce, &["--rim", DRIVER, "--rim", VBIOS, "--at", IN_2023]))
    };
    let one = judge(&list(&["gh100-545.00-PASS"], HOPPER), HOPPER);
    assert_eq!(one["verdict"], "warning", "{one}");
    // A prover that chose its own nonce, and says that it was asked for that one.
    let chosen = judge(&list(&["gh100-545.00-PASS"], SAMPLE), SAMPLE);
    assert_eq!(codes(&chosen), ["NonceMismatch"]);
    let said_wrong = judge(&list(&["gh100-545.00-PASS"], SAMPLE), HOPPER);
    assert_eq!(said_wrong["verdict"], "warning");
    let twice = judge(&list(&["gh100-545.00-PASS", "gh100-545.00-PASS"], HOPPER), HOPPER);
    assert_eq!(codes(&twice), ["DuplicateDevice"]);
    assert_eq!(twice["devices"].as_array().unwrap().len(), 2);
    assert_eq!(codes(&judge(b"[]", HOPPER)), ["DowngradeMissingKind"]);
}

#[test]
fn a_machine_and_its_gpu_must_be_bound_to_one_challenge() {
    let temporary = tempfile::tempdir().unwrap();
    let machine = json!({
        "nvidia": serde_json::from_slice::<Value>(&list(&["gh100-545.00-PASS"], HOPPER)).unwrap(),
        "snp": {
            "report": base64(&file("amd/milan-v2-PASS/report.bin")),
            "certificates": [base64(&file("amd/milan-v2-PASS/vcek.der"))],
        },
    });
    let path = temporary.path().join("machine.json");
    std::fs::write(&path, machine.to_string()).unwrap();
    let path = path.display().to_string();
    // 48 bytes and 16 zeros, of which the challenge of the GPU is made.
    let nonce = format!("{}{}", "11".repeat(48), "00".repeat(16));
    let said = verify(&path, &nonce, &["--rim", DRIVER, "--rim", VBIOS, "--at", IN_2023]);
    let document = shaped(&said);
    assert_eq!(codes(&document), ["NonceMismatch", "NonceMismatch"]);
    assert_eq!(document["kind"], Value::Null);
    let said = verify(&path, &"11".repeat(64), &[]);
    assert_eq!(said.code, 2, "{}", said.stdout);
}

/// Tokens as nobody signed them.
#[test]
fn a_token_that_is_not_signed_by_a_key_that_was_handed_in_is_refused() {
    let text = String::from_utf8(file("nvidia/nras/gpu_detached_eat.json")).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let judge = |text: &str, more: &[&str]| {
        let path = temporary.path().join("token.json");
        std::fs::write(&path, text).unwrap();
        let mut all = vec!["--at", "2025-06-11T00:45:00Z"];
        all.extend(more);
        codes(&shaped(&verify(&path.display().to_string(), SAMPLE, &all)))
    };
    assert_eq!(judge(&text, &["--keys", KEYS]), Vec::<String>::new());
    // No key is built in, and none comes with a token.
    assert!(judge(&text, &[]).contains(&"ChainUntrusted".to_owned()));
    let document: Value = serde_json::from_str(&text).unwrap();
    let unsigned = |token: &str| {
        let (signed, _) = token.rsplit_once('.').unwrap();
        let (_, claims) = signed.split_once('.').unwrap();
        // {"alg":"none"}
        format!("eyJhbGciOiJub25lIn0.{claims}.")
    };
    let mut changed = document.clone();
    changed[0][1] = json!(unsigned(document[0][1].as_str().unwrap()));
    let found = judge(&changed.to_string(), &["--keys", KEYS]);
    assert!(found.contains(&"SignatureInvalid".to_owned()), "{found:?}");
    let mut changed = document.clone();
    changed[1]["GPU-0"] = json!(unsigned(document[1]["GPU-0"].as_str().unwrap()));
    let found = judge(&changed.to_string(), &["--keys", KEYS]);
    assert!(found.contains(&"SignatureInvalid".to_owned()), "{found:?}");
}

/// Evidence of a device in software with what a verifier needs, in a folder.
fn software(folder: &Path) -> (String, Vec<String>) {
    let software = Software::new().unwrap();
    let binding = Binding {
        role: Role::Site,
        challenge: [1; 32],
        own_key: [2; 32],
        peer_key: [3; 32],
        exporter: [4; 32],
        job: "",
    };
    let data = binding.report_data();
    let bundle = software.collect(&data).unwrap();
    std::fs::write(folder.join("report.bin"), &bundle.0[0].body).unwrap();
    std::fs::write(folder.join("chain.der"), bundle.0[0].certificates.concat()).unwrap();
    let mut more = vec!["--chain".to_owned(), "chain.der".to_owned()];
    for (name, bytes) in software.files() {
        std::fs::write(folder.join(name), bytes).unwrap();
        let option = if name.ends_with(".xml") { "--rim" } else { "--simulated-root" };
        more.extend([option.to_owned(), name.clone()]);
    }
    (hex(&data.for_gpu()), more)
}

#[test]
fn a_device_in_software_passes_where_policy_allows_it_and_never_affirms() {
    let temporary = tempfile::tempdir().unwrap();
    let (nonce, more) = software(temporary.path());
    let mut more: Vec<&str> = more.iter().map(String::as_str).collect();
    let refused = shaped(&verify_in(temporary.path(), "report.bin", &nonce, &more));
    assert!(codes(&refused).contains(&"SimulatedNotAllowed".to_owned()), "{refused}");
    assert!(codes(&refused).contains(&"ChainUntrusted".to_owned()), "{refused}");
    let policy = "profile = \"gpu-only\"\nallow-simulated = true\n";
    std::fs::write(temporary.path().join("policy.toml"), policy).unwrap();
    more.extend(["--policy", "policy.toml"]);
    let allowed = shaped(&verify_in(temporary.path(), "report.bin", &nonce, &more));
    assert_eq!(allowed["verdict"], "warning", "{allowed}");
    assert_eq!(allowed["devices"][0]["simulated"], true);
    // The same evidence again, for another challenge.
    let replayed = shaped(&verify_in(temporary.path(), "report.bin", &"22".repeat(32), &more));
    assert_eq!(codes(&replayed), ["NonceMismatch"]);
}

#[test]
fn people_see_what_passed_what_was_skipped_and_what_to_do() {
    let args = |nonce: &'static str| {
        [
            "attest",
            "verify",
            "--evidence",
            "nvidia/gh100-545.00-PASS/report.bin",
            "--chain",
            "nvidia/gh100-545.00-PASS/chain.pem",
            "--nonce",
            nonce,
            "--rim",
            DRIVER,
            "--rim",
            VBIOS,
            "--at",
            IN_2023,
        ]
    };
    let said = privet_in(&folder(), &args(HOPPER));
    assert_eq!(said.code, 0);
    for text in [
        "✓ passed   signature",
        "– skipped  fwid",
        "not proven:",
        "which machine",
        "verdict  warning",
    ] {
        assert!(said.stdout.contains(text), "{text}\n{}", said.stdout);
    }
    let said = privet_in(&folder(), &args(SAMPLE));
    assert_eq!(said.code, 5);
    for text in [
        "✗ refused  nonce",
        "✗ refused[NonceMismatch]",
        "help:  collect fresh evidence",
        "contraindicated",
    ] {
        assert!(said.stdout.contains(text), "{text}\n{}", said.stdout);
    }
}

#[test]
fn every_field_is_shown_with_its_place() {
    let show = |path: &str| privet_in(&folder(), &["attest", "show", path, "--json"]);
    for (path, kind, offset, name, value) in [
        ("nvidia/gh100-545.00-PASS/report.bin", "nvidia-gpu", 4, "challenge", HOPPER),
        ("amd/milan-DEBUG/report.bin", "snp", 8, "guest policy", "0xb0000: debug allowed"),
        ("intel/tdx-v4-DEBUG/quote.bin", "tdx", 168, "TD attributes", "0100001000000000"),
        ("nvidia/nras/gpu_detached_eat.json", "nras", 149, "overall: claim exp", "1749605458"),
    ] {
        let document = show(path).json();
        assert_eq!(document["pieces"][0]["kind"], kind);
        let fields = document["pieces"][0]["fields"].as_array().unwrap();
        let field = fields.iter().find(|field| field["name"] == name).unwrap();
        assert_eq!((&field["offset"], &field["value"]), (&json!(offset), &json!(value)), "{path}");
        assert!(field["length"].as_u64().unwrap() > 0);
        let said = privet_in(&folder(), &["attest", "show", path]);
        assert!(said.code == 0 && said.stdout.contains(name), "{}", said.stdout);
    }
    let said = show(DRIVER);
    assert_eq!((said.code, &said.json()["error"]["code"]), (5, &json!("Malformed")));
    assert_eq!(show("no-such-file").code, 2);
}

/// Flipped bits of recorded evidence, over all of each file.
#[test]
fn some_flipped_bits_are_refused() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("flipped.bin");
    let milan = report_data("amd/milan-v2-PASS/report.bin");
    let cases: [(&str, &str, &[&str]); 3] = [
        (
            "nvidia/gh100-545.00-PASS/report.bin",
            HOPPER,
            &[
                "--chain",
                "nvidia/gh100-545.00-PASS/chain.pem",
                "--rim",
                DRIVER,
                "--rim",
                VBIOS,
                "--at",
                IN_2023,
            ],
        ),
        (
            "nvidia/nvswitch-ls10-PASS/report.bin",
            SAMPLE,
            &["--chain", "nvidia/nvswitch-ls10-PASS/chain.pem", "--rim", SWITCH, "--at", IN_2026],
        ),
        (
            "amd/milan-v2-PASS/report.bin",
            &milan,
            &["--chain", "amd/milan-v2-PASS/vcek.der", "--at", "2024-01-01T00:00:00Z"],
        ),
    ];
    for (evidence, nonce, more) in cases {
        let genuine = file(evidence);
        for bit in (3..8 * genuine.len()).step_by(8 * genuine.len() / 12) {
            let mut bytes = genuine.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &bytes).unwrap();
            let said = verify(&path.display().to_string(), nonce, more);
            // What is no evidence of any kind any more may be one whose challenge is of another length.
            assert!([2, 5].contains(&said.code), "{evidence} bit {bit}: {}", said.stdout);
            if said.code == 5 {
                shaped(&said);
            }
        }
    }
}
