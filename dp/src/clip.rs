//! `clip`: bounds a site's whole update and puts it on the lattice.
//!
//! ```text
//!   plain floats x ──▶ x·min(1, C/‖x‖) ──▶ integers q, ‖q‖ ≤ c checked ──▶ sensitivity (site, c)
//! ```
//! An update may be clipped in parts, tensor by tensor or layer by layer. Each of g parts then gets an
//! equal share of the bound, C/√g (l2) or C/g (l1), so that the whole keeps it (McMahan et al. 2018,
//! "per-layer clipping").

use std::borrow::Cow;
use std::collections::BTreeMap;

use privet_core::flow::{BuildContext, Flow};
use privet_core::message::Protection;
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::sensitivity::{Bound, Lattice, LatticeTensor, Norm, Prover, Unit};
use privet_core::tensor::{Tensor, Tensors, Values};
use privet_core::{Code, Content, Filter, FilterContext, FilterSpec, Message, Reason};

use crate::lattice::{bound_for, quantise};

const fn bound_param(name: &'static str, doc: &'static str) -> ParamSpec {
    ParamSpec { name, kind: ParamKind::Positive, optional: true, doc }
}

pub(crate) const SPEC: FilterSpec = FilterSpec {
    params: &[
        bound_param("l2", "largest Euclidean norm of the whole update, in the update's own scale"),
        bound_param("l1", "largest sum of magnitudes of the whole update, in its own scale"),
        bound_param("linf", "largest magnitude of any number of the update, in its own scale"),
        ParamSpec {
            name: "per",
            kind: ParamKind::Text,
            optional: true,
            doc: "what is scaled by one factor: \"update\" (default), \"layer\" (names up to the last dot) or \"tensor\"; each has an equal share of the bound",
        },
    ],
    needs: "plain tensors; exactly one of l2, l1, linf",
    gives: "lattice integers with a proved sensitivity: unit site, in that norm; zeros for a part that holds NaN or an infinity",
    formula: "q = trunc(x·min(1, C/‖x‖)/γ), γ = 2^-k, for linf trunc(clamp(x, ±C)/γ); proved by ‖q‖ ≤ ⌊C/γ⌋ in integers",
    not_protected: &[
        "Clipping alone hides nothing: the clipped update leaves as it is unless noise follows.",
        "The bound is on the site's whole update; it says nothing about single records.",
    ],
    refusals: &[Code::WrongStage, Code::WrongContent, Code::InvalidPolicy],
    example: r#"{ filter = "clip", l2 = 1.0 }"#,
    blind: true,
    ..FilterSpec::new("clip", "Scales the update down to a largest norm and proves it.", build)
};

/// What is scaled by one factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Update,
    Layer,
    Tensor,
}

impl Part {
    /// Name of the part that a tensor belongs to.
    fn of(self, tensor: &str) -> &str {
        match self {
            Part::Update => "",
            Part::Layer => tensor.rsplit_once('.').map_or(tensor, |(layer, _)| layer),
            Part::Tensor => tensor,
        }
    }
}

/// By so many powers of two the lattice of a sealed update is coarser than an open one's.
const SEALED_COARSER: u8 = 3;

struct Clip {
    clip: f64,
    bound: Bound,
    part: Part,
    prover: Prover,
}

fn build(params: &Params, context: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    let invalid = |detail: &str| Err(Reason::new(Code::InvalidPolicy, detail));
    let norms = [("l1", Norm::L1), ("l2", Norm::L2), ("linf", Norm::Linf)];
    let given: Vec<_> = norms
        .into_iter()
        .filter_map(|(name, norm)| Some((norm, params.number(name).ok()?)))
        .collect();
    let [(norm, clip)] = given[..] else {
        return invalid("exactly one of `l2`, `l1` and `linf` says how far an update may reach");
    };
    let Some(bound) = bound_for(Unit::Site, norm, clip) else {
        return invalid("the bound is too small or too large");
    };
    // 2^17 units: a sum over ten sites fits the 19 bits that four sealed bytes hold exactly.
    let bound = if context.sealed { bound.coarser(SEALED_COARSER) } else { bound };
    let part = match params.text("per") {
        None | Some("update") => Part::Update,
        Some("layer") => Part::Layer,
        Some("tensor") => Part::Tensor,
        Some(_) => return invalid("`per` is \"update\", \"layer\" or \"tensor\""),
    };
    let Some(&prover) = context.prover else {
        let detail = "`clip` was not registered as a built-in filter";
        return Err(Reason::new(Code::MissingSensitivity, detail));
    };
    Ok(Box::new(Clip { clip, bound, part, prover }))
}

