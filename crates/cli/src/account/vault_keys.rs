//! The keys of a vault: from a stored key, or else from the service's or the user's password.
//!
//! All returned keys are confirmed by `/vault/access`, so a wrong password is reported before anything is
//! written.

use obsync_client::{Client, ClientError, Password, Token};
use obsync_core::ProblemCode;
use obsync_protocol::{EncryptionVersion, MasterKey, VaultInfo, VaultKeys};
use secrecy::{ExposeSecret, SecretString};

use crate::account::admission::Admitted;
use crate::account::keys::Subject;
use crate::account::password::{from_command, refused};
use crate::context::Context;
use crate::environment;
use crate::exit::{Exit, Failed};
use crate::ui::ask;

/// Most prompts for a password on a terminal.
const ATTEMPTS: u32 = 3;

/// A vault to unlock.
pub(crate) struct Lock<'a> {
    /// The program's surroundings.
    pub(crate) context: &'a Context,
    /// The client of the service.
    pub(crate) client: &'a Client,
    /// The session token.
    pub(crate) token: &'a Token,
    pub(crate) vault: &'a VaultInfo,
    /// A program that prints the vault's password.
    pub(crate) password_command: Option<&'a str>,
}

/// A vault's keys, as confirmed by the service.
pub(crate) struct Unlocked {
    /// Derived from the password.
    pub(crate) master: MasterKey,
    /// Derived from `master`.
    pub(crate) keys: VaultKeys,
}

