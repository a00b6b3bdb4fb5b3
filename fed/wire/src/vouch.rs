//! Credentials: what a site shows its peers through a server that they do not trust.
//!
//! ```text
//!   credential   certificate · Ed25519 key for protocol messages · signature of the certificate's key over it
//! ```
//! The certificate is the federation's, so the CA says the name; the certified key vouches for the
//! protocol key and signs nothing else of a protocol, so that TLS and protocol messages never share a
//! signing key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use privet_core::seal::{Certified, Vouching};
use privet_core::{Code, Reason};
use privet_crypto::{Reader, SigningKey, Transcript, Writer};
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};
use webpki::EndEntityCert;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::Identity;

const MAX_CERTIFICATE: usize = 4 << 10;
const MAX_SIGNATURE: usize = 512;
/// Longest name of a site.
const MAX_NAME: usize = 256;

/// How a certified key may sign, and how that is checked.
const SCHEMES: [(SignatureScheme, &dyn SignatureVerificationAlgorithm); 2] = [
    (SignatureScheme::ECDSA_NISTP256_SHA256, webpki::ring::ECDSA_P256_SHA256),
    (SignatureScheme::ED25519, webpki::ring::ED25519),
];

/// What a certified key signs to vouch for a protocol key.
fn statement(signing: &[u8; 32]) -> [u8; 32] {
    Transcript::new("privet/vouch/v1").bytes(signing).finish().0
}

impl Identity {
    /// The key that signs protocol messages.
    pub fn signing(&self) -> SigningKey {
        SigningKey::from_seed(&self.protocol)
    }

    /// What peers are shown.
    ///
    /// # Errors
    /// When the certified key cannot sign.
    pub fn credential(&self) -> Result<Vec<u8>, Reason> {
        let failed = || Reason::new(Code::NotAdmitted, "the certified key cannot vouch");
        let key =
            rustls::crypto::ring::sign::any_supported_type(&self.key).map_err(|_| failed())?;
        let signer = key.choose_scheme(&SCHEMES.map(|(scheme, _)| scheme)).ok_or_else(failed)?;
        let signing = self.signing().public().0;
        let signature = signer.sign(&statement(&signing)).map_err(|_| failed())?;
        let mut writer = Writer::default();
        writer.bytes(&self.certificate).raw(&signing).bytes(&signature);
        Ok(writer.finish())
    }

    /// Tells who the credentials of this federation are of.
    ///
    /// # Errors
    /// When the CA's certificate is none.
    pub fn vouching(&self) -> Result<Arc<dyn Vouching>, Reason> {
        let failed = |error: String| Reason::new(Code::NotAdmitted, error);
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone()).map_err(|error| failed(error.to_string()))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = verifier.build().map_err(|error| failed(error.to_string()))?;
        Ok(Arc::new(Authority { verifier, known: Mutex::default() }))
    }
}

struct Authority {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Credentials that were found good, by their digests, and until when their certificates are: the same
    /// few are shown in every round.
    known: Mutex<BTreeMap<[u8; 32], (Certified, i64)>>,
}

/// Most credentials that are remembered.
const MAX_KNOWN: usize = 1024;

impl Vouching for Authority {
    fn certified(&self, credential: &[u8]) -> Result<Certified, Reason> {
        let digest: [u8; 32] = Sha256::digest(credential).into();
        let now = UnixTime::now().as_secs().cast_signed();
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((certified, until)) = known().get(&digest)
            && now < *until
        {
            return Ok(certified.clone());
        }
        let (certified, until) = self.look_at(credential)?;
        let mut known = known();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(digest, (certified.clone(), until));
        Ok(certified)
    }
}

