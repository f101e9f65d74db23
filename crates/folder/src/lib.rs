//! A vault as files of a local folder.
//!
//! Everything happens beneath the handle of the folder that was opened at the beginning: folders are opened through
//! cap-std, which follows no link out of it (by `openat2` on Linux), and files are named by one segment in an open folder,
//! where the last segment is never followed if it is a link.
//!
//! - `context`: the destination, opened or made when needed; `root`, its handle; `lock`, the lock on it; `parents`, folders in it.
//! - `staging`, `writer`, `write_buffer`, `background_flush`, `copies`: files that are not visible yet. `publish`: how they become so,
//!   with `rename`, `conflict` (conflicted copies) and `transplant` (other file systems below the root).
//! - `scan`: what differs from the records, and files opened to be sent.
//! - `watch`: tells what others change meanwhile.
//! - `trash`: what was replaced or removed, for a while.
//! - `remove`, `walk`, `folding`, `sync`: what their names say. `entry`: one entry of an open folder.
//! - `pin`: how the vault was encrypted. `marker`: which destination this is. `own_file`: both are such. `error`: errors.

#![cfg(unix)]

mod apply;
mod background_flush;
mod conflict;
mod context;
mod copies;
mod entry;
mod error;
mod exchange;
mod file_system;
mod folder_watch;
mod folding;
mod hash_cache;
mod lock;
mod marker;
mod own_file;
mod parents;
mod pin;
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
mod transplant;
mod trash;
mod walk;
pub mod watch;
mod write_buffer;
mod writer;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use obsync_core::conflicted_copy::DeviceName;
use obsync_core::pin::Pin;
use obsync_core::{
    Applied, Change, ChangeBatch, ChangeOutcome, Checked, CheckedBy, Destination, Expect, FileMeta,
    FileWriter, FoldingProbe, Found, Inventory, KeptBeside, KnownContent, LocalFacts, LocalTree, Marked,
    Marker, MarkerFound, OpenFile, PlaceTraits, Rejected, ScanInput, Staged, StoreError, Wanted,
};
use obsync_protocol::{NameFolding, RepositoryPart, VaultPath};
use tokio_util::sync::CancellationToken;

pub use self::folder_watch::FolderWatch;
pub use self::pin::FolderPin;
pub use self::steps::Step;
pub use self::sync::Durability;

use self::context::{Context, is_own};
use self::entry::Kind;
use self::error::{Action, again};
use self::parents::Parents;
use self::root::Root;
use self::steps::Steps;
use self::writer::FolderWriter;
use obsync_core::blocking::{blocking, lock};

/// The largest file, in bytes, that is read to see which content it has: the service has limits of 200 MB and less.
const LARGEST_CONTENT: u64 = 1 << 30;

/// How a [`FolderStore`] works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FolderOptions {
    /// Which names are one name; found out when it is `None`.
    pub folds_names: Option<NameFolding>,
    /// Whether names must not have a colon; found out by the type of the file system when it is `None`.
    pub refuses_colons: Option<bool>,
    /// Bytes that a name may have; what the file system says when it is `None`.
    pub name_max: Option<usize>,
    /// How files and folders are made durable.
    pub durability: Durability,
    /// Whether what is replaced or removed is kept in `.obsync/trash` for 30 days.
    pub trash: bool,
    /// Whether files stay that the vault deletes, or renames, under their old name.
    pub keep_deleted: bool,
    /// The name of this device, for the names of conflicted copies.
    pub device: DeviceName,
}

/// A vault as files of a local folder. The folder need not exist: it is made when something is first written.
///
/// The folder `.obsync` in it is obsync's own: it has the [lock](Self::lock), the [pin](obsync_core::pin), and what is staged.
#[derive(Clone, Debug)]
pub struct FolderStore {
    context: Arc<Context>,
}

impl FolderStore {
    /// Opens the folder `dest`, or remembers to make it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if something else than a folder is there, or if it cannot be read.
    pub fn open(dest: &Path, options: FolderOptions) -> Result<Self, StoreError> {
        let context = Context::new(PathBuf::from(dest), options);
        context.root()?;
        Ok(FolderStore { context: Arc::new(context) })
    }

