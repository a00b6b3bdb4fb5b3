//! What a policy makes of a job, in words that a data protection officer can read aloud.
//!
//! Sentences about a filter come from the filter; sentences about the chain are made here;
//! numbers come from the compiled chain and from the ledger's quote.

mod intersection;

use privet_core::event::Event;
use privet_core::ledger::{Ledger, Window, rounded_up};
use privet_core::message::{DataKind, Protection};
use privet_core::seal::Scheme;
use privet_core::sensitivity::{Adjacency, Unit};
use privet_core::tensor::Shape;
use privet_core::{Reason, Refusal, Registry, adaptive};
use serde::Serialize;

use crate::attestation::Attested;
use crate::chain::{Chain, CompileError};
use crate::job::{Job, Work};
use crate::policy::{CA_TRUSTED, Dataset, Policy, Protect, SumsOver, Weight};

/// One tensor that leaves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Leaf {
    /// Its name.
    pub tensor: String,
    /// Its dimensions.
    pub shape: Shape,
    /// In which form it leaves.
    #[serde(rename = "as")]
    pub form: String,
}

/// What the plan costs one data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Privacy {
    /// The data set.
    pub dataset: String,
    /// Whose participation is hidden.
    pub unit: Unit,
    /// Neighbouring relation.
    pub adjacency: Adjacency,
    /// What the promise is about: `local`, each site's own updates; `sum`, the sums that are opened.
    pub view: &'static str,
    /// Name of the mechanism; `none` when nothing is noised.
    pub mechanism: &'static str,
    /// σ over sensitivity.
    pub noise_multiplier: Option<f64>,
    /// Planned rounds.
    pub rounds: u32,
    /// ε of the plan alone.
    pub epsilon: Option<f64>,
    /// δ of the budget.
    pub delta: f64,
    /// Name of the accountant.
    pub accountant: String,
    /// For how long a charge counts.
    pub window: String,
    /// ε of the budget.
    pub budget: f64,
    /// ε spent or reserved before the plan.
    pub spent: f64,
    /// Budget less what is spent after the plan; never below 0.
    pub left: f64,
    /// The first round that the budget could not pay.
    pub refused_from_round: Option<u32>,
    /// ε of the plan for whoever sees this site's updates without their seal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon_if_seal_broken: Option<f64>,
    /// Largest chance of telling whether one unit took part, for one who would have guessed 50:50.
    pub guess_rate: f64,
}

impl Privacy {
    /// What rounds of these events cost a data set, seen as they leave the site.
    fn local(
        dataset: &Dataset,
        events: &[Event],
        ledger: &dyn Ledger,
        rounds: u32,
    ) -> Result<Self, Reason> {
        let quote = ledger.quote(&dataset.id, SUBMITTER, events, rounds)?;
        let last = events.last();
        Ok(Self {
            dataset: dataset.id.clone(),
            unit: dataset.unit,
            adjacency: dataset.adjacency,
            view: "local",
            mechanism: last.map_or("none", |event| event.mechanism.name()),
            noise_multiplier: last.map(|event| event.mechanism.noise_multiplier()),
            rounds,
            epsilon: last.map(|_| quote.planned),
            delta: dataset.budget.delta,
            accountant: quote.accountant,
            window: dataset.budget.window.to_string(),
            budget: dataset.budget.epsilon,
            spent: quote.spent,
            left: (dataset.budget.epsilon - quote.after).max(0.0),
            refused_from_round: quote.refused_from_round,
            epsilon_if_seal_broken: None,
            guess_rate: if last.is_some() { quote.guess_rate } else { 1.0 },
        })
    }
}

/// Something the owner should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Kebab-case code.
    pub code: String,
    /// In words.
    pub text: String,
}

