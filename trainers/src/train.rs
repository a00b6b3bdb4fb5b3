//! Executors over a table.

use std::collections::BTreeMap;

use privet_core::executor::{Executor, TaskResult};
use privet_core::filter::Cancel;
use privet_core::sensitivity::{Bound, Prover};
use privet_core::tensor::{Tensors, Values};
use privet_core::{Content, DataKind, Message, adaptive};
use privet_dp::lattice::RecordSum;
use rand::seq::SliceRandom;

use crate::data::Table;
use crate::model::{Model, parameters, tensors};

/// The parameters that a task brings.
fn incoming(model: &dyn Model, task: &Message) -> Option<Vec<f32>> {
    match &task.content {
        Content::Plain(tensors) => parameters(&model.schema(), tensors),
        _ => None,
    }
}

const NOT_THE_MODEL: &str = "the task's tensors are not the model's";

/// One gradient sum with every record's gradient clipped and a proof of it: over all records, or over
/// a Poisson sample that is drawn anew in every round and told to nobody.
///
/// # Guarantee
/// The answer has Euclidean sensitivity `bound` under add/remove of a record; see
/// [`RecordSum`]. It depends on the task's model, the table and the sample alone.
pub struct RecordSums {
    model: Box<dyn Model>,
    table: Table,
    bound: Bound,
    prover: Prover,
    adaptive: bool,
}

impl RecordSums {
    /// A trainer whose record gradients are clipped to `bound`.
    pub fn new(model: Box<dyn Model>, table: Table, bound: Bound, prover: Prover) -> Self {
        Self { model, table, bound, prover, adaptive: false }
    }

    /// A trainer whose clip comes with the task, in the tensor [`adaptive::TENSOR`]. Gradients are
    /// given in units of it: `bound` is that of a gradient divided by the clip, with its indicator.
    pub fn adaptive(model: Box<dyn Model>, table: Table, bound: Bound, prover: Prover) -> Self {
        Self { model, table, bound, prover, adaptive: true }
    }

    /// What gradients are divided by.
    fn unit(&self, task: &mut Tensors) -> Option<f32> {
        if !self.adaptive {
            return Some(1.0);
        }
        match task.0.remove(adaptive::TENSOR)?.values() {
            Values::F32(values) => {
                values.first().copied().filter(|clip| clip.is_normal() && *clip > 0.0)
            }
            Values::F64(_) => None,
        }
    }
}

impl Executor for RecordSums {
    fn execute(&mut self, task: &Message, cancel: &Cancel) -> TaskResult {
        let Content::Plain(task_tensors) = &task.content else {
            return TaskResult::failed(NOT_THE_MODEL);
        };
        let mut tensors = task_tensors.clone();
        let Some(unit) = self.unit(&mut tensors) else {
            return TaskResult::failed("the task brings no clip");
        };
        let Some(parameters) = parameters(&self.model.schema(), &tensors) else {
            return TaskResult::failed(NOT_THE_MODEL);
        };
        let mut gradient = vec![0.0; parameters.len()];
        let Ok(mut sum) = RecordSum::new(self.bound, parameters.len()) else {
            return TaskResult::failed("the machine gave no random numbers");
        };
        if self.adaptive {
            sum = sum.with_indicator();
        }
        for (row, label) in self.table.iter() {
            if cancel.is_cancelled() {
                return TaskResult::failed("stopped");
            }
            if !sum.takes_next() {
                continue;
            }
            self.model.gradient(&parameters, row, label, &mut gradient);
            if unit != 1.0 {
                gradient.iter_mut().for_each(|x| *x /= unit);
            }
            sum.add(&gradient);
        }
        match sum.finish(&self.prover, &self.model.schema()) {
            Some(lattice) => TaskResult::done(Message::new(
                task.task.clone(),
                DataKind::Gradient,
                Content::Lattice(lattice),
            )),
            None => TaskResult::failed(NOT_THE_MODEL),
        }
    }
}

/// A few steps of stochastic gradient descent; the answer is what they changed.
pub struct LocalSteps {
    model: Box<dyn Model>,
    table: Table,
    steps: u32,
    batch: Option<u32>,
    learning_rate: f64,
}

impl LocalSteps {
    /// A trainer of `steps` steps on `batch` random records each, or on all of them.
    pub fn new(
        model: Box<dyn Model>,
        table: Table,
        steps: u32,
        batch: Option<u32>,
        learning_rate: f64,
    ) -> Self {
        Self { model, table, steps, batch, learning_rate }
    }

    fn step(&self, parameters: &mut [f32], records: &[usize], gradient: &mut [f32]) {
        let mut mean = vec![0.0f64; parameters.len()];
        let mut used = 0usize;
        for (row, label) in records.iter().filter_map(|&at| self.table.row(at)) {
            self.model.gradient(parameters, row, label, gradient);
            if gradient.iter().all(|x| x.is_finite()) {
                used += 1;
                mean.iter_mut().zip(&*gradient).for_each(|(m, &g)| *m += f64::from(g));
            }
        }
        let scale = self.learning_rate / used.max(1) as f64;
        for (parameter, mean) in parameters.iter_mut().zip(mean) {
            *parameter -= (scale * mean) as f32;
        }
    }
}

