//! Serialises secrets: the only place where serialisation sees them.

use secrecy::{ExposeSecret, SecretString};
use serde::Serializer;

/// For `#[serde(serialize_with)]`: writes the secret itself. `SecretString` has no `Serialize` on purpose.
pub(crate) fn expose<S: Serializer>(secret: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose_secret())
}

/// For `#[serde(serialize_with)]`: the secret, or an empty text if there is none.
pub(crate) fn expose_or_empty<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.as_ref().map_or("", |secret| secret.expose_secret()))
}
