//! Evidence of a CPU: a report of SEV-SNP, its certificate, a quote of TDX, its collateral. The first byte says
//! which of them the others are.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use privet_cc_attest::cpu::Setting;
use privet_cc_attest::policy::{RevocationRules, SnpRules, TdxRules};
use privet_cc_attest::revocation::Lists;
use privet_cc_attest::{snp, tdx};

const REPORT: &[u8] = include_bytes!("../../cc-attest/tests/evidence/amd/milan-v2-PASS/report.bin");
const VCEK: &[u8] = include_bytes!("../../cc-attest/tests/evidence/amd/milan-v2-PASS/vcek.der");
const QUOTE: &[u8] = include_bytes!("../../cc-attest/tests/evidence/intel/tdx-v4-PASS/quote.bin");

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    let (lists, revocation) = (Lists::default(), RevocationRules::default());
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_809_600);
    let setting = Setting { report_data: &[7; 64], now, lists: &lists, revocation: &revocation };
    let (_, refusals) = match which % 4 {
        0 => snp::verify(bytes, &[VCEK], &SnpRules::default(), &setting),
        1 => snp::verify(REPORT, &[bytes], &SnpRules::default(), &setting),
        2 => tdx::verify(bytes, None, &TdxRules::default(), &setting),
        _ => tdx::verify(QUOTE, Some(bytes), &TdxRules::default(), &setting),
    };
    assert!(!refusals.is_empty());
});
