//! Writing into a vault as a device would, without a socket: fast, and at once visible to every session.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use obsync_protocol::{
    ContentHash, EncodedHash, EncodedPath, EncryptionVersion, NameError, PathError, Uid, VaultId, VaultKeys,
    VaultPath,
};
use secrecy::SecretString;

use super::expected::Expected;
use super::spec::now;
use super::{Content, Entry, Vault, WrittenMessage};

/// A change that the vault refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The server does not know the vault's password: a client created it. Use `VaultHandle::unlock`.
    #[error("the password of this vault is not known to the server; unlock the vault first")]
    Locked,
    /// The password is not the vault's.
    #[error("this is not the password of the vault")]
    WrongPassword,
    /// The path is invalid in a vault.
    #[error("{0}")]
    Path(#[from] PathError),
    /// The name cannot be encoded.
    #[error("{0}")]
    Name(#[from] NameError),
    /// The content is too long for one file.
    #[error("the content cannot be encrypted: {0}")]
    Content(String),
    /// A folder would replace a file, or a file would replace a folder or be below a file.
    #[error("there is a {found} at {path:?}; remove it first")]
    Occupied {
        /// The path.
        path: String,
        /// The existing kind: "file" or "folder".
        found: &'static str,
    },
    /// There is nothing to change at the path.
    #[error("there is no {wanted} at {path:?}")]
    Missing {
        /// The path.
        path: String,
        /// The wanted kind: "file", "folder" or "file or folder".
        wanted: &'static str,
    },
    /// The system provides no random numbers.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
    /// The vault's folder is not writable.
    #[error("the vault's folder could not be written: {0}")]
    Disk(#[from] io::Error),
}

/// When a file was created and last changed, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When it was created.
    pub ctime: i64,
    /// When its content was last changed.
    pub mtime: i64,
}

/// A vault of the server, for writing as a device would.
///
/// Like a device, it creates folder entries for the parents of written files, except those that begin with a
/// dot (docs/PROTOCOL.md section 3), each with its own uid. Cheap to clone.
#[derive(Debug, Clone)]
pub struct VaultHandle {
    pub(crate) vault: Arc<Vault>,
    device: Arc<str>,
    user: Arc<str>,
}

impl VaultHandle {
    pub(crate) fn new(vault: Arc<Vault>) -> Self {
        Self { vault, device: Arc::from("Direct writer"), user: Arc::from("direct@example.com") }
    }

    /// The same vault, written under another device name.
    #[must_use]
    pub fn as_device(&self, device: &str) -> Self {
        Self { device: Arc::from(device), ..self.clone() }
    }

    /// The vault's id.
    pub fn id(&self) -> &VaultId {
        &self.vault.record.id
    }

    /// The vault's name.
    pub fn name(&self) -> &str {
        &self.vault.record.name
    }

    /// The vault's salt.
    pub fn salt(&self) -> &str {
        &self.vault.record.salt
    }

    /// The vault's encryption version.
    pub fn encryption_version(&self) -> EncryptionVersion {
        self.vault.record.version
    }

    /// The vault's password, as far as the server knows it.
    pub fn password(&self) -> Option<&SecretString> {
        self.vault.record.password()
    }

    /// The vault's version: the uid of the last change.
    pub fn version(&self) -> Uid {
        self.vault.version()
    }

    /// The vault's keys.
    ///
    /// # Errors
    /// When the server does not know the password.
    pub fn keys(&self) -> Result<&VaultKeys, WriteError> {
        self.vault.keys().ok_or(WriteError::Locked)
    }

    /// Gives the server the password of an end-to-end vault that a client created.
    ///
    /// # Errors
    /// When it is not this vault's password.
    pub fn unlock(&self, password: &SecretString) -> Result<(), WriteError> {
        let keys = self.vault.record.keys_from(password);
        if !self.vault.record.admits(keys.key_hash().as_str()) {
            return Err(WriteError::WrongPassword);
        }
        self.vault.unlock(keys);
        Ok(())
    }

    /// Writes a file, new or over an old one, and returns its uid. `mtime` is in milliseconds since the epoch.
    ///
    /// # Errors
    /// When the path is invalid, is a folder or below a file, or the vault is locked.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>, mtime: i64) -> Result<Uid, WriteError> {
        self.write_with(path, content, Times { ctime: mtime, mtime })
    }

    /// Writes a file as [`VaultHandle::write`] does, with both its times.
    ///
    /// # Errors
    /// As [`VaultHandle::write`].
    pub fn write_with(&self, path: &str, content: impl AsRef<[u8]>, times: Times) -> Result<Uid, WriteError> {
        let path = VaultPath::parse(path)?;
        let mut changes = self.missing_parents(&path)?;
        if self.live(&path)?.is_some_and(|entry| entry.folder) {
            return Err(occupied(&path, "folder"));
        }
        changes.push(self.file_entry(&path, content.as_ref(), times)?);
        self.record(changes)
    }

    /// Creates a folder and returns its uid; an existing one keeps its uid.
    ///
    /// # Errors
    /// When the path is invalid, is a file or below one, or the vault is locked.
    pub fn create_folder(&self, path: &str) -> Result<Uid, WriteError> {
        let path = VaultPath::parse(path)?;
        let mut changes = self.missing_parents(&path)?;
        match self.live(&path)? {
            Some(entry) if entry.folder => return Ok(entry.uid),
            Some(_) => return Err(occupied(&path, "file")),
            None => changes.push(self.folder_entry(&path)?),
        }
        self.record(changes)
    }

    /// Deletes a file, or a folder with everything below it, deepest first; returns the last uid.
    ///
    /// # Errors
    /// When there is nothing at the path, or the vault is locked.
    pub fn delete(&self, path: &str) -> Result<Uid, WriteError> {
        let path = VaultPath::parse(path)?;
        let entry = self.live(&path)?.ok_or_else(|| missing(&path, "file or folder"))?;
        let mut changes = Vec::new();
        if entry.folder {
            for (_, entry) in self.below(&path)?.iter().rev() {
                changes.push(self.deletion(entry));
            }
        }
        changes.push(self.deletion(&entry));
        self.record(changes)
    }

    /// Deletes a folder as [`VaultHandle::delete`] does.
    ///
    /// # Errors
    /// When there is no folder at the path, or the vault is locked.
    pub fn delete_folder(&self, path: &str) -> Result<Uid, WriteError> {
        let parsed = VaultPath::parse(path)?;
        match self.live(&parsed)? {
            Some(entry) if entry.folder => self.delete(path),
            _ => Err(missing(&parsed, "folder")),
        }
    }

    /// Renames a file, or a folder with everything below it; returns the last uid.
    ///
    /// Each moved entry is a deletion of the old path and an entry for the new one with its `relatedpath`.
    ///
    /// # Errors
    /// When there is nothing at the old path, something at the new one, or the vault is locked.
    pub fn rename(&self, from: &str, to: &str) -> Result<Uid, WriteError> {
        let (from, to) = (VaultPath::parse(from)?, VaultPath::parse(to)?);
        let entry = self.live(&from)?.ok_or_else(|| missing(&from, "file or folder"))?;
        if let Some(found) = self.live(&to)? {
            return Err(occupied(&to, if found.folder { "folder" } else { "file" }));
        }
        let parents = self.missing_parents(&to)?;
        let (mut made, mut removed) = (vec![self.moved(&entry, &to)?], vec![self.deletion(&entry)]);
        if entry.folder {
            for (path, entry) in self.below(&from)? {
                let rest = path.as_str().strip_prefix(from.as_str()).unwrap_or_default();
                made.push(self.moved(&entry, &to.join(rest.trim_start_matches('/'))?)?);
                removed.push(self.deletion(&entry));
            }
        }
        removed.reverse();
        self.record(parents.into_iter().chain(removed).chain(made).collect())
    }

    /// Renames a file so that the deletion and the new entry share one uid, as is reported of production.
    ///
    /// # Errors
    /// As [`VaultHandle::rename`].
    pub fn rename_sharing_uid(&self, from: &str, to: &str) -> Result<Uid, WriteError> {
        let (from, to) = (VaultPath::parse(from)?, VaultPath::parse(to)?);
        let entry = self.live(&from)?.filter(|entry| !entry.folder).ok_or_else(|| missing(&from, "file"))?;
        self.record(self.missing_parents(&to)?)?;
        let changes = vec![self.deletion(&entry), self.moved(&entry, &to)?];
        let recorded = self.vault.record(changes, true)?;
        Ok(recorded.last().map_or_else(|| self.version(), |entry| entry.uid))
    }

    /// Rolls the vault back to an earlier version, like a server restored from a backup. Open sessions
    /// continue and are not notified; later changes reuse the uids that were rolled back.
    ///
    /// # Errors
    /// When the data folder is not writable.
    pub fn roll_back(&self, to: Uid) -> Result<(), WriteError> {
        Ok(self.vault.roll_back(to)?)
    }

    /// Removes every version but the latest of each path, like a service whose versions expire.
    ///
    /// # Errors
    /// When the data folder is not writable.
    pub fn purge(&self) -> Result<(), WriteError> {
        Ok(self.vault.purge()?)
    }

    /// The expected result of a full pull now.
    ///
    /// # Errors
    /// When the vault is locked.
    pub fn expected(&self) -> Result<Expected, WriteError> {
        Ok(Expected::of_entries(self.keys()?, &self.vault.all_latest()))
    }

    /// The contents of all files in memory, by path, without damaged ones.
    ///
    /// # Errors
    /// As for [`VaultHandle::keys`].
    pub fn contents(&self) -> Result<BTreeMap<String, Vec<u8>>, WriteError> {
        let keys = self.keys()?;
        let files = self.vault.all_latest().into_iter().filter(|entry| !entry.deleted && !entry.folder);
        Ok(files
            .filter_map(|entry| {
                let path = keys.decode_path(&entry.path).ok()?;
                let mut plain = Vec::new();
                match &entry.content {
                    Some(Content::Memory(bytes)) => {
                        let mut decryptor = keys.content_decryptor();
                        decryptor.update(bytes, &mut plain).ok()?;
                        decryptor.finish().ok()?;
                    }
                    Some(Content::File { .. }) => return None,
                    None => {}
                }
                Some((path.to_string(), plain))
            })
            .collect())
    }

    /// The last entry for the path, unless it is a deletion.
    fn live(&self, path: &VaultPath) -> Result<Option<Arc<Entry>>, WriteError> {
        let encoded = self.keys()?.encode_path(path);
        Ok(self.vault.latest(&encoded).filter(|entry| !entry.deleted))
    }

    /// The live entries below a folder with their paths, parents before children.
    fn below(&self, folder: &VaultPath) -> Result<Vec<(VaultPath, Arc<Entry>)>, WriteError> {
        let keys = self.keys()?;
        let mut found: Vec<_> = self
            .vault
            .all_latest()
            .into_iter()
            .filter(|entry| !entry.deleted)
            .filter_map(|entry| Some((keys.decode_path(&entry.path).ok()?, entry)))
            .filter(|(path, _)| path.is_below(folder))
            .collect();
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    }

    /// Folder entries for the parents that have none, topmost first.
    fn missing_parents(&self, path: &VaultPath) -> Result<Vec<Entry>, WriteError> {
        let mut missing = Vec::new();
        for parent in path.ancestors() {
            match self.live(&parent)? {
                Some(entry) if entry.folder => break,
                Some(_) => return Err(occupied(&parent, "file")),
                None if parent.as_str().starts_with('.') => {}
                None => missing.push(self.folder_entry(&parent)?),
            }
        }
        missing.reverse();
        Ok(missing)
    }

    /// Writes a file to an encoded path, whatever is there.
    pub(crate) fn write_encoded(
        &self,
        path: &EncodedPath,
        content: &[u8],
        now: i64,
    ) -> Result<Uid, WriteError> {
        let parsed = self.keys()?.decode_path(path)?;
        self.record(vec![self.file_entry(&parsed, content, Times { ctime: now, mtime: now })?])
    }

    fn file_entry(&self, path: &VaultPath, content: &[u8], times: Times) -> Result<Entry, WriteError> {
        let keys = self.keys()?;
        let hash = keys.encode_hash(&ContentHash::of(content));
        let content = match self.vault.content(&hash) {
            Some(known) => Some(known),
            None if content.is_empty() => None,
            None => Some(Content::Memory(self.seal(content)?)),
        };
        Ok(Entry {
            extension: path.extension(),
            hash,
            ctime: times.ctime,
            mtime: times.mtime,
            size: content.as_ref().map_or(0, Content::len),
            content,
            ..self.blank(keys.encode_path(path))
        })
    }

    fn folder_entry(&self, path: &VaultPath) -> Result<Entry, WriteError> {
        Ok(Entry { folder: true, ..self.blank(self.keys()?.encode_path(path)) })
    }

    fn deletion(&self, entry: &Entry) -> Entry {
        Entry {
            folder: entry.folder,
            deleted: true,
            extension: entry.extension.clone(),
            ..self.blank(entry.path.clone())
        }
    }

    fn moved(&self, entry: &Entry, to: &VaultPath) -> Result<Entry, WriteError> {
        Ok(Entry {
            path: self.keys()?.encode_path(to),
            relatedpath: Some(entry.path.clone()),
            extension: if entry.folder { String::new() } else { to.extension() },
            device: self.device.to_string(),
            user: self.user.to_string(),
            ..entry.clone()
        })
    }

    /// An entry by this device with default values.
    pub(super) fn blank(&self, path: EncodedPath) -> Entry {
        Entry {
            uid: Uid(0),
            path,
            relatedpath: None,
            extension: String::new(),
            hash: EncodedHash::from(String::new()),
            ctime: 0,
            mtime: 0,
            folder: false,
            deleted: false,
            size: 0,
            device: self.device.to_string(),
            user: self.user.to_string(),
            damaged: false,
            content: None,
            message: WrittenMessage::default(),
        }
    }

    /// Encrypts content under a random nonce.
    pub(super) fn seal(&self, content: &[u8]) -> Result<Bytes, WriteError> {
        let mut nonce = [0; 12];
        getrandom::fill(&mut nonce).map_err(|error| WriteError::Randomness(error.to_string()))?;
        let sealed = self.keys()?.seal(nonce, content);
        sealed.map(Bytes::from).map_err(|error| WriteError::Content(error.to_string()))
    }

    /// Records changes and returns the last uid; none leaves the version as it is.
    pub(super) fn record(&self, changes: Vec<Entry>) -> Result<Uid, WriteError> {
        let recorded = self.vault.record(changes, false)?;
        Ok(recorded.last().map_or_else(|| self.version(), |entry| entry.uid))
    }

    /// The time now, for changes that the server itself makes.
    pub(crate) fn now() -> i64 {
        i64::try_from(now()).unwrap_or(i64::MAX)
    }
}

fn occupied(path: &VaultPath, found: &'static str) -> WriteError {
    WriteError::Occupied { path: path.to_string(), found }
}

fn missing(path: &VaultPath, wanted: &'static str) -> WriteError {
    WriteError::Missing { path: path.to_string(), wanted }
}
