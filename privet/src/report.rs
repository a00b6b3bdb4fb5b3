//! `report.html`: one file without scripts or network, for people who were not there.

mod chart;
mod intersection;
mod statistics;

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use privet_core::Refusal;
use privet_core::ledger::rounded_up;
use privet_core::sensitivity::Unit;
use privet_gate::{Explanation, Job, Policy, Work};
use privet_server::Status;

use crate::inspect::{explain, ledger_for};
use crate::program::Program;
use crate::result::{RunResult, SiteResult};

use chart::{Bar, Line, Series, bars, line};

/// What every policy makes of the job, on fresh ledgers, in words.
pub(crate) fn letters(
    program: &Program,
    job: &Job,
    policies: &BTreeMap<String, Policy>,
) -> BTreeMap<String, Explanation> {
    let letter = |(name, policy): (&String, &Policy)| {
        let promise = program.computes().promise(job).ok()?;
        let ledger = ledger_for(policy, None).ok()?;
        let letter = explain(program, policy, job, &promise, &*ledger).ok()?;
        Some((name.clone(), letter))
    };
    policies.iter().filter_map(letter).collect()
}

/// The page.
pub(crate) fn page(
    result: &RunResult,
    job: &Job,
    policies: &BTreeMap<String, Policy>,
    letters: &BTreeMap<String, Explanation>,
    command: &str,
) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (result.job) " · Privet" }
                style { (PreEscaped(include_str!("report/style.css"))) }
            }
            body {
                main {
                    (headline(result, job))
                    @if let Work::Intersection(_) = &job.work {
                        @if let Some(found) = &result.psi { (intersection::section(found)) }
                        (refusals(result))
                        (policies_in_words(policies, letters))
                        (how_made(result, job, policies, command))
                    } @else {
                    @if result.statistics.is_empty() { (curves(result)) } @else { (statistics::section(result)) }
                    (budgets(result, letters))
                    (who_saw_what(result, job))
                    (what_left(result, letters))
                    (refusals(result))
                    (trade_off(result))
                    (policies_in_words(policies, letters))
                    (not_protected(letters))
                    (how_made(result, job, policies, command))
                    }
                }
            }
        }
    };
    page.into_string()
}

fn outcome(result: &RunResult) -> String {
    match result.status {
        Status::Done if result.rounds_done == 1 => "The one round is done.".to_owned(),
        Status::Done => format!("All {} rounds are done.", result.rounds_done),
        status => format!(
            "Ended after {} of {} rounds: {}.",
            result.rounds_done,
            result.rounds_planned,
            status.as_str()
        ),
    }
}

fn subject(job: &Job) -> &'static str {
    match job.work {
        Work::Training(_) => "federated training",
        Work::Statistics(_) => "federated statistics",
        Work::Intersection(_) => "set intersection",
    }
}

fn headline(result: &RunResult, job: &Job) -> Markup {
    let now = jiff::Timestamp::now().strftime("%-d %B %Y, %H:%M UTC").to_string();
    let worst = worst(result);
    html! {
        header {
            p.kicker { "Privet · " (subject(job)) " report" }
            h1 { (result.job) }
            p.lead { (outcome(result)) " " (now) }
        }
        @if let Some(error) = &result.error {
            p.problem { strong { "✗ " (error.code) } " — " (error.message) "."
                @if let Some(help) = &error.help { " What to do: " (help) "." } }
        }
        section.tiles aria-label="Summary" {
            @if let Work::Intersection(_) = &job.work { (intersection::tiles(result.psi.as_ref())) }
            @else {
            div.tile {
                @if result.statistics.is_empty() {
                    p.label { "Accuracy" }
                    p.number { (result.last.accuracy.map_or("–".to_owned(), |a| format!("{a:.3}"))) }
                    p.note { "on the server's public test records" }
                } @else {
                    p.label { "Columns described" }
                    p.number { (result.statistics.len()) }
                    p.note { "over the records of all sites that answered" }
                }
            }
            div.tile {
                p.label { "Budget used, worst site" }
                @match worst {
                    Some((site, spent, budget, unit, adjacency, delta)) => {
                        p.number { "ε " (rounded_up(spent)) " of " (budget) }
                        p.note { (site) ": " (unit) ", " (adjacency) ", δ = " (format!("{delta:e}")) }
                    }
                    None => { p.number { "–" } p.note { "no budget was charged" } }
                }
            }
            }
            div.tile {
                p.label { "Left the sites" }
                @let sent = bytes(result.sites.iter().map(|s| s.bytes_up).sum());
                @if let Work::Intersection(_) = &job.work {
                    p.number { (sent) }
                    p.note { "sealed, from site to site" }
                } @else {
                    p.number { (left_in_words(result)) }
                    p.note { (sent) " in all" }
                }
            }
        }
    }
}

