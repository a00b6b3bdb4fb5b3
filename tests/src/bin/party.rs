//! A server or a site, as `privet server --kit` and `privet site --kit` are, that stops at a moment of a
//! sealed round.
//!
//! `PRIVET_STOP = "SITE MOMENT SESSION [FILE]; …"`: the site of this name ends at once, as if its machine had
//! failed, when the moment of its session comes; or, where a file is named, it writes the file and waits
//! until it is gone.
#![allow(clippy::exit)] // what a machine that fails does

use std::path::{Path, PathBuf};
use std::time::Duration;

use privet::core::filter::Cancel;
use privet::core::message::Sealed;
use privet::core::seal::{Reply, SiteSeal};
use privet::core::sensitivity::Lattice;
use privet::core::tensor::Schema;
use privet::prelude::*;

/// Moments of a round, as a site sees them.
const MOMENTS: [(&str, u8); 6] =
    [("hello", 1), ("answer", 2), ("deal", 3), ("agreed", 4), ("opened", 5), ("open", 6)];

struct Stop {
    moment: String,
    session: u32,
    flag: Option<PathBuf>,
}

impl Stop {
    fn of(site: &str) -> Option<Self> {
        let text = std::env::var("PRIVET_STOP").ok()?;
        text.split("; ").find_map(|stop| {
            let mut words = stop.split(' ');
            let told = words.next()?;
            let (moment, session) = (words.next()?.to_owned(), words.next()?.parse().ok()?);
            let flag = words.next().map(PathBuf::from);
            (told == site).then_some(Self { moment, session, flag })
        })
    }
}

struct Stopping {
    inner: Box<dyn SiteSeal>,
    stop: Option<Stop>,
    session: u32,
    /// What has been answered in the session, by the first byte of its frames.
    answered: Option<u8>,
}

impl Stopping {
    fn moment(&self, moment: &str) {
        let now = |stop: &&Stop| stop.moment == moment && stop.session == self.session;
        match self.stop.as_ref().filter(now).map(|stop| &stop.flag) {
            None => {}
            Some(None) => std::process::exit(137),
            Some(Some(flag)) => {
                let written = std::fs::write(flag, moment).is_ok();
                while written && flag.exists() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
}

impl SiteSeal for Stopping {
    fn frame(&mut self, frame: &[u8]) -> Result<Reply, Reason> {
        let kind = frame.first().copied().unwrap_or_default();
        if kind == 1 {
            // The next session begins: what was answered in the last one has reached the server.
            if self.answered == Some(2) {
                self.moment("after");
            }
            self.session += 1;
        }
        MOMENTS.iter().filter(|(_, of)| *of == kind).for_each(|(moment, _)| self.moment(moment));
        let reply = self.inner.frame(frame)?;
        self.answered = Some(kind);
        Ok(reply)
    }

    fn begin(&mut self, task: [u8; 32], session: &[u8], schema: &Schema) -> Result<(), Reason> {
        self.moment("task");
        self.inner.begin(task, session, schema)
    }

    fn seal(&mut self, update: Lattice, weight: f64) -> Result<Sealed, Reason> {
        let sealed = self.inner.seal(update, weight);
        self.moment("upload");
        sealed
    }
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let [_, role, _, kit] = &words[..] else { std::process::exit(2) };
    let kit = Path::new(kit);
    let site = kit.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let program = Program::new().seal(move |inner| {
        Box::new(Stopping { inner, stop: Stop::of(&site), session: 0, answered: None })
    });
    let cancel = Cancel::default();
    let ended = match role.as_str() {
        "server" => privet::serve_kit(program, kit, &cancel, |_| ()).is_ok(),
        _ => privet::site_kit(program, kit, &cancel, |_| ()).is_ok(),
    };
    std::process::exit(i32::from(!ended));
}