/// What a policy makes of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Explanation {
    /// `allowed` or `refused`.
    pub decision: &'static str,
    /// The rule that decided.
    pub rule: Option<String>,
    /// Its line in the policy.
    pub line: Option<usize>,
    /// What leaves.
    pub leaves: Vec<Leaf>,
    /// Tensors of the model that do not.
    pub withheld: Vec<String>,
    /// Who sees it.
    pub seen_by: String,
    /// What it costs.
    pub privacy: Vec<Privacy>,
    /// What the owner should know.
    pub warnings: Vec<Warning>,
    /// What is not protected.
    pub not_covered: Vec<String>,
    /// Why the job is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    #[serde(skip)]
    first_line: String,
    #[serde(skip)]
    paragraphs: Vec<(&'static str, String)>,
}

/// Jobs that are explained are the reader's own.
const SUBMITTER: &str = "local";

/// Explains what a policy makes of `rounds` rounds of a job.
///
/// # Errors
/// When a file says something that cannot work. A refusal is an explanation.
pub fn explain(
    policy: &Policy,
    job: &Job,
    promise: &privet_core::flow::Promise,
    registry: &Registry,
    ledger: &dyn Ledger,
    rounds: u32,
) -> Result<Explanation, CompileError> {
    if let Work::Intersection(wanted) = &job.work {
        return intersection::explain(policy, job, wanted, registry, ledger).map_err(|reason| {
            let stage = privet_core::Stage::Compile;
            CompileError::Refused(Box::new(Refusal::new(&policy.site, stage, reason)))
        });
    }
    match Chain::compile(policy, job, promise, registry, SUBMITTER) {
        Ok(chain) => allowed(policy, job, &chain, registry, ledger, rounds).map_err(|reason| {
            let stage = privet_core::Stage::Compile;
            CompileError::Refused(Box::new(Refusal::new(&policy.site, stage, reason)))
        }),
        Err(CompileError::Refused(refusal)) => Ok(refused(policy, job, *refusal)),
        Err(invalid) => Err(invalid),
    }
}

fn refused(policy: &Policy, job: &Job, refusal: Refusal) -> Explanation {
    let rule = refusal.rule.clone();
    let line = policy
        .rules
        .iter()
        .find(|candidate| Some(&candidate.id) == rule.as_ref())
        .map(|rule| policy.line(rule));
    let place = match (&rule, line) {
        (Some(rule), Some(line)) => format!(" by rule `{rule}` ({}:{line})", policy.source.name),
        _ => format!(" ({})", policy.source.name),
    };
    Explanation {
        decision: "refused",
        rule,
        line,
        leaves: Vec::new(),
        withheld: Vec::new(),
        seen_by: "nobody".to_owned(),
        privacy: Vec::new(),
        warnings: Vec::new(),
        not_covered: Vec::new(),
        first_line: format!("{} REFUSES job `{}`{place}.", policy.site, job.name),
        paragraphs: vec![
            ("Why", format!("{} ({}).", sentence(&refusal.detail), refusal.code)),
            ("What leaves", "Nothing.".to_owned()),
            ("What to do", sentence(&refusal.help) + "."),
        ],
        refusal: Some(refusal),
    }
}

