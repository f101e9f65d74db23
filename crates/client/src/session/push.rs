//! Sending changes: folders, deletions, files in pieces (protocol.md section 3).

use bytes::Bytes;
use obsync_protocol::limits::TEXT_MESSAGE;
use obsync_protocol::{
    Answer, CONTENT_OVERHEAD, ClientMessage, ContentHash, EncodedHash, NONCE_LENGTH, PushRequest, Redactor,
    VaultPath,
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::Session;
use crate::error::{ClientError, reasons};

/// The size of all pieces but the last, in bytes.
const PIECE: usize = 2 << 20;

/// A file to be sent.
#[derive(Clone, Debug)]
pub struct PushFile<'a> {
    /// Where it is.
    pub path: &'a VaultPath,
    /// SHA-256 of its content.
    pub hash: ContentHash,
    /// Creation, milliseconds since the epoch.
    pub ctime: i64,
    /// Last change, milliseconds since the epoch.
    pub mtime: i64,
    /// Where it was before, if this is a rename.
    pub related: Option<&'a VaultPath>,
}

impl Session {
    /// Records a folder.
    ///
    /// # Errors
    /// [`ClientError::NotReady`] before the listing is complete; the server's refusal; whatever the network adds.
    pub async fn push_folder(&mut self, path: &VaultPath) -> Result<(), ClientError> {
        self.push_bare(path, true, false).await
    }

    /// Records that a file or folder is gone.
    ///
    /// # Errors
    /// As for [`Session::push_folder`].
    pub async fn push_deletion(&mut self, path: &VaultPath, folder: bool) -> Result<(), ClientError> {
        self.push_bare(path, folder, true).await
    }

    /// Sends a file that is at hand.
    ///
    /// # Errors
    /// As for [`Session::push_folder`], and [`ClientError::FileTooLarge`] before anything is sent.
    pub async fn push_file(&mut self, file: &PushFile<'_>, content: &[u8]) -> Result<(), ClientError> {
        self.push_file_from(file, content.len() as u64, content).await
    }

    /// Sends a file of `size` bytes as `content` gives it, in constant memory.
    ///
    /// # Errors
    /// As for [`Session::push_file`]; [`ClientError::Source`] when `content` gives another number of bytes, after
    /// which the session cannot be used any more.
    pub async fn push_file_from<R: AsyncRead + Unpin + Send>(
        &mut self,
        file: &PushFile<'_>,
        size: u64,
        content: R,
    ) -> Result<(), ClientError> {
        if size > self.file_limit() {
            return Err(ClientError::FileTooLarge { size, limit: self.file_limit() });
        }
        // An empty file is not encrypted (protocol.md section 1).
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
        match self.push(request).await? {
            Reply::Done => Ok(()),
            Reply::Next if encrypted > 0 => self.send_pieces(size, content).await,
            Reply::Next => Err(ClientError::protocol("the server asks for the content of an empty file")),
        }
    }

    async fn push_bare(&mut self, path: &VaultPath, folder: bool, deleted: bool) -> Result<(), ClientError> {
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
        match self.push(request).await? {
            Reply::Done => Ok(()),
            Reply::Next => Err(ClientError::protocol("the server asks for content where there is none")),
        }
    }

    async fn push(&mut self, request: PushRequest) -> Result<Reply, ClientError> {
        if !self.ready {
            return Err(ClientError::NotReady);
        }
        self.wire.queue(&ClientMessage::Push(request))?;
        self.wire.flush().await?;
        self.push_reply().await
    }

    async fn push_reply(&mut self) -> Result<Reply, ClientError> {
        let answer = self.answer("the server's answer to a change", TEXT_MESSAGE).await?;
        Reply::read(&answer, &self.redactor)
    }

    /// Encrypts and sends, piece by piece; each piece is answered, the last one by `ok`.
    async fn send_pieces<R: AsyncRead + Unpin>(&mut self, size: u64, content: R) -> Result<(), ClientError> {
        let mut nonce = [0; NONCE_LENGTH];
        getrandom::fill(&mut nonce).map_err(|error| ClientError::Source {
            reason: format!("the system gives no random numbers ({error})"),
        })?;
        let mut encryptor = self.keys.content_encryptor(nonce);
        // One byte more than announced is asked for, to notice a file that has grown.
        let mut content = content.take(size + 1);
        let mut read = 0;
        let mut pending: Vec<u8> = Vec::with_capacity(PIECE + (64 << 10));
        let mut plain = vec![0; 64 << 10];
        loop {
            let count = content
                .read(&mut plain)
                .await
                .map_err(|error| ClientError::Source { reason: reasons(&error) })?;
            read += count as u64;
            if count == 0 || read > size {
                break;
            }
            encryptor
                .update(&plain[..count], &mut pending)
                .map_err(|error| ClientError::Source { reason: error.to_string() })?;
            while pending.len() > PIECE {
                let rest = pending.split_off(PIECE);
                self.send_piece(std::mem::replace(&mut pending, rest), false).await?;
            }
        }
        if read != size {
            return Err(ClientError::Source {
                reason: format!("it does not have the {size} bytes that it had at first"),
            });
        }
        encryptor.finish(&mut pending);
        if pending.len() > PIECE {
            let rest = pending.split_off(PIECE);
            self.send_piece(std::mem::replace(&mut pending, rest), false).await?;
        }
        self.send_piece(pending, true).await
    }

    async fn send_piece(&mut self, piece: Vec<u8>, last: bool) -> Result<(), ClientError> {
        self.wire.queue_piece(Bytes::from(piece))?;
        self.wire.flush().await?;
        match (self.push_reply().await?, last) {
            (Reply::Done, true) | (Reply::Next, false) => Ok(()),
            (Reply::Done, false) => {
                Err(ClientError::protocol("the server took a file for complete before its end"))
            }
            (Reply::Next, true) => {
                Err(ClientError::protocol("the server asks for more content than announced"))
            }
        }
    }
}

/// What the server wants after a push or one of its pieces.
enum Reply {
    Done,
    Next,
}

impl Reply {
    fn read(answer: &Answer, redactor: &Redactor) -> Result<Self, ClientError> {
        if let Some(error) = answer.error() {
            return Err(ClientError::from_server_text(&error, redactor));
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
