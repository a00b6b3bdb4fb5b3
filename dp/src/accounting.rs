//! Exact accounting of Gaussian noise.
//!
//! One release with σ = z·Δ is μ-Gaussian-differentially private with μ = 1/z. Releases add up as
//! μ² = Σ 1/z², also when each is chosen in the light of the ones before (Koskela, Tobaben,
//! Honkela 2023, arXiv 2209.15596; Smith, Thakurta 2022). And for one μ (Balle, Wang 2018,
//! Theorem 8, with Φ the normal distribution function)
//!
//! ```text
//!   δ(ε) = Φ(μ/2 − ε/μ) − e^ε · Φ(−μ/2 − ε/μ)
//! ```
//!
//! **Discrete for continuous.** The noise is discrete. A continuous Gaussian, rounded, is
//! post-processing of the continuous mechanism, and differs from the discrete Gaussian of the
//! same σ by at most √(Σ d/σ⁴)/17 in total variation (d coordinates a release, σ in lattice
//! units; the leading term is half of that). So δ(ε) + (1 + e^ε)·√(Σ d/σ⁴)/17 is a bound for the
//! discrete mechanism, and [`Spent::delta`] is that sum.

use privet_core::event::{Event, Mechanism};

/// μ² is counted in integers of 2^-40, rounded up.
const UNIT: f64 = (1u64 << 40) as f64;

/// Uses of a data set, added up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spent {
    /// μ² in units of 2^-40.
    mu_square_units: u64,
    /// Σ d/σ⁴.
    coarseness: f64,
}

impl Spent {
    /// Takes an event in.
    pub fn add(&mut self, event: &Event) {
        let Mechanism::Gaussian { noise_multiplier: z, sigma_units, coordinates } = event.mechanism;
        // Each float operation is off by at most half an ulp; two steps up cover both.
        let units = (UNIT / (z * z)).next_up().next_up().ceil();
        self.mu_square_units = self.mu_square_units.saturating_add(units as u64);
        self.coarseness += coordinates as f64 / sigma_units.powi(4);
    }

    /// The same, `times` over.
    pub fn times(&self, times: u32) -> Self {
        Self {
            mu_square_units: self.mu_square_units.saturating_mul(u64::from(times)),
            coarseness: self.coarseness * f64::from(times),
        }
    }

    /// Both together.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            mu_square_units: self.mu_square_units.saturating_add(other.mu_square_units),
            coarseness: self.coarseness + other.coarseness,
        }
    }

    fn mu(&self) -> f64 {
        (self.mu_square_units as f64 / UNIT).sqrt()
    }

    /// What the discreteness of the noise adds to δ at this ε.
    pub fn discreteness(&self, epsilon: f64) -> f64 {
        (1.0 + epsilon.exp()) * self.coarseness.sqrt() / 17.0
    }

    /// The δ at which all uses together are (ε, δ)-private.
    pub fn delta(&self, epsilon: f64) -> f64 {
        gaussian_delta(self.mu(), epsilon) + self.discreteness(epsilon)
    }

    /// Whether the discreteness of the noise costs more than a hundredth of this δ. Then no ε is
    /// given: noise of so few lattice steps is not to be used.
    pub fn too_coarse(&self, delta: f64) -> bool {
        let epsilon = gaussian_epsilon(self.mu(), 0.99 * delta);
        self.discreteness(epsilon) > delta / 100.0
    }

    /// The ε that continuous noise of the same size would give.
    pub fn continuous_epsilon(&self, delta: f64) -> f64 {
        gaussian_epsilon(self.mu(), delta)
    }

    /// The ε at which all uses together are (ε, δ)-private; infinite when the noise is too coarse.
    pub fn epsilon(&self, delta: f64) -> f64 {
        if self.too_coarse(delta) {
            return f64::INFINITY;
        }
        // At the ε of 0.99 δ the bound for discreteness has its room.
        let high = gaussian_epsilon(self.mu(), 0.99 * delta);
        bisect(0.0, high, |epsilon| self.delta(epsilon) <= delta)
    }
}

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

