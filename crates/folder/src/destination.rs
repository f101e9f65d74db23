//! Implements the engine's traits of a [`Destination`] for a folder.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use obsync_core::blocking::{blocking, lock};
use obsync_core::{
    Applied, Change, ChangeBatch, ChangeOutcome, Checked, CheckedBy, Describe, Destination, DestinationError,
    Expect, FileMeta, FileWriter, FoldingProbe, Found, Inspect, Inventory, KeptBeside, KnownContent,
    LocalFacts, LocalTree, Marked, Marker, MarkerFound, Naming, OpenFile, PlaceTraits, RandomId, Receive,
    Rejected, Scan, ScanInput, Staged, Wanted,
};
use obsync_protocol::{NameFolding, RepositoryPart, VaultPath};
use tokio_util::sync::CancellationToken;

use super::context::{Context, is_own};
use super::entry::{self, Kind, LARGEST_CONTENT};
use super::error::Action;
use super::parents::Parents;
use super::writer::FolderWriter;
use super::{FolderDestination, conflict, folding, marker, place, scan, spelling, walk};

#[async_trait]
impl Describe for FolderDestination {
    fn location(&self) -> String {
        self.context().errors.location()
    }

    fn traits(&self) -> PlaceTraits {
        PlaceTraits { keeps_deleted: self.context().options.keep_deleted, ..PlaceTraits::default() }
    }

    async fn free_space(&self) -> Result<Option<u64>, DestinationError> {
        self.run(Context::free_space).await
    }

    async fn mounted_folders(&self) -> Result<Vec<VaultPath>, DestinationError> {
        self.run(|context| context.root()?.map_or(Ok(Vec::new()), |root| root.mounted_folders())).await
    }

    async fn free_space_below(&self, folder: &VaultPath) -> Result<Option<u64>, DestinationError> {
        let folder = folder.clone();
        self.run(move |context| Ok(context.root()?.and_then(|root| root.free_space_below(&folder)))).await
    }

    fn warnings(&self) -> Vec<String> {
        let untimed = self.context().untimed.load(Ordering::Relaxed).then(|| {
            "some files here belong to other users, who alone can set their times; their content is the vault's".to_owned()
        });
        untimed.into_iter().chain(std::mem::take(&mut *lock(&self.context().kept))).collect()
    }

    async fn identify(&self, _known: Option<&str>) -> Result<MarkerFound, DestinationError> {
        self.run(|context| {
            let Some(root) = context.root()? else { return Ok(MarkerFound::Absent) };
            // The marker of a folder that was moved away says nothing about the one in its place.
            place::check(context, &root)?;
            marker::read(&root)
        })
        .await
    }

    async fn look_at_place(&self, known: Option<RandomId>) -> Result<(), DestinationError> {
        let present = self.present.clone();
        self.run(move |context| {
            if let Some(anew) = place::find(context, known)? {
                *lock(&present) = Arc::new(anew);
            }
            Ok(())
        })
        .await
    }

    async fn mark(&self, marker: &Marker) -> Result<Option<Marked>, DestinationError> {
        let marker = marker.clone();
        self.run(move |context| marker::write(&*context.make_root()?, &marker)).await
    }

    async fn unmark(&self) -> Result<bool, DestinationError> {
        self.run(|shared| shared.root()?.map_or(Ok(false), |root| marker::remove(&root))).await
    }
}

