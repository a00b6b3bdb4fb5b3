//! `privet policy`.

use std::path::PathBuf;

use privet::gate::Severity;
use privet::{DryRun, Explain, InspectError, Program};
use serde_json::json;

use super::Ended;
use crate::out::{Failed, Out, RED, refusal};

/// What a site allows.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check a policy, and hold it against a job.
    #[command(after_help = "Examples:
  privet policy check examples/hospitals/sites/north.toml
  privet policy check examples/hospitals/sites/north.toml --job examples/hospitals/job.toml")]
    Check {
        /// The policy.
        policy: PathBuf,
        /// The job.
        #[arg(long)]
        job: Option<PathBuf>,
    },
    /// Say in words what a policy makes of a job.
    #[command(after_help = "Examples:
  privet policy explain examples/hospitals/sites/north.toml --job examples/hospitals/job.toml
  privet policy explain examples/hospitals/sites/north.toml --job examples/hospitals/job.toml --rounds 24")]
    Explain {
        /// The policy.
        policy: PathBuf,
        /// The job.
        #[arg(long)]
        job: PathBuf,
        /// Another number of rounds than the job's.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(privet::gate::MAX_ROUNDS)))]
        rounds: Option<u32>,
        /// The site's folder, whose ledger knows what is spent.
        #[arg(long)]
        site_dir: Option<PathBuf>,
    },
    /// Send one update through the gate and see what would leave. Spends nothing, sends nothing.
    #[command(after_help = "Examples:
  privet policy dry-run examples/hospitals/sites/north.toml --job examples/hospitals/job.toml
  privet policy dry-run examples/hospitals/sites/north.toml --job examples/hospitals/job.toml --json")]
    DryRun {
        /// The policy.
        policy: PathBuf,
        /// The job.
        #[arg(long)]
        job: PathBuf,
        /// The task; a job of this version has one.
        #[arg(long, default_value = "train")]
        task: String,
        /// Tensors to send, as safetensors; without it, one real local round.
        #[arg(long)]
        update: Option<PathBuf>,
    },
    /// Print the JSON Schema of `site.toml`.
    #[command(after_help = "Examples:
  privet policy schema
  privet policy schema --json")]
    Schema,
}

fn failed(error: InspectError) -> Failed {
    match error {
        InspectError::Invalid(findings) => Failed::findings(findings),
        InspectError::Refused(reason) => reason.into(),
    }
}

pub(crate) fn main(command: &Command, out: &Out) -> Ended {
    match command {
        Command::Check { policy, job } => {
            let check = privet::check(&Program::new(), policy, job.as_deref());
            out.findings(&check.findings);
            out.result(&check, || {
                let errors =
                    check.findings.iter().filter(|f| f.severity == Severity::Error).count();
                match check.ok {
                    true if check.rules.is_empty() => format!("{}: fine", policy.display()),
                    true => format!("{}: fine, rules {}", policy.display(), check.rules.join(", ")),
                    false => format!("✗ {}: {errors} found", policy.display()),
                }
            });
            Ok(check.exit_code)
        }
        Command::Explain { policy, job, rounds, site_dir } => {
            let what = Explain { policy, job, rounds: *rounds, site_dir: site_dir.as_deref() };
            let letter = privet::explain_job(&Program::new(), what).map_err(failed)?;
            let mut document = json!(letter);
            document["text"] = json!(letter.text(80));
            let width = terminal_width();
            out.result(&document, || painted(&letter.text(width)));
            Ok(letter.exit_code())
        }
        Command::DryRun { policy, job, task, update } => {
            if task != "train" {
                let help = "a fedavg job asks: train";
                return Err(Failed::usage(format!("the job has no task `{task}`")).help(help));
            }
            let read = |path: &PathBuf| privet::server::read_model(path);
            let update = update
                .as_ref()
                .map(read)
                .transpose()
                .map_err(|reason| Failed::new(2, "unreadable", reason.detail))?;
            let run = privet::dry_run(Program::new(), policy, job, update).map_err(failed)?;
            out.result(&run, || words(&run));
            Ok(run.refusals.first().map_or(0, |refusal| refusal.code.exit_code()))
        }
        Command::Schema => {
            let schema = privet::gate::schema(Program::new().registry());
            out.result(&schema, || serde_json::to_string_pretty(&schema).unwrap_or_default());
            Ok(0)
        }
    }
}

/// A letter with its warnings in red.
fn painted(letter: &str) -> String {
    let mut alarm = false;
    let mut paint = |line: &str| {
        // A paragraph starts with its heading and goes on indented.
        alarm = if line.starts_with(' ') { alarm } else { line.starts_with("Warning") };
        if alarm { format!("{RED}{line}{RED:#}") } else { line.to_owned() }
    };
    letter.lines().map(&mut paint).collect::<Vec<_>>().join("\n")
}

fn words(run: &DryRun) -> String {
    let (Some(before), Some(after)) = (run.before, run.after) else {
        let refusals: Vec<String> = run.refusals.iter().map(refusal).collect();
        return format!("REFUSED: nothing would leave\n{}", refusals.join("\n"));
    };
    let number = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.3}"));
    format!(
        "ALLOWED\nbefore   norm {:.4}, {} numbers\nafter    norm {:.4}, signal to noise {} dB, cosine {}\n\
         cost     ε {} for this round\nThe numbers before the gate are about the data: keep this to yourself.",
        before.l2,
        before.params,
        after.l2,
        number(after.snr_db),
        number(after.cosine),
        run.epsilon.map_or("–".to_owned(), privet::core::ledger::rounded_up),
    )
}

/// Columns of the terminal, from 60 to 100; 80 when there is none.
fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    columns.unwrap_or(80).clamp(60, 100)
}
