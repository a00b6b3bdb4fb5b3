//! What is refused, when, and with which exit code.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use common::{Demo, SITES, bytes_up, codes, refusals};

/// Files that say something that cannot work: exit 2, before anything starts.
#[test]
fn typos_stop_a_run_before_it_starts() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("sites/north.toml", "\"gaussian\"", "\"gausian\"", "unknown-filter"),
        ("sites/north.toml", "noise-multiplier", "noise-multiplyer", "unknown-key"),
        ("sites/north.toml", "out = [", "output = [", "unknown-key"),
        ("sites/north.toml", "[[rule]]", "[[rules]]", "unknown-key"),
        ("sites/north.toml", "[\"train\"]", "[\"trian\"]", "unknown-task"),
        ("sites/north.toml", "dataset = \"breast\"", "dataset = \"brest\"", "unknown-dataset"),
        ("sites/north.toml", "name = \"north\"", "name = \"nord\"", "invalid"),
        ("sites/north.toml", "data/north.csv", "data/nord.csv", "data-unreadable"),
        (
            "sites/north.toml",
            "{ filter = \"schema\" }",
            "{ filter = \"allow-tensors\", names = [\"encoder.*\"] }",
            "invalid-policy",
        ),
        ("job.toml", "record-clip = 0.5", "record-klip = 0.5", "unknown-key"),
        ("job.toml", "sites/north.toml", "sites/nord.toml", "unreadable"),
        ("job.toml", "data = \"public_test.csv\"", "data = \"test.csv\"", "data-unreadable"),
        ("job.toml", "min-sites = 3", "min-sites = 6", "invalid"),
        (
            "job.toml",
            "[evaluation]",
            "[[filter]]\ntask = [\"train\"]\nat = \"out\"\nfilter = \"my-own\"\n[evaluation]",
            "unknown-filter",
        ),
        (
            "job.toml",
            "[evaluation]",
            "[[filter]]\ntask = [\"validate\"]\nat = \"out\"\nfilter = \"schema\"\n[evaluation]",
            "unknown-task",
        ),
        ("job.toml", "record-clip = 0.5", "", "missing-sensitivity"),
    ];
    for (file, from, to, code) in cases {
        let demo = Demo::default();
        demo.edit(file, from, to);
        let (exit, document) = demo.run(&[]);
        assert_eq!(exit, 2, "{file}: {from} → {to}");
        assert_eq!(document["error"]["code"], *code, "{file}: {from} → {to}: {document}");
        assert!(!demo.folder().join("workspace").exists(), "nothing has started");
    }
}

#[test]
fn a_finding_has_a_place_and_something_to_do() {
    let demo = Demo::default();
    demo.edit("sites/north.toml", "\"gaussian\"", "\"gausian\"");
    let said = demo.privet(&["policy", "check", "demo/sites/north.toml", "--json"]);
    assert_eq!(said.code, 2);
    let finding = &said.json()["findings"][0];
    assert_eq!((&finding["line"], &finding["column"]), (&18.into(), &14.into()));
    assert_eq!(finding["help"], "did you mean `gaussian`?");
    assert!(said.stderr.contains("north.toml:18:14"), "{}", said.stderr);
}

/// A site that refuses drops out; the job goes on while `min-sites` holds.
#[test]
fn one_refusal_is_listed_and_five_needed_sites_break_the_run() {
    let demo = Demo::default();
    demo.edit("sites/north.toml", "[\"train\"]", "[\"statistics\"]");
    let (exit, result) = demo.run(&[]);
    assert_eq!((exit, &result["status"]), (0, &"done".into()));
    assert_eq!(codes(&result), ["no-matching-rule"]);
    let refusal = &refusals(&result)[0];
    assert_eq!((&refusal["site"], &refusal["stage"]), (&"north".into(), &"compile".into()));
    assert!(!refusal["help"].as_str().unwrap().is_empty());
    demo.all_needed();
    let (exit, result) = demo.run(&[]);
    assert_eq!((exit, &result["status"]), (3, &"refused".into()));
    assert_eq!(result["error"]["code"], "no-matching-rule");
    assert_eq!((bytes_up(&result), &result["rounds_done"]), (0, &0.into()));
}

