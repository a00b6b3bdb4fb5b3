use super::*;
use crate::coding::encoding::{Encoding, MIN_PADS, Precision};
use crate::coding::header::{Header, MAX_WEIGHT};
use crate::coding::params::{CUT, MAX_SITES};
use crate::mac::{MacKey, TAGS};
use crate::rlwe::Set;
use privet_crypto::{Digest, Seed};
use proptest::prelude::*;

/// Opened blocks: what an honest opening of a sum gives, one vector a block.
type Blocks = Vec<Vec<i64>>;

fn key() -> MacKey {
    MacKey::new(&Seed::from_bytes([1; 32]), &Digest([2; 32]))
}

fn encode(layout: &Layout, header: &Header, values: &[i64]) -> (Blocks, usize) {
    let mut clamped = 0;
    let block = |block| {
        let mut out = vec![77; layout.encoding().set().degree()];
        clamped += layout.encode(block, header, &values[layout.range(block)], &mut out).unwrap();
        out
    };
    ((0..layout.blocks()).map(block).collect(), clamped)
}

/// Adds the error to each coefficient and reduces as the ring does, to a centred residue.
fn open(layout: &Layout, uploads: &[Blocks], mut error: impl FnMut(usize) -> i64) -> Blocks {
    let modulus = i128::from(layout.encoding().set().modulus());
    let coefficient = |block: usize, i: usize| {
        let sum: i128 = uploads.iter().map(|upload| i128::from(upload[block][i])).sum();
        let residue = (sum + i128::from(error(block * 4096 + i))).rem_euclid(modulus);
        (if residue > modulus / 2 { residue - modulus } else { residue }) as i64
    };
    let mut coefficient = coefficient;
    (0..layout.blocks() as usize)
        .map(|block| (0..uploads[0][block].len()).map(|i| coefficient(block, i)).collect())
        .collect()
}

fn decode(
    layout: Layout,
    survivors: u32,
    opened: &Blocks,
) -> Result<(HeaderSum, Vec<i64>), LayoutError> {
    let mut decoder = Decoder::new(layout, survivors)?;
    let mut sums = Vec::new();
    opened.iter().try_for_each(|block| decoder.block(block, &mut sums))?;
    Ok((decoder.finish()?, sums))
}

fn verified(header: &HeaderSum, sums: &[i64], sites: &[u32]) -> Result<(), LayoutError> {
    let mut check = header.check(&key())?;
    check.update(sums)?;
    check.finish(sites)
}

fn header(layout: &Layout, site: u32, weight: u64, values: &[i64]) -> Header {
    if layout.authenticated() {
        layout.tagged_header(weight, values, &key(), site).unwrap()
    } else {
        layout.header(weight).unwrap()
    }
}

/// A round of three sites out of four, with tags, and its opened blocks.
fn round(values: u64, bits: u32) -> (Layout, Blocks) {
    let layout = Layout::new(Encoding::best(4, values, Some(bits)).unwrap(), true).unwrap();
    let uploads: Vec<_> = [0, 1, 3]
        .map(|site| {
            let values: Vec<_> = (0..values as i64).map(|j| j * (site + 1) % 7 - 3).collect();
            encode(&layout, &header(&layout, site as u32, 10, &values), &values).0
        })
        .into();
    let opened = open(&layout, &uploads, |i| i as i64 % 9 - 4);
    (layout, opened)
}

/// Every value at its largest, of every site, in every slot, of either sign.
#[test]
fn the_largest_sums_come_back_and_the_worst_errors_do_not_wrap() {
    for sites in [1, 2, 10, 100, MAX_SITES] {
        for bits in [2, 5, 8, 12, 18, 30] {
            let values = 5000;
            let Ok(encoding) = Encoding::best(sites, values, Some(bits)) else {
                assert!(bits == 30);
                continue;
            };
            largest(encoding, sites);
            let most = (1 << (bits - 1)) - 1;
            let rough = Encoding::cheapest(Precision::Approximate, most, sites, values).unwrap();
            assert!(rough.bytes() <= encoding.bytes());
            largest(rough, sites);
        }
        for set in Set::ALL {
            for precision in [Precision::Exact, Precision::Approximate] {
                largest(Encoding::finest(set, precision, sites, 5000).unwrap(), sites);
            }
        }
    }
}

