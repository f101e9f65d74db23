//! Keeps the account of a pull: what is done, what is still to be done, what the state may claim, what the report says.
//!
//! Everything durable goes through [`Ledger::commit`], so that state and report cannot disagree.

use std::sync::Arc;

use obsync_protocol::{Uid, VaultKeys, VaultPath};

use crate::entry::{EntryKind, RemoteEntry};
use crate::plan::{Target, Transfer};
use crate::report::{Failure, Report};
use crate::state::{
    Commit, Deferred, DeferredCause, DeferredKey, Record, StateError, StateStore, VaultState,
};
use crate::watermark::Watermark;

/// The account of one round of a pull.
pub(crate) struct Ledger<'a> {
    state: Arc<dyn StateStore>,
    keys: VaultKeys,
    watermark: Watermark,
    /// What the database holds.
    written: VaultState,
    /// What the next commit makes of it; the version comes from the watermark.
    next: VaultState,
    pub(crate) report: &'a mut Report,
    /// What the next commit will hold.
    pending: Commit,
    /// Changes that the next commit completes.
    completed: Vec<Uid>,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(
        state: Arc<dyn StateStore>,
        keys: VaultKeys,
        watermark: Watermark,
        written: VaultState,
        report: &'a mut Report,
    ) -> Self {
        let next = written.clone();
        Ledger {
            state,
            keys,
            watermark,
            written,
            next,
            report,
            pending: Commit::default(),
            completed: Vec::new(),
        }
    }

    /// A file or folder is in place, durably.
    pub(crate) fn recorded(&mut self, record: Record) {
        self.completed.push(record.uid());
        self.pending.settled.push(DeferredKey::plain(&record.path));
        self.pending.records.push(record);
    }

    /// A file or folder is gone, durably (or is not the vault's any more).
    pub(crate) fn forgotten(&mut self, path: VaultPath, uid: Uid) {
        self.completed.push(uid);
        self.pending.settled.push(DeferredKey::plain(&path));
        self.pending.forgotten.push(path);
    }

    /// A change needs nothing (any more).
    pub(crate) fn settled(&mut self, key: DeferredKey) {
        self.pending.settled.push(key);
    }

    /// The filter leaves a change out.
    pub(crate) fn filtered(&mut self, entry: &RemoteEntry) {
        if let EntryKind::File { size, .. } = entry.kind {
            self.report.skipped.add(size);
        }
        self.completed.push(entry.uid);
        self.pending.deferred.push(entry.defer(DeferredCause::Filtered, &self.keys));
    }

    /// A change could not be applied.
    pub(crate) fn failed(&mut self, entry: &RemoteEntry, reason: String) {
        tracing::debug!(uid = entry.uid.0, reason, "a change could not be applied");
        self.completed.push(entry.uid);
        let cause = DeferredCause::Failed { reason: reason.clone() };
        self.pending.deferred.push(entry.defer(cause, &self.keys));
        self.report.failures.push(Failure { path: entry.path.as_str().to_owned(), uid: entry.uid, reason });
    }

    /// A content could not be brought to any of its targets.
    pub(crate) fn transfer_failed(&mut self, transfer: &Transfer, reason: &str) {
        for target in &transfer.targets {
            self.target_failed(transfer, target, reason.to_owned());
        }
    }

    /// A content could not be brought to one target.
    pub(crate) fn target_failed(&mut self, transfer: &Transfer, target: &Target, reason: String) {
        let kind = EntryKind::File { hash: transfer.hash, size: transfer.size };
        let Target { path, uid, mtime, ctime, .. } = target.clone();
        self.failed(&RemoteEntry { path, uid, kind, mtime, ctime }, reason);
    }

    /// A change that cannot even be decoded; its deferred form says why.
    pub(crate) fn undecodable(&mut self, deferred: Deferred) {
        self.report.failures.extend(Failure::of_deferred(&deferred));
        self.completed.push(deferred.message.uid);
        self.pending.deferred.push(deferred);
    }

    /// Says durably which files are published next (see [`Commit::announced`]), along with what came together so far.
    pub(crate) async fn announce(&mut self, records: Vec<Record>) -> Result<(), StateError> {
        self.pending.announced = records;
        self.commit().await
    }

    /// Writes what came together since the last time, if anything did.
    pub(crate) async fn commit(&mut self) -> Result<(), StateError> {
        for uid in self.completed.drain(..) {
            self.watermark.done(uid);
        }
        self.next.version = self.watermark.version();
        let pending = std::mem::take(&mut self.pending);
        let is_empty = pending.records.is_empty()
            && pending.forgotten.is_empty()
            && pending.settled.is_empty()
            && pending.deferred.is_empty()
            && pending.announced.is_empty();
        if is_empty && self.next == self.written {
            return Ok(());
        }
        self.state.commit(Commit { state: self.next.clone(), ..pending }).await?;
        self.written = self.next.clone();
        self.report.version = self.written.version;
        Ok(())
    }

    /// Writes what is left, and that the listing was handled to its end under this filter.
    pub(crate) async fn close(&mut self, filter: String) -> Result<(), StateError> {
        self.next.listed = true;
        self.next.filter = Some(filter);
        self.commit().await
    }
}
