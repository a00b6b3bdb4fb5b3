//! Set intersection through the binary: what each site is told, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use std::path::Path;

use common::{Said, privet_in, repository};
use serde_json::Value;

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        files
            .iter()
            .for_each(|(name, text)| std::fs::write(folder.path().join(name), text).unwrap());
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// `psi local` over files, with further arguments.
    fn local(&self, sites: &[&str], more: &[&str]) -> Said {
        let args = [&["psi", "local", "--json", "--sites"], sites, more].concat();
        privet_in(self.path(), &args)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).unwrap()
    }
}

fn ids(range: std::ops::Range<u32>) -> Vec<u8> {
    let rows: String = range.map(|i| format!("user{i}@example.com,{i}\n")).collect();
    format!("email,n\n{rows}").into_bytes()
}

fn intersections(result: &Value) -> Vec<Value> {
    result["sites"].as_array().unwrap().iter().map(|site| site["intersection"].clone()).collect()
}

/// Every site gets its own rows, with all their columns, in its own order, whatever they hold.
#[test]
fn rows_come_back_as_they_were() {
    let files = Files::new(&[
        ("a.csv", b"id,note\nx,\"one, \"\"quoted\"\"\"\ny,\xff\xfe\nz,3\nx,again\n,blank\n"),
        ("b.csv", b"other,id\n1,z\n2,w\n3,x\n4,y\n"),
        ("c.tsv", b"id\tv\nz\t1\n\"x\"\t2\ny\t3\n"),
    ]);
    let said = files.local(&["a.csv", "b.csv", "c.tsv"], &["--column", "id", "--out", "out"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let result = said.json();
    assert_eq!(result["intersection_size"], 3);
    assert_eq!((&result["reveal"], &result["protocol"]), (&"all".into(), &"ecdh".into()));
    let a = &result["sites"][0];
    assert_eq!((&a["name"], &a["items"], &a["duplicates"]), (&"a".into(), &3.into(), &1.into()));
    assert_eq!(files.read("out/a.csv"), b"id,note\nx,\"one, \"\"quoted\"\"\"\ny,\xff\xfe\nz,3\n");
    assert_eq!(files.read("out/b.csv"), b"other,id\n1,z\n3,x\n4,y\n");
    assert_eq!(files.read("out/c.csv"), b"id\tv\nz\t1\nx\t2\ny\t3\n");
    for key in ["bytes", "wall_s", "cpu_s", "refusals"] {
        assert!(!result[key].is_null(), "{key}");
    }
}

/// The runs that NVFlare's tree gets wrong, by both protocols: an empty pair inside, an empty site, nested sets.
#[test]
fn no_smaller_intersection_is_taken_for_that_of_all() {
    let empty: &[u8] = b"email,n\n";
    let files = Files::new(&[
        ("s1.csv", &ids(0..10)),
        ("s2.csv", &ids(100..120)),
        ("s3.csv", &ids(100..130)),
        ("s4.csv", &ids(100..140)),
        ("none.csv", empty),
        ("one.csv", &ids(110..111)),
    ]);
    for protocol in ["ecdh", "vole"] {
        for (sites, size) in [
            (&["s1.csv", "s2.csv", "s3.csv", "s4.csv"][..], 0),
            (&["s2.csv", "none.csv", "s3.csv"], 0),
            (&["s4.csv", "s3.csv", "s2.csv"], 20),
            (&["s4.csv", "one.csv", "s2.csv"], 1),
            (&["none.csv", "s2.csv"], 0),
            (&["one.csv", "s2.csv"], 1),
        ] {
            let more = ["--column", "email", "--protocol", protocol, "--out", "out"];
            let said = files.local(sites, &more);
            assert_eq!(said.code, 0, "{sites:?}: {}", said.stderr);
            let result = said.json();
            assert_eq!(result["intersection_size"], size, "{protocol} {sites:?}");
            assert!(intersections(&result).iter().all(|found| *found == size));
            for site in sites {
                let rows = String::from_utf8(files.read(&format!("out/{site}"))).unwrap();
                assert_eq!(rows.lines().count() as u64, 1 + size, "{site}");
            }
            std::fs::remove_dir_all(files.path().join("out")).unwrap();
        }
    }
}

#[test]
fn who_is_not_to_learn_is_not_told() {
    let files =
        Files::new(&[("a.csv", &ids(0..50)), ("b.csv", &ids(20..90)), ("c.csv", &ids(30..60))]);
    for sites in [&["a.csv", "b.csv"][..], &["a.csv", "b.csv", "c.csv"]] {
        let size: Value = if sites.len() == 2 { 30.into() } else { 20.into() };
        let reveal = |reveal: &str| {
            let more = ["--column", "email", "--reveal", reveal, "--out", "out"];
            let result = files.local(sites, &more).json();
            let written = sites.iter().map(|site| files.path().join("out").join(site).exists());
            let written: Vec<bool> = written.collect();
            std::fs::remove_dir_all(files.path().join("out")).unwrap();
            (result, written)
        };
        let (result, written) = reveal("first");
        assert_eq!(result["intersection_size"], size);
        let mut expected = vec![Value::Null; sites.len()];
        expected[0] = size.clone();
        assert_eq!(intersections(&result), expected);
        assert_eq!(written.iter().filter(|written| **written).count(), 1);
        assert!(written[0]);
        let (result, written) = reveal("size");
        assert_eq!(intersections(&result), vec![size.clone(); sites.len()]);
        assert!(!written.contains(&true));
    }
}

#[test]
fn keys_are_normalised_alike_or_not_at_all() {
    let files = Files::new(&[
        ("a.csv", b"email\n Ada@Example.ORG \nben@example.org\n"),
        ("b.csv", b"email\nADA@EXAMPLE.ORG\nBen@example.org\n"),
    ]);
    let size = |more: &[&str]| {
        let said = files.local(&["a.csv", "b.csv"], &[&["--column", "email"], more].concat());
        said.json()["intersection_size"].clone()
    };
    assert_eq!(size(&[]), 0);
    assert_eq!(size(&["--normalise", "email"]), 2);
    assert_eq!(size(&["--normalise", "trim,lower"]), 2);
    assert_eq!(size(&["--normalise", "trim"]), 0);
}

#[test]
fn what_is_wrong_with_a_file_is_said_without_its_ids() {
    let files = Files::new(&[("a.csv", b"id\nsecret-7\nsecret-7\n"), ("b.csv", b"id\nsecret-7\n")]);
    let fails = |sites: &[&str], more: &[&str], exit: i32, code: &str| {
        let said = files.local(sites, more);
        assert_eq!(
            (said.code, &said.json()["error"]["code"]),
            (exit, &code.into()),
            "{}",
            said.stderr
        );
        assert!(!said.stderr.contains("secret") && !said.stdout.contains("secret"));
        said
    };
    fails(&["a.csv", "b.csv"], &["--column", "idd"], 2, "data-unreadable");
    fails(&["a.csv", "none.csv"], &["--column", "id"], 2, "data-unreadable");
    fails(&["a.csv", "a.csv"], &["--column", "id"], 2, "invalid-job");
    fails(&["a.csv", "b.csv"], &["--column", "id", "--normalise", "upper"], 2, "invalid-job");
    let refused =
        fails(&["a.csv", "b.csv"], &["--column", "id", "--duplicates", "refuse"], 3, "withheld");
    assert!(
        refused.stderr.contains("1 row") || refused.stderr.contains("duplicate"),
        "{}",
        refused.stderr
    );
}

const SITE: &str = "schema = 1\n[site]\nname = \"a\"\n[dataset.people]\npath = \"elsewhere.csv\"\n\
    unit = \"record\"\nrecords = 50\nbudget = { epsilon = 1.0, delta = 1e-5 }\n\
    [[psi]]\ndataset = \"people\"\npeers = [\"b\", \"c\"]\nreveal = \"rows\"\nmin-intersection = 25\n\
    max-fraction = 0.7\nruns = { max = 3, window = \"30d\" }\n";

fn guarded() -> Files {
    let files = Files::new(&[
        ("a.csv", &ids(0..50)),
        ("b.csv", &ids(20..90)),
        ("c.csv", &ids(0..1000)),
        ("d.csv", &ids(0..30)),
    ]);
    std::fs::write(files.path().join("site.toml"), SITE).unwrap();
    files
}

/// A refusal of one is everybody's, before anything is written.
#[test]
fn a_guard_refuses_for_all() {
    let files = guarded();
    let run = |sites: &[&str], policy: &str| {
        let more = ["--column", "email", "--policy", policy, "--out", "out"];
        let said = files.local(sites, &more);
        // Runs are counted beside the policy: each case starts anew.
        let _ = std::fs::remove_file(files.path().join("site.runs"));
        said
    };
    let fine = run(&["a.csv", "b.csv"], "a=site.toml");
    assert_eq!((fine.code, &fine.json()["intersection_size"]), (0, &30.into()), "{}", fine.stderr);
    std::fs::remove_dir_all(files.path().join("out")).unwrap();
    for (sites, code) in [
        // All 50 of its items; 20 of them.
        (&["a.csv", "c.csv"][..], "size-gate"),
        (&["a.csv", "b.csv", "c.csv"], ""),
        (&["a.csv", "d.csv"], "not-admitted"),
    ] {
        let said = run(sites, "a=site.toml");
        if code.is_empty() {
            assert_eq!(said.code, 0, "{}", said.stderr);
            std::fs::remove_dir_all(files.path().join("out")).unwrap();
            continue;
        }
        assert_eq!(said.code, 3, "{}", said.stderr);
        let result = said.json();
        let refusals = result["refusals"].as_array().unwrap();
        let of = |site: &str| refusals.iter().find(|refusal| refusal["site"] == site);
        assert_eq!(of("a").unwrap()["code"], code);
        assert_eq!(of("a").unwrap()["stage"], "psi");
        assert_eq!(result["intersection_size"], Value::Null);
        assert!(!files.path().join("out").exists());
    }
    let few = SITE.replace("min-intersection = 25", "min-intersection = 31");
    std::fs::write(files.path().join("site.toml"), few).unwrap();
    let said = run(&["a.csv", "b.csv"], "a=site.toml");
    assert_eq!((said.code, &said.json()["refusals"][0]["code"]), (3, &"size-gate".into()));
    let sizes = SITE.replace("\"rows\"", "\"size\"");
    std::fs::write(files.path().join("site.toml"), sizes).unwrap();
    let said = run(&["a.csv", "b.csv"], "a=site.toml");
    assert_eq!((said.code, &said.json()["refusals"][0]["code"]), (3, &"no-matching-rule".into()));
}

#[test]
fn without_a_section_nothing_leaves() {
    let files = guarded();
    let (open, _) = SITE.split_once("[[psi]]").unwrap();
    std::fs::write(files.path().join("site.toml"), open).unwrap();
    let said = files.local(&["a.csv", "b.csv"], &["--column", "email", "--policy", "a=site.toml"]);
    assert_eq!((said.code, &said.json()["refusals"][0]["code"]), (3, &"no-matching-rule".into()));
    let wrong = files.local(&["a.csv", "b.csv"], &["--column", "email", "--policy", "z=site.toml"]);
    assert_eq!(wrong.code, 2);
}

#[test]
fn runs_are_counted_from_one_command_to_the_next() {
    let files = guarded();
    let run = || {
        let more = ["--column", "email", "--policy", "a=site.toml"];
        let said = files.local(&["a.csv", "b.csv"], &more);
        (said.code, said.json()["refusals"][0]["code"].clone())
    };
    for _ in 0..3 {
        assert_eq!(run(), (0, Value::Null));
    }
    assert_eq!(run(), (3, "runs-exhausted".into()));
}

#[test]
fn vole_says_that_it_cannot_count_first() {
    let files = guarded();
    let more = ["--column", "email", "--policy", "a=site.toml", "--protocol", "vole"];
    let said = files.local(&["a.csv", "b.csv"], &more);
    assert_eq!((said.code, &said.json()["refusals"][0]["code"]), (3, &"cannot-count".into()));
}

/// The size that all are told has the section's noise, which the data set's budget pays for from one command to
/// the next, until it is empty.
#[test]
fn a_size_with_noise_is_paid_for() {
    let files = guarded();
    let noised = SITE
        .replace("\"rows\"", "\"size\"")
        .replace(
            "min-intersection = 25\nmax-fraction = 0.7",
            "min-intersection = 0\nmax-fraction = 1.0",
        )
        .replace("max = 3", "max = 100")
        + "out = [{ filter = \"laplace\", noise-multiplier = 6.0 }]\n";
    std::fs::write(files.path().join("site.toml"), noised).unwrap();
    let run = |sites: &[&str]| {
        files.local(sites, &["--column", "email", "--reveal", "size", "--policy", "a=site.toml"])
    };
    let (mut told, mut refused) = (Vec::new(), None);
    for _ in 0..30 {
        let said = run(&["a.csv", "b.csv"]);
        let result = said.json();
        if said.code != 0 {
            refused = Some((said.code, result["refusals"][0]["code"].clone()));
            assert_eq!(result["intersection_size"], Value::Null);
            break;
        }
        let size = &result["intersection_size"];
        assert_eq!(intersections(&result), [size.clone(), size.clone()]);
        assert!((result["noise"].as_f64().unwrap() - 6.0 * 2f64.sqrt()).abs() < 1e-9);
        told.push(size.as_u64().unwrap());
    }
    // ε = 1 pays for a few of them; the same number each time has a chance of 12 in a thousand a run.
    assert_eq!(refused, Some((4, "budget-exhausted".into())), "{told:?}");
    assert!(told.len() >= 2, "{told:?}");
    // More would be told of the same set by another's noise: everybody who wants noise pays.
    assert_eq!(run(&["c.csv", "a.csv", "b.csv"]).code, 4);
}

/// Four million rows a side take no more memory than one million.
#[test]
#[ignore = "half a minute"]
fn a_set_may_be_larger_than_memory() {
    let folder = tempfile::tempdir().unwrap();
    let said = privet_in(folder.path(), &["bench", "psi", "--items", "4194304", "--json"]);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let result = said.json();
    assert_eq!(result["intersection"], result["expected"]);
    let peak = result["peak_rss_bytes"].as_u64().unwrap();
    assert!(peak < 400 << 20, "{peak}");
}

/// The shipped job: processes of their own, rows in each site's folder, no id in any log.
#[test]
fn the_example_runs_as_a_job() {
    let folder = tempfile::tempdir().unwrap();
    let job = repository().join("examples/psi/job.toml");
    let args = ["run", job.to_str().unwrap(), "--workspace", "w", "--processes", "--json"];
    let said = privet_in(folder.path(), &args);
    assert_eq!(said.code, 0, "{}", said.stderr);
    let result = said.json();
    assert_eq!((&result["workflow"], &result["status"]), (&"psi".into(), &"done".into()));
    assert_eq!(result["psi"]["intersection_size"], 37);
    let keys = |name: &str| {
        let rows =
            std::fs::read_to_string(folder.path().join("w/sites").join(name).join("matching.csv"));
        let rows = rows.unwrap();
        let key = |row: &str| row.split(',').next().unwrap().trim().to_lowercase();
        let mut keys: Vec<String> = rows.lines().skip(1).map(key).collect();
        keys.sort();
        keys
    };
    let common = keys("registry-a");
    assert_eq!((common.len(), &common), (37, &keys("registry-b")));
    assert_eq!(common, keys("registry-c"));
    let mut folders = vec![folder.path().join("w")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().unwrap() != "matching.csv" {
                let bytes = std::fs::read(&path).unwrap().to_ascii_lowercase();
                let holds = |id: &String| bytes.windows(id.len()).any(|w| w == id.as_bytes());
                assert!(!common.iter().any(holds), "{} holds an id", path.display());
            }
        }
    }
    let report = std::fs::read_to_string(folder.path().join("w/report.html")).unwrap();
    assert!(report.contains("Items in common") && !report.contains("Accuracy"));
    let log =
        std::fs::read_to_string(folder.path().join("w/sites/registry-b/audit.jsonl")).unwrap();
    assert!(
        log.contains("\"event\":\"intersect\"") && log.contains("\"rule\":\"psi:14\""),
        "{log}"
    );
}

#[test]
fn the_benchmark_says_what_it_measured() {
    let folder = tempfile::tempdir().unwrap();
    for (protocol, sites) in [("ecdh", "2"), ("vole", "2"), ("vole", "3")] {
        let args =
            ["bench", "psi", "--items", "3000", "--sites", sites, "--protocol", protocol, "--json"];
        let measured = privet_in(folder.path(), &args).json();
        assert_eq!(
            (&measured["intersection"], &measured["expected"]),
            (&1500.into(), &1500.into())
        );
        assert_eq!((&measured["items"], &measured["protocol"]), (&3000.into(), &protocol.into()));
        for key in ["wall_s", "cpu_s", "bytes_per_item", "peak_rss_bytes"] {
            assert!(measured[key].as_f64().unwrap() >= 0.0, "{key}");
        }
        // A point there and back, and a tag.
        let least = if protocol == "ecdh" { 64.0 } else { 20.0 };
        assert!(measured["bytes_per_item"].as_f64().unwrap() > least, "{measured}");
    }
}

/// Peers that are missing make another intersection, and other columns another question.
#[test]
fn a_section_may_want_all_peers_and_its_own_columns() {
    let files = guarded();
    let run = |sites: &[&str], extra: &str| {
        let section = format!("dataset = \"people\"\n{extra}\npeers");
        let text = SITE.replace("dataset = \"people\"\npeers", &section);
        std::fs::write(files.path().join("site.toml"), text).unwrap();
        let said = files.local(sites, &["--column", "email", "--policy", "a=site.toml"]);
        let _ = std::fs::remove_file(files.path().join("site.runs"));
        (said.code, said.json()["refusals"][0]["code"].clone())
    };
    let (two, three) = (&["a.csv", "b.csv"][..], &["a.csv", "b.csv", "c.csv"][..]);
    assert_eq!(run(two, ""), (0, Value::Null));
    assert_eq!(run(three, "all-peers = true"), (0, Value::Null));
    assert_eq!(run(two, "all-peers = true"), (3, "not-admitted".into()));
    assert_eq!(run(two, "columns = [\"email\"]"), (0, Value::Null));
    assert_eq!(run(two, "columns = [\"n\"]"), (3, "no-matching-rule".into()));
}

#[test]
fn a_policy_is_checked_and_explained() {
    let folder = repository().join("examples/psi");
    let run = |words: &[&str]| {
        privet_in(&folder, &[words, &["sites/registry-a.toml", "--job", "job.toml"]].concat())
    };
    let checked = run(&["policy", "check"]);
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    let letter = run(&["policy", "explain"]);
    assert_eq!(letter.code, 0);
    assert!(letter.stdout.contains("Nothing is told unless at least 5 items"), "{}", letter.stdout);
    let job = folder.join("../hospitals/job.toml");
    let other = ["policy", "check", "sites/registry-a.toml", "--job", job.to_str().unwrap()];
    assert_eq!(privet_in(&folder, &other).code, 3);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => assert!(std::fs::copy(path, to).is_ok()),
        }
    }
}

