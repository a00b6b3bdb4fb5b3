//! The one-time scheme ([`privet_he::rlwe`]) against what it does not share a line with: schoolbook
//! products in integers of 128 bits, and, with the feature `tfhe`, the polynomials and GLWE
//! ciphertexts of the crate `tfhe`.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use privet_crypto::{Seed, Words};
#[cfg(feature = "tfhe")]
use privet_he::rlwe::block::add_into;
use privet_he::rlwe::{Key, KeySum, Opener, Ring, Sealer, Set, gaussian};

const CONTEXT: [u8; 32] = [5; 32];
const BLOCKS: usize = 3;

fn seed(site: u8) -> Seed {
    Seed::from_bytes([site; 32])
}

/// The one-time key of a site.
fn key(ring: &Ring, site: u8) -> Key {
    Key::sample(ring, &mut Words::new(&seed(site).derive("key", 0)))
}

fn coefficients(ring: &Ring, site: u8) -> Vec<i64> {
    key(ring, site).coefficients().iter().map(|&x| x.into()).collect()
}

/// Messages up to a third of the bound, for sums of three.
fn messages(set: Set, site: u8) -> Vec<i64> {
    let most = set.bound() / 3 - i64::from(gaussian::TAIL);
    let word = |i: usize| (i as u64 ^ u64::from(site) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let message = |i| (word(i) ^ word(i) >> 29).cast_signed() % (most + 1);
    (0..BLOCKS * set.degree()).map(message).collect()
}

fn sealed(ring: &Ring, site: u8) -> Vec<u32> {
    let mut out = vec![0; BLOCKS * ring.set().block()];
    let mut sealer = Sealer::new(ring, &CONTEXT, key(ring, site), seed(site));
    sealer.seal(&messages(ring.set(), site), &mut out).unwrap();
    out
}

/// The errors of a site, drawn again.
fn errors(ring: &Ring, site: u8) -> Vec<i64> {
    let errors = (0..BLOCKS as u64).flat_map(|block| {
        let mut errors = vec![0; ring.set().degree()];
        let words = &mut Words::new(&seed(site).derive("privet/he/1/error", block));
        gaussian::fill(ring.backend(), words, &mut errors);
        errors
    });
    errors.map(i64::from).collect()
}

/// Opens with S = −1 what is sealed as zero: the mask's coefficients, around zero.
fn mask(ring: &Ring) -> Vec<i64> {
    let mut minus_one = vec![0; ring.set().degree()];
    minus_one[0] = -1;
    let mut opener = Opener::new(ring, &CONTEXT, KeySum::new(ring, 1, &minus_one).unwrap());
    let mut mask = vec![0; BLOCKS * ring.set().degree()];
    opener.open(0, &vec![0; BLOCKS * ring.set().block()], &mut mask).unwrap();
    mask
}

/// What opens of a sum, with the sum of the keys.
fn opened(ring: &Ring, sum: &[u32], keys: &[i64], sites: u32) -> Vec<i64> {
    let keys: Vec<i32> = keys.iter().map(|&x| x as i32).collect();
    let mut opener = Opener::new(ring, &CONTEXT, KeySum::new(ring, sites, &keys).unwrap());
    let mut opened = vec![0; BLOCKS * ring.set().degree()];
    opener.open(0, sum, &mut opened).unwrap();
    opened
}

/// Coefficient by coefficient, b = a·s + e + m modulo each prime, and all of it opens again.
#[test]
fn uploads_are_the_schoolbook_relation() {
    for set in Set::ALL {
        let (ring, n) = (Ring::new(set), set.degree());
        let (a, s, e) = (mask(&ring), coefficients(&ring, 1), errors(&ring, 1));
        let (m, b) = (messages(set, 1), sealed(&ring, 1));
        // No mask is trivial.
        assert!(
            a.chunks(n).all(|a| a.iter().filter(|a| a.abs() > set.bound() / 8).count() > n / 2)
        );
        for block in 0..BLOCKS {
            let a = &a[block * n..][..n];
            for i in 0..n {
                let product: i128 = (0..n)
                    .map(|j| match i.checked_sub(j) {
                        Some(k) => i128::from(s[j]) * i128::from(a[k]),
                        None => -i128::from(s[j]) * i128::from(a[n + i - j]),
                    })
                    .sum();
                let at = block * n + i;
                let expected = product + i128::from(e[at]) + i128::from(m[at]);
                for (part, &p) in set.primes().iter().enumerate() {
                    let word = b[block * set.block() + part * n + i];
                    assert_eq!(i128::from(word), expected.rem_euclid(p.into()), "{set:?} {at}");
                }
            }
        }
        let both: Vec<i64> = m.iter().zip(&e).map(|(m, e)| m + e).collect();
        assert!(opened(&ring, &b, &s, 1) == both);
    }
}

#[cfg(feature = "tfhe")]
mod by_tfhe {
    use tfhe::core_crypto::algorithms::polynomial_algorithms::{
        polynomial_wrapping_add_assign_custom_mod, polynomial_wrapping_add_mul_assign_custom_mod,
    };
    use tfhe::core_crypto::prelude::*;

    use super::*;

    /// A number as a residue.
    fn residue(x: i64, modulus: u64) -> u64 {
        i128::from(x).rem_euclid(modulus.into()) as u64
    }

    fn residues(numbers: &[i64], modulus: u64) -> Vec<u64> {
        numbers.iter().map(|&x| residue(x, modulus)).collect()
    }

    /// The residues of blocks modulo prime number `part`.
    fn part(set: Set, words: &[u32], part: usize) -> Vec<u64> {
        let block = |block: &[u32]| block[part * set.degree()..][..set.degree()].to_vec();
        words.chunks(set.block()).flat_map(block).map(u64::from).collect()
    }

    /// `tfhe` makes the same bodies of the same mask, key, errors and messages, adds them to the same
    /// sum, and as GLWE ciphertexts modulo our primes decrypts this to what opens here.
    #[test]
    fn uploads_and_sums_are_those_of_tfhe() {
        for set in Set::ALL {
            let (ring, n) = (Ring::new(set), set.degree());
            let sites = [1, 2, 3];
            let a = mask(&ring);
            let mut sum = vec![0; BLOCKS * set.block()];
            sites.iter().for_each(|&site| add_into(&ring, &mut sum, &sealed(&ring, site)).unwrap());
            let mut keys = vec![0; n];
            for site in sites {
                let terms = keys.iter_mut().zip(coefficients(&ring, site));
                terms.for_each(|(sum, x)| *sum += x);
            }
            let opened = opened(&ring, &sum, &keys, sites.len() as u32);
            for (number, &p) in set.primes().iter().enumerate() {
                let p = u64::from(p);
                let modulus = CiphertextModulus::<u64>::try_new(p.into()).unwrap();
                let mut added = vec![0; BLOCKS * n];
                for site in sites {
                    let (e, m) = (errors(&ring, site), messages(set, site));
                    let terms: Vec<i64> = e.iter().zip(&m).map(|(e, m)| e + m).collect();
                    let mut b = residues(&terms, p);
                    let (a, s) = (residues(&a, p), residues(&coefficients(&ring, site), p));
                    for (b, a) in b.chunks_mut(n).zip(a.chunks(n)) {
                        polynomial_wrapping_add_mul_assign_custom_mod(
                            &mut Polynomial::from_container(b),
                            &Polynomial::from_container(a),
                            &Polynomial::from_container(&s[..]),
                            p,
                        );
                    }
                    assert!(b == part(set, &sealed(&ring, site), number), "{set:?} {p} {site}");
                    polynomial_wrapping_add_assign_custom_mod(
                        &mut Polynomial::from_container(&mut added[..]),
                        &Polynomial::from_container(&b[..]),
                        p,
                    );
                }
                let sum = part(set, &sum, number);
                assert!(added == sum);
                let key = residues(&keys, p);
                let key = GlweSecretKey::from_container(&key[..], PolynomialSize(n));
                let a = residues(&a, p);
                for ((a, b), opened) in a.chunks(n).zip(sum.chunks(n)).zip(opened.chunks(n)) {
                    let sealed = [a, b].concat();
                    let sealed =
                        GlweCiphertext::from_container(&sealed[..], PolynomialSize(n), modulus);
                    let mut plain = PlaintextList::new(0, PlaintextCount(n));
                    decrypt_glwe_ciphertext(&key, &sealed, &mut plain);
                    assert!(plain.as_ref() == residues(opened, p));
                }
            }
        }
    }
}
