//! A dry run: checks everything that a run would check, and reports what it would do. Nothing is written.
//!
//! The decisions are those of the run itself ([`decide_content`]). Results that only a write can show are not
//! foreseen: a name that the file system refuses, a disk that fills up, content that an interrupted run left
//! staged.

use std::collections::{BTreeSet, HashSet};

use obsync_protocol::{ContentHash, Filter, VaultPath, Verdict};

use crate::accepted::Accepted;
use crate::destination::{DestinationError, DestinationExt, Found, Wanted};
use crate::entry::EntryKind;
use crate::error::PullError;
use crate::foreseen_copies::InTheWay;
use crate::history::Historian;
use crate::listing::Listing;
use crate::model::{DeferredKey, KnownContent, Record, RecordKind};
use crate::reconcile::{Action, Local, Reach, decide_content};
use crate::report::{Failure, Report, Step, StepAction};
use crate::run::Run;
use crate::schedule::{FileRemoval, FolderChange, Schedule, Source, Target, Transfer};
use crate::survey::Survey;
use crate::transfer::wanted;

/// Files checked at a time.
const BATCH: usize = 256;

/// The steps of a run, in its order.
struct Rehearsal<'r, 'a> {
    run: &'r Run<'a>,
    report: &'r mut Report,
    /// The destination is empty.
    is_empty: bool,
    historian: Option<Historian>,
    /// Files that a mirror would have set aside before.
    set_aside: HashSet<VaultPath>,
    /// Files that would be removed.
    removed: HashSet<VaultPath>,
    /// Folders already checked for a file in their place.
    cleared: HashSet<VaultPath>,
}

impl Report {
    /// Reports what a plan would exclude, hold back and refuse.
    pub(crate) fn describe(
        &mut self,
        plan: &Schedule,
        listing: &Listing,
        filter: &Filter,
        accepted: &Accepted,
    ) {
        plan.held_back.iter().for_each(|entry| self.hold_back(&entry.path, entry.is_folder()));
        for entry in &plan.filtered {
            if let (EntryKind::File { size, .. }, Verdict::Skip(reason)) =
                (entry.kind, filter.verdict(&entry.path, false))
            {
                self.skip(&entry.path, reason, size, filter);
            }
        }
        for (entry, reason) in &plan.refused {
            let (path, uid, reason) = (entry.path.as_str().to_owned(), entry.uid, reason.clone());
            self.refuse(&DeferredKey::plain(&entry.path), Failure { path, uid, reason }, accepted);
        }
        for refused in listing.refused.values() {
            if let Some((path, reason)) = refused.left_out_by(filter) {
                self.skip(path, reason, 0, filter);
            } else if let Some(failure) = Failure::of_deferred(&refused.deferred) {
                self.refuse(&refused.deferred.key, failure, accepted);
            }
        }
        let impossible = listing.impossible.iter();
        let named = impossible.filter(|(_, place)| place.left_out_by(filter, false).is_none());
        named.for_each(|(failure, _)| self.fail(failure.clone()));
    }

    fn refuse(&mut self, key: &DeferredKey, failure: Failure, accepted: &Accepted) {
        match accepted.covers(key, failure.uid) {
            true => self.accepted_failures += 1,
            false => self.fail(failure),
        }
    }
}

impl Run<'_> {
    /// Reports the effects of a plan.
    pub(crate) async fn rehearse(
        &self,
        plan: &Schedule,
        survey: &Survey,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let historian = (survey.reach != Reach::KeepEverything).then(|| match survey.disbelieved {
            true => Historian::new(self.source.client.clone(), self.target(), survey.version),
            false => self.historian(survey.version),
        });
        let set_aside = report.set_aside.iter().cloned().collect();
        let (removed, cleared) = (HashSet::new(), HashSet::new());
        let is_empty = survey.scout.is_empty;
        let mut rehearsal = Rehearsal { run: self, report, is_empty, historian, set_aside, removed, cleared };
        rehearsal.touches(&plan.touches).await?;
        rehearsal.rescues(&plan.rescues).await?;
        rehearsal.removals(&plan.removals).await?;
        rehearsal.folder_removals(&plan.folder_removals, plan).await?;
        rehearsal.folders(&plan.folders).await?;
        rehearsal.transfers(&plan.transfers).await?;
        let asked = rehearsal.historian.as_ref().map_or(0, Historian::connections);
        report.connections += 1 + asked;
        Ok(())
    }
}

