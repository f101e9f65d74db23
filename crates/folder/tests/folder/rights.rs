//! Rights of a file, before and after its content is replaced, and files of other users.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
#[cfg(target_os = "linux")]
use std::path::Path;
#[cfg(target_os = "linux")]
use std::sync::LazyLock;

use obsync_conformance::confined::{Confinement, OTHERS, confined};
use obsync_conformance::{at, meta, not_tested, place};
use obsync_core::{
    Describe, Destination, DestinationExt, Expect, Publication, PublicationContent, Receive, Staged, Wanted,
};
use obsync_folder::{Durability, FolderDestination, FolderOptions};

use crate::destination::{TestFolder, mtime};

/// A group without members here.
const GROUP: u32 = 65_534;

/// Linux's extended attribute of a file's access list.
#[cfg(target_os = "linux")]
const ACCESS_LIST_NAME: &str = "system.posix_acl_access";

/// An access list with an entry for one user, in the format of the attribute (linux/posix_acl_xattr.h):
/// version 2, and for each entry its tag, its permissions and an id, all of them little-endian. The user is
/// the one who runs the test: a [`confined`] child knows no other.
#[cfg(target_os = "linux")]
static ACCESS_LIST: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const NO_ID: u32 = u32::MAX;
    let user = rustix::process::geteuid().as_raw();
    // The owner, the one user, the group, the mask, and everybody else.
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 6, NO_ID), (0x02, 4, user), (0x04, 4, NO_ID), (0x10, 4, NO_ID), (0x20, 4, NO_ID)];
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
});

/// Gives a file [`ACCESS_LIST`]. The memory file system of [`Confinement::Disk`] supports such lists.
#[cfg(target_os = "linux")]
fn give_access_list(file: &Path) {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(file, ACCESS_LIST_NAME, &ACCESS_LIST, flags).unwrap();
}

#[cfg(target_os = "linux")]
fn access_list(file: &Path) -> Vec<u8> {
    let mut list = vec![0; 1024];
    let length = rustix::fs::getxattr(file, ACCESS_LIST_NAME, &mut list[..]).unwrap();
    list.truncate(length);
    list
}

fn mode(destination: &TestFolder, path: &str) -> u32 {
    fs::metadata(destination.path(path)).unwrap().mode() & 0o7777
}