/// One policy change, all sites needed: the code, the exit code, and not one byte of an update.
fn refused(change: impl Fn(&Demo), code: &str, exit: i32) {
    let demo = Demo::default();
    demo.all_needed();
    change(&demo);
    let (got, result) = demo.run(&[]);
    assert_eq!(result["error"]["code"], code, "{}", result["error"]);
    assert_eq!(got, exit);
    assert_eq!(bytes_up(&result), 0);
    assert!(
        result["sites"]
            .as_array()
            .unwrap()
            .iter()
            .all(|site| { site["datasets"][0]["epsilon_spent"] == 0.0 })
    );
}

#[test]
fn policies_refuse_jobs_before_data_is_touched() {
    let north = |from: &'static str, to: &'static str| {
        move |demo: &Demo| {
            demo.edit("sites/north.toml", from, to);
        }
    };
    let job = |from: &'static str, to: &'static str| {
        move |demo: &Demo| {
            demo.edit("job.toml", from, to);
        }
    };
    let noise = "  { filter = \"gaussian\", noise-multiplier = 4.0 },\n";
    refused(north(noise, ""), "unpaid-release", 3);
    refused(north("rounds-max = 24", "rounds-max = 19"), "rounds-max", 3);
    refused(north("unit = \"record\"", "unit = \"site\""), "unit-mismatch", 3);
    refused(
        north("require = {", "metrics = { allow = [\"loss\"] }\nrequire = {"),
        "metric-refused",
        3,
    );
    refused(
        north("require = {", "protect = { scheme = \"threshold\", min-sites = 4 }\nrequire = {"),
        "seal-refused",
        3,
    );
    refused(
        north("require = {", "require = { attested = { server = [\"gpu-cc\"] },"),
        "not-attested",
        5,
    );
    refused(north("{ filter = \"schema\" }", "{ filter = \"block\" }"), "blocked", 3);
    refused(
        north("{ filter = \"schema\" }", "{ filter = \"max-size\", bytes = 64 }"),
        "too-large",
        3,
    );
    refused(
        north(
            "in = [{ filter = \"max-size\", bytes = \"1 MiB\" }]",
            "in = [{ filter = \"max-size\", bytes = 64 }]",
        ),
        "too-large",
        3,
    );
    refused(job("local-steps = 1", "local-steps = 2"), "local-steps", 3);
}

#[test]
fn what_this_version_cannot_do_is_refused_and_said() {
    let demo = Demo::default();
    demo.edit("job.toml", "executor = \"builtin\"", "executor = \"process\"");
    let (exit, document) = demo.run(&[]);
    assert_eq!((exit, &document["error"]["code"]), (3, &"not-built".into()));
    assert_eq!(demo.privet(&["init", "hospitls"]).code, 2);
}

/// One person asks, another confirms; every step is in the audit log, and the budget pays again.
#[test]
fn two_people_start_a_budget_anew() {
    let demo = Demo::default();
    let (code, _) = demo.run(&[]);
    assert_eq!(code, 0);
    let site = demo.workspace().join("sites/north");
    let site = site.to_str().unwrap();
    let reset = |by: &str, code: &[&str]| {
        let mut args = vec![
            "budget",
            "reset",
            "--json",
            "--site-dir",
            site,
            "--dataset",
            "breast",
            "--by",
            by,
        ];
        args.extend(code);
        demo.privet(&args)
    };
    let asked = reset("ann", &[]);
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    let given = asked.json()["code"].as_str().unwrap().to_owned();
    let alone = reset("ann", &["--code", &given]);
    assert_eq!((alone.code, &alone.json()["error"]["code"]), (3, &"reset-refused".into()));
    let given = reset("ann", &[]).json()["code"].as_str().unwrap().to_owned();
    assert_eq!(reset("bob", &["--code", &given]).code, 0);
    let shown = demo.privet(&["budget", "show", "--json", "--site-dir", site]).json();
    let dataset = &shown["datasets"][0];
    assert_eq!(
        (&dataset["epsilon_spent"], &dataset["entries"][0]["state"]),
        (&0.0.into(), &"reset".into())
    );
    let log = std::fs::read_to_string(demo.workspace().join("sites/north/audit.jsonl")).unwrap();
    for event in ["reset-asked", "reset-tried", "\"reset\""] {
        assert!(log.contains(event), "{event}");
    }
    let verified = demo.privet(&["audit", "verify", &format!("{site}/audit.jsonl")]);
    assert_eq!(verified.code, 0);
}

