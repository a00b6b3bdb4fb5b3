use privet_core::event::Mechanism;
use proptest::prelude::*;

use super::*;
use crate::testing::{bound, job, ledger, policy, promise, registry};

const GAUSSIAN: &str = r#"{ filter = "gaussian", noise-multiplier = 4.0 }"#;
const CLIP: &str = r#"{ filter = "clip", l2 = 1.0 }"#;

/// What a rule with this `out` makes of a job: "ok", or the code it is refused with.
fn check(unit: &str, out: &str, more: &str, job_more: &str, promise: &Promise) -> String {
    let policy = policy(unit, out, more);
    match Chain::compile(&policy, &job(job_more), promise, &registry(), "local") {
        Ok(_) => "ok".to_owned(),
        Err(CompileError::Refused(refusal)) => refusal.code.to_string(),
        Err(CompileError::Invalid(findings)) => {
            format!("{} line {}", findings[0].code, findings[0].line)
        }
    }
}

#[test]
fn record_level_noise_is_paid_and_derived() {
    let policy = policy("record", &format!("[{GAUSSIAN}]"), "");
    let chain =
        Chain::compile(&policy, &job(""), &promise(Some(bound())), &registry(), "local").unwrap();
    assert_eq!(chain.noise_multiplier(), Some(4.0));
    let Mechanism::Gaussian { sigma_units, coordinates, .. } = chain.events()[0].mechanism else {
        panic!("Gaussian noise was asked")
    };
    assert_eq!(coordinates, 3);
    assert_eq!(sigma_units, (4.0 * bound().lattice_units as f64).next_up());
}

