//! Messages of a client in a session.

use secrecy::SecretString;
use serde::Serialize;

use crate::json::{self, FieldProblem, Lists, Message, MessageError};
use crate::{EncodedHash, EncodedPath, EncryptionVersion, KeyHash, Uid, VaultId};

/// A text frame from a client.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum ClientMessage {
    /// The first message of a session.
    Init(Init),
    /// Requests the content of an entry.
    Pull {
        /// The change with the content.
        uid: Uid,
    },
    /// Records a change of an entry.
    Push(PushRequest),
    /// Requests the deleted entries.
    Deleted {
        /// Leave out the deletions that are one half of a rename.
        #[serde(rename = "suppressrenames")]
        suppress_renames: bool,
    },
    /// Requests the earlier states of an entry.
    History {
        /// The entry.
        path: EncodedPath,
        /// Only changes below this uid; 0 for the newest ones.
        last: Uid,
    },
    /// Makes an earlier state of an entry the newest one.
    Restore {
        /// The change to restore.
        uid: Uid,
    },
    /// Requests the size of the vault.
    Size,
    /// Requests the users who share the vault.
    Usernames,
    /// Requests to drop old states.
    Purge,
    /// Requests a pong.
    Ping,
}

/// Opens a session: client, vault, and the client's version of it.
#[derive(Clone, Debug, Serialize)]
pub struct Init {
    /// The token from signing in.
    #[serde(serialize_with = "crate::secret::expose")]
    pub token: SecretString,
    /// The vault.
    pub id: VaultId,
    /// The proof of the vault's password.
    pub keyhash: KeyHash,
    /// The vault's version up to which the client has everything; 0 at first.
    pub version: u64,
    /// True if the client never handled a `ready` of this vault.
    pub initial: bool,
    /// A name of this client, shown to the vault's users.
    pub device: String,
    /// The vault's encryption version.
    pub encryption_version: EncryptionVersion,
}

/// A change of an entry, as sent by the client that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PushRequest {
    /// The entry.
    pub path: EncodedPath,
    /// The path that the entry had before a rename.
    #[serde(rename = "relatedpath")]
    pub related_path: Option<EncodedPath>,
    /// See [`VaultPath::extension`](crate::VaultPath::extension); empty for folders.
    pub extension: String,
    /// The encoded content hash; empty for folders and deletions.
    pub hash: EncodedHash,
    /// Creation time, in milliseconds since the epoch; 0 for folders and deletions.
    pub ctime: i64,
    /// Modification time, in milliseconds since the epoch; 0 for folders and deletions.
    pub mtime: i64,
    /// True for a folder.
    pub folder: bool,
    /// True for a deletion.
    pub deleted: bool,
    /// Size of the blob that follows, in bytes; none for folders and deletions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Number of binary frames that the blob is sent in; none for folders and deletions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pieces: Option<u64>,
}

impl ClientMessage {
    /// The text frame. That of [`Init`](Self::Init) has the token.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::to_json(self)
    }

    /// Parses a text frame, as a server does.
    ///
    /// # Errors
    /// [`MessageError`] if it is no request, or one with missing or wrong fields.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        let fields = json::parse(text, "request", Lists::NONE)?;
        let op = fields.named("request").required_text("op")?;
        match op {
            "init" => Init::read(&fields.named("init request")).map(Self::Init),
            "pull" => Ok(Self::Pull { uid: Uid(fields.named("pull request").required_count("uid")?) }),
            "push" => PushRequest::read(&fields.named("push request")).map(Self::Push),
            "deleted" => {
                let suppress_renames = fields.named("deleted request").flag("suppressrenames")?;
                Ok(Self::Deleted { suppress_renames })
            }
            "history" => {
                let message = fields.named("history request");
                let last = Uid(message.count("last")?.unwrap_or(0));
                Ok(Self::History { path: message.required_text("path")?.into(), last })
            }
            "restore" => {
                Ok(Self::Restore { uid: Uid(fields.named("restore request").required_count("uid")?) })
            }
            "size" => Ok(Self::Size),
            "usernames" => Ok(Self::Usernames),
            "purge" => Ok(Self::Purge),
            "ping" => Ok(Self::Ping),
            other => Err(MessageError::UnknownOp { op: json::clean(other, 64) }),
        }
    }
}

impl Init {
    fn read(message: &Message<'_, '_>) -> Result<Self, MessageError> {
        let invalid = |field| message.error(field, FieldProblem::Invalid);
        let encryption = |number: u64| number.try_into().map_err(|_| invalid("encryption_version"));
        Ok(Self {
            token: message.required_text("token")?.into(),
            id: VaultId::try_new(message.required_text("id")?).map_err(|_| invalid("id"))?,
            keyhash: message.required_text("keyhash")?.into(),
            version: message.required_count("version")?,
            initial: message.flag("initial")?,
            device: message.text_or_empty("device")?,
            encryption_version: encryption(message.required_count("encryption_version")?)?,
        })
    }
}

impl PushRequest {
    fn read(message: &Message<'_, '_>) -> Result<Self, MessageError> {
        Ok(Self {
            path: message.required_text("path")?.into(),
            related_path: message.text("relatedpath")?.map(EncodedPath::from),
            extension: message.text_or_empty("extension")?,
            hash: message.text("hash")?.unwrap_or_default().into(),
            ctime: message.time("ctime")?,
            mtime: message.time("mtime")?,
            folder: message.flag("folder")?,
            deleted: message.flag("deleted")?,
            size: message.count("size")?,
            pieces: message.count("pieces")?,
        })
    }
}
