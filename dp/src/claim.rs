//! `danger-accept-claim`: takes a training program's word for how far one record moves its update.
//!
//! ```text
//!   plain floats x, "no record moves this by more than C" ──▶ integers ⌊x/γ⌋ ──▶ sensitivity (record, c + √d), claimed
//! ```
//! A gate sees an update and not the gradients that it was made of: whether they were clipped record
//! by record, it cannot tell (research on auditing private training says the same of any observer).
//! Where Privet's own trainer does not train, the data owner may believe the program that does. All
//! that is enforced is the arithmetic: floats that are within C of each other become integers that
//! are within c + √d of each other, since truncation moves each of d coordinates by less than one.

use std::collections::BTreeMap;

use privet_core::flow::{BuildContext, Flow};
use privet_core::message::Protection;
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::sensitivity::{Bound, Lattice, LatticeTensor, Norm, Prover, Unit};
use privet_core::{Code, Content, Filter, FilterContext, FilterSpec, Message, Reason};

use crate::lattice::bound_for;

pub(crate) const SPEC: FilterSpec = FilterSpec {
    params: &[ParamSpec {
        name: "record-l2",
        kind: ParamKind::Positive,
        optional: false,
        doc: "C: the farthest, in Euclidean norm and the update's own scale, that the training program says one record moves its update",
    }],
    needs: "plain tensors; in a site's own rule",
    gives: "lattice integers with a claimed sensitivity: unit record; zeros where a number is NaN or infinite",
    formula: "q = trunc(x/γ), γ = 2^-k; if ‖x − x′‖ ≤ C for neighbours then ‖q − q′‖ ≤ C/γ + √d",
    not_protected: &[
        "The record bound is claimed, not enforced: if the training program does not clip every record, the promise is void.",
    ],
    refusals: &[Code::WrongStage, Code::WrongContent, Code::InvalidPolicy, Code::InvalidJob],
    example: r#"{ filter = "danger-accept-claim", record-l2 = 0.5 }"#,
    blind: true,
    ..FilterSpec::new(
        "danger-accept-claim",
        "Believes a training program's claim that it clips every record.",
        build,
    )
};

struct Claim {
    clip: f64,
    bound: Bound,
    prover: Prover,
}

/// Coordinates beyond this many units of the lattice stay there: sums of them cannot overflow.
const MOST: f64 = (1u64 << 52) as f64;

fn build(params: &Params, context: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    let clip = params.number("record-l2")?;
    let Some(bound) = bound_for(Unit::Record, Norm::L2, clip) else {
        let detail = "the claimed bound is too small or too large";
        return Err(Reason::new(Code::InvalidPolicy, detail));
    };
    let Some(&prover) = context.prover else {
        let detail = "`danger-accept-claim` was not registered as a built-in filter";
        return Err(Reason::new(Code::MissingSensitivity, detail));
    };
    Ok(Box::new(Claim { clip, bound, prover }))
}

impl Claim {
    /// The claimed bound with what truncation adds to it.
    fn bound(&self, coordinates: u64) -> Bound {
        let root = coordinates.isqrt();
        let root = root + u64::from(root * root < coordinates);
        Bound { lattice_units: self.bound.lattice_units + 1 + root, ..self.bound }
    }
}

impl Filter for Claim {
    fn plan(&self, mut flow: Flow) -> Result<Flow, Reason> {
        if flow.protection != Protection::Plain {
            let detail = "this needs plain numbers, and these carry a bound already";
            return Err(Reason::new(Code::WrongStage, detail));
        }
        flow.protection = Protection::Lattice;
        let bound = self.bound(flow.schema.elements());
        flow.prove(&self.prover, bound);
        Ok(flow)
    }

    fn apply(&self, mut message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
        let Content::Plain(tensors) = &message.content else {
            let detail = format!("plain tensors were expected, not {}", message.content.as_str());
            return Err(Reason::new(Code::WrongContent, detail));
        };
        let scale = if tensors.all_finite() { 1.0 / self.bound.step.value() } else { 0.0 };
        let mut integers = BTreeMap::new();
        for (name, tensor) in &tensors.0 {
            let mut values = Vec::with_capacity(tensor.values().len());
            // A cast of NaN, which 0 times an infinity is, gives 0.
            tensor.values().for_each(|x| values.push((x * scale).clamp(-MOST, MOST) as i64));
            let tensor = LatticeTensor::new(tensor.shape().clone(), values);
            integers.extend(tensor.map(|tensor| (name.clone(), tensor)));
        }
        let bound = self.bound(tensors.schema().elements());
        message.content = Content::Lattice(Lattice::proven(&self.prover, integers, bound));
        Ok(message)
    }

    fn describe(&self) -> String {
        format!(
            "believes the training program that no record moves its update by more than {} (claimed, not enforced)",
            self.clip
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::{apply, filter};
    use privet_core::filter::NoCharge;
    use privet_core::sensitivity::Adjacency;
    use privet_core::tensor::{Tensor, Tensors};
    use proptest::prelude::*;

    fn claimed(values: Vec<f32>) -> Lattice {
        let claim = filter("danger-accept-claim", "record-l2", 0.5, Adjacency::AddRemove);
        let plain = Tensors::from_iter([("w".to_owned(), Tensor::vector(values))]);
        match apply(&*claim, Content::Plain(plain), &mut NoCharge).unwrap() {
            Content::Lattice(lattice) => lattice,
            other => panic!("{}", other.as_str()),
        }
    }

    proptest! {
        /// Updates as far apart as is claimed become integers as far apart as is said.
        #[test]
        fn truncation_stays_within_the_bound(
            update in proptest::collection::vec(-1e3f32..1e3, 40),
            moves in proptest::collection::vec(-1f32..1.0, 40),
        ) {
            let norm = moves.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt().max(1e-9);
            let moved: Vec<f64> = update
                .iter()
                .zip(&moves)
                .map(|(&x, &m)| f64::from(x) + 0.5 * f64::from(m) / norm)
                .collect();
            let rounded: Vec<f32> = moved.iter().map(|&x| x as f32).collect();
            // What a float sum rounds is the program's to count; here it is taken out.
            let slip: f64 = rounded.iter().zip(&moved).map(|(&r, &m)| (f64::from(r) - m).powi(2)).sum();
            let (a, b) = (claimed(update), claimed(rounded));
            let bound = a.sensitivity().unwrap().bound();
            prop_assert_eq!(bound.unit, Unit::Record);
            let square: f64 = a.tensors()["w"].values().iter().zip(b.tensors()["w"].values())
                .map(|(a, b)| ((a - b) as f64).powi(2)).sum();
            let slip = slip.sqrt() / bound.step.value();
            prop_assert!(square.sqrt() <= bound.lattice_units as f64 + slip);
        }
    }

    #[test]
    fn what_is_not_finite_is_nothing() {
        for broken in [f32::NAN, f32::INFINITY] {
            assert_eq!(claimed(vec![1.0, broken]).l2(), 0.0);
        }
        assert!(claimed(vec![f32::MAX]).l2() > 0.0);
    }
}
