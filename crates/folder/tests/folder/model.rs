//! A folder store compared with a small model of it, on random sequences of operations.

use std::collections::BTreeMap;
use std::fs;

use obsync_conformance::{at, meta, publish_one, stage};
use obsync_core::{Destination, DestinationError, DestinationExt, KnownContent, Receive, Removable, Removal};
use obsync_folder::{Durability, FolderDestination, FolderOptions};
use obsync_protocol::VaultPath;
use proptest::prelude::*;

use crate::destination::TestFolder;

/// Few paths, so that they meet: files that are folders elsewhere, and folders in folders.
const PATHS: [&str; 8] = ["a", "b.md", "d", "d/a", "d/b.md", "d/e", "d/e/a", "d/e/f/b.md"];
const CONTENTS: [&str; 4] = ["", "one", "two", "twö, which is longer"];

type PathIndex = usize;
type ContentIndex = usize;

#[derive(Clone, Debug)]
enum Operation {
    /// obsync puts a content; it expects the one that it put there last.
    Place(PathIndex, ContentIndex),
    /// obsync copies a content.
    Copy(PathIndex, PathIndex, ContentIndex),
    /// obsync removes the file that it put there last.
    Remove(PathIndex),
    CreateFolder(PathIndex),
    RemoveFolder(PathIndex),
    SetAside(PathIndex),
    /// A user saves a file, if there is a folder for it.
    Edit(PathIndex, ContentIndex),
    /// A user removes a file.
    Delete(PathIndex),
    /// The run ends and another begins.
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    let (path, content) = (0..PATHS.len(), 0..CONTENTS.len());
    prop_oneof![
        6 => (path.clone(), content.clone()).prop_map(|(path, content)| Operation::Place(path, content)),
        2 => (path.clone(), path.clone(), content.clone()).prop_map(|(from, to, content)| Operation::Copy(from, to, content)),
        2 => path.clone().prop_map(Operation::Remove),
        1 => path.clone().prop_map(Operation::CreateFolder),
        2 => path.clone().prop_map(Operation::RemoveFolder),
        1 => path.clone().prop_map(Operation::SetAside),
        3 => (path.clone(), content).prop_map(|(path, content)| Operation::Edit(path, content)),
        1 => path.prop_map(Operation::Delete),
        1 => Just(Operation::Reopen),
    ]
}

/// A path's node in the model.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    File(String),
    Folder,
}

#[derive(Default)]
struct Model {
    nodes: BTreeMap<String, Node>,
    /// Contents that obsync put at paths, as a state records them.
    ours: BTreeMap<String, String>,
}

impl Model {
    /// The file that is in the way of a folder at one of these paths, nearest to the root.
    fn blocker(&self, folders: &[VaultPath]) -> Option<VaultPath> {
        let is_file = |path: &&VaultPath| matches!(self.nodes.get(path.as_str()), Some(Node::File(_)));
        folders.iter().rev().find(is_file).cloned()
    }

    fn make_folders(&mut self, folders: &[VaultPath]) {
        for folder in folders {
            self.nodes.insert(folder.as_str().to_owned(), Node::Folder);
        }
    }

    fn has_below(&self, path: &str) -> bool {
        let prefix = format!("{path}/");
        self.nodes.keys().any(|node| node.starts_with(&prefix))
    }

    /// Moves a node with everything below it.
    fn rename(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        let moved: Vec<String> =
            self.nodes.keys().filter(|path| *path == from || path.starts_with(&below)).cloned().collect();
        for path in moved {
            if let Some(node) = self.nodes.remove(&path) {
                self.nodes.insert(format!("{to}{}", &path[from.len()..]), node);
            }
        }
    }

    /// The required answer of publishing: whether there was a conflict, or the file in the way.
    fn place(&mut self, path: &VaultPath, content: &str) -> Result<bool, VaultPath> {
        let folders: Vec<VaultPath> = path.ancestors().collect();
        if let Some(blocker) = self.blocker(&folders) {
            return Err(blocker);
        }
        self.make_folders(&folders);
        let ours = self.ours.get(path.as_str());
        let conflict = match self.nodes.get(path.as_str()) {
            Some(Node::Folder) if self.has_below(path.as_str()) => return Err(path.clone()),
            Some(Node::File(there)) => there != content && Some(there) != ours,
            Some(Node::Folder) | None => false,
        };
        self.ours.insert(path.as_str().to_owned(), content.to_owned());
        Ok(conflict)
    }
}

struct World {
    destination: TestFolder,
    store: FolderDestination,
    model: Model,
}

impl World {
    async fn apply(&mut self, operation: &Operation) {
        match *operation {
            Operation::Place(path, content) => self.place(PATHS[path], CONTENTS[content]).await,
            Operation::Copy(from, to, content) => self.copy(PATHS[from], PATHS[to], CONTENTS[content]).await,
            Operation::Remove(path) => self.remove(PATHS[path]).await,
            Operation::CreateFolder(path) => self.create_folder(PATHS[path]).await,
            Operation::RemoveFolder(path) => self.remove_folder(PATHS[path]).await,
            Operation::SetAside(path) => self.set_aside(PATHS[path]).await,
            Operation::Edit(path, content) => self.edit(PATHS[path], CONTENTS[content]),
            Operation::Delete(path) => self.delete(PATHS[path]),
            Operation::Reopen => self.store = self.destination.store(),
        }
    }

