//! Every file of recorded evidence, and what it must give.

use super::*;

#[test]
fn recorded_evidence_gives_what_it_must() {
    let gpu = |name: &str| format!("nvidia/{name}/report.bin");
    let chain = |name: &str| format!("nvidia/{name}/chain.pem");
    let milan = report_data("amd/milan-v2-PASS/report.bin");
    let debug = report_data("amd/milan-DEBUG/report.bin");
    let v4 = report_data("intel/tdx-v4-PASS/quote.bin");
    let v4_debug = report_data("intel/tdx-v4-DEBUG/quote.bin");
    let missing = ["RimMissing", "RimMissing"];
    let bad = |case: u8| format!("nvidia/bad-chains/hopper_cert_chain_case{case}.pem");
    let no_rim = gpu("gh100-550.90.07-no-rim");
    // Evidence, challenge, files, time; verdict, kind, refusals.
    type Case<'a> = (String, &'a str, Vec<String>, &'a str, &'a str, &'a str, &'a [&'a str]);
    let cases: Vec<Case<'_>> = vec![
        (
            gpu("gh100-545.00-PASS"),
            HOPPER,
            vec![chain("gh100-545.00-PASS"), DRIVER.into(), VBIOS.into()],
            IN_2023,
            "warning",
            "nvidia-gpu",
            &[],
        ),
        (
            gpu("gh100-545.00-PASS"),
            HOPPER,
            vec![chain("gh100-545.00-PASS"), DRIVER.into(), VBIOS.into()],
            IN_2026,
            "contraindicated",
            "nvidia-gpu",
            &["RimExpired", "RimExpired"],
        ),
        (
            gpu("gh100-545.00-PASS"),
            SAMPLE,
            vec![chain("gh100-545.00-PASS"), DRIVER.into(), VBIOS.into()],
            IN_2023,
            "contraindicated",
            "nvidia-gpu",
            &["NonceMismatch"],
        ),
        (
            no_rim.clone(),
            SAMPLE,
            vec![chain("gh100-550.90.07-no-rim")],
            IN_2026,
            "contraindicated",
            "nvidia-gpu",
            &missing,
        ),
        (
            no_rim.clone(),
            SAMPLE,
            vec![chain("gh100-550.90.07-no-rim"), DRIVER.into()],
            IN_2023,
            "contraindicated",
            "nvidia-gpu",
            &["RimMissing", "RimVersionMismatch", "RimMissing"],
        ),
        (
            gpu("gh100-535.86.09"),
            OLD,
            vec![chain("gh100-535.86.09")],
            IN_2026,
            "contraindicated",
            "nvidia-gpu",
            &missing,
        ),
        (
            gpu("gh100-535.86.09"),
            OLD,
            vec![chain("gh100-535.86.09"), VBIOS.into()],
            IN_2023,
            "contraindicated",
            "nvidia-gpu",
            &[
                "RimMissing",
                "MeasurementMismatch",
                "MeasurementMismatch",
                "MeasurementMismatch",
                "MeasurementMismatch",
            ],
        ),
        (
            gpu("gh100-535.86.09"),
            OLD,
            vec![chain("gh100-535.86.09"), "nvidia/gh100-535.86.09/driver_rim_TAMPERED.xml".into()],
            IN_2026,
            "contraindicated",
            "nvidia-gpu",
            &["RimSignature", "RimMissing", "RimMissing"],
        ),
        (
            gpu("gb100-575.32"),
            SAMPLE,
            vec![chain("gb100-575.32")],
            IN_2026,
            "contraindicated",
            "nvidia-gpu",
            &missing,
        ),
        (
            gpu("nvswitch-ls10-PASS"),
            SAMPLE,
            vec![chain("nvswitch-ls10-PASS"), SWITCH.into()],
            IN_2026,
            "warning",
            "nvidia-switch",
            &[],
        ),
        (
            gpu("nvswitch-ls10-PASS"),
            SAMPLE,
            vec![
                chain("nvswitch-ls10-PASS"),
                "nvidia/nvswitch-ls10-PASS/switch_rim_96105500_2024issue.xml".into(),
            ],
            "2025-01-01T00:00:00Z",
            "warning",
            "nvidia-switch",
            &[],
        ),
        (
            gpu("nvswitch-ls10-PASS"),
            SAMPLE,
            vec![
                chain("nvswitch-ls10-PASS"),
                "nvidia/nvswitch-ls10-PASS/switch_rim_TAMPERED.xml".into(),
            ],
            "2025-01-01T00:00:00Z",
            "contraindicated",
            "nvidia-switch",
            &["RimSignature", "RimMissing"],
        ),
        // A reference that is not needed is refused as well where it does not hold; one that holds is not.
        (
            gpu("nvswitch-ls10-PASS"),
            SAMPLE,
            vec![
                chain("nvswitch-ls10-PASS"),
                SWITCH.into(),
                "nvidia/rims/driver_GH100_550.144.03.xml".into(),
            ],
            IN_2026,
            "warning",
            "nvidia-switch",
            &[],
        ),
        (
            gpu("nvswitch-ls10-PASS"),
            SAMPLE,
            vec![
                chain("nvswitch-ls10-PASS"),
                SWITCH.into(),
                "nvidia/rims/driver_GH100_550.144.03_BADSIG.xml".into(),
            ],
            IN_2026,
            "contraindicated",
            "nvidia-switch",
            &["RimSignature"],
        ),
        (
            "nvidia/nras/gpu_detached_eat.json".into(),
            SAMPLE,
            vec![KEYS.into()],
            "2025-06-11T00:45:00Z",
            "warning",
            "nras",
            &[],
        ),
        (
            "nvidia/nras/gpu_detached_eat.json".into(),
            SAMPLE,
            vec![KEYS.into()],
            "2025-06-11T02:45:00Z",
            "contraindicated",
            "nras",
            &["CertExpired", "CertExpired"],
        ),
        (
            "amd/milan-v2-PASS/report.bin".into(),
            &milan,
            vec!["amd/milan-v2-PASS/vcek.der".into(), "amd/milan-v2-PASS/ask_ark.pem".into()],
            "2024-01-01T00:00:00Z",
            "warning",
            "snp",
            &[],
        ),
        (
            "amd/milan-v2-PASS/report.bin".into(),
            &milan,
            vec!["amd/milan-DEBUG/vcek.der".into()],
            "2024-01-01T00:00:00Z",
            "contraindicated",
            "snp",
            &["SignatureInvalid", "FwidMismatch", "FwidMismatch"],
        ),
        (
            "amd/milan-v2-PASS/report.bin".into(),
            &milan,
            vec!["amd/milan-v2-PASS/vcek.der".into()],
            "2031-01-01T00:00:00Z",
            "contraindicated",
            "snp",
            &["CertExpired"],
        ),
        (
            "amd/milan-DEBUG/report.bin".into(),
            &debug,
            vec!["amd/milan-DEBUG/vcek.der".into(), "amd/milan-DEBUG/ask_ark.pem".into()],
            "2024-01-01T00:00:00Z",
            "contraindicated",
            "snp",
            &["DebugEnabled"],
        ),
        (
            "intel/tdx-v4-PASS/quote.bin".into(),
            &v4,
            vec!["intel/tdx-v4-PASS/collateral.json".into()],
            "2025-06-25T00:00:00Z",
            "warning",
            "tdx",
            &[],
        ),
        (
            "intel/tdx-v4-PASS/quote.bin".into(),
            &v4,
            vec![],
            "2025-06-25T00:00:00Z",
            "warning",
            "tdx",
            &[],
        ),
        (
            "intel/tdx-v4-PASS/quote.bin".into(),
            &v4,
            vec!["intel/tdx-v5-OUTDATED/collateral.json".into()],
            "2025-06-25T00:00:00Z",
            "contraindicated",
            "tdx",
            &[],
        ),
        (
            "intel/tdx-v4-DEBUG/quote.bin".into(),
            &v4_debug,
            vec![],
            "2025-06-25T00:00:00Z",
            "contraindicated",
            "tdx",
            &["DebugEnabled"],
        ),
        (
            no_rim.clone(),
            SAMPLE,
            vec![bad(2)],
            IN_2026,
            "contraindicated",
            "nvidia-gpu",
            &["ChainUntrusted", "UnsupportedArch", "SignatureInvalid"],
        ),
        (
            no_rim.clone(),
            SAMPLE,
            vec![bad(3)],
            IN_2026,
            "contraindicated",
            "nvidia-gpu",
            &["ChainUntrusted"],
        ),
        (
            no_rim,
            SAMPLE,
            vec![bad(4)],
            IN_2026,
            "contraindicated",
            "nvidia-gpu",
            &["ChainUntrusted", "SignatureInvalid"],
        ),
        (
            gpu("gh100-BADSIG"),
            OLD,
            vec![chain("gh100-535.86.09")],
            IN_2026,
            "contraindicated",
            "nvidia-gpu",
            &["SignatureInvalid", "FwidMismatch"],
        ),
    ];
    for (evidence, nonce, files, at, verdict, kind, expected) in cases {
        let mut more = vec!["--at", at];
        for file in &files {
            let option = match file.as_str() {
                rim if rim.ends_with(".xml") => "--rim",
                KEYS => "--keys",
                json if json.ends_with(".json") => "--collateral",
                _ => "--chain",
            };
            more.extend([option, file]);
        }
        let said = verify(&evidence, nonce, &more);
        let document = shaped(&said);
        let found = codes(&document);
        assert_eq!(
            (document["verdict"].as_str(), document["kind"].as_str()),
            (Some(verdict), Some(kind)),
            "{evidence} {files:?} {found:?}"
        );
        // In any order: what is listed is there, and where all of it is listed, nothing else.
        let mut rest = found.clone();
        for code in expected {
            let at = rest.iter().position(|found| found == code);
            rest.remove(
                at.unwrap_or_else(|| panic!("{evidence} {files:?}: no {code} in {found:?}")),
            );
        }
        if verdict == "warning" || expected.len() > 3 {
            assert!(rest.is_empty(), "{evidence} {files:?}: {found:?}");
        }
    }
}
