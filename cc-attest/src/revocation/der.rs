//! A reader of DER (X.690): one value after another, lengths definite and minimal. It borrows and never
//! recurses.

/// Values that are left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a> {
    /// Its tag, of one byte.
    pub(super) tag: u8,
    /// What is in it.
    pub(super) content: &'a [u8],
    /// All of it.
    pub(super) whole: &'a [u8],
}

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BITS: u8 = 0x03;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const ENUMERATED: u8 = 0x0a;
pub(super) const TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;

/// The tag of something constructed that a number tells from others.
pub(super) const fn tagged(number: u8) -> u8 {
    0xa0 | number
}

impl<'a> Der<'a> {
    /// The next value, whatever it is.
    pub(super) fn any(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let len = match first {
            0..=0x7f => usize::from(first),
            0x81..=0x84 => {
                let (digits, after) = rest.split_at_checked(usize::from(first & 0x7f))?;
                rest = after;
                let len = digits.iter().fold(0usize, |len, digit| len << 8 | usize::from(*digit));
                // One form: no leading zero, and the short form where it is enough.
                (len >= 0x80 && digits.first() != Some(&0)).then_some(len)?
            }
            _ => return None,
        };
        // Tags of several bytes are in none of the formats.
        let content = rest.get(..len).filter(|_| tag & 0x1f != 0x1f)?;
        let (whole, left) = self.0.split_at_checked(self.0.len() - rest.len() + len)?;
        self.0 = left;
        Some(Value { tag, content, whole })
    }

    /// The next value, if it has this tag.
    pub(super) fn maybe(&mut self, tag: u8) -> Option<Value<'a>> {
        if self.0.first() == Some(&tag) { self.any() } else { None }
    }

    /// What is in the next value, which must have this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.maybe(tag).map(|value| value.content)
    }

    /// The values in the next value, which must have this tag.
    pub(super) fn within(&mut self, tag: u8) -> Option<Self> {
        self.take(tag).map(Self)
    }

    /// Whole bytes of a bit string.
    pub(super) fn bits(&mut self) -> Option<&'a [u8]> {
        self.take(BITS)?.strip_prefix(&[0])
    }

    /// Whether nothing is left.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_read_is_all_of_what_was_there(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut der = Der(&bytes);
            let mut at = 0;
            while let Some(value) = der.any() {
                prop_assert!(value.whole.ends_with(value.content));
                prop_assert_eq!(value.whole, &bytes[at..at + value.whole.len()]);
                at += value.whole.len();
            }
            prop_assert_eq!(der.0, &bytes[at..]);
        }
    }

    #[test]
    fn lengths_have_one_form() {
        let long = [&[OCTETS, 0x81, 0x80][..], &[7; 0x80]].concat();
        assert_eq!(Der(&long).take(OCTETS), Some(&[7; 0x80][..]));
        for bad in [
            &[OCTETS, 0x81, 1, 7][..],
            &[OCTETS, 0x80, 0, 0],
            &[OCTETS, 2, 7],
            &[OCTETS],
            &[],
            &[OCTETS, 0x82, 0, 0x80],
            &[OCTETS, 0x85, 0, 0, 0, 0, 1, 7],
            &[0x1f, 1, 1],
            &[OCTETS, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(Der(bad).any(), None, "{bad:?}");
        }
        assert_eq!(Der(&[BITS, 2, 0, 9]).bits(), Some(&[9][..]));
        assert_eq!(Der(&[BITS, 2, 1, 8]).bits(), None);
    }
}
