//! A vault as files of a local folder.
//!
//! Everything happens beneath the handle of the folder that was opened at the beginning: folders are opened
//! through cap-std, which follows no link out of it (by `openat2` on Linux), and files are named by one
//! segment in an open folder, where the last segment is never followed if it is a link.
//!
//! - `options`: the user's options. `context`: the destination, opened or created on first use; `root`, its
//!   handle; `lock` and `locking`, its lock; `parents`, folders in it; `own_folder`, obsync's own folder.
//! - `destination`: the engine's traits. Files that are not visible yet: `staging`, `writer` (by `portion`s),
//!   `write_buffer`, `copies` (`copied`), `background_flush` (`flush_tracker`). `publish`: makes them
//!   visible, with `rename`, `exchange` (`taken`: files taken out of their places), `conflict` (conflicted
//!   copies) and `transplant` (other file systems below the root).
//! - `scan`: differences from the records, and files opened to be sent. `listing_faults`: a failing disk, for
//!   tests.
//! - `watch`: reports changes of other programs.
//! - `trash`: keeps replaced and removed files for a while.
//! - `sync`: durability, and `unsynced`, changes that are not durable yet. `remove`, `walk`, `folding`: as
//!   their names say. `entry`: one entry of an open folder.
//! - `place`: whether the open folder is still the one at its path. `pin`: the encryption of the vault. `marker`: the identity of the destination. `mounts`: other file
//!   systems in it. `own_file`: the files of these three. `error`: errors.

#![cfg(unix)]

mod apply;
mod background_flush;
mod conflict;
mod context;
mod copied;
mod copies;
mod destination;
mod entry;
mod error;
mod exchange;
mod file_system;
mod flush_tracker;
mod folder_watch;
mod folding;
mod hash_cache;
mod listing_faults;
mod lock;
mod locking;
mod marker;
mod mount_list;
mod mounts;
mod options;
mod own_file;
mod own_folder;
mod parents;
mod pin;
mod place;
mod portion;
mod publish;
mod remove;
mod rename;
mod rights;
mod root;
mod scan;
mod spelling;
mod staging;
mod steps;
mod sync;
mod taken;
mod transplant;
mod trash;
mod unsynced;
mod walk;
pub mod watch;
mod write_buffer;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use obsync_core::DestinationError;
use obsync_core::blocking::{blocking, lock};
use obsync_core::pin::Pin;
use obsync_protocol::VaultPath;

pub use self::folder_watch::FolderWatch;
pub use self::listing_faults::ListingFault;
pub use self::options::{Durability, FolderOptions};
pub use self::pin::FolderPin;
pub use self::steps::Step;

use self::context::Context;
use self::error::again;
use self::listing_faults::ListingFaults;
use self::parents::Parents;
use self::root::Root;
use self::steps::Steps;

/// A vault as files of a local folder. The folder need not exist: the first write creates it.
///
/// The folder `.obsync` in it is obsync's own: it has the [lock](Self::lock), the [pin](obsync_core::pin),
/// and the staged files.
#[derive(Clone, Debug)]
pub struct FolderDestination {
    /// Replaced when the folder at the path was replaced.
    present: Arc<Mutex<Arc<Context>>>,
}

impl FolderDestination {
    /// Opens the folder `dest`, or notes that it has to be created.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Unavailable`] if something else than a folder is there, or it cannot be read.
    pub fn open(dest: &Path, options: FolderOptions) -> Result<Self, DestinationError> {
        let context = Context::new(PathBuf::from(dest), options);
        Self::of(context)
    }

    fn of(context: Context) -> Result<Self, DestinationError> {
        context.root()?;
        Ok(FolderDestination { present: Arc::new(Mutex::new(Arc::new(context))) })
    }

    /// The folder as it was opened last.
    fn context(&self) -> Arc<Context> {
        lock(&self.present).clone()
    }

    /// The same with a callback that is called at each step of writing before the next one, for tests.
    ///
    /// # Errors
    ///
    /// As for [`FolderDestination::open`].
    #[doc(hidden)]
    pub fn open_watched(
        dest: &Path,
        options: FolderOptions,
        watch: impl Fn(Step, Option<&VaultPath>) + Send + Sync + 'static,
    ) -> Result<Self, DestinationError> {
        let mut context = Context::new(PathBuf::from(dest), options);
        context.steps = Steps::watched(watch);
        Self::of(context)
    }

