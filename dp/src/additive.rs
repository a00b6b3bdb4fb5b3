//! `gaussian` and `laplace`: exact discrete noise, scaled to the sensitivity that the message proves.
//!
//! ```text
//!   integers q with sensitivity Δ ──▶ q + noise, width = z·Δ·(1, or 2 under "replace")
//!     gaussian: Δ in the Euclidean norm     laplace: Δ in the sum of magnitudes
//! ```
//! Nothing is a float on this path: the integers get integer [`noise`](crate::noise).

use privet_core::event::{Event, Mechanism};
use privet_core::flow::{BuildContext, Flow};
use privet_core::ledger::Currency;
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::sensitivity::{Adjacency, Bound, Norm, Prover};
use privet_core::{Code, Content, Filter, FilterContext, FilterSpec, Message, Reason};

use crate::lattice::proved;
use crate::noise::{Law, Samplers, Session};

const NEEDS: &str = "lattice integers with a proved sensitivity (from `clip`, or a built-in trainer with `record-clip`)";
const NOT_PROTECTED: &[&str] = &[
    "Two records of one person count twice.",
    "The promise assumes that the machine's random numbers are unpredictable.",
    "The time that sampling takes depends on the noise; it is not constant.",
];
const REFUSALS: &[Code] =
    &[Code::MissingSensitivity, Code::BudgetExhausted, Code::WrongContent, Code::Cancelled];

pub(crate) const GAUSSIAN: FilterSpec = FilterSpec {
    params: &[ParamSpec {
        name: "noise-multiplier",
        kind: ParamKind::Positive,
        optional: false,
        doc: "z: standard deviation of the noise over the proved sensitivity; above 0",
    }],
    needs: NEEDS,
    gives: "the same integers with noise; one gaussian event charged to the data set's budget",
    counted_in: &[Currency::Gaussian, Currency::Zcdp, Currency::Rdp],
    formula: "P(noise = x) ∝ exp(−x²/2σ²), x ∈ ℤ, σ = z·Δ₂ (add-remove) or 2z·Δ₂ (replace); Canonne, Kamath, Steinke 2020",
    not_protected: NOT_PROTECTED,
    refusals: REFUSALS,
    example: r#"{ filter = "gaussian", noise-multiplier = 4.0 }"#,
    blind: true,
    ..FilterSpec::new(
        "gaussian",
        "Adds exact discrete Gaussian noise and charges the budget.",
        |params, context| build(Kind::Gaussian, params, context),
    )
};

pub(crate) const LAPLACE: FilterSpec = FilterSpec {
    params: &[ParamSpec {
        name: "noise-multiplier",
        kind: ParamKind::Positive,
        optional: false,
        doc: "z: scale of the noise over the proved sensitivity, so that one release is 1/z-private; above 0",
    }],
    needs: NEEDS,
    gives: "the same integers with noise; one laplace event charged to the data set's budget",
    counted_in: &[Currency::Zcdp, Currency::Rdp],
    formula: "P(noise = x) ∝ exp(−|x|/s), x ∈ ℤ, s = z·Δ₁ (add-remove) or 2z·Δ₁ (replace); ε = 1/z exactly; Ghosh, Roughgarden, Sundararajan 2012",
    not_protected: NOT_PROTECTED,
    refusals: REFUSALS,
    example: r#"{ filter = "laplace", noise-multiplier = 10.0 }"#,
    blind: true,
    ..FilterSpec::new(
        "laplace",
        "Adds exact discrete Laplace noise and charges the budget.",
        |params, context| build(Kind::Laplace, params, context),
    )
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Gaussian,
    Laplace,
}

impl Kind {
    fn norm(self) -> Norm {
        match self {
            Kind::Gaussian => Norm::L2,
            Kind::Laplace => Norm::L1,
        }
    }

    fn law(self, width: f64) -> Law {
        match self {
            Kind::Gaussian => Law::Gaussian { sigma: width },
            Kind::Laplace => Law::Laplace { scale: width },
        }
    }
}