fn set_mode(destination: &TestFolder, path: &str, mode: u32) {
    fs::set_permissions(destination.path(path), fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn a_replaced_file_keeps_its_mode_and_is_nothing_to_run() {
    for durability in [Durability::EachFile, FolderOptions::default().durability] {
        let destination = TestFolder::with(FolderOptions { durability, ..FolderOptions::default() });
        let store = destination.store();
        for (was, is) in [(0o600, 0o600), (0o640, 0o640), (0o444, 0o444), (0o666, 0o666), (0o4755, 0o644)] {
            place(&store, "a.md", b"one", 0, None).await;
            set_mode(&destination, "a.md", was);
            assert!(place(&store, "a.md", b"two", 0, Some(b"one")).await.conflict.is_none());
            assert_eq!(mode(&destination, "a.md"), is, "{was:o}");
            fs::remove_file(destination.path("a.md")).unwrap();
        }
    }
}

#[tokio::test]
async fn a_private_note_that_was_edited_leaves_no_open_one_under_its_name() {
    let destination = TestFolder::new();
    let store = destination.store();
    place(&store, "a.md", b"recorded", 0, None).await;
    // In the second round there is already a copy with the text.
    for (vaults, before) in [("one", "recorded"), ("two", "one")] {
        destination.write("a.md", b"edited");
        set_mode(&destination, "a.md", 0o600);
        let kept =
            place(&store, "a.md", vaults.as_bytes(), 0, Some(before.as_bytes())).await.conflict.unwrap();
        assert_eq!(destination.read("a.md"), vaults);
        assert_eq!(
            (mode(&destination, "a.md"), mode(&destination, kept.as_str())),
            (0o600, 0o600),
            "{vaults}"
        );
        store.flush().await.unwrap();
    }
    let copies = destination.tree().into_iter().filter(|path| path.contains("Conflicted copy"));
    assert_eq!(copies.count(), 1);
    // Another note has the default rights.
    place(&store, "b.md", b"b", 0, None).await;
    destination.write("c.md", b"c");
    assert_eq!(mode(&destination, "b.md"), mode(&destination, "c.md"));
}

/// Publishes a content at other paths as well, as the engine does with a file that was renamed or copied in
/// the vault.
async fn copy_to_two_places(store: &FolderDestination, from: &str, content: &[u8]) {
    let meta = meta(content, 0);
    let staged = store.copy(&at(from), &at("to.md"), &meta).await.unwrap().unwrap();
    let again = Staged { path: at("again.md"), ..staged.clone() };
    let contents = [PublicationContent::CopyOfStaged(again), PublicationContent::Staged(staged)];
    let batch = contents.map(|content| Publication { content, expect: Expect::Absent });
    let published = store.publish(batch.into()).await;
    assert!(published.iter().all(Result::is_ok), "{published:?}");
}

#[tokio::test]
async fn a_private_note_that_is_renamed_or_copied_in_the_vault_stays_private() {
    let destination = TestFolder::new();
    let store = destination.store();
    place(&store, "a.md", b"text", 0, None).await;
    set_mode(&destination, "a.md", 0o600);
    copy_to_two_places(&store, "a.md", b"text").await;
    assert_eq!((mode(&destination, "to.md"), mode(&destination, "again.md")), (0o600, 0o600));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_renamed_note_keeps_its_access_list() {
    let test = "rights::a_renamed_note_keeps_its_access_list";
    let Some(disk) = confined(test, Confinement::Disk("size=2m")) else { return };
    let store = FolderDestination::open(&disk, FolderOptions::default()).unwrap();
    place(&store, "a.md", b"text", 0, None).await;
    give_access_list(&disk.join("a.md"));
    copy_to_two_places(&store, "a.md", b"text").await;
    for path in ["to.md", "again.md"] {
        assert_eq!(access_list(&disk.join(path)), *ACCESS_LIST, "{path}");
    }
}

#[tokio::test]
async fn a_new_note_belongs_to_the_group_that_its_folder_gives() {
    let destination = TestFolder::new();
    let store = destination.store();
    place(&store, "first.md", b"text", 0, None).await;
    // First a folder below the root, then the root with all that is created below it.
    for (folder, notes) in [("team", vec!["team/a.md"]), ("", vec!["b.md", "new/c.md"])] {
        let path = destination.path(folder);
        fs::create_dir_all(&path).unwrap();
        if chown(&path, None, Some(GROUP)).is_err() {
            not_tested("only root can give a folder to any group");
            return;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2775)).unwrap();
        for note in notes {
            place(&store, note, b"text", 0, None).await;
            assert_eq!(fs::metadata(destination.path(note)).unwrap().gid(), GROUP, "{note}");
        }
    }
}

#[tokio::test]
async fn notes_are_as_private_as_the_users_mask_says() {
    let Some(folder) =
        confined("rights::notes_are_as_private_as_the_users_mask_says", Confinement::NoPrivileges)
    else {
        return;
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let store = FolderDestination::open(&folder, FolderOptions::default()).unwrap();
    place(&store, "a/note.md", b"text", 0, None).await;
    for (path, mode) in [("a", 0o700), ("a/note.md", 0o600)] {
        assert_eq!(fs::metadata(folder.join(path)).unwrap().mode() & 0o777, mode, "{path}");
    }
}

#[tokio::test]
async fn a_replaced_file_keeps_its_group() {
    let destination = TestFolder::new();
    let store = destination.store();
    place(&store, "a.md", b"one", 0, None).await;
    if chown(destination.path("a.md"), None, Some(GROUP)).is_err() {
        not_tested("only root can give a file to any group");
        return;
    }
    set_mode(&destination, "a.md", 0o660);
    place(&store, "a.md", b"two", 0, Some(b"one")).await;
    let facts = fs::metadata(destination.path("a.md")).unwrap();
    assert_eq!((facts.gid(), facts.mode() & 0o777), (GROUP, 0o660));
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_replaced_file_keeps_its_access_list() {
    let test = "rights::a_replaced_file_keeps_its_access_list";
    let Some(disk) = confined(test, Confinement::Disk("size=2m")) else { return };
    let store = FolderDestination::open(&disk, FolderOptions::default()).unwrap();
    place(&store, "a.md", b"one", 0, None).await;
    let file = disk.join("a.md");
    give_access_list(&file);
    place(&store, "a.md", b"two", 0, Some(b"one")).await;
    assert_eq!(access_list(&file), *ACCESS_LIST);
}

#[tokio::test]
async fn a_file_of_another_user_with_the_right_content_counts_and_is_told_once() {
    let test = "rights::a_file_of_another_user_with_the_right_content_counts_and_is_told_once";
    let Some(folder) = confined(test, Confinement::NoPrivileges) else { return };
    if fs::metadata(folder.join(OTHERS.0)).is_err() {
        not_tested("only root can make a file of another user");
        return;
    }
    let store = FolderDestination::open(&folder, FolderOptions::default()).unwrap();
    let meta = meta(OTHERS.1.as_bytes(), 5_000);
    let wanted = Wanted { path: at(OTHERS.0), hash: meta.hash, size: meta.size };
    for _ in 0..2 {
        assert_eq!(store.holds(vec![wanted.clone()]).await.unwrap(), [true]);
        let content = PublicationContent::InPlace { path: at(OTHERS.0), meta: meta.clone() };
        let published =
            store.publish(vec![Publication { content, expect: Expect::Absent }]).await.pop().unwrap();
        assert!(published.is_ok(), "{published:?}");
    }
    assert_ne!(mtime(&folder.join(OTHERS.0)), Some(5_000));
    let [warning] = &store.warnings()[..] else { panic!("{:?}", store.warnings()) };
    assert!(warning.contains("other users"), "{warning}");
}
