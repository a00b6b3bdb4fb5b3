use privet_crypto::{DecodeError, Seed};
use proptest::prelude::*;
use tfhe::core_crypto::commons::noise_formulas::secure_noise::{
    minimal_glwe_bound_for_132_bits_security_tuniform,
    minimal_glwe_variance_for_132_bits_security_gaussian,
    minimal_glwe_variance_for_132_bits_security_tuniform,
};
use tfhe::core_crypto::prelude::*;

use super::seal::MaskSeed;
use super::*;

const CONTEXT: [u8; 32] = [9; 32];

/// Length of an upload's header.
const HEADER: usize = 64;

fn seed(number: u8) -> Seed {
    Seed::from_bytes([number; 32])
}

fn key(set: Set) -> GroupKey {
    GroupKey::new(set, &seed(0)).unwrap()
}

fn sealed(packing: &Packing, values: &[i64], site: u8) -> Vec<u8> {
    seal(&key(packing.set()), packing, &CONTEXT, values, seed(site)).unwrap()
}

/// Seals for each site, adds, sends, opens.
fn sums(packing: &Packing, updates: &[Vec<i64>]) -> Vec<i64> {
    let mut sum = Sum::new(*packing, &CONTEXT).unwrap();
    for (site, values) in (1..).zip(updates) {
        sum.add(&sealed(packing, values, site)).unwrap();
    }
    let sum = Sum::decode(*packing, &CONTEXT, &sum.encode()).unwrap();
    assert_eq!(sum.uploads() as usize, updates.len());
    open(&key(packing.set()), &sum).unwrap().to_vec()
}

#[test]
fn the_noise_is_enough_for_132_bits() {
    let q = 64f64.exp2();
    for set in Set::ALL {
        let (k, n) = (GlweDimension(1), PolynomialSize(set.degree()));
        let variance = TUniform::<u64>::new(set.noise_bits()).variance(q).0;
        assert!(set.noise_bits() >= minimal_glwe_bound_for_132_bits_security_tuniform(k, n, q));
        assert!(variance >= minimal_glwe_variance_for_132_bits_security_gaussian(k, n, q).0);
        // This formula adds 2^4.44/q² to the variance of the bound above: 4·10^-9 of it at N = 2048.
        let least = minimal_glwe_variance_for_132_bits_security_tuniform(k, n, q).0;
        assert!(variance >= least * (1.0 - 1e-8), "{set:?}");
        // One bit less is not enough.
        let less = TUniform::<u64>::new(set.noise_bits() - 1).variance(q).0;
        assert!(less < least * (1.0 - 1e-8), "{set:?}");
    }
}

/// The table of the module, and what is chosen of it.
#[test]
fn candidates_hold_what_the_table_says() {
    const VALUES: u64 = 1_000_000;
    let fits = |set, slots, bits: u32| {
        Packing::with(set, slots, (1 << (bits - 1)) - 1, 10, VALUES).unwrap().fits()
    };
    for (set, bits) in [(Set::N2048, &[39, 18, 10][..]), (Set::N4096, &[52, 24, 15, 10])] {
        for (slots, &bits) in (1..).zip(bits) {
            let most = (2..63).take_while(|&bits| fits(set, slots, bits)).last();
            assert_eq!(most, Some(bits), "{set:?} {slots}");
        }
    }
    for (bits, expected) in [
        (52, (Set::N4096, 1)),
        (39, (Set::N2048, 1)),
        (24, (Set::N4096, 2)),
        (18, (Set::N2048, 2)),
        (15, (Set::N4096, 3)),
        (10, (Set::N4096, 4)),
    ] {
        let packing = Packing::within((1 << (bits - 1)) - 1, 10, VALUES).unwrap();
        assert_eq!((packing.set(), packing.slots()), expected, "{bits}");
        assert!(packing.never_fails());
    }
    let wide = Packing::within(1 << 60, 10, VALUES);
    let Err(PackingError::TooWide { most }) = wide else { panic!("{wide:?}") };
    assert!(Packing::within(most, 10, VALUES).is_ok() && Packing::within(most + 1, 10, 1).is_err());
    for (most, sites, values, error) in [
        (0, 1, 1, PackingError::TooNarrow),
        (1, 0, 1, PackingError::Sites),
        (1, (1 << 16) + 1, 1, PackingError::Sites),
        (1, 1, 0, PackingError::Values),
        (1, 1, (1 << 40) + 1, PackingError::Values),
    ] {
        assert_eq!(Packing::within(most, sites, values), Err(error));
    }
}

