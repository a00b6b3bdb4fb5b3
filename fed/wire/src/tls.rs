//! TLS 1.3 with certificates on both sides, and what it proves of a peer.
//!
//! The layer is our own so that the keying-material exporter (RFC 8446 §7.5) is at hand: evidence
//! about a peer can be bound to the very connection it comes over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use privet_core::admission::Peer;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ConnectionCommon, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{Identity, SERVER_NAME};

const EXPORTER_LABEL: &[u8] = b"EXPORTER-privet-v1";

fn roots(identity: &Identity) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca.clone())?;
    Ok(roots)
}

pub(crate) fn server_config(identity: &Identity) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let roots = Arc::new(roots(identity)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

pub(crate) fn client_config(identity: &Identity) -> Result<Arc<ClientConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

pub(crate) fn server_name() -> Option<ServerName<'static>> {
    ServerName::try_from(SERVER_NAME).ok()
}

/// Who is at the other end; `None` when it showed no certificate with a name.
pub(crate) fn peer<T>(
    connection: &ConnectionCommon<T>,
    certificates: Option<&[CertificateDer<'_>]>,
) -> Option<Peer> {
    let exporter = connection.export_keying_material([0u8; 32], EXPORTER_LABEL, None).ok()?;
    let (_, certificate) = X509Certificate::from_der(certificates?.first()?).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    Some(Peer {
        name: name.as_str().ok()?.to_owned(),
        key: Sha256::digest(certificate.public_key().raw).into(),
        exporter,
    })
}

/// A server's side of a connection, which knows its peer.
pub(crate) struct ServerStream<S> {
    pub(crate) stream: tokio_rustls::server::TlsStream<S>,
    pub(crate) peer: Arc<Peer>,
    /// Called when the connection ends.
    pub(crate) _ended: Ended,
}

/// Calls back when it is dropped.
pub(crate) struct Ended(pub(crate) Option<Box<dyn FnOnce() + Send + Sync>>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(ended) = self.0.take() {
            ended();
        }
    }
}

impl<S> Connected for ServerStream<S> {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        self.peer.clone()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
