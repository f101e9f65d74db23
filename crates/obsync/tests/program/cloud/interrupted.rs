//! Pulls into a bucket that are cancelled or killed.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use obsync_testcloud::{RequestCounts, Service};
use obsync_testkit::{Chance, GeneratorOptions};
use rustix::process::{Pid, Signal, kill_process};

use super::place::{BUCKET, DEST, Place, TABLE};
use crate::world::ran;

/// A vault with a file of many parts; all writes are slow.
fn slow() -> Place {
    let place = Place::new();
    place.write("Film.mp4", &"a long film. ".repeat(2_000_000));
    let options = GeneratorOptions { files: 100, seed: 1, max_size: 50_000, ..GeneratorOptions::default() };
    obsync_testkit::fill_vault(&place.world.vault("Notes"), &options).unwrap();
    place.fault(|faults| {
        faults.s3.operations = vec!["UploadPart".to_owned()];
        faults.s3.latency = Duration::from_secs(2);
    });
    place
}

/// Begins a pull and kills it while the film is being uploaded.
fn kill_midway(place: &Place, options: &[&str], environment: &[(&str, &str)]) {
    let mut pull = place.start(options, environment);
    place.wait_for(|counts| counts.of(Service::S3, "UploadPart") > 0);
    pull.kill().unwrap();
    assert_eq!(pull.wait().unwrap().signal(), Some(9));
    place.cloud.faults().clear();
}

#[test]
fn a_killed_pull_goes_on_and_its_upload_is_aborted_when_it_is_old() {
    let place = slow();
    kill_midway(&place, &[], &[]);
    assert_eq!(place.cloud.s3().uploads(BUCKET).len(), 1);
    assert!(place.object("Film.mp4").is_none(), "nothing that is not complete is to be seen");
    place.cloud.s3().age_uploads(BUCKET, Duration::from_secs(7200));
    place.pull(&[]);
    place.assert_exact();
    place.must(&["verify", DEST]);
}

#[test]
fn with_a_table_a_killed_pull_goes_on_when_its_lease_has_run_out_and_leaves_no_upload() {
    let place = slow();
    let lease = ("OBSYNC_LEASE_SECONDS", "1");
    kill_midway(&place, &["--state", TABLE], &[lease]);
    let next = || {
        let mut pull = place.command(&["pull", "Notes", DEST, "--state", TABLE]);
        ran(pull.env(lease.0, lease.1))
    };
    while next().code == 7 {
        std::thread::sleep(Duration::from_millis(100));
    }
    place.assert_exact();
    place.must(&["verify", DEST, "--state", TABLE]);
}

#[test]
fn an_interrupted_pull_leaves_neither_upload_nor_lease() {
    let place = slow();
    let mut pull = place.start(&["--state", TABLE], &[]);
    place.wait_for(|counts| counts.of(Service::S3, "UploadPart") > 0);
    let id = Pid::from_raw(i32::try_from(pull.id()).unwrap()).unwrap();
    kill_process(id, Signal::INT).unwrap();
    assert_eq!(pull.wait().unwrap().code(), Some(6));
    place.cloud.faults().clear();
    assert_eq!(place.cloud.s3().uploads(BUCKET), []);
    place.pull(&["--state", TABLE]);
    place.assert_exact();
}

/// Interrupts a pull once a request to the table, the first of these operations after `after` others, takes
/// effect without an answer. `None` if the pull makes fewer requests.
fn interrupt_at(operations: &[&str], after: u64) -> Option<(Place, Duration)> {
    let place = Place::new();
    place.write("Note.md", "text");
    place.fault(|faults| {
        faults.dynamodb.operations = operations.iter().map(ToString::to_string).collect();
        faults.dynamodb.unanswered = Chance::always().after(after);
    });
    let mut pull = place.start(&["--state", TABLE], &[]);
    let asked = |counts: &RequestCounts| match operations {
        [] => counts.total(Service::DynamoDb),
        _ => operations.iter().map(|operation| counts.of(Service::DynamoDb, operation)).sum(),
    };
    while asked(&place.cloud.counts()) <= after {
        if let Some(status) = pull.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let since = Instant::now();
    kill_process(Pid::from_child(&pull), Signal::INT).unwrap();
    assert_eq!(pull.wait().unwrap().code(), Some(6), "request {after}");
    Some((place, since.elapsed()))
}

#[test]
fn a_pull_that_is_interrupted_while_it_takes_its_lease_lets_it_go() {
    let (place, took) = interrupt_at(&["UpdateItem"], 0).unwrap();
    assert!(took < Duration::from_secs(8), "{took:?}");
    place.cloud.faults().clear();
    place.pull(&["--state", TABLE]);
    place.assert_exact();
}

#[test]
fn a_pull_that_is_interrupted_while_the_table_does_not_answer_ends_soon_and_keeps_nobody_out() {
    std::thread::scope(|scope| {
        for after in 0..12 {
            scope.spawn(move || {
                let Some((place, took)) = interrupt_at(&[], after) else { return };
                assert!(took < Duration::from_secs(15), "request {after}: {took:?}");
                place.cloud.faults().clear();
                place.pull(&["--state", TABLE]);
                place.assert_exact();
            });
        }
    });
}

#[test]
fn a_lease_that_is_no_number_of_seconds_is_refused() {
    let place = Place::new();
    let mut pull = place.command(&["pull", "Notes", DEST, "--state", TABLE]);
    let refused = ran(pull.env("OBSYNC_LEASE_SECONDS", "soon")).expect(2).stderr;
    assert!(refused.contains("OBSYNC_LEASE_SECONDS"), "{refused}");
}
