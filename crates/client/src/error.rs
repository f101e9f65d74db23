//! Errors between this program and the service, one sentence each: what happened and what to do.

use std::time::Duration;

use obsync_net::CertificateProblem;
pub(crate) use obsync_protocol::printable;
use obsync_protocol::{Redactor, Uid, with_reasons};
use thiserror::Error;

use crate::skew::{ClockSkew, named};

/// A conversation with the service that did not give what was asked for.
///
/// No variant holds a token, a password or a key. The values can be cloned so that one lost connection can be
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
    /// A two-factor code was given, and it was not the right one.
    #[error(
        "the two-factor code is not right; codes change every 30 seconds, try again with a fresh one{}",
        named(*.clock)
    )]
    MfaWrong {
        /// How wrong this computer's clock is, if it is.
        clock: Option<ClockSkew>,
    },
    /// Two codes were computed from the account's two-factor secret, and neither was accepted.
    #[error("the service refused two codes computed from the two-factor secret; check the secret{clock}")]
    ComputedCodesRefused {
        /// What is wrong with the clock of this machine, as the end of a sentence; empty if it is right.
        clock: String,
    },
    /// The service does not know the token (any more).
    #[error("the sign-in is not valid (any more); sign in again")]
    NotSignedIn,
    /// The account may not use Obsidian Sync at present.
    #[error("the subscription to Obsidian Sync has expired; renew it in the account's settings")]
    SubscriptionExpired,
    /// The service knows no such vault for this account.
    #[error("the service does not find this vault; it may have been deleted, or be another account's")]
    VaultNotFound,
    /// The key that was derived from the vault password is not the vault's.
    #[error("the password does not open this vault; give the vault's encryption password")]
    WrongVaultPassword,
    /// The vault lies on a host to which the token must not be sent.
    #[error(
        "the service says that the vault is on the host {host:?}, which is neither under obsidian.md nor one that you \
         allowed, so the token was not sent there. Obsidian's own servers are all under obsidian.md. With a server of your \
         own, ask whoever runs it for the name and compare the two before you allow it"
    )]
    HostNotAllowed {
        /// The host as the service gave it.
        host: String,
    },
    /// An option of the client that cannot be used.
    #[error("{reason}")]
    InvalidOption {
        /// What is wrong with it and what would be right.
        reason: String,
    },
    /// Encrypted connections cannot be made on this system.
    #[error("no encrypted connection is possible: {reason}")]
    Tls {
        /// What the TLS library says, and what to do.
        reason: String,
    },
    /// A certificate is not accepted.
    #[error("{problem}{}", named(*.clock))]
    Certificate {
        /// The host, the reason and the remedy.
        problem: CertificateProblem,
        /// How wrong this computer's clock is, if that may be the reason.
        clock: Option<ClockSkew>,
    },
    /// A host's name has no address.
    #[error("cannot find the address of {host}: {reason}; check the network and the name, then try again")]
    NoAddress {
        /// The name.
        host: String,
        /// What the resolver said.
        reason: String,
        /// Whether the resolver may know better in a moment.
        temporary: bool,
    },
    /// The proxy did not let a connection through.
    #[error("{reason}")]
    Proxy {
        /// Which proxy, what it answered and what to do.
        reason: String,
        /// Whether the same may succeed a little later.
        temporary: bool,
    },
    /// Something else than the service answered: a sign-in page of the network, a filter, another web server.
    #[error(
        "{host} answered {} (HTTP status {status}) instead of the service's answer; a network that wants you to sign in, \
         a proxy or a filter may be in the way, or the address of the service is wrong: open it in a browser to see",
        with_what(redirect.as_deref())
    )]
    NotTheService {
        /// The host that was called.
        host: String,
        /// The status.
        status: u16,
        /// Where the answer leads, if it leads elsewhere.
        redirect: Option<String>,
    },
    /// No connection came about.
    #[error("cannot reach {host}: {reason}; check the network, then try again")]
    Unreachable {
        /// Where the connection was to go.
        host: String,
        /// What the system or the other side said.
        reason: String,
    },
    /// Something took longer than its limit.
    #[error("{what} did not come within {}; the service may be overloaded, try again later", seconds(*.after))]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// A listing did not begin within its limit, though the connection was alive. Asking again would take as long.
    #[error(
        "the first entry of the vault's list did not come within {}; the service may be overloaded, try again later",
        seconds(*.after)
    )]
    NoListing {
        /// The limit.
        after: Duration,
    },
    /// The server sends, but so slowly that the run would take for ever.
    #[error(
        "the server sent less than {least} bytes a second over {}; try again later, or accept any speed with \
         --min-speed 0",
        seconds(*.over)
    )]
    TooSlow {
        /// The least speed in bytes a second.
        least: u64,
        /// Over how long it was measured.
        over: Duration,
    },
    /// The service said for long that it has too much to do, and gave nothing meanwhile.
    #[error("the service was overloaded for {} and gave nothing; try again later", seconds(*.after))]
    OverloadedForLong {
        /// The limit.
        after: Duration,
    },
    /// The service says that it has too much to do.
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
    /// The service refused, in words for which there is no variant here.
    #[error("the service refused: {message}")]
    Service {
        /// Its words, shortened and without control characters.
        message: String,
    },
    /// The other side does not keep to the protocol.
    #[error("the server does not keep to the protocol: {reason}; if this repeats, please report it")]
    Protocol {
        /// What was wrong.
        reason: String,
    },
    /// A connection ended before its time.
    #[error("the connection to the server was lost: {reason}; try again")]
    ConnectionLost {
        /// What the system or the other side said.
        reason: String,
    },
    /// The content that was offered for an entry is another one's.
    #[error(
        "the server offered other content than that of version {uid}; if this repeats, upload the file again"
    )]
    WrongHash {
        /// The entry's uid.
        uid: Uid,
    },
    /// The content that was offered for an entry has another size than the listing says.
    #[error(
        "the server offered {offered} bytes for version {uid}, where the vault lists {listed}; if this repeats, upload \
         the file again"
    )]
    WrongSize {
        /// The entry's uid.
        uid: Uid,
        /// The size of the encrypted content in bytes as the listing gave it.
        listed: u64,
        /// The size that was offered in bytes.
        offered: u64,
    },
    /// The content that was offered for an entry is cut into more pieces than any honest one, or into none.
    #[error(
        "the server offered {size} bytes for version {uid} in {pieces} pieces, which cannot be; if this repeats, upload \
         the file again"
    )]
    WrongPieces {
        /// The entry's uid.
        uid: Uid,
        /// The size that was offered in bytes.
        size: u64,
        /// The number of pieces.
        pieces: u64,
    },
    /// A file is larger than the vault takes.
    #[error(
        "the file has {size} bytes, the vault takes at most {limit} a file; leave it out or make it smaller"
    )]
    FileTooLarge {
        /// The file's size in bytes.
        size: u64,
        /// The vault's limit in bytes.
        limit: u64,
    },
    /// The account has no space left.
    #[error(
        "the vault is full: the service takes no more content; delete notes, remove old versions, or get more storage"
    )]
    VaultFull,
    /// The account may read the vault and not change it.
    #[error("this account may not change the vault ({message}); ask its owner for write access")]
    ReadOnly {
        /// The service's words.
        message: String,
    },
    /// The content of a file to be sent could not be read.
    #[error("the file to be sent could not be read: {reason}")]
    Source {
        /// What the reader said.
        reason: String,
    },
    /// The system gives no random numbers, without which nothing can be encrypted.
    #[error("the system gives no random numbers: {reason}")]
    Randomness {
        /// What the system said.
        reason: String,
    },
    /// The content of a file to be sent is not the one whose hash was announced.
    #[error("the file changed while it was sent; it is sent when it has come to rest")]
    SourceChanged,
}

