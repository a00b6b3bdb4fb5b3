//! What must survive a crash: the one database of a site or server folder.
//!
//! A [`Store`] is a redb file. Opening it takes a lock, so that a second process on the same
//! folder is refused at once. Every [`Store::write`] is one transaction that is on disk when it
//! returns, or has not happened.
//!
//! # Assumptions about the disk
//! `fsync` means what it says; a write that failed is not read back as if it had not. redb's
//! checksums find a torn commit and fall back to the one before it.

#[cfg(feature = "faults")]
pub mod faults;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redb::{
    Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableHandle,
};

/// Why the database could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error("another privet process uses this folder")]
    InUse,
    /// The file is damaged, or is no database of ours. It is never reset.
    #[error("the database is damaged or could not be opened: {0}")]
    Damaged(String),
    /// A read or write failed.
    #[error("the database could not be read or written: {0}")]
    Failed(String),
}

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

/// A named table from byte strings to byte strings, iterated in the order of its keys.
#[derive(Debug, Clone, Copy)]
pub struct Table(&'static str);

impl Table {
    /// Names a table; each crate names its own.
    pub const fn named(name: &'static str) -> Self {
        Self(name)
    }

    fn definition(self) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
        TableDefinition::new(self.0)
    }
}

/// The database of one folder. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Database>);

impl Store {
    /// Opens or makes the database and locks it.
    ///
    /// # Errors
    /// When another process has it open, or the file is damaged.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            create(path)?;
        }
        let database = Database::open(path).map_err(opening)?;
        Ok(Self(Arc::new(database)))
    }

    /// Opens a database on another kind of storage: in memory, or one that injects faults.
    ///
    /// # Errors
    /// When what it holds is damaged, or it fails.
    pub fn on(backend: impl StorageBackend) -> Result<Self, StoreError> {
        let database = Database::builder().create_with_backend(backend).map_err(opening)?;
        Ok(Self(Arc::new(database)))
    }

    /// A database in memory.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::on(redb::backends::InMemoryBackend::new())
    }

    /// A copy in memory. What is done with it is not kept.
    ///
    /// # Errors
    /// When storage fails.
    pub fn copied(&self) -> Result<Self, StoreError> {
        let copy = Self::in_memory()?;
        let transaction = self.0.begin_read().map_err(failed)?;
        copy.write(|to| {
            for handle in transaction.list_tables().map_err(failed)? {
                let definition = TableDefinition::<&[u8], &[u8]>::new(handle.name());
                let from = transaction.open_table(definition).map_err(failed)?;
                let mut table = to.0.open_table(definition).map_err(failed)?;
                for (key, value) in collect(&from, b"")? {
                    table.insert(&key[..], &value[..]).map_err(failed)?;
                }
            }
            Ok::<_, StoreError>(())
        })?;
        Ok(copy)
    }

    /// Runs one transaction. When `change` fails nothing has happened; when this returns `Ok`,
    /// all of it is on disk. Transactions run one after another.
    ///
    /// # Errors
    /// What `change` returns, or a failure of storage.
    pub fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let transaction = Transaction(self.0.begin_write().map_err(failed)?);
        let value = change(&transaction)?;
        transaction.0.commit().map_err(failed)?;
        Ok(value)
    }

    /// One value.
    ///
    /// # Errors
    /// When storage fails.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let transaction = self.0.begin_read().map_err(failed)?;
        let table = match transaction.open_table(table.definition()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let value = table.get(key).map_err(failed)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// All pairs of a table whose key starts with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// When storage fails.
    pub fn scan(&self, table: Table, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let transaction = self.0.begin_read().map_err(failed)?;
        match transaction.open_table(table.definition()) {
            Ok(table) => collect(&table, prefix),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }
}

/// Makes an empty database that is there whole or not at all, and whose name is on disk: a crash
/// half-way would leave one that is refused as damaged for good, or lose one that holds charges.
fn create(path: &Path) -> Result<(), StoreError> {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("new-{}-{number}", std::process::id()));
    let _ = std::fs::remove_file(&new);
    drop(Database::create(&new).map_err(opening)?);
    std::fs::File::open(&new).and_then(|file| file.sync_all()).map_err(failed)?;
    let linked = match std::fs::hard_link(&new, path) {
        // Another process was faster.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        // A file system without links; what another process made meanwhile is empty as well.
        Err(_) => std::fs::rename(&new, path),
        Ok(()) => Ok(()),
    };
    let _ = std::fs::remove_file(&new);
    linked.map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = std::fs::File::open(folder.unwrap_or(Path::new(".")));
    folder.and_then(|folder| folder.sync_all()).map_err(failed)
}

