//! The hidden folder in which files are written before they have a name: `.obsync/staging` in the root, so
//! that it is on the same file system and publishing is a rename.
//!
//! No other user can write to it, so that the published content is the verified one. If `.obsync` or the
//! folder in it is another user's, or stays open to others, it is left alone, and `.obsync-` with random
//! digits is used instead.
//!
//! A staged file is named after its content hash. The name only helps to find it again after an interrupted
//! run: its content is checked by hashing.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::fs::Dir;
use obsync_core::{DestinationError, FileMeta};
use obsync_protocol::{ContentHash, VaultPath};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::entry::{has_content, look, set_entry_time};
use super::error::{Action, ErrorContext};
use super::own_folder::{
    ELSEWHERE, OWN_FOLDER, Own, REMOVED, STAGING, TRASH, is_own_name, make_private, open_judged, open_own,
    own_folder,
};
use super::root::Root;
use super::taken::is_taken;

/// Message if every folder created there can be written by others.
const OPEN_TO_ALL: &str = "every folder that is made in it can be changed by other users; take that from them, or choose another destination";
const NO_RANDOM: &str = "the system has no random numbers; run the same command again";
/// Length of a content hash in hexadecimal digits.
const HASH_DIGITS: usize = 64;

/// State of the staging folder. It is created when the first file is staged.
#[derive(Debug, Default)]
pub(super) struct Staging {
    folder: Option<Arc<StagingFolder>>,
    /// Names that an earlier run left, by the content hash in them; read once, before this run stages
    /// anything, so that its own files are not among them.
    leftovers: Option<HashMap<ContentHash, Vec<String>>>,
}

