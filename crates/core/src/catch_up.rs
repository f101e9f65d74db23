//! Handles contents that the vault replaced after they were listed: newer entries are listed, and only those
//! are planned and applied.

use std::collections::HashMap;

use obsync_protocol::{Uid, VaultPath};

use crate::error::PullError;
use crate::model::Intent;
use crate::publish::Publisher;
use crate::reconcile::Mode;
use crate::rescue::Renamed;
use crate::run::Run;
use crate::schedule::{Schedule, Target, Transfer};
use crate::survey::Survey;
use crate::transfer::Link;

/// A run lists again at most so often because a content that it wanted was replaced meanwhile.
pub(crate) const SEQUELS: usize = 2;

/// Work that a plan left undone.
#[derive(Default)]
pub(crate) struct Remainder {
    /// Contents that the server no longer has.
    pub(crate) overtaken: Vec<Transfer>,
    /// Files to remove once their content is at its new names.
    pub(crate) renamed: Vec<Renamed>,
}

impl Run<'_> {
    /// Lists the entries since the last listing, and plans them. `None` if there is nothing newer for the
    /// replaced contents, the vault is not the same any more, or it took an announced change late: the next run
    /// detects and settles that before it applies anything.
    pub(crate) async fn catch_up(
        &self,
        publisher: &mut Publisher<'_, '_>,
        survey: &mut Survey,
        link: &mut Link,
        unfinished: &mut Remainder,
    ) -> Result<Option<Schedule>, PullError> {
        let listed = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Ok(None),
            listed = self.list_from(survey.version, false, survey.cursor.next()) => listed?,
        };
        publisher.ledger.report.listed += listed.listing.received;
        publisher.ledger.report.connections += u64::from(link.session.is_some());
        let version = listed.version();
        let newer: HashMap<VaultPath, Uid> =
            listed.listing.entries.iter().map(|entry| (entry.path.clone(), entry.uid)).collect();
        let is_same = listed.cursor.is_confirmed();
        link.session = Some(listed.session);
        let superseded = take_superseded(&mut unfinished.overtaken, &newer);
        if !is_same || superseded.is_empty() || self.are_announced(&newer).await? {
            unfinished.overtaken.extend(superseded);
            return Ok(None);
        }
        // The plan must not find them recorded.
        superseded.iter().for_each(|transfer| publisher.ledger.missing(transfer));
        publisher.ledger.commit().await?;
        survey.is_sequel = true;
        survey.mode = Mode::Incremental;
        survey.scout.is_empty = false;
        (survey.version, link.version) = (version, version);
        (survey.listing, survey.cursor) = (listed.listing, listed.cursor);
        let mut plan = self.plan(survey, &publisher.ledger.report.foreseen).await?;
        let deletions = publisher.ledger.deletions().to_vec();
        let confirmed = publisher.ledger.confirmed_deletions.clone();
        self.hold_back(&mut plan, &deletions, &confirmed, publisher.ledger.report).await?;
        self.warn_of(&plan, publisher.ledger.report);
        // Removals that waited for a path whose content was replaced now wait for the new path of their own
        // content.
        unfinished.renamed.iter_mut().for_each(|renamed| renamed.wait_for(&plan));
        let plan = self.take_on(publisher, plan, survey).await?;
        let targets = superseded.iter().flat_map(|transfer| &transfer.targets);
        targets.for_each(|target| publisher.ledger.superseded(target.uid));
        // A path with a newer entry is left to that entry.
        for renamed in &mut unfinished.renamed {
            for removal in renamed.removals.extract_if(.., |removal| newer.contains_key(&removal.file.path)) {
                publisher.ledger.superseded(removal.uid);
            }
        }
        Ok(Some(plan))
    }

    /// True if one of these paths has an announced push.
    async fn are_announced(&self, newer: &HashMap<VaultPath, Uid>) -> Result<bool, PullError> {
        let intents = self.state.intents().await?;
        Ok(intents.iter().flat_map(Intent::sent).any(|(path, _)| newer.contains_key(&path)))
    }
}

/// Takes out the targets that have newer entries.
fn take_superseded(overtaken: &mut Vec<Transfer>, newer: &HashMap<VaultPath, Uid>) -> Vec<Transfer> {
    let mut superseded = Vec::new();
    for transfer in overtaken.iter_mut() {
        let is_newer = |target: &mut Target| newer.get(&target.path).is_some_and(|uid| *uid > target.uid);
        let targets: Vec<_> = transfer.targets.extract_if(.., is_newer).collect();
        if !targets.is_empty() {
            superseded.push(Transfer { targets, ..transfer.clone() });
        }
    }
    overtaken.retain(|transfer| !transfer.targets.is_empty());
    superseded
}
