//! Writes to a state database: a whole commit in one transaction, and in no other way.

use obsync_core::{
    Commit, CursorEntry, Deferred, DeferredCause, Intent, KnownContent, LocalFacts, Record, RecordKind,
    VaultState,
};
use obsync_protocol::{ContentHash, EncodedPath};
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::identity::{self, StateIdentity};
use super::journal;
use super::rows::{ReadError, cause_number, direction_number, flags, intent_number, intents, vault_state};
use super::schema;

/// The reason why a commit was not made. No part of it is in the database then.
#[derive(Debug)]
pub(super) enum WriteError {
    /// An error of SQLite.
    Sqlite(rusqlite::Error),
    /// The present contents cannot be read.
    Read(ReadError),
    /// A number does not fit.
    OutOfRange(&'static str),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        WriteError::Sqlite(error)
    }
}

pub(super) type Written<T = ()> = Result<T, WriteError>;

/// Applies a commit; durable when it returns. A commit without changes does not touch the file. With `indexes`, the
/// records are indexed by content from then on, if a first pull is done.
pub(super) fn apply(
    connection: &mut Connection,
    identity: &StateIdentity,
    commit: &Commit,
    indexes: bool,
) -> Written {
    if is_nothing(connection, identity, commit) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let now = jiff::Timestamp::now().as_millisecond();
    schema::prepare(&transaction, identity, now)?;
    // Read in any case: a state that cannot be read is not written over.
    if vault_state(&transaction).map_err(WriteError::Read)?.listed && indexes {
        schema::index_contents(&transaction)?;
    }
    journal::write(&transaction, &commit.journal)?;
    forget(&transaction, commit)?;
    put_records(&transaction, &commit.records)?;
    settle(&transaction, commit)?;
    defer(&transaction, &commit.deferred)?;
    transaction.execute("DELETE FROM intents", [])?;
    put_intents(&transaction, &commit.intents)?;
    set_state(&transaction, identity, &commit.state, now)?;
    transaction.commit()?;
    Ok(())
}

fn is_nothing(connection: &Connection, identity: &StateIdentity, commit: &Commit) -> bool {
    let empty = commit.forgotten.is_empty()
        && commit.records.is_empty()
        && commit.resolved.is_empty()
        && commit.deferred.is_empty()
        && commit.intents.is_empty()
        && commit.journal.is_empty();
    empty
        && intents(connection).is_ok_and(|known| known.is_empty())
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

fn put_records(transaction: &Transaction<'_>, records: &[Record]) -> Written {
    let sql = "INSERT OR REPLACE INTO records (path, uid, hash, size, mtime, ctime, witnessed, seen_size, modified, changed,
                                               inode, entity_tag)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let mut statement = transaction.prepare_cached(sql)?;
    for record in records {
        let Columns { uid, hash, size, mtime, ctime } = Columns::of(record)?;
        let path = record.path.as_str();
        let facts = record.facts.as_ref();
        let seen_size = facts.map(|facts| signed(facts.size(), "a file's size")).transpose()?;
        let (modified, changed, inode, tag) = match facts {
            // An inode has 64 bits, which SQLite treats as a signed number.
            Some(LocalFacts::File { modified, changed, inode, .. }) => {
                (Some(*modified), Some(*changed), Some(inode.cast_signed()), None)
            }
            Some(LocalFacts::Object { entity_tag, .. }) => (None, None, None, Some(entity_tag)),
            None => (None, None, None, None),
        };
        statement.execute((
            path,
            uid,
            hash.map(ContentHash::as_bytes),
            size,
            mtime,
            ctime,
            record.witnessed,
            seen_size,
            modified,
            changed,
            inode,
            tag,
        ))?;
    }
    Ok(())
}

/// A record's columns; those of a file are NULL for a folder.
#[derive(Default)]
struct Columns<'a> {
    uid: i64,
    hash: Option<&'a ContentHash>,
    size: Option<i64>,
    mtime: Option<i64>,
    ctime: Option<i64>,
}

impl<'a> Columns<'a> {
    fn of(record: &'a Record) -> Written<Self> {
        let uid = signed(record.uid().0, "a version of the vault")?;
        Ok(match &record.kind {
            RecordKind::Folder(_) => Columns { uid, ..Columns::default() },
            RecordKind::File(meta) => Columns {
                uid,
                hash: Some(&meta.hash),
                size: Some(signed(meta.size, "a file's size")?),
                mtime: Some(meta.mtime),
                ctime: Some(meta.ctime),
            },
        })
    }

