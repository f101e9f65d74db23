//! Sorts the changes that earlier runs deferred: to retry, obsolete, or accepted by the user.

use std::collections::HashSet;

use obsync_protocol::VaultPath;
use obsync_protocol::limits::LISTING_MEMORY;

use crate::accepted::Accepted;
use crate::brake::MaxDelete;
use crate::confirmation;
use crate::entry::RemoteEntry;
use crate::error::PullError;
use crate::ledger::Remembered;
use crate::model::{Deferred, DeferredCause, DeferredKey, DeferredKind};
use crate::report::Report;
use crate::run::Run;
use crate::state::DeferredParts;
use crate::survey::Survey;

/// Changes that earlier runs deferred.
pub(crate) struct Earlier {
    /// Changes that need not be stored any more.
    pub(crate) obsolete: Vec<DeferredKey>,
    /// Failed changes.
    pub(crate) remembered: Remembered,
    /// Accepted failures, and whether this run accepts more.
    pub(crate) accepted: Accepted,
    /// Paths of confirmed deletions.
    pub(crate) confirmed: HashSet<VaultPath>,
    /// The listing has a newer entry for everything that a filter excluded.
    pub(crate) forgets_filtered: bool,
}

impl Run<'_> {
    /// Adds deferred changes that this run retries to the listing.
    pub(crate) async fn add_deferred(
        &self,
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<Earlier, PullError> {
        let remembered = Remembered::within(self.options.listing_memory.unwrap_or(LISTING_MEMORY) / 5);
        let accepted = Accepted { all: self.options.accept_failures, ..Accepted::default() };
        let mut earlier = Earlier {
            obsolete: Vec::new(),
            remembered,
            accepted,
            confirmed: HashSet::new(),
            forgets_filtered: survey.is_whole(),
        };
        let is_replaced = survey.is_whole() || survey.disbelieved;
        for deferred in self.failed_before().await? {
            self.note_decisions(&deferred, &mut earlier);
            match is_replaced {
                true => earlier.obsolete.push(deferred.key),
                false => self.add_one(deferred, survey, &mut earlier, report),
            }
        }
        let is_refiltered =
            survey.known.filter.as_deref() != Some(self.options.filter.fingerprint().as_str());
        if is_refiltered && !is_replaced {
            self.add_filtered(survey, &mut earlier, report).await?;
        }
        if let Some(excess) = survey.listing.too_large() {
            return Err(self.too_large(excess, &survey.listing));
        }
        if !is_replaced && !earlier.obsolete.is_empty() {
            self.warn(forgotten(earlier.obsolete.len()), report);
        }
        Ok(earlier)
    }

    /// Changes of the vault that failed in earlier runs, are held back or accepted.
    async fn failed_before(&self) -> Result<Vec<Deferred>, PullError> {
        let mut failed = self.state.deferred(DeferredKind::Failed).await?;
        if !self.options.dry_run {
            confirmation::take_over(self.state.as_ref(), &mut failed).await?;
        }
        failed.retain(|deferred| !deferred.key.is_outgoing());
        Ok(failed)
    }

    /// Notes what users decided about a change.
    fn note_decisions(&self, deferred: &Deferred, earlier: &mut Earlier) {
        let lets_go = self.options.max_delete == MaxDelete::Unlimited;
        match deferred.cause {
            DeferredCause::Acknowledged { .. } => {
                earlier.accepted.known.insert(deferred.key.clone(), deferred.message.uid);
            }
            DeferredCause::HeldBack { confirmed } if confirmed.is_some() || lets_go => {
                earlier.confirmed.extend(self.source.keys.decode_path(&deferred.message.path));
            }
            _ => {}
        }
    }

    /// Adds what another filter excluded: this one may not. Nothing is added beyond the listing's memory, but
    /// counted. A file that is kept although the vault deleted it stays whatever the options of this run are:
    /// it belongs to the user alone from then on.
    async fn add_filtered(
        &self,
        survey: &mut Survey,
        earlier: &mut Earlier,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let mut parts = DeferredParts::of(self.state.as_ref(), DeferredKind::Filtered);
        while let Some(part) = parts.next().await? {
            let filtered = part.into_iter().filter(|deferred| deferred.cause == DeferredCause::Filtered);
            for deferred in filtered.filter(|deferred| !deferred.key.is_outgoing()) {
                self.add_one(deferred, survey, earlier, report);
            }
        }
        Ok(())
    }

    fn add_one(&self, deferred: Deferred, survey: &mut Survey, earlier: &mut Earlier, report: &mut Report) {
        let keys = &self.source.keys;
        match deferred.cause {
            // Accepted failures are retried as well: they may have been in the way of another change that is
            // gone.
            DeferredCause::Failed { .. }
            | DeferredCause::Lasting { .. }
            | DeferredCause::Acknowledged { .. }
            | DeferredCause::Diverged => {
                earlier.remembered.add(&deferred);
            }
            // It stays until a user confirms it, or the vault changes it.
            DeferredCause::HeldBack { confirmed: None }
                if self.options.max_delete != MaxDelete::Unlimited =>
            {
                earlier.remembered.add(&deferred);
                if !survey.listing.supersedes(&deferred, keys)
                    && let Ok(entry) = RemoteEntry::decode(&deferred.message, keys)
                {
                    report.hold_back(&entry.path, entry.is_folder());
                }
                return;
            }
            DeferredCause::HeldBack { .. } | DeferredCause::Filtered | DeferredCause::Retained => {}
        }
        let key = deferred.key.clone();
        if !survey.listing.add_deferred(deferred, keys) {
            earlier.obsolete.push(key);
        }
    }
}

/// Warning about deferred changes that cannot be read and are too many.
fn forgotten(count: usize) -> String {
    format!(
        "{count} entries that cannot be read and that earlier pulls remembered were forgotten, because there are too many; \
         a pull with `--full` lists them again"
    )
}
