//! Reports of whole machines: SEV-SNP (AMD 56860, table "ATTESTATION_REPORT") and TDX (Intel's "TDX DCAP Quoting
//! Library API", appendix A.3 and A.4).

use super::Row;
use crate::refusal::Refusal;

#[cfg(feature = "snp")]
const SNP: [(usize, &str); 38] = [
    (4, "version"),
    (4, "guest SVN"),
    (8, "guest policy"),
    (16, "family id"),
    (16, "image id"),
    (4, "privilege level"),
    (4, "signature algorithm"),
    (8, "current TCB"),
    (8, "platform info"),
    (4, "key info"),
    (4, "reserved"),
    (64, "report data"),
    (48, "launch measurement"),
    (32, "host data"),
    (48, "digest of the id key"),
    (48, "digest of the author key"),
    (32, "report id"),
    (32, "report id of the migration agent"),
    (8, "reported TCB"),
    (1, "processor family"),
    (1, "processor model"),
    (1, "processor stepping"),
    (21, "reserved"),
    (64, "chip id"),
    (8, "committed TCB"),
    (3, "current firmware: build, minor, major"),
    (1, "reserved"),
    (3, "committed firmware: build, minor, major"),
    (1, "reserved"),
    (8, "launch TCB"),
    (8, "launch mitigations"),
    (8, "current mitigations"),
    (152, "reserved"),
    (48, "signature: r, little-endian"),
    (24, "zeros"),
    (48, "signature: s, little-endian"),
    (24, "zeros"),
    (368, "reserved"),
];

/// All fields of an SNP report.
#[cfg(feature = "snp")]
pub(super) fn snp(bytes: &[u8]) -> Result<Vec<Row>, Refusal> {
    let report = crate::snp::parse(bytes)?;
    let policy = u64::from(report.policy);
    let debug = if report.policy.debug_allowed() { "debug allowed" } else { "no debug" };
    let row = |row: Row| match row.name.as_str() {
        "guest policy" => row.saying(format!("{policy:#x}: {debug}")),
        "version" => row.saying(report.version.to_string()),
        "privilege level" => row.saying(report.vmpl.to_string()),
        _ => row,
    };
    Ok(super::laid(bytes, 0, &SNP).into_iter().map(row).collect())
}

#[cfg(feature = "tdx")]
const HEADER: [(usize, &str); 6] = [
    (2, "version"),
    (2, "kind of attestation key"),
    (4, "kind of machine"),
    (4, "reserved"),
    (16, "vendor of the quoting enclave"),
    (20, "user data"),
];

#[cfg(feature = "tdx")]
const DESCRIPTOR: [(usize, &str); 2] = [(2, "kind of report"), (4, "bytes of the report")];

#[cfg(feature = "tdx")]
const REPORT: [(usize, &str); 15] = [
    (16, "TCB SVNs"),
    (48, "MRSEAM"),
    (48, "MRSIGNERSEAM"),
    (8, "SEAM attributes"),
    (8, "TD attributes"),
    (8, "XFAM"),
    (48, "MRTD"),
    (48, "MRCONFIGID"),
    (48, "MROWNER"),
    (48, "MROWNERCONFIG"),
    (48, "RTMR 0"),
    (48, "RTMR 1"),
    (48, "RTMR 2"),
    (48, "RTMR 3"),
    (64, "report data"),
];

/// What a report of TDX 1.5 adds.
#[cfg(feature = "tdx")]
const ADDED: [(usize, &str); 2] = [(16, "TCB SVNs 2"), (48, "MRSERVICETD")];

#[cfg(feature = "tdx")]
const SIGNED: [(usize, &str); 7] = [
    (4, "bytes of what follows"),
    (64, "signature of the report"),
    (64, "attestation key"),
    (2, "kind of certification: quoting enclave"),
    (4, "bytes of it"),
    (384, "report of the quoting enclave"),
    (64, "its signature by the PCK"),
];

/// All fields of a quote.
#[cfg(feature = "tdx")]
pub(super) fn tdx(bytes: &[u8]) -> Result<Vec<Row>, Refusal> {
    use super::laid;

    let (quote, _) = crate::tdx::quote::parse(bytes)?;
    let auth = quote.auth_data.clone().into_v3();
    let mut rows = laid(bytes, 0, &HEADER);
    let next = |rows: &[Row]| rows.last().map_or(0, |row| row.offset + row.size);
    if quote.header.version == 5 {
        rows.extend(laid(bytes, next(&rows), &DESCRIPTOR));
    }
    rows.extend(laid(bytes, next(&rows), &REPORT));
    if next(&rows) < quote.signed_length() {
        rows.extend(laid(bytes, next(&rows), &ADDED));
    }
    rows.extend(laid(bytes, next(&rows), &SIGNED));
    let (more, pem) = (auth.qe_auth_data.data.len(), quote.inner_cert_data());
    let last = [
        (2, "bytes of its authentication data"),
        (more, "authentication data"),
        (2, "kind of certification: certificates"),
        (4, "bytes of them"),
        (pem.len(), "certificates"),
    ];
    rows.extend(laid(bytes, next(&rows), &last));
    if let Some(certificates) = rows.last_mut() {
        certificates.value = String::from_utf8_lossy(pem).trim_end_matches('\0').to_owned();
    }
    let end = next(&rows);
    if end < bytes.len() {
        rows.push(Row::new(bytes, end, bytes.len() - end, "zeros"));
    }
    Ok(rows)
}

#[cfg(not(feature = "snp"))]
pub(super) fn snp(_: &[u8]) -> Result<Vec<Row>, Refusal> {
    Err(Refusal::not_built("SEV-SNP"))
}

#[cfg(not(feature = "tdx"))]
pub(super) fn tdx(_: &[u8]) -> Result<Vec<Row>, Refusal> {
    Err(Refusal::not_built("TDX"))
}
