//! The `privet` command: what is typed, what is printed, and which code it exits with.

mod cmd;
mod out;
mod stop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use out::{Failed, Out};

/// Privacy filters between a site's data and a federation.
#[derive(Parser)]
#[command(name = "privet", version, after_help = FOUR)]
struct Cli {
    /// Print one JSON document on standard output, and words for people on standard error.
    #[arg(long, global = true)]
    json: bool,
    /// Print results and errors only.
    #[arg(long, short, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

const FOUR: &str = "Start here:
  run an example       privet init hospitals demo && privet run demo/job.toml
  check a policy       privet policy explain demo/sites/north.toml --job demo/job.toml
  intersect two files  privet psi local --sites a.csv b.csv --column email
  benchmark            privet bench fed --params 1000000 --sites 10 --rounds 5";

#[derive(Subcommand)]
enum Command {
    Run(cmd::run::Args),
    Init(cmd::init::Args),
    Server(cmd::kit::ServerArgs),
    Site(cmd::kit::SiteArgs),
    #[command(subcommand)]
    Filters(cmd::filters::Command),
    #[command(subcommand)]
    Policy(cmd::policy::Command),
    #[command(subcommand)]
    Budget(cmd::budget::Command),
    #[command(subcommand)]
    Audit(cmd::audit::Command),
    #[command(subcommand)]
    Bench(cmd::bench::Command),
    #[command(subcommand)]
    Dp(cmd::dp::Command),
    #[command(subcommand)]
    Psi(cmd::psi::Command),
    #[command(subcommand)]
    Attest(cmd::attest::Command),
}

fn main() -> ExitCode {
    let json = std::env::args().any(|argument| argument == "--json");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && json => {
            let failed = Failed::usage(error.render().to_string());
            return Out::new(true, false).failed(&failed);
        }
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let out = Out::new(cli.json, cli.quiet);
    let Some(command) = cli.command else {
        out.say(FOUR);
        return ExitCode::SUCCESS;
    };
    let ended = match command {
        Command::Run(args) => cmd::run::main(&args, &out),
        Command::Init(args) => cmd::init::main(&args, &out),
        Command::Server(args) => cmd::kit::server(&args, &out),
        Command::Site(args) => cmd::kit::site(&args, &out),
        Command::Filters(command) => cmd::filters::main(&command, &out),
        Command::Policy(command) => cmd::policy::main(&command, &out),
        Command::Budget(command) => cmd::budget::main(&command, &out),
        Command::Audit(command) => cmd::audit::main(&command, &out),
        Command::Bench(command) => cmd::bench::main(&command, &out),
        Command::Dp(command) => cmd::dp::main(&command, &out),
        Command::Psi(command) => cmd::psi::main(&command, &out),
        Command::Attest(command) => cmd::attest::main(&command, &out),
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(failed) => out.failed(&failed),
    }
}