/// ε 2.73 pays seven rounds of z = 4. The site refuses the eighth before it trains, and does not
/// get the budget back by running again on the same ledger.
#[test]
fn the_budget_stops_a_run_for_good() {
    let demo = Demo::default();
    demo.all_needed().edit("sites/north.toml", "epsilon = 6.0", "epsilon = 2.73");
    let (exit, result) = demo.run(&[]);
    assert_eq!((exit, &result["status"]), (4, &"budget-exhausted".into()));
    assert_eq!(result["rounds_done"], 7);
    let error = &result["error"];
    assert_eq!(error["code"], "budget-exhausted");
    assert!(
        error["message"].as_str().unwrap().contains("north refused (budget-exhausted)"),
        "{error}"
    );
    // The owner's side: what was asked against what is left.
    let refusal = &error["refusals"][0];
    assert_eq!((&refusal["round"], &refusal["stage"]), (&8.into(), &"job".into()));
    assert!(
        refusal["detail"].as_str().unwrap().contains("the budget of `breast` is ε 2.73"),
        "{refusal}"
    );
    let spent = |result: &serde_json::Value, site: usize| {
        result["sites"][site]["datasets"][0]["epsilon_spent"].as_f64().unwrap()
    };
    assert!(spent(&result, 2) <= 2.73);
    let (exit, again) = demo.run(&["--resume"]);
    assert_eq!((exit, &again["rounds_done"]), (4, &7.into()));
    assert_eq!(spent(&again, 2), spent(&result, 2));
    // With a quorum without it, the job goes on and lists the refusals.
    demo.edit("job.toml", "min-sites = 5", "min-sites = 4");
    let (exit, on) = demo.run(&["--resume"]);
    assert_eq!((exit, &on["rounds_done"]), (0, &20.into()));
    assert_eq!(on["sites"][2]["rounds_refused"], 13);
    assert_eq!(spent(&on, 2), spent(&result, 2));
}

/// A budget raised by its owner is what `--resume` goes on with.
#[test]
fn a_larger_budget_lets_a_stopped_job_go_on() {
    let demo = Demo::default();
    demo.all_needed().edit_sites(&SITES, "epsilon = 6.0", "epsilon = 2.73");
    assert_eq!(demo.run(&[]).0, 4);
    demo.edit_sites(&SITES, "epsilon = 2.73", "epsilon = 6.0");
    let (exit, result) = demo.run(&["--resume"]);
    assert_eq!((exit, &result["rounds_done"]), (0, &20.into()));
    let rounds: Vec<u64> =
        result["rounds"].as_array().unwrap().iter().map(|r| r["round"].as_u64().unwrap()).collect();
    assert_eq!(rounds, (1..=20).collect::<Vec<_>>());
}

/// A broken record contributes nothing, and is no reason to refuse: the refusal would tell.
#[test]
fn a_record_that_is_not_a_number_is_not_told() {
    let demo = Demo::default();
    demo.all_needed();
    let path = demo.path("sites/data/west.csv");
    let mut text = std::fs::read_to_string(&path).unwrap();
    let columns = text.lines().next().unwrap().split(',').count();
    text.push_str(&format!("{}1\n", "NaN,".repeat(columns - 1)));
    text.push_str(&format!("{}1\n", "inf,".repeat(columns - 1)));
    std::fs::write(path, text).unwrap();
    let (exit, result) = demo.run(&[]);
    assert_eq!((exit, refusals(&result).len()), (0, 0));
    assert!(result["final"]["accuracy"].as_f64().unwrap() > 0.85);
}

