//! A policy and a job, held against each other before anything starts.
//!
//! ```text
//!   promise of the executor ─▶ job filters ─▶ site filters ─▶ what leaves, and what it costs
//! ```
//! Every filter says how it changes what is known of a message
//! ([`Filter::plan`](privet_core::Filter::plan)); a chain that could not work, or that would let
//! something leave unpaid, is refused here.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use privet_core::event::Event;
use privet_core::filter::{Filter, FilterContext};
use privet_core::flow::{BuildContext, Flow, Promise};
use privet_core::ledger::{Ledger, rounded_up};
use privet_core::message::DataKind;
use privet_core::seal::Terms;
use privet_core::sensitivity::{Adjacency, Unit};
use privet_core::{Code, Message, Reason, Refusal, Registry, Stage};

use crate::attestation::DemandAttested;
use crate::filter_use::FilterUse;
use crate::finding::{Finding, Source};
use crate::job::{Direction, Job, Side};
use crate::policy::{Asked, Dataset, Out, Policy, Protect, Rule, SumsOver, Weight};

/// Who put a filter into a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The researcher.
    Job,
    /// The data owner.
    Site,
}

impl Owner {
    /// The word used in receipts and audit lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Owner::Job => "job",
            Owner::Site => "site",
        }
    }
}

/// Why a policy and a job do not go together.
#[derive(Debug, Clone)]
pub enum CompileError {
    /// A file says something that cannot work: exit code 2.
    Invalid(Vec<Finding>),
    /// The policy does not allow the job.
    Refused(Box<Refusal>),
}

impl CompileError {
    /// As a refusal, for a peer or an audit line.
    pub fn refusal(&self, site: &str) -> Refusal {
        match self {
            CompileError::Refused(refusal) => (**refusal).clone(),
            CompileError::Invalid(findings) => {
                let detail =
                    findings.first().map_or_else(String::new, |finding| finding.message.clone());
                let reason = Reason::new(Code::InvalidPolicy, detail);
                Refusal::new(site, Stage::Compile, reason)
            }
        }
    }
}

/// One filter in its place.
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) owner: Owner,
    filter: Box<dyn Filter>,
}

impl Link {
    /// As receipts and audit lines name it.
    pub(crate) fn tag(&self) -> String {
        format!("{}@{}", self.name, self.owner.as_str())
    }

    pub(crate) fn describe(&self) -> String {
        self.filter.describe()
    }
}

/// What one rule makes of one job.
pub struct Chain {
    pub(crate) rule: Rule,
    pub(crate) dataset: Dataset,
    pub(crate) promise: Promise,
    pub(crate) out: Vec<Link>,
    pub(crate) input: Vec<Link>,
    /// What leaves.
    pub(crate) flow: Flow,
    pub(crate) dangers: Vec<String>,
    pub(crate) rounds: u32,
    /// What the updates would be sealed with.
    pub(crate) seal: Option<Protect>,
}

