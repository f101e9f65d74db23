//! Runs of the pool against a server without faults, and how runs end.

use std::sync::Arc;
use std::time::Duration;

use obsync_client::{
    ClientError, Content, FetchFailure, FetchOptions, FetchPool, PullRequest, Receiver, Session,
};
use obsync_protocol::{ContentHash, Uid};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, limited};
use crate::collector::{Collector, Job, Run};

/// Writes `count` small files.
pub(crate) fn small_files(bed: &Bed, count: usize) {
    for number in 0..count {
        let content = format!("the content of file {number}\n").repeat(number % 50 + 1);
        bed.vault.write(&format!("Folder {}/{number}.md", number % 7), content, 1).unwrap();
    }
}

#[tokio::test]
async fn every_file_of_a_vault_arrives_once_over_several_connections() {
    let bed = Bed::start().await;
    small_files(&bed, 1000);
    bed.vault.write("empty.md", "", 1).unwrap();
    bed.vault.write("large.bin", vec![7; 9_000_000], 1).unwrap();
    let fetched = Run::of(&bed).await.fetch(&bed).await;
    let expected = bed.vault.expected().unwrap();
    assert_eq!(fetched.files.len(), 1002);
    for file in &expected.files {
        assert_eq!(ContentHash::of(&fetched.files[&file.path]).to_string(), file.sha256, "{}", file.path);
    }
    assert!(fetched.failures.is_empty());
    let (summary, stats) = (fetched.summary(), bed.server.stats());
    assert_eq!((summary.connections, summary.reconnects, summary.serial_fallbacks), (4, 0, 0));
    assert_eq!(summary.requests, 1002);
    assert_eq!((stats.pulls, summary.bytes), (1002, stats.content_bytes));
    assert!(stats.served_more_than_once().is_empty());
    assert_eq!(stats.websocket_connections, 4);
    assert!((2..=16).contains(&stats.max_pulls_in_flight), "{}", stats.max_pulls_in_flight);
}

#[tokio::test]
async fn over_a_long_line_more_requests_are_under_way_up_to_the_limit() {
    let bed = Bed::start().await;
    small_files(&bed, 1500);
    bed.fault("latency=100ms");
    let mut run = Run::of(&bed).await;
    run.options = FetchOptions { connections: 1, in_flight: 24, ..FetchOptions::default() };
    let fetched = run.fetch(&bed).await;
    assert_eq!(fetched.files.len(), 1500);
    assert_eq!(bed.server.stats().max_pulls_in_flight, 24);
}

#[tokio::test]
async fn the_sessions_of_a_run_begin_at_the_listings_version_and_end_with_it() {
    let bed = Bed::start().await;
    small_files(&bed, 300);
    let run = Run::of(&bed).await;
    let version = run.version;
    run.fetch(&bed).await.run.unwrap();
    limited(bed.server.wait_for(|stats| stats.open_websockets == 0)).await;
    let stats = bed.server.stats();
    assert_eq!(stats.inits.len(), 4);
    assert!(stats.inits[1..].iter().all(|init| init.version == version && !init.initial));
}

#[tokio::test]
async fn a_few_small_files_do_not_warrant_a_second_connection() {
    let bed = Bed::start().await;
    small_files(&bed, 10);
    let fetched = Run::of(&bed).await.fetch(&bed).await;
    assert_eq!((fetched.files.len(), fetched.summary().connections), (10, 1));
    assert_eq!(bed.server.stats().websocket_connections, 1);
}

#[tokio::test]
async fn a_few_large_files_get_a_connection_each() {
    let bed = Bed::start().await;
    for number in 0..3_u8 {
        bed.vault.write(&format!("{number}.bin"), vec![number; 3_000_000], 1).unwrap();
    }
    let run = Run::of(&bed).await;
    // Otherwise the first connection may fetch all of them before there is a second.
    bed.fault("latency=100ms");
    let fetched = run.fetch(&bed).await;
    assert_eq!(fetched.files.len(), 3);
    assert!(fetched.summary().connections >= 2, "{:?}", fetched.summary());
    assert_eq!(bed.server.stats().max_pulls_in_flight, 1);
}

#[tokio::test]
async fn nothing_to_fetch_makes_no_further_connection() {
    let bed = Bed::start().await;
    let run = Run { session: None, ..Run::of(&bed).await };
    let fetched = run.fetch(&bed).await;
    assert_eq!(fetched.summary().connections, 0);
    assert_eq!(bed.server.stats().websocket_connections, 1);
}

