//! OCSP responses (RFC 6960, section 4.2), read to the last byte.

use ring::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest};
use x509_parser::certificate::X509Certificate;

use super::der::{BOOLEAN, Der, ENUMERATED, INTEGER, OCTETS, OID, SEQUENCE, TIME, Value, tagged};
use super::{Asked, Standing, signature};
use crate::certs;
use crate::time::{date, generalized};

const BASIC: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
/// Of a request that is not known here: a stored response answers nobody's nonce.
const NONCE: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x02];
/// Most statements of one response, and most certificates with it.
const MAX: usize = 64;

/// What a response consists of.
pub(super) struct Response<'a> {
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
    certificates: Vec<&'a [u8]>,
    responder: Value<'a>,
    produced: u64,
    statements: Vec<Statement<'a>>,
}

/// What it says of one certificate.
struct Statement<'a> {
    hash: &'static digest::Algorithm,
    issuer_name: &'a [u8],
    issuer_key: &'a [u8],
    serial: &'a [u8],
    status: Status,
    this_update: u64,
    next_update: Option<u64>,
}

#[derive(Clone, Copy)]
enum Status {
    Good,
    OnHold,
    Revoked,
    Unknown,
}

/// The response in these bytes, if it is one that succeeded.
pub(super) fn parse(der: &[u8]) -> Option<Response<'_>> {
    let mut file = Der(der);
    let mut outer = file.within(SEQUENCE)?;
    file.end()?;
    if outer.take(ENUMERATED)? != [0] {
        return None;
    }
    let mut wrapped = outer.within(tagged(0))?;
    let mut typed = wrapped.within(SEQUENCE)?;
    wrapped.end()?;
    outer.end()?;
    if typed.take(OID)? != BASIC {
        return None;
    }
    let basic = typed.take(OCTETS)?;
    typed.end()?;
    let mut file = Der(basic);
    let mut basic = file.within(SEQUENCE)?;
    file.end()?;
    let (signed, algorithm) = (basic.maybe(SEQUENCE)?, basic.maybe(SEQUENCE)?);
    let signature = basic.bits()?;
    let mut certificates = Vec::new();
    if let Some(mut wrapped) = basic.within(tagged(0)) {
        let mut list = wrapped.within(SEQUENCE)?;
        wrapped.end()?;
        while !list.0.is_empty() {
            certificates.push(list.maybe(SEQUENCE)?.whole);
            (certificates.len() <= MAX).then_some(())?;
        }
    }
    basic.end()?;
    let (responder, produced, statements) = data(Der(signed.content))?;
    let (signed, algorithm) = (signed.whole, algorithm.whole);
    Some(Response { signed, algorithm, signature, certificates, responder, produced, statements })
}

/// ResponseData.
fn data(mut data: Der<'_>) -> Option<(Value<'_>, u64, Vec<Statement<'_>>)> {
    if let Some(mut version) = data.within(tagged(0)) {
        // The default, written out.
        (version.take(INTEGER)? == [0]).then_some(())?;
        version.end()?;
    }
    let responder = data.any().filter(|value| [tagged(1), tagged(2)].contains(&value.tag))?;
    let produced = generalized(data.take(TIME)?)?;
    let mut list = data.within(SEQUENCE)?;
    let mut statements = Vec::new();
    while !list.0.is_empty() {
        statements.push(statement(list.within(SEQUENCE)?)?);
        (statements.len() <= MAX).then_some(())?;
    }
    extensions(&mut data, tagged(1))?;
    data.end()?;
    Some((responder, produced, statements))
}

/// SingleResponse.
fn statement(mut single: Der<'_>) -> Option<Statement<'_>> {
    let mut id = single.within(SEQUENCE)?;
    let hash = match id.within(SEQUENCE)?.take(OID)? {
        [0x2b, 0x0e, 0x03, 0x02, 0x1a] => &SHA1_FOR_LEGACY_USE_ONLY,
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01] => &SHA256,
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02] => &SHA384,
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03] => &SHA512,
        _ => return None,
    };
    let (issuer_name, issuer_key) = (id.take(OCTETS)?, id.take(OCTETS)?);
    let serial = id.take(INTEGER)?;
    id.end()?;
    let status = single.any()?;
    let status = match (status.tag, status.content) {
        (0x80, []) => Status::Good,
        (0x82, []) => Status::Unknown,
        (0xa1, content) => {
            let mut revoked = Der(content);
            generalized(revoked.take(TIME)?)?;
            let reason = match revoked.within(tagged(0)) {
                Some(mut reason) => Some(reason.take(ENUMERATED).filter(|_| reason.0.is_empty())?),
                None => None,
            };
            revoked.end()?;
            if reason == Some(&[6]) { Status::OnHold } else { Status::Revoked }
        }
        _ => return None,
    };
    let this_update = generalized(single.take(TIME)?)?;
    let next_update = match single.within(tagged(0)) {
        Some(mut next) => {
            let at = generalized(next.take(TIME)?)?;
            next.end()?;
            Some(at)
        }
        None => None,
    };
    extensions(&mut single, tagged(1))?;
    single.end()?;
    Some(Statement { hash, issuer_name, issuer_key, serial, status, this_update, next_update })
}

