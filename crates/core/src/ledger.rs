//! Keeps the account of a pull: what is done, what is still to be done, what the state may claim, what the report says.
//!
//! Everything durable goes through [`Ledger::commit`], so that state and report cannot disagree.

use std::collections::HashSet;
use std::sync::Arc;

use obsync_protocol::limits::{FAILED_CHANGES, FAILED_MEMORY};
use obsync_protocol::{Filter, Uid, VaultKeys, VaultPath, Verdict};

use crate::accepted::Accepted;
use crate::brake;
use crate::destination::Removable;
use crate::entry::{EntryKind, RemoteEntry};
use crate::identity::DestinationIdentity;
use crate::journal::{Devices, JournalChange, JournalEntry, Side};
use crate::listing::Refused;
use crate::model::{CursorEntry, Deferred, DeferredCause, DeferredKey, Deletions, Direction, Intent, Record};
use crate::report::{Failure, Report};
use crate::schedule::Transfer;
use crate::state::{Commit, StateError, StateStore, VaultState};
use crate::watermark::Watermark;

/// The changes that failed and are remembered, those of earlier runs among them. A server can list millions that cannot be
/// applied, and every later run would hold all of them.
pub(crate) struct Remembered {
    keys: HashSet<DeferredKey>,
    bytes: u64,
    most_bytes: u64,
    /// Changes for which there was no room.
    left_out: u64,
}

impl Remembered {
    /// Room for what takes so many bytes, and not more than [`FAILED_MEMORY`].
    pub(crate) fn within(memory: u64) -> Self {
        let most_bytes = memory.min(FAILED_MEMORY);
        Remembered { keys: HashSet::new(), bytes: 0, most_bytes, left_out: 0 }
    }

    /// Counts a change that an earlier run remembered, whether there would be room for it or not.
    pub(crate) fn add(&mut self, deferred: &Deferred) {
        self.bytes = self.bytes.saturating_add(deferred.cost());
        self.keys.insert(deferred.key.clone());
    }

    /// Whether a change can be remembered. It counts from then on.
    pub(crate) fn has_capacity_for(&mut self, deferred: &Deferred) -> bool {
        if self.keys.contains(&deferred.key) {
            return true;
        }
        let fits =
            self.keys.len() < FAILED_CHANGES && self.bytes.saturating_add(deferred.cost()) <= self.most_bytes;
        match fits {
            true => self.add(deferred),
            false => self.left_out += 1,
        }
        fits
    }
}

/// The account of a pull.
pub(crate) struct Ledger<'a> {
    state: Arc<dyn StateStore>,
    keys: VaultKeys,
    pub(crate) filter: Filter,
    watermark: Watermark,
    /// The same for a full pull: up to where everything was looked at again.
    full_watermark: Option<Watermark>,
    /// What the database holds.
    written: VaultState,
    /// What the next commit makes of it; the version comes from the watermark.
    next: VaultState,
    pub(crate) report: &'a mut Report,
    /// What the next commit will hold.
    pending: Commit,
    /// Changes that were sent and that each commit announces once more: it is not known yet what became of them.
    pushes: Vec<Intent>,
    /// Changes that the next commit completes.
    completed: Vec<Uid>,
    /// What was deferred in this run.
    deferred: HashSet<DeferredKey>,
    /// What failed in this run and could not be deferred for lack of room.
    unremembered: HashSet<DeferredKey>,
    /// What is among the failures of the report. A catch-up can bring, or fail, a path again.
    failures: HashSet<DeferredKey>,
    remembered: Remembered,
    pub(crate) accepted: Accepted,
    /// The paths of deletions that somebody confirmed.
    pub(crate) confirmed_deletions: HashSet<VaultPath>,
    /// What was deferred because the destination keeps what the vault deletes. `None`: nobody looked.
    pub(crate) retained: Option<HashSet<DeferredKey>>,
    /// Which device made which version.
    pub(crate) devices: Devices,
    /// A commit failed.
    failed: bool,
}

