//! Revocation, from OCSP responses (RFC 6960) and lists (RFC 5280) that are handed in.
//!
//! ```text
//!   certificate, issuer ─▶ each response and list that is the issuer's, signed, and fresh ─▶ Standing
//!   Standings of a chain ─ hard, soft, off ─▶ one check, whose detail says what was applied
//! ```
//! Where several speak of a certificate, the worst counts. What is not the issuer's, not signed by it or by
//! whom it appointed, or too old, says nothing.

mod crl;
mod der;
mod ocsp;
mod signature;
#[cfg(test)]
pub(crate) mod tests;

use std::time::SystemTime;

use crate::appraisal::{Findings, Name};
use crate::certs;
use crate::policy::{RevocationMode, RevocationRules};
use crate::refusal::{Code, Refusal};
use crate::time::{date, seconds};

/// Most bytes of one response or list.
const MAX_BYTES: usize = 1 << 20;
/// How far a clock may be behind the issuer's.
const SKEW: u64 = 300;

/// Responses and lists.
#[derive(Debug, Clone, Default)]
pub struct Lists {
    lists: Vec<Vec<u8>>,
    responses: Vec<Vec<u8>>,
}

impl Lists {
    /// Takes one file in DER: a list or a response. Which it is shows in its first fields.
    ///
    /// # Errors
    /// When it is neither.
    pub fn add(&mut self, der: &[u8]) -> Result<(), Refusal> {
        if der.len() > MAX_BYTES {
            let detail = format!("a revocation list of {} bytes, at most {MAX_BYTES}", der.len());
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        if ocsp::parse(der).is_some() {
            self.responses.push(der.to_vec());
        } else if crl::parse(der).is_some() {
            self.lists.push(der.to_vec());
        } else {
            let detail = "neither an OCSP response nor a revocation list in DER";
            return Err(Refusal::new(Code::Malformed, detail));
        }
        Ok(())
    }

    /// What is known of a certificate: the worst of what is good for saying it.
    fn standing(&self, asked: &Asked<'_>) -> Standing {
        let lists = self.lists.iter().map(|der| crl::look(der, asked));
        let responses = self.responses.iter().map(|der| ocsp::look(der, asked));
        let mut unusable = Vec::new();
        let mut worst = None;
        for look in lists.chain(responses) {
            match look {
                Ok(None) => {}
                Ok(Some(standing)) => worst = worst.max(Some(standing)),
                Err(why) => unusable.push(why),
            }
        }
        worst.unwrap_or_else(|| Standing::Unknown(unusable.join("; ")))
    }
}

/// Whether a certificate is good; worse ones are greater.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Nothing usable says, and why what there is was not usable.
    Unknown(String),
    /// Who says so, and as of when.
    Good(String),
    OnHold(String),
    Revoked(String),
}

/// A certificate that is asked about.
struct Asked<'a> {
    certificate: &'a x509_parser::certificate::X509Certificate<'a>,
    issuer: &'a x509_parser::certificate::X509Certificate<'a>,
    now: u64,
    max_age: u64,
}

impl Asked<'_> {
    /// Whether something made at one time and good until another may still be used.
    fn fresh(&self, what: &str, made: u64, until: Option<u64>) -> Result<(), String> {
        if made > self.now.saturating_add(SKEW) {
            return Err(format!("{what} is of {}, which is yet to come", date(made)));
        }
        if until.is_some_and(|until| until < self.now) {
            return Err(format!("{what} was good until {}", date(until.unwrap_or_default())));
        }
        if self.now.saturating_sub(made) > self.max_age {
            return Err(format!("{what} is of {}, older than policy allows", date(made)));
        }
        Ok(())
    }
}

