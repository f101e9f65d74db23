//! Limits and interruptions: a full vault, a stopped run, a run that is killed while others write.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use obsync_core::{
    Commit, DeferredKind, NoProgress, Outcome, Outstanding, Phase, Progress, PullError, Report, StateStore,
    SyncOptions, Unfinished,
};
use obsync_folder::FolderDestination;
use obsync_protocol::{Redactor, Uid};
use obsync_testkit::{Chance, Faults, Stats};
use tokio_util::sync::CancellationToken;

use super::{T, has, in_step};
use crate::bench::Bench;
use crate::following::{BeingWritten, Follower, until};

#[tokio::test(flavor = "multi_thread")]
async fn full_vault_takes_what_fits_again_once_the_limit_is_raised() {
    let bench = in_step(&[("a.md", "a"), ("b.md", "b")]).await;
    bench.edit("large.bin", &"x".repeat(100_000));
    bench.edit("small.md", "s");
    fs::remove_file(bench.dest().join("b.md")).unwrap();
    bench.vault.write("there.md", "there", T).unwrap();
    bench.server.faults().update(|faults| {
        faults.storage_limit = Some(50_000);
    });
    let report = bench.sync().await;
    let done = (report.outcome, report.pulled.files, report.pushed.files, report.deleted_in_vault.files);
    assert_eq!(done, (Outcome::Failures, 1, 1, 1), "{report:#?}");
    let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
    assert_eq!(failed, ["large.bin"]);
    // A file over the limit for one file is reported before any part of it is sent.
    bench.server.faults().update(|faults| {
        faults.storage_limit = None;
        faults.per_file_max = Some(1000);
    });
    let before = bench.server.stats().content_bytes_received;
    let report = bench.sync().await;
    assert!(report.failures[0].reason.contains("files of at most 1000"), "{report:#?}");
    assert_eq!(bench.server.stats().content_bytes_received, before);
    let waiting = Outstanding::of(bench.state().as_ref(), &Redactor::default()).await.unwrap().waiting;
    assert_eq!(waiting, report.failures, "it is among what waits to be sent");
    bench.server.faults().clear();
    assert_eq!(bench.sync().await.outcome, Outcome::Complete);
    bench.assert_in_step().await;
    let left = Outstanding::of(bench.state().as_ref(), &Redactor::default()).await.unwrap();
    assert_eq!(left, Outstanding::default());
}

/// The stored refusal's pause, in minutes.
async fn pause(bench: &Bench) -> Option<i64> {
    let deferred = bench.state().deferred(DeferredKind::Failed).await.unwrap();
    let [refused] = &deferred[..] else { return None };
    assert!(refused.key.is_outgoing(), "{refused:?}");
    Some((refused.message.mtime - refused.message.ctime) / 60_000)
}

