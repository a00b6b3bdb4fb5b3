//! What evidence is held against, told apart by content.
//!
//! | first bytes | what it is |
//! |---|---|
//! | `<` | reference values |
//! | `{` with `keys` | keys of a service (RFC 7517) |
//! | `{` with `tcb_info` | Intel's collateral |
//! | `-----BEGIN X509 CRL` | revocation list |
//! | `-----BEGIN CERTIFICATE`, DER of a certificate | root of devices in software |
//! | other DER | OCSP response or revocation list |

use serde_json::Value;
use x509_parser::pem::Pem;

use super::Verifier;
use crate::certs;
use crate::json;
use crate::nras::Keys;
use crate::refusal::{Code, Refusal};
use crate::rim::References;
use crate::roots::Root;

/// Most bytes of a file.
const MAX_FILE: usize = 1 << 20;
/// Most files of one kind.
const MAX_FILES: usize = 1_024;

pub(super) fn add(verifier: &mut Verifier, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
    let named =
        |refusal: Refusal| Refusal::new(refusal.code, format!("{name}: {}", refusal.detail));
    take(verifier, name, bytes).map_err(named)
}

fn take(verifier: &mut Verifier, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() > MAX_FILE {
        let detail = format!("{} bytes, at most {MAX_FILE}", bytes.len());
        return Err(Refusal::new(Code::TooLarge, detail));
    }
    if verifier.files.len().max(verifier.collateral.len()) >= MAX_FILES {
        return Err(Refusal::new(Code::TooLarge, format!("more than {MAX_FILES} files")));
    }
    match bytes.trim_ascii_start() {
        [b'<', ..] | [0xef, 0xbb, 0xbf, b'<', ..] => {
            verifier.files.push((name.to_owned(), bytes.to_vec()));
            open(verifier);
            Ok(())
        }
        [b'{', ..] => document(verifier, bytes),
        [b'-', ..] => pem(verifier, bytes),
        _ if certs::parse(bytes).is_ok() => root(verifier, bytes.to_vec()),
        _ => verifier.lists.add(bytes).map_err(|_| {
            let detail = "neither reference values, nor a revocation list, an OCSP response, keys, collateral or a certificate";
            Refusal::new(Code::Malformed, detail)
        }),
    }
}

/// Opens all reference files under the roots that there are now.
fn open(verifier: &mut Verifier) {
    let pins: Vec<[u8; 32]> = verifier.policy.gpu.rim_pins.iter().map(|pin| pin.0).collect();
    let files = verifier.files.iter().map(|(name, file)| (name.as_str(), file.as_slice()));
    verifier.references = References::open(files, &verifier.signers, &pins);
}

fn document(verifier: &mut Verifier, bytes: &[u8]) -> Result<(), Refusal> {
    let value: Value = json::read(bytes, MAX_FILE, "a JSON document")?;
    if value.get("keys").is_some() {
        return verifier.keys.join(Keys::from_jwks(bytes)?);
    }
    if value.get("tcb_info").is_some() {
        verifier.collateral.push(bytes.to_vec());
        return Ok(());
    }
    Err(Refusal::new(Code::Malformed, "JSON that is neither keys nor collateral"))
}

fn pem(verifier: &mut Verifier, bytes: &[u8]) -> Result<(), Refusal> {
    let malformed = || Refusal::new(Code::Malformed, "not PEM of certificates or revocation lists");
    let mut found = 0;
    for pem in Pem::iter_from_buffer(bytes) {
        let pem = pem.map_err(|_| malformed())?;
        match pem.label.as_str() {
            "X509 CRL" => verifier.lists.add(&pem.contents)?,
            "CERTIFICATE" => root(verifier, pem.contents)?,
            _ => return Err(malformed()),
        }
        found += 1;
    }
    if found == 0 { Err(malformed()) } else { Ok(()) }
}

/// The one way to a root that is not pinned.
fn root(verifier: &mut Verifier, der: Vec<u8>) -> Result<(), Refusal> {
    certs::parse(&der)?;
    if !verifier.policy.allow_simulated {
        let detail =
            "a certificate is taken as the root of devices in software, and policy allows none";
        return Err(Refusal::new(Code::SimulatedNotAllowed, detail));
    }
    // Which of the two it is, what it issued shows.
    verifier.devices.add(Root::simulated(der.clone()));
    verifier.signers.add(Root::simulated(der));
    open(verifier);
    Ok(())
}
