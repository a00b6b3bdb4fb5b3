//! Sealed jobs through the binary: what is opened, what is not, and who dies meanwhile.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use std::time::Duration;

use common::running::{Running, kill, long, rounds, wait_for};
use common::{Demo, SITES, by_site, codes};

const SEAL: &str =
    "protect = { scheme = \"threshold\", min-sites = 4, colluders = 1 }\nrequire = {";

fn sealed() -> Demo {
    let demo = Demo::default();
    demo.edit_sites(&SITES, "require = {", SEAL);
    demo
}

/// The budget is that of the sum, the noise a share, the model as good, and the receipts say so.
#[test]
fn a_sealed_job_trains_and_says_so() {
    let demo = sealed();
    demo.edit("job.toml", "[evaluation]", "[demand]\nsealed = true\n\n[evaluation]");
    let (exit, result) = demo.run(&[]);
    assert_eq!(exit, 0, "{}", result["error"]);
    assert_eq!(result["receipts"]["sealed"], true);
    assert_eq!(result["receipts"]["scheme"], "threshold");
    assert_eq!(result["sites"][0]["receipt"]["trust"], "ca-trusted");
    assert!(result["final"]["accuracy"].as_f64().unwrap() > 0.88, "{}", result["final"]);
    let dataset = &result["sites"][0]["datasets"][0];
    // zCDP of 20 rounds of z = 4.
    assert!((dataset["epsilon_spent"].as_f64().unwrap() - 5.378).abs() < 0.001, "{dataset}");
    let rounds = result["rounds"].as_array().unwrap();
    assert!(rounds.iter().all(|round| round["answered"].as_array().unwrap().len() == 5));
    let report = std::fs::read_to_string(demo.workspace().join("report.html")).unwrap();
    assert!(report.contains("saw sums over sites only"));
}

/// A job asks for sealing where the sites' rules are silent; a site may forbid that.
#[test]
fn a_job_may_ask_for_sealing() {
    let demo = Demo::default();
    let ask = "[protect]\nscheme = \"threshold\"\nmin-sites = 3\n\n[evaluation]";
    demo.edit("job.toml", "[evaluation]", ask);
    let (exit, result) = demo.run(&["--rounds", "2"]);
    assert_eq!((exit, &result["receipts"]["sealed"]), (0, &true.into()), "{}", result["error"]);
    // A site's noise is a share of the sum's only where its owner says so.
    let sigma = result["sites"][0]["receipt"]["sigma"].as_f64().unwrap();
    assert!((sigma - 2.0).abs() < 1e-5, "{sigma}");
    demo.edit("sites/north.toml", "require = {", "allow-job-protection = false\nrequire = {");
    let (exit, result) = demo.run(&["--rounds", "2"]);
    assert_eq!((exit, codes(&result)), (0, vec!["seal-refused".to_owned()]));
    assert_eq!(result["rounds"][0]["answered"].as_array().unwrap().len(), 4);
}

/// Changes what all sites' rules say of sealing.
fn sealed_by(protect: &str) -> Demo {
    let demo = Demo::default();
    demo.edit_sites(&SITES, "require = {", &format!("protect = {{ {protect} }}\nrequire = {{"));
    demo
}

/// Every site looks at every sum, and its log says so.
#[test]
fn sites_check_the_sums() {
    let demo = sealed_by("scheme = \"threshold\", min-sites = 4, verify = true");
    let (exit, result) = demo.run(&["--rounds", "3"]);
    assert_eq!(exit, 0, "{}", result["error"]);
    let rounds = result["rounds"].as_array().unwrap();
    assert!(rounds.iter().all(|round| round["verified"] == 5), "{rounds:?}");
    let log = demo.workspace().join("sites/north/audit.jsonl");
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("\"event\":\"verified\"").count(), 3);
}

