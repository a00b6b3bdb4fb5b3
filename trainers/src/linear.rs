//! Logistic and softmax regression.
//!
//! Rows come with a constant last coordinate (see [`data`](crate::data)), which is the bias's
//! feature. With rows of norm 1 a record's gradient of logistic regression has norm |p − y| ≤ 1.

use privet_core::tensor::Schema;

use crate::model::{Model, dot, log_softmax, schema};

/// A linear classifier over rows of `width` coordinates, the constant included.
pub struct Linear {
    width: usize,
    classes: usize,
}

impl Linear {
    /// Two classes, one weight a feature: `bias` \[1\], `weight` \[features\].
    pub fn logistic(width: usize) -> Self {
        Self { width, classes: 1 }
    }

    /// Several classes: `bias` \[classes\], `weight` \[classes, features\].
    pub fn softmax(width: usize, classes: usize) -> Self {
        Self { width, classes }
    }

    fn logits(&self, parameters: &[f32], row: &[f32]) -> Vec<f64> {
        let (bias, weight) = parameters.split_at(self.classes);
        let (features, constant) = row.split_at(self.width - 1);
        let constant = constant.first().copied().unwrap_or_default();
        bias.iter()
            .zip(weight.chunks(self.width - 1))
            .map(|(&b, w)| f64::from(b) * f64::from(constant) + dot(w, features))
            .collect()
    }
}

impl Model for Linear {
    fn schema(&self) -> Schema {
        let features = self.width - 1;
        match self.classes {
            1 => schema([("bias", vec![1]), ("weight", vec![features])]),
            classes => schema([("bias", vec![classes]), ("weight", vec![classes, features])]),
        }
    }

    fn initial(&self, _: u64) -> Vec<f32> {
        vec![0.0; self.classes * self.width]
    }

    fn predict(&self, parameters: &[f32], row: &[f32]) -> Vec<f64> {
        let mut logits = self.logits(parameters, row);
        if self.classes == 1 {
            logits.insert(0, 0.0);
        }
        log_softmax(&mut logits);
        logits
    }

    fn gradient(&self, parameters: &[f32], row: &[f32], label: usize, out: &mut [f32]) {
        out.fill(0.0);
        if label >= self.classes.max(2) {
            return;
        }
        let log_probabilities = self.predict(parameters, row);
        // Of two classes, logistic regression has parameters for the second alone.
        let first = usize::from(self.classes == 1);
        let (bias, weight) = out.split_at_mut(self.classes);
        let (features, constant) = row.split_at(self.width - 1);
        let constant = constant.first().copied().unwrap_or_default();
        let outputs = bias.iter_mut().zip(weight.chunks_mut(self.width - 1));
        for (class, (b, w)) in (first..).zip(outputs) {
            let target = f64::from(u8::from(class == label));
            let error = (log_probabilities[class].exp() - target) as f32;
            *b = error * constant;
            w.iter_mut().zip(features).for_each(|(w, x)| *w = error * x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_those_of_the_loss() {
        crate::model::tests::check_gradient(&Linear::logistic(4), 4, 2);
        crate::model::tests::check_gradient(&Linear::softmax(4, 3), 4, 3);
    }
}
