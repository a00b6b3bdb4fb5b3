//! From floats to integers of proved norm.
//!
//! A vector x is scaled to norm ≤ C, divided by the lattice step γ and truncated toward zero.
//! Truncation shortens every coordinate, so the integers q satisfy ‖q‖ ≤ C/γ without any
//! inflation; but floats round, so nothing is concluded from that. What *proves* the bound is the
//! check of the integers themselves: Σ q_j² ≤ c² (or Σ|q_j| ≤ c, or each |q_j| ≤ c).
//!
//! Float sums are not associative and break sensitivity (Casacuberta et al. 2022,
//! arXiv 2207.10635); therefore each record becomes integers first, and integers are summed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use privet_core::sensitivity::{
    Bound, Lattice, LatticeTensor, Norm, Prover, SamplingRate, Step, Unit,
};
use privet_core::tensor::{Schema, Shape};
use privet_core::{Code, Content, Reason, adaptive};
use privet_crypto::{Backend, Seed, Words, kernel};

/// Bits of the bound in lattice units: 2^20 ≤ c < 2^21. So fine that truncation (at most one unit
/// a coordinate and record) vanishes against noise of at least one c, and that the discrete
/// Gaussian of σ ≥ c is a continuous one for all accounting purposes (see
/// [`accounting`](crate::accounting)).
const BITS: i32 = 21;

/// The fewest lattice units that a bound of [`bound_for`] has.
pub const FEWEST_UNITS: u64 = 1 << (BITS - 1);

/// The bound and step for a clip to `clip` in a norm: c = ⌊clip/γ⌋ with γ = 2^-k and
/// 2^20 ≤ c < 2^21. `None` unless `clip` is positive, finite and within 2^±70.
pub fn bound_for(unit: Unit, norm: Norm, clip: f64) -> Option<Bound> {
    if !clip.is_finite() || !(2f64.powi(-70)..2f64.powi(70)).contains(&clip) {
        return None;
    }
    let mut exponent = BITS - 1 - clip.log2().floor() as i32;
    // log2 may round up to an integer just below a power of two.
    while clip * 2f64.powi(exponent) >= 2f64.powi(BITS) {
        exponent -= 1;
    }
    let step = Step::new(i16::try_from(exponent).ok()?)?;
    // A product with a power of two is exact, and c² stays far below 2^53.
    let lattice_units = (clip * 2f64.powi(exponent)).floor() as u64;
    Some(Bound { unit, norm, lattice_units, step, sampled: None })
}

/// Integers within `bound`, in the direction of `values`; under l∞, each number is brought into
/// range for itself. The vector may lie in several pieces, each with its piece of `out`.
///
/// # Guarantee
/// If this returns `true`, the integers are at most c = `bound.lattice_units` in the bound's norm;
/// checked in integers. If it returns `false`, `out` holds nothing of use: some value was not
/// finite, or (not seen in practice) rounding defeated two attempts.
pub fn quantise(values: &[&[f32]], bound: &Bound, out: &mut [&mut [i64]]) -> bool {
    let norm = length(values, bound.norm);
    if !norm.is_finite() {
        return false;
    }
    let c = bound.lattice_units;
    let step = bound.step.value();
    // Both shrinks only make the check below pass more often; soundness rests on the check.
    for shrink in [1.0 - 2f64.powi(-40), 1.0 - 2f64.powi(-20)] {
        let scale = match bound.norm {
            Norm::Linf => 1.0 / step,
            Norm::L1 | Norm::L2 => (c as f64 * step / norm).min(1.0) * shrink / step,
        };
        let mut length = Length::default();
        for (values, out) in values.iter().zip(&mut *out) {
            for (values, out) in values.chunks(BLOCK).zip(out.chunks_mut(BLOCK)) {
                length.and(&truncate(fastest(), values, scale, c as f64, out));
            }
        }
        if length.within(bound.norm, c) {
            return true;
        }
    }
    false
}

/// Numbers that are worked on together; few enough for sums of their squares to fit 64 bits.
const BLOCK: usize = 1024;

/// The length of a vector of floats. Lanes are summed apart, so that it vectorises; the order does
/// not matter, since nothing is concluded from it.
fn length(values: &[&[f32]], norm: Norm) -> f64 {
    let mut lanes = [0f64; 8];
    for values in values {
        match norm {
            Norm::L2 => squares(fastest(), values, &mut lanes),
            // For l∞ only whether all are finite is of interest.
            Norm::L1 | Norm::Linf => magnitudes(fastest(), values, &mut lanes),
        }
    }
    let total: f64 = lanes.iter().sum();
    if norm == Norm::L2 { total.sqrt() } else { total }
}