impl Rehearsal<'_, '_> {
    fn step(&mut self, action: StepAction, path: &VaultPath, size: Option<u64>) {
        self.report.steps.push(Step { action, path: path.clone(), size, from: None });
    }

    /// No record would remain for a path: the file there is its user's, or there is none.
    fn forget(&mut self, path: &VaultPath) {
        self.report.foreseen.forgotten.insert(path.clone());
    }

    fn copy(&mut self, path: &VaultPath, size: u64, from: VaultPath) {
        self.report.copied.add(size);
        self.report.note_copy(path, &from);
        let step = Step { action: StepAction::Copy, path: path.clone(), size: Some(size), from: Some(from) };
        self.report.steps.push(step);
    }

    fn download(&mut self, path: &VaultPath, size: u64) {
        self.report.pulled.add(size);
        self.step(StepAction::Download, path, Some(size));
    }

    async fn holds(&self, wanted: Vec<Wanted>) -> Result<Vec<bool>, DestinationError> {
        if self.is_empty {
            return Ok(vec![false; wanted.len()]);
        }
        let gone = self.gone(&wanted);
        let present = self.run.destination.holds(wanted).await?;
        Ok(present.into_iter().zip(gone).map(|(present, gone)| present && !gone).collect())
    }

    async fn look(&self, wanted: Vec<Wanted>) -> Result<Vec<Found>, DestinationError> {
        if self.is_empty {
            return Ok(vec![Found::Nothing; wanted.len()]);
        }
        let gone = self.gone(&wanted);
        let found = self.run.destination.look(wanted).await?;
        Ok(found
            .into_iter()
            .zip(gone)
            .map(|(found, gone)| if gone { Found::Nothing } else { found })
            .collect())
    }

    /// For each file, true if a mirror would have set it aside before.
    fn gone(&self, wanted: &[Wanted]) -> Vec<bool> {
        wanted.iter().map(|wanted| self.set_aside.contains(&wanted.path)).collect()
    }

    /// True if a file has a content.
    async fn has(&self, path: &VaultPath, transfer: &Transfer) -> Result<bool, DestinationError> {
        let wanted = Wanted { path: path.clone(), hash: transfer.hash, size: transfer.size };
        Ok(self.holds(vec![wanted]).await?.first().copied().unwrap_or(false))
    }

    async fn touches(&mut self, touches: &[Transfer]) -> Result<(), DestinationError> {
        for batch in touches.chunks(BATCH) {
            for (transfer, is_present) in batch.iter().zip(self.holds(wanted(batch)).await?) {
                if is_present {
                    transfer
                        .targets
                        .iter()
                        .for_each(|target| self.step(StepAction::Touch, &target.path, None));
                }
            }
        }
        Ok(())
    }

    /// Contents that move from one path of the destination to others.
    async fn rescues(&mut self, rescues: &[Transfer]) -> Result<(), PullError> {
        for rescue in rescues {
            for (target, (action, local)) in rescue.targets.iter().zip(self.decide(rescue).await?) {
                self.beside(target, action, local).await?;
            }
            self.clear(folders_of(&rescue.targets)).await?;
            let source = match rescue.source.local() {
                Some(from) if self.has(from, rescue).await? => Some(from.clone()),
                _ => None,
            };
            self.bring(rescue, rescue.targets.iter().collect(), source);
        }
        Ok(())
    }

    async fn removals(&mut self, removals: &[FileRemoval]) -> Result<(), DestinationError> {
        let keeps = self.run.destination.traits().keeps_deleted;
        for batch in removals.chunks(BATCH) {
            let asked = batch.iter().map(|removal| Wanted {
                path: removal.file.path.clone(),
                hash: removal.file.content.hash,
                size: removal.file.content.size,
            });
            for (removal, found) in batch.iter().zip(self.look(asked.collect()).await?) {
                let path = &removal.file.path;
                match found {
                    Found::Nothing => self.forget(path),
                    _ if keeps => self.report.retained.add(removal.size),
                    Found::Wanted => {
                        self.removed.insert(path.clone());
                        self.report.count_removal(path, removal.size);
                        self.step(StepAction::Remove, path, Some(removal.size));
                    }
                    Found::Other(_) | Found::Unknown => {
                        self.report.kept.push(path.clone());
                        self.forget(path);
                    }
                }
            }
        }
        Ok(())
    }

