//! The result of an appraisal as an EAT Attestation Result (draft-ietf-rats-ear-04), signed by the verifier: a
//! compact JWS with EdDSA over Ed25519 (RFC 8037).
//!
//! ```text
//!   Appraisal, challenge, policy, evidence ─ sign ─▶ header.claims.signature ─ verify ─▶ Claims
//! ```
//! It is good for ten minutes at most and for one challenge. The key also signs digests elsewhere; those are 32
//! bytes, and what is signed here is always longer, so that neither can be taken for the other.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use privet_crypto::{Digest, PublicKey, SigningKey};
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::appraisal::{Appraisal, Device, Name, Verdict};
use crate::encoding::{Hex, to_base64url};
use crate::json;
use crate::jws::Jws;
use crate::refusal::{Code, Refusal};
use crate::time::{date, seconds};

/// The profile of the claims.
const PROFILE: &str = "tag:github.com,2023:veraison/ear";
/// The one algorithm.
const ALGORITHM: &str = "EdDSA";
/// The longest that a result is good.
pub const LIFETIME: Duration = Duration::from_secs(600);
/// Most bytes of a result.
const MAX: usize = 256 << 10;
/// How far a relying party's clock may be behind the verifier's.
const SKEW: u64 = 60;

/// How far to believe one side of a device (draft-ietf-rats-ar4si, section 2.3): a tier's first value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "i8", try_from = "i8")]
pub enum Tier {
    /// Nothing was looked at.
    None,
    /// It holds.
    Affirming,
    /// It is not enough to rely on.
    Warning,
    /// It does not hold.
    Contraindicated,
}

impl From<Tier> for i8 {
    fn from(tier: Tier) -> i8 {
        match tier {
            Tier::None => 0,
            Tier::Affirming => 2,
            Tier::Warning => 32,
            Tier::Contraindicated => 96,
        }
    }
}

impl TryFrom<i8> for Tier {
    type Error = String;

    fn try_from(value: i8) -> Result<Self, String> {
        let all = [Self::None, Self::Affirming, Self::Warning, Self::Contraindicated];
        let found = all.into_iter().find(|tier| i8::from(*tier) == value);
        found.ok_or_else(|| format!("{value} is no tier of this verifier's"))
    }
}

/// The sides of a device of which this verifier says something. Files, storage and data it never sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vector {
    /// It is the device that it says: challenge, chain, signature, revocation.
    pub instance_identity: Tier,
    /// It is in a mode that protects.
    pub configuration: Tier,
    /// What it runs was measured and is known.
    pub executables: Tier,
    /// Its firmware is what its certificate was made for.
    pub hardware: Tier,
}

impl Vector {
    fn of(device: &Device) -> Self {
        let tier = |names: &[Name]| {
            let made = device.checks.iter().filter(|check| names.contains(&check.name));
            let oks: Vec<Option<bool>> = made.map(|check| check.ok).collect();
            if oks.contains(&Some(false)) {
                Tier::Contraindicated
            } else if device.simulated {
                Tier::Warning
            } else if oks.iter().all(Option::is_none) {
                Tier::None
            } else if oks.contains(&None) {
                Tier::Warning
            } else {
                Tier::Affirming
            }
        };
        Self {
            instance_identity: tier(&[Name::Nonce, Name::Chain, Name::Signature, Name::Revocation]),
            configuration: tier(&[Name::Mode]),
            executables: tier(&[Name::Measurements]),
            hardware: tier(&[Name::Fwid]),
        }
    }
}

/// What is said of one device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submodule {
    /// As of the whole: one refused device is enough to refuse all.
    #[serde(rename = "ear.status")]
    pub status: Verdict,
    /// Side by side.
    #[serde(rename = "ear.trustworthiness-vector")]
    pub vector: Vector,
    /// The policy.
    #[serde(rename = "ear.appraisal-policy-id")]
    pub policy: String,
    /// Its architecture.
    #[serde(rename = "privet.arch", skip_serializing_if = "Option::is_none", default)]
    pub arch: Option<String>,
    /// Its model.
    #[serde(rename = "privet.hwmodel", skip_serializing_if = "Option::is_none", default)]
    pub hwmodel: Option<String>,
    /// Its own name.
    #[serde(rename = "privet.ueid", skip_serializing_if = "Option::is_none", default)]
    pub ueid: Option<String>,
    /// Whether it is a device in software.
    #[serde(rename = "privet.simulated")]
    pub simulated: bool,
}

