//! One door to the binary for every end-to-end test.
#![allow(dead_code, unreachable_pub)] // every test file uses its own part

pub mod running;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

pub const BINARY: &str = env!("CARGO_BIN_EXE_privet");

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// What a command said and how it ended.
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Said {
    /// Standard output as its one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.stdout, self.stderr))
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// Runs the binary in a folder.
pub fn privet_in(folder: &Path, args: &[&str]) -> Said {
    Command::new(BINARY).args(args).current_dir(folder).output().unwrap().into()
}

/// A fresh copy of the hospitals example that a test may change.
pub struct Demo {
    folder: tempfile::TempDir,
}

impl Default for Demo {
    fn default() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let said = privet_in(folder.path(), &["init", "hospitals", "demo"]);
        assert_eq!(said.code, 0, "{}", said.stderr);
        let demo = Self { folder };
        // The curve is eight more runs; the test that is about it keeps it.
        let job = std::fs::read_to_string(demo.path("job.toml")).unwrap();
        std::fs::write(demo.path("job-with-curve.toml"), &job).unwrap();
        let (before, rest) = job.split_once("curve = [").unwrap();
        let (_, after) = rest.split_once("\n]\n").unwrap();
        let unsealed = format!("{before}{after}").replace("min-sites = 4", "min-sites = 3");
        std::fs::write(demo.path("job.toml"), unsealed).unwrap();
        // Most tests are about one site and its gate; `cli/tests/sealed.rs` is about the seal.
        for site in SITES {
            let path = demo.path(&format!("sites/{site}.toml"));
            let policy = std::fs::read_to_string(&path).unwrap();
            let lines = policy.lines().filter(|line| !line.starts_with("protect"));
            std::fs::write(path, lines.fold(String::new(), |text, line| text + line + "\n"))
                .unwrap();
        }
        demo
    }
}

pub const SITES: [&str; 5] = ["central", "east", "north", "south", "west"];

impl Demo {
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("demo").join(name)
    }

    pub fn workspace(&self) -> PathBuf {
        self.folder.path().join("workspace/hospitals")
    }

    /// Replaces text in a file; it must be there.
    pub fn edit(&self, name: &str, from: &str, to: &str) -> &Self {
        let path = self.path(name);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}:\n{text}");
        std::fs::write(path, text.replace(from, to)).unwrap();
        self
    }

    /// Replaces text in the policies of some sites.
    pub fn edit_sites(&self, sites: &[&str], from: &str, to: &str) -> &Self {
        for site in sites {
            self.edit(&format!("sites/{site}.toml"), from, to);
        }
        self
    }

    /// Every site must answer, or the run fails.
    pub fn all_needed(&self) -> &Self {
        self.edit("job.toml", "min-sites = 3", "min-sites = 5")
    }

    pub fn privet(&self, args: &[&str]) -> Said {
        privet_in(self.folder.path(), args)
    }

    /// Runs the job with `--json` and further arguments.
    pub fn run(&self, more: &[&str]) -> (i32, Value) {
        let mut args = vec!["run", "demo/job.toml", "--json"];
        args.extend(more);
        let said = self.privet(&args);
        (said.code, said.json())
    }
}

/// All refusals of a result.
pub fn refusals(result: &Value) -> Vec<Value> {
    let rounds = result["rounds"].as_array().into_iter().flatten();
    let of_rounds =
        rounds.flat_map(|round| round["refusals"].as_array().cloned().unwrap_or_default());
    let mut all: Vec<Value> = result["refusals"].as_array().cloned().unwrap_or_default();
    all.extend(of_rounds);
    all.extend(result["error"]["refusals"].as_array().cloned().unwrap_or_default());
    all
}

pub fn codes(result: &Value) -> Vec<String> {
    let mut codes: Vec<String> = refusals(result)
        .iter()
        .filter_map(|refusal| Some(refusal["code"].as_str()?.to_owned()))
        .collect();
    codes.sort();
    codes.dedup();
    codes
}

/// Bytes of updates that reached the server, all told.
pub fn bytes_up(result: &Value) -> u64 {
    let sites = result["sites"].as_array().unwrap();
    sites.iter().map(|site| site["bytes_up"].as_u64().unwrap()).sum()
}

/// A job whose sites train a network for many steps and send what changed, as it is.
pub fn by_site() -> Demo {
    let demo = Demo::default();
    demo.edit(
        "job.toml",
        "record-clip = 0.5             # no record's gradient counts for more than this norm",
        "learning-rate = 1.0",
    )
    .edit("job.toml", "local-steps = 1", "local-steps = 20")
    .edit("job.toml", "\"logistic-regression\"", "\"mlp\"\nclasses = 2\nhidden = 8")
    .edit("job.toml", "server-learning-rate = 4.0", "server-learning-rate = 1.0")
    .edit("job.toml", "server-momentum = 0.9", "server-momentum = 0.0")
    .edit_sites(&SITES, "unit = \"record\"", "unit = \"site\"")
    .edit_sites(&SITES, "  { filter = \"gaussian\", noise-multiplier = 4.0 },\n", "");
    demo
}
