//! Set intersection of local files: real sites on loopback, each with a policy, a gate and a certificate.
//!
//! It is a job like any other, written into a folder that is thrown away.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use privet_core::filter::Cancel;
use privet_core::intersect::{Protocol, Reveal, Wanted};
use privet_core::{Code, Reason, Refusal};
use privet_gate::{Job, Source, Work, is_name};
use privet_psi::Estimate;
use privet_psi::input::{InputError, Pipeline, Source as Input};
use privet_site::Kept;
use privet_store::Store;
use serde::Serialize;
use toml::{Table, Value};

use crate::program::Program;
use crate::run::{RunError, RunEvent, RunOptions, run};

/// What a site of an intersection did.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteFound {
    /// Its name.
    pub name: String,
    /// Different keys of its file.
    pub items: u64,
    /// Rows whose key an earlier row has.
    pub duplicates: u64,
    /// Rows without a key.
    pub blank: u64,
    /// How many of its items all sites have; null where it is not told.
    pub intersection: Option<u64>,
    /// Bytes that its process had sent when it was done.
    pub bytes_sent: u64,
    /// The most memory that its process held by then.
    pub peak_rss_bytes: u64,
}

/// What an intersection found, put together from what each site keeps.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Intersection {
    /// Every site, in the job's order.
    pub sites: Vec<SiteFound>,
    /// How many items all sites have, where any of them is told.
    pub intersection_size: Option<u64>,
    /// Standard deviation of the noise on the size; 0 where it is exact.
    pub noise: f64,
    /// Who was to learn what.
    pub reveal: Reveal,
    /// How it was computed.
    pub protocol: Protocol,
}

/// Puts together what sites keep in their folders; `None` where none of them got so far.
pub(crate) fn found(
    wanted: &Wanted,
    sites: impl Iterator<Item = (String, PathBuf)>,
) -> Option<Intersection> {
    let mut all = Vec::new();
    let mut protocol = None;
    let mut noise: f64 = 0.0;
    for (name, folder) in sites {
        let Some(Kept { found, bytes_sent, peak_rss_bytes }) = Kept::read(&folder) else {
            continue;
        };
        protocol = Some(found.protocol);
        noise = noise.max(found.noise);
        all.push(SiteFound {
            name,
            items: found.items,
            duplicates: found.duplicates,
            blank: found.blank,
            intersection: found.common,
            bytes_sent,
            peak_rss_bytes,
        });
    }
    Some(Intersection {
        intersection_size: all.iter().find_map(|site| site.intersection),
        noise,
        reveal: wanted.reveal,
        protocol: protocol?,
        sites: all,
    })
}

/// An intersection of local files.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// One file a site; its name is the file's without extension.
    pub files: Vec<PathBuf>,
    /// What is wanted.
    pub wanted: Wanted,
    /// Policies of some sites, by name; no guard holds at the others.
    pub policies: BTreeMap<String, PathBuf>,
    /// Where matching rows are written.
    pub out: Option<PathBuf>,
    /// Run server and sites as processes of this binary.
    pub processes: Option<PathBuf>,
    /// Threads of each process.
    pub threads: Option<usize>,
}

/// What a local intersection gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LocalResult {
    /// What was found.
    #[serde(flatten)]
    pub found: Intersection,
    /// Bytes that sites sent to each other, sealed.
    pub bytes: u64,
    /// Seconds, from reading the files to writing the rows.
    pub wall_s: f64,
    /// Seconds of processor time, of all sites and the server between them.
    pub cpu_s: f64,
    /// What was refused.
    pub refusals: Vec<Refusal>,
    /// The exit code.
    #[serde(skip)]
    pub exit_code: u8,
    /// Why nothing was found.
    #[serde(skip)]
    pub failure: Option<Reason>,
}

const DATASET: &str = "set";

