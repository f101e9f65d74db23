//! Services that silently differ from Amazon: ignored conditions, and other encodings of listed keys.

use obsync_bucket::{BucketDestination, BucketLocation};
use obsync_conformance::{at, meta, place, publish_one, stage};
use obsync_core::{
    Describe, DestinationExt, Inspect, KnownContent, Outcome, Receive, Removable, Removal, Wanted,
};
use obsync_protocol::ContentHash;
use obsync_testcloud::{ListedKeys, Refusal, Service};

use crate::bench::Bench;
use crate::buckets::{BUCKET, PREFIX, S3Bucket, config, location, options};

const TIME: i64 = 1_722_222_222_123;
const ALL: [&str; 5] =
    ["PutObject", "CompleteMultipartUpload", "CopyObject", "DeleteObject", "DeleteObjects"];

fn ignoring(bucket: &S3Bucket, operations: &[&str]) {
    let operations = operations.iter().map(|operation| (*operation).to_owned()).collect();
    bucket.cloud.faults().update(|faults| faults.s3_manners.ignored_conditions = operations);
}

#[tokio::test]
async fn a_service_that_ignores_conditions_is_found_out_and_looked_at_before_each_write() {
    let bucket = S3Bucket::new().await;
    ignoring(&bucket, &ALL);
    for n in 0..20 {
        bucket.put(&format!("{n}.md"), b"somebody else's");
    }
    let store = bucket.store().await;
    for n in 0..20 {
        let aside = place(&store, &format!("{n}.md"), b"ours", TIME, None).await.conflict.unwrap();
        assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"));
    }
    assert_eq!(
        bucket.count("PutObject"),
        23,
        "two to find out about new names, one about names that are taken"
    );
    let warnings = store.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("ignores conditions on writes"), "{warnings:?}");
    assert_eq!(bucket.keys().len(), 40, "and nothing of obsync's own is left: {:?}", bucket.keys());
}

#[tokio::test]
async fn a_service_that_keeps_one_of_the_two_conditions_is_looked_at_where_it_ignores_the_other() {
    for ignored in ["PutObject If-None-Match", "PutObject If-Match"] {
        let bucket = S3Bucket::new().await;
        ignoring(&bucket, &[ignored]);
        let store = bucket.store().await;
        place(&store, "b.md", b"first", TIME, None).await;
        bucket.put("a.md", b"somebody else's");
        let aside = place(&store, "a.md", b"ours", TIME, None).await.conflict.unwrap();
        assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"), "{ignored}");
        bucket.put("b.md", b"edited");
        let aside = place(&store, "b.md", b"second", TIME, Some(b"first")).await.conflict.unwrap();
        assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("edited"), "{ignored}");
        assert_eq!(store.warnings().len(), 1, "{ignored}");
    }
    let bucket = S3Bucket::new().await;
    ignoring(&bucket, &["CopyObject If-None-Match"]);
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    bucket.put("b.md", b"somebody else's");
    let copy = store.copy(&at("a.md"), &at("b.md"), &meta(b"text", TIME)).await.unwrap().unwrap();
    let aside = publish_one(&store, copy, None).await.unwrap().conflict.unwrap();
    assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"));
    assert_eq!(bucket.keys().len(), 3, "nothing of obsync's own is left: {:?}", bucket.keys());
}

