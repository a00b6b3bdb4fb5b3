//! The server's end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use privet_core::admission::{MAX_EVIDENCE, Peer};
use privet_core::{Code, Reason};
use privet_gate::{Offer, Parcel, Status};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status as Rpc, Streaming};

use crate::identity::Identity;
use crate::protocol::{
    AttestReply, AttestRequest, Federation, FederationServer, Frame, JoinReply, JoinRequest, Part,
    ReplyRequest, ReportReply, StatusMessage, SubmitReply, TurnNumber, code, code_number,
    decode_status, frames, session,
};
use crate::tls::{Ended, ServerStream, peer, server_config};
use crate::{CONNECTION, MAX_FRAME, PROTOCOL, STREAMS, WINDOW};

/// Longest name of a run.
const MAX_JOB: usize = 128;

/// How long a peer has for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long the next piece of an upload may take.
const STALL: Duration = Duration::from_secs(60);

/// What a site is told to do.
#[derive(Debug, Clone)]
pub enum Turn {
    /// Ask again.
    Wait,
    /// Answer this task.
    Task(Parcel),
    /// Answer this frame of a protocol session.
    Frame(Parcel),
    /// Prove anew what you run.
    Attest,
    /// The job has ended.
    Finished,
}

/// Takes the pieces of one upload.
pub trait Sink: Send {
    /// Takes the next piece.
    ///
    /// # Errors
    /// When the upload is longer than its head said, or cannot be stored.
    fn write(&mut self, piece: &[u8]) -> Result<(), Reason>;

    /// Takes the end: the upload is checked and counts, or it does not.
    ///
    /// # Errors
    /// When the upload is not what its head said, or comes too late.
    fn finish(self: Box<Self>) -> Result<(), Reason>;
}

/// One end of a conversation between two sites.
pub struct Relayed {
    /// To the other site.
    pub to: tokio::sync::mpsc::Sender<Bytes>,
    /// From it.
    pub from: tokio::sync::mpsc::Receiver<Bytes>,
    /// Told how many bytes go to it, piece by piece.
    pub counted: Arc<dyn Fn(u64) + Send + Sync>,
}

/// What a site says to prove what it runs, and to have the server do so.
#[derive(Debug, Clone, Copy)]
pub struct Attest<'a> {
    /// The run; empty before there is one.
    pub job: &'a str,
    /// For the server.
    pub challenge: Option<[u8; 32]>,
    /// A challenge of the server, and the site's answer.
    pub answer: Option<([u8; 32], &'a [u8])>,
}

/// What the server answers.
#[derive(Debug, Clone, Default)]
pub struct Attested {
    /// To the challenge.
    pub evidence: Option<Vec<u8>>,
    /// For the site.
    pub challenge: Option<[u8; 32]>,
}

/// What a server does with what sites send.
#[tonic::async_trait]
pub trait Service: Send + Sync + 'static {
    /// A site joins.
    ///
    /// # Errors
    /// When it may not.
    fn join(&self, peer: &Peer) -> Result<Offer, Reason>;

    /// A site proves what it runs, and asks the same of the server.
    ///
    /// # Errors
    /// When what it proves is not enough.
    fn attest(&self, peer: &Peer, asked: Attest<'_>) -> Result<Attested, Reason>;

    /// A site asks what to do; answered when there is something, or after a while.
    ///
    /// # Errors
    /// When it may not ask.
    async fn next(&self, peer: &Peer, status: Status) -> Result<Turn, Reason>;

    /// A site begins an upload.
    ///
    /// # Errors
    /// When the upload is not taken.
    fn upload(&self, peer: &Peer, head: Bytes) -> Result<Box<dyn Sink>, Reason>;

    /// A site answers the frame of this digest in a protocol session, or refuses to.
    fn reply(&self, peer: &Peer, to: &[u8], answer: Result<Bytes, Code>);

    /// A site wants to speak with another one, by name.
    ///
    /// # Errors
    /// When it may not, or does already.
    fn relay(&self, peer: &Peer, to: &str) -> Result<Relayed, Reason>;

    /// A site says in which state it is.
    fn report(&self, peer: &Peer, status: Status);

    /// A site has connected; it may do so more than once.
    fn connected(&self, peer: &Peer);

    /// One of a site's connections ended.
    fn lost(&self, peer: &Peer);
}

