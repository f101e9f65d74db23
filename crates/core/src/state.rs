//! The state of a destination: the trait that every state database implements.
//!
//! The state never claims anything that is not durable: the engine commits a [`Commit`] only after the
//! destination has published its files. One commit is one transaction.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use obsync_protocol::{ContentHash, VaultPath};

use crate::identity::DestinationIdentity;
use crate::journal::JournalEntry;
use crate::last_run::LastRun;
use crate::model::{
    CursorEntry, Deferred, DeferredCause, DeferredKey, DeferredKind, Deletions, Direction, Intent, Record,
};
use crate::problem::ProblemCode;

/// The state of the vault as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaultState {
    /// The watermark: every change of the vault up to and including this version is applied, or recorded as
    /// [`Deferred`].
    pub version: u64,
    /// True if a first listing was handled completely (the opposite of the protocol's `initial`).
    pub listed: bool,
    /// [Fingerprint](obsync_protocol::Filter::fingerprint) of the filter that decided which entries were deferred;
    /// `None` while a run with another filter is at work, so that an interrupted one is not taken for complete.
    pub filter: Option<String>,
    /// A full pull or sync was begun and is not complete: the next one must be full too. Up to this version
    /// everything was checked again already.
    pub full_up_to: Option<u64>,
    /// A pull with `keep_everything` was begun and is not complete: the next one keeps everything, too.
    pub keeping: bool,
    /// A run doubted the destination and began to forget its records, which takes several commits: those that are left
    /// are not to be trusted.
    pub forgetting: bool,
    /// The newest listed entry of the vault, to recognise a vault that was restored and has grown again.
    pub cursor: Option<CursorEntry>,
    /// Direction in which the destination is synced.
    pub direction: Direction,
    /// The destination's identity, if it has one.
    pub destination: Option<DestinationIdentity>,
    /// Deletions of the last hour, at most one row per minute.
    pub deletions: Vec<Deletions>,
}

impl VaultState {
    /// True if the records were forgotten because the destination was in doubt, and the following full run
    /// did not complete: otherwise only a complete listing leaves a cursor.
    pub(crate) fn was_doubted(&self) -> bool {
        !self.listed && self.cursor.is_some()
    }

    /// True if no run in this direction, which sends, was completed yet: the first one deletes nothing on
    /// either side. A push says nothing about the vault's changes, so a sync after pushes is a first one.
    pub fn is_first(&self, direction: Direction) -> bool {
        let has_synced = match direction {
            Direction::Both => self.direction == Direction::Both,
            Direction::Push | Direction::Pull => self.direction != Direction::Pull,
        };
        !has_synced || !self.listed
    }
}

/// One transaction, in this order: `forgotten` records are removed, `records` are written (over older ones of
/// their path), `resolved` deferred changes are removed, `deferred` ones are written, `intents` replace those
/// before, `state` is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Paths whose records are removed.
    pub forgotten: Vec<VaultPath>,
    /// Records of files and folders that are in the destination now.
    pub records: Vec<Record>,
    /// Keys of deferred changes that are done. A key that was never deferred is allowed.
    pub resolved: Vec<DeferredKey>,
    /// Changes that were not applied.
    pub deferred: Vec<Deferred>,
    /// The changes that are made next. If the process dies between them and the commit of their records, the
    /// next run knows that they are its own work and no one else's.
    pub intents: Vec<Intent>,
    /// Lines for the journal: the changes of these records.
    pub journal: Vec<JournalEntry>,
    /// The vault as a whole.
    pub state: VaultState,
}

/// A part of the deferred changes of one kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeferredPart {
    /// The changes.
    pub changes: Vec<Deferred>,
    /// Mark of the next part, in the database's own form; `None` after the last one.
    pub next: Option<String>,
}

/// Reads the deferred changes of one kind in parts.
pub(crate) struct DeferredParts<'a> {
    state: &'a dyn StateStore,
    kind: DeferredKind,
    from: Option<String>,
    is_over: bool,
}

impl<'a> DeferredParts<'a> {
    pub(crate) fn of(state: &'a dyn StateStore, kind: DeferredKind) -> Self {
        DeferredParts { state, kind, from: None, is_over: false }
    }

    /// The next part; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<Deferred>>, StateError> {
        if self.is_over {
            return Ok(None);
        }
        let part = self.state.deferred_part(self.kind, self.from.take()).await?;
        self.is_over = part.next.is_none();
        self.from = part.next;
        Ok(Some(part.changes))
    }
}

