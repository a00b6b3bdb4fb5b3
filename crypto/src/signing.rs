//! Signatures over statements: Ed25519 (RFC 8032) on the digest of a [`Transcript`](crate::Transcript).
//!
//! Only digests are signed, and a transcript starts with the name of its use, so that no signature of
//! one use is good for another.

use ed25519_dalek::Signer;
use zeroize::Zeroizing;

use crate::stream::{NoEntropy, Seed};
use crate::transcript::Digest;

/// A signature.
pub type Signature = [u8; 64];

/// A key that signs. Erased when dropped; neither printed nor copied.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn from_os() -> Result<Self, NoEntropy> {
        Ok(Self::from_seed(&Seed::from_os()?))
    }

    /// The key of a seed.
    pub fn from_seed(seed: &Seed) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed.reveal()))
    }

    /// The secret, to be kept in a file of its owner's.
    pub fn secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// What others check its signatures with.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a statement.
    pub fn sign(&self, statement: &Digest) -> Signature {
        self.0.sign(&statement.0).to_bytes()
    }
}

/// A key that signatures are checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// Whether a statement was signed by this key's owner. Weak keys and signatures that several
    /// statements could have are never good (RFC 8032, section 5.1.7, strictly).
    pub fn verifies(&self, statement: &Digest, signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        ed25519_dalek::VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(&statement.0, &signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Transcript;

    #[test]
    fn a_signature_is_good_for_its_statement_and_key_alone() {
        let (key, other) = (SigningKey::from_os().unwrap(), SigningKey::from_os().unwrap());
        let statement = Transcript::new("privet/test/v1").number(1).finish();
        let signature = key.sign(&statement);
        assert!(key.public().verifies(&statement, &signature));
        assert!(!other.public().verifies(&statement, &signature));
        let another = Transcript::new("privet/test/v2").number(1).finish();
        assert!(!key.public().verifies(&another, &signature));
        for at in [0, 31, 32, 63] {
            let mut forged = signature;
            forged[at] ^= 1;
            assert!(!key.public().verifies(&statement, &forged), "{at}");
        }
        // The neutral element, with which a zero signature would be good for everything.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let mut zero = [0; 64];
        zero[0] = 1;
        assert!(!PublicKey(neutral).verifies(&statement, &zero));
        assert!(!PublicKey([255; 32]).verifies(&statement, &signature));
    }

    /// RFC 8032, section 7.1, TEST 1: the public key.
    #[test]
    fn the_public_key_is_that_of_the_rfc() {
        let secret = [
            0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec,
            0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03,
            0x1c, 0xae, 0x7f, 0x60,
        ];
        let key = SigningKey::from_seed(&Seed::from_bytes(secret));
        assert_eq!(
            Digest(key.public().0).hex(),
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
        );
        assert_eq!(*key.secret(), secret);
    }
}
