//! Destinations that are not the one that was pulled to: swapped, restored, copied, emptied; and vaults that
//! are not the one that was pulled.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use obsync_conformance::WatchedState;
use obsync_core::{Doubt, Mode, NoProgress, Outcome, PullError, StateStore, pull};

use obsync_protocol::Uid;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

fn copy_tree(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

fn marker(bench: &Bench) -> PathBuf {
    bench.dest().join(".obsync/id")
}

/// A destination at an early state of a vault, a copy of it, and the destination at a later state.
async fn with_copy() -> (Bench, PathBuf) {
    let bench = Bench::new().await;
    for number in 0..10 {
        bench.vault.write(&format!("{number}.md"), format!("text {number}"), T).unwrap();
    }
    bench.vault.write("Folder/old name.md", "renamed later", T).unwrap();
    bench.pull().await;
    let copy = bench.dest().with_file_name("copy");
    copy_tree(&bench.dest(), &copy);
    bench.vault.write("new.md", "new", T).unwrap();
    for number in 0..3 {
        bench.vault.write(&format!("{number}.md"), format!("changed {number}"), T + 60_000).unwrap();
    }
    bench.vault.delete("3.md").unwrap();
    bench.vault.rename("Folder/old name.md", "Folder/new name.md").unwrap();
    bench.pull().await;
    (bench, copy)
}

/// Replaces the destination with another folder, and returns the new path of the destination.
fn swap(bench: &Bench, other: &Path) -> PathBuf {
    let aside = bench.dest().with_file_name(format!("instead of {}", other.file_name().unwrap().display()));
    fs::rename(bench.dest(), &aside).unwrap();
    fs::rename(other, bench.dest()).unwrap();
    aside
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_disk_is_noticed_and_its_earlier_files_are_nobodys_changes() {
    let (bench, copy) = with_copy().await;
    let before = swap(&bench, &copy);
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.doubt), (Outcome::Complete, Some(Doubt::OtherGeneration)));
    assert!(report.warnings[0].contains("restored backup"), "{report:#?}");
    assert_eq!((report.conflicts.len(), report.deleted.files), (0, 2), "{report:#?}");
    bench.assert_exact().await;
    let report = bench.pull().await;
    assert!(report.is_unchanged() && report.doubt.is_none(), "{report:#?}");
    // And the earlier disk once more.
    swap(&bench, &before);
    let report = bench.pull().await;
    assert_eq!(report.doubt, Some(Doubt::OtherGeneration));
    assert!(report.conflicts.is_empty() && report.pulled.files == 0, "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_of_a_swapped_disk_and_one_afterwards_keep_nothing_stale_and_copy_nothing() {
    let (mut bench, copy) = with_copy().await;
    swap(&bench, &copy);
    let report = bench.pull_full().await;
    assert_eq!((report.outcome, report.doubt), (Outcome::Complete, Some(Doubt::OtherGeneration)));
    assert_eq!((report.conflicts.len(), report.deleted.files), (0, 2), "{report:#?}");
    bench.assert_exact().await;
    let report = bench.pull_full().await;
    assert!(report.conflicts.is_empty() && report.doubt.is_none(), "{report:#?}");
    assert_eq!((report.pulled.files, report.deleted.files, report.retained.files), (0, 0, 0), "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_user_wrote_on_a_swapped_disk_is_kept() {
    let (bench, copy) = with_copy().await;
    swap(&bench, &copy);
    bench.edit("1.md", "the user's own text");
    bench.edit("3.md", "of a note that the vault deleted");
    bench.edit("mine.md", "not the vault's");
    let report = bench.pull().await;
    assert_eq!(report.conflicts.len(), 1, "{report:#?}");
    assert_eq!(bench.read(report.conflicts[0].kept_as.as_str()), "the user's own text");
    assert_eq!(bench.read("1.md"), "changed 1");
    assert_eq!(bench.read("3.md"), "of a note that the vault deleted");
    assert_eq!(bench.read("mine.md"), "not the vault's");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_not_mounted_is_noticed_and_so_is_its_return() {
    let (bench, _) = with_copy().await;
    let disk = bench.dest().with_file_name("disk");
    fs::rename(bench.dest(), &disk).unwrap();
    fs::create_dir(bench.dest()).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.doubt), (Outcome::Complete, Some(Doubt::NoMarker)));
    assert_eq!(report.pulled.files, bench.files().len() as u64);
    bench.assert_exact().await;
    bench.vault.write("2.md", "changed meanwhile", T + 120_000).unwrap();
    bench.pull().await;
    swap(&bench, &disk);
    let report = bench.pull().await;
    assert_eq!((report.doubt, report.pulled.files), (Some(Doubt::OtherDestination), 1), "{report:#?}");
    assert!(report.conflicts.is_empty(), "{report:#?}");
    bench.assert_exact().await;
}

/// What happens to a destination between two runs.
type Mishap = fn(&Bench, &Path);

/// Each in which records are forgotten, with the doubt of the first run.
const MISHAPS: [(&str, Mishap, Doubt); 5] = [
    ("emptied", |bench, _| empty(&bench.dest()), Doubt::NoMarker),
    ("emptied but for the marker", |bench, _| empty_but_for_marker(bench), Doubt::OtherFiles),
    ("swapped", |bench, copy| drop(swap(bench, copy)), Doubt::OtherGeneration),
    ("another marker", |bench, _| replace_marker(bench, "id"), Doubt::OtherDestination),
    ("a damaged marker", |bench, _| fs::write(marker(bench), "{").unwrap(), Doubt::DamagedMarker),
];

fn empty(folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    fs::create_dir(folder).unwrap();
}

fn empty_but_for_marker(bench: &Bench) {
    for entry in fs::read_dir(bench.dest()).unwrap().map(Result::unwrap) {
        match (entry.file_name() == ".obsync", entry.path().is_dir()) {
            (true, _) => {}
            (false, true) => fs::remove_dir_all(entry.path()).unwrap(),
            (false, false) => fs::remove_file(entry.path()).unwrap(),
        }
    }
}

fn replace_marker(bench: &Bench, member: &str) {
    let mut content: serde_json::Value = serde_json::from_slice(&fs::read(marker(bench)).unwrap()).unwrap();
    content[member] = "0123456789abcdef0123456789abcdef".into();
    fs::write(marker(bench), content.to_string()).unwrap();
    fs::remove_file(bench.dest().join("1.md")).unwrap();
}

/// A run that doubts the destination and ends at its `ends_at`th look at a commit, between two or in the middle of
/// one: killed, or stopped in good order. Returns false if it came to its end.
async fn doubts_until(bench: &Bench, ends_at: usize, is_killed: bool) -> bool {
    let (stop, seen) = (CancellationToken::new(), AtomicUsize::new(0));
    let stopped = stop.clone();
    let state = Arc::new(WatchedState::with(bench.state(), move || {
        if seen.fetch_add(1, Ordering::SeqCst) == ends_at {
            assert!(!is_killed, "killed");
            stopped.cancel();
        }
    }));
    let (source, store, options) = (bench.source.clone(), bench.store(), bench.options.clone());
    let run = async move { pull(&source, store, state, &options, Arc::new(NoProgress), stop).await };
    let ended = match tokio::spawn(run).await {
        Ok(report) => report.unwrap().outcome == Outcome::Interrupted,
        Err(killed) => killed.is_panic(),
    };
    bench.until_dead().await;
    ended
}

#[tokio::test(flavor = "multi_thread")]
async fn a_doubt_that_is_cut_short_at_any_commit_is_not_believed_by_the_next_run() {
    for (name, mishap, doubt) in MISHAPS {
        for is_killed in [true, false] {
            let (mut ends_at, mut cut_short) = (0, 0);
            loop {
                let (bench, copy) = with_copy().await;
                mishap(&bench, &copy);
                if !doubts_until(&bench, ends_at, is_killed).await {
                    break;
                }
                let forgets = bench.state().load().await.unwrap().forgetting;
                let report = bench.pull().await;
                let case = format!("{name}, ended at {ends_at}: {report:#?}");
                assert!(!forgets || report.doubt == Some(doubt), "{case}");
                assert!(report.conflicts.is_empty(), "{case}");
                bench.assert_exact().await;
                assert!(bench.pull().await.is_unchanged(), "{case}");
                (ends_at, cut_short) = (ends_at + 1, cut_short + usize::from(forgets));
            }
            assert!(cut_short >= 2, "{name}: {cut_short} of {ends_at} runs ended while they forgot");
        }
    }
}

/// The disk is back: nothing says any more why the records were not trusted.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_being_forgotten_stay_untrusted_when_the_cause_is_gone() {
    let (bench, _) = with_copy().await;
    let disk = bench.dest().with_file_name("disk");
    fs::rename(bench.dest(), &disk).unwrap();
    fs::create_dir(bench.dest()).unwrap();
    assert!(doubts_until(&bench, 2, true).await);
    assert!(bench.state().load().await.unwrap().forgetting);
    swap(&bench, &disk);
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.doubt), (Outcome::Complete, Some(Doubt::CutShort)), "{report:#?}");
    assert!(report.warnings[0].contains("was cut short"), "{report:#?}");
    assert!(report.conflicts.is_empty() && report.pulled.files == 0, "{report:#?}");
    bench.assert_exact().await;
    assert!(bench.pull().await.is_unchanged());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_state_is_made_up_for_by_the_history_of_the_vault() {
    let (bench, copy) = with_copy().await;
    swap(&bench, &copy);
    bench.lose_state();
    let report = bench.pull().await;
    assert_eq!(
        (report.outcome, report.doubt),
        (Outcome::Complete, None),
        "nothing was believed: {report:#?}"
    );
    assert_eq!((report.conflicts.len(), report.deleted.files), (0, 2), "{report:#?}");
    bench.assert_exact().await;
}

