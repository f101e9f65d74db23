//! Keeps the state of one process between invocations: clients, the secret, the token, and the keys of
//! vaults.
//!
//! Nothing of a run is kept: states, stores and reports are created anew each time. After a refusal of the
//! service one item is renewed once: the token if that was refused, the secret's credentials if a vault does
//! not open. Neither affects anything else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use obsync_bucket::load_aws_config;
use obsync_client::totp::Generator;
use obsync_client::{Client, ClientError, Password, SignIn, Token};
use obsync_core::pin::{FoundPin, Opening, Pin, VaultEncryption, VaultKind};
use obsync_core::{ProblemCode, StateError};
use obsync_dynamodb::{DynamoOptions, DynamoTable};
use obsync_protocol::{
    EncryptionVersion, MasterKey, UnsupportedEncryption, VaultId, VaultInfo, VaultKeys, VaultList, short_name,
};
use secrecy::SecretString;
use tokio::sync::Mutex as AsyncMutex;
use url::Url;

use crate::choice::{Listed, Means};
use crate::config::Config;
use crate::secrets::{Secret, SecretError, VaultSecret};
use crate::trust::{self, Distrust, Knowledge};

/// Timeout of one attempt at an AWS call.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);
/// Timeout of an AWS call with all its attempts.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// Age from which the secret is read again for a vault without credentials in it.
const SECRET_AGE: Duration = Duration::from_secs(5 * 60);

/// State of a process.
pub(crate) struct Warm {
    /// The settings.
    pub(crate) config: Config,
    /// The table of states.
    pub(crate) table: DynamoTable,
    /// The configuration of AWS clients.
    pub(crate) aws: aws_config::SdkConfig,
    /// The address of the service, as in pins.
    service: String,
    secrets: aws_sdk_secretsmanager::Client,
    account: AsyncMutex<Option<Arc<Account>>>,
    /// Keys that the service accepted.
    keys: Mutex<HashMap<Subject, VaultKeys>>,
    /// Keys are derived one at a time: each takes 32 MiB of memory for a moment (docs/PROTOCOL.md section 1).
    deriving: Arc<AsyncMutex<()>>,
}

/// An account that is signed in to.
pub(crate) struct Account {
    /// Its session token.
    pub(crate) token: Token,
    secret: Secret,
    /// When the secret was read.
    read: Instant,
}

/// The subject of derived keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    vault: VaultId,
    salt: String,
    version: EncryptionVersion,
    /// The service provided the password. Such a key opens no vault that is listed without one.
    is_handed_out: bool,
}

