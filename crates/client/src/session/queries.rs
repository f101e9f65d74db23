//! Queries about a vault besides its contents: its size, its deletions, an entry's history.

use obsync_protocol::limits::LIST_MESSAGE;
use obsync_protocol::{ClientMessage, EncodedPath, PushMessage, Uid};

use super::Session;
use crate::error::ClientError;

/// How much room a vault takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VaultSize {
    /// In bytes, old states included.
    pub size: u64,
    /// What the account allows, in bytes.
    pub limit: u64,
}

/// A part of an entry's past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// Its states, the newest first.
    pub items: Vec<PushMessage>,
    /// Whether there are older ones: ask again with the uid of the last one.
    pub more: bool,
}

impl Session {
    /// How much room the vault takes.
    ///
    /// # Errors
    /// The server's refusal; whatever the network adds.
    pub async fn size(&mut self) -> Result<VaultSize, ClientError> {
        self.ask(&ClientMessage::Size).await?;
        let answer = self.confirmation("the server's answer about the vault's size").await?;
        match (answer.size, answer.limit) {
            (Some(size), Some(limit)) => Ok(VaultSize { size, limit }),
            _ => Err(ClientError::protocol("the answer about the vault's size names none")),
        }
    }

    /// The entries that were deleted, renames left out.
    ///
    /// # Errors
    /// As for [`Session::size`].
    pub async fn deleted(&mut self) -> Result<Vec<PushMessage>, ClientError> {
        self.ask(&ClientMessage::Deleted { suppress_renames: true }).await?;
        // A list of all deletions has no bound but the frame's.
        let answer = self.answer("the list of deleted entries", LIST_MESSAGE).await?;
        if let Some(error) = answer.error() {
            return Err(ClientError::from_server_text(&error, &self.redactor));
        }
        answer.items.ok_or_else(|| ClientError::protocol("the list of deleted entries is missing"))
    }

    /// The states of an entry below the uid `last`; from the newest one for 0.
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

    /// Makes an earlier state of an entry its present one.
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
