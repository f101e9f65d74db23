//! A vault pulled into a bucket by the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3CopyIfNotExists};
use obsync_bucket::{BucketDestination, BucketOptions, Retries};
use obsync_core::{NoProgress, Outcome, Progress};
use obsync_testcloud::{Service, ServiceFaults};
use obsync_testkit::{Chance, GeneratorOptions, fill_vault};
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::buckets::{BUCKET, S3Bucket, location, options};

const T: i64 = 1_722_222_222_123;

fn some_files(files: usize) -> GeneratorOptions {
    GeneratorOptions { files, seed: 3, many_scripts: true, ..GeneratorOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generated_vault_comes_out_exact() {
    let bench = Bench::new().await;
    fill_vault(&bench.vault, &some_files(400)).unwrap();
    bench.vault.write("Empty.md", "", T).unwrap();
    bench.vault.write("Film.mp4", vec![5; 21 << 20], T).unwrap();
    bench.vault.create_folder("Really empty").unwrap();
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.assert_exact().await;
    let counts = bench.bucket.cloud.counts();
    assert_eq!(counts.of(Service::S3, "CompleteMultipartUpload"), 1);
    assert_eq!(counts.of(Service::S3, "GetObject"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pull_with_nothing_new_costs_a_handful_of_requests() {
    let bench = Bench::new().await;
    fill_vault(&bench.vault, &some_files(100)).unwrap();
    bench.pull().await;
    let before = bench.bucket.cloud.counts();
    assert!(bench.pull().await.is_unchanged());
    let counts = bench.bucket.cloud.counts().since(&before);
    assert_eq!(
        counts.total(Service::S3),
        4,
        "is anything there, a sample, own objects, open uploads: {counts}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_changes_cost_a_request_each() {
    let bench = Bench::new().await;
    for n in 0..1500 {
        bench.vault.write(&format!("{}/{n}.md", n % 7), format!("note {n}"), T).unwrap();
    }
    bench.pull().await;
    for n in 0..10 {
        bench.vault.write(&format!("{}/{n}.md", n % 7), format!("note {n}, changed"), T + 1).unwrap();
    }
    let before = bench.bucket.cloud.counts();
    assert_eq!(bench.pull().await.pulled.files, 10);
    let counts = bench.bucket.cloud.counts().since(&before);
    assert_eq!(
        counts.total(Service::S3),
        16,
        "and one to find out about conditions, one for the marker, one for a sample: {counts}"
    );
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_new_notes_cost_a_request_each() {
    let bench = Bench::new().await;
    for n in 0..100 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), T).unwrap();
    }
    bench.pull().await;
    for n in 0..10 {
        bench.vault.write(&format!("new {n}.md"), format!("new note {n}"), T).unwrap();
    }
    let before = bench.bucket.cloud.counts();
    assert_eq!(bench.pull().await.pulled.files, 10);
    let counts = bench.bucket.cloud.counts().since(&before);
    let of = |operation| counts.of(Service::S3, operation);
    assert_eq!(
        (of("HeadObject"), of("PutObject")),
        (1, 10 + 3),
        "a sample; two to find out about conditions, one for the marker: {counts}"
    );
    bench.assert_exact().await;
}

/// `gs://` and `az://` use the object store library, here with the loopback cloud's S3.
#[tokio::test(flavor = "multi_thread")]
async fn ten_new_notes_cost_a_request_each_by_the_library_too() {
    let bench = Bench::new().await;
    let (key, secret) = bench.bucket.cloud.credentials();
    // An error means that it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let library = AmazonS3Builder::new()
        .with_bucket_name(BUCKET)
        .with_access_key_id(key)
        .with_secret_access_key(secret)
        .with_endpoint(bench.bucket.cloud.endpoint(Service::S3))
        .with_copy_if_not_exists(S3CopyIfNotExists::Multipart)
        .with_allow_http(true);
    let library = Arc::new(library.build().unwrap());
    let pull_by_library = async || {
        let store = Arc::new(BucketDestination::over(library.clone(), &location(), options()));
        let state = bench.state().await;
        let stop = CancellationToken::new();
        obsync_core::pull(&bench.source, store, state, &bench.options, Arc::new(NoProgress), stop)
            .await
            .unwrap()
    };
    for n in 0..100 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), T).unwrap();
    }
    pull_by_library().await;
    for n in 0..10 {
        bench.vault.write(&format!("new {n}.md"), format!("new note {n}"), T).unwrap();
    }
    let before = bench.bucket.cloud.counts();
    bench.bucket.put("new 3.md", b"somebody else's");
    let report = pull_by_library().await;
    assert_eq!((report.pulled.files, report.conflicts.len()), (10, 1), "{report:#?}");
    let counts = bench.bucket.cloud.counts().since(&before);
    assert_eq!(
        counts.of(Service::S3, "PutObject"),
        10 + 2,
        "the marker, and the occupied name twice: {counts}"
    );
    assert!(counts.of(Service::S3, "HeadObject") < 10, "{counts}");
    let kept_as = report.conflicts[0].kept_as.as_str();
    assert_eq!(bench.bucket.text(kept_as).as_deref(), Some("somebody else's"));
    assert_eq!(bench.bucket.text("new 3.md").as_deref(), Some("new note 3"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_at_a_new_name_is_found_without_a_look_before_and_kept_or_taken_over() {
    for ignored in [vec![], vec!["PutObject".to_owned(), "CompleteMultipartUpload".to_owned()]] {
        let bench = Bench::new().await;
        bench.bucket.cloud.faults().update(|faults| faults.s3_manners.ignored_conditions = ignored);
        bench.vault.write("a.md", "text", T).unwrap();
        bench.pull().await;
        bench.bucket.put("foreign.md", b"somebody else's");
        bench.bucket.put("same length.md", b"theirs");
        bench.bucket.put("equal.md", b"equal");
        bench.bucket.put("film.mp4", b"somebody else's film");
        bench.vault.write("foreign.md", "the vault's", T).unwrap();
        bench.vault.write("same length.md", "vaults", T).unwrap();
        bench.vault.write("equal.md", "equal", T).unwrap();
        bench.vault.write("film.mp4", vec![1; 9 << 20], T).unwrap();
        let report = bench.pull().await;
        assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
        let kept = |path: &str| {
            let conflict = report.conflicts.iter().find(|conflict| conflict.path.as_str() == path);
            conflict.map(|conflict| bench.bucket.text(conflict.kept_as.as_str()).unwrap())
        };
        assert_eq!(kept("foreign.md").as_deref(), Some("somebody else's"));
        assert_eq!(kept("same length.md").as_deref(), Some("theirs"));
        assert_eq!(kept("film.mp4").as_deref(), Some("somebody else's film"));
        assert_eq!((kept("equal.md"), report.conflicts.len()), (None, 3), "{report:#?}");
        for (path, text) in
            [("foreign.md", "the vault's"), ("same length.md", "vaults"), ("equal.md", "equal")]
        {
            let object = bench.bucket.object(path).unwrap();
            assert_eq!(object.content, text.as_bytes());
            assert_eq!(
                object.metadata["sha256"],
                obsync_protocol::ContentHash::of(text.as_bytes()).to_string()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_vault_deleted_and_the_bucket_kept_is_replaced_by_a_new_note_of_its_name() {
    let keeping = BucketOptions { keep_deleted: true, ..options() };
    let mut bench = Bench::with(S3Bucket::with(keeping).await).await;
    bench.bucket.options.vault = Some(bench.source.vault.id.clone());
    for path in ["a.md", "b.md"] {
        bench.vault.write(path, "first", T).unwrap();
    }
    bench.pull().await;
    bench.vault.delete("a.md").unwrap();
    bench.pull().await;
    assert_eq!(bench.bucket.text("a.md").as_deref(), Some("first"));
    bench.vault.write("a.md", "second", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
    bench.assert_exact().await;
}

/// As `core::an_entry_that_lies_about_its_size_does_not_fail_other_paths_of_its_content` does in a folder.
#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_lies_about_its_size_fails_alone_until_it_is_mended() {
    let bench = Bench::new().await;
    bench.vault.write_lying_size("first liar.md", "the same", 9 << 20).unwrap();
    bench.vault.write("honest.md", "the same", T).unwrap();
    bench.vault.write_lying_size("last liar.md", "the same", 29).unwrap();
    bench.vault.write_lying_size("there.md", "there", 40).unwrap();
    bench.bucket.put("there.md", b"there");
    for _ in 0..2 {
        let report = bench.pull().await;
        let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
        assert_eq!(failed, ["first liar.md", "last liar.md", "there.md"], "{report:#?}");
        assert_eq!(bench.bucket.keys(), ["honest.md", "there.md"]);
    }
    for path in ["first liar.md", "last liar.md"] {
        bench.vault.write(path, "the same", T + 1).unwrap();
    }
    bench.vault.write("there.md", "there", T + 1).unwrap();
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_some_file_system_refuses_are_keys_and_what_is_no_name_anywhere_is_accepted_once() {
    let mut bench = Bench::new().await;
    for path in ["CON.md", "trailing. ", "folder. /note.md", "RE:FRAME (2026).md"] {
        bench.vault.write(path, path, T).unwrap();
    }
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.assert_exact().await;
    bench.vault.write_hostile_path("a\nb.md", "text").unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failed()), (Outcome::Failures, 1), "{report:#?}");
    bench.options.accept_failures = true;
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.options.accept_failures = false;
    for report in [bench.pull().await, bench.pull_full().await] {
        assert_eq!((report.outcome, report.accepted_failures), (Outcome::Complete, 1), "{report:#?}");
    }
    bench.vault.write_hostile_path("a\nc.md", "text").unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failed(), report.accepted_failures), (Outcome::Failures, 1, 1));
    assert_eq!(bench.bucket.keys().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn renames_download_nothing() {
    let bench = Bench::new().await;
    for n in 0..200 {
        bench.vault.write(&format!("Inbox/{n}.md"), format!("note {n}"), T).unwrap();
    }
    bench.vault.write("Inbox/Film.mp4", vec![5; 9 << 20], T).unwrap();
    bench.pull().await;
    bench.vault.rename("Inbox", "Archive/2026").unwrap();
    let before = bench.bucket.cloud.counts();
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.copied.files, report.requests), (0, 201, 0));
    let counts = bench.bucket.cloud.counts().since(&before);
    let of = |operation| counts.of(Service::S3, operation);
    // One for each probed condition, and one that creates the probe object. One more is the marker.
    assert_eq!((of("CopyObject"), of("GetObject"), of("PutObject"), of("DeleteObjects")), (202, 0, 2, 2));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_swap_their_contents_are_swapped_without_a_download() {
    let bench = Bench::new().await;
    for (path, text) in [("a.md", "one"), ("b.md", "two"), ("c.md", "three")] {
        bench.vault.write(path, text, T).unwrap();
    }
    bench.pull().await;
    bench.vault.rename("a.md", "x.md").unwrap();
    bench.vault.rename("b.md", "a.md").unwrap();
    bench.vault.rename("c.md", "b.md").unwrap();
    bench.vault.rename("x.md", "c.md").unwrap();
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.requests), (0, 0), "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_content_at_many_paths_is_downloaded_once() {
    let bench = Bench::new().await;
    for n in 0..50 {
        bench.vault.write(&format!("{n}.md"), "the same template", T + n).unwrap();
    }
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.copied.files, report.requests), (1, 49, 1));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_change_places() {
    let bench = Bench::new().await;
    bench.vault.write("a", "a file", T).unwrap();
    bench.vault.write("b/c.md", "in a folder", T).unwrap();
    bench.pull().await;
    bench.vault.delete("a").unwrap();
    bench.vault.write("a/d.md", "a folder now", T).unwrap();
    bench.vault.delete("b/c.md").unwrap();
    bench.vault.delete_folder("b").unwrap();
    bench.vault.write("b", "a file now", T).unwrap();
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_mends_what_somebody_else_did() {
    let mut bench = Bench::new().await;
    fill_vault(&bench.vault, &some_files(300)).unwrap();
    bench.vault.write("edited.md", "ours", T).unwrap();
    bench.vault.write("deleted.md", "ours too", T).unwrap();
    bench.pull().await;
    bench.bucket.put("edited.md", b"edited here");
    bench.bucket.delete("deleted.md");
    let verification = bench.verify().await;
    assert_eq!((verification.missing.len(), verification.changed.len()), (1, 1));

    let before = bench.bucket.cloud.counts();
    let report = bench.pull_full().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert_eq!((report.pulled.files, report.conflicts.len()), (2, 1));
    let kept = report.conflicts[0].kept_as.as_str();
    assert_eq!(bench.bucket.text(kept).as_deref(), Some("edited here"));
    bench.bucket.delete(kept);
    bench.assert_exact().await;
    let counts = bench.bucket.cloud.counts().since(&before);
    // Two files, one probe of conditions, and the marker.
    assert!(counts.of(Service::S3, "PutObject") <= 4, "{counts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_whose_state_was_lost_is_adopted() {
    let bench = Bench::new().await;
    fill_vault(&bench.vault, &some_files(300)).unwrap();
    bench.pull().await;
    bench.lose_state();
    let before = bench.bucket.cloud.counts();
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.conflicts.len()), (0, 0), "{report:#?}");
    let counts = bench.bucket.cloud.counts().since(&before);
    let of = |operation| counts.of(Service::S3, operation);
    // The marker is read, and written.
    assert_eq!((of("PutObject"), of("CopyObject"), of("GetObject")), (1, 0, 1), "{counts}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_obsync_wrote_and_the_vault_forgot_an_earlier_version_is_replaced_and_a_later_one_stays() {
    let bench = Bench::new().await;
    for path in ["earlier.md", "later.md"] {
        bench.vault.write(path, "first", T).unwrap();
    }
    bench.pull().await;
    for path in ["earlier.md", "later.md"] {
        bench.vault.write(path, "second", T).unwrap();
    }
    bench.vault.purge().unwrap();
    // As another, more advanced obsync leaves it.
    let key = crate::buckets::key("later.md");
    let mut metadata = bench.bucket.object("later.md").unwrap().metadata;
    metadata.insert("uid".to_owned(), "1000000".to_owned());
    let metadata: Vec<(&str, &str)> =
        metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    bench.bucket.cloud.s3().put(crate::buckets::BUCKET, &key, b"first".to_vec(), &metadata);
    bench.lose_state();
    for _ in 0..2 {
        let report = bench.pull().await;
        assert!(report.conflicts.is_empty(), "{report:#?}");
        let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
        assert_eq!(failed, ["later.md"], "{report:#?}");
        assert!(report.failures[0].reason.contains("a newer version of it is there already"), "{report:#?}");
        assert_eq!(bench.bucket.text("earlier.md").as_deref(), Some("second"));
        assert_eq!(bench.bucket.text("later.md").as_deref(), Some("first"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_another_tool_put_there_is_adopted_and_described() {
    let bench = Bench::new().await;
    for n in 0..100 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), T).unwrap();
        bench.bucket.put(&format!("{n}.md"), format!("note {n}").as_bytes());
    }
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.adopted.files, report.conflicts.len()), (0, 100, 0));
    assert_eq!(bench.bucket.count("PutObject"), 1, "the marker");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_files_stay_if_they_are_to() {
    let bench = Bench::with(S3Bucket::with(BucketOptions { keep_deleted: true, ..options() }).await).await;
    bench.vault.write("a.md", "a", T).unwrap();
    bench.vault.write("b.md", "b", T).unwrap();
    bench.pull().await;
    bench.vault.delete("a.md").unwrap();
    bench.vault.rename("b.md", "c.md").unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.deleted.files), (Outcome::Complete, 0));
    assert_eq!(bench.bucket.keys(), ["a.md", "b.md", "c.md"]);
    // And returning content is no conflict.
    bench.vault.write("a.md", "a again", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.conflicts.len()), (1, 0));
    assert_eq!(bench.bucket.text("a.md").as_deref(), Some("a again"));
}

/// Stops a pull when some files are in place.
struct StopAfter {
    left: AtomicU64,
    stop: CancellationToken,
}

impl Progress for StopAfter {
    fn placed(&self, _bytes: u64) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stop.cancel();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_stopped_goes_on_where_it_stopped() {
    let bench = Bench::new().await;
    for n in 0..3000 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), T).unwrap();
    }
    bench.vault.write("Film.mp4", vec![5; 40 << 20], T).unwrap();
    let stop = CancellationToken::new();
    let progress = StopAfter { left: AtomicU64::new(100), stop: stop.clone() };
    let report = bench.pull_with(Arc::new(progress), stop).await.unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    assert_eq!(bench.bucket.open_uploads(), 0, "nothing is left open");
    let placed = bench.bucket.keys().len() as u64;
    assert!(placed >= 100);
    let report = bench.pull().await;
    assert_eq!(report.pulled.files + placed, 3001, "nothing is downloaded twice that is in place");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_that_die_at_any_moment_lose_nothing_and_leave_nothing() {
    // Small portions, so that many are announced while others are published.
    let portions = BucketOptions { batch_files: 10, ..options() };
    let bench = Bench::with(S3Bucket::with(portions).await).await;
    fill_vault(&bench.vault, &some_files(600)).unwrap();
    bench.vault.write("Film.mp4", vec![5; 30 << 20], T).unwrap();
    for moment in 1..=20 {
        let pull = bench.pull_with(Arc::new(NoProgress), CancellationToken::new());
        let _ = tokio::time::timeout(Duration::from_millis(25 * moment), pull).await;
        if moment == 10 {
            bench.vault.rename("Film.mp4", "Movie.mp4").unwrap();
        }
    }
    // An upload of the film under its old name has no known owner for a day.
    bench.bucket.cloud.s3().age_uploads(crate::buckets::BUCKET, Duration::from_secs(25 * 3600));
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert!(report.conflicts.is_empty(), "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_vanishes_midway_costs_nothing_but_time() {
    let bench = Bench::new().await;
    fill_vault(&bench.vault, &some_files(200)).unwrap();
    bench.bucket.cloud.faults().update(|faults| faults.bucket_vanishes_after = Some(50));
    let error = bench.try_pull().await.unwrap_err();
    assert!(error.to_string().contains("no such bucket"), "{error}");
    bench.bucket.cloud.faults().clear();
    bench.bucket.cloud.s3().restore_bucket(crate::buckets::BUCKET);
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_fails_now_and_then_gets_everything() {
    let retries = Retries { most: 12, ..options().retries };
    let bench = Bench::with(S3Bucket::with(BucketOptions { retries, ..options() }).await).await;
    fill_vault(&bench.vault, &some_files(200)).unwrap();
    bench.vault.write("Film.mp4", vec![5; 30 << 20], T).unwrap();
    bench.bucket.cloud.faults().update(|faults| {
        faults.s3 = ServiceFaults {
            throttled: Chance::probability(0.05),
            internal_error: Chance::probability(0.05),
            dropped: Chance::probability(0.02),
            lost_answer: Chance::probability(0.05),
            ..ServiceFaults::default()
        };
    });
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.bucket.cloud.faults().clear();
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn little_memory_is_enough_for_many_and_for_large_files() {
    let little = BucketOptions { memory: 11 << 20, part_size: 5 << 20, ..options() };
    let bench = Bench::with(S3Bucket::with(little).await).await;
    for n in 0..60 {
        bench.vault.write(&format!("{n}.bin"), vec![n as u8; 2 << 20], T).unwrap();
    }
    bench.vault.write("Film.mp4", vec![5; 60 << 20], T).unwrap();
    bench.pull().await;
    bench.assert_exact().await;
}
