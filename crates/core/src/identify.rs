//! Checks that the destination is the one in the state, and gives it its marker.
//!
//! Records of a doubtful destination are not trusted: they are forgotten, and the run continues like a first
//! one into a place that is not empty.

use std::collections::HashSet;
use std::sync::Arc;

use obsync_protocol::{ContentHash, Verdict};
use tokio::sync::oneshot;

use crate::destination::DestinationError;
use crate::error::PullError;
use crate::identity::{DestinationIdentity, Doubt, MARKER_FORMAT, Marker, MarkerFound, RandomId, judge};
use crate::ledger::Ledger;
use crate::model::{DeferredKind, Direction, Intent, Record};
use crate::problem::ProblemCode;
use crate::report::Report;
use crate::run::Run;
use crate::scan::ScanInput;
use crate::schedule::Schedule;
use crate::state::{Commit, DeferredParts, VaultState};

/// Recorded files that a run checks when those of the first sample are all lost.
const LARGER_SAMPLE: usize = 200;

/// Warning about a destination that another vault was brought to.
const OTHER_VAULT: &str = "another vault was pulled to this destination: its files stay, and the next run of that \
                           vault will check every file. Use one destination for each vault";

/// A marker, and the commit of its generation.
pub(crate) struct NextMarker {
    marker: Marker,
    committed: oneshot::Receiver<()>,
}

