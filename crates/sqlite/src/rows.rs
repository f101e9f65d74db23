//! Converts the rows of a state database. No row is trusted to be as it was written.

use std::collections::HashMap;

use obsync_core::{
    CursorEntry, Deferred, DeferredCause, DeferredKey, DeferredKind, DeferredPart, DestinationIdentity,
    Direction, FileMeta, Intent, KnownContent, LocalFacts, RandomId, Record, RecordKind, VaultState,
};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};
use rusqlite::{Connection, OptionalExtension, Row};

use super::schema::{has_contents_indexed, reading_a_table};

/// The reason why a row could not be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// An error of SQLite.
    Sqlite(rusqlite::Error),
    /// An invalid value.
    Value(String),
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        ReadError::Sqlite(error)
    }
}

pub(super) type Read<T> = Result<T, ReadError>;

/// Flags of the column `keeping`.
const KEEPING: i64 = 1;
const FORGETTING: i64 = 2;

/// The column `keeping` of a state.
pub(super) fn flags(state: &VaultState) -> i64 {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    flag(state.keeping, KEEPING) | flag(state.forgetting, FORGETTING)
}

/// The row of the vault as a whole.
pub(super) fn vault_state(connection: &Connection) -> Read<VaultState> {
    let mut statement = connection.prepare_cached(
        "SELECT version, listed, filter, rechecking, direction, cursor_uid, cursor_path, cursor_entry, destination_id,
                generation, next_generation, marker_tag, deletions, keeping
         FROM vault WHERE id = 1",
    )?;
    let mut rows = statement.query([])?;
    let row = rows.next()?.ok_or_else(|| ReadError::Value("its vault's row is missing".to_owned()))?;
    let deletions = match row.get_ref(12)?.as_str_or_null().map_err(rusqlite::Error::from)? {
        None => Vec::new(),
        Some(text) => serde_json::from_str(text)
            .map_err(|error| ReadError::Value(format!("its deletions cannot be read: {error}")))?,
    };
    let flags: i64 = row.get(13)?;
    Ok(VaultState {
        version: unsigned(row.get(0)?, "the vault's version")?,
        listed: row.get(1)?,
        filter: row.get(2)?,
        // 0: none; else one more than the version.
        full_up_to: unsigned(row.get(3)?, "how far the vault was looked at again")?.checked_sub(1),
        direction: direction(row.get(4)?)?,
        cursor: cursor(row, 5)?,
        destination: destination(row, 8)?,
        keeping: flags & KEEPING != 0,
        forgetting: flags & FORGETTING != 0,
        deletions,
    })
}

/// Columns cursor_uid, cursor_path, cursor_entry from `first` on.
fn cursor(row: &Row<'_>, first: usize) -> Read<Option<CursorEntry>> {
    let Some(uid) = row.get::<_, Option<i64>>(first)? else { return Ok(None) };
    let hash = |column| content_hash(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?);
    let uid = Uid(unsigned(uid, "the version of the newest entry")?);
    Ok(Some(CursorEntry { uid, path: hash(first + 1)?, entry: hash(first + 2)? }))
}

/// Columns destination_id, generation, next_generation, marker_tag from `first` on.
fn destination(row: &Row<'_>, first: usize) -> Read<Option<DestinationIdentity>> {
    let number = |column| -> Read<Option<RandomId>> {
        let text = row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?;
        let wrong = |error| ReadError::Value(format!("an id of its destination is not one: {error}"));
        text.map(|text| text.parse().map_err(wrong)).transpose()
    };
    match (number(first)?, number(first + 1)?, number(first + 2)?) {
        (None, None, None) => Ok(None),
        (Some(id), Some(generation), next) => {
            Ok(Some(DestinationIdentity { id, generation, next, tag: row.get(first + 3)? }))
        }
        _ => Err(ReadError::Value("the identity of its destination is incomplete".to_owned())),
    }
}

/// The stored form of a direction.
pub(super) fn direction_number(direction: Direction) -> i64 {
    match direction {
        Direction::Pull => 0,
        Direction::Push => 1,
        Direction::Both => 2,
    }
}

fn direction(number: i64) -> Read<Direction> {
    match number {
        0 => Ok(Direction::Pull),
        1 => Ok(Direction::Push),
        2 => Ok(Direction::Both),
        _ => Err(ReadError::Value(format!("there is no direction {number}"))),
    }
}

/// The columns of a record except its path.
pub(super) const RECORD: &str =
    "uid, hash, size, mtime, ctime, witnessed, seen_size, modified, changed, inode, entity_tag";

/// The records of some paths.
pub(super) fn records(connection: &Connection, paths: &[VaultPath]) -> Read<Vec<Option<Record>>> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {RECORD} FROM records WHERE path = ?1"))?;
    let find = |path: &VaultPath| -> Read<Option<Record>> {
        let mut rows = statement.query([path.as_str()])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(record(path.clone(), row, 0)?))
    };
    paths.iter().map(find).collect()
}

