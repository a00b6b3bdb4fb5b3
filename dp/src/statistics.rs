//! Counts, sums and histograms of a table, as integers of proved sensitivity.
//!
//! ```text
//!   column, scaled to [−1, 1] ─▶ integers of 2^-20 ─▶ opendp: clamp, count, sum, count by category
//!                                                     └ its stability maps ─▶ Δ of each ─▶ √ΣΔ²
//! ```
//! Transformations and their stability maps are opendp's; sums are of integers, so the maps are exact.
//! The noise is ours, at the maps' scale: without OpenSSL opendp's own comes from a generator that
//! opendp itself does not call secure. A record is one row, present or absent; one that has no number
//! in a column is not in that column's answers.

use std::collections::BTreeMap;

use opendp::core::Transformation;
use opendp::domains::{AtomDomain, VectorDomain};
use opendp::error::Error;
use opendp::metrics::{AbsoluteDistance, L1Distance, SymmetricDistance};
use opendp::transformations::{make_clamp, make_count, make_count_by_categories, make_sum};
use privet_core::sensitivity::{Bound, Lattice, LatticeTensor, Norm, Prover, Step, Unit};
use privet_core::tensor::{Dtype, Schema, Shape, Slot};
use privet_core::{Code, Reason};

/// 1 in lattice units.
const ONE: i64 = 1 << 20;
/// Log₂ of [`ONE`].
const BITS: i16 = 20;

/// What is asked of one column. How many records have a number there is always told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Name of the column.
    pub column: String,
    /// Σy, y the number scaled to [−1, 1].
    pub sum: bool,
    /// Σy².
    pub squares: bool,
    /// How many lie in each of so many bins of equal width.
    pub bins: Option<u32>,
}

/// Names of a column's tensors: its own name, a dot, and one of these.
pub const COUNT: &str = "count";
/// See [`COUNT`].
pub const SUM: &str = "sum";
/// See [`COUNT`].
pub const SQUARES: &str = "squares";
/// See [`COUNT`].
pub const BINS: &str = "bins";

type Numbers = VectorDomain<AtomDomain<i64>>;

/// One answer about a column's integers, and how far one record can move it.
enum Part {
    Number(Transformation<Numbers, SymmetricDistance, AtomDomain<i64>, AbsoluteDistance<i64>>),
    Numbers(Transformation<Numbers, SymmetricDistance, Numbers, L1Distance<i64>>),
}

/// A part with its name, its number of coordinates, what its integers count in units of
/// [`ONE`], and how a column's integer becomes its input.
struct Asked {
    name: &'static str,
    coordinates: u64,
    scale: i64,
    input: fn(i64, u32) -> i64,
    part: Part,
}

fn unlikely(error: Error) -> Reason {
    Reason::new(Code::InvalidJob, format!("the statistics cannot be asked: {error}"))
}

fn summed(low: i64, high: i64) -> Result<Part, Error> {
    let domain = VectorDomain::new(AtomDomain::default());
    let clamp = make_clamp(domain, SymmetricDistance, (low, high))?;
    let sum = make_sum(clamp.output_domain.clone(), SymmetricDistance)?;
    Ok(Part::Number((clamp >> sum)?))
}

impl Question {
    fn parts(&self) -> Result<Vec<Asked>, Error> {
        let domain = || VectorDomain::new(AtomDomain::default());
        let count = Part::Number(make_count(domain(), SymmetricDistance)?);
        let mut parts =
            vec![Asked { name: COUNT, coordinates: 1, scale: ONE, input: |y, _| y, part: count }];
        if self.sum {
            let part = summed(-ONE, ONE)?;
            parts.push(Asked { name: SUM, coordinates: 1, scale: 1, input: |y, _| y, part });
        }
        if self.squares {
            let part = summed(0, ONE)?;
            // y² ≤ 1 has the magnitude of y in units of 2^-20, rounded down.
            let input = |y: i64, _| (y * y) >> BITS;
            parts.push(Asked { name: SQUARES, coordinates: 1, scale: 1, input, part });
        }
        if let Some(bins) = self.bins {
            let categories = (0..i64::from(bins)).collect();
            let part = make_count_by_categories(domain(), SymmetricDistance, categories, false)?;
            let input = |y: i64, bins: u32| {
                let bins = i64::from(bins);
                ((y + ONE) * bins / (2 * ONE)).clamp(0, bins - 1)
            };
            let (coordinates, part) = (u64::from(bins), Part::Numbers(part));
            parts.push(Asked { name: BINS, coordinates, scale: ONE, input, part });
        }
        Ok(parts)
    }
}

impl Part {
    /// How far adding or removing one record moves the answer, in the sum of magnitudes.
    fn stability(&self) -> Result<i64, Error> {
        match self {
            Part::Number(part) => part.map(&1),
            Part::Numbers(part) => part.map(&1),
        }
    }

    fn answer(&self, input: &Vec<i64>) -> Result<Vec<i64>, Error> {
        match self {
            Part::Number(part) => Ok(vec![part.invoke(input)?]),
            Part::Numbers(part) => part.invoke(input),
        }
    }
}