/// The whole distribution of the sum of errors, by convolution.
#[test]
fn the_bound_of_the_tail_holds() {
    let bound = 1usize << Set::N4096.noise_bits();
    let weight = |i: usize| if i == 0 || i == 2 * bound { 0.5 } else { 1.0 };
    let one: Vec<f64> = (0..=2 * bound).map(|i| weight(i) / (2 * bound) as f64).collect();
    let mut all = vec![1.0];
    for sites in 1..=150u32 {
        let mut next = vec![0.0; all.len() + 2 * bound];
        for (i, p) in all.iter().enumerate() {
            next[i..].iter_mut().zip(&one).for_each(|(next, q)| *next += p * q);
        }
        all = next;
        for values in [1, 1 << 20, 1 << 40] {
            let packing = Packing::with(Set::N4096, 1, 1, sites, values).unwrap();
            let (centre, reach) = (sites as usize * bound, packing.delta().div_ceil(2) as usize);
            let tail: f64 = all.get(centre + reach..).unwrap_or(&[]).iter().sum();
            let failure = 2.0 * tail * packing.coefficients() as f64;
            assert!(failure <= (-40f64).exp2());
            assert_eq!(packing.never_fails(), tail == 0.0);
            // And, away from the largest sum, it is not far above.
            assert!(sites < 100 || failure >= (-60f64).exp2(), "{sites} {failure:e}");
        }
    }
}

#[test]
fn few_sites_never_fail() {
    for (values, most) in [(1, 24), (1 << 20, 28)] {
        let never =
            |sites: &u32| Packing::with(Set::N2048, 1, 1, *sites, values).unwrap().never_fails();
        assert_eq!((1..100).take_while(never).last(), Some(most));
    }
}

/// All coefficients at their largest, with the largest errors that no rounding undoes.
#[test]
fn the_largest_sums_unpack() {
    for set in Set::ALL {
        for (slots, sites, values) in [(1, 1, 5), (2, 10, 5), (3, 27, 5), (2, 1000, 1 << 20)] {
            let fits = |most: &u64| {
                Packing::with(set, slots, *most, sites, values).is_ok_and(|p| p.fits())
            };
            let most = (0..62)
                .rev()
                .fold(0, |most, bit| Some(most | 1 << bit).filter(fits).unwrap_or(most));
            if most == 0 {
                continue;
            }
            let packing = Packing::with(set, slots, most, sites, values).unwrap();
            let whole = i64::from(sites) * most as i64;
            for value in [most as i64, -(most as i64)] {
                let mut words = vec![0; set.degree()];
                packing.pack(&vec![value; values as usize], 0, &mut words);
                let error = packing.delta() as i64 / 2 * value.signum();
                let sum = |word: &u64| {
                    let sum = i128::from(word.cast_signed()) * i128::from(sites);
                    i64::try_from(sum + i128::from(error)).unwrap().cast_unsigned()
                };
                let words: Vec<u64> = words.iter().map(sum).collect();
                let mut sums = Vec::new();
                packing.unpack(sites, &words, 0, &mut sums).unwrap();
                assert!(sums.iter().all(|&sum| sum == whole * value.signum()));
                // As large for fewer uploads, it is none.
                assert_eq!(packing.unpack(sites - 1, &words, 0, &mut Vec::new()), None);
            }
        }
    }
}

