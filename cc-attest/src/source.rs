//! Where evidence comes from: the driver, the kernel, a folder, a device in software.
//!
//! ```text
//!   ReportData ─▶ Nvml │ Tsm │ Folder │ Software, or a list of these ─▶ Bundle │ Unavailable
//! ```
//! A source is asked for evidence that is bound to all that [`crate::binding`] names. Whether it did so, only a
//! verifier says.

mod files;
#[cfg(feature = "nvml")]
mod nvml;
mod tsm;

use crate::binding::ReportData;
use crate::evidence::{Bundle, MAX_PIECES};

pub use files::Folder;
#[cfg(feature = "nvml")]
pub use nvml::Nvml;
pub use tsm::Tsm;

/// Why there is no evidence: for the operator, not for the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(pub String);

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Something that gives evidence.
pub trait Source: Send + Sync {
    /// Evidence that is bound to this.
    ///
    /// # Errors
    /// When there is none.
    fn collect(&self, data: &ReportData) -> Result<Bundle, Unavailable>;
}

/// Several sources of one machine, joined. Each must give something: what is missing would be refused later, and
/// here it is known why.
impl Source for Vec<Box<dyn Source>> {
    fn collect(&self, data: &ReportData) -> Result<Bundle, Unavailable> {
        if self.is_empty() {
            return Err(Unavailable("no source of evidence was named".into()));
        }
        let mut joined = Bundle::default();
        for source in self {
            joined.0.extend(source.collect(data)?.0);
        }
        match joined.0.len() > MAX_PIECES {
            true => Err(Unavailable(format!("evidence of more than {MAX_PIECES} devices"))),
            false => Ok(joined),
        }
    }
}
