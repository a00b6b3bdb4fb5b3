use std::collections::BTreeMap;

use privet_core::ledger::EntryState;
use privet_core::message::Sealed;
use privet_core::sensitivity::{Lattice, LatticeTensor, Prover};
use privet_core::tensor::{Shape, Tensor, Tensors, Values};
use privet_core::{Filter, FilterSpec};
use privet_store::Store;
use privet_store::faults::Disk;

use super::*;
use crate::envelope::Head;
use crate::testing::{Log, bound, job, ledger, policy, promise, registry_and_prover};

const NOISE: &str = r#"[{ filter = "gaussian", noise-multiplier = 4.0 }]"#;

struct Bench {
    lane: Lane,
    ledger: Arc<privet_dp::SiteLedger>,
    log: Arc<Log>,
    prover: Prover,
}

fn bench(
    unit: &str,
    out: &str,
    job_more: &str,
    promise: Promise,
    own: Option<FilterSpec>,
) -> Bench {
    let (mut registry, prover) = registry_and_prover();
    let job = match own {
        None => job(job_more),
        Some(spec) => {
            registry.register(spec).unwrap();
            let features = crate::Source::new("features.toml", "a = [0.0, 1.0]\n");
            let source = crate::Source::new("job.toml", crate::testing::job_text(job_more));
            crate::Job::parse(&source, Some(&features), std::path::Path::new(""), &registry)
                .unwrap()
        }
    };
    let policy = policy(unit, out, "");
    let ledger = ledger(&policy);
    let log = Arc::new(Log::default());
    let gate = SiteGate::new(
        Arc::new(policy),
        Arc::new(registry),
        ledger.clone(),
        log.clone(),
        Outbox::new(Store::in_memory().unwrap()),
    )
    .unwrap();
    let offer = Offer { run: "r".into(), job: String::new(), features: None, rounds: None };
    let lane = gate.open(&offer, &job, &promise, "local").unwrap();
    Bench { lane, ledger, log, prover }
}

fn record_bench() -> Bench {
    bench("record", NOISE, "", promise(Some(bound())), None)
}

fn task(round: u32) -> Arrived {
    let scalar = Tensor::new(Shape::new(vec![]).unwrap(), Values::F32(vec![0.5])).unwrap();
    let tensors =
        [("bias".to_owned(), scalar), ("weight".to_owned(), Tensor::vector(vec![1.0, -1.0]))];
    let message =
        Message::new("train", DataKind::Weights, Content::Plain(Tensors::from_iter(tensors)));
    let encoded = envelope::encode(message, round, None, None).unwrap();
    let body: Vec<u8> = encoded.body.iter().flat_map(|piece| piece.to_vec()).collect();
    Arrived::new(&encoded.head, &body).unwrap()
}

fn sums(prover: &Prover) -> Message {
    let tensor = |dims: Vec<u64>, values: Vec<i64>| {
        LatticeTensor::new(Shape::new(dims).unwrap(), values).unwrap()
    };
    let tensors = BTreeMap::from([
        ("bias".to_owned(), tensor(vec![], vec![7])),
        ("weight".to_owned(), tensor(vec![2], vec![8, 9])),
    ]);
    let lattice = Lattice::proven(prover, tensors, bound());
    Message::new("train", DataKind::Gradient, Content::Lattice(lattice))
}

fn states(bench: &Bench) -> Vec<EntryState> {
    let statement = bench.ledger.statement("ct").unwrap();
    statement.entries.iter().map(|entry| entry.state).collect()
}

fn answer(bench: &Bench, round: u32, result: TaskResult) -> Result<Released, Refusal> {
    let cancel = Cancel::default();
    let (_, ticket) = bench.lane.begin(task(round), &cancel)?;
    bench.lane.release(ticket, result, &cancel)
}

/// A seal that notes what it is asked.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<[u8; 32]>>>);

impl SiteSeal for Notes {
    fn frame(&mut self, frame: &[u8]) -> Result<Reply, Reason> {
        let note = match frame {
            b"complaint" => Some(Note::Complaint(Reason::new(Code::BadShare, "of `east`"))),
            b"" => Some(Note::Verified),
            _ => None,
        };
        let bytes = if frame == b"taken" { Vec::new() } else { frame.to_vec() };
        Ok(Reply { bytes, note })
    }