fn allowed(
    policy: &Policy,
    job: &Job,
    chain: &Chain,
    registry: &Registry,
    ledger: &dyn Ledger,
    rounds: u32,
) -> Result<Explanation, Reason> {
    let dataset = &chain.dataset;
    let paid = !chain.events().is_empty();
    let sealed = chain.rule.protect.as_ref().is_some_and(|seal| seal.sharers().is_some());
    let privacy = Privacy {
        view: if sealed { "sum" } else { "local" },
        epsilon_if_seal_broken: chain.epsilon_if_seal_broken(ledger, SUBMITTER, rounds)?,
        ..Privacy::local(dataset, chain.events(), ledger, rounds)?
    };
    let warnings = warnings(policy, chain, &privacy);
    let not_covered = not_covered(policy, chain, registry);
    let line = policy.line(&chain.rule);
    let form = match (chain.flow.protection, paid, &chain.seal) {
        (Protection::Lattice, true, None) => "integers with noise",
        (Protection::Lattice, false, None) => "clipped integers, no noise",
        (Protection::Lattice, true, Some(_)) if chain.shares_noise() => {
            "sealed integers with a share of the noise"
        }
        (Protection::Lattice, true, Some(_)) => "sealed integers with noise",
        (Protection::Lattice, false, Some(_)) => "sealed integers, no noise",
        (Protection::Plain, ..) => "as it is",
    };
    let leaves: Vec<Leaf> = chain
        .flow
        .schema
        .0
        .iter()
        .map(|(tensor, slot)| Leaf {
            tensor: tensor.clone(),
            shape: slot.shape.clone(),
            form: form.to_owned(),
        })
        .collect();
    let withheld: Vec<String> = chain.flow.withheld.keys().cloned().collect();
    let mut paragraphs = vec![
        ("What leaves", what_leaves(chain, rounds)),
        ("How", how(chain)),
        ("What it means", what_it_means(chain, &privacy)),
        ("Who sees it", who_sees_it(chain, &privacy)),
        ("Budget", budget(&privacy, paid) + &terms(dataset)),
        ("Not covered", not_covered.join(" ")),
    ];
    if !withheld.is_empty() {
        let text = format!("The tensors {} stay at the site.", withheld.join(", "));
        paragraphs.insert(1, ("Withheld", text));
    }
    if let Some(check) = check(chain) {
        paragraphs.push(("Check", check));
    }
    if let Some(attested) = &chain.rule.attested {
        paragraphs.push(("Attestation", attestation(attested)));
    }
    if !warnings.is_empty() {
        let texts: Vec<_> = warnings.iter().map(|warning| warning.text.as_str()).collect();
        paragraphs.push(("Warning", texts.join(" ")));
    }
    let refusal = chain.seal_suffices(ledger, SUBMITTER, rounds).and_then(|()| chain.can_seal());
    let refusal = refusal.err().map(|reason| {
        Refusal::new(&policy.site, privet_core::Stage::Job, reason).by_rule(&chain.rule.id)
    });
    let (decision, verb) = match &refusal {
        None => ("allowed", "ALLOWS"),
        Some(refusal) => {
            paragraphs
                .insert(0, ("Why", format!("{} ({}).", sentence(&refusal.detail), refusal.code)));
            paragraphs
                .insert(1, ("Otherwise", "What follows is what the rule would mean.".to_owned()));
            ("refused", "REFUSES")
        }
    };
    Ok(Explanation {
        decision,
        rule: Some(chain.rule.id.clone()),
        line: Some(line),
        leaves,
        withheld,
        seen_by: match &chain.seal {
            None => "the server, in clear".to_owned(),
            Some(seal) => format!("the server, sums over at least {} sites", seal.min_sites),
        },
        privacy: vec![privacy],
        warnings,
        not_covered,
        refusal,
        first_line: format!(
            "{} {verb} job `{}` by rule `{}` ({}:{line}).",
            policy.site, job.name, chain.rule.id, policy.source.name
        ),
        paragraphs,
    })
}

fn numbers(count: u64) -> String {
    match count {
        1 => "1 number".to_owned(),
        count => format!("{count} numbers"),
    }
}

fn times(rounds: u32) -> String {
    match rounds {
        1 => "Once".to_owned(),
        rounds => format!("{rounds} times"),
    }
}

