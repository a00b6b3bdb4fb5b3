use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use super::*;
use crate::encoding::to_base64url;
use crate::time::at;

const GENUINE: &[u8] = include_bytes!("../../tests/evidence/nvidia/nras/gpu_detached_eat.json");
/// Recovered from the signatures of genuine tokens: for tests alone, never to be trusted.
const RECOVERED: &[u8] = include_bytes!("../../tests/evidence/nvidia/nras/recovered_jwks.json");
const NONCE: &str = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb";

fn when() -> SystemTime {
    at("2025-06-11T01:00:00Z")
}

fn codes(refusals: &[Refusal]) -> Vec<Code> {
    refusals.iter().map(|refusal| refusal.code).collect()
}

fn look(evidence: &[u8], keys: &Keys, now: SystemTime) -> (Vec<Device>, Vec<Refusal>) {
    verify(evidence, keys, &unhex(NONCE).unwrap(), &NrasRules::default(), now)
}

#[test]
fn a_genuine_token_passes_under_its_recovered_key() {
    let keys = Keys::from_jwks(RECOVERED).unwrap();
    let (devices, refusals) = look(GENUINE, &keys, when());
    assert_eq!(refusals, []);
    let [device] = &devices[..] else { panic!("one device") };
    assert_eq!(device.arch.as_deref(), Some("hopper"));
    assert_eq!(device.hwmodel.as_deref(), Some("GH100 A01 GSP BROM"));
    assert_eq!(device.driver.as_deref(), Some("550.90.07"));
    assert_eq!(device.vbios.as_deref(), Some("96.00.9F.00.01"));
    assert!(Name::ALL.into_iter().all(|name| device.holds(name)));
}

#[test]
fn a_genuine_token_is_good_for_an_hour() {
    let keys = Keys::from_jwks(RECOVERED).unwrap();
    let after = |now| codes(&look(GENUINE, &keys, at(now)).1);
    assert_eq!(after("2025-06-11T00:30:00Z"), []);
    assert_eq!(after("2025-06-11T01:30:57Z"), []);
    assert_eq!(after("2025-06-11T01:30:58Z"), [Code::CertExpired; 2]);
    assert_eq!(after("2025-06-11T00:29:00Z"), [Code::CertExpired; 2]);
}

