//! Properties of a folder beyond the common contract: when it writes at all, files in its way, and its
//! permissions.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

#[cfg(target_os = "linux")]
use obsync_conformance::refused_locks::{FLOCK_REFUSALS, Kind, without_locks};
use obsync_conformance::{at, meta, place, publish_one, stage};
use obsync_core::{
    Destination, DestinationError, DestinationExt, Expect, FoldingProbe, Inspect, KnownContent, Naming,
    Publication, PublicationContent, Receive, Removable, Removal, Wanted,
};
use obsync_folder::{FolderDestination, FolderOptions};
use obsync_protocol::{ContentHash, NameFolding};

use crate::destination::{TestFolder, mtime};

#[tokio::test]
async fn a_folder_that_is_not_there_is_made_by_the_first_write_only() {
    let destination = TestFolder::new();
    let store = destination.store();
    store.lock().unwrap();
    look_at_everything(&store).await;
    assert!(!destination.root().exists(), "looking made the folder");
    place(&store, "a.md", b"text", 0, None).await;
    assert_eq!(destination.read("a.md"), "text");
}

#[tokio::test]
async fn looking_changes_nothing_in_a_folder() {
    let destination = TestFolder::new();
    destination.write("a.md", b"text");
    let before = fs::metadata(destination.root()).unwrap();
    let store = destination.store();
    store.lock().unwrap();
    look_at_everything(&store).await;
    drop(store);
    let after = fs::metadata(destination.root()).unwrap();
    assert_eq!((before.mtime(), before.mtime_nsec()), (after.mtime(), after.mtime_nsec()));
    assert_eq!((before.ctime(), before.ctime_nsec()), (after.ctime(), after.ctime_nsec()));
}

/// Every call of a run that has nothing to change.
async fn look_at_everything(store: &FolderDestination) {
    store.is_empty().await.unwrap();
    store.folds_names(FoldingProbe::Case).await.unwrap();
    store.list().await.unwrap();
    store.holds(Vec::new()).await.unwrap();
    assert!(store.recover(&at("b.md"), &meta(b"b", 0)).await.unwrap().is_none());
    assert!(store.copy(&at("b.md"), &at("c.md"), &meta(b"b", 0)).await.unwrap().is_none());
    assert!(store.publish(Vec::new()).await.is_empty());
    drop(store.begin(&at("b.md"), &meta(b"b", 0)).await.unwrap());
    store.flush().await.unwrap();
    store.discard_staged().await.unwrap();
}

#[tokio::test]
async fn when_all_is_done_nothing_of_obsync_is_left() {
    let destination = TestFolder::new();
    let store = destination.store();
    place(&store, "a/b.md", b"text", 0, None).await;
    let _left = stage(&store, "c.md", b"never published", 0).await;
    store.discard_staged().await.unwrap();
    assert_eq!(destination.tree(), ["a/", "a/b.md"]);
    place(&store, "c.md", b"it goes on", 0, None).await;
    assert_eq!(destination.read("c.md"), "it goes on");
}

#[tokio::test]
async fn files_have_the_mode_of_any_new_file_and_staging_is_private() {
    let destination = TestFolder::new();
    let store = destination.store();
    let staged = stage(&store, "a.md", b"text", 0).await;
    let mode = |path: &str| fs::metadata(destination.path(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(".obsync"), 0o700);
    assert_eq!(mode(".obsync/staging"), 0o700);
    publish_one(&store, staged, None).await.unwrap();
    destination.write("b.md", b"made by the standard library");
    assert_eq!(mode("a.md"), mode("b.md"));
}

#[tokio::test]
async fn an_empty_folder_in_the_way_of_a_file_is_removed() {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.path("a/note")).unwrap();
    place(&destination.store(), "a/note", b"a file", 0, None).await;
    assert_eq!(destination.read("a/note"), "a file");
}

#[tokio::test]
async fn a_folder_with_files_in_the_way_is_named_and_the_content_can_be_published_after_all() {
    let destination = TestFolder::new();
    destination.write("a/note/inner.md", b"somebody's");
    let store = destination.store();
    let staged = stage(&store, "a/note", b"a file", 0).await;
    let failure = publish_one(&store, staged, None).await.unwrap_err();
    assert!(
        matches!(&failure.error, DestinationError::InTheWay { occupant, .. } if *occupant == at("a/note"))
    );
    let aside = store.set_aside(&at("a/note")).await.unwrap();
    assert!(store.publish(vec![*failure.publication]).await[0].is_ok());
    assert_eq!(destination.read("a/note"), "a file");
    assert_eq!(destination.read(&format!("{aside}/inner.md")), "somebody's");
}