/// Patients that two registries hold are counted once: intersection, the other rows, statistics.
#[test]
fn two_registries_count_their_patients_once() {
    let folder = tempfile::tempdir().unwrap();
    copy(&repository().join("examples/lung"), folder.path());
    let run = |job: &str| {
        let said = privet_in(folder.path(), &["run", job, "--json"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        said.json()
    };
    let who = run("who.toml");
    assert_eq!(who["psi"]["intersection_size"], 82);
    let rest = folder.path().join("workspace/who/sites/inland/rest.csv");
    std::fs::copy(rest, folder.path().join("sites/data/inland-once.csv")).unwrap();
    let described = run("describe.toml");
    let (count, error) =
        (&described["statistics"][0]["count"], &described["statistics"][0]["count_error"]);
    let (count, error) = (count.as_f64().unwrap(), error.as_f64().unwrap());
    // Six standard deviations of the noise; counted twice there would be 309.
    assert!(error < 6.0 && (count - 227.0).abs() < 6.0 * error, "{count} ± {error}");
}

/// A site is killed in mid-run: the others are told, and nobody is shown anything.
#[test]
fn a_killed_site_ends_the_run() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(privet_in(folder.path(), &["init", "psi", "demo"]).code, 0);
    for (site, start) in [("a", 0), ("b", 3000), ("c", 5000)] {
        let path = folder.path().join(format!("demo/sites/data/registry-{site}.csv"));
        std::fs::write(path, ids(start..start + 12_000)).unwrap();
    }
    let job = folder.path().join("demo/job.toml");
    let text = std::fs::read_to_string(&job).unwrap();
    std::fs::write(&job, text.replace("reveal =", "protocol = \"ecdh\"\nreveal =")).unwrap();
    let running = std::process::Command::new(common::BINARY)
        .args(["run", "demo/job.toml", "--workspace", "w", "--processes", "--json"])
        .current_dir(folder.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let progress = folder.path().join("w/server/progress.jsonl");
    let carried = || std::fs::read_to_string(&progress).unwrap_or_default().contains("carried");
    common::running::wait_for("the first bytes", carried);
    let killed = std::time::Instant::now();
    common::running::kill(&folder.path().join("w/sites/registry-b"));
    let output = running.wait_with_output().unwrap();
    // Far below the ten minutes that a silent site is given.
    assert!(killed.elapsed() < std::time::Duration::from_secs(60), "{:?}", killed.elapsed());
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", result["error"]);
    assert_eq!(result["error"]["code"], "too-few-sites");
    for site in ["a", "b", "c"] {
        assert!(!folder.path().join(format!("w/sites/registry-{site}/matching.csv")).exists());
    }
    let report = std::fs::read_to_string(folder.path().join("w/report.html")).unwrap();
    assert!(report.contains("Items in common") && !report.contains("Accuracy"));
}
