//! Certificates: chains as they arrive, and whether they lead to a pinned root.
//!
//! ```text
//!   PEM or DER, ≤ 16 KiB ─▶ leaf, issuer, …, [root]      [root] must be the pin, byte for byte
//!                             └──── RFC 5280 path ────▶ the pin          every one of them on the path
//! ```
//! Only ECDSA on P-384 with SHA-384 is taken, which is what NVIDIA signs with. Extended key usages are not
//! looked at: certificates of devices name none.

use std::time::{Duration, SystemTime};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter};
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::refusal::{Code, Refusal};

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
    not_before: i64,
    not_after: i64,
    extensions: Vec<(String, Vec<u8>)>,
}

impl Certificate {
    /// Reads one in DER, and nothing after it.
    ///
    /// # Errors
    /// `Malformed` or `TrailingData`.
    pub fn from_der(der: &[u8]) -> Result<Self, Refusal> {
        let broken = |why| Refusal::new(Code::Malformed, format!("a certificate: {why}"));
        let (rest, read) =
            X509Certificate::from_der(der).map_err(|error| broken(error.to_string()))?;
        if !rest.is_empty() {
            let detail = format!("{} bytes after a certificate", rest.len());
            return Err(Refusal::new(Code::TrailingData, detail));
        }
        let name = |name: &X509Name<'_>| {
            name.iter_common_name().next().and_then(|name| name.as_str().ok()).map(str::to_owned)
        };
        Ok(Self {
            der: der.to_vec(),
            serial: read.raw_serial().to_vec(),
            subject: read.subject().as_raw().to_vec(),
            issuer: read.issuer().as_raw().to_vec(),
            common_name: name(read.subject()),
            public_key: read.public_key().subject_public_key.data.to_vec(),
            not_before: read.validity().not_before.timestamp(),
            not_after: read.validity().not_after.timestamp(),
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
        data_encoding::HEXUPPER.encode(&self.serial)
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
        if bytes.len() > MAX_CHAIN {
            let detail = format!("{} bytes of certificates, at most {MAX_CHAIN}", bytes.len());
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        let mut ders = Vec::new();
        if bytes.first() == Some(&0x30) {
            let mut rest = bytes;
            while !rest.is_empty() && ders.len() <= MAX_CERTS {
                let (after, _) = X509Certificate::from_der(rest).map_err(|error| {
                    Refusal::new(Code::Malformed, format!("a certificate: {error}"))
                })?;
                ders.push(rest.get(..rest.len() - after.len()).unwrap_or_default().to_vec());
                rest = after;
            }
        } else {
            for der in CertificateDer::pem_slice_iter(bytes).take(MAX_CERTS + 1) {
                let broken = |_| Refusal::new(Code::Malformed, "certificates that are not PEM");
                ders.push(der.map_err(broken)?.to_vec());
            }
        }
        Self::of(&ders)
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

    /// When all of them are valid: from, to, in seconds since 1970.
    pub fn window(&self) -> (i64, i64) {
        let from = self.0.iter().map(|cert| cert.not_before).max().unwrap_or(i64::MAX);
        let to = self.0.iter().map(|cert| cert.not_after).min().unwrap_or(i64::MIN);
        (from, to)
    }

    /// Looks for a path to one of the roots at a time, over every certificate of the chain.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify<'r>(&self, roots: &'r [Root], at: i64) -> Result<&'r Root, ChainError> {
        let untrusted = |why: String| ChainError::Untrusted(why);
        let certs = match self.0.split_last() {
            Some((last, before)) if last.self_issued() => {
                if !roots.iter().any(|root| root.der == last.der) {
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
        let failed = |error| ChainError::from(error, roots);
        let leaf = CertificateDer::from(leaf.der.as_slice());
        let leaf = EndEntityCert::try_from(&leaf).map_err(failed)?;
        let issuers: Vec<_> =
            issuers.iter().map(|cert| CertificateDer::from(cert.der.as_slice())).collect();
        let anchors =
            roots.iter().map(Root::anchor).collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(at.try_into().unwrap_or(0)));
        let algorithms = &[webpki::ring::ECDSA_P384_SHA384];
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
            .iter()
            .find(found)
            .ok_or_else(|| untrusted("its root is not one of those given".into()))
    }
}

struct AnyUsage;

impl ExtendedKeyUsageValidator for AnyUsage {
    fn validate(&self, _: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        Ok(())
    }
}

/// A root that is trusted because it was handed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    der: Vec<u8>,
    simulated: bool,
}

impl Root {
    /// What signs identities of NVIDIA's GPUs and switches.
    pub fn nvidia_device() -> Self {
        Self { der: include_bytes!("roots/nvidia-device.der").to_vec(), simulated: false }
    }

    /// What signs NVIDIA's reference values.
    pub fn nvidia_rim() -> Self {
        Self { der: include_bytes!("roots/nvidia-rim.der").to_vec(), simulated: false }
    }

    /// The root of devices in software: all that it leads to says that it is simulated.
    pub fn simulated(der: Vec<u8>) -> Self {
        Self { der, simulated: true }
    }

    /// Whether it is one of devices in software.
    pub fn is_simulated(&self) -> bool {
        self.simulated
    }

    /// All of its certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    fn anchor(&self) -> Result<TrustAnchor<'static>, webpki::Error> {
        let der = CertificateDer::from(self.der.as_slice());
        webpki::anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned())
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

impl ChainError {
    fn from(error: webpki::Error, roots: &[Root]) -> Self {
        let roots = || {
            let name =
                |root: &Root| Certificate::from_der(&root.der).map(|cert| cert.called().to_owned());
            roots.iter().filter_map(|root| name(root).ok()).collect::<Vec<_>>().join(" or ")
        };
        let seconds = |time: UnixTime| date(time.as_secs().try_into().unwrap_or(i64::MAX));
        match error {
            webpki::Error::CertExpired { time, not_after } => Self::Dates(format!(
                "a certificate ended {}, and it is {}",
                seconds(not_after),
                seconds(time)
            )),
            webpki::Error::CertNotValidYet { time, not_before } => Self::Dates(format!(
                "a certificate begins {}, and it is {}",
                seconds(not_before),
                seconds(time)
            )),
            webpki::Error::UnknownIssuer => {
                Self::Untrusted(format!("no path leads to {}", roots()))
            }
            webpki::Error::CaUsedAsEndEntity => Self::Untrusted(
                "its first certificate is an authority's: the leaf is missing".into(),
            ),
            webpki::Error::InvalidSignatureForPublicKey => {
                Self::Untrusted("a certificate is not signed by its issuer".into())
            }
            other => Self::Untrusted(format!("{other}")),
        }
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs().try_into().unwrap_or(i64::MAX),
        Err(_) => 0,
    }
}

/// Seconds since 1970 as people read them.
pub(crate) fn date(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) => time.to_string(),
        Err(_) => format!("{seconds} seconds after 1970"),
    }
}

/// The start of a digest, in hex.
pub(crate) fn short(bytes: &[u8]) -> String {
    let shown = bytes.get(..8).unwrap_or(bytes);
    let dots = if shown.len() < bytes.len() { "…" } else { "" };
    format!("{}{dots}", data_encoding::HEXLOWER.encode(shown))
}
