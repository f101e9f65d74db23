//! A refusal concerns one request: the file comes another way, or fails alone, and the rest is stored.

use std::time::{Duration, Instant};

use obsync_bucket::{BucketDestination, BucketOptions};
use obsync_conformance::{at, meta, place, publish_one, stage};
use obsync_core::{
    Describe, DestinationError, DestinationExt, Expect, Inspect, KnownContent, Outcome, ProblemCode,
    Publication, PublicationContent, PullError, Receive, Removable, Removal, Staged, Wanted,
};
use obsync_protocol::ContentHash;
use obsync_testcloud::{Refusal, Service};
use obsync_testkit::Chance;

use crate::bench::Bench;
use crate::buckets::{BUCKET, S3Bucket, options};

const TIME: i64 = 1_722_222_222_123;
const PART: usize = 5 << 20;

fn refuse(bucket: &S3Bucket, refusals: Vec<Refusal>) {
    bucket.cloud.faults().update(|faults| faults.s3_manners.refusals = refusals);
}

fn archived() -> Vec<Refusal> {
    let words = "The operation is not valid for the object's storage class";
    ["CopyObject", "GetObject"]
        .map(|operation| Refusal::new(operation, 403, "InvalidObjectState", words))
        .to_vec()
}

fn unknown(operation: &str) -> Refusal {
    Refusal::new(
        operation,
        501,
        "NotImplemented",
        "A header you provided implies functionality that is not implemented",
    )
}

/// Stages a copy of `from` and publishes it.
async fn copy(
    store: &BucketDestination,
    from: &str,
    to: &str,
    content: &[u8],
) -> Result<(), DestinationError> {
    let staged = store.copy(&at(from), &at(to), &meta(content, TIME)).await?.unwrap();
    publish_one(store, staged, None).await.map(drop).map_err(|failure| failure.error)
}

fn file(path: &str, content: &[u8]) -> Removable {
    Removable { path: at(path), content: KnownContent::of(content) }
}

/// Stages a content whose transfer may fail.
async fn try_stage(
    store: &BucketDestination,
    path: &str,
    content: &[u8],
) -> Result<Staged, DestinationError> {
    let mut writer = store.begin(&at(path), &meta(content, TIME)).await?;
    writer.write(content.to_vec()).await?;
    writer.finish().await
}

fn whole(error: &DestinationError) -> String {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    format!("{error} {reason}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_note_in_an_archive_class_comes_from_the_vault_and_the_rest_is_stored() {
    let bench = Bench::new().await;
    for n in 0..5 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), TIME).unwrap();
    }
    bench.pull().await;
    refuse(&bench.bucket, archived());
    bench.vault.rename("0.md", "renamed.md").unwrap();
    bench.vault.write("new.md", "a new one", TIME).unwrap();
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert_eq!((report.pulled.files, report.failures.len()), (2, 0), "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_in_an_archive_class_of_which_only_the_times_changed_keeps_those_that_it_had() {
    let bench = Bench::new().await;
    bench.vault.write("a.md", "text", TIME).unwrap();
    bench.pull().await;
    refuse(&bench.bucket, archived());
    bench.vault.write("a.md", "text", TIME + 5000).unwrap();
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert!(report.warnings.iter().any(|warning| warning.contains("InvalidObjectState")), "{report:#?}");
}

#[tokio::test]
async fn a_name_that_is_too_long_for_the_service_is_told_in_its_words() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let words = "300 bytes are the most here";
    refuse(&bucket, vec![Refusal::new("PutObject", 400, "KeyTooLongError", words).about("a.md")]);
    let staged = stage(&store, "a.md", b"text", TIME).await;
    let error = publish_one(&store, staged, None).await.unwrap_err().error;
    assert!(matches!(error, DestinationError::NameTooLong { .. }) && !error.is_fatal(), "{error}");
    let said = "(KeyTooLongError: 300 bytes are the most here); shorten it in Obsidian";
    assert!(error.to_string().ends_with(said), "{error}");
}

#[tokio::test]
async fn where_the_service_does_not_copy_the_content_passes_through_here() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    let large = vec![3; 9 << 20];
    place(&store, "a.md", b"text", TIME, None).await;
    place(&store, "large.bin", &large, TIME, None).await;
    refuse(&bucket, vec![unknown("CopyObject")]);
    copy(&store, "a.md", "b.md", b"text").await.unwrap();
    let asked = bucket.count("CopyObject");
    copy(&store, "a.md", "c.md", b"text").await.unwrap();
    copy(&store, "large.bin", "copy.bin", &large).await.unwrap();
    assert_eq!(bucket.count("CopyObject"), asked, "it is not asked any more");
    assert_eq!(bucket.text("b.md").as_deref(), Some("text"));
    assert_eq!(bucket.object("b.md").unwrap().metadata["sha256"], ContentHash::of(b"text").to_string());
    assert_eq!(bucket.object("copy.bin").unwrap().content, large);
    // A user's object is kept with its metadata.
    let foreign = [("author", "somebody")];
    bucket.cloud.s3().put(BUCKET, &crate::buckets::key("d.md"), b"foreign".to_vec(), &foreign);
    let aside = place(&store, "d.md", b"ours", TIME, None).await.conflict.unwrap();
    assert_eq!(bucket.object(aside.as_str()).unwrap().metadata["author"], "somebody");
}

