//! The steps of a plan that need no server: records, times, and contents that are rescued before the plan
//! itself removes or overwrites them (a renamed file, a swap of two).

use std::collections::{HashMap, HashSet, VecDeque};
use std::mem::take;

use obsync_protocol::{ContentHash, VaultPath};
use tokio_util::sync::CancellationToken;

use crate::destination::{DestinationError, DestinationExt, Staged, Wanted};
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::ledger::NOTED;
use crate::model::{Record, RecordKind};
use crate::publish::{Origin, Publisher, Ready};
use crate::schedule::{FileRemoval, Schedule, Source, Target, Transfer};
use crate::shrinking::Shrinking;
use crate::space::NextRescues;
use crate::transfer::{Scout, Surveyed, wanted};

/// Contents rescued before their sources may be removed. Limits the space that a large rename takes. Not
/// fewer: ext4 searches long for an inode if a file is created right after others were removed
/// (docs/PERFORMANCE.md).
const BATCH: usize = 1024;
/// Times set between two checks for cancellation.
const TOUCHES: usize = 256;

/// Remaining rescues when the sources may be removed.
#[derive(Default)]
pub(crate) struct Rescued {
    /// Staged, but a file of the vault is still in their place.
    pub(crate) waiting: Vec<Ready>,
    /// Not staged: copies of contents that are published now, or contents that must be downloaded after all.
    pub(crate) later: Vec<Transfer>,
    /// Sources of these, to be removed once they are in place.
    pub(crate) sources: Vec<Renamed>,
}

/// Files to remove when their content is at other paths. Files of one content are together: each of a
/// thousand equal files can move to each of a thousand new paths.
pub(crate) struct Renamed {
    pub(crate) removals: Vec<FileRemoval>,
    /// The other paths.
    paths: Vec<VaultPath>,
}

impl Renamed {
    /// Also waits for the paths that get the same content from a later plan.
    pub(crate) fn wait_for(&mut self, plan: &Schedule) {
        let contents: HashSet<ContentHash> =
            self.removals.iter().map(|removal| removal.file.content.hash).collect();
        let transfers = plan.rescues.iter().chain(&plan.transfers);
        let of_content = transfers.filter(|transfer| contents.contains(&transfer.hash));
        let coming = of_content.flat_map(|transfer| &transfer.targets).map(|target| &target.path);
        let refused = plan.refused.iter().filter_map(|(entry, _)| match entry.kind {
            EntryKind::File { hash, .. } if contents.contains(&hash) => Some(&entry.path),
            _ => None,
        });
        self.paths.extend(coming.chain(refused).cloned());
    }
}

impl Publisher<'_, '_> {
    /// Records the changes that need no work, and commits them. Returns the rest of the plan.
    pub(crate) async fn note(&mut self, mut plan: Schedule) -> Result<Schedule, PullError> {
        for path in Shrinking::from(take(&mut plan.unchanged)) {
            self.ledger.unneeded(&path);
        }
        take(&mut plan.renewed).into_iter().for_each(|record| self.ledger.recorded(record));
        for (number, entry) in Shrinking::from(take(&mut plan.filtered)).enumerate() {
            self.ledger.filtered(&entry);
            if (number + 1) % NOTED == 0 {
                self.ledger.commit().await?;
            }
        }
        take(&mut plan.held_back).iter().for_each(|entry| self.ledger.held_back(entry));
        for (number, (entry, reason)) in take(&mut plan.refused).into_iter().enumerate() {
            self.ledger.refused(&entry, reason);
            if (number + 1) % NOTED == 0 {
                self.ledger.commit().await?;
            }
        }
        self.ledger.commit().await?;
        Ok(plan)
    }

    /// Checks files whose records are doubtful, and drops the records of those that differ.
    pub(crate) async fn doubt(&mut self, doubted: Vec<Wanted>) -> Result<(), PullError> {
        let present = self.destination.holds(doubted.clone()).await?;
        for (Wanted { path, .. }, _) in doubted.into_iter().zip(present).filter(|(_, present)| !present) {
            self.ledger.abandoned(path);
        }
        Ok(())
    }

