//! Messages with limits: timeouts of waits, pings, and detection of dead connections.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use obsync_protocol::ClientMessage;
use obsync_protocol::limits::LEAST_UPLOAD_SPEED;
use tracing::{debug, trace};

use crate::clock::{Clock, Sleep};
use crate::error::ClientError;
use crate::options::Timeouts;
use crate::speed::Speed;
use crate::transport::{Incoming, Socket};

/// The longest effective limit; longer ones count as none. Beyond it clocks overflow.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Most bytes read ahead while the other side accepts nothing from us.
const READ_AHEAD: usize = 4 << 20;

/// Memory of a message read ahead, beyond its own bytes.
const UNREAD_OVERHEAD: usize = 128;

/// A connection with its limits.
pub(super) struct Wire {
    socket: Socket,
    clock: Arc<dyn Clock>,
    timeouts: Timeouts,
    /// Messages received during a send.
    unread: VecDeque<Incoming>,
    unread_bytes: usize,
    heartbeat: bool,
    last_message: Instant,
    last_ping: Instant,
    /// One timer for all limits. It is set to the earliest, and when it fires the clock decides which have
    /// passed: most messages come in time and need not touch it.
    timer: Timer,
    speed: Arc<Speed>,
    /// Number of bytes already reported to `speed`.
    counted: Counted,
}

struct Timer {
    at: Instant,
    rings: Sleep,
}

impl Timer {
    fn at(at: Instant, clock: &dyn Clock) -> Self {
        Timer { at, rings: clock.sleep_until(at) }
    }
}

/// A wait and its limits.
pub(super) struct Due {
    what: &'static str,
    after: Duration,
    at: Option<Instant>,
    /// Since when content is waited for, where only content counts as progress.
    content_since: Option<Instant>,
    /// The least speed applies during this wait.
    is_measured: bool,
    /// The wait is for the first entry of a listing.
    begins_listing: bool,
    /// Extra time for sent bytes to arrive, during which the other side has nothing to send.
    on_its_way: Duration,
}

impl Due {
    pub(super) fn never() -> Self {
        Self {
            what: "",
            after: Duration::MAX,
            at: None,
            content_since: None,
            is_measured: false,
            begins_listing: false,
            on_its_way: Duration::ZERO,
        }
    }

    fn in_time(what: &'static str, after: Duration, now: Instant) -> Self {
        // A limit too far away for the clock counts as none.
        Self { what, after, at: now.checked_add(after), is_measured: true, ..Self::never() }
    }

    fn check(&self, now: Instant) -> Result<(), ClientError> {
        match self.at {
            // Once entries arrived in this run, a late first entry is like any other.
            Some(at) if at <= now && self.begins_listing && !self.is_measured => {
                Err(ClientError::NoListing { after: self.after })
            }
            Some(at) if at <= now => Err(ClientError::TimedOut { what: self.what, after: self.after }),
            _ => Ok(()),
        }
    }
}

impl Wire {
    pub(super) fn new(
        socket: Socket,
        mut timeouts: Timeouts,
        speed: Arc<Speed>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let now = clock.steady();
        for limit in [&mut timeouts.silence, &mut timeouts.ping_after] {
            *limit = (*limit).min(LONGEST);
        }
        Self {
            socket,
            unread: VecDeque::new(),
            unread_bytes: 0,
            heartbeat: false,
            last_message: now,
            last_ping: now,
            timer: Timer::at(now + timeouts.ping_after, clock.as_ref()),
            clock,
            timeouts,
            speed,
            counted: Counted::default(),
        }
    }

    /// Allows pings from now on; the server has to answer the opening first.
    pub(super) fn start_heartbeat(&mut self) {
        self.heartbeat = true;
    }

    /// A limit for the first answer to a request.
    pub(super) fn answer_due(&self, what: &'static str) -> Due {
        Due::in_time(what, self.timeouts.answer, self.clock.steady())
    }

    /// A limit for the next step of an exchange under way.
    pub(super) fn step_due(&self, what: &'static str) -> Due {
        Due::in_time(what, self.timeouts.stall, self.clock.steady())
    }

    /// A limit for the first entry of a listing, which may take the server long to find.
    pub(super) fn first_entry_due(&self) -> Due {
        Due {
            is_measured: self.speed.has_listed(),
            begins_listing: true,
            ..self.step_due("the first entry of the listing")
        }
    }

    /// A limit for the entry after one that came.
    pub(super) fn next_entry_due(&self) -> Due {
        self.speed.listed();
        self.step_due("the next entry of the listing")
    }

