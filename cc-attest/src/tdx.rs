//! Intel TDX: a quote of version 4 or 5, and what Intel says of the platform (collateral), as JSON.
//!
//! ```text
//!   Intel SGX root (pinned) ─▶ PCK CA ─▶ PCK ─▶ report of the quoting enclave ─▶ attestation key ─▶ TD report
//!                           └▶ TCB signer ─▶ TCB info, QE identity ─▶ a judgement: UpToDate, OutOfDate, …
//! ```
//! Formats: Intel's "TDX DCAP Quoting Library API", appendix A.3 and A.4, and PCS API v4. The way from the root
//! to the report is looked at here, with collateral or without; the judgement is the `dcap-qvl` crate's, and
//! policy says which are good enough. Without collateral neither the level of firmware nor the quoting enclave
//! is known; whether that is refused is policy's (`require-tcb`).

mod collateral;
pub(crate) mod quote;
#[cfg(test)]
mod tests;

use dcap_qvl::quote::{Quote, TDReport10};

use crate::appraisal::{Device, Findings, Name};
use crate::cpu::Setting;
use crate::encoding::{hex, short};
use crate::policy::{Hex, TdxReference, TdxRules};
use crate::refusal::{Code, Refusal};
use crate::revocation;
use crate::roots::Roots;
use crate::time::seconds;
use crate::x509::{Certificate, Chain, ChainError};

/// Looks at a quote, with Intel's collateral for it where there is some.
pub fn verify(
    quote: &[u8],
    collateral: Option<&[u8]>,
    rules: &TdxRules,
    setting: &Setting<'_>,
) -> (Device, Vec<Refusal>) {
    let mut findings = Findings::default();
    let mut device = Device {
        arch: None,
        hwmodel: None,
        driver: None,
        vbios: None,
        ueid: None,
        checks: Vec::new(),
        simulated: false,
    };
    let parsed = quote::parse(quote);
    let (parsed, report) = match &parsed {
        Ok((parsed, report)) => (parsed, report),
        Err(refusal) => {
            (device.checks, _) = findings.finish("there is no quote");
            return (device, vec![refusal.clone()]);
        }
    };
    device.arch = Some("tdx".into());
    let data = format!("report data {}", short(&report.report_data));
    findings.judged(Name::Nonce, setting.answers(&report.report_data), data);
    mode(&mut findings, report);
    measured(&mut findings, report, rules);
    match quote::chain(parsed) {
        Ok(chain) => {
            let pck = chain.leaf().map(Certificate::der).unwrap_or_default();
            if let Ok(platform) = dcap_qvl::intel::parse_pck_extension(pck) {
                device.ueid = Some(hex(&platform.ppid));
                device.hwmodel = Some(format!("fmspc {}", hex(&platform.fmspc)));
            }
            genuine(&mut findings, quote, parsed, &chain, collateral, rules, setting);
        }
        Err(refusal) => findings.refused(Name::Chain, refusal.code, refusal.detail),
    }
    let (checks, refusals) = findings.finish("not looked at, or of no meaning for this processor");
    device.checks = checks;
    (device, refusals)
}

/// The chain, the signatures, the firmware and revocation.
fn genuine(
    findings: &mut Findings,
    bytes: &[u8],
    quote: &Quote,
    chain: &Chain,
    collateral: Option<&[u8]>,
    rules: &TdxRules,
    setting: &Setting<'_>,
) {
    let roots = Roots::intel();
    let [root] = roots.all() else { return };
    let untrusted = chain.verify(&roots, seconds(setting.now)).err().map(|error| match error {
        ChainError::Untrusted(why) => Refusal::new(Code::ChainUntrusted, why),
        ChainError::Dates(why) => Refusal::new(Code::CertExpired, why),
    });
    let trusted = untrusted.is_none();
    findings.judged(Name::Chain, untrusted, "the PCK up to Intel's pinned root");
    let unsigned = chain.leaf().and_then(|pck| quote::unsigned(bytes, quote, pck));
    let signed = unsigned.is_none();
    let detail =
        "the quoting enclave by the PCK, the attestation key by the enclave, the report by the key";
    findings.judged(Name::Signature, unsigned, detail);

    let mut lists = setting.lists.clone();
    match collateral.map(collateral::read) {
        None if rules.require_tcb => {
            let detail = "there is no collateral: the level of firmware is not known";
            findings.refused(Name::Fwid, Code::TcbBelowFloor, detail);
        }
        None => findings.skipped(
            Name::Fwid,
            "there is no collateral: neither the level of firmware nor the quoting enclave is known",
        ),
        Some(Err(refusal)) => findings.refused(Name::Fwid, refusal.code, refusal.detail),
        Some(Ok(collateral)) => {
            for list in [&collateral.root_ca_crl, &collateral.pck_crl] {
                // One that cannot be read says nothing, and the crate refuses it below.
                let _ = lists.add(list);
            }
            let outside = collateral::outside(&collateral, setting.now);
            match (outside.is_empty(), trusted && signed) {
                (false, _) => findings.judged(Name::Fwid, outside, ""),
                (true, false) => findings.skipped(Name::Fwid, "the quote is not genuine"),
                (true, true) => {
                    let judged = collateral::judge(bytes, &collateral, root.der(), rules, setting.now);
                    let (against, detail) = match judged {
                        Ok(detail) => (None, detail),
                        Err(refusal) => (Some(refusal), String::new()),
                    };
                    findings.judged(Name::Fwid, against, detail);
                }
            }
        }
    }
    revocation::check(findings, &[chain.up_to(root)], &lists, setting.revocation, setting.now);
}

/// Attributes of a trust domain: any of the first eight bits says that it is under debug (TDX module ABI,
/// section "TD ATTRIBUTES").
fn mode(findings: &mut Findings, report: &TDReport10) {
    let [debug, ..] = report.td_attributes;
    let attributes = hex(&report.td_attributes);
    let against = (debug != 0).then(|| {
        let detail = format!("TD attributes {attributes}: the machine is under debug");
        Refusal::new(Code::DebugEnabled, detail)
    });
    findings.judged(Name::Mode, against, format!("TD attributes {attributes}"));
}

fn measured(findings: &mut Findings, report: &TDReport10, rules: &TdxRules) {
    let found = format!(
        "MRTD {}, RTMR {} {} {} {}",
        hex(&report.mr_td),
        short(&report.rt_mr0),
        short(&report.rt_mr1),
        short(&report.rt_mr2),
        short(&report.rt_mr3),
    );
    if rules.references.is_empty() {
        return findings
            .skipped(Name::Measurements, format!("no reference value was given for {found}"));
    }
    let known = rules.references.iter().any(|reference| fits(report, reference));
    let against = (!known).then(|| {
        let detail = format!("{found} is none of {} references", rules.references.len());
        Refusal::new(Code::MeasurementMismatch, detail)
    });
    findings.judged(Name::Measurements, against, format!("MRTD {}", short(&report.mr_td)));
}

fn fits(report: &TDReport10, reference: &TdxReference) -> bool {
    let fits =
        |wanted: &Option<Hex<48>>, found: &[u8; 48]| wanted.is_none_or(|wanted| wanted.0 == *found);
    reference.mrtd.0 == report.mr_td
        && fits(&reference.rtmr0, &report.rt_mr0)
        && fits(&reference.rtmr1, &report.rt_mr1)
        && fits(&reference.rtmr2, &report.rt_mr2)
        && fits(&reference.rtmr3, &report.rt_mr3)
}
