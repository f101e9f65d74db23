//! Databases with hostile rows, read and written like by a run. They are in memory, so there are thousands a
//! second; the tests `sqlite_damage` cover damaged files.

use std::path::Path;

use obsync_core::{Commit, DeferredKind, StateError, VaultState};
use obsync_protocol::{ContentHash, VaultPath};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::error::Database;
use super::identity::{self, StateIdentity};
use super::rows::Changes;
use super::{commit, rows, schema, summary};
use obsync_protocol::fuzzing::Input;

/// The tables with their columns.
const TABLES: [(&str, usize); 4] = [("vault", 20), ("records", 12), ("intents", 8), ("deferred", 15)];

/// The same tables as obsync's without constraints: as if made with an editor.
const LOOSE: &str = "
    CREATE TABLE vault (id, vault_id, vault_name, destination, created, committed, version, listed, filter, rechecking,
                        cursor_uid, cursor_path, cursor_entry, direction, destination_id, generation, next_generation,
                        marker_tag, deletions, keeping);
    CREATE TABLE records (path, uid, hash, size, mtime, ctime, witnessed, seen_size, modified, changed, inode,
                          entity_tag);
    CREATE TABLE intents (path, uid, hash, size, mtime, ctime, kind, other);
    CREATE TABLE deferred (key, cause, reason, uid, path, related_path, hash, size, ctime, mtime, folder, deleted,
                           device, user, confirmed);
";

/// A database with rows that the input describes: read, committed to, and read again.
pub fn sqlite_rows(data: &[u8]) {
    let database = Database::new(Path::new("state.db"));
    let error = |error: rusqlite::Error| database.error(&error);
    // SQLite itself is not under test.
    let Ok(mut connection) = Connection::open_in_memory() else { return };
    let filled = fill(&connection, &mut Input(data));
    assert!(filled.is_ok(), "{filled:?}");

    let state = read_all(&connection, &database);
    let is_read = state.is_ok();
    let commit = Commit { state: state.unwrap_or_default(), ..Commit::default() };
    let Ok(identity) = identity::read(&database, &connection) else { return };
    let intents = rows::intents(&connection).unwrap_or_default();
    let committed = commit::apply(&mut connection, &identity, &Commit { intents, ..commit.clone() }, true)
        .map_err(|error| database.write_error(error));
    if committed.is_ok() && is_read {
        // Values that were read and written again are unchanged.
        assert_eq!(rows::vault_state(&connection).ok(), Some(commit.state));
        assert_eq!(identity::query(&connection).ok(), Some(identity));
    }
    // Once more, since contents may be indexed now.
    let _ = read_all(&connection, &database);
    drop(connection.close().map_err(|(_, closing)| error(closing)));
}

/// Creates the tables and inserts rows. A row that a table refuses is skipped.
fn fill(connection: &Connection, input: &mut Input<'_>) -> rusqlite::Result<()> {
    let identity = StateIdentity {
        vault_id: obsync_protocol::VaultId::try_new("vault-1").map_err(|_| rusqlite::Error::InvalidQuery)?,
        vault_name: "Notes".to_owned(),
        destination: "/notes".to_owned(),
    };
    let kind = input.byte();
    if kind & 1 == 0 {
        let transaction = connection.unchecked_transaction()?;
        schema::prepare(&transaction, &identity, 1)?;
        transaction.commit()?;
    } else {
        connection.execute_batch(LOOSE)?;
        connection.pragma_update(None, "user_version", 2)?;
    }
    if kind & 2 == 0 {
        let values = "(1, 'vault-1', 'Notes', '/notes', 1, 1, 5, 1, NULL, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, 0)";
        connection.execute_batch(&format!("INSERT OR REPLACE INTO vault VALUES {values}"))?;
    }
    for _ in 0..32 {
        let Some((table, columns)) = input.one_of(&TABLES).filter(|_| !input.is_over()) else { break };
        let values: Vec<Value> = (0..columns).map(|_| value(input)).collect();
        let places = vec!["?"; columns].join(", ");
        let sql = format!("INSERT OR REPLACE INTO {table} VALUES ({places})");
        let _ = connection.prepare_cached(&sql)?.execute(params_from_iter(values));
    }
    Ok(())
}

fn value(input: &mut Input<'_>) -> Value {
    match input.byte() % 8 {
        0 => Value::Null,
        1 => Value::Real(f64::from_bits(input.number().cast_unsigned())),
        2 => Value::Blob(input.bytes().to_vec()),
        3 => Value::Blob(vec![input.byte(); 32]),
        4 | 5 => Value::Integer(input.number()),
        _ => Value::Text(input.text()),
    }
}

/// Every query of a run; an error is formatted.
fn read_all(connection: &Connection, database: &Database) -> Result<VaultState, StateError> {
    let sound = |error: rows::ReadError| {
        let error = database.read_error(error);
        assert!(error.to_string().contains("state.db"), "{error}");
        error
    };
    let all = rows::all_records(connection).map_err(sound);
    let intents = rows::intents(connection).map_err(sound);
    let asked: Vec<VaultPath> = all.iter().flatten().map(|record| record.path.clone()).collect();
    let found = rows::records(connection, &asked).map_err(sound);
    let contents: Vec<_> =
        all.iter().flatten().filter_map(|record| record.file()).map(|file| file.hash).collect();
    let sources = rows::sources(connection, &contents).map_err(sound);
    let empty = rows::sources(connection, &[ContentHash::EMPTY]).map_err(sound);
    let deferred = |changes| rows::deferred_part(connection, changes, None).map_err(sound);
    let filtered = deferred(Changes::Of(DeferredKind::Filtered));
    let failed = deferred(Changes::Of(DeferredKind::Failed));
    let retained = deferred(Changes::Retained);
    let below = all.iter().flatten().take(1).map(|record| rows::has_below(connection, &record.path));
    let below: Result<Vec<bool>, _> = below.collect::<Result<_, _>>().map_err(sound);
    if let Ok(summary) = summary::summary(connection).map_err(sound) {
        assert!(all.is_err() || summary.files + summary.folders >= asked.len() as u64);
    }
    let state = rows::vault_state(connection).map_err(sound)?;
    let _ = (all?, intents?, found?, sources?, empty?, filtered?, failed?, retained?, below?);
    Ok(state)
}

#[cfg(test)]
#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[cfg(test)]
mod over_seeds {
    #[test]
    fn sqlite_rows() {
        super::seeds::run("sqlite_rows", 500, super::sqlite_rows);
    }
}
