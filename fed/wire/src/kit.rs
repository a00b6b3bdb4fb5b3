//! Kits: a folder for each process of a federation.
//!
//! ```text
//!   kit.toml   role, name, where the server is
//!   key.pem · cert.pem · ca.pem · protocol.key
//!   site.toml · ledger · audit.jsonl      a site's
//!   address                               a server's: where it listens, once it does
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};

use privet_core::admission::Shown;
use serde::{Deserialize, Serialize};

use crate::identity::{Credentials, Identity, IdentityError, Role};

/// Where a server writes the address it listens on.
pub const ADDRESS_FILE: &str = "address";

/// What `kit.toml` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Kit {
    /// 1.
    pub schema: u32,
    /// `server` or `site`.
    pub role: Role,
    /// Name of the site; `server` for a server.
    pub name: String,
    /// host:port of the server; a server listens there, on a free port when it is 0.
    pub server: String,
    /// A site's policy; `site.toml` in the kit when absent.
    pub policy: Option<PathBuf>,
    /// A server's job; `job.toml` in the kit when absent.
    pub job: Option<PathBuf>,
    /// Names of the sites that a server waits for; every certified site when empty.
    #[serde(default)]
    pub sites: Vec<String>,
    /// A server's number of rounds, where it is not the job's.
    pub rounds: Option<u32>,
    /// What a site calls whoever submits its server's job; the name in the server's certificate
    /// when absent.
    pub submitter: Option<String>,
    /// What a server shows of itself, and where it holds what it judges sites by; a site's is in its policy.
    #[serde(default)]
    pub attest: KitAttest,
}

/// `[attest]` of a server's kit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct KitAttest {
    /// What is shown; nothing when empty.
    pub show: Vec<Shown>,
    /// Policies by name, reference files, revocation lists; from the kit on.
    pub folder: PathBuf,
}

impl Default for KitAttest {
    fn default() -> Self {
        Self { show: Vec::new(), folder: "attest".into() }
    }
}

/// Why a kit could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// A file could not be read or written.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
    /// `kit.toml` says something that cannot be.
    #[error("{0}: {1}")]
    Invalid(String, String),
    /// A key or certificate is missing or none.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Kit {
    /// Reads a kit of this role, with its identity.
    ///
    /// # Errors
    /// When a file is missing or says something that cannot be.
    pub fn load(folder: &Path, role: Role) -> Result<(Self, Identity), KitError> {
        let path = folder.join("kit.toml");
        let name = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|e| KitError::Io(name.clone(), e))?;
        let kit: Self = toml::from_str(&text)
            .map_err(|error| KitError::Invalid(name.clone(), error.message().to_owned()))?;
        if kit.schema != 1 {
            return Err(KitError::Invalid(name, "this schema is not known".into()));
        }
        if kit.role != role {
            return Err(KitError::Invalid(name, "this kit has another role".into()));
        }
        Ok((kit, Identity::load(folder)?))
    }

    /// Writes a kit: the folder, `kit.toml`, and the credentials, the key readable by its owner
    /// alone.
    ///
    /// # Errors
    /// When something cannot be written.
    pub fn write(&self, folder: &Path, credentials: &Credentials) -> Result<(), KitError> {
        let io = |error| KitError::Io(folder.display().to_string(), error);
        std::fs::create_dir_all(folder).map_err(io)?;
        let text = toml::to_string(self)
            .map_err(|error| KitError::Invalid("kit.toml".into(), error.to_string()))?;
        std::fs::write(folder.join("kit.toml"), text).map_err(io)?;
        std::fs::write(folder.join("cert.pem"), &credentials.certificate).map_err(io)?;
        std::fs::write(folder.join("ca.pem"), &credentials.ca).map_err(io)?;
        write_secret(&folder.join("key.pem"), &credentials.key).map_err(io)
    }
}

fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
