//! A folder for a destination, and ways to inspect it that do not use a store.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use obsync_conformance::DestinationUnderTest;
use obsync_folder::{FolderDestination, FolderOptions};

/// A folder for one store, removed on drop. The store's root does not exist at first.
pub(crate) struct TestFolder {
    home: tempfile::TempDir,
    pub(crate) options: FolderOptions,
}

impl TestFolder {
    pub(crate) fn new() -> Self {
        Self::with(FolderOptions::default())
    }

    pub(crate) fn with(options: FolderOptions) -> Self {
        TestFolder { home: tempfile::tempdir().unwrap(), options }
    }

    /// The store's root.
    pub(crate) fn root(&self) -> PathBuf {
        self.home.path().join("vault")
    }

    /// The parent folder of the root.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// A path in the root.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    pub(crate) fn store(&self) -> FolderDestination {
        FolderDestination::open(&self.root(), self.options).unwrap()
    }

    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Every name below the root, folders with a slash at the end, sorted.
    pub(crate) fn tree(&self) -> Vec<String> {
        let mut tree = Vec::new();
        walk(&self.root(), "", &mut tree);
        tree.sort();
        tree
    }
}

fn walk(folder: &Path, prefix: &str, tree: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            walk(&entry.path(), &format!("{path}/"), tree);
            tree.push(format!("{path}/"));
        } else {
            tree.push(path);
        }
    }
}

/// The modification time of a file, milliseconds since the epoch.
pub(crate) fn mtime(path: &Path) -> Option<i64> {
    let modified = fs::symlink_metadata(path).ok()?.modified().unwrap();
    let milliseconds = match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i128,
        Err(before) => -(before.duration().as_millis() as i128),
    };
    Some(milliseconds.try_into().unwrap())
}

#[async_trait]
impl DestinationUnderTest for TestFolder {
    type Store = FolderDestination;

    async fn open(&self) -> FolderDestination {
        self.store()
    }

    async fn plant(&self, path: &str, content: &[u8]) {
        self.write(path, content);
    }

    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.path(path)).ok()
    }

    async fn mtime(&self, path: &str) -> Option<i64> {
        mtime(&self.path(path))
    }
}
