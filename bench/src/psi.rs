//! Set intersection of files, every site a process of its own on loopback.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use privet::core::filter::Cancel;
use privet::core::intersect::{Duplicates, Protocol, Reveal, Wanted};
use privet::{LocalOptions, Program, RunError, intersect_files};
use serde::Serialize;

use crate::machine::Machine;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Items of each site, half of which all of them have.
    pub items: u64,
    /// Sites.
    pub sites: u32,
    /// How it is computed.
    pub protocol: Protocol,
    /// Whether cheating is looked for.
    pub malicious: bool,
    /// Threads of each process.
    pub threads: usize,
    /// The program that each site runs.
    pub binary: PathBuf,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Items of each site.
    pub items: u64,
    /// Sites.
    pub sites: u32,
    /// How it was computed.
    pub protocol: Protocol,
    /// Whether cheating was looked for.
    pub malicious: bool,
    /// Threads of each process.
    pub threads: usize,
    /// Seconds from reading the files to written rows, processes' starts included.
    pub wall_s: f64,
    /// Seconds of processor time of all sites and the server between them.
    pub cpu_s: f64,
    /// Bytes that sites' sockets took, over the items of one site.
    pub bytes_per_item: f64,
    /// The most memory that a site's process held.
    pub peak_rss_bytes: u64,
    /// Common items that were found.
    pub intersection: u64,
    /// Common items that there are.
    pub expected: u64,
    /// What it was measured on.
    pub machine: Machine,
    /// Version of Privet.
    pub version: String,
}

impl Measured {
    /// For people.
    pub fn table(&self) -> String {
        format!(
            "{} sites · {} items each · {}{}\n\
             found       {} of {} common items\n\
             wall        {:.2} s\n\
             processors  {:.2} s, {:.2} µs an item of one site\n\
             sent        {:.1} bytes an item\n\
             memory      {:.0} MB at the largest site\n\
             machine     {}, {} cores, {} threads a process",
            self.sites,
            self.items,
            self.protocol.as_str(),
            if self.malicious { ", cheating looked for" } else { "" },
            self.intersection,
            self.expected,
            self.wall_s,
            self.cpu_s,
            self.cpu_s * 1e6 / self.items as f64,
            self.bytes_per_item,
            self.peak_rss_bytes as f64 / 1e6,
            self.machine.cpu,
            self.machine.cores,
            self.threads,
        )
    }
}

/// A site's file: the common half of all sites, and a half of its own, in an order of its own.
fn write_file(path: &Path, site: u64, items: u64, common: u64) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(file, "id,n")?;
    let mut line = String::new();
    for i in 0..items {
        // 7919 is prime to every number of items that it does not divide; then this is a permutation.
        let place = if items.is_multiple_of(7919) { i } else { i * 7919 % items };
        let id = if place < common { place } else { place + (site + 1) * items };
        line.clear();
        let _ = writeln!(line, "user{id:07}@example.com,{i}");
        file.write_all(line.as_bytes())?;
    }
    file.flush()
}

/// Intersects files and measures it.
///
/// # Errors
/// When it could not be run, or did not finish.
pub fn run(options: &Options) -> Result<Measured, RunError> {
    let folder = tempfile::tempdir()?;
    let common = options.items / 2;
    let mut files = Vec::new();
    for site in 0..options.sites {
        let path = folder.path().join(format!("site-{}.csv", site + 1));
        write_file(&path, site.into(), options.items, common)?;
        files.push(path);
    }
    let local = LocalOptions {
        files,
        wanted: Wanted {
            columns: vec!["id".to_owned()],
            normalise: Vec::new(),
            duplicates: Duplicates::Dedupe,
            reveal: Reveal::All,
            protocol: options.protocol,
            malicious: options.malicious,
            conservative: false,
            pad: false,
            rest: false,
        },
        policies: Default::default(),
        out: Some(folder.path().join("out")),
        processes: Some(options.binary.clone()),
        threads: Some(options.threads),
    };
    let result = intersect_files(Program::new(), &local, &Cancel::default(), |_| ())?;
    if let Some(reason) = result.failure {
        return Err(RunError::Refused(reason));
    }
    let sites = &result.found.sites;
    let items = sites.iter().map(|site| site.items).max().unwrap_or_default();
    let sent: u64 = sites.iter().map(|site| site.bytes_sent).sum();
    Ok(Measured {
        items,
        sites: sites.len() as u32,
        protocol: result.found.protocol,
        malicious: options.malicious,
        threads: options.threads,
        wall_s: result.wall_s,
        cpu_s: result.cpu_s,
        bytes_per_item: sent as f64 / items.max(1) as f64,
        peak_rss_bytes: sites.iter().map(|site| site.peak_rss_bytes).max().unwrap_or_default(),
        intersection: result.found.intersection_size.unwrap_or_default(),
        expected: common,
        machine: Machine::this(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}
