//! `statistics-guard`: lets statistics out only where there are enough records behind them.
//!
//! It looks at numbers that have their noise already, so that whether it refuses tells nothing that
//! they would not have told: it is post-processing, and costs no privacy. Looking before the noise would
//! be a question about the data that nobody pays for.

use privet_core::flow::{BuildContext, Flow};
use privet_core::params::{ParamKind, ParamSpec, Params};
use privet_core::sensitivity::Lattice;
use privet_core::{Code, Content, DataKind, Filter, FilterContext, FilterSpec, Message, Reason};

pub(crate) const SPEC: FilterSpec = FilterSpec {
    params: &[
        ParamSpec {
            name: "min-count",
            kind: ParamKind::Positive,
            optional: false,
            doc: "fewest records, by the noised count, that a column's answers may be about",
        },
        ParamSpec {
            name: "max-bins-share",
            kind: ParamKind::Positive,
            optional: true,
            doc: "most bins of a histogram, as a share of the noised count",
        },
    ],
    needs: "answers of a statistics task with their noise",
    gives: "the same answers, or a refusal that only the site's owner sees in full",
    not_protected: &["A guard hides nothing: what it lets out is hidden by the noise alone."],
    refusals: &[Code::TooFewRecords, Code::WrongStage, Code::WrongContent],
    example: r#"{ filter = "statistics-guard", min-count = 10 }"#,
    ..FilterSpec::new(
        "statistics-guard",
        "Refuses answers about too few records, and histograms of too many bins.",
        build,
    )
};

struct Guard {
    min_count: f64,
    max_bins_share: Option<f64>,
}

fn build(params: &Params, _: &BuildContext<'_>) -> Result<Box<dyn Filter>, Reason> {
    Ok(Box::new(Guard {
        min_count: params.number("min-count")?,
        max_bins_share: params.number("max-bins-share").ok(),
    }))
}

/// The column of an answer's name: all before the last dot.
fn column(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(column, _)| column)
}

impl Guard {
    fn check(&self, lattice: &Lattice) -> Result<(), Reason> {
        let step = lattice.step().value();
        for (name, tensor) in lattice.tensors() {
            let count = lattice.tensors().get(&format!("{}.count", column(name)));
            let count = count.and_then(|count| count.values().first());
            let count = count.map_or(0.0, |&count| count as f64 * step);
            let refuse = |detail: &str| Err(Reason::new(Code::TooFewRecords, detail));
            if count < self.min_count {
                return refuse(
                    "a column has fewer records than `min-count`, as far as the noise tells",
                );
            }
            let bins = tensor.values().len() as f64;
            if name.ends_with(".bins")
                && self.max_bins_share.is_some_and(|share| bins > share * count)
            {
                return refuse("a histogram has more bins than `max-bins-share` allows");
            }
        }
        Ok(())
    }
}

impl Filter for Guard {
    fn plan(&self, flow: Flow) -> Result<Flow, Reason> {
        if flow.kind != DataKind::Statistics {
            let detail = "`statistics-guard` is for the answers of a statistics task";
            return Err(Reason::new(Code::WrongContent, detail));
        }
        if flow.events().is_empty() {
            let detail = "`statistics-guard` comes after the noise: before it, a refusal would tell the count";
            return Err(Reason::new(Code::WrongStage, detail));
        }
        Ok(flow)
    }

    fn apply(&self, message: Message, _: &mut FilterContext<'_>) -> Result<Message, Reason> {
        let Content::Lattice(lattice) = &message.content else {
            let detail =
                format!("lattice integers were expected, not {}", message.content.as_str());
            return Err(Reason::new(Code::WrongContent, detail));
        };
        self.check(lattice)?;
        Ok(message)
    }

    fn describe(&self) -> String {
        let bins = self.max_bins_share.map_or(String::new(), |share| {
            format!(", and histograms of more than {share} bins a record")
        });
        format!("refuses answers about fewer than {} records{bins}", self.min_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use privet_core::sensitivity::{LatticeTensor, Step};
    use privet_core::tensor::Shape;

    fn answers(count: i64, bins: usize) -> Lattice {
        let vector = |values: Vec<i64>| {
            let shape = Shape::new(vec![values.len() as u64]).unwrap();
            LatticeTensor::new(shape, values).unwrap()
        };
        let tensors = [
            ("age.count".to_owned(), vector(vec![count << 20])),
            ("age.bins".to_owned(), vector(vec![0; bins])),
        ];
        Lattice::new(Step::new(20).unwrap(), tensors.into())
    }

    #[test]
    fn too_few_records_and_too_many_bins_are_refused() {
        let guard = Guard { min_count: 10.0, max_bins_share: Some(0.5) };
        let code = |count, bins| guard.check(&answers(count, bins)).err().map(|reason| reason.code);
        assert_eq!(code(10, 5), None);
        assert_eq!(code(9, 2), Some(Code::TooFewRecords));
        assert_eq!(code(-3, 1), Some(Code::TooFewRecords));
        assert_eq!(code(10, 6), Some(Code::TooFewRecords));
        let lenient = Guard { max_bins_share: None, ..guard };
        assert!(lenient.check(&answers(10, 600)).is_ok());
    }

    #[test]
    fn a_guard_stands_behind_the_noise() {
        let guard = Guard { min_count: 10.0, max_bins_share: None };
        let flow = |kind| Flow::plain(kind, Default::default());
        assert_eq!(guard.plan(flow(DataKind::Statistics)).unwrap_err().code, Code::WrongStage);
        assert_eq!(guard.plan(flow(DataKind::Gradient)).unwrap_err().code, Code::WrongContent);
    }
}
