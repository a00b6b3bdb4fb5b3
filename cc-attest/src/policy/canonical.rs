//! One encoding of a value that can be written as JSON, for digests: what is nested is announced with its
//! length, and members are in the order of their names.

use privet_crypto::{Digest, Transcript};
use serde::Serialize;
use serde_json::Value;

/// The digest of a value, for one use.
pub(super) fn digest(domain: &str, value: &impl Serialize) -> Digest {
    // What policies are made of can always be written: no maps with keys that are not text, no floats.
    let value = serde_json::to_value(value).unwrap_or_default();
    take(Transcript::new(domain), &value).finish()
}

fn take(transcript: Transcript, value: &Value) -> Transcript {
    match value {
        Value::Null => transcript.bytes(b"null"),
        Value::Bool(value) => transcript.bytes(b"bool").number((*value).into()),
        Value::Number(value) => transcript.bytes(b"number").bytes(value.to_string().as_bytes()),
        Value::String(value) => transcript.bytes(b"text").bytes(value.as_bytes()),
        Value::Array(values) => {
            let transcript = transcript.bytes(b"list").number(values.len() as u64);
            values.iter().fold(transcript, take)
        }
        Value::Object(members) => {
            // Whether a map keeps the order of what it was given depends on how it was built.
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            let transcript = transcript.bytes(b"map").number(sorted.len() as u64);
            sorted.into_iter().fold(transcript, |transcript, (name, value)| {
                take(transcript.bytes(name.as_bytes()), value)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_have_one_encoding_and_no_two_have_the_same() {
        let of = |text: &str| digest("test", &serde_json::from_str::<Value>(text).unwrap());
        assert_eq!(of(r#"{"a":1,"b":[2]}"#), of(r#"{"b":[2],"a":1}"#));
        let all = [
            json!(null),
            json!(false),
            json!(0),
            json!("0"),
            json!(""),
            json!([]),
            json!({}),
            json!([[]]),
            json!([[], []]),
            json!([["a"], []]),
            json!([[], ["a"]]),
            json!({"a": {}}),
            json!({"a": []}),
            json!({"a": 1, "b": 2}),
            json!({"a": 2, "b": 1}),
        ];
        for (at, one) in all.iter().enumerate() {
            for other in all.iter().skip(at + 1) {
                assert_ne!(digest("test", one), digest("test", other), "{one} {other}");
            }
        }
        assert_ne!(digest("one", &1), digest("two", &1));
    }
}
