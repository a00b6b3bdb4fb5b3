//! Sums over sites that nobody can open alone.

pub mod coding;
pub mod mac;
pub mod rlwe;
pub mod shamir;
