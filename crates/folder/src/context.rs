//! The state shared by all parts of a folder destination: the root, opened or created on first use, and its
//! staging.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use obsync_core::pin::Pin;
use obsync_core::{DestinationError, FileMeta, Staged};
use obsync_protocol::{ContentHash, VaultPath};

use super::copied::Copied;
use super::entry::{hash, open_file, set_file_time};
use super::error::{Action, ErrorContext};
use super::file_system;
use super::flush_tracker::FlushTracker;
use super::hash_cache::HashCache;
use super::listing_faults::ListingFaults;
use super::options::FolderOptions;
use super::own_folder::is_own_name;
use super::parents::Parents;
use super::pin;
use super::rights::{KeptRights, Rights};
use super::root::{COMMON_NAME_MAX, Root};
use super::staging::{StagedFile, Staging, StagingFolder};
use super::steps::Steps;
use super::taken::Taken;
use super::transplant::is_own_beside;
use super::write_buffer::WriteBuffer;
use obsync_core::blocking::{Stopped, lock};

/// The state of a folder destination. Its methods block.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) errors: ErrorContext,
    pub(super) dest: PathBuf,
    pub(super) options: FolderOptions,
    pub(super) folds_case: OnceLock<bool>,
    pub(super) folds_normalization: OnceLock<bool>,
    colons: OnceLock<Option<&'static str>>,
    root: Mutex<Option<Arc<Root>>>,
    /// Locked while the root is created: until that is durable no other thread may claim files in it.
    making: Mutex<()>,
    lock_wanted: AtomicBool,
    /// Written before anything else.
    pin: Mutex<Option<Pin>>,
    staging: Mutex<Staging>,
    pub(super) write_buffer: WriteBuffer,
    pub(super) flushes: FlushTracker,
    pub(super) hashes: HashCache,
    pub(super) copied: Copied,
    /// There are files whose times obsync may not set.
    pub(super) untimed: AtomicBool,
    /// Files taken out of their places, to be compared once more.
    pub(super) taken: Mutex<Vec<Taken>>,
    /// Sentences about kept files among them.
    pub(super) kept: Mutex<Vec<String>>,
    /// The folder of this run in the trash, once a file is put there.
    pub(super) trash_run: Mutex<Option<String>>,
    /// Rights of files that were kept under another name.
    pub(super) rights: KeptRights,
    /// Files cannot be exchanged here.
    pub(super) no_exchange: AtomicBool,
    pub(super) steps: Steps,
    pub(super) listing_faults: ListingFaults,
}

impl Context {
    pub(super) fn new(dest: PathBuf, options: FolderOptions) -> Self {
        Context {
            errors: ErrorContext::new(dest.display().to_string()),
            dest,
            options,
            folds_case: OnceLock::new(),
            folds_normalization: OnceLock::new(),
            colons: OnceLock::new(),
            root: Mutex::default(),
            making: Mutex::default(),
            lock_wanted: AtomicBool::new(false),
            pin: Mutex::default(),
            staging: Mutex::default(),
            write_buffer: WriteBuffer::default(),
            flushes: FlushTracker::default(),
            hashes: HashCache::default(),
            copied: Copied::default(),
            untimed: AtomicBool::new(false),
            taken: Mutex::default(),
            kept: Mutex::default(),
            trash_run: Mutex::default(),
            rights: KeptRights::default(),
            no_exchange: AtomicBool::new(false),
            steps: Steps::default(),
            listing_faults: ListingFaults::default(),
        }
    }

    /// The same destination, to be opened anew, with the pin that waits.
    pub(super) fn anew(&self) -> Self {
        let kept = Self::new(self.dest.clone(), self.options);
        Context {
            lock_wanted: AtomicBool::new(self.lock_wanted.load(Ordering::Acquire)),
            pin: Mutex::new(lock(&self.pin).clone()),
            no_exchange: AtomicBool::new(self.no_exchange.load(Ordering::Relaxed)),
            steps: self.steps.clone(),
            listing_faults: self.listing_faults.clone(),
            ..kept
        }
    }

    /// The root, if it was opened already.
    pub(super) fn opened(&self) -> Option<Arc<Root>> {
        lock(&self.root).clone()
    }

    /// The root, if the folder exists.
    pub(super) fn root(&self) -> Result<Option<Arc<Root>>, DestinationError> {
        let mut kept = lock(&self.root);
        if kept.is_none() {
            let Some(mut root) = Root::open(&self.errors, &self.dest, self.options)? else {
                return Ok(None);
            };
            root.steps = self.steps.clone();
            self.lock_if_wanted(&root)?;
            *kept = Some(Arc::new(root));
        }
        Ok(kept.clone())
    }