impl<'a> Ledger<'a> {
    pub(crate) fn new(
        state: Arc<dyn StateStore>,
        keys: VaultKeys,
        filter: Filter,
        (watermark, full_watermark): (Watermark, Option<Watermark>),
        written: VaultState,
        remembered: Remembered,
        report: &'a mut Report,
    ) -> Self {
        let next = written.clone();
        let deferred = HashSet::new();
        Ledger {
            state,
            keys,
            filter,
            watermark,
            full_watermark,
            written,
            next,
            report,
            pending: Commit::default(),
            pushes: Vec::new(),
            completed: Vec::new(),
            deferred,
            unremembered: HashSet::new(),
            failures: HashSet::new(),
            remembered,
            accepted: Accepted::default(),
            retained: None,
            confirmed_deletions: HashSet::new(),
            devices: Devices::default(),
            failed: false,
        }
    }

    /// Keeps announced what was sent and may still be taken by the vault.
    pub(crate) async fn carry_pushes(&mut self) -> Result<(), StateError> {
        self.pushes = self.state.intents().await?;
        self.pushes.retain(Intent::is_push);
        Ok(())
    }

    /// A file or folder is in place, durably.
    pub(crate) fn recorded(&mut self, record: Record) {
        self.completed.push(record.uid());
        self.resolve(&record.path);
        self.pending.records.push(record);
    }

    /// A file or folder was looked at again and is as the state says, in every detail: that need not be written once more.
    /// (If its change was deferred once, the end of the full pull makes that obsolete.)
    pub(crate) fn confirmed(&mut self, uid: Uid) {
        self.completed.push(uid);
    }

    /// A file or folder is gone, durably (or is not the vault's any more).
    pub(crate) fn forgotten(&mut self, path: VaultPath, uid: Uid) {
        self.completed.push(uid);
        self.resolve(&path);
        self.pending.forgotten.push(path);
    }

    /// A file stays that the vault deleted, and is the vault's no more.
    pub(crate) fn retained(&mut self, path: VaultPath, size: u64, uid: Uid) {
        let kind = EntryKind::Deleted { folder: false };
        let deleted = RemoteEntry { path: path.clone(), uid, kind, mtime: 0, ctime: 0 };
        self.report.retained.add(size);
        self.forgotten(path, uid);
        self.defer(deleted.defer(DeferredCause::Retained, &self.keys));
    }

    /// Something was changed here as the vault has it. A first listing is no change of anything.
    pub(crate) fn journal(&mut self, change: JournalChange, path: &VaultPath, uid: Uid, size: Option<u64>) {
        if self.written.listed {
            let device = self.devices.of(uid);
            let entry = JournalEntry::new(Side::Here, change, path.clone(), uid);
            self.pending.journal.push(JournalEntry { device, size, ..entry });
        }
    }

    /// A file was kept under another name. That is a change also where nothing was listed before.
    pub(crate) fn kept(&mut self, path: &VaultPath, kept_as: &VaultPath) {
        let device = self.report.device.clone();
        self.pending.journal.push(JournalEntry::conflicted_copy(path, kept_as, Uid(0), device));
    }

    /// What was deferred of a path is obsolete.
    fn resolve(&mut self, path: &VaultPath) {
        let key = DeferredKey::plain(path);
        if !self.deferred.is_empty() {
            self.deferred.remove(&key);
        }
        self.withdraw_failure(&key, path);
        self.pending.resolved.push(key);
    }

    /// A path that failed earlier in this run did not fail in the end, or is about to fail once more.
    fn withdraw_failure(&mut self, key: &DeferredKey, path: &VaultPath) {
        if !self.failures.is_empty() && self.failures.remove(key) {
            self.report.withdraw_failure(path);
        }
    }

    /// Nothing is claimed of this path any more.
    pub(crate) fn abandoned(&mut self, path: VaultPath) {
        self.pending.forgotten.push(path);
    }

