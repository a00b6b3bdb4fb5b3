//! A federation on loopback: the real server, sites, gates and network, with an executor that
//! answers every task with made-up numbers.

use std::path::Path;
use std::sync::Arc;

use privet::core::executor::{Executor, TaskResult};
use privet::core::filter::Cancel;
use privet::core::flow::Promise;
use privet::core::message::Protection;
use privet::core::tensor::{Dtype, Schema, Shape, Slot, Tensor, Tensors, Values};
use privet::core::{Code, Content, DataKind, Message, Reason};
use privet::gate::{Dataset, Job, Workload};
use privet::{Program, RunError, RunOptions};
use serde::Serialize;

use crate::machine::Machine;

/// Which filters the sites' policies have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Chain {
    /// `schema` alone.
    Plain,
    /// `clip` and `gaussian`.
    Dp,
    /// `clip`, under a seal.
    Sealed,
    /// `clip` and a share of `gaussian`, under a seal.
    #[serde(rename = "dp+sealed")]
    DpSealed,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Parameters of the model, all f32.
    pub params: u64,
    /// Sites.
    pub sites: u32,
    /// Rounds.
    pub rounds: u32,
    /// Filters.
    pub chain: Chain,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Parameters of the model.
    pub params: u64,
    /// Sites.
    pub sites: u32,
    /// Rounds.
    pub rounds: u32,
    /// Filters.
    pub chain: Chain,
    /// Seconds from the start of the server to the first open round.
    pub startup_s: f64,
    /// Mean seconds of a round.
    pub round_s: f64,
    /// Seconds of the fastest round.
    pub round_s_min: f64,
    /// Bytes per parameter, site and round, from sites to server.
    pub bytes_up_per_param: f64,
    /// Bytes per parameter, site and round, from server to sites.
    pub bytes_down_per_param: f64,
    /// The most memory that the process held, server and all sites.
    pub peak_rss_bytes: u64,
    /// Nanoseconds per parameter from an executor's answer to bytes that may be sent: checks,
    /// filters, encoding, digest, budget and audit line; one release, alone on the machine.
    pub gate_ns_per_param: f64,
    /// What it was measured on.
    pub machine: Machine,
    /// Version of Privet.
    pub version: String,
}

impl Measured {
    /// For people.
    pub fn table(&self) -> String {
        let Self { params, sites, rounds, .. } = self;
        format!(
            "{params} parameters · {sites} sites · {rounds} rounds · {:?} chain\n\
             start to first round  {:.3} s\n\
             round                 {:.3} s mean, {:.3} s best\n\
             bytes per parameter   {:.3} up, {:.3} down\n\
             gate                  {:.1} ns per parameter\n\
             peak memory           {:.0} MB, server and all sites\n\
             machine               {}, {} cores",
            self.chain,
            self.startup_s,
            self.round_s,
            self.round_s_min,
            self.bytes_up_per_param,
            self.bytes_down_per_param,
            self.gate_ns_per_param,
            self.peak_rss_bytes as f64 / 1e6,
            self.machine.cpu,
            self.machine.cores,
        )
    }
}

