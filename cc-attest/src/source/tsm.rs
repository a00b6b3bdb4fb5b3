//! The kernel's reports of a confidential machine (Linux, Documentation/ABI/testing/configfs-tsm-report).
//!
//! ```text
//!   mkdir report/NAME ─▶ write inblob ─▶ read provider, outblob, auxblob ─▶ rmdir
//! ```
//! `generation` counts what was written to an entry: it tells whether somebody else wrote between the two.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Source, Unavailable};
use crate::appraisal::Kind;
use crate::binding::ReportData;
use crate::evidence::{Bundle, Evidence};

/// Where the kernel has it.
const ROOT: &str = "/sys/kernel/config/tsm/report";
/// Most bytes of what the kernel gives (its own bound on reports is 32 KiB).
const MAX_BLOB: u64 = 64 << 10;

/// The machine that this program runs in.
#[derive(Debug)]
pub struct Tsm {
    root: PathBuf,
    entries: AtomicU64,
}

impl Default for Tsm {
    fn default() -> Self {
        Self::at(ROOT)
    }
}

impl Tsm {
    /// The same files below another folder.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), entries: AtomicU64::new(0) }
    }

    fn ask(&self, entry: &Path, data: &[u8; 64]) -> Result<Evidence, Unavailable> {
        let told = |name: &str, error: std::io::Error| {
            Unavailable(format!("{}: {error}", entry.join(name).display()))
        };
        let read = |name: &str| -> Result<Vec<u8>, Unavailable> {
            use std::io::Read;
            let mut bytes = Vec::new();
            let file = std::fs::File::open(entry.join(name)).map_err(|error| told(name, error))?;
            file.take(MAX_BLOB + 1).read_to_end(&mut bytes).map_err(|error| told(name, error))?;
            match bytes.len() as u64 > MAX_BLOB {
                true => Err(Unavailable(format!("{name}: more than {MAX_BLOB} bytes"))),
                false => Ok(bytes),
            }
        };
        let generation = || read("generation").map(|bytes| bytes.trim_ascii().to_vec());
        std::fs::write(entry.join("inblob"), data).map_err(|error| told("inblob", error))?;
        let before = generation()?;
        let provider = read("provider")?;
        let kind = match provider.trim_ascii() {
            b"sev_guest" => Kind::Snp,
            b"tdx_guest" => Kind::Tdx,
            other => {
                let name = String::from_utf8_lossy(other);
                return Err(Unavailable(format!(
                    "the kernel's provider `{name:.40}` is not known"
                )));
            }
        };
        let report = read("outblob")?;
        let certificates = match kind {
            Kind::Snp => table(&read("auxblob").unwrap_or_default()),
            _ => Vec::new(),
        };
        if generation()? != before {
            return Err(Unavailable("another program wrote to the kernel's entry".into()));
        }
        Ok(Evidence { certificates, ..Evidence::new(kind, report) })
    }
}

impl Source for Tsm {
    fn collect(&self, data: &ReportData) -> Result<Bundle, Unavailable> {
        if !self.root.is_dir() {
            let root = self.root.display();
            return Err(Unavailable(format!("{root} is not available: no confidential machine")));
        }
        let number = self.entries.fetch_add(1, Ordering::Relaxed);
        let entry = self.root.join(format!("privet-{}-{number}", std::process::id()));
        std::fs::create_dir(&entry)
            .map_err(|error| Unavailable(format!("{}: {error}", entry.display())))?;
        let asked = self.ask(&entry, &data.for_cpu());
        // The kernel takes its files along.
        let _ = std::fs::remove_dir(&entry);
        asked.map(|evidence| Bundle(vec![evidence]))
    }
}

/// The certificates of AMD's table (GHCB 56421, section "SNP Extended Guest Request"): entries of GUID, offset and
/// length up to one of zeros. What each is, its own name says. What is cut short is left out: a verifier then
/// misses it.
fn table(blob: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in blob.chunks_exact(24).take(16) {
        let (guid, place) = entry.split_at(16);
        if guid.iter().all(|byte| *byte == 0) {
            break;
        }
        let number = |at: usize| {
            let four = place.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*four) as usize)
        };
        let Some((at, len)) = number(0).zip(number(4)) else { break };
        let Some(der) = at.checked_add(len).and_then(|end| blob.get(at..end)) else { break };
        found.push(der.to_vec());
    }
    found
}
