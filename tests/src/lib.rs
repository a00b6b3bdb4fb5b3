//! Suites across Privet's crates
