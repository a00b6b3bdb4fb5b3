//! A policy with all that evidence is held against: reference files, revocation lists, keys of a service.
//!
//! ```text
//!   files ─ add ─▶ Verifier ◀─ Policy
//!   Bundle, what is expected, now ─ appraise ─▶ every piece by its kind ─▶ Examined ─ policy ─▶ Appraisal
//! ```
//! Files are told apart by what is in them, and are not secret. Nothing is fetched: what is not handed in is not
//! known.

mod files;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::SystemTime;

use crate::appraisal::{Appraisal, Device, Examined, Kind};
use crate::binding::ReportData;
#[cfg(any(feature = "snp", feature = "tdx"))]
use crate::cpu::Setting;
use crate::evidence::{Bundle, Evidence};
use crate::nras::{self, Keys};
use crate::nvidia::{platform, verify};
use crate::policy::{self, Policy};
use crate::refusal::{Code, Refusal};
use crate::revocation::Lists;
use crate::rim::References;
use crate::roots::Roots;

/// What evidence must answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// All that it is bound to on a connection.
    Data(ReportData),
    /// A challenge as a user gives it: 32 bytes for GPUs, switches and tokens, 64 for SNP and TDX.
    Nonce(Vec<u8>),
}

impl Expected {
    /// What a GPU, a switch or a service must have answered.
    fn for_gpu(&self) -> Result<[u8; 32], Refusal> {
        match self {
            Self::Data(data) => Ok(data.for_gpu()),
            Self::Nonce(bytes) => sized(bytes),
        }
    }

    /// What a machine must have put into its report.
    #[cfg(any(feature = "snp", feature = "tdx"))]
    fn for_cpu(&self) -> Result<[u8; 64], Refusal> {
        match self {
            Self::Data(data) => Ok(data.for_cpu()),
            Self::Nonce(bytes) => sized(bytes),
        }
    }

    fn bound(&self) -> Option<[u8; 48]> {
        match self {
            Self::Data(data) => Some(data.digest()),
            Self::Nonce(_) => None,
        }
    }
}

fn sized<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Refusal> {
    bytes.try_into().map_err(|_| {
        let detail =
            format!("a challenge of {} bytes, evidence of this kind answers {N}", bytes.len());
        Refusal::new(Code::NonceMismatch, detail)
    })
}

/// A policy with all that it is held against. It is made once and used often: reference files are opened when
/// they are added.
#[derive(Debug)]
pub struct Verifier {
    policy: Policy,
    devices: Roots,
    signers: Roots,
    /// Reference files as they came, by name.
    files: Vec<(String, Vec<u8>)>,
    references: References,
    lists: Lists,
    keys: Keys,
    collateral: Vec<Vec<u8>>,
}

