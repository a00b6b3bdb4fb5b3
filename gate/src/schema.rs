//! The JSON Schema of `site.toml`, for editors.

use privet_core::params::ParamKind;
use privet_core::{FilterSpec, Registry};
use serde_json::{Map, Value, json};

use crate::policy::{DANGER_UNFILTERED, TASKS};

/// The schema, with every filter of a registry. A test holds its keys against the parser.
pub fn schema(registry: &Registry) -> Value {
    let filters: Vec<Value> = registry.specs().map(filter).collect();
    let filters = json!({ "type": "array", "items": { "oneOf": filters } });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Privet site policy",
        "type": "object",
        "required": ["schema", "site"],
        "additionalProperties": false,
        "properties": {
            "schema": { "const": 1 },
            "site": object(&["name"], json!({
                "name": text("The site's name, as in its certificate"),
                "owner": text("Who owns this policy"),
                "review-by": { "description": "Date by which to look at it again" },
            })),
            "peers": object(&["pin"], json!({
                "pin": { "type": "array", "items": { "type": "string", "pattern": "^sha256:[0-9a-fA-F]{64}$" } },
            })),
            "dataset": { "type": "object", "additionalProperties": object(&["path", "unit", "records", "budget"], json!({
                "path": text("Data file; relative paths start at the policy's folder"),
                "unit": { "enum": ["record", "site"] },
                "adjacency": { "enum": ["add-remove", "replace"], "default": "add-remove" },
                "label": text("What it holds"),
                "records": { "type": "integer", "minimum": 1 },
                "budget": object(&["epsilon", "delta"], json!({
                    "epsilon": { "type": "number", "exclusiveMinimum": 0 },
                    "delta": { "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 },
                    "window": { "type": "string", "pattern": "^(lifetime|[1-9][0-9]*d)$", "default": "lifetime" },
                    "per-submitter": { "type": "number", "exclusiveMinimum": 0 },
                })),
                "currency": { "enum": ["gaussian", "zcdp", "rdp"] },
            })) },
            "rule": { "type": "array", "items": object(&["id", "when", "out"], json!({
                "id": text("Name of the rule"),
                "when": object(&["task", "dataset"], json!({
                    "task": { "type": "array", "minItems": 1, "items": { "enum": ["*", TASKS[0], TASKS[1], TASKS[2]] } },
                    "dataset": text("A data set of this policy"),
                    "kind": { "enum": ["weights", "weight-diff", "gradient", "statistics", "psi", "metrics"] },
                    "job": text("Name of a job"),
                    "submitter": text("Who submitted it"),
                })),
                "out": { "oneOf": [filters, { "const": DANGER_UNFILTERED }] },
                "in": filters,
                "protect": object(&["scheme", "min-sites"], json!({
                    "scheme": { "enum": ["threshold", "tfhe"] },
                    "min-sites": { "type": "integer", "minimum": 1 },
                    "colluders": { "type": "integer", "minimum": 0, "default": 1 },
                    "exact": { "type": "boolean", "default": true },
                    "verify": { "type": "boolean", "default": false },
                    "survivors": { "enum": ["any", "stable"], "default": "any" },
                    "alone-epsilon-max": { "type": "number", "exclusiveMinimum": 0 },
                })),
                "allow-job-protection": { "type": "boolean", "default": true },
                "require": object(&[], json!({
                    "attested": attested(),
                    "rounds-max": { "type": "integer", "minimum": 1 },
                })),
                "metrics": object(&[], json!({
                    "allow": { "type": "array", "items": { "type": "string" } },
                })),
                "weight": { "enum": ["records", "equal"] },
            })) },
            "attest": object(&[], json!({
                "show": { "type": "array", "items": { "enum": ["nvml", "tsm", "files", "software"] } },
                "folder": text("Policies by name, reference files, revocation lists"),
            })),
            "psi": { "type": "array", "items": object(
                &["dataset", "peers", "reveal", "min-intersection", "max-fraction", "runs"],
                json!({
                    "dataset": text("A data set of this policy"),
                    "peers": { "type": "array", "items": { "type": "string" } },
                    "all-peers": { "type": "boolean", "default": false },
                    "columns": { "type": "array", "items": { "type": "string" } },
                    "reveal": { "enum": ["size", "rows"] },
                    "min-intersection": { "type": "integer", "minimum": 0 },
                    "max-fraction": { "type": "number", "minimum": 0, "maximum": 1 },
                    "out": { "type": "array", "items": { "type": "object" } },
                    "require": object(&[], json!({ "attested": attested() })),
                    "runs": object(&["max", "window"], json!({
                        "max": { "type": "integer", "minimum": 0 },
                        "window": text("For example 30d"),
                    })),
                }),
            ) },
        },
    })
}