/// A database with the state of one (vault, destination). An open store has the destination's lock or lease.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// The last committed state; the default for a destination that was never pulled to.
    async fn load(&self) -> Result<VaultState, StateError>;

    /// Records of these paths, in order. Costs in proportion to the number of paths.
    async fn records(&self, paths: &[VaultPath]) -> Result<Vec<Option<Record>>, StateError>;

    /// For each content, the path of a recorded file that has it, in order. A database without an index by
    /// content may return `None` for contents that it has.
    async fn sources(&self, contents: &[ContentHash]) -> Result<Vec<Option<VaultPath>>, StateError>;

    /// All records, in no order. Costs in proportion to the vault.
    async fn all_records(&self) -> Result<Vec<Record>, StateError>;

    /// Number of recorded files.
    async fn files(&self) -> Result<u64, StateError> {
        Ok(self.all_records().await?.iter().filter(|record| record.file().is_some()).count() as u64)
    }

    /// Some records of files, drawn at random, at most `most`. A database where that costs a request returns
    /// none.
    async fn sample(&self, most: usize) -> Result<Vec<Record>, StateError> {
        let _ = most;
        Ok(Vec::new())
    }

    /// True if a file or folder is recorded below this folder.
    async fn has_below(&self, folder: &VaultPath) -> Result<bool, StateError> {
        Ok(self.all_records().await?.iter().any(|record| record.path.is_below(folder)))
    }

    /// A part of the deferred changes of one kind, in no order, that takes little memory: the first, or the
    /// one from the mark of the part before it on. Commits between two parts are allowed. A change that is
    /// there all the time is in at least one part.
    async fn deferred_part(
        &self,
        kind: DeferredKind,
        from: Option<String>,
    ) -> Result<DeferredPart, StateError>;

    /// Deferred changes of one kind, by ascending uid; not more than a run stores. A vault can have millions
    /// of filtered ones: a run reads those in parts.
    async fn deferred(&self, kind: DeferredKind) -> Result<Vec<Deferred>, StateError> {
        let (mut all, mut from, most) = (BTreeMap::new(), None, kind.most());
        loop {
            let DeferredPart { changes, next } = self.deferred_part(kind, from).await?;
            all.extend(changes.into_iter().map(|change| ((change.message.uid, change.key.clone()), change)));
            if next.is_none() || all.len() >= most {
                return Ok(all.into_values().take(most).collect());
            }
            from = next;
        }
    }

    /// The same, only of the deletions that are not made because the destination keeps deleted files. Its
    /// marks are its own.
    async fn retained_part(&self, from: Option<String>) -> Result<DeferredPart, StateError> {
        let mut part = self.deferred_part(DeferredKind::Filtered, from).await?;
        part.changes.retain(|change| change.cause == DeferredCause::Retained);
        Ok(part)
    }

    /// The changes that the last commit announced.
    async fn intents(&self) -> Result<Vec<Intent>, StateError>;

    /// True if it has a journal.
    fn keeps_journal(&self) -> bool {
        false
    }

    /// The newest lines of the journal, newest first; with `path`, only those of it and below it. Empty for a
    /// database without a journal.
    async fn journal(&self, path: Option<&VaultPath>, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        let _ = (path, limit);
        Ok(Vec::new())
    }

    /// Some recorded files of at most `largest` bytes, newest first, whose texts have not been stored for
    /// merges or ruled out yet. Empty for a database that stores none.
    async fn texts_wanted(&self, largest: u64, most: usize) -> Result<Vec<Record>, StateError> {
        let _ = (largest, most);
        Ok(Vec::new())
    }

    /// Stores texts for merges, or that a content has none. `false` if there is no room for more, or they
    /// cannot be stored.
    async fn keep_texts(&self, texts: Vec<(ContentHash, Option<Vec<u8>>)>) -> bool {
        let _ = texts;
        false
    }

    /// A stored text. The caller compares its hash.
    async fn text(&self, hash: &ContentHash) -> Option<Vec<u8>> {
        let _ = hash;
        None
    }

    /// Returns the text that [`note_in_step`](Self::note_in_step) stored, if no process changed a record
    /// since.
    async fn in_step(&self) -> Option<String> {
        None
    }

    /// Stores a text that identifies the destination in its present state, which is the recorded one. Nothing
    /// depends on the text: if it cannot be stored, that is no error. A database that can read all records
    /// cheaply need not store it.
    async fn note_in_step(&self, known_by: String) {
        let _ = known_by;
    }

    /// Applies one transaction; durable when it returns.
    async fn commit(&self, commit: Commit) -> Result<(), StateError>;

    /// True while this process has the destination to itself, as far as known without a request: irreversible
    /// changes are made only then. A lock of the system stays; a lease expires.
    fn is_held(&self) -> bool {
        true
    }

    /// Stores a confirmation for the process that has or will have the lock: the uids of held-back deletions.
    /// Durable when it returns. The only method that writes from a state that was opened read-only.
    async fn leave_confirmations(&self, uids: Vec<u64>) -> Result<(), StateError> {
        let _ = uids;
        Err(StateError::Unavailable {
            database: "in use".to_owned(),
            reason: "it takes no confirmations while a run is at work; confirm again when it ended"
                .to_owned(),
            code: ProblemCode::State,
        })
    }

    /// The stored confirmations.
    async fn confirmations(&self) -> Result<Vec<u64>, StateError> {
        Ok(Vec::new())
    }

    /// Removes confirmations that were taken over.
    async fn forget_confirmations(&self, uids: &[u64]) -> Result<(), StateError> {
        let _ = uids;
        Ok(())
    }

    /// Returns some time after a confirmation was stored, for a waiting process. Cancel safe.
    async fn confirmed(&self) {
        std::future::pending().await
    }

    /// Time when a run last found the destination up to date, or made it so, in milliseconds since the epoch.
    async fn last_check(&self) -> Result<Option<i64>, StateError>;

    /// The last run, if stored.
    async fn last_run(&self) -> Result<Option<LastRun>, StateError> {
        Ok(None)
    }

    /// Durably stores the state of a run: after a power failure, the run is known to be cut short. A failed
    /// write is no error, but then the earlier note must not pass for the end of this run.
    async fn note_run(&self, run: &LastRun) {
        let _ = run;
    }

    /// Stores such a time. Nothing depends on it, so it need not be durable when this returns, and a failed
    /// write is no error.
    async fn note_check(&self, at: i64);
}

