//! Privacy against accuracy: further runs of a simulation, each with the noise that a budget asks
//! for.
//!
//! Every point is a whole run of the production code on ledgers of its own, in a folder that is
//! thrown away. Only the noise, the unit and the settings of training are other than the job's.

use std::collections::BTreeMap;
use std::path::Path;

use privet_core::adaptive;
use privet_core::event::{Event, Mechanism};
use privet_core::filter::Cancel;
use privet_core::flow::SEALED_RECORDS_COARSER;
use privet_core::ledger::{Budget, Currency};
use privet_core::sensitivity::{Adjacency, Unit};
use privet_dp::accounting::{Meter, least_multiplier};
use privet_dp::lattice::FEWEST_UNITS;
use privet_gate::{CurvePoint, Dataset, Job, Policy, Protect, Training};
use serde::Serialize;
use toml::{Table, Value};

use crate::program::Program;
use crate::run::{RunError, RunOptions, run};

/// What one budget bought.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bought {
    /// Whose participation is hidden.
    pub unit: Unit,
    /// ε, at each site.
    pub epsilon: f64,
    /// δ.
    pub delta: f64,
    /// Rounds that it was spent on.
    pub rounds: u32,
    /// σ over sensitivity that this came to.
    pub noise_multiplier: f64,
    /// Clip.
    pub clip: f64,
    /// Accuracy of the delivered model on the server's public data.
    pub accuracy: Option<f64>,
}

/// Runs one point of a curve.
///
/// # Errors
/// When it could not be run.
pub fn buy(
    program: Program,
    job: &Job,
    policies: &BTreeMap<String, Policy>,
    point: &CurvePoint,
    cancel: &Cancel,
) -> Result<Bought, RunError> {
    let training = job.training()?;
    let mut schema = program.computes().promise(job)?.schema;
    schema.0.remove(adaptive::TENSOR);
    let datasets: BTreeMap<&String, &Dataset> = policies
        .iter()
        .filter_map(|(name, policy)| Some((name, policy.datasets.get(&job.dataset)?)))
        .collect();
    // The noise must do for the strictest site.
    let delta = datasets.values().map(|dataset| dataset.budget.delta).fold(1.0, f64::min);
    let exchange = datasets.values().any(|dataset| dataset.adjacency == Adjacency::Replace);
    let adjacency = if exchange { Adjacency::Replace } else { Adjacency::AddRemove };
    // Points are sealed as the sites' rules are: the noise of a sum is then shared.
    let seal = policies.values().find_map(|policy| {
        let rule = policy.rules.iter().find(|rule| rule.when.dataset == job.dataset)?;
        rule.protect.clone()
    });
    let (currency, sharers) = match &seal {
        Some(seal) => (Currency::Zcdp, seal.sharers()),
        None => (Currency::Gaussian, None),
    };
    let units = FEWEST_UNITS >> if seal.is_some() { SEALED_RECORDS_COARSER } else { 0 };
    let enough = |z: f64| {
        let mechanism = Mechanism::Gaussian {
            noise_multiplier: z,
            // Of a share, the least that the lattice of a sealed sum gives.
            sigma_units: z * units as f64 / f64::from(sharers.unwrap_or(1)).sqrt(),
            coordinates: schema.elements(),
        };
        let meter = Meter::new(currency, &Budget::lifetime(point.epsilon, delta));
        let price =
            meter.price(&Event { unit: point.unit, adjacency, mechanism, sampled: None, sharers });
        price.is_some_and(|price| price.times(point.rounds).epsilon(delta) <= point.epsilon)
    };
    let z = least_multiplier(enough);

    let folder = tempfile::tempdir()?;
    for (name, dataset) in &datasets {
        let policy = policy(name, dataset, point, z, seal.as_ref())?;
        std::fs::write(folder.path().join(format!("{name}.toml")), policy)?;
    }
    std::fs::write(folder.path().join("job.toml"), changed(job, &datasets, point)?)?;
    std::fs::write(folder.path().join("features.toml"), features(training)?)?;
    let options = RunOptions {
        job: folder.path().join("job.toml"),
        workspace: Some(folder.path().join("workspace")),
        ..RunOptions::default()
    };
    let result = run(program, &options, cancel, |_| ())?;
    Ok(Bought {
        unit: point.unit,
        epsilon: point.epsilon,
        delta,
        rounds: point.rounds,
        noise_multiplier: z,
        clip: point.clip,
        accuracy: result.error.is_none().then_some(result.last.accuracy).flatten(),
    })
}

