//! What differs between schemes, inside the protocol that they share.
//!
//! ```text
//!   site    values ──seal──▶ words, a message for each peer │ answer: of what the survivors dealt to it
//!   server  add(words) ─▶ Sum ──open(answers)──▶ header and values,
//!                                          or what a site opens ──open_sealed──▶ header and values
//! ```
//! Rosters, contexts, signatures, survivors, answers given once and checks of the sum are the protocol's
//! ([`crate::protocol`]); a scheme sees integers, words and the messages that its own other end wrote.

#[cfg(feature = "tfhe")]
mod tfhe;
pub(crate) mod threshold;

use privet_core::seal;
use privet_core::{Code, Reason};
use privet_crypto::{Digest, Seed, Transcript};
use zeroize::Zeroizing;

use crate::coding::HeaderSum;
use crate::protocol::hello::Common;
use crate::protocol::party::Party;

/// What a site seals.
pub(crate) struct Sealing<'a> {
    pub(crate) context: &'a Digest,
    /// Of all secrets of this upload; it depends on the values too.
    pub(crate) seed: &'a Seed,
    /// What the members share, where they do: the sum is to be authenticated then.
    pub(crate) group: Option<&'a Seed>,
    /// The site's place in the roster.
    pub(crate) index: u32,
    pub(crate) values: &'a [i64],
    pub(crate) weight: u64,
}

/// What comes of it.
pub(crate) struct Sealed {
    /// Little-endian, as they travel.
    pub(crate) words: Vec<u32>,
    /// For each place of the roster what is dealt to it, the site's own included; empty where the scheme
    /// deals nothing.
    pub(crate) dealt: Vec<Zeroizing<Vec<u8>>>,
}

/// A scheme, laid out for the members and values of one round.
pub(crate) trait Scheme: Send + Sync {
    /// Writes all that the members must agree on.
    fn bind(&self, transcript: Transcript) -> Transcript;

    /// Words of a sealed update.
    fn words(&self) -> usize;

    /// Bytes of what is dealt to each peer; 0 where nothing is.
    fn dealt_bytes(&self) -> usize;

    /// Seals values.
    fn seal(&self, sealing: &Sealing<'_>) -> Result<Sealed, Reason>;

    /// What helps to open the sum, of what the survivors dealt to this site.
    ///
    /// # Errors
    /// The number of a message that is none of the scheme's.
    fn answer(&self, dealt: &[Zeroizing<Vec<u8>>]) -> Result<Vec<u8>, usize>;

    /// An empty sum.
    fn sum(&self, context: &Digest) -> Result<Box<dyn Sum>, Reason>;

    /// Bytes of a sealed sum that a site opens; `None` where the server opens it.
    fn sealed_sum_bytes(&self) -> Option<u64> {
        None
    }

    /// Opens a sealed sum at a site.
    fn open_sealed(&self, _context: &Digest, _group: &Seed, _sum: &[u8]) -> Result<Opened, Reason> {
        Err(Reason::new(Code::WrongStage, "the server opens the sums of this scheme"))
    }
}

/// What opened: the header, and the sums of the values.
pub(crate) type Opened = (HeaderSum, Zeroizing<Vec<i64>>);

/// A sum of sealed updates at the server.
pub(crate) trait Sum: Send {
    /// Adds all of an update's words, as they travelled, or nothing of it.
    fn add(&mut self, words: &mut [u32]) -> Result<(), Reason>;

    /// Opens the sum with the survivors' help, of each its place in the roster and what it answered.
    fn open(&mut self, help: &[(u32, Vec<u8>)]) -> Result<Opening, Reason>;
}

/// How a sum is opened.
pub(crate) enum Opening {
    /// It is open.
    Done(Opened),
    /// A site can open these bytes.
    #[cfg_attr(not(feature = "tfhe"), expect(dead_code, reason = "the server opens `threshold`"))]
    AtSite(Vec<u8>),
}

/// Whether this build has a scheme.
///
/// # Errors
/// When it does not.
pub(crate) fn is_built(scheme: seal::Scheme) -> Result<(), Reason> {
    match scheme {
        seal::Scheme::Tfhe if !cfg!(feature = "tfhe") => {
            Err(Reason::new(Code::NotBuilt, "this build does not have the scheme `tfhe`"))
        }
        seal::Scheme::Threshold | seal::Scheme::Tfhe => Ok(()),
    }
}

/// The largest integers that sums over so many sites have room for, of however many values.
pub(crate) fn largest(common: Common, sites: u32) -> u64 {
    match common.scheme {
        seal::Scheme::Threshold => threshold::largest(common.exact, sites),
        #[cfg(feature = "tfhe")]
        seal::Scheme::Tfhe => tfhe::largest(sites),
        #[cfg(not(feature = "tfhe"))]
        seal::Scheme::Tfhe => 0,
    }
}

/// The scheme of a party, for so many values.
///
/// # Errors
/// When their sums would not fit, or this build does not have the scheme.
pub(crate) fn of(party: &Party, values: u64) -> Result<Box<dyn Scheme>, Reason> {
    match party.common.scheme {
        seal::Scheme::Threshold => Ok(Box::new(threshold::Threshold::new(party, values)?)),
        #[cfg(feature = "tfhe")]
        seal::Scheme::Tfhe => Ok(Box::new(tfhe::Tfhe::new(party, values)?)),
        #[cfg(not(feature = "tfhe"))]
        seal::Scheme::Tfhe => Err(Reason::new(Code::NotBuilt, "no scheme `tfhe`")),
    }
}
