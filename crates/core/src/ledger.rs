//! Keeps the account of a pull: finished and pending changes, the contents of commits, and the report.
//!
//! Everything durable goes through [`Ledger::commit`], so that state and report cannot disagree.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use obsync_protocol::limits::{FAILED_CHANGES, FAILED_MEMORY};
use obsync_protocol::{Filter, Uid, VaultKeys, VaultPath, Verdict};
use tokio::sync::oneshot;

use crate::accepted::Accepted;
use crate::brake;
use crate::destination::Removable;
use crate::entry::{EntryKind, RemoteEntry};
use crate::identity::DestinationIdentity;
use crate::journal::{Devices, JournalChange, JournalEntry, Side};
use crate::listing::{Refused, Withheld};
use crate::model::{
    CursorEntry, Deferred, DeferredCause, DeferredKey, DeferredKind, Deletions, Direction, Intent, Record,
};
use crate::report::{Failure, Report};
use crate::schedule::Transfer;
use crate::state::{Commit, DeferredParts, StateError, StateStore, VaultState};
use crate::watermark::Watermark;

/// Deferred changes stored or removed at a time: in their stored form they take several times the memory of
/// an entry, 70 MB for 50,000 of them. (A table charges for each write.)
pub(crate) const NOTED: usize = 10_000;

/// The stored failures, including those of earlier runs. Limited: a server can list millions of changes that
/// cannot be applied, and every later run would load all of them.
pub(crate) struct Remembered {
    keys: HashSet<DeferredKey>,
    bytes: u64,
    most_bytes: u64,
    /// Changes for which there was no room.
    left_out: u64,
}

impl Remembered {
    /// Limits the stored failures to this many bytes of memory, and to [`FAILED_MEMORY`].
    pub(crate) fn within(memory: u64) -> Self {
        let most_bytes = memory.min(FAILED_MEMORY);
        Remembered { keys: HashSet::new(), bytes: 0, most_bytes, left_out: 0 }
    }

    /// Counts a change that an earlier run stored, even beyond the limit.
    pub(crate) fn add(&mut self, deferred: &Deferred) {
        self.bytes = self.bytes.saturating_add(deferred.cost());
        self.keys.insert(deferred.key.clone());
    }

