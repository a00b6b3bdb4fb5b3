//! Certificates as they come in files: PEM or DER, and what of them is looked at.

use std::time::SystemTime;

use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use crate::refusal::{Code, Refusal};
use crate::time::{date, seconds};

/// Most bytes of a file with certificates.
const MAX_FILE: usize = 64 << 10;
/// Most certificates of a file.
const MAX_CERTIFICATES: usize = 16;

/// The certificates of a file in their order: PEM, of which anything between is skipped, or one in DER.
pub(crate) fn read(file: &[u8]) -> Result<Vec<Vec<u8>>, Refusal> {
    let malformed = |detail: &str| Refusal::new(Code::Malformed, detail);
    if file.len() > MAX_FILE {
        let detail = format!("a file of certificates of {} bytes, at most {MAX_FILE}", file.len());
        return Err(Refusal::new(Code::TooLarge, detail));
    }
    if file.first() == Some(&0x30) {
        parse(file)?;
        return Ok(vec![file.to_vec()]);
    }
    let mut found = Vec::new();
    for pem in Pem::iter_from_buffer(file).take(MAX_CERTIFICATES + 1) {
        let pem = pem.map_err(|_| malformed("a file of certificates is not PEM"))?;
        if pem.label != "CERTIFICATE" {
            return Err(malformed("a PEM block that is not a certificate"));
        }
        parse(&pem.contents)?;
        found.push(pem.contents);
    }
    match found.len() {
        0 => Err(malformed("a file without certificates")),
        1..=MAX_CERTIFICATES => Ok(found),
        _ => Err(malformed("too many certificates in a file")),
    }
}

/// One certificate and nothing after it. Its two names of the signature's algorithm must be one
/// (RFC 5280, section 4.1.1.2).
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    let (rest, cert) = X509Certificate::from_der(der)
        .map_err(|_| Refusal::new(Code::Malformed, "a certificate is not X.509 in DER"))?;
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

/// Whether a certificate is within its dates.
pub(crate) fn dated(cert: &X509Certificate<'_>, now: SystemTime) -> Result<(), Refusal> {
    let now = i64::try_from(seconds(now)).unwrap_or(i64::MAX);
    let (from, to) =
        (cert.validity().not_before.timestamp(), cert.validity().not_after.timestamp());
    if (from..=to).contains(&now) {
        return Ok(());
    }
    let day = |at: i64| date(at.max(0).unsigned_abs());
    let (subject, from, to) = (name(cert), day(from), day(to));
    let detail = format!("certificate `{subject}` is good from {from} to {to}; it is {}", day(now));
    Err(Refusal::new(Code::CertExpired, detail))
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
        assert_eq!(code(&ROOTS.repeat(6)), Code::Malformed);
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
