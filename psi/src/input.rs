//! A site's own file, read once into what the protocols compare.
//!
//! ```text
//!   row ─key columns─▶ fields ─Pipeline─▶ normalised ─BLAKE3─▶ item ─sorted─▶ Items
//!   Items, which of them match ─Source::write_rows─▶ those rows, all their columns
//! ```
//! No field is kept, printed or put into an error. Where ids are few enough to be tried one by one,
//! their digests tell as much as they do: [`Items`] never leave the site either.

mod error;
mod normalise;
mod rows;
mod table;
mod text;

#[cfg(test)]
mod tests;

pub use error::{InputError, UnknownStep};
pub use normalise::{Pipeline, Step};
pub use table::{Items, Source};
