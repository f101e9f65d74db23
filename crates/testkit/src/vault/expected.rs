//! The expected result of a full pull: from a vault's entries, from a fixture, or as found in a directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use obsync_protocol::{ContentHash, ContentHasher, VaultKeys, plain_size};
use serde::{Deserialize, Serialize};

use super::Entry;

/// A tree of files and folders, in the format of a fixture's `expected.json`; both sorted by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// The files.
    pub files: Vec<ExpectedFile>,
    /// The folders that have their own entry; parents of files may have none.
    pub folders: Vec<String>,
}

/// A file that a full pull must produce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpectedFile {
    /// Relative path, `/`-separated.
    pub path: String,
    /// Bytes of the plaintext.
    pub size: u64,
    /// Lower-case hex SHA-256 of the plaintext.
    pub sha256: String,
    /// Milliseconds since the epoch.
    pub mtime_ms: i64,
}

impl Expected {
    /// Reads the `expected.json` of a fixture folder.
    ///
    /// # Errors
    /// When it is unreadable or invalid.
    pub fn load(fixture: &Path) -> io::Result<Self> {
        let text = fs::read(fixture.join("expected.json"))?;
        let mut expected: Self = serde_json::from_slice(&text)?;
        expected.sort();
        Ok(expected)
    }

    /// Reads a directory: every file with its hash, and every folder, including those without files. obsync's
    /// own files of a finished run (see `STAYS`) are left out; anything else in its folder is not.
    ///
    /// # Errors
    /// When something in it is unreadable, has a name that is not UTF-8, or is neither file nor folder.
    pub fn of_directory(dir: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        found.read_directory(dir, "")?;
        found.sort();
        Ok(found)
    }

    /// The bytes of all files.
    pub fn total_size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// Every folder, the parents of files and of folders included.
    pub fn all_folders(&self) -> BTreeSet<String> {
        let paths = self.files.iter().map(|file| &file.path).chain(&self.folders);
        let parents = paths.flat_map(|path| path.match_indices('/').map(|(end, _)| path[..end].to_owned()));
        parents.chain(self.folders.iter().cloned()).collect()
    }

    /// The differences of a directory from this, one line each; empty when it is equal.
    ///
    /// # Errors
    /// As [`Expected::of_directory`].
    pub fn differences(&self, dir: &Path) -> io::Result<Vec<String>> {
        let found = Self::of_directory(dir)?;
        let mut lines = Vec::new();
        let wanted: BTreeMap<_, _> = self.files.iter().map(|file| (&file.path, file)).collect();
        let present: BTreeMap<_, _> = found.files.iter().map(|file| (&file.path, file)).collect();
        for (path, file) in &wanted {
            match present.get(path) {
                None => lines.push(format!("missing file {path:?}")),
                Some(other) if other != file => lines.push(format!("{other:?} instead of {file:?}")),
                Some(_) => {}
            }
        }
        lines.extend(
            present
                .keys()
                .filter(|path| !wanted.contains_key(*path))
                .map(|path| format!("extra file {path:?}")),
        );
        let (wanted, present) = (self.all_folders(), found.all_folders());
        lines.extend(wanted.difference(&present).map(|path| format!("missing folder {path:?}")));
        lines.extend(present.difference(&wanted).map(|path| format!("extra folder {path:?}")));
        Ok(lines)
    }

    /// The result of the latest entries of all paths, without those that a correct client refuses.
    pub(crate) fn of_entries(keys: &VaultKeys, entries: &[Arc<Entry>]) -> Self {
        let mut expected = Self::default();
        for entry in entries.iter().filter(|entry| !entry.deleted && !entry.damaged) {
            let Ok(path) = keys.decode_path(&entry.path) else {
                continue;
            };
            if entry.folder {
                expected.folders.push(path.to_string());
                continue;
            }
            let (Ok(hash), Some(size)) = (keys.decode_hash(&entry.hash), plain_size(entry.size)) else {
                continue;
            };
            expected.files.push(ExpectedFile {
                path: path.to_string(),
                size,
                sha256: hash.to_string(),
                mtime_ms: entry.mtime,
            });
        }
        expected.sort();
        expected
    }

    fn sort(&mut self) {
        self.files.sort_by(|one, other| one.path.cmp(&other.path));
        self.folders.sort();
    }

    fn read_directory(&mut self, dir: &Path, prefix: &str) -> io::Result<()> {
        for item in fs::read_dir(dir)? {
            let item = item?;
            let name = item.file_name().into_string().map_err(|name| unusual(&format!("{name:?}")))?;
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let kind = item.file_type()?;
            if STAYS.contains(&path.as_str()) {
                continue;
            } else if kind.is_dir() {
                let before = self.files.len();
                self.read_directory(&item.path(), &path)?;
                if path == OWN_FOLDER && self.files.len() == before {
                    continue;
                }
                self.folders.push(path);
            } else if kind.is_file() {
                self.files.push(read_file(&item.path(), path)?);
            } else {
                return Err(unusual(&path));
            }
        }
        Ok(())
    }
}

/// obsync's own folder in a destination.
const OWN_FOLDER: &str = ".obsync";
/// Files that stay in it: the marker, the pin of the vault's encryption, the lock's file, a file that hides
/// all from git, and the list of mounted folders.
const STAYS: [&str; 5] =
    [".obsync/id", ".obsync/pin.json", ".obsync/lock", ".obsync/.gitignore", ".obsync/mounts"];

fn read_file(file: &Path, path: String) -> io::Result<ExpectedFile> {
    let (hash, size) = hash_file(file)?;
    let modified = fs::metadata(file)?.modified()?;
    let mtime = match modified.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).map_err(io::Error::other)?,
        Err(before) => -i64::try_from(before.duration().as_millis()).map_err(io::Error::other)?,
    };
    Ok(ExpectedFile { path, size, sha256: hash.to_string(), mtime_ms: mtime })
}

fn hash_file(file: &Path) -> io::Result<(ContentHash, u64)> {
    let mut file = fs::File::open(file)?;
    let mut hasher = ContentHasher::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher.finish(), size)),
            read => {
                hasher.update(&buffer[..read]);
                size += read as u64;
            }
        }
    }
}

fn unusual(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{name} is no file or folder with a UTF-8 name"))
}
