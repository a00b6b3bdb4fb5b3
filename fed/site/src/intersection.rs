//! A site's part in an intersection: it converses with the other sites through the server, and keeps what it finds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use privet_core::channel::Link;
use privet_core::filter::Cancel;
use privet_core::intersect::{Found, Intersector, MAX_SITES, Meeting, Wanted};
use privet_core::seal::Vouching;
use privet_core::{Code, Reason};
use privet_gate::{Offer, Passage, Released, about, is_name};
use privet_wire::{Client, Conversation, Identity, PeerKeys};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

/// What a site found, for its owner.
const FOUND_FILE: &str = "found.json";
/// The matching rows of its file, with the extension of that.
pub const ROWS_FILE: &str = "matching";

/// Its other rows, where the job wants them.
pub const REST_FILE: &str = "rest";

/// A site that takes part.
pub(crate) struct Participant {
    pub(crate) client: Client,
    pub(crate) identity: Identity,
    pub(crate) offer: Offer,
    pub(crate) wanted: Wanted,
    pub(crate) passage: Arc<Passage>,
    pub(crate) intersector: Arc<dyn Intersector>,
    pub(crate) me: String,
    pub(crate) pins: Option<std::collections::BTreeSet<[u8; 32]>>,
    /// How long another site may be silent.
    pub(crate) patience: Duration,
    pub(crate) folder: PathBuf,
    pub(crate) cancel: Cancel,
}

impl Participant {
    /// Takes part in the run of the sites that a frame of the server names.
    pub(crate) async fn meet(self, frame: &[u8]) -> Result<Released, Reason> {
        let sites: Vec<String> = serde_json::from_slice(frame)
            .map_err(|_| Reason::new(Code::Malformed, "no list of sites"))?;
        let me = sites.iter().position(|site| *site == self.me);
        let named = sites.len() <= MAX_SITES && sites.iter().all(|site| is_name(site));
        let mut different = sites.clone();
        different.sort();
        different.dedup();
        let Some(me) = me.filter(|_| named && different.len() == sites.len() && sites.len() > 1)
        else {
            return Err(Reason::new(Code::Malformed, "no list of sites with this one in it"));
        };
        let others: Vec<String> = sites.iter().filter(|site| **site != self.me).cloned().collect();
        // Before anything is said to anybody.
        let mut limits = self.passage.with(&others)?;
        let vouching = self.identity.vouching()?;
        let own = vouching.certified(&self.identity.credential()?)?;
        let mut links: Vec<Option<Box<dyn Link>>> = Vec::new();
        let mut keys = Vec::new();
        for site in &sites {
            if *site == self.me {
                links.push(None);
                keys.push((site.clone(), own.key));
                continue;
            }
            let conversation = self.open(&*vouching, site).await?;
            keys.push((site.clone(), conversation.peer().key));
            links.push(Some(Box::new(PeerLink {
                conversation: Some(conversation),
                passage: self.passage.clone(),
                runtime: Handle::current(),
                patience: self.patience,
                cancel: self.cancel.clone(),
            })));
        }
        let about = about(&self.offer, &keys);
        let data = self.passage.dataset().path.clone();
        forget(&self.folder)?;
        let extension = data.extension().unwrap_or("csv".as_ref());
        let out = self.folder.join(ROWS_FILE).with_extension(extension);
        let rest = self.folder.join(REST_FILE).with_extension(extension);
        let told = self.wanted.reveal.as_str();
        let Self { client, wanted, intersector, passage, folder, .. } = self;
        let working = tokio::task::spawn_blocking(move || {
            let meeting = Meeting {
                wanted: &wanted,
                data: &data,
                about,
                me,
                links,
                guard: &mut limits,
                out: &out,
                rest: &rest,
            };
            intersector.meet(meeting)
        });
        let found = working.await.map_err(|_| {
            Reason::new(Code::ExecutorFailed, "the intersection's thread is gone")
        })??;
        let (bytes_sent, peak_rss_bytes) = (client.bytes_sent(), peak_rss());
        Kept { found: found.clone(), bytes_sent, peak_rss_bytes }.write(&folder)?;
        passage.done(told)
    }

