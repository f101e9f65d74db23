//! Sends changes to the vault, in an order that is safe, and records each once it is known what became of it.
//!
//! Every change is announced in the state before it is sent. One session hears everything that the vault tells from before the
//! first change to the echo of the last; where it breaks, the history of a path says what happened ([`super::settlement`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use obsync_client::{
    ClientError, LiveChanges, PushFailure, Upload, UploadFailure, UploadOptions, UploadPool, UploadSource,
    WritingSession,
};
use obsync_protocol::{ContentHash, PushMessage, Uid, VaultPath};
use tokio::sync::mpsc;

use crate::brake;
use crate::cursor::newest_entry;
use crate::destination::{DestinationError, FoldingProbe, Found, Wanted};
use crate::entry::RemoteEntry;
use crate::error::PullError;
use crate::journal::{JournalEntry, Side};
use crate::line::Line;
use crate::model::{CursorEntry, Deferred, DeferredKey, Intent, Record, RecordKind};
use crate::progress::{FileAction, Phase};
use crate::report::{Report, StepAction};
use crate::run::Run;
use crate::state::{Commit, StateError, VaultState};

use super::outgoing::{Outgoing, SendFile, sent};
use super::refusal_pauses::{Refusal, Refusals};
use super::settlement::{Seen, SentChange, Settlement, settle};
use super::vault_change::{Contents, VaultChange, failure};

/// How many changes are announced and sent before they are recorded.
const PORTION: usize = 256;
/// Up to so many changes go over the session that is open anyway: further ones would take longer to open.
const FEW: usize = 4;
/// How long to wait for an echo that did not come with its answer.
const ECHO: Duration = Duration::from_secs(10);
/// The same once the run is to stop.
const LAST_ECHO: Duration = Duration::from_millis(250);

/// What sending came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// The vault has changes of others that are not applied here yet, or something was put here that is to be sent.
    pub(super) needs_another_round: bool,
    /// What ended a connection before everything was sent.
    pub(super) lost: Option<ClientError>,
}

/// Why a change was not taken.
enum NotTaken {
    /// For a reason of its own; it is tried again by the next run.
    Refused(String),
    /// Nobody knows.
    Unknown,
    /// It was changed again before it was sent: the next scan finds it.
    Overtaken,
    /// The connection did not last: it is found again by the next scan.
    Lost(ClientError),
    /// The run was told to stop while it was sent: nobody knows, and there is no time to find out.
    Stopped,
    /// The vault is full.
    Full(String),
}

/// What came of changes that were sent in turn, and those that were not sent.
type InTurn = (Vec<(VaultChange, Option<NotTaken>)>, Vec<VaultChange>);

/// A session to write with, and what it hears.
pub(super) struct Outbox<'s, 'r> {
    run: &'s Run<'r>,
    session: WritingSession,
    live: LiveChanges,
    /// All that it heard, where the session is to stay open.
    messages: Vec<PushMessage>,
    known: VaultState,
    /// What the next commit adds to the journal.
    journal: Vec<JournalEntry>,
    heard: HashMap<VaultPath, Vec<Seen>>,
    /// What changed since and is not from here.
    has_foreign: bool,
    /// Something of another device was put here, to be sent in turn.
    has_restored: bool,
    /// Everything that was sent is settled.
    is_settled: bool,
    /// What is not: it stays announced until the history of its path tells what became of it.
    unsettled: Vec<Intent>,
    /// What earlier runs sent, over a text of another device that cannot be had for the moment: it stays announced.
    waiting: Vec<Intent>,
    newest: u64,
    cursor: Option<CursorEntry>,
    /// Why no further content is taken, where that is so.
    full: Option<String>,
    refusals: Refusals,
    /// The refusals that the next commit remembers.
    refused: Vec<Deferred>,
    /// The files that the run before was sending when its time was over.
    slow: HashSet<(VaultPath, ContentHash)>,
    /// What ended a connection before everything was sent.
    lost: Option<ClientError>,
}

