//! Handles an answer in a connection of the pool: accepts the content, requests it again, or reports a
//! failure.

use obsync_net::WAITS;
use obsync_protocol::Uid;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{Duration, Instant, timeout};
use tracing::{debug, info};

use super::pool::Counters;
use super::queue::Pending;
use super::worker::{Stop, Worker, endless_pauses};
use super::{FetchFailure, FetchResult, PullRequest, Receiver};
use crate::error::ClientError;
use crate::session::{Content, ContentHeader, PullAnswer, Session};

/// Time limit for receiving an unwanted content to keep the connection, so that a false announcement costs no
/// more.
const WORTH_WAITING: Duration = Duration::from_secs(2);

/// Attempts for a content that either side refuses.
const CONTENT_ATTEMPTS: u32 = 3;

/// Attempts for a content that does not arrive within its time limit. Each takes that limit; the second is
/// made with no other request under way.
const TIMED_OUT_ATTEMPTS: u32 = 2;

/// Number of doublings of the pause while the server is overloaded.
const LONGEST_OVERLOAD_PAUSE: u32 = 16;

/// Most bytes of an unwanted content that are received to keep the connection; for more, a new connection is
/// cheaper.
const WORTH_DRAINING: u64 = 4 << 20;

impl<R: Receiver> Worker<R> {
    /// Receives the answer to the oldest request and the content after it. The job stays at the head of the
    /// window as long as a failure of the connection may be its fault.
    pub(super) async fn receive_head(&mut self, session: &mut Session) -> Result<(), Stop> {
        let answer = session.pull_answer().await.map_err(Stop::Broken)?;
        let Some(head) = self.window.front() else {
            return Ok(());
        };
        if let Some(sent) = head.sent {
            self.pace.answered(sent, Instant::now());
        }
        match answer {
            PullAnswer::Gone => self.head_is_gone().await,
            PullAnswer::Refused(reason) => self.head_is_refused(reason).await,
            PullAnswer::Content(header) => {
                // Only the hash identifies the content.
                if header.hash == self.shared.target.keys.encode_hash(&head.request.hash) {
                    self.head_arrives(session, &header).await
                } else if head.alone {
                    self.head_is_wrong(session, &header).await
                } else {
                    Err(Stop::MixedUp)
                }
            }
        }
    }

    async fn head_arrives(&mut self, session: &mut Session, header: &ContentHeader) -> Result<(), Stop> {
        let Some(head) = self.window.front_mut() else {
            return Ok(());
        };
        if let Some(lie) = lie(&head.request, header) {
            return self.head_is_lied_about(session, header, lie).await;
        }
        let mut content = session.content(header);
        let received = self.shared.receiver.receive(&mut head.job, &mut content).await;
        if let Some(error) = content.failure() {
            Counters::add(&self.shared.counters.bytes, content.received());
            return Err(Stop::Broken(error.clone()));
        }
        match received {
            // Results may have to wait for the destination.
            Ok(output) => content.keep_alive_while(self.settle_head(Ok(output))).await?,
            Err(error) => {
                let again = self.shared.receiver.is_worth_another_try(&error);
                self.refuse_head(again, FetchFailure::Receiver(error)).await?;
            }
        }
        self.leave(content).await
    }

    /// Another content arrived although this file was requested alone: the fault is this file's.
    async fn head_is_wrong(&mut self, session: &mut Session, header: &ContentHeader) -> Result<(), Stop> {
        if let Some(head) = self.window.front()
            && head.tries.doubtful
        {
            debug!(uid = %head.request.uid, "the server has another content for this file; it mixes nothing up");
            self.serial = false;
        }
        let uid = self.window.front().map_or(Uid(0), |head| head.request.uid);
        self.refuse_head(true, FetchFailure::Transport(ClientError::WrongHash { uid })).await?;
        self.leave_unwanted(session, header).await
    }

    /// The hash is right but the announcement is impossible: the fault is this file's, whatever else is under
    /// way.
    async fn head_is_lied_about(
        &mut self,
        session: &mut Session,
        header: &ContentHeader,
        lie: ClientError,
    ) -> Result<(), Stop> {
        self.refuse_head(true, FetchFailure::Transport(lie)).await?;
        self.leave_unwanted(session, header).await
    }

    async fn head_is_gone(&mut self) -> Result<(), Stop> {
        match self.window.front_mut() {
            // The answer carries no hash: with other requests under way it may be for another missing file.
            Some(head) if !head.alone => {
                head.tries.doubtful = true;
                self.put_head_back();
                Ok(())
            }
            _ => self.settle_head(Err(FetchFailure::Gone)).await,
        }
    }

