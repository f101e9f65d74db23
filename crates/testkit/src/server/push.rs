//! Handles a push: a folder, a deletion, or a file whose content is requested unless it is known.
//!
//! An accepted change is recorded, echoed to every session and answered, in this order. A push with
//! `relatedpath` deletes the old path before it, unless the fault `keep-related` is set: production was not
//! observed.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use obsync_protocol::{Answer, CONTENT_OVERHEAD, ClientMessage, PushRequest, ServerMessage, Uid};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::session::{Session, discard_everything};
use super::state::LatePush;
use super::wire::End;
use crate::faults::FaultKind;
use crate::vault::{Content, Entry, VaultHandle, WrittenMessage};

impl Session {
    pub(super) async fn push(&mut self, request: PushRequest) -> Result<(), End> {
        if self.state.faults.strikes_at(FaultKind::RefusePush, self.number) {
            let text = self.state.faults.read(|faults| faults.refuse_push_text.clone());
            return self.send_answer(Answer::failed(text)).await;
        }
        let size = request.size.unwrap_or_default();
        if request.folder || request.deleted || size == 0 {
            return self.record(&request, None).await;
        }
        let known = self.vault.content(&request.hash);
        if let Some(reason) = self.refusal(&request, known.is_some()) {
            return self.send_answer(Answer::failed(reason)).await;
        }
        if known.is_some() {
            self.state.recorder.record(|stats| stats.pushes_without_content += 1);
            return self.record(&request, known).await;
        }
        let content = self.receive_content(size, request.pieces.unwrap_or_default()).await?;
        if content.len() as u64 != size {
            return self.send_answer(Answer::failed("The pieces do not add up to the size")).await;
        }
        self.record(&request, Some(Content::Memory(content))).await
    }

