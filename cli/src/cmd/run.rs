//! `privet run`: a table while it runs, a few lines when it is done.

use std::collections::BTreeMap;
use std::path::PathBuf;

use privet::core::ledger::rounded_up;
use privet::server::{Progress, RoundRecord, Status};
use privet::site::SiteError;
use privet::{Program, RunError, RunEvent, RunOptions, RunResult, human_bytes};

use super::Ended;
use crate::out::{BOLD, DIM, Failed, Out, RED, refusal};
use crate::stop::on_interrupt;

/// Run a job over its simulated sites.
///
/// Starts the real server and the real sites on loopback, with throw-away certificates. A used
/// workspace is moved aside, and ledgers start fresh; with --resume both go on.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  privet run examples/hospitals/job.toml
  privet run examples/hospitals/job.toml --rounds 5 --json")]
pub(crate) struct Args {
    /// The job.
    job: PathBuf,
    /// Where to keep everything; ./workspace/<job name> when absent.
    #[arg(long)]
    workspace: Option<PathBuf>,
    /// Go on in a used workspace: its model, its ledgers.
    #[arg(long)]
    resume: bool,
    /// Another number of rounds than the job's.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=i64::from(privet::gate::MAX_ROUNDS)))]
    rounds: Option<u32>,
    /// Run server and sites as processes of their own.
    #[arg(long)]
    processes: bool,
    /// Leave out the job's curve of privacy against accuracy; as --rounds and --resume do.
    #[arg(long)]
    no_curve: bool,
}

pub(crate) fn failed(error: RunError) -> Failed {
    let code = error.exit_code();
    match error {
        RunError::Invalid(findings) | RunError::Site(_, SiteError::Policy(findings)) => {
            Failed::findings(findings)
        }
        RunError::Refused(reason) => reason.into(),
        error => Failed::new(code, "failed", error.to_string()),
    }
}

pub(crate) fn main(args: &Args, out: &Out) -> Ended {
    let processes = match args.processes {
        true => Some(std::env::current_exe()?),
        false => None,
    };
    let options = RunOptions {
        job: args.job.clone(),
        workspace: args.workspace.clone(),
        resume: args.resume,
        rounds: args.rounds,
        processes,
        threads: None,
        curve: !args.no_curve && !args.resume && args.rounds.is_none(),
        command: command_line(),
    };
    let cancel = on_interrupt();
    let mut table =
        Table { out, workflow: "", planned: 0, sites: 0, budgets: BTreeMap::new(), points: 0 };
    out.fleeting(&format!("{DIM}reading {}…{DIM:#}", args.job.display()));
    let result = privet::run(Program::new(), &options, &cancel, |event| table.show(event));
    let result = result.map_err(failed)?;
    out.result(&result, || words(&result, args.job.display().to_string()));
    Ok(result.exit_code)
}

/// The command as it was typed, with the binary's name for its path.
fn command_line() -> String {
    let mut words = vec!["privet".to_owned()];
    words.extend(std::env::args().skip(1));
    words.join(" ")
}

struct Table<'a> {
    out: &'a Out,
    workflow: &'static str,
    planned: u32,
    sites: usize,
    budgets: BTreeMap<String, f64>,
    points: usize,
}