    /// The same on a disk whose scans fail as a test decides, by the name of a folder and the number of
    /// entries read, or by the name of a file.
    ///
    /// # Errors
    ///
    /// As for [`FolderDestination::open`].
    #[doc(hidden)]
    pub fn open_with_faults(
        dest: &Path,
        options: FolderOptions,
        decide: impl Fn(&str, usize) -> Option<ListingFault> + Send + Sync + 'static,
    ) -> Result<Self, DestinationError> {
        let mut context = Context::new(PathBuf::from(dest), options);
        context.listing_faults = ListingFaults::decided(decide);
        Self::of(context)
    }

    /// Replaces files as on a file system that cannot exchange two files, for tests.
    #[doc(hidden)]
    pub fn without_exchange(self) -> Self {
        self.context().no_exchange.store(true, std::sync::atomic::Ordering::Relaxed);
        self
    }

    /// Takes the lock on the folder for as long as this destination lives: an advisory lock on the file
    /// `.obsync/lock`, which ends with its process. If that file, or the folder, does not exist yet, the lock
    /// is taken before the first write, so that a run that only reads leaves nothing. A file system without
    /// locks causes a warning.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Locked`] with the holder's name if another process has it,
    /// [`DestinationError::Unavailable`] if the folder cannot be opened.
    pub fn lock(&self) -> Result<(), DestinationError> {
        self.context().lock()
    }

    /// The error for a folder that another process works on, if another lock than the folder's own showed
    /// that.
    pub fn locked(&self) -> DestinationError {
        let root = self.context().root().ok().flatten();
        let location = root
            .map_or_else(|| self.context().errors.location(), |root| locking::location_with_holder(&root));
        DestinationError::Locked { location }
    }

    /// The present or last holder of the folder's lock, according to its file.
    pub fn holder(&self) -> Option<String> {
        self.context().root().ok().flatten().and_then(|root| locking::holder(&root))
    }

    /// The encryption of the vault that was last pulled to this folder.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Unavailable`] if it cannot be read or parsed, which is never a first contact.
    pub async fn pin(&self) -> Result<FolderPin, DestinationError> {
        self.run(|context| context.root()?.map_or(Ok(FolderPin::None), |root| pin::read(&root))).await
    }

    /// Sets a pin to be written before this destination writes anything else.
    pub fn pin_before_writing(&self, pin: &Pin) {
        self.context().pin_before_writing(pin.clone());
    }

    /// Writes the waiting pin now, if there is one and the folder exists.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Unavailable`] if it cannot be written.
    pub async fn keep_waiting_pin(&self) -> Result<(), DestinationError> {
        self.run(Context::write_waiting_pin).await
    }

    /// Durably writes a pin. The folder is created if it does not exist.
    ///
    /// # Errors
    ///
    /// [`DestinationError::Unavailable`] if it cannot be written.
    pub async fn keep_pin(&self, pin: &Pin) -> Result<(), DestinationError> {
        let pin = pin.clone();
        self.run(move |context| pin::write(&*context.make_root()?, &pin)).await
    }

    /// Runs `work` on a thread that may block.
    async fn run<T, F>(&self, work: F) -> Result<T, DestinationError>
    where
        T: Send + 'static,
        F: FnOnce(&Context) -> Result<T, DestinationError> + Send + 'static,
    {
        let context = self.context();
        blocking(move || work(&context)).await.unwrap_or_else(|stopped| Err(self.context().stopped(stopped)))
    }

    /// Runs `work` for each of `items`, in order, on a thread that may block. With `make` the root is created
    /// first; without a root the answer is `without`.
    async fn for_each<I, T, F>(
        &self,
        items: Vec<I>,
        make: bool,
        without: fn() -> T,
        work: F,
    ) -> Vec<Result<T, DestinationError>>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: Fn(&Context, &Root, &mut Parents<'_>, &I) -> Result<T, DestinationError> + Send + 'static,
    {
        let count = items.len();
        let answers = self.run(move |context| {
            let root = match (items.is_empty(), make) {
                (true, _) => return Ok(Vec::new()),
                (false, true) => Some(context.make_root()?),
                (false, false) => context.root_to_write()?,
            };
            let Some(root) = root else {
                return Ok(items.iter().map(|_| Ok(without())).collect());
            };
            let mut parents = Parents::new(&root);
            Ok(items.iter().map(|item| work(context, &root, &mut parents, item)).collect())
        });
        answers.await.unwrap_or_else(|error| (0..count).map(|_| Err(again(&error))).collect())
    }
}
