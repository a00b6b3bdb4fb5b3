//! What events cost.
//!
//! ```text
//!   events ─▶ Meter ─▶ Spent (whole units of 2^-40, added up) ─▶ ε at the budget's δ
//! ```
//! A data set is metered in one currency from its first charge on. Each of them may be added up and
//! stopped on, also when every release is chosen in the light of the ones before; composing whole
//! privacy-loss curves along the way and stopping when one crosses a target may not (Honkela et al.
//! 2026, arXiv 2602.06756), so those serve [plans](crate::pld) that are fixed in advance.
//!
//! - **gaussian**: μ² = 1/z², exact for Gaussian noise and for nothing else (Koskela, Tobaben, Honkela
//!   2023, arXiv 2209.15596; Smith, Thakurta 2022).
//! - **zcdp**: ρ = 1/2z² for Gaussian noise, discrete or not (Canonne, Kamath, Steinke 2020); ε²/2 for
//!   what is purely ε-private (Bun, Steinke 2016; adaptively, Feldman, Zrnic 2021).
//!   Noise that sites share under a seal is Σ of their discrete Gaussians: ρ = ½(1/z + τ√d)², with z
//!   of the sum and [`tau`] vanishing for the widths that a share may have.
//! - **rdp**: Rényi divergence at one order, fixed at the first charge (Feldman, Zrnic 2021).
//!
//!   Poisson sampling is counted here alone, by the moments of Mironov, Talwar and Zhang (2019): with an
//!   integer shift they are the same for discrete noise, since Σρ(x − Δ)/Σρ(x) = 1. The other currencies
//!   count a sampled release as if all records were in it, which it never exceeds.
//!
//! **Discrete for continuous.** The exact Gaussian curve is that of continuous noise, and ours is
//! discrete. A continuous Gaussian, rounded, is post-processing of the continuous mechanism, and
//! differs from the discrete Gaussian of the same σ by at most √(Σ d/σ⁴)/17 in total variation (d
//! coordinates a release, σ in lattice units; the leading term is half of that). So
//! δ(ε) + (1 + e^ε)·√(Σ d/σ⁴)/17 is a bound for the discrete mechanism. Where it would cost more than
//! a hundredth of δ, the zCDP of the same noise is taken, ρ = μ²/2, which is exact for discrete noise
//! of any width; so are the other currencies.

pub mod gaussian;
pub mod renyi;

use privet_core::event::{Event, Mechanism};
use privet_core::ledger::{Budget, Currency};
use privet_core::sensitivity::Adjacency;
use serde::{Deserialize, Serialize};

use gaussian::{gaussian_delta, gaussian_epsilon};

/// Charges are counted in integers of 2^-40, rounded up.
const UNIT: f64 = (1u64 << 40) as f64;

/// What an account is metered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Meter {
    /// μ².
    Gaussian,
    /// ρ.
    Zcdp,
    /// Rényi divergence at this order, ≥ 2.
    Rdp(u32),
}

impl Meter {
    /// The meter of a new account. A Rényi order is chosen so that the budget buys the most
    /// Gaussian noise: the integer nearest to 1 + √(ln(1/δ)/ρ), ρ the zCDP that the budget is.
    pub fn new(currency: Currency, budget: &Budget) -> Self {
        match currency {
            Currency::Gaussian => Meter::Gaussian,
            Currency::Zcdp => Meter::Zcdp,
            Currency::Rdp => {
                let delta = budget.delta;
                let enough = |rho| renyi::zcdp_epsilon(rho, delta) >= budget.epsilon;
                let rho = smallest(enough).max(1e-9);
                Meter::Rdp((1.0 + ((1.0 / delta).ln() / rho).sqrt()).round().clamp(2.0, 1e6) as u32)
            }
        }
    }

    /// The currency it counts.
    pub fn currency(self) -> Currency {
        match self {
            Meter::Gaussian => Currency::Gaussian,
            Meter::Zcdp => Currency::Zcdp,
            Meter::Rdp(_) => Currency::Rdp,
        }
    }

    /// Name of the accountant that reads it.
    pub fn accountant(self) -> String {
        match self {
            Meter::Gaussian => "exact Gaussian".to_owned(),
            Meter::Zcdp => "zCDP".to_owned(),
            Meter::Rdp(order) => format!("RDP of order {order}"),
        }
    }

