//! Bytes of nobody's as the report of a GPU or a switch.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // There in builds for fuzzing alone.
    #[cfg(fuzzing)]
    privet_cc_attest::fuzzing::bundle(bytes);
    let _ = bytes;
});
