//! `privet init`: whole examples, from data inside the binary.

use std::path::Path;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha12Rng;
use rand_distr::multi::{Dirichlet, MultiDistribution};

/// A template: a table, split over sites by a seeded draw, and the files around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub summary: &'static str,
    /// The table, with a header; the label is the last column.
    data: &'static str,
    /// Every label that occurs.
    labels: &'static [&'static str],
    /// Names of the sites.
    sites: &'static [&'static str],
    /// The policy of each site, with `{name}` and `{records}`.
    policy: &'static str,
    /// Files that are the same for every split, by name.
    files: &'static [(&'static str, &'static str)],
}

macro_rules! files {
    ($folder:literal) => {
        &[
            ("README.md", include_str!(concat!("templates/", $folder, "/README.md"))),
            ("job.toml", include_str!(concat!("templates/", $folder, "/job.toml"))),
            ("features.toml", include_str!(concat!("templates/", $folder, "/features.toml"))),
            ("DATA-LICENSE.md", include_str!(concat!("templates/", $folder, "/DATA-LICENSE.md"))),
        ]
    };
}

/// The templates there are.
pub const TEMPLATES: &[Template] = &[
    Template {
        name: "hospitals",
        summary: "five hospitals train a breast-cancer classifier with record-level privacy",
        data: include_str!("templates/hospitals/wdbc.csv"),
        labels: &["0", "1"],
        sites: &["central", "east", "north", "south", "west"],
        policy: include_str!("templates/hospitals/site.toml"),
        files: files!("hospitals"),
    },
    Template {
        name: "digits",
        summary: "ten post offices train a reader of digits with record-level privacy",
        data: include_str!("templates/digits/digits.csv"),
        labels: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
        sites: &[
            "abbey", "bridge", "castle", "dock", "elm", "ferry", "gate", "harbour", "isle",
            "junction",
        ],
        policy: include_str!("templates/digits/site.toml"),
        files: files!("digits"),
    },
];

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
    let Some(template) = TEMPLATES.iter().find(|template| template.name == name) else {
        return Err(TemplateError::Unknown(name.to_owned()));
    };
    if folder.exists() {
        return Err(TemplateError::Exists(folder.display().to_string()));
    }
    for (path, text) in template.write(seed) {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// The public test set, and the records of each site.
type Split<'a> = (Vec<&'a str>, Vec<Vec<&'a str>>);

impl Template {
    /// Every file: a quarter of the records, stratified by label, is the public test set; the rest
    /// is split by a Dirichlet(½) draw over the sites for each label.
    fn write(&self, seed: u64) -> Vec<(String, String)> {
        let mut lines = self.data.lines();
        let header = lines.next().unwrap_or_default();
        let records: Vec<&str> = lines.collect();
        let (test, sites) = self.split(&records, seed);
        let csv = |rows: &[&str]| {
            let mut text = format!("{header}\n");
            rows.iter().for_each(|row| {
                text.push_str(row);
                text.push('\n');
            });
            text
        };
        let fixed = self.files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let mut files: Vec<(String, String)> = fixed.collect();
        files.push(("public_test.csv".to_owned(), csv(&test)));
        for (name, rows) in self.sites.iter().zip(sites) {
            let records = rows.len().to_string();
            let policy = self.policy.replace("{name}", name).replace("{records}", &records);
            files.push((format!("sites/{name}.toml"), policy));
            files.push((format!("sites/data/{name}.csv"), csv(&rows)));
        }
        files
    }

    /// Draws until every site has records of its own to speak of; the draw depends on the seed
    /// alone.
    fn split<'a>(&self, records: &[&'a str], seed: u64) -> Split<'a> {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        loop {
            let drawn = self.draw(records, &mut rng);
            if drawn.1.iter().all(|site| site.len() >= 10) {
                return drawn;
            }
        }
    }

    fn draw<'a>(&self, records: &[&'a str], rng: &mut ChaCha12Rng) -> Split<'a> {
        let count = self.sites.len();
        let mut test = Vec::new();
        let mut sites: Vec<Vec<&str>> = vec![Vec::new(); count];
        for label in self.labels {
            let of_label = |row: &&&str| row.rsplit(',').next() == Some(label);
            let mut rows: Vec<&str> = records.iter().filter(of_label).copied().collect();
            rows.shuffle(rng);
            let held_out = (rows.len() as f64 * 0.25).round() as usize;
            let train = rows.split_off(held_out);
            test.append(&mut rows);
            let mut shares = vec![1.0 / count as f64; count];
            if let Ok(dirichlet) = Dirichlet::new(&vec![0.5; count]) {
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
            if let Some(last) = sites.last_mut() {
                last.extend(&train[start..]);
            }
        }
        // Labels in blocks would tell a reader of a file how it was made, and nothing else.
        test.shuffle(rng);
        sites.iter_mut().for_each(|site| site.shuffle(rng));
        (test, sites)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_loses_and_doubles_nobody() {
        for (template, held_out) in TEMPLATES.iter().zip([53 + 89, 451]) {
            let records: Vec<&str> = template.data.lines().skip(1).collect();
            for seed in 0..10 {
                let (test, sites) = template.split(&records, seed);
                let mut all: Vec<&str> = sites.iter().flatten().chain(&test).copied().collect();
                all.sort_unstable();
                let mut expected = records.clone();
                expected.sort_unstable();
                assert_eq!(all, expected);
                assert_eq!(test.len(), held_out);
            }
            assert!(template.write(3) == template.write(3));
            assert!(template.write(3) != template.write(4));
        }
    }
}
