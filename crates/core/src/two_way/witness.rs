//! Records what was seen in the destination: only a witnessed file can be missing, and only its absence is a
//! deletion.

use std::collections::HashSet;
use std::sync::Arc;

use obsync_protocol::{VaultPath, Verdict};

use crate::error::PullError;
use crate::model::{Direction, Record};
use crate::report::Report;
use crate::run::Run;
use crate::scan::LocalTree;
use crate::state::{Commit, VaultState, commit_beside};

use super::TwoWay;
use crate::conflicted_copy::is_configuration;

impl TwoWay<'_, '_> {
    /// Updates the witnesses after a scan. A file that the filter excludes loses its witness: its absence
    /// when the filter includes it again says nothing about its user's intent. The same holds for a
    /// configuration folder that is not sent, and for files that are missing where objects expire. Files that
    /// are there become witnessed.
    pub(super) async fn note_witness(
        &self,
        mut records: Arc<Vec<Record>>,
        tree: &LocalTree,
    ) -> Result<Arc<Vec<Record>>, PullError> {
        let filter = &self.run.options.filter;
        let mut noted = Vec::new();
        for record in records.iter() {
            let is_in = filter.verdict(&record.path, record.file().is_none()) == Verdict::Sync
                && (self.options.sends_configuration || !is_configuration(&record.path))
                && tree.missing.binary_search(&record.path).is_err();
            if record.witnessed != is_in && (!is_in || sees(tree, record)) {
                noted.push(Record { witnessed: is_in, ..record.clone() });
            }
        }
        if noted.is_empty() {
            return Ok(records);
        }
        let changed: std::collections::HashMap<&VaultPath, bool> =
            noted.iter().map(|record| (&record.path, record.witnessed)).collect();
        for record in Arc::make_mut(&mut records) {
            record.witnessed = changed.get(&record.path).copied().unwrap_or(record.witnessed);
        }
        if !self.run.options.dry_run {
            let known = self.run.state.load().await?;
            // The stored facts: a run that reads everything again leaves them out.
            let paths: Vec<VaultPath> = noted.iter().map(|record| record.path.clone()).collect();
            let stored = self.run.state.records(&paths).await?.into_iter().flatten();
            let records = stored.zip(noted).map(|(stored, noted)| Record { facts: stored.facts, ..noted });
            let commit = Commit { records: records.collect(), state: known, ..Commit::default() };
            commit_beside(self.run.state.as_ref(), commit).await?;
        }
        Ok(records)
    }

    /// Before the first run of a direction, and when the filter changed: forgets the records of files that
    /// are not here, or that were not seen since the filter excluded them. Their absence is no deletion, and
    /// the vault restores them. `false` if the run was stopped and this is still to do. A dry run only notes
    /// it.
    pub(super) async fn forget_missing(&self, report: &mut Report) -> Result<bool, PullError> {
        let run = self.run;
        let known = run.state.load().await?;
        let is_refiltered = known.filter.as_deref() != Some(run.options.filter.fingerprint().as_str());
        if !(self.is_first || is_refiltered) {
            return Ok(true);
        }
        let records = Arc::new(run.state.all_records().await?);
        if records.is_empty() {
            return Ok(true);
        }
        let Some(tree) = self.scan(&records).await? else { return Ok(false) };
        let is_forgotten = |record: &&Record| (self.is_first || !record.witnessed) && is_gone(&tree, record);
        let forgotten: Vec<VaultPath> =
            records.iter().filter(is_forgotten).map(|record| record.path.clone()).collect();
        if run.options.dry_run {
            report.foreseen.forgotten.extend(forgotten);
            return Ok(true);
        }
        // Before the pull records this filter: if only the scan after it removed the witnesses, a run that
        // ends in between would leave them.
        let is_left_out = |record: &&Record| {
            let verdict = run.options.filter.verdict(&record.path, record.file().is_none());
            record.witnessed && verdict != Verdict::Sync && !is_forgotten(record)
        };
        let unwitnessed: Vec<Record> = records
            .iter()
            .filter(is_left_out)
            .map(|record| Record { witnessed: false, ..record.clone() })
            .collect();
        if forgotten.is_empty() && unwitnessed.is_empty() {
            return Ok(true);
        }
        let version = if forgotten.is_empty() { known.version } else { 0 };
        let state = VaultState { version, ..known };
        let commit = Commit { records: unwitnessed, forgotten, state, ..Commit::default() };
        commit_beside(run.state.as_ref(), commit).await?;
        Ok(true)
    }

