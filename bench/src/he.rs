//! Sealed sums: what it takes to seal one update, to add it, and to open the sum.

use std::hint::black_box;
use std::time::Instant;

use privet::core::{Code, Reason};
use privet::he::coding::fixed_point::FixedPoint;
use privet::he::coding::params::log2_tail;
use privet::he::coding::{Decoder, Encoding, Layout};
use privet::he::rlwe::block::add_into;
use privet::he::rlwe::{Key, KeySum, Ring, fastest};
use privet::he::seeded::{Seed, Words};
use privet::he::shamir::Share;
use rand::{RngExt as _, SeedableRng as _};
use rayon::prelude::*;
use serde::Serialize;

mod hardware;

use crate::machine::Machine;
use hardware::Hardware;

/// How updates are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Key-additive RLWE; nobody holds a key.
    Threshold,
    /// Zama's `tfhe`, under a key that all sites hold.
    #[cfg(feature = "tfhe")]
    Tfhe,
    /// Not at all: 32-bit floats, for comparison.
    Plain,
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct Options {
    /// Numbers of an update.
    pub params: u64,
    /// Sites.
    pub sites: u32,
    /// How updates are protected.
    pub scheme: Scheme,
    /// Bits of a number with its sign; the most that four bytes hold when absent.
    pub bits: Option<u32>,
    /// Threads that share the work.
    pub threads: usize,
    /// Whether an NVIDIA GPU seals and opens.
    pub gpu: bool,
}

/// What was measured, of inputs uniform in [−1, 1]; times are of the clock.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// How updates were protected.
    pub scheme: Scheme,
    /// Numbers of an update.
    pub params: u64,
    /// Sites.
    pub sites: u32,
    /// Threads that shared the work.
    pub threads: usize,
    /// Bits of a number with its sign.
    pub bits: u32,
    /// Whether sums of the integers come back exactly.
    pub exact: bool,
    /// log2 of the chance that any number of the sum is wrong.
    pub failure_log2: Option<f64>,
    /// From floats to bytes that may be sent: quantising, masking, noise.
    pub encrypt_ns_per_param: f64,
    /// From a site's bytes into the sum.
    pub add_ns_per_param_per_site: f64,
    /// From the sum and the keys' sum to integers.
    pub open_ns_per_param: f64,
    /// Bytes of an update on the wire.
    pub wire_bytes_per_param: f64,
    /// Bytes of a key's sealed shares for all peers.
    pub share_bytes_per_site: u64,
    /// Largest error of the mean of all sites, in the inputs' unit.
    pub max_abs_error: f64,
    /// Root mean square of the same.
    pub rms_error: f64,
    /// log2 of what the best known attack on an upload costs, by the theorem that is weakest.
    pub security_bits: Option<u32>,
    /// The most memory that the process held: all of it, inputs and checks included.
    pub peak_rss_bytes: u64,
    /// What it was measured on.
    pub machine: Machine,
    /// Version of Privet.
    pub version: String,
}

impl Measured {
    /// A line for people.
    pub fn line(&self) -> String {
        format!(
            "{:10} {:2} bits   seal {:6.2} ns   add {:5.2} ns   open {:6.2} ns   {:5.2} B   error {:.1e} rms, {:.1e} most",
            format!("{:?}", self.scheme).to_lowercase(),
            self.bits,
            self.encrypt_ns_per_param,
            self.add_ns_per_param_per_site,
            self.open_ns_per_param,
            self.wire_bytes_per_param,
            self.rms_error,
            self.max_abs_error,
        )
    }
}

/// What is common to the lines of a table.
pub fn heading(measured: &Measured) -> String {
    format!(
        "{} numbers · {} sites · {} threads · {} · {}, {} cores",
        measured.params,
        measured.sites,
        measured.threads,
        measured.machine.backend,
        measured.machine.cpu,
        measured.machine.cores
    )
}

