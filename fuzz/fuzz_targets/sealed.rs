//! Bytes of nobody's to a site in a sealing session: a frame, or the session of a task.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use privet_core::Reason;
use privet_core::seal::{Certified, SiteSeal, Terms, Vouching};
use privet_core::sensitivity::Step;
use privet_core::tensor::Schema;
use privet_crypto::{Seed, SigningKey};
use privet_he::site::{Identity, Site};
use privet_store::Store;

/// Believes any credential, so that what is behind it is reached.
struct Credulous;

impl Vouching for Credulous {
    fn certified(&self, credential: &[u8]) -> Result<Certified, Reason> {
        let mut signing = [0; 32];
        signing.iter_mut().zip(credential).for_each(|(byte, &given)| *byte = given);
        Ok(Certified { name: String::from_utf8_lossy(credential).into(), key: [0; 32], signing })
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(step) = Step::new(12) else { return };
    let terms = Terms { min_sites: 3, colluders: 1, most: 1, noise: 0, step, pins: None };
    let signer = SigningKey::from_seed(&Seed::from_bytes([7; 32]));
    let identity = Identity { credential: vec![1], signer };
    let Ok(store) = Store::in_memory() else { return };
    let Ok(mut site) = Site::new("run".into(), terms, identity, Arc::new(Credulous), store) else {
        return;
    };
    let _ = site.frame(bytes);
    let greeting = [&[1u8, 3, 0, 0, 0][..], b"run", &1u64.to_le_bytes()].concat();
    let _ = site.frame(&greeting);
    let _ = site.begin([0; 32], bytes, &Schema::default());
});
