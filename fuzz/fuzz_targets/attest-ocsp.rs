//! A revocation list or an OCSP response.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = privet_cc_attest::revocation::Lists::default().add(bytes);
    // There in builds for fuzzing alone.
    #[cfg(fuzzing)]
    privet_cc_attest::revocation::decode_all(bytes);
});
