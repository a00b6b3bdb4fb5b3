use super::*;
use crate::rlwe::backend::fastest;
use num_bigint::BigUint;
use privet_crypto::Seed;

/// 2^bits · exp(−25 x² / 2048), by the quotient of two sums: 1 / Σ z^k / k!.
fn rho(x: u64, bits: u32) -> BigUint {
    let one = BigUint::from(1u32) << bits;
    let (mut term, mut sum, mut k) = (one.clone(), one.clone(), 1u64);
    while term > BigUint::ZERO {
        term = term * (25 * x * x) / (2048 * k);
        sum += &term;
        k += 1;
    }
    &one * &one / sum
}

/// Probabilities of magnitudes above k, times 2^127: by other means than the table.
fn tails() -> Vec<BigUint> {
    let rho: Vec<BigUint> = (0..=CUT as u64).map(|x| rho(x, 512)).collect();
    let above = |k: usize| rho[k + 1..].iter().sum::<BigUint>() * 2u32;
    let all = &rho[0] + above(0);
    (0..CUT).map(|k| (above(k) << 127) / &all).collect()
}

#[test]
fn thresholds_are_those_of_big_integers() {
    for (k, tail) in tails().into_iter().enumerate() {
        let threshold = u128::from(TABLE.high[k]) << 63 | u128::from(TABLE.low[k]);
        assert_eq!(BigUint::from(threshold), tail, "{k}");
    }
    assert_eq!(TABLE.high.iter().filter(|&&high| high > 0).count(), TABLE.scanned);
}

/// Statistical distance to the law over all integers, with the tail beyond the cut.
#[test]
fn the_law_is_within_2_to_the_minus_120() {
    let all = (0..=200).map(|x| rho(x, 512)).collect::<Vec<_>>();
    let mass = &all[0] + all[1..].iter().sum::<BigUint>() * 2u32;
    let mut distance = BigUint::ZERO;
    let scale = BigUint::from(1u32) << 512u32;
    let ours = |k: usize| match k {
        0 => BigUint::from(1u128 << 127),
        k if k <= CUT => {
            BigUint::from(u128::from(TABLE.high[k - 1]) << 63 | u128::from(TABLE.low[k - 1]))
        }
        _ => BigUint::ZERO,
    };
    for (x, rho) in all.iter().enumerate() {
        let exact = rho * if x == 0 { 1u32 } else { 2 } * &scale / &mass;
        let given = (ours(x) - ours(x + 1)) << (512u32 - 127);
        distance += if exact > given { exact - given } else { given - exact };
    }
    assert!(distance / 2u32 < scale >> 120u32);
}

#[test]
fn backends_agree_and_ties_go_by_the_second_word() {
    for backend in Backend::ALL {
        assert!(agrees(backend), "{backend:?}");
        for words in probes() {
            for second in [0, 1 << 40, u64::MAX / 2, u64::MAX] {
                let mut out = [0; BATCH];
                decide(backend, &words, &mut out, || second);
                for (i, &x) in out.iter().enumerate() {
                    let word = word(&words.as_chunks::<GROUP>().0[i / GROUP], i % GROUP);
                    assert_eq!(x, whole(word, second), "{backend:?} {word:x}");
                }
            }
        }
    }
}

#[test]
fn extreme_words_give_the_ends() {
    assert_eq!([whole(0, 0), whole(1, 0)], [TAIL - 1, 1 - TAIL]);
    assert_eq!([whole(u64::MAX, 0), whole(u64::MAX - 1, u64::MAX)], [0, 0]);
}

#[test]
fn the_same_words_give_the_same_samples_of_any_number() {
    for n in [0, 1, 31, 1023, 1024, 1025, 4000] {
        let draw = |backend| {
            let mut out = vec![0; n];
            fill(backend, &mut Words::new(&Seed::from_bytes([3; 32])), &mut out);
            out
        };
        let expected = draw(Backend::Scalar);
        assert!(Backend::ALL.iter().all(|&backend| draw(backend) == expected));
    }
}

fn samples(n: usize, seed: u8) -> Vec<i8> {
    let mut out = vec![0; n];
    fill(fastest(), &mut Words::new(&Seed::from_bytes([seed; 32])), &mut out);
    out
}

#[test]
fn frequencies_fit_the_law() {
    const N: usize = 4_000_000;
    let mut counts = [0u32; 2 * CUT + 1];
    for x in samples(N, 11) {
        counts[(i32::from(x) + CUT as i32) as usize] += 1;
    }
    let rho = |x: f64| (-x * x / (2.0 * SIGMA * SIGMA)).exp();
    let mass: f64 = (-84..=84).map(|x| rho(f64::from(x))).sum();
    // Cells down to 100 expected; the rest of each side in one.
    let expected = |x: i32| rho(f64::from(x)) / mass * N as f64;
    let edge = (1..).find(|&x| expected(x) < 100.0).unwrap();
    let mut chi = 0.0;
    let cell = |seen: f64, expected: f64| (seen - expected).powi(2) / expected;
    let seen = |x: i32| f64::from(counts[(x + CUT as i32) as usize]);
    for x in 1 - edge..edge {
        chi += cell(seen(x), expected(x));
    }
    let side: f64 = (edge..=84).map(expected).sum();
    chi += cell((edge..=84).map(seen).sum(), side) + cell((-84..=-edge).map(seen).sum(), side);
    let freedom = f64::from(2 * edge);
    assert!((chi - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(), "{chi} of {freedom}");
}

#[test]
fn variance_is_sigma_squared_and_half_of_it_once_a_sum_is_known() {
    let (a, b) = (samples(2_000_000, 12), samples(2_000_000, 13));
    let variance = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
    let all: Vec<f64> = a.iter().map(|&x| f64::from(x)).collect();
    let error = 6.0 * (2.0 / all.len() as f64).sqrt();
    assert!((variance(&all) / SIGMA.powi(2) - 1.0).abs() < error);
    for sum in [0, 1, 6, -9] {
        let given: Vec<f64> = (a.iter().zip(&b))
            .filter(|&(&a, &b)| i32::from(a) + i32::from(b) == sum)
            .map(|(&a, _)| f64::from(a) - f64::from(sum) / 2.0)
            .collect();
        let error = 6.0 * (2.0 / given.len() as f64).sqrt();
        assert!((variance(&given) / (SIGMA.powi(2) / 2.0) - 1.0).abs() < error, "{sum}");
    }
}

/// Zeros against numbers in the tail, by the quickest of many runs of each. Run with `--release --
/// --ignored`, on an idle machine.
#[test]
#[ignore = "a measurement of time"]
fn time_does_not_tell_magnitudes() {
    let batches = [laid_out(&[u64::MAX - 7; BATCH]), laid_out(&[1 << 20; BATCH])];
    for backend in Backend::ALL {
        let (mut best, mut out) = ([f64::MAX; 2], [0; BATCH]);
        for run in 0..40_000 {
            let start = std::time::Instant::now();
            for _ in 0..4 {
                assert!(!scan(backend, std::hint::black_box(&batches[run % 2]), &mut out));
            }
            best[run % 2] = start.elapsed().as_secs_f64().min(best[run % 2]);
        }
        assert!((best[0] / best[1] - 1.0).abs() < 0.02, "{backend:?} {best:?}");
    }
}