#[test]
fn some_flipped_bits_of_a_genuine_token_are_refused() {
    let keys = Keys::from_jwks(RECOVERED).unwrap();
    let mut bytes = GENUINE.to_vec();
    for bit in (0..8 * bytes.len()).step_by(97) {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!look(&bytes, &keys, when()).1.is_empty(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

/// A service of the test's own.
struct Service {
    key: EcdsaKeyPair,
    random: SystemRandom,
}

impl Service {
    fn new() -> Self {
        let random = SystemRandom::new();
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &random).unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, pkcs8.as_ref(), &random)
                .unwrap();
        Self { key, random }
    }

    fn jwk(&self, kid: &str) -> Value {
        let point = self.key.public_key().as_ref();
        let (x, y) = (to_base64url(&point[1..49]), to_base64url(&point[49..]));
        json!({"kty": "EC", "crv": "P-384", "alg": "ES384", "use": "sig", "kid": kid, "x": x, "y": y})
    }

    fn keys(&self) -> Keys {
        let jwks =
            json!({"keys": [self.jwk("test"), self.jwk("other"), {"kty": "RSA", "n": "AQAB"}]});
        Keys::from_jwks(jwks.to_string().as_bytes()).unwrap()
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| to_base64url(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&self.random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", to_base64url(signature.as_ref()))
    }
}

/// What an answer is made of; tests change one thing.
struct Answer {
    overall_header: Value,
    overall: Value,
    header: Value,
    claims: Value,
    name: &'static str,
}

impl Answer {
    fn new() -> Self {
        let genuine: Value = serde_json::from_slice(GENUINE).unwrap();
        let claims = |token: &Value| -> Value {
            let payload = token.as_str().unwrap().split('.').nth(1).unwrap();
            serde_json::from_slice(&from_base64url(payload).unwrap()).unwrap()
        };
        let header = json!({"alg": "ES384", "kid": "test"});
        Self {
            overall_header: header.clone(),
            overall: claims(&genuine[0][1]),
            header,
            claims: claims(&genuine[1]["GPU-0"]),
            name: "GPU-0",
        }
    }

    /// Signs it, with the digest that belongs to it.
    fn signed(mut self, service: &Service) -> Vec<u8> {
        let token = service.sign(&self.header, &self.claims);
        let sum = hex(digest(&SHA256, token.as_bytes()).as_ref());
        if self.overall["submods"] != json!("kept") {
            self.overall["submods"] = json!({self.name: ["DIGEST", ["SHA-256", sum]]});
        }
        let overall = service.sign(&self.overall_header, &self.overall);
        json!([["JWT", overall], {self.name: token}]).to_string().into_bytes()
    }
}

/// What comes of a changed answer.
fn after(change: impl FnOnce(&mut Answer)) -> Vec<Code> {
    let service = Service::new();
    let mut answer = Answer::new();
    change(&mut answer);
    codes(&look(&answer.signed(&service), &service.keys(), when()).1)
}

#[test]
fn an_unchanged_answer_of_the_tests_own_service_passes() {
    assert_eq!(after(|_| {}), []);
}

#[test]
fn only_es384_is_good() {
    for alg in ["none", "HS256", "ES256", "ES512", "RS256", "es384", ""] {
        assert_eq!(
            after(|a| a.overall_header["alg"] = alg.into()),
            [Code::SignatureInvalid],
            "{alg}"
        );
        assert_eq!(after(|a| a.header["alg"] = alg.into()), [Code::SignatureInvalid], "{alg}");
    }
    // A token without a signature, which says so.
    let service = Service::new();
    let evidence = String::from_utf8(Answer::new().signed(&service)).unwrap();
    let none = to_base64url(br#"{"alg":"none","kid":"test"}"#);
    let payload = evidence.split('.').nth(1).unwrap().to_owned();
    let forged =
        format!(r#"[["JWT","{none}.{payload}."],{}"#, evidence.split_once("],").unwrap().1);
    assert_eq!(
        codes(&look(forged.as_bytes(), &service.keys(), when()).1),
        [Code::SignatureInvalid]
    );
}

#[test]
fn keys_that_were_not_handed_in_are_refused() {
    assert_eq!(after(|a| a.overall_header["kid"] = "new".into())[0], Code::ChainUntrusted);
    assert_eq!(after(|a| a.header["kid"] = "new".into())[0], Code::ChainUntrusted);
    assert_eq!(after(|a| a.overall_header = json!({"alg": "ES384"}))[0], Code::ChainUntrusted);
    // Both known, and not one.
    assert_eq!(after(|a| a.header["kid"] = "other".into()), [Code::ChainUntrusted]);
    let (service, other) = (Service::new(), Service::new());
    let evidence = Answer::new().signed(&service);
    let (devices, refusals) = look(&evidence, &other.keys(), when());
    assert_eq!(codes(&refusals), [Code::SignatureInvalid; 2]);
    assert!(!devices[0].holds(Name::Signature));
    let (devices, refusals) = look(&evidence, &Keys::default(), when());
    assert_eq!(codes(&refusals), [Code::ChainUntrusted; 2]);
    assert!(!devices[0].holds(Name::Signature));
}

#[test]
fn the_issuer_must_be_the_wanted_one_exactly() {
    for issuer in [
        "https://nras.attestation-stg.nvidia.com",
        "https://nras.attestation.nvidia.com/",
        "https://NRAS.attestation.nvidia.com",
        "",
    ] {
        assert_eq!(after(|a| a.overall["iss"] = issuer.into()), [Code::ChainUntrusted], "{issuer}");
        assert_eq!(after(|a| a.claims["iss"] = issuer.into()), [Code::ChainUntrusted], "{issuer}");
    }
}

#[test]
fn dates_must_be_there_and_hold() {
    let late = 1_749_603_600 + 61;
    for (claim, value) in [
        ("iat", json!(late)),
        ("nbf", json!(late)),
        ("exp", json!(late - 61)),
        ("exp", Value::Null),
        ("iat", json!("1749601858")),
        ("nbf", json!(-1)),
    ] {
        assert_eq!(
            after(|a| a.overall[claim] = value.clone()),
            [Code::CertExpired],
            "{claim} {value}"
        );
        assert_eq!(
            after(|a| a.claims[claim] = value.clone()),
            [Code::CertExpired],
            "{claim} {value}"
        );
    }
}

#[test]
fn both_tokens_must_answer_the_challenge() {
    for nonce in ["00", "", &NONCE[..63], &"0".repeat(64)] {
        assert_eq!(
            after(|a| a.overall["eat_nonce"] = nonce.into()),
            [Code::NonceMismatch],
            "{nonce}"
        );
        assert_eq!(
            after(|a| a.claims["eat_nonce"] = nonce.into()),
            [Code::NonceMismatch],
            "{nonce}"
        );
    }
}

#[test]
fn each_token_must_be_the_one_that_the_overall_token_names() {
    let service = Service::new();
    let evidence = |submods: Value| {
        let token = service.sign(&json!({"alg": "ES384", "kid": "test"}), &Answer::new().claims);
        let sum = hex(digest(&SHA256, token.as_bytes()).as_ref());
        let mut overall = Answer::new().overall;
        overall["submods"] = submods;
        let text = overall.to_string().replace("SUM", &sum);
        let overall: Value = serde_json::from_str(&text).unwrap();
        let overall = service.sign(&json!({"alg": "ES384", "kid": "test"}), &overall);
        let evidence = json!([["JWT", overall], {"GPU-0": token}]).to_string();
        codes(&look(evidence.as_bytes(), &service.keys(), when()).1)
    };
    let good = json!(["DIGEST", ["SHA-256", "SUM"]]);
    assert_eq!(evidence(json!({"GPU-0": good})), []);
    let other = "0".repeat(64);
    assert_eq!(
        evidence(json!({"GPU-0": ["DIGEST", ["SHA-256", other]]})),
        [Code::SignatureInvalid]
    );
    assert_eq!(evidence(json!({"GPU-0": good, "GPU-1": good})), [Code::SignatureInvalid]);
    assert_eq!(evidence(json!({})), [Code::SignatureInvalid]);
    for bad in [
        json!({"GPU-0": ["DIGEST", ["SHA-1", "SUM"]]}),
        json!({"GPU-0": ["JWT", ["SHA-256", "SUM"]]}),
        json!({"GPU-0": ["DIGEST", ["SHA-256", "00"]]}),
        json!({"GPU-0": "SUM"}),
        Value::Null,
    ] {
        assert_eq!(evidence(bad.clone()), [Code::Malformed], "{bad}");
    }
}

#[test]
fn the_overall_result_must_be_true() {
    for value in [json!(false), json!("true"), Value::Null] {
        assert_eq!(
            after(|a| a.overall["x-nvidia-overall-att-result"] = value.clone()),
            [Code::MeasurementMismatch]
        );
    }
}

#[test]
fn each_claim_of_a_device_is_held_against_policy() {
    let gpu = |claim: &str| format!("x-nvidia-gpu-{claim}");
    for (claim, code) in [
        ("attestation-report-nonce-match", Code::NonceMismatch),
        ("attestation-report-parsed", Code::Malformed),
        ("attestation-report-signature-verified", Code::SignatureInvalid),
        ("attestation-report-cert-chain-fwid-match", Code::FwidMismatch),
        ("arch-check", Code::UnsupportedArch),
        ("driver-rim-fetched", Code::RimMissing),
        ("driver-rim-schema-validated", Code::RimForeignContent),
        ("driver-rim-signature-verified", Code::RimSignature),
        ("driver-rim-version-match", Code::RimVersionMismatch),
        ("driver-rim-measurements-available", Code::RimMissing),
        ("vbios-rim-fetched", Code::RimMissing),
        ("vbios-rim-schema-validated", Code::RimForeignContent),
        ("vbios-rim-signature-verified", Code::RimSignature),
        ("vbios-rim-version-match", Code::RimVersionMismatch),
        ("vbios-rim-measurements-available", Code::RimMissing),
        ("vbios-index-no-conflict", Code::RimIndexConflict),
    ] {
        assert_eq!(after(|a| a.claims[gpu(claim)] = false.into()), [code], "{claim}");
        let absent = after(|a| {
            a.claims.as_object_mut().unwrap().remove(&gpu(claim)).unwrap();
        });
        let expected = if code == Code::FwidMismatch { Code::FwidAbsent } else { code };
        assert_eq!(absent, [expected], "{claim}");
    }
    assert_eq!(after(|a| a.claims["measres"] = "fail".into()), [Code::MeasurementMismatch]);
    assert_eq!(after(|a| a.claims["secboot"] = false.into()), [Code::DebugEnabled]);
    assert_eq!(after(|a| a.claims["dbgstat"] = "enabled".into()), [Code::DebugEnabled]);
    assert_eq!(after(|a| a.name = "NVSWITCH-0"), [Code::UnsupportedArch]);
}

#[test]
fn what_the_service_says_of_certificates_is_held_against_policy() {
    for (chain, invalid, expired) in [
        ("attestation-report-cert-chain", Code::ChainUntrusted, Code::CertExpired),
        ("driver-rim-cert-chain", Code::RimSignature, Code::RimExpired),
        ("vbios-rim-cert-chain", Code::RimSignature, Code::RimExpired),
    ] {
        let with = |claim: &str, value: &str, reason: &str| {
            after(|a| {
                let chain = &mut a.claims[format!("x-nvidia-gpu-{chain}")];
                chain[format!("x-nvidia-cert-{claim}")] = value.into();
                chain["x-nvidia-cert-revocation-reason"] = reason.into();
            })
        };
        assert_eq!(with("status", "invalid", ""), [invalid]);
        assert_eq!(with("status", "expired", ""), [expired]);
        assert_eq!(with("ocsp-status", "revoked", "keyCompromise"), [Code::CertRevoked]);
        assert_eq!(with("ocsp-status", "revoked", "certificateHold"), [Code::CertOnHold]);
        assert_eq!(with("ocsp-status", "unknown", ""), [Code::RevocationUnknown]);
    }
}

#[test]
fn what_is_no_answer_is_refused() {
    let keys = Keys::from_jwks(RECOVERED).unwrap();
    let code = |evidence: &[u8]| {
        let (devices, refusals) = look(evidence, &keys, when());
        assert_eq!(devices, []);
        codes(&refusals)
    };
    let genuine = std::str::from_utf8(GENUINE).unwrap().trim_end();
    for bad in [
        "",
        "[]",
        "{}",
        "[[\"JWT\",\"a.b.c\"],{}]",
        "[[\"JWT\",\"\"],{\"GPU-0\":\"\"}]",
        &genuine.replacen("JWT", "JWS", 1),
        &format!("{genuine}[]"),
        &genuine[..genuine.len() - 1],
        &genuine.replacen("]", ",1]", 1),
    ] {
        assert_eq!(code(bad.as_bytes()), [Code::Malformed], "{bad:.40}");
    }
    assert_eq!(code(&vec![b'['; MAX]), [Code::Malformed]);
    assert_eq!(code(&vec![b' '; MAX + 1]), [Code::TooLarge]);
}

#[test]
fn key_sets_are_read_strictly() {
    let service = Service::new();
    let code = |keys: Value| {
        let text = json!({"keys": keys}).to_string();
        Keys::from_jwks(text.as_bytes()).map(|keys| keys.0.len()).map_err(|refusal| refusal.code)
    };
    let mut point = service.jwk("a");
    point["x"] = "AAAA".into();
    assert_eq!(code(json!([point])), Err(Code::Malformed));
    assert_eq!(code(json!([service.jwk("a"), service.jwk("a")])), Err(Code::Malformed));
    for (member, value) in [("use", "enc"), ("alg", "ES256"), ("crv", "P-256"), ("kid", "")] {
        let mut other = service.jwk("a");
        other[member] = value.into();
        assert_eq!(code(json!([other])), Ok(0), "{member}");
    }
    assert!(Keys::from_jwks(b"[]").is_err());
}
