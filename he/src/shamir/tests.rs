use super::*;
use privet_crypto::Seed;
use proptest::prelude::*;

fn words(seed: u8) -> Words {
    Words::new(&Seed::from_bytes([seed; 32]))
}

/// A key, another for each site.
fn key(site: u32, len: usize) -> Vec<i8> {
    (0..len as i64).map(|i| ((i * 37 + i64::from(site) * (101 + i)) % 169 - 84) as i8).collect()
}

/// What each of `sites` receivers holds after all have dealt, and the sum of the keys.
fn round(sites: usize, threshold: usize, len: usize) -> (Vec<(u32, Share)>, Vec<i32>) {
    let mut words = words(1);
    let mut held: Vec<Share> = Vec::new();
    let mut sum = vec![0; len];
    for site in 0..sites as u32 {
        let key = key(site, len);
        sum.iter_mut().zip(&key).for_each(|(sum, &s)| *sum += i32::from(s));
        let shares = deal(&key, threshold, sites, &mut words).unwrap();
        if held.is_empty() {
            held = shares;
        } else {
            held.iter_mut().zip(&shares).for_each(|(sum, share)| sum.add(share).unwrap());
        }
    }
    ((1..).zip(held).collect(), sum)
}

fn copy(share: &Share) -> Share {
    Share(share.0.clone())
}

fn pick(held: &[(u32, Share)], chosen: impl Fn(usize) -> bool) -> Vec<(u32, Share)> {
    let chosen = held.iter().enumerate().filter(|(i, _)| chosen(*i));
    chosen.map(|(_, (point, share))| (*point, copy(share))).collect()
}

#[test]
fn any_threshold_of_the_sites_rebuild_the_sum_and_fewer_do_not() {
    for sites in 1..=6 {
        for threshold in 1..=sites {
            let (held, sum) = round(sites, threshold, 150);
            for subset in 0u32..1 << sites {
                let answers = pick(&held, |i| subset >> i & 1 == 1);
                let got = reconstruct(&answers, threshold, sites as u32);
                if answers.len() < threshold {
                    assert_eq!(got, Err(ShamirError::TooFew));
                } else {
                    assert_eq!(got.as_ref(), Ok(&sum));
                }
            }
        }
    }
}

#[test]
fn order_does_not_matter_and_the_largest_round_is_exact() {
    let sites = MAX_SITES as usize;
    for s in [84, -84] {
        let mut shares = deal(&[s; 3], 200, sites, &mut words(2)).unwrap();
        // One dealer's share, added once for each site: all keys at their largest.
        for share in &mut shares {
            let once = copy(share);
            (1..sites).for_each(|_| share.add(&once).unwrap());
        }
        let answers: Vec<_> = (1..).zip(shares).skip(160).collect();
        let answers: Vec<_> = answers.into_iter().rev().collect();
        let expected = vec![i32::from(s) * 390; 3];
        assert_eq!(reconstruct(&answers, 200, MAX_SITES), Ok(expected));
        assert_eq!(reconstruct(&answers, 200, MAX_SITES - 1), Err(ShamirError::SumOutOfRange));
    }
}

/// With t = 2 one share says nothing: over all polynomials through a secret, it takes every value
/// of the field exactly once, at every point and for every secret.
#[test]
fn a_share_below_the_threshold_is_exactly_uniform() {
    for secret in [0, 1, 84, FIELD - 84] {
        for point in [1, 2, 390] {
            let (mut seen, mut values) = (vec![false; FIELD as usize], [0; STRIP]);
            for first in (0..FIELD).step_by(STRIP) {
                let row = std::array::from_fn(|i| canonical((first + i as u32).min(FIELD)));
                evaluate(&[[secret; STRIP], row], point, &mut values);
                for &value in &values[..STRIP.min((FIELD - first) as usize)] {
                    assert!(!std::mem::replace(&mut seen[value as usize], true));
                }
            }
            assert!(seen.iter().all(|&seen| seen));
        }
    }
}

/// Two of three shares, t = 3: the pairs' top bits against the uniform distribution. 255 degrees
/// of freedom; 360 is beyond 4.6 standard deviations.
#[test]
fn shares_below_the_threshold_are_jointly_uniform() {
    let mut words = words(3);
    for secret in [-84, 0, 84] {
        let shares = deal(&vec![secret; 1 << 16], 3, 3, &mut words).unwrap();
        let mut counts = [0u32; 256];
        for (a, b) in shares[0].0.iter().zip(shares[2].0.iter()) {
            counts[((a >> 12).min(15) << 4 | (b >> 12).min(15)) as usize] += 1;
        }
        let chi2: f64 = counts.iter().map(|&n| (f64::from(n) - 256.0).powi(2) / 256.0).sum();
        assert!(chi2 < 360.0, "{chi2}");
    }
}

#[test]
fn uniform_elements_are_all_there() {
    let mut out = vec![0; 1 << 16];
    let mut words = words(5);
    let mut counts = vec![0u32; FIELD as usize];
    for _ in 0..64 {
        fill_uniform(&mut out, &mut words);
        out.iter().for_each(|&value| counts[value as usize] += 1);
    }
    let mean = 64.0 * 65536.0 / 65537.0;
    let chi2: f64 = counts.iter().map(|&n| (f64::from(n) - mean).powi(2) / mean).sum();
    // 65536 degrees of freedom: ± 5 standard deviations of 362.
    assert!((63_726.0..67_346.0).contains(&chi2), "{chi2}");
    assert!(counts[65_536] > 20, "65536 is drawn as often as any other");
    // 2^32 − 1 is the only candidate refused; its neighbours are the ends of a full cycle.
    assert_eq!(canonical(fold(u32::MAX - 1)), 65_536);
    assert_eq!(canonical(fold(0)), 0);
}

