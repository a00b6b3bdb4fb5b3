use proptest::prelude::*;

use super::*;

const CONTEXT: [u8; 32] = [9; 32];
const SETS: [Set; 2] = [Set::Narrow, Set::Wide];

fn seed(number: u8) -> Seed {
    Seed::from_bytes([number; 32])
}

fn key(ring: &Ring, site: u8) -> Key {
    Key::sample(ring, &mut Words::new(&seed(site).derive("key", 0)))
}

fn sealed(ring: &Ring, site: u8, messages: &[i64]) -> Vec<u32> {
    let mut out = vec![0; ring.set().blocks(messages.len()) * ring.set().block()];
    Sealer::new(ring, &CONTEXT, key(ring, site), seed(site)).seal(messages, &mut out).unwrap();
    out
}

/// The errors that [`sealed`] uses.
fn errors(ring: &Ring, site: u8, n: usize) -> Vec<i64> {
    let mut all = Vec::new();
    for block in 0..ring.set().blocks(n) as u64 {
        let mut errors = vec![0; ring.set().degree()];
        let mut words = Words::new(&seed(site).derive(ERRORS, block));
        gaussian::fill(ring.backend(), &mut words, &mut errors);
        all.extend(errors.into_iter().map(i64::from));
    }
    all.truncate(n);
    all
}

fn opener<'r>(ring: &'r Ring, sites: &[u8]) -> Opener<'r> {
    let mut sum = vec![0; ring.set().degree()];
    for &site in sites {
        for (sum, &x) in sum.iter_mut().zip(key(ring, site).coefficients()) {
            *sum += i32::from(x);
        }
    }
    Opener::new(ring, &CONTEXT, KeySum::new(ring, sites.len() as u32, &sum).unwrap())
}

/// Seals for each site, adds, opens, and compares with Σ (m + e).
fn check(ring: &Ring, messages: &[Vec<i64>]) {
    let n = messages[0].len();
    let sites: Vec<u8> = (1..=messages.len() as u8).collect();
    let mut sum = vec![0; ring.set().blocks(n) * ring.set().block()];
    let mut expected = vec![0; n];
    for (&site, messages) in sites.iter().zip(messages) {
        add_into(ring, &mut sum, &sealed(ring, site, messages)).unwrap();
        let terms = messages.iter().zip(errors(ring, site, n));
        expected.iter_mut().zip(terms).for_each(|(sum, (m, e))| *sum += m + e);
    }
    let mut opened = vec![0; n];
    opener(ring, &sites).open(0, &sum, &mut opened).unwrap();
    assert_eq!(opened, expected);
}