impl Run<'_> {
    /// Judges the destination by its marker and by a few of its files. If it is doubtful, `known` is
    /// forgotten.
    pub(crate) async fn judge_destination(
        &self,
        known: &mut VaultState,
        is_empty: bool,
        report: &mut Report,
    ) -> Result<MarkerFound, PullError> {
        let tag = known.destination.as_ref().and_then(|destination| destination.tag.as_deref());
        let found = self.destination.identify(tag).await?;
        // A full run begins with version 0, but the records are still valid.
        let begun = known.version > 0 || known.listed || known.forgetting;
        let doubt = match judge(known.destination.as_ref(), begun, &found, &self.source.vault.id) {
            Err(doubt) => Some(doubt),
            Ok(()) if begun => self.doubt_files(is_empty).await?,
            Ok(()) => None,
        };
        let doubt = doubt.or(known.forgetting.then_some(Doubt::CutShort));
        if let MarkerFound::Marker { marker, .. } = &found
            && marker.vault != self.source.vault.id
        {
            self.warn(OTHER_VAULT.to_owned(), report);
        }
        if let Some(doubt) = doubt {
            self.warn(doubt.sentence().to_owned(), report);
            report.doubt = Some(doubt);
            self.forget_base(known, doubt).await?;
        } else if let (None, Some(doubt)) = (&known.destination, self.options.doubt) {
            // There is nothing to forget.
            self.warn(doubt.sentence().to_owned(), report);
            report.doubt = Some(doubt);
        } else if let (Some(known), MarkerFound::Marker { marker, tag }) = (&mut known.destination, &found) {
            // The last run died while it wrote this marker.
            *known = DestinationIdentity {
                id: marker.id,
                generation: marker.generation,
                next: None,
                tag: tag.clone(),
            };
        }
        Ok(found)
    }

    /// Returns a doubt if recorded files are gone, or older than they were.
    async fn doubt_files(&self, is_empty: bool) -> Result<Option<Doubt>, PullError> {
        if is_empty {
            let has_files = self.state.all_records().await?.iter().any(|record| record.file().is_some());
            return Ok(has_files.then_some(Doubt::OtherFiles));
        }
        let sample = self.state.sample(self.destination.traits().sample).await?;
        match self.are_all_lost(sample).await? {
            false => Ok(None),
            true => self.doubt_more_files().await,
        }
    }

    /// The same with many more files: a few can be in one folder, or be one file that was drawn repeatedly.
    /// Excluded files are left out: they may have been removed because the filter excludes them.
    async fn doubt_more_files(&self) -> Result<Option<Doubt>, PullError> {
        let mut records = self.state.all_records().await?;
        records.retain(|record| {
            record.file().is_some() && self.options.filter.verdict(&record.path, false) == Verdict::Sync
        });
        let step = records.len().div_ceil(LARGER_SAMPLE).max(1);
        let sample: Vec<Record> = records.into_iter().step_by(step).collect();
        let is_doubtful = self.are_all_lost(sample.clone()).await? && !self.were_moved(&sample).await?;
        Ok(is_doubtful.then_some(Doubt::OtherFiles))
    }

    /// True if there are such records, and none of their files has its recorded content or an edit of it.
    async fn are_all_lost(&self, sample: Vec<Record>) -> Result<bool, PullError> {
        if sample.is_empty() {
            return Ok(false);
        }
        let lost = self.destination.are_lost(sample).await?;
        Ok(lost.is_some_and(|lost| lost.into_iter().all(|is_lost| is_lost)))
    }

    /// True if the files are gone because a user renamed them, or the folders above them. Only matters if
    /// local changes are sent to the vault.
    async fn were_moved(&self, sample: &[Record]) -> Result<bool, PullError> {
        if self.direction == Direction::Pull {
            return Ok(false);
        }
        let records = Arc::new(self.state.all_records().await?);
        let filter = self.options.filter.clone();
        let Some(tree) = self.destination.scan(ScanInput { records, filter }).await? else {
            return Ok(false);
        };
        let found: HashSet<ContentHash> =
            tree.files.iter().filter(|file| file.content.size > 0).map(|file| file.content.hash).collect();
        let is_moved = |record: &&Record| record.file().is_some_and(|file| found.contains(&file.hash));
        Ok(sample.iter().filter(is_moved).count() * 2 >= sample.len())
    }

    /// Doubts the destination in the middle of a run, which has to start again.
    pub(crate) async fn doubt_destination(&self, doubt: Doubt, report: &mut Report) -> Result<(), PullError> {
        self.warn(doubt.sentence().to_owned(), report);
        report.doubt = Some(doubt);
        let mut known = self.state.load().await?;
        self.forget_base(&mut known, doubt).await
    }

    /// Forgets the records and waiting changes: everything is listed and scanned again. Pushes stay announced,
    /// as the vault may still take them.
    async fn forget_base(&self, known: &mut VaultState, doubt: Doubt) -> Result<(), PullError> {
        // A destination that lost its marker, or has another's, gets a new id.
        let keeps_id = match doubt {
            Doubt::OtherGeneration | Doubt::OtherFiles | Doubt::OlderFiles | Doubt::CutShort => true,
            Doubt::NoMarker | Doubt::DamagedMarker | Doubt::OtherDestination | Doubt::Copy => false,
        };
        let identity = known.destination.take();
        *known = VaultState {
            cursor: known.cursor,
            direction: known.direction,
            destination: identity.clone().filter(|_| keeps_id),
            keeping: known.keeping,
            deletions: std::mem::take(&mut known.deletions),
            ..VaultState::default()
        };
        if self.options.dry_run {
            return Ok(());
        }
        let mut intents = self.state.intents().await?;
        intents.retain(Intent::is_push);
        // First commit that nothing is known: the rest needs several transactions. If they are cut short, the next run
        // has to find the same doubt, for which it needs the identity.
        let forgetting = VaultState { forgetting: true, destination: identity, ..known.clone() };
        let unknown = || Commit { intents: intents.clone(), state: forgetting.clone(), ..Commit::default() };
        self.state.commit(unknown()).await?;
        for kind in [DeferredKind::Failed, DeferredKind::Filtered] {
            let mut parts = DeferredParts::of(self.state.as_ref(), kind);
            while let Some(part) = parts.next().await? {
                let resolved = part.into_iter().map(|deferred| deferred.key).collect();
                self.state.commit(Commit { resolved, ..unknown() }).await?;
            }
        }
        let forgotten = self.state.all_records().await?.into_iter().map(|record| record.path).collect();
        Ok(self.state.commit(Commit { forgotten, state: known.clone(), ..unknown() }).await?)
    }

    /// Draws the destination's next generation for a plan that changes it; the first commit of the plan stores it.
    /// Returns the marker to [write](Self::write_marker) after that; a destination without a marker gets its first one
    /// here.
    ///
    /// After a crash either generation is known.
    pub(crate) async fn begin_marking(
        &self,
        ledger: &mut Ledger<'_>,
        plan: &Schedule,
        found: &MarkerFound,
    ) -> Result<Option<NextMarker>, PullError> {
        let is_doubted = ledger.report.doubt.is_some();
        let is_new = is_doubted || ledger.destination().is_none_or(DestinationIdentity::is_unwritten);
        let wants_marker = plan.has_work() || is_doubted || (is_new && ledger.has_listed());
        if matches!(found, MarkerFound::Impossible) || !wants_marker {
            return Ok(None);
        }
        let next = self.draw_id()?;
        let known = match (ledger.destination().cloned(), found) {
            (Some(known), _) => known,
            // The state was lost, but the destination is the same.
            (None, MarkerFound::Marker { marker, .. })
                if marker.vault == self.source.vault.id && self.options.doubt != Some(Doubt::Copy) =>
            {
                DestinationIdentity { id: marker.id, generation: marker.generation, next: None, tag: None }
            }
            (None, _) => DestinationIdentity { id: self.draw_id()?, generation: next, next: None, tag: None },
        };
        let (id, vault) = (known.id, self.source.vault.id.clone());
        let marker = Marker { format: MARKER_FORMAT, id, vault, generation: next };
        let identity = DestinationIdentity { next: Some(next), ..known };
        if !is_new {
            // A commit of its own would cost several flushes, and changes of the destination are announced anyway.
            return Ok(Some(NextMarker { marker, committed: ledger.identify_with_next_commit(identity) }));
        }
        ledger.identify(Some(identity));
        ledger.commit().await?;
        let marked = self.destination.mark(&marker).await?;
        ledger.identify(marked.map(|marked| marker.identity(marked)));
        Ok(None)
    }

    /// Draws the random id of a destination or a generation.
    pub(crate) fn draw_id(&self) -> Result<RandomId, DestinationError> {
        RandomId::draw().map_err(|error| DestinationError::Unavailable {
            location: self.destination.location(),
            reason: format!("the system has no random numbers ({error})"),
            code: ProblemCode::Error,
        })
    }

    /// Writes a marker once its generation is committed, unless the run is stopped first. Returns the identity that
    /// the destination then has; the outer `None` if the marker may not have been written.
    pub(crate) async fn write_marker(
        &self,
        next: Option<NextMarker>,
    ) -> Result<Option<Option<DestinationIdentity>>, PullError> {
        let Some(NextMarker { marker, committed }) = next else { return Ok(None) };
        if committed.await.is_err() {
            return Ok(None);
        }
        tokio::select! {
            biased;
            marked = self.destination.mark(&marker) => Ok(Some(marked?.map(|marked| marker.identity(marked)))),
            () = self.stop.cancelled() => Ok(None),
        }
    }
}