fn what_leaves(chain: &Chain, rounds: u32) -> String {
    let count = numbers(chain.flow.schema.elements());
    let mut text = format!("{}, {count}. ", times(rounds));
    let what = match chain.promise.kind {
        DataKind::Gradient => {
            format!("Together they are a sum over the {} declared records", chain.dataset.records)
        }
        DataKind::Statistics => format!(
            "Together they are counts and sums over the {} declared records",
            chain.dataset.records
        ),
        _ => "Together they are what the site's training changed in the model".to_owned(),
    };
    text.push_str(&what);
    if let Some(rate) = chain.flow.bound().and_then(|bound| bound.sampled) {
        text.push_str(&format!(", of which each takes part with a chance of {:.4}", rate.value()));
    }
    match (chain.flow.bound(), chain.events().last()) {
        (Some(bound), Some(event)) => {
            let moved = match (bound.unit, chain.dataset.adjacency) {
                (Unit::Record, Adjacency::AddRemove) => {
                    "in which no single record can move the result"
                }
                (Unit::Record, Adjacency::Replace) => {
                    "in which taking a single record in or out cannot move the result"
                }
                (Unit::Site, _) => "scaled so that the whole site cannot move the result",
            };
            text.push_str(&format!(
                ", {moved} by more than {} ({}), plus random noise {} times that size on each number.",
                short(bound.value()),
                bound.norm.as_str(),
                short(event.mechanism.deviation_units() / bound.lattice_units as f64)
            ));
        }
        (Some(bound), None) => text.push_str(&format!(
            ", scaled down to a norm of {} and without noise.",
            short(bound.value())
        )),
        (None, Some(event)) => text.push_str(&format!(
            ", of which no number leaves but noisy answers ({}).",
            event.mechanism.name()
        )),
        (None, None) => text.push_str(", as they are."),
    }
    if chain.flow.schema.0.contains_key(adaptive::TENSOR) {
        text.push_str(&format!(
            " The numbers are in units of a clip that follows how long the records' vectors are; \
             `{}` says, with the same noise, how many were within it.",
            adaptive::TENSOR
        ));
    }
    let records = chain.dataset.records;
    let weight = match (chain.weight(), &chain.seal) {
        (Weight::Records, Some(_)) if chain.kind() == DataKind::WeightDiff => format!(
            " They are multiplied by the declared number of records, {records}, under the seal; its size, \
             up to a power of two, and the sum over all sites are seen."
        ),
        // Of sums over records it tells how large they can be, and is said before a seal is made.
        (Weight::Records, _) => {
            format!(" Beside them leaves the declared number of records, {records}.")
        }
        (Weight::Equal, Some(_)) => " Every site's update counts once in the sum.".to_owned(),
        (Weight::Equal, None) => String::new(),
    };
    text.push_str(&weight);
    match &chain.rule.metrics[..] {
        [] => {}
        metrics => text.push_str(&format!(" The measurements {} leave too.", metrics.join(", "))),
    }
    text
}

fn how(chain: &Chain) -> String {
    if chain.out.is_empty() {
        return "No filter works on what leaves.".to_owned();
    }
    let steps: Vec<String> = chain
        .out
        .iter()
        .map(|link| format!("{} ({}) {}", link.name, link.owner.as_str(), link.describe()))
        .collect();
    sentence(&steps.join("; then ")) + "."
}

fn what_it_means(chain: &Chain, privacy: &Privacy) -> String {
    let Some(epsilon) = privacy.epsilon else {
        return "Nothing is hidden by noise. Whoever sees what leaves can learn from it whatever \
                it contains."
            .to_owned();
    };
    let whose = match privacy.unit {
        Unit::Record => "any one record was used",
        Unit::Site => "this site took part at all",
    };
    let rate = (privacy.guess_rate * 1000.0).ceil() / 10.0;
    format!(
        "Whoever sees all of it cannot tell with confidence whether {whose}: ε = {} at δ = {:e} \
         ({}, {}). Rule of thumb: one who would have guessed 50:50 is right at most {rate} times \
         in 100, all earlier releases from `{}` included.",
        rounded_up(epsilon),
        privacy.delta,
        privacy.adjacency.as_str(),
        privacy.accountant,
        chain.dataset.id,
    )
}

fn budget(privacy: &Privacy, paid: bool) -> String {
    if !paid {
        return format!(
            "{} in all · {} spent · nothing is charged, because nothing is noised.",
            privacy.budget,
            rounded_up(privacy.spent)
        );
    }
    let mut text = format!(
        "{} in all · {} spent · {} planned · {:.3} left.",
        privacy.budget,
        rounded_up(privacy.spent),
        rounded_up(privacy.epsilon.unwrap_or_default()),
        (privacy.left * 1000.0).floor() / 1000.0,
    );
    if let Some(round) = privacy.refused_from_round {
        text.push_str(&match round <= privacy.rounds {
            true => format!(" Stops before the plan is done: round {round} is refused."),
            false => format!(" Would stop in round {round}."),
        });
    }
    text
}

