//! `sparse-vector`: which numbers reach a threshold, at a price that does not grow with how many are
//! asked.
//!
//! ```text
//!   integers q₁, q₂, … ──▶ qᵢ + νᵢ ≥ T + τ ?  ──▶ T where it is (at most c times, then it stops), else 0
//!                          τ once, νᵢ anew for every question
//! ```
//! Each number of a message is one question, in the order of the tensors' names; a message is one
//! run. With ε₁ + ε₂ = ε, τ ~ Lap(Δ/ε₁) and νᵢ ~ Lap(2cΔ/ε₂), the run is purely ε-private, Δ being
//! how far one unit can move any one number (Lyu, Su, Li 2017, "Understanding the Sparse Vector
//! Technique", Algorithm 7 and Theorem 4, without numeric answers). The variances of τ and νᵢ are
//! together least at ε₁ : ε₂ = 1 : (2c)^⅔ (Theorem 5).
//!
//! *On integers.* The proof compares neighbours by moving τ by Δ and the c noises of the questions
//! that were answered by 2Δ; all of these are integers here, and discrete Laplace noise of scale s
//! becomes at most e^(k/s) times less likely when it is moved by an integer k. Where the number that
//! is asked about does not reach T, the same move only makes that more likely. What follows a stop
//! is zero without being looked at.
//!
//! What it is not for: a whole update. One site moves all its numbers, so that Δ is the clip, and
//! c answers cost noise of 2cΔ/ε on each; with c in the thousands nothing is left. There, Gaussian
//! noise on what `allow-tensors` keeps is better by orders of magnitude.

use std::collections::BTreeMap;

use privet_core::event::{Event, Mechanism};
use privet_core::flow::{BuildContext, Flow};
use privet_core::ledger::Currency;
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::sensitivity::{Adjacency, Bound, Lattice, LatticeTensor, Norm, Prover};
use privet_core::{Code, Content, Filter, FilterContext, FilterSpec, Message, Reason};
use zeroize::Zeroizing;

use crate::lattice::proved;
use crate::noise::{Law, Samplers, Session};

pub(crate) const SPEC: FilterSpec = FilterSpec {
    params: &[
        ParamSpec {
            name: "threshold",
            kind: ParamKind::Positive,
            optional: false,
            doc: "T: what a number has to reach, in the data's own scale; above 0",
        },
        ParamSpec {
            name: "answers",
            kind: ParamKind::Count,
            optional: false,
            doc: "c: how many numbers of one message may be said to reach it; whatever follows the last is 0",
        },
        ParamSpec {
            name: "noise-multiplier",
            kind: ParamKind::Positive,
            optional: false,
            doc: "z: one message is 1/z-private, however many numbers it has; above 0",
        },
    ],
    needs: "lattice integers with a proved sensitivity; each number is one question",
    gives: "T or 0 for every number, without a sensitivity; one sparse-vector event charged to the data set's budget",
    counted_in: &[Currency::Zcdp, Currency::Rdp],
    formula: "T where q + Lap(2cΔ/ε₂) ≥ T + Lap(Δ/ε₁), at most c times; ε₁ : ε₂ = 1 : (2c)^⅔, ε₁ + ε₂ = 1/z, Δ of one number (twice that under replace); Lyu, Su, Li 2017, Algorithm 7",
    not_protected: &[
        "Two records of one person count twice.",
        "The promise assumes that the machine's random numbers are unpredictable.",
        "A number is told to reach the threshold or not, not by how much; both can be wrong by the noise.",
    ],
    refusals: &[
        Code::MissingSensitivity,
        Code::BudgetExhausted,
        Code::WrongContent,
        Code::WrongStage,
        Code::Cancelled,
    ],
    example: r#"{ filter = "sparse-vector", threshold = 20.0, answers = 3, noise-multiplier = 2.0 }"#,
    blind: true,
    ..FilterSpec::new(
        "sparse-vector",
        "Says which numbers reach a threshold, a few times, and charges the budget once.",
        build,
    )
};

struct SparseVector {
    threshold: f64,
    answers: u32,
    multiplier: f64,
    adjacency: Adjacency,
    prover: Prover,
    samplers: Samplers,
}

fn build(params: &Params, context: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    let Some(&prover) = context.prover else {
        let detail = "`sparse-vector` was not registered as a built-in filter";
        return Err(Reason::new(Code::MissingSensitivity, detail));
    };
    if context.sharers.is_some() {
        let detail = "answers of single sites do not add up under a seal: use `gaussian`";
        return Err(Reason::new(Code::WrongStage, detail));
    }
    Ok(Box::new(SparseVector {
        threshold: params.number("threshold")?,
        answers: params.count("answers")?,
        multiplier: params.number("noise-multiplier")?,
        adjacency: context.adjacency,
        prover,
        samplers: Samplers::default(),
    }))
}

