//! Built-in models with per-record clipping