fn who_sees_it(chain: &Chain, privacy: &Privacy) -> String {
    let Some(seal) = &chain.seal else {
        return "The server, in clear. It would see only a sum over several sites if the rule had \
                `protect`."
            .to_owned();
    };
    let alone = match (privacy.epsilon_if_seal_broken, privacy.epsilon) {
        (Some(epsilon), _) => format!(
            " Each site adds a share of the noise, enough when {} honest sites are in the sum. Whoever \
             broke the seal would see this site's updates with its own share alone: ε = {}.",
            seal.honest(),
            rounded_up(epsilon)
        ),
        (None, Some(_)) => " The site's own noise is in its update all the same, whole.".to_owned(),
        (None, None) => String::new(),
    };
    let Protect { min_sites, colluders, .. } = seal;
    let seen = match seal.scheme {
        Scheme::Threshold => format!(
            "Nobody sees this site's updates, which leave sealed; the server sees sums over at least \
             {min_sites} sites, of which {colluders} may collude with it. Of n sites, the larger of \
             {min_sites} and ⌊(n + {colluders})/2⌋ + 1 must help to open a sum."
        ),
        Scheme::Tfhe => format!(
            "The server, which has no key, sees sums over at least {min_sites} sites. Every site of the job \
             has the key: a single one that works with the server opens every update."
        ),
    };
    let exact = match seal.exact {
        true => "",
        false => {
            " Sums are approximate: each number has an error of about 6.4·√n steps of the lattice."
        }
    };
    let verify = match seal.verify {
        true => {
            " This site looks whether what the server shows as the sum is that of what these sites sealed; \
             a server that has one of them with it can deceive the others."
        }
        false => "",
    };
    let stable = match seal.survivors {
        SumsOver::Any => "",
        SumsOver::Stable => " It helps to open no sum over other sites than the first.",
    };
    format!("{seen}{exact}{alone}{verify}{stable}")
}

/// What holds of the budget besides its size.
fn terms(dataset: &Dataset) -> String {
    let mut text = String::new();
    if let Window::Days(days) = dataset.budget.window {
        text.push_str(&format!(
            " It bounds any {days} days: over n times {days} days the loss is up to n times the budget."
        ));
    }
    if let Some(share) = dataset.budget.per_submitter {
        text.push_str(&format!(" No submitter may take more than ε {share} of it."));
    }
    text
}

fn check(chain: &Chain) -> Option<String> {
    let bound = chain.flow.bound()?;
    Some(
        match bound.unit {
            Unit::Record if chain.promise.kind == DataKind::Statistics => {
                "unit = record is enforced by Privet's own counting, in integers within public ranges; \
                 it is not claimed by a script."
            }
            Unit::Record if chain.promise.bound.is_none() => {
                "unit = record is CLAIMED by the training program, and enforced by nobody: if it does not \
                 clip every record, the promise is void."
            }
            Unit::Record => {
                "unit = record is enforced by Privet's own trainer, which clips every record in \
             integers; it is not claimed by a script."
            }
            Unit::Site => {
                "unit = site is enforced by the `clip` filter, whatever the training program does."
            }
        }
        .to_owned(),
    )
}

fn warnings(policy: &Policy, chain: &Chain, privacy: &Privacy) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code: &str, text: String| {
        warnings.push(Warning { code: code.to_owned(), text });
    };
    for danger in &chain.dangers {
        let means = match chain.out.iter().find(|link| &link.name == danger) {
            Some(link) => format!("it {}", link.describe()),
            None => "the site's own filters are off".to_owned(),
        };
        warn(danger, format!("The rule says \"{danger}\": {means}."));
    }
    if chain.seal.is_some() && policy.pins.is_none() {
        warn(
            CA_TRUSTED,
            "No peer is pinned: whoever the federation's CA certifies counts as a site in the sum, and \
             whoever holds the CA could be all of them."
                .to_owned(),
        );
    }
    if privacy.epsilon.is_none() {
        warn(
            "unaccounted",
            format!(
                "Nothing that leaves under this rule is charged to the budget of `{}`.",
                chain.dataset.id
            ),
        );
    }
    if privacy.refused_from_round.is_some_and(|round| round <= privacy.rounds) {
        warn("budget-exhausted", "The budget ends before the planned rounds do.".to_owned());
    }
    for finding in &policy.warnings {
        warn(&finding.code, sentence(&finding.message) + ".");
    }
    warnings
}

