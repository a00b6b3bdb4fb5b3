//! The seam to a sum over sites, and the plain sum.
//!
//! The server holds one accumulator whatever the number of sites. An upload reaches
//! [`Aggregator::add`] only after all of it has arrived and its length and digest were checked, in
//! a fixed order of sites: a site that dies half-way is not half inside the sum, and the same
//! round gives the same bits.

use std::collections::BTreeMap;
use std::io::Read;

use crate::channel::Channel;
use crate::message::DataKind;
use crate::receipt::Receipt;
use crate::refusal::{Code, Reason};
use crate::sensitivity::Step;
use crate::tensor::{Dtype, Schema, Tensor, Tensors, Values};

/// What is known of an upload before its elements.
#[derive(Debug, Clone, PartialEq)]
pub struct UploadHeader {
    /// Name of the task it answers.
    pub task: String,
    /// The round it answers, from 1.
    pub round: u32,
    /// What the numbers mean.
    pub kind: DataKind,
    /// Names, shapes and element types; the elements follow in the order of the names.
    pub schema: Schema,
    /// The lattice step, when the elements are integers.
    pub step: Option<Step>,
    /// Weight in an average, from 1 to [`MAX_WEIGHT`].
    pub weight: f64,
    /// Measurements that the sender's chain let out.
    pub metrics: BTreeMap<String, f64>,
    /// What the sender's gate says it did; absent on what a server sends.
    pub receipt: Option<Receipt>,
    /// What belongs to a seal: of a task its session, of an upload its statement.
    pub seal: Option<Vec<u8>>,
    /// Bytes of the body.
    pub len: u64,
    /// Digest of the body.
    pub digest: [u8; 32],
}

/// A finished sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    /// The sum, as 64-bit floats. A tensor that no site sent is absent.
    pub sum: Tensors,
    /// For each tensor, the sum of the weights of the uploads that had it: sites may withhold
    /// different tensors.
    pub weights: BTreeMap<String, f64>,
    /// How many uploads are in it.
    pub uploads: u32,
    /// Sites that say to have seen that the sum is that of what was sealed.
    pub verified: u32,
    /// Who complains of whom, where a seal's peers do not keep to its protocol.
    pub complaints: Vec<Complaint>,
}

/// One site's signed word that another one's message did not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Who complains.
    pub by: String,
    /// Whose message it was.
    pub about: String,
}

/// Adds uploads.
pub trait Aggregator: Send {
    /// Looks at the header of a site's upload, before its elements are taken.
    ///
    /// # Errors
    /// When such an upload cannot be part of this sum.
    fn admit(&self, from: &str, header: &UploadHeader) -> Result<(), Reason>;

    /// Adds a whole, checked upload.
    ///
    /// # Errors
    /// When it cannot be read or is not what its header said; it is not in the sum then. When the sum
    /// overflows; then [`Aggregator::finish`] fails.
    fn add(&mut self, from: &str, header: &UploadHeader, body: &mut dyn Read)
    -> Result<(), Reason>;

    /// Ends the sum; a sealed one with the help of the sites in it.
    ///
    /// # Errors
    /// When nothing was added, an addition had failed, or too few sites help.
    fn finish(self: Box<Self>, channel: &mut dyn Channel) -> Result<Aggregate, Reason>;
}

/// Largest weight of an upload: more records than any site has.
pub const MAX_WEIGHT: f64 = (1u64 << 40) as f64;

/// How uploads are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Combine {
    /// Each counts once: uploads that are sums over records already.
    Sum,
    /// Each counts by its weight.
    Weighted,
}

/// A sum in the clear, in 64-bit floats. Lattice integers below 2^53 enter exactly, since the
/// step is a power of two.
pub struct PlainSum {
    combine: Combine,
    kind: DataKind,
    model: Schema,
    sum: BTreeMap<String, (Vec<f64>, f64)>,
    uploads: u32,
    void: bool,
}

impl PlainSum {
    /// An empty sum of uploads for this model.
    pub fn new(combine: Combine, kind: DataKind, model: Schema) -> Self {
        Self { combine, kind, model, sum: BTreeMap::new(), uploads: 0, void: false }
    }