struct Adapter<S>(Arc<S>);

/// Reasons travel as numbers; their words stay here.
fn refused(reason: &Reason) -> Rpc {
    Rpc::permission_denied(code_number(reason.code).to_string())
}

fn caller<T>(request: &Request<T>) -> Result<Arc<Peer>, Rpc> {
    let peer = request.extensions().get::<Arc<Peer>>();
    peer.cloned().ok_or_else(|| Rpc::unauthenticated("no certificate"))
}

#[tonic::async_trait]
impl<S: Service> Federation for Adapter<S> {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinReply>, Rpc> {
        let peer = caller(&request)?;
        if request.get_ref().protocol != PROTOCOL {
            return Err(Rpc::failed_precondition("another version of the protocol"));
        }
        let offer = self.0.join(&peer).map_err(|reason| refused(&reason))?;
        let offer = serde_json::to_vec(&offer).map_err(|_| Rpc::internal("offer"))?;
        Ok(Response::new(JoinReply { offer: offer.into() }))
    }

    async fn attest(&self, request: Request<AttestRequest>) -> Result<Response<AttestReply>, Rpc> {
        let peer = caller(&request)?;
        let AttestRequest { job, challenge, to, evidence } = request.get_ref();
        let invalid = |_| Rpc::invalid_argument("a challenge has 32 bytes");
        let challenge = match &challenge[..] {
            [] => None,
            bytes => Some(bytes.try_into().map_err(invalid)?),
        };
        let answer = match &to[..] {
            [] => None,
            bytes => Some((bytes.try_into().map_err(invalid)?, &evidence[..])),
        };
        if evidence.len() > MAX_EVIDENCE || job.len() > MAX_JOB {
            return Err(Rpc::invalid_argument("too long"));
        }
        let asked = Attest { job, challenge, answer };
        // Verifying takes milliseconds of this processor, collecting a device's answer longer.
        let answered = tokio::task::block_in_place(|| self.0.attest(&peer, asked));
        let Attested { evidence, challenge } = answered.map_err(|reason| refused(&reason))?;
        Ok(Response::new(AttestReply {
            evidence: evidence.unwrap_or_default().into(),
            challenge: challenge.map_or_else(Bytes::new, |challenge| challenge.to_vec().into()),
        }))
    }

    type NextStream = Pin<Box<dyn Stream<Item = Result<Frame, Rpc>> + Send>>;

