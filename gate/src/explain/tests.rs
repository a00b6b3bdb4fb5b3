use super::*;
use crate::testing::{bound, job, ledger, policy, promise, registry};

fn letter(unit: &str, out: &str, promise: &privet_core::flow::Promise, rounds: u32) -> Explanation {
    let policy = policy(unit, out, "");
    explain(&policy, &job(""), promise, &registry(), &*ledger(&policy), rounds).unwrap()
}

#[test]
fn a_record_level_letter() {
    let out = r#"[{ filter = "schema" }, { filter = "gaussian", noise-multiplier = 4.0 }]"#;
    let explanation = letter("record", out, &promise(Some(bound())), 20);
    assert_eq!(explanation.exit_code(), 0);
    let privacy = &explanation.privacy[0];
    assert_eq!(privacy.refused_from_round, Some(28));
    assert!((privacy.epsilon.unwrap() - 4.9833).abs() < 1e-3);
    insta::assert_snapshot!(explanation.text(80));
}

#[test]
fn a_letter_without_noise_says_so() {
    let out = r#"[{ filter = "allow-tensors", names = ["weight"] }]"#;
    let explanation = letter("site", out, &promise(None), 3);
    assert_eq!(explanation.withheld, ["bias"]);
    assert!(explanation.warnings.iter().any(|warning| warning.code == "unaccounted"));
    insta::assert_snapshot!(explanation.text(80));
}

#[test]
fn a_refusal_is_a_letter_too() {
    let explanation = letter("record", r#"[{ filter = "schema" }]"#, &promise(Some(bound())), 20);
    assert_eq!((explanation.decision, explanation.exit_code()), ("refused", 3));
    insta::assert_snapshot!(explanation.text(80));
}

#[test]
fn a_plan_that_runs_out_is_exit_4() {
    let out = r#"[{ filter = "gaussian", noise-multiplier = 4.0 }]"#;
    let explanation = letter("record", out, &promise(Some(bound())), 28);
    assert_eq!(explanation.exit_code(), 4);
    assert!(explanation.warnings.iter().any(|warning| warning.code == "budget-exhausted"));
}

#[test]
fn paragraphs_are_wrapped_and_indented() {
    let wrapped = wrap("aa bb cc dd ee ff gg hh ii jj kk", 25, 5);
    assert_eq!(wrapped, "aa bb cc dd ee ff gg\n     hh ii jj kk");
}
