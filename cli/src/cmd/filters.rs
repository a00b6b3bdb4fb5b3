//! `privet filters`: the catalogue.

use privet::Program;
use privet::core::FilterSpec;
use serde_json::{Value, json};

use super::Ended;
use crate::out::{Failed, Out};

/// The filters there are.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// List them.
    #[command(after_help = "Examples:
  privet filters list
  privet filters list --json")]
    List,
    /// Show one: parameters, needs, gives, formula, what it does not protect.
    #[command(after_help = "Examples:
  privet filters show gaussian
  privet filters show clip --json")]
    Show {
        /// Its name.
        name: String,
    },
}

fn document(spec: &FilterSpec) -> Value {
    let params: Vec<Value> = spec
        .params
        .iter()
        .map(|param| {
            json!({
                "name": param.name,
                "expected": param.kind.expected(),
                "optional": param.optional,
                "doc": param.doc,
            })
        })
        .collect();
    let refusals: Vec<&str> = spec.refusals.iter().map(|code| code.as_str()).collect();
    json!({
        "name": spec.name,
        "purpose": spec.purpose,
        "params": params,
        "needs": spec.needs,
        "gives": spec.gives,
        "counted_in": spec.counted_in,
        "formula": spec.formula,
        "not_protected": spec.not_protected,
        "refusals": refusals,
        "example": spec.example,
    })
}

pub(crate) fn main(command: &Command, out: &Out) -> Ended {
    let program = Program::new();
    let registry = program.registry();
    match command {
        Command::List => {
            let specs: Vec<Value> = registry.specs().map(document).collect();
            out.result(&json!({ "filters": specs }), || {
                let line = |spec: &FilterSpec| format!("{:16} {}\n", spec.name, spec.purpose);
                registry.specs().map(line).collect()
            });
        }
        Command::Show { name } => {
            let Some(spec) = registry.spec(name) else {
                let names = registry.specs().map(|spec| spec.name);
                let help = privet::gate::did_you_mean(
                    name,
                    names,
                    "`privet filters list` shows all of them",
                );
                return Err(Failed::usage(format!("there is no filter `{name}`")).help(help));
            };
            out.result(&document(spec), || page(spec));
        }
    }
    Ok(0)
}

fn page(spec: &FilterSpec) -> String {
    let mut text = format!("{}\n  {}\n\n", spec.name, spec.purpose);
    if spec.params.is_empty() {
        text.push_str("parameters      none\n");
    }
    for param in spec.params {
        let optional = if param.optional { ", optional" } else { "" };
        text.push_str(&format!(
            "{:15} {} ({}{optional})\n",
            param.name,
            param.doc,
            param.kind.expected()
        ));
    }
    text.push_str(&format!("needs           {}\n", spec.needs));
    text.push_str(&format!("gives           {}\n", spec.gives));
    if !spec.counted_in.is_empty() {
        let names: Vec<_> = spec.counted_in.iter().map(|currency| currency.as_str()).collect();
        text.push_str(&format!("counted in      {}\n", names.join(", ")));
    }
    if !spec.formula.is_empty() {
        text.push_str(&format!("formula         {}\n", spec.formula));
    }
    for (at, sentence) in spec.not_protected.iter().enumerate() {
        let heading = if at == 0 { "not protected" } else { "" };
        text.push_str(&format!("{heading:15} {sentence}\n"));
    }
    let refusals: Vec<&str> = spec.refusals.iter().map(|code| code.as_str()).collect();
    if !refusals.is_empty() {
        text.push_str(&format!("refuses with    {}\n", refusals.join(", ")));
    }
    text.push_str(&format!("in site.toml    {}\n", spec.example));
    text
}
