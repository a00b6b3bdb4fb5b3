//! AES-128 in its three uses: streams under secret keys, a hash under a public one, and a hash keyed by the value.

use aes::Aes128Enc;
use aes::cipher::{Block, BlockCipherEncrypt, KeyInit};
use zeroize::Zeroizing;

fn encrypt(cipher: &Aes128Enc, blocks: &mut [u128]) {
    let blocks: &mut [[u8; 16]] = bytemuck::cast_slice_mut(blocks);
    cipher.encrypt_blocks(Block::<Aes128Enc>::cast_slice_from_core_mut(blocks));
}

fn cipher(key: u128) -> Aes128Enc {
    let key = Zeroizing::new(key.to_le_bytes());
    Aes128Enc::new((&*key).into())
}

/// What a stream is for. One key never serves two uses at the same counter.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use {
    /// Columns of the OT extension.
    Extension = 1,
    /// The base VOLE.
    BaseVole = 2,
    /// Roots of trees.
    Roots = 3,
    /// Public coefficients of the code.
    Code = 4,
    /// Cells of an OKVS that nothing fixes.
    Free = 5,
    /// Tests.
    #[cfg(test)]
    Test = 6,
}

/// Streams of a key: AES in counter mode.
#[derive(Clone)]
pub(crate) struct Prg(Aes128Enc);

impl Prg {
    pub(crate) fn new(key: u128) -> Self {
        Self(cipher(key))
    }

    /// Blocks of the stream of a use, numbered (a chunk of a set, say), from the block `at` on.
    pub(crate) fn fill(&self, purpose: Use, number: u32, at: u64, out: &mut [u128]) {
        let high = (purpose as u128) << 96 | u128::from(number) << 64;
        for (counter, block) in (at..).zip(&mut *out) {
            *block = high | u128::from(counter);
        }
        encrypt(&self.0, out);
    }

    /// The first `len` blocks.
    pub(crate) fn blocks(&self, purpose: Use, number: u32, len: usize) -> Zeroizing<Vec<u128>> {
        let mut out = Zeroizing::new(vec![0; len]);
        self.fill(purpose, number, 0, &mut out);
        out
    }
}

/// A permutation that everybody in a session knows.
#[derive(Clone)]
pub(crate) struct Permutation(Aes128Enc);

impl Permutation {
    pub(crate) fn new(key: u128) -> Self {
        Self(cipher(key))
    }

    pub(crate) fn apply(&self, blocks: &mut [u128]) {
        encrypt(&self.0, blocks);
    }

    /// π(π(x) ⊕ i) ⊕ π(x): tweakable, correlation robust (Guo, Katz, Wang, Yu, eprint 2019/074, TMMO).
    pub(crate) fn hash(&self, tweak: u128, x: u128) -> u128 {
        let mut once = [x];
        self.apply(&mut once);
        let mut twice = [once[0] ^ tweak];
        self.apply(&mut twice);
        twice[0] ^ once[0]
    }
}

/// Davies–Meyer: the block `x` under the key `key`, plus `x`.
pub(crate) fn keyed(key: u128, x: u128) -> u128 {
    let mut block = [x];
    encrypt(&cipher(key), &mut block);
    block[0] ^ x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 197, appendix C.1.
    const KEY: u128 = u128::from_be_bytes([15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
    const PLAIN: u128 = 0xffeeddccbbaa99887766554433221100;
    const CIPHER: u128 = 0x5ac5b47080b7cdd830047b6ad8e0c469;

    #[test]
    fn the_cipher_is_aes() {
        let mut block = [PLAIN];
        Permutation::new(KEY).apply(&mut block);
        assert_eq!(block[0], CIPHER);
        assert_eq!(keyed(KEY, PLAIN), CIPHER ^ PLAIN);
    }

    #[test]
    fn a_hash_is_two_encryptions() {
        let permutation = Permutation::new(9);
        let of = |x: u128| {
            let mut block = [x];
            permutation.apply(&mut block);
            block[0]
        };
        assert_eq!(permutation.hash(3, 5), of(of(5) ^ 3) ^ of(5));
    }

    #[test]
    fn streams_of_uses_and_numbers_differ_and_go_on() {
        let prg = Prg::new(1);
        let one = prg.blocks(Use::Test, 0, 8);
        let mut rest = [0; 5];
        prg.fill(Use::Test, 0, 3, &mut rest);
        assert_eq!(rest, one[3..]);
        assert_ne!(*one, *prg.blocks(Use::Test, 1, 8));
        assert_ne!(*one, *prg.blocks(Use::Roots, 0, 8));
        assert_ne!(*one, *Prg::new(2).blocks(Use::Test, 0, 8));
    }
}
