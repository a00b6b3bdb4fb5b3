//! One device and several, recorded and in software.

mod genuine;
mod simulated;

use std::time::SystemTime;

use super::verify::{self, Evidence, Verified, verify};
use crate::appraisal::{Check, Name};
use crate::policy::{GpuRules, RevocationRules};
use crate::refusal::Code;
use crate::revocation::Lists;
use crate::rim::References;
use crate::roots::Roots;

/// What was asked, and what with.
struct Setting {
    nonce: [u8; 32],
    roots: Roots,
    references: References,
    rules: GpuRules,
    lists: Lists,
    revocation: RevocationRules,
    now: SystemTime,
}

impl Setting {
    fn verify(&self, report: &[u8], chain: &[u8]) -> Verified {
        self.verify_evidence(&Evidence::new(report, chain))
    }

    fn verify_evidence(&self, evidence: &Evidence<'_>) -> Verified {
        let setting = verify::Setting {
            nonce: &self.nonce,
            roots: &self.roots,
            references: &self.references,
            rules: &self.rules,
            lists: &self.lists,
            revocation: &self.revocation,
            now: self.now,
        };
        verify(evidence, &setting)
    }
}

fn codes(verified: &Verified) -> Vec<Code> {
    verified.refusals.iter().map(|refusal| refusal.code).collect()
}

fn check(verified: &Verified, name: Name) -> &Check {
    let mut found = verified.device.checks.iter().filter(|check| check.name == name);
    let check = found.next().unwrap_or_else(|| panic!("{name:?} was not looked at"));
    assert_eq!(found.next(), None, "{name:?} twice");
    check
}

/// All checks are told, each once and in their order.
fn in_order(verified: &Verified) {
    let names: Vec<_> = verified.device.checks.iter().map(|check| check.name).collect();
    let all = [
        Name::Nonce,
        Name::Chain,
        Name::Signature,
        Name::Fwid,
        Name::RimDriver,
        Name::RimVbios,
        Name::Measurements,
        Name::Revocation,
        Name::Mode,
    ];
    assert_eq!(names, all);
}