    async fn place(&mut self, path: &str, content: &str) {
        let staged = stage(&self.store, path, content.as_bytes(), 0).await;
        self.publish(path, content, staged).await;
    }

    async fn publish(&mut self, path: &str, content: &str, staged: obsync_core::Staged) {
        let replaces = self.model.ours.get(path).map(|ours| KnownContent::of(ours.as_bytes()));
        let answer = publish_one(&self.store, staged, replaces).await;
        match (answer, self.model.place(&at(path), content)) {
            (Ok(published), Ok(conflict)) => {
                assert_eq!(published.conflict.is_some(), conflict, "conflict at {path}");
                if let Some(aside) = published.conflict {
                    self.model.rename(path, aside.as_str());
                }
                self.model.nodes.insert(path.to_owned(), Node::File(content.to_owned()));
            }
            (Err(failure), Err(blocker)) => {
                let DestinationError::InTheWay { occupant, .. } = failure.error else {
                    panic!("{}", failure.error)
                };
                assert_eq!(occupant, blocker);
            }
            (answer, expected) => panic!("{path}: {answer:?}, but the model says {expected:?}"),
        }
    }

    async fn copy(&mut self, from: &str, to: &str, content: &str) {
        let staged = self.store.copy(&at(from), &at(to), &meta(content.as_bytes(), 0)).await.unwrap();
        let there = self.model.nodes.get(from) == Some(&Node::File(content.to_owned()));
        assert_eq!(staged.is_some(), there, "copy from {from}");
        if let Some(staged) = staged {
            self.publish(to, content, staged).await;
        }
    }

    async fn remove(&mut self, path: &str) {
        let Some(ours) = self.model.ours.remove(path) else { return };
        let file = Removable { path: at(path), content: KnownContent::of(ours.as_bytes()) };
        let expected = match self.model.nodes.get(path) {
            None => Removal::Missing,
            Some(Node::File(there)) if *there == ours => Removal::Removed,
            Some(_) => Removal::Kept,
        };
        assert_eq!(self.store.remove_files(vec![file]).await.pop().unwrap().unwrap(), expected, "{path}");
        if expected == Removal::Removed {
            self.model.nodes.remove(path);
        }
    }

    async fn create_folder(&mut self, path: &str) {
        let mut folders = vec![at(path)];
        folders.extend(at(path).ancestors());
        let answer = self.store.create_folders(vec![at(path)]).await.pop().unwrap();
        match (answer, self.model.blocker(&folders)) {
            (Ok(made), None) => assert_eq!(made, !self.model.nodes.contains_key(path), "{path}"),
            (Err(DestinationError::InTheWay { occupant, .. }), Some(blocker)) => {
                assert_eq!(occupant, blocker);
                return;
            }
            (answer, expected) => panic!("{path}: {answer:?}, but the model says {expected:?}"),
        }
        self.model.make_folders(&folders);
    }

    async fn remove_folder(&mut self, path: &str) {
        let gone = self.store.remove_folders(vec![at(path)]).await.pop().unwrap().unwrap();
        let is_folder = self.model.nodes.get(path) == Some(&Node::Folder);
        assert_eq!(gone, !is_folder || !self.model.has_below(path), "{path}");
        if gone && is_folder {
            self.model.nodes.remove(path);
        }
    }

    async fn set_aside(&mut self, path: &str) {
        let answer = self.store.set_aside(&at(path)).await;
        assert_eq!(answer.is_ok(), self.model.nodes.contains_key(path), "{path}");
        if let Ok(aside) = answer {
            self.model.rename(path, aside.as_str());
        }
    }

    fn edit(&mut self, path: &str, content: &str) {
        if fs::write(self.destination.path(path), content).is_ok() {
            self.model.nodes.insert(path.to_owned(), Node::File(content.to_owned()));
        }
    }

    fn delete(&mut self, path: &str) {
        if fs::remove_file(self.destination.path(path)).is_ok() {
            self.model.nodes.remove(path);
        }
    }

    fn compare(&self) {
        let own = |path: &&String| !path.starts_with(".obsync");
        let found: BTreeMap<String, Node> =
            self.destination.tree().iter().filter(own).map(|path| self.node(path)).collect();
        assert_eq!(found, self.model.nodes);
    }

    fn node(&self, path: &str) -> (String, Node) {
        match path.strip_suffix('/') {
            Some(folder) => (folder.to_owned(), Node::Folder),
            None => (path.to_owned(), Node::File(self.destination.read(path))),
        }
    }
}

fn run(operations: &[Operation], options: FolderOptions) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let destination = TestFolder::with(options);
        let mut world = World { store: destination.store(), destination, model: Model::default() };
        for operation in operations {
            world.apply(operation).await;
            world.compare();
        }
        // A newly opened store does not know which files the one before had taken.
        assert_eq!(world.store.return_taken(Vec::new()).await.unwrap(), []);
        world.compare();
        world.store.discard_staged().await.unwrap();
        assert!(world.destination.tree().iter().all(|path| !path.starts_with(".obsync")));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_folder_does_what_its_model_does(
        operations in prop::collection::vec(operation(), 1..40),
        each_file in any::<bool>(),
    ) {
        let durability = if each_file { Durability::EachFile } else { Durability::default() };
        run(&operations, FolderOptions { durability, ..FolderOptions::default() });
    }
}
