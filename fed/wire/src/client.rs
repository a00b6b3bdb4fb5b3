//! A site's end.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use privet_core::admission::Peer;
use privet_core::{Code, Reason};
use privet_gate::{Offer, Parcel, Status, TaskId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status as Rpc};

use crate::identity::Identity;
use crate::protocol::{
    AttestReply, AttestRequest, FederationClient, Frame, JoinRequest, Part, ReplyRequest,
    TurnNumber, code, code_number, encode_status, frames,
};
use crate::tls::{client_config, peer, server_name};
use crate::{CONNECTION, MAX_FRAME, PROTOCOL, WINDOW};

/// Longest offer that is taken.
const MAX_OFFER: usize = 4 << 20;

/// Longest frame of a protocol session that is taken.
const MAX_SESSION: u64 = 16 << 20;

/// Bytes that are set aside for a task before it comes.
const MAX_RESERVE: usize = 256 << 20;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The server refuses, and says so with a code.
    #[error("the server refuses: {0}")]
    Refused(Code),
    /// The server cannot be reached, or the connection broke: try again.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The server sent what is no message of the protocol.
    #[error("the server sent something that is no message of the protocol")]
    Malformed,
}

/// Why an upload was not taken.
pub type SubmitError = WireError;

/// What the server wants next.
#[derive(Debug)]
pub enum Next {
    /// To be asked again.
    Wait,
    /// A task: head and body, unchecked.
    Task(Vec<u8>, Vec<u8>),
    /// An answer to a frame of a protocol session.
    Frame(Vec<u8>),
    /// Nothing, before this site has proved anew what it runs.
    Attest,
    /// Nothing: the job has ended.
    Finished,
}

fn failed(status: &Rpc) -> WireError {
    match status.code() {
        tonic::Code::PermissionDenied => {
            let number = status.message().parse().ok();
            WireError::Refused(number.and_then(code).unwrap_or(Code::NotAdmitted))
        }
        tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition => WireError::Malformed,
        _ => WireError::Unreachable(status.message().to_owned()),
    }
}

/// A site's connection to its server. It connects when it is first used, and again when the
/// connection broke.
#[derive(Clone)]
pub struct Client {
    rpc: FederationClient<Channel>,
    server: Arc<Mutex<Option<Peer>>>,
    sent: Arc<AtomicU64>,
}

