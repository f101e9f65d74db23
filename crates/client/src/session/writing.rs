//! A session that may change the vault. Its type proves that the listing was received: nothing can be sent
//! before.

use std::sync::Arc;

use obsync_protocol::{EncodedPath, PushMessage, Uid, VaultPath};
use tokio::io::AsyncRead;

use super::push::{OldPath, OnSent, PushFailure, PushFile, Pushed, Renamed};
use super::{History, LiveChanges, Session, SessionTarget, VaultSize};
use crate::client::Client;
use crate::error::ClientError;

/// A session for writing, whose listing was not received yet.
#[derive(Debug)]
pub struct UnlistedSession {
    session: Session,
    live: LiveChanges,
}

/// A session that may change the vault, one change at a time.
///
/// When a call is cancelled or fails midway, the connection is closed, since the server's answer could not be
/// attributed; every later call returns [`ClientError::ConnectionLost`]. A refusal leaves the session usable.
#[derive(Debug)]
pub struct WritingSession {
    /// Taken out during a call, so that a cancelled call ends the connection.
    session: Option<Session>,
}

impl UnlistedSession {
    /// Receives the listing to its end. After that the session accepts changes, and the [`LiveChanges`]
    /// receive the server's changes, the echoes of own ones included. The arguments and errors are those of
    /// [`Session::listing`]. After an error, open a new session above the last entry received.
    ///
    /// # Errors
    /// As for [`Session::listing`].
    pub async fn listing(
        mut self,
        on_entry: &mut (dyn FnMut(PushMessage) + Send),
    ) -> Result<(WritingSession, LiveChanges), ClientError> {
        self.session.listing(on_entry).await?;
        Ok((WritingSession { session: Some(self.session) }, self.live))
    }

    /// The largest file that the vault accepts, in bytes of plaintext.
    #[must_use]
    pub fn file_limit(&self) -> u64 {
        self.session.file_limit()
    }
}

impl UnlistedSession {
    /// Splits it into a session to read with first, and the permit that turns that into a writing session
    /// again.
    #[must_use]
    pub fn into_parts(self) -> (Session, LiveChanges, WritePermit) {
        let permit = WritePermit::of(&self.session);
        (self.session, self.live, permit)
    }
}

/// Turns the session that it came from into a [`WritingSession`], once its listing was received. Only a session
/// that was opened for writing yields one.
#[derive(Debug)]
pub struct WritePermit(Arc<()>);

impl WritePermit {
    fn of(session: &Session) -> Self {
        WritePermit(session.identity.clone())
    }

    /// The session for writing.
    ///
    /// # Errors
    /// The session back, if it is another one, or its listing was not received completely.
    pub fn writing(self, session: Session) -> Result<WritingSession, Box<Session>> {
        match Arc::ptr_eq(&self.0, &session.identity) && session.is_listed() {
            true => Ok(WritingSession { session: Some(session) }),
            false => Err(Box::new(session)),
        }
    }
}

impl WritingSession {
    /// The session for reading, and the permit that turns it into a writing one again. `None`: it is over.
    #[must_use]
    pub fn into_reading(self) -> Option<(Session, WritePermit)> {
        let session = self.session?;
        let permit = WritePermit::of(&session);
        Some((session, permit))
    }

    /// Opens a session as [`Session::open`] does. Receive its listing next.
    ///
    /// # Errors
    /// As for [`Session::open`].
    pub async fn open(
        client: &Client,
        target: &SessionTarget,
        version: u64,
        initial: bool,
    ) -> Result<UnlistedSession, ClientError> {
        let mut session = Session::open(client, target, version, initial).await?;
        let live = session.live_changes();
        Ok(UnlistedSession { session, live })
    }

    /// A further connection beside the one that has the listing: its own listing is discarded, and nobody
    /// receives its live changes.
    pub(crate) async fn open_further(
        client: &Client,
        target: &SessionTarget,
        version: u64,
        longest: usize,
    ) -> Result<Self, ClientError> {
        let mut session = Session::open_once(client, target, version, false, longest).await?;
        session.pass_over_listing().await?;
        Ok(Self { session: Some(session) })
    }

    /// Records a folder.
    ///
    /// # Errors
    /// [`PushFailure`] says whether the vault may have the change.
    pub async fn push_folder(&mut self, path: &VaultPath) -> Result<Pushed, PushFailure> {
        let mut session = self.begin().map_err(PushFailure::NotRecorded)?;
        let pushed = session.push_bare(path, true, false).await;
        self.end_push(session, pushed)
    }

    /// Records the deletion of a file or folder. A folder that is not empty stays.
    ///
    /// # Errors
    /// As for [`WritingSession::push_folder`].
    pub async fn push_deletion(&mut self, path: &VaultPath, folder: bool) -> Result<Pushed, PushFailure> {
        let mut session = self.begin().map_err(PushFailure::NotRecorded)?;
        let pushed = session.push_bare(path, folder, true).await;
        self.end_push(session, pushed)
    }

    /// Uploads a file in memory.
    ///
    /// # Errors
    /// As for [`WritingSession::push_file_from`].
    pub async fn push_file(&mut self, file: &PushFile<'_>, content: &[u8]) -> Result<Pushed, PushFailure> {
        self.push_file_from(file, content.len() as u64, content).await
    }

