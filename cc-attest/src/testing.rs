//! Recorded evidence, for tests.

use std::time::{Duration, SystemTime};

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

/// A date, as in RFC 3339.
pub(crate) fn at(date: &str) -> SystemTime {
    let time: jiff::Timestamp = date.parse().unwrap();
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_second().try_into().unwrap())
}
