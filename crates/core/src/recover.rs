//! Determines which files a dead run had put in place or removed.

use obsync_protocol::{Uid, VaultPath};

use crate::destination::{
    Destination, DestinationExt, Expect, Found, Publication, PublicationContent, Removable, Wanted,
};
use crate::entry::RemoteEntry;
use crate::error::PullError;
use crate::journal::JournalEntry;
use crate::listing::Listing;
use crate::model::{FileMeta, Intent, KnownContent, Record};
use crate::publish::publish_announced;
use crate::reconcile::Mode;
use crate::report::{Conflict, Report};
use crate::run::Run;
use crate::state::{Commit, StateStore, VaultState, commit_beside};

/// Results for files whose removal was announced.
#[derive(Default)]
struct Recovered {
    /// Not there, or not as recorded.
    forgotten: Vec<VaultPath>,
    /// Could not be checked.
    unclear: Vec<VaultPath>,
}

/// Returns users' files that a killed run had moved out of their places, without another run. Returns the
/// paths of those that have another name now, with these names.
///
/// # Errors
///
/// When the state or the destination cannot be read or written.
pub async fn return_taken(
    destination: &dyn Destination,
    state: &dyn StateStore,
) -> Result<Vec<(VaultPath, VaultPath)>, PullError> {
    return_from(destination, state, &state.intents().await?, true).await
}

/// The same for the run with these intents; [`Destination::has_taken`] explains `everywhere`.
async fn return_from(
    destination: &dyn Destination,
    state: &dyn StateStore,
    intents: &[Intent],
    everywhere: bool,
) -> Result<Vec<(VaultPath, VaultPath)>, PullError> {
    let announced: Vec<_> = intents.iter().filter_map(announced_change).collect();
    let mut returned = Vec::new();
    if destination.has_taken(everywhere).await? {
        let records = state.all_records().await?.into_iter().map(|record| (record.path, None));
        // Announced changes come last: the last of two entries of one path counts.
        let known = records.chain(announced.iter().cloned()).collect();
        returned = destination.return_taken(known).await?;
    }
    if !announced.is_empty() {
        returned.extend(destination.return_beside(announced).await?);
    }
    let named = |(path, kept_as): (Option<VaultPath>, _)| {
        (path.unwrap_or_else(|| VaultPath::clone(&kept_as)), kept_as)
    };
    Ok(returned.into_iter().map(named).collect())
}