impl<'s, 'r> Outbox<'s, 'r> {
    /// Opens a session from what the last round left. `None`: the vault has changed since, so that nothing may be sent yet.
    /// `slow`: the files that the run before was sending when its time was over, if this one has no more.
    pub(super) async fn open(
        run: &'s Run<'r>,
        known: VaultState,
        slow: HashSet<(VaultPath, ContentHash)>,
        report: &mut Report,
    ) -> Result<Option<Self>, PullError> {
        run.progress.phase(Phase::Sending);
        let (session, live) = match run.kept_session(&known).await {
            Kept::News => return Ok(None),
            Kept::Open(session, live) => (*session, live),
            Kept::None => {
                report.connections += 1;
                let (session, live, has_news) = run.unless_stopped(Box::pin(run.opened(&known))).await?;
                if has_news {
                    session.close().await;
                    return Ok(None);
                }
                (session, live)
            }
        };
        let mut waiting = run.state.intents().await?;
        waiting.retain(Intent::is_push);
        Ok(Some(Outbox {
            run,
            session,
            live,
            messages: Vec::new(),
            newest: known.version,
            cursor: known.cursor,
            known,
            journal: Vec::new(),
            heard: HashMap::new(),
            has_foreign: false,
            has_restored: false,
            is_settled: true,
            unsettled: Vec::new(),
            waiting,
            full: None,
            refusals: Refusals::default(),
            refused: Vec::new(),
            slow,
            lost: None,
        }))
    }

    /// Sends everything, in the order that the fields of [`Outgoing`] are in.
    pub(super) async fn send(mut self, outgoing: Outgoing, report: &mut Report) -> Result<Sent, PullError> {
        let Outgoing { replaced, folders, files, deletions, folder_deletions, refusals, .. } = outgoing;
        self.refusals = refusals;
        let files: Vec<SendFile> = self.within_limit(files, report);
        let total = files.iter().map(|file| file.local.content.size).sum();
        self.run.progress.planned(files.len() as u64, total);
        let deletion = |absent| VaultChange::Deletion(absent);
        let in_turn = [
            replaced.into_iter().map(deletion).collect::<Vec<_>>(),
            folders.into_iter().map(VaultChange::Folder).collect(),
        ];
        for changes in in_turn {
            self.send_all(changes, true, report).await?;
        }
        self.send_all(
            files.into_iter().map(|file| VaultChange::File(Box::new(file))).collect(),
            false,
            report,
        )
        .await?;
        self.send_all(deletions.into_iter().map(deletion).collect(), false, report).await?;
        self.send_all(folder_deletions.into_iter().map(deletion).collect(), true, report).await?;
        self.close(report).await
    }

