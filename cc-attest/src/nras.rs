//! Tokens of NVIDIA's remote attestation service: a detached EAT (RFC 9711) of JSON.
//!
//! ```text
//!   [["JWT", overall], {"GPU-0": token, …}]
//!   key id ─ pinned keys ─▶ overall: issuer, dates, challenge, result, SHA-256 of each token ─▶ token: claims
//! ```
//! The service looked at the evidence; here only its word is checked, and that it says of each device all that
//! a verifier of our own would look at. Keys are handed in: none is built in, and none comes with a token.

mod claims;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::SystemTime;

use ring::digest::{SHA256, digest};
use ring::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::appraisal::{Device, Findings, Name};
use crate::encoding::{from_base64url, hex, short, unhex};
use crate::json;
use crate::jws::Jws;
use crate::policy::NrasRules;
use crate::refusal::{Code, Refusal};
use crate::time::{date, seconds};

/// Most bytes of evidence. Recorded: 3.6 KiB for one GPU.
const MAX: usize = 128 << 10;
/// Most devices of one answer.
const MAX_DEVICES: usize = 32;
/// How far our clock may be behind the service's.
const SKEW: u64 = 60;
/// The one algorithm.
const ALGORITHM: &str = "ES384";

/// Keys that tokens are signed with, by their ids: points of P-384.
#[derive(Debug, Clone, Default)]
pub struct Keys(BTreeMap<String, [u8; 97]>);

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    kid: String,
    alg: Option<String>,
    r#use: Option<String>,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl Keys {
    /// Reads a JWK set (RFC 7517). Keys for other uses are passed over.
    ///
    /// # Errors
    /// When it is none, a key of its is no point, or two have one id.
    pub fn from_jwks(text: &[u8]) -> Result<Self, Refusal> {
        let malformed = |detail: String| Refusal::new(Code::Malformed, detail);
        let jwks: Jwks = json::read(text, MAX, "a key set")?;
        let mut keys = BTreeMap::new();
        let fits = |key: &Jwk| {
            let alg = key.alg.as_deref().is_none_or(|alg| alg == ALGORITHM);
            let purpose = key.r#use.as_deref().is_none_or(|purpose| purpose == "sig");
            key.kty == "EC" && key.crv == "P-384" && alg && purpose && !key.kid.is_empty()
        };
        for key in jwks.keys.into_iter().filter(fits) {
            let (x, y) = (from_base64url(&key.x), from_base64url(&key.y));
            let point = match (x, y) {
                (Some(x), Some(y)) if x.len() == 48 && y.len() == 48 => [&[4][..], &x, &y].concat(),
                _ => Vec::new(),
            };
            let point = point
                .try_into()
                .map_err(|_| malformed(format!("key `{}` is no point", key.kid)))?;
            if keys.insert(key.kid.clone(), point).is_some() {
                return Err(malformed(format!("key `{}` is there twice", key.kid)));
            }
        }
        Ok(Self(keys))
    }

    /// These and those of another set.
    ///
    /// # Errors
    /// When both have one id.
    pub fn join(&mut self, other: Self) -> Result<(), Refusal> {
        if let Some(kid) = other.0.keys().find(|kid| self.0.contains_key(*kid)) {
            let detail = format!("key `{kid}` is there twice");
            return Err(Refusal::new(Code::Malformed, detail));
        }
        self.0.extend(other.0);
        Ok(())
    }
}

type Claims = Map<String, Value>;

/// What is held against a token, by what it speaks against.
#[derive(Debug, Clone, Default)]
struct Against {
    nonce: Vec<Refusal>,
    chain: Vec<Refusal>,
    signature: Vec<Refusal>,
    measurements: Vec<Refusal>,
}

/// A token and what is held against it.
struct Token {
    claims: Claims,
    kid: Option<String>,
    /// Whether its key was handed in.
    known: bool,
    against: Against,
}

/// All that is handed in.
struct Setting<'a> {
    keys: &'a Keys,
    challenge: &'a [u8; 32],
    rules: &'a NrasRules,
    now: u64,
}

/// Looks at an answer of the service.
pub fn verify(
    evidence: &[u8],
    keys: &Keys,
    challenge: &[u8; 32],
    rules: &NrasRules,
    now: SystemTime,
) -> (Vec<Device>, Vec<Refusal>) {
    let setting = Setting { keys, challenge, rules, now: seconds(now) };
    match answer(evidence, &setting) {
        Ok(found) => found,
        Err(refusal) => (Vec::new(), vec![refusal]),
    }
}