    async fn next(
        &self,
        request: Request<StatusMessage>,
    ) -> Result<Response<Self::NextStream>, Rpc> {
        let peer = caller(&request)?;
        let status = decode_status(request.get_ref());
        let status = status.ok_or_else(|| Rpc::invalid_argument("status"))?;
        let turn = self.0.next(&peer, status).await;
        let turn = turn.map_err(|reason| refused(&reason))?;
        let number = match &turn {
            Turn::Wait => TurnNumber::Wait,
            Turn::Task(_) => TurnNumber::Task,
            Turn::Frame(_) => TurnNumber::Session,
            Turn::Attest => TurnNumber::Attest,
            Turn::Finished => TurnNumber::Finished,
        };
        let mut list = vec![Frame { part: Some(Part::Turn(number.into())) }];
        match &turn {
            Turn::Task(parcel) => list.extend(frames(parcel)),
            Turn::Frame(parcel) => list.extend(session(parcel)),
            Turn::Wait | Turn::Attest | Turn::Finished => {}
        }
        let stream = tokio_stream::iter(list.into_iter().map(Ok));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn submit(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<SubmitReply>, Rpc> {
        let peer = caller(&request)?;
        let mut stream = request.into_inner();
        let first = stream.next().await.transpose()?;
        let Some(Part::Head(head)) = first.and_then(|frame| frame.part) else {
            return Err(Rpc::invalid_argument("an upload starts with its head"));
        };
        let reply = |refused| Ok(Response::new(SubmitReply { refused }));
        let mut sink = match self.0.upload(&peer, head) {
            Ok(sink) => sink,
            Err(reason) => return reply(code_number(reason.code)),
        };
        let stalled = |_| Rpc::deadline_exceeded("the upload stalls");
        while let Some(frame) =
            tokio::time::timeout(STALL, stream.next()).await.map_err(stalled)?.transpose()?
        {
            let Some(Part::Body(piece)) = frame.part else {
                return Err(Rpc::invalid_argument("a body was expected"));
            };
            if let Err(reason) = sink.write(&piece) {
                return reply(code_number(reason.code));
            }
        }
        match sink.finish() {
            Ok(()) => reply(0),
            Err(reason) => reply(code_number(reason.code)),
        }
    }

    async fn reply(&self, request: Request<ReplyRequest>) -> Result<Response<ReportReply>, Rpc> {
        let peer = caller(&request)?;
        let ReplyRequest { frame, to, refused } = request.into_inner();
        let answer = match refused {
            0 => Ok(frame),
            number => Err(code(number).ok_or_else(|| Rpc::invalid_argument("code"))?),
        };
        self.0.reply(&peer, &to, answer);
        Ok(Response::new(ReportReply {}))
    }

    type RelayStream = Pin<Box<dyn Stream<Item = Result<Frame, Rpc>> + Send>>;

    async fn relay(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::RelayStream>, Rpc> {
        let peer = caller(&request)?;
        let mut stream = request.into_inner();
        let first = stream.next().await.transpose()?;
        let Some(Part::Head(name)) = first.and_then(|frame| frame.part) else {
            return Err(Rpc::invalid_argument("a conversation starts with a name"));
        };
        let name = std::str::from_utf8(&name).map_err(|_| Rpc::invalid_argument("name"))?;
        let relayed = self.0.relay(&peer, name).map_err(|reason| refused(&reason))?;
        let Relayed { to, from, counted } = relayed;
        tokio::spawn(async move {
            // Ends with either side; a full channel holds the sender up, through its window.
            while let Some(Ok(Frame { part: Some(Part::Body(piece)) })) = stream.next().await {
                counted(piece.len() as u64);
                if to.send(piece).await.is_err() {
                    break;
                }
            }
        });
        let frames =
            ReceiverStream::new(from).map(|piece| Ok(Frame { part: Some(Part::Body(piece)) }));
        Ok(Response::new(Box::pin(frames)))
    }

    async fn report(&self, request: Request<StatusMessage>) -> Result<Response<ReportReply>, Rpc> {
        let peer = caller(&request)?;
        let status = decode_status(request.get_ref());
        let status = status.ok_or_else(|| Rpc::invalid_argument("status"))?;
        self.0.report(&peer, status);
        Ok(Response::new(ReportReply {}))
    }
}

/// Serves until `stop` is done; open calls are ended then.
///
/// # Errors
/// When the identity cannot be used, or the listener fails.
pub async fn serve<S: Service>(
    listener: TcpListener,
    identity: &Identity,
    service: Arc<S>,
    stop: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let config = server_config(identity).map_err(std::io::Error::other)?;
    let acceptor = TlsAcceptor::from(config);
    let (accepted, incoming) = tokio::sync::mpsc::channel(16);
    let accepting = tokio::spawn(accept(listener, acceptor, service.clone(), accepted));
    let rpc = FederationServer::new(Adapter(service)).max_decoding_message_size(MAX_FRAME);
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(CONNECTION)
        .max_concurrent_streams(STREAMS)
        .max_frame_size(crate::CHUNK as u32)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(rpc)
        .serve_with_incoming(ReceiverStream::new(incoming));
    let served = tokio::select! {
        served = server => served.map_err(std::io::Error::other),
        () = stop => Ok(()),
    };
    accepting.abort();
    served
}

type Accepted = Result<ServerStream<tokio::net::TcpStream>, std::io::Error>;

async fn accept<S: Service>(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    service: Arc<S>,
    accepted: tokio::sync::mpsc::Sender<Accepted>,
) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: give the others time to end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (acceptor, service, accepted) = (acceptor.clone(), service.clone(), accepted.clone());
        // Each handshake by itself: a slow peer holds nobody up.
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream));
            let Ok(Ok(stream)) = handshake.await else {
                return;
            };
            let connection = stream.get_ref().1;
            let Some(peer) = peer(connection, connection.peer_certificates()) else {
                return;
            };
            let peer = Arc::new(peer);
            service.connected(&peer);
            let lost = peer.clone();
            let ended = Ended(Some(Box::new(move || service.lost(&lost))));
            let stream = ServerStream { stream, peer, _ended: ended };
            let _ = accepted.send(Ok(stream)).await;
        });
    }
}
