//! Adding uploads without a key, and opening the sum with one.

use std::collections::BTreeSet;

use privet_crypto::{DecodeError, Digest, Reader, Writer};
use rayon::prelude::*;
use tfhe::core_crypto::prelude::*;
use zeroize::Zeroizing;

use crate::glwe::key::{GroupKey, Unsupported, supported};
use crate::glwe::packing::Packing;
use crate::glwe::seal::{LIST, MaskSeed, with_words};

/// Why bytes from a peer were not added or read. The sum is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// They are not an upload or a sum of this packing's size.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// They are for another context or packing.
    #[error("it was sealed for another round, or on other terms")]
    Context,
    /// This upload is in the sum already.
    #[error("this upload is in the sum already")]
    Repeated,
    /// The sum has as many uploads as it may, or says to have more or none.
    #[error("a sum on these terms is over 1 to {most} uploads")]
    Uploads {
        /// The most.
        most: u32,
    },
}

/// Why a sum was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Nothing was added.
    #[error("there is nothing in the sum")]
    Empty,
    /// The key is for another parameter set than the sum.
    #[error("the key is for another parameter set")]
    Key,
    /// What opens is no sum of that many updates in range.
    #[error("what opens is no sum of updates in range: a wrong key, or a damaged or altered sum")]
    NoSum,
}

/// A sum of uploads. It holds no secret, and the same memory whatever the number of uploads, but
/// for 32 bytes each.
pub struct Sum {
    packing: Packing,
    digest: Digest,
    seeds: BTreeSet<MaskSeed>,
    uploads: u32,
    /// For each block the sum of masks, then that of bodies.
    words: Vec<u64>,
}

impl Sum {
    /// An empty sum for a context.
    ///
    /// # Errors
    /// When the processor lacks AES instructions.
    pub fn new(packing: Packing, context: &[u8; 32]) -> Result<Self, Unsupported> {
        supported()?;
        let words = vec![0; 2 * packing.coefficients() as usize];
        let digest = packing.digest(context);
        Ok(Self { packing, digest, seeds: BTreeSet::new(), uploads: 0, words })
    }

    /// The uploads in it.
    pub fn uploads(&self) -> u32 {
        self.uploads
    }

    /// Adds an upload as [`crate::glwe::seal`] makes it.
    ///
    /// # Errors
    /// When it is malformed, for another sum, in it already, or one too many. The sum is then as
    /// before.
    pub fn add(&mut self, upload: &[u8]) -> Result<(), UploadError> {
        let mut reader = Reader::new(upload);
        if reader.digest("digest")? != self.digest.0 {
            return Err(UploadError::Context);
        }
        let masks = MaskSeed(reader.digest("seed")?);
        let bodies = reader.take(self.packing.bytes() as usize, "bodies")?;
        reader.end()?;
        if self.seeds.contains(&masks) {
            return Err(UploadError::Repeated);
        }
        self.uploads = self.within(self.uploads + 1)?;
        self.seeds.insert(masks);
        let set = self.packing.set();
        let list = LIST * set.degree();
        let parts = self.words.par_chunks_mut(2 * list).zip(bodies.par_chunks(8 * list));
        parts.enumerate().for_each(|(number, (sum, bodies))| {
            let bodies: Vec<u64> =
                bodies.as_chunks().0.iter().copied().map(u64::from_le_bytes).collect();
            let list = masks.list(set, number as u64, bodies);
            let whole = list.decompress_into_glwe_ciphertext_list();
            let terms = sum.iter_mut().zip(whole.as_ref());
            terms.for_each(|(sum, &term)| *sum = sum.wrapping_add(term));
        });
        Ok(())
    }

    fn within(&self, uploads: u32) -> Result<u32, UploadError> {
        let most = self.packing.sites();
        if (1..=most).contains(&uploads) { Ok(uploads) } else { Err(UploadError::Uploads { most }) }
    }

    /// The bytes by which it reaches the sites: digest, number of uploads, words.
    pub fn encode(&self) -> Vec<u8> {
        let mut header = Writer::default();
        header.raw(&self.digest.0).u32(self.uploads);
        with_words(header, &self.words)
    }

    /// Reads what [`Sum::encode`] wrote. Which uploads are in it is not known any more, only how many.
    ///
    /// # Errors
    /// When the bytes are malformed, for another context or packing, or of more uploads than sites.
    pub fn decode(packing: Packing, context: &[u8; 32], bytes: &[u8]) -> Result<Self, UploadError> {
        let mut reader = Reader::new(bytes);
        let digest = packing.digest(context);
        if reader.digest("digest")? != digest.0 {
            return Err(UploadError::Context);
        }
        let uploads = reader.u32("uploads")?;
        let words = reader.take(2 * packing.bytes() as usize, "words")?;
        reader.end()?;
        let words = words.as_chunks().0.iter().copied().map(u64::from_le_bytes).collect();
        let sum = Self { packing, digest, seeds: BTreeSet::new(), uploads, words };
        sum.within(uploads)?;
        Ok(sum)
    }
}

/// Opens a sum: the sums of the values, exactly.
///
/// # Errors
/// When the key is of another set, the sum is empty, or what opens cannot be such a sum.
pub fn open(key: &GroupKey, sum: &Sum) -> Result<Zeroizing<Vec<i64>>, OpenError> {
    let packing = sum.packing;
    let set = packing.set();
    if key.set() != set {
        return Err(OpenError::Key);
    }
    if sum.uploads == 0 {
        return Err(OpenError::Empty);
    }
    let list = LIST * set.degree();
    let opened = sum.words.par_chunks(2 * list).enumerate().map(|(number, words)| {
        let sealed = GlweCiphertextList::from_container(
            words,
            GlweSize(2),
            PolynomialSize(set.degree()),
            CiphertextModulus::new_native(),
        );
        let mut opened = Zeroizing::new(vec![0u64; words.len() / 2]);
        let mut plain = PlaintextList::from_container(&mut opened[..]);
        decrypt_glwe_ciphertext_list(&key.view(), &sealed, &mut plain);
        let room = opened.len() * packing.slots() as usize;
        let mut sums = Zeroizing::new(Vec::with_capacity(room));
        let first = (number * list) as u64;
        packing.unpack(sum.uploads, &opened, first, &mut sums).ok_or(OpenError::NoSum)?;
        Ok(sums)
    });
    let parts: Vec<Zeroizing<Vec<i64>>> = opened.collect::<Result<_, _>>()?;
    let mut sums = Zeroizing::new(Vec::with_capacity(packing.values() as usize));
    parts.iter().for_each(|part| sums.extend_from_slice(part));
    Ok(sums)
}
