//! One GPU or switch, check by check.
//!
//! What is cheap comes before what is dear. A check that does not hold keeps none of the others from being made.

use std::time::SystemTime;

use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use crate::appraisal::{Device, Findings, Name};
use crate::encoding::short;
use crate::policy::{GpuRules, RevocationRules};
use crate::refusal::{Code, Refusal};
use crate::revocation::{self, Lists};
use crate::rim::{References, Rim};
use crate::roots::{Root, Roots};
use crate::time::seconds;
use crate::x509::{Certificate, Chain, ChainError};

use super::chip::{Chip, Family};
use super::opaque::{Fields, Mode, Pdi};
use super::spdm::Report;
use super::{dice, references};

/// Evidence of one device.
#[derive(Debug, Clone)]
pub struct Evidence<'e> {
    /// The report.
    pub report: &'e [u8],
    /// Files of its certificates in their order, each PEM or DER.
    pub chain: Vec<&'e [u8]>,
    /// What the evidence says it is, as `HOPPER`; held against the certificate.
    pub arch: Option<&'e str>,
    /// What the driver said of developer mode. Nobody signs it, so that it can only speak against the device.
    pub developer_mode: bool,
}

impl<'e> Evidence<'e> {
    /// A report and its certificates.
    pub fn new(report: &'e [u8], chain: &'e [u8]) -> Self {
        Self { report, chain: vec![chain], arch: None, developer_mode: false }
    }
}

/// All that is handed in with the evidence.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// What the device must have answered.
    pub nonce: &'a [u8; 32],
    /// Roots of devices, [`Roots::nvidia_devices`] first of all.
    pub roots: &'a Roots,
    /// Reference files, opened before.
    pub references: &'a References,
    /// What policy asks. Floors, devices in software and devices that are there twice are its own to judge.
    pub rules: &'a GpuRules,
    /// Revocation lists and responses.
    pub lists: &'a Lists,
    /// How much they matter.
    pub revocation: &'a RevocationRules,
    /// Now.
    pub now: SystemTime,
}

/// What came of one device.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What it says, and all checks.
    pub device: Device,
    /// All that was refused.
    pub refusals: Vec<Refusal>,
    /// What [`super::platform`] joins; none of it is to be believed where there are refusals.
    pub facts: Facts,
}

/// What a device says that matters among several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether it is a switch; none where that cannot be told.
    pub switch: Option<bool>,
    /// The mode, where the report says.
    pub mode: Option<Mode>,
    /// A switch's name for itself, or a GPU's names of its switches.
    pub pdis: Vec<Pdi>,
}

/// Verifies the evidence of one device.
pub fn verify(evidence: &Evidence<'_>, setting: &Setting<'_>) -> Verified {
    let mut findings = Findings::default();
    let read = Report::read(evidence.report);
    let read = read.and_then(|report| Fields::of(&report).map(|fields| (report, fields)));
    let (report, fields) = match read {
        Ok((report, fields)) => (Some(report), fields),
        Err(refusal) => {
            findings.refusals.push(refusal);
            (None, Fields::default())
        }
    };
    check_nonce(&mut findings, report.as_ref(), setting.nonce);
    let identity = check_chain(&mut findings, evidence, setting);
    let subject = Subject {
        report: report.as_ref(),
        fields: &fields,
        chip: identity.chip.as_ref(),
        simulated: identity.simulated(),
    };
    check_signature(&mut findings, subject.report, identity.leaf());
    check_fwid(&mut findings, &subject, identity.leaf(), setting.rules.require_fwid);
    let used = references::check(&mut findings, &subject, setting);
    check_revocation(&mut findings, &identity, &used, setting);
    check_mode(&mut findings, &subject, evidence, setting.rules.mode);
    let certificates = identity.chain.as_ref().map(Chain::certificates).unwrap_or_default();
    let issuer = certificates.get(1).and_then(|cert| cert.common_name());
    let family = identity.chip.as_ref().map(|chip| chip.family);
    let device = Device {
        arch: family.map(|family| family.as_str().to_owned()),
        hwmodel: issuer.map(str::to_owned),
        driver: fields.driver,
        vbios: fields.vbios,
        ueid: identity.leaf().map(Certificate::serial_hex),
        checks: findings.checks,
        simulated: identity.simulated(),
    };
    let switch = family.map(Family::is_switch);
    let facts = Facts { switch, mode: fields.mode, pdis: fields.pdis };
    Verified { device, refusals: findings.refusals, facts }
}

/// A device as far as it could be read.
pub(crate) struct Subject<'s> {
    pub(crate) report: Option<&'s Report<'s>>,
    pub(crate) fields: &'s Fields,
    pub(crate) chip: Option<&'s Chip>,
    pub(crate) simulated: bool,
}

impl Subject<'_> {
    pub(crate) fn is_switch(&self) -> bool {
        self.chip.is_some_and(|chip| chip.family.is_switch())
    }
}

/// What is said of a check that needs the report.
pub(crate) const UNREAD: &str = "the report could not be read";

#[derive(Default)]
struct Identity<'r> {
    chain: Option<Chain>,
    chip: Option<Chip>,
    /// Whose it is; none, where it is nobody's that is trusted.
    root: Option<&'r Root>,
}

impl Identity<'_> {
    fn simulated(&self) -> bool {
        self.root.is_some_and(Root::is_simulated)
    }

    fn leaf(&self) -> Option<&Certificate> {
        self.chain.as_ref().and_then(Chain::leaf)
    }
}

