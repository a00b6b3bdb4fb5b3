//! What sites and server say to each other in one round.
//!
//! ```text
//!   Greeting   S → i    a session number that only grows; "who takes part?"
//!   Hello      i → S    a fresh key of this round, the site's terms, its credential; signed
//!   Session    S → i    all hellos (with the task): from it every site computes the same context
//!   Upload     i → S    b, H(b), its key's shares sealed to each peer under their hellos' keys; signed
//!   Survivors  S → j    whose uploads are in the sum: their statements, and j's share of each
//!   Answer     j → S    the sum of these shares; signed, once a round
//! ```
//! The **context** is a hash of everything that the round depends on: the roster, the terms, the
//! hellos, the encoding, and the very task bytes. No site takes a context from anybody. Keys of shares
//! depend on it, so sites that were told different things cannot read each other's shares.

pub(crate) mod hello;
pub(crate) mod party;
pub(crate) mod survivors;
pub(crate) mod tree;
pub(crate) mod upload;

use privet_core::{Code, Reason};
use privet_crypto::DecodeError;

/// First byte of a frame from a server.
pub(crate) const GREETING: u8 = 1;
/// See [`GREETING`].
pub(crate) const SURVIVORS: u8 = 2;

/// Most bytes of a credential.
pub(crate) const MAX_CREDENTIAL: usize = 8 << 10;

/// A peer's bytes are no message of the protocol.
pub(crate) fn malformed(error: DecodeError) -> Reason {
    Reason::new(Code::Malformed, error.to_string())
}
