//! What tests of several modules use.

use privet_core::Registry;
use privet_core::sensitivity::Prover;

/// Leave to prove sensitivities.
pub(crate) fn prover() -> Prover {
    let mut prover = None;
    Registry::with_builtins(|builtins| prover = Some(builtins.prover()));
    prover.unwrap()
}
