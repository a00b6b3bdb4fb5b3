//! The benchmarks behind privet bench
