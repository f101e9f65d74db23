//! A pull without changes leaves no trace.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use obsync_testkit::{GeneratorOptions, fill_vault};

use crate::world::World;

/// All metadata of a file or folder that writing to it would change. (Reading changes the access time only.)
#[derive(Debug, PartialEq, Eq)]
struct Trace {
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The traces of everything in a directory, itself included, without the states: they record the time of the
/// check.
fn traces(directory: &Path) -> BTreeMap<PathBuf, Trace> {
    let mut found = BTreeMap::new();
    collect(directory, &mut found);
    found.retain(|path, _| !path.components().any(|part| part.as_os_str() == "state"));
    found
}

fn collect(path: &Path, found: &mut BTreeMap<PathBuf, Trace>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let trace = Trace {
        inode: metadata.ino(),
        mode: metadata.mode(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    found.insert(path.to_owned(), trace);
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            collect(&entry.unwrap().path(), found);
        }
    }
}

#[test]
fn a_second_pull_with_nothing_new_makes_one_connection_downloads_nothing_and_writes_nothing() {
    let world = World::new();
    let options = GeneratorOptions { files: 300, seed: 1, max_size: 50_000, ..GeneratorOptions::default() };
    fill_vault(&world.vault("Notes"), &options).unwrap();
    world.must(&["pull", "Notes", "notes"]);
    let (home, notes) = (traces(&world.home()), traces(&world.path("notes")));
    let before = world.server.stats();

    let report = world.must(&["pull", "Notes", "notes", "--json"]).json();

    let after = world.server.stats();
    assert_eq!(after.websocket_connections - before.websocket_connections, 1);
    // The newest known entry is requested, too.
    assert_eq!(after.entries_listed - before.entries_listed, 1);
    assert_eq!((after.pulls, after.content_bytes), (before.pulls, before.content_bytes));
    assert_eq!(traces(&world.home()), home);
    assert_eq!(traces(&world.path("notes")), notes);
    assert_eq!(report["outcome"], "complete");
    assert_eq!((&report["connections"], &report["bytes_received"]), (&1.into(), &0.into()));
}

#[test]
fn a_second_pull_that_leaves_files_out_writes_nothing_either() {
    let world = World::new();
    let vault = world.vault("Notes");
    vault.write("Note.md", "a note", 1_700_000_000_000).unwrap();
    vault.write("Song.mp3", "la la la", 1_700_000_000_000).unwrap();
    vault.write(".obsidian/workspace.json", "{}", 1_700_000_000_000).unwrap();
    let pull = ["pull", "Notes", "notes", "--file-types", "none"];
    world.must(&pull);
    let (home, notes) = (traces(&world.home()), traces(&world.path("notes")));
    world.must(&pull);
    assert_eq!(traces(&world.home()), home);
    assert_eq!(traces(&world.path("notes")), notes);
}