/// Under one key of all sites: the same model as without a seal, opened by a site.
#[test]
#[cfg(feature = "tfhe")]
fn a_job_under_one_key_trains() {
    let demo = sealed_by("scheme = \"tfhe\", min-sites = 4, colluders = 0");
    let (exit, result) = demo.run(&[]);
    assert_eq!(exit, 0, "{}", result["error"]);
    assert_eq!(result["receipts"]["scheme"], "tfhe");
    assert_eq!(result["rounds"][19]["answered"].as_array().unwrap().len(), 5);
    assert!(result["final"]["accuracy"].as_f64().unwrap() > 0.88, "{}", result["final"]);
    // Any site has the key, so a site's noise stays whole.
    let sigma = result["sites"][0]["receipt"]["sigma"].as_f64().unwrap();
    assert!((sigma - 2.0).abs() < 1e-5, "{sigma}");
    // A site that would not say that it trusts all of them is told to.
    demo.edit("sites/north.toml", ", colluders = 0", "");
    let (exit, result) = demo.run(&["--rounds", "3"]);
    assert_eq!((exit, &result["error"]["code"]), (2, &"invalid".into()));
}

/// What cannot be had together is said before a job starts.
#[test]
fn terms_that_contradict_each_other_are_refused() {
    for (protect, code) in [
        ("scheme = \"threshold\", min-sites = 4, exact = false, verify = true", "invalid"),
        ("scheme = \"tfhe\", min-sites = 4, colluders = 0, exact = false", "invalid"),
        ("scheme = \"threshold\", min-sites = 4, survivors = \"some\"", "unknown-value"),
    ] {
        let (exit, result) = sealed_by(protect).run(&["--rounds", "2"]);
        assert_eq!((exit, &result["error"]["code"]), (2, &code.into()), "{}", result["error"]);
    }
}

/// Whole updates count by their sites' records under the seal as in the clear.
#[test]
fn updates_are_weighed_under_the_seal() {
    const CLIP: &str = "  { filter = \"clip\", l2 = 20.0 },\n]";
    let loss = |rule: &str| {
        let demo = by_site();
        demo.edit_sites(&SITES, "\n]", &format!("\n{CLIP}"));
        demo.edit_sites(&SITES, "require = {", &format!("{rule}\nrequire = {{"));
        let (exit, result) = demo.run(&["--rounds", "3"]);
        assert_eq!(exit, 0, "{}", result["error"]);
        result["final"]["loss"].as_f64().unwrap()
    };
    let protect = "protect = { scheme = \"threshold\", min-sites = 4 }";
    let (open, sealed) = (loss(""), loss(protect));
    let equal = loss(&format!("weight = \"equal\"\n{protect}"));
    // A step of the lattice is 2^-17 of the clip; the largest site has four times the smallest's records.
    assert!((open - sealed).abs() < 1e-3, "{open} {sealed}");
    assert!((open - equal).abs() > 2e-3, "{open} {equal}");
}

/// Approximate sums, over the same sites each time.
#[test]
fn approximate_sums_train_as_well() {
    let protect = "scheme = \"threshold\", min-sites = 4, exact = false, survivors = \"stable\"";
    let (exit, result) = sealed_by(protect).run(&["--rounds", "20"]);
    assert_eq!(exit, 0, "{}", result["error"]);
    assert!(result["final"]["accuracy"].as_f64().unwrap() > 0.88, "{}", result["final"]);
}

/// Other budgets are bought under the seal that the rules ask for.
#[test]
fn a_curve_is_bought_sealed() {
    let mut seals = vec!["scheme = \"threshold\", min-sites = 4"];
    if cfg!(feature = "tfhe") {
        seals.push("scheme = \"tfhe\", min-sites = 4, colluders = 0");
    }
    for protect in seals {
        let said = sealed_by(protect).privet(&["run", "demo/job-with-curve.toml", "--json"]);
        let result = said.json();
        assert_eq!(result.get("error"), None, "{protect}");
        let points = result["curve"].as_array().unwrap();
        assert_eq!((points.len(), result.get("curve_error")), (8, None), "{protect}");
        let accuracy = |point: &serde_json::Value| point["accuracy"].as_f64();
        assert!(points.iter().all(|point| accuracy(point).is_some()), "{points:?}");
    }
}

