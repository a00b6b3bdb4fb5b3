//! The exact (ε, δ) curve of Gaussian noise.
//!
//! One release with σ = z·Δ is μ-Gaussian-differentially private with μ = 1/z, and for one μ
//! (Balle, Wang 2018, Theorem 8, with Φ the normal distribution function)
//!
//! ```text
//!   δ(ε) = Φ(μ/2 − ε/μ) − e^ε · Φ(−μ/2 − ε/μ)
//! ```

use super::smallest;

/// δ of a Gaussian mechanism with μ = Δ/σ at this ε ≥ 0.
pub fn gaussian_delta(mu: f64, epsilon: f64) -> f64 {
    if mu == 0.0 {
        return 0.0;
    }
    let first = phi(mu / 2.0 - epsilon / mu);
    let second = (epsilon + log_phi(-mu / 2.0 - epsilon / mu)).exp();
    (first - second).max(0.0)
}

/// ε of a Gaussian mechanism with μ = Δ/σ at this δ.
pub fn gaussian_epsilon(mu: f64, delta: f64) -> f64 {
    smallest(|epsilon| gaussian_delta(mu, epsilon) <= delta)
}

/// The normal distribution function.
pub(crate) fn phi(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// Its logarithm, also where the function itself underflows.
fn log_phi(x: f64) -> f64 {
    if x > -30.0 {
        return phi(x).ln();
    }
    // Φ(x) = φ(x)/|x| · (1 − 1/x² + 3/x⁴ − 15/x⁶ + …), an alternating series: cut after a negative
    // term it is below, by 10395/30¹² = 2e-14 at most, and δ, which it is taken from, above.
    let square = x * x;
    let series = [9.0, 7.0, 5.0, 3.0, 1.0].iter().fold(1.0, |rest, odd| 1.0 - odd / square * rest);
    -0.5 * square - (-x).ln() - 0.5 * (2.0 * std::f64::consts::PI).ln() + series.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Evaluated with 50 digits by mpmath (`ncdf`).
    #[test]
    fn known_answers() {
        for (mu, epsilon, delta) in [
            (1.0, 1.0, 0.126_936_737_506_644),
            (0.5, 1.0, 0.006_829_594_983_115),
            (2.0, 4.0, 0.084_953_318_671_071),
        ] {
            let got = gaussian_delta(mu, epsilon);
            assert!((got - delta).abs() < 1e-14, "{mu} {epsilon}: {got}");
        }
        for (z, rounds, delta, known) in [
            (5.0f64, 40.0f64, 1e-5, 5.759_481_47),
            (1.1, 50.0, 1e-6, 50.470_451_25),
            (1.3, 1.0, 3e-6, 3.450_683),
            (0.65, 1.0, 3e-6, 7.683_152),
        ] {
            let epsilon = gaussian_epsilon(rounds.sqrt() / z, delta);
            assert!((epsilon / known - 1.0).abs() < 1e-6, "{z} {rounds}: {epsilon}");
        }
        // A deployed configuration of another toolkit: nothing left of privacy.
        let epsilon = gaussian_epsilon(1.0 / 4.845e-5, 1e-5);
        assert!((epsilon / 2.1309e8 - 1.0).abs() < 1e-3, "{epsilon}");
    }

    proptest! {
        #[test]
        fn epsilon_inverts_delta(mu in 0.01f64..30.0, exponent in 2i32..9) {
            let delta = 10f64.powi(-exponent);
            let epsilon = gaussian_epsilon(mu, delta);
            prop_assert!(gaussian_delta(mu, epsilon) <= delta);
            if epsilon > 1e-6 {
                prop_assert!(gaussian_delta(mu, epsilon * 0.999) > delta);
            }
        }
    }
}