/// Names and shapes of the answers.
///
/// # Errors
/// When there are too many.
pub fn schema(questions: &[Question]) -> Result<Schema, Reason> {
    let mut slots = Vec::new();
    for question in questions {
        for asked in question.parts().map_err(unlikely)? {
            let shape = match asked.name {
                BINS => Shape::new(vec![asked.coordinates]),
                _ => Shape::new(vec![]),
            };
            let shape =
                shape.ok_or_else(|| Reason::new(Code::TooLarge, "too many bins are asked"))?;
            slots.push((
                format!("{}.{}", question.column, asked.name),
                Slot { shape, dtype: Dtype::F32 },
            ));
        }
    }
    Ok(slots.into_iter().collect())
}

/// How far one record can move all answers together, in the Euclidean norm: the root of the sum
/// of squares of what opendp's maps say of each, rounded up.
///
/// # Errors
/// When the questions cannot be asked.
pub fn bound(questions: &[Question]) -> Result<Bound, Reason> {
    let mut square: u128 = 0;
    for question in questions {
        for asked in question.parts().map_err(unlikely)? {
            let moved = asked.part.stability().map_err(unlikely)?.unsigned_abs();
            square += (u128::from(moved) * u128::from(asked.scale.unsigned_abs())).pow(2);
        }
    }
    let root = square.isqrt();
    let units = u64::try_from(root + u128::from(root * root < square)).unwrap_or(u64::MAX);
    let step = Step::new(BITS).ok_or_else(|| Reason::new(Code::InvalidJob, "no such step"))?;
    Ok(Bound { unit: Unit::Record, norm: Norm::L2, lattice_units: units, step, sampled: None })
}

/// The answers for one table: for each question the numbers of its column, scaled to [−1, 1], of the
/// records that have one.
///
/// # Errors
/// When the questions cannot be asked.
pub fn answer(
    prover: &Prover,
    questions: &[Question],
    columns: &[Vec<f64>],
) -> Result<Lattice, Reason> {
    let mut tensors = BTreeMap::new();
    for (question, column) in questions.iter().zip(columns) {
        let integers: Vec<i64> = column
            .iter()
            .map(|y| (y * ONE as f64).clamp(-(ONE as f64), ONE as f64) as i64)
            .collect();
        for asked in question.parts().map_err(unlikely)? {
            let bins = question.bins.unwrap_or(1);
            let input: Vec<i64> = integers.iter().map(|&y| (asked.input)(y, bins)).collect();
            let answer = asked.part.answer(&input).map_err(unlikely)?;
            let values = answer.into_iter().map(|x| x.saturating_mul(asked.scale)).collect();
            let shape = match asked.name {
                BINS => Shape::new(vec![asked.coordinates]),
                _ => Shape::new(vec![]),
            };
            let tensor = shape.and_then(|shape| LatticeTensor::new(shape, values));
            let tensor = tensor
                .ok_or_else(|| Reason::new(Code::InvalidJob, "an answer has another shape"))?;
            tensors.insert(format!("{}.{}", question.column, asked.name), tensor);
        }
    }
    Ok(Lattice::proven(prover, tensors, bound(questions)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::prover;
    use proptest::prelude::*;

    fn all(column: &str, bins: u32) -> Question {
        Question { column: column.to_owned(), sum: true, squares: true, bins: Some(bins) }
    }

    fn values(lattice: &Lattice, name: &str) -> Vec<f64> {
        lattice.tensors()[name].values().iter().map(|&q| q as f64 / ONE as f64).collect()
    }

    #[test]
    fn answers_are_those_of_the_table() {
        let column = vec![-1.0, -0.5, 0.0, 0.5, 1.0, 7.0];
        let lattice = answer(&prover(), &[all("x", 4)], &[column]).unwrap();
        assert_eq!(values(&lattice, "x.count"), [6.0]);
        assert_eq!(values(&lattice, "x.sum"), [1.0]);
        assert_eq!(values(&lattice, "x.squares"), [3.5]);
        assert_eq!(values(&lattice, "x.bins"), [1.0, 1.0, 1.0, 3.0]);
        // Four parts, each moved by at most 1.
        assert_eq!(lattice.sensitivity().unwrap().bound().lattice_units, 2 * ONE as u64);
        assert_eq!(schema(&[all("x", 4)]).unwrap().elements(), 7);
    }

    proptest! {
        /// One record more or less moves all answers together by at most the bound.
        #[test]
        fn a_record_moves_answers_by_at_most_the_bound(
            rows in proptest::collection::vec((proptest::num::f64::ANY, -2f64..2.0), 1..20),
            left_out in 0usize..20,
        ) {
            let questions = [all("x", 7), Question { bins: None, squares: false, ..all("y", 1) }];
            let answers = |skip: Option<usize>| -> Vec<i64> {
                let kept = rows.iter().enumerate().filter(|(i, _)| Some(*i) != skip);
                let (x, y): (Vec<f64>, Vec<f64>) = kept.map(|(_, row)| *row).unzip();
                let x = x.into_iter().filter(|x| x.is_finite()).collect();
                let lattice = answer(&prover(), &questions, &[x, y]).unwrap();
                lattice.tensors().values().flat_map(|tensor| tensor.values().to_vec()).collect()
            };
            let (with, without) = (answers(None), answers(Some(left_out % rows.len())));
            let square: u128 = with
                .iter()
                .zip(&without)
                .map(|(a, b)| u128::from((a - b).unsigned_abs()).pow(2))
                .sum();
            let bound = bound(&questions).unwrap().lattice_units;
            prop_assert!(square <= u128::from(bound).pow(2));
        }
    }
}
