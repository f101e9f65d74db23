//! Destinations with limits: full, not writable, no folder at all, names that they cannot have.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use obsync_conformance::{at, meta, not_tested, place, publish_one, stage};
use obsync_core::{
    Describe, Destination, DestinationError, DestinationExt, Expect, FileWriter, Inspect, KnownContent,
    Naming, Publication, PublicationContent, PublishFailure, Receive, Removable, Removal, Staged,
};
use obsync_folder::{FolderDestination, FolderOptions, Step};
use obsync_protocol::{ContentHash, VaultPath};

use crate::destination::{TestFolder, mtime};
use obsync_conformance::confined::{Confinement, OTHERS, confined};

fn open(folder: &Path) -> FolderDestination {
    FolderDestination::open(folder, FolderOptions::default()).unwrap()
}

/// Stages a file of `size` bytes in pieces of 64 KiB.
async fn try_stage(store: &FolderDestination, path: &str, size: usize) -> Result<Staged, DestinationError> {
    let content = vec![b'x'; size];
    let mut writer: Box<dyn FileWriter> = store.begin(&at(path), &meta(&content, 0)).await?;
    for piece in content.chunks(64 * 1024) {
        writer.write(piece.to_vec()).await?;
    }
    writer.finish().await
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_full_disk_is_fatal_and_leaves_no_part_of_the_file() {
    let test = "limits::a_full_disk_is_fatal_and_leaves_no_part_of_the_file";
    let Some(disk) = confined(test, Confinement::Disk("size=2m")) else { return };
    let store = open(&disk);
    place(&store, "small.md", b"fits", 0, None).await;
    // One that is written piece by piece, and one that is written at once.
    let large = try_stage(&store, "large.bin", 4 << 20).await.unwrap_err();
    assert!(matches!(large, DestinationError::Full { .. }) && large.is_fatal(), "{large}");
    fs::write(disk.join("filler"), vec![0; 1_500_000]).unwrap();
    let gathered = try_stage(&store, "gathered.bin", 900_000).await.unwrap_err();
    assert!(matches!(gathered, DestinationError::Full { .. }), "{gathered}");
    assert!(gathered.to_string().contains("free some space"));
    assert_eq!(names(&disk.join(".obsync/staging")), [""; 0]);
    assert_eq!(names(&disk), [".obsync", "filler", "small.md"]);

    fs::remove_file(disk.join("filler")).unwrap();
    let staged = try_stage(&store, "gathered.bin", 900_000).await.unwrap();
    publish_one(&store, staged, None).await.unwrap();
}

/// Waits until a file with this content is in the staging folder, written by the woken thread.
async fn until_written(root: &Path, content: &[u8]) {
    let file = root.join(".obsync/staging").join(ContentHash::of(content).to_string());
    for _ in 0..10_000 {
        if file.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("nobody wrote {}", file.display());
}

fn publication(staged: Staged) -> Publication {
    Publication { content: PublicationContent::Staged(staged), expect: Expect::Absent }
}

#[tokio::test]
async fn a_disk_that_was_full_while_small_files_were_written_ends_the_run_when_they_are_published() {
    let test =
        "limits::a_disk_that_was_full_while_small_files_were_written_ends_the_run_when_they_are_published";
    let Some(disk) = confined(test, Confinement::Disk("size=1m")) else { return };
    let store = open(&disk);
    place(&store, "first.md", b"fits", 0, None).await;
    fs::write(disk.join("filler"), vec![0; 2 << 20]).unwrap_err();
    // As many as wake a thread. The last one is empty, and so always fits.
    let contents: Vec<String> = (1..32).rev().map(|size| "x".repeat(size)).chain([String::new()]).collect();
    let mut batch = Vec::new();
    for (number, content) in contents.iter().enumerate() {
        batch.push(publication(stage(&store, &format!("{number}.md"), content.as_bytes(), 0).await));
    }
    until_written(&disk, b"").await;
    fs::remove_file(disk.join("filler")).unwrap();
    let answers = store.publish(batch).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(failure) if failure.error.is_fatal())));
    assert_eq!(names(&disk), [".obsync", "first.md"]);
    assert_eq!(names(&disk.join(".obsync/staging")), [ContentHash::of(b"").to_string()], "no part is left");
    for (number, content) in contents.iter().enumerate() {
        place(&store, &format!("{number}.md"), content.as_bytes(), 0, None).await;
    }
}

