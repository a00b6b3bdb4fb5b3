//! Reading a policy file: its form as it is written, and what is wrong with it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use privet_core::Registry;
use privet_core::ledger::{Budget, Currency, Window};
use privet_core::sensitivity::{Adjacency, Unit};
use privet_crypto::Digest;
use serde::Deserialize;
use toml::Spanned;

use super::{DANGER_UNFILTERED, Dataset, Out, Policy, Protect, Rule, TASKS, Weight, When, is_name};
use crate::attestation::Attest;
use crate::filter_use::{self, FilterTable, FilterUse};
use crate::finding::{Finding, Severity, Source, did_you_mean, parse};
use crate::intersection::{Noise, PsiRule};

mod file {
    //! The file as it is written.
    use super::*;
    use crate::attestation::{Attest, Attested};

    fn yes() -> bool {
        true
    }

    fn lifetime() -> Window {
        Window::Lifetime
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct File {
        pub schema: Spanned<u32>,
        pub site: Site,
        pub peers: Option<Spanned<Peers>>,
        #[serde(default)]
        pub dataset: BTreeMap<Spanned<String>, Dataset>,
        #[serde(default)]
        pub rule: Vec<Spanned<Rule>>,
        #[serde(default)]
        pub psi: Vec<Spanned<Psi>>,
        #[serde(default)]
        pub attest: Attest,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Site {
        pub name: Spanned<String>,
        pub owner: Option<String>,
        pub review_by: Option<Spanned<toml::value::Datetime>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Peers {
        pub pin: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Dataset {
        pub path: PathBuf,
        pub unit: Unit,
        #[serde(default)]
        pub adjacency: Adjacency,
        pub label: Option<String>,
        pub records: Spanned<u64>,
        pub budget: Spanned<Limits>,
        pub currency: Option<Spanned<Currency>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Limits {
        pub epsilon: f64,
        pub delta: f64,
        #[serde(default = "lifetime")]
        pub window: Window,
        pub per_submitter: Option<Spanned<f64>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Rule {
        pub id: Spanned<String>,
        pub when: Spanned<When>,
        pub out: OutValue,
        #[serde(default, rename = "in")]
        pub input: Vec<FilterTable>,
        pub protect: Option<Protect>,
        #[serde(default = "yes")]
        pub allow_job_protection: bool,
        #[serde(default)]
        pub require: Require,
        #[serde(default)]
        pub metrics: Metrics,
        pub weight: Option<Weight>,
    }

    #[derive(Deserialize, Default)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Require {
        pub attested: Option<Attested>,
        pub rounds_max: Option<u32>,
    }

    #[derive(Deserialize, Default)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Metrics {
        #[serde(default)]
        pub allow: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Psi {
        pub dataset: String,
        pub peers: Vec<String>,
        #[serde(default)]
        pub all_peers: bool,
        pub columns: Option<Vec<String>>,
        pub reveal: Reveal,
        pub min_intersection: u64,
        pub max_fraction: f64,
        pub runs: Runs,
        #[serde(default)]
        pub out: Vec<FilterTable>,
    }

    #[derive(Deserialize, PartialEq)]
    #[serde(rename_all = "kebab-case")]
    pub(super) enum Reveal {
        Size,
        Rows,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    pub(super) struct Runs {
        pub max: u32,
        pub window: Window,
    }

    /// Text or a list; written by hand, since serde's untagged enums lose the places.
    pub(super) enum OutValue {
        Text(String),
        List(Vec<FilterTable>),
    }

    impl<'de> Deserialize<'de> for OutValue {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl<'de> serde::de::Visitor<'de> for Visitor {
                type Value = OutValue;
                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a list of filters, or \"danger-unfiltered\"")
                }
                fn visit_str<E>(self, text: &str) -> Result<OutValue, E> {
                    Ok(OutValue::Text(text.to_owned()))
                }
                fn visit_seq<A: serde::de::SeqAccess<'de>>(
                    self,
                    mut list: A,
                ) -> Result<OutValue, A::Error> {
                    let mut tables = Vec::new();
                    while let Some(table) = list.next_element()? {
                        tables.push(table);
                    }
                    Ok(OutValue::List(tables))
                }
            }
            deserializer.deserialize_any(Visitor)
        }
    }
}

/// Reads a policy; `folder` is where its relative paths start.
pub(super) fn policy(
    source: &Source,
    folder: &Path,
    registry: &Registry,
) -> Result<Policy, Vec<Finding>> {
    let file: file::File = parse(source).map_err(|finding| vec![finding])?;
    let mut reader = Reader { source, registry, findings: Vec::new() };
    let policy = reader.policy(file, folder);
    let (errors, warnings): (Vec<_>, Vec<_>) =
        reader.findings.into_iter().partition(|finding| finding.severity == Severity::Error);
    if errors.is_empty() { Ok(Policy { warnings, ..policy }) } else { Err(errors) }
}

struct Reader<'a> {
    source: &'a Source,
    registry: &'a Registry,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn error(&mut self, code: &str, message: impl Into<String>, span: Range<usize>, help: &str) {
        let finding = self.source.error(code, message, span);
        self.findings.push(finding.help(help));
    }

