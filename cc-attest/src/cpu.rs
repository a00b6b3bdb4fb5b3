//! What evidence of a CPU is held against, whoever made the CPU.

use std::time::SystemTime;

use crate::encoding::short;
use crate::policy::RevocationRules;
use crate::refusal::{Code, Refusal};
use crate::revocation::Lists;

/// All that is handed in with the evidence.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// What the machine must have put into its report.
    pub report_data: &'a [u8; 64],
    /// Now.
    pub now: SystemTime,
    /// Revocation lists and responses.
    pub lists: &'a Lists,
    /// How much they matter.
    pub revocation: &'a RevocationRules,
}

impl Setting<'_> {
    /// Whether a report answers the challenge. Both sides are public: no time is kept constant.
    pub(crate) fn answers(&self, found: &[u8; 64]) -> Option<Refusal> {
        (found != self.report_data).then(|| {
            let (found, wanted) = (short(found), short(self.report_data));
            Refusal::new(Code::NonceMismatch, format!("report data {found}, wanted {wanted}"))
        })
    }
}