/// Measures.
///
/// # Errors
/// When the sum cannot be encoded, or threads or randomness are not to be had.
pub fn run(options: &Options) -> Result<Measured, Reason> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads).build();
    let pool = pool.map_err(|error| failed(&error))?;
    pool.install(|| match options.scheme {
        Scheme::Plain => plain(options),
        Scheme::Threshold => threshold(options),
        #[cfg(feature = "tfhe")]
        Scheme::Tfhe => tfhe(options),
    })
}

fn failed(error: &dyn std::fmt::Display) -> Reason {
    Reason::new(Code::Overflow, error.to_string())
}

/// One site's update, made anew whenever it is asked for.
fn update(site: u32, params: usize) -> Vec<f32> {
    const PART: usize = 1 << 16;
    let mut values = vec![0f32; params];
    values.par_chunks_mut(PART).enumerate().for_each(|(part, values)| {
        let seed = u64::from(site) << 32 | part as u64;
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        values.iter_mut().for_each(|x| *x = rng.random_range(-1.0f32..=1.0));
    });
    values
}

/// Times of the three steps, and what the sum came to.
struct Times {
    encrypt: f64,
    add: f64,
    open: f64,
    mean: Vec<f32>,
}

/// Runs the steps over all sites; of each step the fastest is taken.
fn measure<Word>(
    options: &Options,
    mut seal: impl FnMut(&[f32], &mut Vec<Word>) -> Result<(), Reason>,
    mut add: impl FnMut(&[Word]) -> Result<(), Reason>,
) -> Result<(f64, f64, Vec<f64>), Reason> {
    let params = options.params as usize;
    let (mut encrypt, mut adding) = (f64::INFINITY, f64::INFINITY);
    let mut exact = vec![0f64; params];
    let mut body = Vec::new();
    for site in 0..options.sites {
        let values = update(site, params);
        let began = Instant::now();
        seal(&values, &mut body)?;
        encrypt = encrypt.min(began.elapsed().as_secs_f64());
        let began = Instant::now();
        add(&body)?;
        adding = adding.min(began.elapsed().as_secs_f64());
        black_box(&body);
        exact.par_iter_mut().zip(&values).for_each(|(sum, &x)| *sum += f64::from(x));
    }
    Ok((encrypt, adding, exact))
}