#[test]
fn a_wrong_answer_or_a_wrong_dealer_is_seen_and_nobody_named() {
    let (mut held, _) = round(6, 4, 40);
    held[2].1.0[17] = canonical(held[2].1.0[17] + 1);
    assert_eq!(reconstruct(&held, 4, 6), Err(ShamirError::Inconsistent));

    // A dealer of too high a degree: every receiver answers honestly.
    let (mut held, _) = round(6, 4, 40);
    let dealt = deal(&key(9, 40), 5, 6, &mut words(6)).unwrap();
    held.iter_mut().zip(&dealt).for_each(|((_, sum), share)| sum.add(share).unwrap());
    assert_eq!(reconstruct(&held, 4, 6), Err(ShamirError::Inconsistent));

    // Without an answer more than needed the range alone can tell, and here it does.
    let answers = pick(&held, |i| i < 4);
    assert_eq!(reconstruct(&answers, 4, 6), Err(ShamirError::SumOutOfRange));
}

#[test]
fn arguments_out_of_range_are_refused() {
    let mut words = words(7);
    let mut refused = |key: &[i8], t, n| deal(key, t, n, &mut words).err();
    assert_eq!(refused(&[0], 0, 3), Some(ShamirError::Threshold));
    assert_eq!(refused(&[0], 4, 3), Some(ShamirError::Threshold));
    assert_eq!(refused(&[0], 1, 0), Some(ShamirError::Sites));
    assert_eq!(refused(&[0], 1, 391), Some(ShamirError::Sites));
    assert_eq!(refused(&[85], 1, 1), Some(ShamirError::KeyOutOfRange));
    assert_eq!(refused(&[-128], 1, 1), Some(ShamirError::KeyOutOfRange));
    assert_eq!(refused(&[84, -84], 1, 390), None);

    let (mut held, _) = round(3, 2, 8);
    assert_eq!(reconstruct(&held, 2, 0), Err(ShamirError::Sites));
    assert_eq!(reconstruct(&held, 2, 391), Err(ShamirError::Sites));
    assert_eq!(reconstruct(&held, 0, 3), Err(ShamirError::Threshold));
    assert_eq!(reconstruct(&held, 4, 3), Err(ShamirError::TooFew));
    assert_eq!(reconstruct(&held, usize::MAX, 3), Err(ShamirError::TooFew));
    assert_eq!(reconstruct(&[], 1, 3), Err(ShamirError::TooFew));
    for point in [0, 2, 391, u32::MAX] {
        held[0].0 = point;
        assert_eq!(reconstruct(&held, 2, 3), Err(ShamirError::Points));
    }
    held[0].0 = 1;
    held[2].1.0.pop();
    assert_eq!(reconstruct(&held, 2, 3), Err(ShamirError::Length));
    let (mut two, _) = round(2, 1, 7);
    assert_eq!(two[0].1.add(&held[0].1), Err(ShamirError::Length));
}

fn packed(values: &[u32]) -> Vec<u8> {
    Share(Zeroizing::new(values.to_vec())).encode().to_vec()
}

#[test]
fn the_encoding_is_strict() {
    assert_eq!(Share::encoded_len(2048), 4352);
    assert_eq!(packed(&[0; 2048]).len(), 4352);
    let error = |bytes: &[u8], len| Share::decode(bytes, len).err();
    assert_eq!(error(&packed(&[1, 65_536, 3]), 3), None);
    for beyond in [65_537, 65_538, 131_071] {
        assert_eq!(error(&packed(&[1, beyond, 3]), 3), Some(DecodeError::Invalid("share")));
    }
    let bytes = packed(&[5; 3]);
    assert_eq!(error(&bytes[..6], 3), Some(DecodeError::Short("share")));
    assert_eq!(error(&bytes, 4), Some(DecodeError::Short("share")));
    assert_eq!(error(&bytes, 2), Some(DecodeError::Trailing));
    let mut padded = bytes;
    padded[6] |= 0x80;
    assert_eq!(error(&padded, 3), Some(DecodeError::Invalid("share padding")));
    assert_eq!(error(&[], 0), None);
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(values in prop::collection::vec(0..FIELD, 0..70)) {
        let bytes = packed(&values);
        prop_assert_eq!(bytes.len(), Share::encoded_len(values.len()));
        let share = Share::decode(&bytes, values.len()).unwrap();
        prop_assert_eq!(&*share.0, &values);
    }

    #[test]
    fn a_decoder_returns_what_encodes_to_the_same_bytes(
        bytes in prop::collection::vec(any::<u8>(), 0..40), len in 0usize..20,
    ) {
        if let Ok(share) = Share::decode(&bytes, len) {
            prop_assert_eq!(&*share.encode(), &bytes);
        }
    }

    #[test]
    fn arithmetic_is_that_of_the_field(v: u32, a in 0..FIELD, b in 0..FIELD) {
        prop_assert_eq!(canonical(fold(v)), v % FIELD);
        prop_assert_eq!(canonical(a + b), (a + b) % FIELD);
    }
}
