//! What went wrong with a request, in terms that do not depend on the service, and what to tell people about it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::client::HttpError;
use obsync_core::StoreError;
use obsync_protocol::printable;

/// What was tried when something went wrong; completes the sentence "cannot … the file".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Look,
    Read,
    Write,
    Copy,
    Remove,
    List,
    #[cfg(feature = "aws-admin")]
    SetUp,
}

impl Action {
    fn text(self) -> &'static str {
        match self {
            Action::Look => "look at",
            Action::Read => "read",
            Action::Write => "write",
            Action::Copy => "copy",
            Action::Remove => "remove",
            Action::List => "list",
            #[cfg(feature = "aws-admin")]
            Action::SetUp => "set up",
        }
    }
}

/// The kinds of failure that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is no such object (or bucket: the code tells).
    Missing,
    /// There is something already, or somebody else writes there at this moment.
    Taken,
    /// It is not the version that was expected.
    Changed,
    /// The credentials are good, but not for this.
    Denied,
    /// No credentials, or none that the service accepts.
    Unauthenticated,
    /// Too many requests, still after repeated attempts.
    Throttled,
    /// The service failed, still after repeated attempts.
    Failing,
    /// No answer, still after repeated attempts.
    Unreachable,
    /// There is no way to it: a certificate that is not accepted, a proxy that wants another password.
    NoWay,
    /// It is somewhere else.
    Moved,
    /// The service does not know this kind of request.
    Unsupported,
    /// Anything else.
    Other,
}

/// There are no credentials to sign a request with. Found again in the chain of reasons of the library's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoCredentials(pub(super) String);

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    /// The service's name for it, such as `NoSuchBucket`.
    code: Option<String>,
    /// What the service (or the network) says about it.
    message: String,
}

impl Trouble {
    /// The trouble that an answer with this status and body speaks of.
    pub(super) fn of_answer(status: u16, body: &str) -> Self {
        let code = element(body, "Code").map(str::to_owned);
        let message = element(body, "Message").unwrap_or_default();
        let kind = match (status, code.as_deref()) {
            (
                _,
                Some(
                    "SlowDown" | "Throttling" | "ThrottlingException" | "RequestLimitExceeded" | "ServerBusy",
                ),
            ) => Kind::Throttled,
            (_, Some("NotImplemented")) | (501, _) => Kind::Unsupported,
            (_, Some("InternalError")) => Kind::Failing,
            (301 | 302 | 307 | 308, _) => Kind::Moved,
            (401, _) => Kind::Unauthenticated,
            (403, _) => Kind::Denied,
            (404, _) => Kind::Missing,
            (409, _) => Kind::Taken,
            (304 | 412, _) => Kind::Changed,
            (429 | 503, _) => Kind::Throttled,
            (500.., _) => Kind::Failing,
            _ => Kind::Other,
        };
        let message = match (message.trim(), &code) {
            ("", Some(code)) => code.clone(),
            ("", None) => format!("the service answers with status {status}"),
            (message, _) => printable(message),
        };
        Trouble { kind, code, message }
    }

    /// The trouble that there is no answer, or none that makes sense.
    pub(super) fn without_answer(kind: Kind, message: &str) -> Self {
        Trouble { kind, code: None, message: printable(message) }
    }

    /// The trouble that no answer came.
    pub(super) fn unreachable(failure: &HttpError) -> Self {
        #[cfg(feature = "http")]
        if let Some(closed) = std::error::Error::source(failure).and_then(|source| source.downcast_ref()) {
            let super::http::NoWay(reason) = closed;
            return Trouble::without_answer(Kind::NoWay, reason);
        }
        Trouble::without_answer(Kind::Unreachable, &innermost(failure))
    }

    /// Whether something else came to be at the key than was expected there.
    pub(super) fn is_conflict(&self) -> bool {
        matches!(self.kind, Kind::Taken | Kind::Changed) && !self.is_of_bucket()
    }