/// The scales of the noise on the threshold and on a question, in lattice units, rounded up.
struct Scales {
    threshold: f64,
    question: f64,
}

impl SparseVector {
    fn scales(&self, bound: &Bound) -> Scales {
        // One number moves by at most what all of them do.
        let delta = bound.in_norm(Norm::Linf, 1) as f64 * self.adjacency.factor() as f64;
        let twice = 2.0 * f64::from(self.answers);
        let ratio = twice.cbrt().powi(2);
        // ε₁ = ε/(1 + ratio) and ε₂ = ε·ratio/(1 + ratio); 1/ε = z. Each is off by a few units of
        // the last place, and is made larger by more than that.
        let wide = |scale: f64| scale * (1.0 + 1e-12);
        Scales {
            threshold: wide(self.multiplier * (1.0 + ratio) * delta),
            question: wide(self.multiplier * (1.0 + 1.0 / ratio) * twice * delta),
        }
    }

    /// T in lattice units, rounded up.
    fn units(&self, bound: &Bound) -> Result<i64, Reason> {
        let units = (self.threshold / bound.step.value()).ceil();
        if units > (1u64 << 53) as f64 {
            let detail = "the threshold is too large for this sensitivity";
            return Err(Reason::new(Code::InvalidPolicy, detail));
        }
        Ok(units as i64)
    }
}

impl Filter for SparseVector {
    fn plan(&self, mut flow: Flow) -> Result<Flow, Reason> {
        let Some(bound) = flow.bound() else {
            let detail = "there is no proved sensitivity for the noise to be scaled to";
            return Err(Reason::new(Code::MissingSensitivity, detail));
        };
        let scales = self.scales(&bound);
        self.samplers.of(Law::Laplace { scale: scales.threshold })?;
        self.samplers.of(Law::Laplace { scale: scales.question })?;
        self.units(&bound)?;
        let mechanism = Mechanism::SparseVector {
            noise_multiplier: self.multiplier,
            answers: self.answers,
            scale_units: scales.question,
        };
        let event = Event {
            unit: bound.unit,
            adjacency: self.adjacency,
            mechanism,
            sampled: bound.sampled,
            sharers: None,
        };
        // Noise that is in the numbers already only makes the answers less exact.
        flow.charge(&self.prover, event);
        flow.disprove();
        Ok(flow)
    }

    fn apply(
        &self,
        mut message: Message,
        context: &mut FilterContext<'_>,
    ) -> Result<Message, Reason> {
        let (lattice, bound) = proved(message.content)?;
        let (scales, reached) = (self.scales(&bound), self.units(&bound)?);
        let sampler = |scale| self.samplers.of(Law::Laplace { scale });
        let (on_threshold, on_question) = (sampler(scales.threshold)?, sampler(scales.question)?);
        context.charge.draw(&self.prover)?;
        let mut session = Session::open()?;
        let mut threshold = Zeroizing::new([0i64]);
        session.add(&on_threshold, &mut threshold[..], context.cancel)?;
        let threshold = i128::from(reached) + i128::from(threshold[0]);
        let mut left = self.answers;
        let mut answers = BTreeMap::new();
        for (name, tensor) in lattice.tensors() {
            let mut noise = Zeroizing::new(vec![0i64; tensor.values().len()]);
            session.add(&on_question, &mut noise, context.cancel)?;
            let answer = |(&q, &noise): (&i64, &i64)| {
                let above = left > 0 && i128::from(q) + i128::from(noise) >= threshold;
                left -= u32::from(above);
                if above { reached } else { 0 }
            };
            let values = tensor.values().iter().zip(&*noise).map(answer).collect();
            let tensor = LatticeTensor::new(tensor.shape().clone(), values);
            answers.extend(tensor.map(|tensor| (name.clone(), tensor)));
        }
        message.content = Content::Lattice(Lattice::new(lattice.step(), answers));
        Ok(message)
    }

