//! Certificates: chains as they arrive, and whether they lead to a pinned root.
//!
//! ```text
//!   PEM or DER, ≤ 16 KiB ─▶ leaf, issuer, …, [root]      [root] must be the pin, byte for byte
//!                             └──── RFC 5280 path ────▶ the pin          every one of them on the path
//! ```
//! Only the algorithm of the root is taken: each of the makers signs with one. Extended key usages are not
//! looked at: certificates of devices name none.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use crate::certs;
use crate::encoding::hex;
use crate::refusal::{Code, Refusal};
use crate::roots::{Root, Roots};

/// Most bytes of a chain.
pub const MAX_CHAIN: usize = 16 << 10;
/// Most certificates of one.
pub const MAX_CERTS: usize = 10;

/// A certificate that was read. Nothing of it is to be believed before its chain was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    der: Vec<u8>,
    serial: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
    common_name: Option<String>,
    public_key: Vec<u8>,
    /// Seconds since 1970.
    not_before: u64,
    not_after: u64,
    extensions: Vec<(String, Vec<u8>)>,
}

impl Certificate {
    /// Reads one in DER, and nothing after it.
    ///
    /// # Errors
    /// `Malformed` or `TrailingData`.
    pub fn from_der(der: &[u8]) -> Result<Self, Refusal> {
        let read = certs::parse(der)?;
        let (not_before, not_after) = certs::dates(&read);
        Ok(Self {
            der: der.to_vec(),
            serial: read.raw_serial().to_vec(),
            subject: read.subject().as_raw().to_vec(),
            issuer: read.issuer().as_raw().to_vec(),
            common_name: Some(certs::name(&read))
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
            public_key: read.public_key().subject_public_key.data.to_vec(),
            not_before,
            not_after,
            extensions: read
                .extensions()
                .iter()
                .map(|found| (found.oid.to_id_string(), found.value.to_vec()))
                .collect(),
        })
    }

    /// All of it.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Its serial number, big-endian.
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// The same in hex.
    pub fn serial_hex(&self) -> String {
        hex(&self.serial).to_ascii_uppercase()
    }

    /// The common name of its subject.
    pub fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Its public key: an uncompressed point, for a key on a curve.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The contents of an extension, and whether there is just one of that kind.
    pub fn extension(&self, oid: &str) -> Option<&[u8]> {
        let mut found = self.extensions.iter().filter(|(kind, _)| kind == oid);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| value.as_slice())
    }

    fn self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    fn called(&self) -> &str {
        self.common_name().unwrap_or("a certificate without a common name")
    }
}

/// Certificates in the order in which each is issued by the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain(Vec<Certificate>);

impl Chain {
    /// Reads PEM, or certificates in DER one after the other.
    ///
    /// # Errors
    /// `TooLarge`, `Malformed`: the whole chain is refused.
    pub fn read(bytes: &[u8]) -> Result<Self, Refusal> {
        Self::files(&[bytes])
    }

    /// The same of several files, in their order.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn files(files: &[&[u8]]) -> Result<Self, Refusal> {
        let size: usize = files.iter().map(|file| file.len()).sum();
        if size > MAX_CHAIN {
            let detail = format!("{size} bytes of certificates, at most {MAX_CHAIN}");
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        let ders = files.iter().map(|file| certs::read(file)).collect::<Result<Vec<_>, _>>()?;
        Self::of(&ders.concat())
    }

    /// Takes certificates in DER.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn of(ders: &[Vec<u8>]) -> Result<Self, Refusal> {
        if ders.len() > MAX_CERTS || ders.iter().map(Vec::len).sum::<usize>() > MAX_CHAIN {
            let detail = format!("more than {MAX_CERTS} certificates or {MAX_CHAIN} bytes");
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        let certs =
            ders.iter().map(|der| Certificate::from_der(der)).collect::<Result<Vec<_>, _>>()?;
        match certs.is_empty() {
            true => Err(Refusal::new(Code::Malformed, "no certificate")),
            false => Ok(Self(certs)),
        }
    }

    /// All of them, the device's own or the signer's first.
    pub fn certificates(&self) -> &[Certificate] {
        &self.0
    }

    /// The first.
    pub fn leaf(&self) -> Option<&Certificate> {
        self.0.first()
    }

    /// Its certificates in DER and the root that they lead to, each issued by the next.
    pub(crate) fn up_to<'a>(&'a self, root: &'a Root) -> Vec<&'a [u8]> {
        let below = self.0.iter().filter(|cert| cert.der != root.der()).map(Certificate::der);
        below.chain([root.der()]).collect()
    }