/// The narrowest share: the sum of wider ones is a discrete Gaussian for all purposes.
const LEAST_SHARE: f64 = 4.0;

struct Additive {
    kind: Kind,
    multiplier: f64,
    adjacency: Adjacency,
    /// See [`BuildContext::sharers`].
    sharers: Option<u32>,
    prover: Prover,
    samplers: Samplers,
}

fn build(
    kind: Kind,
    params: &Params,
    context: &BuildContext<'_>,
) -> Result<Box<dyn Filter>, Reason> {
    let Some(&prover) = context.prover else {
        let detail = "noise was not registered as a built-in filter";
        return Err(Reason::new(Code::MissingSensitivity, detail));
    };
    if kind == Kind::Laplace && context.sharers.is_some() {
        let detail = "shares of Laplace noise do not add up to Laplace noise: use `gaussian`";
        return Err(Reason::new(Code::WrongStage, detail));
    }
    Ok(Box::new(Additive {
        kind,
        multiplier: params.number("noise-multiplier")?,
        adjacency: context.adjacency,
        sharers: context.sharers,
        prover,
        samplers: Samplers::default(),
    }))
}

impl Additive {
    /// σ or scale in lattice units, rounded up: never less noise than is charged for. Of h sharers
    /// each adds σ/√h, so that the honest ones' together are σ, whatever the others do.
    fn width(&self, bound: &Bound, coordinates: u64) -> f64 {
        let sensitivity = bound.in_norm(self.kind.norm(), coordinates);
        // Beyond 2^53 it would be rounded; no sampler is that wide.
        if sensitivity > 1 << 53 {
            return f64::INFINITY;
        }
        let whole =
            (self.multiplier * (sensitivity as f64 * self.adjacency.factor() as f64)).next_up();
        match self.sharers {
            None => whole,
            // √h rounded down, the quotient up.
            Some(sharers) => (whole / f64::from(sharers).sqrt().next_down()).next_up(),
        }
    }
}

impl Filter for Additive {
    fn plan(&self, mut flow: Flow) -> Result<Flow, Reason> {
        let Some(bound) = flow.bound() else {
            let detail = "there is no proved sensitivity for the noise to be scaled to";
            return Err(Reason::new(Code::MissingSensitivity, detail));
        };
        let coordinates = flow.schema.elements();
        let width = self.width(&bound, coordinates);
        self.samplers.of(self.kind.law(width))?;
        if self.sharers.is_some() && width < LEAST_SHARE {
            let detail = "a share of the noise would be less than four lattice units wide";
            return Err(Reason::new(Code::LatticeTooCoarse, detail));
        }
        let mechanism = match self.kind {
            Kind::Gaussian => Mechanism::Gaussian {
                noise_multiplier: self.multiplier,
                sigma_units: width,
                coordinates,
            },
            Kind::Laplace => {
                Mechanism::Laplace { noise_multiplier: self.multiplier, scale_units: width }
            }
        };
        flow.noised(&self.prover, mechanism.deviation_units());
        // x + n₁ + n₂ is post-processing of x + n₁ and of x + n₂: of several noises on one
        // message one may pay for all. It is the stronger of two of a kind, else the later.
        let stronger = flow.replaceable().iter().any(|earlier| {
            earlier.mechanism.name() == mechanism.name()
                && earlier.mechanism.noise_multiplier() >= self.multiplier
        });
        if !stronger {
            let (unit, adjacency, sharers) = (bound.unit, self.adjacency, self.sharers);
            let event = Event { unit, adjacency, mechanism, sampled: bound.sampled, sharers };
            flow.charge(&self.prover, event);
        }
        Ok(flow)
    }

