//! `block`: nothing passes.

use privet_core::flow::{BuildContext, Flow};
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::{Code, Filter, FilterContext, FilterSpec, Message, Reason};

pub(crate) const SPEC: FilterSpec = FilterSpec {
    params: &[ParamSpec {
        name: "because",
        kind: ParamKind::Text,
        optional: true,
        doc: "the owner's reason, for the refusal",
    }],
    needs: "nothing",
    gives: "nothing: every job that this rule matches is refused before it starts",
    refusals: &[Code::Blocked],
    example: r#"{ filter = "block", because = "the ethics vote is pending" }"#,
    blind: true,
    ..FilterSpec::new("block", "Refuses everything.", build)
};

struct Block(String);

fn build(params: &Params, _: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    let because = params.text("because").unwrap_or("no reason was given");
    Ok(Box::new(Block(because.to_owned())))
}

impl Filter for Block {
    fn plan(&self, _: Flow) -> Result<Flow, Reason> {
        Err(Reason::new(Code::Blocked, self.0.clone()))
    }

    fn apply(&self, _: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
        Err(Reason::new(Code::Blocked, self.0.clone()))
    }

    fn describe(&self) -> String {
        format!("refuses everything ({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::{apply, flow, message};

    #[test]
    fn nothing_passes_planned_or_not() {
        let block = Block("because".into());
        assert_eq!(block.plan(flow(&["a"])).unwrap_err().code, Code::Blocked);
        assert_eq!(apply(&block, message(&["a"])).unwrap_err().code, Code::Blocked);
    }
}
