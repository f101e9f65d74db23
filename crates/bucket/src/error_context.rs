//! Words failed requests for people: which of them end the run, and what to do next.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use obsync_core::blocking::lock;
use obsync_core::{DestinationError, KnownContent, ProblemCode};
use obsync_protocol::{Uid, VaultPath};

use super::error::{Kind, RequestError};

/// Number of equal refusals in a row after which the run ends.
const REFUSALS: u32 = 10;

/// The attempted action; completes the sentence "cannot … the file".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Look,
    Read,
    Write,
    Copy,
    Remove,
    List,
    #[cfg(feature = "s3")]
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
            #[cfg(feature = "s3")]
            Action::SetUp => "set up",
        }
    }

    /// True for actions on an existing object, which may be encrypted differently from others.
    fn is_of_one_object(self) -> bool {
        matches!(self, Action::Look | Action::Read | Action::Copy | Action::Remove)
    }
}

/// Converts request errors to the engine's [`DestinationError`].
#[derive(Debug)]
pub(super) struct ErrorContext {
    location: String,
    /// The service's address, and how the bucket is named in it.
    address: OnceLock<String>,
    /// Something was or could be written in this run: a denial then concerns one object and not all.
    may_write: AtomicBool,
    /// An object was looked at in this run: a denied look then concerns one object.
    looked: AtomicBool,
    /// The last refusal of each action, and its number in a row.
    refusals: Mutex<HashMap<Action, (String, u32)>>,
}

impl ErrorContext {
    pub(super) fn new(location: String) -> Self {
        ErrorContext {
            location,
            address: OnceLock::new(),
            may_write: AtomicBool::new(false),
            looked: AtomicBool::new(false),
            refusals: Mutex::default(),
        }
    }

    pub(super) fn location(&self) -> String {
        self.location.clone()
    }

    /// Sets the address for errors that it may cause.
    #[cfg(feature = "s3")]
    pub(super) fn at_address(&self, address: String) {
        // Each store sets it once.
        let _ = self.address.set(address);
    }

    /// Records a successful write.
    pub(super) fn wrote(&self) {
        self.may_write();
        self.succeeded(Action::Write);
    }

    /// Records that objects may be written.
    pub(super) fn may_write(&self) {
        self.may_write.store(true, Ordering::Relaxed);
    }

    /// Records a success: resets the count of refusals.
    pub(super) fn succeeded(&self, action: Action) {
        if action == Action::Look {
            self.looked.store(true, Ordering::Relaxed);
        }
        lock(&self.refusals).remove(&action);
    }

    /// Counts a refusal. Returns true if the same one was repeated so often that continuing is pointless.
    fn is_pointless(&self, action: Action, said: &str) -> bool {
        let mut refusals = lock(&self.refusals);
        let (last, times) = refusals.entry(action).or_default();
        if last != said {
            *last = said.to_owned();
            *times = 0;
        }
        *times += 1;
        *times >= REFUSALS
    }

    /// The error for a failed action on the object at a path.
    pub(super) fn error(&self, action: Action, path: &str, error: &RequestError) -> DestinationError {
        if let Some(error) = self.of_store(action, error) {
            return error;
        }
        let (path, location, said) = (path.to_owned(), self.location(), error.said());
        if error.code() == Some("KeyTooLongError") {
            return DestinationError::NameTooLong { path, location, said: Some(said) };
        }
        if self.ends_run(action, error) {
            return self.unusable(ProblemCode::AccessDenied, denied(action, &said));
        }
        if self.is_pointless(action, error.code().unwrap_or(&said)) {
            return self.unavailable(format!(
                "it refused {REFUSALS} times in a row to {} a file, the last time {path:?} ({said}); mend that, and run \
                 the same command again, it goes on where it stopped",
                action.text()
            ));
        }
        DestinationError::Io { action: action.text(), path, location, source: io::Error::other(said) }
    }

    /// True if an error is a denial of all such actions, as far as is known.
    pub(super) fn ends_run(&self, action: Action, error: &RequestError) -> bool {
        error.kind == Kind::Denied && error.is_general() && self.is_first(action)
    }

    /// True if nothing has succeeded yet that would have needed the same permission.
    pub(super) fn is_first(&self, action: Action) -> bool {
        let needs = matches!(action, Action::Look | Action::Write | Action::List);
        let has_looked = action == Action::Look && self.looked.load(Ordering::Relaxed);
        needs && !has_looked && !self.may_write.load(Ordering::Relaxed)
    }

    /// The error for a failed action on the bucket as a whole: it ends the run.
    pub(super) fn bucket_error(&self, action: Action, error: &RequestError) -> DestinationError {
        self.of_store(action, error).unwrap_or_else(|| match error.kind {
            Kind::Denied => self.unusable(ProblemCode::AccessDenied, denied(action, &error.said())),
            _ => self.unavailable(format!("cannot {} it: {}", action.text(), error.said())),
        })
    }

