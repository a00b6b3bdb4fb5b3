//! Rounds, workflows, spool, checkpoints
