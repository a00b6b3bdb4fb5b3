//! What a plan costs that is fixed before its first round, by an accountant of one's choice.

use privet_core::sensitivity::Adjacency;

use crate::accounting::gaussian::gaussian_epsilon;
use crate::accounting::{least_multiplier, renyi};
use crate::pld::{self, Mechanism, Noise};

/// How the rounds of a plan are added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accountant {
    /// The closed form of Gaussian noise on all records.
    Exact,
    /// Privacy loss distributions, from above.
    Pld,
    /// Rényi divergences at the best integer order up to 256.
    Rdp,
    /// Zero-concentrated privacy.
    Zcdp,
}

impl Accountant {
    /// The word used in commands.
    pub const fn as_str(self) -> &'static str {
        match self {
            Accountant::Exact => "exact",
            Accountant::Pld => "pld",
            Accountant::Rdp => "rdp",
            Accountant::Zcdp => "zcdp",
        }
    }

    /// The tightest one for a mechanism.
    pub fn tightest(mechanism: &Mechanism) -> Self {
        match mechanism {
            Mechanism { noise: Noise::Gaussian(_), rate: 1.0 } => Accountant::Exact,
            _ => Accountant::Pld,
        }
    }
}

/// Why there is no number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The accountant cannot count this.
    #[error("the accountant `{0}` counts {1}")]
    NotCounted(&'static str, &'static str),
    /// A parameter is out of range, or the numbers cannot be vouched for.
    #[error(transparent)]
    Pld(#[from] pld::Error),
}

/// ε ≥ 0 at δ of so many rounds of a mechanism of sensitivity 1 under adding or removing a record.
///
/// # Errors
/// When the accountant cannot count it, or a parameter is out of range.
pub fn epsilon(
    mechanism: Mechanism,
    rounds: u32,
    adjacency: Adjacency,
    delta: f64,
    accountant: Accountant,
) -> Result<f64, PlanError> {
    let not_counted = |what| Err(PlanError::NotCounted(accountant.as_str(), what));
    let plan = [(mechanism, rounds)];
    if accountant == Accountant::Pld {
        return Ok(pld::epsilon(&plan, adjacency, delta)?);
    }
    if !(mechanism.is_valid() && delta > 0.0 && delta < 1.0) {
        return Err(pld::Error::Invalid.into());
    }
    let (times, all) = (f64::from(rounds), mechanism.rate == 1.0);
    // An exchange moves the result twice as far as a removal.
    let factor = adjacency.factor() as f64;
    Ok(match (accountant, mechanism.noise) {
        (Accountant::Exact, Noise::Gaussian(z)) if all => {
            gaussian_epsilon(times.sqrt() * factor / z, delta)
        }
        (Accountant::Exact, _) => return not_counted("Gaussian noise without sampling"),
        (Accountant::Zcdp, _) if !all => return not_counted("noise without sampling"),
        (Accountant::Zcdp, Noise::Gaussian(z)) | (Accountant::Zcdp, Noise::Laplace(z)) => {
            // ρ = 1/2z² for Gaussian noise, and at most ε²/2 with ε = 1/z for Laplace noise.
            renyi::zcdp_epsilon(times * 0.5 * (factor / z).powi(2), delta)
        }
        (_, Noise::Gaussian(z)) if all => {
            let rdp = |order| times * f64::from(order) * 0.5 * (factor / z).powi(2);
            renyi::epsilon(rdp, ORDERS, delta)
        }
        (_, Noise::Laplace(scale)) if all => {
            let rdp = |order| times * renyi::laplace(scale / factor, f64::from(order));
            renyi::epsilon(rdp, ORDERS, delta)
        }
        (_, Noise::Gaussian(z)) if adjacency == Adjacency::AddRemove => {
            let rdp = |order| times * renyi::sampled_gaussian(mechanism.rate, z, order);
            renyi::epsilon(rdp, ORDERS, delta)
        }
        _ => return not_counted("of sampled noise Gaussian alone, under add-remove"),
    })
}

