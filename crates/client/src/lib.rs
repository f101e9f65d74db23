//! Talks to the Obsidian Sync service, or to any server that speaks its protocol.
//!
//! - [`Client`]: the REST calls: signing in, the vaults of an account. It also carries the options, the
//!   limits and the host rules of everything else.
//! - [`Session`]: one WebSocket connection to one vault: the listing, queries, [`LiveChanges`]. It only
//!   reads.
//! - [`WritingSession`]: the same, and uploads of folders, deletions and files.
//! - [`FetchPool`]: fetches the contents of many files over several sessions.
//! - [`SignIn`], [`Password`]: unattended sign-in, with the line breaks that containers add to secrets.
//! - [`UploadPool`]: many changes over several sessions, those of one path in order.
//! - [`totp`]: two-factor codes from the secret that they are computed from.
//!
//! Every wait has a limit ([`Timeouts`]), every failure is a [`ClientError`] whose sentence says the cause
//! and the remedy, and no secret appears in an error, in `Debug` output or in the log.
//!
//! ```no_run
//! # async fn example() -> Result<(), obsync_client::ClientError> {
//! use obsync_client::{Client, ClientOptions};
//!
//! let client = Client::new(ClientOptions::default())?;
//! let signed_in = client.sign_in("me@example.com", &"password".into(), None).await?;
//! for vault in client.vaults(&signed_in.token).await? {
//!     println!("{} {}", vault.id, vault.name);
//! }
//! # Ok(())
//! # }
//! ```

mod calls;
mod client;
mod clock;
mod connect;
mod error;
mod fetch;
mod frames;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod host;
mod http;
mod options;
mod password;
mod session;
mod sign_in;
mod skew;
mod speed;
mod token;
pub mod totp;
mod transport;
mod upload;

pub use calls::{NewVault, NewVaultEncryption, SignedIn};
pub use client::Client;
pub use clock::{Clock, Sleep, SystemClock};
pub use error::ClientError;
pub use fetch::{FetchFailure, FetchOptions, FetchPool, FetchResult, FetchSummary, PullRequest, Receiver};
pub use options::{ClientOptions, DEFAULT_API_URL, RetryPolicy, Timeouts};
pub use password::{Password, secret_from_file, without_line_end};
pub use session::{
    Content, History, LiveChanges, LiveEnd, OldPath, OnSent, PushFailure, PushFile, Pushed, Renamed, Session,
    SessionTarget, UnlistedSession, VaultSize, WritePermit, WritingSession,
};
pub use sign_in::SignIn;
pub use skew::ClockSkew;
pub use token::Token;
pub use upload::{
    Upload, UploadFailure, UploadOptions, UploadPool, UploadResult, UploadSource, UploadSummary, Uploaded,
};
