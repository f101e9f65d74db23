//! Classifies failed requests in terms that do not depend on the service.

use std::borrow::Cow;

use object_store::client::HttpError;
use obsync_core::ProblemCode;
use obsync_protocol::printable;

use super::reasons::innermost;
use super::refusal::{self, Next, Operation, Refused};

/// Azure's codes of a conflict (409) with the state of one object, which is neither read nor changed in it (Blob service error
/// codes).
const IMMUTABLE: &[&str] =
    &["BlobArchived", "BlobBeingRehydrated", "BlobImmutableDueToPolicy", "BlobImmutableDueToLegalHold"];

/// Begins the library's text of an answer that is no success (`object_store::client::retry`).
const ANSWERED: &str = "Server returned non-2xx status code: ";
/// Begins its text of an answer that redirects to nowhere.
const REDIRECTED: &str = "Received redirect without LOCATION";

/// The kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is no such object (or bucket; the code says which).
    Missing,
    /// The key is taken, or somebody else writes there at this moment.
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
    #[cfg(feature = "http")]
    NoWay(ProblemCode),
    /// It is somewhere else.
    Moved,
    /// The service does not know this kind of request.
    Unsupported,
    /// Anything else.
    Other,
}

/// Why a bucket cannot be opened with the configuration that was found.
#[derive(Debug)]
pub(super) struct ConfigurationError {
    pub(super) code: ProblemCode,
    pub(super) reason: String,
}

impl From<String> for ConfigurationError {
    fn from(reason: String) -> Self {
        ConfigurationError { code: ProblemCode::Destination, reason }
    }
}

/// There are no credentials to sign a request with. Found in the source chain of the library's error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoCredentials(pub(super) String);

/// A request that failed.
#[derive(Clone, Debug)]
pub(super) struct RequestError {
    pub(super) kind: Kind,
    /// The service's name for it, such as `NoSuchBucket`.
    code: Option<String>,
    /// The message of the service (or the network).
    message: String,
    /// The status of the answer, and the request that it refuses, where both are known.
    asked: Option<Asked>,
}

/// The refused request.
#[derive(Clone, Copy, Debug)]
struct Asked {
    operation: Operation,
    conditional: bool,
    checksummed: bool,
    status: u16,
}

