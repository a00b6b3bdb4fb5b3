//! A secret that the sites of one session share, and the server does not: for codes by which they see that
//! a sum is theirs, and for schemes under one key.
//!
//! One of them draws it and seals a copy to each of the others, under the keys of their hellos. It is made
//! anew for each session and kept on no disk. Any of them can give it away.

use privet_core::{Code, Reason};
use privet_crypto::pairwise::{OVERHEAD, Route, Secret};
use privet_crypto::{
    DecodeError, Digest, PublicKey, Reader, Seed, Signature, SigningKey, Transcript, Writer,
};

use super::party::Party;
use crate::coding::params::MAX_SITES;

/// What a sealed copy is for.
const GROUP: &str = "privet/he/group/v1";

/// Bytes of a sealed copy.
const COPY: usize = 32 + OVERHEAD;

/// The copies, as the task brings them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    /// Place in the roster of the site that drew the secret.
    dealer: u32,
    /// One for each other member, in their order.
    copies: Vec<[u8; COPY]>,
    signature: Signature,
}

impl Group {
    /// Seals a secret to every member but its dealer.
    ///
    /// # Errors
    /// When a member's key is of small order.
    pub(crate) fn deal(
        party: &Party,
        dealer: u32,
        own: &Secret,
        group: &Seed,
        signer: &SigningKey,
    ) -> Result<Self, Reason> {
        let context = party.hellos();
        let mut copies = Vec::new();
        for member in party.members.iter().filter(|member| member.index != dealer) {
            let route = Route { context, purpose: GROUP, from: dealer, to: member.index };
            let key = own.key(&member.hello.key, route).map_err(|error| bad(&error.to_string()))?;
            let sealed = key.seal(group.reveal());
            copies.push(sealed.try_into().map_err(|_| bad("a copy has another length"))?);
        }
        let mut dealt = Self { dealer, copies, signature: [0; 64] };
        dealt.signature = signer.sign(&dealt.digest(context));
        Ok(dealt)
    }

    /// The secret, for a member that did not deal it.
    ///
    /// # Errors
    /// When it was dealt by no member, for another session, or does not open.
    pub(crate) fn open(&self, party: &Party, index: u32, own: &Secret) -> Result<Seed, Reason> {
        let dealer = self.dealer(party)?;
        let receivers = party.members.iter().filter(|member| member.index != self.dealer);
        let at = receivers.map(|member| member.index).position(|receiver| receiver == index);
        let copy = at.and_then(|at| self.copies.get(at));
        let route = Route { context: party.hellos(), purpose: GROUP, from: self.dealer, to: index };
        let key = own.key(dealer, route).map_err(|error| bad(&error.to_string()))?;
        let opened = copy.and_then(|copy| key.open(copy).ok());
        let bytes = opened.and_then(|opened| <[u8; 32]>::try_from(&opened[..]).ok());
        let name = party.member(self.dealer).map_or("?", |member| &member.site.name);
        bytes
            .map(Seed::from_bytes)
            .ok_or_else(|| bad(&format!("what `{name}` dealt does not open")))
    }

    /// The key in the hello of the dealer, if it is the one who signed.
    ///
    /// # Errors
    /// When it is not.
    pub(crate) fn dealer<'a>(&self, party: &'a Party) -> Result<&'a [u8; 32], Reason> {
        let member =
            party.member(self.dealer).ok_or_else(|| bad("its dealer is not of this round"))?;
        let signed =
            PublicKey(member.site.signing).verifies(&self.digest(party.hellos()), &self.signature);
        let whole = self.copies.len() + 1 == party.members.len();
        if signed && whole { Ok(&member.hello.key) } else { Err(bad("its dealer did not sign it")) }
    }

    fn digest(&self, context: &Digest) -> Digest {
        let mut transcript = Transcript::new("privet/he/group/v1").bytes(&context.0);
        transcript = transcript.number(self.dealer.into());
        for copy in &self.copies {
            transcript = transcript.bytes(copy);
        }
        transcript.finish()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u32(self.dealer).count(self.copies.len());
        for copy in &self.copies {
            writer.raw(copy);
        }
        writer.raw(&self.signature);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let dealer = reader.u32("dealer")?;
        let count = reader.count(MAX_SITES as usize, "copies")?;
        let mut copies = Vec::new();
        for _ in 0..count {
            let copy = reader.take(COPY, "copy")?;
            copies.push(copy.try_into().map_err(|_| DecodeError::Invalid("copy"))?);
        }
        let group = Self { dealer, copies, signature: reader.signature("signature")? };
        reader.end()?;
        Ok(group)
    }
}

fn bad(detail: &str) -> Reason {
    Reason::new(Code::BadShare, format!("the secret of the session: {detail}"))
}