    fn apply(
        &self,
        mut message: Message,
        context: &mut FilterContext<'_>,
    ) -> Result<Message, Reason> {
        let (lattice, bound) = proved(message.content)?;
        let width = self.width(&bound, lattice.elements());
        let sampler = self.samplers.of(self.kind.law(width))?;
        context.charge.draw(&self.prover)?;
        let mut session = Session::open()?;
        let cancel = context.cancel;
        let noised = lattice
            .add_independent(&self.prover, |values| session.add(&sampler, values, cancel))?;
        message.content = Content::Lattice(noised);
        Ok(message)
    }

    fn describe(&self) -> String {
        let what = match self.adjacency {
            Adjacency::AddRemove => "the sensitivity",
            Adjacency::Replace => "twice the sensitivity (replace)",
        };
        match self.kind {
            Kind::Gaussian => {
                let share = self.sharers.map_or(String::new(), |sharers| {
                    format!(" for the sum, of which this site's share is 1/√{sharers}")
                });
                format!(
                    "adds exact integer Gaussian noise of σ = {} × {what}{share}",
                    self.multiplier
                )
            }
            Kind::Laplace => {
                format!("adds exact integer Laplace noise of scale {} × {what}", self.multiplier)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::{apply, filter, prover, shared_filter};
    use privet_core::DataKind;
    use privet_core::filter::{Charge, NoCharge};
    use privet_core::flow::Promise;
    use privet_core::message::Protection;
    use privet_core::params::RawValue;
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

    /// Three honest sites of five: the sum of their shares has the σ that is promised for it, and the
    /// sum of all five a little more.
    #[test]
    fn shares_add_up_to_the_noise_of_the_sum() {
        let n = 20_000;
        let shares: Vec<Vec<i64>> = (0..5)
            .map(|_| {
                let value = [("noise-multiplier", RawValue::Float(0.5))];
                let filter = shared_filter("gaussian", &value, Some(3)).unwrap();
                let noisy = apply(&*filter, clipped(vec![n]), &mut Counter::default());
                values(noisy.unwrap())
            })
            .collect();
        let deviation = |sites: &[Vec<i64>]| {
            let sum = |at: usize| sites.iter().map(|site| site[at]).sum::<i64>() as f64;
            ((0..n as usize).map(|at| sum(at).powi(2)).sum::<f64>() / n as f64).sqrt()
        };
        let sigma = 0.5 * f64::from(1 << 20);
        let near = |x: f64, y: f64| assert!((x / y - 1.0).abs() < 0.03, "{x} {y}");
        near(deviation(&shares[..3]), sigma);
        near(deviation(&shares), sigma * (5f64 / 3.0).sqrt());
        near(deviation(&shares[..1]), sigma / 3f64.sqrt());
    }

    #[test]
    fn a_share_is_wide_enough_and_gaussian() {
        let bound = Bound {
            lattice_units: 16,
            ..crate::lattice::bound_for(Unit::Record, Norm::L2, 0.5).unwrap()
        };
        let flow = || {
            let mut flow = Flow::plain(DataKind::Gradient, Default::default());
            flow.protection = Protection::Lattice;
            flow.prove(&prover(), bound);
            flow
        };
        let plan = |z: f64, sharers| {
            let value = [("noise-multiplier", RawValue::Float(z))];
            shared_filter("gaussian", &value, sharers).unwrap().plan(flow())
        };
        // Three shares of σ = 16z/√3.
        assert_eq!(plan(0.4, Some(3)).unwrap_err().code, Code::LatticeTooCoarse);
        assert!(plan(0.4, None).is_ok());
        let event = plan(1.0, Some(3)).unwrap().events()[0];
        assert_eq!((event.sharers, event.mechanism.noise_multiplier()), (Some(3), 1.0));
        let value = [("noise-multiplier", RawValue::Float(1.0))];
        assert!(shared_filter("laplace", &value, Some(3)).is_err());
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
            task: "train",
            kind: DataKind::Gradient,
            schema: Default::default(),
            protection: Protection::Lattice,
            bound: crate::lattice::bound_for(Unit::Record, Norm::L2, 0.5),
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