/// The smallest ε ≥ 0 that is enough, from above: what is returned *is* enough.
fn smallest(enough: impl Fn(f64) -> bool) -> f64 {
    if enough(0.0) {
        return 0.0;
    }
    let mut high = 1.0;
    while !enough(high) {
        high *= 2.0;
        if high > 1e12 {
            return f64::INFINITY;
        }
    }
    bisect(0.0, high, enough)
}

/// The least of [low, high] that is enough, from above; `high` must be.
fn bisect(mut low: f64, mut high: f64, enough: impl Fn(f64) -> bool) -> f64 {
    if enough(low) {
        return low;
    }
    while (high - low) > 1e-12 * high {
        let middle = f64::midpoint(low, high);
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

/// The normal distribution function.
fn phi(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// Its logarithm, also where the function itself underflows.
fn log_phi(x: f64) -> f64 {
    if x > -30.0 {
        return phi(x).ln();
    }
    // Φ(x) = φ(x)/|x| · (1 − 1/x² + 3/x⁴ − …), an alternating series: at |x| ≥ 30 the first
    // omitted term is below 15/30⁶ = 2.1e-8.
    let square = x * x;
    let series = 1.0 - 1.0 / square + 3.0 / (square * square);
    -0.5 * square - (-x).ln() - 0.5 * (2.0 * std::f64::consts::PI).ln() + series.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use privet_core::sensitivity::{Adjacency, Unit};
    use proptest::prelude::*;

    fn event(z: f64) -> Event {
        Event {
            unit: Unit::Record,
            adjacency: Adjacency::AddRemove,
            mechanism: Mechanism::Gaussian {
                noise_multiplier: z,
                sigma_units: z * f64::from(1 << 20),
                coordinates: 31,
            },
        }
    }

    fn rounds(z: f64, rounds: u32) -> Spent {
        let mut spent = Spent::default();
        spent.add(&event(z));
        spent.times(rounds)
    }

    /// z = 4 over 20 rounds is ε = 4.98 at δ = 1e-5, and 27 rounds fit a budget of 6.
    #[test]
    fn the_examples_budget() {
        let epsilon = rounds(4.0, 20).epsilon(1e-5);
        assert!((epsilon - 4.983_306_406).abs() < 1e-6, "{epsilon}");
        assert!(rounds(4.0, 27).epsilon(1e-5) <= 6.0);
        assert!(rounds(4.0, 28).epsilon(1e-5) > 6.0);
    }

    /// Balle and Wang's closed form, evaluated with 50 digits by mpmath (`ncdf`).
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
        // ρ = 0.07 (μ² = 0.14), δ = 3e-6.
        let epsilon = gaussian_epsilon(0.14f64.sqrt(), 3e-6);
        assert!((epsilon - 1.550_222).abs() < 1e-5, "{epsilon}");
        // A deployed configuration of another toolkit: nothing left of privacy.
        let epsilon = gaussian_epsilon(20_640.0, 1e-5);
        assert!((epsilon / 2.1309e8 - 1.0).abs() < 1e-3, "{epsilon}");
    }

    proptest! {
        #[test]
        fn more_uses_cost_more_and_nothing_is_lost(z in 0.3f64..50.0, n in 1u32..500) {
            let fewer = rounds(z, n);
            let more = rounds(z, n + 1);
            prop_assert!(more.epsilon(1e-5) >= fewer.epsilon(1e-5));
            prop_assert!(more.delta(1.0) > fewer.delta(1.0) || fewer.delta(1.0) < 1e-12);
            // Never below the exact value of the continuous mechanism.
            let exact = gaussian_epsilon(f64::from(n).sqrt() / z, 1e-5);
            prop_assert!(fewer.epsilon(1e-5) >= exact * (1.0 - 1e-9));
            // Far beyond any budget the bound for discreteness, which grows with e^ε, takes over.
            prop_assert!(fewer.epsilon(1e-5) <= exact * 1.001 + 1e-6 || exact > 10.0);
            let mut one_by_one = Spent::default();
            (0..n).for_each(|_| one_by_one.add(&event(z)));
            prop_assert!(one_by_one.mu_square_units == fewer.mu_square_units);
        }

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