type Worst<'a> = (&'a str, f64, f64, &'static str, &'static str, f64);

fn worst(result: &RunResult) -> Option<Worst<'_>> {
    let datasets = result
        .sites
        .iter()
        .flat_map(|site| site.datasets.iter().map(move |dataset| (site.name.as_str(), dataset)));
    let share = |spent: f64, budget: f64| spent / budget;
    datasets
        .filter(|(_, dataset)| dataset.epsilon_spent > 0.0)
        .max_by(|(_, a), (_, b)| {
            share(a.epsilon_spent, a.epsilon_budget)
                .total_cmp(&share(b.epsilon_spent, b.epsilon_budget))
        })
        .map(|(site, d)| {
            (
                site,
                d.epsilon_spent,
                d.epsilon_budget,
                d.unit.as_str(),
                d.adjacency.as_str(),
                d.delta,
            )
        })
}

fn left_in_words(result: &RunResult) -> String {
    let updates: u32 = result.sites.iter().map(|site| site.rounds_answered).sum();
    match updates {
        0 => "nothing".to_owned(),
        1 => "1 update".to_owned(),
        updates => format!("{updates} updates"),
    }
}

/// Bytes for people; kB = 1000.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 || unit == "GB" {
            return match unit {
                "B" => format!("{bytes} B"),
                _ if value < 10.0 => format!("{value:.1} {unit}"),
                _ => format!("{value:.0} {unit}"),
            };
        }
        value /= 1000.0;
    }
    String::new()
}

fn curves(result: &RunResult) -> Markup {
    let series = |pick: fn(&privet_server::Metrics) -> Option<f64>| -> Vec<(f64, f64)> {
        let point = |record: &privet_server::RoundRecord| {
            Some((f64::from(record.round), pick(&record.metrics)?))
        };
        result.rounds.iter().filter_map(point).collect()
    };
    let (accuracy, loss) = (series(|m| m.accuracy), series(|m| m.loss));
    html! {
        section {
            h2 { "Accuracy and loss per round" }
            @if accuracy.is_empty() {
                p { "No round was evaluated." }
            } @else {
                div.pair {
                    (line(&Line { title: "Accuracy", unit: "share right", points: &accuracy, class: "a", from_zero: false }))
                    (line(&Line { title: "Loss", unit: "mean −log p", points: &loss, class: "b", from_zero: true }))
                }
                p.note { "Measured by the server on public records after every round. It costs no privacy." }
            }
        }
    }
}

fn budgets(result: &RunResult, letters: &BTreeMap<String, Explanation>) -> Markup {
    let list: Vec<Bar> = result
        .sites
        .iter()
        .flat_map(|site| site.datasets.iter().map(move |dataset| (site, dataset)))
        .map(|(site, dataset)| {
            let planned = letters
                .get(&site.name)
                .and_then(|letter| letter.privacy.first())
                .filter(|privacy| privacy.dataset == dataset.id)
                .and_then(|privacy| privacy.epsilon);
            Bar {
                label: format!("{} · {}", site.name, dataset.id),
                spent: dataset.epsilon_spent,
                planned: planned.unwrap_or(0.0).min(dataset.epsilon_budget),
                budget: dataset.epsilon_budget,
            }
        })
        .collect();
    let what = result.sites.iter().flat_map(|site| &site.datasets).next();
    html! {
        section {
            h2 { "Budget per site" }
            (bars(&list))
            @if let Some(dataset) = what {
                p.note {
                    "ε per " (dataset.unit.as_str()) " at δ = " (format!("{:e}", dataset.delta)) ", "
                    (dataset.adjacency.as_str()) ", rounded up. A budget is spent once and does not come back; "
                    "a new simulation starts with fresh ones."
                }
            }
        }
    }
}

