//! Rényi divergences and concentrated privacy, in closed forms, and what they say of (ε, δ).

/// ε of ρ-zCDP at δ: the least over α > 1 of αρ + ln(1 − 1/α) − (ln δ + ln α)/(α − 1) (Canonne,
/// Kamath, Steinke 2020, Proposition 12). Each α gives a bound, so the search need not be exact.
pub fn zcdp_epsilon(rho: f64, delta: f64) -> f64 {
    if rho <= 0.0 {
        return 0.0;
    }
    let at = |log: f64| at_order(1.0 + log.exp(), rho * (1.0 + log.exp()), delta);
    // The bound falls, then rises, in ln(α − 1): golden sections.
    let (mut low, mut high) = (-20.0f64, 25.0f64);
    let golden = (5f64.sqrt() - 1.0) / 2.0;
    for _ in 0..70 {
        let (a, b) = (high - golden * (high - low), low + golden * (high - low));
        if at(a) < at(b) { high = b } else { low = a }
    }
    at(f64::midpoint(low, high)).max(0.0)
}

/// ε at δ of what has this Rényi divergence at one integer order ≥ 2: the same formula at that
/// order.
pub fn rdp_epsilon(order: u32, divergence: f64, delta: f64) -> f64 {
    at_order(f64::from(order), divergence, delta).max(0.0)
}

fn at_order(alpha: f64, divergence: f64, delta: f64) -> f64 {
    divergence + (-1.0 / alpha).ln_1p() - (delta.ln() + alpha.ln()) / (alpha - 1.0)
}

/// Rényi divergence of order α of anything that is purely ε-private: that of randomised response,
/// ln[(e^{αε} + e^{(1−α)ε})/(e^ε + 1)]/(α − 1) (Mironov 2017, Proposition 5), which is the largest.
pub fn pure_rdp(order: u32, epsilon: f64) -> f64 {
    let alpha = f64::from(order);
    // The logarithms with e^{αε} and e^ε taken out.
    let upper = alpha * epsilon + ((1.0 - 2.0 * alpha) * epsilon).exp().ln_1p();
    let lower = epsilon + (-epsilon).exp().ln_1p();
    (upper - lower) / (alpha - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        for (rho, epsilon) in [(0.07, 1.675_943), (0.37, 4.209_302)] {
            let got = zcdp_epsilon(rho, 3e-6);
            assert!((got - epsilon).abs() < 1e-5, "{rho}: {got}");
        }
        // ln[(e² + e^-1)/(e + 1)].
        assert!((pure_rdp(2, 1.0) - 0.735_326).abs() < 1e-6);
        assert!(pure_rdp(1_000_000, 1.0) < 1.0 && pure_rdp(1_000_000, 1.0) > 0.999);
        assert_eq!(zcdp_epsilon(0.0, 1e-5), 0.0);
    }
}
