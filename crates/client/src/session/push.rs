//! Sends changes: folders, deletions, files in pieces (docs/PROTOCOL.md section 3).

use bytes::Bytes;
use obsync_protocol::limits::TEXT_MESSAGE;
use obsync_protocol::{
    Answer, CONTENT_OVERHEAD, ClientMessage, ContentEncryptor, ContentHash, ContentHasher, EncodedHash,
    NONCE_LENGTH, PushMessage, PushRequest, Redactor, Uid, VaultPath,
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{Event, Session};
use crate::error::{ClientError, reasons};

/// The size of all pieces but the last, in bytes.
const PIECE: usize = 2 << 20;

/// Bytes of content read at a time.
const READ: usize = 64 << 10;

/// Called while a file is sent, with the number of bytes of its content that this attempt has sent so far.
/// Not called for content that the vault already has.
pub type OnSent<'a> = dyn Fn(u64) + Sync + 'a;

/// A file to upload.
#[derive(Clone, Debug)]
pub struct PushFile<'a> {
    /// Its path.
    pub path: &'a VaultPath,
    /// SHA-256 of its content.
    pub hash: ContentHash,
    /// Creation, milliseconds since the epoch.
    pub ctime: i64,
    /// Last change, milliseconds since the epoch.
    pub mtime: i64,
    /// Its previous path, if this is a rename.
    pub related: Option<&'a VaultPath>,
}

/// A change that the server accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// The uid that the server assigned, if its echo came before the answer: the first entry meanwhile that
    /// matches the change and names this device.
    pub echo: Option<Uid>,
    /// The uid of the deletion of [`PushFile::related`], if the service recorded one by itself.
    pub related_deleted: Option<Uid>,
}

/// A rename that the server accepted.
#[derive(Clone, Debug)]
pub struct Renamed {
    /// The file at its new path.
    pub pushed: Pushed,
    /// The fate of its old path.
    pub old: OldPath,
}

/// The old path of a rename.
#[derive(Clone, Debug)]
pub enum OldPath {
    /// The service deleted it because of the rename.
    DeletedByService(Uid),
    /// A separate change deleted it.
    Deleted(Pushed),
    /// The file has its new path, but the old one may still be there.
    NotDeleted(PushFailure),
}

/// A change that was not answered with `ok`.
#[derive(Clone, Debug, Error)]
pub enum PushFailure {
    /// The server refused it. The session stays usable.
    #[error(transparent)]
    Refused(ClientError),
    /// The session ended before the server can have recorded the change, so it can be sent again.
    #[error(transparent)]
    NotRecorded(ClientError),
    /// No answer arrived, so the vault may or may not have the change; its history tells.
    #[error("{0}; it is not known whether the vault has this change")]
    Unknown(#[source] ClientError),
}

impl PushFailure {
    /// The reason.
    #[must_use]
    pub fn error(&self) -> &ClientError {
        match self {
            Self::Refused(error) | Self::NotRecorded(error) | Self::Unknown(error) => error,
        }
    }
}

/// The server's demand after a push or one of its pieces.
enum Reply {
    Done,
    Next,
    Refused(ClientError),
}

/// A change being sent.
struct Change<'a> {
    request: &'a PushRequest,
    pushed: Pushed,
}

impl Session {
    pub(super) async fn push_bare(
        &mut self,
        path: &VaultPath,
        folder: bool,
        deleted: bool,
    ) -> Result<Pushed, PushFailure> {
        let request = PushRequest {
            path: self.keys.encode_path(path),
            related_path: None,
            extension: if folder { String::new() } else { path.extension() },
            hash: EncodedHash::from(String::new()),
            ctime: 0,
            mtime: 0,
            folder,
            deleted,
            size: None,
            pieces: None,
        };
        let mut change = Change { request: &request, pushed: Pushed::default() };
        match self.announce(&mut change).await? {
            Reply::Done => Ok(change.pushed),
            Reply::Next => Err(not_kept("the server asks for content where there is none")),
            Reply::Refused(error) => Err(PushFailure::Refused(error)),
        }
    }

