//! What evidence is bound to: who speaks, the challenge, both TLS keys, this connection, the job.
//!
//! ```text
//!   rd    = SHA-384(name, role, challenge, own key, peer's key, exporter, job)   each with its length before it
//!   CPU   ◀ rd ‖ 16 zeros                 64 bytes of report data
//!   GPU   ◀ SHA-256(name, rd)             32 bytes of nonce
//! ```
//! The verifier works it out for itself: it takes nothing of it from the evidence. "Own" and "peer" are the
//! prover's: a relayed answer names another connection's exporter, a reflected one another role.

use privet_crypto::Transcript;
use ring::digest::{Context, SHA384};

use crate::encoding::short;
use crate::refusal::{Code, Refusal};

/// Who proves something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The server of a federation.
    Server,
    /// A site.
    Site,
}

impl Role {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Site => "site",
        }
    }

    /// Who is at the other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Server => Self::Site,
            Self::Site => Self::Server,
        }
    }
}

/// All that evidence is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// Who proves.
    pub role: Role,
    /// What the verifier posed.
    pub challenge: [u8; 32],
    /// SHA-256 of the prover's leaf SubjectPublicKeyInfo.
    pub own_key: [u8; 32],
    /// SHA-256 of the verifier's.
    pub peer_key: [u8; 32],
    /// Keying material exported from the connection (RFC 8446, section 7.5).
    pub exporter: [u8; 32],
    /// The job; empty before there is one.
    pub job: &'a str,
}

/// A digest of a [`Binding`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportData([u8; 48]);

impl Binding<'_> {
    /// The digest of all of it.
    pub fn report_data(&self) -> ReportData {
        let mut hash = Context::new(&SHA384);
        let fields: [&[u8]; 7] = [
            b"cc-attest v1",
            self.role.as_str().as_bytes(),
            &self.challenge,
            &self.own_key,
            &self.peer_key,
            &self.exporter,
            self.job.as_bytes(),
        ];
        for field in fields {
            hash.update(&(field.len() as u64).to_le_bytes());
            hash.update(field);
        }
        let mut bytes = [0; 48];
        bytes.iter_mut().zip(hash.finish().as_ref()).for_each(|(to, from)| *to = *from);
        ReportData(bytes)
    }

    /// Why evidence that does not answer this is refused: it answers what the other role would prove on the same
    /// connection, or something else.
    pub fn refusal(&self, answers: impl Fn(&ReportData) -> bool) -> Refusal {
        let role = self.role.other();
        let turned = Self { role, own_key: self.peer_key, peer_key: self.own_key, ..*self };
        if [turned, Self { role, ..*self }].iter().any(|other| answers(&other.report_data())) {
            let (found, wanted) = (role.as_str(), self.role.as_str());
            let detail = format!("the evidence is a {found}'s, wanted a {wanted}'s");
            return Refusal::new(Code::RoleMismatch, detail);
        }
        let detail = format!(
            "the evidence is not bound to {}: it is of other keys, another connection, challenge or job",
            short(&self.report_data().0)
        );
        Refusal::new(Code::KeyBindingMismatch, detail)
    }
}

impl ReportData {
    /// The digest itself, by which evidence of several kinds is known to belong together.
    pub fn digest(&self) -> [u8; 48] {
        self.0
    }

    /// What a CPU signs.
    pub fn for_cpu(&self) -> [u8; 64] {
        let mut data = [0; 64];
        data.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        data
    }

    /// What a CPU signed, if it has the form.
    pub fn from_cpu(data: &[u8; 64]) -> Option<Self> {
        let (digest, rest) = data.split_first_chunk()?;
        rest.iter().all(|byte| *byte == 0).then_some(Self(*digest))
    }

    /// What a GPU signs, and a service for it.
    pub fn for_gpu(&self) -> [u8; 32] {
        Transcript::new("privet/cc-attest/gpu-nonce/v1").bytes(&self.0).finish().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::hex;

    fn binding() -> Binding<'static> {
        Binding {
            role: Role::Site,
            challenge: [1; 32],
            own_key: [2; 32],
            peer_key: [3; 32],
            exporter: [4; 32],
            job: "job",
        }
    }

    #[test]
    fn every_field_is_in_the_digest() {
        let base = binding();
        let others = [
            Binding { role: Role::Server, ..base },
            Binding { challenge: [9; 32], ..base },
            Binding { own_key: [9; 32], ..base },
            Binding { peer_key: [9; 32], ..base },
            Binding { exporter: [9; 32], ..base },
            Binding { job: "jobs", ..base },
            Binding { job: "", ..base },
        ];
        let mut digests: Vec<_> = others.iter().map(|other| other.report_data().digest()).collect();
        digests.push(base.report_data().digest());
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 8);
        assert_eq!(base.report_data(), binding().report_data());
    }

    /// Worked out with `hashlib` of Python.
    #[test]
    fn the_digests_are_those_of_the_formula() {
        assert_eq!(
            hex(&binding().report_data().digest()),
            "81d43d1f75f735ed8600f51ae836720c028c8ce3b6ce90f4b585a17d8fc613b1a97b9e6a0d188710e3b658f4fa096d68"
        );
        assert_eq!(
            hex(&binding().report_data().for_gpu()),
            "e7ba22c6202e736e4c518b31da83f1a21811e8ca1c06920f285888163f56e825"
        );
    }

    #[test]
    fn report_data_is_the_digest_and_zeros() {
        let rd = binding().report_data();
        let data = rd.for_cpu();
        assert_eq!((&data[..48], &data[48..]), (&rd.digest()[..], &[0; 16][..]));
        assert_eq!(ReportData::from_cpu(&data), Some(rd));
        for at in 48..64 {
            let mut other = data;
            other[at] = 1;
            assert_eq!(ReportData::from_cpu(&other), None);
        }
    }

    #[test]
    fn evidence_of_another_role_or_connection_is_refused() {
        let base = binding();
        let code = |other: Binding<'_>| {
            let found = other.report_data();
            base.refusal(|data| *data == found).code
        };
        // The verifier's own answer, sent back; and a role that was changed alone.
        let turned =
            Binding { role: Role::Server, own_key: base.peer_key, peer_key: base.own_key, ..base };
        assert_eq!(code(turned), Code::RoleMismatch);
        assert_eq!(code(Binding { role: Role::Server, ..base }), Code::RoleMismatch);
        // Relayed from another connection; of another key; of another job.
        assert_eq!(code(Binding { exporter: [9; 32], ..base }), Code::KeyBindingMismatch);
        assert_eq!(code(Binding { own_key: [9; 32], ..base }), Code::KeyBindingMismatch);
        assert_eq!(code(Binding { peer_key: [9; 32], ..base }), Code::KeyBindingMismatch);
        assert_eq!(code(Binding { job: "other", ..base }), Code::KeyBindingMismatch);
        assert_eq!(code(Binding { challenge: [9; 32], ..base }), Code::KeyBindingMismatch);
    }
}
