//! The report of a GPU or a switch: an SPDM 1.1 request for measurements and the answer (DMTF DSP0274).
//!
//! ```text
//!   0        4         37          45           45+L1      77+L1   79+L1      79+L1+L2
//!   │request │ nonce … │ header, n │ n blocks   │ nonce of │ L2    │ opaque … │ signature │ zeros │
//!   │11 E0 1 │  ours   │ 11 60 …   │ 55 B each  │ device   │       │ t, l, v  │ 96 B      │ ≤ 8   │
//!   └──────────────────────────── signed: all before the signature ──────────┘
//! ```
//! All numbers are little-endian. Nothing here is to be believed before the signature was verified.

use crate::refusal::{Code, Refusal};

/// Most bytes of a report: what the driver's buffer holds.
pub const MAX_REPORT: usize = 8 << 10;
/// Bytes of a measurement: SHA-384.
pub const MEASUREMENT: usize = 48;
/// Bytes of the signature: r and s.
pub const SIGNATURE: usize = 96;

const VERSION: u8 = 0x11;
const GET_MEASUREMENTS: u8 = 0xe0;
const MEASUREMENTS: u8 = 0x60;
/// The requester wants a signature, and all measurements.
const WANTED: [u8; 2] = [0x01, 0xff];
/// DMTF's form of a measurement.
const DMTF: u8 = 1;
/// Drivers are seen to pad a report with a zero.
const MAX_PADDING: usize = 8;
const MAX_FIELDS: usize = 64;

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// Where its header starts.
    pub at: usize,
    /// Its number, from 1.
    pub index: u8,
    /// What was measured, by DMTF's table.
    pub kind: u8,
    /// The digest.
    pub value: &'a [u8; MEASUREMENT],
}

/// One field of what the device says beside its measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Where its header starts.
    pub at: usize,
    /// Its type: see [`super::opaque`].
    pub kind: u16,
    /// Its bytes.
    pub value: &'a [u8],
}

/// A report whose structure holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report<'a> {
    bytes: &'a [u8],
    /// The challenge that it answers.
    pub nonce: &'a [u8; 32],
    /// Measurements, by their number.
    pub blocks: Vec<Block<'a>>,
    /// What the device added of its own.
    pub responder_nonce: &'a [u8; 32],
    /// Where [`Self::responder_nonce`] starts.
    pub responder_at: usize,
    /// Fields in their order.
    pub fields: Vec<Field<'a>>,
    /// Where the signature starts; all before it is signed.
    pub signature_at: usize,
    /// r and s.
    pub signature: &'a [u8; SIGNATURE],
    /// Zeros after the signature.
    pub padding: usize,
}

/// Takes bytes off the front and knows where it is.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize, field: &str) -> Result<&'a [u8], Refusal> {
        let end = self.at.checked_add(len);
        let taken = end.and_then(|end| self.bytes.get(self.at..end)).ok_or_else(|| {
            malformed(format!("the report ends within {field}, at byte {}", self.bytes.len()))
        })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &str) -> Result<&'a [u8; N], Refusal> {
        let short = || malformed(format!("the report ends within {field}"));
        self.take(N, field)?.first_chunk().ok_or_else(short)
    }

    fn u8(&mut self, field: &str) -> Result<u8, Refusal> {
        self.array::<1>(field).map(|[byte]| *byte)
    }

    fn u16(&mut self, field: &str) -> Result<usize, Refusal> {
        self.array(field).map(|bytes| usize::from(u16::from_le_bytes(*bytes)))
    }
}

fn malformed(detail: impl Into<String>) -> Refusal {
    Refusal::new(Code::Malformed, detail)
}