impl Staging {
    /// The folder, created if it does not exist.
    pub(super) fn make(&mut self, root: &Root) -> Result<Arc<StagingFolder>, DestinationError> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let folder = Arc::new(StagingFolder::make(root)?);
        self.folder = Some(folder.clone());
        Ok(folder)
    }

    /// True if the folder was created or found already, so that only a disk's limits can prevent writing a
    /// file.
    pub(super) fn is_open(&self) -> bool {
        self.folder.is_some()
    }

    /// The folder, if it exists.
    pub(super) fn find(&mut self, root: &Root) -> Result<Option<Arc<StagingFolder>>, DestinationError> {
        if self.folder.is_none() {
            self.folder = StagingFolder::open(root)?.map(Arc::new);
        }
        Ok(self.folder.clone())
    }

    /// Name of a file with this content that an earlier run left. Each name is returned once.
    pub(super) fn leftover(
        &mut self,
        root: &Root,
        meta: &FileMeta,
    ) -> Result<Option<(Arc<StagingFolder>, String)>, DestinationError> {
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

    /// Notes that no earlier run left anything.
    pub(super) fn has_nothing(&mut self) {
        self.leftovers.get_or_insert_default();
    }

    /// True if the leftovers are known, and this content is not among them.
    pub(super) fn has_no_leftover(&self, content: ContentHash) -> bool {
        self.leftovers.as_ref().is_some_and(|left| left.get(&content).is_none_or(Vec::is_empty))
    }

    /// Removes all staged files, and the folder.
    pub(super) fn discard(&mut self, root: &Root) -> Result<(), DestinationError> {
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
    /// Its name in the root, if it is not the default one.
    elsewhere: Option<String>,
    errors: ErrorContext,
    counter: AtomicU64,
}

impl StagingFolder {
    pub(super) fn make(root: &Root) -> Result<Self, DestinationError> {
        if let Some(folder) = Self::open(root)? {
            return Ok(folder);
        }
        make_private(root, &root.dir, OWN_FOLDER)?;
        if let Own::Private(own) = own_folder(root)? {
            make_private(root, &own, STAGING)?;
            if let Own::Private(dir) = open_judged(root, &own, STAGING)? {
                return Ok(Self::new(root, dir, None));
            }
        }
        Self::make_elsewhere(root)
    }

    /// Folders elsewhere, left by an earlier run, are only looked for if the default folder cannot be used.
    pub(super) fn open(root: &Root) -> Result<Option<Self>, DestinationError> {
        let staging = match own_folder(root)? {
            Own::Private(own) => open_judged(root, &own, STAGING)?,
            Own::Absent => Own::Absent,
            Own::Foreign => Own::Foreign,
        };
        match staging {
            Own::Private(dir) => Ok(Some(Self::new(root, dir, None))),
            Own::Absent => Ok(None),
            Own::Foreign => Self::open_elsewhere(root),
        }
    }

    fn make_elsewhere(root: &Root) -> Result<Self, DestinationError> {
        let random = obsync_private::random_name().ok_or_else(|| root.errors.unavailable(NO_RANDOM))?;
        let name = format!("{ELSEWHERE}{random}");
        tracing::warn!("{OWN_FOLDER} is open to other users and left alone; files are staged in {name}");
        rustix::fs::mkdirat(&root.dir, &name, Mode::from_raw_mode(0o700))
            .map_err(|error| root.errors.root_error(Action::Write, error))?;
        match open_judged(root, &root.dir, &name)? {
            Own::Private(dir) => Ok(Self::new(root, dir, Some(name))),
            Own::Foreign => Err(root.errors.unavailable(OPEN_TO_ALL)),
            Own::Absent => Err(root.errors.unavailable(REMOVED)),
        }
    }

    /// Existing staging folders, the default one first. A killed run may have used another, because
    /// [`OWN_FOLDER`] was open to others then: the root is searched for those if that folder cannot be used
    /// now, or with `everywhere`.
    pub(super) fn open_all(root: &Root, everywhere: bool) -> Result<Vec<Self>, DestinationError> {
        let own = own_folder(root)?;
        let reads_root = everywhere || !matches!(own, Own::Private(_));
        let mut all = Vec::new();
        if let Own::Private(own) = own
            && let Own::Private(dir) = open_judged(root, &own, STAGING)?
        {
            all.push(Self::new(root, dir, None));
        }
        if reads_root {
            all.extend(Self::all_elsewhere(root)?);
        }
        Ok(all)
    }

    /// Removes an empty folder elsewhere.
    pub(super) fn remove_if_needless(&self, root: &Root) -> Result<(), DestinationError> {
        match (&self.elsewhere, self.names()?.is_empty()) {
            (Some(_), true) => self.remove(root),
            _ => Ok(()),
        }
    }

    fn open_elsewhere(root: &Root) -> Result<Option<Self>, DestinationError> {
        Ok(Self::all_elsewhere(root)?.into_iter().next())
    }

    fn all_elsewhere(root: &Root) -> Result<Vec<Self>, DestinationError> {
        let mut all = Vec::new();
        let failed = |error| root.errors.root_error(Action::List, error);
        for entry in root.dir.entries().map_err(failed)? {
            let Ok(name) = entry.map_err(failed)?.file_name().into_string() else { continue };
            if name != OWN_FOLDER
                && is_own_name(&name)
                && let Own::Private(dir) = open_judged(root, &root.dir, &name)?
            {
                all.push(Self::new(root, dir, Some(name)));
            }
        }
        Ok(all)
    }

    fn new(root: &Root, dir: Dir, elsewhere: Option<String>) -> Self {
        StagingFolder { dir, elsewhere, errors: root.errors.clone(), counter: AtomicU64::new(1) }
    }

    /// The folder with the trash.
    pub(super) fn trash_parent(&self, root: &Root) -> std::io::Result<Dir> {
        match own_folder(root) {
            Ok(Own::Private(own)) if self.elsewhere.is_none() => Ok(own),
            _ => self.dir.try_clone(),
        }
    }

    /// Creates an empty file for this content, open for writing.
    pub(super) fn create(
        self: &Arc<Self>,
        path: &VaultPath,
        content: ContentHash,
    ) -> Result<StagedFile, DestinationError> {
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
                Err(Errno::NOENT) => return Err(self.errors.unavailable(REMOVED)),
                Err(error @ (Errno::ACCESS | Errno::PERM)) => {
                    return Err(self.errors.root_error(Action::Write, error));
                }
                Err(error) => return Err(self.errors.error(Action::Write, path.as_str(), error)),
            }
        }
    }

    /// True if the file of this name is complete; then its times are set. If not, it is removed.
    pub(super) fn check(
        &self,
        name: &str,
        path: &VaultPath,
        meta: &FileMeta,
    ) -> Result<bool, DestinationError> {
        if has_content(&self.dir, name, meta.hash, meta.size).unwrap_or(false) {
            let failed = |error| self.errors.error(Action::SetTimes, path.as_str(), error);
            set_entry_time(&self.dir, name, meta.mtime).map_err(failed)?;
            return Ok(true);
        }
        self.remove_file(name);
        Ok(false)
    }

    /// Removes a staged file that is not needed any more. A failure does no harm.
    pub(super) fn remove_file(&self, name: &str) {
        remove_own(&self.dir, name);
    }

    /// Bytes of all staged files, without those whose size cannot be read.
    pub(super) fn size(&self) -> u64 {
        let names = self.names().unwrap_or_default();
        let sizes = names.iter().filter_map(|name| Some(look(&self.dir, name).ok()??.size));
        sizes.fold(0, u64::saturating_add)
    }

    /// Removes all staged files. Taken files that were not judged stay.
    pub(super) fn clear(&self) -> Result<(), DestinationError> {
        for name in self.names()?.into_iter().filter(|name| !is_taken(name)) {
            self.remove_file(&name);
        }
        Ok(())
    }

    pub(super) fn names(&self) -> Result<Vec<String>, DestinationError> {
        let failed = |error| self.errors.root_error(Action::List, error);
        let mut names = Vec::new();
        for entry in self.dir.entries().map_err(failed)? {
            // obsync creates no names that are no text.
            if let Ok(name) = entry.map_err(failed)?.file_name().into_string()
                && name != TRASH
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn leftovers(&self) -> Result<HashMap<ContentHash, Vec<String>>, DestinationError> {
        let mut leftovers: HashMap<ContentHash, Vec<String>> = HashMap::new();
        for name in self.names()? {
            if let Some(Ok(content)) = name.get(..HASH_DIGITS).map(str::parse) {
                leftovers.entry(content).or_default().push(name);
            }
        }
        Ok(leftovers)
    }

    /// Removes the folder and its parent, if they are empty.
    fn remove(&self, root: &Root) -> Result<(), DestinationError> {
        let own = match &self.elsewhere {
            Some(_) => None,
            None => open_own(root, &root.dir, OWN_FOLDER)?,
        };
        let root_name = self.elsewhere.as_deref().unwrap_or(OWN_FOLDER);
        for (dir, name) in own.iter().map(|own| (own, STAGING)).chain([(&*root.dir, root_name)]) {
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

/// Removes a file of obsync's own that is not needed any more. A failure does no harm.
pub(super) fn remove_own(dir: &Dir, name: &str) {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => tracing::debug!(%error, "a staged file cannot be removed"),
    }
}

/// A file being staged. Unless it is [kept](Self::keep) it is removed on drop, so that an aborted transfer
/// leaves nothing.
#[derive(Debug)]
pub(super) struct StagedFile {
    folder: Arc<StagingFolder>,
    name: String,
    pub(super) file: File,
    keep: bool,
}

impl StagedFile {
    /// Marks the file as complete, closes it and returns its name.
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
