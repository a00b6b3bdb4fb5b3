//! What a site allows and who enforces it
