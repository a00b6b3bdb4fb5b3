//! What was looked at in evidence, and what came of it.

use serde::{Deserialize, Serialize};

use crate::refusal::{Code, Refusal};

/// A kind of evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// NVIDIA GPUs.
    NvidiaGpu,
    /// NVIDIA switches.
    NvidiaSwitch,
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
    /// A token of NVIDIA's remote attestation service.
    Nras,
}

/// What is looked at, in the order in which it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// The evidence answers the challenge.
    Nonce,
    /// Its certificates lead to a pinned root.
    Chain,
    /// It is signed.
    Signature,
    /// It names the firmware that its certificate was made for.
    Fwid,
    /// Reference values of the driver hold.
    RimDriver,
    /// Those of the firmware hold.
    RimVbios,
    /// All measurements are reference values.
    Measurements,
    /// No certificate is revoked.
    Revocation,
    /// The device is in a mode that protects.
    Mode,
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Nonce,
        Self::Chain,
        Self::Signature,
        Self::Fwid,
        Self::RimDriver,
        Self::RimVbios,
        Self::Measurements,
        Self::Revocation,
        Self::Mode,
    ];
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: Name,
    /// Whether it holds; none, where it was not looked at or does not apply.
    pub ok: Option<bool>,
    /// What was found, or why it was not looked at. Never a value that is secret.
    pub detail: String,
}

/// What evidence says of one device. Of what a check has not shown to hold, nothing may be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// `hopper`, `blackwell`, `ls10`, `milan`, `tdx` and the like.
    pub arch: Option<String>,
    /// Its model, from its certificate.
    pub hwmodel: Option<String>,
    /// Version of its driver.
    pub driver: Option<String>,
    /// Version of its firmware.
    pub vbios: Option<String>,
    /// What it is called: its own name among all devices.
    pub ueid: Option<String>,
    /// All checks, each once.
    pub checks: Vec<Check>,
    /// Whether it is a device in software.
    pub simulated: bool,
}

/// How far to believe (the tiers of draft-ietf-rats-ear).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing can be said.
    None,
    /// All that policy asks for was shown.
    Affirming,
    /// What was looked at holds, and it is not enough to rely on.
    Warning,
    /// Something does not hold.
    Contraindicated,
}

impl Device {
    /// Whether a check was made and holds.
    pub fn holds(&self, name: Name) -> bool {
        self.checks.iter().any(|check| check.name == name && check.ok == Some(true))
    }
}

/// What a verifier saw in evidence of one kind, before policy judges it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// Which.
    pub kind: Kind,
    /// What the evidence had to be bound to, where it was bound to something.
    pub bound: Option<[u8; 48]>,
    /// All devices that it speaks of.
    pub devices: Vec<Device>,
    /// What was refused.
    pub refusals: Vec<Refusal>,
}

/// What came of evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Appraisal {
    /// How far to believe.
    pub verdict: Verdict,
    /// What it is; none, where that cannot be told.
    pub kind: Option<Kind>,
    /// What it says, device by device.
    pub devices: Vec<Device>,
    /// All that was refused.
    pub refusals: Vec<Refusal>,
}

/// Checks and refusals of one device as they are made: after a refusal the other checks go on.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) checks: Vec<Check>,
    pub(crate) refusals: Vec<Refusal>,
}

impl Findings {
    /// Notes a check that holds.
    pub(crate) fn passed(&mut self, name: Name, detail: impl Into<String>) {
        self.checks.push(Check { name, ok: Some(true), detail: detail.into() });
    }

    /// Notes one that was not made.
    pub(crate) fn skipped(&mut self, name: Name, detail: impl Into<String>) {
        self.checks.push(Check { name, ok: None, detail: detail.into() });
    }

    /// Notes one with all that speaks against it; it holds where nothing does.
    pub(crate) fn judged(
        &mut self,
        name: Name,
        against: impl IntoIterator<Item = Refusal>,
        detail: impl Into<String>,
    ) {
        let against: Vec<Refusal> = against.into_iter().collect();
        if against.is_empty() {
            return self.passed(name, detail);
        }
        let details: Vec<&str> = against.iter().map(|refusal| refusal.detail.as_str()).collect();
        self.checks.push(Check { name, ok: Some(false), detail: details.join("; ") });
        self.refusals.extend(against);
    }

    /// Ends the device: what was not looked at is told as well, and all is in its order.
    pub(crate) fn finish(mut self, why: &str) -> (Vec<Check>, Vec<Refusal>) {
        for name in Name::ALL {
            if self.checks.iter().all(|check| check.name != name) {
                self.skipped(name, why);
            }
        }
        self.checks.sort_by_key(|check| check.name);
        (self.checks, self.refusals)
    }

    /// Notes one that does not hold, which policy lets pass: nothing is refused, and nothing affirms.
    pub(crate) fn excused(&mut self, name: Name, detail: impl Into<String>) {
        self.checks.push(Check { name, ok: Some(false), detail: detail.into() });
    }

    /// Notes one that does not hold.
    pub(crate) fn refused(&mut self, name: Name, code: Code, detail: impl Into<String>) {
        let refusal = Refusal::new(code, detail);
        self.checks.push(Check { name, ok: Some(false), detail: refusal.detail.clone() });
        self.refusals.push(refusal);
    }
}
