//! Verification of a recorded report of a GPU with its reference files, at a clock at which all of them hold.

use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime};

use privet::cc_attest::appraisal::{Kind, Verdict};
use privet::cc_attest::evidence::{Bundle, Evidence};
use privet::cc_attest::policy::Policy;
use privet::cc_attest::verifier::{Expected, Verifier};
use privet::core::{Code, Reason};
use serde::Serialize;

use crate::machine::Machine;

const REPORT: &[u8] =
    include_bytes!("../../cc-attest/tests/evidence/nvidia/gh100-545.00-PASS/report.bin");
const CHAIN: &[u8] =
    include_bytes!("../../cc-attest/tests/evidence/nvidia/gh100-545.00-PASS/chain.pem");
/// Another device of the same family.
const OTHER: (&[u8], &[u8]) = (
    include_bytes!("../../cc-attest/tests/evidence/nvidia/gh100-550.90.07-no-rim/report.bin"),
    include_bytes!("../../cc-attest/tests/evidence/nvidia/gh100-550.90.07-no-rim/chain.pem"),
);
const RIMS: [&[u8]; 2] = [
    include_bytes!("../../cc-attest/tests/evidence/nvidia/gh100-545.00-PASS/driver_rim_545.00.xml"),
    include_bytes!(
        "../../cc-attest/tests/evidence/nvidia/gh100-545.00-PASS/vbios_rim_1010_0200_882_96005E0001.xml"
    ),
];
/// 2023-10-01.
const WHEN: u64 = 1_696_118_400;
/// Where a report has its challenge.
const CHALLENGE: std::ops::Range<usize> = 4..36;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// How often each thing is done.
    pub verifications: u32,
}

/// What was measured, of one thread. Times are the least of five rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// How often a report was verified.
    pub verifications: u32,
    /// A report of a device that was seen before: its certificates are looked at anew but for their signatures.
    pub ms_per_report: f64,
    /// One of a device that was never seen, whose authorities were.
    pub ms_per_new_device: f64,
    /// One of which no certificate was ever seen: five signatures on P-384.
    pub ms_per_new_report: f64,
    /// Opening a reference file: form, digest, signature, certificates.
    pub ms_per_rim: f64,
    /// What it was measured on.
    pub machine: Machine,
    /// Version of Privet.
    pub version: String,
}

impl Measured {
    /// For people.
    pub fn table(&self) -> String {
        let line = |what: &str, ms: f64| format!("{what:38} {ms:7.2} ms\n");
        format!(
            "{} verifications of a GPU's report\n{}{}{}{}machine                                {}",
            self.verifications,
            line("a device that was seen before", self.ms_per_report),
            line("a new device of known authorities", self.ms_per_new_device),
            line("no certificate was ever seen", self.ms_per_new_report),
            line("opening a reference file", self.ms_per_rim),
            self.machine.cpu,
        )
    }
}

fn bundle(report: &[u8], chain: &[u8]) -> Bundle {
    let certificates = vec![chain.to_vec()];
    Bundle(vec![Evidence { certificates, ..Evidence::new(Kind::NvidiaGpu, report.to_vec()) }])
}

fn challenge(report: &[u8]) -> Expected {
    Expected::Nonce(report.get(CHALLENGE).unwrap_or_default().to_vec())
}

fn verifier() -> Result<Verifier, Reason> {
    let mut verifier = Verifier::new(Policy::of_evidence(Kind::NvidiaGpu));
    for rim in RIMS {
        verifier.add("reference", rim).map_err(broken)?;
    }
    Ok(verifier)
}

fn broken(why: impl ToString) -> Reason {
    Reason::new(Code::DataUnreadable, why.to_string())
}

/// Measures.
///
/// # Errors
/// When the recorded evidence does not hold, which is a fault of this program.
pub fn run(options: &Options) -> Result<Measured, Reason> {
    let (report, other) = (bundle(REPORT, CHAIN), bundle(OTHER.0, OTHER.1));
    let (expected, others) = (challenge(REPORT), challenge(OTHER.0));
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(WHEN);
    let verify = |verifier: &Verifier| {
        let appraisal = black_box(verifier.appraise(&report, &expected, now));
        match appraisal.verdict {
            Verdict::Warning if appraisal.refusals.is_empty() => Ok(()),
            _ => Err(broken("the recorded report does not hold")),
        }
    };
    let known = verifier()?;
    verify(&known)?;
    let seen = best(options, || Ok(&known), verify)?;
    let new_device = best(
        options,
        || {
            let fresh = verifier()?;
            black_box(fresh.appraise(&other, &others, now));
            Ok(fresh)
        },
        |verifier| verify(&verifier),
    )?;
    let new = best(options, verifier, |verifier| verify(&verifier))?;
    let empty = || Ok(Verifier::new(Policy::of_evidence(Kind::NvidiaGpu)));
    let mut at = 0;
    let rims = best(options, empty, |mut verifier| {
        at += 1;
        let rim = if at % 2 == 0 { RIMS[0] } else { RIMS[1] };
        verifier.add("reference", rim).map_err(broken)
    })?;
    let mut machine = Machine::this();
    machine.threads = 1;
    machine.backend = "ring".to_owned();
    Ok(Measured {
        verifications: options.verifications,
        ms_per_report: seen,
        ms_per_new_device: new_device,
        ms_per_new_report: new,
        ms_per_rim: rims,
        machine,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// Milliseconds that something takes with what is made for it, which is not counted: the least of five rounds.
fn best<T>(
    options: &Options,
    mut make: impl FnMut() -> Result<T, Reason>,
    mut what: impl FnMut(T) -> Result<(), Reason>,
) -> Result<f64, Reason> {
    let rounds = 5.min(options.verifications.max(1));
    let each = options.verifications.div_ceil(rounds).max(1);
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let mut spent = Duration::ZERO;
        for _ in 0..each {
            let made = make()?;
            let began = Instant::now();
            what(made)?;
            spent += began.elapsed();
        }
        best = best.min(spent.as_secs_f64() * 1e3 / f64::from(each));
    }
    Ok(best)
}
