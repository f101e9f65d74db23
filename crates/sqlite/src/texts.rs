//! Texts that the destination and the vault agreed on, compressed, for later merges. Each recorded content is
//! read once: if its text is not stored, a row notes that.

use obsync_core::Record;
use obsync_protocol::ContentHash;
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::rows::{RECORD, Read, record, text as text_of, vault_path};

/// Limit of all texts, in compressed bytes. Those of the oldest versions are removed.
const MOST: i64 = 64 << 20;

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS texts (
        hash BLOB PRIMARY KEY,
        -- Compressed by LZ4, after its length. NULL: it cannot be merged, or had no room.
        text BLOB,
        -- The newest version that had it when it was kept.
        uid INTEGER NOT NULL
    ) STRICT;
";

/// Recorded files of at most `largest` bytes without a row for their text, newest first.
pub(super) fn wanted(connection: &Connection, largest: u64, most: usize) -> Read<Vec<Record>> {
    let condition = match is_there(connection)? {
        true => "AND NOT EXISTS (SELECT 1 FROM texts WHERE texts.hash = records.hash)",
        false => "",
    };
    let sql = format!(
        "SELECT path, {RECORD} FROM records WHERE hash IS NOT NULL AND size > 0 AND size <= ?1 {condition}
         ORDER BY uid DESC LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let (largest, most) =
        (i64::try_from(largest).unwrap_or(i64::MAX), i64::try_from(most).unwrap_or(i64::MAX));
    let mut rows = statement.query((largest, most))?;
    let mut records = Vec::new();
    while let Some(row) = rows.next()? {
        records.push(record(vault_path(text_of(row, 0)?)?, row, 1)?);
    }
    Ok(records)
}

/// Stores texts, and removes those without a record. `false` if there is no room for more.
pub(super) fn keep(
    connection: &mut Connection,
    texts: &[(ContentHash, Option<Vec<u8>>)],
) -> rusqlite::Result<bool> {
    keep_within(connection, texts, MOST)
}

fn keep_within(
    connection: &mut Connection,
    texts: &[(ContentHash, Option<Vec<u8>>)],
    most: i64,
) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(TABLE)?;
    transaction
        .execute("DELETE FROM texts WHERE hash NOT IN (SELECT hash FROM records WHERE hash NOT NULL)", [])?;
    {
        let sql = "INSERT OR REPLACE INTO texts (hash, text, uid)
                   VALUES (?1, ?2, (SELECT coalesce(max(uid), 0) FROM records WHERE hash = ?1))";
        let mut insert = transaction.prepare_cached(sql)?;
        for (hash, text) in texts {
            let compressed = text.as_ref().map(|text| lz4_flex::compress_prepend_size(text));
            insert.execute((hash.as_bytes(), compressed))?;
        }
    }
    let mut excess = total(&transaction)? - most;
    let has_room = excess <= 0;
    while excess > 0 {
        let evicted = transaction.execute(
            "UPDATE texts SET text = NULL WHERE hash IN
                 (SELECT hash FROM texts WHERE text NOT NULL ORDER BY uid LIMIT 16)",
            [],
        )?;
        excess = total(&transaction)? - most;
        if evicted == 0 {
            break;
        }
    }
    transaction.commit()?;
    Ok(has_room)
}

fn total(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT coalesce(sum(length(text)), 0) FROM texts", [], |row| row.get(0))
}

/// The text of a content. The caller compares its hash.
pub(super) fn find(connection: &Connection, hash: &ContentHash) -> Read<Option<Vec<u8>>> {
    if !is_there(connection)? {
        return Ok(None);
    }
    let sql = "SELECT text FROM texts WHERE hash = ?1 AND text NOT NULL";
    let found: Option<Vec<u8>> =
        connection.prepare_cached(sql)?.query_row([hash.as_bytes()], |row| row.get(0)).optional()?;
    // A damaged text counts as missing.
    Ok(found.and_then(|compressed| decompress(&compressed)))
}

/// Decompresses a text, unless its header has a larger size than any stored text.
fn decompress(compressed: &[u8]) -> Option<Vec<u8>> {
    const LARGEST: usize = 4 << 20;
    let (size, _) = lz4_flex::block::uncompressed_size(compressed).ok()?;
    (size <= LARGEST).then(|| lz4_flex::decompress_size_prepended(compressed).ok()).flatten()
}

fn is_there(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'texts'";
    connection.prepare_cached(sql)?.exists([])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_texts_go_where_there_is_no_room_and_are_not_asked_for_again() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE records (path TEXT, uid INTEGER, hash BLOB, size INTEGER)")
            .unwrap();
        let hash = |n: u8| ContentHash::of(&[n]);
        for n in 0..40_u8 {
            let row = (format!("{n}.md"), n, hash(n).as_bytes().to_vec(), 100);
            connection.execute("INSERT INTO records VALUES (?1, ?2, ?3, ?4)", row).unwrap();
        }
        let random =
            |n: u8| (0..100_u32).map(|i| ((i * 167 + u32::from(n) * 31) % 251) as u8).collect::<Vec<u8>>();
        let texts: Vec<_> = (0..40).map(|n| (hash(n), Some(random(n)))).collect();
        assert!(!keep_within(&mut connection, &texts, 2500).unwrap());
        assert!(total(&connection).unwrap() <= 2500);
        assert_eq!(find(&connection, &hash(39)).unwrap(), Some(random(39)));
        assert_eq!(find(&connection, &hash(0)).unwrap(), None);
        let known: i64 = connection.query_row("SELECT count(*) FROM texts", [], |row| row.get(0)).unwrap();
        assert_eq!(known, 40);
        // Texts without a record are removed for good.
        connection.execute("DELETE FROM records WHERE uid > 20", []).unwrap();
        assert!(keep_within(&mut connection, &[], 2500).unwrap());
        assert_eq!(find(&connection, &hash(39)).unwrap(), None);
    }

    #[test]
    fn a_damaged_text_is_none() {
        for damaged in [&b""[..], b"\xff\xff\xff\xff", b"\x05\0\0\0\xff\xff", b"\xff\xff\xff\x7fxxxx"] {
            assert_eq!(decompress(damaged), None, "{damaged:?}");
        }
        assert_eq!(decompress(&lz4_flex::compress_prepend_size(b"text")), Some(b"text".to_vec()));
    }
}
