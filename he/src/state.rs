//! What a site remembers of sealed jobs, on disk: a secret of its own, a counter that only grows, and
//! for each run of a job its roster, its last session, and what it answered there.
//!
//! ```text
//!   entered ──sealed──▶ uploaded ──answering──▶ answered H(U)        each on disk before bytes leave
//! ```

use privet_core::{Code, Reason};
use privet_crypto::{DecodeError, Digest, Reader, Seed, Writer};
use privet_store::{Store, StoreError, Table, Transaction};
use zeroize::Zeroizing;

use crate::protocol::party::Roster;

const RUNS: Table = Table::named("seal-runs");
const SITE: Table = Table::named("seal-site");

/// What is known of one run of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    session: u64,
    /// Sessions that were entered, and how many may be.
    entered: u32,
    most: u32,
    /// What weighted integers are divided by, as log2.
    weight_bits: u8,
    answered: Option<Digest>,
    /// The members of the first sum that was answered for.
    members: Option<Digest>,
    /// Whether the server has told sites of different sums.
    distrusted: bool,
    roster: Vec<u8>,
}

impl Run {
    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u64(self.session).u32(self.entered).u32(self.most).u8(self.weight_bits);
        for digest in [&self.answered, &self.members] {
            match digest {
                None => writer.u8(0),
                Some(digest) => writer.u8(1).raw(&digest.0),
            };
        }
        writer.u8(self.distrusted.into()).bytes(&self.roster);
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let session = reader.u64("session")?;
        let (entered, most) = (reader.u32("sessions")?, reader.u32("most sessions")?);
        let weight_bits = reader.u8("weight")?;
        let mut digest = || match reader.u8("digest")? {
            0 => Ok(None),
            _ => Ok(Some(Digest(reader.digest("digest")?))),
        };
        let (answered, members) = (digest()?, digest()?);
        let distrusted = reader.u8("distrusted")? != 0;
        let roster = reader.bytes(1 << 20, "roster")?.to_vec();
        reader.end()?;
        Ok(Self { session, entered, most, weight_bits, answered, members, distrusted, roster })
    }
}

fn failed(error: impl std::fmt::Display) -> Reason {
    Reason::new(Code::StorageFailed, error.to_string())
}

/// Storage that failed, or a reason that a transaction was given up for.
struct Failed(Reason);

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self(failed(error))
    }
}

/// A session that a site is about to seal for.
#[derive(Clone, Copy)]
pub(crate) struct Entering<'a> {
    pub(crate) session: u64,
    /// The most sessions of the run; what was said first holds.
    pub(crate) most: u32,
    pub(crate) roster: &'a Roster,
    pub(crate) weight_bits: u8,
}

/// The memory of one site, about one run of a job.
pub(crate) struct State {
    store: Store,
    run: String,
}