impl RequestError {
    pub(super) fn of_answer(status: u16, body: &str) -> Self {
        let code = element(body, "Code").map(printable);
        let message = element(body, "Message").map(unescape).unwrap_or_default();
        let kind = match (status, code.as_deref()) {
            (
                _,
                Some(
                    "SlowDown"
                    | "Throttling"
                    | "ThrottlingException"
                    | "RequestLimitExceeded"
                    | "ServerBusy"
                    | "TooManyRequests",
                ),
            ) => Kind::Throttled,
            (_, Some("NotImplemented")) | (501, _) => Kind::Unsupported,
            (_, Some("InternalError" | "RequestTimeout" | "TemporaryRedirect")) => Kind::Failing,
            (301 | 302 | 307 | 308, _) => Kind::Moved,
            (401, _) => Kind::Unauthenticated,
            (403, _) => Kind::Denied,
            (404, _) => Kind::Missing,
            (409, code) if refusal::is_with_others(code.unwrap_or_default()) => Kind::Taken,
            (409, Some(code)) if IMMUTABLE.contains(&code) => Kind::Denied,
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
        let asked =
            Some(Asked { operation: Operation::Look, conditional: false, checksummed: false, status });
        RequestError { kind, code, message, asked }
    }

    /// The error for a row about one object, in the answer to a request about many.
    #[cfg(feature = "s3")]
    pub(super) fn of_row(operation: Operation, conditional: bool, code: &str, message: &str) -> Self {
        let status = match code {
            "PreconditionFailed" => 412,
            "NoSuchKey" => 404,
            "AccessDenied" => 403,
            "ConditionalRequestConflict" | "OperationAborted" => 409,
            "NotImplemented" => 501,
            "InternalError" => 500,
            "SlowDown" | "ServiceUnavailable" => 503,
            _ => 400,
        };
        let message = quick_xml::escape::escape(message);
        let body = format!("<Code>{code}</Code><Message>{message}</Message>");
        RequestError::of_answer(status, &body).at(operation, conditional, false)
    }

    /// The error for a missing or unreadable answer.
    pub(super) fn without_answer(kind: Kind, message: &str) -> Self {
        RequestError { kind, code: None, message: printable(message), asked: None }
    }

    /// The error for an answer of a portal or proxy in place of the service.
    pub(super) fn web_page(status: u16) -> Self {
        let message = format!(
            "a web page with status {status} came in place of the service's answer; is there a portal, or a proxy that blocks it?"
        );
        RequestError::without_answer(Kind::Other, &message)
    }

    /// The same error as the answer to this request.
    pub(super) fn at(self, operation: Operation, conditional: bool, checksummed: bool) -> Self {
        let asked = self.asked.map(|asked| Asked { operation, conditional, checksummed, ..asked });
        RequestError { asked, ..self }
    }

    /// The next step by the table of refusals; `None` if there was no answer.
    pub(super) fn next(&self) -> Option<Next> {
        let Asked { operation, conditional, checksummed, status } = self.asked?;
        let code = self.code.as_deref().unwrap_or_default();
        Some(refusal::next(&Refused { operation, conditional, checksummed, status, code }))
    }

    /// The status of the answer, if there was one.
    #[cfg(feature = "s3")]
    pub(super) fn status(&self) -> Option<u16> {
        self.asked.map(|asked| asked.status)
    }

    /// The service's error code.
    pub(super) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// True if the service does not support this operation at all.
    pub(super) fn is_unknown_operation(&self) -> bool {
        self.kind == Kind::Unsupported || self.asked.is_some_and(|asked| asked.status == 405)
    }

    /// The service's own code and message.
    pub(super) fn said(&self) -> String {
        match &self.code {
            Some(code) if *code != self.message => format!("{code}: {}", self.message),
            _ => self.message.clone(),
        }
    }

    /// The error that no answer came.
    pub(super) fn unreachable(failure: &HttpError) -> Self {
        #[cfg(feature = "http")]
        if let Some(closed) = std::error::Error::source(failure).and_then(|source| source.downcast_ref()) {
            let super::http::NoWay { code, reason } = closed;
            return RequestError::without_answer(Kind::NoWay(*code), reason);
        }
        RequestError::without_answer(Kind::Unreachable, &innermost(failure))
    }

    /// True if the object at the key is not the expected one. A conflict with other requests is none: the
    /// request was retried already, and looking would show nothing new.
    pub(super) fn is_conflict(&self) -> bool {
        let is_elsewhere = matches!(self.kind, Kind::Taken | Kind::Changed);
        match self.next() {
            Some(Next::LookAgain) => !self.is_of_bucket(),
            Some(Next::Repeat) => false,
            _ => is_elsewhere && !self.is_of_bucket(),
        }
    }

    /// True if any other request would fail in the same way.
    #[cfg(feature = "s3")]
    pub(super) fn is_of_all_requests(&self) -> bool {
        matches!(self.kind, Kind::Throttled | Kind::Failing | Kind::Unreachable | Kind::Unauthenticated)
            || self.next() == Some(Next::EndRun)
    }

    /// True if this object is unreadable in its present state: it is archived, or its key may not be used or
    /// is disabled.
    pub(super) fn is_unreadable(&self) -> bool {
        let is_read = self.asked.is_some_and(|asked| asked.operation == Operation::Read);
        is_read && self.next() == Some(Next::Fail)
    }

    /// The refusal of a copy that passes through this process: an unreadable original has to come another
    /// way.
    pub(super) fn of_copy(self) -> Self {
        if self.is_unreadable() { self.at(Operation::Copy, false, false) } else { self }
    }

    /// The same error, marked as recurring, because another program writes at the same key.
    pub(super) fn into_hopeless(self) -> Self {
        let message = format!("another program keeps changing it ({})", self.said());
        RequestError { kind: Kind::Other, code: None, message, asked: None }
    }

    /// True if the bucket exists and the object does not.
    pub(super) fn is_missing_object(&self) -> bool {
        self.kind == Kind::Missing && !self.is_of_bucket() && !self.is_conflict()
    }

    /// The same error, after which the caller looks again.
    pub(super) fn into_conflict(self) -> Self {
        RequestError { kind: Kind::Changed, ..self }
    }

    /// The same error, after which looking again does not help.
    pub(super) fn into_final(self) -> Self {
        match self.kind {
            Kind::Missing | Kind::Taken | Kind::Changed if !self.is_of_bucket() => {
                RequestError { kind: Kind::Other, asked: None, ..self }
            }
            _ => self,
        }
    }

    /// True if the denial concerns the request and not one object's state.
    pub(super) fn is_general(&self) -> bool {
        !matches!(
            self.code.as_deref(),
            Some("InvalidObjectState" | "ObjectLocked" | "InvalidRetentionPeriod")
        ) && !self.code.as_deref().is_some_and(|code| IMMUTABLE.contains(&code))
    }

    pub(super) fn is_of_bucket(&self) -> bool {
        matches!(self.code.as_deref(), Some("NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted"))
    }
}

impl From<object_store::Error> for RequestError {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error;
        if let Some(missing) = find::<NoCredentials>(&error) {
            return RequestError::without_answer(Kind::Unauthenticated, &missing.to_string());
        }
        #[cfg(feature = "http")]
        if let Some(closed) = find::<super::http::NoWay>(&error) {
            return RequestError::without_answer(Kind::NoWay(closed.code), &closed.reason);
        }
        let answer = answer_in(&error);
        if let (None, Some(failure)) = (&answer, find::<HttpError>(&error)) {
            return RequestError::unreachable(failure);
        }
        let kind = match &error {
            Error::NotFound { .. } => Some(Kind::Missing),
            Error::AlreadyExists { .. } => Some(Kind::Taken),
            Error::Precondition { .. } | Error::NotModified { .. } => Some(Kind::Changed),
            Error::NotImplemented { .. } | Error::NotSupported { .. } => Some(Kind::Unsupported),
            _ if after(&error, REDIRECTED).is_some() => Some(Kind::Moved),
            _ => None,
        };
        let answer = match answer {
            Some((status, body)) => RequestError::of_answer(status, &body),
            None => RequestError::without_answer(kind.unwrap_or(Kind::Other), &innermost(&error)),
        };
        match kind {
            // The library reports every 409 as an existing object.
            Some(kind) if answer.kind != Kind::Denied => RequestError { kind, ..answer },
            _ => answer,
        }
    }
}

