//! One change in a vault, as pushes record it and listings return it.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use obsync_protocol::{EncodedHash, EncodedPath, PushMessage, ServerMessage, Uid};
use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// A recorded change; also a line of `entries.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) uid: Uid,
    pub(crate) path: EncodedPath,
    pub(crate) relatedpath: Option<EncodedPath>,
    #[serde(default)]
    pub(crate) extension: String,
    pub(crate) hash: EncodedHash,
    /// Milliseconds since the epoch; 0 for folders and deletions.
    pub(crate) ctime: i64,
    /// Milliseconds since the epoch; 0 for folders and deletions.
    pub(crate) mtime: i64,
    pub(crate) folder: bool,
    pub(crate) deleted: bool,
    /// Bytes of the encrypted content.
    pub(crate) size: u64,
    #[serde(default)]
    pub(crate) device: String,
    #[serde(default)]
    pub(crate) user: String,
    /// Written to mislead: no correct client can take this content.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) damaged: bool,
    /// The encrypted content; `None` for folders, deletions, empty files and purged versions.
    #[serde(skip)]
    pub(crate) content: Option<Content>,
    #[serde(skip)]
    pub(crate) message: WrittenMessage,
}

/// The cached message of an entry: a server lists the same entries again and again. A copy of an entry, which
/// may be changed, begins without.
#[derive(Debug, Default)]
pub(crate) struct WrittenMessage(OnceLock<Utf8Bytes>);

impl Clone for WrittenMessage {
    fn clone(&self) -> Self {
        Self::default()
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Encrypted content: in memory, or in a file of the data folder.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Memory(Bytes),
    File { path: Arc<Path>, size: u64 },
}

impl Content {
    /// Bytes of the encrypted content.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File { size, .. } => *size,
        }
    }

    /// The content as a whole, from memory without a copy.
    pub(crate) async fn bytes(&self) -> io::Result<Bytes> {
        match self {
            Self::Memory(bytes) => Ok(bytes.clone()),
            Self::File { path, .. } => Ok(Bytes::from(tokio::fs::read(path).await?)),
        }
    }
}

impl Entry {
    /// The entry as a message to a device (docs/PROTOCOL.md section 3).
    pub(crate) fn to_message(&self) -> PushMessage {
        PushMessage {
            uid: self.uid,
            path: self.path.clone(),
            related_path: self.relatedpath.clone(),
            hash: self.hash.clone(),
            size: self.size,
            ctime: self.ctime,
            mtime: self.mtime,
            folder: self.folder,
            deleted: self.deleted,
            device: self.device.clone(),
            user: self.user.clone(),
        }
    }

    /// The `push` message for this entry.
    pub(crate) fn to_push(&self) -> Utf8Bytes {
        self.message.0.get_or_init(|| ServerMessage::Push(self.to_message()).to_json().into()).clone()
    }

    /// True if this entry is an existing file.
    pub(crate) fn is_live_file(&self) -> bool {
        !self.deleted && !self.folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_becomes_another_entry_is_told_as_that() {
        let line = r#"{"uid":1,"path":"a","relatedpath":null,"hash":"","ctime":0,"mtime":0,"folder":false,"deleted":false,"size":0}"#;
        let entry: Entry = serde_json::from_str(line).unwrap();
        assert!(entry.to_push().contains(r#""uid":1"#), "{}", entry.to_push());
        let moved = Entry { uid: Uid(2), path: EncodedPath::from("b".to_owned()), ..entry.clone() };
        assert!(moved.to_push().contains(r#""uid":2"#), "{}", moved.to_push());
    }
}
