//! Receives one content from the server: decrypts and hashes it as it arrives, passes it to the destination,
//! and checks tag and hash before it may be staged as complete.

use std::sync::Arc;

use obsync_client::{ClientError, Content, PullRequest, Receiver};
use obsync_protocol::{CONTENT_OVERHEAD, ContentError, ContentHash, ContentHasher, VaultKeys};

use crate::destination::{Destination, DestinationError, FileWriter, Staged};
use crate::governor::Reservation;
use crate::progress::Progress;
use crate::schedule::Transfer;

/// A content to receive, with the memory reserved for it until it is published.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) transfer: Transfer,
    pub(crate) reservation: Reservation,
}

/// Bytes decrypted at a time. A frame has up to 16 MiB: its plaintext need not be in memory as a whole beside
/// it.
const PLAIN_PIECE: usize = 512 << 10;

/// The engine's side of the fetch pool.
pub(crate) struct ContentReceiver {
    pub(crate) destination: Arc<dyn Destination>,
    pub(crate) keys: VaultKeys,
    pub(crate) progress: Arc<dyn Progress>,
}

/// The reason why a received content was rejected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The connection failed while it was received.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It was not encrypted with the vault's key.
    #[error("the content from the server is damaged: {0}")]
    Damaged(#[from] ContentError),
    /// It does not decrypt to the listed content.
    #[error(
        "the content from the server is not the file that the vault lists (its SHA-256 is {found}, not {expected})"
    )]
    WrongHash { expected: ContentHash, found: ContentHash },
    /// It does not have the listed size.
    #[error(
        "the server announces {announced} bytes for it, but the vault lists {listed}; the file was not downloaded. \
         Save it again in Obsidian"
    )]
    WrongSize { listed: u64, announced: u64 },
    /// It cannot be stored.
    #[error(transparent)]
    Store(#[from] DestinationError),
}

impl Receiver for ContentReceiver {
    type Job = Job;
    type Output = Staged;
    type Error = ReceiveError;

    fn request(&self, Job { transfer: job, .. }: &Job) -> PullRequest {
        PullRequest { uid: job.targets[0].uid, hash: job.hash, size: encrypted_size(job) }
    }

    fn is_worth_another_try(&self, error: &ReceiveError) -> bool {
        !matches!(error, ReceiveError::Store(_))
    }

    async fn receive(&self, job: &mut Job, content: &mut Content<'_>) -> Result<Staged, ReceiveError> {
        let (listed, announced) = (encrypted_size(&job.transfer), content.size());
        // 12 bytes are a nonce alone, another form of an empty file (docs/PROTOCOL.md section 1).
        if announced != listed && (job.transfer.size, announced) != (0, 12) {
            return Err(ReceiveError::WrongSize { listed, announced });
        }
        let mut incoming = Incoming {
            receiver: self,
            job: &job.transfer,
            hasher: ContentHasher::new(),
            writer: None,
            received: 0,
        };
        let is_empty = content.size() == 0;
        let mut decryptor = self.keys.content_decryptor();
        while let Some(mut piece) = content.next_piece().await? {
            while !piece.is_empty() {
                let part = piece.split_to(piece.len().min(PLAIN_PIECE));
                let mut plain = Vec::with_capacity(part.len());
                decryptor.update(&part, &mut plain)?;
                content.keep_alive_while(incoming.take(plain)).await?;
            }
        }
        // An empty file is not encrypted: it has neither nonce nor tag (docs/PROTOCOL.md section 1).
        if !is_empty {
            decryptor.finish()?;
        }
        content.keep_alive_while(incoming.finish()).await
    }
}

/// Size of the encrypted content, according to its entry.
fn encrypted_size(transfer: &Transfer) -> u64 {
    if transfer.size == 0 { 0 } else { transfer.size.saturating_add(CONTENT_OVERHEAD) }
}

/// One content being received into the destination.
struct Incoming<'a> {
    receiver: &'a ContentReceiver,
    job: &'a Transfer,
    hasher: ContentHasher,
    writer: Option<Box<dyn FileWriter>>,
    received: u64,
}

impl Incoming<'_> {
    async fn take(&mut self, plain: Vec<u8>) -> Result<(), ReceiveError> {
        if plain.is_empty() {
            return Ok(());
        }
        self.hasher.update(&plain);
        self.received += plain.len() as u64;
        if self.received > self.job.size {
            return Err(self.wrong_size());
        }
        self.receiver.progress.received(plain.len() as u64);
        self.receiver.progress.receiving(self.job.targets[0].uid, self.received, self.job.size);
        let writer = self.take_writer().await?;
        self.writer.insert(writer).write(plain).await?;
        Ok(())
    }

    /// The writer of this content, created on first use.
    async fn take_writer(&mut self) -> Result<Box<dyn FileWriter>, DestinationError> {
        match self.writer.take() {
            Some(writer) => Ok(writer),
            None => {
                let target = &self.job.targets[0];
                let meta = target.meta(self.job.hash, self.job.size);
                self.receiver.destination.begin(&target.path, &meta).await
            }
        }
    }

    async fn finish(mut self) -> Result<Staged, ReceiveError> {
        let found = std::mem::take(&mut self.hasher).finish();
        if found != self.job.hash {
            return Err(ReceiveError::WrongHash { expected: self.job.hash, found });
        }
        if self.received != self.job.size {
            return Err(self.wrong_size());
        }
        let writer = self.take_writer().await?;
        Ok(writer.finish().await?)
    }

    fn wrong_size(&self) -> ReceiveError {
        let announced = self.received.saturating_add(CONTENT_OVERHEAD);
        ReceiveError::WrongSize { listed: encrypted_size(self.job), announced }
    }
}