impl Executor for LocalSteps {
    fn execute(&mut self, task: &Message, cancel: &Cancel) -> TaskResult {
        let Some(start) = incoming(&*self.model, task) else {
            return TaskResult::failed(NOT_THE_MODEL);
        };
        let mut parameters = start.clone();
        let mut gradient = vec![0.0; parameters.len()];
        let mut order: Vec<usize> = (0..self.table.len()).collect();
        let batch = self.batch.map_or(order.len(), |batch| batch as usize).min(order.len());
        let mut rng = rand::rng();
        for _ in 0..self.steps {
            if cancel.is_cancelled() {
                return TaskResult::failed("stopped");
            }
            let records: &[usize] = match batch < order.len() {
                true => order.partial_shuffle(&mut rng, batch).0,
                false => &order,
            };
            self.step(&mut parameters, records, &mut gradient);
        }
        let difference: Vec<f32> = parameters.iter().zip(&start).map(|(a, b)| a - b).collect();
        TaskResult::done(Message::new(
            task.task.clone(),
            DataKind::WeightDiff,
            Content::Plain(tensors(&self.model.schema(), &difference)),
        ))
    }
}

/// Measures models on public data, at a server.
pub struct Evaluator {
    model: Box<dyn Model>,
    table: Table,
}

impl Evaluator {
    /// An evaluator on this table.
    pub fn new(model: Box<dyn Model>, table: Table) -> Self {
        Self { model, table }
    }

    /// Mean loss and share of right answers.
    fn measure(&self, parameters: &[f32]) -> (f64, f64) {
        let (mut loss, mut right) = (0.0, 0usize);
        for (row, label) in self.table.iter() {
            let log_probabilities = self.model.predict(parameters, row);
            loss -= log_probabilities.get(label).copied().unwrap_or(f64::MIN);
            let best = (0..log_probabilities.len())
                .max_by(|&a, &b| log_probabilities[a].total_cmp(&log_probabilities[b]));
            right += usize::from(best == Some(label));
        }
        let count = self.table.len().max(1) as f64;
        (loss / count, right as f64 / count)
    }
}

impl Executor for Evaluator {
    fn execute(&mut self, task: &Message, _: &Cancel) -> TaskResult {
        let Some(parameters) = incoming(&*self.model, task) else {
            return TaskResult::failed(NOT_THE_MODEL);
        };
        let (loss, accuracy) = self.measure(&parameters);
        let values = BTreeMap::from([("loss".to_owned(), loss), ("accuracy".to_owned(), accuracy)]);
        let content = Content::Statistics(values);
        TaskResult::done(Message::new(task.task.clone(), DataKind::Metrics, content))
    }
}