#[tokio::test]
async fn a_small_file_that_could_not_be_written_fails_alone_when_it_is_published() {
    let test = "limits::a_small_file_that_could_not_be_written_fails_alone_when_it_is_published";
    let Some(home) = confined(test, Confinement::SmallFiles) else { return };
    let root = home.join("vault");
    let store = open(&root);
    place(&store, "first.md", b"fits", 0, None).await;
    let mut batch = Vec::new();
    for number in 0..32 {
        let size = if number == 5 { 64 << 10 } else { number };
        batch.push(publication(stage(&store, &format!("{number}.md"), &vec![b'x'; size], 0).await));
    }
    until_written(&root, &[b'x'; 31]).await;
    for (number, answer) in store.publish(batch).await.into_iter().enumerate() {
        match answer {
            Ok(_) => assert_ne!(number, 5),
            Err(PublishFailure { error: DestinationError::Io { source, .. }, .. }) => {
                assert_eq!((number, source.kind()), (5, ErrorKind::FileTooLarge));
            }
            Err(failure) => panic!("{number}: {}", failure.error),
        }
    }
    assert!(!root.join("5.md").exists());
    assert_eq!(names(&root).len(), 33, "obsync's own folder, the first and 31 others");
    assert_eq!(names(&root.join(".obsync/staging")), [""; 0], "no part is left");
}

#[tokio::test]
async fn a_disk_that_is_full_while_publishing_fails_the_rest_of_the_batch_and_gives_it_back() {
    let test = "limits::a_disk_that_is_full_while_publishing_fails_the_rest_of_the_batch_and_gives_it_back";
    // One inode for the root, two for obsync's own folders, three for the staged files, one for a first folder.
    let Some(disk) = confined(test, Confinement::Disk("size=2m,nr_inodes=7")) else { return };
    let store = open(&disk);
    let mut batch = Vec::new();
    for path in ["a/a.md", "b/b.md", "c/c.md"] {
        let content = PublicationContent::Staged(stage(&store, path, path.as_bytes(), 0).await);
        batch.push(Publication { content, expect: Expect::Absent });
    }
    let mut answers = store.publish(batch).await;
    assert!(answers[0].is_ok());
    let failures: Vec<_> = answers.drain(1..).map(Result::unwrap_err).collect();
    assert!(failures.iter().all(|failure| matches!(failure.error, DestinationError::Full { .. })));
    assert_eq!(names(&disk), [".obsync", "a"]);

    fs::remove_dir_all(disk.join("a")).unwrap();
    let batch = failures.into_iter().map(|failure| *failure.publication).collect();
    assert!(store.publish(batch).await.iter().all(Result::is_ok));
    assert_eq!(fs::read_to_string(disk.join("b/b.md")).unwrap(), "b/b.md");
}

#[tokio::test]
async fn what_was_set_aside_gets_its_name_back_if_the_file_cannot_be_published() {
    let test = "limits::what_was_set_aside_gets_its_name_back_if_the_file_cannot_be_published";
    let Some(disk) = confined(test, Confinement::Disk("size=2m")) else { return };
    fs::write(disk.join("a.md"), "somebody's").unwrap();
    let store = open(&disk);
    let staged = stage(&store, "a.md", b"text", 0).await;
    fs::remove_dir_all(disk.join(".obsync")).unwrap();
    assert!(publish_one(&store, staged, None).await.is_err());
    assert_eq!(names(&disk), ["a.md"]);
    assert_eq!(fs::read_to_string(disk.join("a.md")).unwrap(), "somebody's");
}

#[tokio::test]
async fn a_read_only_disk_is_fatal() {
    let Some(disk) = confined("limits::a_read_only_disk_is_fatal", Confinement::Disk("size=1m,ro")) else {
        return;
    };
    for destination in [disk.clone(), disk.join("new/folder")] {
        let error = try_stage(&open(&destination), "a.md", 10).await.unwrap_err();
        assert!(error.is_fatal() && error.to_string().contains("can only be read"), "{error}");
        let error = open(&destination).create_folders(vec![at("a")]).await.pop().unwrap().unwrap_err();
        assert!(error.is_fatal() && error.to_string().contains("can only be read"), "{error}");
    }
}

