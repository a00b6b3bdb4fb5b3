//! One message from one party to another, sealed and authenticated end to end.
//!
//! ```text
//!   X25519(own secret, their key) ──HKDF-SHA-256(salt: context, info: use, from, to)──▶ MessageKey ─▶ ChaCha20-Poly1305
//! ```
//! A key is for one message: it is consumed by what it seals or opens, so that the nonce can be
//! fixed (RFC 8439 needs it to be fresh for each message of a *key*). Parties make a secret for
//! each session and forget it; whoever steals their other keys later opens nothing.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::stream::{NoEntropy, Seed};
use crate::transcript::Digest;

/// Bytes that a sealed message is longer than what is in it.
pub const OVERHEAD: usize = 16;

/// A secret of one session. Erased when dropped; neither printed nor copied.
pub struct Secret(StaticSecret);

/// Which message a key is for.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// What the session is about; both ends know it.
    pub context: &'a Digest,
    /// What the message is for, for example `privet/he/share/v1`.
    pub purpose: &'a str,
    /// Number of the sender.
    pub from: u32,
    /// Number of the receiver.
    pub to: u32,
}

/// The bytes are no message of this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairwiseError {
    /// The other party's key is one that gives everybody the same secret.
    #[error("a peer's key is of small order")]
    WeakKey,
    /// Another key, another route, or changed on the way.
    #[error("a message from a peer does not open")]
    DoesNotOpen,
}

impl Secret {
    /// A new secret.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn from_os() -> Result<Self, NoEntropy> {
        Ok(Self(StaticSecret::from(*Seed::from_os()?.reveal())))
    }

    /// What the other party computes with.
    pub fn public(&self) -> [u8; 32] {
        PublicKey::from(&self.0).to_bytes()
    }

    /// The key of one message between this party and another.
    ///
    /// # Errors
    /// When the other's key is of small order.
    pub fn key(&self, other: &[u8; 32], route: Route<'_>) -> Result<MessageKey, PairwiseError> {
        let shared = self.0.diffie_hellman(&PublicKey::from(*other));
        if !shared.was_contributory() {
            return Err(PairwiseError::WeakKey);
        }
        let mut info = Vec::with_capacity(route.purpose.len() + 16);
        info.extend((route.purpose.len() as u64).to_le_bytes());
        info.extend(route.purpose.as_bytes());
        info.extend(route.from.to_le_bytes());
        info.extend(route.to.to_le_bytes());
        let mut key = Zeroizing::new([0; 32]);
        // 32 bytes are always in HKDF's range.
        let _ = Hkdf::<Sha256>::new(Some(&route.context.0), shared.as_bytes())
            .expand(&info, &mut key[..]);
        Ok(MessageKey(key))
    }
}

/// The key of one message.
///
/// ```compile_fail,E0382
/// # use privet_crypto::{Digest, pairwise::{Route, Secret}};
/// # let (a, b) = (Secret::from_os().unwrap(), Secret::from_os().unwrap());
/// # let context = Digest([0; 32]);
/// # let route = Route { context: &context, purpose: "test", from: 0, to: 1 };
/// let key = a.key(&b.public(), route).unwrap();
/// key.seal(b"one");
/// key.seal(b"two"); // used twice
/// ```
pub struct MessageKey(Zeroizing<[u8; 32]>);

impl MessageKey {
    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }

    /// Seals the message.
    pub fn seal(self, message: &[u8]) -> Vec<u8> {
        // It fails for messages beyond 256 GiB alone.
        let payload = Payload { msg: message, aad: &[] };
        self.cipher().encrypt(&Nonce::default(), payload).unwrap_or_default()
    }

    /// Opens the message.
    ///
    /// # Errors
    /// When it is no message of this key.
    pub fn open(self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, PairwiseError> {
        let opened = self.cipher().decrypt(&Nonce::default(), sealed);
        opened.map(Zeroizing::new).map_err(|_| PairwiseError::DoesNotOpen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(context: &Digest, from: u32, to: u32) -> Route<'_> {
        Route { context, purpose: "privet/test/v1", from, to }
    }

    #[test]
    fn a_message_opens_for_its_receiver_on_its_route_alone() {
        let secrets: Vec<_> = (0..3).map(|_| Secret::from_os().unwrap()).collect();
        let keys: Vec<_> = secrets.iter().map(Secret::public).collect();
        let (here, there) = (Digest([1; 32]), Digest([2; 32]));
        let sealed = secrets[0].key(&keys[1], route(&here, 0, 1)).unwrap().seal(b"share");
        assert_eq!(sealed.len(), 5 + OVERHEAD);
        let open = |own: usize, other: usize, route: Route<'_>, sealed: &[u8]| {
            secrets[own].key(&keys[other], route).unwrap().open(sealed).ok()
        };
        assert_eq!(open(1, 0, route(&here, 0, 1), &sealed).unwrap().as_slice(), b"share");
        assert!(open(2, 0, route(&here, 0, 1), &sealed).is_none(), "another receiver");
        assert!(open(1, 0, route(&here, 1, 0), &sealed).is_none(), "the other way");
        assert!(open(1, 0, route(&there, 0, 1), &sealed).is_none(), "another session");
        let other_use = Route { purpose: "privet/test/v2", ..route(&here, 0, 1) };
        assert!(open(1, 0, other_use, &sealed).is_none(), "another use");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(open(1, 0, route(&here, 0, 1), &changed).is_none(), "{at}");
        }
        assert!(open(1, 0, route(&here, 0, 1), &[]).is_none());
    }

    /// All points of small order give everybody the secret zero (RFC 7748, section 6.1).
    #[test]
    fn a_weak_key_is_refused() {
        let secret = Secret::from_os().unwrap();
        let context = Digest([0; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        for weak in [[0; 32], one] {
            let refused = secret.key(&weak, route(&context, 0, 1)).err();
            assert_eq!(refused, Some(PairwiseError::WeakKey));
        }
    }
}
