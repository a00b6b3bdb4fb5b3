//! The signature of a reference file: one profile of XML Signature (W3C), that of NVIDIA's files.
//!
//! ```text
//!   SoftwareIdentity
//!    ├─ Entity, Meta, Payload … ── canonical, SHA-384 ─▶ DigestValue ┐
//!    └─ Signature                                                   │ in
//!        ├─ SignedInfo ──────────── canonical ─▶ ECDSA P-384 ◀──────┘
//!        ├─ SignatureValue          r, s
//!        └─ KeyInfo                 certificates, the signer's first
//! ```
//! The transform leaves the whole of `Signature` out of the digest: whatever else stood in it would be in the file
//! and signed by nobody. So nothing else may, and values are handed on as the octets that were hashed, never as
//! the file.

use data_encoding::BASE64;
use ring::digest::{SHA384, digest};
use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};

use super::c14n::{Element, canonical, parse};
use crate::refusal::{Code, Refusal};
use crate::x509::Chain;

const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const C14N11: &str = "http://www.w3.org/2006/12/xml-c14n11";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
const ECDSA_SHA384: &str = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384";
const SHA_384: &str = "http://www.w3.org/2001/04/xmldsig-more#sha384";

/// A document whose signature holds under the first certificate of a chain, which was not verified here.
pub(crate) struct Signed {
    /// What was hashed.
    pub(crate) octets: Vec<u8>,
    pub(crate) chain: Chain,
}

fn foreign(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::RimForeignContent, detail)
}

fn broken(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::RimSignature, detail)
}

/// Takes the elements of an element that has just these, and no attribute but the one named with its value.
fn only<'e, const N: usize>(
    element: &'e Element,
    wanted: [&str; N],
    attribute: Option<(&str, &str)>,
) -> Result<[&'e Element; N], Refusal> {
    let name = &element.name.local;
    let attributes: Vec<_> = element
        .attributes
        .iter()
        .map(|(name, value)| (name.space.as_str(), name.local.as_str(), value.as_str()))
        .collect();
    let expected: Vec<_> = attribute.iter().map(|(name, value)| ("", *name, *value)).collect();
    if attributes != expected {
        let wanted =
            attribute.map_or_else(|| "none".into(), |(name, value)| format!("{name}={value:?}"));
        return Err(foreign(format!(
            "attributes of {name} are not those of the profile: {wanted}"
        )));
    }
    let text = || foreign(format!("text in {name}"));
    let children = element.elements().ok_or_else(text)?;
    let fits = children.len() == N
        && children.iter().zip(wanted).all(|(child, wanted)| child.name.is(DSIG, wanted));
    let found =
        || children.iter().map(|child| child.name.local.as_str()).collect::<Vec<_>>().join(", ");
    let foreign = || foreign(format!("{name} holds [{}], wanted [{}]", found(), wanted.join(", ")));
    if !fits {
        return Err(foreign());
    }
    children.clone().try_into().map_err(|_| foreign())
}

fn leaf(element: &Element, algorithm: &str) -> Result<(), Refusal> {
    only(element, [], Some(("Algorithm", algorithm))).map(|[]| ())
}

/// The bytes of an element of base64, which may have line breaks in it.
fn base64(element: &Element) -> Result<Vec<u8>, Refusal> {
    let name = &element.name.local;
    let text = element.text().filter(|_| element.attributes.is_empty());
    let text = text.ok_or_else(|| foreign(format!("{name} is not text alone")))?;
    let packed: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    BASE64.decode(&packed).map_err(|_| foreign(format!("{name} is not base64")))
}

/// Reads a file and holds it against its own digest and signature.
pub(crate) fn open(file: &[u8]) -> Result<Signed, Refusal> {
    let root = parse(file)?;
    let own = root.elements().unwrap_or_default();
    let signature = own.into_iter().find(|element| element.name.is(DSIG, "Signature"));
    // Elsewhere, elements of signatures have no business: not as a second signature, nor as a part of one.
    let within = signature.map(Element::all).unwrap_or_default();
    let outside = |element: &&Element| {
        element.name.space == DSIG && !within.iter().any(|own| std::ptr::eq(*own, *element))
    };
    if root.all().iter().any(outside) {
        return Err(foreign("an element of signatures outside of the document's signature"));
    }
    let signature = signature.ok_or_else(|| broken("the file is not signed"))?;
    let [info, value, keys] = only(signature, ["SignedInfo", "SignatureValue", "KeyInfo"], None)?;
    let chain = certificates(keys)?;

    let octets = canonical(&root, &[], Some(signature));
    let info = canonical(info, &[&root, signature], None);
    let wanted = signed_info(&info)?;
    let found = digest(&SHA384, &octets);
    if found.as_ref() != wanted {
        return Err(broken(format!(
            "the file has digest {}, it was signed for {}",
            crate::encoding::short(found.as_ref()),
            crate::encoding::short(&wanted)
        )));
    }
    let signer = chain.leaf().ok_or_else(|| broken("no signer"))?;
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, signer.public_key())
        .verify(&info, &base64(value)?)
        .map_err(|_| broken("the signature is not one of the first certificate's key"))?;
    Ok(Signed { octets, chain })
}

/// The digest in the octets that were signed, all of whose algorithms are those of the profile.
fn signed_info(octets: &[u8]) -> Result<Vec<u8>, Refusal> {
    let info = parse(octets)?;
    let [form, method, reference] =
        only(&info, ["CanonicalizationMethod", "SignatureMethod", "Reference"], None)?;
    leaf(form, C14N11)?;
    leaf(method, ECDSA_SHA384)?;
    let wanted = ["Transforms", "DigestMethod", "DigestValue"];
    let [transforms, digest, value] = only(reference, wanted, Some(("URI", "")))?;
    let [enveloped, form] = only(transforms, ["Transform"; 2], None)?;
    leaf(enveloped, ENVELOPED)?;
    leaf(form, C14N11)?;
    leaf(digest, SHA_384)?;
    base64(value)
}

fn certificates(keys: &Element) -> Result<Chain, Refusal> {
    let [data] = only(keys, ["X509Data"], None)?;
    let none = || foreign("X509Data holds something else than certificates");
    let certificates = data.elements().filter(|_| data.attributes.is_empty()).ok_or_else(none)?;
    if !certificates.iter().all(|cert| cert.name.is(DSIG, "X509Certificate")) {
        return Err(none());
    }
    let ders = certificates.iter().map(|cert| base64(cert)).collect::<Result<Vec<_>, _>>()?;
    Chain::of(&ders)
}
