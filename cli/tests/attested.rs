//! Attestation in a federation, through the binary: the example, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use std::path::{Path, PathBuf};

use common::{Said, privet_in, repository};
use serde_json::Value;

/// The example in a folder of its own, beside its data.
struct Example(tempfile::TempDir);

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(&path, &to).unwrap();
        }
    }
}

impl Example {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for example in ["attested", "hospitals"] {
            copy(&repository().join("examples").join(example), &folder.path().join(example));
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join("attested").join(name)
    }

    fn change(&self, name: &str, from: &str, to: &str) {
        let path = self.file(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    }

    fn every_site(&self, from: &str, to: &str) {
        ["central", "north", "south"]
            .iter()
            .for_each(|site| self.change(&format!("sites/{site}.toml"), from, to));
    }

    fn run(&self, more: &[&str]) -> Said {
        let args = [&["run", "job.toml", "--workspace", "w", "--json"], more].concat();
        privet_in(&self.file(""), &args)
    }
}

fn refusals(said: &Said) -> Vec<Value> {
    let result = said.json();
    let error = result["error"]["refusals"].as_array().cloned().unwrap_or_default();
    let all = result["refusals"].as_array().cloned().unwrap_or_default();
    [error, all].concat()
}

/// Server and sites prove themselves; the firmware of one site changes in round 3, its evidence is refused, and the
/// rounds go on without it. As tasks and as processes.
#[test]
fn a_site_whose_firmware_changes_is_put_into_quarantine() {
    let example = Example::new();
    for more in [&[][..], &["--processes"]] {
        let said = example.run(more);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let result = said.json();
        let rounds = result["rounds"].as_array().unwrap();
        let answered: Vec<usize> =
            rounds.iter().map(|round| round["answered"].as_array().unwrap().len()).collect();
        assert_eq!(answered, [3, 3, 2, 2, 2, 2]);
        let refusal = &rounds[2]["refusals"][0];
        assert_eq!((&refusal["site"], &refusal["code"]), (&"south".into(), &"not-attested".into()));
        assert!(refusal["detail"].as_str().unwrap().starts_with("MeasurementMismatch: index 0"));
        let kits = example.file("w");
        let log = |kit: &str| std::fs::read_to_string(kits.join(kit).join("audit.jsonl")).unwrap();
        // Of each profile and peer a signed result, whose digest is in the log, refused or not.
        let results = std::fs::read_to_string(kits.join("server/attestations.jwt")).unwrap();
        assert_eq!(log("server").matches("ear sha256:").count(), results.lines().count());
        assert!(log("server").contains("verdict contraindicated"));
        for site in ["central", "north", "south"] {
            let log = log(&format!("sites/{site}"));
            // It looked at the server before it joined, and before the job.
            assert_eq!(log.matches("\"event\":\"attested\"").count(), 2, "{site}");
            assert!(log.matches("\"event\":\"attest\"").count() >= 5, "{site}");
        }
        let verified = ["audit", "verify", "w/server/audit.jsonl"];
        assert_eq!(privet_in(&example.file(""), &verified).code, 0);
        std::fs::remove_dir_all(kits).unwrap();
    }
}

/// Absence, devices in software without leave, on either side: exit 5, and nothing is trained.
#[test]
fn what_is_not_proved_is_refused() {
    let software = "attested = { sites = [\"gpu-only\"], max-age = \"10m\", allow-simulated = true";
    type Change<'a> = &'a dyn Fn(&Example);
    let cases: [(Change<'_>, &str); 6] = [
        (&|e| e.change("job.toml", "server-shows = [\"software\"]", ""), "shows nothing"),
        (&|e| e.every_site("show = [\"software\"]", "show = []"), "shows nothing"),
        (
            &|e| e.every_site("allow-simulated = true }", "allow-simulated = false }"),
            "ChainUntrusted",
        ),
        (
            &|e| {
                e.change("job.toml", software, &software.replace("= true", "= false"));
                e.every_site("sites = [\"gpu-only\"], ", "");
            },
            "ChainUntrusted",
        ),
        // The rule wants every site attested, and the job asks none.
        (&|e| e.change("job.toml", &format!("{software}, each-round = true }}"), ""), "laxer"),
        (
            &|e| {
                e.change("job.toml", software, &software.replace("gpu-only", "gpu-cc"));
                e.every_site("sites = [\"gpu-only\"], ", "");
            },
            "DowngradeMissingKind",
        ),
    ];
    for (number, (change, detail)) in cases.into_iter().enumerate() {
        let example = Example::new();
        change(&example);
        let said = example.run(&[]);
        assert_eq!(said.code, 5, "{number}: {} {}", said.stdout, said.stderr);
        assert_eq!(said.json()["status"], "attestation-refused", "{number}");
        let told = refusals(&said);
        assert!(told.iter().all(|refusal| refusal["code"] == "not-attested"), "{number} {told:?}");
        let has = |refusal: &Value| refusal["detail"].as_str().is_some_and(|d| d.contains(detail));
        assert!(told.iter().any(has), "{number} {told:?}");
        assert_eq!(said.json()["rounds_done"], 0);
    }
}

/// One site that shows nothing is left out, and the others go on.
#[test]
fn a_site_that_shows_nothing_is_left_out() {
    let example = Example::new();
    example.change("sites/south.toml", "show = [\"software\"]", "");
    let said = example.run(&[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let rounds = said.json()["rounds"].clone();
    assert!(
        rounds.as_array().unwrap().iter().all(|r| r["answered"].as_array().unwrap().len() == 2)
    );
}

/// Evidence grows old: with a short `max-age` everybody is asked again and again, and the job is done.
#[test]
fn evidence_is_renewed_while_a_job_runs() {
    let example = Example::new();
    example.change("job.toml", "max-age = \"10m\"", "max-age = \"50ms\"");
    example.change("job.toml", ", each-round = true", "");
    example.change("job.toml", "rounds = 6", "rounds = 8");
    example.change("job.toml", ", firmware-changes = 3", "");
    example.every_site("max-age = \"10m\"", "max-age = \"50ms\"");
    let said = example.run(&[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let log = std::fs::read_to_string(example.file("w/server/audit.jsonl")).unwrap();
    assert!(log.matches("\"event\":\"attested\"").count() > 6, "{log}");
}

/// Sealed rounds, whose keys go only to those that are attested, and intersections.
#[test]
fn sealed_rounds_and_intersections_are_attested_too() {
    let example = Example::new();
    example.change("job.toml", "rounds = 6", "rounds = 3");
    example.change("job.toml", "min-sites = 2", "min-sites = 3");
    example.change("job.toml", ", firmware-changes = 3", "");
    example.every_site(
        "in = [{ filter",
        "protect = { scheme = \"threshold\", min-sites = 3, colluders = 1 }\nin = [{ filter",
    );
    let said = example.run(&[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(said.json()["receipts"]["sealed"], true);
    // In round 2 one is refused: its keys are not asked for any more, and three are needed.
    example.change("job.toml", "sites/south.toml\"", "sites/south.toml\", firmware-changes = 2");
    let said = example.run(&[]);
    assert_eq!(said.code, 5, "{}", said.stderr);
    assert_eq!(said.json()["rounds_done"], 1);

    // Registries that intersect their keys: the server asks the same of them.
    let job = example.file("job.toml");
    let text = "schema = 1\n[job]\nname = \"who\"\nworkflow = \"psi\"\n[psi]\ndataset = \"breast\"\n\
        column = [\"radius_mean\"]\nreveal = \"size\"\n[demand]\nattested = { sites = [\"gpu-only\"], \
        allow-simulated = true }\n[simulate]\nsites = [{ name = \"central\", policy = \"sites/central.toml\" }, \
        { name = \"north\", policy = \"sites/north.toml\" }]\n";
    let header =
        std::fs::read_to_string(example.file("../hospitals/sites/data/north.csv")).unwrap();
    let column = header.split(',').next().unwrap();
    std::fs::write(&job, text.replace("radius_mean", column)).unwrap();
    for (site, peer) in [("central", "north"), ("north", "central")] {
        let path = example.file(&format!("sites/{site}.toml"));
        let policy = std::fs::read_to_string(&path).unwrap();
        let section = format!(
            "\n[[psi]]\ndataset = \"breast\"\npeers = [\"{peer}\"]\nreveal = \"size\"\nmin-intersection = 0\n\
             max-fraction = 1.0\nruns = {{ max = 9, window = \"30d\" }}\n"
        );
        std::fs::write(&path, policy + &section).unwrap();
    }
    let said = example.run(&[]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let log = std::fs::read_to_string(example.file("w/server/audit.jsonl")).unwrap();
    assert!(log.matches("\"event\":\"attested\"").count() >= 4, "{log}");
    example.change("sites/north.toml", "show = [\"software\"]", "");
    assert_eq!(example.run(&[]).code, 5);
}

/// The letter says what has to be proved, and what that is not.
#[test]
fn a_letter_says_what_is_proved() {
    let example = Example::new();
    let explain = ["policy", "explain", "sites/north.toml", "--job", "job.toml"];
    let said = privet_in(&example.file(""), &explain);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let text = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("the server has to prove"), "{text}");
    assert!(text.contains("`gpu-only`") && text.contains("devices in software"), "{text}");
    example.change("sites/north.toml", "server = [\"gpu-only\"]", "server = [\"gpu-best\"]");
    let check = privet_in(&example.file(""), &["policy", "check", "sites/north.toml"]);
    assert_eq!(check.code, 2);
    assert!(check.stderr.contains("gpu-best"), "{}", check.stderr);
}