    /// Takes out the files that are larger than the vault takes.
    fn within_limit(&mut self, files: Vec<SendFile>, report: &mut Report) -> Vec<SendFile> {
        let limit = self.session.file_limit();
        let (fit, large): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|file| file.local.content.size <= limit);
        for file in large {
            let reason = format!(
                "it has {} bytes, and the vault takes files of at most {limit}; it stays here only. --exclude leaves it out for good",
                file.local.content.size
            );
            let keys = &self.run.source.keys;
            self.refused.extend(self.refusals.note_too_large(&file.local, file.base_uid(), &reason, keys));
            report.fail(failure(&VaultChange::File(Box::new(file)), reason));
        }
        fit
    }

    /// Sends changes in portions: each is announced durably, sent, settled and recorded.
    async fn send_all(
        &mut self,
        changes: Vec<VaultChange>,
        in_turn: bool,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let mut rest = changes.into_iter();
        loop {
            let portion: Vec<VaultChange> = rest.by_ref().take(PORTION).collect();
            if portion.is_empty() || self.lost.is_some() || self.run.stop.is_cancelled() {
                return Ok(());
            }
            let portion = self.without_content(portion, report);
            let portion = self.still_so(portion).await?;
            if portion.is_empty() {
                continue;
            }
            if portion.iter().any(VaultChange::deletes) {
                self.run.must_be_the_same_place(self.known.destination.as_ref()).await?;
            }
            let intents = portion.iter().map(VaultChange::intent).collect();
            self.commit(Vec::new(), Vec::new(), intents).await?;
            let over_one = (in_turn || portion.len() <= FEW) && self.session.is_open();
            let (mut outcomes, rest) = match over_one {
                true => self.push_in_turn(portion).await?,
                false => (Vec::new(), portion),
            };
            if !rest.is_empty() {
                outcomes.extend(self.push_at_once(rest, in_turn, report).await?);
            }
            self.take_in(outcomes, report).await?;
        }
    }

    /// Takes out the files once the vault has no room for them.
    fn without_content(&mut self, changes: Vec<VaultChange>, report: &mut Report) -> Vec<VaultChange> {
        let Some(full) = self.full.clone() else { return changes };
        let (files, others): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| matches!(change, VaultChange::File(_)));
        files.iter().for_each(|change| self.refuse(change, &full, report));
        others
    }

    /// Takes in a change that the vault does not take. A file is sent again after a pause.
    fn refuse(&mut self, change: &VaultChange, reason: &str, report: &mut Report) {
        report.fail(failure(change, reason.to_owned()));
        if let VaultChange::File(file) = change {
            let now = jiff::Timestamp::now().as_millisecond();
            let keys = &self.run.source.keys;
            let refused = self.refusals.note(&file.local, file.base_uid(), reason, now, keys);
            refused.iter().filter_map(Refusal::of).for_each(|refusal| report.retry_at(refusal));
            self.refused.extend(refused);
        }
    }

    /// Takes out what is not so any more: a file or folder that is to be deleted and is there again, or that a listing without its
    /// end did not have.
    async fn still_so(&self, changes: Vec<VaultChange>) -> Result<Vec<VaultChange>, PullError> {
        let changes = self.without_folders_that_are_there(changes).await?;
        let gone = |change: &VaultChange| match change {
            VaultChange::Deletion(absent) if !absent.is_folder() => Some(absent.path().clone()),
            VaultChange::File(file) => file.from.as_ref().map(|from| from.path().clone()),
            VaultChange::Deletion(_) | VaultChange::Folder(_) => None,
        };
        let paths: Vec<VaultPath> = changes.iter().filter_map(gone).collect();
        if paths.is_empty() {
            return Ok(changes);
        }
        let is_there: Vec<bool> = match self.run.destination.facts(paths.clone()).await? {
            Some(facts) => facts.iter().map(Option::is_some).collect(),
            None => {
                let nothing =
                    |path: &VaultPath| Wanted { path: path.clone(), hash: ContentHash::EMPTY, size: 0 };
                let found = self.run.destination.look(paths.iter().map(nothing).collect()).await?;
                found.iter().map(|found| *found != Found::Nothing).collect()
            }
        };
        let back: HashSet<VaultPath> =
            paths.into_iter().zip(is_there).filter_map(|(path, is_there)| is_there.then_some(path)).collect();
        Ok(changes
            .into_iter()
            .filter(|change| gone(change).is_none_or(|path| !back.contains(&path)))
            .collect())
    }

    /// Takes out the deletions of folders that are there.
    async fn without_folders_that_are_there(
        &self,
        changes: Vec<VaultChange>,
    ) -> Result<Vec<VaultChange>, PullError> {
        let is_folder =
            |change: &VaultChange| matches!(change, VaultChange::Deletion(absent) if absent.is_folder());
        let folders: Vec<VaultPath> =
            changes.iter().filter(|change| is_folder(change)).map(|change| change.path().clone()).collect();
        // Where case is folded, a folder is there under any spelling of the name that it had.
        let destination = &self.run.destination;
        if folders.is_empty()
            || !destination.traits().has_folders
            || destination.folds_names(FoldingProbe::Case).await?.is_any()
        {
            return Ok(changes);
        }
        let present = destination.have_folders(folders.clone()).await?;
        let there: HashSet<VaultPath> =
            folders.into_iter().zip(present).filter_map(|(path, present)| present.then_some(path)).collect();
        Ok(changes
            .into_iter()
            .filter(|change| !(is_folder(change) && there.contains(change.path())))
            .collect())
    }

    /// Sends one change after the other over the session that hears everything. Tells what is left where a file that changed
    /// while it was read ended that session: the others have to do without.
    async fn push_in_turn(&mut self, changes: Vec<VaultChange>) -> Result<InTurn, PullError> {
        let run = self.run;
        let contents = Contents::of(run);
        let mut outcomes = Vec::new();
        let mut changes = changes.into_iter();
        for change in changes.by_ref() {
            if run.stop.is_cancelled() {
                outcomes.push((change, Some(NotTaken::Overtaken)));
                continue;
            }
            require_lease(run)?;
            // Boxed, as the others here: a run is large enough for a thread's stack.
            let pushed = Box::pin(push(&mut self.session, &contents, &change));
            let Some(not_taken) = run.stop.run_until_cancelled(pushed).await.transpose()? else {
                outcomes.push((change, Some(NotTaken::Stopped)));
                continue;
            };
            contents.progress.placed(&change);
            let is_ended = matches!(not_taken, Some(NotTaken::Overtaken)) && !self.session.is_open();
            outcomes.push((change, not_taken));
            if is_ended {
                break;
            }
        }
        Ok((outcomes, changes.collect()))
    }

    /// Sends changes over several connections, or one after the other over one more, while the session hears what comes of
    /// them.
    async fn push_at_once(
        &mut self,
        changes: Vec<VaultChange>,
        in_turn: bool,
        report: &mut Report,
    ) -> Result<Vec<(VaultChange, Option<NotTaken>)>, PullError> {
        let count = changes.len();
        let mut without_answer: HashMap<VaultPath, VaultChange> =
            changes.iter().map(|change| (change.path().clone(), change.clone())).collect();
        let (jobs, job_queue) = mpsc::channel(count);
        let (results, mut result_queue) = mpsc::channel(count);
        for change in changes {
            // There is room for all of them.
            let _ = jobs.try_send(change);
        }
        drop(jobs);
        let contents = Arc::new(Contents::of(self.run));
        let pool = UploadPool {
            client: self.run.source.client.clone(),
            target: self.run.target(),
            version: self.known.version,
            options: match in_turn {
                true => UploadOptions { connections: 1, ..UploadOptions::default() },
                false => UploadOptions::default(),
            },
            source: contents.clone(),
            jobs: job_queue,
            results,
            cancel: self.run.stop.clone(),
            first_session: None,
        };
        let mut outcomes = Vec::with_capacity(count);
        let run = self.run;
        let collect = async {
            while let Some(result) = result_queue.recv().await {
                contents.progress.placed(&result.job);
                let not_taken = match result.outcome {
                    Ok(_) => None,
                    Err(UploadFailure::Source(error)) if DestinationError::is_fatal(&error) => {
                        require_lease(run)?;
                        return Err(error.into());
                    }
                    Err(UploadFailure::Source(error)) => {
                        tracing::debug!(%error, "a file cannot be sent");
                        Some(NotTaken::Overtaken)
                    }
                    Err(UploadFailure::Push(failure)) => Some(not_taken(&failure)?),
                };
                outcomes.push((result.job, not_taken));
            }
            Ok::<_, PullError>(())
        };
        let mut send = Box::pin(async { tokio::join!(pool.run(), collect) });
        let (summary, collected) = loop {
            tokio::select! {
                biased;
                ended = &mut send => break ended,
                error = self.session.idle(), if self.session.is_open() => {
                    tracing::debug!(%error, "the session that hears echoes is over; the history says what came of the changes");
                }
            }
        };
        drop(send);
        collected?;
        report.connections += summary?.connections;
        outcomes.iter().for_each(|(change, _)| drop(without_answer.remove(change.path())));
        outcomes.extend(without_answer.into_values().map(|change| (change, Some(NotTaken::Stopped))));
        Ok(outcomes)
    }

    /// Finds out what became of a portion, and records it.
    async fn take_in(
        &mut self,
        outcomes: Vec<(VaultChange, Option<NotTaken>)>,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let mut pending = Vec::new();
        let is_held_up = is_held_up(&outcomes);
        for (change, not_taken) in outcomes {
            match not_taken {
                None => pending.push((change, true)),
                Some(NotTaken::Unknown) => pending.push((change, false)),
                Some(NotTaken::Refused(reason)) => self.refuse(&change, &reason, report),
                Some(NotTaken::Overtaken) => report.was_overtaken = true,
                Some(NotTaken::Lost(error)) => self.lost = Some(error),
                // It stays announced, for the next run to settle by the history.
                Some(NotTaken::Stopped) => {
                    self.is_settled = false;
                    self.unsettled.push(change.intent());
                    if is_held_up && self.is_slow(&change) {
                        self.refuse(&change, &too_slow(change.size()), report);
                    }
                }
                Some(NotTaken::Full(reason)) => {
                    self.refuse(&change, &reason, report);
                    self.full = Some(reason);
                }
            }
        }
        self.hear(&pending).await;
        let (mut records, mut forgotten) = (Vec::new(), Vec::new());
        for (change, is_certain) in pending {
            let settlements = self.settle(&change).await?;
            match settlements.iter().all(|(_, settlement)| settlement.ours.is_some()) {
                true => {
                    self.record(&change, &settlements, &mut records, &mut forgotten, report).await?;
                }
                false if is_certain && !self.run.stop.is_cancelled() => {
                    self.is_settled = false;
                    self.unsettled.push(change.intent());
                    let reason = "the vault took it and does not tell of it; the next run looks again";
                    report.fail(failure(&change, reason.to_owned()));
                }
                // The vault does not have it yet: it may still take it, or the next scan finds it again.
                false => {
                    self.is_settled = false;
                    self.unsettled.push(change.intent());
                }
            }
        }
        self.commit(records, forgotten, Vec::new()).await
    }

    /// Whether a change is a file that two runs in a row were sending when their time was over.
    fn is_slow(&self, change: &VaultChange) -> bool {
        let VaultChange::File(file) = change else { return false };
        let (path, hash) = (&file.local.path, file.local.content.hash);
        self.slow.contains(&(path.clone(), hash)) || self.refusals.knows(path)
    }

    /// Takes in what the session heard, and waits a little for echoes that did not come yet.
    async fn hear(&mut self, pending: &[(VaultChange, bool)]) {
        let patience = self.run.patience();
        tokio::pin!(patience);
        loop {
            while let Ok(Some(message)) = self.live.try_next() {
                self.take_note(&message);
            }
            let is_waiting = pending.iter().any(|(change, _)| {
                change
                    .sent(Uid(self.known.version))
                    .iter()
                    .any(|(path, sent)| self.seen(path, *sent).ours.is_none())
            });
            if !is_waiting || !self.session.is_open() {
                return;
            }
            tokio::select! {
                biased;
                () = &mut patience => return,
                message = self.live.next() => match message {
                    Ok(message) => self.take_note(&message),
                    Err(_) => return,
                },
                error = self.session.idle() => tracing::debug!(%error, "the session that hears echoes is over"),
            }
        }
    }

    fn take_note(&mut self, message: &PushMessage) {
        if self.run.lines.keeps() {
            self.messages.push(message.clone());
        }
        self.newest = self.newest.max(message.uid.0);
        let Ok(entry) = RemoteEntry::decode(message, &self.run.source.keys) else {
            self.has_foreign = true;
            return;
        };
        self.cursor = newest_entry(self.cursor, &entry);
        let device = message.device.clone();
        self.heard.entry(entry.path.clone()).or_default().push(Seen { entry, device });
    }

    fn seen(&self, path: &VaultPath, sent: SentChange) -> Settlement {
        let seen = self.heard.get(path).map(Vec::as_slice).unwrap_or_default();
        settle(sent, &self.run.source.client.options().device, seen)
    }

    /// What became of each path of a change.
    async fn settle(&mut self, change: &VaultChange) -> Result<Vec<(VaultPath, Settlement)>, PullError> {
        let mut settlements = Vec::new();
        for (path, sent) in change.sent(Uid(self.known.version)) {
            let mut settlement = self.seen(&path, sent);
            if settlement.ours.is_none() {
                let by_history = Box::pin(self.run.settle_by_history(&path, sent, self.newest));
                // A run that is to stop leaves it announced.
                let told = self.run.stop.run_until_cancelled(by_history).await;
                settlement = told.transpose()?.unwrap_or_default();
            }
            // What is told of the path is accounted for; whatever else was heard is another device's.
            self.has_foreign |= settlement.has_later;
            self.heard.remove(&path);
            settlements.push((path, settlement));
        }
        Ok(settlements)
    }

    async fn record(
        &mut self,
        change: &VaultChange,
        settlements: &[(VaultPath, Settlement)],
        records: &mut Vec<Record>,
        forgotten: &mut Vec<VaultPath>,
        report: &mut Report,
    ) -> Result<(), PullError> {
        let uid =
            |at: usize| settlements.get(at).and_then(|(_, settlement)| settlement.ours).unwrap_or_default();
        match change {
            VaultChange::Folder(path) => {
                report.folders_pushed += 1;
                report.note_step(StepAction::PushFolder, path, None);
                records.push(Record::seen(path.clone(), RecordKind::Folder(uid(0)), None));
            }
            VaultChange::File(file) => {
                let size = file.local.content.size;
                report.pushed.add(size);
                report.note_step(StepAction::Push, &file.local.path, Some(size));
                self.run.progress.file(&file.local.path, FileAction::Sent);
                records.push(sent(&file.local, uid(0)));
                forgotten.extend(file.from.iter().map(|from| from.path().clone()));
            }
            VaultChange::Deletion(absent) => {
                match absent.file() {
                    Some(file) => {
                        report.delete_in_vault(absent.path(), file.size);
                        self.run.progress.file(absent.path(), FileAction::DeletedInVault);
                    }
                    None => report.folders_deleted_in_vault += 1,
                }
                report.note_step(StepAction::DeleteInVault, absent.path(), None);
                forgotten.push(absent.path().clone());
            }
        }
        let line = JournalEntry::new(Side::Vault, change.in_journal(), change.path().clone(), uid(0));
        let device = Some(self.run.source.client.options().device.clone());
        self.journal.push(match change {
            VaultChange::File(file) => {
                let from = file.from.as_ref().map(|from| from.path().clone());
                JournalEntry { device, from, size: Some(file.local.content.size), ..line }
            }
            VaultChange::Folder(_) | VaultChange::Deletion(_) => JournalEntry { device, ..line },
        });
        if let VaultChange::Deletion(absent) = change
            && !absent.is_folder()
        {
            brake::note_there(&mut self.known.deletions, 1, brake::this_minute());
        }
        for (path, settlement) in settlements {
            let Some(lost) = &settlement.overwritten else { continue };
            let ours = match change {
                VaultChange::File(file) if file.local.path == *path => Some(&**file),
                _ => None,
            };
            self.has_restored = true;
            let back = self.run.bring_back(path, ours, uid(0), lost, self.newest, report).await?;
            self.journal.extend(back.line);
            if let Some(record) = back.record {
                records.retain(|other| other.path != record.path);
                records.push(record);
            }
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        records: Vec<Record>,
        forgotten: Vec<VaultPath>,
        mut intents: Vec<Intent>,
    ) -> Result<(), PullError> {
        intents.extend(self.unsettled.iter().chain(&self.waiting).cloned());
        // What was sent takes the place of an earlier change of the vault that waits, a deletion that is held back above all, and
        // waits no longer itself.
        let settled = records.iter().map(|record| &record.path).chain(&forgotten);
        let resolved =
            settled.flat_map(|path| [DeferredKey::plain(path), DeferredKey::outgoing(path)]).collect();
        let (state, journal) = (self.known.clone(), std::mem::take(&mut self.journal));
        let deferred = std::mem::take(&mut self.refused);
        let commit = Commit { records, forgotten, resolved, deferred, intents, journal, state };
        Ok(self.run.state.commit(commit).await?)
    }

    /// Ends the session. Where everything that was heard is from here, and settled, the destination is complete up to there.
    async fn close(mut self, report: &mut Report) -> Result<Sent, PullError> {
        while let Ok(Some(message)) = self.live.try_next() {
            self.take_note(&message);
        }
        self.has_foreign |= !self.heard.is_empty();
        if !self.refused.is_empty() {
            self.commit(Vec::new(), Vec::new(), Vec::new()).await?;
        }
        let is_whole = self.is_settled && self.session.is_open() && !self.has_foreign;
        if is_whole && self.newest > self.known.version {
            self.known.version = self.newest;
            self.known.cursor = self.cursor;
            self.commit(Vec::new(), Vec::new(), Vec::new()).await?;
            report.version = self.newest;
        }
        report.vault_version = report.vault_version.max(self.newest);
        let needs_another_round = self.has_foreign || self.has_restored || !self.unsettled.is_empty();
        let sent = Sent { needs_another_round, lost: self.lost.take() };
        match self.run.lines.keeps() {
            true => self.keep(is_whole),
            false => self.session.close().await,
        }
        Ok(sent)
    }

    /// Leaves the session open for the next run. What it heard and that is not accounted for is that one's listing.
    fn keep(self, is_whole: bool) {
        let Some((session, permit)) = self.session.into_reading() else { return };
        let backlog = if is_whole { Vec::new() } else { self.messages };
        let (session, permit) = (Some(session), Some(permit));
        self.run.lines.put(Line { session, permit, live: self.live, backlog, taken: self.known.version });
    }
}