    /// A change needs nothing (any more). What the destination keeps stays known as such.
    pub(crate) fn unneeded(&mut self, path: &VaultPath) {
        let key = DeferredKey::plain(path);
        if !self.retained.as_ref().is_some_and(|retained| retained.contains(&key)) {
            self.resolve(path);
        }
    }

    /// An entry that could not be read was replaced.
    pub(crate) fn resolved(&mut self, key: DeferredKey) {
        self.pending.resolved.push(key);
    }

    /// The filter leaves a change out.
    pub(crate) fn filtered(&mut self, entry: &RemoteEntry) {
        if let (EntryKind::File { size, .. }, Verdict::Skip(reason)) =
            (entry.kind, self.filter.verdict(&entry.path, false))
        {
            self.report.skip(&entry.path, reason, size, &self.filter);
        }
        self.completed.push(entry.uid);
        self.defer(entry.defer(DeferredCause::Filtered, &self.keys));
    }

    /// A change could not be applied.
    pub(crate) fn failed(&mut self, entry: &RemoteEntry, reason: String) {
        self.postpone(entry, reason.clone());
        let key = DeferredKey::plain(&entry.path);
        self.withdraw_failure(&key, &entry.path);
        self.failures.insert(key);
        self.report.fail(Failure { path: entry.path.as_str().to_owned(), uid: entry.uid, reason });
    }

    /// A deletion is not made before somebody confirms it.
    pub(crate) fn held_back(&mut self, entry: &RemoteEntry) {
        let deferred = entry.defer(DeferredCause::HeldBack { confirmed: None }, &self.keys);
        self.report.hold_back(&entry.path, entry.is_folder());
        if self.remembered.has_capacity_for(&deferred) {
            self.completed.push(entry.uid);
            self.defer(deferred);
        } else {
            // The version remains below it, and the next run lists it anew.
            self.unremembered.insert(deferred.key);
        }
    }

    /// So many files were deleted that count for the limit of an hour.
    pub(crate) fn deleted(&mut self, files: u64) {
        if files > 0 {
            brake::note(&mut self.next.deletions, files, brake::this_minute());
        }
    }

    /// A change can never be applied here, as long as the vault does not change it again.
    pub(crate) fn refused(&mut self, entry: &RemoteEntry, reason: String) {
        let cause = DeferredCause::Acknowledged { reason: reason.clone() };
        let deferred = entry.defer(cause, &self.keys);
        if !self.accept(deferred) {
            self.report.has_lasting_failures = true;
            self.report.has_excludable_failures = true;
            self.failed(entry, reason);
        }
    }

    /// A change is left to the vault, which is as it should be.
    pub(crate) fn left(&mut self, entry: &RemoteEntry, reason: String) {
        let deferred = entry.defer(DeferredCause::Acknowledged { reason }, &self.keys);
        if self.remembered.has_capacity_for(&deferred) {
            self.completed.push(entry.uid);
            self.defer(deferred);
        }
    }

    /// Notes a lasting failure that the user accepted. `false`: nobody did.
    fn accept(&mut self, deferred: Deferred) -> bool {
        let uid = deferred.message.uid;
        if !self.accepted.covers(&deferred.key, uid) || !self.remembered.has_capacity_for(&deferred) {
            return false;
        }
        self.report.accepted_failures += 1;
        self.completed.push(uid);
        self.defer(deferred);
        true
    }

    /// A content can never be brought to its only target.
    pub(crate) fn transfer_refused(&mut self, transfer: &Transfer, reason: &str) {
        self.missing(transfer);
        for entry in transfer.entries() {
            self.refused(&entry, reason.to_owned());
        }
    }

    /// Keeps a change that could not be applied for the next run.
    fn postpone(&mut self, entry: &RemoteEntry, reason: String) {
        tracing::debug!(uid = entry.uid.0, reason, "a change could not be applied");
        // A deletion that fails stays confirmed.
        let cause = match !entry.is_live() && self.confirmed_deletions.contains(&entry.path) {
            true => DeferredCause::HeldBack { confirmed: Some(brake::this_minute().saturating_mul(60_000)) },
            false => DeferredCause::Failed { reason },
        };
        let deferred = entry.defer(cause, &self.keys);
        // Without room it stays to be done: the version remains below it, and the next run lists it anew.
        if self.remembered.has_capacity_for(&deferred) {
            self.completed.push(entry.uid);
            self.defer(deferred);
        } else {
            self.unremembered.insert(deferred.key);
        }
    }