    fn begin(&mut self, task: [u8; 32], _: &[u8], _: &Schema) -> Result<(), Reason> {
        self.0.lock().unwrap().push(task);
        Ok(())
    }

    fn seal(&mut self, update: Lattice, weight: f64) -> Result<Sealed, Reason> {
        let schema = update.schema(update.dtype());
        // The weight is under the seal.
        let body = vec![weight as u32];
        Ok(Sealed { step: update.step(), schema, statement: vec![1], body, digest: [9; 32] })
    }
}

fn sealed_task(round: u32, session: Option<Vec<u8>>) -> Arrived {
    let Content::Plain(tensors) = task(round).content().clone() else { panic!("plain") };
    let message = Message::new("train", DataKind::Weights, Content::Plain(tensors));
    let encoded = envelope::encode(message, round, None, session).unwrap();
    Arrived::new(&encoded.head, &encoded.body.concat()).unwrap()
}

/// Under a seal: no session, no answer; what leaves is sealed, its weight too; a round that did not open
/// is answered anew in another session, and paid for anew; frames have a quota.
#[test]
fn a_sealed_lane_seals_and_may_be_asked_again() {
    let (registry, prover) = registry_and_prover();
    let protect = r#"protect = { scheme = "threshold", min-sites = 4 }"#;
    let policy = policy("record", NOISE, protect);
    let records = policy.datasets.values().next().unwrap().records;
    let ledger = ledger(&policy);
    let outbox = Outbox::new(Store::in_memory().unwrap());
    let log = Arc::new(Log::default());
    let gate =
        SiteGate::new(Arc::new(policy), Arc::new(registry), ledger.clone(), log.clone(), outbox);
    let gate = gate.unwrap();
    let offer = Offer { run: "r".into(), job: "a".into(), features: None, rounds: None };
    let open = |offer: &Offer| {
        let lane = gate.open(offer, &job(""), &promise(Some(bound())), "local").unwrap();
        let notes = Notes::default();
        (lane.sealed_by(Box::new(notes.clone())), notes)
    };
    let (lane, notes) = open(&offer);
    let cancel = Cancel::default();
    let refused = lane.begin(sealed_task(1, None), &cancel).err().unwrap();
    assert_eq!(refused.code, Code::WrongContent);

    let coarse = lane.chain().promise().bound.unwrap();
    let answer = || {
        let Content::Lattice(lattice) = sums(&prover).content else { panic!("a lattice") };
        let lattice = Lattice::proven(&prover, lattice.tensors().clone(), coarse);
        let content = Content::Lattice(lattice);
        TaskResult::done(Message::new("train", DataKind::Gradient, content))
    };
    for session in 1..=2u8 {
        let (_, ticket) = lane.begin(sealed_task(1, Some(vec![session])), &cancel).unwrap();
        let parcel = lane.release(ticket, answer(), &cancel).unwrap().handover().unwrap();
        let head = Head::decode(parcel.head()).unwrap();
        assert!(head.is_sealed());
        assert_eq!((head.header.weight, &head.header.seal), (1.0, &Some(vec![1])));
        assert_eq!(parcel.body().concat(), (records as u32).to_le_bytes());
        assert_eq!(head.header.receipt.unwrap().trust.as_deref(), Some("ca-trusted"));
    }
    let statement = ledger.statement("ct").unwrap();
    assert_eq!(statement.entries.len(), 2, "each session is paid for");

    // Another job of the same run, task and session is another thing to seal for.
    let (other, others) = open(&Offer { job: "b".into(), ..offer });
    drop(other.begin(sealed_task(1, Some(vec![1])), &cancel).unwrap());
    let seen = notes.0.lock().unwrap().clone();
    assert!(seen[0] != seen[1] && !seen.contains(&others.0.lock().unwrap()[0]));

    // What left is in the log, and what came of it; that a piece was taken is nothing that left.
    let seen = log.0.lock().unwrap().len();
    for frame in [&b"hello"[..], b"complaint", b"", b"taken"] {
        lane.frame(frame).unwrap().handover().unwrap();
    }
    let entries = log.0.lock().unwrap().split_off(seen);
    let events: Vec<_> = entries.iter().map(|entry| entry.event.as_str()).collect();
    assert_eq!(events, ["frame", "refuse", "verified"]);
    assert_eq!(entries[1].refusal.as_ref().unwrap().detail, "of `east`");

    let (quota, bytes) = lane.quota();
    assert!((4..quota).all(|_| lane.frame(b"hello").is_ok()));
    assert_eq!(lane.frame(b"hello").err().unwrap().code, Code::TooLarge);
    assert!(other.frame(&vec![0; bytes + 1]).is_err());
}

