//! Finds unrecorded files that the vault deleted: a mirror removes them.

use obsync_protocol::{ContentHash, Uid, VaultPath};

use crate::destination::{DestinationError, Found, Wanted};
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::model::{FileMeta, KnownContent, Record, RecordKind};
use crate::records::Records;
use crate::run::Run;
use crate::state::{Commit, commit_beside};
use crate::survey::Survey;

/// Files checked at a time.
const LOOKED_AT: usize = 256;

impl Run<'_> {
    /// Unrecorded files that are here though the vault deleted them, with a content that it had: a mirror
    /// would have removed them, had it known of them.
    pub(crate) async fn vanished(
        &self,
        entries: &[RemoteEntry],
        records: &Records,
        survey: &Survey,
    ) -> Result<Vec<Record>, PullError> {
        let Some(historian) = &survey.scout.historian else { return Ok(Vec::new()) };
        let deleted = |entry: &&RemoteEntry| matches!(entry.kind, EntryKind::Deleted { folder: false });
        let unrecorded = entries.iter().filter(deleted).filter(|entry| records.get(&entry.path).is_none());
        let paths: Vec<&VaultPath> = unrecorded.map(|entry| &entry.path).collect();
        let mut vanished = Vec::new();
        for some in paths.chunks(LOOKED_AT) {
            let mut found_now = Vec::new();
            let wanted =
                some.iter().map(|path| Wanted { path: (*path).clone(), hash: ContentHash::EMPTY, size: 0 });
            let found = self.destination.look(wanted.collect()).await?;
            for (path, found) in some.iter().zip(found) {
                let content = match found {
                    Found::Wanted => KnownContent::of(&[]),
                    Found::Other(content) => content,
                    Found::Nothing | Found::Unknown => continue,
                };
                let had = tokio::select! {
                    biased;
                    // Without these the plan would pass deletions as if there were nothing to remove.
                    () = self.stop.cancelled() => {
                        let location = self.destination.location();
                        return Err(DestinationError::Stopped { location }.into());
                    }
                    had = historian.lists(path, content) => had,
                };
                if had {
                    let KnownContent { hash, size } = content;
                    let meta = FileMeta { hash, size, mtime: 0, ctime: 0, uid: Uid(0) };
                    found_now.push(Record::new((*path).clone(), RecordKind::File(meta)));
                }
            }
            if !found_now.is_empty() && !self.options.dry_run {
                // If their removal has to wait, a later run must know of them.
                let (records, state) = (found_now.clone(), survey.known.clone());
                let commit = Commit { records, state, ..Commit::default() };
                commit_beside(self.state.as_ref(), commit).await?;
            }
            vanished.extend(found_now);
        }
        Ok(vanished)
    }
}
