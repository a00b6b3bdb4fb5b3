//! Recorded evidence, for tests and for demonstrations without a machine that has any.

use std::path::PathBuf;

use super::{Source, Unavailable};
use crate::binding::ReportData;
use crate::evidence::{Bundle, MAX_BUNDLE};

/// A folder with recorded evidence: `evidence` or `report.bin` or `quote.bin` or the like, its certificates as
/// `*.pem` and `*.der` in the order of their names, and `collateral.json`.
///
/// What was recorded answers the challenge that was posed when it was. To any other, a verifier refuses it with
/// `NonceMismatch`: this is no way into a federation.
#[derive(Debug, Clone)]
pub struct Folder(PathBuf);

/// Names of evidence, the first of which is taken.
const EVIDENCE: [&str; 5] =
    ["evidence.json", "evidence.bin", "report.bin", "quote.bin", "gpu_detached_eat.json"];

impl Folder {
    /// Evidence of a folder.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn read(&self, path: &std::path::Path) -> Result<Vec<u8>, Unavailable> {
        let told = |why: String| Unavailable(format!("{}: {why}", path.display()));
        let size = std::fs::metadata(path).map_err(|error| told(error.to_string()))?.len();
        if size > MAX_BUNDLE as u64 {
            return Err(told(format!("{size} bytes, at most {MAX_BUNDLE}")));
        }
        std::fs::read(path).map_err(|error| told(error.to_string()))
    }
}

impl Source for Folder {
    fn collect(&self, _: &ReportData) -> Result<Bundle, Unavailable> {
        let unavailable = |why: String| Unavailable(format!("{}: {why}", self.0.display()));
        let entries = std::fs::read_dir(&self.0).map_err(|error| unavailable(error.to_string()))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let of_name = |name: &str| paths.iter().find(|path| path.ends_with(name));
        let Some(evidence) = EVIDENCE.into_iter().find_map(of_name) else {
            return Err(unavailable(format!("none of {}", EVIDENCE.join(", "))));
        };
        let is_certificate = |path: &&PathBuf| {
            path.extension().is_some_and(|extension| extension == "pem" || extension == "der")
        };
        let mut chains = Vec::new();
        for path in paths.iter().filter(is_certificate) {
            chains.push(self.read(path)?);
        }
        let collateral = of_name("collateral.json").map(|path| self.read(path)).transpose()?;
        Bundle::read(&self.read(evidence)?, &chains, collateral.as_deref())
            .map_err(|refusal| unavailable(refusal.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appraisal::{Kind, Name, Verdict};
    use crate::policy::Policy;
    use crate::refusal::Code;
    use crate::testing::{at, report_data};
    use crate::verifier::{Expected, Verifier};

    fn folder(name: &str) -> Folder {
        Folder::new(format!("{}/tests/evidence/{name}", env!("CARGO_MANIFEST_DIR")))
    }

    #[test]
    fn recorded_evidence_of_all_kinds_is_found_and_answers_no_fresh_challenge() {
        for (name, kind, certificates) in [
            ("nvidia/gh100-545.00-PASS", Kind::NvidiaGpu, 1),
            ("nvidia/nvswitch-ls10-PASS", Kind::NvidiaSwitch, 1),
            ("amd/milan-v2-PASS", Kind::Snp, 2),
            ("intel/tdx-v4-PASS", Kind::Tdx, 0),
            ("nvidia/nras", Kind::Nras, 0),
        ] {
            let bundle = folder(name).collect(&report_data(1)).unwrap();
            let [piece] = &bundle.0[..] else { panic!("{name}") };
            assert_eq!((piece.kind, piece.certificates.len()), (kind, certificates), "{name}");
            assert_eq!(piece.collateral.is_some(), kind == Kind::Tdx);
            let verifier = Verifier::new(Policy::of_evidence(kind));
            let expected = Expected::Data(report_data(1));
            let appraisal = verifier.appraise(&bundle, &expected, at("2025-06-20T00:00:00Z"));
            assert_eq!(appraisal.verdict, Verdict::Contraindicated);
            assert!(!appraisal.devices[0].holds(Name::Nonce));
            let mismatch = |refusal: &crate::refusal::Refusal| refusal.code == Code::NonceMismatch;
            assert!(appraisal.refusals.iter().any(mismatch), "{name}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_or_has_no_evidence_is_unavailable() {
        for name in ["no-such-folder", "nvidia/rims"] {
            assert!(folder(name).collect(&report_data(1)).is_err(), "{name}");
        }
    }
}
