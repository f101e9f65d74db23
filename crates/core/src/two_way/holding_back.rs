//! Holds deletions in the vault back if there are too many, until a user confirms them.

use std::collections::HashSet;

use obsync_protocol::VaultPath;

use crate::brake::{self, MaxDelete};
use crate::confirmation;
use crate::entry::{EntryKind, RemoteEntry};
use crate::error::PullError;
use crate::model::{Deferred, DeferredCause, DeferredKey, DeferredKind};
use crate::report::Report;
use crate::scan::LocalTree;
use crate::state::{Commit, commit_beside};

use super::TwoWay;
use super::outgoing::{Absent, Outgoing};

/// Outgoing changes that earlier runs deferred.
pub(super) struct Waiting {
    changes: Vec<WaitingChange>,
    /// Paths of confirmed deletions.
    confirmed: HashSet<VaultPath>,
}

struct WaitingChange {
    deferred: Deferred,
    /// `None` if the path cannot be decoded; then no scan can see it.
    path: Option<VaultPath>,
    /// Every scan of this run covered the path.
    is_seen: bool,
}

impl Waiting {
    /// True if no change waits and no deletion is confirmed.
    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.confirmed.is_empty()
    }

    /// True if a user confirmed a deletion.
    pub(super) fn has_confirmed(&self) -> bool {
        !self.confirmed.is_empty()
    }

    /// Paths of waiting files, without deletions.
    pub(super) fn files(&self) -> impl Iterator<Item = &VaultPath> {
        self.deferred_files().map(|(path, ..)| path)
    }

    /// The same, each with its deferred change, and `true` if every scan of this run covered the path.
    pub(super) fn deferred_files(&self) -> impl Iterator<Item = (&VaultPath, &Deferred, bool)> {
        let files = self.changes.iter().filter(|change| !change.deferred.message.deleted);
        files.filter_map(|change| Some((change.path.as_ref()?, &change.deferred, change.is_seen)))
    }

    /// True if a change with this key waits.
    pub(super) fn has(&self, key: &DeferredKey) -> bool {
        self.changes.iter().any(|change| change.deferred.key == *key)
    }

    /// Notes the paths that a scan did not cover: all but `few` (if given), paths that are being changed, and
    /// places that could not be scanned. Changes waiting at these paths keep waiting. While git rewrites the
    /// folder, that is every deletion; files are sent even then.
    pub(super) fn look(
        &mut self,
        tree: &LocalTree,
        few: Option<&HashSet<VaultPath>>,
        restless: &HashSet<VaultPath>,
    ) {
        for change in &mut self.changes {
            let is_in_flux = tree.is_in_flux && change.deferred.message.deleted;
            change.is_seen &= !is_in_flux
                && change.path.as_ref().is_none_or(|path| {
                    few.is_none_or(|few| few.contains(path))
                        && !restless.contains(path)
                        && !tree.is_unknown(path)
                });
        }
    }

    /// Unconfirmed deletions of files that the scans did not cover.
    fn unseen(&self) -> impl Iterator<Item = &VaultPath> {
        let is_held_back = |change: &&WaitingChange| {
            change.deferred.cause == DeferredCause::HeldBack { confirmed: None }
                && !change.deferred.message.folder
        };
        self.changes
            .iter()
            .filter(|change| !change.is_seen)
            .filter(is_held_back)
            .filter_map(|change| change.path.as_ref())
    }

    /// Keys of the changes that are resolved, given those that are `still` waiting.
    fn resolved(self, still: &HashSet<DeferredKey>) -> Vec<DeferredKey> {
        let seen = self.changes.into_iter().filter(|change| change.is_seen);
        seen.map(|change| change.deferred.key).filter(|key| !still.contains(key)).collect()
    }
}

impl TwoWay<'_, '_> {
    /// Loads the changes that wait to be sent.
    pub(super) async fn waiting(&self) -> Result<Waiting, PullError> {
        let mut waiting = Waiting { changes: Vec::new(), confirmed: HashSet::new() };
        let mut failed = self.run.state.deferred(DeferredKind::Failed).await?;
        if !self.run.options.dry_run {
            confirmation::take_over(self.run.state.as_ref(), &mut failed).await?;
        }
        for deferred in failed {
            if !deferred.key.is_outgoing() {
                continue;
            }
            let path = self.run.source.keys.decode_path(&deferred.message.path).ok();
            if matches!(deferred.cause, DeferredCause::HeldBack { confirmed: Some(_) }) {
                waiting.confirmed.extend(path.clone());
            }
            waiting.changes.push(WaitingChange { deferred, path, is_seen: true });
        }
        Ok(waiting)
    }

    /// Holds the deletions back if there are too many for the vault.
    pub(super) async fn hold_back(
        &self,
        outgoing: &mut Outgoing,
        waiting: Waiting,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let run = self.run;
        let (mut deferred, paused) = self.hold_flapping(outgoing, &waiting, report).await?;
        let refused = self.hold_refused(outgoing, &waiting, report);
        let now = outgoing.count_deletions(&waiting.confirmed);
        let state = run.state.load().await?;
        let recent = brake::recent_there(&state.deletions, brake::this_minute());
        let files = run.state.files().await?.saturating_add(recent);
        let is_allowed = self.options.max_delete_in_vault.allows(now.saturating_add(recent), files);
        let held_back = match now > 0 && !is_allowed {
            true => outgoing.hold_back(&waiting.confirmed),
            false => Vec::new(),
        };
        let held_files = held_back.iter().filter(|absent| !absent.is_folder()).map(Absent::path);
        held_files.chain(waiting.unseen()).for_each(|path| report.hold_back_in_vault(path));
        if !held_back.is_empty() {
            run.warn(held_back_in_vault(now, recent, files, self.options.max_delete_in_vault), report);
        }
        if run.options.dry_run {
            return Ok(());
        }
        deferred.extend(held_back.iter().map(|absent| self.deletion_that_waits(absent)));
        // A confirmation stays until the vault has the deletion.
        let gone = outgoing.absent().map(|absent| DeferredKey::outgoing(absent.path()));
        let still =
            deferred.iter().map(|deferred| deferred.key.clone()).chain(gone).chain(paused).chain(refused);
        let still = still.collect();
        let resolved = waiting.resolved(&still);
        if deferred.is_empty() && resolved.is_empty() {
            return Ok(());
        }
        let commit = Commit { deferred, resolved, state, ..Commit::default() };
        Ok(commit_beside(run.state.as_ref(), commit).await?)
    }

    /// A deletion in the vault that waits for confirmation.
    fn deletion_that_waits(&self, absent: &Absent) -> Deferred {
        let kind = EntryKind::Deleted { folder: absent.is_folder() };
        let entry = RemoteEntry { path: absent.path().clone(), uid: absent.uid(), kind, mtime: 0, ctime: 0 };
        let cause = DeferredCause::HeldBack { confirmed: None };
        Deferred { key: DeferredKey::outgoing(absent.path()), ..entry.defer(cause, &self.run.source.keys) }
    }
}

/// Warning about deletions in the vault beyond the limit.
fn held_back_in_vault(now: u64, recent: u64, files: u64, limit: MaxDelete) -> String {
    let before = match recent {
        0 => String::new(),
        recent => format!(", after {recent} in the last hour"),
    };
    format!(
        "{now} of the {files} files were deleted or emptied here{before}, more than {limit}, which is the limit \
         (--max-delete-in-vault, OBSYNC_MAX_DELETE_IN_VAULT); the vault keeps them. Look at the folder, then `obsync confirm` \
         lets exactly these deletions go"
    )
}
