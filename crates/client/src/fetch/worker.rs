//! One connection of the pool and the requests under way on it.

use std::collections::VecDeque;
use std::sync::Arc;

use backon::{BackoffBuilder, ExponentialBackoff};
use obsync_net::WAITS;
use obsync_protocol::limits::{FIRST_CONNECTION_FRAME, FURTHER_CONNECTION_FRAME};
use tokio::time::Instant;
use tracing::{debug, info};

use super::Receiver;
use super::pace::Pace;
use super::pool::{Counters, PoolContext, SessionSlot};
use super::queue::{Pending, Window, Work};
use crate::error::ClientError;
use crate::session::Session;

/// Why a connection's task ended.
pub(super) enum End {
    /// No work is left.
    Finished,
    /// There are more connections than the limit allows.
    LetGo,
    /// The receiver of results was dropped.
    NobodyListens,
    /// Too many connections broke in a row.
    GaveUp(ClientError),
    /// A connection could not be opened or kept beside the others, and is no longer counted.
    LeftToOthers(ClientError),
    /// Any other connection would fail as well.
    Hopeless(ClientError),
}

/// Why a connection is given up.
pub(super) enum Stop {
    /// It broke, or the server violated the protocol.
    Broken(ClientError),
    /// The request at the head of the window got another file's content; it is requested alone to find out
    /// whose fault that was.
    MixedUp,
    /// It is in order, but a new one is cheaper than receiving an unwanted content.
    NotWorthKeeping,
    /// The receiver of results was dropped.
    NobodyListens,
    /// After this error of the server any other connection would fail as well.
    Hopeless(ClientError),
}

pub(super) struct Worker<R: Receiver> {
    pub(super) shared: Arc<PoolContext<R>>,
    session: Option<Session>,
    /// Requests whose answers are due, in order.
    pub(super) window: VecDeque<Pending<R::Job>>,
    /// A job that got another's content, to be requested before any other.
    suspect: Option<Pending<R::Job>>,
    /// Limit of the requests under way.
    pub(super) pace: Pace,
    /// Answers were mixed up on this connection: one request at a time.
    pub(super) serial: bool,
    hungry: bool,
    /// The present connection has settled a job.
    pub(super) progress: bool,
    /// Connections that broke in a row without settling any job.
    losses: u32,
    pauses: ExponentialBackoff,
    /// No requests before this time, because the server is overloaded.
    pub(super) rest_until: Option<Instant>,
    had_connection: bool,
    /// It received a content.
    serving: bool,
    /// It is a surplus connection: no new requests.
    let_go: bool,
    /// Takes back the session that the caller provided, as long as it is the one in use.
    give_back: Option<SessionSlot>,
}

impl<R: Receiver> Worker<R> {
    pub(super) fn new(
        shared: Arc<PoolContext<R>>,
        session: Option<Session>,
        give_back: Option<SessionSlot>,
    ) -> Self {
        shared.queue.set_hungry(true);
        let had_connection = session.is_some();
        if had_connection {
            Counters::add(&shared.counters.connections, 1);
        }
        Self {
            pauses: endless_pauses(&shared),
            pace: Pace::new(shared.options.in_flight),
            shared,
            session,
            window: VecDeque::new(),
            suspect: None,
            serial: false,
            hungry: true,
            progress: false,
            losses: 0,
            rest_until: None,
            had_connection,
            serving: false,
            let_go: false,
            give_back,
        }
    }

    pub(super) async fn run(mut self) -> End {
        let end = match self.work().await {
            // It is no longer counted.
            End::Finished | End::GaveUp(_) if self.let_go => End::LetGo,
            End::GaveUp(error) if self.shared.limit.leaves_to_others() => End::LeftToOthers(error),
            end => end,
        };
        self.shared.queue.give_back(self.window.drain(..));
        self.shared.queue.give_back(self.suspect.take().into_iter());
        self.set_hungry(false);
        if self.serving {
            self.shared.limit.served();
        }
        match (self.session.take(), self.give_back.take()) {
            (Some(session), Some(slot)) => slot.put(session),
            (Some(session), None) => session.close().await,
            (None, _) => {}
        }
        end
    }

    /// From its first content on the connection counts in the measured rate.
    pub(super) fn counts_as_serving(&mut self) {
        if !std::mem::replace(&mut self.serving, true) {
            self.shared.limit.serving();
        }
    }

