//! A quote, read to its last byte, and the signatures from Intel's root down to its report.

use dcap_qvl::quote::{Quote, TDReport10};
use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use crate::encoding::hex;
use crate::refusal::{Code, Refusal};
use crate::x509::{Certificate, Chain};

/// Most bytes of a quote: the buffer of Linux's guest driver.
const MAX_QUOTE: usize = 16 << 10;
/// TDX, in the field that names the kind of machine.
const TDX: u32 = 0x81;
/// ECDSA P-256, in the field that names the kind of attestation key.
const P256: u16 = 2;
/// Certificates in PEM, in the field that names the kind of certification data.
const PEM: u16 = 5;
/// The report of a quoting enclave around it.
const ENCLAVE: u16 = 6;
/// Where an enclave's report has its report data.
const DATA: std::ops::Range<usize> = 320..384;

/// Reads a quote and its report. After it there may be zeros, which drivers leave in their buffers.
pub(crate) fn parse(bytes: &[u8]) -> Result<(Quote, TDReport10), Refusal> {
    let malformed = |detail: &str| Refusal::new(Code::Malformed, detail);
    if bytes.len() > MAX_QUOTE {
        let detail = format!("a quote of {} bytes, at most {MAX_QUOTE}", bytes.len());
        return Err(Refusal::new(Code::TooLarge, detail));
    }
    let quote = Quote::parse(bytes).map_err(|_| malformed("not a TDX quote of version 4 or 5"))?;
    let header = &quote.header;
    if ![4, 5].contains(&header.version) || header.tee_type != TDX {
        let (version, kind) = (header.version, header.tee_type);
        let detail =
            format!("a quote of version {version} of a machine of kind {kind:#x}, not of TDX");
        return Err(Refusal::new(Code::UnsupportedArch, detail));
    }
    if header.attestation_key_type != P256 || header.qe_vendor_id != dcap_qvl::INTEL_QE_VENDOR_ID {
        let (key, vendor) = (header.attestation_key_type, hex(&header.qe_vendor_id));
        let detail =
            format!("attestation key of kind {key} by quoting enclave {vendor}, not Intel's");
        return Err(Refusal::new(Code::UnsupportedArch, detail));
    }
    let report = *quote.report.as_td10().ok_or_else(|| malformed("a quote without a TD report"))?;
    let end = end(bytes, &quote).ok_or_else(|| malformed("bytes between the parts of a quote"))?;
    if bytes.get(end..).is_none_or(|rest| rest.iter().any(|byte| *byte != 0)) {
        return Err(Refusal::new(Code::TrailingData, "bytes after a quote"));
    }
    Ok((quote, report))
}

/// Where a quote ends, if its parts are exactly as long as the lengths before them say: the parser passes over
/// what is between.
fn end(bytes: &[u8], quote: &Quote) -> Option<usize> {
    let dcap_qvl::quote::AuthData::V4(data) = &quote.auth_data else { return None };
    let certified = &data.certification_data;
    let by_enclave = &data.qe_report_data;
    let inner = by_enclave.qe_report.len()
        + by_enclave.qe_report_signature.len()
        + 2
        + by_enclave.qe_auth_data.data.len()
        + 6
        + by_enclave.certification_data.body.data.len();
    let outer = data.ecdsa_signature.len() + data.ecdsa_attestation_key.len() + 6 + inner;
    let start = quote.signed_length() + 4;
    let announced = bytes.get(start - 4..start)?.first_chunk::<4>()?;
    let fits = certified.cert_type == ENCLAVE && u32::from_le_bytes(*announced) as usize == outer;
    fits.then_some(start + outer)
}

/// The platform's certificates in a quote, its own first: its key at one level of firmware, Intel's CA, and the
/// root, which may be left out.
pub(super) fn chain(quote: &Quote) -> Result<Chain, Refusal> {
    let malformed = |detail: String| Refusal::new(Code::Malformed, detail);
    if quote.inner_cert_type() != PEM {
        let kind = quote.inner_cert_type();
        return Err(malformed(format!("certification data of kind {kind}, wanted certificates")));
    }
    let pem = quote.inner_cert_data();
    let chain = Chain::read(pem.strip_suffix(&[0]).unwrap_or(pem))?;
    match chain.certificates().len() {
        2 | 3 => Ok(chain),
        other => Err(malformed(format!("{other} certificates in a quote, wanted two or three"))),
    }
}

/// Why a quote's report is not signed by way of this PCK.
pub(super) fn unsigned(bytes: &[u8], quote: &Quote, pck: &Certificate) -> Option<Refusal> {
    let refusal = |detail: &str| Some(Refusal::new(Code::SignatureInvalid, detail));
    let auth = quote.auth_data.clone().into_v3();
    let by = |key: &[u8], message: &[u8], signature: &[u8]| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature).is_ok()
    };
    let enclave = &auth.qe_report;
    if !by(pck.public_key(), enclave, &auth.qe_report_signature) {
        return refusal("the report of the quoting enclave is not signed by the PCK");
    }
    let named =
        digest(&SHA256, &[&auth.ecdsa_attestation_key[..], &auth.qe_auth_data.data].concat());
    if enclave.get(DATA) != Some(&[named.as_ref(), &[0; 32]].concat()[..]) {
        return refusal("the quoting enclave does not name the attestation key");
    }
    let point = [&[4][..], &auth.ecdsa_attestation_key].concat();
    match bytes
        .get(..quote.signed_length())
        .is_some_and(|signed| by(&point, signed, &auth.ecdsa_signature))
    {
        true => None,
        false => refusal("the report is not signed by the attestation key"),
    }
}
