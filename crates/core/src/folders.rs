//! Removes files and folders, and creates folders.

use std::collections::{BTreeSet, HashSet};

use obsync_protocol::{Uid, VaultPath, decomposed, normalize_local_name};
use tokio_util::sync::CancellationToken;

use crate::destination::{DestinationError, DestinationExt, Removable, Removal};
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::journal::JournalChange;
use crate::model::{Record, RecordKind};
use crate::progress::FileAction;
use crate::publish::Publisher;
use crate::schedule::{FileRemoval, FolderChange};

/// Files removed between two checks for cancellation.
const BATCH: usize = 512;

impl Publisher<'_, '_> {
    /// Removes files that still have the content that obsync wrote, then empty folders: those that the vault
    /// removed, and those that existed only because a file was in them.
    pub(crate) async fn remove(
        &mut self,
        removals: Vec<FileRemoval>,
        folders: Vec<FolderChange>,
        stop: &CancellationToken,
    ) -> Result<(), PullError> {
        let mut rest = removals.into_iter().peekable();
        while rest.peek().is_some() && !stop.is_cancelled() {
            let batch: Vec<FileRemoval> = rest.by_ref().take(BATCH).collect();
            self.remove_files(batch).await?;
        }
        if !stop.is_cancelled() {
            self.remove_folders(folders).await?;
        }
        Ok(self.ledger.commit().await?)
    }

