//! `privet init`.

use std::path::PathBuf;

use privet::{TEMPLATES, TemplateError};
use serde_json::json;

use super::Ended;
use crate::out::{Failed, Out};

/// Write an example into a new folder.
///
/// Templates and their data are inside the binary; the seed picks how records are split.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  privet init hospitals
  privet init digits demo --seed 7")]
pub(crate) struct Args {
    /// hospitals, digits, or psi
    template: String,
    /// The folder; the template's name when absent.
    folder: Option<PathBuf>,
    /// Picks the split of the records.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) fn main(args: &Args, out: &Out) -> Ended {
    let folder = args.folder.clone().unwrap_or_else(|| PathBuf::from(&args.template));
    privet::init(&args.template, &folder, args.seed).map_err(|error| {
        let names: Vec<&str> = TEMPLATES.iter().map(|template| template.name).collect();
        match &error {
            TemplateError::Unknown(name) => {
                Failed::usage(error.to_string()).help(privet::gate::did_you_mean(
                    name,
                    names.iter().copied(),
                    &format!("there are {}", names.join(", ")),
                ))
            }
            TemplateError::Exists(_) => {
                Failed::usage(error.to_string()).help("name another folder")
            }
            TemplateError::Io(_) => Failed::new(1, "io", error.to_string()),
        }
    })?;
    let shown = folder.display();
    let document =
        json!({ "template": args.template, "folder": shown.to_string(), "seed": args.seed });
    out.result(&document, || format!("wrote {shown}\nnext       privet run {shown}/job.toml"));
    Ok(0)
}
