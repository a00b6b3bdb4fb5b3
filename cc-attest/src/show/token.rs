//! Header and claims of tokens.

use serde_json::Value;

use super::Row;
use crate::jws::Jws;
use crate::nras;
use crate::refusal::Refusal;

/// Of each token of an answer, the members of its header and its claims; where is the part that they are in.
pub(super) fn nras(bytes: &[u8]) -> Result<Vec<Row>, Refusal> {
    let mut rows = Vec::new();
    for (name, token) in nras::tokens(bytes)? {
        let token = token.as_str();
        let jws = Jws::parse(token, bytes.len())?;
        let place = |part: usize| {
            let text = token.split('.').nth(part).unwrap_or_default();
            let at = bytes.windows(text.len().max(1)).position(|window| window == text.as_bytes());
            (at.unwrap_or(0), text.len())
        };
        let header =
            [("alg", Some(jws.header.alg)), ("kid", jws.header.kid), ("typ", jws.header.typ)];
        let (offset, size) = place(0);
        let texts = header.into_iter().filter_map(|(key, value)| Some((key, value?)));
        rows.extend(texts.map(|(key, value)| Row {
            offset,
            size,
            name: format!("{name}: header {key}"),
            value: Value::from(value).to_string(),
        }));
        let claims: serde_json::Map<String, Value> =
            crate::json::read(&jws.payload, bytes.len(), "the claims of a token")?;
        let (offset, size) = place(1);
        rows.extend(claims.into_iter().map(|(key, value)| Row {
            offset,
            size,
            name: format!("{name}: claim {key}"),
            value: value.to_string(),
        }));
        let (offset, size) = place(2);
        rows.push(Row {
            offset,
            size,
            name: format!("{name}: signature"),
            value: crate::encoding::hex(&jws.signature),
        });
    }
    Ok(rows)
}
