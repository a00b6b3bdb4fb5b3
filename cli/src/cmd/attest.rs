//! `privet attest`: evidence of confidential computing, from files.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};
use privet::cc_attest::appraisal::{Appraisal, Check, Device, Verdict};
use privet::cc_attest::show::Row;
use privet::{EvidenceError, EvidenceOptions, show_evidence, verify_evidence};
use serde_json::json;

use super::Ended;
use crate::out::{BOLD, DIM, Failed, Out, RED};

/// Evidence of confidential GPUs and machines.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Verify(Box<Verify>),
    /// Show every field of evidence, with where it is. Nothing is verified.
    #[command(after_help = "Examples:
  privet attest show evidence/report.bin
  privet attest show evidence/quote.bin --json")]
    Show {
        /// The evidence.
        file: PathBuf,
    },
}

/// Verify evidence against a challenge, offline.
///
/// The evidence may be the raw report of a GPU or a switch, a JSON list of {arch, evidence, certificate}, an SNP
/// report, a TDX quote, a token of NVIDIA's service, or a JSON object {nvidia, snp, tdx, nras} of these. Whatever
/// nonce it names of itself is not believed. Exit 0 when it is `affirming` or `warning`, else 5.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  privet attest verify --evidence evidence/quote.bin --nonce @evidence/nonce
  privet attest verify --evidence evidence/quote.bin --nonce @evidence/nonce --json")]
pub(crate) struct Verify {
    /// The evidence.
    #[arg(long, value_name = "FILE")]
    evidence: PathBuf,
    /// Its certificates, PEM or DER; for SNP the VCEK or VLEK and AMD's.
    #[arg(long, value_name = "FILE")]
    chain: Vec<PathBuf>,
    /// What it must answer, or @FILE with that in it: 32 bytes for GPUs, switches and tokens, the 64 of the report
    /// data for SNP and TDX.
    #[arg(long, value_name = "HEX")]
    nonce: String,
    /// Reference values of a driver or a firmware, as NVIDIA signs them.
    #[arg(long, value_name = "FILE")]
    rim: Vec<PathBuf>,
    /// What Intel says of the platform, as JSON.
    #[arg(long, value_name = "FILE")]
    collateral: Option<PathBuf>,
    /// A revocation list or an OCSP response.
    #[arg(long, value_name = "FILE")]
    revocation: Vec<PathBuf>,
    /// Keys of NVIDIA's service, as a JWK set: none is built in.
    #[arg(long, value_name = "FILE")]
    keys: Vec<PathBuf>,
    /// The root of devices in software, where the policy allows them.
    #[arg(long, value_name = "FILE")]
    simulated_root: Vec<PathBuf>,
    /// When it is looked at; now when absent.
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    at: Option<SystemTime>,
    /// What is asked of the evidence: see docs/attestation.md. The profile of its kind when absent.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

fn moment(text: &str) -> Result<SystemTime, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|_| "wanted a time like 2026-11-26T12:00:00Z".to_owned())?;
    let since = u64::try_from(time.as_second()).map_err(|_| "before 1970".to_owned())?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(since))
}

pub(crate) fn main(command: &Command, out: &Out) -> Ended {
    match command {
        Command::Verify(args) => verify(args, out),
        Command::Show { file } => {
            let pieces = show_evidence(file).map_err(failed)?;
            out.result(&json!({ "pieces": pieces }), || {
                let piece = |piece: &privet::ShownPiece| {
                    let kind = serde_json::to_value(piece.kind).unwrap_or_default();
                    format!(
                        "{BOLD}{}{BOLD:#}\n{}",
                        kind.as_str().unwrap_or(""),
                        rows(&piece.fields)
                    )
                };
                pieces.iter().map(piece).collect::<Vec<_>>().join("\n")
            });
            Ok(0)
        }
    }
}