#[async_trait]
impl Naming for FolderDestination {
    async fn folds_names(&self, probe: FoldingProbe) -> Result<NameFolding, DestinationError> {
        if let Some(folds) = self.context().options.folds_names {
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

    fn admits(&self, path: &VaultPath) -> Result<(), DestinationError> {
        self.context().admit(path)
    }

    fn longest_name_beside(&self, _path: &VaultPath) -> usize {
        self.context().name_max()
    }

    async fn repository_parts(
        &self,
        folders: Vec<Option<VaultPath>>,
    ) -> Result<Vec<BTreeSet<RepositoryPart>>, DestinationError> {
        self.run(move |context| match context.root()? {
            Some(root) => walk::repository_parts(&root, &folders),
            None => Ok(vec![BTreeSet::new(); folders.len()]),
        })
        .await
    }
}

#[async_trait]
impl Inspect for FolderDestination {
    async fn is_empty(&self) -> Result<bool, DestinationError> {
        self.run(|context| context.root()?.map_or(Ok(true), |root| walk::is_empty(&root))).await
    }

    async fn have_folders(&self, folders: Vec<VaultPath>) -> Result<Vec<bool>, DestinationError> {
        self.run(move |context| {
            let Some(root) = context.root()? else { return Ok(vec![false; folders.len()]) };
            let mut parents = Parents::new(&root);
            // The run itself will fail at folders that cannot be entered.
            Ok(folders.iter().map(|folder| matches!(parents.find(Some(folder)), Ok(Some(_)))).collect())
        })
        .await
    }

    async fn facts(
        &self,
        paths: Vec<VaultPath>,
    ) -> Result<Option<Vec<Option<LocalFacts>>>, DestinationError> {
        self.run(move |context| {
            let Some(root) = context.root()? else { return Ok(Some(vec![None; paths.len()])) };
            let mut parents = Parents::new(&root);
            Ok(Some(paths.iter().map(|path| facts(&mut parents, path)).collect()))
        })
        .await
    }

    async fn look(&self, wanted: Vec<Wanted>) -> Result<Vec<Found>, DestinationError> {
        self.run(move |context| {
            let Some(root) = context.root()? else {
                return Ok(vec![Found::Nothing; wanted.len()]);
            };
            let mut parents = Parents::new(&root);
            Ok(wanted.iter().map(|wanted| find(context, &mut parents, wanted)).collect())
        })
        .await
    }

    async fn check(&self, wanted: Vec<Wanted>) -> Result<Vec<Checked>, DestinationError> {
        self.run(move |context| {
            let Some(root) = context.root()? else {
                let absent = Checked { holds: false, is_unreadable: false, by: CheckedBy::Read };
                return Ok(vec![absent; wanted.len()]);
            };
            let mut parents = Parents::new(&root);
            Ok(wanted.iter().map(|wanted| check(context, &mut parents, wanted)).collect())
        })
        .await
    }

    async fn list(&self) -> Result<Inventory, DestinationError> {
        self.run(|context| context.root()?.map_or(Ok(Inventory::default()), |root| walk::list(&root))).await
    }
}

#[async_trait]
impl Scan for FolderDestination {
    async fn scan(&self, input: ScanInput) -> Result<Option<LocalTree>, DestinationError> {
        let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
        let stopped = stop.0.clone();
        self.run(move |context| scan::scan(context, &input, None, &stopped).map(Some)).await
    }

    async fn scan_few(
        &self,
        input: ScanInput,
        paths: Arc<HashSet<VaultPath>>,
    ) -> Result<Option<LocalTree>, DestinationError> {
        let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
        let stopped = stop.0.clone();
        self.run(move |context| scan::scan(context, &input, Some(&paths), &stopped).map(Some)).await
    }

    async fn open_file(&self, path: &VaultPath) -> Result<OpenFile, DestinationError> {
        let path = path.clone();
        self.run(move |context| scan::open(context, &path)).await
    }
}

#[async_trait]
impl Receive for FolderDestination {
    async fn begin(
        &self,
        path: &VaultPath,
        meta: &FileMeta,
    ) -> Result<Box<dyn FileWriter>, DestinationError> {
        self.context().admit(path)?;
        Ok(Box::new(FolderWriter::new(self.context(), path.clone(), meta.clone())))
    }

    async fn recover(&self, path: &VaultPath, meta: &FileMeta) -> Result<Option<Staged>, DestinationError> {
        self.context().admit(path)?;
        if self.context().has_no_leftover(meta.hash) {
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
    ) -> Result<Option<Staged>, DestinationError> {
        let (from, to, meta) = (from.clone(), to.clone(), meta.clone());
        self.run(move |context| context.copy(&from, to, meta)).await
    }

    async fn prepare(&self, handles: Vec<String>) {
        let context = self.context();
        // Errors are reported when the files are published.
        let _ = blocking(move || {
            context.write_buffer.write_these(&handles);
            context.flush_behind();
        })
        .await;
    }

    async fn discard_staged(&self) -> Result<(), DestinationError> {
        self.run(Context::discard_staged).await
    }
}

#[async_trait]
impl Destination for FolderDestination {
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

    async fn flush(&self) -> Result<(), DestinationError> {
        self.run(Context::flush).await
    }

    async fn set_aside(&self, path: &VaultPath) -> Result<VaultPath, DestinationError> {
        let path = path.clone();
        self.run(move |context| {
            context.admit(&path)?;
            let missing = || context.errors.not_found(Action::SetAside, path.as_str());
            let root = context.root_to_write()?.ok_or_else(missing)?;
            let dir = Parents::new(&root).find(path.parent().as_ref())?.ok_or_else(missing)?;
            conflict::set_aside(context, &root, &dir, &path)
        })
        .await
    }

    async fn keep_beside(&self, path: &VaultPath) -> Result<KeptBeside, DestinationError> {
        match self.set_aside(path).await {
            Ok(kept_as) => Ok(KeptBeside { kept_as, expect: Expect::Absent }),
            Err(DestinationError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(self.context().errors.changed(path.as_str(), None))
            }
            Err(error) => Err(error),
        }
    }

    async fn put_back(&self, path: &VaultPath, kept: &KeptBeside) -> bool {
        let (path, kept_as) = (path.clone(), kept.kept_as.clone());
        let put_back = self.run(move |context| {
            let Some(root) = context.root_to_write()? else { return Ok(false) };
            let dir = Parents::new(&root).find(path.parent().as_ref())?;
            context.rights.forget(&path);
            Ok(dir.is_some_and(|dir| conflict::put_back(&root, &dir, &path, &kept_as)))
        });
        put_back.await.unwrap_or(false)
    }

    async fn has_taken(&self, everywhere: bool) -> Result<bool, DestinationError> {
        self.run(move |context| context.has_taken(everywhere)).await
    }

    async fn return_taken(
        &self,
        known: Vec<(VaultPath, Option<KnownContent>)>,
    ) -> Result<Vec<(Option<VaultPath>, VaultPath)>, DestinationError> {
        self.run(move |context| context.return_taken(&known)).await
    }

    async fn return_beside(
        &self,
        known: Vec<(VaultPath, Option<KnownContent>)>,
    ) -> Result<Vec<(Option<VaultPath>, VaultPath)>, DestinationError> {
        self.run(move |context| context.return_beside(&known)).await
    }

    async fn end_run(&self) {
        if let Err(error) = self.run(Context::end_trash_run).await {
            tracing::warn!(%error, "the trash cannot be swept");
        }
    }
}

/// Stops an abandoned scan: it may have to read a whole disk.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Facts of a file.
fn facts(parents: &mut Parents<'_>, path: &VaultPath) -> Option<LocalFacts> {
    let dir = parents.find(path.parent().as_ref()).ok().flatten()?;
    let spelling = spelling::other_spelling(&dir, path.file_name());
    let name = spelling.as_deref().unwrap_or(path.file_name());
    let found = entry::look(&*dir, name).ok().flatten()?;
    let is_file = found.kind == Kind::File && spelling::is_named(&dir, name);
    is_file.then(|| found.local())
}

/// The state of a path: the wanted content, another one, or none.
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
    // A sparse file of terabytes never was in a vault.
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

/// Reads a file to compare its content with the wanted one.
fn check(context: &Context, parents: &mut Parents<'_>, wanted: &Wanted) -> Checked {
    let Wanted { path, hash, size } = wanted;
    let found = match parents.find(path.parent().as_ref()) {
        Ok(Some(dir)) if !is_own(path) => {
            entry::content_of(&*dir, path.file_name(), &[*size]).map_err(|error| error.to_string())
        }
        Ok(_) => Ok(None),
        Err(error) => Err(error.to_string()),
    };
    let holds = match &found {
        Ok(Some((Some(content), facts))) if content == hash => {
            context.hashes.note(path, *content, *facts);
            true
        }
        Ok(_) => false,
        Err(error) => {
            tracing::debug!(%path, error, "cannot be read");
            false
        }
    };
    Checked { holds, is_unreadable: found.is_err(), by: CheckedBy::Read }
}
