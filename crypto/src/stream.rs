//! Secret random words: a seed from the operating system, and streams of words derived of it.
//!
//! ```text
//!   Seed::from_os ──derive(use, number)──▶ Seed ──▶ Words: AES-256 in counter mode, or ChaCha12
//! ```
//! Which cipher expands a seed depends on the processor: AES where it has instructions for it,
//! else ChaCha12. Both are taken to be indistinguishable from ideal bits; that is the only
//! assumption. A stream is not to be replayed on another machine.

use aes::Aes256Enc;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use chacha20::ChaCha12Rng;
use chacha20::rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

/// 256 secret bits. Erased when dropped; neither printed nor copied.
pub struct Seed(Zeroizing<[u8; 32]>);

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoEntropy;

impl std::fmt::Display for NoEntropy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the operating system gave no random bytes")
    }
}

impl std::error::Error for NoEntropy {}

impl Seed {
    /// A new seed from the operating system.
    ///
    /// # Errors
    /// When it gives none.
    pub fn from_os() -> Result<Self, NoEntropy> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut bytes[..]).map_err(|_| NoEntropy)?;
        Ok(Self(bytes))
    }

    /// A seed of known bytes. What is drawn from it is as secret as they are.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its bytes, to be kept where their owner keeps secrets.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }

    /// A seed for one use that depends on all of these as well: keyed BLAKE3 of them with their
    /// lengths.
    #[must_use]
    pub fn bound(&self, domain: &str, parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        for part in std::iter::once(&domain.as_bytes()).chain(parts) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let mut bytes = Zeroizing::new([0; 32]);
        hasher.finalize_xof().fill(&mut bytes[..]);
        zeroize::Zeroize::zeroize(&mut hasher);
        Self(bytes)
    }

    /// The seed number `number` for one use: keyed BLAKE3 of both. Seeds of different uses or
    /// numbers look independent to whoever does not know this one.
    pub fn derive(&self, domain: &str, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(domain.len() as u64).to_le_bytes());
        hasher.update(domain.as_bytes());
        hasher.update(&number.to_le_bytes());
        let mut bytes = Zeroizing::new([0; 32]);
        hasher.finalize_xof().fill(&mut bytes[..]);
        zeroize::Zeroize::zeroize(&mut hasher);
        Self(bytes)
    }
}

/// A stream of secret words. Each is handed out once, by [`Words::fill`] or by [`Words::word`].
pub struct Words {
    cipher: Cipher,
    /// Words for `word`, from the end.
    buffer: Zeroizing<[u64; 32]>,
    buffered: usize,
}

enum Cipher {
    Aes { key: Box<Aes256Enc>, counter: u128 },
    ChaCha(Box<ChaCha12Rng>),
}

impl Words {
    /// The stream of a seed.
    pub fn new(seed: &Seed) -> Self {
        if cfg!(any(target_arch = "x86", target_arch = "x86_64")) && has_aes() {
            Self::aes(seed)
        } else {
            Self::chacha(seed)
        }
    }

    fn aes(seed: &Seed) -> Self {
        let key = Box::new(Aes256Enc::new((&*seed.0).into()));
        Self::with(Cipher::Aes { key, counter: 0 })
    }

    /// The stream of a seed by the cipher for processors without AES instructions.
    pub fn chacha(seed: &Seed) -> Self {
        Self::with(Cipher::ChaCha(Box::new(ChaCha12Rng::from_seed(*seed.0))))
    }

    fn with(cipher: Cipher) -> Self {
        Self { cipher, buffer: Zeroizing::new([0; 32]), buffered: 0 }
    }

    /// Name of the cipher.
    pub fn cipher(&self) -> &'static str {
        match self.cipher {
            Cipher::Aes { .. } => "AES-256-CTR",
            Cipher::ChaCha(_) => "ChaCha12",
        }
    }

    /// The next words.
    pub fn fill(&mut self, out: &mut [u64]) {
        match &mut self.cipher {
            Cipher::ChaCha(rng) => out.iter_mut().for_each(|word| *word = rng.next_u64()),
            Cipher::Aes { key, counter } => {
                let (pairs, last) = out.as_chunks_mut::<2>();
                let blocks: &mut [[u8; 16]] = bytemuck::cast_slice_mut(pairs);
                encrypt(key, counter, blocks);
                if let [last] = last {
                    let mut block = Zeroizing::new([[0u8; 16]]);
                    encrypt(key, counter, &mut *block);
                    *last = bytemuck::cast_slice(&*block)[0];
                }
            }
        }
    }

    /// The next word.
    pub fn word(&mut self) -> u64 {
        if self.buffered == 0 {
            let mut buffer = std::mem::take(&mut self.buffer);
            self.fill(&mut buffer[..]);
            self.buffer = buffer;
            self.buffered = self.buffer.len();
        }
        self.buffered -= 1;
        std::mem::take(&mut self.buffer[self.buffered])
    }
}

/// Overwrites blocks with the encrypted counter.
fn encrypt(key: &Aes256Enc, counter: &mut u128, blocks: &mut [[u8; 16]]) {
    for block in &mut *blocks {
        *block = counter.to_ne_bytes();
        *counter = counter.wrapping_add(1);
    }
    key.encrypt_blocks(Block::<Aes256Enc>::cast_slice_from_core_mut(blocks));
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64")))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u64]) -> String {
        words.iter().flat_map(|word| word.to_le_bytes()).map(|b| format!("{b:02x}")).collect()
    }

    /// FIPS 197, C.3: the cipher under the counter, with the counter set to its plaintext.
    #[test]
    fn the_block_cipher_is_aes_256() {
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let mut words = Words::aes(&Seed::from_bytes(key));
        let Cipher::Aes { counter, .. } = &mut words.cipher else { panic!("AES was asked") };
        *counter = u128::from_le_bytes(std::array::from_fn(|i| (i * 0x11) as u8));
        let mut out = [0; 2];
        words.fill(&mut out);
        assert_eq!(bytes(&out), "8ea2b7ca516745bfeafc49904b496089");
    }

    /// draft-strombergson-chacha-test-vectors, TC1 of 12 rounds, key and nonce zero.
    #[test]
    fn the_other_cipher_is_chacha12() {
        let mut out = [0; 4];
        Words::chacha(&Seed::from_bytes([0; 32])).fill(&mut out);
        assert_eq!(bytes(&out), "9bf49a6a0755f953811fce125f2683d50429c3bb49e074147e0089a52eae155f");
    }

    #[test]
    fn a_stream_does_not_depend_on_how_it_is_read_block_by_block() {
        let stream = |sizes: &[usize]| {
            let mut words = Words::new(&Seed::from_bytes([7; 32]));
            let mut all = Vec::new();
            for &size in sizes {
                let mut part = vec![0; size];
                words.fill(&mut part);
                all.extend(part);
            }
            all
        };
        assert_eq!(stream(&[256]), stream(&[64, 2, 128, 62]));
    }

    #[test]
    fn seeds_differ_by_use_and_number() {
        let master = Seed::from_bytes([1; 32]);
        let seeds = [("a", 0), ("a", 1), ("b", 0), ("", 0)].map(|(d, n)| *master.derive(d, n).0);
        for (i, a) in seeds.iter().enumerate() {
            assert!(seeds[..i].iter().all(|b| a != b));
        }
        assert_eq!(*master.derive("a", 1).0, seeds[1]);
        assert!(*Seed::from_os().unwrap().0 != *Seed::from_os().unwrap().0);
    }
}
