//! The watcher: changes of other programs are reported soon, and so is that changes may be missed.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use obsync_conformance::at;
use obsync_core::Watch;
use obsync_core::quiet::{QuietRule, Touch};
use obsync_folder::FolderWatch;
use obsync_folder::watch::{LocalEvent, WatchOptions, Watcher};
use obsync_protocol::{Filter, VaultId, VaultPath};
use obsync_sqlite::{SqliteState, StateIdentity};
use tokio::time::timeout;

use crate::destination::TestFolder;

const LONG: Duration = Duration::from_secs(20);

/// A destination with two folders, and a ready watcher.
async fn watched(filter: Filter) -> (TestFolder, Watcher) {
    let destination = TestFolder::new();
    for folder in ["a/b", ".git", ".obsync", "a/.venv", ".obsidian/plugins/x"] {
        fs::create_dir_all(destination.path(folder)).unwrap();
    }
    let mut watcher = Watcher::new(&destination.root(), filter, WatchOptions::default());
    assert_eq!(timeout(LONG, watcher.next()).await.unwrap(), Some(LocalEvent::Standing));
    until_silent(&mut watcher).await;
    (destination, watcher)
}

async fn until_silent(watcher: &mut Watcher) {
    while timeout(Duration::from_millis(300), watcher.next()).await.is_ok() {}
}

/// Reported paths, until `path` is among them.
async fn told_until(watcher: &mut Watcher, path: &str) -> BTreeMap<VaultPath, Touch> {
    let mut told = BTreeMap::new();
    while !told.contains_key(&at(path)) {
        match timeout(LONG, watcher.next()).await.unwrap_or_else(|_| panic!("nothing of {path}: {told:?}")) {
            Some(LocalEvent::Paths(paths)) => told.extend(paths),
            Some(LocalEvent::Standing) => {}
            other => panic!("{other:?}"),
        }
    }
    told
}

/// The last report about a path.
async fn last_of(watcher: &mut Watcher, path: &str) -> Touch {
    let mut told = told_until(watcher, path).await;
    while let Ok(Some(LocalEvent::Paths(paths))) = timeout(Duration::from_millis(300), watcher.next()).await {
        told.extend(paths);
    }
    told[&at(path)]
}

#[tokio::test]
async fn a_folder_is_watched_by_a_relative_path_through_a_link_and_once_it_is_made() {
    let destination = TestFolder::new();
    let (root, later) = (destination.root(), destination.home().join("later"));
    let to_the_top = "../".repeat(std::env::current_dir().unwrap().components().count() - 1);
    let relative = format!("{to_the_top}{}", root.strip_prefix("/").unwrap().display());
    let link = destination.home().join("link");
    std::os::unix::fs::symlink(&root, &link).unwrap();
    for (number, given, place) in [(0, relative.into(), &root), (1, link, &root), (2, later.clone(), &later)]
    {
        let mut watcher = Watcher::new(&given, Filter::default(), WatchOptions::default());
        fs::create_dir_all(place).unwrap();
        assert_eq!(timeout(LONG, watcher.next()).await.unwrap(), Some(LocalEvent::Standing), "{given:?}");
        let name = format!("{number}.md");
        fs::write(place.join(&name), "text").unwrap();
        told_until(&mut watcher, &name).await;
    }
}

#[tokio::test]
async fn a_file_that_is_saved_or_renamed_into_place_is_told_as_complete() {
    let (destination, mut watcher) = watched(Filter::default()).await;
    fs::write(destination.path("a/b/note.md"), "text").unwrap();
    assert_eq!(last_of(&mut watcher, "a/b/note.md").await, Touch::Saved { size: Some(4) });
    fs::write(destination.path("a/new.tmp"), "longer text").unwrap();
    fs::rename(destination.path("a/new.tmp"), destination.path("a/b/note.md")).unwrap();
    assert_eq!(last_of(&mut watcher, "a/b/note.md").await, Touch::Saved { size: Some(11) });
    fs::remove_file(destination.path("a/b/note.md")).unwrap();
    assert_eq!(last_of(&mut watcher, "a/b/note.md").await, Touch::Gone);
}

