//! Runs of the pool against a server with faults: which are repaired, which are reported, and that a fault of
//! one file does not affect others.

use std::sync::Arc;

use obsync_client::{ClientError, ClientOptions, Clock, FetchFailure, Timeouts};
use obsync_conformance::SetClock;
use obsync_protocol::Uid;

use crate::bed::{Bed, limited};
use crate::collector::{Fetched, Run};
use crate::fetching::small_files;

const FILES: usize = 120;

/// A bed with small files.
async fn bed() -> Bed {
    let bed = Bed::start().await;
    small_files(&bed, FILES);
    bed
}

/// The same with a clock that advances when nothing moves, so that no real time is spent on answers that
/// never come. On a busy machine that may happen while a message is in transit: do not assert the number of
/// connections with this bed.
async fn impatient_bed() -> (Bed, Arc<SetClock>) {
    let (bed, clock) = Bed::with_clock(|options| ClientOptions { min_speed: 0, ..options }).await;
    small_files(&bed, FILES);
    (bed, clock)
}

/// Fetches in an impatient bed.
async fn fetch(run: Run, bed: &Bed, clock: &SetClock) -> Fetched {
    bed.passing(clock, bed.client.options().timeouts.silence, run.fetch(bed)).await
}

/// The uid of a file in the middle of [`bed`].
fn victim(bed: &Bed) -> Uid {
    Uid(bed.vault.version().0 - 50)
}

/// All files were fetched intact: the receiver checks the hashes.
fn assert_complete(fetched: &Fetched, fault: &str) {
    assert!(fetched.run.is_ok(), "{fault}: {:?}", fetched.run);
    assert_eq!((fetched.files.len(), fetched.failures.len()), (FILES, 0), "{fault}: {:?}", fetched.failures);
}

#[tokio::test]
async fn passing_trouble_with_connections_and_frames_is_mended() {
    let (bed, clock) = impatient_bed().await;
    for fault in [
        "drop-on-request=next:3",
        "drop-in-content=next:3",
        "drop-after-frames=next:4,frames=150",
        "extra-piece=next:3",
        "missing-piece=next:3",
        "short-piece=next:3",
        "lie-size=next:3",
        "huge-header=next:3",
        "bare-answer=next:3",
        "garbage-answer=next:3",
        "huge-text=next:3",
    ] {
        // Some faults are drawn when a connection is made, so the listing's connection is useless here.
        let run = Run { session: None, ..Run::of(&bed).await };
        bed.fault(fault);
        // One connection, so that no other one can take over the jobs of a broken one.
        let fetched = fetch(run.connections(1), &bed, &clock).await;
        assert_complete(&fetched, fault);
        assert!(fetched.summary().reconnects > 0, "{fault}");
    }
}

#[tokio::test]
async fn passing_trouble_with_contents_is_mended_on_the_same_connection() {
    let bed = bed().await;
    for fault in [
        "corrupt-content=next:5",
        "truncate-content=next:5",
        "refuse-pull=next:5",
        "err-answer=next:5",
        "gone-answer=next:5",
    ] {
        bed.fault(fault);
        let fetched = Run::of(&bed).await.fetch(&bed).await;
        assert_complete(&fetched, fault);
        assert_eq!(fetched.summary().reconnects, 0, "{fault}");
        assert!(fetched.summary().requests > FILES as u64, "{fault}");
    }
}

#[tokio::test]
async fn trouble_at_random_everywhere_loses_no_file() {
    let (bed, clock) = impatient_bed().await;
    for seed in 0..5 {
        bed.fault(&format!(
            "seed={seed},corrupt-content=2%,drop-in-content=2%,drop-on-request=1%,wrong-hash=2%,\
             missing-piece=1%,extra-piece=2%,refuse-pull=2%,unknown-ops=20%,pieces=random:500"
        ));
        let fetched = fetch(Run::of(&bed).await, &bed, &clock).await;
        assert!(fetched.run.is_ok(), "seed {seed}: {:?}", fetched.run);
        // A file may fail three times in a row by chance, but seldom; each failure must be reported.
        assert_eq!(fetched.files.len() + fetched.failures.len(), FILES, "seed {seed}");
        assert!(fetched.failures.len() <= 1, "seed {seed}: {:?}", fetched.failures);
    }
}

