//! Every field of evidence, with where it is. Nothing is verified.

mod machines;
mod token;

use serde::Serialize;

use crate::appraisal::Kind;
use crate::encoding::hex;
use crate::nvidia::opaque;
use crate::nvidia::spdm::{MEASUREMENT, Report, SIGNATURE};
use crate::refusal::Refusal;

/// A field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its first byte, from 0.
    pub offset: usize,
    /// How many bytes it takes.
    #[serde(rename = "length")]
    pub size: usize,
    /// What it is.
    pub name: String,
    /// What it holds: text where it is text, else hex.
    pub value: String,
}

impl Row {
    /// A field at a place of the bytes, in hex unless a value is given.
    pub fn new(bytes: &[u8], offset: usize, size: usize, name: impl Into<String>) -> Self {
        let end = offset.saturating_add(size);
        let value = hex(bytes.get(offset..end).unwrap_or_default());
        Self { offset, size, name: name.into(), value }
    }

    /// The same with a value in words.
    pub fn saying(self, value: impl Into<String>) -> Self {
        Self { value: value.into(), ..self }
    }
}

/// All fields of a piece of evidence: without a gap, but for tokens, of which header and claims are shown.
///
/// # Errors
/// What its structure is refused for.
pub fn fields(kind: Kind, body: &[u8]) -> Result<Vec<Row>, Refusal> {
    match kind {
        Kind::NvidiaGpu | Kind::NvidiaSwitch => spdm(body),
        Kind::Snp => machines::snp(body),
        Kind::Tdx => machines::tdx(body),
        Kind::Nras => token::nras(body),
    }
}

/// Fields one after the other, each of so many bytes.
fn laid(bytes: &[u8], start: usize, layout: &[(usize, &str)]) -> Vec<Row> {
    let mut at = start;
    let row = |(size, name): &(usize, &str)| {
        at += size;
        Row::new(bytes, at - size, *size, *name)
    };
    layout.iter().map(row).collect()
}