#[tokio::test]
async fn a_file_that_stays_open_is_told_as_changed() {
    let (destination, mut watcher) = watched(Filter::default()).await;
    let mut file = fs::File::create(destination.path("log.md")).unwrap();
    std::io::Write::write_all(&mut file, b"line").unwrap();
    assert_eq!(last_of(&mut watcher, "log.md").await, Touch::Changed);
    drop(file);
    assert_eq!(last_of(&mut watcher, "log.md").await, Touch::Saved { size: Some(4) });
}

#[tokio::test]
async fn new_and_moved_folders_are_watched_with_what_is_in_them() {
    let (destination, mut watcher) = watched(Filter::default()).await;
    fs::create_dir_all(destination.path("x/y/z")).unwrap();
    fs::write(destination.path("x/y/z/first.md"), "text").unwrap();
    told_until(&mut watcher, "x/y/z/first.md").await;
    until_silent(&mut watcher).await;
    fs::write(destination.path("x/y/z/second.md"), "text").unwrap();
    told_until(&mut watcher, "x/y/z/second.md").await;
    until_silent(&mut watcher).await;
    fs::rename(destination.path("x"), destination.path("moved")).unwrap();
    let told = told_until(&mut watcher, "moved/y/z/first.md").await;
    assert_eq!(told.get(&at("x")), Some(&Touch::Gone), "{told:?}");
    until_silent(&mut watcher).await;
    fs::write(destination.path("moved/y/z/third.md"), "text").unwrap();
    told_until(&mut watcher, "moved/y/z/third.md").await;
}

#[tokio::test]
async fn what_never_syncs_is_not_told() {
    let filter = Filter { excluded: vec![at("Archive")], ..Filter::default() };
    let (destination, mut watcher) = watched(filter).await;
    for path in
        [".git/index", ".obsync/x", "a/.venv/x", "a/.hidden.md", "Archive/x.md", ".obsidian/workspace.json"]
    {
        destination.write(path, b"text");
    }
    destination.write(".obsidian/plugins/x/data.json", b"{}");
    destination.write("last.md", b"text");
    let told = told_until(&mut watcher, "last.md").await;
    let told: Vec<&str> = told.keys().map(VaultPath::as_str).collect();
    assert!(
        told.iter().all(|path| ["last.md", ".obsidian/plugins/x/data.json", ".obsidian"].contains(path)),
        "{told:?}"
    );
}

