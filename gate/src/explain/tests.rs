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
fn the_terms_of_a_budget_are_told() {
    let text = crate::testing::policy_text(
        "record",
        r#"[{ filter = "gaussian", noise-multiplier = 4.0 }]"#,
        "",
    );
    let text = text.replace("delta = 1e-5", "delta = 1e-5, window = \"30d\", per-submitter = 2.5");
    let policy = crate::testing::parse_policy(&text).unwrap();
    let promise = promise(Some(bound()));
    let ledger = ledger(&policy);
    let letter = explain(&policy, &job(""), &promise, &registry(), &*ledger, 20).unwrap();
    let text = letter.text(10_000);
    assert!(text.contains("any 30 days") && text.contains("up to n times the budget"), "{text}");
    assert!(text.contains("No submitter may take more than ε 2.5"), "{text}");
    // Twenty rounds are ε 4.98: more than a submitter's share.
    assert_eq!(letter.exit_code(), 4);
}

/// Laplace noise in place of Gaussian, on a bound in the Euclidean norm.
#[test]
fn another_mechanism_is_named_and_priced() {
    let out = r#"[{ filter = "laplace", noise-multiplier = 40.0 }]"#;
    let letter = letter("record", out, &promise(Some(bound())), 20);
    let privacy = &letter.privacy[0];
    assert_eq!((privacy.mechanism, privacy.accountant.as_str()), ("laplace", "zCDP"));
    // ρ = 20·(1/40)²/2 at δ = 1e-5, by a fine grid of orders.
    assert!((privacy.epsilon.unwrap() - 0.4233).abs() < 0.001, "{:?}", privacy.epsilon);
}

