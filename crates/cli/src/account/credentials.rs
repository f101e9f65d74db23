//! Tokens of earlier sign-ins, by the service that issued them: a token never goes to another address.

use std::collections::BTreeMap;

use obsync_client::Token;
use obsync_protocol::limits;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::exit::Failed;
use crate::home::Home;
use crate::private_file::{self, PrivateFile};
use crate::ui::console::Console;

/// The file `credentials.json`.
#[derive(Debug)]
pub(crate) struct Credentials {
    file: PrivateFile,
}

/// A stored token, with its account.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    /// Grants access to the account.
    pub(crate) token: Token,
    /// The account's email address.
    pub(crate) email: String,
}

/// The format of the file.
#[derive(Default, Serialize, Deserialize)]
struct CredentialsFile {
    #[serde(default)]
    accounts: BTreeMap<String, StoredAccount>,
}

#[derive(Serialize, Deserialize)]
struct StoredAccount {
    #[serde(with = "crate::account::secret_text")]
    token: SecretString,
    #[serde(default)]
    email: String,
}

impl private_file::Content for CredentialsFile {
    fn drop_oversized(&mut self) {
        self.accounts.retain(|_, account| {
            account.token.expose_secret().len() <= limits::TOKEN && account.email.len() <= limits::NAME
        });
    }
}

impl Credentials {
    /// The file at its path; it need not exist.
    pub(crate) fn new(home: &Home) -> Self {
        let remedy = "remove it and sign in again with `obsync login`";
        Credentials { file: PrivateFile::new(home.config(), "credentials.json", remedy) }
    }

    /// The token for the service at `api_url`, if there is one.
    pub(crate) fn load(&self, api_url: &Url, console: &Console) -> Result<Option<Saved>, Failed> {
        let mut content: CredentialsFile = self.file.read(console)?;
        for account in content.accounts.values() {
            console.redactor().know(account.token.expose_secret());
        }
        Ok(content
            .accounts
            .remove(api_url.as_str())
            .map(|account| Saved { token: Token::new(account.token.expose_secret()), email: account.email }))
    }

    /// The addresses of the services with a stored token.
    pub(crate) fn services(&self, console: &Console) -> Result<Vec<String>, Failed> {
        let content: CredentialsFile = self.file.read(console)?;
        Ok(content.accounts.into_keys().collect())
    }

    /// Replaces the stored token.
    pub(crate) fn save(&self, api_url: &Url, saved: &Saved, console: &Console) -> Result<(), Failed> {
        self.file.update(console, |content: &mut CredentialsFile| {
            let account = StoredAccount { token: saved.token.expose().into(), email: saved.email.clone() };
            content.accounts.insert(api_url.to_string(), account);
            true
        })
    }

    /// Removes the token for the service at `api_url`.
    pub(crate) fn forget(&self, api_url: &Url, console: &Console) -> Result<(), Failed> {
        self.file.update(console, |content: &mut CredentialsFile| {
            content.accounts.remove(api_url.as_str()).is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_only_found_under_the_address_that_gave_it() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::find(Some(directory.path().into())).unwrap();
        let (credentials, console) = (Credentials::new(&home), Console::new(true));
        let (mine, other) = (
            Url::parse("https://api.obsidian.md").unwrap(),
            Url::parse("https://api.obsidian.md.example").unwrap(),
        );
        let saved = Saved { token: Token::new("t0ken"), email: "me@example.com".to_owned() };
        credentials.save(&mine, &saved, &console).unwrap();
        assert_eq!(credentials.load(&mine, &console).unwrap().unwrap().token.expose(), "t0ken");
        assert!(credentials.load(&other, &console).unwrap().is_none());
        credentials.forget(&other, &console).unwrap();
        assert!(credentials.load(&mine, &console).unwrap().is_some());
        credentials.forget(&mine, &console).unwrap();
        assert!(credentials.load(&mine, &console).unwrap().is_none());
    }

    #[test]
    fn debug_output_has_no_token() {
        let saved = Saved { token: Token::new("t0ken"), email: String::new() };
        assert!(!format!("{saved:?}").contains("t0ken"));
    }
}
