//! How bytes travel: gRPC over mutual TLS 1.3, updates in chunks, and nothing that a gate did not
//! hand over.
//!
//! ```text
//!   site                                   server
//!   Client ── Join ───────────────────────▶ Service::join       the offered job
//!          ── Next(state) ────────────────▶ Service::next       wait · task (head, body…) · frame · finished
//!          ── Submit(head, body…) ────────▶ Service::upload     spooled, checked, taken or refused
//!          ── Report(state) ──────────────▶ Service::report
//!          ── Reply(frame) ───────────────▶ Service::reply      an answer in a protocol session
//!          ◀─ Relay(frames) ─────────────▶ Service::relay      a conversation with another site, sealed for it
//! ```
//! Sites call, so that no site opens a port. Both ends show certificates of the federation's CA;
//! a site *is* the name in its certificate. Everything that is sent is a
//! [`Parcel`](privet_gate::Parcel), which only
//! [`Released::handover`](privet_gate::Released::handover) gives.
//!
//! ```
//! async fn send(client: &privet_wire::Client, released: privet_gate::Released) {
//!     if let Ok(parcel) = released.handover() {
//!         let _ = client.submit(&parcel).await;
//!     }
//! }
//! ```
//! ```compile_fail,E0308
//! // Nor what was not handed over.
//! async fn early(client: &privet_wire::Client, released: privet_gate::Released) {
//!     let _ = client.submit(&released).await;
//! }
//! ```
//! ```compile_fail,E0308
//! // A message cannot be sent.
//! async fn leak(client: &privet_wire::Client, message: privet_core::Message) {
//!     let _ = client.submit(&message).await;
//! }
//! ```

mod attestation;
mod client;
mod identity;
mod kit;
mod peer;
mod protocol;
mod server;
mod tls;
mod vouch;

pub use attestation::{OpenAttestation, Opening};
pub use client::{Client, Next, SubmitError, WireError};
pub use identity::{Authority, Credentials, Identity, IdentityError, Role, SERVER_NAME};
pub use kit::{ADDRESS_FILE, Kit, KitAttest, KitError};
pub use peer::{Conversation, PeerKeys};
pub use server::{Attest, Attested, Relayed, Service, Sink, Turn, serve};

/// Bytes of a chunk. With windows of four chunks a loopback connection is bound by TLS, and an
/// open connection holds a few MiB at most.
const CHUNK: usize = 1 << 20;
const WINDOW: u32 = 4 << 20;
/// Streams of one connection, and the window of all of them: one that is not read must not hold up another,
/// whose reader the first one's may wait for.
const STREAMS: u32 = 96;
const CONNECTION: u32 = STREAMS * WINDOW;
/// Largest frame that is decoded: a head, or a chunk with its few bytes of framing.
const MAX_FRAME: usize = privet_gate::MAX_HEAD + (1 << 10);
/// The one version of the protocol.
const PROTOCOL: u32 = 1;