fn who_saw_what(result: &RunResult, job: &Job) -> Markup {
    let sites = result.sites.len();
    let noised = result.receipts.noise_multiplier_min.is_some();
    html! {
        section {
            h2 { "Who saw what" }
            (chart::flow(sites, noised, result.receipts.sealed))
            dl {
                dt { "Each site" }
                dd { "saw its own records, and the model of every round." }
                dt { "The gate of each site" }
                dd { "is the only way out. It let out what is listed below, "
                    @if noised { "with noise added at the site." } @else { "without noise." } }
                dt { "The server" }
                dd { @if result.receipts.sealed { "saw sums over sites only." } @else { "saw each site's update as it left the gate, in clear (no seal)." }
                    " It learnt which sites took part, and their declared numbers of records." }
                dt { "The public" }
                dd { "sees what `" (job.name) "` delivers, which was computed from what left the gates and from nothing else." }
            }
        }
    }
}

fn what_left(result: &RunResult, letters: &BTreeMap<String, Explanation>) -> Markup {
    html! {
        section {
            h2 { "What left each site" }
            div.scroll tabindex="0" role="region" aria-label="What left each site" {
                table {
                    thead { tr {
                        th { "site" } th { "tensor" } th { "shape" } th { "clip" } th { "noise σ" } th { "norm of the last" } th { "seal" }
                        th.right { "times" } th.right { "bytes" }
                    } }
                    tbody {
                        @for site in &result.sites { (left_rows(site, letters.get(&site.name))) }
                    }
                }
            }
            p.note { "Beside the tensors left the declared number of records and a receipt: the site's own statement of what its gate did. It is no proof." }
            @for line in result.dangers.iter().chain(&result.unaccounted) { p.problem { "✗ " (line) } }
        }
    }
}

fn left_rows(site: &SiteResult, letter: Option<&Explanation>) -> Markup {
    let leaves = letter.map(|letter| &letter.leaves[..]).unwrap_or_default();
    let receipt = site.receipt.as_ref();
    let clip = receipt.and_then(|r| r.clip);
    let sigma = receipt.and_then(|r| r.sigma);
    let number =
        |x: Option<f64>| x.map_or("none".to_owned(), |x| format!("{}", (x * 1e3).round() / 1e3));
    let seal = receipt.and_then(|r| r.scheme.clone()).unwrap_or_else(|| "none".to_owned());
    html! {
        @if site.rounds_answered == 0 {
            tr { td { (site.name) } td colspan="8" { "nothing left" } }
        } @else {
            @for (at, leaf) in leaves.iter().enumerate() {
                tr {
                    td { @if at == 0 { (site.name) } }
                    td { (leaf.tensor) } td { (leaf.shape) } td { (number(clip)) } td { (number(sigma)) } td { @if at == 0 { (number(site.last_norm)) } } td { (seal) }
                    td.right { (site.rounds_answered) }
                    td.right { @if at == 0 { (bytes(site.bytes_up)) } }
                }
            }
        }
    }
}

fn refusals(result: &RunResult) -> Markup {
    let rounds = result.rounds.iter().flat_map(|record| &record.refusals);
    let failed = result.error.iter().flat_map(|error| &error.refusals);
    let mut all: Vec<&Refusal> = Vec::new();
    for refusal in result.refusals.iter().chain(rounds).chain(failed) {
        if !all.contains(&refusal) {
            all.push(refusal);
        }
    }
    let dropped: Vec<(u32, &str)> = result
        .rounds
        .iter()
        .flat_map(|record| record.dropped.iter().map(|site| (record.round, site.as_str())))
        .collect();
    html! {
        section {
            h2 { "Refusals and drop-outs" }
            @if all.is_empty() && dropped.is_empty() { p { "None." } }
            @if !all.is_empty() {
                div.scroll tabindex="0" role="region" aria-label="Refusals" {
                    table {
                        thead { tr { th { "round" } th { "site" } th { "code" } th { "why" } th { "rule" } th { "filter" } th { "what to do" } } }
                        tbody {
                            @for refusal in all {
                                tr {
                                    td { (refusal.round.map_or("–".to_owned(), |round| round.to_string())) }
                                    td { (refusal.site) }
                                    td { "✗ " code { (refusal.code) } }
                                    td { (refusal.detail) }
                                    td { (refusal.rule.as_deref().unwrap_or("–")) }
                                    td { (refusal.filter.as_deref().unwrap_or("–")) }
                                    td { (refusal.help) }
                                }
                            }
                        }
                    }
                }
            }
            @for (round, site) in dropped { p { "Round " (round) ": no answer in time from " (site) "." } }
        }
    }
}

