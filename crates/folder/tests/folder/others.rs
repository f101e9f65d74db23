//! Other users of the machine, who may write to the destination, and who own a staging folder that they
//! prepared. As root the tests give files to the user "nobody" and act as that user; for other users they are
//! skipped with a message.

use obsync_core::{Inspect, Receive};
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use obsync_conformance::{at, meta, not_tested, place, publish_one, stage};
use obsync_core::pin::{Pin, VaultEncryption};
use obsync_folder::FolderPin;
use obsync_protocol::ContentHash;

use crate::destination::TestFolder;

const NOBODY: u32 = 65_534;

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A folder that everybody may write to, like `/tmp`, in which another user created `.obsync` (with `staging`
/// in it, if `inner`); `None` if that is not permitted.
fn prepared_by_another(inner: bool) -> Option<TestFolder> {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.path(".obsync/staging")).unwrap();
    let theirs = if inner { ".obsync/staging" } else { ".obsync" };
    for path in [".obsync/staging", ".obsync"] {
        set_mode(&destination.path(path), if path == theirs { 0o777 } else { 0o700 });
    }
    set_mode(destination.home(), 0o755);
    set_mode(&destination.root(), 0o1777);
    if lchown(destination.path(theirs), Some(NOBODY), Some(NOBODY)).is_err() {
        not_tested("only root can act as another user");
        return None;
    }
    Some(destination)
}

/// Overwrites, as another user, every file below the destination that this user can reach.
fn overwrite_as_another(destination: &TestFolder) {
    let script = "find . -type f 2>/dev/null | while read -r f; do echo evil > \"$f\"; \
                  rm -f \"$f\" && echo evil > \"$f\"; done 2>/dev/null; true";
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(destination.root()).uid(NOBODY).gid(NOBODY);
    assert!(command.status().unwrap().success());
}

#[tokio::test]
async fn staging_that_another_user_prepared_is_left_alone_and_nothing_is_replaced_before_it_is_published() {
    for inner in [false, true] {
        let Some(destination) = prepared_by_another(inner) else { return };
        destination.write(".obsync/staging/theirs", b"theirs");
        let store = destination.store();
        store.lock().unwrap();
        let mut staged = Vec::new();
        for number in 0..60 {
            staged.push(stage(&store, &format!("{number}.md"), b"a note", 0).await);
        }
        store.prepare(staged.iter().map(|staged| staged.handle.clone()).collect()).await;
        overwrite_as_another(&destination);
        for staged in staged {
            publish_one(&store, staged, None).await.unwrap();
        }
        for number in 0..60 {
            assert_eq!(destination.read(&format!("{number}.md")), "a note");
        }
        store.discard_staged().await.unwrap();
        assert!(destination.path(".obsync/staging/theirs").exists(), "what is theirs stays");
        let elsewhere = |path: &String| path.starts_with(".obsync-");
        assert!(!destination.tree().iter().any(elsewhere), "{:?}", destination.tree());
    }
}

#[tokio::test]
async fn a_file_or_a_link_of_another_user_in_place_of_the_own_folder_is_left_alone() {
    for is_link in [false, true] {
        let destination = TestFolder::new();
        fs::create_dir_all(destination.root()).unwrap();
        let theirs = destination.path(".obsync");
        match is_link {
            true => std::os::unix::fs::symlink("/tmp", &theirs).unwrap(),
            false => fs::write(&theirs, "theirs").unwrap(),
        }
        if lchown(&theirs, Some(NOBODY), Some(NOBODY)).is_err() {
            not_tested("only root can act as another user");
            return;
        }
        let store = destination.store();
        store.lock().unwrap();
        store.pin_before_writing(&Pin::new(
            "https://api.example/",
            "v".parse().unwrap(),
            "Notes",
            VaultEncryption::Standard,
        ));
        place(&store, "a.md", b"a note", 0, None).await;
        store.discard_staged().await.unwrap();
        assert_eq!(destination.read("a.md"), "a note");
        assert_eq!(store.pin().await.unwrap(), FolderPin::None, "nothing of theirs is believed");
        assert_eq!(fs::symlink_metadata(&theirs).unwrap().is_symlink(), is_link, "it stays");
    }
}

#[tokio::test]
async fn what_another_user_staged_is_not_recovered() {
    let Some(destination) = prepared_by_another(true) else { return };
    let content = b"as promised";
    destination.write(&format!(".obsync/staging/{}", ContentHash::of(content)), content);
    let store = destination.store();
    assert!(store.recover(&at("a.md"), &meta(content, 0)).await.unwrap().is_none());
}

#[tokio::test]
async fn what_a_killed_run_staged_elsewhere_is_used_by_the_next_one() {
    let Some(destination) = prepared_by_another(false) else { return };
    let killed = destination.store();
    // The first is written at once.
    let _left = stage(&killed, "a.md", b"complete", 0).await;
    drop(killed);
    let store = destination.store();
    assert!(store.is_empty().await.unwrap() && store.list().await.unwrap().files.is_empty());
    let found = store.recover(&at("a.md"), &meta(b"complete", 0)).await.unwrap().unwrap();
    publish_one(&store, found, None).await.unwrap();
    store.discard_staged().await.unwrap();
    assert_eq!(destination.read("a.md"), "complete");
    assert!(!destination.tree().iter().any(|path| path.starts_with(".obsync-")));
}

#[tokio::test]
async fn staging_of_this_user_that_was_open_to_others_is_closed_to_them_and_not_trusted() {
    let destination = TestFolder::new();
    let content = b"as promised";
    destination.write(&format!(".obsync/staging/{}", ContentHash::of(content)), content);
    set_mode(&destination.path(".obsync"), 0o777);
    set_mode(&destination.path(".obsync/staging"), 0o777);
    let store = destination.store();
    assert!(store.recover(&at("a.md"), &meta(content, 0)).await.unwrap().is_none());
    place(&store, "a.md", content, 0, None).await;
    for path in [".obsync", ".obsync/staging"] {
        let mode = fs::metadata(destination.path(path)).unwrap().permissions().mode() & 0o022;
        assert_eq!(mode, 0, "{path}");
    }
}

#[tokio::test]
async fn a_pipe_at_the_place_of_the_lock_is_refused_without_waiting() {
    let destination = TestFolder::new();
    fs::create_dir_all(destination.path(".obsync")).unwrap();
    let made = Command::new("mkfifo").arg(destination.path(".obsync/lock")).status().unwrap();
    assert!(made.success());
    let error = destination.store().lock().unwrap_err();
    assert!(error.to_string().contains("is not a regular file; move it elsewhere"), "{error}");
}
