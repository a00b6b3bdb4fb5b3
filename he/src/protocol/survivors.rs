//! Whose uploads are in a sum, and the answers that open it.

use privet_core::Reason;
use privet_crypto::{
    DecodeError, Digest, PublicKey, Reader, Signature, SigningKey, Transcript, Writer,
};

use super::tree;
use super::upload::{MAX_DEALT, Statement};
use super::{SURVIVORS, malformed};
use crate::coding::params::MAX_SITES;
use crate::rlwe::Set;
use crate::shamir::Share;

/// Most bytes of a survivor's help: a share of a key.
const MAX_HELP: usize = Share::encoded_len(Set::Wide.degree());

/// Most levels of a tree of shares.
const MAX_PATH: usize = 16;

/// What one survivor dealt to one receiver; its own is not among them.
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
    pub(crate) messages: Vec<Option<Delivered>>,
}

/// Names a set of survivors with all that they said.
pub(crate) fn digest(statements: &[Statement]) -> Digest {
    let mut transcript = Transcript::new("privet/he/survivors/v1").number(statements.len() as u64);
    for statement in statements {
        transcript = transcript
            .number(statement.index.into())
            .bytes(&statement.body.0)
            .bytes(&statement.salt)
            .bytes(&statement.dealt.0);
    }
    transcript.finish()
}

impl Survivors {
    pub(crate) fn digest(&self) -> Digest {
        digest(&self.statements)
    }

    /// The survivors' places in the roster.
    pub(crate) fn places(&self) -> Vec<u32> {
        self.statements.iter().map(|statement| statement.index).collect()
    }

    /// Names who they are, whatever they said.
    pub(crate) fn members(&self) -> Digest {
        let transcript = Transcript::new("privet/he/members/v1");
        self.places().into_iter().fold(transcript, |t, place| t.number(place.into())).finish()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u8(SURVIVORS).count(self.statements.len());
        for (statement, share) in self.statements.iter().zip(&self.messages) {
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
            let (mut statements, mut messages) = (Vec::new(), Vec::new());
            for _ in 0..reader.count(MAX_SITES as usize, "survivors")? {
                statements.push(Statement::read(reader)?);
                messages.push(match reader.u8("share")? {
                    0 => None,
                    1 => {
                        let sealed = reader.bytes(MAX_DEALT, "share")?.to_vec();
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
            Ok(Self { statements, messages })
        };
        let survivors = read(&mut reader).map_err(malformed)?;
        reader.end().map_err(malformed)?;
        Ok(survivors)
    }
}

/// A survivor's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) context: Digest,
    pub(crate) index: u32,
    pub(crate) survivors: Digest,
    pub(crate) said: Said,
    pub(crate) signature: Signature,
}

/// What it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// What the scheme makes of what the survivors dealt to it: for `threshold` the sum of the shares.
    Help(Vec<u8>),
    /// What the site at this place dealt to it does not open.
    Complaint(u32),
}

impl Said {
    /// What an answer's signature is over. Others can check that of help by its digest; a complaint is signed
    /// as one, and is no word for this set of survivors.
    fn signed(&self, context: &Digest, index: u32, survivors: &Digest) -> Digest {
        match self {
            Said::Help(help) => signed(context, index, survivors, &Digest::of(help)),
            Said::Complaint(dealer) => Transcript::new("privet/he/complaint/v1")
                .bytes(&context.0)
                .number(index.into())
                .bytes(&survivors.0)
                .number((*dealer).into())
                .finish(),
        }
    }

    /// A short name of the help.
    pub(crate) fn digest(&self) -> Option<Digest> {
        match self {
            Said::Help(help) => Some(Digest::of(help)),
            Said::Complaint(_) => None,
        }
    }
}

/// What the signature of one that helps is over.
pub(crate) fn signed(context: &Digest, index: u32, survivors: &Digest, help: &Digest) -> Digest {
    Transcript::new("privet/he/answer/v1")
        .bytes(&context.0)
        .number(index.into())
        .bytes(&survivors.0)
        .bytes(&help.0)
        .finish()
}

impl Answer {
    pub(crate) fn new(
        context: Digest,
        index: u32,
        survivors: Digest,
        said: Said,
        signer: &SigningKey,
    ) -> Self {
        let signature = signer.sign(&said.signed(&context, index, &survivors));
        Self { context, index, survivors, said, signature }
    }

    pub(crate) fn is_of(&self, signing: &[u8; 32]) -> bool {
        let signed = self.said.signed(&self.context, self.index, &self.survivors);
        PublicKey(*signing).verifies(&signed, &self.signature)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.raw(&self.context.0).u32(self.index).raw(&self.survivors.0);
        match &self.said {
            Said::Help(help) => writer.u8(0).bytes(help),
            Said::Complaint(dealer) => writer.u8(1).u32(*dealer),
        };
        writer.raw(&self.signature);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let mut reader = Reader::new(bytes);
        let read = |reader: &mut Reader<'_>| {
            Ok(Self {
                context: Digest(reader.digest("context")?),
                index: reader.u32("index")?,
                survivors: Digest(reader.digest("survivors")?),
                said: match reader.u8("answer")? {
                    0 => Said::Help(reader.bytes(MAX_HELP, "answer")?.to_vec()),
                    1 => Said::Complaint(reader.u32("dealer")?),
                    _ => return Err(DecodeError::Invalid("answer")),
                },
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
    receivers
        .iter()
        .position(|&receiver| receiver == to)
        .is_some_and(|at| tree::holds(&statement.dealt, leaf, at, receivers.len(), &delivered.path))
}
