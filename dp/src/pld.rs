//! Accounting by privacy loss distributions.
//!
//! The privacy loss of a plan is the sum of independent losses, one a round, and
//!
//! ```text
//!   δ(ε) = P(ℓ = ∞) + Σ_{ℓ>ε} (1 − e^{ε−ℓ})·P(ℓ)
//! ```
//!
//! (Sommer, Meiser, Mohammadi 2019; Koskela, Jälkö, Honkela 2020). `loss` puts each round on a
//! grid, `sum` adds the rounds up; what either gets wrong, it adds to δ, so that every number here
//! is an upper bound. Plans that are Gaussian throughout are held against the exact value besides.
//!
//! A plan is fixed before its first round: the sum is no bound for mechanisms chosen in the light
//! of earlier outputs. And the noise is continuous; what its discreteness costs comes on top.

mod loss;
mod sum;

use privet_core::sensitivity::Adjacency;

use crate::accounting::gaussian::{gaussian_delta, gaussian_epsilon};
use loss::{Direction, Pair};
use sum::{CUT, Query, answer};

pub use loss::{Mechanism, Noise};

/// The smallest δ an ε is given for.
pub const MIN_DELTA: f64 = 1e-12;

/// Why there is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A parameter is out of its range.
    #[error(
        "noise must be in (0, 10^6], a sampling rate in [10^-9, 1], epsilon at least 0, delta in (0, 1)"
    )]
    Invalid,
    /// See [`MIN_DELTA`].
    #[error("delta below 1e-12 is not supported")]
    DeltaTooSmall,
    /// No dominating pair is known to this crate.
    #[error("sampled Laplace noise is supported for add/remove adjacency alone")]
    Unsupported,
    /// So little noise or so many rounds that the grid is too long, and next to no privacy left.
    #[error("the privacy loss is too large, or the rounds are too many, to be computed")]
    TooLarge,
    /// A result is not what it must be.
    #[error("a privacy loss distribution failed its self-check")]
    SelfCheck,
}

/// Mechanisms, and how many times each is used.
pub type Plan<'a> = &'a [(Mechanism, u32)];

/// The ε ≥ 0 at which the plan is (ε, `delta`)-private.
///
/// # Errors
/// When a parameter is out of range, or there is no number that could be vouched for.
pub fn epsilon(plan: Plan<'_>, adjacency: Adjacency, delta: f64) -> Result<f64, Error> {
    if !(delta > 0.0 && delta < 1.0) {
        return Err(Error::Invalid);
    }
    if delta < MIN_DELTA {
        return Err(Error::DeltaTooSmall);
    }
    let epsilon = worst(plan, adjacency, Query::Delta(delta))?;
    if let Some(mu) = gaussian_mu(plan, adjacency) {
        // Where ε vanishes against the typical loss, 1/θ or so, its relative error is unbounded.
        let exact = gaussian_epsilon(mu, delta);
        check(epsilon, exact, 1e-4 * mu)?;
    }
    Ok(epsilon)
}

/// The δ at which the plan is (`epsilon`, δ)-private; never below about 10^-18.
///
/// # Errors
/// As for [`epsilon`].
pub fn delta(plan: Plan<'_>, adjacency: Adjacency, epsilon: f64) -> Result<f64, Error> {
    if !(epsilon >= 0.0 && epsilon.is_finite()) {
        return Err(Error::Invalid);
    }
    let delta = worst(plan, adjacency, Query::Epsilon(epsilon))?;
    if let Some(mu) = gaussian_mu(plan, adjacency) {
        check(delta, gaussian_delta(mu, epsilon), 10.0 * CUT)?;
    }
    Ok(delta)
}

/// The least noise multiplier, up to 10^-4 of it, with which these rounds of Gaussian noise at this
/// sampling rate are (`target`, `delta`)-private. The one returned *is* enough.
///
/// # Errors
/// As for [`epsilon`].
pub fn calibrate(
    rate: f64,
    rounds: u32,
    adjacency: Adjacency,
    target: f64,
    delta: f64,
) -> Result<f64, Error> {
    if !(target > 0.0 && target.is_finite()) || rounds == 0 {
        return Err(Error::Invalid);
    }
    let enough = |z: f64| {
        let plan = [(Mechanism { noise: Noise::Gaussian(z), rate }, rounds)];
        match epsilon(&plan, adjacency, delta) {
            Err(Error::TooLarge) => Ok(false),
            other => other.map(|epsilon| epsilon <= target),
        }
    };
    let mut high = 1.0;
    while !enough(high)? {
        high *= 2.0;
        if high > 1e6 {
            return Err(Error::TooLarge);
        }
    }
    let mut low = high / 2.0;
    while enough(low)? {
        (low, high) = (low / 2.0, low);
    }
    while high - low > 1e-4 * high {
        let middle = f64::midpoint(low, high);
        if enough(middle)? {
            high = middle;
        } else {
            low = middle;
        }
    }
    Ok(high)
}

