//! A pin: the stored encryption of a vault.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use obsync_protocol::{ContentHash, EncryptionVersion, UnsupportedEncryption, VaultId, VaultInfo, limits};
use serde::{Deserialize, Serialize};

/// The newest format of stored pins that this program knows.
const FORMAT: u32 = 1;
/// Former names of a vault kept in its pin, at most.
pub(super) const FORMER_NAMES: usize = 4;
/// Hexadecimal digits of a fingerprint: 64 bits.
const FINGERPRINT_DIGITS: usize = 16;

/// The encryption of a vault: who knows its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum VaultKind {
    /// The service, which provides it to clients ("standard" or managed encryption).
    Standard,
    /// Only the owner.
    EndToEnd,
}

/// The encryption of a vault, as far as a pin fixes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum VaultEncryption {
    /// The service stores the password. It may change password, salt and version.
    Standard,
    /// Only the owner has the password.
    EndToEnd {
        /// Its ciphers.
        version: EncryptionVersion,
        /// The salt of the master key.
        salt: String,
    },
}

/// The encryption of a vault when it was last opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub(super) format: u32,
    /// The address of the service.
    pub service: String,
    /// The vault.
    pub vault: VaultId,
    /// Its name when it was last opened.
    pub name: String,
    /// Former names, oldest first.
    pub former_names: Vec<String>,
    /// Its encryption.
    pub encryption: VaultEncryption,
    /// The user who accepted a change of the encryption, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
}

/// A user's acceptance of a change of a vault's encryption.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// The user, as `user@host`.
    pub by: String,
    /// The time, in milliseconds since the epoch.
    pub at: i64,
}

/// A pin that cannot be parsed. It is a refusal, never a first contact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Its format is not one that obsync writes.
    #[error("it is damaged or was changed ({0})")]
    Damaged(String),
    /// A newer obsync wrote it.
    #[error("a newer obsync wrote it; update obsync")]
    Newer,
}

impl VaultKind {
    /// Its name: `standard` or `end-to-end`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            VaultKind::Standard => "standard",
            VaultKind::EndToEnd => "end-to-end",
        }
    }

    /// The kind of a listed vault: with a password from the service, or without.
    #[must_use]
    pub fn of(vault: &VaultInfo) -> Self {
        match &vault.password {
            Some(_) => VaultKind::Standard,
            None => VaultKind::EndToEnd,
        }
    }
}

impl fmt::Display for VaultKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::str::FromStr for VaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [VaultKind::Standard, VaultKind::EndToEnd]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| "it is standard or end-to-end".to_owned())
    }
}

impl VaultEncryption {
    /// The encryption of a listed vault, according to the service.
    ///
    /// # Errors
    /// [`UnsupportedEncryption`] for an end-to-end vault of a version that this program does not know.
    pub fn of(vault: &VaultInfo) -> Result<Self, UnsupportedEncryption> {
        Ok(match VaultKind::of(vault) {
            VaultKind::Standard => VaultEncryption::Standard,
            VaultKind::EndToEnd => {
                VaultEncryption::EndToEnd { version: vault.encryption()?, salt: vault.salt.clone() }
            }
        })
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> VaultKind {
        match self {
            VaultEncryption::Standard => VaultKind::Standard,
            VaultEncryption::EndToEnd { .. } => VaultKind::EndToEnd,
        }
    }
}

/// Kind, version and salt of a listed vault as 16 hexadecimal digits, to compare between machines.
#[must_use]
pub fn fingerprint(vault: &VaultInfo) -> String {
    let (kind, version, salt) = (VaultKind::of(vault), vault.encryption_version, &vault.salt);
    let mut digits =
        ContentHash::of(format!("obsync vault\n{kind}\n{version}\n{salt}").as_bytes()).to_string();
    digits.truncate(FINGERPRINT_DIGITS);
    digits
}

impl Pin {
    /// The pin of a vault of the service at this address.
    #[must_use]
    pub fn new(service: &str, vault: VaultId, name: &str, encryption: VaultEncryption) -> Self {
        let (service, name) = (service.to_owned(), name.to_owned());
        Pin { format: FORMAT, service, vault, name, former_names: Vec::new(), encryption, accepted: None }
    }

    /// The pin to store for a listed vault.
    ///
    /// # Errors
    /// [`UnsupportedEncryption`] for a version that this program does not know.
    pub fn of(service: &str, vault: &VaultInfo) -> Result<Self, UnsupportedEncryption> {
        Ok(Pin::new(service, vault.id.clone(), &vault.name, VaultEncryption::of(vault)?))
    }

    /// True if the vault has, or had, this name.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.name == name || self.former_names.iter().any(|former| former == name)
    }

    /// True if a user can have meant this vault by a text, be it a name or an id.
    #[must_use]
    pub fn goes_by(&self, text: &str) -> bool {
        self.vault.as_str() == text || self.has_name(text)
    }

    /// The pin as text, for a file or a table.
    ///
    /// # Errors
    /// [`PinError::Damaged`] if it is longer than the limit of [`from_text`](Self::from_text).
    pub fn to_text(&self) -> Result<String, PinError> {
        let text = serde_json::to_string(self).map_err(|error| PinError::Damaged(error.to_string()))?;
        match text.len() <= limits::PIN {
            true => Ok(text),
            false => Err(PinError::Damaged(format!("it has more than {} bytes", limits::PIN))),
        }
    }

    /// Parses the text of [`to_text`](Self::to_text).
    ///
    /// # Errors
    /// [`PinError`] for any other text.
    pub fn from_text(text: &str) -> Result<Self, PinError> {
        /// The field that pins of every format have.
        #[derive(Deserialize)]
        struct AnyForm {
            format: u32,
        }
        if text.len() > limits::PIN {
            return Err(PinError::Damaged(format!("it has more than {} bytes", limits::PIN)));
        }
        // The parser's message could quote the file, which may contain anything.
        let damaged = |error: serde_json::Error| {
            PinError::Damaged(format!("line {}, column {}", error.line(), error.column()))
        };
        match serde_json::from_str::<AnyForm>(text).map_err(damaged)?.format {
            FORMAT => serde_json::from_str(text).map_err(damaged),
            0 => Err(PinError::Damaged("format 0".to_owned())),
            _ => Err(PinError::Newer),
        }
    }

    /// The same, accepted by `by` now.
    #[must_use]
    pub fn accepted_by(mut self, by: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        self.accepted = Some(Acceptance { by: by.chars().take(200).collect(), at });
        self
    }

    /// Adds a name that the vault has, or had.
    pub fn learn_name(&mut self, name: &str) {
        if self.name.is_empty() {
            name.clone_into(&mut self.name);
        } else if !name.is_empty() && !self.has_name(name) && self.former_names.len() < FORMER_NAMES {
            self.former_names.push(name.to_owned());
        }
    }

    /// The same with the user's acceptance.
    pub(super) fn with_acceptance(self, accepted: Option<Acceptance>) -> Self {
        Pin { accepted, ..self }
    }

    /// The same with the names of an older pin of the same vault. The first one is always kept: scripts were
    /// written with it.
    pub(super) fn with_names_of(mut self, older: &Pin) -> Self {
        for name in older.former_names.iter().chain([&older.name]) {
            if !name.is_empty() && !self.has_name(name) {
                self.former_names.push(name.clone());
            }
        }
        while self.former_names.len() > FORMER_NAMES {
            self.former_names.remove(1);
        }
        self
    }
}
