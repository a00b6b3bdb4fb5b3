use privet_core::ledger::Window;

use super::*;
use crate::testing::{parse_policy, policy_text, registry};

const GOOD: &str = r#"[{ filter = "gaussian", noise-multiplier = 4.0 }]"#;

/// The first finding of a policy that is wrong: code, line, column, help.
fn finding(text: &str) -> (String, usize, usize, String) {
    let finding = parse_policy(text).unwrap_err().remove(0);
    let help = finding.help.unwrap_or_default();
    (finding.code, finding.line, finding.column, help)
}

fn code(text: &str) -> String {
    finding(text).0
}

#[test]
fn a_whole_policy_is_read() {
    let policy =
        parse_policy(&policy_text("record", GOOD, "require = { rounds-max = 24 }")).unwrap();
    assert_eq!((policy.site.as_str(), policy.rules.len()), ("north", 1));
    let rule = &policy.rules[0];
    assert_eq!((rule.rounds_max, rule.weight), (Some(24), None));
    assert_eq!(policy.line(rule), 10);
    assert_eq!(policy.digest.len(), 64);
}

#[test]
fn a_misspelt_filter_is_pointed_at() {
    let text = policy_text("record", r#"[{ filter = "gausian", noise-multiplier = 4.0 }]"#, "");
    let help = "did you mean `gaussian`?".to_owned();
    assert_eq!(finding(&text), ("unknown-filter".into(), 12, 19, help));
    let text = policy_text("record", r#"[{ filter = "gaussian", noise-multiplyer = 4.0 }]"#, "");
    let help = "did you mean `noise-multiplier`?".to_owned();
    assert_eq!(finding(&text), ("unknown-key".into(), 12, 31, help));
}

#[test]
fn typos_anywhere_are_errors() {
    let good = policy_text("record", GOOD, "");
    parse_policy(&good).unwrap();
    for (from, to, expected) in [
        ("schema = 1", "schema = 2", "unknown-schema"),
        ("[[rule]]", "[[rules]]", "unknown-key"),
        ("out =", "outt =", "unknown-key"),
        ("task =", "tasks =", "unknown-key"),
        ("[\"train\"]", "[\"trian\"]", "unknown-task"),
        ("[\"train\"]", "[]", "unreachable-rule"),
        ("dataset = \"ct\"", "dataset = \"ct2\"", "unknown-dataset"),
        ("unit = \"record\"", "unit = \"person\"", "unknown-value"),
        ("records = 100", "records = 0", "invalid"),
        ("epsilon = 6.0", "epsilon = 0.0", "invalid"),
        ("epsilon = 6.0", "epsilon = inf", "invalid"),
        ("delta = 1e-5", "delta = 1.0", "invalid"),
        ("4.0", "0.0", "invalid"),
        ("4.0", "nan", "invalid"),
        ("4.0", "\"4\"", "invalid"),
        (", noise-multiplier = 4.0", "", "missing-key"),
        (GOOD, "[]", "empty-out"),
        (GOOD, "\"unfiltered\"", "unknown-value"),
        ("delta = 1e-5", "delta = 1e-5, window = \"a month\"", "invalid"),
        ("delta = 1e-5", "delta = 1e-5, per-submitter = 7.0", "invalid"),
        (
            "id = \"train\"",
            "id = \"train\"\nprotect = { scheme = \"threshold\", min-sites = 2 }",
            "invalid",
        ),
        ("[[rule]]", "currency = \"euro\"\n[[rule]]", "unknown-value"),
        ("name = \"north\"", "name = \"../north\"", "invalid"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        assert_eq!(code(&text), expected, "{from} → {to}");
    }
}

#[test]
fn rules_that_can_never_match_are_errors() {
    let rule = |id: &str, when: &str| {
        format!("[[rule]]\nid = \"{id}\"\nwhen = {{ {when} }}\nout = \"danger-unfiltered\"\n")
    };
    let with = |second: &str| policy_text("record", GOOD, "") + second;
    let same = rule("again", r#"task = ["train"], dataset = "ct", job = "demo""#);
    assert_eq!(code(&with(&same)), "unreachable-rule");
    let twice = rule("train", r#"task = ["psi"], dataset = "ct""#);
    assert_eq!(code(&with(&twice)), "duplicate-rule");
    let wider = rule("all", r#"task = ["*"], dataset = "ct""#);
    assert_eq!(parse_policy(&with(&wider)).unwrap().rules.len(), 2);
}

/// A data set's currency is the one that can count all its rules' noise, or an error.
#[test]
fn the_currency_suits_the_noise() {
    let laplace = r#"[{ filter = "laplace", noise-multiplier = 10.0 }]"#;
    let named = |out: &str, currency: &str| {
        let line = format!("currency = \"{currency}\"\n[[rule]]");
        policy_text("record", out, "").replacen("[[rule]]", &line, 1)
    };
    let currency = |text: &str| parse_policy(text).unwrap().datasets["ct"].currency;
    assert_eq!(currency(&policy_text("record", GOOD, "")), Currency::Gaussian);
    assert_eq!(currency(&policy_text("record", laplace, "")), Currency::Zcdp);
    assert_eq!(currency(&named(GOOD, "zcdp")), Currency::Zcdp);
    assert_eq!(currency(&named(laplace, "rdp")), Currency::Rdp);
    assert_eq!(code(&named(laplace, "gaussian")), "wrong-currency");
    let protect = r#"protect = { scheme = "threshold", min-sites = 4 }"#;
    assert_eq!(currency(&policy_text("record", GOOD, protect)), Currency::Zcdp);
}

#[test]
fn windows_and_shares_are_read() {
    let text = policy_text("record", GOOD, "")
        .replace("delta = 1e-5", "delta = 1e-5, window = \"30d\", per-submitter = 2.5");
    let budget = parse_policy(&text).unwrap().datasets["ct"].budget;
    assert_eq!((budget.window, budget.per_submitter), (Window::Days(30), Some(2.5)));
}

#[test]
fn the_wildcard_matches_every_task() {
    let text = policy_text("record", GOOD, "").replace("[\"train\"]", "[\"*\"]");
    let policy = parse_policy(&text).unwrap();
    let asked = Asked {
        task: "train",
        dataset: "ct",
        kind: DataKind::Gradient,
        job: "demo",
        submitter: "local",
    };
    assert!(policy.rule(&asked).is_some());
    let other = Asked { dataset: "mr", ..asked };
    assert!(policy.rule(&other).is_none());
}

#[test]
fn the_long_form_of_a_chain_is_the_same() {
    let short = parse_policy(&policy_text("record", GOOD, "")).unwrap();
    let text = policy_text("record", GOOD, "").replace(&format!("out = {GOOD}\n"), "")
        + "[[rule.out]]\nfilter = \"gaussian\"\nnoise-multiplier = 4\n";
    let long = parse_policy(&text).unwrap();
    let params = |policy: &Policy| match &policy.rules[0].out {
        Out::Filters(filters) => filters[0].params.clone(),
        Out::DangerUnfiltered => panic!("filters were expected"),
    };
    assert_eq!(params(&short), params(&long));
}

/// Noise on sizes: refused where it would not be paid, or where rows are told anyway.
#[test]
fn noise_on_sizes_is_looked_at_with_the_policy() {
    let section = |unit: &str, currency: &str, reveal: &str, out: &str| {
        let text = format!(
            "schema = 1\n[site]\nname = \"north\"\n[dataset.d]\npath = \"d.csv\"\nunit = \"{unit}\"\n\
             records = 9\nbudget = {{ epsilon = 1.0, delta = 1e-5 }}\n{currency}\n[[psi]]\ndataset = \"d\"\n\
             peers = [\"south\"]\nreveal = \"{reveal}\"\nmin-intersection = 0\nmax-fraction = 1.0\n\
             runs = {{ max = 1, window = \"30d\" }}\nout = [{out}]\n"
        );
        let policy = Policy::parse(&Source::new("north.toml", text), Path::new(""), &registry());
        policy.map_err(|findings| findings[0].code.clone())
    };
    let laplace = "{ filter = \"laplace\", noise-multiplier = 4.0 }";
    let read = section("record", "", "size", laplace).unwrap();
    // What it is counted in follows from it.
    assert_eq!(read.datasets["d"].currency, privet_core::ledger::Currency::Zcdp);
    assert_eq!(read.psi[0].out.len(), 1);
    for (unit, currency, reveal, out, code) in [
        ("record", "", "rows", laplace, "invalid"),
        ("record", "currency = \"gaussian\"", "size", laplace, "wrong-currency"),
        ("site", "", "size", laplace, "unit-mismatch"),
        ("record", "", "size", "{ filter = \"laplace\" }", "missing-key"),
        ("record", "", "size", "{ filter = \"gaussian\", noise-multiplier = 4.0 }", "wrong-stage"),
        ("record", "", "size", &format!("{laplace}, {laplace}"), "wrong-stage"),
        (
            "record",
            "",
            "size",
            "{ filter = \"allow-tensors\", names = [\"size\"] }",
            "unpaid-release",
        ),
    ] {
        assert_eq!(section(unit, currency, reveal, out).unwrap_err(), code, "{reveal} {out}");
    }
}