    /// When all of them are valid: from, to, in seconds since 1970.
    pub fn window(&self) -> (u64, u64) {
        let from = self.0.iter().map(|cert| cert.not_before).max().unwrap_or(u64::MAX);
        let to = self.0.iter().map(|cert| cert.not_after).min().unwrap_or(0);
        (from, to)
    }

    /// Looks for a path to one of the roots at a time, over every certificate of the chain.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify<'r>(&self, roots: &'r Roots, at: u64) -> Result<&'r Root, ChainError> {
        let untrusted = |why: String| ChainError::Untrusted(why);
        let certs = match self.0.split_last() {
            Some((last, before)) if last.self_issued() => {
                if !roots.all().iter().any(|root| root.der() == last.der) {
                    let why = format!("it ends in {}, which is not the pinned root", last.called());
                    return Err(untrusted(why));
                }
                before
            }
            _ => self.0.as_slice(),
        };
        let Some((leaf, issuers)) = certs.split_first() else {
            return Err(untrusted("it holds the root alone".into()));
        };
        for (cert, issuer) in certs.iter().zip(issuers) {
            if cert.issuer != issuer.subject {
                let (cert, issuer) = (cert.called(), issuer.called());
                return Err(untrusted(format!(
                    "{cert} is not issued by {issuer}, which follows it"
                )));
            }
        }
        let failed = |error| self.failed(error, roots, at);
        let leaf = CertificateDer::from(leaf.der.as_slice());
        let leaf = EndEntityCert::try_from(&leaf).map_err(failed)?;
        let issuers: Vec<_> =
            issuers.iter().map(|cert| CertificateDer::from(cert.der.as_slice())).collect();
        let anchors =
            roots.all().iter().map(Root::anchor).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(at));
        let algorithms = &[roots.algorithm()];
        let path = leaf
            .verify_for_usage(algorithms, &anchors, &issuers, time, AnyUsage, None, None)
            .map_err(failed)?;
        if path.intermediate_certificates().count() != issuers.len() {
            return Err(untrusted("a certificate of it is not on the path to the root".into()));
        }
        let found = |root: &&Root| {
            root.anchor().is_ok_and(|anchor| {
                anchor.subject == path.anchor().subject
                    && anchor.subject_public_key_info == path.anchor().subject_public_key_info
            })
        };
        roots
            .all()
            .iter()
            .find(found)
            .ok_or_else(|| untrusted("its root is not one of those given".into()))
    }
}

impl Chain {
    fn failed(&self, error: webpki::Error, roots: &Roots, at: u64) -> ChainError {
        let untrusted = |why: &str| ChainError::Untrusted(why.to_owned());
        let named = |root: &Root| {
            Certificate::from_der(root.der()).map(|cert| cert.called().to_owned()).ok()
        };
        match error {
            webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
                let outside = |cert: &Certificate| {
                    certs::outside(cert.called(), (cert.not_before, cert.not_after), at)
                };
                let all: Vec<_> = self.0.iter().filter_map(outside).collect();
                ChainError::Dates(all.join("; "))
            }
            webpki::Error::UnknownIssuer => {
                let names: Vec<_> = roots.all().iter().filter_map(named).collect();
                untrusted(&format!("no path leads to {}", names.join(" or ")))
            }
            webpki::Error::CaUsedAsEndEntity => {
                untrusted("its first certificate is an authority's: the leaf is missing")
            }
            webpki::Error::InvalidSignatureForPublicKey => {
                untrusted("a certificate is not signed by its issuer")
            }
            other => untrusted(&other.to_string()),
        }
    }
}

struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainError {
    /// It does not lead to a pinned root.
    Untrusted(String),
    /// It is outside its dates.
    Dates(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{chain, evidence};
    use crate::time::{at, seconds};

    fn ders() -> Vec<Vec<u8>> {
        let chain = chain("gh100-545.00-PASS");
        chain.certificates().iter().map(|cert| cert.der().to_vec()).collect()
    }

    fn verify(ders: &[Vec<u8>]) -> Result<(), ChainError> {
        let now = seconds(at("2024-01-01T00:00:00Z"));
        Chain::of(ders).unwrap().verify(&Roots::nvidia_devices(), now).map(drop)
    }

    fn untrusted(ders: &[Vec<u8>]) -> String {
        match verify(ders) {
            Err(ChainError::Untrusted(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pem_and_der_are_read_alike() {
        let pem = Chain::read(&evidence("nvidia/gh100-545.00-PASS/chain.pem")).unwrap();
        assert_eq!(Chain::read(&ders().concat()).unwrap(), pem);
        assert_eq!(pem.certificates().len(), 5);
        assert_eq!(pem.leaf().unwrap().common_name(), Some("GH100 A01 GSP FMC LF"));
    }

    #[test]
    fn what_is_too_much_or_no_certificate_is_refused() {
        let code = |bytes: &[u8]| Chain::read(bytes).unwrap_err().code;
        assert_eq!(code(&vec![b'x'; MAX_CHAIN + 1]), Code::TooLarge);
        assert_eq!(code(&ders()[0].repeat(MAX_CERTS + 1)), Code::TooLarge);
        let pem = evidence("nvidia/bad-chains/hopper_cert_chain_case2.pem");
        assert_eq!(code(&pem.repeat(MAX_CERTS + 1)), Code::TooLarge);
        assert_eq!(code(b""), Code::Malformed);
        assert_eq!(code(&ders()[0][..100]), Code::Malformed);
        assert_eq!(
            code(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            Code::Malformed
        );
        let long = [&ders()[0][..], &[0]].concat();
        assert_eq!(Certificate::from_der(&long).unwrap_err().code, Code::TrailingData);
    }

    #[test]
    fn the_root_may_be_left_out_and_must_be_the_pin_where_it_is_sent() {
        let mut ders = ders();
        verify(&ders).unwrap();
        verify(&ders[..4]).unwrap();
        // Another root, of another authority's name or with one bit changed.
        ders[4] = Roots::nvidia_rims().all()[0].der().to_vec();
        assert!(untrusted(&ders).contains("not the pinned root"));
        ders[4] = Roots::nvidia_devices().all()[0].der().to_vec();
        *ders[4].last_mut().unwrap() ^= 1;
        assert!(untrusted(&ders).contains("not the pinned root"));
    }

    #[test]
    fn certificates_that_are_missing_strange_or_in_another_order_are_refused() {
        let ders = ders();
        let of = |places: &[usize]| places.iter().map(|&at| ders[at].clone()).collect::<Vec<_>>();
        assert!(untrusted(&of(&[0, 1, 3, 4])).contains("not issued by"));
        assert!(untrusted(&of(&[0, 2, 1, 3, 4])).contains("not issued by"));
        assert!(untrusted(&of(&[1, 2, 3, 4])).contains("leaf is missing"));
        assert!(untrusted(&of(&[0, 1, 2])).contains("no path leads to NVIDIA Device Identity CA"));
        assert!(untrusted(&of(&[4])).contains("root alone"));
        // Issued by one of the same name with another key.
        let other = chain("gh100-550.90.07-no-rim");
        let mut swapped = of(&[0, 1, 2, 3, 4]);
        swapped[2] = other.certificates()[2].der().to_vec();
        if swapped[2] == ders[2] {
            swapped[0] = other.certificates()[0].der().to_vec();
            assert!(untrusted(&swapped).contains("not issued by"));
        }
    }

    #[test]
    fn dates_are_looked_at() {
        let chain = Chain::of(&ders()).unwrap();
        match chain.verify(&Roots::nvidia_devices(), seconds(at("2020-01-01T00:00:00Z"))) {
            Err(ChainError::Dates(why)) => assert!(why.contains("2020-01-01T00:00:00Z"), "{why}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_certificate_that_no_path_needs_is_refused() {
        use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

        let key = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        let params = |name: &str, authority| {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, name);
            params.is_ca =
                if authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::NoCa };
            params
        };
        let root = CertifiedIssuer::self_signed(params("Root", true), key()).unwrap();
        let other = CertifiedIssuer::self_signed(params("Other", true), key()).unwrap();
        let leaf = params("Leaf", false).signed_by(&key(), &root).unwrap().der().to_vec();
        // Of the root's name, so that it is in its place, and issued by somebody else.
        let named = CertifiedIssuer::signed_by(params("Root", true), key(), &other).unwrap();
        let roots = Roots::nvidia_devices().with(Root::simulated(root.der().to_vec()));
        let now = seconds(at("2026-11-26T00:00:00Z"));
        Chain::of(std::slice::from_ref(&leaf)).unwrap().verify(&roots, now).unwrap();
        match Chain::of(&[leaf, named.der().to_vec()]).unwrap().verify(&roots, now) {
            Err(ChainError::Untrusted(why)) => assert!(why.contains("not on the path"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