    fn of_content(content: Option<&'a KnownContent>) -> Written<Self> {
        let size = content.map(|content| signed(content.size, "a file's size")).transpose()?;
        Ok(Columns { hash: content.map(|content| &content.hash), size, ..Columns::default() })
    }
}

fn put_intents(transaction: &Transaction<'_>, intents: &[Intent]) -> Written {
    let sql = "INSERT INTO intents (path, uid, hash, size, mtime, ctime, kind, other)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let mut statement = transaction.prepare_cached(sql)?;
    for intent in intents {
        let (path, columns, other) = match intent {
            Intent::Place(record) => (&record.path, Columns::of(record)?, None),
            Intent::Exchange { path, staged, expected } => {
                (path, Columns::of_content(expected.as_ref())?, Some(staged.as_str()))
            }
            Intent::Remove { path, content } => (path, Columns::of_content(Some(content))?, None),
            Intent::Push { path, from, content, base, missing_since } => {
                let uid = signed(base.0, "a version of the vault")?;
                let columns =
                    Columns { uid, mtime: *missing_since, ..Columns::of_content(content.as_ref())? };
                (path, columns, from.as_ref().map(|from| from.as_str()))
            }
        };
        let Columns { uid, hash, size, mtime, ctime } = columns;
        let hash = hash.map(ContentHash::as_bytes);
        statement.execute((path.as_str(), uid, hash, size, mtime, ctime, intent_number(intent), other))?;
    }
    Ok(())
}

fn settle(transaction: &Transaction<'_>, commit: &Commit) -> Written {
    // Every recorded file resolves its deferred changes; there are hardly ever any.
    let mut any = transaction.prepare_cached("SELECT 1 FROM deferred LIMIT 1")?;
    if !any.exists([])? {
        return Ok(());
    }
    let mut statement = transaction.prepare_cached("DELETE FROM deferred WHERE key = ?1")?;
    for key in &commit.resolved {
        statement.execute([key.as_str()])?;
    }
    Ok(())
}

fn defer(transaction: &Transaction<'_>, deferred: &[Deferred]) -> Written {
    let sql = "INSERT OR REPLACE INTO deferred (key, cause, reason, uid, path, related_path, hash, size, ctime, mtime,
                                                folder, deleted, device, user, confirmed)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)";
    let mut statement = transaction.prepare_cached(sql)?;
    for Deferred { key, message, cause } in deferred {
        let confirmed = match cause {
            DeferredCause::HeldBack { confirmed } => *confirmed,
            _ => None,
        };
        statement.execute((
            key.as_str(),
            cause_number(cause),
            cause.reason(),
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
            confirmed,
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
    let sql = "UPDATE vault SET vault_name = ?1, committed = ?2, version = ?3, listed = ?4, filter = ?5, rechecking = ?6,
                                cursor_uid = ?7, cursor_path = ?8, cursor_entry = ?9, direction = ?10,
                                destination_id = ?11, generation = ?12, next_generation = ?13, deletions = ?14, marker_tag = ?15,
                                keeping = ?16
               WHERE id = 1";
    let version = signed(state.version, "the vault's version")?;
    let full_up_to = state.full_up_to.map_or(0, |version| version.saturating_add(1));
    let full_up_to = signed(full_up_to, "how far the vault was looked at again")?;
    let cursor = state.cursor.as_ref();
    let cursor_uid = cursor.map(|cursor| signed(cursor.uid.0, "a version of the vault")).transpose()?;
    let hash = |of: fn(&CursorEntry) -> &ContentHash| cursor.map(|cursor| of(cursor).as_bytes());
    let destination = state.destination.as_ref();
    let deletions = match state.deletions.is_empty() {
        true => None,
        false => {
            Some(serde_json::to_string(&state.deletions).map_err(|_| WriteError::OutOfRange("a deletion"))?)
        }
    };
    let mut statement = transaction.prepare_cached(sql)?;
    statement.execute((
        &identity.vault_name,
        now,
        version,
        state.listed,
        &state.filter,
        full_up_to,
        cursor_uid,
        hash(|cursor| &cursor.path),
        hash(|cursor| &cursor.entry),
        direction_number(state.direction),
        destination.map(|destination| destination.id.to_string()),
        destination.map(|destination| destination.generation.to_string()),
        destination.and_then(|destination| destination.next).map(|next| next.to_string()),
        deletions,
        destination.and_then(|destination| destination.tag.as_ref()),
        flags(state),
    ))?;
    Ok(())
}

pub(super) fn signed(value: u64, what: &'static str) -> Written<i64> {
    i64::try_from(value).map_err(|_| WriteError::OutOfRange(what))
}