    /// True if a change can be stored. It counts from then on.
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
    /// The same for a full pull: everything up to it was checked again.
    full_watermark: Option<Watermark>,
    /// State in the database.
    written: VaultState,
    /// State that the next commit writes; its version comes from the watermark.
    next: VaultState,
    pub(crate) report: &'a mut Report,
    /// Contents of the next commit.
    pending: Commit,
    /// Sent changes whose outcome is unknown: each commit announces them again.
    pushes: Vec<Intent>,
    /// Changes that the next commit completes.
    completed: Vec<Uid>,
    /// Changes deferred in this run.
    deferred: HashSet<DeferredKey>,
    /// Failures of this run that could not be deferred for lack of room.
    unremembered: HashSet<DeferredKey>,
    /// Failures in the report. A catch-up can fetch, or fail, a path again.
    failures: HashSet<DeferredKey>,
    remembered: Remembered,
    pub(crate) accepted: Accepted,
    /// Paths of confirmed deletions.
    pub(crate) confirmed_deletions: HashSet<VaultPath>,
    /// Changes without work that an earlier run deferred because the destination keeps deleted files.
    pub(crate) retained: HashSet<DeferredKey>,
    /// The device of each version.
    pub(crate) devices: Devices,
    /// A commit has failed.
    failed: bool,
    /// An identity that waits for the next commit, and who is told of it.
    waiting_identity: Option<(DestinationIdentity, oneshot::Sender<()>)>,
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
            retained: HashSet::new(),
            confirmed_deletions: HashSet::new(),
            devices: Devices::default(),
            failed: false,
            waiting_identity: None,
        }
    }

    /// Keeps sent changes announced that the vault may still accept.
    pub(crate) async fn carry_pushes(&mut self) -> Result<(), StateError> {
        self.pushes = self.state.intents().await?;
        self.pushes.retain(Intent::is_push);
        Ok(())
    }

    /// A file or folder is durably in place.
    pub(crate) fn recorded(&mut self, record: Record) {
        self.completed.push(record.uid());
        self.resolve(&record.path);
        self.pending.records.push(record);
    }

    /// A file or folder was checked again and equals its record in every detail, so it need not be written
    /// again. (If its change was deferred once, the end of the full pull resolves that.)
    pub(crate) fn confirmed(&mut self, uid: Uid) {
        self.completed.push(uid);
    }

    /// A file or folder is durably gone (or no longer the vault's).
    pub(crate) fn forgotten(&mut self, path: VaultPath, uid: Uid) {
        self.completed.push(uid);
        self.resolve(&path);
        self.pending.forgotten.push(path);
    }

    /// A file that the vault deleted stays, and is no longer the vault's.
    pub(crate) fn retained(&mut self, path: VaultPath, size: u64, uid: Uid) {
        let kind = EntryKind::Deleted { folder: false };
        let deleted = RemoteEntry { path: path.clone(), uid, kind, mtime: 0, ctime: 0 };
        self.report.retained.add(size);
        self.forgotten(path, uid);
        self.defer(deleted.defer(DeferredCause::Retained, &self.keys));
    }

    /// A change of the vault was applied here. A first listing is not journaled.
    pub(crate) fn journal(&mut self, change: JournalChange, path: &VaultPath, uid: Uid, size: Option<u64>) {
        if self.written.listed {
            let device = self.devices.of(uid);
            let entry = JournalEntry::new(Side::Here, change, path.clone(), uid);
            self.pending.journal.push(JournalEntry { device, size, ..entry });
        }
    }

    /// A file was kept under another name. That is journaled even in a first listing.
    pub(crate) fn kept(&mut self, path: &VaultPath, kept_as: &VaultPath) {
        let device = self.report.device.clone();
        self.pending.journal.push(JournalEntry::conflicted_copy(path, kept_as, Uid(0), device));
    }

    /// Resolves the deferred change of a path.
    fn resolve(&mut self, path: &VaultPath) {
        let key = DeferredKey::plain(path);
        if !self.deferred.is_empty() {
            self.deferred.remove(&key);
        }
        self.withdraw_failure(&key, path);
        self.pending.resolved.push(key);
    }

    /// Removes a failure of this run: the path succeeded in the end, or is about to fail again.
    fn withdraw_failure(&mut self, key: &DeferredKey, path: &VaultPath) {
        if !self.failures.is_empty() && self.failures.remove(key) {
            self.report.withdraw_failure(path);
        }
    }

    /// Drops the record of this path.
    pub(crate) fn abandoned(&mut self, path: VaultPath) {
        self.pending.forgotten.push(path);
    }

    /// A change needs no work (any more). A file that the destination keeps stays stored as such.
    pub(crate) fn unneeded(&mut self, path: &VaultPath) {
        let key = DeferredKey::plain(path);
        if !self.retained.contains(&key) {
            self.resolve(path);
        }
    }

    /// An unreadable entry was replaced.
    pub(crate) fn resolved(&mut self, key: DeferredKey) {
        self.pending.resolved.push(key);
    }

    /// The filter excludes a change.
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
        self.fail(entry, DeferredCause::Failed { reason: reason.clone() }, reason);
    }

    fn fail(&mut self, entry: &RemoteEntry, cause: DeferredCause, reason: String) {
        tracing::debug!(uid = entry.uid.0, reason, "a change could not be applied");
        self.postpone(entry, cause);
        let key = DeferredKey::plain(&entry.path);
        self.withdraw_failure(&key, &entry.path);
        self.failures.insert(key);
        self.report.fail(Failure { path: entry.path.as_str().to_owned(), uid: entry.uid, reason });
    }

    /// The entries of these paths must not be applied in this run.
    pub(crate) fn withheld(&mut self, paths: BTreeMap<VaultPath, Withheld>) {
        for (path, Withheld { reason, entry }) in paths {
            match entry {
                Some(entry) => self.failed(&entry, reason),
                None => self.report.fail(Failure { path: path.as_str().to_owned(), uid: Uid(0), reason }),
            }
        }
    }

    /// A deletion is held back until a user confirms it.
    pub(crate) fn held_back(&mut self, entry: &RemoteEntry) {
        let deferred = entry.defer(DeferredCause::HeldBack { confirmed: None }, &self.keys);
        self.report.hold_back(&entry.path, entry.is_folder());
        if self.remembered.has_capacity_for(&deferred) {
            self.completed.push(entry.uid);
            self.defer(deferred);
        } else {
            // The version stays below it, and the next run lists it again.
            self.unremembered.insert(deferred.key);
        }
    }

    /// This many files were deleted that count for the hourly limit.
    pub(crate) fn deleted(&mut self, files: u64) {
        if files > 0 {
            brake::note(&mut self.next.deletions, files, brake::this_minute());
        }
    }

    /// A change can never be applied here, unless the vault changes it again.
    pub(crate) fn refused(&mut self, entry: &RemoteEntry, reason: String) {
        let cause = DeferredCause::Acknowledged { reason: reason.clone() };
        let deferred = entry.defer(cause, &self.keys);
        if !self.accept(deferred) {
            self.report.has_lasting_failures = true;
            self.report.has_excludable_failures = true;
            self.fail(entry, DeferredCause::Lasting { reason: reason.clone() }, reason);
        }
    }

    /// A push does not apply this change of the vault here.
    pub(crate) fn diverged(&mut self, entry: &RemoteEntry) {
        let deferred = entry.defer(DeferredCause::Diverged, &self.keys);
        if self.remembered.has_capacity_for(&deferred) {
            self.completed.push(entry.uid);
            self.defer(deferred);
        }
    }

    /// Notes a lasting failure that the user accepted. `false` if it was not accepted.
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

    /// A content can never be put at its only target.
    pub(crate) fn transfer_refused(&mut self, transfer: &Transfer, reason: &str) {
        self.missing(transfer);
        for entry in transfer.entries() {
            self.refused(&entry, reason.to_owned());
        }
    }

    /// Stores a change that could not be applied for the next run.
    fn postpone(&mut self, entry: &RemoteEntry, cause: DeferredCause) {
        // A confirmed deletion that fails stays confirmed.
        let cause = match !entry.is_live() && self.confirmed_deletions.contains(&entry.path) {
            true => DeferredCause::HeldBack { confirmed: Some(brake::this_minute().saturating_mul(60_000)) },
            false => cause,
        };
        let deferred = entry.defer(cause, &self.keys);
        // Without room it stays pending: the version stays below it, and the next run lists it again.
        if self.remembered.has_capacity_for(&deferred) {
            self.completed.push(entry.uid);
            self.defer(deferred);
        } else {
            self.unremembered.insert(deferred.key);
        }
    }

    /// A content could not be put at any of its targets.
    pub(crate) fn transfer_failed(&mut self, transfer: &Transfer, reason: &str) {
        self.missing(transfer);
        for entry in transfer.entries() {
            self.failed(&entry, reason.to_owned());
        }
    }

    /// A begun change needs no work any more, because a later one replaced it.
    pub(crate) fn superseded(&mut self, uid: Uid) {
        self.completed.push(uid);
    }

    /// The vault was listed up to this version, and these changes have to be applied.
    pub(crate) fn extend(&mut self, version: u64, uids: impl Iterator<Item = Uid>) {
        for uid in uids {
            self.watermark.begin(uid);
            self.full_watermark.iter_mut().for_each(|full_watermark| full_watermark.begin(uid));
        }
        self.watermark.rise(version);
        self.full_watermark.iter_mut().for_each(|full_watermark| full_watermark.rise(version));
    }

    /// Drops the records that claim the content that could not be put back: otherwise the next attempt would
    /// find nothing to do.
    pub(crate) fn missing(&mut self, transfer: &Transfer) {
        let claimed = transfer.targets.iter().filter(|target| target.is_recorded_as(transfer.hash));
        self.pending.forgotten.extend(claimed.map(|target| target.path.clone()));
    }

    /// True if the change of this path was deferred in this run, or will be listed again.
    pub(crate) fn has_deferred(&self, path: &VaultPath) -> bool {
        let key = DeferredKey::plain(path);
        self.deferred.contains(&key) || self.unremembered.contains(&key)
    }

    fn defer(&mut self, deferred: Deferred) {
        self.deferred.insert(deferred.key.clone());
        self.pending.deferred.push(deferred);
    }

    /// A change that cannot be decoded; its deferred form has the reason. If an earlier run stored it, it has
    /// the cause of that time. If the user's filter excludes it, it is no failure.
    pub(crate) fn undecodable(&mut self, refused: Refused) {
        if let Some((path, reason)) = refused.left_out_by(&self.filter) {
            // Its size is unknown.
            self.report.skip(path, reason, 0, &self.filter);
            self.completed.push(refused.deferred.message.uid);
            return self.defer(Deferred { cause: DeferredCause::Filtered, ..refused.deferred });
        }
        let mut deferred = refused.deferred;
        if let Some(reason) = deferred.cause.reason().map(str::to_owned) {
            let cause = DeferredCause::Acknowledged { reason: reason.clone() };
            if self.accept(Deferred { cause, ..deferred.clone() }) {
                return;
            }
            self.report.has_lasting_failures = true;
            self.report.has_excludable_failures |= !deferred.key.is_encoded();
            deferred.cause = DeferredCause::Lasting { reason };
        }
        if let Some(failure) = Failure::of_deferred(&deferred) {
            self.report.fail(failure);
        }
        self.completed.push(deferred.message.uid);
        self.defer(deferred);
    }

    /// Durably announces the files that are published next (see [`Commit::intents`]), together with
    /// everything pending, above all the batch before them.
    pub(crate) async fn announce(&mut self, records: Vec<Record>) -> Result<(), StateError> {
        self.pending.intents = records.into_iter().map(Intent::Place).collect();
        self.commit().await
    }

    /// The run ends without knowing whether this file of the batch was published: a service may have done the
    /// work before its connection was lost.
    pub(crate) fn still_announced(&mut self, record: Record) {
        self.pending.intents.push(Intent::Place(record));
    }

    /// A file will be removed, or it is unknown whether it was.
    pub(crate) fn removal_still_announced(&mut self, file: Removable) {
        self.pending.intents.push(Intent::Remove { path: file.path, content: file.content });
    }

    /// Commits everything pending, if there is anything.
    ///
    /// After a failed commit nothing is written any more: its contents are lost, and later ones must not look
    /// complete. The next run finds the difference.
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
        let on_commit = self.waiting_identity.take().map(|(identity, on_commit)| {
            self.next.destination = Some(identity);
            on_commit
        });
        let intents = pending.intents.into_iter().chain(self.pushes.iter().cloned()).collect();
        let committed = self.state.commit(Commit { state: self.next.clone(), intents, ..pending }).await;
        self.failed = committed.is_err();
        committed?;
        if let Some(on_commit) = on_commit {
            // Nobody waits any more if the marker was given up.
            let _ = on_commit.send(());
        }
        self.written = self.next.clone();
        self.report.version = self.written.version;
        Ok(())
    }

    /// The destination has this identity from the next commit on; one is not made for it. The receiver is told when it is
    /// durable, or fails when there is no commit before [`keep_identity`](Self::keep_identity).
    pub(crate) fn identify_with_next_commit(
        &mut self,
        identity: DestinationIdentity,
    ) -> oneshot::Receiver<()> {
        let (on_commit, committed) = oneshot::channel();
        self.waiting_identity = Some((identity, on_commit));
        committed
    }

    /// The identity stays as it is, unless a commit has changed it.
    pub(crate) fn keep_identity(&mut self) {
        self.waiting_identity = None;
    }

    /// The destination's identity, as the next commit will store it.
    pub(crate) fn destination(&self) -> Option<&DestinationIdentity> {
        self.next.destination.as_ref()
    }

    /// The newest entry that an earlier run listed.
    pub(crate) fn cursor(&self) -> Option<CursorEntry> {
        self.written.cursor
    }

    /// True if an earlier run completed.
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

    /// Deletions of the last hour.
    pub(crate) fn deletions(&self) -> &[Deletions] {
        &self.next.deletions
    }

    /// True if there is something to commit.
    pub(crate) fn is_behind(&self) -> bool {
        !self.completed.is_empty()
    }

    /// Durably stores mode and filter before any work: if the run is cut short, the next one has to make up
    /// for it.
    pub(crate) async fn open(&mut self, filter: &str) -> Result<(), StateError> {
        if self.next.filter.as_deref() != Some(filter) {
            self.next.filter = None;
        }
        self.commit().await
    }

    /// Removes what earlier runs deferred because of their filter, if it was not deferred again: a listing of
    /// the whole vault takes its place.
    pub(crate) async fn forget_filtered(&mut self) -> Result<(), StateError> {
        let state = self.state.clone();
        let mut parts = DeferredParts::of(state.as_ref(), DeferredKind::Filtered);
        while let Some(part) = parts.next().await? {
            let obsolete = part.into_iter().filter(|deferred| {
                let is_filtered = deferred.cause == DeferredCause::Filtered && !deferred.key.is_outgoing();
                is_filtered && !self.deferred.contains(&deferred.key)
            });
            self.pending.resolved.extend(obsolete.map(|deferred| deferred.key));
            if self.pending.resolved.len() >= NOTED {
                self.commit().await?;
            }
        }
        Ok(())
    }

    /// Commits the rest, and that the listing was handled completely under this filter. `obsolete` are
    /// earlier deferred changes that were not deferred again.
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
        // A full pull that was begun before is still due after a run that could not be complete.
        if self.full_watermark.take_if(|_| self.remembered.left_out == 0).is_some() {
            self.next.full_up_to = None;
        }
        self.next.filter = Some(filter);
        self.next.cursor = cursor;
        self.next.keeping = false;
        self.commit().await
    }
}
