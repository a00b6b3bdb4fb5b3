//! Bytes of nobody's as a file of reference values, and as what one signs.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // There in builds for fuzzing alone.
    #[cfg(fuzzing)]
    privet_cc_attest::fuzzing::rim(bytes);
    let _ = bytes;
});
