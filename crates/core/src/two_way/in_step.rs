//! Spares a sync the reading of all records where nothing can have changed here: where a destination has a digest of all that a
//! scan looks at (a bucket's list), and it is that of a scan all of whose differences from the records were settled, the next
//! scan would find none, as long as no other record is changed.

use obsync_protocol::{ContentHash, VaultPath};

use crate::error::PullError;
use crate::model::{LocalFacts, Record};
use crate::report::Report;
use crate::scan::LocalTree;

use super::{SyncDirection, TwoWay};

/// How much of a digest is kept, in hexadecimal digits: 128 bits.
const KEPT: usize = 32;
/// Of how many files it is worth looking up whether they are settled.
const MOST: usize = 1000;

/// A scan that found what is recorded, once these files are recorded with these facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settling {
    known_by: String,
    files: Vec<(VaultPath, LocalFacts)>,
}

impl TwoWay<'_, '_> {
    /// Whether the destination is as it was when it was last found to be in step with the records. Asks for its digest only if
    /// there is something to compare it with.
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

    /// What is to be recorded until the destination is in step with the records, if a scan differs from them by few files alone.
    pub(super) fn settling(&self, tree: &LocalTree) -> Option<Settling> {
        let is_noted = !self.run.options.dry_run && self.options.direction == SyncDirection::Both;
        let digest = tree.digest.filter(|_| is_noted && tree.differs_by_files_alone())?;
        let found = tree.files.iter().map(|file| (file.path.clone(), file.facts.clone()));
        let files: Vec<_> = found.chain(tree.renewed.iter().cloned()).take(MOST + 1).collect();
        (files.len() <= MOST).then(|| Settling { known_by: self.known_by(digest), files })
    }

    /// Notes that the destination is in step with the records, if all of that is recorded now.
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

    /// The text by which a destination with this digest is known again. Under another filter a scan looks at other files.
    fn known_by(&self, digest: ContentHash) -> String {
        let (filter, sends) = (self.run.options.filter.fingerprint(), self.options.sends_configuration);
        let all = format!("{digest} {sends} {filter}");
        ContentHash::of(all.as_bytes()).to_string().chars().take(KEPT).collect()
    }
}