    /// The root, created if it does not exist.
    pub(super) fn make_root(&self) -> Result<Arc<Root>, DestinationError> {
        let _one = lock(&self.making);
        if let Some(root) = self.root_to_write()? {
            return Ok(root);
        }
        Root::create(&self.errors, &self.dest)?;
        self.root_to_write()?
            .ok_or_else(|| self.errors.unavailable("it was removed at once after it was made"))
    }

    /// The root, if the folder exists, with the lock that writing needs, and with the pin written.
    pub(super) fn root_to_write(&self) -> Result<Option<Arc<Root>>, DestinationError> {
        let Some(root) = self.root()? else { return Ok(None) };
        if self.lock_wanted.load(Ordering::Acquire) {
            root.claim()?;
        }
        let mut pin = lock(&self.pin);
        if let Some(waiting) = &*pin {
            pin::write(&root, waiting)?;
            *pin = None;
        }
        drop(pin);
        root.known_mounts.are_noted.store(true, Ordering::Release);
        Ok(Some(root))
    }

    /// Sets a pin to be written before anything else.
    pub(super) fn pin_before_writing(&self, pin: Pin) {
        *lock(&self.pin) = Some(pin);
    }

    /// Writes the waiting pin now, if there is one. A run without one touches nothing.
    pub(super) fn write_waiting_pin(&self) -> Result<(), DestinationError> {
        let waits = lock(&self.pin).is_some();
        if waits { self.root_to_write().map(drop) } else { Ok(()) }
    }

    /// Takes the lock now if its file exists, else before the first write.
    pub(super) fn lock(&self) -> Result<(), DestinationError> {
        let root = self.root()?;
        self.lock_wanted.store(true, Ordering::Release);
        root.map_or(Ok(()), |root| root.lock())
    }

    /// Takes the lock of a root, if it is wanted and its file exists.
    pub(super) fn lock_if_wanted(&self, root: &Root) -> Result<(), DestinationError> {
        if self.lock_wanted.load(Ordering::Acquire) { root.lock() } else { Ok(()) }
    }

    /// Refuses a path that could not be published, before anything is downloaded for it.
    pub(super) fn admit(&self, path: &VaultPath) -> Result<(), DestinationError> {
        if is_own(path) {
            return Err(self
                .errors
                .refused(path.as_str(), "obsync keeps its own files in a folder of this name"));
        }
        let is_own_beside = |name: &str| name.starts_with('.') && is_own_beside(&name.to_ascii_lowercase());
        if path.segments().any(is_own_beside) {
            return Err(self.errors.refused(path.as_str(), "obsync gives its unfinished files such names"));
        }
        if path.as_str().contains(':')
            && let Some(kind) = self.without_colons()
        {
            let reason = format!(
                "a name with a colon is not a file of its own on this file system ({kind}); rename it in Obsidian"
            );
            return Err(self.errors.refused(path.as_str(), &reason));
        }
        // A missing folder is not looked up again for every path.
        let root = self.opened();
        let name_max = self.name_max();
        root.map_or(Ok(()), |root| root.mounts()?.check(&root, path, Action::Write))?;
        match path.segments().any(|segment| segment.len() > name_max) {
            true => Err(self.errors.too_long(path.as_str())),
            false => Ok(()),
        }
    }

    /// Limit of a name here, in bytes, as far as known: the folder may not exist yet.
    pub(super) fn name_max(&self) -> usize {
        self.opened().map_or(COMMON_NAME_MAX, |root| root.name_max())
    }