#[tokio::test]
async fn a_file_in_the_way_of_a_folder_is_named() {
    let destination = TestFolder::new();
    destination.write("a/b", b"a file");
    let store = destination.store();
    let staged = stage(&store, "a/b/c/d.md", b"text", 0).await;
    let failure = publish_one(&store, staged, None).await.unwrap_err();
    assert!(matches!(&failure.error, DestinationError::InTheWay { occupant, .. } if *occupant == at("a/b")));
    for folder in ["a/b", "a/b/c"] {
        let error = store.create_folders(vec![at(folder)]).await.pop().unwrap().unwrap_err();
        assert!(
            matches!(&error, DestinationError::InTheWay { occupant, .. } if *occupant == at("a/b")),
            "{error}"
        );
    }
    store.set_aside(&at("a/b")).await.unwrap();
    assert!(store.publish(vec![*failure.publication]).await[0].is_ok());
    assert_eq!(destination.read("a/b/c/d.md"), "text");
}

#[tokio::test]
async fn what_is_neither_file_nor_folder_is_set_aside_unread() {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.root()).unwrap();
    // Reading a pipe would wait for a writer.
    let made = Command::new("mkfifo").arg(destination.path("a.md")).status().unwrap();
    assert!(made.success());
    let store = destination.store();
    let conflict = place(&store, "a.md", b"text", 0, None).await.conflict.unwrap();
    assert_eq!(destination.read("a.md"), "text");
    assert!(fs::metadata(destination.path(conflict.as_str())).is_ok());
}

#[tokio::test]
async fn a_conflicted_copy_never_takes_the_place_of_another() {
    let destination = TestFolder::new();
    let store = destination.store();
    let mut kept = Vec::new();
    for number in 0..5 {
        let content = format!("edit {number}");
        destination.write("a.md", content.as_bytes());
        kept.push((place(&store, "a.md", b"from the vault", 0, None).await.conflict.unwrap(), content));
    }
    for (path, content) in kept {
        assert_eq!(destination.read(path.as_str()), content);
    }
}

#[tokio::test]
async fn a_failed_publication_does_not_hold_the_others_back() {
    let destination = TestFolder::new();
    destination.write("b/inner.md", b"somebody's");
    let store = destination.store();
    let mut batch = Vec::new();
    for path in ["a.md", "b", "c.md"] {
        let content = PublicationContent::Staged(stage(&store, path, path.as_bytes(), 0).await);
        batch.push(Publication { content, expect: Expect::Absent });
    }
    let answers: Vec<bool> = store.publish(batch).await.iter().map(Result::is_ok).collect();
    assert_eq!(answers, [true, false, true]);
    assert_eq!(destination.read("c.md"), "c.md");
}

#[tokio::test]
async fn a_time_that_no_file_system_has_becomes_the_nearest_one() {
    let destination = TestFolder::new();
    let store = destination.store();
    let times = [i64::MIN, -1, 0, 253_402_300_800_000, i64::MAX];
    for (number, time) in times.into_iter().enumerate() {
        place(&store, &format!("{number}.md"), b"text", time, None).await;
    }
    let found: Vec<i64> =
        (0..5).map(|number| mtime(&destination.path(&format!("{number}.md"))).unwrap()).collect();
    assert!(found.is_sorted(), "{found:?}");
    assert_eq!(found[1..3], [-1, 0]);
}

