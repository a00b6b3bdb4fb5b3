//! Sensitivity: how far one record, or one site, can move what a site releases.
//!
//! A [`Bound`] is a number anybody may plan with. A [`Sensitivity`] is a bound that somebody has
//! *proved* of the integers it travels with; only a holder of a [`Prover`] can make one, and
//! provers are handed to Privet's built-in filters and trainers alone (see
//! [`Registry`](crate::Registry)).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tensor::{Dtype, Schema, Shape, Slot};

/// Whose participation a guarantee hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// One record of a data set.
    Record,
    /// Everything a site holds.
    Site,
}

impl Unit {
    /// The word used in files and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::Record => "record",
            Unit::Site => "site",
        }
    }
}

/// Which two data sets count as neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Adjacency {
    /// They differ by one unit being present or absent.
    #[default]
    AddRemove,
    /// They differ by one unit being exchanged for another.
    Replace,
}

impl Adjacency {
    /// The word used in files and texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Adjacency::AddRemove => "add-remove",
            Adjacency::Replace => "replace",
        }
    }

    /// By how much a bound on one unit's contribution grows: exchanging a unit takes one
    /// contribution out and puts another in.
    pub const fn factor(self) -> u64 {
        match self {
            Adjacency::AddRemove => 1,
            Adjacency::Replace => 2,
        }
    }
}

/// The lattice step γ = 2^-`exponent`, with |`exponent`| ≤ 100: a power of two, so that decoding
/// an integer multiplies without rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i16", into = "i16")]
pub struct Step(i16);

impl Step {
    /// The step 1.
    pub const ONE: Self = Self(0);

    /// The step 2^-`exponent`, or `None` outside −100…100.
    pub const fn new(exponent: i16) -> Option<Self> {
        if exponent < -100 || exponent > 100 { None } else { Some(Self(exponent)) }
    }

    /// k of 2^-k.
    pub const fn exponent(self) -> i16 {
        self.0
    }

    /// The step as a number.
    pub fn value(self) -> f64 {
        2f64.powi(-i32::from(self.0))
    }
}

impl TryFrom<i16> for Step {
    type Error = &'static str;
    fn try_from(exponent: i16) -> Result<Self, Self::Error> {
        Self::new(exponent).ok_or("lattice step out of range")
    }
}

impl From<Step> for i16 {
    fn from(step: Step) -> Self {
        step.0
    }
}

/// How the length of a vector is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// Sum of magnitudes.
    L1,
    /// Euclidean.
    L2,
    /// Largest magnitude.
    Linf,
}

impl Norm {
    /// The words used in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Norm::L1 => "sum of magnitudes",
            Norm::L2 => "Euclidean norm",
            Norm::Linf => "largest magnitude",
        }
    }
}

/// The chance with which each record takes part in a release, drawn anew and in secret every time
/// (Poisson sampling): a whole number of 2^-32, so that what is drawn is what is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SamplingRate(u32);

impl SamplingRate {
    /// The largest rate that is at most `rate`; `None` unless that lies between 0 and 1, both
    /// excluded.
    pub fn new(rate: f64) -> Option<Self> {
        let parts = rate * 4_294_967_296.0;
        (parts >= 1.0 && rate < 1.0).then_some(Self(parts as u32))
    }

    /// As a number.
    pub fn value(self) -> f64 {
        f64::from(self.0) / 4_294_967_296.0
    }

    /// Whether a uniform word takes its record in.
    pub const fn takes(self, word: u64) -> bool {
        (word >> 32) < self.0 as u64
    }
}

/// How far one unit can move a vector of lattice integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// Whose contribution is bounded.
    pub unit: Unit,
    /// How its length is measured.
    pub norm: Norm,
    /// The bound in lattice units: the norm of one unit's contribution is at most this integer.
    pub lattice_units: u64,
    /// The lattice step, so that `lattice_units · step` is the bound in the data's own scale.
    pub step: Step,
    /// The chance with which a unit contributes at all, if not always.
    pub sampled: Option<SamplingRate>,
}

impl Bound {
    /// The bound in the data's own scale.
    pub fn value(&self) -> f64 {
        self.lattice_units as f64 * self.step.value()
    }

    /// The bound on a lattice of steps 2^`bits` times as wide, rounded down: never above this one.
    #[must_use]
    pub fn coarser(self, bits: u8) -> Self {
        match Step::new(self.step.exponent() - i16::from(bits)) {
            Some(step) => Self { lattice_units: self.lattice_units >> bits.min(63), step, ..self },
            None => self,
        }
    }