/// Who says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifierId {
    /// Whose software.
    pub developer: String,
    /// Which version.
    pub build: String,
}

/// A result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Of what form it is.
    pub eat_profile: String,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// Until when it is good.
    pub exp: u64,
    /// The challenge that the evidence answered.
    pub eat_nonce: Hex<32>,
    /// Who says it.
    #[serde(rename = "ear.verifier-id")]
    pub verifier: VerifierId,
    /// How far to believe all of it.
    #[serde(rename = "privet.verdict")]
    pub verdict: Verdict,
    /// Digest of the policy.
    #[serde(rename = "privet.policy-sha256")]
    pub policy: Hex<32>,
    /// SHA-256 of the evidence.
    #[serde(rename = "privet.evidence-sha256")]
    pub evidence: Hex<32>,
    /// All reasons for which it was refused.
    #[serde(rename = "privet.refusals")]
    pub refusals: Vec<String>,
    /// Device by device, by kind of device and its place.
    pub submods: BTreeMap<String, Submodule>,
}

impl Claims {
    /// What an appraisal comes to. A `lifetime` beyond [`LIFETIME`] is cut to it.
    pub fn new(
        appraisal: &Appraisal,
        challenge: [u8; 32],
        policy: Digest,
        evidence: Digest,
        now: SystemTime,
        lifetime: Duration,
    ) -> Self {
        let named = |(place, device): (usize, &Device)| {
            let kind = device.arch.as_deref().unwrap_or("device");
            let submodule = Submodule {
                status: appraisal.verdict,
                vector: Vector::of(device),
                policy: format!("sha-256:{}", policy.hex()),
                arch: device.arch.clone(),
                hwmodel: device.hwmodel.clone(),
                ueid: device.ueid.clone(),
                simulated: device.simulated,
            };
            (format!("{kind}-{place}"), submodule)
        };
        let iat = seconds(now);
        let (developer, build) =
            ("privet".into(), concat!("cc-attest ", env!("CARGO_PKG_VERSION")).into());
        Self {
            eat_profile: PROFILE.into(),
            iat,
            exp: iat.saturating_add(lifetime.min(LIFETIME).as_secs()),
            eat_nonce: Hex(challenge),
            verifier: VerifierId { developer, build },
            verdict: appraisal.verdict,
            policy: Hex(policy.0),
            evidence: Hex(evidence.0),
            refusals: appraisal
                .refusals
                .iter()
                .map(|refusal| refusal.code.as_str().into())
                .collect(),
            submods: appraisal.devices.iter().enumerate().map(named).collect(),
        }
    }

    /// Signs it.
    ///
    /// # Errors
    /// When the key is none.
    pub fn sign(&self, key: &SigningKey) -> Result<String, Refusal> {
        let failed = || Refusal::new(Code::Malformed, "the result could not be signed");
        let pair = Ed25519KeyPair::from_seed_and_public_key(&*key.secret(), &key.public().0)
            .map_err(|_| failed())?;
        let claims = serde_json::to_vec(self).map_err(|_| failed())?;
        let header = serde_json::json!({"alg": ALGORITHM, "kid": kid(&key.public()), "typ": "JWT"});
        let signed =
            format!("{}.{}", to_base64url(header.to_string().as_bytes()), to_base64url(&claims));
        let signature = pair.sign(signed.as_bytes());
        Ok(format!("{signed}.{}", to_base64url(signature.as_ref())))
    }

