//! Identifiers of the service: vaults, entries, and encryption versions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest vault id, in bytes. Ids seen so far have 32.
const MAX_VAULT_ID: usize = 64;

/// Least length of a prefix that identifies a vault.
const LEAST_PREFIX: usize = 4;

/// The service's name for a vault: 1 to 64 ASCII letters, digits, `_` or `-`.
///
/// The narrow alphabet lets an id be part of a file name or a database key without escaping.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VaultId(String);

impl VaultId {
    /// Parses a vault id.
    ///
    /// # Errors
    /// [`IdError`] if it is empty, longer than 64 bytes, or has other characters than the allowed ones.
    pub fn try_new(id: impl Into<String>) -> Result<Self, IdError> {
        let id = id.into();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if id.is_empty() || id.len() > MAX_VAULT_ID || !id.bytes().all(allowed) {
            return Err(IdError);
        }
        Ok(Self(id))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if it begins with `prefix` and that is long enough (4 characters) to identify a vault.
    #[must_use]
    pub fn has_prefix(&self, prefix: &str) -> bool {
        prefix.len() >= LEAST_PREFIX && self.0.starts_with(prefix)
    }
}

impl fmt::Display for VaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for VaultId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for VaultId {
    type Err = IdError;

    fn from_str(id: &str) -> Result<Self, IdError> {
        Self::try_new(id)
    }
}

impl TryFrom<String> for VaultId {
    type Error = IdError;

    fn try_from(id: String) -> Result<Self, IdError> {
        Self::try_new(id)
    }
}

impl From<VaultId> for String {
    fn from(id: VaultId) -> Self {
        id.0
    }
}

/// A text that cannot be a vault id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a vault id has 1 to 64 letters, digits, `_` or `-`; this one does not")]
pub struct IdError;

/// The number of one change in a vault: the vault's version after it.
///
/// Uids grow; the highest one for a path has its present state. A rename may give the same uid to two paths,
/// so a uid alone does not identify an entry (docs/PROTOCOL.md section 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub u64);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<u64> for Uid {
    fn from(uid: u64) -> Self {
        Self(uid)
    }
}

/// The encryption of a vault (docs/PROTOCOL.md section 1). Versions 2 and 3 are one algorithm under two
/// numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub enum EncryptionVersion {
    /// AES-256-GCM for names and content, both under the master key.
    V0,
    /// AES-SIV for names, AES-256-GCM for content, keys by HKDF.
    V2,
    /// As version 2; used for new vaults.
    V3,
}

impl EncryptionVersion {
    /// The version's number on the wire.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::V0 => 0,
            Self::V2 => 2,
            Self::V3 => 3,
        }
    }
}

impl fmt::Display for EncryptionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl TryFrom<u64> for EncryptionVersion {
    type Error = UnsupportedEncryption;

    fn try_from(number: u64) -> Result<Self, UnsupportedEncryption> {
        match number {
            0 => Ok(Self::V0),
            2 => Ok(Self::V2),
            3 => Ok(Self::V3),
            other => Err(UnsupportedEncryption(other)),
        }
    }
}

impl From<EncryptionVersion> for u64 {
    fn from(version: EncryptionVersion) -> Self {
        version.number().into()
    }
}

/// A vault has an encryption version that this program does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("encryption version {0} is not supported (0, 2 and 3 are); a newer obsync may know it")]
pub struct UnsupportedEncryption(pub u64);