    /// A limit for the next piece of content. Keep-alives do not extend it, but bytes of an incoming piece
    /// do; the least speed decides how many have to come.
    pub(super) fn piece_due(&self, what: &'static str) -> Due {
        let content_since = Some(self.clock.steady());
        Due { what, after: self.timeouts.silence, content_since, is_measured: true, ..Due::never() }
    }

    /// A limit for the answer to a change of which this many bytes were just sent. The system accepts them at
    /// once, but on a slow line they are under way for minutes. The server's answers are not subject to the
    /// least speed.
    pub(super) fn change_due(&self, what: &'static str, sent: usize) -> Due {
        let on_its_way = Duration::from_secs(sent as u64 / LEAST_UPLOAD_SPEED);
        let after = self.timeouts.answer.saturating_add(on_its_way);
        Due { is_measured: false, on_its_way, ..Due::in_time(what, after, self.clock.steady()) }
    }

    /// Counts a text of this many bytes as progress. Texts without information are not counted: they must not
    /// hide a stall.
    pub(super) fn accept(&mut self, bytes: usize) {
        self.counted.texts += bytes as u64;
    }

    /// Queues a request; [`Wire::flush`] sends it.
    pub(super) fn queue(&mut self, message: &ClientMessage) -> Result<(), ClientError> {
        self.socket.queue_text(message.to_json())
    }

    /// Queues a piece of content.
    pub(super) fn queue_piece(&mut self, piece: bytes::Bytes) -> Result<(), ClientError> {
        self.socket.queue_binary(piece)
    }

    /// Number of bytes that the system has accepted from us so far.
    pub(super) fn written(&self) -> u64 {
        self.socket.written()
    }

    /// Sends the queue, and fails when the other side accepts nothing for too long.
    pub(super) async fn flush(&mut self) -> Result<(), ClientError> {
        self.flush_noting(&mut |_| {}).await
    }

    /// The same. Calls `note` meanwhile with the new values of [`Wire::written`].
    pub(super) async fn flush_noting(
        &mut self,
        note: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), ClientError> {
        let started = self.clock.steady();
        let silence = self.timeouts.silence;
        // However slowly it accepts them, this must end.
        let last = started.checked_add(self.timeouts.stall);
        loop {
            let give_up = started.max(self.socket.last_write()) + silence;
            let give_up = last.map_or(give_up, |last| give_up.min(last));
            let late = self.clock.sleep_until(give_up);
            tokio::select! {
                biased;
                flushed = poll_fn(|cx| {
                    let flushed = self.poll_flush(cx);
                    note(self.socket.written());
                    flushed
                }) => return flushed,
                () = late => {}
            }
            let now = self.clock.steady();
            let is_last = last.is_some_and(|last| last <= now);
            if is_last || started.max(self.socket.last_write()) + silence <= now {
                return Err(ClientError::TimedOut {
                    what: "the server's acceptance of data",
                    after: silence,
                });
            }
        }
    }

