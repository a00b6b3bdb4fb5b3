//! `max-size`: how many bytes of elements may pass.

use privet_core::flow::{BuildContext, Flow};
use privet_core::message::Protection;
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::tensor::Dtype;
use privet_core::{Code, Content, Filter, FilterContext, FilterSpec, Message, Reason};

use crate::not_tensors;

pub(crate) const SPEC: FilterSpec = FilterSpec {
    params: &[ParamSpec {
        name: "bytes",
        kind: ParamKind::Size,
        optional: false,
        doc: "most bytes of tensor elements, for example \"2 GiB\"; lattice integers count 8 each",
    }],
    needs: "tensors, plain or lattice",
    gives: "the same; sensitivity kept",
    not_protected: &["Few bytes can say much."],
    refusals: &[Code::TooLarge, Code::WrongContent],
    example: r#"{ filter = "max-size", bytes = "2 GiB" }"#,
    blind: true,
    ..FilterSpec::new("max-size", "Refuses a message of more bytes than this.", build)
};

struct MaxSize(u64);

fn build(params: &Params, _: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    Ok(Box::new(MaxSize(params.size("bytes")?)))
}

impl MaxSize {
    fn check(&self, bytes: u64) -> Result<(), Reason> {
        if bytes <= self.0 {
            return Ok(());
        }
        let detail = format!("{bytes} bytes, at most {} allowed", self.0);
        Err(Reason::new(Code::TooLarge, detail))
    }
}

/// The width that integers leave in depends on their values, which noise may not cover yet: a
/// refusal that followed it would tell about the data. The widest counts.
fn lattice_bytes(elements: u64) -> u64 {
    elements.saturating_mul(Dtype::I64.size() as u64)
}

impl Filter for MaxSize {
    fn plan(&self, flow: Flow) -> Result<Flow, Reason> {
        self.check(match flow.protection {
            Protection::Plain => flow.schema.bytes(),
            Protection::Lattice => lattice_bytes(flow.schema.elements()),
        })?;
        Ok(flow)
    }

    fn apply(&self, message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
        match &message.content {
            Content::Plain(tensors) => self.check(tensors.schema().bytes())?,
            Content::Lattice(lattice) => self.check(lattice_bytes(lattice.elements()))?,
            other => return Err(not_tensors(other)),
        }
        Ok(message)
    }

    fn describe(&self) -> String {
        format!("refuses more than {} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::{apply, flow, message};

    /// Small and large integers of one shape are refused alike, before and during a run.
    #[test]
    fn integers_count_their_widest_form_whatever_they_hold() {
        use privet_core::sensitivity::{Lattice, LatticeTensor, Step};
        use privet_core::tensor::Shape;
        use privet_core::{DataKind, Message};
        for value in [1, i64::MAX] {
            let shape = Shape::new(vec![2]).unwrap();
            let tensor = LatticeTensor::new(shape, vec![value; 2]).unwrap();
            let lattice = || {
                let tensors = [("a".to_owned(), tensor.clone())].into();
                let content = Content::Lattice(Lattice::new(Step::new(20).unwrap(), tensors));
                Message::new("train", DataKind::Gradient, content)
            };
            assert!(apply(&MaxSize(16), lattice()).is_ok());
            assert!(apply(&MaxSize(15), lattice()).is_err());
        }
        let mut planned = flow(&["a"]);
        planned.protection = Protection::Lattice;
        assert!(MaxSize(16).plan(planned.clone()).is_ok());
        assert!(MaxSize(15).plan(planned).is_err());
    }

    #[test]
    fn one_byte_too_many_is_refused_before_and_during_a_run() {
        // Two tensors of two 4-byte floats.
        assert!(MaxSize(16).plan(flow(&["a", "b"])).is_ok());
        assert!(apply(&MaxSize(16), message(&["a", "b"])).is_ok());
        assert_eq!(MaxSize(15).plan(flow(&["a", "b"])).unwrap_err().code, Code::TooLarge);
        assert_eq!(apply(&MaxSize(15), message(&["a", "b"])).unwrap_err().code, Code::TooLarge);
    }
}
