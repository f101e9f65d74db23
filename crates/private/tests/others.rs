//! Files and folders prepared by another user of the machine. As root the tests give them to the user
//! "nobody"; other users cannot, and get a message about it.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use obsync_conformance::not_tested;
use obsync_private::{Access, Folder, Judgement, Refusal, judge_folder};

const NOBODY: u32 = 65_534;

/// A folder of this user's, removed with everything in it.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().canonicalize().unwrap();
    (place, path)
}

/// Gives a file, a folder or a link to another user; `false` where that is not allowed.
fn give_away(path: &Path) -> bool {
    let given = lchown(path, Some(NOBODY), None).is_ok();
    if !given {
        not_tested(&format!("only root can give {} to another user", path.display()));
    }
    given
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn refusal(error: &io::Error) -> &Refusal {
    error.get_ref().and_then(|error| error.downcast_ref()).unwrap()
}

fn read(folder: &Folder, name: &str) -> io::Result<Option<String>> {
    let Some(opened) = folder.file(name, Access::Read)? else { return Ok(None) };
    let mut text = String::new();
    (&opened.file).read_to_string(&mut text)?;
    Ok(Some(text))
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    set_mode(path, 0o600);
}

#[test]
fn a_file_of_another_user_is_neither_read_nor_written() {
    let (_place, path) = folder();
    write(&path.join("token"), "theirs");
    if !give_away(&path.join("token")) {
        return;
    }
    let folder = Folder::open(&path).unwrap().unwrap();
    for access in [Access::Read, Access::Write] {
        let error = folder.file("token", access).unwrap_err();
        assert_eq!(*refusal(&error), Refusal::Owner { path: path.join("token"), owner: NOBODY });
    }
}

#[test]
fn a_folder_of_another_user_is_not_used() {
    let (_place, path) = folder();
    fs::create_dir(path.join("config")).unwrap();
    if !give_away(&path.join("config")) {
        return;
    }
    let error = Folder::make(&path.join("config")).unwrap_err();
    assert!(matches!(refusal(&error), Refusal::Owner { .. }), "{error}");
    assert_eq!(judge_folder(fs::File::open(path.join("config")).unwrap()).unwrap(), Judgement::Foreign);
}

#[test]
fn what_is_ours_and_open_to_others_is_closed_to_them() {
    let (_place, path) = folder();
    write(&path.join("token"), "ours");
    set_mode(&path.join("token"), 0o666);
    set_mode(&path, 0o777);
    let folder = Folder::open(&path).unwrap().unwrap();
    assert_eq!(mode(&path), 0o755);
    assert!(folder.file("token", Access::Read).unwrap().unwrap().was_open);
    assert_eq!(mode(&path.join("token")), 0o600);
    assert!(!folder.file("token", Access::Read).unwrap().unwrap().was_open);
    folder.close_to_others();
    assert_eq!(mode(&path), 0o700);
}

#[test]
fn a_pipe_or_a_folder_at_the_place_of_a_file_is_refused_without_waiting() {
    let (_place, path) = folder();
    let made = std::process::Command::new("mkfifo").arg(path.join("pipe")).status().unwrap();
    assert!(made.success());
    fs::create_dir(path.join("folder")).unwrap();
    symlink("pipe", path.join("link")).unwrap();
    let folder = Folder::open(&path).unwrap().unwrap();
    for name in ["pipe", "folder", "link"] {
        for access in [Access::Read, Access::Write] {
            let error = folder.file(name, access).unwrap_err();
            assert!(matches!(refusal(&error), Refusal::NotAFile { .. }), "{name}: {error}");
        }
    }
}

#[test]
fn secrets_as_kubernetes_mounts_them_are_read() {
    let (_place, path) = folder();
    write(&path.join("..2026_11_26/token"), "the first");
    write(&path.join("..2026_11_27/token"), "the second");
    symlink("..2026_11_26", path.join("..data")).unwrap();
    symlink("..data/token", path.join("token")).unwrap();
    set_mode(&path, 0o1777);
    let folder = Folder::open_to_read(&path).unwrap().unwrap();
    assert_eq!(read(&folder, "token").unwrap().unwrap(), "the first");
    fs::remove_file(path.join("..data")).unwrap();
    symlink("..2026_11_27", path.join("..data")).unwrap();
    assert_eq!(read(&folder, "token").unwrap().unwrap(), "the second");
    assert_eq!(mode(&path), 0o1777, "nothing is changed there");
}

#[test]
fn a_folder_managed_by_stow_is_followed_into_the_one_it_links_to() {
    let (_place, path) = folder();
    write(&path.join("dotfiles/obsync/token"), "ours");
    fs::create_dir(path.join(".config")).unwrap();
    symlink("../dotfiles/obsync", path.join(".config/obsync")).unwrap();
    let folder = Folder::open(&path.join(".config/obsync")).unwrap().unwrap();
    assert_eq!(folder.path(), path.join("dotfiles/obsync"));
    assert_eq!(read(&folder, "token").unwrap().unwrap(), "ours");
}

#[test]
fn a_link_of_another_user_is_not_followed_wherever_it_is_on_the_way() {
    let (_place, path) = folder();
    write(&path.join("real/config/token"), "ours");
    symlink("real", path.join("theirs")).unwrap();
    symlink("real/config/token", path.join("token")).unwrap();
    if !(give_away(&path.join("theirs")) && give_away(&path.join("token"))) {
        return;
    }
    let error = Folder::open(&path.join("theirs/config")).unwrap_err();
    assert_eq!(*refusal(&error), Refusal::Link { path: path.join("theirs") });
    let error = Folder::open(&path).unwrap().unwrap().file("token", Access::Write).unwrap_err();
    assert!(matches!(refusal(&error), Refusal::Link { .. }), "{error}");
}

#[test]
fn a_link_in_a_folder_where_others_can_replace_it_is_not_followed() {
    let (_place, path) = folder();
    write(&path.join("real/token"), "ours");
    fs::create_dir(path.join("shared")).unwrap();
    symlink("../real", path.join("shared/way")).unwrap();
    set_mode(&path.join("shared"), 0o777);
    let error = Folder::open(&path.join("shared/way")).unwrap_err();
    assert!(matches!(refusal(&error), Refusal::Link { .. }), "{error}");
    // In a folder like /tmp only its owner can.
    set_mode(&path.join("shared"), 0o1777);
    assert!(Folder::open(&path.join("shared/way")).unwrap().is_some());
}

#[test]
fn links_in_a_ring_end() {
    let (_place, path) = folder();
    symlink("b", path.join("a")).unwrap();
    symlink("a", path.join("b")).unwrap();
    assert!(Folder::open(&path.join("a")).is_err());
    assert!(Folder::open(&path).unwrap().unwrap().file("a", Access::Read).is_err());
}

#[test]
fn a_file_is_replaced_as_a_whole_even_where_a_link_was_prepared() {
    let (_place, path) = folder();
    write(&path.join("victim"), "untouched");
    symlink("victim", path.join("token.new")).unwrap();
    let folder = Folder::open(&path).unwrap().unwrap();
    folder.replace("token", b"content").unwrap();
    assert_eq!(fs::read_to_string(path.join("token")).unwrap(), "content");
    assert_eq!(mode(&path.join("token")), 0o600);
    assert_eq!(fs::read_to_string(path.join("victim")).unwrap(), "untouched");
    assert!(!path.join("token.new").exists());
}

#[test]
fn what_is_not_there_is_nothing_and_is_made_privately() {
    let (_place, path) = folder();
    let home = path.join("a/b");
    assert!(Folder::open(&home).unwrap().is_none());
    let folder = Folder::make(&home).unwrap();
    assert!(folder.file("token", Access::Read).unwrap().is_none());
    assert!(!folder.file("token", Access::Write).unwrap().unwrap().was_open);
    assert_eq!((mode(&home), mode(&home.join("token"))), (0o700, 0o600));
}
