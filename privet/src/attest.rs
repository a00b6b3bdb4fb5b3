//! Evidence in files, and what is said of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use privet_cc_attest::appraisal::{Appraisal, Kind, Verdict};
use privet_cc_attest::binding::ReportData;
use privet_cc_attest::evidence::Bundle;
use privet_cc_attest::policy::Policy;
use privet_cc_attest::refusal::{Code, Refusal};
use privet_cc_attest::show::{self, Row};
use privet_cc_attest::verifier::{Expected, Verifier};
use privet_gate::{Finding, Source};
use serde::Serialize;
use thiserror::Error;

/// Most bytes of a file that is read.
const MAX_FILE: u64 = 4 << 20;

/// Files of one question: is this evidence good?
#[derive(Debug, Clone, Default)]
pub struct EvidenceOptions {
    /// The evidence.
    pub evidence: PathBuf,
    /// Its certificates.
    pub chains: Vec<PathBuf>,
    /// What it must answer, in hex.
    pub nonce: String,
    /// Reference files.
    pub references: Vec<PathBuf>,
    /// Intel's collateral.
    pub collateral: Option<PathBuf>,
    /// Revocation lists and OCSP responses.
    pub revocation: Vec<PathBuf>,
    /// Keys of NVIDIA's service.
    pub keys: Vec<PathBuf>,
    /// Roots of devices in software.
    pub simulated_roots: Vec<PathBuf>,
    /// The policy; that of the evidence's kind where there is none.
    pub policy: Option<PathBuf>,
    /// When it is looked at; now where it is absent.
    pub at: Option<SystemTime>,
}

/// Why evidence was not looked at.
#[derive(Debug, Error)]
pub enum EvidenceError {
    /// A file could not be read, or says nothing valid.
    #[error("{0}: {1}")]
    File(PathBuf, String),
    /// The policy is none.
    #[error("the policy is not valid")]
    Policy(Vec<Finding>),
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The evidence is none.
    #[error("{0}")]
    Evidence(Refusal),
}

fn read(path: &Path) -> Result<Vec<u8>, EvidenceError> {
    let told = |why: String| EvidenceError::File(path.to_owned(), why);
    let size = std::fs::metadata(path).map_err(|error| told(error.to_string()))?.len();
    if size > MAX_FILE {
        return Err(told(format!("{size} bytes, at most {MAX_FILE}")));
    }
    std::fs::read(path).map_err(|error| told(error.to_string()))
}

/// Reads a policy of evidence.
///
/// # Errors
/// When it is none, with the place.
pub fn evidence_policy(path: &Path) -> Result<Policy, EvidenceError> {
    let bytes = read(path)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| EvidenceError::File(path.to_owned(), "not UTF-8".into()))?;
    let source = Source::new(path.display().to_string(), text.as_str());
    let invalid = |message: String, span| {
        let finding = source.error("invalid-policy", message, span);
        EvidenceError::Policy(vec![finding.help("docs/attestation.md has all keys")])
    };
    let policy: Policy = toml::from_str(&text)
        .map_err(|error| invalid(error.message().to_owned(), error.span().unwrap_or(0..0)))?;
    match policy.check() {
        Ok(()) => Ok(policy),
        Err(why) => {
            let key = why.split('`').nth(1).unwrap_or_default();
            let at = text.find(key).unwrap_or(0);
            Err(invalid(why.clone(), at..at + key.len()))
        }
    }
}