fn trade_off(result: &RunResult) -> Markup {
    let series: Vec<Series<'_>> = [(Unit::Record, "by record", "a"), (Unit::Site, "by site", "b")]
        .into_iter()
        .map(|(unit, label, class)| {
            let of_unit = result.curve.iter().filter(|bought| bought.unit == unit);
            let mut points: Vec<(f64, f64)> =
                of_unit.filter_map(|bought| Some((bought.epsilon, bought.accuracy?))).collect();
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Series { label, points, class }
        })
        .filter(|series| !series.points.is_empty())
        .collect();
    let number = |x: f64| (x * 1e3).round() / 1e3;
    html! {
        @if !series.is_empty() {
            section {
                h2 { "Privacy against accuracy" }
                (chart::trade(&series))
                p.note {
                    "What the same sites could have bought with other budgets. Hiding a single record leaves much "
                    "of a sum over many; hiding a whole site leaves little of a sum over " (result.sites.len()) ". "
                    "Every point is one more run of this simulation, on a budget of its own; another run gives another number."
                }
                div.scroll tabindex="0" role="region" aria-label="Privacy against accuracy" {
                    table {
                        thead { tr { th { "ε" } th { "δ" } th { "hides one" } th.right { "rounds" } th.right { "clip" } th.right { "σ / sensitivity" } th.right { "accuracy" } } }
                        tbody {
                            @for bought in &result.curve {
                                tr {
                                    td { (bought.epsilon) } td { (format!("{:e}", bought.delta)) } td { (bought.unit.as_str()) }
                                    td.right { (bought.rounds) } td.right { (bought.clip) } td.right { (number(bought.noise_multiplier)) }
                                    td.right { (bought.accuracy.map_or("–".to_owned(), |x| format!("{x:.3}"))) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn policies_in_words(
    policies: &BTreeMap<String, Policy>,
    letters: &BTreeMap<String, Explanation>,
) -> Markup {
    html! {
        section {
            h2 { "The policies in words" }
            @for (name, policy) in policies {
                details {
                    summary { (name) @if let Some(owner) = &policy.owner { " · " (owner) } }
                    @match letters.get(name) {
                        Some(letter) => pre { (letter.text(78)) },
                        None => p { "This policy cannot be explained for this job." },
                    }
                    pre.source { (policy.source.text) }
                }
            }
        }
    }
}

fn not_protected(letters: &BTreeMap<String, Explanation>) -> Markup {
    let mut sentences: Vec<String> = Vec::new();
    for letter in letters.values() {
        for sentence in &letter.not_covered {
            // That a site took part is said of all sites at once, above.
            if !sentence.starts_with("The server learns") && !sentences.contains(sentence) {
                sentences.push(sentence.clone());
            }
        }
    }
    html! {
        section {
            h2 { "What is not protected" }
            ul {
                li { "Anything computed outside this job." }
                li { "The model's own mistakes." }
                @for sentence in &sentences { li { (sentence) } }
            }
        }
    }
}

fn how_made(
    result: &RunResult,
    job: &Job,
    policies: &BTreeMap<String, Policy>,
    command: &str,
) -> Markup {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    html! {
        section {
            h2 { "How this was made" }
            dl {
                dt { "Command" } dd { code { (command) } }
                dt { "Version" } dd { "privet " (env!("CARGO_PKG_VERSION")) }
                dt { "Job" } dd { (job.workflow().as_str()) ", "
                    @if let Work::Intersection(wanted) = &job.work { (intersection::terms(wanted)) }
                    @else { (result.rounds_planned) " rounds, seed " (job.seed())
                        " (model initialisation only; noise has no seed)" } }
                dt { "Machine" } dd { (std::env::consts::ARCH) " " (std::env::consts::OS) ", " (cores) " cores" }
                dt { "Time" } dd { (format!("{:.2}", result.wall_s)) " s, first round open after " (format!("{:.2}", result.startup_s)) " s" }
                dt { "Policies (SHA-256)" }
                dd { @for (name, policy) in policies { div.digest { (name) " " code { (policy.digest) } } } }
            }
        }
    }
}
