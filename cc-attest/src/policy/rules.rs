//! What a policy asks of each kind of evidence. All of it can be read from a file; what is not written has the
//! strict value, and what is not known is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::encoding::Hex;
use crate::nvidia::opaque::Mode;

/// A length of time: `90s`, `10m`, `24h`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

impl std::str::FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (unit, seconds) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
            let digits = text.strip_suffix(unit)?.trim_end();
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            let count: u64 = digits.parse().ok().filter(|_| plain)?;
            Some(Self(Duration::from_secs(count.checked_mul(*seconds)?)))
        };
        read().ok_or_else(|| {
            format!("`{text}` is no length of time like `90s`, `10m`, `24h` or `7d`")
        })
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let total = self.0.as_secs();
        let whole = |(_, seconds): &&(&str, u64)| total > 0 && total.is_multiple_of(*seconds);
        let (unit, seconds) = UNITS.iter().find(whole).unwrap_or(&("s", 1));
        write!(f, "{}{unit}", total / seconds)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How much revocation matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RevocationMode {
    /// Every certificate below a root must be known not to be revoked.
    Hard,
    /// A revoked certificate is refused; where nothing is known, that is told, and nothing affirms.
    #[default]
    Soft,
    /// Nothing is looked at.
    Off,
}

/// What is asked of revocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RevocationRules {
    /// How much it matters.
    pub mode: RevocationMode,
    /// How old a response or a list may be.
    pub max_age: Span,
    /// How old a list of a root may be: roots are kept offline and sign one a year.
    pub root_max_age: Span,
}

impl Default for RevocationRules {
    fn default() -> Self {
        let days = |days: u64| Span(Duration::from_secs(days * 86_400));
        Self { mode: RevocationMode::Soft, max_age: days(7), root_max_age: days(400) }
    }
}

/// Measurements that may differ from their reference values. Where one does, nothing affirms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Mismatches {
    /// Of which architecture: `hopper`, `blackwell`, `ls10`.
    pub arch: String,
    /// Of which version of the driver; of a switch, of its firmware.
    pub driver: String,
    /// Which measurements.
    pub indices: Vec<u32>,
}

/// What is asked of NVIDIA GPUs and switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct GpuRules {
    /// Whether report and certificate must name the firmware. Drivers before 550 and switches do not.
    pub require_fwid: bool,
    /// The oldest driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_floor: Option<String>,
    /// The oldest firmware.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vbios_floor: Option<String>,
    /// SHA-256 of reference files that are good although their signer's certificate has run out.
    pub rim_pins: Vec<Hex<32>>,
    /// Measurements that may differ.
    pub allowed_mismatches: Vec<Mismatches>,
    /// The mode that GPUs must be in: `spt`, `mpt` or `ppcie`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

impl Default for GpuRules {
    fn default() -> Self {
        Self {
            require_fwid: true,
            driver_floor: None,
            vbios_floor: None,
            rim_pins: Vec::new(),
            allowed_mismatches: Vec::new(),
            mode: None,
        }
    }
}

/// Security versions of the firmware of an AMD processor, each the least that is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SnpTcb {
    /// Of the first mutable code; Turin and newer.
    pub fmc: u8,
    /// Of the boot loader.
    pub bootloader: u8,
    /// Of the operating system of the security processor.
    pub tee: u8,
    /// Of the SNP firmware.
    pub snp: u8,
    /// Of the microcode.
    pub microcode: u8,
}

/// What is asked of AMD SEV-SNP.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct SnpRules {
    /// The least versions by processor: `milan`, `genoa`, `turin`. A processor that is not named has no floor.
    pub tcb_floor: BTreeMap<String, SnpTcb>,
    /// Launch measurements, one of which must be the machine's. None: the machine does not count as measured.
    pub measurements: Vec<Hex<48>>,
}

/// How Intel judges a platform (PCS API v4, `tcbStatus`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TdxStatus {
    /// Nothing is known against it.
    UpToDate,
    /// The software in it must be hardened.
    SWHardeningNeeded,
    /// It must be configured otherwise.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSWHardeningNeeded,
    /// Its firmware is old.
    OutOfDate,
    /// Its firmware is old, and it must be configured otherwise.
    OutOfDateConfigurationNeeded,
    /// It began under old firmware that has been renewed since.
    TDRelaunchAdvised,
    /// The same, and it must be configured otherwise.
    TDRelaunchAdvisedConfigurationNeeded,
}

/// What a trust domain must have been started with. What is not written may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TdxReference {
    /// Of the initial contents.
    pub mrtd: Hex<48>,
    /// Of the virtual firmware's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtmr0: Option<Hex<48>>,
    /// Of the kernel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtmr1: Option<Hex<48>>,
    /// Of the command line and the initial file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtmr2: Option<Hex<48>>,
    /// Of what the machine adds itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtmr3: Option<Hex<48>>,
}

/// What is asked of Intel TDX.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct TdxRules {
    /// Which of Intel's judgements are good enough.
    pub accept_status: Vec<TdxStatus>,
    /// Whether the platform's firmware must be known to be good enough, for which collateral is needed.
    pub require_tcb: bool,
    /// References, one of which must be the machine's. None: the machine does not count as measured.
    pub references: Vec<TdxReference>,
}

impl Default for TdxRules {
    fn default() -> Self {
        Self { accept_status: vec![TdxStatus::UpToDate], require_tcb: true, references: Vec::new() }
    }
}

/// What is asked of tokens of NVIDIA's remote attestation service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct NrasRules {
    /// Who must have issued them.
    pub issuer: String,
}

impl Default for NrasRules {
    fn default() -> Self {
        Self { issuer: "https://nras.attestation.nvidia.com".into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_come_back() {
        for text in ["90s", "10m", "24h", "7d", "0s", "1h"] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span, "{text}");
        }
        assert_eq!("24h".parse::<Span>().unwrap().to_string(), "1d");
        for bad in
            ["", "s", "10", "-1s", "+1s", "1w", "1.5h", "99999999999999999999d", "213503982334602d"]
        {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }
}