    /// Whether there is no such object, in a bucket that exists.
    pub(super) fn is_missing_object(&self) -> bool {
        self.kind == Kind::Missing && !self.is_of_bucket()
    }

    /// The same as one after which to look again.
    pub(super) fn into_conflict(self) -> Self {
        Trouble { kind: Kind::Changed, ..self }
    }

    /// The same as one that looking again does not help against.
    pub(super) fn into_final(self) -> Self {
        match self.kind {
            Kind::Missing | Kind::Taken | Kind::Changed if !self.is_of_bucket() => {
                Trouble { kind: Kind::Other, ..self }
            }
            _ => self,
        }
    }

    fn is_of_bucket(&self) -> bool {
        matches!(self.code.as_deref(), Some("NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted"))
    }
}

impl From<object_store::Error> for Trouble {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error;
        if let Some(missing) = find::<NoCredentials>(&error) {
            return Trouble::without_answer(Kind::Unauthenticated, &missing.to_string());
        }
        #[cfg(feature = "http")]
        if let Some(closed) = find::<super::http::NoWay>(&error) {
            return Trouble::without_answer(Kind::NoWay, &closed.to_string());
        }
        // The library keeps the status and the body of an answer to itself, except in its text.
        let text = error.to_string();
        let status = status_in(&text);
        if let (None, Some(failure)) = (status, find::<HttpError>(&error)) {
            return Trouble::unreachable(failure);
        }
        let kind = match &error {
            Error::NotFound { .. } => Some(Kind::Missing),
            Error::AlreadyExists { .. } => Some(Kind::Taken),
            Error::Precondition { .. } | Error::NotModified { .. } => Some(Kind::Changed),
            Error::NotImplemented { .. } | Error::NotSupported { .. } => Some(Kind::Unsupported),
            _ if text.contains("redirect without LOCATION") => Some(Kind::Moved),
            _ => None,
        };
        match status {
            Some(status) => Trouble::of_answer(status, &text),
            None => Trouble::without_answer(kind.unwrap_or(Kind::Other), &innermost(&error)),
        }
        .with_kind(kind)
    }
}

impl Trouble {
    fn with_kind(self, kind: Option<Kind>) -> Self {
        Trouble { kind: kind.unwrap_or(self.kind), ..self }
    }
}

/// The error of some type in a chain of reasons.
fn find<E: std::error::Error + 'static>(error: &object_store::Error) -> Option<&E> {
    let mut next = Some(error as &(dyn std::error::Error + 'static));
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        next = current.source();
    }
    None
}