/// A model's first parameters as tensors.
pub fn initial(model: &dyn Model, seed: u64) -> Tensors {
    tensors(&model.schema(), &model.initial(seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::Linear;
    use privet_core::Registry;
    use privet_core::sensitivity::{Norm, SamplingRate, Unit};
    use privet_core::tensor::{Shape, Tensor};
    use privet_dp::lattice::bound_for;

    fn table(csv: &str) -> Table {
        let features = [("a".to_owned(), [0.0, 1.0]), ("b".to_owned(), [0.0, 1.0])];
        Table::read(csv.as_bytes(), &features.into(), "y").unwrap()
    }

    fn prover() -> Prover {
        let mut prover = None;
        Registry::with_builtins(|builtins| prover = Some(builtins.prover()));
        prover.unwrap()
    }

    fn task(model: &dyn Model) -> Message {
        Message::new("train", DataKind::Weights, Content::Plain(initial(model, 1)))
    }

    fn sums(csv: &str) -> Vec<i64> {
        let model = Linear::logistic(3);
        let task = task(&model);
        let bound = bound_for(Unit::Record, Norm::L2, 0.25).unwrap();
        let mut trainer = RecordSums::new(Box::new(model), table(csv), bound, prover());
        let answer = trainer.execute(&task, &Cancel::default());
        let Some(Content::Lattice(lattice)) = answer.message.map(|message| message.content) else {
            panic!("a lattice was expected: {}", answer.note)
        };
        assert_eq!(lattice.sensitivity().unwrap().bound(), bound);
        lattice.tensors().values().flat_map(|t| t.values().to_vec()).collect()
    }

    /// One record more or less moves the sum by at most the clip, and a broken one by nothing.
    #[test]
    fn a_record_moves_the_sum_by_at_most_its_clip() {
        let base = "y,a,b\n1,0.9,0.1\n0,0.2,0.8\n";
        let with = |record: &str| sums(&format!("{base}{record}\n"));
        let bound = bound_for(Unit::Record, Norm::L2, 0.25).unwrap().lattice_units as f64;
        let distance = |a: &[i64], b: &[i64]| {
            let square: f64 = a.iter().zip(b).map(|(a, b)| ((a - b) as f64).powi(2)).sum();
            square.sqrt()
        };
        let base = sums(base);
        let moved = distance(&base, &with("1,0.5,0.7"));
        assert!(moved > 0.99 * bound && moved <= bound, "{moved} {bound}");
        for broken in ["1,nan,0.7", "1,inf,0.7", "1,,0.7", "7,0.5,0.7", "x,0.5,0.7"] {
            assert_eq!(distance(&base, &with(broken)), 0.0, "{broken}");
        }
    }

    /// The clip is the task's: numbers come in units of it, and how many gradients were within it.
    #[test]
    fn an_adaptive_clip_comes_with_the_task() {
        let csv = "y,a,b\n1,0.9,0.1\n0,0.2,0.8\n";
        let answer = |clip: f32| {
            let model = Linear::logistic(3);
            let mut task = task(&model);
            let Content::Plain(tensors) = &mut task.content else { panic!("plain") };
            let scalar = Tensor::new(Shape::scalar(), Values::F32(vec![clip])).unwrap();
            tensors.0.insert(adaptive::TENSOR.to_owned(), scalar);
            let bound = bound_for(Unit::Record, Norm::L2, 1.0).unwrap();
            let mut trainer = RecordSums::adaptive(Box::new(model), table(csv), bound, prover());
            trainer.execute(&task, &Cancel::default())
        };
        let values = |clip: f32| {
            let message = answer(clip).message.unwrap();
            let Content::Lattice(lattice) = message.content else { panic!("a lattice") };
            let step = lattice.step().value();
            let tensor = |name: &str| lattice.tensors()[name].values()[0] as f64 * step;
            (tensor(adaptive::TENSOR), tensor("bias") * f64::from(clip))
        };
        // Both gradients of the first step have norm ½.
        let (wide, narrow) = (values(1.0), values(0.25));
        assert!((wide.0 - 2.0 * adaptive::SHARE).abs() < 1e-5, "{wide:?}");
        assert!((narrow.0 + 2.0 * adaptive::SHARE).abs() < 1e-5, "{narrow:?}");
        for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(answer(bad).message.is_none(), "{bad}");
        }
    }

    /// Every record is in a tenth of the sums, whatever the others do.
    #[test]
    fn a_sample_takes_each_record_by_itself() {
        let bound = Bound {
            sampled: SamplingRate::new(0.1),
            ..bound_for(Unit::Record, Norm::L2, 0.25).unwrap()
        };
        let csv = "y,a,b\n1,0.9,0.1\n";
        let model = Linear::logistic(3);
        let task = task(&model);
        let mut trainer = RecordSums::new(Box::new(model), table(csv), bound, prover());
        let mut taken = 0;
        for _ in 0..4000 {
            let answer = trainer.execute(&task, &Cancel::default()).message.unwrap();
            let Content::Lattice(lattice) = answer.content else { panic!("a lattice") };
            assert_eq!(lattice.sensitivity().unwrap().bound(), bound);
            taken += u32::from(lattice.l2() > 0.0);
        }
        // Six standard deviations of a binomial of 4000 and 0.1.
        assert!((f64::from(taken) - 400.0).abs() < 6.0 * 19.0, "{taken}");
    }

    #[test]
    fn local_steps_lower_the_loss() {
        let csv = "y,a,b\n1,0.9,0.1\n0,0.2,0.8\n1,0.8,0.3\n0,0.1,0.6\n";
        let evaluator = Evaluator::new(Box::new(Linear::logistic(3)), table(csv));
        let start = evaluator.measure(&[0.0; 3]);
        for batch in [None, Some(2)] {
            let model = Linear::logistic(3);
            let task = task(&model);
            let mut trainer = LocalSteps::new(Box::new(model), table(csv), 50, batch, 1.0);
            let answer = trainer.execute(&task, &Cancel::default()).message.unwrap();
            let Content::Plain(diff) = answer.content else {
                panic!("plain tensors were expected")
            };
            let trained = parameters(&Linear::logistic(3).schema(), &diff).unwrap();
            let end = evaluator.measure(&trained);
            assert!(end.0 < start.0 && end.1 == 1.0, "{end:?}");
        }
    }

    #[test]
    fn another_models_tensors_are_a_failure() {
        let task = task(&Linear::softmax(3, 4));
        let model = Box::new(Linear::logistic(3));
        let mut trainer = LocalSteps::new(model, table("y,a,b\n"), 1, None, 1.0);
        let answer = trainer.execute(&task, &Cancel::default());
        assert!(answer.message.is_none());
    }
}
