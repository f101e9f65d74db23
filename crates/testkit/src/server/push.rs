//! Taking a push: a folder, a deletion, or a file whose content is asked for unless it is known.

use bytes::{Bytes, BytesMut};
use obsync_protocol::{Answer, CONTENT_OVERHEAD, ClientMessage, PushRequest, ServerMessage, Uid};
use tokio_tungstenite::tungstenite::Message;

use super::session::Session;
use super::wire::End;
use crate::faults::FaultKind;
use crate::vault::{Content, Entry, Told};

impl Session {
    pub(super) async fn push(&mut self, request: PushRequest) -> Result<(), End> {
        if self.shared.faults.strikes_at(FaultKind::RefusePush, self.number) {
            return self.send_answer(Answer::failed("The change cannot be taken just now")).await;
        }
        if request.folder || request.deleted {
            return self.record(&request, None).await;
        }
        let size = request.size.unwrap_or_default();
        if size > self.shared.per_file_max.saturating_add(CONTENT_OVERHEAD) {
            return self.send_answer(Answer::failed("File too large")).await;
        }
        if size == 0 {
            return self.record(&request, None).await;
        }
        if let Some(known) = self.vault.content(&request.hash) {
            self.shared.recorder.record(|stats| stats.pushes_without_content += 1);
            return self.record(&request, Some(known)).await;
        }
        let pieces = request.pieces.unwrap_or_default();
        if pieces == 0 || pieces > size {
            return self.send_answer(Answer::failed("The number of pieces does not fit the size")).await;
        }
        let content = self.receive_content(size, pieces).await?;
        if content.len() as u64 != size {
            return self.send_answer(Answer::failed("The pieces do not add up to the size")).await;
        }
        self.record(&request, Some(Content::Memory(content))).await
    }

    /// Asks for each piece and takes it in; the answer to the last one is the caller's.
    async fn receive_content(&mut self, size: u64, pieces: u64) -> Result<Bytes, End> {
        let mut content = BytesMut::new();
        for _ in 0..pieces {
            self.send_answer(Answer::next()).await?;
            let piece = self.receive_piece().await?;
            if (content.len() + piece.len()) as u64 > size {
                return Err(End::Protocol("more content than announced".to_owned()));
            }
            content.extend_from_slice(&piece);
        }
        let length = content.len() as u64;
        self.shared.recorder.record(|stats| stats.content_bytes_received += length);
        Ok(content.freeze())
    }

    async fn receive_piece(&mut self) -> Result<Bytes, End> {
        loop {
            match self.next_message().await? {
                Message::Binary(piece) => return Ok(piece),
                // A heartbeat does not know that an upload is going on.
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

    /// Records the change; every device hears of it, this one before its `ok`.
    async fn record(&mut self, request: &PushRequest, content: Option<Content>) -> Result<(), End> {
        let mut changes = Vec::new();
        if let Some(old) = request.related_path.as_ref().filter(|_| !request.deleted)
            && *old != request.path
            && let Some(entry) = self.vault.latest(old).filter(|entry| !entry.deleted)
        {
            changes.push(self.entry(PushRequest {
                path: old.clone(),
                folder: entry.folder,
                deleted: true,
                ..blank(request)
            }));
        }
        let size = content.as_ref().map_or(0, Content::len);
        changes.push(Entry { size, content, ..self.entry(request.clone()) });
        self.vault.record(changes, false).map_err(End::Disk)?;
        self.shared.recorder.record(|stats| stats.pushes += 1);
        self.send_pushes().await?;
        self.send_answer(Answer::ok()).await
    }

    /// An entry as this device pushes it, without content.
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
            told: Told::default(),
        }
    }
}

/// A request for the same path that says nothing else.
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
