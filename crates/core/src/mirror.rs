//! `pull --mirror`: undoes local changes. Files that differ from the vault's last version go to the
//! destination's trash, which no scan covers; the full pull that follows fetches the vault's version.

use std::collections::HashMap;
use std::sync::Arc;

use obsync_protocol::{Uid, VaultPath};

use crate::destination::{DestinationError, DestinationExt, Removable, Removal};
use crate::error::PullError;
use crate::identity::MarkerFound;
use crate::journal::{JournalChange, JournalEntry, Side};
use crate::model::{Direction, Record};
use crate::problem::ProblemCode;
use crate::reconcile::Mode;
use crate::report::Report;
use crate::run::Run;
use crate::scan::{LocalFile, LocalTree, ScanInput};
use crate::state::{Commit, VaultState, commit_beside};

impl Run<'_> {
    /// Sets aside files that were changed or added here. Returns the mode of the pull that follows: if there
    /// are too many changes to undo, they stay, and only the vault's news is applied. `None` if the run is
    /// stopped.
    pub(crate) async fn take_back(&self, report: &mut Report) -> Result<Option<Mode>, PullError> {
        let known = self.state.load().await?;
        if known.direction != Direction::Pull || !known.listed || !self.is_known_place().await? {
            return Err(
                self.refused("obsync has no record of its files there; pull once without --mirror first")
            );
        }
        let records = Arc::new(self.state.all_records().await?);
        let filter = self.options.filter.clone();
        let input = ScanInput { records: records.clone(), filter };
        let Some(scanned) = self.stop.run_until_cancelled(self.destination.scan(input)).await else {
            return Ok(None);
        };
        let tree =
            scanned?.ok_or_else(|| self.refused("it cannot be scanned, so nothing can be reverted"))?;
        for sentence in crate::scan::sentences(&tree.unknown) {
            self.warn(sentence, report);
        }
        if tree.is_in_flux {
            return Err(self.refused("git is rewriting it; run the same command again when that is done"));
        }
        let files = self.state.files().await?;
        let count = tree.files.len() as u64;
        if !self.options.max_delete.allows(count, files.max(count)) {
            tree.files.iter().for_each(|file| report.leave(&file.path));
            return Ok(Some(Mode::Incremental));
        }
        report.set_aside.extend(tree.files.iter().map(|file| file.path.clone()));
        if !self.options.dry_run {
            // Files that are set aside are still recorded. If the run ends before the vault's version
            // arrives, a full pull is due.
            let state = VaultState { full_up_to: Some(0), ..known };
            commit_beside(self.state.as_ref(), Commit { state, ..Commit::default() }).await?;
            self.set_all_aside(tree, &records, report).await?;
        }
        Ok(Some(Mode::Full))
    }

    /// Moves files to the trash, and removes folders that are empty then and that the vault does not have.
    async fn set_all_aside(
        &self,
        tree: LocalTree,
        records: &[Record],
        report: &mut Report,
    ) -> Result<(), PullError> {
        let removable = |file: &LocalFile| Removable { path: file.path.clone(), content: file.content };
        let removals: Vec<Removable> = tree.files.iter().map(removable).collect();
        let outcomes = self.destination.remove_files(removals).await;
        let mut journal = Vec::new();
        for (file, outcome) in tree.files.iter().zip(outcomes) {
            match outcome {
                Ok(Removal::Removed) => journal.push(self.taken_back(&file.path)),
                Ok(Removal::Missing) => {}
                // The file was changed once more: the pull that follows keeps it under another name.
                Ok(Removal::Kept | Removal::Retained) => {
                    report.set_aside.retain(|path| *path != file.path);
                }
                Err(error) if error.is_fatal() => return Err(error.into()),
                Err(error) => {
                    report.set_aside.retain(|path| *path != file.path);
                    self.warn(format!("{} could not be set aside: {error}", file.path), report);
                }
            }
        }
        if !journal.is_empty() {
            let commit = Commit { journal, state: self.state.load().await?, ..Commit::default() };
            commit_beside(self.state.as_ref(), commit).await?;
        }
        let recorded: HashMap<&VaultPath, &Record> =
            records.iter().map(|record| (&record.path, record)).collect();
        let mut folders: Vec<VaultPath> =
            tree.folders.into_iter().filter(|path| !recorded.contains_key(path)).collect();
        folders.sort_by_key(|path| std::cmp::Reverse(path.segments().count()));
        // A folder that is not empty contains files that are not synced.
        let removed = self.destination.remove_folders(folders).await;
        if let Some(error) = removed.into_iter().filter_map(Result::err).find(DestinationError::is_fatal) {
            return Err(error.into());
        }
        Ok(self.destination.flush().await?)
    }

    /// The journal's line for a file that went to the trash. The vault's version gets its own.
    fn taken_back(&self, path: &VaultPath) -> JournalEntry {
        let device = Some(self.source.client.options().device.clone());
        let line = JournalEntry::new(Side::Here, JournalChange::Delete, path.clone(), Uid(0));
        JournalEntry { device, ..line }
    }

    async fn is_known_place(&self) -> Result<bool, PullError> {
        let Some(known) = self.state.load().await?.destination else { return Ok(false) };
        let found = self.destination.identify(None).await?;
        Ok(matches!(found, MarkerFound::Marker { marker, .. } if marker.id == known.id))
    }

    fn refused(&self, reason: &str) -> PullError {
        let (location, code) = (self.destination.location(), ProblemCode::Destination);
        DestinationError::Unavailable { location, reason: reason.to_owned(), code }.into()
    }
}
