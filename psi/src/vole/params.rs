//! Sizes of everything, from the number of items alone: what both sides compute before a byte is read.
//!
//! ```text
//!   n items ─▶ bins of at most B ─▶ OKVS of s + g cells a bin ─▶ chunks of 32 bins ─▶ m cells
//!   m ─▶ t trees of `leaves` leaves ─▶ t · depth oblivious transfers
//! ```
//! An OKVS may fail to encode and a bin may overflow; both are priced at 2^-41 over all bins of a run. Neither
//! gives a wrong result: it is seen, and tried again.

use privet_crypto::{Digest, Transcript};

/// What a chance of failure over a whole run is at most: 2^-λ, half of it for each cause.
pub const STATISTICAL: u32 = 40;
/// Computational security in bits.
pub const COMPUTATIONAL: u32 = 128;
/// Most items of a set.
pub const MAX_ITEMS: u64 = u32::MAX as u64;
/// A set is padded to at least so many items: fits of the OKVS are not trusted below.
pub const MIN_ITEMS: u64 = 1024;
const BIN_ITEMS: u64 = 1 << 15;
const CHUNK_BINS: u64 = 32;

/// How far the code is from the attacks that are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Assurance {
    /// Expand-convolute 7 × 24 at minimum-distance ratio 0.15.
    Standard,
    /// 21 × 24 at ratio 0.10, below what a random code has (Gilbert–Varshamov, 0.110).
    Conservative,
}

impl Assurance {
    /// Entries that the expander adds.
    pub const fn weight(self) -> usize {
        match self {
            Assurance::Standard => 7,
            Assurance::Conservative => 21,
        }
    }

    /// Noise positions: a test of relative weight δ sees a bias of (1 − 2δ)^t.
    pub fn trees(self) -> u64 {
        let distance = match self {
            Assurance::Standard => 0.15_f64,
            Assurance::Conservative => 0.10,
        };
        let least = f64::from(COMPUTATIONAL) / -libm::log2(1.0 - 2.0 * distance);
        (least as u64).next_multiple_of(8)
    }
}

/// Sizes of the OKVS of one bin, PaXoS of weight 3 with dense columns of GF(2^128).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bin {
    /// Most items.
    pub items: u64,
    /// Sparse cells.
    pub sparse: u64,
    /// Dense cells.
    pub dense: u64,
}

impl Bin {
    /// Sizes with which encoding fails with chance 2^-`bits`. The fits are those of RR22 (eprint 2022/320).
    pub fn of(items: u64, bits: f64) -> Self {
        // Of one library: every site must come to the same.
        let weight = libm::log2(3.0);
        let slope = libm::exp2(
            0.555 * libm::log2(items as f64) + 0.093 * weight * weight * weight
                - 1.01 * weight * weight
                + 2.925 * weight
                - 0.133,
        );
        let expansion = (bits + 9.2 + 1.223 * slope) / slope;
        let sparse = (expansion * items as f64) as u64;
        let dense = (bits / libm::log2(expansion * items as f64)) as u64;
        Self { items, sparse, dense: dense.max(2) }
    }

    /// Cells.
    pub fn cells(&self) -> u64 {
        self.sparse + self.dense
    }
}

/// Bins of the OKVS of a whole set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bins {
    /// How many.
    pub count: u64,
    /// Each.
    pub each: Bin,
}

impl Bins {
    /// Bins for so many items, where `2^extra` OKVS are encoded in a run.
    pub fn of(items: u64, extra: u32) -> Self {
        let items = items.max(MIN_ITEMS);
        let count = items.div_ceil(BIN_ITEMS);
        let half = f64::from(STATISTICAL + 1 + extra) + libm::log2(count as f64);
        let each = if count == 1 { items } else { capacity(items, count, half) };
        Self { count, each: Bin::of(each, half) }
    }

