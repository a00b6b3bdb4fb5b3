//! `gaussian`: exact discrete Gaussian noise, scaled to the sensitivity that the message proves.
//!
//! ```text
//!   integers q with sensitivity c ──▶ q + N_ℤ(0, σ²), σ = z·c·(1, or 2 under "replace")
//! ```
//! Nothing is a float on this path: the integers get integer noise, drawn by rejection from exact
//! rational arithmetic (Canonne, Kamath, Steinke 2020) through opendp's sampler. It is not
//! constant-time.

use dashu::integer::IBig;
use dashu::rational::RBig;
use opendp::traits::samplers::sample_discrete_gaussian;
use privet_core::event::{Event, Mechanism};
use privet_core::flow::{BuildContext, Flow};
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::sensitivity::{Adjacency, Bound, Prover};
use privet_core::{Code, Content, Filter, FilterContext, FilterSpec, Message, Reason};
use rayon::prelude::*;

pub(crate) const SPEC: FilterSpec = FilterSpec {
    params: &[ParamSpec {
        name: "noise-multiplier",
        kind: ParamKind::Positive,
        optional: false,
        doc: "z: standard deviation of the noise over the proved sensitivity; above 0",
    }],
    needs: "lattice integers with a proved sensitivity (from `clip`, or a built-in trainer with `record-clip`)",
    gives: "the same integers with noise; one gaussian event charged to the data set's budget",
    formula: "P(noise = x) ∝ exp(−x²/2σ²), x ∈ ℤ, σ = z·c (add-remove) or 2z·c (replace); Canonne, Kamath, Steinke 2020",
    not_protected: &[
        "Two records of one person count twice.",
        "The promise assumes that the machine's random numbers are unpredictable.",
        "The time that sampling takes depends on the noise; it is not constant.",
    ],
    refusals: &[
        Code::MissingSensitivity,
        Code::BudgetExhausted,
        Code::WrongContent,
        Code::Cancelled,
    ],
    example: r#"{ filter = "gaussian", noise-multiplier = 4.0 }"#,
    ..FilterSpec::new(
        "gaussian",
        "Adds exact discrete Gaussian noise and charges the budget.",
        build,
    )
};

struct Gaussian {
    multiplier: f64,
    adjacency: Adjacency,
    prover: Prover,
}

fn build(params: &Params, context: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    let Some(&prover) = context.prover else {
        let detail = "`gaussian` was not registered as a built-in filter";
        return Err(Reason::new(Code::MissingSensitivity, detail));
    };
    Ok(Box::new(Gaussian {
        multiplier: params.number("noise-multiplier")?,
        adjacency: context.adjacency,
        prover,
    }))
}

impl Gaussian {
    /// σ in lattice units, rounded up: never less noise than is charged for.
    fn sigma(&self, bound: &Bound) -> f64 {
        let sensitivity = bound.lattice_units * self.adjacency.factor();
        (self.multiplier * sensitivity as f64).next_up()
    }
}

impl Filter for Gaussian {
    fn plan(&self, mut flow: Flow) -> Result<Flow, Reason> {
        let Some(bound) = flow.bound() else {
            let detail = "there is no proved sensitivity for the noise to be scaled to";
            return Err(Reason::new(Code::MissingSensitivity, detail));
        };
        let event = Event {
            unit: bound.unit,
            adjacency: self.adjacency,
            mechanism: Mechanism::Gaussian {
                noise_multiplier: self.multiplier,
                sigma_units: self.sigma(&bound),
                coordinates: flow.schema.elements(),
            },
        };
        // x + n₁ + n₂ is post-processing of x + n₁ and of x + n₂: of several noises on one
        // message the strongest pays for all.
        let stronger = flow.events().iter().any(|earlier| {
            let Mechanism::Gaussian { noise_multiplier, .. } = earlier.mechanism;
            noise_multiplier >= self.multiplier
        });
        if !stronger {
            flow.charge(&self.prover, vec![event]);
        }
        Ok(flow)
    }

