//! Rényi differential privacy, and its special case zCDP.
//!
//! A mechanism is (α, r)-RDP when the Rényi divergence of order α between its outputs on
//! neighbours is at most r. At a fixed order, r adds up over rounds, adaptively chosen ones too.
//! ρ-zCDP is (α, αρ)-RDP for every α > 1; Gaussian noise of multiplier z has ρ = 1/2z². All this
//! is for neighbours that differ by one record being present or absent.

use std::ops::RangeInclusive;

/// The ε at which (α, r)-RDP is (ε, δ)-private (Canonne, Kamath, Steinke 2020, Proposition 12).
pub fn epsilon_at(order: f64, divergence: f64, delta: f64) -> f64 {
    let more = order - 1.0;
    (divergence + (-1.0 / order).ln_1p() - (delta.ln() + order.ln()) / more).max(0.0)
}

/// The ε of RDP curves, at the best of these orders.
pub fn epsilon(divergence: impl Fn(u32) -> f64, orders: RangeInclusive<u32>, delta: f64) -> f64 {
    orders
        .map(|order| epsilon_at(f64::from(order), divergence(order), delta))
        .fold(f64::INFINITY, f64::min)
}

/// The ε of ρ-zCDP, at the best order.
pub fn zcdp_epsilon(rho: f64, delta: f64) -> f64 {
    if rho <= 0.0 {
        return 0.0;
    }
    // The simpler bound ρ + 2√(ρ·ln(1/δ)) is least at α − 1 = √(ln(1/δ)/ρ).
    let near = (-delta.ln() / rho).sqrt();
    let at = |more: f64| epsilon_at(1.0 + more, (1.0 + more) * rho, delta);
    minimum(1e-3 * near, 1e3 * near, 1e-6, &at).1
}

/// The RDP of a round of Gaussian noise of multiplier z over a Poisson sample at this rate, for
/// integer α ≥ 2 (Mironov, Talwar, Zhang 2019, section 3.3):
///
/// ```text
///   (α−1)·r = ln Σ_k C(α,k)·(1−q)^{α−k}·q^k·e^{k(k−1)/2z²}
/// ```
pub fn sampled_gaussian(rate: f64, noise_multiplier: f64, order: u32) -> f64 {
    // The binomial weights sum to 1: Σ = 1 + Σ_{k≥2} …·(e^{k(k−1)/2z²} − 1), without cancellation.
    let mut log_choose = f64::from(order).ln();
    let logs: Vec<f64> = (2..=order)
        .map(|k| {
            let rest = f64::from(order - k);
            let k = f64::from(k);
            log_choose += ((rest + 1.0) / k).ln();
            let exponent = k * (k - 1.0) / (2.0 * noise_multiplier * noise_multiplier);
            let log_growth = exponent + (-(-exponent).exp_m1()).ln();
            let unsampled = if rest == 0.0 { 0.0 } else { rest * (-rate).ln_1p() };
            log_choose + unsampled + k * rate.ln() + log_growth
        })
        .collect();
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log = largest + logs.iter().map(|log| (log - largest).exp()).sum::<f64>().ln();
    // ln(1 + e^log).
    (log.max(0.0) + (-log.abs()).exp().ln_1p()) / f64::from(order - 1)
}

/// The RDP of a round of Laplace noise of scale b (Mironov 2017, Proposition 6):
///
/// ```text
///   (α−1)·r = ln( α/(2α−1)·e^{(α−1)/b} + (α−1)/(2α−1)·e^{−α/b} )
/// ```
pub fn laplace(scale: f64, order: f64) -> f64 {
    let (up, down) = ((order - 1.0) / scale, order / scale);
    let weight = order / (2.0 * order - 1.0);
    let log = if up > 1.0 {
        up + (weight + (1.0 - weight) * (-down - up).exp()).ln()
    } else {
        (weight * up.exp_m1() + (1.0 - weight) * (-down).exp_m1()).ln_1p()
    };
    log / (order - 1.0)
}

/// Rényi divergence of order α of anything that is purely ε-private: that of randomised response,
/// ln[(e^{αε} + e^{(1−α)ε})/(e^ε + 1)]/(α − 1) (Mironov 2017, Proposition 5), which is the largest.
pub fn pure_rdp(order: u32, epsilon: f64) -> f64 {
    let alpha = f64::from(order);
    // Never above what pure privacy gives at every order (Bun, Steinke 2016) or at order ∞.
    let most = (alpha * epsilon * epsilon / 2.0).min(epsilon);
    if alpha * epsilon < 1e-4 {
        // The difference below cancels here.
        return most;
    }
    // The logarithms with e^{αε} and e^ε taken out.
    let upper = alpha * epsilon + ((1.0 - 2.0 * alpha) * epsilon).exp().ln_1p();
    let lower = epsilon + (-epsilon).exp().ln_1p();
    ((upper - lower) / (alpha - 1.0) * (1.0 + 1e-9) + 1e-15).min(most)
}

