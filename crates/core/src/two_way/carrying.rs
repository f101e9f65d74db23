//! Carries a local edit over to the new path when the vault renamed the file.
//!
//! A rename arrives as a deletion of the old path and an entry for the new one (docs/PROTOCOL.md section 3).
//! Before the listing is applied, the local file is put at its new path and recorded with the vault's
//! content, so the following scan finds it edited and sends it. A run that is killed in between leaves the
//! file at both paths; the next run finishes the move.

use std::collections::HashMap;

use obsync_protocol::{ContentHash, VaultPath, Verdict};

use crate::destination::{DestinationError, DestinationExt, Expect, Removable, Removal, Wanted};
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::journal::{JournalChange, JournalEntry, Side};
use crate::model::{DeferredKey, Intent, KnownContent, LocalFacts, Record};
use crate::report::Report;
use crate::run::Run;
use crate::state::Commit;
use crate::survey::Survey;

use super::merging::seen;

/// A file that the vault renamed.
struct Moved {
    /// Record of the old path.
    record: Record,
    /// Entry of the new path.
    entry: RemoteEntry,
}

/// A user's edit of a renamed file.
struct Edit {
    text: Vec<u8>,
    content: KnownContent,
    /// Milliseconds since the epoch.
    mtime: i64,
    /// The edit is already at the new path.
    is_put: bool,
}

