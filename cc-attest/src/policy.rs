//! Policies: what is asked of evidence, and what then may be believed.
//!
//! ```text
//!   profile ─▶ what each verifier asks (rules)
//!   Examined of all kinds ─ appraise ─▶ none │ affirming │ warning │ contraindicated
//! ```
//! | profile | asks for | best that it says |
//! |---|---|---|
//! | `gpu-only` | GPUs or switches, or a token for them | `warning` |
//! | `nras` | a token for GPUs | `warning` |
//! | `snp`, `tdx` | a machine of that kind | `affirming`, if a reference value was given and met |
//! | `gpu-cc` | a machine of either kind and GPUs, bound to one and the same report data | the same |

mod appraise;
mod canonical;
mod rules;
mod version;

use std::collections::BTreeSet;

use privet_crypto::Digest;
use serde::{Deserialize, Serialize};

use crate::appraisal::Kind;
pub use crate::encoding::Hex;
pub use appraise::appraise;
pub use rules::{
    GpuRules, Mismatches, NrasRules, RevocationMode, RevocationRules, SnpRules, SnpTcb, Span,
    TdxReference, TdxRules, TdxStatus,
};

/// Which evidence a policy wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// GPUs, of whose machine nothing is known.
    GpuOnly,
    /// GPUs and the confidential machine that they are in.
    GpuCc,
    /// A machine under AMD SEV-SNP.
    Snp,
    /// A machine under Intel TDX.
    Tdx,
    /// A token of NVIDIA's service.
    Nras,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::GpuOnly, Self::GpuCc, Self::Snp, Self::Tdx, Self::Nras];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GpuOnly => "gpu-only",
            Self::GpuCc => "gpu-cc",
            Self::Snp => "snp",
            Self::Tdx => "tdx",
            Self::Nras => "nras",
        }
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|profile| profile.as_str() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join("`, `");
            format!("`{text}` is no profile; there are `{known}`")
        })
    }
}

/// A policy. A file names its profile; all else has the values of that profile until it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Policy {
    /// Which evidence it wants.
    pub profile: Profile,
    /// Whether devices in software are taken, which never makes more than a warning.
    #[serde(default)]
    pub allow_simulated: bool,
    /// What it asks of revocation.
    #[serde(default)]
    pub revocation: RevocationRules,
    /// What it asks of GPUs and switches.
    #[serde(default)]
    pub gpu: GpuRules,
    /// What it asks of AMD SEV-SNP.
    #[serde(default)]
    pub snp: SnpRules,
    /// What it asks of Intel TDX.
    #[serde(default)]
    pub tdx: TdxRules,
    /// What it asks of tokens.
    #[serde(default)]
    pub nras: NrasRules,
}

impl Policy {
    /// The policy that a profile's name stands for.
    pub fn named(profile: Profile) -> Self {
        Self {
            profile,
            allow_simulated: false,
            revocation: RevocationRules::default(),
            gpu: GpuRules::default(),
            snp: SnpRules::default(),
            tdx: TdxRules::default(),
            nras: NrasRules::default(),
        }
    }

    /// The policy under which evidence is looked at where none was given: that of its kind. A quote may come
    /// without collateral, and a report of a form that names no firmware without it; neither ever affirms.
    pub fn of_evidence(kind: Kind) -> Self {
        let mut policy = Self::named(match kind {
            Kind::NvidiaGpu | Kind::NvidiaSwitch | Kind::Nras => Profile::GpuOnly,
            Kind::Snp => Profile::Snp,
            Kind::Tdx => Profile::Tdx,
        });
        policy.tdx.require_tcb = false;
        policy.gpu.require_fwid = false;
        policy
    }

    /// The same of several kinds: of a machine with its GPUs, the profile that joins them.
    pub fn of_kinds(kinds: &BTreeSet<Kind>) -> Self {
        let machine = kinds.iter().find(|kind| matches!(kind, Kind::Snp | Kind::Tdx));
        let devices = kinds.iter().find(|kind| !matches!(kind, Kind::Snp | Kind::Tdx));
        match (machine, devices) {
            (Some(kind), Some(_)) => Self { profile: Profile::GpuCc, ..Self::of_evidence(*kind) },
            (Some(kind), None) | (None, Some(kind)) => Self::of_evidence(*kind),
            (None, None) => Self::named(Profile::GpuOnly),
        }
    }

