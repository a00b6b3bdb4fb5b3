//! Reading a job file: its form as it is written, and what is wrong with it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use privet_core::Registry;
use privet_core::admission::Shown;
use privet_core::intersect::{Duplicates, NORMALISE, Protocol, Reveal, Wanted};
use privet_core::receipt::Demand;
use privet_core::sensitivity::Unit;
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{
    Average, Column, CurvePoint, Direction, Evaluation, ExecutorKind, Job, JobFilter, MAX_ROUNDS,
    Model, ModelKind, Schedule, ServerStep, Side, Simulate, SimulatedSite, Statistic, Train,
    Training, Work, WorkflowKind, one, parse_duration, tenth,
};
use crate::attestation::DemandAttested;
use crate::filter_use::{self, FilterTable};
use crate::finding::{Finding, Source, did_you_mean, parse};
use crate::policy::{Protect, TASKS, is_name};

mod file {
    //! The file as it is written.
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct File {
        pub schema: Spanned<u32>,
        pub job: Job,
        pub fedavg: Option<Spanned<Fedavg>>,
        pub model: Option<Spanned<Model>>,
        pub train: Option<Spanned<Train>>,
        pub statistics: Option<Spanned<Statistics>>,
        #[serde(default)]
        pub column: Vec<Spanned<Column>>,
        #[serde(default)]
        pub filter: Vec<FilterTable>,
        pub protect: Option<Protect>,
        #[serde(default)]
        pub demand: Demand,
        pub evaluation: Option<Evaluation>,
        pub psi: Option<Spanned<Psi>>,
        pub simulate: Option<Spanned<Simulate>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Job {
        pub name: Spanned<String>,
        pub workflow: Spanned<WorkflowKind>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Statistics {
        pub dataset: String,
        pub min_sites: u32,
        pub round_timeout: Option<Spanned<String>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Column {
        pub name: String,
        pub range: [f64; 2],
        pub ask: Vec<Statistic>,
        #[serde(default = "ten")]
        pub bins: u32,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Fedavg {
        pub rounds: u32,
        pub min_sites: u32,
        #[serde(default = "full")]
        pub sample: f64,
        pub round_timeout: Option<Spanned<String>>,
        #[serde(default = "full")]
        pub server_learning_rate: f64,
        #[serde(default)]
        pub server_momentum: f64,
        #[serde(default)]
        pub average: Average,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Model {
        pub kind: ModelKind,
        pub label: String,
        pub classes: Option<u32>,
        #[serde(default = "thirty_two")]
        pub hidden: u32,
        pub features: Option<PathBuf>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Train {
        #[serde(default)]
        pub executor: ExecutorKind,
        pub dataset: String,
        pub record_clip: Option<f64>,
        pub sampling_rate: Option<f64>,
        pub clip_quantile: Option<f64>,
        #[serde(default = "one")]
        pub local_steps: u32,
        pub batch: Option<u32>,
        #[serde(default = "tenth")]
        pub learning_rate: f64,
    }

    #[derive(Deserialize, Default)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Demand {
        #[serde(default)]
        pub sealed: bool,
        pub noise_multiplier_min: Option<f64>,
        pub epsilon_max: Option<f64>,
        pub attested: Option<DemandAttested>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Evaluation {
        pub data: PathBuf,
        pub label: String,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Psi {
        pub dataset: String,
        pub column: Vec<String>,
        #[serde(default)]
        pub normalise: Vec<String>,
        #[serde(default)]
        pub duplicates: Duplicates,
        #[serde(default)]
        pub reveal: Reveal,
        #[serde(default)]
        pub protocol: Protocol,
        #[serde(default)]
        pub malicious: bool,
        #[serde(default)]
        pub assurance: Assurance,
        #[serde(default)]
        pub pad: bool,
        #[serde(default)]
        pub rest: bool,
        pub round_timeout: Option<Spanned<String>>,
    }

    #[derive(Deserialize, Default, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    pub(super) enum Assurance {
        #[default]
        Standard,
        Conservative,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Simulate {
        pub sites: Vec<SimulatedSite>,
        #[serde(default = "first")]
        pub seed: u64,
        #[serde(default)]
        pub server_shows: Vec<Shown>,
        #[serde(default)]
        pub curve: Vec<Spanned<CurvePoint>>,
    }

    fn ten() -> u32 {
        10
    }
    fn full() -> f64 {
        1.0
    }
    fn thirty_two() -> u32 {
        32
    }
    fn first() -> u64 {
        1
    }
}

/// Names the features file of a job, where it has one.
pub(super) fn features_path(source: &Source) -> Result<Option<PathBuf>, Finding> {
    let file: file::File = parse(source)?;
    Ok(file.model.and_then(|model| model.into_inner().features))
}

/// Reads a job; `folder` is where its relative paths start.
pub(super) fn job(
    source: &Source,
    features: Option<&Source>,
    folder: &Path,
    registry: &Registry,
) -> Result<Job, Vec<Finding>> {
    let file: file::File = parse(source).map_err(|finding| vec![finding])?;
    let mut reader = Reader { source, registry, findings: Vec::new() };
    let job = reader.job(file, features, folder);
    match job {
        Some(job) if reader.findings.is_empty() => Ok(job),
        _ => Err(reader.findings),
    }
}

/// Reads a file, or says that it cannot be read.
pub(super) fn read_source(path: &Path) -> Result<Source, Vec<Finding>> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) => {
            let message = format!("the file cannot be read: {error}");
            Err(vec![Source::new(name, "").error("unreadable", message, 0..0)])
        }
    }
}

struct Reader<'a> {
    source: &'a Source,
    registry: &'a Registry,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn error(&mut self, code: &str, message: &str, span: Range<usize>, help: &str) {
        let finding = self.source.error(code, message, span);
        self.findings.push(finding.help(help));
    }

    fn section<T>(&mut self, section: Option<Spanned<T>>, name: &str) -> Option<Spanned<T>> {
        if section.is_none() {
            let message = format!("this workflow needs a section [{name}]");
            self.error("missing-key", &message, 0..0, "`privet init hospitals` writes an example");
        }
        section
    }

    fn job(&mut self, file: file::File, features: Option<&Source>, folder: &Path) -> Option<Job> {
        if *file.schema.get_ref() != 1 {
            let span = file.schema.span();
            self.error("unknown-schema", "this schema is not known", span, "write `schema = 1`");
        }
        if !is_name(file.job.name.get_ref()) {
            let message = "a job's name is made of letters, digits, `-`, `_` and `.`";
            self.error("invalid", message, file.job.name.span(), "for example `hospitals`");
        }
        let workflow = *file.job.workflow.get_ref();
        if let Some((message, help)) = file.protect.as_ref().and_then(Protect::problem) {
            let at = self.source.text.find("[protect]").unwrap_or(0);
            self.error("invalid", message, at..at + 9, help);
        }
        let filters = self.filters(&file.filter, workflow);
        let (schedule, dataset, work) = if workflow == WorkflowKind::Psi {
            self.foreign(&[
                ("fedavg", file.fedavg.is_some()),
                ("model", file.model.is_some()),
                ("train", file.train.is_some()),
                ("statistics", file.statistics.is_some()),
                ("column", !file.column.is_empty()),
                ("filter", !file.filter.is_empty()),
                ("protect", file.protect.is_some()),
                ("evaluation", file.evaluation.is_some()),
            ]);
            let psi = self.section(file.psi, "psi")?;
            self.intersection(psi)
        } else if workflow == WorkflowKind::Statistics {
            self.foreign(&[
                ("fedavg", file.fedavg.is_some()),
                ("model", file.model.is_some()),
                ("train", file.train.is_some()),
                ("evaluation", file.evaluation.is_some()),
                ("psi", file.psi.is_some()),
            ]);
            let statistics = self.section(file.statistics, "statistics")?;
            let work = Work::Statistics(self.columns(file.column, statistics.span()));
            let span = statistics.span();
            let file::Statistics { dataset, min_sites, round_timeout } = statistics.into_inner();
            (self.schedule(1, min_sites, 1.0, round_timeout, &span), dataset, work)
        } else {
            self.foreign(&[
                ("statistics", file.statistics.is_some()),
                ("column", !file.column.is_empty()),
                ("psi", file.psi.is_some()),
            ]);
            let fedavg = self.section(file.fedavg, "fedavg");
            let model = self.section(file.model, "model");
            let train = self.section(file.train, "train");
            let features = match features {
                Some(features) => self.features(features),
                None => BTreeMap::new(),
            };
            let (fedavg, model, train) = (fedavg?, model?, train?);
            if model.get_ref().features.is_none() || features.is_empty() {
                let message = "the built-in models need the public range of every feature";
                let help = "write `features = \"features.toml\"` with lines `column = [low, high]`";
                self.error("missing-key", message, model.span(), help);
            }
            let dataset = train.get_ref().dataset.clone();
            let (schedule, server) = self.fedavg(fedavg);
            let (model, train) = (self.model(model), self.train(train));
            let training = Training { server, model, train, features };
            (schedule, dataset, Work::Training(Box::new(training)))
        };
        let needed = schedule.min_sites;
        let simulate = file.simulate.map(|simulate| {
            let span = simulate.span();
            let simulate = simulate.into_inner();
            if simulate.sites.len() < needed as usize {
                let message = format!(
                    "{} sites are simulated, `min-sites` is {needed}",
                    simulate.sites.len()
                );
                self.error("invalid", &message, span.clone(), "list more sites, or need fewer");
            }
            let mut names: Vec<_> = simulate.sites.iter().map(|site| &site.name).collect();
            names.sort();
            names.dedup();
            if names.len() < simulate.sites.len() || !names.iter().all(|name| is_name(name)) {
                let message = "every simulated site needs a name of its own";
                self.error("invalid", message, span, "for example `north`");
            }
            for point in &simulate.curve {
                let (span, point) = (point.span(), point.get_ref());
                let numbers = [point.epsilon, point.clip, point.server_learning_rate];
                let positive = numbers.iter().all(|x| x.is_finite() && *x > 0.0);
                if !positive
                    || point.rounds == 0
                    || (point.unit, point.local_steps.min(2)) == (Unit::Record, 2)
                {
                    let message =
                        "a point of a curve needs numbers above 0, and one local step by record";
                    self.error("invalid", message, span, "see the example `hospitals`");
                }
            }
            Simulate {
                curve: simulate.curve.into_iter().map(Spanned::into_inner).collect(),
                sites: simulate
                    .sites
                    .into_iter()
                    .map(|site| SimulatedSite { policy: folder.join(site.policy), ..site })
                    .collect(),
                seed: simulate.seed,
                server_shows: simulate.server_shows,
            }
        });
        Some(Job {
            name: file.job.name.into_inner(),
            schedule,
            dataset,
            work,
            filters,
            protect: file.protect,
            demand: Demand {
                sealed: file.demand.sealed,
                noise_multiplier_min: file.demand.noise_multiplier_min,
                epsilon_max: file.demand.epsilon_max,
            },
            attested: file.demand.attested,
            evaluation: file.evaluation.map(|evaluation| Evaluation {
                data: folder.join(evaluation.data),
                label: evaluation.label,
            }),
            simulate,
            source: self.source.clone(),
        })
    }

    /// Sections that belong to another workflow.
    fn foreign(&mut self, sections: &[(&str, bool)]) {
        for (section, _) in sections.iter().filter(|(_, present)| *present) {
            let message = format!("this workflow has no section `{section}`");
            let at = self.source.text.find(&format!("[{section}]")).unwrap_or(0);
            self.error("unknown-key", &message, at..at + section.len() + 2, "leave it out");
        }
    }

    fn intersection(&mut self, psi: Spanned<file::Psi>) -> (Schedule, String, Work) {
        let span = psi.span();
        let psi = psi.into_inner();
        if psi.column.is_empty() {
            let help = "name the key columns, for example column = [\"email\"]";
            self.error("missing-key", "`column` names no column", span.clone(), help);
        }
        // `none` stands for no step at all.
        let mut normalise = psi.normalise;
        if normalise == ["none"] {
            normalise.clear();
        }
        for step in normalise.iter().filter(|step| !NORMALISE.contains(&step.as_str())) {
            let message = format!("there is no step `{step}`");
            let help = format!("steps are {}", NORMALISE.join(", "));
            self.error("unknown-value", &message, span.clone(), &help);
        }
        let timeout = psi.round_timeout;
        let mut schedule = self.schedule(1, 2, 1.0, None, &span);
        schedule.round_timeout = match timeout.map(|text| parse_duration(text.get_ref())) {
            None => Duration::from_secs(600),
            Some(Some(timeout)) => timeout,
            Some(None) => {
                let message = "`round-timeout` is no time";
                self.error("invalid", message, span, "for example \"120s\"");
                schedule.round_timeout
            }
        };
        let wanted = Wanted {
            columns: psi.column,
            normalise,
            duplicates: psi.duplicates,
            reveal: psi.reveal,
            protocol: psi.protocol,
            malicious: psi.malicious,
            conservative: psi.assurance == file::Assurance::Conservative,
            pad: psi.pad,
            rest: psi.rest,
        };
        (schedule, psi.dataset, Work::Intersection(wanted))
    }

    fn columns(&mut self, columns: Vec<Spanned<file::Column>>, whole: Range<usize>) -> Vec<Column> {
        if columns.is_empty() {
            let help = "write [[column]] with name, range and what to ask";
            self.error("missing-key", "statistics are of at least one column", whole, help);
        }
        let mut read: Vec<Column> = Vec::new();
        for column in columns {
            let span = column.span();
            let file::Column { name, range, ask, bins } = column.into_inner();
            let mut hold = |fine: bool, message: &str, help: &str| {
                if !fine {
                    self.error("invalid", message, span.clone(), help);
                }
            };
            let [low, high] = range;
            hold(
                low.is_finite() && high.is_finite() && low < high,
                "a column needs a finite public range, low before high",
                "for example [0.0, 120.0]",
            );
            hold(!ask.is_empty(), "`ask` is empty", "for example [\"mean\"]");
            hold(
                (1..=10_000).contains(&bins),
                "`bins` must lie between 1 and 10000",
                "for example 10",
            );
            let twice = read.iter().any(|column| column.name == name);
            hold(!twice, "the column is asked twice", "put all you ask of it in one [[column]]");
            let plain = !name.is_empty() && !name.contains('.');
            hold(plain, "a column's name has no `.`", "rename it in the table");
            read.push(Column { name, range, ask, bins });
        }
        read
    }

    fn schedule(
        &mut self,
        rounds: u32,
        min_sites: u32,
        sample: f64,
        round_timeout: Option<Spanned<String>>,
        span: &Range<usize>,
    ) -> Schedule {
        let mut hold = |fine: bool, message: &str, help: &str| {
            if !fine {
                self.error("invalid", message, span.clone(), help);
            }
        };
        hold(
            (1..=MAX_ROUNDS).contains(&rounds),
            "`rounds` must lie between 1 and a million",
            "for example 20",
        );
        hold(min_sites >= 1, "`min-sites` must be at least 1", "for example 3");
        hold(
            sample > 0.0 && sample <= 1.0,
            "`sample` must lie above 0 and be at most 1",
            "1.0 asks every site",
        );
        let round_timeout = match round_timeout {
            None => Some(Duration::from_secs(120)),
            Some(text) => parse_duration(text.get_ref()),
        };
        hold(
            round_timeout.is_some(),
            "`round-timeout` is no duration",
            "for example \"120s\" or \"10m\"",
        );
        let round_timeout = round_timeout.unwrap_or_default();
        Schedule { rounds, min_sites, sample, round_timeout }
    }

    fn fedavg(&mut self, fedavg: Spanned<file::Fedavg>) -> (Schedule, ServerStep) {
        let span = fedavg.span();
        let file = fedavg.into_inner();
        let schedule =
            self.schedule(file.rounds, file.min_sites, file.sample, file.round_timeout, &span);
        let mut hold = |fine: bool, message: &str, help: &str| {
            if !fine {
                self.error("invalid", message, span.clone(), help);
            }
        };
        hold(
            file.server_learning_rate.is_finite() && file.server_learning_rate > 0.0,
            "`server-learning-rate` must be finite and above 0",
            "for example 1.0",
        );
        hold(
            (0.0..1.0).contains(&file.server_momentum),
            "`server-momentum` must be at least 0 and below 1",
            "for example 0.9",
        );
        let server = ServerStep {
            learning_rate: file.server_learning_rate,
            momentum: file.server_momentum,
            average: file.average,
        };
        (schedule, server)
    }

    fn model(&mut self, model: Spanned<file::Model>) -> Model {
        let span = model.span();
        let file = model.into_inner();
        let classes = match (file.kind, file.classes) {
            (ModelKind::LogisticRegression, None | Some(2)) => Some(2),
            (ModelKind::LogisticRegression, Some(_)) => None,
            (_, classes) => classes.filter(|classes| (2..=10_000).contains(classes)),
        };
        if classes.is_none() {
            let help = "logistic regression has 2; softmax regression and mlp say how many";
            self.error("invalid", "`classes` does not fit this kind of model", span.clone(), help);
        }
        if !(1..=100_000).contains(&file.hidden) {
            self.error("invalid", "`hidden` must lie between 1 and 100000", span, "for example 32");
        }
        Model {
            kind: file.kind,
            label: file.label,
            classes: classes.unwrap_or(2),
            hidden: file.hidden,
        }
    }

    fn train(&mut self, train: Spanned<file::Train>) -> Train {
        let span = train.span();
        let file = train.into_inner();
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if !file.record_clip.is_none_or(positive) || !positive(file.learning_rate) {
            let message = "`record-clip` and `learning-rate` must be finite and above 0";
            self.error("invalid", message, span.clone(), "for example 0.5");
        }
        let shares = [
            ("sampling-rate", file.sampling_rate, "leave it out to take every record"),
            ("clip-quantile", file.clip_quantile, "leave it out to keep the clip as it is"),
        ];
        for (name, share, help) in shares {
            if share.is_some_and(|x| !(x > 0.0 && x < 1.0) || file.record_clip.is_none()) {
                let message = format!("`{name}` lies between 0 and 1, and goes with `record-clip`");
                self.error("invalid", &message, span.clone(), help);
            }
        }
        if file.local_steps == 0 || file.batch == Some(0) {
            let message = "`local-steps` and `batch` must be at least 1";
            self.error("invalid", message, span, "for example 1");
        }
        Train {
            executor: file.executor,
            record_clip: file.record_clip,
            sampling_rate: file.sampling_rate,
            clip_quantile: file.clip_quantile,
            local_steps: file.local_steps,
            batch: file.batch,
            learning_rate: file.learning_rate,
        }
    }

    fn features(&mut self, source: &Source) -> BTreeMap<String, [f64; 2]> {
        match parse::<BTreeMap<String, Spanned<[f64; 2]>>>(source) {
            Err(finding) => {
                self.findings.push(finding);
                BTreeMap::new()
            }
            Ok(columns) => columns
                .into_iter()
                .map(|(column, range)| {
                    let [low, high] = *range.get_ref();
                    if !(low.is_finite() && high.is_finite() && low < high) {
                        let message = format!("`{column}` needs a finite range, low before high");
                        let finding = source.error("invalid", message, range.span());
                        self.findings.push(finding.help("for example [0.0, 40.0]"));
                    }
                    (column, [low, high])
                })
                .collect(),
        }
    }

    fn filters(&mut self, tables: &[FilterTable], workflow: WorkflowKind) -> Vec<JobFilter> {
        const RESERVED: [&str; 3] = ["task", "at", "where"];
        let mut filters = Vec::new();
        for table in tables {
            let value = |name: &str| {
                let mut pairs = table.get_ref().iter();
                pairs.find_map(|(key, value)| (key.get_ref() == name).then_some(value))
            };
            let at = match value("at").map(|at| (at.get_ref().as_str(), at.span())) {
                Some((Some("out"), _)) => Some(Direction::Out),
                Some((Some("in"), _)) => Some(Direction::In),
                other => {
                    let span = other.map_or(table.span(), |(_, span)| span);
                    let message = "a job's filter says `at = \"out\"` or `at = \"in\"`";
                    self.error("invalid", message, span, "results leave a site: \"out\"");
                    None
                }
            };
            let side = match value("where").map(|side| (side.get_ref().as_str(), side.span())) {
                None | Some((Some("site"), _)) => Some(Side::Site),
                Some((Some("server"), _)) => Some(Side::Server),
                Some((_, span)) => {
                    let message = "`where` is \"site\" or \"server\"";
                    self.error("invalid", message, span, "leave it out for \"site\"");
                    None
                }
            };
            self.tasks(value("task"), table.span(), workflow);
            let filter =
                filter_use::read(table, &RESERVED, self.source, self.registry, &mut self.findings);
            if let (Some(at), Some(side), Some(filter)) = (at, side, filter) {
                filters.push(JobFilter { at, side, filter });
            }
        }
        filters
    }

    /// Every filter names tasks, and each must be one that the workflow asks.
    fn tasks(
        &mut self,
        value: Option<&Spanned<Value>>,
        whole: Range<usize>,
        workflow: WorkflowKind,
    ) {
        let Some(value) = value else {
            let message = "a job's filter needs `task`";
            self.error("missing-key", message, whole, "for example task = [\"train\"]");
            return;
        };
        let names = value.get_ref().as_array().map(|list| {
            list.iter().map(|name| name.as_str().unwrap_or_default()).collect::<Vec<_>>()
        });
        let names = names.unwrap_or_default();
        if names.is_empty() {
            let message = "`task` is a list of task names, not empty";
            self.error("invalid", message, value.span(), "for example [\"train\"]");
        }
        for name in names {
            if name != "*" && name != workflow.task() {
                let message = match TASKS.contains(&name) {
                    true => format!(
                        "no task of this job is called `{name}`: the filter would never run"
                    ),
                    false => format!("there is no task `{name}`: the filter would never run"),
                };
                let asks = format!("this workflow asks: {}", workflow.task());
                let help = did_you_mean(name, [workflow.task()], &asks);
                self.error("unknown-task", &message, value.span(), &help);
            }
        }
    }
}
