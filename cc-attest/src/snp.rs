//! AMD SEV-SNP: a report, the key of the chip or the cloud that signed it, and AMD's chain.
//!
//! ```text
//!   ARK (pinned) ─▶ ASK ─▶ VCEK: the key of one chip at one level of firmware
//!                └▶ ASVK ─▶ VLEK: the key of a cloud at one level of firmware ─▶ report
//! ```
//! Formats: AMD 56860 (SEV-SNP ABI, table "ATTESTATION_REPORT") and 57230 (VCEK certificates). Parsing and
//! signatures are those of the `sev` crate, which looks at no dates, no firmware level and no policy; all that
//! is done here. A report with a masked chip id names no chip: its name is then taken from the VCEK, whose key
//! signed it; under a VLEK it has none.

mod certificates;
#[cfg(test)]
mod tests;

use sev::certs::snp::Verifiable;
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser;

use crate::appraisal::{Device, Findings, Name};
use crate::cpu::Setting;
use crate::encoding::{hex, short};
use crate::policy::{SnpRules, SnpTcb};
use crate::refusal::{Code, Refusal};
use crate::{certs, revocation};
use certificates::{Chain, Endorsement};

/// Bytes of a report.
const REPORT: usize = 1184;
/// Where its signature is: two numbers of 72 bytes, of which 48 are used (AMD 56860, table "ECDSA P-384").
const R: std::ops::Range<usize> = 0x2a0 + 48..0x2a0 + 72;
const S: std::ops::Range<usize> = 0x2a0 + 120..0x2a0 + 144;
/// ECDSA P-384 with SHA-384, in the field that names the algorithm.
const ECDSA: u32 = 1;

/// Reads a report; the bytes that the format leaves unused must be zero.
pub(crate) fn parse(bytes: &[u8]) -> Result<AttestationReport, Refusal> {
    let long = format!("{} bytes, a report has {REPORT}", bytes.len());
    match bytes.len() {
        0..REPORT => return Err(Refusal::new(Code::Malformed, long)),
        REPORT => {}
        _ => return Err(Refusal::new(Code::TrailingData, long)),
    }
    let version = bytes.first_chunk::<4>().map_or(0, |first| u32::from_le_bytes(*first));
    if !(2..=5).contains(&version) {
        let detail = format!("an SNP report of version {version}; versions 2 to 5 are known");
        return Err(Refusal::new(Code::Malformed, detail));
    }
    if version == 2 && bytes.get(0x1a0..0x1e0).is_some_and(|id| id.iter().all(|byte| *byte == 0)) {
        let detail =
            "the chip id is masked, and a report of version 2 names the processor nowhere else";
        return Err(Refusal::new(Code::UnsupportedArch, detail));
    }
    let malformed = |detail: &str| Refusal::new(Code::Malformed, detail);
    let report = AttestationReport::from_bytes(bytes)
        .map_err(|error| malformed(&format!("not an SNP report: {error}")))?;
    // What is signed is what was read, and nothing of what was sent was passed over.
    let again =
        report.to_bytes().map_err(|error| malformed(&format!("not an SNP report: {error}")))?;
    let padded = [R, S]
        .into_iter()
        .all(|part| bytes.get(part).is_some_and(|pad| pad.iter().all(|b| *b == 0)));
    match again == *bytes && padded {
        true => Ok(report),
        false => Err(malformed("bytes that an SNP report does not use are not zero")),
    }
}

/// Looks at a report. `files` are the certificates, each PEM or DER: the VCEK or VLEK, and AMD's where they
/// came with it.
pub fn verify(
    report: &[u8],
    files: &[&[u8]],
    rules: &SnpRules,
    setting: &Setting<'_>,
) -> (Device, Vec<Refusal>) {
    let mut findings = Findings::default();
    let report = match parse(report) {
        Ok(report) => report,
        Err(refusal) => {
            let mut device = empty();
            (device.checks, _) = findings.finish("there is no report");
            return (device, vec![refusal]);
        }
    };
    let data = format!("report data {}", short(&report.report_data));
    findings.judged(Name::Nonce, setting.answers(&report.report_data), data);
    mode(&mut findings, &report);
    measured(&mut findings, &report, rules);
    let mut device = empty();
    device.ueid = Some(report.chip_id).filter(|id| *id != [0; 64]).map(|id| hex(&id));
    match Chain::read(files) {
        Ok(chain) => {
            device.arch = Some(chain.arch.into());
            device.hwmodel = Some(chain.endorsement.product.clone());
            let chip = chain.endorsement.chip.filter(|_| device.ueid.is_none());
            device.ueid = device.ueid.or(chip.map(|id| hex(&id)));
            endorsed(&mut findings, &report, &chain, rules, setting);
        }
        Err(refusal) => findings.refused(Name::Chain, refusal.code, refusal.detail),
    }
    let (checks, refusals) = findings.finish("not looked at, or of no meaning for this processor");
    device.checks = checks;
    device.vbios = Some(report.current.to_string());
    (device, refusals)
}

fn empty() -> Device {
    Device {
        arch: None,
        hwmodel: None,
        driver: None,
        vbios: None,
        ueid: None,
        checks: Vec::new(),
        simulated: false,
    }
}