    fn policy(&mut self, file: file::File, folder: &Path) -> Policy {
        if *file.schema.get_ref() != 1 {
            let message = format!("schema {} is not known", file.schema.get_ref());
            self.error("unknown-schema", message, file.schema.span(), "write `schema = 1`");
        }
        let name = file.site.name;
        if !is_name(name.get_ref()) {
            self.error(
                "invalid",
                "a site's name is made of letters, digits, `-`, `_` and `.`",
                name.span(),
                "for example `royal-example`",
            );
        }
        if let Some(review) = &file.site.review_by
            && review.get_ref().date.is_none()
        {
            self.error(
                "invalid",
                "`review-by` is no date",
                review.span(),
                "for example 2027-01-31",
            );
        }
        let pins = file.peers.as_ref().map(|peers| {
            let pins: Vec<_> = peers.get_ref().pin.iter().map(|pin| key(pin)).collect();
            if pins.contains(&None) {
                self.error(
                    "invalid",
                    "a pin is `sha256:` and 64 hex digits",
                    peers.span(),
                    "take the SHA-256 of the peer certificate's public key (SPKI)",
                );
            }
            pins.into_iter().flatten().collect()
        });
        let currencies = file.dataset.iter().filter_map(|(id, dataset)| {
            Some((id.get_ref().clone(), dataset.currency.as_ref()?.span()))
        });
        let currencies: BTreeMap<_, _> = currencies.collect();
        let mut datasets: BTreeMap<_, _> = file
            .dataset
            .into_iter()
            .map(|(id, dataset)| (id.get_ref().clone(), self.dataset(id, dataset, folder)))
            .collect();
        let rules = self.rules(file.rule, &datasets);
        let psi: Vec<(PsiRule, Range<usize>)> =
            file.psi.into_iter().map(|psi| self.psi(psi, &datasets)).collect();
        self.currencies(&currencies, &mut datasets, &rules, &psi);
        let psi = psi.into_iter().map(|(rule, span)| self.noise(rule, span, &datasets)).collect();
        Policy {
            site: name.into_inner(),
            owner: file.site.owner,
            datasets,
            rules,
            digest: Digest::of(self.source.text.as_bytes()).hex(),
            pins,
            psi,
            attest: Attest { folder: folder.join(&file.attest.folder), ..file.attest },
            source: self.source.clone(),
            warnings: Vec::new(),
        }
    }

    fn psi(
        &mut self,
        psi: Spanned<file::Psi>,
        datasets: &BTreeMap<String, Dataset>,
    ) -> (PsiRule, Range<usize>) {
        let span = psi.span();
        let line = self.source.place(span.start).0;
        let psi = psi.into_inner();
        let out = self.filters(&psi.out);
        let mut hold = |fine: bool, message: &str, help: &str| {
            if !fine {
                self.error("invalid", message, span.clone(), help);
            }
        };
        let known = datasets.contains_key(&psi.dataset);
        hold(
            known,
            "[[psi]] names a data set that the policy has not",
            "declare it as [dataset.ID]",
        );
        let named = !psi.peers.is_empty() && psi.peers.iter().all(|peer| is_name(peer));
        hold(named, "`peers` names no sites", "for example [\"south\", \"west\"]");
        let fraction = (0.0..=1.0).contains(&psi.max_fraction);
        hold(fraction, "`max-fraction` must lie between 0 and 1", "1.0 allows every share");
        let rows = psi.reveal == file::Reveal::Rows;
        let message = "`out` noises sizes, and this section tells rows";
        hold(!rows || psi.out.is_empty(), message, "write `reveal = \"size\"`, or leave `out` out");
        let rule = PsiRule {
            dataset: psi.dataset,
            peers: psi.peers.into_iter().collect(),
            all_peers: psi.all_peers,
            columns: psi.columns,
            rows,
            out,
            min_intersection: psi.min_intersection,
            max_fraction: psi.max_fraction,
            runs: psi.runs.max,
            window: psi.runs.window,
            line,
        };
        (rule, span)
    }

