//! `privet init`: whole examples, from data inside the binary.

use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;
use rand_distr::multi::{Dirichlet, MultiDistribution};

/// A template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub summary: &'static str,
}

/// The templates there are.
pub const TEMPLATES: &[Template] = &[Template {
    name: "hospitals",
    summary: "five hospitals train a breast-cancer classifier with record-level privacy",
}];

/// Why a template could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// There is none of this name.
    #[error("there is no template `{0}` in this version")]
    Unknown(String),
    /// The folder is in use.
    #[error("{0} exists already")]
    Exists(String),
    /// A file could not be written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Writes a template into a new folder. The seed picks how records are split over sites.
///
/// # Errors
/// When there is no such template, the folder exists, or it cannot be written.
pub fn init(name: &str, folder: &Path, seed: u64) -> Result<(), TemplateError> {
    if name != "hospitals" {
        return Err(TemplateError::Unknown(name.to_owned()));
    }
    if folder.exists() {
        return Err(TemplateError::Exists(folder.display().to_string()));
    }
    for (path, text) in hospitals(seed) {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}

const SITES: [&str; 5] = ["central", "east", "north", "south", "west"];
const WDBC: &str = include_str!("templates/hospitals/wdbc.csv");

/// Every file of `hospitals`: a quarter of the records, stratified by label, is the public test
/// set; the rest is split by a Dirichlet(½) draw over the sites for each label.
fn hospitals(seed: u64) -> Vec<(String, String)> {
    let mut lines = WDBC.lines();
    let header = lines.next().unwrap_or_default();
    let records: Vec<&str> = lines.collect();
    let (test, sites) = split(&records, seed);
    let csv = |rows: &[&str]| {
        let mut text = format!("{header}\n");
        rows.iter().for_each(|row| {
            text.push_str(row);
            text.push('\n');
        });
        text
    };
    let mut files = vec![
        ("README.md".to_owned(), include_str!("templates/hospitals/README.md").to_owned()),
        ("job.toml".to_owned(), include_str!("templates/hospitals/job.toml").to_owned()),
        ("features.toml".to_owned(), include_str!("templates/hospitals/features.toml").to_owned()),
        (
            "DATA-LICENSE.md".to_owned(),
            include_str!("templates/hospitals/DATA-LICENSE.md").to_owned(),
        ),
        ("public_test.csv".to_owned(), csv(&test)),
    ];
    for (name, rows) in SITES.iter().zip(sites) {
        let policy = include_str!("templates/hospitals/site.toml")
            .replace("{name}", name)
            .replace("{records}", &rows.len().to_string());
        files.push((format!("sites/{name}.toml"), policy));
        files.push((format!("sites/data/{name}.csv"), csv(&rows)));
    }
    files
}

type Split<'a> = (Vec<&'a str>, [Vec<&'a str>; 5]);

/// Draws until every site has records of its own to speak of; the draw depends on the seed alone.
fn split<'a>(records: &[&'a str], seed: u64) -> Split<'a> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    loop {
        let drawn = draw(records, &mut rng);
        if drawn.1.iter().all(|site| site.len() >= 10) {
            return drawn;
        }
    }
}

fn draw<'a>(records: &[&'a str], rng: &mut ChaCha12Rng) -> Split<'a> {
    let mut test = Vec::new();
    let mut sites: [Vec<&str>; 5] = Default::default();
    for label in ["0", "1"] {
        let of_label = |row: &&&str| row.rsplit(',').next() == Some(label);
        let mut rows: Vec<&str> = records.iter().filter(of_label).copied().collect();
        rows.shuffle(rng);
        let held_out = (rows.len() as f64 * 0.25).round() as usize;
        let train = rows.split_off(held_out);
        test.append(&mut rows);
        let mut shares = [0.2; 5];
        if let Ok(dirichlet) = Dirichlet::new(&[0.5; 5]) {
            dirichlet.sample_to_slice(rng, &mut shares);
        }
        let mut given = 0.0;
        let mut start = 0;
        for (site, share) in sites.iter_mut().zip(shares) {
            given += share;
            let end = ((given * train.len() as f64).round() as usize).clamp(start, train.len());
            site.extend(&train[start..end]);
            start = end;
        }
        // Shares add up to 1 but for rounding; nobody is left over.
        sites[4].extend(&train[start..]);
    }
    // Labels in blocks would tell a reader of a file how it was made, and nothing else.
    test.shuffle(rng);
    sites.iter_mut().for_each(|site| site.shuffle(rng));
    (test, sites)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_loses_and_doubles_nobody() {
        let records: Vec<&str> = WDBC.lines().skip(1).collect();
        for seed in 0..20 {
            let (test, sites) = split(&records, seed);
            let mut all: Vec<&str> = sites.iter().flatten().chain(&test).copied().collect();
            all.sort_unstable();
            let mut expected = records.clone();
            expected.sort_unstable();
            assert_eq!(all, expected);
            assert_eq!(test.len(), 53 + 89);
        }
        assert_eq!(hospitals(3), hospitals(3));
        assert_ne!(hospitals(3), hospitals(4));
    }
}
