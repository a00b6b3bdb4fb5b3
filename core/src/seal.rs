//! The seam to sealing: updates that open only as a sum.
//!
//! ```text
//!   server: ServerSeal ──greeting──▶ sites ──hellos──▶ session ─▶ task ─▶ uploads ─▶ SealedSum
//!                                                          survivors │ ▲ answers │ ▲ what opened, checked
//!   site:   SiteSeal   ──hello(terms)──▶ … begin(session) ─▶ seal(integers) ─▶ … ─▶ frames
//! ```
//! A scheme implements both sides; gates and networks carry what they say and do not read it. Frames
//! of a site leave through its gate.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::aggregate::Aggregator;
use crate::channel::Channel;
use crate::message::Sealed;
use crate::refusal::Reason;
use crate::sensitivity::{Lattice, Step};
use crate::tensor::Schema;

/// The schemes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Nobody holds a key: what opens a sum is put together by the sites in it.
    Threshold,
    /// Every site holds the one key; the server does not.
    Tfhe,
}

impl Scheme {
    /// All, in the order of their wire numbers.
    pub const ALL: [Scheme; 2] = [Scheme::Threshold, Scheme::Tfhe];

    /// The word used in files and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Threshold => "threshold",
            Scheme::Tfhe => "tfhe",
        }
    }
}

/// What a site's rule asks of a seal, and what its updates are like. Public.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// What updates are sealed with.
    pub scheme: Scheme,
    /// Sites that must be in every sum that is opened.
    pub min_sites: u32,
    /// Sites that may collude with the server.
    pub colluders: u32,
    /// Largest magnitude of an integer that the site will seal; larger ones are brought to it.
    pub most: u64,
    /// The lattice step of its integers.
    pub step: Step,
    /// Variance of the noise in each of its integers, in lattice units, rounded down; what a share of
    /// the sum's noise has where it is shared.
    pub noise: u64,
    /// Whether that noise is a share: peers with less do not count then.
    pub shares: bool,
    /// Whether sums must be those of the integers; else each number has an error of about 6.4·√K for K
    /// sites, and numbers may be larger.
    pub exact: bool,
    /// Whether the site wants to see that what was opened is the sum of what was sealed.
    pub verify: bool,
    /// log2 of a bound of the site's weight, where its integers are multiplied by it.
    pub weight_bits: Option<u8>,
    /// Whether every sum of a run must be over the same sites.
    pub stable: bool,
    /// The most sessions of one run that the site enters.
    pub sessions: u32,
    /// The keys that count, as SHA-256 of a peer's certified key (SPKI); every certified peer counts
    /// when absent.
    pub pins: Option<BTreeSet<[u8; 32]>>,
}

/// Who a credential is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The name that the federation's CA certified.
    pub name: String,
    /// SHA-256 of the certified key (SPKI), which policies pin.
    pub key: [u8; 32],
    /// The key that signs protocol messages; the certified key vouches for it.
    pub signing: [u8; 32],
}

/// Tells who a credential is of: bytes that a site shows its peers through a server that they do not
/// trust.
pub trait Vouching: Send + Sync {
    /// Checks a credential of a site.
    ///
    /// # Errors
    /// When it is none, or not of this federation.
    fn certified(&self, credential: &[u8]) -> Result<Certified, Reason>;
}

/// What a site says to a frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reply {
    /// What leaves; nothing where the frame was only taken.
    pub bytes: Vec<u8>,
    /// What the owner of the site is to know of it.
    pub note: Option<Note>,
}

/// What came of a frame besides its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// What was opened is the sum of what the sites in it sealed.
    Verified,
    /// A peer did what the protocol does not allow; what leaves is a complaint of it.
    Complaint(Reason),
}

/// A site's side, for one job.
pub trait SiteSeal: Send {
    /// Answers a frame of the server.
    ///
    /// # Errors
    /// When it may not be answered. Nothing leaves then.
    fn frame(&mut self, frame: &[u8]) -> Result<Reply, Reason>;

    /// Takes the session that came with a task: who takes part and on which terms. `task` is the
    /// digest of all that the job and the task say.
    ///
    /// # Errors
    /// When the site does not take part in such a sum.
    fn begin(&mut self, task: [u8; 32], session: &[u8], schema: &Schema) -> Result<(), Reason>;

    /// Seals an update for the task that was begun; once. It is multiplied by the weight only where the
    /// terms say so.
    ///
    /// # Errors
    /// When none was begun, or the integers are not those of the task.
    fn seal(&mut self, update: Lattice, weight: f64) -> Result<Sealed, Reason>;
}

/// Who takes part in a round, as its task says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// What the task brings.
    pub bytes: Vec<u8>,
    /// The sites that can seal for it.
    pub sites: BTreeSet<String>,
}

/// A server's side, for one job. It holds no key.
pub trait ServerSeal: Send {
    /// Greets sites and collects who will take part.
    ///
    /// # Errors
    /// When too few do.
    fn greet(
        &mut self,
        sites: &BTreeSet<String>,
        channel: &mut dyn Channel,
    ) -> Result<Session, Reason>;

    /// The sum of the uploads that answer a task of the last session.
    ///
    /// # Errors
    /// When there was no session, or it does not go with such a task.
    fn sum(&mut self, task: [u8; 32], schema: &Schema) -> Result<Box<dyn Aggregator>, Reason>;
}
