//! Ring learning with errors: keys, masks, and sums that open with the sum of their keys.
//!
//! ```text
//!   context ─▶ Mask a (public) ─┐
//!   Key s ──────────────────────┼─ Sealer: b = a·s + e + m ─▶ add_into ─▶ Opener: Σ(m + e) by Σs
//!   Gaussian errors e ──────────┘
//! ```

pub(crate) mod backend;

pub mod block;
pub mod gaussian;
pub mod key;
pub mod mask;
pub mod ring;
#[cfg(test)]
mod security;

pub use backend::{Backend, fastest};
pub use block::{Opener, Sealer};
pub use key::{Key, KeySum};
pub use mask::Mask;
pub use ring::{Ring, RingError, Set};