/// Sites that seal and sites that do not share no sum: whoever is enough goes on.
#[test]
fn a_mixed_federation_seals_or_leaves_out() {
    let demo = Demo::default();
    demo.edit_sites(&SITES[..4], "require = {", SEAL);
    let (exit, result) = demo.run(&["--rounds", "2"]);
    assert_eq!((exit, codes(&result)), (0, vec!["seal-refused".to_owned()]));
    assert_eq!(result["receipts"]["sealed"], true);
    assert_eq!(result["sites"][4]["rounds_answered"], 0);
    let demo = Demo::default();
    demo.edit("sites/north.toml", "require = {", SEAL);
    let (exit, result) = demo.run(&["--rounds", "2"]);
    assert_eq!((exit, codes(&result)), (0, vec!["seal-refused".to_owned()]));
    assert_eq!(result["receipts"]["sealed"], false);
    // What its rule would have sealed has not left.
    assert_eq!(result["sites"][2]["bytes_up"], 0);
}

/// Peers that are not pinned do not protect.
#[test]
fn pins_decide_who_counts() {
    let demo = sealed();
    let pins = format!("[peers]\npin = [\"sha256:{}\"]\n\n[dataset.breast]", "ab".repeat(32));
    demo.edit("sites/north.toml", "[dataset.breast]", &pins);
    let (exit, result) = demo.run(&["--rounds", "2"]);
    // North refuses what none of its pinned peers is in; the four others are enough.
    assert_eq!((exit, codes(&result)), (0, vec!["roster-unpinned".to_owned()]), "{result}");
    assert_eq!(result["rounds"][0]["answered"].as_array().unwrap().len(), 4);
}

/// What is sealed has every tensor and a proved bound.
#[test]
fn what_cannot_be_sealed_is_refused_before_it_starts() {
    let demo = sealed();
    let withhold = "{ filter = \"exclude-tensors\", names = [\"bias\"] }";
    demo.edit_sites(&SITES, "{ filter = \"schema\" }", withhold);
    let (exit, result) = demo.run(&["--rounds", "2"]);
    assert_eq!((exit, &result["error"]["code"]), (3, &"wrong-stage".into()), "{}", result["error"]);
    let demo = sealed();
    demo.edit_sites(&SITES, "\"threshold\"", "\"rot13\"");
    let (exit, result) = demo.run(&["--rounds", "2"]);
    assert_eq!((exit, &result["error"]["code"]), (2, &"unknown-value".into()));
}

/// One of five processes is killed: the round and the job go on. With the second, nothing opens any
/// more.
#[test]
fn one_killed_site_is_borne_and_two_are_not() {
    let demo = sealed();
    long(&demo);
    demo.edit("job.toml", "round-timeout = \"20s\"", "round-timeout = \"5s\"");
    let running = Running::start(&demo, &["--processes"]);
    wait_for("the third round", || rounds(&demo) > 3);
    kill(&demo.workspace().join("sites/west"));
    let seen = rounds(&demo);
    wait_for("rounds without it", || rounds(&demo) > seen + 10);
    kill(&demo.workspace().join("sites/east"));
    std::thread::sleep(Duration::from_millis(100));
    let (code, result) = running.end();
    assert_eq!((code, &result["error"]["code"]), (Some(1), &"too-few-sites".into()), "{result}");
    let last = result["rounds"].as_array().unwrap().last().unwrap();
    assert_eq!(last["answered"].as_array().unwrap().len(), 4, "{last}");
}

/// A server that dies and resumes opens the round anew, under another session.
#[test]
fn a_killed_server_resumes_a_sealed_job() {
    let demo = sealed();
    long(&demo);
    let running = Running::start(&demo, &["--processes"]);
    wait_for("the third round", || rounds(&demo) > 3);
    kill(&demo.workspace().join("server"));
    assert_eq!(running.wait(), Some(1));
    let seen = demo.run(&["--resume", "--rounds", "1"]).1["rounds_done"].as_u64().unwrap();
    let (code, result) = demo.run(&["--resume", "--rounds", &(seen + 3).to_string()]);
    assert_eq!((code, &result["rounds_done"]), (0, &(seen + 3).into()), "{}", result["error"]);
    assert_eq!(result["receipts"]["sealed"], true);
}

