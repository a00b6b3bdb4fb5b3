//! What a model must give: its tensors, and the gradient of one record.

use privet_core::tensor::{Dtype, Schema, Shape, Slot, Tensor, Tensors, Values};

/// A classifier with a flat vector of parameters: its tensors one after another, in the order of
/// their names.
pub trait Model: Send + Sync {
    /// Names and shapes of its tensors; element type f32.
    fn schema(&self) -> Schema;

    /// The first parameters; a seed draws them where they are drawn.
    fn initial(&self, seed: u64) -> Vec<f32>;

    /// Log-probabilities of the classes for a row.
    fn predict(&self, parameters: &[f32], row: &[f32]) -> Vec<f64>;

    /// The gradient of −log p(label | row), overwriting `out`, which is as long as the
    /// parameters. A label that is no class gives zeros.
    fn gradient(&self, parameters: &[f32], row: &[f32], label: usize, out: &mut [f32]);
}

/// A schema of f32 tensors. Shapes beyond the limits of a tensor are left out.
pub(crate) fn schema<const N: usize>(slots: [(&str, Vec<usize>); N]) -> Schema {
    slots
        .into_iter()
        .filter_map(|(name, dims)| {
            let dims: Vec<u64> = dims.into_iter().map(|dim| dim as u64).collect();
            let shape = Shape::new(dims)?;
            let dtype = Dtype::F32;
            Some((name.to_owned(), Slot { shape, dtype }))
        })
        .collect()
}

/// Parameters as tensors.
pub fn tensors(schema: &Schema, parameters: &[f32]) -> Tensors {
    let mut rest = parameters;
    let mut tensors = Tensors::default();
    for (name, slot) in &schema.0 {
        let (values, after) = rest.split_at((slot.shape.elements() as usize).min(rest.len()));
        rest = after;
        let tensor = Tensor::new(slot.shape.clone(), Values::F32(values.to_vec()));
        tensors.0.extend(tensor.map(|tensor| (name.clone(), tensor)));
    }
    tensors
}

/// Tensors as parameters, if they are the model's.
pub fn parameters(schema: &Schema, tensors: &Tensors) -> Option<Vec<f32>> {
    let mut parameters = Vec::with_capacity(schema.elements() as usize);
    if tensors.0.len() != schema.0.len() {
        return None;
    }
    for (name, slot) in &schema.0 {
        let tensor = tensors.0.get(name)?;
        if tensor.shape() != &slot.shape {
            return None;
        }
        tensor.values().for_each(|x| parameters.push(x as f32));
    }
    Some(parameters)
}

/// Log-softmax, in place.
pub(crate) fn log_softmax(logits: &mut [f64]) {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|x| (x - max).exp()).sum();
    let log = max + sum.ln();
    logits.iter_mut().for_each(|x| *x -= log);
}

pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The gradient against central differences, at a few points.
    pub(crate) fn check_gradient(model: &dyn Model, width: usize, classes: usize) {
        let wave =
            |n: usize, f: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * f).sin() * 0.7).collect() };
        let parameters = wave(model.schema().elements() as usize, 0.7);
        let row = wave(width, 1.3);
        for label in 0..classes {
            let mut gradient = vec![9.0; parameters.len()];
            model.gradient(&parameters, &row, label, &mut gradient);
            for at in 0..parameters.len() {
                let loss = |step: f32| {
                    let mut moved = parameters.clone();
                    moved[at] += step;
                    -model.predict(&moved, &row)[label]
                };
                let difference = (loss(1e-3) - loss(-1e-3)) / 2e-3;
                assert!((difference - f64::from(gradient[at])).abs() < 1e-3, "{label} {at}");
            }
        }
        let mut gradient = vec![9.0; parameters.len()];
        model.gradient(&parameters, &row, classes, &mut gradient);
        assert!(gradient.iter().all(|&x| x == 0.0));
    }

    #[test]
    fn tensors_and_parameters_are_each_others_inverse() {
        let schema = schema([("b", vec![2]), ("a", vec![2, 2])]);
        let flat = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let tensors = tensors(&schema, &flat);
        assert_eq!(tensors.0["a"].values(), &Values::F32(vec![1.0, 2.0, 3.0, 4.0]));
        assert_eq!(parameters(&schema, &tensors).unwrap(), flat);
        assert!(parameters(&schema, &Tensors::default()).is_none());
    }
}
