//! A scan of a bucket: one list, and further requests only for objects that somebody else wrote.

use std::sync::Arc;

use obsync_bucket::BucketDestination;
use obsync_conformance::{at, meta, place};
use obsync_core::{
    DestinationError, FileMeta, KnownContent, LocalTree, Record, RecordKind, Scan, ScanInput, UnknownCause,
};
use obsync_protocol::{FileType, FileTypes, Filter, VaultPath};
use obsync_testcloud::Refusal;
use tokio::io::AsyncReadExt;

use crate::buckets::S3Bucket;

async fn scan(store: &BucketDestination, records: &[Record]) -> LocalTree {
    let input = ScanInput { records: Arc::new(records.to_vec()), filter: Filter::default() };
    store.scan(input).await.unwrap().unwrap()
}

/// Places a file, and returns the record that a run would keep of it.
async fn placed(store: &BucketDestination, path: &str, content: &[u8]) -> Record {
    let placed = place(store, path, content, 1000, None).await;
    let meta: FileMeta = meta(content, 1000);
    Record::seen(at(path), RecordKind::File(meta), placed.facts)
}

fn paths(tree: &LocalTree) -> Vec<&str> {
    tree.files.iter().map(|file| file.path.as_str()).collect()
}

#[tokio::test]
async fn objects_with_the_tags_of_their_records_cost_one_list_and_nothing_else() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let mut records = Vec::new();
    for number in 0..20 {
        records.push(placed(&store, &format!("a/{number}.md"), b"text").await);
    }
    assert!(records.iter().all(|record| record.facts.is_some()));
    let before = store.requests();
    let LocalTree { digest, .. } = scan(&store, &records).await;
    assert_eq!(scan(&store, &records).await, LocalTree { found: 20, digest, ..LocalTree::default() });
    assert_eq!(store.requests() - before, 2);
}

#[tokio::test]
async fn a_digest_is_that_of_the_scan_and_another_for_any_change_of_a_key_a_size_or_a_tag() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let mut seen = Vec::new();
    let contents: [(&str, Option<&[u8]>); 5] = [
        ("a.md", Some(b"one")),
        ("b.md", Some(b"one")),
        ("b.md", Some(b"two")),
        ("b.md", Some(b"three")),
        ("a.md", None),
    ];
    for (path, content) in contents {
        match content {
            Some(content) => bucket.put(path, content),
            None => bucket.delete(path),
        }
        let before = store.requests();
        let digest = store.digest().await.unwrap();
        assert_eq!(store.requests() - before, 1);
        assert_eq!(scan(&store, &[]).await.digest, digest);
        assert!(digest.is_some() && !seen.contains(&digest), "{path}");
        seen.push(digest);
    }
    // The digest depends on the objects, not on how they got there.
    bucket.put("a.md", b"one");
    assert_eq!(store.digest().await.unwrap(), seen[3]);
    // obsync's own objects beside the files are not part of it.
    bucket.put(".obsync/probe", b"");
    assert_eq!(store.digest().await.unwrap(), seen[3]);
}

#[tokio::test]
async fn what_somebody_else_wrote_is_read_and_reported() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let records = [placed(&store, "a.md", b"one").await, placed(&store, "b.md", b"text").await];
    bucket.put("a.md", b"two");
    bucket.put("new.md", b"new");
    // The same content, written once more.
    bucket.put("b.md", b"text, but not yet");
    bucket.put("b.md", b"text");
    let tree = scan(&store, &records).await;
    assert_eq!(paths(&tree), ["a.md", "new.md"]);
    assert_eq!(tree.files[0].content, KnownContent::of(b"two"));
    assert!(tree.files[0].mtime > 0 && tree.unknown.is_empty() && tree.absent.is_empty());
}

#[tokio::test]
async fn one_object_whose_key_is_disabled_is_unknown_and_the_others_are_read() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    for path in ["a.md", "b.md"] {
        bucket.put(path, b"somebody else's");
    }
    let disabled =
        Refusal::new("GetObject", 400, "KMS.DisabledException", "the key is disabled").about("a.md");
    bucket.cloud.faults().update(|faults| faults.s3_manners.refusals = vec![disabled]);
    let tree = scan(&store, &[]).await;
    assert_eq!(paths(&tree), ["b.md"]);
    let [unknown] = &tree.unknown[..] else { panic!("{:?}", tree.unknown) };
    assert!(matches!(&unknown.why, UnknownCause::Unreadable { .. }), "{unknown:?}");
    assert!(format!("{unknown:?}").contains("a.md"), "{unknown:?}");
}

#[tokio::test]
async fn nothing_is_ever_absent_from_a_bucket() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let records = [
        placed(&store, "stays.md", b"text").await,
        Record::new(at("gone.md"), RecordKind::File(meta(b"x", 0))),
    ];
    assert!(scan(&store, &records).await.absent.is_empty());
}

#[tokio::test]
async fn a_record_without_facts_takes_those_of_the_object_that_says_it_is_the_recorded_one() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let record = placed(&store, "a.md", b"text").await;
    let tree = scan(&store, &[Record { facts: None, ..record.clone() }]).await;
    assert_eq!(tree.renewed, [(at("a.md"), record.facts.unwrap())]);
    assert_eq!(bucket.count("GetObject"), 0);
}

#[tokio::test]
async fn names_that_a_vault_cannot_have_and_twins_are_unknown_and_what_never_syncs_is_left_alone() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let records = [placed(&store, "Note.md", b"text").await];
    for path in ["note.md", "back\\slash.md", "Cafe\u{301}.md", ".hidden/x.md", "a/.b.md", "photo.png"] {
        bucket.put(path, b"text");
    }
    let filter = Filter { file_types: FileTypes::all().without(FileType::Image), ..Filter::default() };
    let input = ScanInput { records: Arc::new(records.to_vec()), filter };
    let tree = store.scan(input).await.unwrap().unwrap();
    assert!(tree.files.is_empty(), "{:?}", paths(&tree));
    let unknown: Vec<&str> = tree.unknown.iter().map(|unknown| unknown.path.as_str()).collect();
    assert_eq!(unknown, ["Cafe\u{301}.md", "back\\slash.md", "note.md"]);
    assert_eq!(tree.unknown[2].why, UnknownCause::Twin { of: at("Note.md") });
}

#[tokio::test]
async fn an_object_is_opened_to_be_sent() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let content = vec![b'x'; 3 << 20];
    let record = placed(&store, "a.bin", &content).await;
    let mut opened = store.open_file(&at("a.bin")).await.unwrap();
    assert_eq!(Some(opened.facts.clone()), record.facts);
    let mut read = Vec::new();
    opened.content.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, content);
    let missing: VaultPath = at("nothing.md");
    assert!(matches!(store.open_file(&missing).await, Err(DestinationError::Changed { .. })));
}