    /// Looks at whether the filters of a section can work.
    fn noise(
        &mut self,
        rule: PsiRule,
        span: Range<usize>,
        datasets: &BTreeMap<String, Dataset>,
    ) -> PsiRule {
        let Some(dataset) = datasets.get(&rule.dataset) else { return rule };
        if let Err((at, reason)) = Noise::compile(&rule, dataset, self.registry) {
            let place = at.and_then(|at| rule.out.get(at)).map_or(span, |used| used.span.clone());
            self.error(reason.code.as_str(), reason.detail, place, reason.code.help());
        }
        rule
    }

    fn dataset(&mut self, id: Spanned<String>, file: file::Dataset, folder: &Path) -> Dataset {
        if !is_name(id.get_ref()) {
            self.error(
                "invalid",
                "a data set's name is made of letters, digits, `-`, `_` and `.`",
                id.span(),
                "for example `ct-2026`",
            );
        }
        let budget = file.budget.get_ref();
        if !(budget.epsilon.is_finite() && budget.epsilon > 0.0) {
            let span = file.budget.span();
            self.error("invalid", "`epsilon` must be finite and above 0", span, "for example 6.0");
        }
        if !(budget.delta > 0.0 && budget.delta < 1.0) {
            let span = file.budget.span();
            self.error("invalid", "`delta` must lie between 0 and 1", span, "for example 1e-5");
        }
        if *file.records.get_ref() == 0 {
            let span = file.records.span();
            self.error(
                "invalid",
                "`records` must be at least 1",
                span,
                "declare how many there are",
            );
        }
        if let Some(limit) = &budget.per_submitter
            && !(*limit.get_ref() > 0.0 && *limit.get_ref() <= budget.epsilon)
        {
            let message = "`per-submitter` must be above 0 and at most `epsilon`";
            self.error("invalid", message, limit.span(), "for example half of `epsilon`");
        }
        Dataset {
            id: id.into_inner(),
            path: folder.join(file.path),
            unit: file.unit,
            adjacency: file.adjacency,
            label: file.label,
            records: file.records.into_inner(),
            budget: Budget {
                epsilon: budget.epsilon,
                delta: budget.delta,
                window: budget.window,
                per_submitter: budget.per_submitter.as_ref().map(|limit| *limit.get_ref()),
            },
            currency: file.currency.map_or(Currency::Gaussian, Spanned::into_inner),
        }
    }

    /// Whether the exact Gaussian currency can count all that the rules on a data set do.
    fn gaussian_counts(
        &self,
        dataset: &str,
        rules: &[Rule],
        psi: &[(PsiRule, Range<usize>)],
    ) -> bool {
        let counts = |used: &FilterUse| {
            let spec = self.registry.spec(&used.name);
            spec.is_none_or(|spec| {
                spec.counted_in.is_empty() || spec.counted_in.contains(&Currency::Gaussian)
            })
        };
        let sections = psi.iter().map(|(section, _)| section);
        let sections = sections.filter(|section| section.dataset == dataset);
        rules.iter().filter(|rule| rule.when.dataset == dataset).all(|rule| {
            let filters = match &rule.out {
                Out::Filters(filters) => &filters[..],
                Out::DangerUnfiltered => &[],
            };
            rule.protect.is_none() && filters.iter().all(counts)
        }) && sections.flat_map(|section| &section.out).all(counts)
    }

    /// Chooses the currency of data sets that name none, and refuses one that cannot pay.
    fn currencies(
        &mut self,
        named: &BTreeMap<String, Range<usize>>,
        datasets: &mut BTreeMap<String, Dataset>,
        rules: &[Rule],
        psi: &[(PsiRule, Range<usize>)],
    ) {
        for (id, dataset) in datasets {
            if dataset.currency != Currency::Gaussian || self.gaussian_counts(id, rules, psi) {
                continue;
            }
            match named.get(id) {
                None => dataset.currency = Currency::Zcdp,
                Some(span) => {
                    let message = format!(
                        "the currency \"gaussian\" counts unsealed Gaussian noise alone, and a rule on `{id}` has other noise, or seals"
                    );
                    let help = "write \"zcdp\", or leave it out";
                    self.error("wrong-currency", message, span.clone(), help);
                }
            }
        }
    }

