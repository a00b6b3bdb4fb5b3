//! `privet dp`: differential privacy on paper.

use clap::ValueEnum;
use privet::core::ledger::rounded_up;
use privet::core::sensitivity::Adjacency;
use privet::dp::plan::{self, Accountant, PlanError};
use privet::dp::pld::{Mechanism, Noise};
use serde_json::json;

use super::Ended;
use crate::out::{Failed, Out};

/// What a plan costs, and how much noise a budget asks for.
///
/// For a query of sensitivity 1, noise of a continuous law, and a plan that is fixed before its first
/// round. What a site's ledger says of what happened is `privet budget show`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// ε of so many rounds.
    #[command(after_help = "Examples:
  privet dp epsilon --noise-multiplier 4 --rounds 20 --delta 1e-5
  privet dp epsilon --noise-multiplier 1 --rounds 500 --sampling-rate 0.02 --delta 1e-5 --json")]
    Epsilon {
        /// The law of the noise.
        #[arg(long, value_enum, default_value_t = Law::Gaussian)]
        mechanism: Law,
        /// Standard deviation of Gaussian noise, or scale of Laplace noise, over the sensitivity.
        #[arg(long)]
        noise_multiplier: f64,
        #[command(flatten)]
        plan: Plan,
        /// exact and zcdp count unsampled noise, exact Gaussian noise alone; the tightest when absent.
        #[arg(long, value_enum)]
        accountant: Option<Which>,
    },
    /// The least noise multiplier of Gaussian noise that a budget allows.
    #[command(after_help = "Examples:
  privet dp calibrate --epsilon 5 --rounds 20 --delta 1e-5
  privet dp calibrate --epsilon 2 --rounds 1000 --sampling-rate 0.01 --delta 1e-6 --json")]
    Calibrate {
        /// ε > 0.
        #[arg(long)]
        epsilon: f64,
        #[command(flatten)]
        plan: Plan,
    },
}

/// What is known of a plan besides its noise.
#[derive(clap::Args)]
pub(crate) struct Plan {
    /// Releases.
    #[arg(long)]
    rounds: u32,
    /// Chance with which each record takes part in a round (Poisson sampling).
    #[arg(long, default_value_t = 1.0)]
    sampling_rate: f64,
    /// Which data sets are neighbours; the sensitivity is that of add-remove.
    #[arg(long, value_enum, default_value_t = Neighbours::AddRemove)]
    adjacency: Neighbours,
    /// 0 < δ < 1.
    #[arg(long)]
    delta: f64,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Law {
    Gaussian,
    Laplace,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Which {
    Pld,
    Rdp,
    Zcdp,
    Exact,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Neighbours {
    AddRemove,
    Replace,
}

impl From<Neighbours> for Adjacency {
    fn from(neighbours: Neighbours) -> Self {
        match neighbours {
            Neighbours::AddRemove => Adjacency::AddRemove,
            Neighbours::Replace => Adjacency::Replace,
        }
    }
}

fn failed(error: PlanError) -> Failed {
    let failed = Failed::usage(error.to_string());
    match error {
        PlanError::NotCounted(..) => {
            failed.help("leave --accountant out: the tightest one that can count it is taken")
        }
        PlanError::Pld(_) => failed,
    }
}

pub(crate) fn main(command: &Command, out: &Out) -> Ended {
    match command {
        Command::Epsilon { mechanism, noise_multiplier, plan, accountant } => {
            let noise = match mechanism {
                Law::Gaussian => Noise::Gaussian(*noise_multiplier),
                Law::Laplace => Noise::Laplace(*noise_multiplier),
            };
            let mechanism = Mechanism { noise, rate: plan.sampling_rate };
            let accountant = match accountant {
                None => Accountant::tightest(&mechanism),
                Some(Which::Pld) => Accountant::Pld,
                Some(Which::Rdp) => Accountant::Rdp,
                Some(Which::Zcdp) => Accountant::Zcdp,
                Some(Which::Exact) => Accountant::Exact,
            };
            let adjacency = plan.adjacency.into();
            let epsilon = plan::epsilon(mechanism, plan.rounds, adjacency, plan.delta, accountant)
                .map_err(failed)?;
            if !epsilon.is_finite() {
                return Err(Failed::usage("there is so little noise that nothing is hidden"));
            }
            let document = json!({
                "epsilon": epsilon,
                "delta": plan.delta,
                "accountant": accountant.as_str(),
                "adjacency": adjacency,
            });
            out.result(&document, || words(epsilon, plan, accountant));
        }
        Command::Calibrate { epsilon, plan } => {
            let adjacency = plan.adjacency.into();
            let (z, reached, accountant) =
                plan::calibrate(plan.sampling_rate, plan.rounds, adjacency, *epsilon, plan.delta)
                    .map_err(failed)?;
            let document = json!({
                "noise_multiplier": z,
                "epsilon": reached,
                "delta": plan.delta,
                "accountant": accountant.as_str(),
                "adjacency": adjacency,
            });
            let shown = (z * 1e4).ceil() / 1e4;
            out.result(&document, || {
                format!("noise multiplier {shown:.4}\n{}", words(reached, plan, accountant))
            });
        }
    }
    Ok(0)
}

fn words(epsilon: f64, plan: &Plan, accountant: Accountant) -> String {
    let sampled = match plan.sampling_rate {
        1.0 => String::new(),
        rate => format!(", each of a sample of {rate}"),
    };
    format!(
        "ε = {} at δ = {:e} ({}, {}), {} rounds{sampled}",
        rounded_up(epsilon),
        plan.delta,
        Adjacency::from(plan.adjacency).as_str(),
        accountant.as_str(),
        plan.rounds,
    )
}
