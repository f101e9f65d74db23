//! Requests that a client posts.
//!
//! The types can be read as well, for servers that stand in for the service; a reading error of serde may
//! quote what it read, so do not show one.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{CreatedVault, Done, Regions, RestRequest, SignedIn, UserInfo, VaultList};
use crate::limits;
use crate::secret::expose;
use crate::{EncryptionVersion, KeyHash, VaultId};

/// The newest encryption version that this program can handle.
pub const SUPPORTED_ENCRYPTION_VERSION: EncryptionVersion = EncryptionVersion::V3;

/// Asks for a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignInRequest {
    /// The account.
    pub email: String,
    /// The account's password.
    #[serde(serialize_with = "expose")]
    pub password: SecretString,
    /// The six digits of a second factor; empty when there is none.
    #[serde(default, serialize_with = "expose")]
    pub mfa: SecretString,
}

/// Ends a token's life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignOutRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
}

/// Asks whose token it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserInfoRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
}

/// Asks for the account's vaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VaultListRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// The newest encryption version that the client can handle.
    pub supported_encryption_version: EncryptionVersion,
}

/// Asks where a vault can be kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegionsRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// A host to ask about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Makes a vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateVaultRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// The vault's name.
    pub name: String,
    /// The proof of the vault's password; `null` for a vault whose password the service keeps.
    pub keyhash: Option<KeyHash>,
    /// The salt that the client made; absent for a vault whose password the service keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Where to keep it; empty for wherever the service likes.
    #[serde(default)]
    pub region: String,
    /// How it is encrypted.
    pub encryption_version: EncryptionVersion,
}

/// Asks whether a key opens a vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VaultAccessRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// The vault: its [`VaultInfo::id`](super::VaultInfo::id), in spite of the name.
    pub vault_uid: VaultId,
    /// The proof of the vault's password.
    pub keyhash: KeyHash,
    /// The vault's host.
    pub host: String,
    /// How the vault is encrypted.
    pub encryption_version: EncryptionVersion,
}

/// Deletes a vault with all that is in it. Not observed: the path is that of independent clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeleteVaultRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// The vault: its [`VaultInfo::id`](super::VaultInfo::id), in spite of the name.
    pub vault_uid: VaultId,
}

impl RestRequest for SignInRequest {
    const PATH: &'static str = "/user/signin";
    type Reply = SignedIn;
}

impl RestRequest for SignOutRequest {
    const PATH: &'static str = "/user/signout";
    type Reply = Done;
}

impl RestRequest for UserInfoRequest {
    const PATH: &'static str = "/user/info";
    type Reply = UserInfo;
}

impl RestRequest for VaultListRequest {
    const PATH: &'static str = "/vault/list";
    type Reply = VaultList;
    const LONGEST_ANSWER: usize = limits::REST_LIST_ANSWER;
}

impl RestRequest for RegionsRequest {
    const PATH: &'static str = "/vault/regions";
    type Reply = Regions;
    const LONGEST_ANSWER: usize = limits::REST_LIST_ANSWER;
}

impl RestRequest for CreateVaultRequest {
    const PATH: &'static str = "/vault/create";
    type Reply = CreatedVault;
}

impl RestRequest for DeleteVaultRequest {
    const PATH: &'static str = "/vault/delete";
    type Reply = Done;
}

impl RestRequest for VaultAccessRequest {
    const PATH: &'static str = "/vault/access";
    type Reply = Done;
}
