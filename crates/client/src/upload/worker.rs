//! One connection of the pool: sends one change after the other, and reconnects when it breaks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use obsync_protocol::limits::{FIRST_CONNECTION_FRAME, FURTHER_CONNECTION_FRAME};
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use super::order::Ticket;
use super::pool::UploadContext;
use super::{Upload, UploadFailure, UploadResult, UploadSource, Uploaded};
use crate::client::Pauses;
use crate::error::ClientError;
use crate::session::{PushFailure, WritingSession};

/// Why a connection's task ended.
pub(super) enum UploadEnd {
    /// No work is left.
    Finished,
    /// The receiver of results was dropped.
    NobodyListens,
    /// Too many connections broke in a row, or the server refuses a further one.
    GaveUp(ClientError),
    /// Any other connection would fail as well.
    Hopeless(ClientError),
}

pub(super) struct UploadWorker<S: UploadSource> {
    shared: Arc<UploadContext<S>>,
    session: Option<WritingSession>,
    had_connection: bool,
    /// Connections that broke in a row without a change in between.
    losses: u32,
    pauses: Pauses,
}

/// Consequence of a failed change for this connection.
enum After {
    /// The job has its result.
    Done,
    /// The job is to be sent again, after a pause if the server is overloaded.
    Again { overloaded: bool },
}

impl<S: UploadSource> UploadWorker<S> {
    pub(super) fn new(shared: Arc<UploadContext<S>>, session: Option<WritingSession>) -> Self {
        let had_connection = session.is_some();
        if had_connection {
            shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        }
        let pauses = shared.pauses();
        shared.idle.fetch_add(1, Ordering::Relaxed);
        Self { shared, session, had_connection, losses: 0, pauses }
    }

    pub(super) async fn run(mut self) -> UploadEnd {
        let end = self.work().await;
        self.shared.idle.fetch_sub(1, Ordering::Relaxed);
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        end
    }

    async fn work(&mut self) -> UploadEnd {
        loop {
            let Some(ticket) = self.next().await else { return UploadEnd::Finished };
            self.shared.idle.fetch_sub(1, Ordering::Relaxed);
            let served = self.serve(ticket).await;
            self.shared.idle.fetch_add(1, Ordering::Relaxed);
            if let Err(end) = served {
                return end;
            }
        }
    }

    /// Connects, if necessary, and sends one change.
    async fn serve(&mut self, ticket: Ticket<S::Job>) -> Result<(), UploadEnd> {
        let mut session = match self.connected().await {
            Ok(session) => session,
            Err(error) => {
                self.shared.order.give_back(ticket);
                return self.lost(error).await.map_or(Ok(()), Err);
            }
        };
        let sent = self.send(&mut session, ticket).await;
        if session.is_open() {
            self.session = Some(session);
        }
        sent
    }

    /// Waits for the next job and keeps the connection alive meanwhile; losing an idle connection does no
    /// harm.
    async fn next(&mut self) -> Option<Ticket<S::Job>> {
        loop {
            let Some(session) = &mut self.session else { return self.shared.order.take().await };
            tokio::select! {
                biased;
                ticket = self.shared.order.take() => return ticket,
                error = session.idle() => {
                    debug!(%error, "an idle connection ended");
                    self.session = None;
                }
            }
        }
    }

