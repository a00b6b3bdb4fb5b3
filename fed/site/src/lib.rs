//! The data owner's process: joins, trains, releases through its gate
