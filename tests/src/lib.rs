//! Suites across crates; see tests/. The program here is a party of a job that fails where it is told to.
