//! An oblivious PRF from vector oblivious linear evaluation, for large sets.
//!
//! ```text
//!   params      all sizes, from the number of items
//!   gf128, prg  arithmetic and AES
//!   base ─▶ extension ─▶ base_vole ─▶ pprf ─▶ code     what `silent` puts together: A = B + C·Δ
//!   okvs        a set as a vector that only its items decode
//!   oprf        both: the PRF
//! ```
//! **Assumptions**: CDH on ristretto255 and a random oracle (base transfers), AES as an ideal cipher, and regular
//! LPN for the expand-convolute code, which is young: `conservative` has parameters for a worse code.

mod base;
mod base_vole;
mod code;
mod extension;
mod gf128;
mod okvs;
mod oprf;
pub mod params;
mod pprf;
mod prg;
mod silent;

pub(crate) use okvs::{ATTEMPTS, Rows, decode, encode, first_of};
pub(crate) use oprf::{receive, send};
pub(crate) use prg::{Permutation, Prg};
