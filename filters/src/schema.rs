//! `schema`: names, shapes and element types equal the task's, with nothing missing.

use privet_core::flow::{BuildContext, Flow};
use privet_core::params::Params;
use privet_core::tensor::Schema;
use privet_core::{Code, Content, Filter, FilterContext, FilterSpec, Message, Reason};

use crate::not_tensors;

pub(crate) const SPEC: FilterSpec = FilterSpec {
    needs: "tensors, plain or lattice",
    gives: "the same; sensitivity kept",
    not_protected: &["A message of the right shape may hold any values."],
    refusals: &[
        Code::UnknownTensor,
        Code::MissingTensor,
        Code::ShapeMismatch,
        Code::DtypeMismatch,
        Code::WrongContent,
    ],
    example: r#"{ filter = "schema" }"#,
    blind: true,
    ..FilterSpec::new(
        "schema",
        "Refuses a message whose tensors are not exactly the task's.",
        build,
    )
};

struct Exactly(Schema);

fn build(_: &Params, context: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    Ok(Box::new(Exactly(context.model.clone())))
}

impl Exactly {
    /// `dtypes` is false for lattice integers, whose width is not the model's.
    fn check(&self, sent: &Schema, dtypes: bool) -> Result<(), Reason> {
        // Unnamed: a name made up by an executor may say anything.
        if sent.0.keys().any(|name| !self.0.0.contains_key(name)) {
            let detail = "a tensor that the task's model does not have";
            return Err(Reason::new(Code::UnknownTensor, detail));
        }
        for (name, slot) in &self.0.0 {
            let refuse = |code, what: &str| {
                let detail = format!("tensor `{name}` {what}");
                Err(Reason::new(code, detail))
            };
            match sent.0.get(name) {
                None => return refuse(Code::MissingTensor, "is missing"),
                Some(sent) if sent.shape != slot.shape => {
                    return refuse(Code::ShapeMismatch, "has another shape");
                }
                Some(sent) if dtypes && sent.dtype != slot.dtype => {
                    return refuse(Code::DtypeMismatch, "has another element type");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

impl Filter for Exactly {
    fn plan(&self, flow: Flow) -> Result<Flow, Reason> {
        self.check(&flow.schema, false)?;
        Ok(flow)
    }

    fn apply(&self, message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
        match &message.content {
            Content::Plain(tensors) => self.check(&tensors.schema(), true)?,
            Content::Lattice(lattice) => self.check(&lattice.schema(lattice.dtype()), false)?,
            other => return Err(not_tensors(other)),
        }
        Ok(message)
    }

    fn describe(&self) -> String {
        "refuses anything but the task's own tensors, names, shapes and element types".to_owned()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use privet_core::DataKind;
    use privet_core::filter::{Cancel, NoCharge};
    use privet_core::flow::Promise;
    use privet_core::message::Protection;
    use privet_core::sensitivity::Adjacency;
    use privet_core::tensor::{Shape, Tensor, Tensors, Values};

    pub(crate) fn message(names: &[&str]) -> Message {
        let tensors =
            names.iter().map(|&name| (name.to_owned(), Tensor::vector(vec![1.0, 2.0]))).collect();
        Message::new("train", DataKind::WeightDiff, Content::Plain(tensors))
    }

    pub(crate) fn flow(names: &[&str]) -> Flow {
        let Content::Plain(tensors) = message(names).content else { unreachable!() };
        let promise = Promise {
            task: "train",
            kind: DataKind::WeightDiff,
            schema: tensors.schema(),
            protection: Protection::Plain,
            bound: None,
            local_steps: 1,
            metrics: vec![],
        };
        promise.flow()
    }

    pub(crate) fn context(model: &Schema) -> BuildContext<'_> {
        BuildContext {
            model,
            adjacency: Adjacency::AddRemove,
            sharers: None,
            sealed: false,
            prover: None,
        }
    }

    pub(crate) fn apply(filter: &dyn Filter, message: Message) -> Result<Message, Reason> {
        let mut context =
            FilterContext { round: 1, charge: &mut NoCharge, cancel: &Cancel::default() };
        filter.apply(message, &mut context)
    }

    #[test]
    fn anything_but_the_tasks_tensors_is_refused() {
        let model = flow(&["a", "b"]).schema;
        let filter = build(&Params::default(), &context(&model)).unwrap();
        let code = |message| apply(&*filter, message).err().map(|r| r.code);
        assert_eq!(code(message(&["a", "b"])), None);
        assert_eq!(code(message(&["a"])), Some(Code::MissingTensor));
        assert_eq!(code(message(&["a", "b", "c"])), Some(Code::UnknownTensor));
        let with = |tensor| {
            let mut message = message(&["a", "b"]);
            if let Content::Plain(Tensors(tensors)) = &mut message.content {
                tensors.insert("b".into(), tensor);
            }
            message
        };
        assert_eq!(code(with(Tensor::vector(vec![0.0]))), Some(Code::ShapeMismatch));
        let scalar = Tensor::new(Shape::new(vec![]).unwrap(), Values::F32(vec![0.0])).unwrap();
        assert_eq!(code(with(scalar)), Some(Code::ShapeMismatch));
        let doubles = Tensor::new(Shape::new(vec![2]).unwrap(), Values::F64(vec![0.0; 2])).unwrap();
        assert_eq!(code(with(doubles)), Some(Code::DtypeMismatch));
    }
}
