//! REST calls: sign-in and sign-out, listing and creating vaults (docs/PROTOCOL.md section 2).

use obsync_protocol::limits::HANDED_OUT_PASSWORDS_KNOWN;
use obsync_protocol::{
    CreateVaultRequest, CreatedVault, DeleteVaultRequest, ExposeSecret, KeyHash, MasterKey, Region,
    RegionsRequest, SUPPORTED_ENCRYPTION_VERSION, SecretString, SignInRequest, SignOutRequest, UserInfo,
    UserInfoRequest, VaultAccessRequest, VaultId, VaultInfo, VaultKeys, VaultList, VaultListRequest,
};
use tracing::warn;

use crate::client::{Client, Manner, Repeat};
use crate::error::ClientError;
use crate::token::Token;

/// The answer to a sign-in.
#[derive(Clone, Debug)]
pub struct SignedIn {
    /// The session token.
    pub token: Token,
    /// The user's name.
    pub name: String,
    /// The account's email.
    pub email: String,
}

/// A vault to create.
#[derive(Clone, Debug)]
pub struct NewVault {
    /// The vault's name.
    pub name: String,
    /// Where to keep it; "" lets the service choose.
    pub region: String,
    /// Who knows the vault password.
    pub encryption: NewVaultEncryption,
}

/// Who knows the password of a new vault.
#[derive(Clone, Debug)]
pub enum NewVaultEncryption {
    /// The service generates and stores it.
    Managed,
    /// Only the user knows it.
    EndToEnd {
        /// Proof of the password (key hash) of the newest encryption version.
        key_hash: KeyHash,
        /// Salt of the key derivation: 16 random bytes in hexadecimal.
        salt: String,
    },
}

impl NewVaultEncryption {
    /// A password that only the user knows, with a fresh salt, and the keys that open the vault. Takes 32 MiB
    /// and tens of milliseconds of processor time: call it outside the async runtime.
    ///
    /// # Errors
    /// [`ClientError::Randomness`].
    pub fn end_to_end(password: &SecretString) -> Result<(Self, VaultKeys), ClientError> {
        let mut salt = [0; 16];
        getrandom::fill(&mut salt).map_err(|error| ClientError::randomness(&error))?;
        let salt = format!("{:032x}", u128::from_be_bytes(salt));
        let master = MasterKey::derive(password, &salt);
        let keys = VaultKeys::new(&master, SUPPORTED_ENCRYPTION_VERSION, &salt);
        Ok((Self::EndToEnd { key_hash: keys.key_hash().clone(), salt }, keys))
    }
}

impl Client {
    /// Signs in. `mfa` is the six-digit code of an account with two-factor authentication.
    ///
    /// # Errors
    /// [`ClientError::WrongCredentials`], [`ClientError::MfaRequired`] and [`ClientError::MfaWrong`] are
    /// final; transient errors are returned only after retries.
    pub async fn sign_in(
        &self,
        email: &str,
        password: &SecretString,
        mfa: Option<&str>,
    ) -> Result<SignedIn, ClientError> {
        let redactor = self.redactor();
        redactor.know(password.expose_secret());
        redactor.know(mfa.unwrap_or_default());
        let mfa = SecretString::from(mfa.unwrap_or_default());
        let request = SignInRequest { email: email.to_owned(), password: password.clone(), mfa };
        let signed_in = self.call(&request, Manner::FromWebSite, Repeat::Harmless).await?;
        let token = Token::new(signed_in.token);
        redactor.know(token.expose());
        let [name, email] =
            [signed_in.name, signed_in.email].map(|text| redactor.take_out(&text).into_owned());
        Ok(SignedIn { token, name, email })
    }

    /// Signs out: the token becomes invalid.
    ///
    /// # Errors
    /// [`ClientError::NotSignedIn`] if the token is invalid already; network errors.
    pub async fn sign_out(&self, token: &Token) -> Result<(), ClientError> {
        let request = SignOutRequest { token: self.known(token) };
        self.call(&request, Manner::Plain, Repeat::Harmless).await.map(|_| ())
    }

    /// The user that the token belongs to.
    ///
    /// # Errors
    /// [`ClientError::NotSignedIn`] if the service rejects the token; network errors.
    pub async fn user_info(&self, token: &Token) -> Result<UserInfo, ClientError> {
        let request = UserInfoRequest { token: self.known(token) };
        let info = self.call(&request, Manner::Plain, Repeat::Harmless).await?;
        let own = |text: String| self.redactor().take_out(&text).into_owned();
        Ok(UserInfo { uid: own(info.uid), name: own(info.name), email: own(info.email), ..info })
    }

