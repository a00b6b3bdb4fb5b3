//! `site.toml`: what a data owner allows.
//!
//! A [`Policy`] is a file that says something valid: every filter exists, every parameter fits,
//! every rule can match, every name it uses is declared. What it says of one job is decided in
//! [`chain`](crate::chain).

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use privet_core::Registry;
use privet_core::admission::Required;
use privet_core::ledger::{Account, Budget, Currency};
use privet_core::message::DataKind;
use privet_core::seal::Scheme;
use privet_core::sensitivity::{Adjacency, Unit};
use privet_crypto::transcript;
use serde::Deserialize;

use crate::attestation::{Attest, Attested};
use crate::filter_use::FilterUse;
use crate::finding::{Finding, Source};
use crate::intersection::PsiRule;
use crate::job::Job;

/// Said where every peer that the federation's CA certified counts under a seal.
pub const CA_TRUSTED: &str = "ca-trusted";

/// The value of `out` that lets everything leave as it is.
pub const DANGER_UNFILTERED: &str = "danger-unfiltered";

/// Names of the tasks that workflows ask for.
pub const TASKS: [&str; 3] = ["train", "statistics", "psi"];

/// A site's policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The site's name.
    pub site: String,
    /// Who owns it, for people.
    pub owner: Option<String>,
    /// Data sets by name.
    pub datasets: BTreeMap<String, Dataset>,
    /// Rules, in the order of the file: the first match is the only one.
    pub rules: Vec<Rule>,
    /// SHA-256 of the file, in hex.
    pub digest: String,
    /// The file.
    pub source: Source,
    /// Keys of the peers that count under a seal, as SHA-256 of their SPKI; every certified peer
    /// counts when absent.
    pub pins: Option<BTreeSet<[u8; 32]>>,
    /// What is allowed of set intersection.
    pub psi: Vec<PsiRule>,
    /// What the site shows of itself, and where it holds what it judges others by.
    pub attest: Attest,
    /// What the owner should know, though the file is valid.
    pub warnings: Vec<Finding>,
}

/// A data set of a site.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// Its name.
    pub id: String,
    /// Where it is; relative paths start at the policy's folder.
    pub path: PathBuf,
    /// Whose participation the budget hides.
    pub unit: Unit,
    /// Neighbouring relation.
    pub adjacency: Adjacency,
    /// What it holds, for people.
    pub label: Option<String>,
    /// Number of records that the owner declares; public.
    pub records: u64,
    /// What may be spent.
    pub budget: Budget,
    /// What charges are added up in.
    pub currency: Currency,
}

impl Dataset {
    /// The data set as a ledger knows it. Its file is read for a digest; one that cannot be read
    /// has none.
    pub fn account(&self) -> Account {
        Account {
            dataset: self.id.clone(),
            unit: self.unit,
            adjacency: self.adjacency,
            currency: self.currency,
            budget: self.budget,
            content: self.content(),
        }
    }

    fn content(&self) -> Option<String> {
        let mut file = std::fs::File::open(&self.path).ok()?;
        let mut digest = transcript::Stream::default();
        let mut piece = vec![0; 1 << 16];
        loop {
            match file.read(&mut piece).ok()? {
                0 => return Some(digest.finish().hex()),
                read => digest.update(&piece[..read]),
            }
        }
    }
}

/// One rule.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name.
    pub id: String,
    /// What it matches.
    pub when: When,
    /// What happens to results on their way out.
    pub out: Out,
    /// What happens to task data on its way in.
    pub input: Vec<FilterUse>,
    /// Most rounds of a job.
    pub rounds_max: Option<u32>,
    /// What peers must prove.
    pub attested: Option<Attested>,
    /// Sealing that the rule asks for.
    pub protect: Option<Protect>,
    /// Whether a job may ask for sealing where this rule is silent.
    pub allow_job_protection: bool,
    /// Names of measurements that may leave.
    pub metrics: Vec<String>,
    /// The weight that leaves, where the rule says it.
    pub weight: Option<Weight>,
    /// Bytes of the file that hold its name.
    pub span: Range<usize>,
}

impl Rule {
    /// What in it starts with `danger-`, in the order of the file.
    pub fn dangers(&self) -> Vec<String> {
        match &self.out {
            Out::DangerUnfiltered => vec![DANGER_UNFILTERED.to_owned()],
            Out::Filters(filters) => {
                let dangers = filters.iter().filter(|filter| filter.is_danger());
                dangers.map(|filter| filter.name.clone()).collect()
            }
        }
    }
}

/// What a rule matches. Every part that is present must.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct When {
    /// Task names; `"*"` matches every task.
    pub task: Vec<String>,
    /// Name of a data set.
    pub dataset: String,
    /// Data kind of the result.
    pub kind: Option<DataKind>,
    /// Name of the job.
    pub job: Option<String>,
    /// Who submitted it.
    pub submitter: Option<String>,
}

impl When {
    fn covers_task(&self, task: &str) -> bool {
        self.task.iter().any(|name| name == "*" || name == task)
    }

    /// Whether a job's task is matched.
    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        let is = |wanted: &Option<String>, got: &str| wanted.as_deref().is_none_or(|w| w == got);
        self.covers_task(asked.task)
            && self.dataset == asked.dataset
            && self.kind.is_none_or(|kind| kind == asked.kind)
            && is(&self.job, asked.job)
            && is(&self.submitter, asked.submitter)
    }

    /// Whether everything that `later` matches is matched by this.
    fn shadows(&self, later: &When) -> bool {
        fn wider<T: PartialEq>(a: &Option<T>, b: &Option<T>) -> bool {
            a.is_none() || a == b
        }
        let all = self.task.iter().any(|task| task == "*");
        (all || later.task.iter().all(|task| task != "*" && self.covers_task(task)))
            && self.dataset == later.dataset
            && wider(&self.kind, &later.kind)
            && wider(&self.job, &later.job)
            && wider(&self.submitter, &later.submitter)
    }
}

