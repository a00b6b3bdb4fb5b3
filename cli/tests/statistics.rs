//! Federated statistics, end to end, on the lung table.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::path::Path;

use common::{codes, privet_in, repository};
use serde_json::Value;

/// A copy of the example with other text in every policy and in the job.
fn example(policies: &[(&str, &str)], job: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy(&repository().join("examples/statistics"), folder.path());
    let edit = |path: &Path, changes: &[(&str, &str)]| {
        let mut text = std::fs::read_to_string(path).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{} has no {from:?}", path.display());
            text = text.replace(from, to);
        }
        std::fs::write(path, text).unwrap();
    };
    edit(&folder.path().join("job.toml"), job);
    for entry in std::fs::read_dir(folder.path().join("sites")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            edit(&path, policies);
        }
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

fn run(folder: &Path) -> (i32, Value) {
    let said = privet_in(folder, &["run", "job.toml", "--json"]);
    (said.code, said.json())
}

/// With hardly any noise the answers are the table's own: 227 patients, 62.4 years old on average,
/// with a standard deviation of 9.1.
#[test]
fn answers_are_the_tables_own_but_for_the_noise() {
    let little = [
        ("noise-multiplier = 1.0", "noise-multiplier = 0.001"),
        ("epsilon = 6.0", "epsilon = 1e9"),
    ];
    let folder = example(&little, &[]);
    let (code, result) = run(folder.path());
    assert_eq!(code, 0, "{result}");
    let age = &result["statistics"][0];
    let number = |key: &str| age[key].as_f64().unwrap();
    assert_eq!(age["column"], "age");
    assert!((number("count") - 227.0).abs() < 0.1, "{age}");
    assert!((number("mean") - 62.43).abs() < 0.05, "{age}");
    assert!((number("variance").sqrt() - 9.1).abs() < 0.1, "{age}");
    let bins: Vec<f64> = age["histogram"]["counts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .collect();
    assert!((bins.iter().sum::<f64>() - 227.0).abs() < 0.3, "{bins:?}");
    assert!((number("min") - 41.0).abs() < 5.0 && (number("max") - 80.0).abs() < 5.0, "{age}");
    // A missing cell is a record without a number in that column.
    let count = result["statistics"][1]["count"].as_f64().unwrap();
    assert!((count - 213.0).abs() < 0.1, "{count}");
    let report = std::fs::read_to_string(folder.path().join("workspace/lung/report.html")).unwrap();
    assert!(report.contains("What the sums say") && report.contains("Histogram of age"));
}

/// As shipped: noise of the size that is said, and charged once to each budget.
#[test]
fn the_example_is_paid_for() {
    let folder = example(&[], &[]);
    let (code, result) = run(folder.path());
    assert_eq!(code, 0, "{result}");
    let error = result["statistics"][0]["count_error"].as_f64().unwrap();
    assert!((error - 6f64.sqrt() * 18f64.sqrt()).abs() < 0.01, "{error}");
    let count = result["statistics"][0]["count"].as_f64().unwrap();
    assert!((count - 227.0).abs() < 6.0 * error, "{count}");
    for site in result["sites"].as_array().unwrap() {
        let spent = site["datasets"][0]["epsilon_spent"].as_f64().unwrap();
        assert!((spent - 4.3776).abs() < 0.01, "{spent}");
    }
    assert_eq!((&result["workflow"], &result["rounds_planned"]), (&"statistics".into(), &1.into()));
    let again = privet_in(folder.path(), &["run", "job.toml", "--json", "--resume"]);
    assert_eq!(
        again.json()["statistics"],
        result["statistics"],
        "a finished sum is not asked again"
    );
}

#[test]
fn a_guard_refuses_what_too_few_records_are_behind() {
    let guard = [(
        "noise-multiplier = 1.0 },",
        "noise-multiplier = 1.0 },\n  { filter = \"statistics-guard\", min-count = 1000 },",
    )];
    let folder = example(&guard, &[]);
    let (code, result) = run(folder.path());
    assert_eq!(code, 3, "{result}");
    // What the owner's log says is put beside what the server saw.
    assert!(
        codes(&result).contains(&"too-few-records".to_owned())
            || codes(&result).contains(&"withheld".to_owned())
    );
    assert!(result.get("statistics").is_none());
}

#[test]
fn statistics_need_noise_and_a_rule() {
    let none = [("  { filter = \"gaussian\", noise-multiplier = 1.0 },\n", "")];
    let (code, result) = run(example(&none, &[]).path());
    assert_eq!((code, codes(&result)), (3, vec!["unpaid-release".to_owned()]));
    let train = [("task = [\"statistics\"]", "task = [\"train\"]")];
    let (code, result) = run(example(&train, &[]).path());
    assert_eq!((code, codes(&result)), (3, vec!["no-matching-rule".to_owned()]));
    for (from, to) in [
        ("range = [30.0, 90.0]", "range = [90.0, 30.0]"),
        ("ask = [\"mean\"]", "ask = []"),
        ("ask = [\"mean\"]", "ask = [\"meen\"]"),
        ("name = \"wt_loss\"", "name = \"age\""),
        ("[statistics]", "[fedavg]\nrounds = 1\nmin-sites = 1\n[statistics]"),
    ] {
        let (code, _) = run(example(&[], &[(from, to)]).path());
        assert_eq!(code, 2, "{from} → {to}");
    }
}
