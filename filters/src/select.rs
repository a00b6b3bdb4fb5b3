//! `allow-tensors` and `exclude-tensors`: which tensors pass.
//!
//! ```text
//!  {encoder.w, encoder.b, head.w} ──allow encoder.*──▶ {encoder.w, encoder.b}
//!                                 ──exclude *.b─────▶ {encoder.w, head.w}
//! ```
//! A projection: it moves no two messages further apart, so a proved sensitivity stays.

use privet_core::flow::{BuildContext, Flow};
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::tensor::Tensors;
use privet_core::{Code, Content, Filter, FilterContext, FilterSpec, Message, Reason};

use crate::names::Names;
use crate::not_tensors;

const PARAMS: &[ParamSpec] = &[ParamSpec {
    name: "names",
    kind: ParamKind::Names,
    optional: false,
    doc: "tensor names, exact or with `*`, `?`, `[…]`; each must match a tensor of the job's model",
}];

const BY_NAME: &[&str] =
    &["A tensor's name says nothing about its values: look at what the model puts in it."];

pub(crate) const ALLOW: FilterSpec = FilterSpec {
    params: PARAMS,
    needs: "tensors, plain or lattice",
    gives: "the tensors that match; sensitivity kept (a projection)",
    not_protected: BY_NAME,
    refusals: &[Code::InvalidPolicy, Code::MissingTensor, Code::WrongContent],
    example: r#"{ filter = "allow-tensors", names = ["encoder.*", "head.weight"] }"#,
    blind: true,
    ..FilterSpec::new("allow-tensors", "Lets only the named tensors pass.", allow)
};

pub(crate) const EXCLUDE: FilterSpec = FilterSpec {
    params: PARAMS,
    needs: "tensors, plain or lattice",
    gives: "the tensors that do not match; sensitivity kept (a projection)",
    not_protected: BY_NAME,
    refusals: &[Code::InvalidPolicy, Code::MissingTensor, Code::WrongContent],
    example: r#"{ filter = "exclude-tensors", names = ["embedding.*"] }"#,
    blind: true,
    ..FilterSpec::new("exclude-tensors", "Withholds the named tensors.", exclude)
};

struct Select {
    name: &'static str,
    names: Names,
    keep: bool,
}

fn allow(params: &Params, context: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    Ok(Box::new(Select {
        name: ALLOW.name,
        names: Names::new(params.names("names")?, context.model)?,
        keep: true,
    }))
}

fn exclude(params: &Params, context: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    Ok(Box::new(Select {
        name: EXCLUDE.name,
        names: Names::new(params.names("names")?, context.model)?,
        keep: false,
    }))
}

impl Select {
    fn passes(&self, name: &str) -> bool {
        self.names.matches(name) == self.keep
    }
}

impl Filter for Select {
    fn plan(&self, mut flow: Flow) -> Result<Flow, Reason> {
        let (kept, withheld) = flow.schema.0.into_iter().partition(|(name, _)| self.passes(name));
        flow.schema.0 = kept;
        let withheld: std::collections::BTreeMap<_, _> = withheld;
        flow.withheld.extend(withheld.into_keys().map(|name| (name, self.name)));
        if flow.schema.0.is_empty() {
            let detail = format!("`{}` leaves no tensor of the job's model", self.name);
            return Err(Reason::new(Code::MissingTensor, detail));
        }
        Ok(flow)
    }

    fn apply(&self, mut message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
        match &mut message.content {
            Content::Plain(Tensors(tensors)) => tensors.retain(|name, _| self.passes(name)),
            Content::Lattice(lattice) => lattice.retain(|name| self.passes(name)),
            other => return Err(not_tensors(other)),
        }
        Ok(message)
    }

    fn describe(&self) -> String {
        let verb = if self.keep { "keeps only" } else { "withholds" };
        format!("{verb} the tensors named {}", self.names.list())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::{apply, context, flow, message};
    use proptest::prelude::*;

    fn select(
        build: privet_core::registry::Build,
        names: &[&str],
    ) -> Result<Box<dyn Filter>, Reason> {
        let mut params = Params::default();
        let raw = privet_core::params::RawValue::Texts(names.iter().map(|&n| n.into()).collect());
        params.set(PARAMS, "names", raw).unwrap();
        let model = flow(&["enc.w", "enc.b", "head.w"]).schema;
        build(&params, &context(&model))
    }

    fn names_of(message: &Message) -> Vec<String> {
        match &message.content {
            Content::Plain(tensors) => tensors.0.keys().cloned().collect(),
            _ => vec![],
        }
    }

    #[test]
    fn globs_and_exact_names_select() {
        let all = ["enc.w", "enc.b", "head.w"];
        let allow = select(super::allow, &["enc.*"]).unwrap();
        let kept = apply(&*allow, message(&all)).unwrap();
        assert_eq!(names_of(&kept), ["enc.b", "enc.w"]);
        let exclude = select(super::exclude, &["enc.b", "head.?"]).unwrap();
        let kept = apply(&*exclude, message(&all)).unwrap();
        assert_eq!(names_of(&kept), ["enc.w"]);
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_an_error() {
        let refused = select(super::allow, &["enc.*", "decoder.*"]).err().unwrap();
        assert_eq!(refused.code, Code::InvalidPolicy);
        assert!(refused.detail.contains("decoder.*"));
    }

    #[test]
    fn withholding_everything_is_an_error() {
        let all = select(super::exclude, &["*"]).unwrap();
        let refused = all.plan(flow(&["enc.w"])).unwrap_err();
        assert_eq!(refused.code, Code::MissingTensor);
    }

    #[test]
    fn what_is_no_tensor_does_not_pass() {
        let allow = select(super::allow, &["*"]).unwrap();
        let mut empty = message(&[]);
        empty.content = Content::Empty;
        assert_eq!(apply(&*allow, empty).unwrap_err().code, Code::WrongContent);
    }

    proptest! {
        /// What `plan` says will leave is what leaves.
        #[test]
        fn plan_and_apply_agree(mask in 1u8..8, keep: bool) {
            let all = ["enc.w", "enc.b", "head.w"];
            let chosen: Vec<_> = (0..3).filter(|i| mask >> i & 1 == 1).map(|i| all[i]).collect();
            let build = if keep { super::allow } else { super::exclude };
            let filter = select(build, &chosen).unwrap();
            let Ok(planned) = filter.plan(flow(&all)) else { return Ok(()) };
            let left = apply(&*filter, message(&all)).unwrap();
            prop_assert_eq!(names_of(&left), planned.schema.0.into_keys().collect::<Vec<_>>());
            prop_assert_eq!(planned.withheld.len() + names_of(&left).len(), 3);
        }
    }
}