const ORDERS: std::ops::RangeInclusive<u32> = 2..=256;

/// The least noise multiplier, from above, with which so many rounds of Gaussian noise at a sampling
/// rate are (`target`, `delta`)-private by the tightest accountant, and the ε that it gives.
///
/// # Errors
/// When a parameter is out of range.
pub fn calibrate(
    rate: f64,
    rounds: u32,
    adjacency: Adjacency,
    target: f64,
    delta: f64,
) -> Result<(f64, f64, Accountant), PlanError> {
    let gaussian = |z| Mechanism { noise: Noise::Gaussian(z), rate };
    let accountant = Accountant::tightest(&gaussian(1.0));
    let at = |z| epsilon(gaussian(z), rounds, adjacency, delta, accountant);
    at(1.0)?;
    let z = match accountant {
        Accountant::Exact if target > 0.0 && target.is_finite() && rounds > 0 => {
            least_multiplier(|z| at(z).is_ok_and(|epsilon| epsilon <= target))
        }
        _ => pld::calibrate(rate, rounds, adjacency, target, delta)?,
    };
    let reached = at(z)?;
    // Neither bisection says so when its range ends first.
    if reached > target { Err(pld::Error::TooLarge.into()) } else { Ok((z, reached, accountant)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Adjacency::{AddRemove, Replace};

    fn gaussian(z: f64, rate: f64) -> Mechanism {
        Mechanism { noise: Noise::Gaussian(z), rate }
    }

    /// Accountants from the tightest to the loosest, on what all can count.
    #[test]
    fn accountants_agree_in_order() {
        for adjacency in [AddRemove, Replace] {
            for noise in [Noise::Gaussian(4.0), Noise::Laplace(20.0)] {
                let at = |accountant| {
                    epsilon(Mechanism { noise, rate: 1.0 }, 20, adjacency, 1e-5, accountant)
                };
                let pld = at(Accountant::Pld).unwrap();
                let (rdp, zcdp) = (at(Accountant::Rdp).unwrap(), at(Accountant::Zcdp).unwrap());
                assert!(pld <= rdp && rdp <= 1.25 * pld, "{noise:?} {pld} {rdp}");
                assert!(pld <= zcdp && zcdp <= 1.25 * pld, "{noise:?} {pld} {zcdp}");
                match noise {
                    Noise::Gaussian(_) => {
                        let exact = at(Accountant::Exact).unwrap();
                        assert!(exact <= pld && pld <= 1.001 * exact);
                    }
                    Noise::Laplace(_) => assert!(at(Accountant::Exact).is_err()),
                }
            }
        }
        let sampled = |accountant| epsilon(gaussian(1.0, 0.02), 500, AddRemove, 1e-5, accountant);
        assert!((sampled(Accountant::Pld).unwrap() - 2.7735).abs() < 1e-3);
        assert!((sampled(Accountant::Rdp).unwrap() - 3.1458).abs() < 1e-3);
        assert!(sampled(Accountant::Zcdp).is_err() && sampled(Accountant::Exact).is_err());
    }

    #[test]
    fn calibration_is_the_inverse() {
        for (rate, rounds) in [(1.0, 20), (0.05, 300)] {
            let (z, reached, accountant) = calibrate(rate, rounds, AddRemove, 3.0, 1e-5).unwrap();
            assert!(reached <= 3.0 && reached > 2.999, "{reached}");
            let less = epsilon(gaussian(0.9998 * z, rate), rounds, AddRemove, 1e-5, accountant);
            assert!(less.unwrap() > 3.0);
        }
        for (target, delta) in [(0.0, 1e-5), (-1.0, 1e-5), (f64::NAN, 1e-5), (1.0, 0.0), (1.0, 2.0)]
        {
            assert!(calibrate(1.0, 20, AddRemove, target, delta).is_err(), "{target} {delta}");
        }
        assert!(calibrate(1.0, 0, AddRemove, 1.0, 1e-5).is_err());
    }
}
