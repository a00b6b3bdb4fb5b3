//! The seam to whoever decides that a peer may take part.
//!
//! [`Admitted`] is a token that only this module mints; a step that must not happen with a
//! stranger takes one as an argument.

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
    /// It is about to take part in a job.
    Job,
}

/// Decides whether a peer may take part.
pub trait Admission: Send + Sync {
    /// Looks at a peer.
    ///
    /// # Errors
    /// When it may not take part.
    fn judge(&self, moment: Moment, peer: &Peer) -> Result<(), Reason>;
}

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
