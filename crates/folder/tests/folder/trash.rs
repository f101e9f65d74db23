//! The trash: replaced and removed files can be restored for a while.

use std::fs;

use obsync_conformance::{at, meta, place, publish_one, stage};
use obsync_core::{
    Destination, DestinationExt, Inspect, KnownContent, Naming, Receive, Removable, Removal, Scan, ScanInput,
};
use obsync_folder::{FolderDestination, FolderOptions, Step};
use obsync_protocol::VaultPath;

use crate::destination::{TestFolder, mtime};

const TIME: i64 = 1_700_000_000_000;

fn destination() -> TestFolder {
    TestFolder::with(FolderOptions { trash: true, ..FolderOptions::default() })
}

async fn remove(store: &FolderDestination, path: &str, content: &[u8]) -> Removal {
    let file = Removable { path: at(path), content: KnownContent::of(content) };
    let removal = store.remove_files(vec![file]).await.pop().unwrap().unwrap();
    store.flush().await.unwrap();
    removal
}

/// Contents of the trash: the run's folder, the path in it, and the text. Runs are numbered in order.
fn trashed(destination: &TestFolder) -> Vec<(usize, String, String)> {
    let trash = destination.path(".obsync/trash");
    let mut runs: Vec<_> = fs::read_dir(trash).into_iter().flatten().map(|run| run.unwrap().path()).collect();
    runs.sort();
    let mut found = Vec::new();
    for (number, run) in runs.iter().enumerate() {
        let mut pending = vec![run.clone()];
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => pending.push(path),
                    false => {
                        let place = path.strip_prefix(run).unwrap().to_str().unwrap().to_owned();
                        found.push((number, place, fs::read_to_string(path).unwrap()));
                    }
                }
            }
        }
    }
    found.sort();
    found
}

fn entry(run: usize, path: &str, text: &str) -> (usize, String, String) {
    (run, path.to_owned(), text.to_owned())
}

#[tokio::test]
async fn what_is_replaced_or_removed_is_in_the_trash_with_its_path_and_time() {
    let destination = destination();
    let store = destination.store();
    place(&store, "a/note.md", b"one", TIME, None).await;
    place(&store, "gone.md", b"text", TIME, None).await;
    place(&store, "a/note.md", b"two", TIME + 1000, Some(b"one")).await;
    assert_eq!(remove(&store, "gone.md", b"text").await, Removal::Removed);
    assert_eq!(trashed(&destination), [entry(0, "a/note.md", "one"), entry(0, "gone.md", "text")]);
    let run = fs::read_dir(destination.path(".obsync/trash")).unwrap().next().unwrap().unwrap().path();
    assert_eq!(mtime(&run.join("a/note.md")), Some(TIME));
    // It is still there after the run; staging is not.
    store.discard_staged().await.unwrap();
    store.end_run().await;
    assert_eq!(trashed(&destination).len(), 2);
    assert!(!destination.path(".obsync/staging").exists());
}

#[tokio::test]
async fn without_the_option_nothing_is_kept() {
    let destination = TestFolder::new();
    let store = destination.store();
    place(&store, "note.md", b"one", TIME, None).await;
    place(&store, "note.md", b"two", TIME, Some(b"one")).await;
    remove(&store, "note.md", b"two").await;
    store.discard_staged().await.unwrap();
    store.end_run().await;
    assert!(!destination.path(".obsync").exists());
}

