//! Bytes of nobody's as each message of an intersection.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // There in builds for fuzzing alone.
    #[cfg(fuzzing)]
    privet_psi::fuzzing::decode_all(bytes);
    let _ = bytes;
});
