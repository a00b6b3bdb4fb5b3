//! The seam to set intersection: what a job wants, what a site's guard is asked, what a site learns.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::channel::Link;
use crate::sensitivity::{Bound, Norm, Step, Unit};
use crate::{Message, Reason};

/// An enum of the words of a key in jobs, JSON and commands.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// All of them, the one that holds where none is said first.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
    };
}

words! {
    /// How an intersection is computed.
    Protocol {
        /// By what sizes and guards ask for.
        #[default]
        Auto = "auto",
        /// An oblivious PRF on ristretto255.
        Ecdh = "ecdh",
        /// One from vector oblivious linear evaluation.
        Vole = "vole",
    }
}

words! {
    /// Who learns what.
    Reveal {
        /// Every site which of its rows are common.
        #[default]
        All = "all",
        /// The first site which of its rows are, the others nothing.
        First = "first",
        /// Every site how many are.
        Size = "size",
    }
}

words! {
    /// What becomes of rows whose key an earlier row of the file has.
    Duplicates {
        /// The first row of a key stands for all.
        #[default]
        Dedupe = "dedupe",
        /// The file is refused.
        Refuse = "refuse",
    }
}

/// Most sites of a run.
pub const MAX_SITES: usize = 64;

/// Name of the task.
pub const TASK: &str = "psi";

/// Name of the one number of a size that is told.
pub const SIZE: &str = "size";

/// How far one record moves a size: keys are counted once, so that a row more or less is an item more or less.
pub const SIZE_BOUND: Bound =
    Bound { unit: Unit::Record, norm: Norm::L1, lattice_units: 1, step: Step::ONE, sampled: None };

/// Names of the steps by which keys are normalised.
pub const NORMALISE: [&str; 5] = ["trim", "nfkc", "lower", "email", "phone"];

/// What a job wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Key columns, in order.
    pub columns: Vec<String>,
    /// Steps of [`NORMALISE`], in order.
    pub normalise: Vec<String>,
    /// What becomes of duplicates.
    pub duplicates: Duplicates,
    /// Who learns what.
    pub reveal: Reveal,
    /// How it is computed.
    pub protocol: Protocol,
    /// Whether a peer that cheats is looked for.
    pub malicious: bool,
    /// Whether code parameters are chosen below all known attacks.
    pub conservative: bool,
    /// Whether sets are padded to the next power of two.
    pub pad: bool,
    /// Whether sites also write their other rows.
    pub rest: bool,
}

/// What a site allows, asked before anything is shown.
pub trait Guard: Send {
    /// Whether the size of the intersection matters to it: it is then counted before rows are shown.
    fn counts(&self) -> bool;

    /// Looks at the sizes of sets, this site's without dummies and those that the others declare, and says of
    /// which intersections something may be shown.
    ///
    /// # Errors
    /// When the run may not go on.
    fn sizes(&mut self, own: u64, peers: &[u64]) -> Result<Bounds, Reason>;

    /// Standard deviation of the noise, in items, without which it tells no size; 0 where it tells sizes as they
    /// are.
    fn noise(&self) -> f64;

    /// Pays for a size that is told with at least this noise, before anything from which it can be computed
    /// leaves this site. Not called at the site that counts.
    ///
    /// # Errors
    /// When it cannot be paid.
    fn pays(&mut self) -> Result<(), Reason>;

    /// Adds noise to the size that this site has counted, one number of sensitivity 1, and pays for it.
    ///
    /// # Errors
    /// When it cannot be paid, or noise cannot be added.
    fn noised(&mut self, size: Message) -> Result<Message, Reason>;
}

/// Sizes of an intersection of which something may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The fewest common items.
    pub least: u64,
    /// The most.
    pub most: u64,
}

impl Bounds {
    /// Whether a size lies within.
    pub fn allow(&self, size: u64) -> bool {
        (self.least..=self.most).contains(&size)
    }
}

/// A site's part in one run.
pub struct Meeting<'a> {
    /// What is wanted.
    pub wanted: &'a Wanted,
    /// The site's file.
    pub data: &'a Path,
    /// Names the run, its sites and their certified keys: the same at all sites.
    pub about: [u8; 32],
    /// This site's place among the sites.
    pub me: usize,
    /// To every other site, by place; none at its own.
    pub links: Vec<Option<Box<dyn Link>>>,
    /// What it allows.
    pub guard: &'a mut dyn Guard,
    /// Where its matching rows are written, if it is to learn them.
    pub out: &'a Path,
    /// Where its other rows are, if that is wanted.
    pub rest: &'a Path,
}

/// What a site found. For its owner: it never leaves by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Different keys of its file.
    pub items: u64,
    /// Rows whose key an earlier row has.
    pub duplicates: u64,
    /// Rows without a key.
    pub blank: u64,
    /// Items that all sites have, where it was told.
    pub common: Option<u64>,
    /// Standard deviation of the noise on `common`; 0 where it is exact.
    pub noise: f64,
    /// How it was computed.
    pub protocol: Protocol,
}

/// Computes intersections. Implemented by the façade over the protocols.
pub trait Intersector: Send + Sync {
    /// Takes part in a run.
    ///
    /// # Errors
    /// When the file cannot be read, a guard refuses, or a peer does not follow the protocol.
    fn meet(&self, meeting: Meeting<'_>) -> Result<Found, Reason>;
}