impl Chain {
    /// Compiles the rule of a policy that matches a job.
    ///
    /// # Errors
    /// When a file says something that cannot work, or the policy does not allow the job.
    pub fn compile(
        policy: &Policy,
        job: &Job,
        promise: &Promise,
        registry: &Registry,
        submitter: &str,
    ) -> Result<Self, CompileError> {
        let refuse = |reason: Reason| Refusal::new(&policy.site, Stage::Compile, reason);
        let refused = |refusal: Refusal| CompileError::Refused(Box::new(refusal));
        let asked = Asked {
            task: job.workflow().task(),
            dataset: &job.dataset,
            kind: promise.kind,
            job: &job.name,
            submitter,
        };
        let Some(dataset) = policy.datasets.get(asked.dataset) else {
            let detail = format!("the policy declares no data set `{}`", asked.dataset);
            return Err(refused(refuse(Reason::new(Code::UnknownDataset, detail))));
        };
        let Some(rule) = policy.rule(&asked) else {
            let detail = format!(
                "no rule matches task `{}` on data set `{}` with kind `{}`",
                asked.task,
                asked.dataset,
                asked.kind.as_str()
            );
            return Err(refused(refuse(Reason::new(Code::NoMatchingRule, detail))));
        };
        let by_rule = |reason| refused(refuse(reason).by_rule(&rule.id));
        admissible(rule, dataset, job, promise).map_err(by_rule)?;

        let seal = rule.protect.as_ref().or(job.protect.as_ref());
        let promise = if seal.is_some() { promise.sealed() } else { promise.clone() };
        let sealed = seal.is_some();
        let compiler = Compiler { policy, job, registry, rule, sealed, dataset, promise: &promise };
        let (out, flow) = compiler.direction(Direction::Out, promise.flow())?;
        let (input, _) = compiler
            .direction(Direction::In, Flow::plain(DataKind::Weights, promise.schema.clone()))?;

        let unfiltered = rule.out == Out::DangerUnfiltered;
        if dataset.unit == Unit::Record && flow.events().is_empty() && !unfiltered {
            let detail = format!(
                "data set `{}` hides single records, and nothing in this chain adds noise",
                dataset.id
            );
            return Err(by_rule(Reason::new(Code::UnpaidRelease, detail)));
        }
        let unpayable = |event: &&Event| !dataset.currency.pays(event);
        if let Some(event) = flow.events().iter().find(unpayable) {
            let detail = format!(
                "data set `{}` is counted in {}, which cannot count: {event}",
                dataset.id,
                dataset.currency.as_str(),
            );
            return Err(by_rule(Reason::new(Code::WrongCurrency, detail)));
        }
        if let Some(event) = flow.events().iter().find(|event| event.unit != dataset.unit) {
            let detail = format!(
                "the data set's budget hides a {}, the noise of this chain hides a {}",
                dataset.unit.as_str(),
                event.unit.as_str()
            );
            return Err(by_rule(Reason::new(Code::UnitMismatch, detail)));
        }
        let chain = Self {
            rule: rule.clone(),
            dataset: dataset.clone(),
            promise,
            out,
            input,
            flow,
            dangers: rule.dangers(),
            rounds: job.schedule.rounds,
            seal: seal.cloned(),
        };
        if chain.promise.kind == DataKind::WeightDiff
            && chain.shares_noise()
            && rule.weight == Some(Weight::Records)
        {
            let detail = "shares of noise must not be multiplied by weights: write `weight = \"equal\"`, \
                          or leave it out";
            return Err(by_rule(Reason::new(Code::InvalidPolicy, detail)));
        }
        Ok(chain)
    }

    /// What each round charges the data set's budget with.
    pub fn events(&self) -> &[Event] {
        self.flow.events()
    }

    /// Standard deviation of the noise that is charged, on each number and in the data's own scale;
    /// noise that other noise pays for comes on top.
    pub fn sigma(&self) -> Option<f64> {
        let step = self.flow.bound()?.step.value();
        let squares = self.events().iter().map(|event| event.mechanism.deviation_units().powi(2));
        let sum: f64 = squares.sum();
        (sum > 0.0).then(|| sum.sqrt() * step)
    }

