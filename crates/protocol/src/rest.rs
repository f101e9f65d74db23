//! The bodies of the HTTP calls, in both directions (docs/PROTOCOL.md section 2).
//!
//! A call is a POST of a [`RestRequest`] to its [`RestRequest::PATH`]; the body of a 2xx answer is read by
//! [`RestReply::parse`]. An application error comes with status 200 too, and is [`RestError::Service`].

mod replies;
mod requests;

pub use replies::{CreatedVault, Done, Region, Regions, SignedIn, UserInfo, VaultInfo, VaultList};
pub use requests::{
    CreateVaultRequest, DeleteVaultRequest, RegionsRequest, SUPPORTED_ENCRYPTION_VERSION, SignInRequest,
    SignOutRequest, UserInfoRequest, VaultAccessRequest, VaultListRequest,
};

use serde::Serialize;
use thiserror::Error;

use crate::json::{self, Lists, Message, MessageError};
use crate::limits;

/// The reason of an application error without text.
const NO_REASON: &str = "the service gave no reason";

/// The body of a call.
pub trait RestRequest: Serialize {
    /// Its path, below the base URL.
    const PATH: &'static str;
    /// The service's answer.
    type Reply: RestReply;
    /// Limit of the answer, in bytes.
    const LONGEST_ANSWER: usize = limits::REST_ANSWER;
}

/// The body of an answer.
pub trait RestReply: Sized {
    /// Parses the body of a 2xx answer. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`RestError::Service`] if the body has an `error`, [`RestError::Message`] if it is not as expected.
    /// Neither shows anything else of the body.
    fn parse(body: &[u8]) -> Result<Self, RestError>;
}

/// The reason why an answer has no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestError {
    /// The service refused: its own words, without control characters. They may repeat secrets: redact them
    /// before showing them, and shorten the text only after that.
    #[error("the service answered: {0}")]
    Service(String),
    /// The body is not as expected.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// An application error, as a service sends it with status 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceError {
    /// The reason, for people; clients look for known parts of it.
    pub error: String,
}

/// Reads a body: refuses it if it has an `error`, and passes its fields to `take` otherwise.
fn read<T>(
    body: &[u8],
    name: &'static str,
    lists: Lists,
    fields: impl FnOnce(&Message<'_, '_>) -> Result<T, MessageError>,
) -> Result<T, RestError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        // For a body that is no text, only a position in bytes can be given.
        MessageError::NotJson { message: name, line: 1, column: error.valid_up_to() + 1 }
    })?;
    let parsed = json::parse(text, name, lists)?;
    let message = parsed.named(name);
    if message.has("error") {
        let reason = message.complaint("error").unwrap_or_default();
        let reason = json::reason(&reason);
        return Err(RestError::Service(if reason.is_empty() { NO_REASON.to_owned() } else { reason }));
    }
    Ok(fields(&message)?)
}
