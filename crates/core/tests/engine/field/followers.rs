//! Followers that get no notice of a change, or get it late.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use obsync_client::{ClientOptions, Session, SessionTarget, Timeouts};
use obsync_conformance::SetClock;
use obsync_core::{FollowOptions, FollowWay, MaxDelete, NoProgress, PullSource, StateStore, Watch};
use obsync_protocol::{CONTENT_OVERHEAD, Uid, VaultPath};
use obsync_testkit::Chance;
use tokio::sync::{Notify, mpsc};

use super::{T, deletions_there, has, in_step};
use crate::bench::{Bench, source_with};
use crate::following::{Follower, Notices, until};

/// A watch that sees nothing, and reports that.
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
    let told = Arc::new(Notices::default());
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

/// Forwards bytes between a client and the server until it is cut, without notice to either.
struct Wire {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

const TEN_MINUTES: Duration = Duration::from_secs(600);
/// Interval at which a follower compares the clocks.
const TICK: Duration = Duration::from_secs(10);

impl Wire {
    /// The bench's vault through this connection.
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
            // Later bytes are dropped.
            if !is_cut() && to.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
        if !is_cut() {
            let _ = to.shutdown(std::net::Shutdown::Write);
        }
    }
}

/// Reports a change for each notification.
struct NotifiedWatch(Arc<Notify>);

#[async_trait]
impl Watch for NotifiedWatch {
    async fn changed(&mut self) {
        self.0.notified().await;
    }
}

/// A follower that does nothing for ten minutes while its socket dies without notice, and that waits far
/// longer for an answer over it. It is woken by its clock, or by a change that its user made meanwhile.
async fn away_for_ten_minutes(comes_back: impl FnOnce(&SetClock, &Notify)) {
    let mut bench = in_step(&[("note.md", "a\nb\nc\n"), ("gone.md", "g")]).await;
    let wire = Wire::to(bench.server.address());
    let hour = Duration::from_secs(3600);
    let timeouts = Timeouts { ping_after: hour, silence: hour, ..Timeouts::default() };
    let (clock, changed) = (SetClock::new(), Arc::new(Notify::new()));
    bench.source = wire.source(&clock, timeouts).await;
    let follower = Follower::watching(
        &bench,
        Box::new(NotifiedWatch(changed.clone())),
        Arc::new(NoProgress),
        |options| {
            options.scan_every = hour;
        },
    );
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
    // The note has both edits: the other one was listed before this one was sent.
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
    // The computer slept, and the clock has not been checked yet.
    away_for_ten_minutes(|clock, changed| {
        clock.suspend(TEN_MINUTES);
        changed.notify_one();
    })
    .await;
}

