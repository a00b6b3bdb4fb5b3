//! What the best known attacks cost: a port of the estimates behind [`Set::security_bits`].
//!
//! Costs are classical core-SVP, 2^(0.292 β). *Primal*: the least block size β for which the unique
//! shortest vector shows (Alkim, Ducas, Pöppelmann and Schwabe, 2016). *Dual*: distinguishing by
//! short dual vectors, of which a sieve gives 2^(0.2075 β). Both choose the best number of samples.

use std::f64::consts::{E, PI};

use crate::rlwe::gaussian::{SIGMA, TAIL};
use crate::rlwe::ring::Set;

fn ln_delta(beta: f64) -> f64 {
    ((PI * beta).powf(1.0 / beta) * beta / (2.0 * PI * E)).ln() / (2.0 * (beta - 1.0))
}

/// Bits of the primal attack on LWE of dimension `n` and modulus 2^`log_q`.
fn primal(n: u32, log_q: f64, secret: f64, error: f64, most_samples: u32) -> f64 {
    let succeeds = |beta: u32| {
        let (b, ln_delta) = (f64::from(beta), ln_delta(f64::from(beta)));
        (64.max(n / 4)..=most_samples).step_by(16).filter(|m| n + m + 1 >= beta).any(|m| {
            let d = f64::from(n + m + 1);
            let volume = f64::from(m) * log_q * 2f64.ln() + f64::from(n) * (error / secret).ln();
            error.ln() + 0.5 * b.ln() <= (2.0 * b - d - 1.0) * ln_delta + volume / d
        })
    };
    let (mut low, mut high) = (60, 4000.min(2 * n));
    while low < high {
        let middle = (low + high) / 2;
        match succeeds(middle) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    0.292 * f64::from(low)
}

fn dual(n: u32, log_q: f64, secret: f64, error: f64) -> f64 {
    let q = log_q.exp2();
    let cost = |beta: u32, m: u32| {
        let (b, n, d) = (f64::from(beta), f64::from(n), f64::from(n + m));
        let volume = n * log_q * 2f64.ln() - n * (error / secret).ln();
        let length = (d * ln_delta(b) + volume / d).exp();
        let advantage = 2.0 * (PI * length * error / q).powi(2) / 2f64.ln();
        0.292 * b + (2.0 * advantage - 0.2075 * b).max(0.0)
    };
    let all = (60..1600)
        .step_by(4)
        .flat_map(|beta| (n / 2..3 * n).step_by(64).map(move |m| cost(beta, m)));
    all.fold(f64::MAX, f64::min)
}

fn near(found: f64, expected: impl Into<f64>, margin: f64) {
    let expected = expected.into();
    assert!((found - expected).abs() <= margin, "{found}, where {expected} was expected");
}

/// Published: 118.
#[test]
fn kyber_512_costs_what_is_published() {
    near(primal(512, 3329f64.log2(), 1.5f64.sqrt(), 1.5f64.sqrt(), 1024), 118.6, 1.0);
}

#[test]
fn the_sets_cost_what_they_claim() {
    for set in [Set::Narrow, Set::Wide] {
        let (n, log_q) = (set.degree() as u32, (set.modulus() as f64).log2());
        let bits = set.security_bits();
        for (expected, sigma) in [
            (bits.fresh, SIGMA),
            (bits.after_opening, SIGMA / 2f64.sqrt()),
            (bits.by_theorem, SIGMA / 2.0),
        ] {
            let (primal, dual) =
                (primal(n, log_q, sigma, sigma, 4 * n), dual(n, log_q, sigma, sigma));
            near(primal, expected, 2.0);
            near(dual, expected, 2.0);
        }
    }
}

/// log2 erfc(x), also where erfc underflows.
fn log2_erfc(x: f64) -> f64 {
    match libm::erfc(x) {
        v if v > 1e-300 => v.log2(),
        _ => (-x * x - (x * PI.sqrt()).ln()) / 2f64.ln(),
    }
}

/// Hint LWE needs σ/2 · √2π ≥ √2 · η_ε(ℤ^2N), for ε = 2^-128.
#[test]
fn sigma_satisfies_the_theorem() {
    let eta = ((2.0 * 2048.0 * (1.0 + 128f64.exp2())).ln() / PI).sqrt();
    let least = 2.0 * 2f64.sqrt() * eta / (2.0 * PI).sqrt();
    near(least, 6.27, 0.01);
    assert!(SIGMA > least);
}

#[test]
fn the_cut_leaves_nothing() {
    let tail = log2_erfc((f64::from(TAIL) + 0.5) / (SIGMA * 2f64.sqrt()));
    near(tail, -130.0, 1.0);
}

/// Chance, as a power of two, that a sum of K uploads rounds wrongly by Δ: the table of the review.
#[test]
fn rounding_fails_as_rarely_as_claimed() {
    let fails =
        |keys: f64, delta: f64| log2_erfc(delta.exp2() / 2.0 / ((2.0 * keys).sqrt() * SIGMA));
    for (keys, delta, expected) in [
        (10.0, 8.0, -32.0),
        (10.0, 9.0, -119.0),
        (32.0, 9.0, -39.0),
        (32.0, 10.0, -148.0),
        (100.0, 10.0, -50.0),
        (680.0, 11.0, -30.0),
    ] {
        near(fails(keys, delta), expected, 1.0);
    }
}

/// Errors evaluated at a root of X^N + 1 are as good as uniform: the bias of one character is
/// exp(−2π²σ² Σ ‖c·z^i/p‖²), and the sum is near N/12, its mean over uniform numbers.
#[test]
fn no_small_multiple_of_a_root_shows_the_error() {
    for set in [Set::Narrow, Set::Wide] {
        for &p in set.primes() {
            let m = crate::rlwe::ring::Modulus::new(p);
            let root = m.root(2 * set.degree() as u32);
            for start in (1..=40).chain((0..200).map(|i| m.power(3, i * 9973 + 1))) {
                let (mut c, mut sum) = (start, 0.0);
                for _ in 0..set.degree() {
                    sum += (f64::from(c.min(p - c)) / f64::from(p)).powi(2);
                    c = m.product(c, root);
                }
                let sigma = SIGMA / 2.0;
                let bits = 2.0 * (PI * sigma).powi(2) * sum / 2f64.ln();
                assert!(bits > 4000.0, "{p} {start}: 2^-{bits}");
            }
        }
    }
}
