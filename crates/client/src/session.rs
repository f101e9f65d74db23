//! A session: one WebSocket connection to one vault (docs/PROTOCOL.md section 3).
//!
//! A session has no task: it reads, pings and enforces its limits while one of its methods is being awaited.
//! Messages queued by a cancelled call are not lost.

mod live;
mod pull;
mod push;
mod queries;
mod wire;
mod writing;

use std::fmt;
use std::sync::Arc;

use obsync_protocol::limits::{
    FIRST_CONNECTION_FRAME, FURTHER_LISTING_ENTRIES, FURTHER_LISTING_TIME, LIVE_CHANGES_MEMORY, TEXT_MESSAGE,
};
use obsync_protocol::{
    Answer, ClientMessage, Init, PushMessage, Redactor, ServerMessage, VaultId, VaultKeys,
};
use tracing::debug;

pub use live::{LiveChanges, LiveEnd};
pub use pull::Content;
pub use push::{OldPath, OnSent, PushFailure, PushFile, Pushed, Renamed};
pub use queries::{History, VaultSize};
pub use writing::{UnlistedSession, WritePermit, WritingSession};

pub(crate) use pull::{ContentHeader, PullAnswer};

use crate::client::{Client, Pauses};
use crate::error::ClientError;
use crate::token::Token;
use crate::transport::{Incoming, Socket};
use live::LiveSender;
use wire::{Due, Wire};

/// The largest file that a vault accepts when the server names no limit, in bytes of plaintext.
const DEFAULT_FILE_LIMIT: u64 = 199 << 20;

/// The vault to open, and the credentials.
#[derive(Clone, Debug)]
pub struct SessionTarget {
    /// The sign-in.
    pub token: Token,
    /// The vault.
    pub vault_id: VaultId,
    /// The vault's host as the service lists it, `name[:port]`.
    pub host: String,
    /// The vault's keys, which also know the encryption version.
    pub keys: VaultKeys,
}

/// An open session that reads. It has no method that changes the vault: [`WritingSession`] has those, and
/// only the [`WritePermit`] of a writing session turns a session into one.
///
/// Receiving the listing can be cancelled and resumed. A cancelled query leaves an unread answer on the
/// connection: do not use the session after that.
///
/// ```compile_fail
/// # async fn example(session: &mut obsync_client::Session, path: &obsync_protocol::VaultPath) {
/// let _ = session.push_folder(path).await;
/// # }
/// ```
pub struct Session {
    wire: Wire,
    redactor: Redactor,
    keys: VaultKeys,
    /// The name of this device, by which own changes are recognised.
    device: String,
    /// The highest uid received, at least the caller's.
    version: u64,
    ready: bool,
    /// The version of the last `ready`. It may differ from `version` in either direction.
    server_version: Option<u64>,
    file_limit: u64,
    /// Receives changes after the listing, if anybody subscribed.
    live: Option<LiveSender>,
    /// Another one for each session.
    identity: Arc<()>,
}

/// A parsed message.
enum Event {
    Push(Box<PushMessage>),
    Ready,
    Answer(Box<Answer>),
    Piece(bytes::Bytes),
    /// A keep-alive without other meaning.
    Nothing,
}

impl Session {
    /// Connects, and requests the entries newer than the caller's `version` (0 at first). `initial` is true
    /// until a listing has been received completely once. Read the listing next.
    ///
    /// Transient failures (no connection, an overloaded server) are retried by the client's retry policy.
    ///
    /// # Errors
    /// [`ClientError::HostNotAllowed`] before anything is sent; [`ClientError::NotSignedIn`],
    /// [`ClientError::VaultNotFound`], [`ClientError::SubscriptionExpired`], or network errors.
    pub async fn open(
        client: &Client,
        target: &SessionTarget,
        version: u64,
        initial: bool,
    ) -> Result<Self, ClientError> {
        let mut pauses = Pauses::new(&client.options().retry);
        loop {
            let error = match Self::open_once(client, target, version, initial, FIRST_CONNECTION_FRAME).await
            {
                Ok(session) => return Ok(session),
                Err(error) if may_come_back(&error) => error,
                Err(error) => return Err(error),
            };
            if !pauses.pause(&error).await {
                return Err(error);
            }
        }
    }