/// Keys of the deletions that are not made because the destination keeps deleted files, as far as they are
/// wanted.
pub(crate) async fn retained(
    state: &dyn StateStore,
    wanted: impl Fn(&DeferredKey) -> bool,
) -> Result<HashSet<DeferredKey>, StateError> {
    let (mut keys, mut from) = (HashSet::new(), None);
    loop {
        let part = state.retained_part(from).await?;
        keys.extend(part.changes.into_iter().map(|change| change.key).filter(&wanted));
        if part.next.is_none() {
            return Ok(keys);
        }
        from = part.next;
    }
}

/// Commits without changing the announced changes.
pub(crate) async fn commit_beside(state: &dyn StateStore, commit: Commit) -> Result<(), StateError> {
    let intents = state.intents().await?;
    state.commit(Commit { intents, ..commit }).await
}

/// An error of a state database.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The database is damaged.
    #[error(
        "the state database {database} is damaged ({reason}); your notes are not affected. `obsync reset DEST` removes it, \
         and the next pull adopts the files that are there without downloading them"
    )]
    Corrupt {
        /// The database's file or table.
        database: String,
        /// The damage.
        reason: String,
    },
    /// The database was written by a newer obsync.
    #[error(
        "the state database {database} was written by a newer obsync (format {found}, this one knows {known}); update \
         obsync, or remove the database with `obsync reset DEST`"
    )]
    Newer {
        /// The database's file or table.
        database: String,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// Another process works on the same destination.
    #[error("another obsync is working on {destination}; wait for it to end, or stop it")]
    Locked {
        /// The destination, and the process that works on it if known.
        destination: String,
    },
    /// Another process took the destination over, because this one did not renew its lease for too long.
    #[error(
        "another obsync took over {destination} while this one was delayed; nothing is lost: everything that this one \
         recorded stays valid"
    )]
    LeaseLost {
        /// The destination.
        destination: String,
    },
    /// The database cannot be read or written.
    #[error("the state database {database} cannot be used: {reason}")]
    Unavailable {
        /// The database's file or table.
        database: String,
        /// The problem.
        reason: String,
        /// The problem's code.
        code: ProblemCode,
    },
}

impl StateError {
    /// The error for a destination that another process works on, with that process if known.
    pub fn locked(destination: &str, holder: Option<String>) -> Self {
        let destination = match holder {
            Some(holder) => format!("{destination} (held by {holder})"),
            None => destination.to_owned(),
        };
        StateError::Locked { destination }
    }
}

impl From<&StateError> for ProblemCode {
    fn from(error: &StateError) -> Self {
        match error {
            StateError::Corrupt { .. } => ProblemCode::StateDamaged,
            StateError::Newer { .. } => ProblemCode::StateNewer,
            StateError::Locked { .. } | StateError::LeaseLost { .. } => ProblemCode::AlreadyRunning,
            StateError::Unavailable { code, .. } => *code,
        }
    }
}
