//! The head of an upload, as a server reads it from a site.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = privet_gate::Head::decode(bytes);
});
