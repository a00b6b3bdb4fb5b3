//! Verbs of later versions.

use privet::core::{Code, Reason};

use super::Ended;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Anything.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _rest: Vec<String>,
}

pub(crate) fn main(verb: &str) -> Ended {
    let detail = format!("`privet {verb}` is not built in this version");
    Err(Reason::new(Code::NotBuilt, detail).into())
}
