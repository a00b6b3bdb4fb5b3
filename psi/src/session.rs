//! What two sites agree on before anything secret: one session, from which every key and hash of theirs follows.

use privet_core::{Code, Reason};
use privet_crypto::{Digest, NoEntropy, Seed, Transcript, Words};

/// The running digest of what both sides have said. Both take the same messages in the same order.
#[derive(Clone)]
pub(crate) struct Session {
    digest: Digest,
}

impl Session {
    /// Starts from what the session is about: who, which job, which sets, which parameters.
    pub(crate) fn new(about: &Digest) -> Self {
        let digest = Transcript::new("privet/psi/session/v1").bytes(&about.0).finish();
        Self { digest }
    }

    /// Takes a message.
    pub(crate) fn absorb(&mut self, message: &[u8]) {
        self.digest =
            Transcript::new("privet/psi/flight/v1").bytes(&self.digest.0).bytes(message).finish();
    }

    /// 256 bits for one use.
    pub(crate) fn derive(&self, purpose: &str, number: u64) -> [u8; 32] {
        Transcript::new("privet/psi/key/v1")
            .bytes(&self.digest.0)
            .bytes(purpose.as_bytes())
            .number(number)
            .finish()
            .0
    }

    /// 128 bits for one use.
    pub(crate) fn key(&self, purpose: &str, number: u64) -> u128 {
        first_half(&self.derive(purpose, number))
    }

    /// A hash of this session for one use.
    pub(crate) fn transcript(&self, domain: &str) -> Transcript {
        Transcript::new(domain).bytes(&self.digest.0)
    }
}

/// The first 128 bits of a digest.
pub(crate) fn first_half(digest: &[u8; 32]) -> u128 {
    digest.iter().take(16).rev().fold(0, |value, &byte| value << 8 | u128::from(byte))
}

/// A random word as a number below `range`: ⌊word · range / 2^64⌋.
pub(crate) fn scaled(word: u64, range: u64) -> u64 {
    ((u128::from(word) * u128::from(range)) >> 64) as u64
}

/// Secret random values of this side, from one seed of the operating system.
pub(crate) struct Random(Words);

impl Random {
    pub(crate) fn from_os() -> Result<Self, Reason> {
        let seed = Seed::from_os().map_err(|NoEntropy| {
            Reason::new(Code::StorageFailed, "the operating system gives no random bytes")
        })?;
        Ok(Self(Words::new(&seed)))
    }

    /// A secret of known bytes, for tests that look at every bit.
    #[cfg(test)]
    pub(crate) fn known(seed: u8) -> Self {
        Self(Words::new(&Seed::from_bytes([seed; 32])))
    }

    pub(crate) fn block(&mut self) -> u128 {
        u128::from(self.0.word()) << 64 | u128::from(self.0.word())
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        for chunk in bytes.chunks_mut(8) {
            let word = self.0.word().to_le_bytes();
            chunk.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
        bytes
    }

    /// A number below `bound`, which is small against 2^64: the bias is below bound / 2^64.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        scaled(self.0.word(), bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_everything_said_and_on_their_use() {
        let start = || Session::new(&Digest([1; 32]));
        let (mut one, mut other) = (start(), start());
        assert_eq!(one.key("a", 0), other.key("a", 0));
        assert_ne!(one.key("a", 0), one.key("a", 1));
        assert_ne!(one.key("a", 0), one.key("b", 0));
        one.absorb(b"ab");
        other.absorb(b"a");
        other.absorb(b"b");
        assert_ne!(one.key("a", 0), other.key("a", 0));
        assert_ne!(start().key("a", 0), Session::new(&Digest([2; 32])).key("a", 0));
    }

    #[test]
    fn numbers_stay_below_their_bound() {
        let mut random = Random::known(1);
        let drawn: Vec<u64> = (0..1000).map(|_| random.below(7)).collect();
        assert!((0..7).all(|n| drawn.contains(&n)) && drawn.iter().all(|&n| n < 7));
    }
}