    /// The account's vaults: its own, then those that others share with it.
    ///
    /// # Errors
    /// [`ClientError::NotSignedIn`] if the service rejects the token; network errors.
    pub async fn vaults(&self, token: &Token) -> Result<Vec<VaultInfo>, ClientError> {
        let mut list = self.vault_list(token).await?;
        list.vaults.append(&mut list.shared);
        Ok(list.vaults)
    }

    /// The account's vaults, own and shared ones in separate lists.
    ///
    /// # Errors
    /// As for [`Client::vaults`].
    pub async fn vault_list(&self, token: &Token) -> Result<VaultList, ClientError> {
        let request = VaultListRequest {
            token: self.known(token),
            supported_encryption_version: SUPPORTED_ENCRYPTION_VERSION,
        };
        let mut list = self.call(&request, Manner::Plain, Repeat::Harmless).await?;
        let before = list.vaults.len() + list.shared.len();
        for vaults in [&mut list.vaults, &mut list.shared] {
            // Ids are used unescaped in files, tables and reports.
            vaults.retain(|vault| !self.redactor().is_repeated_in(vault.id.as_str()));
            for vault in vaults.iter_mut() {
                vault.region = self.redactor().take_out(&vault.region).into_owned();
            }
        }
        list.unreadable += before - list.vaults.len() - list.shared.len();
        // Not the passwords of all vaults: every text is searched for every secret, and the service may list
        // thousands of vaults. Opening a vault adds its password.
        let passwords = list.vaults.iter().chain(&list.shared).filter_map(|vault| vault.password.as_ref());
        for password in passwords.take(HANDED_OUT_PASSWORDS_KNOWN) {
            self.redactor().know(password.expose_secret());
        }
        if list.unreadable > 0 {
            warn!(
                vaults = list.unreadable,
                "the service lists vaults that cannot be read; they are passed over"
            );
        }
        Ok(list)
    }

    /// Regions in which a new vault can be stored.
    ///
    /// # Errors
    /// As for [`Client::vaults`].
    pub async fn regions(&self, token: &Token) -> Result<Vec<Region>, ClientError> {
        let request = RegionsRequest { token: self.known(token), host: None };
        self.call(&request, Manner::Plain, Repeat::Harmless).await.map(|reply| reply.regions)
    }

    /// Creates a vault. Not retried if the connection breaks before the answer: that could create two.
    ///
    /// # Errors
    /// As for [`Client::vaults`], and [`ClientError::Service`] when the account's number of vaults is used
    /// up.
    pub async fn create_vault(&self, token: &Token, vault: NewVault) -> Result<CreatedVault, ClientError> {
        let (keyhash, salt) = match vault.encryption {
            NewVaultEncryption::Managed => (None, None),
            NewVaultEncryption::EndToEnd { key_hash, salt } => (Some(key_hash), Some(salt)),
        };
        let request = CreateVaultRequest {
            token: self.known(token),
            name: vault.name,
            keyhash,
            salt,
            region: vault.region,
            encryption_version: SUPPORTED_ENCRYPTION_VERSION,
        };
        self.call(&request, Manner::Plain, Repeat::Unsent).await
    }

    /// Deletes a vault with all that is in it.
    ///
    /// # Errors
    /// As for [`Client::vaults`], and [`ClientError::Service`] when the service refuses.
    pub async fn delete_vault(&self, token: &Token, vault: &VaultId) -> Result<(), ClientError> {
        let request = DeleteVaultRequest { token: self.known(token), vault_uid: vault.clone() };
        self.call(&request, Manner::Plain, Repeat::Unsent).await.map(|_| ())
    }

    /// Asks the service to check a vault's key.
    ///
    /// # Errors
    /// [`ClientError::WrongVaultPassword`] if the key is not the vault's.
    pub async fn check_access(
        &self,
        token: &Token,
        vault: &VaultInfo,
        key_hash: &KeyHash,
    ) -> Result<(), ClientError> {
        let encryption_version =
            vault.encryption().map_err(|error| ClientError::Service { message: error.to_string() })?;
        let request = VaultAccessRequest {
            token: self.known(token),
            vault_uid: vault.id.clone(),
            keyhash: key_hash.clone(),
            host: vault.host.clone(),
            encryption_version,
        };
        match self.call(&request, Manner::Plain, Repeat::Harmless).await {
            Ok(_) => Ok(()),
            // A refusal in unknown words means a wrong key (docs/PROTOCOL.md section 2).
            Err(ClientError::Service { .. }) => Err(ClientError::WrongVaultPassword),
            Err(error) => Err(error),
        }
    }
}

impl Client {
    /// The token for a request. Registers it as a secret, so that errors never repeat it.
    fn known(&self, token: &Token) -> SecretString {
        self.redactor().know(token.expose());
        token.secret().clone()
    }
}
