//! Certificate revocation lists (RFC 5280, section 5).

use x509_parser::extensions::{IssuingDistributionPoint, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::ReasonCode;

use super::der::{Der, SEQUENCE};
use super::{Asked, Standing, signature};
use crate::certs;
use crate::time::date;

/// One list and nothing after it.
pub(super) fn parse(der: &[u8]) -> Option<CertificateRevocationList<'_>> {
    let (rest, list) = CertificateRevocationList::from_der(der).ok()?;
    rest.is_empty().then_some(list)
}

/// Whether a list speaks of all certificates of its issuer, and nothing critical in it is unknown.
fn plain(list: &CertificateRevocationList<'_>) -> bool {
    let partial = |point: &IssuingDistributionPoint<'_>| {
        point.indirect_crl
            || point.only_contains_attribute_certs
            || point.only_contains_user_certs
            || point.only_contains_ca_certs
            || point.only_some_reasons.is_some()
    };
    let entries = list.iter_revoked_certificates();
    list.extensions().iter().all(|extension| match extension.parsed_extension() {
        ParsedExtension::IssuingDistributionPoint(point) => !partial(point),
        _ => !extension.critical,
    }) && entries.flat_map(|entry| entry.extensions()).all(|extension| !extension.critical)
}

/// What a list says of a certificate; nothing, where it is another issuer's.
pub(super) fn look(der: &[u8], asked: &Asked<'_>) -> Result<Option<Standing>, String> {
    let Some(list) = parse(der) else { return Err("a list is malformed".into()) };
    if list.issuer().as_raw() != asked.issuer.subject().as_raw() {
        return Ok(None);
    }
    let made = list.last_update().timestamp().max(0).unsigned_abs();
    let until = list.next_update().map(|until| until.timestamp().max(0).unsigned_abs());
    let what = format!("the list of `{}` of {}", certs::name(asked.issuer), date(made));
    // SEQUENCE { what is signed, algorithm, bits }
    let parts = || {
        let mut whole = Der(der).within(SEQUENCE)?;
        let (signed, algorithm) = (whole.maybe(SEQUENCE)?, whole.maybe(SEQUENCE)?);
        let bits = whole.bits()?;
        whole.end()?;
        Some((signed.whole, algorithm.whole, bits))
    };
    let may_sign =
        asked.issuer.key_usage().ok().flatten().is_none_or(|usage| usage.value.crl_sign());
    let key = asked.issuer.public_key().raw;
    let same = list.signature_algorithm == list.tbs_cert_list.signature;
    let signed = parts()
        .is_some_and(|(signed, algorithm, bits)| signature::verifies(key, algorithm, signed, bits));
    if !signed || !same || !may_sign {
        return Err(format!("{what} is not signed by it"));
    }
    asked.fresh(&what, made, until)?;
    if until.is_none() {
        return Err(format!("{what} does not say until when it is good"));
    }
    if !plain(&list) {
        return Err(format!(
            "{what} is partial, or says something critical that is not known here"
        ));
    }
    let serial = asked.certificate.raw_serial();
    let entry = list.iter_revoked_certificates().find(|entry| entry.raw_serial() == serial);
    Ok(Some(match entry.map(|entry| entry.reason_code().map(|(_, reason)| reason)) {
        None => Standing::Good(what),
        Some(Some(ReasonCode::CertificateHold)) => Standing::OnHold(what),
        // On a full list it takes an entry off (RFC 5280, section 5.3.1 allows it in deltas alone).
        Some(_) => Standing::Revoked(what),
    }))
}