    /// Sets times. A file that was changed here is left alone.
    pub(crate) async fn touch(&mut self, touches: Vec<Transfer>, scout: &Scout) -> Result<(), PullError> {
        for batch in touches.chunks(TOUCHES) {
            if self.stop.is_cancelled() {
                break;
            }
            let Surveyed { ready, missing: mut changed, unclear } = scout.survey(batch.to_vec()).await?;
            changed.extend(unclear.into_iter().map(|unclear| unclear.transfer));
            self.publish(ready).await?;
            // Changed after they were checked.
            changed.append(&mut self.refetch);
            let targets: Vec<(&Transfer, &Target)> = changed
                .iter()
                .flat_map(|transfer| transfer.targets.iter().map(move |target| (transfer, target)))
                .collect();
            let paths: Vec<VaultPath> = targets.iter().map(|(_, target)| target.path.clone()).collect();
            let known = self.state.records(&paths).await?;
            for ((transfer, target), known) in targets.into_iter().zip(known) {
                let kind = RecordKind::File(target.meta(transfer.hash, transfer.size));
                // A file that its user removed still counts as missing: its time was not the reason for
                // removing it.
                let witnessed = known.as_ref().is_some_and(|known| known.witnessed);
                // The facts identify a file that has another name now.
                let is_same = |known: &Record| known.file().is_some_and(|file| file.hash == transfer.hash);
                let facts = known.filter(is_same).and_then(|known| known.facts);
                self.ledger.recorded(Record { witnessed, facts, ..Record::new(target.path.clone(), kind) });
            }
            self.ledger.commit().await?;
        }
        Ok(())
    }

    /// Copies contents that the plan is about to remove or overwrite to their new paths, and removes each
    /// batch's sources as soon as its copies are durable.
    pub(crate) async fn rescue(
        &mut self,
        rescues: Vec<Transfer>,
        removals: &mut Vec<FileRemoval>,
        scout: &Scout,
        stop: &CancellationToken,
    ) -> Result<Rescued, PullError> {
        let mut rescued = Rescued::default();
        if rescues.is_empty() {
            return Ok(rescued);
        }
        let mut removable: HashMap<VaultPath, FileRemoval> =
            removals.drain(..).map(|removal| (removal.file.path.clone(), removal)).collect();
        let mut rest = VecDeque::from(rescues);
        while !rest.is_empty() && !stop.is_cancelled() {
            let waiting_bytes = rescued.waiting.iter().map(Ready::size).fold(0, u64::saturating_add);
            let NextRescues { mut batch, too_large, elsewhere } =
                self.next_rescues(&mut rest, BATCH, waiting_bytes).await?;
            let sources: Vec<(VaultPath, Vec<Target>)> = batch
                .iter()
                .chain(&too_large)
                .chain(&elsewhere)
                .filter_map(|transfer| Some((transfer.source.local()?.clone(), transfer.targets.clone())))
                .collect();
            let elsewhere = elsewhere.into_iter();
            rescued.later.extend(elsewhere.map(|transfer| Transfer { source: Source::Remote, ..transfer }));
            let present = scout.mark_present(&mut batch).await?;
            // A free path comes first: the others are copied from there.
            batch.iter_mut().for_each(|transfer| transfer.targets.sort_by_key(|target| target.obstructed));
            let staged = tokio::select! {
                biased;
                // Cancellation does not wait for all copies of a batch. None of them is visible, and all
                // sources are there.
                () = stop.cancelled() => break,
                staged = scout.stage_all(batch) => staged,
            };
            let (mut ready, mut copied) = (Vec::new(), HashSet::new());
            for (transfer, staged) in staged {
                if let (Ok(Some((_, Origin::Copied))), Some(source)) = (&staged, transfer.source.local()) {
                    copied.insert(source.clone());
                }
                self.rescue_one(transfer, staged, &mut ready, &mut rescued)?;
            }
            self.publish(ready).await?;
            let (mut done, missing) = (Vec::new(), self.missing_targets(&rescued));
            for (path, targets) in sources {
                let Some(removal) = removable.remove(&path) else { continue };
                let is_missing = targets.iter().any(|target| missing.contains(&target.path));
                // If both names are one file, nothing is left when the second is removed after the first was
                // created.
                let are_apart =
                    copied.contains(&path) && !targets.iter().any(|target| present.contains(&target.path));
                // A file that needs this place could never be put there if it stayed; the vault has its
                // content in any case.
                let may_stay = are_apart && !removal.in_the_way;
                let paths = targets.into_iter().map(|target| target.path).collect();
                let renamed = Renamed { removals: vec![removal], paths };
                match is_missing && may_stay {
                    true => rescued.sources.push(renamed),
                    false => done.push(renamed),
                }
            }
            self.remove_renamed(done).await?;
        }
        removals.extend(removable.into_values());
        Ok(rescued)
    }