    /// The same, with somebody who sees each step of writing before the next one: for tests.
    ///
    /// # Errors
    ///
    /// As for [`FolderStore::open`].
    #[doc(hidden)]
    pub fn open_watched(
        dest: &Path,
        options: FolderOptions,
        watch: impl Fn(Step, Option<&VaultPath>) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let mut context = Context::new(PathBuf::from(dest), options);
        context.steps = Steps::watched(watch);
        context.root()?;
        Ok(FolderStore { context: Arc::new(context) })
    }

    /// Takes the lock on the folder, for as long as this store lives: an advisory lock on the file `.obsync/lock`, which
    /// dies with its holder. If that file, or the folder, does not exist yet the lock is taken before the first write, so
    /// that a run that only reads leaves nothing. A file system without locks is tolerated with a warning.
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] with the holder's name if another process has it, [`StoreError::Unavailable`] if the folder
    /// cannot be opened.
    pub fn lock(&self) -> Result<(), StoreError> {
        self.context.lock()
    }

    /// The error for a folder that another process works on, which was found out by another lock than the folder's own.
    pub fn locked(&self) -> StoreError {
        let root = self.context.root().ok().flatten();
        let location =
            root.map_or_else(|| self.context.errors.location(), |root| lock::location_with_holder(&root));
        StoreError::Locked { location }
    }

    /// Who holds the folder's lock, or held it last, as far as its file says that.
    pub fn holder(&self) -> Option<String> {
        self.context.root().ok().flatten().and_then(|root| lock::holder(&root))
    }

    /// How the vault was encrypted that was brought here last.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if it cannot be read or understood, which is never a first contact.
    pub async fn pin(&self) -> Result<FolderPin, StoreError> {
        self.run(|context| context.root()?.map_or(Ok(FolderPin::None), |root| pin::read(&root))).await
    }

    /// Has that written down before this store writes anything else.
    pub fn pin_before_writing(&self, pin: &Pin) {
        self.context.pin_before_writing(pin.clone());
    }

    /// Writes that down now if it was not, and the folder is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if it cannot be written.
    pub async fn keep_waiting_pin(&self) -> Result<(), StoreError> {
        self.run(Context::write_waiting_pin).await
    }

    /// Writes that down, durably. The folder is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if it cannot be written.
    pub async fn keep_pin(&self, pin: &Pin) -> Result<(), StoreError> {
        let pin = pin.clone();
        self.run(move |context| pin::write(&*context.make_root()?, &pin)).await
    }

    /// Runs `work` on a thread that may block.
    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Context) -> Result<T, StoreError> + Send + 'static,
    {
        let context = self.context.clone();
        blocking(move || work(&context)).await.unwrap_or_else(|stopped| Err(self.context.stopped(stopped)))
    }

    /// Does `work` for each of `items`, in order, on a thread that may block. The root is made first if `make` says so;
    /// without a root the answer is `without`.
    async fn for_each<I, T, F>(
        &self,
        items: Vec<I>,
        make: bool,
        without: fn() -> T,
        work: F,
    ) -> Vec<Result<T, StoreError>>
    where
        I: Send + 'static,
        T: Send + 'static,
        F: Fn(&Context, &Root, &mut Parents<'_>, &I) -> Result<T, StoreError> + Send + 'static,
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

#[async_trait]
impl Destination for FolderStore {
    fn location(&self) -> String {
        self.context.errors.location()
    }

    fn traits(&self) -> PlaceTraits {
        PlaceTraits { keeps_deleted: self.context.options.keep_deleted, ..PlaceTraits::default() }
    }

    fn admits(&self, path: &VaultPath) -> Result<(), StoreError> {
        self.context.admit(path)
    }

    async fn folds_names(&self, probe: FoldingProbe) -> Result<NameFolding, StoreError> {
        if let Some(folds) = self.context.options.folds_names {
            return Ok(folds);
        }
        self.run(move |context| {
            let root = context.root()?;
            if probe == FoldingProbe::LookOnly {
                return Ok(folding::seems_to_fold_names(root.as_deref(), &context.dest));
            }
            if *context.folds_case.get_or_init(|| folding::folds_case(root.as_deref(), &context.dest)) {
                return Ok(NameFolding::Case);
            }
            if probe == FoldingProbe::Case {
                return Ok(NameFolding::Nothing);
            }
            let root = root.map_or_else(|| context.make_root(), Ok)?;
            let folds = *context.folds_normalization.get_or_init(|| folding::folds_normalization(&root));
            Ok(if folds { NameFolding::Normalization } else { NameFolding::Nothing })
        })
        .await
    }

    async fn repository_parts(
        &self,
        folders: Vec<Option<VaultPath>>,
    ) -> Result<Vec<BTreeSet<RepositoryPart>>, StoreError> {
        self.run(move |context| match context.root()? {
            Some(root) => walk::repository_parts(&root, &folders),
            None => Ok(vec![BTreeSet::new(); folders.len()]),
        })
        .await
    }

    async fn have_folders(&self, folders: Vec<VaultPath>) -> Result<Vec<bool>, StoreError> {
        self.run(move |context| {
            let Some(root) = context.root()? else { return Ok(vec![false; folders.len()]) };
            let mut parents = Parents::new(&root);
            // What cannot be entered is met by the run.
            Ok(folders.iter().map(|folder| matches!(parents.find(Some(folder)), Ok(Some(_)))).collect())
        })
        .await
    }

    async fn is_empty(&self) -> Result<bool, StoreError> {
        self.run(|context| context.root()?.map_or(Ok(true), |root| walk::is_empty(&root))).await
    }

    async fn identify(&self, _known: Option<&str>) -> Result<MarkerFound, StoreError> {
        self.run(|context| {
            let Some(root) = context.root()? else { return Ok(MarkerFound::Absent) };
            // The marker of a folder that is not in its place any more says nothing of what is there now.
            scan::check_place(context, &root)?;
            marker::read(&root)
        })
        .await
    }

    async fn mark(&self, marker: &Marker) -> Result<Option<Marked>, StoreError> {
        let marker = marker.clone();
        self.run(move |context| marker::write(&*context.make_root()?, &marker)).await
    }

    async fn unmark(&self) -> Result<bool, StoreError> {
        self.run(|shared| shared.root()?.map_or(Ok(false), |root| marker::remove(&root))).await
    }

    async fn facts(&self, paths: Vec<VaultPath>) -> Result<Option<Vec<Option<LocalFacts>>>, StoreError> {
        self.run(move |context| {
            let Some(root) = context.root()? else { return Ok(Some(vec![None; paths.len()])) };
            let mut parents = Parents::new(&root);
            Ok(Some(paths.iter().map(|path| facts(&mut parents, path)).collect()))
        })
        .await
    }

    async fn scan(&self, input: ScanInput) -> Result<Option<LocalTree>, StoreError> {
        let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
        let stopped = stop.0.clone();
        self.run(move |context| scan::scan(context, &input, None, &stopped).map(Some)).await
    }

    async fn scan_few(
        &self,
        input: ScanInput,
        paths: Arc<HashSet<VaultPath>>,
    ) -> Result<Option<LocalTree>, StoreError> {
        let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
        let stopped = stop.0.clone();
        self.run(move |context| scan::scan(context, &input, Some(&paths), &stopped).map(Some)).await
    }

    async fn open_file(&self, path: &VaultPath) -> Result<OpenFile, StoreError> {
        let path = path.clone();
        self.run(move |context| scan::open(context, &path)).await
    }

    async fn look(&self, wanted: Vec<Wanted>) -> Result<Vec<Found>, StoreError> {
        self.run(move |context| {
            let Some(root) = context.root()? else {
                return Ok(vec![Found::Nothing; wanted.len()]);
            };
            let mut parents = Parents::new(&root);
            Ok(wanted.iter().map(|wanted| find(context, &mut parents, wanted)).collect())
        })
        .await
    }

    async fn check(&self, wanted: Vec<Wanted>) -> Result<Vec<Checked>, StoreError> {
        let read = |holds| Checked { holds, by: CheckedBy::Read };
        self.run(move |context| {
            let Some(root) = context.root()? else {
                return Ok(vec![read(false); wanted.len()]);
            };
            let mut parents = Parents::new(&root);
            Ok(wanted.iter().map(|wanted| read(holds(context, &mut parents, wanted))).collect())
        })
        .await
    }

    async fn free_space(&self) -> Result<Option<u64>, StoreError> {
        self.run(Context::free_space).await
    }

    async fn begin(&self, path: &VaultPath, meta: &FileMeta) -> Result<Box<dyn FileWriter>, StoreError> {
        self.context.admit(path)?;
        Ok(Box::new(FolderWriter::new(self.context.clone(), path.clone(), meta.clone())))
    }

    async fn recover(&self, path: &VaultPath, meta: &FileMeta) -> Result<Option<Staged>, StoreError> {
        self.context.admit(path)?;
        if self.context.has_no_leftover(meta.hash) {
            return Ok(None);
        }
        let (path, meta) = (path.clone(), meta.clone());
        self.run(move |context| context.recover(path, meta)).await
    }

    async fn copy(
        &self,
        from: &VaultPath,
        to: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Option<Staged>, StoreError> {
        let (from, to, meta) = (from.clone(), to.clone(), meta.clone());
        self.run(move |context| context.copy(&from, to, meta)).await
    }

    async fn prepare(&self, handles: Vec<String>) {
        let context = self.context.clone();
        // What goes wrong waits for whoever publishes it.
        let _ = blocking(move || {
            context.write_buffer.write_these(&handles);
            context.flush_behind();
        })
        .await;
    }

    async fn apply(&self, changes: Vec<Change>, _stop: &CancellationToken) -> Vec<ChangeOutcome> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for batch in ChangeBatch::split(changes) {
            match batch {
                ChangeBatch::Put(batch) => {
                    let answers = self.put(batch).await.into_iter();
                    outcomes.extend(answers.map(|answer| answer.map(Applied::Put).map_err(Rejected::Put)));
                }
                ChangeBatch::Remove(files) => {
                    let answers = self.remove_recorded(files).await.into_iter();
                    outcomes
                        .extend(answers.map(|answer| answer.map(Applied::Remove).map_err(Rejected::Other)));
                }
                ChangeBatch::MakeFolders(folders) => {
                    let answers = self.make_folders(folders).await.into_iter();
                    outcomes.extend(
                        answers.map(|answer| answer.map(Applied::MakeFolder).map_err(Rejected::Other)),
                    );
                }
                ChangeBatch::RemoveFolders(folders) => {
                    let answers = self.remove_empty(folders).await.into_iter();
                    outcomes.extend(
                        answers.map(|answer| answer.map(Applied::RemoveFolder).map_err(Rejected::Other)),
                    );
                }
            }
        }
        outcomes
    }

    async fn set_aside(&self, path: &VaultPath) -> Result<VaultPath, StoreError> {
        let path = path.clone();
        self.run(move |context| {
            context.admit(&path)?;
            let missing = || context.errors.not_found(Action::SetAside, path.as_str());
            let root = context.root_to_write()?.ok_or_else(missing)?;
            let dir = Parents::new(&root).find(path.parent().as_ref())?.ok_or_else(missing)?;
            conflict::set_aside(&root, &dir, &path)
        })
        .await
    }

    async fn keep_beside(&self, path: &VaultPath) -> Result<KeptBeside, StoreError> {
        match self.set_aside(path).await {
            Ok(kept_as) => Ok(KeptBeside { kept_as, expect: Expect::Absent }),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(self.context.errors.changed(path.as_str(), None))
            }
            Err(error) => Err(error),
        }
    }

    async fn has_taken(&self) -> Result<bool, StoreError> {
        self.run(Context::has_taken).await
    }

    async fn return_taken(
        &self,
        known: Vec<(VaultPath, Option<KnownContent>)>,
    ) -> Result<Vec<(Option<VaultPath>, VaultPath)>, StoreError> {
        self.run(move |context| context.return_taken(&known)).await
    }

    async fn put_back(&self, path: &VaultPath, kept: &KeptBeside) -> bool {
        let (path, kept_as) = (path.clone(), kept.kept_as.clone());
        let put_back = self.run(move |context| {
            let Some(root) = context.root_to_write()? else { return Ok(false) };
            let dir = Parents::new(&root).find(path.parent().as_ref())?;
            Ok(dir.is_some_and(|dir| conflict::put_back(&root, &dir, &path, &kept_as)))
        });
        put_back.await.unwrap_or(false)
    }

    async fn end_run(&self) {
        if let Err(error) = self.run(Context::end_trash_run).await {
            tracing::warn!(%error, "the trash cannot be swept");
        }
    }

    async fn flush(&self) -> Result<(), StoreError> {
        self.run(Context::flush).await
    }

    async fn discard_staged(&self) -> Result<(), StoreError> {
        self.run(Context::discard_staged).await
    }

    fn warnings(&self) -> Vec<String> {
        let untimed = self.context.untimed.load(Ordering::Relaxed).then(|| {
            "some files here belong to other users, who alone can set their times; their content is the vault's".to_owned()
        });
        untimed.into_iter().chain(std::mem::take(&mut *lock(&self.context.kept))).collect()
    }

    async fn list(&self) -> Result<Inventory, StoreError> {
        self.run(|context| context.root()?.map_or(Ok(Inventory::default()), |root| walk::list(&root))).await
    }
}

