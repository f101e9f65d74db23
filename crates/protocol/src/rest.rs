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

/// What to say for an application error that came without text.
const NO_REASON: &str = "the service gave no reason";

/// The body of a call.
pub trait RestRequest: Serialize {
    /// Where it is posted, below the base URL.
    const PATH: &'static str;
    /// What the service answers.
    type Reply: RestReply;
    /// The longest answer that is read, in bytes.
    const LONGEST_ANSWER: usize = limits::REST_ANSWER;
}

/// The body of an answer.
pub trait RestReply: Sized {
    /// Reads the body of a 2xx answer. Fields that are not known are passed over.
    ///
    /// # Errors
    /// [`RestError::Service`] when the body has an `error`, [`RestError::Message`] when it is not what was
    /// expected. Neither shows anything else of the body.
    fn parse(body: &[u8]) -> Result<Self, RestError>;
}

/// Why an answer holds no result.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestError {
    /// The service refused: its own words, without control characters. They may repeat secrets: whoever shows them takes
    /// these out first, and shortens the text then.
    #[error("the service answered: {0}")]
    Service(String),
    /// The body is not what it should be.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// An application error, as a service sends it with status 200.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceError {
    /// The reason, for people; clients look for known parts of it.
    pub error: String,
}

/// Reads a body: refuses it when it has an `error`, and passes its fields on otherwise.
fn read<T>(
    body: &[u8],
    name: &'static str,
    lists: Lists,
    fields: impl FnOnce(&Message<'_, '_>) -> Result<T, MessageError>,
) -> Result<T, RestError> {
    let text = std::str::from_utf8(body).map_err(|error| {
        // A position in bytes is all that can be said of a body that is no text.
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
