//! Noise: the samplers alone, and the whole way of an update through `clip` and `gaussian`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use privet::Program;
use privet::core::filter::{Cancel, Charge, FilterContext};
use privet::core::flow::BuildContext;
use privet::core::params::{Params, RawValue};
use privet::core::sensitivity::{Adjacency, Prover};
use privet::core::tensor::{Tensor, Tensors};
use privet::core::{Code, Content, DataKind, Filter, Message, Reason};
use privet::dp::noise::{Law, Sampler, Session};
use rand::SeedableRng as _;
use rand_distr::Distribution as _;
use serde::Serialize;

use crate::machine::Machine;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Numbers of the update.
    pub params: u64,
    /// Threads that share the work.
    pub threads: usize,
}

/// What was measured. Times are of one thread's work, unless `threads` is above one: then they are
/// of the clock.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// Numbers of the update.
    pub params: u64,
    /// Threads that shared the work.
    pub threads: usize,
    /// Instructions that the samplers ran on.
    pub backend: String,
    /// Nanoseconds a draw of the discrete Gaussian, by σ.
    pub sampler_ns_per_draw: BTreeMap<String, f64>,
    /// Nanoseconds a draw of the discrete Laplace law of scale 4096.
    pub laplace_ns_per_draw: f64,
    /// Nanoseconds a number from the floats of an update to the floats that a server reads:
    /// `clip`, `gaussian`, decoding.
    pub filter_ns_per_param: f64,
    /// Nanoseconds a draw of `rand_distr`'s float normal law from ChaCha12, which is fast and not
    /// private.
    pub normal_unsafe_ns_per_draw: f64,
    /// The most memory that the process held.
    pub peak_rss_bytes: u64,
    /// What it was measured on.
    pub machine: Machine,
    /// Version of Privet.
    pub version: String,
}

impl Measured {
    /// For people.
    pub fn table(&self) -> String {
        let mut text =
            format!("{} numbers · {} threads · {}\n", self.params, self.threads, self.backend);
        for (sigma, ns) in &self.sampler_ns_per_draw {
            text.push_str(&format!("gaussian σ = {sigma:8} {}\n", rate(*ns)));
        }
        text.push_str(&format!("laplace             {}\n", rate(self.laplace_ns_per_draw)));
        text.push_str(&format!("clip + gaussian     {}\n", rate(self.filter_ns_per_param)));
        text.push_str(&format!(
            "float normal        {}   (not private)\n",
            rate(self.normal_unsafe_ns_per_draw)
        ));
        text.push_str(&format!(
            "peak memory         {:.0} MB\nmachine             {}, {} cores",
            self.peak_rss_bytes as f64 / 1e6,
            self.machine.cpu,
            self.machine.cores
        ));
        text
    }
}

fn rate(ns: f64) -> String {
    format!("{ns:7.2} ns each, {:6.1} million a second", 1e3 / ns)
}

/// Measures.
///
/// # Errors
/// When threads or randomness are not to be had.
pub fn run(options: &Options) -> Result<Measured, Reason> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    let pool = pool.map_err(|error| Reason::new(Code::StorageFailed, error.to_string()))?;
    pool.install(|| measure(options))
}

