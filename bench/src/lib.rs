//! The benchmarks behind `privet bench`. They print what they measure and assert nothing.

pub mod dp;
pub mod fed;
pub mod he;
mod machine;

pub use machine::Machine;