/// All records.
pub(super) fn all_records(connection: &Connection) -> Read<Vec<Record>> {
    let mut statement = connection.prepare_cached(&format!("SELECT path, {RECORD} FROM records"))?;
    reading_a_table(connection, || {
        let mut rows = statement.query([])?;
        let mut records = Vec::new();
        while let Some(row) = rows.next()? {
            records.push(record(vault_path(text(row, 0)?)?, row, 1)?);
        }
        Ok(records)
    })
}

/// Number of recorded files.
pub(super) fn files(connection: &Connection) -> Read<u64> {
    let count = "SELECT COUNT(hash) FROM records";
    reading_a_table(connection, || Ok(connection.query_row(count, [], |row| row.get(0))?))
}

/// Some records of files, drawn at random.
pub(super) fn sample(connection: &Connection, most: usize) -> Read<Vec<Record>> {
    // Tables of earlier releases have no row numbers; from those the first few are always returned.
    let drawn = format!(
        "SELECT path, {RECORD} FROM records
         WHERE hash IS NOT NULL AND rowid > (SELECT abs(random() % max(rowid)) FROM records) ORDER BY rowid LIMIT 1"
    );
    let Ok(mut statement) = connection.prepare_cached(&drawn) else {
        return some_records(connection, most);
    };
    let mut sample: Vec<Record> = Vec::new();
    for _ in 0..most {
        let mut rows = statement.query([])?;
        let Some(row) = rows.next()? else { continue };
        let drawn = record(vault_path(text(row, 0)?)?, row, 1)?;
        if sample.iter().all(|known| known.path != drawn.path) {
            sample.push(drawn);
        }
    }
    match sample.is_empty() {
        true => some_records(connection, most),
        false => Ok(sample),
    }
}

fn some_records(connection: &Connection, most: usize) -> Read<Vec<Record>> {
    let sql = format!("SELECT path, {RECORD} FROM records WHERE hash IS NOT NULL LIMIT ?1");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([most])?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(record(vault_path(text(row, 0)?)?, row, 1)?);
    }
    Ok(records)
}

/// The announced changes.
pub(super) fn intents(connection: &Connection) -> Read<Vec<Intent>> {
    let mut statement =
        connection.prepare_cached("SELECT path, uid, hash, size, mtime, ctime, kind, other FROM intents")?;
    let mut rows = statement.query([])?;
    let mut intents = Vec::new();
    while let Some(row) = rows.next()? {
        intents.push(intent(row)?);
    }
    Ok(intents)
}

fn intent(row: &Row<'_>) -> Read<Intent> {
    let path = vault_path(text(row, 0)?)?;
    let missing = |what: &str| ReadError::Value(format!("what was about to be done has no {what}"));
    let other: Option<String> = row.get(7)?;
    Ok(match row.get::<_, i64>(6)? {
        0 => Intent::Place(Record::new(path, record_kind(row, 1)?)),
        1 => Intent::Exchange {
            path,
            staged: other.ok_or_else(|| missing("staged file"))?,
            expected: known_content(row, 2)?,
        },
        2 => Intent::Remove { path, content: known_content(row, 2)?.ok_or_else(|| missing("content"))? },
        3 => Intent::Push {
            path,
            from: other.as_deref().map(vault_path).transpose()?,
            content: known_content(row, 2)?,
            base: Uid(unsigned(row.get(1)?, "the version of a push")?),
            missing_since: row.get(4)?,
        },
        kind => return Err(ReadError::Value(format!("there is nothing of the kind {kind} to be done"))),
    })
}

/// The stored form of an intent's kind.
pub(super) fn intent_number(intent: &Intent) -> i64 {
    match intent {
        Intent::Place(_) => 0,
        Intent::Exchange { .. } => 1,
        Intent::Remove { .. } => 2,
        Intent::Push { .. } => 3,
    }
}

/// Columns hash and size from `first` on.
fn known_content(row: &Row<'_>, first: usize) -> Read<Option<KnownContent>> {
    let hash = row.get_ref(first)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
    let Some(hash) = hash else { return Ok(None) };
    let size = unsigned(row.get(first + 1)?, "a content's size")?;
    Ok(Some(KnownContent { hash: content_hash(hash)?, size }))
}

/// For each content, a path that has it.
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

/// The same without an index: reads all records once and keeps the wanted ones.
fn sources_by_reading(connection: &Connection, contents: &[ContentHash]) -> Read<Vec<Option<VaultPath>>> {
    let mut found: HashMap<ContentHash, Option<VaultPath>> =
        contents.iter().map(|content| (*content, None)).collect();
    let mut statement = connection.prepare_cached("SELECT path, hash FROM records WHERE hash IS NOT NULL")?;
    reading_a_table(connection, || -> Read<()> {
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let hash = content_hash(row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?;
            if let Some(source @ None) = found.get_mut(&hash) {
                *source = Some(vault_path(text(row, 0)?)?);
            }
        }
        Ok(())
    })?;
    Ok(contents.iter().map(|content| found.get(content).cloned().flatten()).collect())
}