    /// Bins of each chunk, in order.
    pub fn chunks(&self) -> impl Iterator<Item = std::ops::Range<u64>> + use<> {
        let count = self.count;
        (0..count).step_by(CHUNK_BINS as usize).map(move |at| at..count.min(at + CHUNK_BINS))
    }

    /// Cells of all of them.
    pub fn cells(&self) -> u64 {
        self.count * self.each.cells()
    }
}

/// The least B with Pr[Binomial(n, 1/bins) > B] ≤ 2^-`bits`.
fn capacity(items: u64, bins: u64, bits: f64) -> u64 {
    let (n, p) = (items as f64, 1.0 / bins as f64);
    let term = |k: f64| {
        let choose = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
        choose + k * libm::log(p) + (n - k) * libm::log(1.0 - p)
    };
    // Above the mean each term is smaller than the one before by a growing factor.
    let tail = |above: u64| {
        let first = term(above as f64 + 1.0);
        let (mut sum, mut k) = (0.0, above + 1);
        while k <= items {
            let ratio = libm::exp(term(k as f64) - first);
            sum += ratio;
            if ratio < 1e-12 {
                break;
            }
            k += 1;
        }
        (first + libm::log(sum)) / std::f64::consts::LN_2
    };
    let (mut low, mut high) = (items / bins, items);
    while low < high {
        let middle = low.midpoint(high);
        if middle < items && tail(middle) > -bits { low = middle + 1 } else { high = middle }
    }
    high
}

/// Trees of one VOLE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trees {
    /// How many.
    pub count: u64,
    /// Leaves of each, even.
    pub leaves: u64,
    /// Levels below the root.
    pub depth: u32,
}

impl Trees {
    /// Trees whose leaves are encoded to so many cells, at rate ½.
    pub fn of(cells: u64, assurance: Assurance) -> Self {
        let count = assurance.trees();
        let leaves = (2 * cells).div_ceil(count).next_multiple_of(2).max(4);
        Self { count, leaves, depth: leaves.next_power_of_two().trailing_zeros() }
    }

    /// Nodes of a level, the root being level 0. Every node that is kept has its sibling.
    pub fn width(&self, level: u32) -> u64 {
        match level {
            0 => 1,
            _ => self.leaves.div_ceil(1 << (self.depth - level)).next_multiple_of(2),
        }
    }

    /// Leaves of all trees.
    pub fn length(&self) -> u64 {
        self.count * self.leaves
    }

    /// Oblivious transfers, one for each level of each tree.
    pub fn transfers(&self) -> u64 {
        self.count * u64::from(self.depth)
    }
}

/// A run: its bins, in chunks of which each has a VOLE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// All bins.
    pub bins: Bins,
    /// How the code is chosen.
    pub assurance: Assurance,
    /// Whether cheating is looked for.
    pub malicious: bool,
}

impl Sizes {
    /// Sizes for a receiver's set of `items`.
    pub fn of(items: u64, assurance: Assurance, malicious: bool) -> Self {
        Self { bins: Bins::of(items, 0), assurance, malicious }
    }

    /// Bins of each chunk, in order.
    pub fn chunks(&self) -> impl Iterator<Item = std::ops::Range<u64>> + use<> {
        self.bins.chunks()
    }

    /// Trees of a chunk of so many bins.
    pub fn trees(&self, bins: u64) -> Trees {
        Trees::of(bins * self.bins.each.cells(), self.assurance)
    }

    /// Bytes that both sides send: base transfers, what each chunk is set up with, and the receiver's cells.
    pub fn bytes(&self) -> u64 {
        let chunk = |bins: std::ops::Range<u64>| {
            let trees = self.trees(bins.end - bins.start);
            let columns = 16 * trees.transfers().next_multiple_of(128);
            let products = 128 * 16 * trees.count;
            columns + products + 16 * trees.count * (2 * u64::from(trees.depth) + 1)
        };
        256 * 96 + self.chunks().map(chunk).sum::<u64>() + 16 * self.bins.cells()
    }

