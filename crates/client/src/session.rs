//! A session: one WebSocket connection to one vault (docs/PROTOCOL.md section 3).
//!
//! A session is owned by whoever uses it and has no task of its own: it reads, pings and keeps its limits while one
//! of its methods is being awaited. What a cancelled call had queued for sending is not lost.

mod live;
mod pull;
mod push;
mod queries;
mod wire;
mod writing;

use std::fmt;

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

/// The largest file that a vault takes when the server names no limit, in bytes of plaintext.
const DEFAULT_FILE_LIMIT: u64 = 199 << 20;

/// Which vault to open and what opens it.
#[derive(Clone, Debug)]
pub struct SessionTarget {
    /// The sign-in.
    pub token: Token,
    /// The vault.
    pub vault_id: VaultId,
    /// The vault's host as the service lists it, `name[:port]`.
    pub host: String,
    /// The vault's keys, which know the encryption version too.
    pub keys: VaultKeys,
}

/// An open session that reads. It has no method that changes the vault: that is what a [`WritingSession`] is for, and none can
/// be made of it without the [`WritePermit`] of one.
///
/// Receiving the listing can be cancelled and taken up again. A question that is cancelled leaves an answer on its way that
/// nobody waits for: do not use the session after that.
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
    /// The highest uid that was received, at least what the caller had.
    version: u64,
    ready: bool,
    /// What the last `ready` said, which only confirms: it may be more or less than `version`.
    server_version: Option<u64>,
    file_limit: u64,
    /// Where changes go that the server tells of after the listing, if somebody wants them.
    live: Option<LiveSender>,
}

/// A message, read.
enum Event {
    Push(Box<PushMessage>),
    Ready,
    Answer(Box<Answer>),
    Piece(bytes::Bytes),
    /// A sign of life that says nothing else.
    Nothing,
}

impl Session {
    /// Connects, and asks for the entries newer than `version`, what the caller has (0 at first). `initial` is true
    /// until a listing has been received to its end once. Read the listing next.
    ///
    /// What may pass (no connection, a server that is overloaded) is tried again as the client's retry policy says.
    ///
    /// # Errors
    /// [`ClientError::HostNotAllowed`] before anything is sent; [`ClientError::NotSignedIn`],
    /// [`ClientError::VaultNotFound`], [`ClientError::SubscriptionExpired`], or whatever the network adds.
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

    /// Receives the listing to its end: `on_entry` gets each entry, ascending by uid. The result is the highest uid
    /// that was received, or what the caller had if there was none above: the version to ask from the next time. That
    /// of `ready` is not, since one number would hide all that comes later. Entries whose uid makes no sense do not
    /// raise it.
    ///
    /// # Errors
    /// [`ClientError::NoListing`] when nothing comes of it, [`ClientError::TimedOut`] when it stops moving,
    /// [`ClientError::TooSlow`] when it moves too slowly, [`ClientError::Protocol`] for a message that
    /// cannot be read, [`ClientError::ConnectionLost`].
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
                // It is `event` that takes note of the version.
                Event::Ready | Event::Nothing => {}
                Event::Answer(_) => {
                    return Err(ClientError::protocol("an answer came that nobody had asked for"));
                }
                Event::Piece(_) => {
                    return Err(ClientError::protocol("content came that nobody had asked for"));
                }
            }
        }
        Ok(self.version)
    }

    /// The changes that the server tells of after the listing, whatever the session does meanwhile. Ask for them before the
    /// listing, so that none is missed. A second call takes them from the first receiver.
    #[must_use]
    pub fn live_changes(&mut self) -> LiveChanges {
        let (sender, changes) = live::channel(LIVE_CHANGES_MEMORY);
        self.live = Some(sender);
        changes
    }

    /// Receives the listing for nobody: what is newer than the listing that the jobs come from is the next run's.
    /// Nothing is kept of it, and one without end is given up.
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
                        return Err(ClientError::protocol("something came that nobody had asked for"));
                    }
                }
            }
            Ok(())
        })
        .await
        .unwrap_or_else(|_| Err(endless()))
    }

    /// The version that the last `ready` told, whatever was received. If the caller has a higher one, the vault was
    /// replaced or rolled back on the server.
    #[must_use]
    pub fn server_version(&self) -> Option<u64> {
        self.server_version
    }

    /// The highest uid that was received in the listing or live, at least what the caller had.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether the listing was received to its end.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        self.ready
    }

    /// The largest file that the vault takes, in bytes of plaintext.
    #[must_use]
    pub fn file_limit(&self) -> u64 {
        self.file_limit
    }

    /// Keeps the session alive until it ends, and says how. Can be cancelled at any time; that is what it is for.
    pub async fn idle(&mut self) -> ClientError {
        loop {
            match self.event(&Due::never(), TEXT_MESSAGE).await {
                Ok(Event::Push(_) | Event::Ready | Event::Nothing) => {}
                Ok(Event::Answer(_)) => {
                    return ClientError::protocol("an answer came that nobody had asked for");
                }
                Ok(Event::Piece(_)) => {
                    return ClientError::protocol("content came that nobody had asked for");
                }
                Err(error) => return error,
            }
        }
    }

    /// Says goodbye and ends the connection.
    pub async fn close(self) {
        self.wire.close().await;
    }

    /// The next answer. Pushes, `ready` and signs of life may come before it.
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

    /// The answer to a request that can only be done or refused.
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
            // After the listing nobody asked for them.
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
            // Its kind is a text of the server's, and could repeat a part of a secret.
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

/// Which failures of opening a session are worth another attempt. A limit that passed is not among them: the next
/// attempt would take as long again.
fn may_come_back(error: &ClientError) -> bool {
    error.is_retryable() && !matches!(error, ClientError::TimedOut { .. } | ClientError::Protocol { .. })
}
