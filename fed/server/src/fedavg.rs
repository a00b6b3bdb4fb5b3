//! Federated averaging (McMahan et al. 2017), and federated gradient descent as its one-step case.
//!
//! ```text
//!   gradient sums:   V ← m·V + S/(C·N),   W ← W − η·V      S = Σ sites' sums over their records,
//!                                                          N = Σ declared records, C = record-clip
//!                                                          (times the sampling rate, if there is one)
//!                                                          With an adaptive clip, S comes in units of it
//!                                                          and is multiplied by it; C stays the first.
//!   weight diffs:    V ← m·V + Σ wᵢΔᵢ/Σ wᵢ,  W ← W + η·V
//! ```
//! Everything after the sites' noise is post-processing. `average = "tail"` delivers the mean of
//! the models of the second half of the rounds, which takes noise out at no privacy cost.

use std::collections::BTreeMap;

use privet_core::aggregate::Combine;
use privet_core::tensor::{Shape, Tensor, Tensors, Values};
use privet_core::{Code, DataKind, Reason, adaptive};
use privet_gate::{Average, ServerStep, Training};

use crate::checkpoint::{Checkpoint, State};
use crate::record::{Failure, Metrics};
use crate::rounds::Rounds;
use crate::workflow::Workflow;

/// Names of what a checkpoint keeps.
pub(crate) const GROUPS: [&str; 3] = ["model", "velocity", "tail"];
pub(crate) const NUMBERS: [&str; 2] = ["tail-rounds", "clip"];

type Flat = BTreeMap<String, Vec<f64>>;

/// The workflow.
pub(crate) struct Fedavg {
    settings: ServerStep,
    rounds: u32,
    kind: DataKind,
    /// C of the formulas, times the sampling rate; 1 for weight diffs.
    clip: f64,
    /// The clip that the next task brings, where it adapts.
    adaptive: Option<Adaptive>,
    schema: Tensors,
    next: u32,
    model: Flat,
    velocity: Flat,
    /// Sum of the models of the second half.
    tail: Flat,
    tail_rounds: f64,
}

/// A clip that follows a quantile of the records' norms.
struct Adaptive {
    quantile: f64,
    /// The chance with which a record takes part.
    rate: f64,
    clip: f64,
}

impl Adaptive {
    /// Follows the sum of the indicators of so many declared records.
    fn follow(&mut self, indicators: f64, records: f64) -> Result<(), Reason> {
        let records = records * self.rate;
        if records < adaptive::LEAST_RECORDS {
            let least = adaptive::LEAST_RECORDS;
            let detail =
                format!("the clip is to follow {records} records; below {least} noise leads it");
            return Err(Reason::new(Code::TooFewRecords, detail));
        }
        self.clip = adaptive::next(self.clip, self.quantile, indicators, records);
        Ok(())
    }
}

impl Fedavg {
    pub(crate) fn new(
        training: &Training,
        rounds: u32,
        kind: DataKind,
        mut initial: Tensors,
        from: Option<Checkpoint>,
    ) -> Self {
        let rate = training.train.sampling_rate.unwrap_or(1.0);
        let clip = training.train.record_clip.unwrap_or(1.0);
        initial.0.remove(adaptive::TENSOR);
        let zero = |tensors: &Tensors| {
            let zeros = |(name, tensor): (&String, &Tensor)| {
                (name.clone(), vec![0.0; tensor.values().len()])
            };
            tensors.0.iter().map(zeros).collect::<Flat>()
        };
        let mut workflow = Self {
            settings: training.server,
            rounds,
            kind,
            clip: match kind {
                DataKind::Gradient => clip * rate,
                _ => 1.0,
            },
            adaptive: training.train.clip_quantile.map(|quantile| Adaptive {
                quantile,
                rate,
                clip,
            }),
            next: 1,
            model: flat(&initial),
            velocity: zero(&initial),
            tail: zero(&initial),
            tail_rounds: 0.0,
            schema: initial,
        };
        if let Some(Checkpoint { round, state, .. }) = from {
            workflow.next = round + 1;
            let parts = [
                ("model", &mut workflow.model),
                ("velocity", &mut workflow.velocity),
                ("tail", &mut workflow.tail),
            ];
            for (name, part) in parts {
                let kept = state.tensors.get(name).filter(|tensors| !tensors.0.is_empty());
                if let Some(tensors) = kept {
                    *part = flat(tensors);
                }
            }
            let number = |name| state.numbers.get(name).copied();
            workflow.tail_rounds = number("tail-rounds").unwrap_or_default();
            if let (Some(adaptive), Some(clip)) = (&mut workflow.adaptive, number("clip")) {
                adaptive.clip = clip;
            }
        }
        workflow
    }

