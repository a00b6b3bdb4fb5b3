//! The key of a group of sites.

use privet_crypto::{Seed, Words};
use tfhe::core_crypto::prelude::{GlweSecretKey, PolynomialSize};
use zeroize::Zeroizing;

use crate::glwe::packing::Set;

/// The processor lacks AES instructions, which `tfhe` needs for masks and noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this processor has no AES instructions; choose another scheme for sums")]
pub struct Unsupported;

/// Whether `tfhe` can draw random words here: where it cannot, it panics.
pub(crate) fn supported() -> Result<(), Unsupported> {
    #[cfg(target_arch = "x86_64")]
    let supported = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let supported = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let supported = true;
    if supported { Ok(()) } else { Err(Unsupported) }
}

/// The secret polynomial that all sites of a group hold. Erased when dropped; neither printed nor
/// copied.
pub struct GroupKey {
    set: Set,
    bits: Zeroizing<Vec<u64>>,
}

impl GroupKey {
    /// The key of a group's seed: the same on every machine.
    ///
    /// # Errors
    /// When the processor lacks AES instructions.
    pub fn new(set: Set, group: &Seed) -> Result<Self, Unsupported> {
        supported()?;
        let seed = group.derive("privet/he/glwe/key", set.degree() as u64);
        // `Words::new` would give other words on other processors.
        let mut words = Words::chacha(&seed);
        let mut packed = Zeroizing::new(vec![0; set.degree() / 64]);
        words.fill(&mut packed);
        let bits = packed.iter().flat_map(|word| (0..64).map(move |i| word >> i & 1));
        let mut key = Zeroizing::new(vec![0; set.degree()]);
        key.iter_mut().zip(bits).for_each(|(key, bit)| *key = bit);
        Ok(Self { set, bits: key })
    }

    /// The parameter set it is for.
    pub fn set(&self) -> Set {
        self.set
    }

    /// As `tfhe` wants it.
    pub(crate) fn view(&self) -> GlweSecretKey<&[u64]> {
        GlweSecretKey::from_container(&self.bits[..], PolynomialSize(self.set.degree()))
    }
}