    pub(super) async fn push_content<R: AsyncRead + Unpin>(
        &mut self,
        file: &PushFile<'_>,
        size: u64,
        content: R,
        on_sent: &OnSent<'_>,
    ) -> Result<Pushed, PushFailure> {
        let too_large = ClientError::FileTooLarge { size, limit: self.file_limit() };
        if size > self.file_limit() {
            return Err(PushFailure::Refused(too_large));
        }
        // The content is not read, so it would be recorded under any hash.
        if size == 0 && file.hash != ContentHash::EMPTY {
            return Err(PushFailure::NotRecorded(ClientError::SourceChanged));
        }
        // An empty file is not encrypted (docs/PROTOCOL.md section 1).
        let encrypted = if size == 0 { 0 } else { size + CONTENT_OVERHEAD };
        let request = PushRequest {
            path: self.keys.encode_path(file.path),
            related_path: file.related.map(|path| self.keys.encode_path(path)),
            extension: file.path.extension(),
            hash: self.keys.encode_hash(&file.hash),
            ctime: file.ctime,
            mtime: file.mtime,
            folder: false,
            deleted: false,
            size: Some(encrypted),
            pieces: Some(encrypted.div_ceil(PIECE as u64)),
        };
        let mut change = Change { request: &request, pushed: Pushed::default() };
        let reply = match self.announce(&mut change).await? {
            Reply::Next if encrypted > 0 => {
                let pieces = self.pieces(file.hash, size, content).map_err(PushFailure::NotRecorded)?;
                self.send_content(&mut change, pieces, on_sent).await?
            }
            Reply::Next => return Err(not_kept("the server asks for the content of an empty file")),
            reply => reply,
        };
        match reply {
            Reply::Refused(ClientError::Service { message }) if says_too_large(&message) => {
                Err(PushFailure::Refused(too_large))
            }
            Reply::Refused(error) => Err(PushFailure::Refused(error)),
            Reply::Done | Reply::Next => Ok(change.pushed),
        }
    }

    /// Sends the request and returns the server's demand.
    async fn announce(&mut self, change: &mut Change<'_>) -> Result<Reply, PushFailure> {
        let request = ClientMessage::Push(change.request.clone());
        self.wire.queue(&request).map_err(PushFailure::NotRecorded)?;
        self.wire.flush().await.map_err(PushFailure::Unknown)?;
        self.reply(change, 0).await.map_err(PushFailure::Unknown)
    }

    /// Prepares a content for encryption under a nonce of its own.
    fn pieces<R: AsyncRead + Unpin>(
        &self,
        hash: ContentHash,
        size: u64,
        content: R,
    ) -> Result<Pieces<R>, ClientError> {
        let mut nonce = [0; NONCE_LENGTH];
        getrandom::fill(&mut nonce).map_err(|error| ClientError::randomness(&error))?;
        Ok(Pieces::new(self.keys.content_encryptor(nonce), content, size, hash))
    }

    /// Encrypts and sends piece by piece; the server answers each piece, the last one with `ok`.
    async fn send_content<R: AsyncRead + Unpin>(
        &mut self,
        change: &mut Change<'_>,
        mut pieces: Pieces<R>,
        on_sent: &OnSent<'_>,
    ) -> Result<Reply, PushFailure> {
        let not_recorded = PushFailure::NotRecorded;
        let (size, mut before) = (pieces.size, 0);
        loop {
            let (piece, is_last) = pieces.next().await.map_err(not_recorded)?;
            let failed = if is_last { PushFailure::Unknown } else { not_recorded };
            let length = piece.len() as u64;
            let note = |sent: u64| on_sent((before + sent.min(length)).min(size));
            let reply = self.send_piece(change, piece, &note).await.map_err(failed)?;
            before += length;
            match (reply, is_last) {
                (Reply::Next, false) => {}
                (Reply::Done, false) => {
                    let reason = "the server took a file for complete before its end";
                    return Err(PushFailure::Unknown(ClientError::protocol(reason)));
                }
                (Reply::Next, true) => {
                    let more = "the server asks for more content than announced";
                    return Err(PushFailure::Unknown(ClientError::protocol(more)));
                }
                (reply, _) => return Ok(reply),
            }
        }
    }

    /// Sends a piece. Calls `on_sent` meanwhile with the number of bytes that the system has accepted.
    async fn send_piece(
        &mut self,
        change: &mut Change<'_>,
        piece: Vec<u8>,
        on_sent: &OnSent<'_>,
    ) -> Result<Reply, ClientError> {
        let (length, begun) = (piece.len(), self.wire.written());
        self.wire.queue_piece(Bytes::from(piece))?;
        self.wire.flush_noting(&mut |written| on_sent(written - begun)).await?;
        self.reply(change, length).await
    }

