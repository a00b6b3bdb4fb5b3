//! Two sites converse through a server that reads, changes, repeats and swaps what it carries.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod common;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use common::identity;
use privet_core::admission::Peer;
use privet_core::flow::Promise;
use privet_core::message::Protection;
use privet_core::tensor::Schema;
use privet_core::{Code, DataKind, Reason, Registry};
use privet_gate::{Job, Offer, Parcel, ServerGate, Source, Status};
use privet_wire::{
    Authority, Client, Conversation, PeerKeys, Relayed, Role, Service, Sink, Turn, serve,
};
use tokio::sync::mpsc;

/// What the server does with the pieces from the site of the lower name.
type Meddle = fn(Vec<Bytes>) -> Vec<Bytes>;

/// Carries everything between two sites, the first's pieces only once it has three of them.
struct Carrier {
    ends: Mutex<Vec<(mpsc::Sender<Bytes>, mpsc::Receiver<Bytes>)>>,
    carried: Arc<Mutex<Vec<Bytes>>>,
}

impl Carrier {
    /// `north`'s end is taken first.
    fn new(meddle: Meddle) -> Self {
        let (to_carrier, mut from_north) = mpsc::channel::<Bytes>(8);
        let (to_south, from_carrier) = mpsc::channel(8);
        let (to_north, from_south) = mpsc::channel(8);
        let carried: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let seen = carried.clone();
        tokio::spawn(async move {
            // The greeting goes on at once; then three frames together.
            let Some(hello) = from_north.recv().await else { return };
            let _ = to_south.send(hello).await;
            let mut frames = Vec::new();
            while frames.len() < 3
                && let Some(frame) = from_north.recv().await
            {
                frames.push(frame);
            }
            seen.lock().unwrap().extend(frames.clone());
            for frame in meddle(frames) {
                let _ = to_south.send(frame).await;
            }
        });
        let ends = vec![(to_north, from_carrier), (to_carrier, from_south)];
        Self { ends: Mutex::new(ends), carried }
    }
}

#[tonic::async_trait]
impl Service for Carrier {
    fn attest(
        &self,
        _: &Peer,
        _: privet_wire::Attest<'_>,
    ) -> Result<privet_wire::Attested, Reason> {
        Ok(privet_wire::Attested::default())
    }

    fn join(&self, _: &Peer) -> Result<Offer, Reason> {
        Err(Reason::new(Code::NotAdmitted, ""))
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
    fn relay(&self, peer: &Peer, _: &str) -> Result<Relayed, Reason> {
        let at = usize::from(peer.name == "north");
        let mut ends = self.ends.lock().unwrap();
        let (to, from) = std::mem::replace(&mut ends[at], (mpsc::channel(1).0, mpsc::channel(1).1));
        Ok(Relayed { to, from, counted: Arc::new(|_| true) })
    }
    fn report(&self, _: &Peer, _: Status) {}
    fn connected(&self, _: &Peer) {}
    fn lost(&self, _: &Peer) {}
}

/// A frame that a gate let out.
fn frame(bytes: &[u8]) -> Parcel {
    let text = "schema = 1\n[job]\nname = \"j\"\nworkflow = \"psi\"\n[psi]\ndataset = \"d\"\n\
                column = [\"id\"]\n";
    let registry = Registry::default();
    let job = Job::parse(&Source::new("job", text), None, "".as_ref(), &registry).unwrap();
    let promise = Promise {
        task: "psi",
        kind: DataKind::Psi,
        schema: Schema::default(),
        protection: Protection::Plain,
        bound: None,
        local_steps: 1,
        metrics: vec![],
    };
    let gate = ServerGate::compile(&job, &promise, &registry).unwrap();
    gate.frame(bytes.to_vec()).handover().unwrap()
}

struct Pair {
    north: Result<Conversation, Reason>,
    south: Result<Conversation, Reason>,
    carried: Arc<Mutex<Vec<Bytes>>>,
}

async fn converse(meddle: Meddle, run_of_south: &str, south_calls: &str) -> Pair {
    let authority = Authority::throw_away().unwrap();
    let server = identity(&authority, Role::Server, "server");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let carrier = Arc::new(Carrier::new(meddle));
    let carried = carrier.carried.clone();
    tokio::spawn(async move { serve(listener, &server, carrier, std::future::pending()).await });
    let open = |name: &'static str, other: String, run: String| {
        let (identity, address) = (identity(&authority, Role::Site, name), address.clone());
        async move {
            let client = Client::new(&address, &identity).unwrap();
            let vouching = identity.vouching().unwrap();
            let keys = PeerKeys { run: &run, identity: &identity, vouching: &*vouching };
            client.converse(&keys, name, &other).await
        }
    };
    let (north, south) = tokio::join!(
        open("north", "south".into(), "run".into()),
        open("south", south_calls.to_owned(), run_of_south.to_owned())
    );
    Pair { north, south, carried }
}

const FRAMES: [&[u8]; 3] = [b"the first", b"the second", b"the third"];

/// What south makes of three frames of north.
async fn heard(meddle: Meddle) -> Vec<Result<Vec<u8>, Code>> {
    let Pair { north, south, carried } = converse(meddle, "run", "north").await;
    let (mut north, mut south) = (north.unwrap(), south.unwrap());
    assert_eq!((north.peer().name.as_str(), south.peer().name.as_str()), ("south", "north"));
    for bytes in FRAMES {
        north.send(&frame(bytes)).await.unwrap();
    }
    let mut heard = Vec::new();
    for _ in FRAMES {
        heard.push(south.receive().await.map_err(|reason| reason.code));
    }
    // The server saw lengths.
    let lengths: Vec<usize> = carried.lock().unwrap().iter().map(Bytes::len).collect();
    assert_eq!(lengths, FRAMES.map(|bytes| bytes.len() + 16));
    let carried = carried.lock().unwrap();
    assert!(carried.iter().all(|c| !c.windows(4).any(|w| w == b"firs" || w == b"seco")));
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_arrive_in_order_and_unread() {
    let all = FRAMES.map(|bytes| Ok(bytes.to_vec()));
    assert_eq!(heard(|frames| frames).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_changed_repeated_or_swapped_does_not_open() {
    let first = |heard: Vec<Result<Vec<u8>, Code>>| heard[..2].to_vec();
    let bad = Err(Code::BadSignature);
    let good = Ok(FRAMES[0].to_vec());
    let changed = heard(|mut frames| {
        let mut bytes = frames[0].to_vec();
        bytes[3] ^= 1;
        frames[0] = bytes.into();
        frames
    });
    assert_eq!(changed.await[0], bad);
    let repeated = heard(|frames| vec![frames[0].clone(), frames[0].clone(), frames[1].clone()]);
    assert_eq!(first(repeated.await), [good.clone(), bad.clone()]);
    let swapped = heard(|frames| vec![frames[1].clone(), frames[0].clone(), frames[2].clone()]);
    assert_eq!(swapped.await[0], bad);
    let lost = heard(|frames| vec![frames[0].clone(), frames[2].clone()]);
    assert_eq!(first(lost.await), [good, bad]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_run_or_another_site_is_refused() {
    // Who finds out first goes, and the other one may see just that.
    let refused = |ends: Pair| {
        let codes = [ends.north, ends.south].map(|end| end.map(drop).unwrap_err().code);
        assert!(codes.contains(&Code::BadSignature), "{codes:?}");
    };
    refused(converse(|frames| frames, "another run", "north").await);
    // South wants west, and the server brings it north.
    refused(converse(|frames| frames, "run", "west").await);
}
