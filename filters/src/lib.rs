//! Filters that need no mechanism: which tensors leave, in which shape, how many bytes, about how many
//! records.
//!
//! Each file is one filter: its spec, its run type, its tests. To add one, write the file and
//! name its `SPEC` in [`specs`].

mod block;
mod max_size;
mod names;
mod schema;
mod select;
mod statistics_guard;

use privet_core::{Code, Content, FilterSpec, Reason};

/// The specs of this crate's filters.
pub fn specs() -> [FilterSpec; 6] {
    let statistics = statistics_guard::SPEC;
    [select::ALLOW, select::EXCLUDE, schema::SPEC, max_size::SPEC, block::SPEC, statistics]
}

fn not_tensors(content: &Content) -> Reason {
    let detail = format!("tensors were expected, not {}", content.as_str());
    Reason::new(Code::WrongContent, detail)
}
