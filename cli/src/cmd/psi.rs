//! `privet psi local`: which rows some files have in common.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use privet::core::intersect::{Duplicates, Protocol, Reveal, Wanted};
use privet::server::Progress;
use privet::{LocalOptions, LocalResult, Program, RunEvent, human_bytes};

use super::Ended;
use super::run::{failed, seconds};
use crate::out::{BOLD, DIM, Failed, Out, refusal};
use crate::stop::on_interrupt;

/// Set intersection.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    Local(Local),
}

/// One of the words of an enum.
pub(crate) fn one_of<T: Copy + Send + Sync>(
    all: &'static [T],
    word: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    let words = PossibleValuesParser::new(all.iter().map(|value| word(*value)));
    let meant = move |said: String| all.iter().copied().find(|value| word(*value) == said);
    words.try_map(move |said| meant(said).ok_or("no such word"))
}

/// Intersect local files: each is a site with a gate of its own, on loopback.
///
/// Sites see sizes and what --reveal says, and nothing else of each other's files. Rows without a key match
/// nothing. A job of `workflow = "psi"` does the same between machines.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  privet psi local --sites a.csv b.csv --column email
  privet psi local --sites a.csv b.csv c.csv --column email --normalise trim,lower --reveal all --out out/")]
pub(crate) struct Local {
    /// One file a site, CSV or TSV; the site's name is the file's without extension.
    #[arg(long, num_args = 2.., required = true)]
    sites: Vec<PathBuf>,
    /// The key columns, in order.
    #[arg(long, num_args = 1.., required = true)]
    column: Vec<String>,
    /// What is done to keys: none, or some of trim, nfkc, lower, email, phone, in order.
    #[arg(long, value_delimiter = ',', default_value = "none")]
    normalise: Vec<String>,
    /// What becomes of rows whose key an earlier row has.
    #[arg(long, value_parser = one_of(Duplicates::ALL, Duplicates::as_str), default_value = "dedupe")]
    duplicates: Duplicates,
    /// Who learns what: all sites their rows, the first alone, or all how many there are.
    #[arg(long, value_parser = one_of(Reveal::ALL, Reveal::as_str), default_value = "all")]
    reveal: Reveal,
    /// How it is computed.
    #[arg(long, value_parser = one_of(Protocol::ALL, Protocol::as_str), default_value = "auto")]
    protocol: Protocol,
    /// Look for peers that cheat: two sites, `vole`.
    #[arg(long)]
    malicious: bool,
    /// Code parameters below all known attacks.
    #[arg(long)]
    conservative: bool,
    /// Pad sets to the next power of two, so that sizes tell less.
    #[arg(long)]
    pad: bool,
    /// Also write each site's other rows, as NAME.rest.csv.
    #[arg(long, requires = "out")]
    rest: bool,
    /// The policy of a site, whose [[psi]] then guards its file: NAME=SITE.toml.
    #[arg(long, value_name = "NAME=SITE.toml")]
    policy: Vec<String>,
    /// Where to write each site's matching rows, as NAME.csv.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Run server and sites as processes of their own.
    #[arg(long)]
    processes: bool,
}

pub(crate) fn main(command: &Command, out: &Out) -> Ended {
    let Command::Local(args) = command;
    local(args, out)
}

fn local(args: &Local, out: &Out) -> Ended {
    let mut policies = BTreeMap::new();
    for policy in &args.policy {
        let Some((name, path)) = policy.split_once('=') else {
            return Err(Failed::usage(format!("`--policy {policy}` is not NAME=SITE.toml")));
        };
        policies.insert(name.to_owned(), PathBuf::from(path));
    }
    let mut normalise = args.normalise.clone();
    if normalise == ["none"] {
        normalise.clear();
    }
    let wanted = Wanted {
        columns: args.column.clone(),
        normalise,
        duplicates: args.duplicates,
        reveal: args.reveal,
        protocol: args.protocol,
        malicious: args.malicious,
        conservative: args.conservative,
        pad: args.pad,
        rest: args.rest,
    };
    let options = LocalOptions {
        files: args.sites.clone(),
        wanted,
        policies,
        out: args.out.clone(),
        processes: if args.processes { Some(std::env::current_exe()?) } else { None },
        threads: None,
    };
    let cancel = on_interrupt();
    let program = Program::new();
    let mut bar = Bar { out, began: Instant::now(), expected: 0 };
    if let Some((rows, estimate)) = privet::estimate_files(&program, &options) {
        let all = rows.iter().max().copied().unwrap_or_default();
        out.note(&format!(
            "{} files of up to {all} rows · {}: about {}, {} of processor time",
            args.sites.len(),
            estimate.protocol.as_str(),
            human_bytes(estimate.bytes),
            seconds(estimate.cpu_s),
        ));
        bar.expected = estimate.bytes;
    }
    let result = privet::intersect_files(program, &options, &cancel, |event| bar.show(event));
    let result = result.map_err(failed)?;
    if let Some(reason) = &result.failure {
        result.refusals.iter().for_each(|known| out.note(&refusal(known)));
        let document = serde_json::to_value(&result).ok();
        let failed = Failed::new(result.exit_code, reason.code.as_str(), reason.detail.clone());
        return Err(failed.help(reason.code.help()).partial(document));
    }
    out.result(&result, || words(&result, args.out.as_deref()));
    Ok(result.exit_code)
}

