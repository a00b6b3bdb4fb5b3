//! Sealing values, adding what is sealed, and opening a sum; block after block, within the cache.
//!
//! ```text
//!   seal    b = inverse(a ∘ ŝ) + e + m     a: mask of the block · ŝ: transformed key
//!   add     B = Σ b                        what is not a residue is refused
//!   open    Σ (m + e) = B − inverse(a ∘ Ŝ) as signed integers around zero
//! ```
//! Messages are integers, already multiplied by Δ; the caller rounds what is opened by Δ again.
//!
//! # Guarantee
//! What opens is exactly Σ (m + e) if that is at most [`Set::bound`] in magnitude.
//!
//! # Time
//! Apart from the sampler's rarest case ([`crate::rlwe::gaussian`]) no branch and no address depends on a
//! message, an error or a key, but for the refusal of a message that is too large.

mod kernels;

use privet_crypto::{Seed, Words};
use rayon::prelude::*;
use zeroize::Zeroizing;

use crate::rlwe::backend::Backend;
use crate::rlwe::gaussian;
use crate::rlwe::key::{Image, Key, KeySum};
use crate::rlwe::mask::Mask;
use crate::rlwe::ring::{Ring, RingError, Set};
pub(crate) use kernels::within;
use kernels::{add_messages, add_residues, centre, combine, subtract_from};

/// Seals the upload of one site for one round. It owns the one-time key, and seals each block once.
pub struct Sealer<'r> {
    blocks: SealedBlocks<'r>,
    next: u64,
    scratch: Scratch,
}

/// What sealing a block reads.
struct SealedBlocks<'r> {
    ring: &'r Ring,
    mask: Mask,
    key: Image,
    errors: Seed,
}

impl<'r> Sealer<'r> {
    /// A sealer for a context, with a key of its own, and a seed for the errors that nothing else
    /// uses.
    ///
    /// # Panics
    /// If the key was drawn for a ring of another degree.
    pub fn new(ring: &'r Ring, context: &[u8; 32], key: Key, errors: Seed) -> Self {
        let (mask, key) = (Mask::new(ring.set(), context), Image::of(ring, &key));
        let blocks = SealedBlocks { ring, mask, key, errors };
        Self { blocks, next: 0, scratch: Scratch::new(ring.set()) }
    }

    /// Seals the next messages into the next blocks: as many as `out` has. The last is filled up
    /// with zeros.
    ///
    /// # Errors
    /// When `out` is not as long as the blocks of the messages, or a message is larger than
    /// [`Set::bound`]. Then `out` is useless, and its blocks are not sealed again.
    pub fn seal(&mut self, messages: &[i64], out: &mut [u32]) -> Result<(), RingError> {
        let first = self.advance(messages, out)?;
        let set = self.blocks.ring.set();
        let parts = messages.chunks(set.degree()).zip(out.chunks_exact_mut(set.block()));
        (first..).zip(parts).try_for_each(|(block, (messages, out))| {
            self.blocks.seal(block, messages, out, &mut self.scratch)
        })
    }

    /// The same, on all threads of the pool. The result is the same.
    ///
    /// # Errors
    /// As for [`Sealer::seal`].
    pub fn par_seal(&mut self, messages: &[i64], out: &mut [u32]) -> Result<(), RingError> {
        let first = self.advance(messages, out)?;
        let set = self.blocks.ring.set();
        let parts = messages.par_chunks(set.degree()).zip(out.par_chunks_exact_mut(set.block()));
        parts.enumerate().try_for_each_init(
            || Scratch::new(set),
            |scratch, (block, (messages, out))| {
                self.blocks.seal(first + block as u64, messages, out, scratch)
            },
        )
    }

    /// Claims the blocks for messages.
    fn advance(&mut self, messages: &[i64], out: &[u32]) -> Result<u64, RingError> {
        let set = self.blocks.ring.set();
        let blocks = set.blocks(messages.len());
        whole(out.len(), blocks * set.block())?;
        let first = self.next;
        self.next += blocks as u64;
        Ok(first)
    }
}