    /// As [`Session::open`], with one attempt and frames of at most `longest` bytes.
    pub(crate) async fn open_once(
        client: &Client,
        target: &SessionTarget,
        version: u64,
        initial: bool,
        longest: usize,
    ) -> Result<Self, ClientError> {
        let options = client.options();
        let redactor = client.redactor();
        redactor.know(target.token.expose());
        redactor.know(target.keys.key_hash().as_str());
        let address =
            client.hosts().sync_address(&target.host).map_err(|error| error.without_secrets(redactor))?;
        let connector = client.session_connector(address.tls)?;
        debug!(host = %address.name, port = address.port, vault = %target.vault_id, version, "opening a session");
        let limit = options.timeouts.connect;
        let socket =
            Socket::connect(&address, &connector, &options.user_agent, longest, limit, options.clock.clone())
                .await
                .map_err(|error| client.finished(error))?;
        let mut session = Self {
            wire: Wire::new(socket, options.timeouts.clone(), client.speed(), options.clock.clone()),
            redactor: redactor.clone(),
            keys: target.keys.clone(),
            device: options.device.clone(),
            version,
            ready: false,
            server_version: None,
            file_limit: DEFAULT_FILE_LIMIT,
            live: None,
            identity: Arc::new(()),
        };
        session.introduce(target, initial).await?;
        Ok(session)
    }

    async fn introduce(&mut self, target: &SessionTarget, initial: bool) -> Result<(), ClientError> {
        self.wire.queue(&ClientMessage::Init(Init {
            token: target.token.secret().clone(),
            id: target.vault_id.clone(),
            keyhash: self.keys.key_hash().clone(),
            version: self.version,
            initial,
            device: self.device.clone(),
            encryption_version: self.keys.encryption_version(),
        }))?;
        self.wire.flush().await?;
        let due = self.wire.answer_due("the server's answer to opening the vault");
        let answer = loop {
            match self.event(&due, TEXT_MESSAGE).await? {
                Event::Answer(answer) => break answer,
                Event::Nothing => {}
                _ => {
                    return Err(ClientError::protocol("the server did not answer the opening first"));
                }
            }
        };
        if let Some(error) = answer.error() {
            return Err(ClientError::from_server_text(&error, &self.redactor));
        }
        if !answer.is_ok() {
            return Err(ClientError::protocol("the server neither accepted nor refused the opening"));
        }
        if let Some(limit) = answer.per_file_max {
            self.file_limit = limit;
        }
        self.wire.start_heartbeat();
        Ok(())
    }

    /// Receives the listing to its end and calls `on_entry` for each entry, ascending by uid. Returns the
    /// highest uid received, or the caller's version if none was higher: the version to request from the next
    /// time. The version of `ready` is not used, since one false number would hide all later changes. Entries
    /// with an implausible uid do not raise it.
    ///
    /// # Errors
    /// [`ClientError::NoListing`] when it does not begin, [`ClientError::TimedOut`] when it stalls,
    /// [`ClientError::TooSlow`] when it is too slow, [`ClientError::Protocol`] for an unreadable message,
    /// [`ClientError::ConnectionLost`].
    pub async fn listing(
        &mut self,
        on_entry: &mut (dyn FnMut(PushMessage) + Send),
    ) -> Result<u64, ClientError> {
        let mut due = self.wire.first_entry_due();
        while !self.ready {
            match self.event(&due, TEXT_MESSAGE).await? {
                Event::Push(entry) => {
                    on_entry(*entry);
                    due = self.wire.next_entry_due();
                }
                // `event` records the version.
                Event::Ready | Event::Nothing => {}
                Event::Answer(_) => {
                    return Err(ClientError::protocol("an unexpected answer arrived"));
                }
                Event::Piece(_) => {
                    return Err(ClientError::protocol("unexpected content arrived"));
                }
            }
        }
        Ok(self.version)
    }

    /// Receives the server's changes after the listing, whatever the session does meanwhile. Subscribe before
    /// the listing, so that none is missed. A second call ends the first subscription.
    #[must_use]
    pub fn live_changes(&mut self) -> LiveChanges {
        let (sender, changes) = live::channel(LIVE_CHANGES_MEMORY);
        self.live = Some(sender);
        changes
    }

    /// Receives and discards the listing of a further connection: entries newer than the first listing belong
    /// to the next run. A listing without end is given up.
    pub(crate) async fn pass_over_listing(&mut self) -> Result<(), ClientError> {
        let endless = || ClientError::lost("the list of changes on a further connection does not end");
        tokio::time::timeout(FURTHER_LISTING_TIME, async {
            let due = self.wire.step_due("the list of changes on a further connection");
            let mut entries = 0;
            while !self.ready {
                match self.event(&due, TEXT_MESSAGE).await? {
                    Event::Push(_) if entries == FURTHER_LISTING_ENTRIES => return Err(endless()),
                    Event::Push(_) => entries += 1,
                    Event::Ready | Event::Nothing => {}
                    Event::Answer(_) | Event::Piece(_) => {
                        return Err(ClientError::protocol("an unexpected message arrived"));
                    }
                }
            }
            Ok(())
        })
        .await
        .unwrap_or_else(|_| Err(endless()))
    }

