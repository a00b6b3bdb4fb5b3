//! JSON Web Signatures in their compact form (RFC 7515, section 7.1), as far as tokens here need them: which
//! algorithm is good is the caller's to say, one for each use, and nothing in a token chooses it.

use serde::Deserialize;

use crate::encoding::from_base64url;
use crate::json;
use crate::refusal::{Code, Refusal};

/// A header. What it may not have is refused: keys and certificates of its own, and extensions that must be
/// understood (`crit`).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Header {
    pub(crate) alg: String,
    #[serde(default)]
    pub(crate) kid: Option<String>,
    #[serde(default)]
    pub(crate) typ: Option<String>,
}

/// A token, read and not yet believed.
#[derive(Debug, Clone)]
pub(crate) struct Jws<'a> {
    pub(crate) header: Header,
    pub(crate) payload: Vec<u8>,
    /// What is signed.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Reads a token of at most so many bytes.
    pub(crate) fn parse(text: &'a str, most: usize) -> Result<Self, Refusal> {
        if text.len() > most {
            let detail = format!("a token of {} bytes, at most {most}", text.len());
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        let malformed = || Refusal::new(Code::Malformed, "a token is not three parts of base64url");
        let (signed, signature) = text.rsplit_once('.').ok_or_else(malformed)?;
        let (header, payload) = signed.split_once('.').ok_or_else(malformed)?;
        let decode = |part: &str| from_base64url(part).ok_or_else(malformed);
        let header = json::read(&decode(header)?, most, "the header of a token")?;
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        Ok(Self { header, payload, signed: signed.as_bytes(), signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::to_base64url;

    #[test]
    fn a_header_brings_no_keys_and_no_extensions() {
        let code = |header: &str| {
            let text = format!("{}.e30.AA", to_base64url(header.as_bytes()));
            Jws::parse(&text, 1000).map(|token| token.header.alg).map_err(|refusal| refusal.code)
        };
        assert_eq!(code(r#"{"alg":"ES384","kid":"a","typ":"JWT"}"#), Ok("ES384".into()));
        for bad in [
            r#"{"alg":"ES384","jwk":{}}"#,
            r#"{"alg":"ES384","x5c":[]}"#,
            r#"{"alg":"ES384","jku":"https://example.org"}"#,
            r#"{"alg":"ES384","crit":["b64"],"b64":false}"#,
            r#"{"alg":"ES384","alg":"none"}"#,
            r#"{"kid":"a"}"#,
            r#"[]"#,
        ] {
            assert_eq!(code(bad), Err(Code::Malformed), "{bad}");
        }
    }

    #[test]
    fn three_parts_and_no_more() {
        let code = |text: &str| Jws::parse(text, 30).unwrap_err().code;
        for bad in ["", ".", "..", "e30.e30", "e30.e30.AA.AA", "e30.e30.A!", "e3 0.e30.AA"] {
            assert_eq!(code(bad), Code::Malformed, "{bad}");
        }
        assert_eq!(code(&"A".repeat(31)), Code::TooLarge);
    }
}
