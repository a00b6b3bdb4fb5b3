//! Which filters exist.
//!
//! A [`FilterSpec`] says everything about a kind of filter in one place; the parser, the
//! suggestions, `privet filters`, `explain` and the reference are read off it. A registry also
//! decides who may prove sensitivities: built-ins get a [`Prover`], filters that were registered
//! by a user's program do not.

use std::collections::BTreeMap;

use crate::filter::Filter;
use crate::flow::BuildContext;
use crate::ledger::Currency;
use crate::params::{ParamSpec, Params};
use crate::refusal::{Code, Reason};
use crate::sensitivity::Prover;

/// Makes a filter of its parameters.
pub type Build = fn(&Params, &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason>;

/// A kind of filter: its page in the reference, and how one is built.
#[derive(Debug, Clone)]
pub struct FilterSpec {
    /// The name in `filter = "…"`.
    pub name: &'static str,
    /// Purpose, in one sentence.
    pub purpose: &'static str,
    /// Its parameters.
    pub params: &'static [ParamSpec],
    /// What it needs of the message before it.
    pub needs: &'static str,
    /// What the message is afterwards.
    pub gives: &'static str,
    /// Formula and its source, where there is one.
    pub formula: &'static str,
    /// Whether it refuses by names, shapes and settings alone, never by numbers. Believed of built-in
    /// filters only.
    pub blind: bool,
    /// The currencies that can count its noise; none where it adds no noise.
    pub counted_in: &'static [Currency],
    /// What it does not protect; each a sentence for `explain`.
    pub not_protected: &'static [&'static str],
    /// Codes it may refuse with.
    pub refusals: &'static [Code],
    /// A line for `site.toml`.
    pub example: &'static str,
    /// How to build one.
    pub build: Build,
}

impl FilterSpec {
    /// A spec for a filter without parameters; the other fields say "nothing" and may be set.
    pub const fn new(name: &'static str, purpose: &'static str, build: Build) -> Self {
        Self {
            name,
            purpose,
            params: &[],
            needs: "tensors",
            gives: "tensors",
            formula: "",
            blind: false,
            counted_in: &[],
            not_protected: &[],
            refusals: &[],
            example: "",
            build,
        }
    }
}

struct Entry {
    spec: FilterSpec,
    builtin: bool,
}

/// The filters of a program.
#[derive(Default)]
pub struct Registry {
    filters: BTreeMap<&'static str, Entry>,
}

/// Two filters want one name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is a filter `{0}` already")]
pub struct DuplicateFilter(pub &'static str);

/// Hands out built-in rights while a registry is made.
pub struct Builtins<'a> {
    registry: &'a mut Registry,
    prover: Prover,
}

impl Builtins<'_> {
    /// Registers a built-in filter. The first of a name stays.
    pub fn filter(&mut self, spec: FilterSpec) {
        let builtin = true;
        self.registry.filters.entry(spec.name).or_insert(Entry { spec, builtin });
    }

    /// The leave to prove sensitivities, for built-in trainers.
    pub fn prover(&self) -> Prover {
        self.prover
    }
}

impl Registry {
    /// A registry with built-ins. Called in one place, the façade's: whoever registers here may
    /// prove sensitivities, and a test of the workspace holds that nobody else calls it.
    pub fn with_builtins(register: impl FnOnce(&mut Builtins<'_>)) -> Self {
        let mut registry = Self::default();
        register(&mut Builtins { registry: &mut registry, prover: Prover(()) });
        registry
    }

    /// Adds a filter of one's own.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn register(&mut self, spec: FilterSpec) -> Result<(), DuplicateFilter> {
        if self.filters.contains_key(spec.name) {
            return Err(DuplicateFilter(spec.name));
        }
        let builtin = false;
        self.filters.insert(spec.name, Entry { spec, builtin });
        Ok(())
    }

    /// The spec of a filter.
    pub fn spec(&self, name: &str) -> Option<&FilterSpec> {
        self.filters.get(name).map(|entry| &entry.spec)
    }

    /// Whether a filter is known to decide nothing by numbers.
    pub fn is_blind(&self, name: &str) -> bool {
        self.filters.get(name).is_some_and(|entry| entry.builtin && entry.spec.blind)
    }

    /// All specs, by name.
    pub fn specs(&self) -> impl Iterator<Item = &FilterSpec> {
        self.filters.values().map(|entry| &entry.spec)
    }

    /// Builds a filter.
    ///
    /// # Errors
    /// When there is none of this name, or its parameters do not fit the task's model.
    pub fn build(
        &self,
        name: &str,
        params: &Params,
        context: &BuildContext<'_>,
    ) -> Result<Box<dyn Filter>, Reason> {
        let Some(entry) = self.filters.get(name) else {
            let detail = format!("there is no filter `{name}`");
            return Err(Reason::new(Code::InvalidPolicy, detail));
        };
        let prover = Prover(());
        let context = BuildContext { prover: entry.builtin.then_some(&prover), ..*context };
        (entry.spec.build)(params, &context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensitivity::Adjacency;
    use crate::tensor::Schema;

    fn needs_a_prover(_: &Params, context: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
        let code = match context.prover {
            Some(_) => Code::Blocked,
            None => Code::MissingSensitivity,
        };
        Err(Reason::new(code, ""))
    }

    #[test]
    fn only_builtins_receive_a_prover_and_names_are_taken_once() {
        let model = Schema::default();
        let context = BuildContext {
            model: &model,
            adjacency: Adjacency::AddRemove,
            sharers: None,
            sealed: false,
            // Whatever a caller passes is replaced by what the registry knows.
            prover: Some(&Prover(())),
        };
        let mut registry = Registry::with_builtins(|builtins| {
            builtins.filter(FilterSpec::new("mine", "", needs_a_prover));
        });
        registry.register(FilterSpec::new("yours", "", needs_a_prover)).unwrap();
        assert!(registry.register(FilterSpec::new("mine", "", needs_a_prover)).is_err());
        let code = |name| {
            registry.build(name, &Params::default(), &context).err().map(|reason| reason.code)
        };
        assert_eq!(code("mine"), Some(Code::Blocked));
        assert_eq!(code("yours"), Some(Code::MissingSensitivity));
        assert_eq!(code("nobody's"), Some(Code::InvalidPolicy));
    }
}
