//! What a program is made of: its filters, and what computes.

use std::path::Path;
use std::sync::Arc;

use privet_core::clock::{Clock, SystemClock};
use privet_core::intersect::Intersector;
use privet_core::ledger::Ledger;
use privet_core::registry::DuplicateFilter;
use privet_core::seal::{ServerSeal, SiteSeal, Terms};
use privet_core::sensitivity::Prover;
use privet_core::{FilterSpec, Reason, Registry};
use privet_dp::SiteLedger;
use privet_gate::Workload;
use privet_site::{OpenSeal, Parts};
use privet_store::Store;

use crate::workload::Builtin;

/// Filters and a workload.
pub struct Program {
    registry: Registry,
    workload: Arc<dyn Workload>,
    seal: OpenSeal,
    intersector: Arc<dyn Intersector>,
}

impl Default for Program {
    fn default() -> Self {
        Self::new()
    }
}

impl Program {
    /// Every built-in filter and the built-in trainers. The one place that hands out provers.
    pub fn new() -> Self {
        let mut prover: Option<Prover> = None;
        let registry = Registry::with_builtins(|builtins| {
            let specs = privet_filters::specs().into_iter().chain(privet_dp::specs());
            specs.for_each(|spec| builtins.filter(spec));
            prover = Some(builtins.prover());
        });
        let workload = Arc::new(Builtin::new(prover));
        let intersector = Arc::new(privet_psi::Files::new(prover));
        Self { registry, workload, seal: Arc::new(open_site_seal), intersector }
    }

    /// Adds a filter of one's own.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn filter(mut self, spec: FilterSpec) -> Result<Self, DuplicateFilter> {
        self.registry.register(spec)?;
        Ok(self)
    }

    /// Puts another workload in the place of the present one, which it may use.
    #[must_use]
    pub fn workload(self, replace: impl FnOnce(Arc<dyn Workload>) -> Arc<dyn Workload>) -> Self {
        Self { workload: replace(self.workload), ..self }
    }

    /// Puts another site's side of sealing in the place of the present one, which it may use.
    #[must_use]
    pub fn seal(
        self,
        replace: impl Fn(Box<dyn SiteSeal>) -> Box<dyn SiteSeal> + Send + Sync + 'static,
    ) -> Self {
        let present = self.seal;
        let open =
            move |store: Store, identity: &privet_wire::Identity, run: &str, terms: Terms| {
                present(store, identity, run, terms).map(&replace)
            };
        Self { seal: Arc::new(open), ..self }
    }

    /// The built-in filters with this program's workload.
    pub(crate) fn built_in(&self) -> Self {
        Self { workload: self.workload.clone(), ..Self::new() }
    }

    /// The filters.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn parts(self) -> Parts {
        Parts {
            registry: Arc::new(self.registry),
            workload: self.workload,
            ledger: open_ledger,
            seal: self.seal,
            intersector: self.intersector,
            attestation: Arc::new(crate::attestation::open),
            clock: Arc::new(SystemClock),
        }
    }

    pub(crate) fn computes(&self) -> &dyn Workload {
        &*self.workload
    }
}

/// The site's side of the schemes there are.
fn open_site_seal(
    store: Store,
    identity: &privet_wire::Identity,
    run: &str,
    terms: Terms,
) -> Result<Box<dyn SiteSeal>, Reason> {
    let (credential, vouching) = (identity.credential()?, identity.vouching()?);
    let identity = privet_he::site::Identity { credential, signer: identity.signing() };
    let site = privet_he::site::Site::new(run.to_owned(), terms, identity, vouching, store)?;
    Ok(Box::new(site))
}

/// The server's side of it, which keeps the rosters of its jobs in its kit.
pub(crate) fn open_server_seal(
    kit: &Path,
    identity: &privet_wire::Identity,
    run: &str,
) -> Result<Box<dyn ServerSeal>, Reason> {
    let failed = |error: privet_store::StoreError| {
        Reason::new(privet_core::Code::StorageFailed, error.to_string())
    };
    let store = Store::open(&kit.join("seals")).map_err(failed)?;
    let server = privet_he::server::Server::new(run.to_owned(), identity.vouching()?, store);
    Ok(Box::new(server))
}

pub(crate) fn open_ledger(store: Store, clock: Arc<dyn Clock>) -> Result<Arc<dyn Ledger>, Reason> {
    Ok(Arc::new(SiteLedger::open(store, clock)?))
}