impl Run<'_> {
    /// Moves the files that were edited here and renamed in the vault, and takes their entries out of the
    /// listing.
    pub(crate) async fn carry_edits(
        &self,
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<(), PullError> {
        for moved in self.moved(survey).await? {
            let (from, to) = (moved.record.path.clone(), moved.entry.path.clone());
            if self.carry(moved, survey, report).await? {
                if !self.options.dry_run {
                    let notice = format!("{from} was edited here and renamed in the vault; it is {to} now");
                    self.progress.notice(&notice);
                }
                survey.listing.entries.remove(&from);
                survey.listing.entries.remove(&to);
            }
        }
        Ok(())
    }

    /// Recorded files that the vault certainly renamed: exactly one deleted and one new file have the same
    /// non-empty content.
    async fn moved(&self, survey: &Survey) -> Result<Vec<Moved>, PullError> {
        let deleted: Vec<VaultPath> = survey
            .listing
            .entries
            .iter()
            .filter(|entry| entry.kind == EntryKind::Deleted { folder: false })
            .map(|entry| entry.path.clone())
            .collect();
        if deleted.is_empty() {
            return Ok(Vec::new());
        }
        let mut gone: HashMap<ContentHash, Vec<Record>> = HashMap::new();
        for record in self.state.records(&deleted).await?.into_iter().flatten() {
            if let Some(file) = record.file().filter(|file| file.size > 0) {
                gone.entry(file.hash).or_default().push(record);
            }
        }
        let mut new: HashMap<ContentHash, Vec<&RemoteEntry>> = HashMap::new();
        for entry in survey.listing.entries.iter() {
            if let EntryKind::File { hash, .. } = entry.kind
                && gone.contains_key(&hash)
            {
                new.entry(hash).or_default().push(entry);
            }
        }
        Ok(gone
            .into_iter()
            .filter_map(|(hash, mut records)| match (records.len(), new.get(&hash).map(Vec::as_slice)) {
                (1, Some([entry])) => Some(Moved { record: records.pop()?, entry: (*entry).clone() }),
                _ => None,
            })
            .collect())
    }

    /// Moves one file. `false` if it was not edited here, or the new path is occupied.
    async fn carry(&self, moved: Moved, survey: &Survey, report: &mut Report) -> Result<bool, PullError> {
        let Some(edit) = self.edit_of(&moved).await? else { return Ok(false) };
        let Moved { record, entry } = moved;
        let EntryKind::File { hash, .. } = entry.kind else { return Ok(false) };
        let size = record.file().map_or(0, |file| file.size);
        let carried = seen(&entry, KnownContent { hash, size }, None);
        let (from, to) = (record.path, &entry.path);
        if self.options.dry_run {
            let foreseen = &mut report.foreseen;
            foreseen.records.push(carried);
            foreseen.forgotten.insert(from.clone());
            foreseen.moved.insert(from, to.clone());
            return Ok(true);
        }
        let times = (edit.mtime, entry.ctime);
        if !edit.is_put && self.put_text(to, edit.text, Expect::Absent, times).await?.is_none() {
            return Ok(false);
        }
        let device = survey.listing.devices.of(entry.uid);
        let line = JournalEntry::new(Side::Here, JournalChange::Write, to.clone(), entry.uid);
        let size = Some(edit.content.size);
        let journal = vec![JournalEntry { from: Some(from.clone()), device, size, ..line }];
        self.leave_old_path(Removable { path: from, content: edit.content }, carried, journal, survey).await
    }

    /// A user's edit of a file that the vault renamed. `None` if there is no edit, or the new path is
    /// occupied.
    async fn edit_of(&self, Moved { record, entry }: &Moved) -> Result<Option<Edit>, PullError> {
        let (from, to) = (&record.path, &entry.path);
        let is_in =
            self.options.filter.verdict(to, false) == Verdict::Sync && self.destination.admits(to).is_ok();
        let is_recorded = self.state.records(std::slice::from_ref(to)).await?.iter().any(Option::is_some);
        if !is_in || is_recorded {
            return Ok(None);
        }
        let Some(facts) = self.destination.facts(vec![from.clone(), to.clone()]).await? else {
            return Ok(None);
        };
        let [Some(found), at_new_path] = &facts[..] else { return Ok(None) };
        if record.facts.as_ref() == Some(found) {
            return Ok(None);
        }
        let Some(text) = self.read_text(from).await? else { return Ok(None) };
        let content = KnownContent::of(&text);
        if record.file().is_none_or(|file| file.hash == content.hash) {
            return Ok(None);
        }
        let KnownContent { hash, size } = content;
        let is_put = match at_new_path {
            None => false,
            // A killed run put it there.
            Some(_) => self.destination.holds(vec![Wanted { path: to.clone(), hash, size }]).await? == [true],
        };
        if at_new_path.is_some() && !is_put {
            return Ok(None);
        }
        let mtime = match found {
            LocalFacts::File { modified, .. } => modified / 1_000_000,
            LocalFacts::Object { .. } => entry.mtime,
        };
        Ok(Some(Edit { text, content, mtime, is_put }))
    }

    /// Records the edit at its new path and removes it at the old one. `false` if the old path was edited
    /// once more.
    async fn leave_old_path(
        &self,
        old: Removable,
        carried: Record,
        journal: Vec<JournalEntry>,
        survey: &Survey,
    ) -> Result<bool, PullError> {
        let announced = self.state.intents().await?;
        let mut intents = announced.clone();
        intents.push(Intent::Remove { path: old.path.clone(), content: old.content });
        // A change that an earlier run filtered or could not apply is resolved once its path is as in the
        // vault.
        let done = |path: &VaultPath| vec![DeferredKey::plain(path)];
        let (resolved, state) = (done(&carried.path), survey.known.clone());
        let records = vec![carried];
        let commit = Commit { records, resolved, journal, intents, state, ..Commit::default() };
        self.state.commit(commit).await?;
        let from = old.path.clone();
        let removed = self.destination.remove_files(vec![old]).await.into_iter().next();
        self.destination.flush().await?;
        // If the old path was edited once more, that file is kept as a new one, and the pull handles the
        // deletion.
        let is_removed = matches!(removed, Some(Ok(Removal::Removed | Removal::Missing)));
        let resolved = if is_removed { done(&from) } else { Vec::new() };
        let forgotten = if is_removed { vec![from] } else { Vec::new() };
        let (state, intents) = (survey.known.clone(), announced);
        self.state.commit(Commit { forgotten, resolved, intents, state, ..Commit::default() }).await?;
        Ok(is_removed)
    }

    /// Removes edits at their old paths that a killed run had carried to the new ones: it announced the
    /// removal of a content other than the recorded one. A file is removed only if its content is at a new
    /// path.
    pub(crate) async fn finish_carrying(&self, announced: &[Removable]) -> Result<(), PullError> {
        let paths: Vec<VaultPath> = announced.iter().map(|file| file.path.clone()).collect();
        let records = self.state.records(&paths).await?;
        let recorded = records.iter().map(|record| record.as_ref().and_then(Record::file));
        let carried: Vec<(&Removable, ContentHash)> = announced
            .iter()
            .zip(recorded)
            .filter_map(|(file, recorded)| Some((file, recorded?.hash)))
            .filter(|(file, recorded)| file.content.hash != *recorded)
            .collect();
        if carried.is_empty() {
            return Ok(());
        }
        let all = self.state.all_records().await?;
        let mut removed = Vec::new();
        for (old, vaults) in carried {
            let KnownContent { hash, size } = old.content;
            let others = all.iter().filter(|record| record.path != old.path);
            let of_content = others.filter(|record| record.file().is_some_and(|file| file.hash == vaults));
            let wanted = of_content.map(|record| Wanted { path: record.path.clone(), hash, size });
            if self.destination.holds(wanted.collect()).await?.contains(&true) {
                removed.push(old.clone());
            }
        }
        let outcomes = self.destination.remove_files(removed).await.into_iter();
        if let Some(error) = outcomes.filter_map(Result::err).find(DestinationError::is_fatal) {
            return Err(error.into());
        }
        Ok(self.destination.flush().await?)
    }
}