    fn try_add(&mut self, header: &UploadHeader, body: &mut dyn Read) -> Result<(), Reason> {
        let factor = match self.combine {
            Combine::Sum => 1.0,
            Combine::Weighted => header.weight,
        };
        let mut block = vec![0u8; 64 << 10];
        for (name, slot) in &header.schema.0 {
            let elements = usize::try_from(slot.shape.elements())
                .map_err(|_| Reason::new(Code::TooLarge, "a tensor exceeds this machine"))?;
            let (sum, weight) =
                self.sum.entry(name.clone()).or_insert_with(|| (vec![0.0; elements], 0.0));
            let scale = factor * header.step.map_or(1.0, Step::value);
            let size = slot.dtype.size();
            for part in sum.chunks_mut(block.len() / size) {
                let bytes = &mut block[..part.len() * size];
                body.read_exact(bytes)
                    .map_err(|_| Reason::new(Code::StorageFailed, "a spooled upload is short"))?;
                accumulate(part, bytes, slot.dtype, scale);
            }
            if !sum.iter().all(|x| x.is_finite()) {
                return Err(Reason::new(Code::Overflow, "the sum is not finite"));
            }
            *weight += header.weight;
        }
        self.uploads += 1;
        Ok(())
    }
}

fn accumulate(sum: &mut [f64], bytes: &[u8], dtype: Dtype, scale: f64) {
    fn add<const N: usize>(
        sum: &mut [f64],
        bytes: &[u8],
        scale: f64,
        decode: impl Fn([u8; N]) -> f64,
    ) {
        for (x, &element) in sum.iter_mut().zip(bytes.as_chunks::<N>().0) {
            *x += scale * decode(element);
        }
    }
    match dtype {
        Dtype::F32 => add(sum, bytes, scale, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F64 => add(sum, bytes, scale, f64::from_le_bytes),
        Dtype::I32 => add(sum, bytes, scale, |b| f64::from(i32::from_le_bytes(b))),
        Dtype::I64 => add(sum, bytes, scale, |b| i64::from_le_bytes(b) as f64),
    }
}

impl Aggregator for PlainSum {
    fn admit(&self, _: &str, header: &UploadHeader) -> Result<(), Reason> {
        let refuse = |code, detail: &str| Err(Reason::new(code, detail));
        if header.kind != self.kind {
            return refuse(Code::UnexpectedKind, "another data kind than the task's");
        }
        if !(1.0..=MAX_WEIGHT).contains(&header.weight) {
            return refuse(Code::Malformed, "a weight must lie between 1 and 2^40");
        }
        if header.seal.is_some() {
            return refuse(Code::WrongContent, "a sealed upload for a sum in the clear");
        }
        if header.schema.0.is_empty() {
            return refuse(Code::MissingTensor, "an upload without tensors");
        }
        for (name, sent) in &header.schema.0 {
            let Some(slot) = self.model.0.get(name) else {
                return refuse(Code::UnknownTensor, "a tensor that the model does not have");
            };
            if sent.shape != slot.shape {
                return refuse(Code::ShapeMismatch, "a tensor has another shape");
            }
            let integers = matches!(sent.dtype, Dtype::I32 | Dtype::I64);
            if integers != header.step.is_some() {
                return refuse(Code::DtypeMismatch, "integers come with a step, floats without");
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        from: &str,
        header: &UploadHeader,
        body: &mut dyn Read,
    ) -> Result<(), Reason> {
        self.admit(from, header)?;
        let added = self.try_add(header, body);
        self.void |= added.is_err();
        added
    }

    fn finish(self: Box<Self>, _: &mut dyn Channel) -> Result<Aggregate, Reason> {
        if self.void || self.uploads == 0 {
            return Err(Reason::new(Code::TooFewSites, "there is no sum to finish"));
        }
        let mut sum = Tensors::default();
        let mut weights = BTreeMap::new();
        for (name, (values, weight)) in self.sum {
            let Some(slot) = self.model.0.get(&name) else {
                continue;
            };
            if let Some(tensor) = Tensor::new(slot.shape.clone(), Values::F64(values)) {
                weights.insert(name.clone(), weight);
                sum.0.insert(name, tensor);
            }
        }
        let (verified, complaints) = (0, Vec::new());
        Ok(Aggregate { sum, weights, uploads: self.uploads, verified, complaints })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Shape, Slot};

    struct Nobody;
    impl Channel for Nobody {
        fn send(&mut self, _: &str, _: Vec<u8>) {}
        fn receive(&mut self) -> Option<(String, Vec<u8>)> {
            None
        }
    }

    fn schema(dtype: Dtype, len: u64) -> Schema {
        let shape = Shape::new(vec![len]).unwrap();
        [("w".to_owned(), Slot { shape, dtype })].into_iter().collect()
    }

    fn header(dtype: Dtype, len: u64, weight: f64) -> UploadHeader {
        UploadHeader {
            task: "train".into(),
            round: 1,
            kind: DataKind::WeightDiff,
            schema: schema(dtype, len),
            step: matches!(dtype, Dtype::I32 | Dtype::I64).then(|| Step::new(1).unwrap()),
            weight,
            metrics: BTreeMap::new(),
            receipt: None,
            seal: None,
            len: 0,
            digest: [0; 32],
        }
    }

    fn sum(combine: Combine, len: u64) -> Box<PlainSum> {
        let model = schema(Dtype::F32, len);
        Box::new(PlainSum::new(combine, DataKind::WeightDiff, model))
    }

    #[test]
    fn every_element_type_enters_the_sum_with_its_weight() {
        let mut total = sum(Combine::Weighted, 2);
        let floats: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let doubles: Vec<u8> = [0.5f64, 1.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let narrow: Vec<u8> = [3i32, -4].iter().flat_map(|x| x.to_le_bytes()).collect();
        let wide: Vec<u8> = [1i64 << 33, -6].iter().flat_map(|x| x.to_le_bytes()).collect();
        total.add("a", &header(Dtype::F32, 2, 2.0), &mut &floats[..]).unwrap();
        total.add("a", &header(Dtype::F64, 2, 4.0), &mut &doubles[..]).unwrap();
        total.add("a", &header(Dtype::I32, 2, 1.0), &mut &narrow[..]).unwrap();
        total.add("a", &header(Dtype::I64, 2, 1.0), &mut &wide[..]).unwrap();
        let done = total.finish(&mut Nobody).unwrap();
        assert_eq!((done.weights["w"], done.uploads), (8.0, 4));
        let expected = vec![3.0 + 2.0 + 1.5 + (1u64 << 32) as f64, -4.0 + 4.0 - 2.0 - 3.0];
        assert_eq!(done.sum.0["w"].values(), &Values::F64(expected));
    }

    #[test]
    fn a_short_or_infinite_upload_voids_the_sum() {
        let mut total = sum(Combine::Sum, 20_000);
        let body = vec![0u8; 4 * 20_000 - 1];
        assert!(total.add("a", &header(Dtype::F32, 20_000, 1.0), &mut &body[..]).is_err());
        assert!(total.finish(&mut Nobody).is_err());
        let mut total = sum(Combine::Sum, 1);
        let body = f32::INFINITY.to_le_bytes();
        let refused = total.add("a", &header(Dtype::F32, 1, 1.0), &mut &body[..]);
        assert_eq!(refused.unwrap_err().code, Code::Overflow);
        assert!(total.finish(&mut Nobody).is_err());
    }

    #[test]
    fn a_header_must_fit_the_model() {
        let total = sum(Combine::Sum, 2);
        let code = |header: &UploadHeader| total.admit("a", header).err().map(|r| r.code);
        assert_eq!(code(&header(Dtype::F32, 2, 1.0)), None);
        assert_eq!(code(&header(Dtype::F32, 3, 1.0)), Some(Code::ShapeMismatch));
        for weight in [0.0, -1.0, 1e-300, 1e300, f64::NAN] {
            assert_eq!(code(&header(Dtype::F32, 2, weight)), Some(Code::Malformed));
        }
        let mut relabelled = header(Dtype::F32, 2, 1.0);
        relabelled.kind = DataKind::Metrics;
        assert_eq!(code(&relabelled), Some(Code::UnexpectedKind));
        let mut stepless = header(Dtype::I32, 2, 1.0);
        stepless.step = None;
        assert_eq!(code(&stepless), Some(Code::DtypeMismatch));
        let mut more = header(Dtype::F32, 2, 1.0);
        let slot = more.schema.0["w"].clone();
        more.schema.0.insert("x".into(), slot);
        assert_eq!(code(&more), Some(Code::UnknownTensor));
        let mut renamed = header(Dtype::F32, 2, 1.0);
        let slot = renamed.schema.0.remove("w").unwrap();
        renamed.schema.0.insert("x".into(), slot);
        assert_eq!(code(&renamed), Some(Code::UnknownTensor));
        renamed.schema.0.clear();
        assert_eq!(code(&renamed), Some(Code::MissingTensor));
    }
}
