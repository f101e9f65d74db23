//! Entries that no honest device writes: hostile paths, wrong hashes, false sizes, contents of another file.

use bytes::Bytes;
use obsync_protocol::{ContentHash, EncodedHash, EncodedPath, Uid, VaultPath};

use super::handle::{VaultHandle, WriteError};
use super::{Content, Entry};

/// An entry that is written exactly as given.
#[derive(Debug, Clone, Default)]
pub struct RawEntry {
    /// The path on the wire, assumed to be encoded.
    pub path: String,
    /// The old path on the wire.
    pub relatedpath: Option<String>,
    /// The content hash on the wire.
    pub hash: String,
    /// The claimed size of its content, in bytes.
    pub size: u64,
    /// Milliseconds since the epoch.
    pub ctime: i64,
    /// Milliseconds since the epoch.
    pub mtime: i64,
    /// It is a folder.
    pub folder: bool,
    /// It is a deletion.
    pub deleted: bool,
    /// The encrypted content in the answer to a pull.
    pub content: Option<Bytes>,
    /// A correct client accepts this entry, so it counts in [`VaultHandle::expected`].
    pub good: bool,
}

/// Paths that a client must refuse (docs/PROTOCOL.md section 4): none may lead to a file anywhere.
pub(crate) const HOSTILE_PATHS: &[&str] = &[
    "../outside.md",
    "",
    "notes/../../outside.md",
    "/etc/obsync-outside.md",
    "notes//double.md",
    "notes/./dot.md",
    "trailing/",
    "..",
    ".",
    "back\\slash.md",
    "..\\outside.md",
    "nul\0byte.md",
    "line\nbreak.md",
    "escape\u{1b}[31m.md",
    "delete\u{7f}.md",
    "next-line\u{85}.md",
    "Projects/.git/config",
    ".GIT/hooks/post-checkout",
    "Projects/git~1/config",
    "Projects/.git::$INDEX_ALLOCATION/config",
    "Projects/.g\u{200c}it/config",
    "Projects/.git. ./config",
];

/// Files that make a folder a git repository, beside its `config`.
const REPOSITORY: &[(&str, &str)] = &[("HEAD", "ref: refs/heads/main\n"), ("objects/info/packs", "\n")];

impl VaultHandle {
    /// Writes an entry exactly as given and returns its uid.
    ///
    /// # Errors
    /// When the vault's folder is not writable.
    pub fn write_raw(&self, raw: RawEntry) -> Result<Uid, WriteError> {
        let entry = Entry {
            relatedpath: raw.relatedpath.map(EncodedPath::from),
            hash: EncodedHash::from(raw.hash),
            size: raw.size,
            ctime: raw.ctime,
            mtime: raw.mtime,
            folder: raw.folder,
            deleted: raw.deleted,
            content: raw.content.map(Content::Memory),
            damaged: !raw.good,
            ..self.blank(EncodedPath::from(raw.path))
        };
        self.record(vec![entry])
    }

    /// Writes a file under an unchecked path: the text is encoded unchanged.
    ///
    /// # Errors
    /// When the vault is locked or the text too long to be encoded.
    pub fn write_hostile_path(&self, path: &str, content: impl AsRef<[u8]>) -> Result<Uid, WriteError> {
        let raw = self.raw(path, content.as_ref())?;
        self.write_raw(raw)
    }

    /// Writes a file under each of the paths that a client must refuse; returns their number.
    ///
    /// # Errors
    /// When the vault is locked.
    pub fn write_hostile_paths(&self) -> Result<usize, WriteError> {
        for path in HOSTILE_PATHS {
            self.write_hostile_path(path, b"must not be written")?;
        }
        Ok(HOSTILE_PATHS.len())
    }

    /// Writes the files of a git repository below `folder`, with a configuration that makes git run `program`
    /// as soon as somebody asks for the status; a bare one if `folder` is not called `.git`. Returns the
    /// paths.
    ///
    /// # Errors
    /// When the vault is locked.
    pub fn write_git_repository(&self, folder: &str, program: &str) -> Result<Vec<String>, WriteError> {
        let work_tree = if folder.ends_with(".git") { "" } else { "\tworktree = .\n" };
        let config = format!(
            "[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tfsmonitor = {program}\n{work_tree}"
        );
        let files = REPOSITORY.iter().copied().chain([("config", config.as_str()), ("refs/main", "\n")]);
        let mut paths = Vec::new();
        for (name, content) in files {
            let path = format!("{folder}/{name}");
            self.write_hostile_path(&path, content)?;
            paths.push(path);
        }
        Ok(paths)
    }

    /// True if the hostile paths were written already.
    pub(crate) fn has_hostile_paths(&self) -> Result<bool, WriteError> {
        let first = HOSTILE_PATHS.first().copied().unwrap_or_default();
        let encoded = EncodedPath::from(self.keys()?.encode_text(first)?);
        Ok(self.vault.latest(&encoded).is_some())
    }

    /// Writes a file whose entry has the hash of another content; the content itself is intact.
    ///
    /// # Errors
    /// As [`VaultHandle::write`].
    pub fn write_wrong_hash(&self, path: &str, content: impl AsRef<[u8]>) -> Result<Uid, WriteError> {
        let path = VaultPath::parse(path)?;
        let other = ContentHash::of(b"some other content");
        let hash = self.keys()?.encode_hash(&other).as_str().to_owned();
        let raw = RawEntry { hash, ..self.raw(path.as_str(), content.as_ref())? };
        self.write_raw(raw)
    }

    /// Writes a file whose entry claims that its encrypted content has `size` bytes.
    ///
    /// # Errors
    /// As [`VaultHandle::write`].
    pub fn write_lying_size(
        &self,
        path: &str,
        content: impl AsRef<[u8]>,
        size: u64,
    ) -> Result<Uid, WriteError> {
        let path = VaultPath::parse(path)?;
        let raw = RawEntry { size, ..self.raw(path.as_str(), content.as_ref())? };
        self.write_raw(raw)
    }

    /// Writes a file with a correct entry but a damaged stored content: one bit is flipped, so that
    /// decryption always fails.
    ///
    /// # Errors
    /// As [`VaultHandle::write`].
    pub fn write_damaged(&self, path: &str, content: impl AsRef<[u8]>) -> Result<Uid, WriteError> {
        let path = VaultPath::parse(path)?;
        let mut raw = self.raw(path.as_str(), content.as_ref())?;
        let mut bytes = raw.content.take().unwrap_or_default().to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        self.write_raw(RawEntry { content: Some(Bytes::from(bytes)), ..raw })
    }

    /// A raw entry for content, its path encoded without a check.
    fn raw(&self, path: &str, content: &[u8]) -> Result<RawEntry, WriteError> {
        let keys = self.keys()?;
        let sealed = self.seal(content)?;
        Ok(RawEntry {
            path: keys.encode_text(path)?,
            hash: keys.encode_hash(&ContentHash::of(content)).as_str().to_owned(),
            size: sealed.len() as u64,
            ctime: 1_700_000_000_000,
            mtime: 1_700_000_000_000,
            content: Some(sealed),
            ..RawEntry::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hostile_path_is_one_that_must_be_refused() {
        for path in HOSTILE_PATHS {
            let checked = VaultPath::parse(path).and_then(|path| path.check_to_write());
            assert!(checked.is_err(), "{path:?} is taken");
        }
    }
}
