//! Which digests came before.

/// A hash table of their places, by the first 32 bits of each.
///
/// A slot holds those bits and below them the place plus one. They are enough to find its slot in a
/// larger table, and to look at a digest only where it is all but sure to be the same.
#[derive(Debug)]
pub(super) struct Seen {
    /// 2^`bits`; 0 is a free slot.
    slots: Vec<u64>,
    bits: u32,
}

impl Seen {
    pub(super) fn new() -> Self {
        Self::of(10)
    }

    fn of(bits: u32) -> Self {
        Self { slots: vec![0; 1 << bits], bits }
    }

    /// Brings the slots of digests that come next near, all at once: to wait for memory at every one
    /// took a third of the time of reading a file.
    pub(super) fn expect<'a>(&self, digests: impl Iterator<Item = &'a [u8; 32]>) {
        let slots = digests.filter_map(|digest| {
            let prefix = u64::from(prefix(digest)) << 32;
            self.slots.get((prefix >> (64 - self.bits)) as usize)
        });
        std::hint::black_box(slots.fold(0, |all, slot| all ^ slot));
    }

    /// Appends a digest that is not among `digests`, which are all that this table was given, and at
    /// most `u32::MAX`; whether it did.
    pub(super) fn insert(&mut self, digests: &mut Vec<[u8; 32]>, digest: [u8; 32]) -> bool {
        // More digests than slots there never are, so that a search ends.
        if digests.len() >= self.slots.len() / 4 * 3 && self.bits < 32 {
            let mut larger = Self::of(self.bits + 1);
            for &slot in self.slots.iter().filter(|slot| **slot != 0) {
                larger.place(slot, |_| false);
            }
            *self = larger;
        }
        let slot = u64::from(prefix(&digest)) << 32 | (digests.len() as u64 + 1);
        let new = self.place(slot, |place| digests.get(place) == Some(&digest));
        if new {
            digests.push(digest);
        }
        new
    }

    /// Fills the next free slot, unless there is one before it with these bits and the same digest.
    fn place(&mut self, new: u64, same: impl Fn(usize) -> bool) -> bool {
        let mut at = (new >> (64 - self.bits)) as usize;
        loop {
            let Some(slot) = self.slots.get_mut(at) else {
                at = 0;
                continue;
            };
            if *slot == 0 {
                *slot = new;
                return true;
            }
            if *slot >> 32 == new >> 32 && same((*slot as u32).wrapping_sub(1) as usize) {
                return false;
            }
            at += 1;
        }
    }
}

fn prefix(digest: &[u8; 32]) -> u32 {
    digest.first_chunk().copied().map_or(0, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn it_is_a_set(numbers in proptest::collection::vec(0u16..3000, 0..6000), shift in 0u32..49) {
            let (mut seen, mut digests, mut set) = (Seen::new(), Vec::new(), HashSet::new());
            let mut first = Vec::new();
            for number in numbers {
                let mut digest = [0; 32];
                // Some shifts leave the first bits, or all of them, the same for many.
                digest[..8].copy_from_slice(&(u64::from(number) << shift).to_be_bytes());
                digest[31] = number as u8;
                let new = seen.insert(&mut digests, digest);
                prop_assert_eq!(new, set.insert(digest));
                first.extend(new.then_some(digest));
            }
            prop_assert_eq!(digests, first);
        }
    }

    #[test]
    fn equal_prefixes_are_no_equal_digests() {
        let (mut seen, mut digests) = (Seen::new(), Vec::new());
        for i in 0..=255 {
            let mut digest = [7; 32];
            digest[8] = i;
            assert!(seen.insert(&mut digests, digest));
            assert!(!seen.insert(&mut digests, digest));
        }
        assert_eq!(digests.len(), 256);
    }
}