/// What evidence must answer, from hex: 32 bytes for GPUs, switches and tokens, 64 for machines. Of several kinds
/// together it is the 64 bytes of the machine, of which the challenge of the GPUs is made.
fn expected(nonce: &str, kinds: &BTreeSet<Kind>) -> Result<Expected, EvidenceError> {
    let usage = |why: String| EvidenceError::Usage(format!("--nonce: {why}"));
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2)?;
        text.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        u8::from_str_radix(text, 16).ok()
    };
    let bytes: Option<Vec<u8>> = nonce.as_bytes().chunks(2).map(byte).collect();
    let bytes = bytes.ok_or_else(|| usage("it is not hex".into()))?;
    let machine = kinds.iter().any(|kind| matches!(kind, Kind::Snp | Kind::Tdx));
    let device = kinds.iter().any(|kind| !matches!(kind, Kind::Snp | Kind::Tdx));
    let wanted = if machine { 64 } else { 32 };
    if !kinds.is_empty() && bytes.len() != wanted {
        let what = if machine { "of SNP and TDX" } else { "of GPUs, switches and tokens" };
        return Err(usage(format!("{} bytes, evidence {what} answers {wanted}", bytes.len())));
    }
    if !(machine && device) {
        return Ok(Expected::Nonce(bytes));
    }
    let data = bytes.as_slice().try_into().ok().and_then(ReportData::from_cpu);
    let data = data.ok_or_else(|| {
        usage("of a machine and its GPUs together it is 48 bytes and 16 zeros".into())
    })?;
    Ok(Expected::Data(data))
}

/// Looks at evidence in files.
///
/// # Errors
/// When it could not be looked at. What does not hold is no error: the appraisal says it.
pub fn verify_evidence(options: &EvidenceOptions) -> Result<Appraisal, EvidenceError> {
    let evidence = read(&options.evidence)?;
    let chains = options.chains.iter().map(|path| read(path)).collect::<Result<Vec<_>, _>>()?;
    let collateral = options.collateral.as_deref().map(read).transpose()?;
    let policy = options.policy.as_deref().map(evidence_policy).transpose()?;
    let bundle = match Bundle::read(&evidence, &chains, collateral.as_deref()) {
        Ok(bundle) => bundle,
        Err(refusal) => {
            // Whatever it is, the rest of the question is looked at.
            expected(&options.nonce, &BTreeSet::new())?;
            return Ok(unread(refusal));
        }
    };
    let kinds = bundle.kinds();
    let expected = expected(&options.nonce, &kinds)?;
    let mut verifier = Verifier::new(policy.unwrap_or_else(|| Policy::of_kinds(&kinds)));
    let mut refused = Vec::new();
    for path in &options.simulated_roots {
        match verifier.add(&path.display().to_string(), &read(path)?) {
            Err(refusal) if refusal.code == Code::SimulatedNotAllowed => refused.push(refusal),
            added => added.map_err(|refusal| invalid(path, refusal))?,
        }
    }
    for path in &options.references {
        // A reference file that is none is refused as one that does not hold.
        refused.extend(verifier.add(&path.display().to_string(), &read(path)?).err());
    }
    for path in options.revocation.iter().chain(&options.keys) {
        verifier
            .add(&path.display().to_string(), &read(path)?)
            .map_err(|refusal| invalid(path, refusal))?;
    }
    let now = options.at.unwrap_or_else(SystemTime::now);
    let mut appraisal = verifier.appraise(&bundle, &expected, now);
    if !refused.is_empty() {
        appraisal.verdict = Verdict::Contraindicated;
        appraisal.refusals.splice(0..0, refused);
    }
    Ok(appraisal)
}

fn invalid(path: &Path, refusal: Refusal) -> EvidenceError {
    EvidenceError::File(path.to_owned(), refusal.detail)
}

fn unread(refusal: Refusal) -> Appraisal {
    Appraisal { verdict: Verdict::None, kind: None, devices: Vec::new(), refusals: vec![refusal] }
}

/// A piece of evidence, field by field.
#[derive(Debug, Clone, Serialize)]
pub struct ShownPiece {
    /// What it is.
    pub kind: Kind,
    /// All its fields.
    pub fields: Vec<Row>,
}

/// All fields of the evidence in a file.
///
/// # Errors
/// When it cannot be read.
pub fn show_evidence(path: &Path) -> Result<Vec<ShownPiece>, EvidenceError> {
    let bundle = Bundle::read(&read(path)?, &[], None).map_err(EvidenceError::Evidence)?;
    let shown = |piece: &privet_cc_attest::evidence::Evidence| {
        let fields = show::fields(piece.kind, &piece.body).map_err(EvidenceError::Evidence)?;
        Ok(ShownPiece { kind: piece.kind, fields })
    };
    bundle.0.iter().map(shown).collect()
}
