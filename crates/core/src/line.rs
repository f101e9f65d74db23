//! The session that a follower keeps open between runs, so that a change of either side needs no new
//! connection.
//!
//! No change that the vault pushes meanwhile is lost: it stays in the session's [`LiveChanges`] or in the
//! backlog until a run takes it as its listing. If that chain is broken in any way, the line is dropped and
//! the next run lists over a new session.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use obsync_client::{Client, ClientError, LiveChanges, Session, SessionTarget, WritePermit, WritingSession};
use obsync_protocol::PushMessage;

/// Changes kept for the next run, at most. Beyond that a new listing is cheaper.
const BACKLOG: usize = 10_000;

/// An open session and the changes received over it.
pub(crate) struct Line {
    /// `None` while a run uses it.
    pub(crate) session: Option<Session>,
    /// Turns the session into a writing one, if changes are sent.
    pub(crate) permit: Option<WritePermit>,
    pub(crate) live: LiveChanges,
    /// Changes since [`Self::taken`] that no run has taken yet, in order.
    pub(crate) backlog: Vec<PushMessage>,
    /// The version up to which runs have taken all changes.
    pub(crate) taken: u64,
}

/// The line of a follower; a single run has none.
pub(crate) struct Lines {
    keeps: bool,
    writes: bool,
    line: Mutex<Option<Line>>,
    /// Time when the last session was opened, by the client's clock. `None` if none was.
    opened: Mutex<Option<Instant>>,
}

impl Lines {
    /// For a single run.
    pub(crate) fn none() -> Self {
        Lines { keeps: false, ..Self::kept(false) }
    }

    /// For a follower that reads, or also writes.
    pub(crate) fn kept(writes: bool) -> Self {
        Lines { keeps: true, writes, line: Mutex::new(None), opened: Mutex::default() }
    }

    /// Age of the last session, at `now` of the client's clock.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        // Nothing that can panic runs under the lock.
        let opened = *self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.map_or(Duration::ZERO, |opened| now.saturating_duration_since(opened))
    }

    /// True if sessions stay open.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps
    }

    /// Opens a session. If sessions stay open, changes after its listing are kept.
    pub(crate) async fn open(
        &self,
        client: &Client,
        target: &SessionTarget,
        version: u64,
        initial: bool,
    ) -> Result<(Session, Option<Line>), ClientError> {
        self.take();
        *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.options().clock.steady());
        if self.writes {
            let unlisted = WritingSession::open(client, target, version, initial).await?;
            let (session, live, permit) = unlisted.into_parts();
            return Ok((session, Some(Line::new(Some(permit), live))));
        }
        let mut session = Session::open(client, target, version, initial).await?;
        let line = self.keeps.then(|| Line::new(None, session.live_changes()));
        Ok((session, line))
    }

    /// Keeps a line whose session is in use.
    pub(crate) fn put(&self, line: Line) {
        *self.lock() = Some(line);
    }

    /// Takes the whole line with its session, and drops everything else.
    pub(crate) fn take(&self) -> Option<Line> {
        self.lock().take().filter(|line| line.session.is_some())
    }

    /// The session, and all changes since `known`, the version of the destination. The line stays, and the
    /// session has to be [returned](Self::give_back) to it.
    pub(crate) fn news(&self, known: u64) -> Option<(Session, Vec<PushMessage>)> {
        let mut place = self.lock();
        let mut line = place.take().filter(|line| line.taken <= known)?;
        let session = line.session.take()?;
        if !line.gather() {
            return None;
        }
        let news: Vec<PushMessage> = std::mem::take(&mut line.backlog);
        // The two entries of a rename can share a version (docs/PROTOCOL.md section 3), and arrive
        // separately.
        let news: Vec<PushMessage> = news.into_iter().filter(|change| change.uid.0 >= known).collect();
        line.taken = news.iter().map(|change| change.uid.0).fold(known, u64::max);
        *place = Some(line);
        Some((session, news))
    }

    /// Refuses the news of the open line: the next run lists over a session of its own.
    pub(crate) fn distrust(&self) {
        if let Some(line) = self.lock().as_mut() {
            line.taken = u64::MAX;
        }
    }

    /// Returns a working session to its line.
    pub(crate) fn give_back(&self, session: Option<Session>) {
        let mut place = self.lock();
        match place.as_mut() {
            Some(line) if session.is_some() => line.session = session,
            _ => *place = None,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Line>> {
        // Nothing that can panic runs under the lock.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn new(permit: Option<WritePermit>, live: LiveChanges) -> Self {
        Line { session: None, permit, live, backlog: Vec::new(), taken: 0 }
    }

    /// Collects the changes that the session received. `false` if some were lost or the session is over, so
    /// that the line is of no use.
    pub(crate) fn gather(&mut self) -> bool {
        while self.backlog.len() < BACKLOG {
            match self.live.try_next() {
                Ok(Some(change)) => self.backlog.push(change),
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        false
    }

    /// True if the vault pushed changes that no run has taken yet.
    pub(crate) fn has_news(&self) -> bool {
        !self.backlog.is_empty()
    }
}
