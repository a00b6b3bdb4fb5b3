//! Matching tensor names.

use globset::{Glob, GlobSet, GlobSetBuilder};
use privet_core::tensor::Schema;
use privet_core::{Code, Reason};

/// Exact names and globs of which each matches a tensor of the model.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    patterns: Vec<String>,
    set: GlobSet,
}

impl Names {
    /// Compiles patterns against a model.
    pub(crate) fn new(patterns: &[String], model: &Schema) -> Result<Self, Reason> {
        let invalid = |detail| Reason::new(Code::InvalidPolicy, detail);
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let glob = Glob::new(pattern)
                .map_err(|_| invalid(format!("`{pattern}` is no tensor name or glob")))?;
            let matcher = glob.compile_matcher();
            // A literal name may hold glob characters; it is matched as it stands too.
            let matches = |name: &String| name == pattern || matcher.is_match(name);
            if !model.0.keys().any(matches) {
                return Err(invalid(format!("`{pattern}` matches no tensor of the job's model")));
            }
            set.add(glob);
        }
        let set = set.build().map_err(|_| invalid("the tensor names do not compile".to_owned()))?;
        Ok(Self { patterns: patterns.to_vec(), set })
    }

    /// Whether a name is one of these.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern == name) || self.set.is_match(name)
    }

    /// For sentences.
    pub(crate) fn list(&self) -> String {
        self.patterns.join(", ")
    }
}