impl SealedBlocks<'_> {
    fn seal(
        &self,
        block: u64,
        messages: &[i64],
        out: &mut [u32],
        scratch: &mut Scratch,
    ) -> Result<(), RingError> {
        let (ring, backend, bound) = (self.ring, self.ring.backend(), self.ring.set().bound());
        if !within(backend, messages, bound) {
            return Err(RingError::Message { bound });
        }
        let Scratch { values, errors, padded } = scratch;
        draw_errors(ring, &self.errors, block, errors);
        let messages = if messages.len() < padded.len() {
            padded.fill(0);
            padded[..messages.len()].copy_from_slice(messages);
            padded
        } else {
            messages
        };
        for (prime, out) in out.chunks_exact_mut(ring.set().degree()).enumerate() {
            let ntt = &ring.transforms()[prime];
            self.mask.fill(ring.backend(), block, prime, values);
            ntt.inverse_of_product(backend, values, &self.key.factors()[prime], out);
            add_messages(backend, ntt.modulus, bound, messages, errors, out);
        }
        Ok(())
    }
}

/// The errors of a block.
pub(crate) fn draw_errors(ring: &Ring, seed: &Seed, block: u64, errors: &mut [i8]) {
    gaussian::fill(ring.backend(), &mut Words::new(&seed.derive(ERRORS, block)), errors);
}

/// The use of the seeds of errors, one for each block.
const ERRORS: &str = "privet/he/1/error";

/// Opens the sum of uploads.
pub struct Opener<'r> {
    blocks: OpenedBlocks<'r>,
    room: Room,
}

/// What opening a block reads.
struct OpenedBlocks<'r> {
    ring: &'r Ring,
    mask: Mask,
    key: KeySum,
}

impl<'r> Opener<'r> {
    /// An opener of the context's sum, with the sum of the keys of just the uploads in it.
    /// The sum must be of this ring's set; else opening panics.
    pub fn new(ring: &'r Ring, context: &[u8; 32], key: KeySum) -> Self {
        let mask = Mask::new(ring.set(), context);
        Self { blocks: OpenedBlocks { ring, mask, key }, room: Room::new(ring.set()) }
    }

    /// Writes sums of messages and errors of blocks from number `first` on. There may be fewer
    /// `sums` than the last block holds: the rest is padding.
    ///
    /// # Errors
    /// When `sealed` is not as long as the blocks of `sums`, or holds what is no residue. Then
    /// `sums` is useless.
    pub fn open(&mut self, first: u64, sealed: &[u32], sums: &mut [i64]) -> Result<(), RingError> {
        let set = self.check(sealed, sums)?;
        let blocks = sealed.chunks_exact(set.block()).zip(sums.chunks_mut(set.degree()));
        (first..).zip(blocks).try_for_each(|(block, (sealed, sums))| {
            self.blocks.open(block, sealed, sums, &mut self.room)
        })
    }

    /// The same, on all threads of the pool.
    ///
    /// # Errors
    /// As for [`Opener::open`].
    pub fn par_open(&self, first: u64, sealed: &[u32], sums: &mut [i64]) -> Result<(), RingError> {
        let set = self.check(sealed, sums)?;
        sealed
            .par_chunks_exact(set.block())
            .zip(sums.par_chunks_mut(set.degree()))
            .enumerate()
            .try_for_each_init(
                || Room::new(set),
                |scratch, (block, (sealed, sums))| {
                    self.blocks.open(first + block as u64, sealed, sums, scratch)
                },
            )
    }

    fn check(&self, sealed: &[u32], sums: &[i64]) -> Result<Set, RingError> {
        let set = self.blocks.ring.set();
        whole(sealed.len(), set.blocks(sums.len()) * set.block())?;
        Ok(set)
    }
}

impl OpenedBlocks<'_> {
    fn open(
        &self,
        block: u64,
        sealed: &[u32],
        sums: &mut [i64],
        scratch: &mut Room,
    ) -> Result<(), RingError> {
        let (ring, degree) = (self.ring, self.ring.set().degree());
        let Room { values, products, padded } = scratch;
        for (prime, products) in products.chunks_exact_mut(degree).enumerate() {
            let ntt = &ring.transforms()[prime];
            self.mask.fill(ring.backend(), block, prime, values);
            let key = &self.key.image().factors()[prime];
            ntt.inverse_of_product(ring.backend(), values, key, products);
            let sealed = &sealed[prime * degree..][..degree];
            if !subtract_from(ring.backend(), ntt.modulus, sealed, products) {
                return Err(RingError::Residue);
            }
        }
        let full = sums.len() == degree;
        let into = if full { &mut *sums } else { &mut padded[..] };
        match ring.transforms() {
            [one] => centre(ring.backend(), one.modulus.p, products, into),
            [one, two, ..] => {
                let (a, b) = products.split_at(degree);
                combine(ring.backend(), one.modulus, two.modulus, a, b, into);
            }
            [] => {}
        }
        if !full {
            sums.copy_from_slice(&padded[..sums.len()]);
        }
        Ok(())
    }
}

