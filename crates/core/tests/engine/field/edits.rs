//! Edits: which text is the newest, and when it is complete.

use std::fs;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use obsync_conformance::SetClock;
use obsync_core::{DeferredKind, NoProgress, Outcome, Report, StateStore};
use obsync_folder::{FolderDestination, Step};
use obsync_testkit::Chance;
use tokio_util::sync::CancellationToken;

use super::{T, has, in_step};
use crate::bench::Bench;

fn copies(bench: &Bench) -> usize {
    bench.files().iter().filter(|file| file.contains("Conflicted copy")).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_copy_is_not_pushed_over_what_another_device_wrote_meanwhile() {
    let bench = in_step(&[("note.md", "first")]).await;
    let other = bench.vault.as_device("B");
    let (before, after) = ("b".repeat(2340), "b".repeat(2400));
    other.write("note.md", &before, T + 1000).unwrap();
    let (written, vault, text) = (AtomicBool::new(false), other.clone(), after.clone());
    let destination = FolderDestination::open_watched(&bench.dest(), bench.folder, move |step, _| {
        if step == Step::Placed && !written.swap(true, Ordering::Relaxed) {
            vault.write("note.md", &text, T + 2000).unwrap();
        }
    });
    bench.sync_through(destination.unwrap(), Arc::new(NoProgress), CancellationToken::new()).await.unwrap();
    bench.sync().await;
    assert_eq!(bench.read("note.md"), after);
    // A watcher reports late that the run wrote the file, or the file is touched: it is recognised by its
    // content.
    assert!(bench.sync().await.is_unchanged());
    bench.assert_in_step().await;
    let file = fs::File::options().append(true).open(bench.dest().join("note.md")).unwrap();
    file.set_modified(SystemTime::now()).unwrap();
    bench.sync().await;
    assert!(has(&bench, "note.md", &after));
    assert_eq!((bench.server.stats().pushes, copies(&bench)), (0, 0));
}

/// Syncs; `act` runs between the first scan and the second.
async fn sync_while_it_waits(bench: &Bench, clock: &SetClock, act: impl FnOnce()) -> Report {
    const LOOK: Duration = Duration::from_secs(2);
    let between = async {
        clock.until_slept(LOOK).await;
        act();
        clock.advance(LOOK);
    };
    let synced = bench.sync_with(|options| options.second_look = LOOK);
    let (report, ()) = tokio::join!(synced, between);
    report.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_copy_that_is_empty_for_a_moment_is_looked_at_again() {
    let text = "a text that is not short\n".repeat(100);
    let mut bench = in_step(&[("note.md", &text)]).await;
    let clock = bench.set_clock().await;
    let note = bench.dest().join("note.md");
    for short in ["", &text[..1000]] {
        fs::write(&note, short).unwrap();
        let report = sync_while_it_waits(&bench, &clock, || fs::write(&note, &text).unwrap()).await;
        assert_eq!(report.pushed.files, 0);
    }
    assert_eq!(bench.server.stats().pushes, 0);
    // A user who empties a note intends it.
    fs::write(&note, "").unwrap();
    assert_eq!(bench.sync().await.pushed.files, 1);
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_edited_lines_are_merged_whoever_was_first() {
    let base = "a\nb\nc\n";
    // The vault changes first, and the run sees that; or it changes while ours is being sent.
    for is_seen in [true, false] {
        let bench = in_step(&[("note.md", base)]).await;
        bench.edit("note.md", "A\nb\nc\n");
        let other = bench.vault.as_device("B");
        let write = move || {
            other.write("note.md", "a\nb\nC\n", T + 1000).unwrap();
        };
        let report = if is_seen {
            write();
            bench.sync().await
        } else {
            bench.sync_while(write).await.unwrap()
        };
        assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
        bench.sync().await;
        assert_eq!((bench.read("note.md").as_str(), copies(&bench)), ("A\nb\nC\n", 0), "seen {is_seen}");
        bench.assert_in_step().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_edited_without_the_base_on_the_server_is_merged_and_what_cannot_be_is_kept_twice() {
    let bench = in_step(&[
        ("note.md", "a\nb\nc\n"),
        ("board.canvas", "{\"nodes\":[]}"),
        ("picture.png", "base"),
        ("binary.md", "\u{0}\u{1}base"),
    ])
    .await;
    let base = bench.vault.version();
    bench.vault.write("later.md", "so that the base is not the newest", T).unwrap();
    bench.sync().await;
    bench.edit("note.md", "A\nb\nc\n");
    bench.vault.write("note.md", "a\nb\nC\n", T + 1000).unwrap();
    let edits = [
        ("board.canvas", "{\"nodes\":[1]}", "{\"nodes\":[2]}"),
        ("picture.png", "mine", "theirs"),
        ("binary.md", "\u{0}\u{1}mine", "\u{0}\u{1}theirs"),
    ];
    for (path, mine, theirs) in edits {
        bench.edit(path, mine);
        bench.vault.write(path, theirs, T + 1000).unwrap();
    }
    // Their base versions are not on the server any more.
    bench.server.faults().update(|faults| {
        faults.gone_answer = Chance::always().for_uid(obsync_protocol::Uid(base.0 - 3));
    });
    let report = bench.sync().await;
    bench.server.faults().clear();
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.sync().await;
    bench.assert_in_step().await;
    assert!(has(&bench, "note.md", "A\nb\nC\n"), "the state keeps the text that both began with");
    for (path, mine, theirs) in edits {
        assert!(has(&bench, path, theirs), "{path}");
        let copy = report.conflicts.iter().find(|conflict| conflict.path.as_str() == path);
        let copy = copy.unwrap_or_else(|| panic!("{path}: {report:#?}"));
        assert!(has(&bench, copy.kept_as.as_str(), mine), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_edited_configuration_is_merged_by_keys_and_sent_only_if_asked_for() {
    let config = ".obsidian/app.json";
    let bench = in_step(&[("note.md", "n"), (config, "{\"a\":1,\"b\":1}")]).await;
    bench.edit(config, "{\"a\":2,\"b\":1}");
    bench.vault.write(config, "{\"a\":1,\"b\":2}", T + 1000).unwrap();
    bench.sync().await;
    assert_eq!(bench.server.stats().pushes, 0, "it was not asked for");
    let merged: serde_json::Value = serde_json::from_str(&bench.read(config)).unwrap();
    assert_eq!(merged, serde_json::json!({"a": 2, "b": 2}));
    bench.sync_with(|options| options.sends_configuration = true).await.unwrap();
    assert!(has(&bench, config, &bench.read(config)));
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_edited_a_change_survives_a_deletion_that_is_under_way() {
    let bench = in_step(&[("a.md", "a"), ("b.md", "b")]).await;
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    let other = bench.vault.as_device("B");
    bench
        .sync_while(move || {
            other.write("a.md", "edited", T + 1000).unwrap();
        })
        .await
        .unwrap();
    bench.sync().await;
    assert!(has(&bench, "a.md", "edited"));
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn save_by_rename_deletes_nothing_and_leaves_no_litter_in_the_vault() {
    let others = ["b.md", "c.md", "d.md"].map(|path| (path, path));
    let mut bench = in_step(&[&[("note.md", "text")], &others[..]].concat()).await;
    let clock = bench.set_clock().await;
    let at = |name: &str| bench.dest().join(name);
    for number in 0..20 {
        let text = format!("text {number}");
        fs::write(at("4913"), "").unwrap();
        fs::write(at("note.md.tmp.123"), &text).unwrap();
        fs::write(at(".note.md.swp"), "swap").unwrap();
        fs::rename(at("note.md"), at("note.md~")).unwrap();
        if number == 10 {
            // A run in the middle of the save.
            let renames = || fs::rename(at("note.md.tmp.123"), at("note.md")).unwrap();
            let report = sync_while_it_waits(&bench, &clock, renames).await;
            assert_eq!((report.deleted_in_vault.files, report.pushed.files), (0, 1), "{report:#?}");
        } else {
            fs::rename(at("note.md.tmp.123"), at("note.md")).unwrap();
        }
        fs::remove_file(at("4913")).unwrap();
        fs::remove_file(at("note.md~")).unwrap();
        fs::remove_file(at(".note.md.swp")).unwrap();
    }
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(bench.server.stats().pushes, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_written_what_changes_between_the_hash_and_the_bytes_is_abandoned() {
    let bench = in_step(&[("note.md", "n")]).await;
    // In one read, and in two.
    for (name, size) in [("small.md", 1000), ("large.bin", 9 << 20)] {
        bench.edit(name, &"x".repeat(size));
        let file = bench.dest().join(name);
        let report = bench
            .sync_while(move || {
                let mut file = fs::File::options().append(true).open(file).unwrap();
                file.write_all(b"and more").unwrap();
            })
            .await
            .unwrap();
        assert_eq!(report.pushed.files, 0, "{report:#?}");
        assert!(!bench.vault.expected().unwrap().files.iter().any(|file| file.path == name));
        bench.sync().await;
        bench.assert_in_step().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_written_files_that_grow_without_end_hold_nothing_else_up() {
    let bench = in_step(&[("note.md", "n")]).await;
    bench.edit("log.md", "begun\n");
    let (log, stop) = (bench.dest().join("log.md"), Arc::new(AtomicBool::new(false)));
    let stopped = stop.clone();
    let writer = thread::spawn(move || {
        let mut log = fs::File::options().append(true).open(log).unwrap();
        while !stopped.load(Ordering::Relaxed) {
            log.write_all(&[b'x'; 1000]).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    });
    for number in 0..5 {
        bench.edit("note.md", &format!("text {number}"));
        bench.sync().await;
        assert!(has(&bench, "note.md", &format!("text {number}")));
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    bench.sync().await;
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_fight_are_not_pushed_unless_asked_for_and_workspaces_never() {
    let data = ".obsidian/plugins/x/data.json";
    let bench = in_step(&[("note.md", "n"), (data, "{\"count\":0}")]).await;
    for count in 1..10 {
        bench.edit(data, &format!("{{\"count\":{count}}}"));
        bench.edit(".obsidian/workspace.json", &format!("{{\"now\":{count}}}"));
        bench.sync().await;
    }
    assert_eq!(bench.server.stats().pushes, 0);
    bench.sync_with(|options| options.sends_configuration = true).await.unwrap();
    assert!(has(&bench, data, "{\"count\":9}"));
    let paths: Vec<String> =
        bench.vault.expected().unwrap().files.into_iter().map(|file| file.path).collect();
    assert_eq!(paths, [data, "note.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_fight_are_noticed_said_once_and_sent_no_more_for_a_while() {
    let data = ".obsidian/plugins/x/data.json";
    let bench = in_step(&[("note.md", "n"), (data, "{\"by\":\"nobody\"}")]).await;
    let sync = || bench.sync_with(|options| options.sends_configuration = true);
    // Each rewrites it as soon as it has the other's.
    let mut said = Vec::new();
    for turn in 1..=6 {
        bench.edit(data, &format!("{{\"by\":\"here {turn}\"}}"));
        let report = sync().await.unwrap();
        assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
        said.extend(report.warnings.into_iter().filter(|warning| warning.starts_with(data)));
        bench.vault.as_device("B").write(data, format!("{{\"by\":\"there {turn}\"}}"), T + turn).unwrap();
        sync().await.unwrap();
    }
    assert_eq!(bench.server.stats().pushes, 2, "two turns of each are enough");
    let [warning] = &said[..] else { panic!("{said:?}") };
    assert!(warning.contains("two devices rewrite it whenever the other one did"), "{warning}");
    // The other device's changes are still applied, and notes are still sent.
    assert_eq!(bench.read(data), "{\"by\":\"there 6\"}");
    bench.edit(data, "{\"by\":\"here\"}");
    bench.edit("note.md", "edited");
    sync().await.unwrap();
    assert!(has(&bench, "note.md", "edited") && has(&bench, data, "{\"by\":\"there 6\"}"));
    // The change waits, and the state records it.
    let waiting = bench.state().deferred(DeferredKind::Failed).await.unwrap();
    let [waiting] = &waiting[..] else { panic!("{waiting:#?}") };
    assert_eq!((waiting.key.is_outgoing(), waiting.key.shown()), (true, data));
    assert!(bench.verify().await.failures.is_empty());
    // That lasts as long as the pause, even if there is nothing to send at the moment.
    bench.edit(data, "{\"by\":\"there 6\"}");
    assert!(sync().await.unwrap().warnings.is_empty());
    assert_eq!(bench.state().deferred(DeferredKind::Failed).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_edited_an_edit_takes_the_place_of_a_deletion_that_is_held_back() {
    let bench = in_step(&[("note.md", "n"), ("kept.md", "k")]).await;
    let careful = |options: &mut obsync_core::SyncOptions| {
        options.pull.max_delete = obsync_core::MaxDelete::Files(0);
    };
    bench.vault.delete("note.md").unwrap();
    assert_eq!(bench.sync_with(careful).await.unwrap().held_back(), 1);
    bench.edit("note.md", "edited");
    bench.sync_with(careful).await.unwrap();
    assert!(has(&bench, "note.md", "edited"));
    // The confirmation has no effect: the vault has the note again.
    for _ in 0..2 {
        bench.sync().await;
        assert_eq!(bench.read("note.md"), "edited");
    }
    bench.assert_in_step().await;
}
