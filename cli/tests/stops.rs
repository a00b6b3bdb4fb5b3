//! Processes that die or are stopped, and what goes on.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{BINARY, Demo, SITES};
use serde_json::Value;

/// A job that lasts: many rounds of much noise.
fn long(demo: &Demo) {
    demo.edit("job.toml", "rounds = 20", "rounds = 100000")
        .edit("job.toml", "round-timeout = \"60s\"", "round-timeout = \"20s\"")
        .edit_sites(&SITES, "require = { rounds-max = 24 }", "")
        .edit_sites(&SITES, "noise-multiplier = 4.0", "noise-multiplier = 4000.0");
}

struct Running(Child);

impl Running {
    fn start(demo: &Demo, more: &[&str]) -> Self {
        let child = Command::new(BINARY)
            .args(["run", "demo/job.toml", "--json"])
            .args(more)
            .current_dir(demo.folder())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn interrupt(&self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    fn end(self) -> (Option<i32>, Value) {
        let output = self.0.wait_with_output().unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    }
}

/// Rounds that the server has written down.
fn rounds(demo: &Demo) -> usize {
    let path = demo.workspace().join("server/progress.jsonl");
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .filter(|l| l.contains("\"round\""))
        .count()
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_interrupted_run_keeps_what_it_has_and_goes_on() {
    for more in [&[][..], &["--processes"]] {
        let demo = Demo::default();
        long(&demo);
        let running = Running::start(&demo, more);
        wait_for("the third round", || rounds(&demo) > 3);
        running.interrupt();
        let (code, result) = running.end();
        assert_eq!((code, &result["status"]), (Some(130), &"interrupted".into()), "{more:?}");
        let done = result["rounds_done"].as_u64().unwrap();
        assert!(done >= 3);
        let next = (done + 2).to_string();
        let mut args = vec!["--resume", "--rounds", &next];
        args.extend(more);
        let (code, result) = demo.run(&args);
        assert_eq!((code, &result["rounds_done"]), (0, &(done + 2).into()), "{more:?}");
        let listed = result["rounds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|round| round["round"].as_u64().unwrap());
        assert!(listed.eq(1..=done + 2));
    }
}

/// The process of a kit, by its command line.
fn pid_of(kit: &Path) -> Option<String> {
    let kit = kit.canonicalize().ok()?;
    for entry in std::fs::read_dir("/proc").ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = line.split(|&byte| byte == 0);
        let is_kit = words.any(|word| word == kit.as_os_str().as_encoded_bytes());
        if name.bytes().all(|byte| byte.is_ascii_digit()) && is_kit {
            return Some(name);
        }
    }
    None
}

fn kill(kit: &Path) {
    let pid = pid_of(kit).expect("the process is there");
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
}

/// A site killed in the middle drops out; its round and the job go on, and what it had reserved
/// counts as spent.
#[test]
fn a_killed_site_drops_out() {
    let demo = Demo::default();
    long(&demo);
    let running = Running::start(&demo, &["--processes"]);
    wait_for("the third round", || rounds(&demo) > 3);
    let kit = demo.workspace().join("sites/west");
    kill(&kit);
    let seen = rounds(&demo);
    wait_for("rounds without it", || rounds(&demo) > seen + 20);
    running.interrupt();
    let (code, result) = running.end();
    assert_eq!(code, Some(130));
    let west = &result["sites"][4];
    let dropped = west["rounds_dropped"].as_u64().unwrap();
    assert!(dropped >= 1, "{west}");
    let last = result["rounds"].as_array().unwrap().last().unwrap();
    assert_eq!(last["answered"].as_array().unwrap().len(), 4);
    let budget =
        demo.privet(&["budget", "show", "--site-dir", kit.to_str().unwrap(), "--json"]).json();
    let entries = budget["datasets"][0]["entries"].as_array().unwrap();
    assert!(entries.iter().all(|entry| entry["state"] == "committed"));
    assert!(entries.len() as u64 >= west["rounds_answered"].as_u64().unwrap());
}

/// A server killed in the middle resumes at its checkpoint; no round is paid twice.
#[test]
fn a_killed_server_resumes() {
    let demo = Demo::default();
    long(&demo);
    let running = Running::start(&demo, &["--processes"]);
    wait_for("the third round", || rounds(&demo) > 3);
    kill(&demo.workspace().join("server"));
    let mut child = running.0;
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let seen = demo.run(&["--resume", "--rounds", "1"]).1["rounds_done"].as_u64().unwrap();
    let (code, result) = demo.run(&["--resume", "--rounds", &(seen + 3).to_string()]);
    assert_eq!((code, &result["rounds_done"]), (0, &(seen + 3).into()));
    for (at, site) in SITES.iter().enumerate() {
        let kit = demo.workspace().join("sites").join(site);
        let budget =
            demo.privet(&["budget", "show", "--site-dir", kit.to_str().unwrap(), "--json"]).json();
        let entries = budget["datasets"][0]["entries"].as_array().unwrap();
        let mut paid: Vec<u64> =
            entries.iter().map(|entry| entry["round"].as_u64().unwrap()).collect();
        let all = paid.len();
        paid.dedup();
        // The round that was open when the server died is asked again with the same task, and
        // answered with the kept bytes; or, if it died while the site trained, paid again at most
        // once.
        assert!(all - paid.len() <= 1, "{site}: {entries:?}");
        assert_eq!(result["sites"][at]["rounds_answered"], seen + 3);
    }
}

/// A second process on a site's folder is refused.
#[test]
fn a_site_folder_has_one_user() {
    let demo = Demo::default();
    long(&demo);
    let running = Running::start(&demo, &["--processes"]);
    wait_for("the third round", || rounds(&demo) > 3);
    let kit = demo.workspace().join("sites/north");
    for args in [&["site", "--kit"][..], &["budget", "show", "--site-dir"]] {
        let mut args = args.to_vec();
        args.push(kit.to_str().unwrap());
        let said = demo.privet(&args);
        assert_eq!(said.code, 1);
        assert!(said.stderr.contains("another privet process uses this folder"), "{}", said.stderr);
    }
    running.interrupt();
    assert_eq!(running.end().0, Some(130));
}