fn report(options: &Options, times: &Times, exact: &[f64], facts: &Facts) -> Measured {
    let sites = f64::from(options.sites);
    let error = |(mean, sum): (&f32, &f64)| (f64::from(*mean) - sum / sites).abs();
    let errors = times.mean.par_iter().zip(exact).map(error);
    let max_abs_error = errors.clone().reduce(|| 0.0, f64::max);
    let squares: f64 = errors.map(|error| error * error).sum();
    let per_param = |seconds: f64| seconds * 1e9 / options.params as f64;
    let mut machine = Machine::this();
    machine.threads = options.threads;
    machine.backend = fastest().as_str().to_owned();
    Measured {
        scheme: options.scheme,
        params: options.params,
        sites: options.sites,
        threads: options.threads,
        bits: facts.bits,
        exact: facts.exact,
        failure_log2: facts.failure_log2,
        encrypt_ns_per_param: per_param(times.encrypt),
        add_ns_per_param_per_site: per_param(times.add),
        open_ns_per_param: per_param(times.open),
        wire_bytes_per_param: facts.wire as f64 / options.params as f64,
        share_bytes_per_site: facts.shares,
        max_abs_error,
        rms_error: (squares / options.params as f64).sqrt(),
        security_bits: facts.security_bits,
        peak_rss_bytes: privet::site::peak_rss(),
        machine,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// What a report says of the scheme, besides times and errors.
#[derive(Default)]
struct Facts {
    bits: u32,
    exact: bool,
    failure_log2: Option<f64>,
    wire: u64,
    shares: u64,
    security_bits: Option<u32>,
}

/// How often a sum is opened: of each step the fastest run counts.
const OPENINGS: usize = 3;

fn threshold(options: &Options) -> Result<Measured, Reason> {
    let params = options.params;
    let encoding = Encoding::best(options.sites, params, options.bits).map_err(|e| failed(&e))?;
    let layout = Layout::new(encoding, false).map_err(|e| failed(&e))?;
    let fixed = FixedPoint::new(1.0, encoding.most()).map_err(|e| failed(&e))?;
    let ring = Ring::new(encoding.set());
    let set = ring.set();
    let context = [7; 32];
    let header = layout.header(100).map_err(|e| failed(&e))?;
    let words = layout.blocks() as usize * set.block();
    let mut keys = vec![0i32; set.degree()];
    let hardware = Hardware::find(options.gpu, options.threads)?;
    let parallel = options.threads > 1;
    let (at_once, words_at_once) = (hardware.batch(), hardware.batch() * set.block());
    let mut messages = vec![0i64; at_once * set.degree()];

    let encode = |block: u64, values: &[f32], out: &mut [i64]| {
        let part = values.get(layout.range(block)).unwrap_or_default();
        let mut integers = Vec::with_capacity(part.len());
        fixed.integers(part, &mut integers).map_err(|e| failed(&e))?;
        layout.encode(block, &header, &integers, out).map(drop).map_err(|e| failed(&e))
    };
    let seal = |values: &[f32], body: &mut Vec<u32>| {
        let seed = Seed::from_os().map_err(|e| failed(&e))?;
        let key = Key::sample(&ring, &mut Words::new(&seed.derive("key", 0)));
        keys.iter_mut().zip(key.coefficients()).for_each(|(sum, &s)| *sum += i32::from(s));
        let mut sealer = hardware.sealer(&ring, &context, key, seed.derive("errors", 0))?;
        body.resize(words, 0);
        let batches = body.chunks_mut(words_at_once);
        for (first, out) in (0..).step_by(at_once).zip(batches) {
            let messages = &mut messages[..out.len() / set.block() * set.degree()];
            let each = |(at, out): (usize, &mut [i64])| encode(first + at as u64, values, out);
            match parallel {
                true => messages.par_chunks_mut(set.degree()).enumerate().try_for_each(each)?,
                false => messages.chunks_mut(set.degree()).enumerate().try_for_each(each)?,
            }
            sealer.seal(messages, out)?;
        }
        Ok(())
    };
    let mut sum = vec![0u32; words];
    let add = |body: &[u32]| {
        let part = words_at_once;
        let each = |(sum, body): (&mut [u32], &[u32])| add_into(&ring, sum, body);
        let added = match parallel {
            true => sum.par_chunks_mut(part).zip(body.par_chunks(part)).try_for_each(each),
            false => sum.chunks_mut(part).zip(body.chunks(part)).try_for_each(each),
        };
        added.map_err(|e| failed(&e))
    };
    let (encrypt, adding, exact) = measure(options, seal, add)?;

    let key = KeySum::new(&ring, options.sites, &keys).map_err(|e| failed(&e))?;
    let mut opener = hardware.opener(&ring, &context, key)?;
    let mut sums = Vec::with_capacity(params as usize);
    let mut opened = vec![0i64; messages.len()];
    let mut open = f64::INFINITY;
    for _ in 0..OPENINGS {
        sums.clear();
        let began = Instant::now();
        let mut decoder = Decoder::new(layout, options.sites).map_err(|e| failed(&e))?;
        for (first, sealed) in (0..).step_by(at_once).zip(sum.chunks(words_at_once)) {
            let opened = &mut opened[..sealed.len() / set.block() * set.degree()];
            opener.open(first, sealed, opened)?;
            for block in opened.chunks(set.degree()) {
                decoder.block(block, &mut sums).map_err(|e| failed(&e))?;
            }
        }
        decoder.finish().map_err(|e| failed(&e))?;
        open = open.min(began.elapsed().as_secs_f64());
    }
    let mean = fixed.floats(&sums, f64::from(options.sites)).collect();
    let times = Times { encrypt, add: adding, open, mean };
    let reach = encoding.delta().div_ceil(2);
    let coefficients = encoding.value_coefficients() as f64;
    let share = Share::encoded_len(set.degree()) as u64 + 16;
    let facts = Facts {
        bits: encoding.bits(),
        exact: true,
        failure_log2: Some(log2_tail(options.sites, reach) + coefficients.log2()),
        wire: 4 * words as u64,
        shares: u64::from(options.sites.saturating_sub(1)) * share,
        security_bits: Some(set.security_bits().by_theorem),
    };
    let mut measured = report(options, &times, &exact, &facts);
    if let Some(name) = hardware.name()? {
        measured.machine.backend = name;
    }
    Ok(measured)
}

fn plain(options: &Options) -> Result<Measured, Reason> {
    let seal = |values: &[f32], body: &mut Vec<u32>| {
        body.clear();
        body.extend(values.iter().map(|x| x.to_bits()));
        Ok(())
    };
    let mut sum = vec![0f64; options.params as usize];
    let add = |body: &[u32]| {
        let words = sum.iter_mut().zip(body);
        words.for_each(|(sum, &word)| *sum += f64::from(f32::from_bits(word)));
        Ok(())
    };
    let (encrypt, adding, exact) = measure(options, seal, add)?;
    let began = Instant::now();
    let sites = f64::from(options.sites);
    let mean: Vec<f32> = sum.iter().map(|x| (x / sites) as f32).collect();
    let open = began.elapsed().as_secs_f64();
    let times = Times { encrypt, add: adding, open, mean };
    let facts = Facts { bits: 24, wire: 4 * options.params, ..Facts::default() };
    Ok(report(options, &times, &exact, &facts))
}

/// Under one key of all sites; 18 bits a number unless others are asked for, which are eight bytes for two.
#[cfg(feature = "tfhe")]
fn tfhe(options: &Options) -> Result<Measured, Reason> {
    use privet::he::glwe::{GroupKey, Packing, Sum, open, seal};

    let bits = options.bits.unwrap_or(18).clamp(2, 52);
    let most = (1u64 << (bits - 1)) - 1;
    let packing = Packing::within(most, options.sites, options.params).map_err(|e| failed(&e))?;
    let fixed = FixedPoint::new(1.0, most).map_err(|e| failed(&e))?;
    let seed = Seed::from_os().map_err(|e| failed(&e))?;
    let key = GroupKey::new(packing.set(), &seed).map_err(|e| failed(&e))?;
    let context = [7; 32];
    let sealing = |values: &[f32], body: &mut Vec<u8>| {
        let mut integers = Vec::with_capacity(values.len());
        fixed.integers(values, &mut integers).map_err(|e| failed(&e))?;
        let fresh = Seed::from_os().map_err(|e| failed(&e))?;
        *body = seal(&key, &packing, &context, &integers, fresh).map_err(|e| failed(&e))?;
        Ok(())
    };
    let mut sum = Sum::new(packing, &context).map_err(|e| failed(&e))?;
    let add = |body: &[u8]| sum.add(body).map_err(|e| failed(&e));
    let (encrypt, adding, exact) = measure(options, sealing, add)?;
    let began = Instant::now();
    let sums = open(&key, &sum).map_err(|e| failed(&e))?;
    let opening = began.elapsed().as_secs_f64();
    let mean = fixed.floats(&sums, f64::from(options.sites)).collect();
    let times = Times { encrypt, add: adding, open: opening, mean };
    let facts = Facts {
        bits,
        exact: true,
        failure_log2: (!packing.never_fails()).then_some(-40.0),
        wire: packing.bytes(),
        shares: 0,
        security_bits: Some(132),
    };
    Ok(report(options, &times, &exact, &facts))
}
