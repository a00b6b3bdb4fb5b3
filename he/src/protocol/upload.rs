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
    /// Drawn with the upload's other secrets; the keys of its shares depend on it.
    pub(crate) salt: [u8; 32],
    /// Root over the shares that it deals.
    pub(crate) shares: Digest,
    pub(crate) signature: Signature,
}

impl Statement {
    pub(crate) fn new(
        context: Digest,
        index: u32,
        body: Digest,
        salt: [u8; 32],
        shares: Digest,
        signer: &SigningKey,
    ) -> Self {
        let mut statement = Self { context, index, body, salt, shares, signature: [0; 64] };
        statement.signature = signer.sign(&statement.digest());
        statement
    }

    fn digest(&self) -> Digest {
        Transcript::new("privet/he/upload/v1")
            .bytes(&self.context.0)
            .number(self.index.into())
            .bytes(&self.body.0)
            .bytes(&self.salt)
            .bytes(&self.shares.0)
            .finish()
    }

    pub(crate) fn is_of(&self, signing: &[u8; 32]) -> bool {
        PublicKey(*signing).verifies(&self.digest(), &self.signature)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.raw(&self.context.0).u32(self.index).raw(&self.body.0);
        writer.raw(&self.salt).raw(&self.shares.0);
        writer.raw(&self.signature);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            context: Digest(reader.digest("context")?),
            index: reader.u32("index")?,
            body: Digest(reader.digest("body")?),
            salt: reader.digest("salt")?,
            shares: Digest(reader.digest("shares")?),
            signature: reader.signature("signature")?,
        })
    }
}

/// A statement with the sealed shares, one for each other member in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dealt {
    pub(crate) statement: Statement,
    pub(crate) shares: Vec<(u32, Vec<u8>)>,
}

/// Bytes of a sealed share.
pub(crate) fn sealed_share(set: Set) -> usize {
    Share::encoded_len(set.degree()) + OVERHEAD
}

impl Dealt {
    pub(crate) fn leaves(from: u32, shares: &[(u32, Vec<u8>)]) -> Vec<Digest> {
        shares.iter().map(|(to, sealed)| tree::leaf(from, *to, sealed)).collect()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.statement.write(&mut writer);
        writer.count(self.shares.len());
        for (to, sealed) in &self.shares {
            writer.u32(*to).bytes(sealed);
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let mut reader = Reader::new(bytes);
        let read = |reader: &mut Reader<'_>| {
            let statement = Statement::read(reader)?;
            let count = reader.count(MAX_SITES as usize, "shares")?;
            let mut shares = Vec::new();
            for _ in 0..count {
                let to = reader.u32("receiver")?;
                shares.push((to, reader.bytes(sealed_share(Set::Wide), "share")?.to_vec()));
            }
            Ok(Self { statement, shares })
        };
        let dealt = read(&mut reader).map_err(malformed)?;
        reader.end().map_err(malformed)?;
        Ok(dealt)
    }
}
