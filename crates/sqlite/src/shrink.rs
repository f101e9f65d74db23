//! Shrinks deferred changes in states of earlier releases: they stored unreadable entries whole, and the
//! service controls their length and number.

use obsync_core::{Deferred, DeferredCause, DeferredKey};
use obsync_protocol::limits::{DEFERRED_CHANGES, FILTERED_CHANGES, UNREADABLE_HASH, UNREADABLE_PATH};
use obsync_protocol::{PushMessage, Uid};
use rusqlite::Connection;

/// Changes in memory at a time.
const AT_A_TIME: usize = 16;
/// Minimum of freed bytes for which the database is compacted.
const WORTH_COMPACTING: i64 = 16 << 20;
/// Limit of the name of a device or user that is left unchanged, in bytes.
const NAME: usize = 1024;

/// Result of shrinking a state.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shrunk {
    /// Number of shortened changes.
    pub(super) shortened: usize,
    /// Number of removed changes, after which the next run checks everything again.
    pub(super) forgotten: usize,
}

/// Removes changes that were not applied if there are too many, and shortens those that are too long.
pub(super) fn shrink(connection: &mut Connection) -> rusqlite::Result<Shrunk> {
    let mut forgotten = 0;
    for (causes, most) in [("cause NOT IN (0, 4)", DEFERRED_CHANGES), ("cause IN (0, 4)", FILTERED_CHANGES)] {
        forgotten += forget_surplus(connection, causes, most)?;
    }
    let mut count = 0;
    loop {
        let shrunk = shrink_some(connection)?;
        count += shrunk;
        if shrunk == 0 {
            break;
        }
    }
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    if count + forgotten > 0
        && pragma("freelist_count")?.saturating_mul(pragma("page_size")?) >= WORTH_COMPACTING
    {
        connection.execute_batch("VACUUM")?;
    }
    Ok(Shrunk { shortened: count, forgotten })
}

/// Removes all changes that failed, or were filtered, if there are more than `most`: each would be in memory.
fn forget_surplus(connection: &mut Connection, causes: &str, most: usize) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let count: i64 =
        transaction
            .query_row(&format!("SELECT COUNT(*) FROM deferred WHERE {causes}"), [], |row| row.get(0))?;
    if usize::try_from(count).is_ok_and(|count| count <= most) {
        return Ok(0);
    }
    let forgotten = transaction.execute(&format!("DELETE FROM deferred WHERE {causes}"), [])?;
    // From the first version on; 0 means that the vault need not be checked again.
    transaction.execute("UPDATE vault SET rechecking = 1 WHERE id = 1", [])?;
    transaction.commit()?;
    Ok(forgotten)
}

fn shrink_some(connection: &mut Connection) -> rusqlite::Result<usize> {
    // The prefix of a key that is not a path, and the limit of a path.
    let longest_key = UNREADABLE_PATH + 2;
    let sql = "SELECT key, uid, path, substr(hash, 1, ?3) FROM deferred
               WHERE cause = 1 AND (
                   (octet_length(key) > ?1 AND substr(key, 1, 2) = '//') OR octet_length(hash) > ?3
                   OR octet_length(related_path) > ?2 OR octet_length(device) > ?2 OR octet_length(user) > ?2
               ) LIMIT ?4";
    let transaction = connection.transaction()?;
    let long: Vec<(String, Deferred)> = {
        let mut statement = transaction.prepare(sql)?;
        let rows = statement.query_map((longest_key, NAME, UNREADABLE_HASH, AT_A_TIME), |row| {
            let (key, uid, path, hash): (String, i64, String, String) =
                (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
            let message = PushMessage {
                uid: Uid(uid.unsigned_abs()),
                path: path.into(),
                hash: hash.into(),
                ..PushMessage::default()
            };
            let cause = DeferredCause::Filtered;
            Ok((key.clone(), Deferred { key: DeferredKey::from_stored(key), message, cause }.bounded()))
        })?;
        rows.collect::<rusqlite::Result<_>>()?
    };
    let update = "UPDATE OR REPLACE deferred
                  SET key = ?2, path = ?3, hash = ?4, related_path = NULL, device = '', user = '' WHERE key = ?1";
    for (key, Deferred { key: short, message, .. }) in &long {
        let values = (key, short.as_str(), message.path.as_str(), message.hash.as_str());
        transaction.execute(update, values)?;
    }
    transaction.commit()?;
    Ok(long.len())
}
