//! A disk that dies, for tests of what survives.
//!
//! ```text
//!   writes ──▶ volatile ──sync──▶ durable
//!                 └── when the disk dies: some of them reach it, some in part, some not at all
//! ```
//! After so many operations every further one fails. [`Disk::survivor`] is what a machine finds that
//! comes up again: all that was synced, and an arbitrary part of what was not.

use std::io::{Error, Result};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

/// See the module. Clones share the disk.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    durable: Vec<u8>,
    volatile: Vec<u8>,
    unsynced: Vec<Change>,
    left: u64,
}

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Length(length) => bytes.resize(*length as usize, 0),
            Change::Write(offset, data) => {
                let (start, end) = (*offset as usize, *offset as usize + data.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
            }
        }
    }
}

impl Disk {
    /// An empty disk that does not die.
    pub fn healthy() -> Self {
        Self::holding(Vec::new(), u64::MAX)
    }

    /// A disk of the same content that dies after so many writes, syncs and changes of length.
    #[must_use]
    pub fn dying_after(&self, operations: u64) -> Self {
        Self::holding(self.state().durable.clone(), operations)
    }

    fn holding(bytes: Vec<u8>, left: u64) -> Self {
        let volatile = bytes.clone();
        Self(Arc::new(Mutex::new(State { durable: bytes, volatile, unsynced: Vec::new(), left })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has died.
    pub fn is_dead(&self) -> bool {
        self.state().left == 0
    }

    /// What is found of this disk when it died now; `chance` picks which of the changes that were not
    /// synced it kept. The new disk does not die.
    #[must_use]
    pub fn survivor(&self, mut chance: u64) -> Self {
        let state = self.state();
        let mut bytes = state.durable.clone();
        for change in &state.unsynced {
            // A step of a linear congruential generator (Knuth).
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            match (chance >> 60, change) {
                (0..6, _) => change.apply(&mut bytes),
                (6..10, Change::Write(offset, data)) => {
                    let kept = data.len() / 2;
                    Change::Write(*offset, data[..kept].to_vec()).apply(&mut bytes);
                }
                _ => {}
            }
        }
        Self::holding(bytes, u64::MAX)
    }

    fn change(&self, change: Change) -> Result<()> {
        let mut state = self.state();
        state.spend()?;
        change.apply(&mut state.volatile);
        state.unsynced.push(change);
        Ok(())
    }
}

impl State {
    fn spend(&mut self) -> Result<()> {
        self.left = self.left.saturating_sub(1);
        if self.left == 0 { Err(Error::other("the disk has died")) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64> {
        Ok(self.state().volatile.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let state = self.state();
        let bytes = state.volatile.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| Error::other("read beyond the end"))?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> Result<()> {
        self.change(Change::Length(length))
    }

    fn sync_data(&self) -> Result<()> {
        let mut state = self.state();
        state.spend()?;
        state.durable = state.volatile.clone();
        state.unsynced.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }
}
