//! The samplers against their laws, against opendp's, against themselves on other instructions, and
//! all of it with the rare paths forced. Seeds are fixed; the long runs are ignored tests.

use super::*;
use dashu::integer::IBig;
use dashu::rational::RBig;
use opendp::traits::samplers::{sample_discrete_gaussian, sample_discrete_laplace};

const SPREADS: [f64; 13] =
    [0.3, 0.5, 1.0, 2.5, 10.0, 100.0, 127.9, 128.0, 1000.3, 4096.0, 65_536.5, 1e6, 3e7];

fn laws() -> impl Iterator<Item = Law> {
    SPREADS
        .into_iter()
        .flat_map(|spread| [Law::Gaussian { sigma: spread }, Law::Laplace { scale: spread }])
}

fn draws(sampler: &Sampler, count: usize, seed: u8) -> Vec<i64> {
    let mut values = vec![0; count];
    Session::seeded([seed; 32]).add(sampler, &mut values, &Cancel::default()).unwrap();
    values
}

/// A sampler whose strips end at one and a half spreads, so that a draw in ten comes from
/// outside them, and whose floats decide little.
fn forced(law: Law) -> Sampler {
    Sampler { table: Table::reaching(law, 1.5), radius: 0.004, ..Sampler::new(law).unwrap() }
}

/// P(X ≥ k).
fn tail(law: Law, k: i64) -> f64 {
    if k <= 0 {
        return 1.0 - tail(law, 1 - k);
    }
    match law {
        Law::Laplace { scale } => (-k as f64 / scale).exp() / (1.0 + (-1.0 / scale).exp()),
        // A sum of a smooth function is an integral between the halves, up to σ^-2/24 of it.
        Law::Gaussian { sigma } if sigma > 2000.0 => {
            0.5 * libm::erfc((k as f64 - 0.5) / (sigma * std::f64::consts::SQRT_2))
        }
        Law::Gaussian { sigma } => {
            let rho = |x: i64| (-(x as f64).powi(2) / (2.0 * sigma * sigma)).exp();
            let far = (12.0 * sigma) as i64 + 2;
            (k..far.max(k + 1)).map(rho).sum::<f64>() / (1 - far..far).map(rho).sum::<f64>()
        }
    }
}

/// Chi-square of counts against expectations, in standard deviations from its mean. Cells of
/// fewer than five are put together with the next.
fn chi_square(cells: impl Iterator<Item = (f64, f64)>) -> f64 {
    let (mut sum, mut cell_count) = (0.0, 0);
    let mut open = (0.0, 0.0);
    for (count, expected) in cells {
        open = (open.0 + count, open.1 + expected);
        if open.1 >= 5.0 {
            sum += (open.0 - open.1).powi(2) / open.1;
            cell_count += 1;
            open = (0.0, 0.0);
        }
    }
    let freedom = f64::from(cell_count - 1).max(1.0);
    (sum - freedom) / (2.0 * freedom).sqrt()
}

/// Counts of draws in the cells between edges, and below and above them, against the law.
fn against_the_law(law: Law, draws: &[i64], edges: &[i64]) -> f64 {
    let mut counts = vec![0f64; edges.len() + 1];
    for x in draws {
        counts[edges.partition_point(|edge| edge <= x)] += 1.0;
    }
    let tails: Vec<f64> = std::iter::once(1.0)
        .chain(edges.iter().map(|&edge| tail(law, edge)))
        .chain(std::iter::once(0.0))
        .collect();
    let expected = tails.windows(2).map(|pair| (pair[0] - pair[1]) * draws.len() as f64);
    chi_square(counts.into_iter().zip(expected))
}

/// Up to 150 cells over six spreads on either side.
fn wide_edges(law: Law) -> Vec<i64> {
    let half = (6.0 * law.spread()).ceil() as i64;
    (-half..=half).step_by((half / 75).max(1) as usize).collect()
}

