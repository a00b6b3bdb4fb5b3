//! The kernel's reports of a confidential machine (Linux, Documentation/ABI/testing/configfs-tsm-report).
//!
//! ```text
//!   mkdir report/NAME ─▶ write inblob ─▶ read provider, outblob, auxblob ─▶ rmdir
//! ```
//! `generation` counts what was written to an entry: it tells whether somebody else wrote between the two.

use std::io::Read;
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
    /// The kernel puts its files into a folder as it is made.
    make: fn(&Path) -> std::io::Result<()>,
}

impl Default for Tsm {
    fn default() -> Self {
        Self::at(ROOT)
    }
}

impl Tsm {
    /// The same files below another folder.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            entries: AtomicU64::new(0),
            make: |path| std::fs::create_dir(path),
        }
    }
}

/// A file of the kernel's entry.
fn file(path: &Path) -> Result<Vec<u8>, Unavailable> {
    let told = |error: std::io::Error| Unavailable(format!("{}: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(told)?;
    file.take(MAX_BLOB + 1).read_to_end(&mut bytes).map_err(told)?;
    match bytes.len() as u64 > MAX_BLOB {
        true => Err(Unavailable(format!("{}: more than {MAX_BLOB} bytes", path.display()))),
        false => Ok(bytes),
    }
}

/// Reads an entry that was written to.
fn answer(
    mut read: impl FnMut(&str) -> Result<Vec<u8>, Unavailable>,
) -> Result<Evidence, Unavailable> {
    let before = read("generation")?;
    let provider = read("provider")?;
    let kind = match provider.trim_ascii() {
        b"sev_guest" => Kind::Snp,
        b"tdx_guest" => Kind::Tdx,
        other => {
            let name = String::from_utf8_lossy(other);
            return Err(Unavailable(format!("the kernel's provider `{name:.40}` is not known")));
        }
    };
    let report = read("outblob")?;
    let certificates = match kind {
        // There is none where the host does not hand certificates on.
        Kind::Snp => table(&read("auxblob").unwrap_or_default()),
        _ => Vec::new(),
    };
    if read("generation")? != before {
        return Err(Unavailable("another program wrote to the kernel's entry".into()));
    }
    Ok(Evidence { certificates, ..Evidence::new(kind, report) })
}

impl Source for Tsm {
    fn collect(&self, data: &ReportData) -> Result<Bundle, Unavailable> {
        if !self.root.is_dir() {
            let root = self.root.display();
            return Err(Unavailable(format!("{root} is not available: no confidential machine")));
        }
        let number = self.entries.fetch_add(1, Ordering::Relaxed);
        let entry = self.root.join(format!("privet-{}-{number}", std::process::id()));
        (self.make)(&entry)
            .map_err(|error| Unavailable(format!("{}: {error}", entry.display())))?;
        let told = |error| Unavailable(format!("{}: {error}", entry.join("inblob").display()));
        let written = std::fs::write(entry.join("inblob"), data.for_cpu()).map_err(told);
        let asked = written.and_then(|()| answer(|name| file(&entry.join(name))));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appraisal::Name;
    use crate::policy::Policy;
    use crate::testing::{at, evidence, report_data};
    use crate::verifier::{Expected, Verifier};

    const SNP: &str = "amd/milan-v2-PASS/report.bin";

    /// Files as a kernel makes them, with a recorded report.
    fn entry(path: &Path, provider: &str, outblob: &[u8], auxblob: &[u8]) -> std::io::Result<()> {
        std::fs::create_dir(path)?;
        for (name, bytes) in [
            ("generation", &b"1\n"[..]),
            ("provider", provider.as_bytes()),
            ("outblob", outblob),
            ("auxblob", auxblob),
        ] {
            std::fs::write(path.join(name), bytes)?;
        }
        Ok(())
    }

    /// A table of one certificate and an end.
    fn table_of(der: &[u8]) -> Vec<u8> {
        let guid = [7; 16];
        let place = [48u32.to_le_bytes(), (der.len() as u32).to_le_bytes()].concat();
        [&guid[..], &place, &[0; 24], der].concat()
    }

    fn tsm(name: &str, make: fn(&Path) -> std::io::Result<()>) -> (Tsm, PathBuf) {
        let root = std::env::temp_dir().join(format!("privet-tsm-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        std::fs::create_dir_all(&root).unwrap();
        (Tsm { make, ..Tsm::at(&root) }, root)
    }

    #[test]
    fn a_machine_under_snp_gives_its_report_and_the_certificates_that_came_with_it() {
        let (tsm, root) = tsm("snp", |path| {
            let table = table_of(&evidence("amd/milan-v2-PASS/vcek.der"));
            entry(path, "sev_guest\n", &evidence(SNP), &table)
        });
        let data = report_data(3);
        let bundle = tsm.collect(&data).unwrap();
        let inblob = root.join(format!("privet-{}-0/inblob", std::process::id()));
        assert_eq!(std::fs::read(inblob).unwrap(), data.for_cpu());
        assert_eq!(bundle.0[0].kind, Kind::Snp);
        let verifier = Verifier::new(Policy::of_evidence(Kind::Snp));
        let now = at("2024-01-01T00:00:00Z");
        let appraisal = verifier.appraise(&bundle, &Expected::Data(data), now);
        // The recorded report answers another challenge; its certificate is the one of the table.
        let device = &appraisal.devices[0];
        assert!(device.holds(Name::Signature) && device.holds(Name::Chain));
        assert!(!device.holds(Name::Nonce));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_machine_under_tdx_gives_its_quote() {
        let (tsm, root) = tsm("tdx", |path| {
            entry(path, "tdx_guest\n", &evidence("intel/tdx-v4-PASS/quote.bin"), &[])
        });
        let bundle = tsm.collect(&report_data(3)).unwrap();
        assert_eq!((bundle.0[0].kind, bundle.0[0].certificates.len()), (Kind::Tdx, 0));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn what_the_kernel_does_not_give_is_unavailable() {
        let why = |tsm: &Tsm| tsm.collect(&report_data(3)).unwrap_err().0;
        assert!(why(&Tsm::at("/no/such/folder")).contains("not available"));
        let (other, root) = tsm("other", |path| entry(path, "arm_cca_guest\n", b"x", &[]));
        assert!(why(&other).contains("arm_cca_guest"));
        std::fs::remove_dir_all(root).unwrap();
        let (large, root) =
            tsm("large", |path| entry(path, "sev_guest\n", &vec![0; MAX_BLOB as usize + 1], &[]));
        assert!(why(&large).contains("more than"));
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_report_that_another_program_asked_for_is_not_taken() {
        let mut generation = 0;
        let mut read = |name: &str| {
            generation += u8::from(name == "outblob");
            Ok(match name {
                "generation" => vec![generation],
                "provider" => b"tdx_guest".to_vec(),
                _ => Vec::new(),
            })
        };
        assert!(answer(&mut read).unwrap_err().0.contains("another program"));
    }

    #[test]
    fn a_table_is_read_as_far_as_it_holds() {
        assert_eq!(table(&table_of(b"der")), [b"der".to_vec()]);
        for len in 0..48 + 3 {
            assert!(table(&table_of(b"der")[..len]).is_empty(), "{len}");
        }
        let mut far = table_of(b"der");
        far[16..24].copy_from_slice(&[0xff; 8]);
        assert!(table(&far).is_empty());
    }
}
