//! The secret with the credentials, in AWS Secrets Manager.
//!
//! Two forms are valid. The full one has the account and the vaults, each vault by its id or its name:
//!
//! ```json
//! {"auth": {"email": "…", "password": "…", "totp_secret": "…"},
//!  "vaults": {"My Vault": {"password": "…"}, "0123abcd": {
//!    "key": "64 hexadecimal digits", "encryption_version": 3, "salt": "…"}}}
//! ```
//!
//! with `{"token": "…"}` as `auth` if the password stays at home. The flat one has vault passwords only:
//! `{"My Vault": "…"}`. No error repeats anything of a secret, and the parsed secret is wiped from memory
//! when dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use obsync_client::totp::{Generator, NotBase32};
use obsync_client::{Password, Token};
use obsync_net::{ConnectError, NameWait};
use obsync_protocol::{ContentHash, EncryptionVersion, MasterKey};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use crate::choice::Listed;

/// Time limit for retrying a failing resolver.
const NAMES_LIMIT: Duration = Duration::from_secs(90);

/// The contents of a secret.
#[derive(Default)]
pub(crate) struct Secret {
    /// Email address and password of the account.
    pub(crate) credentials: Option<(String, Password)>,
    /// Generates two-factor codes.
    pub(crate) totp: Option<Generator>,
    pub(crate) token: Option<Token>,
    vaults: BTreeMap<String, VaultSecret>,
    /// Hash of its text, to detect changes; `None` if there is no secret.
    hash: Option<ContentHash>,
}

/// The credentials of a vault.
pub(crate) enum VaultSecret {
    /// Its password.
    Password(Password),
    /// The key derived from its password, so that the password stays with its owner.
    Key {
        /// The master key.
        key: MasterKey,
        /// The subject that it was derived for; secrets of early releases lack it.
        of: Option<KeySubject>,
    },
}

/// The vault parameters that a key was derived for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeySubject {
    pub(crate) version: EncryptionVersion,
    pub(crate) salt: String,
}

/// Why there are no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SecretError {
    #[error(
        "there is no secret {name} in this account and region; make it with `obsync credentials export`, or \
         check OBSYNC_SECRET_NAME"
    )]
    Missing { name: String },
    #[error(
        "AWS does not allow the function to read the secret {name} ({reason}); allow its role \
         secretsmanager:GetSecretValue"
    )]
    Forbidden { name: String, reason: String },
    #[error("the secret {name} cannot be read: {reason}")]
    Unavailable { name: String, reason: String },
    #[error("the secret {name} is malformed: {problem}; make it anew with `obsync credentials export`")]
    Malformed { name: String, problem: Malformed },
}

/// The fault in the text of a secret. Repeats nothing of it but the names of fields.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("it has no text")]
    NoText,
    #[error("it is not a JSON object (line {line}, column {column})")]
    NotJson { line: usize, column: usize },
    #[error(
        "at line {line}, column {column} a field is unknown or missing, or its text is empty or no text at all"
    )]
    WrongForm { line: usize, column: usize },
    #[error("\"auth\" needs either \"email\" and \"password\", or \"token\"")]
    BadAuth,
    #[error("\"totp_secret\" {0}")]
    BadTotp(NotBase32),
    #[error("each vault needs either \"password\" or \"key\"; number {number} has not")]
    BadVault { number: usize },
    #[error("the \"key\" of vault number {number} is not 64 hexadecimal digits")]
    BadKey { number: usize },
    #[error(
        "vault number {number} needs both \"encryption_version\" and \"salt\", of a version that obsync knows"
    )]
    BadSubject { number: usize },
}

/// A secret text, wiped when dropped, as parsed from JSON.
struct Text(SecretString);