/// Why the service is unusable, or a vault cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(
        "there is nothing to sign in with; put \"auth\" into the secret, or set OBSIDIAN_EMAIL and \
         OBSIDIAN_PASSWORD"
    )]
    NoCredentials,
    #[error(
        "the service does not accept the token (any more); export it anew with `obsync credentials export`, \
         or give the function email and password to renew it with"
    )]
    TokenRefused,
    #[error(
        "this account needs a two-factor code; put \"totp_secret\" into the secret, or set \
         OBSIDIAN_TOTP_SECRET"
    )]
    NoTotp,
    #[error(
        "the vault is end-to-end encrypted and there is no password for it; add it to the secret under \
         its id or name"
    )]
    NoPassword,
    #[error(transparent)]
    Encryption(#[from] UnsupportedEncryption),
    #[error(transparent)]
    Distrust(#[from] Distrust),
    #[error(transparent)]
    State(StateError),
    #[error("the key could not be derived: {0}")]
    Derivation(String),
}

impl AccountError {
    /// The code for scripts.
    pub(crate) fn code(&self) -> ProblemCode {
        match self {
            AccountError::Secret(SecretError::Forbidden { .. }) => ProblemCode::AccessDenied,
            AccountError::Secret(_) | AccountError::NoCredentials | AccountError::NoTotp => {
                ProblemCode::SignIn
            }
            AccountError::Client(error) => error.into(),
            AccountError::TokenRefused => ProblemCode::NotSignedIn,
            AccountError::NoPassword => ProblemCode::VaultPassword,
            AccountError::Encryption(_) | AccountError::Distrust(_) => ProblemCode::EncryptionChanged,
            AccountError::State(error) => error.into(),
            AccountError::Derivation(_) => ProblemCode::Error,
        }
    }
}

impl Warm {
    /// Creates the clients of AWS; sends no request yet.
    pub(crate) async fn new(config: Config) -> Self {
        let limits = TimeoutConfig::builder()
            .operation_attempt_timeout(ATTEMPT_LIMIT)
            .operation_timeout(CALL_LIMIT)
            .build();
        let aws =
            load_aws_config(config.aws_http.clone()).await.into_builder().timeout_config(limits).build();
        let table = DynamoTable::new(
            &aws_sdk_dynamodb::Client::new(&aws),
            config.table.clone(),
            DynamoOptions::default(),
        );
        let secrets = aws_sdk_secretsmanager::Client::new(&aws);
        let address = &config.client.options().api_url;
        let service = Url::parse(address).map_or_else(|_| address.clone(), |address| address.to_string());
        Warm {
            config,
            service,
            table,
            aws,
            secrets,
            account: AsyncMutex::default(),
            keys: Mutex::default(),
            deriving: Arc::default(),
        }
    }

    /// The client of the service.
    pub(crate) fn client(&self) -> &Client {
        &self.config.client
    }

    /// The present account and its vaults. A token that was kept too long is renewed once, and a secret
    /// without credentials of one of the vaults is read again, if the last time is long ago.
    pub(crate) async fn vaults(&self) -> Result<(Arc<Account>, Vec<Listed>), AccountError> {
        let (account, vaults) = self.listed().await?;
        // Also if the secret contradicts the listing: its owner may have corrected it.
        let is_open = |vault: &Listed| match self.means(&account, vault) {
            Means::Nothing => false,
            Means::Own => self.judge(&account, vault, Vec::new()).is_ok(),
            Means::HandedOut | Means::Global => true,
        };
        let is_complete = vaults.iter().all(is_open);
        if is_complete || account.read.elapsed() < SECRET_AGE {
            return Ok((account, vaults));
        }
        let account = self.read_again(&account).await.unwrap_or(account);
        Ok((account, vaults))
    }

    async fn listed(&self) -> Result<(Arc<Account>, Vec<Listed>), AccountError> {
        let account = self.account().await?;
        match self.client().vault_list(&account.token).await {
            Ok(list) => Ok(self.presented(account, list)),
            Err(ClientError::NotSignedIn) => {
                let account = self.renewed(&account).await?;
                let list = self.client().vault_list(&account.token).await?;
                Ok(self.presented(account, list))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The vaults with names that are safe for places, logs and answers: without secrets and not too long,
    /// except those in the settings or the secret.
    fn presented(&self, account: Arc<Account>, list: VaultList) -> (Arc<Account>, Vec<Listed>) {
        let redactor = self.client().redactor();
        let vaults = Listed::all(list, |name| {
            let is_ours = self.config.vaults.iter().any(|ours| ours == name) || account.secret.has_name(name);
            let presentable = || short_name(&redactor.take_out(name)).into_owned();
            if is_ours { name.to_owned() } else { presentable() }
        });
        (account, vaults)
    }

    /// The account; signs in if that was not done yet.
    async fn account(&self) -> Result<Arc<Account>, AccountError> {
        let mut kept = self.account.lock().await;
        if let Some(account) = &*kept {
            return Ok(Arc::clone(account));
        }
        let account = Arc::new(self.sign_in(None).await?);
        *kept = Some(Arc::clone(&account));
        Ok(account)
    }

    /// The account for one more attempt at a vault, after the service refused it with `refused`; `None` if
    /// nothing would help.
    pub(crate) async fn remedy(
        &self,
        refused: &Arc<Account>,
        vault: &VaultInfo,
        reason: &ClientError,
    ) -> Result<Option<Arc<Account>>, AccountError> {
        match reason {
            ClientError::NotSignedIn => self.renewed(refused).await.map(Some),
            ClientError::WrongVaultPassword => Ok(self.reopened(refused, vault).await),
            _ => Ok(None),
        }
    }

    /// The account after a new sign-in, because the service refused its token. A second caller gets the first
    /// one's result.
    async fn renewed(&self, refused: &Account) -> Result<Arc<Account>, AccountError> {
        let mut kept = self.account.lock().await;
        let is_other = |account: &&Arc<Account>| account.token.expose() != refused.token.expose();
        if let Some(account) = kept.as_ref().filter(is_other) {
            return Ok(Arc::clone(account));
        }
        tracing::info!("the service refused the token; reading the secret and signing in anew");
        *kept = None;
        let account = Arc::new(self.sign_in(Some(&refused.token)).await?);
        *kept = Some(Arc::clone(&account));
        Ok(account)
    }

    /// The account with a secret that may open a vault that `refused` did not open.
    async fn reopened(&self, refused: &Arc<Account>, vault: &VaultInfo) -> Option<Arc<Account>> {
        let had_keys = {
            let mut keys = self.kept_keys();
            let before = keys.len();
            keys.retain(|subject, _| subject.vault != vault.id);
            keys.len() < before
        };
        let account = self.read_again(refused).await;
        let is_news = |account: &Arc<Account>| had_keys || !account.secret.is_same(&refused.secret);
        account.filter(is_news)
    }

    /// The account with the secret read again and the same token. `None` if that failed: then the earlier
    /// secret stays valid. A second caller gets the first one's result.
    async fn read_again(&self, before: &Arc<Account>) -> Option<Arc<Account>> {
        self.config.secret.as_ref()?;
        let mut kept = self.account.lock().await;
        if let Some(account) = kept.as_ref().filter(|account| !Arc::ptr_eq(account, before)) {
            return Some(Arc::clone(account));
        }
        tracing::info!("reading the secret again: it did not open every vault");
        match self.secret().await {
            Ok(secret) => {
                let account = Account { token: before.token.clone(), secret, read: Instant::now() };
                Some(Arc::clone(kept.insert(Arc::new(account))))
            }
            Err(error) => {
                tracing::warn!(%error, "the secret could not be read again");
                None
            }
        }
    }

    /// True if there may be a [`remedy`](Self::remedy) for this.
    pub(crate) fn is_refusal(error: &ClientError) -> bool {
        matches!(error, ClientError::NotSignedIn | ClientError::WrongVaultPassword)
    }

    /// The present contents of the secret.
    async fn secret(&self) -> Result<Secret, SecretError> {
        match &self.config.secret {
            Some(name) => Secret::load(&self.secrets, name).await,
            None => Ok(Secret::default()),
        }
    }

    /// Reads the secret and obtains a token other than the refused one.
    async fn sign_in(&self, refused: Option<&Token>) -> Result<Account, AccountError> {
        let (secret, read) = (self.secret().await?, Instant::now());
        let settings = &self.config.account;
        let is_good = |token: &&Token| refused.is_none_or(|refused| refused.expose() != token.expose());
        let tokens = [secret.token.as_ref(), settings.token.as_ref()];
        let token = match tokens.into_iter().flatten().find(is_good) {
            Some(token) => token.clone(),
            None => {
                let credentials = secret.credentials.as_ref().or(settings.credentials.as_ref());
                let Some((email, password)) = credentials else {
                    let has_token = tokens.iter().any(Option::is_some);
                    return Err(if has_token {
                        AccountError::TokenRefused
                    } else {
                        AccountError::NoCredentials
                    });
                };
                let totp = secret.totp.as_ref().or(settings.totp.as_ref());
                sign_in(self.client(), email, password, totp).await?
            }
        };
        Ok(Account { token, secret, read })
    }

    /// The available credentials of this vault.
    pub(crate) fn means(&self, account: &Account, vault: &Listed) -> Means {
        if account.secret.of_vault(vault).is_some() {
            Means::Own
        } else if vault.info.password.is_some() {
            Means::HandedOut
        } else if self.config.account.vault_password.is_some() {
            Means::Global
        } else {
            Means::Nothing
        }
    }

    /// Checks whether a vault may be opened as listed, given the pins of the table.
    ///
    /// # Errors
    /// The reason why not. Nothing was derived or sent.
    pub(crate) fn judge(
        &self,
        account: &Account,
        vault: &Listed,
        pins: Vec<FoundPin>,
    ) -> Result<Opening, AccountError> {
        let known = Knowledge {
            secret: account.secret.of_vault(vault),
            has_global_password: self.config.account.vault_password.is_some(),
            wanted: self.config.encryption,
            pins,
        };
        Ok(trust::judge(&self.listed_pin(vault)?, &known)?)
    }

    /// Refuses a vault for which the service provides a password although the secret has one under the name
    /// in its state in the table: the service can rename a vault, and after an older release there is no pin
    /// that would show it.
    ///
    /// # Errors
    /// [`Distrust::Weaker`], or an error of the table.
    pub(crate) async fn check_former_name(
        &self,
        account: &Account,
        vault: &Listed,
        pins: &[FoundPin],
    ) -> Result<(), AccountError> {
        let is_pinned = pins.iter().any(|found| found.pin.vault == vault.info.id);
        if vault.info.password.is_none() || is_pinned || !account.secret.has_vaults() {
            return Ok(());
        }
        let known = self.table.summary(&vault.info.id).await.map_err(AccountError::State)?;
        match known.is_some_and(|known| account.secret.has_name(&known.vault_name)) {
            true => Err(Distrust::Weaker.into()),
            false => Ok(()),
        }
    }

    /// The encryption of a vault when it was last opened, by its pin in the table.
    ///
    /// # Errors
    /// When the table is unreadable, or a pin in it cannot be parsed.
    pub(crate) async fn pinned_kind(
        &self,
        vault: &VaultInfo,
        destination: &str,
    ) -> Result<Option<VaultKind>, StateError> {
        let wanted = Pin::new(&self.service, vault.id.clone(), &vault.name, VaultEncryption::Standard);
        let found = self.table.pins(&wanted, destination).await?.found();
        Ok(found.iter().find(|found| found.pin.vault == vault.id).map(|found| found.pin.encryption.kind()))
    }

    /// The encryption of a vault by the service's listing.
    ///
    /// # Errors
    /// When this program does not support its encryption version.
    pub(crate) fn listed_pin(&self, vault: &Listed) -> Result<Pin, AccountError> {
        Ok(Pin::of(&self.service, &vault.info)?)
    }

    /// The keys of a vault that was [judged](Self::judge); keys accepted once are not derived again.
    pub(crate) async fn keys(&self, account: &Account, vault: &Listed) -> Result<VaultKeys, AccountError> {
        let info = &vault.info;
        let version = info.encryption()?;
        let (vault_id, is_handed_out) = (info.id.clone(), info.password.is_some());
        let subject = Subject { vault: vault_id, salt: info.salt.clone(), version, is_handed_out };
        if let Some(keys) = self.kept_keys().get(&subject) {
            return Ok(keys.clone());
        }
        let keys = self.accepted_keys(account, vault, version).await?;
        self.kept_keys().insert(subject, keys.clone());
        Ok(keys)
    }

    /// Keys that the service accepts. A password that ends with a line break is tried unchanged, then without
    /// it.
    async fn accepted_keys(
        &self,
        account: &Account,
        vault: &Listed,
        version: EncryptionVersion,
    ) -> Result<VaultKeys, AccountError> {
        let info = &vault.info;
        let password = match (&info.password, account.secret.of_vault(vault)) {
            (Some(password), _) => Password::exactly(password.clone()),
            (None, Some(VaultSecret::Password(password))) => password.clone(),
            (None, Some(VaultSecret::Key { key, .. })) => {
                let keys = VaultKeys::new(key, version, &info.salt);
                return self.if_accepted(account, info, keys).await;
            }
            (None, None) => self.config.account.vault_password.clone().ok_or(AccountError::NoPassword)?,
        };
        let keys = self.derive(password.as_given(), info, version).await?;
        match (self.if_accepted(account, info, keys).await, password.without_line_end()) {
            (Err(AccountError::Client(ClientError::WrongVaultPassword)), Some(other)) => {
                let keys = self.derive(other, info, version).await?;
                let keys = self.if_accepted(account, info, keys).await?;
                password.warn_of_line_end();
                Ok(keys)
            }
            (result, _) => result,
        }
    }

    async fn if_accepted(
        &self,
        account: &Account,
        vault: &VaultInfo,
        keys: VaultKeys,
    ) -> Result<VaultKeys, AccountError> {
        self.client().check_access(&account.token, vault, keys.key_hash()).await?;
        Ok(keys)
    }

    async fn derive(
        &self,
        password: &SecretString,
        vault: &VaultInfo,
        version: EncryptionVersion,
    ) -> Result<VaultKeys, AccountError> {
        let (password, salt) = (password.clone(), vault.salt.clone());
        let turn = Arc::clone(&self.deriving).lock_owned().await;
        let derived = tokio::task::spawn_blocking(move || {
            // Nothing ends this thread early, so the turn ends with it, even if nobody waits any more.
            let _turn = turn;
            VaultKeys::new(&MasterKey::derive(&password, &salt), version, &salt)
        });
        derived.await.map_err(|error| AccountError::Derivation(error.to_string()))
    }

    fn kept_keys(&self) -> std::sync::MutexGuard<'_, HashMap<Subject, VaultKeys>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signs in, with a two-factor code if the service wants one.
async fn sign_in(
    client: &Client,
    email: &str,
    password: &Password,
    totp: Option<&Generator>,
) -> Result<Token, AccountError> {
    let mut sign_in = SignIn::new(client, email, password);
    let signed_in = match sign_in.attempt(None).await {
        Err(ClientError::MfaRequired) => sign_in.with_codes(totp.ok_or(AccountError::NoTotp)?).await?,
        result => result?,
    };
    Ok(signed_in.token)
}