/// A key that the credentials may encrypt with (`kms:GenerateDataKey`) and not decrypt with (`kms:Decrypt`),
/// which a copy needs.
#[tokio::test(flavor = "multi_thread")]
async fn renamed_notes_whose_copies_are_refused_for_their_key_arrive_by_a_pull() {
    for (status, code, words, is_readable) in [
        (403, "AccessDenied", "not authorized to perform: kms:Decrypt on the resource", true),
        (403, "AccessDenied", "not authorized to perform: kms:Decrypt on the resource", false),
        (400, "KMS.DisabledException", "the key is disabled", false),
        (400, "KMS.KMSInvalidStateException", "the key is pending deletion", false),
    ] {
        let bench = Bench::new().await;
        for number in 0..20 {
            bench.vault.write(&format!("Inbox/{number}.md"), format!("note {number}"), TIME).unwrap();
        }
        bench.pull().await;
        bench.vault.rename("Inbox", "Archive").unwrap();
        let operations = if is_readable { &["CopyObject"][..] } else { &["CopyObject", "GetObject"] };
        let refusals = operations.iter().map(|operation| Refusal::new(operation, status, code, words));
        refuse(&bench.bucket, refusals.collect());
        let report = bench.pull().await;
        assert_eq!((report.outcome, report.failed()), (Outcome::Complete, 0), "{code}: {report:#?}");
        bench.assert_exact().await;
    }
}

#[tokio::test]
async fn conditions_that_copies_do_not_know_are_forgotten_for_copies_only() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    refuse(&bucket, vec![unknown("CopyObject").conditional()]);
    copy(&store, "a.md", "b.md", b"text").await.unwrap();
    assert_eq!(bucket.text("b.md").as_deref(), Some("text"));
    assert_eq!(bucket.count("GetObject"), 0, "the copy is the service's work");
    // Somebody else writes after the look.
    place(&store, "c.md", b"first", TIME, None).await;
    let staged = stage(&store, "c.md", b"second", TIME).await;
    bucket.put("c.md", b"somebody else's");
    let aside =
        publish_one(&store, staged, Some(KnownContent::of(b"first"))).await.unwrap().conflict.unwrap();
    assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"));
}

#[tokio::test]
async fn a_bucket_with_object_lock_gets_the_checksums_that_it_demands() {
    let bucket = S3Bucket::new().await;
    let words = "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters";
    let demand = |operation| Refusal::new(operation, 400, "InvalidRequest", words).unchecked();
    refuse(&bucket, vec![demand("PutObject"), demand("UploadPart")]);
    let store = bucket.store().await;
    let large = vec![9; 2 * PART + 1];
    place(&store, "large.bin", &large, TIME, None).await;
    let asked = store.requests();
    place(&store, "a.md", b"text", TIME, None).await;
    assert!(store.requests() - asked <= 3, "what was learned is remembered");
    assert_eq!(bucket.text("a.md").as_deref(), Some("text"));
    assert_eq!(bucket.object("large.bin").unwrap().content, large);
}

#[tokio::test]
async fn files_are_removed_one_by_one_where_the_service_does_not_remove_many() {
    let refusals =
        [(501, "NotImplemented"), (405, "MethodNotAllowed"), (400, "MalformedXML"), (400, "InvalidArgument")];
    for (status, code) in refusals {
        let bucket = S3Bucket::new().await;
        let store = bucket.store().await;
        let files: Vec<Removable> =
            (0..20).map(|n| file(&format!("{n}.md"), n.to_string().as_bytes())).collect();
        for (n, file) in files.iter().enumerate() {
            place(&store, file.path.as_str(), n.to_string().as_bytes(), TIME, None).await;
        }
        refuse(&bucket, vec![Refusal::new("DeleteObjects", status, code, "no")]);
        let (first, rest) = files.split_at(10);
        for removal in store.remove_files(first.to_vec()).await {
            assert_eq!(removal.unwrap(), Removal::Removed, "{code}");
        }
        let asked = bucket.count("DeleteObjects");
        for removal in store.remove_files(rest.to_vec()).await {
            assert_eq!(removal.unwrap(), Removal::Removed, "{code}");
        }
        assert_eq!(bucket.count("DeleteObjects"), asked, "{code}: it is remembered");
        assert!(bucket.keys().is_empty());
    }
}

#[tokio::test]
async fn a_removal_that_is_refused_for_another_reason_is_told_in_the_services_words() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    refuse(
        &bucket,
        vec![Refusal::new("DeleteObjects", 400, "UserKeyMustBeSpecified", "The bucket POST is wrong")],
    );
    let error = store.remove_files(vec![file("a.md", b"text")]).await.pop().unwrap().unwrap_err();
    assert!(whole(&error).contains("UserKeyMustBeSpecified: The bucket POST is wrong"), "{}", whole(&error));
    assert_eq!(bucket.count("DeleteObject"), 0);
    assert_eq!(bucket.keys(), ["a.md"]);
}