/// The disk under ledger and outbox dies at every operation of two rounds. Whatever bytes were handed
/// over are paid for when the machine comes up, and are kept to be sent again as they are.
#[test]
fn bytes_that_left_are_paid_for_and_kept_whenever_the_disk_dies() {
    let promise = promise(Some(bound()));
    let (registry, prover) = registry_and_prover();
    let registry = Arc::new(registry);
    let policy = Arc::new(policy("record", NOISE, ""));
    let lane = |store: Store| -> Result<(Lane, Arc<dyn Ledger>), Reason> {
        let clock = Arc::new(privet_core::clock::SystemClock);
        let ledger: Arc<dyn Ledger> = Arc::new(privet_dp::SiteLedger::open(store.clone(), clock)?);
        let log = Arc::new(Log::default());
        let outbox = Outbox::new(store);
        let gate = SiteGate::new(policy.clone(), registry.clone(), ledger.clone(), log, outbox)?;
        let offer = Offer { run: "r".into(), job: String::new(), features: None, rounds: None };
        let lane = gate.open(&offer, &job(""), &promise, "local").unwrap();
        Ok((lane, ledger))
    };
    let healthy = Disk::healthy();
    drop(Store::on(healthy.clone()).unwrap());
    for operations in 1.. {
        let disk = healthy.dying_after(operations);
        let mut left: Vec<Vec<u8>> = Vec::new();
        let mut run = || -> Option<()> {
            let (lane, _) = lane(Store::on(disk.clone()).ok()?).ok()?;
            let cancel = Cancel::default();
            for round in 1..=2 {
                let (_, ticket) = lane.begin(task(round), &cancel).ok()?;
                let released = lane.release(ticket, TaskResult::done(sums(&prover)), &cancel);
                left.push(released.ok()?.handover().ok()?.body().concat());
            }
            Some(())
        };
        let ended = run();
        for chance in 0..3 {
            let (lane, ledger) = lane(Store::on(disk.survivor(chance)).unwrap()).unwrap();
            let entries = ledger.statement("ct").unwrap().entries;
            let paid = entries.iter().filter(|e| e.state == EntryState::Committed).count();
            assert!(paid >= left.len(), "{operations}: {paid} paid, {} left", left.len());
            if let Some(last) = left.last() {
                let round = left.len() as u32;
                let kept = |round| lane.kept(round, task(round).identity).unwrap();
                match kept(round) {
                    Some(kept) => assert_eq!(kept.body().concat(), *last, "{operations}"),
                    // They make room when the next round's are kept.
                    None => assert!(kept(round + 1).is_some(), "{operations}"),
                }
            }
        }
        if ended.is_some() {
            return;
        }
    }
}

#[test]
fn bytes_come_after_the_commitment_and_the_audit_line() {
    let bench = record_bench();
    let released = answer(&bench, 1, TaskResult::done(sums(&bench.prover))).unwrap();
    assert_eq!(states(&bench), [EntryState::Reserved]);
    let parcel = released.handover().unwrap();
    assert_eq!(states(&bench), [EntryState::Committed]);
    let log = bench.log.0.lock().unwrap();
    let entry = log.last().unwrap();
    assert_eq!((entry.event.as_str(), entry.left.len(), entry.bytes), ("release", 2, parcel.len()));
    assert!((entry.sigma.unwrap() - 2.0).abs() < 1e-6);
    let head = Head::decode(parcel.head()).unwrap();
    assert_eq!(head.header.weight, 100.0);
    let receipt = head.header.receipt.unwrap();
    assert_eq!((receipt.noise_multiplier, receipt.clip), (Some(4.0), Some(0.5)));
    assert!(receipt.epsilon_spent.unwrap() > 0.9);
}

#[test]
fn a_retry_sends_the_same_bytes_and_pays_once() {
    let bench = record_bench();
    let parcel =
        answer(&bench, 1, TaskResult::done(sums(&bench.prover))).unwrap().handover().unwrap();
    let kept = bench.lane.kept(1, task(1).id()).unwrap().unwrap();
    assert_eq!(kept.head(), parcel.head());
    assert_eq!(kept.body().concat(), parcel.body().concat());
    assert!(bench.lane.kept(2, task(2).id()).unwrap().is_none());
    assert_eq!(states(&bench), [EntryState::Committed]);
    answer(&bench, 2, TaskResult::done(sums(&bench.prover))).unwrap().handover().unwrap();
    assert!(bench.lane.kept(1, task(1).id()).unwrap().is_none(), "the server has moved on");
}

