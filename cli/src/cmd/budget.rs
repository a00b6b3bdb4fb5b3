//! `privet budget`.

use std::path::{Path, PathBuf};

use privet::core::ledger::{Statement, rounded_up};
use serde_json::{Value, json};

use super::Ended;
use crate::out::{Failed, Out};

/// Privacy budgets of a site.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Show what is spent, reserved and left, and what for.
    #[command(after_help = "Examples:
  privet budget show --site-dir workspace/hospitals/sites/north
  privet budget show --site-dir workspace/hospitals/sites/east --json")]
    Show {
        /// The site's folder.
        #[arg(long)]
        site_dir: PathBuf,
    },
    /// Start a data set's account anew: one person asks, another confirms within a day.
    ///
    /// The ledger forgets what was spent; whoever saw the releases does not. Both steps are lines of
    /// the audit log.
    #[command(after_help = "Examples:
  privet budget reset --site-dir workspace/hospitals/sites/north --dataset breast --by ann
  privet budget reset --site-dir workspace/hospitals/sites/north --dataset breast --by bob --json")]
    Reset {
        /// The site's folder.
        #[arg(long)]
        site_dir: PathBuf,
        /// The data set.
        #[arg(long)]
        dataset: String,
        /// Who asks, or confirms.
        #[arg(long)]
        by: String,
        /// The code that the other person was given.
        #[arg(long)]
        code: Option<String>,
    },
}

fn document(statement: &Statement) -> Value {
    let entries: Vec<Value> = statement
        .entries
        .iter()
        .map(|entry| {
            let events: Vec<String> = entry.events.iter().map(ToString::to_string).collect();
            json!({
                "at": entry.at,
                "job": entry.purpose.job,
                "run": entry.purpose.run,
                "round": entry.purpose.round,
                "submitter": entry.purpose.submitter,
                "event": events.join(", "),
                "state": entry.state,
            })
        })
        .collect();
    json!({
        "id": statement.account.dataset,
        "unit": statement.account.unit,
        "adjacency": statement.account.adjacency,
        "delta": statement.account.budget.delta,
        "currency": statement.account.currency,
        "epsilon_budget": statement.account.budget.epsilon,
        "epsilon_spent": statement.spent,
        "epsilon_reserved": statement.reserved,
        "epsilon_left": statement.left,
        "window": statement.account.budget.window.to_string(),
        "per_submitter": statement.account.budget.per_submitter,
        "entries": entries,
    })
}

pub(crate) fn main(command: &Command, out: &Out) -> Ended {
    let site_dir = match command {
        Command::Show { site_dir } => site_dir,
        Command::Reset { site_dir, dataset, by, code } => {
            return reset(site_dir, dataset, by, code.as_deref(), out);
        }
    };
    if !site_dir.join("ledger").exists() {
        let message = format!("{} holds no ledger", site_dir.display());
        return Err(Failed::new(2, "unreadable", message)
            .help("name a site's folder: WORKSPACE/sites/NAME, or its kit"));
    }
    let statements = privet::budget(site_dir)?;
    let name = site_dir.file_name().unwrap_or_default().to_string_lossy();
    let datasets: Vec<Value> = statements.iter().map(document).collect();
    out.result(&json!({ "site": name, "datasets": datasets }), || {
        statements.iter().map(words).collect()
    });
    Ok(0)
}

fn reset(site_dir: &Path, dataset: &str, by: &str, code: Option<&str>, out: &Out) -> Ended {
    let given = privet::reset_budget(site_dir, dataset, by, code)?;
    let document = json!({ "dataset": dataset, "by": by, "reset": given.is_none(), "code": given });
    out.result(&document, || match &given {
        Some(code) => format!(
            "asked          {by} asks for the account of `{dataset}` to start anew\n\
             next           another person, within a day: --by NAME --code {code}\n\
             what it means  the ledger will forget what was spent; whoever saw the releases will not"
        ),
        None => format!(
            "reset          `{dataset}` starts anew; what was spent so far counts no more\n\
             what it means  whoever saw the releases still has them: the loss of both together is up to\n               \
             the sum of both budgets"
        ),
    });
    Ok(0)
}

fn words(statement: &Statement) -> String {
    let account = &statement.account;
    let mut text = format!(
        "{}   ε {} of {} spent · {} reserved · {:.3} left   ({}, δ {:e}, {}, {}, counted in {})\n",
        account.dataset,
        rounded_up(statement.spent),
        account.budget.epsilon,
        rounded_up(statement.reserved),
        (statement.left * 1000.0).floor() / 1000.0,
        account.unit.as_str(),
        account.budget.delta,
        account.adjacency.as_str(),
        account.budget.window,
        account.currency.as_str(),
    );
    for entry in &statement.entries {
        let events: Vec<String> = entry.events.iter().map(ToString::to_string).collect();
        let state = format!("{:?}", entry.state).to_lowercase();
        text.push_str(&format!(
            "  {}  {}  round {:<4} {:9}  {}\n",
            entry.at,
            entry.purpose.job,
            entry.purpose.round,
            state,
            events.join(", ")
        ));
    }
    text
}