#[tokio::test]
async fn a_path_can_be_in_the_trash_several_times_and_be_a_folder_too() {
    let destination = destination();
    let store = destination.store();
    place(&store, "a", b"one", TIME, None).await;
    place(&store, "a", b"two", TIME, Some(b"one")).await;
    remove(&store, "a", b"two").await;
    place(&store, "a/b.md", b"three", TIME, None).await;
    remove(&store, "a/b.md", b"three").await;
    let texts: Vec<(String, String)> =
        trashed(&destination).into_iter().map(|(_, path, text)| (path, text)).collect();
    let expected = [("a", "one"), ("a", "two"), ("a/b.md", "three")];
    assert_eq!(texts, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
}

/// A run with a trash is killed at each step at which a file is out of its place; the next one has no trash,
/// as a plain pull after `pull --mirror`.
#[tokio::test]
async fn what_a_killed_run_had_taken_out_for_the_trash_comes_there_whoever_is_next() {
    for last in [Step::Exchanged, Step::TakenOut] {
        let destination = destination();
        place(&destination.store(), "note.md", b"one", TIME, None).await;
        let kill = move |step: Step, _: Option<&VaultPath>| {
            if step == last {
                std::panic::panic_any("killed");
            }
        };
        let killed = FolderDestination::open_watched(&destination.root(), destination.options, kill).unwrap();
        let died = match last {
            Step::Exchanged => {
                let staged = stage(&killed, "note.md", b"two", TIME).await;
                let expected = Some(KnownContent::of(b"one"));
                tokio::spawn(async move { publish_one(&killed, staged, expected).await.is_ok() })
            }
            _ => {
                let file = Removable { path: at("note.md"), content: KnownContent::of(b"one") };
                tokio::spawn(async move { killed.remove_files(vec![file]).await.is_empty() })
            }
        };
        assert!(died.await.is_err(), "{last:?}");
        assert_eq!(trashed(&destination), [], "{last:?}");
        let next = FolderDestination::open(&destination.root(), FolderOptions::default()).unwrap();
        assert!(next.has_taken(false).await.unwrap(), "{last:?}");
        assert!(next.return_taken(vec![(at("note.md"), None)]).await.unwrap().is_empty(), "{last:?}");
        assert_eq!(trashed(&destination), [entry(0, "note.md", "one")], "{last:?}");
    }
}

#[tokio::test]
async fn what_a_killed_run_had_taken_out_comes_into_the_trash_with_the_next() {
    let destination = destination();
    place(&destination.store(), "note.md", b"one", TIME, None).await;
    let kill = |step: Step, _: Option<&VaultPath>| {
        if step == Step::Exchanged {
            std::panic::panic_any("killed");
        }
    };
    let killed = FolderDestination::open_watched(&destination.root(), destination.options, kill).unwrap();
    let staged = stage(&killed, "note.md", b"two", TIME).await;
    let died =
        tokio::spawn(
            async move { publish_one(&killed, staged, Some(KnownContent::of(b"one"))).await.is_ok() },
        );
    assert!(died.await.is_err());
    let store = destination.store();
    assert!(store.has_taken(false).await.unwrap());
    let known = vec![(at("note.md"), Some(KnownContent::of(b"two")))];
    assert!(store.return_taken(known).await.unwrap().is_empty());
    assert_eq!(trashed(&destination), [entry(0, "note.md", "one")]);
    assert_eq!(destination.read("note.md"), "two");
}

#[tokio::test]
async fn after_30_days_a_run_is_swept_from_the_trash_and_nothing_else() {
    let destination = destination();
    let old = jiff::Timestamp::now() - jiff::Span::new().hours(30 * 24 + 1);
    let young = jiff::Timestamp::now() - jiff::Span::new().hours(30 * 24 - 1);
    let name = |time: jiff::Timestamp| time.strftime("%Y%m%dT%H%M%SZ").to_string();
    for run in [name(old), format!("{}-2", name(old)), name(young), "a user's".to_owned()] {
        destination.write(&format!(".obsync/trash/{run}/a/note.md"), b"text");
    }
    // A link in it is removed and not followed.
    destination.write("note.md", b"text");
    std::os::unix::fs::symlink("../../..", destination.path(&format!(".obsync/trash/{}/up", name(old))))
        .unwrap();
    destination.store().end_run().await;
    let mut left: Vec<_> = fs::read_dir(destination.path(".obsync/trash"))
        .unwrap()
        .map(|run| run.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, [name(young), "a user's".to_owned()]);
    assert_eq!(destination.read("note.md"), "text");
}

#[tokio::test]
async fn the_trash_is_neither_scanned_nor_listed_nor_written_to_by_the_vault() {
    let destination = destination();
    let store = destination.store();
    place(&store, "note.md", b"one", TIME, None).await;
    remove(&store, "note.md", b"one").await;
    assert_eq!(trashed(&destination).len(), 1);
    let tree =
        store.scan(ScanInput { records: Default::default(), filter: Default::default() }).await.unwrap();
    assert_eq!(tree.unwrap(), obsync_core::LocalTree::default());
    assert!(store.list().await.unwrap().files.is_empty() && store.is_empty().await.unwrap());
    let path = at(".obsync/trash/x.md");
    assert!(store.admits(&path).is_err() && store.begin(&path, &meta(b"x", 0)).await.is_err());
    assert!(store.open_file(&path).await.is_err());
}

#[tokio::test]
async fn another_text_than_the_expected_one_is_never_put_into_the_trash() {
    let destination = destination();
    let store = destination.store();
    place(&store, "note.md", b"one", TIME, None).await;
    destination.write("note.md", b"a user's");
    assert_eq!(remove(&store, "note.md", b"one").await, Removal::Kept);
    let conflict = place(&store, "note.md", b"two", TIME, Some(b"one")).await.conflict.unwrap();
    assert_eq!(destination.read(conflict.as_str()), "a user's");
    assert!(trashed(&destination).is_empty());
}
