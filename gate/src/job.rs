//! `job.toml`: what a researcher asks for.
//!
//! The same file is read by the server that runs the job and, as bytes from a peer, by every site
//! that is asked to take part; a site trusts nothing in it.

mod read;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use privet_core::admission::Shown;
use privet_core::intersect::Wanted;
use privet_core::receipt::Demand;
use privet_core::sensitivity::Unit;
use privet_core::{Code, Reason, Registry};
use privet_crypto::{Digest, Transcript};
use serde::{Deserialize, Serialize};

use crate::attestation::DemandAttested;
use crate::envelope::TaskId;
use crate::filter_use::FilterUse;
use crate::finding::{Finding, Source};
use crate::policy::Protect;

/// Most rounds that a job may ask for.
pub const MAX_ROUNDS: u32 = 1_000_000;

/// A job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its name.
    pub name: String,
    /// How rounds are run.
    pub schedule: Schedule,
    /// Name of the data set; each site maps it to its own data.
    pub dataset: String,
    /// What is done with it.
    pub work: Work,
    /// Filters that the researcher adds.
    pub filters: Vec<JobFilter>,
    /// Sealing that the job asks for.
    pub protect: Option<Protect>,
    /// What receipts must say.
    pub demand: Demand,
    /// What every site must prove of what it runs.
    pub attested: Option<DemandAttested>,
    /// Public data for the server to evaluate on.
    pub evaluation: Option<Evaluation>,
    /// What `run` simulates.
    pub simulate: Option<Simulate>,
    /// The file.
    pub source: Source,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Federated averaging.
    Training(Box<Training>),
    /// Statistics of these columns.
    Statistics(Vec<Column>),
    /// Which items all sites have.
    Intersection(Wanted),
}

/// A model and how it is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Training {
    /// What the server makes of the sites' answers.
    pub server: ServerStep,
    /// What is trained.
    pub model: Model,
    /// How sites train.
    pub train: Train,
    /// Public range of every feature column, in the order of their names.
    pub features: BTreeMap<String, [f64; 2]>,
}

/// A column that statistics are asked of.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its public range, low before high; what lies outside counts as at its end.
    pub range: [f64; 2],
    /// What is asked, besides the count.
    pub ask: Vec<Statistic>,
    /// Bins of equal width over the range, for what needs them.
    pub bins: u32,
}

impl Column {
    /// Whether one of these is asked.
    pub fn asks(&self, any: &[Statistic]) -> bool {
        self.ask.iter().any(|asked| any.contains(asked))
    }
}

/// What can be asked of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistic {
    /// How many records have a number there. Always told.
    Count,
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// Their variance.
    Variance,
    /// How many lie in each bin.
    Histogram,
    /// The quartiles, from the bins.
    Quantiles,
    /// The first and the last percentile, from the bins.
    MinMax,
}

/// Which workflow a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkflowKind {
    /// Federated averaging.
    Fedavg,
    /// Set intersection.
    Psi,
    /// Federated statistics.
    Statistics,
}

impl WorkflowKind {
    /// The word used in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            WorkflowKind::Fedavg => "fedavg",
            WorkflowKind::Psi => "psi",
            WorkflowKind::Statistics => "statistics",
        }
    }

    /// The task that its sites are asked.
    pub const fn task(self) -> &'static str {
        match self {
            WorkflowKind::Fedavg => "train",
            WorkflowKind::Psi => "psi",
            WorkflowKind::Statistics => "statistics",
        }
    }
}

/// How rounds are run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// How many.
    pub rounds: u32,
    /// Sites that must answer for a round to count.
    pub min_sites: u32,
    /// Share of the sites asked in each round, above 0 and at most 1.
    pub sample: f64,
    /// How long a round may take.
    pub round_timeout: Duration,
}

/// What a server makes of the sites' answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ServerStep {
    /// Step of the server along the mean update.
    pub learning_rate: f64,
    /// Share of the last step kept in the next, from 0 to below 1.
    pub momentum: f64,
    /// What is delivered.
    pub average: Average,
}

