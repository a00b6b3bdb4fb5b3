//! Hex and base64url (RFC 4648, sections 8 and 5), strictly: each value has one form.

use data_encoding::{BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// The first digits of a digest, enough to tell it from others.
pub(crate) fn short(bytes: &[u8]) -> String {
    match bytes.split_at_checked(8) {
        Some((first, rest)) if !rest.is_empty() => format!("{}…", hex(first)),
        _ => hex(bytes),
    }
}

/// Hex of exactly so many bytes, of either case.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

/// Base64url without padding, its last bits zero.
pub(crate) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    BASE64URL_NOPAD.decode(text.as_bytes()).ok()
}

/// Base64url without padding.
pub(crate) fn to_base64url(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// So many bytes, which are written in hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hex<const N: usize>(pub [u8; N]);

impl<const N: usize> std::fmt::Debug for Hex<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unhex(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("wanted {N} bytes in hex")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..70), array: [u8; 20]) {
            prop_assert_eq!(from_base64url(&to_base64url(&bytes)), Some(bytes));
            prop_assert_eq!(unhex(&hex(&array)), Some(array));
        }

        #[test]
        fn each_value_has_one_form(text in "[A-Za-z0-9_-]{0,12}") {
            if let Some(bytes) = from_base64url(&text) {
                prop_assert_eq!(to_base64url(&bytes), text);
            }
        }
    }

    /// RFC 4648, section 10.
    #[test]
    fn vectors_of_the_rfc() {
        for (text, bytes) in
            [("", ""), ("Zg", "f"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYmE", "fooba")]
        {
            assert_eq!(to_base64url(bytes.as_bytes()), text);
            assert_eq!(from_base64url(text), Some(bytes.as_bytes().to_vec()));
        }
        assert_eq!(from_base64url("Zg=="), None);
        assert_eq!(from_base64url("Zh"), None);
        assert_eq!(from_base64url("Z+8"), None);
        assert_eq!(from_base64url("Z"), None);
    }

    #[test]
    fn hex_of_another_length_or_with_other_digits_is_refused() {
        assert_eq!(unhex::<2>("0aFF"), Some([10, 255]));
        assert_eq!(unhex::<2>("0aFF0"), None);
        assert_eq!(unhex::<2>("0aF"), None);
        assert_eq!(unhex::<2>("0a+f"), None);
        assert_eq!(short(&[1; 9]), "0101010101010101…");
        assert_eq!(short(&[1; 8]), "0101010101010101");
    }
}
