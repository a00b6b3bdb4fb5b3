//! The firmware that a device's certificate was made for: the DICE extension of its leaf.
//!
//! ```text
//!   Hopper, 2.23.133.5.4.1       SEQUENCE { version, key, SEQUENCE { sha384, FWID } }
//!   Blackwell, 2.23.133.5.4.1.1  SEQUENCE { … [6] { SEQUENCE { sha384, FWID }, … } … }     DiceTcbInfo
//! ```
//! TCG, DICE Attestation Architecture 1.1 §6.1. The first FWID counts.

use x509_parser::der_parser::asn1_rs::{Any, Class, FromDer, Oid, Tag, oid};

use crate::refusal::{Code, Refusal};
use crate::x509::Certificate;

use super::spdm::MEASUREMENT;

/// The extension of Hopper GPUs and of switches.
pub const COMPOSITE: &str = "2.23.133.5.4.1";
/// The extension of Blackwell GPUs: DiceTcbInfo.
pub const TCB_INFO: &str = "2.23.133.5.4.1.1";

const FWIDS: u32 = 6;

/// The firmware in a leaf; none, where it has no such extension.
///
/// # Errors
/// `Malformed`, when there is an extension that says nothing readable.
pub fn fwid(leaf: &Certificate) -> Result<Option<[u8; MEASUREMENT]>, Refusal> {
    let found = match (leaf.extension(TCB_INFO), leaf.extension(COMPOSITE)) {
        (None, None) => return Ok(None),
        (Some(value), None) => tcb_info(value),
        (None, Some(value)) => composite(value),
        (Some(_), Some(_)) => None,
    };
    let broken = || Refusal::new(Code::Malformed, "the certificate's DICE extension names no FWID");
    found.map(Some).ok_or_else(broken)
}

/// All elements in a sequence's contents.
fn elements(mut bytes: &[u8]) -> Option<Vec<Any<'_>>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let (rest, any) = Any::from_der(bytes).ok()?;
        found.push(any);
        bytes = rest;
    }
    Some(found)
}

/// A sequence and nothing after it.
fn sequence(bytes: &[u8]) -> Option<Vec<Any<'_>>> {
    let (rest, sequence) = Any::from_der(bytes).ok()?;
    if !rest.is_empty() || sequence.header.tag() != Tag::Sequence {
        return None;
    }
    elements(sequence.data)
}

/// SEQUENCE { algorithm, digest }.
fn digest(any: &Any<'_>) -> Option<[u8; MEASUREMENT]> {
    if any.header.tag() != Tag::Sequence {
        return None;
    }
    match elements(any.data)?.as_slice() {
        [algorithm, digest] if digest.header.tag() == Tag::OctetString => {
            let algorithm: Oid<'_> = algorithm.clone().try_into().ok()?;
            (algorithm == oid!(2.16.840.1.101.3.4.2.2))
                .then_some(digest.data.try_into().ok())
                .flatten()
        }
        _ => None,
    }
}

fn composite(bytes: &[u8]) -> Option<[u8; MEASUREMENT]> {
    match sequence(bytes)?.as_slice() {
        [version, key, fwid]
            if version.header.tag() == Tag::Integer && key.header.tag() == Tag::Sequence =>
        {
            digest(fwid)
        }
        _ => None,
    }
}

fn tcb_info(bytes: &[u8]) -> Option<[u8; MEASUREMENT]> {
    let elements_of = sequence(bytes)?;
    let mut lists = elements_of.iter().filter(|any| {
        any.header.class() == Class::ContextSpecific && any.header.tag() == Tag(FWIDS)
    });
    let list = lists.next().filter(|_| lists.next().is_none())?;
    digest(elements(list.data)?.first()?)
}

/// For fuzzing and tests: an extension of either kind.
#[cfg(any(test, fuzzing))]
pub(crate) fn read(bytes: &[u8]) -> [Option<[u8; MEASUREMENT]>; 2] {
    [composite(bytes), tcb_info(bytes)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::chain;

    fn extension(name: &str, oid: &str) -> Vec<u8> {
        chain(name).leaf().unwrap().extension(oid).unwrap().to_vec()
    }

    #[test]
    fn both_forms_are_read() {
        let hopper = fwid(chain("gh100-550.90.07-no-rim").leaf().unwrap()).unwrap().unwrap();
        assert_eq!(hopper[..4], [0xf5, 0xc3, 0x84, 0xae]);
        let blackwell = fwid(chain("gb100-575.32").leaf().unwrap()).unwrap().unwrap();
        assert_eq!(blackwell[..4], [0xd0, 0x90, 0xca, 0xb1]);
    }

    #[test]
    fn a_certificate_of_an_authority_names_none() {
        assert_eq!(fwid(&chain("gh100-550.90.07-no-rim").certificates()[1]).unwrap(), None);
    }

    #[test]
    fn an_extension_that_is_cut_short_or_long_is_refused() {
        for (name, oid) in [("gh100-550.90.07-no-rim", COMPOSITE), ("gb100-575.32", TCB_INFO)] {
            let bytes = extension(name, oid);
            assert!(read(&bytes).iter().any(Option::is_some));
            for len in 0..bytes.len() {
                assert_eq!(read(&bytes[..len]), [None; 2], "{len}");
            }
            assert_eq!(read(&[&bytes[..], &[0]].concat()), [None; 2]);
        }
    }

    #[test]
    fn a_digest_of_another_kind_is_none() {
        let mut bytes = extension("gb100-575.32", TCB_INFO);
        let at = bytes.windows(2).position(|pair| pair == [4, 2]).unwrap() + 1;
        bytes[at] = 3;
        assert_eq!(read(&bytes), [None; 2]);
    }

    proptest! {
        #[test]
        fn other_bytes_are_read_or_not(at in 0usize..180, value: u8) {
            let mut bytes = extension("gb100-575.32", TCB_INFO);
            bytes[at] = value;
            let _ = read(&bytes);
        }
    }
}