impl Text {
    fn of_vault(self) -> Password {
        Password::with_origin(self.0, "a vault's password in the secret")
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Take;
        impl Visitor<'_> for Take {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                match text {
                    "" => Err(E::custom("an empty text")),
                    text => Ok(Text(text.into())),
                }
            }
        }
        deserializer.deserialize_str(Take)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    auth: Option<Auth>,
    #[serde(default)]
    vaults: BTreeMap<String, Vault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Auth {
    email: Option<String>,
    password: Option<Text>,
    totp_secret: Option<Text>,
    token: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vault {
    password: Option<Text>,
    key: Option<Text>,
    encryption_version: Option<u64>,
    salt: Option<String>,
}

impl Secret {
    /// Reads the current version of a secret. Waits for a resolver that does not work yet.
    pub(crate) async fn load(client: &Client, name: &str) -> Result<Self, SecretError> {
        let mut names = NameWait::new(NAMES_LIMIT);
        let mut answer = loop {
            match client.get_secret_value().secret_id(name).send().await {
                Ok(answer) => break answer,
                Err(error) if names.pause_after(ConnectError::within(&error).cloned()).await => {}
                Err(error) => return Err(failed(name, &error)),
            }
        };
        let text = Zeroizing::new(answer.secret_string.take().unwrap_or_default());
        let secret = Secret::parse(&text);
        let secret = secret.map_err(|problem| SecretError::Malformed { name: name.to_owned(), problem })?;
        Ok(Secret { hash: Some(ContentHash::of(text.as_bytes())), ..secret })
    }

    /// True if both were parsed from the same text.
    pub(crate) fn is_same(&self, other: &Secret) -> bool {
        self.hash == other.hash
    }

    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        if text.trim().is_empty() {
            return Err(Malformed::NoText);
        }
        // The parser accepts a list as a sequence of fields.
        if !text.trim_start().starts_with('{') {
            return Err(Malformed::NotJson { line: 1, column: 1 });
        }
        let keys: BTreeMap<String, IgnoredAny> = read(text)?;
        let keys: BTreeSet<&str> = keys.keys().map(String::as_str).collect();
        if keys.contains("auth") || keys.contains("vaults") {
            return read::<Full>(text)?.secret();
        }
        let passwords: BTreeMap<String, Text> = read(text)?;
        let vaults =
            passwords.into_iter().map(|(name, password)| (name, VaultSecret::Password(password.of_vault())));
        Ok(Secret { vaults: vaults.collect(), ..Secret::default() })
    }

    /// The credentials of all vaults.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn vaults(&self) -> impl Iterator<Item = &VaultSecret> {
        self.vaults.values()
    }

    /// The credentials of a vault: by its id, else by its name, if that denotes it.
    pub(crate) fn of_vault(&self, vault: &Listed) -> Option<&VaultSecret> {
        let by_name = || self.vaults.get(&vault.info.name).filter(|_| vault.goes_by_name);
        self.vaults.get(vault.info.id.as_str()).or_else(by_name)
    }

    /// True if it has credentials of any vault.
    pub(crate) fn has_vaults(&self) -> bool {
        !self.vaults.is_empty()
    }

    /// True if it has credentials of a vault with this name.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.vaults.contains_key(name)
    }
}

/// The parser's own message would repeat its input.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Malformed> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        match error.is_data() {
            true => Malformed::WrongForm { line, column },
            false => Malformed::NotJson { line, column },
        }
    })
}

impl Full {
    fn secret(self) -> Result<Secret, Malformed> {
        let mut secret = Secret::default();
        if let Some(auth) = self.auth {
            let has_account = auth.email.is_some() && auth.password.is_some();
            if auth.email.is_some() != auth.password.is_some() || (!has_account && auth.token.is_none()) {
                return Err(Malformed::BadAuth);
            }
            let email = auth.email.map(|email| email.trim().to_owned());
            let origin = "the account's password in the secret";
            secret.credentials =
                email.zip(auth.password.map(|password| Password::with_origin(password.0, origin)));
            secret.token = auth.token.map(|token| Token::new(token.0.expose_secret().trim()));
            let totp = auth.totp_secret.map(|totp| Generator::new(&totp.0)).transpose();
            secret.totp = totp.map_err(Malformed::BadTotp)?;
        }
        for (index, (name, vault)) in self.vaults.into_iter().enumerate() {
            secret.vaults.insert(name, vault.secret(index + 1)?);
        }
        Ok(secret)
    }
}

impl Vault {
    fn secret(self, number: usize) -> Result<VaultSecret, Malformed> {
        let of = match (self.encryption_version, self.salt) {
            (Some(version), Some(salt)) => {
                let version = EncryptionVersion::try_from(version);
                let version = version.map_err(|_| Malformed::BadSubject { number })?;
                Some(KeySubject { version, salt })
            }
            (None, None) => None,
            _ => return Err(Malformed::BadSubject { number }),
        };
        match (self.password, self.key) {
            (Some(password), None) => Ok(VaultSecret::Password(password.of_vault())),
            (None, Some(key)) => MasterKey::from_hex(key.0.expose_secret())
                .map(|key| VaultSecret::Key { key, of })
                .map_err(|_| Malformed::BadKey { number }),
            _ => Err(Malformed::BadVault { number }),
        }
    }
}

fn failed(name: &str, error: &SdkError<GetSecretValueError>) -> SecretError {
    let name = name.to_owned();
    let message = error.message().map(str::to_owned);
    let reason = message.unwrap_or_else(|| DisplayErrorContext(error).to_string());
    match error.code() {
        Some("ResourceNotFoundException") => SecretError::Missing { name },
        Some("AccessDeniedException" | "DecryptionFailure" | "DecryptionFailureException") => {
            SecretError::Forbidden { name, reason }
        }
        _ => SecretError::Unavailable { name, reason },
    }
}

#[cfg(test)]
mod tests {
    use obsync_testkit::vault_info;
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn password(secret: &Secret, id: &str, name: &str) -> Option<String> {
        let vault = Listed {
            info: vault_info(id, name),
            listed_name: name.to_owned(),
            is_shared: false,
            goes_by_name: true,
        };
        match secret.of_vault(&vault)? {
            VaultSecret::Password(password) => Some(password.as_given().expose_secret().to_owned()),
            VaultSecret::Key { key, .. } => Some(key.expose_hex().expose_secret().to_owned()),
        }
    }