fn absolute(path: &Path) -> std::io::Result<Value> {
    Ok(Value::String(std::path::absolute(path)?.display().to_string()))
}

fn features(training: &Training) -> std::io::Result<String> {
    let range = |(name, [low, high]): (&String, &[f64; 2])| {
        (name.clone(), Value::Array(vec![Value::Float(*low), Value::Float(*high)]))
    };
    let table: Table = training.features.iter().map(range).collect();
    toml::to_string(&table).map_err(std::io::Error::other)
}

/// The job with a point's settings, on the sites of `datasets`.
fn changed(
    job: &Job,
    datasets: &BTreeMap<&String, &Dataset>,
    point: &CurvePoint,
) -> std::io::Result<String> {
    let mut table: Table = toml::from_str(&job.source.text).map_err(std::io::Error::other)?;
    for section in ["filter", "protect", "demand"] {
        table.remove(section);
    }
    let mut set = |section: &str, key: &str, value: Value| {
        if let Some(Value::Table(section)) = table.get_mut(section) {
            section.insert(key.to_owned(), value);
        }
    };
    let number = |x: u32| Value::Integer(i64::from(x));
    set("fedavg", "rounds", number(point.rounds));
    set("fedavg", "min-sites", Value::Integer(datasets.len() as i64));
    set("fedavg", "server-learning-rate", Value::Float(point.server_learning_rate));
    set("fedavg", "server-momentum", Value::Float(point.server_momentum));
    set("model", "features", Value::String("features.toml".to_owned()));
    set("train", "local-steps", number(point.local_steps));
    set("train", "learning-rate", Value::Float(point.learning_rate));
    set("train", "record-clip", Value::Float(point.clip));
    if let Some(evaluation) = &job.evaluation {
        set("evaluation", "data", absolute(&evaluation.data)?);
    }
    let site = |name: &&String| {
        let policy = Value::String(format!("{name}.toml"));
        let name = Value::String((*name).clone());
        Value::Table(
            [("name".to_owned(), name), ("policy".to_owned(), policy)].into_iter().collect(),
        )
    };
    set("simulate", "sites", Value::Array(datasets.keys().map(site).collect()));
    set("simulate", "curve", Value::Array(Vec::new()));
    if let Some(Value::Table(train)) = table.get_mut("train") {
        // By record the trainer clips; by site the gate does.
        let unused: &[&str] = match point.unit {
            Unit::Record => &["batch", "learning-rate", "sampling-rate", "clip-quantile"],
            Unit::Site => &["record-clip", "sampling-rate", "clip-quantile"],
        };
        unused.iter().for_each(|key| drop(train.remove(*key)));
    }
    toml::to_string(&table).map_err(std::io::Error::other)
}

/// A site's policy for a point.
fn policy(
    name: &str,
    dataset: &Dataset,
    point: &CurvePoint,
    z: f64,
    seal: Option<&Protect>,
) -> Result<String, std::io::Error> {
    let (currency, protect) = match seal {
        None => ("gaussian", String::new()),
        Some(seal) => (
            "zcdp",
            format!(
                "protect = {{ scheme = {:?}, min-sites = {}, colluders = {} }}\n",
                seal.scheme.as_str(),
                seal.min_sites,
                seal.colluders
            ),
        ),
    };
    let clip = match point.unit {
        Unit::Record => String::new(),
        Unit::Site => format!("{{ filter = \"clip\", l2 = {:?} }},", point.clip),
    };
    let path = absolute(&dataset.path)?;
    Ok(format!(
        "schema = 1\n[site]\nname = \"{name}\"\n\
         [dataset.{:?}]\npath = {path}\nunit = \"{}\"\nadjacency = \"{}\"\nrecords = {}\n\
         budget = {{ epsilon = {:?}, delta = {:?} }}\ncurrency = \"{currency}\"\n\
         [[rule]]\nid = \"curve\"\nwhen = {{ task = [\"train\"], dataset = {:?} }}\n\
         out = [{clip} {{ filter = \"gaussian\", noise-multiplier = {z:?} }}]\n{protect}",
        dataset.id,
        point.unit.as_str(),
        dataset.adjacency.as_str(),
        dataset.records,
        point.epsilon,
        dataset.budget.delta,
        dataset.id,
    ))
}