    /// The tensors of a task.
    fn task(&self) -> Tensors {
        let mut tensors = self.shaped(&self.model, narrow);
        if let Some(adaptive) = &self.adaptive {
            let clip = Tensor::new(Shape::scalar(), narrow(vec![adaptive.clip]));
            tensors.0.extend(clip.map(|clip| (adaptive::TENSOR.to_owned(), clip)));
        }
        tensors
    }

    /// Has the clip follow the indicators of a round's sum.
    fn follow(&mut self, tensors: &Tensors, weights: &BTreeMap<String, f64>) -> Result<(), Reason> {
        let name = adaptive::TENSOR;
        let (Some(adaptive), Some(tensor)) = (&mut self.adaptive, tensors.0.get(name)) else {
            return Ok(());
        };
        let mut indicators = 0.0;
        tensor.values().for_each(|x| indicators += x);
        adaptive.follow(indicators, weights.get(name).copied().unwrap_or_default())
    }

    fn step(&mut self, round: u32, tensors: &Tensors, weights: &BTreeMap<String, f64>) {
        let unit = self.adaptive.as_ref().map_or(1.0, |adaptive| adaptive.clip);
        let (rate, momentum) = (self.settings.learning_rate, self.settings.momentum);
        let sign = if self.kind == DataKind::Gradient { -1.0 } else { 1.0 };
        for (name, tensor) in &tensors.0 {
            let weight = weights.get(name).copied().unwrap_or(1.0);
            let (Some(velocity), Some(model)) =
                (self.velocity.get_mut(name), self.model.get_mut(name))
            else {
                continue;
            };
            let scale = unit / (self.clip * weight);
            let mut at = velocity.iter_mut().zip(model);
            tensor.values().for_each(|x| {
                if let Some((v, w)) = at.next() {
                    *v = momentum * *v + scale * x;
                    *w += sign * rate * *v;
                }
            });
        }
        if self.settings.average == Average::Tail && round > self.rounds / 2 {
            self.tail_rounds += 1.0;
            for (name, model) in &self.model {
                if let Some(tail) = self.tail.get_mut(name) {
                    tail.iter_mut().zip(model).for_each(|(t, w)| *t += w);
                }
            }
        }
    }

    fn shaped(&self, values: &Flat, make: impl Fn(Vec<f64>) -> Values) -> Tensors {
        let tensor = |(name, values): (&String, &Vec<f64>)| {
            let shape = self.schema.0.get(name)?.shape().clone();
            Some((name.clone(), Tensor::new(shape, make(values.clone()))?))
        };
        values.iter().filter_map(tensor).collect()
    }
}

fn flat(tensors: &Tensors) -> Flat {
    let widen = |tensor: &Tensor| {
        let mut values = Vec::with_capacity(tensor.values().len());
        tensor.values().for_each(|x| values.push(x));
        values
    };
    tensors.0.iter().map(|(name, tensor)| (name.clone(), widen(tensor))).collect()
}

fn narrow(values: Vec<f64>) -> Values {
    Values::F32(values.into_iter().map(|x| x as f32).collect())
}

impl Workflow for Fedavg {
    fn state(&self) -> State {
        let group = |values: &Flat| self.shaped(values, Values::F64);
        let mut tensors = BTreeMap::from([("model", group(&self.model))]);
        // What these hold is zero, or never looked at, where the job does not use them.
        if self.settings.momentum > 0.0 {
            tensors.insert("velocity", group(&self.velocity));
        }
        if self.settings.average == Average::Tail {
            tensors.insert("tail", group(&self.tail));
        }
        let clip = self.adaptive.as_ref().map_or(1.0, |adaptive| adaptive.clip);
        let numbers = BTreeMap::from([("tail-rounds", self.tail_rounds), ("clip", clip)]);
        State { tensors, numbers }
    }

    fn run(&mut self, rounds: &mut Rounds<'_>) -> Result<Metrics, Failure> {
        let combine = match self.kind {
            DataKind::Gradient => Combine::Sum,
            _ => Combine::Weighted,
        };
        let mut metrics = rounds.done.last().map(|record| record.metrics).unwrap_or_default();
        for round in self.next..=rounds.planned() {
            let sum = rounds.round(round, self.task(), combine)?;
            self.step(round, &sum.tensors, &sum.weights);
            self.follow(&sum.tensors, &sum.weights).map_err(Failure::new)?;
            metrics = rounds.evaluate(&self.model());
            let state = self.state();
            rounds.finish(sum, metrics, state)?;
            self.next = round + 1;
        }
        Ok(metrics)
    }