impl Verifier {
    /// A policy under the pinned roots alone.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            devices: Roots::nvidia_devices(),
            signers: Roots::nvidia_rims(),
            files: Vec::new(),
            references: References::default(),
            lists: Lists::default(),
            keys: Keys::default(),
            collateral: Vec::new(),
        }
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes a file: reference values, a revocation list, an OCSP response, a key set, Intel's collateral, or the
    /// root of devices in software, where policy allows those.
    ///
    /// Reference values that do not hold are kept: the evidence that is then looked at is refused for them.
    ///
    /// # Errors
    /// When it is nothing of these.
    pub fn add(&mut self, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
        files::add(self, name, bytes)
    }

    /// Looks at evidence.
    pub fn appraise(&self, bundle: &Bundle, expected: &Expected, now: SystemTime) -> Appraisal {
        let mut seen: BTreeMap<Kind, Examined> = BTreeMap::new();
        let mut add = |kind, devices: Vec<Device>, refusals: Vec<Refusal>| {
            let empty = || {
                let bound = expected.bound();
                Examined { kind, bound, devices: Vec::new(), refusals: Vec::new() }
            };
            let examined = seen.entry(kind).or_insert_with(empty);
            examined.devices.extend(devices);
            examined.refusals.extend(refusals);
        };
        let mut nvidia = Vec::new();
        for piece in &bundle.0 {
            match piece.kind {
                Kind::NvidiaGpu | Kind::NvidiaSwitch => nvidia.push(piece),
                kind => {
                    let (devices, refusals) = match kind {
                        Kind::Snp => self.snp(piece, expected, now),
                        Kind::Tdx => self.tdx(piece, expected, now),
                        _ => self.nras(piece, expected, now),
                    };
                    add(kind, devices, refusals);
                }
            }
        }
        for (kind, devices, refusals) in self.nvidia(&nvidia, expected, now) {
            add(kind, devices, refusals);
        }
        let seen: Vec<Examined> = seen.into_values().collect();
        policy::appraise(&self.policy, &seen)
    }

    fn nvidia(
        &self,
        pieces: &[&Evidence],
        expected: &Expected,
        now: SystemTime,
    ) -> Vec<(Kind, Vec<Device>, Vec<Refusal>)> {
        let Some(first) = pieces.first() else { return Vec::new() };
        let nonce = match expected.for_gpu() {
            Ok(nonce) => nonce,
            Err(refusal) => return vec![(first.kind, Vec::new(), vec![refusal])],
        };
        let setting = verify::Setting {
            nonce: &nonce,
            roots: &self.devices,
            references: &self.references,
            rules: &self.policy.gpu,
            lists: &self.lists,
            revocation: &self.policy.revocation,
            now,
        };
        let look = |piece: &&Evidence| {
            let evidence = verify::Evidence {
                report: &piece.body,
                chain: piece.certificates.iter().map(Vec::as_slice).collect(),
                arch: piece.arch.as_deref(),
                developer_mode: piece.developer_mode,
            };
            verify::verify(&evidence, &setting)
        };
        let verified: Vec<_> = pieces.iter().map(look).collect();
        let mut seen = vec![(first.kind, Vec::new(), platform::check(&verified))];
        for (piece, mut verified) in pieces.iter().zip(verified) {
            // Its certificate says what it is, and not who sent it.
            let kind = match verified.facts.switch {
                Some(true) => Kind::NvidiaSwitch,
                Some(false) => Kind::NvidiaGpu,
                None => piece.kind,
            };
            if kind != piece.kind {
                let detail = format!("said to be {:?}, its certificate is of {kind:?}", piece.kind);
                verified.refusals.push(Refusal::new(Code::UnsupportedArch, detail));
            }
            seen.push((kind, vec![verified.device], verified.refusals));
        }
        seen
    }

    #[cfg(feature = "snp")]
    fn snp(
        &self,
        piece: &Evidence,
        expected: &Expected,
        now: SystemTime,
    ) -> (Vec<Device>, Vec<Refusal>) {
        let report_data = match expected.for_cpu() {
            Ok(data) => data,
            Err(refusal) => return (Vec::new(), vec![refusal]),
        };
        let files: Vec<&[u8]> = piece.certificates.iter().map(Vec::as_slice).collect();
        let setting = self.setting(&report_data, now);
        let (device, refusals) =
            crate::snp::verify(&piece.body, &files, &self.policy.snp, &setting);
        (vec![device], refusals)
    }

    #[cfg(feature = "tdx")]
    fn tdx(
        &self,
        piece: &Evidence,
        expected: &Expected,
        now: SystemTime,
    ) -> (Vec<Device>, Vec<Refusal>) {
        let report_data = match expected.for_cpu() {
            Ok(data) => data,
            Err(refusal) => return (Vec::new(), vec![refusal]),
        };
        let setting = self.setting(&report_data, now);
        let look = |collateral: Option<&Vec<u8>>| {
            let collateral = collateral.map(Vec::as_slice);
            crate::tdx::verify(&piece.body, collateral, &self.policy.tdx, &setting)
        };
        // Of several, what is of this platform and holds now is the one that counts.
        let given = piece.collateral.iter().chain(&self.collateral);
        let best = given.map(|collateral| look(Some(collateral)));
        let (device, refusals) =
            best.min_by_key(|(_, refusals)| refusals.len()).unwrap_or_else(|| look(None));
        (vec![device], refusals)
    }

    #[cfg(any(feature = "snp", feature = "tdx"))]
    fn setting<'a>(&'a self, report_data: &'a [u8; 64], now: SystemTime) -> Setting<'a> {
        Setting { report_data, now, lists: &self.lists, revocation: &self.policy.revocation }
    }

    #[cfg(not(feature = "snp"))]
    fn snp(&self, _: &Evidence, _: &Expected, _: SystemTime) -> (Vec<Device>, Vec<Refusal>) {
        (Vec::new(), vec![Refusal::not_built("SEV-SNP")])
    }

    #[cfg(not(feature = "tdx"))]
    fn tdx(&self, _: &Evidence, _: &Expected, _: SystemTime) -> (Vec<Device>, Vec<Refusal>) {
        (Vec::new(), vec![Refusal::not_built("TDX")])
    }

    fn nras(
        &self,
        piece: &Evidence,
        expected: &Expected,
        now: SystemTime,
    ) -> (Vec<Device>, Vec<Refusal>) {
        match expected.for_gpu() {
            Ok(nonce) => nras::verify(&piece.body, &self.keys, &nonce, &self.policy.nras, now),
            Err(refusal) => (Vec::new(), vec![refusal]),
        }
    }
}
