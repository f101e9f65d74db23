//! Backups: of the folder, of the state, of the server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use obsync_core::{Doubt, MaxDelete, Mode, Outcome, Phase, Progress, StateStore as _, SyncOptions, sync};
use obsync_protocol::{Uid, VaultPath};
use tokio_util::sync::CancellationToken;

use super::{T, has, in_step};
use crate::bench::Bench;

fn copy_tree(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// A folder in sync, and a copy of it from before the last changes, made here or there.
async fn with_backup() -> (Bench, PathBuf) {
    let bench = in_step(&[
        ("here.md", "of last week"),
        ("there.md", "of last week, too"),
        ("deleted.md", "was deleted"),
        ("kept.md", "k"),
        ("mine.md", "as it was"),
    ])
    .await;
    let backup = bench.home().join("backup");
    copy_tree(&bench.dest(), &backup);
    bench.edit("here.md", "edited here and sent");
    bench.sync().await;
    bench.vault.write("there.md", "edited there", T + 1000).unwrap();
    bench.vault.delete("deleted.md").unwrap();
    bench.sync().await;
    bench.assert_in_step().await;
    (bench, backup)
}

fn restore(bench: &Bench, backup: &Path) {
    fs::remove_dir_all(bench.dest()).unwrap();
    copy_tree(backup, &bench.dest());
    bench.edit("mine.md", "a user's text in the backup");
}

/// Asserts that the newest texts are in the vault, and the old ones nowhere.
async fn assert_newest(bench: &Bench) {
    assert!(has(bench, "here.md", "edited here and sent"), "{:?}", bench.vault.contents());
    assert!(has(bench, "there.md", "edited there"));
    let texts = bench.vault.contents().unwrap();
    assert!(texts.values().any(|text| text == b"a user's text in the backup"), "{texts:?}");
    assert!(!texts.values().any(|text| text.starts_with(b"of last week")), "{texts:?}");
    assert!(!texts.contains_key("deleted.md"), "it does not come back by itself: {texts:?}");
    assert_eq!(bench.read("here.md"), "edited here and sent");
    assert_eq!(bench.read("there.md"), "edited there");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_backup_of_the_folder_with_its_marker_is_nobodys_change() {
    let (bench, backup) = with_backup().await;
    restore(&bench, &backup);
    let report = bench.sync().await;
    assert_eq!(report.doubt, Some(Doubt::OtherGeneration), "{report:#?}");
    bench.sync().await;
    assert_newest(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_backup_made_before_a_run_that_only_sent_or_only_merged_is_known_as_one() {
    for merges in [false, true] {
        let bench = in_step(&[("note.md", "a\nb\nc\n"), ("kept.md", "k")]).await;
        let backup = bench.home().join("backup");
        copy_tree(&bench.dest(), &backup);
        bench.edit("note.md", "A\nb\nc\n");
        if merges {
            bench.vault.write("note.md", "a\nb\nC\n", T + 1000).unwrap();
        }
        let report = bench.sync().await;
        assert_eq!((report.merged.len(), report.pulled.files), (usize::from(merges), 0), "{report:#?}");
        let newest = bench.read("note.md");
        fs::remove_dir_all(bench.dest()).unwrap();
        copy_tree(&backup, &bench.dest());
        let report = bench.sync().await;
        assert_eq!(report.doubt, Some(Doubt::OtherGeneration), "merges: {merges}");
        assert!(has(&bench, "note.md", &newest));
        bench.assert_in_step().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_backup_without_a_state_is_nobodys_change() {
    let (bench, backup) = with_backup().await;
    restore(&bench, &backup);
    bench.lose_state();
    bench.sync().await;
    bench.sync().await;
    assert_newest(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_backup_made_before_the_first_run_that_sent_has_no_marker_and_is_known_by_that() {
    let bench = Bench::new().await;
    bench.edit("note.md", "first");
    let backup = bench.home().join("backup");
    copy_tree(&bench.dest(), &backup);
    bench.sync().await;
    bench.edit("note.md", "second");
    bench.sync().await;
    fs::remove_dir_all(bench.dest()).unwrap();
    copy_tree(&backup, &bench.dest());
    bench.sync().await;
    assert!(has(&bench, "note.md", "second"), "{:?}", bench.vault.contents());
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_backup_of_the_state_alone_sends_nothing_old() {
    let bench = in_step(&[("here.md", "old"), ("deleted.md", "d"), ("kept.md", "k")]).await;
    let (state, old) = (bench.home().join("state.sqlite"), bench.home().join("old.sqlite"));
    fs::copy(&state, &old).unwrap();
    bench.edit("here.md", "sent");
    bench.sync().await;
    bench.vault.write("here.md", "edited there", T + 1000).unwrap();
    bench.vault.delete("deleted.md").unwrap();
    fs::copy(&old, &state).unwrap();
    let report = bench.sync().await;
    assert_eq!(report.doubt, Some(Doubt::OtherGeneration), "{report:#?}");
    bench.sync().await;
    assert!(has(&bench, "here.md", "edited there"), "{:?}", bench.vault.contents());
    assert!(report.conflicts.is_empty(), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_backup_a_marker_that_came_to_another_machine_makes_no_old_text_new() {
    let (bench, backup) = with_backup().await;
    // git or Syncthing brought the folder with its marker; this machine has a state of an earlier folder of its own.
    let elsewhere = bench.home().join("elsewhere");
    copy_tree(&backup, &elsewhere);
    fs::remove_dir_all(bench.dest()).unwrap();
    bench.lose_state();
    fs::create_dir(bench.dest()).unwrap();
    bench.sync().await;
    restore(&bench, &elsewhere);
    let report = bench.sync().await;
    assert_eq!(report.doubt, Some(Doubt::OtherDestination), "{report:#?}");
    bench.sync().await;
    assert_newest(&bench).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_restored_and_grown_again_sends_what_it_has_now_and_nothing_is_deleted() {
    let bench = Bench::new().await;
    for number in 0..30 {
        bench.vault.write(&format!("{number}.md"), format!("note {number}"), T).unwrap();
    }
    bench.sync().await;
    bench.edit("0.md", "edited here");
    bench.sync().await;
    bench.assert_in_step().await;
    // 20 of them and the edit are rolled back; as many and ten more are written.
    bench.vault.roll_back(Uid(10)).unwrap();
    for number in 0..31 {
        let path = format!("other {number}.md");
        bench.vault.write(&path, format!("other {number}"), T + 1000).unwrap();
    }
    bench.vault.write("5.md", "edited there", T + 2000).unwrap();
    let report = bench.sync().await;
    assert!(report.vault_restored, "{report:#?}");
    assert_eq!((report.deleted.files, report.deleted_in_vault.files), (0, 0), "{report:#?}");
    bench.sync().await;
    let report = bench.sync().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    bench.assert_in_step().await;
    let texts: Vec<String> =
        bench.vault.contents().unwrap().into_values().map(|text| String::from_utf8(text).unwrap()).collect();
    let has_text = |text: &str| texts.iter().any(|other| other == text);
    assert!((0..31).all(|number| has_text(&format!("other {number}"))));
    assert!((6..30).all(|number| has_text(&format!("note {number}"))), "{texts:?}");
    assert!(has_text("edited there") && has_text("edited here"));
}

#[tokio::test(flavor = "multi_thread")]
async fn server_restored_and_still_older_is_sent_nothing_and_deletes_nothing() {
    let bench = in_step(&[("a.md", "a"), ("b.md", "b"), ("c.md", "c")]).await;
    let here = bench.files();
    bench.vault.roll_back(Uid(1)).unwrap();
    bench.edit("new.md", "new");
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    let pushes = bench.server.stats().pushes;
    let report = bench.sync().await;
    assert_eq!((report.older_vault, report.deleted_in_vault.files), (Some(1), 0), "{report:#?}");
    assert_eq!(bench.server.stats().pushes, pushes);
    assert_eq!(bench.files().len(), here.len(), "one is new, one was removed by its user");
}

/// Restores like a tool that skips hidden folders: the marker stays, and files created since the backup are
/// gone.
fn restore_without_hidden(bench: &Bench, backup: &Path) {
    for file in bench.files() {
        fs::remove_file(bench.dest().join(file)).unwrap();
    }
    fs::remove_dir_all(backup.join(".obsync")).unwrap();
    copy_tree(&backup.join("."), &bench.dest());
    for file in bench.files() {
        let file = fs::File::options().append(true).open(bench.dest().join(file)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    }
}

fn full(options: &mut SyncOptions) {
    options.pull.mode = Mode::Full;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_backup_beside_its_marker_is_nobodys_change_in_a_full_sync() {
    for is_full in [false, true] {
        let bench = Bench::new().await;
        for number in 0..40 {
            bench.edit(format!("{number}.md"), &format!("note {number}"));
        }
        bench.sync().await;
        let backup = bench.home().join("backup");
        copy_tree(&bench.dest(), &backup);
        // The backup has the newest text of most notes.
        bench.edit("1.md", "edited here and sent");
        for number in 2..5 {
            bench.vault.write(&format!("{number}.md"), "edited there", T + 1_000_000).unwrap();
        }
        bench.sync().await;
        let newest = bench.vault.contents().unwrap();
        restore_without_hidden(&bench, &backup);
        bench.edit("7.md", "a user's text in the backup");
        let report = match is_full {
            true => bench.sync_with(full).await.unwrap(),
            false => bench.sync().await,
        };
        assert_eq!(report.doubt, Some(Doubt::OlderFiles), "full: {is_full}: {report:#?}");
        bench.sync().await;
        bench.assert_in_step().await;
        let mut now = bench.vault.contents().unwrap();
        assert_eq!(now.remove("7.md").unwrap(), newest["7.md"]);
        let of_user = now.extract_if(.., |_, text| text == b"a user's text in the backup").count();
        assert_eq!((of_user, now.len()), (1, 39), "{:?}", now.keys());
        assert!(now.iter().all(|(path, text)| newest[path] == *text));
    }
}

/// An interrupted restoration: some notes are as in the backup, some are missing, the others are unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn old_backup_half_restored_is_nobodys_change_and_deletes_nothing() {
    let bench = Bench::new().await;
    for number in 0..40 {
        bench.edit(format!("{number}.md"), &format!("note {number}"));
    }
    bench.sync().await;
    let backup = bench.home().join("backup");
    copy_tree(&bench.dest(), &backup);
    for number in 0..6 {
        bench.edit(format!("{number}.md"), &format!("edited here and sent {number}"));
    }
    for number in 6..10 {
        let text = format!("edited there {number}");
        bench.vault.write(&format!("{number}.md"), text, T + 1_000_000).unwrap();
    }
    bench.sync().await;
    let newest = bench.vault.contents().unwrap();
    for number in 0..8 {
        let note = bench.dest().join(format!("{number}.md"));
        fs::copy(backup.join(format!("{number}.md")), &note).unwrap();
        let note = fs::File::options().append(true).open(note).unwrap();
        note.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    }
    for number in 8..14 {
        fs::remove_file(bench.dest().join(format!("{number}.md"))).unwrap();
    }
    bench.edit("20.md", "edited here after the backup");
    let report = bench.sync_with(|options| options.max_delete_in_vault = MaxDelete::InVault).await.unwrap();
    assert_eq!((report.outcome, report.doubt), (Outcome::Complete, Some(Doubt::OlderFiles)), "{report:#?}");
    assert_eq!((report.deleted_in_vault.files, report.deleted.files), (0, 0), "{report:#?}");
    let is_said = |warning: &String| warning.contains("as when a backup was restored");
    assert!(report.warnings.iter().any(is_said), "{report:#?}");
    bench.sync().await;
    bench.assert_in_step().await;
    let mut now = bench.vault.contents().unwrap();
    let edit = b"edited here after the backup";
    let of_user = now.extract_if(.., |path, text| text == edit && !newest.contains_key(path)).count();
    assert_eq!(
        (of_user, now),
        (1, newest),
        "the newest texts are where they were, and the edit beside its note"
    );
}

struct StopAtSecondListing(CancellationToken, AtomicUsize);

impl Progress for StopAtSecondListing {
    fn phase(&self, phase: Phase) {
        if phase == Phase::Listing && self.1.fetch_add(1, Ordering::SeqCst) == 1 {
            self.0.cancel();
        }
    }
}

/// The run that finds the doubt reports it; the next one must know of it, though the first one did not
/// complete.
#[tokio::test(flavor = "multi_thread")]
async fn old_backup_that_was_noticed_by_a_sync_that_was_cut_off_brings_nothing_back() {
    let bench = Bench::new().await;
    for number in 0..12 {
        bench.edit(format!("{number}.md"), &format!("note {number}"));
    }
    bench.sync().await;
    let backup = bench.home().join("backup");
    copy_tree(&bench.dest(), &backup);
    for number in 0..4 {
        bench.vault.write(&format!("{number}.md"), "edited there", T + 1_000_000).unwrap();
    }
    bench.vault.delete("11.md").unwrap();
    bench.sync().await;
    let newest = bench.vault.contents().unwrap();
    restore_without_hidden(&bench, &backup);
    bench.edit("7.md", "a user's text in the backup");
    // The news is listed first; the list of everything follows the doubt.
    let stop = CancellationToken::new();
    let progress = Arc::new(StopAtSecondListing(stop.clone(), AtomicUsize::new(0)));
    let options = SyncOptions { pull: bench.options.clone(), ..SyncOptions::default() };
    let report = sync(&bench.source, bench.store(), bench.state(), &options, progress, stop).await.unwrap();
    assert_eq!(
        (report.outcome, report.doubt),
        (Outcome::Interrupted, Some(Doubt::OlderFiles)),
        "{report:#?}"
    );
    assert!(bench.state().all_records().await.unwrap().is_empty());
    // There are no records any more, so it is a first run again: the note that came back with the backup
    // waits, and is not sent.
    let report = bench.sync().await;
    assert_eq!((report.outcome, report.pushed.files), (Outcome::HeldBack, 1), "{report:#?}");
    assert_eq!(report.held_back.iter().map(VaultPath::as_str).collect::<Vec<_>>(), ["11.md"]);
    let mut now = bench.vault.contents().unwrap();
    let of_user = now.extract_if(.., |_, text| text == b"a user's text in the backup").count();
    assert_eq!((of_user, now), (1, newest));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_backup_of_one_note_that_its_user_put_back_is_an_edit() {
    let bench = in_step(&[("a.md", "first"), ("b.md", "b"), ("c.md", "c"), ("d.md", "d")]).await;
    bench.edit("a.md", "second");
    bench.sync().await;
    bench.edit("a.md", "first");
    let file = fs::File::options().append(true).open(bench.dest().join("a.md")).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    let report = bench.sync().await;
    assert_eq!((report.doubt, report.pushed.files), (None, 1), "{report:#?}");
    assert!(has(&bench, "a.md", "first"));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_backup_beside_its_marker_is_nobodys_change_in_the_first_sync() {
    let bench = Bench::new().await;
    for number in 0..12 {
        bench.vault.write(&format!("{number}.md"), format!("old {number}"), T).unwrap();
    }
    bench.pull().await;
    let backup = bench.home().join("backup");
    copy_tree(&bench.dest(), &backup);
    for number in 0..12 {
        bench.vault.write(&format!("{number}.md"), format!("newest {number}"), T + 1000).unwrap();
    }
    bench.vault.write("since.md", "made since the backup", T).unwrap();
    bench.pull().await;
    restore_without_hidden(&bench, &backup);
    let before = bench.vault.contents().unwrap();
    let report = bench.sync().await;
    assert_eq!((report.doubt, report.pushed.files), (Some(Doubt::OtherFiles), 0), "{report:#?}");
    assert_eq!(bench.vault.contents().unwrap(), before);
    bench.sync().await;
    bench.assert_in_step().await;
    assert_eq!(bench.vault.contents().unwrap(), before);
}