fn largest(encoding: Encoding, sites: u32) {
    let layout = Layout::new(encoding, false).unwrap();
    let most = encoding.most() as i64;
    let patterns: [fn(usize) -> i64; 3] = [|_| 1, |_| -1, |j| if j % 2 == 0 { 1 } else { -1 }];
    for pattern in patterns {
        let values: Vec<_> = (0..5000).map(|j| most * pattern(j)).collect();
        let (upload, clamped) = encode(&layout, &layout.header(MAX_WEIGHT).unwrap(), &values);
        assert_eq!(clamped, 0);
        let expected: Vec<_> = values.iter().map(|v| v * i64::from(sites)).collect();
        // The sum of all sites is one upload times their number.
        let times = |by: i64| -> Blocks {
            upload.iter().map(|block| block.iter().map(|c| c * by).collect()).collect()
        };
        let all = [times(i64::from(sites))];

        let reach = (encoding.header_delta() as i64 - 1) / 2;
        let worst = i64::from(sites) * CUT as i64;
        for error in [-reach.min(worst), 0, reach.min(worst)] {
            let (header, sums) = decode(layout, sites, &open(&layout, &all, |_| error)).unwrap();
            assert_eq!((header.survivors, header.tags), (sites, None));
            assert_eq!(header.weight, u64::from(sites) * MAX_WEIGHT);
            match encoding.precision() {
                Precision::Exact => assert_eq!(sums, expected),
                // An error stays in the first number of each coefficient.
                Precision::Approximate => {
                    let slots = encoding.slots() as usize;
                    let left = |at: usize| if at.is_multiple_of(slots) { error } else { 0 };
                    let mut both = sums.iter().zip(&expected).enumerate();
                    assert!(both.all(|(at, (got, sum))| got - sum == left(at)));
                }
            }
        }
        // The worst errors at once: the residue is still the integer, without a wrap.
        for error in [-worst, worst] {
            let opened = open(&layout, &all, |_| error);
            for (opened, sum) in opened.iter().flatten().zip(all[0].iter().flatten()) {
                assert_eq!(opened - sum, error);
            }
        }
    }
}

#[test]
fn layouts_have_pads_and_the_blocks_that_their_encoding_says() {
    for sites in [1, 2, 10, 390] {
        for values in [1, 2040, 2048, 8192, 100_000] {
            for bits in [4, 8, 12, 16] {
                for mac in [false, true] {
                    let encoding = Encoding::best(sites, values, Some(bits)).unwrap();
                    let layout = Layout::new(encoding, mac).unwrap();
                    assert!(layout.header_len() as u64 <= crate::coding::encoding::MAX_HEADER);
                    let degree = encoding.set().degree() as u64;
                    assert!(layout.blocks() * degree >= layout.value_end() + MIN_PADS);
                    let bytes = layout.blocks() * degree * encoding.set().coefficient_bytes();
                    assert!(bytes <= encoding.bytes());
                }
            }
        }
    }
}

#[test]
fn an_honest_sum_is_verified_and_a_forged_one_is_not() {
    let (layout, opened) = round(5000, 8);
    let (header, sums) = decode(layout, 3, &opened).unwrap();
    assert_eq!((header.survivors, header.weight), (3, 30));
    assert_eq!(verified(&header, &sums, &[0, 1, 3]), Ok(()));
    let refused = Err(LayoutError::Mac(crate::mac::MacError::Mismatch));
    assert_eq!(verified(&header, &sums, &[0, 1, 2]), refused);
    assert_eq!(verified(&header, &sums, &[0, 1]), Err(LayoutError::CountMismatch));
    assert_eq!(verified(&header, &sums[1..], &[0, 1, 3]), refused);
    let zero = HeaderSum { weight: 0, tags: Some([0; TAGS]), ..header };
    assert_eq!(verified(&zero, &vec![0; sums.len()], &[0, 1, 3]), refused);
    assert_eq!(verified(&HeaderSum { weight: 31, ..header }, &sums, &[0, 1, 3]), refused);
    let none = HeaderSum { tags: None, ..header };
    assert_eq!(verified(&none, &sums, &[0, 1, 3]), Err(LayoutError::Tags));
    let odd = HeaderSum { weight: u64::MAX, survivors: 3, tags: Some([u64::MAX; TAGS]) };
    assert!(verified(&odd, &vec![i64::MIN; sums.len()], &[0, 1, 3]).is_err());
}