impl<'a> Report<'a> {
    /// Reads a report, whole and nothing else.
    ///
    /// # Errors
    /// `TooLarge`, `WrongSpdmVersion`, `Malformed`, `DuplicateOpaque` or `TrailingData`.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Refusal> {
        if bytes.len() > MAX_REPORT {
            let detail = format!("a report of {} bytes, at most {MAX_REPORT}", bytes.len());
            return Err(Refusal::new(Code::TooLarge, detail));
        }
        let mut cursor = Cursor { bytes, at: 0 };
        message(&mut cursor, GET_MEASUREMENTS, "the request")?;
        if cursor.array::<2>("the request")? != &WANTED {
            return Err(malformed("the request is not for all measurements with a signature"));
        }
        let nonce = cursor.array("the challenge")?;
        cursor.u8("the slot")?;
        message(&mut cursor, MEASUREMENTS, "the answer")?;
        cursor.array::<2>("the answer")?;
        let blocks = blocks(&mut cursor)?;
        let responder_at = cursor.at;
        let responder_nonce = cursor.array("the device's nonce")?;
        let fields = fields(&mut cursor)?;
        let signature_at = cursor.at;
        let signature = cursor.array("the signature")?;
        let padding = bytes.get(cursor.at..).unwrap_or_default();
        if padding.len() > MAX_PADDING || padding.iter().any(|&byte| byte != 0) {
            let detail = format!("{} bytes after the signature", padding.len());
            return Err(Refusal::new(Code::TrailingData, detail));
        }
        let padding = padding.len();
        let (at, own) = (signature_at, responder_nonce);
        Ok(Self {
            bytes,
            nonce,
            blocks,
            responder_nonce: own,
            responder_at,
            fields,
            signature_at: at,
            signature,
            padding,
        })
    }

    /// The report as it came.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What the signature is over: request and answer.
    pub fn signed(&self) -> &'a [u8] {
        self.bytes.get(..self.signature_at).unwrap_or_default()
    }

    /// The field of a type; [`Self::read`] has refused a second.
    pub fn field(&self, kind: u16) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.kind == kind).map(|field| field.value)
    }
}

fn message(cursor: &mut Cursor<'_>, code: u8, which: &str) -> Result<(), Refusal> {
    let [version, found] = *cursor.array(which)?;
    if (version, found) == (VERSION, code) {
        return Ok(());
    }
    let detail = format!(
        "{which} is message {found:#04x} of SPDM version {version:#04x}, wanted {code:#04x} of {VERSION:#04x}"
    );
    Err(Refusal::new(Code::WrongSpdmVersion, detail))
}

fn blocks<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Block<'a>>, Refusal> {
    let count = cursor.u8("the number of measurements")?;
    let [a, b, c] = *cursor.array("the length of measurements")?;
    let length = u32::from_le_bytes([a, b, c, 0]) as usize;
    let start = cursor.at;
    let mut blocks = Vec::with_capacity(count.into());
    for wanted in 1..=u16::from(count) {
        let at = cursor.at;
        let index = cursor.u8("a measurement")?;
        let form = cursor.u8("a measurement")?;
        let size = cursor.u16("a measurement")?;
        let kind = cursor.u8("a measurement")?;
        let value_size = cursor.u16("a measurement")?;
        if u16::from(index) != wanted {
            return Err(malformed(format!("measurement {index} where {wanted} belongs")));
        }
        if (form, size, value_size) != (DMTF, MEASUREMENT + 3, MEASUREMENT) {
            return Err(malformed(format!("measurement {index} is not a SHA-384 digest")));
        }
        blocks.push(Block { at, index, kind, value: cursor.array("a measurement")? });
    }
    match cursor.at - start == length {
        true => Ok(blocks),
        false => Err(malformed(format!(
            "{length} bytes of measurements announced, {} there",
            cursor.at - start
        ))),
    }
}

