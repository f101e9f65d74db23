//! Additional data of a two-way destination: the journal, the base texts of merges, and the device's name in
//! the names of copies.

use std::fs;
use std::sync::Arc;

use obsync_client::{Client, ClientOptions};
use obsync_conformance::WatchedState;
use obsync_core::conflicted_copy::DeviceName;
use obsync_core::{JournalChange, JournalEntry, Outcome, PullSource, Side, StateStore};
use obsync_folder::FolderOptions;
use obsync_protocol::{ContentHash, VaultPath};

use crate::bench::Bench;

const T: i64 = 1_700_000_000_000;

/// The bench with another name for this device.
fn as_device(mut bench: Bench, device: &str) -> Bench {
    let options =
        ClientOptions { api_url: bench.server.url(), device: device.to_owned(), ..ClientOptions::default() };
    bench.source = PullSource { client: Client::new(options).unwrap(), ..bench.source };
    bench.folder = FolderOptions { device: DeviceName::new(device), ..bench.folder };
    bench
}

async fn in_step(notes: &[(&str, &str)]) -> Bench {
    let bench = as_device(Bench::new().await, "laptop");
    for (path, text) in notes {
        bench.vault.write(path, text, T).unwrap();
    }
    bench.sync().await;
    bench.assert_in_step().await;
    bench
}

async fn journal(bench: &Bench, path: Option<&str>) -> Vec<JournalEntry> {
    let path = path.map(|path| VaultPath::parse(path).unwrap());
    bench.state().journal(path.as_ref(), 100).await.unwrap()
}

fn has(bench: &Bench, path: &str, text: &str) -> bool {
    let sha256 = ContentHash::of(text.as_bytes()).to_string();
    bench.vault.expected().unwrap().files.into_iter().any(|file| file.path == path && file.sha256 == sha256)
}

/// Side, change, path, path before, device.
type Line<'a> = (Side, JournalChange, &'a str, Option<&'a str>, Option<&'a str>);