/// Adds an upload to the sum of others.
///
/// # Errors
/// When lengths differ or are not those of whole blocks, or when the upload holds what is no
/// residue. Then `sum` is as before.
pub fn add_into(ring: &Ring, sum: &mut [u32], upload: &[u32]) -> Result<(), RingError> {
    let set = ring.set();
    whole(upload.len(), sum.len())?;
    whole(sum.len(), sum.len().next_multiple_of(set.block()))?;
    let moduli = || ring.transforms().iter().map(|ntt| ntt.modulus).cycle();
    let parts = sum.chunks_exact_mut(set.degree()).zip(upload.chunks_exact(set.degree()));
    let refused = parts
        .zip(moduli())
        .position(|((sum, upload), m)| !add_residues(ring.backend(), m, upload, sum));
    let Some(refused) = refused else { return Ok(()) };
    // The part refused is not added: take back those before it.
    let parts = sum.chunks_exact_mut(set.degree()).zip(upload.chunks_exact(set.degree()));
    for ((sum, upload), m) in parts.zip(moduli()).take(refused) {
        for (sum, &upload) in sum.iter_mut().zip(upload) {
            *sum = m.sub(*sum, upload);
        }
    }
    Err(RingError::Residue)
}

pub(crate) fn whole(given: usize, expected: usize) -> Result<(), RingError> {
    match given == expected {
        true => Ok(()),
        false => Err(RingError::Length { given, expected }),
    }
}

/// Room to seal a block. Products with a key are as secret as the key.
struct Scratch {
    values: Zeroizing<Vec<u32>>,
    errors: Zeroizing<Vec<i8>>,
    padded: Zeroizing<Vec<i64>>,
}

impl Scratch {
    fn new(set: Set) -> Self {
        Self {
            values: Zeroizing::new(vec![0; set.degree()]),
            errors: Zeroizing::new(vec![0; set.degree()]),
            padded: Zeroizing::new(vec![0; set.degree()]),
        }
    }
}

/// Room to open a block. The sum of keys is no secret any more.
struct Room {
    values: Vec<u32>,
    products: Vec<u32>,
    padded: Vec<i64>,
}

impl Room {
    fn new(set: Set) -> Self {
        let (degree, block) = (set.degree(), set.block());
        Self { values: vec![0; degree], products: vec![0; block], padded: vec![0; degree] }
    }
}

/// Whether a backend seals, adds and opens a block as the scalar one does.
pub(crate) fn agrees(backend: Backend) -> bool {
    let run = |set: Set, backend| {
        let ring = Ring::with(set, backend);
        let key = Key::sample(&ring, &mut Words::new(&Seed::from_bytes([1; 32])));
        let sum: Vec<i32> = key.coefficients().iter().map(|&x| 2 * i32::from(x)).collect();
        let mut sealer = Sealer::new(&ring, &[2; 32], key, Seed::from_bytes([3; 32]));
        let half = set.bound() / 2 - 2 * i64::from(gaussian::TAIL);
        let messages =
            (0..set.degree() as i64).map(|i| (half - i * (half >> 12)) * (1 - 2 * (i % 2)));
        let messages: Vec<i64> = messages.collect();
        let mut sealed = vec![0; set.block()];
        sealer.seal(&messages, &mut sealed)?;
        let mut both = sealed.clone();
        add_into(&ring, &mut both, &sealed)?;
        let mut sums = vec![0; set.degree()];
        Opener::new(&ring, &[2; 32], KeySum::new(&ring, 2, &sum)?).open(0, &both, &mut sums)?;
        Ok::<_, RingError>((sealed, both, sums))
    };
    [Set::Narrow, Set::Wide].into_iter().all(|set| {
        let (ours, scalar) = (run(set, backend), run(set, Backend::Scalar));
        ours.is_ok() && ours == scalar
    })
}

#[cfg(test)]
mod tests;