    /// ε of so many rounds for whoever sees this site's updates without their seal, the data set's
    /// earlier charges left out; `None` where nothing is sealed.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    pub fn epsilon_if_seal_broken(
        &self,
        ledger: &dyn Ledger,
        submitter: &str,
        rounds: u32,
    ) -> Result<Option<f64>, Reason> {
        if !self.shares_noise() {
            return Ok(None);
        }
        let alone: Vec<Event> = self.events().iter().map(Event::alone).collect();
        Ok(Some(ledger.quote(&self.dataset.id, submitter, &alone, rounds)?.planned))
    }

    /// Whether the noise of this site alone is as much as its policy wants under a seal.
    ///
    /// # Errors
    /// When it is not, or the ledger cannot be read.
    pub fn seal_suffices(
        &self,
        ledger: &dyn Ledger,
        submitter: &str,
        rounds: u32,
    ) -> Result<(), Reason> {
        let most = self.rule.protect.as_ref().and_then(|protect| protect.alone_epsilon_max);
        let Some(most) = most else { return Ok(()) };
        let thin = |alone: &str| {
            let detail = format!(
                "without the seal these {rounds} updates would be ε {alone}, and the rule allows {most}"
            );
            Err(Reason::new(Code::SealTooThin, detail))
        };
        let alone: Vec<Event> = self.events().iter().map(Event::alone).collect();
        if alone.is_empty() {
            return thin("without bound");
        }
        let alone = ledger.quote(&self.dataset.id, submitter, &alone, rounds)?.planned;
        if alone > most { thin(&rounded_up(alone)) } else { Ok(()) }
    }

    /// Whether the noise that is charged is shared among the sites of a sum.
    pub fn shares_noise(&self) -> bool {
        self.events().iter().any(|event| event.sharers.is_some())
    }

    /// The weight that an update leaves with. Shares of noise must not be multiplied: where they are,
    /// every update counts once, unless it is a sum over records, which is not multiplied at all.
    pub fn weight(&self) -> Weight {
        let once = self.shares_noise() && self.promise.kind == DataKind::WeightDiff;
        self.rule.weight.unwrap_or(if once { Weight::Equal } else { Weight::Records })
    }

    /// Whether what leaves can be sealed, where it is to be.
    ///
    /// # Errors
    /// When it cannot.
    pub fn can_seal(&self) -> Result<(), Reason> {
        let refuse = |code, detail: &str| Err(Reason::new(code, detail));
        match &self.seal {
            None => Ok(()),
            Some(_) if self.flow.bound().is_none() => refuse(
                Code::WrongStage,
                "what is sealed are integers of a proved bound: put `clip` before, or use `record-clip`",
            ),
            Some(_) if !self.flow.withheld.is_empty() => refuse(
                Code::WrongStage,
                "a sealed sum has every tensor of the model: `allow-tensors` and `exclude-tensors` do not fit",
            ),
            Some(_) => Ok(()),
        }
    }

    /// What the rule asks of a seal, and what is sealed; `None` where nothing is.
    pub fn terms(&self, pins: Option<&BTreeSet<[u8; 32]>>) -> Option<Terms> {
        let (seal, bound) = (self.seal.as_ref()?, self.flow.bound()?);
        let unit = match bound.unit {
            Unit::Record => self.dataset.records,
            Unit::Site => 1,
        };
        // A number beyond twelve deviations of all its noise is brought back. Of Gaussian noise that
        // happens with a chance of 1e-32, far below any δ, to which it would have to be added.
        let most = unit as f64 * bound.lattice_units as f64 + (12.0 * self.flow.deviation()).ceil();
        let weighted =
            self.promise.kind == DataKind::WeightDiff && self.weight() == Weight::Records;
        let weight_bits = self.dataset.records.next_power_of_two().ilog2() as u8;
        let noise = self.events().iter().map(|event| event.mechanism.deviation_units().powi(2));
        let noise = noise.fold(0.0, f64::max);
        Some(Terms {
            scheme: seal.scheme,
            min_sites: seal.min_sites,
            colluders: seal.colluders,
            most: (most.ceil() as u64).max(1),
            step: bound.step,
            noise: noise.floor() as u64,
            shares: self.shares_noise(),
            exact: seal.exact,
            verify: seal.verify,
            weight_bits: weighted.then_some(weight_bits),
            stable: seal.survivors == SumsOver::Stable,
            // Rounds that do not open are asked for anew, by a server that was started again.
            sessions: self.rounds.saturating_mul(2).saturating_add(16),
            pins: pins.cloned(),
        })
    }

    /// Name of the scheme that updates are sealed with.
    pub fn scheme(&self) -> Option<&str> {
        self.seal.as_ref().map(|seal| seal.scheme.as_str())
    }

    /// What an executor is to answer with.
    pub fn promise(&self) -> &Promise {
        &self.promise
    }

    /// What the numbers of an answer mean.
    pub fn kind(&self) -> DataKind {
        self.promise.kind
    }

    /// Name of the rule.
    pub fn rule(&self) -> &str {
        &self.rule.id
    }

    /// The data set.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// σ over sensitivity of the noise that every round gets.
    pub fn noise_multiplier(&self) -> Option<f64> {
        self.flow.events().last().map(|event| event.mechanism.noise_multiplier())
    }
}

