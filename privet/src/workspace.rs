//! The folder of a simulation.
//!
//! ```text
//!   WORKSPACE/ result.json · report.html · model.safetensors
//!     server/      a server's kit, with progress, checkpoint and outcome
//!     sites/NAME/  a site's kit, with its ledger and audit.jsonl
//! ```

use std::path::{Path, PathBuf};

use privet_gate::Job;
use privet_wire::{Authority, Credentials, Kit, KitError, Role};

/// A simulation's folder.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The folder to use: as it is when resuming, else a new one, an old one being moved aside.
    /// Tells where the old one went.
    pub(crate) fn open(root: PathBuf, resume: bool) -> std::io::Result<(Self, Option<PathBuf>)> {
        let mut moved = None;
        if !resume && root.exists() {
            let name = root.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let aside = (1u32..)
                .map(|n| root.with_file_name(format!("{name}.{n}")))
                .find(|path| !path.exists())
                .ok_or_else(|| std::io::Error::other("no name is left to move the workspace to"))?;
            std::fs::rename(&root, &aside)?;
            moved = Some(aside);
        }
        std::fs::create_dir_all(root.join("sites"))?;
        std::fs::create_dir_all(root.join("server"))?;
        let root = root.canonicalize()?;
        Ok((Self { root }, moved))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn server(&self) -> PathBuf {
        self.root.join("server")
    }

    pub(crate) fn site(&self, name: &str) -> PathBuf {
        self.root.join("sites").join(name)
    }

    /// Writes the server's kit. Certificates are made anew for every run; what a site spent does
    /// not hang on them.
    pub(crate) fn write_server(
        &self,
        authority: &Authority,
        job: &Job,
        path: &Path,
        rounds: Option<u32>,
    ) -> Result<(), KitError> {
        let io = |error| KitError::Io(path.display().to_string(), error);
        let server = self.server();
        for stale in
            [privet_wire::ADDRESS_FILE, privet_server::OUTCOME_FILE, privet_server::PROGRESS_FILE]
        {
            match std::fs::remove_file(server.join(stale)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io(error));
                }
                _ => {}
            }
        }
        let simulate = job.simulate.as_ref();
        let sites = simulate.map(|s| s.sites.iter().map(|site| site.name.clone()).collect());
        let kit = Kit {
            schema: 1,
            role: Role::Server,
            name: "server".to_owned(),
            server: "127.0.0.1:0".to_owned(),
            policy: None,
            job: Some(path.canonicalize().map_err(io)?),
            sites: sites.unwrap_or_default(),
            rounds,
            submitter: None,
            attest: privet_wire::KitAttest {
                show: simulate.map(|s| s.server_shows.clone()).unwrap_or_default(),
                ..privet_wire::KitAttest::default()
            },
        };
        // A workspace that is resumed keeps its certificates: sealed jobs know their sites by them.
        let credentials = match Credentials::of_kit(&server) {
            Some(credentials) => credentials,
            None => authority.certify(Role::Server, "server")?,
        };
        kit.write(&server, &credentials)
    }

    /// Writes a site's kit; its policy stays where it is.
    pub(crate) fn write_site(
        &self,
        authority: &Authority,
        name: &str,
        policy: &Path,
        server: &str,
    ) -> Result<(), KitError> {
        let io = |error| KitError::Io(policy.display().to_string(), error);
        let kit = Kit {
            schema: 1,
            role: Role::Site,
            name: name.to_owned(),
            server: server.to_owned(),
            policy: Some(policy.canonicalize().map_err(io)?),
            job: None,
            sites: Vec::new(),
            rounds: None,
            submitter: Some("local".to_owned()),
            attest: privet_wire::KitAttest::default(),
        };
        let credentials = match Credentials::of_kit(&self.site(name)) {
            Some(credentials) => credentials,
            None => authority.certify(Role::Site, name)?,
        };
        kit.write(&self.site(name), &credentials)
    }
}
