use std::sync::atomic::{AtomicBool, Ordering};

use privet_core::Registry;
use privet_core::admission::Admission;
use privet_core::aggregate::{Combine, PlainSum};
use privet_core::flow::Promise;
use privet_core::message::{DataKind, Protection};
use privet_core::tensor::Schema;
use privet_gate::{Job, Source};
use privet_wire::Service;

use super::*;

/// Admits whoever is not `gone`; whoever is `due` is to prove itself anew.
#[derive(Default)]
struct Switches {
    gone: AtomicBool,
    due: AtomicBool,
}

impl Admission for Switches {
    fn judge(&self, moment: Moment, peer: &Peer) -> Result<(), Reason> {
        let gone = self.gone.load(Ordering::SeqCst) && peer.name == "north";
        match gone && moment != Moment::Leave {
            true => Err(Reason::new(Code::NotAttested, "too old")),
            false => Ok(()),
        }
    }

    fn due(&self, _: &Peer) -> bool {
        self.due.load(Ordering::SeqCst)
    }

    fn prove(&self, _: &Peer, _: &str, _: &[u8; 32], evidence: &[u8]) -> Result<(), Reason> {
        match evidence {
            b"good" => Ok(()),
            _ => Err(Reason::new(Code::NotAttested, "other firmware")),
        }
    }
}

fn peer(name: &str) -> Peer {
    Peer { name: name.into(), key: [0; 32], exporter: [0; 32] }
}

/// A round that north and south are asked in, and both have answered.
fn answered() -> (Shared, Arc<Switches>) {
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
    let task = gate.frame(vec![1]).handover().unwrap();
    let offer = Offer { run: "run".into(), job: text.into(), features: None, rounds: None };
    let switches = Arc::new(Switches::default());
    let attestation = Attestation { admission: switches.clone(), attester: None };
    let shared = Shared(Arc::new(Federation::new(
        offer,
        attestation,
        gate,
        Stage::KeyShare,
        BTreeMap::new(),
    )));
    let sum = PlainSum::new(Combine::Sum, DataKind::WeightDiff, Schema::default());
    let asked: BTreeSet<String> = ["north".to_owned(), "south".to_owned()].into();
    shared.0.open(1, task, asked.clone(), Box::new(sum));
    for name in asked {
        shared.connected(&peer(&name));
        shared.0.admit(Moment::Job, &peer(&name)).unwrap();
        let whole = crate::spool::tests::whole(b"");
        shared.0.change(|state| {
            state.round.as_mut().unwrap().answers.insert(name, whole);
        });
    }
    (shared, switches)
}

/// What a site gave is not used once it may take part no more, and the round goes on with the rest.
#[test]
fn what_a_site_gave_is_dropped_with_its_admission() {
    let (shared, _) = answered();
    let closed = shared.0.close().unwrap();
    assert_eq!(closed.answers.len(), 2);

    let (shared, switches) = answered();
    switches.gone.store(true, Ordering::SeqCst);
    let closed = shared.0.close().unwrap();
    assert_eq!(closed.answers.keys().collect::<Vec<_>>(), ["south"]);
    assert_eq!(closed.dropped, ["north"]);

    // Evidence that does not hold: quarantine, with the reason.
    let (shared, _) = answered();
    let attest = |evidence: &'static [u8]| {
        let asked = Attest { job: "run", challenge: None, answer: Some(([0; 32], evidence)) };
        shared.attest(&peer("north"), asked).map(drop)
    };
    attest(b"good").unwrap();
    attest(b"bad").unwrap_err();
    let closed = shared.0.close().unwrap();
    assert_eq!(closed.answers.keys().collect::<Vec<_>>(), ["south"]);
    assert_eq!(closed.refusals["north"], (Stage::Job, Code::NotAttested));
    assert_eq!(shared.0.why("north"), "other firmware");
    // There is no way back within a job.
    assert!(attest(b"good").is_err());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ready = Status::Ready { sealed: false };
    assert!(runtime.block_on(shared.next(&peer("north"), ready)).is_err());
}

/// Before a site is sent anything, a task or what keys are made of, it is asked to prove itself anew if that is due.
#[test]
fn nothing_is_sent_before_what_is_due_is_proved() {
    let (shared, switches) = answered();
    shared.0.change(|state| drop(state.round.as_mut().unwrap().answers.remove("north")));
    let frame = shared.0.gate().frame(vec![2]).handover().unwrap();
    for keys in [false, true] {
        if keys {
            shared.0.post("north", frame.clone());
        }
        switches.due.store(true, Ordering::SeqCst);
        assert!(matches!(shared.0.turn(&peer("north")), Some(Turn::Attest)));
        switches.due.store(false, Ordering::SeqCst);
        match shared.0.turn(&peer("north")) {
            Some(Turn::Frame(_)) => assert!(keys),
            Some(Turn::Task(_)) => assert!(!keys),
            other => panic!("{other:?}"),
        }
        switches.gone.store(true, Ordering::SeqCst);
        assert!(matches!(shared.0.turn(&peer("north")), Some(Turn::Attest)));
        switches.gone.store(false, Ordering::SeqCst);
    }
    // An answer to a frame of somebody who may take part no more is nothing.
    switches.gone.store(true, Ordering::SeqCst);
    shared.reply(&peer("north"), &frame.id().bytes(), Ok(vec![1].into()));
    assert!(shared.0.asked("north").is_some());
    // Evidence for another run is refused, whatever it is.
    let asked = Attest { job: "another", challenge: None, answer: Some(([0; 32], b"good")) };
    assert!(shared.attest(&peer("south"), asked).is_err());
}
