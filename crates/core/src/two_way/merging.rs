//! Merges files that changed on both sides, before the rest of a listing is applied.
//!
//! A merged file is written here and recorded with the vault's content, so the following scan finds it
//! changed and sends it. If the run is killed in between, the next one merges again, which adds nothing.
//! Files that cannot be merged are left to the pull: it keeps the local file under another name, and that
//! copy is sent as a new file.

use obsync_protocol::VaultPath;

use crate::destination::{Expect, Found, Wanted};
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::journal::{JournalChange, JournalEntry, Side};
use crate::merge::{MergeKind, merge};
use crate::model::{DeferredKey, FileMeta, KnownContent, LocalFacts, Record, RecordKind};
use crate::report::{Report, Step, StepAction};
use crate::run::Run;
use crate::state::{Commit, VaultState, commit_beside};
use crate::survey::Survey;

use super::contents::Version;

/// Files merged at a time: all their versions are in memory.
const AT_A_TIME: usize = 8;

/// A file that changed here and in the vault.
struct Contested {
    base: FileMeta,
    local: Vec<u8>,
    entry: RemoteEntry,
    kind: MergeKind,
}

impl Run<'_> {
    /// Merges files that changed on both sides, as far as possible, and takes the merged ones out of the
    /// listing.
    pub(crate) async fn merge_contested(
        &self,
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let mut changed = self.changed_there(survey).await?;
        self.take_back_unseen(&mut changed, survey, report).await?;
        let mut merged = Vec::new();
        for candidates in changed.chunks(AT_A_TIME) {
            let contested = self.contested(candidates).await?;
            merged.extend(self.merge_some(contested, survey, report).await?);
        }
        for path in &merged {
            survey.listing.entries.remove(path);
        }
        Ok(())
    }

    /// Recorded files whose content in the vault is now different, with their entries.
    async fn changed_there(&self, survey: &Survey) -> Result<Vec<(Record, RemoteEntry)>, PullError> {
        let entries: Vec<&RemoteEntry> = survey
            .listing
            .entries
            .iter()
            .filter(|entry| matches!(entry.kind, EntryKind::File { .. }))
            .collect();
        let paths: Vec<VaultPath> = entries.iter().map(|entry| entry.path.clone()).collect();
        let records = self.state.records(&paths).await?;
        Ok(records
            .into_iter()
            .zip(entries)
            .filter_map(|(record, entry)| {
                let record = record?;
                let EntryKind::File { hash, .. } = entry.kind else { return None };
                let is_changed = record.file().is_some_and(|known| known.hash != hash);
                is_changed.then(|| (record, entry.clone()))
            })
            .collect())
    }

    /// Those of them that were changed here as well, and can be merged.
    async fn contested(&self, changed: &[(Record, RemoteEntry)]) -> Result<Vec<Contested>, PullError> {
        let untouched = self.untouched(changed).await?;
        let mut contested = Vec::new();
        for ((record, entry), is_untouched) in changed.iter().zip(untouched) {
            let (Some(base), Some(kind), false) =
                (record.file(), MergeKind::of(&record.path, &self.config_dir(&record.path)), is_untouched)
            else {
                continue;
            };
            let Some(local) = self.read_text(&record.path).await? else { continue };
            if KnownContent::of(&local).hash != base.hash {
                contested.push(Contested { base: base.clone(), local, entry: entry.clone(), kind });
            }
        }
        Ok(contested)
    }

    /// For each file, true if it is missing or equal to its record: by its facts, or else by the
    /// destination's answer about its content.
    async fn untouched(&self, changed: &[(Record, RemoteEntry)]) -> Result<Vec<bool>, PullError> {
        let paths = changed.iter().map(|(record, _)| record.path.clone()).collect();
        if let Some(facts) = self.destination.facts(paths).await? {
            let records = changed.iter().map(|(record, _)| record);
            let is_untouched =
                |(found, record): (Option<LocalFacts>, &Record)| found.is_none() || found == record.facts;
            return Ok(facts.into_iter().zip(records).map(is_untouched).collect());
        }
        let wanted = changed.iter().filter_map(|(record, _)| {
            let KnownContent { hash, size } = record.file()?.into();
            Some(Wanted { path: record.path.clone(), hash, size })
        });
        let found = self.destination.look(wanted.collect()).await?;
        Ok(found.into_iter().map(|found| matches!(found, Found::Wanted | Found::Nothing)).collect())
    }

    async fn merge_some(
        &self,
        contested: Vec<Contested>,
        survey: &Survey,
        report: &mut Report,
    ) -> Result<Vec<VaultPath>, PullError> {
        let versions = contested.iter().flat_map(|file| {
            let base = Version { uid: file.base.uid, content: KnownContent::from(&file.base) };
            [Some(base), file.listed()].into_iter().flatten()
        });
        let mut texts = self.texts(versions.collect(), survey.version).await?.into_iter();
        let mut merged = Vec::new();
        for file in contested {
            let (Some(base), Some(remote)) = (texts.next(), texts.next()) else { break };
            let Some(remote) = remote else { continue };
            let path = file.entry.path.clone();
            match merge(file.kind, base.as_deref(), &file.local, &remote) {
                Ok(text) => {
                    if self.options.dry_run {
                        report.foresee_merged(&file.entry, &text);
                        merged.push(path);
                    } else if self.put_merged(file, text, &survey.known).await? {
                        self.progress
                            .notice(&format!("merged what was changed here and in the vault: {path}"));
                        report.note_merged(&path);
                        merged.push(path);
                    }
                }
                Err(error) => tracing::debug!(%path, %error, "both versions are kept"),
            }
        }
        Ok(merged)
    }

    /// Puts a merged text in place. `false` if the file was changed again meanwhile.
    async fn put_merged(
        &self,
        file: Contested,
        text: Vec<u8>,
        known: &VaultState,
    ) -> Result<bool, PullError> {
        let Contested { local, entry, .. } = file;
        let Some(listed) = listed_content(&entry) else { return Ok(false) };
        let (found, wanted) = (KnownContent::of(&local), KnownContent::of(&text));
        let is_the_vaults = wanted.hash == listed.hash;
        let mut facts: Option<LocalFacts> = None;
        if wanted != found {
            // A text that differs from the vault's has the time of the merge.
            let mtime = if is_the_vaults { entry.mtime } else { jiff::Timestamp::now().as_millisecond() };
            let placed =
                self.put_text(&entry.path, text, Expect::Content(found), (mtime, entry.ctime)).await?;
            let Some(placed) = placed else { return Ok(false) };
            facts = placed.facts.filter(|_| is_the_vaults);
        }
        let record = seen(&entry, listed, facts);
        let path = entry.path;
        let line = JournalEntry::new(Side::Here, JournalChange::Merge, path.clone(), entry.uid);
        let device = Some(self.source.client.options().device.clone());
        let journal = vec![JournalEntry { device, size: Some(wanted.size), ..line }];
        // A change that an earlier run filtered or could not apply is resolved.
        let (records, resolved) = (vec![record], vec![DeferredKey::plain(&path)]);
        let commit = Commit { records, resolved, journal, state: known.clone(), ..Commit::default() };
        commit_beside(self.state.as_ref(), commit).await?;
        Ok(true)
    }

    /// The configuration folder that a path may lie in.
    pub(crate) fn config_dir(&self, path: &VaultPath) -> VaultPath {
        let dirs = self.options.filter.config_dirs.iter().filter_map(|dir| VaultPath::parse(dir).ok());
        // A path is not below itself.
        dirs.into_iter().find(|dir| path.is_below(dir)).unwrap_or_else(|| path.clone())
    }
}