    async fn open(&self, vouching: &dyn Vouching, site: &str) -> Result<Conversation, Reason> {
        let keys = PeerKeys { run: &self.offer.run, identity: &self.identity, vouching };
        let opening = self.client.converse(&keys, &self.me, site);
        let opened = patiently(self.patience, &self.cancel, opening).await;
        let conversation = opened.unwrap_or_else(|| Err(silent(&self.cancel)))?;
        let pinned = self.pins.as_ref().is_none_or(|pins| pins.contains(&conversation.peer().key));
        if !pinned {
            let detail = "a site of this run is not among the pinned peers";
            return Err(Reason::new(Code::RosterUnpinned, detail));
        }
        Ok(conversation)
    }
}

/// What a site keeps of a run, for its owner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// What it found.
    pub found: Found,
    /// Bytes that the connection to the server had carried from here by then.
    pub bytes_sent: u64,
    /// The most memory that its process had held by then; 0 where the system does not tell.
    pub peak_rss_bytes: u64,
}

impl Kept {
    /// Of the last run of a site's folder.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(folder.join(FOUND_FILE)).ok()?).ok()
    }

    fn write(&self, folder: &Path) -> Result<(), Reason> {
        let failed = |error: std::io::Error| Reason::new(Code::StorageFailed, error.to_string());
        let text = serde_json::to_vec(self).map_err(std::io::Error::other).map_err(failed)?;
        std::fs::write(folder.join(FOUND_FILE), text).map_err(failed)
    }
}

/// Removes what an earlier run left: it must not be taken for this one's.
fn forget(folder: &Path) -> Result<(), Reason> {
    let failed = |error: std::io::Error| Reason::new(Code::StorageFailed, error.to_string());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let kept = path.file_name() == Some(FOUND_FILE.as_ref());
        let rows =
            [ROWS_FILE, REST_FILE].iter().any(|name| path.file_stem() == Some(name.as_ref()));
        if path.is_file() && (kept || rows) {
            std::fs::remove_file(path).map_err(failed)?;
        }
    }
    Ok(())
}

/// The most memory that this process has held so far, in bytes; 0 where the system does not say.
pub fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(0, |kib| kib * 1024)
}

/// A conversation as the protocols see it: what leaves passes the gate.
struct PeerLink {
    /// Until it is dropped.
    conversation: Option<Conversation>,
    passage: Arc<Passage>,
    runtime: Handle,
    patience: Duration,
    cancel: Cancel,
}

/// What comes of some work, unless it takes too long or somebody stops the site.
async fn patiently<T>(time: Duration, cancel: &Cancel, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        done = tokio::time::timeout(time, work) => done.ok(),
        () = crate::agent::cancelled(cancel) => None,
    }
}

/// Why nothing came of it.
fn silent(cancel: &Cancel) -> Reason {
    let silent = || Reason::new(Code::TooFewSites, "another site of the run is silent");
    cancel.check().err().unwrap_or_else(silent)
}

impl PeerLink {
    /// Waits for a step of the conversation. The time is looked at inside the runtime, which this thread is
    /// none of.
    fn wait<T>(
        &mut self,
        step: impl AsyncFnOnce(&mut Conversation) -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        self.cancel.check()?;
        let Some(conversation) = &mut self.conversation else { return Err(silent(&self.cancel)) };
        let waiting = async { patiently(self.patience, &self.cancel, step(conversation)).await };
        self.runtime.block_on(waiting).unwrap_or_else(|| Err(silent(&self.cancel)))
    }
}

impl Link for PeerLink {
    fn send(&mut self, frame: Vec<u8>) -> Result<(), Reason> {
        let parcel = self.passage.frame(frame)?.handover()?;
        self.wait(async |conversation| conversation.send(&parcel).await)
    }

    fn receive(&mut self) -> Result<Vec<u8>, Reason> {
        self.wait(async |conversation| conversation.receive().await)
    }
}

impl Drop for PeerLink {
    fn drop(&mut self) {
        if let Some(conversation) = self.conversation.take() {
            let patience = self.patience;
            self.runtime.spawn(async move {
                let _ = tokio::time::timeout(patience, conversation.close()).await;
            });
        }
    }
}
