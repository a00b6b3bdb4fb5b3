//! Hex and base64url (RFC 4648, sections 8 and 5), strictly: each value has one form.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

/// Base64url without padding, its last bits zero.
pub(crate) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut held, mut bits) = (0u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(value)) & 0xfff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    (held & ((1 << bits) - 1) == 0).then_some(bytes)
}

/// Base64url without padding.
pub(crate) fn to_base64url(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            let value = word >> (18 - 6 * place) & 63;
            text.push(URL.get(value as usize).copied().unwrap_or_default().into());
        }
    }
    text
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
