//! Credentials and settings from the environment, for machines where nobody can be asked.

use std::env;
use std::time::Duration;

use obsync_client::Token;
use obsync_client::totp::{Generator, NotBase32};
use secrecy::SecretString;

use crate::exit::{Exit, Failed};

/// The variable with the vault password.
pub(crate) const VAULT_PASSWORD: &str = "OBSYNC_VAULT_PASSWORD";

/// `OBSIDIAN_EMAIL`.
pub(crate) fn email() -> Result<Option<String>, Failed> {
    variable("OBSIDIAN_EMAIL")
}

/// `OBSIDIAN_PASSWORD`.
pub(crate) fn password() -> Result<Option<SecretString>, Failed> {
    secret("OBSIDIAN_PASSWORD")
}

/// `OBSIDIAN_AUTH_TOKEN`.
pub(crate) fn token() -> Result<Option<Token>, Failed> {
    Ok(secret("OBSIDIAN_AUTH_TOKEN")?.map(Token::new))
}

/// `OBSYNC_VAULT_PASSWORD`.
pub(crate) fn vault_password() -> Result<Option<SecretString>, Failed> {
    secret(VAULT_PASSWORD)
}

/// What makes codes from `OBSIDIAN_TOTP_SECRET`.
pub(crate) fn totp() -> Result<Option<Generator>, Failed> {
    let generator = secret("OBSIDIAN_TOTP_SECRET")?.map(|secret| Generator::new(&secret)).transpose();
    generator.map_err(|NotBase32| {
        Failed::new(
            Exit::Usage,
            "OBSIDIAN_TOTP_SECRET is not a base32 secret; set it to the text that was shown beside the QR code \
             when you turned two-factor authentication on (letters and the digits 2 to 7)",
        )
    })
}

/// `OBSYNC_LEASE_SECONDS`: how long a process that died keeps others out of a destination whose state is in a
/// table.
pub(crate) fn lease() -> Result<Option<Duration>, Failed> {
    let name = "OBSYNC_LEASE_SECONDS";
    let Some(text) = variable(name)? else { return Ok(None) };
    match text.parse() {
        Ok(seconds @ 1..=900) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Failed::new(Exit::Usage, format!("{name} is not a number of seconds from 1 to 900"))),
    }
}

fn secret(name: &str) -> Result<Option<SecretString>, Failed> {
    Ok(variable(name)?.map(SecretString::from))
}

/// An empty variable counts as unset: that is how container tools hand on what is not there.
fn variable(name: &str) -> Result<Option<String>, Failed> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => {
            Err(Failed::new(Exit::Usage, format!("{name} is not UTF-8 text")))
        }
    }
}