    /// Names everything that both sides must have chosen alike.
    pub fn digest(&self) -> Digest {
        let Bins { count, each } = self.bins;
        [count, each.items, each.sparse, each.dense, self.assurance.weight() as u64]
            .into_iter()
            .chain([self.assurance.trees(), u64::from(self.malicious)])
            .fold(Transcript::new("privet/psi/vole/params/v1"), Transcript::number)
            .finish()
    }
}

/// Bits of a tag, so that in all pairs of two sets no two items share one but with chance 2^-40.
pub fn tag_bits(own: u64, peer: u64) -> u32 {
    let log = |n: u64| n.max(1).next_power_of_two().trailing_zeros();
    STATISTICAL + log(own) + log(peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the specification: bins, capacity, cells, leaves, depth, length, transfers.
    #[test]
    fn sizes_are_those_of_the_table() {
        for (log, count, items, cells, leaves, depth, length, transfers) in [
            (10, 1, 1024, 1472, 12, 4, 2976, 992),
            (14, 1, 16_384, 20_785, 168, 8, 41_664, 1984),
            (16, 2, 33_694, 84_516, 682, 10, 169_136, 2480),
            (20, 32, 34_132, 1_372_224, 11_068, 14, 2_744_864, 3472),
        ] {
            let sizes = Sizes::of(1 << log, Assurance::Standard, false);
            let trees = sizes.trees(sizes.bins.count);
            assert_eq!((sizes.bins.count, sizes.bins.each.items), (count, items), "2^{log}");
            assert_eq!(sizes.bins.cells(), cells, "2^{log}");
            assert_eq!((trees.count, trees.leaves, trees.depth), (248, leaves, depth));
            assert_eq!((trees.length(), trees.transfers()), (length, transfers));
        }
        let large = Sizes::of(1 << 24, Assurance::Standard, false);
        assert_eq!((large.chunks().count(), large.bins.each.items), (16, 34_217));
        assert_eq!(large.bins.cells(), 22_052_352);
        // Base transfers, IKNP, products, trees and cells, as the table adds them up.
        let all = 24_576 + 57_344 + 507_904 + 115_072 + 21_955_584;
        assert_eq!(Sizes::of(1 << 20, Assurance::Standard, false).bytes(), all);
        let careful = Sizes::of(1 << 20, Assurance::Conservative, false).trees(32);
        assert_eq!((careful.count, careful.leaves, careful.depth), (400, 6862, 13));
        assert_eq!((careful.length(), careful.transfers()), (2_744_800, 5200));
    }

    #[test]
    fn sizes_grow_with_the_set_and_have_a_floor() {
        let cells = |n| Bins::of(n, 0).cells();
        assert_eq!(cells(1), cells(1024));
        let mut last = 0;
        for n in (10..24).flat_map(|log| [1 << log, 3 << (log - 1)]) {
            assert!(cells(n) > last, "{n}");
            assert!(Bins::of(n, 0).each.dense >= 2);
            last = cells(n);
        }
        assert!(Bins::of(1 << 20, 3).cells() > cells(1 << 20));
    }

    #[test]
    fn a_digest_tells_sizes_apart() {
        let of = |n, assurance, malicious| Sizes::of(n, assurance, malicious).digest();
        let one = of(5000, Assurance::Standard, false);
        assert_eq!(one, of(5000, Assurance::Standard, false));
        assert_ne!(one, of(5001, Assurance::Standard, false));
        assert_ne!(one, of(5000, Assurance::Conservative, false));
        assert_ne!(one, of(5000, Assurance::Standard, true));
    }

    #[test]
    fn tags_are_long_enough_for_all_pairs() {
        assert_eq!((tag_bits(1 << 20, 1 << 20), tag_bits(1, 1), tag_bits(3, 5)), (80, 40, 45));
    }
}
