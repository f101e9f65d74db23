//! `obsync-dev edit`: changes a vault of a development server, like the official client.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use obsync_client::{
    Client, ClientOptions, Content, FetchOptions, FetchPool, FetchResult, PullRequest, PushFile, Receiver,
    SessionTarget, WritingSession,
};
use obsync_protocol::{ContentHash, MasterKey, PushMessage, VaultKeys, VaultPath};
use reqwest::Url;
use secrecy::SecretString;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::args::{Change, EditOptions};
use crate::console::say;
use crate::human;

/// Makes the change and prints it.
///
/// # Errors
/// When the server is not on this machine, signing in fails, or there is no such vault or path.
pub(crate) async fn run(options: &EditOptions) -> Result<()> {
    let vault = match &options.change {
        Change::Write { vault, .. } | Change::Rm { vault, .. } | Change::Mv { vault, .. } => vault,
    };
    // Before the vault is opened: typing may take a while.
    let content = match &options.change {
        Change::Write { text: Some(text), .. } => text.clone().into_bytes(),
        Change::Write { text: None, .. } => standard_input()?,
        Change::Rm { .. } | Change::Mv { .. } => Vec::new(),
    };
    let mut editor = Editor::open(&options.api_url, vault).await?;
    let done = match &options.change {
        Change::Write { path, .. } => editor.write(path, &content).await?,
        Change::Rm { path, .. } => editor.remove(path).await?,
        Change::Mv { from, to, .. } => editor.rename(from, to).await?,
    };
    editor.session.close().await;
    say(&done);
    Ok(())
}

fn standard_input() -> Result<Vec<u8>> {
    let mut content = Vec::new();
    io::stdin().lock().read_to_end(&mut content).context("standard input cannot be read")?;
    Ok(content)
}

/// A device with an open session to a vault.
struct Editor {
    client: Client,
    target: SessionTarget,
    session: WritingSession,
    entries: BTreeMap<VaultPath, PushMessage>,
}

impl Editor {
    async fn open(api_url: &str, name: &str) -> Result<Self> {
        check_loopback(api_url)?;
        let options = ClientOptions {
            api_url: api_url.to_owned(),
            device: "obsync-dev".to_owned(),
            ..ClientOptions::default()
        };
        let client = Client::new(options)?;
        let (email, password) = (variable("OBSIDIAN_EMAIL")?, variable("OBSIDIAN_PASSWORD")?);
        let token = client.sign_in(&email, &SecretString::from(password), None).await?.token;
        let vaults = client.vaults(&token).await?;
        let vault = vaults.into_iter().find(|vault| vault.name == name || vault.id.as_str() == name);
        let vault = vault.with_context(|| format!("the server has no vault {name:?}"))?;
        let password = match &vault.password {
            Some(password) => password.clone(),
            None => SecretString::from(variable("OBSYNC_VAULT_PASSWORD")?),
        };
        let (version, salt) = (vault.encryption()?, vault.salt.clone());
        let derive = move || VaultKeys::new(&MasterKey::derive(&password, &salt), version, &salt);
        let keys = tokio::task::spawn_blocking(derive).await.context("the vault's keys were not derived")?;
        client.check_access(&token, &vault, keys.key_hash()).await?;
        let target = SessionTarget { token, vault_id: vault.id, host: vault.host, keys };
        let session = WritingSession::open(&client, &target, 0, true).await?;
        let mut entries = BTreeMap::new();
        let (session, _) = session
            .listing(&mut |entry| {
                // An undecodable path cannot be named here.
                let Ok(path) = target.keys.decode_path(&entry.path) else { return };
                if entry.deleted {
                    entries.remove(&path)
                } else {
                    entries.insert(path, entry)
                };
            })
            .await?;
        Ok(Self { client, target, session, entries })
    }

    async fn write(&mut self, path: &VaultPath, content: &[u8]) -> Result<String> {
        let old = self.entries.get(path);
        if old.is_some_and(|entry| entry.folder) {
            bail!("{path} is a folder");
        }
        let now = now();
        let ctime = old.map_or(now, |entry| entry.ctime);
        self.make_parents(path).await?;
        let hash = ContentHash::of(content);
        let file = PushFile { path, hash, ctime, mtime: now, related: None };
        self.session.push_file(&file, content).await?;
        Ok(format!("Wrote {path} ({}).", human::size(content.len() as u64)))
    }

    async fn remove(&mut self, path: &VaultPath) -> Result<String> {
        let (files, folders) = self.tree(path)?;
        for file in &files {
            self.session.push_deletion(file, false).await?;
        }
        self.remove_folders(&folders).await?;
        Ok(format!("Removed {path} ({}).", human::files(files.len() as u64)))
    }

    /// A rename is the deletion of the old path, then the new one with its content (docs/PROTOCOL.md section 3).
    async fn rename(&mut self, from: &VaultPath, to: &VaultPath) -> Result<String> {
        if to == from || to.is_below(from) {
            bail!("{from} cannot be moved to {to}");
        }
        if self.entries.contains_key(to) {
            bail!("there is a {to} already");
        }
        let (files, folders) = self.tree(from)?;
        let contents = self.contents(&files).await?;
        self.make_parents(to).await?;
        for folder in &folders {
            self.session.push_folder(&moved(folder, from, to)?).await?;
        }
        for (old, content) in &contents {
            let (ctime, mtime) = self.entries.get(old).map_or((0, 0), |entry| (entry.ctime, entry.mtime));
            let new = moved(old, from, to)?;
            self.session.push_deletion(old, false).await?;
            let hash = ContentHash::of(content);
            let file = PushFile { path: &new, hash, ctime, mtime, related: Some(old) };
            self.session.push_file(&file, content).await?;
        }
        self.remove_folders(&folders).await?;
        Ok(format!("Moved {from} to {to} ({}).", human::files(contents.len() as u64)))
    }