/// Policy bit 19: the host may read and write the machine's memory.
fn mode(findings: &mut Findings, report: &AttestationReport) {
    let policy = u64::from(report.policy);
    let debug = report.policy.debug_allowed().then(|| {
        let detail = format!("guest policy {policy:#x} has bit 19: the host may debug the machine");
        Refusal::new(Code::DebugEnabled, detail)
    });
    let vmpl = report.vmpl;
    findings.judged(Name::Mode, debug, format!("guest policy {policy:#x}, privilege level {vmpl}"));
}

fn measured(findings: &mut Findings, report: &AttestationReport, rules: &SnpRules) {
    let found = hex(&report.measurement);
    if rules.measurements.is_empty() {
        let detail = format!("no reference value was given for the launch measurement {found}");
        return findings.skipped(Name::Measurements, detail);
    }
    let known = rules.measurements.iter().any(|reference| reference.0 == report.measurement);
    let against = (!known).then(|| {
        let detail = format!(
            "launch measurement {found} is none of {} references",
            rules.measurements.len()
        );
        Refusal::new(Code::MeasurementMismatch, detail)
    });
    findings.judged(
        Name::Measurements,
        against,
        format!("launch measurement {}", short(&report.measurement)),
    );
}

/// What the certificates say for the report.
fn endorsed(
    findings: &mut Findings,
    report: &AttestationReport,
    chain: &Chain,
    rules: &SnpRules,
    setting: &Setting<'_>,
) {
    let mut against: Vec<Refusal> = chain.verify().err().into_iter().collect();
    for der in chain.ders() {
        against.extend(certs::parse(der).and_then(|cert| certs::dated(&cert, setting.now)).err());
    }
    let endorsement = &chain.endorsement;
    let detail = format!("{} up to the pinned ARK of {}", endorsement.kind(), chain.arch);
    findings.judged(Name::Chain, against, detail);
    findings.judged(Name::Signature, unsigned(report, chain), endorsement.kind());
    let firmware = firmware(report, chain, rules);
    findings.judged(Name::Fwid, firmware, format!("firmware {}", told(report)));
    revocation::check(findings, &[chain.ders()], setting.lists, setting.revocation, setting.now);
}

/// Why a report is not one of its certificate's key.
fn unsigned(report: &AttestationReport, chain: &Chain) -> Option<Refusal> {
    let refusal = |detail: String| Some(Refusal::new(Code::SignatureInvalid, detail));
    let endorsement = &chain.endorsement;
    if report.sig_algo != ECDSA {
        return refusal(format!("signature algorithm {}, wanted {ECDSA}", report.sig_algo));
    }
    let (named, given) = (report.key_info.signing_key(), u32::from(endorsement.cloud));
    if named != given {
        return refusal(format!("signed by key kind {named}, the certificate is of kind {given}"));
    }
    match (&chain.certificate, report).verify() {
        Ok(()) => None,
        Err(_) => refusal(format!("the report is not signed by its {}", endorsement.kind())),
    }
}

/// The level of firmware that a report's key was derived from, as policy names it.
fn level(report: &AttestationReport) -> SnpTcb {
    let tcb = report.reported_tcb;
    let (fmc, bootloader, tee) = (tcb.fmc.unwrap_or(0), tcb.bootloader, tcb.tee);
    SnpTcb { fmc, bootloader, tee, snp: tcb.snp, microcode: tcb.microcode }
}

fn told(report: &AttestationReport) -> String {
    let SnpTcb { fmc, bootloader, tee, snp, microcode } = level(report);
    format!("fmc {fmc}, bootloader {bootloader}, tee {tee}, snp {snp}, microcode {microcode}")
}

/// The report must be of the chip and the level of firmware that the certificate was made for, and not below
/// the floor.
fn firmware(report: &AttestationReport, chain: &Chain, rules: &SnpRules) -> Vec<Refusal> {
    let Endorsement { chip, tcb, .. } = &chain.endorsement;
    let mut against = Vec::new();
    let found = level(report);
    if *tcb != found {
        let detail = format!("the report is of {}, the certificate of {tcb:?}", told(report));
        against.push(Refusal::new(Code::FwidMismatch, detail));
    }
    if let Some(chip) = chip.filter(|chip| report.chip_id != [0; 64] && *chip != report.chip_id) {
        let detail = format!(
            "the report is of chip {}, the certificate of {}",
            short(&report.chip_id),
            short(&chip)
        );
        against.push(Refusal::new(Code::FwidMismatch, detail));
    }
    if let Some(floor) = rules.tcb_floor.get(chain.arch) {
        let pairs = [
            ("fmc", found.fmc, floor.fmc),
            ("bootloader", found.bootloader, floor.bootloader),
            ("tee", found.tee, floor.tee),
            ("snp", found.snp, floor.snp),
            ("microcode", found.microcode, floor.microcode),
        ];
        for (name, found, floor) in pairs.into_iter().filter(|(_, found, floor)| found < floor) {
            let detail = format!("{name} {found}, policy wants {floor} or newer");
            against.push(Refusal::new(Code::TcbBelowFloor, detail));
        }
    }
    against
}
