//! Key-additive RLWE: each update under a key of its own, whose shares go to the peers.
//!
//! ```text
//!   site    s ──Shamir──▶ a share a peer     b = a·s + e + Δ·m
//!   server  Σ b, and t sums of shares ──▶ Σ s ──▶ Σ m
//! ```

use privet_core::{Code, Reason};
use privet_crypto::{Digest, Seed, Transcript, Words};
use zeroize::Zeroizing;

use super::{Opened, Opening, Scheme, Sealed, Sealing, Sum};
use crate::coding::params::MAX_VALUES;
use crate::coding::{Decoder, Encoding, Header, Layout, LayoutError, Precision};
use crate::mac::MacKey;
use crate::protocol::party::Party;
use crate::rlwe::block::add_into;
use crate::rlwe::{Key, KeySum, Opener, Ring, RingError, Sealer, Set};
use crate::shamir::{ShamirError, Share, deal, reconstruct};

pub(crate) struct Threshold {
    pub(crate) layout: Layout,
    threshold: u32,
    /// Places of the roster.
    places: u32,
}

fn failed(error: impl std::fmt::Display) -> Reason {
    Reason::new(Code::FilterFailed, error.to_string())
}

fn precision(exact: bool) -> Precision {
    if exact { Precision::Exact } else { Precision::Approximate }
}

pub(super) fn largest(exact: bool, sites: u32) -> u64 {
    let finest = Encoding::finest(Set::Wide, precision(exact), sites, MAX_VALUES);
    finest.map_or(0, |encoding| encoding.most())
}

impl Threshold {
    pub(crate) fn new(party: &Party, values: u64) -> Result<Self, Reason> {
        let overflow = |detail: String| Reason::new(Code::Overflow, detail);
        let sites = party.members.len() as u32;
        let encoding =
            Encoding::cheapest(precision(party.common.exact), party.most(), sites, values)
                .map_err(|error| overflow(error.to_string()))?;
        let layout = Layout::new(encoding, party.needs_group())
            .map_err(|error| overflow(error.to_string()))?;
        Ok(Self { layout, threshold: party.threshold, places: party.roster.len() })
    }

    pub(crate) fn set(&self) -> Set {
        self.layout.encoding().set()
    }

    fn header(&self, sealing: &Sealing<'_>) -> Result<Header, LayoutError> {
        match sealing.group {
            Some(group) => {
                let key = MacKey::new(group, sealing.context);
                self.layout.tagged_header(sealing.weight, sealing.values, &key, sealing.index)
            }
            None => self.layout.header(sealing.weight),
        }
    }

    /// Seals all values, block by block.
    fn body(&self, ring: &Ring, sealing: &Sealing<'_>, key: Key) -> Result<Vec<u32>, Reason> {
        let (set, layout) = (ring.set(), &self.layout);
        let header = self.header(sealing).map_err(failed)?;
        let errors = sealing.seed.derive("privet/he/errors/v1", 0);
        let mut sealer = Sealer::new(ring, &sealing.context.0, key, errors);
        let mut messages = Zeroizing::new(vec![0i64; set.degree()]);
        let mut words = vec![0u32; self.words()];
        for (block, out) in (0..).zip(words.chunks_exact_mut(set.block())) {
            let part = sealing.values.get(layout.range(block)).unwrap_or_default();
            layout.encode(block, &header, part, &mut messages).map_err(failed)?;
            sealer.seal(&messages, out).map_err(failed)?;
        }
        if cfg!(target_endian = "big") {
            words.iter_mut().for_each(|word| *word = word.to_le());
        }
        Ok(words)
    }
}

impl Scheme for Threshold {
    fn bind(&self, transcript: Transcript) -> Transcript {
        self.layout.encoding().bind(transcript).number(self.layout.authenticated().into())
    }

    fn words(&self) -> usize {
        self.layout.blocks() as usize * self.set().block()
    }

    fn dealt_bytes(&self) -> usize {
        Share::encoded_len(self.set().degree())
    }

    fn seal(&self, sealing: &Sealing<'_>) -> Result<Sealed, Reason> {
        let words = |seed: &Seed, purpose| Words::new(&seed.derive(purpose, 0));
        let ring = Ring::new(self.set());
        let key = Key::sample(&ring, &mut words(sealing.seed, "privet/he/key/v1"));
        let mut coins = words(sealing.seed, "privet/he/coefficients/v1");
        let (threshold, places) = (self.threshold as usize, self.places as usize);
        let shares = deal(key.coefficients(), threshold, places, &mut coins).map_err(failed)?;
        let dealt = shares.iter().map(Share::encode).collect();
        Ok(Sealed { words: self.body(&ring, sealing, key)?, dealt })
    }