    /// A content could not be brought to any of its targets.
    pub(crate) fn transfer_failed(&mut self, transfer: &Transfer, reason: &str) {
        self.missing(transfer);
        for entry in transfer.entries() {
            self.failed(&entry, reason.to_owned());
        }
    }

    /// A change that was begun needs nothing any more, because a later one takes its place.
    pub(crate) fn superseded(&mut self, uid: Uid) {
        self.completed.push(uid);
    }

    /// The vault was listed up to this version, and these changes came to what is to be done.
    pub(crate) fn extend(&mut self, version: u64, uids: impl Iterator<Item = Uid>) {
        for uid in uids {
            self.watermark.begin(uid);
            self.full_watermark.iter_mut().for_each(|full_watermark| full_watermark.begin(uid));
        }
        self.watermark.rise(version);
        self.full_watermark.iter_mut().for_each(|full_watermark| full_watermark.rise(version));
    }

    /// Where the state claims the very content that was to be brought back, it does so no longer: else the next attempt
    /// would find nothing to do.
    pub(crate) fn missing(&mut self, transfer: &Transfer) {
        let claimed = transfer.targets.iter().filter(|target| target.is_recorded_as(transfer.hash));
        self.pending.forgotten.extend(claimed.map(|target| target.path.clone()));
    }

    /// Whether the change of this path was deferred in this run, or is to be listed anew.
    pub(crate) fn has_deferred(&self, path: &VaultPath) -> bool {
        let key = DeferredKey::plain(path);
        self.deferred.contains(&key) || self.unremembered.contains(&key)
    }

    fn defer(&mut self, deferred: Deferred) {
        self.deferred.insert(deferred.key.clone());
        self.pending.deferred.push(deferred);
    }

    /// A change that cannot even be decoded; its deferred form says why. If an earlier run remembered it, it comes with the
    /// cause that it had then. Where the user's filter leaves it out, it is no failure.
    pub(crate) fn undecodable(&mut self, refused: Refused) {
        if let Some((path, reason)) = refused.left_out_by(&self.filter) {
            // Nobody knows its size.
            self.report.skip(path, reason, 0, &self.filter);
            self.completed.push(refused.deferred.message.uid);
            return self.defer(Deferred { cause: DeferredCause::Filtered, ..refused.deferred });
        }
        let mut deferred = refused.deferred;
        if let DeferredCause::Failed { reason } | DeferredCause::Acknowledged { reason } = &deferred.cause {
            let reason = reason.clone();
            let cause = DeferredCause::Acknowledged { reason: reason.clone() };
            if self.accept(Deferred { cause, ..deferred.clone() }) {
                return;
            }
            self.report.has_lasting_failures = true;
            self.report.has_excludable_failures |= !deferred.key.is_encoded();
            deferred.cause = DeferredCause::Failed { reason };
        }
        if let Some(failure) = Failure::of_deferred(&deferred) {
            self.report.fail(failure);
        }
        self.completed.push(deferred.message.uid);
        self.defer(deferred);
    }

    /// Says durably which files are published next (see [`Commit::intents`]), along with what came together so far: the
    /// batch before them above all.
    pub(crate) async fn announce(&mut self, records: Vec<Record>) -> Result<(), StateError> {
        self.pending.intents = records.into_iter().map(Intent::Place).collect();
        self.commit().await
    }

    /// The run ends without knowing whether this file of the batch came into place: a service that was cut off may have
    /// done what it did not answer for.
    pub(crate) fn still_announced(&mut self, record: Record) {
        self.pending.intents.push(Intent::Place(record));
    }

