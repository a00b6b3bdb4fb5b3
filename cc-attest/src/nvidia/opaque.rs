//! What a device says beside its measurements: fields of a report, typed.
//!
//! Numbers of the types are NVIDIA's. A type that is not known stays in the report as bytes.

use serde::{Deserialize, Serialize};

use crate::refusal::{Code, Refusal};

use super::spdm::{MEASUREMENT, Report};

/// Types of fields.
pub mod kind {
    /// Version of the driver, as text.
    pub const DRIVER: u16 = 3;
    /// What the GPU is.
    pub const GPU_INFO: u16 = 4;
    /// Version of the firmware.
    pub const VBIOS: u16 = 6;
    /// Whether the unit of video decoding is on.
    pub const NVDEC0: u16 = 11;
    /// How often each measurement was made.
    pub const COUNTS: u16 = 12;
    /// Protection of confidential computing.
    pub const CPR_INFO: u16 = 13;
    /// The board.
    pub const BOARD: u16 = 14;
    /// The chip's place in the catalogue.
    pub const CHIP_SKU: u16 = 15;
    /// Its variant.
    pub const CHIP_SKU_MOD: u16 = 16;
    /// The board's project.
    pub const PROJECT: u16 = 17;
    /// Its place in the catalogue.
    pub const PROJECT_SKU: u16 = 18;
    /// Its variant.
    pub const PROJECT_SKU_MOD: u16 = 19;
    /// Digest of the firmware that signs.
    pub const FWID: u16 = 20;
    /// Whether links between GPUs are protected.
    pub const PPCIE: u16 = 21;
    /// Names of switches: the own one of a switch, those that a GPU is linked to.
    pub const SWITCH_PDI: u16 = 22;
    /// Ports of a switch that are off.
    pub const DISABLED_PORTS: u16 = 23;
    /// Where a switch is.
    pub const SWITCH_POSITION: u16 = 24;
    /// Whether a switch is locked.
    pub const SWITCH_LOCK: u16 = 25;
    /// Names of GPUs that a switch is linked to.
    pub const SWITCH_GPU_PDIS: u16 = 26;
    /// Ports of a switch.
    pub const SWITCH_PORTS: u16 = 27;
    /// Links of a GPU.
    pub const GPU_LINKS: u16 = 32;
    /// What is on in the system.
    pub const SYSTEM_ENABLED: u16 = 33;
    /// Version of these fields.
    pub const VERSION: u16 = 34;
    /// Name of the chip, as text.
    pub const CHIP_INFO: u16 = 35;
    /// The mode, from version 1 on.
    pub const FEATURE_FLAG: u16 = 36;
}

/// The name of a type; none for one that is not known.
pub fn name(kind: u16) -> Option<&'static str> {
    Some(match kind {
        1 => "issuer",
        2 => "authority key",
        kind::DRIVER => "driver version",
        kind::GPU_INFO => "GPU info",
        5 => "SKU",
        kind::VBIOS => "VBIOS version",
        7 => "manufacturer",
        8 => "tamper detection",
        9 => "SMC",
        10 => "VPR",
        kind::NVDEC0 => "NVDEC0 status",
        kind::COUNTS => "measurement counts",
        kind::CPR_INFO => "CPR info",
        kind::BOARD => "board id",
        kind::CHIP_SKU => "chip SKU",
        kind::CHIP_SKU_MOD => "chip SKU variant",
        kind::PROJECT => "project",
        kind::PROJECT_SKU => "project SKU",
        kind::PROJECT_SKU_MOD => "project SKU variant",
        kind::FWID => "FWID",
        kind::PPCIE => "protected PCIe status",
        kind::SWITCH_PDI => "switch PDIs",
        kind::DISABLED_PORTS => "disabled switch ports",
        kind::SWITCH_POSITION => "switch position",
        kind::SWITCH_LOCK => "switch lock status",
        kind::SWITCH_GPU_PDIS => "GPU PDIs of the switch",
        kind::SWITCH_PORTS => "switch ports",
        kind::GPU_LINKS => "GPU links",
        kind::SYSTEM_ENABLED => "system enable status",
        kind::VERSION => "version of fields",
        kind::CHIP_INFO => "chip info",
        kind::FEATURE_FLAG => "feature flag",
        _ => return None,
    })
}

