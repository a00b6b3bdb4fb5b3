//! Files that people have, told apart by what is in them.
//!
//! | first bytes | what it is |
//! |---|---|
//! | `11 e0` | report of a GPU or a switch (SPDM) |
//! | `81 00 00 00` at 4 | TDX quote |
//! | version 2 to 5, or 1184 bytes | SNP report |
//! | `[{` | GPUs and switches, as NVIDIA's tools write them |
//! | `[["JWT"` | token of NVIDIA's service |
//! | `{` | several kinds of one machine |

use data_encoding::BASE64;
use serde::Deserialize;
use serde_json::Value;

use super::{Bundle, Evidence, MAX_BUNDLE, MAX_PIECES};
use crate::appraisal::Kind;
use crate::json;
use crate::nvidia::chip::Chip;
use crate::refusal::{Code, Refusal};
use crate::x509::Chain;

/// Bytes of an SNP report.
const SNP: usize = 1184;

/// One device in a list of NVIDIA's tools. A list has a `nonce` beside these, which is whatever its maker wrote.
#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    arch: Option<String>,
    evidence: String,
    #[serde(default)]
    certificate: Option<String>,
    #[serde(default)]
    developer_mode: bool,
}

/// Several kinds of one machine.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Machine {
    #[serde(default)]
    nvidia: Vec<Item>,
    #[serde(default)]
    snp: Option<Snp>,
    #[serde(default)]
    tdx: Option<Tdx>,
    /// As the service sends it: texts in lists, which say the same however they are written.
    #[serde(default)]
    nras: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Snp {
    report: String,
    #[serde(default)]
    certificates: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tdx {
    quote: String,
    #[serde(default)]
    collateral: Option<Value>,
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::Malformed, detail)
}

fn base64(text: &str, what: &str) -> Result<Vec<u8>, Refusal> {
    let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(&packed).map_err(|_| malformed(format!("{what} is not base64")))
}

pub(super) fn read(
    evidence: &[u8],
    chains: &[Vec<u8>],
    collateral: Option<&[u8]>,
) -> Result<Bundle, Refusal> {
    if evidence.len() > MAX_BUNDLE {
        let detail = format!("evidence of {} bytes, at most {MAX_BUNDLE}", evidence.len());
        return Err(Refusal::new(Code::TooLarge, detail));
    }
    let mut pieces = match evidence.trim_ascii_start() {
        [b'[', rest @ ..] if rest.trim_ascii_start().first() == Some(&b'[') => {
            vec![Evidence::new(Kind::Nras, evidence.to_vec())]
        }
        [b'[', ..] => nvidia(json::read(evidence, MAX_BUNDLE, "a list of evidence")?)?,
        [b'{', ..] => machine(evidence)?,
        _ => vec![Evidence::new(binary(evidence)?, evidence.to_vec())],
    };
    give(&mut pieces, chains, collateral)?;
    for piece in &mut pieces {
        piece.kind = told(piece);
    }
    Ok(Bundle(pieces))
}

/// What bytes that are not text are.
fn binary(bytes: &[u8]) -> Result<Kind, Refusal> {
    let number = |at: usize| {
        let four = bytes.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_le_bytes(*four))
    };
    match bytes {
        // Either of the two is enough, so that a report with one other byte is refused for that byte.
        [0x11, ..] | [_, 0xe0, ..] => Ok(Kind::NvidiaGpu),
        _ if number(4) == Some(0x81) => Ok(Kind::Tdx),
        _ if bytes.len() == SNP => Ok(Kind::Snp),
        [3..=5, 0, 2, 0, ..] => Ok(Kind::Tdx),
        _ if number(0).is_some_and(|version| (2..=5).contains(&version)) => Ok(Kind::Snp),
        _ => Err(malformed(
            "neither a report of a GPU or a switch, nor an SNP report, a TDX quote, a token, or a list of these",
        )),
    }
}

fn nvidia(items: Vec<Item>) -> Result<Vec<Evidence>, Refusal> {
    if items.len() > MAX_PIECES {
        let detail = format!("evidence of {} devices, at most {MAX_PIECES}", items.len());
        return Err(Refusal::new(Code::TooLarge, detail));
    }
    let read = |item: Item| {
        let body = base64(&item.evidence, "evidence")?;
        let certificates = item.certificate.map(|text| base64(&text, "certificate")).transpose()?;
        Ok(Evidence {
            certificates: certificates.into_iter().collect(),
            arch: item.arch,
            developer_mode: item.developer_mode,
            ..Evidence::new(Kind::NvidiaGpu, body)
        })
    };
    items.into_iter().map(read).collect()
}

fn machine(bytes: &[u8]) -> Result<Vec<Evidence>, Refusal> {
    let machine: Machine = json::read(bytes, MAX_BUNDLE, "evidence of a machine")?;
    let mut pieces = nvidia(machine.nvidia)?;
    if let Some(snp) = machine.snp {
        let file = |text: &String| base64(text, "certificate");
        let certificates = snp.certificates.iter().map(file).collect::<Result<_, _>>()?;
        let report = base64(&snp.report, "report")?;
        pieces.push(Evidence { certificates, ..Evidence::new(Kind::Snp, report) });
    }
    if let Some(tdx) = machine.tdx {
        let collateral = tdx.collateral.map(|value| value.to_string().into_bytes());
        let quote = base64(&tdx.quote, "quote")?;
        pieces.push(Evidence { collateral, ..Evidence::new(Kind::Tdx, quote) });
    }
    if let Some(token) = machine.nras {
        pieces.push(Evidence::new(Kind::Nras, token.to_string().into_bytes()));
    }
    Ok(pieces)
}

/// Gives certificates and collateral to what has none. Some that belong to nothing are a mistake.
fn give(
    pieces: &mut [Evidence],
    chains: &[Vec<u8>],
    collateral: Option<&[u8]>,
) -> Result<(), Refusal> {
    let mut given = chains.is_empty();
    let wanting = |piece: &&mut Evidence| {
        !matches!(piece.kind, Kind::Tdx | Kind::Nras) && piece.certificates.is_empty()
    };
    for piece in pieces.iter_mut().filter(wanting) {
        piece.certificates = chains.to_vec();
        given = true;
    }
    if !given {
        return Err(malformed("certificates were given, and all evidence has its own"));
    }
    let Some(collateral) = collateral else { return Ok(()) };
    let mut quotes = pieces.iter_mut().filter(|piece| piece.kind == Kind::Tdx).peekable();
    if quotes.peek().is_none() {
        return Err(malformed("collateral was given, and there is no quote"));
    }
    quotes.for_each(|quote| quote.collateral = Some(collateral.to_vec()));
    Ok(())
}

/// Whether it is a switch, its certificate says.
fn told(piece: &Evidence) -> Kind {
    let switch = || {
        let files: Vec<&[u8]> = piece.certificates.iter().map(Vec::as_slice).collect();
        let chip = Chain::files(&files).and_then(|chain| Chip::of(&chain, None));
        chip.is_ok_and(|chip| chip.family.is_switch())
    };
    match piece.kind {
        Kind::NvidiaGpu if switch() => Kind::NvidiaSwitch,
        kind => kind,
    }
}
