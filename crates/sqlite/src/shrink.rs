//! Shrinks deferred changes of states that earlier releases wrote: they kept an entry that cannot be read whole, and the
//! service decides how long that is, and how many there are.

use obsync_core::{Deferred, DeferredCause, DeferredKey};
use obsync_protocol::limits::{DEFERRED_CHANGES, FILTERED_CHANGES, UNREADABLE_HASH, UNREADABLE_PATH};
use obsync_protocol::{PushMessage, Uid};
use rusqlite::Connection;

/// How many changes are in memory at a time.
const AT_A_TIME: usize = 16;
/// From so many bytes on, it is worth while to write the database anew without them.
const WORTH_COMPACTING: i64 = 16 << 20;
/// The longest name of a device or user that is left as it is, in bytes.
const NAME: usize = 1024;

/// What was done to a state.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shrunk {
    /// How many changes were shortened.
    pub(super) shortened: usize,
    /// How many were forgotten, so that the next run looks at everything again.
    pub(super) forgotten: usize,
}

/// Forgets changes that were not applied if there are too many, and shortens what is too long.
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

/// Forgets all changes that failed, or were filtered out, where there are more than `most`: each would be in memory.
fn forget_surplus(connection: &mut Connection, causes: &str, most: usize) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let count: i64 =
        transaction
            .query_row(&format!("SELECT COUNT(*) FROM deferred WHERE {causes}"), [], |row| row.get(0))?;
    if usize::try_from(count).is_ok_and(|count| count <= most) {
        return Ok(0);
    }
    let forgotten = transaction.execute(&format!("DELETE FROM deferred WHERE {causes}"), [])?;
    // From the first version on; 0 stands for a vault that need not be looked at again.
    transaction.execute("UPDATE vault SET rechecking = 1 WHERE id = 1", [])?;
    transaction.commit()?;
    Ok(forgotten)
}

fn shrink_some(connection: &mut Connection) -> rusqlite::Result<usize> {
    // The prefix of a key that is not a path, and the most that is left of a path.
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
