//! `privet server` and `privet site`: what `privet run` starts.

use std::path::PathBuf;

use privet::core::Refusal;
use privet::server::Progress;
use privet::site::{Ended as SiteEnded, Event, SiteError};
use privet::{Program, RunError};
use serde_json::json;

use super::Ended;
use crate::cmd::run::failed;
use crate::out::{Failed, Out, refusal};
use crate::stop::on_interrupt;

/// Run the server of a kit.
///
/// It goes on from the kit's checkpoint, where there is one.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  privet server --kit workspace/hospitals/server
  privet server --kit /srv/privet --json")]
pub(crate) struct ServerArgs {
    /// The kit's folder.
    #[arg(long)]
    kit: PathBuf,
}

/// Run the site of a kit.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  privet site --kit workspace/hospitals/sites/north
  privet site --kit /srv/privet --json")]
pub(crate) struct SiteArgs {
    /// The kit's folder.
    #[arg(long)]
    kit: PathBuf,
}

pub(crate) fn server(args: &ServerArgs, out: &Out) -> Ended {
    let cancel = on_interrupt();
    let words = Out::new(out.is_json(), false);
    let outcome = privet::serve_kit(Program::new(), &args.kit, &cancel, move |event| match event {
        Progress::Started { ready, refusals } => {
            words.note(&format!("started with {}", ready.join(", ")));
            refusals.iter().for_each(|known| words.note(&refusal(known)));
        }
        Progress::Round(record) => words.note(&format!(
            "round {}: {} answered, {} refused, {} dropped",
            record.round,
            record.answered.len(),
            record.refusals.len(),
            record.dropped.len()
        )),
        Progress::Carried(_) => {}
    })
    .map_err(failed)?;
    let code = outcome.exit_code;
    out.result(&outcome, || match &outcome.error {
        None => format!("{} after {} rounds", outcome.status.as_str(), outcome.rounds.len()),
        Some(error) => format!("{}: {}", outcome.status.as_str(), error.message),
    });
    Ok(code)
}

pub(crate) fn site(args: &SiteArgs, out: &Out) -> Ended {
    let cancel = on_interrupt();
    let ended = privet::site_kit(Program::new(), &args.kit, &cancel, |event| match event {
        Event::Joined(rule) => out.note(&format!("joined; rule `{rule}` allows the job")),
        Event::Answered(round) => out.note(&format!("round {round}: answered")),
        Event::Refused(known) => out.note(&refusal(known)),
        Event::Retrying(why) => out.note(&format!("trying again: {why}")),
    });
    let ended = ended.map_err(|error| match error {
        SiteError::Policy(findings) => Failed::findings(findings),
        SiteError::Failed(reason) => reason.into(),
        error => failed(RunError::Site(args.kit.display().to_string(), error)),
    })?;
    let (word, code, refusal): (_, _, Option<Refusal>) = match ended {
        SiteEnded::Finished => ("finished", 0, None),
        SiteEnded::Cancelled => ("interrupted", 130, None),
        SiteEnded::Refused(refusal) => ("refused", refusal.code.exit_code(), Some(refusal)),
    };
    out.result(&json!({ "status": word, "refusal": refusal }), || word.to_owned());
    Ok(code)
}
