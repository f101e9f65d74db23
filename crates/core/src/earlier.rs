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
    /// Deletions that are not made because the destination keeps deleted files. `None` if they were not
    /// loaded.
    pub(crate) retained: Option<HashSet<DeferredKey>>,
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
        let mut earlier =
            Earlier { obsolete: Vec::new(), remembered, accepted, confirmed: HashSet::new(), retained: None };
        let lets_go = self.options.max_delete == MaxDelete::Unlimited;
        let mut failed = self.state.deferred(DeferredKind::Failed).await?;
        if !self.options.dry_run {
            confirmation::take_over(self.state.as_ref(), &mut failed).await?;
        }
        let refiltered = survey.known.filter.as_deref() != Some(self.options.filter.fingerprint().as_str());
        let is_looked_at = survey.is_whole() || refiltered;
        let filtered = match is_looked_at || self.destination.traits().keeps_deleted {
            true => {
                earlier.retained = Some(HashSet::new());
                self.state.deferred(DeferredKind::Filtered).await?
            }
            false => Vec::new(),
        };
        let incoming = failed.into_iter().chain(filtered).filter(|deferred| !deferred.key.is_outgoing());
        for deferred in incoming {
            match deferred.cause {
                DeferredCause::Filtered if !is_looked_at => continue,
                DeferredCause::Acknowledged { .. } => {
                    earlier.accepted.known.insert(deferred.key.clone(), deferred.message.uid);
                }
                DeferredCause::HeldBack { confirmed } if confirmed.is_some() || lets_go => {
                    earlier.confirmed.extend(self.source.keys.decode_path(&deferred.message.path));
                }
                // The file stays whatever the options of this run are: it belongs to the user alone from then
                // on.
                DeferredCause::Retained => {
                    earlier.retained.get_or_insert_default().insert(deferred.key);
                    continue;
                }
                _ => {}
            }
            match survey.is_whole() || survey.disbelieved {
                // The listing has a newer entry for it.
                true => earlier.obsolete.push(deferred.key),
                false => self.add_one(deferred, survey, &mut earlier, report),
            }
        }
        if !survey.is_whole() && !survey.disbelieved && !earlier.obsolete.is_empty() {
            self.warn(forgotten(earlier.obsolete.len()), report);
        }
        Ok(earlier)
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

/// Keys of the deletions that were not made because the destination keeps deleted files.
pub(crate) fn retained(deferred: Vec<Deferred>) -> HashSet<DeferredKey> {
    let retained = deferred.into_iter().filter(|deferred| deferred.cause == DeferredCause::Retained);
    retained.map(|deferred| deferred.key).collect()
}

/// Warning about deferred changes that cannot be read and are too many.
fn forgotten(count: usize) -> String {
    format!(
        "{count} entries that cannot be read and that earlier pulls remembered were forgotten, because there are too many; \
         a pull with `--full` lists them again"
    )
}
