//! Sends changes to the vault in a safe order, and records each once its outcome is known.
//!
//! Every change is announced in the state before it is sent. One session receives all changes of the vault
//! from before the first sent change to the echo of the last. If that session breaks, the history of a path
//! shows the outcome ([`super::settlement`]).

mod outcomes;
mod pushing;
mod session;

use std::collections::{HashMap, HashSet};

use obsync_client::{ClientError, LiveChanges, WritingSession};
use obsync_protocol::{ContentHash, PushMessage, VaultPath};

use crate::destination::{FoldingProbe, Found, Wanted};
use crate::error::PullError;
use crate::journal::JournalEntry;
use crate::model::{CursorEntry, Deferred, DeferredKey, Intent, Record};
use crate::report::Report;
use crate::run::Run;
use crate::state::{Commit, VaultState};

use super::outgoing::{Outgoing, SendFile};
use super::refusal_pauses::{Refusal, Refusals};
use super::settlement::Seen;
use super::vault_change::{VaultChange, failure};

/// Number of changes that are announced and sent before they are recorded.
const PORTION: usize = 256;
/// Up to this many changes are sent over the open session: opening further ones would take longer.
const FEW: usize = 4;

/// The result of sending.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent {
    /// The vault has changes of other devices that are not applied here yet, or something was put here that
    /// has to be sent.
    pub(super) needs_another_round: bool,
    /// The error that ended a connection before everything was sent.
    pub(super) lost: Option<ClientError>,
}

/// The session for sending, and the changes that it receives.
pub(super) struct Outbox<'s, 'r> {
    run: &'s Run<'r>,
    session: WritingSession,
    live: LiveChanges,
    /// All messages that it received, if the session stays open afterwards.
    messages: Vec<PushMessage>,
    known: VaultState,
    /// Entries that the next commit adds to the journal.
    journal: Vec<JournalEntry>,
    /// When the vault answered that it accepted a change, in milliseconds since the epoch.
    taken: HashMap<VaultPath, i64>,
    heard: HashMap<VaultPath, Vec<Seen>>,
    /// The session received changes of other devices.
    has_foreign: bool,
    /// Content of another device was put here, and has to be sent.
    has_restored: bool,
    /// Everything that was sent is settled.
    is_settled: bool,
    /// Changes that are not settled. They stay announced until the history of their paths shows the outcome.
    unsettled: Vec<Intent>,
    /// Changes of earlier runs that may still arrive, or replaced a text of another device that is temporarily
    /// unavailable. They stay announced.
    waiting: Vec<Intent>,
    newest: u64,
    cursor: Option<CursorEntry>,
    /// Why the vault accepts no further content, if that is so.
    full: Option<String>,
    refusals: Refusals,
    /// Deletions, and files that became empty, that count for the limit and are not recorded yet.
    counted: HashSet<VaultPath>,
    /// Refusals that the next commit stores.
    refused: Vec<Deferred>,
    /// Files that the previous run was sending when its time ran out.
    slow: HashSet<(VaultPath, ContentHash)>,
    /// The error that ended a connection before everything was sent.
    lost: Option<ClientError>,
}

impl Outbox<'_, '_> {
    /// Sends everything, in the order of the fields of [`Outgoing`].
    pub(super) async fn send(mut self, outgoing: Outgoing, report: &mut Report) -> Result<Sent, PullError> {
        let Outgoing { replaced, folders, files, deletions, folder_deletions, refusals, counted, .. } =
            outgoing;
        (self.refusals, self.counted) = (refusals, counted);
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

    /// Takes out files that exceed the vault's size limit.
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

    /// Sends changes in batches: each batch is announced durably, sent, settled and recorded.
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
            let intents = portion.iter().map(|change| change.intent(self.known.version)).collect();
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

    /// Takes out files if the vault has no room for them.
    fn without_content(&mut self, changes: Vec<VaultChange>, report: &mut Report) -> Vec<VaultChange> {
        let Some(full) = self.full.clone() else { return changes };
        let (files, others): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|change| matches!(change, VaultChange::File(_)));
        files.iter().for_each(|change| self.refuse(change, &full, report));
        others
    }

    /// Reports a change that the vault did not accept. A file is sent again after a pause.
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

    /// Takes out changes that no longer apply: deletions of files and folders that are there again, or that
    /// were missing only from an incomplete listing. A renamed file whose old path is there again is sent as a
    /// new one.
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
        let still_so = |change: VaultChange| match (gone(&change), change) {
            (Some(path), VaultChange::File(file)) if back.contains(&path) => {
                Some(VaultChange::File(Box::new(SendFile { from: None, ..*file })))
            }
            (Some(path), _) if back.contains(&path) => None,
            (_, change) => Some(change),
        };
        Ok(changes.into_iter().filter_map(still_so).collect())
    }

    /// Takes out deletions of folders that exist.
    async fn without_folders_that_are_there(
        &self,
        changes: Vec<VaultChange>,
    ) -> Result<Vec<VaultChange>, PullError> {
        let is_folder =
            |change: &VaultChange| matches!(change, VaultChange::Deletion(absent) if absent.is_folder());
        let folders: Vec<VaultPath> =
            changes.iter().filter(|change| is_folder(change)).map(|change| change.path().clone()).collect();
        // If case is folded, an old spelling of a renamed folder's name still finds the folder.
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

    async fn commit(
        &mut self,
        records: Vec<Record>,
        forgotten: Vec<VaultPath>,
        mut intents: Vec<Intent>,
    ) -> Result<(), PullError> {
        intents.extend(self.unsettled.iter().chain(&self.waiting).cloned());
        // A sent change replaces an earlier change of the vault that waits, such as a held-back deletion, and
        // no longer waits itself.
        let settled = records.iter().map(|record| &record.path).chain(&forgotten);
        let resolved =
            settled.flat_map(|path| [DeferredKey::plain(path), DeferredKey::outgoing(path)]).collect();
        let (state, journal) = (self.known.clone(), std::mem::take(&mut self.journal));
        let deferred = std::mem::take(&mut self.refused);
        let commit = Commit { records, forgotten, resolved, deferred, intents, journal, state };
        Ok(self.run.state.commit(commit).await?)
    }
}