fn answer(evidence: &[u8], setting: &Setting<'_>) -> Result<(Vec<Device>, Vec<Refusal>), Refusal> {
    let (overall, tokens) = detached(evidence)?;
    let mut overall = setting.token(&overall, "the overall token")?;
    if overall.claims.get("x-nvidia-overall-att-result") != Some(&Value::Bool(true)) {
        let detail = "the service's overall result is not `true`";
        overall.against.measurements.push(Refusal::new(Code::MeasurementMismatch, detail));
    }
    let digests = digests(&overall.claims)?;
    if let Some(name) = digests.keys().find(|name| !tokens.contains_key(*name)) {
        let detail = format!("the overall token speaks of `{name}`, of which there is no token");
        overall.against.signature.push(Refusal::new(Code::SignatureInvalid, detail));
    }
    let (mut devices, mut refusals) = (Vec::new(), Vec::new());
    for (name, text) in &tokens {
        let token = setting.token(text, name)?;
        let (device, more) = device(name, text, token, &overall, digests.get(name));
        devices.push(device);
        // What is held against the overall token is said once.
        refusals.extend(
            more.into_iter().filter(|refusal| !refusals.contains(refusal)).collect::<Vec<_>>(),
        );
    }
    Ok((devices, refusals))
}

/// The overall token, and that of each device by its name.
fn detached(evidence: &[u8]) -> Result<(String, BTreeMap<String, String>), Refusal> {
    type Detached = ((String, String), BTreeMap<String, String>);
    let ((form, overall), tokens): Detached = json::read(evidence, MAX, "a detached token")?;
    let malformed = |detail: &str| Refusal::new(Code::Malformed, detail);
    if form != "JWT" {
        return Err(malformed("the overall token is not a JWT"));
    }
    if tokens.is_empty() || tokens.len() > MAX_DEVICES {
        return Err(malformed("tokens of no device, or of too many"));
    }
    Ok((overall, tokens))
}

/// All tokens by their names.
pub(crate) fn tokens(evidence: &[u8]) -> Result<Vec<(String, String)>, Refusal> {
    let (overall, tokens) = detached(evidence)?;
    Ok([("overall".to_owned(), overall)].into_iter().chain(tokens).collect())
}

/// SHA-256 of each token, from the overall one.
fn digests(overall: &Claims) -> Result<BTreeMap<String, [u8; 32]>, Refusal> {
    type Submods = BTreeMap<String, (String, (String, String))>;
    let malformed =
        || Refusal::new(Code::Malformed, "the overall token has no SHA-256 of each token");
    let submods = overall.get("submods").cloned().unwrap_or_default();
    let submods: Submods = serde_json::from_value(submods).map_err(|_| malformed())?;
    let read = |(name, (form, (hash, hex))): (String, (String, (String, String)))| {
        let sha256 = form == "DIGEST" && hash == "SHA-256";
        unhex(&hex).filter(|_| sha256).map(|digest| (name, digest)).ok_or_else(malformed)
    };
    submods.into_iter().map(read).collect()
}

