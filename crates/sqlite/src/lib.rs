//! The state of one destination, in one SQLite database.
//!
//! The database is created by the first commit, so that a run that finds nothing to do, or only reads, writes
//! nothing. Each commit is one transaction with a rollback journal, whose header is overwritten before the
//! commit returns; closing the database removes it.
//!
//! - `schema`: its tables, and opening it. `rows`: conversion of rows. `commit`: the only way to write.
//! - `lock`: one process at a time. `identity`: its vault and destination. `error`: errors of SQLite.
//! - `companion`: small files beside the database. `catalog`: paths of a machine's databases. `journal`:
//!   changes and their devices. `texts`: base texts of merges. `summary`: numbers for `status`.

mod catalog;
mod commit;
mod companion;
mod error;
/// Entry point of the fuzz target.
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod journal;
mod lock;
mod rows;
mod schema;
mod shrink;
mod summary;
mod texts;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use obsync_core::{
    Commit, DeferredKind, DeferredPart, Intent, JournalEntry, LastRun, Record, StateError, StateStore,
    VaultState,
};
use obsync_protocol::{ContentHash, VaultPath};
use rusqlite::Connection;

pub use self::catalog::{StateCatalog, canonical_destination};
pub use self::identity::StateIdentity;
pub use self::summary::StateSummary;

use self::error::Database;
use self::lock::StateLock;
use self::rows::Changes;
use self::schema::Access;
use obsync_core::blocking::{Stopped, blocking, lock};

/// Contents that a run asks for if it has little to do. Such runs are frequent, and worth an index.
const FEW_CONTENTS: usize = 64;

/// Interval at which a waiting process checks for confirmations.
const CONFIRMATIONS: Duration = Duration::from_secs(2);

/// The state of one destination, in one SQLite database.
#[derive(Debug)]
pub struct SqliteState {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Database,
    access: Access,
    /// The identity; unknown if an absent database is read.
    identity: Option<StateIdentity>,
    /// `None` until there is a database.
    connection: Mutex<Option<Connection>>,
    /// The next commit indexes the records by content.
    wants_index: AtomicBool,
    /// Held for its Drop: releases the lock.
    _lock: Option<StateLock>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if self.access == Access::Write
            && let Ok(Some(connection)) = self.connection.get_mut()
            && let Err(error) = schema::remove_journal(connection)
        {
            tracing::debug!(%error, "the journal of the state stays");
        }
    }
}

impl SqliteState {
    /// Opens the state of `identity` in the file `path` for a run, and locks it for as long as this lives.
    /// The file (mode 0600) and its folders (0700) are created when needed. Blocks for a moment.
    ///
    /// # Errors
    ///
    /// [`StateError::Locked`] if another process has it, [`StateError::Corrupt`] if it is damaged,
    /// [`StateError::Newer`] if a newer obsync wrote it, [`StateError::Unavailable`] if it belongs to another
    /// vault or destination or cannot be used.
    pub fn open(path: &Path, identity: &StateIdentity) -> Result<Self, StateError> {
        let database = Database::new(path);
        let lock = StateLock::take(&database, &identity.destination)?;
        let mut connection = schema::open(&database, Access::Write)?;
        if let Some(connection) = &mut connection {
            identity.check(&identity::read(&database, connection)?, &database)?;
            schema::migrate(connection).map_err(|error| database.error(&error))?;
            let shrunk = shrink::shrink(connection).map_err(|error| database.error(&error))?;
            if shrunk.shortened > 0 {
                tracing::warn!(
                    "{} entries that cannot be read took more of the state database than they may, and were \
                     shortened; `obsync pull --full` lists them again",
                    shrunk.shortened
                );
            }
            if shrunk.forgotten > 0 {
                tracing::warn!(
                    "{} changes that were not applied were forgotten, as there were too many; the next pull looks at everything \
                     again",
                    shrunk.forgotten
                );
            }
        }
        Ok(Self::new(database, Access::Write, Some(identity.clone()), connection, Some(lock)))
    }

    /// Opens the state in the file `path` read-only: nothing is locked or written, and a commit is an error.
    /// A missing file reads as the state of a destination that was never pulled to. Blocks for a moment.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open), except for the lock.
    pub fn read(path: &Path) -> Result<Self, StateError> {
        let database = Database::new(path);
        let connection = schema::open(&database, Access::Read)?;
        let identity =
            connection.as_ref().map(|connection| identity::read(&database, connection)).transpose()?;
        Ok(Self::new(database, Access::Read, identity, connection, None))
    }