/// Names of files are names of sites.
fn names(files: &[PathBuf]) -> Result<Vec<String>, Reason> {
    let mut names: Vec<String> = Vec::new();
    for file in files {
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = name.filter(|name| is_name(name)).ok_or_else(|| {
            let detail =
                "a file's name without extension is made of letters, digits, `-`, `_` and `.`";
            Reason::new(Code::InvalidJob, detail)
        })?;
        if names.contains(&name) {
            let detail =
                format!("two files are called `{name}`: each site needs a name of its own");
            return Err(Reason::new(Code::InvalidJob, detail));
        }
        names.push(name);
    }
    match names.len() {
        0 | 1 => Err(Reason::new(Code::InvalidJob, "an intersection is of two files or more")),
        _ => Ok(names),
    }
}

fn unreadable(path: &Path, error: &InputError) -> Reason {
    Reason::new(Code::DataUnreadable, format!("{}: {error}", path.display()))
}

/// What intersecting local files will take, by their rows; `None` where there is no such run. A policy may still
/// refuse it.
pub fn estimate_files(program: &Program, options: &LocalOptions) -> Option<(Vec<u64>, Estimate)> {
    let rows: Option<Vec<u64>> = options.files.iter().map(|file| lines(file).ok()).collect();
    let rows: Vec<u64> = rows?.into_iter().map(|lines| lines.saturating_sub(1).max(1)).collect();
    let counts = options.policies.values().any(|path| {
        let policy = privet_gate::Policy::load(path, program.registry());
        policy.is_ok_and(|policy| {
            policy.psi.iter().any(|rule| rule.min_intersection > 0 || rule.max_fraction < 1.0)
        })
    });
    let estimate = privet_psi::estimate(&options.wanted, &rows, counts).ok()?;
    Some((rows, estimate))
}

/// Ends of lines of a file.
fn lines(path: &Path) -> std::io::Result<u64> {
    let (mut file, mut piece) = (std::fs::File::open(path)?, vec![0; 1 << 18]);
    let mut count = 0;
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(count),
            read => count += piece[..read].iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }
}

/// Intersects local files.
///
/// # Errors
/// When a file or a policy cannot be used, or the run could not start.
pub fn intersect_files(
    program: Program,
    options: &LocalOptions,
    cancel: &Cancel,
    observer: impl FnMut(&RunEvent),
) -> Result<LocalResult, RunError> {
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let names = names(&options.files)?;
    let pipeline = Pipeline::parse(&options.wanted.normalise)
        .map_err(|error| Reason::new(Code::InvalidJob, error.to_string()))?;
    for path in &options.files {
        let input = Input {
            path: path.clone(),
            columns: options.wanted.columns.clone(),
            pipeline: pipeline.clone(),
            duplicates: options.wanted.duplicates,
        };
        input.check().map_err(|error| unreadable(path, &error))?;
    }
    if let Some(stranger) = options.policies.keys().find(|name| !names.contains(name)) {
        let detail = format!("there is no site `{stranger}`: names are {}", names.join(", "));
        return Err(Reason::new(Code::InvalidPolicy, detail).into());
    }
    let folder = tempfile::tempdir()?;
    let workspace = folder.path().join("workspace");
    for (name, file) in names.iter().zip(&options.files) {
        let data = std::path::absolute(file)?;
        let (dataset, sections) = match options.policies.get(name) {
            None => (unnoised()?, vec![unguarded(name, &names)?]),
            Some(policy) => {
                remember(policy, &workspace.join("sites").join(name))?;
                guarded(&data, &names, policy, &program)?
            }
        };
        let text = policy(name, &data, dataset, sections)?;
        std::fs::write(folder.path().join(format!("{name}.toml")), text)?;
    }
    std::fs::write(folder.path().join("job.toml"), job(&options.wanted, &names))?;
    let run_options = RunOptions {
        job: folder.path().join("job.toml"),
        workspace: Some(workspace.clone()),
        // A folder of a site may be there already, with its memory in it.
        resume: workspace.exists(),
        processes: options.processes.clone(),
        threads: options.threads,
        command: "privet psi local".to_owned(),
        ..RunOptions::default()
    };
    let result = run(program, &run_options, cancel, observer)?;
    let folders = || names.iter().map(|name| (name.clone(), workspace.join("sites").join(name)));
    let found = found(&options.wanted, folders());
    let failure = result.error.as_ref().map(|failure| {
        let code = Code::ALL.iter().find(|code| code.as_str() == failure.code).copied();
        Reason::new(code.unwrap_or(Code::TooFewSites), failure.message.clone())
    });
    if let (Some(out), None) = (&options.out, &failure) {
        std::fs::create_dir_all(out)?;
        for ((name, folder), file) in folders().zip(&options.files) {
            let extension = file.extension().unwrap_or("csv".as_ref());
            for (made, to) in [
                (privet_site::ROWS_FILE, format!("{name}.csv")),
                (privet_site::REST_FILE, format!("{name}.rest.csv")),
            ] {
                let made = folder.join(made).with_extension(extension);
                if made.exists() {
                    std::fs::copy(made, out.join(to))?;
                }
            }
        }
    }
    let refusals = match &result.error {
        Some(error) => error.refusals.clone(),
        None => result.refusals.clone(),
    };
    let nothing = || Intersection {
        sites: Vec::new(),
        intersection_size: None,
        noise: 0.0,
        reveal: options.wanted.reveal,
        protocol: options.wanted.protocol,
    };
    let found = match &failure {
        None => found.unwrap_or_else(nothing),
        // What one site may have learnt before another refused is not told.
        Some(_) => nothing(),
    };
    Ok(LocalResult {
        found,
        bytes: result.sites.iter().map(|site| site.bytes_up).sum(),
        wall_s: began.elapsed().as_secs_f64(),
        cpu_s: cpu_seconds() - cpu,
        refusals,
        exit_code: result.exit_code,
        failure,
    })
}