/// Where `f`, which falls and then rises, is least between `low` and `high`, up to this fraction
/// of it, and its value there; by golden sections of the logarithm.
pub(crate) fn minimum(low: f64, high: f64, within: f64, f: &dyn Fn(f64) -> f64) -> (f64, f64) {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let at = |x: f64| (x, f(x.exp()));
    let (mut low, mut high) = (low.ln(), high.ln());
    let mut left = at(high - GOLDEN * (high - low));
    let mut right = at(low + GOLDEN * (high - low));
    while high - low > within {
        if left.1 <= right.1 {
            (high, right) = (right.0, left);
            left = at(high - GOLDEN * (high - low));
        } else {
            (low, left) = (left.0, right);
            right = at(low + GOLDEN * (high - low));
        }
    }
    let (x, value) = if left.1 <= right.1 { left } else { right };
    (x.exp(), value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The optimum in 50 digits, by mpmath.
    #[test]
    fn zcdp_known_answers() {
        for (rho, epsilon) in [(0.07, 1.675_943), (0.37, 4.209_302)] {
            let got = zcdp_epsilon(rho, 3e-6);
            assert!((got / epsilon - 1.0).abs() < 1e-6, "{rho}: {got}");
        }
    }

    /// 500 rounds at q = 0.02, z = 1: 3.1443 by dp-accounting 0.6, whose orders have fractions.
    #[test]
    fn sampled_gaussian_known_answers() {
        let got = epsilon(|order| 500.0 * sampled_gaussian(0.02, 1.0, order), 2..=256, 1e-5);
        assert!((3.1443..3.1500).contains(&got), "{got}");
        // ln(1 + q²·(e^{1/z²} − 1)) at order 2.
        let exact = (1e-4f64.powi(2) * 1f64.exp_m1()).ln_1p();
        assert!((sampled_gaussian(1e-4, 1.0, 2) / exact - 1.0).abs() < 1e-12);
    }

    /// Numerical integrals of p^α·q^{1−α} by mpmath.
    #[test]
    fn laplace_known_answers() {
        let cases = [
            (1.0, 2.0, 0.619123629998593),
            (0.3, 5.0, 3.18638666710782),
            (10.0, 1.5, 0.00724748538932853),
            (1000.0, 32.0, 1.59920254804164e-5),
        ];
        for (scale, order, exact) in cases {
            assert!((laplace(scale, order) / exact - 1.0).abs() < 1e-9, "{scale} {order}");
        }
        // ln[(e² + e^-1)/(e + 1)]; and what is ε-DP is never worse than ε at any order.
        assert!((pure_rdp(2, 1.0) - 0.735_326).abs() < 1e-6);
        assert!(pure_rdp(1_000_000, 1.0) < 1.0 && pure_rdp(1_000_000, 1.0) > 0.999);
        assert!(laplace(1.0, 2.0) < pure_rdp(2, 1.0));
        assert!(laplace(0.5, 1e6) < 2.0);
    }

    proptest! {
        #[test]
        fn sampling_helps_and_all_of_it_is_gaussian(
            z in 0.3f64..20.0,
            q in 1e-6f64..0.99,
            order in 2u32..200,
        ) {
            let all = f64::from(order) / (2.0 * z * z);
            prop_assert!((sampled_gaussian(1.0, z, order) / all - 1.0).abs() < 1e-9);
            let some = sampled_gaussian(q, z, order);
            prop_assert!(some > 0.0 && some < all);
            prop_assert!(sampled_gaussian(1.01 * q, z, order) > some);
        }

        #[test]
        fn conversions_are_monotone(rho in 1e-4f64..10.0, exponent in 1i32..12) {
            let delta = 10f64.powi(-exponent);
            prop_assert!(zcdp_epsilon(1.01 * rho, delta) >= zcdp_epsilon(rho, delta));
            prop_assert!(zcdp_epsilon(rho, delta / 2.0) >= zcdp_epsilon(rho, delta));
            // Never better than what any one order gives, nor worse than the simple bound.
            let at = epsilon_at(8.0, 8.0 * rho, delta);
            prop_assert!(zcdp_epsilon(rho, delta) <= at + 1e-12);
            let simple = rho + 2.0 * (-rho * delta.ln()).sqrt();
            prop_assert!(zcdp_epsilon(rho, delta) <= simple);
        }
    }
}