    /// The service's message for refusing such a file.
    fn refusal(&self, request: &PushRequest, is_known: bool) -> Option<&'static str> {
        let size = request.size.unwrap_or_default();
        if size > self.state.per_file_max().saturating_add(CONTENT_OVERHEAD) {
            return Some("File too large");
        }
        let limit = self.state.faults.read(|faults| faults.storage_limit).unwrap_or(u64::MAX);
        let stored = if is_known { 0 } else { self.vault.size().saturating_add(size) };
        if stored > limit || self.state.faults.strikes_at(FaultKind::VaultFull, self.number) {
            return Some("Vault limit exceeded");
        }
        let pieces = request.pieces.unwrap_or_default();
        (!is_known && (pieces == 0 || pieces > size)).then_some("The number of pieces does not fit the size")
    }

    /// Requests each piece and receives it; the caller answers the last one.
    async fn receive_content(&mut self, size: u64, pieces: u64) -> Result<Bytes, End> {
        let mut content = BytesMut::new();
        for _ in 0..pieces {
            self.send_answer(Answer::next()).await?;
            let piece = self.receive_piece().await?;
            if (content.len() + piece.len()) as u64 > size {
                return Err(End::Protocol("more content than announced".to_owned()));
            }
            content.extend_from_slice(&piece);
            self.delay(Instant::now()).await?;
            if self.state.faults.strikes_at(FaultKind::DropInUpload, self.number) {
                return Err(End::Dropped);
            }
            if self.state.faults.strikes_at(FaultKind::StallInUpload, self.number) {
                return Err(discard_everything(&mut self.wire).await);
            }
        }
        let length = content.len() as u64;
        self.state.recorder.record(|stats| stats.content_bytes_received += length);
        Ok(content.freeze())
    }

    async fn receive_piece(&mut self) -> Result<Bytes, End> {
        loop {
            match self.next_message().await? {
                Message::Binary(piece) => return Ok(piece),
                // A client's heartbeat does not depend on an upload.
                Message::Text(text) if matches!(ClientMessage::parse(&text), Ok(ClientMessage::Ping)) => {
                    self.wire.send_text(ServerMessage::Pong.to_json()).await?;
                }
                Message::Text(_) => {
                    return Err(End::Protocol("a request in the middle of an upload".to_owned()));
                }
                Message::Close(_) => return Err(End::Closed),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Records the change; every device gets it, this one before its `ok`.
    async fn record(&mut self, request: &PushRequest, content: Option<Content>) -> Result<(), End> {
        let state = Arc::clone(&self.state);
        let strikes = |kind| state.faults.strikes_at(kind, self.number);
        if strikes(FaultKind::LatePush) {
            state.push_later(self.device.clone(), request.clone(), content);
            return Err(End::Dropped);
        }
        let recorded = self.take(&self.device, request, content)?;
        if strikes(FaultKind::LoseEcho) {
            return Err(End::Dropped);
        }
        if strikes(FaultKind::LateEcho) {
            self.send_answer(Answer::ok()).await?;
            return self.send_pushes().await;
        }
        let repeat = strikes(FaultKind::DoubleEcho);
        let lose_answer = strikes(FaultKind::LoseAnswer);
        self.send_pushes().await?;
        for entry in recorded.iter().filter(|_| repeat) {
            self.wire.send_text(entry.to_push()).await?;
        }
        if lose_answer {
            return Err(End::Dropped);
        }
        self.send_answer(Answer::ok()).await
    }

    /// Records the late pushes, now that a listing or a history was requested.
    pub(super) fn record_late_pushes(&self) -> Result<(), End> {
        for LatePush { device, request, content, .. } in self.state.due_pushes() {
            self.take(&device, &request, content)?;
        }
        Ok(())
    }

    /// Records a device's change in the vault, after a rival's pending one.
    fn take(
        &self,
        device: &str,
        request: &PushRequest,
        content: Option<Content>,
    ) -> Result<Vec<Arc<Entry>>, End> {
        let strikes = |kind| self.state.faults.strikes_at(kind, self.number);
        if strikes(FaultKind::RivalPush) {
            self.write_as_rival(request)?;
        }
        let mut changes = Vec::new();
        if !strikes(FaultKind::KeepRelated) {
            changes.extend(self.deletion_of_related(request));
        }
        let size = content.as_ref().map_or(0, Content::len);
        changes.push(Entry { size, content, ..self.entry(request.clone()) });
        changes.iter_mut().for_each(|change| change.device = device.to_owned());
        let recorded = self.vault.record(changes, false).map_err(End::Disk)?;
        self.state.recorder.record(|stats| stats.pushes += 1);
        Ok(recorded)
    }

    /// The deletion of the path that an entry had before its rename.
    fn deletion_of_related(&self, request: &PushRequest) -> Option<Entry> {
        let old = request.related_path.as_ref().filter(|old| !request.deleted && **old != request.path)?;
        let entry = self.vault.latest(old).filter(|entry| !entry.deleted)?;
        let deletion =
            PushRequest { path: old.clone(), folder: entry.folder, deleted: true, ..blank(request) };
        Some(self.entry(deletion))
    }

    /// Writes another device's change just before this push: a note with a different text.
    fn write_as_rival(&self, request: &PushRequest) -> Result<(), End> {
        let vault = VaultHandle::new(Arc::clone(&self.vault)).as_device("Rival");
        let text = format!("a rival wrote this after version {}", self.vault.version());
        let written = vault.write_encoded(&request.path, text.as_bytes(), VaultHandle::now());
        written.map(|_| ()).map_err(|error| End::Protocol(format!("a rival could not write: {error}")))
    }

    /// An entry of this device's push, without content.
    pub(super) fn entry(&self, request: PushRequest) -> Entry {
        Entry {
            uid: Uid(0),
            path: request.path,
            relatedpath: request.related_path,
            extension: request.extension,
            hash: request.hash,
            ctime: request.ctime,
            mtime: request.mtime,
            folder: request.folder,
            deleted: request.deleted,
            size: 0,
            device: self.device.clone(),
            user: self.person.email.clone(),
            damaged: false,
            content: None,
            message: WrittenMessage::default(),
        }
    }
}

/// A request for the same path with default values otherwise.
fn blank(request: &PushRequest) -> PushRequest {
    PushRequest {
        path: request.path.clone(),
        related_path: None,
        extension: String::new(),
        hash: String::new().into(),
        ctime: 0,
        mtime: 0,
        folder: false,
        deleted: false,
        size: None,
        pieces: None,
    }
}