#[test]
fn a_sealed_letter_has_both_views() {
    let protect = r#"protect = { scheme = "threshold", min-sites = 4, colluders = 1 }"#;
    let policy = policy("record", r#"[{ filter = "gaussian", noise-multiplier = 4.0 }]"#, protect);
    let promise = promise(Some(bound()));
    let ledger = ledger(&policy);
    let letter = explain(&policy, &job(""), &promise, &registry(), &*ledger, 20).unwrap();
    assert_eq!((letter.decision, letter.exit_code()), ("allowed", 0));
    let privacy = &letter.privacy[0];
    assert_eq!((privacy.view, privacy.accountant.as_str()), ("sum", "zCDP"));
    assert!((privacy.epsilon.unwrap() - 5.38).abs() < 0.01);
    assert!(privacy.epsilon_if_seal_broken.unwrap() > 9.0);
    assert!(letter.warnings.iter().any(|warning| warning.code == "ca-trusted"));
    assert_eq!(letter.leaves[0].form, "sealed integers with a share of the noise");
    let text = letter.text(10_000);
    assert!(text.contains("the larger of 4 and ⌊(n + 1)/2⌋ + 1"), "{text}");
    assert!(text.contains("enough when 3 honest sites are in the sum"), "{text}");
    assert!(text.contains("with its own share alone: ε = 1"), "{text}");
    // What a site announces of its sums' size tells how many records they are over.
    assert!(text.contains("Beside them leaves the declared number of records, 100."), "{text}");
}

#[test]
fn a_letter_tells_what_a_seal_is_worth() {
    let sees = |protect: &str, out: &str| {
        let policy = policy("site", out, &format!("protect = {{ {protect} }}"));
        let ledger = ledger(&policy);
        let letter = explain(&policy, &job(""), &promise(None), &registry(), &*ledger, 2).unwrap();
        (letter.leaves[0].form.clone(), letter.privacy[0].view, letter.text(10_000))
    };
    let clip = r#"[{ filter = "clip", l2 = 1.0 }]"#;
    let noise =
        r#"[{ filter = "clip", l2 = 1.0 }, { filter = "gaussian", noise-multiplier = 9.0 }]"#;
    let (form, view, text) = sees("scheme = \"tfhe\", min-sites = 4, colluders = 0", noise);
    assert_eq!((form.as_str(), view), ("sealed integers with noise", "local"));
    assert!(text.contains("a single one that works with the server opens every update"), "{text}");
    assert!(text.contains("own noise is in its update all the same, whole"), "{text}");
    assert!(text.contains("multiplied by the declared number of records, 100, under the seal"));
    let (form, view, text) =
        sees("scheme = \"threshold\", min-sites = 4, verify = true, survivors = \"stable\"", noise);
    assert_eq!((form.as_str(), view), ("sealed integers with a share of the noise", "sum"));
    assert!(text.contains("Every site's update counts once in the sum"), "{text}");
    assert!(text.contains("looks whether what the server shows as the sum"), "{text}");
    assert!(text.contains("no sum over other sites than the first"), "{text}");
    let (form, _, text) = sees("scheme = \"threshold\", min-sites = 4, exact = false", clip);
    assert_eq!(form, "sealed integers, no noise");
    assert!(text.contains("an error of about 6.4·√n"), "{text}");
}

/// Another toolkit's deployed setting: clip 1, σ = 4.845e-5, a promise of δ = 1e-5 and no budget that
/// stops. Here σ cannot be typed in without what it comes to, and a budget does stop it.
#[test]
fn noise_in_name_only_is_called_what_it_is() {
    let out =
        r#"[{ filter = "clip", l2 = 1.0 }, { filter = "gaussian", noise-multiplier = 4.845e-5 }]"#;
    let explanation = letter("site", out, &promise(None), 1);
    let epsilon = explanation.privacy[0].epsilon.unwrap();
    assert!((epsilon / 2.1309e8 - 1.0).abs() < 1e-3, "{epsilon}");
    assert_eq!((explanation.privacy[0].refused_from_round, explanation.exit_code()), (Some(1), 4));
    assert!(explanation.privacy[0].guess_rate > 0.999_999);
}

#[test]
fn paragraphs_are_wrapped_and_indented() {
    let wrapped = wrap("aa bb cc dd ee ff gg hh ii jj kk", 25, 5);
    assert_eq!(wrapped, "aa bb cc dd ee ff gg\n     hh ii jj kk");
}

/// With whom, how often, of how many, and what is told.
#[test]
fn an_intersection_has_a_letter() {
    use crate::finding::Source;

    let section = "[[psi]]\ndataset = \"d\"\npeers = [\"south\", \"west\"]\nall-peers = true\n\
        columns = [\"email\"]\nreveal = \"rows\"\nmin-intersection = 5\nmax-fraction = 0.9\n\
        runs = { max = 20, window = \"30d\" }\n";
    let explained = |section: &str, reveal: &str, column: &str| {
        let policy = format!(
            "schema = 1\n[site]\nname = \"north\"\n[dataset.d]\npath = \"d.csv\"\nunit = \"record\"\n\
             records = 9\nbudget = {{ epsilon = 1.0, delta = 1e-5 }}\n{section}"
        );
        let policy = Policy::parse(&Source::new("north.toml", policy), "".as_ref(), &registry());
        let job = format!(
            "schema = 1\n[job]\nname = \"who\"\nworkflow = \"psi\"\n[psi]\ndataset = \"d\"\n\
             column = [\"{column}\"]\nnormalise = [\"email\"]\nreveal = \"{reveal}\"\n"
        );
        let job = Job::parse(&Source::new("job", job), None, "".as_ref(), &registry()).unwrap();
        let policy = policy.unwrap();
        explain(&policy, &job, &promise(None), &registry(), &*ledger(&policy), 1).unwrap()
    };
    insta::assert_snapshot!(explained(section, "all", "email").text(80));
    let sizes = section.replace("\"rows\"", "\"size\"");
    for (section, reveal, column, decision) in [
        (section, "all", "email", "allowed"),
        (section, "all", "name", "refused"),
        ("", "all", "email", "refused"),
        (&sizes, "all", "email", "refused"),
        (&sizes, "size", "email", "allowed"),
    ] {
        assert_eq!(explained(section, reveal, column).decision, decision, "{section} {reveal}");
    }
    let noised = |z| format!("{sizes}out = [{{ filter = \"laplace\", noise-multiplier = {z} }}]\n");
    assert_eq!(explained(&noised("2.0"), "size", "email").exit_code(), 4);
    let letter = explained(&noised("10.0"), "size", "email");
    assert_eq!(letter.exit_code(), 0);
    insta::assert_snapshot!(letter.text(80));
    let [privacy] = &letter.privacy[..] else { panic!("one cost") };
    assert_eq!((privacy.mechanism, privacy.noise_multiplier), ("laplace", Some(10.0)));
    assert!(privacy.epsilon.is_some_and(|epsilon| epsilon > 0.1 && epsilon < privacy.budget));
}
