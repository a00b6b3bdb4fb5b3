//! Chips that are known, by the name in their certificates, and what their reference files are called.

use crate::refusal::{Code, Refusal};
use crate::x509::Chain;

use super::opaque::Fields;

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chip {
    /// Its name, as `GH100`.
    pub name: String,
    /// Its family.
    pub family: Family,
}

/// A family of chips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// GPUs, from GH100.
    Hopper,
    /// GPUs, from GB100.
    Blackwell,
    /// Switches.
    Ls10,
}

impl Family {
    /// The name that claims use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hopper => "hopper",
            Self::Blackwell => "blackwell",
            Self::Ls10 => "ls10",
        }
    }

    /// Whether it is a switch.
    pub const fn is_switch(self) -> bool {
        matches!(self, Self::Ls10)
    }
}

/// What switches of a family have in place of project and SKU, which their reports do not name.
const LS10: &str = "5612_0002_890";

impl Chip {
    /// The chip that a chain is of: all its own certificates must name the same.
    ///
    /// # Errors
    /// `UnsupportedArch`, also where the evidence says that it is another.
    pub fn of(chain: &Chain, hint: Option<&str>) -> Result<Self, Refusal> {
        let refuse = |detail| Err(Refusal::new(Code::UnsupportedArch, detail));
        let named = |at: usize| {
            let name = chain.certificates().get(at).and_then(|cert| cert.common_name());
            name.and_then(|name| name.split_whitespace().next()).map(|name| name.replace('_', ""))
        };
        let Some(name) = named(0) else {
            return refuse("the certificate names no chip".to_owned());
        };
        if chain.certificates().len() > 1 && named(1).as_ref() != Some(&name) {
            let issuer = named(1).unwrap_or_default();
            return refuse(format!("a certificate of {name} issued by a device of {issuer}"));
        }
        let digits = |prefix: &str| {
            name.strip_prefix(prefix).is_some_and(|digits| {
                digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit())
            })
        };
        let family = match name.as_str() {
            "LS10" => Family::Ls10,
            _ if digits("GH") => Family::Hopper,
            _ if digits("GB") => Family::Blackwell,
            _ => return refuse(format!("a certificate of {name}, which is no chip that is known")),
        };
        match hint {
            Some(hint) if !hint.eq_ignore_ascii_case(family.as_str()) => {
                let detail =
                    format!("said to be {hint}, by its certificate it is {}", family.as_str());
                refuse(detail)
            }
            _ => Ok(Self { name, family }),
        }
    }

    /// What the reference file of the driver is called at NVIDIA.
    pub fn driver_rim(&self, fields: &Fields) -> Option<String> {
        let driver = fields.driver.as_ref()?;
        Some(match self.family {
            Family::Ls10 => return None,
            Family::Hopper => format!("NV_GPU_DRIVER_{}_{driver}", self.name),
            Family::Blackwell => {
                let chip = fields.chip_info.as_ref().unwrap_or(&self.name);
                format!("NV_GPU_CC_DRIVER_{chip}_{driver}")
            }
        })
    }

    /// What that of the firmware is called.
    pub fn vbios_rim(&self, fields: &Fields) -> Option<String> {
        let vbios = fields.vbios.as_ref()?.replace('.', "").to_ascii_uppercase();
        if self.family.is_switch() {
            return Some(format!("NV_SWITCH_BIOS_{LS10}_{vbios}"));
        }
        let part =
            |part: &Option<String>| part.clone().unwrap_or_else(|| "?".into()).to_ascii_uppercase();
        let (project, sku) = (part(&fields.project), part(&fields.project_sku));
        Some(format!("NV_GPU_VBIOS_{project}_{sku}_{}_{vbios}", part(&fields.chip_sku)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvidia::spdm::Report;
    use crate::testing::{chain, evidence};

    fn ids(name: &str) -> (&'static str, Option<String>, Option<String>) {
        let bytes = evidence(&format!("nvidia/{name}/report.bin"));
        let fields = Fields::of(&Report::read(&bytes).unwrap()).unwrap();
        let chip = Chip::of(&chain(name), None).unwrap();
        (chip.family.as_str(), chip.driver_rim(&fields), chip.vbios_rim(&fields))
    }

    #[test]
    fn references_are_called_as_nvidia_calls_them() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            ids("gh100-545.00-PASS"),
            (
                "hopper",
                text("NV_GPU_DRIVER_GH100_545.00"),
                text("NV_GPU_VBIOS_1010_0200_882_96005E0001")
            )
        );
        assert_eq!(
            ids("gb100-575.32"),
            (
                "blackwell",
                text("NV_GPU_CC_DRIVER_GB100_575.32"),
                text("NV_GPU_VBIOS_G525_0220_886_970088000F")
            )
        );
        assert_eq!(
            ids("nvswitch-ls10-PASS"),
            ("ls10", None, text("NV_SWITCH_BIOS_5612_0002_890_9610550001"))
        );
    }

    #[test]
    fn a_chip_that_is_not_known_or_not_the_one_it_is_said_to_be_is_refused() {
        let code = |chain: &Chain, hint| Chip::of(chain, hint).unwrap_err().code;
        let hopper = chain("gh100-545.00-PASS");
        assert_eq!(code(&hopper, Some("BLACKWELL")), Code::UnsupportedArch);
        assert!(Chip::of(&hopper, Some("HOPPER")).is_ok());
        let ders: Vec<_> = hopper.certificates().iter().map(|cert| cert.der().to_vec()).collect();
        // The authorities alone: no chip of theirs is known.
        assert_eq!(code(&Chain::of(&ders[2..]).unwrap(), None), Code::UnsupportedArch);
        assert_eq!(
            code(&Chain::of(&[ders[0].clone(), ders[3].clone()]).unwrap(), None),
            Code::UnsupportedArch
        );
    }
}
