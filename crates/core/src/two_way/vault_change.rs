//! One change for the vault, to be announced, sent and waited for.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use obsync_client::{PushFile, Upload, UploadSource};
use obsync_protocol::{Uid, VaultPath};
use tokio::io::{AsyncRead, ReadBuf};

use crate::destination::{Destination, DestinationError};
use crate::journal::JournalChange;
use crate::model::{Intent, KnownContent};
use crate::report::Failure;
use crate::run::Run;
use crate::state::StateStore;

use super::outgoing::{Absent, SendFile};
use super::settlement::{SentChange, SentKind};
use super::upload_progress::UploadProgress;

#[derive(Clone, Debug)]
pub(super) enum VaultChange {
    Folder(VaultPath),
    File(Box<SendFile>),
    Deletion(Absent),
}

impl VaultChange {
    /// True if the change removes something from the vault.
    pub(super) fn deletes(&self) -> bool {
        match self {
            VaultChange::Folder(_) => false,
            VaultChange::File(file) => file.from.is_some(),
            VaultChange::Deletion(_) => true,
        }
    }

    pub(super) fn path(&self) -> &VaultPath {
        match self {
            VaultChange::Folder(path) => path,
            VaultChange::File(file) => &file.local.path,
            VaultChange::Deletion(absent) => absent.path(),
        }
    }

    pub(super) fn in_journal(&self) -> JournalChange {
        match self {
            VaultChange::Folder(_) => JournalChange::CreateFolder,
            VaultChange::File(_) => JournalChange::Write,
            VaultChange::Deletion(absent) if absent.is_folder() => JournalChange::DeleteFolder,
            VaultChange::Deletion(_) => JournalChange::Delete,
        }
    }

    pub(super) fn size(&self) -> u64 {
        match self {
            VaultChange::File(file) => file.local.content.size,
            VaultChange::Folder(_) | VaultChange::Deletion(_) => 0,
        }
    }

    pub(super) fn base(&self) -> Uid {
        match self {
            VaultChange::Folder(_) => Uid(0),
            VaultChange::File(file) => file.base_uid(),
            VaultChange::Deletion(absent) => absent.uid(),
        }
    }

    /// The announcement of the change, at a version of the vault.
    pub(super) fn intent(&self, version: u64) -> Intent {
        let (from, content) = match self {
            VaultChange::File(file) => {
                (file.from.as_ref().map(|from| from.path().clone()), Some(file.local.content))
            }
            VaultChange::Folder(_) | VaultChange::Deletion(_) => (None, None),
        };
        let base = match self.base() {
            Uid(0) if content.is_some() => Uid(version),
            base => base,
        };
        Intent::Push { path: self.path().clone(), from, content, base, missing_since: None }
    }

    /// The kind sent for each path of the change; `above` is the last version that was applied here.
    pub(super) fn sent(&self, above: Uid) -> Vec<(VaultPath, SentChange)> {
        match self {
            VaultChange::Folder(path) => {
                vec![(path.clone(), SentChange { kind: SentKind::Folder, above, base_content: None })]
            }
            VaultChange::Deletion(absent) => vec![deletion(absent, above)],
            VaultChange::File(file) => {
                let kind = SentKind::File(file.local.content.hash);
                let base_content = file.base.as_ref().map(|base| base.hash);
                let sent = (file.local.path.clone(), SentChange { kind, above, base_content });
                std::iter::once(sent).chain(file.from.iter().map(|from| deletion(from, above))).collect()
            }
        }
    }
}

fn deletion(absent: &Absent, above: Uid) -> (VaultPath, SentChange) {
    let base_content = absent.file().map(|file| file.hash);
    (absent.path().clone(), SentChange { kind: SentKind::Deletion, above, base_content })
}

/// A failure to send the change.
pub(super) fn failure(change: &VaultChange, reason: String) -> Failure {
    Failure { path: change.path().as_str().to_owned(), uid: change.base(), reason }
}

/// Opens the contents to send, readable while this process has the destination to itself, and counts their
/// bytes.
pub(super) struct Contents {
    destination: Arc<dyn Destination>,
    state: Arc<dyn StateStore>,
    pub(super) progress: UploadProgress,
}

impl Contents {
    pub(super) fn of(run: &Run<'_>) -> Self {
        Contents {
            destination: run.destination.clone(),
            state: run.state.clone(),
            progress: UploadProgress::new(run.progress.clone()),
        }
    }
}

/// A content that can be read only while this process has the destination to itself: after that, the last
/// frame of a file is not sent.
pub(super) struct HeldContent {
    content: Box<dyn AsyncRead + Send + Unpin>,
    state: Arc<dyn StateStore>,
}

impl AsyncRead for HeldContent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.state.is_held() {
            true => Pin::new(&mut self.content).poll_read(context, buffer),
            false => Poll::Ready(Err(io::Error::other(NOT_HELD))),
        }
    }
}

const NOT_HELD: &str = "another run may have the destination by now";

impl UploadSource for Contents {
    type Job = VaultChange;
    type Content = HeldContent;
    type Error = DestinationError;

    fn upload<'a>(&self, change: &'a VaultChange) -> Upload<'a> {
        match change {
            VaultChange::Folder(path) => Upload::Folder(path),
            VaultChange::Deletion(absent) => {
                Upload::Deletion { path: absent.path(), folder: absent.is_folder() }
            }
            VaultChange::File(file) => {
                let local = &file.local;
                let KnownContent { hash, size } = local.content;
                let related = file.from.as_ref().map(Absent::path);
                let (ctime, mtime) = (local.ctime, local.mtime);
                Upload::File(PushFile { path: &local.path, hash, ctime, mtime, related }, size)
            }
        }
    }

    fn check(&self, _: &VaultChange) -> Result<(), DestinationError> {
        match self.state.is_held() {
            true => Ok(()),
            false => Err(DestinationError::Stopped { location: self.destination.location() }),
        }
    }

    fn sent(&self, change: &VaultChange, bytes: u64) {
        self.progress.sent(change.path(), bytes);
    }

    async fn open(&self, change: &VaultChange) -> Result<Self::Content, DestinationError> {
        self.progress.sent(change.path(), 0);
        let content = self.destination.open_file(change.path()).await?.content;
        Ok(HeldContent { content, state: self.state.clone() })
    }
}
