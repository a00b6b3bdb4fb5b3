//! The rules of the house, read off the workspace itself.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--all-features"])
        .current_dir(root())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Which crate may import which: ARCHITECTURE.md draws the same arrows.
const ARROWS: &[(&str, &[&str])] = &[
    ("privet-core", &[]),
    ("privet-crypto", &[]),
    ("privet-store", &[]),
    ("privet-filters", &["privet-core"]),
    ("privet-dp", &["privet-core", "privet-crypto", "privet-store"]),
    ("privet-he", &["privet-core", "privet-crypto", "privet-store"]),
    ("privet-psi", &["privet-core", "privet-crypto", "privet-store"]),
    ("privet-cc-attest", &["privet-core", "privet-crypto"]),
    ("privet-he-crosscheck", &["privet-he", "privet-crypto"]),
    ("privet-gate", &["privet-core", "privet-crypto", "privet-store"]),
    ("privet-wire", &["privet-core", "privet-crypto", "privet-gate"]),
    ("privet-site", &["privet-wire", "privet-gate", "privet-core", "privet-store"]),
    ("privet-server", &["privet-wire", "privet-gate", "privet-core", "privet-store"]),
    ("privet-trainers", &["privet-core", "privet-dp"]),
    (
        "privet",
        &[
            "privet-cc-attest",
            "privet-core",
            "privet-crypto",
            "privet-store",
            "privet-filters",
            "privet-dp",
            "privet-gate",
            "privet-he",
            "privet-psi",
            "privet-wire",
            "privet-site",
            "privet-server",
            "privet-trainers",
        ],
    ),
    ("privet-bench", &["privet"]),
    ("privet-cli", &["privet", "privet-bench"]),
    ("privet-tests", &["privet"]),
];

/// Dependencies of every crate of the workspace; `kind` is null for those that ship.
fn dependencies(metadata: &Value, shipped: bool) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .filter(|package| members.contains(package["id"].as_str().unwrap()))
        .map(|package| {
            let list = package["dependencies"].as_array().unwrap();
            let names = list
                .iter()
                .filter(|dependency| !shipped || dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
                .collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn no_arrow_that_is_not_drawn() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let crates = dependencies(&metadata(), true);
    assert_eq!(
        crates.keys().map(String::as_str).collect::<BTreeSet<_>>(),
        allowed.keys().copied().collect(),
        "a crate is missing from ARROWS, or gone"
    );
    for (name, dependencies) in &crates {
        for dependency in dependencies.iter().filter(|d| crates.contains_key(*d)) {
            assert!(
                allowed[name.as_str()].contains(&dependency.as_str()),
                "{name} must not import {dependency}"
            );
        }
    }
}

/// Only the wire can reach the network.
#[test]
fn only_the_wire_depends_on_network_crates() {
    for (name, dependencies) in dependencies(&metadata(), true) {
        for network in [
            "hyper",
            "hyper-util",
            "tokio-rustls",
            "rustls",
            "rcgen",
            "prost",
            "tonic-prost",
            "tower",
        ] {
            // Devices in software need certificates, and no network.
            let certificates = name == "privet-cc-attest" && network == "rcgen";
            assert!(
                name == "privet-wire" || certificates || !dependencies.contains(network),
                "{name} imports {network}"
            );
        }
        // The server implements an async trait; tonic brings the attribute for it.
        let may = ["privet-wire", "privet-server"].contains(&name.as_str());
        assert!(may || !dependencies.contains("tonic"), "{name} imports tonic");
    }
}

/// One crypto provider in the whole graph, and no network client of anybody else's.
#[test]
fn there_is_one_crypto_provider() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap();
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    assert!(names.contains("ring"));
    for forbidden in ["aws-lc-sys", "openssl-sys", "reqwest", "native-tls"] {
        assert!(!names.contains(forbidden), "{forbidden}");
    }
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !["target", ".git", "workspace"].contains(&name.as_str()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root()).unwrap().to_path_buf(), text));
            }
        }
    }
    files
}

/// Whoever calls `Registry::with_builtins` may prove sensitivities: the façade, and tests.
#[test]
fn provers_are_handed_out_in_one_place() {
    let needle = ["with", "builtins("].join("_");
    let callers: Vec<PathBuf> = sources()
        .into_iter()
        .filter(|(_, text)| text.split("#[cfg(test)]").next().unwrap().contains(&needle))
        .map(|(path, _)| path)
        .filter(|path| path.file_name().is_some_and(|name| name != "testing.rs"))
        .collect();
    assert_eq!(
        callers.iter().map(|path| path.display().to_string()).collect::<BTreeSet<_>>(),
        BTreeSet::from(["core/src/registry.rs".into(), "privet/src/program.rs".into()])
    );
}

/// Files stay short enough to be read; tests may be longer.
#[test]
fn files_are_short() {
    for (path, text) in sources() {
        let lines = text.split("#[cfg(test)]\nmod tests {").next().unwrap().lines().count();
        assert!(lines <= 700, "{} has {lines} lines", path.display());
    }
}
