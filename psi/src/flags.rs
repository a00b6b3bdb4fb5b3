//! One bit for each of many places.

/// Places that are set, eight to a byte, the first in its lowest bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    bytes: Vec<u8>,
    len: u64,
}

impl Flags {
    /// So many places, none of them set.
    pub fn new(len: u64) -> Self {
        Self { bytes: vec![0; len.div_ceil(8) as usize], len }
    }

    /// Places as they were written; `None` for other bytes than so many places have.
    pub(crate) fn from_bytes(bytes: Vec<u8>, len: u64) -> Option<Self> {
        let whole = bytes.len() as u64 == len.div_ceil(8);
        let beyond =
            bytes.last().is_some_and(|last| !len.is_multiple_of(8) && last >> (len % 8) != 0);
        (whole && !beyond).then_some(Self { bytes, len })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many places there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no place.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets a place, if there is such a one.
    pub fn set(&mut self, at: u64) {
        if at < self.len {
            self.bytes[(at / 8) as usize] |= 1 << (at % 8);
        }
    }

    /// Whether a place is set; one that is not there is not.
    pub fn get(&self, at: u64) -> bool {
        self.bytes.get((at / 8) as usize).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    }

    /// How many are set.
    pub fn count(&self) -> u64 {
        self.bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
    }
}

impl FromIterator<bool> for Flags {
    fn from_iter<T: IntoIterator<Item = bool>>(set: T) -> Self {
        let mut flags = Self { bytes: Vec::new(), len: 0 };
        for set in set {
            if flags.len.is_multiple_of(8) {
                flags.bytes.push(0);
            }
            flags.len += 1;
            if set {
                flags.set(flags.len - 1);
            }
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_set_and_written() {
        let mut flags = Flags::new(11);
        [0, 8, 10, 11, 99].into_iter().for_each(|at| flags.set(at));
        assert_eq!((flags.as_bytes(), flags.count(), flags.len()), (&[1, 5][..], 3, 11));
        assert!(flags.get(8) && !flags.get(9) && !flags.get(11) && !flags.get(99));
        assert_eq!(Flags::from_bytes(vec![1, 5], 11), Some(flags.clone()));
        assert_eq!((0..11).map(|at| [0, 8, 10].contains(&at)).collect::<Flags>(), flags);
        for bad in [vec![1, 13], vec![1], vec![1, 5, 0]] {
            assert_eq!(Flags::from_bytes(bad, 11), None);
        }
        assert!(Flags::from_bytes(vec![], 0).is_some_and(|none| none.is_empty()));
        assert!(Flags::from_bytes(vec![255], 8).is_some());
    }
}
