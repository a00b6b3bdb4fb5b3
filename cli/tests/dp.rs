//! `privet dp` and `privet bench dp`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::privet_in;
use serde_json::Value;

fn dp(line: &str) -> (i32, Value) {
    let folder = tempfile::tempdir().unwrap();
    let args: Vec<&str> = line.split_whitespace().collect();
    let said = privet_in(folder.path(), &args);
    (said.code, said.json())
}

fn number(line: &str, key: &str) -> f64 {
    let (code, document) = dp(line);
    assert_eq!(code, 0, "{line}: {document}");
    document[key].as_f64().unwrap()
}

/// Values by the closed form of Balle and Wang, by dp-accounting 0.6, and by 1 − e^{(ε−ε₀)/2}.
#[test]
fn plans_have_their_price() {
    for (line, epsilon, within) in [
        ("--noise-multiplier 5 --rounds 40 --delta 1e-5", 5.759_481_47, 1e-6),
        ("--noise-multiplier 5 --rounds 40 --delta 1e-5 --accountant pld", 5.759_481_47, 1e-3),
        ("--noise-multiplier 1.1 --rounds 50 --delta 1e-6 --accountant pld", 50.470_451_25, 1e-3),
        ("--noise-multiplier 1.3 --rounds 1 --delta 3e-6 --adjacency replace", 7.683_152, 1e-6),
        ("--noise-multiplier 1 --rounds 500 --sampling-rate 0.02 --delta 1e-5", 2.7735, 1e-3),
        (
            "--noise-multiplier 1 --rounds 500 --sampling-rate 0.02 --delta 1e-5 --accountant rdp",
            3.1458,
            1e-3,
        ),
        ("--noise-multiplier 4 --rounds 20 --delta 1e-5 --accountant zcdp", 5.379, 1e-3),
        ("--mechanism laplace --noise-multiplier 1 --rounds 1 --delta 0.2211992169", 0.5, 1e-3),
        // A deployed setting of another toolkit: clip 1, σ = 4.845e-5.
        ("--noise-multiplier 4.845e-5 --rounds 1 --delta 1e-5", 2.1309e8, 1e-3),
    ] {
        let got = number(&format!("dp epsilon {line} --json"), "epsilon");
        assert!((got / epsilon - 1.0).abs() < within, "{line}: {got}");
    }
    let (_, document) = dp("dp epsilon --noise-multiplier 4 --rounds 20 --delta 1e-5 --json");
    assert_eq!(
        (&document["accountant"], &document["adjacency"]),
        (&"exact".into(), &"add-remove".into())
    );
}

#[test]
fn calibration_finds_the_least_noise() {
    for plan in
        ["--rounds 20", "--rounds 1000 --sampling-rate 0.01", "--rounds 20 --adjacency replace"]
    {
        let line = format!("dp calibrate --epsilon 2 --delta 1e-5 {plan} --json");
        let z = number(&line, "noise_multiplier");
        let at = |z: f64| {
            number(
                &format!("dp epsilon --noise-multiplier {z} --delta 1e-5 {plan} --json"),
                "epsilon",
            )
        };
        assert!(at(z) <= 2.0 && at(0.999 * z) > 2.0, "{plan}: {z}");
    }
}

#[test]
fn what_cannot_be_counted_is_usage() {
    for line in [
        "dp epsilon --noise-multiplier 0 --rounds 1 --delta 1e-5 --json",
        "dp epsilon --noise-multiplier 1 --rounds 1 --delta 0 --json",
        "dp epsilon --noise-multiplier 1 --rounds 1 --delta 1e-5 --sampling-rate 2 --json",
        "dp epsilon --noise-multiplier 1 --rounds 9 --delta 1e-5 --sampling-rate 0.1 --accountant zcdp --json",
        "dp epsilon --mechanism laplace --noise-multiplier 1 --rounds 9 --delta 1e-5 --accountant exact --json",
        "dp calibrate --epsilon 0 --rounds 1 --delta 1e-5 --json",
        "dp calibrate --epsilon 1 --rounds 0 --delta 1e-5 --json",
        "dp calibrate --epsilon 1e-9 --rounds 1 --delta 1e-12 --json",
        "dp epsilon --noise-multiplier 1e-300 --rounds 1 --delta 1e-5 --json",
    ] {
        let (code, document) = dp(line);
        assert_eq!((code, &document["error"]["code"]), (2, &"usage".into()), "{line}");
    }
}

#[test]
fn the_benchmark_says_what_it_measured() {
    let (code, document) = dp("bench dp --params 100000 --threads 2 --json");
    assert_eq!(code, 0);
    let sampler = document["sampler_ns_per_draw"].as_object().unwrap();
    assert_eq!(sampler.keys().collect::<Vec<_>>(), ["1", "100", "1000000", "4096"]);
    for key in [
        "laplace_ns_per_draw",
        "filter_ns_per_param",
        "normal_unsafe_ns_per_draw",
        "peak_rss_bytes",
    ] {
        assert!(document[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!((&document["params"], &document["threads"]), (&100_000.into(), &2.into()));
    assert_eq!(document["machine"]["backend"], document["backend"]);
}
