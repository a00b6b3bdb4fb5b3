//! What a reference file says: a SWID tag (ISO/IEC 19770-2:2015) with the attributes of TCG's RIM information
//! model.
//!
//! It is read from octets whose digest was signed, and from nothing else.

use super::c14n::{Element, parse};
use super::{Measurement, Role};
use crate::encoding::unhex;
use crate::refusal::{Code, Refusal};

const SWID: &str = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd";
const SHA384: &str = "http://www.w3.org/2001/04/xmlenc#sha384";
const TCG: &str = "https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/";
/// NVIDIA's number at IANA.
const MANUFACTURER: &str = "5703";
/// Numbers of measurements are below this, and each is there once; most alternatives of one.
const MAX_MEASUREMENTS: usize = 256;
const MAX_ALTERNATIVES: usize = 32;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) id: String,
    pub(crate) version: String,
    pub(crate) product: String,
    pub(crate) role: Role,
    pub(crate) measurements: Vec<Measurement>,
}

fn foreign(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::RimForeignContent, detail)
}

fn attribute<'e>(element: &'e Element, space: &str, name: &str) -> Result<&'e str, Refusal> {
    let missing = || foreign(format!("{} has no {name}", element.name.local));
    element.attribute(space, name).filter(|value| !value.is_empty()).ok_or_else(missing)
}

fn number(element: &Element, name: &str, below: usize) -> Result<usize, Refusal> {
    let value = attribute(element, "", name)?;
    let fits = |number: &usize| *number < below && number.to_string() == value;
    let wrong = || foreign(format!("{name}={value:?} is not a number below {below}"));
    value.parse().ok().filter(fits).ok_or_else(wrong)
}

/// The one child of a name.
fn one<'e>(children: &[&'e Element], name: &str) -> Result<&'e Element, Refusal> {
    let mut found = children.iter().filter(|child| child.name.is(SWID, name));
    match (found.next(), found.next()) {
        (Some(child), None) => Ok(child),
        _ => Err(foreign(format!("not just one {name}"))),
    }
}

/// Reads canonical octets.
pub(crate) fn read(octets: &[u8]) -> Result<Tag, Refusal> {
    let root = parse(octets)?;
    if !root.name.is(SWID, "SoftwareIdentity") {
        return Err(foreign(format!("a document of {}, wanted SoftwareIdentity", root.name.local)));
    }
    let text = || foreign("text among elements");
    let children = root.elements().ok_or_else(text)?;
    let known = |child: &&Element| {
        ["Entity", "Meta", "Payload"].iter().any(|name| child.name.is(SWID, name))
    };
    if let Some(other) = children.iter().find(|child| !known(child)) {
        return Err(foreign(format!("an element {} in the document", other.name.local)));
    }
    let meta = one(&children, "Meta")?;
    let manufacturer = attribute(meta, TCG, "FirmwareManufacturerId")?;
    if manufacturer != MANUFACTURER {
        return Err(foreign(format!("manufacturer {manufacturer}, wanted {MANUFACTURER}")));
    }
    let version = attribute(meta, "", "colloquialVersion")?;
    let role = match attribute(meta, "", "edition")? {
        "GPU" if firmware(version) => Role::Vbios,
        "GPU" => Role::Driver,
        "SWITCH" => Role::Vbios,
        other => return Err(foreign(format!("edition {other:?}, wanted GPU or SWITCH"))),
    };
    let resources = one(&children, "Payload")?.elements().ok_or_else(text)?;
    let mut measurements: Vec<Measurement> = Vec::with_capacity(resources.len());
    for resource in resources {
        let next = measurement(resource)?;
        if measurements.iter().any(|known| known.index == next.index) {
            return Err(foreign(format!("measurement {} twice", next.index)));
        }
        measurements.push(next);
    }
    Ok(Tag {
        id: attribute(&root, "", "tagId")?.to_owned(),
        version: version.to_owned(),
        product: attribute(meta, "", "product")?.to_owned(),
        role,
        measurements,
    })
}

/// Versions of firmware are five bytes in hex; those of drivers are numbers.
fn firmware(version: &str) -> bool {
    let byte = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    version.split('.').count() == 5 && version.split('.').all(byte)
}

fn measurement(resource: &Element) -> Result<Measurement, Refusal> {
    if !resource.name.is(SWID, "Resource") || !resource.children.is_empty() {
        return Err(foreign(format!("{} in the payload", resource.name.local)));
    }
    if attribute(resource, "", "type")? != "Measurement" || attribute(resource, "", "size")? != "48"
    {
        return Err(foreign("a resource that is not a measurement of 48 bytes"));
    }
    let index = number(resource, "index", MAX_MEASUREMENTS)?;
    let active = match attribute(resource, "", "active")? {
        "True" => true,
        "False" => false,
        other => return Err(foreign(format!("active={other:?}, wanted True or False"))),
    };
    let count = number(resource, "alternatives", MAX_ALTERNATIVES + 1)?;
    let hashes = resource.attributes.iter().filter(|(name, _)| name.space == SHA384).count();
    if count == 0 || hashes != count {
        return Err(foreign(format!("measurement {index} has {hashes} values, {count} announced")));
    }
    let value = |at: usize| {
        let hex = attribute(resource, SHA384, &format!("Hash{at}"))?;
        let wrong = || foreign(format!("a value of measurement {index} is not 48 bytes in hex"));
        unhex(hex).ok_or_else(wrong)
    };
    let alternatives = (0..count).map(value).collect::<Result<Vec<_>, _>>()?;
    Ok(Measurement { index, active, alternatives })
}
