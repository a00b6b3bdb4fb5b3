//! Executors and filters that misbehave, over the real server, sites, gates and network. That
//! nothing arrived is what the server counts, not what a gate says.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::path::Path;
use std::sync::{Arc, Mutex};

use privet::core::executor::{Executor, TaskResult, TaskStatus};
use privet::core::flow::Promise;
use privet::core::tensor::Shape;
use privet::gate::{Dataset, Job, Workload};
use privet::prelude::*;
use serde_json::Value;

/// Changes what the built-in trainer answers.
type Spoil = fn(TaskResult) -> TaskResult;

struct Spoilt {
    inner: Arc<dyn Workload>,
    spoil: Spoil,
}

impl Workload for Spoilt {
    fn promise(&self, job: &Job) -> Result<Promise, Reason> {
        self.inner.promise(job)
    }
    fn initial(&self, job: &Job) -> Result<Tensors, Reason> {
        self.inner.initial(job)
    }
    fn executor(
        &self,
        job: &Job,
        dataset: &Dataset,
        promise: &Promise,
    ) -> Result<Box<dyn Executor>, Reason> {
        let inner = self.inner.executor(job, dataset, promise)?;
        let spoil = self.spoil;
        Ok(Box::new(SpoiltExecutor { inner, spoil }))
    }
    fn evaluator(&self, job: &Job, data: &Path) -> Result<Box<dyn Executor>, Reason> {
        self.inner.evaluator(job, data)
    }
}

struct SpoiltExecutor {
    inner: Box<dyn Executor>,
    spoil: Spoil,
}

impl Executor for SpoiltExecutor {
    fn execute(&mut self, task: &Message, cancel: &Cancel) -> TaskResult {
        (self.spoil)(self.inner.execute(task, cancel))
    }
}

struct Ran {
    exit_code: u8,
    result: Value,
    /// What the server wrote down.
    server: String,
    _folder: tempfile::TempDir,
}

impl Ran {
    fn bytes_up(&self) -> u64 {
        let sites = self.result["sites"].as_array().unwrap();
        sites.iter().map(|site| site["bytes_up"].as_u64().unwrap()).sum()
    }

    /// Codes that the owners see.
    fn owners(&self) -> Vec<String> {
        let refusals = self.result["error"]["refusals"].as_array().unwrap();
        let mut codes: Vec<_> =
            refusals.iter().map(|r| r["code"].as_str().unwrap().to_owned()).collect();
        codes.dedup();
        codes
    }
}

/// The hospitals, all five needed, two rounds; `edit` changes every site's policy and the job.
fn run(program: Program, edit: impl Fn(&str, String) -> String) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let demo = folder.path().join("demo");
    privet::init("hospitals", &demo, 1).unwrap();
    let mut files = vec!["job.toml".to_owned()];
    files.extend(["central", "east", "north", "south", "west"].map(|s| format!("sites/{s}.toml")));
    for file in files {
        let text = std::fs::read_to_string(demo.join(&file)).unwrap();
        // Without the seal, what leaves a gate can be looked at.
        let lines = text.lines().filter(|line| !line.starts_with("protect"));
        let text = lines.fold(String::new(), |text, line| text + line + "\n");
        let text =
            text.replace("min-sites = 4", "min-sites = 5").replace("rounds = 20", "rounds = 2");
        std::fs::write(demo.join(&file), edit(&file, text)).unwrap();
    }
    let options = RunOptions {
        job: demo.join("job.toml"),
        workspace: Some(folder.path().join("workspace")),
        ..RunOptions::default()
    };
    let result = privet::run(program, &options, &Cancel::default(), |_| ()).unwrap();
    let server =
        std::fs::read_to_string(folder.path().join("workspace/server/outcome.json")).unwrap();
    Ran {
        exit_code: result.exit_code,
        result: serde_json::to_value(result).unwrap(),
        server,
        _folder: folder,
    }
}

fn spoilt(spoil: Spoil) -> Program {
    Program::new().workload(|inner| Arc::new(Spoilt { inner, spoil }))
}

/// By site: plain weight differences, clipped and noised by the gate.
fn by_site(file: &str, text: String) -> String {
    match file {
        "job.toml" => text.replace("record-clip = 0.5", ""),
        _ => text.replace("unit = \"record\"", "unit = \"site\"").replace(
            "{ filter = \"gaussian\"",
            "{ filter = \"clip\", l2 = 1.0 },\n  { filter = \"gaussian\"",
        ),
    }
}