    /// The files and the folders that a path denotes, itself included.
    fn tree(&self, path: &VaultPath) -> Result<(Vec<VaultPath>, Vec<VaultPath>)> {
        let below = self.entries.iter().filter(|(other, _)| *other == path || other.is_below(path));
        let (folders, files): (Vec<_>, Vec<_>) = below.partition(|(_, entry)| entry.folder);
        if folders.is_empty() && files.is_empty() {
            bail!("there is no {path} in the vault");
        }
        let paths = |entries: Vec<(&VaultPath, &PushMessage)>| {
            entries.into_iter().map(|(path, _)| path.clone()).collect()
        };
        Ok((paths(files), paths(folders)))
    }

    /// The deepest first: only an empty folder can be removed.
    async fn remove_folders(&mut self, folders: &[VaultPath]) -> Result<()> {
        for folder in folders.iter().rev() {
            self.session.push_deletion(folder, true).await?;
        }
        Ok(())
    }

    /// Not in the configuration folder: its folders have no entries (docs/PROTOCOL.md section 3).
    async fn make_parents(&mut self, path: &VaultPath) -> Result<()> {
        let mut parents: Vec<VaultPath> = path.ancestors().collect();
        parents.reverse();
        for parent in parents {
            if self.entries.get(&parent).is_some_and(|entry| !entry.folder) {
                bail!("{parent} is a file");
            }
            if !parent.as_str().starts_with('.') && !self.entries.contains_key(&parent) {
                self.session.push_folder(&parent).await?;
            }
        }
        Ok(())
    }
}

impl Editor {
    /// The contents of files, over a separate connection.
    async fn contents(&self, files: &[VaultPath]) -> Result<Vec<(VaultPath, Vec<u8>)>> {
        let (feed, jobs) = mpsc::channel(files.len().max(1));
        for path in files {
            let entry = self.entries.get(path).with_context(|| format!("there is no {path}"))?;
            let hash = self.target.keys.decode_hash(&entry.hash)?;
            let request = PullRequest { uid: entry.uid, hash, size: entry.size };
            feed.send((path.clone(), request)).await?;
        }
        drop(feed);
        let (results, mut fetched) = mpsc::channel(files.len().max(1));
        let pool = FetchPool {
            client: self.client.clone(),
            target: self.target.clone(),
            version: self.session.version().unwrap_or_default(),
            options: FetchOptions { connections: 1, ..FetchOptions::default() },
            receiver: Arc::new(Whole { keys: self.target.keys.clone() }),
            jobs,
            results,
            cancel: CancellationToken::new(),
            first_session: None,
        };
        // The channel has room for all results, so nobody has to read meanwhile.
        pool.run().await?;
        let mut contents = Vec::with_capacity(files.len());
        while let Some(FetchResult { job: (path, _), outcome }) = fetched.recv().await {
            let content = outcome.with_context(|| format!("the content of {path} did not come"))?;
            contents.push((path, content));
        }
        Ok(contents)
    }
}

/// Reads whole contents into memory.
struct Whole {
    keys: VaultKeys,
}

impl Receiver for Whole {
    type Job = (VaultPath, PullRequest);
    type Output = Vec<u8>;
    type Error = String;

    fn request(&self, (_, request): &Self::Job) -> PullRequest {
        PullRequest { uid: request.uid, hash: request.hash, size: request.size }
    }

    async fn receive(&self, _: &mut Self::Job, content: &mut Content<'_>) -> Result<Vec<u8>, String> {
        let mut decryptor = self.keys.content_decryptor();
        let mut plain = Vec::new();
        while let Some(piece) = content.next_piece().await.map_err(|error| error.to_string())? {
            decryptor.update(&piece, &mut plain).map_err(|error| error.to_string())?;
        }
        if content.size() > 0 {
            decryptor.finish().map_err(|error| error.to_string())?;
        }
        Ok(plain)
    }

    fn is_worth_another_try(&self, _: &String) -> bool {
        false
    }
}

/// Prevents changes to a vault of the official service.
fn check_loopback(api_url: &str) -> Result<()> {
    let url = Url::parse(api_url).with_context(|| format!("{api_url} is no address"))?;
    match url.host_str() {
        Some("127.0.0.1" | "localhost" | "[::1]") => Ok(()),
        _ => bail!("{api_url} is not on this machine; only vaults of development servers are changed"),
    }
}

fn variable(name: &str) -> Result<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    value.with_context(|| format!("{name} is not set"))
}

/// Milliseconds since the epoch.
fn now() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

/// The path below another folder, or that folder itself.
fn moved(path: &VaultPath, from: &VaultPath, to: &VaultPath) -> Result<VaultPath> {
    let rest = path.as_str().strip_prefix(from.as_str()).unwrap_or_default();
    Ok(VaultPath::parse(&format!("{to}{rest}"))?)
}
