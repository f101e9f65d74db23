//! A vault of the development server: the log of its entries, their contents, and the listening devices.

mod entry;
mod expected;
mod handle;
mod hostile;
mod listed;
mod spec;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use obsync_protocol::{EncodedHash, EncodedPath, Uid, VaultKeys};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::Utf8Bytes;

pub(crate) use entry::{Content, Entry, WrittenMessage};
pub use expected::{Expected, ExpectedFile};
pub use handle::{Times, VaultHandle, WriteError};
pub use hostile::RawEntry;
pub use listed::vault_info;
pub use spec::VaultSpec;
pub(crate) use spec::{Encryption, REGION, Standing, VaultRecord, new_id, now};

use crate::disk::VaultFolder;

/// A vault: its record, and a log of entries ascending by uid.
#[derive(Debug)]
pub(crate) struct Vault {
    pub(crate) record: VaultRecord,
    /// Known when the vault's password is: for an end-to-end vault created by a client the server has none.
    keys: OnceLock<VaultKeys>,
    state: Mutex<VaultContents>,
}

#[derive(Debug, Default)]
struct VaultContents {
    log: Vec<Logged>,
    /// Position in the log of the last entry for each path.
    latest: HashMap<EncodedPath, usize>,
    /// Every content ever received, by encoded hash: known ones are not sent again.
    contents: HashMap<EncodedHash, Content>,
    version: Uid,
    devices: Vec<Device>,
    next_device: u64,
    folder: Option<VaultFolder>,
}

/// An entry in the log, with properties needed for many entries at a time, which saves look-ups.
#[derive(Debug)]
struct Logged {
    uid: Uid,
    /// A later entry has its path.
    is_replaced: bool,
    entry: Arc<Entry>,
}

#[derive(Debug)]
struct Device {
    number: u64,
    pushes: UnboundedSender<Utf8Bytes>,
}

/// The start of a new session: the entries it does not have, and pushes from then on, without a gap.
pub(crate) struct Subscription {
    pub(crate) device: u64,
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) version: Uid,
    pub(crate) pushes: UnboundedReceiver<Utf8Bytes>,
}

impl Vault {
    /// A vault with the entries given, ascending by uid; later ones are also written to `folder`.
    pub(crate) fn new(record: VaultRecord, entries: Vec<Entry>, folder: Option<VaultFolder>) -> Self {
        let mut state = VaultContents { folder, ..VaultContents::default() };
        for entry in entries {
            state.index(Arc::new(entry));
        }
        let keys = record.keys().map(OnceLock::from).unwrap_or_default();
        Self { record, keys, state: Mutex::new(state) }
    }

    /// The keys, if the password is known to the server.
    pub(crate) fn keys(&self) -> Option<&VaultKeys> {
        self.keys.get()
    }

    /// Allows the server itself to read and write the vault.
    pub(crate) fn unlock(&self, keys: VaultKeys) {
        // A second unlocking gives the same keys: they were checked against the vault's key hash.
        let _ = self.keys.set(keys);
    }

    /// The uid of the last change.
    pub(crate) fn version(&self) -> Uid {
        self.lock().version
    }

    /// Records changes, sends them to every listening device, and returns them with their uids.
    ///
    /// The uids given are ignored: each entry gets the next one, or, with `share_uid`, all get the same.
    pub(crate) fn record(&self, changes: Vec<Entry>, share_uid: bool) -> io::Result<Vec<Arc<Entry>>> {
        let mut state = self.lock();
        let mut recorded = Vec::with_capacity(changes.len());
        for (position, mut entry) in changes.into_iter().enumerate() {
            entry.uid = if share_uid && position > 0 { state.version } else { Uid(state.version.0 + 1) };
            recorded.push(state.record(entry)?);
        }
        Ok(recorded)
    }

    /// Starts listening: the latest entry of every path that is newer than `version`, deleted ones included.
    pub(crate) fn subscribe(&self, version: Uid) -> Subscription {
        let mut state = self.lock();
        let newer = state.log.partition_point(|logged| logged.uid <= version);
        let entries = latest(&state.log[newer..]);
        let (sender, pushes) = unbounded_channel();
        let device = state.next_device;
        state.next_device += 1;
        state.devices.push(Device { number: device, pushes: sender });
        Subscription { device, entries, version: state.version, pushes }
    }

