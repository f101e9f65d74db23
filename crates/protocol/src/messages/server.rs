//! Messages of a server in a session.

use serde::Serialize;

use crate::json::{self, Lists, Message, MessageError};
use crate::limits;
use crate::{EncodedHash, EncodedPath, Uid};

/// The reason of an error that the server gave without text.
const NO_REASON: &str = "the server gave no reason";

/// The answers to `deleted` and `history` have entries.
const LISTS: Lists = Lists { fields: &["items"], most: limits::LIST_ITEMS };

/// A text frame from the server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum ServerMessage {
    /// An entry after one change: in the listing, live, or the echo of a push.
    Push(PushMessage),
    /// The listing is complete.
    Ready {
        /// The vault's version. It only grows.
        version: u64,
    },
    /// The answer to a ping.
    Pong,
    /// The answer to a request. Answers come in the order of the requests and do not name them.
    #[serde(untagged)]
    Answer(Answer),
    /// A message that this program does not know, to be ignored.
    #[serde(untagged)]
    Unknown {
        /// Its `op`, cut to 64 characters.
        op: String,
    },
}

/// An entry after one change, as sent by the server: nothing is decoded, and numbers may be invalid
/// ([`PushMessage::has_sound_uid`], [`PushMessage::has_sound_size`]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PushMessage {
    /// The change: the vault's version after it.
    pub uid: Uid,
    /// The entry.
    pub path: EncodedPath,
    /// The path that the entry had before a rename.
    #[serde(rename = "relatedpath", skip_serializing_if = "Option::is_none")]
    pub related_path: Option<EncodedPath>,
    /// The encoded content hash; empty for folders and deletions.
    pub hash: EncodedHash,
    /// Size of the blob, in bytes; 0 for an empty file, which has none.
    pub size: u64,
    /// Creation time, in milliseconds since the epoch.
    pub ctime: i64,
    /// Modification time, in milliseconds since the epoch.
    pub mtime: i64,
    /// True for a folder.
    pub folder: bool,
    /// True for a deletion.
    pub deleted: bool,
    /// The name of the client that made the change.
    pub device: String,
    /// The account that made the change.
    pub user: String,
}

/// The answer to a request: its fields depend on the request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(default)]
pub struct Answer {
    /// `ok`, `next` or `err`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub res: Option<String>,
    /// `err`, if a server reports it here instead of in `res`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Set for an error, with the reason; empty if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub err: Option<String>,
    /// The reason of an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub msg: Option<String>,
    /// The reason of an error, in another field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Pull: the encoded hash of the content that follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<EncodedHash>,
    /// Pull: size of the blob that follows; size: the vault's size; in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Pull: number of binary frames that follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pieces: Option<u64>,
    /// Pull: the content is gone or unknown, and no frames follow.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// Init: the largest file that can be uploaded, in bytes of plaintext (`perFileMax` or `max_size`).
    #[serde(rename = "perFileMax", skip_serializing_if = "Option::is_none")]
    pub per_file_max: Option<u64>,
    /// Init: the account (`userId` or `user_id`).
    #[serde(rename = "userId", skip_serializing_if = "Option::is_none")]
    pub user_id: Option<u64>,
    /// Size: the account's limit, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Deleted, history: the entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<Vec<PushMessage>>,
    /// History: there are older ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub more: Option<bool>,
}

impl ServerMessage {
    /// The text frame, as a server sends it.
    #[must_use]
    pub fn to_json(&self) -> String {
        super::to_json(self)
    }

    /// Parses a text frame. Unknown fields are ignored.
    ///
    /// # Errors
    /// [`MessageError`] if it is no JSON object, or a known message with missing or wrong fields.
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        let fields = json::parse(text, "server message", LISTS)?;
        match fields.named("server message").text("op")? {
            None => Answer::read(&fields.named("answer")).map(Self::Answer),
            Some("push") => Ok(Self::Push(PushMessage::read(&fields.named("push message")))),
            Some("ready") => {
                Ok(Self::Ready { version: fields.named("ready message").required_count("version")? })
            }
            Some("pong") => Ok(Self::Pong),
            Some(other) => Ok(Self::Unknown { op: json::clean(other, 64) }),
        }
    }
}

impl PushMessage {
    /// Replaces a uid or a size that is missing, no number, or beyond the range of exact ones: the smallest
    /// number beyond the range.
    pub const SENSELESS: u64 = limits::LARGEST_NUMBER + 1;

