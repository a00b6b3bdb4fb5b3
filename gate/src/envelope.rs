//! A message as bytes: a head that says everything about it, then its elements.
//!
//! ```text
//!   head   "PVT1" · task · round · kind · step? · weight · tensors (name, dtype, shape)…
//!          · metrics… · receipt? · seal? · length and BLAKE3 of the body
//!   body   the elements of every tensor, little-endian, in the order of their names; of a sealed
//!          message, what its scheme makes of them
//! ```
//! The head is read by a bounded decoder before any of the body is taken; the length of the body
//! must be the one that the head's shapes give, or, sealed, in proportion to it.

use std::collections::BTreeMap;

use bytes::Bytes;
use privet_core::aggregate::UploadHeader;
use privet_core::message::DataKind;
use privet_core::receipt::Receipt;
use privet_core::sensitivity::{Lattice, LatticeTensor, Step};
use privet_core::tensor::{Dtype, Schema, Shape, Slot, Tensor, Tensors, Values};
use privet_core::{Code, Content, Message, Reason};
use privet_crypto::Digest;
use privet_crypto::codec::{DecodeError, Reader, Writer};
use privet_crypto::transcript::Stream;

/// Most bytes of a head.
pub const MAX_HEAD: usize = 8 << 20;
const MAX_TENSORS: usize = 1 << 16;
const MAX_NAME: usize = 256;
const MAX_METRICS: usize = 256;
const MAX_RECEIPT: usize = 16 << 10;
const MAX_SEAL: usize = 6 << 20;
const MAGIC: &[u8; 4] = b"PVT1";

/// A decoded head.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// What the message says of itself.
    pub header: UploadHeader,
}

/// Names one very message: the digest of its head, which holds the digest of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskId(pub(crate) Digest);

impl TaskId {
    /// Of a message whose head, or all, is this.
    pub fn of(head: &[u8]) -> Self {
        Self(Digest::of(head))
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; 32] {
        self.0.0
    }
}

/// A message as bytes. The pieces of the body are the tensors' own memory, not copies.
pub(crate) struct Encoded {
    pub(crate) header: UploadHeader,
    pub(crate) head: Bytes,
    pub(crate) body: Vec<Bytes>,
}

struct Words<T>(Vec<T>);

impl<T: bytemuck::Pod> AsRef<[u8]> for Words<T> {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

fn words<T: bytemuck::Pod + Send + 'static>(values: Vec<T>) -> Bytes {
    Bytes::from_owner(Words(values))
}

/// Encodes a message; `None` when it holds no tensors. A task may bring the session of a seal.
pub(crate) fn encode(
    message: Message,
    round: u32,
    receipt: Option<Receipt>,
    session: Option<Vec<u8>>,
) -> Option<Encoded> {
    let mut schema = Schema::default();
    let mut body = Vec::new();
    let mut step = None;
    let mut seal = session;
    let mut known = None;
    match message.content {
        Content::Plain(Tensors(tensors)) => {
            for (name, tensor) in tensors {
                let (shape, values) = tensor.into_parts();
                let dtype = values.dtype();
                schema.0.insert(name, Slot { shape, dtype });
                body.push(match values {
                    Values::F32(values) => words(values),
                    Values::F64(values) => words(values),
                });
            }
        }
        Content::Lattice(lattice) => {
            step = Some(lattice.step());
            let dtype = lattice.dtype();
            schema = lattice.schema(dtype);
            for tensor in lattice.tensors().values() {
                body.push(match dtype {
                    // `dtype` is the narrowest type that holds every value.
                    Dtype::I32 => words(tensor.values().iter().map(|&v| v as i32).collect()),
                    _ => words(tensor.values().to_vec()),
                });
            }
        }
        Content::Sealed(sealed) => {
            step = Some(sealed.step);
            let integers = |slot: &Slot| Slot { dtype: Dtype::I64, ..slot.clone() };
            let slots = sealed.schema.0.iter();
            schema = slots.map(|(name, slot)| (name.clone(), integers(slot))).collect();
            seal = Some(sealed.statement);
            known = Some(sealed.digest);
            body.push(words(sealed.body));
        }
        Content::Statistics(_) | Content::Empty => return None,
    }
    let header = UploadHeader {
        task: message.task,
        round,
        kind: message.kind,
        schema,
        step,
        weight: message.weight,
        metrics: message.metrics,
        receipt,
        seal,
        len: 0,
        digest: [0; 32],
    };
    let head = match known {
        None => Head::new(header, body.iter().map(|piece| &piece[..])),
        // The seal has hashed its body already.
        Some(digest) => {
            let len = body.iter().map(|piece| piece.len() as u64).sum();
            Head { header: UploadHeader { len, digest, ..header } }
        }
    };
    let bytes = head.encode().into();
    Some(Encoded { header: head.header, head: bytes, body })
}

