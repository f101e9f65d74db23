//! Saves a sync from reading all records if nothing can have changed here. A bucket's list has a digest of
//! everything that a scan compares. If a scan's differences from the records were all recorded, and no record
//! changed since, a later scan with the same digest would find no difference.

use obsync_protocol::{ContentHash, VaultPath};

use crate::error::PullError;
use crate::model::Record;
use crate::report::Report;
use crate::scan::LocalTree;

use super::{Settling, SyncDirection, TwoWay};

/// Hexadecimal digits of a digest that are kept: 128 bits.
const KEPT: usize = 32;
/// Most files to look up in the state to check that they are recorded.
const MOST: usize = 1000;

impl TwoWay<'_, '_> {
    /// True if the destination has the digest of the last scan that was in step with the records. Asks for the
    /// digest only if there is one to compare it with.
    pub(super) async fn is_still_in_step(&self, report: &Report) -> Result<bool, PullError> {
        let run = self.run;
        let is_to_look = self.is_first || self.is_full || run.options.dry_run || report.doubt.is_some();
        if is_to_look || self.options.direction != SyncDirection::Both {
            return Ok(false);
        }
        let Some(known_by) = run.state.in_step().await else { return Ok(false) };
        let digest = run.stop.run_until_cancelled(run.destination.digest()).await.transpose()?.flatten();
        Ok(digest.is_some_and(|digest| self.known_by(digest) == known_by))
    }

    /// Files that have to be recorded before the destination is in step with the records. `None` if a scan has
    /// other differences, or too many.
    pub(super) fn settling(&self, tree: &LocalTree) -> Option<Settling> {
        let is_noted = !self.run.options.dry_run && self.options.direction == SyncDirection::Both;
        let digest = tree.digest.filter(|_| is_noted && tree.differs_by_files_alone())?;
        let found = tree.files.iter().map(|file| (file.path.clone(), file.facts.clone()));
        let files: Vec<_> = found.chain(tree.renewed.iter().cloned()).take(MOST + 1).collect();
        (files.len() <= MOST).then(|| Settling { known_by: self.known_by(digest), files })
    }

    /// Stores that the destination is in step with the records, if those files are recorded now.
    pub(super) async fn note_settled(&self, settling: Option<Settling>) -> Result<(), PullError> {
        let Some(Settling { known_by, files }) = settling else { return Ok(()) };
        if !files.is_empty() {
            let paths: Vec<VaultPath> = files.iter().map(|(path, _)| path.clone()).collect();
            let records = self.run.state.records(&paths).await?;
            let recorded = records
                .iter()
                .map(|record| record.as_ref().and_then(|record: &Record| record.facts.as_ref()));
            if !files.iter().zip(recorded).all(|((_, found), recorded)| recorded == Some(found)) {
                return Ok(());
            }
        }
        self.run.state.note_in_step(known_by).await;
        Ok(())
    }

    /// The text that is stored for a digest. It has the filter, which decides which files a scan compares.
    fn known_by(&self, digest: ContentHash) -> String {
        let (filter, sends) = (self.run.options.filter.fingerprint(), self.options.sends_configuration);
        let all = format!("{digest} {sends} {filter}");
        ContentHash::of(all.as_bytes()).to_string().chars().take(KEPT).collect()
    }
}
