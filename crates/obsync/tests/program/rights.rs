//! Modes, groups, access lists and owners of files that a pull replaces.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use obsync_conformance::not_tested;

use crate::world::{EMAIL, PASSWORD, Ran, World, put, ran};

const NOON: i64 = 1_700_000_000_000;
/// A group without members, and a user in it.
const GROUP: u32 = 54_322;
const USER: u32 = 54_321;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// The program with this umask, as the user who runs the test.
fn run_with_mask(world: &World, mask: &str, args: &[&str]) -> Ran {
    let mut command = assert_cmd::Command::new("sh");
    command
        .args(["-c", &format!("umask {mask} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_obsync")])
        .args(args);
    command.current_dir(world.path("")).env_clear();
    command.env("PATH", "/usr/bin:/bin").env("OBSYNC_HOME", world.home());
    command.env("OBSYNC_API_URL", world.server.url());
    ran(command.env("OBSIDIAN_EMAIL", EMAIL).env("OBSIDIAN_PASSWORD", PASSWORD))
}

#[test]
fn a_pull_that_replaces_notes_leaves_them_as_private_as_they_were() {
    let world = World::new();
    let notes = world.vault("Notes");
    let paths = ["private.md", "shared.md", "run.md"];
    for path in paths {
        notes.write(path, "first", NOON).unwrap();
    }
    run_with_mask(&world, "077", &["pull", "Notes", "notes"]).expect(0);
    let path = |name: &str| world.path("notes").join(name);
    for name in paths {
        assert_eq!(mode(&path(name)), 0o600, "{name}");
    }
    for (name, given) in [("shared.md", 0o664), ("run.md", 0o755)] {
        fs::set_permissions(path(name), fs::Permissions::from_mode(given)).unwrap();
    }
    notes.write("new.md", "new", NOON).unwrap();
    for name in paths {
        notes.write(name, "second", NOON + 1).unwrap();
    }
    for options in [&[][..], &["--full"]] {
        run_with_mask(&world, "022", &[&["pull", "Notes", "notes"], options].concat()).expect(0);
        let modes = ["private.md", "shared.md", "run.md", "new.md"].map(|name| mode(&path(name)));
        assert_eq!(modes, [0o600, 0o664, 0o644, 0o644], "{options:?}");
    }
    assert_eq!(world.differences("Notes", "notes"), [""; 0]);
}