kernel! {
    fn squares(values: &[f32], lanes: &mut [f64; 8]) = sum_squares;
}
kernel! {
    fn magnitudes(values: &[f32], lanes: &mut [f64; 8]) = sum_magnitudes;
}
kernel! {
    /// Truncates at most [`BLOCK`] scaled values toward zero, to magnitudes of at most `most` < 2^26;
    /// the sums of their magnitudes and squares then fit 64 bits.
    fn truncate(values: &[f32], scale: f64, most: f64, out: &mut [i64]) -> Length = truncated;
}

#[inline(always)]
fn sum_squares(values: &[f32], lanes: &mut [f64; 8]) {
    sum(values, lanes, |x| x * x);
}

#[inline(always)]
fn sum_magnitudes(values: &[f32], lanes: &mut [f64; 8]) {
    sum(values, lanes, f64::abs);
}

#[inline(always)]
fn sum(values: &[f32], lanes: &mut [f64; 8], value: impl Fn(f64) -> f64) {
    let (eights, rest) = values.as_chunks::<8>();
    for eight in eights {
        for (lane, &x) in lanes.iter_mut().zip(eight) {
            *lane += value(f64::from(x));
        }
    }
    rest.iter().for_each(|&x| lanes[0] += value(f64::from(x)));
}

/// The fastest instructions that truncate here as none do.
fn fastest() -> Backend {
    static FASTEST: OnceLock<Backend> = OnceLock::new();
    *FASTEST.get_or_init(|| Backend::fastest(agrees))
}

/// Whether instructions give what the scalar code does, of numbers of all kinds.
fn agrees(backend: Backend) -> bool {
    let values: Vec<f32> =
        (0..1000u32).map(|i| f32::from_bits(i.wrapping_mul(4_285_404))).collect();
    let run = |backend| {
        let (mut out, mut lanes) = (vec![0; values.len()], [0f64; 8]);
        let length = truncate(backend, &values, 1e3, 1e6, &mut out);
        squares(backend, &values[..500], &mut lanes);
        magnitudes(backend, &values[500..], &mut lanes);
        (out, length.l1, length.l2_square, length.largest, lanes.map(f64::to_bits))
    };
    run(backend) == run(Backend::Scalar)
}

/// The lengths of an integer vector, exactly.
#[derive(Default)]
struct Length {
    l1: u128,
    l2_square: u128,
    largest: u64,
}

impl Length {
    fn and(&mut self, other: &Self) {
        self.l1 += other.l1;
        self.l2_square += other.l2_square;
        self.largest = self.largest.max(other.largest);
    }

    fn within(&self, norm: Norm, c: u64) -> bool {
        match norm {
            Norm::L1 => self.l1 <= u128::from(c),
            Norm::L2 => self.l2_square <= u128::from(c).pow(2),
            Norm::Linf => self.largest <= c,
        }
    }
}

#[inline(always)]
fn truncated(values: &[f32], scale: f64, most: f64, out: &mut [i64]) -> Length {
    debug_assert!(values.len() <= BLOCK && most < 67_108_864.0);
    let (mut l1, mut l2_square, mut largest) = (0u64, 0u64, 0u32);
    for (&x, out) in values.iter().zip(out) {
        let q = (f64::from(x) * scale).clamp(-most, most) as i32;
        *out = i64::from(q);
        let magnitude = q.unsigned_abs();
        l1 += u64::from(magnitude);
        l2_square += u64::from(magnitude) * u64::from(magnitude);
        largest = largest.max(magnitude);
    }
    Length { l1: l1.into(), l2_square: l2_square.into(), largest: largest.into() }
}

/// A sum over records in which no record can move the result by more than a bound.
///
/// # Guarantee
/// The lattice that [`RecordSum::finish`] gives has sensitivity c in the bound's norm under
/// add/remove of a record: it is Σ q_r over records r, in integers, and each ‖q_r‖ ≤ c was checked. A
/// record with a NaN or an infinity adds zero, which is within the bound, and is not reported: a
/// refusal would tell about the data.
pub struct RecordSum {
    /// The sample that the records are of.
    sample: Option<(SamplingRate, Words)>,
    bound: Bound,
    /// The bound of a record's vector: all of `bound`, or what its indicator leaves.
    part: Bound,
    sum: Vec<i64>,
    record: Vec<i64>,
    /// What an indicator is worth, in lattice units, and their sum.
    indicators: Option<(i64, i64)>,
}

