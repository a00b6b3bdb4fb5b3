//! A whole message, as a site reads it from a server: the first byte splits head from body.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&at, rest)) = bytes.split_first() else { return };
    let (head, body) = rest.split_at(rest.len() * usize::from(at) / 255);
    let _ = privet_gate::Arrived::new(head, body);
});
