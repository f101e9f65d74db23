//! The history of a path in the vault: a content that the vault once had there is not a user's change.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use obsync_client::{Client, ClientError, Session, SessionTarget};
use obsync_protocol::{Uid, VaultKeys, VaultPath};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::cursor::{Past, look_back};
use crate::destination::{Destination, DestinationExt, Wanted};
use crate::model::{Direction, FileMeta, KnownContent};
use crate::run::Run;
use crate::state::StateStore;

/// Timeout of the lookup of one path, all pages together.
const PATIENCE: Duration = Duration::from_secs(60);
/// Attempts per lookup before the history is given up: the server may have closed an idle session.
const ATTEMPTS: usize = 2;
/// Pages of one path's history read at most.
const PAGES: usize = 100;

/// Looks up earlier contents of the vault's paths, over a session of its own that is opened for the first
/// lookup.
pub(crate) struct Historian {
    client: Client,
    target: SessionTarget,
    /// The version of the listing: the session lists only changes after it.
    version: u64,
    link: Mutex<SessionLink>,
    /// Number of sessions opened.
    connections: AtomicU64,
    /// The state and the destination, to recognise files that a user renamed; only in a two-way sync.
    moves: Option<(Arc<dyn StateStore>, Arc<dyn Destination>)>,
}

#[derive(Debug)]
enum SessionLink {
    Unopened,
    Open(Box<Session>),
    /// The service does not answer such requests, or does not answer at all.
    Broken,
}

impl Historian {
    pub(crate) fn new(client: Client, target: SessionTarget, version: u64) -> Self {
        Historian {
            client,
            target,
            version,
            link: Mutex::new(SessionLink::Unopened),
            connections: AtomicU64::new(0),
            moves: None,
        }
    }

    /// True if the vault once had this content at this path. If that cannot be looked up, the content counts
    /// as a user's and is kept.
    pub(crate) async fn had(&self, path: &VaultPath, content: KnownContent) -> bool {
        self.lists(path, content).await && !self.was_moved(content).await
    }

    /// True if the vault's history has this content at this path.
    pub(crate) async fn lists(&self, path: &VaultPath, content: KnownContent) -> bool {
        let mut link = self.link.lock().await;
        for _ in 0..ATTEMPTS {
            if matches!(*link, SessionLink::Broken) {
                return false;
            }
            match timeout(PATIENCE, self.ask(&mut link, path, content)).await {
                Ok(Ok(had)) => return had,
                // The server closes an idle session.
                Ok(Err(error)) => tracing::debug!(%error, "what the vault had before cannot be looked up"),
                Err(_) => tracing::debug!("the history of a path does not come in time"),
            }
            *link = SessionLink::Unopened;
        }
        tracing::warn!("earlier versions in the vault cannot be looked up; files that differ are kept");
        *link = SessionLink::Broken;
        false
    }

    /// True if a content is recorded at a path that no longer has it: its user renamed that file, and this
    /// may be the only copy.
    async fn was_moved(&self, content: KnownContent) -> bool {
        let Some((state, destination)) = self.moves.as_ref().filter(|_| content.size > 0) else {
            return false;
        };
        // If that cannot be determined, the file is kept.
        let Ok(mut recorded) = state.sources(&[content.hash]).await else { return true };
        let Some(path) = recorded.pop().flatten() else { return false };
        let wanted = Wanted { path, hash: content.hash, size: content.size };
        !destination.holds(vec![wanted]).await.is_ok_and(|holds| holds.contains(&true))
    }

    /// Number of connections opened.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    async fn ask(
        &self,
        link: &mut SessionLink,
        path: &VaultPath,
        content: KnownContent,
    ) -> Result<bool, ClientError> {
        if matches!(link, SessionLink::Unopened) {
            self.connections.fetch_add(1, Ordering::Relaxed);
            let mut session = Session::open(&self.client, &self.target, self.version, false).await?;
            session.listing(&mut |_| {}).await?;
            *link = SessionLink::Open(Box::new(session));
        }
        let SessionLink::Open(session) = link else { return Ok(false) };
        let keys = &self.target.keys;
        let encoded = keys.encode_path(path);
        let mut last = Uid(0);
        for _ in 0..PAGES {
            let page = session.history(&encoded, last).await?;
            let had = |hash| keys.decode_hash(hash).is_ok_and(|hash| hash == content.hash);
            if page.items.iter().any(|item| !item.folder && !item.deleted && had(&item.hash)) {
                return Ok(true);
            }
            match page.items.last().map(|item| item.uid) {
                Some(uid) if page.more && uid != last => last = uid,
                _ => return Ok(false),
            }
        }
        Ok(false)
    }
}

impl Run<'_> {
    /// Looks up earlier contents of the vault's paths, for a listing of this version.
    pub(crate) fn historian(&self, version: u64) -> Historian {
        let historian = Historian::new(self.source.client.clone(), self.target(), version);
        let moves =
            (self.direction == Direction::Both).then(|| (self.state.clone(), self.destination.clone()));
        Historian { moves, ..historian }
    }
}

/// True if the vault's history of the path has this file with its version and content, as far as the history
/// goes.
pub(crate) async fn has_version(
    session: &mut Session,
    keys: &VaultKeys,
    path: &VaultPath,
    file: &FileMeta,
) -> Result<bool, ClientError> {
    let encoded = keys.encode_path(path);
    let mut last = Uid(0);
    for _ in 0..PAGES {
        let page = session.history(&encoded, last).await?;
        match look_back(&page.items, file.uid, &file.hash, keys) {
            Past::OtherVault => return Ok(false),
            Past::SameVault => return Ok(true),
            Past::GoesOn => {}
        }
        match page.items.last().map(|item| item.uid) {
            Some(uid) if page.more && uid != last => last = uid,
            _ => break,
        }
    }
    Ok(true)
}