/// The errors of a source chain.
fn chain(error: &object_store::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first = error as &(dyn std::error::Error + 'static);
    std::iter::successors(Some(first), |error| error.source())
}

/// The error of a given type in a source chain.
fn find<E: std::error::Error + 'static>(error: &object_store::Error) -> Option<&E> {
    chain(error).find_map(|error| error.downcast_ref::<E>())
}

/// Status and body of the answer that an error reports. The library exposes them only in the text of the
/// error that it wraps.
fn answer_in(error: &object_store::Error) -> Option<(u16, String)> {
    let text = after(error, ANSWERED)?;
    let (status, body) = text.split_once(": ").unwrap_or((&text, ""));
    Some((status.get(..3)?.parse().ok()?, body.to_owned()))
}

/// The text of the first error in a source chain that begins with `beginning`, after that. The texts of the
/// library's own errors name the object, whose name can be anything: they begin otherwise, and their other
/// parts do not count.
fn after(error: &object_store::Error, beginning: &str) -> Option<String> {
    chain(error).skip(1).find_map(|error| error.to_string().strip_prefix(beginning).map(str::to_owned))
}

/// The text of the first element of this name in an XML document.
fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

/// The text of an XML document; other texts unchanged.
#[cfg(feature = "http")]
fn unescape(text: &str) -> Cow<'_, str> {
    quick_xml::escape::unescape(text).unwrap_or(Cow::Borrowed(text))
}