    /// Forgets records of files and folders that are missing here and were not seen here before they
    /// disappeared: no user deleted them, so the vault restores them. They disappeared since this run began,
    /// or during an earlier run. Returns true if there are any.
    pub(super) async fn forget_unseen(
        &self,
        records: &[Record],
        tree: &LocalTree,
        unapplied: &HashSet<VaultPath>,
    ) -> Result<bool, PullError> {
        let run = self.run;
        if run.options.dry_run || tree.is_in_flux {
            return Ok(false);
        }
        let is_wanted = |record: &Record| {
            let is_chosen =
                run.options.filter.verdict(&record.path, record.file().is_none()) == Verdict::Sync;
            is_chosen
                && (self.options.sends_configuration || !is_configuration(&record.path))
                && !unapplied.contains(&record.path)
                && !tree.is_unknown(&record.path)
        };
        let is_unseen = |record: &Record| {
            // A witnessed file that disappears during the first run is not forgotten: the next run sends the
            // deletion. A folder in its place would replace it in the vault at once.
            !record.witnessed || (self.is_first && tree.absent.binary_search(&record.path).is_err())
        };
        let forgotten = records.iter().filter(|record| is_gone(tree, record));
        let forgotten = forgotten.filter(|record| is_unseen(record) && is_wanted(record));
        let forgotten: Vec<VaultPath> = forgotten.map(|record| record.path.clone()).collect();
        if forgotten.is_empty() {
            return Ok(false);
        }
        let state = VaultState { version: 0, ..run.state.load().await? };
        commit_beside(run.state.as_ref(), Commit { forgotten, state, ..Commit::default() }).await?;
        Ok(true)
    }
}

impl Run<'_> {
    /// Warns that a destination is now synced in another direction.
    pub(crate) fn warn_of_direction(&self, known: &VaultState, report: &mut Report) {
        if known.version == 0 || known.direction == self.direction || self.options.is_narrowed {
            return;
        }
        let before = match known.direction {
            Direction::Pull => "only brought what the vault has",
            Direction::Push => "only sent what is here",
            Direction::Both => "synced both ways",
        };
        // In the present tense, because the run has not begun, and a dry run never does.
        let now = match self.direction {
            Direction::Pull => "only brings what the vault has",
            Direction::Push => "only sends what is here",
            Direction::Both => "syncs both ways",
        };
        self.warn(format!("earlier runs {before}; this one {now}"), report);
    }
}

/// True if a recorded file or folder is no longer there. A folder in the place of a file counts, because it
/// would replace the file in the vault, too.
fn is_gone(tree: &LocalTree, record: &Record) -> bool {
    tree.absent.binary_search(&record.path).is_ok()
        || (record.file().is_some() && tree.folders.binary_search(&record.path).is_ok())
}

/// True if a scan found the recorded file or folder in its place.
fn sees(tree: &LocalTree, record: &Record) -> bool {
    let path = &record.path;
    let has_other_kind = match record.file() {
        Some(_) => tree.folders.binary_search(path).is_ok(),
        None => tree.files.binary_search_by(|file| file.path.cmp(path)).is_ok(),
    };
    !has_other_kind
        && tree.absent.binary_search(path).is_err()
        && !tree.respelled.iter().any(|respelled| respelled.recorded == *path)
        && !tree.is_unknown(path)
}