#[tokio::test]
async fn rows_about_single_files_in_a_successful_answer_are_those_files_failures() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    for path in ["a.md", "locked.md", "b.md"] {
        place(&store, path, b"text", TIME, None).await;
    }
    let words = "Access Denied because object protected by object lock.";
    refuse(&bucket, vec![Refusal::new("DeleteObjects row", 403, "AccessDenied", words).about("locked.md")]);
    let files = ["a.md", "locked.md", "b.md"].map(|path| file(path, b"text"));
    let answers = store.remove_files(files.to_vec()).await;
    assert_eq!(
        (answers[0].as_ref().ok(), answers[2].as_ref().ok()),
        (Some(&Removal::Removed), Some(&Removal::Removed))
    );
    let error = answers[1].as_ref().unwrap_err();
    assert!(
        !error.is_fatal() && whole(error).contains(&format!("AccessDenied: {words}")),
        "{}",
        whole(error)
    );
    assert_eq!(bucket.keys(), ["locked.md"]);
}

#[tokio::test]
async fn rows_that_pass_are_asked_for_again_and_only_those() {
    for (status, code) in [(503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable")] {
        let bucket = S3Bucket::new().await;
        let store = bucket.store().await;
        for path in ["a.md", "b.md", "c.md"] {
            place(&store, path, b"text", TIME, None).await;
        }
        refuse(
            &bucket,
            vec![Refusal::new("DeleteObjects row", status, code, "later").about("b.md").times(2)],
        );
        let files = ["a.md", "b.md", "c.md"].map(|path| file(path, b"text"));
        for removal in store.remove_files(files.to_vec()).await {
            assert_eq!(removal.unwrap(), Removal::Removed, "{code}");
        }
        assert_eq!(bucket.count("DeleteObjects"), 4, "{code}: one to find out, and b.md three times");
        assert!(bucket.keys().is_empty(), "{code}");
    }
}

#[tokio::test]
async fn rows_that_do_not_pass_after_all_end_the_run() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"text", TIME, None).await;
    refuse(&bucket, vec![Refusal::new("DeleteObjects row", 503, "SlowDown", "later")]);
    let error = store.remove_files(vec![file("a.md", b"text")]).await.pop().unwrap().unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("SlowDown: later"), "{error}");
    assert_eq!(bucket.text("a.md").as_deref(), Some("text"));
}

#[tokio::test]
async fn conditions_that_rows_do_not_know_are_forgotten_for_removals() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    for path in ["a.md", "b.md", "c.md"] {
        place(&store, path, b"text", TIME, None).await;
    }
    refuse(&bucket, vec![unknown("DeleteObjects row").conditional()]);
    let files = ["a.md", "b.md", "c.md"].map(|path| file(path, b"text"));
    for removal in store.remove_files(files.to_vec()).await {
        assert_eq!(removal.unwrap(), Removal::Removed);
    }
    assert!(bucket.keys().is_empty());
}

#[tokio::test]
async fn single_removals_are_remembered_as_the_way_only_once_one_succeeded() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    for path in ["a.md", "b.md"] {
        place(&store, path, b"text", TIME, None).await;
    }
    let denied = Refusal::new("DeleteObject", 403, "AccessDenied", "no");
    refuse(&bucket, vec![unknown("DeleteObjects"), denied]);
    assert!(store.remove_files(vec![file("a.md", b"text")]).await.pop().unwrap().is_err());
    refuse(&bucket, Vec::new());
    let asked = bucket.count("DeleteObjects");
    let removed = store.remove_files(vec![file("b.md", b"text")]).await.pop().unwrap().unwrap();
    assert_eq!(removed, Removal::Removed);
    assert!(bucket.count("DeleteObjects") > asked, "it is asked again");
}

#[tokio::test]
async fn a_file_that_changes_between_the_look_and_the_removal_is_kept() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    for n in 0..3 {
        place(&store, &format!("{n}.md"), b"text", TIME, None).await;
    }
    // The first removal probes how the service handles conditions.
    assert_eq!(
        store.remove_files(vec![file("0.md", b"text")]).await.pop().unwrap().unwrap(),
        Removal::Removed
    );
    let looks = bucket.count("HeadObject");
    assert_eq!(
        store.remove_files(vec![file("1.md", b"text")]).await.pop().unwrap().unwrap(),
        Removal::Removed
    );
    assert_eq!(bucket.count("HeadObject"), looks, "what this run wrote needs no look");
    bucket.put("2.md", b"edit");
    assert_eq!(store.remove_files(vec![file("2.md", b"text")]).await.pop().unwrap().unwrap(), Removal::Kept);
    assert_eq!(bucket.text("2.md").as_deref(), Some("edit"));
}