    /// Receives the answer to a change of which this many bytes were sent, and the echoes before it.
    async fn reply(&mut self, change: &mut Change<'_>, sent: usize) -> Result<Reply, ClientError> {
        let due = self.wire.change_due("the server's answer to a change", sent);
        loop {
            match self.event(&due, TEXT_MESSAGE).await? {
                Event::Answer(answer) => return Reply::read(&answer, &self.redactor),
                Event::Push(entry) => change.hear(&entry, &self.device),
                Event::Ready | Event::Nothing => {}
                Event::Piece(_) => {
                    return Err(ClientError::protocol("a piece of content came where an answer was due"));
                }
            }
        }
    }
}

impl Change<'_> {
    /// Records an entry that came before the answer.
    fn hear(&mut self, entry: &PushMessage, device: &str) {
        let request = self.request;
        if entry.device != device || !entry.has_sound_uid() {
            return;
        }
        let is_echo = entry.path == request.path
            && entry.hash == request.hash
            && entry.mtime == request.mtime
            && entry.folder == request.folder
            && entry.deleted == request.deleted;
        if is_echo {
            self.pushed.echo.get_or_insert(entry.uid);
        } else if entry.deleted && Some(&entry.path) == request.related_path.as_ref() {
            self.pushed.related_deleted.get_or_insert(entry.uid);
        }
    }
}

impl Reply {
    fn read(answer: &Answer, redactor: &Redactor) -> Result<Self, ClientError> {
        if let Some(error) = answer.error() {
            return Ok(Self::Refused(ClientError::from_server_text(&error, redactor)));
        }
        if answer.is_ok() {
            Ok(Self::Done)
        } else if answer.is_next() {
            Ok(Self::Next)
        } else {
            Err(ClientError::protocol("a change was neither accepted nor refused"))
        }
    }
}

/// A content in pieces, encrypted as it is read.
struct Pieces<R> {
    /// `None` once the tag was added.
    encryptor: Option<ContentEncryptor>,
    hasher: ContentHasher,
    hash: ContentHash,
    content: R,
    size: u64,
    read: u64,
    plain: Vec<u8>,
    /// Encrypted and not yet returned.
    pending: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Pieces<R> {
    fn new(encryptor: ContentEncryptor, content: R, size: u64, hash: ContentHash) -> Self {
        let hasher = ContentHasher::new();
        Self {
            encryptor: Some(encryptor),
            hasher,
            hash,
            content,
            size,
            read: 0,
            plain: vec![0; READ],
            pending: Vec::new(),
        }
    }

    /// Returns the next piece, and true for the last one. The last piece is not returned unless the content
    /// is the announced one; nor is the one before it, if only some bytes of the tag are missing after it.
    async fn next(&mut self) -> Result<(Vec<u8>, bool), ClientError> {
        while self.encryptor.is_some() && self.pending.len() <= PIECE {
            self.read().await?;
        }
        if self.pending.len() > PIECE {
            let rest = self.pending.split_off(PIECE);
            return Ok((std::mem::replace(&mut self.pending, rest), false));
        }
        Ok((std::mem::take(&mut self.pending), true))
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        let count = self.content.read(&mut self.plain).await.map_err(|error| source(reasons(&error)))?;
        self.read += count as u64;
        if self.read > self.size || (count == 0 && self.read < self.size) {
            return Err(source(format!("it does not have the {} bytes that it had at first", self.size)));
        }
        if count > 0 {
            let plain = &self.plain[..count];
            self.hasher.update(plain);
            let Some(encryptor) = &mut self.encryptor else { return Ok(()) };
            return encryptor.update(plain, &mut self.pending).map_err(|error| source(error.to_string()));
        }
        if std::mem::take(&mut self.hasher).finish() != self.hash {
            return Err(ClientError::SourceChanged);
        }
        if let Some(encryptor) = self.encryptor.take() {
            encryptor.finish(&mut self.pending);
        }
        Ok(())
    }
}

fn source(reason: String) -> ClientError {
    ClientError::Source { reason }
}

/// The server violated the protocol before it can have recorded anything.
fn not_kept(reason: &str) -> PushFailure {
    PushFailure::NotRecorded(ClientError::protocol(reason))
}

fn says_too_large(message: &str) -> bool {
    let lower = message.to_lowercase();
    ["too large", "too big", "maximum file size", "file size limit"].iter().any(|part| lower.contains(part))
}
