//! Doors for fuzzing, in builds for it alone: bytes of nobody's as what a peer sends.

use privet_core::channel::{Link, MAX_FRAME};
use privet_core::intersect::{Protocol, Reveal};
use privet_core::{Code, Reason};
use privet_crypto::Digest;

use crate::flags::Flags;
use crate::records::Item;
use crate::scratch::Scratch;
use crate::tags::{self, Shape};
use crate::terms::{Hello, Terms, Unguarded};
use crate::vole::params::Assurance;
use crate::{Site, intersect};

/// Every decoder, each on its own.
pub fn decode_all(bytes: &[u8]) {
    let _ = Hello::decode(bytes);
    if let [count, bits, rest @ ..] = bytes {
        let shape = Shape { count: u64::from(*count), bits: u32::from(*bits) % 121 + 8 };
        if let Ok(tags) = tags::decode(&shape, rest) {
            assert!(tags::encode(&shape, tags.into_iter()) == rest, "two forms of the same tags");
        }
        let _ = Flags::from_bytes(rest.to_vec(), u64::from(*count));
    }
}

/// A peer that answers a site's own greeting with it, and then says these bytes.
struct Echo {
    greeting: Vec<u8>,
    frames: usize,
    bytes: Vec<u8>,
    at: usize,
}

impl Link for Echo {
    fn send(&mut self, frame: Vec<u8>) -> Result<(), Reason> {
        // Hello, nonce and verdict are what a peer with the same terms would say, so that more than the first
        // message is reached; the nonce of another place does not open, unless it is changed.
        if self.frames < 3 {
            self.greeting.extend(frame);
        }
        self.frames += 1;
        Ok(())
    }

    fn receive(&mut self) -> Result<Vec<u8>, Reason> {
        if !self.greeting.is_empty() {
            return Ok(std::mem::take(&mut self.greeting));
        }
        let rest = &self.bytes[self.at..];
        if rest.is_empty() {
            return Err(Reason::new(Code::TooFewSites, "gone"));
        }
        let frame = rest[..rest.len().min(MAX_FRAME)].to_vec();
        self.at += frame.len();
        Ok(frame)
    }
}

/// A run against a peer that says these bytes; the first of them picks the terms.
pub fn meet(bytes: &[u8]) {
    let Some((pick, rest)) = bytes.split_first() else { return };
    let digest = Digest([0; 32]);
    let terms = Terms {
        about: digest,
        normalisation: digest,
        protocol: if pick & 1 == 0 { Protocol::Ecdh } else { Protocol::Vole },
        reveal: [Reveal::All, Reveal::First, Reveal::Size][usize::from(pick >> 1) % 3],
        malicious: pick & 64 != 0,
        assurance: Assurance::Standard,
    };
    let items: Vec<Item> = (0..3u8).map(|i| [i; 32]).collect();
    let me = usize::from(pick >> 7);
    let link = Echo { greeting: Vec::new(), frames: 0, bytes: rest.to_vec(), at: 0 };
    let mut links: Vec<Option<Box<dyn Link>>> = vec![None, None];
    links[1 - me] = Some(Box::new(link));
    let scratch = Scratch::new(&std::env::temp_dir(), 1 << 10);
    let (items, guard) = (&items[..], &mut Unguarded);
    let _ = intersect(
        &terms,
        Site { me, items: &items, scratch, declared: 0, links, guard, prover: None },
    );
}