/// versitygw and moto lose the condition, others refuse the request or what is in it.
#[tokio::test]
async fn where_removals_of_many_lose_their_conditions_single_ones_keep_theirs() {
    let bulk = "DeleteObjects";
    for refusals in [
        vec![],
        vec![unknown(bulk)],
        vec![Refusal::new(bulk, 405, "MethodNotAllowed", "no")],
        vec![unknown("DeleteObjects row").conditional()],
    ] {
        let bucket = S3Bucket::new().await;
        let ignored = vec![bulk.to_owned()];
        bucket.cloud.faults().update(|faults| faults.s3_manners.ignored_conditions = ignored);
        let store = bucket.store().await;
        for n in 0..5 {
            place(&store, &format!("{n}.md"), b"text", TIME, None).await;
        }
        refuse(&bucket, refusals);
        // The first removals probe how the service handles conditions.
        for removal in store.remove_files(vec![file("0.md", b"text"), file("1.md", b"text")]).await {
            assert_eq!(removal.unwrap(), Removal::Removed);
        }
        let (looks, asked) = (bucket.count("HeadObject"), bucket.count(bulk));
        let removed = store.remove_files(vec![file("2.md", b"text")]).await.pop().unwrap().unwrap();
        assert_eq!(removed, Removal::Removed);
        assert_eq!(bucket.count("HeadObject"), looks, "what this run wrote needs no look");
        bucket.put("3.md", b"edit");
        let files = vec![file("3.md", b"text"), file("4.md", b"text")];
        let removals: Vec<Removal> =
            store.remove_files(files).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(removals, [Removal::Kept, Removal::Removed]);
        assert_eq!((bucket.text("3.md").as_deref(), bucket.count(bulk)), (Some("edit"), asked));
        assert!(store.warnings().is_empty(), "{:?}", store.warnings());
    }
}

/// The text of a 501 does not say which header is meant.
#[tokio::test]
async fn another_unknown_header_is_not_taken_for_the_condition() {
    for is_empty in [true, false] {
        let bucket = S3Bucket::new().await;
        let store = bucket.store().await;
        if is_empty {
            assert!(store.is_empty().await.unwrap());
        } else {
            place(&store, "first.md", b"text", TIME, None).await;
        }
        refuse(&bucket, vec![unknown("PutObject").about("/a.md")]);
        let staged = stage(&store, "a.md", b"text", TIME).await;
        let error = publish_one(&store, staged, None).await.unwrap_err().error;
        assert!(whole(&error).contains("NotImplemented"), "{}", whole(&error));
        assert!(store.warnings().is_empty(), "{:?}", store.warnings());
        // Conditions are sent as before.
        let staged = stage(&store, "b.md", b"ours", TIME).await;
        bucket.put("b.md", b"somebody else's");
        let aside = publish_one(&store, staged, None).await.unwrap().conflict.unwrap();
        assert_eq!(bucket.text(aside.as_str()).as_deref(), Some("somebody else's"));
    }
}

#[tokio::test]
async fn an_upload_that_meets_another_object_is_not_completed_over_it_because_conditions_were_forgotten() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    // Avoids probing of conditions.
    assert!(store.is_empty().await.unwrap());
    let mut batch = Vec::new();
    for path in ["a.bin", "b.bin"] {
        let staged = stage(&store, path, &vec![path.as_bytes()[0]; 9 << 20], TIME).await;
        batch.push(Publication { content: PublicationContent::Staged(staged), expect: Expect::Absent });
    }
    let complete = "CompleteMultipartUpload";
    refuse(
        &bucket,
        vec![
            unknown(complete).conditional().about("/a.bin"),
            Refusal::new(complete, 412, "PreconditionFailed", "no").about("/b.bin").times(1),
        ],
    );
    // One answer after the other: the second upload is refused when the first has shown that conditions are
    // not known, and has sent its own already.
    bucket.cloud.faults().update(|faults| faults.s3.pace = Duration::from_millis(100));
    assert!(store.publish(batch).await.into_iter().all(|answer| answer.is_ok()));
    assert_eq!(bucket.count("HeadObject"), 4, "a look for each, and two for the second after its refusal");
}

#[tokio::test]
async fn contention_is_asked_again() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"first", TIME, None).await;
    let conflict =
        "The conditional request cannot succeed due to a conflicting operation against this resource.";
    refuse(&bucket, vec![Refusal::new("PutObject", 409, "ConditionalRequestConflict", conflict).times(5)]);
    place(&store, "a.md", b"second", TIME, Some(b"first")).await;
    assert_eq!(bucket.text("a.md").as_deref(), Some("second"));
    assert_eq!(bucket.keys(), ["a.md"]);
}

#[tokio::test]
async fn a_conflict_that_lasts_is_told_at_once_in_the_services_words_and_ten_of_them_end_the_run() {
    let bucket = S3Bucket::with(BucketOptions { concurrency: 1, ..options() }).await;
    let store = bucket.store().await;
    place(&store, "first.md", b"text", TIME, None).await;
    let words = "Object parent already exists as a file";
    refuse(&bucket, vec![Refusal::new("PutObject", 409, "ObjectParentIsFile", words).about(".md")]);
    let before = bucket.count("PutObject");
    let errors = publish_many(&store, 30).await;
    assert!(whole(&errors[0]).contains(&format!("ObjectParentIsFile: {words}")), "{}", whole(&errors[0]));
    assert_eq!(errors.iter().filter(|error| !error.is_fatal()).count(), 9);
    assert!(errors.last().unwrap().to_string().contains("10 times in a row"), "{}", errors.last().unwrap());
    assert_eq!(bucket.count("PutObject") - before, 10, "each is asked once");
}

