//! Evidence of all kinds against a policy.
