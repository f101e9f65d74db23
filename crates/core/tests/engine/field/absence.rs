//! Absence: a missing file is deleted in the vault only if its user certainly removed it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use obsync_core::{
    Doubt, Failure, Filter, MaxDelete, Mode, NoProgress, Outcome, Phase, Progress, PullError, PullOptions,
    Report, StateStore, SyncDirection, SyncOptions, sync,
};
use obsync_folder::{FolderDestination, ListingFault};
use obsync_protocol::VaultPath;
use tokio_util::sync::CancellationToken;

use super::{T, deletions_there, has, in_step};
use crate::bench::Bench;
use crate::following::{Follower, until};
use crate::stopping::StopAtScanNumber;

/// The default limits.
fn usual(options: &mut SyncOptions) {
    options.max_delete_in_vault = MaxDelete::InVault;
}

fn paths_in_vault(bench: &Bench) -> Vec<String> {
    bench.vault.expected().unwrap().files.into_iter().map(|file| file.path).collect()
}

/// A vault and a folder with this many notes.
async fn with_notes(count: usize) -> Bench {
    let bench = Bench::new().await;
    for number in 0..count {
        bench.vault.write(&format!("{number}.md"), format!("note {number}"), T).unwrap();
    }
    bench.sync().await;
    bench
}

/// The names of all files here, byte for byte.
fn names_here(bench: &Bench) -> Vec<String> {
    let mut names = bench.files();
    names.sort();
    names
}