/// A backup without hidden folders: the marker stays, the notes are older.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_older_than_they_were_are_noticed_beside_a_right_marker() {
    let (bench, copy) = with_copy().await;
    for file in bench.files() {
        fs::remove_file(bench.dest().join(file)).unwrap();
    }
    fs::remove_dir_all(copy.join(".obsync")).unwrap();
    copy_tree(&copy.join("."), &bench.dest());
    // Some restore tools set the files' times.
    for file in bench.files() {
        let file = fs::File::options().append(true).open(bench.dest().join(file)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    }
    let report = bench.pull().await;
    assert_eq!(report.doubt, Some(Doubt::OtherFiles), "{report:#?}");
    assert!(report.conflicts.is_empty(), "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_all_files_are_edits_and_no_other_destination() {
    let (bench, _) = with_copy().await;
    for file in bench.files() {
        bench.edit(file, "formatted");
    }
    let report = bench.pull().await;
    assert!(report.is_unchanged() && report.doubt.is_none(), "{report:#?}");
    assert_eq!(bench.read("5.md"), "formatted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_marker_is_told_and_one_of_a_newer_release_ends_the_run() {
    let (bench, _) = with_copy().await;
    let text = fs::read_to_string(marker(&bench)).unwrap();
    for damaged in ["", "no marker", &text[..20], &text.replace("\"id\":\"", "\"id\":\"x")] {
        fs::write(marker(&bench), damaged).unwrap();
        let report = bench.pull().await;
        assert_eq!(report.doubt, Some(Doubt::DamagedMarker), "{damaged:?}: {report:#?}");
        assert!(report.pulled.files == 0 && report.conflicts.is_empty(), "{report:#?}");
        bench.assert_exact().await;
        assert_eq!(bench.pull().await.doubt, None, "it has a marker of its own again");
    }
    fs::write(marker(&bench), text.replace("\"format\":1", "\"format\":9")).unwrap();
    let error = bench.try_pull().await.unwrap_err();
    assert!(matches!(error, PullError::Store(_)) && error.to_string().contains("update obsync"), "{error}");
    // A folder in its place.
    fs::remove_file(marker(&bench)).unwrap();
    fs::create_dir(marker(&bench)).unwrap();
    assert_eq!(bench.try_pull().await.unwrap().doubt, Some(Doubt::DamagedMarker));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_another_vault_is_told_before_it_is_replaced() {
    let (bench, _) = with_copy().await;
    let text = fs::read_to_string(marker(&bench)).unwrap();
    let vault = bench.source.vault.id.to_string();
    assert!(text.contains(&vault), "{text}");
    bench.lose_state();
    fs::write(marker(&bench), text.replace(&vault, &"0".repeat(32))).unwrap();
    let report = bench.pull().await;
    assert!(report.warnings.iter().any(|warning| warning.contains("another vault")), "{report:#?}");
    let report = bench.pull().await;
    assert_eq!(report.warnings, [""; 0], "it has the mark of this vault now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_changes_something_draws_a_new_generation_and_one_that_does_not_writes_nothing() {
    let (bench, _) = with_copy().await;
    let text = || fs::read_to_string(marker(&bench)).unwrap();
    let known = async || bench.state().load().await.unwrap().destination.unwrap();
    let (first, before) = (known().await, text());
    assert!(first.next.is_none() && before.contains(&first.generation.to_string()));
    let written = fs::metadata(marker(&bench)).unwrap().modified().unwrap();
    assert!(bench.pull().await.is_unchanged());
    assert_eq!(fs::metadata(marker(&bench)).unwrap().modified().unwrap(), written);
    assert_eq!(known().await, first);
    bench.vault.write("more.md", "more", T).unwrap();
    bench.pull().await;
    let second = known().await;
    assert!(second.id == first.id && second.generation != first.generation);
    assert!(text().contains(&second.generation.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_in_a_destination_that_is_in_doubt_tells_what_would_be_done_and_does_nothing() {
    let (mut bench, copy) = with_copy().await;
    swap(&bench, &copy);
    let before = (bench.tree(), bench.state().load().await.unwrap());
    bench.options.dry_run = true;
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.doubt), (Outcome::DryRun, Some(Doubt::OtherGeneration)));
    assert!(!report.steps.is_empty(), "{report:#?}");
    assert_eq!((bench.tree(), bench.state().load().await.unwrap()), before);
    bench.options.dry_run = false;
    bench.pull().await;
    bench.assert_exact().await;
}

/// The server is restored from a backup and grows beyond the known version.
#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_restored_and_grew_again_removes_nothing_and_what_differs_is_kept() {
    for mode in [Mode::Incremental, Mode::Full] {
        let bench = Bench::new().await;
        for number in 0..5 {
            bench.vault.write(&format!("{number}.md"), format!("{number}"), T).unwrap();
        }
        bench.pull().await;
        let after = bench.anew().await;
        for number in 0..3 {
            after.vault.write(&format!("{number}.md"), format!("{number}"), T).unwrap();
        }
        after.vault.write("3.md", "another text than before", T).unwrap();
        for number in 0..9 {
            after.vault.write(&format!("new {number}.md"), "new", T).unwrap();
        }
        let mut after = after.with_destination_of(bench);
        after.options.mode = mode;
        let report = after.pull().await;
        assert!(report.vault_restored, "{report:#?}");
        assert_eq!((report.outcome, report.deleted.files), (Outcome::Complete, 0), "{report:#?}");
        assert_eq!(after.read("3.md"), "another text than before");
        assert_eq!(after.read("4.md"), "4", "the vault does not list it any more");
        assert_eq!(report.conflicts.len(), 1, "{report:#?}");
        assert_eq!(after.read(report.conflicts[0].kept_as.as_str()), "3");
        after.options.mode = Mode::Incremental;
        let report = after.pull().await;
        assert!(!report.vault_restored && report.is_unchanged(), "{report:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_entry_of_a_vault_may_be_changed_deleted_or_renamed() {
    let bench = Bench::new().await;
    bench.vault.write("a.md", "a", T).unwrap();
    bench.pull().await;
    let changes: [&dyn Fn() -> Uid; 5] = [
        &|| bench.vault.write("a.md", "changed", T).unwrap(),
        &|| bench.vault.rename("a.md", "b.md").unwrap(),
        &|| bench.vault.delete("b.md").unwrap(),
        &|| bench.vault.create_folder("c").unwrap(),
        &|| bench.vault.write("b.md", "again", T).unwrap(),
    ];
    for change in changes {
        let _ = change();
        let report = bench.pull().await;
        assert!(!report.vault_restored && report.outcome == Outcome::Complete, "{report:#?}");
        bench.assert_exact().await;
        let report = bench.pull().await;
        assert!(report.is_unchanged() && report.listed == 0, "{report:#?}");
    }
}

/// A pulled vault whose newest note was written twice: `before` is the version before the second time.
async fn with_newest_note() -> (Bench, Uid) {
    let bench = Bench::new().await;
    for number in 0..5 {
        bench.vault.write(&format!("{number}.md"), format!("{number}"), T).unwrap();
    }
    bench.vault.write("newest.md", "first", T).unwrap();
    bench.vault.write("last but one.md", "gone after the restoration", T).unwrap();
    let before = bench.vault.version();
    bench.vault.write("newest.md", "second", T).unwrap();
    bench.pull().await;
    (bench, before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_restored_is_noticed_though_its_newest_note_was_written_anew() {
    let (bench, before) = with_newest_note().await;
    bench.vault.roll_back(Uid(before.0 - 1)).unwrap();
    for text in ["3, in the place of the last but one", "3, another"] {
        bench.vault.write("3.md", text, T).unwrap();
    }
    bench.vault.write("newest.md", "third", T).unwrap();
    let report = bench.pull().await;
    assert!(report.vault_restored && report.deleted.files == 0, "{report:#?}");
    for (path, text) in [("3.md", "3, another"), ("newest.md", "third")] {
        assert_eq!(bench.read(path), text);
    }
    let kept: Vec<String> = report.conflicts.iter().map(|kept| bench.read(kept.kept_as.as_str())).collect();
    assert_eq!(kept, ["3", "second"], "{report:#?}");
    assert_eq!(bench.read("last but one.md"), "gone after the restoration");
    let report = bench.pull().await;
    assert!(!report.vault_restored && report.is_unchanged(), "{report:#?}");
}

/// The rolled-back versions' numbers are used again, one of them for the path of the newest note.
#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_restored_is_noticed_though_its_newest_note_got_the_same_version() {
    let (bench, before) = with_newest_note().await;
    bench.vault.roll_back(before).unwrap();
    for text in ["in the place of the second", "third"] {
        bench.vault.write("newest.md", text, T).unwrap();
    }
    assert!(bench.pull().await.vault_restored);
    assert_eq!(bench.read("newest.md"), "third");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_the_newest_note_is_an_edit_and_lists_nothing_else() {
    let (bench, _) = with_newest_note().await;
    for (number, purges) in [false, true, false].into_iter().enumerate() {
        bench.vault.write("newest.md", format!("edit {number}"), T + 1000).unwrap();
        if purges {
            bench.vault.purge().unwrap();
        }
        let report = bench.pull().await;
        assert_eq!((report.vault_restored, report.listed, report.connections), (false, 1, 1), "{report:#?}");
        assert_eq!(report.pulled.files, 1, "{report:#?}");
        bench.assert_exact().await;
    }
}

/// A pull between restoration and growth sees the older vault, and must not hide the growth that follows.
#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_was_seen_restored_is_noticed_when_it_has_grown_again() {
    let bench = Bench::new().await;
    for number in 0..9 {
        bench.vault.write(&format!("{number}.md"), format!("{number}"), T).unwrap();
    }
    bench.pull().await;
    let after = bench.anew().await;
    after.vault.write("0.md", "0", T).unwrap();
    let after = after.with_destination_of(bench);
    assert_eq!(after.pull().await.outcome, Outcome::VaultOlder);
    for number in 0..20 {
        after.vault.write(&format!("new {number}.md"), "new", T).unwrap();
    }
    after.vault.write("7.md", "of the new line", T).unwrap();
    let report = after.pull().await;
    assert!(report.vault_restored && report.deleted.files == 0, "{report:#?}");
    assert_eq!(after.read("7.md"), "of the new line");
    assert_eq!(after.read(report.conflicts[0].kept_as.as_str()), "7");
}

/// The user accepted another encryption: the service's claims about earlier contents do not count.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_keeps_everything_asks_no_history_and_removes_nothing() {
    let (mut bench, copy) = with_copy().await;
    swap(&bench, &copy);
    bench.lose_state();
    bench.options.keep_everything = true;
    let report = bench.pull().await;
    assert_eq!((report.conflicts.len(), report.deleted.files), (3, 0), "{report:#?}");
    assert_eq!(bench.read("3.md"), "text 3", "the vault deleted it");
    // It lasts until a run completes, and no longer.
    bench.options.keep_everything = false;
    assert!(!bench.state().load().await.unwrap().keeping);
    assert!(bench.pull().await.is_unchanged());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_the_vault_deleted_before_the_first_pull_is_not_obsyncs_to_remove() {
    let bench = Bench::new().await;
    bench.vault.write("old.md", "kept by its user", T).unwrap();
    bench.vault.delete("old.md").unwrap();
    bench.vault.write("a.md", "a", T).unwrap();
    bench.edit("old.md", "kept by its user");
    // Interrupted before anything arrived: the destination has its marker, and the version is still 0.
    bench.server.faults().set("stall-request=always".parse().unwrap());
    let stop = CancellationToken::new();
    let cut = async {
        while !marker(&bench).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stop.cancel();
    };
    let (report, ()) = tokio::join!(bench.pull_with(Arc::new(NoProgress), stop.clone()), cut);
    assert_eq!(report.unwrap().outcome, Outcome::Interrupted);
    bench.server.faults().clear();
    bench.pull().await;
    assert_eq!((bench.read("old.md"), bench.read("a.md")), ("kept by its user".to_owned(), "a".to_owned()));
}
