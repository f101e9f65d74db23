//! Handles contents that the vault replaced after they were listed: what came since is listed, and only that is
//! planned and carried out.

use std::collections::HashMap;

use obsync_protocol::{Uid, VaultPath};

use crate::error::PullError;
use crate::publish::Publisher;
use crate::reconcile::Mode;
use crate::rescue::Renamed;
use crate::run::Run;
use crate::schedule::{Schedule, Target, Transfer};
use crate::survey::Survey;
use crate::transfer::Link;

/// How often a run lists again because something that it wanted was replaced meanwhile.
pub(crate) const SEQUELS: usize = 2;

/// What a plan left to be done.
#[derive(Default)]
pub(crate) struct Remainder {
    /// Contents that the server has no longer.
    pub(crate) overtaken: Vec<Transfer>,
    /// Files that go when their content is under its new names.
    pub(crate) renamed: Vec<Renamed>,
}

impl Run<'_> {
    /// Lists what came since the last listing, and plans it. `None`: there is nothing newer of what was overtaken, or it is not
    /// the same vault any more, which is for the next run to find out.
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
        if !is_same || superseded.is_empty() {
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
        // What was to wait for a path that has another content now waits for wherever its own comes.
        unfinished.renamed.iter_mut().for_each(|renamed| renamed.wait_for(&plan));
        let plan = self.take_on(publisher, plan, survey).await?;
        let targets = superseded.iter().flat_map(|transfer| &transfer.targets);
        targets.for_each(|target| publisher.ledger.superseded(target.uid));
        // What has a newer entry is that entry's.
        for renamed in &mut unfinished.renamed {
            for removal in renamed.removals.extract_if(.., |removal| newer.contains_key(&removal.file.path)) {
                publisher.ledger.superseded(removal.uid);
            }
        }
        Ok(Some(plan))
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
