//! Small charts as SVG text. Colours come from the page's style, so that they follow light and
//! dark; every chart has a title and a description for those who do not see it.

use maud::{Markup, html};

/// A line over rounds.
pub(super) struct Line<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    /// (round, value), by round.
    pub(super) points: &'a [(f64, f64)],
    /// Class of the line, for its colour.
    pub(super) class: &'a str,
    pub(super) from_zero: bool,
}

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 48.0;
const BOTTOM: f64 = 34.0;
const TOP: f64 = 14.0;
const RIGHT: f64 = 52.0;

/// Round numbers that cover a range, about four of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let span = (high - low).max(1e-3);
    let raw = span / 4.0;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= raw)
        .unwrap_or(raw);
    let first = (low / step).floor() as i64;
    // A flat line still needs a scale.
    let last = ((high / step).ceil() as i64).max(first + 1);
    (first..=last).map(|n| n as f64 * step).collect()
}

fn number(x: f64) -> String {
    let text = format!("{x:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(super) fn line(chart: &Line<'_>) -> Markup {
    let values = chart.points.iter().map(|&(_, y)| y);
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    let ys = ticks(if chart.from_zero { 0.0 } else { low }, high);
    let (bottom, top) = (ys[0], ys[ys.len() - 1]);
    let last = chart.points.last().copied().unwrap_or((1.0, 0.0));
    let first = chart.points.first().map_or(1.0, |point| point.0);
    let x = |round: f64| {
        let share = if last.0 > first { (round - first) / (last.0 - first) } else { 0.5 };
        LEFT + share * (WIDTH - LEFT - RIGHT)
    };
    let y =
        |value: f64| HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - BOTTOM - TOP);
    let path: Vec<String> =
        chart.points.iter().map(|&(r, v)| format!("{:.1},{:.1}", x(r), y(v))).collect();
    let description = format!(
        "{} by round, from {} in round {} to {} in round {}",
        chart.title,
        number(chart.points.first().map_or(0.0, |p| p.1)),
        first,
        number(last.1),
        last.0
    );
    html! {
        figure {
            figcaption { (chart.title) span.unit { " (" (chart.unit) ")" } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" {
                title { (chart.title) }
                desc { (description) }
                @for tick in &ys {
                    line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(y(*tick)) y2=(y(*tick)) {}
                    text.tick x=(LEFT - 6.0) y=(y(*tick) + 4.0) text-anchor="end" { (number(*tick)) }
                }
                text.tick x=(x(first)) y=(HEIGHT - 14.0) text-anchor="middle" { (first) }
                @if last.0 > first {
                    text.tick x=(x(last.0)) y=(HEIGHT - 14.0) text-anchor="middle" { (last.0) }
                }
                text.tick x=((LEFT + WIDTH - RIGHT) / 2.0) y=(HEIGHT - 14.0) text-anchor="middle" { "round" }
                polyline.(chart.class) points=(path.join(" ")) {}
                @for &(round, value) in chart.points {
                    circle.(chart.class) cx=(format!("{:.1}", x(round))) cy=(format!("{:.1}", y(value))) r="2.5" {
                        title { "round " (round) ": " (number(value)) }
                    }
                }
                text.end.(chart.class) x=(x(last.0) + 8.0) y=(y(last.1) + 4.0) { (number(last.1)) }
            }
        }
    }
}

/// A line of privacy against accuracy.
pub(super) struct Series<'a> {
    pub(super) label: &'a str,
    /// (ε, accuracy), by ε.
    pub(super) points: Vec<(f64, f64)>,
    /// Class of the line, for its colour.
    pub(super) class: &'a str,
}