    async fn head_is_refused(&mut self, reason: String) -> Result<(), Stop> {
        match ClientError::from_server_text(&reason, self.shared.client.redactor()) {
            ClientError::Overloaded => self.server_is_overloaded().await,
            ClientError::Service { message } => {
                // The first time it may be the server's fault, after that it is the file's.
                if self.window.front().is_some_and(|head| !head.tries.wants_to_be_alone()) {
                    self.slow_down();
                }
                self.refuse_head(true, FetchFailure::Refused(message)).await
            }
            hopeless => Err(Stop::Hopeless(hopeless)),
        }
    }

    async fn server_is_overloaded(&mut self) -> Result<(), Stop> {
        self.slow_down();
        let after = self.shared.client.options().timeouts.overloaded;
        if self.shared.overloaded_for(Instant::now()) >= after {
            return Err(Stop::Hopeless(ClientError::OverloadedForLong { after }));
        }
        let Some(head) = self.window.front_mut() else {
            return Ok(());
        };
        head.tries.overloaded = (head.tries.overloaded + 1).min(LONGEST_OVERLOAD_PAUSE);
        let pause = endless_pauses(&self.shared).nth(head.tries.overloaded as usize - 1).unwrap_or_default();
        debug!(?pause, "the server is overloaded");
        if self.shared.overload.passes() {
            info!(target: WAITS, "the service says that it is overloaded; it is asked again for {} s", after.as_secs());
        }
        self.rest_until = Some(Instant::now() + pause);
        self.put_head_back();
        Ok(())
    }

    /// The connection broke during this job's turn.
    pub(super) async fn blame_for_loss(&mut self, error: &ClientError) -> Result<(), Stop> {
        let Some(head) = self.window.front_mut() else {
            return Ok(());
        };
        head.tries.lost += 1;
        head.tries.timed_out += u32::from(matches!(error, ClientError::TimedOut { .. }));
        let is_given_up = head.tries.timed_out >= TIMED_OUT_ATTEMPTS;
        if is_given_up || head.tries.lost >= self.shared.options.attempts.max(1) {
            return self.settle_head(Err(FetchFailure::Transport(error.clone()))).await;
        }
        self.put_head_back();
        Ok(())
    }

    /// Requests the content again, or reports the failure after the last attempt.
    async fn refuse_head(&mut self, again: bool, failure: FetchFailure<R::Error>) -> Result<(), Stop> {
        let Some(head) = self.window.front_mut() else {
            return Ok(());
        };
        head.tries.content += 1;
        if again && head.tries.content < CONTENT_ATTEMPTS {
            self.put_head_back();
            return Ok(());
        }
        self.settle_head(Err(failure)).await
    }

    fn put_head_back(&mut self) {
        if let Some(head) = self.window.pop_front() {
            self.shared.queue.again(head);
        }
    }

    async fn settle_head(&mut self, outcome: Result<R::Output, FetchFailure<R::Error>>) -> Result<(), Stop> {
        let Some(Pending { job, request, .. }) = self.window.pop_front() else {
            return Ok(());
        };
        self.progress = true;
        if outcome.is_ok() {
            self.shared.gave();
            self.counts_as_serving();
            self.shared.limit.answered(request.size, Instant::now());
        }
        // Without an await where possible, so that a run cancelled now still reports this file.
        let sent = match self.shared.results.try_send(FetchResult { job, outcome }) {
            Err(TrySendError::Full(result)) => self.shared.results.send(result).await.is_ok(),
            sent => sent.is_ok(),
        };
        self.shared.queue.finish_one();
        if sent { Ok(()) } else { Err(Stop::NobodyListens) }
    }

    /// Skips an unwanted content and leaves the connection at the next answer, if its pieces end within the
    /// limits.
    async fn leave_unwanted(&mut self, session: &mut Session, header: &ContentHeader) -> Result<(), Stop> {
        if !header.has_possible_pieces() {
            return Err(Stop::NotWorthKeeping);
        }
        let left = timeout(WORTH_WAITING, self.leave(session.content(header))).await;
        left.unwrap_or(Err(Stop::NotWorthKeeping))
    }

    /// Leaves the connection at the next answer: receives the rest of this content if that is not too much.
    async fn leave(&mut self, mut content: Content<'_>) -> Result<(), Stop> {
        let worth_it = content.remaining() <= WORTH_DRAINING;
        // An error here is not attributed to any job.
        let clean = content.is_complete() || (worth_it && content.drain().await.is_ok());
        Counters::add(&self.shared.counters.bytes, content.received());
        if clean { Ok(()) } else { Err(Stop::NotWorthKeeping) }
    }
}

/// The fault in a content's announcement, if there is one, before its first piece.
fn lie(asked: &PullRequest, header: &ContentHeader) -> Option<ClientError> {
    let &ContentHeader { size, pieces, .. } = header;
    let uid = asked.uid;
    if size != asked.size {
        return Some(ClientError::WrongSize { uid, listed: asked.size, offered: size });
    }
    (!header.has_possible_pieces()).then_some(ClientError::WrongPieces { uid, size, pieces })
}
