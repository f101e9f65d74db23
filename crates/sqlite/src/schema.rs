//! The tables of a state database, and how it is opened.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use obsync_core::StateError;
use obsync_private::{Folder, Refusal};
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::error::Database;
use super::identity::StateIdentity;
use super::lock::{parts, private_folder};

/// The application id in SQLite's file header: "obsy".
const APPLICATION_ID: i64 = 0x6f62_7379;
/// The newest format that this program knows.
const FORMAT: i64 = 2;
/// Timeout for another program that reads the database (`obsync status`).
const PATIENCE: Duration = Duration::from_secs(10);
/// Memory for pages, in KiB: the indexes of some 100,000 records.
const CACHE: i64 = 16 * 1024;
/// The same, in KiB, while a whole table is read: no page of it is read twice.
const CACHE_FOR_TABLES: i64 = 1024;
/// Limit of cached prepared statements.
const STATEMENTS: usize = 32;

/// All versions and sizes are at most [`i64::MAX`]; times are milliseconds since the epoch, except those of a
/// file's facts (`modified`, `changed`), which are nanoseconds.
const TABLES: &str = "
    CREATE TABLE vault (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        vault_id TEXT NOT NULL,
        vault_name TEXT NOT NULL,
        destination TEXT NOT NULL,
        created INTEGER NOT NULL,
        committed INTEGER NOT NULL,
        version INTEGER NOT NULL,
        listed INTEGER NOT NULL,
        filter TEXT,
        -- 0, or one more than the version up to which a full pull at work looked at everything again.
        rechecking INTEGER NOT NULL DEFAULT 0,
        -- The newest entry that was listed: its version, and the SHA-256 of its path and of what it says.
        cursor_uid INTEGER,
        cursor_path BLOB,
        cursor_entry BLOB,
        -- 0: vault to destination; 1: destination to vault; 2: both ways.
        direction INTEGER NOT NULL DEFAULT 0,
        -- The identity of the destination, its generation, the one that is about to be written there, and the entity tag of
        -- what was written.
        destination_id TEXT,
        generation TEXT,
        next_generation TEXT,
        marker_tag TEXT,
        -- The deletions of the last hour, as JSON.
        deletions TEXT,
        -- 1: a pull that keeps everything was begun and has not come to its end; 2: a run began to forget the records; 3: both.
        keeping INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    -- A folder has neither hash nor size nor times. Rows are in the order in which they came, and only an index is in that
    -- of the paths: files come in another, so that each commit touches most pages of whatever is ordered so, and those of
    -- an index are few. (Databases made before that order whole rows by path.)
    CREATE TABLE records (
        path TEXT NOT NULL UNIQUE,
        uid INTEGER NOT NULL,
        hash BLOB,
        size INTEGER,
        mtime INTEGER,
        ctime INTEGER,
        -- Whether it was seen in this destination; and the facts of a file, which has an inode, or an object, which has an
        -- entity tag. NULL where nobody looked.
        witnessed INTEGER NOT NULL DEFAULT 0,
        seen_size INTEGER,
        modified INTEGER,
        changed INTEGER,
        inode INTEGER,
        entity_tag TEXT
    ) STRICT;
    -- What was about to be done when this was written. Written and emptied as a whole, so without an order.
    CREATE TABLE intents (
        path TEXT NOT NULL,
        -- Of a push the version that it is made from.
        uid INTEGER NOT NULL,
        hash BLOB,
        size INTEGER,
        -- Of a push the time when a listing did not have it.
        mtime INTEGER,
        ctime INTEGER,
        -- 0: a file is put in place; 1: changes places with a staged file; 2: is removed; 3: a change is pushed.
        kind INTEGER NOT NULL DEFAULT 0,
        -- The staged file, or the path that was renamed.
        other TEXT
    ) STRICT;
    -- A change that the filter left out has no reason. From uid on: the server's message.
    CREATE TABLE deferred (
        key TEXT PRIMARY KEY,
        -- 0: filtered; 1: failed; 2: held back; 3: acknowledged.
        cause INTEGER NOT NULL,
        reason TEXT,
        uid INTEGER NOT NULL,
        path TEXT NOT NULL,
        related_path TEXT,
        hash TEXT NOT NULL,
        size INTEGER NOT NULL,
        ctime INTEGER NOT NULL,
        mtime INTEGER NOT NULL,
        folder INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        device TEXT NOT NULL,
        user TEXT NOT NULL,
        -- When a held back deletion was confirmed.
        confirmed INTEGER
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX deferred_by_uid ON deferred (cause, uid);
";

/// Migrates a database of format 1 to format 2. No row of a table is rewritten: SQLite uses the defaults for
/// columns that a row does not have.
const FROM_1_TO_2: &str = "
    ALTER TABLE vault ADD COLUMN cursor_uid INTEGER;
    ALTER TABLE vault ADD COLUMN cursor_path BLOB;
    ALTER TABLE vault ADD COLUMN cursor_entry BLOB;
    ALTER TABLE vault ADD COLUMN direction INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE vault ADD COLUMN destination_id TEXT;
    ALTER TABLE vault ADD COLUMN generation TEXT;
    ALTER TABLE vault ADD COLUMN next_generation TEXT;
    ALTER TABLE vault ADD COLUMN marker_tag TEXT;
    ALTER TABLE vault ADD COLUMN deletions TEXT;
    ALTER TABLE vault ADD COLUMN keeping INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE records ADD COLUMN witnessed INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE records ADD COLUMN seen_size INTEGER;
    ALTER TABLE records ADD COLUMN modified INTEGER;
    ALTER TABLE records ADD COLUMN changed INTEGER;
    ALTER TABLE records ADD COLUMN inode INTEGER;
    ALTER TABLE records ADD COLUMN entity_tag TEXT;
    ALTER TABLE announced RENAME TO intents;
    ALTER TABLE intents ADD COLUMN kind INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE intents ADD COLUMN other TEXT;
    ALTER TABLE deferred RENAME COLUMN failed TO cause;
    ALTER TABLE deferred ADD COLUMN confirmed INTEGER;
";

/// Purpose of opening a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Opens a database and checks its format; `None` if there is none yet.
pub(super) fn open(database: &Database, access: Access) -> Result<Option<Connection>, StateError> {
    let Some((place, size)) = find(database)? else { return Ok(None) };
    // Left by an interrupted first commit.
    if size == 0 {
        return Ok(None);
    }
    let connection = connect(database, &place, access)?;
    let check = || -> rusqlite::Result<(i64, i64)> {
        Ok((pragma(&connection, "application_id")?, pragma(&connection, "user_version")?))
    };
    // SQLite itself reads a truncated last page as one that ends in zeros.
    let is_whole = || -> rusqlite::Result<bool> {
        let pages = pragma(&connection, "page_count")?.saturating_mul(pragma(&connection, "page_size")?);
        Ok(std::fs::metadata(database.path()).is_ok_and(|found| found.len() >= pages.unsigned_abs()))
    };
    match check().map_err(|error| database.error(&error))? {
        (APPLICATION_ID, format @ 1..=FORMAT) if is_whole().map_err(|error| database.error(&error))? => {
            if format < FORMAT && access == Access::Read {
                see_as_format_2(&connection).map_err(|error| database.error(&error))?;
            }
            Ok(Some(connection))
        }
        (APPLICATION_ID, 1..=FORMAT) => Err(database.corrupt("its end is missing")),
        (APPLICATION_ID, newer) if newer > FORMAT => Err(database.newer(newer, FORMAT)),
        (APPLICATION_ID, other) => Err(database.corrupt(format!("there never was a format {other}"))),
        // Rolled back: a first commit was interrupted by a crash that the file system survived.
        (0, 0) if std::fs::metadata(database.path()).is_ok_and(|found| found.len() == 0) => Ok(None),
        _ => Err(database.corrupt("it is a database of another program")),
    }
}

/// Migrates a database of an earlier format in one transaction.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if pragma(&transaction, "user_version")? == 1 {
        transaction.execute_batch(FROM_1_TO_2)?;
        transaction.pragma_update(None, "user_version", FORMAT)?;
    }
    transaction.commit()
}

