//! `max-size`: how many bytes of elements may pass.

use privet_core::flow::{BuildContext, Flow};
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::{Code, Content, Filter, FilterContext, FilterSpec, Message, Reason};

use crate::not_tensors;

pub(crate) const SPEC: FilterSpec = FilterSpec {
    params: &[ParamSpec {
        name: "bytes",
        kind: ParamKind::Size,
        optional: false,
        doc: "most bytes of tensor elements, for example \"2 GiB\"",
    }],
    needs: "tensors, plain or lattice",
    gives: "the same; sensitivity kept",
    not_protected: &["Few bytes can say much."],
    refusals: &[Code::TooLarge, Code::WrongContent],
    example: r#"{ filter = "max-size", bytes = "2 GiB" }"#,
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

impl Filter for MaxSize {
    fn plan(&self, flow: Flow) -> Result<Flow, Reason> {
        self.check(flow.schema.bytes())?;
        Ok(flow)
    }

    fn apply(&self, message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
        match &message.content {
            Content::Plain(tensors) => self.check(tensors.schema().bytes())?,
            // The width of integers is chosen when they leave; the widest counts here.
            Content::Lattice(lattice) => {
                self.check(lattice.elements().saturating_mul(lattice.dtype().size() as u64))?;
            }
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

    #[test]
    fn one_byte_too_many_is_refused_before_and_during_a_run() {
        // Two tensors of two 4-byte floats.
        assert!(MaxSize(16).plan(flow(&["a", "b"])).is_ok());
        assert!(apply(&MaxSize(16), message(&["a", "b"])).is_ok());
        assert_eq!(MaxSize(15).plan(flow(&["a", "b"])).unwrap_err().code, Code::TooLarge);
        assert_eq!(apply(&MaxSize(15), message(&["a", "b"])).unwrap_err().code, Code::TooLarge);
    }
}