    /// Holds what a file says against what can be met: versions that are none, processors and architectures that
    /// are not known.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn check(&self) -> Result<(), String> {
        let floors =
            [("driver-floor", &self.gpu.driver_floor), ("vbios-floor", &self.gpu.vbios_floor)];
        for (key, floor) in floors {
            if let Some(floor) = floor.as_deref().filter(|floor| !version::is_one(floor)) {
                return Err(format!("`{key}`: `{floor}` is no version like `550.90.07`"));
            }
        }
        let known = |known: &[&str], found: &str, key: &str| match known.contains(&found) {
            true => Ok(()),
            false => {
                Err(format!("`{key}`: `{found}` is not known; there are {}", known.join(", ")))
            }
        };
        for processor in self.snp.tcb_floor.keys() {
            known(&["milan", "genoa", "turin"], processor, "tcb-floor")?;
        }
        for allowed in &self.gpu.allowed_mismatches {
            known(&["hopper", "blackwell", "ls10"], &allowed.arch, "allowed-mismatches")?;
        }
        match self.tdx.accept_status.is_empty() && self.tdx.require_tcb {
            true => {
                Err("`accept-status` is empty, and `require-tcb` is set: nothing passes".into())
            }
            false => Ok(()),
        }
    }

    /// SHA-256 over all that the policy says, in one form.
    pub fn digest(&self) -> Digest {
        canonical::digest("privet/cc-attest/policy/v1", self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_come_back_from_toml_and_json() {
        let mut policy = Policy::named(Profile::GpuCc);
        policy.allow_simulated = true;
        policy.revocation.mode = RevocationMode::Hard;
        policy.gpu.driver_floor = Some("550.90.07".into());
        policy.gpu.rim_pins.push(Hex([1; 32]));
        let indices = vec![9];
        let (arch, driver) = ("hopper".into(), "550.90.07".into());
        policy.gpu.allowed_mismatches.push(Mismatches { arch, driver, indices });
        policy.snp.tcb_floor.insert("milan".into(), SnpTcb { snp: 8, ..SnpTcb::default() });
        policy.snp.measurements.push(Hex([2; 48]));
        policy.tdx.accept_status.push(TdxStatus::SWHardeningNeeded);
        let mrtd = Hex([3; 48]);
        let reference =
            TdxReference { mrtd, rtmr0: None, rtmr1: Some(mrtd), rtmr2: None, rtmr3: None };
        policy.tdx.references.push(reference);
        let text = toml::to_string(&policy).unwrap();
        assert!(
            text.contains("allow-simulated = true") && text.contains("max-age = \"7d\""),
            "{text}"
        );
        assert_eq!(toml::from_str::<Policy>(&text).unwrap(), policy);
        let text = serde_json::to_string(&policy).unwrap();
        assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
    }

    #[test]
    fn a_file_may_say_little_and_nothing_unknown() {
        let short: Policy = toml::from_str("profile = \"gpu-cc\"").unwrap();
        assert_eq!(short, Policy::named(Profile::GpuCc));
        for bad in [
            "",
            "profile = \"gpu\"",
            "profile = \"snp\"\nallow_simulated = true",
            "profile = \"snp\"\n[snp]\nmeasurement = []",
            "profile = \"snp\"\n[snp]\nmeasurements = [\"00\"]",
            "profile = \"snp\"\n[snp.tcb-floor.milan]\nucode = 1",
            "profile = \"tdx\"\n[tdx]\naccept-status = [\"Revoked\"]",
            "profile = \"tdx\"\n[revocation]\nmax-age = \"soon\"",
            "profile = \"gpu-cc\"\n[gpu]\nrequire-rim = false",
        ] {
            assert!(toml::from_str::<Policy>(bad).is_err(), "{bad}");
        }
        for profile in Profile::ALL {
            assert_eq!(profile.as_str().parse(), Ok(profile));
        }
        assert!("gpu".parse::<Profile>().unwrap_err().contains("`gpu-only`"));
    }

    #[test]
    fn what_can_never_be_met_is_told() {
        for (text, word) in [
            ("[gpu]\ndriver-floor = \"latest\"", "driver-floor"),
            ("[gpu]\nvbios-floor = \"96.x\"", "vbios-floor"),
            ("[snp.tcb-floor.naples]\nsnp = 1", "naples"),
            (
                "[[gpu.allowed-mismatches]]\narch = \"ampere\"\ndriver = \"1\"\nindices = [1]",
                "ampere",
            ),
            ("[tdx]\naccept-status = []", "accept-status"),
        ] {
            let policy: Policy = toml::from_str(&format!("profile = \"gpu-cc\"\n{text}")).unwrap();
            assert!(policy.check().unwrap_err().contains(word), "{text}");
        }
        for profile in Profile::ALL {
            assert_eq!(Policy::named(profile).check(), Ok(()));
        }
    }

    #[test]
    fn the_digest_tells_policies_apart() {
        let mut digests: Vec<Digest> = Profile::ALL.map(|p| Policy::named(p).digest()).into();
        let mut policy = Policy::named(Profile::Snp);
        assert_eq!(policy.digest(), Policy::named(Profile::Snp).digest());
        policy.allow_simulated = true;
        digests.push(policy.digest());
        policy.gpu.require_fwid = false;
        digests.push(policy.digest());
        policy.snp.measurements.push(Hex([0; 48]));
        digests.push(policy.digest());
        policy.snp.tcb_floor.insert("milan".into(), SnpTcb::default());
        digests.push(policy.digest());
        let all = digests.len();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), all);
    }
}
