//! `privet bench`.

use privet::core::intersect::Protocol;
use privet_bench::{attest, dp, fed, he, psi};

use super::Ended;
use super::psi::one_of;
use crate::out::{Failed, Out};

/// Measure. Numbers are printed, and hold for this machine.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// A federation on loopback with synthetic updates.
    #[command(after_help = "Examples:
  privet bench fed --params 100000 --sites 3 --rounds 3
  privet bench fed --params 1000 --sites 2 --rounds 2 --chain dp --json")]
    Fed {
        /// Parameters of the model, all f32.
        #[arg(long, default_value_t = 1_000_000)]
        params: u64,
        /// Sites.
        #[arg(long, default_value_t = 10)]
        sites: u32,
        /// Rounds.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// plain; dp: clip and Gaussian noise; sealed: clip under a seal; dp+sealed: both.
        #[arg(long, default_value = "plain", value_parser = ["plain", "dp", "sealed", "dp+sealed"])]
        chain: String,
    },
    /// Sealed sums: sealing an update, adding it, opening the sum; without --scheme a table of all.
    #[command(after_help = "Examples:
  privet bench he --params 1000000 --sites 10
  privet bench he --params 10000 --sites 5 --scheme threshold --bits 12 --json")]
    He {
        /// Numbers of an update.
        #[arg(long, default_value_t = 1_000_000)]
        params: u64,
        /// Sites.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=390))]
        sites: u32,
        /// threshold: nobody holds a key; tfhe: every site does; plain: 32-bit floats in the clear.
        #[arg(long, value_parser = ["threshold", "tfhe", "plain"])]
        scheme: Option<String>,
        /// Bits of a number with its sign; the most that four bytes hold when left out.
        #[arg(long)]
        bits: Option<u32>,
        /// Threads that share the work.
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// Seal and open on an NVIDIA GPU; needs a build with the feature `cuda`.
        #[arg(long)]
        gpu: bool,
    },
    /// Set intersection of made-up files, every site a process of its own; half of all items are common.
    #[command(after_help = "Examples:
  privet bench psi --items 10000
  privet bench psi --items 1000 --sites 3 --protocol ecdh --json")]
    Psi {
        /// Items of each site.
        #[arg(long, default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(2..=1 << 26))]
        items: u64,
        /// Sites.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=64))]
        sites: u32,
        /// How it is computed; by size when left out.
        #[arg(long, value_parser = one_of(Protocol::ALL, Protocol::as_str), default_value = "auto")]
        protocol: Protocol,
        /// Look for cheating.
        #[arg(long)]
        malicious: bool,
        /// Threads of each process; as many as there are cores when left out.
        #[arg(long)]
        threads: Option<usize>,
    },
    /// Attestation: a recorded report of a GPU with its reference files.
    #[command(after_help = "Examples:
  privet bench attest --verifications 20
  privet bench attest --verifications 10 --json")]
    Attest {
        /// How often each thing is done.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
        verifications: u32,
    },
    /// Noise: samplers, and clip and Gaussian noise on one update.
    #[command(after_help = "Examples:
  privet bench dp --params 1000000
  privet bench dp --params 10000 --threads 2 --json")]
    Dp {
        /// Numbers of the update.
        #[arg(long, default_value_t = 4_000_000)]
        params: u64,
        /// Threads that share the work.
        #[arg(long, default_value_t = 1)]
        threads: usize,
    },
}

pub(crate) fn main(command: &Command, out: &Out) -> Ended {
    match command {
        Command::Fed { params, sites, rounds, chain } => {
            let chain = match chain.as_str() {
                "dp" => fed::Chain::Dp,
                "sealed" => fed::Chain::Sealed,
                "dp+sealed" => fed::Chain::DpSealed,
                _ => fed::Chain::Plain,
            };
            let options = fed::Options { params: *params, sites: *sites, rounds: *rounds, chain };
            let measured =
                fed::run(&options).map_err(|error| Failed::new(1, "failed", error.to_string()))?;
            out.result(&measured, || measured.table());
        }
        Command::He { params, sites, scheme, bits, threads, gpu } => {
            let options = |scheme| he::Options {
                params: *params,
                sites: *sites,
                scheme,
                bits: *bits,
                threads: *threads,
                gpu: *gpu,
            };
            let one = match scheme.as_deref() {
                Some("plain") => Some(he::Scheme::Plain),
                #[cfg(feature = "tfhe")]
                Some("tfhe") => Some(he::Scheme::Tfhe),
                #[cfg(not(feature = "tfhe"))]
                Some("tfhe") => {
                    let help =
                        "build with `--features tfhe`; docs/he.md says what its licence means";
                    return Err(Failed::usage("this privet was built without tfhe").help(help));
                }
                Some(_) => Some(he::Scheme::Threshold),
                // A document is of one scheme, and so is what a GPU does.
                None if out.is_json() || *gpu => Some(he::Scheme::Threshold),
                None => None,
            };
            match one {
                Some(scheme) => {
                    let measured = he::run(&options(scheme))?;
                    out.result(&measured, || {
                        format!("{}\n{}", he::heading(&measured), measured.line())
                    });
                }
                None => {
                    let schemes = [
                        he::Scheme::Threshold,
                        #[cfg(feature = "tfhe")]
                        he::Scheme::Tfhe,
                        he::Scheme::Plain,
                    ];
                    for (at, scheme) in schemes.into_iter().enumerate() {
                        let measured = he::run(&options(scheme))?;
                        if at == 0 {
                            out.say(&he::heading(&measured));
                        }
                        out.say(&measured.line());
                    }
                }
            }
        }
        Command::Psi { items, sites, protocol, malicious, threads } => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let measured = psi::run(&psi::Options {
                items: *items,
                sites: *sites,
                protocol: *protocol,
                malicious: *malicious,
                threads: threads.unwrap_or(cores),
                binary: std::env::current_exe()?,
            })
            .map_err(super::run::failed)?;
            out.result(&measured, || measured.table());
        }
        Command::Attest { verifications } => {
            let options = attest::Options { verifications: *verifications };
            let measured = attest::run(&options)?;
            out.result(&measured, || measured.table());
        }
        Command::Dp { params, threads } => {
            let measured = dp::run(&dp::Options { params: *params, threads: *threads })?;
            out.result(&measured, || measured.table());
        }
    }
    Ok(0)
}