    /// Sends and reads meanwhile: a server that waits for us to read would never start to read itself.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        if let Poll::Ready(flushed) = self.socket.poll_flush(cx) {
            return Poll::Ready(flushed);
        }
        while self.unread_bytes < READ_AHEAD {
            match self.socket.poll_receive(cx) {
                Poll::Ready(Ok(message)) => self.keep_for_later(message),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    }

    fn keep_for_later(&mut self, message: Incoming) {
        self.last_message = self.clock.steady();
        self.unread_bytes += message.size() + UNREAD_OVERHEAD;
        self.unread.push_back(message.detached());
    }

    /// Receives the next message. Cancelling this loses nothing.
    pub(super) async fn next(&mut self, due: &Due) -> Result<Incoming, ClientError> {
        let started = self.clock.steady();
        // Checked here too, since messages without a pause would starve the timer.
        due.check(started)?;
        self.check_content(due, started)?;
        if let Some(message) = self.unread.pop_front() {
            self.unread_bytes -= message.size() + UNREAD_OVERHEAD;
            return Ok(message);
        }
        let (mut waiting, mut now) = (None, started);
        loop {
            self.set_timer(due, started, now);
            let Self { socket, timer, speed, counted, clock, .. } = self;
            tokio::select! {
                biased;
                message = poll_fn(|cx| {
                    let received = socket.poll_receive(cx);
                    if received.is_pending() && waiting.is_none() && due.is_measured {
                        waiting = Some(speed.wait(counted.progress(socket, due)));
                    }
                    received
                }) => {
                    self.last_message = clock.steady();
                    if let Some(waiting) = &mut waiting {
                        waiting.received = counted.progress(socket, due);
                    }
                    return message;
                }
                // Polled even if the socket has used up the task's budget.
                () = tokio::task::unconstrained(timer.rings.as_mut()) => {
                    now = clock.steady();
                    self.look_at_clock(due, started, now).await?;
                }
            }
        }
    }

    /// Drives `work`, which does not need the connection, and sends pings meanwhile. Nothing is read:
    /// messages of the server wait. A broken connection is noticed on its next use.
    pub(super) async fn keep_alive_while<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = self.clock.sleep_until(self.ping_at()), if self.heartbeat => {}
            }
            trace!("showing a sign of life");
            self.last_ping = self.clock.steady();
            let sent = tokio::select! {
                biased;
                done = &mut work => return done,
                sent = self.send_ping() => sent,
            };
            if let Err(error) = sent {
                debug!(%error, "a connection broke while the destination was busy");
                return work.await;
            }
        }
    }

    async fn send_ping(&mut self) -> Result<(), ClientError> {
        self.queue(&ClientMessage::Ping)?;
        self.flush().await
    }

    /// Sets the timer to the earliest limit, unless it fires before that anyway.
    fn set_timer(&mut self, due: &Due, started: Instant, now: Instant) {
        let mut earliest = self.dead_at(due, started);
        if let Some(at) = self.content_at(due) {
            earliest = earliest.min(at);
        }
        if self.heartbeat {
            earliest = earliest.min(self.ping_at());
        }
        if let Some(at) = due.at {
            earliest = earliest.min(at);
        }
        if let Some(at) = now.checked_add(self.speed.look_after()).filter(|_| due.is_measured) {
            earliest = earliest.min(at);
        }
        if self.timer.at <= now || self.timer.at > earliest {
            self.timer = Timer::at(earliest, self.clock.as_ref());
        }
    }

    async fn look_at_clock(&mut self, due: &Due, started: Instant, now: Instant) -> Result<(), ClientError> {
        due.check(now)?;
        if self.dead_at(due, started) <= now {
            let after = self.timeouts.silence + due.on_its_way;
            return Err(ClientError::TimedOut { what: "a sign of life from the server", after });
        }
        self.check_content(due, now)?;
        if due.is_measured {
            self.speed.check(self.counted.progress(&self.socket, due))?;
        }
        if self.heartbeat && self.ping_at() <= now {
            trace!("asking for a sign of life");
            self.last_ping = now;
            self.send_ping().await?;
        }
        Ok(())
    }

    /// When the connection counts as dead. Time in which nobody read does not count as silence.
    fn dead_at(&self, due: &Due, started: Instant) -> Instant {
        started.max(self.socket.last_read()) + self.timeouts.silence + due.on_its_way
    }

    /// When content that is due counts as stalled.
    fn content_at(&self, due: &Due) -> Option<Instant> {
        due.content_since.map(|since| since.max(self.socket.last_content()) + self.timeouts.silence)
    }

    fn check_content(&self, due: &Due, now: Instant) -> Result<(), ClientError> {
        match self.content_at(due) {
            Some(at) if at <= now => {
                Err(ClientError::TimedOut { what: due.what, after: self.timeouts.silence })
            }
            _ => Ok(()),
        }
    }

    fn ping_at(&self) -> Instant {
        self.last_message.max(self.last_ping) + self.timeouts.ping_after
    }

    pub(super) async fn close(self) {
        self.socket.close().await;
    }
}

/// Received bytes that count as progress.
#[derive(Clone, Copy, Default)]
struct Counted {
    /// Of texts with information.
    texts: u64,
    /// Of pieces of content, the incoming one included.
    content: u64,
}

