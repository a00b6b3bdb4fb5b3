//! Measurements against reference values.
//!
//! ```text
//!   report     1   2   3 … 22 …  64        numbered from 1
//!   reference  0   1   2 … 21 …  63        from 0
//! ```

use crate::encoding::short;
use crate::refusal::{Code, Refusal};
use crate::rim::Rim;

use super::spdm::Block;

/// What came of a comparison.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// Measurements that are equal.
    pub(crate) equal: usize,
    pub(crate) refusals: Vec<Refusal>,
    /// Mismatches that were let pass, in words.
    pub(crate) let_pass: Vec<String>,
}

/// Holds measurements against all active values of the given references.
pub(crate) fn compare(
    blocks: &[Block<'_>],
    rims: &[&Rim],
    let_pass: impl Fn(usize) -> bool,
) -> Compared {
    let mut compared = Compared::default();
    conflicts(rims, &mut compared.refusals);
    for rim in rims {
        let (role, version) = (rim.role.as_str(), &rim.version);
        let mut active = rim.measurements.iter().filter(|wanted| wanted.active).peekable();
        if active.peek().is_none() {
            let detail = format!("{role} {version} ({}): no measurement is active", rim.name);
            compared.refusals.push(Refusal::new(Code::MeasurementMismatch, detail));
        }
        for wanted in active {
            let number = wanted.index + 1;
            let block = blocks.iter().find(|block| usize::from(block.index) == number);
            if block.is_some_and(|block| wanted.alternatives.contains(block.value)) {
                compared.equal += 1;
                continue;
            }
            let golden: Vec<_> = wanted.alternatives.iter().map(|value| short(value)).collect();
            let found =
                block.map_or_else(|| "absent from the report".into(), |block| short(block.value));
            let detail = format!(
                "index {} of {role} {version} ({}): {found}, wanted {}",
                wanted.index,
                rim.name,
                golden.join(" or ")
            );
            match let_pass(wanted.index) {
                true => compared.let_pass.push(detail),
                false => {
                    compared.refusals.push(Refusal::new(Code::MeasurementMismatch, detail));
                }
            }
        }
    }
    compared
}

/// Two references that each claim a measurement leave open which of them holds.
fn conflicts(rims: &[&Rim], refusals: &mut Vec<Refusal>) {
    let active = |rim: &Rim, index| rim.measurements.iter().any(|m| m.active && m.index == index);
    for (place, rim) in rims.iter().enumerate() {
        for other in rims.iter().skip(place + 1) {
            let both = rim.measurements.iter().filter(|m| m.active && active(other, m.index));
            refusals.extend(both.map(|m| {
                let detail = format!(
                    "index {} is active in both {} ({}) and {} ({})",
                    m.index,
                    rim.role.as_str(),
                    rim.name,
                    other.role.as_str(),
                    other.name
                );
                Refusal::new(Code::RimIndexConflict, detail)
            }));
        }
    }
}