    /// What an event costs; `None` when the currency cannot pay for it.
    pub fn price(self, event: &Event) -> Option<Spent> {
        let mechanism = event.mechanism;
        let z = mechanism.noise_multiplier();
        if !self.currency().pays(event) {
            return None;
        }
        let rho = match mechanism {
            Mechanism::Gaussian { sigma_units, coordinates, .. } => {
                let tau = event.sharers.map_or(0.0, |sharers| tau(sharers, sigma_units));
                0.5 * (1.0 / z + tau * (coordinates as f64).sqrt()).powi(2)
            }
            Mechanism::Laplace { .. } | Mechanism::SparseVector { .. } => 0.5 / (z * z),
        };
        let cost = match (self, mechanism) {
            (Meter::Gaussian, _) => 1.0 / (z * z),
            (Meter::Zcdp, _) => rho,
            (Meter::Rdp(order), Mechanism::Gaussian { .. }) => match event.sampled {
                // Sampling never costs more; where no formula counts it, it is left out.
                Some(rate)
                    if event.adjacency == Adjacency::AddRemove && event.sharers.is_none() =>
                {
                    renyi::sampled_gaussian(rate.value(), z, order).min(f64::from(order) * rho)
                }
                _ => f64::from(order) * rho,
            },
            (Meter::Rdp(order), Mechanism::Laplace { .. } | Mechanism::SparseVector { .. }) => {
                renyi::pure_rdp(order, 1.0 / z)
            }
        };
        let coarseness = match (self, mechanism) {
            (Meter::Gaussian, Mechanism::Gaussian { sigma_units, coordinates, .. }) => {
                coordinates as f64 / sigma_units.powi(4)
            }
            _ => 0.0,
        };
        // The floats above are off by a few units of their last place.
        let units = (cost * UNIT * (1.0 + 1e-12)).ceil().max(1.0);
        Some(Spent { meter: self, units: units as u128, coarseness })
    }
}

/// How far the sum of `sharers` discrete Gaussians of σ is from being one: on every coordinate it
/// adds this to Δ/σ (Kairouz, Liu, Steinke 2021, arXiv 2102.06387, Proposition 14). Below 1e-67 at
/// the least σ that a share may have.
fn tau(sharers: u32, sigma: f64) -> f64 {
    let term = |k: u32| {
        let share = f64::from(k) / f64::from(k + 1);
        (-2.0 * std::f64::consts::PI.powi(2) * sigma * sigma * share).exp()
    };
    10.0 * (1..sharers).map(term).sum::<f64>()
}

/// Uses of a data set, added up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    meter: Meter,
    /// Cost in units of 2^-40.
    units: u128,
    /// Σ d/σ⁴ of Gaussian noise.
    coarseness: f64,
}

impl Spent {
    /// Nothing.
    pub fn nothing(meter: Meter) -> Self {
        Self { meter, units: 0, coarseness: 0.0 }
    }

    /// The same, `times` over.
    #[must_use]
    pub fn times(&self, times: u32) -> Self {
        Self {
            units: self.units.saturating_mul(u128::from(times)),
            coarseness: self.coarseness * f64::from(times),
            ..*self
        }
    }

    /// Both together; they are of one meter.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        debug_assert_eq!(self.meter, other.meter);
        Self {
            units: self.units.saturating_add(other.units),
            coarseness: self.coarseness + other.coarseness,
            ..*self
        }
    }

    /// What was added up, as a number: μ², ρ or Rényi divergence.
    fn cost(&self) -> f64 {
        // Below 2^53 units exact; above, ε is beyond every budget.
        self.units as f64 / UNIT
    }

    /// The ε at which all uses together are (ε, δ)-private.
    pub fn epsilon(&self, delta: f64) -> f64 {
        let cost = self.cost();
        match self.meter {
            _ if self.units == 0 => 0.0,
            // Where the bound for discreteness has no room, zCDP needs none.
            Meter::Gaussian => {
                let zcdp = renyi::zcdp_epsilon(cost / 2.0, delta);
                self.bridged_epsilon(delta).map_or(zcdp, |epsilon| epsilon.min(zcdp))
            }
            Meter::Zcdp => renyi::zcdp_epsilon(cost, delta),
            Meter::Rdp(order) => renyi::epsilon_at(f64::from(order), cost, delta),
        }
    }

    /// What the discreteness of Gaussian noise adds to δ at this ε.
    fn discreteness(&self, epsilon: f64) -> f64 {
        (1.0 + epsilon.exp()) * self.coarseness.sqrt() / 17.0
    }

    /// ε from the exact curve of continuous noise, if its discreteness costs at most a hundredth of
    /// δ.
    fn bridged_epsilon(&self, delta: f64) -> Option<f64> {
        let mu = self.cost().sqrt();
        let high = gaussian_epsilon(mu, 0.99 * delta);
        if self.discreteness(high) > delta / 100.0 {
            return None;
        }
        // At the ε of 0.99 δ the bound for discreteness has its room.
        let enough = |epsilon| gaussian_delta(mu, epsilon) + self.discreteness(epsilon) <= delta;
        Some(bisect(0.0, high, enough))
    }

    /// The largest total variation between what is seen with a unit and without it: for Gaussian
    /// noise δ(0), else by Pinsker's and Bretagnolle and Huber's inequalities from the Kullback–Leibler
    /// divergence, which is at most ρ and at most any Rényi divergence of order above one.
    pub fn total_variation(&self) -> f64 {
        let by_divergence = |kl: f64| (kl / 2.0).sqrt().min((1.0 - (-kl).exp()).sqrt());
        let cost = self.cost();
        match self.meter {
            Meter::Gaussian => {
                let exact = gaussian_delta(cost.sqrt(), 0.0) + self.discreteness(0.0);
                exact.min(by_divergence(cost / 2.0))
            }
            Meter::Zcdp | Meter::Rdp(_) => by_divergence(cost),
        }
    }
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

