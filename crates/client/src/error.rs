//! Errors between this program and the service: one sentence each, saying the cause and the remedy.

use std::time::Duration;

use obsync_net::CertificateProblem;
pub(crate) use obsync_protocol::printable;
use obsync_protocol::{Redactor, Uid, with_reasons};
use thiserror::Error;

use crate::skew::{ClockSkew, named};

/// A failed exchange with the service.
///
/// No variant contains a token, a password or a key. Errors are `Clone`, so that one lost connection can be
/// the reason of several failures.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The account's email or password is not right.
    #[error("the service did not accept this email and password; check both and sign in again")]
    WrongCredentials,
    /// The account has two-factor authentication and no code was given.
    #[error("this account needs a two-factor code; sign in again with the 6 digits of the authenticator app")]
    MfaRequired,
    /// The two-factor code was wrong.
    #[error(
        "the two-factor code is not right; codes change every 30 seconds, try again with a fresh one{}",
        named(*.clock)
    )]
    MfaWrong {
        /// This computer's clock skew, if there is one.
        clock: Option<ClockSkew>,
    },
    /// Two codes were computed from the account's two-factor secret, and neither was accepted.
    #[error("the service refused two codes computed from the two-factor secret; check the secret{clock}")]
    ComputedCodesRefused {
        /// The clock skew of this machine, as the end of a sentence; empty if the clock is right.
        clock: String,
    },
    /// The service does not accept the token (any more).
    #[error("the sign-in is not valid (any more); sign in again")]
    NotSignedIn,
    /// The account has no active Obsidian Sync subscription.
    #[error("the subscription to Obsidian Sync has expired; renew it in the account's settings")]
    SubscriptionExpired,
    /// The service lists no such vault for this account.
    #[error("the service does not find this vault; it may have been deleted, or belong to another account")]
    VaultNotFound,
    /// The key derived from the vault password is not the vault's.
    #[error("the password does not open this vault; give the vault's encryption password")]
    WrongVaultPassword,
    /// The vault's host is not one to which the token may be sent.
    #[error(
        "the service says that the vault is on the host {host:?}, which is neither under obsidian.md nor one that you \
         allowed, so the token was not sent there. Obsidian's own servers are all under obsidian.md. With a server of your \
         own, ask its administrator for the name, and compare the two before you allow it"
    )]
    HostNotAllowed {
        /// The host as the service gave it.
        host: String,
    },
    /// A client option with an unusable value.
    #[error("{reason}")]
    InvalidOption {
        /// The fault and a valid alternative.
        reason: String,
    },
    /// Encrypted connections cannot be made on this system.
    #[error("no encrypted connection is possible: {reason}")]
    Tls {
        /// The TLS library's message, and the remedy.
        reason: String,
    },
    /// A certificate is not accepted.
    #[error("{problem}{}", named(*.clock))]
    Certificate {
        /// The host, the reason and the remedy.
        problem: CertificateProblem,
        /// This computer's clock skew, if that may be the reason.
        clock: Option<ClockSkew>,
    },
    /// A host name has no address.
    #[error("cannot find the address of {host}: {reason}; check the network and the name, then try again")]
    NoAddress {
        /// The name.
        host: String,
        /// The resolver's message.
        reason: String,
        /// A retry may succeed in a moment.
        temporary: bool,
    },
    /// The proxy refused a connection.
    #[error("{reason}")]
    Proxy {
        /// The proxy, its answer and the remedy.
        reason: String,
        /// A retry may succeed a little later.
        temporary: bool,
    },
    /// Something other than the service answered: a captive portal, a filter, another web server.
    #[error(
        "{host} answered {} (HTTP status {status}) instead of the service's answer; a network that wants you to sign in, \
         a proxy or a filter may be in the way, or the address of the service is wrong: open it in a browser to see",
        with_what(redirect.as_deref())
    )]
    NotTheService {
        /// The requested host.
        host: String,
        /// The status.
        status: u16,
        /// The redirect target, if the answer is a redirect.
        redirect: Option<String>,
    },
    /// Connecting failed.
    #[error("cannot reach {host}: {reason}; check the network, then try again")]
    Unreachable {
        /// The address.
        host: String,
        /// The message of the system or the other side.
        reason: String,
    },
    /// Something took longer than its limit.
    #[error("{what} did not come within {}; the service may be overloaded, try again later", seconds(*.after))]
    TimedOut {
        /// The operation that was waited for.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// A listing did not begin within its limit, though the connection was alive. A retry would take as long.
    #[error(
        "the first entry of the vault's list did not come within {}; the service may be overloaded, try again later",
        seconds(*.after)
    )]
    NoListing {
        /// The limit.
        after: Duration,
    },
    /// The server sends more slowly than the least speed.
    #[error(
        "the server sent less than {least} bytes a second over {}; try again later, or accept any speed with \
         --min-speed 0",
        seconds(*.over)
    )]
    TooSlow {
        /// The least speed in bytes a second.
        least: u64,
        /// The period over which it was measured.
        over: Duration,
    },
    /// The server reported overload for the whole limit, and sent no content meanwhile.
    #[error("the service was overloaded for {} and sent nothing; try again later", seconds(*.after))]
    OverloadedForLong {
        /// The limit.
        after: Duration,
    },
    /// The server reports overload.
    #[error("the service is overloaded; try again in some minutes")]
    Overloaded,
    /// An HTTP answer with a status other than 2xx.
    #[error(
        "the service answered with HTTP status {status}; check the address of the service, or try again later"
    )]
    Http {
        /// The status.
        status: u16,
    },
    /// The service refused, with a text that has no variant of its own.
    #[error("the service refused: {message}")]
    Service {
        /// The service's text, shortened and without control characters.
        message: String,
    },
    /// The other side violates the protocol.
    #[error("the server violated the protocol: {reason}; if this repeats, please report it")]
    Protocol {
        /// The violation.
        reason: String,
    },
    /// A connection ended too early.
    #[error("the connection to the server was lost: {reason}; try again")]
    ConnectionLost {
        /// The message of the system or the other side.
        reason: String,
    },
    /// The content offered for an entry is another entry's.
    #[error(
        "the server offered other content than that of version {uid}; if this repeats, upload the file again"
    )]
    WrongHash {
        /// The entry's uid.
        uid: Uid,
    },
    /// The content offered for an entry differs in size from the listing.
    #[error(
        "the server offered {offered} bytes for version {uid}, where the vault lists {listed}; if this repeats, upload \
         the file again"
    )]
    WrongSize {
        /// The entry's uid.
        uid: Uid,
        /// The size of the encrypted content in bytes, from the listing.
        listed: u64,
        /// The offered size in bytes.
        offered: u64,
    },
    /// The content offered for an entry has an implausible number of pieces: too many, or none.
    #[error(
        "the server offered {size} bytes for version {uid} in {pieces} pieces, which is impossible; if this repeats, upload \
         the file again"
    )]
    WrongPieces {
        /// The entry's uid.
        uid: Uid,
        /// The offered size in bytes.
        size: u64,
        /// The number of pieces.
        pieces: u64,
    },
    /// A file exceeds the vault's limit.
    #[error(
        "the file has {size} bytes, the vault accepts at most {limit} per file; exclude it or make it smaller"
    )]
    FileTooLarge {
        /// The file's size in bytes.
        size: u64,
        /// The vault's limit in bytes.
        limit: u64,
    },
    /// The account has no space left.
    #[error(
        "the vault is full: the service accepts no more content; delete notes, remove old versions, or get more storage"
    )]
    VaultFull,
    /// The account has only read access to the vault.
    #[error("this account may not change the vault ({message}); ask its owner for write access")]
    ReadOnly {
        /// The service's text.
        message: String,
    },
    /// The content of an upload could not be read.
    #[error("the file to be sent could not be read: {reason}")]
    Source {
        /// The reader's message.
        reason: String,
    },
    /// The system provides no random numbers, which encryption needs.
    #[error("the system provides no random numbers: {reason}")]
    Randomness {
        /// The system's message.
        reason: String,
    },
    /// The content of an upload does not have the announced hash.
    #[error("the file changed while it was sent; it is sent once it stops changing")]
    SourceChanged,
}