/// The larger answer of the directions in which the neighbour may differ.
fn worst(plan: Plan<'_>, adjacency: Adjacency, query: Query) -> Result<f64, Error> {
    let directions: &[_] = match adjacency {
        Adjacency::Replace => &[Direction::Replace],
        // Adding and removing differ by the sampling alone.
        Adjacency::AddRemove if plan.iter().all(|(m, _)| m.rate == 1.0) => &[Direction::Remove],
        Adjacency::AddRemove => &[Direction::Remove, Direction::Add],
    };
    let mut worst = 0.0f64;
    for &direction in directions {
        let pairs: Vec<_> = plan
            .iter()
            .map(|&(mechanism, times)| Ok((Pair::new(mechanism, direction)?, times)))
            .filter(|pair| !matches!(pair, Ok((_, 0))))
            .collect::<Result<_, _>>()?;
        if !pairs.is_empty() {
            worst = worst.max(answer(&pairs, query, worst)?);
        }
    }
    Ok(worst)
}

/// Fails unless the value is an upper bound of the exact one, and a close one.
fn check(value: f64, exact: f64, slack: f64) -> Result<(), Error> {
    if value >= exact * (1.0 - 1e-9) - 1e-15 && value <= exact * 1.001 + slack {
        Ok(())
    } else {
        Err(Error::SelfCheck)
    }
}

