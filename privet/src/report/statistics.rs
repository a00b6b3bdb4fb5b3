//! Answers about columns: a table, and a histogram where one was asked.

use maud::{Markup, html};

use crate::result::RunResult;
use crate::statistics::{ColumnAnswer, Histogram};

const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 200.0;
const BOTTOM: f64 = 28.0;

pub(super) fn section(result: &RunResult) -> Markup {
    let number = |x: Option<f64>| x.map_or("–".to_owned(), short);
    html! {
        section {
            h2 { "What the sums say" }
            div.scroll tabindex="0" role="region" aria-label="What the sums say" {
                table {
                    thead { tr {
                        th { "column" } th.right { "count" } th.right { "sum" } th.right { "mean" } th.right { "sd" }
                        th.right { "1 %" } th.right { "25 %" } th.right { "median" } th.right { "75 %" } th.right { "99 %" }
                    } }
                    tbody {
                        @for known in &result.statistics {
                            @let quartile = |at: usize| number(known.quartiles.map(|q| q[at]));
                            tr {
                                td { (known.column) }
                                td.right { (short(known.count)) " ± " (short(known.count_error)) }
                                td.right { (number(known.sum)) }
                                td.right { (number(known.mean)) @if let Some(error) = known.mean_error { " ± " (short(error)) } }
                                td.right { (number(known.variance.map(f64::sqrt))) }
                                td.right { (number(known.min)) } td.right { (quartile(0)) } td.right { (quartile(1)) }
                                td.right { (quartile(2)) } td.right { (number(known.max)) }
                            }
                        }
                    }
                }
            }
            p.note { "± is the standard deviation that the noise alone gives. All of this is worked out from the noised sums; it costs no privacy." }
            div.pair {
                @for known in &result.statistics {
                    @if let Some(histogram) = &known.histogram { (bars(known, histogram)) }
                }
            }
        }
    }
}

/// Four significant digits, without trailing zeros.
fn short(x: f64) -> String {
    let digits = (3 - x.abs().max(1e-9).log10().floor() as i32).clamp(0, 6);
    let text = format!("{x:.*}", digits as usize);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// Bars from zero; a whisker is one standard deviation of the noise to either side.
fn bars(known: &ColumnAnswer, histogram: &Histogram) -> Markup {
    let counts = &histogram.counts;
    let most = counts.iter().fold(1.0, |most: f64, &count| most.max(count + known.count_error));
    let width = WIDTH / counts.len() as f64;
    let y = |count: f64| (HEIGHT - BOTTOM) * (1.0 - count.max(0.0) / most);
    let edge = |at: usize| histogram.edges.get(at).map_or(String::new(), |&x| short(x));
    html! {
        figure.trade {
            figcaption { (known.column) span.unit { " (records in each bin, with noise)" } }
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" {
                title { "Histogram of " (known.column) }
                desc { @for (at, count) in counts.iter().enumerate() { (edge(at)) " to " (edge(at + 1)) ": " (short(*count)) ", " } }
                @for (at, &count) in counts.iter().enumerate() {
                    @let (left, middle) = (width * at as f64, width * (at as f64 + 0.5));
                    rect.spent x=(format!("{:.1}", left + 1.5)) y=(format!("{:.1}", y(count))) width=(format!("{:.1}", width - 3.0)) height=(format!("{:.1}", HEIGHT - BOTTOM - y(count))) {
                        title { (edge(at)) " to " (edge(at + 1)) ": " (short(count)) " ± " (short(known.count_error)) }
                    }
                    line.wire x1=(format!("{middle:.1}")) x2=(format!("{middle:.1}")) y1=(format!("{:.1}", y(count - known.count_error))) y2=(format!("{:.1}", y(count + known.count_error))) {}
                }
                line.grid x1="0" x2=(WIDTH) y1=(HEIGHT - BOTTOM) y2=(HEIGHT - BOTTOM) {}
                text.tick x="0" y=(HEIGHT - 8.0) { (edge(0)) }
                text.tick x=(WIDTH / 2.0) y=(HEIGHT - 8.0) text-anchor="middle" { (short(f64::midpoint(histogram.edges[0], histogram.edges[counts.len()]))) }
                text.tick x=(WIDTH) y=(HEIGHT - 8.0) text-anchor="end" { (edge(counts.len())) }
            }
        }
    }
}
