//! A CSV table as vectors of norm 1.
//!
//! A column's public range [low, high] is mapped to [−1, 1]; a row is scaled to norm √0.9, and a
//! constant √0.1 is its last coordinate, for the bias. Each is a map of one record by itself, from
//! public numbers: it costs no privacy. A cell that is no number makes its row NaN, and such a row
//! later adds nothing; refusing it would tell about the data.

use std::collections::BTreeMap;
use std::path::Path;

/// Norm of the features of a row, and its constant last coordinate.
const FEATURES: f64 = 0.9;
const CONSTANT: f64 = 0.1;

/// Why a table cannot be used. Says nothing of its cells.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file cannot be read as CSV with a header.
    #[error("the data file cannot be read as CSV with a header")]
    Unreadable,
    /// A column is missing.
    #[error("the data file has no column `{0}`")]
    MissingColumn(String),
}

/// Rows of a CSV file, its columns by name.
struct Rows<R> {
    reader: csv::Reader<R>,
    header: csv::ByteRecord,
    record: csv::ByteRecord,
}

impl<R: std::io::Read> Rows<R> {
    fn new(csv: R) -> Result<Self, DataError> {
        let mut reader =
            csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(csv);
        let header = reader.byte_headers().map_err(|_| DataError::Unreadable)?.clone();
        Ok(Self { reader, header, record: csv::ByteRecord::new() })
    }

    fn column(&self, name: &str) -> Result<usize, DataError> {
        let at = self.header.iter().position(|field| field == name.as_bytes());
        at.ok_or_else(|| DataError::MissingColumn(name.to_owned()))
    }

    /// Goes on to the next row, if there is one.
    fn next(&mut self) -> Result<bool, DataError> {
        self.reader.read_byte_record(&mut self.record).map_err(|_| DataError::Unreadable)
    }

    /// A cell of the row; NaN where it is no number.
    fn number(&self, at: usize) -> f64 {
        let text = self.record.get(at).and_then(|cell| std::str::from_utf8(cell).ok());
        text.and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
    }
}

/// A number on its way from a public range to [−1, 1].
fn scaled(x: f64, [low, high]: [f64; 2]) -> f64 {
    2.0 * (x - low) / (high - low) - 1.0
}

/// The numbers of some columns, each mapped from its public range to [−1, 1]; cells that hold none
/// are left out.
///
/// # Errors
/// When the file cannot be read, or a column is missing.
pub fn columns(
    csv: impl std::io::Read,
    wanted: &[(&str, [f64; 2])],
) -> Result<Vec<Vec<f64>>, DataError> {
    let mut rows = Rows::new(csv)?;
    let places = wanted.iter().map(|(name, range)| Ok((rows.column(name)?, *range)));
    let places = places.collect::<Result<Vec<_>, DataError>>()?;
    let mut columns = vec![Vec::new(); places.len()];
    while rows.next()? {
        for (column, (at, range)) in columns.iter_mut().zip(&places) {
            let x = rows.number(*at);
            if x.is_finite() {
                column.push(scaled(x, *range));
            }
        }
    }
    Ok(columns)
}

/// Rows with their labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    width: usize,
    rows: Vec<f32>,
    labels: Vec<usize>,
}

/// The label of a row whose label is no class.
const NO_CLASS: usize = usize::MAX;

impl Table {
    /// Reads a CSV file: the feature columns by the order of their names, labels as whole numbers
    /// from 0.
    ///
    /// # Errors
    /// When the file cannot be read, or a column is missing.
    pub fn load(
        path: &Path,
        features: &BTreeMap<String, [f64; 2]>,
        label: &str,
    ) -> Result<Self, DataError> {
        let file = std::fs::File::open(path).map_err(|_| DataError::Unreadable)?;
        Self::read(file, features, label)
    }

    /// Reads CSV text.
    ///
    /// # Errors
    /// When it cannot be read, or a column is missing.
    pub fn read(
        csv: impl std::io::Read,
        features: &BTreeMap<String, [f64; 2]>,
        label: &str,
    ) -> Result<Self, DataError> {
        let mut rows = Rows::new(csv)?;
        let label = rows.column(label)?;
        let columns = features
            .iter()
            .map(|(name, range)| Ok((rows.column(name)?, *range)))
            .collect::<Result<Vec<_>, DataError>>()?;
        let mut table = Self { width: columns.len() + 1, rows: Vec::new(), labels: Vec::new() };
        while rows.next()? {
            let row: Vec<f64> =
                columns.iter().map(|&(at, range)| scaled(rows.number(at), range)).collect();
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt();
            // A row of zeros stays one.
            let scale = if norm == 0.0 { 0.0 } else { FEATURES.sqrt() / norm };
            table.rows.extend(row.iter().map(|x| (x * scale) as f32));
            table.rows.push(CONSTANT.sqrt() as f32);
            let class = rows.number(label);
            let whole = class >= 0.0 && class.fract() == 0.0 && class < 1e9;
            table.labels.push(if whole { class as usize } else { NO_CLASS });
        }
        Ok(table)
    }

    /// Coordinates of a row: the features and a constant.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Rows with their labels.
    pub fn iter(&self) -> impl Iterator<Item = (&[f32], usize)> {
        self.rows.chunks(self.width).zip(self.labels.iter().copied())
    }

    /// One row with its label.
    pub fn row(&self, at: usize) -> Option<(&[f32], usize)> {
        let row = self.rows.chunks(self.width).nth(at)?;
        Some((row, *self.labels.get(at)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features() -> BTreeMap<String, [f64; 2]> {
        [("b", [0.0, 10.0]), ("a", [0.0, 2.0])].map(|(name, range)| (name.to_owned(), range)).into()
    }

    #[test]
    fn rows_have_norm_one_and_columns_the_order_of_their_names() {
        let csv = "y,b,extra,a\n1,10,x,1\n0,0,x,2\n";
        let table = Table::read(csv.as_bytes(), &features(), "y").unwrap();
        assert_eq!((table.len(), table.width()), (2, 3));
        for (row, _) in table.iter() {
            let norm: f32 = row.iter().map(|x| x * x).sum();
            assert!((norm - 1.0).abs() < 1e-6);
        }
        let (row, label) = table.row(0).unwrap();
        assert_eq!(label, 1);
        assert!(row[0].abs() < 1e-6 && row[1] > 0.9, "a is 0, b is 1: {row:?}");
    }

    #[test]
    fn broken_cells_make_a_row_nan_and_are_not_refused() {
        let csv = "y,a,b\n1,oops,3\nx,1,1\n1\n";
        let table = Table::read(csv.as_bytes(), &features(), "y").unwrap();
        assert!(table.row(0).unwrap().0[0].is_nan());
        assert_eq!(table.row(1).unwrap().1, NO_CLASS);
        assert!(table.row(2).unwrap().0[0].is_nan());
    }

    #[test]
    fn a_missing_column_is_named_and_nothing_else() {
        let error = Table::read("y,a\n1,2\n".as_bytes(), &features(), "y").unwrap_err();
        assert_eq!(error.to_string(), "the data file has no column `b`");
    }
}