/// The deferred changes that a part is read of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Changes {
    Of(DeferredKind),
    Retained,
}

impl Changes {
    /// Condition of SQL. The plus keeps the index by cause out: to be sorted by key, all of it would be read
    /// for every part.
    fn condition(self) -> &'static str {
        match self {
            Changes::Of(DeferredKind::Failed) => "+cause NOT IN (0, 4)",
            Changes::Of(DeferredKind::Filtered) => "+cause IN (0, 4)",
            Changes::Retained => "+cause = 4",
        }
    }
}

/// Changes in a part.
const PART: usize = 10_000;

/// A part of the deferred changes, by key; the mark of the next part is the last key of this one.
pub(super) fn deferred_part(
    connection: &Connection,
    changes: Changes,
    from: Option<&str>,
) -> Read<DeferredPart> {
    let sql = format!(
        "SELECT key, cause, reason, confirmed, uid, path, related_path, hash, size, ctime, mtime, folder, deleted, device,
                user
         FROM deferred WHERE {} AND key > ?1 ORDER BY key LIMIT {PART}",
        changes.condition()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    // No key is empty.
    let mut rows = statement.query([from.unwrap_or_default()])?;
    let mut deferred = Vec::new();
    while let Some(row) = rows.next()? {
        let cause = match row.get::<_, i64>(1)? {
            0 => DeferredCause::Filtered,
            1 => DeferredCause::Failed { reason: row.get(2)? },
            2 => DeferredCause::HeldBack { confirmed: row.get(3)? },
            3 => DeferredCause::acknowledged(row.get(2)?),
            4 => DeferredCause::Retained,
            5 => DeferredCause::Diverged,
            6 => DeferredCause::Lasting { reason: row.get(2)? },
            cause => return Err(ReadError::Value(format!("no change is deferred for a cause {cause}"))),
        };
        let key = DeferredKey::from_stored(row.get(0)?);
        deferred.push(Deferred { key, message: message(row, 4)?, cause });
    }
    let is_full = deferred.len() == PART;
    let next = deferred.last().filter(|_| is_full).map(|last| last.key.as_str().to_owned());
    Ok(DeferredPart { changes: deferred, next })
}

/// True if something is recorded below a folder.
pub(super) fn has_below(connection: &Connection, folder: &VaultPath) -> Read<bool> {
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM records WHERE path > ?1 AND path < ?2 LIMIT 1")?;
    // The character after the slash is a zero.
    Ok(statement.exists([format!("{folder}/"), format!("{folder}0")])?)
}

/// The stored form of a deferred change's cause.
pub(super) fn cause_number(cause: &DeferredCause) -> i64 {
    match cause {
        DeferredCause::Filtered => 0,
        DeferredCause::Failed { .. } => 1,
        DeferredCause::HeldBack { .. } => 2,
        DeferredCause::Acknowledged { .. } => 3,
        DeferredCause::Retained => 4,
        DeferredCause::Diverged => 5,
        DeferredCause::Lasting { .. } => 6,
    }
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

/// The columns of [`RECORD`] from `first` on.
pub(super) fn record(path: VaultPath, row: &Row<'_>, first: usize) -> Read<Record> {
    let kind = record_kind(row, first)?;
    let witnessed = row.get(first + 5)?;
    Ok(Record { path, kind, facts: facts(row, first + 6)?, witnessed })
}

/// Columns seen_size, modified, changed, inode, entity_tag from `first` on.
fn facts(row: &Row<'_>, first: usize) -> Read<Option<LocalFacts>> {
    let Some(size) = row.get::<_, Option<i64>>(first)? else { return Ok(None) };
    let size = unsigned(size, "a file's size")?;
    Ok(Some(match row.get::<_, Option<String>>(first + 4)? {
        Some(entity_tag) => LocalFacts::Object { size, entity_tag },
        None => LocalFacts::File {
            size,
            modified: row.get(first + 1)?,
            changed: row.get(first + 2)?,
            inode: row.get::<_, i64>(first + 3)?.cast_unsigned(),
        },
    }))
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

pub(super) fn text<'a>(row: &'a Row<'_>, column: usize) -> Read<&'a str> {
    Ok(row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)
}

pub(super) fn vault_path(path: &str) -> Read<VaultPath> {
    VaultPath::parse(path).map_err(|error| ReadError::Value(format!("a record's path is not one: {error}")))
}

fn unsigned(value: i64, what: &str) -> Read<u64> {
    u64::try_from(value).map_err(|_| ReadError::Value(format!("{what} is negative")))
}