    async fn work(&mut self) -> End {
        loop {
            if self.is_let_go() {
                return End::LetGo;
            }
            match self.wait_for_work().await {
                Work::Finished => return End::Finished,
                Work::Later => continue,
                Work::Available => {}
            }
            let mut session = match self.session.take() {
                Some(session) => session,
                None => match self.connect().await {
                    Ok(Some(session)) => session,
                    Ok(None) => continue,
                    Err(end) => return end,
                },
            };
            let served = self.serve(&mut session).await;
            self.shared.heard(session.version());
            match served {
                Ok(()) => self.session = Some(session),
                Err(stop) => {
                    if let Some(end) = self.after(stop).await {
                        return end;
                    }
                }
            }
        }
    }

    /// Waits for work and keeps the connection alive meanwhile.
    async fn wait_for_work(&mut self) -> Work {
        if self.suspect.is_some() {
            return Work::Available;
        }
        if self.shared.queue.work() == Work::Available {
            return Work::Available;
        }
        self.set_hungry(true);
        let Some(session) = &mut self.session else {
            return self.shared.queue.wait().await;
        };
        tokio::select! {
            biased;
            work = self.shared.queue.wait() => work,
            error = session.idle() => {
                // A server may drop an idle connection.
                debug!(%error, "an idle connection ended");
                self.session = None;
                Work::Later
            }
        }
    }

    /// A new connection, after a pause if the last one settled nothing. `None`: check first whether work is
    /// left.
    async fn connect(&mut self) -> Result<Option<Session>, End> {
        if self.losses > 0
            && let Some(pause) = self.pauses.next()
        {
            debug!(?pause, "pausing before the next connection");
            self.shared.pause_until(Instant::now() + pause).await;
            if self.is_let_go() || self.suspect.is_none() && self.shared.queue.work() != Work::Available {
                return Ok(None);
            }
        }
        let opened = tokio::select! {
            biased;
            opened = open(&self.shared) => opened,
            // A run that is done waits for no further connection.
            () = self.shared.queue.finished() => return Ok(None),
        };
        match opened {
            Ok(session) => {
                self.give_back = None;
                Counters::add(&self.shared.counters.connections, 1);
                if std::mem::replace(&mut self.had_connection, true) {
                    Counters::add(&self.shared.counters.reconnects, 1);
                }
                Ok(Some(session))
            }
            // This was an attempt at one more, and the server refuses it, at least for now.
            Err(error) if self.is_addition() && !error.is_auth() && self.shared.limit.leaves_to_others() => {
                Err(End::LeftToOthers(error))
            }
            Err(error) if error.is_retryable() => match self.count_loss(&error) {
                Some(end) => Err(end),
                None => Ok(None),
            },
            Err(
                error @ (ClientError::Service { .. }
                | ClientError::Http { .. }
                | ClientError::NotTheService { .. }
                | ClientError::Proxy { .. }),
            ) => {
                // A server or a proxy may limit connections. The others are unaffected; without others, the
                // server may need a moment to notice that the last one has ended.
                let end = if self.shared.limit.leaves_to_others() {
                    Some(End::LeftToOthers(error))
                } else {
                    self.count_loss(&error)
                };
                end.map_or(Ok(None), Err)
            }
            Err(error) => Err(End::Hopeless(error)),
        }
    }

    /// True for an attempt at an additional connection that never connected.
    fn is_addition(&self) -> bool {
        !self.had_connection && self.shared.limit.is_attempting()
    }

    /// Fills the window and reads answers until no work is left.
    async fn serve(&mut self, session: &mut Session) -> Result<(), Stop> {
        loop {
            if self.window.len() <= self.most_in_flight() / 2 && !self.is_let_go() {
                self.rest().await;
                self.refill(session).await.map_err(Stop::Broken)?;
            }
            if self.window.is_empty() {
                return Ok(());
            }
            self.set_hungry(false);
            self.receive_head(session).await?;
        }
    }

    /// True if this connection is to end once its requests are answered.
    fn is_let_go(&mut self) -> bool {
        self.let_go = self.let_go || self.shared.limit.lets_go();
        self.let_go
    }

    /// The server has trouble with the head of the window, on this connection or in general: fewer requests
    /// at once, and fewer connections.
    pub(super) fn slow_down(&mut self) {
        self.pace.slow_down();
        let now = Instant::now();
        let asked = self.window.front().and_then(|head| head.sent).unwrap_or(now);
        self.shared.limit.slow_down(asked, now);
    }