    /// Reads a result of a known verifier, for the challenge that was posed.
    ///
    /// # Errors
    /// When it is not signed by that verifier, not for this challenge, outside its dates, or good for longer
    /// than a result may be.
    pub fn verify(
        token: &str,
        verifier: &PublicKey,
        challenge: &[u8; 32],
        now: SystemTime,
    ) -> Result<Self, Refusal> {
        let refusal = |code, detail: String| Err(Refusal::new(code, detail));
        let jws = Jws::parse(token, MAX)?;
        let (alg, signer) = (jws.header.alg.as_str(), jws.header.kid.as_deref());
        if alg != ALGORITHM || jws.header.typ.as_deref() != Some("JWT") {
            return refusal(
                Code::SignatureInvalid,
                format!("the result is signed by `{alg}`, wanted {ALGORITHM}"),
            );
        }
        if signer != Some(&kid(verifier)) {
            return refusal(
                Code::ChainUntrusted,
                "the result is signed by another verifier".into(),
            );
        }
        let key = UnparsedPublicKey::new(&ED25519, verifier.0);
        if key.verify(jws.signed, &jws.signature).is_err() {
            return refusal(
                Code::SignatureInvalid,
                "the result is not signed by its verifier".into(),
            );
        }
        let claims: Self = json::read(&jws.payload, MAX, "a result")?;
        if claims.eat_profile != PROFILE {
            return refusal(
                Code::Malformed,
                format!("a result of profile `{:.60}`", claims.eat_profile),
            );
        }
        if claims.eat_nonce.0 != *challenge {
            return refusal(Code::NonceMismatch, "the result is for another challenge".into());
        }
        let now = seconds(now);
        let long = claims.exp.saturating_sub(claims.iat) > LIFETIME.as_secs();
        if claims.iat > now.saturating_add(SKEW) || claims.exp <= now || long {
            let (from, to, now) = (date(claims.iat), date(claims.exp), date(now));
            let detail = format!("the result is good from {from} to {to}; it is {now}");
            return refusal(Code::CertExpired, detail);
        }
        Ok(claims)
    }
}

/// How a verifier's key is named: by the digest of it.
fn kid(key: &PublicKey) -> String {
    Digest::of(&key.0).hex()
}

#[cfg(test)]
mod tests {
    use privet_crypto::Seed;
    use serde_json::{Value, json};

    use super::*;
    use crate::appraisal::{Check, Kind};
    use crate::encoding::from_base64url;
    use crate::time::at;

    fn key() -> SigningKey {
        SigningKey::from_seed(&Seed::from_bytes([7; 32]))
    }

    fn now() -> SystemTime {
        at("2026-01-01T00:00:00Z")
    }

    fn appraisal() -> Appraisal {
        let check = |name, ok| Check { name, ok, detail: String::new() };
        let checks = vec![
            check(Name::Nonce, Some(true)),
            check(Name::Chain, Some(true)),
            check(Name::Signature, Some(true)),
            check(Name::Fwid, Some(false)),
            check(Name::Measurements, None),
            check(Name::Revocation, None),
            check(Name::Mode, Some(true)),
        ];
        let device = Device {
            arch: Some("milan".into()),
            hwmodel: None,
            driver: None,
            vbios: None,
            ueid: Some("ab".into()),
            checks,
            simulated: false,
        };
        Appraisal {
            verdict: Verdict::Contraindicated,
            kind: Some(Kind::Snp),
            devices: vec![device.clone(), Device { simulated: true, ..device }],
            refusals: vec![Refusal::new(Code::FwidMismatch, "")],
        }
    }

    fn claims(lifetime: u64) -> Claims {
        let (policy, evidence) = (Digest([2; 32]), Digest::of(b"evidence"));
        Claims::new(&appraisal(), [1; 32], policy, evidence, now(), Duration::from_secs(lifetime))
    }

