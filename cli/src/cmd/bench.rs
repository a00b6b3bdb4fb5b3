//! `privet bench`.

use privet_bench::fed::{self, Chain, Options};

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
}

pub(crate) fn main(command: &Command, out: &Out) -> Ended {
    let Command::Fed { params, sites, rounds, chain } = command;
    let options = Options {
        params: *params,
        sites: *sites,
        rounds: *rounds,
        chain: match chain.as_str() {
            "dp" => Chain::Dp,
            _ => Chain::Plain,
        },
    };
    let measured =
        fed::run(&options).map_err(|error| Failed::new(1, "failed", error.to_string()))?;
    out.result(&measured, || measured.table());
    Ok(0)
}