/// The session of a follower, for sending.
enum Kept {
    Open(Box<WritingSession>, LiveChanges),
    /// It told of changes that are to be applied here first.
    News,
    /// There is none.
    None,
}

impl Run<'_> {
    /// A session that was opened and listed, and whether the vault has something that is not known.
    async fn opened(&self, known: &VaultState) -> Result<(WritingSession, LiveChanges, bool), PullError> {
        let (client, target) = (&self.source.client, self.target());
        let session = WritingSession::open(client, &target, known.version, !known.listed).await?;
        let mut has_news = false;
        let (session, live) = session.listing(&mut |entry| has_news |= entry.uid.0 > known.version).await?;
        Ok((session, live, has_news))
    }

    /// Waits as long as for an echo, which is not long once the run is to stop.
    async fn patience(&self) {
        let clock = &self.source.client.options().clock;
        let until_stopped = async {
            self.stop.cancelled().await;
            clock.sleep(LAST_ECHO).await;
        };
        tokio::select! {
            () = clock.sleep(ECHO) => {}
            () = until_stopped => {}
        }
    }

    async fn kept_session(&self, known: &VaultState) -> Kept {
        let Some(mut line) = self.lines.take().filter(|line| line.taken == known.version) else {
            return Kept::None;
        };
        if !line.gather() {
            return Kept::None;
        }
        // A late echo of what is recorded is no news.
        line.backlog.retain(|change| change.uid.0 >= known.version);
        if line.has_news() {
            self.lines.put(line);
            return Kept::News;
        }
        let Line { session: Some(session), permit: Some(permit), live, .. } = line else { return Kept::None };
        match permit.writing(session) {
            Ok(session) => Kept::Open(Box::new(session), live),
            Err(session) => {
                session.close().await;
                Kept::None
            }
        }
    }
}

