//! Integers into coefficients and sums of them back, so that nothing can overflow unseen.
//!
//! ```text
//!   values ─Encoding─▶ Layout: header · values · pads, times Δ ──seal, add, open──▶ Decoder ─▶ sums
//! ```

mod divisor;
pub mod encoding;
pub mod fixed_point;
pub mod header;
pub mod layout;
pub mod opening;
pub mod params;

pub use encoding::{Encoding, EncodingError, Precision};
pub use header::{Header, HeaderSum};
pub use layout::{Layout, LayoutError};
pub use opening::Decoder;