/// What a job asks a site for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The task.
    pub task: &'a str,
    /// The data set.
    pub dataset: &'a str,
    /// Data kind of the result.
    pub kind: DataKind,
    /// Name of the job.
    pub job: &'a str,
    /// Who submitted it.
    pub submitter: &'a str,
}

/// What happens to results on their way out.
#[derive(Debug, Clone, PartialEq)]
pub enum Out {
    /// They pass these filters.
    Filters(Vec<FilterUse>),
    /// They leave as they are.
    DangerUnfiltered,
}

/// Sealing that a rule or a job asks for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Protect {
    /// The scheme.
    pub scheme: Scheme,
    /// Sites that must be in the sum.
    pub min_sites: u32,
    /// Sites that may collude with the server.
    #[serde(default = "one")]
    pub colluders: u32,
    /// Whether sums must be exact.
    #[serde(default = "yes")]
    pub exact: bool,
    /// Whether the site wants to see that what was opened is the sum of what was sealed.
    #[serde(default)]
    pub verify: bool,
    /// Whether sums may be over other sites from round to round.
    #[serde(default)]
    pub survivors: SumsOver,
    /// The largest ε that a job may have for whoever sees this site's updates without their seal.
    pub alone_epsilon_max: Option<f64>,
}

/// Over which sites the sums of a run may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SumsOver {
    /// Any that are enough.
    #[default]
    Any,
    /// The same in every round: two sums over different sites tell their difference.
    Stable,
}

impl Protect {
    /// The fewest honest sites in a sum that is opened: their noise is in it whatever the others
    /// do. At least 2, in a file that was read.
    pub fn honest(&self) -> u32 {
        self.min_sites.saturating_sub(self.colluders)
    }

    /// Among how many sites the noise may be shared: where any peer could open a single update, its noise
    /// must be whole.
    pub fn sharers(&self) -> Option<u32> {
        (self.scheme == Scheme::Threshold).then(|| self.honest())
    }

    /// What is wrong with it, and what to do.
    pub(crate) fn problem(&self) -> Option<(&'static str, &'static str)> {
        if self.scheme == Scheme::Tfhe && self.colluders != 0 {
            let help = "write `colluders = 0`, or take `scheme = \"threshold\"`";
            let problem =
                "under `scheme = \"tfhe\"` every site has the key: one that colludes opens all";
            return Some((problem, help));
        }
        if self.scheme == Scheme::Tfhe && !self.exact {
            return Some((
                "`exact = false` goes with `scheme = \"threshold\"` alone",
                "leave it out",
            ));
        }
        if self.verify && !self.exact {
            let help = "leave one of `verify = true` and `exact = false` out";
            return Some(("a sum with errors in it cannot be verified", help));
        }
        let hides = self.min_sites >= self.colluders.saturating_add(2);
        let help = "raise `min-sites`: with fewer, a colluder's sum tells one site's update";
        (!hides).then_some(("`min-sites` must be at least `colluders` + 2", help))
    }
}

/// The weight that leaves with an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weight {
    /// The declared number of records.
    Records,
    /// 1.
    Equal,
}

impl Policy {
    /// What the server has to prove before it may offer a job, where every rule asks for that.
    pub fn attested_before_join(&self) -> Option<Required> {
        let all = !self.rules.is_empty() && self.psi.is_empty();
        let asks = |rule: &Rule| rule.attested.as_ref().is_some_and(|a| !a.server.is_empty());
        let first = self.rules.first().filter(|_| all && self.rules.iter().all(asks))?;
        first.attested.as_ref()?.of_server()
    }

    /// What the rule that a job falls under asks its peers to prove.
    pub fn attested_of(&self, job: &Job, kind: DataKind, submitter: &str) -> Option<Attested> {
        let task = job.workflow().task();
        let (dataset, job) = (job.dataset.as_str(), job.name.as_str());
        self.rule(&Asked { task, dataset, kind, job, submitter })?.attested.clone()
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// Everything that is wrong with it; a file that cannot be read is one finding.
    pub fn load(path: &Path, registry: &Registry) -> Result<Self, Vec<Finding>> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let folder = path.parent().unwrap_or(Path::new(""));
                Self::parse(&Source::new(name, text), folder, registry)
            }
            Err(error) => {
                let source = Source::new(name, "");
                let message = format!("the policy cannot be read: {error}");
                Err(vec![source.error("unreadable", message, 0..0)])
            }
        }
    }

    /// Reads a policy; `folder` is where its relative paths start.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(
        source: &Source,
        folder: &Path,
        registry: &Registry,
    ) -> Result<Self, Vec<Finding>> {
        read::policy(source, folder, registry)
    }

    /// The first rule that matches, which is the only one.
    pub fn rule(&self, asked: &Asked<'_>) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.when.matches(asked))
    }

    /// Line of a rule in the file, from 1.
    pub fn line(&self, rule: &Rule) -> usize {
        self.source.place(rule.span.start).0
    }
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// Names go into file names, certificates and audit lines.
pub fn is_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.len() <= 64 && name.chars().all(allowed) && !name.starts_with('.')
}

#[cfg(test)]
mod tests;
