//! Files that a sync may treat as deleted here: only those that it saw here, in a run that got that far.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use obsync_core::{
    Direction, Filter, MaxDelete, NoProgress, Outcome, Phase, Progress, StateStore, StepAction,
    SyncDirection, SyncOptions, sync,
};
use obsync_folder::FolderDestination;
use obsync_protocol::VaultPath;
use obsync_testkit::Chance;
use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::stopping::StopAtFirstPlaced;
use crate::two_way::{has, in_step};

const T: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_that_is_stopped_while_it_looks_deletes_nothing_in_the_next() {
    let bench = Bench::new().await;
    for note in ["a.md", "b.md", "c.md"] {
        bench.vault.write(note, note, T).unwrap();
    }
    bench.pull().await;
    fs::remove_file(bench.dest().join("b.md")).unwrap();
    let stop = CancellationToken::new();
    stop.cancel();
    let (none, options) = (Arc::new(NoProgress), SyncOptions::default());
    let report = sync(&bench.source, bench.store(), bench.state(), &options, none, stop).await.unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    for _ in 0..2 {
        let report = bench.sync().await;
        assert_eq!(report.deleted_in_vault.files, 0, "{report:#?}");
    }
    assert!(has(&bench, "b.md", "b.md"));
    bench.assert_in_step().await;
    assert_eq!(bench.read("b.md"), "b.md", "what was removed before the first sync comes back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_after_a_first_pull_that_was_cut_off_comes_back() {
    let bench = Bench::new().await;
    for n in 0..600 {
        bench.vault.write(&format!("{n}.md"), format!("note {n}"), T).unwrap();
    }
    let stop = CancellationToken::new();
    let report = bench.pull_with(Arc::new(StopAtFirstPlaced(stop.clone())), stop).await.unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted);
    let arrived = bench.files().into_iter().next().unwrap();
    fs::remove_file(bench.dest().join(&arrived)).unwrap();
    for _ in 0..2 {
        let report = bench.sync().await;
        assert_eq!(report.deleted_in_vault.files, 0, "{report:#?}");
    }
    bench.assert_in_step().await;
    assert_eq!(bench.files().len(), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_that_went_while_it_was_not_sent_is_not_deleted_once_it_is() {
    let bench = in_step(&[(".obsidian/app.json", "{}"), ("note.md", "text")]).await;
    fs::remove_dir_all(bench.dest().join(".obsidian")).unwrap();
    bench.sync().await;
    for _ in 0..2 {
        let report = bench.sync_with(|options| options.sends_configuration = true).await.unwrap();
        assert_eq!(report.deleted_in_vault.files, 0, "{report:#?}");
    }
    assert!(has(&bench, ".obsidian/app.json", "{}"));
    // A file that is seen while it is sent can count as missing.
    bench.edit(".obsidian/app.json", "{\"a\":1}");
    bench.sync_with(|options| options.sends_configuration = true).await.unwrap();
    fs::remove_file(bench.dest().join(".obsidian/app.json")).unwrap();
    let report = bench.sync_with(|options| options.sends_configuration = true).await.unwrap();
    assert_eq!(report.deleted_in_vault.files, 1, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_deletes_nothing_here_whatever_the_limit_is() {
    let bench = Bench::new().await;
    for note in ["a.md", "b.md", "c.md"] {
        bench.vault.write(note, note, T).unwrap();
    }
    bench.pull().await;
    bench.vault.delete("b.md").unwrap();
    let unlimited = |options: &mut SyncOptions| options.pull.max_delete = MaxDelete::Unlimited;
    let report = bench.sync_with(unlimited).await.unwrap();
    assert_eq!((report.outcome, report.held_back.len()), (Outcome::HeldBack, 1), "{report:#?}");
    assert_eq!(bench.read("b.md"), "b.md");
    // The next one is no first one.
    let report = bench.sync_with(unlimited).await.unwrap();
    assert_eq!((report.outcome, report.deleted.files), (Outcome::Complete, 1), "{report:#?}");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_sync_after_pushes_deletes_nothing_on_either_side() {
    let bench = Bench::new().await;
    for note in ["a.md", "b.md", "c.md"] {
        bench.edit(note, note);
    }
    let push = |options: &mut SyncOptions| options.direction = SyncDirection::Push { mirrors: false };
    bench.sync_with(push).await.unwrap();
    bench.vault.delete("b.md").unwrap();
    bench.sync_with(push).await.unwrap();
    fs::remove_file(bench.dest().join("c.md")).unwrap();
    let unlimited = |options: &mut SyncOptions| options.pull.max_delete = MaxDelete::Unlimited;
    let report = bench.sync_with(unlimited).await.unwrap();
    let done = (report.outcome, report.held_back.len(), report.deleted_in_vault.files);
    assert_eq!(done, (Outcome::HeldBack, 1, 0), "{report:#?}");
    assert_eq!((bench.read("b.md"), bench.read("c.md")), ("b.md".to_owned(), "c.md".to_owned()));
    let report = bench.sync_with(unlimited).await.unwrap();
    assert_eq!((report.outcome, report.deleted.files), (Outcome::Complete, 1), "{report:#?}");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_of_a_destination_that_is_otherwise_synced_both_ways_changes_no_direction() {
    let bench = Bench::new().await;
    bench.edit("a.md", "a");
    bench.sync().await;
    bench.edit("b.md", "b");
    let push = |options: &mut SyncOptions| {
        options.direction = SyncDirection::Push { mirrors: false };
        options.pull.is_narrowed = true;
    };
    let report = bench.sync_with(push).await.unwrap();
    assert_eq!(report.pushed.files, 1);
    assert_eq!(bench.state().load().await.unwrap().direction, Direction::Both);
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    let report = bench.sync().await;
    assert_eq!((report.deleted_in_vault.files, &report.warnings[..]), (1, &[][..]), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_became_a_folder_before_the_first_sync_stays_in_the_vault() {
    let bench = Bench::new().await;
    for note in ["a.md", "b.md", "c.md"] {
        bench.vault.write(note, note, T).unwrap();
    }
    bench.pull().await;
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    bench.edit("a.md/x.md", "x");
    for _ in 0..2 {
        let report = bench.sync().await;
        assert_eq!(report.deleted_in_vault.files, 0, "{report:#?}");
    }
    let texts = bench.vault.contents().unwrap();
    for text in ["a.md", "x"] {
        assert!(texts.values().any(|there| there == text.as_bytes()), "{text}: {texts:?}");
    }
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_vault_had_comes_with_the_sync_after_a_push_that_mirrors() {
    let bench = in_step(&[("both.md", "text")]).await;
    bench.vault.write("there.md", "there", T).unwrap();
    let mirror = |options: &mut SyncOptions| options.direction = SyncDirection::Push { mirrors: true };
    bench.sync_with(mirror).await.unwrap();
    assert!(has(&bench, "there.md", "there"), "a push deletes nothing that it never saw");
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(bench.read("there.md"), "there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_gets_a_name_that_no_vault_can_have_stays_in_the_vault() {
    let notes =
        [("dir/in.md", "in"), ("dir/deep/b.md", "b"), ("gone.md", "gone"), ("stays/gone.md", "gone too")];
    let bench = in_step(&[&notes[..], &[("stays/here.md", "here")]].concat()).await;
    fs::rename(bench.dest().join("dir"), bench.dest().join("a\\b")).unwrap();
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    fs::remove_file(bench.dest().join("stays/gone.md")).unwrap();
    let report = bench.sync().await;
    assert_eq!(report.deleted_in_vault.files, 2, "{report:#?}");
    let said = report.warnings.join("\n");
    assert!(said.contains("a\\\\b") && said.contains("no folder that is missing"), "{said}");
    let report = bench.sync().await;
    assert_eq!((report.deleted_in_vault.files, report.folders_deleted_in_vault), (0, 0), "{report:#?}");
    for (path, text) in &notes[..2] {
        assert!(has(&bench, path, text), "{path}");
    }
    // Under a valid name it is sent as a rename.
    fs::rename(bench.dest().join("a\\b"), bench.dest().join("a b")).unwrap();
    bench.sync().await;
    assert!(
        has(&bench, "a b/in.md", "in")
            && has(&bench, "a b/deep/b.md", "b")
            && !has(&bench, "dir/in.md", "in")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_gets_a_name_that_is_refused_stays_in_the_vault() {
    let bench = in_step(&[("Meeting.md", "text"), ("other.md", "other"), ("dir/in.md", "in")]).await;
    fs::rename(bench.dest().join("Meeting.md"), bench.dest().join("10:30 Meeting.md")).unwrap();
    fs::rename(bench.dest().join("other.md"), bench.dest().join("a\\b.md")).unwrap();
    fs::rename(bench.dest().join("dir"), bench.dest().join("A: b")).unwrap();
    for _ in 0..2 {
        let report = bench.sync().await;
        assert_eq!(report.deleted_in_vault.files, 0, "{report:#?}");
        let said = report.warnings.join("\n");
        for name in ["10:30 Meeting.md", "a\\\\b.md", "not deleted in the vault", "\"other.md\""] {
            assert!(said.contains(name), "{name}: {said}");
        }
    }
    for (path, text) in [("Meeting.md", "text"), ("other.md", "other"), ("dir/in.md", "in")] {
        assert!(has(&bench, path, text), "{path}");
    }
    fs::rename(bench.dest().join("10:30 Meeting.md"), bench.dest().join("10.30 Meeting.md")).unwrap();
    bench.sync().await;
    assert!(has(&bench, "10.30 Meeting.md", "text") && !has(&bench, "Meeting.md", "text"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_that_did_not_reach_the_service_leaves_the_next_one_a_first_one() {
    let bench = Bench::new().await;
    for number in 0..4 {
        bench.vault.write(&format!("{number}.md"), format!("note {number}"), T).unwrap();
    }
    bench.pull().await;
    bench.server.faults().update(|faults| faults.drop_in_listing = Chance::always());
    bench.try_sync().await.unwrap_err();
    bench.server.faults().clear();
    bench.vault.delete("0.md").unwrap();
    fs::remove_file(bench.dest().join("1.md")).unwrap();
    let limited = |options: &mut SyncOptions| options.pull.max_delete = MaxDelete::Files(100);
    let report = bench.sync_with(limited).await.unwrap();
    let deleted = (report.deleted.files, report.deleted_in_vault.files, report.held_back.len());
    assert_eq!(deleted, (0, 0, 1), "{report:#?}");
    assert!(bench.dest().join("0.md").exists() && has(&bench, "1.md", "note 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_removed_here_while_only_its_time_changed_there_is_deleted_there() {
    let bench = in_step(&[("a.md", "a"), ("b.md", "b")]).await;
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    bench.vault.write("a.md", "a", T + 5_000).unwrap();
    bench.sync().await;
    bench.sync().await;
    assert!(!has(&bench, "a.md", "a"), "{:?}", bench.vault.contents());
    bench.assert_in_step().await;
}

/// Removes a file as a run begins to scan for the first time.
struct RemovedBeforeTheScan(Mutex<Option<PathBuf>>);

impl Progress for RemovedBeforeTheScan {
    fn phase(&self, phase: Phase) {
        if phase == Phase::Scanning
            && let Some(file) = self.0.lock().unwrap().take()
        {
            fs::remove_file(file).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_and_absence_what_goes_in_the_very_run_that_has_it_again_comes_back() {
    let mut bench = in_step(&[("a.md", "a"), ("x/b.md", "b")]).await;
    let excluded = vec![VaultPath::parse("x").unwrap()];
    bench.filter(Filter { excluded, ..Filter::default() });
    bench.sync().await;
    bench.filter(Filter::default());
    let progress = Arc::new(RemovedBeforeTheScan(Mutex::new(Some(bench.dest().join("x/b.md")))));
    let destination = FolderDestination::open(&bench.dest(), bench.folder).unwrap();
    let report = bench.sync_through(destination, progress, CancellationToken::new()).await.unwrap();
    assert_eq!((report.outcome, report.deleted_in_vault.files), (Outcome::Complete, 0), "{report:#?}");
    assert_eq!(bench.read("x/b.md"), "b");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn filter_and_absence_what_both_sides_changed_while_it_was_left_out_is_merged_and_sent() {
    let mut bench = in_step(&[("a.md", "a"), ("x/b.md", "a\nb\nc\n")]).await;
    let excluded = vec![VaultPath::parse("x").unwrap()];
    bench.filter(Filter { excluded, ..Filter::default() });
    bench.vault.write("x/b.md", "a\nb\nC\n", T + 5000).unwrap();
    bench.sync().await;
    bench.edit("x/b.md", "A\nb\nc\n");
    bench.filter(Filter::default());
    bench.options.dry_run = true;
    let said = bench.sync().await;
    assert!(said.steps.iter().any(|step| step.action == StepAction::Push), "{said:#?}");
    bench.options.dry_run = false;
    let report = bench.sync().await;
    assert_eq!((report.merged.len(), report.pushed.files), (1, 1), "{report:#?}");
    assert_eq!(bench.read("x/b.md"), "A\nb\nC\n");
    bench.assert_in_step().await;
}
