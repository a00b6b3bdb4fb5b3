//! The benchmarks behind `privet bench`. They print what they measure and assert nothing.

pub mod attest;
pub mod dp;
pub mod fed;
pub mod he;
mod machine;
pub mod psi;

pub use machine::Machine;
