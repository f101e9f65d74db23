//! Checks that a pulled folder, or a bucket, equals the vault exactly.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use obsync_protocol::ContentHash;
use obsync_testcloud::StoredObject;
use obsync_testkit::{ExpectedFile, VaultHandle};

/// Most differences shown.
const SHOWN: usize = 10;

/// Refuses a folder that differs from the vault's present state: content, folders and times.
pub(crate) fn same_as_vault(vault: &VaultHandle, folder: &Path) -> Result<()> {
    let differences = vault.expected()?.differences(folder).context("the pulled folder cannot be read")?;
    refuse(&format!("the pulled folder differs from the vault {:?}", vault.name()), &differences)
}

/// Refuses objects that differ from the vault's present state: keys below `place`, content and metadata.
pub(crate) fn same_as_bucket(vault: &VaultHandle, objects: &[StoredObject], place: &str) -> Result<()> {
    let expected = vault.expected()?;
    let mut found: BTreeMap<&str, &StoredObject> = objects
        .iter()
        .map(|object| (object.key.strip_prefix(place).unwrap_or(&object.key), object))
        .collect();
    let mut differences = Vec::new();
    for file in &expected.files {
        match found.remove(file.path.as_str()) {
            None => differences.push(format!("missing object {:?}", file.path)),
            Some(object) if !is_right(object, file) => {
                differences.push(format!("wrong object {:?}: {:?}", file.path, object.metadata));
            }
            Some(_) => {}
        }
    }
    differences.extend(found.keys().map(|path| format!("extra object {path:?}")));
    refuse(&format!("the bucket differs from the vault {:?}", vault.name()), &differences)
}

fn is_right(object: &StoredObject, file: &ExpectedFile) -> bool {
    let metadata = |name: &str| object.metadata.get(name).map_or("", String::as_str);
    ContentHash::of(&object.content).to_string() == file.sha256
        && metadata("sha256") == file.sha256
        && metadata("mtime") == file.mtime_ms.to_string()
        && !metadata("uid").is_empty()
        && !metadata("ctime").is_empty()
        && object.content_type.is_some()
}

/// Evidence of writes in a folder: the inode number, time of change and status change of everything.
#[derive(Debug)]
pub(crate) struct Snapshot(BTreeMap<PathBuf, Stamp>);

type Stamp = (u64, (i64, i64), (i64, i64));

impl Snapshot {
    pub(crate) fn of(folder: &Path) -> Result<Self> {
        let mut stamps = BTreeMap::new();
        add(&mut stamps, folder).with_context(|| format!("cannot look through {}", folder.display()))?;
        Ok(Self(stamps))
    }

    /// Refuses a folder in which anything was written since.
    pub(crate) fn refuse_changes(&self, folder: &Path) -> Result<()> {
        let now = Self::of(folder)?.0;
        let paths = self.0.keys().chain(now.keys().filter(|path| !self.0.contains_key(*path)));
        let changed: Vec<String> = paths
            .filter(|path| self.0.get(*path) != now.get(*path))
            .map(|path| path.display().to_string())
            .collect();
        refuse("a pull with nothing new wrote into the folder", &changed)
    }
}

fn add(stamps: &mut BTreeMap<PathBuf, Stamp>, path: &Path) -> std::io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let version = (found.ino(), (found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    stamps.insert(path.to_path_buf(), version);
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            add(stamps, &entry?.path())?;
        }
    }
    Ok(())
}

fn refuse(what: &str, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let more = lines.len().saturating_sub(SHOWN);
    let mut text: Vec<String> = lines.iter().take(SHOWN).map(|line| format!("  {line}")).collect();
    if more > 0 {
        text.push(format!("  and {more} more"));
    }
    bail!("{what}:\n{}", text.join("\n"))
}

#[cfg(test)]
mod tests {
    use obsync_testkit::{Server, VaultSpec};

    use super::*;

    #[test]
    fn anything_written_in_a_folder_shows() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b.md"), "one").unwrap();
        let before = Snapshot::of(folder.path()).unwrap();
        before.refuse_changes(folder.path()).unwrap();
        fs::rename(folder.path().join("a/b.md"), folder.path().join("a/c.md")).unwrap();
        let error = before.refuse_changes(folder.path()).unwrap_err().to_string();
        assert!(error.contains("b.md") && error.contains("c.md"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_that_is_not_the_vault_is_told_apart() {
        let server = Server::builder().vault(VaultSpec::managed("Notes")).start().await.unwrap();
        let vault = server.vault("Notes").unwrap();
        vault.write("a.md", "one", 1_700_000_000_000).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let error = same_as_vault(&vault, folder.path()).unwrap_err().to_string();
        assert!(error.contains("missing file \"a.md\""), "{error}");
    }
}
