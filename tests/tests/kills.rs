//! Processes that die at each moment of a sealed round, over the real server, sites and network.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use privet::prelude::*;
use serde_json::Value;

const PARTY: &str = env!("CARGO_BIN_EXE_privet-party");
const SITES: [&str; 5] = ["central", "east", "north", "south", "west"];

struct Demo(tempfile::TempDir);

impl Demo {
    /// The hospitals, sealed; every policy says `protect` in these words, the job these rounds.
    fn new(protect: &str, rounds: u32) -> Self {
        let demo = Self(tempfile::tempdir().unwrap());
        privet::init("hospitals", &demo.path("demo"), 1).unwrap();
        for site in SITES {
            let file = demo.path(&format!("demo/sites/{site}.toml"));
            let text = std::fs::read_to_string(&file).unwrap();
            let start = text.find("protect = ").unwrap();
            let end = start + text[start..].find('\n').unwrap();
            std::fs::write(file, format!("{}{protect}{}", &text[..start], &text[end..])).unwrap();
        }
        let file = demo.path("demo/job.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.replace("rounds = 20", &format!("rounds = {rounds}"));
        std::fs::write(file, text.replace("round-timeout = \"60s\"", "round-timeout = \"20s\""))
            .unwrap();
        demo
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn kit(&self, name: &str) -> PathBuf {
        match name {
            "server" => self.path("workspace/server"),
            site => self.path("workspace/sites").join(site),
        }
    }

    fn options(&self) -> RunOptions {
        RunOptions {
            job: self.path("demo/job.toml"),
            workspace: Some(self.path("workspace")),
            ..RunOptions::default()
        }
    }

    /// Runs the whole federation as processes, of which one stops.
    fn run(&self, stop: &str) -> Value {
        // The party's children take its environment.
        let starter = self.path("start.sh");
        let script = format!("#!/bin/sh\nPRIVET_STOP='{stop}' exec {PARTY} \"$@\"\n");
        std::fs::write(&starter, script).unwrap();
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(&starter, std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = RunOptions { processes: Some(starter), ..self.options() };
        let result = privet::run(Program::new(), &options, &Cancel::default(), |_| ()).unwrap();
        serde_json::to_value(result).unwrap()
    }
}

const PROTECT: &str = r#"protect = { scheme = "threshold", min-sites = 4 }"#;
const VERIFY: &str = r#"protect = { scheme = "threshold", min-sites = 4, verify = true }"#;

fn answered(result: &Value) -> Vec<usize> {
    let rounds = result["rounds"].as_array().unwrap();
    rounds.iter().map(|round| round["answered"].as_array().unwrap().len()).collect()
}

/// One of five dies in the second of four sessions: the others' sum opens, of four or of five, and the job
/// ends well.
#[test]
fn whenever_a_site_dies_its_round_and_the_job_complete() {
    for (moment, sums) in [
        // Not in that sum, nor in any later one.
        ("hello", [5, 4, 4, 4]),
        ("task", [5, 4, 4, 4]),
        ("upload", [5, 4, 4, 4]),
        // Its update is in the sum, which four others open.
        ("answer", [5, 5, 4, 4]),
        ("after", [5, 5, 4, 4]),
    ] {
        let result = Demo::new(PROTECT, 4).run(&format!("east {moment} 2"));
        assert_eq!(result["exit_code"], 0, "{moment}: {}", result["error"]);
        assert_eq!(answered(&result), sums, "{moment}");
    }
}

/// The same where sites look at what was opened: whoever is to draw the session's secret, or to look, and
/// dies, is one site fewer.
#[test]
fn whenever_a_site_that_looks_dies_the_others_see_their_sum() {
    for moment in ["deal", "agreed", "opened"] {
        // The second session's secret is dealt by the third of five.
        let result = Demo::new(VERIFY, 4).run(&format!("north {moment} 2"));
        assert_eq!(result["exit_code"], 0, "{moment}: {}", result["error"]);
        let rounds = result["rounds"].as_array().unwrap();
        let seen: Vec<u64> =
            rounds.iter().map(|round| round["verified"].as_u64().unwrap()).collect();
        assert_eq!(seen, [5, 4, 4, 4], "{moment}");
    }
}

/// A site that is there and says nothing costs the others one wait, wherever it stops.
#[test]
fn a_silent_site_is_waited_for_once() {
    for moment in ["hello", "deal", "answer", "agreed"] {
        let demo = Demo::new(VERIFY, 2);
        let file = demo.path("demo/job.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, text.replace("timeout = \"20s\"", "timeout = \"2s\"")).unwrap();
        // The second session's secret is dealt by the third of five.
        let result = demo.run(&format!("north {moment} 2 {}", demo.path("flag").display()));
        assert_eq!(result["exit_code"], 0, "{moment}: {}", result["error"]);
        let rounds = result["rounds"].as_array().unwrap();
        let seen: Vec<u64> =
            rounds.iter().map(|round| round["verified"].as_u64().unwrap()).collect();
        assert_eq!(seen, [5, 4], "{moment}");
    }
}

/// A second site that dies is one too many, wherever the two are: nothing opens, and the job says so.
#[test]
fn with_two_dead_sites_nothing_opens() {
    for stops in ["east task 2; west answer 2", "east answer 2; west answer 2"] {
        let result = Demo::new(PROTECT, 4).run(stops);
        assert_eq!(
            (&result["exit_code"], &result["error"]["code"]),
            (&1.into(), &"too-few-sites".into())
        );
        assert_eq!(answered(&result), [5], "{stops}");
    }
}

/// A server that is killed while its sites are at a moment of a round, and comes up again: those very sites
/// go on, in another session, and a sum is opened once.
#[test]
fn a_server_that_dies_at_any_moment_resumes_with_its_running_sites() {
    for moment in ["hello", "task", "upload", "answer"] {
        let demo = Demo::new(PROTECT, 4);
        let options = RunOptions { rounds: Some(1), ..demo.options() };
        let first = privet::run(Program::new(), &options, &Cancel::default(), |_| ()).unwrap();
        assert_eq!(first.exit_code, 0);
        let port = free_port();
        edit_kit(&demo.kit("server"), &[("server", &port), ("rounds", "4")]);
        SITES.iter().for_each(|site| edit_kit(&demo.kit(site), &[("server", &port)]));
        std::fs::remove_file(demo.kit("server").join("outcome.json")).unwrap();

        let flag = demo.path("flag");
        let stop = format!("east {moment} 2 {}", flag.display());
        let mut killed = start("server", &demo.kit("server"), "");
        let sites: Vec<Party> =
            SITES.iter().map(|site| start("site", &demo.kit(site), &stop)).collect();
        wait_for(moment, || flag.exists());
        killed.0.kill().unwrap();
        killed.0.wait().unwrap();
        let _again = start("server", &demo.kit("server"), "");
        std::fs::remove_file(&flag).unwrap();
        let outcome = demo.kit("server").join("outcome.json");
        wait_for("the end", || outcome.exists());
        drop(sites);
        let outcome: Value =
            serde_json::from_str(&std::fs::read_to_string(outcome).unwrap()).unwrap();
        assert_eq!(outcome["exit_code"], 0, "{moment}: {outcome}");
        assert_eq!(outcome["rounds"].as_array().unwrap().len(), 4, "{moment}");
    }
}

/// A child process that ends with its test.
struct Party(Child);

impl Drop for Party {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(role: &str, kit: &Path, stop: &str) -> Party {
    let child = Command::new(PARTY)
        .args([role, "--kit"])
        .arg(kit)
        .env("PRIVET_STOP", stop)
        .stdin(Stdio::null())
        .spawn();
    Party(child.unwrap())
}

/// A free address, as a kit writes it.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("\"{}\"", listener.local_addr().unwrap())
}

/// Gives keys of a kit other values.
fn edit_kit(kit: &Path, changes: &[(&str, &str)]) {
    let file = kit.join("kit.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = |line: &str| {
        let change = changes.iter().find(|(key, _)| line.starts_with(&format!("{key} = ")));
        change.map_or(format!("{line}\n"), |(key, value)| format!("{key} = {value}\n"))
    };
    std::fs::write(&file, text.lines().map(line).collect::<String>()).unwrap();
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}
