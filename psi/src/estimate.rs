//! What a run will take, before it starts.

use privet_core::Reason;
use privet_core::intersect::{Protocol, Reveal, Wanted};

use crate::meeting::assurance;
use crate::tags::Shape;
use crate::terms::{Plan, extra};
use crate::vole::params::{Bins, COMPUTATIONAL, Sizes, tag_bits};

/// What a run will take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// [`Protocol::Ecdh`] or [`Protocol::Vole`].
    pub protocol: Protocol,
    /// Bytes that the sites will send to each other, all together.
    pub bytes: u64,
    /// Seconds of processor time of all sites, on one core of an AMD EPYC with AVX-512; files included.
    pub cpu_s: f64,
}

/// Microseconds an item of `ecdh`, both sides of a pair.
const ECDH_ITEM: f64 = 145.0;
/// The same of `vole`.
const VOLE_ITEM: f64 = 2.5;
/// Microseconds that starting a pair takes under `vole`.
const VOLE_START: f64 = 90_000.0;

/// What a run over sets of these sizes will take; `counts` where a site wants the size before rows.
///
/// # Errors
/// When there is no such run.
pub fn estimate(wanted: &Wanted, sizes: &[u64], counts: bool) -> Result<Estimate, Reason> {
    let counts = counts || wanted.reveal == Reveal::Size;
    let Wanted { protocol, reveal, malicious, .. } = *wanted;
    let plan = Plan::of(protocol, reveal, malicious, counts, sizes.to_vec(), &[])?;
    let leader = plan.sizes[plan.leader];
    let tags = |count: u64, bits: u32| Shape { count, bits }.expected_bytes();
    let least = plan.sizes.iter().copied().min().unwrap_or_default();
    let (mut bytes, mut micros) = (0.0, 0.0);
    for (_, &size) in plan.sizes.iter().enumerate().filter(|(site, _)| *site != plan.leader) {
        match plan.protocol {
            Protocol::Vole => {
                let run = Sizes::of(leader, assurance(wanted), wanted.malicious);
                bytes += run.bytes() as f64;
                micros += VOLE_START + VOLE_ITEM * (leader + size) as f64 / 2.0;
            }
            _ => {
                bytes += 64.0 * leader as f64;
                micros += ECDH_ITEM * (2.0 * leader as f64 + size as f64) / 3.0;
            }
        }
        let bits = if wanted.malicious { COMPUTATIONAL } else { tag_bits(leader, size) };
        bytes += match plan.sizes.len() {
            2 => {
                // A cheat cannot show a value that it has not: as many values as there can be.
                let values = if wanted.malicious { 16.0 * least as f64 } else { 0.0 };
                tags(size, bits) + size as f64 / 8.0 + values
            }
            sites => {
                let cells = Bins::of(size, extra(sites)).cells();
                16.0 * cells as f64 + tags(least, bits)
            }
        };
    }
    Ok(Estimate { protocol: plan.protocol, bytes: bytes as u64, cpu_s: micros / 1e6 })
}

#[cfg(test)]
mod tests {
    use privet_core::intersect::Duplicates;

    use super::*;

    fn wanted(protocol: Protocol) -> Wanted {
        Wanted {
            columns: vec!["id".into()],
            normalise: vec![],
            duplicates: Duplicates::Dedupe,
            reveal: Reveal::All,
            protocol,
            malicious: false,
            conservative: false,
            pad: false,
            rest: false,
        }
    }

    /// What was measured: 29.5 and 71.7 bytes an item, 2.6 s of 2^20 and 38 s of 2^18; 51.5 bytes where cheating is
    /// looked for, 103.8 among three.
    #[test]
    fn estimates_are_near_what_was_measured() {
        let of = |protocol, log: u32, sites| {
            let size = 1u64 << log;
            let sizes = vec![size; sites];
            let Estimate { bytes, cpu_s, .. } = estimate(&wanted(protocol), &sizes, false).unwrap();
            (bytes as f64 / size as f64, cpu_s)
        };
        let near = |got: f64, measured: f64| (got / measured - 1.0).abs() < 0.1;
        let (bytes, cpu) = of(Protocol::Vole, 20, 2);
        assert!(near(bytes, 29.5) && near(cpu, 2.6), "{bytes} {cpu}");
        let careful = Wanted { malicious: true, ..wanted(Protocol::Vole) };
        let bytes = estimate(&careful, &[1 << 20; 2], false).unwrap().bytes;
        assert!(near(bytes as f64 / f64::from(1 << 20), 51.5), "{bytes}");
        let (bytes, cpu) = of(Protocol::Ecdh, 18, 2);
        assert!(near(bytes, 71.7) && near(cpu, 38.0), "{bytes} {cpu}");
        assert!(near(of(Protocol::Vole, 18, 3).0, 103.8));
    }

    #[test]
    fn who_counts_first_changes_what_it_takes() {
        let sizes = [1 << 20, 1 << 20];
        let of = |counts| estimate(&wanted(Protocol::Auto), &sizes, counts).unwrap();
        assert_eq!((of(false).protocol, of(true).protocol), (Protocol::Vole, Protocol::Ecdh));
        assert!(of(true).cpu_s > 20.0 * of(false).cpu_s);
        assert!(estimate(&wanted(Protocol::Vole), &sizes, true).is_err());
    }
}
