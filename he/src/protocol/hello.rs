//! A site's first word in a round.

use privet_core::Reason;
use privet_core::seal::{Certified, Terms, Vouching};
use privet_core::sensitivity::Step;
use privet_core::{Code, refusal};
use privet_crypto::{Digest, PublicKey, Reader, Signature, SigningKey, Transcript, Writer};

use super::{GREETING, MAX_CREDENTIAL, malformed};

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

/// A site takes part: its key of the round, and its terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    /// X25519.
    pub(crate) key: [u8; 32],
    pub(crate) min_sites: u32,
    pub(crate) colluders: u32,
    pub(crate) most: u64,
    pub(crate) noise: u64,
    pub(crate) step: Step,
    pub(crate) credential: Vec<u8>,
    pub(crate) signature: Signature,
}

impl Hello {
    pub(crate) fn new(
        greeting: &Greeting,
        key: [u8; 32],
        terms: &Terms,
        credential: Vec<u8>,
        signer: &SigningKey,
    ) -> Self {
        let Terms { min_sites, colluders, most, noise, step, .. } = *terms;
        let signature = [0; 64];
        let mut hello =
            Self { key, min_sites, colluders, most, noise, step, credential, signature };
        hello.signature = signer.sign(&hello.statement(greeting));
        hello
    }

    fn statement(&self, greeting: &Greeting) -> Digest {
        Transcript::new("privet/he/hello/v1")
            .bytes(greeting.run.as_bytes())
            .number(greeting.session)
            .bytes(&self.key)
            .number(self.min_sites.into())
            .number(self.colluders.into())
            .number(self.most)
            .number(self.noise)
            .bytes(&self.step.exponent().to_le_bytes())
            .bytes(&self.credential)
            .finish()
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

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .raw(&self.key)
            .u32(self.min_sites)
            .u32(self.colluders)
            .u64(self.most)
            .u64(self.noise);
        writer.i16(self.step.exponent()).bytes(&self.credential).raw(&self.signature);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, privet_crypto::DecodeError> {
        Ok(Self {
            key: reader.digest("key")?,
            min_sites: reader.u32("min-sites")?,
            colluders: reader.u32("colluders")?,
            most: reader.u64("most")?,
            noise: reader.u64("noise")?,
            step: Step::new(reader.i16("step")?)
                .ok_or(privet_crypto::DecodeError::Invalid("step"))?,
            credential: reader.bytes(MAX_CREDENTIAL, "credential")?.to_vec(),
            signature: reader.signature("signature")?,
        })
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