fn fields<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Field<'a>>, Refusal> {
    let length = cursor.u16("the length of fields")?;
    let start = cursor.at;
    // Fields are read within their own length, so that none reaches into the signature.
    let end = start + cursor.take(length, "the fields")?.len();
    let mut inner = Cursor { bytes: cursor.bytes.get(..end).unwrap_or_default(), at: start };
    let mut fields: Vec<Field<'a>> = Vec::new();
    while inner.at < end {
        let at = inner.at;
        let kind = inner.array("a field").map(|bytes| u16::from_le_bytes(*bytes))?;
        let size = inner.u16("a field")?;
        let value = inner.take(size, "a field")?;
        if fields.iter().any(|field| field.kind == kind) {
            let detail = format!("field {kind} a second time, at byte {at}");
            return Err(Refusal::new(Code::DuplicateOpaque, detail));
        }
        if fields.len() == MAX_FIELDS {
            return Err(malformed(format!("more than {MAX_FIELDS} fields")));
        }
        fields.push(Field { at, kind, value });
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::evidence;

    fn genuine() -> Vec<u8> {
        evidence("nvidia/gh100-545.00-PASS/report.bin")
    }

    fn code(bytes: &[u8]) -> Code {
        Report::read(bytes).unwrap_err().code
    }

    fn with(at: usize, value: u8) -> Vec<u8> {
        let mut bytes = genuine();
        bytes[at] = value;
        bytes
    }

    #[test]
    fn a_genuine_report_is_read_to_its_offsets() {
        let bytes = genuine();
        let report = Report::read(&bytes).unwrap();
        assert_eq!((report.blocks.len(), report.blocks[21].at), (64, 1200));
        assert_eq!(&report.blocks[21].value[..4], [0x19, 0x3d, 0x75, 0xc6]);
        assert_eq!((report.responder_at, report.signature_at, report.padding), (3565, 3953, 0));
        let fields: Vec<_> = report.fields.iter().map(|field| (field.at, field.kind)).collect();
        let wanted = [
            (3599, 6),
            (3611, 14),
            (3619, 15),
            (3627, 16),
            (3633, 17),
            (3642, 18),
            (3651, 19),
            (3657, 3),
            (3668, 4),
            (3680, 12),
            (3940, 13),
            (3948, 11),
        ];
        assert_eq!(fields, wanted);
        assert_eq!(report.signed().len(), 3953);
    }

    #[test]
    fn other_messages_are_refused() {
        for (at, value) in [(0, 0x10), (1, 0xe1), (37, 0x12), (38, 0x7f)] {
            assert_eq!(code(&with(at, value)), Code::WrongSpdmVersion, "{at}");
        }
        for (at, value) in [(2, 0), (3, 1)] {
            assert_eq!(code(&with(at, value)), Code::Malformed, "{at}");
        }
    }

    #[test]
    fn measurements_are_numbered_in_order_and_are_digests() {
        // Number, form, size, size of the value of the first; their number and length.
        for (at, value) in [(45, 2), (46, 2), (47, 50), (50, 47), (41, 63), (41, 65), (42, 0xc1)] {
            assert_eq!(code(&with(at, value)), Code::Malformed, "{at}");
        }
    }

    #[test]
    fn a_second_field_of_a_type_is_refused_and_an_unknown_one_is_kept() {
        assert_eq!(code(&with(3611, 6)), Code::DuplicateOpaque);
        let bytes = with(3611, 200);
        assert_eq!(Report::read(&bytes).unwrap().field(200), Some(&[0xb1, 3, 0, 0][..]));
    }

    #[test]
    fn fields_do_not_reach_into_the_signature() {
        assert_eq!(code(&with(3950, 2)), Code::Malformed);
    }

    #[test]
    fn a_few_zeros_may_follow_and_nothing_else() {
        let padded = |padding: &[u8]| [&genuine()[..], padding].concat();
        assert_eq!(Report::read(&padded(&[0; 8])).unwrap().padding, 8);
        assert_eq!(code(&padded(&[0; 9])), Code::TrailingData);
        assert_eq!(code(&padded(&[0, 1])), Code::TrailingData);
    }

    #[test]
    fn what_is_cut_short_or_too_large_is_refused() {
        let bytes = genuine();
        for len in 0..bytes.len() {
            assert_eq!(code(&bytes[..len]), Code::Malformed, "{len}");
        }
        assert_eq!(code(&vec![0; MAX_REPORT + 1]), Code::TooLarge);
    }

    proptest! {
        #[test]
        fn other_bytes_are_read_or_refused(
            at in 0usize..4049,
            bytes in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut report = genuine();
            for (place, byte) in report[at..].iter_mut().zip(&bytes) {
                *place = *byte;
            }
            if let Ok(read) = Report::read(&report) {
                prop_assert_eq!(read.signed().len() + SIGNATURE + read.padding, report.len());
            }
        }
    }
}
