//! Named tensors and their shapes.
//!
//! [`Tensors`] hold what a model is made of; a [`Schema`] holds only the names, shapes and
//! element types, which are public before any data has been read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Largest number of elements of one tensor (2^40): products of shapes stay far from overflow.
pub const MAX_ELEMENTS: u64 = 1 << 40;

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// Signed lattice integers that fit 32 bits.
    I32,
    /// Signed lattice integers.
    I64,
}

impl Dtype {
    /// Bytes of one element.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F32 | Dtype::I32 => 4,
            Dtype::F64 | Dtype::I64 => 8,
        }
    }

    /// The name used in audit lines and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F64 => "f64",
            Dtype::I32 => "i32",
            Dtype::I64 => "i64",
        }
    }
}

/// Dimensions of a tensor; empty for a scalar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(Vec<u64>);

impl Shape {
    /// A shape with at most 8 dimensions and [`MAX_ELEMENTS`] elements, or `None`.
    pub fn new(dims: impl Into<Vec<u64>>) -> Option<Self> {
        let dims = dims.into();
        if dims.len() > 8 {
            return None;
        }
        let elements = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim))?;
        (elements <= MAX_ELEMENTS).then_some(Self(dims))
    }

    /// The shape of a single number.
    pub const fn scalar() -> Self {
        Self(Vec::new())
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[u64] {
        &self.0
    }

    /// Number of elements: the product of the dimensions, 1 for a scalar.
    pub fn elements(&self) -> u64 {
        self.0.iter().product()
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("scalar");
        }
        let dims: Vec<String> = self.0.iter().map(u64::to_string).collect();
        f.write_str(&dims.join("×"))
    }
}

/// The elements of a plain tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
}

impl Values {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Values::F32(v) => v.len(),
            Values::F64(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Values::F32(_) => Dtype::F32,
            Values::F64(_) => Dtype::F64,
        }
    }

    /// Whether no element is NaN or infinite.
    pub fn all_finite(&self) -> bool {
        match self {
            // Blocks without an early exit inside, so that the check vectorises.
            Values::F32(v) => {
                v.chunks(4096).all(|block| block.iter().fold(true, |ok, x| ok & x.is_finite()))
            }
            Values::F64(v) => {
                v.chunks(4096).all(|block| block.iter().fold(true, |ok, x| ok & x.is_finite()))
            }
        }
    }

    /// Calls `each` with every element in order, widened to `f64`.
    pub fn for_each(&self, mut each: impl FnMut(f64)) {
        match self {
            Values::F32(v) => v.iter().for_each(|&x| each(f64::from(x))),
            Values::F64(v) => v.iter().for_each(|&x| each(x)),
        }
    }
}

/// A dense tensor whose number of elements equals that of its shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Shape,
    values: Values,
}

impl Tensor {
    /// A tensor, or `None` when the shape does not hold exactly these values.
    pub fn new(shape: Shape, values: Values) -> Option<Self> {
        (shape.elements() == values.len() as u64).then_some(Self { shape, values })
    }

    /// A one-dimensional tensor of 32-bit floats.
    pub fn vector(values: Vec<f32>) -> Self {
        Self { shape: Shape(vec![values.len() as u64]), values: Values::F32(values) }
    }

    /// Its dimensions.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Its elements.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Gives up the tensor for its parts.
    pub fn into_parts(self) -> (Shape, Values) {
        (self.shape, self.values)
    }
}

/// Plain tensors by name, iterated in the order of their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tensors(pub BTreeMap<String, Tensor>);

impl Tensors {
    /// Names, shapes and element types.
    pub fn schema(&self) -> Schema {
        Schema(
            self.0
                .iter()
                .map(|(name, tensor)| {
                    let slot = Slot { shape: tensor.shape.clone(), dtype: tensor.values.dtype() };
                    (name.clone(), slot)
                })
                .collect(),
        )
    }

    /// Number of elements over all tensors.
    pub fn elements(&self) -> u64 {
        self.0.values().map(|t| t.shape.elements()).sum()
    }

    /// Whether no element is NaN or infinite.
    pub fn all_finite(&self) -> bool {
        self.0.values().all(|tensor| tensor.values.all_finite())
    }

    /// Euclidean norm over all elements.
    pub fn l2(&self) -> f64 {
        let mut square = 0.0;
        for tensor in self.0.values() {
            tensor.values.for_each(|x| square += x * x);
        }
        square.sqrt()
    }
}

impl FromIterator<(String, Tensor)> for Tensors {
    fn from_iter<I: IntoIterator<Item = (String, Tensor)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

/// Shape and element type of one named tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Dimensions.
    pub shape: Shape,
    /// Element type.
    pub dtype: Dtype,
}

/// Names, shapes and element types of a set of tensors.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Schema(pub BTreeMap<String, Slot>);

impl Schema {
    /// Number of elements over all tensors.
    pub fn elements(&self) -> u64 {
        self.0.values().fold(0, |sum, slot| sum.saturating_add(slot.shape.elements()))
    }

    /// Bytes of all elements, without names and shapes.
    pub fn bytes(&self) -> u64 {
        self.0.values().fold(0, |sum, slot| {
            let bytes = slot.shape.elements().saturating_mul(slot.dtype.size() as u64);
            sum.saturating_add(bytes)
        })
    }
}

impl FromIterator<(String, Slot)> for Schema {
    fn from_iter<I: IntoIterator<Item = (String, Slot)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_refuses_overflow_and_too_many_dimensions() {
        assert!(Shape::new(vec![u64::MAX, 2]).is_none());
        assert!(Shape::new(vec![1; 9]).is_none());
        assert!(Shape::new(vec![MAX_ELEMENTS + 1]).is_none());
        assert_eq!(Shape::new(vec![]).map(|s| s.elements()), Some(1));
    }

    #[test]
    fn a_tensor_holds_exactly_its_shape() {
        let shape = Shape::new(vec![2, 3]).unwrap();
        assert!(Tensor::new(shape.clone(), Values::F32(vec![0.0; 5])).is_none());
        assert!(Tensor::new(shape, Values::F32(vec![0.0; 6])).is_some());
    }

    #[test]
    fn finiteness_is_seen_anywhere() {
        for at in [0, 4095, 4096, 9999] {
            let mut values = vec![1.0f32; 10_000];
            values[at] = f32::INFINITY;
            assert!(!Values::F32(values).all_finite());
        }
        assert!(Values::F64(vec![0.0; 10]).all_finite());
    }
}