/// What leaves unfiltered or unnoised is said wherever one looks.
#[test]
fn weak_protection_is_loud() {
    let demo = Demo::default();
    demo.edit(
        "sites/north.toml",
        "out = [\n  { filter = \"schema\" },\n  { filter = \"gaussian\", noise-multiplier = 4.0 },\n]",
        "out = \"danger-unfiltered\"",
    );
    let (exit, result) = demo.run(&[]);
    assert_eq!(exit, 0);
    assert!(
        result["unaccounted"][0].as_str().unwrap().starts_with("north: 20 updates from `breast`")
    );
    assert_eq!(result["receipts"]["noise_multiplier_min"], serde_json::Value::Null);
    assert_eq!(result["sites"][2]["receipt"]["dangers"][0], "danger-unfiltered");
    let letter = demo
        .privet(&["policy", "explain", "demo/sites/north.toml", "--job", "demo/job.toml", "--json"])
        .json();
    let warnings: Vec<_> =
        letter["warnings"].as_array().unwrap().iter().map(|w| w["code"].clone()).collect();
    assert_eq!(warnings, ["danger-unfiltered", "unaccounted"]);
}

/// A site that believes a training program says so wherever one looks; a job cannot say it for one.
#[test]
fn a_claim_is_accepted_by_its_owner_alone_and_loudly() {
    let demo = Demo::default();
    demo.edit("job.toml", "record-clip = 0.5", "learning-rate = 0.1");
    for site in SITES {
        let path = format!("sites/{site}.toml");
        demo.edit(
            &path,
            "  { filter = \"gaussian\", noise-multiplier = 4.0 },",
            "  { filter = \"danger-accept-claim\", record-l2 = 0.01 },\n  { filter = \"gaussian\", noise-multiplier = 4.0 },",
        );
    }
    let (exit, result) = demo.run(&["--rounds", "2"]);
    assert_eq!(exit, 0, "{result}");
    assert_eq!(result["dangers"][0], "central: rule `train` says `danger-accept-claim`");
    assert_eq!(result["sites"][0]["datasets"][0]["unit"], "record");
    assert!(result["sites"][0]["datasets"][0]["epsilon_spent"].as_f64().unwrap() > 0.5);
    let report = std::fs::read_to_string(demo.workspace().join("report.html")).unwrap();
    assert!(report.contains("rule `train` says `danger-accept-claim`"));
    let letter =
        demo.privet(&["policy", "explain", "demo/sites/north.toml", "--job", "demo/job.toml"]);
    let letter = letter.stdout.replace(['\n', ' '], "");
    assert!(letter.contains("CLAIMEDbythetrainingprogram"), "{letter}");
    assert!(letter.contains("Therulesays\"danger-accept-claim\""), "{letter}");

    let demo = Demo::default();
    demo.edit("job.toml", "record-clip = 0.5", "learning-rate = 0.1");
    let text = std::fs::read_to_string(demo.path("job.toml")).unwrap();
    let filter = "\n[[filter]]\ntask = [\"train\"]\nat = \"out\"\nfilter = \"danger-accept-claim\"\nrecord-l2 = 0.5\n";
    std::fs::write(demo.path("job.toml"), text + filter).unwrap();
    let check = demo
        .privet(&["policy", "check", "demo/sites/north.toml", "--job", "demo/job.toml", "--json"])
        .json();
    assert_eq!(check["findings"][0]["code"], "invalid-job", "{check}");
}

