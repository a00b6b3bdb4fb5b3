//! What a sum of noised counts says: means, variances, quantiles, histograms.
//!
//! All of it is post-processing of what left the sites, and costs no privacy. With y the number of a
//! record scaled to [−1, 1], n the count and s the standard deviation of the noise on each number:
//!
//! ```text
//!   mean of y = Σy/n         its error from noise ≈ s·√(1 + ȳ²)/n
//!   variance  = Σy²/n − ȳ²   quantiles: where the cumulated bins reach a share of them all
//! ```

use privet_core::tensor::{Tensor, Tensors};
use privet_gate::{Column, Statistic};
use serde::Serialize;

/// What is known of one column. Numbers that were not asked, or that so few records do not tell, are
/// absent.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColumnAnswer {
    /// Its name.
    pub column: String,
    /// How many records have a number there.
    pub count: f64,
    /// Standard deviation of the noise on the count, and on every bin.
    pub count_error: f64,
    /// Their sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sum: Option<f64>,
    /// Their mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<f64>,
    /// Its standard error from noise; that from who happens to be in the table comes on top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean_error: Option<f64>,
    /// Their variance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variance: Option<f64>,
    /// The first percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The last percentile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// The three quartiles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quartiles: Option<[f64; 3]>,
    /// The bins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub histogram: Option<Histogram>,
}

/// Bins of equal width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Where they begin and end: one more than there are bins.
    pub edges: Vec<f64>,
    /// How many records lie in each, with noise: below zero too.
    pub counts: Vec<f64>,
}

/// Reads the answers off a sum. `noise` is the standard deviation of the noise on each of its
/// numbers.
pub(crate) fn answers(columns: &[Column], sum: &Tensors, noise: f64) -> Vec<ColumnAnswer> {
    let known = |column: &Column| {
        let part = |name: &str| {
            let tensor: Option<&Tensor> = sum.0.get(&format!("{}.{name}", column.name));
            tensor.map(|tensor| {
                let mut values = Vec::with_capacity(tensor.values().len());
                tensor.values().for_each(|x| values.push(x));
                values
            })
        };
        let first = |name: &str| part(name).and_then(|values| values.first().copied());
        Some(answer(column, first("count")?, first("sum"), first("squares"), part("bins"), noise))
    };
    columns.iter().filter_map(known).collect()
}

fn answer(
    column: &Column,
    count: f64,
    sum: Option<f64>,
    squares: Option<f64>,
    bins: Option<Vec<f64>>,
    noise: f64,
) -> ColumnAnswer {
    let [low, high] = column.range;
    let half = (high - low) / 2.0;
    let middle = f64::midpoint(low, high);
    let enough = count >= 1.0;
    let mean = sum.filter(|_| enough).map(|sum| (sum / count).clamp(-1.0, 1.0));
    let asked = |any: &[Statistic]| column.asks(any);
    let quantile = |share: f64| {
        let bins = bins.as_ref().filter(|_| enough)?;
        Some(low + (high - low) * reached(bins, share)?)
    };
    let min_max = asked(&[Statistic::MinMax]);
    ColumnAnswer {
        column: column.name.clone(),
        count,
        count_error: noise,
        sum: sum.filter(|_| asked(&[Statistic::Sum])).map(|sum| sum * half + count * middle),
        mean: mean.filter(|_| asked(&[Statistic::Mean])).map(|mean| middle + half * mean),
        mean_error: mean
            .filter(|_| asked(&[Statistic::Mean]))
            .map(|mean| half * noise * mean.mul_add(mean, 1.0).sqrt() / count),
        variance: mean
            .zip(squares)
            .map(|(mean, squares)| (squares / count - mean * mean).max(0.0) * half * half),
        min: min_max.then(|| quantile(0.01)).flatten(),
        max: min_max.then(|| quantile(0.99)).flatten(),
        quartiles: asked(&[Statistic::Quantiles])
            .then(|| Some([quantile(0.25)?, quantile(0.5)?, quantile(0.75)?]))
            .flatten(),
        histogram: bins.filter(|_| asked(&[Statistic::Histogram])).map(|counts| {
            let width = (high - low) / counts.len() as f64;
            let edges = (0..=counts.len()).map(|i| low + width * i as f64).collect();
            Histogram { edges, counts }
        }),
    }
}

/// Where the cumulated bins reach a share of all, as a share of the range; noise below zero counts as
/// nothing.
fn reached(bins: &[f64], share: f64) -> Option<f64> {
    let total: f64 = bins.iter().map(|count| count.max(0.0)).sum();
    let (mut before, wanted) = (0.0, share * total);
    for (at, count) in bins.iter().map(|count| count.max(0.0)).enumerate() {
        if count > 0.0 && before + count >= wanted {
            return Some((at as f64 + (wanted - before) / count) / bins.len() as f64);
        }
        before += count;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(ask: &[Statistic]) -> Column {
        Column { name: "age".into(), range: [0.0, 100.0], ask: ask.to_vec(), bins: 4 }
    }

    #[test]
    fn sums_become_statistics() {
        let all = column(&[
            Statistic::Sum,
            Statistic::Mean,
            Statistic::Variance,
            Statistic::Histogram,
            Statistic::Quantiles,
            Statistic::MinMax,
        ]);
        // Four records: 25, 25, 75, 75, as y = ∓½.
        let bins = vec![0.0, 2.0, -0.5, 2.0];
        let known = answer(&all, 4.0, Some(0.0), Some(1.0), Some(bins), 0.5);
        assert_eq!((known.sum, known.mean, known.variance), (Some(200.0), Some(50.0), Some(625.0)));
        assert_eq!(known.mean_error, Some(6.25));
        assert_eq!(known.quartiles, Some([37.5, 50.0, 87.5]));
        assert_eq!((known.min, known.max), (Some(25.5), Some(99.5)));
        assert_eq!(known.histogram.unwrap().edges, [0.0, 25.0, 50.0, 75.0, 100.0]);
    }

    #[test]
    fn what_is_not_asked_or_not_known_is_absent() {
        let known = answer(&column(&[Statistic::Count]), 4.0, None, None, None, 0.5);
        assert_eq!((known.count, known.mean, known.histogram), (4.0, None, None));
        let all = column(&[Statistic::Mean, Statistic::Variance, Statistic::Quantiles]);
        let nobody = answer(&all, -0.3, Some(1.0), Some(1.0), Some(vec![0.0; 4]), 0.5);
        assert_eq!((nobody.mean, nobody.variance, nobody.quartiles), (None, None, None));
    }
}
