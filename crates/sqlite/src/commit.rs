//! The one way to write to a state database: a whole commit in one transaction.

use obsync_core::{Commit, Deferred, DeferredCause, Record, RecordKind, VaultState};
use obsync_protocol::EncodedPath;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::identity::{self, StateIdentity};
use super::rows::{ReadError, announced, vault_state};
use super::schema;

/// Why a commit was not made. Nothing of it is in the database then.
#[derive(Debug)]
pub(super) enum WriteError {
    /// SQLite says so.
    Sqlite(rusqlite::Error),
    /// What is there already cannot be read.
    Read(ReadError),
    /// A number does not fit.
    OutOfRange(&'static str),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        WriteError::Sqlite(error)
    }
}

type Written<T = ()> = Result<T, WriteError>;

/// Applies a commit; durable when it returns. One that changes nothing does not touch the file.
pub(super) fn apply(connection: &mut Connection, identity: &StateIdentity, commit: &Commit) -> Written {
    if is_nothing(connection, identity, commit) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = jiff::Timestamp::now().as_millisecond();
    schema::prepare(&transaction, identity, now)?;
    if vault_state(&transaction).map_err(WriteError::Read)?.listed {
        schema::index_contents(&transaction)?;
    }
    forget(&transaction, commit)?;
    put_records(&transaction, "records", &commit.records)?;
    settle(&transaction, commit)?;
    defer(&transaction, &commit.deferred)?;
    transaction.execute("DELETE FROM announced", [])?;
    put_records(&transaction, "announced", &commit.announced)?;
    set_state(&transaction, identity, &commit.state, now)?;
    transaction.commit()?;
    Ok(())
}

fn is_nothing(connection: &Connection, identity: &StateIdentity, commit: &Commit) -> bool {
    let empty = commit.forgotten.is_empty()
        && commit.records.is_empty()
        && commit.settled.is_empty()
        && commit.deferred.is_empty()
        && commit.announced.is_empty();
    empty
        && announced(connection).is_ok_and(|known| known.is_empty())
        && vault_state(connection).is_ok_and(|known| known == commit.state)
        && identity::query(connection).is_ok_and(|known| known == *identity)
}

fn forget(transaction: &Transaction<'_>, commit: &Commit) -> Written {
    let mut statement = transaction.prepare_cached("DELETE FROM records WHERE path = ?1")?;
    for path in &commit.forgotten {
        statement.execute([path.as_str()])?;
    }
    Ok(())
}

/// Puts records into one of the two tables that hold some.
fn put_records(transaction: &Transaction<'_>, table: &'static str, records: &[Record]) -> Written {
    let sql = format!(
        "INSERT OR REPLACE INTO {table} (path, uid, hash, size, mtime, ctime) VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
    );
    let mut statement = transaction.prepare_cached(&sql)?;
    for record in records {
        let uid = signed(record.uid().0, "a version of the vault")?;
        let path = record.path.as_str();
        match &record.kind {
            RecordKind::Folder(_) => {
                let none: Option<i64> = None;
                statement.execute((path, uid, none, none, none, none))?;
            }
            RecordKind::File(meta) => {
                let size = signed(meta.size, "a file's size")?;
                statement.execute((path, uid, meta.hash.as_bytes(), size, meta.mtime, meta.ctime))?;
            }
        }
    }
    Ok(())
}

fn settle(transaction: &Transaction<'_>, commit: &Commit) -> Written {
    // Every file that is recorded settles what may have been deferred of it; hardly ever anything was.
    let mut any = transaction.prepare_cached("SELECT 1 FROM deferred LIMIT 1")?;
    if !any.exists([])? {
        return Ok(());
    }
    let mut statement = transaction.prepare_cached("DELETE FROM deferred WHERE key = ?1")?;
    for key in &commit.settled {
        statement.execute([key.as_str()])?;
    }
    Ok(())
}

fn defer(transaction: &Transaction<'_>, deferred: &[Deferred]) -> Written {
    let sql = "INSERT OR REPLACE INTO deferred (key, failed, reason, uid, path, related_path, hash, size, ctime, mtime,
                                                folder, deleted, device, user)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    let mut statement = transaction.prepare_cached(sql)?;
    for Deferred { key, message, cause } in deferred {
        let reason = match cause {
            DeferredCause::Filtered => None,
            DeferredCause::Failed { reason } => Some(reason),
        };
        statement.execute((
            key.as_str(),
            reason.is_some(),
            reason,
            signed(message.uid.0, "a version of the vault")?,
            message.path.as_str(),
            message.related_path.as_ref().map(EncodedPath::as_str),
            message.hash.as_str(),
            signed(message.size, "a file's size")?,
            message.ctime,
            message.mtime,
            message.folder,
            message.deleted,
            &message.device,
            &message.user,
        ))?;
    }
    Ok(())
}

fn set_state(
    transaction: &Transaction<'_>,
    identity: &StateIdentity,
    state: &VaultState,
    now: i64,
) -> Written {
    let sql = "UPDATE vault SET vault_name = ?1, committed = ?2, version = ?3, listed = ?4, filter = ?5, rechecking = ?6 WHERE id = 1";
    let version = signed(state.version, "the vault's version")?;
    let rechecking = state.rechecking.map_or(0, |version| version.saturating_add(1));
    let rechecking = signed(rechecking, "how far the vault was looked at again")?;
    let mut statement = transaction.prepare_cached(sql)?;
    statement.execute((&identity.vault_name, now, version, state.listed, &state.filter, rechecking))?;
    Ok(())
}

fn signed(value: u64, what: &'static str) -> Written<i64> {
    i64::try_from(value).map_err(|_| WriteError::OutOfRange(what))
}
