//! Sealing the values of one site.
//!
//! ```text
//!   upload: digest (32) │ seed of the masks (32) │ body words, little-endian (8·n)
//! ```
//! The words are bodies of `tfhe`'s seeded ciphertext lists, one for [`LIST`] blocks, each with a
//! compression seed derived of the upload's.

use privet_crypto::{Seed, Words, Writer};
use rayon::prelude::*;
use tfhe::core_crypto::commons::math::random::{CompressionSeed, Seed as Seed128};
use tfhe::core_crypto::prelude::*;
use zeroize::Zeroizing;

use crate::glwe::key::GroupKey;
use crate::glwe::packing::{Packing, Set};

/// Blocks of one ciphertext list: small enough for the cache.
pub(crate) const LIST: usize = 8;

/// Why values were not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key is for another parameter set than the packing.
    #[error("the key is for another parameter set")]
    Key,
    /// Not as many values as the packing is for.
    #[error("{given} values, where {expected} were expected")]
    Count {
        /// Values given.
        given: u64,
        /// Values of the packing.
        expected: u64,
    },
    /// A value is larger than the packing allows.
    #[error("a value is larger than {most} in magnitude")]
    Value {
        /// Largest magnitude.
        most: u64,
    },
}

/// Seals one site's values for one context: a digest of all that the parties of a sum agree on. The
/// seed is fresh from the operating system ([`Seed::from_os`]); what comes of it depends on the values
/// as well.
///
/// # Errors
/// When the values are not those of the packing, or the key is of another set.
pub fn seal(
    key: &GroupKey,
    packing: &Packing,
    context: &[u8; 32],
    values: &[i64],
    fresh: Seed,
) -> Result<Vec<u8>, SealError> {
    let (set, most) = (packing.set(), packing.most());
    if key.set() != set {
        return Err(SealError::Key);
    }
    if values.len() as u64 != packing.values() {
        return Err(SealError::Count { given: values.len() as u64, expected: packing.values() });
    }
    if values.iter().fold(false, |any, value| any | (value.unsigned_abs() > most)) {
        return Err(SealError::Value { most });
    }
    let digest = packing.digest(context);
    let seed = fresh.bound("privet/he/glwe/upload", &[&digest.0, bytemuck::cast_slice(values)]);
    let masks = MaskSeed(*seed.derive("privet/he/glwe/mask", 0).reveal());
    let mut bodies = vec![0u64; packing.coefficients() as usize];
    let list = LIST * set.degree();
    bodies.par_chunks_mut(list).enumerate().for_each(|(number, bodies)| {
        let number = number as u64;
        let mut plain = Zeroizing::new(vec![0u64; bodies.len()]);
        packing.pack(values, number * list as u64, &mut plain);
        let mut noise = Noise(Words::new(&seed.derive("privet/he/glwe/noise", number)));
        encrypt_seeded_glwe_ciphertext_list(
            &key.view(),
            &mut masks.list(set, number, bodies),
            &PlaintextList::from_container(&plain[..]),
            TUniform::new(set.noise_bits()),
            &mut noise,
        );
    });
    let mut upload = Writer::default();
    upload.raw(&digest.0).raw(&masks.0);
    Ok(with_words(upload, &bodies))
}

/// Words behind a header.
pub(crate) fn with_words(header: Writer, words: &[u64]) -> Vec<u8> {
    let mut bytes = header.finish();
    bytes.reserve_exact(8 * words.len());
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// The public seed of an upload's masks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MaskSeed(pub(crate) [u8; 32]);

impl MaskSeed {
    /// Ciphertext list number `number` of the upload, with these bodies.
    pub(crate) fn list<C>(self, set: Set, number: u64, bodies: C) -> SeededGlweCiphertextList<C>
    where
        C: Container<Element = u64>,
    {
        let seed = Seed::from_bytes(self.0).derive("privet/he/glwe/list", number);
        let half = seed.reveal().first_chunk().copied().unwrap_or_default();
        SeededGlweCiphertextList::from_container(
            bodies,
            GlweSize(2),
            PolynomialSize(set.degree()),
            CompressionSeed::from(Seed128(u128::from_le_bytes(half))),
            CiphertextModulus::new_native(),
        )
    }
}

/// Seeds of noise for `tfhe`.
struct Noise(Words);

impl Seeder for Noise {
    fn seed(&mut self) -> Seed128 {
        Seed128(u128::from(self.0.word()) << 64 | u128::from(self.0.word()))
    }

    fn is_available() -> bool {
        true
    }
}
