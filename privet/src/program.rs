//! What a program is made of: its filters, and what computes.

use std::sync::Arc;

use privet_core::clock::{Clock, SystemClock};
use privet_core::ledger::Ledger;
use privet_core::registry::DuplicateFilter;
use privet_core::sensitivity::Prover;
use privet_core::{FilterSpec, Reason, Registry};
use privet_dp::SiteLedger;
use privet_gate::Workload;
use privet_site::Parts;
use privet_store::Store;

use crate::workload::Builtin;

/// Filters and a workload.
pub struct Program {
    registry: Registry,
    workload: Arc<dyn Workload>,
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
        Self { registry, workload: Arc::new(Builtin::new(prover)) }
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
            clock: Arc::new(SystemClock),
        }
    }

    pub(crate) fn computes(&self) -> &dyn Workload {
        &*self.workload
    }
}

pub(crate) fn open_ledger(store: Store, clock: Arc<dyn Clock>) -> Result<Arc<dyn Ledger>, Reason> {
    Ok(Arc::new(SiteLedger::open(store, clock)?))
}
