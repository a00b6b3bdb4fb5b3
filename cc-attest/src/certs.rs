//! Certificates as they come in files: PEM or DER, and what of them is looked at.

use std::time::SystemTime;

use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use crate::refusal::{Code, Refusal};
use crate::time::{date, seconds};

/// Most bytes of a file with certificates.
const MAX_FILE: usize = 64 << 10;
/// Most certificates of a file.
const MAX_CERTIFICATES: usize = 16;
/// The first byte of a certificate in DER.
const SEQUENCE: u8 = 0x30;

/// The certificates of a file in their order: PEM, of which anything between is skipped, or DER, one after the
/// other.
pub(crate) fn read(file: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let malformed = |detail: &str| Refusal::new(Code::Malformed, detail);
    let too_large = |detail: String| Refusal::new(Code::TooLarge, detail);
    if file.len() > MAX_FILE {
        return Err(too_large(format!(
            "a file of certificates of {} bytes, at most {MAX_FILE}",
            file.len()
        )));
    }
    let mut found = Vec::new();
    let mut rest = file;
    while rest.first() == Some(&SEQUENCE) && found.len() <= MAX_CERTIFICATES {
        let (after, _) = X509Certificate::from_der(rest).map_err(|_| not_x509())?;
        let der = rest.get(..rest.len() - after.len()).unwrap_or_default();
        parse(der)?;
        found.push(der.to_vec());
        rest = after;
    }
    if !found.is_empty() && found.len() <= MAX_CERTIFICATES && !rest.is_empty() {
        return Err(Refusal::new(Code::TrailingData, "bytes after a certificate"));
    }
    if found.is_empty() {
        found = from_pem(file)?;
    }
    match found.len() {
        0 => Err(malformed("a file without certificates")),
        1..=MAX_CERTIFICATES => Ok(found),
        _ => Err(too_large(format!("more than {MAX_CERTIFICATES} certificates in a file"))),
    }
}

fn from_pem(file: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let malformed = |detail: &str| Refusal::new(Code::Malformed, detail);
    let mut found = Vec::new();
    for pem in Pem::iter_from_buffer(file).take(MAX_CERTIFICATES + 1) {
        let pem = pem.map_err(|_| malformed("a file of certificates is not PEM"))?;
        if pem.label != "CERTIFICATE" {
            return Err(malformed("a PEM block that is not a certificate"));
        }
        parse(&pem.contents)?;
        found.push(pem.contents);
    }
    Ok(found)
}

fn not_x509() -> Refusal {
    Refusal::new(Code::Malformed, "a certificate is not X.509 in DER")
}

/// One certificate and nothing after it. Its two names of the signature's algorithm must be one
/// (RFC 5280, section 4.1.1.2).
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    let (rest, cert) = X509Certificate::from_der(der).map_err(|_| not_x509())?;
    if !rest.is_empty() {
        return Err(Refusal::new(Code::TrailingData, "bytes after a certificate"));
    }
    if cert.signature_algorithm != cert.tbs_certificate.signature {
        return Err(Refusal::new(Code::Malformed, "a certificate names two signature algorithms"));
    }
    if cert.signature_value.unused_bits != 0 {
        return Err(Refusal::new(
            Code::Malformed,
            "a certificate's signature is not of whole bytes",
        ));
    }
    Ok(cert)
}

/// The common name of a certificate's subject, or nothing.
pub(crate) fn name<'a>(cert: &'a X509Certificate<'_>) -> &'a str {
    cert.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or("")
}

/// From when to when a certificate is good, in seconds since 1970.
pub(crate) fn dates(cert: &X509Certificate<'_>) -> (u64, u64) {
    let at = |time: ASN1Time| time.timestamp().max(0).unsigned_abs();
    (at(cert.validity().not_before), at(cert.validity().not_after))
}

/// Why a certificate is not good at a time, where it is not.
pub(crate) fn outside(name: &str, (from, to): (u64, u64), now: u64) -> Option<String> {
    let told = || {
        let (from, to, now) = (date(from), date(to), date(now));
        format!("certificate `{name}` is good from {from} to {to}; it is {now}")
    };
    (!(from..=to).contains(&now)).then(told)
}

/// Whether a certificate is within its dates.
pub(crate) fn dated(cert: &X509Certificate<'_>, now: SystemTime) -> Result<(), Refusal> {
    match outside(name(cert), dates(cert), seconds(now)) {
        Some(detail) => Err(Refusal::new(Code::CertExpired, detail)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::at;

    const ROOTS: &[u8] = include_bytes!("roots/amd-milan.pem");

    #[test]
    fn pem_and_der_are_read() {
        let all = read(ROOTS).unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(read(&all[1]).unwrap(), [all[1].clone()]);
        assert_eq!(read(&all.concat()).unwrap(), all);
        assert_eq!(name(&parse(&all[1]).unwrap()), "ARK-Milan");
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let code = |file: &[u8]| read(file).unwrap_err().code;
        let der = read(ROOTS).unwrap().remove(0);
        assert_eq!(code(b""), Code::Malformed);
        assert_eq!(code(b"-----BEGIN CERTIFICATE-----\n"), Code::Malformed);
        assert_eq!(code(&der[..der.len() - 1]), Code::Malformed);
        assert_eq!(code(&[&der[..], &[0]].concat()), Code::TrailingData);
        assert_eq!(code(&vec![0x30; MAX_FILE + 1]), Code::TooLarge);
        let key = String::from_utf8_lossy(ROOTS).replace("CERTIFICATE", "PUBLIC KEY");
        assert_eq!(code(key.as_bytes()), Code::Malformed);
        assert_eq!(code(&ROOTS.repeat(6)), Code::TooLarge);
        assert_eq!(code(&der.repeat(17)), Code::TooLarge);
    }

    #[test]
    fn dates_are_looked_at() {
        let der = read(ROOTS).unwrap().remove(1);
        let root = parse(&der).unwrap();
        assert_eq!(dated(&root, at("2024-01-01T00:00:00Z")), Ok(()));
        for outside in ["2019-01-01T00:00:00Z", "2060-01-01T00:00:00Z"] {
            assert_eq!(dated(&root, at(outside)).unwrap_err().code, Code::CertExpired);
        }
    }

    #[test]
    fn two_names_of_the_algorithm_must_be_one() {
        let mut der = read(ROOTS).unwrap().remove(0);
        // The salt length of the outer parameters of RSASSA-PSS, 48, near the end.
        let at = der.len() - 512 - 4 - 1 - 1;
        let place = (0..=at).rev().find(|&i| der[i..].starts_with(&[2, 1, 0x30])).unwrap();
        der[place + 2] ^= 1;
        assert_eq!(parse(&der).unwrap_err().code, Code::Malformed);
    }

    #[test]
    fn signatures_are_of_whole_bytes() {
        let mut der = read(ROOTS).unwrap().remove(0);
        let at = der.len() - 513;
        der[at] = 1;
        assert_eq!(parse(&der).unwrap_err().code, Code::Malformed);
    }
}
