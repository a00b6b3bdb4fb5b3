//! A site that intersects with a peer of which every byte is anybody's.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // There in builds for fuzzing alone.
    #[cfg(fuzzing)]
    privet_psi::fuzzing::meet(bytes);
    let _ = bytes;
});