#[tokio::test]
async fn a_file_of_another_size_is_not_read_however_large_it_seems() {
    let destination = TestFolder::new();
    let store = destination.store();
    // Each read of one of these would take minutes.
    for name in ["in-the-way.md", "ours-once.md", "to-be-removed.md", "source.md"] {
        destination.write(name, b"");
        fs::File::options().write(true).open(destination.path(name)).unwrap().set_len(1 << 40).unwrap();
    }
    let aside = place(&store, "in-the-way.md", b"text", 0, None).await.conflict;
    assert!(aside.is_some() && destination.read("in-the-way.md") == "text");
    assert!(place(&store, "ours-once.md", b"text", 0, Some(b"older")).await.conflict.is_some());
    let removable = Removable { path: at("to-be-removed.md"), content: KnownContent::of(b"text") };
    assert_eq!(store.remove_files(vec![removable]).await.pop().unwrap().unwrap(), Removal::Kept);
    let wanted = Wanted { path: at("source.md"), hash: ContentHash::of(b"text"), size: 4 };
    assert_eq!(store.holds(vec![wanted]).await.unwrap(), [false]);
    assert!(store.copy(&at("source.md"), &at("b.md"), &meta(b"text", 0)).await.unwrap().is_none());
}

/// Where names are folded the file is found by the other name, too.
#[tokio::test]
async fn facts_are_those_of_a_file_of_that_very_name() {
    let destination = TestFolder::new();
    destination.write("Note.md", b"text");
    let found = destination.store().facts(vec![at("Note.md"), at("note.md")]).await.unwrap().unwrap();
    assert!(found[0].is_some() && found[1].is_none(), "{found:?}");
}

/// Like network drives, one of which reports every file as locked by another process.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_whose_file_system_refuses_locks_is_written_to_all_the_same() {
    let destination = TestFolder::new();
    destination.write(".obsync/lock", b"");
    for error in FLOCK_REFUSALS {
        let store = destination.store();
        if without_locks(Kind::Flock, error, move || store.lock().unwrap()).is_none() {
            return;
        }
    }
}

#[tokio::test]
async fn one_store_at_a_time_has_the_lock() {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.root()).unwrap();
    let first = destination.store();
    let second = destination.store();
    first.lock().unwrap();
    assert_eq!(destination.tree(), [""; 0], "nothing is written for the lock alone");
    place(&first, "a.md", b"text", 0, None).await;
    first.lock().unwrap();
    let error = second.lock().unwrap_err().to_string();
    let holder = format!(", process {} since 2", std::process::id());
    assert!(error.contains("vault (held by host ") && error.contains(&holder), "{error}");
    drop(first);
    second.lock().unwrap();
    assert_eq!(destination.read(".obsync/lock"), "");
}

#[tokio::test]
async fn a_lock_is_given_back_though_children_of_the_process_are_being_started() {
    let destination = TestFolder::new();
    destination.write(".obsync/lock", b"");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                Command::new("true").status().unwrap();
            }
        });
        let refused = (0..300).filter(|_| destination.store().lock().is_err()).count();
        done.store(true, Ordering::Relaxed);
        assert_eq!(refused, 0);
    });
}

#[tokio::test]
async fn the_lock_of_a_killed_run_is_free_and_its_name_is_not_told_again() {
    let destination = TestFolder::new();
    destination.write(".obsync/lock", b"host long-gone, process 1 since 2001");
    let (first, second) = (destination.store(), destination.store());
    first.lock().unwrap();
    assert!(!second.lock().unwrap_err().to_string().contains("long-gone"));
}

#[tokio::test]
async fn whoever_reads_the_folder_cannot_keep_its_owner_out() {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.root()).unwrap();
    let reader = fs::File::open(destination.root()).unwrap();
    reader.lock().unwrap();
    let store = destination.store();
    store.lock().unwrap();
    place(&store, "a.md", b"text", 0, None).await;
    let mode = fs::metadata(destination.path(".obsync/lock")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "nor can whoever reads everything in it");
}

#[tokio::test]
async fn a_lock_on_a_folder_that_is_not_there_yet_is_taken_when_it_is_made() {
    let destination = TestFolder::new();
    let (first, second) = (destination.store(), destination.store());
    first.lock().unwrap();
    second.lock().unwrap();
    place(&first, "a.md", b"text", 0, None).await;
    let error = second.create_folders(vec![at("b")]).await.pop().unwrap().unwrap_err();
    assert!(error.is_fatal() && matches!(error, DestinationError::Locked { .. }), "{error}");
    assert!(!destination.path("b").exists());
}

