//! A WebSocket session (docs/PROTOCOL.md section 3): the opening, the listing, then requests in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use obsync_protocol::{Answer, ClientMessage, ExposeSecret, Init, PushMessage, ServerMessage, Uid};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::rest::SUBSCRIPTION_EXPIRED;
use super::state::ServerState;
use super::wire::{End, Wire};
use crate::accounts::Person;
use crate::faults::FaultKind;
use crate::stats::InitRecord;
use crate::vault::{Subscription, Vault, VaultHandle};

/// Longest silence of a connection: the clients' heartbeat is far more frequent.
const SILENCE: Duration = Duration::from_secs(600);

/// Requests read ahead of the one being answered.
const READ_AHEAD: usize = 1024;

/// Longest wait of `swap-answers` for a second request.
const SWAP_WAIT: Duration = Duration::from_millis(250);

/// An accepted session.
pub(super) struct Session {
    pub(super) wire: Wire,
    pub(super) state: Arc<ServerState>,
    pub(super) vault: Arc<Vault>,
    pub(super) person: Person,
    pub(super) device: String,
    /// Connections are numbered from 1, for the draws of faults.
    pub(super) number: u64,
    /// Entries recorded since the session began, by any device.
    pub(super) pushes: UnboundedReceiver<Utf8Bytes>,
    queue: VecDeque<Received>,
    /// When the previous request was answered, with a service time.
    idle_since: Instant,
    /// A second pull was awaited in vain: this client sends one request at a time.
    asks_one_at_a_time: bool,
}

/// A message, and when it was read.
struct Received {
    message: Message,
    at: Instant,
}

/// Runs a session on a connection after its handshake, to its end.
pub(super) async fn run(stream: TcpStream, read: Bytes, state: Arc<ServerState>) {
    let mut number = 0;
    state.recorder.record(|stats| {
        stats.websocket_connections += 1;
        stats.open_websockets += 1;
        stats.max_open_websockets = stats.max_open_websockets.max(stats.open_websockets);
        number = stats.websocket_connections;
    });
    let _open = OpenConnection(Arc::clone(&state));
    let mut wire = Wire::new(stream, read).await;
    if state.faults.strikes_at(FaultKind::DropAfterFrames, number) {
        wire.drop_after(state.faults.read(|faults| faults.frames));
    }
    let end = match open(wire, &state, number).await {
        Ok((session, subscription)) => session.serve(subscription).await,
        Err(end) => end,
    };
    match end {
        End::Disk(_) => tracing::warn!(connection = number, reason = %end, "session ended"),
        _ => tracing::debug!(connection = number, reason = %end, "session ended"),
    }
}

/// Counts a connection as closed however its session ends, a cancelled one included.
struct OpenConnection(Arc<ServerState>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.recorder.record(|stats| stats.open_websockets -= 1);
    }
}

/// Stops listening however the session ends.
struct Listening {
    vault: Arc<Vault>,
    device: u64,
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.vault.unsubscribe(self.device);
    }
}

/// Waits for `init` and answers it before anything else.
async fn open(mut wire: Wire, state: &Arc<ServerState>, number: u64) -> Result<(Session, Subscription), End> {
    let init = match tokio::time::timeout(SILENCE, first_request(&mut wire)).await {
        Ok(Ok(ClientMessage::Init(init))) => init,
        Ok(Ok(_)) => return Err(refuse(&mut wire, "The first message must be init").await),
        Ok(Err(end)) => return Err(end),
        Err(_) => return Err(End::Silent),
    };
    let faults = &state.faults;
    if faults.strikes_at(FaultKind::StallInit, number) {
        return Err(discard_everything(&mut wire).await);
    }
    tokio::time::sleep(faults.read(|faults| faults.latency + faults.service_time)).await;
    let admitted = if faults.strikes_at(FaultKind::InitError, number) {
        Err(faults
            .read(|faults| faults.init_error_text.clone())
            .replace("{token}", init.token.expose_secret())
            .replace("{keyhash}", init.keyhash.as_str()))
    } else {
        admit(&init, state)
    };
    state.recorder.record(|stats| stats.inits.push(init_record(&init, admitted.is_ok())));
    let (person, vault) = match admitted {
        Ok(admitted) => admitted,
        Err(reason) => return Err(refuse(&mut wire, &reason).await),
    };
    let mut answer = Answer::ok();
    if !faults.strikes_at(FaultKind::InitBare, number) {
        answer.per_file_max = Some(state.per_file_max());
        answer.user_id = Some(person.uid);
    }
    wire.send_text(ServerMessage::Answer(answer).to_json()).await?;
    if faults.strikes_at(FaultKind::HostilePaths, number) {
        write_hostile_paths(&vault);
    }
    let mut subscription = vault.subscribe(Uid(init.version));
    let pushes = std::mem::replace(&mut subscription.pushes, tokio::sync::mpsc::unbounded_channel().1);
    let session = Session {
        wire,
        state: Arc::clone(state),
        vault,
        person,
        device: init.device,
        number,
        pushes,
        queue: VecDeque::new(),
        idle_since: Instant::now(),
        asks_one_at_a_time: false,
    };
    Ok((session, subscription))
}