/// A server may ask for the last task again, and for no other of that round or before.
#[test]
fn an_answered_round_is_not_answered_to_another_task() {
    let bench = record_bench();
    answer(&bench, 2, TaskResult::done(sums(&bench.prover))).unwrap().handover().unwrap();
    let code = |arrived| bench.lane.begin(arrived, &Cancel::default()).err().map(|r| r.code);
    assert_eq!(code(task(1)), Some(Code::RoundsMax));
    assert_eq!(code(task(2)), None);
    let mut other = task(2);
    other.identity = task(3).id();
    assert_eq!(code(other), Some(Code::RoundsMax));
}

#[test]
fn nothing_is_spent_until_noise_is_drawn() {
    let bench = record_bench();
    let failed = answer(&bench, 1, TaskResult::failed("the note")).err().unwrap();
    assert_eq!((failed.code, failed.detail.as_str()), (Code::ExecutorFailed, "the note"));
    assert_eq!(states(&bench), [EntryState::Released]);
    // Drawn and not handed over: spent.
    drop(answer(&bench, 2, TaskResult::done(sums(&bench.prover))).unwrap());
    assert_eq!(states(&bench)[1], EntryState::Committed);
}

#[test]
fn the_budget_refuses_before_training() {
    let bench = record_bench();
    for round in 1..=20 {
        answer(&bench, round, TaskResult::done(sums(&bench.prover))).unwrap().handover().unwrap();
    }
    let late = bench.lane.begin(task(21), &Cancel::default()).err().unwrap();
    assert_eq!(late.code, Code::RoundsMax);
    // ε 6 pays 27 rounds of z = 4; a second run of the job gets the seven that are left.
    let offer = Offer { run: "again".into(), job: String::new(), features: None, rounds: None };
    let lane = bench.lane.gate.open(&offer, &job(""), &promise(Some(bound())), "local").unwrap();
    for round in 1..=7 {
        let (_, ticket) = lane.begin(task(round), &Cancel::default()).unwrap();
        let done = TaskResult::done(sums(&bench.prover));
        lane.release(ticket, done, &Cancel::default()).unwrap().handover().unwrap();
    }
    let refused = lane.begin(task(8), &Cancel::default()).err().unwrap();
    assert_eq!((refused.code, refused.stage), (Code::BudgetExhausted, Stage::Job));
}