    async fn connected(&mut self) -> Result<WritingSession, ClientError> {
        if let Some(session) = self.session.take() {
            return Ok(session);
        }
        let shared = &self.shared;
        let longest =
            if shared.options.connections <= 1 { FIRST_CONNECTION_FRAME } else { FURTHER_CONNECTION_FRAME };
        let version = shared.version.load(Ordering::Relaxed);
        let session = WritingSession::open_further(&shared.client, &shared.target, version, longest).await?;
        shared.version.fetch_max(session.version().unwrap_or(version), Ordering::Relaxed);
        shared.counters.connections.fetch_add(1, Ordering::Relaxed);
        if std::mem::replace(&mut self.had_connection, true) {
            shared.counters.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        Ok(session)
    }

    /// Sends one change, and passes its result on or returns the job to the queue.
    async fn send(
        &mut self,
        session: &mut WritingSession,
        mut ticket: Ticket<S::Job>,
    ) -> Result<(), UploadEnd> {
        ticket.tries += 1;
        let outcome = push(&*self.shared.source, session, &ticket.job).await;
        let after = match &outcome {
            Ok(_) => {
                self.losses = 0;
                self.pauses = self.shared.pauses();
                After::Done
            }
            Err(UploadFailure::Source(_)) => After::Done,
            Err(UploadFailure::Push(failure)) => self.after(failure, ticket.tries)?,
        };
        match after {
            After::Done => self.settle(ticket, outcome).await,
            After::Again { overloaded } => {
                self.shared.order.give_back(ticket);
                if overloaded && let Some(pause) = self.pauses.next() {
                    self.pause(pause).await;
                }
                Ok(())
            }
        }
    }

    fn after(&mut self, failure: &PushFailure, tries: u32) -> Result<After, UploadEnd> {
        let again = tries < self.shared.options.attempts.max(1);
        match failure {
            // The server accepts no further change from anybody. Jobs without a result were not done.
            PushFailure::Refused(error) if error.is_auth() => Err(UploadEnd::Hopeless(error.clone())),
            PushFailure::Refused(ClientError::Overloaded) if again => Ok(After::Again { overloaded: true }),
            PushFailure::NotRecorded(error) if error.is_retryable() && again => {
                info!(%error, "a change was not recorded; it is sent again");
                Ok(After::Again { overloaded: false })
            }
            _ => Ok(After::Done),
        }
    }

    async fn settle(
        &mut self,
        ticket: Ticket<S::Job>,
        outcome: Result<Uploaded, UploadFailure<S::Error>>,
    ) -> Result<(), UploadEnd> {
        if outcome.is_ok() {
            self.shared.count(&ticket.job);
        }
        let job = self.shared.order.done(ticket);
        let sent = self.shared.results.send(UploadResult { job, outcome }).await;
        sent.map_err(|_| UploadEnd::NobodyListens)
    }

    /// Connecting failed.
    async fn lost(&mut self, error: ClientError) -> Option<UploadEnd> {
        if error.is_auth() {
            return Some(UploadEnd::Hopeless(error));
        }
        self.losses += 1;
        if self.losses >= self.shared.options.attempts.max(1) || !error.is_retryable() {
            return Some(UploadEnd::GaveUp(error));
        }
        if let Some(pause) = self.pauses.next() {
            info!(%error, ?pause, "connecting again after a pause");
            self.pause(pause).await;
        }
        None
    }

    /// Waits, but not after all jobs are done.
    async fn pause(&self, pause: std::time::Duration) {
        let until = Instant::now() + pause;
        while !self.shared.order.is_finished() {
            let open = self.shared.order.open();
            tokio::select! {
                () = sleep(until.saturating_duration_since(Instant::now())) => return,
                () = self.shared.order.changed_from(open) => {}
            }
        }
    }
}

/// Sends one change.
async fn push<S: UploadSource>(
    source: &S,
    session: &mut WritingSession,
    job: &S::Job,
) -> Result<Uploaded, UploadFailure<S::Error>> {
    source.check(job).map_err(UploadFailure::Source)?;
    let pushed = match source.upload(job) {
        Upload::Folder(path) => session.push_folder(path).await,
        Upload::Deletion { path, folder } => session.push_deletion(path, folder).await,
        Upload::File(file, size) => {
            let content = source.open(job).await.map_err(UploadFailure::Source)?;
            let (may_delete, on_sent) = (|| source.check(job).is_ok(), |bytes| source.sent(job, bytes));
            match file.related {
                Some(from) => {
                    let renamed = session.push_rename(from, &file, size, content, may_delete, &on_sent).await;
                    return renamed.map(Uploaded::Rename).map_err(UploadFailure::Push);
                }
                None => session.push_file_noting(&file, size, content, &on_sent).await,
            }
        }
    };
    pushed.map(Uploaded::Change).map_err(UploadFailure::Push)
}
