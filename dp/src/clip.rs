//! `clip`: bounds a site's whole update in the Euclidean norm and puts it on the lattice.
//!
//! ```text
//!   plain floats x ──▶ x·min(1, C/‖x‖) ──▶ integers q, Σq² ≤ c² checked ──▶ sensitivity (site, c)
//! ```

use privet_core::flow::{BuildContext, Flow};
use privet_core::message::Protection;
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::sensitivity::{Bound, Lattice, Prover, Unit};
use privet_core::tensor::Values;
use privet_core::{Code, Content, Filter, FilterContext, FilterSpec, Message, Reason};

use crate::lattice::{bound_for, quantise, split};

pub(crate) const SPEC: FilterSpec = FilterSpec {
    params: &[ParamSpec {
        name: "l2",
        kind: ParamKind::Positive,
        optional: false,
        doc: "largest Euclidean norm of the whole update, in the update's own scale",
    }],
    needs: "plain tensors, finite",
    gives: "lattice integers with a proved sensitivity: unit site, norm l2",
    formula: "q = trunc(x·min(1, C/‖x‖)/γ), γ = 2^-k; proved by Σq² ≤ c² in integers",
    not_protected: &[
        "Clipping alone hides nothing: the clipped update leaves as it is unless noise follows.",
        "The bound is on the site's whole update; it says nothing about single records.",
    ],
    refusals: &[Code::NotFinite, Code::WrongStage, Code::InvalidPolicy],
    example: r#"{ filter = "clip", l2 = 1.0 }"#,
    ..FilterSpec::new("clip", "Scales the update down to a largest norm and proves it.", build)
};

struct Clip {
    l2: f64,
    bound: Bound,
    prover: Prover,
}

fn build(params: &Params, context: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    let l2 = params.number("l2")?;
    let Some(bound) = bound_for(Unit::Site, l2) else {
        let detail = "`l2` is too small or too large";
        return Err(Reason::new(Code::InvalidPolicy, detail));
    };
    let Some(&prover) = context.prover else {
        let detail = "`clip` was not registered as a built-in filter";
        return Err(Reason::new(Code::MissingSensitivity, detail));
    };
    Ok(Box::new(Clip { l2, bound, prover }))
}

impl Filter for Clip {
    fn plan(&self, mut flow: Flow) -> Result<Flow, Reason> {
        if flow.protection != Protection::Plain {
            let detail = "`clip` needs plain floats, and these are lattice integers already";
            return Err(Reason::new(Code::WrongStage, detail));
        }
        flow.protection = Protection::Lattice;
        flow.prove(&self.prover, self.bound);
        Ok(flow)
    }

    fn apply(&self, mut message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
        let Content::Plain(tensors) = &message.content else {
            let detail = format!("plain tensors were expected, not {}", message.content.as_str());
            return Err(Reason::new(Code::WrongContent, detail));
        };
        let not_finite = || Reason::new(Code::NotFinite, "the update holds NaN or an infinity");
        let schema = tensors.schema();
        let mut flat: Vec<f32> = Vec::with_capacity(schema.elements() as usize);
        for tensor in tensors.0.values() {
            match tensor.values() {
                Values::F32(values) => flat.extend_from_slice(values),
                Values::F64(values) => flat.extend(values.iter().map(|&x| x as f32)),
            }
        }
        let mut integers = Vec::with_capacity(flat.len());
        if !quantise(flat.iter(), &self.bound, &mut integers) {
            return Err(not_finite());
        }
        let tensors = split(integers, &schema).ok_or_else(not_finite)?;
        let lattice = Lattice::proven(&self.prover, tensors, self.bound);
        message.content = Content::Lattice(lattice);
        Ok(message)
    }

    fn describe(&self) -> String {
        format!("scales the whole update down to norm {}", self.l2)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use privet_core::filter::{Cancel, Charge, NoCharge};
    use privet_core::sensitivity::Adjacency;
    use privet_core::tensor::{Shape, Tensor, Tensors};
    use privet_core::{DataKind, Registry};

    pub(crate) fn filter(
        name: &str,
        key: &str,
        value: f64,
        adjacency: Adjacency,
    ) -> Box<dyn Filter> {
        let registry = Registry::with_builtins(|builtins| {
            crate::specs().into_iter().for_each(|spec| builtins.filter(spec));
        });
        let mut params = Params::default();
        let raw = privet_core::params::RawValue::Float(value);
        params.set(registry.spec(name).unwrap().params, key, raw).unwrap();
        let context = BuildContext { model: &Default::default(), adjacency, prover: None };
        registry.build(name, &params, &context).unwrap()
    }

    pub(crate) fn apply(
        filter: &dyn Filter,
        content: Content,
        charge: &mut dyn Charge,
    ) -> Result<Content, Reason> {
        let mut context = FilterContext { round: 1, charge, cancel: &Cancel::default() };
        let message = Message::new("train", DataKind::WeightDiff, content);
        filter.apply(message, &mut context).map(|m| m.content)
    }

    fn plain(values: Vec<f32>) -> Content {
        let scalar =
            Tensor::new(Shape::new(vec![]).unwrap(), Values::F32(vec![values[0]])).unwrap();
        let tensors = [("v".to_owned(), Tensor::vector(values)), ("s".to_owned(), scalar)];
        Content::Plain(Tensors::from_iter(tensors))
    }

    fn clip(l2: f64) -> Box<dyn Filter> {
        filter("clip", "l2", l2, Adjacency::AddRemove)
    }

    #[test]
    fn the_norm_over_all_tensors_is_bounded_scalars_included() {
        let Content::Lattice(clipped) =
            apply(&*clip(1.0), plain(vec![30.0, 40.0]), &mut NoCharge).unwrap()
        else {
            panic!("a lattice was expected")
        };
        let bound = clipped.sensitivity().unwrap().bound();
        assert_eq!((bound.unit, bound.lattice_units), (Unit::Site, 1 << 20));
        assert!((clipped.l2() - 1.0).abs() < 1e-5);
        assert!(clipped.tensors()["s"].values()[0] > 0);
        let Content::Lattice(short) =
            apply(&*clip(1.0), plain(vec![0.25, 0.0]), &mut NoCharge).unwrap()
        else {
            panic!("a lattice was expected")
        };
        assert!((short.l2() - 0.25 * 2f64.sqrt()).abs() < 1e-5);
    }

    #[test]
    fn nan_is_refused_and_integers_are_not_clipped_twice() {
        let refused = apply(&*clip(1.0), plain(vec![f32::NAN]), &mut NoCharge).unwrap_err();
        assert_eq!(refused.code, Code::NotFinite);
        let once = apply(&*clip(1.0), plain(vec![1.0]), &mut NoCharge).unwrap();
        let twice = apply(&*clip(1.0), once, &mut NoCharge).unwrap_err();
        assert_eq!(twice.code, Code::WrongContent);
    }
}
