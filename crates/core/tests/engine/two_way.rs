//! A destination and a vault that are both changed, and kept the same.

use std::fs;

use obsync_core::{MaxDelete, Outcome, confirm, held_back};
use obsync_protocol::ContentHash;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

/// A bench whose vault and folder have these notes and are in step.
async fn in_step(notes: &[(&str, &str)]) -> Bench {
    let bench = Bench::new().await;
    for (path, text) in notes {
        bench.vault.write(path, text, T).unwrap();
    }
    bench.sync().await;
    bench.assert_in_step().await;
    bench
}

/// Whether the vault has this text at a path.
fn has(bench: &Bench, path: &str, text: &str) -> bool {
    let files = bench.vault.expected().unwrap().files;
    let sha256 = ContentHash::of(text.as_bytes()).to_string();
    files.into_iter().any(|file| file.path == path && file.sha256 == sha256)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_new_or_changed_here_reaches_the_vault() {
    let bench = in_step(&[("note.md", "text"), ("b.md", "b")]).await;
    bench.edit("note.md", "edited");
    bench.edit("folder/deep/new.md", "new");
    bench.edit("empty.md", "");
    let report = bench.sync().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert_eq!((report.pushed.files, report.folders_pushed), (3, 2), "{report:#?}");
    bench.assert_in_step().await;
    let before = bench.vault.version();
    let report = bench.sync().await;
    assert!(report.is_unchanged(), "{report:#?}");
    assert_eq!(bench.vault.version(), before, "nothing is sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_here_is_deleted_there() {
    let bench = in_step(&[("a.md", "a"), ("kept.md", "k"), ("x/b.md", "b"), ("x/y/c.md", "c")]).await;
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    fs::remove_dir_all(bench.dest().join("x")).unwrap();
    let report = bench.sync().await;
    assert_eq!((report.deleted_in_vault.files, report.outcome), (3, Outcome::Complete), "{report:#?}");
    bench.assert_in_step().await;
    assert_eq!(bench.files(), ["kept.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_here_is_one_there() {
    let bench = in_step(&[("a.md", "text"), ("b.md", "other")]).await;
    fs::create_dir(bench.dest().join("x")).unwrap();
    fs::rename(bench.dest().join("a.md"), bench.dest().join("x/c.md")).unwrap();
    let report = bench.sync().await;
    assert_eq!((report.pushed.files, report.outcome), (1, Outcome::Complete), "{report:#?}");
    bench.assert_in_step().await;
    assert!(has(&bench, "x/c.md", "text"));
}

#[tokio::test(flavor = "multi_thread")]
async fn swapped_names_and_chains_arrive() {
    let bench = in_step(&[("a.md", "A"), ("b.md", "B"), ("c.md", "C")]).await;
    let path = |name: &str| bench.dest().join(name);
    fs::rename(path("a.md"), path("t")).unwrap();
    fs::rename(path("b.md"), path("a.md")).unwrap();
    fs::rename(path("t"), path("b.md")).unwrap();
    fs::rename(path("c.md"), path("d.md")).unwrap();
    bench.sync().await;
    bench.assert_in_step().await;
    assert!(has(&bench, "a.md", "B"));
    assert!(has(&bench, "d.md", "C"));
}

#[tokio::test(flavor = "multi_thread")]
async fn different_lines_that_both_sides_changed_are_merged() {
    let bench = in_step(&[("note.md", "a\nb\nc\n")]).await;
    bench.edit("note.md", "A\nb\nc\n");
    bench.vault.write("note.md", "a\nb\nC\n", T + 5000).unwrap();
    let report = bench.sync().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
    assert_eq!(report.merged.len(), 1);
    assert_eq!(bench.read("note.md"), "A\nb\nC\n");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_line_is_kept_in_both_forms_here_and_there() {
    let bench = in_step(&[("note.md", "a\nb\nc\n"), ("picture.png", "old")]).await;
    bench.edit("note.md", "a\nmine\nc\n");
    bench.edit("picture.png", "my picture");
    bench.vault.write("note.md", "a\ntheirs\nc\n", T + 5000).unwrap();
    bench.vault.write("picture.png", "their picture", T + 5000).unwrap();
    let report = bench.sync().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 2), "{report:#?}");
    assert_eq!(bench.read("note.md"), "a\ntheirs\nc\n");
    let note = report.conflicts.iter().find(|conflict| conflict.path.as_str() == "note.md").unwrap();
    assert!(has(&bench, note.kept_as.as_str(), "a\nmine\nc\n"));
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_survives_a_deletion_on_the_other_side() {
    let bench = in_step(&[("a.md", "a"), ("b.md", "b"), ("gone.md", "g")]).await;
    bench.edit("a.md", "edited here");
    bench.vault.delete("a.md").unwrap();
    fs::remove_file(bench.dest().join("b.md")).unwrap();
    bench.vault.write("b.md", "edited there", T + 5000).unwrap();
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    bench.vault.delete("gone.md").unwrap();
    let report = bench.sync().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert!(has(&bench, "a.md", "edited here"));
    assert_eq!(bench.read("b.md"), "edited there");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_run_deletes_nothing_and_brings_both_sides_together() {
    let bench = Bench::new().await;
    bench.vault.write("both.md", "same", T).unwrap();
    bench.vault.write("differs.md", "theirs", T).unwrap();
    bench.vault.write("there.md", "there", T).unwrap();
    bench.edit("both.md", "same");
    bench.edit("differs.md", "mine");
    bench.edit("here.md", "here");
    let report = bench.sync().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 1), "{report:#?}");
    assert_eq!((report.deleted.files, report.deleted_in_vault.files), (0, 0));
    bench.assert_in_step().await;
    assert_eq!(bench.files().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_was_emptied_empties_nothing() {
    let notes: Vec<(String, String)> = (0..300).map(|n| (format!("{n}.md"), n.to_string())).collect();
    let bench = Bench::new().await;
    for (path, text) in &notes {
        bench.vault.write(path, text, T).unwrap();
    }
    bench.sync().await;
    for (path, _) in &notes[..100] {
        fs::remove_file(bench.dest().join(path)).unwrap();
    }
    let usual = |options: &mut obsync_core::SyncOptions| options.max_delete_in_vault = MaxDelete::InVault;
    bench.edit("new.md", "new");
    let report = bench.sync_with(usual).await.unwrap();
    assert_eq!(report.outcome, Outcome::HeldBack, "{report:#?}");
    assert_eq!((report.deleted_in_vault.files, report.held_back(), report.pushed.files), (0, 100, 1));
    assert_eq!(bench.vault.expected().unwrap().files.len(), 301);
    // Not once confirmed are they forgotten.
    let report = bench.sync_with(usual).await.unwrap();
    assert_eq!((report.outcome, report.held_back()), (Outcome::HeldBack, 100));
    let state = bench.state();
    let waiting = held_back(state.as_ref()).await.unwrap();
    assert_eq!(waiting.len(), 100);
    confirm(state.as_ref(), &waiting, jiff::Timestamp::now()).await.unwrap();
    drop(state);
    let report = bench.sync_with(usual).await.unwrap();
    assert_eq!((report.outcome, report.deleted_in_vault.files), (Outcome::Complete, 100), "{report:#?}");
    bench.assert_in_step().await;
    // All that is left at once: the destination is doubted, and everything comes back.
    fs::remove_dir_all(bench.dest()).unwrap();
    let report = bench.sync_with(usual).await.unwrap();
    assert_eq!((report.deleted_in_vault.files, report.pulled.files), (0, 201), "{report:#?}");
    bench.assert_in_step().await;
}