fn check_nonce(findings: &mut Findings, report: Option<&Report<'_>>, nonce: &[u8; 32]) {
    match report {
        None => findings.skipped(Name::Nonce, UNREAD),
        Some(report) if report.nonce == nonce => findings.passed(Name::Nonce, short(nonce)),
        Some(report) => {
            let detail = format!("it answers {}, wanted {}", short(report.nonce), short(nonce));
            findings.refused(Name::Nonce, Code::NonceMismatch, detail);
        }
    }
}

/// The certificates, the chip that they name, and the root that they lead to.
fn check_chain<'r>(
    findings: &mut Findings,
    evidence: &Evidence<'_>,
    setting: &Setting<'r>,
) -> Identity<'r> {
    let chain = match Chain::files(&evidence.chain) {
        Ok(chain) => chain,
        Err(refusal) => {
            findings.refused(Name::Chain, refusal.code, refusal.detail);
            return Identity::default();
        }
    };
    let mut refusals = Vec::new();
    let root = match chain.verify(setting.roots, seconds(setting.now)) {
        Ok(root) => Some(root),
        Err(ChainError::Untrusted(why)) => {
            refusals.push(Refusal::new(Code::ChainUntrusted, why));
            None
        }
        Err(ChainError::Dates(why)) => {
            refusals.push(Refusal::new(Code::CertExpired, why));
            // Whose it is, it says also out of its dates.
            chain.verify(setting.roots, chain.window().0).ok()
        }
    };
    let chip = Chip::of(&chain, evidence.arch).map_err(|refusal| refusals.push(refusal)).ok();
    let lead = match root.is_some_and(Root::is_simulated) {
        true => "a root of devices in software",
        false => "the pinned root",
    };
    let detail = format!("{} certificates lead to {lead}", chain.certificates().len());
    findings.judged(Name::Chain, refusals, detail);
    Identity { chain: Some(chain), chip, root }
}

fn check_signature(
    findings: &mut Findings,
    report: Option<&Report<'_>>,
    leaf: Option<&Certificate>,
) {
    let (Some(report), Some(leaf)) = (report, leaf) else {
        let why = if report.is_none() { UNREAD } else { "there is no certificate" };
        return findings.skipped(Name::Signature, why);
    };
    let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, leaf.public_key());
    match key.verify(report.signed(), report.signature) {
        Ok(()) => findings.passed(Name::Signature, "ECDSA P-384 over request and answer"),
        Err(_) => {
            let detail = "the report is not signed by the key of the first certificate";
            findings.refused(Name::Signature, Code::SignatureInvalid, detail);
        }
    }
}

fn check_fwid(
    findings: &mut Findings,
    subject: &Subject<'_>,
    leaf: Option<&Certificate>,
    required: bool,
) {
    let Some(leaf) = leaf.filter(|_| subject.report.is_some()) else {
        return findings.skipped(Name::Fwid, "report or certificate could not be read");
    };
    let certified = match dice::fwid(leaf) {
        Ok(certified) => certified,
        Err(refusal) => return findings.refused(Name::Fwid, refusal.code, refusal.detail),
    };
    match (subject.fields.fwid, certified) {
        (Some(found), Some(wanted)) if found == wanted => {
            findings.passed(Name::Fwid, short(&found));
        }
        (Some(found), Some(wanted)) => {
            let detail =
                format!("the report names {}, its certificate {}", short(&found), short(&wanted));
            findings.refused(Name::Fwid, Code::FwidMismatch, detail);
        }
        (Some(_), None) => {
            findings.refused(Name::Fwid, Code::FwidAbsent, "the certificate names no firmware");
        }
        (None, _) if required && !subject.is_switch() => {
            let detail = "the report does not name its firmware, and policy wants it named";
            findings.refused(Name::Fwid, Code::FwidAbsent, detail);
        }
        (None, _) => {
            findings.skipped(Name::Fwid, "reports of this form do not name their firmware");
        }
    }
}

/// The device's certificates, and those of who signed what it was compared with.
fn check_revocation(
    findings: &mut Findings,
    identity: &Identity<'_>,
    used: &[&Rim],
    setting: &Setting<'_>,
) {
    let Some((chain, root)) = identity.chain.as_ref().zip(identity.root) else {
        let why = "its certificates lead to nobody who could say";
        return findings.skipped(Name::Revocation, why);
    };
    let mut chains = vec![chain.up_to(root)];
    chains.extend(used.iter().map(|rim| rim.chain().up_to(rim.root())));
    revocation::check(findings, &chains, setting.lists, setting.revocation, setting.now);
}

fn check_mode(
    findings: &mut Findings,
    subject: &Subject<'_>,
    evidence: &Evidence<'_>,
    wanted: Option<Mode>,
) {
    let gpu = !subject.is_switch();
    let found = subject.fields.mode;
    if evidence.developer_mode {
        let detail = "its driver says that it is in developer mode";
        return findings.refused(Name::Mode, Code::DevTools, detail);
    }
    if subject.report.is_none() {
        return findings.skipped(Name::Mode, UNREAD);
    }
    let said = found.map_or("not named", Mode::as_str);
    match wanted {
        Some(wanted) if gpu && found != Some(wanted) => {
            let detail = format!("the mode is {said}, wanted {}", wanted.as_str());
            findings.refused(Name::Mode, Code::MixedModes, detail);
        }
        _ if found.is_some() => findings.passed(Name::Mode, said),
        _ => {
            let detail = "the report does not name one; developer mode would show in measurements";
            findings.skipped(Name::Mode, detail);
        }
    }
}
