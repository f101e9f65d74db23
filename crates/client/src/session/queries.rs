//! Queries about a vault besides its contents: its size, its deletions, an entry's history.

use obsync_protocol::limits::LIST_MESSAGE;
use obsync_protocol::{ClientMessage, EncodedPath, PushMessage, Uid};

use super::Session;
use crate::error::ClientError;

/// The storage used by a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaultSize {
    /// In bytes, old versions included.
    pub size: u64,
    /// The account's quota in bytes.
    pub limit: u64,
}

/// A page of an entry's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Its versions, newest first.
    pub items: Vec<PushMessage>,
    /// There are older ones: query again with the uid of the last one.
    pub more: bool,
}

impl Session {
    /// Queries the storage used by the vault.
    ///
    /// # Errors
    /// The server's refusal; network errors.
    pub async fn size(&mut self) -> Result<VaultSize, ClientError> {
        self.ask(&ClientMessage::Size).await?;
        let answer = self.confirmation("the server's answer about the vault's size").await?;
        match (answer.size, answer.limit) {
            (Some(size), Some(limit)) => Ok(VaultSize { size, limit }),
            _ => Err(ClientError::protocol("the answer about the vault's size names none")),
        }
    }

    /// The deleted entries, without renames.
    ///
    /// # Errors
    /// As for [`Session::size`].
    pub async fn deleted(&mut self) -> Result<Vec<PushMessage>, ClientError> {
        self.ask(&ClientMessage::Deleted { suppress_renames: true }).await?;
        // A list of all deletions has no limit but the frame's.
        let answer = self.answer("the list of deleted entries", LIST_MESSAGE).await?;
        if let Some(error) = answer.error() {
            return Err(ClientError::from_server_text(&error, &self.redactor));
        }
        answer.items.ok_or_else(|| ClientError::protocol("the list of deleted entries is missing"))
    }

    /// The versions of an entry below the uid `last`; from the newest one for 0.
    ///
    /// # Errors
    /// As for [`Session::size`].
    pub async fn history(&mut self, path: &EncodedPath, last: Uid) -> Result<History, ClientError> {
        self.ask(&ClientMessage::History { path: path.clone(), last }).await?;
        let answer = self.answer("an entry's history", LIST_MESSAGE).await?;
        if let Some(error) = answer.error() {
            return Err(ClientError::from_server_text(&error, &self.redactor));
        }
        let more = answer.more.unwrap_or(false);
        let items = answer.items.ok_or_else(|| ClientError::protocol("an entry's history is missing"))?;
        Ok(History { items, more })
    }

    /// Makes an earlier version of an entry the current one.
    ///
    /// # Errors
    /// As for [`Session::size`].
    pub(super) async fn restore(&mut self, uid: Uid) -> Result<(), ClientError> {
        self.ask(&ClientMessage::Restore { uid }).await?;
        let answer = self.confirmation("the server's answer to restoring an entry").await?;
        if answer.is_ok() {
            Ok(())
        } else {
            Err(ClientError::protocol("restoring was neither accepted nor refused"))
        }
    }

    async fn ask(&mut self, request: &ClientMessage) -> Result<(), ClientError> {
        self.wire.queue(request)?;
        self.wire.flush().await
    }
}
