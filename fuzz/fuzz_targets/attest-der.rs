//! Bytes of nobody's as certificates, and as the extension that names firmware.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // There in builds for fuzzing alone.
    #[cfg(fuzzing)]
    privet_cc_attest::fuzzing::der(bytes);
    let _ = bytes;
});