#[tokio::test]
async fn contention_that_does_not_pass_is_told_in_the_services_words() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"first", TIME, None).await;
    let busy = |operation| Refusal::new(operation, 409, "OperationAborted", "A conflicting operation");
    refuse(&bucket, vec![busy("PutObject"), busy("DeleteObjects row")]);
    let before = bucket.count("PutObject");
    let staged = stage(&store, "a.md", b"second", TIME).await;
    let failure = publish_one(&store, staged, Some(KnownContent::of(b"first"))).await.unwrap_err();
    let told = whole(&failure.error);
    assert!(told.contains("OperationAborted: A conflicting operation"), "{told}");
    let most = bucket.options.retries.most as u64 + 1;
    assert!(
        bucket.count("PutObject") - before <= 2 * most,
        "the probe and the note, each as often as may be"
    );
    let error = store.remove_files(vec![file("a.md", b"first")]).await.pop().unwrap().unwrap_err();
    assert!(whole(&error).contains("OperationAborted"), "{}", whole(&error));
    assert_eq!(bucket.text("a.md").as_deref(), Some("first"));
}

#[tokio::test]
async fn conditions_that_never_hold_are_told_in_the_services_words() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "a.md", b"first", TIME, None).await;
    let words = "At least one of the pre-conditions you specified did not hold";
    let never = |operation: &str| Refusal::new(operation, 412, "PreconditionFailed", words).about("a.md");
    refuse(&bucket, vec![never("PutObject"), never("DeleteObjects row")]);
    let staged = stage(&store, "a.md", b"second", TIME).await;
    let failure = publish_one(&store, staged, Some(KnownContent::of(b"first"))).await.unwrap_err();
    let error = store.remove_files(vec![file("a.md", b"first")]).await.pop().unwrap().unwrap_err();
    for told in [whole(&failure.error), whole(&error)] {
        let expected = format!("another program keeps changing it (PreconditionFailed: {words})");
        assert!(told.contains(&expected), "{told}");
    }
}

#[tokio::test]
async fn a_bucket_that_takes_nothing_more_is_told_in_its_words() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    refuse(
        &bucket,
        vec![Refusal::new("PutObject", 403, "QuotaExceeded", "20 GB are the most").about("a.md")],
    );
    let staged = stage(&store, "a.md", b"text", TIME).await;
    let error = publish_one(&store, staged, None).await.unwrap_err().error;
    assert!(error.is_fatal() && error.to_string().contains("QuotaExceeded: 20 GB are the most"), "{error}");
    assert_eq!(obsync_core::ProblemCode::from(&error), obsync_core::ProblemCode::DestinationFull);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_cannot_be_completed_for_contention_goes_up_anew() {
    let bench = Bench::new().await;
    bench.vault.write("Film.mp4", vec![5; 9 << 20], TIME).unwrap();
    let conflict =
        Refusal::new("CompleteMultipartUpload", 409, "ConditionalRequestConflict", "conflict").times(1);
    refuse(&bench.bucket, vec![conflict]);
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert_eq!(bench.bucket.count("CreateMultipartUpload"), 2);
    assert_eq!(bench.bucket.open_uploads(), 0);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_can_never_be_completed_fails_alone_and_is_not_downloaded_for_ever() {
    let bench = Bench::new().await;
    bench.vault.write("Film.mp4", vec![5; 9 << 20], TIME).unwrap();
    bench.vault.write("a.md", "text", TIME).unwrap();
    refuse(&bench.bucket, vec![Refusal::new("CompleteMultipartUpload", 409, "OperationAborted", "busy")]);
    let report = bench.pull().await;
    assert_eq!(report.failures.len(), 1, "{report:#?}");
    assert!(report.failures[0].reason.contains("OperationAborted: busy"), "{report:#?}");
    assert_eq!(bench.bucket.count("CreateMultipartUpload"), 2);
    assert_eq!(bench.bucket.open_uploads(), 0);
    assert_eq!(bench.bucket.text("a.md").as_deref(), Some("text"));
}

#[tokio::test]
async fn what_vanished_before_it_was_replaced_is_written_anew() {
    for content in [b"second".to_vec(), vec![1; 9 << 20]] {
        let bucket = S3Bucket::new().await;
        let store = bucket.store().await;
        place(&store, "a.md", b"first", TIME, None).await;
        let staged = stage(&store, "a.md", &content, TIME).await;
        bucket.delete("a.md");
        let published = publish_one(&store, staged, Some(KnownContent::of(b"first"))).await.unwrap();
        assert_eq!(published.conflict, None);
        assert_eq!(bucket.object("a.md").unwrap().content, content);
    }
}

#[tokio::test]
async fn an_upload_takes_no_place_that_somebody_took_in_the_last_moment() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    // Avoids probing of conditions.
    assert!(store.is_empty().await.unwrap());
    let content = vec![1; 9 << 20];
    let staged = stage(&store, "a.bin", &content, TIME).await;
    // The look before it is answered, and then somebody writes: the first completion meets that object.
    refuse(&bucket, vec![Refusal::new("CompleteMultipartUpload", 412, "PreconditionFailed", "no").times(1)]);
    publish_one(&store, staged, None).await.unwrap();
    assert_eq!(
        (bucket.count("CompleteMultipartUpload"), bucket.open_uploads()),
        (2, 0),
        "the parts are used again"
    );
    assert_eq!(bucket.object("a.bin").unwrap().content, content);
}

