//! What the examples reach, over many splits. Long: `cargo test --release --workspace --test goals -- --ignored --nocapture`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use privet::core::filter::Cancel;
use privet::core::sensitivity::Unit;
use privet::gate::{Job, Loaded, Policy};
use privet::{Program, buy, init};

/// Accuracy of the record-level points of a job's curve, over splits 0 to 24: (ε, mean, deviation).
fn reached(example: &str) -> Vec<(f64, f64, f64)> {
    let mut points: Vec<(f64, Vec<f64>)> = Vec::new();
    for seed in 0..25 {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join(example);
        init(example, &folder, seed).unwrap();
        let program = Program::new();
        let Loaded { job, .. } = Job::load(&folder.join("job.toml"), program.registry()).unwrap();
        let simulate = job.simulate.clone().unwrap();
        let policy = |site: &privet::gate::SimulatedSite| {
            (site.name.clone(), Policy::load(&site.policy, program.registry()).unwrap())
        };
        let policies = simulate.sites.iter().map(policy).collect();
        let by_record = simulate.curve.iter().filter(|point| point.unit == Unit::Record);
        for (at, point) in by_record.enumerate() {
            let bought = buy(Program::new(), &job, &policies, point, &Cancel::default()).unwrap();
            if points.len() == at {
                points.push((point.epsilon, Vec::new()));
            }
            points[at].1.push(bought.accuracy.unwrap());
        }
    }
    let summary = |(epsilon, all): &(f64, Vec<f64>)| {
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let square: f64 = all.iter().map(|x| (x - mean).powi(2)).sum();
        (*epsilon, mean, (square / (all.len() - 1) as f64).sqrt())
    };
    let reached: Vec<_> = points.iter().map(summary).collect();
    for (epsilon, mean, deviation) in &reached {
        println!("{example:10} ε {epsilon}  {mean:.4} ± {deviation:.4}");
    }
    reached
}

fn check(example: &str, at_1: f64, at_8: f64) {
    for (epsilon, mean, _) in reached(example) {
        let goal = match epsilon {
            1.0 => at_1,
            8.0 => at_8,
            _ => continue,
        };
        assert!(mean >= goal, "{example} at ε {epsilon}: {mean}, {goal} was wanted");
    }
}

#[test]
#[ignore = "a few minutes: four budgets over 25 splits"]
fn hospitals_reach_their_accuracy() {
    check("hospitals", 0.93, 0.95);
}

#[test]
#[ignore = "a few minutes: four budgets over 25 splits"]
fn digits_reach_their_accuracy() {
    check("digits", 0.88, 0.945);
}
