//! Who may connect, and what both ends then know of each other.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::identity;
use privet_core::admission::{Admission, CertificateOnly, Moment, Peer};
use privet_core::{Code, Reason};
use privet_gate::{Offer, Status};
use privet_wire::{
    Authority, Client, Identity, Relayed, Role, Service, Sink, Turn, WireError, serve,
};

/// Admits by a roster, and remembers whom it has seen.
#[derive(Default)]
struct Remembers {
    roster: CertificateOnly,
    joined: Mutex<Vec<Peer>>,
}

#[tonic::async_trait]
impl Service for Remembers {
    fn attest(
        &self,
        _: &Peer,
        _: privet_wire::Attest<'_>,
    ) -> Result<privet_wire::Attested, Reason> {
        Ok(privet_wire::Attested::default())
    }

    fn join(&self, peer: &Peer) -> Result<Offer, Reason> {
        self.roster.judge(Moment::Join, peer)?;
        self.joined.lock().unwrap().push(peer.clone());
        Ok(Offer { run: "run".into(), job: "job".into(), features: None, rounds: None })
    }
    async fn next(&self, _: &Peer, _: Status) -> Result<Turn, Reason> {
        Ok(Turn::Finished)
    }
    fn upload(&self, _: &Peer, _: Bytes) -> Result<Box<dyn Sink>, Reason> {
        Err(Reason::new(Code::UnexpectedUpload, ""))
    }
    fn reply(&self, _: &Peer, _: &[u8], _: Result<Bytes, Code>) -> Result<(), Reason> {
        Ok(())
    }
    fn relay(&self, _: &Peer, _: &str) -> Result<Relayed, Reason> {
        Err(Reason::new(Code::NotAdmitted, ""))
    }

    fn report(&self, _: &Peer, _: Status) {}
    fn connected(&self, _: &Peer) {}
    fn lost(&self, _: &Peer) {}
}

async fn start(server: Identity, roster: &[&str]) -> (String, Arc<Remembers>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let roster = CertificateOnly { roster: roster.iter().map(|&name| name.into()).collect() };
    let service = Arc::new(Remembers { roster, ..Remembers::default() });
    let serving = service.clone();
    tokio::spawn(async move { serve(listener, &server, serving, std::future::pending()).await });
    (address, service)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_know_each_other_and_the_connection() {
    let authority = Authority::throw_away().unwrap();
    let server = identity(&authority, Role::Server, "server");
    let (address, service) = start(server, &["north"]).await;
    let client = Client::new(&address, &identity(&authority, Role::Site, "north")).unwrap();
    assert_eq!(client.join().await.unwrap().run, "run");
    let seen = service.joined.lock().unwrap()[0].clone();
    let server = client.server().unwrap();
    assert_eq!((seen.name.as_str(), server.name.as_str()), ("north", "privet-server"));
    // Both export the same keying material, and another connection another.
    assert_eq!(seen.exporter, server.exporter);
    let again = Client::new(&address, &identity(&authority, Role::Site, "north")).unwrap();
    again.join().await.unwrap();
    assert_ne!(again.server().unwrap().exporter, server.exporter);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused() {
    let authority = Authority::throw_away().unwrap();
    let server = identity(&authority, Role::Server, "server");
    let (address, service) = start(server, &["north"]).await;
    // Certified, and not on the roster.
    let south = Client::new(&address, &identity(&authority, Role::Site, "south")).unwrap();
    assert!(matches!(south.join().await, Err(WireError::Refused(Code::NotAdmitted))));
    // Certified by somebody else.
    let other = Authority::throw_away().unwrap();
    let stranger = Client::new(&address, &identity(&other, Role::Site, "north")).unwrap();
    assert!(matches!(stranger.join().await, Err(WireError::Unreachable(_))));
    assert!(service.joined.lock().unwrap().is_empty());
}

/// A site's certificate is good for being a site: one that poses as the server is not believed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_cannot_pose_as_the_server() {
    let authority = Authority::throw_away().unwrap();
    let posing = identity(&authority, Role::Site, "privet-server");
    let (address, service) = start(posing, &[]).await;
    let client = Client::new(&address, &identity(&authority, Role::Site, "north")).unwrap();
    assert!(matches!(client.join().await, Err(WireError::Unreachable(_))));
    assert!(service.joined.lock().unwrap().is_empty());
}

/// A site that holds its connection speaks over no other one, until it lets go: what it knows of the server it knows
/// of that connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_held_is_the_only_one() {
    let authority = Authority::throw_away().unwrap();
    let (behind, _) = start(identity(&authority, Role::Server, "server"), &[]).await;
    // Somebody in between, who can cut connections and nothing else.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let cut = Arc::new(tokio::sync::Notify::new());
    let cutting = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (behind, cut) = (behind.clone(), cutting.clone());
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(behind).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = cut.notified() => {}
                }
            });
        }
    });
    let client = Client::new(&address, &identity(&authority, Role::Site, "north")).unwrap();
    // Without having connected there is nothing to hold.
    client.hold();
    assert!(matches!(client.join().await, Err(WireError::Unreachable(_))));
    client.release();
    client.join().await.unwrap();
    let first = client.server().unwrap();
    client.hold();
    client.join().await.unwrap();
    cut.notify_waiters();
    for _ in 0..3 {
        assert!(matches!(client.join().await, Err(WireError::Unreachable(_))));
    }
    assert_eq!(client.server().unwrap().exporter, first.exporter);
    client.release();
    client.join().await.unwrap();
    assert_ne!(client.server().unwrap().exporter, first.exporter);
}