/// The least noise multiplier between 2^-20 and 2^30 that is enough, to one part in a million and from
/// above; the largest when none is. More noise must be enough where less is.
pub fn least_multiplier(enough: impl Fn(f64) -> bool) -> f64 {
    let (mut low, mut high) = (2f64.powi(-20), 2f64.powi(30));
    while high / low > 1.0 + 1e-6 {
        let middle = (low * high).sqrt();
        if enough(middle) { high = middle } else { low = middle }
    }
    high
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

#[cfg(test)]
mod tests {
    use super::*;
    use privet_core::sensitivity::Unit;
    use proptest::prelude::*;

    fn event(mechanism: Mechanism) -> Event {
        let adjacency = Adjacency::AddRemove;
        Event { unit: Unit::Record, adjacency, mechanism, sampled: None, sharers: None }
    }

    fn gaussian(z: f64) -> Event {
        event(Mechanism::Gaussian {
            noise_multiplier: z,
            sigma_units: z * f64::from(1 << 20),
            coordinates: 31,
        })
    }

    fn laplace(z: f64) -> Event {
        event(Mechanism::Laplace { noise_multiplier: z, scale_units: z * f64::from(1 << 20) })
    }

    fn rounds(meter: Meter, z: f64, rounds: u32) -> Spent {
        meter.price(&gaussian(z)).unwrap().times(rounds)
    }

    /// z = 4 over 20 rounds is ε = 4.98 at δ = 1e-5, and 27 rounds fit a budget of 6; counted in
    /// ρ the same is ε = 5.38.
    #[test]
    fn the_examples_budget() {
        let epsilon = rounds(Meter::Gaussian, 4.0, 20).epsilon(1e-5);
        assert!((epsilon - 4.983_306_406).abs() < 1e-6, "{epsilon}");
        assert!(rounds(Meter::Gaussian, 4.0, 27).epsilon(1e-5) <= 6.0);
        assert!(rounds(Meter::Gaussian, 4.0, 28).epsilon(1e-5) > 6.0);
        let epsilon = rounds(Meter::Zcdp, 4.0, 20).epsilon(1e-5);
        assert!((epsilon - 5.38).abs() < 0.005, "{epsilon}");
    }

    #[test]
    fn the_least_noise_just_fits_its_budget() {
        for (epsilon, mu) in [(1.0, 0.268_051), (2.0, 0.501_552), (8.0, 1.666_031)] {
            let z = least_multiplier(|z| rounds(Meter::Gaussian, z, 20).epsilon(1e-5) <= epsilon);
            assert!((z * mu / 20f64.sqrt() - 1.0).abs() < 3e-3, "{epsilon}: {z}");
            assert!(rounds(Meter::Gaussian, z, 20).epsilon(1e-5) <= epsilon);
            assert!(rounds(Meter::Gaussian, z * 0.9999, 20).epsilon(1e-5) > epsilon);
        }
    }

    #[test]
    fn a_currency_pays_for_what_it_can_count() {
        assert!(Meter::Gaussian.price(&laplace(1.0)).is_none());
        // ε = ½ a release: ρ = 1/8, and at no order more than ½.
        let spent = Meter::Zcdp.price(&laplace(2.0)).unwrap();
        assert!((spent.cost() - 0.125).abs() < 1e-9);
        for order in [2, 10, 1000] {
            assert!(Meter::Rdp(order).price(&laplace(2.0)).unwrap().cost() < 0.5);
        }
    }

    /// Proposition 14 of Kairouz, Liu and Steinke, for five sharers.
    #[test]
    fn shares_of_noise_add_up_to_noise() {
        for (sigma, known) in [
            (0.5, 1.66),
            (0.75, 4.9e-2),
            (1.0, 5.4e-4),
            (1.5, 2.3e-9),
            (2.0, 7.2e-17),
            (4.0, 2.6e-68),
        ] {
            let got = tau(5, sigma);
            assert!((got / known - 1.0).abs() < 0.02, "{sigma}: {got}");
        }
        let shared = Event { sharers: Some(3), ..gaussian(4.0) };
        assert!(Meter::Gaussian.price(&shared).is_none());
        let (sum, alone) = (Meter::Zcdp.price(&shared), Meter::Zcdp.price(&shared.alone()));
        assert_eq!(sum, Meter::Zcdp.price(&gaussian(4.0)));
        let ratio = alone.unwrap().cost() / sum.unwrap().cost();
        assert!((ratio - 3.0).abs() < 1e-6, "{ratio}");
        // Shares of half a lattice step are not noise of a tenth of it.
        let mechanism =
            Mechanism::Gaussian { noise_multiplier: 4.0, sigma_units: 0.5, coordinates: 31 };
        let coarse = Meter::Zcdp.price(&Event { mechanism, ..shared });
        assert!(coarse.unwrap().cost() > 20.0);
    }

    /// Five hundred rounds on samples of a fiftieth: ε = 3.15 at the best order, and at most that of
    /// all records in every currency.
    #[test]
    fn sampling_is_counted_where_it_can_be() {
        use privet_core::sensitivity::SamplingRate;
        let sampled = Event { sampled: SamplingRate::new(0.02), ..gaussian(1.0) };
        let epsilon = |order| Meter::Rdp(order).price(&sampled).unwrap().times(500).epsilon(1e-5);
        let best = (2..64).map(epsilon).fold(f64::INFINITY, f64::min);
        assert!((best - 3.1458).abs() < 1e-3, "{best}");
        for meter in [Meter::Gaussian, Meter::Zcdp] {
            assert_eq!(meter.price(&sampled), meter.price(&gaussian(1.0)));
        }
        let replace = Event { adjacency: Adjacency::Replace, ..sampled };
        let whole = Event { adjacency: Adjacency::Replace, ..gaussian(1.0) };
        assert_eq!(Meter::Rdp(8).price(&replace), Meter::Rdp(8).price(&whole));
    }

    /// The order is the one at which the budget's worth of Gaussian noise costs least.
    #[test]
    fn the_order_suits_the_budget() {
        for (epsilon, delta) in [(1.0, 1e-5), (6.0, 1e-5), (0.1, 1e-8), (20.0, 1e-3)] {
            let budget = Budget { epsilon, delta, ..Budget::lifetime(epsilon, delta) };
            let Meter::Rdp(order) = Meter::new(Currency::Rdp, &budget) else { panic!("RDP") };
            let rounds = |order: u32| {
                let round = Meter::Rdp(order).price(&gaussian(30.0)).unwrap();
                (1..).find(|&n| round.times(n).epsilon(delta) > epsilon).unwrap()
            };
            let best = (2..order + 50).map(rounds).max().unwrap();
            assert!(f64::from(rounds(order)) >= 0.97 * f64::from(best), "{epsilon} {delta}");
        }
    }

    proptest! {
        #[test]
        fn more_uses_cost_more_and_nothing_is_lost(z in 0.3f64..50.0, n in 1u32..500) {
            for meter in [Meter::Gaussian, Meter::Zcdp, Meter::Rdp(8)] {
                let (fewer, more) = (rounds(meter, z, n), rounds(meter, z, n + 1));
                prop_assert!(more.epsilon(1e-5) >= fewer.epsilon(1e-5));
                prop_assert!(more.total_variation() >= fewer.total_variation());
                // Never below the exact value of the continuous mechanism.
                let exact = gaussian_epsilon(f64::from(n).sqrt() / z, 1e-5);
                prop_assert!(fewer.epsilon(1e-5) >= exact * (1.0 - 1e-9));
                let tv = gaussian_delta(f64::from(n).sqrt() / z, 0.0);
                prop_assert!(fewer.total_variation() >= tv * (1.0 - 1e-9));
                let one_by_one = (0..n).fold(Spent::nothing(meter), |sum, _| {
                    sum.and(&meter.price(&gaussian(z)).unwrap())
                });
                prop_assert!(one_by_one.units == fewer.units);
            }
            // Far beyond any budget the bound for discreteness, which grows with e^ε, takes over.
            let exact = gaussian_epsilon(f64::from(n).sqrt() / z, 1e-5);
            let ours = rounds(Meter::Gaussian, z, n).epsilon(1e-5);
            prop_assert!(ours <= exact * 1.001 + 1e-6 || exact > 10.0);
            prop_assert!(rounds(Meter::Zcdp, z, n).epsilon(1e-5) <= rounds(Meter::Rdp(8), z, n).epsilon(1e-5) + 1e-9);
        }
    }
}
