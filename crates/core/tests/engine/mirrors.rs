//! `pull --mirror`: local changes are undone, and are in the trash.

use std::fs;
use std::path::{Path, PathBuf};

use obsync_core::{JournalChange, MaxDelete, Outcome, PullError, Side, StateStore, StepAction};
use obsync_folder::FolderOptions;
use obsync_testkit::Chance;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

async fn pulled(notes: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new().await;
    bench.folder = FolderOptions { trash: true, ..bench.folder };
    for (path, text) in notes {
        bench.vault.write(path, text, T).unwrap();
    }
    bench.pull().await;
    bench
}

/// The texts of all files below a folder.
fn texts(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut pending: Vec<PathBuf> = vec![folder.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.file_type().unwrap().is_dir() {
                true => pending.push(entry.path()),
                false => found.push(fs::read_to_string(entry.path()).unwrap()),
            }
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_takes_every_change_back_and_loses_no_text() {
    let mut bench = pulled(&[("a.md", "a"), ("b.md", "b"), ("x/c.md", "c"), ("d.md", "d")]).await;
    bench.edit("a.md", "mine");
    fs::remove_file(bench.dest().join("b.md")).unwrap();
    fs::rename(bench.dest().join("x"), bench.dest().join("y")).unwrap();
    bench.edit("new/folder/e.md", "added");
    bench.vault.write("d.md", "d of the vault", T + 1).unwrap();
    bench.edit("d.md", "d of mine");
    bench.options.max_delete = MaxDelete::Unlimited;
    bench.options.mirrors = true;
    // A dry run reports it and changes nothing.
    bench.options.dry_run = true;
    let plan = bench.pull().await;
    bench.options.dry_run = false;
    assert_eq!((plan.set_aside.len(), bench.read("a.md")), (4, "mine".to_owned()), "{plan:#?}");
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
    let beside: Vec<_> = plan.steps.iter().filter(|step| step.action == StepAction::KeepBeside).collect();
    assert!(beside.is_empty(), "what is taken back is not kept beside: {beside:#?}");
    let foreseen = (plan.pulled.files, plan.copied.files, plan.adopted.files);
    assert_eq!(foreseen, (report.pulled.files, report.copied.files, report.adopted.files));
    let mut set_aside: Vec<&str> = report.set_aside.iter().map(|path| path.as_str()).collect();
    set_aside.sort_unstable();
    assert_eq!(set_aside, ["a.md", "d.md", "new/folder/e.md", "y/c.md"]);
    let differences = bench.vault.expected().unwrap().differences(&bench.dest()).unwrap();
    let differences: Vec<_> = differences.iter().filter(|line| !line.contains("\".obsync")).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(!bench.dest().join("new").exists() && !bench.dest().join("y").exists());
    assert_eq!(texts(&bench.dest().join(".obsync/trash")), ["added", "c", "d of mine", "mine"]);
    // Then there is nothing to undo.
    let report = bench.pull().await;
    assert!(report.set_aside.is_empty() && report.outcome == Outcome::Complete, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_takes_nothing_back_where_it_is_too_much_or_the_place_is_not_known() {
    let notes: Vec<(String, &str)> = (0..20).map(|n| (format!("{n}.md"), "text")).collect();
    let notes: Vec<(&str, &str)> = notes.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let mut bench = pulled(&notes).await;
    for (path, _) in &notes[..15] {
        bench.edit(path, "mine");
    }
    bench.options.max_delete = MaxDelete::default();
    bench.options.mirrors = true;
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.not_taken_back.len()), (Outcome::HeldBack, 15), "{report:#?}");
    assert_eq!(report.held_back(), 0, "nobody can confirm it: {report:#?}");
    assert_eq!(bench.read("3.md"), "mine");
    // The rest of the run is done.
    bench.vault.write("new.md", "news", T + 1).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.pulled.files), (Outcome::HeldBack, 1), "{report:#?}");
    assert_eq!(
        (report.conflicts.len(), bench.read("3.md"), bench.read("new.md")),
        (0, "mine".to_owned(), "news".to_owned())
    );
    bench.lose_state();
    let refused = bench.try_pull().await;
    assert!(matches!(refused, Err(PullError::Store(_))), "{refused:?}");
    assert_eq!(bench.read("3.md"), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mirror_that_was_cut_off_had_set_aside_comes_with_the_next_pull() {
    let mut bench = pulled(&[("a.md", "a"), ("b.md", "b"), ("c.md", "c")]).await;
    bench.edit("a.md", "mine");
    bench.options.max_delete = MaxDelete::Unlimited;
    bench.options.mirrors = true;
    bench.server.faults().update(|faults| faults.drop_in_listing = Chance::always());
    bench.try_pull().await.unwrap_err();
    assert!(!bench.dest().join("a.md").exists());
    bench.server.faults().clear();
    bench.options.mirrors = false;
    bench.pull().await;
    assert_eq!(bench.read("a.md"), "a");
    assert_eq!(texts(&bench.dest().join(".obsync/trash")), ["mine"]);
}

/// If there are too many changes to undo, they stay, though a full pull is due: that would take the changes
/// for damage.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_takes_nothing_back_leaves_all_as_it_is_after_one_that_was_cut_off() {
    let notes: Vec<(String, &str)> = (0..20).map(|n| (format!("{n}.md"), "text")).collect();
    let notes: Vec<(&str, &str)> = notes.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let mut bench = pulled(&notes).await;
    bench.options.mirrors = true;
    bench.edit("0.md", "mine");
    bench.server.faults().update(|faults| faults.drop_in_listing = Chance::always());
    bench.try_pull().await.unwrap_err();
    bench.server.faults().clear();
    for (path, _) in &notes[1..16] {
        bench.edit(path, "mine");
    }
    bench.options.max_delete = MaxDelete::default();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.not_taken_back.len()), (Outcome::HeldBack, 15), "{report:#?}");
    assert!(report.conflicts.is_empty(), "{report:#?}");
    assert!(notes[1..16].iter().all(|(path, _)| bench.read(path) == "mine"));
    // Files that the interrupted run had set aside are fetched once nothing is left to undo.
    bench.options.max_delete = MaxDelete::Unlimited;
    bench.pull().await;
    assert!(notes.iter().all(|(path, text)| bench.read(path) == *text));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_has_a_line_for_each_file_that_a_mirror_puts_into_the_trash() {
    let mut bench = pulled(&[("a.md", "a"), ("b.md", "b")]).await;
    bench.edit("a.md", "mine");
    bench.edit("added.md", "added");
    bench.options.max_delete = MaxDelete::Unlimited;
    bench.options.mirrors = true;
    bench.pull().await;
    let journal = bench.state().journal(None, 100).await.unwrap();
    let mut lines: Vec<_> = journal.iter().map(|line| (line.path.as_str(), line.side, line.change)).collect();
    lines.sort_by_key(|(path, _, change)| (*path, *change != JournalChange::Delete));
    let here = Side::Here;
    assert_eq!(
        lines,
        [
            ("a.md", here, JournalChange::Delete),
            ("a.md", here, JournalChange::Write),
            ("added.md", here, JournalChange::Delete)
        ]
    );
}