#[tokio::test]
async fn a_service_that_lists_no_uploads_is_a_note_and_no_failure() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    refuse(&bucket, vec![unknown("ListMultipartUploads")]);
    place(&store, "a.md", b"text", TIME, None).await;
    store.discard_staged().await.unwrap();
    let notes = store.warnings();
    assert!(notes.len() == 1 && notes[0].contains("lists no unfinished uploads"), "{notes:?}");
}

#[tokio::test]
async fn a_service_that_takes_buckets_only_by_host_is_told_in_its_words_and_served_by_an_endpoint_that_names_one()
 {
    let bucket = S3Bucket::new().await;
    bucket.cloud.faults().update(|faults| faults.s3_manners.hosts_only = true);
    let store = bucket.store().await;
    let error = store.is_empty().await.unwrap_err().to_string();
    for words in [
        "SecondLevelDomainForbidden: Please use virtual hosted style",
        "AWS_S3_ADDRESSING_STYLE=virtual",
        "127.0.0.1",
    ] {
        assert!(error.contains(words), "{error}");
    }
    let endpoint = bucket.cloud.endpoint(Service::S3).replace("127.0.0.1", &format!("{BUCKET}.localhost"));
    let store = bucket.store_with(BucketOptions { endpoint: Some(endpoint), ..bucket.options.clone() }).await;
    assert!(store.is_empty().await.unwrap());
    place(&store, "a b+c/ü.md", b"text", TIME, None).await;
    copy(&store, "a b+c/ü.md", "b.md", b"text").await.unwrap();
    assert_eq!(store.list().await.unwrap().files.len(), 2);
    assert_eq!(bucket.text("a b+c/ü.md").as_deref(), Some("text"));
}

#[tokio::test]
async fn retry_after_is_obeyed_by_requests_of_every_kind() {
    let bucket = S3Bucket::new().await;
    let busy_as = |operation, status, code| {
        let refusal = Refusal::new(operation, status, code, "wait").times(1);
        refuse(&bucket, vec![Refusal { retry_after: Some(1), ..refusal }]);
        Instant::now()
    };
    let busy = |operation| busy_as(operation, 503, "SlowDown");
    let waited = |operation: &str, begun: Instant| {
        assert!(begun.elapsed() >= Duration::from_millis(990), "{operation}: {:?}", begun.elapsed());
    };
    let store = bucket.store().await;
    let begun = busy("PutObject");
    place(&store, "a.md", b"text", TIME, None).await;
    waited("PutObject", begun);
    let begun = busy("CopyObject");
    copy(&store, "a.md", "b.md", b"text").await.unwrap();
    waited("CopyObject", begun);
    let begun = busy_as("ListObjectsV2", 500, "InternalError");
    assert_eq!(store.list().await.unwrap().files.len(), 2);
    waited("ListObjectsV2", begun);
    let begun = busy("HeadObject");
    let another = bucket.store().await;
    let wanted = Wanted { path: at("a.md"), hash: ContentHash::of(b"text"), size: 4 };
    assert!(another.check(vec![wanted]).await.unwrap()[0].holds);
    waited("HeadObject", begun);
    let begun = busy("DeleteObjects");
    for removal in store.remove_files(vec![file("a.md", b"text"), file("b.md", b"text")]).await {
        assert_eq!(removal.unwrap(), Removal::Removed);
    }
    waited("DeleteObjects", begun);
    assert!(bucket.text("a.md").is_none() && bucket.text("b.md").is_none());
}

/// Publishes this many files; returns the errors.
async fn publish_many(store: &BucketDestination, files: usize) -> Vec<DestinationError> {
    let mut batch = Vec::new();
    for n in 0..files {
        let staged = stage(store, &format!("{n}.md"), b"text", TIME).await;
        batch.push(Publication { content: PublicationContent::Staged(staged), expect: Expect::Absent });
    }
    store.publish(batch).await.into_iter().filter_map(Result::err).map(|failure| failure.error).collect()
}