fn failed(error: EvidenceError) -> Failed {
    match error {
        EvidenceError::File(..) => Failed::new(2, "unreadable", error.to_string()),
        EvidenceError::Policy(findings) => Failed::findings(findings),
        EvidenceError::Usage(why) => Failed::usage(why),
        EvidenceError::Evidence(refusal) => {
            Failed::new(5, refusal.code.as_str(), refusal.detail).help(refusal.code.help())
        }
    }
}

fn verify(args: &Verify, out: &Out) -> Ended {
    let nonce = match args.nonce.strip_prefix('@') {
        None => args.nonce.clone(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| Failed::new(2, "unreadable", format!("{path}: {error}")))?;
            text.trim().to_owned()
        }
    };
    let options = EvidenceOptions {
        evidence: args.evidence.clone(),
        chains: args.chain.clone(),
        nonce,
        references: args.rim.clone(),
        collateral: args.collateral.clone(),
        revocation: args.revocation.clone(),
        keys: args.keys.clone(),
        simulated_roots: args.simulated_root.clone(),
        policy: args.policy.clone(),
        at: args.at,
    };
    let appraisal = verify_evidence(&options).map_err(failed)?;
    out.result(&appraisal, || words(&appraisal));
    Ok(match appraisal.verdict {
        Verdict::Affirming | Verdict::Warning => 0,
        Verdict::Contraindicated | Verdict::None => 5,
    })
}

/// Bytes of a value that a line shows.
const SHOWN: usize = 72;

fn rows(rows: &[Row]) -> String {
    let wide = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let mut text = format!("{DIM}offset  length  {:wide$}  value{DIM:#}\n", "field");
    for row in rows {
        let line = row.value.lines().next().unwrap_or("");
        let shown: String = line.chars().take(SHOWN).collect();
        let more = if shown.len() < row.value.len() { "…" } else { "" };
        text.push_str(&format!(
            "{:6}  {:6}  {:wide$}  {shown}{more}\n",
            row.offset, row.size, row.name
        ));
    }
    text
}

const GREEN: Style = AnsiColor::Green.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();

fn words(appraisal: &Appraisal) -> String {
    let mut text = String::new();
    for device in &appraisal.devices {
        text.push_str(&table(device));
        text.push('\n');
    }
    for refusal in &appraisal.refusals {
        let code = refusal.code.as_str();
        text.push_str(&format!("{RED}✗ refused[{code}]{RED:#}: {}\n", refusal.detail));
        text.push_str(&format!("    help:  {}\n", refusal.code.help()));
    }
    let open = appraisal.not_proven();
    if appraisal.refusals.is_empty() && !open.is_empty() {
        text.push_str("not proven:\n");
        for one in open {
            text.push_str(&format!("  - {one}\n"));
        }
    }
    let (style, verdict, means) = match appraisal.verdict {
        Verdict::Affirming => (GREEN, "affirming", "all that policy asks for was shown"),
        Verdict::Warning => {
            (YELLOW, "warning", "what was looked at holds; see what was not proven")
        }
        Verdict::Contraindicated => (RED, "contraindicated", "something does not hold"),
        Verdict::None => (RED, "none", "this is no evidence that can be read"),
    };
    text.push_str(&format!("\nverdict  {style}{verdict}{style:#}: {means}\n"));
    text
}

fn table(device: &Device) -> String {
    let part = |name: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("  {name} {value:.40}"))
    };
    let simulated = device.simulated.then(|| "  a device in software".to_owned());
    let parts = [
        part("arch", &device.arch),
        part("driver", &device.driver),
        part("firmware", &device.vbios),
        simulated,
    ];
    let parts: String = parts.into_iter().flatten().collect();
    let mut text = format!("{BOLD}{}{BOLD:#}{DIM}{parts}{DIM:#}\n", device.called());
    for Check { name, ok, detail } in &device.checks {
        let (style, mark, said) = match ok {
            Some(true) => (GREEN, "✓", "passed "),
            Some(false) => (RED, "✗", "refused"),
            None => (DIM, "–", "skipped"),
        };
        let name = name.as_str();
        text.push_str(&format!("  {style}{mark} {said}{style:#}  {name:12}  {detail}\n"));
    }
    text
}
