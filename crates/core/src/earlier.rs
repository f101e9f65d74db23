//! The changes that earlier runs deferred: which are tried again, which are obsolete, which the user accepted.

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
    /// Those that nothing has to be known of any more.
    pub(crate) obsolete: Vec<DeferredKey>,
    /// Those that failed.
    pub(crate) remembered: Remembered,
    /// Those that were accepted, and whether this run accepts more.
    pub(crate) accepted: Accepted,
    /// The paths of deletions that somebody confirmed.
    pub(crate) confirmed: HashSet<VaultPath>,
    /// Deletions that are not made because the destination keeps what the vault deletes. `None`: nobody looked.
    pub(crate) retained: Option<HashSet<DeferredKey>>,
}

impl Run<'_> {
    /// Adds to the listing what earlier runs deferred and this one tries again.
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
                // The file stays, whatever this run is told: it is nobody's but the user's from then on.
                DeferredCause::Retained => {
                    earlier.retained.get_or_insert_default().insert(deferred.key);
                    continue;
                }
                _ => {}
            }
            match survey.is_whole() || survey.disbelieved {
                // The listing stands for it.
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
            // What was accepted is tried again as well: it may have been in another's way that is gone.
            DeferredCause::Failed { .. } | DeferredCause::Acknowledged { .. } => {
                earlier.remembered.add(&deferred);
            }
            // It stays until somebody says otherwise, or the vault does.
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

/// The deletions among these that were not made because the destination keeps what the vault deletes.
pub(crate) fn retained(deferred: Vec<Deferred>) -> HashSet<DeferredKey> {
    let retained = deferred.into_iter().filter(|deferred| deferred.cause == DeferredCause::Retained);
    retained.map(|deferred| deferred.key).collect()
}

/// What to tell of deferred changes that cannot be read and are too many.
fn forgotten(count: usize) -> String {
    format!(
        "{count} entries that cannot be read and that earlier pulls remembered were forgotten, because there are too many; \
         a pull with `--full` lists them again"
    )
}
