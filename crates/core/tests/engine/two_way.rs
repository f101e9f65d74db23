//! A destination and a vault that both change and are kept equal.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use obsync_core::{
    MaxDelete, Mode, NoProgress, Outcome, Progress, StateStore, StepAction, SyncDirection, SyncOptions,
    confirm, held_back, sync,
};
use obsync_folder::FolderDestination;
use obsync_protocol::{ContentHash, Uid};
use obsync_testkit::{Chance, Faults};

use tokio_util::sync::CancellationToken;

use crate::bench::Bench;
use crate::meddled::MeddledFolder;

const T: i64 = 1_700_000_000_000;

/// A bench whose vault and folder have these notes and are in sync.
pub(crate) async fn in_step(notes: &[(&str, &str)]) -> Bench {
    let bench = Bench::new().await;
    for (path, text) in notes {
        bench.vault.write(path, text, T).unwrap();
    }
    bench.sync().await;
    bench.assert_in_step().await;
    bench
}

/// True if the vault has this text at a path.
pub(crate) fn has(bench: &Bench, path: &str, text: &str) -> bool {
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
async fn a_file_that_is_written_to_whenever_it_is_read_holds_up_no_other() {
    let bench =
        in_step(&[("log.md", "a"), ("note.md", "the larger one"), ("z.md", "the largest of them all")]).await;
    bench.edit("log.md", "b");
    bench.edit("note.md", "the larger one, edited");
    fs::remove_file(bench.dest().join("z.md")).unwrap();
    let destination = Arc::new(MeddledFolder::writing_to(bench.store(), "log.md"));
    let options = SyncOptions { second_look: Duration::ZERO, ..SyncOptions::default() };
    let (none, stop) = (Arc::new(NoProgress), CancellationToken::new());
    let report = sync(&bench.source, destination, bench.state(), &options, none, stop).await.unwrap();
    assert!(has(&bench, "note.md", "the larger one, edited"));
    assert!(has(&bench, "log.md", "a"));
    assert!(!has(&bench, "z.md", "the largest of them all"), "{report:#?}");
    bench.sync().await;
    bench.assert_in_step().await;
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
async fn a_note_that_gets_its_earlier_name_again_is_kept_where_the_vault_has_another_one_there() {
    let mut bench = in_step(&[("note.md", "the first")]).await;
    bench.vault.rename("note.md", "old.md").unwrap();
    bench.sync().await;
    fs::rename(bench.dest().join("old.md"), bench.dest().join("note.md")).unwrap();
    bench.vault.write("note.md", "the second", T + 5000).unwrap();
    bench.options.dry_run = true;
    let said = bench.sync().await;
    assert!(said.steps.iter().any(|step| step.action == StepAction::KeepBeside), "{said:#?}");
    bench.options.dry_run = false;
    let report = bench.sync().await;
    assert_eq!(report.conflicts.len(), 1, "{report:#?}");
    assert_eq!(bench.read("note.md"), "the second");
    assert!(has(&bench, report.conflicts[0].kept_as.as_str(), "the first"));
    bench.assert_in_step().await;
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
    let usual = |options: &mut SyncOptions| options.max_delete_in_vault = MaxDelete::InVault;
    bench.edit("new.md", "new");
    let report = bench.sync_with(usual).await.unwrap();
    assert_eq!(report.outcome, Outcome::HeldBack, "{report:#?}");
    assert_eq!((report.deleted_in_vault.files, report.held_back(), report.pushed.files), (0, 100, 1));
    assert_eq!(bench.vault.expected().unwrap().files.len(), 301);
    // They stay held back after further runs, until confirmed.
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
    // All remaining files at once: the destination is doubted, and everything is restored.
    fs::remove_dir_all(bench.dest()).unwrap();
    let report = bench.sync_with(usual).await.unwrap();
    assert_eq!((report.deleted_in_vault.files, report.pulled.files), (0, 201), "{report:#?}");
    bench.assert_in_step().await;
}

/// Beginning of the content that a rival writes just before a push is recorded.
const RIVAL: &str = "a rival wrote this";

#[tokio::test(flavor = "multi_thread")]
async fn what_another_device_wrote_in_between_is_kept() {
    let bench = in_step(&[("note.md", "a\n"), ("picture.png", "p")]).await;
    for (path, text) in [("note.md", "mine\n"), ("picture.png", "my picture"), ("new.md", "new")] {
        bench.edit(path, text);
        bench.server.faults().update(|faults| faults.rival_push = Chance::next(1));
        let report = bench.sync().await;
        bench.server.faults().clear();
        assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
        assert_eq!(bench.read(path), text);
        let [conflict] = &report.conflicts[..] else { panic!("{report:#?}") };
        assert!(bench.read(conflict.kept_as.as_str()).starts_with(RIVAL));
        bench.assert_in_step().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_device_wrote_in_between_is_kept_where_names_are_short() {
    let mut bench = Bench::new().await;
    // As in eCryptfs.
    bench.folder.name_max = Some(143);
    let path = format!("{}.md", "n".repeat(120));
    bench.vault.write(&path, "a\n", T).unwrap();
    bench.sync().await;
    bench.edit(&path, "mine\n");
    bench.server.faults().update(|faults| faults.rival_push = Chance::next(1));
    let report = bench.sync().await;
    bench.server.faults().clear();
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    let [conflict] = &report.conflicts[..] else { panic!("{report:#?}") };
    assert!(conflict.kept_as.file_name().len() <= 143, "{}", conflict.kept_as);
    assert!(bench.read(conflict.kept_as.as_str()).starts_with(RIVAL));
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_came_between_survives_a_deletion_and_a_rename() {
    let bench = in_step(&[("a.md", "a"), ("b.md", "bb"), ("kept.md", "k")]).await;
    fs::remove_file(bench.dest().join("a.md")).unwrap();
    bench.server.faults().update(|faults| faults.rival_push = Chance::next(1));
    let report = bench.sync().await;
    bench.server.faults().clear();
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert!(bench.read("a.md").starts_with(RIVAL));
    bench.assert_in_step().await;
    // The second push of a rename is the deletion of the old path, if the service does not make it itself.
    fs::rename(bench.dest().join("b.md"), bench.dest().join("c.md")).unwrap();
    bench.server.faults().update(|faults| {
        faults.keep_related = Chance::always();
        faults.rival_push = Chance::next(1).after(1);
    });
    let report = bench.sync().await;
    bench.server.faults().clear();
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert!(bench.read("b.md").starts_with(RIVAL));
    assert_eq!(bench.read("c.md"), "bb");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_late_and_repeated_echoes_lose_and_repeat_nothing() {
    type Set = fn(&mut Faults);
    let faults: [(&str, Set); 7] = [
        ("lose-echo", |faults| faults.lose_echo = Chance::next(1)),
        ("lose-answer", |faults| faults.lose_answer = Chance::next(1)),
        ("late-echo", |faults| faults.late_echo = Chance::always()),
        ("double-echo", |faults| faults.double_echo = Chance::always()),
        ("drop-in-upload", |faults| faults.drop_in_upload = Chance::next(1)),
        ("keep-related", |faults| faults.keep_related = Chance::always()),
        ("rival and lost", |faults| {
            faults.rival_push = Chance::next(1);
            faults.lose_echo = Chance::next(1);
        }),
    ];
    for (name, set) in faults {
        let bench = in_step(&[("a.md", "a"), ("b.md", "b"), ("gone.md", "g"), ("old.md", "text")]).await;
        let before = bench.vault.version().0;
        bench.edit("a.md", "edited");
        bench.edit("large.bin", &"x".repeat(3 << 20));
        fs::remove_file(bench.dest().join("gone.md")).unwrap();
        fs::rename(bench.dest().join("old.md"), bench.dest().join("new.md")).unwrap();
        bench.server.faults().update(set);
        let mut report = bench.sync().await;
        bench.server.faults().clear();
        for _ in 0..2 {
            if report.outcome != Outcome::Complete {
                report = bench.sync().await;
            }
        }
        assert_eq!(report.outcome, Outcome::Complete, "{name}: {report:#?}");
        bench.sync().await;
        bench.assert_in_step().await;
        let pushed = bench.vault.version().0 - before;
        let rival = u64::from(name.starts_with("rival"));
        assert!((5..=6 + 3 * rival).contains(&pushed), "{name}: {pushed} versions");
        assert!(
            has(&bench, "a.md", "edited") && has(&bench, "new.md", "text") && has(&bench, "b.md", "b"),
            "{name}"
        );
        let copies = bench.files().iter().filter(|file| file.contains("Conflicted copy")).count() as u64;
        assert_eq!(copies, rival, "{name}");
    }
}

/// Bytes on their way to the vault, and bytes in place there, at each change of the former.
#[derive(Default)]
struct SentBytes(Mutex<(u64, Vec<(u64, u64)>)>);

impl Progress for SentBytes {
    fn placed(&self, bytes: u64) {
        self.0.lock().unwrap().0 += bytes;
    }

    fn sending(&self, bytes: u64) {
        let mut seen = self.0.lock().unwrap();
        let placed = seen.0;
        seen.1.push((bytes, placed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_are_counted_while_they_are_sent_and_once_though_connections_break() {
    // One file is sent over the existing session, six over connections of their own.
    for (files, cuts) in [(1, 0), (6, 0), (6, 3)] {
        let bench = in_step(&[("a.md", "a")]).await;
        let size = 5 << 20;
        for file in 0..files {
            bench.edit(format!("{file}.bin"), &file.to_string().repeat(size));
        }
        bench.server.faults().update(|faults| faults.drop_in_upload = Chance::next(cuts));
        let watched = Arc::new(SentBytes::default());
        let destination = FolderDestination::open(&bench.dest(), bench.folder).unwrap();
        let report =
            bench.sync_through(destination, watched.clone(), CancellationToken::new()).await.unwrap();
        assert_eq!((report.outcome, report.pushed.files), (Outcome::Complete, files), "{report:#?}");
        let (placed, seen) = std::mem::take(&mut *watched.0.lock().unwrap());
        let all = files * size as u64;
        assert_eq!((placed, seen.last()), (all, Some(&(0, all))));
        assert!(seen.iter().all(|(sending, placed)| sending + placed <= all), "{seen:?}");
        let steps = seen.windows(2).filter(|pair| pair[1].0 > pair[0].0).count() as u64;
        assert!(steps >= 2 * files, "each is sent in three pieces, and moves with each: {seen:?}");
        let taken_back =
            seen.windows(2).filter(|pair| pair[1].0 < pair[0].0 && pair[1].1 == pair[0].1).count();
        assert_eq!(taken_back as u64, cuts, "{seen:?}");
        bench.assert_in_step().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_sends_and_applies_nothing() {
    let bench = Bench::new().await;
    bench.vault.write("there.md", "there", T).unwrap();
    bench.vault.write("both.md", "same", T).unwrap();
    bench.edit("both.md", "same");
    bench.edit("here.md", "here");
    let push = |mirrors| move |options: &mut SyncOptions| options.direction = SyncDirection::Push { mirrors };
    let report = bench.sync_with(push(false)).await.unwrap();
    assert_eq!(
        (report.outcome, report.pushed.files, report.pulled.files),
        (Outcome::Complete, 1, 0),
        "{report:#?}"
    );
    assert_eq!(report.diverged.iter().map(|path| path.as_str()).collect::<Vec<_>>(), ["there.md"]);
    assert!(has(&bench, "here.md", "here") && !bench.files().contains(&"there.md".to_owned()));
    // The vault's changes are not applied, and a file that both sides changed is not sent over them.
    bench.vault.write("both.md", "theirs", T + 5000).unwrap();
    bench.edit("both.md", "mine");
    bench.edit("here.md", "edited");
    fs::write(bench.dest().join("new.md"), "new").unwrap();
    let report = bench.sync_with(push(false)).await.unwrap();
    assert_eq!((report.pushed.files, report.diverged.len()), (2, 1), "{report:#?}");
    assert!(
        has(&bench, "both.md", "theirs") && has(&bench, "here.md", "edited") && has(&bench, "new.md", "new")
    );
    let report = bench.sync_with(push(false)).await.unwrap();
    assert_eq!((report.pushed.files, report.diverged.len()), (0, 1), "{report:#?}");
    // A file that is deleted here is deleted there, once the folder is known.
    fs::remove_file(bench.dest().join("new.md")).unwrap();
    let report = bench.sync_with(push(false)).await.unwrap();
    assert_eq!(report.deleted_in_vault.files, 1, "{report:#?}");
    // A later sync fetches the rest.
    let report = bench.sync().await;
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    assert_eq!((bench.read("there.md"), bench.read("both.md")), ("there".to_owned(), "theirs".to_owned()));
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_keeps_what_another_device_wrote_in_between_beside_its_files_and_merges_nothing() {
    let bench = in_step(&[("note.md", "a\nb\nc\n"), ("gone.md", "g"), ("kept.md", "k")]).await;
    let there = |path: &'static str, text: &'static str| {
        let other = bench.vault.as_device("B");
        move || {
            other.write(path, text, T + 1000).unwrap();
        }
    };
    bench.edit("note.md", "A\nb\nc\n");
    let report = bench.push_while(there("note.md", "a\nb\nC\n")).await.unwrap();
    assert_eq!((report.merged.len(), report.conflicts.len()), (0, 1), "{report:#?}");
    assert_eq!(bench.read("note.md"), "A\nb\nc\n");
    assert_eq!(bench.read(report.conflicts[0].kept_as.as_str()), "a\nb\nC\n");
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    let report = bench.push_while(there("gone.md", "edited there")).await.unwrap();
    assert_eq!(report.conflicts.len(), 1, "{report:#?}");
    assert_eq!(bench.read(report.conflicts[0].kept_as.as_str()), "edited there");
    assert!(!bench.files().contains(&"gone.md".to_owned()));
    // Both are in the vault, too.
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_from_a_folder_that_can_only_be_read_names_what_it_cannot_keep_and_goes_on() {
    let bench = in_step(&[("note.md", "base")]).await;
    bench.edit("note.md", "mine");
    bench.server.faults().update(|faults| faults.rival_push = Chance::next(1));
    let push = async || {
        let destination = Arc::new(MeddledFolder::read_only(bench.store()));
        let direction = SyncDirection::Push { mirrors: false };
        let options = SyncOptions { direction, second_look: Duration::ZERO, ..SyncOptions::default() };
        let (none, stop) = (Arc::new(NoProgress), CancellationToken::new());
        sync(&bench.source, destination, bench.state(), &options, none, stop).await.unwrap()
    };
    let report = push().await;
    let said = report.warnings.join("\n");
    assert!(said.contains("note.md") && said.contains("history of that file"), "{said}");
    assert_eq!(bench.server.faults().strikes("rival-push"), 1);
    bench.edit("note.md", "mine, later");
    assert_eq!(push().await.pushed.files, 1, "nothing is left over");
    assert!(has(&bench, "note.md", "mine, later") && bench.files() == ["note.md"]);
    assert!(bench.state().intents().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_replaces_what_the_vault_changed() {
    let bench = in_step(&[("a.md", "a"), ("b.md", "b")]).await;
    bench.vault.write("a.md", "theirs", T + 5000).unwrap();
    let mirror = |options: &mut SyncOptions| options.direction = SyncDirection::Push { mirrors: true };
    let report = bench.sync_with(mirror).await.unwrap();
    assert_eq!((report.pushed.files, report.outcome), (1, Outcome::Complete), "{report:#?}");
    assert_eq!(bench.read("a.md"), "a");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_go_over_several_connections() {
    let bench = in_step(&[("kept.md", "k")]).await;
    for n in 0..600 {
        bench.edit(format!("f{}/{n}.md", n % 7), &format!("text {n}"));
    }
    let report = bench.sync().await;
    assert_eq!((report.pushed.files, report.outcome), (600, Outcome::Complete), "{report:#?}");
    bench.assert_in_step().await;
    let before = bench.vault.version();
    for n in 0..300 {
        fs::remove_file(bench.dest().join(format!("f{}/{n}.md", n % 7))).unwrap();
    }
    let report = bench.sync().await;
    assert_eq!((report.deleted_in_vault.files, report.outcome), (300, Outcome::Complete), "{report:#?}");
    bench.assert_in_step().await;
    assert_eq!(bench.vault.version().0 - before.0, 300, "nothing is sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_vault_is_told_and_the_rest_goes_on() {
    let bench = in_step(&[("a.md", "a"), ("b.md", "b")]).await;
    bench.edit("new.md", "new");
    fs::remove_file(bench.dest().join("b.md")).unwrap();
    bench.vault.write("there.md", "there", T).unwrap();
    bench.server.faults().update(|faults| faults.vault_full = Chance::always());
    let report = bench.sync().await;
    bench.server.faults().clear();
    assert_eq!(
        (report.outcome, report.pulled.files, report.deleted_in_vault.files),
        (Outcome::Failures, 1, 1),
        "{report:#?}"
    );
    assert_eq!(report.failures[0].path, "new.md");
    let report = bench.sync().await;
    assert_eq!((report.outcome, report.pushed.files), (Outcome::Complete, 1), "{report:#?}");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_the_place_of_a_file_that_the_vault_edited_is_kept_beside() {
    let bench = in_step(&[("x", "text"), ("kept.md", "k")]).await;
    fs::remove_file(bench.dest().join("x")).unwrap();
    bench.edit("x/c.md", "mine");
    bench.vault.write("x", "edited there", T + 5000).unwrap();
    let report = bench.sync().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 1), "{report:#?}");
    assert_eq!(bench.read("x"), "edited there");
    assert_eq!(bench.read(format!("{}/c.md", report.conflicts[0].kept_as)), "mine");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_sync_of_a_vault_that_was_rolled_back_takes_nothing_old_and_deletes_nothing() {
    let bench = in_step(&[("a.md", "old"), ("b.md", "b")]).await;
    bench.vault.write("a.md", "new", T).unwrap();
    bench.vault.write("c.md", "c", T).unwrap();
    bench.sync().await;
    bench.vault.roll_back(Uid(2)).unwrap();
    for mode in [Mode::Incremental, Mode::Full, Mode::Full] {
        let report = bench.sync_with(|options| options.pull.mode = mode).await.unwrap();
        assert_eq!(report.outcome, Outcome::VaultOlder, "{mode:?}: {report:#?}");
        assert_eq!((bench.read("a.md"), bench.files().len()), ("new".to_owned(), 3), "{mode:?}");
    }
    // It grew again, beyond the known version.
    for number in 0..4 {
        bench.vault.write(&format!("later {number}.md"), "later", T).unwrap();
    }
    let report = bench.sync_with(|options| options.pull.mode = Mode::Full).await.unwrap();
    assert!(report.vault_restored, "{report:#?}");
    let new = ContentHash::of(b"new").to_string();
    assert!(bench.contents().into_values().any(|content| content == new), "{:?}", bench.files());
    assert!(bench.files().contains(&"c.md".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_changes_that_a_report_lists_are_those_of_both_sides() {
    let bench = in_step(&[("merged.md", "a\nb\nc\n"), ("gone.md", "gone")]).await;
    bench.vault.write("merged.md", "a there\nb\nc\n", T).unwrap();
    bench.edit("merged.md", "a\nb\nc here\n");
    bench.edit("folder/new.md", "new");
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    let report = bench.sync_with(|options| options.pull.list_changes = Some(u64::MAX)).await.unwrap();
    let changes = report.changes.unwrap();
    let made: BTreeSet<(String, &str)> = changes
        .iter()
        .map(|step| {
            let action = match step.action {
                StepAction::Merge => "merge",
                StepAction::Push => "push",
                StepAction::PushFolder => "push folder",
                StepAction::DeleteInVault => "delete in vault",
                other => panic!("{other:?}"),
            };
            (step.path.to_string(), action)
        })
        .collect();
    let wanted = [
        ("folder", "push folder"),
        ("folder/new.md", "push"),
        ("gone.md", "delete in vault"),
        ("merged.md", "merge"),
        ("merged.md", "push"),
    ];
    assert_eq!(made, wanted.map(|(path, action)| (path.to_owned(), action)).into());
    assert_eq!(report.deleted_in_vault_files.len(), 1);
}