/// Stops a scan that nobody waits for any more: it may have to read a whole disk.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What the file system says of a file.
fn facts(parents: &mut Parents<'_>, path: &VaultPath) -> Option<LocalFacts> {
    let dir = parents.find(path.parent().as_ref()).ok().flatten()?;
    let found = entry::look(&*dir, path.file_name()).ok().flatten()?;
    let is_file = found.kind == Kind::File && spelling::is_named(&dir, path.file_name());
    is_file.then(|| found.local())
}

/// What is at a path: the content that is wanted, or which other one.
fn find(context: &Context, parents: &mut Parents<'_>, wanted: &Wanted) -> Found {
    let path = &wanted.path;
    let dir = match parents.find(path.parent().as_ref()) {
        Ok(Some(dir)) if !is_own(path) => dir,
        Ok(None) => return Found::Nothing,
        _ => return Found::Unknown,
    };
    let size = match entry::look(&*dir, path.file_name()) {
        Ok(Some(found)) if found.kind == Kind::File => found.size,
        Ok(None) => return Found::Nothing,
        _ => return Found::Unknown,
    };
    // A sparse file of terabytes is nothing that a vault ever had.
    if size > LARGEST_CONTENT {
        return Found::Unknown;
    }
    match entry::content_of(&*dir, path.file_name(), &[size]) {
        Ok(Some((Some(hash), facts))) if hash == wanted.hash && size == wanted.size => {
            context.hashes.note(path, hash, facts);
            Found::Wanted
        }
        Ok(Some((Some(hash), facts))) => Found::Other(KnownContent { hash, size: facts.size }),
        Ok(None) => Found::Nothing,
        _ => Found::Unknown,
    }
}

/// Whether a file has the wanted content. What cannot be read is not held.
fn holds(context: &Context, parents: &mut Parents<'_>, wanted: &Wanted) -> bool {
    let Wanted { path, hash, size } = wanted;
    let Ok(Some(dir)) = parents.find(path.parent().as_ref()) else {
        return false;
    };
    if is_own(path) {
        return false;
    }
    match entry::content_of(&*dir, path.file_name(), &[*size]) {
        Ok(Some((Some(content), facts))) if content == *hash => {
            context.hashes.note(path, content, facts);
            true
        }
        _ => false,
    }
}