/// The first text message, which must be a valid request.
async fn first_request(wire: &mut Wire) -> Result<ClientMessage, End> {
    loop {
        match wire.receive().await? {
            Message::Text(text) => match ClientMessage::parse(&text) {
                Ok(request) => return Ok(request),
                Err(error) => return Err(refuse(wire, &error.to_string()).await),
            },
            Message::Close(_) => return Err(End::Closed),
            Message::Binary(_) => return Err(End::Protocol("content before init".to_owned())),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// The account and vault of the session, or the service's message for a refusal.
fn admit(init: &Init, state: &ServerState) -> Result<(Person, Arc<Vault>), String> {
    let person = state.accounts.holder(init.token.expose_secret());
    let person = person.ok_or_else(|| "Authentication failed".to_owned())?;
    let vault = state.visible_vault(init.id.as_str(), &person).ok_or_else(|| "Vault not found".to_owned())?;
    if !person.subscribed {
        return Err(SUBSCRIPTION_EXPIRED.to_owned());
    }
    if !vault.record.admits(init.keyhash.as_str()) {
        return Err("Authentication failed".to_owned());
    }
    if vault.record.version != init.encryption_version {
        return Err("The vault has another encryption version".to_owned());
    }
    Ok((person, vault))
}

fn init_record(init: &Init, accepted: bool) -> InitRecord {
    InitRecord {
        vault: init.id.to_string(),
        version: init.version,
        initial: init.initial,
        device: init.device.clone(),
        encryption_version: u64::from(init.encryption_version),
        accepted,
    }
}

fn write_hostile_paths(vault: &Arc<Vault>) {
    let vault = VaultHandle::new(Arc::clone(vault));
    let written = match vault.has_hostile_paths() {
        Ok(true) => Ok(0),
        Ok(false) => vault.write_hostile_paths(),
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        tracing::warn!(%error, "hostile paths could not be written");
    }
}

/// Sends an error and closes.
async fn refuse(wire: &mut Wire, reason: &str) -> End {
    let sent = wire.send_text(ServerMessage::Answer(Answer::failed(reason)).to_json()).await;
    if let Err(end) = sent {
        return end;
    }
    wire.close().await;
    End::Refused
}

/// Never answers again; ends with the connection.
pub(super) async fn discard_everything(wire: &mut Wire) -> End {
    if let Err(end) = wire.flush().await {
        return end;
    }
    loop {
        match wire.receive().await {
            Ok(Message::Close(_)) => return End::Closed,
            Ok(_) => {}
            Err(end) => return end,
        }
    }
}

impl Session {
    async fn serve(mut self, subscription: Subscription) -> End {
        let _listening = Listening { vault: Arc::clone(&self.vault), device: subscription.device };
        if let Err(end) = self.list(subscription).await {
            return end;
        }
        loop {
            if let Err(end) = self.turn().await {
                // Messages sent before the end still arrive.
                let _ = self.wire.flush().await;
                return end;
            }
        }
    }

    /// Sends the entries that the client does not have, then `ready`.
    async fn list(&mut self, subscription: Subscription) -> Result<(), End> {
        let faults = Arc::clone(&self.state);
        let faults = &faults.faults;
        // These sessions receive them after their listing.
        self.record_late_pushes()?;
        if !faults.quiet() {
            self.never_end().await?;
        }
        let stall = faults.strikes_at(FaultKind::StallInListing, self.number);
        let drop = faults.strikes_at(FaultKind::DropInListing, self.number);
        let middle = (stall || drop).then_some(subscription.entries.len() / 2);
        for (position, entry) in subscription.entries.iter().enumerate() {
            if middle == Some(position) {
                return self.cut_off(stall).await;
            }
            self.unknown_ops().await?;
            self.wire.send_text(entry.to_push()).await?;
            self.state.recorder.record(|stats| stats.entries_listed += 1);
        }
        if middle.is_some() {
            return self.cut_off(stall).await;
        }
        self.flood(subscription.version).await?;
        let claimed = self.state.faults.read(|faults| faults.ready_version);
        let ready = ServerMessage::Ready { version: claimed.unwrap_or(subscription.version.0) };
        self.wire.send_text(ready.to_json()).await
    }

    /// Sends the entries that no vault has.
    async fn flood(&mut self, version: Uid) -> Result<(), End> {
        let Some(flood) = self.state.faults.read(|faults| faults.flood) else {
            return Ok(());
        };
        for number in 0..flood.count {
            let Some(entry) = flood.message(number, version, self.vault.keys()) else {
                return Ok(());
            };
            self.wire.send_text(entry).await?;
        }
        Ok(())
    }

    /// Sends something without end, if such a fault strikes, until the client leaves.
    async fn never_end(&mut self) -> Result<(), End> {
        let state = Arc::clone(&self.state);
        let strikes = |kind| state.faults.strikes_at(kind, self.number);
        if strikes(FaultKind::FloodPings) {
            return self.wire.send_for_ever(&[], &[0x89, 4, b'p', b'i', b'n', b'g']).await;
        }
        if strikes(FaultKind::FloodPongs) {
            return self.wire.send_for_ever(&[], &[0x8a, 0]).await;
        }
        if strikes(FaultKind::FloodFragments) {
            return self.wire.send_for_ever(&[0x01, 1, b'{'], &[0x00, 0]).await;
        }
        if strikes(FaultKind::EndlessListing) {
            for uid in 1_u64.. {
                let entry = PushMessage {
                    uid: Uid(uid),
                    path: format!("{uid:064x}").into(),
                    folder: true,
                    ..PushMessage::default()
                };
                self.wire.send_text(ServerMessage::Push(entry).to_json()).await?;
            }
        }
        Ok(())
    }

    /// Forwards pending changes, then answers one message.
    async fn turn(&mut self) -> Result<(), End> {
        self.send_pushes().await?;
        self.read_ahead()?;
        if self.queue.is_empty() {
            self.wire.flush().await?;
            return self.wait().await;
        }
        self.swap_answers().await?;
        let Some(received) = self.queue.pop_front() else {
            return Ok(());
        };
        self.delay(received.at).await?;
        match received.message {
            Message::Text(text) => self.answer(&text).await,
            Message::Binary(_) => Err(End::Protocol("content that nothing asked for".to_owned())),
            Message::Close(_) => Err(End::Closed),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    /// Waits for a message or a push.
    async fn wait(&mut self) -> Result<(), End> {
        tokio::select! {
            message = self.wire.receive() => {
                self.queue.push_back(Received { message: message?, at: Instant::now() });
                Ok(())
            }
            Some(push) = self.pushes.recv() => self.wire.send_text(push).await,
            () = tokio::time::sleep(SILENCE) => Err(End::Silent),
        }
    }

    async fn answer(&mut self, text: &str) -> Result<(), End> {
        let request = match ClientMessage::parse(text) {
            Ok(request) => request,
            Err(error) => return self.send_answer(Answer::failed(error.to_string())).await,
        };
        if matches!(request, ClientMessage::Push(_) | ClientMessage::Restore { .. } | ClientMessage::Purge) {
            self.state.recorder.record(|stats| stats.changes_requested += 1);
        }
        let faults = &self.state.faults;
        if faults.strikes_at(FaultKind::DropOnRequest, self.number) {
            return Err(End::Dropped);
        }
        let is_stalled = faults.strikes_at(FaultKind::StallRequest, self.number)
            || (matches!(request, ClientMessage::History { .. })
                && faults.strikes_at(FaultKind::StallHistory, self.number));
        if is_stalled {
            return Err(discard_everything(&mut self.wire).await);
        }
        match request {
            ClientMessage::History { .. } if faults.strikes_at(FaultKind::RefuseHistory, self.number) => {
                self.send_answer(Answer::failed("No history is available")).await
            }
            ClientMessage::Pull { uid } => self.pull(uid).await,
            ClientMessage::Push(request) => self.push(request).await,
            ClientMessage::Ping => {
                self.wire.send_text(ServerMessage::Pong.to_json()).await?;
                self.state.recorder.record(|stats| stats.pings += 1);
                Ok(())
            }
            ClientMessage::Init(_) => self.send_answer(Answer::failed("init comes once")).await,
            other => self.manage(other).await,
        }
    }

    pub(super) async fn send_answer(&mut self, answer: Answer) -> Result<(), End> {
        self.wire.send_text(ServerMessage::Answer(answer).to_json()).await
    }

    /// Forwards changes that any device has recorded meanwhile.
    pub(super) async fn send_pushes(&mut self) -> Result<(), End> {
        while let Ok(push) = self.pushes.try_recv() {
            self.wire.send_text(push).await?;
        }
        Ok(())
    }

    /// The next message while a request is being served: its requested content.
    pub(super) async fn next_message(&mut self) -> Result<Message, End> {
        if let Some(received) = self.queue.pop_front() {
            return Ok(received.message);
        }
        self.wire.flush().await?;
        tokio::time::timeout(SILENCE, self.wire.receive()).await.map_err(|_| End::Silent)?
    }

    /// Stops midway, silently or by dropping the connection.
    pub(super) async fn cut_off(&mut self, stall: bool) -> Result<(), End> {
        self.wire.flush().await?;
        Err(if stall { discard_everything(&mut self.wire).await } else { End::Dropped })
    }

    /// Sends messages that a client must ignore, if that fault strikes.
    pub(super) async fn unknown_ops(&mut self) -> Result<(), End> {
        if self.state.faults.strikes_at(FaultKind::UnknownOps, self.number) {
            self.wire.send_text(r#"{"op":"weather","forecast":["sun",{"op":"push"}],"uid":1}"#).await?;
            self.wire.send_text(r#"{"op":"pong"}"#).await?;
        }
        Ok(())
    }

    /// Reads messages that have arrived already, without waiting.
    fn read_ahead(&mut self) -> Result<(), End> {
        while self.queue.len() < READ_AHEAD {
            let Some(message) = self.wire.received()? else {
                break;
            };
            self.queue.push_back(Received { message, at: Instant::now() });
        }
        Ok(())
    }

    /// Waits until the latency since a message's arrival has passed, and reads on meanwhile: latency does not
    /// limit throughput. The service time does: it begins when the request has arrived and the previous one
    /// is answered.
    pub(super) async fn delay(&mut self, since: Instant) -> Result<(), End> {
        if self.state.faults.quiet() {
            return Ok(());
        }
        let (latency, service_time) = self.state.faults.read(|faults| (faults.latency, faults.service_time));
        let mut due = since + latency;
        if !service_time.is_zero() {
            due = due.max(self.idle_since) + service_time;
            self.idle_since = due;
        }
        if due <= Instant::now() {
            return Ok(());
        }
        self.wire.flush().await?;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => return Ok(()),
                message = self.wire.receive() => {
                    self.queue.push_back(Received { message: message?, at: Instant::now() });
                }
            }
        }
    }

    /// Puts the second of two pulls first, if that fault strikes, waiting for the second for a moment.
    async fn swap_answers(&mut self) -> Result<(), End> {
        if !self.state.faults.may_strike(FaultKind::SwapAnswers) {
            return Ok(());
        }
        let single = self.queue.len() < 2 && self.queue.front().is_some_and(is_pull);
        if single && !self.asks_one_at_a_time {
            self.wire.flush().await?;
            match tokio::time::timeout(SWAP_WAIT, self.wire.receive()).await {
                Ok(message) => self.queue.push_back(Received { message: message?, at: Instant::now() }),
                Err(_) => self.asks_one_at_a_time = true,
            }
        }
        let two_pulls = self.queue.len() >= 2 && self.queue.iter().take(2).all(is_pull);
        if two_pulls && self.state.faults.strikes_at(FaultKind::SwapAnswers, self.number) {
            self.queue.swap(0, 1);
        }
        Ok(())
    }

    /// Unanswered pull requests, the one being answered included.
    pub(super) fn pulls_in_flight(&self) -> u64 {
        1 + self.queue.iter().filter(|received| is_pull(received)).count() as u64
    }
}

fn is_pull(received: &Received) -> bool {
    matches!(&received.message, Message::Text(text) if text.contains("\"pull\""))
}
