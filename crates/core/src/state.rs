//! The state of a destination: the trait that every state database implements.
//!
//! The state never claims what is not durable: the engine commits a [`Commit`] only after the destination has published
//! the files that it speaks of. One commit is one transaction.

use async_trait::async_trait;
use obsync_protocol::{ContentHash, VaultPath};

use crate::identity::DestinationIdentity;
use crate::journal::JournalEntry;
use crate::last_run::LastRun;
use crate::model::{CursorEntry, Deferred, DeferredKey, DeferredKind, Deletions, Direction, Intent, Record};
use crate::problem::ProblemCode;

/// The state of the vault as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VaultState {
    /// The watermark: every change of the vault up to and including this version is applied, or recorded as
    /// [`Deferred`].
    pub version: u64,
    /// Whether a first listing was handled to its end (the protocol's `initial` is its opposite).
    pub listed: bool,
    /// [Fingerprint](obsync_protocol::Filter::fingerprint) of the filter that decided which entries were deferred;
    /// `None` while a run with another filter is at work, so that an interrupted one is not taken for complete.
    pub filter: Option<String>,
    /// A full pull or sync was begun and has not come to its end: the next one must be full too. Up to this version everything
    /// was looked at again already.
    pub full_up_to: Option<u64>,
    /// A pull that keeps everything was begun and has not come to its end: the next one keeps everything, too.
    pub keeping: bool,
    /// The newest entry of the vault that was listed, by which a vault is recognised that was restored and grew again.
    pub cursor: Option<CursorEntry>,
    /// Which way the destination is synced.
    pub direction: Direction,
    /// The destination's identity, if it was ever given one.
    pub destination: Option<DestinationIdentity>,
    /// The deletions of the last hour, a row a minute at most.
    pub deletions: Vec<Deletions>,
}

impl VaultState {
    /// Whether what was recorded was forgotten because the destination was in doubt, and the run that was to look at
    /// everything anew did not come to its end: only a listing that was handled to its end leaves a cursor otherwise.
    pub(crate) fn was_doubted(&self) -> bool {
        !self.listed && self.cursor.is_some()
    }
}

/// One transaction. In this order: `forgotten` records go, `records` are put (over older ones of their path),
/// `settled` deferred changes go, `deferred` ones are put, `intents` take the place of those before, `state` is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Commit {
    /// Records of what is no longer in the destination.
    pub forgotten: Vec<VaultPath>,
    /// Records of what is in the destination now.
    pub records: Vec<Record>,
    /// Deferred changes that are done with. A key that was never deferred is fine.
    pub resolved: Vec<DeferredKey>,
    /// Changes that were not applied.
    pub deferred: Vec<Deferred>,
    /// The changes that are made next. Should the process die between that and the commit of its records, the next run knows by this
    /// that what it finds is its own work and no one else's.
    pub intents: Vec<Intent>,
    /// Lines for the journal: what these records say was changed, and where.
    pub journal: Vec<JournalEntry>,
    /// The vault as a whole.
    pub state: VaultState,
}