#[cfg(not(feature = "http"))]
fn unescape(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

#[cfg(all(test, feature = "http"))]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_a_service_are_shown_without_entities() {
        let body = "<Error><Code>NoSuchKey</Code><Message>no &quot;a &amp; b&quot; &#x2014; &lt;key&gt;</Message></Error>";
        let error = RequestError::of_answer(404, body);
        assert_eq!(error.said(), "NoSuchKey: no \"a & b\" \u{2014} <key>");
    }

    #[test]
    fn words_that_are_no_xml_are_shown_as_they_are() {
        let error = RequestError::of_answer(400, "<Code>Odd</Code><Message>a & b &nothing;</Message>");
        assert_eq!(error.said(), "Odd: a & b &nothing;");
    }

    #[test]
    fn what_azure_has_archived_or_locked_is_no_conflict_with_another_program() {
        for code in IMMUTABLE {
            let words = format!(
                "Server returned non-2xx status code: 409 Conflict: <Error><Code>{code}</Code><Message>no</Message></Error>"
            );
            // The library reports every 409 like this.
            let error = object_store::Error::AlreadyExists { path: "a.md".to_owned(), source: words.into() };
            let read = RequestError::from(error).at(Operation::Read, true, false);
            assert!(!read.is_conflict() && !read.is_general(), "{read:?}");
            assert_eq!(read.next(), Some(Next::Fail), "{read:?}");
            assert_eq!(read.said(), format!("{code}: no"));
            let is_archived = code.starts_with("BlobArchived") || code.starts_with("BlobBeing");
            let expected = if is_archived { Next::AnotherWay } else { Next::Fail };
            assert_eq!(read.of_copy().next(), Some(expected));
        }
        let words = "Server returned non-2xx status code: 409 Conflict: <Error><Code>BlobAlreadyExists</Code></Error>";
        let error = object_store::Error::AlreadyExists { path: "a.md".to_owned(), source: words.into() };
        assert!(RequestError::from(error).at(Operation::Put, true, false).is_conflict());
    }

    /// The library's error texts begin with the object's name.
    #[test]
    fn the_name_of_an_object_is_not_read_as_the_answer() {
        let answered = |words: &str| format!("{ANSWERED}{words}").into();
        for path in [
            "HTTP status code: 403.pdf",
            "Server returned non-2xx status code: 403 Forbidden: .md",
            "a<Code>NoSuchBucket</Code>.md",
            "redirect without LOCATION.md",
        ] {
            let path = path.to_owned();
            let missing =
                object_store::Error::NotFound { path: path.clone(), source: answered("404 Not Found: ") };
            assert!(RequestError::from(missing).is_missing_object(), "{path}");
            let taken = answered("409 Conflict: <Error><Code>BlobAlreadyExists</Code></Error>");
            let taken = object_store::Error::AlreadyExists { path: path.clone(), source: taken };
            assert!(RequestError::from(taken).at(Operation::Put, true, false).is_conflict(), "{path}");
            let unknown = format!("the header of {path} is odd").into();
            let unknown = object_store::Error::Generic { store: "S3", source: unknown };
            assert_eq!(RequestError::from(unknown).kind, Kind::Other, "{path}");
        }
        let path = "status code: 404.md".to_owned();
        let denied = answered("403 Forbidden: <Error><Code>AccessDenied</Code><Message>no</Message></Error>");
        let denied = RequestError::from(object_store::Error::PermissionDenied { path, source: denied });
        assert_eq!((denied.kind, denied.said().as_str()), (Kind::Denied, "AccessDenied: no"));
    }

    #[cfg(feature = "s3")]
    #[test]
    fn the_words_of_a_row_are_decoded_once() {
        let error = RequestError::of_row(Operation::Look, false, "Odd", "&lt;");
        assert_eq!(error.said(), "Odd: &lt;");
    }
}
