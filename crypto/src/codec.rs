//! A bounded reader over bytes from a peer, and its writer.
//!
//! A length is checked against what is left before anything is allocated, a list against its
//! declared maximum before its first element, and [`Reader::end`] refuses trailing bytes. Numbers
//! are little-endian.

/// What is wrong with bytes from a peer; names the field, holds no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end within this field.
    Short(&'static str),
    /// This field holds something it may not.
    Invalid(&'static str),
    /// This list or string is longer than it may be.
    TooLong(&'static str),
    /// Bytes follow the last field.
    Trailing,
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DecodeError::Short(field) => write!(f, "the bytes end within `{field}`"),
            DecodeError::Invalid(field) => write!(f, "`{field}` holds something it may not"),
            DecodeError::TooLong(field) => write!(f, "`{field}` is too long"),
            DecodeError::Trailing => f.write_str("bytes follow the last field"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads fields off a slice.
#[derive(Debug)]
pub struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, left) = self.left.split_at_checked(len).ok_or(DecodeError::Short(field))?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (taken, left) = self.left.split_first_chunk::<N>().ok_or(DecodeError::Short(field))?;
        self.left = left;
        Ok(*taken)
    }

    /// One byte.
    ///
    /// # Errors
    /// When none is left.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// A 16-bit signed number.
    ///
    /// # Errors
    /// When two bytes are not left.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.array(field).map(i16::from_le_bytes)
    }

    /// A 32-bit number.
    ///
    /// # Errors
    /// When four bytes are not left.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }

    /// A 64-bit number.
    ///
    /// # Errors
    /// When eight bytes are not left.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }

    /// A finite 64-bit float.
    ///
    /// # Errors
    /// When eight bytes are not left, or it is NaN or infinite.
    pub fn f64(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        let value = f64::from_le_bytes(self.array(field)?);
        value.is_finite().then_some(value).ok_or(DecodeError::Invalid(field))
    }

    /// 32 bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn digest(&mut self, field: &'static str) -> Result<[u8; 32], DecodeError> {
        self.array(field)
    }

    /// A signature.
    ///
    /// # Errors
    /// When fewer than 64 bytes are left.
    pub fn signature(&mut self, field: &'static str) -> Result<[u8; 64], DecodeError> {
        self.array(field)
    }

    /// A byte string with a 32-bit length before it, of at most `max` bytes.
    ///
    /// # Errors
    /// When it is longer, or not all there.
    pub fn bytes(&mut self, max: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.count(max, field)?;
        self.take(len, field)
    }

    /// UTF-8 text with a 32-bit length before it, of at most `max` bytes.
    ///
    /// # Errors
    /// When it is longer, not all there, or no UTF-8.
    pub fn text(&mut self, max: usize, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(max, field)?).map_err(|_| DecodeError::Invalid(field))
    }

    /// The 32-bit length of a list of at most `max` elements, of which each takes a byte or more.
    ///
    /// # Errors
    /// When it announces more elements than may be, or than bytes are left.
    pub fn count(&mut self, max: usize, field: &'static str) -> Result<usize, DecodeError> {
        let count = self.u32(field)? as usize;
        if count > max {
            return Err(DecodeError::TooLong(field));
        }
        if count > self.left.len() {
            return Err(DecodeError::Short(field));
        }
        Ok(count)
    }

    /// Ends the message.
    ///
    /// # Errors
    /// When bytes are left.
    pub fn end(self) -> Result<(), DecodeError> {
        if self.left.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }
}

/// Writes what a [`Reader`] reads.
#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Bytes without a length.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    /// A 16-bit signed number.
    pub fn i16(&mut self, value: i16) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A 32-bit number.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A 64-bit number.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// A 64-bit float.
    pub fn f64(&mut self, value: f64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    /// The length of a list, saturated at 2^32 − 1, which every reader refuses.
    pub fn count(&mut self, count: usize) -> &mut Self {
        self.u32(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// A byte string with its length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len()).raw(bytes)
    }

    /// Text with its length.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// All that was written.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(a: u8, b: i16, c: u64, d in -1e300..1e300, t: String) {
            let mut writer = Writer::default();
            writer.u8(a).i16(b).u64(c).f64(d).text(&t).raw(&[7; 32]);
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.u8("a"), Ok(a));
            prop_assert_eq!(reader.i16("b"), Ok(b));
            prop_assert_eq!(reader.u64("c"), Ok(c));
            prop_assert_eq!(reader.f64("d"), Ok(d));
            prop_assert_eq!(reader.text(t.len(), "t"), Ok(t.as_str()));
            prop_assert_eq!(reader.digest("e"), Ok([7; 32]));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_taken() {
        let announced = u32::MAX.to_le_bytes();
        assert_eq!(Reader::new(&announced).bytes(10, "x"), Err(DecodeError::TooLong("x")));
        assert_eq!(Reader::new(&announced).count(usize::MAX, "x"), Err(DecodeError::Short("x")));
        assert_eq!(Reader::new(&[1, 2]).u32("x"), Err(DecodeError::Short("x")));
        assert_eq!(Reader::new(&[0]).end(), Err(DecodeError::Trailing));
        let nan = f64::NAN.to_le_bytes();
        assert_eq!(Reader::new(&nan).f64("x"), Err(DecodeError::Invalid("x")));
    }
}