/// What is decided of a rule and a job without looking at filters.
fn admissible(rule: &Rule, dataset: &Dataset, job: &Job, promise: &Promise) -> Result<(), Reason> {
    let refuse = |code, detail: String| Err(Reason::new(code, detail));
    let rounds = job.schedule.rounds;
    if let Some(max) = rule.rounds_max
        && rounds > max
    {
        let detail = format!("the job asks for {rounds} rounds, the rule allows {max}");
        return refuse(Code::RoundsMax, detail);
    }
    if let Some(attested) = &rule.attested {
        let demanded = job.attested.as_ref();
        let lax = |demanded: &DemandAttested| {
            demanded.allow_simulated && !attested.allow_simulated
                || demanded.max_age > attested.max_age
        };
        let missing = attested.sites.iter().find(|profile| {
            demanded.is_none_or(|demanded| !demanded.sites.contains(profile) || lax(demanded))
        });
        if let Some(profile) = missing {
            let detail = format!(
                "the rule wants every site to fit `{profile}`, and the job's [demand] does not, or is laxer"
            );
            return refuse(Code::NotAttested, detail);
        }
    }
    if rule.protect.is_none() && job.protect.is_some() && !rule.allow_job_protection {
        let detail = "the job asks for sealing, and the rule does not allow it to";
        return refuse(Code::SealRefused, detail.to_owned());
    }
    if promise.kind == DataKind::Gradient && rule.weight == Some(Weight::Equal) {
        let detail =
            "gradient sums are divided by declared records: `weight = \"equal\"` does not fit";
        return refuse(Code::InvalidPolicy, detail.to_owned());
    }
    if let Some(metric) = rule.metrics.first()
        && (rule.protect.is_some() || job.protect.is_some())
    {
        let detail = format!("`{metric}` would leave beside a sealed update, which hides all else");
        return refuse(Code::MetricRefused, detail);
    }
    if dataset.unit == Unit::Record {
        if promise.local_steps > 1 {
            let detail = format!(
                "{} local steps a round; under unit = \"record\" one is allowed",
                promise.local_steps
            );
            return refuse(Code::LocalSteps, detail);
        }
        if let Some(metric) = rule.metrics.first() {
            let detail =
                format!("`{metric}` is computed on private records and would leave unpaid");
            return refuse(Code::MetricRefused, detail);
        }
    }
    Ok(())
}

struct Compiler<'a> {
    policy: &'a Policy,
    job: &'a Job,
    registry: &'a Registry,
    rule: &'a Rule,
    sealed: bool,
    dataset: &'a Dataset,
    promise: &'a Promise,
}

