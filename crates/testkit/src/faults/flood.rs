//! Masses of entries in a listing after those of the vault, to fill a client's memory.

use std::str::FromStr;

use obsync_protocol::{
    CONTENT_OVERHEAD, ContentHash, EncodedPath, PushMessage, ServerMessage, Uid, VaultKeys,
};

use super::FaultError;

/// A flood of entries: their kind and number (setting `flood`, such as `undecodable:1000000`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flood {
    /// The kind of entries.
    pub kind: FloodKind,
    /// Number of entries in each listing.
    pub count: u64,
}

/// The kinds of entries of a [`Flood`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FloodKind {
    /// Folders with distinct paths (`folders`).
    Folders,
    /// Files with distinct paths and contents, which the server does not have (`files`).
    Files,
    /// Folders below the file `note.md`, with distinct paths in every version of the vault (`below-a-file`).
    BelowAFile,
    /// Deletions of distinct paths (`deletions`).
    Deletions,
    /// Files of one path under one uid (`repeated`).
    Repeated,
    /// Entries with undecodable paths of 120 characters each (`undecodable`).
    Undecodable,
    /// The same with paths of 16 KiB (`undecodable-long`).
    UndecodableLong,
    /// Deletions of such paths, 120 characters each (`undecodable-deletions`).
    UndecodableDeletions,
}

const KINDS: &[(&str, FloodKind)] = &[
    ("folders", FloodKind::Folders),
    ("files", FloodKind::Files),
    ("below-a-file", FloodKind::BelowAFile),
    ("deletions", FloodKind::Deletions),
    ("repeated", FloodKind::Repeated),
    ("undecodable", FloodKind::Undecodable),
    ("undecodable-long", FloodKind::UndecodableLong),
    ("undecodable-deletions", FloodKind::UndecodableDeletions),
];

impl Flood {
    /// The `number`th entry (from 0) as the server sends it, in a vault that was at `version`. `None`: the
    /// vault is locked, so that no path can be encoded.
    pub(crate) fn message(self, number: u64, version: Uid, keys: Option<&VaultKeys>) -> Option<String> {
        let own = |text: String| Some(EncodedPath::from(keys?.encode_text(&text).ok()?));
        let random = |digits: usize| Some(EncodedPath::from(format!("{number:0>digits$x}")));
        let (path, folder, deleted) = match self.kind {
            FloodKind::Folders => (own(format!("flood/{number}"))?, true, false),
            FloodKind::Files => (own(format!("flood/{}/note {number}.md", number % 1000))?, false, false),
            FloodKind::BelowAFile => (own(format!("note.md/{}-{number}", version.0))?, true, false),
            FloodKind::Deletions => (own(format!("flood/{number}.md"))?, false, true),
            FloodKind::Repeated => (own("flood.md".to_owned())?, true, false),
            FloodKind::Undecodable => (random(120)?, false, false),
            FloodKind::UndecodableLong => (random(16 << 10)?, false, false),
            FloodKind::UndecodableDeletions => (random(120)?, false, true),
        };
        let step = if self.kind == FloodKind::Repeated { 1 } else { number + 1 };
        let mut entry =
            PushMessage { uid: Uid(version.0 + step), path, folder, deleted, ..PushMessage::default() };
        if self.kind == FloodKind::Files {
            let content = ContentHash::of(number.to_string().as_bytes());
            (entry.hash, entry.size) = (keys?.encode_hash(&content), 1000 + CONTENT_OVERHEAD);
        }
        Some(ServerMessage::Push(entry).to_json())
    }
}

impl FromStr for Flood {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let parsed = text.split_once(':').and_then(|(name, count)| {
            let (_, kind) = KINDS.iter().find(|(known, _)| *known == name)?;
            Some(Self { kind: *kind, count: count.parse().ok()? })
        });
        let expected = "it is a kind (folders, files, below-a-file, deletions, repeated, undecodable, undecodable-long, \
                        undecodable-deletions), a colon and a number";
        parsed.ok_or_else(|| FaultError::Value { name: "flood", value: text.to_owned(), expected })
    }
}