fn lines(entries: &[JournalEntry]) -> Vec<Line<'_>> {
    entries
        .iter()
        .map(|entry| {
            (
                entry.side,
                entry.change,
                entry.path.as_str(),
                entry.from.as_ref().map(|from| from.as_str()),
                entry.device.as_deref(),
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_says_what_was_changed_where_by_whom_and_from_which_version() {
    use JournalChange::{CreateFolder, Delete, Write};
    use Side::{Here, Vault};
    let bench = in_step(&[("a.md", "a"), ("b.md", "b"), ("c.md", "text of c")]).await;
    assert!(journal(&bench, None).await.is_empty(), "a first run changes nothing that was there");
    bench.vault.as_device("phone").write("a.md", "edited there", T + 1).unwrap();
    bench.vault.as_device("tablet").delete("b.md").unwrap();
    bench.sync().await;
    bench.edit("x/new.md", "new");
    fs::rename(bench.dest().join("c.md"), bench.dest().join("d.md")).unwrap();
    bench.edit("a.md", "edited here");
    bench.sync().await;
    bench.assert_in_step().await;
    let entries = journal(&bench, None).await;
    let mut found = lines(&entries);
    found.sort_by_key(|line| line.2);
    let laptop = Some("laptop");
    let wanted: [Line<'_>; 6] = [
        (Vault, Write, "a.md", None, laptop),
        (Here, Write, "a.md", None, Some("phone")),
        (Here, Delete, "b.md", None, Some("tablet")),
        (Vault, Write, "d.md", Some("c.md"), laptop),
        (Vault, CreateFolder, "x", None, laptop),
        (Vault, Write, "x/new.md", None, laptop),
    ];
    assert_eq!(found, wanted);
    // Each is based on the version before, newest first.
    let of_a = journal(&bench, Some("a.md")).await;
    assert_eq!((of_a[0].base, of_a[1].base.0), (of_a[1].uid, 1), "{of_a:#?}");
    assert_eq!(of_a[0].size, Some("edited here".len() as u64));
    // A renamed file is found under both of its names, and a folder with what is in it.
    assert_eq!(journal(&bench, Some("c.md")).await, journal(&bench, Some("d.md")).await);
    assert_eq!(journal(&bench, Some("x")).await.len(), 2);
    assert_eq!(bench.state().journal(None, 1).await.unwrap().len(), 1);
    // A run that changes nothing adds nothing.
    bench.sync().await;
    assert_eq!(journal(&bench, None).await, entries);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_has_conflicted_copies_under_both_of_their_names() {
    use JournalChange::{ConflictedCopy, Write};
    let bench = in_step(&[("picture.png", "old"), ("note.md", "a\n"), ("gone.md", "g")]).await;
    let copy = |entries: &[JournalEntry]| {
        let found = entries.iter().find(|entry| entry.change == ConflictedCopy);
        found.cloned().unwrap_or_else(|| panic!("{entries:#?}"))
    };
    // Changed on both sides.
    bench.edit("picture.png", "mine");
    bench.vault.as_device("phone").write("picture.png", "theirs", T + 5000).unwrap();
    let report = bench.sync().await;
    let kept_as = report.conflicts[0].kept_as.clone();
    let of_picture = copy(&journal(&bench, Some("picture.png")).await);
    assert_eq!((of_picture.side, &of_picture.path, of_picture.uid.0), (Side::Here, &kept_as, 0));
    assert_eq!(of_picture.from.as_ref().map(VaultPath::as_str), Some("picture.png"));
    assert_eq!((of_picture.base.0, of_picture.device.as_deref()), (1, Some("laptop")));
    let of_copy = journal(&bench, Some(kept_as.as_str())).await;
    assert_eq!(of_copy.iter().map(|entry| entry.change).collect::<Vec<_>>(), [Write, ConflictedCopy]);
    // A file that is renamed because another device creates a folder of the same name at the same time.
    bench.edit("x", "a file");
    let other = bench.vault.as_device("phone");
    let report = bench
        .sync_while(move || {
            other.write("x/c.md", "in a folder", T).unwrap();
        })
        .await
        .unwrap();
    let of_x = copy(&journal(&bench, Some("x")).await);
    assert_eq!((&of_x.path, of_x.device.as_deref()), (&report.conflicts[0].kept_as, Some("laptop")));
    assert_eq!(bench.read(of_x.path.as_str()), "a file");
    // The content that another device wrote in between.
    bench.edit("note.md", "mine\n");
    bench.server.faults().update(|faults| faults.rival_push = obsync_testkit::Chance::next(1));
    let report = bench.sync().await;
    bench.server.faults().clear();
    let of_note = copy(&journal(&bench, Some("note.md")).await);
    assert_eq!(of_note.path, report.conflicts[0].kept_as);
    assert!(of_note.uid.0 > of_note.base.0, "the version that was kept: {of_note:?}");
    // And the content that it wrote before a deletion of ours, which wins.
    fs::remove_file(bench.dest().join("gone.md")).unwrap();
    bench.server.faults().update(|faults| faults.rival_push = obsync_testkit::Chance::next(1));
    bench.sync().await;
    bench.server.faults().clear();
    let of_gone: Vec<_> =
        journal(&bench, Some("gone.md")).await.iter().map(|entry| (entry.side, entry.change)).collect();
    use JournalChange::Delete;
    assert_eq!(
        of_gone,
        [(Side::Vault, Write), (Side::Here, Write), (Side::Vault, Delete)],
        "the newest first"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_has_conflicted_copies_of_a_first_run() {
    let bench = as_device(Bench::new().await, "laptop");
    bench.vault.write("note.md", "theirs", T).unwrap();
    bench.edit("note.md", "mine");
    let report = bench.pull().await;
    let entries = journal(&bench, None).await;
    let [entry] = &entries[..] else { panic!("{entries:#?}") };
    assert_eq!((entry.change, &entry.path), (JournalChange::ConflictedCopy, &report.conflicts[0].kept_as));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_has_edits_that_were_carried_along_with_a_rename() {
    let bench = in_step(&[("note.md", "text"), ("kept.md", "k")]).await;
    bench.edit("note.md", "edited here");
    bench.vault.as_device("phone").rename("note.md", "moved.md").unwrap();
    bench.sync().await;
    bench.assert_in_step().await;
    let entries = journal(&bench, None).await;
    use JournalChange::Write;
    let wanted: [Line<'_>; 2] = [
        (Side::Vault, Write, "moved.md", None, Some("laptop")),
        (Side::Here, Write, "moved.md", Some("note.md"), Some("phone")),
    ];
    assert_eq!(lines(&entries), wanted);
    assert_eq!((entries[1].base.0, entries[1].size), (1, Some("edited here".len() as u64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_needs_no_old_version_of_the_vault() {
    let bench = in_step(&[("note.md", "a\nb\nc\n"), ("new.md", "")]).await;
    bench.edit("new.md", "1\n2\n3\n");
    bench.sync().await;
    for path in ["note.md", "new.md"] {
        let text = bench.read(path);
        let [first, middle, last] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        bench.edit(path, &format!("{first} here\n{middle}\n{last}\n"));
        bench.vault.write(path, format!("{first}\n{middle}\n{last} there\n"), T + 5000).unwrap();
    }
    // The common base is not in the vault any more.
    bench.vault.purge().unwrap();
    let report = bench.sync().await;
    assert_eq!((report.outcome, report.conflicts.len()), (Outcome::Complete, 0), "{report:#?}");
    assert_eq!(report.merged.len(), 2);
    assert_eq!(bench.read("note.md"), "a here\nb\nc there\n");
    assert_eq!(bench.read("new.md"), "1 here\n2\n3 there\n");
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_is_complete_though_its_texts_cannot_be_kept() {
    let bench = in_step(&[("note.md", "text")]).await;
    bench.edit("note.md", "edited");
    let state = Arc::new(WatchedState::new(bench.state()).without_texts());
    let report = bench.sync_recorded_by(state, |_| {}).await.unwrap();
    assert_eq!(report.outcome, Outcome::Complete, "{report:#?}");
    let [warning] = &report.warnings[..] else { panic!("{report:#?}") };
    assert!(warning.starts_with("texts for later merges could not be kept: "), "{warning}");
    assert!(has(&bench, "note.md", "edited"));
    bench.assert_in_step().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicted_copies_bear_the_name_of_the_device_here_and_in_the_vault() {
    let bench = in_step(&[("note.md", "a\n"), ("picture.png", "old")]).await;
    bench.edit("picture.png", "mine");
    bench.vault.write("picture.png", "theirs", T + 5000).unwrap();
    let report = bench.sync().await;
    let [conflict] = &report.conflicts[..] else { panic!("{report:#?}") };
    let kept_as = conflict.kept_as.as_str();
    assert!(
        kept_as.starts_with("picture (Conflicted copy laptop 2") && kept_as.ends_with(").png"),
        "{kept_as}"
    );
    assert!(has(&bench, kept_as, "mine"));
    assert_eq!(report.device.as_deref(), Some("laptop"));
    // The content that another device wrote between a push and its echo, too.
    bench.edit("note.md", "mine\n");
    bench.server.faults().update(|faults| faults.rival_push = obsync_testkit::Chance::next(1));
    let report = bench.sync().await;
    bench.server.faults().clear();
    let [conflict] = &report.conflicts[..] else { panic!("{report:#?}") };
    assert!(conflict.kept_as.as_str().starts_with("note (Conflicted copy laptop 2"), "{report:#?}");
    bench.assert_in_step().await;
}
