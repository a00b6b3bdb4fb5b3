//! `privet audit`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Ended;
use crate::out::{Failed, Out};

/// Audit logs.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Check that every line follows from the one before it.
    #[command(after_help = "Examples:
  privet audit verify workspace/hospitals/sites/north/audit.jsonl
  privet audit verify audit.jsonl --json")]
    Verify {
        /// The log.
        file: PathBuf,
        /// The hash that the last line must have: without it a cut tail goes unseen.
        #[arg(long)]
        head: Option<String>,
    },
    /// Show the last lines.
    #[command(after_help = "Examples:
  privet audit tail workspace/hospitals/sites/north/audit.jsonl
  privet audit tail audit.jsonl --lines 3 --json")]
    Tail {
        /// The log.
        file: PathBuf,
        /// How many.
        #[arg(long, default_value_t = 10)]
        lines: usize,
    },
}

pub(crate) fn main(command: &Command, out: &Out) -> Ended {
    match command {
        Command::Verify { file, head } => {
            let verification = privet::gate::verify(file, head.as_deref())
                .map_err(|error| unreadable(file, &error))?;
            out.result(&verification, || {
                let mut text = match (verification.ok, verification.first_bad) {
                    (true, _) => format!("intact: {} lines\n", verification.entries),
                    (false, Some(line)) => {
                        format!("✗ broken: line {line} does not follow from the one before it\n")
                    }
                    (false, None) => "✗ broken: the end is another one\n".to_owned(),
                };
                text.push_str(&format!("head    {}\n", verification.head));
                for warning in &verification.warnings {
                    text.push_str(&format!("note    {warning}\n"));
                }
                text
            });
            Ok(u8::from(!verification.ok))
        }
        Command::Tail { file, lines } => {
            let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, &error))?;
            let entries: Vec<Value> =
                text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let last = &entries[entries.len().saturating_sub(*lines)..];
            out.result(&last, || last.iter().map(words).collect());
            Ok(0)
        }
    }
}

fn unreadable(file: &Path, error: &std::io::Error) -> Failed {
    Failed::new(2, "unreadable", format!("{}: {error}", file.display()))
}

fn words(entry: &Value) -> String {
    let text = |key: &str| entry[key].as_str().unwrap_or("–").to_owned();
    let round = entry["round"].as_u64().map_or("–".to_owned(), |round| round.to_string());
    let left: Vec<&str> = entry["left"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tensor| tensor["name"].as_str())
        .collect();
    let what = match entry["refusal"]["code"].as_str() {
        Some(code) => format!("✗ {code}: {}", entry["refusal"]["detail"].as_str().unwrap_or("")),
        None => format!("{} · {} bytes", left.join(", "), entry["bytes"]),
    };
    format!(
        "{} {:8} {} round {round} rule {}  {what}\n",
        text("time"),
        text("event"),
        text("job"),
        text("rule")
    )
}
