//! Ciphertexts of the crate `tfhe` under a key that all members hold; a site opens the sum.
//!
//! The key and that of the sum's code come of the secret that the members share for the session. The site
//! that opens a sum lets it out only if its code says that it is the sum of the survivors' updates, so that
//! the server gets that one opened and nothing else; whoever holds the key can open anything.

use privet_core::{Code, Reason};
use privet_crypto::{Digest, Seed, Transcript};
use zeroize::Zeroizing;

use super::{Opened, Opening, Scheme, Sealed, Sealing, Sum};
use crate::coding::params::MAX_VALUES;
use crate::coding::{Header, HeaderSum, header};
use crate::glwe;
use crate::glwe::{GroupKey, Packing, PackingError};
use crate::mac::MacKey;
use crate::protocol::party::Party;

/// Bytes before the words of an upload: a digest and a seed.
const HEAD: usize = 64;

pub(crate) struct Tfhe {
    packing: Packing,
}

fn failed(error: impl std::fmt::Display) -> Reason {
    Reason::new(Code::FilterFailed, error.to_string())
}

pub(super) fn largest(sites: u32) -> u64 {
    match Packing::within(i64::MAX as u64, sites, MAX_VALUES) {
        Err(PackingError::TooWide { most }) => most,
        _ => 0,
    }
}

impl Tfhe {
    pub(crate) fn new(party: &Party, values: u64) -> Result<Self, Reason> {
        let most = party.most();
        let values = values + header::digits(digit_bits(most), true) as u64;
        let packing = Packing::within(most, party.members.len() as u32, values)
            .map_err(|error| Reason::new(Code::Overflow, error.to_string()))?;
        Ok(Self { packing })
    }

    fn key(&self, group: &Seed) -> Result<GroupKey, Reason> {
        let seed = group.derive("privet/he/group/glwe/v1", 0);
        GroupKey::new(self.packing.set(), &seed).map_err(failed)
    }
}

/// Bits of a digit of the header: a digit is a value.
fn digit_bits(most: u64) -> u32 {
    most.saturating_add(1).ilog2().clamp(1, 32)
}

fn no_group() -> Reason {
    Reason::new(Code::ContextMismatch, "the members share no secret to seal under")
}

impl Scheme for Tfhe {
    fn bind(&self, transcript: Transcript) -> Transcript {
        transcript.bytes(&self.packing.digest(&[0; 32]).0)
    }

    fn words(&self) -> usize {
        (HEAD + self.packing.bytes() as usize) / 4
    }

    fn dealt_bytes(&self) -> usize {
        0
    }

    fn seal(&self, sealing: &Sealing<'_>) -> Result<Sealed, Reason> {
        let group = sealing.group.ok_or_else(no_group)?;
        let most = self.packing.most() as i64;
        let clamped = sealing.values.iter().map(|&value| value.min(most).max(-most));
        let clamped: Zeroizing<Vec<i64>> = Zeroizing::new(clamped.collect());
        let key = MacKey::new(group, sealing.context);
        let header =
            Header::tagged(sealing.weight, &key, sealing.index, |mac| mac.update(&clamped[..]));
        let header = header.map_err(failed)?;
        let digits = header.digits(digit_bits(self.packing.most())).map(|digit| digit as i64);
        let mut values = Zeroizing::new(Vec::with_capacity(self.packing.values() as usize));
        values.extend(digits);
        values.extend_from_slice(&clamped);
        let fresh = sealing.seed.derive("privet/he/glwe/fresh/v1", 0);
        let key = self.key(group)?;
        let bytes = glwe::seal(&key, &self.packing, &sealing.context.0, &values, fresh);
        let bytes = bytes.map_err(failed)?;
        let words = bytes.as_chunks().0.iter().map(|&word| u32::from_ne_bytes(word)).collect();
        Ok(Sealed { words, dealt: Vec::new() })
    }

    fn answer(&self, _dealt: &[Zeroizing<Vec<u8>>]) -> Result<Vec<u8>, usize> {
        Ok(Vec::new())
    }

    fn sum(&self, context: &Digest) -> Result<Box<dyn Sum>, Reason> {
        let sum = glwe::Sum::new(self.packing, &context.0).map_err(failed)?;
        Ok(Box::new(SealedSum(sum)))
    }

    fn sealed_sum_bytes(&self) -> Option<u64> {
        Some(36 + 2 * self.packing.bytes())
    }

    fn open_sealed(&self, context: &Digest, group: &Seed, sum: &[u8]) -> Result<Opened, Reason> {
        let sum = glwe::Sum::decode(self.packing, &context.0, sum)
            .map_err(|error| Reason::new(Code::Malformed, error.to_string()))?;
        // One answer to all that was altered: which check it failed would tell of what is sealed.
        let altered = |()| Reason::new(Code::MacFailed, "what opens is no sum of these updates");
        let opened = glwe::open(&self.key(group)?, &sum).map_err(|_| altered(()))?;
        let bits = digit_bits(self.packing.most());
        let (digits, values) = opened.split_at(header::digits(bits, true));
        let digits: Vec<Option<i64>> = digits.iter().copied().map(Some).collect();
        let header =
            HeaderSum::read(&digits, bits, sum.uploads(), true).map_err(|_| altered(()))?;
        Ok((header, Zeroizing::new(values.to_vec())))
    }
}

struct SealedSum(glwe::Sum);

impl Sum for SealedSum {
    fn add(&mut self, words: &mut [u32]) -> Result<(), Reason> {
        let added = self.0.add(bytemuck::cast_slice(words));
        added.map_err(|error| Reason::new(Code::Malformed, error.to_string()))
    }

    fn open(&mut self, _help: &[(u32, Vec<u8>)]) -> Result<Opening, Reason> {
        Ok(Opening::AtSite(self.0.encode()))
    }
}