/// Which model a job delivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Average {
    /// The last.
    #[default]
    Last,
    /// The mean over the second half of the rounds.
    Tail,
}

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Kind of model.
    pub kind: ModelKind,
    /// Column that holds the label.
    pub label: String,
    /// Number of classes.
    pub classes: u32,
    /// Units of the hidden layer of an MLP.
    pub hidden: u32,
}

/// Kind of model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// Two classes, one weight a feature.
    LogisticRegression,
    /// Several classes, linear.
    SoftmaxRegression,
    /// One hidden layer; trained and protected by site.
    Mlp,
}

impl ModelKind {
    /// The word used in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            ModelKind::LogisticRegression => "logistic-regression",
            ModelKind::SoftmaxRegression => "softmax-regression",
            ModelKind::Mlp => "mlp",
        }
    }
}

/// How sites train.
#[derive(Debug, Clone, PartialEq)]
pub struct Train {
    /// Who trains.
    pub executor: ExecutorKind,
    /// Norm that every record's gradient is clipped to.
    pub record_clip: Option<f64>,
    /// Chance with which each record takes part in a round, if not always.
    pub sampling_rate: Option<f64>,
    /// The share of records whose gradients shall be within the clip, if it is to follow them.
    pub clip_quantile: Option<f64>,
    /// Gradient steps a round.
    pub local_steps: u32,
    /// Records of a step; all of them when absent.
    pub batch: Option<u32>,
    /// Step of a site along its gradient.
    pub learning_rate: f64,
}

/// Who trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExecutorKind {
    /// Privet's own trainers.
    #[default]
    Builtin,
    /// The user's script in its own process.
    Process,
}

/// A filter that the researcher adds.
#[derive(Debug, Clone, PartialEq)]
pub struct JobFilter {
    /// In which direction.
    pub at: Direction,
    /// On which side.
    pub side: Side,
    /// The filter.
    pub filter: FilterUse,
}

/// In which direction a filter works, seen from where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// On what leaves.
    Out,
    /// On what arrives.
    In,
}

/// On which side of the network a filter works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// At every site.
    #[default]
    Site,
    /// At the server.
    Server,
}

/// Public data for the server to evaluate on.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// A CSV file.
    pub data: PathBuf,
    /// Column that holds the label.
    pub label: String,
}

/// What `run` simulates.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulate {
    /// The sites.
    pub sites: Vec<SimulatedSite>,
    /// Seed of model initialisation.
    pub seed: u64,
    /// What the server shows of itself.
    pub server_shows: Vec<Shown>,
    /// Budgets that the simulation is run with besides the sites' own, for the report.
    pub curve: Vec<CurvePoint>,
}

/// One budget of a curve of privacy against accuracy, and how it is spent.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct CurvePoint {
    /// Whose participation it hides.
    pub unit: Unit,
    /// ε of each site; δ is the data set's own.
    pub epsilon: f64,
    /// Rounds that it is spent on.
    pub rounds: u32,
    /// Largest norm of a record's gradient, or of a site's update.
    pub clip: f64,
    /// As in `[fedavg]`.
    pub server_learning_rate: f64,
    /// As in `[fedavg]`.
    #[serde(default)]
    pub server_momentum: f64,
    /// As in `[train]`.
    #[serde(default = "one")]
    pub local_steps: u32,
    /// As in `[train]`.
    #[serde(default = "tenth")]
    pub learning_rate: f64,
}

fn one() -> u32 {
    1
}

fn tenth() -> f64 {
    0.1
}

/// A simulated site.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SimulatedSite {
    /// Its name.
    pub name: String,
    /// Its policy file.
    pub policy: PathBuf,
    /// The round in which the firmware of its device in software changes.
    pub firmware_changes: Option<u32>,
}

