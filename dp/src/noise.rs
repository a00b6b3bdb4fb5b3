//! Exact discrete noise, fast.
//!
//! ```text
//!   OS ─▶ Session (one release) ─▶ seeds of chunks ─▶ words ─┐
//!   Law(σ) ─▶ Table ──────────────────────────────────────────┴▶ trials ─┬─ squeeze: accepted
//!                                                                        └─ open: U < a(x)? exactly
//! ```
//! **What is drawn.** A trial chooses a bin with chance g/M (g its tokens, M all), and of a strip's
//! 2^b integers one x; it accepts with a(x) = S·ρ(x)/g, ρ = exp(−y). So x comes out with
//! chance (g/M)·2^-b·(S·ρ(x)/g) = (S·2^-b/M)·ρ(x): the same constant for every x of every strip.
//! The bin of the outside chooses a side (½), a shell j (2^-(j+1)) and in it one of 2^w integers,
//! and accepts with S·2^(j+2+w−b)·ρ(x)/g; again (S·2^-b/M)·ρ(x). Hence what is accepted is
//! distributed as ρ/Σρ, on *all* integers, provided that
//!
//! 1. the tokens of a table add up ([`table`] asserts it when it is built);
//! 2. no a(x) is above one (a strip has at least S·max ρ tokens, rounded up with a margin of
//!    2^-40 above the floats' 2^-43; so does the outside's first shell, and ρ halves from
//!    shell to shell at least);
//! 3. a squeeze accepts only where U < a(x) for each x of its strip (rounded down, same margin);
//! 4. every other decision U < a(x) is exact ([`decide`]);
//! 5. column, token, U and offset are disjoint bits of independent words ([`kernel`]).
//!
//! Exact means: relative to ideal random bits. Ours are a cipher's, so the guarantee is a
//! computational one (Mironov et al. 2009, SIM-CDP).
//!
//! **Not constant time.** About one draw in a hundred takes the long way, and which ones depends on
//! the noise; so does the place in the table that a draw reads. Whole blocks of 2048 are drawn,
//! however few are wanted, and no time is ever put into a message. What an attacker on the same
//! machine could see of it is not hidden.

mod decide;
mod kernel;
mod law;
mod table;

use std::sync::{Arc, Mutex, PoisonError};

use privet_core::filter::Cancel;
use privet_core::{Code, Reason};
use privet_crypto::{Seed, Words};
use rayon::prelude::*;
use zeroize::{Zeroize, Zeroizing};

pub use law::Law;
pub use privet_crypto::Backend;

use decide::{Factor, RADIUS, Uniform, below};
use kernel::{BLOCK, Block};
use table::Table;

/// Draws that share a seed. Even, so that trials can be run in whole blocks.
const CHUNK: usize = 16 * BLOCK;

/// The samplers of a filter's last releases: the next one's have the same widths.
#[derive(Default)]
pub(crate) struct Samplers(Mutex<Vec<Arc<Sampler>>>);

impl Samplers {
    /// As many as one filter needs at a time.
    const KEPT: usize = 2;

    /// The sampler of a law.
    pub(crate) fn of(&self, law: Law) -> Result<Arc<Sampler>, Reason> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sampler) = kept.iter().find(|sampler| sampler.law() == law) {
            return Ok(sampler.clone());
        }
        let sampler = Arc::new(Sampler::new(law)?);
        kept.insert(0, sampler.clone());
        kept.truncate(Self::KEPT);
        Ok(sampler)
    }
}

/// Draws from a law.
pub struct Sampler {
    law: Law,
    table: Table,
    backend: Backend,
    radius: f64,
}

impl Sampler {
    /// A sampler of a law whose σ or scale is within 2^-4 … 2^40 lattice units.
    ///
    /// # Errors
    /// When it is not.
    pub fn new(law: Law) -> Result<Self, Reason> {
        if !(2f64.powi(-4)..=2f64.powi(40)).contains(&law.spread()) {
            let detail = "noise must be between 2^-4 and 2^40 lattice units wide";
            return Err(Reason::new(Code::LatticeTooCoarse, detail));
        }
        let backend = kernel::fastest();
        Ok(Self { law, table: Table::new(law), backend, radius: RADIUS })
    }

    /// The same, run by other instructions; by none if the processor does not have them.
    pub fn on(mut self, backend: Backend) -> Option<Self> {
        self.backend = backend;
        backend.available().then_some(self)
    }

    /// What it draws from.
    pub fn law(&self) -> Law {
        self.law
    }

    /// Name of the instructions that trials run on.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Draws a block.
    fn draw(&self, streams: &mut Streams, out: &mut Block<i64>) {
        let Streams { trials, decisions, words, offsets } = streams;
        trials.fill(&mut words[..]);
        // A word has 16 bits for the place within a strip; wider strips take another word.
        let offsets = if self.table.strip_bits > 16 {
            trials.fill(&mut offsets[..]);
            offsets
        } else {
            &*words
        };
        let mut open = [0; BLOCK / 8];
        kernel::run_on(self.backend, &self.table, words, offsets, out, &mut open);
        for (group, lanes) in open.as_chunks::<8>().0.iter().enumerate() {
            let mut lanes = u64::from_le_bytes(*lanes);
            while lanes != 0 {
                let at = group * 64 + lanes.trailing_zeros() as usize;
                lanes &= lanes - 1;
                out[at] = self.settle(words[at], offsets[at], decisions);
            }
        }
        open.zeroize();
    }