#[tokio::test]
async fn files_reach_another_file_system_below_the_destination() {
    let test = "limits::files_reach_another_file_system_below_the_destination";
    let Some(disk) = confined(test, Confinement::Disk("size=4m")) else { return };
    let mounted = disk.join("vault/mounted");
    fs::create_dir_all(&mounted).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted).status().unwrap();
    assert!(mount.success());
    publish_into_mounted(&disk.join("vault")).await;
    replace_a_private_note(&disk.join("vault"), &mounted).await;
}

/// A copy beside its target is private, and is as open as any note once it is in place.
async fn replace_a_private_note(root: &Path, mounted: &Path) {
    let modes = Arc::new(Mutex::new(Vec::new()));
    let (seen, folder) = (modes.clone(), mounted.to_owned());
    let watch = move |step: Step, _: Option<&VaultPath>| {
        if step == Step::Copied {
            let parts = names(&folder).into_iter().filter(|name| name.ends_with(".part"));
            seen.lock().unwrap().extend(parts.map(|name| mode(&folder.join(name))));
        }
    };
    let store = FolderDestination::open_watched(root, FolderOptions::default(), watch).unwrap();
    let note = mounted.join("private.md");
    fs::write(&note, "mine").unwrap();
    let usual = mode(&note);
    fs::set_permissions(&note, fs::Permissions::from_mode(0o600)).unwrap();
    place(&store, "mounted/private.md", b"new", 0, Some(b"mine")).await;
    place(&store, "mounted/open.md", b"open", 0, None).await;
    assert_eq!((mode(&note), mode(&mounted.join("open.md"))), (0o600, usual));
    assert_eq!(*modes.lock().unwrap(), [0o600, 0o600]);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

async fn publish_into_mounted(root: &Path) {
    let stale = format!("mounted/.obsync-{}.part", "0f".repeat(32));
    fs::write(root.join(&stale), "left by a killed run").unwrap();
    fs::write(root.join("mounted/b.md"), "somebody's").unwrap();
    let store = open(root);
    assert!(store.list().await.unwrap().files.iter().all(|file| file.path != stale));
    assert_eq!(place(&store, "mounted/a.md", b"first", 1_000, None).await.conflict, None);
    assert_eq!(place(&store, "mounted/a.md", b"second", 2_000, Some(b"first")).await.conflict, None);
    assert_eq!(place(&store, "mounted/deep/a.md", b"third", 3_000, None).await.conflict, None);
    let conflict = place(&store, "mounted/b.md", b"fourth", 4_000, None).await.conflict.unwrap();
    store.flush().await.unwrap();
    store.discard_staged().await.unwrap();
    let mut expected = vec!["a.md", "b.md", "deep", conflict.file_name()];
    expected.sort_unstable();
    assert_eq!(names(&root.join("mounted")), expected);
    assert_eq!(fs::read_to_string(root.join("mounted/a.md")).unwrap(), "second");
    assert_eq!(mtime(&root.join("mounted/a.md")), Some(2_000));
    assert_eq!(names(&root.join("mounted/deep")), ["a.md"]);
}

#[tokio::test]
async fn a_destination_that_is_not_writable_is_fatal() {
    let test = "limits::a_destination_that_is_not_writable_is_fatal";
    let Some(home) = confined(test, Confinement::NoPrivileges) else { return };
    let forbidden = home.join("forbidden");
    fs::create_dir(&forbidden).unwrap();
    fs::write(forbidden.join("there.md"), "there").unwrap();
    fs::set_permissions(&forbidden, fs::Permissions::from_mode(0o555)).unwrap();
    for destination in [forbidden.clone(), forbidden.join("new")] {
        let store = open(&destination);
        let staging = try_stage(&store, "a.md", 10).await.unwrap_err();
        let folder = store.create_folders(vec![at("a")]).await.pop().unwrap().unwrap_err();
        for error in [staging, folder] {
            assert!(error.is_fatal() && error.to_string().contains("check the owner and mode"), "{error}");
        }
    }
    fs::set_permissions(&forbidden, fs::Permissions::from_mode(0o000)).unwrap();
    let error = FolderDestination::open(&forbidden, FolderOptions::default()).unwrap_err();
    assert!(error.is_fatal() && error.to_string().contains("no permission to read it"), "{error}");
    fs::set_permissions(&forbidden, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn one_folder_that_is_not_writable_holds_up_only_its_own_files() {
    let test = "limits::one_folder_that_is_not_writable_holds_up_only_its_own_files";
    let Some(home) = confined(test, Confinement::NoPrivileges) else { return };
    let root = home.join("vault");
    fs::create_dir_all(root.join("forbidden")).unwrap();
    fs::set_permissions(root.join("forbidden"), fs::Permissions::from_mode(0o555)).unwrap();
    let store = open(&root);
    let mut batch = Vec::new();
    for path in ["forbidden/a.md", "forbidden/deep/a.md", "b.md"] {
        let content = PublicationContent::Staged(stage(&store, path, b"text", 0).await);
        batch.push(Publication { content, expect: Expect::Absent });
    }
    let answers = store.publish(batch).await;
    for failure in answers.iter().take(2) {
        let error = &failure.as_ref().unwrap_err().error;
        assert!(matches!(error, DestinationError::PermissionDenied { .. }) && !error.is_fatal(), "{error}");
    }
    assert!(answers[2].is_ok());
    fs::set_permissions(root.join("forbidden"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_file_of_another_user_with_the_very_content_gets_its_time_by_being_replaced() {
    let test = "limits::a_file_of_another_user_with_the_very_content_gets_its_time_by_being_replaced";
    let Some(root) = confined(test, Confinement::NoPrivileges) else { return };
    let (name, content) = OTHERS;
    if !root.join(name).exists() {
        not_tested("only root can make a file of another user");
        return;
    }
    assert_eq!(place(&open(&root), name, content.as_bytes(), 5_000, None).await.conflict, None);
    assert_eq!(fs::read_to_string(root.join(name)).unwrap(), content);
    assert_eq!(mtime(&root.join(name)), Some(5_000));
}

#[tokio::test]
async fn a_destination_that_is_a_file_is_refused() {
    let destination = TestFolder::new();
    let file = destination.home().join("file");
    fs::write(&file, "text").unwrap();
    for dest in [file.clone(), file.join("below"), file.join("far/below")] {
        let error = FolderDestination::open(&dest, FolderOptions::default()).unwrap_err();
        assert!(error.is_fatal() && error.to_string().contains("not a folder"), "{error}");
        assert!(error.to_string().contains(dest.to_str().unwrap()), "{error}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "text");
}

#[tokio::test]
async fn a_destination_that_nobody_can_make_is_fatal() {
    // Nothing can be created in the system's process table, not even by the superuser.
    if Path::new("/proc/self").exists() {
        let error = try_stage(&open(Path::new("/proc/obsync-test")), "a.md", 10).await.unwrap_err();
        assert!(error.is_fatal(), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_is_too_long_is_refused_before_it_is_downloaded() {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.root()).unwrap();
    let store = destination.store();
    for path in [format!("a/{}.md", "x".repeat(253)), format!("{}/a.md", "語".repeat(86))] {
        let error = store.begin(&at(&path), &meta(b"", 0)).await.err().unwrap();
        assert!(matches!(error, DestinationError::NameTooLong { .. }) && !error.is_fatal(), "{error}");
        assert!(error.to_string().contains("shorten it in Obsidian"));
        let error = store.create_folders(vec![at(&path)]).await.pop().unwrap().unwrap_err();
        assert!(matches!(error, DestinationError::NameTooLong { .. }), "{error}");
    }
    let longest = format!("{}/{}", "é".repeat(127), "語".repeat(85));
    place(&store, &longest, b"fits", 0, None).await;
    assert_eq!(destination.read(&longest), "fits");
}

#[tokio::test]
async fn a_path_that_is_too_long_as_a_whole_fails_alone() {
    let destination = TestFolder::new();
    let store = destination.store();
    let long = format!("{}a.md", "0123456789/".repeat(372));
    assert_eq!(long.len(), 4096);
    let mut batch = Vec::new();
    for path in [long.as_str(), "b.md"] {
        let content = PublicationContent::Staged(stage(&store, path, b"text", 0).await);
        batch.push(Publication { content, expect: Expect::Absent });
    }
    let mut answers = store.publish(batch).await;
    assert!(answers.pop().unwrap().is_ok());
    // It depends on the system whether this succeeds; the test is that there is an answer.
    if let Some(Err(failure)) = answers.pop() {
        assert!(matches!(failure.error, DestinationError::NameTooLong { .. }), "{}", failure.error);
    }
}

#[tokio::test]
async fn a_long_name_in_conflict_is_shortened() {
    let destination = TestFolder::new();
    let name = format!("{}.md", "語".repeat(84));
    destination.write(&name, b"somebody's");
    let conflict = place(&destination.store(), &name, b"text", 0, None).await.conflict.unwrap();
    assert!(conflict.as_str().len() <= 255);
    assert_eq!(destination.read(conflict.as_str()), "somebody's");
}

#[tokio::test]
async fn where_names_are_short_a_note_in_conflict_is_kept_once_and_only_what_is_too_long_itself_fails() {
    // The limit of eCryptfs.
    let destination = TestFolder::with(FolderOptions { name_max: Some(143), ..FolderOptions::default() });
    let name = format!("{}é.md", "語".repeat(39));
    assert_eq!(name.len(), 122);
    let mut recorded: Option<&[u8]> = None;
    let mut conflicts = BTreeSet::new();
    for ours in [&b"first"[..], b"second", b"third"] {
        destination.write(&name, b"somebody's");
        let published = place(&destination.store(), &name, ours, 0, recorded).await;
        conflicts.insert(published.conflict.unwrap().to_string());
        recorded = Some(ours);
    }
    let [conflict] = &conflicts.into_iter().collect::<Vec<_>>()[..] else { panic!("several copies") };
    assert!(conflict.len() <= 143 && conflict.len() > 139, "{conflict}");
    assert!(conflict.starts_with('語') && conflict.ends_with(").md"), "{conflict}");
    assert_eq!(destination.read(conflict), "somebody's");

    let store = destination.store();
    for (length, fits) in [(143, true), (144, false)] {
        let path = at(&format!("{}.md", "x".repeat(length - 3)));
        assert_eq!(store.begin(&path, &meta(b"", 0)).await.is_ok(), fits, "{length}");
    }
}

#[tokio::test]
async fn obsyncs_own_folder_is_no_place_for_files_of_a_vault() {
    let destination = TestFolder::new();
    let store = destination.store();
    for path in [".obsync", ".obsync/staging/a", ".OBSYNC/a"].map(at) {
        let refused = |error: DestinationError| matches!(error, DestinationError::NameRefused { .. });
        assert!(refused(store.begin(&path, &meta(b"", 0)).await.err().unwrap()));
        assert!(refused(store.recover(&path, &meta(b"", 0)).await.unwrap_err()));
        assert!(refused(store.copy(&at("a.md"), &path, &meta(b"", 0)).await.unwrap_err()));
        assert!(refused(store.create_folders(vec![path.clone()]).await.pop().unwrap().unwrap_err()));
        assert!(refused(store.set_aside(&path).await.unwrap_err()));
    }
    let nested: VaultPath = at("notes/.obsync");
    assert!(store.begin(&nested, &meta(b"", 0)).await.is_ok());
}

#[tokio::test]
async fn a_name_with_a_colon_is_refused_where_it_would_name_a_stream_of_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let options = |refuses| FolderOptions { refuses_colons: Some(refuses), ..FolderOptions::default() };
    let store = FolderDestination::open(&folder.path().join("notes"), options(true)).unwrap();
    for path in ["a.md:x", "a:b/c.md", "a.md::$DATA"] {
        assert!(matches!(store.admits(&at(path)), Err(DestinationError::NameRefused { .. })), "{path}");
        assert!(try_stage(&store, path, 10).await.is_err(), "{path}");
    }
    store.admits(&at("a.md")).unwrap();
    let store = FolderDestination::open(&folder.path().join("notes"), options(false)).unwrap();
    store.admits(&at("10:30.md")).unwrap();
}

#[tokio::test]
async fn the_parts_of_a_repository_are_found_in_every_spelling_and_only_where_they_are() {
    use obsync_protocol::RepositoryPart::{Body, Head};
    let folder = tempfile::tempdir().unwrap();
    for made in ["a/Objects", "b/HEAD", "c/refs", "c"] {
        fs::create_dir_all(folder.path().join(made)).unwrap();
    }
    fs::write(folder.path().join("c/head."), "x").unwrap();
    fs::write(folder.path().join("HEAD"), "x").unwrap();
    let store = open(folder.path());
    let asked = vec![Some(at("a")), Some(at("b")), Some(at("c")), Some(at("missing")), None];
    let found: Vec<Vec<_>> = store
        .repository_parts(asked)
        .await
        .unwrap()
        .into_iter()
        .map(|parts| parts.into_iter().collect())
        .collect();
    assert_eq!(found, [vec![Body], vec![], vec![Head, Body], vec![], vec![Head]]);
}

#[tokio::test]
async fn what_an_earlier_run_left_staged_counts_as_free() {
    let test = "limits::what_an_earlier_run_left_staged_counts_as_free";
    let Some(disk) = confined(test, Confinement::Disk("size=4m")) else { return };
    let killed = open(&disk);
    place(&killed, "a.md", b"text", 0, None).await;
    let before = killed.free_space().await.unwrap().unwrap();
    let staged = try_stage(&killed, "large.bin", 1 << 20).await.unwrap();
    assert!(!staged.handle.is_empty());
    drop(killed);
    let free = open(&disk).free_space().await.unwrap().unwrap();
    assert!(free.abs_diff(before) < 64 << 10, "{free} bytes, {before} before");
}

#[tokio::test]
async fn a_file_is_removed_where_no_staging_folder_can_be_made() {
    let test = "limits::a_file_is_removed_where_no_staging_folder_can_be_made";
    let Some(home) = confined(test, Confinement::NoPrivileges) else { return };
    let root = home.join("notes");
    let store = open(&root);
    place(&store, "sub/a.md", b"text", 0, None).await;
    place(&store, "sub/b.md", b"text", 0, None).await;
    store.discard_staged().await.unwrap();
    let file = |path: &str| Removable { path: at(path), content: KnownContent::of(b"text") };
    fs::remove_dir_all(root.join(".obsync")).ok();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o555)).unwrap();
    fs::write(root.join("sub/b.md"), "edit").unwrap();
    let store = open(&root);
    let removals = store.remove_files(vec![file("sub/a.md"), file("sub/b.md")]).await;
    store.flush().await.unwrap();
    let removals: Vec<Removal> = removals.into_iter().map(Result::unwrap).collect();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(removals, [Removal::Removed, Removal::Kept]);
    assert_eq!(names(&root.join("sub")), ["b.md"]);
}

/// The vault could place a folder of such a name below a mount, where it would be in the way of all files.
#[tokio::test]
async fn names_of_unfinished_files_are_refused_and_whatever_has_one_is_in_nobodys_way() {
    let test = "limits::names_of_unfinished_files_are_refused_and_whatever_has_one_is_in_nobodys_way";
    let Some(disk) = confined(test, Confinement::Disk("size=4m")) else { return };
    let hash = KnownContent::of(b"x").hash;
    let names = [format!(".obsync-{hash}.part"), format!(".obsync-taken-{hash}-{hash}")];
    let mounted = disk.join("mounted");
    fs::create_dir(&mounted).unwrap();
    assert!(Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted).status().unwrap().success());
    for name in &names {
        fs::create_dir_all(mounted.join(name).join("inner")).unwrap();
        for path in [format!("mounted/{name}"), format!("mounted/{}/x.md", name.to_uppercase())] {
            let error = open(&disk).admits(&at(&path)).unwrap_err();
            assert!(!error.is_fatal() && error.to_string().contains("unfinished files"), "{error}");
        }
    }
    let destination = open(&disk);
    place(&destination, "mounted/a.md", b"one", 0, None).await;
    place(&destination, "mounted/a.md", b"two", 0, Some(b"one")).await;
    assert_eq!(fs::read_to_string(mounted.join("a.md")).unwrap(), "two");
}