impl Lock<'_> {
    /// Finds keys that open an admitted vault. `password_stdin`: the user pipes the password in.
    ///
    /// # Errors
    /// When a password is wrong or missing; errors of the service.
    pub(crate) async fn open(&self, admitted: &Admitted, password_stdin: bool) -> Result<Unlocked, Failed> {
        let version = self.vault.encryption().map_err(|error| Failed::of(Exit::Error, &error))?;
        let subject = Subject::new(self.context.api_url(), &self.vault.id, &self.vault.salt, version);
        if let Some(password) = &self.vault.password {
            self.client.redactor().know(password.expose_secret());
            return self.open_managed(password, version, &subject.with_password_of_the_service()).await;
        }
        if password_stdin {
            let password = ask::first_line_of_stdin("vault password").await?;
            return self.open_and_keep(&password, version, &subject, admitted).await;
        }
        // The password proves that a vault with another encryption is the user's own.
        let kept = match admitted.accepts_change() {
            true => None,
            false => self.context.key_file().load(&subject, &self.context.console)?,
        };
        let kept_is_stale = kept.is_some();
        if let Some(unlocked) = self.open_with_kept(kept, version).await? {
            return Ok(unlocked);
        }
        match self.given_password(admitted).await? {
            Some(password) => self.open_with_given(&password, version, &subject, admitted).await,
            None if ask::can_ask() => self.open_by_asking(version, &subject, admitted, kept_is_stale).await,
            None => Err(Failed::new(Exit::SignIn, missing(&self.vault.name, kept_is_stale))
                .coded(ProblemCode::VaultPassword)),
        }
    }

    /// Opens a vault with a given password, and stores the key.
    ///
    /// # Errors
    /// When the password is wrong; errors of the service.
    pub(crate) async fn open_with(
        &self,
        password: &SecretString,
        admitted: &Admitted,
    ) -> Result<Unlocked, Failed> {
        let version = self.vault.encryption().map_err(|error| Failed::of(Exit::Error, &error))?;
        let subject = Subject::new(self.context.api_url(), &self.vault.id, &self.vault.salt, version);
        self.open_and_keep(password, version, &subject, admitted).await
    }

    /// A stored key only saves its derivation, so failures to write the file are only logged. The stored one
    /// is tried first: the service, which knows the password, refuses one derived from another.
    async fn open_managed(
        &self,
        password: &SecretString,
        version: EncryptionVersion,
        subject: &Subject,
    ) -> Result<Unlocked, Failed> {
        let (file, console) = (self.context.key_file(), &self.context.console);
        let kept = file.load(subject, console).unwrap_or_else(|failed| {
            tracing::debug!(%failed, "the vault's key is derived, as the kept one cannot be read");
            None
        });
        if let Some(unlocked) = self.open_with_kept(kept, version).await? {
            return Ok(unlocked);
        }
        let unlocked = self.if_accepted(self.derive(password).await?, version).await?;
        if let Err(failed) = file.save(subject, &unlocked.master, console) {
            tracing::debug!(%failed, "the vault's key could not be stored");
        }
        Ok(unlocked)
    }

    /// `None` when there is no stored key, or it does not open the vault any more.
    async fn open_with_kept(
        &self,
        kept: Option<MasterKey>,
        version: EncryptionVersion,
    ) -> Result<Option<Unlocked>, ClientError> {
        let Some(master) = kept else { return Ok(None) };
        match self.if_accepted(master, version).await {
            Err(ClientError::WrongVaultPassword) => Ok(None),
            result => result.map(Some),
        }
    }

    async fn given_password(&self, admitted: &Admitted) -> Result<Option<Password>, Failed> {
        match self.password_command {
            Some(command) => from_command(command, "vault password").await.map(Some),
            // Given for this run: a variable may have been set for years.
            None if admitted.accepts_change() => Ok(None),
            None => environment::vault_password(),
        }
    }

    /// Tries the password unchanged, then without the line break at its end.
    async fn open_with_given(
        &self,
        password: &Password,
        version: EncryptionVersion,
        subject: &Subject,
        admitted: &Admitted,
    ) -> Result<Unlocked, Failed> {
        let Some(other) = password.without_line_end() else {
            return self.open_and_keep(password.as_given(), version, subject, admitted).await;
        };
        self.client.redactor().know(other.expose_secret());
        match self.open_and_keep(password.as_given(), version, subject, admitted).await {
            Err(failed) if failed.exit == Exit::SignIn => {
                let unlocked = self.open_and_keep(other, version, subject, admitted).await;
                let unlocked = unlocked.map_err(|failed| refused(password, failed))?;
                password.warn_of_line_end();
                Ok(unlocked)
            }
            opened => opened,
        }
    }

    async fn open_by_asking(
        &self,
        version: EncryptionVersion,
        subject: &Subject,
        admitted: &Admitted,
        kept_is_stale: bool,
    ) -> Result<Unlocked, Failed> {
        if kept_is_stale {
            ask::tell("The stored key no longer opens the vault: its password was changed.");
        }
        let mut attempt = 1;
        loop {
            let password = ask::secret(format!("Password of the vault {:?}: ", self.vault.name)).await?;
            match self.open_and_keep(&password, version, subject, admitted).await {
                Err(failed) if failed.exit == Exit::SignIn && attempt < ATTEMPTS => {
                    attempt += 1;
                    ask::tell(&failed.message);
                }
                result => return result,
            }
        }
    }

    async fn open_and_keep(
        &self,
        password: &SecretString,
        version: EncryptionVersion,
        subject: &Subject,
        admitted: &Admitted,
    ) -> Result<Unlocked, Failed> {
        let master = self.derive(password).await?;
        if admitted.is_other_key(&master) {
            return Err(Failed::new(Exit::SignIn, other_password(&self.vault.name)));
        }
        let unlocked = self.if_accepted(master, version).await?;
        if let Err(failed) = self.context.key_file().save(subject, &unlocked.master, &self.context.console) {
            self.context.console.warn(&format!("the vault's key could not be stored: {failed}"));
        }
        Ok(unlocked)
    }

    /// scrypt takes tens of milliseconds, too long for a thread of the runtime.
    async fn derive(&self, password: &SecretString) -> Result<MasterKey, Failed> {
        self.client.redactor().know(password.expose_secret());
        let (password, salt) = (password.clone(), self.vault.salt.clone());
        tokio::task::spawn_blocking(move || MasterKey::derive(&password, &salt))
            .await
            .map_err(|error| Failed::cannot("derive the vault's key", &error))
    }

    async fn if_accepted(
        &self,
        master: MasterKey,
        version: EncryptionVersion,
    ) -> Result<Unlocked, ClientError> {
        let keys = VaultKeys::new(&master, version, &self.vault.salt);
        self.client.check_access(self.token, self.vault, keys.key_hash()).await?;
        Ok(Unlocked { master, keys })
    }
}

fn other_password(vault: &str) -> String {
    format!(
        "this is not the password that opened the vault {vault:?} before; nothing was sent. If you changed the password, \
         run the same command with --accept-encryption-change (docs/SEMANTICS.md, \"Encryption that changes\")"
    )
}

fn missing(vault: &str, kept_is_stale: bool) -> String {
    let reason = if kept_is_stale {
        "the stored key no longer opens it, as its password was changed"
    } else {
        "it is end-to-end encrypted"
    };
    format!(
        "the password of the vault {vault:?} is needed ({reason}); pipe it in with --password-stdin, or set {0} or {0}_FILE",
        environment::VAULT_PASSWORD
    )
}
