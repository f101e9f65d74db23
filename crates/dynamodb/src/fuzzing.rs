//! Arbitrary items, parsed as every kind of item.

use std::collections::HashMap;
use std::sync::LazyLock;

use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::{Client, Config};
use obsync_protocol::VaultId;

use super::attributes::Item;
use super::head::{Counts, Head};
use super::places::Remembered;
use super::progress::{ProgressRecord, StoredProgress};
use super::rows::{self, DeferredRow, IntentRow};
use super::summary::{DynamoSummary, FoundState};
use super::table::{DynamoTable, TableName};
use super::{DynamoOptions, StateKey, lease, pages, records};
use obsync_protocol::fuzzing::Input;

/// All attributes of obsync.
const NAMES: [&str; 57] = [
    "vault_id",
    "format",
    "vault_name",
    "place",
    "destination",
    "created",
    "last_sync",
    "version",
    "listed",
    "filter",
    "rechecking",
    "recorded",
    "files",
    "folders",
    "bytes",
    "failed",
    "failed_pages",
    "filtered",
    "filtered_pages",
    "announced_pages",
    "lease_owner",
    "lease_id",
    "lease_expires",
    "fencing",
    "revision",
    "resetting",
    "cursor_uid",
    "cursor_path",
    "cursor_entry",
    "direction",
    "destination_id",
    "generation",
    "next_generation",
    "marker_tag",
    "deletions",
    "checked",
    "keeping",
    "forgetting",
    "path",
    "kind",
    "hash",
    "uid",
    "size",
    "mtime",
    "ctime",
    "seen_size",
    "modified",
    "changed",
    "inode",
    "entity_tag",
    "witnessed",
    "data",
    "ttl",
    "root",
    "places",
    "other",
    "#",
];

/// A table that is never called.
static TABLE: LazyLock<DynamoTable> = LazyLock::new(|| {
    let config =
        Config::builder().behavior_version(BehaviorVersion::latest()).region(Region::from_static("eu-1"));
    DynamoTable::new(&Client::from_conf(config.build()), TableName::default(), DynamoOptions::default())
});

/// Builds an item with the attributes that the input describes, and parses it as every kind of item.
pub fn dynamodb_items(data: &[u8]) {
    let mut input = Input(data);
    let mut item = right(input.byte());
    while !input.is_over() {
        let Some(name) = input.one_of(&NAMES) else { break };
        match input.byte() {
            0 => drop(item.remove(name)),
            _ => drop(item.insert(name.to_owned(), value(&mut input, 2))),
        }
    }
    read_as_head(&item);
    read_as_rows(&item);
    if let Ok(remembered) = Remembered::read(&item) {
        let next = remembered.next(remembered.places.clone());
        let again = Remembered::read(&next.item("places#0", "s3://bucket"));
        assert!(again == Ok(next) || remembered.revision == u64::MAX - 1);
    }
    let progress = StoredProgress::of_item(Some(&item), TABLE.now());
    let _ = progress.resumption(ProgressRecord::FRESHNESS);
    if let StoredProgress::Found(record) = progress {
        let _ = record.bounded();
    }
}

/// A valid item to start from, so that few changes reach deep code.
fn right(kind: u8) -> Item {
    let texts: &[(&str, &str)] = match kind % 5 {
        0 => &[("vault_id", "vault-1"), ("vault_name", "Notes"), ("place", "s3://bucket/prefix")],
        1 => &[("vault_id", "file#vault-1#0"), ("path", "notes/day.md"), ("kind", "folder")],
        2 => &[
            ("path", "notes/day.md"),
            ("kind", "file"),
            ("hash", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ],
        3 => {
            &[("lease_owner", "somebody"), ("lease_id", "1"), ("destination", "s3://b"), ("vault_name", "N")]
        }
        _ => &[],
    };
    let numbers: &[&str] = match kind % 5 {
        0 | 3 => &["format", "created", "fencing", "version", "lease_expires"],
        1 | 2 => &["uid", "size", "mtime", "ctime"],
        _ => &[],
    };
    let texts = texts.iter().map(|(name, text)| (*name, AttributeValue::S((*text).to_owned())));
    let numbers = numbers.iter().map(|name| (*name, AttributeValue::N("1".to_owned())));
    texts.chain(numbers).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn value(input: &mut Input<'_>, depth: u8) -> AttributeValue {
    match input.byte() % 12 {
        0..4 => AttributeValue::S(input.text()),
        4..6 => AttributeValue::N(input.text()),
        6..8 => AttributeValue::N(input.number().to_string()),
        8 => AttributeValue::Bool(input.byte() % 2 == 1),
        9 if depth > 0 => {
            let entries = (0..input.byte() % 4).map(|_| (input.text(), value(input, depth - 1)));
            AttributeValue::M(entries.collect::<HashMap<_, _>>())
        }
        10 => AttributeValue::B(Blob::new(input.bytes())),
        11 => AttributeValue::Ss(vec![input.text()]),
        _ => AttributeValue::Null(true),
    }
}

fn read_as_head(item: &Item) {
    let key = |vault_id: VaultId| StateKey {
        vault_id,
        vault_name: "Notes".to_owned(),
        destination: "s3://bucket/prefix".to_owned(),
    };
    if let Ok(vault) = VaultId::try_new("vault-1") {
        let _ = lease::obstacle(&TABLE, &key(vault), item, "a lease")
            .map(|error| error.map(|error| error.to_string()));
    }
    let _ = FoundState::read(&TABLE, item).map(|found| found.is_blank());
    let Ok(head) = Head::read(item) else { return };
    let most =
        Counts { files: i64::MAX, folders: i64::MAX, bytes: i64::MAX, failed: i64::MAX, filtered: i64::MAX };
    let _ = (head.counts.plus(most), head.counts.plus(head.counts), head.obstacle());
    let mut again = item.clone();
    let changes = head.changes();
    let _ = changes.expression();
    for (placeholder, value) in changes.values().unwrap_or_default() {
        again.insert(placeholder.trim_start_matches(':').to_owned(), value);
    }
    assert_eq!(Head::read(&again).as_ref(), Ok(&head));
    let _ = DynamoSummary::of(head, TABLE.now());
}

fn read_as_rows(item: &Item) {
    if let Ok(record) = records::read(item.clone()) {
        let again = records::item("file#vault-1#0", &record).and_then(records::read);
        assert_eq!(again, Ok(record));
    }
    if let Ok(found) = rows::read::<IntentRow>(item) {
        for intent in found.into_iter().flat_map(IntentRow::intent) {
            assert_eq!(IntentRow::from(&intent).intent(), Ok(intent));
        }
    }
    if let Ok(found) = rows::read::<DeferredRow>(item) {
        for row in found.iter().cloned() {
            let short = DeferredRow::from(&row.deferred());
            assert_eq!(DeferredRow::from(&short.clone().deferred()), short);
        }
        let _ = pages::divide(found);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[cfg(test)]
mod over_seeds {
    #[test]
    fn dynamodb_items() {
        super::seeds::run("dynamodb_items", 2000, super::dynamodb_items);
    }
}
