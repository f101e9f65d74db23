//! Resolves a file and a folder that two sides created at the same path at the same time: the file is
//! renamed.
//!
//! The protocol does not detect this conflict, so a vault can list a file and entries below it. The file is
//! kept here under another name and the folder's contents are fetched. The following scan then sends both:
//! the copy, and the folder in place of the file.

use std::collections::HashSet;

use obsync_protocol::{Uid, VaultPath};

use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::foreseen_copies::InTheWay;
use crate::journal::JournalEntry;
use crate::model::{KnownContent, LocalFacts};
use crate::report::{Conflict, Report, Step, StepAction};
use crate::run::Run;
use crate::scan::LocalFile;
use crate::state::{Commit, commit_beside};
use crate::survey::Survey;

impl Run<'_> {
    /// Renames the files below which the vault lists entries, and takes them out of the listing.
    pub(crate) async fn give_way(&self, survey: &mut Survey, report: &mut Report) -> Result<(), PullError> {
        let live = survey.listing.entries.iter().filter(|entry| entry.is_live());
        let folders: HashSet<VaultPath> = live.flat_map(|entry| entry.path.ancestors()).collect();
        let is_file = |entry: &&RemoteEntry| matches!(entry.kind, EntryKind::File { .. });
        let entries = survey.listing.entries.iter().filter(is_file);
        let files: Vec<RemoteEntry> =
            entries.filter(|entry| folders.contains(&entry.path)).cloned().collect();
        for file in files {
            let path = &file.path;
            let records = self.state.records(std::slice::from_ref(path)).await?;
            let recorded = records.iter().flatten().find_map(|record| Some(record.file()?.hash));
            // The local file is the listed one or was made from it; a newer version in the vault is kept as
            // well.
            let is_recorded = matches!(file.kind, EntryKind::File { hash, .. } if recorded == Some(hash));
            let facts = self.destination.facts(vec![path.clone()]).await?;
            let is_here = facts.is_some_and(|facts| facts.iter().any(Option::is_some));
            if self.options.dry_run {
                let is_recorded = is_recorded && !survey.disbelieved;
                self.foresee_giving_way(&file, is_here, is_recorded, report).await?;
                survey.listing.entries.remove(path);
                continue;
            }
            let mut journal = Vec::new();
            if is_here {
                let kept_as = self.destination.set_aside(path).await?;
                self.progress
                    .notice(&format!("{path} is a folder in the vault, too; kept the file as {kept_as}"));
                journal.push(JournalEntry::conflicted_copy(path, &kept_as, Uid(0), report.device.clone()));
                report.conflicts.push(Conflict { path: path.clone(), kept_as });
            }
            if !(is_here && is_recorded) {
                journal.extend(self.keep_copy(path, &file, survey.version, report).await?);
            }
            let (forgotten, state) = (vec![path.clone()], survey.known.clone());
            let commit = Commit { forgotten, journal, state, ..Commit::default() };
            commit_beside(self.state.as_ref(), commit).await?;
            survey.listing.entries.remove(path);
        }
        Ok(())
    }

    /// Reports in a dry run that a file would give way.
    async fn foresee_giving_way(
        &self,
        file: &RemoteEntry,
        is_here: bool,
        is_recorded: bool,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let path = &file.path;
        let EntryKind::File { hash, size } = file.kind else { return Ok(()) };
        report.foreseen.forgotten.insert(path.clone());
        if is_here {
            let content = self.content_at(path).await?;
            self.foresee_kept(path, InTheWay::File(content), report).await?;
        } else {
            let step =
                Step { action: StepAction::KeepBeside, path: path.clone(), size: Some(size), from: None };
            report.steps.push(step);
        }
        if is_here && is_recorded {
            return Ok(());
        }
        let (mtime, ctime) = (file.mtime, file.ctime);
        // The file does not exist yet; nobody reads these facts.
        let facts = LocalFacts::File { size, modified: 0, changed: 0, inode: 0 };
        let content = KnownContent { hash, size };
        let copy = LocalFile { path: path.clone(), content, mtime, ctime, facts };
        Ok(self.foresee_copy(copy, report).await?)
    }
}