/// Runs a federation and measures it.
///
/// # Errors
/// When it could not be run, or did not finish.
pub fn run(options: &Options) -> Result<Measured, RunError> {
    let folder = tempfile::tempdir()?;
    write_files(folder.path(), options)?;
    let params = options.params;
    let program = || Program::new().workload(|_| Arc::new(Synthetic { params }));
    let run = RunOptions {
        job: folder.path().join("job.toml"),
        workspace: Some(folder.path().join("workspace")),
        command: "privet bench fed".to_owned(),
        ..RunOptions::default()
    };
    let result = privet::run(program(), &run, &Cancel::default(), |_| ())?;
    if let Some(error) = result.error {
        return Err(std::io::Error::other(error.message).into());
    }
    let walls = result.rounds.iter().map(|round| round.wall_s);
    let share = (options.params * u64::from(options.sites) * u64::from(options.rounds)) as f64;
    let up: u64 = result.rounds.iter().map(|round| round.bytes_up).sum();
    let down: u64 = result.rounds.iter().map(|round| round.bytes_down).sum();
    let policy = folder.path().join("site-1.toml");
    let gate_s =
        privet::dry_run(program(), &policy, &run.job, None).map_err(std::io::Error::other)?.gate_s;
    Ok(Measured {
        params: options.params,
        sites: options.sites,
        rounds: options.rounds,
        chain: options.chain,
        startup_s: result.startup_s,
        round_s: walls.clone().sum::<f64>() / f64::from(options.rounds),
        round_s_min: walls.fold(f64::INFINITY, f64::min),
        bytes_up_per_param: up as f64 / share,
        bytes_down_per_param: down as f64 / share,
        peak_rss_bytes: privet::site::peak_rss(),
        gate_ns_per_param: gate_s * 1e9 / options.params as f64,
        machine: Machine::this(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// A job and the policies of its sites; the data sets are empty files that nobody reads.
fn write_files(folder: &Path, options: &Options) -> std::io::Result<()> {
    let mut sites = String::new();
    for site in 1..=options.sites {
        let out = match options.chain {
            Chain::Plain => r#"[{ filter = "schema" }]"#,
            Chain::Dp => {
                r#"[{ filter = "clip", l2 = 1.0 }, { filter = "gaussian", noise-multiplier = 64.0 }]"#
            }
            Chain::Sealed => r#"[{ filter = "clip", linf = 1.0 }]"#,
            Chain::DpSealed => {
                r#"[{ filter = "clip", l2 = 1.0 }, { filter = "gaussian", noise-multiplier = 64.0 }]"#
            }
        };
        let protect = match options.chain {
            Chain::Plain | Chain::Dp => String::new(),
            Chain::Sealed | Chain::DpSealed => format!(
                "protect = {{ scheme = \"threshold\", min-sites = {}, colluders = 1 }}\n",
                (options.sites * 4 / 5).max(3)
            ),
        };
        let policy = format!(
            "schema = 1\n[site]\nname = \"site-{site}\"\n[dataset.made-up]\npath = \"data.csv\"\n\
             unit = \"site\"\nrecords = 100\nbudget = {{ epsilon = 6.0, delta = 1e-5 }}\n\
             [[rule]]\nid = \"all\"\nwhen = {{ task = [\"train\"], dataset = \"made-up\" }}\nout = {out}\n{protect}"
        );
        std::fs::write(folder.join(format!("site-{site}.toml")), policy)?;
        sites.push_str(&format!("{{ name = \"site-{site}\", policy = \"site-{site}.toml\" }},"));
    }
    std::fs::write(folder.join("data.csv"), "")?;
    std::fs::write(folder.join("features.toml"), "none = [0.0, 1.0]\n")?;
    let job = format!(
        "schema = 1\n[job]\nname = \"bench\"\nworkflow = \"fedavg\"\n\
         [fedavg]\nrounds = {}\nmin-sites = {}\nround-timeout = \"1h\"\n\
         [model]\nkind = \"logistic-regression\"\nlabel = \"y\"\nfeatures = \"features.toml\"\n\
         [train]\ndataset = \"made-up\"\n[simulate]\nsites = [{sites}]\n",
        options.rounds, options.sites
    );
    std::fs::write(folder.join("job.toml"), job)
}

/// Answers every task with the same made-up update of one tensor.
struct Synthetic {
    params: u64,
}

const TENSOR: &str = "made-up";

impl Synthetic {
    fn schema(&self) -> Result<Schema, Reason> {
        let too_many = || Reason::new(Code::TooLarge, "more parameters than a tensor may have");
        let shape = Shape::new(vec![self.params]).ok_or_else(too_many)?;
        let dtype = Dtype::F32;
        Ok([(TENSOR.to_owned(), Slot { shape, dtype })].into_iter().collect())
    }
}

impl Workload for Synthetic {
    fn promise(&self, _: &Job) -> Result<Promise, Reason> {
        Ok(Promise {
            task: "train",
            kind: DataKind::WeightDiff,
            schema: self.schema()?,
            protection: Protection::Plain,
            bound: None,
            local_steps: 1,
            metrics: Vec::new(),
        })
    }

    fn initial(&self, _: &Job) -> Result<Tensors, Reason> {
        let zeros = Values::F32(vec![0.0; self.params as usize]);
        let shape = self.schema()?.0.remove(TENSOR).map(|slot| slot.shape);
        let tensor = shape.and_then(|shape| Tensor::new(shape, zeros));
        Ok(tensor.map(|tensor| (TENSOR.to_owned(), tensor)).into_iter().collect())
    }

    fn executor(&self, _: &Job, _: &Dataset, _: &Promise) -> Result<Box<dyn Executor>, Reason> {
        Ok(Box::new(Answers))
    }

    fn evaluator(&self, _: &Job, _: &Path) -> Result<Box<dyn Executor>, Reason> {
        Ok(Box::new(Answers))
    }
}

struct Answers;

impl Executor for Answers {
    fn execute(&mut self, task: &Message, _: &Cancel) -> TaskResult {
        let Content::Plain(Tensors(model)) = &task.content else {
            return TaskResult::failed("the task brings no tensors");
        };
        let answer = |(name, tensor): (&String, &Tensor)| {
            let len = tensor.values().len();
            let wave = (0..len).map(|i| (i % 1024) as f32 * 1e-6).collect();
            Some((name.clone(), Tensor::new(tensor.shape().clone(), Values::F32(wave))?))
        };
        let tensors = model.iter().filter_map(answer).collect();
        TaskResult::done(Message::new(
            task.task.clone(),
            DataKind::WeightDiff,
            Content::Plain(tensors),
        ))
    }
}
