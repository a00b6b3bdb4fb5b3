//! Signatures of responses and lists: ECDSA and RSA as their makers use them.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};

use super::der::{Der, OID, SEQUENCE};

const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const RSA_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
const RSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c];
const RSA_SHA512: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
/// SHA-384 within the parameters of RSASSA-PSS (RFC 4055): AMD's.
const SHA384: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02];

/// The curve or kind of a public key and its bits, from a SubjectPublicKeyInfo.
fn key(spki: &[u8]) -> Option<(&'static str, &[u8])> {
    let mut spki = Der(spki).within(SEQUENCE)?;
    let mut algorithm = spki.within(SEQUENCE)?;
    let kind = match algorithm.take(OID)? {
        RSA_KEY => "rsa",
        EC_KEY => match algorithm.take(OID)? {
            P256 => "p256",
            P384 => "p384",
            _ => return None,
        },
        _ => return None,
    };
    let bits = spki.bits()?;
    spki.end()?;
    Some((kind, bits))
}

/// Whether a message is signed by a key, under an AlgorithmIdentifier.
pub(super) fn verifies(spki: &[u8], algorithm: &[u8], message: &[u8], sig: &[u8]) -> bool {
    let found = || -> Option<(&'static dyn VerificationAlgorithm, &[u8])> {
        let (kind, bits) = key(spki)?;
        let mut algorithm = Der(algorithm).within(SEQUENCE)?;
        let scheme: &dyn VerificationAlgorithm = match (algorithm.take(OID)?, kind) {
            (ECDSA_SHA256, "p256") => &signature::ECDSA_P256_SHA256_ASN1,
            (ECDSA_SHA384, "p256") => &signature::ECDSA_P256_SHA384_ASN1,
            (ECDSA_SHA256, "p384") => &signature::ECDSA_P384_SHA256_ASN1,
            (ECDSA_SHA384, "p384") => &signature::ECDSA_P384_SHA384_ASN1,
            (RSA_SHA256, "rsa") => &signature::RSA_PKCS1_2048_8192_SHA256,
            (RSA_SHA384, "rsa") => &signature::RSA_PKCS1_2048_8192_SHA384,
            (RSA_SHA512, "rsa") => &signature::RSA_PKCS1_2048_8192_SHA512,
            (RSA_PSS, "rsa") => {
                let mut hash = algorithm.within(SEQUENCE)?.within(super::der::tagged(0))?;
                let hash = hash.within(SEQUENCE)?.take(OID)?;
                (hash == SHA384).then_some(&signature::RSA_PSS_2048_8192_SHA384)?
            }
            _ => return None,
        };
        Some((scheme, bits))
    };
    found().is_some_and(|(scheme, bits)| {
        UnparsedPublicKey::new(scheme, bits).verify(message, sig).is_ok()
    })
}