    /// Uploads a file of `size` bytes from `content`, in constant memory. `content` is not read if the vault
    /// has it already.
    ///
    /// The hash is sent first, so it has to be known. The content is hashed again while it is sent, and the
    /// last piece is sent only if the hash matches. Otherwise the connection is closed, and the server
    /// discards the upload.
    ///
    /// # Errors
    /// [`PushFailure`] says whether the vault may have the change. Known reasons:
    /// [`ClientError::FileTooLarge`] (detected before anything is sent, if the server named its limit),
    /// [`ClientError::VaultFull`], [`ClientError::ReadOnly`], [`ClientError::SubscriptionExpired`],
    /// [`ClientError::Source`] and [`ClientError::SourceChanged`].
    pub async fn push_file_from<R: AsyncRead + Unpin + Send>(
        &mut self,
        file: &PushFile<'_>,
        size: u64,
        content: R,
    ) -> Result<Pushed, PushFailure> {
        self.push_file_noting(file, size, content, &|_| {}).await
    }

    /// The same. Calls `on_sent` meanwhile with the number of bytes sent.
    ///
    /// # Errors
    /// As for [`WritingSession::push_file_from`].
    pub async fn push_file_noting<R: AsyncRead + Unpin + Send>(
        &mut self,
        file: &PushFile<'_>,
        size: u64,
        content: R,
        on_sent: &OnSent<'_>,
    ) -> Result<Pushed, PushFailure> {
        let mut session = self.begin().map_err(PushFailure::NotRecorded)?;
        let pushed = session.push_content(file, size, content, on_sent).await;
        self.end_push(session, pushed)
    }

    /// Uploads a file that was at `from` before, and then the deletion of `from` unless the service recorded
    /// that by itself; the behaviour of the service was not observed (docs/PROTOCOL.md section 3).
    /// `may_delete` is called right before the deletion, because the upload may have taken long. `on_sent` is
    /// called meanwhile with the number of bytes sent.
    ///
    /// # Errors
    /// As for [`WritingSession::push_file_from`], and only if the upload to the new path failed.
    pub async fn push_rename<R: AsyncRead + Unpin + Send>(
        &mut self,
        from: &VaultPath,
        file: &PushFile<'_>,
        size: u64,
        content: R,
        may_delete: impl FnOnce() -> bool + Send,
        on_sent: &OnSent<'_>,
    ) -> Result<Renamed, PushFailure> {
        let file = PushFile { related: Some(from), ..file.clone() };
        let pushed = self.push_file_noting(&file, size, content, on_sent).await?;
        let old = match pushed.related_deleted {
            Some(uid) => OldPath::DeletedByService(uid),
            None if !may_delete() => {
                OldPath::NotDeleted(PushFailure::NotRecorded(ClientError::SourceChanged))
            }
            None => match self.push_deletion(from, false).await {
                Ok(deletion) => OldPath::Deleted(deletion),
                Err(failure) => OldPath::NotDeleted(failure),
            },
        };
        Ok(Renamed { pushed, old })
    }

    /// Makes an earlier version of an entry the current one.
    ///
    /// # Errors
    /// As for [`Session::size`].
    pub async fn restore(&mut self, uid: Uid) -> Result<(), ClientError> {
        let mut session = self.begin()?;
        let answer = session.restore(uid).await;
        self.end(session, answer)
    }

    /// The versions of an entry, see [`Session::history`].
    ///
    /// # Errors
    /// As for [`Session::history`].
    pub async fn history(&mut self, path: &EncodedPath, last: Uid) -> Result<History, ClientError> {
        let mut session = self.begin()?;
        let answer = session.history(path, last).await;
        self.end(session, answer)
    }

    /// The deleted entries, see [`Session::deleted`].
    ///
    /// # Errors
    /// As for [`Session::deleted`].
    pub async fn deleted(&mut self) -> Result<Vec<PushMessage>, ClientError> {
        let mut session = self.begin()?;
        let answer = session.deleted().await;
        self.end(session, answer)
    }

    /// Queries the storage used by the vault.
    ///
    /// # Errors
    /// As for [`Session::size`].
    pub async fn size(&mut self) -> Result<VaultSize, ClientError> {
        let mut session = self.begin()?;
        let answer = session.size().await;
        self.end(session, answer)
    }

    /// The largest file that the vault accepts, in bytes of plaintext; 0 once the session is over.
    #[must_use]
    pub fn file_limit(&self) -> u64 {
        self.session.as_ref().map_or(0, Session::file_limit)
    }

    /// The highest uid received, see [`Session::version`]; `None` once the session is over.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.session.as_ref().map(Session::version)
    }

    /// The version of the last `ready`, see [`Session::server_version`]; `None` once the session is over.
    #[must_use]
    pub fn server_version(&self) -> Option<u64> {
        self.session.as_ref().and_then(Session::server_version)
    }

    /// True while the session is usable.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.session.is_some()
    }

    /// Keeps the session alive until it ends, and returns the reason. May be cancelled at any time.
    pub async fn idle(&mut self) -> ClientError {
        let Some(session) = &mut self.session else { return over() };
        let error = session.idle().await;
        self.session = None;
        error
    }

    /// Closes the connection properly.
    pub async fn close(self) {
        if let Some(session) = self.session {
            session.close().await;
        }
    }

    fn begin(&mut self) -> Result<Session, ClientError> {
        self.session.take().ok_or_else(over)
    }

    fn end<T>(&mut self, session: Session, answer: Result<T, ClientError>) -> Result<T, ClientError> {
        if answer.as_ref().err().is_none_or(ClientError::is_refusal) {
            self.session = Some(session);
        }
        answer
    }

    fn end_push(
        &mut self,
        session: Session,
        pushed: Result<Pushed, PushFailure>,
    ) -> Result<Pushed, PushFailure> {
        if matches!(pushed, Ok(_) | Err(PushFailure::Refused(_))) {
            self.session = Some(session);
        }
        pushed
    }
}

fn over() -> ClientError {
    ClientError::lost("the session ended before")
}
