//! Scans of random folders, compared with plain snapshots of the disk before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use obsync_core::{KnownContent, LocalTree};
use proptest::prelude::*;

use crate::destination::TestFolder;
use crate::scan::{destination, recorded, scan};

/// Few paths, so that they meet: files that are folders elsewhere, and names that differ in case alone.
const PATHS: [&str; 9] = ["a", "b.md", "d", "d/a", "d/b.md", "d/e", "d/e/a", "d/e/f/b.md", "D"];
const CONTENTS: [&str; 4] = ["", "one", "two", "twö, which is longer"];

#[derive(Clone, Debug)]
enum Edit {
    Write(usize, usize),
    Remove(usize),
    Folder(usize),
    Link(usize),
    Rename(usize, usize),
    Touch(usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let (path, content) = (0..PATHS.len(), 0..CONTENTS.len());
    prop_oneof![
        6 => (path.clone(), content).prop_map(|(path, content)| Edit::Write(path, content)),
        2 => path.clone().prop_map(Edit::Remove),
        2 => path.clone().prop_map(Edit::Folder),
        1 => path.clone().prop_map(Edit::Link),
        2 => (path.clone(), path.clone()).prop_map(|(from, to)| Edit::Rename(from, to)),
        1 => path.prop_map(Edit::Touch),
    ]
}

fn apply(destination: &TestFolder, edit: &Edit) {
    let at = |index: &usize| destination.path(PATHS[*index]);
    // Edits that are impossible at this point are skipped.
    let _ = match edit {
        Edit::Write(path, content) => {
            let path = at(path);
            let _ = fs::create_dir_all(path.parent().unwrap());
            match fs::symlink_metadata(&path).is_ok_and(|facts| facts.is_symlink()) {
                true => Ok(()),
                false => fs::write(path, CONTENTS[*content]),
            }
        }
        Edit::Remove(path) => fs::remove_file(at(path)).or_else(|_| fs::remove_dir_all(at(path))),
        Edit::Folder(path) => fs::create_dir_all(at(path)),
        Edit::Link(path) => symlink("nowhere", at(path)),
        Edit::Rename(from, to) => fs::rename(at(from), at(to)),
        Edit::Touch(path) => fs::File::options()
            .append(true)
            .open(at(path))
            .and_then(|file| file.set_modified(std::time::UNIX_EPOCH)),
    };
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(KnownContent),
    Folder,
    Link,
}

/// Everything in a folder, by path.
fn snapshot(folder: &Path, prefix: &str, nodes: &mut BTreeMap<String, Node>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if path == ".obsync" {
            continue;
        } else if kind.is_dir() {
            snapshot(&entry.path(), &format!("{path}/"), nodes);
            nodes.insert(path, Node::Folder);
        } else if kind.is_file() {
            nodes.insert(path, Node::File(KnownContent::of(&fs::read(entry.path()).unwrap())));
        } else {
            nodes.insert(path, Node::Link);
        }
    }
}

/// True if another name of the same folder differs from this one only in case.
fn has_twin(nodes: &BTreeMap<String, Node>, path: &str) -> bool {
    nodes.keys().any(|other| other != path && other.to_lowercase() == path.to_lowercase())
}

/// True if the state of a path is certain: no link is there or above it, and nothing has a twin.
fn is_certain(nodes: &BTreeMap<String, Node>, path: &str) -> bool {
    let above = path.match_indices('/').map(|(end, _)| &path[..end]);
    above.chain([path]).all(|at| nodes.get(at) != Some(&Node::Link) && !has_twin(nodes, at))
}

/// Compares a scan with the snapshots before and now.
fn check(before: &BTreeMap<String, Node>, now: &BTreeMap<String, Node>, tree: &LocalTree) {
    let files: BTreeMap<&str, &KnownContent> =
        tree.files.iter().map(|file| (file.path.as_str(), &file.content)).collect();
    let folders: Vec<&str> = tree.folders.iter().map(|path| path.as_str()).collect();
    let absent: Vec<&str> = tree.absent.iter().map(|path| path.as_str()).collect();
    for (path, node) in now.iter().filter(|(path, _)| is_certain(now, path)) {
        let is_recorded = before.get(path) == Some(node);
        match node {
            Node::File(content) if !is_recorded => {
                assert_eq!(files.get(path.as_str()), Some(&content), "{path}")
            }
            Node::Folder => assert_eq!(folders.contains(&path.as_str()), !is_recorded, "{path}"),
            _ => assert!(!files.contains_key(path.as_str()), "{path}"),
        }
    }
    for path in before.keys() {
        let is_absent = absent.contains(&path.as_str());
        assert!(!is_absent || !now.contains_key(path), "{path} is there");
        if !now.contains_key(path) && is_certain(now, path) {
            assert!(is_absent, "{path} is gone");
        }
    }
    for (path, node) in now {
        let is_link = tree.unknown.iter().any(|unknown| unknown.path == *path);
        assert!(
            *node != Node::Link
                || is_link
                || !is_certain(now, path)
                || tree.is_unknown(&obsync_conformance::at(path))
        );
    }
    assert!(tree.files.iter().all(|file| now.get(file.path.as_str()) == Some(&Node::File(file.content))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_scan_tells_what_was_changed_since_the_one_before(
        first in prop::collection::vec(edit(), 0..20),
        then in prop::collection::vec(edit(), 0..12),
    ) {
        let destination = destination();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let store = destination.store();
        first.iter().for_each(|edit| apply(&destination, edit));
        let tree = runtime.block_on(scan(&store, &[]));
        let records = recorded(&tree);
        let known = tree.files.iter().map(|file| (file.path.to_string(), Node::File(file.content)))
            .chain(tree.folders.iter().map(|path| (path.to_string(), Node::Folder)));
        let before: BTreeMap<String, Node> = known.collect();
        then.iter().for_each(|edit| apply(&destination, edit));
        let mut now = BTreeMap::new();
        snapshot(&destination.root(), "", &mut now);
        check(&before, &now, &runtime.block_on(scan(&store, &records)));
    }
}