impl Run<'_> {
    /// Returns users' files that a killed run had moved out of their places. `intents` are that run's,
    /// `known` is the state.
    pub(crate) async fn return_taken(
        &self,
        mode: Mode,
        known: &VaultState,
        intents: &[Intent],
        report: &mut Report,
    ) -> Result<(), PullError> {
        // A run announces a file before it moves it, or makes a full run due, as `--mirror` does. A new state
        // has no intents.
        let is_due = mode == Mode::Full || known.version == 0 || known.full_up_to.is_some();
        let everywhere = is_due || !intents.is_empty();
        if self.options.dry_run {
            return Ok(());
        }
        let mut journal = Vec::new();
        let (destination, state) = (self.destination.as_ref(), self.state.as_ref());
        for (path, kept_as) in return_from(destination, state, intents, everywhere).await? {
            self.progress.notice(&format!("kept what was at {path} as {kept_as}"));
            journal.push(JournalEntry::conflicted_copy(&path, &kept_as, Uid(0), report.device.clone()));
            report.conflicts.push(Conflict { path, kept_as });
        }
        if journal.is_empty() {
            return Ok(());
        }
        let state = self.state.load().await?;
        let intents = intents.to_vec();
        Ok(self.state.commit(Commit { journal, state, intents, ..Commit::default() }).await?)
    }

    /// Records files that a dead run had put in place but not recorded yet, and drops the records of those
    /// that it had removed. Returns the paths for which that is unknown.
    pub(crate) async fn recover(
        &self,
        known: &VaultState,
        announced: Vec<Intent>,
        report: &mut Report,
    ) -> Result<Vec<VaultPath>, PullError> {
        if announced.is_empty() || self.options.dry_run {
            return Ok(Vec::new());
        }
        let records = self.recover_placed(&announced).await?;
        let Recovered { forgotten, unclear } = self.recover_removed(&announced).await?;
        let is_unclear =
            |intent: &Intent| matches!(intent, Intent::Remove { path, .. } if unclear.contains(path));
        let intents = announced.into_iter().filter(|intent| intent.is_push() || is_unclear(intent)).collect();
        let sizes: Vec<u64> = records.iter().filter_map(|record| Some(record.file()?.size)).collect();
        let state = known.clone();
        self.state.commit(Commit { records, forgotten, state, intents, ..Commit::default() }).await?;
        // The dead run did not report them.
        self.progress.planned(sizes.len() as u64, sizes.iter().sum());
        for size in sizes {
            report.adopted.add(size);
            self.progress.placed(size);
        }
        Ok(unclear)
    }

    /// Drops the records of files that the vault has again, if it is unknown whether a dead run had removed
    /// them: the records would claim that they are here. A file that is still deleted needs its record to be
    /// removed.
    pub(crate) async fn forget_relisted(
        &self,
        unclear: Vec<VaultPath>,
        listing: &Listing,
        known: &VaultState,
    ) -> Result<(), PullError> {
        let is_live = |path: &VaultPath| listing.entries.get(path).is_some_and(RemoteEntry::is_live);
        let forgotten: Vec<VaultPath> = unclear.into_iter().filter(is_live).collect();
        if forgotten.is_empty() {
            return Ok(());
        }
        let commit = Commit { forgotten, state: known.clone(), ..Commit::default() };
        Ok(commit_beside(self.state.as_ref(), commit).await?)
    }

    /// Records of announced files that are in place.
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
        // Published again in place: that run may have died before the file was durable.
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
        // After an error that ends the run, announced files stay announced for a run that can settle them.
        let published = publish_announced(self.destination.as_ref(), publications).await?;
        for (record, published) in records.into_iter().zip(published) {
            match published {
                Ok(published) => placed.push(Record::seen(record.path, record.kind, published.facts)),
                Err(error) => tracing::debug!(%error, "not what was announced"),
            }
        }
        Ok(placed)
    }

    /// Files whose removal was announced and that are no longer as recorded: the vault may have undone the
    /// deletion, and their records would claim that they are here.
    async fn recover_removed(&self, intents: &[Intent]) -> Result<Recovered, PullError> {
        let announced = intents.iter().filter_map(|intent| match intent {
            Intent::Remove { path, content } => Some(Removable { path: path.clone(), content: *content }),
            _ => None,
        });
        let announced: Vec<Removable> = announced.collect();
        let mut recovered = Recovered::default();
        if announced.is_empty() {
            return Ok(recovered);
        }
        self.finish_carrying(&announced).await?;
        let wanted = announced.into_iter().map(|Removable { path, content }| {
            let KnownContent { hash, size } = content;
            Wanted { path, hash, size }
        });
        let wanted: Vec<Wanted> = wanted.collect();
        let found = self.destination.look(wanted.clone()).await?;
        for (Wanted { path, .. }, found) in wanted.into_iter().zip(found) {
            match found {
                Found::Wanted => {}
                // Below an unmounted file system all files seem to be missing.
                Found::Nothing | Found::Other(_) if self.destination.admits(&path).is_ok() => {
                    recovered.forgotten.push(path);
                }
                Found::Nothing | Found::Other(_) | Found::Unknown => recovered.unclear.push(path),
            }
        }
        Ok(recovered)
    }
}

/// The path of an announced change of this place, and the content that was to be put there.
fn announced_change(intent: &Intent) -> Option<(VaultPath, Option<KnownContent>)> {
    match intent {
        Intent::Place(record) => Some((record.path.clone(), record.file().map(KnownContent::from))),
        Intent::Exchange { path, expected, .. } => Some((path.clone(), *expected)),
        Intent::Remove { path, .. } => Some((path.clone(), None)),
        Intent::Push { .. } => None,
    }
}