impl Client {
    /// A client for the server at `address` (host:port).
    ///
    /// # Errors
    /// When the identity cannot be used, or the address is none.
    pub fn new(address: &str, identity: &Identity) -> Result<Self, Reason> {
        let invalid = |detail: String| Reason::new(Code::NotAdmitted, detail);
        let config = client_config(identity).map_err(|error| invalid(error.to_string()))?;
        let name = server_name().ok_or_else(|| invalid("the server's name".into()))?;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))
            .map_err(|_| invalid(format!("`{address}` is no host:port")))?
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION)
            .connect_timeout(Duration::from_secs(10))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        let server = Arc::new(Mutex::new(None));
        let connector = TlsConnector::from(config);
        let sent = Arc::new(AtomicU64::new(0));
        let (known, address, counter) = (server.clone(), address.to_owned(), sent.clone());
        let connect = tower::service_fn(move |_: Uri| {
            let (connector, name, address) = (connector.clone(), name.clone(), address.clone());
            let (known, sent) = (known.clone(), counter.clone());
            async move {
                let stream = TcpStream::connect(&address).await?;
                stream.set_nodelay(true)?;
                let stream = connector.connect(name, Counted { stream, sent }).await?;
                let connection = stream.get_ref().1;
                let peer = peer(connection, connection.peer_certificates());
                *known.lock().unwrap_or_else(PoisonError::into_inner) = peer;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let channel = endpoint.connect_with_connector_lazy(connect);
        let rpc = FederationClient::new(channel).max_decoding_message_size(MAX_FRAME);
        Ok(Self { rpc, server, sent })
    }

    /// Who answered the last connection; `None` before the first.
    pub fn server(&self) -> Option<Peer> {
        let server = self.server.lock();
        server.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bytes that the sockets of this client have taken so far.
    pub fn bytes_sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Asks for the job.
    ///
    /// # Errors
    /// When the server refuses, cannot be reached, or offers something that is no job.
    pub async fn join(&self) -> Result<Offer, WireError> {
        let request = JoinRequest { protocol: PROTOCOL };
        let reply = self.rpc.clone().join(request).await;
        let offer = reply.map_err(|status| failed(&status))?.into_inner().offer;
        if offer.len() > MAX_OFFER {
            return Err(WireError::Malformed);
        }
        serde_json::from_slice(&offer).map_err(|_| WireError::Malformed)
    }

    /// Asks the server to prove what it runs, and what it asks of this site: its evidence, if a challenge was posed,
    /// and its own challenge, if it has one.
    ///
    /// # Errors
    /// When the server refuses, cannot be reached, or answers something else.
    pub async fn ask_to_attest(
        &self,
        job: &str,
        challenge: Option<[u8; 32]>,
    ) -> Result<(Vec<u8>, Option<[u8; 32]>), WireError> {
        let request = AttestRequest {
            job: job.to_owned(),
            challenge: challenge.map_or_else(Bytes::new, |challenge| challenge.to_vec().into()),
            ..AttestRequest::default()
        };
        let reply = self.rpc.clone().attest(request).await;
        let AttestReply { evidence, challenge } = reply.map_err(|s| failed(&s))?.into_inner();
        let challenge = match &challenge[..] {
            [] => None,
            bytes => Some(bytes.try_into().map_err(|_| WireError::Malformed)?),
        };
        Ok((evidence.to_vec(), challenge))
    }

    /// Sends evidence that answers a challenge of the server.
    ///
    /// # Errors
    /// When the server refuses it or cannot be reached, or the parcel is no evidence.
    pub async fn attest(
        &self,
        job: &str,
        to: &[u8; 32],
        evidence: &Parcel,
    ) -> Result<(), WireError> {
        let request = AttestRequest {
            job: job.to_owned(),
            to: to.to_vec().into(),
            evidence: evidence.evidence().cloned().ok_or(WireError::Malformed)?,
            ..AttestRequest::default()
        };
        self.rpc.clone().attest(request).await.map_err(|status| failed(&status))?;
        Ok(())
    }

    /// Says in which state the site is, and asks what to do. A task of more than `max_bytes` is
    /// not taken.
    ///
    /// # Errors
    /// When the server refuses or cannot be reached, or what it sends is no task.
    pub async fn next(&self, status: &Parcel, max_bytes: u64) -> Result<Next, WireError> {
        let status = status.status().unwrap_or(Status::Ready { sealed: false });
        let reply = self.rpc.clone().next(encode_status(status)).await;
        let mut stream = reply.map_err(|status| failed(&status))?.into_inner();
        let mut head = None;
        let mut body = Vec::new();
        let mut turn = TurnNumber::Wait;
        while let Some(frame) = stream.next().await {
            match frame.map_err(|status| failed(&status))?.part {
                Some(Part::Turn(number)) => {
                    turn = TurnNumber::try_from(number).map_err(|_| WireError::Malformed)?;
                }
                Some(Part::Head(bytes)) if head.is_none() => {
                    head = Some(bytes.to_vec());
                    // The most that will be taken; growing by doubling would hold half as much again.
                    body.reserve_exact(usize::try_from(max_bytes).unwrap_or(0).min(MAX_RESERVE));
                }
                Some(Part::Body(piece)) => {
                    let most = if head.is_some() { max_bytes } else { MAX_SESSION };
                    if (body.len() + piece.len()) as u64 > most {
                        return Err(WireError::Malformed);
                    }
                    body.extend_from_slice(&piece);
                }
                _ => return Err(WireError::Malformed),
            }
        }
        match (turn, head) {
            (TurnNumber::Wait, None) => Ok(Next::Wait),
            (TurnNumber::Finished, None) => Ok(Next::Finished),
            (TurnNumber::Task, Some(head)) => Ok(Next::Task(head, body)),
            (TurnNumber::Session, None) => Ok(Next::Frame(body)),
            (TurnNumber::Attest, None) => Ok(Next::Attest),
            _ => Err(WireError::Malformed),
        }
    }

    /// Sends an update.
    ///
    /// # Errors
    /// When the server refuses it or cannot be reached.
    pub async fn submit(&self, parcel: &Parcel) -> Result<(), SubmitError> {
        let frames: Vec<Frame> = frames(parcel);
        let request = Request::new(tokio_stream::iter(frames));
        let reply = self.rpc.clone().submit(request).await;
        match reply.map_err(|status| failed(&status))?.into_inner().refused {
            0 => Ok(()),
            number => Err(WireError::Refused(code(number).unwrap_or(Code::Malformed))),
        }
    }

    /// Sends an answer to a frame of a protocol session, or the state that there is none.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn reply(&self, to: &TaskId, parcel: &Parcel) -> Result<(), WireError> {
        let refused = match parcel.status() {
            Some(Status::Refused { code, .. }) => code_number(code),
            _ => 0,
        };
        let frame = parcel.frame().cloned().unwrap_or_default();
        let request = ReplyRequest { frame, to: to.bytes().to_vec().into(), refused };
        let reply = self.rpc.clone().reply(request).await;
        reply.map(drop).map_err(|status| failed(&status))
    }

    /// Opens a conversation; what comes of it is the other site's.
    pub(crate) async fn relay(
        &self,
        frames: tokio_stream::wrappers::ReceiverStream<Frame>,
    ) -> Result<tonic::Streaming<Frame>, WireError> {
        let reply = self.rpc.clone().relay(Request::new(frames)).await;
        reply.map(tonic::Response::into_inner).map_err(|status| failed(&status))
    }

    /// Says in which state the site is.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn report(&self, status: &Parcel) -> Result<(), WireError> {
        let status = status.status().unwrap_or(Status::Ready { sealed: false });
        let reply = self.rpc.clone().report(encode_status(status)).await;
        reply.map(drop).map_err(|status| failed(&status))
    }
}

/// A socket that counts what it takes.
struct Counted {
    stream: TcpStream,
    sent: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(len)) = written {
            self.sent.fetch_add(len as u64, Ordering::Relaxed);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