    /// Type of the file system, if it does not allow a colon in names.
    fn without_colons(&self) -> Option<&'static str> {
        match self.options.refuses_colons {
            Some(refuses) => refuses.then_some("as it was set"),
            None => *self.colons.get_or_init(|| file_system::without_colons(&self.dest)),
        }
    }

    /// Creates an empty staged file.
    pub(super) fn stage(&self, path: &VaultPath, meta: &FileMeta) -> Result<StagedFile, DestinationError> {
        self.staging_folder()?.create(path, meta.hash)
    }

    /// Marks a staged file as complete, closes it and returns its name.
    pub(super) fn keep(&self, staged: StagedFile) -> String {
        let name = staged.keep();
        self.flushes.completed(&name);
        name
    }

    /// The staging folder, created if it does not exist.
    pub(super) fn staging_folder(&self) -> Result<Arc<StagingFolder>, DestinationError> {
        lock(&self.staging).make(&*self.make_root()?)
    }

    /// The staging folder, if it exists.
    pub(super) fn find_staging(&self, root: &Root) -> Result<Option<Arc<StagingFolder>>, DestinationError> {
        lock(&self.staging).find(root)
    }

    /// True if a file was staged already: the first file is staged at once, so that an unwritable destination
    /// is detected before more is downloaded.
    pub(super) fn has_staging(&self) -> bool {
        lock(&self.staging).is_open()
    }

    /// True if it is known, without a lookup, that no earlier run left a staged file for this content.
    pub(super) fn has_no_leftover(&self, content: ContentHash) -> bool {
        lock(&self.staging).has_no_leftover(content)
    }

    /// A complete file with this content that an earlier run left staged.
    pub(super) fn recover(
        &self,
        path: VaultPath,
        meta: FileMeta,
    ) -> Result<Option<Staged>, DestinationError> {
        let Some(root) = self.root()? else {
            lock(&self.staging).has_nothing();
            return Ok(None);
        };
        loop {
            // Not in the condition of the loop: the lock would be kept while the file is read.
            let leftover = lock(&self.staging).leftover(&root, &meta)?;
            let Some((folder, handle)) = leftover else {
                return Ok(None);
            };
            if folder.check(&handle, &path, &meta)? {
                return Ok(Some(Staged { path, meta, handle }));
            }
        }
    }

    /// Stages a copy of the file at `from`, if it has the content of `meta`.
    pub(super) fn copy(
        &self,
        from: &VaultPath,
        to: VaultPath,
        meta: FileMeta,
    ) -> Result<Option<Staged>, DestinationError> {
        self.admit(&to)?;
        let Some(root) = self.root()? else { return Ok(None) };
        if is_own(from) {
            return Ok(None);
        }
        let Some(dir) = Parents::new(&root).find(from.parent().as_ref())? else {
            return Ok(None);
        };
        let unread = |error| self.errors.error(Action::Read, from.as_str(), error);
        let source = match open_file(&*dir, from.file_name()).map_err(unread)? {
            Some((source, facts)) if facts.size == meta.size => source,
            _ => return Ok(None),
        };
        let mut staged = self.stage(&to, &meta)?;
        let unwritten = |error| self.errors.error(Action::Write, to.as_str(), error);
        let copied = hash(&source, meta.size, &mut |part| std::io::Write::write_all(&mut staged.file, part))
            .map_err(unwritten)?;
        if copied != meta.hash {
            return Ok(None);
        }
        // A file that is renamed in the vault stays as private as it is here.
        Rights::of(&source).and_then(|rights| rights.give(&staged.file)).map_err(unwritten)?;
        let untimed = |error| self.errors.error(Action::SetTimes, to.as_str(), error);
        set_file_time(&staged.file, meta.mtime).map_err(untimed)?;
        Ok(Some(Staged { path: to, meta, handle: self.keep(staged) }))
    }

    /// Bytes that can be written here, including those of staged files of earlier runs, which will be used or
    /// removed. `None` if the file system does not report them: some report only zeros.
    pub(super) fn free_space(&self) -> Result<Option<u64>, DestinationError> {
        // A missing destination is created in the file system of its nearest existing ancestor.
        let Some(facts) = self.dest.ancestors().find_map(|folder| {
            let folder = if folder.as_os_str().is_empty() { std::path::Path::new(".") } else { folder };
            rustix::fs::statvfs(folder).ok()
        }) else {
            return Ok(None);
        };
        let Some(free) = free_bytes(&facts) else { return Ok(None) };
        let staged = match self.root()? {
            Some(root) => lock(&self.staging).find(&root)?.map_or(0, |folder| folder.size()),
            None => 0,
        };
        Ok(Some(free.saturating_add(staged)))
    }

    /// Removes all staged files.
    pub(super) fn discard_staged(&self) -> Result<(), DestinationError> {
        self.release_all_taken()?;
        self.write_buffer.discard();
        self.flushes.forget();
        self.hashes.clear();
        self.copied.clear();
        self.rights.clear();
        let Some(root) = self.root()? else { return Ok(()) };
        lock(&self.staging).discard(&root)
    }

    /// The error for work that was not begun.
    pub(super) fn stopped(&self, _: Stopped) -> DestinationError {
        self.errors.unavailable(Stopped::REASON)
    }
}

/// True if a path is in obsync's own folder, also where names are folded.
pub(super) fn is_own(path: &VaultPath) -> bool {
    path.segments().next().is_some_and(is_own_name)
}

/// Bytes that a user may still write to a file system; `None` if it does not report them.
pub(super) fn free_bytes(facts: &rustix::fs::StatVfs) -> Option<u64> {
    (facts.f_blocks > 0).then(|| facts.f_bavail.saturating_mul(facts.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::free_bytes;

    #[test]
    fn a_file_system_that_reports_nothing_but_0_is_not_judged() {
        let mut facts = rustix::fs::statvfs("/").unwrap();
        facts.f_frsize = 4096;
        for (blocks, available, expected) in [(0, 0, None), (10, 0, Some(0)), (10, 3, Some(3 * 4096))] {
            (facts.f_blocks, facts.f_bavail) = (blocks, available);
            assert_eq!(free_bytes(&facts), expected);
        }
    }
}