/// How far the sites are, by the bytes that they have sent each other.
struct Bar<'a> {
    out: &'a Out,
    began: Instant,
    expected: u64,
}

impl Bar<'_> {
    fn show(&mut self, event: &RunEvent) {
        if let RunEvent::Server(Progress::Carried(bytes)) = event {
            self.out.fleeting(&format!("{DIM}{}{DIM:#}", self.line(*bytes, self.began.elapsed())));
        }
    }

    fn line(&self, bytes: u64, elapsed: Duration) -> String {
        let share = (bytes as f64 / self.expected.max(1) as f64).min(1.0);
        let full = (share * 20.0) as usize;
        let bar = format!("{}{}", "▓".repeat(full), "░".repeat(20 - full));
        let left = match share {
            share if share > 0.05 => {
                format!("about {} left", seconds(elapsed.as_secs_f64() * (1.0 / share - 1.0)))
            }
            _ => "reading".to_owned(),
        };
        format!("{bar} {} of {} · {left}", human_bytes(bytes), human_bytes(self.expected))
    }
}

fn words(result: &LocalResult, out: Option<&std::path::Path>) -> String {
    let LocalResult { found, bytes, wall_s, cpu_s, .. } = result;
    let mut text = match found.intersection_size {
        Some(size) if found.noise > 0.0 => {
            format!("{BOLD}about {size} items in common{BOLD:#}, ± {:.1}", found.noise)
        }
        Some(size) => format!("{BOLD}{size} items in common{BOLD:#}"),
        None => "done".to_owned(),
    };
    text.push_str(&format!(" · {} · {wall_s:.2} s\n\n", found.protocol.as_str()));
    text.push_str(&format!(
        "{DIM}{:<20} {:>12} {:>12} {:>12}{DIM:#}\n",
        "site", "items", "duplicates", "in common"
    ));
    for site in &found.sites {
        let common = site.intersection.map_or("not told".to_owned(), |size| size.to_string());
        text.push_str(&format!(
            "{:<20} {:>12} {:>12} {common:>12}\n",
            site.name, site.items, site.duplicates
        ));
    }
    let blank: u64 = found.sites.iter().map(|site| site.blank).sum();
    if blank > 0 {
        text.push_str(&format!("\n{blank} rows have no key and match nothing\n"));
    }
    text.push_str(&format!(
        "\nsent           {} between sites, sealed; {cpu_s:.2} s of processor time\n",
        human_bytes(*bytes)
    ));
    text.push_str(match found.noise > 0.0 {
        true => "what it tells  how many items are common, with noise, and the size of each file without\n",
        false => "what it tells  the common items and the size of each file, nothing else\n",
    });
    text.push_str("not protected  a site may enter rows that it has not, and so ask for them\n");
    if let Some(out) = out {
        text.push_str(&format!("rows           {}\n", out.display()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_and_how_long() {
        let out = Out::new(false, true);
        let bar = Bar { out: &out, began: Instant::now(), expected: 1_000_000 };
        let half = bar.line(500_000, Duration::from_secs(3));
        assert_eq!(half, "▓▓▓▓▓▓▓▓▓▓░░░░░░░░░░ 500 kB of 1.0 MB · about 3.0 s left");
        assert!(bar.line(0, Duration::ZERO).ends_with("reading"));
        assert!(bar.line(2_000_000, Duration::from_secs(3)).contains(&"▓".repeat(20)));
    }
}