/// Cells around the edges of the innermost strips, and between them.
fn strip_edges(sampler: &Sampler) -> Vec<i64> {
    let width = 1i64 << sampler.table.strip_bits;
    let strips = sampler.table.strips.min(60);
    (-strips..=strips)
        .flat_map(|strip| [strip * width - width / 8, strip * width, strip * width + width / 8])
        .collect()
}

fn follows_its_law(law: Law, sampler: &Sampler, count: usize, most: f64) {
    let drawn = draws(sampler, count, 11);
    let whole = against_the_law(law, &drawn, &wide_edges(law));
    assert!(whole.abs() < most, "{law:?}: {whole} standard deviations");
    // A law this wide is uniform on the residues of a strip's width, so the low bits must be.
    let bits = sampler.table.strip_bits.min(6);
    if bits > 0 {
        let edges = against_the_law(law, &drawn, &strip_edges(sampler));
        assert!(edges.abs() < most, "{law:?}: {edges} at the edges of strips");
        let mut residues = vec![0f64; 1 << bits];
        drawn.iter().for_each(|x| residues[(x & ((1 << bits) - 1)) as usize] += 1.0);
        let each = count as f64 / residues.len() as f64;
        let low = chi_square(residues.into_iter().map(|count| (count, each)));
        assert!(low.abs() < most, "{law:?}: {low} in the low bits");
    }
}

#[test]
fn draws_follow_their_law() {
    for law in laws() {
        follows_its_law(law, &Sampler::new(law).unwrap(), 1_000_000, 4.5);
    }
}

#[test]
#[ignore = "two minutes; twenty million draws of each law"]
fn many_draws_follow_their_law() {
    for law in laws() {
        follows_its_law(law, &Sampler::new(law).unwrap(), 20_000_000, 4.5);
        follows_its_law(law, &forced(law), 20_000_000, 4.5);
    }
}

/// The outside of the strips gives a tenth of the draws, and integers decide a share of the rest.
#[test]
fn the_rare_paths_follow_the_law_too() {
    for law in laws() {
        let sampler = forced(law);
        let edge = sampler.table.strips << sampler.table.strip_bits;
        let drawn = draws(&sampler, 100_000, 5);
        let outside = drawn.iter().filter(|&&x| x >= edge || x < -edge).count();
        assert!(outside > 3_000 || law.spread() < 2.0, "{law:?}: {outside} from outside");
        follows_its_law(law, &sampler, 400_000, 4.5);
    }
}

/// Integers give the floats' answer wherever both can tell.
#[test]
fn integers_decide_as_floats_do() {
    for law in laws() {
        let narrow = Sampler { radius: RADIUS, ..forced(law) };
        assert_eq!(draws(&forced(law), 50_000, 7), draws(&narrow, 50_000, 7), "{law:?}");
    }
}

#[test]
fn all_instructions_give_the_same_integers() {
    let mut compared = Vec::new();
    for law in laws() {
        let on = |backend| Sampler::new(law).unwrap().on(backend);
        let scalar = draws(&on(Backend::Scalar).unwrap(), 40_000, 9);
        for backend in [Backend::Avx2, Backend::Avx512] {
            if let Some(sampler) = on(backend) {
                assert!(draws(&sampler, 40_000, 9) == scalar, "{law:?} on {}", backend.as_str());
                compared.push(backend);
            }
        }
    }
    if cfg!(target_arch = "x86_64") && std::arch::is_x86_feature_detected!("avx2") {
        assert!(compared.contains(&Backend::Avx2));
    }
}