    /// What this bound says of another norm, for vectors of `coordinates` numbers: no norm of the
    /// three is above an earlier one; from a later to an earlier one the bound grows by √d (l2 to
    /// l1, l∞ to l2) or d (l∞ to l1), rounded up.
    pub fn in_norm(&self, norm: Norm, coordinates: u64) -> u64 {
        let units = u128::from(self.lattice_units);
        let coordinates = u128::from(coordinates.max(1));
        let root = || {
            let square = units.saturating_mul(units).saturating_mul(coordinates);
            let root = square.isqrt();
            root + u128::from(root * root < square)
        };
        let grown = match (self.norm, norm) {
            (Norm::Linf, Norm::L1) => units.saturating_mul(coordinates),
            (Norm::L2, Norm::L1) | (Norm::Linf, Norm::L2) => root(),
            _ => units,
        };
        u64::try_from(grown).unwrap_or(u64::MAX)
    }
}

/// Leave to state a [`Sensitivity`]. Made by the registry alone, for built-ins alone.
#[derive(Debug, Clone, Copy)]
pub struct Prover(pub(crate) ());

/// A [`Bound`] that was proved of the very integers it is attached to. It is made with them, by
/// [`Lattice::proven`], and cannot be attached to others.
///
/// # Guarantee
/// For every two neighbouring (add/remove) data sets, the integers differ by at most
/// `bound.lattice_units` in `bound.norm`; and with `bound.sampled`, each record is in them with that
/// chance, independently of all others and unknown to everybody.
///
/// ```compile_fail,E0423
/// use privet_core::sensitivity::{Bound, Lattice, Prover};
/// fn forge(bound: Bound) -> Lattice { Lattice::proven(&Prover(()), Default::default(), bound) }
/// ```
/// ```compile_fail,E0451
/// use privet_core::sensitivity::{Bound, Sensitivity};
/// fn forge(bound: Bound) -> Sensitivity { Sensitivity { bound } } // private field
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sensitivity {
    bound: Bound,
}

impl Sensitivity {
    /// What was proved.
    pub fn bound(&self) -> Bound {
        self.bound
    }
}

/// One tensor of lattice integers.
#[derive(Debug, Clone, PartialEq)]
pub struct LatticeTensor {
    shape: Shape,
    values: Vec<i64>,
}

impl LatticeTensor {
    /// A tensor, or `None` when the shape does not hold exactly these values.
    pub fn new(shape: Shape, values: Vec<i64>) -> Option<Self> {
        (shape.elements() == values.len() as u64).then_some(Self { shape, values })
    }

    /// Its dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its elements, in units of the lattice step.
    pub fn values(&self) -> &[i64] {
        &self.values
    }
}

/// Integer tensors on a lattice of public step, with the sensitivity somebody proved of them.
///
/// Whatever could change the sensitivity drops it: [`Lattice::map`] gives back a lattice without
/// one. [`Lattice::retain`] is a projection, which moves no two points further apart, so it keeps
/// what was proved; so does noise.
#[derive(Debug, Clone, PartialEq)]
pub struct Lattice {
    step: Step,
    tensors: BTreeMap<String, LatticeTensor>,
    sensitivity: Option<Sensitivity>,
}

impl Lattice {
    /// Integers of which nothing is proved.
    pub fn new(step: Step, tensors: BTreeMap<String, LatticeTensor>) -> Self {
        Self { step, tensors, sensitivity: None }
    }

    /// Integers of which a bound is proved; their step is the bound's.
    ///
    /// # Guarantee
    /// By the caller: that of [`Sensitivity`].
    pub fn proven(_: &Prover, tensors: BTreeMap<String, LatticeTensor>, bound: Bound) -> Self {
        Self { step: bound.step, tensors, sensitivity: Some(Sensitivity { bound }) }
    }

    /// The lattice step.
    pub fn step(&self) -> Step {
        self.step
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, LatticeTensor> {
        &self.tensors
    }

    /// All integers, in the order of the tensors' names. What was proved of them is given up.
    pub fn into_values(self) -> Vec<i64> {
        let elements = self.elements() as usize;
        let mut tensors = self.tensors.into_values();
        // The first tensor's memory is taken as it is; often there is no other.
        let mut values = tensors.next().map(|tensor| tensor.values).unwrap_or_default();
        values.reserve_exact(elements.saturating_sub(values.len()));
        tensors.for_each(|tensor| values.extend_from_slice(&tensor.values));
        values
    }

    /// What was proved of these integers, if anything.
    pub fn sensitivity(&self) -> Option<Sensitivity> {
        self.sensitivity
    }

    /// Keeps the named tensors. A projection: the sensitivity stays.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.tensors.retain(|name, _| keep(name));
    }

    /// Changes the integers tensor by tensor, in the order of their names. The sensitivity is
    /// dropped, since it spoke of the old integers.
    pub fn map<E>(
        mut self,
        mut change: impl FnMut(&mut [i64]) -> Result<(), E>,
    ) -> Result<Self, E> {
        for tensor in self.tensors.values_mut() {
            change(&mut tensor.values)?;
        }
        self.sensitivity = None;
        Ok(self)
    }

