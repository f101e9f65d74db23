//! Requests that a client posts.
//!
//! The types can be deserialised as well, for servers that stand in for the service; serde's errors may quote
//! the input, so do not show them.

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

/// Invalidates a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SignOutRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
}

/// Requests the account of a token.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UserInfoRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
}

/// Requests the account's vaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VaultListRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// The newest encryption version that the client can handle.
    pub supported_encryption_version: EncryptionVersion,
}

/// Requests the regions for vaults.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RegionsRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// A host to ask about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Creates a vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CreateVaultRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// The vault's name.
    pub name: String,
    /// The proof of the vault's password; `null` for a vault whose password the service stores.
    pub keyhash: Option<KeyHash>,
    /// The salt that the client created; absent for a vault whose password the service stores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub salt: Option<String>,
    /// Its region; empty if the service may choose.
    #[serde(default)]
    pub region: String,
    /// Its encryption version.
    pub encryption_version: EncryptionVersion,
}

/// Checks whether a key opens a vault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VaultAccessRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// The vault: its [`VaultInfo::id`](super::VaultInfo::id), despite the field's name.
    pub vault_uid: VaultId,
    /// The proof of the vault's password.
    pub keyhash: KeyHash,
    /// The vault's host.
    pub host: String,
    /// The vault's encryption version.
    pub encryption_version: EncryptionVersion,
}

/// Deletes a vault with all its contents. Not observed: the path is that of independent clients.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeleteVaultRequest {
    /// The token.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// The vault: its [`VaultInfo::id`](super::VaultInfo::id), despite the field's name.
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