/// Every way in which an executor can misbehave is a refusal of its own.
#[test]
fn answers_that_were_not_promised_are_refused() {
    let bench = bench("site", r#"[{ filter = "schema" }]"#, "", promise(None), None);
    let scalar = |x: f32| Tensor::new(Shape::new(vec![]).unwrap(), Values::F32(vec![x])).unwrap();
    let good = || {
        let tensors = [
            ("bias".to_owned(), scalar(0.0)),
            ("weight".to_owned(), Tensor::vector(vec![1.0, 2.0])),
        ];
        Message::new("train", DataKind::WeightDiff, Content::Plain(Tensors::from_iter(tensors)))
    };
    let with = |name: &str, tensor: Tensor| {
        let mut message = good();
        if let Content::Plain(tensors) = &mut message.content {
            tensors.0.insert(name.into(), tensor);
        }
        TaskResult::done(message)
    };
    let relabelled = |change: fn(&mut Message)| {
        let mut message = good();
        change(&mut message);
        TaskResult::done(message)
    };
    let mut with_payload = TaskResult::failed("x");
    with_payload.message = Some(good());
    let mut without = TaskResult::done(good());
    without.message = None;
    let doubles = Tensor::new(Shape::new(vec![2]).unwrap(), Values::F64(vec![0.0; 2])).unwrap();
    let missing = relabelled(|message| {
        if let Content::Plain(tensors) = &mut message.content {
            tensors.0.remove("bias");
        }
    });
    let cases = [
        (with_payload, Code::ErrorWithPayload),
        (without, Code::MissingPayload),
        (relabelled(|m| m.kind = DataKind::Metrics), Code::UnexpectedKind),
        (relabelled(|m| m.task = "validate".into()), Code::UnexpectedTask),
        (relabelled(|m| m.content = Content::Empty), Code::WrongContent),
        (relabelled(|m| m.content = Content::Statistics(BTreeMap::new())), Code::WrongContent),
        (relabelled(|m| m.metrics = BTreeMap::from([("auc".into(), 0.5)])), Code::MetricRefused),
        (with("weight", Tensor::vector(vec![f32::NAN, 0.0])), Code::NotFinite),
        (with("weight", Tensor::vector(vec![0.0; 3])), Code::ShapeMismatch),
        (with("weight", scalar(1.0)), Code::ShapeMismatch),
        (with("weight", doubles), Code::DtypeMismatch),
        (with("extra", scalar(1.0)), Code::UnknownTensor),
        (missing, Code::MissingTensor),
    ];
    for (round, (result, code)) in (1..).zip(cases) {
        let refused = answer(&bench, round, result).err().unwrap();
        assert_eq!(refused.code, code);
        assert_eq!(refused.on_wire(), Code::Withheld);
    }
    assert!(answer(&bench, 20, TaskResult::done(good())).is_ok());
}

#[test]
fn a_promise_of_a_proof_must_be_kept() {
    let bench = record_bench();
    let mut unproved = sums(&bench.prover);
    if let Content::Lattice(lattice) = unproved.content {
        unproved.content = Content::Lattice(lattice.map::<()>(|_| Ok(())).unwrap());
    }
    let refused = answer(&bench, 1, TaskResult::done(unproved)).err().unwrap();
    assert_eq!(refused.code, Code::MissingSensitivity);
    assert_eq!(states(&bench), [EntryState::Released]);
}

fn job_filter(name: &str) -> String {
    format!("[[filter]]\ntask = [\"train\"]\nat = \"out\"\nfilter = \"{name}\"\n")
}

#[test]
fn a_panicking_filter_refuses_and_the_gate_lives_on() {
    struct Panics;
    impl Filter for Panics {
        fn plan(&self, flow: privet_core::flow::Flow) -> Result<privet_core::flow::Flow, Reason> {
            Ok(flow)
        }
        fn apply(&self, _: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
            panic!("a bug")
        }
        fn describe(&self) -> String {
            String::new()
        }
    }
    let spec = FilterSpec::new("panics", "", |_, _| Ok(Box::new(Panics)));
    let bench = bench("record", NOISE, &job_filter("panics"), promise(Some(bound())), Some(spec));
    for round in 1..=2 {
        let refused = answer(&bench, round, TaskResult::done(sums(&bench.prover))).err().unwrap();
        assert_eq!(
            (refused.code, refused.filter.as_deref()),
            (Code::FilterPanicked, Some("panics"))
        );
    }
    assert_eq!(states(&bench), [EntryState::Released; 2]);
}

/// A job's filter that puts other numbers back in loses the proof, and with it the release.
#[test]
fn an_undo_filter_does_not_get_past_the_site() {
    struct Undo;
    impl Filter for Undo {
        fn plan(&self, flow: privet_core::flow::Flow) -> Result<privet_core::flow::Flow, Reason> {
            Ok(flow) // lies: it keeps the bound
        }
        fn apply(
            &self,
            mut message: Message,
            _: &mut FilterContext<'_>,
        ) -> Result<Message, Reason> {
            if let Content::Lattice(lattice) = message.content {
                let raw = lattice.map::<Reason>(|values| {
                    values.fill(1_000_000_000);
                    Ok(())
                });
                message.content = Content::Lattice(raw?);
            }
            Ok(message)
        }
        fn describe(&self) -> String {
            String::new()
        }
    }
    let spec = FilterSpec::new("undo", "", |_, _| Ok(Box::new(Undo)));
    let bench = bench("record", NOISE, &job_filter("undo"), promise(Some(bound())), Some(spec));
    let refused = answer(&bench, 1, TaskResult::done(sums(&bench.prover))).err().unwrap();
    assert_eq!(refused.code, Code::MissingSensitivity);
    assert_eq!(refused.filter.as_deref(), Some("gaussian"));
}

#[test]
fn a_refusal_is_audited_whole_and_leaves_as_a_code() {
    let bench = record_bench();
    let refusal = answer(&bench, 1, TaskResult::failed("a note")).err().unwrap();
    let released = bench.lane.gate.refuse(&refusal, Some("demo"));
    let status = released.handover().unwrap().status();
    let expected =
        Status::Refused { stage: Stage::TaskResult, round: Some(1), code: Code::Withheld };
    assert_eq!(status, Some(expected));
    let log = bench.log.0.lock().unwrap();
    let entry = log.last().unwrap();
    assert_eq!(entry.refusal.as_ref().unwrap().detail, "a note");
}

#[test]
fn a_task_must_be_the_jobs() {
    let bench = record_bench();
    let code =
        |arrived: Arrived| bench.lane.begin(arrived, &Cancel::default()).err().map(|r| r.code);
    let mut other = task(1);
    other.header.task = "psi".into();
    assert_eq!(code(other), Some(Code::UnexpectedTask));
    let mut other = task(1);
    other.header.kind = DataKind::Gradient;
    assert_eq!(code(other), Some(Code::UnexpectedKind));
    let mut other = task(1);
    other.header.schema.0.remove("bias");
    assert_eq!(code(other), Some(Code::ShapeMismatch));
    assert_eq!(code(task(0)), Some(Code::RoundsMax));
    assert_eq!(states(&bench), []);
}

/// Two jobs through one gate on one data set, with room for seven rounds.
#[test]
fn two_jobs_race_for_seven_rounds_and_release_exactly_seven() {
    let bench = record_bench();
    // 20 of the 27 rounds that ε 6 pays are gone.
    for round in 1..=20 {
        let done = TaskResult::done(sums(&bench.prover));
        answer(&bench, round, done).unwrap().handover().unwrap();
    }
    let released = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for run in ["a", "b"] {
            let (bench, released) = (&bench, &released);
            scope.spawn(move || {
                let offer =
                    Offer { run: run.into(), job: String::new(), features: None, rounds: None };
                let lane = bench
                    .lane
                    .gate
                    .open(&offer, &job(""), &promise(Some(bound())), "local")
                    .unwrap();
                for round in 1..=20 {
                    let Ok((_, ticket)) = lane.begin(task(round), &Cancel::default()) else {
                        break;
                    };
                    let done = TaskResult::done(sums(&bench.prover));
                    lane.release(ticket, done, &Cancel::default()).unwrap().handover().unwrap();
                    released.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(released.into_inner(), 7);
    assert_eq!(states(&bench), [EntryState::Committed; 27]);
}

proptest::proptest! {
    /// Whatever an executor answers, either exactly the promised tensors leave with noise and are
    /// paid for, or nothing leaves and nothing is.
    #[test]
    fn what_leaves_is_promised_noised_and_paid(
        status: bool,
        payload: bool,
        kind in 0usize..6,
        shape in 0u64..4,
        proved: bool,
        name in "(weight|bias|x)",
    ) {
        let bench = record_bench();
        let values = vec![1_000; shape as usize];
        let tensor = LatticeTensor::new(Shape::new(vec![shape]).unwrap(), values).unwrap();
        let scalar = LatticeTensor::new(Shape::new(vec![]).unwrap(), vec![5]).unwrap();
        let tensors = BTreeMap::from([("bias".to_owned(), scalar), (name.clone(), tensor)]);
        let lattice = match proved {
            true => {
                Lattice::proven(&bench.prover, tensors, bound())
            }
            false => Lattice::new(bound().step, tensors),
        };
        let message = Message::new("train", DataKind::ALL[kind], Content::Lattice(lattice));
        let result = TaskResult {
            status: if status { TaskStatus::Done } else { TaskStatus::Failed },
            message: payload.then_some(message),
            note: String::new(),
        };
        let honest = status && payload && proved && shape == 2 && name == "weight"
            && DataKind::ALL[kind] == DataKind::Gradient;
        match answer(&bench, 1, result) {
            Ok(released) => {
                proptest::prop_assert!(honest);
                let parcel = released.handover().unwrap();
                let arrived = Arrived::new(parcel.head(), &parcel.body().concat()).unwrap();
                let Content::Lattice(left) = arrived.content() else { panic!("a lattice leaves") };
                proptest::prop_assert!(left.tensors()["weight"].values() != [1_000, 1_000]);
                proptest::prop_assert_eq!(states(&bench), [EntryState::Committed]);
            }
            Err(_) => {
                proptest::prop_assert!(!honest);
                proptest::prop_assert_eq!(states(&bench), [EntryState::Released]);
            }
        }
    }
}
