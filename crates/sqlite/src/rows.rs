//! Between the rows of a state database and what they mean. Nothing in a row is trusted to be what was once written.

use std::collections::HashMap;

use obsync_core::{
    Deferred, DeferredCause, DeferredKey, DeferredKind, FileMeta, Record, RecordKind, VaultState,
};
use obsync_protocol::limits::DEFERRED_CHANGES;
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};
use rusqlite::{Connection, OptionalExtension, Row};

use super::schema::has_contents_indexed;

/// Why something could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// SQLite says so.
    Sqlite(rusqlite::Error),
    /// A value is not what it must be.
    Value(String),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        ReadError::Sqlite(error)
    }
}

type Read<T> = Result<T, ReadError>;

/// The row of the vault as a whole.
pub(super) fn vault_state(connection: &Connection) -> Read<VaultState> {
    let mut statement =
        connection.prepare_cached("SELECT version, listed, filter, rechecking FROM vault WHERE id = 1")?;
    let row = statement.query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
    let (version, listed, filter, rechecking) =
        row.optional()?.ok_or_else(|| ReadError::Value("its vault's row is missing".to_owned()))?;
    Ok(VaultState {
        version: unsigned(version, "the vault's version")?,
        listed,
        filter,
        // 0: none; else one more than the version.
        rechecking: unsigned(rechecking, "how far the vault was looked at again")?.checked_sub(1),
    })
}

/// The records of some paths.
pub(super) fn records(connection: &Connection, paths: &[VaultPath]) -> Read<Vec<Option<Record>>> {
    let mut statement =
        connection.prepare_cached("SELECT uid, hash, size, mtime, ctime FROM records WHERE path = ?1")?;
    let find = |path: &VaultPath| -> Read<Option<Record>> {
        let mut rows = statement.query([path.as_str()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(Record { path: path.clone(), kind: record_kind(row, 0)? }))
    };
    paths.iter().map(find).collect()
}

/// All records.
pub(super) fn all_records(connection: &Connection) -> Read<Vec<Record>> {
    whole_records(connection, "SELECT path, uid, hash, size, mtime, ctime FROM records")
}

/// What was about to be put in place.
pub(super) fn announced(connection: &Connection) -> Read<Vec<Record>> {
    whole_records(connection, "SELECT path, uid, hash, size, mtime, ctime FROM announced")
}

fn whole_records(connection: &Connection, sql: &str) -> Read<Vec<Record>> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(Record { path: vault_path(text(row, 0)?)?, kind: record_kind(row, 1)? });
    }
    Ok(records)
}

/// For each content a path that has it.
pub(super) fn sources(connection: &Connection, contents: &[ContentHash]) -> Read<Vec<Option<VaultPath>>> {
    if !contents.is_empty() && !has_contents_indexed(connection)? {
        return sources_by_reading(connection, contents);
    }
    let mut statement = connection.prepare_cached("SELECT path FROM records WHERE hash = ?1 LIMIT 1")?;
    let mut find = |content: &ContentHash| -> Read<Option<VaultPath>> {
        let path: Option<String> = statement.query_row([content.as_bytes()], |row| row.get(0)).optional()?;
        path.as_deref().map(vault_path).transpose()
    };
    contents.iter().map(&mut find).collect()
}

/// The same where there is no index: by reading all records once, and keeping what is asked for.
fn sources_by_reading(connection: &Connection, contents: &[ContentHash]) -> Read<Vec<Option<VaultPath>>> {
    let mut found: HashMap<ContentHash, Option<VaultPath>> =
        contents.iter().map(|content| (*content, None)).collect();
    let mut statement = connection.prepare_cached("SELECT path, hash FROM records WHERE hash IS NOT NULL")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let hash = content_hash(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
        if let Some(source @ None) = found.get_mut(&hash) {
            *source = Some(vault_path(text(row, 0)?)?);
        }
    }
    Ok(contents.iter().map(|content| found.get(content).cloned().flatten()).collect())
}

/// The deferred changes of one kind; of those that failed not more than any run remembers.
pub(super) fn deferred(connection: &Connection, kind: DeferredKind) -> Read<Vec<Deferred>> {
    let sql =
        "SELECT key, reason, uid, path, related_path, hash, size, ctime, mtime, folder, deleted, device, user
               FROM deferred WHERE failed = ?1 ORDER BY uid, key LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let most = match kind {
        DeferredKind::Failed => i64::try_from(DEFERRED_CHANGES).unwrap_or(i64::MAX),
        // No limit.
        DeferredKind::Filtered => -1,
    };
    let mut rows = statement.query((kind == DeferredKind::Failed, most))?;
    let mut deferred = Vec::new();
    while let Some(row) = rows.next()? {
        let cause = match kind {
            DeferredKind::Filtered => DeferredCause::Filtered,
            DeferredKind::Failed => DeferredCause::Failed { reason: row.get(1)? },
        };
        let key = DeferredKey::from_stored(row.get(0)?);
        deferred.push(Deferred { key, message: message(row, 2)?, cause });
    }
    Ok(deferred)
}

/// The server's message, in the columns from `first` on.
fn message(row: &Row<'_>, first: usize) -> Read<PushMessage> {
    let related_path: Option<String> = row.get(first + 2)?;
    Ok(PushMessage {
        uid: Uid(unsigned(row.get(first)?, "a deferred change's version")?),
        path: text(row, first + 1)?.into(),
        related_path: related_path.map(Into::into),
        hash: text(row, first + 3)?.into(),
        size: unsigned(row.get(first + 4)?, "a deferred change's size")?,
        ctime: row.get(first + 5)?,
        mtime: row.get(first + 6)?,
        folder: row.get(first + 7)?,
        deleted: row.get(first + 8)?,
        device: row.get(first + 9)?,
        user: row.get(first + 10)?,
    })
}

/// Columns uid, hash, size, mtime, ctime from `first` on.
fn record_kind(row: &Row<'_>, first: usize) -> Read<RecordKind> {
    let uid = Uid(unsigned(row.get(first)?, "a record's version")?);
    let hash = row.get_ref(first + 1)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
    let Some(hash) = hash else {
        return Ok(RecordKind::Folder(uid));
    };
    Ok(RecordKind::File(FileMeta {
        hash: content_hash(hash)?,
        size: unsigned(row.get(first + 2)?, "a record's size")?,
        mtime: row.get(first + 3)?,
        ctime: row.get(first + 4)?,
        uid,
    }))
}

fn content_hash(hash: &[u8]) -> Read<ContentHash> {
    let hash = <[u8; 32]>::try_from(hash)
        .map_err(|_| ReadError::Value(format!("a record's hash has {} bytes", hash.len())))?;
    Ok(ContentHash::from_bytes(hash))
}

fn text<'a>(row: &'a Row<'_>, column: usize) -> Read<&'a str> {
    Ok(row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)
}

fn vault_path(path: &str) -> Read<VaultPath> {
    VaultPath::parse(path).map_err(|error| ReadError::Value(format!("a record's path is not one: {error}")))
}

fn unsigned(value: i64, what: &str) -> Read<u64> {
    u64::try_from(value).map_err(|_| ReadError::Value(format!("{what} is negative")))
}
