//! Finds out what a run that died had put in place or removed.

use std::collections::HashMap;

use obsync_protocol::{Uid, VaultPath};

use crate::destination::{
    DestinationError, DestinationExt, Expect, Found, Publication, PublicationContent, Removable, Wanted,
};
use crate::error::PullError;
use crate::journal::JournalEntry;
use crate::model::{FileMeta, Intent, KnownContent, Record};
use crate::publish::publish_announced;
use crate::report::{Conflict, Report};
use crate::run::Run;
use crate::state::{Commit, VaultState};

impl Run<'_> {
    /// Gives users their files back that a run which was killed had taken out of their places.
    pub(crate) async fn return_taken(&self, report: &mut Report) -> Result<(), PullError> {
        if self.options.dry_run || !self.destination.has_taken().await? {
            return Ok(());
        }
        let records = self.state.all_records().await?.into_iter().map(|record| (record.path, None));
        let intents = self.state.intents().await?;
        let announced = intents.iter().filter_map(Intent::placed);
        let announced = announced.map(|record| (record.path.clone(), record.file().map(KnownContent::from)));
        let exchanged = intents.iter().filter_map(|intent| match intent {
            Intent::Exchange { path, expected, .. } => Some((path.clone(), *expected)),
            _ => None,
        });
        let mut journal = Vec::new();
        // What is announced comes last: of two entries of one path it counts.
        for (path, kept_as) in
            self.destination.return_taken(records.chain(announced).chain(exchanged).collect()).await?
        {
            let path = path.unwrap_or_else(|| kept_as.clone());
            self.progress.notice(&format!("kept what was at {path} as {kept_as}"));
            journal.push(JournalEntry::conflicted_copy(&path, &kept_as, Uid(0), report.device.clone()));
            report.conflicts.push(Conflict { path, kept_as });
        }
        if journal.is_empty() {
            return Ok(());
        }
        let state = self.state.load().await?;
        Ok(self.state.commit(Commit { journal, state, intents, ..Commit::default() }).await?)
    }

    /// Records what a run that died had put in place but not recorded yet, and claims nothing any more of what it had removed.
    pub(crate) async fn recover(&self, known: &VaultState, report: &mut Report) -> Result<(), PullError> {
        let intents = self.state.intents().await?;
        if intents.is_empty() || self.options.dry_run {
            return Ok(());
        }
        let mut records = self.recover_placed(&intents).await?;
        records.extend(self.recover_carried(&intents).await?);
        let forgotten = self.recover_removed(&intents).await?;
        let pushes: Vec<Intent> = intents.into_iter().filter(Intent::is_push).collect();
        let sizes: Vec<u64> = records.iter().filter_map(|record| Some(record.file()?.size)).collect();
        let state = known.clone();
        self.state.commit(Commit { records, forgotten, state, intents: pushes, ..Commit::default() }).await?;
        // To that run they do not count: it did not come to say so.
        self.progress.planned(sizes.len() as u64, sizes.iter().sum());
        for size in sizes {
            report.adopted.add(size);
            self.progress.placed(size);
        }
        Ok(())
    }

    /// The records of announced files that are in place.
    async fn recover_placed(&self, intents: &[Intent]) -> Result<Vec<Record>, PullError> {
        let announced = intents.iter().filter_map(Intent::placed);
        let files: Vec<(&VaultPath, &FileMeta)> =
            announced.filter_map(|record| Some((&record.path, record.file()?))).collect();
        let wanted = files.iter().map(|(path, meta)| Wanted {
            path: (*path).clone(),
            hash: meta.hash,
            size: meta.size,
        });
        let present = self.destination.holds(wanted.collect()).await?;
        // Published once more, in place: that run may have died before it was durable.
        let publications =
            files.into_iter().zip(present).filter(|(_, present)| *present).map(|((path, meta), _)| {
                Publication {
                    content: PublicationContent::InPlace { path: path.clone(), meta: meta.clone() },
                    expect: Expect::Content(meta.into()),
                }
            });
        let publications: Vec<Publication> = publications.collect();
        let records: Vec<Record> =
            publications.iter().map(|publication| publication.content.record()).collect();
        let mut placed = Vec::new();
        // After an error that ends the run, what was announced stays so for a run that can find out what became of it.
        let published = publish_announced(self.destination.as_ref(), publications).await?;
        for (record, published) in records.into_iter().zip(published) {
            match published {
                Ok(published) => placed.push(Record::seen(record.path, record.kind, published.facts)),
                Err(error) => tracing::debug!(%error, "not what was announced"),
            }
        }
        Ok(placed)
    }

    /// Ends what was begun with files that were edited here and renamed in the vault ([`Run::carry_edits`]): where the edit is at
    /// its new path, it goes from the old one. The records of the new paths say what the vault has there.
    async fn recover_carried(&self, intents: &[Intent]) -> Result<Vec<Record>, PullError> {
        let removals: HashMap<KnownContent, &VaultPath> = intents
            .iter()
            .filter_map(|intent| match intent {
                Intent::Remove { path, content } => Some((*content, path)),
                _ => None,
            })
            .collect();
        let placed: Vec<(&Record, &FileMeta)> = intents
            .iter()
            .filter_map(Intent::placed)
            .filter_map(|record| Some((record, record.file()?)))
            .collect();
        if removals.is_empty() || placed.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = placed.iter().map(|(record, meta)| Wanted {
            path: record.path.clone(),
            hash: meta.hash,
            size: meta.size,
        });
        let found = self.destination.look(wanted.collect()).await?;
        let (mut carried, mut old) = (Vec::new(), Vec::new());
        for ((record, _), found) in placed.into_iter().zip(found) {
            if let Found::Other(content) = found
                && let Some(from) = removals.get(&content)
            {
                carried.push(Record::seen(record.path.clone(), record.kind.clone(), None));
                old.push(Removable { path: (*from).clone(), content });
            }
        }
        let outcomes = self.destination.remove_files(old).await;
        self.destination.flush().await?;
        match outcomes.into_iter().filter_map(Result::err).find(DestinationError::is_fatal) {
            Some(error) => Err(error.into()),
            None => Ok(carried),
        }
    }

    /// The paths of files whose removal was announced and that are not there any more as they are recorded: the vault may have
    /// taken the deletion back, and the record would say that the file is here.
    async fn recover_removed(&self, intents: &[Intent]) -> Result<Vec<VaultPath>, PullError> {
        let announced = intents.iter().filter_map(|intent| match intent {
            Intent::Remove { path, content } => {
                Some(Wanted { path: path.clone(), hash: content.hash, size: content.size })
            }
            _ => None,
        });
        let announced: Vec<Wanted> = announced.collect();
        if announced.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.destination.look(announced.clone()).await?;
        // What cannot be looked at (a file system that is not mounted) may be there.
        let is_missing = |found: &Found| matches!(found, Found::Nothing | Found::Other(_));
        let missing = announced.into_iter().zip(found).filter(|(_, found)| is_missing(found));
        Ok(missing.map(|(wanted, _)| wanted.path).collect())
    }
}