    /// True if its uid can be the version of a vault. Otherwise this entry has to be refused.
    #[must_use]
    pub fn has_sound_uid(&self) -> bool {
        self.uid.0 <= limits::LARGEST_NUMBER
    }

    /// True if its size can be that of a content. Otherwise this entry has to be refused, if it has a
    /// content.
    #[must_use]
    pub fn has_sound_size(&self) -> bool {
        self.size <= limits::LARGEST_NUMBER
    }

    /// Reads an entry whatever its fields are: one that another client spoiled must not hide the others. A
    /// path or hash that is no text becomes empty, which decodes to nothing; an invalid uid or size becomes
    /// [`Self::SENSELESS`], and so does the uid if a flag is invalid; an invalid time becomes none.
    fn read(message: &Message<'_, '_>) -> Self {
        let number =
            |field| message.required_count(field).map_or(Self::SENSELESS, |n| n.min(Self::SENSELESS));
        let text = |field| message.text(field).ok().flatten().unwrap_or_default();
        let time = |field| message.time(field).unwrap_or_default();
        let (folder, deleted) = (message.flag("folder"), message.flag("deleted"));
        let uid = if folder.is_ok() && deleted.is_ok() { number("uid") } else { Self::SENSELESS };
        Self {
            uid: Uid(uid),
            path: text("path").into(),
            related_path: message.text("relatedpath").ok().flatten().map(EncodedPath::from),
            hash: text("hash").into(),
            size: if message.holds("size") { number("size") } else { 0 },
            ctime: time("ctime"),
            mtime: time("mtime"),
            folder: folder.unwrap_or_default(),
            deleted: deleted.unwrap_or_default(),
            device: message.short_text("device", limits::NAME).unwrap_or_default(),
            user: message.short_text("user", limits::NAME).unwrap_or_default(),
        }
    }
}

impl Answer {
    /// `{"res":"ok"}`.
    #[must_use]
    pub fn ok() -> Self {
        Self { res: Some("ok".to_owned()), ..Self::default() }
    }

    /// `{"res":"next"}`.
    #[must_use]
    pub fn next() -> Self {
        Self { res: Some("next".to_owned()), ..Self::default() }
    }

    /// `{"res":"err","msg":…}`.
    #[must_use]
    pub fn failed(reason: impl Into<String>) -> Self {
        Self { res: Some("err".to_owned()), msg: Some(reason.into()), ..Self::default() }
    }

    /// True if the request is done.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.res.as_deref() == Some("ok") && self.error().is_none()
    }

    /// True if the server asks for the next frame of an upload.
    #[must_use]
    pub fn is_next(&self) -> bool {
        self.res.as_deref() == Some("next") && self.error().is_none()
    }

    /// The server's reason if this answer is an error, without control characters. It may repeat secrets:
    /// redact it before showing it, and shorten it only after that.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        let says_err = |field: &Option<String>| field.as_deref() == Some("err");
        if self.err.is_none() && !says_err(&self.res) && !says_err(&self.status) {
            return None;
        }
        let reasons = [&self.msg, &self.message, &self.err];
        let cleaned = reasons.into_iter().flatten().map(|reason| json::reason(reason));
        Some(cleaned.into_iter().find(|reason| !reason.is_empty()).unwrap_or_else(|| NO_REASON.to_owned()))
    }

    fn read(message: &Message<'_, '_>) -> Result<Self, MessageError> {
        let text = |field| Ok::<_, MessageError>(message.text(field)?.map(str::to_owned));
        let first_count = |one, other| Ok(message.count(one)?.or(message.count(other)?));
        let items = message.list("items")?.map(|items| {
            items.iter().map(|item| PushMessage::read(&item.named("item of the answer"))).collect()
        });
        Ok(Self {
            res: text("res")?,
            status: text("status")?,
            err: message.complaint("err"),
            msg: text("msg")?,
            message: text("message")?,
            hash: message.text("hash")?.map(EncodedHash::from),
            size: message.count("size")?,
            pieces: message.count("pieces")?,
            deleted: message.flag("deleted")?,
            per_file_max: first_count("perFileMax", "max_size")?,
            user_id: first_count("userId", "user_id")?,
            limit: message.count("limit")?,
            items,
            more: if message.has("more") { Some(message.flag("more")?) } else { None },
        })
    }
}
