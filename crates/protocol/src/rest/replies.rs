//! Answers of the service.

use secrecy::SecretString;
use serde::Serialize;

use super::{RestError, RestReply, read};
use crate::json::{FieldProblem, Fields, Lists, Message, MessageError};
use crate::limits;
use crate::secret::{expose, expose_or_empty};
use crate::{EncryptionVersion, UnsupportedEncryption, VaultId};

/// The lists of a vault list. The limit of each is that of both together.
const VAULTS: Lists = Lists { fields: &["vaults", "shared"], most: limits::VAULTS_LISTED };

/// The list of a region list.
const REGIONS: Lists = Lists { fields: &["regions"], most: limits::VAULTS_LISTED };

/// An answer without content: the call succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Done {}

/// Signed in.
#[derive(Clone, Debug, Serialize)]
pub struct SignedIn {
    /// The token for every other call.
    #[serde(serialize_with = "expose")]
    pub token: SecretString,
    /// The user's name.
    pub name: String,
    /// The account.
    pub email: String,
}

/// The account of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UserInfo {
    /// The service's name for the account.
    pub uid: String,
    /// The user's name.
    pub name: String,
    /// The account.
    pub email: String,
    /// True if signing in requires a second factor.
    pub mfa: bool,
}

/// The account's vaults.
#[derive(Clone, Debug, Serialize)]
pub struct VaultList {
    /// Its own.
    pub vaults: Vec<VaultInfo>,
    /// Vaults that others share with it.
    pub shared: Vec<VaultInfo>,
    /// Limit of the account's vaults.
    pub limit: Option<u64>,
    /// Number of listed vaults that cannot be read: a field is missing, wrong or longer than its limit in
    /// docs/LIMITS.md. They do not hide the others.
    #[serde(skip)]
    pub unreadable: usize,
}

/// One vault, as the service lists it.
#[derive(Clone, Debug, Serialize)]
pub struct VaultInfo {
    /// The service's name for it.
    pub id: VaultId,
    /// Another name of the service for it, not used by the protocol.
    pub uid: String,
    /// The user's name for it. Two vaults can share one.
    pub name: String,
    /// The vault's password if the service stores it ("standard" encryption); `None` if only the user has it
    /// ("end-to-end").
    #[serde(serialize_with = "expose_or_empty")]
    pub password: Option<SecretString>,
    /// The salt of the master key: text, used as it is.
    pub salt: String,
    /// Time of its creation, in milliseconds since the epoch.
    pub created: i64,
    /// The host of its sessions: a name, with or without a port.
    pub host: String,
    /// Its region.
    pub region: String,
    /// Its size, in bytes.
    pub size: u64,
    /// Its encryption version. Any number, so that one vault of the future does not hide the others; see
    /// [`encryption`](Self::encryption).
    pub encryption_version: u64,
}

impl VaultInfo {
    /// Its encryption version.
    ///
    /// # Errors
    /// [`UnsupportedEncryption`] for a version that this program does not know.
    pub fn encryption(&self) -> Result<EncryptionVersion, UnsupportedEncryption> {
        self.encryption_version.try_into()
    }
}

/// Regions for vaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Regions {
    /// The choices.
    pub regions: Vec<Region>,
}

/// A region for vaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// The name to show.
    pub name: String,
    /// The value to send.
    pub value: String,
}

/// A vault was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CreatedVault {
    /// The service's name for it.
    pub id: VaultId,
    /// The user's name for it.
    pub name: String,
    /// Its region.
    pub region: String,
}

impl RestReply for Done {
    fn parse(body: &[u8]) -> Result<Self, RestError> {
        read(body, "answer of the service", Lists::NONE, |_| Ok(Self {}))
    }
}

impl RestReply for SignedIn {
    fn parse(body: &[u8]) -> Result<Self, RestError> {
        read(body, "answer to signing in", Lists::NONE, |message| {
            let token = message.required_short_text("token", limits::TOKEN)?;
            if token.is_empty() {
                return Err(message.error("token", FieldProblem::Invalid));
            }
            let name = message.short_text("name", limits::NAME)?;
            Ok(Self { token: token.into(), name, email: message.short_text("email", limits::NAME)? })
        })
    }
}

impl RestReply for UserInfo {
    fn parse(body: &[u8]) -> Result<Self, RestError> {
        read(body, "user information", Lists::NONE, |message| {
            Ok(Self {
                uid: message.short_text_or_number("uid", limits::NAME)?,
                name: message.short_text("name", limits::NAME)?,
                email: message.short_text("email", limits::NAME)?,
                mfa: message.flag("mfa")?,
            })
        })
    }
}

impl RestReply for VaultList {
    fn parse(body: &[u8]) -> Result<Self, RestError> {
        read(body, "vault list", VAULTS, |message| {
            let mut unreadable = 0;
            let mut vaults = |list: Option<&[Fields<'_>]>| {
                let vaults = list.unwrap_or_default().iter();
                let vaults = vaults.map(|vault| VaultInfo::read(&vault.named("vault of the list")));
                let readable = vaults.filter_map(|vault| vault.inspect_err(|_| unreadable += 1).ok());
                readable.collect::<Vec<_>>()
            };
            let (own, shared) = (vaults(message.list("vaults")?), vaults(message.list("shared")?));
            Ok(Self { vaults: own, shared, limit: message.count("limit")?, unreadable })
        })
    }
}

impl VaultInfo {
    fn read(message: &Message<'_, '_>) -> Result<Self, MessageError> {
        let password = Some(message.short_text("password", limits::HANDED_OUT_PASSWORD)?);
        Ok(Self {
            id: vault_id(message)?,
            uid: message.short_text_or_number("uid", limits::NAME)?,
            name: message.short_text("name", limits::NAME)?,
            password: password.filter(|password| !password.is_empty()).map(SecretString::from),
            salt: message.short_text("salt", limits::SALT)?,
            created: message.time("created")?,
            host: message.required_short_text("host", limits::HOST)?,
            region: message.short_text("region", limits::NAME)?,
            size: message.count("size")?.unwrap_or(0),
            encryption_version: message.count("encryption_version")?.unwrap_or(0),
        })
    }
}

impl RestReply for Regions {
    fn parse(body: &[u8]) -> Result<Self, RestError> {
        read(body, "region list", REGIONS, |message| {
            let regions = message.list("regions")?.unwrap_or_default().iter().map(|region| {
                let region = region.named("region of the list");
                let value = region.required_short_text("value", limits::NAME)?;
                Ok(Region { name: region.short_text("name", limits::NAME)?, value })
            });
            Ok(Self { regions: regions.collect::<Result<_, MessageError>>()? })
        })
    }
}

impl RestReply for CreatedVault {
    fn parse(body: &[u8]) -> Result<Self, RestError> {
        read(body, "created vault", Lists::NONE, |message| {
            Ok(Self {
                id: vault_id(message)?,
                name: message.short_text("name", limits::NAME)?,
                region: message.short_text("region", limits::NAME)?,
            })
        })
    }
}

fn vault_id(message: &Message<'_, '_>) -> Result<VaultId, MessageError> {
    let id = message.required_text("id")?;
    VaultId::try_new(id).map_err(|_| message.error("id", FieldProblem::Invalid))
}
