//! Bytes of nobody's to the two sides of a sealing session: a frame, the session of a task, a hello, a group's
//! secret.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use privet_core::Reason;
use privet_core::channel::Channel;
use privet_core::seal::{Certified, Scheme, ServerSeal, SiteSeal, Terms, Vouching};
use privet_core::sensitivity::Step;
use privet_core::tensor::Schema;
use privet_crypto::{Seed, SigningKey};
use privet_he::server::Server;
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
    let verify = bytes.first().is_some_and(|byte| byte % 2 == 1);
    let terms = Terms {
        scheme: Scheme::Threshold,
        min_sites: 3,
        colluders: 1,
        most: 1,
        step,
        noise: 0,
        shares: false,
        exact: true,
        verify,
        weight_bits: None,
        stable: false,
        sessions: 100,
        pins: None,
    };
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
    let Ok(store) = Store::in_memory() else { return };
    let mut server = Server::new("run".into(), Arc::new(Credulous), store);
    let sites = ["a", "b", "c"].map(String::from).into();
    let _ = server.greet(&sites, &mut Echo(bytes, Vec::new()));
});

/// Answers everything with the same bytes.
struct Echo<'a>(&'a [u8], Vec<String>);

impl Channel for Echo<'_> {
    fn send(&mut self, to: &str, _: Vec<u8>) {
        self.1.push(to.to_owned());
    }

    fn receive(&mut self) -> Option<(String, Vec<u8>)> {
        self.1.pop().map(|from| (from, self.0.to_vec()))
    }
}