const ON: u8 = 0xaa;
const OFF: u8 = 0x55;

/// How GPUs of a machine are used together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// One GPU to a virtual machine.
    #[serde(rename = "spt")]
    SinglePassthrough,
    /// Several, whose links are encrypted.
    #[serde(rename = "mpt")]
    MultiPassthrough,
    /// Several behind switches, of which all must be attested.
    #[serde(rename = "ppcie")]
    ProtectedPcie,
}

impl Mode {
    /// As NVIDIA abbreviates it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SinglePassthrough => "SPT",
            Self::MultiPassthrough => "MPT",
            Self::ProtectedPcie => "PPCIE",
        }
    }
}

/// A switch's name for itself.
pub type Pdi = [u8; 8];

/// Fields that are known, of the forms that they have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// Version of the driver.
    pub driver: Option<String>,
    /// Version of the firmware, as `96.00.9f.00.01`.
    pub vbios: Option<String>,
    /// The board's project.
    pub project: Option<String>,
    /// Its place in the catalogue.
    pub project_sku: Option<String>,
    /// The chip's.
    pub chip_sku: Option<String>,
    /// Name of the chip, from Blackwell on.
    pub chip_info: Option<String>,
    /// Digest of the firmware that signs.
    pub fwid: Option<[u8; MEASUREMENT]>,
    /// Whether the unit of video decoding is on.
    pub nvdec0: Option<bool>,
    /// How GPUs are used together, where the report says.
    pub mode: Option<Mode>,
    /// Names of switches that are not zero.
    pub pdis: Vec<Pdi>,
    /// Version of these fields.
    pub version: u16,
}

fn malformed(kind: u16, wanted: &str) -> Refusal {
    let name = name(kind).unwrap_or("a field");
    Refusal::new(Code::Malformed, format!("field {kind} ({name}) is not {wanted}"))
}

fn text(report: &Report<'_>, kind: u16) -> Result<Option<String>, Refusal> {
    report.field(kind).map(|value| ascii(kind, value)).transpose()
}

/// Text that only tells which reference file is wanted: none, where it is not text.
fn label(report: &Report<'_>, kind: u16) -> Option<String> {
    report.field(kind).and_then(|value| ascii(kind, value).ok())
}

/// Text, with zeros after it.
fn ascii(kind: u16, value: &[u8]) -> Result<String, Refusal> {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    let (text, zeros) = value.split_at(end);
    let fits = text.iter().all(u8::is_ascii_graphic) && zeros.iter().all(|&byte| byte == 0);
    if !fits || text.is_empty() {
        return Err(malformed(kind, "ASCII text"));
    }
    Ok(String::from_utf8_lossy(text).into_owned())
}

/// `00 9f 00 96 01 …` is 96.00.9f.00.01; switches write text.
fn vbios(value: &[u8]) -> Result<String, Refusal> {
    let Ok([a, b, c, d, e, _, _, _]) = <[u8; 8]>::try_from(value) else {
        return ascii(kind::VBIOS, value);
    };
    Ok(format!("{d:02x}.{c:02x}.{b:02x}.{a:02x}.{e:02x}"))
}

fn status(report: &Report<'_>, kind: u16) -> Result<Option<bool>, Refusal> {
    match report.field(kind) {
        None => Ok(None),
        Some([ON]) => Ok(Some(true)),
        Some([OFF]) => Ok(Some(false)),
        Some(_) => Err(malformed(kind, "0xaa or 0x55")),
    }
}

fn number(report: &Report<'_>, kind: u16) -> Result<Option<u16>, Refusal> {
    match report.field(kind) {
        None => Ok(None),
        Some([low]) => Ok(Some(u16::from(*low))),
        Some([low, high]) => Ok(Some(u16::from_le_bytes([*low, *high]))),
        Some([low, high, 0, 0]) => Ok(Some(u16::from_le_bytes([*low, *high]))),
        Some(_) => Err(malformed(kind, "a small number")),
    }
}