    /// True if a process works with this state now. A process that starts at this very moment may find it
    /// locked. Blocks for a moment.
    pub fn is_at_work(&self) -> bool {
        lock::is_held(&self.inner.database)
    }

    /// The process that works with this state, or the last one if it was killed, according to the lock.
    /// Blocks for a moment.
    pub fn holder(&self) -> Option<String> {
        lock::holder_of(&self.inner.database)
    }

    /// The identity; `None` if it was opened by [`read`](Self::read) and there is no database.
    pub fn identity(&self) -> Option<&StateIdentity> {
        self.inner.identity.as_ref()
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        self.inner.database.path()
    }

    fn new(
        database: Database,
        access: Access,
        identity: Option<StateIdentity>,
        connection: Option<Connection>,
        lock: Option<StateLock>,
    ) -> Self {
        let (connection, wants_index) = (Mutex::new(connection), AtomicBool::new(false));
        SqliteState {
            inner: Arc::new(Inner { database, access, identity, connection, wants_index, _lock: lock }),
        }
    }

    /// Runs `work` on a thread that may block.
    async fn run<T, F>(&self, work: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> Result<T, StateError> + Send + 'static,
    {
        let inner = self.inner.clone();
        let stopped = |_: Stopped| Err(self.inner.database.unavailable(Stopped::REASON));
        blocking(move || work(&inner)).await.unwrap_or_else(stopped)
    }

    /// Reads from the database; `absent` is the answer if there is none.
    async fn query<T, F>(&self, absent: T, work: F) -> Result<T, StateError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, rows::ReadError> + Send + 'static,
    {
        self.run(move |inner| match &*lock(&inner.connection) {
            None => Ok(absent),
            Some(connection) => {
                read_at_once(connection, work).map_err(|error| inner.database.read_error(error))
            }
        })
        .await
    }

    /// A part of some deferred changes.
    async fn deferred_changes(
        &self,
        changes: Changes,
        from: Option<String>,
    ) -> Result<DeferredPart, StateError> {
        let read = move |connection: &Connection| rows::deferred_part(connection, changes, from.as_deref());
        self.query(DeferredPart::default(), read).await
    }
}

/// Reads in one transaction: one lock for a query of a thousand paths instead of one for each, which cost
/// seven system calls every time.
fn read_at_once<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, rows::ReadError>,
) -> Result<T, rows::ReadError> {
    // The connection is locked meanwhile, so there is no nested transaction.
    let reading = connection.unchecked_transaction()?;
    work(&reading)
}

impl Inner {
    fn commit(&self, commit: &Commit) -> Result<(), StateError> {
        let (Access::Write, Some(identity)) = (self.access, &self.identity) else {
            return Err(self.database.unavailable("it was opened to be looked at only"));
        };
        let mut kept = lock(&self.connection);
        let connection = match &mut *kept {
            Some(connection) => connection,
            None => kept.insert(schema::create(&self.database)?),
        };
        let indexes = self.wants_index.swap(false, Ordering::Relaxed);
        commit::apply(connection, identity, commit, indexes).map_err(|error| self.database.write_error(error))
    }

    /// Stores texts if there is a database already.
    fn keep_texts(&self, texts: &[(ContentHash, Option<Vec<u8>>)]) -> Result<bool, StateError> {
        match (self.access, &mut *lock(&self.connection)) {
            (Access::Write, Some(connection)) => {
                texts::keep(connection, texts).map_err(|error| self.database.error(&error))
            }
            _ => Ok(false),
        }
    }

    /// Stores a run if there is a database already.
    fn note_run(&self, run: &LastRun) -> Result<(), StateError> {
        if lock(&self.connection).is_none() {
            return Ok(());
        }
        companion::note_run(&self.database, run)
    }

