//! How a process of a federation comes by who judges its peers and who proves things to them.

use std::path::Path;
use std::sync::Arc;

use privet_core::Reason;
use privet_core::admission::{Attestation, Required, Shown};
use privet_core::audit::Audit;

use crate::identity::{Identity, Role};

/// What is known when it is opened.
pub struct Opening<'a> {
    /// Which end this process is.
    pub role: Role,
    /// Its kit.
    pub kit: &'a Path,
    /// What it proves itself with on the network.
    pub identity: &'a Identity,
    /// Names of peers that may take part; every certified one when empty.
    pub roster: &'a [String],
    /// Policies by name, reference files, revocation lists.
    pub folder: &'a Path,
    /// What it shows of itself.
    pub show: &'a [Shown],
    /// What its peers have to prove.
    pub required: Option<Required>,
    /// Where results are noted.
    pub audit: Option<Arc<dyn Audit>>,
}

/// Opens it.
pub type OpenAttestation = Arc<dyn Fn(Opening<'_>) -> Result<Attestation, Reason> + Send + Sync>;