/// `require.attested`.
fn attested() -> Value {
    object(
        &[],
        json!({
            "server": { "type": "array", "items": { "type": "string" } },
            "sites": { "type": "array", "items": { "type": "string" } },
            "max-age": text("For example 10m"),
            "allow-simulated": { "type": "boolean", "default": false },
        }),
    )
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn text(description: &str) -> Value {
    json!({ "type": "string", "description": description })
}

fn filter(spec: &FilterSpec) -> Value {
    let mut properties = Map::new();
    properties.insert("filter".into(), json!({ "const": spec.name, "description": spec.purpose }));
    let mut required = vec!["filter"];
    for param in spec.params {
        let mut value = match param.kind {
            ParamKind::Positive => json!({ "type": "number", "exclusiveMinimum": 0 }),
            ParamKind::Names => {
                json!({ "type": "array", "minItems": 1, "items": { "type": "string" } })
            }
            ParamKind::Size => json!({ "type": ["integer", "string"] }),
            ParamKind::Count => json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
            ParamKind::Text => json!({ "type": "string" }),
        };
        value["description"] = json!(param.doc);
        properties.insert(param.name.into(), value);
        if !param.optional {
            required.push(param.name);
        }
    }
    object(&required, Value::Object(properties))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{parse_policy, policy_text, registry};

    /// The keys of an object that the parser knows, by its own word: it lists them when it meets
    /// one that it does not.
    fn known(text: &str) -> Vec<String> {
        let findings = parse_policy(text).unwrap_err();
        let message = &findings[0].message;
        assert!(message.starts_with("unknown field `zzz`"), "{message}");
        let mut keys: Vec<_> = message.split('`').skip(3).step_by(2).map(str::to_owned).collect();
        keys.sort();
        keys
    }

    #[test]
    fn the_schema_has_the_keys_that_the_parser_knows() {
        let schema = schema(&registry());
        let keys = |pointer: &str| -> Vec<String> {
            let object = schema.pointer(pointer).and_then(Value::as_object).unwrap();
            let mut keys: Vec<String> = object.keys().cloned().collect();
            keys.sort();
            keys
        };
        let good = policy_text("record", r#"[{ filter = "gaussian", noise-multiplier = 4 }]"#, "");
        let with = |from: &str, to: &str| {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good);
            known(&text)
        };
        let rule = "/properties/rule/items/properties";
        let dataset = "/properties/dataset/additionalProperties/properties";
        assert_eq!(keys("/properties"), with("schema = 1", "schema = 1\nzzz = 1"));
        assert_eq!(keys("/properties/site/properties"), with("[site]", "[site]\nzzz = 1"));
        assert_eq!(
            keys("/properties/peers/properties"),
            with("[site]", "[peers]\nzzz = 1\n[site]")
        );
        assert_eq!(keys(dataset), with("[dataset.ct]", "[dataset.ct]\nzzz = 1"));
        assert_eq!(
            keys(&format!("{dataset}/budget/properties")),
            with("budget = {", "budget = { zzz = 1,")
        );
        assert_eq!(keys(rule), with("[[rule]]", "[[rule]]\nzzz = 1"));
        assert_eq!(keys(&format!("{rule}/when/properties")), with("when = {", "when = { zzz = 1,"));
        for section in ["require", "metrics", "protect"] {
            let added = format!("[[rule]]\n{section} = {{ zzz = 1 }}");
            assert_eq!(keys(&format!("{rule}/{section}/properties")), with("[[rule]]", &added));
        }
        assert_eq!(
            keys("/properties/psi/items/properties"),
            with("[[rule]]", "[[psi]]\nzzz = 1\n[[rule]]")
        );
    }
}
