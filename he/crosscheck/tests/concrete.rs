//! Sums of GLWE ciphertexts, between `concrete-core` 1.0.2, `tfhe` and [`privet_he::glwe`]: words of
//! decrypted sums are the same bits, whoever sealed and whoever opens.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use concrete_core::commons::crypto::encoding::PlaintextList as OldPlain;
use concrete_core::commons::crypto::glwe::GlweCiphertext as OldCiphertext;
use concrete_core::commons::crypto::secret::GlweSecretKey as OldKey;
use concrete_core::commons::math::tensor::{AsRefSlice, AsRefTensor};
use concrete_core::prelude::{self as old, *};
use privet_crypto::{Seed, Words};
use privet_he::glwe::{GroupKey, Packing, Set, Sum, open, seal};
use tfhe::core_crypto::prelude as new;

const SITES: usize = 10;
const DELTA: u64 = 1 << 22;

/// What `tfhe` decrypts: mask and body in, Δ·m + e out.
fn decrypted_by_tfhe(key: &[u64], sealed: &[u64]) -> Vec<u64> {
    let size = new::PolynomialSize(key.len());
    let mut plain = new::PlaintextList::new(0, new::PlaintextCount(key.len()));
    new::decrypt_glwe_ciphertext(
        &new::GlweSecretKey::from_container(key, size),
        &new::GlweCiphertext::from_container(sealed, size, new::CiphertextModulus::new_native()),
        &mut plain,
    );
    plain.into_container()
}

/// `concrete-core` makes a key and seals with it, raw words are added, and `tfhe` decrypts the sum to
/// the words that `concrete-core` decrypts it to.
#[test]
fn sums_sealed_by_concrete_core_open_by_tfhe() {
    for set in Set::ALL {
        let n = set.degree();
        let size = old::PolynomialSize(n);
        let secret = u128::from_le_bytes(*Seed::from_os().unwrap().reveal().first_chunk().unwrap());
        let mut engine = DefaultEngine::new(Box::new(UnixSeeder::new(secret))).unwrap();
        let key: GlweSecretKey64 =
            engine.generate_new_glwe_secret_key(old::GlweDimension(1), size).unwrap();
        let decrypt = |engine: &mut DefaultEngine, words: Vec<u64>| {
            let sealed: GlweCiphertext64 = engine.create_glwe_ciphertext_from(words, size).unwrap();
            let plain = engine.decrypt_glwe_ciphertext(&key, &sealed).unwrap();
            engine.retrieve_plaintext_vector(&plain).unwrap()
        };
        // b − a·s for a = −1, b = 0 is s.
        let mut minus_one = vec![0; 2 * n];
        minus_one[0] = u64::MAX;
        let bits = decrypt(&mut engine, minus_one);
        assert!(bits.iter().all(|&bit| bit <= 1) && bits.contains(&0) && bits.contains(&1));

        let value = |site: usize, i: usize| (i as i64 * 7919 + site as i64) % (1 << 34) - (1 << 33);
        let bound = f64::from(set.noise_bits()).exp2();
        let noise = old::Variance(bound * bound / 3.0 / 128f64.exp2());
        let mut sum = vec![0u64; 2 * n];
        for site in 0..SITES {
            let plain: Vec<u64> =
                (0..n).map(|i| DELTA.wrapping_mul(value(site, i).cast_unsigned())).collect();
            let plain = engine.create_plaintext_vector_from(&plain).unwrap();
            let sealed = engine.encrypt_glwe_ciphertext(&key, &plain, noise).unwrap();
            let words = engine.consume_retrieve_glwe_ciphertext(sealed).unwrap();
            sum.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
        }
        let opened = decrypted_by_tfhe(&bits, &sum);
        assert!(opened == decrypt(&mut engine, sum));
        for (i, word) in opened.into_iter().enumerate() {
            let whole: i64 = (0..SITES).map(|site| value(site, i)).sum();
            let rounded = word.wrapping_add(DELTA / 2).cast_signed() >> DELTA.ilog2();
            assert_eq!(rounded, whole, "{set:?} {i}");
        }
    }
}

/// What sites seal and a server adds here, `concrete-core` decrypts with the key of the same seed to
/// the words that `tfhe` decrypts it to, and rounded they are what opens here.
#[test]
fn sums_sealed_here_open_by_concrete_core() {
    const CONTEXT: [u8; 32] = [4; 32];
    for (set, bits, values) in [(Set::N2048, 39, 2000), (Set::N4096, 52, 4000)] {
        let most = (1i64 << (bits - 1)) - 1;
        let packing = Packing::within(most.unsigned_abs(), SITES as u32, values).unwrap();
        assert_eq!((packing.set(), packing.slots()), (set, 1));
        let (n, group) = (set.degree(), Seed::from_os().unwrap());
        assert_eq!(packing.coefficients(), n as u64);
        let key = GroupKey::new(set, &group).unwrap();
        let mut sum = Sum::new(packing, &CONTEXT).unwrap();
        for site in 0..SITES as i64 {
            let values: Vec<i64> =
                (0..values as i64).map(|i| most - ((i * 7919) << 20) % (2 * most) - site).collect();
            let values: Vec<i64> = values.into_iter().map(|v| v.clamp(-most, most)).collect();
            let fresh = Seed::from_os().unwrap();
            sum.add(&seal(&key, &packing, &CONTEXT, &values, fresh).unwrap()).unwrap();
        }
        let sums = open(&key, &sum).unwrap();

        let mut bits = vec![0; n / 64];
        Words::chacha(&group.derive("privet/he/glwe/key", n as u64)).fill(&mut bits);
        let bits: Vec<u64> =
            bits.iter().flat_map(|word| (0..64).map(move |i| word >> i & 1)).collect();
        let bytes = sum.encode();
        let words: Vec<u64> =
            bytes[36..].as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect();
        let opened = decrypted_by_tfhe(&bits, &words);

        let size = old::PolynomialSize(n);
        let mut plain = OldPlain::from_container(vec![0u64; n]);
        OldKey::binary_from_container(bits, size)
            .decrypt_glwe(&mut plain, &OldCiphertext::from_container(words, size));
        assert!(plain.as_tensor().as_slice() == opened);

        let delta = packing.delta() as i64;
        let rounded = |word: u64| (word.cast_signed() + delta / 2).div_euclid(delta);
        let rounded: Vec<i64> = opened.into_iter().map(rounded).collect();
        assert!(rounded[..sums.len()] == *sums);
        assert_eq!(rounded[sums.len()], SITES as i64);
    }
}