/// Lets a reader see a database of format 1 as one of format 2, without writing to it: with views in its own
/// memory that replace the tables of the same names.
fn see_as_format_2(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "query_only", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.execute_batch(
        "CREATE TEMP VIEW vault AS
             SELECT *, NULL AS cursor_uid, NULL AS cursor_path, NULL AS cursor_entry, 0 AS direction,
                    NULL AS destination_id, NULL AS generation, NULL AS next_generation, NULL AS marker_tag, NULL AS deletions,
                    0 AS keeping
             FROM main.vault;
         CREATE TEMP VIEW records AS
             SELECT *, 0 AS witnessed, NULL AS seen_size, NULL AS modified, NULL AS changed, NULL AS inode,
                    NULL AS entity_tag
             FROM main.records;
         CREATE TEMP VIEW intents AS SELECT *, 0 AS kind, NULL AS other FROM main.announced;
         CREATE TEMP VIEW deferred AS SELECT *, failed AS cause, NULL AS confirmed FROM main.deferred;",
    )?;
    connection.pragma_update(None, "query_only", true)
}

/// Creates the file, readable only by its owner. Its tables are created by the first commit.
pub(super) fn create(database: &Database) -> Result<Connection, StateError> {
    let (folder, name) = private_folder(database)?;
    folder
        .file(&name, obsync_private::Access::Write)
        .map_err(|error| database.unavailable(format!("it cannot be made: {error}")))?;
    connect(database, &folder.path().join(name), Access::Write)
}