#[test]
fn each_check_has_its_error() {
    let (layout, honest) = round(5000, 8);
    let delta = layout.encoding().header_delta() as i64;
    let error = |block: usize, i: usize, by: i64| {
        let mut opened = honest.clone();
        opened[block][i] += by * delta;
        decode(layout, 3, &opened).err().unwrap()
    };
    assert_eq!(decode(layout, 2, &honest), Err(LayoutError::CountMismatch));
    assert_eq!(decode(layout, 4, &honest), Err(LayoutError::CountMismatch));
    assert_eq!(decode(layout, 0, &honest), Err(LayoutError::Sites));
    assert_eq!(decode(layout, 5, &honest), Err(LayoutError::Sites));
    assert_eq!(error(0, 1, 1), LayoutError::CountMismatch);
    assert_eq!(error(0, 0, -1), LayoutError::VersionMismatch);
    assert_eq!(error(0, 2, -31), LayoutError::SumOutOfRange);
    let last = honest.len() - 1;
    assert_eq!(error(last, honest[last].len() - 1, 1), LayoutError::PadsNonzero);
    assert_eq!(error(last, honest[last].len() - MIN_PADS as usize, -1), LayoutError::PadsNonzero);
    // The low slot of a value: more than three sites' values, though not more than four's.
    assert_eq!(error(0, layout.header_len(), 450), LayoutError::SumOutOfRange);

    let mut decoder = Decoder::new(layout, 3).unwrap();
    let mut sums = Vec::new();
    assert_eq!(decoder.block(&honest[0][1..], &mut sums), Err(LayoutError::Shape));
    for block in &honest {
        decoder.block(block, &mut sums).unwrap();
    }
    assert_eq!(decoder.block(&honest[0], &mut sums), Err(LayoutError::Shape));
    assert!(decoder.finish().is_ok());
    let empty = Decoder::new(layout, 3).unwrap();
    assert_eq!(empty.finish(), Err(LayoutError::Shape));
}

/// Slots of the last coefficient that hold no value are pads as well.
#[test]
fn slots_beyond_the_last_value_are_pads() {
    let (layout, mut opened) = round(4999, 8);
    let encoding = *layout.encoding();
    assert!(encoding.slots() > 1 && 4999 % u64::from(encoding.slots()) != 0);
    assert!(decode(layout, 3, &opened).is_ok());
    let top = encoding.base().pow(encoding.slots() - 1) * encoding.delta();
    let last = layout.value_end() as usize - 1;
    let degree = encoding.set().degree();
    opened[last / degree][last % degree] += top as i64;
    assert_eq!(decode(layout, 3, &opened), Err(LayoutError::PadsNonzero));
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let exact = Encoding::best(4, 100, Some(8)).unwrap();
    let approximate = Encoding::finest(Set::Narrow, Precision::Approximate, 4, 100).unwrap();
    assert_eq!(Layout::new(approximate, true), Err(LayoutError::MacNeedsExact));
    let (with, without) = (Layout::new(exact, true).unwrap(), Layout::new(exact, false).unwrap());
    let values = [0i64; 100];
    let tagged = with.tagged_header(1, &values, &key(), 0).unwrap();
    let plain = without.header(1).unwrap();
    assert_eq!(with.header(1).err(), Some(LayoutError::Tags));
    assert_eq!(without.tagged_header(1, &values, &key(), 0).err(), Some(LayoutError::Tags));
    assert_eq!(without.header(MAX_WEIGHT + 1).err(), Some(LayoutError::Weight));
    assert_eq!(with.tagged_header(1, &values[1..], &key(), 0).err(), Some(LayoutError::Shape));

    let mut out = [0; 2048];
    assert_eq!(with.encode(0, &plain, &values, &mut out), Err(LayoutError::Tags));
    assert_eq!(without.encode(0, &tagged, &values, &mut out), Err(LayoutError::Tags));
    assert_eq!(with.encode(0, &tagged, &values[1..], &mut out), Err(LayoutError::Shape));
    assert_eq!(with.encode(1, &tagged, &values, &mut out), Err(LayoutError::Shape));
    assert_eq!(with.encode(0, &tagged, &values, &mut out[1..]), Err(LayoutError::Shape));
    assert_eq!(with.encode(0, &tagged, &values, &mut out), Ok(0));
}