/// A key and its value.
pub type Pair = (Vec<u8>, Vec<u8>);

fn collect(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
) -> Result<Vec<Pair>, StoreError> {
    let mut pairs = Vec::new();
    for pair in table.range(prefix..).map_err(failed)? {
        let (key, value) = pair.map_err(failed)?;
        if !key.value().starts_with(prefix) {
            break;
        }
        pairs.push((key.value().to_vec(), value.value().to_vec()));
    }
    Ok(pairs)
}

fn opening(error: redb::DatabaseError) -> StoreError {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse,
        error => StoreError::Damaged(error.to_string()),
    }
}

/// A transaction under way; see [`Store::write`].
pub struct Transaction(redb::WriteTransaction);

impl Transaction {
    /// Sets a value.
    ///
    /// # Errors
    /// When storage fails.
    pub fn put(&self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let mut table = self.0.open_table(table.definition()).map_err(failed)?;
        table.insert(key, value).map_err(failed)?;
        Ok(())
    }

    /// Takes a value out; whether there was one.
    ///
    /// # Errors
    /// When storage fails.
    pub fn remove(&self, table: Table, key: &[u8]) -> Result<bool, StoreError> {
        let mut table = self.0.open_table(table.definition()).map_err(failed)?;
        let removed = table.remove(key).map_err(failed)?;
        Ok(removed.is_some())
    }

    /// One value, as this transaction left it.
    ///
    /// # Errors
    /// When storage fails.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let table = self.0.open_table(table.definition()).map_err(failed)?;
        let value = table.get(key).map_err(failed)?;
        Ok(value.map(|value| value.value().to_vec()))
    }

    /// All pairs of a table whose key starts with `prefix`, in the order of their keys.
    ///
    /// # Errors
    /// When storage fails.
    pub fn scan(&self, table: Table, prefix: &[u8]) -> Result<Vec<Pair>, StoreError> {
        let table = self.0.open_table(table.definition()).map_err(failed)?;
        collect(&table, prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Table = Table::named("t");

    #[test]
    fn a_failed_transaction_has_not_happened() {
        let store = Store::in_memory().unwrap();
        let refused: Result<(), StoreError> = store.write(|tx| {
            tx.put(T, b"a", b"1")?;
            Err(StoreError::InUse)
        });
        assert!(refused.is_err());
        assert_eq!(store.get(T, b"a").unwrap(), None);
        store.write(|tx| tx.put(T, b"a", b"1")).unwrap();
        assert_eq!(store.get(T, b"a").unwrap().as_deref(), Some(&b"1"[..]));
    }

    #[test]
    fn a_copy_goes_its_own_way() {
        let store = Store::in_memory().unwrap();
        store.write(|tx| tx.put(T, b"a", b"1")).unwrap();
        let copy = store.copied().unwrap();
        copy.write(|tx| tx.put(T, b"a", b"2")).unwrap();
        assert_eq!(store.get(T, b"a").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(copy.get(T, b"a").unwrap().as_deref(), Some(&b"2"[..]));
    }

    #[test]
    fn scans_stop_at_the_prefix() {
        let store = Store::in_memory().unwrap();
        store
            .write(|tx| {
                for key in ["a/1", "a/2", "b/1"] {
                    tx.put(T, key.as_bytes(), b"")?;
                }
                Ok::<_, StoreError>(())
            })
            .unwrap();
        let keys: Vec<_> = store.scan(T, b"a/").unwrap().into_iter().map(|p| p.0).collect();
        assert_eq!(keys, [b"a/1", b"a/2"]);
    }

    #[test]
    fn a_second_opening_is_refused_and_values_survive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let store = Store::open(&path).unwrap();
        store.write(|tx| tx.put(T, b"k", b"v")).unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::InUse)));
        drop(store);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.get(T, b"k").unwrap().as_deref(), Some(&b"v"[..]));
    }

    #[test]
    fn a_damaged_file_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        std::fs::write(&path, b"this is no database at all").unwrap();
        assert!(matches!(Store::open(&path), Err(StoreError::Damaged(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"this is no database at all");
    }
}
