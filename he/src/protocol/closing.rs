//! What is said after the answers: that all of them agree, and what was opened.
//!
//! ```text
//!   Agreed   S → j   the answers' signatures: t sites answered for this very set; the sum's header
//!   Piece    S → j   of the opened sum, to be checked; or of the sealed one, to be opened
//!   Read     S → j   asks for a piece of what the site has opened
//! ```

use privet_core::Reason;
use privet_crypto::{DecodeError, Digest, PublicKey, Reader, Signature, Writer};

use super::malformed;
use super::party::Party;
use super::survivors::{Answer, signed};
use super::{AGREED, READ};
use crate::coding::HeaderSum;
use crate::coding::params::MAX_SITES;
use crate::mac::TAGS;

/// One answer, without what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Signed {
    index: u32,
    survivors: Digest,
    said: Digest,
    signature: Signature,
}

/// So many sites answered, and this is what opened, where the server could open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agreed {
    answers: Vec<Signed>,
    pub(crate) header: Option<HeaderSum>,
}

impl Agreed {
    pub(crate) fn new(answers: &[Answer], header: Option<HeaderSum>) -> Self {
        let signed = |answer: &Answer| {
            let Answer { index, survivors, signature, .. } = *answer;
            Some(Signed { index, survivors, said: answer.said.digest()?, signature })
        };
        Self { answers: answers.iter().filter_map(signed).collect(), header }
    }

    /// Sites whose answers name this set; `Err` holds the place of one that signed another.
    pub(crate) fn agreeing(
        &self,
        party: &Party,
        context: &Digest,
        survivors: &Digest,
    ) -> Result<usize, u32> {
        let mut agreeing = std::collections::BTreeSet::new();
        for Signed { index, survivors: named, said, signature } in &self.answers {
            let Some(member) = party.member(*index) else { continue };
            let digest = signed(context, *index, named, said);
            if !PublicKey(member.site.signing).verifies(&digest, signature) {
                continue;
            }
            if named != survivors {
                return Err(*index);
            }
            agreeing.insert(*index);
        }
        Ok(agreeing.len())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u8(AGREED).count(self.answers.len());
        for Signed { index, survivors, said, signature } in &self.answers {
            writer.u32(*index).raw(&survivors.0).raw(&said.0).raw(signature);
        }
        match &self.header {
            None => writer.u8(0),
            Some(header) => writer.u8(1).raw(&encode_header(header)),
        };
        writer.finish()
    }

    /// Of a frame after its first byte; the header is of a sum over so many sites.
    pub(crate) fn decode(mut reader: Reader<'_>, sites: u32) -> Result<Self, Reason> {
        let read = |reader: &mut Reader<'_>| {
            let mut answers = Vec::new();
            for _ in 0..reader.count(MAX_SITES as usize, "answers")? {
                answers.push(Signed {
                    index: reader.u32("index")?,
                    survivors: Digest(reader.digest("survivors")?),
                    said: Digest(reader.digest("answer")?),
                    signature: reader.signature("signature")?,
                });
            }
            let header = match reader.u8("header")? {
                0 => None,
                1 => Some(decode_header(reader.take(HEADER, "header")?, sites)?),
                _ => return Err(DecodeError::Invalid("header")),
            };
            Ok(Self { answers, header })
        };
        let agreed = read(&mut reader).map_err(malformed)?;
        reader.end().map_err(malformed)?;
        Ok(agreed)
    }
}

/// Bytes of an opened header.
pub(crate) const HEADER: usize = 8 + 8 * TAGS;

pub(crate) fn encode_header(header: &HeaderSum) -> [u8; HEADER] {
    let tags = header.tags.unwrap_or_default();
    let mut bytes = [0; HEADER];
    let numbers = std::iter::once(header.weight).chain(tags);
    bytes.chunks_mut(8).zip(numbers).for_each(|(out, x)| out.copy_from_slice(&x.to_le_bytes()));
    bytes
}

pub(crate) fn decode_header(bytes: &[u8], survivors: u32) -> Result<HeaderSum, DecodeError> {
    let mut reader = Reader::new(bytes);
    let weight = reader.u64("weight")?;
    let mut tags = [0; TAGS];
    for tag in &mut tags {
        *tag = reader.u64("tag")?;
    }
    reader.end()?;
    Ok(HeaderSum { survivors, weight, tags: Some(tags) })
}

/// A piece of a long message; pieces come in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// Where it starts, in bytes.
    pub(crate) at: u64,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    pub(crate) fn encode(self, kind: u8) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u8(kind).u64(self.at).raw(self.bytes);
        writer.finish()
    }

    /// Of a frame, its first byte included.
    pub(crate) fn decode(frame: &'a [u8]) -> Result<Self, Reason> {
        let mut reader = Reader::new(frame);
        let read = |reader: &mut Reader<'a>| {
            reader.u8("frame")?;
            let at = reader.u64("place")?;
            Ok(Self { at, bytes: reader.take(frame.len() - 9, "piece")? })
        };
        read(&mut reader).map_err(malformed)
    }
}

/// Asks for what was opened, from a place on.
pub(crate) fn read(at: u64) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.u8(READ).u64(at);
    writer.finish()
}
