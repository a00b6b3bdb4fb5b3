//! Runs that go on while a test looks at them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{BINARY, Demo, SITES};

/// A job that lasts: many rounds of much noise.
pub fn long(demo: &Demo) {
    demo.edit("job.toml", "rounds = 20", "rounds = 100000")
        .edit("job.toml", "round-timeout = \"60s\"", "round-timeout = \"20s\"")
        .edit_sites(&SITES, "require = { rounds-max = 24 }", "")
        .edit_sites(&SITES, "noise-multiplier = 4.0", "noise-multiplier = 4000.0");
}

pub struct Running(Child);

impl Running {
    pub fn start(demo: &Demo, more: &[&str]) -> Self {
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

    pub fn interrupt(&self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }

    /// How it ended.
    pub fn wait(mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }

    pub fn end(self) -> (Option<i32>, Value) {
        let output = self.0.wait_with_output().unwrap();
        (output.status.code(), serde_json::from_slice(&output.stdout).unwrap())
    }
}

/// Rounds that the server has written down.
pub fn rounds(demo: &Demo) -> usize {
    let path = demo.workspace().join("server/progress.jsonl");
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .filter(|l| l.contains("\"round\""))
        .count()
}

pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
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

pub fn kill(kit: &Path) {
    let pid = pid_of(kit).expect("the process is there");
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
}