/// Moves the stored refusals into the past, by this many milliseconds.
async fn age_refusals(bench: &Bench, by: i64) {
    let state = bench.state();
    let (known, mut deferred) =
        (state.load().await.unwrap(), state.deferred(DeferredKind::Failed).await.unwrap());
    for refused in &mut deferred {
        refused.message.ctime -= by;
        refused.message.mtime -= by;
    }
    state.commit(Commit { deferred, state: known, ..Commit::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn full_vault_a_file_that_is_refused_waits_twice_as_long_each_time_and_goes_at_once_when_it_changes() {
    const MINUTE: i64 = 60_000;
    let bench = in_step(&[("a.md", "a")]).await;
    bench.edit("note.md", "refused");
    for fault in ["vault-full", "refuse-push"] {
        bench.server.faults().update(|faults| faults.set(fault).unwrap());
        let as_follower = || bench.sync_with(|options| options.respects_refusals = true);
        let tried = async |run: Result<Report, PullError>, before: u64| {
            let report = run.unwrap();
            assert_eq!(report.outcome, Outcome::Failures);
            assert_eq!(report.failures[0].path, "note.md", "it is told as long as the vault has not got it");
            bench.server.stats().changes_requested - before
        };
        let requested = || bench.server.stats().changes_requested;
        let before = requested();
        assert_eq!((tried(as_follower().await, before).await, pause(&bench).await), (1, Some(1)), "{fault}");
        let before = requested();
        assert_eq!((tried(as_follower().await, before).await, pause(&bench).await), (0, Some(1)));
        age_refusals(&bench, MINUTE).await;
        assert_eq!((tried(as_follower().await, before).await, pause(&bench).await), (1, Some(2)));
        let before = requested();
        age_refusals(&bench, MINUTE).await;
        assert_eq!((tried(as_follower().await, before).await, pause(&bench).await), (0, Some(2)));
        // A run that a user starts tries it nevertheless: once, however many rounds it has.
        let other = bench.vault.as_device("B");
        let path = format!("{fault}.md");
        let write = move || {
            other.write(&path, "b", T).unwrap();
        };
        let run = bench.sync_while(write).await;
        assert!(bench.files().contains(&format!("{fault}.md")), "it went round again");
        assert_eq!((tried(run, before).await, pause(&bench).await), (1, Some(4)));
        // Changed content was never refused.
        let before = requested();
        bench.edit("note.md", fault);
        assert_eq!((tried(as_follower().await, before).await, pause(&bench).await), (1, Some(1)));
        bench.server.faults().clear();
        age_refusals(&bench, MINUTE).await;
        assert_eq!(as_follower().await.unwrap().outcome, Outcome::Complete);
        assert_eq!(pause(&bench).await, None);
        bench.assert_in_step().await;
        bench.edit("note.md", "refused again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_vault_a_follower_wakes_when_a_file_that_was_refused_is_to_go_again() {
    let bench = in_step(&[("a.md", "a")]).await;
    bench.edit("note.md", "refused");
    bench.server.faults().update(|faults| faults.refuse_push = Chance::next(1));
    assert_eq!(bench.sync().await.outcome, Outcome::Failures);
    age_refusals(&bench, 58_000).await;
    // No notification arrives, and it is not time to scan.
    let follower = Follower::begin(&bench, true);
    until("the note is sent", || bench.vault.contents().unwrap().contains_key("note.md")).await;
    follower.at_rest(1).await;
    follower.end().await;
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_vault_a_follower_rests_while_a_refused_file_is_written_after_its_pause() {
    let bench = in_step(&[("a.md", "a")]).await;
    bench.edit("note.md", "refused");
    bench.server.faults().update(|faults| faults.refuse_push = Chance::next(1));
    assert_eq!(bench.sync().await.outcome, Outcome::Failures);
    age_refusals(&bench, 61_000).await;
    let watch = Box::new(BeingWritten("note.md"));
    let follower = Follower::watching(&bench, watch, Arc::new(NoProgress), |_| {});
    follower.at_rest(1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(follower.runs(), 1, "only news or the next scan wakes it");
    follower.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn full_vault_a_refused_file_keeps_its_pause_while_git_rewrites_the_folder() {
    let bench = in_step(&[("a.md", "a")]).await;
    bench.edit("note.md", "refused");
    bench.server.faults().update(|faults| faults.set("vault-full").unwrap());
    let as_follower = async || bench.sync_with(|options| options.respects_refusals = true).await.unwrap();
    assert_eq!(as_follower().await.outcome, Outcome::Failures);
    fs::create_dir(bench.dest().join(".git")).unwrap();
    fs::write(bench.dest().join(".git/index.lock"), "").unwrap();
    let before = bench.server.stats().changes_requested;
    let report = as_follower().await;
    assert_eq!((report.outcome, report.failures.len()), (Outcome::Failures, 1), "{report:#?}");
    assert_eq!(bench.server.stats().changes_requested, before);
    assert_eq!(pause(&bench).await, Some(1));
    age_refusals(&bench, 60_000).await;
    as_follower().await;
    assert_eq!(pause(&bench).await, Some(2), "it grows");
}

#[tokio::test(flavor = "multi_thread")]
async fn full_vault_subscription_that_expires_midway_ends_the_run_and_loses_nothing() {
    let bench = in_step(&[("a.md", "a")]).await;
    for number in 0..3 {
        bench.edit(format!("{number}.md"), "text");
    }
    bench.server.faults().update(|faults| {
        faults.refuse_push = Chance::always().after(1);
        faults.refuse_push_text = "Your subscription to Obsidian Sync has expired".to_owned();
    });
    let error = bench.try_sync().await.unwrap_err();
    assert!(error.to_string().contains("subscription"), "{error}");
    bench.server.faults().clear();
    assert_eq!(bench.sync().await.outcome, Outcome::Complete);
    bench.assert_in_step().await;
    let copies = bench.files().iter().filter(|file| file.contains("Conflicted")).count();
    assert_eq!((copies, bench.files().len()), (0, 4));
}

/// Stops a run after this many files were sent.
struct StopAfter {
    left: AtomicUsize,
    is_sending: std::sync::atomic::AtomicBool,
    stop: CancellationToken,
}

impl Progress for StopAfter {
    fn phase(&self, phase: Phase) {
        self.is_sending.store(phase == Phase::Sending, Ordering::Relaxed);
    }

    fn placed(&self, _bytes: u64) {
        if self.is_sending.load(Ordering::Relaxed) && self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.stop.cancel();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_midway_records_what_is_done_and_repeats_nothing() {
    for (after, deletes) in [(1, false), (3, false), (40, false), (1, true), (20, true)] {
        let bench = Bench::new().await;
        for number in 0..120 {
            bench.vault.write(&format!("{number}.md"), format!("note {number}"), T).unwrap();
        }
        bench.sync().await;
        let before = bench.vault.version().0;
        for number in 0..60 {
            let path = bench.dest().join(format!("{number}.md"));
            match deletes {
                true => fs::remove_file(path).unwrap(),
                false => fs::rename(path, bench.dest().join(format!("renamed {number}.md"))).unwrap(),
            }
        }
        let stop = CancellationToken::new();
        let progress = Arc::new(StopAfter {
            left: AtomicUsize::new(after),
            is_sending: std::sync::atomic::AtomicBool::new(false),
            stop: stop.clone(),
        });
        let destination = FolderDestination::open(&bench.dest(), bench.folder).unwrap();
        bench.sync_through(destination, progress, stop).await.unwrap();
        bench.sync().await;
        bench.assert_in_step().await;
        let pushed = bench.vault.version().0 - before;
        let expected = if deletes { 60 } else { 120 };
        assert_eq!(pushed, expected, "after {after}, deletes {deletes}: nothing is sent twice");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_midway_of_a_large_file_sends_it_whole_the_next_time() {
    let bench = in_step(&[("a.md", "a")]).await;
    bench.edit("large.bin", &"x".repeat(20 << 20));
    let stop = CancellationToken::new();
    let destination = FolderDestination::open(&bench.dest(), bench.folder).unwrap();
    let halt = async {
        bench.server.wait_for(|stats| stats.changes_requested > 0).await;
        stop.cancel();
    };
    let sync = bench.sync_through(destination, Arc::new(NoProgress), stop.clone());
    let (report, ()) = tokio::join!(sync, halt);
    report.unwrap();
    // It ends at once, and the next run gets the lock.
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(bench.vault.version().0, 2);
}

/// Syncs, and is stopped once something happened at the server. The timeouts for a service that does not
/// respond are longer than the waits here.
async fn stopped_once(
    bench: &Bench,
    change: impl FnOnce(&mut SyncOptions),
    happened: impl Fn(&Stats) -> bool,
) -> Report {
    let stop = CancellationToken::new();
    let halt = async {
        bench.server.wait_for(happened).await;
        stop.cancel();
    };
    let both = async { tokio::join!(bench.sync_until(stop.clone(), change), halt).0 };
    let ended = tokio::time::timeout(Duration::from_secs(40), both).await;
    let report = ended.unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted, "{report:#?}");
    // Calls in flight may keep the state open for another moment.
    bench.until_dead().await;
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_while_the_vault_does_not_answer_a_run_ends_at_once_and_the_next_is_exact() {
    type Act = fn(&Bench);
    let large: Act = |bench| bench.edit("large.bin", &"x".repeat(5 << 20));
    let note: Act = |bench| bench.edit("new.md", "new");
    // Connections: to pull, to send, to look a history up.
    let cases: [(&str, &str, u64, Act); 6] = [
        ("a large file", "stall-in-upload", 2, large),
        ("a note", "stall-request", 2, note),
        ("a folder", "stall-request", 2, |bench| fs::create_dir(bench.dest().join("folder")).unwrap()),
        ("a deletion", "stall-request", 2, |bench| fs::remove_file(bench.dest().join("b.md")).unwrap()),
        ("a history", "lose-echo=next:1,stall-request=after:1", 3, note),
        ("the session to send over", "stall-init=after:1", 2, note),
    ];
    for (what, faults, connections, act) in cases {
        let bench = in_step(&[("a.md", "a"), ("b.md", "b")]).await;
        let before = bench.server.stats();
        act(&bench);
        bench.server.faults().set(faults.parse().unwrap());
        let asks = u64::from(connections == 2 && what != "the session to send over");
        stopped_once(
            &bench,
            |_| {},
            |stats| {
                stats.websocket_connections >= before.websocket_connections + connections
                    && stats.changes_requested >= before.changes_requested + asks
            },
        )
        .await;
        // The same for a run that looks up its sent changes.
        let before = bench.server.stats().websocket_connections;
        bench.server.faults().set("stall-init".parse().unwrap());
        stopped_once(&bench, |_| {}, |stats| stats.websocket_connections > before).await;
        bench.server.faults().clear();
        assert_eq!(bench.sync().await.outcome, Outcome::Complete, "{what}");
        bench.assert_in_step().await;
        assert_eq!(bench.vault.version().0, 3, "{what}: it is sent once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_twice_over_one_file_a_run_with_a_deadline_lets_it_wait_and_sends_the_rest() {
    const MINUTE: i64 = 60_000;
    let bench = in_step(&[("a.md", "a"), ("b.md", "b")]).await;
    bench.edit("large.bin", &"x".repeat(3 << 20));
    fs::remove_file(bench.dest().join("b.md")).unwrap();
    bench.server.faults().update(|faults| faults.stall_in_upload = Chance::always());
    let timed = |options: &mut SyncOptions| {
        options.respects_refusals = true;
        options.has_deadline = true;
    };
    let cut_off = async || {
        let before = bench.server.stats().changes_requested;
        stopped_once(&bench, timed, |stats| stats.changes_requested > before).await
    };
    let report = cut_off().await;
    assert_eq!((report.failures.len(), pause(&bench).await), (0, None), "{report:#?}");
    let report = cut_off().await;
    assert!(report.failures[0].reason.contains("in the time that a run has"), "{report:#?}");
    assert_eq!((report.failures[0].path.as_str(), pause(&bench).await), ("large.bin", Some(1)));
    assert!(has(&bench, "b.md", "b"), "deletions come after the files");
    let report = bench.sync_with(timed).await.unwrap();
    assert_eq!((report.outcome, report.deleted_in_vault.files), (Outcome::Failures, 1), "{report:#?}");
    assert_eq!(report.failures[0].path, "large.bin");
    // After its pause it is sent again.
    age_refusals(&bench, MINUTE).await;
    assert_eq!((cut_off().await.failures.len(), pause(&bench).await), (1, Some(2)));
    bench.server.faults().clear();
    age_refusals(&bench, 2 * MINUTE).await;
    assert_eq!(bench.sync_with(timed).await.unwrap().outcome, Outcome::Complete);
    bench.assert_in_step().await;
}

/// Syncs until the server recorded a push, then dies. (A killed process takes its calls with it; here they
/// are awaited.)
async fn killed_after_a_push(bench: &Bench) {
    let before = bench.server.stats().pushes;
    {
        let sync = bench.try_sync();
        tokio::select! {
            biased;
            () = bench.server.wait_for(|stats| stats.pushes > before) => {}
            report = sync => drop(report),
        }
    }
    bench.until_dead().await;
}

/// Beginning of the content that another device writes just before a push is recorded.
const RIVAL: &str = "a rival wrote this";

#[tokio::test(flavor = "multi_thread")]
async fn race_and_kill_what_came_just_before_ours_is_found_by_the_history() {
    type Act = fn(&Bench);
    let ours: [(&str, &str, Act); 4] = [
        ("an edit", "note.md", |bench| bench.edit("note.md", "mine\n")),
        ("a new note", "new.md", |bench| bench.edit("new.md", "new")),
        ("a deletion", "note.md", |bench| fs::remove_file(bench.dest().join("note.md")).unwrap()),
        ("a rename", "renamed.md", |bench| {
            fs::rename(bench.dest().join("note.md"), bench.dest().join("renamed.md")).unwrap();
        }),
    ];
    for then_pulls in [false, true] {
        for (what, path, act) in &ours {
            let bench = in_step(&[("note.md", "base\n"), ("kept.md", "k")]).await;
            act(&bench);
            let set = |faults: &mut Faults| {
                faults.rival_push = Chance::next(1);
                faults.lose_echo = Chance::next(1);
            };
            bench.server.faults().update(set);
            killed_after_a_push(&bench).await;
            bench.server.faults().clear();
            assert!(!bench.state().intents().await.unwrap().is_empty(), "{what}: it was announced");
            if then_pulls {
                bench.pull().await;
            }
            bench.sync().await;
            bench.sync().await;
            bench.assert_in_step().await;
            let texts = bench.vault.contents().unwrap();
            let rivals = texts.values().filter(|text| text.starts_with(RIVAL.as_bytes())).count();
            assert_eq!(rivals, 1, "{what} of {path}, pulls {then_pulls}: {texts:?}");
            match *what {
                "an edit" => assert!(has(&bench, "note.md", "mine\n"), "{texts:?}"),
                "a new note" => assert!(has(&bench, "new.md", "new"), "{texts:?}"),
                "a rename" => assert!(has(&bench, "renamed.md", "base\n"), "{texts:?}"),
                _ => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn race_and_kill_an_old_content_pushed_again_meanwhile_takes_nothing_away() {
    let bench = in_step(&[("note.md", "old\n")]).await;
    bench.edit("note.md", "mine\n");
    let other = bench.vault.as_device("B");
    bench
        .sync_while(move || {
            other.write("note.md", "old\n", T + 1000).unwrap();
        })
        .await
        .unwrap();
    bench.sync().await;
    bench.assert_in_step().await;
    assert!(has(&bench, "note.md", "mine\n"));
    assert_eq!(bench.files().len(), 1);
    // The device pushes the old text once more.
    bench.vault.as_device("B").write("note.md", "old\n", T + 2000).unwrap();
    bench.sync().await;
    assert_eq!((bench.read("note.md").as_str(), bench.files().len()), ("old\n", 1));
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn race_and_kill_our_earlier_text_that_another_device_pushes_is_a_change() {
    for echo_is_lost in [false, true] {
        let bench = in_step(&[("note.md", "base\n")]).await;
        let edit_as = |text: &str| bench.edit("note.md", text);
        let other = bench.vault.as_device("B");
        edit_as("first\n");
        if echo_is_lost {
            bench.server.faults().update(|faults| faults.lose_echo = Chance::next(1));
            killed_after_a_push(&bench).await;
            bench.server.faults().clear();
        } else {
            bench.sync().await;
        }
        edit_as("second\n");
        bench.sync().await;
        assert!(has(&bench, "note.md", "second\n"));
        // Our first text again, after we moved on.
        other.write("note.md", "first\n", T + 1000).unwrap();
        bench.sync().await;
        assert_eq!(bench.read("note.md"), "first\n", "lost {echo_is_lost}");
        // And while we move on once more.
        edit_as("third\n");
        let write = move || {
            other.write("note.md", "second\n", T + 2000).unwrap();
        };
        bench.sync_while(write).await.unwrap();
        bench.sync().await;
        bench.assert_in_step().await;
        let texts = bench.vault.contents().unwrap();
        for text in ["second\n", "third\n"] {
            assert!(texts.values().any(|found| found == text.as_bytes()), "{text}: {texts:?}");
        }
        // An echo is consumed only once: our newest text pushed by the other device is no change, and the one
        // before it is one.
        let last = bench.read("note.md");
        bench.vault.as_device("B").write("note.md", &last, T + 3000).unwrap();
        bench.vault.as_device("B").write("note.md", "first\n", T + 4000).unwrap();
        bench.sync().await;
        assert_eq!(bench.read("note.md"), "first\n", "lost {echo_is_lost}");
        bench.assert_in_step().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn race_and_kill_a_connection_cut_at_any_moment_of_an_upload_repeats_nothing() {
    let bench = in_step(&[("note.md", "base\n")]).await;
    for (number, fault) in
        ["drop-on-request", "drop-in-upload", "lose-echo", "lose-answer"].iter().enumerate()
    {
        bench.edit(format!("{number}.bin"), &number.to_string().repeat(3 << 20));
        bench.server.faults().update(|faults| faults.set(&format!("{fault}=next:1")).unwrap());
        let _ = tokio::time::timeout(Duration::from_secs(60), bench.try_sync()).await.unwrap();
        bench.server.faults().clear();
        bench.sync().await;
        bench.assert_in_step().await;
        assert_eq!(bench.vault.version().0, number as u64 + 2, "{fault}");
    }
}

/// Number of contents in the vault that another device wrote just before one of ours.
fn rivals(bench: &Bench) -> usize {
    let texts = bench.vault.contents().unwrap();
    texts.values().filter(|text| text.starts_with(RIVAL.as_bytes())).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_midway_of_several_files_keeps_what_another_device_wrote_meanwhile() {
    for after in [1, 4, 8] {
        let notes: Vec<String> = (0..12).map(|number| format!("{number}.md")).collect();
        let bench = Bench::new().await;
        for note in &notes {
            bench.vault.write(note, "base", T).unwrap();
        }
        bench.sync().await;
        notes.iter().for_each(|note| bench.edit(note, &format!("mine of {note}")));
        bench.server.faults().update(|faults| {
            faults.rival_push = Chance::next(12);
            faults.lose_answer = Chance::always();
            faults.lose_echo = Chance::always();
        });
        let (stop, before) = (CancellationToken::new(), bench.server.stats().pushes);
        let destination = FolderDestination::open(&bench.dest(), bench.folder).unwrap();
        let halt = async {
            bench.server.wait_for(|stats| stats.pushes >= before + after).await;
            stop.cancel();
        };
        let (ended, ()) =
            tokio::join!(bench.sync_through(destination, Arc::new(NoProgress), stop.clone()), halt);
        assert_eq!(ended.unwrap().outcome, Outcome::Interrupted);
        bench.server.faults().clear();
        let unfinished = Unfinished::of(&*bench.state(), false).await.unwrap();
        assert_eq!(
            unfinished,
            [Unfinished::Unsent],
            "the folder has all of the vault, and the vault not all of it"
        );
        let written = bench.server.stats().pushes - before;
        for _ in 0..3 {
            bench.sync().await;
        }
        bench.assert_in_step().await;
        assert_eq!(
            rivals(&bench) as u64,
            written,
            "after {after}: {:?}",
            bench.vault.contents().unwrap().keys()
        );
        for note in &notes {
            assert!(has(&bench, note, &format!("mine of {note}")), "{note}");
        }
    }
}

/// A text that never arrives delays neither the others nor the rest of a sync, and nothing is brought back
/// twice.
#[tokio::test(flavor = "multi_thread")]
async fn race_and_cut_a_text_that_cannot_be_had_is_named_and_waited_for_while_all_else_goes_on() {
    let bench = in_step(&[("a.bin", "base"), ("b.bin", "base of b"), ("kept.md", "k")]).await;
    bench.edit("a.bin", "mine of a");
    bench.edit("b.bin", "mine of b");
    bench.server.faults().update(|faults| {
        faults.rival_push = Chance::next(2);
        faults.lose_answer = Chance::always();
        faults.lose_echo = Chance::always();
    });
    let (stop, before, version) =
        (CancellationToken::new(), bench.server.stats().pushes, bench.vault.version().0);
    let destination = FolderDestination::open(&bench.dest(), bench.folder).unwrap();
    let halt = async {
        bench.server.wait_for(|stats| stats.pushes >= before + 2).await;
        stop.cancel();
    };
    let (ended, ()) = tokio::join!(bench.sync_through(destination, Arc::new(NoProgress), stop.clone()), halt);
    assert_eq!(ended.unwrap().outcome, Outcome::Interrupted);
    bench.server.faults().clear();
    assert_eq!(bench.server.stats().pushes - before, 2, "both were taken, over a rival each");
    // The rival's versions and ours, twice.
    bench.server.faults().update(|faults| {
        faults.drop_in_content = Chance::always().for_uid(Uid(version + 3));
    });
    bench.vault.write("news.md", "news", T + 1).unwrap();
    for _ in 0..3 {
        let report = bench.try_sync().await.unwrap();
        assert_eq!((report.outcome, report.failures.len()), (Outcome::Failures, 1), "{report:#?}");
        assert!(report.failures[0].path.ends_with(".bin"), "{report:#?}");
        assert_eq!(bench.read("news.md"), "news");
        assert_eq!(rivals(&bench), 1, "{:?}", bench.vault.contents().unwrap().keys());
        bench.edit("kept.md", &format!("sent beside {}", bench.vault.version().0));
    }
    bench.server.faults().clear();
    for _ in 0..2 {
        bench.sync().await;
    }
    bench.assert_in_step().await;
    assert_eq!(rivals(&bench), 2, "{:?}", bench.vault.contents().unwrap().keys());
    assert!(has(&bench, "a.bin", "mine of a") && has(&bench, "b.bin", "mine of b"));
}

#[tokio::test(flavor = "multi_thread")]
async fn race_and_cut_what_another_device_wrote_is_not_given_up_because_it_cannot_be_had_just_now() {
    let bench = in_step(&[("note.bin", "base"), ("kept.md", "k")]).await;
    bench.edit("note.bin", "mine");
    bench.server.faults().update(|faults| {
        faults.rival_push = Chance::next(1);
        faults.drop_in_content = Chance::always();
    });
    let ended = bench.try_sync().await;
    assert!(ended.is_err(), "{ended:?}");
    bench.server.faults().clear();
    for _ in 0..2 {
        bench.sync().await;
    }
    bench.assert_in_step().await;
    assert_eq!(rivals(&bench), 1, "{:?}", bench.vault.contents().unwrap());
    assert!(has(&bench, "note.bin", "mine"));
}

#[tokio::test(flavor = "multi_thread")]
async fn race_and_cut_a_change_that_the_vault_takes_late_hides_nothing_of_what_another_device_wrote() {
    type Act = fn(&Bench);
    // The number of requests after which the vault accepts the change, just before the next listing: when the
    // connection is lost, a session lists the vault and asks for the history of each path.
    let ours: [(&str, u64, Act); 4] = [
        ("an edit", 2, |bench| bench.edit("note.md", "mine\n")),
        ("a new note", 2, |bench| bench.edit("new.md", "new")),
        ("a deletion", 2, |bench| fs::remove_file(bench.dest().join("note.md")).unwrap()),
        ("a rename", 3, |bench| {
            fs::rename(bench.dest().join("note.md"), bench.dest().join("renamed.md")).unwrap();
        }),
    ];
    for (what, late_after, act) in ours {
        let bench = in_step(&[("note.md", "base\n"), ("kept.md", "k")]).await;
        act(&bench);
        bench.server.faults().update(|faults| {
            faults.late_push = Chance::next(1);
            faults.late_after = late_after;
            faults.rival_push = Chance::next(1);
        });
        bench.sync().await;
        assert_eq!(bench.server.faults().strikes("late-push"), 1, "{what}");
        bench.server.faults().clear();
        for _ in 0..2 {
            bench.sync().await;
        }
        bench.assert_in_step().await;
        assert_eq!(rivals(&bench), 1, "{what}: {:?}", bench.vault.contents().unwrap());
        assert!(bench.state().intents().await.unwrap().is_empty(), "{what}");
    }
}