#[tokio::test]
async fn a_file_that_always_fails_is_reported_and_the_others_arrive() {
    type Expected = fn(&FetchFailure<String>) -> bool;
    let protocol: Expected =
        |failure| matches!(failure, FetchFailure::Transport(ClientError::Protocol { .. }));
    let lost: Expected =
        |failure| matches!(failure, FetchFailure::Transport(ClientError::ConnectionLost { .. }));
    let wrong_size: Expected =
        |failure| matches!(failure, FetchFailure::Transport(ClientError::WrongSize { .. }));
    let cases: [(&str, Expected); 13] = [
        ("corrupt-content", |failure| matches!(failure, FetchFailure::Receiver(_))),
        ("truncate-content", wrong_size),
        ("wrong-hash", |failure| matches!(failure, FetchFailure::Transport(ClientError::WrongHash { .. }))),
        ("missing-hash", |failure| matches!(failure, FetchFailure::Transport(ClientError::WrongHash { .. }))),
        (
            "refuse-pull",
            |failure| matches!(failure, FetchFailure::Refused(reason) if reason.contains("cannot be read")),
        ),
        (
            "err-answer",
            |failure| matches!(failure, FetchFailure::Refused(reason) if reason == "Internal error"),
        ),
        ("gone-answer", |failure| matches!(failure, FetchFailure::Gone)),
        ("drop-in-content", lost),
        ("short-piece", protocol),
        ("lie-size", wrong_size),
        ("huge-header", wrong_size),
        ("bare-answer", protocol),
        ("garbage-answer", protocol),
    ];
    let bed = bed().await;
    let victim = victim(&bed);
    for (fault, is_expected) in cases {
        bed.fault(&format!("{fault}=uid:{victim}"));
        let fetched = Run::of(&bed).await.fetch(&bed).await;
        assert!(fetched.run.is_ok(), "{fault}: {:?}", fetched.run);
        assert!(is_expected(fetched.failure()), "{fault}: {:?}", fetched.failures);
        assert_eq!(fetched.files.len(), FILES - 1, "{fault}");
        assert!(!fetched.failure().to_string().is_empty());
    }
}

#[tokio::test]
async fn a_piece_that_never_comes_fails_its_file_only() {
    let (bed, clock) = impatient_bed().await;
    bed.fault(&format!("missing-piece=uid:{}", victim(&bed)));
    let mut run = Run::of(&bed).await;
    run.options.attempts = 2;
    let fetched = fetch(run, &bed, &clock).await;
    // Requested alone, nothing follows that could stand in for the piece.
    let failure = fetched.failure();
    assert!(matches!(failure, FetchFailure::Transport(ClientError::TimedOut { .. })), "{failure:?}");
    assert_eq!(fetched.files.len(), FILES - 1);
}

#[tokio::test]
async fn a_file_that_is_never_answered_costs_two_limits_and_the_others_arrive() {
    let answer = Timeouts::default().answer;
    for connections in [1, 4] {
        let (bed, clock) = Bed::with_clock(|mut options| {
            options.timeouts = Timeouts { answer, ..Timeouts::default() };
            options
        })
        .await;
        small_files(&bed, FILES);
        let victim = victim(&bed);
        bed.fault(&format!("stall-pull=uid:{victim}"));
        let run = Run::of(&bed).await.connections(connections);
        let begin = clock.steady();
        let fetched = bed.passing(&clock, answer, run.fetch(&bed)).await;
        let took = clock.steady() - begin;
        assert!(fetched.run.is_ok(), "{:?}", fetched.run);
        let failure = fetched.failure();
        assert!(matches!(failure, FetchFailure::Transport(ClientError::TimedOut { .. })), "{failure:?}");
        assert_eq!(fetched.files.len(), FILES - 1);
        assert_eq!(bed.server.faults().strikes("stall-pull"), 2);
        assert!(took < answer * 3, "{connections} connections: {took:?}");
    }
}

#[tokio::test]
async fn a_content_that_fails_its_check_is_asked_for_three_times_in_all() {
    let bed = bed().await;
    let victim = victim(&bed);
    bed.fault(&format!("corrupt-content=uid:{victim}"));
    let fetched = Run::of(&bed).await.fetch(&bed).await;
    assert_eq!(fetched.failures.len(), 1);
    assert_eq!(fetched.calls, FILES as u32 + 2);
    assert_eq!(fetched.summary().reconnects, 0);
}

#[tokio::test]
async fn a_receiver_that_says_so_is_not_offered_a_file_again() {
    let bed = bed().await;
    let mut run = Run::of(&bed).await;
    run.collector.averse_to = Some(run.jobs[60].path.clone());
    run.collector.forgiving = false;
    let fetched = run.fetch(&bed).await;
    assert!(matches!(fetched.failure(), FetchFailure::Receiver(reason) if reason == "turned down"));
    assert_eq!((fetched.calls, fetched.summary().reconnects), (FILES as u32, 0));
}

#[tokio::test]
async fn a_large_file_that_is_turned_down_is_not_received_for_nobody() {
    let bed = bed().await;
    bed.vault.write("large.bin", vec![1; 30_000_000], 1).unwrap();
    let mut run = Run::of(&bed).await;
    run.collector.averse_to = Some("large.bin".to_owned());
    run.collector.forgiving = false;
    let fetched = run.fetch(&bed).await;
    assert_eq!((fetched.files.len(), fetched.failures.len()), (FILES, 1));
    assert!(fetched.summary().bytes < 1_000_000, "{:?}", fetched.summary());
}