    fn apply(
        &self,
        mut message: Message,
        context: &mut FilterContext<'_>,
    ) -> Result<Message, Reason> {
        let Content::Lattice(lattice) = message.content else {
            let detail =
                format!("lattice integers were expected, not {}", message.content.as_str());
            return Err(Reason::new(Code::WrongContent, detail));
        };
        let Some(sensitivity) = lattice.sensitivity() else {
            let detail = "the proof of sensitivity was lost on the way: an earlier filter changed the numbers";
            return Err(Reason::new(Code::MissingSensitivity, detail));
        };
        context.charge.draw(&self.prover)?;
        let sigma = exact(self.sigma(&sensitivity.bound()))?;
        let cancel = context.cancel;
        let noised = lattice.add_independent(&self.prover, |values| {
            values.par_chunks_mut(256).try_for_each(|chunk| {
                cancel.check()?;
                for value in chunk {
                    // Saturation is post-processing: it costs utility, never privacy.
                    *value = value.saturating_add(draw(&sigma)?);
                }
                Ok(())
            })
        })?;
        message.content = Content::Lattice(noised);
        Ok(message)
    }

    fn describe(&self) -> String {
        let what = match self.adjacency {
            Adjacency::AddRemove => "the sensitivity",
            Adjacency::Replace => "twice the sensitivity (replace)",
        };
        format!("adds exact integer Gaussian noise of σ = {} × {what}", self.multiplier)
    }
}

fn exact(sigma: f64) -> Result<RBig, Reason> {
    RBig::try_from(sigma)
        .map_err(|_| Reason::new(Code::InvalidPolicy, "the noise's σ is no finite number"))
}

fn draw(sigma: &RBig) -> Result<i64, Reason> {
    let noise: IBig = sample_discrete_gaussian(sigma.clone())
        .map_err(|_| Reason::new(Code::StorageFailed, "the machine gave no random numbers"))?;
    let positive = noise > IBig::ZERO;
    Ok(i64::try_from(noise).unwrap_or(if positive { i64::MAX } else { i64::MIN }))
}