impl Clip {
    /// The bound of each of `parts` parts: together they are within the whole bound.
    fn share(&self, parts: u64) -> Bound {
        let whole = self.bound.lattice_units;
        let lattice_units = match self.bound.norm {
            Norm::L1 => whole / parts,
            Norm::L2 => (whole * whole / parts).isqrt(),
            Norm::Linf => whole,
        };
        Bound { lattice_units, ..self.bound }
    }

    fn quantise(&self, tensors: &Tensors) -> Option<BTreeMap<String, LatticeTensor>> {
        let mut parts: BTreeMap<&str, Vec<(&String, &Tensor)>> = BTreeMap::new();
        for (name, tensor) in &tensors.0 {
            parts.entry(self.part.of(name)).or_default().push((name, tensor));
        }
        let share = self.share(parts.len().max(1) as u64);
        let mut lattice = BTreeMap::new();
        for part in parts.values() {
            let floats: Vec<Cow<'_, [f32]>> = part
                .iter()
                .map(|(_, tensor)| match tensor.values() {
                    Values::F32(values) => Cow::Borrowed(&values[..]),
                    Values::F64(values) => values.iter().map(|&x| x as f32).collect(),
                })
                .collect();
            let mut integers: Vec<Vec<i64>> =
                floats.iter().map(|floats| vec![0; floats.len()]).collect();
            let floats: Vec<&[f32]> = floats.iter().map(|floats| &floats[..]).collect();
            let mut out: Vec<&mut [i64]> = integers.iter_mut().map(|out| &mut out[..]).collect();
            // What is not finite counts as no update at all, which is within the bound: a refusal
            // would tell about the data, and nobody would have paid for it.
            if !quantise(&floats, &share, &mut out) {
                integers.iter_mut().for_each(|out| out.fill(0));
            }
            for ((name, tensor), integers) in part.iter().zip(integers) {
                let tensor = LatticeTensor::new(tensor.shape().clone(), integers)?;
                lattice.insert((*name).clone(), tensor);
            }
        }
        Some(lattice)
    }
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
        let lattice = self.quantise(tensors).ok_or_else(|| {
            Reason::new(Code::WrongContent, "a tensor has another shape than it says")
        })?;
        let lattice = Lattice::proven(&self.prover, lattice, self.bound);
        message.content = Content::Lattice(lattice);
        Ok(message)
    }

    fn describe(&self) -> String {
        let what = match self.part {
            Part::Update => "the whole update",
            Part::Layer => "each layer",
            Part::Tensor => "each tensor",
        };
        let whole = if self.part == Part::Update { "" } else { " for all together" };
        format!("scales {what} down to a {} of {}{whole}", self.bound.norm.as_str(), self.clip)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use privet_core::filter::{Cancel, Charge, NoCharge};
    use privet_core::params::RawValue;
    use privet_core::sensitivity::Adjacency;
    use privet_core::tensor::{Shape, Tensor, Tensors};
    use privet_core::{DataKind, Registry};

    pub(crate) fn prover() -> Prover {
        let mut prover = None;
        Registry::with_builtins(|builtins| prover = Some(builtins.prover()));
        prover.unwrap()
    }

    pub(crate) fn build_filter(
        name: &str,
        values: &[(&str, RawValue)],
        adjacency: Adjacency,
    ) -> Result<Box<dyn Filter>, Reason> {
        build_in(name, values, adjacency, None)
    }

    pub(crate) fn shared_filter(
        name: &str,
        values: &[(&str, RawValue)],
        sharers: Option<u32>,
    ) -> Result<Box<dyn Filter>, Reason> {
        build_in(name, values, Adjacency::AddRemove, sharers)
    }

    fn build_in(
        name: &str,
        values: &[(&str, RawValue)],
        adjacency: Adjacency,
        sharers: Option<u32>,
    ) -> Result<Box<dyn Filter>, Reason> {
        let registry = Registry::with_builtins(|builtins| {
            crate::specs().into_iter().for_each(|spec| builtins.filter(spec));
        });
        let mut params = Params::default();
        for (key, value) in values {
            let specs = registry.spec(name).unwrap().params;
            params
                .set(specs, key, value.clone())
                .map_err(|error| Reason::new(Code::InvalidPolicy, error.to_string()))?;
        }
        let context = BuildContext {
            model: &Default::default(),
            adjacency,
            sharers,
            sealed: sharers.is_some(),
            prover: None,
        };
        registry.build(name, &params, &context)
    }

    pub(crate) fn filter(
        name: &str,
        key: &str,
        value: f64,
        adjacency: Adjacency,
    ) -> Box<dyn Filter> {
        build_filter(name, &[(key, RawValue::Float(value))], adjacency).unwrap()
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

    /// In each norm and for each way of cutting it up, the whole is within the bound, and a long
    /// update reaches it nearly.
    #[test]
    fn parts_share_the_bound() {
        let vector = |name: &str, x: f32| (name.to_owned(), Tensor::vector(vec![x; 100]));
        let update = || {
            let tensors = [vector("a.0.w", 3.0), vector("a.0.b", -0.5), vector("a.1.w", 40.0)];
            Content::Plain(Tensors::from_iter(tensors))
        };
        let clip = |norm: &str, per: &str| {
            let values = [(norm, RawValue::Float(1.0)), ("per", RawValue::Text(per.to_owned()))];
            build_filter("clip", &values, Adjacency::AddRemove).unwrap()
        };
        for (norm, kind) in [("l1", Norm::L1), ("l2", Norm::L2), ("linf", Norm::Linf)] {
            for (per, parts) in [("update", 1), ("layer", 2), ("tensor", 3)] {
                let clipped = apply(&*clip(norm, per), update(), &mut NoCharge).unwrap();
                let Content::Lattice(lattice) = clipped else { panic!("a lattice") };
                assert_eq!(lattice.sensitivity().unwrap().bound().norm, kind);
                let step = lattice.step().value();
                let length = |tensors: &[&str]| -> f64 {
                    let values = tensors.iter().flat_map(|name| lattice.tensors()[*name].values());
                    let values = values.map(|&q| (q as f64 * step).abs());
                    match kind {
                        Norm::L1 => values.sum(),
                        Norm::L2 => values.map(|x| x * x).sum::<f64>().sqrt(),
                        Norm::Linf => values.fold(0.0, f64::max),
                    }
                };
                let near =
                    |x: f64, y: f64| assert!(x <= y && x > 0.999 * y, "{norm} {per} {x} {y}");
                near(length(&["a.0.w", "a.0.b", "a.1.w"]), 1.0);
                let share = match kind {
                    Norm::L1 => 1.0 / f64::from(parts),
                    Norm::L2 => 1.0 / f64::from(parts).sqrt(),
                    Norm::Linf => 1.0,
                };
                // The largest tensor takes all of its part.
                if parts > 1 {
                    near(length(&["a.1.w"]), share);
                }
            }
        }
    }

    #[test]
    fn one_norm_and_known_parts_are_asked_for() {
        let build = |values: &[(&str, RawValue)]| {
            build_filter("clip", values, Adjacency::AddRemove).err().map(|reason| reason.code)
        };
        let (l1, l2) = (("l1", RawValue::Float(1.0)), ("l2", RawValue::Float(1.0)));
        assert_eq!(build(&[]), Some(Code::InvalidPolicy));
        assert_eq!(build(&[l1, l2.clone()]), Some(Code::InvalidPolicy));
        let per = ("per", RawValue::Text("record".to_owned()));
        assert_eq!(build(&[l2, per]), Some(Code::InvalidPolicy));
    }

    #[test]
    fn nan_counts_as_nothing_and_integers_are_not_clipped_twice() {
        for broken in [f32::NAN, f32::INFINITY] {
            let zeros = apply(&*clip(1.0), plain(vec![1.0, broken]), &mut NoCharge).unwrap();
            let Content::Lattice(zeros) = zeros else { panic!("a lattice was expected") };
            assert_eq!(zeros.l2(), 0.0);
        }
        let once = apply(&*clip(1.0), plain(vec![1.0]), &mut NoCharge).unwrap();
        let twice = apply(&*clip(1.0), once, &mut NoCharge).unwrap_err();
        assert_eq!(twice.code, Code::WrongContent);
    }
}