#[tokio::test]
async fn the_same_refusal_ten_times_in_a_row_ends_the_run_with_one_sentence() {
    let bucket = S3Bucket::with(BucketOptions { concurrency: 1, ..options() }).await;
    let store = bucket.store().await;
    place(&store, "first.md", b"text", TIME, None).await;
    refuse(&bucket, vec![Refusal::new("PutObject", 400, "InvalidTag", "The tag is wrong")]);
    let errors = publish_many(&store, 30).await;
    assert_eq!(errors.iter().filter(|error| !error.is_fatal()).count(), 9);
    let last = errors.last().unwrap().to_string();
    assert!(
        last.contains("10 times in a row to write a file") && last.contains("InvalidTag: The tag is wrong"),
        "{last}"
    );
    assert_eq!(bucket.count("PutObject"), 13, "the first file, two to find out about conditions, and ten");
}

#[tokio::test]
async fn a_refusal_now_and_then_fails_those_files_alone() {
    let bucket = S3Bucket::with(BucketOptions { concurrency: 1, ..options() }).await;
    let store = bucket.store().await;
    place(&store, "first.md", b"text", TIME, None).await;
    let odd = |n| Refusal::new("PutObject", 400, "InvalidTag", "no").about(&format!("{n}5.md"));
    refuse(&bucket, (0..12).map(odd).collect());
    let errors = publish_many(&store, 120).await;
    assert!(errors.iter().all(|error| !error.is_fatal()));
    assert!(errors.len() >= 11, "{}", errors.len());
}

#[tokio::test]
async fn objects_that_cannot_be_read_among_others_that_can_do_not_end_the_run() {
    let bucket = S3Bucket::with(BucketOptions { concurrency: 1, ..options() }).await;
    let store = bucket.store().await;
    for n in 0..120 {
        bucket.put(&format!("{n:03}.md"), b"text");
    }
    let archived = Refusal::new("GetObject", 403, "InvalidObjectState", "archived").about("5.md");
    refuse(&bucket, vec![archived]);
    let wanted =
        |n: usize| Wanted { path: at(&format!("{n:03}.md")), hash: ContentHash::of(b"text"), size: 4 };
    let held = store.holds((0..120).map(wanted).collect()).await.unwrap();
    assert_eq!(held.iter().filter(|held| !**held).count(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_note_that_may_not_be_looked_at_fails_alone_before_anything_is_written() {
    let bench = Bench::new().await;
    for n in 0..3 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), TIME).unwrap();
    }
    bench.pull().await;
    bench.vault.delete("1.md").unwrap();
    for n in 3..9 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), TIME).unwrap();
    }
    let denied = |operation: &str| Refusal::new(operation, 403, "AccessDenied", "no");
    bench.bucket.cloud.faults().update(|faults| {
        // The marker is written at the same time.
        faults.s3.operations = vec!["PutObject".to_owned()];
        faults.s3.latency = Duration::from_millis(500);
        faults.s3_manners.refusals = ["HeadObject", "GetObject"].map(|of| denied(of).about("1.md")).to_vec();
    });
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failures.len()), (Outcome::Failures, 1), "{report:#?}");
    assert!((3..9).all(|n| bench.bucket.text(&format!("{n}.md")).is_some()), "the others are there");
    refuse(&bench.bucket, vec![denied("HeadObject")]);
    let error = bench.try_pull().await.unwrap_err().to_string();
    assert!(error.contains("the credentials need s3:ListBucket"), "all of them are refused: {error}");
    bench.bucket.cloud.faults().clear();
    bench.pull().await;
    bench.assert_exact().await;
}