    /// Stops listening.
    pub(crate) fn unsubscribe(&self, device: u64) {
        self.lock().devices.retain(|other| other.number != device);
    }

    /// The entry with this uid; of two that share it (a rename), the one with content.
    pub(crate) fn entry(&self, uid: Uid) -> Option<Arc<Entry>> {
        let state = self.lock();
        let first = state.log.partition_point(|logged| logged.uid < uid);
        let same = state.log[first..].iter().take_while(|logged| logged.uid == uid);
        same.map(|logged| &logged.entry).max_by_key(|entry| entry.is_live_file()).cloned()
    }

    /// The last entry for a path.
    pub(crate) fn latest(&self, path: &EncodedPath) -> Option<Arc<Entry>> {
        let state = self.lock();
        state.latest.get(path).map(|position| Arc::clone(&state.log[*position].entry))
    }

    /// The last entry of every path, ascending by uid.
    pub(crate) fn all_latest(&self) -> Vec<Arc<Entry>> {
        latest(&self.lock().log)
    }

    /// Every entry for a path, newest first.
    pub(crate) fn history(&self, path: &EncodedPath) -> Vec<Arc<Entry>> {
        let state = self.lock();
        let entries = state.log.iter().rev().map(|logged| &logged.entry);
        entries.filter(|entry| entry.path == *path).cloned().collect()
    }

    /// The content with this hash, if it was ever received.
    pub(crate) fn content(&self, hash: &EncodedHash) -> Option<Content> {
        self.lock().contents.get(hash).cloned()
    }

    /// Bytes of encrypted content, each content counted once.
    pub(crate) fn size(&self) -> u64 {
        self.lock().contents.values().map(Content::len).sum()
    }

    /// Removes every entry that a later one for the same path replaced, and contents that only they had.
    pub(crate) fn purge(&self) -> io::Result<()> {
        let entries = self.all_latest();
        let mut state = self.lock();
        state.forget();
        for entry in &entries {
            state.index(Arc::clone(entry));
        }
        state.folder.as_mut().map_or(Ok(()), |folder| folder.rewrite(&entries))
    }

    /// Rolls back to the vault's state at an earlier uid, like a server restored from a backup: later entries
    /// and contents never existed. Sessions are not notified.
    pub(crate) fn roll_back(&self, to: Uid) -> io::Result<()> {
        let mut state = self.lock();
        let entries: Vec<Arc<Entry>> = state
            .log
            .iter()
            .filter(|logged| logged.uid <= to)
            .map(|logged| Arc::clone(&logged.entry))
            .collect();
        state.forget();
        for entry in &entries {
            state.index(Arc::clone(entry));
        }
        state.folder.as_mut().map_or(Ok(()), |folder| folder.rewrite(&entries))
    }

    fn lock(&self) -> MutexGuard<'_, VaultContents> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VaultContents {
    /// Writes an entry to the data folder, if there is one, then to the log, then to the devices.
    fn record(&mut self, mut entry: Entry) -> io::Result<Arc<Entry>> {
        if let Some(folder) = &mut self.folder {
            entry.content = folder.append(&entry)?;
        }
        let entry = Arc::new(entry);
        self.index(Arc::clone(&entry));
        if !self.devices.is_empty() {
            let push = entry.to_push();
            self.devices.retain(|device| device.pushes.send(push.clone()).is_ok());
        }
        Ok(entry)
    }

    /// Removes everything except the listening devices.
    fn forget(&mut self) {
        self.log.clear();
        self.latest.clear();
        self.contents.clear();
        self.version = Uid(0);
    }

    fn index(&mut self, entry: Arc<Entry>) {
        self.version = self.version.max(entry.uid);
        if let Some(content) = &entry.content
            && !entry.damaged
        {
            self.contents.entry(entry.hash.clone()).or_insert_with(|| content.clone());
        }
        if let Some(replaced) = self.latest.insert(entry.path.clone(), self.log.len()) {
            self.log[replaced].is_replaced = true;
        }
        self.log.push(Logged { uid: entry.uid, is_replaced: false, entry });
    }
}

/// The entries of this part of a log that none replaced.
fn latest(log: &[Logged]) -> Vec<Arc<Entry>> {
    log.iter().filter(|logged| !logged.is_replaced).map(|logged| Arc::clone(&logged.entry)).collect()
}
