//! Takes an edit of a file along where the vault renamed that file.
//!
//! A rename arrives as a deletion of the old path and an entry for the new one (docs/PROTOCOL.md section 3). The file here is put at
//! its new path before the listing is applied, and recorded there as what the vault has: the scan which follows finds it edited
//! and sends it. Both paths are announced, so that a run after a kill ends what was begun ([`Run::recover`]).

use std::collections::HashMap;

use obsync_protocol::{ContentHash, VaultPath, Verdict};

use crate::destination::{DestinationExt, Expect, Removable, Removal};
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::journal::{JournalChange, JournalEntry, Side};
use crate::model::{Intent, KnownContent, LocalFacts, Record};
use crate::report::Report;
use crate::run::Run;
use crate::state::Commit;
use crate::survey::Survey;

use super::merging::seen;

/// A file that has another path in the vault now.
struct Moved {
    /// What is recorded at the old path.
    record: Record,
    /// The entry of the new one.
    entry: RemoteEntry,
}

impl Run<'_> {
    /// Moves the files that were edited here and renamed there, and takes their entries out of the listing.
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

    /// The recorded files that the vault certainly renamed: of one content that is not empty one is deleted, and one is new.
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

    /// Moves one of them. `false`: it was not edited here, or something is in its way.
    async fn carry(&self, moved: Moved, survey: &Survey, report: &mut Report) -> Result<bool, PullError> {
        let Moved { record, entry } = moved;
        let (from, to) = (&record.path, &entry.path);
        let EntryKind::File { hash, .. } = entry.kind else { return Ok(false) };
        let is_in =
            self.options.filter.verdict(to, false) == Verdict::Sync && self.destination.admits(to).is_ok();
        let is_recorded = self.state.records(std::slice::from_ref(to)).await?.iter().any(Option::is_some);
        if !is_in || is_recorded {
            return Ok(false);
        }
        let Some(facts) = self.destination.facts(vec![from.clone(), to.clone()]).await? else {
            return Ok(false);
        };
        let [Some(found), None] = &facts[..] else { return Ok(false) };
        if record.facts.as_ref() == Some(found) {
            return Ok(false);
        }
        let Some(text) = self.read_text(from).await? else { return Ok(false) };
        let content = KnownContent::of(&text);
        if content.hash == hash {
            return Ok(false);
        }
        let size = record.file().map_or(0, |file| file.size);
        let carried = seen(&entry, KnownContent { hash, size }, None);
        if self.options.dry_run {
            let foreseen = &mut report.foreseen;
            foreseen.records.push(carried);
            foreseen.forgotten.insert(from.clone());
            foreseen.moved.insert(from.clone(), to.clone());
            return Ok(true);
        }
        let mtime = match found {
            LocalFacts::File { modified, .. } => modified / 1_000_000,
            LocalFacts::Object { .. } => entry.mtime,
        };
        let announced = self.state.intents().await?;
        let both = [Intent::Place(carried.clone()), Intent::Remove { path: from.clone(), content }];
        let intents: Vec<Intent> = announced.iter().cloned().chain(both).collect();
        let state = survey.known.clone();
        self.state.commit(Commit { intents: intents.clone(), state, ..Commit::default() }).await?;
        if self.put_text(to, text, Expect::Absent, (mtime, entry.ctime)).await?.is_none() {
            let state = survey.known.clone();
            self.state.commit(Commit { intents: announced, state, ..Commit::default() }).await?;
            return Ok(false);
        }
        let records = vec![carried];
        let line = JournalEntry::new(Side::Here, JournalChange::Write, to.clone(), entry.uid);
        let device = survey.listing.devices.of(entry.uid);
        let journal =
            vec![JournalEntry { from: Some(from.clone()), device, size: Some(content.size), ..line }];
        let commit = Commit { records, journal, intents, state: survey.known.clone(), ..Commit::default() };
        self.state.commit(commit).await?;
        let old = Removable { path: from.clone(), content };
        let removed = self.destination.remove_files(vec![old]).await.into_iter().next();
        self.destination.flush().await?;
        // Where it was edited once more that is a file of its own, and the deletion of the old path is left to the pull.
        let is_removed = matches!(removed, Some(Ok(Removal::Removed | Removal::Missing)));
        let forgotten = if is_removed { vec![from.clone()] } else { Vec::new() };
        let state = survey.known.clone();
        self.state.commit(Commit { forgotten, intents: announced, state, ..Commit::default() }).await?;
        Ok(is_removed)
    }
}