impl Authority {
    /// Who a credential is of, and until when.
    fn look_at(&self, credential: &[u8]) -> Result<(Certified, i64), Reason> {
        let refuse = |detail: &str| Reason::new(Code::NotAdmitted, detail.to_owned());
        let mut reader = Reader::new(credential);
        let read = || {
            let certificate = reader.bytes(MAX_CERTIFICATE, "certificate")?;
            let signing = reader.digest("signing key")?;
            let signature = reader.bytes(MAX_SIGNATURE, "signature")?;
            reader.end()?;
            Ok((certificate, signing, signature))
        };
        let (certificate, signing, signature) =
            read().map_err(|error: privet_crypto::DecodeError| {
                Reason::new(Code::Malformed, error.to_string())
            })?;
        let der = CertificateDer::from(certificate);
        let verified = self.verifier.verify_client_cert(&der, &[], UnixTime::now());
        verified.map_err(|_| refuse("a credential is not of this federation's CA"))?;
        let leaf = EndEntityCert::try_from(&der).map_err(|_| refuse("no certificate"))?;
        let good = SCHEMES.iter().any(|(_, algorithm)| {
            leaf.verify_signature(*algorithm, &statement(&signing), signature).is_ok()
        });
        if !good {
            return Err(refuse("a certified key does not vouch for its protocol key"));
        }
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| refuse("no certificate"))?;
        let name = parsed.subject().iter_common_name().next();
        let name = name.and_then(|name| name.as_str().ok());
        let name = name.filter(|name| name.len() <= MAX_NAME);
        let name = name.ok_or_else(|| refuse("a certificate without a fitting name"))?.to_owned();
        let key = Sha256::digest(parsed.public_key().raw).into();
        let until = parsed.validity().not_after.timestamp();
        Ok((Certified { name, key, signing }, until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Credentials, Role};
    use crate::kit::Kit;

    fn identity(credentials: &Credentials) -> Identity {
        let folder = tempfile::tempdir().unwrap();
        let kit = Kit {
            schema: 1,
            role: Role::Site,
            name: "north".into(),
            server: "127.0.0.1:0".into(),
            policy: None,
            job: None,
            sites: Vec::new(),
            rounds: None,
            submitter: None,
            attest: crate::KitAttest::default(),
        };
        kit.write(folder.path(), credentials).unwrap();
        let identity = Identity::load(folder.path()).unwrap();
        // The protocol key is the kit's: another start signs with the same.
        let again = Identity::load(folder.path()).unwrap();
        assert_eq!(identity.signing().public(), again.signing().public());
        identity
    }

    #[test]
    fn a_credential_is_of_its_federation_and_whole() {
        let ours = crate::Authority::throw_away().unwrap();
        let theirs = crate::Authority::throw_away().unwrap();
        let north = identity(&ours.certify(Role::Site, "north").unwrap());
        let server = identity(&ours.certify(Role::Server, "server").unwrap());
        let stranger = identity(&theirs.certify(Role::Site, "north").unwrap());
        let vouching = north.vouching().unwrap();
        let credential = north.credential().unwrap();
        let certified = vouching.certified(&credential).unwrap();
        assert_eq!(certified.name, "north");
        assert_eq!(certified.signing, north.signing().public().0);
        assert!(vouching.certified(&stranger.credential().unwrap()).is_err());
        // A server is no site.
        assert!(vouching.certified(&server.credential().unwrap()).is_err());
        let key_at = credential.len() - 4 - 64;
        for at in [0, 4, 40, key_at - 20, credential.len() - 1] {
            let mut changed = credential.clone();
            changed[at] ^= 1;
            assert!(vouching.certified(&changed).is_err(), "{at}");
        }
        for len in 0..credential.len() {
            assert!(vouching.certified(&credential[..len]).is_err(), "{len}");
        }
        // The certificate and signature of one with the protocol key of another.
        let other = identity(&ours.certify(Role::Site, "south").unwrap());
        let key = credential.windows(32).position(|w| w == north.signing().public().0).unwrap();
        let mut spliced = credential.clone();
        spliced[key..key + 32].copy_from_slice(&other.signing().public().0);
        assert_eq!(vouching.certified(&spliced).unwrap_err().code, Code::NotAdmitted);
        // What was found good once is still told apart from what was not.
        assert!(vouching.certified(&credential).is_ok());
        assert!(vouching.certified(&other.credential().unwrap()).unwrap().name == "south");
    }
}
