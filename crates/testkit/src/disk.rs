//! Vaults on disk: a folder with `vault.json`, `entries.jsonl` and `blobs/<uid>.bin`, as in the fixtures.
//!
//! For a development server: every change is written before its device gets the answer, but nothing is
//! flushed to the disk itself, so a power cut may lose the last changes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use obsync_protocol::{EncryptionVersion, VaultId};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::vault::{Content, Encryption, Entry, REGION, VaultRecord};

/// A vault folder that changes are written to.
#[derive(Debug)]
pub(crate) struct VaultFolder {
    dir: PathBuf,
    entries: File,
}

/// The storage of a loaded vault folder's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Read into memory: the folder is not needed any more.
    InMemory,
    /// Read on demand.
    OnDisk,
}

/// The text of `vault.json`.
#[derive(Serialize, Deserialize)]
struct VaultFile {
    id: VaultId,
    name: String,
    encryption_version: EncryptionVersion,
    salt: String,
    keyhash: String,
    #[serde(default)]
    managed_password: String,
    #[serde(default)]
    end_to_end_password: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    shared_with: Vec<String>,
    #[serde(default)]
    created: u64,
    #[serde(default = "region")]
    region: String,
}

/// The default region: fixtures have none.
fn region() -> String {
    REGION.to_owned()
}

impl VaultFolder {
    pub(crate) fn create(dir: &Path, record: &VaultRecord) -> io::Result<Self> {
        std::fs::create_dir_all(dir.join("blobs"))?;
        let text = serde_json::to_vec_pretty(&VaultFile::from(record))?;
        write_atomically(&dir.join("vault.json"), &text)?;
        Self::open(dir)
    }

    /// Opens the folder of a vault for more entries; cuts off half a line at the end of the log first.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let log = dir.join("entries.jsonl");
        let entries = OpenOptions::new().create(true).append(true).open(&log)?;
        let text = std::fs::read(&log)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            entries.set_len(whole as u64)?;
        }
        Ok(Self { dir: dir.to_path_buf(), entries })
    }

    /// Writes an entry, its content first, and returns the content in its stored form.
    pub(crate) fn append(&mut self, entry: &Entry) -> io::Result<Option<Content>> {
        let content = match &entry.content {
            Some(content) => Some(self.write_content(entry, content)?),
            None => None,
        };
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        self.entries.write_all(&line)?;
        Ok(content)
    }

    /// Replaces the log by these entries and removes the contents that none of them has.
    pub(crate) fn rewrite(&mut self, log: &[Arc<Entry>]) -> io::Result<()> {
        let mut text = Vec::new();
        for entry in log {
            serde_json::to_writer(&mut text, entry.as_ref())?;
            text.push(b'\n');
        }
        write_atomically(&self.dir.join("entries.jsonl"), &text)?;
        *self = Self::open(&self.dir)?;
        let wanted: std::collections::HashSet<PathBuf> =
            log.iter().filter(|entry| entry.content.is_some()).map(|entry| self.blob(entry)).collect();
        for blob in std::fs::read_dir(self.dir.join("blobs"))? {
            let path = blob?.path();
            if !wanted.contains(&path) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn write_content(&self, entry: &Entry, content: &Content) -> io::Result<Content> {
        let path = self.blob(entry);
        match content {
            Content::Memory(bytes) => std::fs::write(&path, bytes)?,
            // Known content gets a second name for the same file, or is copied where links are unsupported.
            Content::File { path: known, .. } => {
                if std::fs::hard_link(known, &path).is_err() {
                    std::fs::copy(known, &path)?;
                }
            }
        }
        Ok(Content::File { path: Arc::from(path), size: content.len() })
    }

    fn blob(&self, entry: &Entry) -> PathBuf {
        blob_path(&self.dir, entry)
    }
}

/// Reads a vault folder.
pub(crate) fn load(dir: &Path, keep: Keep) -> io::Result<(VaultRecord, Vec<Entry>)> {
    let text = std::fs::read(dir.join("vault.json"))?;
    let record = VaultRecord::from(serde_json::from_slice::<VaultFile>(&text)?);
    let text = match std::fs::read_to_string(dir.join("entries.jsonl")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let mut entries = Vec::new();
    for line in text.split_inclusive('\n').filter(|line| !line.trim().is_empty()) {
        // A line without its end was being written when the server stopped: its device got no answer.
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        let mut entry: Entry = serde_json::from_str(line)?;
        entry.content = load_content(dir, &entry, keep)?;
        entries.push(entry);
    }
    if !entries.is_sorted_by_key(|entry| entry.uid) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the entries are not ascending by uid"));
    }
    Ok((record, entries))
}

/// The folders below `dir` that contain a vault.
pub(crate) fn vault_folders(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = Vec::new();
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        if path.join("vault.json").is_file() {
            folders.push(path);
        }
    }
    folders.sort();
    Ok(folders)
}

/// Replaces a file atomically, readable by its owner only: a reader sees the old text or the new one.
pub(crate) fn write_atomically(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&temporary)?.write_all(text)?;
    std::fs::rename(&temporary, path)
}

fn load_content(dir: &Path, entry: &Entry, keep: Keep) -> io::Result<Option<Content>> {
    if entry.folder || entry.deleted || entry.size == 0 {
        return Ok(None);
    }
    let path = blob_path(dir, entry);
    let loaded = match keep {
        Keep::InMemory => std::fs::read(&path).map(|bytes| Content::Memory(Bytes::from(bytes))),
        Keep::OnDisk => std::fs::metadata(&path)
            .map(|metadata| Content::File { path: Arc::from(path.as_path()), size: metadata.len() }),
    };
    match loaded {
        Ok(content) => Ok(Some(content)),
        // An old version whose content is gone: a pull of it is answered `deleted`.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn blob_path(dir: &Path, entry: &Entry) -> PathBuf {
    dir.join("blobs").join(format!("{}.bin", entry.uid))
}

impl From<&VaultRecord> for VaultFile {
    fn from(record: &VaultRecord) -> Self {
        let (managed, end_to_end) = match &record.encryption {
            Encryption::Managed(password) => (password.expose_secret(), ""),
            Encryption::EndToEnd(password) => {
                ("", password.as_ref().map(ExposeSecret::expose_secret).unwrap_or_default())
            }
        };
        Self {
            id: record.id.clone(),
            name: record.name.clone(),
            encryption_version: record.version,
            salt: record.salt.clone(),
            keyhash: record.key_hash.clone(),
            managed_password: managed.to_owned(),
            end_to_end_password: end_to_end.to_owned(),
            owner: record.owner.clone(),
            shared_with: record.shared_with.clone(),
            created: record.created,
            region: record.region.clone(),
        }
    }
}

impl From<VaultFile> for VaultRecord {
    fn from(file: VaultFile) -> Self {
        let known = |password: String| (!password.is_empty()).then(|| SecretString::from(password));
        let encryption = match known(file.managed_password) {
            Some(password) => Encryption::Managed(password),
            None => Encryption::EndToEnd(known(file.end_to_end_password)),
        };
        Self {
            id: file.id,
            name: file.name,
            version: file.encryption_version,
            salt: file.salt,
            key_hash: file.keyhash,
            encryption,
            owner: file.owner,
            shared_with: file.shared_with,
            created: file.created,
            region: file.region,
        }
    }
}