impl Counted {
    /// Bytes of progress since the last call. While content is due only content counts: unsolicited texts
    /// must not hide that it trickles.
    fn progress(&mut self, socket: &Socket, due: &Due) -> u64 {
        let content = socket.content_bytes();
        let before = std::mem::replace(self, Self { texts: 0, content });
        match due.content_since {
            Some(_) => content - before.content,
            None => before.texts,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use obsync_protocol::limits::LEAST_SPEED;
    use tokio::time::sleep;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::clock::SystemClock;

    /// A wire, and the other end of a line with a buffer of 1 KiB.
    async fn narrow(timeouts: Timeouts) -> (Wire, WebSocketStream<tokio::io::DuplexStream>) {
        let (ours, theirs) = tokio::io::duplex(1024);
        let speed = Arc::new(Speed::new(LEAST_SPEED, timeouts.speed_over, Arc::new(SystemClock)));
        let wire = Wire::new(Socket::over(ours).await, timeouts, speed, Arc::new(SystemClock));
        (wire, WebSocketStream::from_raw_socket(theirs, Role::Server, None).await)
    }

    #[tokio::test]
    async fn a_server_that_speaks_before_it_listens_does_not_block_a_large_message() {
        let (mut wire, mut peer) = narrow(Timeouts::default()).await;
        let server = tokio::spawn(async move {
            for number in 0..100 {
                peer.send(Message::text(format!("{number} {}", "x".repeat(1000)))).await.unwrap();
            }
            peer.next().await.unwrap().unwrap().len()
        });
        wire.queue_piece(bytes::Bytes::from(vec![1; 300_000])).unwrap();
        wire.flush().await.unwrap();
        assert_eq!(server.await.unwrap(), 300_000);
        // Messages read meanwhile are still there, in order.
        for number in 0..100 {
            let Incoming::Text(text) = wire.next(&Due::never()).await.unwrap() else { panic!("no text") };
            assert!(text.starts_with(&format!("{number} ")));
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_read_the_answers_to_its_pings_is_given_up() {
        let (mut wire, mut peer) = narrow(Timeouts::default()).await;
        let server = tokio::spawn(async move {
            // Data frames between the pings, so that the pings between two of them stay below the limit.
            loop {
                for message in [Message::Ping(vec![0; 125].into()), Message::text("{}")] {
                    if peer.feed(message).await.is_err() || peer.flush().await.is_err() {
                        return;
                    }
                }
            }
        });
        let mut messages = 0;
        let error = loop {
            match wire.next(&Due::never()).await {
                Ok(_) => messages += 1,
                Err(error) => break error,
            }
        };
        assert!(error.to_string().contains("does not read the answers"), "{error}");
        assert!((400..600).contains(&messages), "{messages}");
        drop(wire);
        server.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_listing_of_250_mb_over_64_kbit_a_second_that_breaks_twice_is_no_slow_server() {
        let clock = Arc::new(SystemClock);
        let speed = Arc::new(Speed::new(LEAST_SPEED, Timeouts::default().speed_over, clock.clone()));
        let entry = format!(r#"{{"op":"push","uid":1,"path":"{}"}}"#, "ab".repeat(1900));
        let entries = 250_000_000 / entry.len() / 3;
        for _ in 0..3 {
            let (ours, theirs) = tokio::io::duplex(8192);
            let socket = Socket::over(ours).await;
            let mut wire = Wire::new(socket, Timeouts::default(), Arc::clone(&speed), clock.clone());
            let mut peer = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
            let text = entry.clone();
            let server = tokio::spawn(async move {
                for _ in 0..entries {
                    sleep(Duration::from_secs_f64(text.len() as f64 / 8000.0)).await;
                    peer.send(Message::text(text.as_str())).await.unwrap();
                }
            });
            for _ in 0..entries {
                wire.next(&wire.step_due("the next entry")).await.unwrap();
                wire.accept(entry.len());
            }
            server.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_that_takes_nothing_is_given_up() {
        let silence = Duration::from_millis(50);
        let (mut wire, _peer) = narrow(Timeouts { silence, ..Timeouts::default() }).await;
        wire.queue_piece(bytes::Bytes::from(vec![1; 300_000])).unwrap();
        let error = wire.flush().await.unwrap_err();
        assert!(matches!(error, ClientError::TimedOut { .. }), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_is_under_way_for_minutes_is_no_dead_connection() {
        for (minutes, is_lost) in [(8, false), (11, true)] {
            let (mut wire, mut peer) = narrow(Timeouts::default()).await;
            wire.start_heartbeat();
            let server = tokio::spawn(async move {
                sleep(Duration::from_secs(60 * minutes)).await;
                let _ = peer.send(Message::text("{}")).await;
                peer
            });
            let due = wire.change_due("the server's answer to a piece", 2 << 20);
            assert_eq!(wire.next(&due).await.is_err(), is_lost, "{minutes} minutes");
            // Only the answer is waited for that long.
            drop(server);
        }
    }

    #[tokio::test]
    async fn a_cancelled_wait_loses_no_message() {
        let (mut wire, mut peer) = narrow(Timeouts::default()).await;
        let server = tokio::spawn(async move {
            for number in 0..50 {
                peer.send(Message::text(format!("{number} {}", "x".repeat(3000)))).await.unwrap();
                tokio::task::yield_now().await;
            }
            peer
        });
        let (mut number, due) = (0, Due::never());
        while number < 50 {
            tokio::select! {
                biased;
                message = wire.next(&due) => {
                    let Incoming::Text(text) = message.unwrap() else { panic!("no text") };
                    assert!(text.starts_with(&format!("{number} ")));
                    number += 1;
                }
                // Cancels the wait, mostly in the middle of a message.
                () = tokio::task::yield_now() => {}
            }
        }
        server.await.unwrap();
    }
}
