//! The seam to whoever decides that a peer may take part.
//!
//! ```text
//!   Admission::challenge ─▶ the peer's Attester::attest ─▶ Admission::prove ─▶ judge, at every moment after
//! ```
//! [`Admitted`] is a token that only this module mints; a step that must not happen with a
//! stranger takes one as an argument. What is proved, and with what, this seam does not know.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::refusal::{Code, Reason};

/// Who is at the other end of a connection, as the TLS layer proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The name in its certificate.
    pub name: String,
    /// SHA-256 of the certificate's public key (SPKI).
    pub key: [u8; 32],
    /// Keying material exported from this very connection (RFC 8446 §7.5), for evidence to be
    /// bound to. Both ends hold the same.
    pub exporter: [u8; 32],
}

/// When a peer is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// It joins a federation.
    Join,
    /// It is about to take part in a job, or asks for or gives something in it.
    Job,
    /// What it gave in a round is about to be used.
    Periodic,
    /// It is about to be sent, or sends, what keys are made of.
    KeyShare,
    /// It says that it does not take part: its certificate is enough for that.
    Leave,
}

/// Decides whether a peer may take part.
pub trait Admission: Send + Sync {
    /// Looks at a peer.
    ///
    /// # Errors
    /// When it may not take part.
    fn judge(&self, moment: Moment, peer: &Peer) -> Result<(), Reason>;

    /// A challenge for a peer that has to prove something about itself and this job (none yet, where it is
    /// empty), and has not, or not lately, on this connection.
    ///
    /// # Errors
    /// When there is to be one and none can be posed.
    fn challenge(&self, peer: &Peer, job: &str) -> Result<Option<[u8; 32]>, Reason> {
        let _ = (peer, job);
        Ok(None)
    }

    /// Takes a peer's answer to a challenge, which is spent by it.
    ///
    /// # Errors
    /// When the answer does not prove what is asked, or nothing was asked.
    fn prove(
        &self,
        peer: &Peer,
        job: &str,
        challenge: &[u8; 32],
        evidence: &[u8],
    ) -> Result<(), Reason> {
        let _ = (peer, job, challenge, evidence);
        Err(Reason::new(Code::NotAttested, "an answer to a challenge that was never posed"))
    }

    /// Whether a peer is to prove itself anew before it goes on, though it may still take part.
    fn due(&self, peer: &Peer) -> bool {
        let _ = peer;
        false
    }

    /// Has every peer prove itself anew before it goes on.
    fn renew(&self) {}
}

/// What a peer has to prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Required {
    /// Names of profiles, each of which it has to fit.
    pub profiles: Vec<String>,
    /// How old its evidence may get.
    pub max_age: Duration,
    /// Whether devices in software may pass.
    pub allow_simulated: bool,
}

/// Where evidence about a machine comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// The driver of NVIDIA's GPUs.
    Nvml,
    /// The kernel of a confidential machine.
    Tsm,
    /// Recorded evidence.
    Files,
    /// A device in software.
    Software,
}

/// Who judges peers, and who proves things to them.
#[derive(Clone)]
pub struct Attestation {
    /// Judges.
    pub admission: Arc<dyn Admission>,
    /// Proves; `None` where nothing is shown.
    pub attester: Option<Arc<dyn Attester>>,
}

/// Proves things about this machine.
pub trait Attester: Send + Sync {
    /// Evidence for a peer that has posed a challenge on a connection.
    ///
    /// # Errors
    /// When there is none to be had.
    fn attest(&self, peer: &Peer, job: &str, challenge: &[u8; 32]) -> Result<Vec<u8>, Reason>;
}

/// Most bytes of evidence that are taken from a peer.
pub const MAX_EVIDENCE: usize = 192 << 10;

/// A peer that was let in, and when.
///
/// ```compile_fail,E0451
/// use privet_core::admission::{Admitted, Moment, Peer};
/// fn forge(peer: Peer) -> Admitted { Admitted { peer, moment: Moment::Join } } // private fields
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    peer: Peer,
    moment: Moment,
}

impl Admitted {
    /// Who.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// When.
    pub fn moment(&self) -> Moment {
        self.moment
    }
}

/// Asks about a peer and mints the token.
///
/// # Errors
/// When the peer may not take part.
pub fn admit(judge: &dyn Admission, moment: Moment, peer: Peer) -> Result<Admitted, Reason> {
    judge.judge(moment, &peer)?;
    Ok(Admitted { peer, moment })
}

/// Admits whoever holds a certificate of the federation's CA and, where a roster is given, a name
/// on it.
#[derive(Debug, Clone, Default)]
pub struct CertificateOnly {
    /// Names that may take part; empty admits every certified name.
    pub roster: Vec<String>,
}

impl Admission for CertificateOnly {
    fn judge(&self, _: Moment, peer: &Peer) -> Result<(), Reason> {
        if self.roster.is_empty() || self.roster.contains(&peer.name) {
            return Ok(());
        }
        let detail = format!("`{}` is not on the roster of this federation", peer.name);
        Err(Reason::new(Code::NotAdmitted, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_on_the_roster_are_admitted() {
        let peer = |name: &str| Peer { name: name.into(), key: [0; 32], exporter: [0; 32] };
        let roster = CertificateOnly { roster: vec!["north".into()] };
        let admitted = admit(&roster, Moment::Join, peer("north")).unwrap();
        assert_eq!(admitted.peer().name, "north");
        assert_eq!(admitted.moment(), Moment::Join);
        let refused = admit(&roster, Moment::Join, peer("north ")).unwrap_err();
        assert_eq!(refused.code, Code::NotAdmitted);
        assert!(admit(&CertificateOnly::default(), Moment::Job, peer("any")).is_ok());
    }
}