impl Compiler<'_> {
    /// Builds and plans the filters of one direction. The site's own are nearest the wire: last
    /// on the way out, first on the way in.
    fn direction(&self, at: Direction, flow: Flow) -> Result<(Vec<Link>, Flow), CompileError> {
        let job = self.job.filters_at(Side::Site, at).map(|filter| (Owner::Job, filter));
        let site: &[FilterUse] = match (at, &self.rule.out) {
            (Direction::In, _) => &self.rule.input,
            (Direction::Out, Out::Filters(filters)) => filters,
            (Direction::Out, Out::DangerUnfiltered) => &[],
        };
        let site = site.iter().map(|filter| (Owner::Site, filter));
        let uses: Vec<_> = match at {
            Direction::Out => job.chain(site).collect(),
            Direction::In => site.chain(job).collect(),
        };
        let mut links = Vec::with_capacity(uses.len());
        let mut flow = flow;
        for (owner, used) in uses {
            let context = BuildContext {
                model: &self.promise.schema,
                adjacency: self.dataset.adjacency,
                // Only its owner may make of a site's noise a share: what a job seals keeps all of it.
                sharers: self.rule.protect.as_ref().and_then(Protect::sharers),
                sealed: self.sealed,
                prover: None,
            };
            let planned = build(self.registry, used, &context, owner, flow);
            let (link, next) = planned.map_err(|reason| self.place(owner, used, reason))?;
            links.push(link);
            flow = next;
        }
        Ok((links, flow))
    }

    fn place(&self, owner: Owner, used: &FilterUse, reason: Reason) -> CompileError {
        let source = match owner {
            Owner::Job => &self.job.source,
            Owner::Site => &self.policy.source,
        };
        blame(source, used, reason, &self.policy.site, Some(&self.rule.id))
    }
}

/// Builds one filter and says what it makes of what is known.
pub(crate) fn build(
    registry: &Registry,
    used: &FilterUse,
    context: &BuildContext<'_>,
    owner: Owner,
    flow: Flow,
) -> Result<(Link, Flow), Reason> {
    if owner == Owner::Job && used.is_danger() {
        let detail = "only a site's own rule may weaken protection";
        return Err(Reason::new(Code::InvalidJob, detail));
    }
    let filter = registry.build(&used.name, &used.params, context)?;
    let mut flow = filter.plan(flow)?;
    if !registry.is_blind(&used.name) {
        flow.observe();
    }
    let name = used.name.clone();
    Ok((Link { name, owner, filter }, flow))
}

/// A reason that a file is to blame for becomes a finding in it, any other a refusal.
fn blame(
    source: &Source,
    used: &FilterUse,
    reason: Reason,
    site: &str,
    rule: Option<&str>,
) -> CompileError {
    if reason.code.exit_code() == 2 {
        let message = format!("`{}`: {}", used.name, reason.detail);
        let finding = source.error(reason.code.as_str(), message, used.span.clone());
        return CompileError::Invalid(vec![finding.help(reason.code.help())]);
    }
    let refusal = Refusal::new(site, Stage::Compile, reason).by_filter(&used.name);
    CompileError::Refused(Box::new(Refusal { rule: rule.map(str::to_owned), ..refusal }))
}

/// The job's filters on the server, in one direction.
pub(crate) fn server_links(
    job: &Job,
    at: Direction,
    flow: Flow,
    registry: &Registry,
    promise: &Promise,
) -> Result<Vec<Link>, CompileError> {
    let context = BuildContext {
        model: &promise.schema,
        adjacency: Adjacency::AddRemove,
        sharers: None,
        sealed: false,
        prover: None,
    };
    let mut links = Vec::new();
    let mut flow = flow;
    for used in job.filters_at(Side::Server, at) {
        let (link, next) = build(registry, used, &context, Owner::Job, flow)
            .map_err(|reason| blame(&job.source, used, reason, "server", None))?;
        links.push(link);
        flow = next;
    }
    Ok(links)
}

/// Runs a message through filters; a panic in one becomes a refusal.
pub(crate) fn run(
    links: &[Link],
    mut message: Message,
    context: &mut FilterContext<'_>,
) -> Result<Message, (Reason, String)> {
    for link in links {
        let applied = catch_unwind(AssertUnwindSafe(|| link.filter.apply(message, context)));
        let blame = |reason| (reason, link.name.clone());
        message = applied
            .map_err(|_| Reason::new(Code::FilterPanicked, "the filter panicked"))
            .and_then(|result| result)
            .map_err(blame)?;
    }
    Ok(message)
}

#[cfg(test)]
mod tests;