impl RecordSum {
    /// An empty sum of vectors of `coordinates` numbers. The bound's unit must be `record`.
    ///
    /// # Errors
    /// When a sample is to be drawn and the operating system gives no random bytes.
    pub fn new(bound: Bound, coordinates: usize) -> Result<Self, Reason> {
        debug_assert_eq!(bound.unit, Unit::Record);
        let draw = |rate| match Seed::from_os() {
            Ok(seed) => Ok((rate, Words::new(&seed))),
            Err(error) => Err(Reason::new(Code::StorageFailed, error.to_string())),
        };
        let sample = bound.sampled.map(draw).transpose()?;
        let (sum, record) = (vec![0; coordinates], vec![0; coordinates]);
        Ok(Self { sample, bound, part: bound, sum, record, indicators: None })
    }

    /// Has every record say besides whether its vector was within the clip: one more number of the
    /// same record, which [`RecordSum::finish`] puts into the tensor [`adaptive::TENSOR`].
    ///
    /// # Guarantee
    /// A record's vector q and indicator ±w satisfy ‖q‖² + w² ≤ c². The bound is Euclidean.
    #[must_use]
    pub fn with_indicator(mut self) -> Self {
        debug_assert_eq!(self.bound.norm, Norm::L2);
        let c = self.bound.lattice_units;
        let worth = (c as f64 * adaptive::SHARE) as u64;
        self.part.lattice_units = (c * c).saturating_sub(worth * worth).isqrt();
        self.indicators = Some((worth as i64, 0));
        self
    }

    /// Draws whether the next record is in the sample; every record's caller asks once, and adds it
    /// only then. Without sampling, it always is.
    pub fn takes_next(&mut self) -> bool {
        self.sample.as_mut().is_none_or(|(rate, words)| rate.takes(words.word()))
    }

    /// Adds one record's vector; a vector of another length adds nothing.
    pub fn add(&mut self, values: &[f32]) {
        let fits = values.len() == self.sum.len();
        if !fits || !quantise(&[values], &self.part, &mut [&mut self.record]) {
            return;
        }
        if let Some((worth, sum)) = &mut self.indicators {
            let within = length(&[values], Norm::L2) <= self.bound.value();
            *sum += if within { *worth } else { -*worth };
        }
        for (sum, q) in self.sum.iter_mut().zip(&self.record) {
            // |q| < 2^21 and fewer than 2^42 records: no overflow.
            *sum += q;
        }
    }

    /// The sum as tensors of these names and shapes, in the order of their names, with its
    /// sensitivity. `None` when the shapes hold another number of coordinates.
    pub fn finish(self, prover: &Prover, schema: &Schema) -> Option<Lattice> {
        let mut tensors = split(self.sum, schema)?;
        if let Some((_, sum)) = self.indicators {
            let indicators = LatticeTensor::new(Shape::scalar(), vec![sum])?;
            tensors.insert(adaptive::TENSOR.to_owned(), indicators);
        }
        Some(Lattice::proven(prover, tensors, self.bound))
    }
}

/// The integers of a message that is to get noise, and what is proved of them.
///
/// # Errors
/// When it holds no lattice, or nothing is proved of it any more.
pub(crate) fn proved(content: Content) -> Result<(Lattice, Bound), Reason> {
    let Content::Lattice(lattice) = content else {
        let detail = format!("lattice integers were expected, not {}", content.as_str());
        return Err(Reason::new(Code::WrongContent, detail));
    };
    let Some(sensitivity) = lattice.sensitivity() else {
        let detail =
            "the proof of sensitivity was lost on the way: an earlier filter changed the numbers";
        return Err(Reason::new(Code::MissingSensitivity, detail));
    };
    Ok((lattice, sensitivity.bound()))
}