#[tokio::test]
async fn whether_names_are_folded_is_found_out_without_leaving_anything() {
    let destination = TestFolder::new();
    let absent = destination.store().folds_names(FoldingProbe::Case).await.unwrap();
    fs::create_dir_all(destination.root()).unwrap();
    let empty = destination.store().folds_names(FoldingProbe::Case).await.unwrap();
    assert_eq!(destination.tree(), [""; 0]);
    destination.write("Note.md", b"text");
    let filled = destination.store().folds_names(FoldingProbe::Case).await.unwrap();
    let truth = match destination.path("nOTE.MD").exists() {
        true => NameFolding::Case,
        false => NameFolding::Nothing,
    };
    assert_eq!((absent, empty, filled), (truth, truth, truth));
    // With accents a probe is created, and removed again.
    destination.store().folds_names(FoldingProbe::Normalization).await.unwrap();
    place(&destination.store(), "b.md", b"text", 0, None).await;
    let before = destination.tree();
    destination.store().folds_names(FoldingProbe::Normalization).await.unwrap();
    assert_eq!(destination.tree(), before);
}

#[tokio::test]
async fn what_is_known_of_names_can_be_told_to_the_store() {
    for folds in [NameFolding::Case, NameFolding::Normalization, NameFolding::Nothing] {
        let options = FolderOptions { folds_names: Some(folds), ..FolderOptions::default() };
        assert_eq!(TestFolder::with(options).store().folds_names(FoldingProbe::Case).await.unwrap(), folds);
    }
}

#[tokio::test]
async fn files_are_listed_with_their_sizes_and_obsyncs_own_are_not() {
    let destination = TestFolder::new();
    destination.write("a/b/c.md", b"12345");
    destination.write(".obsidian/app.json", b"{}");
    fs::create_dir_all(destination.path("empty")).unwrap();
    std::os::unix::fs::symlink("nowhere", destination.path("link")).unwrap();
    let store = destination.store();
    let _staged = stage(&store, "d.md", b"staged", 0).await;
    let mut files: Vec<(String, u64)> =
        store.list().await.unwrap().files.into_iter().map(|file| (file.path, file.size)).collect();
    files.sort();
    let wanted = [(".obsidian/app.json", 2), ("a/b/c.md", 5), ("link", 7)];
    assert_eq!(files, wanted.map(|(path, size)| (path.to_owned(), size)));
}

#[tokio::test]
async fn a_file_changed_since_obsync_wrote_it_survives_with_its_own_time() {
    let destination = TestFolder::new();
    let store = destination.store();
    place(&store, "a.md", b"ours", 0, None).await;
    // Same size and time as those that obsync wrote: only reading it shows the difference.
    destination.write("a.md", b"hers");
    let edited = fs::File::options().write(true).open(destination.path("a.md")).unwrap();
    edited.set_modified(std::time::UNIX_EPOCH).unwrap();
    let staged = stage(&store, "a.md", b"new!", 5_000).await;
    let conflict =
        publish_one(&store, staged, Some(KnownContent::of(b"ours"))).await.unwrap().conflict.unwrap();
    assert_eq!(destination.read(conflict.as_str()), "hers");
    assert_eq!(mtime(&destination.path(conflict.as_str())), Some(0));
    assert_eq!(mtime(&destination.path("a.md")), Some(5_000));
}

#[tokio::test]
async fn a_file_that_was_changed_since_it_was_looked_at_is_not_taken_for_what_it_was() {
    let destination = TestFolder::new();
    destination.write("a.md", b"text");
    let store = destination.store();
    let meta = meta(b"text", 5_000);
    let wanted = Wanted { path: at("a.md"), hash: meta.hash, size: meta.size };
    let publish = async || {
        let content = PublicationContent::InPlace { path: at("a.md"), meta: meta.clone() };
        store.publish(vec![Publication { content, expect: Expect::Absent }]).await.pop().unwrap()
    };
    assert_eq!(store.holds(vec![wanted.clone()]).await.unwrap(), [true]);
    destination.write("a.md", b"mine");
    let error = publish().await.unwrap_err().error;
    assert!(matches!(error, DestinationError::ContentNeeded { .. }), "{error}");
    assert_eq!(destination.read("a.md"), "mine");
    assert_ne!(mtime(&destination.path("a.md")), Some(5_000));
    // Written again with the same text: it is read once more, and accepted.
    destination.write("a.md", b"text");
    publish().await.unwrap();
    assert_eq!(mtime(&destination.path("a.md")), Some(5_000));
}