impl Report {
    /// Reports in a dry run that a file would be merged.
    fn foresee_merged(&mut self, entry: &RemoteEntry, text: &[u8]) {
        let (Some(listed), path) = (listed_content(entry), &entry.path) else { return };
        let content = KnownContent::of(text);
        self.steps.push(Step { action: StepAction::Merge, path: path.clone(), size: None, from: None });
        self.foreseen.records.push(seen(entry, listed, None));
        match content.hash == listed.hash {
            true => drop(self.foreseen.arrivals.insert(path.clone())),
            false => drop(self.foreseen.merged.insert(path.clone(), content)),
        }
    }
}

/// Record of a local file that was made from the listed version.
pub(super) fn seen(entry: &RemoteEntry, content: KnownContent, facts: Option<LocalFacts>) -> Record {
    let KnownContent { hash, size } = content;
    let meta = FileMeta { hash, size, mtime: entry.mtime, ctime: entry.ctime, uid: entry.uid };
    Record::seen(entry.path.clone(), RecordKind::File(meta), facts)
}

impl Contested {
    fn listed(&self) -> Option<Version> {
        Some(Version { uid: self.entry.uid, content: listed_content(&self.entry)? })
    }
}

fn listed_content(entry: &RemoteEntry) -> Option<KnownContent> {
    match entry.kind {
        EntryKind::File { hash, size } => Some(KnownContent { hash, size }),
        EntryKind::Folder | EntryKind::Deleted { .. } => None,
    }
}