/// The long way, through rational arithmetic alone, by opendp.
#[test]
fn opendps_samplers_agree() {
    for (i, law) in laws().enumerate() {
        let theirs: Vec<i64> = (0..8_000)
            .map(|_| {
                let scale = RBig::try_from(law.spread()).unwrap();
                let x: IBig = match law {
                    Law::Gaussian { .. } => sample_discrete_gaussian(scale).unwrap(),
                    Law::Laplace { .. } => sample_discrete_laplace(scale).unwrap(),
                };
                i64::try_from(x).unwrap()
            })
            .collect();
        let ours = draws(&Sampler::new(law).unwrap(), 800_000, i as u8);
        // Theirs are few and random: their counts against ours as expectations.
        let edges = wide_edges(law);
        let count = |drawn: &[i64]| {
            let mut counts = vec![0f64; edges.len() + 1];
            drawn.iter().for_each(|x| counts[edges.partition_point(|edge| edge <= x)] += 1.0);
            counts
        };
        let expected = count(&ours).into_iter().map(|n| n / 100.0);
        let z = chi_square(count(&theirs).into_iter().zip(expected));
        assert!(z < 7.0, "{law:?}: {z}");
    }
}

/// A seed gives the same integers on every platform, whatever its mathematical library.
#[test]
fn known_integers() {
    for (law, known) in [
        (Law::Gaussian { sigma: 2.5 }, [-2i64, -2, 0, 1, -3, 1_180_945_030_866_358_982]),
        (
            Law::Gaussian { sigma: 1e6 },
            [-577_229, -373_771, 832_368, -76_870, -646_713, -2_634_983_537_206_148_465],
        ),
        (
            Law::Gaussian { sigma: 3e7 },
            [
                -17_758_765,
                -11_945_032,
                40_485_103,
                -1_593_609,
                -20_011_222,
                -8_321_659_977_215_349_598,
            ],
        ),
        (Law::Laplace { scale: 1000.5 }, [-389, -211, -544, 1902, -457, 1_608_086_024_882_390_235]),
    ] {
        let seed = |byte| Words::chacha(&Seed::from_bytes([byte; 32]));
        let zeros = || Box::new(Zeroizing::new([0; BLOCK]));
        let mut streams =
            Streams { trials: seed(1), decisions: seed(2), words: zeros(), offsets: zeros() };
        let mut out = [0; BLOCK];
        let sampler = Sampler::new(law).unwrap();
        sampler.draw(&mut streams, &mut out);
        let sum = out.iter().fold(0i64, |sum, x| sum.wrapping_mul(31).wrapping_add(*x));
        assert_eq!([out[0], out[1], out[2], out[3], out[BLOCK - 1], sum], known, "{law:?}");
    }
}

/// No number of a session, and no session, gives what another gave.
#[test]
fn noise_is_never_drawn_twice() {
    let sampler = Sampler::new(Law::Gaussian { sigma: 1e6 }).unwrap();
    let mut session = Session::open().unwrap();
    let mut release = || {
        let mut values = vec![0; 3 * CHUNK / 2];
        session.add(&sampler, &mut values, &Cancel::default()).unwrap();
        values
    };
    let (one, two) = (release(), release());
    let chunks = [&one[..CHUNK], &one[CHUNK..], &two[..CHUNK], &two[CHUNK..]];
    for (i, a) in chunks.iter().enumerate() {
        for b in &chunks[..i] {
            let same = a.iter().zip(*b).filter(|(a, b)| a == b).count();
            assert!(same < 10, "{same} equal draws");
        }
    }
    let mut other = vec![0; CHUNK];
    Session::open().unwrap().add(&sampler, &mut other, &Cancel::default()).unwrap();
    assert_ne!(other, one[..CHUNK]);
}

#[test]
fn values_stay_at_the_ends_of_their_range() {
    let sampler = Sampler::new(Law::Gaussian { sigma: 1e6 }).unwrap();
    let mut values = vec![i64::MAX, i64::MIN];
    Session::seeded([1; 32]).add(&sampler, &mut values, &Cancel::default()).unwrap();
    assert!(values[0] > i64::MAX - 10_000_000 && values[1] < i64::MIN + 10_000_000);
}

#[test]
fn widths_out_of_range_are_refused() {
    for spread in [0.0, 0.05, -1.0, f64::NAN, f64::INFINITY, 2e12] {
        assert!(Sampler::new(Law::Gaussian { sigma: spread }).is_err(), "{spread}");
    }
}