fn nothing_deleted(report: &Report) {
    let deleted = (report.deleted.files, report.deleted_in_vault.files, report.folders_deleted_in_vault);
    assert_eq!(deleted, (0, 0, 0), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_folder_without_a_state_and_with_one_is_filled_and_deletes_nothing() {
    let bench = with_notes(60).await;
    // No state: another computer's first run.
    bench.lose_state();
    fs::remove_dir_all(bench.dest()).unwrap();
    fs::create_dir(bench.dest()).unwrap();
    nothing_deleted(&bench.sync_with(usual).await.unwrap());
    bench.assert_in_step().await;
    // A state, and a folder that has nothing but its marker.
    for file in bench.files() {
        fs::remove_file(bench.dest().join(file)).unwrap();
    }
    let report = bench.sync_with(usual).await.unwrap();
    nothing_deleted(&report);
    assert_eq!((report.doubt, report.pulled.files), (Some(Doubt::OtherFiles), 60), "{report:#?}");
    // A state, and nothing at all; the limit does not matter.
    for is_there in [true, false] {
        fs::remove_dir_all(bench.dest()).unwrap();
        if is_there {
            fs::create_dir(bench.dest()).unwrap();
        }
        nothing_deleted(&bench.sync().await);
        bench.assert_in_step().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_folder_but_for_10_of_1000_files_asks_before_anything_is_deleted() {
    let bench = with_notes(1000).await;
    for number in 10..1000 {
        fs::remove_file(bench.dest().join(format!("{number}.md"))).unwrap();
    }
    let report = bench.sync_with(usual).await.unwrap();
    nothing_deleted(&report);
    assert_eq!((report.outcome, report.held_back()), (Outcome::HeldBack, 990));
    assert_eq!(paths_in_vault(&bench).len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_folder_state_that_is_older_than_the_folder_deletes_nothing() {
    let bench = with_notes(20).await;
    let (state, old) = (bench.home().join("state.sqlite"), bench.home().join("old.sqlite"));
    fs::copy(&state, &old).unwrap();
    for number in 0..5 {
        fs::remove_file(bench.dest().join(format!("{number}.md"))).unwrap();
    }
    bench.edit("7.md", "edited");
    bench.edit("new.md", "new");
    bench.sync().await;
    // Another device restores the five, and the earlier state is restored.
    bench.vault.write("3.md", "back", T + 1000).unwrap();
    fs::copy(&old, &state).unwrap();
    let report = bench.sync_with(usual).await.unwrap();
    nothing_deleted(&report);
    assert_eq!(report.doubt, Some(Doubt::OtherGeneration), "{report:#?}");
    bench.assert_in_step().await;
    assert!(has(&bench, "7.md", "edited") && has(&bench, "3.md", "back") && has(&bench, "new.md", "new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_folder_what_was_removed_before_the_first_sync_comes_back() {
    let bench = Bench::new().await;
    for name in ["a.md", "b.md", "x/c.md"] {
        bench.vault.write(name, name, T).unwrap();
    }
    bench.pull().await;
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    fs::remove_dir_all(bench.dest().join("x")).unwrap();
    let report = bench.sync().await;
    nothing_deleted(&report);
    assert_eq!(report.pulled.files, 2, "{report:#?}");
    assert!(report.warnings.iter().any(|warning| warning.contains("both ways")), "{report:#?}");
    bench.assert_in_step().await;
    // Neither does the second run.
    assert!(bench.sync().await.is_unchanged());
    // A push fetches nothing, and deletes only files that it has seen missing.
    let bench = Bench::new().await;
    bench.vault.write("a.md", "a", T).unwrap();
    bench.vault.write("b.md", "b", T).unwrap();
    bench.pull().await;
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    let push = |options: &mut SyncOptions| options.direction = SyncDirection::Push { mirrors: false };
    for _ in 0..2 {
        nothing_deleted(&bench.sync_with(push).await.unwrap());
    }
    assert_eq!(paths_in_vault(&bench), ["a.md", "b.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn wider_filter_brings_in_what_it_left_out_and_deletes_nothing() {
    let mut bench = Bench::new().await;
    let files = ["a.md", "b.excalidraw", "c.tex", "d.png", "Archive/e.md", ".obsidian/app.json"];
    for path in files {
        bench.vault.write(path, path, T).unwrap();
    }
    let mut narrow = Filter { file_types: "image".parse().unwrap(), ..Filter::default() };
    narrow.configs = "none".parse().unwrap();
    narrow.excluded = vec![VaultPath::parse("Archive").unwrap()];
    bench.filter(narrow.clone());
    bench.sync().await;
    assert_eq!(bench.files(), ["a.md", "d.png"]);
    fs::create_dir_all(bench.dest().join(".obsidian")).unwrap();
    bench.filter(Filter { file_types: Filter::default().file_types, ..narrow.clone() });
    nothing_deleted(&bench.sync().await);
    bench.filter(Filter { excluded: narrow.excluded, ..Filter::default() });
    nothing_deleted(&bench.sync_with(|options| options.sends_configuration = true).await.unwrap());
    bench.filter(Filter::default());
    nothing_deleted(&bench.sync_with(|options| options.sends_configuration = true).await.unwrap());
    assert_eq!(paths_in_vault(&bench).len(), files.len());
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_lost_say_the_direction_and_are_never_more_dangerous() {
    let bench = with_notes(12).await;
    let report = bench.pull().await;
    assert!(
        report.warnings[0].contains("earlier runs synced both ways; this one only brings"),
        "{report:#?}"
    );
    bench.vault.write("more.md", "more", T).unwrap();
    bench.pull().await;
    // The first run of a direction again.
    for number in 0..4 {
        fs::remove_file(bench.dest().join(format!("{number}.md"))).unwrap();
    }
    let report = bench.sync().await;
    nothing_deleted(&report);
    assert!(report.warnings[0].contains("both ways"), "{report:#?}");
    // A state that is lost, empty, truncated or in another format.
    let state = bench.home().join("state.sqlite");
    let whole = fs::read(&state).unwrap();
    for broken in [&whole[..whole.len() / 2], b"", b"no database"] {
        fs::write(&state, broken).unwrap();
        fs::remove_file(bench.dest().join("5.md")).unwrap();
        let opened = obsync_sqlite::SqliteState::open(&state, &bench.identity());
        let loaded = match opened {
            Ok(opened) => opened.load().await.is_ok(),
            Err(_) => false,
        };
        if loaded {
            nothing_deleted(&bench.sync().await);
        } else {
            bench.lose_state();
            nothing_deleted(&bench.sync().await);
        }
        bench.assert_in_step().await;
    }
    assert_eq!(paths_in_vault(&bench).len(), 13);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_are_not_there_any_more_when_deletions_are_sent_delete_nothing() {
    let bench = with_notes(10).await;
    fs::remove_file(bench.dest().join("1.md")).unwrap();
    let (dest, aside) = (bench.dest(), bench.home().join("aside"));
    let (from, to) = (dest.clone(), aside.clone());
    let unmount = move || {
        fs::rename(&from, &to).unwrap();
        fs::create_dir(&from).unwrap();
    };
    let error = bench.sync_while(unmount).await.unwrap_err();
    assert!(matches!(error, PullError::Store(_)), "{error}");
    assert_eq!(paths_in_vault(&bench).len(), 10);
    // Not there at all.
    fs::remove_dir_all(&dest).unwrap();
    fs::rename(&aside, &dest).unwrap();
    assert_eq!(bench.sync().await.deleted_in_vault.files, 1);
    bench.assert_in_step().await;
}

/// Acts once a change was sent.
struct OnceSent {
    is_sending: AtomicBool,
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Progress for OnceSent {
    fn phase(&self, phase: Phase) {
        self.is_sending.store(phase == Phase::Sending, Ordering::Relaxed);
    }

    fn placed(&self, _bytes: u64) {
        if self.is_sending.load(Ordering::Relaxed) {
            self.act.lock().unwrap().take().into_iter().for_each(|act| act());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_are_not_there_after_the_first_of_several_batches_delete_no_more() {
    const BATCH: usize = 256;
    let bench = with_notes(700).await;
    for number in 0..600 {
        fs::remove_file(bench.dest().join(format!("{number}.md"))).unwrap();
    }
    let (dest, aside) = (bench.dest(), bench.home().join("aside"));
    let (from, to) = (dest.clone(), aside.clone());
    let unmount = move || {
        fs::rename(&from, &to).unwrap();
        fs::create_dir(&from).unwrap();
    };
    let once_sent = OnceSent { is_sending: AtomicBool::new(false), act: Mutex::new(Some(Box::new(unmount))) };
    let destination = FolderDestination::open(&dest, bench.folder).unwrap();
    let ended = bench.sync_through(destination, Arc::new(once_sent), CancellationToken::new()).await;
    let error = ended.unwrap_err();
    assert!(matches!(error, PullError::Store(_)), "{error}");
    assert_eq!(paths_in_vault(&bench).len(), 700 - BATCH);
    fs::remove_dir_all(&dest).unwrap();
    fs::rename(&aside, &dest).unwrap();
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(paths_in_vault(&bench).len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_are_not_there_a_file_that_fails_while_it_is_read_is_not_missing() {
    let notes = ["cloud/a.md", "cloud/b.md", "gone.md", "good.md"];
    let bench = in_step(&notes.map(|path| (path, path))).await;
    // A placeholder of a cloud drive: it has facts, and its content cannot be fetched.
    bench.edit("cloud/a.md", "edited here");
    bench.edit("good.md", "edited here, too");
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    for mode in [Mode::Incremental, Mode::Full] {
        let fails = |name: &str, _| (name == "cloud/a.md").then_some(ListingFault::Error(EIO));
        let destination = FolderDestination::open_with_faults(&bench.dest(), bench.folder, fails).unwrap();
        let options = SyncOptions {
            pull: PullOptions { mode, ..bench.options.clone() },
            max_delete_in_vault: MaxDelete::Unlimited,
            second_look: Duration::ZERO,
            ..SyncOptions::default()
        };
        let (none, stop) = (Arc::new(NoProgress), CancellationToken::new());
        let report =
            sync(&bench.source, Arc::new(destination), bench.state(), &options, none, stop).await.unwrap();
        assert_eq!(report.deleted.files, 0, "{report:#?}");
        let [failure] = report.failures.as_slice() else { panic!("{report:#?}") };
        assert!(failure.path == "cloud/a.md" && failure.reason.contains("Input/output error"), "{failure:?}");
        assert_eq!(paths_in_vault(&bench), ["cloud/a.md", "cloud/b.md", "good.md"]);
        assert!(has(&bench, "cloud/a.md", "cloud/a.md") && has(&bench, "good.md", "edited here, too"));
    }
    assert_eq!(bench.sync().await.pushed.files, 1);
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_are_not_there_for_the_scan_make_nothing_below_them_absent() {
    let bench = in_step(&[("a.md", "a"), ("x/b.md", "b"), ("x/y/c.md", "c")]).await;
    // A link, a pipe and a file in place of a folder: its contents are unknown.
    let aside = bench.home().join("x aside");
    fs::rename(bench.dest().join("x"), &aside).unwrap();
    std::os::unix::fs::symlink(&aside, bench.dest().join("x")).unwrap();
    nothing_deleted(&bench.sync().await);
    assert_eq!(paths_in_vault(&bench).len(), 3);
    fs::remove_file(bench.dest().join("x")).unwrap();
    fs::rename(&aside, bench.dest().join("x")).unwrap();
    // Unreadable for all but the superuser.
    fs::set_permissions(bench.dest().join("x"), fs::Permissions::from_mode(0o000)).unwrap();
    let report = bench.try_sync().await;
    fs::set_permissions(bench.dest().join("x"), fs::Permissions::from_mode(0o755)).unwrap();
    nothing_deleted(&report.unwrap());
    bench.sync().await;
    bench.assert_in_step().await;
}

/// Runs a test as a user without privileges.
fn as_a_mere_user(test: impl Future<Output = ()> + Send + 'static) {
    let run = || {
        if rustix::process::geteuid().is_root() {
            let nobody = rustix::thread::Uid::from_raw(65_534);
            // For this thread only, and those that it starts.
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        }
        tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test);
    };
    std::thread::spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn folders_that_are_not_there_half_of_a_folder_that_cannot_be_read_is_not_missing() {
    as_a_mere_user(async {
        let notes = ["closed/c.md", "closed/deep/d.md", "gone.md", "half/e.md", "open/b.md", "unreadable.md"];
        let bench = in_step(&notes.map(|path| (path, path))).await;
        let set_mode = |path: &str, mode| {
            fs::set_permissions(bench.dest().join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        // Nothing can be read of one folder, and only the names of another.
        let closed = [("closed", 0o000, 0o755), ("half", 0o444, 0o755), ("unreadable.md", 0o000, 0o644)];
        closed.iter().for_each(|(path, mode, _)| set_mode(path, *mode));
        fs::remove_file(bench.dest().join("gone.md")).unwrap();
        bench.edit("open/b.md", "edited here");
        let report = bench.try_sync().await;
        closed.iter().for_each(|(path, _, mode)| set_mode(path, *mode));
        let report = report.unwrap();
        let done = (report.deleted_in_vault.files, report.pushed.files, report.deleted.files);
        assert_eq!(done, (1, 1, 0), "{report:#?}");
        for (path, ..) in closed {
            let is_said =
                |failure: &Failure| failure.path.starts_with(path) && failure.reason.contains("denied");
            assert!(report.failures.iter().any(is_said), "{path}: {report:#?}");
        }
        assert!(bench.sync().await.is_unchanged());
        bench.assert_in_step().await;
        assert_eq!(paths_in_vault(&bench).len(), 5);
    });
}

#[test]
fn a_sync_that_cannot_read_files_of_the_vault_is_not_complete() {
    as_a_mere_user(async {
        let bench = in_step(&["closed/c.md", "closed/deep/d.md", "locked.md"].map(|path| (path, path))).await;
        let checked = bench.state().last_check().await.unwrap();
        bench.edit("closed/c.md", "edited here");
        bench.edit("locked.md", "edited here");
        fs::create_dir(bench.dest().join("of mine")).unwrap();
        let set_modes = |mode| {
            for path in ["closed", "locked.md", "of mine"] {
                fs::set_permissions(bench.dest().join(path), fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        set_modes(0o000);
        let dry = SyncOptions {
            pull: PullOptions { dry_run: true, ..bench.options.clone() },
            ..SyncOptions::default()
        };
        let (none, stop) = (Arc::new(NoProgress), CancellationToken::new());
        let planned = sync(&bench.source, bench.store(), bench.state(), &dry, none, stop).await;
        let report = bench.try_sync().await;
        set_modes(0o700);
        for report in [planned.unwrap(), report.unwrap()] {
            let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
            assert_eq!(failed, ["closed", "locked.md"], "{report:#?}");
            assert!(report.failures.iter().all(|failure| failure.uid.0 > 0), "{report:#?}");
            assert!(report.warnings.iter().any(|warning| warning.contains("\"of mine\"")), "{report:#?}");
        }
        assert_eq!(bench.state().last_check().await.unwrap(), checked, "no such run is a successful check");
        let report = bench.sync().await;
        assert_eq!((report.outcome, report.pushed.files), (Outcome::Complete, 2), "{report:#?}");
    });
}

/// Number of the I/O error of a disk.
const EIO: i32 = 5;

/// Syncs a folder whose listings fail depending on its name and the number of entries read.
async fn sync_on_a_failing_disk(
    bench: &Bench,
    decide: impl Fn(&str, usize) -> Option<ListingFault> + Send + Sync + 'static,
) -> Result<Report, PullError> {
    let destination = FolderDestination::open_with_faults(&bench.dest(), bench.folder, decide).unwrap();
    bench.sync_through(destination, Arc::new(NoProgress), CancellationToken::new()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_are_not_there_for_a_disk_that_fails_midway_are_not_missing() {
    let notes = ["bad/a.md", "bad/b.md", "bad/c.md", "bad/deep/d.md", "good/e.md", "good/gone.md"];
    let bench = in_step(&notes.map(|path| (path, path))).await;
    fs::remove_file(bench.dest().join("good/gone.md")).unwrap();
    bench.edit("good/e.md", "edited here");
    bench.edit("bad/a.md", "edited here, too");
    let expected: Vec<&str> = notes.into_iter().filter(|path| *path != "good/gone.md").collect();
    // At its beginning, at its end, and after each entry in between.
    for entries in 0..6 {
        let fails = move |folder: &str, read| folder == "bad" && read >= entries;
        let decide = move |folder: &str, read| fails(folder, read).then_some(ListingFault::Error(EIO));
        let report = sync_on_a_failing_disk(&bench, decide).await.unwrap();
        let first = u64::from(entries == 0);
        let done = (report.deleted_in_vault.files, report.pushed.files, report.deleted.files);
        assert_eq!(done, (first, first, 0), "{report:#?}");
        assert_eq!((report.outcome, report.folders_deleted_in_vault), (Outcome::Failures, 0));
        let [failure] = report.failures.as_slice() else { panic!("{report:#?}") };
        let is_said = failure.reason.starts_with("it cannot be read (Input/output error");
        assert!(failure.path == "bad" && is_said, "{failure:?}");
        assert_eq!(paths_in_vault(&bench), expected, "after {entries} entries");
        assert!(has(&bench, "bad/a.md", "bad/a.md") && has(&bench, "good/e.md", "edited here"));
    }
    assert_eq!(bench.sync().await.pushed.files, 1);
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_are_not_there_for_a_disk_that_fails_at_the_top_end_the_run() {
    let bench = with_notes(12).await;
    fs::remove_file(bench.dest().join("1.md")).unwrap();
    bench.edit("2.md", "edited here");
    let before = bench.vault.contents().unwrap();
    for entries in [0, 1, 8] {
        let fails = move |folder: &str, read| folder.is_empty() && read >= entries;
        let decide = move |folder: &str, read| fails(folder, read).then_some(ListingFault::Error(EIO));
        let error = sync_on_a_failing_disk(&bench, decide).await.unwrap_err();
        assert!(matches!(error, PullError::Store(_)), "{error}");
        assert!(error.to_string().contains("Input/output error"), "{error}");
        assert_eq!(bench.vault.contents().unwrap(), before);
    }
    let report = bench.sync().await;
    assert_eq!((report.deleted_in_vault.files, report.pushed.files), (1, 1), "{report:#?}");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_are_not_there_in_half_of_a_listing_are_looked_for_one_by_one() {
    let notes = ["a.md", "b.md", "x/c.md", "x/d.md", "x/deep/e.md", "y/f.md"];
    for cut in ["", "x"] {
        let bench = Bench::new().await;
        for folder in ["x", "x/deep", "y"] {
            bench.vault.create_folder(folder).unwrap();
        }
        for path in notes {
            bench.vault.write(path, path, T).unwrap();
        }
        bench.sync().await;
        for entries in 0..=5 {
            // Without an error, as some network drives do, in each scan.
            let ends = move |folder: &str, read| folder == cut && read >= entries;
            let decide = move |folder: &str, read| ends(folder, read).then_some(ListingFault::End);
            nothing_deleted(&sync_on_a_failing_disk(&bench, decide).await.unwrap());
            assert_eq!(paths_in_vault(&bench), notes, "{cut:?} after {entries} entries");
        }
        bench.sync().await;
        bench.assert_in_step().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_and_absence_what_went_while_it_was_left_out_is_no_deletion() {
    let mut bench = in_step(&[("a.md", "a"), ("Archive/b.md", "b"), ("Archive/c.png", "c")]).await;
    let excluded = vec![VaultPath::parse("Archive").unwrap()];
    bench.filter(Filter { excluded, ..Filter::default() });
    nothing_deleted(&bench.sync().await);
    fs::remove_dir_all(bench.dest().join("Archive")).unwrap();
    nothing_deleted(&bench.sync().await);
    bench.filter(Filter::default());
    for _ in 0..2 {
        nothing_deleted(&bench.sync().await);
    }
    assert_eq!(paths_in_vault(&bench), ["Archive/b.md", "Archive/c.png", "a.md"]);
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_and_absence_what_is_seen_again_can_be_missed_again() {
    let mut bench = in_step(&[("a.md", "a"), ("Archive/b.md", "b")]).await;
    let excluded = vec![VaultPath::parse("Archive").unwrap()];
    bench.filter(Filter { excluded, ..Filter::default() });
    bench.sync().await;
    bench.filter(Filter::default());
    bench.sync().await;
    fs::remove_file(bench.dest().join("Archive/b.md")).unwrap();
    assert_eq!(bench.sync().await.deleted_in_vault.files, 1);
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_and_absence_a_decomposed_name_of_the_vault_that_is_composed_here_is_no_deletion() {
    let (note, in_folder) = ("Cafe\u{301}.md", "Re\u{301}sume\u{301}/a.md");
    let (note_here, folder_here) = ("Caf\u{e9}.md", "R\u{e9}sum\u{e9}");
    let bench = in_step(&[(note, "text"), (in_folder, "a"), ("kept.md", "k")]).await;
    let before = bench.vault.version();
    // An editor, a file system or their user composes the names.
    let at = |name: &str| bench.dest().join(name);
    fs::rename(at(note), at(note_here)).unwrap();
    fs::rename(at("Re\u{301}sume\u{301}"), at(folder_here)).unwrap();
    let here = [note_here, "R\u{e9}sum\u{e9}/a.md", "kept.md"];
    for mode in [Mode::Incremental, Mode::Incremental, Mode::Full] {
        nothing_deleted(&bench.sync_with(|options| options.pull.mode = mode).await.unwrap());
        assert_eq!((bench.vault.version(), names_here(&bench)), (before, here.map(str::to_owned).to_vec()));
    }
    // Edits here go to the vault's paths, and the vault's edits come to the file here.
    bench.edit(note_here, "edited here");
    bench.edit("R\u{e9}sum\u{e9}/a.md", "a, edited here");
    let report = bench.sync().await;
    nothing_deleted(&report);
    assert_eq!(report.pushed.files, 2, "{report:#?}");
    assert!(has(&bench, note, "edited here") && has(&bench, in_folder, "a, edited here"));
    bench.vault.write(note, "edited there", T + 1000).unwrap();
    nothing_deleted(&bench.sync().await);
    assert_eq!(
        (bench.read(note_here).as_str(), names_here(&bench)),
        ("edited there", here.map(str::to_owned).to_vec())
    );
    assert_eq!(paths_in_vault(&bench), [note, in_folder, "kept.md"]);
    assert_eq!(deletions_there(&bench).await, 0);
    // Both at once are merged, and nothing is there twice.
    bench.vault.write(note, "a\nb\nc\n", T + 2000).unwrap();
    bench.sync().await;
    bench.edit(note_here, "A\nb\nc\n");
    bench.vault.write(note, "a\nb\nC\n", T + 3000).unwrap();
    bench.sync().await;
    bench.sync().await;
    assert!(has(&bench, note, "A\nb\nC\n"));
    assert_eq!((bench.files().len(), bench.vault.contents().unwrap().len()), (3, 3), "{:?}", bench.files());
    // A file that its user removes, and one that the vault deletes, are gone on both sides.
    fs::remove_file(at("R\u{e9}sum\u{e9}/a.md")).unwrap();
    assert_eq!(bench.sync().await.deleted_in_vault.files, 1);
    bench.vault.delete(note).unwrap();
    assert_eq!(bench.sync().await.deleted.files, 1);
    assert!(bench.sync().await.is_unchanged());
    assert_eq!(
        (names_here(&bench), paths_in_vault(&bench)),
        (vec!["kept.md".to_owned()], vec!["kept.md".to_owned()])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_and_absence_a_new_file_in_a_folder_that_is_composed_here_takes_nothing_away() {
    let (in_folder, new) = ("Re\u{301}sume\u{301}/a.md", "Re\u{301}sume\u{301}/new.md");
    let bench = in_step(&[(in_folder, "a"), ("kept.md", "k")]).await;
    let at = |name: &str| bench.dest().join(name);
    fs::rename(at("Re\u{301}sume\u{301}"), at("R\u{e9}sum\u{e9}")).unwrap();
    bench.vault.write(new, "new", T + 1).unwrap();
    for _ in 0..3 {
        nothing_deleted(&bench.sync().await);
    }
    assert_eq!(paths_in_vault(&bench), [in_folder, new, "kept.md"]);
    assert_eq!(bench.read("R\u{e9}sum\u{e9}/a.md"), "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_and_absence_a_follower_sends_a_composed_name_to_the_path_of_the_vault() {
    let (note, here) = ("Cafe\u{301}.md", "Caf\u{e9}.md");
    let bench = in_step(&[(note, "text"), ("kept.md", "k")]).await;
    let follower = Follower::at_work(&bench).await;
    fs::rename(bench.dest().join(note), bench.dest().join(here)).unwrap();
    bench.edit(here, "edited here");
    until("it is sent", || has(&bench, note, "edited here")).await;
    bench.vault.write(note, "edited there", T + 1000).unwrap();
    until("it is here", || {
        fs::read_to_string(bench.dest().join(here)).is_ok_and(|text| text == "edited there")
    })
    .await;
    follower.at_rest(1).await;
    follower.end().await;
    bench.sync().await;
    assert_eq!(paths_in_vault(&bench), [note, "kept.md", "watched.md"]);
    assert_eq!(names_here(&bench), [here, "kept.md", "watched.md"]);
    assert_eq!(deletions_there(&bench).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_folder_of_few_notes_deletes_nothing_in_a_full_sync() {
    let bench = with_notes(9).await;
    for file in bench.files() {
        fs::remove_file(bench.dest().join(file)).unwrap();
    }
    for _ in 0..2 {
        let report = bench.sync_with(|options| options.pull.mode = Mode::Full).await.unwrap();
        nothing_deleted(&report);
    }
    bench.assert_in_step().await;
    assert_eq!(bench.files().len(), 9);
}

/// A run that ends between its pull, which records the filter, and its scan.
#[tokio::test(flavor = "multi_thread")]
async fn filter_and_absence_what_went_after_a_run_that_left_it_out_and_was_stopped_is_no_deletion() {
    let mut bench = in_step(&[("a.md", "a"), ("Archive/b.md", "b"), ("Archive/c.png", "c")]).await;
    let excluded = vec![VaultPath::parse("Archive").unwrap()];
    bench.filter(Filter { excluded, ..Filter::default() });
    let stop = CancellationToken::new();
    let progress = Arc::new(StopAtScanNumber(stop.clone(), AtomicUsize::new(1)));
    let destination = FolderDestination::open(&bench.dest(), bench.folder).unwrap();
    let report = bench.sync_through(destination, progress, stop).await.unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    fs::remove_dir_all(bench.dest().join("Archive")).unwrap();
    bench.filter(Filter::default());
    for _ in 0..2 {
        nothing_deleted(&bench.sync().await);
    }
    assert_eq!(paths_in_vault(&bench), ["Archive/b.md", "Archive/c.png", "a.md"]);
    bench.assert_in_step().await;
}