    /// The error for a failure that would affect all other objects as well.
    fn of_store(&self, action: Action, error: &RequestError) -> Option<DestinationError> {
        let message = &error.said();
        let (code, reason) = match (error.kind, error.code()) {
            (_, Some("QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage")) => (
                ProblemCode::DestinationFull,
                format!(
                    "it takes nothing more ({message}); free some space and run the same command again, it goes on where it \
                     stopped"
                ),
            ),
            _ if error.is_of_bucket() => (
                ProblemCode::NoSuchPlace,
                format!(
                    "there is no such bucket ({message}){}; create it (`obsync aws init` can), or check its name and the region",
                    self.asked_at()
                ),
            ),
            (_, Some("SecondLevelDomainForbidden")) => (
                ProblemCode::Destination,
                format!(
                    "it wants the bucket named in the host ({message}){}; set AWS_S3_ADDRESSING_STYLE=virtual",
                    self.asked_at()
                ),
            ),
            (_, Some("RequestTimeTooSkewed")) => (
                ProblemCode::Credentials,
                format!(
                    "the clock of this machine is wrong, so that requests are not accepted ({message}); set it right"
                ),
            ),
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
                let reason = format!("the credentials cannot be used ({message}); check or renew them");
                (ProblemCode::Credentials, reason)
            }
            #[cfg(feature = "http")]
            (Kind::NoWay(code), _) => (code, format!("there is no way to it: {message}")),
            (Kind::Moved, _)
            | (
                _,
                Some(
                    "PermanentRedirect"
                    | "AuthorizationHeaderMalformed"
                    | "IllegalLocationConstraintException",
                ),
            ) => {
                let reason =
                    format!("the bucket is in another region ({message}); set AWS_REGION to that one");
                (ProblemCode::Region, reason)
            }
            (_, Some("InvalidStorageClass")) => {
                let reason = format!(
                    "it does not have the storage class that was asked for ({message}); choose another"
                );
                (ProblemCode::Destination, reason)
            }
            (_, Some(code)) if code.starts_with("KMS.") && !action.is_of_one_object() => {
                let reason =
                    format!("the KMS key cannot be used ({message}); check the key and the right to use it");
                (ProblemCode::AccessDenied, reason)
            }
            (Kind::Throttled, _) => (
                ProblemCode::Overloaded,
                format!(
                    "it throttles: too many requests at a time, still after repeated attempts ({message}); run the same command \
                 again later, it goes on where it stopped"
                ),
            ),
            (Kind::Failing, _) => (
                ProblemCode::Overloaded,
                format!(
                    "it keeps failing when asked to {} ({message}); run the same command again later, it goes on where it stopped",
                    action.text()
                ),
            ),
            (Kind::Unreachable, _) => {
                let at = self.asked_at();
                let reason = format!(
                    "it cannot be reached ({message}){at}; check the network and the address of the service"
                );
                (ProblemCode::Unreachable, reason)
            }
            _ => return None,
        };
        Some(self.unusable(code, reason))
    }

    /// The address, for a sentence.
    fn asked_at(&self) -> String {
        self.address.get().map(|address| format!(" at {address}")).unwrap_or_default()
    }

    pub(super) fn stopped(&self) -> DestinationError {
        DestinationError::Stopped { location: self.location() }
    }

    pub(super) fn unavailable(&self, reason: impl Into<String>) -> DestinationError {
        self.unusable(ProblemCode::Destination, reason)
    }

    /// The same for a reason with its own code.
    pub(super) fn unusable(&self, code: ProblemCode, reason: impl Into<String>) -> DestinationError {
        DestinationError::Unavailable { location: self.location(), reason: reason.into(), code }
    }

    /// The error for an unexpected object. Names what is known of it.
    pub(super) fn changed(
        &self,
        path: &VaultPath,
        found: Option<KnownContent>,
        version: Option<Uid>,
    ) -> DestinationError {
        DestinationError::Changed {
            path: path.as_str().to_owned(),
            location: self.location(),
            found,
            version,
        }
    }

    /// The error for a fault at a path that does not come from the service.
    pub(super) fn io(&self, action: Action, path: &str, reason: &str) -> DestinationError {
        DestinationError::Io {
            action: action.text(),
            path: path.to_owned(),
            location: self.location(),
            source: io::Error::other(reason.to_owned()),
        }
    }
}

fn denied(action: Action, said: &str) -> String {
    format!(
        "access is denied when asked to {} ({said}); the credentials need s3:ListBucket for the bucket, and s3:GetObject, \
         s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload for its objects (and the use of the KMS key, if it has \
         one)",
        action.text()
    )
}

/// A clone of a fatal error, for the other members of a batch.
pub(super) fn again(error: &DestinationError) -> DestinationError {
    match error {
        DestinationError::Stopped { location } => DestinationError::Stopped { location: location.clone() },
        DestinationError::Unavailable { location, reason, code } => {
            DestinationError::Unavailable { location: location.clone(), reason: reason.clone(), code: *code }
        }
        other => DestinationError::Unavailable {
            location: String::new(),
            reason: other.to_string(),
            code: ProblemCode::Destination,
        },
    }
}
