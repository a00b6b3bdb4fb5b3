//! `privet init`: whole examples, from data inside the binary.

use std::path::Path;

use rand::seq::SliceRandom;
use rand::{RngExt as _, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::multi::{Dirichlet, MultiDistribution};

/// A template: a table, split over sites by a seeded draw, and the files around it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Template {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub summary: &'static str,
    /// The table, with a header.
    data: &'static str,
    /// How its records come to the sites.
    shares: Shares,
    /// Names of the sites.
    sites: &'static [&'static str],
    /// The policy of each site, with `{name}` and `{records}`.
    policy: &'static str,
    /// Files that are the same for every split, by name.
    files: &'static [(&'static str, &'static str)],
}

/// How records come to sites.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shares {
    /// Each to one site or to the public test set; by the label, in the last column, of which these occur.
    ByLabel(&'static [&'static str]),
    /// Each to every site with this chance, its key, in the first column, written as the site writes keys.
    Overlapping(f64),
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
        shares: Shares::ByLabel(&["0", "1"]),
        sites: &["central", "east", "north", "south", "west"],
        policy: include_str!("templates/hospitals/site.toml"),
        files: files!("hospitals"),
    },
    Template {
        name: "digits",
        summary: "ten post offices train a reader of digits with record-level privacy",
        data: include_str!("templates/digits/digits.csv"),
        shares: Shares::ByLabel(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
        sites: &[
            "abbey", "bridge", "castle", "dock", "elm", "ferry", "gate", "harbour", "isle",
            "junction",
        ],
        policy: include_str!("templates/digits/site.toml"),
        files: files!("digits"),
    },
    Template {
        name: "psi",
        summary: "three registries find out whom all of them have",
        data: include_str!("templates/psi/people.csv"),
        shares: Shares::Overlapping(0.6),
        sites: &["registry-a", "registry-b", "registry-c"],
        policy: include_str!("templates/psi/site.toml"),
        files: &[
            ("README.md", include_str!("templates/psi/README.md")),
            ("job.toml", include_str!("templates/psi/job.toml")),
        ],
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
    /// Every file. Of a split, a quarter of the records, stratified by label, is the public test set; the
    /// rest is split by a Dirichlet(½) draw over the sites for each label.
    fn write(&self, seed: u64) -> Vec<(String, String)> {
        let mut lines = self.data.lines();
        let header = lines.next().unwrap_or_default();
        let records: Vec<&str> = lines.collect();
        let csv = |rows: &[String]| {
            let mut text = format!("{header}\n");
            rows.iter().for_each(|row| {
                text.push_str(row);
                text.push('\n');
            });
            text
        };
        let owned = |rows: &[&str]| rows.iter().map(|row| (*row).to_owned()).collect::<Vec<_>>();
        let (test, sites) = match self.shares {
            Shares::ByLabel(labels) => {
                let (test, sites) = self.split(&records, labels, seed);
                (Some(owned(&test)), sites.iter().map(|rows| owned(rows)).collect())
            }
            Shares::Overlapping(chance) => (None, self.overlap(&records, chance, seed)),
        };
        let fixed = self.files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let mut files: Vec<(String, String)> = fixed.collect();
        files.extend(test.map(|test| ("public_test.csv".to_owned(), csv(&test))));
        for (name, rows) in self.sites.iter().zip(sites) {
            let records = rows.len().to_string();
            let peers = self.sites.iter().filter(|peer| *peer != name);
            let peers: Vec<String> = peers.map(|peer| format!("{peer:?}")).collect();
            let policy = self.policy.replace("{name}", name).replace("{records}", &records);
            let policy = policy.replace("{peers}", &peers.join(", "));
            files.push((format!("sites/{name}.toml"), policy));
            files.push((format!("sites/data/{name}.csv"), csv(&rows)));
        }
        files
    }

    /// Rows of each site, each with its key in the site's own hand.
    fn overlap(&self, records: &[&str], chance: f64, seed: u64) -> Vec<Vec<String>> {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let hands: [fn(&str) -> String; 3] =
            [str::to_owned, str::to_uppercase, |key| format!(" {key} ")];
        let site = |hand: &fn(&str) -> String| {
            let mut rows: Vec<String> = Vec::new();
            for record in records {
                if rng.random_bool(chance)
                    && let Some((key, rest)) = record.split_once(',')
                {
                    rows.push(format!("{},{rest}", hand(key)));
                }
            }
            rows.shuffle(&mut rng);
            rows
        };
        hands.iter().cycle().take(self.sites.len()).map(site).collect()
    }

    /// Draws until every site has records of its own to speak of; the draw depends on the seed
    /// alone.
    fn split<'a>(&self, records: &[&'a str], labels: &[&str], seed: u64) -> Split<'a> {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        loop {
            let drawn = self.draw(records, labels, &mut rng);
            if drawn.1.iter().all(|site| site.len() >= 10) {
                return drawn;
            }
        }
    }

    fn draw<'a>(&self, records: &[&'a str], labels: &[&str], rng: &mut ChaCha12Rng) -> Split<'a> {
        let count = self.sites.len();
        let mut test = Vec::new();
        let mut sites: Vec<Vec<&str>> = vec![Vec::new(); count];
        for label in labels {
            let of_label = |row: &&&str| row.rsplit(',').next() == Some(*label);
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
            let Shares::ByLabel(labels) = template.shares else { panic!("no split") };
            for seed in 0..10 {
                let (test, sites) = template.split(&records, labels, seed);
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