fn job(wanted: &Wanted, names: &[String]) -> String {
    let list = |texts: &[String]| Value::Array(texts.iter().cloned().map(Value::String).collect());
    let site = |name: &String| format!("{{ name = {name:?}, policy = \"{name}.toml\" }}");
    let sites: Vec<String> = names.iter().map(site).collect();
    format!(
        "schema = 1\n[job]\nname = \"psi\"\nworkflow = \"psi\"\n\
         [psi]\ndataset = \"{DATASET}\"\ncolumn = {}\nnormalise = {}\nduplicates = \"{}\"\n\
         reveal = \"{}\"\nprotocol = \"{}\"\nmalicious = {}\nassurance = \"{}\"\npad = {}\nrest = {}\n\
         [simulate]\nsites = [{}]\n",
        list(&wanted.columns),
        list(&wanted.normalise),
        wanted.duplicates.as_str(),
        wanted.reveal.as_str(),
        wanted.protocol.as_str(),
        wanted.malicious,
        if wanted.conservative { "conservative" } else { "standard" },
        wanted.pad,
        wanted.rest,
        sites.join(", "),
    )
}

/// A data set whose budget nothing is taken from.
fn unnoised() -> std::io::Result<Table> {
    let text = "unit = \"record\"\nrecords = 1\nbudget = { epsilon = 1.0, delta = 1e-5 }\n";
    text.parse().map_err(std::io::Error::other)
}

/// A policy of nothing but a data set, which is this file, and these [[psi]] sections.
fn policy(
    name: &str,
    data: &Path,
    mut dataset: Table,
    sections: Vec<Value>,
) -> std::io::Result<String> {
    dataset.insert("path".to_owned(), Value::String(data.display().to_string()));
    let table = |key: &str, value| Value::Table([(key.to_owned(), value)].into_iter().collect());
    let whole: Table = [
        ("schema".to_owned(), Value::Integer(1)),
        ("site".to_owned(), table("name", Value::String(name.to_owned()))),
        ("dataset".to_owned(), table(DATASET, Value::Table(dataset))),
        ("psi".to_owned(), Value::Array(sections)),
    ]
    .into_iter()
    .collect();
    toml::to_string(&whole).map_err(std::io::Error::other)
}

