//! The journal: a table to which rows are only added, and from which the oldest are removed.

use obsync_core::{JournalChange, JournalEntry, Side};
use obsync_protocol::{Uid, VaultPath};
use rusqlite::{Connection, OptionalExtension, Transaction};

use super::commit::{Written, signed};
use super::rows::{Read, ReadError};

/// Limit of lines.
pub(super) const LINES: i64 = 20_000;
/// Lifetime of a line, in milliseconds: 90 days.
const AGE: i64 = 90 * 24 * 60 * 60 * 1000;
/// So many of the newest lines stay however old they are: a clock that is far ahead makes all of them old.
const KEPT: i64 = 1_000;
/// The oldest lines are removed each time that this many were added.
const TRIMMED_EVERY: i64 = 256;

/// Created by the first commit with a line, also in databases of earlier releases, which have none.
const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS journal (
        id INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        -- 0: here; 1: in the vault.
        side INTEGER NOT NULL,
        -- 0: written; 1: merged; 2: deleted; 3: a folder made; 4: a folder deleted; 5: a conflicted copy.
        change INTEGER NOT NULL,
        path TEXT NOT NULL,
        from_path TEXT,
        device TEXT,
        -- The version that was recorded before; 0: none.
        base INTEGER NOT NULL,
        uid INTEGER NOT NULL,
        size INTEGER
    ) STRICT;
";

/// Writes lines. To be called before the records change: those have the base of each change.
pub(super) fn write(transaction: &Transaction<'_>, entries: &[JournalEntry]) -> Written {
    if entries.is_empty() {
        return Ok(());
    }
    transaction.execute_batch(TABLE)?;
    let mut base = transaction.prepare_cached("SELECT uid FROM records WHERE path = ?1")?;
    let sql = "INSERT INTO journal (at, side, change, path, from_path, device, base, uid, size)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let mut insert = transaction.prepare_cached(sql)?;
    for entry in entries {
        let before = entry.from.as_ref().unwrap_or(&entry.path);
        let known: Option<i64> = base.query_row([before.as_str()], |row| row.get(0)).optional()?;
        insert.execute((
            entry.at,
            side_number(entry.side),
            change_number(entry.change),
            entry.path.as_str(),
            entry.from.as_ref().map(VaultPath::as_str),
            &entry.device,
            known.unwrap_or(0),
            signed(entry.uid.0, "a version of the vault")?,
            entry.size.map(|size| signed(size, "a file's size")).transpose()?,
        ))?;
    }
    trim(transaction, entries.len())
}

/// Removes the oldest lines, from time to time.
fn trim(transaction: &Transaction<'_>, added: usize) -> Written {
    let last = transaction.last_insert_rowid();
    if last % TRIMMED_EVERY >= i64::try_from(added).unwrap_or(i64::MAX) {
        return Ok(());
    }
    let oldest = jiff::Timestamp::now().as_millisecond().saturating_sub(AGE);
    let sql = "DELETE FROM journal WHERE id <= ?1 OR (at < ?2 AND id <= ?3)";
    transaction.execute(sql, (last - LINES, oldest, last - KEPT))?;
    Ok(())
}

/// The newest lines, with `path` only those of files that are or were at it or below it.
pub(super) fn read(
    connection: &Connection,
    path: Option<&VaultPath>,
    limit: usize,
) -> Read<Vec<JournalEntry>> {
    let is_there = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'journal'";
    if !connection.prepare_cached(is_there)?.exists([])? {
        return Ok(Vec::new());
    }
    let sql = "SELECT at, side, change, path, from_path, device, base, uid, size FROM journal
               WHERE ?1 IS NULL OR path = ?1 OR from_path = ?1 OR substr(path, 1, length(?1) + 1) = ?1 || '/'
                   OR substr(from_path, 1, length(?1) + 1) = ?1 || '/'
               ORDER BY id DESC LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = statement.query((path.map(VaultPath::as_str), limit))?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        let number = |at: usize| -> Read<u64> {
            u64::try_from(row.get::<_, i64>(at)?)
                .map_err(|_| ReadError::Value("a number of the journal makes no sense".to_owned()))
        };
        let path_of = |text: String| {
            VaultPath::parse(&text)
                .map_err(|_| ReadError::Value("a path of the journal makes no sense".to_owned()))
        };
        let size: Option<i64> = row.get(8)?;
        entries.push(JournalEntry {
            at: row.get(0)?,
            side: if number(1)? == 0 { Side::Here } else { Side::Vault },
            change: change(number(2)?)
                .ok_or_else(|| ReadError::Value("a change of the journal makes no sense".to_owned()))?,
            path: path_of(row.get(3)?)?,
            from: row.get::<_, Option<String>>(4)?.map(path_of).transpose()?,
            device: row.get(5)?,
            base: Uid(number(6)?),
            uid: Uid(number(7)?),
            size: size.and_then(|size| u64::try_from(size).ok()),
        });
    }
    Ok(entries)
}

fn side_number(side: Side) -> i64 {
    match side {
        Side::Here => 0,
        Side::Vault => 1,
    }
}

fn change_number(change: JournalChange) -> i64 {
    match change {
        JournalChange::Write => 0,
        JournalChange::Merge => 1,
        JournalChange::Delete => 2,
        JournalChange::CreateFolder => 3,
        JournalChange::DeleteFolder => 4,
        JournalChange::ConflictedCopy => 5,
    }
}

fn change(number: u64) -> Option<JournalChange> {
    Some(match number {
        0 => JournalChange::Write,
        1 => JournalChange::Merge,
        2 => JournalChange::Delete,
        3 => JournalChange::CreateFolder,
        4 => JournalChange::DeleteFolder,
        5 => JournalChange::ConflictedCopy,
        _ => return None,
    })
}