    fn rules(
        &mut self,
        rules: Vec<Spanned<file::Rule>>,
        datasets: &BTreeMap<String, Dataset>,
    ) -> Vec<Rule> {
        let mut read: Vec<Rule> = Vec::new();
        for rule in rules {
            let whole = rule.span();
            let file = rule.into_inner();
            let (id, when) = (file.id.get_ref().clone(), file.when.get_ref().clone());
            if read.iter().any(|earlier| earlier.id == id) {
                let message = format!("there are two rules `{id}`");
                self.error("duplicate-rule", message, file.id.span(), "give each its own id");
            }
            self.when(&file.when, datasets);
            if let Some(earlier) = read.iter().find(|earlier| earlier.when.shadows(&when)) {
                let message = format!(
                    "rule `{id}` can never match: rule `{}` above it takes all that it would",
                    earlier.id
                );
                let help = "the first match is the only one: put the narrower rule first";
                self.error("unreachable-rule", message, file.id.span(), help);
            }
            let out = match file.out {
                file::OutValue::Text(text) if text == DANGER_UNFILTERED => Out::DangerUnfiltered,
                file::OutValue::Text(text) => {
                    let message = format!("`out = \"{text}\"` says nothing");
                    let help = "write a list of filters, or \"danger-unfiltered\"";
                    self.error("unknown-value", message, file.id.span(), help);
                    Out::Filters(Vec::new())
                }
                file::OutValue::List(list) if list.is_empty() => {
                    let message = format!("rule `{id}` has an empty `out`");
                    let help =
                        "list the filters, or write \"danger-unfiltered\" to let everything leave";
                    self.error("empty-out", message, file.id.span(), help);
                    Out::Filters(Vec::new())
                }
                file::OutValue::List(list) => Out::Filters(self.filters(&list)),
            };
            let input = self.filters(&file.input);
            if let Some((message, help)) = file.protect.as_ref().and_then(Protect::problem) {
                self.error("invalid", message, whole.clone(), help);
            }
            if file.require.rounds_max == Some(0) {
                let help = "use a `block` filter to refuse every job";
                self.error("invalid", "`rounds-max` must be at least 1", whole, help);
            }
            read.push(Rule {
                id,
                when,
                out,
                input,
                rounds_max: file.require.rounds_max,
                attested: file.require.attested,
                protect: file.protect,
                allow_job_protection: file.allow_job_protection,
                metrics: file.metrics.allow,
                weight: file.weight,
                span: file.id.span(),
            });
        }
        read
    }

    fn when(&mut self, when: &Spanned<When>, datasets: &BTreeMap<String, Dataset>) {
        let (span, when) = (when.span(), when.get_ref());
        if when.task.is_empty() {
            self.error(
                "unreachable-rule",
                "`task` is empty: the rule can never match",
                span.clone(),
                "name a task, or write [\"*\"]",
            );
        }
        for task in &when.task {
            if task != "*" && !TASKS.contains(&task.as_str()) {
                let help = did_you_mean(
                    task,
                    TASKS,
                    "tasks are train, statistics and psi; \"*\" is every task",
                );
                let message = format!("there is no task `{task}`: the rule would never match it");
                let span = self.within(&span, task);
                self.error("unknown-task", message, span, &help);
            }
        }
        if !datasets.contains_key(&when.dataset) {
            let names = datasets.keys().map(String::as_str);
            let help = did_you_mean(&when.dataset, names, "declare it as [dataset.NAME]");
            let message = format!("there is no data set `{}`", when.dataset);
            let span = self.within(&span, &when.dataset);
            self.error("unknown-dataset", message, span, &help);
        }
    }

    /// The quoted word within a span, or all of the span.
    fn within(&self, span: &Range<usize>, word: &str) -> Range<usize> {
        let text = self.source.text.get(span.clone()).unwrap_or("");
        match text.find(&format!("\"{word}\"")) {
            Some(at) => span.start + at..span.start + at + word.len() + 2,
            None => span.clone(),
        }
    }

    fn filters(&mut self, list: &[FilterTable]) -> Vec<FilterUse> {
        let read =
            |table| filter_use::read(table, &[], self.source, self.registry, &mut self.findings);
        list.iter().filter_map(read).collect()
    }
}

/// The digest of a key as a pin has it.
fn key(pin: &str) -> Option<[u8; 32]> {
    let hex = pin.strip_prefix("sha256:")?;
    let digit = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    let plain = hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes = (0..32).map(|at| digit(2 * at)).collect::<Option<Vec<u8>>>()?;
    plain.then(|| bytes.try_into().ok()).flatten()
}
