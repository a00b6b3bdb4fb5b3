//! Noise on a size that is told: the filters of a section, and what they cost.
//!
//! ```text
//!   the number of common items, of sensitivity 1 ──▶ filters of the section ──▶ what every site is told
//! ```

use privet_core::event::{Event, Mechanism};
use privet_core::filter::{Cancel, Charge, FilterContext};
use privet_core::flow::{BuildContext, Promise};
use privet_core::intersect::{SIZE, SIZE_BOUND, TASK};
use privet_core::message::{DataKind, Protection};
use privet_core::tensor::{Dtype, Schema, Shape, Slot};
use privet_core::{Code, Message, Reason, Registry};

use super::PsiRule;
use crate::chain::{self, Link, Owner};
use crate::policy::Dataset;

/// The filters of a section on one data set.
pub(crate) struct Noise {
    links: Vec<Link>,
    events: Vec<Event>,
    deviation: f64,
}

impl Noise {
    /// Builds the filters of a section; `None` where it has none.
    ///
    /// # Errors
    /// When they would let a size leave unpaid, or the budget cannot count them; with the filter that is to
    /// blame, where it is one.
    pub(crate) fn compile(
        rule: &PsiRule,
        dataset: &Dataset,
        registry: &Registry,
    ) -> Result<Option<Self>, (Option<usize>, Reason)> {
        if rule.out.is_empty() {
            return Ok(None);
        }
        let slot = Shape::new(vec![1]).map(|shape| Slot { shape, dtype: Dtype::I64 });
        let schema = Schema(slot.map(|slot| (SIZE.to_owned(), slot)).into_iter().collect());
        let promise = Promise {
            task: TASK,
            kind: DataKind::Psi,
            schema,
            protection: Protection::Lattice,
            bound: Some(SIZE_BOUND),
            local_steps: 0,
            metrics: Vec::new(),
        };
        let (mut links, mut flow) = (Vec::new(), promise.flow());
        for (at, used) in rule.out.iter().enumerate() {
            let context = BuildContext {
                model: &promise.schema,
                adjacency: dataset.adjacency,
                sharers: None,
                sealed: false,
                prover: None,
            };
            let (link, next) = chain::build(registry, used, &context, Owner::Site, flow)
                .map_err(|reason| (Some(at), reason))?;
            links.push(link);
            flow = next;
        }
        let refuse = |code, detail: String| Err((None, Reason::new(code, detail)));
        if flow.events().is_empty() {
            return refuse(Code::UnpaidRelease, "nothing in `out` adds noise".to_owned());
        }
        if let Some(event) = flow.events().iter().find(|event| !dataset.currency.pays(event)) {
            let currency = dataset.currency.as_str();
            let detail = format!(
                "data set `{}` is counted in {currency}, which cannot count: {event}",
                dataset.id
            );
            return refuse(Code::WrongCurrency, detail);
        }
        if let Some(event) = flow.events().iter().find(|event| event.unit != dataset.unit) {
            let detail = format!(
                "the data set's budget hides a {}, noise on a size hides a {}",
                dataset.unit.as_str(),
                event.unit.as_str()
            );
            return refuse(Code::UnitMismatch, detail);
        }
        // Sites compare how much noise they ask for by one number, and each pays for Laplace noise of its own width:
        // more of that pays for less.
        let deviation = flow.deviation();
        let laplace = match flow.events() {
            [Event { mechanism: mechanism @ Mechanism::Laplace { .. }, .. }] => {
                mechanism.deviation_units() == deviation
            }
            _ => false,
        };
        if !laplace {
            return refuse(Code::WrongStage, "sizes get noise from one `laplace` alone".to_owned());
        }
        Ok(Some(Self { links, events: flow.events().to_vec(), deviation }))
    }

    /// What a told size is charged with.
    pub(crate) fn events(&self) -> &[Event] {
        &self.events
    }

    /// Standard deviation, in items.
    pub(crate) fn deviation(&self) -> f64 {
        self.deviation
    }

    /// What the filters do, in their order.
    pub(crate) fn describe(&self) -> String {
        self.links.iter().map(Link::describe).collect::<Vec<_>>().join(", then ")
    }

    /// The size as it is told.
    pub(super) fn apply(&self, size: Message, charge: &mut dyn Charge) -> Result<Message, Reason> {
        let cancel = Cancel::default();
        let mut context = FilterContext { round: 1, charge, cancel: &cancel };
        chain::run(&self.links, size, &mut context).map_err(|(reason, _)| reason)
    }
}
