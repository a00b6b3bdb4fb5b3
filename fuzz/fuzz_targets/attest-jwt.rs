//! A token of NVIDIA's service, a set of keys, and a result of another verifier.
#![no_main]

use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use privet_cc_attest::ear::Claims;
use privet_cc_attest::nras::{self, Keys};
use privet_cc_attest::policy::NrasRules;
use privet_crypto::PublicKey;

const JWKS: &[u8] =
    include_bytes!("../../cc-attest/tests/evidence/nvidia/nras/recovered_jwks.json");

fuzz_target!(|bytes: &[u8]| {
    let now = SystemTime::UNIX_EPOCH;
    let Ok(keys) = Keys::from_jwks(JWKS) else { return };
    let (_, refusals) = nras::verify(bytes, &keys, &[0; 32], &NrasRules::default(), now);
    assert!(!refusals.is_empty());
    let _ = Keys::from_jwks(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(Claims::verify(text, &PublicKey([1; 32]), &[0; 32], now).is_err());
    }
});
