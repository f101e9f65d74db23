//! Requests about the past, and cleaning up: history, deleted, restore, size, usernames, purge.

use obsync_protocol::{Answer, ClientMessage, EncodedPath, Uid};

use super::session::Session;
use super::wire::End;
use crate::vault::Entry;

/// Entries per `history` answer.
const HISTORY_PAGE: usize = 100;

/// An account's quota in bytes, as in `size`. Only that of the faults is enforced.
const STORAGE_LIMIT: u64 = 100 * 1024 * 1024 * 1024;

impl Session {
    pub(super) async fn manage(&mut self, request: ClientMessage) -> Result<(), End> {
        let is_history = matches!(request, ClientMessage::History { .. });
        let answer = match request {
            ClientMessage::Deleted { suppress_renames } => self.deleted(suppress_renames),
            ClientMessage::History { path, last } => self.history(&path, last),
            ClientMessage::Restore { uid } => return self.restore(uid).await,
            ClientMessage::Size => {
                let limit = self.state.faults.read(|faults| faults.storage_limit).unwrap_or(STORAGE_LIMIT);
                Answer { size: Some(self.vault.size()), limit: Some(limit), ..Answer::default() }
            }
            ClientMessage::Usernames => return self.usernames().await,
            ClientMessage::Purge => {
                self.vault.purge().map_err(End::Disk)?;
                Answer::ok()
            }
            _ => Answer::failed("This request is not for now"),
        };
        if is_history {
            self.record_late_pushes()?;
        }
        self.send_answer(answer).await
    }

    /// The deleted files, newest first; on request without those that still exist under another name.
    fn deleted(&self, suppress_renames: bool) -> Answer {
        let latest = self.vault.all_latest();
        let renamed: std::collections::HashSet<&EncodedPath> = latest
            .iter()
            .filter(|entry| !entry.deleted)
            .filter_map(|entry| entry.relatedpath.as_ref())
            .collect();
        let gone = latest
            .iter()
            .rev()
            .filter(|entry| entry.deleted && !entry.folder)
            .filter(|entry| !suppress_renames || !renamed.contains(&entry.path));
        Answer { items: Some(gone.map(|entry| entry.to_message()).collect()), ..Answer::default() }
    }

    /// The entries for a path below the uid `last` (0: all), newest first, a page at a time.
    fn history(&self, path: &EncodedPath, last: Uid) -> Answer {
        let mut older = self.vault.history(path);
        older.retain(|entry| last.0 == 0 || entry.uid < last);
        let items = older.iter().take(HISTORY_PAGE).map(|entry| entry.to_message()).collect();
        Answer { items: Some(items), more: Some(older.len() > HISTORY_PAGE), ..Answer::default() }
    }

    /// Makes an earlier entry the latest one; for a deletion, restores the deleted entry.
    async fn restore(&mut self, uid: Uid) -> Result<(), End> {
        let Some(entry) = self.vault.entry(uid) else {
            return self.send_answer(Answer::failed("There is no such version")).await;
        };
        let history = self.vault.history(&entry.path);
        let wanted = history.iter().find(|other| other.uid <= uid && !other.deleted);
        let Some(wanted) = wanted.filter(|entry| entry.size == 0 || entry.content.is_some()) else {
            return self.send_answer(Answer::failed("The content of this version is gone")).await;
        };
        let restored = Entry {
            relatedpath: None,
            device: self.device.clone(),
            user: self.person.email.clone(),
            ..wanted.as_ref().clone()
        };
        self.vault.record(vec![restored], false).map_err(End::Disk)?;
        self.send_pushes().await?;
        self.send_answer(Answer::ok()).await
    }

    async fn usernames(&mut self) -> Result<(), End> {
        let names = serde_json::json!({ "res": "ok", "usernames": self.state.accounts.names() });
        self.wire.send_text(names.to_string()).await
    }
}