#[test]
fn values_beyond_the_bound_are_clamped_and_counted_and_tagged_as_clamped() {
    let layout = Layout::new(Encoding::best(1, 6, Some(8)).unwrap(), true).unwrap();
    let most = layout.encoding().most() as i64;
    let values = [i64::MIN, -most - 1, -most, most, most + 1, i64::MAX];
    let header = header(&layout, 5, 0, &values);
    let (upload, clamped) = encode(&layout, &header, &values);
    assert_eq!(clamped, 4);
    let (header, sums) = decode(layout, 1, &open(&layout, &[upload], |_| 0)).unwrap();
    assert_eq!(sums, [-most, -most, -most, most, most, most]);
    assert_eq!(verified(&header, &sums, &[5]), Ok(()));
}

/// What a wrong key opens to is uniform; some check always fails.
#[test]
fn a_wrong_key_is_always_seen() {
    let (layout, honest) = round(5000, 8);
    let half = layout.encoding().set().bound().unsigned_abs() as i64;
    let mut words = privet_crypto::Words::chacha(&Seed::from_bytes([3; 32]));
    for _ in 0..200 {
        let mut uniform = || (words.word() % (2 * half as u64 + 1)) as i64 - half;
        let opened: Blocks =
            honest.iter().map(|block| block.iter().map(|_| uniform()).collect()).collect();
        assert!(decode(layout, 3, &opened).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_encoded_is_decoded(
        sites in 1u32..40, gone in 0u32..40, values in 1u64..6000, bits in 2u32..20,
        mac: bool, seed: [u8; 32], weight in 0..=MAX_WEIGHT,
    ) {
        let survivors: Vec<u32> = (0..sites).skip(gone.min(sites - 1).min(20) as usize).collect();
        let survivors = &survivors[survivors.len().saturating_sub(6)..];
        let encoding = Encoding::best(sites, values, Some(bits)).unwrap();
        let layout = Layout::new(encoding, mac).unwrap();
        let mut words = privet_crypto::Words::chacha(&Seed::from_bytes(seed));
        let (most, mut expected) = (encoding.most(), vec![0; values as usize]);
        let uploads: Vec<Blocks> = survivors
            .iter()
            .map(|&site| {
                let mut draw = || (words.word() % (2 * most + 1)) as i64 - most as i64;
                let values: Vec<_> = (0..values).map(|_| draw()).collect();
                expected.iter_mut().zip(&values).for_each(|(sum, v)| *sum += v);
                encode(&layout, &header(&layout, site, weight, &values), &values).0
            })
            .collect();
        let reach = encoding.delta() / 2;
        let opened = open(&layout, &uploads, |_| {
            (words.word() % (2 * reach + 1)) as i64 - reach as i64
        });
        let (header, sums) = decode(layout, survivors.len() as u32, &opened).unwrap();
        prop_assert_eq!(&sums, &expected);
        prop_assert_eq!(header.weight, weight * survivors.len() as u64);
        if mac {
            prop_assert_eq!(verified(&header, &sums, survivors), Ok(()));
        }
    }

    #[test]
    fn anything_is_decoded_or_refused(
        seed: [u8; 32], bits in 2u32..30, approximate: bool, mac: bool, short in 0usize..3,
        special in prop::sample::select(vec![i64::MIN, i64::MAX, 0, 1 << 61, -1 << 61, -1]),
    ) {
        let encoding = if approximate {
            Encoding::finest(Set::Wide, Precision::Approximate, 9, 100).unwrap()
        } else {
            Encoding::best(9, 100, Some(bits)).unwrap()
        };
        let layout = Layout::new(encoding, mac && !approximate).unwrap();
        let mut words = privet_crypto::Words::chacha(&Seed::from_bytes(seed));
        let mut sums = Vec::new();
        let degree = encoding.set().degree();
        // An honest header in front lets the values be reached.
        let values = [0i64; 100];
        let (mut honest, _) = encode(&layout, &header(&layout, 0, 1, &values), &values);
        for keep in [0, layout.header_len(), layout.header_len() + 3, degree] {
            let block: Vec<_> = (0..degree - short)
                .map(|i| match words.word() {
                    _ if i < keep => honest[0][i],
                    word if word % 4 == 0 => special,
                    word => (word as i64) >> (word % 60),
                })
                .collect();
            let mut decoder = Decoder::new(layout, 1).unwrap();
            let got = decoder.block(&block, &mut sums);
            prop_assert_eq!(got.is_ok(), keep == degree && short == 0);
        }
        honest.clear();
    }
}
