//! What a site says beside its sealed integers.

use privet_core::Reason;
use privet_crypto::pairwise::OVERHEAD;
use privet_crypto::{
    DecodeError, Digest, PublicKey, Reader, Signature, SigningKey, Transcript, Writer,
};

use super::malformed;
use super::tree;
use crate::coding::params::MAX_SITES;
use crate::rlwe::Set;
use crate::shamir::Share;

/// The signed part: short, and shown to every peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) context: Digest,
    /// Place of the site in the roster.
    pub(crate) index: u32,
    /// Of the sealed integers.
    pub(crate) body: Digest,
    /// Drawn with the upload's other secrets; the keys of what it deals depend on it.
    pub(crate) salt: [u8; 32],
    /// Root over what it deals.
    pub(crate) dealt: Digest,
    pub(crate) signature: Signature,
}

impl Statement {
    pub(crate) fn new(
        context: Digest,
        index: u32,
        body: Digest,
        salt: [u8; 32],
        dealt: Digest,
        signer: &SigningKey,
    ) -> Self {
        let mut statement = Self { context, index, body, salt, dealt, signature: [0; 64] };
        statement.signature = signer.sign(&statement.digest());
        statement
    }

    fn digest(&self) -> Digest {
        Transcript::new("privet/he/upload/v1")
            .bytes(&self.context.0)
            .number(self.index.into())
            .bytes(&self.body.0)
            .bytes(&self.salt)
            .bytes(&self.dealt.0)
            .finish()
    }

    pub(crate) fn is_of(&self, signing: &[u8; 32]) -> bool {
        PublicKey(*signing).verifies(&self.digest(), &self.signature)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.raw(&self.context.0).u32(self.index).raw(&self.body.0);
        writer.raw(&self.salt).raw(&self.dealt.0);
        writer.raw(&self.signature);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            context: Digest(reader.digest("context")?),
            index: reader.u32("index")?,
            body: Digest(reader.digest("body")?),
            salt: reader.digest("salt")?,
            dealt: Digest(reader.digest("dealt")?),
            signature: reader.signature("signature")?,
        })
    }
}

/// A statement with what is dealt, one sealed message for each other member in their order, or none at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dealt {
    pub(crate) statement: Statement,
    pub(crate) messages: Vec<(u32, Vec<u8>)>,
}

/// Most bytes of a dealt message: a share of a key, sealed.
pub(crate) const MAX_DEALT: usize = Share::encoded_len(Set::Wide.degree()) + OVERHEAD;

impl Dealt {
    pub(crate) fn leaves(from: u32, messages: &[(u32, Vec<u8>)]) -> Vec<Digest> {
        messages.iter().map(|(to, sealed)| tree::leaf(from, *to, sealed)).collect()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.statement.write(&mut writer);
        writer.count(self.messages.len());
        for (to, sealed) in &self.messages {
            writer.u32(*to).bytes(sealed);
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let mut reader = Reader::new(bytes);
        let read = |reader: &mut Reader<'_>| {
            let statement = Statement::read(reader)?;
            let count = reader.count(MAX_SITES as usize, "shares")?;
            let mut messages = Vec::new();
            for _ in 0..count {
                let to = reader.u32("receiver")?;
                messages.push((to, reader.bytes(MAX_DEALT, "share")?.to_vec()));
            }
            Ok(Self { statement, messages })
        };
        let dealt = read(&mut reader).map_err(malformed)?;
        reader.end().map_err(malformed)?;
        Ok(dealt)
    }
}