/// What peers have to prove, and what that proves.
fn attestation(attested: &Attested) -> String {
    let list = |profiles: &[String]| {
        profiles.iter().map(|profile| format!("`{profile}`")).collect::<Vec<_>>().join(" and ")
    };
    let mut texts = Vec::new();
    if !attested.server.is_empty() {
        texts.push(format!(
            "Before a job is looked at the server has to prove on this very connection that it fits {}, and again \
             before its evidence is {:?} old.",
            list(&attested.server),
            attested.max_age
        ));
    }
    if !attested.sites.is_empty() {
        texts.push(format!(
            "The job has to demand of every site that it fits {}; it is the server that looks.",
            list(&attested.sites)
        ));
    }
    if attested.allow_simulated {
        texts.push(
            "Evidence of devices in software is taken: it proves nothing of any machine."
                .to_owned(),
        );
    }
    let gpu_only = |profiles: &[String]| profiles.iter().any(|profile| profile == "gpu-only");
    if gpu_only(&attested.server) || gpu_only(&attested.sites) {
        texts.push(
            "`gpu-only` says what a GPU runs, and nothing of the machine that asked it.".to_owned(),
        );
    }
    texts.push(
        "What is measured is firmware and drivers, not what the program then does.".to_owned(),
    );
    texts.join(" ")
}

fn not_covered(policy: &Policy, chain: &Chain, registry: &Registry) -> Vec<String> {
    let mut texts: Vec<String> = chain
        .out
        .iter()
        .filter_map(|link| registry.spec(&link.name))
        .flat_map(|spec| spec.not_protected)
        .map(|&text| text.to_owned())
        .collect();
    texts.push(format!("The server learns that {} took part.", policy.site));
    texts.push("Anyone with other data about the same people may know more.".to_owned());
    if let Some(Dataset { unit: Unit::Site, .. }) = Some(&chain.dataset) {
        texts.push("Single records are hidden only as far as the whole site is.".to_owned());
    }
    let mut seen = std::collections::BTreeSet::new();
    texts.retain(|text| seen.insert(text.clone()));
    texts
}

fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}

/// A number for people: four significant digits, without trailing zeros.
fn short(x: f64) -> String {
    let digits = (3 - x.abs().log10().floor() as i32).clamp(0, 12);
    let text = format!("{x:.*}", digits as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

impl Explanation {
    /// The exit code of `policy explain`.
    pub fn exit_code(&self) -> u8 {
        if let Some(refusal) = &self.refusal {
            return refusal.code.exit_code();
        }
        let runs_out = |privacy: &Privacy| {
            privacy.refused_from_round.is_some_and(|round| round <= privacy.rounds)
        };
        if self.privacy.iter().any(runs_out) { 4 } else { 0 }
    }

    /// The letter, wrapped to a width of characters.
    pub fn text(&self, width: usize) -> String {
        const INDENT: usize = 15;
        let mut text = wrap(&self.first_line, width, 0);
        text.push('\n');
        for (heading, body) in &self.paragraphs {
            text.push('\n');
            text.push_str(&format!("{heading:INDENT$}"));
            text.push_str(&wrap(body, width, INDENT));
        }
        text.push('\n');
        text
    }
}

/// Breaks at spaces; lines after the first are indented.
fn wrap(text: &str, width: usize, indent: usize) -> String {
    let room = width.saturating_sub(indent).max(20);
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

#[cfg(test)]
mod tests;
