//! What sites and server say to each other in one round.
//!
//! ```text
//!   Greeting    S → i    a session number that only grows; "who takes part?"
//!   Hello       i → S    a fresh key of this round, the site's terms, its credential; signed
//!   Deal        S → i    where the members need a common secret: all hellos, to one of them
//!   Group       i → S    the secret, sealed to each other member; signed
//!   Invitation  S → i    all hellos and the group's secret (with the task): from it every site computes the
//!                        same context
//!   Upload      i → S    words, their digest, what it deals to each peer under their hellos' keys; signed
//!   Survivors   S → j    whose uploads are in the sum: their statements, and what each dealt to j
//!   Answer      j → S    what helps to open their sum, or whose dealing does not open; signed, once a round
//!   Agreed …    S → j    what opened, with the answers' signatures, for j to check
//! ```
//! The **context** is a hash of everything that the round depends on: the roster, the terms, the
//! hellos, the encoding, and the very task bytes. No site takes a context from anybody. Keys of shares
//! depend on it, so sites that were told different things cannot read each other's shares.

pub(crate) mod closing;
pub(crate) mod group;
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
/// See [`GREETING`].
pub(crate) const DEAL: u8 = 3;
/// See [`GREETING`].
pub(crate) const AGREED: u8 = 4;
/// A piece of an opened sum. See [`GREETING`].
pub(crate) const OPENED: u8 = 5;
/// A piece of a sealed sum. See [`GREETING`].
pub(crate) const TO_OPEN: u8 = 6;
/// See [`GREETING`].
pub(crate) const READ: u8 = 7;

/// Most bytes of a credential.
pub(crate) const MAX_CREDENTIAL: usize = 8 << 10;

/// A peer's bytes are no message of the protocol.
pub(crate) fn malformed(error: DecodeError) -> Reason {
    Reason::new(Code::Malformed, error.to_string())
}

/// Decodes bytes of a peer as each message that there is, for fuzzing: what is taken is written alike.
#[cfg(fuzzing)]
pub fn decode_all(bytes: &[u8]) {
    fn same<T, E>(bytes: &[u8], decoded: Result<T, E>, encode: fn(&T) -> Vec<u8>) {
        if let Ok(message) = decoded {
            assert_eq!(encode(&message), bytes);
        }
    }
    same(bytes, hello::Hello::decode(bytes), hello::Hello::encode);
    same(bytes, group::Group::decode(bytes), group::Group::encode);
    same(bytes, party::Hellos::decode(bytes), party::Hellos::encode);
    same(bytes, upload::Dealt::decode(bytes), upload::Dealt::encode);
    same(bytes, survivors::Answer::decode(bytes), survivors::Answer::encode);
    // These are read after a first byte, or are read here alone.
    let rest = privet_crypto::Reader::new;
    let _ = hello::Greeting::decode(rest(bytes)).is_ok();
    let _ = survivors::Survivors::decode(rest(bytes)).is_ok();
    let _ = closing::Agreed::decode(rest(bytes), 3).is_ok();
    let _ = closing::Piece::decode(bytes).is_ok();
    let _ = party::Roster::decode(bytes).is_ok();
}