#[tokio::test]
async fn a_copy_that_passes_through_here_overwrites_nothing_where_writes_have_no_conditions() {
    let bucket = S3Bucket::new().await;
    ignoring(&bucket, &["PutObject"]);
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    bucket.put("b.md", b"somebody else's");
    let words = "The operation is not valid for the object's storage class";
    let refusal = Refusal::new("CopyObject", 403, "InvalidObjectState", words).about("/b.md");
    bucket.cloud.faults().update(|faults| faults.s3_manners.refusals = vec![refusal]);
    let copy = store.copy(&at("a.md"), &at("b.md"), &meta(b"text", TIME)).await.unwrap().unwrap();
    let aside = publish_one(&store, copy, None).await.unwrap().conflict.unwrap();
    assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"));
    assert_eq!(bucket.text("b.md").as_deref(), Some("text"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_conditions_are_said_in_the_report() {
    let bench = Bench::new().await;
    ignoring(&bench.bucket, &ALL);
    bench.vault.write("a.md", "text", TIME).unwrap();
    let report = bench.pull().await;
    assert!(report.warnings.is_empty(), "there was nothing that could be lost: {:?}", report.warnings);
    bench.vault.write("a.md", "changed", TIME).unwrap();
    let report = bench.pull().await;
    assert!(report.warnings.iter().any(|warning| warning.contains("ignores conditions")), "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_conditions_of_copies_and_removals_are_said_in_the_report_too() {
    for (ignored, kind) in [(&["CopyObject"][..], "copies"), (&["DeleteObjects", "DeleteObject"], "removals")]
    {
        let bench = Bench::new().await;
        ignoring(&bench.bucket, ignored);
        bench.vault.write("a.md", "text", TIME).unwrap();
        bench.vault.write("b.md", "another text", TIME).unwrap();
        assert!(bench.pull().await.warnings.is_empty(), "{kind}");
        bench.vault.rename("a.md", "c.md").unwrap();
        bench.vault.delete("b.md").unwrap();
        let warnings = bench.pull().await.warnings;
        let said = format!("the service ignores conditions on {kind}");
        assert!(warnings.len() == 1 && warnings[0].contains(&said), "{warnings:?}");
        bench.assert_exact().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ignored_conditions_of_completed_uploads_are_said_in_the_report_and_cost_a_few_requests() {
    for (ignored, is_said) in [
        (&[][..], [false, false]),
        (&["CompleteMultipartUpload"], [true, true]),
        (&["CompleteMultipartUpload If-None-Match"], [true, false]),
        (&["CompleteMultipartUpload If-Match"], [false, true]),
    ] {
        let bench = Bench::new().await;
        ignoring(&bench.bucket, ignored);
        bench.vault.write("a.md", "text", TIME).unwrap();
        assert!(bench.pull().await.warnings.is_empty(), "there was nothing that could be lost");
        // New films, then others in their places.
        for (round, is_said) in is_said.into_iter().enumerate() {
            for number in 0..3 {
                let film = vec![(10 * round + number) as u8; 9 << 20];
                bench.vault.write(&format!("{number}.mp4"), film, TIME + round as i64).unwrap();
            }
            let before = bench.bucket.cloud.counts();
            let warnings = bench.pull().await.warnings;
            let said = "the service ignores conditions on completing uploads";
            let told = warnings.iter().any(|warning| warning.contains(said));
            assert_eq!((told, warnings.len()), (is_said, usize::from(is_said)), "{ignored:?}: {warnings:?}");
            let counts = bench.bucket.cloud.counts().since(&before);
            assert_eq!(
                counts.of(Service::S3, "CreateMultipartUpload"),
                3 + 1,
                "{ignored:?}: one to find out"
            );
            assert_eq!(bench.bucket.open_uploads(), 0, "{ignored:?}");
            bench.assert_exact().await;
        }
        let probe = bench.bucket.object(".obsync/probe").unwrap();
        assert!(probe.content.is_empty(), "{ignored:?}");
    }
}

/// A bucket that ignores all conditions, where requests of an operation about these keys conflict with
/// others.
async fn contended(operation: &str, key: &str, times: u64) -> S3Bucket {
    let bucket = S3Bucket::new().await;
    ignoring(&bucket, &ALL);
    let busy = Refusal::new(operation, 409, "ConditionalRequestConflict", "a conflicting operation");
    let busy = busy.about(key).times(times);
    bucket.cloud.faults().update(|faults| faults.s3_manners.refusals = vec![busy]);
    bucket
}

#[tokio::test]
async fn contention_while_conditions_are_found_out_is_no_proof_that_they_are_kept() {
    let bucket = contended("PutObject", ".obsync/probe", 1000).await;
    let store = bucket.store().await;
    bucket.put("a.md", b"somebody else's");
    let aside = place(&store, "a.md", b"ours", TIME, None).await.conflict.unwrap();
    assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"));

    let bucket = contended("CopyObject", ".obsync/probe", 1000).await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    bucket.put("b.md", b"somebody else's");
    let copy = store.copy(&at("a.md"), &at("b.md"), &meta(b"text", TIME)).await.unwrap().unwrap();
    let aside = publish_one(&store, copy, None).await.unwrap().conflict.unwrap();
    assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"));

    // The number of attempts at one removal.
    let most = options().retries.most as u64 + 1;
    let bucket = contended("DeleteObjects row", "a.md", most).await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    place(&store, "b.md", b"text", TIME, None).await;
    bucket.put("b.md", b"edited");
    let files = ["a.md", "b.md"].map(|path| Removable { path: at(path), content: KnownContent::of(b"text") });
    let removals = store.remove_files(files.to_vec()).await.into_iter();
    assert_eq!(removals.map(Result::unwrap).collect::<Vec<_>>(), [Removal::Removed, Removal::Kept]);
    assert_eq!(bucket.text("b.md").as_deref(), Some("edited"));
}

#[tokio::test]
async fn each_kind_of_request_is_looked_after_by_itself() {
    for ignored in ALL {
        let bucket = S3Bucket::new().await;
        ignoring(&bucket, &[ignored]);
        let store = bucket.store().await;
        place(&store, "a.md", b"text", TIME, None).await;
        bucket.put("b.md", b"somebody else's");
        let copy = store.copy(&at("a.md"), &at("b.md"), &meta(b"text", TIME)).await.unwrap().unwrap();
        let aside = publish_one(&store, copy, None).await.unwrap().conflict.unwrap();
        assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"), "{ignored}");
        bucket.put("c.bin", b"somebody else's");
        let staged = stage(&store, "c.bin", &vec![1; 9 << 20], TIME).await;
        let aside = publish_one(&store, staged, None).await.unwrap().conflict.unwrap();
        assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"), "{ignored}");
        bucket.put("b.md", b"edited");
        let files =
            ["a.md", "b.md"].map(|path| Removable { path: at(path), content: KnownContent::of(b"text") });
        let removals: Vec<Removal> =
            store.remove_files(files.to_vec()).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(removals, [Removal::Removed, Removal::Kept], "{ignored}");
        // Single removals are for services that refuse bulk ones.
        let is_said = ignored != "DeleteObject";
        assert_eq!(store.warnings().len(), usize::from(is_said), "{ignored}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_costs_at_most_three_requests_where_the_service_keeps_conditions() {
    let bench = Bench::new().await;
    for n in 0..200 {
        bench.vault.write(&format!("Inbox/{n}.md"), format!("note {n}"), TIME).unwrap();
    }
    bench.pull().await;
    bench.vault.rename("Inbox", "Archive").unwrap();
    let before = bench.bucket.cloud.counts();
    assert_eq!(bench.pull().await.copied.files, 200);
    let counts = bench.bucket.cloud.counts().since(&before);
    assert!(counts.total(Service::S3) <= 2 * 200 + 12, "a look and a copy each, and little more: {counts}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_note_costs_one_request_where_the_service_keeps_conditions() {
    let write = |bench: &Bench, text: &str, time| {
        for n in 0..50 {
            bench.vault.write(&format!("{n}.md"), format!("{text} {n}"), time).unwrap();
        }
    };
    for (ignored, is_looked_at) in [(&[][..], false), (&["PutObject"][..], true)] {
        let bench = Bench::new().await;
        ignoring(&bench.bucket, ignored);
        write(&bench, "first", TIME);
        bench.pull().await;
        write(&bench, "second", TIME + 1000);
        // Two objects are not as recorded any more.
        bench.bucket.put("0.md", b"edited by hand");
        bench.bucket.delete("1.md");
        let before = bench.bucket.cloud.counts();
        let report = bench.pull().await;
        assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 50), "{report:#?}");
        let kept: Vec<_> = report.conflicts.iter().map(|conflict| conflict.kept_as.as_str()).collect();
        assert_eq!(kept.len(), 1, "{report:#?}");
        assert_eq!(bench.bucket.text(kept[0]).as_deref(), Some("edited by hand"));
        assert_eq!(bench.bucket.text("0.md").as_deref(), Some("second 0"));
        assert_eq!(bench.bucket.text("1.md").as_deref(), Some("second 1"));
        let counts = bench.bucket.cloud.counts().since(&before);
        let looks = counts.of(Service::S3, "HeadObject");
        assert_eq!(looks >= 50, is_looked_at, "{counts}");
        assert!(is_looked_at || looks <= 6, "{counts}");
        assert!(counts.of(Service::S3, "PutObject") <= 50 + 8, "{counts}");
    }
}

#[tokio::test]
async fn an_object_whose_size_is_not_the_one_that_obsync_wrote_is_somebody_elses() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"first", TIME, None).await;
    place(&store, "b.md", b"first", TIME, None).await;
    // Another program changes the contents and keeps the objects' metadata.
    for path in ["a.md", "b.md"] {
        let metadata = bucket.object(path).unwrap().metadata;
        let metadata: Vec<(&str, &str)> =
            metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        bucket.cloud.s3().put(BUCKET, &crate::buckets::key(path), b"edited by hand".to_vec(), &metadata);
    }
    let store = bucket.store().await;
    let aside = place(&store, "a.md", b"second", TIME, Some(b"first")).await.conflict.unwrap();
    assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("edited by hand"));
    let file = Removable { path: at("b.md"), content: KnownContent::of(b"first") };
    assert_eq!(store.remove_files(vec![file]).await.pop().unwrap().unwrap(), Removal::Kept);
    assert_eq!(bucket.text("b.md").as_deref(), Some("edited by hand"));
}

/// Changes the objects at these paths like another program that keeps their metadata, without the size, as in
/// objects of the first releases.
fn edit_behind(bucket: &S3Bucket, paths: &[&str], content: &[u8]) {
    for path in paths {
        let metadata = bucket.object(path).unwrap().metadata;
        let metadata: Vec<(&str, &str)> = metadata
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(|(name, _)| *name != "size")
            .collect();
        bucket.cloud.s3().put(BUCKET, &crate::buckets::key(path), content.to_vec(), &metadata);
    }
}

#[tokio::test]
async fn an_object_that_does_not_say_its_size_is_obsyncs_only_with_the_size_of_the_record() {
    let bucket = S3Bucket::new().await;
    let paths = ["a.md", "b.md", "c.md", "d.md"];
    let store = bucket.store().await;
    for path in paths {
        place(&store, path, b"first", TIME, None).await;
    }
    edit_behind(&bucket, &paths, b"edited by hand");
    let store = bucket.store().await;

    let (hash, size) = (ContentHash::of(b"first"), 5);
    let wanted = || vec![Wanted { path: at("a.md"), hash, size }];
    assert_eq!(store.holds(wanted()).await.unwrap(), [false], "not adopted");
    assert_eq!(store.look(wanted()).await.unwrap(), [obsync_core::Found::Unknown]);
    let meta = meta(b"first", TIME + 1);
    assert!(store.copy(&at("a.md"), &at("new.md"), &meta).await.unwrap().is_none(), "not copied");

    // At the three paths: the recorded content, none, and a lower version that another run of this vault put
    // there.
    for (path, replaces) in [("a.md", Some(&b"first"[..])), ("b.md", None), ("c.md", Some(&b"other"[..]))] {
        let aside = place(&store, path, b"second", TIME, replaces).await.conflict;
        let aside = aside.unwrap_or_else(|| panic!("{path} was overwritten"));
        assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("edited by hand"));
    }
    let file = Removable { path: at("d.md"), content: KnownContent::of(b"first") };
    assert_eq!(store.remove_files(vec![file]).await.pop().unwrap().unwrap(), Removal::Kept);
    assert_eq!(bucket.text("d.md").as_deref(), Some("edited by hand"));
}

#[tokio::test]
async fn an_object_that_does_not_say_its_size_and_was_not_changed_is_replaced() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    for path in ["a.md", "b.md"] {
        place(&store, path, b"first", TIME, None).await;
    }
    edit_behind(&bucket, &["a.md", "b.md"], b"first");
    let store = bucket.store().await;
    assert_eq!(place(&store, "a.md", b"second", TIME, Some(b"first")).await.conflict, None);
    assert_eq!(bucket.count("GetObject"), 0, "its size is enough");
    // Nothing is recorded, so it is read.
    assert_eq!(place(&store, "b.md", b"second", TIME, None).await.conflict, None);
    assert_eq!(bucket.keys(), ["a.md", "b.md"]);
}

#[tokio::test]
async fn one_content_that_is_written_again_and_again_leaves_one_copy() {
    let bucket = S3Bucket::new().await;
    for path in ["Note.md", ".obsidian/snippets/wide.css"] {
        let mut recorded: Option<Vec<u8>> = None;
        for round in 0..20 {
            bucket.put(path, b"by a formatter");
            let ours = format!("version {round}").into_bytes();
            let store = bucket.store().await;
            assert!(place(&store, path, &ours, TIME, recorded.as_deref()).await.conflict.is_some());
            recorded = Some(ours);
        }
    }
    let keys = bucket.keys();
    assert_eq!(keys.len(), 4, "{keys:?}");
    assert!(
        keys.iter().any(|key| key.starts_with(".obsidian/snippets/wide.css (Conflicted copy")),
        "{keys:?}"
    );
}

#[tokio::test]
async fn keys_are_read_in_whatever_way_the_service_lists_them() {
    let paths = ["a b.md", "a+b.md", "c%20d.md", "ü.md", "100%.md", "plain.md", "50%41.md"];
    for keys in [ListedKeys::Percent, ListedKeys::Form, ListedKeys::Half, ListedKeys::Plain] {
        // Each alone, and all together.
        let alone = paths.iter().map(|path| vec![*path]);
        for paths in alone.chain([paths.to_vec()]) {
            let bucket = S3Bucket::new().await;
            bucket.cloud.faults().update(|faults| faults.s3_manners.keys = keys);
            for path in &paths {
                bucket.put(path, path.as_bytes());
            }
            let mut listed: Vec<String> =
                bucket.store().await.list().await.unwrap().files.into_iter().map(|file| file.path).collect();
            listed.sort();
            let mut expected = paths.clone();
            expected.sort();
            assert_eq!(listed, expected, "{keys:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_reads_as_another_that_is_there_is_told_from_it_by_a_third() {
    let bucket = S3Bucket::new().await;
    bucket.cloud.faults().update(|faults| faults.s3_manners.keys = ListedKeys::PercentButPlus);
    // The second page has plus signs and no key that shows how spaces are written.
    let mut paths = vec!["a b.md".to_owned(), "a+b.md".to_owned(), "a+c.md".to_owned()];
    paths.extend((0..1000).map(|n| format!("a!{n:04}.md")));
    for path in &paths {
        bucket.cloud.s3().put(BUCKET, &format!("plain/{path}"), path.clone().into_bytes(), &[]);
    }
    let (key, secret) = bucket.cloud.credentials();
    let location = BucketLocation::parse(&format!("s3://{BUCKET}/plain")).unwrap();
    let store = BucketDestination::open_s3(&location, bucket.options.clone(), &config(key, secret)).await;
    let mut listed: Vec<String> =
        store.unwrap().list().await.unwrap().files.into_iter().map(|file| file.path).collect();
    listed.sort();
    paths.sort();
    assert_eq!(listed, paths);
}

#[tokio::test]
async fn pages_that_end_at_strange_keys_go_on_behind_them() {
    for keys in [ListedKeys::Form, ListedKeys::Half] {
        let bucket = S3Bucket::new().await;
        bucket.cloud.faults().update(|faults| faults.s3_manners.keys = keys);
        let paths: Vec<String> = (0..2100).map(|n| format!("note {n:04}+100%.md")).collect();
        for path in &paths {
            bucket.put(path, b"foreign");
        }
        let store = bucket.store().await;
        let mut listed: Vec<String> =
            store.list().await.unwrap().files.into_iter().map(|file| file.path).collect();
        listed.sort();
        assert_eq!(listed, paths, "{keys:?}");
        // Listed objects are found at their paths.
        let wanted = |path: &String| Wanted { path: at(path), hash: ContentHash::of(b"foreign"), size: 7 };
        let held = store.holds(paths.iter().take(100).map(wanted).collect()).await.unwrap();
        assert!(held.iter().all(|held| *held), "{keys:?}");
    }
}

#[tokio::test]
async fn nothing_is_removed_by_a_name_that_only_looks_like_obsyncs_own() {
    for keys in [ListedKeys::Percent, ListedKeys::Form, ListedKeys::Half, ListedKeys::Plain] {
        let bucket = S3Bucket::with(options()).await;
        bucket.cloud.faults().update(|faults| faults.s3_manners.keys = keys);
        let theirs =
            [".obsync/idea", ".obsync/a+b", ".obsync/0000000000000001+1", ".obsync/%30000000000000001-1"];
        for path in theirs {
            bucket.put(path, b"somebody else's");
        }
        bucket.put(".obsync/00000000000000aa-3", b"parked by a run that was killed");
        bucket.store().await.discard_staged().await.unwrap();
        let mut expected = theirs.to_vec();
        expected.sort();
        assert_eq!(bucket.keys(), expected, "{keys:?} below {PREFIX} of {}", location());
    }
}
