//! Servers that violate the connection's rules, and clocks: heartbeat, silence, slowness.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use obsync_client::{
    ClientError, ClientOptions, FetchFailure, FetchOptions, FetchPool, FetchResult, FetchSummary, Session,
};
use obsync_conformance::SetClock;
use obsync_protocol::{ContentHash, Uid};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::bed::limited;
use crate::collector::{Collector, Job};
use crate::rogue::{Peer, Rogue, keys};

const CONTENT: &[u8] = b"what the file says";

/// One job, and the text and content of its correct answer.
fn job() -> (Job, String, Vec<u8>) {
    let blob = keys().seal([7; 12], CONTENT).unwrap();
    let hash = ContentHash::of(CONTENT);
    let header = format!(r#"{{"hash":"{}","size":{},"pieces":1}}"#, keys().encode_hash(&hash), blob.len());
    (Job { path: "file.md".to_owned(), uid: Uid(1), hash, size: blob.len() as u64 }, header, blob)
}

/// Opens a session and receives its listing.
async fn listed(rogue: &Rogue) -> Result<Session, ClientError> {
    let mut session = limited(Session::open(&rogue.client, &rogue.target, 0, true)).await?;
    limited(session.listing(&mut |_| {})).await?;
    Ok(session)
}

/// Fetches the one file.
async fn fetch(rogue: &Rogue) -> (Result<FetchSummary, ClientError>, Option<FetchResult<Collector>>) {
    fetch_into(rogue, Collector::new(keys())).await
}

/// Fetches the one file into this collector.
async fn fetch_into(
    rogue: &Rogue,
    collector: Collector,
) -> (Result<FetchSummary, ClientError>, Option<FetchResult<Collector>>) {
    let (feed, jobs) = mpsc::channel(1);
    let (results, mut outcomes) = mpsc::channel(1);
    let pool = FetchPool {
        client: rogue.client.clone(),
        target: rogue.target.clone(),
        version: 1,
        options: FetchOptions::default(),
        receiver: Arc::new(collector),
        jobs,
        results,
        cancel: CancellationToken::new(),
        first_session: None,
    };
    feed.send(job().0).await.unwrap();
    drop(feed);
    limited(async { tokio::join!(pool.run(), outcomes.recv()) }).await
}

/// The error of a listing that the server's `script` spoils.
async fn spoiled_listing<F>(script: impl Fn(Peer) -> F + Send + Sync + 'static) -> ClientError
where
    F: Future<Output = ()> + Send + 'static,
{
    listed(&Rogue::start(script).await).await.unwrap_err()
}

/// A server that accepts the client and then sends these bytes instead of the listing.
async fn after_welcome(bytes: Vec<u8>) -> ClientError {
    spoiled_listing(move |mut peer| {
        let bytes = bytes.clone();
        async move {
            peer.text().await;
            peer.send(r#"{"res":"ok"}"#).await;
            peer.send_raw(&bytes).await;
            peer.until_gone().await;
        }
    })
    .await
}

fn is_protocol(error: &ClientError) -> bool {
    matches!(error, ClientError::Protocol { .. })
}

#[tokio::test]
async fn frames_that_break_the_rules_are_errors_and_take_no_memory() {
    let text = |payload: &[u8]| [&[0x81, u8::try_from(payload.len()).unwrap()][..], payload].concat();
    let cases: [(&str, Vec<u8>); 8] = [
        ("a frame of an exbibyte", vec![0x82, 127, 0x10, 0, 0, 0, 0, 0, 0, 0]),
        ("a frame beyond the limit", vec![0x82, 127, 0, 0, 0, 0, 1, 0, 0, 1]),
        ("a reserved opcode", vec![0x83, 0]),
        ("reserved bits", vec![0xf1, 0]),
        ("a masked frame", vec![0x81, 0x82, 1, 2, 3, 4, 5, 6]),
        ("a continuation of nothing", vec![0x80, 0]),
        ("a text that is not UTF-8", text(&[0xff, 0xfe])),
        ("a text that is no JSON", text(b"hello")),
    ];
    for (what, bytes) in cases {
        let error = after_welcome(bytes).await;
        assert!(is_protocol(&error), "{what}: {error:?}");
    }
}

#[tokio::test]
async fn a_message_of_many_fragments_is_bounded_as_a_whole() {
    // 2 MiB a fragment, without end.
    let mut fragments = vec![0x02, 127, 0, 0, 0, 0, 0, 0x20, 0, 0];
    fragments.resize(10 + (2 << 20), 0);
    let mut all = fragments.clone();
    for _ in 0..9 {
        let mut more = fragments.clone();
        more[0] = 0;
        all.extend(more);
    }
    let error = after_welcome(all).await;
    assert!(is_protocol(&error), "{error:?}");
}

#[tokio::test]
async fn a_listing_with_content_answers_or_nothing_but_its_opening_is_refused() {
    for spoil in ["binary", "answer", "long"] {
        let error = spoiled_listing(move |mut peer| async move {
            peer.text().await;
            peer.send(r#"{"res":"ok"}"#).await;
            match spoil {
                "binary" => peer.send_binary(vec![1, 2, 3]).await,
                "answer" => peer.send(r#"{"res":"ok"}"#).await,
                _ => peer.send(&format!(r#"{{"op":"x","pad":"{}"}}"#, "x".repeat(1 << 20))).await,
            }
            peer.until_gone().await;
        })
        .await;
        assert!(is_protocol(&error), "{spoil}: {error:?}");
    }
}

#[tokio::test]
async fn the_opening_must_be_answered_first_and_clearly() {
    for first in
        [r#"{"op":"push","uid":1,"path":"00"}"#, r#"{"op":"ready","version":3}"#, r#"{"res":"maybe"}"#, "{}"]
    {
        let error = spoiled_listing(move |mut peer| async move {
            peer.text().await;
            peer.send(first).await;
            peer.until_gone().await;
        })
        .await;
        assert!(is_protocol(&error), "{first}: {error:?}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_websocket_is_named_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"220 mail.example.com ESMTP\r\n").await;
        }
    });
    let rogue = Rogue::start(|mut peer| async move { peer.until_gone().await }).await;
    let target = obsync_client::SessionTarget { host, ..rogue.target.clone() };
    let error = limited(Session::open(&rogue.client, &target, 0, true)).await.unwrap_err();
    assert!(matches!(error, ClientError::Protocol { .. } | ClientError::ConnectionLost { .. }), "{error:?}");
}

#[tokio::test]
async fn the_version_is_the_highest_uid_received_whatever_ready_says() {
    for (list, version) in [
        (r#"{"op":"pong"}"#, 500),
        (r#"{"op":"push","uid":700,"path":"a"}"#, 700),
        (r#"{"op":"push","uid":400,"path":"a"}"#, 500),
        (r#"{"op":"push","uid":9007199254740993,"path":"a"}"#, 500),
    ] {
        let rogue = Rogue::start(move |mut peer| async move {
            peer.text().await;
            for text in [r#"{"res":"ok"}"#, list, r#"{"op":"ready","version":9007199254740992}"#] {
                peer.send(text).await;
            }
            peer.until_gone().await;
        })
        .await;
        let mut session = limited(Session::open(&rogue.client, &rogue.target, 500, false)).await.unwrap();
        assert_eq!(limited(session.listing(&mut |_| {})).await.unwrap(), version, "{list}");
        assert_eq!((session.version(), session.server_version()), (version, Some(1 << 53)), "{list}");
    }
}

#[tokio::test]
async fn a_silent_connection_is_asked_for_a_sign_of_life_and_kept_while_it_gives_one() {
    let pings = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pings);
    let quick = |mut options: ClientOptions| {
        options.timeouts.ping_after = Duration::from_millis(20);
        options.timeouts.silence = Duration::from_secs(10);
        options
    };
    let rogue = Rogue::with(quick, move |mut peer| {
        let pings = Arc::clone(&counter);
        async move {
            peer.text().await;
            peer.send(r#"{"res":"ok"}"#).await;
            // The listing comes after five pings, one after the other.
            while let Some(text) = peer.text().await {
                assert_eq!(text, r#"{"op":"ping"}"#);
                peer.send(r#"{"op":"pong"}"#).await;
                if pings.fetch_add(1, Ordering::Relaxed) == 4 {
                    peer.send(r#"{"op":"ready","version":1}"#).await;
                }
            }
        }
    })
    .await;
    listed(&rogue).await.unwrap();
    assert!(pings.load(Ordering::Relaxed) >= 5);
}

#[tokio::test]
async fn pings_go_on_while_the_destination_is_slow() {
    const PATIENCE: Duration = Duration::from_secs(1);
    let quick = |mut options: ClientOptions| {
        options.timeouts.ping_after = Duration::from_millis(20);
        options
    };
    let pings = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&pings);
    let rogue = Rogue::with(quick, move |mut peer| {
        let pings = Arc::clone(&counter);
        async move {
            let (_, header, blob) = job();
            peer.welcome().await;
            while peer.text().await.is_some_and(|text| !text.contains("pull")) {}
            peer.send(&header.replace(r#""pieces":1"#, r#""pieces":2"#)).await;
            let (first, second) = blob.split_at(blob.len() / 2);
            peer.send_binary(first.to_vec()).await;
            // As a server or a middlebox that cuts idle connections.
            while pings.load(Ordering::Relaxed) < 10 {
                let Ok(Some(text)) = tokio::time::timeout(PATIENCE, peer.text()).await else { return };
                assert_eq!(text, r#"{"op":"ping"}"#);
                pings.fetch_add(1, Ordering::Relaxed);
                peer.send(r#"{"op":"pong"}"#).await;
            }
            peer.send_binary(second.to_vec()).await;
            peer.until_gone().await;
        }
    })
    .await;
    let mut collector = Collector::new(keys());
    collector.slow = Duration::from_millis(300);
    let (run, result) = fetch_into(&rogue, collector).await;
    assert_eq!(result.unwrap().outcome.unwrap(), CONTENT);
    assert_eq!((rogue.connections(), run.unwrap().reconnects), (1, 0));
    assert!(pings.load(Ordering::Relaxed) >= 10);
}

#[tokio::test]
async fn a_connection_without_any_sign_of_life_is_dead() {
    let quick = |mut options: ClientOptions| {
        options.timeouts.ping_after = Duration::from_millis(20);
        options.timeouts.silence = Duration::from_millis(300);
        options
    };
    let rogue = Rogue::with(quick, |mut peer| async move {
        peer.text().await;
        peer.send(r#"{"res":"ok"}"#).await;
        peer.until_gone().await;
    })
    .await;
    let error = listed(&rogue).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::TimedOut { what, .. } if what.contains("sign of life")),
        "{error:?}"
    );
}

#[tokio::test]
async fn signs_of_life_do_not_replace_an_answer() {
    let quick = |mut options: ClientOptions| {
        options.timeouts.answer = Duration::from_millis(300);
        options
    };
    let rogue = Rogue::with(quick, |mut peer| async move {
        peer.welcome().await;
        loop {
            peer.send(r#"{"op":"pong"}"#).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let mut session = listed(&rogue).await.unwrap();
    let error = limited(session.size()).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::TimedOut { what, .. } if what.contains("vault's size")),
        "{error:?}"
    );
}

#[tokio::test]
async fn signs_of_life_do_not_replace_a_piece_of_content() {
    let quick = |mut options: ClientOptions| {
        options.timeouts.silence = Duration::from_millis(300);
        options
    };
    let rogue = Rogue::with(quick, |mut peer| async move {
        peer.welcome().await;
        peer.text().await;
        peer.send(&job().1).await;
        loop {
            peer.send(r#"{"op":"pong"}"#).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let (_, result) = fetch(&rogue).await;
    let outcome = result.unwrap().outcome;
    assert!(matches!(&outcome, Err(FetchFailure::Transport(ClientError::TimedOut { .. }))), "{outcome:?}");
}

#[tokio::test]
async fn a_slow_piece_is_not_taken_for_silence() {
    // At any speed.
    let any_speed = |options| ClientOptions { min_speed: 0, ..options };
    let rogue = Rogue::with_clock(any_speed, |mut peer, clock| async move {
        peer.welcome().await;
        peer.text().await;
        let (_, header, blob) = job();
        peer.send(&header).await;
        let frame = [&[0x82, u8::try_from(blob.len()).unwrap()][..], &blob].concat();
        // A few bytes at a time: far longer in all than the connection may be silent.
        for part in frame.chunks(4) {
            peer.send_raw(part).await;
            pass(&clock, Duration::from_secs(15)).await;
        }
        peer.until_gone().await;
    })
    .await;
    let (summary, result) = fetch(&rogue).await;
    assert_eq!(result.unwrap().outcome.unwrap(), CONTENT);
    assert_eq!((summary.unwrap().reconnects, rogue.connections()), (0, 1));
}

#[tokio::test]
async fn an_overloaded_server_is_asked_for_a_content_again_after_a_pause() {
    let refusals = Arc::new(AtomicUsize::new(0));
    let rogue = Rogue::start(move |mut peer| {
        let refusals = Arc::clone(&refusals);
        async move {
            peer.welcome().await;
            while peer.text().await.is_some() {
                if refusals.fetch_add(1, Ordering::Relaxed) < 3 {
                    peer.send(r#"{"res":"err","msg":"We are overloaded"}"#).await;
                } else {
                    let (_, header, blob) = job();
                    peer.send(&header).await;
                    peer.send_binary(blob).await;
                }
            }
        }
    })
    .await;
    let (summary, result) = fetch(&rogue).await;
    assert_eq!(result.unwrap().outcome.unwrap(), CONTENT);
    assert_eq!((summary.unwrap().requests, rogue.connections()), (4, 1));
}

#[tokio::test]
async fn a_server_that_stays_overloaded_ends_the_run_and_no_file_is_blamed() {
    let quick = |mut options: ClientOptions| {
        options.timeouts.overloaded = Duration::from_millis(200);
        options
    };
    let rogue = Rogue::with(quick, |mut peer| async move {
        peer.welcome().await;
        while peer.text().await.is_some() {
            peer.send(r#"{"err":"overloaded"}"#).await;
        }
    })
    .await;
    let (summary, result) = fetch(&rogue).await;
    assert!(matches!(summary, Err(ClientError::OverloadedForLong { .. })), "{summary:?}");
    assert!(result.is_none());
}

/// The failure of the one file, for which the server sends this announcement and one piece of `size` bytes.
async fn announced(header: String, size: usize) -> FetchFailure<String> {
    let rogue = Rogue::start(move |mut peer| {
        let header = header.clone();
        async move {
            peer.welcome().await;
            while peer.text().await.is_some() {
                peer.send(&header).await;
                // A part of the content comes, too.
                peer.send_binary(vec![0; size]).await;
            }
        }
    })
    .await;
    let (summary, result) = fetch(&rogue).await;
    assert!(summary.is_ok(), "{summary:?}");
    result.unwrap().outcome.unwrap_err()
}

#[tokio::test]
async fn a_content_of_another_size_than_listed_is_refused_before_its_first_piece() {
    let (job, _, _) = job();
    let hash = keys().encode_hash(&job.hash);
    for size in [0, job.size - 1, job.size + 1, 1 << 52] {
        let failure =
            announced(format!(r#"{{"hash":"{hash}","size":{size},"pieces":1}}"#), size.min(100) as usize)
                .await;
        let refused = matches!(
            &failure,
            FetchFailure::Transport(ClientError::WrongSize { listed, offered, .. })
                if (*listed, *offered) == (job.size, size)
        );
        assert!(refused, "{failure:?}");
    }
}

#[tokio::test]
async fn a_content_in_more_pieces_than_any_honest_one_is_refused_before_its_first_piece() {
    let (job, _, _) = job();
    let hash = keys().encode_hash(&job.hash);
    for pieces in [0, 1025, 1_u64 << 40] {
        let failure =
            announced(format!(r#"{{"hash":"{hash}","size":{},"pieces":{pieces}}}"#, job.size), 0).await;
        assert!(matches!(failure, FetchFailure::Transport(ClientError::WrongPieces { .. })), "{failure:?}");
    }
}

/// Fetches the one file; the run ends because of its speed, without a result for the file.
async fn is_too_slow(rogue: &Rogue) {
    let (summary, result) = fetch(rogue).await;
    assert!(matches!(summary, Err(ClientError::TooSlow { least: 1024, .. })), "{summary:?}");
    assert!(result.is_none());
}

/// Advances the time after all sent bytes are read, and lets the client notice.
async fn pass(clock: &SetClock, by: Duration) {
    tokio::time::sleep(Duration::from_millis(2)).await;
    clock.advance(by);
    tokio::time::sleep(Duration::from_millis(2)).await;
}

/// The least speed applies to each second; no other limit comes near that.
fn measured_each_second(mut options: ClientOptions) -> ClientOptions {
    options.timeouts.speed_over = Duration::from_secs(1);
    options
}

#[tokio::test]
async fn a_server_that_trickles_ends_the_run_and_no_file_is_blamed() {
    let rogue = Rogue::with_clock(measured_each_second, |mut peer, clock| async move {
        peer.welcome().await;
        peer.text().await;
        let (_, header, blob) = job();
        peer.send(&header).await;
        peer.send_raw(&[0x82, u8::try_from(blob.len()).unwrap()]).await;
        for byte in blob.chunks(1) {
            peer.send_raw(byte).await;
            pass(&clock, Duration::from_millis(200)).await;
        }
        peer.until_gone().await;
    })
    .await;
    is_too_slow(&rogue).await;
}

#[tokio::test]
async fn texts_that_nobody_asked_for_do_not_hide_that_content_trickles() {
    let rogue = Rogue::with_clock(measured_each_second, |mut peer, clock| async move {
        peer.welcome().await;
        peer.text().await;
        let (_, header, blob) = job();
        peer.send(&header.replace(r#""pieces":1"#, &format!(r#""pieces":{}"#, blob.len()))).await;
        let noise = format!(r#"{{"op":"noise","text":"{}"}}"#, "x".repeat(2000));
        for byte in blob {
            peer.send_binary(vec![byte]).await;
            peer.send(&noise).await;
            pass(&clock, Duration::from_millis(200)).await;
        }
        peer.until_gone().await;
    })
    .await;
    is_too_slow(&rogue).await;
}

#[tokio::test]
async fn changes_that_nobody_asked_for_do_not_hide_that_no_answer_comes() {
    let rogue = Rogue::with_clock(measured_each_second, |mut peer, clock| async move {
        peer.welcome().await;
        peer.text().await;
        let path = keys().encode_text(&"x".repeat(1000)).unwrap();
        for uid in 2..300 {
            peer.send(&format!(r#"{{"op":"push","uid":{uid},"path":"{path}","folder":true}}"#)).await;
            pass(&clock, Duration::from_millis(100)).await;
        }
    })
    .await;
    is_too_slow(&rogue).await;
}

#[tokio::test]
async fn texts_that_say_nothing_do_not_hide_that_a_listing_trickles() {
    let rogue = Rogue::with_clock(measured_each_second, |mut peer, clock| async move {
        peer.text().await;
        peer.send(r#"{"res":"ok"}"#).await;
        let noise = format!(r#"{{"op":"noise","text":"{}"}}"#, "x".repeat(2000));
        for uid in 1.. {
            let path = keys().encode_text(&format!("{uid}.md")).unwrap();
            peer.send(&format!(r#"{{"op":"push","uid":{uid},"path":"{path}","folder":true}}"#)).await;
            for _ in 0..5 {
                peer.send(&noise).await;
                pass(&clock, Duration::from_millis(100)).await;
            }
        }
    })
    .await;
    let error = listed(&rogue).await.unwrap_err();
    assert!(matches!(error, ClientError::TooSlow { least: 1024, .. }), "{error:?}");
}

#[tokio::test]
async fn a_listing_of_which_no_entry_comes_is_given_up() {
    let impatient = |mut options: ClientOptions| {
        options.timeouts.stall = Duration::from_millis(200);
        options
    };
    let rogue = Rogue::with(impatient, |mut peer| async move {
        peer.text().await;
        peer.send(r#"{"res":"ok"}"#).await;
        loop {
            peer.send(r#"{"op":"noise"}"#).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let error = listed(&rogue).await.unwrap_err();
    assert!(matches!(error, ClientError::NoListing { .. }), "{error:?}");
}

/// Fetches 64 files from a server that answers correctly on the first connection, and runs `script` on all
/// others once they are accepted. Returns the time and the number of connections; asserts that each file
/// arrives.
async fn fetch_beside<F>(script: impl Fn(Peer) -> F + Clone + Send + Sync + 'static) -> (Duration, usize)
where
    F: Future<Output = ()> + Send + 'static,
{
    fetch_once(CancellationToken::new(), Duration::ZERO, script).await
}

/// The same; the first answer is sent once `is_free` is cancelled, or after `patience`.
async fn fetch_once<F>(
    is_free: CancellationToken,
    patience: Duration,
    script: impl Fn(Peer) -> F + Clone + Send + Sync + 'static,
) -> (Duration, usize)
where
    F: Future<Output = ()> + Send + 'static,
{
    let count = Arc::new(AtomicUsize::new(0));
    let rogue = Rogue::start(move |mut peer| {
        let (number, script) = (count.fetch_add(1, Ordering::Relaxed), script.clone());
        let is_free = is_free.clone();
        async move {
            if number > 0 {
                peer.text().await;
                peer.send(r#"{"res":"ok"}"#).await;
                return script(peer).await;
            }
            peer.welcome().await;
            let (_, header, blob) = job();
            while peer.text().await.is_some() {
                let _ = tokio::time::timeout(patience, is_free.cancelled()).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                peer.send(&header).await;
                peer.send_binary(blob.clone()).await;
            }
        }
    })
    .await;
    let session = listed(&rogue).await.unwrap();
    let (feed, jobs) = mpsc::channel(64);
    let (results, mut outcomes) = mpsc::channel(64);
    for _ in 0..64 {
        feed.send(job().0).await.unwrap();
    }
    drop(feed);
    let pool = FetchPool {
        client: rogue.client.clone(),
        target: rogue.target.clone(),
        version: 1,
        options: FetchOptions::default(),
        receiver: Arc::new(Collector::new(keys())),
        jobs,
        results,
        cancel: CancellationToken::new(),
        first_session: Some(session),
    };
    let begun = std::time::Instant::now();
    limited(pool.run()).await.unwrap();
    let took = begun.elapsed();
    let mut fetched = 0;
    while let Some(result) = outcomes.recv().await {
        assert!(result.outcome.is_ok());
        fetched += 1;
    }
    assert_eq!(fetched, 64);
    (took, rogue.connections())
}

#[tokio::test]
async fn a_run_that_is_done_does_not_wait_for_the_listing_of_a_further_connection() {
    let (took, connections) = fetch_beside(|mut peer| async move {
        // Without end, as long as the client listens.
        for uid in 2..100_000 {
            peer.send(&format!(r#"{{"op":"push","uid":{uid},"path":"a"}}"#)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // The listing takes 100 s.
    assert!(took < Duration::from_secs(30) && connections > 1, "{took:?}, {connections} connections");
}

#[tokio::test]
async fn a_further_connection_whose_listing_does_not_end_is_given_up() {
    let passed_over = Arc::new(AtomicUsize::new(0));
    let (sent, given_up) = (Arc::clone(&passed_over), CancellationToken::new());
    let over = given_up.clone();
    let (took, _) = fetch_once(given_up, Duration::from_secs(60), move |mut peer| {
        let (sent, over) = (Arc::clone(&sent), over.clone());
        async move {
            for uid in 2..1_000_000 {
                if !peer.is_sent(&format!(r#"{{"op":"push","uid":{uid},"path":"a"}}"#)).await {
                    return over.cancel();
                }
                sent.fetch_max(uid, Ordering::Relaxed);
            }
            peer.until_gone().await;
        }
    })
    .await;
    assert!(took < Duration::from_secs(60), "{took:?}");
    let most = passed_over.load(Ordering::Relaxed);
    // Entries in transit when the connection was given up are counted as well.
    assert!((100_000..250_000).contains(&most), "{most} entries were taken");
}

#[tokio::test]
async fn a_frame_above_four_mebibytes_ends_a_further_connection_and_no_file() {
    let (_, connections) = fetch_beside(|mut peer| async move {
        peer.send(r#"{"op":"ready","version":1}"#).await;
        while peer.text().await.is_some() {
            let header = job().1;
            peer.send(&header).await;
            peer.send_binary(vec![0; (4 << 20) + 1]).await;
        }
    })
    .await;
    assert!(connections > 1);
}

#[tokio::test]
async fn a_farewell_with_a_reason_is_passed_on() {
    let error = spoiled_listing(|mut peer| async move {
        peer.text().await;
        peer.send(r#"{"res":"ok"}"#).await;
        // 1012, "restarting".
        peer.send_raw(&[&[0x88, 12, 0x03, 0xf4][..], b"restarting"].concat()).await;
        peer.until_gone().await;
    })
    .await;
    assert!(
        matches!(&error, ClientError::ConnectionLost { reason } if reason.contains("restarting")),
        "{error:?}"
    );
}
