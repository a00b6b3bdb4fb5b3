//! Several devices of one machine.
//!
//! ```text
//!   GPUs ── names of switches, bytes reversed ──▶ switches        each named switch is there, none is beside them
//! ```

use std::collections::BTreeSet;

use crate::encoding::hex;
use crate::refusal::{Code, Refusal};

use super::opaque::{Mode, Pdi};
use super::verify::Verified;

/// What does not go together.
pub fn check(devices: &[Verified]) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let gpus = || devices.iter().filter(|device| device.facts.switch == Some(false));
    let switches = || devices.iter().filter(|device| device.facts.switch == Some(true));
    let modes: BTreeSet<Option<Mode>> = gpus().map(|gpu| gpu.facts.mode).collect();
    if modes.len() > 1 {
        let name = |mode: &Option<Mode>| mode.map_or("none that is named", Mode::as_str);
        let found: Vec<_> = modes.iter().map(name).collect();
        let detail = format!("GPUs of one machine are in modes {}", found.join(", "));
        refusals.push(Refusal::new(Code::MixedModes, detail));
    }
    if !modes.contains(&Some(Mode::ProtectedPcie)) {
        return refusals;
    }
    // A GPU writes the bytes of a name in the other order than the switch does.
    let reversed = |pdi: &Pdi| {
        let mut pdi = *pdi;
        pdi.reverse();
        pdi
    };
    let named: Vec<BTreeSet<Pdi>> = gpus()
        .filter(|gpu| gpu.facts.mode == Some(Mode::ProtectedPcie))
        .map(|gpu| gpu.facts.pdis.iter().map(reversed).collect())
        .collect();
    let there: BTreeSet<Pdi> =
        switches().flat_map(|switch| switch.facts.pdis.iter().copied()).collect();
    let mixed = |detail: String| Refusal::new(Code::MixedModes, detail);
    let all: BTreeSet<Pdi> = named.iter().flatten().copied().collect();
    if named.iter().any(BTreeSet::is_empty) {
        refusals.push(mixed("a GPU in mode PPCIE names no switch".into()));
    }
    refusals.extend(
        all.difference(&there)
            .map(|pdi| mixed(format!("mode PPCIE: the switch {} has no evidence", hex(pdi)))),
    );
    refusals.extend(
        there
            .difference(&all)
            .map(|pdi| mixed(format!("mode PPCIE: no GPU is linked to the switch {}", hex(pdi)))),
    );
    if named.windows(2).any(|pair| matches!(pair, [a, b] if a != b)) {
        refusals.push(mixed("mode PPCIE: GPUs are not linked to the same switches".into()));
    }
    refusals
}
