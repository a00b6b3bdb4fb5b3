//! Domain-separated hashing of structured data.
//!
//! Every input is written with its length before it, and every hash starts with the name of its
//! use, so that no two uses and no two splittings of the same bytes can give one digest.

use sha2::{Digest as _, Sha256};

/// A 256-bit digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The plain SHA-256 of some bytes, for digests that other programs recompute.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Lower-case hex.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let digit = |nibble: u8| DIGITS[usize::from(nibble)] as char;
        self.0.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

/// BLAKE3 of bytes that come in pieces: for bodies of messages, which are long. (SHA-256 took a
/// fifth of all processor time of a round.)
#[derive(Clone, Default)]
pub struct Stream(blake3::Hasher);

impl Stream {
    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

/// A hash over a sequence of byte strings.
#[derive(Clone)]
pub struct Transcript(Sha256);

impl Transcript {
    /// Starts a transcript for one use, for example `privet/outbox/v1`.
    pub fn new(domain: &str) -> Self {
        Self(Sha256::new()).bytes(domain.as_bytes())
    }

    /// Takes one byte string.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// Takes one number.
    pub fn number(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// The digest of all that was taken.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha256() {
        // FIPS 180-4, the one-block example "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of(b"abc").hex(), expected);
        // BLAKE3's published vectors: the input of one zero byte.
        let expected = "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213";
        let mut stream = Stream::default();
        stream.update(b"");
        stream.update(&[0]);
        assert_eq!(stream.finish().hex(), expected);
    }

    #[test]
    fn domains_and_splittings_differ() {
        let of = |domain: &str, parts: &[&str]| {
            parts.iter().fold(Transcript::new(domain), |t, part| t.bytes(part.as_bytes())).finish()
        };
        let one = of("a", &["bc", "d"]);
        assert_ne!(one, of("a", &["b", "cd"]));
        assert_ne!(one, of("ab", &["c", "d"]));
        assert_ne!(one, of("a", &["bcd"]));
        assert_eq!(one, of("a", &["bc", "d"]));
    }
}