/// The last of a chain of reasons, which says most.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// The status in "… status code: 503 Service Unavailable …".
fn status_in(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// The text of the first element of this name in an XML document.
fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// Tells troubles as the engine's [`StoreError`].
#[derive(Debug)]
pub(super) struct Site {
    location: String,
    /// Whether anything was written in this run: then what is denied is denied for one object and not for all.
    wrote: AtomicBool,
}

impl Site {
    pub(super) fn new(location: String) -> Self {
        Site { location, wrote: AtomicBool::new(false) }
    }

    pub(super) fn location(&self) -> String {
        self.location.clone()
    }

    /// Notes that something could be written.
    pub(super) fn wrote(&self) {
        self.wrote.store(true, Ordering::Relaxed);
    }

    /// The error for trouble with the object at a path.
    pub(super) fn error(&self, action: Action, path: &str, trouble: &Trouble) -> StoreError {
        if let Some(error) = self.of_store(action, trouble) {
            return error;
        }
        let (path, location) = (path.to_owned(), self.location());
        match (trouble.kind, trouble.code.as_deref()) {
            (_, Some("KeyTooLongError")) => StoreError::NameTooLong { path, location },
            (Kind::Denied, _) if self.wrote.load(Ordering::Relaxed) => {
                StoreError::PermissionDenied { action: action.text(), path, location }
            }
            (Kind::Denied, _) => self.unavailable(denied(action)),
            _ => StoreError::Io {
                action: action.text(),
                path,
                location,
                source: io::Error::other(trouble.message.clone()),
            },
        }
    }

    /// The error for trouble with the bucket as a whole: it ends the run.
    pub(super) fn bucket_error(&self, action: Action, trouble: &Trouble) -> StoreError {
        self.of_store(action, trouble).unwrap_or_else(|| match trouble.kind {
            Kind::Denied => self.unavailable(denied(action)),
            _ => self.unavailable(format!("cannot {} it: {}", action.text(), trouble.message)),
        })
    }

    /// The error for trouble that all other objects would have as well.
    fn of_store(&self, action: Action, trouble: &Trouble) -> Option<StoreError> {
        let message = &trouble.message;
        let reason = match (trouble.kind, trouble.code.as_deref()) {
            (_, Some("QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage")) => {
                return Some(StoreError::Full { location: self.location() });
            }
            _ if trouble.is_of_bucket() => {
                "there is no such bucket; create it (`obsync aws init` can), or check its name and the region"
                    .to_owned()
            }
            (_, Some("RequestTimeTooSkewed")) => {
                "the clock of this machine is wrong, so that requests are not accepted; set it right"
                    .to_owned()
            }
            (
                _,
                Some(
                    "InvalidAccessKeyId"
                    | "SignatureDoesNotMatch"
                    | "ExpiredToken"
                    | "InvalidToken"
                    | "TokenRefreshRequired"
                    | "AuthenticationFailed"
                    | "InvalidSecurity",
                ),
            )
            | (Kind::Unauthenticated, _) => {
                format!("the credentials cannot be used ({message}); check or renew them")
            }
            (Kind::NoWay, _) => format!("there is no way to it: {message}"),
            (Kind::Moved, _)
            | (
                _,
                Some(
                    "PermanentRedirect"
                    | "AuthorizationHeaderMalformed"
                    | "IllegalLocationConstraintException",
                ),
            ) => {
                format!("the bucket is in another region ({message}); set AWS_REGION to that one")
            }
            (_, Some("InvalidStorageClass")) => {
                format!("it does not have the storage class that was asked for ({message}); choose another")
            }
            (_, Some(code)) if code.starts_with("KMS.") => {
                format!(
                    "the KMS key cannot be used ({code}: {message}); check the key and the right to use it"
                )
            }
            (Kind::Throttled, _) => format!(
                "it throttles: too many requests at a time, still after repeated attempts ({message}); run the same command \
                 again later, it goes on where it stopped"
            ),
            (Kind::Failing, _) => format!(
                "it keeps failing when asked to {} ({message}); run the same command again later, it goes on where it stopped",
                action.text()
            ),
            (Kind::Unreachable, _) => {
                format!("it cannot be reached ({message}); check the network and the address of the service")
            }
            _ => return None,
        };
        Some(self.unavailable(reason))
    }

    pub(super) fn stopped(&self) -> StoreError {
        StoreError::Stopped { location: self.location() }
    }

    pub(super) fn unavailable(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Unavailable { location: self.location(), reason: reason.into() }
    }

    /// The error for something at a path that needs no service to be wrong.
    pub(super) fn io(&self, action: Action, path: &str, reason: &str) -> StoreError {
        StoreError::Io {
            action: action.text(),
            path: path.to_owned(),
            location: self.location(),
            source: io::Error::other(reason.to_owned()),
        }
    }
}

fn denied(action: Action) -> String {
    format!(
        "access is denied when asked to {}; the credentials need s3:ListBucket for the bucket, and s3:GetObject, \
         s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload for its objects (and the use of the KMS key, if it has \
         one)",
        action.text()
    )
}

/// A fatal error once more, for the other members of a batch.
pub(super) fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full { location } => StoreError::Full { location: location.clone() },
        StoreError::Stopped { location } => StoreError::Stopped { location: location.clone() },
        StoreError::Unavailable { location, reason } => {
            StoreError::Unavailable { location: location.clone(), reason: reason.clone() }
        }
        other => StoreError::Unavailable { location: String::new(), reason: other.to_string() },
    }
}