    fn describe(&self) -> String {
        format!(
            "says of at most {} numbers of each message that they reach {}, with noise, and of nothing else",
            self.answers, self.threshold
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::{apply, build_filter, filter, prover, shared_filter};
    use privet_core::DataKind;
    use privet_core::filter::Charge;
    use privet_core::message::Protection;
    use privet_core::params::RawValue;
    use privet_core::tensor::{Shape, Tensor, Tensors, Values};

    struct Free;
    impl Charge for Free {
        fn draw(&mut self, _: &Prover) -> Result<(), Reason> {
            Ok(())
        }
    }

    fn values(threshold: f64, answers: i64, z: f64) -> [(&'static str, RawValue); 3] {
        [
            ("threshold", RawValue::Float(threshold)),
            ("answers", RawValue::Integer(answers)),
            ("noise-multiplier", RawValue::Float(z)),
        ]
    }

    fn sparse(threshold: f64, answers: i64, z: f64, adjacency: Adjacency) -> Box<dyn Filter> {
        build_filter("sparse-vector", &values(threshold, answers, z), adjacency).unwrap()
    }

    /// Numbers that one unit moves by at most 1 each.
    fn questions(numbers: Vec<f32>) -> Content {
        let shape = Shape::new(vec![numbers.len() as u64]).unwrap();
        let tensor = Tensor::new(shape, Values::F32(numbers)).unwrap();
        let plain = Content::Plain(Tensors::from_iter([("w".to_owned(), tensor)]));
        apply(&*filter("clip", "linf", 1.0, Adjacency::AddRemove), plain, &mut Free).unwrap()
    }

    fn answers(content: Content) -> Vec<f64> {
        let Content::Lattice(lattice) = content else { panic!("a lattice was expected") };
        assert!(lattice.sensitivity().is_none());
        let step = lattice.step().value();
        lattice.tensors()["w"].values().iter().map(|&q| q as f64 * step).collect()
    }

    #[test]
    fn what_reaches_the_threshold_is_said_so_often() {
        let asked = questions(vec![-1.0, 1.0, -1.0, 1.0, 1.0, -1.0, 1.0]);
        // ε = 1000: the noise is a few thousandths.
        let precise = |answers| sparse(0.5, answers, 1e-3, Adjacency::AddRemove);
        let all = answers(apply(&*precise(7), asked.clone(), &mut Free).unwrap());
        assert_eq!(all, [0.0, 0.5, 0.0, 0.5, 0.5, 0.0, 0.5]);
        let two = answers(apply(&*precise(2), asked, &mut Free).unwrap());
        assert_eq!(two, [0.0, 0.5, 0.0, 0.5, 0.0, 0.0, 0.0]);
    }

    /// The scales are those of the paper at the ε that is charged, for both neighbourhoods.
    #[test]
    fn the_noise_is_what_is_charged() {
        let mut flow = Flow::plain(DataKind::Statistics, Default::default());
        flow.protection = Protection::Lattice;
        let bound =
            crate::lattice::bound_for(privet_core::sensitivity::Unit::Record, Norm::L2, 1.0)
                .unwrap();
        flow.prove(&prover(), bound);
        for (adjacency, factor) in [(Adjacency::AddRemove, 1.0), (Adjacency::Replace, 2.0)] {
            let planned = sparse(4.0, 3, 2.0, adjacency).plan(flow.clone()).unwrap();
            let [Event { mechanism, .. }] = planned.events() else { panic!("one event") };
            let Mechanism::SparseVector { noise_multiplier, answers: 3, scale_units } = *mechanism
            else {
                panic!("{mechanism:?}")
            };
            assert!(planned.bound().is_none());
            let delta = factor * bound.lattice_units as f64;
            // ν = 2cΔ/ε₂, τ = Δ/ε₁ with ε₁ + ε₂ = ε.
            let second = 6.0 * delta / scale_units;
            let first = second / 6f64.powf(2.0 / 3.0);
            assert!((first + second - 0.5).abs() < 1e-9 && first + second <= 0.5);
            assert_eq!(noise_multiplier, 2.0);
        }
        flow.disprove();
        let refused = sparse(4.0, 3, 2.0, Adjacency::AddRemove).plan(flow).unwrap_err();
        assert_eq!(refused.code, Code::MissingSensitivity);
    }

    #[test]
    fn parameters_are_in_range_and_seals_are_for_sums() {
        let build = |values: &[(&str, RawValue)]| {
            build_filter("sparse-vector", values, Adjacency::AddRemove).is_ok()
        };
        assert!(build(&values(1.0, 1, 1.0)));
        assert!(!build(&values(1.0, 0, 1.0)) && !build(&values(1.0, 1 << 40, 1.0)));
        assert!(!build(&values(0.0, 1, 1.0)) && !build(&values(1.0, 1, -1.0)));
        let sealed = shared_filter("sparse-vector", &values(1.0, 1, 1.0), Some(3));
        assert_eq!(sealed.err().map(|reason| reason.code), Some(Code::WrongStage));
    }
}