    /// Folders that would be empty are removed.
    async fn folder_removals(
        &mut self,
        folders: &[FolderChange],
        plan: &Schedule,
    ) -> Result<(), DestinationError> {
        if folders.is_empty() {
            return Ok(());
        }
        let paths: Vec<VaultPath> = folders.iter().map(|folder| folder.path.clone()).collect();
        let present = self.run.destination.have_folders(paths).await?;
        let found = self.run.destination.list().await?;
        let mut stays: BTreeSet<String> = found.unreadable.into_iter().collect();
        let files = found.files.into_iter().map(|file| file.path);
        stays.extend(files.filter(|path| !self.removed.iter().any(|removed| removed.as_str() == path)));
        stays.extend(plan.wanted_paths().map(|path| path.as_str().to_owned()));
        for (FolderChange { path, .. }, present) in folders.iter().zip(present) {
            let stays = crate::schedule::is_at_or_below(path.as_str(), &stays);
            // Counted as in a run: also if it is gone already.
            self.report.folders_deleted += u64::from(!stays);
            match present && !stays {
                true => self.step(StepAction::RemoveFolder, path, None),
                false => self.forget(path),
            }
        }
        Ok(())
    }

    async fn folders(&mut self, folders: &[FolderChange]) -> Result<(), PullError> {
        let paths: Vec<VaultPath> = folders.iter().map(|folder| folder.path.clone()).collect();
        let present = match self.is_empty && self.run.destination.traits().has_folders {
            true => vec![false; paths.len()],
            false => self.run.destination.have_folders(paths).await?,
        };
        let absent = folders.iter().zip(&present).filter(|(_, present)| !**present);
        let in_the_way = absent.flat_map(|(folder, _)| folder.path.ancestors().chain([folder.path.clone()]));
        self.clear(in_the_way.collect()).await?;
        for (FolderChange { path, uid, .. }, present) in folders.iter().zip(present) {
            if present {
                let record = Record::seen(path.clone(), RecordKind::Folder(*uid), None);
                self.report.foreseen.records.push(record);
            }
            if !present {
                self.report.folders_created += 1;
                self.step(StepAction::CreateFolder, path, None);
                self.report.foreseen.arrivals.insert(path.clone());
            }
        }
        Ok(())
    }

    async fn transfers(&mut self, transfers: &[Transfer]) -> Result<(), PullError> {
        for transfer in transfers {
            let actions = self.decide(transfer).await?;
            let (mut missing, mut in_place) = (Vec::new(), None);
            for (target, (action, local)) in transfer.targets.iter().zip(actions) {
                if action != Action::Adopt {
                    self.beside(target, action, local).await?;
                    self.clear(folders_of(std::slice::from_ref(target))).await?;
                    missing.push(target);
                    continue;
                }
                in_place.get_or_insert_with(|| target.path.clone());
                if !target.is_recorded_as(transfer.hash) {
                    self.report.adopted.add(transfer.size);
                    self.step(StepAction::Adopt, &target.path, Some(transfer.size));
                    let kind = RecordKind::File(target.meta(transfer.hash, transfer.size));
                    let record = Record::seen(target.path.clone(), kind, None);
                    self.report.foreseen.records.push(record);
                } else if !target.recorded {
                    self.step(StepAction::Touch, &target.path, None);
                }
            }
            if missing.is_empty() {
                continue;
            }
            let source = match (in_place, &transfer.source) {
                (Some(path), _) => Some(path),
                (None, Source::Local(from)) if self.has(from, transfer).await? => Some(from.clone()),
                (None, _) => None,
            };
            // An empty content need not be copied.
            let source = source.filter(|_| transfer.hash != ContentHash::EMPTY);
            self.bring(transfer, missing, source);
        }
        Ok(())
    }

    /// Decides the action for each target of a transfer, with the state found there.
    async fn decide(&self, transfer: &Transfer) -> Result<Vec<(Action, Local)>, DestinationError> {
        let content = KnownContent { hash: transfer.hash, size: transfer.size };
        let mut actions = Vec::with_capacity(transfer.targets.len());
        let found = self.look(wanted(std::slice::from_ref(transfer))).await?;
        for (target, found) in transfer.targets.iter().zip(found) {
            let local = self.local(target, found, content).await;
            actions.push((decide_content(target.replaces, local, content), local));
        }
        Ok(actions)
    }