    fn verify(token: &str, now: SystemTime) -> Result<Claims, Code> {
        Claims::verify(token, &key().public(), &[1; 32], now).map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_result_comes_back() {
        let claims = claims(300);
        let token = claims.sign(&key()).unwrap();
        assert_eq!(verify(&token, now()), Ok(claims.clone()));
        assert_eq!(claims.exp - claims.iat, 300);
        let json = serde_json::to_value(&claims).unwrap();
        assert_eq!(json["submods"]["milan-0"]["ear.status"], "contraindicated");
        let vector = &json["submods"]["milan-0"]["ear.trustworthiness-vector"];
        let expected =
            json!({"instance-identity": 32, "configuration": 2, "executables": 0, "hardware": 96});
        assert_eq!(*vector, expected);
        let simulated = &json["submods"]["milan-1"];
        assert_eq!(simulated["privet.simulated"], true);
        assert_eq!(simulated["ear.trustworthiness-vector"]["configuration"], 32);
        assert_eq!(json["privet.refusals"], json!(["FwidMismatch"]));
    }

    #[test]
    fn no_result_is_good_for_more_than_ten_minutes() {
        let token = claims(3600).sign(&key()).unwrap();
        assert!(verify(&token, at("2026-01-01T00:09:59Z")).is_ok());
        assert_eq!(verify(&token, at("2026-01-01T00:10:00Z")), Err(Code::CertExpired));
        assert_eq!(verify(&token, at("2025-12-31T23:58:00Z")), Err(Code::CertExpired));
        // One that a verifier made good for longer all the same.
        let long = Claims { exp: claims(600).exp + 1, ..claims(600) }.sign(&key()).unwrap();
        assert_eq!(verify(&long, now()), Err(Code::CertExpired));
    }

    #[test]
    fn a_result_of_another_verifier_or_for_another_challenge_is_refused() {
        let other = SigningKey::from_seed(&Seed::from_bytes([8; 32]));
        assert_eq!(verify(&claims(60).sign(&other).unwrap(), now()), Err(Code::ChainUntrusted));
        let nonce = Claims { eat_nonce: Hex([2; 32]), ..claims(60) }.sign(&key()).unwrap();
        assert_eq!(verify(&nonce, now()), Err(Code::NonceMismatch));
        let profile = Claims { eat_profile: "other".into(), ..claims(60) }.sign(&key()).unwrap();
        assert_eq!(verify(&profile, now()), Err(Code::Malformed));
    }

    /// Signs a header and claims of the test's own.
    fn forged(header: &Value, claims: &Value) -> String {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
        let part = |value: &Value| to_base64url(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        format!("{signed}.{}", to_base64url(pair.sign(signed.as_bytes()).as_ref()))
    }

    #[test]
    fn headers_and_claims_are_read_strictly() {
        let claims = serde_json::to_value(claims(60)).unwrap();
        let header = json!({"alg": "EdDSA", "kid": kid(&key().public()), "typ": "JWT"});
        let code =
            |header: &Value, claims: &Value| verify(&forged(header, claims), now()).map(|_| ());
        assert_eq!(code(&header, &claims), Ok(()));
        let with = |member: &str, value: Value| {
            let mut header = header.clone();
            header[member] = value;
            code(&header, &claims)
        };
        assert_eq!(with("alg", "none".into()), Err(Code::SignatureInvalid));
        assert_eq!(with("alg", "HS256".into()), Err(Code::SignatureInvalid));
        assert_eq!(with("typ", "JOSE".into()), Err(Code::SignatureInvalid));
        assert_eq!(with("kid", "".into()), Err(Code::ChainUntrusted));
        let claim = |member: &str, value: Value| {
            let mut claims = claims.clone();
            claims[member] = value;
            code(&header, &claims)
        };
        assert_eq!(claim("exp", "later".into()), Err(Code::Malformed));
        assert_eq!(claim("more", 1.into()), Err(Code::Malformed));
        assert_eq!(claim("privet.verdict", "fine".into()), Err(Code::Malformed));
    }

    #[test]
    fn every_flipped_bit_of_a_result_is_refused() {
        let token = claims(60).sign(&key()).unwrap();
        for bit in (0..8 * token.len()).step_by(5) {
            let mut bytes = token.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(text) = String::from_utf8(bytes) {
                assert!(verify(&text, now()).is_err(), "bit {bit}");
            }
        }
        assert_eq!(from_base64url(token.rsplit('.').next().unwrap()).unwrap().len(), 64);
    }
}
