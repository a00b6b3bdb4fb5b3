//! What files say of attestation: what peers have to prove, and what is shown of this machine.

use std::path::PathBuf;
use std::time::Duration;

use privet_core::admission::{Required, Shown};
use serde::{Deserialize, Deserializer, de};

use crate::job::parse_duration;

/// How old evidence may get where a file does not say.
const MAX_AGE: Duration = Duration::from_secs(600);

fn max_age() -> Duration {
    MAX_AGE
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text)
        .ok_or_else(|| de::Error::custom("`max-age` is a duration such as \"10m\""))
}

/// `require.attested` of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Attested {
    /// Profiles that the server has to fit, every one of them.
    #[serde(default)]
    pub server: Vec<String>,
    /// Profiles that the job has to demand of every site: the server looks at their evidence.
    #[serde(default)]
    pub sites: Vec<String>,
    /// How old evidence may get.
    #[serde(default = "max_age", deserialize_with = "duration")]
    pub max_age: Duration,
    /// Whether devices in software may pass.
    #[serde(default)]
    pub allow_simulated: bool,
}

impl Attested {
    /// What the server has to prove; `None` where nothing.
    pub fn of_server(&self) -> Option<Required> {
        (!self.server.is_empty()).then(|| Required {
            profiles: self.server.clone(),
            max_age: self.max_age,
            allow_simulated: self.allow_simulated,
        })
    }
}

/// `attested` of a job's `[demand]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DemandAttested {
    /// Profiles that every site has to fit.
    pub sites: Vec<String>,
    /// How old evidence may get.
    #[serde(default = "max_age", deserialize_with = "duration")]
    pub max_age: Duration,
    /// Whether devices in software may pass.
    #[serde(default)]
    pub allow_simulated: bool,
    /// Whether every round begins with new evidence.
    #[serde(default)]
    pub each_round: bool,
}

impl DemandAttested {
    /// What every site has to prove.
    pub fn of_sites(&self) -> Required {
        Required {
            profiles: self.sites.clone(),
            max_age: self.max_age,
            allow_simulated: self.allow_simulated,
        }
    }
}

/// `[attest]`: what this machine shows of itself, and what evidence of others is held against.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Attest {
    /// What is shown to a peer that asks; nothing when empty.
    #[serde(default)]
    pub show: Vec<Shown>,
    /// Policies by name, reference files, revocation lists.
    #[serde(default = "folder")]
    pub folder: PathBuf,
}

fn folder() -> PathBuf {
    "attest".into()
}

impl Default for Attest {
    fn default() -> Self {
        Self { show: Vec::new(), folder: folder() }
    }
}
