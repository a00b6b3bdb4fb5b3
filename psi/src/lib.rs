//! Which items two or more sites have in common, and nothing else.
//!
//! ```text
//!   input      a file's keys, normalised ─▶ items
//!   terms      what sites must want alike; what each allows ─▶ a plan
//!   run        greeting, plan, guards; then
//!     two      two sites: OPRF, tags, compare
//!     star     more: a leader learns what all have, by OPPRF and zero-sharing
//!   prf        the oblivious PRF of a peer: `ecdh`, or `vole` for large sets
//!   estimate   what a run will take
//!   tags       sorted, Rice-coded hashes of PRF values
//!   session    keys and hashes of one run; `pipe` its bytes; `records` its items, hashed
//!   scratch    lists that may be larger than memory; `flags` one bit an item
//! ```
//! **What is learnt.** Sizes as declared. Then what [`Reveal`](privet_core::intersect::Reveal) says, exactly but for a chance of 2^-40 over the
//! whole run. Where a guard asks for the size first, it is counted by who cannot tell which items they are: under
//! `ecdh` between two sites the one that compares, among more a third site.
//!
//! **Under which assumptions.** All sites follow the protocol (semi-honest); `malicious` bounds a cheating peer
//! between two sites under `vole`, but not how many items it enters beyond its declared size. A site may enter
//! items that it does not have, and so ask whether others have them: guards bound how often and how many.
//!
//! **What is not protected**: that a run took place, with whom, and declared sizes; timing of local work; whoever
//! reads the memory of a site. Not post-quantum. Nothing here was reviewed from outside.

mod ecdh;
mod estimate;
mod flags;
#[cfg(fuzzing)]
pub mod fuzzing;
mod group;
pub mod input;
mod meeting;
mod pipe;
mod prf;
mod records;
mod run;
mod scratch;
mod session;
mod star;
mod tags;
mod terms;
#[cfg(test)]
mod testing;
mod two;
pub mod vole;

pub use estimate::{Estimate, estimate};
pub use flags::Flags;
pub use meeting::Files;
pub use records::{Item, Set};
pub use run::{Outcome, Site, intersect};
pub use scratch::Scratch;
pub use terms::{Terms, Unguarded};

#[cfg(target_endian = "big")]
compile_error!("blocks travel as little-endian words and are not swapped");
