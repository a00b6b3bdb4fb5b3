//! `privet bench`.

use privet_bench::{dp, fed};

use super::Ended;
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
        /// plain, or dp: clip and Gaussian noise.
        #[arg(long, default_value = "plain", value_parser = ["plain", "dp"])]
        chain: String,
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
                _ => fed::Chain::Plain,
            };
            let options = fed::Options { params: *params, sites: *sites, rounds: *rounds, chain };
            let measured =
                fed::run(&options).map_err(|error| Failed::new(1, "failed", error.to_string()))?;
            out.result(&measured, || measured.table());
        }
        Command::Dp { params, threads } => {
            let measured = dp::run(&dp::Options { params: *params, threads: *threads })?;
            out.result(&measured, || measured.table());
        }
    }
    Ok(0)
}
