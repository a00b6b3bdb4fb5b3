//! Reference files, signed.

use std::fmt::Write;

use data_encoding::{BASE64, HEXLOWER};
use ring::digest::{SHA384, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};

use super::{Maker, SimError};
use crate::rim::Measurement;
use crate::rim::c14n::{canonical, parse};

/// What a reference file is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Values {
    /// The chip.
    pub product: String,
    /// `GPU` or `SWITCH`.
    pub edition: String,
    /// Version of the driver or the firmware.
    pub version: String,
    /// All measurements.
    pub measurements: Vec<Measurement>,
}

impl Values {
    /// The document, not signed.
    pub fn document(&self) -> String {
        let Self { product, edition, version, measurements } = self;
        let mut resources = String::new();
        for Measurement { index, active, alternatives } in measurements {
            let active = if *active { "True" } else { "False" };
            let mut hashes = String::new();
            for (at, value) in alternatives.iter().enumerate() {
                let _ = write!(hashes, r#" ns2:Hash{at}="{}""#, HEXLOWER.encode(value));
            }
            let _ = write!(
                resources,
                r#"
        <ns0:Resource type="Measurement" index="{index}" active="{active}" alternatives="{}"{hashes} name="Measurement_{index}" size="48"/>"#,
                alternatives.len()
            );
        }
        format!(
            r#"<SoftwareIdentity xmlns="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:ns0="http://standards.iso.org/iso/19770/-2/2015/schema.xsd" xmlns:ns2="http://www.w3.org/2001/04/xmlenc#sha384" corpus="false" name="{product}" tagId="simulated-{product}-{version}" version="1.0" tagVersion="0">
    <ns0:Entity name="Simulated" role="softwareCreator tagCreator"/>
    <ns0:Meta xmlns:ns1="https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/" colloquialVersion="{version}" edition="{edition}" product="{product}" ns1:FirmwareManufacturerId="5703"/>
    <ns0:Payload>{resources}
    </ns0:Payload></SoftwareIdentity>
"#
        )
    }
}

const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";

impl Maker {
    /// A reference file.
    ///
    /// # Errors
    /// When there is no randomness.
    pub fn reference(&self, values: &Values) -> Result<Vec<u8>, SimError> {
        self.signed(&values.document())
    }

    /// Signs a document of the profile; its signature becomes the last thing in it.
    ///
    /// # Errors
    /// When the document is not of the profile.
    pub fn signed(&self, document: &str) -> Result<Vec<u8>, SimError> {
        let profile = |why: crate::refusal::Refusal| SimError(why.to_string());
        let octets = canonical(&parse(document.as_bytes()).map_err(profile)?, &[], None);
        let digest = BASE64.encode(digest(&SHA384, &octets).as_ref());
        let certificates: String = self
            .signer_chain
            .iter()
            .map(|der| format!("<ds:X509Certificate>{}</ds:X509Certificate>", BASE64.encode(der)))
            .collect();
        let with = |value: &str| {
            let signature = format!(
                r#"<ds:Signature xmlns:ds="{DSIG}"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2006/12/xml-c14n11"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"/><ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="{DSIG}enveloped-signature"/><ds:Transform Algorithm="http://www.w3.org/2006/12/xml-c14n11"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#sha384"/><ds:DigestValue>{digest}</ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue>{value}</ds:SignatureValue><ds:KeyInfo><ds:X509Data>{certificates}</ds:X509Data></ds:KeyInfo></ds:Signature>"#
            );
            let (before, end) = document.rsplit_once("</").unwrap_or((document, ""));
            format!("{before}{signature}</{end}")
        };
        let unsigned = parse(with("AAAA").as_bytes()).map_err(profile)?;
        let broken = || SimError("the document has no end".into());
        let all = unsigned.all();
        let mut signatures = all.iter().filter(|element| element.name.is(DSIG, "Signature"));
        let signature = *signatures.next().ok_or_else(broken)?;
        let inner = signature.elements().unwrap_or_default();
        let info = inner.first().ok_or_else(broken)?;
        let info = canonical(info, &[&unsigned, signature], None);
        let random = SystemRandom::new();
        let pkcs8 = self.signer.serialized_der();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8, &random)?;
        let value = key.sign(&random, &info)?;
        Ok(with(&BASE64.encode(value.as_ref())).into_bytes())
    }
}
