//! Recorded evidence, for tests.

use crate::binding::{Binding, ReportData, Role};
use crate::x509::Chain;

/// The bytes of a file below `tests/evidence`.
pub(crate) fn evidence(path: &str) -> Vec<u8> {
    let file = format!("{}/tests/evidence/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The chain beside a report.
pub(crate) fn chain(name: &str) -> Chain {
    Chain::read(&evidence(&format!("nvidia/{name}/chain.pem"))).unwrap()
}

pub(crate) use crate::time::at;

/// Milliseconds that something takes where nothing else runs: the least of several rounds.
pub(crate) fn milliseconds(mut what: impl FnMut()) -> f64 {
    let round = |_| {
        let start = std::time::Instant::now();
        (0..5).for_each(|_| what());
        start.elapsed().as_secs_f64() * 1e3 / 5.0
    };
    (0..40).map(round).fold(f64::INFINITY, f64::min)
}

/// What evidence is to be bound to, another for each number.
pub(crate) fn report_data(number: u8) -> ReportData {
    let (challenge, own_key, peer_key, exporter) = ([number; 32], [1; 32], [2; 32], [3; 32]);
    Binding { role: Role::Site, challenge, own_key, peer_key, exporter, job: "" }.report_data()
}