impl Table<'_> {
    fn show(&mut self, event: &RunEvent) {
        match event {
            RunEvent::Preparing { job, workflow, rounds, sites, workspace, moved, budgets } => {
                self.workflow = workflow;
                self.planned = *rounds;
                self.sites = *sites;
                self.budgets.clone_from(budgets);
                let what = match *workflow {
                    "fedavg" => format!("FedAvg · {rounds} rounds"),
                    other => other.to_owned(),
                };
                let title = format!("{job} · {what} · {sites} sites");
                self.out.note(&format!("{BOLD}{title}{BOLD:#}"));
                self.out.note(&format!("workspace {}", workspace.display()));
                if let Some(moved) = moved {
                    let aside = moved.display();
                    self.out
                        .note(&format!("the old workspace is now {aside}; ledgers start fresh"));
                }
                self.out.fleeting(&format!("{DIM}starting server and sites…{DIM:#}"));
            }
            RunEvent::Server(Progress::Started { ready, refusals }) => {
                let (ready, sites) = (ready.len(), self.sites);
                self.out.note(&format!("policies  {ready} of {sites} sites allow this job"));
                refusals.iter().for_each(|known| self.out.note(&refusal(known)));
                if self.workflow == "psi" {
                    self.out.fleeting(&format!("{DIM}intersecting…{DIM:#}"));
                    return;
                }
                self.out.note(&format!(
                    "\n{DIM}{:>7}  {:>6}  {:>6}  {:>8}  {:<26} {:>8} {:>8}{DIM:#}",
                    "round", "sites", "loss", "accuracy", "ε used (worst site)", "sent", "time"
                ));
            }
            RunEvent::Server(Progress::Round(record)) => self.row(record),
            RunEvent::Server(Progress::Carried(bytes)) => {
                self.out.fleeting(&format!("{DIM}{} between sites…{DIM:#}", human_bytes(*bytes)));
            }
            RunEvent::Bought(bought) => {
                if self.points == 0 {
                    self.out.note(&format!(
                        "\n{DIM}{:>7}  {:>6}  {:>6}  {:>8}  other budgets, each a run of its own{DIM:#}",
                        "ε", "unit", "rounds", "accuracy"
                    ));
                }
                self.points += 1;
                self.out.note(&format!(
                    "{:>7}  {:>6}  {:>6}  {:>8}",
                    bought.epsilon,
                    bought.unit.as_str(),
                    bought.rounds,
                    bought.accuracy.map_or("–".to_owned(), |x| format!("{x:.3}")),
                ));
                self.out.fleeting(&format!("{DIM}{:>7}  …{DIM:#}", ""));
            }
            RunEvent::CurveEnded(why) => {
                self.out.note(&format!("{RED}✗{RED:#} the curve ends here: {why}"));
            }
            RunEvent::SiteFailed { site, why } => {
                self.out.note(&format!("{RED}✗{RED:#} {site} could not take part: {why}"));
            }
        }
    }

    fn row(&self, record: &RoundRecord) {
        if self.workflow == "psi" {
            return;
        }
        let number = |x: Option<f64>| x.map_or("–".to_owned(), |x| format!("{x:.3}"));
        let asked = record.answered.len() + record.refusals.len() + record.dropped.len();
        self.out.note(&format!(
            "{:>7}  {:>6}  {:>6}  {:>8}  {:<26} {:>8} {:>8}",
            format!("{}/{}", record.round, self.planned),
            format!("{}/{asked}", record.answered.len()),
            number(record.metrics.loss),
            number(record.metrics.accuracy),
            self.worst(record),
            human_bytes(record.bytes_up),
            seconds(record.wall_s),
        ));
        for known in &record.refusals {
            let why = match known.detail.as_str() {
                "" => String::new(),
                detail => format!(": {detail}"),
            };
            let (site, code) = (&known.site, &known.code);
            self.out.note(&format!("         {RED}✗{RED:#} {site} refused: {code}{why}"));
        }
        for site in &record.dropped {
            self.out.note(&format!("         {RED}✗{RED:#} {site} gave no answer in time"));
        }
        if record.round < self.planned {
            let next = format!("{}/{}", record.round + 1, self.planned);
            self.out.fleeting(&format!("{DIM}{next:>7}  …{DIM:#}"));
        }
    }

    /// The site that has used the largest share of its budget, as a bar and numbers.
    fn worst(&self, record: &RoundRecord) -> String {
        let shares = record.epsilon_spent.iter().filter_map(|(site, &spent)| {
            let budget = *self.budgets.get(site)?;
            Some((spent / budget, spent, budget))
        });
        let Some((share, spent, budget)) = shares.max_by(|a, b| a.0.total_cmp(&b.0)) else {
            return "nothing charged".to_owned();
        };
        let full = ((share * 10.0).floor() as usize).min(10);
        format!("{}{} {} of {budget}", "▓".repeat(full), "░".repeat(10 - full), rounded_up(spent))
    }
}

pub(crate) fn seconds(s: f64) -> String {
    match s {
        s if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 60.0 => format!("{s:.1} s"),
        s => format!("{:.0} min", s / 60.0),
    }
}

