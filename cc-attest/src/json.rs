//! JSON from somebody else: bounded in size and in depth before it is read.

use serde::de::DeserializeOwned;

use crate::refusal::{Code, Refusal};

/// Deepest nesting. Recorded collateral has 7, tokens have 4.
const MAX_DEPTH: u32 = 16;

/// Reads a value and nothing after it. `what` is for people.
pub(crate) fn read<T: DeserializeOwned>(
    bytes: &[u8],
    most: usize,
    what: &str,
) -> Result<T, Refusal> {
    if bytes.len() > most {
        let detail = format!("{what} of {} bytes, at most {most}", bytes.len());
        return Err(Refusal::new(Code::TooLarge, detail));
    }
    if depth(bytes) > MAX_DEPTH {
        let detail = format!("{what} is nested more than {MAX_DEPTH} deep");
        return Err(Refusal::new(Code::Malformed, detail));
    }
    // The error may quote what was read; it says where, which is enough.
    serde_json::from_slice(bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let detail = format!("{what} is not of its form, at line {line}, column {column}");
        Refusal::new(Code::Malformed, detail)
    })
}

/// How deep brackets outside of strings nest.
fn depth(bytes: &[u8]) -> u32 {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0u32, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn size_and_depth_are_bounded() {
        let read =
            |text: &str| read::<Value>(text.as_bytes(), 100, "it").map_err(|refusal| refusal.code);
        assert!(read(r#"{"a": ["[[[[[[[[[[[[[[[[[[[[", "\"[[[[[[[[[[[[[[[[[["]}"#).is_ok());
        assert!(read(&format!("{}{}", "[".repeat(16), "]".repeat(16))).is_ok());
        assert_eq!(read(&format!("{}{}", "[".repeat(17), "]".repeat(17))), Err(Code::Malformed));
        assert_eq!(read(&" ".repeat(101)), Err(Code::TooLarge));
        assert_eq!(read("[] []"), Err(Code::Malformed));
        assert_eq!(read(""), Err(Code::Malformed));
    }
}