#[test]
fn chains_that_cannot_work_or_do_not_pay_are_refused() {
    let record = promise(Some(bound()));
    let site = promise(None);
    let noise = format!("[{GAUSSIAN}]");
    let clip_noise = format!("[{CLIP}, {GAUSSIAN}]");
    let schema = r#"[{ filter = "schema" }]"#;
    assert_eq!(check("record", &noise, "", "", &record), "ok");
    assert_eq!(check("site", &clip_noise, "", "", &site), "ok");
    assert_eq!(check("record", &noise, "", "", &site), "missing-sensitivity line 12");
    assert_eq!(check("record", &clip_noise, "", "", &record), "wrong-stage line 12");
    assert_eq!(check("record", &clip_noise, "", "", &site), "unit-mismatch");
    assert_eq!(check("site", &noise, "", "", &record), "unit-mismatch");
    assert_eq!(check("record", schema, "", "", &record), "unpaid-release");
    assert_eq!(check("record", schema, "", "", &site), "unpaid-release");
    assert_eq!(check("record", "\"danger-unfiltered\"", "", "", &site), "ok");
    assert_eq!(check("site", schema, "", "", &site), "ok");
    assert_eq!(check("record", r#"[{ filter = "block" }]"#, "", "", &record), "blocked");
    let small = format!(r#"[{{ filter = "max-size", bytes = 11 }}, {GAUSSIAN}]"#);
    assert_eq!(check("record", &small, "", "", &record), "too-large");
    let glob = format!(r#"[{{ filter = "allow-tensors", names = ["enc.*"] }}, {GAUSSIAN}]"#);
    assert_eq!(check("record", &glob, "", "", &record), "invalid-policy line 12");
}

#[test]
fn requirements_hold() {
    let record = promise(Some(bound()));
    let noise = format!("[{GAUSSIAN}]");
    let with = |more: &str, job_more: &str| check("record", &noise, more, job_more, &record);
    assert_eq!(with("require = { rounds-max = 19 }", ""), "rounds-max");
    assert_eq!(with("require = { rounds-max = 20 }", ""), "ok");
    // What the server proves is seen when it is asked; what sites do, the job has to demand as strictly.
    assert_eq!(with("require = { attested = { server = [\"gpu-cc\"] } }", ""), "ok");
    let sites = "require = { attested = { sites = [\"gpu-cc\"], max-age = \"5m\" } }";
    for (demanded, expected) in [
        ("", "not-attested"),
        ("[demand]\nattested = { sites = [\"gpu-only\"], max-age = \"5m\" }", "not-attested"),
        ("[demand]\nattested = { sites = [\"gpu-cc\"] }", "not-attested"),
        (
            "[demand]\nattested = { sites = [\"gpu-cc\"], max-age = \"5m\", allow-simulated = true }",
            "not-attested",
        ),
        ("[demand]\nattested = { sites = [\"snp\", \"gpu-cc\"], max-age = \"5m\" }", "ok"),
    ] {
        assert_eq!(with(sites, demanded), expected, "{demanded}");
    }
    let asks = "[protect]\nscheme = \"threshold\"\nmin-sites = 4";
    assert_eq!(with("allow-job-protection = false", asks), "seal-refused");
    // What a job seals keeps all of its noise, which the account counts as before.
    assert_eq!(with("", asks), "ok");
    assert_eq!(with("metrics = { allow = [\"loss\"] }", ""), "metric-refused");
    // Nothing leaves in the clear beside what is sealed, in either unit.
    let seal =
        "metrics = { allow = [\"loss\"] }\nprotect = { scheme = \"threshold\", min-sites = 4 }";
    let clipped = format!("[{{ filter = \"clip\", l2 = 1.0 }}, {GAUSSIAN}]");
    assert_eq!(check("site", &clipped, seal, "", &promise(None)), "metric-refused");
    let steps = Promise { local_steps: 2, ..record.clone() };
    assert_eq!(check("record", &noise, "", "", &steps), "local-steps");
}

/// Under a seal, the noise of the chain is this site's share, for the fewest honest sites.
#[test]
fn a_seal_shares_the_noise() {
    let protect = r#"protect = { scheme = "threshold", min-sites = 4, colluders = 1 }"#;
    let policy = policy("record", &format!("[{GAUSSIAN}]"), protect);
    let promise = promise(Some(bound()));
    let chain = Chain::compile(&policy, &job(""), &promise, &registry(), "local").unwrap();
    let event = chain.events()[0];
    assert_eq!((event.sharers, event.mechanism.noise_multiplier()), (Some(3), 4.0));
    let coarse = bound().coarser(8);
    assert_eq!(chain.promise().bound, Some(coarse));
    let sigma = 4.0 * coarse.lattice_units as f64 / 3f64.sqrt();
    assert!((event.mechanism.deviation_units() / sigma - 1.0).abs() < 1e-12);
    // Peers have to add as much, and a number may be a record's bound for each record and twelve
    // deviations beyond.
    let terms = chain.terms(None).unwrap();
    assert_eq!(terms.noise, (sigma * sigma).floor() as u64);
    let records = policy.datasets.values().next().unwrap().records;
    let most = records * coarse.lattice_units + (12.0 * sigma).ceil() as u64;
    assert!(terms.most.abs_diff(most) <= 1, "{} {most}", terms.most);
    let ledger = crate::testing::ledger(&policy);
    let alone = chain.epsilon_if_seal_broken(&*ledger, "local", 20).unwrap().unwrap();
    // ρ = 20·3/32 instead of 20/32.
    assert!(alone > 9.0 && alone < 11.0, "{alone}");
    assert!(chain.seal_suffices(&*ledger, "local", 20).is_ok());
    let strict = protect.replace("colluders = 1", "colluders = 1, alone-epsilon-max = 8.0");
    let policy = crate::testing::policy("record", &format!("[{GAUSSIAN}]"), &strict);
    let chain = Chain::compile(&policy, &job(""), &promise, &registry(), "local").unwrap();
    let refused = chain.seal_suffices(&*ledger, "local", 20).unwrap_err();
    assert_eq!(refused.code, Code::SealTooThin);
    assert!(chain.seal_suffices(&*ledger, "local", 10).is_ok());
}

/// A job puts a little noise and a guard before the site's noise: the guard's decision is a release of
/// its own, which the site's noise does not pay for.
#[test]
fn a_decision_between_two_noises_is_paid_by_the_first() {
    let policy = policy("record", &format!("[{GAUSSIAN}]"), "");
    let statistics = Promise { kind: DataKind::Statistics, ..promise(Some(bound())) };
    let filter = |name: &str, key: &str| {
        format!("[[filter]]\ntask = [\"train\"]\nat = \"out\"\nfilter = \"{name}\"\n{key}\n")
    };
    let little = filter("gaussian", "noise-multiplier = 0.0001");
    let guard = filter("statistics-guard", "min-count = 113.5");
    let multipliers = |more: &str| -> Vec<f64> {
        let chain = Chain::compile(&policy, &job(more), &statistics, &registry(), "local").unwrap();
        chain.events().iter().map(|event| event.mechanism.noise_multiplier()).collect()
    };
    assert_eq!(multipliers(&little), [4.0]);
    assert_eq!(multipliers(&(little.clone() + &guard)), [0.0001, 4.0]);
    // What a user's program says of its own filter is not believed.
    assert!(registry().is_blind("schema") && !registry().is_blind("statistics-guard"));
}

/// Updates are weighed under a seal unless their noise is a share, which must not be multiplied.
#[test]
fn shares_of_noise_are_not_weighed() {
    const PROTECT: &str = r#"protect = { scheme = "threshold", min-sites = 4 }"#;
    const ONE_KEY: &str = r#"protect = { scheme = "tfhe", min-sites = 4, colluders = 0 }"#;
    let (clipped, noised) = (format!("[{CLIP}]"), format!("[{CLIP}, {GAUSSIAN}]"));
    let weight = |out: &str, more: &str| {
        let policy = policy("site", out, more);
        let chain =
            Chain::compile(&policy, &job(""), &promise(None), &registry(), "local").unwrap();
        (chain.weight(), chain.terms(None).unwrap().weight_bits, chain.shares_noise())
    };
    // A hundred records are below 2^7.
    assert_eq!(weight(&clipped, PROTECT), (Weight::Records, Some(7), false));
    let equal = format!("{PROTECT}\nweight = \"equal\"");
    assert_eq!(weight(&clipped, &equal), (Weight::Equal, None, false));
    assert_eq!(weight(&noised, PROTECT), (Weight::Equal, None, true));
    // Under a key that every site has, a site's noise is whole.
    assert_eq!(weight(&noised, ONE_KEY), (Weight::Records, Some(7), false));
    let records = format!("{PROTECT}\nweight = \"records\"");
    assert_eq!(weight(&clipped, &records), (Weight::Records, Some(7), false));
    assert_eq!(check("site", &noised, &records, "", &promise(None)), "invalid-policy");
    // Sums over records are weighed by their records already.
    let policy = policy("record", &format!("[{GAUSSIAN}]"), PROTECT);
    let sums = promise(Some(bound()));
    let chain = Chain::compile(&policy, &job(""), &sums, &registry(), "local").unwrap();
    assert_eq!((chain.weight(), chain.terms(None).unwrap().weight_bits), (Weight::Records, None));
}

/// The most that one site's updates may be worth without their seal is held to whatever the seal.
#[test]
fn thin_updates_are_refused_under_any_seal() {
    let suffices = |out: &str, protect: &str| {
        let policy =
            policy("site", out, &format!("protect = {{ {protect}, alone-epsilon-max = 2.0 }}"));
        let chain =
            Chain::compile(&policy, &job(""), &promise(None), &registry(), "local").unwrap();
        chain.seal_suffices(&*ledger(&policy), "local", 20).map_err(|reason| reason.code)
    };
    let noise = |z: f64| format!("[{CLIP}, {{ filter = \"gaussian\", noise-multiplier = {z} }}]");
    let shared = "scheme = \"threshold\", min-sites = 4";
    let one_key = "scheme = \"tfhe\", min-sites = 4, colluders = 0";
    assert_eq!(suffices(&noise(400.0), shared), Ok(()));
    assert_eq!(suffices(&noise(12.0), shared), Err(Code::SealTooThin));
    // Whole, the same noise is enough; less is not; none is worth no bound.
    assert_eq!(suffices(&noise(12.0), one_key), Ok(()));
    assert_eq!(suffices(&noise(4.0), one_key), Err(Code::SealTooThin));
    for protect in [shared, one_key] {
        assert_eq!(suffices(&format!("[{CLIP}]"), protect), Err(Code::SealTooThin));
    }
}

#[test]
fn no_rule_no_job() {
    let record = promise(Some(bound()));
    let policy = policy("record", &format!("[{GAUSSIAN}]"), "");
    let code = |job: &Job| match Chain::compile(&policy, job, &record, &registry(), "local") {
        Err(CompileError::Refused(refusal)) => refusal.code,
        _ => panic!("a refusal was expected"),
    };
    let mut other = job("");
    other.dataset = "mr".into();
    assert_eq!(code(&other), Code::UnknownDataset);
    let statistics = Job { work: crate::Work::Statistics(vec![]), ..job("") };
    assert_eq!(code(&statistics), Code::NoMatchingRule);
}

/// A job's filters come before the site's on the way out and after them on the way in.
#[test]
fn site_filters_are_nearest_the_wire() {
    let filter =
        |at: &str| format!("[[filter]]\ntask = [\"train\"]\nat = \"{at}\"\nfilter = \"schema\"\n");
    let policy = policy(
        "record",
        &format!("[{GAUSSIAN}]"),
        "in = [{ filter = \"max-size\", bytes = \"1 MiB\" }]",
    );
    let job = job(&(filter("out") + &filter("in")));
    let chain =
        Chain::compile(&policy, &job, &promise(Some(bound())), &registry(), "local").unwrap();
    let tags = |links: &[Link]| links.iter().map(Link::tag).collect::<Vec<_>>();
    assert_eq!(tags(&chain.out), ["schema@job", "gaussian@site"]);
    assert_eq!(tags(&chain.input), ["max-size@site", "schema@job"]);
}

proptest! {
    /// Whatever filters a job adds, the site's filters are all there, in their order, last; and a
    /// record-level chain that compiles is paid for.
    #[test]
    fn a_job_adds_and_never_removes(
        added in proptest::collection::vec(0usize..5, 0..4),
        site_gaussian: bool,
    ) {
        const POOL: [&str; 5] = [
            "filter = \"schema\"",
            "filter = \"gaussian\"\nnoise-multiplier = 1.0",
            "filter = \"allow-tensors\"\nnames = [\"*\"]",
            "filter = \"max-size\"\nbytes = 1000",
            "filter = \"clip\"\nl2 = 1.0",
        ];
        let more: String = added
            .iter()
            .map(|&i| format!("[[filter]]\ntask = [\"train\"]\nat = \"out\"\n{}\n", POOL[i]))
            .collect();
        let out = match site_gaussian {
            true => format!(r#"[{{ filter = "schema" }}, {GAUSSIAN}]"#),
            false => r#"[{ filter = "schema" }]"#.to_owned(),
        };
        let policy = policy("record", &out, "");
        let compiled = Chain::compile(&policy, &job(&more), &promise(Some(bound())), &registry(), "local");
        if let Ok(chain) = compiled {
            prop_assert!(!chain.events().is_empty());
            let least = if site_gaussian { 4.0 } else { 1.0 };
            prop_assert!(chain.noise_multiplier() >= Some(least));
            let site: Vec<_> = chain.out.iter().skip(added.len()).map(Link::tag).collect();
            let expected: &[&str] = if site_gaussian { &["schema@site", "gaussian@site"] } else { &["schema@site"] };
            prop_assert_eq!(site, expected);
        } else {
            // Only a clip of what is on the lattice already, or the want of any noise, is refused.
            prop_assert!(added.contains(&4) || !(site_gaussian || added.contains(&1)));
        }
    }
}
