//! The session token that a sign-in gives.

use std::fmt;

use obsync_protocol::{ExposeSecret, SecretString};

/// What proves a sign-in to the service. It is as good as the password, so it is wiped from memory when
/// dropped and `Debug` does not show it.
#[derive(Clone)]
pub struct Token(SecretString);

impl Token {
    /// Takes a token that was kept from an earlier sign-in.
    pub fn new(token: impl Into<SecretString>) -> Self {
        Self(token.into())
    }

    /// The token itself, to be kept in a place that only its owner can read.
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
