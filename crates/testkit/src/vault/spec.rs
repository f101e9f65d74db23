//! Describes a vault: a test's request, and the stored record.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use obsync_protocol::{ContentHash, EncryptionVersion, MasterKey, VaultId, VaultKeys};
use secrecy::{ExposeSecret, SecretString};

use crate::accounts::{AccountError, random_hex};

/// The only region.
pub(crate) const REGION: &str = "loopback";

/// A vault to create: a name and its encryption.
#[derive(Debug, Clone)]
pub struct VaultSpec {
    name: String,
    version: EncryptionVersion,
    password: Option<SecretString>,
    salt: Option<String>,
    id: Option<VaultId>,
    owner: Option<String>,
    shared_with: Vec<String>,
    region: String,
}

impl VaultSpec {
    /// A vault with end-to-end encryption: only those who know the password can read it. Encryption version
    /// 3.
    pub fn end_to_end(name: &str, password: &str) -> Self {
        Self { password: Some(SecretString::from(password)), ..Self::managed(name) }
    }

    /// A vault with standard encryption: the service provides its password. Encryption version 3.
    pub fn managed(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: EncryptionVersion::V3,
            password: None,
            salt: None,
            id: None,
            owner: None,
            shared_with: Vec::new(),
            region: REGION.to_owned(),
        }
    }

    /// The same vault with another encryption version.
    #[must_use]
    pub fn version(mut self, version: EncryptionVersion) -> Self {
        self.version = version;
        self
    }

    /// The same vault with this salt instead of a random one, so that its keys are known in advance.
    #[must_use]
    pub fn salt(mut self, salt: &str) -> Self {
        self.salt = Some(salt.to_owned());
        self
    }

    /// The same vault with this id instead of a random one: one that was restored on another server.
    #[must_use]
    pub fn id(mut self, id: &VaultId) -> Self {
        self.id = Some(id.clone());
        self
    }

    /// The same vault, visible only to the account with this address and those it is shared with. A vault
    /// without an owner belongs to every account.
    #[must_use]
    pub fn owner(mut self, email: &str) -> Self {
        self.owner = Some(crate::accounts::normalize(email));
        self
    }

    /// The same vault, listed under `shared` for the account with this address.
    #[must_use]
    pub fn shared_with(mut self, email: &str) -> Self {
        self.shared_with.push(crate::accounts::normalize(email));
        self
    }

    /// The vault's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Creates the vault: derives its keys, which takes tens of milliseconds.
    pub(crate) fn build(self) -> Result<VaultRecord, AccountError> {
        let salt = match self.salt {
            Some(salt) => salt,
            None => random_hex::<16>()?,
        };
        let encryption = match self.password {
            Some(password) => Encryption::EndToEnd(Some(password)),
            None => Encryption::Managed(SecretString::from(random_hex::<10>()?)),
        };
        let mut record = VaultRecord {
            id: self.id.map_or_else(new_id, Ok)?,
            name: self.name,
            version: self.version,
            salt,
            key_hash: String::new(),
            encryption,
            owner: self.owner,
            shared_with: self.shared_with,
            created: now(),
            region: self.region,
        };
        if let Some(keys) = record.keys() {
            record.key_hash = keys.key_hash().as_str().to_owned();
        }
        Ok(record)
    }
}

/// The key of a password and a salt. Each is derived once in a process, which takes tens of milliseconds: a
/// server with thousands of vaults can give all of them one password and one salt.
fn derived(password: &SecretString, salt: &str) -> MasterKey {
    static DERIVED: LazyLock<Mutex<HashMap<ContentHash, MasterKey>>> = LazyLock::new(Mutex::default);
    let known = || DERIVED.lock().unwrap_or_else(PoisonError::into_inner);
    let password_length = password.expose_secret().len();
    let of = ContentHash::of(format!("{password_length}:{}{salt}", password.expose_secret()).as_bytes());
    if let Some(key) = known().get(&of) {
        return key.clone();
    }
    // Others derive theirs meanwhile.
    let key = MasterKey::derive(password, salt);
    known().entry(of).or_insert(key).clone()
}

/// Where a vault's password is stored.
#[derive(Debug, Clone)]
pub(crate) enum Encryption {
    /// Standard encryption: `/vault/list` has the password.
    Managed(SecretString),
    /// End to end: the server knows the password only if a test provided it.
    EndToEnd(Option<SecretString>),
}

/// The properties of a vault besides its entries.
#[derive(Debug, Clone)]
pub(crate) struct VaultRecord {
    pub(crate) id: VaultId,
    pub(crate) name: String,
    pub(crate) version: EncryptionVersion,
    pub(crate) salt: String,
    pub(crate) key_hash: String,
    pub(crate) encryption: Encryption,
    /// The owner's address; `None` for a vault of everybody.
    pub(crate) owner: Option<String>,
    pub(crate) shared_with: Vec<String>,
    /// Milliseconds since the epoch.
    pub(crate) created: u64,
    pub(crate) region: String,
}

/// The relation of an account to a vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Own,
    Shared,
    Hidden,
}

impl VaultRecord {
    /// The password, as far as the server knows it.
    pub(crate) fn password(&self) -> Option<&SecretString> {
        match &self.encryption {
            Encryption::Managed(password) => Some(password),
            Encryption::EndToEnd(password) => password.as_ref(),
        }
    }

    /// The keys, if the password is known and matches the key hash (an unknown hash matches).
    pub(crate) fn keys(&self) -> Option<VaultKeys> {
        let keys = self.keys_from(self.password()?);
        (self.key_hash.is_empty() || keys.key_hash().as_str() == self.key_hash).then_some(keys)
    }

    pub(crate) fn keys_from(&self, password: &SecretString) -> VaultKeys {
        VaultKeys::new(&derived(password, &self.salt), self.version, &self.salt)
    }

    /// True if the key hash is this vault's.
    pub(crate) fn admits(&self, key_hash: &str) -> bool {
        self.key_hash == key_hash
    }

    /// The relation of the account with this address to the vault.
    pub(crate) fn standing(&self, email: &str) -> Standing {
        match &self.owner {
            None => Standing::Own,
            Some(owner) if owner == email => Standing::Own,
            Some(_) if self.shared_with.iter().any(|other| other == email) => Standing::Shared,
            Some(_) => Standing::Hidden,
        }
    }

    /// The password in `/vault/list`: empty for an end-to-end vault.
    pub(crate) fn listed_password(&self) -> &str {
        match &self.encryption {
            Encryption::Managed(password) => password.expose_secret(),
            Encryption::EndToEnd(_) => "",
        }
    }
}

/// A new random vault id.
pub(crate) fn new_id() -> Result<VaultId, AccountError> {
    // 32 hexadecimal digits are always a valid id.
    VaultId::try_new(random_hex::<16>()?).map_err(|error| AccountError::Randomness(error.to_string()))
}

/// Milliseconds since the epoch.
pub(crate) fn now() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