#[test]
fn notes_of_a_folder_that_is_shared_by_its_group_stay_the_groups() {
    let world = World::new();
    let notes = world.vault("Notes");
    fs::create_dir(world.path("notes")).unwrap();
    if chown(world.path("notes"), None, Some(GROUP)).is_err() {
        not_tested("only root can give a folder to any group");
        return;
    }
    fs::set_permissions(world.path("notes"), fs::Permissions::from_mode(0o2775)).unwrap();
    for text in ["first", "second"] {
        notes.write("team/note.md", text, NOON).unwrap();
        run_with_mask(&world, "002", &["pull", "Notes", "notes"]).expect(0);
        for (name, expected) in [("team", 0o2775), ("team/note.md", 0o664)] {
            let path = world.path("notes").join(name);
            assert_eq!(
                (fs::metadata(&path).unwrap().gid(), mode(&path)),
                (GROUP, expected),
                "{text}, {name}"
            );
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_note_that_a_pull_replaces_keeps_its_access_list() {
    use obsync_conformance::confined::{Confinement, confined};

    const NAME: &str = "system.posix_acl_access";
    let test = "rights::a_note_that_a_pull_replaces_keeps_its_access_list";
    // A memory file system has access lists.
    let Some(disk) = confined(test, Confinement::Disk("size=4m")) else { return };
    let world = World::new();
    let notes = world.vault("Notes");
    notes.write("note.md", "first", NOON).unwrap();
    let destination = disk.join("notes");
    let destination = destination.to_str().unwrap();
    world.must(&["pull", "Notes", destination]);
    // Version 2; owner, one user, group, mask, others: linux/posix_acl_xattr.h.
    let user = rustix::process::geteuid().as_raw();
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, user), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        list.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let note = Path::new(destination).join("note.md");
    rustix::fs::setxattr(&note, NAME, &list, rustix::fs::XattrFlags::empty()).unwrap();
    notes.write("note.md", "second", NOON + 1).unwrap();
    world.must(&["pull", "Notes", destination]);
    let mut found = vec![0; 1024];
    let length = rustix::fs::getxattr(&note, NAME, &mut found[..]).unwrap();
    assert_eq!((&found[..length], fs::read_to_string(&note).unwrap().as_str()), (&list[..], "second"));
}

/// The program as another user of the group, with its own home.
fn as_another_user(world: &World, args: &[&str]) -> Ran {
    let program = world.path("obsync");
    let home = world.path("theirs");
    if !program.exists() {
        // By another process: a program that this one has open for writing may be inherited by a process that
        // another test starts, and cannot be run as long as that has it ("text file busy").
        let copied =
            std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_obsync")).arg(&program).status();
        assert!(copied.unwrap().success());
        fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(&home).unwrap();
        chown(&home, Some(USER), Some(GROUP)).unwrap();
    }
    let (user, group) = (USER.to_string(), GROUP.to_string());
    let mut command = assert_cmd::Command::new("setpriv");
    command.args(["--reuid", &user, "--regid", &group, "--clear-groups"]).arg(&program).args(args);
    command.current_dir(world.path("")).env_clear().env("OBSYNC_HOME", home);
    // Only the first user can read the pin of the vault's encryption.
    command.env("OBSYNC_API_URL", world.server.url()).env("OBSYNC_ENCRYPTION", "standard");
    ran(command.env("OBSIDIAN_EMAIL", EMAIL).env("OBSIDIAN_PASSWORD", PASSWORD))
}

#[test]
fn a_root_full_of_other_peoples_files_gets_the_vault_and_keeps_them_all() {
    let world = World::new();
    let notes = world.vault("Notes");
    for path in ["a.md", "sub/b.md"] {
        notes.write(path, path, NOON).unwrap();
    }
    let shared = world.path("shared");
    for number in 0..100 {
        let path = shared.join([".", "sub", "private"][number % 3]).join(format!("{number}.md"));
        put(&path, &format!("theirs {number}"));
        fs::set_permissions(path, fs::Permissions::from_mode([0o600, 0o644][number % 2])).unwrap();
    }
    fs::set_permissions(shared.join("private"), fs::Permissions::from_mode(0o700)).unwrap();
    // Like /tmp: everybody may add entries, and rename or remove only their own.
    for folder in [shared.join("sub"), shared.clone()] {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).unwrap();
        if chown(&folder, Some(0), Some(0)).is_err() {
            not_tested("only root can give a folder to another user");
            return;
        }
    }
    let theirs = world.files("shared");
    let with = |ours: &[&str]| {
        let ours = ours.iter().map(|path| ((*path).to_owned(), (*path).to_owned()));
        theirs.iter().cloned().chain(ours).collect::<BTreeSet<_>>()
    };
    for options in [&[][..], &["--full"]] {
        as_another_user(&world, &[&["pull", "Notes", "shared"], options].concat()).expect(0);
        assert_eq!(BTreeSet::from_iter(world.files("shared")), with(&["a.md", "sub/b.md"]), "{options:?}");
    }
    notes.delete("sub/b.md").unwrap();
    as_another_user(&world, &["pull", "Notes", "shared"]).expect(0);
    assert_eq!(BTreeSet::from_iter(world.files("shared")), with(&["a.md"]));
}

#[test]
fn a_file_of_somebody_else_that_cannot_be_read_is_kept_beside_or_fails_alone() {
    const THEIRS: &str = "somebody else's";
    let world = World::new();
    let notes = world.vault("Notes");
    for path in ["a.md", "b.md"] {
        notes.write(path, path, NOON).unwrap();
    }
    // In a folder of ours anything can be renamed; in one like /tmp only our own entries.
    for (folder, mode, owner) in [("ours", 0o755, USER), ("sticky", 0o1777, 0)] {
        let folder = world.path(folder);
        put(&folder.join("a.md"), THEIRS);
        fs::set_permissions(folder.join("a.md"), fs::Permissions::from_mode(0o600)).unwrap();
        if chown(&folder, Some(owner), Some(GROUP)).is_err() {
            not_tested("only root can give a folder to another user");
            return;
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    }
    for options in [&[][..], &["--full"], &[]] {
        as_another_user(&world, &[&["pull", "Notes", "ours"], options].concat()).expect(0);
        let texts: Vec<String> = world.files("ours").into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, [THEIRS, "a.md", "b.md"], "{options:?}");

        let pull = as_another_user(&world, &[&["pull", "Notes", "sticky"], options].concat()).expect(5);
        assert!(pull.stderr.contains("\n  a.md (version 1): "), "{options:?}: {}", pull.stderr);
        let files = world.files("sticky");
        let expected = [("a.md", THEIRS), ("b.md", "b.md")];
        assert_eq!(files, expected.map(|(path, text)| (path.to_owned(), text.to_owned())), "{options:?}");
    }
}

#[test]
fn another_user_of_the_group_pulls_into_a_folder_whose_files_are_not_theirs() {
    let world = World::new();
    let notes = world.vault("Notes");
    for path in ["a.md", "b.md", "deep/c.md"] {
        notes.write(path, path, NOON).unwrap();
    }
    fs::create_dir(world.path("notes")).unwrap();
    if chown(world.path("notes"), None, Some(GROUP)).is_err() {
        not_tested("only root can give a folder to any group");
        return;
    }
    fs::set_permissions(world.path("notes"), fs::Permissions::from_mode(0o2775)).unwrap();
    run_with_mask(&world, "002", &["pull", "Notes", "notes"]).expect(0);
    // With another time, which only its owner can set.
    put(&world.path("notes/a.md"), "a.md");
    for options in [&[][..], &["--full"], &[]] {
        let pull = as_another_user(&world, &[&["pull", "Notes", "notes"], options].concat()).expect(0);
        assert!(!pull.stderr.contains("could not be pulled"), "{}", pull.stderr);
    }
    notes.write("b.md", "changed", NOON + 1).unwrap();
    notes.delete("deep/c.md").unwrap();
    as_another_user(&world, &["pull", "Notes", "notes"]).expect(0);
    let texts: Vec<(String, String)> = world.files("notes");
    let expected = [("a.md", "a.md"), ("b.md", "changed")];
    assert_eq!(texts, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    assert_eq!(fs::metadata(world.path("notes/b.md")).unwrap().uid(), USER);
}