fn plain(result: &mut TaskResult) -> &mut Tensors {
    match result.message.as_mut().map(|message| &mut message.content) {
        Some(Content::Plain(tensors)) => tensors,
        _ => panic!("plain tensors were expected"),
    }
}

#[test]
fn the_honest_executor_gets_through_in_both_units() {
    let ran = run(Program::new(), |_, text| text);
    assert_eq!(ran.exit_code, 0);
    assert!(ran.bytes_up() > 0);
    let ran = run(Program::new(), by_site);
    assert_eq!(ran.exit_code, 0, "{}", ran.result["error"]);
    assert!(ran.bytes_up() > 0);
}

/// Each way out that another toolkit left open; all sites needed, so each breaks the run.
#[test]
fn nothing_arrives_from_an_executor_that_misbehaves() {
    let cases: [(Spoil, &str); 10] = [
        // Weights relabelled as another kind.
        (
            |mut r| {
                if let Some(m) = &mut r.message {
                    m.kind = DataKind::Metrics
                }
                r
            },
            "unexpected-kind",
        ),
        (
            |mut r| {
                if let Some(m) = &mut r.message {
                    m.kind = DataKind::Weights
                }
                r
            },
            "unexpected-kind",
        ),
        // Payloads that are no tensors.
        (
            |mut r| {
                if let Some(m) = &mut r.message {
                    m.content = Content::Empty
                }
                r
            },
            "wrong-content",
        ),
        (
            |mut r| {
                let norm = plain(&mut r).l2();
                if let Some(m) = &mut r.message {
                    m.content = Content::Statistics([("norm".to_owned(), norm)].into());
                }
                r
            },
            "wrong-content",
        ),
        // An error status with a payload, and its opposite.
        (
            |mut r| {
                r.status = TaskStatus::Failed;
                r
            },
            "error-with-payload",
        ),
        (
            |mut r| {
                r.message = None;
                r
            },
            "missing-payload",
        ),
        // A 0-d tensor beside the model's, and one in the place of the model's.
        (
            |mut r| {
                let scalar =
                    Tensor::new(Shape::new(vec![]).unwrap(), Values::F32(vec![42.0])).unwrap();
                plain(&mut r).0.insert("extra".into(), scalar);
                r
            },
            "unknown-tensor",
        ),
        (
            |mut r| {
                let scalar =
                    Tensor::new(Shape::new(vec![]).unwrap(), Values::F32(vec![42.0])).unwrap();
                plain(&mut r).0.insert("bias".into(), scalar);
                r
            },
            "shape-mismatch",
        ),
        // A measurement on private data.
        (
            |mut r| {
                if let Some(m) = &mut r.message {
                    m.metrics.insert("auc".into(), 0.87);
                }
                r
            },
            "metric-refused",
        ),
        (|_| panic!("secret: 42.4242"), "executor-failed"),
    ];
    for (spoil, code) in cases {
        let ran = run(spoilt(spoil), by_site);
        assert_eq!(ran.bytes_up(), 0, "{code}");
        assert_eq!(ran.exit_code, 3, "{code}: {}", ran.result["error"]);
        assert_eq!(ran.owners(), [code]);
        assert_eq!(ran.result["error"]["code"], "withheld", "{code}");
        // The server knows a code and nothing else.
        let server: Value = serde_json::from_str(&ran.server).unwrap();
        let refusals = server["error"]["refusals"].as_array().unwrap();
        assert!(
            refusals.iter().all(|r| r["detail"] == "" && r["code"] == "withheld"),
            "{}",
            ran.server
        );
        assert!(!ran.server.contains("42.4242"));
    }
}

/// Whether an update holds NaN depends on the data. Where noise is paid for, it counts as no update and
/// leaves as noise, so that nobody can tell; where nothing is promised, it is refused.
#[test]
fn an_update_with_nan_is_noise_or_nothing() {
    let nan = || {
        spoilt(|mut r| {
            plain(&mut r).0.insert("bias".into(), Tensor::vector(vec![f32::NAN]));
            r
        })
    };
    let paid = run(nan(), by_site);
    assert_eq!(paid.exit_code, 0, "{}", paid.result["error"]);
    assert!(paid.bytes_up() > 0);
    let unpaid = run(nan(), |file, text| {
        let text = by_site(file, text);
        match text.split_once("out = [") {
            None => text,
            Some((before, rest)) => {
                let (_, after) = rest.split_once("\n]\n").unwrap();
                format!("{before}out = \"danger-unfiltered\"\n{after}")
            }
        }
    });
    assert_eq!((unpaid.bytes_up(), unpaid.owners()), (0, vec!["not-finite".to_owned()]));
    assert_eq!(unpaid.result["error"]["code"], "withheld");
}

