//! The claims of a device's token (version 3.0), each held against what a verifier of our own would want. A
//! claim that is not there is as good as false.

use serde_json::Value;

use super::Claims;
use crate::refusal::{Code, Refusal};

/// What the service's word speaks against.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) nonce: Vec<Refusal>,
    pub(super) chain: Vec<Refusal>,
    pub(super) signature: Vec<Refusal>,
    pub(super) fwid: Vec<Refusal>,
    pub(super) rim_driver: Vec<Refusal>,
    pub(super) rim_vbios: Vec<Refusal>,
    pub(super) measurements: Vec<Refusal>,
    pub(super) revocation: Vec<Refusal>,
    pub(super) mode: Vec<Refusal>,
}

/// What is held against a device by its token.
pub(super) fn read(name: &str, claims: &Claims) -> Said {
    let mut said = Said::default();
    if !name.starts_with("GPU-") {
        let detail =
            format!("`{name}` is no GPU; the service's claims of other devices are not known here");
        said.mode.push(Refusal::new(Code::UnsupportedArch, detail));
    }
    let say = Say { name, claims };
    said.nonce.extend(say.want("attestation-report-nonce-match", Code::NonceMismatch));
    said.signature.extend(say.want("attestation-report-parsed", Code::Malformed));
    said.signature
        .extend(say.want("attestation-report-signature-verified", Code::SignatureInvalid));
    said.mode.extend(say.want("arch-check", Code::UnsupportedArch));
    let fwid = "attestation-report-cert-chain-fwid-match";
    let absent = !claims.contains_key(&format!("x-nvidia-gpu-{fwid}"));
    let code = if absent { Code::FwidAbsent } else { Code::FwidMismatch };
    said.fwid.extend(say.want(fwid, code));
    let chain = "attestation-report-cert-chain";
    said.chain.extend(say.dated(chain, Code::ChainUntrusted, Code::CertExpired));
    said.revocation.extend(say.revocation(chain));
    for (rim, found) in [("driver-rim", &mut said.rim_driver), ("vbios-rim", &mut said.rim_vbios)] {
        for (claim, code) in [
            ("fetched", Code::RimMissing),
            ("schema-validated", Code::RimForeignContent),
            ("signature-verified", Code::RimSignature),
            ("version-match", Code::RimVersionMismatch),
            ("measurements-available", Code::RimMissing),
        ] {
            found.extend(say.want(&format!("{rim}-{claim}"), code));
        }
        let chain = format!("{rim}-cert-chain");
        found.extend(say.dated(&chain, Code::RimSignature, Code::RimExpired));
        said.revocation.extend(say.revocation(&chain));
    }
    said.rim_vbios.extend(say.want("vbios-index-no-conflict", Code::RimIndexConflict));
    said.measurements.extend(say.plain("measres", &"success".into(), Code::MeasurementMismatch));
    said.mode.extend(say.plain("secboot", &true.into(), Code::DebugEnabled));
    said.mode.extend(say.plain("dbgstat", &"disabled".into(), Code::DebugEnabled));
    said
}

struct Say<'a> {
    name: &'a str,
    claims: &'a Claims,
}

impl Say<'_> {
    fn refusal(&self, code: Code, claim: &str, found: Option<&Value>, wanted: &Value) -> Refusal {
        let found = match found {
            None => "not there".into(),
            // What the service sends is bounded, and still not all of it is for a line of text.
            Some(found) => format!("{:.60}", found.to_string()),
        };
        Refusal::new(code, format!("`{}`: {claim} is {found}, wanted {wanted}", self.name))
    }

    fn plain(&self, claim: &str, wanted: &Value, code: Code) -> Option<Refusal> {
        let found = self.claims.get(claim);
        (found != Some(wanted)).then(|| self.refusal(code, claim, found, wanted))
    }

    /// A claim of a GPU that must be true.
    fn want(&self, claim: &str, code: Code) -> Option<Refusal> {
        self.plain(&format!("x-nvidia-gpu-{claim}"), &true.into(), code)
    }

    fn of(&self, chain: &str, claim: &str) -> Option<&Value> {
        self.claims.get(&format!("x-nvidia-gpu-{chain}"))?.get(format!("x-nvidia-cert-{claim}"))
    }

    /// Whether the service found a chain valid.
    fn dated(&self, chain: &str, invalid: Code, expired: Code) -> Option<Refusal> {
        let (found, wanted) = (self.of(chain, "status"), Value::from("valid"));
        let code = if found == Some(&"expired".into()) { expired } else { invalid };
        (found != Some(&wanted))
            .then(|| self.refusal(code, &format!("{chain} status"), found, &wanted))
    }

    /// Whether the service found a chain not to be revoked.
    fn revocation(&self, chain: &str) -> Option<Refusal> {
        let (found, wanted) = (self.of(chain, "ocsp-status"), Value::from("good"));
        let reason = self.of(chain, "revocation-reason").and_then(Value::as_str).unwrap_or("");
        let code = match found.and_then(Value::as_str) {
            Some("revoked") if reason.to_ascii_lowercase().contains("hold") => Code::CertOnHold,
            Some("revoked") => Code::CertRevoked,
            _ => Code::RevocationUnknown,
        };
        let claim = format!("{chain} OCSP status");
        (found != Some(&wanted)).then(|| self.refusal(code, &claim, found, &wanted))
    }
}
