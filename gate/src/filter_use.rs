//! A filter as a file names it: `{ filter = "clip", l2 = 1.0 }`.

use std::collections::BTreeMap;
use std::ops::Range;

use privet_core::params::{ParamError, Params, RawValue};
use privet_core::{FilterSpec, Registry};
use toml::{Spanned, Value};

use crate::finding::{Finding, Source, did_you_mean};

/// The table of one filter, with the place of every key and value.
pub(crate) type FilterTable = Spanned<BTreeMap<Spanned<String>, Spanned<Value>>>;

/// A filter with its parameters, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct FilterUse {
    /// Name of the filter.
    pub name: String,
    /// Its parameters, checked against its spec.
    pub params: Params,
    /// Bytes of the file that hold it.
    pub span: Range<usize>,
}

impl FilterUse {
    /// Whether it weakens protection, which its name then says.
    pub fn is_danger(&self) -> bool {
        self.name.starts_with("danger-")
    }
}

/// Reads one filter. Keys in `reserved` belong to the caller and are left out.
pub(crate) fn read(
    table: &FilterTable,
    reserved: &[&str],
    source: &Source,
    registry: &Registry,
    findings: &mut Vec<Finding>,
) -> Option<FilterUse> {
    let before = findings.len();
    let span = table.span();
    let table = table.get_ref();
    let Some((_, name)) = table.iter().find(|(key, _)| key.get_ref() == "filter") else {
        let finding = source.error("missing-key", "a filter needs a name", span);
        findings.push(finding.help("write `filter = \"…\"`; `privet filters list` shows all"));
        return None;
    };
    let Value::String(text) = name.get_ref() else {
        findings.push(source.error("invalid", "`filter` must be text", name.span()));
        return None;
    };
    let Some(spec) = registry.spec(text) else {
        let names = registry.specs().map(|spec| spec.name);
        let help = did_you_mean(text, names, "`privet filters list` shows all of them");
        let message = format!("there is no filter `{text}`");
        let finding = source.error("unknown-filter", message, name.span());
        findings.push(finding.help(help));
        return None;
    };
    let mut params = Params::default();
    for (key, value) in table {
        let name = key.get_ref().as_str();
        if name == "filter" || reserved.contains(&name) {
            continue;
        }
        if let Err(error) = params.set(spec.params, name, raw(value.get_ref())) {
            let (code, span, help) = match &error {
                ParamError::Unknown(_) => ("unknown-key", key.span(), parameters(name, spec)),
                _ => ("invalid", value.span(), example(spec)),
            };
            let finding = source.error(code, format!("`{text}`: {error}"), span);
            findings.push(finding.help(help));
        }
    }
    if findings.len() == before
        && let Err(error) = params.complete(spec.params)
    {
        let finding = source.error("missing-key", format!("`{text}`: {error}"), span.clone());
        findings.push(finding.help(example(spec)));
    }
    (findings.len() == before).then(|| FilterUse { name: text.clone(), params, span })
}

fn example(spec: &FilterSpec) -> String {
    format!("for example {}", spec.example)
}

fn parameters(name: &str, spec: &FilterSpec) -> String {
    let names = spec.params.iter().map(|param| param.name);
    let otherwise = match spec.params {
        [] => format!("`{}` has no parameters", spec.name),
        _ => example(spec),
    };
    did_you_mean(name, names, &otherwise)
}

fn raw(value: &Value) -> RawValue {
    match value {
        Value::Integer(n) => RawValue::Integer(*n),
        Value::Float(x) => RawValue::Float(*x),
        Value::String(text) => RawValue::Text(text.clone()),
        Value::Array(values) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map_or(RawValue::Other, RawValue::Texts),
        _ => RawValue::Other,
    }
}