/// The file's path without links, and its size in bytes; `None` if there is none. No other user can write to
/// the file or its folder, in which SQLite looks for a journal.
fn find(database: &Database) -> Result<Option<(PathBuf, u64)>, StateError> {
    let refused = |error: io::Error| match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(Refusal::NotAFile { .. }) => database.corrupt("it is not a file"),
        _ => database.unavailable(error.to_string()),
    };
    let (folder, name) = parts(database)?;
    let Some(folder) = Folder::open(folder).map_err(refused)? else { return Ok(None) };
    let Some(opened) = folder.file(&name, obsync_private::Access::Read).map_err(refused)? else {
        return Ok(None);
    };
    let size = opened.file.metadata().map_err(refused)?.len();
    Ok(Some((folder.path().join(name), size)))
}

/// Creates the tables if they do not exist, with the single row that has the identity.
pub(super) fn prepare(
    transaction: &Transaction<'_>,
    identity: &StateIdentity,
    now: i64,
) -> rusqlite::Result<()> {
    if pragma(transaction, "user_version")? == FORMAT {
        return Ok(());
    }
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO vault (id, vault_id, vault_name, destination, created, committed, version, listed)
         VALUES (1, ?1, ?2, ?3, ?4, ?4, 0, 0)",
        (identity.vault_id.as_str(), &identity.vault_name, &identity.destination, now),
    )?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)
}

/// Creates the index of records by content. Its order is unrelated to that of the inserts, so it is created in
/// one pass: 0.06 s for 100,000, against 0.2 to 0.5 s. To read all records takes a sixth of that, which is quicker for
/// a run that asks for many contents; so it is made once a run asks for few.
pub(super) fn index_contents(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction
        .execute_batch("CREATE INDEX IF NOT EXISTS records_by_hash ON records (hash) WHERE hash IS NOT NULL")
}

/// True if records are indexed by content.
pub(super) fn has_contents_indexed(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = 'records_by_hash'";
    connection.prepare_cached(sql)?.exists([])
}

fn connect(database: &Database, place: &Path, access: Access) -> Result<Connection, StateError> {
    let connect = |access: Access, flags: OpenFlags| -> rusqlite::Result<Connection> {
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection = Connection::open_with_flags(place, flags)?;
        configure(&connection, access)?;
        Ok(connection)
    };
    let opened = match (access, connect(access, OpenFlags::SQLITE_OPEN_READ_WRITE)) {
        // A reader opens it for writing too: only then can it roll back the unfinished commit of a killed
        // process. If it is not permitted to, it reads without that.
        (Access::Read, Err(_)) => connect(access, OpenFlags::SQLITE_OPEN_READ_ONLY),
        (_, opened) => opened,
    };
    opened.map_err(|error| database.error(&error))
}

/// Reads a whole table. Otherwise its pages would fill the memory for pages, and stay there.
pub(super) fn reading_a_table<T, E: From<rusqlite::Error>>(
    connection: &Connection,
    read: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    connection.pragma_update(None, "cache_size", -CACHE_FOR_TABLES)?;
    let read = read();
    connection.pragma_update(None, "cache_size", -CACHE)?;
    read
}

fn configure(connection: &Connection, access: Access) -> rusqlite::Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "cache_size", -CACHE)?;
    match access {
        Access::Read => connection.pragma_update(None, "query_only", true),
        Access::Write => {
            connection.pragma_update(None, "synchronous", "EXTRA")?;
            connection.pragma_update(None, "temp_store", "MEMORY")?;
            // A journal that stays saves each commit creating it, removing it and flushing the folder twice.
            set_journal_mode(connection, "PERSIST")
        }
    }
}

/// Removes the journal. Call it before closing the database, so that no file stays beside it.
pub(super) fn remove_journal(connection: &Connection) -> rusqlite::Result<()> {
    set_journal_mode(connection, "DELETE")
}

fn set_journal_mode(connection: &Connection, mode: &str) -> rusqlite::Result<()> {
    connection.pragma_update_and_check(None, "journal_mode", mode, |_| Ok(()))
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}