fn words(result: &RunResult, job: String) -> String {
    let mut text = String::new();
    let mut line = |heading: &str, body: &str| {
        text.push_str(&format!("{heading:<16} {body}\n"));
    };
    let accuracy =
        result.last.accuracy.map(|a| format!(" · accuracy {a:.3} on the server's public records"));
    let took = seconds(result.wall_s);
    match result.status {
        Status::Done => line("\ndone", &format!("in {took}{}", accuracy.unwrap_or_default())),
        status => line(
            &format!("\n{}", status.as_str()),
            &format!("after {} of {} rounds, {took}", result.rounds_done, result.rounds_planned),
        ),
    }
    if let Some(found) = &result.psi {
        for site in &found.sites {
            let common = match site.intersection {
                Some(size) => format!("{size} of {} items in common", site.items),
                None => format!("{} items; what is common was not told", site.items),
            };
            line(&site.name, &common);
        }
    }
    for known in &result.statistics {
        let number =
            |x: f64| format!("{:.4}", x).trim_end_matches('0').trim_end_matches('.').to_owned();
        let mut body = format!("count {:.0} ± {:.1}", known.count, known.count_error);
        if let Some(mean) = known.mean {
            let error = known.mean_error.map_or(String::new(), |x| format!(" ± {}", number(x)));
            body.push_str(&format!(" · mean {}{error}", number(mean)));
        }
        if let Some(variance) = known.variance {
            body.push_str(&format!(" · sd {}", number(variance.sqrt())));
        }
        if let Some([_, median, _]) = known.quartiles {
            body.push_str(&format!(" · median {}", number(median)));
        }
        line(&known.column, &body);
    }
    if let Some(error) = &result.error {
        let help = error.help.clone().unwrap_or_default();
        line("why", &format!("{RED}✗ {}{RED:#}: {}", error.code, error.message));
        error.refusals.iter().for_each(|known| line("", refusal(known).trim_start()));
        if error.refusals.is_empty() {
            line("what to do", &help);
        }
        if result.status == Status::Interrupted {
            line(
                "kept",
                &format!("model, ledgers and rounds; go on with: privet run {job} --resume"),
            );
        }
    }
    line("left the sites", &left(result));
    if let Some((site, spent, budget, delta)) = worst(result) {
        line(
            "budget",
            &format!("{site} has used most: ε {} of {budget} (δ {delta:e})", rounded_up(spent)),
        );
    }
    let danger = |sentence: &String| line("danger", &format!("{RED}✗ {sentence}{RED:#}"));
    result.dangers.iter().for_each(danger);
    result.unaccounted.iter().for_each(|sentence| line("unaccounted", sentence));
    let open = match result.workflow {
        "psi" => "a site may enter rows that it does not have, and so ask for them",
        _ => "anything computed outside this job; the model's own mistakes",
    };
    line("not protected", open);
    line("report", &result.artifacts.report);
    text
}

fn left(result: &RunResult) -> String {
    if result.workflow == "psi" {
        let up: u64 = result.sites.iter().map(|site| site.bytes_up).sum();
        return format!("{}, sealed for each other", human_bytes(up));
    }
    let updates: u32 = result.sites.iter().map(|site| site.rounds_answered).sum();
    let up: u64 = result.sites.iter().map(|site| site.bytes_up).sum();
    let noise = match result.receipts.noise_multiplier_min {
        Some(z) => format!("noise σ ≥ {z} × clip on each"),
        None if updates == 0 => "nothing else".to_owned(),
        None => "not all with noise".to_owned(),
    };
    format!("{updates} updates, {}, {noise}", human_bytes(up))
}

fn worst(result: &RunResult) -> Option<(&str, f64, f64, f64)> {
    let datasets = result.sites.iter().flat_map(|site| {
        site.datasets
            .iter()
            .map(|d| (site.name.as_str(), d.epsilon_spent, d.epsilon_budget, d.delta))
    });
    datasets
        .filter(|(_, spent, _, _)| *spent > 0.0)
        .max_by(|a, b| (a.1 / a.2).total_cmp(&(b.1 / b.2)))
}
