//! The certificate that signs reports, and its way to a pinned root.

use sev::certs::snp::{Certificate, Verifiable};
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::Oid;

use crate::certs;
use crate::policy::SnpTcb;
use crate::refusal::{Code, Refusal};

/// AMD's certificates by processor: ASK, ARK and ASVK of each. The ARK is the pin; the others are used where
/// none came with the evidence.
const ROOTS: [(&str, &str, &[u8]); 3] = [
    ("milan", "Milan", include_bytes!("../roots/amd-milan.pem")),
    ("genoa", "Genoa", include_bytes!("../roots/amd-genoa.pem")),
    ("turin", "Turin", include_bytes!("../roots/amd-turin.pem")),
];

/// What a VCEK or VLEK says (AMD 57230, section 3).
pub(super) struct Endorsement {
    /// Whether it is a cloud's and not a chip's.
    pub(super) cloud: bool,
    /// For example `Milan-B0`.
    pub(super) product: String,
    /// The chip; none under a VLEK.
    pub(super) chip: Option<[u8; 64]>,
    /// The level of firmware.
    pub(super) tcb: SnpTcb,
}

impl Endorsement {
    pub(super) fn kind(&self) -> &'static str {
        if self.cloud { "VLEK" } else { "VCEK" }
    }

    fn read(cert: &X509Certificate<'_>) -> Result<Self, Refusal> {
        let cloud = certs::name(cert) == "SEV-VLEK";
        let version = |last: u64| {
            let value = extension(cert, &[3, last])?;
            match value {
                // INTEGER of one byte, or of two where the first is zero.
                [2, 1, version] | [2, 2, 0, version] => Some(*version),
                _ => None,
            }
        };
        let malformed =
            |what: &str| Refusal::new(Code::Malformed, format!("the certificate names no {what}"));
        let need = |last, what| version(last).ok_or_else(|| malformed(what));
        let tcb = SnpTcb {
            fmc: version(9).unwrap_or(0),
            bootloader: need(1, "boot loader")?,
            tee: need(2, "security firmware")?,
            snp: need(3, "SNP firmware")?,
            microcode: need(8, "microcode")?,
        };
        // IA5String.
        let product = match extension(cert, &[2]) {
            Some([0x16, len, name @ ..]) if usize::from(*len) == name.len() => {
                String::from_utf8_lossy(name).into_owned()
            }
            _ => return Err(malformed("product")),
        };
        // The id itself, or an OCTET STRING of it; on Turin eight bytes.
        let chip = extension(cert, &[4]).map(|value| match value {
            [4, len, id @ ..] if usize::from(*len) == id.len() => id,
            id => id,
        });
        let chip = match chip.filter(|_| !cloud) {
            Some(id) if [8, 64].contains(&id.len()) => {
                let mut padded = [0; 64];
                padded.iter_mut().zip(id).for_each(|(to, from)| *to = *from);
                Some(padded)
            }
            None if cloud => None,
            _ => return Err(malformed("chip")),
        };
        Ok(Self { cloud, product, chip, tcb })
    }
}

/// An extension below AMD's arc 1.3.6.1.4.1.3704.1; nothing where it is there twice.
fn extension<'a>(cert: &X509Certificate<'a>, last: &[u64]) -> Option<&'a [u8]> {
    let arc = [&[1, 3, 6, 1, 4, 1, 3704, 1], last].concat();
    let oid = Oid::from(&arc).ok()?;
    cert.get_extension_unique(&oid).ok().flatten().map(|extension| extension.value)
}

/// Certificates from the key that signs reports to the pinned root.
pub(super) struct Chain {
    pub(super) arch: &'static str,
    pub(super) endorsement: Endorsement,
    pub(super) certificate: Certificate,
    key: Vec<u8>,
    intermediate: Vec<u8>,
    root: Vec<u8>,
    /// A root came with the evidence that is not the pinned one.
    foreign: bool,
}

impl Chain {
    /// Finds the certificates in files.
    pub(super) fn read(files: &[&[u8]]) -> Result<Self, Refusal> {
        let mut given = Vec::new();
        for file in files {
            given.extend(certs::read(file)?);
        }
        let untrusted = |detail: String| Refusal::new(Code::ChainUntrusted, detail);
        let find = |ders: &[Vec<u8>], fits: &dyn Fn(&str) -> bool| -> Option<Vec<u8>> {
            let named =
                |der: &&Vec<u8>| certs::parse(der).is_ok_and(|cert| fits(certs::name(&cert)));
            ders.iter().find(named).cloned()
        };
        let key = find(&given, &|name| name == "SEV-VCEK" || name == "SEV-VLEK")
            .ok_or_else(|| untrusted("no VCEK and no VLEK was given".into()))?;
        let cert = certs::parse(&key)?;
        let issuer = cert.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
        let issuer = issuer.unwrap_or("").to_owned();
        let endorsement = Endorsement::read(&cert)?;
        let vlek = if endorsement.cloud { "VLEK-" } else { "" };
        let (arch, suffix, pinned) = ROOTS
            .into_iter()
            .find(|(_, suffix, _)| issuer == format!("SEV-{vlek}{suffix}"))
            .ok_or_else(|| {
                untrusted(format!("`{issuer}` is no issuer of AMD's for a {}", endorsement.kind()))
            })?;
        let pinned = certs::read(pinned)?;
        let missing = || untrusted("no pinned certificate".into());
        let ark = format!("ARK-{suffix}");
        let root = find(&pinned, &|name| name == ark).ok_or_else(missing)?;
        let intermediate = find(&given, &|name| name == issuer)
            .or_else(|| find(&pinned, &|name| name == issuer))
            .ok_or_else(missing)?;
        let foreign = find(&given, &|name| name.starts_with("ARK-")).is_some_and(|ark| ark != root);
        let certificate = strict(&key)?;
        Ok(Self { arch, endorsement, certificate, key, intermediate, root, foreign })
    }

    /// The key that signs reports, its issuer, the root.
    pub(super) fn ders(&self) -> [&[u8]; 3] {
        [&self.key, &self.intermediate, &self.root]
    }

    /// Whether each certificate is signed by the next, up to the pinned root.
    pub(super) fn verify(&self) -> Result<(), Refusal> {
        let untrusted = |detail: &str| Refusal::new(Code::ChainUntrusted, detail);
        if self.foreign {
            return Err(untrusted("the ARK that came with the report is not AMD's"));
        }
        let (root, intermediate) = (strict(&self.root)?, strict(&self.intermediate)?);
        let by_root = (&root, &intermediate).verify();
        by_root
            .map_err(|_| untrusted("the pinned ARK did not sign the intermediate certificate"))?;
        let by_intermediate = (&intermediate, &self.certificate).verify();
        let kind = self.endorsement.kind();
        by_intermediate.map_err(|_| {
            untrusted(&format!("the intermediate certificate did not sign the {kind}"))
        })
    }
}

/// A certificate in DER, of which each says what no other bytes say: signatures are checked over an encoding.
fn strict(der: &[u8]) -> Result<Certificate, Refusal> {
    Certificate::from_der(der)
        .map_err(|_| Refusal::new(Code::Malformed, "a certificate is not in strict DER"))
}
