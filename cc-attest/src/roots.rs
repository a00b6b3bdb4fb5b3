//! Roots that are trusted because they were handed in, and signatures that were found to hold under them.
//!
//! Devices of one kind share the authorities above them, and a device that is asked again has the certificates
//! that it had. A signature over the same bytes under the same key holds as it did, so that it is remembered by the
//! digest of all three; dates and paths are looked at anew each time.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm,
    TrustAnchor,
};
#[cfg(feature = "tdx")]
use webpki::ring::ECDSA_P256_SHA256;
use webpki::ring::ECDSA_P384_SHA384;

/// Most signatures that are remembered.
const REMEMBERED: usize = 4_096;

/// A root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    der: Vec<u8>,
    simulated: bool,
}

impl Root {
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

    pub(crate) fn anchor(&self) -> Result<TrustAnchor<'static>, webpki::Error> {
        let der = CertificateDer::from(self.der.as_slice());
        webpki::anchor_from_trusted_cert(&der).map(|anchor| anchor.to_owned())
    }
}

/// Roots, of which each is trusted alike.
#[derive(Debug)]
pub struct Roots {
    roots: Vec<Root>,
    known: Remembering,
}

impl Roots {
    fn pinned(der: &[u8], algorithm: &'static dyn SignatureVerificationAlgorithm) -> Self {
        let roots = vec![Root { der: der.to_vec(), simulated: false }];
        Self { roots, known: Remembering { algorithm, known: Mutex::default() } }
    }

    /// What signs identities of NVIDIA's GPUs and switches.
    pub fn nvidia_devices() -> Self {
        Self::pinned(include_bytes!("roots/nvidia-device.der"), ECDSA_P384_SHA384)
    }

    /// What signs NVIDIA's reference values.
    pub fn nvidia_rims() -> Self {
        Self::pinned(include_bytes!("roots/nvidia-rim.der"), ECDSA_P384_SHA384)
    }

    /// What signs the keys of Intel's platforms.
    #[cfg(feature = "tdx")]
    pub fn intel() -> Self {
        Self::pinned(include_bytes!("roots/intel-sgx.der"), ECDSA_P256_SHA256)
    }

    /// These and another.
    pub fn with(mut self, root: Root) -> Self {
        self.add(root);
        self
    }

    /// Takes another, unless it is one of these.
    pub fn add(&mut self, root: Root) {
        if !self.roots.iter().any(|known| known.der == root.der) {
            self.roots.push(root);
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Root] {
        &self.roots
    }

    /// The one algorithm that they and all below them sign with.
    pub(crate) fn algorithm(&self) -> &dyn SignatureVerificationAlgorithm {
        &self.known
    }
}

#[derive(Debug)]
struct Remembering {
    algorithm: &'static dyn SignatureVerificationAlgorithm,
    known: Mutex<BTreeSet<[u8; 32]>>,
}

impl Remembering {
    fn all(&self) -> MutexGuard<'_, BTreeSet<[u8; 32]>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignatureVerificationAlgorithm for Remembering {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        let mut context = Context::new(&SHA256);
        for part in [public_key, message, signature] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let mut name = [0; 32];
        name.iter_mut().zip(context.finish().as_ref()).for_each(|(out, byte)| *out = *byte);
        if self.all().contains(&name) {
            return Ok(());
        }
        self.algorithm.verify_signature(public_key, message, signature)?;
        let mut all = self.all();
        if all.len() >= REMEMBERED {
            all.clear();
        }
        all.insert(name);
        Ok(())
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, chain};
    use crate::time::seconds;
    use crate::x509::Chain;

    #[test]
    fn the_pinned_roots_are_those_of_nvidia() {
        let digest = |roots: Roots| {
            let [root] = roots.all() else { panic!("one root") };
            privet_crypto::Digest::of(root.der()).hex()
        };
        assert_eq!(
            digest(Roots::nvidia_devices()),
            "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"
        );
        assert_eq!(
            digest(Roots::nvidia_rims()),
            "12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"
        );
    }

    #[test]
    fn what_is_remembered_is_a_signature_with_its_key_and_message() {
        let chain = chain("gh100-545.00-PASS");
        let roots = Roots::nvidia_devices();
        let now = seconds(at("2023-10-01T00:00:00Z"));
        chain.verify(&roots, now).unwrap();
        assert_eq!(roots.known.all().len(), 4);
        // None of them makes another certificate pass.
        let mut ders: Vec<_> =
            chain.certificates().iter().map(|cert| cert.der().to_vec()).collect();
        let serial = ders[0].windows(4).position(|part| part == [0x50, 0x94, 0x8c, 0x72]).unwrap();
        ders[0][serial] ^= 1;
        Chain::of(&ders).unwrap().verify(&roots, now).unwrap_err();
        chain.verify(&roots, now).unwrap();
        assert_eq!(roots.known.all().len(), 4);
    }
}
