use super::*;
use crate::testing::{job_text, parse_job};

fn code(text: &str) -> String {
    parse_job(text).unwrap_err().remove(0).code
}

#[test]
fn a_whole_job_is_read() {
    let job = parse_job(&job_text(
        "[[filter]]\ntask = [\"train\"]\nat = \"out\"\nfilter = \"schema\"\n\
         [[filter]]\ntask = [\"*\"]\nat = \"in\"\nwhere = \"server\"\nfilter = \"max-size\"\nbytes = 100\n\
         [demand]\nnoise-multiplier-min = 2.0\n",
    ))
    .unwrap();
    assert_eq!(job.filters_at(Side::Site, Direction::Out).count(), 1);
    assert_eq!(job.filters_at(Side::Server, Direction::In).count(), 1);
    assert_eq!(job.demand.noise_multiplier_min, Some(2.0));
    assert_eq!(job.training().unwrap().features.len(), 2);
}

#[test]
fn typos_anywhere_are_errors() {
    let filter = |task: &str, at: &str, filter: &str| {
        job_text(&format!("[[filter]]\ntask = {task}\nat = \"{at}\"\nfilter = \"{filter}\"\n"))
    };
    parse_job(&filter("[\"train\"]", "out", "schema")).unwrap();
    assert_eq!(code(&filter("[\"trian\"]", "out", "schema")), "unknown-task");
    assert_eq!(code(&filter("[\"psi\"]", "out", "schema")), "unknown-task");
    assert_eq!(code(&filter("[]", "out", "schema")), "invalid");
    assert_eq!(code(&filter("[\"train\"]", "outwards", "schema")), "invalid");
    assert_eq!(code(&filter("[\"train\"]", "out", "shema")), "unknown-filter");
    let good = job_text("");
    for (from, to, expected) in [
        ("rounds = 20", "rounds = 0", "invalid"),
        ("min-sites = 2", "min-sites = 0", "invalid"),
        ("min-sites = 2", "min-sites = 2\nsample = 0.0", "invalid"),
        ("min-sites = 2", "min-sites = 2\nround-timeout = \"soon\"", "invalid"),
        ("min-sites = 2", "min-sites = 2\nserver-momentum = 1.0", "invalid"),
        ("[train]", "[simulate]\nsites = []\n[train]", "invalid"),
        ("record-clip = 0.5", "record-clip = 0", "invalid"),
        ("record-clip = 0.5", "record-klip = 0.5", "unknown-key"),
        ("workflow = \"fedavg\"", "workflow = \"psi\"", "unknown-key"),
        ("features = \"features.toml\"", "", "missing-key"),
        ("\"logistic-regression\"", "\"logistic\"", "unknown-value"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        assert_eq!(code(&text), expected, "{from} → {to}");
    }
}

#[test]
fn durations_have_units() {
    assert_eq!(parse_duration("120s"), Some(Duration::from_secs(120)));
    assert_eq!(parse_duration("10 m"), Some(Duration::from_secs(600)));
    assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
    for bad in ["", "s", "12", "0s", "-1s", "1d"] {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
}

/// What a seal is bound to: everything that decides an answer, and not how many rounds are left.
#[test]
fn an_offers_digest_is_of_the_whole_job() {
    let offer = Offer {
        run: "a".into(),
        job: "learning-rate = 0.1".into(),
        features: Some("age = [0.0, 100.0]".into()),
        rounds: None,
    };
    let differs = |change: fn(&mut Offer)| {
        let mut other = offer.clone();
        change(&mut other);
        other.digest() != offer.digest()
    };
    assert!(differs(|offer| offer.run.push('b')));
    assert!(differs(|offer| offer.job = "learning-rate = 1e-300".into()));
    assert!(differs(|offer| offer.features = Some("age = [0.0, 10.0]".into())));
    assert!(!differs(|offer| offer.rounds = Some(3)));
}

/// A server's word for the number of rounds is a number of rounds.
#[test]
fn offered_rounds_are_bounded() {
    let offer = |rounds| Offer {
        run: "r".into(),
        job: crate::testing::job_text(""),
        features: Some("a = [0.0, 1.0]\nb = [0.0, 1.0]\n".into()),
        rounds: Some(rounds),
    };
    let offered = |rounds| Job::offered(&offer(rounds), &crate::testing::registry());
    assert_eq!(offered(7).unwrap().schedule.rounds, 7);
    assert!(offered(0).is_err() && offered(MAX_ROUNDS + 1).is_err());
}
