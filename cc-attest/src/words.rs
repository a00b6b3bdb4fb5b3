//! What an appraisal leaves open, in words.

use crate::appraisal::{Appraisal, Check, Device, Kind, Name};

impl Name {
    /// Its name, as it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nonce => "nonce",
            Self::Chain => "chain",
            Self::Signature => "signature",
            Self::Fwid => "fwid",
            Self::RimDriver => "rim-driver",
            Self::RimVbios => "rim-vbios",
            Self::Measurements => "measurements",
            Self::Revocation => "revocation",
            Self::Mode => "mode",
        }
    }

    /// What is not known where it was not looked at.
    const fn open(self) -> &'static str {
        match self {
            Self::Nonce => "that the evidence is fresh",
            Self::Chain => "whose device it is",
            Self::Signature => "that a device said this",
            Self::Fwid => "that the firmware which signs is the one that was certified",
            Self::RimDriver => "that the driver is its maker's",
            Self::RimVbios => "that the firmware is its maker's",
            Self::Measurements => "that it runs what it should run",
            Self::Revocation => "that no certificate was withdrawn",
            Self::Mode => "in which mode the device is",
        }
    }
}

impl Device {
    /// What it is called among others: the shortest that tells.
    pub fn called(&self) -> String {
        let model = self.hwmodel.as_deref().or(self.arch.as_deref()).unwrap_or("a device");
        match self.ueid.as_deref().and_then(|ueid| ueid.get(..16)) {
            Some(ueid) => format!("{model:.40} {ueid}…"),
            None => format!("{model:.40}"),
        }
    }
}

impl Appraisal {
    /// All that was not proven, for people who decide whether that matters to them.
    pub fn not_proven(&self) -> Vec<String> {
        let mut open = Vec::new();
        for device in &self.devices {
            let name = device.called();
            let skipped = |check: &&Check| check.ok.is_none() && applies(device, check.name);
            open.extend(
                device
                    .checks
                    .iter()
                    .filter(skipped)
                    .map(|check| format!("{name}: {}", check.name.open())),
            );
            if device.simulated {
                open.push(format!("{name}: that there is any such hardware: it is software"));
            }
        }
        match self.kind {
            Some(Kind::NvidiaGpu | Kind::NvidiaSwitch) => open.push(
                "which machine asked the device for this report: that needs a confidential machine bound to \
                 the same report data (profile `gpu-cc`)"
                    .into(),
            ),
            Some(Kind::Nras) => open.push(
                "the evidence itself: only the service's word for it was checked, and which machine asked is \
                 not known"
                    .into(),
            ),
            Some(Kind::Snp | Kind::Tdx) => open.push(
                "what the machine runs after it started, and what it does with data: measurements tell what \
                 was started"
                    .into(),
            ),
            None => {}
        }
        open
    }
}

/// Checks that have no meaning for a device leave nothing open.
fn applies(device: &Device, name: Name) -> bool {
    let reference = matches!(name, Name::RimDriver | Name::RimVbios);
    match device.arch.as_deref() {
        Some("hopper" | "blackwell") | None => true,
        Some("ls10") => !matches!(name, Name::RimDriver | Name::Fwid),
        // Machines have reference measurements, and no such files.
        Some(_) => !reference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::appraisal::Verdict;

    fn device(arch: &str, open: &[Name]) -> Device {
        let check = |name: Name| Check {
            name,
            ok: (!open.contains(&name)).then_some(true),
            detail: "why".into(),
        };
        Device {
            arch: Some(arch.into()),
            hwmodel: None,
            driver: None,
            vbios: None,
            ueid: Some("0123456789abcdef0123".into()),
            checks: Name::ALL.map(check).into(),
            simulated: false,
        }
    }

    fn told(kind: Kind, device: Device) -> Vec<String> {
        let refusals = Vec::new();
        let verdict = Verdict::Warning;
        Appraisal { verdict, kind: Some(kind), devices: vec![device], refusals }.not_proven()
    }

    #[test]
    fn what_was_skipped_is_told_unless_it_means_nothing() {
        for name in Name::ALL {
            let gpu = told(Kind::NvidiaGpu, device("hopper", &[name]));
            assert_eq!(gpu.len(), 2, "{name:?}");
            assert!(gpu[0].starts_with("hopper 0123456789abcdef…: "));
            let machine = told(Kind::Snp, device("milan", &[name]));
            let reference = matches!(name, Name::RimDriver | Name::RimVbios);
            assert_eq!(machine.len(), if reference { 1 } else { 2 }, "{name:?}");
            assert_eq!(serde_json::to_string(&name).unwrap(), format!("\"{}\"", name.as_str()));
        }
        assert_eq!(told(Kind::NvidiaSwitch, device("ls10", &[Name::Fwid])).len(), 1);
    }

    #[test]
    fn a_gpu_alone_says_nothing_of_its_machine_and_software_nothing_of_hardware() {
        let mut simulated = device("hopper", &[]);
        simulated.simulated = true;
        let told = told(Kind::NvidiaGpu, simulated);
        assert!(told[0].contains("it is software") && told[1].contains("which machine"));
    }
}