/// Looks at every certificate of chains but the last of each, which is the root: each was issued by the next.
pub(crate) fn check<'c, C: AsRef<[&'c [u8]]>>(
    findings: &mut Findings,
    chains: &[C],
    lists: &Lists,
    rules: &RevocationRules,
    now: SystemTime,
) {
    if rules.mode == RevocationMode::Off {
        return findings.skipped(Name::Revocation, "off: policy does not ask");
    }
    let found = standings(chains, lists, rules, now);
    let unknown = found.unknown();
    let (hard, mode) = match rules.mode {
        RevocationMode::Hard => (true, "hard"),
        _ => (false, "soft"),
    };
    if !found.against.is_empty() || (hard && !unknown.is_empty()) {
        let unknown = unknown.into_iter().filter(|_| hard);
        let unknown = unknown.map(|detail| Refusal::new(Code::RevocationUnknown, detail));
        return findings.judged(Name::Revocation, found.against.into_iter().chain(unknown), "");
    }
    match unknown.is_empty() {
        true => findings.passed(Name::Revocation, format!("{mode}: {}", found.good.join("; "))),
        false => findings.skipped(Name::Revocation, format!("{mode}: {}", unknown.join("; "))),
    }
}

/// What is known of the certificates of chains.
#[derive(Default)]
struct Standings {
    against: Vec<Refusal>,
    good: Vec<String>,
    /// Of which something was given that says nothing, and why.
    unusable: Vec<String>,
    /// Names of those of which nothing was given.
    silent: Vec<String>,
}

impl Standings {
    fn unknown(&self) -> Vec<String> {
        let mut unknown = self.unusable.clone();
        if !self.silent.is_empty() {
            let names = self.silent.join(", ");
            unknown.push(format!("nothing was given that says whether these are revoked: {names}"));
        }
        unknown
    }
}

fn standings<'c, C: AsRef<[&'c [u8]]>>(
    chains: &[C],
    lists: &Lists,
    rules: &RevocationRules,
    now: SystemTime,
) -> Standings {
    let mut found = Standings::default();
    let now = seconds(now);
    let mut known = std::collections::BTreeSet::new();
    let pairs = chains.iter().flat_map(|chain| {
        let chain = chain.as_ref();
        chain.iter().zip(chain.iter().skip(1))
    });
    for (certificate, issuer) in pairs {
        // Devices and signers share authorities.
        if !known.insert(*certificate) {
            continue;
        }
        let (Ok(certificate), Ok(issuer)) = (certs::parse(certificate), certs::parse(issuer))
        else {
            found.unusable.push("a certificate could not be read".into());
            continue;
        };
        let root = issuer.issuer().as_raw() == issuer.subject().as_raw();
        let max_age = if root { rules.root_max_age } else { rules.max_age }.0.as_secs();
        let asked = Asked { certificate: &certificate, issuer: &issuer, now, max_age };
        let name = certs::name(&certificate);
        match lists.standing(&asked) {
            Standing::Good(by) => found.good.push(format!("`{name}` is good, says {by}")),
            Standing::OnHold(by) => {
                let detail = format!("`{name}` is on hold, says {by}");
                found.against.push(Refusal::new(Code::CertOnHold, detail));
            }
            Standing::Revoked(by) => {
                let detail = format!("`{name}` is revoked, says {by}");
                found.against.push(Refusal::new(Code::CertRevoked, detail));
            }
            Standing::Unknown(why) if why.is_empty() => {
                let name = format!("`{name}`");
                // Signers of two files are often called alike.
                if !found.silent.contains(&name) {
                    found.silent.push(name);
                }
            }
            Standing::Unknown(why) => {
                let detail = format!("nothing good says whether `{name}` is revoked: {why}");
                found.unusable.push(detail);
            }
        }
    }
    found
}

/// What a list or a response says of certificates that it may have been made for, for fuzzing.
#[cfg(fuzzing)]
pub fn decode_all(bytes: &[u8]) {
    let lists = Lists { lists: vec![bytes.to_vec()], responses: vec![bytes.to_vec()] };
    let certificates: [&[u8]; 3] = [
        include_bytes!("../tests/fixtures/revocation/ec-good.der"),
        include_bytes!("../tests/fixtures/revocation/ec-ca.der"),
        include_bytes!("../tests/fixtures/revocation/ec-ca.der"),
    ];
    standings(
        &[certificates],
        &lists,
        &RevocationRules::default(),
        crate::time::at("2026-11-27T00:00:00Z"),
    );
}
