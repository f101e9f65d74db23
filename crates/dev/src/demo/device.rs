//! The writing device: its files, and its session with the service.
//!
//! It works like the official client (docs/PROTOCOL.md sections 3 and 4): a folder before its contents, a
//! rename as a deletion and a new entry, and no folder entries for the configuration.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use obsync_client::{
    Client, ClientOptions, NewVault, NewVaultEncryption, PushFile, SessionTarget, WritingSession,
};
use obsync_protocol::{ContentHash, VaultPath};
use obsync_testkit::GeneratedFile;

use crate::child::Identity;

/// A file of the device.
#[derive(Clone, Debug)]
pub(super) struct LocalFile {
    pub(super) content: Vec<u8>,
    /// When it was created, in milliseconds since the epoch.
    pub(super) ctime: i64,
    /// When it was last changed, in milliseconds since the epoch.
    pub(super) mtime: i64,
}

impl From<&GeneratedFile> for LocalFile {
    fn from(file: &GeneratedFile) -> Self {
        Self { content: file.content(), ctime: file.ctime, mtime: file.mtime }
    }
}

/// A device with an open session to its vault.
#[derive(Debug)]
pub(super) struct Device {
    session: WritingSession,
    files: BTreeMap<VaultPath, LocalFile>,
    folders: BTreeSet<VaultPath>,
}

impl Device {
    /// Signs in, creates an end-to-end encrypted vault, and opens it.
    pub(super) async fn with_new_vault(url: &str, identity: &Identity, name: &str) -> Result<Self> {
        let options = ClientOptions {
            api_url: url.to_owned(),
            device: "Laptop".to_owned(),
            ..ClientOptions::default()
        };
        let client = Client::new(options)?;
        let token = client.sign_in(&identity.email, &identity.password, None).await?.token;
        let password = identity.vault_password.clone().context("the vault needs a password")?;
        // On a blocking thread: it takes tens of milliseconds.
        let made = tokio::task::spawn_blocking(move || NewVaultEncryption::end_to_end(&password));
        let (encryption, keys) = made.await.context("the vault's keys were not derived")??;
        let vault = NewVault { name: name.to_owned(), region: String::new(), encryption };
        let id = client.create_vault(&token, vault).await?.id;
        let vaults = client.vaults(&token).await?;
        let host =
            vaults.into_iter().find(|vault| vault.id == id).context("the new vault is not listed")?.host;
        let target = SessionTarget { token, vault_id: id, host, keys };
        let session = WritingSession::open(&client, &target, 0, true).await?;
        // Nobody else writes this vault.
        let (session, _) = session.listing(&mut |_| {}).await?;
        Ok(Self { session, files: BTreeMap::new(), folders: BTreeSet::new() })
    }

    pub(super) fn files(&self) -> &BTreeMap<VaultPath, LocalFile> {
        &self.files
    }

    /// The number of files, and their total bytes.
    pub(super) fn totals(&self) -> (u64, u64) {
        let bytes = self.files.values().map(|file| file.content.len() as u64).sum();
        (self.files.len() as u64, bytes)
    }

    /// Writes a file, new or over an old one, and its parent folders.
    pub(super) async fn write(&mut self, path: &str, file: LocalFile) -> Result<()> {
        self.send(VaultPath::parse(path)?, file, None).await
    }

    /// Creates a folder and its parents.
    pub(super) async fn make_folder(&mut self, path: &VaultPath) -> Result<()> {
        self.make_parents(path).await?;
        if self.folders.insert(path.clone()) {
            self.session.push_folder(path).await?;
        }
        Ok(())
    }

    /// Deletes a file.
    pub(super) async fn delete(&mut self, path: &VaultPath) -> Result<()> {
        self.take(path).await.map(|_| ())
    }

    /// Moves a file.
    pub(super) async fn rename(&mut self, from: &VaultPath, to: VaultPath) -> Result<()> {
        let file = self.take(from).await?;
        self.send(to, file, Some(from)).await
    }

    /// Moves a folder with everything in it; returns the number of files.
    pub(super) async fn rename_folder(&mut self, from: &VaultPath, to: &VaultPath) -> Result<usize> {
        let files: Vec<VaultPath> = self.files.keys().filter(|path| path.is_below(from)).cloned().collect();
        let mut folders: Vec<VaultPath> =
            self.folders.iter().filter(|path| *path == from || path.is_below(from)).cloned().collect();
        for folder in &folders {
            self.make_folder(&moved(folder, from, to)?).await?;
        }
        for path in &files {
            self.rename(path, moved(path, from, to)?).await?;
        }
        // The deepest first: only an empty folder can be removed.
        folders.sort_by_key(|folder| std::cmp::Reverse(folder.segments().count()));
        for folder in &folders {
            self.folders.remove(folder);
            self.session.push_deletion(folder, true).await?;
        }
        Ok(files.len())
    }

    async fn send(&mut self, path: VaultPath, file: LocalFile, related: Option<&VaultPath>) -> Result<()> {
        self.make_parents(&path).await?;
        let hash = ContentHash::of(&file.content);
        let push = PushFile { path: &path, hash, ctime: file.ctime, mtime: file.mtime, related };
        self.session.push_file(&push, &file.content).await?;
        self.files.insert(path, file);
        Ok(())
    }

    async fn take(&mut self, path: &VaultPath) -> Result<LocalFile> {
        let file = self.files.remove(path).with_context(|| format!("there is no file {path}"))?;
        self.session.push_deletion(path, false).await?;
        Ok(file)
    }

    async fn make_parents(&mut self, path: &VaultPath) -> Result<()> {
        let mut parents: Vec<VaultPath> = path.ancestors().collect();
        parents.reverse();
        for parent in parents {
            if !parent.as_str().starts_with('.') && self.folders.insert(parent.clone()) {
                self.session.push_folder(&parent).await?;
            }
        }
        Ok(())
    }
}

/// The path below another folder.
fn moved(path: &VaultPath, from: &VaultPath, to: &VaultPath) -> Result<VaultPath> {
    let rest = path.as_str().strip_prefix(from.as_str()).unwrap_or_default();
    Ok(VaultPath::parse(&format!("{to}{rest}"))?)
}