    #[test]
    fn the_full_form_has_account_and_vaults() {
        let text = format!(
            r#"{{"auth":{{"email":"me@example.com","password":"pw","totp_secret":"GEZDGNBVGY3TQOJQ"}},
                "vaults":{{"id-1":{{"password":"one"}},"My Vault":{{"key":"{KEY}"}}}}}}"#
        );
        let secret = Secret::parse(&text).unwrap();
        assert_eq!(secret.credentials.as_ref().unwrap().0, "me@example.com");
        assert!(secret.totp.is_some() && secret.token.is_none());
        assert_eq!(password(&secret, "id-1", "x").as_deref(), Some("one"));
        assert_eq!(password(&secret, "id-2", "My Vault").as_deref(), Some(KEY));
        assert_eq!(password(&secret, "id-3", "x"), None);
    }

    /// Tests of the program `obsync` compare its export with this very text.
    #[test]
    fn what_obsync_exports_is_understood() {
        let exported = include_str!("../../obsync/tests/program/cloud/exported-secret.json");
        let secret = Secret::parse(exported).unwrap();
        assert_eq!(secret.token.as_ref().unwrap().expose(), "TOKEN");
        assert!(secret.credentials.is_none());
        assert_eq!(password(&secret, "VAULT_ID", "x").as_deref(), Some(KEY));
        let Some(VaultSecret::Key { of: Some(of), .. }) = secret.vaults().next() else { panic!("no key") };
        assert_eq!(of, &KeySubject { version: EncryptionVersion::V3, salt: "SALT".to_owned() });
    }

    #[test]
    fn a_token_stands_for_the_account() {
        let secret = Secret::parse(r#"{"auth":{"token":"t"}}"#).unwrap();
        assert_eq!(secret.token.unwrap().expose(), "t");
        assert!(secret.credentials.is_none());
    }

    #[test]
    fn a_line_break_at_the_end_is_no_part_of_a_word_and_perhaps_none_of_a_password() {
        let text = r#"{"auth":{"email":"me@example.com\n","password":"pw\n","token":"t\n"},"vaults":{"v":{"password":"p\n"}}}"#;
        let secret = Secret::parse(text).unwrap();
        assert_eq!(secret.token.as_ref().unwrap().expose(), "t");
        let (email, account) = secret.credentials.as_ref().unwrap();
        let without = |password: &Password| password.without_line_end().unwrap().expose_secret().to_owned();
        assert_eq!((email.as_str(), without(account).as_str()), ("me@example.com", "pw"));
        let Some(VaultSecret::Password(vault)) = secret.vaults().next() else { panic!("no password") };
        assert_eq!((vault.as_given().expose_secret(), without(vault).as_str()), ("p\n", "p"));
    }

    #[test]
    fn the_flat_form_has_passwords_of_vaults() {
        let secret = Secret::parse(r#"{"id-1":"one","My Vault":"two"}"#).unwrap();
        assert_eq!(password(&secret, "id-1", "My Vault").as_deref(), Some("one"));
        assert_eq!(password(&secret, "id-2", "My Vault").as_deref(), Some("two"));
    }

    #[test]
    fn the_password_of_an_own_vault_is_not_tried_on_a_shared_one_of_the_same_name() {
        let secret = Secret::parse(r#"{"Notes":"one"}"#).unwrap();
        let shared = Listed {
            info: vault_info("b", "Notes"),
            listed_name: "Notes".to_owned(),
            is_shared: true,
            goes_by_name: false,
        };
        assert!(secret.of_vault(&shared).is_none());
    }

    #[test]
    fn what_is_malformed_is_refused_without_repeating_it() {
        for text in [
            "",
            "hunter2",
            "[]",
            r#"["hunter2"]"#,
            r#"{"a": 1}"#,
            r#"{"a": ""}"#,
            r#"{"auth": "hunter2"}"#,
            r#"{"auth": {"email": "hunter2"}}"#,
            r#"{"auth": {"token": "x", "hunter2": "y"}}"#,
            r#"{"auth": {"token": "x", "totp_secret": "hunter2!"}}"#,
            r#"{"vaults": {"hunter2": {}}}"#,
            r#"{"vaults": {"v": {"key": "hunter2"}}}"#,
            r#"{"vaults": {"v": {"password": "hunter2", "salt": "hunter2"}}}"#,
            r#"{"vaults": {"v": {"password": "hunter2", "salt": "hunter2", "encryption_version": 1}}}"#,
            r#"{"vaults": {"v": {"key": "hunter2", "password": "hunter2"}}}"#,
            r#"{"vaults": {}, "more": "hunter2"}"#,
        ] {
            let problem = Secret::parse(text).err().unwrap_or_else(|| panic!("{text}"));
            let error = SecretError::Malformed { name: "s".to_owned(), problem }.to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_be_judged(text in ".{0,80}") {
            let _ = Secret::parse(&text);
            let _ = Secret::parse(&format!("{{\"auth\":{text}}}"));
        }
    }
}