    fn model(&self) -> Tensors {
        if self.settings.average == Average::Tail && self.tail_rounds > 0.0 {
            let mean = |values: &Vec<f64>| values.iter().map(|x| x / self.tail_rounds).collect();
            let means: Flat =
                self.tail.iter().map(|(name, values)| (name.clone(), mean(values))).collect();
            return self.shaped(&means, narrow);
        }
        self.shaped(&self.model, narrow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow(kind: DataKind, average: Average) -> Fedavg {
        let initial = Tensors::from_iter([("w".to_owned(), Tensor::vector(vec![1.0, 2.0]))]);
        Fedavg {
            settings: ServerStep { learning_rate: 2.0, momentum: 0.5, average },
            rounds: 4,
            kind,
            clip: if kind == DataKind::Gradient { 0.5 } else { 1.0 },
            adaptive: None,
            next: 1,
            model: flat(&initial),
            velocity: [("w".to_owned(), vec![0.0; 2])].into(),
            tail: [("w".to_owned(), vec![0.0; 2])].into(),
            tail_rounds: 0.0,
            schema: initial,
        }
    }

    fn step(workflow: &mut Fedavg, round: u32, sum: [f32; 2], weight: f64) -> Vec<f64> {
        let tensors = Tensors::from_iter([("w".to_owned(), Tensor::vector(sum.to_vec()))]);
        workflow.step(round, &tensors, &[("w".to_owned(), weight)].into());
        workflow.model["w"].clone()
    }

    /// W ← W − η·V, V ← m·V + S/(C·N): by hand, N = 10, C = ½, η = 2, m = ½.
    #[test]
    fn gradient_sums_descend_with_momentum() {
        let mut workflow = workflow(DataKind::Gradient, Average::Last);
        assert_eq!(step(&mut workflow, 1, [5.0, -5.0], 10.0), [-1.0, 4.0]);
        // V = ½·1 + 0 = ½ and ½·(−1).
        assert_eq!(step(&mut workflow, 2, [0.0, 0.0], 10.0), [-2.0, 5.0]);
    }

    /// The clip falls while more than the wanted share is within it; gradients come in units of it.
    #[test]
    fn an_adaptive_clip_is_sent_and_followed() {
        let mut workflow = workflow(DataKind::Gradient, Average::Last);
        workflow.adaptive = Some(Adaptive { quantile: 0.5, rate: 1.0, clip: 0.5 });
        let clip = |workflow: &Fedavg| match workflow.task().0[adaptive::TENSOR].values() {
            Values::F32(values) => values[0],
            Values::F64(_) => panic!("f32"),
        };
        assert_eq!(clip(&workflow), 0.5);
        let all_within = Tensor::new(Shape::scalar(), Values::F32(vec![10.0])).unwrap();
        let tensors = Tensors::from_iter([
            ("w".to_owned(), Tensor::vector(vec![10.0, -10.0])),
            (adaptive::TENSOR.to_owned(), all_within),
        ]);
        let few = [("w".to_owned(), 10.0), (adaptive::TENSOR.to_owned(), 10.0)].into();
        workflow.step(1, &tensors, &few);
        // The gradient 10 in units of ½ is 5, as in the test above.
        assert_eq!(workflow.model["w"], [-1.0, 4.0]);
        assert_eq!(workflow.follow(&tensors, &few).unwrap_err().code, Code::TooFewRecords);
        let enough = [(adaptive::TENSOR.to_owned(), 50.0)].into();
        workflow.follow(&tensors, &enough).unwrap();
        assert!((f64::from(clip(&workflow)) - 0.5 * (-0.1f64).exp()).abs() < 1e-6);
        assert!(!workflow.model().0.contains_key(adaptive::TENSOR));
        assert_eq!(workflow.state().numbers["clip"], workflow.adaptive.unwrap().clip);
    }

    #[test]
    fn weight_diffs_move_towards_their_mean() {
        let mut workflow = workflow(DataKind::WeightDiff, Average::Last);
        assert_eq!(step(&mut workflow, 1, [4.0, 8.0], 8.0), [2.0, 4.0]);
    }

    /// The mean of the models of rounds 3 and 4 of 4.
    #[test]
    fn the_tail_is_the_second_half() {
        let mut workflow = workflow(DataKind::WeightDiff, Average::Tail);
        let models: Vec<Vec<f64>> =
            (1..=4).map(|round| step(&mut workflow, round, [1.0, 0.0], 1.0)).collect();
        let mean = ((models[2][0] + models[3][0]) / 2.0) as f32;
        assert_eq!(workflow.model().0["w"].values(), &Values::F32(vec![mean, 2.0]));
    }
}
