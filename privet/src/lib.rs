//! Privet as a library: every filter registered, simulation, kits, report
