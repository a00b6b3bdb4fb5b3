//! Reference files: genuine ones, and what was done to them.

use super::*;
use crate::testing::{at, evidence, milliseconds};
use crate::time::seconds;

const DRIVER: &str = "nvidia/gh100-545.00-PASS/driver_rim_545.00.xml";
const VBIOS: &str = "nvidia/gh100-545.00-PASS/vbios_rim_1010_0200_882_96005E0001.xml";

fn open(file: &[u8]) -> Result<Rim, Refusal> {
    Rim::open("file", file, &Roots::nvidia_rims(), &[])
}

fn code(file: &[u8]) -> Code {
    open(file).unwrap_err().code
}

/// A genuine file with one part replaced.
fn edited(from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(evidence(DRIVER)).unwrap();
    assert!(text.contains(from), "{from}");
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn genuine_files_hold() {
    for (path, version, product, role, active, from, to) in [
        (DRIVER, "545.00", "GH100", Role::Driver, 21, "2023-06-27", "2025-06-26"),
        (VBIOS, "96.00.5E.00.01", "GH100", Role::Vbios, 12, "2023-06-23", "2025-06-22"),
        (
            "nvidia/nvswitch-ls10-PASS/switch_rim_96105500.xml",
            "96.10.55.00.01",
            "LS10",
            Role::Vbios,
            31,
            "2026-05-20",
            "2027-11-02",
        ),
        (
            "nvidia/nvswitch-ls10-PASS/switch_rim_96105500_2024issue.xml",
            "96.10.55.00.01",
            "LS10",
            Role::Vbios,
            31,
            "2024-05-20",
            "2026-05-20",
        ),
        (
            "nvidia/rims/driver_GH100_550.144.03.xml",
            "550.144.03",
            "GH100",
            Role::Driver,
            21,
            "2024-12-30",
            "2026-12-30",
        ),
    ] {
        let rim = open(&evidence(path)).unwrap();
        let found = (rim.version.as_str(), rim.product.as_str(), rim.role);
        assert_eq!(found, (version, product, role), "{path}");
        assert_eq!(rim.measurements.iter().filter(|m| m.active).count(), active, "{path}");
        let (first, last) = rim.chain().window();
        assert!(
            date(first).starts_with(from) && date(last).starts_with(to),
            "{path} {} {}",
            date(first),
            date(last)
        );
    }
}

#[test]
fn files_that_were_edited_after_they_were_signed_are_refused() {
    for path in [
        "nvidia/gh100-535.86.09/driver_rim_TAMPERED.xml",
        "nvidia/nvswitch-ls10-PASS/switch_rim_TAMPERED.xml",
    ] {
        let refusal = open(&evidence(path)).unwrap_err();
        assert_eq!(refusal.code, Code::RimSignature, "{path}");
        assert!(refusal.detail.contains("digest"), "{}", refusal.detail);
    }
    assert_eq!(code(&edited(r#"active="False""#, r#"active="True""#)), Code::RimSignature);
}

#[test]
fn a_signature_that_was_changed_is_refused() {
    let refusal = open(&evidence("nvidia/rims/driver_GH100_550.144.03_BADSIG.xml")).unwrap_err();
    assert_eq!(refusal.code, Code::RimSignature);
    assert!(refusal.detail.contains("key"), "{}", refusal.detail);
    // The digest that was signed is part of what was signed.
    assert_eq!(code(&edited("<ds:DigestValue>D", "<ds:DigestValue>E")), Code::RimSignature);
}

#[test]
fn a_file_under_another_root_is_refused() {
    let refusal = Rim::open("file", &evidence(DRIVER), &Roots::nvidia_devices(), &[]).unwrap_err();
    assert_eq!(refusal.code, Code::RimSignature);
    assert!(refusal.detail.contains("root"), "{}", refusal.detail);
}

#[test]
fn a_file_is_held_against_its_signers_dates() {
    let rim = open(&evidence(DRIVER)).unwrap();
    let code = |date: &str| rim.valid_at(seconds(at(date))).map_err(|refusal| refusal.code);
    assert_eq!(code("2023-10-01T00:00:00Z"), Ok(()));
    assert_eq!(code("2026-05-28T00:00:00Z"), Err(Code::RimExpired));
    assert_eq!(code("2023-06-01T00:00:00Z"), Err(Code::RimExpired));
}

#[test]
fn a_file_that_the_operator_named_has_no_dates() {
    let file = evidence(DRIVER);
    let Digest(pin) = Digest::of(&file);
    let roots = Roots::nvidia_rims();
    let rim = Rim::open("file", &file, &roots, &[pin]).unwrap();
    assert!(rim.pinned && rim.valid_at(seconds(at("2040-01-01T00:00:00Z"))).is_ok());
    // Only its dates: what was named must hold all else, and another digest names nothing.
    let tampered = evidence("nvidia/gh100-535.86.09/driver_rim_TAMPERED.xml");
    let refusal = Rim::open("file", &tampered, &roots, &[Digest::of(&tampered).0]).unwrap_err();
    assert_eq!(refusal.code, Code::RimSignature);
    assert!(!Rim::open("file", &file, &roots, &[[0; 32]]).unwrap().pinned);
}

#[test]
fn what_is_put_into_the_signature_is_refused() {
    // The digest leaves the whole signature out: these all have a digest and a signature that hold.
    let resource = "<ds:Object><ns0:Meta colloquialVersion=\"999.00\"/></ds:Object>";
    for (from, to) in [
        ("</ds:Signature>", format!("{resource}</ds:Signature>")),
        ("</ds:KeyInfo>", format!("</ds:KeyInfo>{resource}")),
        ("<ds:KeyInfo>", format!("<ds:KeyInfo>{resource}")),
        ("<ds:KeyInfo>", "<ds:KeyInfo Id=\"x\">".to_owned()),
        ("</ds:KeyInfo>", "text</ds:KeyInfo>".to_owned()),
        ("<ds:X509Data>", "<ds:X509Data><ds:X509SubjectName>x</ds:X509SubjectName>".to_owned()),
        ("<ds:SignatureValue>", "<ds:SignatureValue Id=\"x\">".to_owned()),
        (
            "</ds:Signature>",
            "</ds:Signature><ds:Signature xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"/>"
                .to_owned(),
        ),
    ] {
        assert_eq!(code(&edited(from, &to)), Code::RimForeignContent, "{to}");
    }
}

#[test]
fn parts_of_a_signature_are_known_by_their_names() {
    let text = String::from_utf8(evidence(DRIVER)).unwrap();
    for (from, to) in [
        ("ds:SignatureValue>", "ds:Object>"),
        ("ds:KeyInfo>", "ds:Object>"),
        ("ds:X509Data>", "ds:PGPData>"),
        ("ds:X509Certificate>", "ds:X509CRL>"),
        ("ds:SignatureValue>", "ns0:SignatureValue>"),
    ] {
        assert_eq!(code(text.replace(from, to).as_bytes()), Code::RimForeignContent, "{to}");
    }
}

#[test]
fn other_algorithms_and_other_references_are_refused() {
    for (from, to) in [
        (r#"URI="""#, r##"URI="#x""##),
        ("xml-c14n11\"/><ds:SignatureMethod", "REC-xml-c14n-20010315\"/><ds:SignatureMethod"),
        ("xmldsig-more#ecdsa-sha384", "xmldsig-more#ecdsa-sha256"),
        ("xmldsig-more#sha384", "xmlenc#sha256"),
        ("<ds:Transform Algorithm=\"http://www.w3.org/2000/09/xmldsig#enveloped-signature\"/>", ""),
        ("xmldsig#enveloped-signature", "xmldsig#base64"),
    ] {
        assert_eq!(code(&edited(from, to)), Code::RimForeignContent, "{from}");
    }
}

#[test]
fn a_file_without_a_signature_or_with_one_elsewhere_is_refused() {
    let text = String::from_utf8(evidence(DRIVER)).unwrap();
    let (before, rest) = text.split_once("<ds:Signature ").unwrap();
    assert_eq!(code(format!("{before}</SoftwareIdentity>").as_bytes()), Code::RimSignature);
    let moved = format!("<SoftwareIdentity><x>{before}<ds:Signature {rest}</x></SoftwareIdentity>");
    assert_eq!(code(moved.as_bytes()), Code::RimForeignContent);
    let outside = edited(
        "<ns0:Entity",
        "<ds:Object xmlns:ds=\"http://www.w3.org/2000/09/xmldsig#\"/><ns0:Entity",
    );
    assert_eq!(code(&outside), Code::RimForeignContent);
}

#[test]
fn a_file_written_in_another_way_has_the_same_canonical_form() {
    // Quotes, an empty element, the order of attributes.
    let file = edited(r#"corpus="false" name="GH100""#, "name='GH100' corpus='false'");
    let file = String::from_utf8(file).unwrap().replacen(
        "size=\"48\"/>",
        "size=\"48\"></ns0:Resource>",
        1,
    );
    open(file.as_bytes()).unwrap();
}

/// Flips bits of a genuine file: all from its start to the end of its signed values, of each `step`.
fn flips(step: usize) {
    let file = evidence(DRIVER);
    let text = String::from_utf8(file.clone()).unwrap();
    let end = text.find("<ds:SignatureValue>").unwrap();
    for bit in (0..8 * end).step_by(step) {
        let mut flipped = file.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(open(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn a_flipped_bit_of_what_is_signed_is_refused() {
    flips(401);
}

#[test]
#[ignore = "all of them: minutes"]
fn any_flipped_bit_of_what_is_signed_is_refused() {
    flips(1);
}

#[test]
#[ignore = "a measurement"]
fn measures_a_file() {
    let file = evidence(DRIVER);
    let roots = Roots::nvidia_rims();
    let fresh = milliseconds(|| drop(open(&file).unwrap()));
    let seen = milliseconds(|| drop(Rim::open("file", &file, &roots, &[]).unwrap()));
    println!("{fresh:.2} ms a reference file, {seen:.2} where its certificates were seen before");
}
