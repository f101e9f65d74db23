//! Compares a destination with the state: every file is read and hashed.

use std::collections::HashMap;

use obsync_protocol::VaultPath;
use serde::Serialize;

use crate::destination::{Destination, Inventory, StoreError, StoredFile, Wanted};
use crate::progress::Progress;
use crate::report::Tally;
use crate::state::{StateError, StateStore};

/// How many files are asked for at once: enough to keep a disk busy, few enough for progress to move.
const BATCH: usize = 256;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// The vault's version that the destination was compared with.
    pub version: u64,
    /// Files that are exactly what the state says.
    pub intact: Tally,
    /// Files of the vault that are not there.
    pub missing: Vec<VaultPath>,
    /// Files of the vault with other content than obsync wrote.
    pub changed: Vec<VaultPath>,
    /// Files that the vault deleted, or renamed, and that were kept: they say themselves that they are of this vault.
    pub retained: Vec<String>,
    /// Files that are not of the vault (as far as it was pulled).
    pub extra: Vec<String>,
    /// Folders that cannot be read. Files of the vault in them are among the missing.
    pub unreadable: Vec<String>,
}

impl Verification {
    /// Whether the destination is exactly what the state says, but for what was kept on purpose.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty() && self.changed.is_empty() && self.extra.is_empty()
    }
}

/// Why a destination could not be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The destination cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Reads every file of the destination and compares it with the state. Changes nothing.
pub async fn verify(
    store: &dyn Destination,
    state: &dyn StateStore,
    progress: &dyn Progress,
) -> Result<Verification, VerifyError> {
    let version = state.load().await?.version;
    let Inventory { files, unreadable } = store.list().await?;
    let mut found: HashMap<String, u64> = files.into_iter().map(|file| (file.path, file.size)).collect();
    let mut verification = Verification { version, unreadable, ..Verification::default() };
    let mut present = Vec::new();
    for record in state.all_records().await? {
        let Some(meta) = record.file() else { continue };
        match found.remove(record.path.as_str()) {
            Some(_) => present.push(Wanted { hash: meta.hash, size: meta.size, path: record.path }),
            None => verification.missing.push(record.path),
        }
    }
    progress.planned(present.len() as u64, present.iter().map(|wanted| wanted.size).sum());
    for batch in present.chunks(BATCH) {
        let present = store.holds(batch.to_vec()).await?;
        for (wanted, intact) in batch.iter().zip(present) {
            progress.placed(wanted.size);
            if intact {
                verification.intact.add(wanted.size);
            } else {
                verification.changed.push(wanted.path.clone());
            }
        }
    }
    let rest: Vec<StoredFile> = found.into_iter().map(|(path, size)| StoredFile { path, size }).collect();
    for batch in rest.chunks(BATCH) {
        let retained = store.retained(batch.to_vec()).await?;
        for (file, is_retained) in batch.iter().zip(retained) {
            let list = if is_retained { &mut verification.retained } else { &mut verification.extra };
            list.push(file.path.clone());
        }
    }
    verification.missing.sort();
    verification.changed.sort();
    verification.retained.sort();
    verification.extra.sort();
    verification.unreadable.sort();
    Ok(verification)
}