impl ClientError {
    /// True if the user has to fix it in the account: signing in, a code, a subscription, a password.
    #[must_use]
    pub fn is_auth(&self) -> bool {
        matches!(
            self,
            Self::WrongCredentials
                | Self::MfaRequired
                | Self::MfaWrong { .. }
                | Self::ComputedCodesRefused { .. }
                | Self::NotSignedIn
                | Self::SubscriptionExpired
                | Self::WrongVaultPassword
        )
    }

    /// True for a server's answer to a request: the connection stays usable.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotSignedIn
                | Self::SubscriptionExpired
                | Self::VaultNotFound
                | Self::Overloaded
                | Self::VaultFull
                | Self::ReadOnly { .. }
                | Self::FileTooLarge { .. }
                | Self::Service { .. }
        )
    }

    /// True for a server's refusal that concerns the path or version it was asked for, as far as one can tell.
    #[must_use]
    pub fn is_of_one_path(&self) -> bool {
        matches!(self, Self::Service { .. })
    }

    /// True if the same request may succeed a little later without anybody's intervention.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::Overloaded
            | Self::Protocol { .. }
            | Self::ConnectionLost { .. }
            | Self::NoAddress { .. }
            | Self::WrongHash { .. }
            | Self::WrongSize { .. }
            | Self::WrongPieces { .. } => true,
            Self::Proxy { temporary, .. } => *temporary,
            Self::Http { status } => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// True if the run must end because the server sent nothing, or too little, for as long as a limit
    /// allows. Another attempt or connection would not help, and no single file is the cause.
    #[must_use]
    pub fn ends_run(&self) -> bool {
        matches!(self, Self::NoListing { .. } | Self::TooSlow { .. } | Self::OverloadedForLong { .. })
    }

    pub(crate) fn protocol(reason: impl Into<String>) -> Self {
        Self::Protocol { reason: reason.into() }
    }

    pub(crate) fn randomness(error: &getrandom::Error) -> Self {
        Self::Randomness { reason: error.to_string() }
    }

    pub(crate) fn lost(reason: impl Into<String>) -> Self {
        Self::ConnectionLost { reason: reason.into() }
    }

    /// Maps a server's error text: known ones by substring (docs/PROTOCOL.md section 3), others to
    /// [`ClientError::Service`] without the secrets that `redactor` knows.
    pub(crate) fn from_server_text(text: &str, redactor: &Redactor) -> Self {
        let lower = text.to_lowercase();
        let says = |part: &str| lower.contains(part);
        if says("overloaded") {
            Self::Overloaded
        } else if says("authentication failed") || says("not logged in") || says("invalid token") {
            Self::NotSignedIn
        } else if says("vault not found") {
            Self::VaultNotFound
        } else if says("subscription") && says("expired") {
            Self::SubscriptionExpired
        } else if says("vault limit exceeded") || says("storage limit") {
            Self::VaultFull
        } else if says("read-only") || says("read only") {
            Self::ReadOnly { message: redactor.printable(text) }
        } else {
            Self::Service { message: redactor.printable(text) }
        }
    }

    /// Maps the text of a refused sign-in. Matches by substring (docs/PROTOCOL.md section 2), before
    /// redaction.
    pub(crate) fn from_sign_in_refusal(text: &str, redactor: &Redactor) -> Self {
        let lower = text.to_lowercase();
        let says = |part: &str| lower.contains(part);
        match Self::from_server_text(text, redactor) {
            // At sign-in no token exists that could be invalid.
            Self::NotSignedIn => Self::WrongCredentials,
            Self::Service { .. } if says("2fa code") && says("incorrect") => Self::MfaWrong { clock: None },
            Self::Service { .. } if says("2fa code") => Self::MfaRequired,
            Self::Service { .. }
                if ["password", "credentials", "email", "login failed"].iter().any(|part| says(part)) =>
            {
                Self::WrongCredentials
            }
            other => other,
        }
    }

    /// The same error with this computer's clock skew as its possible reason.
    pub(crate) fn with_clock(mut self, skew: Option<ClockSkew>) -> Self {
        match &mut self {
            Self::MfaWrong { clock } => *clock = skew,
            Self::Certificate { problem, clock } if problem.is_about_time() => *clock = skew,
            _ => {}
        }
        self
    }

    /// The same error with secrets removed from the texts of the other side.
    pub(crate) fn without_secrets(mut self, redactor: &Redactor) -> Self {
        if let Self::HostNotAllowed { host: text }
        | Self::Tls { reason: text }
        | Self::Unreachable { reason: text, .. }
        | Self::NoAddress { reason: text, .. }
        | Self::Proxy { reason: text, .. }
        | Self::NotTheService { redirect: Some(text), .. }
        | Self::Service { message: text }
        | Self::ReadOnly { message: text }
        | Self::Protocol { reason: text }
        | Self::ConnectionLost { reason: text } = &mut self
        {
            *text = redactor.take_out(text).into_owned();
        }
        self
    }
}