/// What an executor writes into `weight` does not leave.
#[test]
fn a_weight_is_the_declared_one() {
    let ran = run(
        spoilt(|mut r| {
            if let Some(message) = &mut r.message {
                message.weight = 1e30;
            }
            r
        }),
        |_, text| text,
    );
    assert_eq!(ran.exit_code, 0);
    assert!(ran.result["final"]["loss"].as_f64().unwrap() < 1.0, "{}", ran.result["final"]);
}

/// Nor does what a filter of the job writes there; and a measurement that it adds is refused.
#[test]
fn a_filter_smuggles_nothing_out_beside_the_tensors() {
    struct Smuggles {
        metric: bool,
    }
    impl Filter for Smuggles {
        fn plan(&self, flow: Flow) -> Result<Flow, Reason> {
            Ok(flow)
        }
        fn apply(
            &self,
            mut message: Message,
            _: &mut FilterContext<'_>,
        ) -> Result<Message, Reason> {
            message.weight = 1e30;
            if self.metric {
                message.metrics.insert("sum".into(), 42.4242);
            }
            Ok(message)
        }
        fn describe(&self) -> String {
            "smuggles".to_owned()
        }
    }
    for metric in [false, true] {
        let build: privet::core::registry::Build = match metric {
            false => |_, _| Ok(Box::new(Smuggles { metric: false })),
            true => |_, _| Ok(Box::new(Smuggles { metric: true })),
        };
        let program = Program::new().filter(FilterSpec::new("smuggles", "", build)).unwrap();
        let ran = run(program, |file, text| match file {
            "job.toml" => text.replace(
                "[evaluation]",
                "[[filter]]\ntask = [\"train\"]\nat = \"out\"\nfilter = \"smuggles\"\n[evaluation]",
            ),
            _ => text,
        });
        if metric {
            assert_eq!((ran.exit_code, ran.bytes_up()), (3, 0));
            assert_eq!(ran.owners(), ["metric-refused"]);
        } else {
            assert_eq!(ran.exit_code, 0);
            assert!(ran.result["final"]["loss"].as_f64().unwrap() < 1.0, "{}", ran.result["final"]);
        }
    }
}

/// A filter that only claims to be noise, and cheap: it can neither price the flow nor take the
/// reservation, both of which need a prover.
#[test]
fn what_only_claims_to_be_noise_is_unpaid() {
    struct Claims;
    impl Filter for Claims {
        fn plan(&self, flow: Flow) -> Result<Flow, Reason> {
            assert!(flow.events().is_empty());
            Ok(flow)
        }
        fn apply(&self, message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
            Ok(message)
        }
        fn describe(&self) -> String {
            "claims".to_owned()
        }
    }
    let claims = FilterSpec::new("claims", "", |_, _| Ok(Box::new(Claims)));
    let ran = run(Program::new().filter(claims).unwrap(), |file, text| match file {
        "job.toml" => text,
        _ => text.replace(
            "{ filter = \"gaussian\", noise-multiplier = 4.0 }",
            "{ filter = \"claims\" }",
        ),
    });
    assert_eq!((ran.exit_code, ran.bytes_up()), (3, 0));
    assert_eq!(ran.result["error"]["code"], "unpaid-release");
}

static CAPTURED: Mutex<Option<Tensors>> = Mutex::new(None);

/// Keeps the model on its way in and puts it back in the place of the answer on its way out.
struct Undo {
    captures: bool,
}

impl Filter for Undo {
    fn plan(&self, flow: Flow) -> Result<Flow, Reason> {
        Ok(flow)
    }
    fn apply(&self, mut message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
        let mut captured = CAPTURED.lock().unwrap();
        match (&message.content, self.captures) {
            (Content::Plain(tensors), true) => *captured = Some(tensors.clone()),
            (_, false) => message.content = Content::Plain(captured.clone().unwrap_or_default()),
            _ => {}
        }
        Ok(message)
    }
    fn describe(&self) -> String {
        "undoes the site's filters".to_owned()
    }
}