#[tokio::test]
async fn more_folders_than_may_be_watched_are_said() {
    let destination = TestFolder::new();
    for number in 0..60 {
        fs::create_dir_all(destination.path(&format!("folder {number}"))).unwrap();
    }
    let options = WatchOptions { most_watches: Some(50) };
    let mut watcher = Watcher::new(&destination.root(), Filter::default(), options);
    let event = timeout(LONG, watcher.next()).await.unwrap().unwrap();
    assert!(matches!(&event, LocalEvent::Failed(reason) if reason.contains("max_user_watches")), "{event:?}");
    // Watched folders are still reported.
    fs::write(destination.path("note.md"), "text").unwrap();
    told_until(&mut watcher, "note.md").await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_any_more_is_said() {
    let (destination, mut watcher) = watched(Filter::default()).await;
    fs::rename(destination.root(), destination.home().join("elsewhere")).unwrap();
    loop {
        match timeout(LONG, watcher.next()).await.unwrap().unwrap() {
            LocalEvent::Failed(reason) => return assert_eq!(reason, "it was removed or moved"),
            event => assert!(matches!(event, LocalEvent::Paths(_)), "{event:?}"),
        }
    }
}

#[tokio::test]
async fn a_folder_that_another_one_replaced_is_said() {
    let (destination, mut watcher) = watched(Filter::default()).await;
    fs::create_dir(destination.home().join("other")).unwrap();
    fs::rename(destination.root(), destination.home().join("elsewhere")).unwrap();
    fs::rename(destination.home().join("other"), destination.root()).unwrap();
    loop {
        match timeout(LONG, watcher.next()).await.unwrap().unwrap() {
            LocalEvent::Failed(_) => return,
            event => assert!(matches!(event, LocalEvent::Paths(_)), "{event:?}"),
        }
    }
}

/// A folder that may not be read, in a process without the rights of a superuser: other folders are watched,
/// and it is too, once it may be read.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_may_not_be_read_does_not_make_the_watcher_blind() {
    use std::os::unix::fs::PermissionsExt;

    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    let test = async {
        let destination = TestFolder::new();
        fs::create_dir_all(destination.path("closed")).unwrap();
        fs::create_dir_all(destination.path("open")).unwrap();
        let set_mode = |mode| {
            fs::set_permissions(destination.path("closed"), fs::Permissions::from_mode(mode)).unwrap();
        };
        set_mode(0o000);
        let mut watcher = Watcher::new(&destination.root(), Filter::default(), WatchOptions::default());
        assert_eq!(timeout(LONG, watcher.next()).await.unwrap(), Some(LocalEvent::Standing));
        until_silent(&mut watcher).await;
        fs::write(destination.path("open/note.md"), "text").unwrap();
        told_until(&mut watcher, "open/note.md").await;
        set_mode(0o755);
        told_until(&mut watcher, "closed").await;
        until_silent(&mut watcher).await;
        fs::write(destination.path("closed/note.md"), "text").unwrap();
        told_until(&mut watcher, "closed/note.md").await;
    };
    let without_rights = move || {
        let mut sets = capabilities(None).unwrap();
        sets.effective -= CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        set_capabilities(None, sets).unwrap();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    };
    std::thread::spawn(without_rights).join().unwrap();
}

/// Changes that nobody takes fill the queue, whatever the system's own is like.
#[tokio::test]
async fn a_queue_that_overflows_makes_a_follower_scan_everything() {
    let destination = TestFolder::new();
    let identity = StateIdentity {
        vault_id: VaultId::try_new("vault-1").unwrap(),
        vault_name: "Notes".to_owned(),
        destination: "notes".to_owned(),
    };
    let state = Arc::new(SqliteState::open(&destination.home().join("state.sqlite"), &identity).unwrap());
    fs::create_dir_all(destination.root()).unwrap();
    let mut watch = FolderWatch::new(&destination.root(), Filter::default(), QuietRule::default(), state);
    // Once it reports a path, it watches everything.
    while !watch.touched().is_some_and(|paths| paths.contains(&at("first.md"))) {
        fs::write(destination.path("first.md"), "text").unwrap();
        let _ = timeout(Duration::from_millis(500), watch.changed()).await;
    }
    for number in 0..200 {
        fs::write(destination.path(&format!("{number}.md")), "text").unwrap();
        // Each in a set of its own, of which the queue takes 64.
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
    let scanned = async {
        loop {
            watch.changed().await;
            if watch.touched().is_none() {
                return;
            }
        }
    };
    timeout(LONG, scanned).await.unwrap();
    assert_eq!(watch.blind(), None, "it sees what changes later");
}

#[tokio::test]
async fn of_20000_events_none_is_missed_without_a_word() {
    let (destination, mut watcher) = watched(Filter::default()).await;
    for number in 0..20_000 {
        fs::write(destination.path(&format!("a/{}.md", number % 100)), "text").unwrap();
    }
    fs::write(destination.path("a/last.md"), "text").unwrap();
    loop {
        match timeout(LONG, watcher.next()).await.unwrap().unwrap() {
            LocalEvent::Paths(paths) if paths.contains_key(&at("a/last.md")) => break,
            LocalEvent::Paths(_) | LocalEvent::Standing => {}
            LocalEvent::Overflow => break,
            LocalEvent::Failed(reason) => panic!("{reason}"),
        }
    }
}
