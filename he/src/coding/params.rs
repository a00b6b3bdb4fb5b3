//! How far the opened error reaches.
//!
//! A site seals the integer m as b = a·s + e + Δ·m mod P. The opened sum of K sites is Δ·M + E,
//! where M = Σm and E = Σe. It decodes to M when |E| < Δ/2.
//!
//! All of it is computed alike on every machine: the square root is IEEE's, the logarithm `libm`'s.

pub use crate::rlwe::gaussian::SIGMA;

/// Largest absolute value of a key or error coefficient.
pub const CUT: u64 = crate::rlwe::gaussian::TAIL as u64;

/// Most sites of one sum: the sum of their keys must be exact in the field of 65537 elements.
pub const MAX_SITES: u32 = (32_767 / CUT) as u32;

/// Most values of one update.
pub const MAX_VALUES: u64 = 1 << 40;

/// log2 of the probability that any coefficient of a sum decodes to a wrong integer.
pub const LOG2_FAILURE: f64 = -40.0;

/// An upper bound on log2 P(|E| ≥ `reach`), where E is the sum of `sites` errors.
///
/// The sum of K discrete Gaussians at σ ≥ 6 is one at σ√K up to 2^-500. Its density is convex
/// from σ√K on, so each term k of the tail is at most the integral over k ± ½, and the tail at
/// most erfc((reach − ½)/(σ√(2K))); and erfc(x) ≤ exp(−x²)/(x√π), 3 % above it at x = 4 and less
/// beyond.
pub fn log2_tail(sites: u32, reach: u64) -> f64 {
    let x = (reach as f64 - 0.5) / (SIGMA * (2.0 * f64::from(sites)).sqrt());
    // Up to x = 1, below which the density need not be convex, the bound is no better than 1.
    if x <= 1.0 {
        return 0.0;
    }
    -x * x * std::f64::consts::LOG2_E - libm::log2(x * std::f64::consts::PI.sqrt())
}

/// The smallest odd Δ at which `coefficients` sums over `sites` sites all decode right, but for
/// a probability of 2^[`LOG2_FAILURE`]. (An even Δ does no better than the odd one below it.)
pub fn smallest_delta(sites: u32, coefficients: u64) -> u64 {
    let goal = LOG2_FAILURE - libm::log2(coefficients as f64);
    // |E| reaches (Δ + 1)/2 or it does no harm; beyond the cut it cannot go.
    let (mut low, mut high) = (1, CUT * u64::from(sites) + 1);
    while low < high {
        let reach = low.midpoint(high);
        if log2_tail(sites, reach) <= goal {
            high = reach;
        } else {
            low = reach + 1;
        }
    }
    2 * low - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the design's review, computed there with the exact erfc.
    #[test]
    fn the_tail_is_that_of_the_review() {
        for (sites, log2_delta, expected) in [
            (10, 8, -32.0),
            (10, 9, -119.0),
            (32, 9, -39.0),
            (32, 10, -148.0),
            (100, 10, -50.0),
            (100, 11, -189.0),
            (680, 11, -30.0),
        ] {
            let got = log2_tail(sites, 1 << (log2_delta - 1));
            assert!((got - expected).abs() <= 1.0, "{sites} {log2_delta} {got}");
        }
    }

    /// Against the sum over the density, for one site: the bound holds and is tight.
    #[test]
    fn the_bound_is_above_the_tail_and_near() {
        let density = |k: i64| (-(k * k) as f64 / (2.0 * SIGMA * SIGMA)).exp();
        let all: f64 = (-200..=200).map(density).sum();
        for reach in 14..84 {
            let tail = (2.0 * (reach..=200).map(density).sum::<f64>() / all).log2();
            let bound = log2_tail(1, reach as u64);
            assert!(bound >= tail, "{reach}");
            assert!(bound - tail < 0.5, "{reach} {bound} {tail}");
        }
        for reach in 0..14 {
            assert!(log2_tail(1, reach) <= 0.0);
        }
    }

    #[test]
    fn delta_is_smallest() {
        for sites in [1, 2, 10, 100, 390] {
            for coefficients in [1, 2048, 10_000_000, MAX_VALUES] {
                let delta = smallest_delta(sites, coefficients);
                let failure =
                    |delta: u64| log2_tail(sites, delta.div_ceil(2)) + (coefficients as f64).log2();
                assert!(failure(delta) <= LOG2_FAILURE || delta > 2 * CUT * u64::from(sites));
                assert!(failure(delta - 2) > LOG2_FAILURE);
            }
        }
    }
}