impl ClientError {
    /// Whether the remedy lies with the account: signing in, a code, a subscription, a password.
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

    /// Whether it is the server's answer to a request, so that the connection can be used further.
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

    /// Whether the same request may succeed a little later without anybody doing anything.
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

    /// Whether a run is over because the server gave nothing, or too little, for as long as a limit allows. Neither
    /// another attempt nor another connection helps, and no file is to blame.
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

    /// The error that a text of the server's stands for wherever it comes: known ones by substring
    /// (docs/PROTOCOL.md section 3), anything else as [`ClientError::Service`], without the secrets that `redactor` knows.
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

    /// The error that a refusal of a sign-in stands for. Texts are matched by substring (docs/PROTOCOL.md section 2), before
    /// anything is taken out of them.
    pub(crate) fn from_sign_in_refusal(text: &str, redactor: &Redactor) -> Self {
        let lower = text.to_lowercase();
        let says = |part: &str| lower.contains(part);
        match Self::from_server_text(text, redactor) {
            // There is no token yet that could be invalid.
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

    /// The same error with this computer's clock as its possible reason.
    pub(crate) fn with_clock(mut self, skew: Option<ClockSkew>) -> Self {
        match &mut self {
            Self::MfaWrong { clock } => *clock = skew,
            Self::Certificate { problem, clock } if problem.is_about_time() => *clock = skew,
            _ => {}
        }
        self
    }

    /// The same error without secrets in what it repeats of the other side.
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

/// An error and its reasons in one line, for errors whose own text leaves the reason out.
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