/// Sends one change, and says why it was not taken.
async fn push(
    session: &mut WritingSession,
    contents: &Contents,
    change: &VaultChange,
) -> Result<Option<NotTaken>, PullError> {
    let pushed = match contents.upload(change) {
        Upload::Folder(path) => session.push_folder(path).await.map(|_| ()),
        Upload::Deletion { path, folder } => session.push_deletion(path, folder).await.map(|_| ()),
        Upload::File(file, size) => match contents.open(change).await {
            Err(error) if error.is_fatal() => return Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, "a file cannot be sent");
                return Ok(Some(NotTaken::Overtaken));
            }
            Ok(content) => {
                let (may_delete, on_sent) =
                    (|| contents.check(change).is_ok(), |bytes| contents.sent(change, bytes));
                match file.related {
                    None => session.push_file_noting(&file, size, content, &on_sent).await.map(|_| ()),
                    Some(from) => session
                        .push_rename(from, &file, size, content, may_delete, &on_sent)
                        .await
                        .map(|_| ()),
                }
            }
        },
    };
    pushed.err().map(|failure| not_taken(&failure)).transpose()
}

/// Whether a file that a run was sending at its end may be what kept it from sending anything else.
fn is_held_up(outcomes: &[(VaultChange, Option<NotTaken>)]) -> bool {
    let count = |is_it: fn(&Option<NotTaken>) -> bool| outcomes.iter().filter(|(_, of)| is_it(of)).count();
    count(|not_taken| matches!(not_taken, Some(NotTaken::Stopped))) == 1 || count(Option::is_none) == 0
}