/// Updates of many blocks, and rounds of it; clipped alone, and with shares of noise.
#[test]
fn large_updates_are_sealed() {
    for chain in ["sealed", "dp+sealed"] {
        let args = ["bench", "fed", "--params", "20000", "--sites", "4", "--rounds", "2", "--json"];
        let demo = Demo::default();
        let said = demo.privet(&[&args[..], &["--chain", chain]].concat());
        assert_eq!(said.code, 0, "{}", said.stderr);
        let bytes = said.json()["bytes_up_per_param"].as_f64().unwrap();
        // Four bytes a number, a share for each peer, and at most one block that is not full.
        let most = if chain == "sealed" { 4.0 } else { 8.0 } + 1.8;
        assert!(bytes < most, "{chain}: {bytes}");
    }
}

/// A dry run shows what would be sealed, and what it would be worth.
#[test]
fn a_dry_run_looks_under_the_seal() {
    let demo = sealed();
    let args = ["policy", "dry-run", "demo/sites/north.toml", "--job", "demo/job.toml", "--json"];
    let run = demo.privet(&args).json();
    assert_eq!(run["decision"], "allowed", "{run}");
    assert!(run["after"]["l2"].as_f64().unwrap() > 0.0);
}

/// All that the contract names, of each scheme, and right: no error beyond what the bits allow.
#[test]
fn the_benchmark_says_what_it_measured() {
    let demo = Demo::default();
    let bench = |more: &[&str]| {
        let args = ["bench", "he", "--params", "30000", "--sites", "3", "--json"];
        let said = demo.privet(&[&args[..], more].concat());
        (said.code, said.json())
    };
    let schemes = ["threshold", "plain", if cfg!(feature = "tfhe") { "tfhe" } else { "plain" }];
    for scheme in schemes {
        let (code, measured) = bench(&["--scheme", scheme]);
        assert_eq!((code, &measured["scheme"]), (0, &scheme.into()));
        for key in [
            "encrypt_ns_per_param",
            "add_ns_per_param_per_site",
            "open_ns_per_param",
            "peak_rss_bytes",
        ] {
            assert!(measured[key].as_f64().unwrap() > 0.0, "{scheme} {key}");
        }
        let most = 0.6 * 2f64.powi(1 - measured["bits"].as_i64().unwrap() as i32);
        assert!(measured["max_abs_error"].as_f64().unwrap() < most, "{measured}");
        assert!(measured["rms_error"].as_f64() <= measured["max_abs_error"].as_f64());
        let wire = measured["wire_bytes_per_param"].as_f64().unwrap();
        assert!((3.9..5.2).contains(&wire), "{scheme} {wire}");
    }
    let (_, threshold) = bench(&["--bits", "12", "--threads", "2"]);
    assert_eq!((&threshold["exact"], &threshold["threads"]), (&true.into(), &2.into()));
    assert!(threshold["failure_log2"].as_f64().unwrap() <= -40.0, "{threshold}");
    assert!(threshold["security_bits"].as_u64().unwrap() >= 218);
    // Two peers, a share of 2048 or 4096 numbers of 17 bits for each.
    assert!(threshold["share_bytes_per_site"].as_u64().unwrap() >= 2 * 4352);
}

/// Where there is no GPU, or no code for one, that is said.
#[test]
fn a_gpu_that_is_not_there_is_refused_politely() {
    let demo = Demo::default();
    let said = demo.privet(&["bench", "he", "--params", "3000", "--gpu", "--json"]);
    if said.code != 0 {
        assert_eq!((said.code, &said.json()["error"]["code"]), (3, &"not-built".into()));
    }
}
