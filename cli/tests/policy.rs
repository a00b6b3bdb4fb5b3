//! `privet policy`, `filters`, `audit`: what people look at.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::{Demo, SITES};

const NORTH: [&str; 4] = ["demo/sites/north.toml", "--job", "demo/job.toml", "--json"];

fn policy(demo: &Demo, verb: &str, more: &[&str]) -> (i32, serde_json::Value) {
    let mut args = vec!["policy", verb];
    args.extend(NORTH);
    args.extend(more);
    let said = demo.privet(&args);
    (said.code, said.json())
}

#[test]
fn explain_says_allowed_refused_and_running_out() {
    let demo = Demo::default();
    let (code, letter) = policy(&demo, "explain", &[]);
    assert_eq!((code, &letter["decision"]), (0, &"allowed".into()));
    assert_eq!((&letter["rule"], &letter["line"]), (&"train".into(), &14.into()));
    let privacy = &letter["privacy"][0];
    assert!((privacy["epsilon"].as_f64().unwrap() - 4.9833).abs() < 1e-3);
    assert_eq!((&privacy["refused_from_round"], &privacy["view"]), (&28.into(), &"local".into()));
    assert_eq!(letter["leaves"].as_array().unwrap().len(), 2);
    assert!(letter["text"].as_str().unwrap().lines().all(|line| line.chars().count() <= 80));
    assert!(!letter["not_covered"].as_array().unwrap().is_empty());

    demo.edit("sites/north.toml", "rounds-max = 24", "rounds-max = 100");
    let (code, letter) = policy(&demo, "explain", &["--rounds", "28"]);
    assert_eq!((code, &letter["decision"]), (4, &"allowed".into()));
    demo.edit("sites/north.toml", "rounds-max = 100", "rounds-max = 19");
    let (code, letter) = policy(&demo, "explain", &[]);
    assert_eq!((code, &letter["decision"]), (3, &"refused".into()));
    assert_eq!(letter["refusal"]["code"], "rounds-max");
}

/// What a site has spent already counts.
#[test]
fn explain_knows_what_a_site_has_spent() {
    let demo = Demo::default();
    assert_eq!(demo.run(&[]).0, 0);
    let folder = demo.workspace().join("sites/north");
    let (code, letter) = policy(&demo, "explain", &["--site-dir", folder.to_str().unwrap()]);
    let privacy = &letter["privacy"][0];
    assert_eq!((code, &privacy["refused_from_round"]), (4, &8.into()));
    assert!((privacy["spent"].as_f64().unwrap() - 4.9833).abs() < 1e-3);
    // A budget that its owner has lowered since is the one that holds.
    let text = std::fs::read_to_string(demo.path("sites/north.toml")).unwrap();
    std::fs::write(demo.path("sites/north.toml"), text.replace("epsilon = 6.0", "epsilon = 4.0"))
        .unwrap();
    let lowered = policy(&demo, "explain", &["--site-dir", folder.to_str().unwrap()]);
    assert_eq!((lowered.0, &lowered.1["privacy"][0]["refused_from_round"]), (4, &1.into()));
    std::fs::write(demo.path("sites/north.toml"), text).unwrap();
    // Looking spends nothing.
    let again = policy(&demo, "explain", &["--site-dir", folder.to_str().unwrap()]);
    assert_eq!(again.1["privacy"], letter["privacy"]);
}

#[test]
fn a_dry_run_shows_what_would_be_left_of_an_update() {
    let demo = Demo::default();
    let (code, run) = policy(&demo, "dry-run", &[]);
    assert_eq!((code, &run["decision"]), (0, &"allowed".into()));
    assert_eq!(run["before"]["params"], 31);
    // Noise of σ = 2 on each of 31 numbers.
    assert!(run["after"]["l2"].as_f64().unwrap() > 5.0);
    assert!((run["epsilon"].as_f64().unwrap() - 0.926).abs() < 1e-2);
    assert!(!demo.folder().join("workspace").exists());
    // A file proves no record's share: the gate refuses it as it would an executor's.
    assert_eq!(demo.run(&["--rounds", "1"]).0, 0);
    let model = demo.workspace().join("model.safetensors");
    let (code, run) = policy(&demo, "dry-run", &["--update", model.to_str().unwrap()]);
    assert_eq!((code, &run["decision"]), (3, &"refused".into()));
    assert_eq!(run["refusals"][0]["code"], "wrong-content");
}

#[test]
fn checks_tell_refusals_from_mistakes() {
    let demo = Demo::default();
    assert_eq!(policy(&demo, "check", &[]).0, 0);
    demo.edit("sites/north.toml", "unit = \"record\"", "unit = \"site\"");
    let (code, check) = policy(&demo, "check", &[]);
    assert_eq!((code, &check["ok"]), (3, &false.into()));
    assert_eq!(check["findings"][0]["code"], "unit-mismatch");
    demo.edit("sites/north.toml", "[site]", "[sit]");
    let (code, check) = policy(&demo, "check", &[]);
    assert_eq!(code, 2);
    assert_eq!(check["findings"][0]["help"], "did you mean `site`?");
}

/// `*` matches every task, and the site's filters run.
#[test]
fn a_wildcard_rule_is_a_rule() {
    let demo = Demo::default();
    demo.edit_sites(&SITES, "[\"train\"]", "[\"*\"]");
    let (code, result) = demo.run(&["--rounds", "2"]);
    assert_eq!(code, 0);
    assert_eq!(result["receipts"]["noise_multiplier_min"], 4.0);
}

#[test]
fn a_touched_audit_log_is_found_out() {
    let demo = Demo::default();
    assert_eq!(demo.run(&["--rounds", "3"]).0, 0);
    let log = demo.workspace().join("sites/north/audit.jsonl");
    let verify = |more: &[&str]| {
        let mut args = vec!["audit", "verify", log.to_str().unwrap(), "--json"];
        args.extend(more);
        let said = demo.privet(&args);
        (said.code, said.json())
    };
    let (code, intact) = verify(&[]);
    assert_eq!((code, &intact["entries"]), (0, &4.into()));
    let head = intact["head"].as_str().unwrap().to_owned();
    assert_eq!(verify(&["--head", &head]).0, 0);
    let text = std::fs::read_to_string(&log).unwrap();
    let cut: Vec<&str> = text.lines().take(3).collect();
    std::fs::write(&log, cut.join("\n") + "\n").unwrap();
    assert_eq!((verify(&[]).0, verify(&["--head", &head]).0), (0, 1));
    std::fs::write(&log, text.replacen("\"round\":2", "\"round\":3", 1)).unwrap();
    let (code, broken) = verify(&[]);
    assert_eq!((code, &broken["first_bad"]), (1, &3.into()));
    let missing = demo.privet(&["audit", "verify", "no-such-log", "--json"]);
    assert_eq!((missing.code, &missing.json()["error"]["code"]), (2, &"unreadable".into()));
}