/// Cuts a flat vector into tensors, in the order of their names.
pub(crate) fn split(flat: Vec<i64>, schema: &Schema) -> Option<BTreeMap<String, LatticeTensor>> {
    if flat.len() as u64 != schema.elements() {
        return None;
    }
    let mut rest = &flat[..];
    let mut tensors = BTreeMap::new();
    for (name, slot) in &schema.0 {
        let (values, after) = rest.split_at(usize::try_from(slot.shape.elements()).ok()?);
        rest = after;
        tensors.insert(name.clone(), LatticeTensor::new(slot.shape.clone(), values.to_vec())?);
    }
    Some(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Length of an integer vector, in another way than above.
    fn within(q: &[i64], bound: &Bound) -> bool {
        let magnitudes = || q.iter().map(|&q| u128::from(q.unsigned_abs()));
        let c = u128::from(bound.lattice_units);
        match bound.norm {
            Norm::L1 => magnitudes().sum::<u128>() <= c,
            Norm::L2 => magnitudes().map(|q| q * q).sum::<u128>() <= c * c,
            Norm::Linf => magnitudes().max().unwrap_or(0) <= c,
        }
    }

    const NORMS: [Norm; 3] = [Norm::L1, Norm::L2, Norm::Linf];

    #[test]
    fn the_bound_never_exceeds_the_clip() {
        for clip in
            [0.5, 1.0, 0.1, 0.3, 1e-9, 12345.678, f64::MIN_POSITIVE.powf(0.05), 2f64.powi(60) - 1.0]
        {
            let bound = bound_for(Unit::Record, Norm::L2, clip).unwrap();
            assert!(bound.value() <= clip, "{clip}");
            assert!(bound.value() >= clip * (1.0 - 2f64.powi(-20)), "{clip}");
            assert!((1 << 20..1 << 21).contains(&bound.lattice_units), "{clip}: {bound:?}");
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 1e300] {
            assert!(bound_for(Unit::Record, Norm::L2, bad).is_none(), "{bad}");
        }
    }

    proptest! {
        /// For any record, present or absent, the integer sum moves by at most c.
        #[test]
        fn one_record_moves_the_sum_by_at_most_the_bound(
            records in proptest::collection::vec(proptest::collection::vec(proptest::num::f32::ANY, 7), 1..8),
            clip in 1e-3f64..1e3,
            left_out in 0usize..8,
            norm in 0usize..3,
        ) {
            let bound = bound_for(Unit::Record, NORMS[norm], clip).unwrap();
            let sum = |skip: Option<usize>| {
                let mut sum = RecordSum::new(bound, 7).unwrap();
                for (i, record) in records.iter().enumerate() {
                    if Some(i) != skip {
                        sum.add(record);
                    }
                }
                sum.sum
            };
            let difference: Vec<i64> = sum(None)
                .iter()
                .zip(sum(Some(left_out % records.len())))
                .map(|(a, b)| a - b)
                .collect();
            prop_assert!(within(&difference, &bound));
        }

        /// Short vectors come through, long ones keep their direction (or, under l∞, each number
        /// its sign), whatever pieces they lie in.
        #[test]
        fn quantisation_is_faithful(
            values in proptest::collection::vec(-10f32..10.0, 1..3000),
            cut in 0usize..3000,
            norm in 0usize..3,
        ) {
            let bound = bound_for(Unit::Site, NORMS[norm], 1.0).unwrap();
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut q = vec![0; values.len()];
            let (q_left, q_right) = q.split_at_mut(left.len());
            prop_assert!(quantise(&[left, right], &bound, &mut [q_left, q_right]));
            prop_assert!(within(&q, &bound));
            let wide = values.iter().map(|&x| f64::from(x));
            let factor = match bound.norm {
                Norm::L1 => 1.0 / wide.map(f64::abs).sum::<f64>(),
                Norm::L2 => 1.0 / wide.map(|x| x * x).sum::<f64>().sqrt(),
                Norm::Linf => 1.0,
            };
            for (&x, q) in values.iter().zip(q) {
                let back = q as f64 * bound.step.value();
                let expected = (f64::from(x) * factor.min(1.0)).clamp(-1.0, 1.0);
                prop_assert!((back - expected).abs() <= 2.0 * bound.step.value());
            }
        }
    }

    /// A record's vector and its indicator are together within the bound, and say what they should.
    #[test]
    fn an_indicator_takes_its_part_of_the_bound() {
        let bound = bound_for(Unit::Record, Norm::L2, 1.0).unwrap();
        for (vector, sign) in [([0.5, 0.6], 1), ([30.0, 40.0], -1), ([0.0, 0.0], 1)] {
            let mut sum = RecordSum::new(bound, 2).unwrap().with_indicator();
            sum.add(&vector);
            sum.add(&[f32::NAN, 0.0]);
            let (worth, indicators) = sum.indicators.unwrap();
            assert_eq!(indicators, sign * worth);
            assert!(
                (worth as f64 / (adaptive::SHARE * bound.lattice_units as f64) - 1.0).abs() < 1e-5
            );
            let joint = [&sum.sum[..], &[indicators]].concat();
            assert!(within(&joint, &bound), "{joint:?}");
            if sign < 0 {
                let square: f64 = joint.iter().map(|&q| (q as f64).powi(2)).sum();
                assert!(square.sqrt() > 0.9999 * bound.lattice_units as f64);
            }
        }
    }

    #[test]
    fn a_record_that_is_not_finite_adds_nothing() {
        let bound = bound_for(Unit::Record, Norm::L2, 1.0).unwrap();
        let mut sum = RecordSum::new(bound, 2).unwrap();
        sum.add(&[f32::NAN, 1.0]);
        sum.add(&[f32::INFINITY, 1.0]);
        sum.add(&[0.25; 3]);
        assert_eq!(sum.sum, [0, 0]);
        sum.add(&[f32::MAX, 0.0]);
        assert!(sum.sum[0] > 0);
    }
}
