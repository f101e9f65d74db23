//! The session token that a sign-in gives.

use std::fmt;

use obsync_protocol::{ExposeSecret, SecretString};

/// The session token of a sign-in. It is as powerful as the password, so it is wiped from memory when dropped
/// and `Debug` does not show it.
#[derive(Clone)]
pub struct Token(SecretString);

impl Token {
    /// Wraps a token kept from an earlier sign-in.
    pub fn new(token: impl Into<SecretString>) -> Self {
        Self(token.into())
    }

    /// The token itself. Store it only where nobody but its owner can read it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    pub(crate) fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([hidden])")
    }
}