/// A job demands of receipts what its researcher promised to the ethics board.
#[test]
fn a_demand_is_checked_against_receipts() {
    let demo = Demo::default();
    demo.all_needed().edit(
        "job.toml",
        "[evaluation]",
        "[demand]\nnoise-multiplier-min = 4.5\n[evaluation]",
    );
    let (exit, result) = demo.run(&[]);
    assert_eq!((exit, &result["error"]["code"]), (3, &"demand-unmet".into()));
    demo.edit(
        "job.toml",
        "noise-multiplier-min = 4.5",
        "noise-multiplier-min = 4.0\nepsilon-max = 6.0",
    );
    assert_eq!(demo.run(&[]).0, 0);
    demo.edit("job.toml", "epsilon-max = 6.0", "sealed = true");
    assert_eq!(demo.run(&[]).0, 3);
}

/// The researcher's filters work at all four points of the picture.
#[test]
fn filters_of_a_job_work_at_all_four_points() {
    let filter = |at: &str, side: &str, bytes: u32| {
        format!(
            "[[filter]]\ntask = [\"train\"]\nat = \"{at}\"\nwhere = \"{side}\"\nfilter = \"max-size\"\nbytes = {bytes}\n[evaluation]"
        )
    };
    // 31 numbers: 124 bytes to the sites; back, and as the sum, 8 bytes count for each.
    for (at, side, enough) in
        [("out", "site", 248), ("in", "site", 124), ("out", "server", 124), ("in", "server", 248)]
    {
        for (bytes, expected) in [(enough, 0), (enough - 1, 3)] {
            let demo = Demo::default();
            demo.all_needed().edit("job.toml", "[evaluation]", &filter(at, side, bytes));
            let (exit, document) = demo.run(&["--rounds", "2"]);
            assert_eq!(exit, expected, "{at} {side} {bytes}: {}", document["error"]);
            if expected == 3 {
                assert_eq!(document["error"]["code"], "too-large");
            }
        }
    }
}

/// A checkpoint of another job is not gone on from.
#[test]
fn a_changed_job_is_not_resumed() {
    let demo = Demo::default();
    assert_eq!(demo.run(&["--rounds", "2"]).0, 0);
    demo.edit("job.toml", "record-clip = 0.5", "record-clip = 0.25");
    let (exit, document) = demo.run(&["--resume"]);
    assert_eq!((exit, &document["error"]["code"]), (2, &"invalid".into()));
}

/// A rule for one submitter is not for whoever says so: `run` is `local`.
#[test]
fn a_rule_for_another_submitter_does_not_match() {
    let demo = Demo::default();
    demo.all_needed();
    let when = |submitter: &str| format!("dataset = \"breast\", submitter = \"{submitter}\" }}");
    demo.edit_sites(&SITES, "dataset = \"breast\" }", &when("local"));
    assert_eq!(demo.run(&["--rounds", "2"]).0, 0);
    demo.edit("sites/north.toml", "submitter = \"local\"", "submitter = \"alice\"");
    let (exit, result) = demo.run(&["--rounds", "2"]);
    assert_eq!((exit, &result["error"]["code"]), (3, &"no-matching-rule".into()));
}

/// A site that cannot even start is a site that did not come.
#[test]
fn a_site_with_a_broken_log_is_missed_and_the_run_goes_on() {
    for more in [&["--resume"][..], &["--resume", "--processes"]] {
        let demo = Demo::default();
        assert_eq!(demo.run(&["--rounds", "1"]).0, 0);
        let log = demo.workspace().join("sites/north/audit.jsonl");
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::write(&log, text.replacen("release", "relaese", 1)).unwrap();
        demo.edit("job.toml", "round-timeout = \"60s\"", "round-timeout = \"3s\"");
        let mut args = more.to_vec();
        args.extend(["--rounds", "2"]);
        let (exit, result) = demo.run(&args);
        assert_eq!((exit, &result["rounds_done"]), (0, &2.into()), "{more:?}");
        assert_eq!(result["rounds"][1]["answered"].as_array().unwrap().len(), 4);
    }
}