/// Why a file waits that two runs in a row were sending at their end.
fn too_slow(size: u64) -> String {
    format!(
        "its {size} bytes could not be sent in the time that a run has, twice in a row; it is tried again after pauses that grow, \
         and the rest goes on without it. A run needs more time for it"
    )
}

/// What a failed push means for its change.
///
/// # Errors
/// What no change is to blame for.
fn not_taken(failure: &PushFailure) -> Result<NotTaken, PullError> {
    match failure {
        PushFailure::Refused(
            error @ (ClientError::ReadOnly { .. }
            | ClientError::SubscriptionExpired
            | ClientError::NotSignedIn),
        ) => Err(error.clone().into()),
        PushFailure::Refused(error @ ClientError::VaultFull) => Ok(NotTaken::Full(error.to_string())),
        PushFailure::Refused(error) => Ok(NotTaken::Refused(error.to_string())),
        PushFailure::NotRecorded(ClientError::SourceChanged | ClientError::Source { .. }) => {
            Ok(NotTaken::Overtaken)
        }
        PushFailure::NotRecorded(error) if error.is_retryable() => Ok(NotTaken::Lost(error.clone())),
        PushFailure::NotRecorded(error) => Ok(NotTaken::Refused(error.to_string())),
        PushFailure::Unknown(_) => Ok(NotTaken::Unknown),
    }
}

/// Nothing is sent once another run may have the destination.
fn require_lease(run: &Run<'_>) -> Result<(), PullError> {
    match run.state.is_held() {
        true => Ok(()),
        false => Err(StateError::LeaseLost { destination: run.destination.location() }.into()),
    }
}