    /// Removes one batch of files and commits the result.
    pub(crate) async fn remove_files(&mut self, batch: Vec<FileRemoval>) -> Result<(), PullError> {
        let batch = self.without_those_of_others(batch).await?;
        if batch.is_empty() {
            return Ok(());
        }
        let parents: BTreeSet<VaultPath> =
            batch.iter().flat_map(|removal| removal.file.path.ancestors()).collect();
        let files: Vec<Removable> = batch.iter().map(|removal| removal.file.clone()).collect();
        self.announce_removals(&files).await?;
        let outcomes = self.destination.remove_files(files).await;
        // Before the records are removed: if the run dies here, the next one removes the folders when it
        // removes the files again.
        self.prune(parents).await?;
        self.destination.flush().await?;
        let mut fatal = None;
        for (outcome, FileRemoval { file, size, uid, counts, .. }) in outcomes.into_iter().zip(batch) {
            match outcome {
                Ok(removal) => {
                    match removal {
                        Removal::Retained => {
                            self.ledger.retained(file.path, size, uid);
                            continue;
                        }
                        Removal::Removed => {
                            self.ledger.report.note_removal(&file.path, size);
                            self.ledger.journal(JournalChange::Delete, &file.path, uid, None);
                            self.progress.file(&file.path, FileAction::Deleted);
                            self.ledger.deleted(u64::from(counts));
                        }
                        Removal::Missing => {}
                        Removal::Kept => {
                            self.progress.notice(&format!(
                                "kept {}: it was changed here and deleted in the vault",
                                file.path
                            ));
                            self.ledger.report.kept.push(file.path.clone());
                        }
                    }
                    self.ledger.forgotten(file.path, uid);
                }
                Err(error) if error.is_fatal() => {
                    self.ledger.removal_still_announced(file);
                    fatal = Some(error);
                }
                Err(error) => self.deletion_failed(file.path, uid, false, &error),
            }
        }
        self.ledger.commit().await?;
        fatal.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Takes out files that are not here: a missing name is found by its normal form, and that file may be
    /// another one of the vault, which has both names (`é` as one character and as two).
    async fn without_those_of_others(
        &mut self,
        batch: Vec<FileRemoval>,
    ) -> Result<Vec<FileRemoval>, PullError> {
        let forms = |removal: &FileRemoval| other_forms(&removal.file.path);
        let others: Vec<VaultPath> = batch.iter().flat_map(forms).collect();
        if others.is_empty() {
            return Ok(batch);
        }
        let records = self.state.records(&others).await?;
        let recorded = others.into_iter().zip(records).filter(|(_, record)| record.is_some());
        let recorded: HashSet<VaultPath> = recorded.map(|(path, _)| path).collect();
        let mut rest = Vec::with_capacity(batch.len());
        for removal in batch {
            let path = removal.file.path.clone();
            let twins = other_forms(&path).into_iter().filter(|other| recorded.contains(other));
            let names: Vec<VaultPath> = std::iter::once(path).chain(twins).collect();
            let found = match names.len() {
                1 => None,
                _ => self.destination.facts(names).await?,
            };
            match found.as_deref() {
                Some([Some(found), twins @ ..]) if twins.iter().flatten().any(|twin| twin == found) => {
                    self.ledger.forgotten(removal.file.path, removal.uid);
                }
                _ => rest.push(removal),
            }
        }
        Ok(rest)
    }

    /// Durably announces the files that are removed next. Otherwise a run that dies in between would leave a
    /// record of a missing file, and the vault can have the very content again at this path.
    async fn announce_removals(&mut self, files: &[Removable]) -> Result<(), PullError> {
        if self.destination.traits().keeps_deleted {
            return Ok(());
        }
        files.iter().cloned().for_each(|file| self.ledger.removal_still_announced(file));
        Ok(self.ledger.commit().await?)
    }

    /// Removes empty folders that the vault does not list: they existed only because something was in them.
    async fn prune(&mut self, folders: BTreeSet<VaultPath>) -> Result<(), PullError> {
        if !self.destination.traits().has_folders {
            return Ok(());
        }
        let folders: Vec<VaultPath> = folders.into_iter().collect();
        let records = self.state.records(&folders).await?;
        // Deeper paths sort after their parents.
        let implied = folders.into_iter().zip(records).rev().filter(|(_, record)| record.is_none());
        let outcomes = self.destination.remove_folders(implied.map(|(path, _)| path).collect()).await;
        match outcomes.into_iter().filter_map(Result::err).find(DestinationError::is_fatal) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    async fn remove_folders(&mut self, folders: Vec<FolderChange>) -> Result<(), PullError> {
        if folders.is_empty() {
            return Ok(());
        }
        let outcomes =
            self.destination.remove_folders(folders.iter().map(|folder| folder.path.clone()).collect()).await;
        self.prune(folders.iter().flat_map(|folder| folder.path.ancestors()).collect()).await?;
        self.destination.flush().await?;
        for (outcome, FolderChange { path, uid, .. }) in outcomes.into_iter().zip(folders) {
            match outcome {
                // A folder that is not empty has contents that are not the vault's (or not yet removed).
                Ok(removed) => {
                    self.ledger.report.folders_deleted += u64::from(removed);
                    if removed {
                        self.ledger.journal(JournalChange::DeleteFolder, &path, uid, None);
                    }
                    self.ledger.forgotten(path, uid);
                }
                Err(error) if error.is_fatal() => return Err(error.into()),
                Err(error) => self.deletion_failed(path, uid, true, &error),
            }
        }
        Ok(())
    }

    fn deletion_failed(&mut self, path: VaultPath, uid: Uid, folder: bool, error: &DestinationError) {
        let entry = RemoteEntry { path, uid, kind: EntryKind::Deleted { folder }, mtime: 0, ctime: 0 };
        self.ledger.failed(&entry, error.to_string());
    }

    /// Those of these folders that do not exist.
    pub(crate) async fn absent_folders(
        &self,
        folders: &[FolderChange],
    ) -> Result<Vec<FolderChange>, PullError> {
        if folders.is_empty() {
            return Ok(Vec::new());
        }
        let paths = folders.iter().map(|folder| folder.path.clone()).collect();
        let present = self.destination.have_folders(paths).await?;
        Ok(folders
            .iter()
            .zip(present)
            .filter(|(_, present)| !present)
            .map(|(folder, _)| folder.clone())
            .collect())
    }

    /// Counts those of these folders that were created together with files.
    pub(crate) async fn note_made(&mut self, absent: Vec<FolderChange>) -> Result<(), PullError> {
        if absent.is_empty() {
            return Ok(());
        }
        let paths = absent.iter().map(|folder| folder.path.clone()).collect();
        let present = self.destination.have_folders(paths).await?;
        for (folder, _) in absent.into_iter().zip(present).filter(|(_, present)| *present) {
            self.ledger.report.folders_created += 1;
            self.ledger.journal(JournalChange::CreateFolder, &folder.path, folder.uid, None);
        }
        Ok(())
    }

    /// Creates the vault's folders.
    pub(crate) async fn create_folders(&mut self, folders: Vec<FolderChange>) -> Result<(), PullError> {
        if folders.is_empty() {
            return Ok(());
        }
        let blocked = self.try_create_folders(folders).await?;
        let occupants = blocked.iter().filter_map(|(_, error)| error.occupant()).collect();
        let cleared = self.clear(occupants, &BTreeSet::new()).await?;
        let (retried, refused): (Vec<_>, Vec<_>) = blocked
            .into_iter()
            .partition(|(_, error)| error.occupant().is_some_and(|path| cleared.contains(&path)));
        let retried = retried.into_iter().map(|(folder, _)| folder).collect();
        let blocked_again = self.try_create_folders(retried).await?;
        for (FolderChange { path, uid, .. }, error) in refused.into_iter().chain(blocked_again) {
            // The folder may have existed once: with a record of it, the next attempt would find nothing to
            // do.
            self.ledger.abandoned(path.clone());
            let entry = RemoteEntry { path, uid, kind: EntryKind::Folder, mtime: 0, ctime: 0 };
            match error {
                DestinationError::NameTooLong { .. } | DestinationError::NameRefused { .. } => {
                    self.ledger.refused(&entry, error.to_string());
                }
                _ => self.ledger.failed(&entry, error.to_string()),
            }
        }
        Ok(self.ledger.commit().await?)
    }

    async fn try_create_folders(
        &mut self,
        folders: Vec<FolderChange>,
    ) -> Result<Vec<(FolderChange, DestinationError)>, PullError> {
        let mut blocked = Vec::new();
        let outcomes =
            self.destination.create_folders(folders.iter().map(|folder| folder.path.clone()).collect()).await;
        self.destination.flush().await?;
        for (outcome, folder) in outcomes.into_iter().zip(folders) {
            match outcome {
                Ok(made) => {
                    self.ledger.report.folders_created += u64::from(made);
                    if made {
                        self.ledger.journal(JournalChange::CreateFolder, &folder.path, folder.uid, None);
                    }
                    if folder.recorded && !made {
                        self.ledger.confirmed(folder.uid);
                    } else {
                        let kind = RecordKind::Folder(folder.uid);
                        self.ledger.recorded(Record::seen(folder.path, kind, None));
                    }
                }
                Err(error) if error.is_fatal() => return Err(error.into()),
                Err(error) => blocked.push((folder, error)),
            }
        }
        Ok(blocked)
    }
}

/// The composed and the decomposed form of a path, without the path itself.
fn other_forms(path: &VaultPath) -> Vec<VaultPath> {
    if path.as_str().is_ascii() {
        return Vec::new();
    }
    let composed = VaultPath::parse(&normalize_local_name(path.as_str())).ok();
    composed.into_iter().chain(decomposed(path)).filter(|form| form != path).collect()
}