/// A database of what is known of one (vault, destination). Holding it means holding the destination's lock or lease.
#[async_trait]
pub trait StateStore: Send + Sync + 'static {
    /// The state as committed last; the default for a destination that was never pulled to.
    async fn load(&self) -> Result<VaultState, StateError>;

    /// The records of these paths, in their order. Costs in proportion to the number of paths.
    async fn records(&self, paths: &[VaultPath]) -> Result<Vec<Option<Record>>, StateError>;

    /// For each content the path of some recorded file that has it, in order. A database without an index by content
    /// may answer `None` for what it has.
    async fn sources(&self, contents: &[ContentHash]) -> Result<Vec<Option<VaultPath>>, StateError>;

    /// All records, in no order. Costs in proportion to the vault.
    async fn all_records(&self) -> Result<Vec<Record>, StateError>;

    /// How many files are recorded.
    async fn files(&self) -> Result<u64, StateError> {
        Ok(self.all_records().await?.iter().filter(|record| record.file().is_some()).count() as u64)
    }

    /// Some records of files, drawn anew each time, `most` at most. A database where that costs a request has none to offer.
    async fn sample(&self, most: usize) -> Result<Vec<Record>, StateError> {
        let _ = most;
        Ok(Vec::new())
    }

    /// The deferred changes of one kind, by ascending uid.
    async fn deferred(&self, kind: DeferredKind) -> Result<Vec<Deferred>, StateError>;

    /// The changes that the last commit announced.
    async fn intents(&self) -> Result<Vec<Intent>, StateError>;

    /// Whether it keeps a journal.
    fn keeps_journal(&self) -> bool {
        false
    }

    /// The newest lines of the journal, newest first, of one path and what is below it if that is given. A database that keeps
    /// no journal has none.
    async fn journal(&self, path: Option<&VaultPath>, limit: usize) -> Result<Vec<JournalEntry>, StateError> {
        let _ = (path, limit);
        Ok(Vec::new())
    }

    /// Some recorded files of at most `largest` bytes, the newest first, of whose texts it is not known yet whether they are kept
    /// for merges. A database that keeps none wants none.
    async fn texts_wanted(&self, largest: u64, most: usize) -> Result<Vec<Record>, StateError> {
        let _ = (largest, most);
        Ok(Vec::new())
    }

    /// Keeps texts for merges, or that there is none of a content. `false`: there is no room for more, or they cannot be kept.
    async fn keep_texts(&self, texts: Vec<(ContentHash, Option<Vec<u8>>)>) -> bool {
        let _ = texts;
        false
    }

    /// A text that was kept. The caller compares its hash.
    async fn text(&self, hash: &ContentHash) -> Option<Vec<u8>> {
        let _ = hash;
        None
    }

    /// What was [noted](Self::note_in_step) of the destination, if no record was changed since, by nobody.
    async fn in_step(&self) -> Option<String> {
        None
    }

    /// Notes by which text the destination is known as it is now, and is recorded. Nothing depends on it: it is lost rather than
    /// worth an error. A database where it is cheap to read all records need not keep it.
    async fn note_in_step(&self, known_by: String) {
        let _ = known_by;
    }

    /// Applies one transaction; durable when it returns.
    async fn commit(&self, commit: Commit) -> Result<(), StateError>;

    /// Whether the destination is still this process's alone, as far as that is known without asking: what cannot be taken back
    /// is done only then. A lock of the system stays; a lease ends with its time.
    fn is_held(&self) -> bool {
        true
    }

    /// Keeps a confirmation for whoever has the lock, or will have it: the uids of held-back deletions. Durable when it
    /// returns. The one method that writes from a state that was opened to be looked at.
    async fn leave_confirmations(&self, uids: Vec<u64>) -> Result<(), StateError> {
        let _ = uids;
        Err(StateError::Unavailable {
            database: "in use".to_owned(),
            reason: "it takes no confirmations while a run is at work; confirm again when it ended"
                .to_owned(),
            code: ProblemCode::State,
        })
    }

    /// The confirmations that were left.
    async fn confirmations(&self) -> Result<Vec<u64>, StateError> {
        Ok(Vec::new())
    }

    /// Forgets confirmations that were taken over.
    async fn forget_confirmations(&self, uids: &[u64]) -> Result<(), StateError> {
        let _ = uids;
        Ok(())
    }

    /// Returns some time after a confirmation was left, for a process that waits. Can be cancelled without loss.
    async fn confirmed(&self) {
        std::future::pending().await
    }

    /// When a run last found the destination up to date, or made it so, milliseconds since the epoch.
    async fn last_check(&self) -> Result<Option<i64>, StateError>;

    /// How the last run went, as far as that is kept.
    async fn last_run(&self) -> Result<Option<LastRun>, StateError> {
        Ok(None)
    }

    /// Notes how a run goes, durably: when the power fails, a run is known to be cut short. Where that cannot be written, it is
    /// no error; what was noted before does not pass for the end of this run then.
    async fn note_run(&self, run: &LastRun) {
        let _ = run;
    }

    /// Notes such a time. Nothing depends on it, so it need not be durable when this returns, and it is lost rather than
    /// worth an error.
    async fn note_check(&self, at: i64);
}

/// Commits beside what is announced: that stays announced.
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
        /// Which database.
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
        /// Which database.
        database: String,
        /// Its format.
        found: i64,
        /// The newest format that this program knows.
        known: i64,
    },
    /// Another process works on the same destination.
    #[error("another obsync is working on {destination}; wait for it to end, or stop it")]
    Locked {
        /// The destination, and who works on it where that is known.
        destination: String,
    },
    /// Another process took the destination over, because this one gave no sign of life for too long.
    #[error(
        "another obsync took over {destination} while this one was held up; nothing is lost, and what this one had \
         recorded counts"
    )]
    LeaseLost {
        /// The destination.
        destination: String,
    },
    /// The database cannot be read or written.
    #[error("the state database {database} cannot be used: {reason}")]
    Unavailable {
        /// Which database.
        database: String,
        /// The problem.
        reason: String,
        /// The same for scripts.
        code: ProblemCode,
    },
}

impl StateError {
    /// That another process works on a destination, and who that is, as far as it is known.
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