    async fn local(&self, target: &Target, found: Found, wanted: KnownContent) -> Local {
        match (found, &self.historian) {
            (Found::Nothing, _) => Local::Absent,
            (Found::Wanted, _) => Local::File(wanted),
            (Found::Other(content), Some(historian))
                if target.replaces.is_none() && historian.had(&target.path, content).await =>
            {
                Local::Earlier(content)
            }
            (Found::Other(content), _) => Local::File(content),
            (Found::Unknown, _) => Local::Other,
        }
    }

    /// A user's file is kept under another name.
    async fn beside(
        &mut self,
        target: &Target,
        action: Action,
        local: Local,
    ) -> Result<(), DestinationError> {
        let path = &target.path;
        if action != Action::KeepBoth || self.removed.contains(path) {
            return Ok(());
        }
        if target.obstructed && !self.leaves_something_in(path).await? {
            return Ok(());
        }
        let what = match local {
            Local::File(content) | Local::Earlier(content) => InTheWay::File(Some(content)),
            _ if self.run.destination.have_folders(vec![path.clone()]).await?.contains(&true) => {
                InTheWay::Folder
            }
            _ => InTheWay::File(None),
        };
        self.run.foresee_kept(path, what, self.report).await
    }

    /// True if a folder would still contain a user's file after the removals.
    async fn leaves_something_in(&mut self, folder: &VaultPath) -> Result<bool, DestinationError> {
        let files = self.run.files_here(self.report).await?.iter();
        let below = files.filter_map(|file| VaultPath::parse(file).ok()).filter(|file| file.is_below(folder));
        Ok(below.into_iter().any(|file| !self.removed.contains(&file)))
    }

    /// Users' files in place of these folders are kept under another name. The vault's files stay.
    async fn clear(&mut self, folders: BTreeSet<VaultPath>) -> Result<(), PullError> {
        if self.is_empty || !self.run.destination.traits().has_folders {
            return Ok(());
        }
        let new = folders.into_iter().filter(|folder| self.cleared.insert(folder.clone()));
        let mut folders: Vec<VaultPath> = new.collect();
        folders.retain(|folder| self.is_in_place(folder));
        if folders.is_empty() {
            return Ok(());
        }
        let Some(facts) = self.run.destination.facts(folders.clone()).await? else { return Ok(()) };
        let files = folders.into_iter().zip(facts).filter_map(|(path, facts)| facts.map(|_| path));
        let files: Vec<VaultPath> = files.collect();
        if files.is_empty() {
            return Ok(());
        }
        let records = self.run.state.records(&files).await?;
        for (path, record) in files.into_iter().zip(records) {
            if record.is_none() || self.report.foreseen.forgotten.contains(&path) {
                let content = self.run.content_at(&path).await?;
                self.run.foresee_kept(&path, InTheWay::File(content), self.report).await?;
            }
        }
        Ok(())
    }

    /// True if the file at a path would still be there.
    fn is_in_place(&self, path: &VaultPath) -> bool {
        !self.removed.contains(path) && !self.set_aside.contains(path) && !self.report.foreseen.leaves(path)
    }

    /// A content is put at these targets: at the first from `source` or the vault, at the others from the
    /// first.
    fn bring(&mut self, transfer: &Transfer, targets: Vec<&Target>, source: Option<VaultPath>) {
        let filter = &self.run.options.filter;
        for target in &targets {
            self.report.foreseen.arrivals.insert(target.path.clone());
            if !target.is_recorded_as(transfer.hash) {
                self.report.note_code(&target.path, filter);
            }
        }
        let mut targets = targets.into_iter();
        let from = match (source, targets.next()) {
            (_, None) => return,
            (Some(source), Some(first)) => {
                self.copy(&first.path, transfer.size, source);
                first.path.clone()
            }
            (None, Some(first)) => {
                self.download(&first.path, transfer.size);
                first.path.clone()
            }
        };
        targets.for_each(|target| self.copy(&target.path, transfer.size, from.clone()));
    }
}

/// Parent folders of targets.
fn folders_of(targets: &[Target]) -> BTreeSet<VaultPath> {
    targets.iter().flat_map(|target| target.path.ancestors()).collect()
}
