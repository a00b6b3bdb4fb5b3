//! Whose uploads are in a sum, and the answers that open it.

use privet_core::Reason;
use privet_crypto::{
    DecodeError, Digest, PublicKey, Reader, Signature, SigningKey, Transcript, Writer,
};

use super::tree;
use super::upload::{Statement, sealed_share};
use super::{SURVIVORS, malformed};
use crate::coding::params::MAX_SITES;
use crate::rlwe::Set;
use crate::shamir::Share;

/// Most levels of a tree of shares.
const MAX_PATH: usize = 16;

/// The share of one survivor's key for one receiver; its own is not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) sealed: Vec<u8>,
    pub(crate) path: Vec<Digest>,
}

/// What the server tells one survivor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survivors {
    /// In the order of the roster.
    pub(crate) statements: Vec<Statement>,
    /// For each of them, in the same order; `None` for the receiver's own.
    pub(crate) shares: Vec<Option<Delivered>>,
}

/// Names a set of survivors with all that they said.
pub(crate) fn digest(statements: &[Statement]) -> Digest {
    let mut transcript = Transcript::new("privet/he/survivors/v1").number(statements.len() as u64);
    for statement in statements {
        transcript = transcript
            .number(statement.index.into())
            .bytes(&statement.body.0)
            .bytes(&statement.salt)
            .bytes(&statement.shares.0);
    }
    transcript.finish()
}

impl Survivors {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u8(SURVIVORS).count(self.statements.len());
        for (statement, share) in self.statements.iter().zip(&self.shares) {
            statement.write(&mut writer);
            match share {
                None => writer.u8(0),
                Some(Delivered { sealed, path }) => {
                    writer.u8(1).bytes(sealed).count(path.len());
                    path.iter().fold(&mut writer, |writer, digest| writer.raw(&digest.0))
                }
            };
        }
        writer.finish()
    }

    /// Of a frame after its first byte.
    pub(crate) fn decode(mut reader: Reader<'_>) -> Result<Self, Reason> {
        let read = |reader: &mut Reader<'_>| {
            let (mut statements, mut shares) = (Vec::new(), Vec::new());
            for _ in 0..reader.count(MAX_SITES as usize, "survivors")? {
                statements.push(Statement::read(reader)?);
                shares.push(match reader.u8("share")? {
                    0 => None,
                    1 => {
                        let sealed = reader.bytes(sealed_share(Set::Wide), "share")?.to_vec();
                        let count = reader.count(MAX_PATH, "path")?;
                        let mut path = Vec::with_capacity(count);
                        for _ in 0..count {
                            path.push(Digest(reader.digest("path")?));
                        }
                        Some(Delivered { sealed, path })
                    }
                    _ => return Err(DecodeError::Invalid("share")),
                });
            }
            Ok(Self { statements, shares })
        };
        let survivors = read(&mut reader).map_err(malformed)?;
        reader.end().map_err(malformed)?;
        Ok(survivors)
    }
}

/// A survivor's answer: the sum of the shares that it holds of the survivors' keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) context: Digest,
    pub(crate) index: u32,
    pub(crate) survivors: Digest,
    pub(crate) share: Vec<u8>,
    pub(crate) signature: Signature,
}

impl Answer {
    pub(crate) fn new(
        context: Digest,
        index: u32,
        survivors: Digest,
        share: Vec<u8>,
        signer: &SigningKey,
    ) -> Self {
        let mut answer = Self { context, index, survivors, share, signature: [0; 64] };
        answer.signature = signer.sign(&answer.digest());
        answer
    }

    fn digest(&self) -> Digest {
        Transcript::new("privet/he/answer/v1")
            .bytes(&self.context.0)
            .number(self.index.into())
            .bytes(&self.survivors.0)
            .bytes(&self.share)
            .finish()
    }

    pub(crate) fn is_of(&self, signing: &[u8; 32]) -> bool {
        PublicKey(*signing).verifies(&self.digest(), &self.signature)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.raw(&self.context.0).u32(self.index).raw(&self.survivors.0);
        writer.bytes(&self.share).raw(&self.signature);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let mut reader = Reader::new(bytes);
        let read = |reader: &mut Reader<'_>| {
            Ok(Self {
                context: Digest(reader.digest("context")?),
                index: reader.u32("index")?,
                survivors: Digest(reader.digest("survivors")?),
                share: reader.bytes(Share::encoded_len(Set::Wide.degree()), "share")?.to_vec(),
                signature: reader.signature("signature")?,
            })
        };
        let answer = read(&mut reader).map_err(malformed)?;
        reader.end().map_err(malformed)?;
        Ok(answer)
    }
}

/// Whether a share is what a survivor dealt to a receiver.
pub(crate) fn is_dealt(
    statement: &Statement,
    to: u32,
    receivers: &[u32],
    delivered: &Delivered,
) -> bool {
    let leaf = tree::leaf(statement.index, to, &delivered.sealed);
    receivers.iter().position(|&receiver| receiver == to).is_some_and(|at| {
        tree::holds(&statement.shares, leaf, at, receivers.len(), &delivered.path)
    })
}
