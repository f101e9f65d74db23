//! Determines the outcome of each sent change, and records it.

use std::time::Duration;

use obsync_client::Session;
use obsync_protocol::{PushMessage, Uid, VaultPath};

use crate::brake;
use crate::cursor::newest_entry;
use crate::entry::RemoteEntry;
use crate::error::PullError;
use crate::journal::{JournalEntry, Side};
use crate::model::{Record, RecordKind};
use crate::progress::FileAction;
use crate::report::{Report, StepAction};
use crate::run::Run;
use crate::two_way::outgoing::sent;
use crate::two_way::recovery::{pass_over, sent_to};
use crate::two_way::settlement::{Seen, SentChange, Settlement, settle};
use crate::two_way::vault_change::{VaultChange, failure};

use super::Outbox;
use super::pushing::NotTaken;

/// Longest wait for an echo that did not arrive with its answer.
const ECHO: Duration = Duration::from_secs(10);
/// The same while the run is stopping.
const LAST_ECHO: Duration = Duration::from_millis(250);

impl Outbox<'_, '_> {
    /// Determines the outcomes of a batch of changes, and records them.
    pub(super) async fn take_in(
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
                // It stays announced; the next run settles it by the history.
                Some(NotTaken::Stopped) => {
                    self.is_settled = false;
                    self.unsettled.push(change.intent(self.known.version));
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
        // One for all changes whose echoes are missing.
        let mut asked = None;
        for (change, is_certain) in pending {
            let settlements = self.settle(&change, &mut asked).await?;
            match settlements.iter().all(|(_, settlement)| settlement.ours.is_some()) {
                true => {
                    self.record(&change, &settlements, &mut records, &mut forgotten, report).await?;
                }
                false if is_certain && !self.run.stop.is_cancelled() => {
                    self.is_settled = false;
                    self.unsettled.push(change.intent(self.known.version));
                    let reason = "the vault took it and does not tell of it; the next run looks again";
                    report.fail(failure(&change, reason.to_owned()));
                }
                // The vault does not have it yet. It may still accept it; otherwise the next scan finds the
                // change again.
                false => {
                    self.is_settled = false;
                    self.unsettled.push(change.intent(self.known.version));
                }
            }
        }
        if let Some(session) = asked {
            session.close().await;
        }
        self.commit(records, forgotten, Vec::new()).await
    }

    /// True if a change is a file that two consecutive runs were sending when their time ran out.
    fn is_slow(&self, change: &VaultChange) -> bool {
        let VaultChange::File(file) = change else { return false };
        let (path, hash) = (&file.local.path, file.local.content.hash);
        self.slow.contains(&(path.clone(), hash)) || self.refusals.knows(path)
    }

    /// Processes the messages that the session received, and waits briefly for missing echoes.
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

    pub(super) fn take_note(&mut self, message: &PushMessage) {
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
        settle(sent, &self.run.source.client.options().device, &sent_to(self.waiting.iter(), path), seen)
    }

    /// Determines the outcome for each path of a change.
    async fn settle(
        &mut self,
        change: &VaultChange,
        asked: &mut Option<Session>,
    ) -> Result<Vec<(VaultPath, Settlement)>, PullError> {
        let mut settlements = Vec::new();
        for (path, sent) in change.sent(Uid(self.known.version)) {
            let mut settlement = self.seen(&path, sent);
            if settlement.ours.is_none() {
                let late = sent_to(self.waiting.iter(), &path);
                let sent = (sent, late.as_slice());
                let by_history = Box::pin(self.run.settle_by_history(asked, &path, sent, self.newest));
                // A run that is stopping leaves it announced.
                let told = self.run.stop.run_until_cancelled(by_history).await;
                settlement = match told {
                    // The others of this batch are recorded nevertheless.
                    Some(Err(PullError::Client(error))) if error.is_of_one_path() => {
                        tracing::debug!(%error, "the history of a path cannot be had");
                        Settlement::default()
                    }
                    told => told.transpose()?.unwrap_or_default(),
                };
            }
            // All messages about the path are accounted for. Any that remain in the end are about changes of
            // other devices.
            self.has_foreign |= settlement.has_later;
            let heard = self.heard.remove(&path).unwrap_or_default();
            if let Some(ours) = settlement.ours {
                let device = &self.run.source.client.options().device;
                let before = heard.iter().filter(|seen| seen.entry.uid < ours && seen.device == *device);
                pass_over(&mut self.waiting, &path, (sent.kind, ours), before);
            }
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
        let line = JournalEntry { at: self.taken.remove(change.path()).unwrap_or(line.at), ..line };
        let device = Some(self.run.source.client.options().device.clone());
        self.journal.push(match change {
            VaultChange::File(file) => {
                let from = file.from.as_ref().map(|from| from.path().clone());
                JournalEntry { device, from, size: Some(file.local.content.size), ..line }
            }
            VaultChange::Folder(_) | VaultChange::Deletion(_) => JournalEntry { device, ..line },
        });
        if self.counted.remove(change.path()) {
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
}

impl Run<'_> {
    /// Waits as long as an echo may take; only briefly while the run is stopping.
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
}

/// True if a file that a run was sending at its end may have kept it from sending anything else.
fn is_held_up(outcomes: &[(VaultChange, Option<NotTaken>)]) -> bool {
    let count = |is_it: fn(&Option<NotTaken>) -> bool| outcomes.iter().filter(|(_, of)| is_it(of)).count();
    count(|not_taken| matches!(not_taken, Some(NotTaken::Stopped))) == 1 || count(Option::is_none) == 0
}

/// The reason reported for a file that two consecutive runs were sending when their time ran out.
fn too_slow(size: u64) -> String {
    format!(
        "its {size} bytes could not be sent in the time that a run has, twice in a row; it is tried again after pauses that grow, \
         and the rest goes on without it. A run needs more time for it"
    )
}