/// √Σ(Δ/σ)², if the plan is Gaussian throughout and without sampling.
fn gaussian_mu(plan: Plan<'_>, adjacency: Adjacency) -> Option<f64> {
    let sensitivity = adjacency.factor() as f64;
    let squares = plan.iter().map(|&(mechanism, times)| match mechanism {
        Mechanism { noise: Noise::Gaussian(z), rate: 1.0 } => {
            Some(f64::from(times) * (sensitivity / z).powi(2))
        }
        _ => None,
    });
    squares.sum::<Option<f64>>().map(f64::sqrt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::renyi;
    use Adjacency::{AddRemove, Replace};
    use proptest::prelude::*;

    fn gaussian(z: f64, rate: f64) -> Mechanism {
        Mechanism { noise: Noise::Gaussian(z), rate }
    }

    fn laplace(scale: f64) -> Mechanism {
        Mechanism { noise: Noise::Laplace(scale), rate: 1.0 }
    }

    /// From above, and by no more than this part.
    fn bounds(got: f64, exact: f64, within: f64) -> bool {
        got >= exact * (1.0 - 1e-12) && got <= exact * (1.0 + within)
    }

    /// Balle and Wang's closed form.
    #[test]
    fn gaussian_known_answers() {
        for (z, rounds, delta, adjacency, exact) in [
            (5.0, 40, 1e-5, AddRemove, 5.759_481_47),
            (1.1, 50, 1e-6, AddRemove, 50.470_451_25),
            (1.3, 1, 3e-6, AddRemove, 3.450_683),
            (1.3, 1, 3e-6, Replace, 7.683_152),
        ] {
            let got = epsilon(&[(gaussian(z, 1.0), rounds)], adjacency, delta).unwrap();
            assert!((got / exact - 1.0).abs() < 1e-5, "{z} {rounds}: {got}");
        }
    }

    /// The published lower end is of the Fourier accountant (Koskela and others, PLD-Accountant);
    /// the rest is by Google's dp-accounting 0.6.
    #[test]
    fn sampled_gaussian_known_answers() {
        let plan = [(gaussian(4.0, 0.01), 10_000)];
        let got = delta(&plan, AddRemove, 1.0).unwrap();
        assert!((4.2434e-6..4.26e-6).contains(&got), "{got}");
        let got = epsilon(&plan, AddRemove, 1e-5).unwrap();
        assert!((got - 0.9470).abs() < 2e-4, "{got}");
        let got = epsilon(&[(gaussian(1.0, 0.02), 500)], AddRemove, 1e-5).unwrap();
        assert!((got - 2.7735).abs() < 1e-4, "{got}");
        // A loss so skew that the tilted sum is heavy at its upper end.
        let plan = [(gaussian(1.12, 0.0126), 20), (laplace(5.5), 1)];
        let got = epsilon(&plan, AddRemove, 1e-6).unwrap();
        assert!(bounds(got, 0.697_193_7, 2e-5), "{got}");
    }

    /// Two rounds, as an integral of the closed form of one, in 30 digits by mpmath.
    #[test]
    fn two_rounds_known_answers() {
        let two = [(gaussian(0.577_452, 0.068_261_4), 1), (gaussian(2.007_52, 0.013_910_8), 1)];
        let got = delta(&two, AddRemove, 0.0).unwrap();
        assert!(bounds(got, 4.194_502_346_03e-2, 1e-4), "{got}");
        let two = [(gaussian(6.268_06, 0.028_373_4), 1), (gaussian(2.205_94, 0.081_240_2), 1)];
        let got = delta(&two, Replace, 0.502_133).unwrap();
        assert!(bounds(got, 8.708_159_560_25e-8, 2e-4), "{got}");
    }

    #[test]
    fn laplace_known_answers() {
        // 1 − e^{(ε−1/b)/2}.
        let got = delta(&[(laplace(1.0), 1)], AddRemove, 0.5).unwrap();
        assert!(bounds(got, -(-0.25f64).exp_m1(), 1e-5), "{got}");
        // Exchanging a record doubles the sensitivity.
        let got = delta(&[(laplace(2.0), 1)], Replace, 0.5).unwrap();
        assert!(bounds(got, -(-0.25f64).exp_m1(), 1e-5), "{got}");
        // All of ten losses are 1/b with probability 2^-10.
        let got = epsilon(&[(laplace(1.0), 10)], AddRemove, 1e-12).unwrap();
        assert!(bounds(got, 10.0 - 1.1e-9, 1e-9), "{got}");
    }

    #[test]
    fn what_cannot_be_computed_is_refused() {
        let plan = [(gaussian(1.0, 0.1), 10)];
        for wrong in [0.0, 1.0, f64::NAN] {
            assert_eq!(epsilon(&plan, AddRemove, wrong), Err(Error::Invalid));
        }
        assert_eq!(epsilon(&plan, AddRemove, 1e-13), Err(Error::DeltaTooSmall));
        assert_eq!(delta(&plan, AddRemove, -1.0), Err(Error::Invalid));
        assert_eq!(delta(&plan, AddRemove, f64::INFINITY), Err(Error::Invalid));
        let endless = [(gaussian(1.0, 0.1), u32::MAX)];
        assert_eq!(epsilon(&endless, AddRemove, 1e-5), Err(Error::TooLarge));
        let naked = [(gaussian(0.05, 1.0), 1)];
        assert_eq!(epsilon(&naked, Replace, 1e-5), Err(Error::TooLarge));
        assert_eq!(calibrate(0.1, 0, AddRemove, 1.0, 1e-5), Err(Error::Invalid));
    }

    #[test]
    fn no_rounds_cost_nothing() {
        assert_eq!(epsilon(&[], AddRemove, 1e-5), Ok(0.0));
        assert_eq!(delta(&[(gaussian(1.0, 0.5), 0)], Replace, 0.0), Ok(0.0));
    }

    /// At the ε of 20 rounds of z = 4, the z is 4; and any z found is enough and hardly more.
    #[test]
    fn calibration_inverts_epsilon() {
        let target = gaussian_epsilon(20f64.sqrt() / 4.0, 1e-5);
        let z = calibrate(1.0, 20, AddRemove, target, 1e-5).unwrap();
        assert!(bounds(z, 4.0, 2e-4), "{z}");
        for (rate, rounds, adjacency, target) in
            [(0.02, 500, AddRemove, 2.0), (0.1, 200, Replace, 4.0), (0.5, 10, AddRemove, 40.0)]
        {
            let z = calibrate(rate, rounds, adjacency, target, 1e-6).unwrap();
            let at = |z| epsilon(&[(gaussian(z, rate), rounds)], adjacency, 1e-6).unwrap();
            assert!(at(z) <= target && at(z * (1.0 - 2e-4)) > target, "{rate} {rounds}: {z}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn gaussian_bounds_are_just_above(
            noise in prop::collection::vec((-1.2f64..4.0, 0f64..4.0), 1..4),
            replace: bool,
            exponent in -12f64..-0.05,
            at in -1f64..7.0,
        ) {
            let plan: Vec<_> = noise
                .iter()
                .map(|(z, rounds)| (gaussian(10f64.powf(*z), 1.0), 10f64.powf(*rounds) as u32))
                .collect();
            let adjacency = if replace { Replace } else { AddRemove };
            let mu = gaussian_mu(&plan, adjacency).unwrap();
            prop_assume!(mu < 100.0);
            let bound = delta(&plan, adjacency, (mu * mu / 2.0 + at * mu).max(0.0));
            let exact = gaussian_delta(mu, (mu * mu / 2.0 + at * mu).max(0.0));
            if bound != Err(Error::TooLarge) {
                let bound = bound.unwrap();
                prop_assert!(bound >= exact && bound <= 1.001 * exact + 10.0 * CUT);
            }
            let small = 10f64.powf(exponent);
            let bound = epsilon(&plan, adjacency, small);
            if bound != Err(Error::TooLarge) {
                let exact = gaussian_epsilon(mu, small);
                prop_assert!(bounds(bound.unwrap(), exact, 2e-5) || exact < mu);
            }
        }

        #[test]
        fn more_costs_more(
            z in 0.5f64..6.0,
            q in 0.005f64..0.5,
            rounds in 1u32..300,
            exponent in 2i32..11,
            replace: bool,
        ) {
            let adjacency = if replace { Replace } else { AddRemove };
            let delta = 10f64.powi(-exponent);
            let cost = |z, q, rounds, delta| {
                epsilon(&[(gaussian(z, q), rounds)], adjacency, delta).unwrap()
            };
            // Larger steps than the accuracy, so that bounds compare as what they bound.
            let here = cost(z, q, rounds, delta);
            prop_assert!(cost(z / 1.01, q, rounds, delta) >= here);
            prop_assert!(cost(z, 1.01 * q, rounds, delta) >= here);
            prop_assert!(cost(z, q, rounds + 1 + rounds / 50, delta) >= here);
            prop_assert!(cost(z, q, rounds, delta / 1.1) >= here);
            let whole = cost(z, 1.0, rounds, delta);
            prop_assert!(here <= whole);
            let nearly = cost(z, 1.0 - 1e-9, rounds, delta);
            prop_assert!((nearly / whole - 1.0).abs() < 1e-4 || whole < 1e-3);
        }

        #[test]
        fn moments_cost_more(z in 0.7f64..6.0, q in 0.005f64..0.5, rounds in 1u32..300) {
            let times = f64::from(rounds);
            let pld = epsilon(&[(gaussian(z, q), rounds)], AddRemove, 1e-6).unwrap();
            let rdp = |order| times * renyi::sampled_gaussian(q, z, order);
            let rdp = renyi::epsilon(rdp, 2..=128, 1e-6);
            let zcdp = renyi::zcdp_epsilon(times / (2.0 * z * z), 1e-6);
            prop_assert!(pld <= rdp);
            let whole = |order| times * f64::from(order) / (2.0 * z * z);
            prop_assert!(zcdp <= renyi::epsilon(whole, 2..=128, 1e-6));
            prop_assert!(epsilon(&[(gaussian(z, 1.0), rounds)], AddRemove, 1e-6).unwrap() <= zcdp);
        }

        /// Being sampled and removed shows more than being added: neither is the other.
        #[test]
        fn removing_is_not_adding(z in 0.5f64..3.0, q in 0.01f64..0.5, rounds in 1u32..100) {
            let at = |direction| {
                let pair = Pair::new(gaussian(z, q), direction).unwrap();
                answer(&[(pair, rounds)], Query::Delta(1e-6), 0.0).unwrap()
            };
            let (remove, add) = (at(Direction::Remove), at(Direction::Add));
            prop_assert!(remove > 1.0001 * add);
            let both = epsilon(&[(gaussian(z, q), rounds)], AddRemove, 1e-6).unwrap();
            prop_assert_eq!(both, remove);
        }

        #[test]
        fn epsilon_inverts_delta(z in 0.5f64..6.0, q in 0.01f64..1.0, b in 0.5f64..20.0) {
            let plan = [(gaussian(z, q), 20), (laplace(b), 3)];
            for small in [1e-3, 1e-7, 1e-11] {
                let at = epsilon(&plan, AddRemove, small).unwrap();
                let back = delta(&plan, AddRemove, at).unwrap();
                prop_assert!((back / small - 1.0).abs() < 1e-2, "{} {}", back, small);
            }
        }
    }
}
