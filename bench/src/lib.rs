//! The benchmarks behind `privet bench`. They print what they measure and assert nothing.

pub mod dp;
pub mod fed;
mod machine;

pub use machine::Machine;