/// A job as a server offers it to sites: text, parsed anew by each of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// Identity of this run of the job.
    pub run: String,
    /// The job file.
    pub job: String,
    /// The features file.
    pub features: Option<String>,
    /// Rounds, where the server was told another number than the job file's.
    pub rounds: Option<u32>,
}

/// A [`Job`] with the texts it was made of.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The job.
    pub job: Job,
    /// The features file.
    pub features: Option<String>,
}

impl Offer {
    /// Digest of all that decides what a task of the run is answered with. How many rounds are left is
    /// not in it.
    pub fn digest(&self) -> Digest {
        Transcript::new("privet/gate/offer/v1")
            .bytes(self.run.as_bytes())
            .bytes(self.job.as_bytes())
            .bytes(self.features.as_deref().unwrap_or_default().as_bytes())
            .finish()
    }

    /// Digest of one task of the run: what a seal is bound to.
    pub fn task(&self, task: TaskId) -> [u8; 32] {
        let transcript = Transcript::new("privet/gate/task/v1").bytes(&self.digest().0);
        transcript.bytes(&task.bytes()).finish().0
    }
}

impl Job {
    /// Reads a job file and the features file it names.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(path: &Path, registry: &Registry) -> Result<Loaded, Vec<Finding>> {
        let source = read::read_source(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let features = read::features_path(&source).map_err(|finding| vec![finding])?;
        let features = features.map(|path| read::read_source(&folder.join(path))).transpose()?;
        let job = Self::parse(&source, features.as_ref(), folder, registry)?;
        Ok(Loaded { job, features: features.map(|source| source.text.to_string()) })
    }

    /// Reads a job as a server offers it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn offered(offer: &Offer, registry: &Registry) -> Result<Self, Vec<Finding>> {
        let source = Source::new("the offered job", offer.job.as_str());
        let features =
            offer.features.as_deref().map(|text| Source::new("the offered features", text));
        let mut job = Self::parse(&source, features.as_ref(), Path::new(""), registry)?;
        if let Some(rounds) = offer.rounds {
            if !(1..=MAX_ROUNDS).contains(&rounds) {
                let message = format!("{rounds} rounds are offered, 1 to {} are", MAX_ROUNDS);
                return Err(vec![source.error("invalid", message, 0..0)]);
            }
            job.schedule.rounds = rounds;
        }
        Ok(job)
    }

    /// Reads a job; `folder` is where its relative paths start.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(
        source: &Source,
        features: Option<&Source>,
        folder: &Path,
        registry: &Registry,
    ) -> Result<Self, Vec<Finding>> {
        read::job(source, features, folder, registry)
    }

    /// The filters on one side, in one direction, in the order of the file.
    pub fn filters_at(&self, side: Side, at: Direction) -> impl Iterator<Item = &FilterUse> {
        self.filters
            .iter()
            .filter(move |filter| filter.side == side && filter.at == at)
            .map(|filter| &filter.filter)
    }

    /// Which workflow it is.
    pub fn workflow(&self) -> WorkflowKind {
        match self.work {
            Work::Training(_) => WorkflowKind::Fedavg,
            Work::Statistics(_) => WorkflowKind::Statistics,
            Work::Intersection(_) => WorkflowKind::Psi,
        }
    }

    /// The model and how it is trained, of a job that trains.
    ///
    /// # Errors
    /// When it does something else.
    pub fn training(&self) -> Result<&Training, Reason> {
        match &self.work {
            Work::Training(training) => Ok(training),
            _ => Err(Reason::new(Code::InvalidJob, "the job trains no model")),
        }
    }

    /// Seed of model initialisation.
    pub fn seed(&self) -> u64 {
        self.simulate.as_ref().map_or(1, |simulate| simulate.seed)
    }
}

/// Reads "120s", "500ms", "10m", "1h".
pub fn parse_duration(text: &str) -> Option<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().ok()?;
    let milliseconds = match unit.trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(milliseconds)?);
    (!duration.is_zero()).then_some(duration)
}

#[cfg(test)]
mod tests;