impl Head {
    /// A head for a body.
    pub fn new<'a>(mut header: UploadHeader, body: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut digest = Stream::default();
        let mut body_len = 0;
        for piece in body {
            digest.update(piece);
            body_len += piece.len() as u64;
        }
        header.digest = digest.finish().0;
        header.len = body_len;
        Self { header }
    }

    fn encode(&self) -> Vec<u8> {
        let header = &self.header;
        let mut writer = Writer::default();
        writer.raw(MAGIC).text(&header.task).u32(header.round);
        let kind = DataKind::ALL.iter().position(|&kind| kind == header.kind);
        writer.u8(kind.unwrap_or_default() as u8);
        match header.step {
            None => writer.u8(0),
            Some(step) => writer.u8(1).i16(step.exponent()),
        };
        writer.f64(header.weight).count(header.schema.0.len());
        for (name, slot) in &header.schema.0 {
            writer.text(name).u8(dtype_number(slot.dtype));
            writer.u8(slot.shape.dims().len() as u8);
            for &dim in slot.shape.dims() {
                writer.u64(dim);
            }
        }
        writer.count(header.metrics.len());
        for (name, &value) in &header.metrics {
            writer.text(name).f64(value);
        }
        match &header.receipt {
            None => writer.u8(0),
            Some(receipt) => {
                let json = serde_json::to_vec(receipt).unwrap_or_default();
                writer.u8(1).bytes(&json)
            }
        };
        match &header.seal {
            None => writer.u8(0),
            Some(seal) => writer.u8(1).bytes(seal),
        };
        writer.u64(header.len).raw(&header.digest);
        writer.finish()
    }

    /// Reads a head from a peer.
    ///
    /// # Errors
    /// When the bytes are not exactly one head.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_HEAD {
            return Err(DecodeError::TooLong("head"));
        }
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len(), "magic")? != MAGIC {
            return Err(DecodeError::Invalid("magic"));
        }
        let task = reader.text(MAX_NAME, "task")?.to_owned();
        let round = reader.u32("round")?;
        let kind = *DataKind::ALL
            .get(usize::from(reader.u8("kind")?))
            .ok_or(DecodeError::Invalid("kind"))?;
        let step = match reader.u8("step")? {
            0 => None,
            1 => Some(Step::new(reader.i16("step")?).ok_or(DecodeError::Invalid("step"))?),
            _ => return Err(DecodeError::Invalid("step")),
        };
        let weight = reader.f64("weight")?;
        let mut schema = Schema::default();
        for _ in 0..reader.count(MAX_TENSORS, "tensors")? {
            let (name, slot) = decode_slot(&mut reader)?;
            let last = schema.0.last_key_value();
            if last.is_some_and(|(last, _)| *last >= name) {
                return Err(DecodeError::Invalid("tensor order"));
            }
            schema.0.insert(name, slot);
        }
        let mut metrics = BTreeMap::new();
        for _ in 0..reader.count(MAX_METRICS, "metrics")? {
            let name = reader.text(MAX_NAME, "metric")?.to_owned();
            metrics.insert(name, reader.f64("metric")?);
        }
        let receipt = match reader.u8("receipt")? {
            0 => None,
            1 => {
                let json = reader.bytes(MAX_RECEIPT, "receipt")?;
                let receipt = serde_json::from_slice(json);
                Some(receipt.map_err(|_| DecodeError::Invalid("receipt"))?)
            }
            _ => return Err(DecodeError::Invalid("receipt")),
        };
        let seal = match reader.u8("seal")? {
            0 => None,
            1 => Some(reader.bytes(MAX_SEAL, "seal")?.to_vec()),
            _ => return Err(DecodeError::Invalid("seal")),
        };
        let len = reader.u64("body length")?;
        let digest = reader.digest("digest")?;
        reader.end()?;
        let header = UploadHeader {
            task,
            round,
            kind,
            schema,
            step,
            weight,
            metrics,
            receipt,
            seal,
            len,
            digest,
        };
        let fits = match is_sealed(&header) {
            false => len == header.schema.bytes(),
            // No scheme takes more than twice the bytes of the integers, but for whole blocks.
            true => len <= header.schema.bytes().saturating_mul(2).saturating_add(1 << 20),
        };
        if !fits {
            return Err(DecodeError::Invalid("body length"));
        }
        Ok(Self { header })
    }

    /// Whether the body is of a seal, and no tensors.
    pub fn is_sealed(&self) -> bool {
        is_sealed(&self.header)
    }

    /// Checks the body that belongs to this head, piece by piece.
    pub fn body(&self) -> BodyCheck {
        BodyCheck { left: self.header.len, wanted: self.header.digest, digest: Stream::default() }
    }

    /// Checks a body against its digest and makes a message of both.
    pub(crate) fn message(self, body: &[u8]) -> Result<Message, Reason> {
        let malformed = |what: &str| Reason::new(Code::Malformed, what.to_owned());
        if self.is_sealed() {
            return Err(malformed("a sealed message opens in a sum alone"));
        }
        let mut check = self.body();
        check.update(body)?;
        check.finish()?;
        let header = self.header;
        let mut rest = body;
        let mut plain = Tensors::default();
        let mut integers = BTreeMap::new();
        for (name, slot) in header.schema.0 {
            let len = slot.shape.elements() as usize * slot.dtype.size();
            let (bytes, after) = rest
                .split_at_checked(len)
                .ok_or_else(|| malformed("the body ends within a tensor"))?;
            rest = after;
            let misplaced = || malformed("floats and lattice integers in one message");
            match (slot.dtype, header.step) {
                (Dtype::F32, None) => {
                    let values = Values::F32(elements(bytes, f32::from_le_bytes));
                    plain.0.extend(Tensor::new(slot.shape, values).map(|t| (name, t)));
                }
                (Dtype::F64, None) => {
                    let values = Values::F64(elements(bytes, f64::from_le_bytes));
                    plain.0.extend(Tensor::new(slot.shape, values).map(|t| (name, t)));
                }
                (Dtype::I32, Some(_)) => {
                    let values = elements(bytes, |b| i64::from(i32::from_le_bytes(b)));
                    integers.extend(LatticeTensor::new(slot.shape, values).map(|t| (name, t)));
                }
                (Dtype::I64, Some(_)) => {
                    let values = elements(bytes, i64::from_le_bytes);
                    integers.extend(LatticeTensor::new(slot.shape, values).map(|t| (name, t)));
                }
                _ => return Err(misplaced()),
            }
        }
        Ok(Message {
            task: header.task,
            kind: header.kind,
            content: match header.step {
                None => Content::Plain(plain),
                Some(step) => Content::Lattice(Lattice::new(step, integers)),
            },
            weight: header.weight,
            metrics: header.metrics,
        })
    }
}