#[tokio::test]
async fn answers_in_the_wrong_order_are_noticed_and_asked_for_again_one_at_a_time() {
    let bed = bed().await;
    bed.fault("swap-answers");
    let fetched = Run::of(&bed).await.connections(2).fetch(&bed).await;
    assert_complete(&fetched, "swap-answers");
    let summary = fetched.summary();
    assert!((1..=2).contains(&summary.serial_fallbacks), "{summary:?}");
    assert!(summary.reconnects >= summary.serial_fallbacks);
    // The receiver got no content of another file.
    assert_eq!(fetched.calls, FILES as u32);
}

#[tokio::test]
async fn one_file_with_a_wrong_hash_does_not_slow_the_others_down() {
    let bed = bed().await;
    let victim = victim(&bed);
    bed.fault(&format!("wrong-hash=uid:{victim}"));
    let fetched = Run::of(&bed).await.connections(1).fetch(&bed).await;
    assert_eq!((fetched.files.len(), fetched.failures.len()), (FILES - 1, 1));
    assert_eq!(fetched.summary().serial_fallbacks, 1);
    // Requested alone the file is still wrong, so several requests at once are allowed again: the files after
    // it take fewer round trips than files.
    assert!(bed.server.stats().max_pulls_in_flight > 1);
}

#[tokio::test]
async fn a_content_that_stops_in_the_middle_is_given_up_and_asked_for_again() {
    let (bed, clock) = impatient_bed().await;
    for fault in ["stall-in-content=next:2", "stall-request=next:2"] {
        bed.fault(fault);
        let fetched = fetch(Run::of(&bed).await, &bed, &clock).await;
        assert_complete(&fetched, fault);
        assert_eq!(bed.server.faults().strikes(fault.split('=').next().unwrap()), 2, "{fault}");
        assert!(fetched.summary().requests >= FILES as u64 + 2, "{fault}");
    }
}

#[tokio::test]
async fn a_server_that_goes_away_fails_the_run_and_what_was_fetched_is_reported() {
    let bed = bed().await;
    let run = Run::of(&bed).await;
    bed.fault("drop-on-request=always+after:30,refuse-upgrade=always+after:3");
    let fetched = run.connections(2).fetch(&bed).await;
    let error = fetched.run.as_ref().unwrap_err();
    assert!(error.is_retryable(), "{error:?}");
    assert!(!fetched.files.is_empty() && fetched.files.len() < FILES);
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let bed = bed().await;
    let run = Run { session: None, ..Run::of(&bed).await };
    bed.fault("refuse-upgrade=next:4");
    let fetched = run.fetch(&bed).await;
    assert_complete(&fetched, "refuse-upgrade");
}

#[tokio::test]
async fn a_server_that_is_gone_at_once_fails_the_run() {
    let bed = bed().await;
    let run = Run { session: None, ..Run::of(&bed).await };
    bed.fault("refuse-upgrade");
    let fetched = run.fetch(&bed).await;
    assert!(matches!(fetched.run, Err(ClientError::Http { status: 503 })), "{:?}", fetched.run);
    assert!(fetched.files.is_empty() && fetched.failures.is_empty());
}

#[tokio::test]
async fn a_sign_in_that_ends_during_the_run_fails_it_without_further_attempts() {
    let bed = bed().await;
    let run = Run { session: None, ..Run::of(&bed).await };
    bed.server.expire_tokens().unwrap();
    let fetched = run.connections(1).fetch(&bed).await;
    assert!(matches!(fetched.run, Err(ClientError::NotSignedIn)), "{:?}", fetched.run);
    assert_eq!(bed.server.stats().inits.len(), 2);
}

#[tokio::test]
async fn a_server_with_a_limit_on_connections_is_served_by_those_it_allows() {
    let bed = bed().await;
    let run = Run::of(&bed).await;
    bed.fault("init-error,init-error-text=Too many connections");
    let fetched = run.fetch(&bed).await;
    assert_complete(&fetched, "one connection");
    assert_eq!(fetched.summary().connections, 1);
}

#[tokio::test]
async fn every_connection_is_lost_at_once_and_the_run_goes_on() {
    let bed = bed().await;
    bed.fault("latency=2ms");
    let run = Run::of(&bed).await;
    let dropping = async {
        for answered in [20, 50, 90] {
            bed.server.wait_for(|stats| stats.pulls_answered >= answered).await;
            bed.server.disconnect_all();
        }
    };
    let (fetched, ()) = limited(async { tokio::join!(run.fetch(&bed), dropping) }).await;
    assert_complete(&fetched, "disconnect_all");
    // The number of restored connections may vary: such trouble reduces them.
    assert!(fetched.summary().reconnects >= 1);
}
