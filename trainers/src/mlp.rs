//! A network with one hidden layer (tanh). Trained and protected by site: its per-record
//! gradients are not offered to the record-level trainer.

use privet_core::tensor::Schema;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::model::{Model, dot, log_softmax, schema};

/// A network over rows of `width` coordinates, the constant included.
pub struct Mlp {
    width: usize,
    hidden: usize,
    classes: usize,
}

/// Where the four tensors lie in the flat parameters, in the order of their names.
struct Parts<T> {
    hidden_weight: T,
    output_bias: T,
    output_weight: T,
}

impl Mlp {
    /// `hidden.weight` \[hidden, width\], `output.bias` \[classes\], `output.weight`
    /// \[classes, hidden\]. The row's constant is the hidden layer's bias.
    pub fn new(width: usize, hidden: usize, classes: usize) -> Self {
        Self { width, hidden, classes }
    }

    fn parts<'a>(&self, flat: &'a [f32]) -> Parts<&'a [f32]> {
        let (hidden_weight, rest) = flat.split_at(self.hidden * self.width);
        let (output_bias, output_weight) = rest.split_at(self.classes);
        Parts { hidden_weight, output_bias, output_weight }
    }

    fn parts_mut<'a>(&self, flat: &'a mut [f32]) -> Parts<&'a mut [f32]> {
        let (hidden_weight, rest) = flat.split_at_mut(self.hidden * self.width);
        let (output_bias, output_weight) = rest.split_at_mut(self.classes);
        Parts { hidden_weight, output_bias, output_weight }
    }

    /// Hidden activations and log-probabilities.
    fn forward(&self, parameters: &[f32], row: &[f32]) -> (Vec<f32>, Vec<f64>) {
        let parts = self.parts(parameters);
        let activate = |weights: &[f32]| dot(weights, row).tanh() as f32;
        let hidden: Vec<f32> = parts.hidden_weight.chunks(self.width).map(activate).collect();
        let outputs = parts.output_bias.iter().zip(parts.output_weight.chunks(self.hidden));
        let mut logits: Vec<f64> =
            outputs.map(|(&bias, weights)| f64::from(bias) + dot(weights, &hidden)).collect();
        log_softmax(&mut logits);
        (hidden, logits)
    }
}

impl Model for Mlp {
    fn schema(&self) -> Schema {
        schema([
            ("hidden.weight", vec![self.hidden, self.width]),
            ("output.bias", vec![self.classes]),
            ("output.weight", vec![self.classes, self.hidden]),
        ])
    }

    fn initial(&self, seed: u64) -> Vec<f32> {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut flat = vec![0.0; self.hidden * self.width + self.classes * (1 + self.hidden)];
        let parts = self.parts_mut(&mut flat);
        // Glorot's uniform range keeps activations of one size through the layers.
        let mut fill = |weights: &mut [f32], fan: usize| {
            let range = (6.0 / fan as f32).sqrt();
            weights.iter_mut().for_each(|w| *w = rng.random_range(-range..range));
        };
        fill(parts.hidden_weight, self.width + self.hidden);
        fill(parts.output_weight, self.hidden + self.classes);
        flat
    }

    fn predict(&self, parameters: &[f32], row: &[f32]) -> Vec<f64> {
        self.forward(parameters, row).1
    }

    fn gradient(&self, parameters: &[f32], row: &[f32], label: usize, out: &mut [f32]) {
        out.fill(0.0);
        if label >= self.classes {
            return;
        }
        let (hidden, log_probabilities) = self.forward(parameters, row);
        let weights = self.parts(parameters).output_weight;
        let parts = self.parts_mut(out);
        let mut back = vec![0.0f32; self.hidden];
        for (class, log_probability) in log_probabilities.into_iter().enumerate() {
            let target = f64::from(u8::from(class == label));
            let error = (log_probability.exp() - target) as f32;
            parts.output_bias[class] = error;
            let at = class * self.hidden..(class + 1) * self.hidden;
            let outputs = parts.output_weight[at.clone()].iter_mut().zip(&weights[at]);
            for ((gradient, weight), (h, b)) in outputs.zip(hidden.iter().zip(&mut back)) {
                *gradient = error * h;
                *b += error * weight;
            }
        }
        let units = parts.hidden_weight.chunks_mut(self.width);
        for (gradient, (h, b)) in units.zip(hidden.iter().zip(&back)) {
            let slope = b * (1.0 - h * h);
            gradient.iter_mut().zip(row).for_each(|(g, x)| *g = slope * x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_those_of_the_loss() {
        crate::model::tests::check_gradient(&Mlp::new(4, 5, 3), 4, 3);
    }

    #[test]
    fn a_seed_gives_one_start() {
        let mlp = Mlp::new(4, 5, 3);
        assert_eq!(mlp.initial(1), mlp.initial(1));
        assert_ne!(mlp.initial(1), mlp.initial(2));
        assert_eq!(mlp.initial(1).len() as u64, mlp.schema().elements());
    }
}
