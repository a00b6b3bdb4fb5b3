//! Suites across crates; see tests/.
