//! Credentials and settings from the environment, for unattended use.

use std::env;
use std::path::Path;
use std::time::Duration;

use obsync_client::totp::{Generator, NotBase32};
use obsync_client::{Password, Token, secret_from_file};
use secrecy::{ExposeSecret, SecretString};

use crate::exit::{Exit, Failed};

/// The variable with the vault password.
pub(crate) const VAULT_PASSWORD: &str = "OBSYNC_VAULT_PASSWORD";
/// The variable with the address of a monitor.
const PING_URL: &str = "OBSYNC_PING_URL";

/// `OBSIDIAN_EMAIL`, or the file that `OBSIDIAN_EMAIL_FILE` names: setups with a password in a file have the
/// address there, too.
pub(crate) fn email() -> Result<Option<String>, Failed> {
    let email = word("OBSIDIAN_EMAIL", "OBSIDIAN_EMAIL_FILE")?;
    Ok(email.map(|email| email.expose_secret().to_owned()))
}

/// `OBSIDIAN_PASSWORD`, or the file that `OBSIDIAN_PASSWORD_FILE` names.
pub(crate) fn password() -> Result<Option<Password>, Failed> {
    secret("OBSIDIAN_PASSWORD", "OBSIDIAN_PASSWORD_FILE")
}

/// `OBSIDIAN_AUTH_TOKEN`, or the file that `OBSIDIAN_AUTH_TOKEN_FILE` names.
pub(crate) fn token() -> Result<Option<Token>, Failed> {
    Ok(word("OBSIDIAN_AUTH_TOKEN", "OBSIDIAN_AUTH_TOKEN_FILE")?.map(Token::new))
}

/// `OBSYNC_VAULT_PASSWORD`, or the file that `OBSYNC_VAULT_PASSWORD_FILE` names.
pub(crate) fn vault_password() -> Result<Option<Password>, Failed> {
    secret(VAULT_PASSWORD, "OBSYNC_VAULT_PASSWORD_FILE")
}

/// The code generator of `OBSIDIAN_TOTP_SECRET`, or of the file that `OBSIDIAN_TOTP_SECRET_FILE` names.
pub(crate) fn totp() -> Result<Option<Generator>, Failed> {
    let secret = word("OBSIDIAN_TOTP_SECRET", "OBSIDIAN_TOTP_SECRET_FILE")?;
    secret.map(|secret| Generator::new(&secret)).transpose().map_err(|NotBase32| {
        Failed::new(
            Exit::Usage,
            "OBSIDIAN_TOTP_SECRET is not a base32 secret; set it to the text that was shown beside the QR code \
             when you turned two-factor authentication on (letters and the digits 2 to 7)",
        )
    })
}

/// `OBSYNC_PING_URL`, or the file that `OBSYNC_PING_URL_FILE` names: the address is as sensitive as a
/// password.
pub(crate) fn ping_url() -> Result<Option<SecretString>, Failed> {
    word(PING_URL, "OBSYNC_PING_URL_FILE")
}

/// True if `OBSYNC_PING_URL` is set.
pub(crate) fn has_ping_url() -> Result<bool, Failed> {
    Ok(variable(PING_URL)?.is_some())
}

/// `OBSYNC_LEASE_SECONDS`: how long the lease of a dead process blocks a destination whose state is in a
/// table.
pub(crate) fn lease() -> Result<Option<Duration>, Failed> {
    let name = "OBSYNC_LEASE_SECONDS";
    let Some(text) = variable(name)? else { return Ok(None) };
    match text.parse() {
        Ok(seconds @ 1..=900) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Failed::new(Exit::Usage, format!("{name} is not a number of seconds from 1 to 900"))),
    }
}

/// A secret without the spaces and line breaks around it.
fn word(name: &'static str, file: &'static str) -> Result<Option<SecretString>, Failed> {
    let secret = secret(name, file)?;
    let word = secret.map(|secret| SecretString::from(secret.as_given().expose_secret().trim()));
    Ok(word.filter(|word| !word.expose_secret().is_empty()))
}

/// The secret in the variable `name`, or in the file that the variable `file` names, as in Docker and
/// Kubernetes.
fn secret(name: &'static str, file: &'static str) -> Result<Option<Password>, Failed> {
    match (variable(name)?, variable(file)?) {
        (Some(_), Some(_)) => {
            Err(Failed::new(Exit::Usage, format!("both {name} and {file} are set; unset one of them")))
        }
        (Some(value), None) => Ok(Some(Password::with_origin(value.into(), name))),
        (None, Some(path)) => match secret_from_file(Path::new(&path)) {
            Ok(secret) => Ok(Some(Password::exactly(secret))),
            Err(error) => Err(Failed::new(
                Exit::Usage,
                format!("cannot read the file {path} that {file} names: {error}"),
            )),
        },
        (None, None) => Ok(None),
    }
}

/// An empty variable counts as unset: container tools pass missing values on like that.
fn variable(name: &str) -> Result<Option<String>, Failed> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => {
            Err(Failed::new(Exit::Usage, format!("{name} is not UTF-8 text")))
        }
    }
}
