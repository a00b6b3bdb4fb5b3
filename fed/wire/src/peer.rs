//! Conversations between two sites, through a server that sees lengths alone.
//!
//! ```text
//!   a ── credential, X25519 key, signature over both and the run ──▶ b,  and back
//!   a ── frame n, sealed under HKDF(X25519, run, both keys, n, direction) ──▶ b
//! ```
//! Keys are fresh in each conversation. The federation's CA says whose a credential is; a frame that is lost,
//! repeated, reordered or changed does not open.

use bytes::Bytes;
use privet_core::seal::{Certified, Vouching};
use privet_core::{Code, Reason};
use privet_crypto::pairwise::{Route, Secret};
use privet_crypto::{Digest, PublicKey, Reader, Transcript, Writer};
use privet_gate::Parcel;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::client::{Client, WireError};
use crate::identity::Identity;
use crate::protocol::{Frame, Part};

/// Frames of a site that wait for the network.
const QUEUE: usize = 4;
const MAX_CREDENTIAL: usize = 8 << 10;
/// Most bytes of a sealed frame.
const MAX_SEALED: usize = privet_core::channel::MAX_FRAME + privet_crypto::pairwise::OVERHEAD;

const PURPOSE: &str = "privet/peer/frame/v1";

/// What a site shows its peers in one run.
pub struct PeerKeys<'a> {
    /// The run.
    pub run: &'a str,
    /// Who this site is.
    pub identity: &'a Identity,
    /// Who tells whose a credential is.
    pub vouching: &'a dyn Vouching,
}

/// What is signed: who speaks with whom in which run, under which key.
fn statement(run: &str, from: &str, to: &str, key: &[u8; 32]) -> Digest {
    let transcript = Transcript::new("privet/peer/hello/v1").bytes(run.as_bytes());
    transcript.bytes(from.as_bytes()).bytes(to.as_bytes()).bytes(key).finish()
}

/// One end of a conversation.
pub struct Conversation {
    out: mpsc::Sender<Frame>,
    incoming: Streaming<Frame>,
    secret: Secret,
    theirs: [u8; 32],
    context: Digest,
    /// Whether this site's name is the lower one.
    first: bool,
    sent: u64,
    received: u64,
    peer: Certified,
}

fn body(bytes: Vec<u8>) -> Frame {
    Frame { part: Some(Part::Body(bytes.into())) }
}

fn gone() -> Reason {
    Reason::new(Code::TooFewSites, "another site of the run is gone")
}

async fn next(incoming: &mut Streaming<Frame>) -> Result<Bytes, Reason> {
    match incoming.next().await {
        Some(Ok(Frame { part: Some(Part::Body(piece)) })) if piece.len() <= MAX_SEALED => Ok(piece),
        Some(Ok(_)) => Err(Reason::new(Code::Malformed, "no frame of a conversation")),
        Some(Err(_)) | None => Err(gone()),
    }
}

impl Client {
    /// Opens the conversation of site `me` with another one, and checks that it is who it is said to be.
    ///
    /// # Errors
    /// When the server or the other site refuses, is gone, or the other site is another.
    pub async fn converse(
        &self,
        keys: &PeerKeys<'_>,
        me: &str,
        other: &str,
    ) -> Result<Conversation, Reason> {
        let (out, queue) = mpsc::channel(QUEUE);
        let name = Bytes::copy_from_slice(other.as_bytes());
        // The queue has room: nothing was sent.
        let _ = out.send(Frame { part: Some(Part::Head(name)) }).await;
        let incoming =
            self.relay(ReceiverStream::new(queue)).await.map_err(|error| match error {
                WireError::Refused(code) => {
                    Reason::new(code, "the server does not relay to that site")
                }
                _ => gone(),
            })?;
        let mut incoming = incoming;

        let secret = Secret::from_os()
            .map_err(|_| Reason::new(Code::StorageFailed, "the system gives no random bytes"))?;
        let public = secret.public();
        let signature = keys.identity.signing().sign(&statement(keys.run, me, other, &public));
        let mut writer = Writer::default();
        writer.bytes(&keys.identity.credential()?).raw(&public).raw(&signature);
        out.send(body(writer.finish())).await.map_err(|_| gone())?;

        let hello = next(&mut incoming).await?;
        let mut reader = Reader::new(&hello);
        let read = || {
            let credential = reader.bytes(MAX_CREDENTIAL, "credential")?;
            let key = reader.digest("key")?;
            let signature = reader.signature("signature")?;
            reader.end()?;
            Ok((credential, key, signature))
        };
        let (credential, theirs, signature) =
            read().map_err(|error: privet_crypto::DecodeError| {
                Reason::new(Code::Malformed, error.to_string())
            })?;
        let peer = keys.vouching.certified(credential)?;
        let signed = statement(keys.run, other, me, &theirs);
        if peer.name != other || !PublicKey(peer.signing).verifies(&signed, &signature) {
            let detail = "another site answers in that site's name, or did not sign what it says";
            return Err(Reason::new(Code::BadSignature, detail));
        }
        let first = me < other;
        let (low, high) = if first { (&public, &theirs) } else { (&theirs, &public) };
        let context = Transcript::new("privet/peer/context/v1")
            .bytes(keys.run.as_bytes())
            .bytes(me.min(other).as_bytes())
            .bytes(me.max(other).as_bytes())
            .bytes(low)
            .bytes(high)
            .finish();
        Ok(Conversation {
            out,
            incoming,
            secret,
            theirs,
            context,
            first,
            sent: 0,
            received: 0,
            peer,
        })
    }
}

impl Conversation {
    /// Who is at the other end.
    pub fn peer(&self) -> &Certified {
        &self.peer
    }

    fn key(
        &self,
        number: u64,
        from_first: bool,
    ) -> Result<privet_crypto::pairwise::MessageKey, Reason> {
        let context = Transcript::new(PURPOSE).bytes(&self.context.0).number(number).finish();
        let (from, to) = if from_first { (0, 1) } else { (1, 0) };
        let route = Route { context: &context, purpose: PURPOSE, from, to };
        let weak = |_| Reason::new(Code::BadSignature, "another site shows a weak key");
        self.secret.key(&self.theirs, route).map_err(weak)
    }

    /// Seals and sends a frame.
    ///
    /// # Errors
    /// When the other site is gone.
    pub async fn send(&mut self, parcel: &Parcel) -> Result<(), Reason> {
        let Some(frame) = parcel.frame() else {
            return Err(Reason::new(Code::WrongStage, "no frame of a protocol session"));
        };
        let sealed = self.key(self.sent, self.first)?.seal(frame);
        self.sent += 1;
        self.out.send(body(sealed)).await.map_err(|_| gone())
    }

    /// Receives and opens the next frame.
    ///
    /// # Errors
    /// When the other site is gone, or what comes is not its next frame.
    pub async fn receive(&mut self) -> Result<Vec<u8>, Reason> {
        let sealed = next(&mut self.incoming).await?;
        let opened = self.key(self.received, !self.first)?.open(&sealed);
        self.received += 1;
        let broken =
            |_| Reason::new(Code::BadSignature, "a frame was changed on its way, or is another");
        Ok(std::mem::take(&mut *opened.map_err(broken)?))
    }
    /// Ends the conversation: what was sent still arrives, and no more is listened to. Dropped instead, it
    /// would take with it what is on its way.
    pub async fn close(self) {
        let Self { out, mut incoming, .. } = self;
        drop(out);
        while let Some(Ok(_)) = incoming.next().await {}
    }
}
