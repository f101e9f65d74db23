//! The hidden folder where files are written before they have a name: `.obsync/staging` in the root, so that it is on
//! the same file system and publishing is a rename.
//!
//! A staged file is named after its content hash. That name is only where to look for it again after an interrupted
//! run: whether it really holds that content is told by hashing it.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::fs::Dir;
use obsync_core::{FileMeta, StoreError};
use obsync_protocol::{ContentHash, VaultPath};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::entry::{has_content, look, set_entry_time};
use super::root::Root;
use super::site::{Action, Site};

/// The folder at the root that is obsync's own.
pub(super) const OWN_FOLDER: &str = ".obsync";
/// The folder in [`OWN_FOLDER`] with the staged files.
const STAGING: &str = "staging";
/// What to tell when the ground is gone from under a run.
const REMOVED: &str =
    "it, or .obsync in it, was removed while obsync was working; run the same command again";
/// Length of a content hash in hexadecimal digits.
const HASH_DIGITS: usize = 64;

/// What is known of the staging folder. It is made when the first file is staged.
#[derive(Debug, Default)]
pub(super) struct Staging {
    folder: Option<Arc<StagingFolder>>,
    /// Names that an earlier run left, by the content that they promise; read once, before this run stages anything, so
    /// that what it stages itself is not among them.
    leftovers: Option<HashMap<ContentHash, Vec<String>>>,
}

impl Staging {
    /// The folder, made if it is not there.
    pub(super) fn make(&mut self, root: &Root) -> Result<Arc<StagingFolder>, StoreError> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let folder = Arc::new(StagingFolder::make(root)?);
        self.folder = Some(folder.clone());
        Ok(folder)
    }

    /// Whether the folder was made or found already, so that nothing but a disk's limits stands in the way of a file.
    pub(super) fn is_open(&self) -> bool {
        self.folder.is_some()
    }

    /// The folder, if it is there.
    pub(super) fn find(&mut self, root: &Root) -> Result<Option<Arc<StagingFolder>>, StoreError> {
        if self.folder.is_none() {
            self.folder = StagingFolder::open(root)?.map(Arc::new);
        }
        Ok(self.folder.clone())
    }

    /// The name of a file with this content that an earlier run left. Each name is handed out once.
    pub(super) fn leftover(
        &mut self,
        root: &Root,
        meta: &FileMeta,
    ) -> Result<Option<(Arc<StagingFolder>, String)>, StoreError> {
        let Some(folder) = self.find(root)? else {
            self.has_nothing();
            return Ok(None);
        };
        if self.leftovers.is_none() {
            self.leftovers = Some(folder.leftovers()?);
        }
        let names = self.leftovers.as_mut().and_then(|left| left.get_mut(&meta.hash));
        Ok(names.and_then(Vec::pop).map(|name| (folder, name)))
    }

    /// Says that no earlier run left anything.
    pub(super) fn has_nothing(&mut self) {
        self.leftovers.get_or_insert_default();
    }

    /// Whether what was left is known, and this content is not among it.
    pub(super) fn has_no_leftover(&self, content: ContentHash) -> bool {
        self.leftovers.as_ref().is_some_and(|left| left.get(&content).is_none_or(Vec::is_empty))
    }

    /// Removes everything that is staged, and the folder.
    pub(super) fn discard(&mut self, root: &Root) -> Result<(), StoreError> {
        self.leftovers = None;
        let Some(folder) = self.find(root)? else {
            return Ok(());
        };
        self.folder = None;
        folder.clear()?;
        folder.remove(root)
    }
}

/// The open staging folder.
#[derive(Debug)]
pub(super) struct StagingFolder {
    pub(super) dir: Dir,
    site: Site,
    counter: AtomicU64,
}

impl StagingFolder {
    fn make(root: &Root) -> Result<Self, StoreError> {
        make_private(root, &root.dir, OWN_FOLDER)?;
        let own = open_own(root, &root.dir, OWN_FOLDER)?.ok_or_else(|| root.site.unavailable(REMOVED))?;
        make_private(root, &own, STAGING)?;
        let dir = open_own(root, &own, STAGING)?.ok_or_else(|| root.site.unavailable(REMOVED))?;
        Ok(StagingFolder { dir, site: root.site.clone(), counter: AtomicU64::new(1) })
    }

    fn open(root: &Root) -> Result<Option<Self>, StoreError> {
        let Some(own) = open_own(root, &root.dir, OWN_FOLDER)? else {
            return Ok(None);
        };
        let dir = open_own(root, &own, STAGING)?;
        Ok(dir.map(|dir| StagingFolder { dir, site: root.site.clone(), counter: AtomicU64::new(1) }))
    }