/// All fields of the report of a GPU or a switch, without a gap.
///
/// # Errors
/// What the report's structure is refused for.
pub fn spdm(bytes: &[u8]) -> Result<Vec<Row>, Refusal> {
    let report = Report::read(bytes)?;
    let row = |offset, size, name: &str| Row::new(bytes, offset, size, name);
    let opaque_at = report.responder_at + 32;
    let opaque_size = report.signature_at - opaque_at - 2;
    let mut rows = vec![
        row(0, 1, "request: SPDM version"),
        row(1, 1, "request: code").saying("GET_MEASUREMENTS"),
        row(2, 1, "request: signature"),
        row(3, 1, "request: measurements"),
        row(4, 32, "challenge"),
        row(36, 1, "request: slot"),
        row(37, 1, "answer: SPDM version"),
        row(38, 1, "answer: code").saying("MEASUREMENTS"),
        row(39, 1, "answer: parameter 1"),
        row(40, 1, "answer: parameter 2"),
        row(41, 1, "number of measurements").saying(report.blocks.len().to_string()),
        row(42, 3, "bytes of measurements").saying((report.responder_at - 45).to_string()),
    ];
    for block in &report.blocks {
        rows.push(row(block.at, 4, &format!("measurement {}: header", block.index)));
        rows.push(row(block.at + 4, 3, &format!("measurement {}: type and size", block.index)));
        let name = format!("measurement {}: reference index {}", block.index, block.index - 1);
        rows.push(row(block.at + 7, MEASUREMENT, &name));
    }
    rows.push(row(report.responder_at, 32, "nonce of the device"));
    rows.push(row(opaque_at, 2, "bytes of fields").saying(opaque_size.to_string()));
    for field in &report.fields {
        let name = opaque::name(field.kind).unwrap_or("not known");
        let kind = format!("field {} ({name})", field.kind);
        rows.push(row(field.at, 4, &format!("{kind}: type and size")));
        let value = row(field.at + 4, field.value.len(), &kind);
        let text = field.value.iter().position(|&byte| byte == 0).unwrap_or(field.value.len());
        let (text, zeros) = field.value.split_at(text);
        let readable = text.len() > 1
            && text.iter().all(u8::is_ascii_graphic)
            && zeros.iter().all(|&byte| byte == 0);
        rows.push(match (readable, std::str::from_utf8(text)) {
            (true, Ok(text)) => value.saying(text),
            _ => value,
        });
    }
    rows.push(row(report.signature_at, SIGNATURE / 2, "signature: r"));
    rows.push(row(report.signature_at + SIGNATURE / 2, SIGNATURE / 2, "signature: s"));
    if report.padding > 0 {
        rows.push(row(report.signature_at + SIGNATURE, report.padding, "zeros"));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::evidence;

    #[test]
    fn rows_cover_every_byte_once() {
        for (path, kind) in [
            ("nvidia/gh100-545.00-PASS/report.bin", Kind::NvidiaGpu),
            ("nvidia/gh100-BADSIG/report.bin", Kind::NvidiaGpu),
            ("nvidia/gb100-575.32/report.bin", Kind::NvidiaGpu),
            ("nvidia/nvswitch-ls10-PASS/report.bin", Kind::NvidiaSwitch),
            #[cfg(feature = "snp")]
            ("amd/milan-v2-PASS/report.bin", Kind::Snp),
            #[cfg(feature = "tdx")]
            ("intel/tdx-v4-PASS/quote.bin", Kind::Tdx),
            #[cfg(feature = "tdx")]
            ("intel/tdx-v4-DEBUG/quote.bin", Kind::Tdx),
            #[cfg(feature = "tdx")]
            ("intel/tdx-v5-OUTDATED/quote.bin", Kind::Tdx),
            #[cfg(feature = "tdx")]
            ("intel/tdx-v5-1.5ex-PASS/quote.bin", Kind::Tdx),
        ] {
            let mut bytes = evidence(path);
            if kind != Kind::Snp {
                bytes.push(0);
            }
            let rows = fields(kind, &bytes).unwrap();
            let end = rows.iter().fold(0, |at, row| {
                assert_eq!(row.offset, at, "{path}: {}", row.name);
                at + row.size
            });
            assert_eq!(end, bytes.len(), "{path}");
            assert!(fields(kind, &bytes[..100]).is_err());
        }
    }

    /// Values that were read from the same files by other programs.
    #[cfg(all(feature = "snp", feature = "tdx"))]
    #[test]
    fn values_of_machines_are_where_they_are() {
        let value = |kind, path: &str, name: &str| {
            let rows = fields(kind, &evidence(path)).unwrap();
            rows.iter().find(|row| row.name == name).unwrap().value.clone()
        };
        let debug = "amd/milan-DEBUG/report.bin";
        assert!(value(Kind::Snp, debug, "guest policy").starts_with("0xb0000: "));
        assert!(value(Kind::Snp, debug, "guest policy").contains("debug"));
        assert!(value(Kind::Snp, debug, "report data").starts_with("0102030405000000"));
        let debug = "intel/tdx-v4-DEBUG/quote.bin";
        assert!(value(Kind::Tdx, debug, "TD attributes").starts_with("01"));
        let chain = value(Kind::Tdx, "intel/tdx-v4-PASS/quote.bin", "certificates");
        assert!(chain.starts_with("-----BEGIN CERTIFICATE-----"));
    }

    #[test]
    fn header_and_claims_of_a_token_are_shown() {
        let bytes = evidence("nvidia/nras/gpu_detached_eat.json");
        let rows = fields(Kind::Nras, &bytes).unwrap();
        let value = |name: &str| &rows.iter().find(|row| row.name == name).unwrap().value;
        assert_eq!(value("overall: header alg"), "\"ES384\"");
        assert_eq!(value("overall: claim exp"), "1749605458");
        assert_eq!(value("GPU-0: claim measres"), "\"success\"");
        for row in &rows {
            let text = &bytes[row.offset..row.offset + row.size];
            assert!(text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte)));
        }
        assert!(fields(Kind::Nras, b"[]").is_err());
    }

    #[test]
    fn values_are_shown() {
        let bytes = evidence("nvidia/gh100-545.00-PASS/report.bin");
        let rows = spdm(&bytes).unwrap();
        let value = |offset| &rows.iter().find(|row| row.offset == offset).unwrap().value;
        assert_eq!(value(3661), "545.00");
        assert!(value(4).starts_with("4cff7f53") && value(1207).starts_with("193d75c6"));
        assert!(value(3953).starts_with("f23c3889"));
        assert!(spdm(&bytes[1..]).is_err());
    }
}