fn measure(options: &Options) -> Result<Measured, Reason> {
    let params = usize::try_from(options.params)
        .map_err(|_| Reason::new(Code::TooLarge, "more numbers than fit in memory"))?;
    // The sampler, and not the memory behind a large vector: a batch a thread stays in its cache.
    let mut batch = vec![0i64; options.threads << 16];
    let mut draws = |law: Law| -> Result<f64, Reason> {
        let sampler = Sampler::new(law)?;
        let batches = params.div_ceil(batch.len());
        best(batches * batch.len(), || {
            let mut session = Session::open()?;
            (0..batches).try_for_each(|_| session.add(&sampler, &mut batch, &Cancel::default()))
        })
    };
    let mut sampler_ns_per_draw = BTreeMap::new();
    for sigma in [1.0, 100.0, 4096.0, 1e6] {
        sampler_ns_per_draw.insert(format!("{sigma}"), draws(Law::Gaussian { sigma })?);
    }
    let laplace_ns_per_draw = draws(Law::Laplace { scale: 4096.0 })?;
    let mut machine = Machine::this();
    let backend = Sampler::new(Law::Gaussian { sigma: 1.0 })?.backend().as_str().to_owned();
    machine.threads = options.threads;
    machine.backend.clone_from(&backend);
    Ok(Measured {
        params: options.params,
        threads: options.threads,
        backend,
        sampler_ns_per_draw,
        laplace_ns_per_draw,
        filter_ns_per_param: filters(params)?,
        normal_unsafe_ns_per_draw: normal(params)?,
        peak_rss_bytes: privet::site::peak_rss(),
        machine,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

/// The best time of several, in nanoseconds a number; a second at most.
fn best(numbers: usize, mut work: impl FnMut() -> Result<(), Reason>) -> Result<f64, Reason> {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    for run in 0..20 {
        if run >= 3 && start.elapsed() > Duration::from_secs(1) {
            break;
        }
        let began = Instant::now();
        work()?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(best * 1e9 / numbers.max(1) as f64)
}

/// Says yes to every charge: nothing is counted here.
struct Free;

impl Charge for Free {
    fn draw(&mut self, _: &Prover) -> Result<(), Reason> {
        Ok(())
    }
}

fn filter(program: &Program, name: &str, key: &str, value: f64) -> Result<Box<dyn Filter>, Reason> {
    let registry = program.registry();
    let specs = registry.spec(name).map_or(&[][..], |spec| spec.params);
    let mut params = Params::default();
    params
        .set(specs, key, RawValue::Float(value))
        .map_err(|error| Reason::new(Code::InvalidPolicy, error.to_string()))?;
    let model = Default::default();
    let adjacency = Adjacency::AddRemove;
    registry.build(
        name,
        &params,
        &BuildContext { model: &model, adjacency, sharers: None, sealed: false, prover: None },
    )
}

fn filters(params: usize) -> Result<f64, Reason> {
    let program = Program::new();
    let clip = filter(&program, "clip", "l2", 1.0)?;
    let gaussian = filter(&program, "gaussian", "noise-multiplier", 1.0)?;
    let update: Vec<f32> = (0..params).map(|i| (i % 1024) as f32 * 1e-6).collect();
    let update = Tensors::from_iter([("update".to_owned(), Tensor::vector(update))]);
    let mut floats = vec![0f32; params];
    let mut times = Vec::new();
    for _ in 0..7 {
        // A filter takes its message; making the copy is not measured.
        let content = Content::Plain(update.clone());
        let message = Message::new("train", DataKind::WeightDiff, content);
        let began = Instant::now();
        let cancel = Cancel::default();
        let mut context = FilterContext { round: 1, charge: &mut Free, cancel: &cancel };
        let clipped = clip.apply(message, &mut context)?;
        let noised = gaussian.apply(clipped, &mut context)?;
        if let Content::Lattice(lattice) = &noised.content {
            let step = lattice.step().value();
            for tensor in lattice.tensors().values() {
                let pairs = floats.iter_mut().zip(tensor.values());
                pairs.for_each(|(float, &integer)| *float = (integer as f64 * step) as f32);
            }
        }
        black_box(&floats);
        times.push(began.elapsed().as_secs_f64());
    }
    Ok(times.into_iter().fold(f64::INFINITY, f64::min) * 1e9 / params.max(1) as f64)
}

fn normal(params: usize) -> Result<f64, Reason> {
    let mut floats = vec![0f64; params];
    best(params, || {
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
        let normal = rand_distr::StandardNormal;
        floats.iter_mut().for_each(|float| *float = normal.sample(&mut rng));
        black_box(&floats);
        Ok(())
    })
}