    /// Stores the time of a check if there is a database already.
    fn note_check(&self, at: i64) -> Result<(), StateError> {
        match (self.access, &*lock(&self.connection)) {
            (Access::Write, Some(_)) => companion::note_check(&self.database, at),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl StateStore for SqliteState {
    async fn load(&self) -> Result<VaultState, StateError> {
        self.query(VaultState::default(), rows::vault_state).await
    }

    async fn records(&self, paths: &[VaultPath]) -> Result<Vec<Option<Record>>, StateError> {
        let paths = paths.to_vec();
        self.query(vec![None; paths.len()], move |connection| rows::records(connection, &paths)).await
    }

    async fn sources(&self, contents: &[ContentHash]) -> Result<Vec<Option<VaultPath>>, StateError> {
        if (1..=FEW_CONTENTS).contains(&contents.len()) {
            self.inner.wants_index.store(true, Ordering::Relaxed);
        }
        let contents = contents.to_vec();
        self.query(vec![None; contents.len()], move |connection| rows::sources(connection, &contents)).await
    }

    async fn all_records(&self) -> Result<Vec<Record>, StateError> {
        self.query(Vec::new(), rows::all_records).await
    }

    async fn files(&self) -> Result<u64, StateError> {
        self.query(0, rows::files).await
    }

    async fn sample(&self, most: usize) -> Result<Vec<Record>, StateError> {
        self.query(Vec::new(), move |connection| rows::sample(connection, most)).await
    }

    async fn has_below(&self, folder: &VaultPath) -> Result<bool, StateError> {
        let folder = folder.clone();
        self.query(false, move |connection| rows::has_below(connection, &folder)).await
    }

    async fn deferred_part(
        &self,
        kind: DeferredKind,
        from: Option<String>,
    ) -> Result<DeferredPart, StateError> {
        self.deferred_changes(Changes::Of(kind), from).await
    }

    async fn retained_part(&self, from: Option<String>) -> Result<DeferredPart, StateError> {
        self.deferred_changes(Changes::Retained, from).await
    }

    async fn intents(&self) -> Result<Vec<Intent>, StateError> {
        self.query(Vec::new(), rows::intents).await
    }

    fn keeps_journal(&self) -> bool {
        true
    }

    async fn journal(&self, path: Option<&VaultPath>, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        let path = path.cloned();
        self.query(Vec::new(), move |connection| journal::read(connection, path.as_ref(), limit)).await
    }

    async fn texts_wanted(&self, largest: u64, most: usize) -> Result<Vec<Record>, StateError> {
        self.query(Vec::new(), move |connection| texts::wanted(connection, largest, most)).await
    }

    async fn keep_texts(&self, texts: Vec<(ContentHash, Option<Vec<u8>>)>) -> bool {
        let kept = self.run(move |inner| inner.keep_texts(&texts)).await;
        kept.unwrap_or_else(|error| {
            tracing::debug!(%error, "texts for merges are not kept");
            false
        })
    }

    async fn text(&self, hash: &ContentHash) -> Option<Vec<u8>> {
        let hash = *hash;
        self.query(None, move |connection| texts::find(connection, &hash)).await.ok().flatten()
    }

    async fn commit(&self, commit: Commit) -> Result<(), StateError> {
        self.run(move |inner| inner.commit(&commit)).await
    }

    async fn leave_confirmations(&self, uids: Vec<u64>) -> Result<(), StateError> {
        self.run(move |inner| companion::leave_confirmations(&inner.database, &uids)).await
    }

    async fn confirmations(&self) -> Result<Vec<u64>, StateError> {
        self.run(|inner| Ok(companion::confirmations(&inner.database))).await
    }

    async fn forget_confirmations(&self, uids: &[u64]) -> Result<(), StateError> {
        let uids = uids.to_vec();
        self.run(move |inner| companion::forget_confirmations(&inner.database, &uids)).await
    }

    async fn confirmed(&self) {
        loop {
            tokio::time::sleep(CONFIRMATIONS).await;
            if self.confirmations().await.is_ok_and(|uids| !uids.is_empty()) {
                return;
            }
        }
    }

    async fn last_check(&self) -> Result<Option<i64>, StateError> {
        self.run(|inner| Ok(companion::last_check(&inner.database))).await
    }

    async fn last_run(&self) -> Result<Option<LastRun>, StateError> {
        self.run(|inner| Ok(companion::last_run(&inner.database))).await
    }

    /// Also for a state opened read-only: a run can fail before it has its lock.
    async fn note_run(&self, run: &LastRun) {
        let run = run.clone();
        let noted = self.run(move |inner| inner.note_run(&run)).await;
        noted.unwrap_or_else(|error| tracing::debug!(%error, "how this run went is not noted"));
    }

    async fn note_check(&self, at: i64) {
        let noted = self.run(move |inner| inner.note_check(at)).await;
        noted.unwrap_or_else(|error| tracing::debug!(%error, "the time of this check is not noted"));
    }
}