/// Extensions, if there are any: of those that must be understood, only the nonce is.
fn extensions(der: &mut Der<'_>, tag: u8) -> Option<()> {
    let Some(mut wrapped) = der.within(tag) else { return Some(()) };
    let mut list = wrapped.within(SEQUENCE)?;
    wrapped.end()?;
    while !list.0.is_empty() {
        let mut extension = list.within(SEQUENCE)?;
        let oid = extension.take(OID)?;
        let critical = extension.take(BOOLEAN).is_some_and(|value| value != [0]);
        extension.take(OCTETS)?;
        extension.end()?;
        (!critical || oid == NONCE).then_some(())?;
    }
    Some(())
}

/// Whether a responder's name or key is a certificate's.
fn is_responder(responder: &Value<'_>, cert: &X509Certificate<'_>) -> bool {
    match responder.tag {
        0xa1 => responder.content == cert.subject().as_raw(),
        _ => {
            let key = digest(&SHA1_FOR_LEGACY_USE_ONLY, &cert.public_key().subject_public_key.data);
            Der(responder.content).take(OCTETS) == Some(key.as_ref())
        }
    }
}

/// Whether a response is signed by the issuer, or by whom the issuer appointed (RFC 6960, section 4.2.2.2).
fn signed(response: &Response<'_>, asked: &Asked<'_>) -> bool {
    let by = |spki: &[u8]| {
        signature::verifies(spki, response.algorithm, response.signed, response.signature)
    };
    if is_responder(&response.responder, asked.issuer) {
        return by(asked.issuer.public_key().raw);
    }
    response.certificates.iter().any(|der| {
        certs::parse(der).is_ok_and(|cert| {
            is_responder(&response.responder, &cert)
                && appointed(der, &cert, asked)
                && by(cert.public_key().raw)
        })
    })
}

/// Whether the issuer made a certificate for a responder, and it is within its dates.
fn appointed(der: &[u8], cert: &X509Certificate<'_>, asked: &Asked<'_>) -> bool {
    let parts = || {
        let mut whole = Der(der).within(SEQUENCE)?;
        let (body, algorithm) = (whole.maybe(SEQUENCE)?, whole.maybe(SEQUENCE)?);
        Some((body.whole, algorithm.whole, whole.bits()?))
    };
    let purpose =
        cert.extended_key_usage().ok().flatten().is_some_and(|usage| usage.value.ocsp_signing);
    let now = asked.now.cast_signed();
    let dates = cert.validity().not_before.timestamp()..=cert.validity().not_after.timestamp();
    purpose
        && dates.contains(&now)
        && cert.issuer().as_raw() == asked.issuer.subject().as_raw()
        && parts().is_some_and(|(body, algorithm, bits)| {
            signature::verifies(asked.issuer.public_key().raw, algorithm, body, bits)
        })
}

/// What a response says of a certificate; nothing, where it speaks of others.
pub(super) fn look(der: &[u8], asked: &Asked<'_>) -> Result<Option<Standing>, String> {
    let Some(response) = parse(der) else { return Err("a response is malformed".into()) };
    let name = asked.issuer.subject().as_raw();
    let key = &asked.issuer.public_key().subject_public_key.data;
    let of = response.statements.iter().find(|statement| {
        statement.serial == asked.certificate.raw_serial()
            && digest(statement.hash, name).as_ref() == statement.issuer_name
            && digest(statement.hash, key).as_ref() == statement.issuer_key
    });
    let Some(statement) = of else { return Ok(None) };
    let made = statement.this_update;
    let what = format!("the OCSP response of {}", date(made));
    if !signed(&response, asked) {
        return Err(format!("{what} is signed neither by the issuer nor by whom it appointed"));
    }
    asked.fresh(&what, made, statement.next_update)?;
    asked.fresh(&what, response.produced, None)?;
    Ok(Some(match statement.status {
        Status::Good => Standing::Good(what),
        Status::OnHold => Standing::OnHold(what),
        Status::Revoked => Standing::Revoked(what),
        Status::Unknown => return Err(format!("{what} does not know the certificate")),
    }))
}
