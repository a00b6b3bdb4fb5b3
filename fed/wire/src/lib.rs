//! How bytes travel: protocol, mutual TLS, chunks; the only sender
