//! Followers that are not told, or not in time.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use obsync_client::{ClientOptions, Timeouts};
use obsync_conformance::SetClock;
use obsync_core::{NoProgress, PullSource, Watch};
use tokio::sync::Notify;

use super::{T, has, in_step};
use crate::bench::source_with;
use crate::following::{Follower, Told, until};

/// Sees nothing, and says so.
struct Blind;

#[async_trait]
impl Watch for Blind {
    async fn changed(&mut self) {
        std::future::pending().await
    }

    fn blind(&self) -> Option<String> {
        Some("it is on a network drive".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn blind_watchers_are_made_up_for_by_scans_and_are_said() {
    let bench = in_step(&[("note.md", "text")]).await;
    let told = Arc::new(Told::default());
    let follower = Follower::watching(&bench, Box::new(Blind), told.clone(), |options| {
        options.scan_every = Duration::from_secs(3600);
        options.scan_every_unwatched = Duration::from_millis(100);
    });
    follower.at_rest(1).await;
    for number in 0..3 {
        let text = format!("text {number}");
        bench.edit("note.md", &text);
        until("it is in the vault", || has(&bench, "note.md", &text)).await;
    }
    follower.end().await;
    let told = told.0.lock().unwrap();
    let about_it = |begins: &str| {
        told.iter()
            .filter(|text| text.starts_with(begins) && text.contains("it is on a network drive"))
            .count()
    };
    assert_eq!((about_it("not every change"), about_it("unwatched: ")), (1, 1), "{told:?}");
}

/// Hands bytes on between a client and the server until it is told to do so no more, without a word to either.
struct Wire {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

const TEN_MINUTES: Duration = Duration::from_secs(600);

impl Wire {
    /// The bench's vault by this way.
    async fn source(&self, clock: &Arc<SetClock>, timeouts: Timeouts) -> PullSource {
        let change = |options: &mut ClientOptions| {
            options.timeouts = timeouts;
            options.clock = clock.clone();
        };
        let mut source = source_with(&format!("http://{}", self.address), change).await;
        source.vault.host = self.address.to_string();
        source
    }

    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, is_cut) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let cut = is_cut.clone();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(server).unwrap());
                let was_cut = cut.load(Ordering::Relaxed);
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let cut = cut.clone();
                    thread::spawn(move || {
                        Self::hand_on(from, to, &|| !was_cut && cut.load(Ordering::Relaxed))
                    });
                }
            }
        });
        Wire { address, is_cut }
    }

    fn hand_on(mut from: TcpStream, mut to: TcpStream, is_cut: &dyn Fn() -> bool) {
        let mut bytes = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes) {
            // What comes then is swallowed.
            if !is_cut() && to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        if !is_cut() {
            let _ = to.shutdown(std::net::Shutdown::Write);
        }
    }
}

/// Tells that something was changed as often as it is told to.
struct ToldOf(Arc<Notify>);

#[async_trait]
impl Watch for ToldOf {
    async fn changed(&mut self) {
        self.0.notified().await;
    }
}

/// A follower that does nothing for ten minutes while its socket dies without a word, and that waits far longer for an answer over
/// it. What wakes it: its clock, or a change that its user made meanwhile.
async fn away_for_ten_minutes(comes_back: impl FnOnce(&SetClock, &Notify)) {
    let mut bench = in_step(&[("note.md", "a\nb\nc\n"), ("gone.md", "g")]).await;
    let wire = Wire::to(bench.server.address());
    let hour = Duration::from_secs(3600);
    let timeouts = Timeouts { ping_after: hour, silence: hour, ..Timeouts::default() };
    let (clock, changed) = (SetClock::new(), Arc::new(Notify::new()));
    bench.source = wire.source(&clock, timeouts).await;
    let follower =
        Follower::watching(&bench, Box::new(ToldOf(changed.clone())), Arc::new(NoProgress), |options| {
            options.scan_every = hour;
        });
    follower.at_rest(1).await;
    let before = bench.server.stats().websocket_connections;
    wire.is_cut.store(true, Ordering::Relaxed);
    bench.vault.as_device("B").write("note.md", "a\nb\nC\n", T + 1000).unwrap();
    bench.vault.as_device("B").write("new.md", "new", T + 1000).unwrap();
    bench.edit("note.md", "A\nb\nc\n");
    bench.edit("mine.md", "mine");
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    comes_back(&clock, &changed);
    until("it is there", || has(&bench, "mine.md", "mine") && !has(&bench, "gone.md", "g")).await;
    // Both edits of one note are in it: the other one was listed before this one was sent.
    until("it is merged", || has(&bench, "note.md", "A\nb\nC\n")).await;
    follower.at_rest(2).await;
    assert!(bench.server.stats().websocket_connections > before, "over a new session");
    follower.end().await;
    bench.assert_in_step().await;
    assert_eq!(bench.files(), ["mine.md", "new.md", "note.md"], "no copy was needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn asleep_a_follower_that_was_stopped_lists_over_a_new_session_before_it_pushes() {
    away_for_ten_minutes(|clock, _| clock.advance(TEN_MINUTES)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asleep_what_was_changed_here_meanwhile_does_not_go_over_the_dead_socket() {
    // The computer slept, and the clock is not looked at yet.
    away_for_ten_minutes(|clock, changed| {
        clock.suspend(TEN_MINUTES);
        changed.notify_one();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn asleep_behind_a_dead_socket_a_follower_comes_back_and_lists_before_it_pushes() {
    let mut bench = in_step(&[("note.md", "text"), ("gone.md", "g")]).await;
    let wire = Wire::to(bench.server.address());
    let (clock, timeouts) = (SetClock::new(), Timeouts::default());
    let (ping_after, silence) = (timeouts.ping_after, timeouts.silence);
    bench.source = wire.source(&clock, timeouts).await;
    let follower = Follower::begin(&bench, true);
    follower.at_rest(1).await;
    // The line is dead from here on, and nobody says so. Both sides go on.
    wire.is_cut.store(true, Ordering::Relaxed);
    bench.vault.write("note.md", "edited there", T + 1000).unwrap();
    bench.vault.write("new.md", "new", T + 1000).unwrap();
    bench.edit("mine.md", "mine");
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    let sessions = || bench.server.stats().websocket_connections;
    let (before, mut passed) = (sessions(), Duration::ZERO);
    // In steps that are no jump of the clock.
    while passed < silence {
        assert_eq!(sessions(), before, "{passed:?}");
        clock.until_slept(ping_after).await;
        clock.advance(ping_after);
        passed += ping_after;
    }
    clock
        .passing(async {
            until("it is here", || {
                fs::read_to_string(bench.dest().join("note.md")).is_ok_and(|text| text == "edited there")
            })
            .await;
            until("it is there", || has(&bench, "mine.md", "mine")).await;
            until("it is gone there", || !has(&bench, "gone.md", "g")).await;
        })
        .await;
    follower.end().await;
    bench.sync().await;
    bench.assert_in_step().await;
    assert!(has(&bench, "note.md", "edited there"));
}
