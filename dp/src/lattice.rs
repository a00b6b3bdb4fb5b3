//! From floats to integers of proved norm.
//!
//! A vector x is scaled to norm ≤ C, divided by the lattice step γ and truncated toward zero.
//! Truncation shortens every coordinate, so the integers q satisfy ‖q‖ ≤ C/γ without any
//! inflation; but floats round, so nothing is concluded from that. What *proves* the bound is the
//! check Σ q_j² ≤ c² on the integers themselves.
//!
//! Float sums are not associative and break sensitivity (Casacuberta et al. 2022,
//! arXiv 2207.10635); therefore each record becomes integers first, and integers are summed.

use std::collections::BTreeMap;

use privet_core::sensitivity::{Bound, Lattice, LatticeTensor, Norm, Prover, Step, Unit};
use privet_core::tensor::Schema;

/// Bits of the bound in lattice units: 2^20 ≤ c < 2^21. So fine that truncation (at most one unit
/// a coordinate and record) vanishes against noise of at least one c, and that the discrete
/// Gaussian of σ ≥ c is a continuous one for all accounting purposes (see
/// [`accounting`](crate::accounting)).
const BITS: i32 = 21;

/// The bound and step for a clip of norm `clip`: c = ⌊clip/γ⌋ with γ = 2^-k and 2^20 ≤ c < 2^21.
/// `None` unless `clip` is positive, finite and within 2^±70.
pub fn bound_for(unit: Unit, clip: f64) -> Option<Bound> {
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
    Some(Bound { unit, norm: Norm::L2, lattice_units, step })
}

/// Integers of norm at most `bound`, in the direction of `values`.
///
/// # Guarantee
/// If this returns `true`, the integers appended to `out` satisfy Σ q² ≤ c², c =
/// `bound.lattice_units`; checked in integers. If it returns `false`, nothing was appended: some
/// value was not finite, or (not seen in practice) rounding defeated two attempts.
pub fn quantise<'a>(
    values: impl Iterator<Item = &'a f32> + Clone,
    bound: &Bound,
    out: &mut Vec<i64>,
) -> bool {
    let square: f64 = values.clone().map(|&x| f64::from(x) * f64::from(x)).sum();
    let norm = square.sqrt();
    if !norm.is_finite() {
        return false;
    }
    let c = bound.lattice_units;
    let step = bound.step.value();
    let clip = c as f64 * step;
    let start = out.len();
    // Both shrinks only make the check below pass more often; soundness rests on the check.
    for shrink in [1.0 - 2f64.powi(-40), 1.0 - 2f64.powi(-20)] {
        let scale = (clip / norm).min(1.0) * shrink / step;
        let mut sum: u128 = 0;
        let fits = values.clone().all(|&x| {
            let q = (f64::from(x) * scale) as i64; // toward zero; saturates
            out.push(q);
            // |q| ≤ c < 2^21 first, so that the square cannot overflow.
            let small = q.unsigned_abs() <= c;
            sum += u128::from(q.unsigned_abs().min(c)).pow(2);
            small
        });
        if fits && sum <= u128::from(c).pow(2) {
            return true;
        }
        out.truncate(start);
    }
    false
}

/// A sum over records in which no record can move the result by more than a bound.
///
/// # Guarantee
/// The lattice that [`RecordSum::finish`] gives has Euclidean sensitivity c under add/remove of a
/// record: it is Σ q_r over records r, in integers, and every q_r passed the check ‖q_r‖ ≤ c. A
/// record with a NaN or an infinity adds zero, which is within the bound, and is not reported: a
/// refusal would tell about the data.
pub struct RecordSum {
    bound: Bound,
    sum: Vec<i64>,
    record: Vec<i64>,
}

impl RecordSum {
    /// An empty sum of vectors of `coordinates` numbers. The bound's unit must be `record`.
    pub fn new(bound: Bound, coordinates: usize) -> Self {
        debug_assert_eq!(bound.unit, Unit::Record);
        Self { bound, sum: vec![0; coordinates], record: Vec::with_capacity(coordinates) }
    }

    /// Adds one record's vector; a vector of another length adds nothing.
    pub fn add(&mut self, values: &[f32]) {
        self.record.clear();
        if values.len() != self.sum.len() || !quantise(values.iter(), &self.bound, &mut self.record)
        {
            return;
        }
        for (sum, q) in self.sum.iter_mut().zip(&self.record) {
            // |q| < 2^21 and fewer than 2^42 records: no overflow.
            *sum += q;
        }
    }

    /// The sum as tensors of these names and shapes, in the order of their names, with its
    /// sensitivity. `None` when the shapes hold another number of coordinates.
    pub fn finish(self, prover: &Prover, schema: &Schema) -> Option<Lattice> {
        Some(Lattice::proven(prover, split(self.sum, schema)?, self.bound))
    }
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

    fn norm_fits(q: &[i64], bound: &Bound) -> bool {
        let square: u128 = q.iter().map(|&q| u128::from(q.unsigned_abs()).pow(2)).sum();
        square <= u128::from(bound.lattice_units).pow(2)
    }

    #[test]
    fn the_bound_never_exceeds_the_clip() {
        for clip in
            [0.5, 1.0, 0.1, 0.3, 1e-9, 12345.678, f64::MIN_POSITIVE.powf(0.05), 2f64.powi(60) - 1.0]
        {
            let bound = bound_for(Unit::Record, clip).unwrap();
            assert!(bound.value() <= clip, "{clip}");
            assert!(bound.value() >= clip * (1.0 - 2f64.powi(-20)), "{clip}");
            assert!((1 << 20..1 << 21).contains(&bound.lattice_units), "{clip}: {bound:?}");
        }
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-300, 1e300] {
            assert!(bound_for(Unit::Record, bad).is_none(), "{bad}");
        }
    }

    proptest! {
        /// For any record, present or absent, the integer sum moves by at most c.
        #[test]
        fn one_record_moves_the_sum_by_at_most_the_bound(
            records in proptest::collection::vec(proptest::collection::vec(proptest::num::f32::ANY, 7), 1..8),
            clip in 1e-3f64..1e3,
            left_out in 0usize..8,
        ) {
            let bound = bound_for(Unit::Record, clip).unwrap();
            let sum = |skip: Option<usize>| {
                let mut sum = RecordSum::new(bound, 7);
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
            prop_assert!(norm_fits(&difference, &bound));
        }

        /// Short vectors come through, long ones keep their direction.
        #[test]
        fn quantisation_is_faithful(values in proptest::collection::vec(-10f32..10.0, 1..50)) {
            let bound = bound_for(Unit::Site, 1.0).unwrap();
            let mut q = Vec::new();
            prop_assert!(quantise(values.iter(), &bound, &mut q));
            let norm = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            let factor = (1.0 / norm).min(1.0);
            for (&x, q) in values.iter().zip(q) {
                let back = q as f64 * bound.step.value();
                prop_assert!((back - f64::from(x) * factor).abs() <= 2.0 * bound.step.value());
            }
        }
    }

    #[test]
    fn a_record_that_is_not_finite_adds_nothing() {
        let bound = bound_for(Unit::Record, 1.0).unwrap();
        let mut sum = RecordSum::new(bound, 2);
        sum.add(&[f32::NAN, 1.0]);
        sum.add(&[f32::INFINITY, 1.0]);
        sum.add(&[0.25; 3]);
        assert_eq!(sum.sum, [0, 0]);
        sum.add(&[f32::MAX, 0.0]);
        assert!(sum.sum[0] > 0);
    }
}