    /// Creates an empty file for this content, open for writing.
    pub(super) fn create(
        self: &Arc<Self>,
        path: &VaultPath,
        content: ContentHash,
    ) -> Result<StagedFile, StoreError> {
        let mut name = content.to_string();
        loop {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match rustix::fs::openat(&self.dir, &name, flags, Mode::from_raw_mode(0o666)) {
                Ok(file) => {
                    return Ok(StagedFile {
                        folder: self.clone(),
                        name,
                        file: File::from(file),
                        keep: false,
                    });
                }
                // The same content is staged for another path, or an earlier run left it.
                Err(Errno::EXIST) => {
                    name = format!("{content}-{}", self.counter.fetch_add(1, Ordering::Relaxed));
                }
                Err(Errno::NOENT) => return Err(self.site.unavailable(REMOVED)),
                Err(error @ (Errno::ACCESS | Errno::PERM)) => {
                    return Err(self.site.root_error(Action::Write, error));
                }
                Err(error) => return Err(self.site.error(Action::Write, path.as_str(), error)),
            }
        }
    }

    /// Whether the file of this name is complete; then its times are set. If not it is removed.
    pub(super) fn check(&self, name: &str, path: &VaultPath, meta: &FileMeta) -> Result<bool, StoreError> {
        if has_content(&self.dir, name, meta.hash, meta.size).unwrap_or(false) {
            let failed = |error| self.site.error(Action::SetTimes, path.as_str(), error);
            set_entry_time(&self.dir, name, meta.mtime).map_err(failed)?;
            return Ok(true);
        }
        self.remove_file(name);
        Ok(false)
    }

    /// Removes a staged file that is not needed any more. One that cannot be removed is in nobody's way.
    pub(super) fn remove_file(&self, name: &str) {
        if let Err(error) = rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            tracing::debug!(%error, "a staged file cannot be removed");
        }
    }

    /// Bytes of all staged files. Those that cannot be looked at count for nothing.
    pub(super) fn size(&self) -> u64 {
        let names = self.names().unwrap_or_default();
        let sizes = names.iter().filter_map(|name| Some(look(&self.dir, name).ok()??.size));
        sizes.fold(0, u64::saturating_add)
    }

    /// Removes all staged files.
    pub(super) fn clear(&self) -> Result<(), StoreError> {
        for name in self.names()? {
            self.remove_file(&name);
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let failed = |error| self.site.root_error(Action::List, error);
        let mut names = Vec::new();
        for entry in self.dir.entries().map_err(failed)? {
            // A name that is no text was not given by obsync.
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn leftovers(&self) -> Result<HashMap<ContentHash, Vec<String>>, StoreError> {
        let mut leftovers: HashMap<ContentHash, Vec<String>> = HashMap::new();
        for name in self.names()? {
            if let Some(Ok(content)) = name.get(..HASH_DIGITS).map(str::parse) {
                leftovers.entry(content).or_default().push(name);
            }
        }
        Ok(leftovers)
    }

    /// Removes the folder and the one above it, if they are empty.
    fn remove(&self, root: &Root) -> Result<(), StoreError> {
        let Some(own) = open_own(root, &root.dir, OWN_FOLDER)? else {
            return Ok(());
        };
        for (dir, name) in [(&own, STAGING), (&*root.dir, OWN_FOLDER)] {
            match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => {
                    tracing::debug!(%error, "obsync's own folder stays");
                    break;
                }
            }
        }
        root.touched(None);
        Ok(())
    }
}

/// A file being staged. Unless it is [kept](Self::keep) it is removed when this is dropped, so that a transfer that is
/// broken off leaves nothing.
#[derive(Debug)]
pub(super) struct StagedFile {
    folder: Arc<StagingFolder>,
    name: String,
    pub(super) file: File,
    keep: bool,
}

impl StagedFile {
    /// Says that the file is complete, closes it and gives its name.
    pub(super) fn keep(mut self) -> String {
        self.keep = true;
        self.name.clone()
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.keep {
            self.folder.remove_file(&self.name);
        }
    }
}

fn make_private(root: &Root, dir: &Dir, name: &str) -> Result<(), StoreError> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(Errno::NOENT) => Err(root.site.unavailable(REMOVED)),
        Err(error) => Err(root.site.root_error(Action::Write, error)),
    }
}

/// Opens one of obsync's own folders; a link in its place is not followed.
fn open_own(root: &Root, dir: &Dir, name: &str) -> Result<Option<Dir>, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(handle) => Ok(Some(Dir::from_std_file(File::from(handle)))),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR | Errno::LOOP | Errno::MLINK) => Err(root.site.unavailable(
            "there is something named .obsync in it, where obsync keeps unfinished files; move that elsewhere",
        )),
        Err(error) => Err(root.site.root_error(Action::Read, error)),
    }
}