    /// Takes out the removals of files whose content still has to be put at another path. Only one of several
    /// files with one content is the source of a copy, and a copy can fail.
    pub(crate) async fn keep_what_is_wanted(
        &self,
        removals: &mut Vec<FileRemoval>,
        transfers: &[Transfer],
        rescued: &Rescued,
    ) -> Result<Vec<Renamed>, PullError> {
        // A file that needs the place of another could never be put there if that stayed; the vault has its
        // content in any case. An empty file can be created without another one.
        let may_stay =
            |removal: &FileRemoval| !removal.in_the_way && removal.file.content.hash != ContentHash::EMPTY;
        let vanishing = removals.iter().filter(|removal| may_stay(removal));
        let vanishing: HashSet<ContentHash> = vanishing.map(|removal| removal.file.content.hash).collect();
        if vanishing.is_empty() {
            return Ok(Vec::new());
        }
        let waiting = rescued.waiting.iter().map(Ready::transfer);
        let coming = transfers.iter().chain(&rescued.later).chain(&self.refetch).chain(waiting);
        let coming: Vec<Transfer> =
            coming.filter(|transfer| vanishing.contains(&transfer.hash)).cloned().collect();
        // If names are folded, or through a link, a file that seems to be at its new path already may be the
        // one to be removed.
        let present = self.destination.holds(wanted(&coming)).await?;
        let mut present = present.into_iter();
        let mut renamed: HashMap<ContentHash, Renamed> = HashMap::new();
        let mut unclear = HashSet::new();
        for transfer in coming {
            let is_there = transfer.targets.iter().filter(|_| present.next().unwrap_or(false)).count() > 0;
            if is_there {
                unclear.insert(transfer.hash);
            }
            let of_content = renamed
                .entry(transfer.hash)
                .or_insert_with(|| Renamed { removals: Vec::new(), paths: Vec::new() });
            of_content.paths.extend(transfer.targets.into_iter().map(|target| target.path));
        }
        renamed.retain(|hash, _| !unclear.contains(hash));
        let kept = removals
            .extract_if(.., |removal| may_stay(removal) && renamed.contains_key(&removal.file.content.hash));
        for removal in kept.collect::<Vec<_>>() {
            if let Some(of_content) = renamed.get_mut(&removal.file.content.hash) {
                of_content.removals.push(removal);
            }
        }
        Ok(renamed.into_values().filter(|renamed| !renamed.removals.is_empty()).collect())
    }

    /// Targets of rescues that are neither in place nor known to be impossible.
    fn missing_targets(&self, rescued: &Rescued) -> HashSet<VaultPath> {
        let transfers = rescued.later.iter().chain(&self.refetch);
        let missing = transfers.flat_map(|transfer| &transfer.targets).map(|target| &target.path);
        missing.chain(rescued.waiting.iter().map(Ready::path)).cloned().collect()
    }

    /// Removes files whose content is at its other paths now; files with a failed path are kept.
    pub(crate) async fn remove_renamed(&mut self, files: Vec<Renamed>) -> Result<(), PullError> {
        let mut done = Vec::new();
        for Renamed { removals, paths } in files {
            match paths.iter().find(|path| self.ledger.has_deferred(path)) {
                None => done.extend(removals),
                Some(path) => {
                    removals.into_iter().for_each(|removal| self.keep_until_renamed(removal, path));
                }
            }
        }
        self.remove_files(done).await
    }

    /// Keeps a file until its new name can be created: the old name is better than none.
    fn keep_until_renamed(&mut self, removal: FileRemoval, new_path: &VaultPath) {
        let FileRemoval { file, uid, .. } = removal;
        let kind = EntryKind::Deleted { folder: false };
        let reason = format!("kept, because it could not be brought to its new name {:?}", new_path.as_str());
        self.ledger.failed(&RemoteEntry { path: file.path, uid, kind, mtime: 0, ctime: 0 }, reason);
    }

    fn rescue_one(
        &mut self,
        transfer: Transfer,
        staged: Result<Option<(Staged, Origin)>, DestinationError>,
        ready: &mut Vec<Ready>,
        rescued: &mut Rescued,
    ) -> Result<(), PullError> {
        match staged {
            Ok(None) => rescued.later.push(Transfer { source: Source::Remote, ..transfer }),
            Ok(Some((staged, origin))) if transfer.targets[0].obstructed => {
                rescued.waiting.extend(Ready::staged(staged, origin, transfer));
            }
            Ok(Some((staged, origin))) => {
                let (blocked, free): (Vec<Target>, Vec<Target>) =
                    transfer.targets.into_iter().partition(|target| target.obstructed);
                if !blocked.is_empty() {
                    let source = Source::Local(staged.path.clone());
                    rescued.later.push(Transfer { source, targets: blocked, ..transfer });
                }
                ready.extend(Ready::staged(staged, origin, Transfer { targets: free, ..transfer }));
            }
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => self.not_staged(transfer, &error.to_string()),
        }
        Ok(())
    }
}