#[test]
fn extreme_sums_open_exactly() {
    for (most, sites) in [(1, 1), (511, 10), ((1 << 17) - 1, 10), ((1 << 38) - 1, 10), (1, 200)] {
        let values = 2 * 4096 * 3 + 5;
        let packing = Packing::within(most as u64, sites, values).unwrap();
        let updates = |value: i64| vec![vec![value; values as usize]; 5.min(sites as usize)];
        for edge in [most, -most, 0] {
            let all = updates(edge);
            let whole = edge * all.len() as i64;
            assert!(sums(&packing, &all).iter().all(|&sum| sum == whole));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn sums_open_exactly(bits in 1..50u32, n in 1..50_000usize, sites in 1..6usize, word: u64) {
        let most = (1u64 << bits) - 1;
        let packing = Packing::within(most, 10, n as u64).unwrap();
        let value = |site: usize, i: usize| {
            let word = (word ^ (site * n + i) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (word ^ word >> 31).cast_signed() % (most as i64 + 1)
        };
        let updates: Vec<Vec<i64>> =
            (0..sites).map(|site| (0..n).map(|i| value(site, i)).collect()).collect();
        let expected: Vec<i64> =
            (0..n).map(|i| updates.iter().map(|update| update[i]).sum()).collect();
        prop_assert_eq!(sums(&packing, &updates), expected);
    }

    #[test]
    fn bytes_of_a_peer_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut: usize) {
        let packing = Packing::within(100, 3, 10).unwrap();
        let mut sum = Sum::new(packing, &CONTEXT).unwrap();
        prop_assert!(sum.add(&bytes).is_err());
        let mut upload = sealed(&packing, &[1; 10], 1);
        upload.truncate(cut % upload.len());
        prop_assert!(sum.add(&upload).is_err());
        prop_assert_eq!(sum.uploads(), 0);
        prop_assert!(Sum::decode(packing, &CONTEXT, &upload).is_err());
    }
}

#[test]
fn uploads_that_do_not_belong_are_refused() {
    let packing = Packing::within(100, 2, 10).unwrap();
    let upload = sealed(&packing, &[-100; 10], 1);
    let mut sum = Sum::new(packing, &CONTEXT).unwrap();
    let key = key(packing.set());
    assert_eq!(open(&key, &sum), Err(OpenError::Empty));

    let malformed = |error| Err(UploadError::Malformed(error));
    assert_eq!(sum.add(&[]), malformed(DecodeError::Short("digest")));
    assert_eq!(sum.add(&upload[..40]), malformed(DecodeError::Short("seed")));
    assert_eq!(sum.add(&upload[..upload.len() - 1]), malformed(DecodeError::Short("bodies")));
    assert_eq!(sum.add(&[&upload[..], &[0]].concat()), malformed(DecodeError::Trailing));
    for terms in
        [Packing::within(101, 2, 10), Packing::within(100, 3, 10), Packing::within(100, 2, 11)]
    {
        let mut other = Sum::new(terms.unwrap(), &CONTEXT).unwrap();
        assert_eq!(other.add(&upload), Err(UploadError::Context));
    }
    assert_eq!(Sum::new(packing, &[8; 32]).unwrap().add(&upload), Err(UploadError::Context));

    assert_eq!(sum.add(&upload), Ok(()));
    assert_eq!(sum.add(&upload), Err(UploadError::Repeated));
    assert_eq!(sum.add(&sealed(&packing, &[-100; 10], 2)), Ok(()));
    let full = Err(UploadError::Uploads { most: 2 });
    assert_eq!(sum.add(&sealed(&packing, &[0; 10], 3)), full);
    assert_eq!(*open(&key, &sum).unwrap(), [-200; 10]);

    let bytes = sum.encode();
    let decode = |bytes: &[u8]| Sum::decode(packing, &CONTEXT, bytes).map(|sum| sum.uploads());
    assert_eq!(decode(&bytes), Ok(2));
    assert_eq!(decode(&bytes[1..]), Err(UploadError::Context));
    assert_eq!(
        decode(&bytes[..bytes.len() - 1]),
        malformed(DecodeError::Short("words")).map(|()| 0)
    );
    assert_eq!(decode(&[&bytes[..], &[0]].concat()), malformed(DecodeError::Trailing).map(|()| 0));
    for uploads in [0u32, 3, u32::MAX] {
        let mut bytes = bytes.clone();
        bytes[32..36].copy_from_slice(&uploads.to_le_bytes());
        assert_eq!(decode(&bytes), full.map(|()| 0));
    }
}

#[test]
fn what_is_no_sum_does_not_open() {
    let packing = Packing::within(100, 3, 10).unwrap();
    let mut sum = Sum::new(packing, &CONTEXT).unwrap();
    sum.add(&sealed(&packing, &[7; 10], 1)).unwrap();
    let right = key(packing.set());
    let wrong = GroupKey::new(packing.set(), &seed(1)).unwrap();
    assert_eq!(open(&wrong, &sum), Err(OpenError::NoSum));
    let [other] = Set::ALL.into_iter().filter(|&s| s != packing.set()).collect::<Vec<_>>()[..]
    else {
        panic!("two sets")
    };
    assert_eq!(open(&key(other), &sum), Err(OpenError::Key));
    // It says to have two uploads, and counts one.
    let mut bytes = sum.encode();
    bytes[32] = 2;
    let altered = Sum::decode(packing, &CONTEXT, &bytes).unwrap();
    assert_eq!(open(&right, &altered), Err(OpenError::NoSum));
    assert_eq!(*open(&right, &sum).unwrap(), [7; 10]);

    let refused =
        |key: &GroupKey, values: &[i64]| seal(key, &packing, &CONTEXT, values, seed(1)).map(drop);
    assert_eq!(refused(&key(other), &[0; 10]), Err(SealError::Key));
    assert_eq!(refused(&right, &[0; 9]), Err(SealError::Count { given: 9, expected: 10 }));
    for value in [101, -101, i64::MIN, i64::MAX] {
        let mut values = [0; 10];
        values[9] = value;
        assert_eq!(refused(&right, &values), Err(SealError::Value { most: 100 }));
    }
}

/// A seed that comes back with other values gives other masks and noise; with the same, the same.
#[test]
fn seeds_are_bound_to_values() {
    let packing = Packing::within(100, 3, 3).unwrap();
    let upload = |values: &[i64]| sealed(&packing, values, 1);
    let (one, other) = (upload(&[1, 2, 3]), upload(&[1, 2, 4]));
    assert!(one == upload(&[1, 2, 3]));
    assert_eq!(one[..32], other[..32]);
    assert_ne!(one[32..64], other[32..64]);
    let close = |i: &usize| one[HEADER..][8 * i..][..4] == other[HEADER..][8 * i..][..4];
    assert!((0..packing.coefficients() as usize).filter(close).count() < 3);
}

/// The key is the same on every machine and in every release: by its first words.
#[test]
fn the_key_is_pinned() {
    for (set, expected) in [(Set::N2048, PINNED[0]), (Set::N4096, PINNED[1])] {
        let key = key(set);
        let key = key.view();
        let bits = key.as_ref();
        assert!(bits.iter().all(|&bit| bit <= 1));
        let word = (0..64).fold(0, |word, i| word | bits[i] << i);
        assert_eq!(word, expected, "{word:#x}");
        let ones: u64 = bits.iter().sum();
        let half = set.degree() as i64 / 2;
        assert!((ones as i64 - half).pow(2) < 25 * half / 2);
    }
}

const PINNED: [u64; 2] = [0xdc58_baab_0c3f_95a9, 0x971f_b235_1fa1_cae3];

/// b = a·s + e + Δ·m mod 2^64 by the definition, and e as it should be distributed.
#[test]
fn an_upload_is_what_the_definition_says() {
    for (set, most) in [(Set::N2048, (1 << 17) - 1), (Set::N4096, (1 << 23) - 1)] {
        let values = 20_000;
        let packing = Packing::within(most, 10, values).unwrap();
        assert_eq!(packing.set(), set, "{packing:?}");
        let values: Vec<i64> = (0..values as i64).map(|i| (i * 7919) % most as i64).collect();
        let upload = sealed(&packing, &values, 1);
        let masks = MaskSeed(upload[32..64].try_into().unwrap());
        let bodies: Vec<u64> =
            upload[HEADER..].as_chunks().0.iter().map(|&bytes| u64::from_le_bytes(bytes)).collect();
        let mut plain = vec![0; bodies.len()];
        packing.pack(&values, 0, &mut plain);
        let (n, secret) = (set.degree(), key(set));
        let secret = secret.view();
        let ones: Vec<usize> = (0..n).filter(|&i| secret.as_ref()[i] == 1).collect();
        let mut errors = Vec::new();
        let list = seal::LIST * n;
        for (number, (bodies, plain)) in (0..).zip(bodies.chunks(list).zip(plain.chunks(list))) {
            let whole = masks.list(set, number, bodies.to_vec());
            let whole = whole.decompress_into_glwe_ciphertext_list();
            for (block, plain) in whole.as_ref().chunks(2 * n).zip(plain.chunks(n)) {
                let (mask, body) = block.split_at(n);
                for i in 0..n {
                    let product = ones.iter().fold(0u64, |sum, &j| match i.checked_sub(j) {
                        Some(k) => sum.wrapping_add(mask[k]),
                        None => sum.wrapping_sub(mask[n + i - j]),
                    });
                    let error = body[i].wrapping_sub(product).wrapping_sub(plain[i]);
                    errors.push(error.cast_signed());
                }
            }
        }
        let bound = 1i64 << set.noise_bits();
        assert!(errors.iter().all(|error| error.abs() <= bound));
        let count = errors.len() as f64;
        let mean = errors.iter().sum::<i64>() as f64 / count;
        let square = errors.iter().map(|&e| (e * e) as f64).sum::<f64>() / count;
        let variance = (2 * bound * bound + 1) as f64 / 6.0;
        assert!(mean.abs() < 5.0 * (variance / count).sqrt());
        assert!((square / variance - 1.0).abs() < 5.0 / count.sqrt());
    }
}