/// An error and its sources in one line, for errors whose `Display` omits the source.
pub(crate) fn reasons(error: &dyn std::error::Error) -> String {
    printable(&with_reasons(error))
}

fn with_what(redirect: Option<&str>) -> String {
    match redirect {
        Some(place) => format!("with a way to {place}"),
        None => "with a web page".to_owned(),
    }
}

fn seconds(duration: Duration) -> String {
    if duration.as_millis().is_multiple_of(1000) {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts_are_recognised_in_any_letter_case() {
        use ClientError as E;
        let kind = |text: &str| ClientError::from_server_text(text, &Redactor::default());
        assert!(matches!(kind("Authentication failed."), E::NotSignedIn));
        assert!(matches!(kind("ERROR: VAULT NOT FOUND!"), E::VaultNotFound));
        assert!(matches!(kind("Your subscription to Obsidian Sync has expired"), E::SubscriptionExpired));
        assert!(matches!(kind("Server overloaded, please retry"), E::Overloaded));
        assert!(matches!(kind("Something else"), E::Service { message } if message == "Something else"));
    }

    #[test]
    fn limits_are_told_in_the_unit_that_fits() {
        assert_eq!(seconds(Duration::from_secs(60)), "60 s");
        assert_eq!(seconds(Duration::from_millis(50)), "50 ms");
    }
}
