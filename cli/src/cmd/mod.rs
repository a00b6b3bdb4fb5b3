//! A file a verb.

pub(crate) mod attest;
pub(crate) mod audit;
pub(crate) mod bench;
pub(crate) mod budget;
pub(crate) mod dp;
pub(crate) mod filters;
pub(crate) mod init;
pub(crate) mod kit;
pub(crate) mod policy;
pub(crate) mod psi;
pub(crate) mod run;

/// An exit code, or why there was a failure.
pub(crate) type Ended = Result<u8, crate::out::Failed>;