/// The pauses of an outage have grown to five minutes when the computer falls asleep.
#[tokio::test(flavor = "multi_thread")]
async fn asleep_in_the_midst_of_an_outage_a_follower_tries_again_when_it_wakes() {
    const PAUSE: Duration = Duration::from_secs(300);
    let mut bench = in_step(&[("note.md", "text")]).await;
    let clock = bench.set_clock().await;
    let follower = Follower::watching(
        &bench,
        Box::new(NotifiedWatch(Arc::default())),
        Arc::new(NoProgress),
        |options| {
            options.retry.min_delay = PAUSE;
        },
    );
    follower.at_rest(1).await;
    bench.server.faults().update(|faults| faults.refuse_upgrade = Chance::always());
    bench.server.disconnect_all();
    let is_away = || follower.states().iter().any(|state| state.contains("ing: "));
    until("it waits for the service", is_away).await;
    bench.server.faults().clear();
    bench.vault.as_device("B").write("note.md", "edited there", T + 1000).unwrap();
    clock.until_slept(TICK).await;
    clock.suspend(TEN_MINUTES);
    // The first look at the clocks.
    clock.advance(TICK);
    let note = bench.dest().join("note.md");
    until("it is here", || fs::read_to_string(&note).is_ok_and(|text| text == "edited there")).await;
    follower.at_rest(2).await;
    follower.end().await;
    bench.assert_in_step().await;
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
    // The connection is dead from here on, without notice. Both sides continue.
    wire.is_cut.store(true, Ordering::Relaxed);
    bench.vault.write("note.md", "edited there", T + 1000).unwrap();
    bench.vault.write("new.md", "new", T + 1000).unwrap();
    bench.edit("mine.md", "mine");
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    let sessions = || bench.server.stats().websocket_connections;
    let (before, mut passed) = (sessions(), Duration::ZERO);
    // In steps too small to be a jump of the clock.
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

/// Reports the paths that it receives.
struct Reports(mpsc::UnboundedReceiver<VaultPath>, HashSet<VaultPath>);

#[async_trait]
impl Watch for Reports {
    async fn changed(&mut self) {
        match self.0.recv().await {
            Some(path) => drop(self.1.insert(path)),
            None => std::future::pending().await,
        }
    }

    fn touched(&mut self) -> Option<HashSet<VaultPath>> {
        Some(std::mem::take(&mut self.1))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_copy_a_follower_sends_nothing_when_its_own_writes_are_reported_late() {
    let bench = in_step(&[("note.md", "text")]).await;
    let (report, reports) = mpsc::unbounded_channel();
    let watch = Box::new(Reports(reports, HashSet::new()));
    let follower = Follower::watching(&bench, watch, Arc::new(NoProgress), |_| {});
    follower.at_rest(1).await;
    let note = bench.dest().join("note.md");
    for number in 0..3 {
        let text = format!("{number}: another device wrote this");
        bench.vault.as_device("B").write("note.md", &text, T + 1 + number).unwrap();
        until("it is here", || fs::read_to_string(&note).is_ok_and(|found| found == text)).await;
    }
    let runs = follower.runs();
    // The run's own write is reported only now; and the file is touched.
    report.send(VaultPath::parse("note.md").unwrap()).unwrap();
    until("it looks", || follower.runs() > runs).await;
    fs::File::options().write(true).open(&note).unwrap().set_modified(SystemTime::now()).unwrap();
    report.send(VaultPath::parse("note.md").unwrap()).unwrap();
    until("it looks again", || follower.runs() > runs + 1).await;
    // While another version is being sent.
    bench.vault.as_device("B").write("note.md", "the newest", T + 9).unwrap();
    report.send(VaultPath::parse("note.md").unwrap()).unwrap();
    until("it is here", || fs::read_to_string(&note).is_ok_and(|found| found == "the newest")).await;
    follower.end().await;
    bench.sync().await;
    assert_eq!(bench.server.stats().pushes, 0);
    bench.assert_in_step().await;
    assert_eq!(bench.files(), ["note.md"]);
}

/// A follower at work while a checkout of another branch, and then of the first again, rewrites 1,000 notes;
/// `stays` later it is taken back.
async fn another_branch(stays: Duration) {
    let bench = Bench::new().await;
    let name = |number: usize| format!("{}/{number}.md", number % 10);
    for number in 0..1000 {
        bench.vault.write(&name(number), format!("note {number}"), T).unwrap();
    }
    bench.sync().await;
    // With the limits that are usual.
    let usual = |options: &mut FollowOptions| {
        if let FollowWay::Sync(sync) = &mut options.way {
            sync.max_delete_in_vault = MaxDelete::InVault;
        }
    };
    let follower = Follower::at_work_with(&bench, usual).await;
    // git checkout other: 800 files change, 100 are removed, and the lock goes when it is done. Then git
    // checkout back.
    for number in 0..800 {
        bench.edit(name(number), &format!("of the other branch {number}"));
    }
    (800..900).for_each(|number| fs::remove_file(bench.dest().join(name(number))).unwrap());
    tokio::time::sleep(stays).await;
    for number in (800..900).chain(0..800) {
        bench.edit(name(number), &format!("note {number}"));
    }
    bench.edit("after.md", "a");
    until("it goes on", || has(&bench, "after.md", "a")).await;
    follower.end().await;
    bench.sync().await;
    let texts = bench.vault.contents().unwrap();
    assert_eq!((texts.len(), bench.files().len()), (1002, 1002));
    assert!((0..1000).all(|number| texts[&name(number)] == format!("note {number}").as_bytes()));
    assert_eq!(bench.state().load().await.unwrap().version, bench.vault.version().0);
    // The first of them may be sent before there are so many that all wait; deletions are never sent.
    assert_eq!(deletions_there(&bench).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_are_not_notes_another_branch_for_half_of_the_quiet_time_deletes_nothing() {
    another_branch(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_are_not_notes_another_branch_for_five_seconds_deletes_nothing_and_is_taken_back() {
    another_branch(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_are_not_notes_another_branch_that_stays_for_long_is_taken_back_whole() {
    let bench = Bench::new().await;
    for number in 0..300 {
        bench.vault.write(&format!("{number}.md"), format!("note {number}"), T).unwrap();
    }
    bench.sync().await;
    let follower = Follower::of_folder(&bench, Duration::ZERO);
    follower.at_rest(1).await;
    for number in 0..240 {
        bench.edit(format!("{number}.md"), &format!("of the other branch {number}"));
    }
    (240..270).for_each(|number| fs::remove_file(bench.dest().join(format!("{number}.md"))).unwrap());
    until("it is in the vault", || {
        has(&bench, "239.md", "of the other branch 239") && bench.vault.contents().unwrap().len() == 270
    })
    .await;
    (0..270).for_each(|number| bench.edit(format!("{number}.md"), &format!("note {number}")));
    until("it is taken back", || {
        let texts = bench.vault.contents().unwrap();
        texts.len() == 300 && (0..300).all(|n| texts[&format!("{n}.md")] == format!("note {n}").as_bytes())
    })
    .await;
    follower.end().await;
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(bench.files().len(), 300);
}

/// A file that is being written at the second scan of a run is left to the next one, though it was calm when
/// the run began.
#[tokio::test(flavor = "multi_thread")]
async fn half_written_what_begins_to_change_between_two_looks_waits() {
    const LOOK: Duration = Duration::from_secs(2);
    let mut bench = in_step(&[("gone.md", "g"), ("log.md", "calm"), ("old.md", "moved")]).await;
    let (clock, changed) = (bench.set_clock().await, Arc::new(Notify::new()));
    let watch = Box::new(NotifiedWatch(changed.clone()));
    let follower = Follower::watching(&bench, watch, Arc::new(NoProgress), |options| {
        if let FollowWay::Sync(sync) = &mut options.way {
            sync.second_look = LOOK;
        }
    });
    follower.at_rest(1).await;
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    fs::rename(bench.dest().join("old.md"), bench.dest().join("new.md")).unwrap();
    bench.edit("calm.md", "was here before");
    changed.notify_one();
    clock.until_slept(LOOK).await;
    bench.edit("log.md", "half of a line");
    bench.edit("begun.md", "half of a note");
    clock.advance(LOOK);
    until("the second look is over", || !has(&bench, "gone.md", "g") && has(&bench, "new.md", "moved")).await;
    follower.at_rest(2).await;
    assert!(has(&bench, "log.md", "calm") && has(&bench, "calm.md", "was here before"));
    assert!(!has(&bench, "begun.md", "half of a note"));
    bench.edit("log.md", "a whole line");
    bench.edit("begun.md", "a whole note");
    changed.notify_one();
    let is_sent = || has(&bench, "log.md", "a whole line") && has(&bench, "begun.md", "a whole note");
    until("they are sent", is_sent).await;
    follower.end().await;
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(versions_of(&bench, "log.md").await.len(), 2, "no half of it was ever sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn save_by_rename_of_sed_and_a_file_that_is_empty_for_a_moment_leave_nothing_in_the_vault() {
    let bench = in_step(&[("note.md", "number 0\n"), ("cut.md", "a text of some length\n")]).await;
    let follower = Follower::at_work(&bench).await;
    let before = bench.server.stats().pushes;
    for number in 0..20 {
        let script = format!("s/number {number}/number {}/", number + 1);
        let sed = std::process::Command::new("sed");
        let status = { sed }.arg("-i").arg(script).arg(bench.dest().join("note.md")).status().unwrap();
        assert!(status.success());
    }
    // Truncated, written 50 ms later.
    let cut = fs::File::options().write(true).open(bench.dest().join("cut.md")).unwrap();
    cut.set_len(0).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    bench.edit("cut.md", "another text of some length\n");
    drop(cut);
    until("sed is done", || has(&bench, "note.md", "number 20\n")).await;
    until("it is written", || has(&bench, "cut.md", "another text of some length\n")).await;
    follower.end().await;
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(bench.files(), ["cut.md", "note.md", "watched.md"]);
    // The first of sed's twenty files may be sent at once, and one more while the run scans; the empty file
    // is never sent.
    let pushes = bench.server.stats().pushes - before;
    assert!((2..=4).contains(&pushes), "{pushes}");
    let history = versions_of(&bench, "cut.md").await;
    assert!(history.iter().all(|size| *size > 0), "{history:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn save_by_rename_that_creates_the_note_300_ms_after_it_was_deleted_is_one_change() {
    let bench = in_step(&[("note.md", "first\n"), ("other.md", "o"), ("kept.md", "k")]).await;
    let follower = Follower::at_work(&bench).await;
    // With nothing else to do, and while other news of both sides makes it scan.
    for (is_busy, text) in [(false, "second\n"), (true, "the third\n")] {
        let before = bench.vault.version().0;
        fs::remove_file(bench.dest().join("note.md")).unwrap();
        if is_busy {
            bench.vault.as_device("B").write("there.md", "there", T + 1000).unwrap();
            bench.edit("other.md", "edited");
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        bench.edit("note.md", text);
        until("it is sent", || has(&bench, "note.md", text)).await;
        until("the rest, too", || !is_busy || has(&bench, "other.md", "edited")).await;
        follower.at_rest(1).await;
        assert_eq!(bench.vault.version().0 - before, if is_busy { 3 } else { 1 });
    }
    follower.end().await;
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(versions_of(&bench, "note.md").await, sizes_of(&["the third\n", "second\n", "first\n"]));
    assert_eq!(deletions_there(&bench).await, 0);
}

/// A program appends to a file that it keeps open, while a follower scans because of other news, and in full.
#[tokio::test(flavor = "multi_thread")]
async fn half_written_a_file_that_is_appended_to_for_seconds_is_sent_when_it_is_calm() {
    const LINE: &str = "a line of sixty-four bytes, one of many that make up a long log\n";
    let bench = in_step(&[("log.md", "begun\n"), ("note.md", "n")]).await;
    let follower = Follower::at_work_with(&bench, |options| {
        options.scan_every = Duration::from_millis(700);
    })
    .await;
    let log = bench.dest().join("log.md");
    let writer = thread::spawn(move || {
        let mut log = fs::File::options().append(true).open(log).unwrap();
        // 1 MiB/s for six seconds, which is three times as long as it has to be calm.
        for _ in 0..300 {
            log.write_all(LINE.repeat(328).as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    });
    let mut number = 0;
    while !writer.is_finished() {
        number += 1;
        bench.edit("note.md", &format!("text {number}"));
        bench.vault.as_device("B").write("there.md", format!("there {number}"), T + number).unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    writer.join().unwrap();
    let whole = format!("begun\n{}", LINE.repeat(300 * 328));
    until("it is sent", || has(&bench, "log.md", &whole)).await;
    follower.end().await;
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(versions_of(&bench, "log.md").await, sizes_of(&[&whole, "begun\n"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn race_and_kill_our_earlier_text_that_another_device_pushes_is_no_echo_of_a_follower() {
    let bench = in_step(&[("note.md", "base\n")]).await;
    let follower = Follower::at_work(&bench).await;
    let note = bench.dest().join("note.md");
    for round in 0..3 {
        let (earlier, later) = (format!("{round}: mine\n"), format!("{round}: mine, continued\n"));
        for text in [&earlier, &later] {
            bench.edit("note.md", text);
            until("it is sent", || has(&bench, "note.md", text)).await;
        }
        bench.vault.as_device("B").write("note.md", &earlier, T + round).unwrap();
        until("it is here", || fs::read_to_string(&note).is_ok_and(|found| found == earlier)).await;
    }
    follower.at_rest(1).await;
    follower.end().await;
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(bench.files(), ["note.md", "watched.md"]);
}

/// The sizes of the versions with these texts, as the vault reports them.
fn sizes_of(texts: &[&str]) -> Vec<u64> {
    texts.iter().map(|text| text.len() as u64 + CONTENT_OVERHEAD).collect()
}

/// The sizes of all versions of a note in the vault, as the vault reports them.
async fn versions_of(bench: &Bench, path: &str) -> Vec<u64> {
    let PullSource { client, token, vault, keys } = bench.source.clone();
    let path = keys.encode_path(&VaultPath::parse(path).unwrap());
    let target = SessionTarget { token, vault_id: vault.id, host: vault.host, keys };
    let mut session = Session::open(&client, &target, bench.vault.version().0, false).await.unwrap();
    session.listing(&mut |_| {}).await.unwrap();
    let page = session.history(&path, Uid(0)).await.unwrap();
    session.close().await;
    page.items.iter().map(|item| item.size).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn blind_watchers_after_20000_events_the_vault_has_exactly_what_is_here() {
    let bench = in_step(&[("note.md", "text")]).await;
    let follower = Follower::of_folder(&bench, Duration::from_secs(2));
    follower.at_rest(1).await;
    let dest = bench.dest();
    // Each write is three events: two changes and a close.
    let storm = tokio::task::spawn_blocking(move || {
        for number in 0..7000 {
            fs::write(dest.join(format!("{}.md", number % 100)), format!("text {number}")).unwrap();
        }
        for number in 0..50 {
            fs::remove_file(dest.join(format!("{number}.md"))).unwrap();
        }
    });
    storm.await.unwrap();
    let is_exact = || {
        let texts = bench.vault.contents().unwrap();
        texts.len() == 51
            && (50..100)
                .all(|n| texts.get(&format!("{n}.md")) == Some(&format!("text {}", 6900 + n).into_bytes()))
    };
    until("it is exact", is_exact).await;
    follower.end().await;
    bench.sync().await;
    bench.assert_in_step().await;
}