#[test]
fn extreme_sums_open_exactly() {
    for set in SETS {
        for backend in Backend::ALL {
            let ring = Ring::with(set, backend);
            for sites in [1, 2, 7] {
                // As large as it may be for all errors to fit.
                let most = (set.bound() - sites * i64::from(gaussian::TAIL)) / sites;
                for edge in [most, -most, 0] {
                    check(&ring, &vec![vec![edge; set.degree() + 3]; sites as usize]);
                }
            }
            // One at the bound, and the other takes it back.
            let (m, far) = (set.bound(), vec![set.bound(); 5]);
            check(&ring, &[far, vec![-m; 5]]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn sums_open_exactly(wide: bool, n in 1..6000usize, sites in 1..5usize, words: u64) {
        let set = SETS[usize::from(wide)];
        let most = set.bound() / sites as i64 - i64::from(gaussian::TAIL);
        let message = |site: usize, i: usize| {
            let word = (words ^ (site * n + i) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (word ^ word >> 31).cast_signed() % (most + 1)
        };
        let messages = (0..sites).map(|site| (0..n).map(|i| message(site, i)).collect());
        check(&Ring::new(set), &messages.collect::<Vec<_>>());
    }
}

#[test]
fn backends_threads_and_portions_give_the_same_bits() {
    for set in SETS {
        let n = 3 * set.degree() + 17;
        let messages: Vec<i64> = (0..n as i64).map(|i| i * 1001 - 7_000_000).collect();
        let expected = sealed(&Ring::with(set, Backend::Scalar), 1, &messages);
        for backend in Backend::ALL {
            assert!(agrees(backend));
            let ring = Ring::with(set, backend);
            assert!(sealed(&ring, 1, &messages) == expected, "{backend:?}");
            let sealer = || Sealer::new(&ring, &CONTEXT, key(&ring, 1), seed(1));
            let mut out = vec![0; expected.len()];
            sealer().par_seal(&messages, &mut out).unwrap();
            assert!(out == expected);
            let (mut parts, mut out) = (sealer(), vec![0; expected.len()]);
            let (m, c) = (messages.split_at(set.degree()), out.split_at_mut(set.block()));
            parts.seal(m.0, c.0).unwrap();
            parts.seal(m.1, c.1).unwrap();
            assert!(out == expected);
            let (mut opener, mut sums) = (opener(&ring, &[1]), vec![vec![0; n]; 3]);
            opener.open(0, &out, &mut sums[0]).unwrap();
            opener.par_open(0, &out, &mut sums[1]).unwrap();
            let (a, b) = sums[2].split_at_mut(set.degree());
            opener.open(1, &out[set.block()..], b).unwrap();
            opener.open(0, &out[..set.block()], a).unwrap();
            assert!(sums[1] == sums[0] && sums[2] == sums[0]);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    for set in SETS {
        let ring = Ring::new(set);
        let mut sealer = Sealer::new(&ring, &CONTEXT, key(&ring, 1), seed(1));
        let mut out = vec![0; set.block()];
        let expected = set.block();
        let length = |given| Err(RingError::Length { given, expected });
        assert_eq!(sealer.seal(&[], &mut []), Ok(()));
        assert_eq!(sealer.seal(&[1], &mut out[1..]), length(expected - 1));
        assert_eq!(sealer.seal(&[1], &mut []), length(0));
        assert_eq!(sealer.par_seal(&[1], &mut []), length(0));
        let bound = set.bound();
        for message in [bound + 1, -bound - 1, i64::MAX, i64::MIN] {
            assert_eq!(sealer.seal(&[0, message], &mut out), Err(RingError::Message { bound }));
        }
        assert_eq!(sealer.seal(&[bound, -bound], &mut out), Ok(()));

        let mut opener = opener(&ring, &[1]);
        assert_eq!(opener.open(0, &[], &mut []), Ok(()));
        assert_eq!(opener.open(0, &out[1..], &mut [0]), length(expected - 1));
        assert_eq!(opener.par_open(0, &[], &mut [0]), length(0));
        *out.last_mut().unwrap() = *set.primes().last().unwrap();
        assert_eq!(opener.open(0, &out, &mut [0]), Err(RingError::Residue));
    }
}

#[test]
fn an_upload_that_is_no_ciphertext_leaves_the_sum_as_it_was() {
    for set in SETS {
        for backend in Backend::ALL {
            let ring = Ring::with(set, backend);
            let primes = set.primes().iter().cycle();
            let ends: Vec<u32> = (0..3 * set.block())
                .map(|i| primes.clone().nth(i / set.degree()).unwrap() - 1)
                .collect();
            let mut sum = ends.clone();
            assert_eq!(add_into(&ring, &mut sum, &ends), Ok(()));
            let twice = sum.clone();
            assert!(sum.iter().zip(&ends).all(|(sum, end)| *sum == end - 1));
            for (i, bad) in [
                (0, u32::MAX),
                (set.block() + 5, 1 << 31),
                (3 * set.block() - 1, ends[ends.len() - 1] + 1),
            ] {
                let mut upload = ends.clone();
                upload[i] = bad;
                assert_eq!(add_into(&ring, &mut sum, &upload), Err(RingError::Residue));
                assert!(sum == twice);
            }
        }
        let ring = Ring::new(set);
        assert_eq!(add_into(&ring, &mut [], &[]), Ok(()));
        assert!(add_into(&ring, &mut [0; 4], &[0; 3]).is_err());
        assert!(add_into(&ring, &mut [0; 4], &[0; 4]).is_err());
    }
}

/// A wrong key opens to noise over the whole range, not to something near.
#[test]
fn another_key_or_context_opens_nothing() {
    let ring = Ring::new(Set::Narrow);
    let upload = sealed(&ring, 1, &[0; 2048]);
    let large = |mut opener: Opener<'_>| {
        let mut sums = vec![0; 2048];
        opener.open(0, &upload, &mut sums).unwrap();
        sums.iter().filter(|sum| sum.abs() > 1 << 28).count()
    };
    assert_eq!(large(opener(&ring, &[1])), 0);
    assert!(large(opener(&ring, &[2])) > 1300);
    let sum: Vec<i32> = key(&ring, 1).coefficients().iter().map(|&x| x.into()).collect();
    let other = Opener::new(&ring, &[0; 32], KeySum::new(&ring, 1, &sum).unwrap());
    assert!(large(other) > 1300);
}