/// Tasks bring a session and floats; what has a seal and a lattice step is a sealed update.
fn is_sealed(header: &UploadHeader) -> bool {
    header.seal.is_some() && header.step.is_some()
}

/// Holds the pieces of a body against the length and digest in its head.
pub struct BodyCheck {
    left: u64,
    wanted: [u8; 32],
    digest: Stream,
}

impl BodyCheck {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When the body is longer than its head says; checked before the piece is taken.
    pub fn update(&mut self, piece: &[u8]) -> Result<(), Reason> {
        let left = self.left.checked_sub(piece.len() as u64);
        let detail = "the body is longer than its head says";
        self.left = left.ok_or_else(|| Reason::new(Code::Malformed, detail))?;
        self.digest.update(piece);
        Ok(())
    }

    /// Takes the end.
    ///
    /// # Errors
    /// When the body is shorter than its head says, or another one.
    pub fn finish(self) -> Result<(), Reason> {
        if self.left != 0 || self.digest.finish().0 != self.wanted {
            let detail = "the body is not the one that its head says";
            return Err(Reason::new(Code::Malformed, detail));
        }
        Ok(())
    }
}

fn elements<const N: usize, T>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|&b| decode(b)).collect()
}

fn decode_slot(reader: &mut Reader<'_>) -> Result<(String, Slot), DecodeError> {
    let name = reader.text(MAX_NAME, "tensor name")?.to_owned();
    let dtype = match reader.u8("dtype")? {
        0 => Dtype::F32,
        1 => Dtype::F64,
        2 => Dtype::I32,
        3 => Dtype::I64,
        _ => return Err(DecodeError::Invalid("dtype")),
    };
    let rank = reader.u8("rank")?;
    if rank > 8 {
        return Err(DecodeError::TooLong("rank"));
    }
    let dims = (0..rank).map(|_| reader.u64("dimension")).collect::<Result<Vec<_>, _>>()?;
    let shape = Shape::new(dims).ok_or(DecodeError::Invalid("shape"))?;
    Ok((name, Slot { shape, dtype }))
}

