//! Policies: what is asked of evidence, and what then may be believed.

mod rules;

pub use crate::encoding::Hex;
pub use rules::{
    GpuRules, Mismatches, NrasRules, RevocationMode, RevocationRules, SnpRules, SnpTcb, Span,
    TdxReference, TdxRules, TdxStatus,
};