impl Setting<'_> {
    /// Reads a token and looks at all that every token must have.
    fn token(&self, text: &str, what: &str) -> Result<Token, Refusal> {
        let jws = Jws::parse(text, MAX)?;
        let claims: Claims = json::read(&jws.payload, MAX, "the claims of a token")?;
        let mut against = Against::default();
        let mut chain = |code, detail: String| against.chain.push(Refusal::new(code, detail));
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or("");
        if issuer != self.rules.issuer {
            let wanted = &self.rules.issuer;
            chain(
                Code::ChainUntrusted,
                format!("{what} is issued by `{issuer}`, wanted `{wanted}`"),
            );
        }
        let at = |name: &str| claims.get(name).and_then(Value::as_u64);
        let told = |at: Option<u64>| at.map_or("no date".into(), date);
        let (made, from, until) = (at("iat"), at("nbf"), at("exp"));
        let begun = |at: Option<u64>| at.is_some_and(|at| at <= self.now.saturating_add(SKEW));
        if !begun(made) || !begun(from) || until.is_none_or(|until| until <= self.now) {
            let (made, from, until, now) = (told(made), told(from), told(until), date(self.now));
            let detail = format!("{what} is of {made}, good from {from} to {until}; it is {now}");
            chain(Code::CertExpired, detail);
        }
        let key = jws.header.kid.as_ref().and_then(|kid| self.keys.0.get(kid));
        if key.is_none() {
            let kid = jws.header.kid.as_deref().unwrap_or("");
            chain(
                Code::ChainUntrusted,
                format!("{what} is signed by key `{kid}`, which is not known"),
            );
        }
        let mut unsigned =
            |detail| against.signature.push(Refusal::new(Code::SignatureInvalid, detail));
        if jws.header.alg != ALGORITHM {
            unsigned(format!("{what} is signed by `{}`, wanted {ALGORITHM}", jws.header.alg));
        } else if let Some(key) = key {
            let key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, key);
            if key.verify(jws.signed, &jws.signature).is_err() {
                unsigned(format!("{what} is not signed by its key"));
            }
        }
        let nonce = claims.get("eat_nonce").and_then(Value::as_str).unwrap_or("");
        if unhex(nonce).as_ref() != Some(self.challenge) {
            let detail = format!("{what} answers {nonce:.16}…, wanted {}", short(self.challenge));
            against.nonce.push(Refusal::new(Code::NonceMismatch, detail));
        }
        Ok(Token { claims, kid: jws.header.kid, known: key.is_some(), against })
    }
}

/// What a token says of its device.
fn device(
    name: &str,
    text: &str,
    token: Token,
    overall: &Token,
    announced: Option<&[u8; 32]>,
) -> (Device, Vec<Refusal>) {
    let Token { claims, kid, known, mut against } = token;
    if kid != overall.kid {
        let detail = format!("`{name}` and the overall token are signed by two keys");
        against.chain.push(Refusal::new(Code::ChainUntrusted, detail));
    }
    let found = digest(&SHA256, text.as_bytes());
    if announced.is_none_or(|announced| announced != found.as_ref()) {
        let announced = announced.map_or("none".into(), |digest| hex(digest));
        let detail = format!(
            "`{name}` has SHA-256 {}, the overall token names {announced}",
            short(found.as_ref())
        );
        against.signature.push(Refusal::new(Code::SignatureInvalid, detail));
    }
    let of = |all: &[Refusal], own: Vec<Refusal>, said: Vec<Refusal>| [all, &own, &said].concat();
    let all = &overall.against;
    let said = claims::read(name, &claims);
    let mut findings = Findings::default();
    let nonce = of(&all.nonce, against.nonce, said.nonce);
    findings.judged(Name::Nonce, nonce, "both tokens and the report answer the challenge");
    let chain = of(&all.chain, against.chain, said.chain);
    findings.judged(
        Name::Chain,
        chain,
        "a key that was handed in; the device's chain, says the service",
    );
    let signature = of(&all.signature, against.signature, said.signature);
    match (known && overall.known, signature.is_empty()) {
        (false, true) => findings.skipped(Name::Signature, "the key is not known"),
        _ => {
            findings.judged(Name::Signature, signature, "both tokens; the report, says the service")
        }
    }
    findings.judged(Name::Fwid, said.fwid, "says the service");
    findings.judged(Name::RimDriver, said.rim_driver, "says the service");
    findings.judged(Name::RimVbios, said.rim_vbios, "says the service");
    let measurements = of(&all.measurements, Vec::new(), said.measurements);
    findings.judged(Name::Measurements, measurements, "says the service");
    findings.judged(Name::Revocation, said.revocation, "says the service");
    findings.judged(Name::Mode, said.mode, "says the service");
    let (checks, refusals) = findings.finish("not looked at");
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    let hwmodel = text("hwmodel");
    let arch = match hwmodel.as_deref() {
        Some(model) if model.starts_with("GH1") => Some("hopper".into()),
        Some(model) if model.starts_with("GB1") || model.starts_with("GB2") => {
            Some("blackwell".into())
        }
        _ => None,
    };
    let device = Device {
        arch,
        hwmodel,
        driver: text("x-nvidia-gpu-driver-version"),
        vbios: text("x-nvidia-gpu-vbios-version"),
        ueid: text("ueid"),
        checks,
        simulated: false,
    };
    (device, refusals)
}
