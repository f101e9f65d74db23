//! Steps of a pull in a destination, one per test.

use std::time::{Duration, SystemTime};

use obsync_core::{Commit, FileMeta, Filter, MaxDelete, Mode, Outcome, Record, RecordKind, StateStore};
use obsync_protocol::{ContentHash, NameFolding, Uid, VaultPath};
use obsync_testkit::RawEntry;

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_pull_brings_files_folders_and_times() {
    let bench = Bench::new().await;
    bench.vault.write("Daily/2026-01-01.md", "first", T).unwrap();
    bench.vault.write("Empty.md", "", T + 1).unwrap();
    bench.vault.create_folder("Really empty").unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.pulled.files), (Outcome::Complete, 2));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pull_with_nothing_new_makes_one_connection_and_asks_for_nothing() {
    let bench = Bench::new().await;
    bench.vault.write("a.md", "a", T).unwrap();
    bench.pull().await;
    let before = bench.server.stats();
    let report = bench.pull().await;
    assert!(report.is_unchanged());
    let after = bench.server.stats();
    assert_eq!(after.websocket_connections - before.websocket_connections, 1);
    assert_eq!(after.pulls, before.pulls);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_is_not_downloaded() {
    let bench = Bench::new().await;
    bench.vault.write("Old/a.md", "text", T).unwrap();
    bench.pull().await;
    bench.vault.rename("Old", "New").unwrap();
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.copied.files, report.deleted.files), (0, 1, 1));
    assert_eq!((report.connections, report.requests), (1, 0));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_whose_deletion_shares_its_uid_is_a_rename_all_the_same() {
    let bench = Bench::new().await;
    bench.vault.write("a.md", "text", T).unwrap();
    bench.pull().await;
    bench.vault.rename_sharing_uid("a.md", "b.md").unwrap();
    assert_eq!(bench.pull().await.pulled.files, 0);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_renames_download_nothing() {
    let bench = Bench::new().await;
    for n in 0..1000 {
        bench.vault.write(&format!("Inbox/{n}.md"), format!("note {n}"), T).unwrap();
    }
    bench.pull().await;
    bench.vault.rename("Inbox", "Archive/2026").unwrap();
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.copied.files, report.requests), (0, 1000, 0));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_content_at_many_paths_is_downloaded_once() {
    let bench = Bench::new().await;
    for n in 0..50 {
        bench.vault.write(&format!("{n}.md"), "the same template", T + n).unwrap();
    }
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.copied.files, report.requests), (1, 49, 1));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_files_that_swap_their_contents_are_swapped_without_a_download() {
    let bench = Bench::new().await;
    bench.vault.write("a.md", "one", T).unwrap();
    bench.vault.write("b.md", "two", T).unwrap();
    bench.pull().await;
    bench.vault.write("a.md", "two", T + 1).unwrap();
    bench.vault.write("b.md", "one", T + 1).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.copied.files), (0, 2));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_a_folder_and_a_folder_a_file() {
    let bench = Bench::new().await;
    bench.vault.write("a", "was a file", T).unwrap();
    bench.vault.write("b/c/d.md", "was below a folder", T).unwrap();
    bench.pull().await;
    bench.vault.delete("a").unwrap();
    bench.vault.write("a/x.md", "was a file", T + 1).unwrap();
    bench.vault.delete("b").unwrap();
    bench.vault.write("b", "was below a folder", T + 1).unwrap();
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_time_is_set_without_a_download() {
    let bench = Bench::new().await;
    bench.vault.write("a.md", "a", T).unwrap();
    bench.pull().await;
    bench.vault.write("a.md", "a", T + 60_000).unwrap();
    assert_eq!(bench.pull().await.requests, 0);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_there_already_are_adopted_without_a_download() {
    let bench = Bench::new().await;
    bench.vault.write("Notes/a.md", "same", T).unwrap();
    bench.edit("Notes/a.md", "same");
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.adopted.files, report.requests), (0, 1, 0));
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_different_file_in_the_way_is_kept_as_a_conflicted_copy() {
    let bench = Bench::new().await;
    bench.vault.write("a.md", "from the vault", T).unwrap();
    bench.edit("a.md", "mine");
    let report = bench.pull().await;
    assert_eq!(bench.read("a.md"), "from the vault");
    assert_eq!(report.conflicts.len(), 1);
    assert_eq!(bench.read(report.conflicts[0].kept_as.as_str()), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_where_a_folder_must_be_is_kept_as_a_conflicted_copy() {
    let bench = Bench::new().await;
    for n in 0..10 {
        bench.vault.write(&format!("a/{n}.md"), format!("{n}"), T).unwrap();
    }
    bench.edit("a", "mine");
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert_eq!(report.conflicts.len(), 1);
    assert_eq!(bench.read(report.conflicts[0].kept_as.as_str()), "mine");
    assert_eq!(bench.read("a/3.md"), "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_where_a_file_must_be_is_kept_under_another_name() {
    let bench = Bench::new().await;
    bench.vault.write("a", "from the vault", T).unwrap();
    bench.edit("a/mine.md", "mine");
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert_eq!(bench.read("a"), "from the vault");
    assert_eq!(bench.read(format!("{}/mine.md", report.conflicts[0].kept_as)), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_the_place_of_a_file_that_was_pulled_is_set_aside_when_the_vault_changes_that() {
    let bench = Bench::new().await;
    bench.vault.write("a", "one", T).unwrap();
    bench.vault.write("kept.md", "by which the place is known", T).unwrap();
    bench.pull().await;
    std::fs::remove_file(bench.dest().join("a")).unwrap();
    bench.edit("a/mine.md", "mine");
    assert!(bench.pull().await.is_unchanged(), "nobody changed it there");
    bench.vault.write("a", "two", T + 1000).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 1), "{report:#?}");
    assert_eq!(bench.read("a"), "two");
    assert_eq!(bench.read(format!("{}/mine.md", report.conflicts[0].kept_as)), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_folder_where_a_file_must_be_makes_way() {
    let bench = Bench::new().await;
    bench.vault.write("a", "from the vault", T).unwrap();
    std::fs::create_dir_all(bench.dest().join("a")).unwrap();
    bench.edit("b.md", "so that the destination is not empty");
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
    assert_eq!(bench.read("a"), "from the vault");
    assert_eq!(bench.files(), ["a", "b.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_change_survives_an_overwrite_and_a_deletion_in_the_vault() {
    let bench = Bench::new().await;
    bench.vault.write("changed.md", "one", T).unwrap();
    bench.vault.write("deleted.md", "one", T).unwrap();
    bench.pull().await;
    bench.edit("changed.md", "my words");
    bench.edit("deleted.md", "my words");
    bench.vault.write("changed.md", "two", T + 1).unwrap();
    bench.vault.delete("deleted.md").unwrap();
    let report = bench.pull().await;
    assert_eq!(bench.read("changed.md"), "two");
    assert_eq!(bench.read(report.conflicts[0].kept_as.as_str()), "my words");
    assert_eq!(bench.read("deleted.md"), "my words");
    assert_eq!(report.kept, [VaultPath::parse("deleted.md").unwrap()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_restores_what_was_removed_or_changed_here_and_keeps_the_change() {
    let mut bench = Bench::new().await;
    for name in ["intact.md", "removed.md", "changed.md"] {
        bench.vault.write(name, name, T).unwrap();
    }
    bench.pull().await;
    std::fs::remove_file(bench.dest().join("removed.md")).unwrap();
    bench.edit("changed.md", "my words");
    let report = bench.pull_full().await;
    assert_eq!(report.requests, 2, "what is intact is not downloaded: {report:#?}");
    assert_eq!(bench.read("removed.md"), "removed.md");
    assert_eq!(bench.read("changed.md"), "changed.md");
    assert_eq!(bench.read(report.conflicts[0].kept_as.as_str()), "my words");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_removes_nothing_that_the_vault_lists_however_senseless() {
    let mut bench = Bench::new().await;
    for name in ["size.md", "hash.md", "gone.md"] {
        bench.vault.write(name, name, T).unwrap();
    }
    bench.pull().await;
    bench.vault.write_lying_size("size.md", "x", 15).unwrap();
    let path = bench.source.keys.encode_path(&VaultPath::parse("hash.md").unwrap()).as_str().to_owned();
    bench.vault.write_raw(RawEntry { path, hash: "none".into(), size: 40, ..RawEntry::default() }).unwrap();
    // Nothing was pulled to a path that no vault may use.
    bench.vault.write_hostile_path("../outside.md", "x").unwrap();
    bench.vault.delete("gone.md").unwrap();
    let report = bench.pull_full().await;
    assert_eq!((report.failures.len(), report.deleted.files), (3, 1), "{report:#?}");
    assert!(report.warnings.is_empty(), "{report:#?}");
    assert_eq!(bench.files(), ["hash.md", "size.md"]);
    bench.vault.delete("size.md").unwrap();
    assert_eq!(bench.pull().await.deleted.files, 1, "it is the vault's as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pull_removes_nothing_unlisted_while_a_path_cannot_be_read() {
    let mut bench = Bench::new().await;
    bench.vault.write("a.md", "a", T).unwrap();
    bench.vault.write("deleted.md", "gone", T).unwrap();
    bench.pull().await;
    bench.vault.delete("deleted.md").unwrap();
    // The server has lost a file's entry, or lists an unreadable one.
    bench.edit("b.md", "b.md");
    let meta = FileMeta { hash: ContentHash::of(b"b.md"), size: 4, mtime: T, ctime: T, uid: Uid(1) };
    let records = vec![Record::new(VaultPath::parse("b.md").unwrap(), RecordKind::File(meta))];
    let state = bench.state().load().await.unwrap();
    bench.state().commit(Commit { records, state, ..Commit::default() }).await.unwrap();
    bench.vault.write_raw(RawEntry { path: "00ff".into(), ..RawEntry::default() }).unwrap();
    let report = bench.pull_full().await;
    assert_eq!((report.failures.len(), report.deleted.files), (1, 1), "{report:#?}");
    assert!(report.warnings[0].contains("were kept (1)"), "{report:#?}");
    assert_eq!(bench.files(), ["a.md", "b.md"]);
    let raw = RawEntry { path: "00ff".into(), deleted: true, ..RawEntry::default() };
    bench.vault.write_raw(raw).unwrap();
    let report = bench.pull_full().await;
    assert_eq!((report.outcome, report.deleted.files), (Outcome::Complete, 1), "{report:#?}");
    assert!(report.warnings.is_empty(), "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_was_emptied_is_filled_again() {
    let bench = Bench::new().await;
    bench.vault.write("a/b.md", "text", T).unwrap();
    bench.pull().await;
    std::fs::remove_dir_all(bench.dest()).unwrap();
    assert_eq!(bench.pull().await.pulled.files, 1);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wider_filter_brings_in_what_was_left_out() {
    let mut bench = Bench::new().await;
    bench.vault.write("a.md", "note", T).unwrap();
    bench.vault.write("b.png", "image", T).unwrap();
    bench.filter(Filter { file_types: "none".parse().unwrap(), ..Filter::default() });
    let report = bench.pull().await;
    assert_eq!((report.pulled.files, report.skipped.files), (1, 1));
    assert_eq!(bench.files(), ["a.md"]);
    bench.vault.write("c.png", "another", T).unwrap();
    assert_eq!(bench.pull().await.skipped.files, 1);
    bench.filter(Filter::default());
    assert_eq!(bench.pull().await.pulled.files, 2);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrower_filter_leaves_what_is_here_alone() {
    let mut bench = Bench::new().await;
    bench.vault.write("b.png", "image", T).unwrap();
    bench.pull().await;
    bench.filter(Filter { file_types: "none".parse().unwrap(), ..Filter::default() });
    bench.vault.delete("b.png").unwrap();
    bench.pull().await;
    assert_eq!(bench.files(), ["b.png"]);
    bench.filter(Filter::default());
    assert_eq!(bench.pull().await.deleted.files, 1);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_reported_does_not_hold_the_rest_back_and_is_tried_again() {
    let bench = Bench::new().await;
    let bad = bench.vault.write_wrong_hash("bad.md", "not what it says").unwrap();
    bench.vault.write("good.md", "good", T).unwrap();
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Failures);
    assert_eq!((report.failures[0].path.as_str(), report.failures[0].uid), ("bad.md", bad));
    assert_eq!(
        report.version,
        bench.vault.version().0,
        "a failure is recorded, so the watermark may pass it"
    );
    assert_eq!(bench.files(), ["good.md"]);
    assert_eq!(bench.pull().await.failures, report.failures, "it is tried in every run");
    bench.vault.write("bad.md", "mended", T).unwrap();
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.assert_exact().await;
    assert!(bench.pull().await.is_unchanged());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_read_is_forgotten_when_the_vault_deletes_it() {
    let bench = Bench::new().await;
    let raw = RawEntry { path: "00ff".into(), ..RawEntry::default() };
    bench.vault.write_raw(raw.clone()).unwrap();
    assert_eq!(bench.pull().await.failures.len(), 1);
    bench.vault.write_raw(RawEntry { deleted: true, ..raw }).unwrap();
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_paths_are_reported_and_nothing_is_written_outside() {
    let bench = Bench::new().await;
    let hostile = bench.vault.write_hostile_paths().unwrap();
    bench.vault.write("good.md", "good", T).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.failures.len()), (Outcome::Failures, hostile), "{report:#?}");
    assert_eq!(bench.files(), ["good.md"]);
    let around: Vec<_> =
        std::fs::read_dir(bench.dest().parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(
        around.iter().all(|name| name == "notes" || name.to_string_lossy().starts_with("state.sqlite")),
        "{around:?}"
    );
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_symbolic_link_that_leads_out_is_not_followed() {
    let bench = Bench::new().await;
    let outside = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(bench.dest()).unwrap();
    std::os::unix::fs::symlink(outside.path(), bench.dest().join("out")).unwrap();
    bench.vault.write("out/a.md", "text", T).unwrap();
    bench.vault.write("b.md", "text b", T).unwrap();
    let report = bench.pull().await;
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(report.outcome, Outcome::Failures);
    assert_eq!(bench.read("b.md"), "text b");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_names_that_differ_only_in_case_one_is_had_where_names_are_folded() {
    let mut bench = Bench::new().await;
    bench.folder.folds_names = Some(NameFolding::Case);
    bench.vault.write("Note.md", "one", T).unwrap();
    bench.vault.write("note.md", "two", T).unwrap();
    let report = bench.pull().await;
    assert_eq!(report.failures.len(), 1);
    assert!(report.failures[0].reason.contains("letter case"));
    assert_eq!(bench.files(), ["Note.md"]);
}

/// Also together with an edit, and below the limit of deletions.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_whose_name_changes_only_in_case_is_had_under_its_new_name_where_names_are_folded() {
    let mut bench = Bench::new().await;
    bench.folder.folds_names = Some(NameFolding::Case);
    bench.options.max_delete = MaxDelete::Files(0);
    for name in ["renamed.md", "edited.md", "folder/inside.md"] {
        bench.vault.write(name, name, T).unwrap();
    }
    bench.pull().await;
    bench.vault.rename("renamed.md", "Renamed.md").unwrap();
    bench.vault.rename("edited.md", "Edited.md").unwrap();
    bench.vault.write("Edited.md", "with another text", T + 1).unwrap();
    bench.vault.rename("folder", "Folder").unwrap();
    bench.vault.write("Folder/inside.md", "another text, too", T + 1).unwrap();
    let report = bench.pull().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
    assert_eq!(bench.files(), ["Edited.md", "Folder/inside.md", "Renamed.md"]);
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twins_in_normalisation_one_is_had_in_every_run_and_no_copies_pile_up() {
    let mut bench = Bench::new().await;
    bench.folder.folds_names = Some(NameFolding::Normalization);
    let twins = ["Caf\u{e9}.md", "Cafe\u{301}.md"];
    for (round, path) in [0, 1, 1, 0, 1].into_iter().enumerate() {
        bench.vault.write(twins[path], &*format!("text {round}"), T).unwrap();
        for mode in [Mode::Incremental, Mode::Full] {
            bench.options.mode = mode;
            let report = bench.pull().await;
            assert_eq!(bench.files(), [twins[0]], "round {round}, {mode:?}");
            let failed: Vec<&str> = report.failures.iter().map(|failure| failure.path.as_str()).collect();
            assert_eq!(failed, &twins[1..][..usize::from(round > 0)], "round {round}, {mode:?}: {report:#?}");
        }
    }
    assert_eq!(bench.read(twins[0]), "text 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_tells_what_would_be_done_and_does_nothing() {
    let mut bench = Bench::new().await;
    bench.vault.write("a/b.md", "text", T).unwrap();
    bench.options.dry_run = true;
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::DryRun);
    assert_eq!(report.steps.len(), 2, "{report:#?}");
    assert!(!bench.dest().exists());
    bench.options.dry_run = false;
    bench.pull().await;
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_does_not_touch_an_empty_destination() {
    let mut bench = Bench::new().await;
    bench.vault.write("a/b.md", "text", T).unwrap();
    std::fs::create_dir(bench.dest()).unwrap();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::open(bench.dest()).unwrap().set_modified(long_ago).unwrap();
    bench.options.dry_run = true;
    assert_eq!(bench.pull().await.steps.len(), 2);
    assert_eq!(
        std::fs::metadata(bench.dest()).unwrap().modified().unwrap(),
        long_ago,
        "nothing came and went"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_the_server_mislays_in_a_full_pull_is_not_forgotten() {
    let mut bench = Bench::new().await;
    bench.vault.write("a.md", "text", T).unwrap();
    bench.pull().await;
    std::fs::remove_file(bench.dest().join("a.md")).unwrap();
    bench.edit("keep.md", "so that the destination is not empty");
    bench.server.faults().update(|faults| faults.set("gone-answer=always").unwrap());
    let report = bench.pull_full().await;
    assert_eq!((report.outcome, report.failures.len()), (Outcome::Failures, 1), "{report:#?}");
    bench.server.faults().clear();
    assert_eq!(bench.pull().await.pulled.files, 1);
    assert_eq!(bench.read("a.md"), "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_cannot_be_fails_alone_even_where_others_have_its_content() {
    let bench = Bench::new().await;
    let too_long = format!("{}.md", "語".repeat(85));
    bench.vault.write(&too_long, "the same", T).unwrap();
    bench.vault.write("short.md", "the same", T).unwrap();
    bench.vault.write("short too.md", "the same", T).unwrap();
    let report = bench.pull().await;
    assert_eq!(report.failures.iter().map(|failure| &failure.path).collect::<Vec<_>>(), [&too_long]);
    assert_eq!(bench.files(), ["short too.md", "short.md"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_new_name_cannot_be_keeps_its_old_one() {
    let bench = Bench::new().await;
    bench.vault.write("a.md", "text", T).unwrap();
    bench.pull().await;
    let too_long = format!("{}.md", "語".repeat(85));
    bench.vault.rename("a.md", &too_long).unwrap();
    assert_eq!(bench.pull().await.outcome, Outcome::Failures);
    assert_eq!(bench.read("a.md"), "text");
    bench.vault.rename(&too_long, "b.md").unwrap();
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.assert_exact().await;
}

/// Any of several equal files can be the source of a copy, and it can have another text by then.
#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_equal_files_whose_new_names_cannot_be_keeps_its_old_one() {
    let too_long = |path: &str| format!("{}{path}", "語".repeat(85));
    let paths = ["a1.md", "a2.md"];
    for renamed in [&paths[..], &paths[..1], &paths[1..]] {
        for edited in [None, Some("a1.md"), Some("a2.md")] {
            let bench = Bench::new().await;
            for path in paths {
                bench.vault.write(path, "the template", T).unwrap();
            }
            bench.pull().await;
            for path in renamed {
                bench.vault.rename(path, &too_long(path)).unwrap();
            }
            edited.iter().for_each(|path| bench.edit(path, "a user's text"));
            for _ in 0..2 {
                let report = bench.pull().await;
                assert_eq!(report.outcome, Outcome::Failures, "{renamed:?}, {edited:?}: {report:#?}");
                for path in paths {
                    let text = if edited == Some(path) { "a user's text" } else { "the template" };
                    assert_eq!(bench.read(path), text, "{renamed:?}, {edited:?}");
                }
            }
            for path in renamed {
                bench.vault.rename(&too_long(path), &format!("new {path}")).unwrap();
            }
            assert_eq!(bench.pull().await.outcome, Outcome::Complete, "{renamed:?}, {edited:?}");
            for path in renamed {
                assert_eq!(bench.read(format!("new {path}")), "the template", "{renamed:?}, {edited:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_new_name_is_anothers_where_names_are_folded_keeps_its_old_one() {
    let mut bench = Bench::new().await;
    bench.folder.folds_names = Some(NameFolding::Case);
    bench.vault.write("a.md", "text", T).unwrap();
    bench.vault.write("b.md", "another", T).unwrap();
    bench.pull().await;
    bench.vault.rename("a.md", "B.md").unwrap();
    assert_eq!(bench.pull().await.outcome, Outcome::Failures);
    assert_eq!((bench.read("a.md"), bench.read("b.md")), ("text".to_owned(), "another".to_owned()));
    bench.vault.rename("B.md", "c.md").unwrap();
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.assert_exact().await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_rename_onto_another_name_of_the_same_place_loses_nothing() {
    let bench = Bench::new().await;
    bench.vault.write("Folder/note.md", "text", T).unwrap();
    bench.pull().await;
    // Like on a file system that folds names, "folder" is "Folder".
    std::os::unix::fs::symlink("Folder", bench.dest().join("folder")).unwrap();
    bench.vault.write("folder/note.md", "text", T).unwrap();
    bench.vault.delete("Folder/note.md").unwrap();
    bench.pull().await;
    assert_eq!(bench.read("folder/note.md"), "text");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_breaks_off_goes_on_from_the_last_entry_received() {
    const FILES: u64 = 1000;
    let bench = Bench::new().await;
    for number in 0..FILES {
        bench.vault.write(&format!("{number}.md"), "x", T).unwrap();
    }
    bench.server.faults().set("drop-in-listing=next:2".parse().unwrap());
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.assert_exact().await;
    // The first half, half of the rest, the rest; each part but the first repeats the last entry, which is
    // counted.
    let inits: Vec<(u64, bool)> =
        bench.server.stats().inits[..3].iter().map(|init| (init.version, init.initial)).collect();
    assert_eq!(inits, [(0, true), (FILES / 2 - 1, true), (FILES * 3 / 4 - 2, true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_may_break_off_more_often_than_a_request_is_tried_as_long_as_each_part_brings_something() {
    let bench = impatient(5000).await;
    bench.server.faults().set("drop-in-listing=next:4".parse().unwrap());
    let report = bench.pull().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.assert_exact().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_whose_parts_bring_next_to_nothing_is_given_up() {
    let bench = impatient(5000).await;
    // Each connection breaks in the middle of the rest: the sixth part has 78 entries.
    bench.server.faults().set("drop-in-listing=always".parse().unwrap());
    bench.try_pull().await.unwrap_err();
    assert!(bench.server.stats().inits.len() <= 8, "{:?}", bench.server.stats().inits);
    bench.server.faults().clear();
    assert_eq!(bench.pull().await.outcome, Outcome::Complete);
    bench.assert_exact().await;
}

/// A vault with this many files, and a client with two attempts per request.
async fn impatient(files: usize) -> Bench {
    let mut bench = Bench::new().await;
    for number in 0..files {
        bench.vault.write(&format!("{number}.md"), "x", T).unwrap();
    }
    let mut options = bench.source.client.options().clone();
    options.retry.attempts = 2;
    options.retry.min_delay = std::time::Duration::from_millis(1);
    bench.source.client = obsync_client::Client::new(options).unwrap();
    bench
}
