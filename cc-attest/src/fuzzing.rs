//! Bytes of anybody's to each parser, past the signatures that keep them from most of it.

use crate::appraisal::Kind;
use crate::nvidia::opaque::Fields;
use crate::nvidia::spdm::{Report, SIGNATURE};
use crate::nvidia::{chip, dice};
use crate::rim::c14n::{canonical, parse};
use crate::rim::{Rim, tag};
use crate::roots::Roots;
use crate::show;
use crate::x509::Chain;

/// As a report.
pub fn spdm(bytes: &[u8]) {
    let Ok(report) = Report::read(bytes) else { return };
    assert_eq!(report.signed().len() + SIGNATURE + report.padding, bytes.len());
    let _ = Fields::of(&report);
    let rows = show::spdm(bytes).map(|rows| rows.iter().map(|row| row.size).sum());
    assert_eq!(rows, Ok(bytes.len()));
}

/// As a reference file, and as what one signs.
pub fn rim(bytes: &[u8]) {
    let _ = Rim::open("file", bytes, &Roots::nvidia_rims(), &[]);
    let Ok(root) = parse(bytes) else { return };
    let octets = canonical(&root, &[], None);
    let again = parse(&octets).map(|root| canonical(&root, &[], None));
    assert_eq!(again.as_ref(), Ok(&octets), "the canonical form is its own");
    let _ = tag::read(&octets);
}

/// As certificates, and as the extension that names firmware.
pub fn der(bytes: &[u8]) {
    let _ = dice::read(bytes);
    let Ok(chain) = Chain::read(bytes) else { return };
    let _ = chain.verify(&Roots::nvidia_devices(), chain.window().0);
    let _ = chip::Chip::of(&chain, None);
    let _ = chain.leaf().map(dice::fwid);
}

/// As a bundle of a peer's, as a file of a user's, and as each kind of evidence to be shown.
pub fn bundle(bytes: &[u8]) {
    crate::evidence::try_decode(bytes);
    for kind in [Kind::NvidiaGpu, Kind::Snp, Kind::Tdx, Kind::Nras] {
        let _ = show::fields(kind, bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::testing::evidence;

    fn with(path: &str, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut file = evidence(path);
        let at = at % file.len();
        file.splice(at..(at + bytes.len()).min(file.len()), bytes.iter().copied());
        file
    }

    proptest! {
        #[test]
        fn nothing_breaks_on_recorded_evidence_with_a_few_other_bytes(
            at: usize,
            bytes in proptest::collection::vec(any::<u8>(), 1..6),
        ) {
            super::spdm(&with("nvidia/gh100-BADSIG/report.bin", at, &bytes));
            super::rim(&with("nvidia/gh100-545.00-PASS/driver_rim_545.00.xml", at, &bytes));
            super::der(&with("nvidia/gb100-575.32/chain.pem", at, &bytes));
            for path in ["nvidia/nras/gpu_detached_eat.json", "intel/tdx-v4-PASS/quote.bin"] {
                super::bundle(&with(path, at, &bytes));
            }
            let ders = crate::testing::chain("gb100-575.32").certificates()[0].der().to_vec();
            let mut cert = ders.clone();
            for (place, byte) in cert.iter_mut().skip(at % ders.len()).zip(&bytes) {
                *place = *byte;
            }
            super::der(&cert);
        }
    }
}