/// Accuracy over ε, which doubles from tick to tick.
pub(super) fn trade(series: &[Series<'_>]) -> Markup {
    let points = || series.iter().flat_map(|series| &series.points);
    let ys = ticks(points().map(|p| p.1).fold(1.0, f64::min), 1.0);
    let (bottom, top) = (ys[0], ys[ys.len() - 1]);
    let mut xs: Vec<f64> = points().map(|p| p.0).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    let (first, last) = (xs.first().map_or(0.0, |x| x.log2()), xs.last().map_or(1.0, |x| x.log2()));
    let x = |epsilon: f64| {
        let share = if last > first { (epsilon.log2() - first) / (last - first) } else { 0.5 };
        LEFT + share * (WIDTH - LEFT - TRADE_RIGHT)
    };
    let y =
        |value: f64| HEIGHT - BOTTOM - (value - bottom) / (top - bottom) * (HEIGHT - BOTTOM - TOP);
    html! {
        figure.trade {
            figcaption { "Accuracy" span.unit { " (share right)" } " by budget" span.unit { " (ε at each site)" } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" {
                title { "Privacy against accuracy" }
                desc {
                    @for series in series {
                        (series.label) ":"
                        @for &(epsilon, value) in &series.points { " " (number(value)) " at ε " (number(epsilon)) "," }
                        " "
                    }
                }
                @for tick in &ys {
                    line.grid x1=(LEFT) x2=(WIDTH - TRADE_RIGHT) y1=(y(*tick)) y2=(y(*tick)) {}
                    text.tick x=(LEFT - 6.0) y=(y(*tick) + 4.0) text-anchor="end" { (number(*tick)) }
                }
                @for epsilon in &xs {
                    text.tick x=(x(*epsilon)) y=(HEIGHT - 14.0) text-anchor="middle" { "ε " (number(*epsilon)) }
                }
                @for series in series {
                    @let path: Vec<String> = series.points.iter().map(|&(e, v)| format!("{:.1},{:.1}", x(e), y(v))).collect();
                    polyline.(series.class) points=(path.join(" ")) {}
                    @for &(epsilon, value) in &series.points {
                        circle.(series.class) cx=(format!("{:.1}", x(epsilon))) cy=(format!("{:.1}", y(value))) r="3" {
                            title { (series.label) ", ε " (number(epsilon)) ": " (number(value)) }
                        }
                    }
                    @if let Some(&(epsilon, value)) = series.points.last() {
                        text.end.(series.class) x=(x(epsilon) + 8.0) y=(y(value) + 4.0) { (series.label) }
                    }
                }
            }
        }
    }
}

/// Room for the label of a line.
const TRADE_RIGHT: f64 = 92.0;

/// A budget: spent, planned, all of it.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) spent: f64,
    pub(super) planned: f64,
    pub(super) budget: f64,
}

pub(super) fn bars(list: &[Bar]) -> Markup {
    let most = list.iter().map(|bar| bar.budget.max(bar.spent)).fold(1e-9, f64::max);
    html! {
        div.bars role="list" {
            @for bar in list {
                div.bar role="listitem" {
                    span.name { (bar.label) }
                    span.track {
                        svg viewBox="0 0 100 10" preserveAspectRatio="none" role="img" {
                            title { (bar.label) }
                            desc { "ε " (number(bar.spent)) " spent of " (number(bar.budget)) }
                            rect.budget x="0" y="0" width=(100.0 * bar.budget / most) height="10" {}
                            rect.planned x="0" y="0" width=(100.0 * bar.planned / most) height="10" {}
                            rect.spent x="0" y="2" width=(100.0 * bar.spent / most) height="6" {}
                        }
                    }
                    span.value {
                        "ε " (privet_core::ledger::rounded_up(bar.spent)) " of " (number(bar.budget))
                    }
                }
            }
        }
        p.legend { span.key.spent {} " spent " span.key.planned {} " planned " span.key.budget {} " budget" }
    }
}

/// Sites, their gates and the server. The lock is drawn open where nothing is sealed.
pub(super) fn flow(sites: usize, noised: bool, sealed: bool) -> Markup {
    let shown = sites.clamp(1, 5);
    let height = 40.0 * shown as f64 + 20.0;
    let middle = height / 2.0;
    let row = |at: usize| 30.0 + 40.0 * at as f64;
    let gate = if noised { "gate: noise" } else { "gate" };
    let wire = if sealed { "sealed" } else { "in clear" };
    html! {
        svg.flow viewBox={ "0 0 640 " (height) } role="img" {
            title { "Who saw what" }
            desc { (sites) " sites, each behind its own gate, send updates to one server, " (wire) }
            @for at in 0..shown {
                rect.box x="4" y=(row(at) - 14.0) width="110" height="28" rx="4" {}
                text.node x="59" y=(row(at) + 5.0) text-anchor="middle" { @if at == 4 && sites > 5 { "… " (sites) " sites" } @else { "records" } }
                line.wire x1="114" x2="170" y1=(row(at)) y2=(row(at)) {}
                rect.gate x="170" y=(row(at) - 14.0) width="110" height="28" rx="4" {}
                text.node x="225" y=(row(at) + 5.0) text-anchor="middle" { (gate) }
                line.wire x1="280" x2="500" y1=(row(at)) y2=(middle) {}
            }
            rect.box x="500" y=(middle - 20.0) width="130" height="40" rx="4" {}
            text.node x="565" y=(middle + 5.0) text-anchor="middle" { "server" }
            rect.paper x="352" y=(middle - 13.0) width="76" height="24" {}
            text.node x="390" y=(middle + 4.0) text-anchor="middle" { (wire) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        for (low, high) in [(0.0, 1.0), (0.62, 0.96), (0.0, 0.031), (3.0, 3.0)] {
            let ticks = ticks(low, high);
            assert!(ticks[0] <= low && ticks[ticks.len() - 1] >= high, "{ticks:?}");
            assert!((2..=7).contains(&ticks.len()), "{ticks:?}");
        }
    }
}
