//! The changes that earlier runs deferred: which are tried again, which are obsolete, which the user accepted.

use obsync_protocol::limits::LISTING_MEMORY;

use crate::error::PullError;
use crate::ledger::{Accepted, Remembered};
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
    /// How many of them this run does not look at.
    pub(crate) still_accepted: u64,
}

impl Run<'_> {
    /// Adds to the listing what earlier runs deferred and this one tries again.
    pub(crate) async fn add_deferred(
        &self,
        survey: &mut Survey,
        report: &mut Report,
    ) -> Result<Earlier, PullError> {
        let remembered = Remembered::within(self.options.listing_memory.unwrap_or(LISTING_MEMORY) / 8);
        let accepted = Accepted { all: self.options.accept_failures, ..Accepted::default() };
        let mut earlier = Earlier { obsolete: Vec::new(), remembered, accepted, still_accepted: 0 };
        let failed = self.state.deferred(DeferredKind::Failed).await?;
        let refiltered = survey.known.filter.as_deref() != Some(self.options.filter.fingerprint().as_str());
        let filtered = match survey.is_whole() || refiltered {
            true => self.state.deferred(DeferredKind::Filtered).await?,
            false => Vec::new(),
        };
        for deferred in failed.into_iter().chain(filtered) {
            if let DeferredCause::Acknowledged { .. } = deferred.cause {
                earlier.accepted.known.insert(deferred.key.clone(), deferred.message.uid);
            }
            match survey.is_whole() || survey.disbelieved {
                // The listing stands for it.
                true => earlier.obsolete.push(deferred.key),
                false => self.add_one(deferred, survey, &mut earlier),
            }
        }
        if !survey.is_whole() && !survey.disbelieved && !earlier.obsolete.is_empty() {
            self.warn(forgotten(earlier.obsolete.len()), report);
        }
        Ok(earlier)
    }

    fn add_one(&self, deferred: Deferred, survey: &mut Survey, earlier: &mut Earlier) {
        let keys = &self.source.keys;
        match deferred.cause {
            DeferredCause::Failed { .. } => earlier.remembered.add(&deferred),
            // They stay until somebody says otherwise, or the vault does.
            DeferredCause::Acknowledged { .. } => {
                earlier.remembered.add(&deferred);
                earlier.still_accepted += u64::from(!survey.listing.supersedes(&deferred, keys));
                return;
            }
            DeferredCause::HeldBack { confirmed: None } => return,
            DeferredCause::Filtered | DeferredCause::HeldBack { confirmed: Some(_) } => {}
        }
        let key = deferred.key.clone();
        if !survey.listing.add_deferred(deferred, keys) {
            earlier.obsolete.push(key);
        }
    }
}

/// What to tell of deferred changes that cannot be read and are too many.
fn forgotten(count: usize) -> String {
    format!(
        "{count} entries that cannot be read and that earlier pulls remembered were forgotten, because there are too many; \
         a pull with `--full` lists them again"
    )
}