const fn dtype_number(dtype: Dtype) -> u8 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::F64 => 1,
        Dtype::I32 => 2,
        Dtype::I64 => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(values: Vec<f32>, scalar: f64) -> Message {
        let shape = Shape::new(vec![]).unwrap();
        let tensors = [
            ("v".to_owned(), Tensor::vector(values)),
            ("s".to_owned(), Tensor::new(shape, Values::F64(vec![scalar])).unwrap()),
        ];
        let mut message = Message::new(
            "train",
            DataKind::WeightDiff,
            Content::Plain(Tensors::from_iter(tensors)),
        );
        message.weight = 3.5;
        message.metrics.insert("loss".into(), 0.25);
        message
    }

    fn body(encoded: &Encoded) -> Vec<u8> {
        encoded.body.iter().flat_map(|piece| piece.to_vec()).collect()
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(values in proptest::collection::vec(-1e30f32..1e30, 0..50), scalar in -1e9..1e9f64, round: u32) {
            let sent = message(values, scalar);
            let encoded = encode(sent.clone(), round, None, None).unwrap();
            let head = Head::decode(&encoded.head).unwrap();
            prop_assert_eq!(head.header.round, round);
            prop_assert_eq!(head.message(&body(&encoded)).unwrap(), sent);
        }

        #[test]
        fn lattices_travel_in_the_narrowest_integers(values in proptest::collection::vec(any::<i64>(), 1..20), shift in 0u32..63) {
            let values: Vec<i64> = values.into_iter().map(|v| v >> shift).collect();
            let shape = Shape::new(vec![values.len() as u64]).unwrap();
            let tensor = LatticeTensor::new(shape, values.clone()).unwrap();
            let lattice = Lattice::new(Step::new(-3).unwrap(), [("w".to_owned(), tensor)].into());
            let sent = Message::new("train", DataKind::Gradient, Content::Lattice(lattice));
            let encoded = encode(sent.clone(), 1, None, None).unwrap();
            let narrow = values.iter().all(|&v| i32::try_from(v).is_ok());
            prop_assert_eq!(body(&encoded).len(), values.len() * if narrow { 4 } else { 8 });
            let head = Head::decode(&encoded.head).unwrap();
            prop_assert_eq!(head.message(&body(&encoded)).unwrap(), sent);
        }

        /// No bytes from a peer panic, or make the decoder take more than they announce.
        #[test]
        fn hostile_heads_are_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), flip in 0usize..200, valid: bool) {
            if valid {
                bytes = encode(message(vec![1.0; 4], 0.0), 1, None, None).unwrap().head.to_vec();
                let at = flip % bytes.len();
                bytes[at] ^= 0x81;
            }
            let _ = Head::decode(&bytes);
        }
    }

    #[test]
    fn a_changed_body_is_refused() {
        let encoded = encode(message(vec![1.0, 2.0], 3.0), 1, None, None).unwrap();
        let head = || Head::decode(&encoded.head).unwrap();
        let mut bytes = body(&encoded);
        bytes[3] ^= 1;
        assert_eq!(head().message(&bytes).unwrap_err().code, Code::Malformed);
        bytes.pop();
        assert_eq!(head().message(&bytes).unwrap_err().code, Code::Malformed);
    }

    #[test]
    fn names_come_once_and_in_order() {
        let encoded = encode(message(vec![1.0], 3.0), 1, None, None).unwrap();
        let mut bytes = encoded.head.to_vec();
        // The names "s" and "v" are one byte each after their length: make them equal.
        let at = bytes.windows(5).position(|w| w == [1, 0, 0, 0, b's']).unwrap() + 4;
        bytes[at] = b'v';
        assert_eq!(Head::decode(&bytes), Err(DecodeError::Invalid("tensor order")));
    }
}
