//! A site's first word in a round.

use privet_core::Reason;
use privet_core::seal::{Certified, Scheme, Terms, Vouching};
use privet_core::sensitivity::Step;
use privet_core::{Code, refusal};
use privet_crypto::{
    DecodeError, Digest, PublicKey, Reader, Signature, SigningKey, Transcript, Writer,
};

use super::{GREETING, MAX_CREDENTIAL, malformed};
use crate::coding::header::MAX_WEIGHT;

/// Most bytes of a run's identity.
const MAX_RUN: usize = 256;

/// The server asks who takes part in a round of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) run: String,
    /// Grows with every greeting of a run: a round that is asked for anew is another session.
    pub(crate) session: u64,
}

impl Greeting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u8(GREETING).text(&self.run).u64(self.session);
        writer.finish()
    }

    /// Of a frame after its first byte.
    pub(crate) fn decode(mut reader: Reader<'_>) -> Result<Self, Reason> {
        let read = |reader: &mut Reader<'_>| {
            let run = reader.text(MAX_RUN, "run")?.to_owned();
            Ok(Self { run, session: reader.u64("session")? })
        };
        let greeting = read(&mut reader).map_err(malformed)?;
        reader.end().map_err(malformed)?;
        Ok(greeting)
    }
}

/// What all sites of a sum must have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Common {
    pub(crate) scheme: Scheme,
    pub(crate) step: Step,
    pub(crate) exact: bool,
    pub(crate) weighted: bool,
}

/// A site takes part: its key of the round, and its terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// X25519.
    pub(crate) key: [u8; 32],
    pub(crate) scheme: Scheme,
    pub(crate) exact: bool,
    /// Whether the site wants to see that the sum is the right one.
    pub(crate) verify: bool,
    /// log2 of a bound of its weight, where its integers are multiplied by it.
    pub(crate) weight_bits: Option<u8>,
    pub(crate) min_sites: u32,
    pub(crate) colluders: u32,
    pub(crate) most: u64,
    pub(crate) noise: u64,
    /// Whether its noise is a share, so that peers with less do not count for it.
    pub(crate) shares: bool,
    pub(crate) step: Step,
    pub(crate) credential: Vec<u8>,
    pub(crate) signature: Signature,
}

/// Says that integers are not multiplied by a weight.
const UNWEIGHTED: u8 = u8::MAX;

impl Hello {
    pub(crate) fn new(
        greeting: &Greeting,
        key: [u8; 32],
        terms: &Terms,
        credential: Vec<u8>,
        signer: &SigningKey,
    ) -> Self {
        let Terms { scheme, exact, verify, weight_bits, .. } = *terms;
        let Terms { min_sites, colluders, most, noise, shares, step, .. } = *terms;
        let mut hello = Self {
            key,
            scheme,
            exact,
            verify,
            weight_bits,
            min_sites,
            colluders,
            most,
            noise,
            shares,
            step,
            credential,
            signature: [0; 64],
        };
        hello.signature = signer.sign(&hello.statement(greeting));
        hello
    }

    fn statement(&self, greeting: &Greeting) -> Digest {
        let mut said = Writer::default();
        self.write_unsigned(&mut said);
        Transcript::new("privet/he/hello/v1")
            .bytes(greeting.run.as_bytes())
            .number(greeting.session)
            .bytes(&said.finish())
            .finish()
    }

    pub(crate) fn common(&self) -> Common {
        Common {
            scheme: self.scheme,
            step: self.step,
            exact: self.exact,
            weighted: self.weight_bits.is_some(),
        }
    }

    /// Who says it.
    ///
    /// # Errors
    /// When the credential or the signature is not good.
    pub(crate) fn check(
        &self,
        greeting: &Greeting,
        vouching: &dyn Vouching,
    ) -> Result<Certified, Reason> {
        let certified = vouching.certified(&self.credential)?;
        if !PublicKey(certified.signing).verifies(&self.statement(greeting), &self.signature) {
            let detail = "a site's hello is not signed by it";
            return Err(refusal::Reason::new(Code::BadSignature, detail));
        }
        Ok(certified)
    }

    fn write_unsigned(&self, writer: &mut Writer) {
        let scheme = Scheme::ALL.iter().position(|&known| known == self.scheme).unwrap_or_default();
        writer
            .raw(&self.key)
            .u8(scheme as u8)
            .u8(self.exact.into())
            .u8(self.verify.into())
            .u8(self.weight_bits.unwrap_or(UNWEIGHTED))
            .u32(self.min_sites)
            .u32(self.colluders)
            .u64(self.most)
            .u64(self.noise)
            .u8(self.shares.into());
        writer.i16(self.step.exponent()).bytes(&self.credential);
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.write_unsigned(writer);
        writer.raw(&self.signature);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flag = |reader: &mut Reader<'_>, field| match reader.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid(field)),
        };
        let hello = Self {
            key: reader.digest("key")?,
            scheme: Scheme::ALL
                .get(usize::from(reader.u8("scheme")?))
                .copied()
                .ok_or(DecodeError::Invalid("scheme"))?,
            exact: flag(reader, "exact")?,
            verify: flag(reader, "verify")?,
            weight_bits: match reader.u8("weight")? {
                UNWEIGHTED => None,
                bits if u32::from(bits) <= MAX_WEIGHT.ilog2() => Some(bits),
                _ => return Err(DecodeError::Invalid("weight")),
            },
            min_sites: reader.u32("min-sites")?,
            colluders: reader.u32("colluders")?,
            most: reader.u64("most")?,
            noise: reader.u64("noise")?,
            shares: flag(reader, "shares")?,
            step: Step::new(reader.i16("step")?).ok_or(DecodeError::Invalid("step"))?,
            credential: reader.bytes(MAX_CREDENTIAL, "credential")?.to_vec(),
            signature: reader.signature("signature")?,
        };
        // A sum with errors in it has no code.
        if hello.verify && !hello.exact {
            return Err(DecodeError::Invalid("verify"));
        }
        Ok(hello)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.write(&mut writer);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let mut reader = Reader::new(bytes);
        let hello = Self::read(&mut reader).map_err(malformed)?;
        reader.end().map_err(malformed)?;
        Ok(hello)
    }
}