/// The first write of a run is denied, for a small note, and for one that is uploaded in parts.
#[tokio::test(flavor = "multi_thread")]
async fn one_note_that_may_not_be_written_fails_alone_before_anything_else_is_written() {
    let words = "explicit deny in a resource-based policy";
    let denied = |operation: &str| Refusal::new(operation, 403, "AccessDenied", words);
    let bucket = S3Bucket::with(BucketOptions { concurrency: 1, ..options() }).await;
    let writes = [
        ("PutObject", vec![1; 9]),
        ("CreateMultipartUpload", vec![1; 2 * PART]),
        ("UploadPart", vec![1; 2 * PART]),
        ("CompleteMultipartUpload", vec![1; 2 * PART]),
    ];
    for (operation, content) in &writes {
        refuse(&bucket, vec![denied(operation).about("denied.md")]);
        let store = bucket.store().await;
        let error = match try_stage(&store, "denied.md", content).await {
            Ok(staged) => publish_one(&store, staged, None).await.map(drop).unwrap_err().error,
            Err(error) => error,
        };
        assert!(!error.is_fatal() && whole(&error).contains(words), "{operation}: {}", whole(&error));
        place(&store, &format!("{operation}.md"), b"another", TIME, None).await;
    }

    let bench = Bench::new().await;
    bench.vault.write("first.md", "a note", TIME).unwrap();
    bench.pull().await;
    for n in 0..9 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), TIME).unwrap();
    }
    // A run that may not read the marker writes none.
    bench.lose_state();
    let marker = denied("GetObject").about(".obsync/id");
    refuse(&bench.bucket, vec![marker, denied("PutObject").about("4.md")]);
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failures.len()), (Outcome::Failures, 1), "{report:#?}");
    refuse(&bench.bucket, Vec::new());
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_without_the_right_to_write_ends_the_run_after_two_refused_writes() {
    let denied = |operation: &str| Refusal::new(operation, 403, "AccessDenied", "no");
    let all = ["PutObject", "CopyObject", "CreateMultipartUpload"].map(denied).to_vec();
    let bucket = S3Bucket::with(BucketOptions { concurrency: 1, ..options() }).await;
    refuse(&bucket, all.clone());
    let store = bucket.store().await;
    let errors = publish_many(&store, 30).await;
    // The other one was to find out about conditions, which is not necessary with AWS.
    assert_eq!((errors.len(), bucket.count("PutObject")), (30, 3), "the first file and the probe object");
    let is_denied = |error: &DestinationError| {
        matches!(error, DestinationError::Unavailable { code: ProblemCode::AccessDenied, .. })
    };
    assert!(errors.iter().all(is_denied), "{:?}", errors[0]);
    let error = errors[0].to_string();
    assert!(
        error.contains("the credentials need s3:ListBucket") && error.contains("AccessDenied: no"),
        "{error}"
    );

    // A run writes its marker besides: the files wait for that answer.
    let bench = Bench::with(S3Bucket::with(BucketOptions { concurrency: 1, ..options() }).await).await;
    bench.vault.write("first.md", "a note", TIME).unwrap();
    bench.pull().await;
    for n in 0..9 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), TIME).unwrap();
    }
    refuse(&bench.bucket, all);
    let before = bench.bucket.count("PutObject");
    let error = bench.try_pull().await.unwrap_err();
    assert!(matches!(&error, PullError::Store(error) if is_denied(error)), "{error}");
    // Two more may find out about conditions.
    let refused = bench.bucket.count("PutObject") - before;
    assert!((1..=4).contains(&refused), "{refused}");
    refuse(&bench.bucket, Vec::new());
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_turns_read_only_midway_ends_the_run_in_its_words_and_loses_nothing() {
    let bench = Bench::with(S3Bucket::with(BucketOptions { concurrency: 1, ..options() }).await).await;
    for n in 0..30 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), TIME).unwrap();
    }
    bench.pull().await;
    for n in 0..30 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}, edited"), TIME + 1).unwrap();
    }
    bench.vault.write("new.md", "a new one", TIME).unwrap();
    let words = "explicit deny in a resource-based policy";
    let denied = |operation: &str| Refusal::new(operation, 403, "AccessDenied", words);
    let writes = ["PutObject", "CopyObject", "DeleteObject", "DeleteObjects", "CreateMultipartUpload"];
    let mut refusals = writes.map(denied).to_vec();
    refusals[0].chance = Chance::always().after(10);
    refuse(&bench.bucket, refusals);
    let error = bench.try_pull().await.unwrap_err().to_string();
    assert!(error.contains("AccessDenied") && error.contains(words), "{error}");
    let edited =
        (0..30).filter(|n| bench.bucket.text(&format!("{n}.md")) == Some(format!("note {n}, edited")));
    let kept = (0..30).filter(|n| bench.bucket.text(&format!("{n}.md")) == Some(format!("note {n}")));
    let (edited, kept) = (edited.count(), kept.count());
    assert_eq!(edited + kept, 30, "each note is there as it was or as it is");
    assert!((5..=10).contains(&edited), "{edited}");
    refuse(&bench.bucket, Vec::new());
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test]
async fn a_refused_end_of_an_upload_is_told_in_its_own_words_if_the_object_may_not_be_looked_at_either() {
    let bucket = S3Bucket::new().await;
    let store = bucket.store().await;
    place(&store, "first.md", b"text", TIME, None).await;
    let refused = |operation: &str, words: &str| Refusal::new(operation, 403, "AccessDenied", words);
    let mut looks = refused("HeadObject", "no").about("a.bin");
    // The first look is the one before the upload ends.
    looks.chance = Chance::always().after(1);
    refuse(&bucket, vec![refused("CompleteMultipartUpload", "explicit deny").about("a.bin"), looks]);
    let staged = stage(&store, "a.bin", &vec![7; 2 * PART], TIME).await;
    let failure = publish_one(&store, staged, None).await.map(drop).unwrap_err();
    assert!(whole(&failure.error).contains("explicit deny"), "{}", whole(&failure.error));
    assert!(bucket.count("HeadObject") >= 2);
}

#[tokio::test]
async fn a_service_that_wants_parts_of_one_size_gets_them() {
    let bucket = S3Bucket::new().await;
    bucket.cloud.faults().update(|faults| faults.s3_manners.equal_parts = true);
    let store = bucket.store().await;
    for size in [2 * PART, 4 * PART + 1, 5 * PART - 1] {
        let content = vec![7; size];
        place(&store, "a.bin", &content, TIME, None).await;
        assert_eq!(bucket.object("a.bin").unwrap().content.len(), size);
        for removal in store.remove_files(vec![file("a.bin", &content)]).await {
            assert_eq!(removal.unwrap(), Removal::Removed);
        }
    }
    assert!(bucket.count("CompleteMultipartUpload") >= 3, "they went up in parts");
}