    /// A file is to be removed, or it is not known whether it was.
    pub(crate) fn removal_still_announced(&mut self, file: Removable) {
        self.pending.intents.push(Intent::Remove { path: file.path, content: file.content });
    }

    /// Writes what came together since the last time, if anything did.
    ///
    /// Nothing is written any more once that failed: what was to be written then is lost, and what comes after it must not
    /// seem to be all. The next run finds it out.
    pub(crate) async fn commit(&mut self) -> Result<(), StateError> {
        if self.failed {
            return Ok(());
        }
        for uid in self.completed.drain(..) {
            self.watermark.done(uid);
            self.full_watermark.iter_mut().for_each(|full_watermark| full_watermark.done(uid));
        }
        self.next.version = self.watermark.version();
        if let Some(full_watermark) = &self.full_watermark {
            self.next.full_up_to = Some(full_watermark.version());
        }
        let pending = std::mem::take(&mut self.pending);
        let is_empty = pending.records.is_empty()
            && pending.forgotten.is_empty()
            && pending.resolved.is_empty()
            && pending.deferred.is_empty()
            && pending.intents.is_empty()
            && pending.journal.is_empty();
        if is_empty && self.next == self.written {
            return Ok(());
        }
        let intents = pending.intents.into_iter().chain(self.pushes.iter().cloned()).collect();
        let committed = self.state.commit(Commit { state: self.next.clone(), intents, ..pending }).await;
        self.failed = committed.is_err();
        committed?;
        self.written = self.next.clone();
        self.report.version = self.written.version;
        Ok(())
    }

    /// The identity of the destination, as the next commit will say it.
    pub(crate) fn destination(&self) -> Option<&DestinationIdentity> {
        self.next.destination.as_ref()
    }

    /// The newest entry that an earlier run listed.
    pub(crate) fn cursor(&self) -> Option<CursorEntry> {
        self.written.cursor
    }

    /// Whether an earlier run came to its end.
    pub(crate) fn has_listed(&self) -> bool {
        self.written.listed
    }

    /// The destination has this identity from now on.
    pub(crate) fn identify(&mut self, destination: Option<DestinationIdentity>) {
        self.next.destination = destination;
    }

    /// The destination is synced in this direction from now on.
    pub(crate) fn direct(&mut self, direction: Direction) {
        self.next.direction = direction;
    }

    /// The deletions of the last hour.
    pub(crate) fn deletions(&self) -> &[Deletions] {
        &self.next.deletions
    }

    /// Whether there is something to commit.
    pub(crate) fn is_behind(&self) -> bool {
        !self.completed.is_empty()
    }

    /// Says durably, before anything is done, how thorough this run is and whether its filter is a new one: if the
    /// run is cut short, the next one has to make up for it.
    pub(crate) async fn open(&mut self, filter: &str) -> Result<(), StateError> {
        if self.next.filter.as_deref() != Some(filter) {
            self.next.filter = None;
        }
        self.commit().await
    }

    /// Writes what is left, and that the listing was handled to its end under this filter. What was deferred before, and
    /// not again, is `obsolete`.
    pub(crate) async fn close(
        &mut self,
        filter: String,
        obsolete: Vec<DeferredKey>,
        cursor: Option<CursorEntry>,
    ) -> Result<(), StateError> {
        if self.remembered.left_out > 0 {
            let warning = format!(
                "{} changes could not be applied beyond the {} that are remembered; the next pull lists them again",
                self.remembered.left_out,
                self.remembered.keys.len()
            );
            self.report.warn(warning);
        }
        let obsolete = obsolete.into_iter().filter(|key| !self.deferred.contains(key));
        self.pending.resolved.extend(obsolete);
        self.next.listed = true;
        // A full pull that was begun before is still due after a run that could not be one.
        if self.full_watermark.take_if(|_| self.remembered.left_out == 0).is_some() {
            self.next.full_up_to = None;
        }
        self.next.filter = Some(filter);
        self.next.cursor = cursor;
        self.next.keeping = false;
        self.commit().await
    }
}