    fn answer(&self, dealt: &[Zeroizing<Vec<u8>>]) -> Result<Vec<u8>, usize> {
        let mut sum: Option<Share> = None;
        for (at, bytes) in dealt.iter().enumerate() {
            let share = Share::decode(bytes, self.set().degree()).map_err(|_| at)?;
            match &mut sum {
                None => sum = Some(share),
                Some(sum) => sum.add(&share).map_err(|_| at)?,
            }
        }
        Ok(sum.map(|sum| sum.encode().to_vec()).unwrap_or_default())
    }

    fn sum(&self, context: &Digest) -> Result<Box<dyn Sum>, Reason> {
        Ok(Box::new(SealedSum {
            ring: Ring::new(self.set()),
            layout: self.layout,
            threshold: self.threshold,
            context: *context,
            words: vec![0; self.words()],
            uploads: 0,
        }))
    }
}

/// Blocks that are opened by all processors before they are read.
const AT_ONCE: usize = 64;

/// One accumulator, whatever the number of sites.
struct SealedSum {
    ring: Ring,
    layout: Layout,
    threshold: u32,
    context: Digest,
    words: Vec<u32>,
    uploads: u32,
}

impl SealedSum {
    fn open_with(&self, points: &[(u32, Share)]) -> Result<Opened, Reason> {
        let keys = reconstruct(points, self.threshold as usize, self.uploads).map_err(|error| {
            let code = match error {
                ShamirError::TooFew => Code::TooFewSites,
                _ => Code::SharesInconsistent,
            };
            Reason::new(code, error.to_string())
        })?;
        let unreadable = |error: LayoutError| {
            let code = match error {
                LayoutError::CountMismatch | LayoutError::VersionMismatch => Code::CountMismatch,
                LayoutError::PadsNonzero => Code::PadsNonzero,
                _ => Code::SumOutOfRange,
            };
            Reason::new(code, error.to_string())
        };
        let wrong = |error: RingError| Reason::new(Code::SharesInconsistent, error.to_string());
        let key = KeySum::new(&self.ring, self.uploads, &keys).map_err(wrong)?;
        let opener = Opener::new(&self.ring, &self.context.0, key);
        let mut decoder = Decoder::new(self.layout, self.uploads).map_err(unreadable)?;
        let (degree, block) = (self.ring.set().degree(), self.ring.set().block());
        let mut opened = vec![0i64; AT_ONCE * degree];
        let mut sums = Vec::with_capacity(self.layout.encoding().values() as usize);
        let parts = self.words.chunks(AT_ONCE * block);
        for (first, sealed) in (0..).step_by(AT_ONCE).zip(parts) {
            let opened = &mut opened[..sealed.len() / block * degree];
            opener.par_open(first, sealed, opened).map_err(wrong)?;
            let mut blocks = opened.chunks(degree);
            blocks.try_for_each(|one| decoder.block(one, &mut sums)).map_err(unreadable)?;
        }
        Ok((decoder.finish().map_err(unreadable)?, Zeroizing::new(sums)))
    }
}

impl Sum for SealedSum {
    fn add(&mut self, words: &mut [u32]) -> Result<(), Reason> {
        if cfg!(target_endian = "big") {
            words.iter_mut().for_each(|word| *word = u32::from_le(*word));
        }
        let malformed = |error: RingError| Reason::new(Code::Malformed, error.to_string());
        add_into(&self.ring, &mut self.words, words).map_err(malformed)?;
        self.uploads += 1;
        Ok(())
    }

    /// Should the answers not fit together, each is left out in turn: the zeros at the end of the sum tell
    /// whether the others were right. Nobody is named: it could be a dealer's fault.
    fn open(&mut self, help: &[(u32, Vec<u8>)]) -> Result<Opening, Reason> {
        let degree = self.ring.set().degree();
        let point =
            |(index, bytes): &(u32, Vec<u8>)| Some((index + 1, Share::decode(bytes, degree).ok()?));
        let mut points: Vec<(u32, Share)> = help.iter().filter_map(point).collect();
        let whole = self.open_with(&points);
        let wrong = |result: &Result<_, Reason>| {
            result.as_ref().is_err_and(|reason| reason.code == Code::SharesInconsistent)
        };
        if !wrong(&whole) || points.len() as u32 <= self.threshold {
            return whole.map(Opening::Done);
        }
        for _ in 0..points.len() {
            let left_out = points.remove(0);
            if let Ok(opened) = self.open_with(&points) {
                return Ok(Opening::Done(opened));
            }
            points.push(left_out);
        }
        whole.map(Opening::Done)
    }
}
