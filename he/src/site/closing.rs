//! What a site does after its answer: it looks whether what was opened is what was sealed, or opens it.
//!
//! ```text
//!   Waiting ──agreed, with a header──▶ Checking ──pieces of the opened sum──▶ Done
//!      └─agreed─▶ Gathering ──pieces of the sealed sum──▶ Open ──read──▶ …
//! ```
//! A sum that this site opens leaves it only after its code was checked.

use privet_core::channel::MAX_FRAME;
use privet_core::seal::{Note, Reply};
use privet_core::{Code, Reason};
use privet_crypto::{Digest, Reader, Seed};
use zeroize::Zeroizing;

use super::Session;
use crate::coding::header::Check;
use crate::coding::{HeaderSum, LayoutError};
use crate::mac::MacKey;
use crate::protocol::closing::{Agreed, HEADER, Piece, encode_header};
use crate::protocol::party::Party;
use crate::protocol::{AGREED, OPENED, READ, TO_OPEN, malformed};
use crate::scheme::Scheme;

/// A round that was answered.
pub(super) struct Closing {
    party: Party,
    scheme: Box<dyn Scheme>,
    context: Digest,
    group: Option<Seed>,
    survivors: Digest,
    /// The survivors' places in the roster.
    places: Vec<u32>,
    /// Numbers of the sum.
    elements: u64,
    step: Step,
    /// The last frame and what was said to it, should it come again.
    last: Option<(Digest, Reply)>,
}

enum Step {
    Waiting,
    Checking { check: Box<Check>, taken: u64 },
    Gathering(Vec<u8>),
    Open(Zeroizing<Vec<u8>>),
    Done,
}

fn wrong(detail: impl Into<String>) -> Reason {
    Reason::new(Code::MacFailed, detail)
}

impl Closing {
    /// The session is over but for its sum: its secret with each peer is forgotten here.
    pub(super) fn new(
        session: Session,
        survivors: Digest,
        places: Vec<u32>,
        elements: u64,
    ) -> Self {
        let Session { party, scheme, context, group, .. } = session;
        let (step, last) = (Step::Waiting, None);
        Self { party, scheme, context, group, survivors, places, elements, step, last }
    }

    pub(super) fn frame(&mut self, frame: &[u8]) -> Result<Reply, Reason> {
        let digest = Digest::of(frame);
        if let Some((known, reply)) = &self.last
            && *known == digest
        {
            return Ok(Reply { note: None, ..reply.clone() });
        }
        let step = std::mem::replace(&mut self.step, Step::Done);
        let (step, reply) = match (frame.first().copied(), step) {
            (Some(AGREED), Step::Waiting) => (self.agreed(frame)?, Reply::default()),
            (Some(OPENED), Step::Checking { check, taken }) => self.check(check, taken, frame)?,
            (Some(TO_OPEN), Step::Gathering(sealed)) => self.gather(sealed, frame)?,
            (Some(READ), Step::Open(opened)) => {
                let bytes = piece(&opened, frame)?;
                (Step::Open(opened), Reply { bytes, note: None })
            }
            _ => {
                let detail = "a frame that does not follow from what was said before";
                return Err(Reason::new(Code::ContextMismatch, detail));
            }
        };
        if matches!(step, Step::Done | Step::Open(_)) {
            // Nothing is left to check or open with it.
            self.group = None;
        }
        self.step = step;
        self.last = Some((digest, reply.clone()));
        Ok(reply)
    }

    fn key(&self) -> Result<MacKey, Reason> {
        let group = self.group.as_ref();
        let key = group.map(|group| MacKey::new(group, &self.context));
        key.ok_or_else(|| {
            Reason::new(Code::WrongStage, "the members of this round share no secret")
        })
    }