/// A section that allows everything to these sites.
fn unguarded(name: &str, names: &[String]) -> std::io::Result<Value> {
    let peers = names.iter().filter(|peer| *peer != name).cloned().map(Value::String);
    let text = format!(
        "dataset = \"{DATASET}\"\nreveal = \"rows\"\nmin-intersection = 0\nmax-fraction = 1.0\n\
         runs = {{ max = 1000000, window = \"lifetime\" }}\n"
    );
    let mut section: Table = text.parse().map_err(std::io::Error::other)?;
    section.insert("peers".to_owned(), Value::Array(peers.collect()));
    Ok(Value::Table(section))
}

/// The sections of a site's own policy that are held against a file, and the data set that they are of. Pins are not: certificates of a run on
/// loopback are new each time.
fn guarded(
    data: &Path,
    names: &[String],
    policy: &Path,
    program: &Program,
) -> Result<(Table, Vec<Value>), RunError> {
    let loaded =
        privet_gate::Policy::load(policy, program.registry()).map_err(RunError::Invalid)?;
    let source: &Source = &loaded.source;
    let table: Table = source.text.parse().map_err(std::io::Error::other)?;
    let others = |peer: &Value| peer.as_str().is_some_and(|peer| names.iter().any(|n| n == peer));
    // Without a section the site refuses.
    let sections = table.get("psi").and_then(Value::as_array).cloned().unwrap_or_default();
    // Sections of one data set are held against this file: of the one that it is; else of the first that names
    // such peers.
    let is_file = |dataset: &&privet_gate::Dataset| {
        let (one, other) = (dataset.path.canonicalize(), data.canonicalize());
        one.is_ok() && one.ok() == other.ok()
    };
    let names_peers = |section: &&Value| {
        let peers = section.get("peers").and_then(Value::as_array);
        peers.is_some_and(|peers| peers.iter().any(others))
    };
    let of = |section: &Value| section.get("dataset")?.as_str().map(str::to_owned);
    let named = || sections.iter().find(names_peers).or(sections.first()).and_then(of);
    let id = loaded.datasets.values().find(is_file).map(|dataset| dataset.id.clone());
    let id = id.or_else(named).unwrap_or_default();
    let mut kept = Vec::new();
    for section in sections {
        let Value::Table(mut section) = section else { continue };
        if section.get("dataset").and_then(Value::as_str) == Some(&id) {
            section.insert("dataset".to_owned(), Value::String(DATASET.to_owned()));
            kept.push(Value::Table(section));
        }
    }
    let dataset = table.get("dataset").and_then(|all| all.get(&id)).and_then(Value::as_table);
    Ok((dataset.cloned().map_or_else(unnoised, Ok)?, kept))
}

/// Runs that a policy counts are remembered beside it, from one command to the next.
fn remember(policy: &Path, folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let memory = std::path::absolute(policy)?.with_extension("runs");
    // Made here: what a site would make would take the place of the link.
    drop(Store::open(&memory).map_err(std::io::Error::other)?);
    #[cfg(unix)]
    std::os::unix::fs::symlink(memory, folder.join("ledger"))?;
    #[cfg(not(unix))]
    let _ = memory;
    Ok(())
}

/// Seconds of processor time of this process and its children that have ended.
pub fn cpu_seconds() -> f64 {
    // Linux counts in hundredths of a second for programs.
    const TICKS: f64 = 100.0;
    let Ok(text) = std::fs::read_to_string("/proc/self/stat") else { return 0.0 };
    // The name of the program, in parentheses, may hold spaces.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS
}

/// What a job wants, if it is an intersection.
pub(crate) fn wanted(job: &Job) -> Option<&Wanted> {
    match &job.work {
        Work::Intersection(wanted) => Some(wanted),
        _ => None,
    }
}