/// Draws from the discrete Gaussian of this σ > 0 on the integers.
///
/// # Errors
/// When σ is not positive and finite, or the machine gives no random numbers.
pub fn sample(sigma: f64, draws: usize) -> Result<Vec<i64>, Reason> {
    if !(sigma.is_finite() && sigma > 0.0) {
        return Err(Reason::new(Code::InvalidPolicy, "σ must be positive and finite"));
    }
    let sigma = exact(sigma)?;
    (0..draws).map(|_| draw(&sigma)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::{apply, filter};
    use privet_core::DataKind;
    use privet_core::filter::{Charge, NoCharge};
    use privet_core::flow::Promise;
    use privet_core::message::Protection;
    use privet_core::sensitivity::Unit;
    use privet_core::tensor::{Shape, Tensor, Tensors, Values};

    #[derive(Default)]
    struct Counter(u32);
    impl Charge for Counter {
        fn draw(&mut self, _: &Prover) -> Result<(), Reason> {
            self.0 += 1;
            Ok(())
        }
    }

    fn gaussian(z: f64, adjacency: Adjacency) -> Box<dyn Filter> {
        filter("gaussian", "noise-multiplier", z, adjacency)
    }

    fn clipped(dims: Vec<u64>) -> Content {
        let shape = Shape::new(dims).unwrap();
        let zeros = vec![0.0; shape.elements() as usize];
        let tensor = Tensor::new(shape, Values::F32(zeros)).unwrap();
        let plain = Content::Plain(Tensors::from_iter([("w".to_owned(), tensor)]));
        let clip = filter("clip", "l2", 1.0, Adjacency::AddRemove);
        apply(&*clip, plain, &mut NoCharge).unwrap()
    }

    fn values(content: Content) -> Vec<i64> {
        let Content::Lattice(lattice) = content else { panic!("a lattice was expected") };
        lattice.tensors()["w"].values().to_vec()
    }

    /// σ = z·c within 5 standard errors, twice that under "replace", and a mean of zero.
    #[test]
    fn the_noise_has_the_scale_that_is_charged() {
        for (adjacency, factor) in [(Adjacency::AddRemove, 1.0), (Adjacency::Replace, 2.0)] {
            let n = 4000;
            let noisy =
                apply(&*gaussian(0.5, adjacency), clipped(vec![n]), &mut Counter::default());
            let noise = values(noisy.unwrap());
            let sigma = 0.5 * factor * f64::from(1 << 20);
            let mean = noise.iter().map(|&x| x as f64).sum::<f64>() / n as f64;
            let variance = noise.iter().map(|&x| (x as f64).powi(2)).sum::<f64>() / n as f64;
            assert!(mean.abs() < 5.0 * sigma / (n as f64).sqrt());
            assert!((variance / sigma.powi(2) - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt());
        }
    }

    /// Small σ: the empirical frequencies fit the discrete Gaussian's (chi-square, 6 standard
    /// deviations), where a rounded continuous Gaussian would not.
    #[test]
    fn the_sampler_is_discrete_gaussian() {
        let (sigma, draws) = (0.7f64, 20_000);
        let mut counts = [0f64; 5];
        for x in sample(sigma, draws).unwrap() {
            counts[(x.clamp(-2, 2) + 2) as usize] += 1.0;
        }
        let weight = |x: i32| (-f64::from(x * x) / (2.0 * sigma * sigma)).exp();
        let total: f64 = (-20..=20).map(weight).sum();
        let tail: f64 = (2..=20).map(weight).sum();
        let expected = [tail, weight(-1), weight(0), weight(1), tail];
        let chi: f64 = counts
            .iter()
            .zip(expected)
            .map(|(&n, w)| {
                let mean = draws as f64 * w / total;
                (n - mean).powi(2) / mean
            })
            .sum();
        assert!(chi < 4.0 + 6.0 * 8f64.sqrt(), "chi-square {chi} on 4");
    }

    #[test]
    fn a_scalar_gets_noise_and_two_runs_differ() {
        let run = || {
            let mut charge = Counter::default();
            let noisy = apply(&*gaussian(4.0, Adjacency::AddRemove), clipped(vec![]), &mut charge);
            assert_eq!(charge.0, 1);
            values(noisy.unwrap())
        };
        assert_ne!(run(), run());
    }

    #[test]
    fn no_proof_no_reservation_no_noise() {
        let z = gaussian(4.0, Adjacency::AddRemove);
        let unpaid = apply(&*z, clipped(vec![2]), &mut NoCharge).unwrap_err();
        assert_eq!(unpaid.code, Code::BudgetExhausted);
        let Content::Lattice(lattice) = clipped(vec![2]) else { unreachable!() };
        let changed = Content::Lattice(lattice.map::<()>(|_| Ok(())).unwrap());
        let mut charge = Counter::default();
        let unproved = apply(&*z, changed, &mut charge).unwrap_err();
        assert_eq!(unproved.code, Code::MissingSensitivity);
        assert_eq!(charge.0, 0);
        let plain = Content::Plain(Tensors::default());
        assert_eq!(apply(&*z, plain, &mut charge).unwrap_err().code, Code::WrongContent);
    }

    #[test]
    fn the_strongest_noise_pays() {
        let promise = Promise {
            kind: DataKind::Gradient,
            schema: Default::default(),
            protection: Protection::Lattice,
            bound: crate::lattice::bound_for(Unit::Record, 0.5),
            local_steps: 1,
            metrics: vec![],
        };
        let plan = |flow, z| gaussian(z, Adjacency::AddRemove).plan(flow).unwrap();
        let z = |flow: &Flow| {
            let [Event { mechanism: Mechanism::Gaussian { noise_multiplier, .. }, .. }] =
                flow.events()[..]
            else {
                panic!("one event was expected")
            };
            noise_multiplier
        };
        let one = plan(promise.flow(), 1.0);
        let two = plan(one, 4.0);
        assert_eq!(z(&two), 4.0);
        assert_eq!(z(&plan(two, 2.0)), 4.0);
        let mut bare = promise.flow();
        bare.disprove();
        let refused = gaussian(1.0, Adjacency::AddRemove).plan(bare).unwrap_err();
        assert_eq!(refused.code, Code::MissingSensitivity);
    }
}
