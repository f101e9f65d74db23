//! The setup of most tests: a development server with one account and one vault, and a client of it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use obsync_client::{
    Client, ClientError, ClientOptions, LiveChanges, RetryPolicy, Session, SessionTarget, Timeouts, Token,
    WritingSession,
};
use obsync_conformance::SetClock;
use obsync_protocol::{PushMessage, VaultKeys};
use obsync_testkit::{Faults, Server, VaultHandle, VaultSpec};

pub(crate) const EMAIL: &str = "someone@example.com";
pub(crate) const PASSWORD: &str = "the account's password";
pub(crate) const VAULT: &str = "Notes";

/// The longest wait in a test.
const LIMIT: Duration = Duration::from_secs(180);

/// A server, its vault, and the data that a client needs to open it.
pub(crate) struct Bed {
    pub(crate) server: Server,
    pub(crate) vault: VaultHandle,
    pub(crate) client: Client,
    pub(crate) token: Token,
    /// The address of sessions.
    pub(crate) host: String,
}

impl Bed {
    pub(crate) async fn start() -> Self {
        Self::with(|options| options).await
    }

    /// With other options than the tests' defaults.
    pub(crate) async fn with(change: impl FnOnce(ClientOptions) -> ClientOptions) -> Self {
        let server = Server::builder()
            .user(EMAIL, PASSWORD)
            .vault(VaultSpec::end_to_end(VAULT, "the vault's password"))
            .start()
            .await
            .unwrap();
        let vault = server.vault(VAULT).unwrap();
        let client = Client::new(change(options(&server.url()))).unwrap();
        let token = client.sign_in(EMAIL, &PASSWORD.into(), None).await.unwrap().token;
        let host = server.host();
        Self { server, vault, client, token, host }
    }

    /// With a clock that the test moves.
    pub(crate) async fn with_clock(
        change: impl FnOnce(ClientOptions) -> ClientOptions,
    ) -> (Self, Arc<SetClock>) {
        let clock = SetClock::new();
        let options = |options: ClientOptions| ClientOptions { clock: clock.clone(), ..change(options) };
        (Self::with(options).await, clock)
    }

    /// Runs a future, and advances the clock by this much whenever nothing moves any more.
    pub(crate) async fn passing<T>(
        &self,
        clock: &SetClock,
        by: Duration,
        work: impl Future<Output = T>,
    ) -> T {
        let time = async {
            let mut before = self.server.stats();
            loop {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let now = self.server.stats();
                if now == before {
                    clock.advance(by);
                }
                before = now;
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            () = time => unreachable!("time passes without end"),
        }
    }

    pub(crate) fn keys(&self) -> VaultKeys {
        self.vault.keys().unwrap().clone()
    }

    pub(crate) fn target(&self) -> SessionTarget {
        SessionTarget {
            token: self.token.clone(),
            vault_id: self.vault.id().clone(),
            host: self.host.clone(),
            keys: self.keys(),
        }
    }

    /// Makes the server inject faults from now on.
    pub(crate) fn fault(&self, faults: &str) {
        self.server.faults().set(faults.parse::<Faults>().unwrap());
    }

    /// A session before its listing.
    pub(crate) async fn open(&self) -> Result<Session, ClientError> {
        limited(Session::open(&self.client, &self.target(), 0, true)).await
    }

    pub(crate) async fn listed(&self) -> (Session, Vec<PushMessage>) {
        let mut session = self.open().await.unwrap();
        let mut entries = Vec::new();
        limited(session.listing(&mut |entry| entries.push(entry))).await.unwrap();
        (session, entries)
    }
}

impl Bed {
    /// A session for writing, after its listing, and its live changes.
    pub(crate) async fn writer(&self) -> (WritingSession, LiveChanges) {
        let session = limited(WritingSession::open(&self.client, &self.target(), 0, true)).await.unwrap();
        limited(session.listing(&mut |_| {})).await.unwrap()
    }
}

/// The options of tests: limits far above the needs of a healthy loopback server, and short pauses.
pub(crate) fn options(api_url: &str) -> ClientOptions {
    let seconds = Duration::from_secs(20);
    ClientOptions {
        api_url: api_url.to_owned(),
        timeouts: Timeouts {
            rest_connect: seconds,
            rest_request: seconds,
            connect: seconds,
            answer: seconds,
            ping_after: seconds,
            silence: seconds,
            stall: seconds,
            speed_over: Duration::from_secs(120),
            overloaded: seconds,
        },
        retry: RetryPolicy {
            attempts: 3,
            min_delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(10),
        },
        ..ClientOptions::default()
    }
}

/// Fails the test instead of hanging it.
pub(crate) async fn limited<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("the test takes too long")
}