    /// Enough sites have answered for this very set.
    fn agreed(&self, frame: &[u8]) -> Result<Step, Reason> {
        let mut reader = Reader::new(frame);
        reader.u8("frame").map_err(malformed)?;
        let agreed = Agreed::decode(reader, self.places.len() as u32)?;
        match agreed.agreeing(&self.party, &self.context, &self.survivors) {
            Err(other) => {
                let name = self.party.member(other).map_or("?", |member| &member.site.name);
                let detail = format!("`{name}` was told of another set of sites, and signed it");
                return Err(Reason::new(Code::Equivocation, detail));
            }
            Ok(count) if (count as u32) < self.party.threshold => {
                let detail = format!(
                    "{count} signed answers were shown, a sum opens with {}",
                    self.party.threshold
                );
                return Err(Reason::new(Code::TooFewHonest, detail));
            }
            Ok(_) => {}
        }
        match agreed.header {
            Some(header) => {
                let check = header.check(&self.key()?).map_err(|error| wrong(error.to_string()))?;
                Ok(Step::Checking { check: Box::new(check), taken: 0 })
            }
            None => Ok(Step::Gathering(Vec::new())),
        }
    }

    fn check(
        &self,
        mut check: Box<Check>,
        taken: u64,
        frame: &[u8],
    ) -> Result<(Step, Reply), Reason> {
        let Piece { at, bytes } = Piece::decode(frame)?;
        let (numbers, rest) = bytes.as_chunks::<8>();
        if at != taken || !rest.is_empty() {
            return Err(Reason::new(Code::Malformed, "a piece of a sum is out of its place"));
        }
        let refused = |error: LayoutError| wrong(error.to_string());
        if numbers.is_empty() {
            // Zeros at the end change no code.
            if taken != 8 * self.elements {
                return Err(wrong("the sum has more or fewer numbers than were sealed"));
            }
            check.finish(&self.places).map_err(refused)?;
            return Ok((Step::Done, Reply { bytes: Vec::new(), note: Some(Note::Verified) }));
        }
        let numbers: Vec<i64> = numbers.iter().map(|&number| i64::from_le_bytes(number)).collect();
        check.update(&numbers).map_err(refused)?;
        let taken = taken + bytes.len() as u64;
        Ok((Step::Checking { check, taken }, Reply::default()))
    }

    fn gather(&self, mut sealed: Vec<u8>, frame: &[u8]) -> Result<(Step, Reply), Reason> {
        let Some(whole) = self.scheme.sealed_sum_bytes() else {
            return Err(Reason::new(Code::WrongStage, "the server opens the sums of this scheme"));
        };
        let Piece { at, bytes } = Piece::decode(frame)?;
        let after = sealed.len() as u64 + bytes.len() as u64;
        if at != sealed.len() as u64 || bytes.is_empty() || after > whole {
            return Err(Reason::new(Code::Malformed, "a piece of a sum is out of its place"));
        }
        sealed.extend_from_slice(bytes);
        if after < whole {
            return Ok((Step::Gathering(sealed), Reply::default()));
        }
        let group = self.group.as_ref();
        let group = group.ok_or_else(|| wrong("the members of this round share no secret"))?;
        let (header, sums) = self.scheme.open_sealed(&self.context, group, &sealed)?;
        let mut check = header.check(&self.key()?).map_err(|error| wrong(error.to_string()))?;
        let checked = check.update(&sums).and_then(|()| check.finish(&self.places));
        checked.map_err(|error| wrong(error.to_string()))?;
        if sums.len() as u64 != self.elements {
            return Err(wrong("the sum has more or fewer numbers than were sealed"));
        }
        let opened = Step::Open(opened(&header, &sums));
        Ok((opened, Reply { bytes: Vec::new(), note: Some(Note::Verified) }))
    }
}

fn opened(header: &HeaderSum, sums: &[i64]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(HEADER + 8 * sums.len()));
    bytes.extend_from_slice(&encode_header(header));
    sums.iter().for_each(|sum| bytes.extend_from_slice(&sum.to_le_bytes()));
    bytes
}

/// The piece that a frame asks for.
fn piece(opened: &[u8], frame: &[u8]) -> Result<Vec<u8>, Reason> {
    let at = Piece::decode(frame)?.at;
    let rest = usize::try_from(at).ok().and_then(|at| opened.get(at..)).unwrap_or_default();
    Ok(rest[..rest.len().min(MAX_FRAME)].to_vec())
}