    fn most_in_flight(&self) -> usize {
        if self.serial { 1 } else { self.pace.requests() }
    }

    /// Waits out an overload, once all requests under way are answered.
    async fn rest(&mut self) {
        if let Some(until) = self.rest_until
            && self.window.is_empty()
        {
            self.rest_until = None;
            self.shared.pause_until(until).await;
        }
    }

    /// Takes jobs and sends their requests together.
    async fn refill(&mut self, session: &mut Session) -> Result<(), ClientError> {
        let alone = self.window.front().is_some_and(|head| head.tries.wants_to_be_alone());
        if alone || self.rest_until.is_some() {
            return Ok(());
        }
        let before = self.window.len();
        match self.suspect.take_if(|_| before == 0) {
            Some(suspect) => self.window.push_back(suspect),
            None => {
                let mut window = Window::new(self.most_in_flight());
                for pending in &self.window {
                    window.admit(pending.request.size);
                }
                self.shared.queue.take(&mut window, before == 0, &mut self.window);
            }
        }
        let sent = self.window.len() - before;
        if sent == 0 {
            return Ok(());
        }
        let alone = self.window.len() == 1;
        for pending in &mut self.window {
            pending.alone = alone;
        }
        let now = Instant::now();
        for pending in self.window.range_mut(before..) {
            session.queue_pull(pending.request.uid)?;
            pending.sent = Some(now);
        }
        Counters::add(&self.shared.counters.requests, sent as u64);
        session.flush().await
    }

    fn set_hungry(&mut self, hungry: bool) {
        if self.hungry != hungry {
            self.hungry = hungry;
            self.shared.queue.set_hungry(hungry);
        }
    }

    /// A connection broke, or could not be opened. Returns true when it is time to give up. A connection that
    /// settled jobs is replaced at once and does not count.
    fn count_loss(&mut self, error: &ClientError) -> Option<End> {
        if std::mem::take(&mut self.progress) {
            debug!(%error, "a connection was lost");
            self.losses = 0;
            self.pauses = endless_pauses(&self.shared);
            return None;
        }
        self.losses += 1;
        let attempts = self.shared.options.attempts.max(1);
        if self.losses < attempts && self.shared.lost.passes() {
            info!(target: WAITS, "{error}; attempt {} of {attempts}", self.losses + 1);
        }
        (self.losses >= attempts).then(|| End::GaveUp(error.clone()))
    }

    /// Returns all jobs under way after a connection was given up.
    async fn after(&mut self, stop: Stop) -> Option<End> {
        let end = match stop {
            Stop::Broken(error) if error.ends_run() => Some(End::Hopeless(error)),
            Stop::Broken(error) => {
                if self.window.front().is_none_or(|head| !head.tries.wants_to_be_alone()) {
                    self.slow_down();
                }
                let progress = self.progress;
                let blamed = self.blame_for_loss(&error).await;
                // A job that failed finally is settled, but that is no progress.
                self.progress = progress;
                if blamed.is_err() { Some(End::NobodyListens) } else { self.count_loss(&error) }
            }
            Stop::MixedUp => {
                self.become_serial();
                None
            }
            Stop::NotWorthKeeping => None,
            Stop::NobodyListens => Some(End::NobodyListens),
            Stop::Hopeless(error) => Some(End::Hopeless(error)),
        };
        self.shared.queue.give_back(self.window.drain(..));
        self.set_hungry(true);
        end
    }

    fn become_serial(&mut self) {
        info!("the server mixed up answers; this connection goes on with one request at a time");
        Counters::add(&self.shared.counters.serial_fallbacks, 1);
        self.serial = true;
        self.suspect = self.window.pop_front().map(|mut head| {
            head.tries.doubtful = true;
            head
        });
    }
}

async fn open<R: Receiver>(shared: &PoolContext<R>) -> Result<Session, ClientError> {
    // With one connection at a time, this one replaces the first.
    let longest =
        if shared.options.connections <= 1 { FIRST_CONNECTION_FRAME } else { FURTHER_CONNECTION_FRAME };
    let mut session =
        Session::open_once(&shared.client, &shared.target, shared.newest(), false, longest).await?;
    session.pass_over_listing().await?;
    shared.heard(session.version());
    Ok(session)
}

pub(super) fn endless_pauses<R: Receiver>(shared: &PoolContext<R>) -> ExponentialBackoff {
    shared.client.options().retry.backoff().without_max_times().build()
}