    /// Ends a trial that the squeeze left open; if it is rejected, tries again until one is not.
    #[cold]
    fn settle(&self, mut word: u64, mut offset: u64, more: &mut Words) -> i64 {
        loop {
            let (bin, accepted) = kernel::trial(&self.table, word);
            let x = if bin == self.table.outside() as u64 {
                self.outside(more)
            } else {
                let x = kernel::integer(&self.table, bin, offset);
                let accepted = accepted || {
                    let uniform = Uniform::extend((word >> 16) as u16, more);
                    self.accept(uniform, x, bin as usize, 0, more)
                };
                accepted.then_some(x)
            };
            if let Some(x) = x {
                return x;
            }
            word = more.word();
            offset = if self.table.strip_bits > 16 { more.word() } else { word };
        }
    }

    /// A trial outside the strips.
    fn outside(&self, more: &mut Words) -> Option<i64> {
        let width = self.table.shell_bits;
        let word = more.word();
        let negative = word >> 63 == 1;
        let offset = (word & ((1 << width) - 1)) as i64;
        let mut shell = 0u32;
        loop {
            let coins = more.word();
            shell += coins.trailing_ones();
            if coins != u64::MAX {
                break;
            }
        }
        let edge = self.table.strips << self.table.strip_bits;
        let x = edge + (i64::from(shell) << width) + offset;
        let x = if negative { -1 - x } else { x };
        let power = shell + 2 + width - self.table.strip_bits;
        let uniform = Uniform::new(more);
        self.accept(uniform, x, self.table.outside(), power, more).then_some(x)
    }

    fn accept(&self, uniform: Uniform, x: i64, bin: usize, power: u32, more: &mut Words) -> bool {
        let factor = Factor { scale: self.table.scale, power, tokens: self.table.tokens[bin] };
        below(uniform, factor, self.law, x, self.radius, more)
    }
}

/// The randomness of one chunk, and room for a block of it; erased when dropped.
struct Streams {
    trials: Words,
    decisions: Words,
    words: Box<Zeroizing<Block<u64>>>,
    offsets: Box<Zeroizing<Block<u64>>>,
}

/// The noise of one release. It has its own seed from the operating system; each chunk that it
/// hands out is drawn from a seed of its own, and none is handed out twice.
///
/// ```compile_fail,E0599
/// let session = privet_dp::noise::Session::open().unwrap();
/// let again = session.clone(); // noise is not drawn twice from one seed
/// ```
pub struct Session {
    master: Seed,
    next: u64,
    words: fn(&Seed) -> Words,
}

impl Session {
    /// A session with a new seed.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn open() -> Result<Self, Reason> {
        let master =
            Seed::from_os().map_err(|error| Reason::new(Code::StorageFailed, error.to_string()))?;
        Ok(Self { master, next: 0, words: Words::new })
    }

    /// The same by the cipher for processors without AES instructions, wherever this runs: to measure
    /// what those reach.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn portable() -> Result<Self, Reason> {
        Ok(Self { words: Words::chacha, ..Self::open()? })
    }

    #[cfg(test)]
    pub(crate) fn seeded(seed: [u8; 32]) -> Self {
        Self { master: Seed::from_bytes(seed), next: 0, words: Words::new }
    }

    fn streams(&self, chunk: u64) -> Streams {
        let zeros = || Box::new(Zeroizing::new([0; BLOCK]));
        Streams {
            trials: (self.words)(&self.master.derive("privet/dp/noise/trials", chunk)),
            decisions: (self.words)(&self.master.derive("privet/dp/noise/decisions", chunk)),
            words: zeros(),
            offsets: zeros(),
        }
    }

    /// Adds a draw to each value. What would leave the range of integers stays at its end: that is
    /// post-processing, and costs utility, never privacy.
    ///
    /// # Errors
    /// When somebody said "stop"; some values have noise then.
    pub fn add(
        &mut self,
        sampler: &Sampler,
        values: &mut [i64],
        cancel: &Cancel,
    ) -> Result<(), Reason> {
        let first = self.next;
        self.next += values.len().div_ceil(CHUNK) as u64;
        let session = &*self;
        values.par_chunks_mut(CHUNK).enumerate().try_for_each(|(chunk, values)| {
            cancel.check()?;
            let mut streams = session.streams(first + chunk as u64);
            let mut noise = Box::new(Zeroizing::new([0; BLOCK]));
            for block in values.chunks_mut(BLOCK) {
                sampler.draw(&mut streams, &mut noise);
                add(block, &noise[..]);
            }
            Ok(())
        })
    }
}

/// Adds, staying within the range of integers. The sums are made four at a time where none leaves
/// the range: almost always.
fn add(values: &mut [i64], noise: &[i64]) {
    let overflow = values.iter().zip(noise).fold(0, |overflow, (&value, &noise)| {
        let sum = value.wrapping_add(noise);
        overflow | ((value ^ sum) & (noise ^ sum))
    });
    let pairs = values.iter_mut().zip(noise);
    if overflow < 0 {
        pairs.for_each(|(value, &noise)| *value = value.saturating_add(noise));
    } else {
        pairs.for_each(|(value, &noise)| *value = value.wrapping_add(noise));
    }
}

#[cfg(test)]
mod tests;