impl Fields {
    /// Takes the fields of a report.
    ///
    /// # Errors
    /// `Malformed`, for a known field of another form.
    pub fn of(report: &Report<'_>) -> Result<Self, Refusal> {
        let version = number(report, kind::VERSION)?.unwrap_or(0);
        let flag = number(report, kind::FEATURE_FLAG)?.filter(|_| version >= 1);
        let mode = match (flag, status(report, kind::PPCIE)?) {
            (Some(0), _) => Some(Mode::SinglePassthrough),
            (Some(1), _) => Some(Mode::MultiPassthrough),
            (Some(2), _) => Some(Mode::ProtectedPcie),
            (Some(_), _) => return Err(malformed(kind::FEATURE_FLAG, "0, 1 or 2")),
            (None, Some(true)) => Some(Mode::ProtectedPcie),
            // Which of the other two, only the flag says.
            (None, Some(false) | None) => None,
        };
        let fwid = match report.field(kind::FWID) {
            None => None,
            Some(value) => {
                Some(value.try_into().map_err(|_| malformed(kind::FWID, "a SHA-384 digest"))?)
            }
        };
        let (pdis, rest) = report.field(kind::SWITCH_PDI).unwrap_or_default().as_chunks::<8>();
        if !rest.is_empty() {
            return Err(malformed(kind::SWITCH_PDI, "names of 8 bytes"));
        }
        Ok(Self {
            driver: text(report, kind::DRIVER)?,
            vbios: report.field(kind::VBIOS).map(vbios).transpose()?,
            project: label(report, kind::PROJECT),
            project_sku: label(report, kind::PROJECT_SKU),
            chip_sku: label(report, kind::CHIP_SKU),
            chip_info: label(report, kind::CHIP_INFO),
            fwid,
            nvdec0: status(report, kind::NVDEC0)?,
            mode,
            pdis: pdis.iter().filter(|pdi| **pdi != [0; 8]).copied().collect(),
            version,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::evidence;

    fn fields(name: &str) -> Fields {
        let bytes = evidence(&format!("nvidia/{name}/report.bin"));
        Fields::of(&Report::read(&bytes).unwrap()).unwrap()
    }

    #[test]
    fn genuine_fields_are_what_they_are() {
        let hopper = fields("gh100-545.00-PASS");
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(hopper.driver, text("545.00"));
        assert_eq!(hopper.vbios, text("96.00.5e.00.01"));
        assert_eq!((hopper.project, hopper.project_sku), (text("1010"), text("0200")));
        assert_eq!((hopper.chip_sku, hopper.fwid, hopper.nvdec0), (text("882"), None, Some(false)));
        let later = fields("gh100-550.90.07-no-rim");
        assert_eq!((later.vbios, later.mode), (text("96.00.9f.00.01"), None));
        assert_eq!(later.fwid.unwrap()[..4], [0xf5, 0xc3, 0x84, 0xae]);
        let switch = fields("nvswitch-ls10-PASS");
        assert_eq!((switch.vbios, switch.driver), (text("96.10.55.00.01"), None));
        assert_eq!(switch.pdis, [[0x20, 0x3e, 0xb3, 0x1a, 0xd9, 0xed, 0, 8]]);
        let joined = fields("gh100-BADSIG");
        assert_eq!((joined.mode, joined.pdis.len()), (Some(Mode::ProtectedPcie), 18));
        assert_eq!(fields("gb100-575.32").version, 0);
    }

    #[test]
    fn known_fields_of_other_forms_are_refused() {
        let genuine = evidence("nvidia/gh100-BADSIG/report.bin");
        let at = |kind| {
            let report = Report::read(&genuine).unwrap();
            report.fields.iter().find(|field| field.kind == kind).unwrap().at + 4
        };
        for (kind, value) in
            [(kind::DRIVER, 0x07), (kind::DRIVER, 0), (kind::NVDEC0, 0x54), (kind::PPCIE, 1)]
        {
            let mut bytes = genuine.clone();
            bytes[at(kind)] = value;
            let refusal = Fields::of(&Report::read(&bytes).unwrap()).unwrap_err();
            assert_eq!(refusal.code, Code::Malformed, "{kind}");
        }
    }
}