    /// The version of the last `ready`, whatever was received. If it is lower than the caller's, the vault
    /// was replaced or rolled back on the server.
    #[must_use]
    pub fn server_version(&self) -> Option<u64> {
        self.server_version
    }

    /// The highest uid received in the listing or live, at least the caller's version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// True once the listing was received completely.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.ready
    }

    /// The largest file that the vault accepts, in bytes of plaintext.
    #[must_use]
    pub fn file_limit(&self) -> u64 {
        self.file_limit
    }

    /// Keeps the session alive until it ends, and returns the reason. May be cancelled at any time.
    pub async fn idle(&mut self) -> ClientError {
        loop {
            match self.event(&Due::never(), TEXT_MESSAGE).await {
                Ok(Event::Push(_) | Event::Ready | Event::Nothing) => {}
                Ok(Event::Answer(_)) => {
                    return ClientError::protocol("an unexpected answer arrived");
                }
                Ok(Event::Piece(_)) => {
                    return ClientError::protocol("unexpected content arrived");
                }
                Err(error) => return error,
            }
        }
    }

    /// Closes the connection properly.
    pub async fn close(self) {
        self.wire.close().await;
    }

    /// The next answer. Skips over pushes, `ready` and keep-alives before it.
    async fn answer(&mut self, what: &'static str, max_text: usize) -> Result<Box<Answer>, ClientError> {
        let due = self.wire.answer_due(what);
        loop {
            match self.event(&due, max_text).await? {
                Event::Answer(answer) => return Ok(answer),
                Event::Push(_) | Event::Ready | Event::Nothing => {}
                Event::Piece(_) => {
                    return Err(ClientError::protocol("a piece of content came where an answer was due"));
                }
            }
        }
    }

    /// The answer to a request that is either done or refused.
    async fn confirmation(&mut self, what: &'static str) -> Result<Box<Answer>, ClientError> {
        let answer = self.answer(what, TEXT_MESSAGE).await?;
        match answer.error() {
            Some(error) => Err(ClientError::from_server_text(&error, &self.redactor)),
            None => Ok(answer),
        }
    }

    async fn event(&mut self, due: &Due, max_text: usize) -> Result<Event, ClientError> {
        let text = match self.wire.next(due).await.map_err(|error| error.without_secrets(&self.redactor))? {
            Incoming::Binary(piece) => return Ok(Event::Piece(piece)),
            Incoming::Text(text) => text,
        };
        if text.len() > max_text {
            return Err(ClientError::protocol(format!("a message of {} bytes is too long", text.len())));
        }
        let message =
            ServerMessage::parse(&text).map_err(|error| ClientError::protocol(error.to_string()))?;
        let is_progress = match &message {
            ServerMessage::Answer(_) => true,
            // After the listing, entries are only for subscribers.
            ServerMessage::Push(_) | ServerMessage::Ready { .. } => !self.ready,
            ServerMessage::Pong | ServerMessage::Unknown { .. } => false,
        };
        if is_progress {
            self.wire.accept(text.len());
        }
        match message {
            ServerMessage::Push(entry) => {
                if entry.has_sound_uid() {
                    self.version = self.version.max(entry.uid.0);
                }
                if let Some(live) = self.live.as_mut().filter(|_| self.ready) {
                    live.send(&entry, text.len());
                }
                Ok(Event::Push(Box::new(entry)))
            }
            ServerMessage::Ready { version } => {
                self.server_version = Some(version);
                self.ready = true;
                Ok(Event::Ready)
            }
            ServerMessage::Answer(answer) => Ok(Event::Answer(Box::new(answer))),
            ServerMessage::Pong => Ok(Event::Nothing),
            // The message's kind is a text of the server, and could contain a part of a secret.
            ServerMessage::Unknown { .. } => {
                debug!("passing over a message of a kind that is not known");
                Ok(Event::Nothing)
            }
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("version", &self.version)
            .field("ready", &self.ready)
            .finish_non_exhaustive()
    }
}

/// True for failures of opening a session that are worth a retry. Timeouts are not among them: the next
/// attempt would take as long again.
fn may_come_back(error: &ClientError) -> bool {
    error.is_retryable() && !matches!(error, ClientError::TimedOut { .. } | ClientError::Protocol { .. })
}