#[test]
fn an_undo_filter_of_the_job_cannot_see_past_the_site() {
    let capture =
        FilterSpec::new("capture", "Captures.", |_, _| Ok(Box::new(Undo { captures: true })));
    let undo = FilterSpec::new("undo", "Undoes.", |_, _| Ok(Box::new(Undo { captures: false })));
    let program = Program::new().filter(capture).unwrap().filter(undo).unwrap();
    let ran = run(program, |file, text| match file {
        "job.toml" => text.replace(
            "[evaluation]",
            "[[filter]]\ntask = [\"train\"]\nat = \"in\"\nfilter = \"capture\"\n\
             [[filter]]\ntask = [\"train\"]\nat = \"out\"\nfilter = \"undo\"\n[evaluation]",
        ),
        _ => text,
    });
    assert_eq!((ran.exit_code, ran.bytes_up()), (3, 0));
    // The site's own filter, nearest the wire, refused what the job's filter put there.
    assert_eq!(ran.owners(), ["wrong-content"]);
    assert_eq!(ran.result["error"]["refusals"][0]["filter"], "gaussian");
}

/// A user's filter cannot vouch for a sensitivity: the prover stays with built-ins.
#[test]
fn a_users_filter_that_changes_numbers_loses_the_proof() {
    struct Scales;
    impl Filter for Scales {
        fn plan(&self, flow: Flow) -> Result<Flow, Reason> {
            Ok(flow)
        }
        fn apply(
            &self,
            mut message: Message,
            _: &mut FilterContext<'_>,
        ) -> Result<Message, Reason> {
            if let Content::Lattice(lattice) = message.content {
                let scaled = lattice.map::<Reason>(|values| {
                    values.iter_mut().for_each(|v| *v *= 1000);
                    Ok(())
                });
                message.content = Content::Lattice(scaled?);
            }
            Ok(message)
        }
        fn describe(&self) -> String {
            "scales".to_owned()
        }
    }
    let scales = FilterSpec::new("scales", "Scales.", |_, _| Ok(Box::new(Scales)));
    let ran = run(Program::new().filter(scales).unwrap(), |file, text| match file {
        "job.toml" => text.replace(
            "[evaluation]",
            "[[filter]]\ntask = [\"train\"]\nat = \"out\"\nfilter = \"scales\"\n[evaluation]",
        ),
        _ => text,
    });
    assert_eq!((ran.exit_code, ran.bytes_up()), (3, 0), "{}", ran.result["error"]);
    assert_eq!(ran.owners(), ["missing-sensitivity"]);
}

/// A site that is slower than the round's deadline drops out of the round, and the job goes on.
#[test]
fn a_slow_site_drops_out_of_its_rounds() {
    struct Slow(Arc<dyn Workload>);
    struct Sleeps(Box<dyn Executor>);
    impl Executor for Sleeps {
        fn execute(&mut self, task: &Message, cancel: &Cancel) -> TaskResult {
            std::thread::sleep(std::time::Duration::from_millis(1500));
            self.0.execute(task, cancel)
        }
    }
    impl Workload for Slow {
        fn promise(&self, job: &Job) -> Result<Promise, Reason> {
            self.0.promise(job)
        }
        fn initial(&self, job: &Job) -> Result<Tensors, Reason> {
            self.0.initial(job)
        }
        fn executor(
            &self,
            job: &Job,
            dataset: &Dataset,
            promise: &Promise,
        ) -> Result<Box<dyn Executor>, Reason> {
            let inner = self.0.executor(job, dataset, promise)?;
            Ok(match dataset.path.ends_with("west.csv") {
                true => Box::new(Sleeps(inner)),
                false => inner,
            })
        }
        fn evaluator(&self, job: &Job, data: &Path) -> Result<Box<dyn Executor>, Reason> {
            self.0.evaluator(job, data)
        }
    }
    let program = Program::new().workload(|inner| Arc::new(Slow(inner)));
    let ran = run(program, |_, text| {
        let text = text.replace("round-timeout = \"60s\"", "round-timeout = \"500ms\"");
        text.replace("min-sites = 5", "min-sites = 4")
    });
    assert_eq!(ran.exit_code, 0, "{}", ran.result["error"]);
    assert_eq!(ran.result["rounds"][0]["dropped"], serde_json::json!(["west"]));
    assert_eq!(ran.result["sites"][4]["rounds_dropped"], 2);
    // What it computed too late was noised and paid for; it is not given back.
    assert!(ran.result["sites"][4]["datasets"][0]["epsilon_spent"].as_f64().unwrap() > 0.0);
}