impl State {
    pub(crate) fn new(store: Store, run: String) -> Self {
        Self { store, run }
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&Transaction) -> Result<T, Failed>,
    ) -> Result<T, Reason> {
        self.store.write(change).map_err(|Failed(reason)| reason)
    }

    fn read(&self, tx: &Transaction) -> Result<Option<Run>, Failed> {
        let bytes = tx.get(RUNS, self.run.as_bytes())?;
        let run = bytes.map(|bytes| Run::decode(&bytes)).transpose();
        run.map_err(|error| Failed(failed(error)))
    }

    fn put(&self, tx: &Transaction, run: &Run) -> Result<(), Failed> {
        Ok(tx.put(RUNS, self.run.as_bytes(), &run.encode())?)
    }

    fn known(&self) -> Result<Option<Run>, Reason> {
        let bytes = self.store.get(RUNS, self.run.as_bytes()).map_err(failed)?;
        bytes.map(|bytes| Run::decode(&bytes)).transpose().map_err(failed)
    }

    /// The roster of the run, once a round of it was entered.
    pub(crate) fn roster(&self) -> Result<Option<Roster>, Reason> {
        let run = self.known()?;
        run.map(|run| Roster::decode(&run.roster)).transpose().map_err(failed)
    }

    /// Whether a session may still be entered, of at most so many.
    pub(crate) fn may_enter(&self, session: u64, most: u32) -> Result<(), Reason> {
        self.known()?.map_or(Ok(()), |run| run.admits(session, most))
    }

    /// Enters a session, later than any before, and gives the seed of all its secrets: of fresh random
    /// bytes, the site's own secret, a counter, and what is about to be sealed. Should a copy of the
    /// machine draw the same random bytes again, another update still gets other secrets.
    pub(crate) fn enter(
        &self,
        entering: &Entering<'_>,
        context: &Digest,
        update: &Digest,
    ) -> Result<Seed, Reason> {
        let fresh = Seed::from_os().map_err(failed)?;
        let new_secret = Seed::from_os().map_err(failed)?;
        let Entering { session, most, roster, weight_bits } = *entering;
        self.change(|tx| {
            let known = self.read(tx)?;
            if let Some(run) = &known {
                run.admits(session, most).map_err(Failed)?;
                if run.weight_bits != weight_bits {
                    // Of one update, cut at two places, the difference would tell more than either.
                    let detail = "the session divides by another power of two than the run's first";
                    return Err(Failed(Reason::new(Code::ContextMismatch, detail)));
                }
            }
            let secret = match tx.get(SITE, b"secret")? {
                Some(secret) => Zeroizing::new(secret),
                None => {
                    tx.put(SITE, b"secret", new_secret.reveal())?;
                    Zeroizing::new(new_secret.reveal().to_vec())
                }
            };
            let counter = match tx.get(SITE, b"counter")? {
                Some(bytes) => {
                    let bytes = bytes.try_into().map_err(|_| Failed(failed("the seal counter")))?;
                    u64::from_le_bytes(bytes)
                }
                None => 0,
            };
            tx.put(SITE, b"counter", &(counter + 1).to_le_bytes())?;
            let run = Run {
                session,
                entered: known.as_ref().map_or(0, |run| run.entered).saturating_add(1),
                most: known.as_ref().map_or(most, |run| run.most.min(most)),
                weight_bits,
                answered: None,
                members: known.and_then(|run| run.members),
                distrusted: false,
                roster: roster.encode(),
            };
            self.put(tx, &run)?;
            Ok(secrets(&fresh, &secret, counter, context, update))
        })
    }

    /// Says which survivors are answered, before the answer leaves: once a session, or the same again.
    /// Where sums must be `stable`, their members are those of the run's first.
    pub(crate) fn answer(
        &self,
        session: u64,
        survivors: &Digest,
        members: &Digest,
        stable: bool,
    ) -> Result<(), Reason> {
        self.change(|tx| {
            let refuse = |code, detail: &str| Err(Failed(Reason::new(code, detail)));
            let Some(mut run) = self.read(tx)?.filter(|run| run.session == session) else {
                return refuse(Code::StateRolledBack, "the site's memory of this round is gone");
            };
            if run.answered.is_some_and(|answered| answered != *survivors) {
                return refuse(
                    Code::AlreadyAnswered,
                    "another sum of this round was opened already",
                );
            }
            let first = *run.members.get_or_insert(*members);
            if stable && first != *members {
                let detail = "the sum is over other sites than this run's first";
                return refuse(Code::SurvivorsChanged, detail);
            }
            run.answered = Some(*survivors);
            self.put(tx, &run)
        })
    }

    /// Writes down that the server has told sites of different sums: no session of this run is entered any more.
    pub(crate) fn distrust(&self) -> Result<(), Reason> {
        self.change(|tx| match self.read(tx)? {
            Some(run) => self.put(tx, &Run { distrusted: true, ..run }),
            None => Ok(()),
        })
    }
}

/// The seed of all secrets of an upload. Should everything else come again, of a copy of the machine, another
/// update still gets other secrets.
pub(crate) fn secrets(
    fresh: &Seed,
    site: &[u8],
    counter: u64,
    context: &Digest,
    update: &Digest,
) -> Seed {
    let parts = [site, &counter.to_le_bytes(), &context.0, &update.0];
    fresh.bound("privet/he/secrets/v1", &parts)
}

impl Run {
    /// Whether a session, of at most so many, is one to enter.
    fn admits(&self, session: u64, most: u32) -> Result<(), Reason> {
        if self.distrusted {
            let detail = "the server told sites of different sums in an earlier session";
            return Err(Reason::new(Code::Equivocation, detail));
        }
        if self.session >= session {
            let detail = format!("session {} of this run was entered already", self.session);
            return Err(Reason::new(Code::RoundReplayed, detail));
        }
        let most = most.min(self.most);
        if self.entered >= most {
            let detail =
                format!("this run has had {most} sealed sessions, with those that did not open");
            return Err(Reason::new(Code::RoundsMax, detail));
        }
        Ok(())
    }
}