#[tokio::test]
async fn pieces_of_any_size_make_the_same_file() {
    let bed = Bed::start().await;
    bed.vault.write("a.bin", (0..100_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>(), 1).unwrap();
    small_files(&bed, 20);
    for pieces in ["pieces=1009", "pieces=random:70000", "pieces=random:1000", "pieces=whole"] {
        bed.fault(pieces);
        let fetched = Run::of(&bed).await.fetch(&bed).await;
        assert_eq!(
            (fetched.files.len(), fetched.failures.len()),
            (21, 0),
            "{pieces}: {:?}",
            fetched.failures
        );
    }
}

#[tokio::test]
async fn frames_of_thirteen_bytes_are_honest() {
    let bed = Bed::start().await;
    bed.vault.write("a.md", vec![7; 13_000], 1).unwrap();
    small_files(&bed, 20);
    bed.fault("pieces=13");
    let fetched = Run::of(&bed).await.fetch(&bed).await;
    assert_eq!((fetched.files.len(), fetched.failures.len()), (21, 0), "{:?}", fetched.failures);
}

#[tokio::test]
async fn live_pushes_and_unknown_messages_between_pieces_do_no_harm() {
    let bed = Bed::start().await;
    small_files(&bed, 60);
    bed.fault("unknown-ops,live-pushes,pieces=100");
    let fetched = Run::of(&bed).await.fetch(&bed).await;
    assert_eq!((fetched.files.len(), fetched.summary().reconnects), (60, 0));
    assert!(bed.server.faults().strikes("live-pushes") >= 60);
}

#[tokio::test]
async fn a_file_that_went_away_after_the_listing_is_gone_and_the_others_arrive() {
    let bed = Bed::start().await;
    small_files(&bed, 40);
    let mut run = Run::of(&bed).await;
    let path = run.jobs[20].path.clone();
    run.jobs[20].uid = Uid(99_999);
    let fetched = run.fetch(&bed).await;
    assert_eq!(fetched.files.len(), 39);
    assert!(matches!(fetched.failure(), FetchFailure::Gone));
    assert!(fetched.failures.contains_key(&path));
    assert_eq!(fetched.summary().reconnects, 0);
}

#[tokio::test]
async fn jobs_may_come_slowly_while_the_connection_is_kept() {
    let bed = Bed::with(|mut options| {
        options.timeouts.ping_after = Duration::from_millis(20);
        options.timeouts.silence = Duration::from_secs(2);
        options
    })
    .await;
    small_files(&bed, 2);
    let run = Run::of(&bed).await;
    let (feed, jobs) = mpsc::channel(8);
    let (results, mut outcomes) = mpsc::channel(8);
    let pool = FetchPool {
        client: bed.client.clone(),
        target: bed.target(),
        version: run.version,
        options: FetchOptions::default(),
        receiver: Arc::new(Collector::new(bed.keys())),
        jobs,
        results,
        cancel: CancellationToken::new(),
        first_session: run.session,
    };
    let running = tokio::spawn(pool.run());
    for job in run.jobs {
        // Longer than the silence limit of a connection: only pings keep it alive.
        tokio::time::sleep(Duration::from_millis(2500)).await;
        feed.send(job).await.unwrap();
        limited(outcomes.recv()).await.unwrap().outcome.unwrap();
    }
    drop(feed);
    let summary = limited(running).await.unwrap().unwrap();
    assert_eq!((summary.connections, summary.reconnects), (1, 0));
}

/// Signals when a content has begun to arrive, and then never finishes it.
struct Slow {
    begun: Arc<Notify>,
}

impl Receiver for Slow {
    type Job = Job;
    type Output = ();
    type Error = ();

    fn request(&self, job: &Job) -> PullRequest {
        PullRequest { uid: job.uid, hash: job.hash, size: job.size }
    }

    async fn receive(&self, _: &mut Job, _: &mut Content<'_>) -> Result<(), ()> {
        self.begun.notify_one();
        std::future::pending().await
    }
}

/// A run of the [`Slow`] receiver, once it has begun to receive.
async fn begun_run(
    bed: &Bed,
) -> (
    tokio::task::JoinHandle<Result<obsync_client::FetchSummary, ClientError>>,
    CancellationToken,
    mpsc::Sender<Job>,
    mpsc::Receiver<obsync_client::FetchResult<Slow>>,
) {
    let run = Run::of(bed).await;
    let (feed, jobs) = mpsc::channel(1024);
    let (results, outcomes) = mpsc::channel(8);
    let (begun, cancel) = (Arc::new(Notify::new()), CancellationToken::new());
    let pool = FetchPool {
        client: bed.client.clone(),
        target: bed.target(),
        version: run.version,
        options: FetchOptions::default(),
        receiver: Arc::new(Slow { begun: Arc::clone(&begun) }),
        jobs,
        results,
        cancel: cancel.clone(),
        first_session: run.session,
    };
    for job in run.jobs {
        feed.send(job).await.unwrap();
    }
    let running = tokio::spawn(pool.run());
    limited(begun.notified()).await;
    (running, cancel, feed, outcomes)
}

#[tokio::test]
async fn a_cancelled_run_ends_at_once_and_closes_its_connections() {
    let bed = Bed::start().await;
    small_files(&bed, 200);
    let (running, cancel, _feed, _outcomes) = begun_run(&bed).await;
    cancel.cancel();
    let summary = limited(running).await.unwrap().unwrap();
    assert!(summary.requests > 0);
    limited(bed.server.wait_for(|stats| stats.open_websockets == 0)).await;
}

#[tokio::test]
async fn a_dropped_run_closes_its_connections() {
    let bed = Bed::start().await;
    small_files(&bed, 200);
    let (running, _cancel, _feed, _outcomes) = begun_run(&bed).await;
    running.abort();
    limited(bed.server.wait_for(|stats| stats.open_websockets == 0)).await;
}

#[tokio::test]
async fn a_run_is_cancelled_while_the_server_is_silent() {
    let bed = Bed::start().await;
    small_files(&bed, 50);
    bed.fault("stall-request");
    let run = Run::of(&bed).await;
    let (feed, jobs) = mpsc::channel(64);
    let (results, _outcomes) = mpsc::channel(8);
    let cancel = CancellationToken::new();
    let pool = FetchPool {
        client: bed.client.clone(),
        target: bed.target(),
        version: run.version,
        options: run.options,
        receiver: Arc::new(run.collector),
        jobs,
        results,
        cancel: cancel.clone(),
        first_session: run.session,
    };
    for job in run.jobs {
        feed.send(job).await.unwrap();
    }
    let running = tokio::spawn(pool.run());
    let server = &bed.server;
    let struck = async {
        while server.faults().strikes("stall-request") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    limited(struck).await;
    cancel.cancel();
    limited(running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_run_ends_when_nobody_wants_its_results() {
    let bed = Bed::start().await;
    small_files(&bed, 200);
    let run = Run::of(&bed).await;
    let (feed, jobs) = mpsc::channel(1024);
    let (results, outcomes) = mpsc::channel(4);
    drop(outcomes);
    let pool = FetchPool {
        client: bed.client.clone(),
        target: bed.target(),
        version: run.version,
        options: run.options,
        receiver: Arc::new(run.collector),
        jobs,
        results,
        cancel: CancellationToken::new(),
        first_session: run.session,
    };
    for job in run.jobs {
        feed.send(job).await.unwrap();
    }
    limited(pool.run()).await.unwrap();
}

#[tokio::test]
async fn results_that_are_read_slowly_hold_the_run_up_and_lose_nothing() {
    let bed = Bed::start().await;
    small_files(&bed, 300);
    let run = Run::of(&bed).await;
    let (feed, jobs) = mpsc::channel(1024);
    let (results, mut outcomes) = mpsc::channel(1);
    let pool = FetchPool {
        client: bed.client.clone(),
        target: bed.target(),
        version: run.version,
        options: run.options,
        receiver: Arc::new(run.collector),
        jobs,
        results,
        cancel: CancellationToken::new(),
        first_session: run.session,
    };
    for job in run.jobs {
        feed.send(job).await.unwrap();
    }
    drop(feed);
    let running = tokio::spawn(pool.run());
    let mut count = 0;
    while let Some(result) = limited(outcomes.recv()).await {
        assert!(result.outcome.is_ok());
        count += 1;
        tokio::task::yield_now().await;
    }
    assert_eq!(count, 300);
    limited(running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_session_can_be_opened_for_a_run_of_one_file() {
    let bed = Bed::start().await;
    bed.vault.write("one.md", "one", 1).unwrap();
    let run = Run::of(&bed).await;
    let session: Option<Session> = None;
    let fetched = Run { session, ..run }.connections(1).fetch(&bed).await;
    assert_eq!(fetched.files["one.md"], b"one");
    assert_eq!((fetched.summary().connections, fetched.calls), (1, 1));
}