    /// Adds to the integers what does not depend on them, tensor by tensor in the order of their
    /// names. A translation moves no two points apart: the sensitivity stays.
    ///
    /// # Guarantee
    /// By the caller: `add` adds, to each integer, a number drawn independently of all of them.
    ///
    /// # Errors
    /// What `add` returns; the lattice is gone then.
    pub fn add_independent<E>(
        mut self,
        _: &Prover,
        mut add: impl FnMut(&mut [i64]) -> Result<(), E>,
    ) -> Result<Self, E> {
        for tensor in self.tensors.values_mut() {
            add(&mut tensor.values)?;
        }
        Ok(self)
    }

    /// Number of integers.
    pub fn elements(&self) -> u64 {
        self.tensors.values().map(|t| t.shape.elements()).sum()
    }

    /// The narrowest element type that holds every integer. Public only once noise is in.
    pub fn dtype(&self) -> Dtype {
        // Without an early exit, so that it becomes vectors.
        let magnitudes = |t: &LatticeTensor| t.values.iter().fold(0, |bits, &v| bits | v ^ v >> 63);
        let narrow = self.tensors.values().all(|t| magnitudes(t) <= i64::from(i32::MAX));
        if narrow { Dtype::I32 } else { Dtype::I64 }
    }

    /// Names and shapes, with the element type given.
    pub fn schema(&self, dtype: Dtype) -> Schema {
        let slot = |tensor: &LatticeTensor| Slot { shape: tensor.shape.clone(), dtype };
        self.tensors.iter().map(|(name, tensor)| (name.clone(), slot(tensor))).collect()
    }

    /// Euclidean norm in the data's own scale.
    pub fn l2(&self) -> f64 {
        // Eight sums side by side, which need not wait for each other.
        let mut lanes = [0f64; 8];
        for tensor in self.tensors.values() {
            let (eights, rest) = tensor.values.as_chunks::<8>();
            for eight in eights {
                lanes.iter_mut().zip(eight).for_each(|(sum, &v)| *sum += (v as f64) * (v as f64));
            }
            rest.iter().for_each(|&v| lanes[0] += (v as f64) * (v as f64));
        }
        lanes.iter().sum::<f64>().sqrt() * self.step.value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lattice() -> Lattice {
        let step = Step::new(20).unwrap();
        let bound =
            Bound { unit: Unit::Record, norm: Norm::L2, lattice_units: 7, step, sampled: None };
        let vector = |values: Vec<i64>| {
            LatticeTensor::new(Shape::new(vec![values.len() as u64]).unwrap(), values).unwrap()
        };
        let tensors = [("a", vec![1, 2]), ("b", vec![1 << 40])]
            .map(|(name, values)| (name.to_owned(), vector(values)));
        Lattice::proven(&Prover(()), tensors.into(), bound)
    }

    #[test]
    fn a_projection_keeps_the_sensitivity_and_a_map_drops_it() {
        let mut projected = lattice();
        projected.retain(|name| name == "a");
        assert_eq!(projected.elements(), 2);
        assert!(projected.sensitivity().is_some());
        let mapped = lattice().map::<()>(|_| Ok(())).unwrap();
        assert!(mapped.sensitivity().is_none());
    }

    #[test]
    fn a_bound_says_something_of_every_norm() {
        let bound = |norm| Bound {
            unit: Unit::Site,
            norm,
            lattice_units: 10,
            step: Step(0),
            sampled: None,
        };
        let says = |from, to| bound(from).in_norm(to, 5);
        assert_eq!([Norm::L1, Norm::L2, Norm::Linf].map(|to| says(Norm::L1, to)), [10, 10, 10]);
        assert_eq!([Norm::L1, Norm::L2, Norm::Linf].map(|to| says(Norm::L2, to)), [23, 10, 10]);
        assert_eq!([Norm::L1, Norm::L2, Norm::Linf].map(|to| says(Norm::Linf, to)), [50, 23, 10]);
        // Four fives: 20 against 10, and no four numbers of length 10 have a larger sum.
        assert_eq!(bound(Norm::L2).in_norm(Norm::L1, 4), 20);
        assert_eq!(bound(Norm::Linf).in_norm(Norm::L1, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_coarser_bound_is_no_larger() {
        let step = Step(20);
        let bound = |lattice_units| Bound {
            unit: Unit::Record,
            norm: Norm::L2,
            lattice_units,
            step,
            sampled: None,
        };
        for units in [1 << 20, (1 << 21) - 1, 1_234_567] {
            let coarse = bound(units).coarser(8);
            assert!(coarse.value() <= bound(units).value());
            assert!(coarse.value() > bound(units).value() * (1.0 - 2f64.powi(-12)));
            assert!((1 << 12..1 << 13).contains(&coarse.lattice_units));
        }
    }

    #[test]
    fn the_element_type_is_the_narrowest() {
        let mut lattice = lattice();
        assert_eq!(lattice.dtype(), Dtype::I64);
        lattice.retain(|name| name == "a");
        assert_eq!(lattice.dtype(), Dtype::I32);
    }
}
