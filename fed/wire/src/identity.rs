//! Who is who: certificates of a federation.
//!
//! A federation has one CA. It certifies one server, by the fixed name [`SERVER_NAME`], and every
//! site by its own name. A certificate is good for one role only (extended key usage), so a site
//! cannot pose as the server.

use std::io::Write;
use std::path::Path;

use privet_crypto::Seed;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};

/// The name in a server's certificate.
pub const SERVER_NAME: &str = "privet-server";

/// Why an identity could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file is missing or is no key or certificate.
    #[error("{0} cannot be read as a key or certificate")]
    Unreadable(String),
    /// A certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// What a certificate is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// To be a federation's server.
    Server,
    /// To be a site.
    Site,
}

/// A key and its certificate, as PEM text for a kit.
pub struct Credentials {
    /// The private key, PKCS #8.
    pub key: String,
    /// The certificate.
    pub certificate: String,
    /// The CA's certificate.
    pub ca: String,
}

impl Credentials {
    /// What a kit holds already; `None` where something is missing.
    pub fn of_kit(kit: &Path) -> Option<Self> {
        let read = |name: &str| std::fs::read_to_string(kit.join(name)).ok();
        Some(Self { key: read("key.pem")?, certificate: read("cert.pem")?, ca: read("ca.pem")? })
    }
}

/// A CA that certifies a federation's server and sites.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// A CA with a fresh key, which is never written anywhere.
    ///
    /// # Errors
    /// When no key could be made.
    pub fn throw_away() -> Result<Self, IdentityError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "privet federation");
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// Certifies a fresh key. A server's name is [`SERVER_NAME`] whatever is asked.
    ///
    /// # Errors
    /// When no key or certificate could be made.
    pub fn certify(&self, role: Role, name: &str) -> Result<Credentials, IdentityError> {
        let (name, usage) = match role {
            Role::Server => (SERVER_NAME, ExtendedKeyUsagePurpose::ServerAuth),
            Role::Site => (name, ExtendedKeyUsagePurpose::ClientAuth),
        };
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        Ok(Credentials {
            key: key.serialize_pem(),
            certificate: certificate.pem(),
            ca: self.0.pem(),
        })
    }
}

/// A key with its certificate and the CA to check peers against.
pub struct Identity {
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) ca: CertificateDer<'static>,
    /// Seed of the key that signs protocol messages.
    pub(crate) protocol: Seed,
}

impl Identity {
    /// Reads `key.pem`, `cert.pem`, `ca.pem` and `protocol.key` of a kit; the last is made where it is
    /// missing.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn load(kit: &Path) -> Result<Self, IdentityError> {
        let unreadable =
            |name: &str| IdentityError::Unreadable(kit.join(name).display().to_string());
        Ok(Self {
            key: PrivateKeyDer::from_pem_file(kit.join("key.pem"))
                .map_err(|_| unreadable("key.pem"))?,
            certificate: CertificateDer::from_pem_file(kit.join("cert.pem"))
                .map_err(|_| unreadable("cert.pem"))?,
            ca: CertificateDer::from_pem_file(kit.join("ca.pem"))
                .map_err(|_| unreadable("ca.pem"))?,
            protocol: protocol_key(kit)?,
        })
    }
}

impl Identity {
    /// SHA-256 of the public key (SPKI) of its certificate, as peers see it.
    ///
    /// # Errors
    /// When the certificate is none.
    pub fn key_digest(&self) -> Result<[u8; 32], IdentityError> {
        let certificate = x509_parser::parse_x509_certificate(&self.certificate);
        let (_, certificate) =
            certificate.map_err(|_| IdentityError::Unreadable("cert.pem".to_owned()))?;
        Ok(Sha256::digest(certificate.public_key().raw).into())
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone_key(),
            certificate: self.certificate.clone(),
            ca: self.ca.clone(),
            protocol: Seed::from_bytes(*self.protocol.reveal()),
        }
    }
}

/// Reads the protocol key of a kit; makes it where there is none.
fn protocol_key(kit: &Path) -> Result<Seed, IdentityError> {
    let path = kit.join("protocol.key");
    let unreadable = || IdentityError::Unreadable(path.display().to_string());
    if let Ok(bytes) = std::fs::read(&path) {
        return bytes.try_into().map(Seed::from_bytes).map_err(|_| unreadable());
    }
    let seed = Seed::from_os().map_err(|_| unreadable())?;
    let write = || -> std::io::Result<()> {
        // A crash leaves the whole key or none: half of one would be unreadable for good.
        let new = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&new)?;
        file.write_all(seed.reveal())?;
        file.sync_all()?;
        std::fs::rename(new, &path)
    };
    write().map_err(|_| unreadable())?;
    Ok(seed)
}
